// SPDX-License-Identifier: MIT
/*
 * Tokens as text, one by one. Two things are remembered between tokens: bytes of a character that
 * is not complete are held until it is, or cannot become one, or something other than a byte
 * follows; and the space that encoding put before the text is dropped at its start. All outputs
 * together are what SentencePiece decodes from all tokens.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/internal.h"
#include "lib/token/token.h"

struct flm_detokenizer {
	const struct flm_tokenizer *tokenizer;
	bool is_start;			/* a space here is the dummy prefix */
	char held[4];			/* bytes of a character that is not complete */
	unsigned int held_count;
	char out[4 * 3 + PIECE_BYTES_MAX];	/* what the last call returned */
};

PUBLIC int flm_detokenizer_new(const struct flm_tokenizer *tokenizer,
			       struct flm_detokenizer **detokenizer)
{
	struct flm_detokenizer *d = calloc(1, sizeof(*d));

	*detokenizer = d;
	if (!d)
		return flm_fail(-ENOMEM, "no memory for a detokenizer");
	d->tokenizer = tokenizer;
	d->is_start = true;
	return 0;
}

PUBLIC void flm_detokenizer_free(struct flm_detokenizer *detokenizer)
{
	free(detokenizer);
}

/* True when more bytes can make these fewer than four a character. */
static bool may_grow(const char *held, unsigned int count)
{
	char low[4], high[4];

	/* What is allowed as the next byte is a range that holds one of its ends, 0x80 or 0xbf. */
	memset(low, 0x80, sizeof(low));
	memset(high, 0xbf, sizeof(high));
	memcpy(low, held, count);
	memcpy(high, held, count);
	return token_character(low, 4) > count || token_character(high, 4) > count;
}

/* Moves held bytes that are a character, or cannot become one, to the output; all: none wait. */
static size_t release(struct flm_detokenizer *d, bool all)
{
	size_t used = 0;

	while (d->held_count) {
		unsigned int n = token_character(d->held, d->held_count);

		if (!n && !all && d->held_count < 4 && may_grow(d->held, d->held_count))
			break;
		memcpy(d->out + used, n ? d->held : REPLACEMENT, n ? n : 3);
		used += n ? n : 3;
		n = n ? n : 1;
		d->held_count -= n;
		memmove(d->held, d->held + n, d->held_count);
	}
	if (used)
		d->is_start = false;
	return used;
}

/* A piece that is text, its U+2581 turned into spaces, at out; returns how many bytes. */
static size_t put_piece(struct flm_detokenizer *d, struct text text, char *out)
{
	const struct flm_tokenizer *t = d->tokenizer;
	const char *at = text.at, *end = at + text.bytes;
	size_t used = 0;

	if (d->is_start && (t->has_dummy_prefix || t->removes_spaces) && end - at >= 3 &&
	    !memcmp(at, SPACE, 3)) {
		at += 3;
		/* Where extra spaces are removed, all at the start are. */
		d->is_start = t->removes_spaces;
	}
	while (at < end) {
		if (end - at >= 3 && !memcmp(at, SPACE, 3)) {
			out[used++] = ' ';
			at += 3;
		} else {
			out[used++] = *at++;
		}
	}
	if (used)
		d->is_start = false;
	return used;
}

PUBLIC const char *flm_detokenizer_push(struct flm_detokenizer *d, uint32_t token, size_t *bytes)
{
	const struct flm_tokenizer *t = d->tokenizer;
	const struct piece *piece = token < t->count ? &t->pieces[token] : NULL;
	size_t used;

	if (piece && piece->type == PIECE_BYTE) {
		d->held[d->held_count++] = piece->byte;
		*bytes = release(d, false);
		return d->out;
	}
	used = release(d, true);
	if (piece && piece->type == PIECE_UNKNOWN) {
		memcpy(d->out + used, t->unknown_text.at, t->unknown_text.bytes);
		used += t->unknown_text.bytes;
		if (used)
			d->is_start = false;
	} else if (piece && piece->type != PIECE_CONTROL) {
		used += put_piece(d, piece->text, d->out + used);
	}
	*bytes = used;
	return d->out;
}

PUBLIC const char *flm_detokenizer_finish(struct flm_detokenizer *d, size_t *bytes)
{
	*bytes = release(d, true);
	d->is_start = true;
	return d->out;
}

/* The part of the text that fits. */
static void copy_part(char *text, size_t room, size_t *used, const char *part, size_t bytes)
{
	if (*used < room)
		memcpy(text + *used, part, bytes < room - *used ? bytes : room - *used);
	*used += bytes;
}

PUBLIC int flm_tokenizer_decode(const struct flm_tokenizer *tokenizer, const uint32_t *ids,
				size_t count, char *text, size_t room, size_t *bytes)
{
	struct flm_detokenizer *d;
	const char *part;
	size_t used = 0, n;
	int ret;

	*bytes = 0;
	for (size_t i = 0; i < count; i++)
		if (ids[i] >= tokenizer->count)
			return flm_fail(-EINVAL, "token %u (number %zu) is outside the vocabulary of %u; use the "
					"tokenizer that made it",
					ids[i], i + 1, tokenizer->count);
	ret = flm_detokenizer_new(tokenizer, &d);
	if (ret)
		return ret;
	for (size_t i = 0; i < count; i++) {
		part = flm_detokenizer_push(d, ids[i], &n);
		copy_part(text, room, &used, part, n);
	}
	part = flm_detokenizer_finish(d, &n);
	copy_part(text, room, &used, part, n);
	flm_detokenizer_free(d);
	*bytes = used;
	if (used > room)
		return flm_fail(-ENOBUFS, "the text has %zu bytes, the array has room for %zu; give more room",
				used, room);
	return 0;
}
