// SPDX-License-Identifier: MIT
/*
 * Tiles, MM and MV against the plainest possible arithmetic: strips of every width and sparsity are
 * written one code at a time from the description of the layout, and multiplied one code at a time.
 */
#include "emulator/core/dot.h"
#include "emulator/core/expand.h"
#include "tests/emulator/machine.h"

/* Little state, good enough bits. */
static uint32_t random_state = 1;

static uint32_t draw(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state >> 8;
}

/*
 * A strip in memory at `offset`, and its plain values. Written from the description of the layout
 * one code at a time, with none of the emulator's tricks.
 */
struct plain {
	int8_t value[16][4096];
	float scale[64][16];
};

static void set_code(uint8_t *codes, unsigned int width, uint32_t plane, uint32_t top, uint32_t run,
		     uint32_t i, uint32_t p, uint32_t code)
{
	/* `run` codes share bytes; i is the place in a run's first member, p the place overall. */
	unsigned int bits = width == 8 ? 8 : width >= 4 ? 4 : 2;

	codes[plane + i % run] |= (uint8_t)((code & ((1u << bits) - 1)) << (i / run * bits));
	if (width == 3 || width == 5)
		codes[top + p / 8] |= (uint8_t)((code >> bits) << (p % 8));
}

static int value_of(unsigned int width, uint32_t code)
{
	return width == 2 ? 2 * (int)code - 3 : (int)code - (1 << (width - 1));
}

static void make_tile(unsigned int width, int n, uint32_t blocks, uint32_t row, struct plain *plain)
{
	uint32_t codes_at = 4096, n_at = 200000, masks_at = 210000 / 64 * 64, scales_at = 300032;
	uint32_t cols = blocks * 16, groups = (cols + 63) / 64, g, r, c, b, at = codes_at,
		 masks = 0;
	unsigned int bits = width == 8 ? 8 : width >= 4 ? 4 : 2, parts = 8 / bits;
	struct flm_strip *strip = (struct flm_strip *)(constants + 64 + 32 * row);

	n_at = n_at / 64 * 64;
	memset(plain, 0, sizeof(*plain));
	memset(strip, 0, sizeof(*strip));
	memset(constants + codes_at, 0, 190000);
	memset(constants + masks_at, 0, 9000);
	strip->width = (uint8_t)width;
	strip->blocks = htole16((uint16_t)blocks);
	strip->codes = htole32(codes_at / 64);
	strip->scales = htole32(scales_at / 64);
	for (g = 0; g < groups; g++) {
		for (r = 0; r < 16; r++) {
			uint16_t half = (uint16_t)(draw() & 0xbfff);

			constants[scales_at + 32 * g + 2 * r] = (uint8_t)half;
			constants[scales_at + 32 * g + 2 * r + 1] = (uint8_t)(half >> 8);
			plain->scale[g][r] = math_half(half);
		}
	}
	if (n < 0) {
		for (g = 0; g < groups; g++) {
			uint32_t width_cols = cols - 64 * g < 64 ? cols - 64 * g : 64;
			uint32_t top = width_cols / 4 / parts * 64;

			for (c = 0; c < width_cols; c++) {
				for (r = 0; r < 16; r++) {
					uint32_t q = c / 4, i = 4 * r + c % 4;
					uint32_t code = draw() & ((1u << width) - 1);

					plain->value[r][64 * g + c] = (int8_t)value_of(width, code);
					set_code(constants + at, width, q / parts * 64, top, 64,
						 q % parts * 64 + i, q * 64 + i, code);
				}
			}
			at += 2 * width * width_cols;
		}
		return;
	}
	strip->flags = FLM_STRIP_SPARSE;
	strip->n = htole32(n_at / 64);
	strip->masks = htole32(masks_at / 64);
	for (b = 0; b < blocks; b++) {
		/* n 1: each block its own */
		uint32_t own = n == 1 ? (uint32_t[]) { 0, 2, 4, 8, 16 }[draw() % 5] : (uint32_t)n;
		uint32_t p = 0, j, part;

		constants[n_at + b] = (uint8_t)own;
		if (!own)
			continue;
		for (j = 0; j < 4; j++) {
			for (part = 0; part < 4; part++) {
				uint32_t mask = 0, kept = 0;

				while (kept < own) {
					c = draw() % 16;
					kept += !(mask >> c & 1);
					mask |= 1u << c;
				}
				for (c = 0; c < 16; c++) {
					uint32_t code = draw() & ((1u << width) - 1);

					if (!(mask >> c & 1))
						continue;
					r = j + 4 * part;
					plain->value[r][16 * b + c] = (int8_t)value_of(width, code);
					set_code(constants + at, width, 0, 16 * own / parts,
						 16 * own / parts, p, p, code);
					p++;
				}
				if (own == 16)
					continue;
				constants[masks_at + 32 * masks + 8 * j + 2 * part] = (uint8_t)mask;
				constants[masks_at + 32 * masks + 8 * j + 2 * part + 1] =
					(uint8_t)(mask >> 8);
			}
		}
		masks += own != 16;
		at += 2 * own * width;
	}
}

