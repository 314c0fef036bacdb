// SPDX-License-Identifier: MIT
/*
 * Linear forms: what an operand may be, and where the bytes end that it leads to.
 *
 * Operands are linear in registers and loop indices. Length registers obey KV_END = KV +
 * TOKENS, KV_END <= context, LOGIT_FIRST + LOGIT_ROWS <= TOKENS, so a linear expression is
 * greatest at one of few corners. A size is at most its maximum and at most its own expression;
 * the end of what is touched is bounded with either, and the smaller bound counts: that is how
 * the last, short tile of a loop is seen to fit.
 */
#include <inttypes.h>
#include <string.h>

#include "compiler/verify.h"

#include "lib/flightllm_isa.h"

void __attribute__((noreturn)) verify_fail(const struct check *c, const char *format, ...)
{
	char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	die_with(EXIT_UNVERIFIED, "verification: entry %u, core %u, %s, word %u: %s", c->entry,
		 c->core, flm_isa_unit_name(c->unit), c->at, text);
}

void form_add_term(struct check *c, struct form *f, uint32_t class, uint32_t index,
		   int64_t stride)
{
	switch (class) {
	case FLM_CLASS_LENGTH:
		if (index >= FLM_LENGTHS)
			verify_fail(c, "length register %u does not exist", index);
		if (index == FLM_LENGTH_KV_END) {
			f->length[FLM_LENGTH_KV] += stride;
			f->length[FLM_LENGTH_TOKENS] += stride;
		} else {
			f->length[index] += stride;
		}
		return;
	case FLM_CLASS_CORE:
		if (index >= FLM_CORE_REGISTERS)
			verify_fail(c, "core register %u does not exist", index);
		f->constant += stride * c->plan->registers[c->core][index];
		return;
	case FLM_CLASS_LOOP:
		if (index >= c->depth)
			verify_fail(c, "loop %u is not open", index);
		f->loop[index] += stride;
		return;
	default:
		verify_fail(c, "a term of class %u", class);
	}
}

struct form form_read(struct check *c, int word, int number, bool is_address)
{
	struct form f = { 0 };

	f.constant = is_address ? (int64_t)(c->words[word] & 0xfffffff) : (int32_t)c->words[word];
	for (uint32_t i = 0; i < FLM_GET_HEAD(c->words, TERMS); i++) {
		const uint32_t *term = c->words + c->fixed + 2 * i;

		if ((int)FLM_GET_TERM(term, OPERAND) == number)
			form_add_term(c, &f, FLM_GET_TERM(term, CLASS),
				      FLM_GET_TERM(term, INDEX), (int32_t)term[1]);
	}
	return f;
}

struct form form_sum(struct form a, struct form b, int64_t times)
{
	a.constant += times * b.constant;
	for (int i = 0; i < FLM_LENGTHS; i++)
		a.length[i] += times * b.length[i];
	for (int i = 0; i < FLM_LOOP_DEPTH; i++)
		a.loop[i] += times * b.loop[i];
	return a;
}

/* Registers that are tied to each other, at one corner of what they may be. */
static int64_t corner(const struct check *c, const struct form *f, int corner)
{
	int64_t tokens = c->entry || corner & 1 ? 1 : MIN(c->max[FLM_LENGTH_TOKENS],
							  c->plan->context);
	int64_t kv = corner & 2 ? c->plan->context - tokens : 0;
	int64_t first = (corner >> 2) % 3 == 1 ? tokens : 0;
	int64_t rows = (corner >> 2) % 3 == 2 ? tokens : 0;

	return f->length[FLM_LENGTH_TOKENS] * tokens + f->length[FLM_LENGTH_KV] * kv +
	       f->length[FLM_LENGTH_LOGIT_FIRST] * first + f->length[FLM_LENGTH_LOGIT_ROWS] * rows;
}

