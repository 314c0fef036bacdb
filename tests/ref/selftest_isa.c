// SPDX-License-Identifier: MIT
/*
 * Does the reference of the instruction set do what SPEC.md says? Weights are packed by hand, sums
 * are worked out by hand, and each fault is provoked by a stream that is right in all but one
 * respect.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_card.h"
#include "tests/tap.h"

/* ---- MM and MV ---- */

struct block {
	int width;
	uint32_t bytes;
	uint8_t code[64];
	int8_t value[32];	/* in the order of the mask bits */
};

/* Row r keeps columns r % 8 and r % 8 + 8: n = 2. Bytes packed by hand from codes. */
static const struct block blocks[] = {
	{ 8,
	  32,
	  { 0,	1,  2,	3,  127, 128, 129, 255, 8,  9,	10, 11, 12, 13, 14, 15,
	    16, 17, 18, 19, 20,	 21,  22,  23,	24, 25, 26, 27, 28, 29, 30, 31 },
	  { -128, -127, -126, -125, -1,	  0,	1,    127,  -120, -119, -118,
	    -117, -116, -115, -114, -113, -112, -111, -110, -109, -108, -107,
	    -106, -105, -104, -103, -102, -101, -100, -99,  -98,  -97 } },
	/* codes 3 8 13 2 7 12 1 6 11 0 5 10 15 4 9 14, 4 9 14 3 8 13 2 7 12 1 6 11 0 5 10 15 */
	{ 4,
	  16,
	  { 0x43, 0x98, 0xed, 0x32, 0x87, 0xdc, 0x21, 0x76, 0xcb, 0x10, 0x65, 0xba, 0x0f, 0x54,
	    0xa9, 0xfe },
	  { -5, 0, 5, -6, -1, 4, -7, -2, 3, -8, -3, 2, 7,  -4, 1, 6,
	    -4, 1, 6, -5, 0,  5, -6, -1, 4, -7, -2, 3, -8, -3, 2, 7 } },
	/* codes 0 1 2 0 1 2 0 1, 0 2 3 0 2 3 0 2, 1 2 0 1 2 0 1 2, 2 3 0 2 3 0 2 3 */
	{ 2,
	  8,
	  { 0x90, 0xe9, 0x0e, 0x90, 0xe9, 0x0e, 0x90, 0xe9 },
	  { -3, -1, 1,	-3, -1, 1,  -3, -1, -3, 1, 3,  -3, 1, 3,  -3, 1,
	    -1, 1,  -3, -1, 1,	-3, -1, 1,  1,	3, -3, 1,  3, -3, 1,  3 } },
	/* codes 0 3 6 1 4 7 2 5, 1 4 7 2 5 0 3 6, 2 5 0 3 6 1 4 7, 3 6 1 4 7 2 5 0 */
	{ 3,
	  12,
	  { 0xe4, 0x93, 0x4e, 0x39, 0xe4, 0x93, 0x4e, 0x39, 0xb4, 0x96, 0xd2, 0x5a },
	  { -4, -1, 2,	-3, 0, 3,  -2, 1, -3, 0, 3,  -2, 1, -4, -1, 2,
	    -2, 1,  -4, -1, 2, -3, 0,  3, -1, 2, -3, 0,	 3, -2, 1,  -4 } },
	/* codes 0 11 22 1 13 24 3 14 26 5 16 27 7 18 29 8,
	 * 20 31 10 21 1 12 23 2 14 25 4 15 27 6 17 28
	 */
	{ 5,
	  20,
	  { 0x40, 0xfb, 0xa6, 0x51, 0x1d, 0xc8, 0x73, 0x2e, 0xea, 0x95,
	    0x40, 0xfb, 0xb7, 0x62, 0x1d, 0xc8, 0x24, 0x6d, 0x4b, 0xd2 },
	  { -16, -5, 6,	 -15, -3,  8,  -13, -2,	 10, -11, 0,   11, -9, 2,   13, -8,
	    4,	 15, -6, 5,   -15, -4, 7,   -14, -2, 9,	  -12, -1, 11, -10, 1,	12 } },
};

static const uint8_t masks[32] = {
	0x01, 0x01, 0x10, 0x10, 0x01, 0x01, 0x10, 0x10,	/* rows 0, 4, 8, 12 */
	0x02, 0x02, 0x20, 0x20, 0x02, 0x02, 0x20, 0x20,	/* rows 1, 5, 9, 13 */
	0x04, 0x04, 0x40, 0x40, 0x04, 0x04, 0x40, 0x40,
	0x08, 0x08, 0x80, 0x80, 0x08, 0x08, 0x80, 0x80,
};

/* The rows of the 32 codes, two a row, in the order of the mask bits. */
static const uint8_t row_of[16] = { 0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15 };

/*
 * Segment 1: a strip row at 0, codes at 64, N at 1024, masks at 1088, scales at 2048. Loads the
 * tile to WGT 0 and IDX 512 and multiplies it with a unit vector for each column: OUT is its
 * transpose, at ACT 0x8000, 64 bytes a column.
 */
