// SPDX-License-Identifier: MIT
/*
 * The model as operators on values: one list in the order of computation, in four phases
 * (start, the body of the layer loop, the logits loop, the last row). A value is a vector a
 * token, whole in every core or split over the cores; every operator says what it expects, and
 * graph_check() holds it to that after every pass.
 */
#include <math.h>
#include <string.h>

#include "compiler/cc.h"

#define OPS_MAX		80
#define VALUES_MAX	80

static const struct {
	const char *name;
	int inputs;
} kinds[OP_KINDS] = {
	[OP_EMBED] = { "embed", 0 },	[OP_ROPE_ROWS] = { "rope_rows", 0 },
	[OP_VECTORS] = { "vectors", 0 }, [OP_BIAS] = { "bias", 0 }, [OP_RMSNORM] = { "rmsnorm", 2 },
	[OP_HADAMARD] = { "hadamard", 1 }, [OP_QUANT] = { "quant", 1 },
	[OP_LINEAR] = { "linear", 1 },	[OP_ROPE] = { "rope", 2 },
	[OP_ATTENTION] = { "attention", 3 }, [OP_GATHER] = { "gather", 1 },
	[OP_SILU] = { "silu", 1 },	[OP_MUL] = { "mul", 2 },
	[OP_ADD] = { "add", 2 },	[OP_LOGITS] = { "logits", 1 },
	[OP_SAMPLE] = { "sample", 1 },
};

static struct value *value_new(struct plan *p, const char *name, enum value_type type,
			       enum rows rows, enum split split, uint32_t cols)
{
	struct value *v = arena(sizeof(*v));

	if (p->value_count == VALUES_MAX)
		die("graph: more than %d values", VALUES_MAX);
	v->name = name;
	v->type = type;
	v->rows = rows;
	v->split = split;
	v->cols = cols;
	v->first = -1;
	v->last = -1;
	p->values[p->value_count++] = v;
	return v;
}

static struct op *op_new(struct plan *p, enum op_kind kind, enum phase phase,
			 const char *name, struct value *a, struct value *b, struct value *out)
{
	struct op *op = arena(sizeof(*op));

	if (p->op_count == OPS_MAX)
		die("graph: more than %d operators", OPS_MAX);
	op->kind = kind;
	op->phase = phase;
	op->name = name;
	op->in[0] = a;
	op->in[1] = b;
	op->out = out;
	p->ops[p->op_count++] = op;
	return op;
}

static struct value *load_vector(struct plan *p, enum phase phase, const char *name,
				 uint32_t index)
{
	struct value *v = value_new(p, name, VALUE_F32, ROWS_ONE, SPLIT_NONE, p->config->hidden);

	op_new(p, OP_VECTORS, phase, name, NULL, NULL, v)->imm = index;
	return v;
}

/* Rotates, if the input of these matrices is rotated, and quantises. */
static struct value *quantise(struct plan *p, enum phase phase, const char *name,
			      struct value *v, enum flm_rotation rotation)
{
	uint32_t block = p->rotate[rotation];
	struct value *q;

	if (block) {
		struct value *r = value_new(p, arena_printf("%s.rotated", v->name), VALUE_F32,
					    v->rows, v->split, v->cols);

		r->is_full = v->is_full;
		r->block = block;
		op_new(p, OP_HADAMARD, phase, arena_printf("%s.hadamard", name), v, NULL,
		       r)->imm = block;
		v = r;
	}
	q = value_new(p, name, VALUE_Q8, v->rows, v->split, v->cols);
	q->block = block;
	q->is_full = v->split != SPLIT_NONE;
	op_new(p, OP_QUANT, phase, arena_printf("%s.quant", name), v, NULL, q)->imm = FLM_GROUP;
	return q;
}

static struct value *linear(struct plan *p, enum phase phase, const char *name,
			    struct value *in, enum matrix_id id, bool is_full)
{
	struct matrix *m = &p->matrix[id];
	struct value *v = value_new(p, name, VALUE_F32, in->rows, m->split, m->rows);
	struct value *bias = NULL;

	if (m->has_bias) {
		bias = value_new(p, arena_printf("%s.bias", name), VALUE_F32, ROWS_ONE, m->split,
				 m->rows);
		op_new(p, OP_BIAS, phase, bias->name, NULL, NULL, bias)->matrix = id;
	}
	v->is_full = is_full;
	op_new(p, OP_LINEAR, phase, name, in, bias, v)->matrix = id;
	return v;
}

