// SPDX-License-Identifier: MIT
/*
 * From operators to instructions, once for each entry: a chunk of the prompt with MM, one token
 * with MV. Sizes that differ from pass to pass are length registers, sizes that differ from core
 * to core are core registers, so the same words serve every length and every core; a core that
 * has nothing of something finds a size of zero there.
 */
#include <stdio.h>
#include <string.h>

#include "compiler/emit.h"

static void emit_embed(struct emitter *e, const struct op *op)
{
	const struct plan *p = e->plan;
	struct operand_size rows = operand_rows(e, op->phase);
	const struct scratch *codes = &op->scratch[EMBED_CODES];
	const struct scratch *scales = &op->scratch[EMBED_SCALES];
	uint32_t cols = op->out->cols, scale_bytes = 2 * p->embed_groups;

	for (int part = 0; part < 2; part++) {
		uint32_t bytes = part ? scale_bytes : cols;

		BEGIN(e, LD_GATHER);
		OPERAND(e, LD_GATHER, SEG, FLM_SEGMENT_SHARED);
		EXPRESSION(e, LD_GATHER, OFF, value(part ? p->embed_scales : p->embed));
		OPERAND(e, LD_GATHER, SRC_PITCH, bytes);
		OPERAND(e, LD_GATHER, LIMIT, p->config->vocab);
		ADDRESS(e, LD_GATHER, INDEX, value(FLM_CHIP(FLM_BUFFER_IDX, 0)));
		SIZED(e, LD_GATHER, ROWS, rows.value, rows.max);
		SIZED(e, LD_GATHER, BYTES, value(bytes), bytes);
		ADDRESS(e, LD_GATHER, DST, value(part ? scales->at : codes->at));
		OPERAND(e, LD_GATHER, DST_PITCH, bytes);
		emit(e);
	}
	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_DEQUANT, .flags = FLM_MISC_HALF,
		.a = value(codes->at), .a_pitch = cols,
		.c = value(scales->at), .c_pitch = scale_bytes,
		.out = value(op->out->at), .out_pitch = op->out->pitch, .rows = rows,
		.cols = operand_cols(p, op->out), .imm = FLM_GROUP,
	});
}

static void emit_rope_rows(struct emitter *e, const struct op *op)
{
	const struct plan *p = e->plan;
	struct operand_size rows = operand_rows(e, op->phase);
	uint32_t bytes = 4 * op->out->cols;

	BEGIN(e, LD_LINEAR);
	OPERAND(e, LD_LINEAR, SEG, FLM_SEGMENT_SHARED);
	EXPRESSION(e, LD_LINEAR, OFF,
		   plus(value(p->rope), FLM_CLASS_LENGTH, FLM_LENGTH_POS, bytes));
	OPERAND(e, LD_LINEAR, SRC_PITCH, bytes);
	ADDRESS(e, LD_LINEAR, DST, value(op->out->at));
	OPERAND(e, LD_LINEAR, DST_PITCH, op->out->pitch);
	SIZED(e, LD_LINEAR, ROWS, rows.value, rows.max);
	SIZED(e, LD_LINEAR, BYTES, value(bytes), bytes);
	emit(e);
}

static void emit_vectors(struct emitter *e, const struct op *op)
{
	const struct plan *p = e->plan;
	uint32_t bytes = 4 * op->out->cols;
	struct expr off = op->phase == PHASE_LAYER ?
		plus(value(p->norms + (uint64_t)op->imm * bytes), FLM_CLASS_LOOP, 0, 2ll * bytes) :
		value(p->norms + 2ull * p->config->layers * bytes);

	BEGIN(e, LD_LINEAR);
	OPERAND(e, LD_LINEAR, SEG, FLM_SEGMENT_SHARED);
	EXPRESSION(e, LD_LINEAR, OFF, off);
	ADDRESS(e, LD_LINEAR, DST, value(op->out->at));
	SIZED(e, LD_LINEAR, ROWS, value(1), 1);
	SIZED(e, LD_LINEAR, BYTES, value(bytes), bytes);
	emit(e);
}