static int transpose(int width, bool is_sparse, uint32_t blocks_of_tile)
{
	struct words *ld = &s[FLM_UNIT_LD], *mm = &s[FLM_UNIT_MM];
	uint32_t cols = 16 * blocks_of_tile, i;
	const uint32_t one = 0x3f800000;
	uint8_t *m = memory[0];

	m[0] = width;
	m[1] = is_sparse;
	m[2] = blocks_of_tile;
	m[4] = 1;
	m[8] = is_sparse ? 16 : 0;
	m[12] = is_sparse ? 17 : 0;
	m[16] = 32;
	for (i = 0; i < cols; i++)
		chip(0, cols * i)[i] = 1;
	for (i = 0; i < 64; i++)
		memcpy(chip(0, 0x7000 + 4 * i), &one, 4);
	ADD(ld, LD_TILE);
	SET(ld, LD_TILE, SEG, 1);
	SIZE(ld, LD_TILE, STRIPS, 1);
	SET(ld, LD_TILE, DST, FLM_CHIP(FLM_BUFFER_WGT, 0));
	SET(ld, LD_TILE, PITCH, 4096);
	SET(ld, LD_TILE, IDX, FLM_CHIP(FLM_BUFFER_IDX, 512));
	SET(ld, LD_TILE, IDX_PITCH, 128);
	tokens(ld, 0, 1u << FLM_UNIT_MM);
	ADD(mm, MM_LINEAR);
	mm->w[mm->last] |= FLM_MM_LINEAR_FIRST;
	tokens(mm, 1u << FLM_UNIT_LD, 0);
	SET(mm, MM_LINEAR, SEG, 1);
	SIZE(mm, MM_LINEAR, STRIPS, 1);
	SET(mm, MM_LINEAR, W, FLM_CHIP(FLM_BUFFER_WGT, 0));
	SET(mm, MM_LINEAR, W_PITCH, 4096);
	SET(mm, MM_LINEAR, IDX, FLM_CHIP(FLM_BUFFER_IDX, 512));
	SET(mm, MM_LINEAR, IDX_PITCH, 128);
	SET(mm, MM_LINEAR, A_PITCH, cols);
	SET(mm, MM_LINEAR, A_SCALES, 0x7000);
	SIZE(mm, MM_LINEAR, TOKENS, cols);
	SET(mm, MM_LINEAR, OUT, 0x8000);
	SET(mm, MM_LINEAR, OUT_PITCH, 64);
	return run();
}

static float weight(int row, int column)
{
	return get(0x8000 + 64 * column + 4 * row);
}

/* Float16 2^-(row % 4) as the scales of every group. */
static void put_scales(uint8_t *at, int groups)
{
	int i;

	for (i = 0; i < 16 * groups; i++)
		at[2 * i + 1] = 0x3c - 4 * (i % 4);
}

static void test_sparse(void)
{
	unsigned int b, p, r, c;

	for (b = 0; b < sizeof(blocks) / sizeof(blocks[0]); b++) {
		float want[16][16] = { { 0 } };
		bool is_good = true;

		start(1);
		memcpy(memory[0] + 64, blocks[b].code, blocks[b].bytes);
		memory[0][1024] = 2;
		memcpy(memory[0] + 1088, masks, 32);
		put_scales(memory[0] + 2048, 1);
		for (p = 0; p < 32; p++) {
			r = row_of[p / 2];
			want[r][r % 8 + 8 * (p % 2)] = blocks[b].value[p] / (float)(1 << r % 4);
		}
		ok(transpose(blocks[b].width, true, 1) == 0, "a sparse tile of %d bits runs",
		   blocks[b].width);
		for (r = 0; r < 16; r++) {
			for (c = 0; c < 16; c++)
				is_good &= weight(r, c) == want[r][c];
		}
		ok(is_good, "sparse %d bits: each code is where its mask bit says",
		   blocks[b].width);
	}
}

/* N = 0, 16, 2: an empty block takes neither codes nor masks, a full one takes no mask. */
static void test_sparse_mixed(void)
{
	start(1);
	memset(memory[0] + 64, 0x88, 128);		/* block 1: 256 codes of 4 bits, all 0 */
	memory[0][64 + 16 * 4 + 9] = 0xa8;		/* byte 73: codes 73 and 201 (value 2) */
	memcpy(memory[0] + 64 + 128, blocks[1].code, 16);
	memory[0][1024] = 0;
	memory[0][1025] = 16;
	memory[0][1026] = 2;
	memcpy(memory[0] + 1088, masks, 32);
	put_scales(memory[0] + 2048, 1);
	ok(transpose(4, true, 3) == 0, "a tile with N = 0, 16, 2 runs");
	/* code 201: word 3, bit 9: row 3, column 9 of block 1; scale 1/8 */
	ok(weight(3, 16 + 9) == 2 / 8.0f, "N = 16 has an order as if all mask bits were set");
	ok(weight(0, 32) == -5 && weight(4, 32 + 12) == -6,
	   "the block behind it begins where it ends");
	ok(weight(0, 0) == 0 && weight(15, 15) == 0, "N = 0 is all zero");
	memory[0][1024] = 3;
	s[0].count = s[FLM_UNIT_MM].count = 0;
	ok(transpose(4, true, 3) == FLM_FAULT_FORMAT && fault.unit == FLM_UNIT_LD,
	   "N = 3 is fault FORMAT at LD");
	memory[0][1024] = 0;
	memory[0][1088] = 3;
	s[0].count = s[FLM_UNIT_MM].count = 0;
	ok(transpose(4, true, 3) == FLM_FAULT_FORMAT && fault.unit == FLM_UNIT_MM,
	   "a row with three bits of two is fault FORMAT at MM");
}

/*
 * Dense, 80 columns: a group of 64 and one of 16. All codes are the middle one but for column 6 of
 * row 5 (q = 1, code 22 of its vector) and column 64 + 15 of row 15 (q = 3, code 63).
 */
