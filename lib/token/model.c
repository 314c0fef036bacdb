// SPDX-License-Identifier: MIT
/*
 * Reading a tokenizer.model: a protocol buffer (ModelProto of sentencepiece_model.proto) of pieces
 * with scores, a trainer's and a normalizer's settings. It is not trusted: every length is checked
 * against what is left, and what this tokenizer would not do exactly as SentencePiece does is
 * refused with the name of the setting. Pieces stay in the tokenizer's copy of the file.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/internal.h"
#include "lib/token/token.h"

#define PIECES_MAX	(1u << 22)

/* ---- Protocol buffers ---- */

struct wire {
	const uint8_t *at, *end;
	bool is_bad;
};

enum { WIRE_VARINT, WIRE_64, WIRE_BYTES, WIRE_32 = 5 };

/* A field as it stands before its value: a known number with another type is an unknown field. */
#define KEY(number, type) ((number) << 3 | (type))

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
	wire->is_bad = true;
	return 0;
}

/* The next field: its key, and its value or its bytes. False at the end or when it is bad. */
static bool field(struct wire *wire, uint64_t *key, uint64_t *value, struct wire *bytes)
{
	size_t left, n;

	if (wire->at == wire->end || wire->is_bad)
		return false;
	*key = varint(wire);
	*value = 0;
	*bytes = (struct wire) { 0 };
	left = wire->end - wire->at;
	switch (*key & 7) {
	case WIRE_VARINT:
		*value = varint(wire);
		break;
	case WIRE_64:
	case WIRE_32:
		n = (*key & 7) == WIRE_64 ? 8 : 4;
		if (left < n) {
			wire->is_bad = true;
			break;
		}
		for (size_t i = 0; i < n; i++)
			*value |= (uint64_t)wire->at[i] << 8 * i;
		wire->at += n;
		break;
	case WIRE_BYTES:
		*value = varint(wire);
		left = wire->end - wire->at;
		if (*value > left) {
			wire->is_bad = true;
			break;
		}
		*bytes = (struct wire) { .at = wire->at, .end = wire->at + *value };
		wire->at += *value;
		break;
	default:
		wire->is_bad = true;
	}
	if (*key >> 3 == 0)
		wire->is_bad = true;
	return !wire->is_bad;
}

/* ---- The parts of the model ---- */

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

static int no_memory(const struct error *error)
{
	refuse(error, "there is no memory for it");
	return -ENOMEM;
}

/* The value of an upper-case hexadecimal digit, 16 for what is none. */
static unsigned int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : 16;
}

/* The byte that a piece like <0x0A> stands for, or -1. */
static int piece_byte(struct text text)
{
	unsigned int high, low;

	if (text.bytes != 6 || memcmp(text.at, "<0x", 3) || text.at[5] != '>')
		return -1;
	high = digit(text.at[3]);
	low = digit(text.at[4]);
	return high < 16 && low < 16 ? (int)(high << 4 | low) : -1;
}

static int read_piece(struct flm_tokenizer *t, struct wire wire, const struct error *error)
{
	struct piece piece = { .text.at = "", .type = PIECE_NORMAL };
	uint64_t key, value, length = 0, type = PIECE_NORMAL;
	struct wire bytes;
	uint32_t bits;

	while (field(&wire, &key, &value, &bytes)) {
		if (key == KEY(1, WIRE_BYTES)) {
			piece.text.at = (const char *)bytes.at;
			length = value;
		} else if (key == KEY(2, WIRE_32)) {
			bits = (uint32_t)value;
			memcpy(&piece.score, &bits, 4);
		} else if (key == KEY(3, WIRE_VARINT)) {
			type = value;
		}
	}
	if (wire.is_bad)
		return refuse(error, "piece %u is damaged", t->count);
	if (!length || length > PIECE_BYTES_MAX || memchr(piece.text.at, 0, length))
		return refuse(error, "piece %u is empty, has a zero byte or more than %d bytes",
			      t->count, PIECE_BYTES_MAX);
	if (piece.score != piece.score)
		return refuse(error, "the score of piece %u is no number", t->count);
	if (type < PIECE_NORMAL || type > PIECE_BYTE)
		return refuse(error, "piece %u has type %llu, which does not exist", t->count,
			      (unsigned long long)type);
	piece.text.bytes = length;
	piece.type = type;
	if (type == PIECE_BYTE) {
		int byte = piece_byte(piece.text);

		if (byte < 0)
			return refuse(error, "byte piece %u is not like <0x0A>", t->count);
		piece.byte = byte;
	}
	if (t->count == PIECES_MAX)
		return refuse(error, "it has more than %u pieces", PIECES_MAX);
	if (t->count == t->room) {
		uint32_t room = t->room ? 2 * t->room : 1024;
		struct piece *more = realloc(t->pieces, room * sizeof(*more));

		if (!more)
			return no_memory(error);
		t->pieces = more;
		t->room = room;
	}
	t->pieces[t->count++] = piece;
	return 0;
}

