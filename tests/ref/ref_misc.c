// SPDX-License-Identifier: MIT
/*
 * Numbers, MISC, sampling and the exchanges between cores, in the order of SPEC.md. A row is read
 * into plain arrays, worked on, and written; a NaN becomes 0x7fc00000 where ref_put_float() writes.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_ops.h"

/* Numbers */

float ref_isa_bits(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

float ref_isa_half(uint16_t half)
{
	uint32_t sign = (uint32_t)(half >> 15) << 31;
	uint32_t exponent = half >> 10 & 31;
	uint32_t fraction = half & 1023;
	float x;

	if (exponent == 31)
		return ref_isa_bits(sign | 0x7f800000 | fraction << 13);
	if (exponent)
		return ref_isa_bits(sign | (exponent + 112) << 23 | fraction << 13);
	x = (float)fraction * 0x1p-24f;
	return sign ? -x : x;
}

float ref_isa_sum(const float *x, uint32_t n)
{
	float lane[16] = { 0 };
	uint32_t i, h;

	for (i = 0; i < n; i++)
		lane[i % 16] = lane[i % 16] + x[i];
	for (h = 8; h; h /= 2) {
		for (i = 0; i < h; i++)
			lane[i] = lane[i] + lane[i + h];
	}
	return lane[0];
}

static float power_of_two(int n)
{
	return ref_isa_bits((uint32_t)(n + 127) << 23);
}

float ref_isa_exp(float x)
{
	static const uint32_t c[] = { 0x3ab60b61, 0x3c088889, 0x3d2aaaab, 0x3e2aaaab, 0x3f000000 };
	float n, r, p, y, n1;
	int i;

	if (isnan(x))
		return x;
	if (x > ref_isa_bits(0x42b17217))
		return INFINITY;
	if (x < ref_isa_bits(0xc2cff1b4))
		return 0;
	n = rintf(x * ref_isa_bits(0x3fb8aa3b));
	r = (x - n * ref_isa_bits(0x3f318000)) - n * ref_isa_bits(0xb95e8083);
	p = ref_isa_bits(0x39500d01);
	for (i = 0; i < 5; i++)
		p = p * r + ref_isa_bits(c[i]);
	y = ((p * r) * r + r) + 1;
	n1 = floorf(n / 2);
	return (y * power_of_two((int)n1)) * power_of_two((int)(n - n1));
}

float ref_isa_sigmoid(float x)
{
	float e = ref_isa_exp(-fabsf(x));

	if (isnan(x))
		return x;
	return x >= 0 ? 1 / (1 + e) : e / (1 + e);
}

void ref_isa_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
	uint32_t c[4] = { counter[0], counter[1], counter[2], counter[3] };
	uint32_t k[2] = { key[0], key[1] };
	int round;

	for (round = 0; round < 10; round++) {
		uint64_t p0 = (uint64_t)0xd2511f53 * c[0];
		uint64_t p1 = (uint64_t)0xcd9e8d57 * c[2];
		uint32_t next[4] = {
			(uint32_t)(p1 >> 32) ^ c[1] ^ k[0], (uint32_t)p1,
			(uint32_t)(p0 >> 32) ^ c[3] ^ k[1], (uint32_t)p0,
		};

		memcpy(c, next, sizeof(c));
		k[0] += 0x9e3779b9;
		k[1] += 0xbb67ae85;
	}
	memcpy(out, c, sizeof(c));
}