static void test_dense(void)
{
	static const struct {
		int width;
		uint8_t fill;			/* low planes of zeros (2 bits: -1) */
		uint32_t top;			/* bytes of them a group of 64; top bits follow */
		uint32_t at[2];			/* byte of the first and second code */
		uint8_t byte[2];
		float value[2], zero;
	} known[] = {
		/* 8: vector 1 byte 22; second group at 1024, vector 3 byte 63 */
		{ 8, 0x80, 0, { 64 + 22, 1024 + 3 * 64 + 63 }, { 0xff, 0x01 }, { 127, -127 }, 0 },
		/* 4: pair 0 high; second group at 512, pair 1 high */
		{ 4, 0x88, 0, { 22, 512 + 64 + 63 }, { 0xf8, 0x18 }, { 7, -7 }, 0 },
		/* 2: quadruple 0, bits 3:2; second group at 256, bits 7:6. All 1 is -1 */
		{ 2, 0x55, 0, { 22, 256 + 63 }, { 0x5d, 0x95 }, { 3, 1 }, -1 },
		/* 3: low bits 00 and top bit 1 is 0. Codes 7 and 6. Second group at 384 */
		{ 3, 0x00, 256, { 22, 384 + 63 }, { 0x0c, 0x80 }, { 3, 2 }, 0 },
		/* 5: low bits 0000 and top bit 1 is 0. Codes 31 and 17. Second group at 640 */
		{ 5, 0x00, 512, { 22, 640 + 64 + 63 }, { 0xf0, 0x10 }, { 15, 1 }, 0 },
	};
	unsigned int i, r, c;

	for (i = 0; i < sizeof(known) / sizeof(known[0]); i++) {
		uint32_t group = 2 * known[i].width * 64;
		bool is_good = true;
		uint8_t *code;

		start(1);
		/* codes reach to 64 + 1280: the scales of this test lie behind them */
		code = memory[0] + 64;
		memset(code, known[i].fill, group + group / 4);
		if (known[i].top) {
			memset(code + known[i].top, 0xff, group - known[i].top);
			memset(code + group + known[i].top / 4, 0xff, (group - known[i].top) / 4);
		}
		code[known[i].at[0]] = known[i].byte[0];
		code[known[i].at[1]] = known[i].byte[1];
		put_scales(memory[0] + 2048, 2);
		ok(transpose(known[i].width, false, 5) == 0, "a dense tile of %d bits runs",
		   known[i].width);
		for (r = 0; r < 16; r++) {
			for (c = 0; c < 80; c++) {
				float want = known[i].zero;

				if (r == 5 && c == 6)
					want = known[i].value[0];
				if (r == 15 && c == 79)
					want = known[i].value[1];
				is_good &= weight(r, c) == want / (1 << r % 4);
			}
		}
		ok(is_good, "dense %d bits: codes are where SPEC.md puts them", known[i].width);
	}
}

/* One strip of 80 columns of 8 bits, row 0 all 100, A all 100 and then scaled by 2^-4 and 2^20. */
static void test_linear_order(void)
{
	struct words *mv = &s[FLM_UNIT_MV];
	float a_scale[2] = { 0x1p-4f, 0x1p20f }, factor = 3, bias = 0.25f;
	uint32_t i;

	start(1);
	memory[0][0] = 8;
	memory[0][2] = 5;
	memory[0][4] = 1;
	memory[0][16] = 32;
	memset(chip(0, FLM_CHIP(FLM_BUFFER_WGT, 0)), 0x80, 1280);
	for (i = 0; i < 80; i++)
		chip(0, FLM_CHIP(FLM_BUFFER_WGT, 64 * (i / 4) + i % 4))[0] = 228;
	chip(0, FLM_CHIP(FLM_BUFFER_WGT, 1280))[1] = 0x3c;
	chip(0, FLM_CHIP(FLM_BUFFER_WGT, 1280 + 32))[1] = 0x3c;
	memset(chip(0, 0), 100, 80);
	memcpy(chip(0, 0x1000), a_scale, 8);
	memcpy(chip(0, 0x1100), &factor, 4);
	memcpy(chip(0, 0x1200), &bias, 4);
	put(0x3000, 0x1p-10f);
	ADD(mv, MV_LINEAR);
	mv->w[mv->last] |= FLM_MV_LINEAR_FACTOR | FLM_MV_LINEAR_BIAS;
	SET(mv, MV_LINEAR, SEG, 1);
	SIZE(mv, MV_LINEAR, STRIPS, 1);
	SET(mv, MV_LINEAR, W, FLM_CHIP(FLM_BUFFER_WGT, 0));
	SET(mv, MV_LINEAR, W_PITCH, 4096);
	SET(mv, MV_LINEAR, A_SCALES, 0x1000);
	SET(mv, MV_LINEAR, FACTOR_AT, 0x1100);
	SET(mv, MV_LINEAR, BIAS_AT, 0x1200);
	SET(mv, MV_LINEAR, OUT, 0x3000);
	ok(run() == 0, "mv runs");
	/* 2^-10 + 640000 / 16 = 40000.0009765625 -> 40000 (ulp 2^-8);
	 * + 160000 * 2^20 = 167772200000 -> ulp 2^14: 10240002.4414 * 2^14 -> 10240002 * 2^14;
	 * * 3 = 30720006 * 2^14 -> 15360003 * 2^15 exactly; + 0.25 is lost
	 */
	ok(get(0x3000) == 15360003.0f * 0x1p15f, "mv adds group by group, then factor, then bias");
	/* the other rows: 0 * scale 0, from OUT 0; times 3, plus their own bias 0 */
	ok(get(0x3004) == 0, "a row of zeros stays zero");
}

