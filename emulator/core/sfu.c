// SPDX-License-Identifier: MIT
/*
 * MISC: the special function unit. A row is copied to work space, computed there and written back,
 * so every operation may run in place whatever its shape. Loops run in steps of sixteen, beyond the
 * end of a row too: work space has room for it, and what is computed there is not written.
 */
#include <endian.h>
#include <string.h>

#include "emulator/core/core.h"
#include "emulator/core/math.h"
#include "emulator/core/topk.h"

#define GROUP_MAX 1024
#define LANES(i, l, n) \
	for (i = 0; i < (n); i += MATH_LANES) \
		for (l = 0; l < MATH_LANES; l++)

struct sfu {
	const uint8_t *a, *b, *c; /* row 0 of each operand; never touched where row_bytes is 0 */
	uint8_t *out, *scales;		/* scales: where quant writes C */
	uint64_t a_pitch, b_pitch, c_pitch, out_pitch;
	uint64_t rows, pos;
	uint32_t cols, imm;
	unsigned int flags;
};

/* Bytes of a row of each operand; 0: not used. */
struct row_bytes {
	uint64_t a, b, c, out;
	unsigned int c_align;
};

static uint32_t pad_lanes(uint32_t n)
{
	return (n + MATH_LANES - 1) / MATH_LANES * MATH_LANES;
}

/* A row takes a cycle for each step of its loop. True once the pass is to stop. */
static bool row_begins(struct core *core, const struct sfu *op)
{
	return core_step(core, pad_lanes(op->cols) / MATH_LANES);
}

static void load_floats(float *restrict to, const uint8_t *from, uint32_t n)
{
	memcpy(to, from, n * sizeof(float));
}

static void store_floats(uint8_t *to, float *restrict from, uint32_t n)
{
	uint32_t i, l;

	LANES(i, l, n)
		from[i + l] = math_written(from[i + l]);
	memcpy(to, from, n * sizeof(float));
}

/* Operations of float rows: out [cols] from a, b, c [cols]. None of them overlap. */

static void add(const struct sfu *op, const float *restrict a, const float *restrict b,
		float *restrict out)
{
	uint32_t i, l;

	LANES(i, l, op->cols)
		out[i + l] = a[i + l] + b[i + l];
}

static void mul(const struct sfu *op, const float *restrict a, const float *restrict b,
		float *restrict out)
{
	uint32_t i, l;

	LANES(i, l, op->cols)
		out[i + l] = a[i + l] * b[i + l];
}

static void scale(const struct sfu *op, const float *restrict a, float factor,
		  float *restrict out)
{
	uint32_t i, l;

	LANES(i, l, op->cols)
		out[i + l] = a[i + l] * factor;
}

static void relu(const struct sfu *op, const float *restrict a, float *restrict out)
{
	uint32_t i, l;

	LANES(i, l, op->cols)
		out[i + l] = a[i + l] > 0.0f ? a[i + l] : a[i + l] == a[i + l] ? 0.0f : a[i + l];
}

static void silu(const struct sfu *op, const float *restrict a, float *restrict out)
{
	uint32_t i, l;

	LANES(i, l, op->cols)
		out[i + l] = a[i + l] * math_sigmoid(a[i + l]);
}

static void gelu(const struct sfu *op, const float *restrict a, float *restrict out)
{
	uint32_t i, l;

	LANES(i, l, op->cols) {
		float x = a[i + l];
		float t = (x * math_float(0x3fcc422a)) *
			  (1.0f + math_float(0x3d372713) * (x * x));

		out[i + l] = x * math_sigmoid(t);
	}
}

static void rmsnorm(const struct sfu *op, const float *restrict a, const float *restrict b,
		    float *restrict out)
{
	float mean, s;
	uint32_t i, l;

	LANES(i, l, op->cols)
		out[i + l] = a[i + l] * a[i + l];
	mean = math_sum(out, op->cols) / (float)op->cols;
	s = 1.0f / __builtin_sqrtf(mean + math_float(op->imm));
	LANES(i, l, op->cols)
		out[i + l] = (a[i + l] * s) * b[i + l];
}

