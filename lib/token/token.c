// SPDX-License-Identifier: MIT
/*
 * Text as tokens: SentencePiece's BPE, exactly. The text is normalised (invalid bytes become
 * U+FFFD, spaces U+2581), cut into user-defined pieces and characters, and then neighbours whose
 * union has the greatest score are joined, leftmost first, until no union is a piece. A heap of
 * candidate pairs and a list of symbols make it O(n log n). What is no piece at the end becomes its
 * bytes, or the unknown token; unused pieces are taken apart again as they were made.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "lib/internal.h"
#include "lib/token/token.h"

#define TEXT_BYTES_MAX	(INT32_MAX / 4)		/* tripled by normalising, it has 31-bit indices */

unsigned int token_character(const char *text, size_t bytes)
{
	const uint8_t *at = (const uint8_t *)text;
	unsigned int n = at[0] < 0x80 ? 1 : at[0] < 0xc2 ? 0 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 :
			 at[0] < 0xf5 ? 4 : 0;
	uint32_t code;

	if (!n || n > bytes)
		return 0;
	for (unsigned int i = 1; i < n; i++)
		if ((at[i] & 0xc0) != 0x80)
			return 0;
	if (n == 3) {
		code = (at[0] & 15u) << 12 | (at[1] & 63u) << 6 | (at[2] & 63u);
		if (code < 0x800 || (code >= 0xd800 && code < 0xe000))
			return 0;
	} else if (n == 4) {
		code = (at[0] & 7u) << 18 | (at[1] & 63u) << 12 | (at[2] & 63u) << 6 |
		       (at[3] & 63u);
		if (code < 0x10000 || code > 0x10ffff)
			return 0;
	}
	return n;
}

/* ---- Normalising ---- */

/* The normalised text in a new buffer; NULL without memory. No byte becomes more than three. */
static char *normalise(const struct flm_tokenizer *t, const char *text, size_t bytes,
		       size_t *out_bytes)
{
	const char *at = text, *end = text + bytes;
	const char *space = t->escapes_spaces ? SPACE : " ";
	size_t space_bytes = strlen(space), used = 0;
	char *out = malloc(3 * bytes + 8);
	bool is_after_space = t->removes_spaces;

	*out_bytes = 0;
	if (!out)
		return NULL;
	if (t->removes_spaces)
		while (at < end && *at == ' ' && token_user(t, at, end - at) <= 1)
			at++;
	if (at == end)
		return out;
	if (t->has_dummy_prefix && !t->is_suffix) {
		memcpy(out, space, space_bytes);
		used = space_bytes;
	}
	while (at < end) {
		/* User-defined pieces stay as they are, valid or not, except for spaces. */
		uint32_t n = token_user(t, at, end - at);
		const char *part = at;
		uint32_t left;

		if (!n)
			n = token_character(at, end - at);
		left = n ? n : 3;
		if (!n)
			part = REPLACEMENT;
		at += n ? n : 1;
		for (; is_after_space && left && *part == ' '; left--)
			part++;
		if (left)
			is_after_space = t->removes_spaces && part[left - 1] == ' ';
		for (; left; left--, part++) {
			if (*part == ' ') {
				memcpy(out + used, space, space_bytes);
				used += space_bytes;
			} else {
				out[used++] = *part;
			}
		}
	}
	if (t->removes_spaces)
		while (used >= space_bytes && !memcmp(out + used - space_bytes, space, space_bytes))
			used -= space_bytes;
	if (t->has_dummy_prefix && t->is_suffix) {
		memcpy(out + used, space, space_bytes);
		used += space_bytes;
	}
	*out_bytes = used;
	return out;
}

/* ---- Candidates for joining ---- */

/* Two neighbours that could be joined. Stale when a symbol has changed since. */
struct pair {
	float score;
	int32_t left, right;
	uint32_t bytes;
};

struct heap {
	struct pair *pairs;
	size_t count, room;
};

/* True when a is to be joined before b. */
static bool is_before(const struct pair *a, const struct pair *b)
{
	return a->score > b->score || (a->score == b->score && a->left < b->left);
}

