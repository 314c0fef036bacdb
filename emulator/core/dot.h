/* SPDX-License-Identifier: MIT */
/*
 * The inner loops of MM and MV, once in plain C and again for what the host's processor can do.
 * Integer sums are exact and the float steps keep their order, so all of them give the same bits.
 */
#ifndef EMULATOR_DOT_H
#define EMULATOR_DOT_H

#include <stdint.h>

#include <flightllm/isa.h>

struct dot {
	const char *name;

	/*
	 * One strip, one token, all groups of a tile: sum = sum of code * a over the group's
	 * columns; acc[r] = acc[r] + (float(sum - zero * a_sums[g]) * scales[g][r]) * a_scales[g].
	 * codes [cols / 4][16][4], a [cols], a_scales float32 [groups] without alignment.
	 */
	void (*strip)(const uint8_t *codes, uint32_t cols, int zero, const int8_t *a,
		      const int32_t *a_sums, const uint8_t *a_scales,
		      const float (*scales)[FLM_STRIP], float acc[FLM_STRIP]);

	/* out[p] for `count` positions: groups of 64 of dim, ascending, as mm.qk says. */
	void (*keys)(const int8_t *a, const uint8_t *a_scales, const int8_t *b, uint64_t b_pitch,
		     const uint8_t *b_scales, uint64_t b_scale_pitch, uint32_t dim, uint32_t count,
		     float *out);

	/* sums[d] = sum over `count` <= 64 positions of a[p] * b[p][d]. */
	void (*values)(const int8_t *a, const int8_t *b, uint64_t b_pitch, uint32_t count,
		       uint32_t dim, int32_t *sums);
};

/* The n-th that this host can run, from the plain one at 0 to the fastest; NULL behind it. */
const struct dot *dot_get(unsigned int n);

#endif