/* Chapter Sampling, numbered as there. */
uint32_t ref_isa_choose(const struct ref_candidate *candidates, uint32_t count,
			const struct ref_sampler *sampler, uint64_t position)
{
	uint32_t counter[4] = { (uint32_t)position }, x[4], kept = count, i;
	uint32_t key[2] = { (uint32_t)sampler->seed, (uint32_t)(sampler->seed >> 32) };
	float e[FLM_TOPK_MAX], sum = 0, a, v;

	if (!count)
		return 0;
	if (!(sampler->temperature > 0))
		return candidates[0].id;
	if (sampler->top_k > 0 && sampler->top_k < kept)		/* 1 */
		kept = sampler->top_k;
	for (i = 0; i < kept; i++) {					/* 2 */
		e[i] = ref_isa_exp((candidates[i].logit - candidates[0].logit) /
				   sampler->temperature);
		sum = sum + e[i];
	}
	if (sampler->top_p > 0 && sampler->top_p < 1) {			/* 3 */
		a = 0;
		for (i = 0; i < kept; i++) {
			a = a + e[i] / sum;
			if (a >= sampler->top_p)
				kept = i + 1;
		}
	}
	if (sampler->min_p > 0) {					/* 4 */
		for (i = 1; i < kept && e[i] >= sampler->min_p; i++)
			;
		kept = i;
	}
	sum = 0;							/* 5 */
	for (i = 0; i < kept; i++)
		sum = sum + e[i];
	ref_isa_philox(counter, key, x);
	v = ((float)(x[0] >> 8) * 0x1p-24f) * sum;
	a = 0;
	for (i = 0; i < kept; i++) {
		a = a + e[i];
		if (a > v)
			return candidates[i].id;
	}
	return candidates[kept - 1].id;
}

/* MISC */

/* Arrays of one row, COLS long. */
struct row {
	uint32_t cols;
	float *a, *b, *c, *out;
};

static int get_row(struct ref_insn *in, struct ref_value place, uint32_t pitch, uint64_t r,
		   uint64_t n, float *x)
{
	uint8_t *at;
	uint64_t i;
	int ret;

	ret = ref_chip(in, place, r * pitch, 4 * n, 4, &at);
	for (i = 0; i < n && !ret; i++)
		x[i] = ref_get_float(at + 4 * i);
	return ret;
}

static int get_a(struct ref_insn *in, uint64_t r, struct row *row)
{
	return get_row(in, PLACE(in, MISC, A), FIELD(in, MISC, A_PITCH), r, row->cols, row->a);
}

static int get_b(struct ref_insn *in, uint64_t r, uint64_t n, struct row *row)
{
	return get_row(in, PLACE(in, MISC, B), FIELD(in, MISC, B_PITCH), r, n, row->b);
}

static int put_out(struct ref_insn *in, uint64_t r, const struct row *row)
{
	uint8_t *at;
	uint32_t i;
	int ret;

	ret = ref_chip(in, PLACE(in, MISC, OUT), r * FIELD(in, MISC, OUT_PITCH),
		       4 * (uint64_t)row->cols, 4, &at);
	for (i = 0; i < row->cols && !ret; i++)
		ref_put_float(at + 4 * i, row->out[i]);
	return ret;
}

static float imm_float(const struct ref_insn *in)
{
	return ref_isa_bits(FIELD(in, MISC, IMM));
}

/* copy and fill move bits: a NaN keeps its payload. */
static int do_bits(struct ref_insn *in, uint64_t r, struct row *row)
{
	uint64_t bytes = 4 * (uint64_t)row->cols, i;
	uint8_t *from, *to;
	int ret;

	if (in->mode == FLM_MISC_COPY) {
		ret = ref_chip(in, PLACE(in, MISC, A), r * FIELD(in, MISC, A_PITCH), bytes, 4,
			       &from);
		if (ret)
			return ret;
	}
	ret = ref_chip(in, PLACE(in, MISC, OUT), r * FIELD(in, MISC, OUT_PITCH), bytes, 4, &to);
	if (ret)
		return ret;
	if (in->mode == FLM_MISC_COPY) {
		memmove(to, from, bytes);
		return FLM_FAULT_NONE;
	}
	for (i = 0; i < row->cols; i++)
		ref_put32(to + 4 * i, FIELD(in, MISC, IMM));
	return FLM_FAULT_NONE;
}

