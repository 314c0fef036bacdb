// SPDX-License-Identifier: MIT
/*
 * Tiles from their packed form to one byte a code. A 2-bit code becomes twice itself, so that all
 * widths are "byte minus a zero point" and the dot product needs no knowledge of the width; a
 * column that is not kept becomes the zero point.
 */
#include "emulator/core/expand.h"

#include <string.h>

#include <endian.h>

#define QUAD 64			/* bytes of a vector: 16 rows of 4 columns */
#define BLOCK_CODES (FLM_STRIP * FLM_STRIP)
#define MASK_BYTES 32

int expand_fetch(struct core *core, uint64_t segment, uint64_t table, uint64_t row,
		 struct tile *tile)
{
	struct flm_strip strip;
	unsigned int i;

	if (core_load(core, segment, core_offset(table, row, sizeof(strip)), &strip, sizeof(strip)))
		return -1;
	tile->width = strip.width;
	tile->is_sparse = strip.flags & FLM_STRIP_SPARSE;
	tile->blocks = le16toh(strip.blocks);
	tile->codes = (uint64_t)le32toh(strip.codes) * EXPAND_ALIGN;
	tile->n = (uint64_t)le32toh(strip.n) * EXPAND_ALIGN;
	tile->masks = (uint64_t)le32toh(strip.masks) * EXPAND_ALIGN;
	tile->scales = (uint64_t)le32toh(strip.scales) * EXPAND_ALIGN;
	if (tile->width < 2 || tile->width > 8 || tile->width == 6 || tile->width == 7)
		return core_fault(core, FLM_FAULT_FORMAT);
	if (strip.flags & ~FLM_STRIP_SPARSE || tile->blocks < 1 ||
	    tile->blocks > FLM_TILE_COLS / FLM_STRIP)
		return core_fault(core, FLM_FAULT_FORMAT);
	for (i = 0; i < sizeof(strip.reserved) / sizeof(strip.reserved[0]); i++)
		if (strip.reserved[i])
			return core_fault(core, FLM_FAULT_FORMAT);
	if (!tile->is_sparse && (strip.n || strip.masks))
		return core_fault(core, FLM_FAULT_FORMAT);
	tile->cols = tile->blocks * FLM_STRIP;
	tile->groups = (tile->cols + FLM_GROUP - 1) / FLM_GROUP;
	tile->scale_bytes = tile->groups * 2 * FLM_STRIP;
	tile->mask_bytes = 0;
	tile->code_bytes = 2 * tile->width * tile->cols;
	tile->kept = (uint64_t)tile->cols * FLM_STRIP;
	return 0;
}

int expand_measure(struct tile *tile, const uint8_t *from)
{
	const uint8_t *n = tile->block_n;
	uint32_t b, kept = 0, masks = 0;

	memcpy(tile->block_n, from, tile->blocks);
	for (b = 0; b < tile->blocks; b++) {
		if (n[b] != 0 && n[b] != 2 && n[b] != 4 && n[b] != 8 && n[b] != 16)
			return -1;
		kept += n[b];
		masks += n[b] != 0 && n[b] != 16;
	}
	tile->mask_bytes = masks * MASK_BYTES;
	tile->code_bytes = 2 * kept * tile->width;
	tile->kept = (uint64_t)kept * FLM_STRIP;
	return 0;
}

int expand_zero(const struct tile *tile)
{
	return tile->width == 2 ? 3 : 1 << (tile->width - 1);
}

/*
 * `parts` runs of `run` codes share `run` bytes, the first run in the lowest bits: 1, 2 or 4 parts
 * of 8, 4 or 2 bits. Both dense vectors and sparse blocks are packed so.
 */
static inline __attribute__((always_inline))
void unpack(const uint8_t *restrict in, uint32_t run, unsigned int parts, uint8_t *restrict out)
{
	unsigned int bits = 8 / parts, part;
	uint8_t ones = (uint8_t)(0xff >> (8 - bits));
	uint32_t i;

	for (part = 0; part < parts; part++, out += run)
		for (i = 0; i < run; i++)
			out[i] = in[i] >> (part * bits) & ones;
}

/* The same with the counts that dense tiles have as constants, so that vector code comes of it. */
static void unpack_plane(const uint8_t *in, uint32_t run, unsigned int parts, uint8_t *out)
{
	if (parts == 1)
		memcpy(out, in, run);
	else if (run == QUAD && parts == 2)
		unpack(in, QUAD, 2, out);
	else if (run == QUAD)
		unpack(in, QUAD, 4, out);
	else
		unpack(in, run, parts, out);
}