/* One strip and one token, each operand in its place. */
#define STRIP " seg=2 table=64 strips=1/1"
#define WEIGHTS " w=wgt:0 w_pitch=65536 idx=idx:1024 idx_pitch=16384"
#define TILE "@ld\nld.tile" STRIP " step=1 dst=wgt:0 pitch=65536 idx=idx:1024 idx_pitch=16384 " \
	"release=mm"
#define MM "\n@mm\nmm" STRIP " step=1" WEIGHTS " a=act:0 a_pitch=4096 a_scales=glb:0 " \
	"a_scale_pitch=256 tokens=1/1 out=glb:8192 out_pitch=64 factor_at=glb:4096 " \
	"bias_at=glb:4160 wait=ld"
#define MV "\n@mv\nmv" STRIP WEIGHTS " a=act:0 a_scales=glb:0 out=glb:8192 wait=ld"

/* The chapter's loop, one rounding a line. */
static float naive_linear(const struct plain *plain, uint32_t r, uint32_t cols, const int8_t *a,
			  const float *a_scales, float acc)
{
	uint32_t c, g;

	for (g = 0; 64 * g < cols; g++) {
		int32_t sum = 0;
		volatile float x;

		for (c = 64 * g; c < cols && c < 64 * g + 64; c++)
			sum += a[c] * plain->value[r][c];
		x = (float)sum * plain->scale[g][r];
		x = x * a_scales[g];
		acc = acc + x;
	}
	return acc;
}

static bool linear_is_right(unsigned int width, int n, uint32_t blocks, bool is_mv)
{
	static struct plain plain;
	uint32_t tokens = is_mv ? 1 : 3, cols = blocks * 16, t, r, i;
	float before[48];
	bool holds;

	make_tile(width, n, blocks, 0, &plain);
	begin(1);
	for (i = 0; i < 3 * 4096; i++)
		chip(0, ACT(0))[i] = (uint8_t)draw();
	for (i = 0; i < 3 * 64; i++) {
		float x = (float)draw() / 16777216.0f;

		memcpy(chip(0, GLB(4 * i)), &x, 4);
	}
	for (i = 0; i < 48; i++) {
		float x = (float)draw() / 1048576.0f - 8.0f;

		memcpy(chip(0, GLB(8192 + 4 * i)), &x, 4);
	}
	if (is_mv)
		program(TILE " release=mv" MV);
	else
		program(TILE MM " tokens=%u/%u", tokens, tokens);
	memcpy(before, chip(0, GLB(8192)), sizeof(before));
	holds = !run();
	for (t = 0; t < tokens && holds; t++) {
		for (r = 0; r < 16 && holds; r++) {
			float want = naive_linear(&plain, r, cols,
						  (int8_t *)chip(0, ACT(4096 * t)),
						  (float *)chip(0, GLB(256 * t)),
						  before[16 * t + r]);

			holds = word_at(0, GLB(8192 + 64 * t + 4 * r)) == math_bits(want);
		}
	}
	if (!holds)
		printf("# width %u, n %d, blocks %u, fault %u\n", width, n, blocks,
		       result.fault.kind);
	return holds;
}

