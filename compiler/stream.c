// SPDX-License-Identifier: MIT
/*
 * The words of six streams in the making: fields by the rows of isa.def, loops whose body length
 * is filled in when they close, and the baton that orders instructions of different units. A
 * value that its field cannot hold is an error here, never cut off.
 */
#include <inttypes.h>
#include <string.h>

#include "compiler/stream.h"

static void word_add(struct stream *s, uint32_t word)
{
	if (s->count == s->room) {
		uint32_t room = s->room ? 2 * s->room : 256;

		s->words = arena_grow(s->words, 4 * (size_t)s->count, 4 * (size_t)room);
		s->room = room;
	}
	s->words[s->count++] = word;
}

struct expr plus(struct expr e, unsigned int class, unsigned int index, int64_t stride)
{
	if (!stride)
		return e;
	if (e.terms == EXPR_TERMS)
		die("internal error: an expression has more than %d terms", EXPR_TERMS);
	e.term[e.terms].class = class;
	e.term[e.terms].index = index;
	e.term[e.terms++].stride = stride;
	return e;
}

static unsigned int unit_of(unsigned int op)
{
	switch (op) {
	case FLM_OP_LD:
		return FLM_UNIT_LD;
	case FLM_OP_ST:
		return FLM_UNIT_ST;
	case FLM_OP_MM:
		return FLM_UNIT_MM;
	case FLM_OP_MV:
		return FLM_UNIT_MV;
	case FLM_OP_MISC:
		return FLM_UNIT_MISC;
	default:
		return FLM_UNIT_SYS;
	}
}

void insn_begin(struct emitter *e, unsigned int op, unsigned int mode, unsigned int words)
{
	memset(e->words, 0, sizeof(e->words));
	e->unit = unit_of(op);
	e->fixed = words;
	e->terms = 0;
	if (FLM_PUT_HEAD(e->words, OP, op) || FLM_PUT_HEAD(e->words, MODE, mode))
		die("internal error: %s: operation %u.%u does not fit", e->where, op, mode);
}

void begin_sync(struct emitter *e, unsigned int unit)
{
	BEGIN(e, SYNC);
	e->unit = unit;
}

void insn_flags(struct emitter *e, unsigned int flags)
{
	if (FLM_PUT_HEAD(e->words, FLAGS, flags))
		die("internal error: %s: flags 0x%x do not fit", e->where, flags);
}

void insn_put(struct emitter *e, int word, int high, int low, uint64_t v, const char *name)
{
	if (v > UINT32_MAX || flm_put(e->words, word, high, low, v))
		die("%s: %s = %" PRIu64 " does not fit its field", e->where, name, v);
}

void insn_expr(struct emitter *e, int word, int number, struct expr v, bool is_address,
	       const char *name)
{
	int64_t low = is_address ? 0 : INT32_MIN, high = is_address ? UINT32_MAX : INT32_MAX;

	if (v.constant < low || v.constant > high)
		die("%s: %s = %" PRId64 " does not fit its field", e->where, name, v.constant);
	e->words[word] = v.constant;
	for (unsigned int i = 0; i < v.terms; i++) {
		uint32_t *term = e->words + e->fixed + 2 * e->terms;

		if (e->terms == FLM_TERMS_MAX)
			die("%s: more than %d terms", e->where, FLM_TERMS_MAX);
		if (v.term[i].stride < INT32_MIN || v.term[i].stride > INT32_MAX ||
		    FLM_PUT_TERM(term, OPERAND, number) ||
		    FLM_PUT_TERM(term, CLASS, v.term[i].class) ||
		    FLM_PUT_TERM(term, INDEX, v.term[i].index))
			die("%s: a term of %s does not fit (stride %" PRId64 ")", e->where, name,
			    v.term[i].stride);
		term[1] = v.term[i].stride;
		e->terms++;
	}
}

void insn_size(struct emitter *e, int word, int number, struct expr v, uint64_t max,
	       const char *name)
{
	if (max > FLM_VALUE_MAX)
		die("%s: the maximum %" PRIu64 " of %s does not fit", e->where, max, name);
	insn_expr(e, word, number, v, false, name);
	e->words[word + 1] = max;
}

static uint32_t append(struct emitter *e, unsigned int wait, unsigned int release)
{
	struct stream *s = &e->streams[e->unit];
	uint32_t at = s->count;

	if (FLM_PUT_HEAD(e->words, TERMS, e->terms) || FLM_PUT_HEAD(e->words, WAIT, wait) ||
	    FLM_PUT_HEAD(e->words, RELEASE, release))
		die("internal error: %s: tokens do not fit", e->where);
	for (unsigned int i = 0; i < e->fixed + 2 * e->terms; i++)
		word_add(s, e->words[i]);
	return at;
}

static bool carries_halves(unsigned int a, unsigned int b)
{
	return (a == FLM_UNIT_LD && (b == FLM_UNIT_MM || b == FLM_UNIT_MV)) ||
	       (b == FLM_UNIT_LD && (a == FLM_UNIT_MM || a == FLM_UNIT_MV));
}

