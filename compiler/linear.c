// SPDX-License-Identifier: MIT
/*
 * A matrix times the activations: a core's rows in tiles of some strips, each in its K tiles, in
 * pairs that take turns in the two halves of the weight buffer. LD fills one half while MM or MV
 * empties the other; the two wait for nobody else until the last tile. A tile beyond the core's
 * last strip has no strips and only passes its tokens on.
 */
#include "compiler/emit.h"

static enum core_register strips_of(enum split split)
{
	switch (split) {
	case SPLIT_Q:
		return CORE_Q_STRIPS;
	case SPLIT_KV:
		return CORE_KV_STRIPS;
	case SPLIT_HIDDEN:
		return CORE_HIDDEN_STRIPS;
	case SPLIT_FFN:
		return CORE_FFN_STRIPS;
	default:
		return CORE_VOCAB_STRIPS;
	}
}

/* Bytes from a core's first row of a split vector of float32, by the register that says where. */
static struct expr first_row(const struct plan *p, struct expr at, enum split split)
{
	uint32_t head = 4 * p->config->head_dim;

	switch (split) {
	case SPLIT_Q:
		return plus(at, FLM_CLASS_CORE, CORE_KV_FIRST, p->heads_per_kv * head);
	case SPLIT_KV:
		return plus(at, FLM_CLASS_CORE, CORE_KV_FIRST, head);
	case SPLIT_HIDDEN:
		return plus(at, FLM_CLASS_CORE, CORE_HIDDEN_FIRST, 4 * FLM_STRIP);
	default:
		return plus(at, FLM_CLASS_CORE, CORE_FFN_FIRST, 4 * FLM_STRIP);
	}
}

void emit_bias(struct emitter *e, const struct op *op)
{
	const struct plan *p = e->plan;
	const struct matrix *m = &p->matrix[op->matrix];
	struct operand_size bytes = operand_core(p, strips_of(m->split), 4 * FLM_STRIP);
	struct expr bias = plus(value(p->biases + m->bias), FLM_CLASS_LOOP, 0, p->layer_biases);

	BEGIN(e, LD_LINEAR);
	OPERAND(e, LD_LINEAR, SEG, FLM_SEGMENT_SHARED);
	EXPRESSION(e, LD_LINEAR, OFF, first_row(p, bias, m->split));
	ADDRESS(e, LD_LINEAR, DST, value(op->out->at));
	SIZED(e, LD_LINEAR, ROWS, value(1), 1);
	SIZED(e, LD_LINEAR, BYTES, bytes.value, bytes.max);
	emit(e);
}

/* One tile of the pair: the same strips and columns for LD and for the multiplier. */
struct tile {
	const struct op *op;
	const struct matrix *m;
	struct operand_size tokens;
	uint32_t k;			/* K tile */
	struct expr table, row, strips, half, out, bias;
	bool has_bias;
};

/* Operands that LD_TILE, MM and MV share: which rows of which table, how many strips, the half. */
#define TILE_OPERANDS(e, insn, chip, chip_pitch, t) \
	do { \
		OPERAND(e, insn, SEG, FLM_SEGMENT_WEIGHTS); \
		EXPRESSION(e, insn, TABLE, (t)->table); \
		EXPRESSION(e, insn, ROW, (t)->row); \
		OPERAND(e, insn, STEP, (t)->m->tiles); \
		SIZED(e, insn, STRIPS, (t)->strips, (t)->m->strips_at_once); \
		ADDRESS(e, insn, chip, (t)->half); \
		OPERAND(e, insn, chip_pitch, (t)->m->tile_bytes); \
		ADDRESS(e, insn, IDX, value(FLM_CHIP(FLM_BUFFER_IDX, 0))); \
	} while (0)

static struct tile tile_of(const struct emitter *e, const struct op *op, int64_t half, uint32_t k)
{
	const struct plan *p = e->plan;
	const struct matrix *m = &p->matrix[op->matrix];
	int64_t at_once = m->strips_at_once, pair = 2 * at_once, bytes = FLM_STRIP * 4;
	unsigned int loop = e->depth - 1, parity = (half * m->tiles + k) & 1;
	struct tile t = { .op = op, .m = m, .k = k };

