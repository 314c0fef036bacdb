// SPDX-License-Identifier: MIT
/*
 * The arithmetic of chapters Numbers and Sampling, and each operation of MISC, against literals
 * that were computed from SPEC.md by other means than C.
 */
#include "tests/emulator/machine.h"

/* Where the operands of MISC are, row by row 64 bytes apart, and one row of so many elements. */
#define A " a=glb:0 a_pitch=64"
#define B " b=glb:256"
#define C " c=glb:512 c_pitch=64"
#define OUT " out=act:0 out_pitch=64"
#define ROW(cols) " rows=1/1 cols=" #cols "/" #cols

static void test_numbers(void)
{
	static const uint32_t exp[][2] = {
		{ 0x00000000, 0x3f800000 }, { 0x3f800000, 0x402df854 }, { 0xbf800000, 0x3ebc5ab2 },
		{ 0x3f000000, 0x3fd3094c }, { 0x41200000, 0x46ac14ee }, { 0xc2af0000, 0x006cb2bc },
		{ 0xc2ce0000, 0x00000001 }, { 0x42b16666, 0x7f7a37fc }, { 0xc2c80000, 0x0000001b },
		{ 0x42b17217, 0x7f7fff84 }, { 0x42b17218, 0x7f800000 }, { 0xc2cff1b4, 0x00000001 },
		{ 0xc2cff1b5, 0x00000000 }, { 0x322bcc77, 0x3f800000 }, { 0x7f800000, 0x7f800000 },
		{ 0xff800000, 0x00000000 },
	};
	static const uint32_t sigmoid[][2] = {
		{ 0x00000000, 0x3f000000 }, { 0x80000000, 0x3f000000 }, { 0x3f800000, 0x3f3b26a8 },
		{ 0xbf800000, 0x3e89b2b1 }, { 0x40a00000, 0x3f7e4961 }, { 0xc0a00000, 0x3bdb4fb4 },
		{ 0xc2b40000, 0x0008ec28 }, { 0x42b40000, 0x3f800000 },
	};
	static const uint32_t half[][2] = {
		{ 0x0000, 0x00000000 }, { 0x8000, 0x80000000 }, { 0x0001, 0x33800000 },
		{ 0x83ff, 0xb87fc000 }, { 0x0400, 0x38800000 }, { 0x3c00, 0x3f800000 },
		{ 0xc500, 0xc0a00000 }, { 0x7bff, 0x477fe000 }, { 0x7c00, 0x7f800000 },
		{ 0xfc00, 0xff800000 },
	};
	static const float logits[] = { 2.0f, 1.5f, 1.0f, -1.0f };
	struct math_sampler sampler = { .temperature = 0.0f };
	uint32_t out[4], i, wrong = 0, seen[4] = { 0 };
	float x[37];

	for (i = 0; i < sizeof(exp) / sizeof(exp[0]); i++)
		wrong += math_bits(math_exp(math_float(exp[i][0]))) != exp[i][1];
	ok(!wrong, "exp gives the stated bits at its edges and between");
	ok(math_exp(math_float(0x7fc00001)) != math_exp(0.0f) &&
	   math_bits(math_written(math_exp(math_float(0x7fc00001)))) == 0x7fc00000,
	   "exp of NaN is NaN, written as 0x7fc00000");
	for (i = 0, wrong = 0; i < sizeof(sigmoid) / sizeof(sigmoid[0]); i++)
		wrong += math_bits(math_sigmoid(math_float(sigmoid[i][0]))) != sigmoid[i][1];
	ok(!wrong, "sigmoid gives the stated bits");
	for (i = 0, wrong = 0; i < sizeof(half) / sizeof(half[0]); i++)
		wrong += math_bits(math_half((uint16_t)half[i][0])) != half[i][1];
	ok(!wrong && math_half(0x7e00) != math_half(0x7e00),
	   "float16 converts exactly, subnormals, infinity and NaN too");
	for (i = 0; i < 37; i++)
		x[i] = (float)(0.1 * (double)(i + 1));
	ok(math_bits(math_sum(x, 37)) == 0x428c999a, "SUM adds in sixteen lanes and a tree");
	math_philox((uint32_t[]) { 0, 0, 0, 0 }, (uint32_t[]) { 0, 0 }, out);
	ok(out[0] == 0x6627e8d5 && out[1] == 0xe169c58d && out[2] == 0xbc57ac4c &&
	   out[3] == 0x9b00dbd8, "Philox of zeros is the published vector");
	math_philox((uint32_t[]) { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
		    (uint32_t[]) { 0xa4093822, 0x299f31d0 }, out);
	ok(out[0] == 0xd16cfe09 && out[1] == 0x94fdcceb && out[2] == 0x5001e420 &&
	   out[3] == 0x24126ea1, "Philox of the digits of pi is the published vector");

	ok(math_choose(logits, 4, &sampler, 5) == 0, "temperature 0 chooses the first candidate");
	sampler.temperature = math_float(0x7fc00000);
	ok(math_choose(logits, 4, &sampler, 5) == 0, "temperature NaN does too");
	sampler.temperature = 0.8f;
	for (i = 0; i < 1000; i++)
		seen[math_choose(logits, 4, &sampler, i)]++;
	ok(seen[0] > 490 && seen[0] < 590 && seen[1] > 240 && seen[1] < 340 && seen[2] > 105 &&
	   seen[2] < 205 && seen[3] > 2 && seen[3] < 30, "a choice follows the probabilities");
	sampler.top_k = 2;
	memset(seen, 0, sizeof(seen));
	for (i = 0; i < 1000; i++)
		seen[math_choose(logits, 4, &sampler, i)]++;
	ok(seen[0] && seen[1] && !seen[2] && !seen[3], "top_k keeps that many");
	sampler.top_k = 0;
	sampler.top_p = 0.8f;	/* 0.54 + 0.29 reaches it */
	memset(seen, 0, sizeof(seen));
	for (i = 0; i < 1000; i++)
		seen[math_choose(logits, 4, &sampler, i)]++;
	ok(seen[0] && seen[1] && !seen[2] && !seen[3], "top_p keeps up to the one that reaches it");
	sampler.top_p = 1.0f;
	sampler.min_p = 0.28f;	/* e is 1, 0.535, 0.2865, 0.0235 */
	memset(seen, 0, sizeof(seen));
	for (i = 0; i < 1000; i++)
		seen[math_choose(logits, 4, &sampler, i)]++;
	ok(seen[0] && seen[1] && seen[2] && !seen[3], "min_p keeps those not below it");
	ok(math_rank(1.0f, 5) > math_rank(0.5f, 1) && math_rank(1.0f, 5) > math_rank(1.0f, 6) &&
	   math_rank(math_float(0x80000000), 1) > math_rank(0.0f, 2) &&
	   math_rank(-1.0f, 1) > math_rank(-2.0f, 1) &&
	   math_rank(math_float(0x7fc00000), 1) < math_rank(-3e38f, 1),
	   "candidates rank by logit, then by id, NaN last");
}

static void begin_misc(void)
{
	begin(1);
	put_floats(GLB(0), (const float[]) { 1.0f, -2.0f, 0.5f, 3.0f }, 4);
	put_floats(GLB(256), (const float[]) { 1.0f, 0.5f, 2.0f, -1.0f }, 4);
	put_floats(GLB(512), (const float[]) { 0.25f, 0.0f, -1.0f, 1.0f }, 4);
}

static void test_misc(void)
{
	const uint32_t nan = 0x7fc00000, infinity = 0x7f800000;
	uint32_t i;

	begin_misc();
	program("@misc\nmisc.add" A B OUT ROW(4));
	ok(!run() && WORDS_ARE(ACT(0), 0x40000000, 0xbfc00000, 0x40200000, 0x40000000, 0), "add");
	begin_misc();
	program("@misc\nmisc.mul" A B OUT ROW(4));
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, 0xbf800000, 0x3f800000, 0xc0400000, 0), "mul");
	begin_misc();
	program("@misc\nmisc.scale" A OUT ROW(4) " imm=0xbf000000");
	ok(!run() && WORDS_ARE(ACT(0), 0xbf000000, 0x3f800000, 0xbe800000, 0xbfc00000, 0), "scale");
	begin_misc();
	memcpy(chip(0, GLB(4)), &(uint32_t) { 0xffc12345 }, 4);
	program("@misc\nmisc.copy" A OUT ROW(3));
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, 0xffc12345, 0x3f000000, 0),
	   "copy leaves the bits of a NaN");
	sfu->count = 0;
	program("@misc\nmisc.scale" A OUT ROW(3) " imm=0x3f800000");
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, nan, 0x3f000000, 0),
	   "what computes writes one NaN");
	begin(1);
	program("@misc\nmisc.fill out=act:4 rows=1/1 cols=1/1 imm=0xff812345");
	ok(!run() && WORDS_ARE(ACT(0), 0, 0xff812345, 0), "fill writes its bits");
	begin_misc();
	memcpy(chip(0, GLB(8)), &(uint32_t) { 0xffc12345 }, 4);
	memcpy(chip(0, GLB(12)), &(uint32_t) { 0x80000000 }, 4);
	program("@misc\nmisc.relu" A OUT ROW(4));
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, 0, nan, 0), "relu keeps NaN, -0 becomes +0");
	begin_misc();
	program("@misc\nmisc.silu" A OUT ROW(4));
	ok(!run() && WORDS_ARE(ACT(0), 0x3f3b26a8, 0xbe7420a9, 0x3e9f597f, 0x4036e4ec), "silu");
	begin_misc();
	program("@misc\nmisc.gelu" A OUT ROW(4));
	ok(!run() && WORDS_ARE(ACT(0), 0x3f57585c, 0xbd39f7c6, 0x3eb1016d, 0x403fc468), "gelu");
	begin_misc();
	program("@misc\nmisc.rmsnorm" A B OUT ROW(4) " imm=0x3727c5ac");
	ok(!run() && WORDS_ARE(ACT(0), 0x3f07a1c5, 0xbf07a1c5, 0x3f07a1c5, 0xbfcb72a8), "rmsnorm");
	begin_misc();
	program("@misc\nmisc.layernorm" A B " c=glb:512" OUT ROW(4) " imm=0x3727c5ac");
	ok(!run() && WORDS_ARE(ACT(0), 0x3eebce4f, 0xbf3ca90b, 0xbf91f7b8, 0xbeaac54c),
	   "layernorm");
	begin_misc();
	put_floats(GLB(256), (const float[]) { 0.5f, -1.0f, 0.25f, 2.0f }, 4);
	program("@misc\nmisc.rope" A B OUT ROW(4) " imm=4");
	ok(!run() && WORDS_ARE(ACT(0), 0x3ec00000, 0xc0800000, 0x3f000000, 0xc0e00000), "rope");
	begin_misc();
	program("@misc\nmisc.rope" A B OUT ROW(6) " imm=4");
	ok(run() == FLM_FAULT_FORMAT, "rope wants whole heads");

	begin_misc();
	program("@misc\nmisc.softmax" A OUT ROW(4) " imm=0x3f000000 pos=1");
	put_floats(ACT(8), (const float[]) { 7.0f, 7.0f }, 2);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f514c8f, 0x3e3acdc1, 0, 0),
	   "softmax ends at the row's position");
	begin_misc();
	program("@misc\nmisc.softmax +same" A OUT ROW(4)
		" rows=2/2 a_pitch=0 imm=0x3f000000 pos=1000");
	ok(!run() && WORDS_ARE(ACT(0), 0x3e58f07b, 0x3d419f74, 0x3e28f3da, 0x3f136cf3) &&
	   WORDS_ARE(ACT(64), 0x3e58f07b, 0x3d419f74, 0x3e28f3da, 0x3f136cf3), "or at its length");
	begin_misc();
	program("@misc\nmisc.softmax +mask" A " b=idx:0 b_pitch=1" OUT ROW(4)
		" imm=0x3f000000 pos=70");
	put_floats(ACT(0), (const float[]) { 7.0f, 7.0f, 7.0f, 7.0f }, 4);
	chip(0, IDX(0))[0] = 1;
	ok(!run() && WORDS_ARE(ACT(0), 0, 0, 0, 0), "a row without present positions gives +0");

	begin_misc();
	memset(chip(0, ACT(0)), 9, 32);
	program("@misc\nmisc.quant" A C OUT ROW(4) " imm=4");
	ok(!run() && !memcmp(chip(0, ACT(0)), "\x2a\xab\x15\x7f\0\0\0\0\0\0\0\0\0\0\0\0\x09", 17) &&
	   WORDS_ARE(GLB(512), 0x3cc18306), "quant rounds to nearest and pads with zeros");
	begin_misc();
	put_floats(GLB(8), (const float[]) { 0.0f, 1e-38f }, 2);
	program("@misc\nmisc.quant" A C OUT ROW(5) " imm=2");
	memcpy(chip(0, GLB(16)), &infinity, 4);
	ok(!run() && !memcmp(chip(0, ACT(0)), "\x40\x81\0\0\0", 5) &&
	   WORDS_ARE(GLB(512), 0x3c810204, 0, nan), "nothing has scale 0, infinity scale NaN");
	begin_misc();
	program("@misc\nmisc.quant" A C OUT ROW(4) " imm=0");
	ok(run() == FLM_FAULT_FORMAT, "a group of nothing is fault FORMAT");
	begin(1);
	memcpy(chip(0, GLB(0)), "\x01\xff\x80\x02\x03", 5);
	put_floats(GLB(512), (const float[]) { 0.5f, 2.0f, -1.0f }, 3);
	program("@misc\nmisc.dequant" A C OUT ROW(5) " imm=2");
	ok(!run() && WORDS_ARE(ACT(0), 0x3f000000, 0xbf000000, 0xc3800000, 0x40800000, 0xc0400000),
	   "dequant multiplies each group by its scale");
	begin(1);
	memcpy(chip(0, GLB(0)), "\x01\xff\x80\x02\x03", 5);
	memcpy(chip(0, GLB(512)), "\x00\x38\x00\x40\x00\xbc", 6);
	program("@misc\nmisc.dequant" A C OUT ROW(5) " imm=2 +half");
	ok(!run() && WORDS_ARE(ACT(0), 0x3f000000, 0xbf000000, 0xc3800000, 0x40800000, 0xc0400000),
	   "and takes float16 scales");
	begin(1);
	for (i = 0; i < 16; i++)
		put_floats(GLB(4 * i), (const float[]) { (float)i }, 1);
	program("@misc\nmisc.hadamard" A OUT ROW(16) " imm=16");
	ok(!run() && float_at(0, ACT(0)) == 30.0f && float_at(0, ACT(4)) == -2.0f &&
	   float_at(0, ACT(8)) == -4.0f && float_at(0, ACT(16)) == -8.0f &&
	   float_at(0, ACT(32)) == -16.0f && float_at(0, ACT(12)) == 0.0f, "hadamard of 0..15");
	begin(1);
	program("@misc\nmisc.hadamard" A OUT ROW(48) " imm=48");
	ok(run() == FLM_FAULT_FORMAT, "a hadamard block is a power of two");

	begin_misc();
	memcpy(chip(0, GLB(4)), &nan, 4);
	put_floats(GLB(16), (const float[]) { 3.0f, -1.0f }, 2);
	program("@misc\nmisc.topk" A OUT ROW(6) " imm=4 pos=100");
	ok(!run() && WORDS_ARE(ACT(0), 0x40400000, 103, 0x40400000, 104, 0x3f800000, 100,
			       0x3f000000, 102, 0), "topk sorts by logit, then by id");
	begin_misc();
	memcpy(chip(0, GLB(4)), &nan, 4);
	program("@misc\nmisc.topk" A OUT ROW(2) " imm=4");
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, 0, 0xff800000, 1, 0xff800000, 0xffffffff,
			       0xff800000, 0xffffffff), "NaN is -infinity, empty places follow");
	begin_misc();
	program("@misc\nmisc.topk" A OUT ROW(2) " imm=4 pos=-3+1*len0");
	ok(run() == FLM_FAULT_BOUND, "an id of 2^32 - 1 is fault BOUND");

	begin_misc();
	program("@misc\nmisc.add" A B OUT ROW(4) " rows=2/2 out=glb:0 b_pitch=64");
	put_floats(GLB(64), (const float[]) { 5.0f, 5.0f, 5.0f, 5.0f }, 4);
	put_floats(GLB(320), (const float[]) { -5.0f, 1.0f, 1.0f, 1.0f }, 4);
	ok(!run() && WORDS_ARE(GLB(0), 0x40000000, 0xbfc00000, 0x40200000, 0x40000000) &&
	   WORDS_ARE(GLB(64), 0, 0x40c00000, 0x40c00000, 0x40c00000), "an operation runs in place");
	begin_misc();
	program("@misc\nmisc.add" A B OUT ROW(4) " a=glb:2");
	ok(run() == FLM_FAULT_BUFFER, "floats are aligned to four bytes");
}

int main(void)
{
	if (!machine_open())
		return 1;
	test_numbers();
	test_misc();
	return machine_close();
}