static void test_linear(void)
{
	static const unsigned int widths[] = { 2, 3, 4, 5, 8 };
	static const uint32_t blocks[] = { 1, 2, 3, 4, 7, 18, 128 };
	static const int ns[] = { -1, 0, 1, 2, 4, 8, 16 };
	static struct plain plain;
	uint32_t i, k, n;
	bool holds = true;

	for (i = 0; i < 5; i++)
		for (k = 0; k < 7; k++)
			for (n = 0; n < 7; n++)
				holds = holds &&
					linear_is_right(widths[i], ns[n], blocks[k], false) &&
					linear_is_right(widths[i], ns[n], blocks[k], true);
	ok(holds, "linear of every width, sparsity and last group equals the plain loop");
	ok(linear_is_right(4, -1, 256, false) && linear_is_right(2, 8, 256, true),
	   "and so does a tile of 4096 columns");

	make_tile(8, -1, 1, 0, &plain);
	begin(1);
	memset(chip(0, ACT(0)), 0, 4096);
	chip(0, ACT(0))[3] = 0x80;	/* -128 */
	put_floats(GLB(0), (const float[]) { 0.5f }, 1);
	put_floats(GLB(4096), (const float[]) { -2.0f }, 1);
	for (i = 0; i < 16; i++)
		put_floats(GLB(4160 + 4 * i), (const float[]) { 100.0f }, 1);
	program(TILE MM " +first +factor +bias");
	run();
	ok(!result.fault.kind && result.work.mm_macs == 256 &&
	   float_at(0, GLB(8192 + 20)) == ((float)(-128 * plain.value[5][3]) * plain.scale[0][5]) *
					  0.5f * -2.0f + 100.0f,
	   "FIRST, FACTOR and BIAS do what they say");
}

static void test_format(void)
{
	static const struct {
		const char *what;
		uint32_t byte, value;
	} broken[] = {
		{ "a width of 6", 0, 6 }, { "a width of 1", 0, 1 }, { "an unknown flag", 1, 2 },
		{ "no blocks", 2, 0 }, { "a reserved word", 20, 1 },
		{ "masks of a dense tile", 12, 1 }, { "N of a dense tile", 8, 1 },
	};
	static struct plain plain;
	uint32_t i;

	for (i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		make_tile(8, -1, 4, 0, &plain);
		constants[64 + broken[i].byte] = (uint8_t)broken[i].value;
		begin(1);
		program(TILE MM " +first");
		ok(run() == FLM_FAULT_FORMAT && result.fault.unit == FLM_UNIT_LD,
		   "%s in a strip row is fault FORMAT", broken[i].what);
	}
	make_tile(8, -1, 4, 0, &plain);
	constants[64 + 3] = 2;		/* 516 blocks */
	begin(1);
	program(TILE MM " +first");
	ok(run() == FLM_FAULT_FORMAT, "more than 256 blocks are fault FORMAT");
	make_tile(8, -1, 4, 0, &plain);
	begin(1);
	program(TILE " pitch=1024" MM " +first");
	ok(run() == FLM_FAULT_FORMAT, "a strip that does not fit its pitch is fault FORMAT");
	begin(1);
	program(TILE " pitch=1088" MM " +first w_pitch=1024");
	ok(run() == FLM_FAULT_FORMAT && result.fault.unit == FLM_UNIT_MM,
	   "for MM too");
	begin(1);
	program(TILE " dst=act:0" MM " +first");
	ok(run() == FLM_FAULT_BUFFER, "tiles go to the weight buffer only");
	begin(1);
	program(TILE " dst=wgt:32" MM " +first");
	ok(run() == FLM_FAULT_BUFFER, "and are aligned to 64 bytes");
	make_tile(4, 4, 4, 0, &plain);
	constants[200000 / 64 * 64 + 2] = 3;
	begin(1);
	program(TILE MM " +first");
	ok(run() == FLM_FAULT_FORMAT && result.fault.unit == FLM_UNIT_LD, "N = 3 is fault FORMAT");
	/* N of four blocks takes 64 bytes, their masks 128. */
	for (i = 0; i < 3; i++) {
		static const struct {
			uint32_t ld_pitch, mm_pitch;
			unsigned int fault, unit;
			const char *what;
		} pitches[] = {
			{ 192, 192, 0, 0, "N and masks may fill their pitch" },
			{ 128, 192, FLM_FAULT_FORMAT, FLM_UNIT_LD,
			  "those that do not fit it are fault FORMAT" },
			{ 192, 128, FLM_FAULT_FORMAT, FLM_UNIT_MM, "for MM too" },
		};

		make_tile(4, 4, 4, 0, &plain);
		begin(1);
		program(TILE " idx_pitch=%u" MM " +first idx_pitch=%u", pitches[i].ld_pitch,
			pitches[i].mm_pitch);
		ok(run() == pitches[i].fault && result.fault.unit == pitches[i].unit, "%s",
		   pitches[i].what);
	}
	make_tile(4, 4, 4, 0, &plain);
	constants[210000 / 64 * 64] ^= 1;
	begin(1);
	program(TILE MM " +first");
	ok(run() == FLM_FAULT_FORMAT && result.fault.unit == FLM_UNIT_MM,
	   "a mask that keeps not N a row is fault FORMAT when it is used");
	begin(1);
	program(TILE " idx=glb:1024" MM " +first");
	ok(run() == FLM_FAULT_BUFFER, "N and masks go to the index buffer only");
}

