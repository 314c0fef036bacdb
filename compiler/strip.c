// SPDX-License-Identifier: MIT
/*
 * Bytes of a strip: sixteen rows of a matrix at one width, K tile by K tile, the codes of each and
 * then its scales, as SPEC.md ("Weights: strips and tiles") has them.
 */
#include "compiler/cc.h"

uint32_t strip_codes_bytes(unsigned int width, uint32_t cols)
{
	return ROUND_UP(2 * width * cols, 64);
}

uint32_t strip_scales_bytes(uint32_t cols)
{
	return ROUND_UP(DIV_UP(cols, FLM_GROUP) * 32, 64);
}

uint32_t strip_bytes(unsigned int width, uint32_t cols)
{
	uint32_t whole = cols / FLM_TILE_COLS, rest = ROUND_UP(cols % FLM_TILE_COLS, FLM_STRIP);
	uint32_t each = strip_codes_bytes(width, FLM_TILE_COLS) + strip_scales_bytes(FLM_TILE_COLS);

	return whole * each + strip_codes_bytes(width, rest) + strip_scales_bytes(rest);
}

uint64_t strip_rows(unsigned int width, uint32_t cols, uint64_t at, struct flm_strip *rows)
{
	uint32_t left = ROUND_UP(cols, FLM_STRIP);

	for (; left; rows++) {
		uint32_t n = MIN(left, FLM_TILE_COLS), codes = strip_codes_bytes(width, n);

		rows->width = width;
		put_le16((uint8_t *)&rows->blocks, n / FLM_STRIP);
		put_le32((uint8_t *)&rows->codes, at / 64);
		put_le32((uint8_t *)&rows->scales, (at + codes) / 64);
		at += codes + strip_scales_bytes(n);
		left -= n;
	}
	return at;
}