/* The unit that had the baton last lets `unit` go on. Returns what that one has to wait for. */
static unsigned int release_to(struct emitter *e, unsigned int unit)
{
	uint32_t *head = &e->streams[e->baton_unit].words[e->baton_at];

	if (FLM_PUT_HEAD(head, RELEASE, FLM_GET_HEAD(head, RELEASE) | 1u << unit))
		die("internal error: %s: a release does not fit", e->where);
	return 1u << e->baton_unit;
}

void emit(struct emitter *e)
{
	unsigned int wait = 0;

	if (e->has_baton && carries_halves(e->baton_unit, e->unit)) {
		struct emitter sys = *e;

		begin_sync(&sys, FLM_UNIT_SYS);
		emit(&sys);
		e->baton_unit = sys.baton_unit;
		e->baton_at = sys.baton_at;
	}
	if (e->has_baton && e->baton_unit != e->unit)
		wait = release_to(e, e->unit);
	e->baton_at = append(e, wait, 0);
	e->baton_unit = e->unit;
	e->has_baton = true;
}

void emit_free(struct emitter *e, unsigned int wait, unsigned int release)
{
	append(e, wait, release);
}

void baton_to(struct emitter *e, unsigned int unit)
{
	if (!e->has_baton || e->baton_unit != unit)
		baton_renew(e, unit);
}

void baton_renew(struct emitter *e, unsigned int unit)
{
	begin_sync(e, unit);
	emit(e);
}

static void loop_open(struct emitter *e, unsigned int class, unsigned int index,
		      unsigned int shift, uint32_t sub, uint32_t bound)
{
	if (e->depth == FLM_LOOP_DEPTH)
		die("internal error: %s: more than %d loops", e->where, FLM_LOOP_DEPTH);
	if (bound > FLM_VALUE_MAX)
		die("%s: a loop of %u trips", e->where, bound);
	for (unsigned int unit = 0; unit < FLM_UNITS; unit++) {
		uint32_t words[FLM_WORDS_LOOP] = { 0 };

		if (FLM_PUT_HEAD(words, OP, FLM_OP_LOOP) || FLM_PUT(words, LOOP, CLASS, class) ||
		    FLM_PUT(words, LOOP, INDEX, index) || FLM_PUT(words, LOOP, SHIFT, shift) ||
		    FLM_PUT(words, LOOP, CEIL, shift != 0) || FLM_PUT(words, LOOP, SUB, sub) ||
		    FLM_PUT(words, LOOP, BOUND, bound))
			die("internal error: %s: a loop does not fit", e->where);
		e->loop_at[e->depth][unit] = e->streams[unit].count;
		for (int i = 0; i < FLM_WORDS_LOOP; i++)
			word_add(&e->streams[unit], words[i]);
	}
	e->depth++;
}

static void loop_close(struct emitter *e)
{
	e->depth--;
	for (unsigned int unit = 0; unit < FLM_UNITS; unit++) {
		struct stream *s = &e->streams[unit];
		uint32_t at = e->loop_at[e->depth][unit], body = at + FLM_WORDS_LOOP;

		if (s->count == body) {
			s->count = at;
			continue;
		}
		word_add(s, (uint32_t)FLM_OP_END << FLM_HEAD_OP_LO);
		if (FLM_PUT(s->words + at, LOOP, BODY, s->count - body))
			die("internal error: %s: a loop body does not fit", e->where);
	}
}

/* SYS holds the baton where a loop begins, inside it, where it ends, and behind it. */
static void loop_baton(struct emitter *e, unsigned int class, unsigned int index,
		       unsigned int shift, uint32_t sub, uint32_t bound)
{
	baton_to(e, FLM_UNIT_SYS);
	loop_open(e, class, index, shift, sub, bound);
	baton_renew(e, FLM_UNIT_SYS);
}

void loop_constant(struct emitter *e, uint32_t count)
{
	loop_baton(e, FLM_CLASS_CONST, 0, 0, count, count);
}

void loop_register(struct emitter *e, unsigned int class, unsigned int index, unsigned int shift,
		   uint32_t bound)
{
	loop_baton(e, class, index, shift, 0, bound);
}

void loop_end(struct emitter *e)
{
	baton_to(e, FLM_UNIT_SYS);
	loop_close(e);
	baton_renew(e, FLM_UNIT_SYS);
}

void loop_free_register(struct emitter *e, unsigned int class, unsigned int index,
			unsigned int shift, uint32_t bound)
{
	loop_open(e, class, index, shift, 0, bound);
}

void loop_free_end(struct emitter *e)
{
	loop_close(e);
}

void streams_end(struct emitter *e)
{
	for (unsigned int unit = 0; unit < FLM_UNITS; unit++)
		word_add(&e->streams[unit], (uint32_t)FLM_OP_END << FLM_HEAD_OP_LO);
}
