// SPDX-License-Identifier: MIT
/*
 * Do the two references compute what SPEC.md's chapter Numbers says? Expected values are worked
 * out by hand, known answers of others (Philox, CRC32C), or libm's in double precision. The two
 * references are also compared with each other where both have an operation.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_card.h"
#include "tests/ref/ref_model.h"
#include "tests/tap.h"

static double relative(double is, double must_be)
{
	return fabs(is - must_be) / fabs(must_be);
}

/* ---- Numbers ---- */

static void test_exp(void)
{
	static const struct {
		uint32_t x, exp;
	} known[] = {
		{ 0x00000000, 0x3f800000 }, { 0x80000000, 0x3f800000 },
		{ 0x3f800000, 0x402df854 },	/* e */
		{ 0xbf800000, 0x3ebc5ab2 },	/* 1 / e */
		{ 0x3f000000, 0x3fd3094c },	/* sqrt(e) */
		{ 0x7f800000, 0x7f800000 }, { 0xff800000, 0x00000000 },
		{ 0x42b17218, 0x7f800000 },	/* above the last finite one */
		{ 0xc2cff1b4, 0x00000001 },	/* 2^-149 */
		{ 0xc2cff1b5, 0x00000000 },
	};
	double worst = 0, worst_sigmoid = 0;
	bool is_same = true;
	unsigned int i;
	float x;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		ok(bits(ref_isa_exp(ref_isa_bits(known[i].x))) == known[i].exp,
		   "EXP of %08x is %08x", known[i].x, known[i].exp);
	ok(isnan(ref_isa_exp(NAN)) && isnan(ref_isa_sigmoid(NAN)), "EXP and SIGMOID keep NaN");
	for (x = -104; x < 89; x += 0.00097f) {
		double e = exp(x), g = 1 / (1 + exp(-(double)x));

		if (x > -87 && x < 88)
			worst = fmax(worst, relative(ref_isa_exp(x), e));
		if (x > -80)
			worst_sigmoid = fmax(worst_sigmoid, relative(ref_isa_sigmoid(x), g));
		is_same &= bits(ref_isa_exp(x)) == bits(ref_model_exp(x)) &&
			   bits(ref_isa_sigmoid(x)) == bits(ref_model_sigmoid(x));
	}
	ok(worst < 2e-7, "EXP is within 2e-7 of libm (%.3g)", worst);
	ok(worst_sigmoid < 3e-7, "SIGMOID is within 3e-7 of libm (%.3g)", worst_sigmoid);
	ok(is_same, "both references have the same EXP and SIGMOID");
	ok(fabs(ref_isa_exp(-95.0f) - exp(-95.0)) <= 2.9e-45, "a subnormal EXP is within 2 ulp");
}

static void test_sum(void)
{
	float x[49] = { 0 };

	/*
	 * Lane 0 gets 2^24, 1 (lost), 1 (lost), -2^24; lane 1 gets 1. Added one by one, lane 1's
	 * would be lost too.
	 */
	x[0] = 16777216;
	x[1] = 1;
	x[16] = 1;
	x[32] = 1;
	x[48] = -16777216;
	ok(ref_isa_sum(x, 49) == 1, "SUM adds every sixteenth element");
	memset(x, 0, sizeof(x));
	/* (2^24 + -2^24) + (1 + 0): lanes 0 and 8 meet first */
	x[0] = 16777216;
	x[8] = -16777216;
	x[1] = 1;
	ok(ref_isa_sum(x, 16) == 1, "SUM folds lane 8 onto lane 0 first");
	/* lanes 0 and 2 meet before lane 1: (2^24 + -2^24) + 1 */
	x[8] = 0;
	x[2] = -16777216;
	ok(ref_isa_sum(x, 16) == 1, "SUM folds lane 2 onto lane 0 before lane 1");
	ok(bits(ref_isa_sum(x, 0)) == 0, "SUM of nothing is +0");
}