static int heap_push(struct heap *heap, struct pair pair)
{
	size_t at = heap->count;

	if (heap->count == heap->room) {
		size_t room = heap->room ? 2 * heap->room : 256;
		struct pair *more = realloc(heap->pairs, room * sizeof(*more));

		if (!more)
			return -ENOMEM;
		heap->pairs = more;
		heap->room = room;
	}
	heap->count++;
	for (; at && is_before(&pair, &heap->pairs[(at - 1) / 2]); at = (at - 1) / 2)
		heap->pairs[at] = heap->pairs[(at - 1) / 2];
	heap->pairs[at] = pair;
	return 0;
}

static struct pair heap_pop(struct heap *heap)
{
	struct pair top = heap->pairs[0], last = heap->pairs[--heap->count];
	size_t at = 0, child;

	while ((child = 2 * at + 1) < heap->count) {
		if (child + 1 < heap->count &&
		    is_before(&heap->pairs[child + 1], &heap->pairs[child]))
			child++;
		if (!is_before(&heap->pairs[child], &last))
			break;
		heap->pairs[at] = heap->pairs[child];
		at = child;
	}
	heap->pairs[at] = last;
	return top;
}

/* ---- Joining ---- */

struct symbol {
	const char *text;
	uint32_t bytes;		/* 0: joined to its left neighbour */
	int32_t left, right;	/* -1: none */
	bool is_frozen;		/* user-defined: never joined */
};

/* One text on its way to ids. */
struct encoder {
	const struct flm_tokenizer *t;
	struct symbol *symbols;
	size_t count;
	struct heap heap;
	/* For the unused pieces, NULL without any: */
	uint32_t *cut;		/* [vocab] bytes of the left part, as last made; 0: never */
	uint32_t *parts;	/* [longest piece] bytes of parts still to be written */
	/* What does not fit is counted. */
	uint32_t *ids;
	size_t room, used;
	bool is_after_unknown;
};

/* Bytes of the symbol that text begins with. Only user-defined pieces leave half a character. */
static uint32_t symbol_bytes(const struct flm_tokenizer *t, const char *text, size_t bytes,
			     bool *is_user)
{
	uint32_t n = token_user(t, text, bytes);
	uint8_t first = (uint8_t)*text;

	*is_user = n;
	if (!n)
		n = first < 0xc0 ? 1 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
	return n < bytes ? n : bytes;
}

static int cut_text(struct encoder *e, const char *text, size_t bytes)
{
	size_t n = 0;
	bool is_user;

	for (size_t at = 0; at < bytes; n++)
		at += symbol_bytes(e->t, text + at, bytes - at, &is_user);
	e->symbols = malloc((n + 1) * sizeof(*e->symbols));
	if (!e->symbols)
		return -ENOMEM;
	for (size_t at = 0; at < bytes; e->count++) {
		uint32_t length = symbol_bytes(e->t, text + at, bytes - at, &is_user);

		e->symbols[e->count] = (struct symbol) {
			.text = text + at, .bytes = length, .left = (int32_t)e->count - 1,
			.right = e->count + 1 < n ? (int32_t)e->count + 1 : -1,
			.is_frozen = is_user,
		};
		at += length;
	}
	return 0;
}

/* Two symbols: a candidate, when their union is a piece that text may become. */
static int consider(struct encoder *e, int32_t left, int32_t right)
{
	const struct symbol *a, *b;
	const struct piece *piece;
	uint32_t bytes;
	int64_t token;

	if (left < 0 || right < 0)
		return 0;
	a = &e->symbols[left];
	b = &e->symbols[right];
	bytes = a->bytes + b->bytes;
	if (a->is_frozen || b->is_frozen || bytes > e->t->piece_bytes_max)
		return 0;
	token = token_find(e->t, a->text, bytes);
	if (token < 0)
		return 0;
	piece = &e->t->pieces[token];
	if (piece->type != PIECE_NORMAL && piece->type != PIECE_USER && piece->type != PIECE_UNUSED)
		return 0;
	if (piece->type == PIECE_UNUSED)
		e->cut[token] = a->bytes;
	return heap_push(&e->heap, (struct pair) { piece->score, left, right, bytes });
}

