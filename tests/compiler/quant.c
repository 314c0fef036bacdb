// SPDX-License-Identifier: MIT
/*
 * How well weights survive: random ones of all magnitudes become codes and scales, and what those
 * say is compared with what was there. Float16 has no scales below 2^-24, and wide steps above it:
 * nothing may be lost there but what the steps cost.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "compiler/cc.h"
#include "tests/tap.h"

#define ROWS	FLM_STRIP
#define COLS	FLM_GROUP

static void fill(float *w, float most)
{
	uint64_t state = 1;

	for (int i = 0; i < ROWS * COLS; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		w[i] = most * (2.0f * (state >> 40) / (1 << 24) - 1);
	}
}

/* A strip of one group, as SPEC.md lays it out. */
static float weight(const uint8_t *strip, unsigned int width, int row, int col)
{
	const uint8_t *scales = strip + 2 * width * COLS;
	float scale = quant_float(scales[2 * row] | scales[2 * row + 1] << 8);
	uint8_t pair;

	if (width == 8)
		return (strip[64 * (col / 4) + 4 * row + col % 4] - 128) * scale;
	pair = strip[64 * (col / 8) + 4 * row + col % 4];
	return ((col / 4 % 2 ? pair >> 4 : pair & 15) - 8) * scale;
}

/* What is lost, relative to what was there; root of mean squares. */
static double lost(float most, unsigned int width)
{
	static float w[ROWS * COLS];
	static uint8_t strip[2 * 8 * COLS + 64];
	double wrong = 0, all = 0;

	fill(w, most);
	if (!quant_strip(w, COLS, width, strip))
		return INFINITY;
	for (int i = 0; i < ROWS * COLS; i++) {
		double d = w[i] - weight(strip, width, i / COLS, i % COLS);

		wrong += d * d;
		all += (double)w[i] * w[i];
	}
	return sqrt(wrong / all);
}

int main(void)
{
	static const struct {
		float most;
		double w8, w4;
	} rows[] = {
		{ 1e-7f, 0.4, 0.4 }, { 1e-6f, 0.04, 0.08 }, { 1e-5f, 0.008, 0.08 },
		{ 1e-4f, 0.005, 0.08 }, { 1e-2f, 0.005, 0.08 }, { 1, 0.005, 0.08 },
		{ 1e5f, 0.005, 0.08 },
	};
	float zeros[COLS] = { 0 }, w[6] = { 1, -3, 2, 0, 1, 0 };
	int8_t codes[COLS] = { 1 };
	uint8_t scale[2];

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		double w8 = lost(rows[i].most, 8), w4 = lost(rows[i].most, 4);

		ok(w8 <= rows[i].w8, "weights up to %g lose %.4f at 8 bits", rows[i].most, w8);
		ok(w4 <= rows[i].w4, "weights up to %g lose %.4f at 4 bits", rows[i].most, w4);
	}
	ok(quant_row(zeros, COLS, codes, scale) && !scale[0] && !scale[1] && !codes[0],
	   "zeros stay zeros");
	ok(quant_greatest(w, 6) == 0x40400000, "the greatest magnitude is found");
	w[5] = -INFINITY;
	ok(quant_greatest(w, 6) == 0x7f800000, "and what is not finite");
	w[0] = NAN;
	ok(quant_greatest(w, 6) > 0x7f800000, "and what is no number");
	return done_testing();
}