static void emit_rmsnorm(struct emitter *e, const struct op *op)
{
	const struct plan *p = e->plan;
	const struct value *x = op->in[0];
	struct expr at = value(x->at);
	float eps = p->config->norm_eps;
	uint32_t imm;

	memcpy(&imm, &eps, 4);
	if (op->phase == PHASE_ROWS) {
		at = plus(at, FLM_CLASS_LENGTH, FLM_LENGTH_LOGIT_FIRST, x->pitch);
		at = plus(at, FLM_CLASS_LOOP, 0, (int64_t)p->logit_rows * x->pitch);
	} else if (op->phase == PHASE_LAST && e->entry == 0) {
		at = plus(value((int64_t)x->at - x->pitch), FLM_CLASS_LENGTH, FLM_LENGTH_TOKENS,
			  x->pitch);
	}
	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_RMSNORM, .a = at, .a_pitch = x->pitch, .b = value(op->in[1]->at),
		.out = value(op->out->at), .out_pitch = op->out->pitch,
		.rows = operand_rows(e, op->phase), .cols = operand_cols(p, x), .imm = imm,
	});
}

/* hadamard, rope, silu, mul, add: a and perhaps b in, out of the same shape. */
static void emit_rowwise(struct emitter *e, const struct op *op, enum flm_misc mode, bool has_b)
{
	const struct value *a = op->in[0], *b = op->in[1];

	operand_misc(e, &(struct operand_misc) {
		.mode = mode, .a = operand_part(e->plan, a), .a_pitch = a->pitch,
		.b = has_b ? value(b->at) : value(0), .b_pitch = has_b ? b->pitch : 0,
		.out = operand_part(e->plan, op->out), .out_pitch = op->out->pitch,
		.rows = operand_rows(e, op->phase), .cols = operand_cols(e->plan, a),
		.imm = mode == FLM_MISC_HADAMARD ? op->imm :
		       mode == FLM_MISC_ROPE ? e->plan->config->head_dim : 0,
	});
}

static void emit_quant(struct emitter *e, const struct op *op)
{
	const struct value *a = op->in[0], *q = op->out;

	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_QUANT, .a = operand_part(e->plan, a), .a_pitch = a->pitch,
		.c = operand_scales(q), .c_pitch = q->scale_pitch,
		.out = operand_part(e->plan, q), .out_pitch = q->pitch,
		.rows = operand_rows(e, op->phase), .cols = operand_cols(e->plan, a),
		.imm = op->imm,
	});
}

static void gather_part(struct emitter *e, struct expr at, uint32_t pitch, struct operand_size rows,
			struct operand_size bytes)
{
	BEGIN(e, SYS_GATHER);
	ADDRESS(e, SYS_GATHER, SRC, at);
	OPERAND(e, SYS_GATHER, SRC_PITCH, pitch);
	ADDRESS(e, SYS_GATHER, DST, at);
	OPERAND(e, SYS_GATHER, DST_PITCH, pitch);
	SIZED(e, SYS_GATHER, ROWS, rows.value, rows.max);
	SIZED(e, SYS_GATHER, BYTES, bytes.value, bytes.max);
	emit(e);
}

static void emit_gather(struct emitter *e, const struct op *op)
{
	const struct plan *p = e->plan;
	const struct value *v = op->in[0];
	struct operand_size rows = operand_rows(e, op->phase), bytes = operand_cols(p, v);

	if (v->type == VALUE_Q8) {
		/* Whole strips: quantising left zeros behind the last row. */
		gather_part(e, operand_part(p, v), v->pitch, rows,
			    operand_core(p, CORE_FFN_STRIPS, FLM_STRIP));
		gather_part(e, operand_scales(v), v->scale_pitch, rows,
			    operand_core(p, CORE_FFN_GROUPS, 4));
		return;
	}
	for (unsigned int i = 0; i < bytes.value.terms; i++)
		bytes.value.term[i].stride *= 4;
	bytes.max *= 4;
	gather_part(e, operand_part(p, v), v->pitch, rows, bytes);
}