int64_t form_greatest(const struct check *c, const struct form *f)
{
	int64_t value = f->constant, best = INT64_MIN;

	for (int i = 0; i < FLM_LENGTHS; i++) {
		if (i == FLM_LENGTH_TOKENS || i == FLM_LENGTH_KV || i == FLM_LENGTH_LOGIT_FIRST ||
		    i == FLM_LENGTH_LOGIT_ROWS)
			continue;
		value += MAX(f->length[i] * c->min[i], f->length[i] * c->max[i]);
	}
	for (unsigned int i = 0; i < c->depth; i++)
		value += MAX(0, f->loop[i] * (int64_t)(c->loop[i].count - 1));
	for (int i = 0; i < 12; i++)
		best = MAX(best, corner(c, f, i));
	return value + best;
}

int64_t form_least(const struct check *c, const struct form *f)
{
	struct form zero = { 0 }, negative = form_sum(zero, *f, -1);

	return -form_greatest(c, &negative);
}

/* ---- what an instruction touches ---- */

struct form form_size(struct check *c, int word, int number)
{
	struct form f = form_read(c, word, number, false);

	f.max = c->words[word + 1];
	f.is_size = true;
	if (f.max > FLM_VALUE_MAX)
		verify_fail(c, "a maximum of %u", f.max);
	return f;
}

/* A size that is zero for this core whatever the lengths: the instruction does nothing. */
bool form_is_zero(const struct check *c, const struct form *size)
{
	return !size->max || form_greatest(c, size) <= 0;
}

static struct form constant_of(const struct form *size, int choice)
{
	struct form f = { 0 };

	if (!size->is_size || choice)
		return *size;
	f.constant = size->max;
	return f;
}

/* Greatest end: base + (rows - 1) * pitch + each * size + more, the least of its bounds. */
int64_t form_end(const struct check *c, struct form base, const struct form *rows, int64_t pitch,
		 const struct form *size, int64_t each, int64_t more)
{
	int64_t best = INT64_MAX;

	for (int choice = 0; choice < 4; choice++) {
		struct form end = form_sum(base, constant_of(rows, choice & 1), pitch);

		end = form_sum(end, constant_of(size, choice >> 1), each);
		end.constant += more - pitch;
		best = MIN(best, form_greatest(c, &end));
	}
	return best;
}

static void check_alignment(const struct check *c, const struct form *f, int64_t align,
			    const char *name)
{
	bool fine = f->constant % align == 0;

	for (int i = 0; i < FLM_LENGTHS; i++)
		fine &= f->length[i] % align == 0;
	for (int i = 0; i < FLM_LOOP_DEPTH; i++)
		fine &= f->loop[i] % align == 0;
	if (!fine)
		verify_fail(c, "%s is not aligned to %" PRId64 " bytes", name, align);
}

void form_touch(struct check *c, const struct touch *t)
{
	struct form rows = t->rows.is_size ? t->rows : (struct form) { .constant = 1, .max = 1 };
	int align = MAX(t->align, 1);
	struct form base = form_read(c, t->word, t->number, true);
	uint32_t buffer = c->words[t->word] >> 28;
	int64_t end;

	if (buffer >= FLM_BUFFERS)
		verify_fail(c, "%s: buffer %u does not exist", t->name, buffer);
	if (t->buffer && buffer != t->buffer - 1)
		verify_fail(c, "%s must lie in buffer %u", t->name, t->buffer - 1);
	check_alignment(c, &base, align, t->name);
	if (rows.max > 1 && t->pitch % align)
		verify_fail(c, "the pitch of %s is not aligned to %d bytes", t->name, align);
	if (form_least(c, &base) < 0)
		verify_fail(c, "%s may lie below its buffer", t->name);
	end = form_end(c, base, &rows, t->pitch, &t->size, t->each, t->more);
	if (end > c->plan->card->buffer_bytes[buffer])
		verify_fail(c, "%s may end at byte %" PRId64 " of buffer %u, which has %u", t->name,
			    end, buffer, c->plan->card->buffer_bytes[buffer]);
}