	t.tokens = operand_rows(e, op->phase);
	t.table = value(m->table);
	if (op->phase == PHASE_LAYER)
		t.table = plus(t.table, FLM_CLASS_LOOP, 0, p->layer_tables);
	t.row = plus(value(half * at_once * m->tiles + k), FLM_CLASS_LOOP, loop, pair * m->tiles);
	t.strips = plus(value(-half * at_once), FLM_CLASS_CORE, strips_of(m->split), 1);
	t.strips = plus(t.strips, FLM_CLASS_LOOP, loop, -pair);
	t.half = value(FLM_CHIP(FLM_BUFFER_WGT, parity * p->half_bytes));
	t.out = operand_part(p, op->out);
	t.out.constant += half * at_once * bytes;
	t.out = plus(t.out, FLM_CLASS_LOOP, loop, pair * bytes);
	t.has_bias = op->in[1] && k == m->tiles - 1;
	if (t.has_bias)
		t.bias = plus(value(op->in[1]->at + half * at_once * bytes), FLM_CLASS_LOOP, loop,
			      pair * bytes);
	return t;
}

static void load(struct emitter *e, const struct tile *t, unsigned int unit)
{
	BEGIN(e, LD_TILE);
	TILE_OPERANDS(e, LD_TILE, DST, PITCH, t);
	emit_free(e, 1u << unit, 1u << unit);
}

static void multiply_one(struct emitter *e, const struct tile *t)
{
	const struct value *a = t->op->in[0];

	BEGIN(e, MV_LINEAR);
	TILE_OPERANDS(e, MV_LINEAR, W, W_PITCH, t);
	insn_flags(e, (t->k ? 0 : FLM_MV_LINEAR_FIRST) |
		      (t->has_bias ? FLM_MV_LINEAR_BIAS : 0));
	ADDRESS(e, MV_LINEAR, A, value(a->at + t->k * FLM_TILE_COLS));
	ADDRESS(e, MV_LINEAR, A_SCALES, value(a->scale_at + t->k * FLM_TILE_COLS / FLM_GROUP * 4));
	ADDRESS(e, MV_LINEAR, OUT, t->out);
	ADDRESS(e, MV_LINEAR, BIAS_AT, t->bias);
	emit_free(e, 1u << FLM_UNIT_LD, 1u << FLM_UNIT_LD);
}

static void multiply_many(struct emitter *e, const struct tile *t)
{
	const struct value *a = t->op->in[0];

	BEGIN(e, MM_LINEAR);
	TILE_OPERANDS(e, MM_LINEAR, W, W_PITCH, t);
	insn_flags(e, (t->k ? 0 : FLM_MM_LINEAR_FIRST) |
		      (t->has_bias ? FLM_MM_LINEAR_BIAS : 0));
	ADDRESS(e, MM_LINEAR, A, value(a->at + t->k * FLM_TILE_COLS));
	OPERAND(e, MM_LINEAR, A_PITCH, a->pitch);
	ADDRESS(e, MM_LINEAR, A_SCALES, value(a->scale_at + t->k * FLM_TILE_COLS / FLM_GROUP * 4));
	OPERAND(e, MM_LINEAR, A_SCALE_PITCH, a->scale_pitch);
	SIZED(e, MM_LINEAR, TOKENS, t->tokens.value, t->tokens.max);
	ADDRESS(e, MM_LINEAR, OUT, t->out);
	OPERAND(e, MM_LINEAR, OUT_PITCH, t->op->out->pitch);
	ADDRESS(e, MM_LINEAR, BIAS_AT, t->bias);
	emit_free(e, 1u << FLM_UNIT_LD, 1u << FLM_UNIT_LD);
}

void emit_linear(struct emitter *e, const struct op *op)
{
	const struct plan *p = e->plan;
	const struct matrix *m = &p->matrix[op->matrix];
	bool is_mv = e->entry == 1 || op->phase == PHASE_LAST;
	unsigned int unit = is_mv ? FLM_UNIT_MV : FLM_UNIT_MM;
	enum core_register strips = strips_of(m->split);
	uint32_t pair = 2 * m->strips_at_once, shift = 0;

	while (1u << shift < pair)
		shift++;
	baton_to(e, unit);
	loop_free_register(e, FLM_CLASS_CORE, strips, shift,
			   DIV_UP(p->register_max[strips], pair));
	for (uint32_t half = 0; half < 2; half++) {
		for (uint32_t k = 0; k < m->tiles; k++) {
			struct tile t = tile_of(e, op, half, k);

			load(e, &t, unit);
			(is_mv ? multiply_one : multiply_many)(e, &t);
		}
	}
	loop_free_end(e);
	baton_renew(e, unit);
}