static void test_attention(void)
{
	struct words *mm = &s[FLM_UNIT_MM];
	int p;

	start(1);
	/* q: 70 dims of 2; K position p: all p. scales 1 for group 0, 0.5 for group 1 (K's) */
	memset(chip(0, 0), 2, 70);
	put(0x1000, 1);
	put(0x1004, 1);
	for (p = 0; p < 130; p++) {
		memset(chip(0, FLM_CHIP(FLM_BUFFER_WGT, 128 * p)), p % 100, 70);
		memset(chip(0, FLM_CHIP(FLM_BUFFER_WGT, 0x8000 + 16 * p)), 1, 16);
		put(0x2000 + 8 * p, 1);
		put(0x2004 + 8 * p, 0.5f);
	}
	chip(0, FLM_CHIP(FLM_BUFFER_IDX, 1024))[0] = 5;	/* query block 0 keeps key blocks 0 and 2 */
	ADD(mm, MM_QK);
	mm->w[mm->last] |= FLM_MM_QK_MASK;
	SET(mm, MM_QK, A_SCALES, 0x1000);
	SET(mm, MM_QK, B, FLM_CHIP(FLM_BUFFER_WGT, 0));
	SET(mm, MM_QK, B_PITCH, 128);
	SET(mm, MM_QK, B_SCALES, 0x2000);
	SET(mm, MM_QK, B_SCALE_PITCH, 8);
	SET(mm, MM_QK, DIM, 70);
	SIZE(mm, MM_QK, POSITIONS, 130);
	SIZE(mm, MM_QK, TOKENS, 1);
	SET(mm, MM_QK, OUT, 0x3000);
	SET(mm, MM_QK, MASKS, FLM_CHIP(FLM_BUFFER_IDX, 1024));
	SET(mm, MM_QK, QUERY, 63);
	/* P: 130 codes of 1; scales 1, 8, 64 */
	memset(chip(0, 0x4000), 1, 130);
	put(0x5000, 1);
	put(0x5004, 8);
	put(0x5008, 64);
	ADD(mm, MM_PV);
	mm->w[mm->last] |= FLM_MM_PV_MASK | FLM_MM_PV_FIRST;
	SET(mm, MM_PV, A, 0x4000);
	SET(mm, MM_PV, A_SCALES, 0x5000);
	SET(mm, MM_PV, B, FLM_CHIP(FLM_BUFFER_WGT, 0x8000));
	SET(mm, MM_PV, B_PITCH, 16);
	SET(mm, MM_PV, DIM, 16);
	SIZE(mm, MM_PV, POSITIONS, 130);
	SIZE(mm, MM_PV, TOKENS, 1);
	SET(mm, MM_PV, OUT, 0x6000);
	SET(mm, MM_PV, MASKS, FLM_CHIP(FLM_BUFFER_IDX, 1024));
	ok(run() == 0, "qk and pv run");
	/* p * 2 * 64 * 1 + p * 2 * 6 * 0.5 = 134 p */
	ok(get(0x3000 + 4 * 63) == 134 * 63 && get(0x3000 + 4 * 128) == 134 * 28,
	   "qk sums groups of 64 dimensions with their scales");
	ok(bits(get(0x3000 + 4 * 64)) == 0 && bits(get(0x3000 + 4 * 127)) == 0,
	   "qk: a masked block is +0");
	/* 64 * 1 + 2 * 64; with block 1 it would be 512 more */
	ok(get(0x6000) == 192 && get(0x603c) == 192, "pv skips a masked block");
}

/* ---- LD, ST, loops, tokens ---- */

static void test_stream(void)
{
	struct words *ld = &s[FLM_UNIT_LD], *st = &s[FLM_UNIT_ST];
	uint32_t outer, inner, i;
	bool is_good = true;

	start(1);
	isa.length[9] = 21;
	for (i = 0; i < 64; i++)
		memory[0][i] = i;
	/* 3 trips (21 = 8 + 8 + 5) of at most 8 bytes, each in 2 trips of one row to two places */
	outer = loop(ld, FLM_CLASS_LENGTH, 9, 0, 3);
	SET(ld, LOOP, SHIFT, 3);
	SET(ld, LOOP, CEIL, 1);
	inner = loop(ld, FLM_CLASS_CONST, 0, 2, 2);
	ADD(ld, LD_LINEAR);
	SET(ld, LD_LINEAR, SEG, 1);
	SET(ld, LD_LINEAR, DST, FLM_CHIP(FLM_BUFFER_GLB, 16));
	SIZE(ld, LD_LINEAR, ROWS, 1);
	SET(ld, LD_LINEAR, BYTES_MAX, 8);
	term(ld, FLM_LD_LINEAR_OFF_NUMBER, FLM_CLASS_LOOP, 0, 8);
	term(ld, FLM_LD_LINEAR_DST_NUMBER, FLM_CLASS_LOOP, 0, 8);
	term(ld, FLM_LD_LINEAR_DST_NUMBER, FLM_CLASS_LOOP, 1, 64);
	term(ld, FLM_LD_LINEAR_BYTES_NUMBER, FLM_CLASS_LENGTH, 9, 1);
	term(ld, FLM_LD_LINEAR_BYTES_NUMBER, FLM_CLASS_LOOP, 0, -8);
	tokens(ld, 0, 1u << FLM_UNIT_ST);
	end_loop(ld, inner);
	end_loop(ld, outer);
	/* six tokens, one store */
	outer = loop(st, FLM_CLASS_CONST, 0, 5, 5);
	ADD(st, ST_LINEAR);		/* sizes of zero: only waits */
	tokens(st, 1u << FLM_UNIT_LD, 0);
	end_loop(st, outer);
	ADD(st, ST_LINEAR);
	tokens(st, 1u << FLM_UNIT_LD, 0);
	SET(st, ST_LINEAR, SEG, 2);
	SET(st, ST_LINEAR, OFF, 100);
	SET(st, ST_LINEAR, DST_PITCH, 30);
	SET(st, ST_LINEAR, SRC, FLM_CHIP(FLM_BUFFER_GLB, 16));
	SET(st, ST_LINEAR, SRC_PITCH, 64);
	SIZE(st, ST_LINEAR, ROWS, 2);
	SIZE(st, ST_LINEAR, BYTES, 22);
	ok(run() == 0, "nested loops and tokens run");
	for (i = 0; i < 21; i++)
		is_good &= memory[1][100 + i] == i && memory[1][130 + i] == i;
	ok(is_good && !memory[1][121] && !memory[1][151], "the last trip's size is what is left");

	start(1);
	isa.length[9] = 3;
	outer = loop(ld, FLM_CLASS_LENGTH, 9, 3, 0);
	ADD(ld, LD_LINEAR);
	tokens(ld, 0, 1u << FLM_UNIT_ST);
	end_loop(ld, outer);
	ok(run() == 0, "a loop of zero trips moves no token");
}

static void ld_row(uint32_t segment, uint32_t offset, uint32_t dst, uint32_t bytes)
{
	struct words *ld = &s[FLM_UNIT_LD];

	ADD(ld, LD_LINEAR);
	SET(ld, LD_LINEAR, SEG, segment);
	SET(ld, LD_LINEAR, OFF, offset);
	SET(ld, LD_LINEAR, DST, dst);
	SIZE(ld, LD_LINEAR, ROWS, 1);
	SIZE(ld, LD_LINEAR, BYTES, bytes);
}