/* Blocks of 8-bit codes, N = 2 and none. Others who write to the index buffer change nothing. */
static void test_changed(void)
{
	struct tile tile = { .width = 8, .is_sparse = true, .blocks = 2, .cols = 32 };
	uint8_t n[2] = { 2, 0 }, codes[32 * 16], masks[32], out[32 * 16];
	unsigned int i, kept = 0;

	memset(codes, 7, sizeof(codes));
	for (i = 0; i < sizeof(masks); i++)
		masks[i] = i % 2 ? 0 : 3;
	ok(!expand_measure(&tile, n) && tile.code_bytes == 32 && tile.mask_bytes == 32,
	   "two codes a row of one block: 32 bytes of codes, one mask");
	n[0] = 16;
	n[1] = 16;
	ok(!expand_codes(&tile, codes, masks, out), "N that changes after it was measured");
	for (i = 0; i < sizeof(out); i++)
		kept += out[i] != expand_zero(&tile);
	ok(kept == 32, "is not read again: 32 codes are expanded");
}

static void test_dot(void)
{
	static uint8_t codes[4096 * 16];
	static int8_t a[4096], b[64 * 1024];
	static float scales[64][16], a_scales[64], out[2][64];
	static int32_t a_sums[64], sums[2][1024];
	const struct dot *plain = dot_get(0), *other;
	uint32_t i, n, cols, count;
	float acc[2][16];

	ok(!strcmp(plain->name, "plain"), "there is a plain dot product");
	for (n = 1; (other = dot_get(n)); n++) {
		bool holds = true;

		for (cols = 16; cols <= 4096; cols = cols * 5 / 4 / 16 * 16 + 16) {
			for (i = 0; i < sizeof(codes); i++)
				codes[i] = (uint8_t)draw();
			for (i = 0; i < 4096; i++)
				a[i] = i % 5 ? (int8_t)draw() : -128;
			for (i = 0; i < 64; i++) {
				a_sums[i] = (int32_t)(draw() % 8192) - 4096;
				a_scales[i] = (float)draw() / 1e6f;
			}
			for (i = 0; i < 1024; i++)
				scales[i / 16][i % 16] = math_half((uint16_t)(draw() & 0xbfff));
			for (i = 0; i < 16; i++)
				acc[0][i] = acc[1][i] = (float)draw();
			plain->strip(codes, cols, 128, a, a_sums, (uint8_t *)a_scales, scales,
				     acc[0]);
			other->strip(codes, cols, 128, a, a_sums, (uint8_t *)a_scales, scales,
				     acc[1]);
			holds = holds && !memcmp(acc[0], acc[1], sizeof(acc[0]));
		}
		for (cols = 1; cols <= 1024; cols = cols * 3 / 2 + 1) {
			count = 1 + draw() % 64;
			for (i = 0; i < sizeof(b); i++)
				b[i] = i % 3 ? (int8_t)draw() : -128;
			plain->keys(a, (uint8_t *)a_scales, b, 1024, (uint8_t *)scales, 4, cols,
				    count, out[0]);
			other->keys(a, (uint8_t *)a_scales, b, 1024, (uint8_t *)scales, 4, cols,
				    count, out[1]);
			plain->values(a, b, 1024, count, cols, sums[0]);
			other->values(a, b, 1024, count, cols, sums[1]);
			holds = holds && !memcmp(out[0], out[1], count * 4) &&
				!memcmp(sums[0], sums[1], cols * 4);
		}
		ok(holds, "%s gives the bits of the plain one", other->name);
	}
}

/* Attention of one token over ten positions of dim 8; masks are not looked at without +mask. */
#define KEYS " b=wgt:0 b_pitch=256 dim=8 positions=10/10"
#define QUERIES " a=act:0 a_pitch=256 a_scales=glb:0 a_scale_pitch=16 tokens=1/1"
#define MASKS " masks=idx:0 mask_pitch=1"
#define QK "@mm\nmm.qk" QUERIES KEYS " b_scales=glb:4096 b_scale_pitch=16 out=glb:16384 " \
	"out_pitch=1024" MASKS
#define PV "@mm\nmm.pv" QUERIES KEYS " out=glb:16384 out_pitch=1024" MASKS

