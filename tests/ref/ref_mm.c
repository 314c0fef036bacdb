// SPDX-License-Identifier: MIT
/*
 * What MM and MV do: a weight tile on chip becomes a plain matrix of integers, and the sums are
 * taken as SPEC.md writes them. MM and MV differ in their operands' places only, so each fills the
 * same structure and each operation is written once.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_ops.h"

/* A tile with every column in its place. */
struct tile {
	uint32_t columns;
	uint32_t groups;
	int value[16][FLM_TILE_COLS];
	float scale[FLM_TILE_COLS / FLM_GROUP][16];
};

static int value_of(int width, int code)
{
	return width == 2 ? 2 * code - 3 : code - (1 << (width - 1));
}

/* Code i of vector q of a dense group of c columns that starts at `at`. */
static int dense_code(const uint8_t *at, int width, int c, int q, int i)
{
	int code;

	switch (width) {
	case 8:
		return at[64 * q + i];
	case 4:
		return at[64 * (q / 2) + i] >> 4 * (q % 2) & 15;
	case 2:
		return at[64 * (q / 4) + i] >> 2 * (q % 4) & 3;
	case 3:
		code = dense_code(at, 2, c, q, i);
		at += 2 * 2 * c;
		return code | (at[8 * q + i / 8] >> i % 8 & 1) << 2;
	default:
		code = dense_code(at, 4, c, q, i);
		at += 2 * 4 * c;
		return code | (at[8 * q + i / 8] >> i % 8 & 1) << 4;
	}
}

static void decode_dense(const struct ref_strip *s, const uint8_t *codes, struct tile *tile)
{
	uint32_t first;
	int c, q, i;

	for (first = 0; first < tile->columns; first += 64) {
		c = tile->columns - first < 64 ? tile->columns - first : 64;
		for (q = 0; q < c / 4; q++) {
			for (i = 0; i < 64; i++)
				tile->value[i / 4][first + 4 * q + i % 4] =
					value_of(s->width, dense_code(codes, s->width, c, q, i));
		}
		codes += 2 * s->width * c;
	}
}

/* Code p of the 16 n codes of a sparse block. */
static int sparse_code(const uint8_t *at, int width, int n, int p)
{
	int code;

	switch (width) {
	case 8:
		return at[p];
	case 4:
		return at[p % (8 * n)] >> 4 * (p / (8 * n)) & 15;
	case 2:
		return at[p % (4 * n)] >> 2 * (p / (4 * n)) & 3;
	case 3:
		code = sparse_code(at, 2, n, p);
		at += 2 * n * 2;
		return code | (at[p / 8] >> p % 8 & 1) << 2;
	default:
		code = sparse_code(at, 4, n, p);
		at += 2 * n * 4;
		return code | (at[p / 8] >> p % 8 & 1) << 4;
	}
}

static int decode_sparse(const struct ref_strip *s, const uint8_t *codes, const uint8_t *n,
			 const uint8_t *masks, struct tile *tile)
{
	static const uint8_t all[32] = {
		255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
		255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255,
	};
	const uint8_t *mask;
	int bit, p, row, column, kept[16];
	uint32_t b;

	for (b = 0; b < s->blocks; b++) {
		if (!n[b])
			continue;
		mask = n[b] == 16 ? all : masks;
		memset(kept, 0, sizeof(kept));
		for (bit = 0, p = 0; bit < 256; bit++) {
			if (!(mask[bit / 8] >> bit % 8 & 1))
				continue;
			/* bit 64 j + 16 k + c: row j + 4 k, column c */
			row = bit / 64 + 4 * (bit % 64 / 16);
			column = bit % 16;
			if (++kept[row] > n[b])
				return FLM_FAULT_FORMAT;
			tile->value[row][16 * b + column] =
				value_of(s->width, sparse_code(codes, s->width, n[b], p++));
		}
		if (p != 16 * n[b])
			return FLM_FAULT_FORMAT;
		if (n[b] != 16)
			masks += 32;
		codes += 2 * n[b] * s->width;
	}
	return FLM_FAULT_NONE;
}