/* A setting that is a C string in SentencePiece, so it ends at a zero byte. */
static int read_text(struct text *text, struct wire bytes, const char *name,
		     const struct error *error)
{
	size_t n = strnlen((const char *)bytes.at, bytes.end - bytes.at);

	if (n > PIECE_BYTES_MAX)
		return refuse(error, "trainer_spec.%s is longer than %d bytes", name,
			      PIECE_BYTES_MAX);
	*text = (struct text) { (const char *)bytes.at, n };
	return 0;
}

static int read_trainer(struct flm_tokenizer *t, struct wire wire, const struct error *error)
{
	uint64_t key, value;
	struct wire bytes;
	int ret = 0;

	while (!ret && field(&wire, &key, &value, &bytes)) {
		if (key == KEY(3, WIRE_VARINT))
			t->model_type = value;
		else if (key == KEY(24, WIRE_VARINT))
			t->is_suffix = value;
		else if (key == KEY(35, WIRE_VARINT))
			t->has_bytes = value;
		else if (key == KEY(44, WIRE_BYTES))
			ret = read_text(&t->unknown_text, bytes, "unk_surface", error);
		else if (key == KEY(46, WIRE_BYTES) && value)
			ret = read_text(&t->bos, bytes, "bos_piece", error);
		else if (key == KEY(47, WIRE_BYTES) && value)
			ret = read_text(&t->eos, bytes, "eos_piece", error);
	}
	return !wire.is_bad ? ret : refuse(error, "its trainer_spec is damaged");
}

/* Of a denormalizer only its table counts. */
static int read_normalizer(struct flm_tokenizer *t, struct wire wire, const char *name,
			   const struct error *error)
{
	bool is_denormalizer = *name == 'd';
	uint64_t key, value;
	struct wire bytes;

	while (field(&wire, &key, &value, &bytes)) {
		if (key == KEY(2, WIRE_BYTES) && value)
			return refuse(error, "%s.precompiled_charsmap is not empty; only the "
				      "normalizer 'identity' is supported", name);
		if (is_denormalizer)
			continue;
		if (key == KEY(3, WIRE_VARINT))
			t->has_dummy_prefix = value;
		else if (key == KEY(4, WIRE_VARINT))
			t->removes_spaces = value;
		else if (key == KEY(5, WIRE_VARINT))
			t->escapes_spaces = value;
	}
	return wire.is_bad ? refuse(error, "its %s is damaged", name) : 0;
}

/* ---- Finding pieces ---- */

static uint32_t hash(const char *text, size_t bytes)
{
	uint32_t h = 2166136261u;	/* FNV-1a */

	while (bytes--)
		h = (h ^ (uint8_t)*text++) * 16777619u;
	return h;
}

int64_t token_find(const struct flm_tokenizer *t, const char *text, size_t bytes)
{
	for (uint32_t at = hash(text, bytes) & t->mask; t->table[at]; at = (at + 1) & t->mask) {
		const struct text *piece = &t->pieces[t->table[at] - 1].text;

		if (piece->bytes == bytes && !memcmp(piece->at, text, bytes))
			return t->table[at] - 1;
	}
	return -1;
}