static void layernorm(const struct sfu *op, float *restrict a, const float *restrict b,
		      const float *restrict c, float *restrict out)
{
	float mean = math_sum(a, op->cols) / (float)op->cols, variance, s;
	uint32_t i, l;

	LANES(i, l, op->cols) {
		a[i + l] = a[i + l] - mean;
		out[i + l] = a[i + l] * a[i + l];
	}
	variance = math_sum(out, op->cols) / (float)op->cols;
	s = 1.0f / __builtin_sqrtf(variance + math_float(op->imm));
	LANES(i, l, op->cols)
		out[i + l] = ((a[i + l] * s) * b[i + l]) + c[i + l];
}

static void rope(const struct sfu *op, const float *restrict a, const float *restrict b,
		 float *restrict out)
{
	uint32_t half = op->imm / 2, head, i;

	for (head = 0; head < op->cols; head += op->imm) {
		for (i = 0; i < half; i++) {
			float x = a[head + i], y = a[head + half + i];

			out[head + i] = x * b[i] - y * b[half + i];
			out[head + half + i] = y * b[i] + x * b[half + i];
		}
	}
}

static void hadamard(const struct sfu *op, float *restrict a, float *restrict out)
{
	float factor = math_float(op->imm == 16 ? 0x3e800000 : op->imm == 32 ? 0x3e3504f3 :
				  op->imm == 64 ? 0x3e000000 : 0x3db504f3);
	uint32_t block, h, i;

	for (block = 0; block < op->cols; block += op->imm) {
		float *v = a + block;

		for (h = 1; h < op->imm; h *= 2) {
			for (i = 0; i < op->imm; i++) {
				float x = v[i], y;

				if (i & h)
					continue;
				y = v[i + h];
				v[i] = x + y;
				v[i + h] = x - y;
			}
		}
	}
	scale(op, a, factor, out);
}

static int run_float_rows(struct core *core, struct sfu *op, unsigned int mode,
			  const struct row_bytes *bytes)
{
	float *a = core->scratch->rows[0], *b = core->scratch->rows[1];
	float *c = core->scratch->rows[2], *out = core->scratch->rows[3];
	uint64_t r;

	if (bytes->c)
		load_floats(c, op->c, op->cols);
	for (r = 0; r < op->rows; r++) {
		if (row_begins(core, op))
			return -1;
		load_floats(a, op->a + r * op->a_pitch, op->cols);
		if (bytes->b && (op->b_pitch || !r))
			load_floats(b, op->b + r * op->b_pitch,
				    (uint32_t)(bytes->b / sizeof(float)));
		switch (mode) {
		case FLM_MISC_ADD:
			add(op, a, b, out);
			break;
		case FLM_MISC_MUL:
			mul(op, a, b, out);
			break;
		case FLM_MISC_SCALE:
			scale(op, a, math_float(op->imm), out);
			break;
		case FLM_MISC_RELU:
			relu(op, a, out);
			break;
		case FLM_MISC_SILU:
			silu(op, a, out);
			break;
		case FLM_MISC_GELU:
			gelu(op, a, out);
			break;
		case FLM_MISC_RMSNORM:
			rmsnorm(op, a, b, out);
			break;
		case FLM_MISC_LAYERNORM:
			layernorm(op, a, b, c, out);
			break;
		case FLM_MISC_ROPE:
			rope(op, a, b, out);
			break;
		default:
			hadamard(op, a, out);
		}
		store_floats(op->out + r * op->out_pitch, out, op->cols);
	}
	return 0;
}

/* Bits pass unchanged, NaN too. */
static int run_copy(struct core *core, struct sfu *op, bool is_fill)
{
	uint32_t *row = (uint32_t *)core->scratch->bytes, i;
	uint64_t r;

	for (i = 0; is_fill && i < op->cols; i++)
		row[i] = htole32(op->imm);
	for (r = 0; r < op->rows; r++) {
		if (row_begins(core, op))
			return -1;
		if (!is_fill)
			memcpy(row, op->a + r * op->a_pitch, op->cols * sizeof(*row));
		memcpy(op->out + r * op->out_pitch, row, op->cols * sizeof(*row));
	}
	return 0;
}