static void st_row(uint32_t segment, uint32_t offset, uint32_t bytes)
{
	struct words *st = &s[FLM_UNIT_ST];

	ADD(st, ST_LINEAR);
	SET(st, ST_LINEAR, SEG, segment);
	SET(st, ST_LINEAR, OFF, offset);
	SIZE(st, ST_LINEAR, ROWS, 1);
	SIZE(st, ST_LINEAR, BYTES, bytes);
}

/* The kind of fault, and where: unit and word. */
static void faults(enum flm_fault kind, int unit, uint32_t word, const char *what)
{
	int got = run();

	ok(got == (int)kind && fault.unit == unit && fault.word == word,
	   "%s (fault %d of unit %d at %u)", what, got, fault.unit, fault.word);
}

/* Loads a dense tile whose codes lie beyond their segment. */
static void far_tile(uint32_t dst)
{
	struct words *ld = &s[FLM_UNIT_LD];

	start(1);
	memory[0][0] = 8;
	memory[0][2] = 1;
	memory[0][7] = 0xff;
	ADD(ld, LD_TILE);
	SET(ld, LD_TILE, SEG, 1);
	SIZE(ld, LD_TILE, STRIPS, 1);
	SET(ld, LD_TILE, DST, FLM_CHIP(FLM_BUFFER_WGT, dst));
	SET(ld, LD_TILE, PITCH, 4096);
}

static void test_faults(void)
{
	struct words *ld = &s[FLM_UNIT_LD], *m = &s[FLM_UNIT_MISC];
	uint32_t at;

	start(1);
	ld_row(1, 0, 0, 16);
	ld_row(3, 0, 0, 16);
	faults(FLM_FAULT_SEGMENT, FLM_UNIT_LD, 10, "a segment that is not bound");
	start(1);
	ld_row(1, MEMORY - 15, 0, 16);
	faults(FLM_FAULT_SEGMENT, FLM_UNIT_LD, 0, "one byte beyond a segment");
	ok(fault.segment == 1 && fault.offset == MEMORY - 15, "it names segment and offset");
	start(1);
	st_row(1, 0, 16);
	faults(FLM_FAULT_RIGHTS, FLM_UNIT_ST, 0, "a store to a segment without W");
	start(1);
	ld_row(1, 0, FLM_CHIP(FLM_BUFFER_GLB, 4096 - 15), 16);
	faults(FLM_FAULT_BUFFER, FLM_UNIT_LD, 0, "one byte beyond a buffer");
	start(1);
	ld_row(1, 0, 0, 16);
	term(ld, FLM_LD_LINEAR_DST_NUMBER, FLM_CLASS_CORE, 3, -1);
	isa.core[0].reg[3] = 1;
	faults(FLM_FAULT_BUFFER, FLM_UNIT_LD, 0, "one byte before a buffer");
	start(1);
	ld_row(1, 0, 0, 16);
	term(ld, FLM_LD_LINEAR_OFF_NUMBER, FLM_CLASS_CORE, 3, -1);
	isa.core[0].reg[3] = 1;
	faults(FLM_FAULT_BOUND, FLM_UNIT_LD, 0, "an offset below zero");
	start(1);
	ld_row(1, 0, 0x40000000, 16);
	faults(FLM_FAULT_OPCODE, FLM_UNIT_LD, 0, "a fifth buffer");
	far_tile(0xfffffc0);
	faults(FLM_FAULT_BUFFER, FLM_UNIT_LD, 0, "a tile's place on chip, before its codes' memory");
	far_tile(0);
	faults(FLM_FAULT_SEGMENT, FLM_UNIT_LD, 0, "a tile whose codes lie beyond the segment");
	start(1);
	ld_row(1, 0, 0, 16);
	ld->w[1] |= 1u << 8;
	faults(FLM_FAULT_OPCODE, FLM_UNIT_LD, 0, "a reserved bit");
	start(1);
	ld_row(1, 0, 0, 16);
	tokens(ld, 0, 1u << FLM_UNIT_LD);
	faults(FLM_FAULT_OPCODE, FLM_UNIT_LD, 0, "a token to oneself");
	start(1);
	ld_row(1, 0, 0, 16);
	term(ld, 4, FLM_CLASS_CORE, 0, 1);
	faults(FLM_FAULT_OPCODE, FLM_UNIT_LD, 0, "a term for a slot that is not there");
	start(1);
	ld_row(1, 0, 0, 16);
	term(ld, 0, FLM_CLASS_LOOP, 0, 1);
	faults(FLM_FAULT_OPCODE, FLM_UNIT_LD, 0, "a loop index outside a loop");
	start(1);
	ld_row(1, 0, 0, 16);
	ld->w[9] = 1u << 24;
	faults(FLM_FAULT_OPCODE, FLM_UNIT_LD, 0, "a maximum above 2^24 - 1");
	start(1);
	at = loop(ld, FLM_CLASS_CONST, 0, 3, 2);
	end_loop(ld, at);
	faults(FLM_FAULT_BOUND, FLM_UNIT_LD, 0, "a count above its bound");
	start(1);
	at = loop(ld, FLM_CLASS_CONST, 0, 1, 1);
	ld_row(1, 0, 0, 0);
	end_loop(ld, at);
	ld->w[4]--;
	faults(FLM_FAULT_OPCODE, FLM_UNIT_LD, 0, "a body that does not point behind an END");
	start(1);
	ADD(ld, LD_LINEAR);
	ld->count -= 2;
	faults(FLM_FAULT_OPCODE, FLM_UNIT_LD, 0, "an instruction that reaches beyond its stream");
	start(1);
	ld_row(1, 0, 0, 16);
	tokens(ld, 1u << FLM_UNIT_SYS, 0);
	faults(FLM_FAULT_DEADLOCK, FLM_UNIT_LD, 0, "a token that never comes");
	start(1);
	ld_row(1, 0, 0, 16);
	tokens(ld, 0, 1u << FLM_UNIT_ST);
	ok(run() == FLM_FAULT_TOKEN, "a token that is left over");
	start(1);
	misc(FLM_MISC_ADD, FLM_USE_B | FLM_USE_OUT, 4, 1);
	faults(FLM_FAULT_OPCODE, FLM_UNIT_MISC, 0, "an IMM that add does not use");
	start(1);
	misc(FLM_MISC_ADD, FLM_USE_B | FLM_USE_OUT, 4, 0);
	SET(m, MISC, A, 2);
	faults(FLM_FAULT_BUFFER, FLM_UNIT_MISC, 0, "a float32 at an odd place");
	start(1);
	misc(FLM_MISC_HADAMARD, FLM_USE_OUT, 48, 32);
	faults(FLM_FAULT_FORMAT, FLM_UNIT_MISC, 0, "48 columns in blocks of 32");
	start(1);
	isa.length[FLM_LENGTH_SAMPLE] = 1;
	ok(run() == FLM_FAULT_SAMPLE, "a pass that must sample and does not");
}

