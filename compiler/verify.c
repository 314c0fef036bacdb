// SPDX-License-Identifier: MIT
/*
 * Trusts nothing from the emitter: reads the words again and proves, for every core and
 * for all length registers within their declared bounds, that each instruction is one, that every
 * byte it touches on chip lies in its buffer and is aligned, that it names segments and offsets
 * inside their sections and rows inside their strip tables, and (walk.c) that tokens and
 * exchanges work out.
 */
#include <inttypes.h>
#include <string.h>

#include "compiler/verify.h"

#include "lib/flightllm_isa.h"

static uint64_t trips(struct check *c, const uint32_t *words)
{
	uint32_t class = FLM_GET(words, LOOP, CLASS), index = FLM_GET(words, LOOP, INDEX);
	uint32_t shift = FLM_GET(words, LOOP, SHIFT), bound = FLM_GET(words, LOOP, BOUND);
	int64_t count = (int32_t)FLM_GET(words, LOOP, SUB), most;

	if (bound > FLM_VALUE_MAX)
		verify_fail(c, "a loop bound of %u", bound);
	if (class == FLM_CLASS_CONST && (index || shift || FLM_GET(words, LOOP, CEIL)))
		verify_fail(c, "a constant loop with a register");
	if (class != FLM_CLASS_CONST && class != FLM_CLASS_LENGTH && class != FLM_CLASS_CORE)
		verify_fail(c, "a loop over class %u", class);
	if (class != FLM_CLASS_CONST && index >= FLM_LENGTHS)
		verify_fail(c, "register %u does not exist", index);
	if (class != FLM_CLASS_CONST) {
		most = class == FLM_CLASS_CORE ? c->plan->registers[c->core][index] : c->max[index];
		count = MAX(most - count, 0);
		if (FLM_GET(words, LOOP, CEIL))
			count += (1ll << shift) - 1;
		count >>= shift;
	}
	if (count > bound)
		verify_fail(c, "a loop may run %" PRId64 " times, its bound is %u", count, bound);
	return count;
}

static void check_loop(struct check *c)
{
	if (c->depth == FLM_LOOP_DEPTH)
		verify_fail(c, "more than %d loops", FLM_LOOP_DEPTH);
	c->loop[c->depth].count = trips(c, c->words);
	c->loop[c->depth].end = c->at + FLM_WORDS_LOOP + FLM_GET(c->words, LOOP, BODY);
	c->depth++;
}

/* Returns false at the end of the stream. */
static bool check_end(struct check *c)
{
	if (!c->depth)
		return false;
	c->depth--;
	if (c->loop[c->depth].end != c->at + 1)
		verify_fail(c, "a loop body of another length than its LOOP says");
	return true;
}

static bool is_skipped(const struct check *c)
{
	for (unsigned int i = 0; i < c->depth; i++)
		if (!c->loop[i].count)
			return true;
	return false;
}

/* Each unit has its operation; SYNC, whose word is SYS's, stands in every stream. */
static void check_unit(const struct check *c, int insn)
{
	static const unsigned int ops[FLM_UNITS] = {
		[FLM_UNIT_LD] = FLM_OP_LD, [FLM_UNIT_ST] = FLM_OP_ST, [FLM_UNIT_MM] = FLM_OP_MM,
		[FLM_UNIT_MV] = FLM_OP_MV, [FLM_UNIT_MISC] = FLM_OP_MISC,
		[FLM_UNIT_SYS] = FLM_OP_SYS,
	};

	if (insn != FLM_INSN_SYNC && FLM_GET_HEAD(c->words, OP) != ops[c->unit])
		verify_fail(c, "an instruction of another unit");
	if ((FLM_GET_HEAD(c->words, WAIT) | FLM_GET_HEAD(c->words, RELEASE)) >> c->unit & 1)
		verify_fail(c, "it waits for its own unit");
}

static void check_insn(struct check *c, int insn)
{
	struct form any = { 0 };

	check_unit(c, insn);
	if (is_skipped(c))
		return;
	/* The card looks at terms even where a size is zero and nothing else is looked at. */
	for (uint32_t i = 0; i < FLM_GET_HEAD(c->words, TERMS); i++) {
		const uint32_t *term = c->words + c->fixed + 2 * i;

		form_add_term(c, &any, FLM_GET_TERM(term, CLASS), FLM_GET_TERM(term, INDEX), 0);
	}
	verify_insn(c, insn);
}

static void check_stream(struct check *c, const struct stream *s)
{
	char text[FLM_TEXT_BYTES];
	bool open = true;

	c->depth = 0;
	for (c->at = 0; open;) {
		int words = flm_isa_print(s->words + c->at, s->count - c->at, text), insn;

		if (words < 0)
			verify_fail(c, "no instruction: %s", text);
		c->words = s->words + c->at;
		insn = flm_isa_insn(c->words[0]);
		c->fixed = words - 2 * FLM_GET_HEAD(c->words, TERMS);
		if (insn == FLM_INSN_LOOP)
			check_loop(c);
		else if (insn == FLM_INSN_END)
			open = check_end(c);
		else
			check_insn(c, insn);
		c->at += words;
		if (open && c->at >= s->count)
			verify_fail(c, "the stream has no end");
	}
	if (c->at != s->count)
		verify_fail(c, "words behind the end");
}