static float element(uint32_t mode, float a, float b, float imm)
{
	float t;

	switch (mode) {
	case FLM_MISC_ADD:
		return a + b;
	case FLM_MISC_MUL:
		return a * b;
	case FLM_MISC_SCALE:
		return a * imm;
	case FLM_MISC_RELU:
		return isnan(a) ? a : a > 0 ? a : 0;
	case FLM_MISC_SILU:
		return a * ref_isa_sigmoid(a);
	default:	/* gelu */
		t = (a * ref_isa_bits(0x3fcc422a)) * (1 + ref_isa_bits(0x3d372713) * (a * a));
		return a * ref_isa_sigmoid(t);
	}
}

static int do_elements(struct ref_insn *in, uint64_t r, struct row *row)
{
	uint32_t c;
	int ret;

	ret = get_a(in, r, row);
	if (!ret && (in->mode == FLM_MISC_ADD || in->mode == FLM_MISC_MUL))
		ret = get_b(in, r, row->cols, row);
	if (ret)
		return ret;
	for (c = 0; c < row->cols; c++)
		row->out[c] = element(in->mode, row->a[c], row->b[c], imm_float(in));
	return put_out(in, r, row);
}

static int do_rmsnorm(struct ref_insn *in, uint64_t r, struct row *row)
{
	float m, s;
	uint32_t c;
	int ret;

	ret = get_a(in, r, row);
	if (!ret)
		ret = get_b(in, r, row->cols, row);
	if (ret)
		return ret;
	for (c = 0; c < row->cols; c++)
		row->out[c] = row->a[c] * row->a[c];
	m = ref_isa_sum(row->out, row->cols) / (float)row->cols;
	s = 1 / sqrtf(m + imm_float(in));
	for (c = 0; c < row->cols; c++)
		row->out[c] = (row->a[c] * s) * row->b[c];
	return put_out(in, r, row);
}

static int do_layernorm(struct ref_insn *in, uint64_t r, struct row *row)
{
	float u, v, s;
	uint32_t c;
	int ret;

	ret = get_a(in, r, row);
	if (!ret)
		ret = get_b(in, r, row->cols, row);
	if (!ret)
		ret = get_row(in, PLACE(in, MISC, C), 0, 0, row->cols, row->c);
	if (ret)
		return ret;
	u = ref_isa_sum(row->a, row->cols) / (float)row->cols;
	for (c = 0; c < row->cols; c++)
		row->a[c] = row->a[c] - u;
	for (c = 0; c < row->cols; c++)
		row->out[c] = row->a[c] * row->a[c];
	v = ref_isa_sum(row->out, row->cols) / (float)row->cols;
	s = 1 / sqrtf(v + imm_float(in));
	for (c = 0; c < row->cols; c++)
		row->out[c] = ((row->a[c] * s) * row->b[c]) + row->c[c];
	return put_out(in, r, row);
}

static int do_rope(struct ref_insn *in, uint64_t r, struct row *row)
{
	uint32_t d = FIELD(in, MISC, IMM), h, i;
	int ret;

	ret = get_a(in, r, row);
	if (!ret)
		ret = get_b(in, r, d, row);
	if (ret)
		return ret;
	for (h = 0; h < row->cols; h += d) {
		for (i = 0; i < d / 2; i++) {
			float x = row->a[h + i], y = row->a[h + d / 2 + i];
			float cosine = row->b[i], sine = row->b[d / 2 + i];

			row->out[h + i] = x * cosine - y * sine;
			row->out[h + d / 2 + i] = y * cosine + x * sine;
		}
	}
	return put_out(in, r, row);
}

