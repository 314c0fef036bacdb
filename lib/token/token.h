/* SPDX-License-Identifier: MIT */
/*
 * The tokenizer, inside: what its files share. What programs call is in lib/flightllm.h.
 *
 * model.c reads the model, token.c encodes, text.c decodes. A tokenizer does not change after
 * flm_tokenizer_new(), so any number of threads may use one.
 */
#ifndef LIB_TOKEN_H
#define LIB_TOKEN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "lib/flightllm.h"

#define SPACE		"\xe2\x96\x81"		/* U+2581, how a space looks in pieces */
#define REPLACEMENT	"\xef\xbf\xbd"		/* U+FFFD */
#define PIECE_BYTES_MAX	7999			/* SentencePiece's own limit */

enum piece_type { PIECE_NORMAL = 1, PIECE_UNKNOWN, PIECE_CONTROL, PIECE_USER, PIECE_UNUSED,
		  PIECE_BYTE };

/* Bytes inside the tokenizer's copy of the file; not terminated. */
struct text {
	const char *at;
	uint32_t bytes;
};

struct piece {
	struct text text;
	float score;
	uint8_t type;
	uint8_t byte;		/* of a PIECE_BYTE */
};

struct flm_tokenizer {
	uint8_t *file;
	struct piece *pieces;
	uint32_t count, room;
	uint32_t *table;	/* open addressing by text: piece + 1, 0 is empty */
	uint32_t mask;
	uint32_t *users;	/* [user_count] user-defined pieces, in the order of their bytes */
	uint32_t user_count;
	uint32_t piece_bytes_max;	/* of the longest piece */
	uint32_t byte_piece[256];
	uint32_t unknown;
	bool has_unused;
	/* trainer_spec */
	uint64_t model_type;
	bool has_bytes;		/* byte fallback */
	bool is_suffix;		/* the dummy space goes behind the text */
	struct text unknown_text;	/* what an unknown token looks like */
	struct text bos, eos;
	/* normalizer_spec */
	bool has_dummy_prefix, removes_spaces, escapes_spaces;
};

/* Piece with this text, of any type, or -1. */
int64_t token_find(const struct flm_tokenizer *tokenizer, const char *text, size_t bytes);

/* Bytes of the longest user-defined piece that text begins with, 0: with none. */
uint32_t token_user(const struct flm_tokenizer *tokenizer, const char *text, size_t bytes);

/* Bytes of the valid UTF-8 character at text, 0 when there is none. bytes > 0. */
unsigned int token_character(const char *text, size_t bytes);

#endif