static void test_half(void)
{
	static const struct {
		uint16_t half;
		uint32_t bits;
	} known[] = {
		{ 0x0000, 0x00000000 }, { 0x8000, 0x80000000 }, { 0x3c00, 0x3f800000 },
		{ 0x0001, 0x33800000 }, { 0x83ff, 0xb87fc000 }, { 0x0400, 0x38800000 },
		{ 0x7bff, 0x477fe000 }, { 0xfc00, 0xff800000 }, { 0x3555, 0x3eaaa000 },
	};
	bool is_same = true;
	uint32_t h;
	unsigned int i;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		ok(bits(ref_isa_half(known[i].half)) == known[i].bits,
		   "float16 %04x is float32 %08x", known[i].half, known[i].bits);
	for (h = 0; h < 65536; h++) {
		float a = ref_isa_half(h), b = ref_model_half(h);

		is_same &= isnan(a) ? isnan(b) : bits(a) == bits(b);
	}
	ok(is_same, "both references read all float16 alike");
}

static void test_philox(void)
{
	static const uint32_t known[][10] = {
		{ 0, 0, 0, 0, 0, 0, 0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8 },
		{ 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff,
		  0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd },
		{ 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344, 0xa4093822, 0x299f31d0,
		  0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1 },
	};
	uint32_t out[4];
	unsigned int i;

	for (i = 0; i < 3; i++) {
		ref_isa_philox(known[i], known[i] + 4, out);
		ok(!memcmp(out, known[i] + 6, 16), "Philox4x32-10 known answer %u", i);
	}
	ok(ref_model_crc32c(0, "123456789", 9) == 0xe3069283, "CRC32C of the nine digits");
}

/* The first word for counter 0, key 0 is 0x6627e8d5: u = 0.399, worked out by hand below. */
static void test_sampling(void)
{
	static const struct {
		uint32_t count;
		struct ref_sampler sampler;
		uint32_t id;
		const char *what;
	} known[] = {
		{ 16, { 0, 0, 0, 0, 0 }, 100, "temperature 0 takes the first" },
		{ 16, { NAN, 0, 0, 0, 0 }, 100, "temperature NaN takes the first" },
		{ 16, { 1, 0, 0, 0, 0 }, 106, "of 16 equal ones the one at 6.38" },
		{ 4, { 1, 0, 0, 0, 0 }, 101, "of 4 equal ones the one at 1.6" },
		{ 16, { 1, 2, 0, 0, 0 }, 100, "top-k 2: the one at 0.8" },
		{ 16, { 1, 0, 0.5f, 0, 0 }, 103, "top-p 0.5 keeps 8: the one at 3.19" },
		{ 16, { 1, 0, 1, 0, 0 }, 106, "top-p 1 keeps all" },
		{ 16, { 1, 8, 0.5f, 0, 0 }, 101, "top-k comes before top-p: 4 kept" },
		{ 0, { 1, 0, 0, 0, 0 }, 0, "no candidate is token 0" },
	};
	struct ref_candidate x[16];
	struct ref_sampler min_p = { 1, 0, 0, 0.5f, 0 };
	unsigned int i;

	for (i = 0; i < 16; i++)
		x[i] = (struct ref_candidate){ 2.5f, 100 + i };
	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++)
		ok(ref_isa_choose(x, known[i].count, &known[i].sampler, 0) == known[i].id,
		   "sampling: %s", known[i].what);
	/* e = 1, 1, 1, 0.37, ...: three kept, the one at 1.197 */
	for (i = 3; i < 16; i++)
		x[i].logit = 1.5f;
	ok(ref_isa_choose(x, 16, &min_p, 0) == 101, "sampling: min-p 0.5 keeps three");
	min_p.min_p = 0;
	min_p.temperature = 1e30f;
	ok(ref_isa_choose(x, 16, &min_p, 0) == 106,
	   "sampling: a great temperature makes all equal");
}

static void test_quant_model(void)
{
	float v[4] = { 127, 0.5f, -2.5f, 1.5f }, scale;
	int8_t code[4];

	ref_model_quant(v, 4, 4, code, &scale);
	ok(code[0] == 127 && code[1] == 0 && code[2] == -2 && code[3] == 2 && scale == 1,
	   "QUANT of the model rounds ties to even");
}

/* ---- MISC ---- */

