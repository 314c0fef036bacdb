// SPDX-License-Identifier: MIT
/*
 * Attention of one layer, head by head: the cached keys and values of a KV head come through the
 * page list, those of this pass are quantised behind them on chip and stored from there, then
 * each query head of a KV head takes its scores, softmax, and weighted sum. Scores never leave
 * the chip. Positions are indices into the cache (length register KV), whatever position RoPE
 * gave them.
 */
#include "compiler/emit.h"

/* State of one KV head's loop. */
struct heads {
	const struct op *op;
	struct operand_size rows;		/* tokens of the pass */
	struct operand_size end;		/* positions, those of this pass included */
	uint32_t dim, groups;
	unsigned int kv_loop;		/* depth of the loop over KV heads */
};

static uint32_t scratch_at(const struct heads *h, int number)
{
	return h->op->scratch[number].at;
}

/* Byte offsets in a page: values and scales of K (0) or V (1) of the current layer and head. */
static struct expr page_values(const struct emitter *e, const struct heads *h, int part)
{
	int64_t head = (int64_t)FLM_PAGE * h->dim, all = e->plan->kv_heads_max * head;

	return plus(plus(value(part * all), FLM_CLASS_LOOP, 0, 2 * all), FLM_CLASS_LOOP, h->kv_loop,
		    head);
}

static struct expr page_scales(const struct emitter *e, const struct heads *h, int part)
{
	int64_t groups = part ? 1 : h->groups, head = FLM_PAGE * 4 * groups;
	int64_t keys = (int64_t)e->plan->kv_heads_max * FLM_PAGE * 4 * h->groups;
	int64_t layer = keys + (int64_t)e->plan->kv_heads_max * FLM_PAGE * 4;

	return plus(plus(value(e->plan->page_scales + part * keys), FLM_CLASS_LOOP, 0, layer),
		    FLM_CLASS_LOOP, h->kv_loop, head);
}

static void load_cached(struct emitter *e, const struct heads *h, int part)
{
	uint32_t scale_bytes = part ? 4 : 4 * h->groups;

	BEGIN(e, LD_KV);
	OPERAND(e, LD_KV, SEG, FLM_SEGMENT_KV);
	OPERAND(e, LD_KV, PAGE, e->plan->page_bytes);
	EXPRESSION(e, LD_KV, VALUES, page_values(e, h, part));
	OPERAND(e, LD_KV, VALUE_BYTES, h->dim);
	EXPRESSION(e, LD_KV, SCALES, page_scales(e, h, part));
	OPERAND(e, LD_KV, SCALE_BYTES, scale_bytes);
	SIZED(e, LD_KV, COUNT, plus(value(0), FLM_CLASS_LENGTH, FLM_LENGTH_KV, 1),
	      e->plan->context);
	ADDRESS(e, LD_KV, DST, value(scratch_at(h, part ? ATT_V : ATT_K)));
	ADDRESS(e, LD_KV, DST_SCALES, value(scratch_at(h, part ? ATT_VS : ATT_KS)));
	emit(e);
}

/* This pass's rows of one head, behind the cached ones. */
static void quantise_new(struct emitter *e, const struct heads *h, int part)
{
	const struct value *v = h->op->in[1 + part];
	uint32_t scale_bytes = part ? 4 : 4 * h->groups;

	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_QUANT,
		.a = plus(value(v->at), FLM_CLASS_LOOP, h->kv_loop, 4 * h->dim),
		.a_pitch = v->pitch,
		.c = plus(value(scratch_at(h, part ? ATT_VS : ATT_KS)), FLM_CLASS_LENGTH,
			  FLM_LENGTH_KV, scale_bytes),
		.c_pitch = scale_bytes,
		.out = plus(value(scratch_at(h, part ? ATT_V : ATT_K)), FLM_CLASS_LENGTH,
			    FLM_LENGTH_KV, h->dim),
		.out_pitch = h->dim,
		.rows = h->rows, .cols = { value(h->dim), h->dim },
		.imm = part ? h->dim : FLM_GROUP,
	});
}

static void store_new(struct emitter *e, const struct heads *h, int part)
{
	uint32_t scale_bytes = part ? 4 : 4 * h->groups;

	BEGIN(e, ST_KV);
	OPERAND(e, ST_KV, SEG, FLM_SEGMENT_KV);
	OPERAND(e, ST_KV, PAGE, e->plan->page_bytes);
	EXPRESSION(e, ST_KV, VALUES, page_values(e, h, part));
	OPERAND(e, ST_KV, VALUE_BYTES, h->dim);
	EXPRESSION(e, ST_KV, SCALES, page_scales(e, h, part));
	OPERAND(e, ST_KV, SCALE_BYTES, scale_bytes);
	EXPRESSION(e, ST_KV, FIRST, plus(value(0), FLM_CLASS_LENGTH, FLM_LENGTH_KV, 1));
	SIZED(e, ST_KV, COUNT, h->rows.value, h->rows.max);
	ADDRESS(e, ST_KV, SRC, plus(value(scratch_at(h, part ? ATT_V : ATT_K)), FLM_CLASS_LENGTH,
				    FLM_LENGTH_KV, h->dim));
	OPERAND(e, ST_KV, SRC_PITCH, h->dim);
	ADDRESS(e, ST_KV, SRC_SCALES, plus(value(scratch_at(h, part ? ATT_VS : ATT_KS)),
					   FLM_CLASS_LENGTH, FLM_LENGTH_KV, scale_bytes));
	OPERAND(e, ST_KV, SCALE_PITCH, scale_bytes);
	emit(e);
}