static int do_softmax(struct ref_insn *in, uint64_t r, struct row *row)
{
	uint64_t pos = VALUE(in, MISC, POS) + (in->flags & FLM_MISC_SAME ? 0 : r);
	float m = -INFINITY, q;
	bool kept = true;
	uint8_t *at;
	uint32_t c;
	int ret;

	/* row->b[c]: 1 where c is present */
	for (c = 0; c < row->cols; c++) {
		row->b[c] = 0;
		if (c > pos)
			continue;
		if (in->flags & FLM_MISC_MASK) {
			ret = ref_is_kept(in, PLACE(in, MISC, B), FIELD(in, MISC, B_PITCH),
					  pos / 64, c / 64, &kept);
			if (ret)
				return ret;
		}
		if (!kept)
			continue;
		ret = ref_chip(in, PLACE(in, MISC, A),
			       r * FIELD(in, MISC, A_PITCH) + 4 * (uint64_t)c, 4, 4, &at);
		if (ret)
			return ret;
		row->b[c] = 1;
		row->a[c] = ref_get_float(at) * imm_float(in);
		m = row->a[c] > m ? row->a[c] : m;
	}
	for (c = 0; c < row->cols; c++)
		row->out[c] = row->b[c] ? ref_isa_exp(row->a[c] - m) : 0;
	q = 1 / ref_isa_sum(row->out, row->cols);
	for (c = 0; c < row->cols; c++)
		row->out[c] = row->b[c] ? row->out[c] * q : 0;
	return put_out(in, r, row);
}

/* One group: codes and scale. */
static void quant_group(const float *a, uint32_t n, uint8_t *codes, float *scale)
{
	bool is_finite = true;
	float m = 0, inv, x;
	uint32_t i;

	for (i = 0; i < n; i++) {
		is_finite &= !isnan(a[i]) && !isinf(a[i]);
		m = fabsf(a[i]) > m ? fabsf(a[i]) : m;
	}
	memset(codes, 0, n);
	if (!is_finite) {
		*scale = NAN;
		return;
	}
	inv = 127 / m;
	if (isinf(inv)) {
		*scale = 0;
		return;
	}
	*scale = m / 127;
	for (i = 0; i < n; i++) {
		x = rintf(a[i] * inv);
		if (x > 127)
			x = 127;
		if (x < -127)
			x = -127;
		codes[i] = (uint8_t)(int8_t)x;
	}
}

static int do_quant(struct ref_insn *in, uint64_t r, struct row *row)
{
	uint32_t group = FIELD(in, MISC, IMM), groups, g, c;
	uint64_t padded = ((uint64_t)row->cols + 15) / 16 * 16;
	uint8_t *codes, *scales;
	float scale;
	int ret;

	groups = (row->cols + group - 1) / group;
	ret = get_a(in, r, row);
	if (!ret)
		ret = ref_chip(in, PLACE(in, MISC, OUT), r * FIELD(in, MISC, OUT_PITCH), padded, 1,
			       &codes);
	if (!ret)
		ret = ref_chip(in, PLACE(in, MISC, C), r * FIELD(in, MISC, C_PITCH),
			       4 * (uint64_t)groups, 4, &scales);
	if (ret)
		return ret;
	memset(codes + row->cols, 0, padded - row->cols);
	for (g = 0; g < groups; g++) {
		c = g * group;
		quant_group(row->a + c, row->cols - c < group ? row->cols - c : group, codes + c,
			    &scale);
		ref_put_float(scales + 4 * g, scale);
	}
	return FLM_FAULT_NONE;
}

static int do_dequant(struct ref_insn *in, uint64_t r, struct row *row)
{
	int size = in->flags & FLM_MISC_HALF ? 2 : 4;
	uint32_t group = FIELD(in, MISC, IMM), groups, c;
	uint8_t *a, *scales;
	int ret;

	groups = (row->cols + group - 1) / group;
	ret = ref_chip(in, PLACE(in, MISC, A), r * FIELD(in, MISC, A_PITCH), row->cols, 1, &a);
	if (!ret)
		ret = ref_chip(in, PLACE(in, MISC, C), r * FIELD(in, MISC, C_PITCH),
			       (uint64_t)size * groups, size, &scales);
	if (ret)
		return ret;
	for (c = 0; c < row->cols; c++) {
		const uint8_t *at = scales + size * (c / group);

		row->out[c] = (float)(int8_t)a[c] *
			      (size == 2 ? ref_isa_half(at[0] | at[1] << 8) : ref_get_float(at));
	}
	return put_out(in, r, row);
}

