// SPDX-License-Identifier: MIT
/*
 * The tokenizer: SentencePiece's BPE, exactly. tokenizer.model is a protocol buffer (ModelProto of
 * sentencepiece_model.proto): pieces with scores, a trainer's and a normalizer's settings. It is not trusted.
 *
 * Encoding: the text is normalised (invalid bytes become U+FFFD, spaces become U+2581), cut into user-defined
 * pieces and characters, and then the neighbours whose union has the greatest score are joined,
 * leftmost first, until no union is a piece. A heap of candidate pairs and a list of symbols make it
 * O(n log n). What is no piece at the end becomes its bytes, or the unknown token.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/internal.h"

#define SPACE		"\xe2\x96\x81"		/* U+2581, how a space looks in pieces */
#define REPLACEMENT	"\xef\xbf\xbd"		/* U+FFFD */
#define PIECES_MAX	(1u << 22)
#define PIECE_BYTES_MAX	4096

enum piece_type { PIECE_NORMAL = 1, PIECE_UNKNOWN, PIECE_CONTROL, PIECE_USER, PIECE_UNUSED,
		  PIECE_BYTE };

struct piece {
	const char *text;	/* in the tokenizer's copy of the file; not terminated */
	uint32_t bytes;
	float score;
	uint8_t type;
	uint8_t byte;		/* of a PIECE_BYTE */
};

struct flm_tokenizer {
	uint8_t *file;
	struct piece *pieces;
	uint32_t count, room;
	uint32_t *table;	/* open addressing: piece + 1, 0 is empty */
	uint32_t mask;
	uint32_t byte_piece[256];
	uint32_t unknown;
	uint32_t user_bytes_max;	/* of the longest user-defined piece, 0: there is none */
	bool has_bytes;		/* byte fallback */
	bool has_dummy_prefix, removes_spaces, escapes_spaces, is_suffix;
};

/* ---- Protocol buffers ---- */

struct wire {
	const uint8_t *at, *end;
	bool bad;
};

static uint64_t varint(struct wire *wire)
{
	uint64_t value = 0;

	for (unsigned int shift = 0; shift < 64; shift += 7) {
		if (wire->at == wire->end)
			break;
		value |= (uint64_t)(*wire->at & 0x7f) << shift;
		if (!(*wire->at++ & 0x80))
			return value;
	}
	wire->bad = true;
	return 0;
}

/* The next field: its number, and its value or its bytes. False at the end or when it is bad. */
static bool field(struct wire *wire, uint32_t *number, uint64_t *value, struct wire *bytes)
{
	uint64_t key;

	if (wire->at == wire->end || wire->bad)
		return false;
	key = varint(wire);
	*number = key >> 3 > UINT32_MAX ? UINT32_MAX : (uint32_t)(key >> 3);
	*value = 0;
	*bytes = (struct wire) { 0 };
	switch (key & 7) {
	case 0:
		*value = varint(wire);
		break;
	case 1:
	case 5: {
		size_t n = (key & 7) == 1 ? 8 : 4;

		if ((size_t)(wire->end - wire->at) < n) {
			wire->bad = true;
			break;
		}
		for (size_t i = 0; i < n; i++)
			*value |= (uint64_t)wire->at[i] << 8 * i;
		wire->at += n;
		break;
	}
	case 2:
		*value = varint(wire);
		if (*value > (uint64_t)(wire->end - wire->at)) {
			wire->bad = true;
			break;
		}
		*bytes = (struct wire) { .at = wire->at, .end = wire->at + *value };
		wire->at += *value;
		break;
	default:
		wire->bad = true;
	}
	return !wire->bad;
}

/* ---- Reading the model ---- */

struct error {
	char *text;
	size_t bytes;
};

__attribute__((format(printf, 2, 3)))
static int refuse(const struct error *error, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(error->text, error->bytes, format, args);
	va_end(args);
	return -EBADMSG;
}