static void emit_scores(struct emitter *e, const struct heads *h, uint32_t query_pitch,
			uint32_t score_pitch)
{
	if (e->entry == 1) {
		BEGIN(e, MV_QK);
		ADDRESS(e, MV_QK, A, value(scratch_at(h, ATT_Q)));
		ADDRESS(e, MV_QK, A_SCALES, value(scratch_at(h, ATT_QS)));
		ADDRESS(e, MV_QK, B, value(scratch_at(h, ATT_K)));
		OPERAND(e, MV_QK, B_PITCH, h->dim);
		ADDRESS(e, MV_QK, B_SCALES, value(scratch_at(h, ATT_KS)));
		OPERAND(e, MV_QK, B_SCALE_PITCH, 4 * h->groups);
		OPERAND(e, MV_QK, DIM, h->dim);
		SIZED(e, MV_QK, POSITIONS, h->end.value, h->end.max);
		ADDRESS(e, MV_QK, OUT, value(scratch_at(h, ATT_S)));
	} else {
		BEGIN(e, MM_QK);
		ADDRESS(e, MM_QK, A, value(scratch_at(h, ATT_Q)));
		OPERAND(e, MM_QK, A_PITCH, query_pitch);
		ADDRESS(e, MM_QK, A_SCALES, value(scratch_at(h, ATT_QS)));
		OPERAND(e, MM_QK, A_SCALE_PITCH, 4 * h->groups);
		ADDRESS(e, MM_QK, B, value(scratch_at(h, ATT_K)));
		OPERAND(e, MM_QK, B_PITCH, h->dim);
		ADDRESS(e, MM_QK, B_SCALES, value(scratch_at(h, ATT_KS)));
		OPERAND(e, MM_QK, B_SCALE_PITCH, 4 * h->groups);
		OPERAND(e, MM_QK, DIM, h->dim);
		SIZED(e, MM_QK, POSITIONS, h->end.value, h->end.max);
		SIZED(e, MM_QK, TOKENS, h->rows.value, h->rows.max);
		ADDRESS(e, MM_QK, OUT, value(scratch_at(h, ATT_S)));
		OPERAND(e, MM_QK, OUT_PITCH, score_pitch);
	}
	emit(e);
}

static void emit_weighted_sum(struct emitter *e, const struct heads *h, struct expr out,
			      uint32_t weight_pitch, uint32_t scale_pitch)
{
	if (e->entry == 1) {
		BEGIN(e, MV_PV);
		insn_flags(e, FLM_MV_PV_FIRST);
		ADDRESS(e, MV_PV, A, value(scratch_at(h, ATT_P)));
		ADDRESS(e, MV_PV, A_SCALES, value(scratch_at(h, ATT_PS)));
		ADDRESS(e, MV_PV, B, value(scratch_at(h, ATT_V)));
		OPERAND(e, MV_PV, B_PITCH, h->dim);
		OPERAND(e, MV_PV, DIM, h->dim);
		SIZED(e, MV_PV, POSITIONS, h->end.value, h->end.max);
		ADDRESS(e, MV_PV, OUT, out);
	} else {
		BEGIN(e, MM_PV);
		insn_flags(e, FLM_MM_PV_FIRST);
		ADDRESS(e, MM_PV, A, value(scratch_at(h, ATT_P)));
		OPERAND(e, MM_PV, A_PITCH, weight_pitch);
		ADDRESS(e, MM_PV, A_SCALES, value(scratch_at(h, ATT_PS)));
		OPERAND(e, MM_PV, A_SCALE_PITCH, scale_pitch);
		ADDRESS(e, MM_PV, B, value(scratch_at(h, ATT_V)));
		OPERAND(e, MM_PV, B_PITCH, h->dim);
		OPERAND(e, MM_PV, DIM, h->dim);
		SIZED(e, MM_PV, POSITIONS, h->end.value, h->end.max);
		SIZED(e, MM_PV, TOKENS, h->rows.value, h->rows.max);
		ADDRESS(e, MM_PV, OUT, out);
		OPERAND(e, MM_PV, OUT_PITCH, h->op->out->pitch);
	}
	emit(e);
}