static struct value *gather(struct plan *p, const char *name, struct value *part)
{
	struct value *v = value_new(p, arena_printf("%s.all", part->name), part->type, part->rows,
				    SPLIT_NONE, part->cols);

	v->block = part->block;
	op_new(p, OP_GATHER, PHASE_LAYER, name, part, NULL, v);
	return v;
}

static struct value *unary(struct plan *p, enum op_kind kind, const char *name, struct value *a,
			   struct value *b)
{
	struct value *v = value_new(p, name, VALUE_F32, a->rows, a->split, a->cols);

	op_new(p, kind, PHASE_LAYER, name, a, b, v);
	return v;
}

static struct value *rmsnorm(struct plan *p, enum phase phase, enum rows rows,
			     const char *name, struct value *x, struct value *weights)
{
	struct value *v = value_new(p, name, VALUE_F32, rows, SPLIT_NONE, x->cols);

	op_new(p, OP_RMSNORM, phase, name, x, weights, v);
	return v;
}

static struct value *layer_build(struct plan *p, struct value *x, struct value *rope)
{
	const struct checkpoint_config *c = p->config;
	struct value *norm1 = load_vector(p, PHASE_LAYER, "layer.input_layernorm", 0);
	struct value *norm2 = load_vector(p, PHASE_LAYER, "layer.post_attention_layernorm", 1);
	struct value *h, *a, *q, *k, *v, *o, *gate, *up;
	struct op *op;

	h = rmsnorm(p, PHASE_LAYER, ROWS_PASS, "layer.attention.norm", x, norm1);
	a = quantise(p, PHASE_LAYER, "layer.attention.input", h, FLM_ROTATE_QKV);
	q = linear(p, PHASE_LAYER, "layer.q_proj", a, M_Q, false);
	k = linear(p, PHASE_LAYER, "layer.k_proj", a, M_K, false);
	v = linear(p, PHASE_LAYER, "layer.v_proj", a, M_V, false);
	q = unary(p, OP_ROPE, "layer.q.rope", q, rope);
	k = unary(p, OP_ROPE, "layer.k.rope", k, rope);
	o = value_new(p, "layer.attention", VALUE_F32, ROWS_PASS, SPLIT_Q, c->heads * c->head_dim);
	o->is_full = true;
	op = op_new(p, OP_ATTENTION, PHASE_LAYER, "layer.attention", q, k, o);
	op->in[2] = v;
	o = gather(p, "layer.attention.gather", o);
	a = quantise(p, PHASE_LAYER, "layer.o_proj.input", o, FLM_ROTATE_O);
	o = linear(p, PHASE_LAYER, "layer.o_proj", a, M_O, true);
	o = gather(p, "layer.o_proj.gather", o);
	x = unary(p, OP_ADD, "layer.attention.add", x, o);

	h = rmsnorm(p, PHASE_LAYER, ROWS_PASS, "layer.mlp.norm", x, norm2);
	a = quantise(p, PHASE_LAYER, "layer.mlp.input", h, FLM_ROTATE_GATE_UP);
	gate = linear(p, PHASE_LAYER, "layer.gate_proj", a, M_GATE, false);
	gate = unary(p, OP_SILU, "layer.silu", gate, NULL);
	up = linear(p, PHASE_LAYER, "layer.up_proj", a, M_UP, false);
	gate = unary(p, OP_MUL, "layer.mul", gate, up);
	a = quantise(p, PHASE_LAYER, "layer.down_proj.input", gate, FLM_ROTATE_DOWN);
	a = gather(p, "layer.down_proj.input.gather", a);
	o = linear(p, PHASE_LAYER, "layer.down_proj", a, M_DOWN, true);
	o = gather(p, "layer.down_proj.gather", o);
	return unary(p, OP_ADD, "layer.mlp.add", x, o);
}