/* Operands of MM's and MV's three operations, so that each is written once. */
struct linear {
	uint32_t segment;
	uint64_t table, row, step, strips;
	struct ref_value w, idx;
	uint64_t w_pitch, idx_pitch;
	struct ref_value a, a_scales, out, factor_at, bias_at;
	uint64_t a_pitch, a_scale_pitch, out_pitch, tokens;
	bool is_first, has_factor, has_bias;
};

static int read_tile(struct ref_insn *in, const struct linear *l, uint64_t i, struct tile *tile)
{
	uint8_t *codes, *scales, *n = NULL, *masks = NULL;
	uint64_t code_bytes, mask_bytes;
	uint32_t g, r;
	struct ref_strip s;
	int ret;

	memset(tile, 0, sizeof(*tile));
	ret = ref_read_strip(in, l->segment, l->table, l->row + i * l->step, &s);
	if (ret)
		return ret;
	if (s.is_sparse && l->idx.buffer != FLM_BUFFER_IDX)
		return FLM_FAULT_BUFFER;
	if (s.is_sparse) {
		ret = ref_chip(in, l->idx, i * l->idx_pitch, s.blocks, 64, &n);
		if (ret)
			return ret;
	}
	ret = ref_part_bytes(&s, n, &code_bytes, &mask_bytes);
	if (ret)
		return ret;
	if (ref_pad64(code_bytes) + ref_pad64(ref_scale_bytes(&s)) > l->w_pitch)
		return FLM_FAULT_FORMAT;
	if (s.is_sparse && ref_pad64(s.blocks) + ref_pad64(mask_bytes) > l->idx_pitch)
		return FLM_FAULT_FORMAT;
	ret = ref_chip(in, l->w, i * l->w_pitch, code_bytes, 64, &codes);
	if (!ret)
		ret = ref_chip(in, l->w, i * l->w_pitch + ref_pad64(code_bytes),
			       ref_scale_bytes(&s), 64, &scales);
	if (!ret && s.is_sparse)
		ret = ref_chip(in, l->idx, i * l->idx_pitch + ref_pad64(s.blocks), mask_bytes, 64,
			       &masks);
	if (ret)
		return ret;
	tile->columns = 16 * s.blocks;
	tile->groups = (s.blocks + 3) / 4;
	for (g = 0; g < tile->groups; g++) {
		for (r = 0; r < 16; r++) {
			const uint8_t *at = scales + 32 * g + 2 * r;

			tile->scale[g][r] = ref_isa_half(at[0] | at[1] << 8);
		}
	}
	if (s.is_sparse)
		return decode_sparse(&s, codes, n, masks, tile);
	decode_dense(&s, codes, tile);
	return FLM_FAULT_NONE;
}

/* MM and MV */

static int linear_strip(struct ref_insn *in, const struct linear *l, uint64_t s,
			const struct tile *tile)
{
	uint8_t *a, *a_scales, *out, *factor = NULL, *bias = NULL;
	uint32_t g, c;
	uint64_t t;
	int r, ret;

	ret = ref_chip_rows(in, l->a, l->tokens, l->a_pitch, tile->columns, 1);
	if (!ret)
		ret = ref_chip_rows(in, l->a_scales, l->tokens, l->a_scale_pitch, 4 * tile->groups,
				    4);
	if (!ret) {
		struct ref_value out = { l->out.buffer, l->out.value + 64 * s };

		ret = ref_chip_rows(in, out, l->tokens, l->out_pitch, 64, 4);
	}
	if (ret)
		return ret;
	for (t = 0; t < l->tokens; t++) {
		ret = ref_chip(in, l->a, t * l->a_pitch, tile->columns, 1, &a);
		if (!ret)
			ret = ref_chip(in, l->a_scales, t * l->a_scale_pitch, 4 * tile->groups, 4,
				       &a_scales);
		if (!ret && l->has_factor)
			ret = ref_chip(in, l->factor_at, 0, 4, 4, &factor);
		if (!ret && l->has_bias)
			ret = ref_chip(in, l->bias_at, 64 * s, 64, 4, &bias);
		if (!ret)
			ret = ref_chip(in, l->out, t * l->out_pitch + 64 * s, 64, 4, &out);
		if (ret)
			return ret;
		for (r = 0; r < 16; r++) {
			float acc = l->is_first ? 0 : ref_get_float(out + 4 * r);

			for (g = 0; g < tile->groups; g++) {
				int sum = 0;

				for (c = 64 * g; c < 64 * g + 64 && c < tile->columns; c++)
					sum += (int8_t)a[c] * tile->value[r][c];
				acc = acc + ((float)sum * tile->scale[g][r]) *
						    ref_get_float(a_scales + 4 * g);
			}
			if (l->has_factor)
				acc = acc * ref_get_float(factor);
			if (l->has_bias)
				acc = acc + ref_get_float(bias + 4 * r);
			ref_put_float(out + 4 * r, acc);
		}
	}
	return FLM_FAULT_NONE;
}