static void emit_logits(struct emitter *e, const struct op *op)
{
	const struct plan *p = e->plan;
	const struct value *v = op->in[0];
	struct operand_size rows = operand_rows(e, op->phase), cols = operand_cols(p, v);
	struct expr row;

	if (op->phase == PHASE_ROWS) {
		row = plus(value(0), FLM_CLASS_LENGTH, FLM_LENGTH_LOGIT_FIRST, 1);
		row = plus(row, FLM_CLASS_LOOP, 0, p->logit_rows);
	} else {
		row = plus(value(-1), FLM_CLASS_LENGTH, FLM_LENGTH_TOKENS, 1);
	}
	BEGIN(e, ST_LOGITS);
	EXPRESSION(e, ST_LOGITS, ROW, row);
	SIZED(e, ST_LOGITS, ROWS, rows.value, rows.max);
	EXPRESSION(e, ST_LOGITS, COL,
		   plus(value(0), FLM_CLASS_CORE, CORE_VOCAB_FIRST, FLM_STRIP));
	SIZED(e, ST_LOGITS, COLS, cols.value, cols.max);
	ADDRESS(e, ST_LOGITS, SRC, value(v->at));
	OPERAND(e, ST_LOGITS, SRC_PITCH, v->pitch);
	emit(e);
}

/* A core without a row of the vocabulary has no candidate: its places are filled with none. */
static void fill_candidates(struct emitter *e, uint32_t at, uint32_t top)
{
	const uint32_t none[2] = { 0xff800000u, FLM_CANDIDATE_NONE };

	for (uint32_t i = 0; i < 2; i++)
		operand_misc(e, &(struct operand_misc) {
			.mode = FLM_MISC_FILL, .out = value(at + 4 * i), .out_pitch = 8,
			.rows = { value(top), top }, .cols = { value(1), 1 }, .imm = none[i],
		});
}

static void emit_sample(struct emitter *e, const struct op *op)
{
	const struct plan *p = e->plan;
	const struct value *v = op->in[0];
	uint32_t at = op->scratch[SAMPLE_TOP].at, top = MIN(p->config->vocab, FLM_TOPK_MAX);
	struct operand_size one = { value(1), 1 };

	for (unsigned int core = 0; core < p->card->cores; core++) {
		if (!p->registers[core][CORE_VOCAB_ROWS]) {
			fill_candidates(e, at, top);
			break;
		}
	}
	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_TOPK, .a = value(v->at), .out = value(at), .rows = one,
		.cols = operand_cols(p, v), .imm = top,
		.pos = plus(value(0), FLM_CLASS_CORE, CORE_VOCAB_FIRST, FLM_STRIP),
	});
	BEGIN(e, SYS_TOPK);
	ADDRESS(e, SYS_TOPK, SRC, value(at));
	OPERAND(e, SYS_TOPK, COUNT, top);
	emit(e);
	operand_misc(e, &(struct operand_misc) {
		.mode = FLM_MISC_SAMPLE, .a = value(at), .rows = one, .cols = one, .imm = top,
	});
}

static void emit_op(struct emitter *e, const struct op *op)
{
	switch (op->kind) {
	case OP_EMBED:
		return emit_embed(e, op);
	case OP_ROPE_ROWS:
		return emit_rope_rows(e, op);
	case OP_VECTORS:
		return emit_vectors(e, op);
	case OP_BIAS:
		return emit_bias(e, op);
	case OP_RMSNORM:
		return emit_rmsnorm(e, op);
	case OP_HADAMARD:
		return emit_rowwise(e, op, FLM_MISC_HADAMARD, false);
	case OP_QUANT:
		return emit_quant(e, op);
	case OP_LINEAR:
		return emit_linear(e, op);
	case OP_ROPE:
		return emit_rowwise(e, op, FLM_MISC_ROPE, true);
	case OP_ATTENTION:
		return emit_attention(e, op);
	case OP_GATHER:
		return emit_gather(e, op);
	case OP_SILU:
		return emit_rowwise(e, op, FLM_MISC_SILU, false);
	case OP_MUL:
		return emit_rowwise(e, op, FLM_MISC_MUL, true);
	case OP_ADD:
		return emit_rowwise(e, op, FLM_MISC_ADD, true);
	case OP_LOGITS:
		return emit_logits(e, op);
	case OP_SAMPLE:
		return emit_sample(e, op);
	default:
		die("internal error: operator %s has no instructions", op->name);
	}
}

