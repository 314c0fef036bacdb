// SPDX-License-Identifier: MIT
/*
 * Sums, the order of candidates and the choice of a token. Sums of the sampler run strictly from
 * first to last: that is their definition, not an oversight.
 */
#include "emulator/core/math.h"

#include <flightllm/isa.h>

float math_sum(const float *x, uint32_t n)
{
	float lane[MATH_LANES] = { 0 };
	uint32_t i, l;

	for (i = 0; i + MATH_LANES <= n; i += MATH_LANES)
		for (l = 0; l < MATH_LANES; l++)
			lane[l] += x[i + l];
	for (l = 0; i + l < n; l++)
		lane[l] += x[i + l];
	for (i = MATH_LANES / 2; i > 0; i /= 2)
		for (l = 0; l < i; l++)
			lane[l] += lane[l + i];
	return lane[0];
}

uint64_t math_rank(float logit, uint32_t id)
{
	uint32_t bits = math_bits(logit);

	if (logit != logit)
		bits = 0xff800000;
	else if (logit == 0.0f)
		bits = 0;
	/* Negative numbers descend as their bits ascend. */
	bits = bits & 0x80000000 ? ~bits : bits | 0x80000000;
	return (uint64_t)bits << 32 | (uint32_t)~id;
}

void math_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4])
{
	uint32_t c[4] = { counter[0], counter[1], counter[2], counter[3] };
	uint32_t k[2] = { key[0], key[1] };
	int round;

	for (round = 0; round < 10; round++) {
		uint64_t m0 = (uint64_t)0xd2511f53 * c[0], m1 = (uint64_t)0xcd9e8d57 * c[2];

		c[0] = (uint32_t)(m1 >> 32) ^ c[1] ^ k[0];
		c[1] = (uint32_t)m1;
		c[2] = (uint32_t)(m0 >> 32) ^ c[3] ^ k[1];
		c[3] = (uint32_t)m0;
		k[0] += 0x9e3779b9;
		k[1] += 0xbb67ae85;
	}
	memcpy(out, c, sizeof(c));
}

uint32_t math_choose(const float *logits, uint32_t count, const struct math_sampler *sampler,
		     uint32_t position)
{
	const uint32_t counter[4] = { position, 0, 0, 0 };
	const uint32_t key[2] = { (uint32_t)sampler->seed, (uint32_t)(sampler->seed >> 32) };
	float e[FLM_TOPK_MAX], sum, a, v;
	uint32_t random[4], i;

	if (count > FLM_TOPK_MAX)
		count = FLM_TOPK_MAX;
	if (!(sampler->temperature > 0.0f))
		return 0;
	if (sampler->top_k > 0 && sampler->top_k < count)
		count = sampler->top_k;
	sum = 0.0f;
	for (i = 0; i < count; i++) {
		e[i] = math_exp((logits[i] - logits[0]) / sampler->temperature);
		sum = sum + e[i];
	}
	if (sampler->top_p > 0.0f && sampler->top_p < 1.0f) {
		a = 0.0f;
		for (i = 0; i < count; i++) {
			a = a + e[i] / sum;
			if (a >= sampler->top_p)
				count = i + 1;
		}
	}
	if (sampler->min_p > 0.0f) {
		for (i = 1; i < count && e[i] >= sampler->min_p; i++)
			;
		count = i;
	}
	sum = 0.0f;
	for (i = 0; i < count; i++)
		sum = sum + e[i];
	math_philox(counter, key, random);
	v = ((float)(random[0] >> 8) * math_float(0x33800000)) * sum;
	a = 0.0f;
	for (i = 0; i < count; i++) {
		a = a + e[i];
		if (a > v)
			return i;
	}
	return count - 1;
}