static void head_build(struct plan *p, enum phase phase, struct value *x)
{
	bool is_last = phase == PHASE_LAST;
	enum rows rows = is_last ? ROWS_LAST : ROWS_TILE;
	const char *part = is_last ? "sample" : "logits";
	struct value *v = load_vector(p, phase, arena_printf("%s.norm.weights", part), 2);

	v = rmsnorm(p, phase, rows, arena_printf("%s.norm", part), x, v);
	v = quantise(p, phase, arena_printf("%s.head.input", part), v, FLM_ROTATE_HEAD);
	v = linear(p, phase, arena_printf("%s.lm_head", part), v, M_HEAD, false);
	op_new(p, OP_LOGITS, phase, arena_printf("%s.store", part), v, NULL, NULL);
	if (is_last)
		op_new(p, OP_SAMPLE, phase, "sample.token", v, NULL, NULL);
}

/* Largest block of butterflies up to a group that divides the vector, 0 if none does. */
static uint32_t largest_block(uint32_t cols)
{
	for (uint32_t block = FLM_GROUP; block >= 16; block /= 2)
		if (cols % block == 0)
			return block;
	return 0;
}

#define ROTATION(name, number, text, meaning) [number] = text,
const char *const rotation_names[ROTATIONS] = {
#include <flightllm/names.def>
};

static void choose_rotations(struct plan *p)
{
	const struct checkpoint_config *c = p->config;
	const uint32_t cols[] = {
		c->hidden, c->heads * c->head_dim, c->hidden, c->ffn, c->hidden
	};

	for (int i = 0; i < ROTATIONS; i++) {
		uint32_t block = p->options->hadamard[i];

		if (block == HADAMARD_AUTO)
			block = largest_block(cols[i]);
		if (block && cols[i] % block)
			die("--hadamard %s=%u: %u columns are not a multiple of it; 0 is none",
			    rotation_names[i], block, cols[i]);
		/* The gated MLP output is rotated before it is gathered, in units of 64 rows. */
		if (i == FLM_ROTATE_DOWN && block > FLM_GROUP)
			die("--hadamard %s=%u: at most %u, the unit in which its rows are split",
			    rotation_names[i], block, FLM_GROUP);
		p->rotate[i] = block;
	}
}

static void matrix_set(struct plan *p, enum matrix_id id, const char *part, uint32_t rows,
		       uint32_t cols, enum split split, enum flm_rotation rotate)
{
	p->matrix[id] = (struct matrix) {
		.part = part, .rows = rows, .cols = cols, .split = split, .rotate = rotate,
	};
}

void graph_build(struct plan *p)
{
	const struct checkpoint_config *c = p->config;
	uint32_t q = c->heads * c->head_dim, kv = c->kv_heads * c->head_dim;
	struct value *x, *rope;
	float scale;

	stage_begin(p, STAGE_GRAPH);
	if (c->head_dim > FLM_DIM_MAX)
		die("head size %u: the card has at most %u; choose another model", c->head_dim,
		    FLM_DIM_MAX);
	p->heads_per_kv = c->heads / c->kv_heads;
	scale = 1 / sqrt(c->head_dim);
	memcpy(&p->softmax_scale, &scale, 4);
	p->ops = arena(OPS_MAX * sizeof(*p->ops));
	p->values = arena(VALUES_MAX * sizeof(*p->values));
	choose_rotations(p);
	matrix_set(p, M_Q, "self_attn.q_proj", q, c->hidden, SPLIT_Q, FLM_ROTATE_QKV);
	matrix_set(p, M_K, "self_attn.k_proj", kv, c->hidden, SPLIT_KV, FLM_ROTATE_QKV);
	matrix_set(p, M_V, "self_attn.v_proj", kv, c->hidden, SPLIT_KV, FLM_ROTATE_QKV);
	matrix_set(p, M_O, "self_attn.o_proj", c->hidden, q, SPLIT_HIDDEN, FLM_ROTATE_O);
	matrix_set(p, M_GATE, "mlp.gate_proj", c->ffn, c->hidden, SPLIT_FFN, FLM_ROTATE_GATE_UP);
	matrix_set(p, M_UP, "mlp.up_proj", c->ffn, c->hidden, SPLIT_FFN, FLM_ROTATE_GATE_UP);
	matrix_set(p, M_DOWN, "mlp.down_proj", c->hidden, c->ffn, SPLIT_HIDDEN, FLM_ROTATE_DOWN);
	matrix_set(p, M_HEAD, "lm_head", c->vocab, c->hidden, SPLIT_VOCAB, FLM_ROTATE_HEAD);
	for (int i = 0; i < CHECKPOINT_MATRICES; i++)
		p->matrix[i].has_bias = c->has_bias[i];

	x = value_new(p, "x", VALUE_F32, ROWS_PASS, SPLIT_NONE, c->hidden);
	op_new(p, OP_EMBED, PHASE_START, "embed", NULL, NULL, x);
	rope = value_new(p, "rope", VALUE_F32, ROWS_PASS, SPLIT_NONE, c->head_dim);
	op_new(p, OP_ROPE_ROWS, PHASE_START, "rope", NULL, NULL, rope);
	x = layer_build(p, x, rope);
	head_build(p, PHASE_ROWS, x);
	head_build(p, PHASE_LAST, x);
}

