/* SPDX-License-Identifier: MIT */
/*
 * The card's arithmetic, chapters Numbers and Sampling of SPEC.md: every function is a fixed
 * sequence of IEEE operations, each rounded by itself. The file is compiled without contraction.
 *
 *	y = math_exp(x);
 *	scale = math_half(bits);
 *	memory = math_written(y);	what an instruction stores: one NaN for all
 */
#ifndef EMULATOR_MATH_H
#define EMULATOR_MATH_H

#include <float.h>
#include <stdint.h>
#include <string.h>

_Static_assert(FLT_EVAL_METHOD == 0, "float operations must round to float");

#define MATH_LANES 16

static inline float math_float(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, sizeof(x));
	return x;
}

static inline uint32_t math_bits(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	return bits;
}

/* A result on its way to on-chip memory. */
static inline float math_written(float x)
{
	return x == x ? x : math_float(0x7fc00000);
}

/* Nearest integer, ties to even, |x| <= 2^22: the addition rounds at the units place. */
static inline float math_round(float x)
{
	return (x + 12582912.0f) - 12582912.0f;
}

/* Exact. 2^112 moves the exponent's bias; a subnormal becomes normal in the same product. */
static inline float math_half(uint16_t half)
{
	uint32_t sign = (uint32_t)(half & 0x8000) << 16, rest = (uint32_t)(half & 0x7fff) << 13;
	float x;

	if (rest >= 0x0f800000)
		return math_float(sign | rest | 0x7f800000);
	x = math_float(rest) * math_float(0x77800000);
	return math_float(sign | math_bits(x));
}

static inline float math_power_of_two(int32_t n)
{
	return math_float((uint32_t)(n + 127) << 23);
}

/* Without branches, so that loops over it become vector code. */
static inline float math_exp(float x)
{
	const float top = math_float(0x42b17217), bottom = math_float(0xc2cff1b4);
	float v = x > top ? top : x < bottom ? bottom : x == x ? x : 0.0f;
	float n = math_round(v * math_float(0x3fb8aa3b));
	float r = (v - n * math_float(0x3f318000)) - n * math_float(0xb95e8083);
	float p = math_float(0x39500d01), y;
	int32_t whole = (int32_t)n, half = (int32_t)((uint32_t)(whole + 512) >> 1) - 256;

	p = p * r + math_float(0x3ab60b61);
	p = p * r + math_float(0x3c088889);
	p = p * r + math_float(0x3d2aaaab);
	p = p * r + math_float(0x3e2aaaab);
	p = p * r + math_float(0x3f000000);
	y = ((p * r) * r + r) + 1.0f;
	/* Two steps: 2^n alone may be out of range, and a subnormal result rounds once. */
	y = (y * math_power_of_two(half)) * math_power_of_two(whole - half);
	y = x > top ? math_float(0x7f800000) : x < bottom ? 0.0f : y;
	return x == x ? y : x;
}

static inline float math_sigmoid(float x)
{
	float e = math_exp(-__builtin_fabsf(x));
	float q = (x >= 0.0f ? 1.0f : e) / (1.0f + e);

	return x == x ? q : x;
}

/* SUM: sixteen lanes, then a tree. */
float math_sum(const float *x, uint32_t n);

/*
 * The order of candidates as a number, greater is better: logit descending (NaN as -infinity,
 * -0 = +0), then id ascending. Different ids never tie.
 */
uint64_t math_rank(float logit, uint32_t id);

void math_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);

struct math_sampler {
	float temperature, top_p, min_p;
	uint32_t top_k;
	uint64_t seed;
};

/* Which of 1..1024 candidates, in their order, becomes the token at `position`. */
uint32_t math_choose(const float *logits, uint32_t count, const struct math_sampler *sampler,
		     uint32_t position);

#endif