/* The multiplier hands both halves of the weight buffer to LD, or LD gives them back. */
static void halves(struct emitter *e, unsigned int unit, bool grant)
{
	for (int i = 0; i < 2; i++) {
		begin_sync(e, grant ? unit : FLM_UNIT_LD);
		emit_free(e, grant ? 0 : 1u << unit, grant ? 1u << FLM_UNIT_LD : 0);
	}
}

static void map_add(struct emitter *e, const uint32_t before[FLM_UNITS], const char *name)
{
	struct plan *p = e->plan;

	for (unsigned int unit = 0; unit < FLM_UNITS; unit++) {
		struct map_row *row;

		if (e->streams[unit].count == before[unit])
			continue;
		if (p->map_count == p->map_room) {
			uint32_t room = p->map_room ? 2 * p->map_room : 256;

			p->map = arena_grow(p->map, p->map_count * sizeof(*p->map),
					    room * sizeof(*p->map));
			p->map_room = room;
		}
		row = &p->map[p->map_count++];
		row->entry = e->entry;
		row->unit = unit;
		row->first = before[unit];
		row->words = e->streams[unit].count - before[unit];
		snprintf(row->name, sizeof(row->name), "%s", name);
	}
}

static void phase_begin(struct emitter *e, enum phase phase)
{
	struct plan *p = e->plan;
	uint32_t shift = 0;

	if (phase == PHASE_LAYER)
		loop_constant(e, p->config->layers);
	if (phase == PHASE_ROWS) {
		while (1u << shift < p->logit_rows)
			shift++;
		loop_register(e, FLM_CLASS_LENGTH, FLM_LENGTH_LOGIT_ROWS, shift,
			      DIV_UP(p->chunk, p->logit_rows));
	}
	if (phase == PHASE_LAST) {
		if (e->entry == 0)
			halves(e, FLM_UNIT_MM, false);
		loop_register(e, FLM_CLASS_LENGTH, FLM_LENGTH_SAMPLE, 0, 1);
		if (e->entry == 0)
			halves(e, FLM_UNIT_MV, true);
	}
}

static void phase_end(struct emitter *e, enum phase phase)
{
	if (phase == PHASE_LAST && e->entry == 0)
		halves(e, FLM_UNIT_MV, false);
	if (phase != PHASE_START)
		loop_end(e);
	if (phase == PHASE_LAST && e->entry == 1)
		halves(e, FLM_UNIT_MV, false);
}

static void emit_entry(struct plan *p, unsigned int entry)
{
	struct emitter *e = arena(sizeof(*e));
	enum phase open = PHASES;

	e->plan = p;
	e->entry = entry;
	e->streams = p->streams[entry];
	e->where = "start";
	halves(e, entry ? FLM_UNIT_MV : FLM_UNIT_MM, true);
	for (int i = 0; i < p->op_count; i++) {
		const struct op *op = p->ops[i];
		uint32_t before[FLM_UNITS];

		/* A pass of one token has only the logits of the token that it samples. */
		if (entry == 1 && op->phase == PHASE_ROWS)
			continue;
		if (op->phase != open) {
			if (open != PHASES)
				phase_end(e, open);
			open = op->phase;
			phase_begin(e, open);
		}
		for (unsigned int unit = 0; unit < FLM_UNITS; unit++)
			before[unit] = e->streams[unit].count;
		e->where = op->name;
		emit_op(e, op);
		map_add(e, before, op->name);
	}
	phase_end(e, open);
	streams_end(e);
}

void emit_run(struct plan *p)
{
	stage_begin(p, STAGE_EMIT);
	for (unsigned int entry = 0; entry < ENTRIES; entry++)
		emit_entry(p, entry);
}