static int read_piece(struct flm_tokenizer *t, struct wire wire, const struct error *error)
{
	struct piece piece = { .text = "", .type = PIECE_NORMAL };
	uint32_t number, bits;
	uint64_t value;
	struct wire bytes;

	while (field(&wire, &number, &value, &bytes)) {
		if (number == 1) {
			piece.text = (const char *)bytes.at;
			piece.bytes = bytes.end - bytes.at;
		} else if (number == 2) {
			bits = (uint32_t)value;
			memcpy(&piece.score, &bits, 4);
		} else if (number == 3) {
			piece.type = value <= PIECE_BYTE ? value : 0;
		}
	}
	if (wire.bad || !piece.bytes || piece.bytes > PIECE_BYTES_MAX || piece.score != piece.score ||
	    piece.type < PIECE_NORMAL)
		return refuse(error, "piece %u is not as it must be", t->count);
	if (t->count == PIECES_MAX)
		return refuse(error, "it has more than %u pieces", PIECES_MAX);
	if (t->count == t->room) {
		uint32_t room = t->room ? 2 * t->room : 1024;
		struct piece *more = realloc(t->pieces, room * sizeof(*more));

		if (!more)
			return refuse(error, "no memory for it");
		t->pieces = more;
		t->room = room;
	}
	if (piece.type == PIECE_BYTE) {
		unsigned int byte;
		char end;

		if (piece.bytes != 6 || sscanf(piece.text, "<0x%2x%c", &byte, &end) != 2 || end != '>')
			return refuse(error, "byte piece %u is not like <0x0A>", t->count);
		piece.byte = byte;
	}
	t->pieces[t->count++] = piece;
	return 0;
}

static int read_trainer(struct flm_tokenizer *t, struct wire wire, const struct error *error)
{
	uint32_t number;
	uint64_t value, type = 1;
	struct wire bytes;

	while (field(&wire, &number, &value, &bytes)) {
		if (number == 3)
			type = value;
		else if (number == 24)
			t->is_suffix = value;
		else if (number == 35)
			t->has_bytes = value;
	}
	if (type != 2)
		return refuse(error, "trainer_spec.model_type is %llu; only 2 (BPE) is supported",
			      (unsigned long long)type);
	return wire.bad ? refuse(error, "its trainer_spec is damaged") : 0;
}

static int read_normalizer(struct flm_tokenizer *t, struct wire wire, const struct error *error)
{
	uint32_t number;
	uint64_t value;
	struct wire bytes;

	while (field(&wire, &number, &value, &bytes)) {
		if (number == 2 && bytes.at != bytes.end)
			return refuse(error, "normalizer_spec.precompiled_charsmap is not empty; only "
				      "the identity normalizer is supported");
		if (number == 3)
			t->has_dummy_prefix = value;
		else if (number == 4)
			t->removes_spaces = value;
		else if (number == 5)
			t->escapes_spaces = value;
	}
	return wire.bad ? refuse(error, "its normalizer_spec is damaged") : 0;
}

static uint32_t hash(const char *text, size_t bytes)
{
	uint32_t h = 2166136261u;	/* FNV-1a */

	while (bytes--)
		h = (h ^ (uint8_t)*text++) * 16777619u;
	return h;
}

/* Piece with this text, or -1. */
static int64_t find(const struct flm_tokenizer *t, const char *text, size_t bytes)
{
	for (uint32_t at = hash(text, bytes) & t->mask; t->table[at]; at = (at + 1) & t->mask) {
		const struct piece *piece = &t->pieces[t->table[at] - 1];

		if (piece->bytes == bytes && !memcmp(piece->text, text, bytes))
			return t->table[at] - 1;
	}
	return -1;
}