static int linear(struct ref_insn *in, const struct linear *l)
{
	struct tile *tile = malloc(sizeof(*tile));
	int ret = FLM_FAULT_NONE;
	uint64_t s;

	if (!tile)
		abort();
	if (l->table % 32)
		ret = FLM_FAULT_BOUND;
	else if (l->w.buffer != FLM_BUFFER_WGT)
		ret = FLM_FAULT_BUFFER;
	for (s = 0; s < l->strips && !ret; s++) {
		ret = read_tile(in, l, s, tile);
		if (!ret)
			ret = linear_strip(in, l, s, tile);
	}
	free(tile);
	return ret;
}

static int mm_linear(struct ref_insn *in)
{
	struct linear l = {
		.segment = FIELD(in, MM_LINEAR, SEG),
		.table = VALUE(in, MM_LINEAR, TABLE),
		.row = VALUE(in, MM_LINEAR, ROW),
		.step = FIELD(in, MM_LINEAR, STEP),
		.strips = VALUE(in, MM_LINEAR, STRIPS),
		.w = PLACE(in, MM_LINEAR, W),
		.w_pitch = FIELD(in, MM_LINEAR, W_PITCH),
		.idx = PLACE(in, MM_LINEAR, IDX),
		.idx_pitch = FIELD(in, MM_LINEAR, IDX_PITCH),
		.a = PLACE(in, MM_LINEAR, A),
		.a_pitch = FIELD(in, MM_LINEAR, A_PITCH),
		.a_scales = PLACE(in, MM_LINEAR, A_SCALES),
		.a_scale_pitch = FIELD(in, MM_LINEAR, A_SCALE_PITCH),
		.tokens = VALUE(in, MM_LINEAR, TOKENS),
		.out = PLACE(in, MM_LINEAR, OUT),
		.out_pitch = FIELD(in, MM_LINEAR, OUT_PITCH),
		.factor_at = PLACE(in, MM_LINEAR, FACTOR_AT),
		.bias_at = PLACE(in, MM_LINEAR, BIAS_AT),
		.is_first = in->flags & FLM_MM_LINEAR_FIRST,
		.has_factor = in->flags & FLM_MM_LINEAR_FACTOR,
		.has_bias = in->flags & FLM_MM_LINEAR_BIAS,
	};

	return linear(in, &l);
}

static int mv_linear(struct ref_insn *in)
{
	struct linear l = {
		.segment = FIELD(in, MV_LINEAR, SEG),
		.table = VALUE(in, MV_LINEAR, TABLE),
		.row = VALUE(in, MV_LINEAR, ROW),
		.step = FIELD(in, MV_LINEAR, STEP),
		.strips = VALUE(in, MV_LINEAR, STRIPS),
		.w = PLACE(in, MV_LINEAR, W),
		.w_pitch = FIELD(in, MV_LINEAR, W_PITCH),
		.idx = PLACE(in, MV_LINEAR, IDX),
		.idx_pitch = FIELD(in, MV_LINEAR, IDX_PITCH),
		.a = PLACE(in, MV_LINEAR, A),
		.a_scales = PLACE(in, MV_LINEAR, A_SCALES),
		.tokens = 1,
		.out = PLACE(in, MV_LINEAR, OUT),
		.factor_at = PLACE(in, MV_LINEAR, FACTOR_AT),
		.bias_at = PLACE(in, MV_LINEAR, BIAS_AT),
		.is_first = in->flags & FLM_MV_LINEAR_FIRST,
		.has_factor = in->flags & FLM_MV_LINEAR_FACTOR,
		.has_bias = in->flags & FLM_MV_LINEAR_BIAS,
	};

	return linear(in, &l);
}

