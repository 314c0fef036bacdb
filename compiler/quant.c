// SPDX-License-Identifier: MIT
/*
 * Number formats: float32 rows become codes and float16 scales by rounding to nearest, in groups
 * of 64 columns, laid out as the card and a CPU read them (SPEC.md, "Weights: strips and tiles").
 * Every step is float32 arithmetic in a fixed order, so the same model gives the same bytes
 * everywhere.
 */
#include <string.h>

#include "compiler/cc.h"

uint16_t quant_half(float x)
{
	uint32_t bits, sign, mantissa, rest, half;
	int exponent, shift;

	memcpy(&bits, &x, 4);
	sign = bits >> 16 & 0x8000;
	exponent = (bits >> 23 & 255) - 127;
	mantissa = (bits & 0x7fffff) | 0x800000;
	if (exponent == 128)
		return sign | 0x7c00 | ((bits & 0x7fffff) ? 0x200 : 0);
	if (exponent < -25)
		return sign;
	shift = exponent < -14 ? 13 + (-14 - exponent) : 13;
	half = mantissa >> shift;
	rest = mantissa & ((1u << shift) - 1);
	half += rest > 1u << (shift - 1) || (rest == 1u << (shift - 1) && (half & 1));
	/* A carry out of the mantissa moves into the exponent, as it should. */
	if (exponent >= -14)
		half += (uint32_t)(exponent + 14) << 10;
	return half >= 0x7c00 ? sign | 0x7c00 : sign | half;
}

float quant_float(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = half >> 10 & 31;
	uint32_t mantissa = half & 0x3ff, bits;
	float x;

	if (exponent == 31) {
		bits = sign | 0x7f800000 | mantissa << 13;
	} else if (exponent) {
		bits = sign | (exponent + 112) << 23 | mantissa << 13;
	} else {
		x = mantissa * 0x1p-24f;
		return sign ? -x : x;
	}
	memcpy(&x, &bits, 4);
	return x;
}

void quant_rotate(float *rows, uint32_t row_count, uint32_t cols, uint32_t block)
{
	/* 1 / sqrt(block) for 16, 32, 64, 128, as `hadamard` multiplies by them. */
	static const uint32_t factors[] = { 0x3e800000, 0x3e3504f3, 0x3e000000, 0x3db504f3 };
	float factor;
	int which = 0;

	if (!block)
		return;
	for (uint32_t b = 16; b < block; b *= 2)
		which++;
	memcpy(&factor, &factors[which], 4);
	for (float *v = rows; v < rows + (size_t)row_count * cols; v += block) {
		for (uint32_t h = 1; h < block; h *= 2) {
			for (uint32_t i = 0; i < block; i += 2 * h) {
				for (uint32_t j = i; j < i + h; j++) {
					float x = v[j], y = v[j + h];

					v[j] = x + y;
					v[j + h] = x - y;
				}
			}
		}
		for (uint32_t i = 0; i < block; i++)
			v[i] *= factor;
	}
}

/* A register of the least x86-64; the order of the sum of errors hangs on it. */
#define LANES 4
typedef float floats __attribute__((vector_size(4 * LANES)));
typedef int32_t ints __attribute__((vector_size(4 * LANES)));

/* a where the mask is all ones, b where it is zero. */
static inline floats choose(ints mask, floats a, floats b)
{
	return (floats)((mask & (ints)a) | (~mask & (ints)b));
}

/* To the nearest integer, ties to even, for |x| < 2^22: the sum has no room for a fraction. */
static inline float nearest(float x)
{
	return (x + 12582912.0f) - 12582912.0f;
}

static inline float clamp(float x, float low, float high)
{
	return x < low ? low : x > high ? high : x;
}

static inline float greatest(const float *w, uint32_t count)
{
	float lane[8] = { 0 }, most = 0;
	uint32_t i = 0;

	for (; i + 8 <= count; i += 8)
		for (int l = 0; l < 8; l++) {
			float a = __builtin_fabsf(w[i + l]);

			lane[l] = a > lane[l] ? a : lane[l];
		}
	for (; i < count; i++)
		most = MAX(most, __builtin_fabsf(w[i]));
	for (int l = 0; l < 8; l++)
		most = MAX(most, lane[l]);
	return most;
}

uint32_t quant_greatest(const float *w, size_t count)
{
	ints lane = { 0 };
	int32_t most = 0, bits;
	size_t i = 0;

	for (; i + LANES <= count; i += LANES) {
		ints x, more;

		memcpy(&x, w + i, sizeof(x));
		x &= 0x7fffffff;
		more = x > lane;
		lane = (more & x) | (~more & lane);
	}
	for (; i < count; i++) {
		memcpy(&bits, w + i, sizeof(bits));
		most = MAX(most, bits & 0x7fffffff);
	}
	for (int l = 0; l < LANES; l++)
		most = MAX(most, lane[l]);
	return most;
}

static inline void round_codes(const float *w, uint32_t count, float scale, float low, float high,
			       int8_t *codes)
{
	float inverse = 1 / scale;

	/* The inverse of a subnormal scale may overflow; division does not. */
	if (inverse > 1e30f || inverse < -1e30f) {
		for (uint32_t i = 0; i < count; i++)
			codes[i] = nearest(clamp(w[i] / scale, low, high));
		return;
	}
	for (uint32_t i = 0; i < count; i++)
		codes[i] = nearest(clamp(w[i] * inverse, low, high));
}