static void test_misc_simple(void)
{
	static const uint32_t a[4] = { 0x3f800000, 0x80000000, 0x7fa00001, 0xc0000000 };
	int i;

	start(1);
	for (i = 0; i < 4; i++) {
		put(4 * i, ref_isa_bits(a[i]));
		memcpy(chip(0, 4 * i), &a[i], 4);
		put(0x1000 + 4 * i, 0.5f);
	}
	misc(FLM_MISC_ADD, FLM_USE_B | FLM_USE_OUT, 4, 0);
	misc(FLM_MISC_COPY, FLM_USE_OUT, 4, 0);
	SET(&s[FLM_UNIT_MISC], MISC, OUT, 0x3010);
	misc(FLM_MISC_RELU, FLM_USE_OUT, 4, 0);
	SET(&s[FLM_UNIT_MISC], MISC, OUT, 0x3020);
	misc(FLM_MISC_FILL, FLM_USE_OUT, 1, 0xff800001);
	SET(&s[FLM_UNIT_MISC], MISC, OUT, 0x3030);
	misc(FLM_MISC_SCALE, FLM_USE_OUT, 4, 0xc0400000);
	SET(&s[FLM_UNIT_MISC], MISC, OUT, 0x3040);
	ok(run() == 0, "simple MISC operations run");
	ok(get(0x3000) == 1.5f && get(0x3004) == 0.5f && get(0x300c) == -1.5f, "add adds");
	ok(bits(get(0x3008)) == 0x7fc00000, "a NaN is written as 0x7fc00000");
	ok(word_at(chip(0, 0x3018)) == 0x7fa00001 && word_at(chip(0, 0x3014)) == 0x80000000,
	   "copy keeps a NaN's bits");
	ok(bits(get(0x3020)) == 0x3f800000 && bits(get(0x3024)) == 0 &&
		   bits(get(0x3028)) == 0x7fc00000 && bits(get(0x302c)) == 0,
	   "relu gives +0 and keeps NaN");
	ok(word_at(chip(0, 0x3030)) == 0xff800001, "fill writes bits");
	ok(get(0x3040) == -3 && get(0x304c) == 6 && bits(get(0x3044)) == 0, "scale multiplies");
}

static void test_misc_smooth(void)
{
	double worst_silu = 0, worst_gelu = 0, mean = 0, var = 0, square = 0, worst_rms = 0,
	       worst_ln = 0;
	int i, n = 100;

	start(1);
	for (i = 0; i < n; i++) {
		float a = sinf(i) * 3;

		put(4 * i, a);
		put(0x1000 + 4 * i, 1 + 0.01f * i);
		put(0x2000 + 4 * i, 0.125f * i);
		mean += (double)a / n;
		square += (double)a * a / n;
	}
	var = square - mean * mean;
	misc(FLM_MISC_SILU, FLM_USE_OUT, n, 0);
	misc(FLM_MISC_GELU, FLM_USE_OUT, n, 0);
	SET(&s[FLM_UNIT_MISC], MISC, OUT, 0x3400);
	misc(FLM_MISC_RMSNORM, FLM_USE_B | FLM_USE_OUT, n, 0x3727c5ac);	/* 1e-5 */
	SET(&s[FLM_UNIT_MISC], MISC, OUT, 0x3800);
	misc(FLM_MISC_LAYERNORM, FLM_USE_B | FLM_USE_C | FLM_USE_OUT, n, 0x3727c5ac);
	SET(&s[FLM_UNIT_MISC], MISC, OUT, 0x3c00);
	ok(run() == 0, "smooth MISC operations run");
	for (i = 0; i < n; i++) {
		double a = get(4 * i), b = get(0x1000 + 4 * i), c = get(0x2000 + 4 * i);
		double silu = a / (1 + exp(-a));
		double gelu = a * 0.5 * (1 + tanh(sqrt(2 / M_PI) * (a + 0.044715 * a * a * a)));

		worst_silu = fmax(worst_silu, fabs(get(0x3000 + 4 * i) - silu));
		worst_gelu = fmax(worst_gelu, fabs(get(0x3400 + 4 * i) - gelu));
		worst_rms =
			fmax(worst_rms, fabs(get(0x3800 + 4 * i) - a / sqrt(square + 1e-5) * b));
		worst_ln = fmax(worst_ln, fabs(get(0x3c00 + 4 * i) -
					       ((a - mean) / sqrt(var + 1e-5) * b + c)));
	}
	ok(worst_silu < 1e-6, "silu is near libm's (%.3g)", worst_silu);
	ok(worst_gelu < 1e-6, "gelu is near libm's (%.3g)", worst_gelu);
	ok(worst_rms < 2e-6, "rmsnorm is near double precision (%.3g)", worst_rms);
	ok(worst_ln < 4e-6, "layernorm is near double precision (%.3g)", worst_ln);
}