struct attention {
	struct ref_value a, a_scales, b, b_scales, out, masks;
	uint64_t a_pitch, a_scale_pitch, b_pitch, b_scale_pitch, out_pitch, mask_pitch;
	uint64_t dim, positions, tokens, query, key;
	bool has_mask, is_first;
};

static int qk_one(struct ref_insn *in, const struct attention *k, uint64_t t, uint64_t p,
		  float *acc)
{
	uint64_t groups = (k->dim + 63) / 64, g, d;
	uint8_t *a, *a_scales, *b, *b_scales;
	bool kept = true;
	int ret = FLM_FAULT_NONE, sum;

	*acc = 0;
	if (k->has_mask)
		ret = ref_is_kept(in, k->masks, k->mask_pitch, (k->query + t) / 64,
				  (k->key + p) / 64, &kept);
	if (ret || !kept)
		return ret;
	ret = ref_chip(in, k->a, t * k->a_pitch, k->dim, 1, &a);
	if (!ret)
		ret = ref_chip(in, k->a_scales, t * k->a_scale_pitch, 4 * groups, 4, &a_scales);
	if (!ret)
		ret = ref_chip(in, k->b, p * k->b_pitch, k->dim, 1, &b);
	if (!ret)
		ret = ref_chip(in, k->b_scales, p * k->b_scale_pitch, 4 * groups, 4, &b_scales);
	if (ret)
		return ret;
	for (g = 0; g < groups; g++) {
		sum = 0;
		for (d = 64 * g; d < 64 * g + 64 && d < k->dim; d++)
			sum += (int8_t)a[d] * (int8_t)b[d];
		*acc = *acc + ((float)sum * ref_get_float(b_scales + 4 * g)) *
				      ref_get_float(a_scales + 4 * g);
	}
	return FLM_FAULT_NONE;
}

static int check_masks(struct ref_insn *in, const struct attention *k)
{
	if (!k->has_mask)
		return FLM_FAULT_NONE;
	return ref_chip_mask(in, k->masks, k->mask_pitch, k->query / 64,
			     (k->query + k->tokens - 1) / 64, k->key / 64,
			     (k->key + k->positions - 1) / 64);
}

static int check_qk(struct ref_insn *in, const struct attention *k)
{
	uint64_t scale_bytes = 4 * ((k->dim + 63) / 64);
	int ret;

	ret = ref_chip_rows(in, k->a, k->tokens, k->a_pitch, k->dim, 1);
	if (!ret)
		ret = ref_chip_rows(in, k->a_scales, k->tokens, k->a_scale_pitch, scale_bytes, 4);
	if (!ret)
		ret = ref_chip_rows(in, k->b, k->positions, k->b_pitch, k->dim, 1);
	if (!ret)
		ret = ref_chip_rows(in, k->b_scales, k->positions, k->b_scale_pitch, scale_bytes,
				    4);
	if (!ret)
		ret = ref_chip_rows(in, k->out, k->tokens, k->out_pitch, 4 * k->positions, 4);
	return ret ? ret : check_masks(in, k);
}

static int qk(struct ref_insn *in, const struct attention *k)
{
	uint64_t t, p;
	uint8_t *out;
	float acc;
	int ret;

	ret = check_qk(in, k);
	if (ret)
		return ret;
	for (t = 0; t < k->tokens; t++) {
		for (p = 0; p < k->positions; p++) {
			ret = qk_one(in, k, t, p, &acc);
			if (!ret)
				ret = ref_chip(in, k->out, t * k->out_pitch + 4 * p, 4, 4, &out);
			if (ret)
				return ret;
			ref_put_float(out, acc);
		}
	}
	return FLM_FAULT_NONE;
}