/* One group to codes; returns its scale. */
static float quantise(const float *restrict a, uint32_t n, int8_t *restrict codes)
{
	uint32_t greatest = 0, i;
	float m, inv;

	/* Without their signs floats are ordered like their bits, infinity and NaN last. */
	for (i = 0; i < n; i++) {
		uint32_t bits = math_bits(a[i]) & 0x7fffffff;

		greatest = bits > greatest ? bits : greatest;
	}
	memset(codes, 0, n);
	if (greatest >= 0x7f800000)
		return math_float(0x7fc00000);
	m = math_float(greatest);
	inv = 127.0f / m;
	if (math_bits(inv) >= 0x7f800000)
		return 0.0f;
	for (i = 0; i < n; i++) {
		float v = math_round(a[i] * inv);

		v = v > 127.0f ? 127.0f : v < -127.0f ? -127.0f : v;
		codes[i] = (int8_t)(int)v;
	}
	return m / 127.0f;
}

static int run_quant(struct core *core, struct sfu *op)
{
	float *a = core->scratch->rows[0], *scales = core->scratch->rows[1];
	int8_t *codes = (int8_t *)core->scratch->bytes;
	uint32_t padded = pad_lanes(op->cols), first, g;
	uint64_t r;

	for (r = 0; r < op->rows; r++) {
		if (row_begins(core, op))
			return -1;
		load_floats(a, op->a + r * op->a_pitch, op->cols);
		for (first = 0, g = 0; first < op->cols; first += op->imm, g++) {
			uint32_t left = op->cols - first;

			scales[g] = quantise(a + first, left < op->imm ? left : op->imm,
					     codes + first);
		}
		memset(codes + op->cols, 0, padded - op->cols);
		memcpy(op->out + r * op->out_pitch, codes, padded);
		memcpy(op->scales + r * op->c_pitch, scales, g * sizeof(float));
	}
	return 0;
}

static int run_dequant(struct core *core, struct sfu *op)
{
	uint32_t size = op->flags & FLM_MISC_HALF ? 2 : 4, first, i;
	int8_t *codes = (int8_t *)core->scratch->bytes;
	uint8_t *scales = (uint8_t *)core->scratch->rows[1];
	float *out = core->scratch->rows[0];
	uint64_t r;

	for (r = 0; r < op->rows; r++) {
		const uint8_t *at = scales;

		if (row_begins(core, op))
			return -1;
		memcpy(codes, op->a + r * op->a_pitch, op->cols);
		memcpy(scales, op->c + r * op->c_pitch, (op->cols + op->imm - 1) / op->imm * size);
		for (first = 0; first < op->cols; first += op->imm, at += size) {
			uint32_t end = op->cols - first < op->imm ? op->cols : first + op->imm;
			float factor;

			if (op->flags & FLM_MISC_HALF)
				factor = math_half((uint16_t)(at[0] | at[1] << 8));
			else
				memcpy(&factor, at, sizeof(factor));
			for (i = first; i < end; i++)
				out[i] = (float)codes[i] * factor;
		}
		store_floats(op->out + r * op->out_pitch, out, op->cols);
	}
	return 0;
}

/* Present positions of a row: [first, end) of the next kept run at or after *end. */
static bool next_present(const struct mask *mask, uint64_t query_block, uint32_t n, uint32_t *first,
			 uint32_t *end)
{
	uint32_t p = *end;

	if (!mask) {
		*first = p;
		*end = n;
		return p < n;
	}
	while (p < n && !mask_keeps(mask, query_block, p / FLM_PAGE))
		p += FLM_PAGE;
	*first = p;
	while (p < n && mask_keeps(mask, query_block, p / FLM_PAGE))
		p += FLM_PAGE;
	*end = p < n ? p : n;
	return *first < n;
}