static void test_gather_kv(void)
{
	struct words *ld = &s[FLM_UNIT_LD], *st = &s[FLM_UNIT_ST];
	static const uint32_t ids[3] = { 5, 0, 6 }, pages[2] = { 7, 2 };

	start(1);
	isa.tokens = ids;
	isa.length[FLM_LENGTH_TOKENS] = 3;
	memory[0][1000 + 6 * 10] = 66;
	memory[0][1000 + 5 * 10 + 3] = 55;
	ADD(ld, LD_GATHER);
	SET(ld, LD_GATHER, SEG, 1);
	SET(ld, LD_GATHER, OFF, 1000);
	SET(ld, LD_GATHER, SRC_PITCH, 10);
	SET(ld, LD_GATHER, LIMIT, 7);
	SET(ld, LD_GATHER, INDEX, FLM_CHIP(FLM_BUFFER_IDX, 0));
	SIZE(ld, LD_GATHER, ROWS, 3);
	SIZE(ld, LD_GATHER, BYTES, 4);
	SET(ld, LD_GATHER, DST_PITCH, 16);
	ok(run() == 0 && chip(0, 3)[0] == 55 && chip(0, 32)[0] == 66,
	   "gather takes rows by token id");
	s[0].count = 0;
	ADD(ld, LD_GATHER);
	SET(ld, LD_GATHER, SEG, 1);
	SET(ld, LD_GATHER, LIMIT, 6);
	SET(ld, LD_GATHER, INDEX, FLM_CHIP(FLM_BUFFER_IDX, 0));
	SIZE(ld, LD_GATHER, ROWS, 3);
	SIZE(ld, LD_GATHER, BYTES, 4);
	ok(run() == FLM_FAULT_INDEX, "an index at the limit");

	/* position 64 is the first of page 2: values at 2 * 1024 + 128, scales at 2 * 1024 + 512 */
	start(1);
	isa.pages = pages;
	isa.page_count = 2;
	isa.kv_start = 64;
	memset(chip(0, 0), 9, 2);
	memset(chip(0, 64), 8, 4);
	ADD(st, ST_KV);
	SET(st, ST_KV, SEG, 2);
	SET(st, ST_KV, PAGE, 1024);
	SET(st, ST_KV, VALUES, 128);
	SET(st, ST_KV, VALUE_BYTES, 2);
	SET(st, ST_KV, SCALES, 512);
	SET(st, ST_KV, SCALE_BYTES, 4);
	SET(st, ST_KV, FIRST, 65);
	SIZE(st, ST_KV, COUNT, 1);
	SET(st, ST_KV, SRC_SCALES, 64);
	tokens(st, 0, 1u << FLM_UNIT_LD);
	ADD(ld, LD_KV);
	tokens(ld, 1u << FLM_UNIT_ST, 0);
	SET(ld, LD_KV, SEG, 2);
	SET(ld, LD_KV, PAGE, 1024);
	SET(ld, LD_KV, VALUES, 128);
	SET(ld, LD_KV, VALUE_BYTES, 2);
	SET(ld, LD_KV, SCALES, 512);
	SET(ld, LD_KV, SCALE_BYTES, 4);
	SET(ld, LD_KV, FIRST, 63);
	SIZE(ld, LD_KV, COUNT, 3);
	SET(ld, LD_KV, DST, 0x100);
	SET(ld, LD_KV, DST_SCALES, 0x200);
	ok(run() == 0, "st.kv and ld.kv run");
	ok(memory[1][2048 + 128 + 2] == 9 && memory[1][2048 + 512 + 4] == 8,
	   "st.kv finds its page");
	ok(chip(0, 0x104)[0] == 9 && chip(0, 0x208)[3] == 8 && chip(0, 0x100)[0] == 0,
	   "ld.kv crosses from page to page");
	isa.kv_start = 66;
	ok(run() == FLM_FAULT_RIGHTS, "a shared position is read only");
	isa.kv_start = 0;
	isa.page_count = 1;
	ok(run() == FLM_FAULT_INDEX, "a page that is not in the list");
}

static void test_logits(void)
{
	struct words *st = &s[FLM_UNIT_ST];

	start(1);
	isa.length[FLM_LENGTH_POS] = 10;
	isa.length[FLM_LENGTH_TOKENS] = 3;
	isa.logits = (struct ref_logits){ FLM_LOGITS_EVERY, 2, 1000, 11, 2, 16 };
	put(0x00, 1);
	put(0x20, 2);
	put(0x40, 3);
	ADD(st, ST_LOGITS);
	SIZE(st, ST_LOGITS, ROWS, 3);
	SET(st, ST_LOGITS, COL, 3);
	SIZE(st, ST_LOGITS, COLS, 1);
	SET(st, ST_LOGITS, SRC_PITCH, 0x20);
	ok(run() == 0 && word_at(memory[1] + 1012) == 0x40000000 &&
	   word_at(memory[1] + 1028) == 0x40400000 && !word_at(memory[1] + 1044),
	   "logits of positions 11 and 12 are written, that of 10 is dropped");
	isa.logits.mode = FLM_LOGITS_LAST;
	memset(memory, 0, sizeof(memory));
	ok(run() == 0 && !word_at(memory[1] + 1012), "not the end of the prompt: nothing");
	isa.ends_prompt = true;
	ok(run() == 0 && !word_at(memory[1] + 1012) && word_at(memory[1] + 1028) == 0x40400000,
	   "mode last: the last position goes where every would put it");
	st->w[4] = 4;
	ok(run() == FLM_FAULT_INDEX, "a column beyond the stride");
}