static void check_streams(struct plan *p)
{
	struct check *c = arena(sizeof(*c));

	c->plan = p;
	program_bounds(p, c->min, c->max);
	for (c->entry = 0; c->entry < ENTRIES; c->entry++) {
		for (c->core = 0; c->core < p->card->cores; c->core++) {
			c->candidates.count = 0;
			for (c->unit = 0; c->unit < FLM_UNITS; c->unit++)
				check_stream(c, &p->streams[c->entry][c->unit]);
		}
	}
}

/* At both bounds of every register, and in between. */
static void check_tokens(struct plan *p)
{
	for (uint32_t entry = 0; entry < ENTRIES; entry++) {
		const uint32_t chunk = entry ? 1 : p->chunk;
		const struct {
			uint32_t kv, tokens, rows, sample;
		} settings[] = {
			{ 0, 1, 0, 0 }, { 0, 1, 1, 0 }, { 0, 1, 0, 1 }, { 0, chunk, chunk, 1 },
			{ p->context - chunk, chunk, chunk, 1 }, { p->context - 1, 1, 1, 1 },
			{ p->context / 2, MIN(chunk, p->context - p->context / 2), 0, 0 },
		};

		for (size_t i = 0; i < sizeof(settings) / sizeof(settings[0]); i++) {
			struct walk w = { .plan = p, .entry = entry };

			w.lengths[FLM_LENGTH_POS] = w.lengths[FLM_LENGTH_KV] = settings[i].kv;
			w.lengths[FLM_LENGTH_TOKENS] = settings[i].tokens;
			w.lengths[FLM_LENGTH_KV_END] = settings[i].kv + settings[i].tokens;
			w.lengths[FLM_LENGTH_SEQUENCES] = 1;
			w.lengths[FLM_LENGTH_LOGIT_ROWS] = settings[i].rows;
			w.lengths[FLM_LENGTH_SAMPLE] = settings[i].sample;
			p->watchdog = MAX(p->watchdog, walk_run(&w));
		}
	}
}

/* ---- lifetimes ---- */

/* Bytes on chip that operators first .. last need; found anew, not taken from the tiling. */
struct life {
	const char *name;
	int first, last;
	uint32_t at;
	uint64_t bytes;
};

static uint64_t row_count(const struct plan *p, const struct value *v)
{
	return v->rows == ROWS_PASS ? p->chunk : v->rows == ROWS_TILE ? p->logit_rows : 1;
}

static void life_use(struct plan *p, struct life *lives, int *count, const struct value *v, int op)
{
	uint64_t rows = row_count(p, v);

	for (int part = 0; part < (v->type == VALUE_Q8 ? 2 : 1); part++) {
		uint32_t at = part ? v->scale_at : v->at;
		uint64_t bytes = rows * (part ? v->scale_pitch : v->pitch);
		const char *home = value_home((struct value *)v)->name;
		int i;

		for (i = 0; i < *count && (lives[i].name != home || lives[i].at != at); i++)
			;
		if (i == *count)
			lives[(*count)++] = (struct life) { home, op, op, at, bytes };
		lives[i].last = op;
	}
}

static void check_lives(struct plan *p, const struct life *lives, int count)
{
	for (int i = 0; i < count; i++) {
		const struct life *a = &lives[i];

		if ((a->at & 0xfffffff) + a->bytes > p->card->buffer_bytes[a->at >> 28])
			die_with(EXIT_UNVERIFIED, "verification: %s lies beyond its buffer",
				 a->name);
		for (int j = 0; j < i; j++) {
			const struct life *b = &lives[j];

			if (a->last >= b->first && b->last >= a->first &&
			    a->at < b->at + b->bytes && b->at < a->at + a->bytes)
				die_with(EXIT_UNVERIFIED, "verification: %s and %s share bytes, and operators %d to %d need both",
					 a->name, b->name, MAX(a->first, b->first),
					 MIN(a->last, b->last));
		}
	}
}

static void check_lifetimes(struct plan *p)
{
	struct life *lives = arena((2 * p->value_count + SCRATCH_MAX * p->op_count) *
				   sizeof(*lives));
	int count = 0, loop_end = 0;

	for (int i = 0; i < p->op_count; i++) {
		const struct op *op = p->ops[i];

		for (int j = 0; j < OP_INPUTS; j++)
			if (op->in[j])
				life_use(p, lives, &count, op->in[j], i);
		if (op->out)
			life_use(p, lives, &count, op->out, i);
		for (unsigned int j = 0; j < op->scratches; j++)
			lives[count++] = (struct life) {
				op->scratch[j].name, i, i, op->scratch[j].at, op->scratch[j].bytes
			};
		loop_end = op->phase == PHASE_LAYER ? i : loop_end;
	}
	/* What the loop over layers finds made it needs until its last trip ends. */
	for (int i = 0; i < count; i++)
		if (p->ops[lives[i].first]->phase == PHASE_START &&
		    p->ops[lives[i].last]->phase == PHASE_LAYER)
			lives[i].last = loop_end;
	check_lives(p, lives, count);
}

void verify_run(struct plan *p)
{
	stage_begin(p, STAGE_VERIFY);
	check_lifetimes(p);
	check_streams(p);
	check_tokens(p);
}