/* One row of softmax: t, then e, in place; out has zeros where nothing is present. */
static void softmax_row(struct core *core, const struct sfu *op, const uint8_t *a,
			const struct mask *mask, uint64_t position)
{
	float *t = core->scratch->rows[0], *e = core->scratch->rows[1];
	float *out = core->scratch->rows[2];
	uint32_t n = position + 1 < op->cols ? (uint32_t)(position + 1) : op->cols;
	uint64_t block = position / FLM_PAGE;
	float m = math_float(0xff800000), factor = math_float(op->imm), q;
	uint32_t first, end, i, l;

	memset(out, 0, op->cols * sizeof(float));
	memset(e, 0, n * sizeof(float));
	for (end = 0; next_present(mask, block, n, &first, &end);) {
		load_floats(t, a + first * sizeof(float), end - first);
		LANES(i, l, end - first)
			t[i + l] = t[i + l] * factor;
		for (i = 0; i < end - first; i++)
			m = t[i] > m ? t[i] : m;
		memcpy(e + first, t, (end - first) * sizeof(float));
	}
	for (end = 0; next_present(mask, block, n, &first, &end);) {
		memcpy(t, e + first, (end - first) * sizeof(float));
		LANES(i, l, end - first)
			t[i + l] = math_exp(t[i + l] - m);
		memcpy(e + first, t, (end - first) * sizeof(float));
	}
	q = 1.0f / math_sum(e, n);
	for (end = 0; next_present(mask, block, n, &first, &end);)
		for (i = first; i < end; i++)
			out[i] = e[i] * q;
}

static int run_softmax(struct core *core, struct sfu *op, const struct insn *insn)
{
	bool is_same = op->flags & FLM_MISC_SAME;
	uint64_t queries = is_same ? 1 : op->rows, r;
	const struct mask *mask = NULL;
	struct mask space;

	if (op->flags & FLM_MISC_MASK) {
		if (core_mask(core, PLACE(insn, MISC, B), op->b_pitch, op->pos, queries, 0,
			      op->cols, &space))
			return -1;
		mask = &space;
	}
	for (r = 0; r < op->rows; r++) {
		if (row_begins(core, op))
			return -1;
		softmax_row(core, op, op->a + r * op->a_pitch, mask, op->pos + (is_same ? 0 : r));
		store_floats(op->out + r * op->out_pitch, core->scratch->rows[2], op->cols);
	}
	return 0;
}

static int run_topk(struct core *core, struct sfu *op)
{
	struct flm_candidate best[FLM_TOPK_MAX];
	float *a = core->scratch->rows[0];
	uint64_t r;

	for (r = 0; r < op->rows; r++) {
		if (row_begins(core, op))
			return -1;
		load_floats(a, op->a + r * op->a_pitch, op->cols);
		if (topk_row(core, a, op->cols, (uint32_t)op->pos, op->imm, best))
			return -1;
		memcpy(op->out + r * op->out_pitch, best, op->imm * sizeof(best[0]));
	}
	return 0;
}

/* What IMM and COLS must be to each other; false: fault FORMAT. */
static bool shape_fits(const struct sfu *op, unsigned int mode)
{
	switch (mode) {
	case FLM_MISC_ROPE:
		return op->imm && op->imm % 2 == 0 && op->cols % op->imm == 0;
	case FLM_MISC_HADAMARD:
		return (op->imm == 16 || op->imm == 32 || op->imm == 64 || op->imm == 128) &&
		       op->cols % op->imm == 0;
	case FLM_MISC_QUANT:
	case FLM_MISC_DEQUANT:
		return op->imm >= 1 && op->imm <= GROUP_MAX;
	case FLM_MISC_TOPK:
		return op->imm >= 1 && op->imm <= FLM_TOPK_MAX;
	default:
		return true;
	}
}

static struct row_bytes bytes_of(const struct sfu *op, unsigned int mode)
{
	uint64_t floats = (uint64_t)op->cols * sizeof(float), groups;
	struct row_bytes bytes = { .a = floats, .out = floats, .c_align = 4 };