static int join(struct encoder *e)
{
	int ret = 0;

	for (size_t i = 0; !ret && i + 1 < e->count; i++)
		ret = consider(e, i, i + 1);
	while (!ret && e->heap.count) {
		struct pair pair = heap_pop(&e->heap);
		struct symbol *left = &e->symbols[pair.left], *right = &e->symbols[pair.right];

		if (!left->bytes || !right->bytes || left->bytes + right->bytes != pair.bytes)
			continue;
		left->bytes = pair.bytes;
		left->right = right->right;
		if (right->right >= 0)
			e->symbols[right->right].left = pair.left;
		right->bytes = 0;
		ret = consider(e, left->left, pair.left);
		if (!ret)
			ret = consider(e, pair.left, left->right);
	}
	return ret;
}

/* ---- Writing ids ---- */

static void put(struct encoder *e, uint32_t id)
{
	if (e->used < e->room)
		e->ids[e->used] = id;
	e->used++;
}

/* A symbol, or part of one, as ids. */
static int put_text(struct encoder *e, const char *text, uint32_t bytes, int64_t token)
{
	const struct flm_tokenizer *t = e->t;
	bool is_unknown = token < 0 || t->pieces[token].type == PIECE_UNKNOWN;

	/* SentencePiece fails here too: a control token is never what a text means. */
	if (!is_unknown && t->pieces[token].type == PIECE_CONTROL)
		return -EINVAL;
	if (!is_unknown) {
		put(e, token);
	} else if (t->has_bytes) {
		for (uint32_t i = 0; i < bytes; i++)
			put(e, t->byte_piece[(uint8_t)text[i]]);
	} else if (!e->is_after_unknown) {
		put(e, t->unknown);
	}
	e->is_after_unknown = is_unknown;
	return 0;
}

/* A symbol as ids; unused pieces fall back into the parts that made them. */
static int put_symbol(struct encoder *e, const struct symbol *symbol)
{
	const char *text = symbol->text;
	uint32_t bytes = symbol->bytes, waiting = 0;
	int ret;

	for (;;) {
		int64_t token = token_find(e->t, text, bytes);
		uint32_t left = token >= 0 && e->cut ? e->cut[token] : 0;

		if (left) {
			e->parts[waiting++] = bytes - left;
			bytes = left;
			continue;
		}
		ret = put_text(e, text, bytes, token);
		if (ret || !waiting)
			return ret;
		text += bytes;
		bytes = e->parts[--waiting];
	}
}

static int encode(struct encoder *e, const char *text, size_t bytes)
{
	size_t normal_bytes;
	char *normal = normalise(e->t, text, bytes, &normal_bytes);
	int ret = normal ? 0 : -ENOMEM;

	if (!ret && e->t->has_unused) {
		e->cut = calloc(e->t->count, sizeof(*e->cut));
		e->parts = malloc(e->t->piece_bytes_max * sizeof(*e->parts));
		if (!e->cut || !e->parts)
			ret = -ENOMEM;
	}
	if (!ret)
		ret = cut_text(e, normal, normal_bytes);
	if (!ret)
		ret = join(e);
	for (size_t i = 0; !ret && i < e->count; i++)
		if (e->symbols[i].bytes)
			ret = put_symbol(e, &e->symbols[i]);
	free(e->heap.pairs);
	free(e->symbols);
	free(e->parts);
	free(e->cut);
	free(normal);
	return ret;
}

PUBLIC int flm_tokenizer_encode(const struct flm_tokenizer *tokenizer, const char *text,
				size_t bytes, uint32_t *ids, size_t room, size_t *count)
{
	struct encoder e = { .t = tokenizer, .ids = ids, .room = room };
	int ret;

	*count = 0;
	if (bytes > TEXT_BYTES_MAX)
		return flm_fail(-E2BIG, "a text of %zu bytes is too long; split it into parts of at most %d",
				bytes, TEXT_BYTES_MAX);
	ret = encode(&e, bytes ? text : "", bytes);
	if (ret == -EINVAL)
		return flm_fail(ret, "a character of the text is one of the model's control pieces; "
				"remove it");
	if (ret)
		return flm_fail(ret, "no memory to tokenize %zu bytes", bytes);
	*count = e.used;
	if (e.used > room)
		return flm_fail(-ENOBUFS, "the text has %zu tokens, the array has room for %zu; give more room",
				e.used, room);
	return 0;
}