static void test_rope_hadamard(void)
{
	int i;
	bool is_good = true;

	start(1);
	/* two heads of 4: (x0, x1 | y0, y1); cosines 0, 1; sines 1, 0 */
	for (i = 0; i < 8; i++)
		put(4 * i, i + 1);
	put(0x1004, 1);
	put(0x1008, 1);
	misc(FLM_MISC_ROPE, FLM_USE_B | FLM_USE_OUT, 8, 4);
	misc(FLM_MISC_HADAMARD, FLM_USE_OUT, 16, 16);
	SET(&s[FLM_UNIT_MISC], MISC, A, 0x800);
	SET(&s[FLM_UNIT_MISC], MISC, OUT, 0x3800);
	put(0x800 + 4 * 5, 4);		/* column 5 of H: sign is the parity of i & 5 */
	ok(run() == 0, "rope and hadamard run");
	ok(get(0x3000) == -3 && get(0x3004) == 2 && get(0x3008) == 1 && get(0x300c) == 4 &&
	   get(0x3010) == -7 && get(0x3014) == 6 && get(0x3018) == 5 && get(0x301c) == 8,
	   "rope turns pairs half a head apart, in each head");
	for (i = 0; i < 16; i++)
		is_good &= get(0x3800 + 4 * i) == (__builtin_parity(i & 5) ? -1 : 1);
	ok(is_good, "hadamard of a unit vector is a column of H / 4");
}

static void test_softmax(void)
{
	double sum = 0, worst = 0;
	int i;

	start(1);
	for (i = 0; i < 40; i++)
		put(4 * i, cosf(i) * 5);
	put(4 * 21, NAN);	/* absent: beyond POS */
	for (i = 0; i <= 20; i++)
		sum += exp(get(4 * i) * 0.5);
	misc(FLM_MISC_SOFTMAX, FLM_USE_OUT, 40, 0x3f000000);
	SET(&s[FLM_UNIT_MISC], MISC, POS, 20);
	ok(run() == 0, "softmax runs");
	for (i = 0; i <= 20; i++)
		worst = fmax(worst, relative(get(0x3000 + 4 * i), exp(get(4 * i) * 0.5) / sum));
	ok(worst < 1e-6, "softmax is near libm's (%.3g)", worst);
	ok(bits(get(0x3000 + 4 * 21)) == 0 && bits(get(0x3000 + 4 * 39)) == 0,
	   "positions behind the row's own are +0");

	/*
	 * Rows at positions 63 and 64, two key blocks, both query blocks keep the second one only:
	 * row 0 has no position in it, row 1 has one.
	 */
	start(1);
	chip(0, 0x1000)[0] = 2;
	misc(FLM_MISC_SOFTMAX, FLM_USE_B | FLM_USE_OUT, 65, 0x3f800000);
	SET(&s[FLM_UNIT_MISC], MISC, B_PITCH, 0x10);
	SET(&s[FLM_UNIT_MISC], MISC, OUT_PITCH, 0x200);
	SET(&s[FLM_UNIT_MISC], MISC, A_PITCH, 0x200);
	SIZE(&s[FLM_UNIT_MISC], MISC, ROWS, 2);
	SET(&s[FLM_UNIT_MISC], MISC, POS, 63);
	s[FLM_UNIT_MISC].w[s[FLM_UNIT_MISC].last] |= FLM_MISC_MASK;
	chip(0, 0x1010)[0] = 2;
	ok(run() == 0, "a masked softmax runs");
	ok(bits(get(0x3000)) == 0 && bits(get(0x3100)) == 0 && get(0x3300) == 1 &&
	   bits(get(0x3200)) == 0, "masked positions are +0, a lonely one is 1");
}