	switch (mode) {
	case FLM_MISC_ADD:
	case FLM_MISC_MUL:
	case FLM_MISC_RMSNORM:
		bytes.b = floats;
		break;
	case FLM_MISC_FILL:
		bytes.a = 0;
		break;
	case FLM_MISC_LAYERNORM:
		bytes.b = floats;
		bytes.c = floats;
		break;
	case FLM_MISC_ROPE:
		bytes.b = (uint64_t)op->imm * sizeof(float);
		break;
	case FLM_MISC_QUANT:
		groups = (op->cols + op->imm - 1) / op->imm;
		bytes.out = pad_lanes(op->cols);
		bytes.c = groups * sizeof(float);
		break;
	case FLM_MISC_DEQUANT:
		groups = (op->cols + op->imm - 1) / op->imm;
		bytes.a = op->cols;
		bytes.c_align = op->flags & FLM_MISC_HALF ? 2 : 4;
		bytes.c = groups * bytes.c_align;
		break;
	case FLM_MISC_TOPK:
		bytes.out = op->imm * sizeof(struct flm_candidate);
		break;
	}
	return bytes;
}

int sfu_run(struct core *core, const struct insn *insn)
{
	struct sfu op = {
		.a_pitch = VALUE(insn, MISC, A_PITCH), .b_pitch = VALUE(insn, MISC, B_PITCH),
		.c_pitch = VALUE(insn, MISC, C_PITCH), .out_pitch = VALUE(insn, MISC, OUT_PITCH),
		.rows = VALUE(insn, MISC, ROWS), .cols = (uint32_t)VALUE(insn, MISC, COLS),
		.imm = (uint32_t)VALUE(insn, MISC, IMM), .pos = VALUE(insn, MISC, POS),
		.flags = insn->flags,
	};
	unsigned int mode = insn->mode;
	struct row_bytes bytes;

	if (mode == FLM_MISC_SAMPLE)
		return topk_sample(core, insn);
	if (mode == FLM_MISC_TOPK && op.pos + op.cols - 1 >= FLM_CANDIDATE_NONE)
		return core_fault(core, FLM_FAULT_BOUND);
	if (!shape_fits(&op, mode))
		return core_fault(core, FLM_FAULT_FORMAT);
	bytes = bytes_of(&op, mode);
	op.a = core_in(core, PLACE(insn, MISC, A), 0, op.rows, op.a_pitch, bytes.a,
		       mode == FLM_MISC_DEQUANT ? 1 : 4);
	if (!op.a)
		return -1;
	op.b = core_in(core, PLACE(insn, MISC, B), 0, op.rows, op.b_pitch, bytes.b, 4);
	if (!op.b)
		return -1;
	/* layernorm has one row of it, at a pitch of zero. */
	if (mode == FLM_MISC_QUANT)
		op.c = op.scales = core_out(core, PLACE(insn, MISC, C), 0, op.rows, op.c_pitch,
					    bytes.c, 4);
	else
		op.c = core_in(core, PLACE(insn, MISC, C), 0, op.rows, op.c_pitch, bytes.c,
			       bytes.c_align);
	if (!op.c)
		return -1;
	op.out = core_out(core, PLACE(insn, MISC, OUT), 0, op.rows, op.out_pitch, bytes.out,
			  mode == FLM_MISC_QUANT ? 1 : 4);
	if (!op.out)
		return -1;
	switch (mode) {
	case FLM_MISC_COPY:
	case FLM_MISC_FILL:
		return run_copy(core, &op, mode == FLM_MISC_FILL);
	case FLM_MISC_SOFTMAX:
		return run_softmax(core, &op, insn);
	case FLM_MISC_QUANT:
		return run_quant(core, &op);
	case FLM_MISC_DEQUANT:
		return run_dequant(core, &op);
	case FLM_MISC_TOPK:
		return run_topk(core, &op);
	default:
		return run_float_rows(core, &op, mode, &bytes);
	}
}