/* ---- Two cores ---- */

static void test_exchange(void)
{
	struct words *sys = &s[FLM_UNIT_SYS];
	static const uint32_t best[6] = { 0x40400000, 7, 0x40400000, 9, 0x40000000, 1 };
	float x[2][2] = { { 1, -4 }, { -2, NAN } };
	uint32_t n[2] = { 0xffffffff, 3 };
	struct ref_candidate c[2][3] = {
		{ { 3, 9 }, { 2, 1 }, { -INFINITY, 0xffffffff } },
		{ { 3, 7 }, { 1, 2 }, { 0, 3 } },
	};
	int core;

	start(2);
	for (core = 0; core < 2; core++) {
		isa.core[core].reg[0] = core;
		memset(chip(core, 0), 0x11 * (core + 1), 8);
		memcpy(chip(core, 0x100), x[core], 8);
		memcpy(chip(core, 0x200), &n[core], 4);
		memcpy(chip(core, 0x300), c[core], 24);
	}
	ADD(sys, SYS_BARRIER);
	ADD(sys, SYS_GATHER);
	SET(sys, SYS_GATHER, DST, 0x80);
	SET(sys, SYS_GATHER, SRC_PITCH, 4);
	SET(sys, SYS_GATHER, DST_PITCH, 16);
	SIZE(sys, SYS_GATHER, ROWS, 2);
	SIZE(sys, SYS_GATHER, BYTES, 4);
	term(sys, FLM_SYS_GATHER_DST_NUMBER, FLM_CLASS_CORE, 0, 4);
	ADD(sys, SYS_MAX);
	SET(sys, SYS_MAX, SRC, 0x100);
	SIZE(sys, SYS_MAX, COUNT, 2);
	ADD(sys, SYS_SUM);
	SET(sys, SYS_SUM, SRC, 0x200);
	SIZE(sys, SYS_SUM, COUNT, 1);
	ADD(sys, SYS_TOPK);
	SET(sys, SYS_TOPK, SRC, 0x300);
	SET(sys, SYS_TOPK, COUNT, 3);
	ok(run() == 0, "exchanges run");
	for (core = 0; core < 2; core++) {
		ok(word_at(chip(core, 0x80)) == 0x11111111 &&
			   word_at(chip(core, 0x84)) == 0x22222222 &&
			   word_at(chip(core, 0x90)) == 0x11111111 &&
			   word_at(chip(core, 0x94)) == 0x22222222,
		   "gather brings both cores' rows to core %d", core);
		ok(word_at(chip(core, 0x100)) == 0x3f800000 &&
		   word_at(chip(core, 0x104)) == 0x7fc00000, "allmax on core %d", core);
		ok(word_at(chip(core, 0x200)) == 2, "allsum on core %d", core);
		ok(!memcmp(chip(core, 0x300), best, 24), "alltopk on core %d", core);
	}

	start(2);
	isa.core[1].reg[2] = 1;
	core = loop(sys, FLM_CLASS_CORE, 2, 0, 1);
	ADD(sys, SYS_BARRIER);
	end_loop(sys, core);
	ok(run() == FLM_FAULT_EXCHANGE, "one core waits, the other has ended");

	start(2);
	isa.core[1].reg[2] = 1;
	core = loop(sys, FLM_CLASS_CORE, 2, 0, 1);
	ADD(sys, SYS_BARRIER);
	end_loop(sys, core);
	ADD(sys, SYS_BARRIER);
	ok(run() == FLM_FAULT_EXCHANGE, "two cores at different barriers");

	start(2);
	isa.length[FLM_LENGTH_SAMPLE] = 1;
	put(0x0, 1);
	misc(FLM_MISC_SAMPLE, 0, 1, 1);
	ok(run() == FLM_FAULT_EXCHANGE, "two cores sample from different candidates");
}

static bool is_fault(enum flm_fault kind, int core, int unit, uint32_t word)
{
	return fault.kind == kind && fault.core == core && fault.unit == unit && fault.word == word;
}

/* ST, whose segment is not bound, after MISC has sent a token: not before all units had a turn. */
static void fault_late(void)
{
	ADD(&s[FLM_UNIT_MISC], MISC);
	tokens(&s[FLM_UNIT_MISC], 0, 1u << FLM_UNIT_ST);
	ADD(&s[FLM_UNIT_ST], ST_LINEAR);
	SET(&s[FLM_UNIT_ST], ST_LINEAR, SEG, 9);
	SIZE(&s[FLM_UNIT_ST], ST_LINEAR, ROWS, 1);
	SIZE(&s[FLM_UNIT_ST], ST_LINEAR, BYTES, 1);
	tokens(&s[FLM_UNIT_ST], 1u << FLM_UNIT_MISC, 0);
}