static int mm_qk(struct ref_insn *in)
{
	struct attention k = {
		.a = PLACE(in, MM_QK, A),
		.a_pitch = FIELD(in, MM_QK, A_PITCH),
		.a_scales = PLACE(in, MM_QK, A_SCALES),
		.a_scale_pitch = FIELD(in, MM_QK, A_SCALE_PITCH),
		.b = PLACE(in, MM_QK, B),
		.b_pitch = FIELD(in, MM_QK, B_PITCH),
		.b_scales = PLACE(in, MM_QK, B_SCALES),
		.b_scale_pitch = FIELD(in, MM_QK, B_SCALE_PITCH),
		.dim = FIELD(in, MM_QK, DIM),
		.positions = VALUE(in, MM_QK, POSITIONS),
		.tokens = VALUE(in, MM_QK, TOKENS),
		.out = PLACE(in, MM_QK, OUT),
		.out_pitch = FIELD(in, MM_QK, OUT_PITCH),
		.masks = PLACE(in, MM_QK, MASKS),
		.mask_pitch = FIELD(in, MM_QK, MASK_PITCH),
		.query = VALUE(in, MM_QK, QUERY),
		.key = VALUE(in, MM_QK, KEY),
		.has_mask = in->flags & FLM_MM_QK_MASK,
	};

	return qk(in, &k);
}

static int mv_qk(struct ref_insn *in)
{
	struct attention k = {
		.a = PLACE(in, MV_QK, A),
		.a_scales = PLACE(in, MV_QK, A_SCALES),
		.b = PLACE(in, MV_QK, B),
		.b_pitch = FIELD(in, MV_QK, B_PITCH),
		.b_scales = PLACE(in, MV_QK, B_SCALES),
		.b_scale_pitch = FIELD(in, MV_QK, B_SCALE_PITCH),
		.dim = FIELD(in, MV_QK, DIM),
		.positions = VALUE(in, MV_QK, POSITIONS),
		.tokens = 1,
		.out = PLACE(in, MV_QK, OUT),
		.masks = PLACE(in, MV_QK, MASKS),
		.mask_pitch = FIELD(in, MV_QK, MASK_PITCH),
		.query = VALUE(in, MV_QK, QUERY),
		.key = VALUE(in, MV_QK, KEY),
		.has_mask = in->flags & FLM_MV_QK_MASK,
	};

	return qk(in, &k);
}

static int pv_one(struct ref_insn *in, const struct attention *v, uint64_t t, uint64_t d,
		  float *acc)
{
	uint64_t groups = (v->positions + 63) / 64, g, p;
	uint8_t *a, *a_scale, *b;
	bool kept = true;
	int ret = FLM_FAULT_NONE, sum;

	for (g = 0; g < groups; g++) {
		if (v->has_mask)
			ret = ref_is_kept(in, v->masks, v->mask_pitch, (v->query + t) / 64,
					  v->key / 64 + g, &kept);
		if (ret)
			return ret;
		if (!kept)
			continue;
		sum = 0;
		for (p = 64 * g; p < 64 * g + 64 && p < v->positions; p++) {
			ret = ref_chip(in, v->a, t * v->a_pitch + p, 1, 1, &a);
			if (!ret)
				ret = ref_chip(in, v->b, p * v->b_pitch + d, 1, 1, &b);
			if (ret)
				return ret;
			sum += (int8_t)*a * (int8_t)*b;
		}
		ret = ref_chip(in, v->a_scales, t * v->a_scale_pitch + 4 * g, 4, 4, &a_scale);
		if (ret)
			return ret;
		*acc = *acc + (float)sum * ref_get_float(a_scale);
	}
	return FLM_FAULT_NONE;
}