static void fill_attention(void)
{
	uint32_t i;

	for (i = 0; i < 4096; i++)
		chip(0, ACT(0))[i] = (uint8_t)draw();
	for (i = 0; i < 65536; i++)
		chip(0, WGT(0))[i] = (uint8_t)draw();
	for (i = 0; i < 2048; i++)
		put_floats(GLB(4 * i), (const float[]) { (float)draw() / 1e8f }, 1);
}

static bool kept(uint32_t query, uint32_t key)
{
	return chip(0, IDX(query / 64))[key / 64 / 8] >> (key / 64 % 8) & 1;
}

static bool attention_is_right(uint32_t dim, bool is_masked)
{
	const char *mask = is_masked ? "+mask" : "";
	uint32_t t, p, d, g;
	bool holds;

	begin(1);
	fill_attention();
	memcpy(chip(0, IDX(0)), "\x02\x05", 2);
	program(QK " %s dim=%u positions=150/150 tokens=3/3 query=62 key=10", mask, dim);
	holds = !run();
	for (t = 0; t < 3; t++) {
		for (p = 0; p < 150; p++) {
			float acc = 0.0f;

			for (g = 0; 64 * g < dim; g++) {
				int32_t sum = 0;
				volatile float x;

				for (d = 64 * g; d < dim && d < 64 * g + 64; d++)
					sum += (int8_t)chip(0, ACT(256 * t))[d] *
					       (int8_t)chip(0, WGT(256 * p))[d];
				x = (float)sum * float_at(0, GLB(4096 + 16 * p + 4 * g));
				x = x * float_at(0, GLB(16 * t + 4 * g));
				acc = acc + x;
			}
			if (is_masked && !kept(62 + t, 10 + p))
				acc = 0.0f;
			holds = holds &&
				word_at(0, GLB(16384 + 1024 * t + 4 * p)) == math_bits(acc);
		}
	}
	begin(1);
	fill_attention();
	memcpy(chip(0, IDX(0)), "\x02\x05", 2);
	program(PV " +first %s dim=%u positions=150/150 tokens=3/3 query=62", mask, dim);
	holds = holds && !run();
	for (t = 0; t < 3; t++) {
		for (d = 0; d < dim; d++) {
			float acc = 0.0f;

			for (g = 0; 64 * g < 150; g++) {
				int32_t sum = 0;
				volatile float x;

				if (is_masked && !kept(62 + t, 64 * g))
					continue;
				for (p = 64 * g; p < 150 && p < 64 * g + 64; p++)
					sum += (int8_t)chip(0, ACT(256 * t))[p] *
					       (int8_t)chip(0, WGT(256 * p))[d];
				x = (float)sum * float_at(0, GLB(16 * t + 4 * g));
				acc = acc + x;
			}
			holds = holds &&
				word_at(0, GLB(16384 + 1024 * t + 4 * d)) == math_bits(acc);
		}
	}
	return holds;
}

static void test_attention(void)
{
	static const uint32_t dims[] = { 8, 32, 48, 64, 80, 128 };
	bool holds = true;
	uint32_t i;

	for (i = 0; i < 6; i++)
		holds = holds && attention_is_right(dims[i], false) &&
			attention_is_right(dims[i], true);
	ok(holds, "qk and pv of every head size, masked or not, equal the plain loops");
	begin(1);
	program(PV " +mask key=32");
	ok(run() == FLM_FAULT_BOUND, "a masked pv starts at a multiple of 64");
	begin(1);
	program(QK " +mask b=act:%d", BUFFER - 1);
	ok(run() == FLM_FAULT_BUFFER, "an operand is checked as a whole, masked blocks too");
	begin(1);
	program(QK " query=-1 masks=act:%d", BUFFER);
	put_floats(GLB(16384), (const float[]) { 3.0f }, 1);
	ok(!run() && WORDS_ARE(GLB(16384), 0), "operands of a flag are not looked at without it");
	begin(1);
	program(QK " +mask masks=act:%d", BUFFER);
	ok(run() == FLM_FAULT_BUFFER, "with the flag they are");
	begin(1);
	program(QK " tokens=2/2 out_pitch=42");
	ok(run() == FLM_FAULT_BUFFER, "float rows at an odd pitch are fault BUFFER");
	begin(1);
	program(QK " out_pitch=42");
	ok(!run(), "unless there is one row");
}

int main(void)
{
	if (!machine_open())
		return 1;
	test_linear();
	test_format();
	test_changed();
	test_dot();
	test_attention();
	return machine_close();
}
