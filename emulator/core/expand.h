/* SPDX-License-Identifier: MIT */
/*
 * Weight tiles: what a row of a strip table says about one strip and one K tile, how many bytes its
 * parts take, and the codes of any width and sparsity as one layout that MM and MV compute on.
 */
#ifndef EMULATOR_EXPAND_H
#define EMULATOR_EXPAND_H

#include "emulator/core/core.h"

#define EXPAND_ALIGN 64		/* the parts of a tile are padded to this */

struct tile {
	unsigned int width;
	bool is_sparse;
	uint32_t blocks, cols, groups;
	uint64_t codes, n, masks, scales;	/* byte offsets in the segment */
	uint32_t scale_bytes;
	uint32_t code_bytes, mask_bytes;	/* not padded; sparse: after expand_measure() */
	uint64_t kept;				/* codes in memory */
	uint8_t block_n[FLM_TILE_COLS / FLM_STRIP];	/* sparse: N of each block, after it too */
};

static inline uint64_t expand_pad(uint64_t bytes)
{
	return (bytes + EXPAND_ALIGN - 1) / EXPAND_ALIGN * EXPAND_ALIGN;
}

/* Reads and checks a row of the table; 0, or -1 after a fault. */
int expand_fetch(struct core *core, uint64_t segment, uint64_t table, uint64_t row,
		 struct tile *tile);

/*
 * Completes a sparse tile by its N bytes [blocks]. Returns 0, or -1 if one is not 0, 2, 4, 8 or 16.
 * The bytes are copied first: later changes to them affect neither sizes nor codes.
 */
int expand_measure(struct tile *tile, const uint8_t *from);

/* The zero point of codes: a value is code - zero (2 bits: 2 code - zero). */
int expand_zero(const struct tile *tile);

/*
 * Turns codes from their layout on chip into one byte each, [cols / 4][row][4 columns]; the value
 * of a byte is byte - expand_zero(). Sparse tiles use masks. Returns 0, or -1 if a mask does not
 * keep N codes in each row.
 */
int expand_codes(const struct tile *tile, const uint8_t *codes, const uint8_t *masks, uint8_t *out);

#endif