static int make_tables(struct flm_tokenizer *t, const struct error *error)
{
	uint32_t room = 16, bytes_seen = 0;
	bool has_unknown = false;

	while (room < 2 * t->count)
		room *= 2;
	t->table = calloc(room, sizeof(*t->table));
	if (!t->table)
		return refuse(error, "no memory for it");
	t->mask = room - 1;
	for (uint32_t i = 0; i < t->count; i++) {
		const struct piece *piece = &t->pieces[i];
		uint32_t at = hash(piece->text, piece->bytes) & t->mask;

		if (find(t, piece->text, piece->bytes) >= 0)
			return refuse(error, "pieces %u and %lld are the same", i,
				      (long long)find(t, piece->text, piece->bytes));
		while (t->table[at])
			at = (at + 1) & t->mask;
		t->table[at] = i + 1;
		if (piece->type == PIECE_UNKNOWN) {
			if (has_unknown)
				return refuse(error, "it has two unknown pieces");
			has_unknown = true;
			t->unknown = i;
		} else if (piece->type == PIECE_BYTE) {
			t->byte_piece[piece->byte] = i;
			bytes_seen++;
		} else if (piece->type == PIECE_USER && piece->bytes > t->user_bytes_max) {
			t->user_bytes_max = piece->bytes;
		}
	}
	if (!has_unknown)
		return refuse(error, "it has no unknown piece");
	if (t->has_bytes && bytes_seen != 256)
		return refuse(error, "byte fallback needs 256 byte pieces, it has %u", bytes_seen);
	return 0;
}

int flm_tokenizer_load(const void *model, size_t bytes, char *text, size_t text_bytes,
		       struct flm_tokenizer **tokenizer)
{
	struct error error = { text, text_bytes };
	struct flm_tokenizer *t = calloc(1, sizeof(*t));
	struct wire wire, part;
	uint32_t number;
	uint64_t value;
	bool has_trainer = false;
	int ret = 0;

	*tokenizer = NULL;
	if (t)
		t->file = malloc(bytes + 1);
	if (!t || !t->file) {
		free(t);
		refuse(&error, "no memory for it");
		return -ENOMEM;
	}
	memcpy(t->file, model, bytes);
	t->file[bytes] = 0;		/* a byte piece at the very end is read by sscanf() */
	t->has_dummy_prefix = t->removes_spaces = t->escapes_spaces = true;
	wire = (struct wire) { .at = t->file, .end = t->file + bytes };
	while (!ret && field(&wire, &number, &value, &part)) {
		if (number == 1)
			ret = read_piece(t, part, &error);
		else if (number == 2)
			ret = read_trainer(t, part, &error);
		else if (number == 3)
			ret = read_normalizer(t, part, &error);
		has_trainer |= number == 2;
	}
	if (!ret && (wire.bad || !t->count))
		ret = refuse(&error, "it is no SentencePiece model, or is cut off");
	if (!ret && !has_trainer)
		ret = refuse(&error, "it has no trainer_spec; only BPE models are supported");
	if (!ret)
		ret = make_tables(t, &error);
	if (ret) {
		flm_tokenizer_free(t);
		return ret;
	}
	*tokenizer = t;
	return 0;
}

PUBLIC int flm_tokenizer_new(const void *model, size_t bytes, struct flm_tokenizer **tokenizer)
{
	char text[256];
	int ret = flm_tokenizer_load(model, bytes, text, sizeof(text), tokenizer);

	return ret ? flm_fail(ret, "the tokenizer model cannot be used: %s", text) : 0;
}

PUBLIC void flm_tokenizer_free(struct flm_tokenizer *tokenizer)
{
	if (!tokenizer)
		return;
	free(tokenizer->file);
	free(tokenizer->pieces);
	free(tokenizer->table);
	free(tokenizer);
}

PUBLIC uint32_t flm_tokenizer_vocab(const struct flm_tokenizer *tokenizer)
{
	return tokenizer->count;
}

PUBLIC const char *flm_tokenizer_piece(const struct flm_tokenizer *tokenizer, uint32_t token,
				       size_t *bytes)
{
	if (token >= tokenizer->count)
		return NULL;
	*bytes = tokenizer->pieces[token].bytes;
	return tokenizer->pieces[token].text;
}