/* The first of users lo to hi - 1, all longer than `depth`, whose byte there is not less. */
static uint32_t bound(const struct flm_tokenizer *t, uint32_t lo, uint32_t hi, uint32_t depth,
		      unsigned int byte)
{
	while (lo < hi) {
		uint32_t middle = lo + (hi - lo) / 2;

		if ((uint8_t)t->pieces[t->users[middle]].text.at[depth] < byte)
			lo = middle + 1;
		else
			hi = middle;
	}
	return lo;
}

uint32_t token_user(const struct flm_tokenizer *t, const char *text, size_t bytes)
{
	uint32_t lo = 0, hi = t->user_count, best = 0;

	/* All from lo to hi - 1 begin with the first `depth` bytes of text. */
	for (uint32_t depth = 0; lo < hi; depth++) {
		if (t->pieces[t->users[lo]].text.bytes == depth) {
			best = depth;
			lo++;
		}
		if (depth == bytes)
			break;
		lo = bound(t, lo, hi, depth, (uint8_t)text[depth]);
		hi = bound(t, lo, hi, depth, (uint8_t)text[depth] + 1u);
	}
	return best;
}

static int compare_users(const void *left, const void *right, void *opaque)
{
	const struct piece *pieces = opaque;
	const struct text *a = &pieces[*(const uint32_t *)left].text;
	const struct text *b = &pieces[*(const uint32_t *)right].text;
	int order = memcmp(a->at, b->at, a->bytes < b->bytes ? a->bytes : b->bytes);

	return order ? order : a->bytes < b->bytes ? -1 : a->bytes > b->bytes;
}

static int make_users(struct flm_tokenizer *t, const struct error *error)
{
	for (uint32_t i = 0; i < t->count; i++)
		t->user_count += t->pieces[i].type == PIECE_USER;
	if (!t->user_count)
		return 0;
	t->users = malloc(t->user_count * sizeof(*t->users));
	if (!t->users)
		return no_memory(error);
	for (uint32_t i = 0, n = 0; i < t->count; i++)
		if (t->pieces[i].type == PIECE_USER)
			t->users[n++] = i;
	qsort_r(t->users, t->user_count, sizeof(*t->users), compare_users, t->pieces);
	return 0;
}

static int make_table(struct flm_tokenizer *t, const struct error *error)
{
	uint64_t steps = 0;
	uint32_t room = 16;

	while (room < 2 * t->count)
		room *= 2;
	t->table = calloc(room, sizeof(*t->table));
	if (!t->table)
		return no_memory(error);
	t->mask = room - 1;
	for (uint32_t i = 0; i < t->count; i++) {
		const struct text *text = &t->pieces[i].text;
		uint32_t at = hash(text->at, text->bytes) & t->mask;

		for (; t->table[at]; at = (at + 1) & t->mask, steps++) {
			const struct text *other = &t->pieces[t->table[at] - 1].text;

			if (other->bytes == text->bytes &&
			    !memcmp(other->at, text->at, text->bytes))
				return refuse(error, "pieces %u and %u are the same",
					      t->table[at] - 1, i);
		}
		t->table[at] = i + 1;
		if (text->bytes > t->piece_bytes_max)
			t->piece_bytes_max = text->bytes;
		/* About one step a piece is usual; only texts made to collide take more. */
		if (steps > 16ull * t->count + 4096)
			return refuse(error, "its pieces are made to slow the tokenizer down");
	}
	return 0;
}