static void __attribute__((noreturn)) wrong(const struct op *op, const char *after,
					    const char *what)
{
	die("internal error after %s: %s: %s", after, op->name, what);
}

static void check_linear(const struct plan *p, const struct op *op, const char *after)
{
	const struct matrix *m = &p->matrix[op->matrix];

	if (op->in[0]->type != VALUE_Q8 || op->in[0]->split != SPLIT_NONE)
		wrong(op, after, "its input must be quantised and whole");
	if (op->in[0]->cols != m->cols || op->out->cols != m->rows || op->out->split != m->split)
		wrong(op, after, "input and output must have the matrix's columns and rows");
	if (m->has_bias != !!op->in[1] || (op->in[1] && op->in[1]->cols != m->rows))
		wrong(op, after, "a bias of the matrix's rows, where it has one");
	if (op->in[0]->block != p->rotate[m->rotate])
		wrong(op, after, "its input is rotated otherwise than its weights");
}

static void check_op(const struct plan *p, const struct op *op, const char *after)
{
	struct value *a = op->in[0], *b = op->in[1], *out = op->out;
	bool same = a && out && a->cols == out->cols && a->split == out->split;

	for (int i = 0; i < kinds[op->kind].inputs; i++)
		if (!op->in[i])
			wrong(op, after, "an input is missing");
	switch (op->kind) {
	case OP_LINEAR:
		check_linear(p, op, after);
		return;
	case OP_RMSNORM:
		if (!same || a->split != SPLIT_NONE || b->rows != ROWS_ONE || b->cols != a->cols)
			wrong(op, after, "a norm needs whole vectors and weights of their length");
		return;
	case OP_HADAMARD:
		if (!same || a->type != VALUE_F32 || a->cols % op->imm || out->block != op->imm)
			wrong(op, after, "the block must divide the vector");
		return;
	case OP_QUANT:
		if (!same || a->type != VALUE_F32 || out->type != VALUE_Q8)
			wrong(op, after, "float32 in, int8 of the same shape out");
		return;
	case OP_ROPE:
		if (!same || a->cols % b->cols)
			wrong(op, after, "whole heads of the table's length");
		return;
	case OP_ATTENTION:
		if (a->split != SPLIT_Q || b->split != SPLIT_KV || op->in[2]->split != SPLIT_KV ||
		    a->cols != b->cols * p->heads_per_kv || b->cols != op->in[2]->cols ||
		    out->cols != a->cols)
			wrong(op, after, "queries are whole groups of heads for each key head");
		return;
	case OP_GATHER:
		if (a->split == SPLIT_NONE || out->split != SPLIT_NONE || !a->is_full ||
		    a->cols != out->cols || a->type != out->type)
			wrong(op, after, "a part at its place in, the whole out");
		return;
	case OP_ADD:
	case OP_MUL:
		if (!same || b->cols != a->cols || b->split != a->split || b->rows != a->rows)
			wrong(op, after, "operands of one shape");
		return;
	case OP_SILU:
		if (!same)
			wrong(op, after, "input and output of one shape");
		return;
	case OP_LOGITS:
	case OP_SAMPLE:
		if (a->split != SPLIT_VOCAB || a->type != VALUE_F32)
			wrong(op, after, "logits of this core's part of the vocabulary");
		return;
	default:
		return;
	}
}

void graph_check(const struct plan *p, const char *after)
{
	for (int i = 0; i < p->op_count; i++)
		check_op(p, p->ops[i], after);
	for (int i = 0; i < p->value_count; i++) {
		const struct value *v = p->values[i];
		const struct value *home = v->alias;

		if (home && (home->cols != v->cols || home->split != v->split) &&
		    !(home->is_full && home->cols == v->cols))
			die("internal error after %s: %s cannot lie in %s", after, v->name,
			    home->name);
	}
}