static int do_hadamard(struct ref_insn *in, uint64_t r, struct row *row)
{
	uint32_t n = FIELD(in, MISC, IMM), first, h, i;
	float f, x, y, *v;
	int ret;

	switch (n) {
	case 16:
		f = ref_isa_bits(0x3e800000);
		break;
	case 32:
		f = ref_isa_bits(0x3e3504f3);
		break;
	case 64:
		f = ref_isa_bits(0x3e000000);
		break;
	default:
		f = ref_isa_bits(0x3db504f3);
		break;
	}
	ret = get_a(in, r, row);
	if (ret)
		return ret;
	for (first = 0; first < row->cols; first += n) {
		v = row->a + first;
		for (h = 1; h < n; h *= 2) {
			for (i = 0; i < n; i++) {
				if (i & h)
					continue;
				x = v[i];
				y = v[i + h];
				v[i] = x + y;
				v[i + h] = x - y;
			}
		}
		for (i = 0; i < n; i++)
			row->out[first + i] = v[i] * f;
	}
	return put_out(in, r, row);
}

/* The greatest first, equal ones by ascending id, absent ones last. */
static int compare(const void *left, const void *right)
{
	const struct ref_candidate *a = left, *b = right;
	bool a_is_none = a->id == FLM_CANDIDATE_NONE, b_is_none = b->id == FLM_CANDIDATE_NONE;

	if (a_is_none != b_is_none)
		return a_is_none - b_is_none;
	if (a->logit != b->logit)
		return a->logit > b->logit ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

/* Sorts n candidates and writes the best k, absent ones behind them. */
static void put_best(struct ref_candidate *x, uint64_t n, uint8_t *at, uint32_t k)
{
	uint32_t i;

	for (i = 0; i < n; i++) {
		if (isnan(x[i].logit))
			x[i].logit = -INFINITY;
	}
	qsort(x, n, sizeof(*x), compare);
	for (i = 0; i < k; i++) {
		bool is_none = i >= n || x[i].id == FLM_CANDIDATE_NONE;

		ref_put_float(at + 8 * i, is_none ? -INFINITY : x[i].logit);
		ref_put32(at + 8 * i + 4, is_none ? FLM_CANDIDATE_NONE : x[i].id);
	}
}

static int do_topk(struct ref_insn *in, uint64_t r, struct row *row)
{
	uint32_t k = FIELD(in, MISC, IMM), c;
	uint64_t pos = VALUE(in, MISC, POS);
	struct ref_candidate *x;
	uint8_t *at;
	int ret;

	ret = get_a(in, r, row);
	if (!ret)
		ret = ref_chip(in, PLACE(in, MISC, OUT), r * FIELD(in, MISC, OUT_PITCH), 8 * k, 4,
			       &at);
	if (ret)
		return ret;
	x = malloc(row->cols * sizeof(*x));
	if (!x)
		abort();
	for (c = 0; c < row->cols; c++)
		x[c] = (struct ref_candidate){ row->a[c], pos + c };
	put_best(x, row->cols, at, k);
	free(x);
	return FLM_FAULT_NONE;
}

static int do_sample(struct ref_insn *in)
{
	struct ref_core *core = &in->isa->core[in->core];
	uint32_t k = FIELD(in, MISC, IMM), n;
	uint8_t *at;
	int ret;

	if (!in->isa->length[FLM_LENGTH_SAMPLE] || core->has_sampled)
		return FLM_FAULT_NONE;
	if (k < 1 || k > 1024 || VALUE(in, MISC, ROWS) != 1 || VALUE(in, MISC, COLS) != 1)
		return FLM_FAULT_FORMAT;
	ret = ref_chip(in, PLACE(in, MISC, A), 0, 8 * k, 4, &at);
	if (ret)
		return ret;
	for (n = 0; n < k && ref_get32(at + 8 * n + 4) != FLM_CANDIDATE_NONE; n++)
		core->chosen_from[n] = (struct ref_candidate){ ref_get_float(at + 8 * n),
							       ref_get32(at + 8 * n + 4) };
	core->chosen_from_count = n;
	core->has_sampled = true;
	core->sampled_at = in->words - in->isa->stream[FLM_UNIT_MISC];
	return FLM_FAULT_NONE;
}

/* What an operation asks of IMM, COLS and POS. */
static int check_conditions(const struct ref_insn *in)
{
	uint64_t imm = FIELD(in, MISC, IMM), cols = VALUE(in, MISC, COLS);

	switch (in->mode) {
	case FLM_MISC_ROPE:
		return !imm || imm % 2 || cols % imm ? FLM_FAULT_FORMAT : FLM_FAULT_NONE;
	case FLM_MISC_HADAMARD:
		if (imm != 16 && imm != 32 && imm != 64 && imm != 128)
			return FLM_FAULT_FORMAT;
		return cols % imm ? FLM_FAULT_FORMAT : FLM_FAULT_NONE;
	case FLM_MISC_TOPK:
		if (VALUE(in, MISC, POS) + cols - 1 > 0xfffffffe)
			return FLM_FAULT_BOUND;
		return imm < 1 || imm > 1024 ? FLM_FAULT_FORMAT : FLM_FAULT_NONE;
	case FLM_MISC_QUANT:
	case FLM_MISC_DEQUANT:
		return imm < 1 || imm > 1024 ? FLM_FAULT_FORMAT : FLM_FAULT_NONE;
	default:
		return FLM_FAULT_NONE;
	}
}

static int check_b(struct ref_insn *in, uint64_t rows, uint64_t cols)
{
	uint32_t pitch = FIELD(in, MISC, B_PITCH);
	uint64_t pos = VALUE(in, MISC, POS), last;

	switch (in->mode) {
	case FLM_MISC_ADD:
	case FLM_MISC_MUL:
	case FLM_MISC_RMSNORM:
	case FLM_MISC_LAYERNORM:
		return ref_chip_rows(in, PLACE(in, MISC, B), rows, pitch, 4 * cols, 4);
	case FLM_MISC_ROPE:
		return ref_chip_rows(in, PLACE(in, MISC, B), rows, pitch,
				     4 * (uint64_t)FIELD(in, MISC, IMM), 4);
	case FLM_MISC_SOFTMAX:
		if (!(in->flags & FLM_MISC_MASK))
			return FLM_FAULT_NONE;
		last = in->flags & FLM_MISC_SAME ? pos : pos + rows - 1;
		return ref_chip_mask(in, PLACE(in, MISC, B), pitch, pos / 64, last / 64, 0,
				     (cols - 1) / 64);
	default:
		return FLM_FAULT_NONE;
	}
}

static int check_c(struct ref_insn *in, uint64_t rows, uint64_t cols)
{
	uint64_t imm = FIELD(in, MISC, IMM), size = in->flags & FLM_MISC_HALF ? 2 : 4;

	switch (in->mode) {
	case FLM_MISC_LAYERNORM:
		return ref_chip_rows(in, PLACE(in, MISC, C), 1, 0, 4 * cols, 4);
	case FLM_MISC_QUANT:
	case FLM_MISC_DEQUANT:
		return ref_chip_rows(in, PLACE(in, MISC, C), rows, FIELD(in, MISC, C_PITCH),
				     size * ((cols + imm - 1) / imm), size);
	default:
		return FLM_FAULT_NONE;
	}
}

/* All operands as a whole, in the order of isa.def, before the first row. */
static int check_operands(struct ref_insn *in, uint64_t rows, uint64_t cols)
{
	bool is_quant = in->mode == FLM_MISC_QUANT, is_dequant = in->mode == FLM_MISC_DEQUANT;
	uint64_t bytes = 4 * cols;
	int ret = FLM_FAULT_NONE;

	if (in->mode != FLM_MISC_FILL)
		ret = ref_chip_rows(in, PLACE(in, MISC, A), rows, FIELD(in, MISC, A_PITCH),
				    is_dequant ? cols : 4 * cols, is_dequant ? 1 : 4);
	if (!ret)
		ret = check_b(in, rows, cols);
	if (!ret)
		ret = check_c(in, rows, cols);
	if (is_quant)
		bytes = (cols + 15) / 16 * 16;
	if (in->mode == FLM_MISC_TOPK)
		bytes = 8 * (uint64_t)FIELD(in, MISC, IMM);
	if (!ret)
		ret = ref_chip_rows(in, PLACE(in, MISC, OUT), rows, FIELD(in, MISC, OUT_PITCH),
				    bytes, is_quant ? 1 : 4);
	return ret;
}

static int do_row(struct ref_insn *in, uint64_t r, struct row *row)
{
	switch (in->mode) {
	case FLM_MISC_COPY:
	case FLM_MISC_FILL:
		return do_bits(in, r, row);
	case FLM_MISC_RMSNORM:
		return do_rmsnorm(in, r, row);
	case FLM_MISC_LAYERNORM:
		return do_layernorm(in, r, row);
	case FLM_MISC_ROPE:
		return do_rope(in, r, row);
	case FLM_MISC_SOFTMAX:
		return do_softmax(in, r, row);
	case FLM_MISC_QUANT:
		return do_quant(in, r, row);
	case FLM_MISC_DEQUANT:
		return do_dequant(in, r, row);
	case FLM_MISC_HADAMARD:
		return do_hadamard(in, r, row);
	case FLM_MISC_TOPK:
		return do_topk(in, r, row);
	default:
		return do_elements(in, r, row);
	}
}

int ref_ops_misc(struct ref_insn *in)
{
	uint64_t rows = VALUE(in, MISC, ROWS), r;
	struct row row = { .cols = VALUE(in, MISC, COLS) };
	int ret;

	if (in->mode == FLM_MISC_SAMPLE)
		return do_sample(in);
	ret = check_conditions(in);
	if (!ret)
		ret = check_operands(in, rows, row.cols);
	if (ret)
		return ret;
	row.a = calloc(4, row.cols * sizeof(float));
	if (!row.a)
		abort();
	row.b = row.a + row.cols;
	row.c = row.b + row.cols;
	row.out = row.c + row.cols;
	for (r = 0; r < rows && !ret; r++)
		ret = do_row(in, r, &row);
	free(row.a);
	return ret;
}

/* Exchanges */

static int all_gather(struct ref_insn *in, int cores, int *faulty)
{
	uint8_t *sent[FLM_CORES] = { NULL }, *at;
	int from, to, ret = FLM_FAULT_NONE;
	uint64_t r;

	for (from = 0; from < cores && !ret; from++) {
		struct ref_insn *i = &in[from];
		uint64_t rows = VALUE(i, SYS_GATHER, ROWS), bytes = VALUE(i, SYS_GATHER, BYTES);

		*faulty = from;
		for (r = 0; r < rows && bytes && !ret; r++) {
			uint8_t *grown;

			ret = ref_chip(i, PLACE(i, SYS_GATHER, SRC),
				       r * FIELD(i, SYS_GATHER, SRC_PITCH), bytes, 1, &at);
			if (ret)
				break;
			grown = realloc(sent[from], (r + 1) * bytes);
			if (!grown)
				abort();
			sent[from] = grown;
			memcpy(sent[from] + r * bytes, at, bytes);
		}
	}
	for (from = 0; from < cores && !ret; from++) {
		struct ref_insn *i = &in[from];
		uint64_t rows = VALUE(i, SYS_GATHER, ROWS), bytes = VALUE(i, SYS_GATHER, BYTES);

		*faulty = from;
		for (r = 0; r < rows && bytes && !ret; r++) {
			for (to = 0; to < cores && !ret; to++) {
				ret = ref_chip_of(i, to, PLACE(i, SYS_GATHER, DST),
						  r * FIELD(i, SYS_GATHER, DST_PITCH), bytes, 1,
						  &at);
				if (!ret)
					memcpy(at, sent[from] + r * bytes, bytes);
			}
		}
	}
	for (from = 0; from < cores; from++)
		free(sent[from]);
	return ret;
}

static int all_words(struct ref_insn *in, int cores, int *faulty)
{
	bool is_max = in->insn == FLM_INSN_SYS_MAX, has_nan;
	uint64_t count, i;
	uint8_t *at[FLM_CORES];
	int core, ret;
	uint32_t sum;
	float m, x;

	count = is_max ? VALUE(in, SYS_MAX, COUNT) : VALUE(in, SYS_SUM, COUNT);
	for (core = 0; core < cores; core++) {
		struct ref_insn *c = &in[core];

		*faulty = core;
		if ((is_max ? VALUE(c, SYS_MAX, COUNT) : VALUE(c, SYS_SUM, COUNT)) !=
		    (int64_t)count)
			return FLM_FAULT_EXCHANGE;
		ret = ref_chip(c, is_max ? PLACE(c, SYS_MAX, SRC) : PLACE(c, SYS_SUM, SRC), 0,
			       4 * count, 4, &at[core]);
		if (ret)
			return ret;
	}
	for (i = 0; i < count; i++) {
		m = ref_get_float(at[0] + 4 * i);
		has_nan = false;
		sum = 0;
		for (core = 0; core < cores; core++) {
			x = ref_get_float(at[core] + 4 * i);
			has_nan |= isnan(x);
			m = x > m ? x : m;
			sum += ref_get32(at[core] + 4 * i);
		}
		for (core = 0; core < cores; core++) {
			if (is_max)
				ref_put_float(at[core] + 4 * i, has_nan ? NAN : m);
			else
				ref_put32(at[core] + 4 * i, sum);
		}
	}
	return FLM_FAULT_NONE;
}

static int all_topk(struct ref_insn *in, int cores, int *faulty)
{
	uint32_t count = FIELD(in, SYS_TOPK, COUNT), i;
	struct ref_candidate *x = malloc(cores * count * sizeof(*x));
	uint8_t *at[FLM_CORES], best[8 * FLM_TOPK_MAX];
	int core, ret = FLM_FAULT_NONE;

	if (!x)
		abort();
	for (core = 0; core < cores && !ret; core++) {
		*faulty = core;
		ret = ref_chip(&in[core], PLACE(&in[core], SYS_TOPK, SRC), 0, 8 * count, 4,
			       &at[core]);
		for (i = 0; i < count && !ret; i++) {
			x[core * count + i].logit = ref_get_float(at[core] + 8 * i);
			x[core * count + i].id = ref_get32(at[core] + 8 * i + 4);
		}
	}
	if (!ret) {
		put_best(x, (uint64_t)cores * count, best, count);
		for (core = 0; core < cores; core++)
			memcpy(at[core], best, 8 * count);
	}
	free(x);
	return ret;
}

int ref_ops_exchange(struct ref_insn *in, int cores, int *core)
{
	switch (in->insn) {
	case FLM_INSN_SYS_GATHER:
		return all_gather(in, cores, core);
	case FLM_INSN_SYS_MAX:
	case FLM_INSN_SYS_SUM:
		return all_words(in, cores, core);
	case FLM_INSN_SYS_TOPK:
		return all_topk(in, cores, core);
	default:
		return FLM_FAULT_NONE;	/* barrier */
	}
}