static int check_types(struct flm_tokenizer *t, const struct error *error)
{
	uint32_t unknowns = 0, bytes = 0;

	for (uint32_t i = 0; i < t->count; i++) {
		const struct piece *piece = &t->pieces[i];

		if (piece->type == PIECE_UNKNOWN) {
			t->unknown = i;
			unknowns++;
		} else if (piece->type == PIECE_BYTE) {
			t->byte_piece[piece->byte] = i;
			bytes++;
		} else if (piece->type == PIECE_UNUSED) {
			t->has_unused = true;
		}
	}
	if (unknowns != 1)
		return refuse(error, "it has %u unknown pieces, it must have one", unknowns);
	if (bytes != (t->has_bytes ? 256 : 0))
		return refuse(error, "it has %u byte pieces; with byte_fallback %s it must have %d",
			      bytes, t->has_bytes ? "on" : "off", t->has_bytes ? 256 : 0);
	return 0;
}

/* ---- A tokenizer ---- */

int flm_tokenizer_load(const void *model, size_t bytes, char *text, size_t text_bytes,
		       struct flm_tokenizer **tokenizer)
{
	struct error error = { text, text_bytes };
	struct flm_tokenizer *t = calloc(1, sizeof(*t));
	struct wire wire, part;
	uint64_t key, value;
	int ret = 0;

	*tokenizer = NULL;
	if (!t)
		return no_memory(&error);
	t->file = malloc(bytes + !bytes);
	if (!t->file) {
		free(t);
		return no_memory(&error);
	}
	if (bytes)
		memcpy(t->file, model, bytes);
	/* What the format says of fields that are not there. */
	t->model_type = 1;
	t->has_dummy_prefix = true;
	t->removes_spaces = true;
	t->escapes_spaces = true;
	t->unknown_text = (struct text) { " \xe2\x81\x87 ", 5 };
	t->bos = (struct text) { "<s>", 3 };
	t->eos = (struct text) { "</s>", 4 };
	wire = (struct wire) { .at = t->file, .end = t->file + bytes };
	while (!ret && field(&wire, &key, &value, &part)) {
		if (key == KEY(1, WIRE_BYTES))
			ret = read_piece(t, part, &error);
		else if (key == KEY(2, WIRE_BYTES))
			ret = read_trainer(t, part, &error);
		else if (key == KEY(3, WIRE_BYTES))
			ret = read_normalizer(t, part, "normalizer_spec", &error);
		else if (key == KEY(5, WIRE_BYTES))
			ret = read_normalizer(t, part, "denormalizer_spec", &error);
	}
	if (!ret && (wire.is_bad || !t->count))
		ret = refuse(&error, "it is no SentencePiece model, or is cut off");
	if (!ret && t->model_type != 2)
		ret = refuse(&error, "trainer_spec.model_type is %llu; only 2 (BPE) is supported",
			     (unsigned long long)t->model_type);
	if (!ret)
		ret = make_table(t, &error);
	if (!ret)
		ret = make_users(t, &error);
	if (!ret)
		ret = check_types(t, &error);
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
	free(tokenizer->users);
	free(tokenizer);
}

PUBLIC uint32_t flm_tokenizer_vocab(const struct flm_tokenizer *tokenizer)
{
	return tokenizer->count;
}

PUBLIC const char *flm_tokenizer_piece(const struct flm_tokenizer *tokenizer, uint32_t token,
				       size_t *bytes)
{
	*bytes = 0;
	if (token >= tokenizer->count)
		return NULL;
	*bytes = tokenizer->pieces[token].text.bytes;
	return tokenizer->pieces[token].text.at;
}

/* The control piece of that name, or -1. */
static int64_t control(const struct flm_tokenizer *t, struct text name)
{
	int64_t token = token_find(t, name.at, name.bytes);

	return token >= 0 && t->pieces[token].type == PIECE_CONTROL ? token : -1;
}

PUBLIC int64_t flm_tokenizer_unk(const struct flm_tokenizer *tokenizer)
{
	return tokenizer->unknown;
}

PUBLIC int64_t flm_tokenizer_bos(const struct flm_tokenizer *tokenizer)
{
	return control(tokenizer, tokenizer->bos);
}

PUBLIC int64_t flm_tokenizer_eos(const struct flm_tokenizer *tokenizer)
{
	return control(tokenizer, tokenizer->eos);
}