static void test_quant(void)
{
	static const float a[] = {
		127, 0.5f, 1.5f, 2.5f,		/* inv = 1: ties */
		-0.5f, -1.5f, -2.5f, -127,
		0, -0.0f, 0, 0,			/* zeros */
		1e-40f, -1e-40f, 0, 0,		/* inv infinite */
		1, NAN, 2, 3,
		1, -INFINITY, 2, 3,
		0.1f, 0.2f, -0.3f, 0.05f,
		1,				/* a short group */
	};
	static const int8_t code[32] = {
		127, 0, 2, 2, 0, -2, -2, -127, 0, 0, 0, 0, 0, 0, 0, 0,
		0, 0, 0, 0, 0, 0, 0, 0, 42, 85, -127, 21, 127, 0, 0, 0,
	};
	static const uint32_t scale[8] = {
		/* 127/127, 127/127, 0, 0, NaN, NaN, 0.3/127, 1/127 */
		0x3f800000, 0x3f800000, 0, 0, 0x7fc00000, 0x7fc00000, 0x3b1acf38, 0x3c010204,
	};
	int i;

	start(1);
	memcpy(chip(0, 0), a, sizeof(a));
	memset(chip(0, 0x3000), 0x55, 64);
	misc(FLM_MISC_QUANT, FLM_USE_C | FLM_USE_OUT, 29, 4);
	misc(FLM_MISC_DEQUANT, FLM_USE_C | FLM_USE_OUT, 29, 4);
	SET(&s[FLM_UNIT_MISC], MISC, A, 0x3000);
	SET(&s[FLM_UNIT_MISC], MISC, OUT, 0x3800);
	ok(run() == 0, "quant and dequant run");
	ok(!memcmp(chip(0, 0x3000), code, 32),
	   "quant: ties to even, nothing for zeros, NaN, infinity");
	ok(chip(0, 0x3020)[0] == 0x55, "quant writes zeros up to a multiple of 16, no further");
	for (i = 0; i < 8; i++)
		ok(word_at(chip(0, 0x2000 + 4 * i)) == scale[i], "quant: scale of group %d is %08x",
		   i, scale[i]);
	ok(get(0x3800) == 127 && bits(get(0x3840)) == 0x7fc00000 && get(0x3808) == 2,
	   "dequant multiplies by the group's scale");

	start(1);
	chip(0, 0)[0] = 0xfe;			/* -2 x 2^-24 */
	chip(0, 0x2000)[0] = 1;
	misc(FLM_MISC_DEQUANT, FLM_USE_C | FLM_USE_OUT, 1, 64);
	s[FLM_UNIT_MISC].w[s[FLM_UNIT_MISC].last] |= FLM_MISC_HALF;
	ok(run() == 0 && get(0x3000) == -0x1p-23f, "dequant reads subnormal float16 scales");
}

static void test_topk(void)
{
	static const uint32_t want[12] = {
		0x7f800000, 1003, 0x40000000, 1001, 0x80000000, 1002, 0x00000000, 1004,
		0xff800000, 1000, 0xff800000, 0xffffffff,
	};
	static const float a[] = { NAN, 2, -0.0f, INFINITY, 0 };

	start(1);
	isa.length[FLM_LENGTH_POS] = 4;
	isa.length[FLM_LENGTH_TOKENS] = 3;
	isa.length[FLM_LENGTH_SAMPLE] = 1;
	memcpy(chip(0, 0), a, sizeof(a));
	misc(FLM_MISC_TOPK, FLM_USE_OUT, 5, 6);
	SET(&s[FLM_UNIT_MISC], MISC, POS, 1000);
	misc(FLM_MISC_SAMPLE, 0, 1, 6);
	SET(&s[FLM_UNIT_MISC], MISC, A, 0x3000);
	ok(run() == 0, "topk and sample run");
	ok(!memcmp(chip(0, 0x3000), want, sizeof(want)),
	   "topk: greatest first, equal by id, NaN as -infinity, empty places");
	ok(isa.core[0].has_sampled && isa.token == 1003, "sample takes the first at temperature 0");
}

int main(void)
{
	test_exp();
	test_sum();
	test_half();
	test_philox();
	test_sampling();
	test_quant_model();
	test_misc_simple();
	test_misc_smooth();
	test_rope_hadamard();
	test_softmax();
	test_quant();
	test_topk();
	ref_isa_fini(&isa);
	return done_testing();
}