/*
 * One query head of a KV head, in tiles of as many queries as there is room for scores. Its
 * number there is the loop at depth kv_loop + 1 if there is more than one, that of the
 * tile the next.
 */
static void query_head(struct emitter *e, const struct heads *whole)
{
	struct heads tile = *whole, *h = &tile;
	const struct value *q = h->op->in[0];
	uint32_t heads_per_kv = e->plan->heads_per_kv, bytes = 4 * h->dim;
	uint32_t query_pitch = ROUND_UP(h->dim, FLM_STRIP);
	uint32_t weight_pitch = ROUND_UP(e->plan->context, FLM_STRIP);
	uint32_t scale_pitch = 4 * DIV_UP(e->plan->context, FLM_GROUP);
	struct expr from = plus(value(q->at), FLM_CLASS_LOOP, h->kv_loop, heads_per_kv * bytes);
	struct expr to = plus(operand_part(e->plan, h->op->out), FLM_CLASS_LOOP, h->kv_loop,
			      heads_per_kv * bytes);
	struct expr from_kv = plus(value(0), FLM_CLASS_LENGTH, FLM_LENGTH_KV, 1);
	bool is_tiled = e->entry == 0 && e->plan->queries < e->plan->chunk;
	uint32_t s = scratch_at(h, ATT_S);

	if (heads_per_kv > 1) {
		from = plus(from, FLM_CLASS_LOOP, h->kv_loop + 1, bytes);
		to = plus(to, FLM_CLASS_LOOP, h->kv_loop + 1, bytes);
	}
	if (is_tiled) {
		uint32_t queries = e->plan->queries, shift = 0, depth = e->depth;

		while (1u << shift < queries)
			shift++;
		loop_register(e, FLM_CLASS_LENGTH, FLM_LENGTH_TOKENS, shift,
			      DIV_UP(e->plan->chunk, queries));
		h->rows.value = plus(h->rows.value, FLM_CLASS_LOOP, depth, -(int64_t)queries);
		h->rows.max = queries;
		from = plus(from, FLM_CLASS_LOOP, depth, (int64_t)queries * q->pitch);
		to = plus(to, FLM_CLASS_LOOP, depth, (int64_t)queries * h->op->out->pitch);
		from_kv = plus(from_kv, FLM_CLASS_LOOP, depth, queries);
	}
	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_QUANT, .a = from, .a_pitch = q->pitch,
		.c = value(scratch_at(h, ATT_QS)), .c_pitch = 4 * h->groups,
		.out = value(scratch_at(h, ATT_Q)), .out_pitch = query_pitch,
		.rows = h->rows, .cols = { value(h->dim), h->dim }, .imm = FLM_GROUP,
	});
	emit_scores(e, h, query_pitch, 4 * weight_pitch);
	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_SOFTMAX, .a = value(s), .a_pitch = 4 * weight_pitch,
		.out = value(s), .out_pitch = 4 * weight_pitch, .rows = h->rows, .cols = h->end,
		.imm = e->plan->softmax_scale,
		.pos = from_kv,
	});
	/* The values' own scales go into the weights, so that the sum is of integers. */
	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_MUL, .a = value(s), .a_pitch = 4 * weight_pitch,
		.b = value(scratch_at(h, ATT_VS)), .out = value(s), .out_pitch = 4 * weight_pitch,
		.rows = h->rows, .cols = h->end,
	});
	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_QUANT, .a = value(s), .a_pitch = 4 * weight_pitch,
		.c = value(scratch_at(h, ATT_PS)), .c_pitch = scale_pitch,
		.out = value(scratch_at(h, ATT_P)), .out_pitch = weight_pitch,
		.rows = h->rows, .cols = h->end, .imm = FLM_GROUP,
	});
	emit_weighted_sum(e, h, to, weight_pitch, scale_pitch);
	if (is_tiled)
		loop_end(e);
}

void emit_attention(struct emitter *e, const struct op *op)
{
	struct plan *p = e->plan;
	struct heads h = {
		.op = op, .rows = operand_rows(e, op->phase), .dim = p->config->head_dim,
		.groups = DIV_UP(p->config->head_dim, FLM_GROUP), .kv_loop = e->depth,
		.end = { plus(value(0), FLM_CLASS_LENGTH, FLM_LENGTH_KV_END, 1), p->context },
	};

	loop_register(e, FLM_CLASS_CORE, CORE_KV_HEADS, 0, p->kv_heads_max);
	for (int part = 0; part < 2; part++)
		load_cached(e, &h, part);
	for (int part = 0; part < 2; part++)
		quantise_new(e, &h, part);
	for (int part = 0; part < 2; part++)
		store_new(e, &h, part);
	if (p->heads_per_kv > 1)
		loop_constant(e, p->heads_per_kv);
	query_head(e, &h);
	if (p->heads_per_kv > 1)
		loop_end(e);
	loop_end(e);
}