static int check_pv(struct ref_insn *in, const struct attention *v)
{
	int ret;

	ret = ref_chip_rows(in, v->a, v->tokens, v->a_pitch, v->positions, 1);
	if (!ret)
		ret = ref_chip_rows(in, v->a_scales, v->tokens, v->a_scale_pitch,
				    4 * ((v->positions + 63) / 64), 4);
	if (!ret)
		ret = ref_chip_rows(in, v->b, v->positions, v->b_pitch, v->dim, 1);
	if (!ret)
		ret = ref_chip_rows(in, v->out, v->tokens, v->out_pitch, 4 * v->dim, 4);
	return ret ? ret : check_masks(in, v);
}

static int pv(struct ref_insn *in, const struct attention *v)
{
	uint64_t t, d;
	uint8_t *out;
	float acc;
	int ret;

	if (v->has_mask && v->key % 64)
		return FLM_FAULT_BOUND;
	ret = check_pv(in, v);
	if (ret)
		return ret;
	for (t = 0; t < v->tokens; t++) {
		for (d = 0; d < v->dim; d++) {
			ret = ref_chip(in, v->out, t * v->out_pitch + 4 * d, 4, 4, &out);
			if (ret)
				return ret;
			acc = v->is_first ? 0 : ref_get_float(out);
			ret = pv_one(in, v, t, d, &acc);
			if (ret)
				return ret;
			ref_put_float(out, acc);
		}
	}
	return FLM_FAULT_NONE;
}

static int mm_pv(struct ref_insn *in)
{
	struct attention v = {
		.a = PLACE(in, MM_PV, A),
		.a_pitch = FIELD(in, MM_PV, A_PITCH),
		.a_scales = PLACE(in, MM_PV, A_SCALES),
		.a_scale_pitch = FIELD(in, MM_PV, A_SCALE_PITCH),
		.b = PLACE(in, MM_PV, B),
		.b_pitch = FIELD(in, MM_PV, B_PITCH),
		.dim = FIELD(in, MM_PV, DIM),
		.positions = VALUE(in, MM_PV, POSITIONS),
		.tokens = VALUE(in, MM_PV, TOKENS),
		.out = PLACE(in, MM_PV, OUT),
		.out_pitch = FIELD(in, MM_PV, OUT_PITCH),
		.masks = PLACE(in, MM_PV, MASKS),
		.mask_pitch = FIELD(in, MM_PV, MASK_PITCH),
		.query = VALUE(in, MM_PV, QUERY),
		.key = VALUE(in, MM_PV, KEY),
		.has_mask = in->flags & FLM_MM_PV_MASK,
		.is_first = in->flags & FLM_MM_PV_FIRST,
	};

	return pv(in, &v);
}

static int mv_pv(struct ref_insn *in)
{
	struct attention v = {
		.a = PLACE(in, MV_PV, A),
		.a_scales = PLACE(in, MV_PV, A_SCALES),
		.b = PLACE(in, MV_PV, B),
		.b_pitch = FIELD(in, MV_PV, B_PITCH),
		.dim = FIELD(in, MV_PV, DIM),
		.positions = VALUE(in, MV_PV, POSITIONS),
		.tokens = 1,
		.out = PLACE(in, MV_PV, OUT),
		.masks = PLACE(in, MV_PV, MASKS),
		.mask_pitch = FIELD(in, MV_PV, MASK_PITCH),
		.query = VALUE(in, MV_PV, QUERY),
		.key = VALUE(in, MV_PV, KEY),
		.has_mask = in->flags & FLM_MV_PV_MASK,
		.is_first = in->flags & FLM_MV_PV_FIRST,
	};

	return pv(in, &v);
}

int ref_ops_matrix(struct ref_insn *in)
{
	switch (in->insn) {
	case FLM_INSN_MM_LINEAR:
		return mm_linear(in);
	case FLM_INSN_MM_QK:
		return mm_qk(in);
	case FLM_INSN_MM_PV:
		return mm_pv(in);
	case FLM_INSN_MV_LINEAR:
		return mv_linear(in);
	case FLM_INSN_MV_QK:
		return mv_qk(in);
	default:
		return mv_pv(in);
	}
}