static void test_faults_of_several(void)
{
	struct words *ld = &s[FLM_UNIT_LD], *sys = &s[FLM_UNIT_SYS], *m = &s[FLM_UNIT_MISC];
	uint32_t at;

	start(2);
	isa.core[1].reg[2] = 1;
	ADD(ld, LD_LINEAR);
	SET(ld, LD_LINEAR, SEG, 1);
	SIZE(ld, LD_LINEAR, ROWS, 1);
	SIZE(ld, LD_LINEAR, BYTES, 1);
	term(ld, FLM_LD_LINEAR_OFF_NUMBER, FLM_CLASS_CORE, 2, -1);
	fault_late();
	run();
	ok(is_fault(FLM_FAULT_SEGMENT, 0, FLM_UNIT_ST, 0) && fault.segment == 9,
	   "core 1 is refused at once, core 0 later: core 0's fault is reported");
	ok(isa.core[1].fault.kind == FLM_FAULT_BOUND && !isa.core[1].fault.segment,
	   "and core 1's is known");

	start(2);
	isa.core[1].reg[2] = 1;
	at = loop(sys, FLM_CLASS_CORE, 2, 0, 1);
	ADD(sys, SYS_BARRIER);
	end_loop(sys, at);
	fault_late();
	run();
	ok(is_fault(FLM_FAULT_SEGMENT, 0, FLM_UNIT_ST, 0),
	   "a core that will not come to a barrier is looked at when all stand");

	start(2);
	isa.length[FLM_LENGTH_SAMPLE] = 1;
	put(0x0, 1);
	misc(FLM_MISC_SAMPLE, 0, 1, 1);
	fault_late();
	run();
	ok(is_fault(FLM_FAULT_SEGMENT, 0, FLM_UNIT_ST, 0),
	   "and so are candidates that differ");

	/* Core 0 samples behind the barrier, the other two before it. */
	start(3);
	isa.length[FLM_LENGTH_SAMPLE] = 1;
	isa.core[1].reg[2] = 1;
	isa.core[2].reg[2] = 1;
	memset(chip(2, 0), 1, 4);
	ADD(m, MISC);
	at = loop(m, FLM_CLASS_CORE, 2, 0, 1);
	misc(FLM_MISC_SAMPLE, 0, 1, 1);
	end_loop(m, at);
	ADD(sys, SYS_BARRIER);
	tokens(sys, 0, 1u << FLM_UNIT_MISC);
	misc(FLM_MISC_SAMPLE, 0, 1, 1);
	tokens(m, 1u << FLM_UNIT_SYS, 0);
	run();
	ok(is_fault(FLM_FAULT_EXCHANGE, 2, FLM_UNIT_MISC, FLM_WORDS_MISC + FLM_WORDS_LOOP),
	   "cores that sampled differently are named with their SAMPLE, before all have sampled");
}

/* From unit to unit and back, and what a sync may not have. */
static void test_sync(void)
{
	static const uint32_t bad[] = { 0xf0000001, 0xf0000008, 0xf0800000, 0xf0000060 };
	unsigned int unit, i, refused = 0;

	start(1);
	for (unit = 0; unit < FLM_UNITS; unit++) {
		ADD(&s[unit], SYNC);
		tokens(&s[unit], unit ? 1u << (unit - 1) : 0, unit < 5 ? 1u << (unit + 1) : 0);
	}
	for (unit = FLM_UNITS; unit-- > 0;) {
		ADD(&s[unit], SYNC);
		tokens(&s[unit], unit < 5 ? 1u << (unit + 1) : 0, unit ? 1u << (unit - 1) : 0);
	}
	ok(run() == 0, "a token goes through the syncs of all units, and back");
	start(1);
	ADD(&s[FLM_UNIT_MV], SYNC);
	tokens(&s[FLM_UNIT_MV], 1u << FLM_UNIT_LD, 0);
	faults(FLM_FAULT_DEADLOCK, FLM_UNIT_MV, 0, "a sync for a token that never comes");
	for (unit = 0; unit < FLM_UNITS; unit++) {
		for (i = 0; i < 4; i++) {
			start(1);
			ADD(&s[unit], SYNC);
			s[unit].w[0] = bad[i];
			s[unit].w[1] = s[unit].w[2] = 0;
			s[unit].count += 2;
			refused += run() == FLM_FAULT_OPCODE && fault.unit == (int)unit;
		}
		start(1);
		ADD(&s[unit], SYNC);
		tokens(&s[unit], 0, 1u << unit);
		refused += run() == FLM_FAULT_OPCODE && fault.unit == (int)unit;
	}
	ok(refused == 5 * FLM_UNITS,
	   "flags, terms, another mode and a token to oneself are refused in all streams (%u)",
	   refused);
	start(1);
	ADD(&s[FLM_UNIT_MM], SYS_BARRIER);
	faults(FLM_FAULT_OPCODE, FLM_UNIT_MM, 0, "a barrier in MM's stream");
}

static void test_tokens_full(void)
{
	struct words *ld = &s[FLM_UNIT_LD], *st = &s[FLM_UNIT_ST];
	uint32_t at, i;

	/* 64 releases without a wait: the 64th finds the queue full */
	for (i = 63; i <= 64; i++) {
		start(1);
		at = loop(ld, FLM_CLASS_CONST, 0, i, 64);
		ADD(ld, LD_LINEAR);
		tokens(ld, 0, 1u << FLM_UNIT_ST);
		end_loop(ld, at);
		ok(run() == (i == 63 ? FLM_FAULT_TOKEN : FLM_FAULT_DEADLOCK),
		   "%u tokens in a queue", i);
	}
	start(1);
	at = loop(ld, FLM_CLASS_CONST, 0, 200, 200);
	ADD(ld, LD_LINEAR);
	tokens(ld, 0, 1u << FLM_UNIT_ST);
	end_loop(ld, at);
	at = loop(st, FLM_CLASS_CONST, 0, 200, 200);
	ADD(st, ST_LINEAR);
	tokens(st, 1u << FLM_UNIT_LD, 0);
	end_loop(st, at);
	ok(run() == 0, "a full queue makes its sender wait");
}

int main(void)
{
	test_sparse();
	test_sparse_mixed();
	test_dense();
	test_linear_order();
	test_attention();
	test_stream();
	test_faults();
	test_gather_kv();
	test_logits();
	test_exchange();
	test_faults_of_several();
	test_sync();
	test_tokens_full();
	ref_isa_fini(&isa);
	return done_testing();
}