/* ---- Normalising ---- */

/* Bytes of the valid UTF-8 character at text, 0 when there is none. */
static unsigned int character(const uint8_t *text, size_t bytes)
{
	unsigned int n = text[0] < 0x80 ? 1 : text[0] < 0xc2 ? 0 : text[0] < 0xe0 ? 2 :
			 text[0] < 0xf0 ? 3 : text[0] < 0xf5 ? 4 : 0;
	uint32_t code;

	if (!n || n > bytes)
		return 0;
	for (unsigned int i = 1; i < n; i++)
		if ((text[i] & 0xc0) != 0x80)
			return 0;
	if (n == 3) {
		code = (text[0] & 15u) << 12 | (text[1] & 63u) << 6 | (text[2] & 63u);
		if (code < 0x800 || (code >= 0xd800 && code < 0xe000))
			return 0;
	} else if (n == 4) {
		code = (text[0] & 7u) << 18 | (text[1] & 63u) << 12 | (text[2] & 63u) << 6 |
		       (text[3] & 63u);
		if (code < 0x10000 || code > 0x10ffff)
			return 0;
	}
	return n;
}

/* The normalised text in a new buffer; NULL without memory. */
static char *normalise(const struct flm_tokenizer *t, const char *text, size_t bytes,
		       size_t *out_bytes)
{
	const uint8_t *at = (const uint8_t *)text, *end = at + bytes;
	const char *space = t->escapes_spaces ? SPACE : " ";
	size_t space_bytes = strlen(space), used = 0;
	char *out = malloc(3 * bytes + 8);
	bool is_after_space = t->removes_spaces;

	*out_bytes = 0;
	if (!out)
		return NULL;
	if (t->removes_spaces)
		while (at < end && *at == ' ')
			at++;
	if (at == end)
		return out;
	if (t->has_dummy_prefix && !t->is_suffix) {
		memcpy(out, space, space_bytes);
		used = space_bytes;
	}
	while (at < end) {
		unsigned int n = character(at, end - at);

		if (*at == ' ') {
			if (!t->removes_spaces || !is_after_space) {
				memcpy(out + used, space, space_bytes);
				used += space_bytes;
			}
			is_after_space = true;
			at++;
			continue;
		}
		memcpy(out + used, n ? (const char *)at : REPLACEMENT, n ? n : 3);
		used += n ? n : 3;
		at += n ? n : 1;
		is_after_space = false;
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

/* ---- Encoding ---- */

struct symbol {
	const char *text;
	uint32_t bytes;		/* 0: joined to its left neighbour */
	int32_t left, right;	/* -1: none */
	bool is_frozen;		/* user-defined: never joined */
};

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

static int consider(const struct flm_tokenizer *t, const struct symbol *symbols, struct heap *heap,
		    int32_t left, int32_t right)
{
	uint32_t bytes;
	int64_t piece;

	if (left < 0 || right < 0 || symbols[left].is_frozen || symbols[right].is_frozen)
		return 0;
	bytes = symbols[left].bytes + symbols[right].bytes;
	piece = find(t, symbols[left].text, bytes);
	if (piece < 0)
		return 0;
	return heap_push(heap, (struct pair) { t->pieces[piece].score, left, right, bytes });
}

/* Bytes of the longest user-defined piece at text, 0: none. */
static uint32_t user_piece(const struct flm_tokenizer *t, const char *text, size_t bytes)
{
	uint32_t n = bytes < t->user_bytes_max ? bytes : t->user_bytes_max;

	for (; n; n--) {
		int64_t piece = find(t, text, n);

		if (piece >= 0 && t->pieces[piece].type == PIECE_USER)
			return n;
	}
	return 0;
}

/* Ids being written; what does not fit is counted. */
struct ids {
	uint32_t *at;
	size_t room, count;
	bool is_after_unknown;
};

static void put(struct ids *ids, uint32_t id)
{
	if (ids->count < ids->room)
		ids->at[ids->count] = id;
	ids->count++;
}

/* A symbol as ids. An unused piece is taken apart again into the two that make it. */
static void put_symbol(const struct flm_tokenizer *t, const char *text, uint32_t bytes,
		       struct ids *ids, unsigned int depth)
{
	int64_t piece = find(t, text, bytes);

	if (piece >= 0 && t->pieces[piece].type == PIECE_UNUSED && depth < 64) {
		float best = 0;
		uint32_t cut = 0;

		for (uint32_t n = 1; n < bytes; n++) {
			int64_t left = find(t, text, n), right = find(t, text + n, bytes - n);

			if (left < 0 || right < 0)
				continue;
			if (!cut || t->pieces[left].score + t->pieces[right].score > best) {
				best = t->pieces[left].score + t->pieces[right].score;
				cut = n;
			}
		}
		if (cut) {
			put_symbol(t, text, cut, ids, depth + 1);
			put_symbol(t, text + cut, bytes - cut, ids, depth + 1);
			return;
		}
	}
	if (piece >= 0 && t->pieces[piece].type != PIECE_UNKNOWN) {
		put(ids, piece);
		ids->is_after_unknown = false;
	} else if (t->has_bytes) {
		for (uint32_t i = 0; i < bytes; i++)
			put(ids, t->byte_piece[(uint8_t)text[i]]);
	} else {
		if (!ids->is_after_unknown)
			put(ids, t->unknown);
		ids->is_after_unknown = true;
	}
}

static int join(const struct flm_tokenizer *t, struct symbol *symbols, size_t count)
{
	struct heap heap = { 0 };
	int ret = 0;

	for (size_t i = 0; !ret && i + 1 < count; i++)
		ret = consider(t, symbols, &heap, i, i + 1);
	while (!ret && heap.count) {
		struct pair pair = heap_pop(&heap);
		struct symbol *left = &symbols[pair.left], *right = &symbols[pair.right];

		if (!left->bytes || !right->bytes || left->bytes + right->bytes != pair.bytes)
			continue;
		left->bytes = pair.bytes;
		left->right = right->right;
		if (right->right >= 0)
			symbols[right->right].left = pair.left;
		right->bytes = 0;
		ret = consider(t, symbols, &heap, left->left, pair.left);
		if (!ret)
			ret = consider(t, symbols, &heap, pair.left, left->right);
	}
	free(heap.pairs);
	return ret;
}

PUBLIC int flm_tokenizer_encode(const struct flm_tokenizer *tokenizer, const char *text,
				size_t bytes, uint32_t *ids, size_t room, size_t *count)
{
	struct ids out = { .at = ids, .room = room };
	struct symbol *symbols;
	size_t normal_bytes, n = 0;
	char *normal;
	int ret;

	*count = 0;
	if (bytes > INT32_MAX / 4)
		return flm_fail(-E2BIG, "a text of %zu bytes is too long for one call", bytes);
	normal = normalise(tokenizer, text, bytes, &normal_bytes);
	symbols = normal ? malloc((normal_bytes + 1) * sizeof(*symbols)) : NULL;
	if (!symbols) {
		free(normal);
		return flm_fail(-ENOMEM, "no memory to tokenize %zu bytes", bytes);
	}
	for (size_t at = 0; at < normal_bytes; n++) {
		uint32_t user = user_piece(tokenizer, normal + at, normal_bytes - at);
		uint32_t length = user ? user :
			character((const uint8_t *)normal + at, normal_bytes - at);

		symbols[n] = (struct symbol) {
			.text = normal + at, .bytes = length, .left = (int32_t)n - 1,
			.right = at + length < normal_bytes ? (int32_t)n + 1 : -1,
			.is_frozen = user,
		};
		at += length;
	}
	ret = join(tokenizer, symbols, n);
	if (!ret)
		for (size_t i = 0; i < n; i++)
			if (symbols[i].bytes)
				put_symbol(tokenizer, symbols[i].text, symbols[i].bytes, &out, 0);
	free(symbols);
	free(normal);
	*count = out.count;
	if (ret)
		return flm_fail(ret, "no memory to tokenize %zu bytes", bytes);
	if (out.count > room)
		return flm_fail(-ENOBUFS, "the text has %zu tokens, the caller has room for %zu",
				out.count, room);
	return 0;
}

/* ---- Decoding ---- */

struct flm_detokenizer {
	const struct flm_tokenizer *tokenizer;
	bool is_begun;			/* the dummy prefix is behind us */
	uint8_t held[4];		/* bytes of a character that is not complete */
	unsigned int held_count;
	char *out;			/* what the last call returned */
	size_t room;
};

PUBLIC int flm_detokenizer_new(const struct flm_tokenizer *tokenizer,
			       struct flm_detokenizer **detokenizer)
{
	struct flm_detokenizer *d = calloc(1, sizeof(*d));

	*detokenizer = d;
	if (d)
		d->room = 4 * PIECE_BYTES_MAX;
	if (d)
		d->out = malloc(d->room);
	if (!d || !d->out) {
		free(d);
		*detokenizer = NULL;
		return flm_fail(-ENOMEM, "no memory for a detokenizer");
	}
	d->tokenizer = tokenizer;
	return 0;
}

PUBLIC void flm_detokenizer_free(struct flm_detokenizer *detokenizer)
{
	if (!detokenizer)
		return;
	free(detokenizer->out);
	free(detokenizer);
}

/* Moves held bytes that cannot become a character, or have become one, to the output. */
static size_t release(struct flm_detokenizer *d, size_t used, bool all)
{
	while (d->held_count) {
		unsigned int n = character(d->held, d->held_count);
		unsigned int want = d->held[0] >= 0xf0 ? 4 : d->held[0] >= 0xe0 ? 3 : 2;
		bool may_grow = d->held[0] >= 0xc2 && d->held[0] < 0xf5 && d->held_count < want;

		for (unsigned int i = 1; i < d->held_count; i++)
			may_grow &= (d->held[i] & 0xc0) == 0x80;
		if (!n && may_grow && !all)
			break;
		memcpy(d->out + used, n ? (const char *)d->held : REPLACEMENT, n ? n : 3);
		used += n ? n : 3;
		n = n ? n : 1;
		d->held_count -= n;
		memmove(d->held, d->held + n, d->held_count);
	}
	return used;
}

PUBLIC const char *flm_detokenizer_push(struct flm_detokenizer *d, uint32_t token, size_t *bytes)
{
	const struct flm_tokenizer *t = d->tokenizer;
	const struct piece *piece = token < t->count ? &t->pieces[token] : NULL;
	size_t used = 0;

	*bytes = 0;
	if (!piece || piece->type == PIECE_CONTROL)
		return d->out;
	if (piece->type == PIECE_BYTE) {
		d->is_begun = true;
		d->held[d->held_count++] = piece->byte;
		*bytes = release(d, 0, false);
		return d->out;
	}
	used = release(d, used, true);
	if (piece->type == PIECE_UNKNOWN) {
		memcpy(d->out + used, " \xe2\x81\x87 ", 5);	/* U+2047, as SentencePiece shows it */
		used += 5;
	} else {
		for (uint32_t i = 0; i < piece->bytes; ) {
			if (t->escapes_spaces && piece->bytes - i >= 3 &&
			    !memcmp(piece->text + i, SPACE, 3)) {
				if (i || d->is_begun || !t->has_dummy_prefix)
					d->out[used++] = ' ';
				i += 3;
			} else {
				d->out[used++] = piece->text[i++];
			}
		}
	}
	d->is_begun = true;
	*bytes = used;
	return d->out;
}

PUBLIC const char *flm_detokenizer_finish(struct flm_detokenizer *d, size_t *bytes)
{
	*bytes = release(d, 0, true);
	d->is_begun = false;
	return d->out;
}