/* int8 in [-127, 127]. Returns float16 bits, or 0x7c00 if the scale is too large for them. */
static inline uint16_t group_w8(const float *w, uint32_t count, int8_t *codes)
{
	float most = greatest(w, count);
	uint16_t half = quant_half(most / 127);

	/* Subnormals are wide apart: one that was rounded down may clip the largest weights. */
	if (half < 0x400 && 127 * quant_float(half) < most)
		half++;
	if (half == 0)
		memset(codes, 0, count);
	else if (half < 0x7c00)
		round_codes(w, count, quant_float(half), -127, 127, codes);
	return half;
}

static float squared_error(const float *w, uint32_t count, float scale)
{
	floats sum = { 0 };
	float total = 0, inverse = 1 / scale;

	/* Groups are multiples of 16 columns. */
	for (uint32_t i = 0; i < count; i += LANES) {
		floats x, q, d;

		memcpy(&x, w + i, sizeof(x));
		q = x * inverse;
		q = choose(q < -8, (floats) { 0 } - 8, q);
		q = choose(q > 7, (floats) { 0 } + 7, q);
		q = (q + 12582912.0f) - 12582912.0f;
		d = x - q * scale;
		sum += d * d;
	}
	for (int l = 0; l < LANES; l++)
		total += sum[l];
	return total;
}

/*
 * Codes -8..7. The scale may be negative, so that the weight of the largest magnitude can have
 * the code -8 whatever its sign; which scale is best is tried out.
 */
static uint16_t group_w4(const float *w, uint32_t count, int8_t *codes)
{
	static const float divisors[] = { -8, -9.5f, -9, -8.5f, -7.5f, -7, 7, 7.5f, 8 };
	float most = greatest(w, count), signed_most = 0, least = 0;
	uint16_t best = 0;

	if (most == 0) {
		memset(codes, 0, count);
		return 0;
	}
	for (uint32_t i = 0; i < count && signed_most == 0; i++)
		if (__builtin_fabsf(w[i]) == most)
			signed_most = w[i];
	for (size_t i = 0; i < sizeof(divisors) / sizeof(divisors[0]); i++) {
		uint16_t half = quant_half(signed_most / divisors[i]);

		if ((half & 0x7fff) >= 0x7c00)
			return 0x7c00;
		/* Subnormals are wide apart, the least is next to zero: its neighbour, too. */
		for (int up = !(half & 0x7fff); up <= ((half & 0x7fff) < 0x400); up++) {
			float error = squared_error(w, count, quant_float(half + up));

			if (!best || error < least) {
				best = half + up;
				least = error;
			}
		}
	}
	round_codes(w, count, quant_float(best), -8, 7, codes);
	return best;
}

/*
 * Codes of a strip's group [16][64] in vectors of 64 bytes: byte 4r + j is row r, column 4q + j.
 */
static void store_w8(const int8_t codes[FLM_STRIP][FLM_GROUP], uint32_t count, uint8_t *out)
{
	for (uint32_t q = 0; q < count / 4; q++)
		for (int r = 0; r < FLM_STRIP; r++)
			for (int j = 0; j < 4; j++)
				out[64 * q + 4 * r + j] = codes[r][4 * q + j] + 128;
}

/* Two vectors share a byte: the first low, the second high. */
static void store_w4(const int8_t codes[FLM_STRIP][FLM_GROUP], uint32_t count, uint8_t *out)
{
	for (uint32_t v = 0; v < count / 8; v++)
		for (int r = 0; r < FLM_STRIP; r++)
			for (int j = 0; j < 4; j++)
				out[64 * v + 4 * r + j] = (codes[r][8 * v + j] + 8) |
							  (codes[r][8 * v + 4 + j] + 8) << 4;
}

bool quant_strip(const float *rows, uint32_t cols, unsigned int width, uint8_t *out)
{
	for (uint32_t tile = 0; tile < cols; tile += FLM_TILE_COLS) {
		uint32_t n = MIN(cols - tile, FLM_TILE_COLS);
		uint32_t code_bytes = strip_codes_bytes(width, n);
		uint32_t scale_bytes = strip_scales_bytes(n);
		uint8_t *codes_out = out, *scales = out + code_bytes;

		memset(out + 2 * width * n, 0, code_bytes - 2 * width * n);
		memset(scales, 0, scale_bytes);
		for (uint32_t g = 0; g < n; g += FLM_GROUP) {
			uint32_t count = MIN(n - g, FLM_GROUP);
			int8_t codes[FLM_STRIP][FLM_GROUP];

			for (int r = 0; r < FLM_STRIP; r++) {
				const float *w = rows + (size_t)r * cols + tile + g;
				uint16_t half;

				if (width == 8)
					half = count == FLM_GROUP ?
						group_w8(w, FLM_GROUP, codes[r]) :
						group_w8(w, count, codes[r]);
				else
					half = group_w4(w, count, codes[r]);
				if ((half & 0x7fff) >= 0x7c00)
					return false;
				put_le16(scales + g / 2 + 2 * r, half);
			}
			(width == 8 ? store_w8 : store_w4)(codes, count, codes_out);
			codes_out += 2 * width * count;
		}
		out = scales + scale_bytes;
	}
	return true;
}

bool quant_row(const float *row, uint32_t cols, int8_t *codes, uint8_t *scales)
{
	for (uint32_t g = 0; g < cols; g += FLM_GROUP) {
		uint16_t half = group_w8(row + g, MIN(cols - g, FLM_GROUP), codes + g);

		if (half >= 0x7c00)
			return false;
		put_le16(scales + g / FLM_GROUP * 2, half);
	}
	return true;
}