/*
 * Adds the plane of top bits: bit p % 8 of byte p / 8 is worth `weight` in code p. Eight at a time:
 * a byte is copied to eight places, each keeps another bit, and what is not zero becomes one.
 */
static void add_top_bits(const uint8_t *in, uint32_t codes, unsigned int weight, uint8_t *out)
{
	uint32_t i;

	for (i = 0; i < codes / 8; i++) {
		uint64_t bits = in[i] * 0x0101010101010101u & 0x8040201008040201u, eight;

		bits = (bits + 0x7f7f7f7f7f7f7f7fu) >> 7 & 0x0101010101010101u;
		memcpy(&eight, out + 8 * i, sizeof(eight));
		eight = htole64(le64toh(eight) + bits * weight);
		memcpy(out + 8 * i, &eight, sizeof(eight));
	}
}

static unsigned int parts_of(unsigned int width)
{
	return width == 8 ? 1 : width >= 4 ? 2 : 4;
}

static void double_codes(uint8_t *codes, uint32_t count)
{
	uint32_t i;

	for (i = 0; i < count; i++)
		codes[i] = (uint8_t)(codes[i] * 2);
}

static void expand_dense(const struct tile *tile, const uint8_t *codes, uint8_t *out)
{
	unsigned int parts = parts_of(tile->width), v;
	uint32_t col, cols, quads;

	for (col = 0; col < tile->cols; col += cols) {
		cols = tile->cols - col < FLM_GROUP ? tile->cols - col : FLM_GROUP;
		quads = cols / 4;
		for (v = 0; v < quads / parts; v++)
			unpack_plane(codes + v * QUAD, QUAD, parts, out + v * parts * QUAD);
		codes += quads / parts * QUAD;
		/* Words of top bits continue the vectors: bit i of word q is code 64 q + i. */
		if (tile->width == 3 || tile->width == 5) {
			add_top_bits(codes, quads * QUAD, 1u << (tile->width - 1), out);
			codes += quads * 8;
		}
		out += quads * QUAD;
	}
}

/* One block's codes go to the columns its mask keeps. Returns -1 where a row keeps not N. */
static int scatter(const uint8_t *packed, unsigned int n, const uint8_t *masks, uint8_t *out)
{
	unsigned int j, part, bit;

	for (j = 0; j < 4; j++) {
		uint64_t four = UINT64_MAX;

		/* What is counted is what is used, whoever writes to the buffer meanwhile. */
		if (n != FLM_STRIP)
			memcpy(&four, masks + 8 * j, sizeof(four));
		four = le64toh(four);
		for (part = 0; part < 4; part++) {
			unsigned int row = j + 4 * part, kept = four >> 16 * part & 0xffff;

			if ((unsigned int)__builtin_popcount(kept) != n)
				return -1;
			for (; kept; kept &= kept - 1) {
				bit = (unsigned int)__builtin_ctz(kept);
				out[bit / 4 * QUAD + 4 * row + bit % 4] = *packed++;
			}
		}
	}
	return 0;
}

static int expand_sparse(const struct tile *tile, const uint8_t *codes, const uint8_t *masks,
			 uint8_t *out)
{
	const uint8_t *n = tile->block_n;
	unsigned int parts = parts_of(tile->width);
	uint8_t packed[BLOCK_CODES];
	uint32_t b;

	memset(out, expand_zero(tile), (size_t)tile->cols * FLM_STRIP);
	for (b = 0; b < tile->blocks; b++, out += BLOCK_CODES) {
		uint32_t count = n[b] * FLM_STRIP;

		if (!count)
			continue;
		unpack_plane(codes, count / parts, parts, packed);
		codes += count / parts;
		if (tile->width == 3 || tile->width == 5) {
			add_top_bits(codes, count, 1u << (tile->width - 1), packed);
			codes += count / 8;
		}
		if (tile->width == 2)
			double_codes(packed, count);
		if (scatter(packed, n[b], masks, out))
			return -1;
		if (n[b] != FLM_STRIP)
			masks += MASK_BYTES;
	}
	return 0;
}

int expand_codes(const struct tile *tile, const uint8_t *codes, const uint8_t *masks, uint8_t *out)
{
	if (tile->is_sparse)
		return expand_sparse(tile, codes, masks, out);
	expand_dense(tile, codes, out);
	if (tile->width == 2)
		double_codes(out, tile->cols * FLM_STRIP);
	return 0;
}
