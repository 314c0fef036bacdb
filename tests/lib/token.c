// SPDX-License-Identifier: MIT
/*
 * The tokenizer on its own: small models made here by hand, each for one rule, and the tokenizer of
 * fables-3m. With arguments it is a filter (for token_oracle.sh): "encode MODEL" turns lines
 * into ids, "decode MODEL" turns lines of ids into text, token by token and all at once.
 */
#include <pthread.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lib/flightllm.h"
#include "tests/tap.h"

#define MODEL "tests/data/fables-3m/tokenizer.model"
#define ROOM 32

/* ---- Models by hand ---- */

struct bytes {
	uint8_t at[16384];
	size_t count;
};

static void put(struct bytes *b, const void *bytes, size_t count)
{
	memcpy(b->at + b->count, bytes, count);
	b->count += count;
}

static void put_varint(struct bytes *b, unsigned int value)
{
	for (; value > 127; value >>= 7)
		put(b, &(uint8_t) { value | 128 }, 1);
	put(b, &(uint8_t) { value }, 1);
}

static void put_number(struct bytes *b, unsigned int field, unsigned int value)
{
	put_varint(b, field << 3);
	put_varint(b, value);
}

static void put_bytes(struct bytes *b, unsigned int field, const void *bytes, size_t count)
{
	put_varint(b, field << 3 | 2);
	put_varint(b, count);
	put(b, bytes, count);
}

struct piece_row {
	const char *text;
	float score;
	int type;
};

enum { NORMAL = 1, UNKNOWN, CONTROL, USER, UNUSED, BYTE };

static void put_piece(struct bytes *b, struct piece_row row, size_t count)
{
	struct bytes piece = { .count = 0 };

	put_bytes(&piece, 1, row.text, count);
	put_varint(&piece, 2 << 3 | 5);
	put(&piece, &row.score, 4);
	if (row.type != NORMAL)
		put_number(&piece, 3, row.type);
	put_bytes(b, 1, piece.at, piece.count);
}

static void put_byte_pieces(struct bytes *b, unsigned int count)
{
	char text[8];

	for (unsigned int i = 0; i < count; i++) {
		snprintf(text, sizeof(text), "<0x%02X>", i & 0xff);
		put_piece(b, (struct piece_row) { text, 0, BYTE }, 6);
	}
}

struct settings {
	bool is_unigram, has_bytes, is_suffix, has_dummy_prefix, removes_spaces, keeps_spaces;
	const char *unknown_text;
};

static void put_settings(struct bytes *b, struct settings s)
{
	struct bytes trainer = { .count = 0 }, normalizer = { .count = 0 };

	put_number(&trainer, 3, s.is_unigram ? 1 : 2);
	put_number(&trainer, 24, s.is_suffix);
	put_number(&trainer, 35, s.has_bytes);
	if (s.unknown_text)
		put_bytes(&trainer, 44, s.unknown_text, strlen(s.unknown_text));
	put_bytes(b, 2, trainer.at, trainer.count);
	put_number(&normalizer, 3, s.has_dummy_prefix);
	put_number(&normalizer, 4, s.removes_spaces);
	put_number(&normalizer, 5, !s.keeps_spaces);
	put_bytes(b, 3, normalizer.at, normalizer.count);
}

/* Of these pieces, with an unknown piece in front; NULL when it is refused. */
static struct flm_tokenizer *make(const struct piece_row *rows, struct settings settings)
{
	struct bytes b = { .count = 0 };
	struct flm_tokenizer *t;

	put_piece(&b, (struct piece_row) { "<unk>", 0, UNKNOWN }, 5);
	for (; rows->text; rows++)
		put_piece(&b, *rows, strlen(rows->text));
	if (settings.has_bytes)
		put_byte_pieces(&b, 256);
	put_settings(&b, settings);
	if (flm_tokenizer_new(b.at, b.count, &t))
		printf("# %s\n", flm_error());
	return t;
}

/* ---- Encoding ---- */

#define S "\xe2\x96\x81"

static const struct piece_row letters[] = {
	{ "a", -10, NORMAL }, { "b", -11, NORMAL }, { "c", -12, NORMAL }, { "ab", -2, NORMAL },
	{ "bc", -1, NORMAL }, { "abc", -3, NORMAL }, { "[x]", 0, USER }, { "[x]y", 0, USER },
	{ 0 }
};

static const struct piece_row spaces[] = {
	{ S, -9, NORMAL }, { "a", -10, NORMAL }, { S "a", -1, NORMAL }, { "b", -11, NORMAL },
	{ " ", -12, NORMAL }, { " a", -2, NORMAL }, { 0 }
};

/* abc is made of a and bc, for bc comes first, although ab and c would do. */
static const struct piece_row unused[] = {
	{ "a", -10, NORMAL }, { "b", -11, NORMAL }, { "c", -12, NORMAL }, { "ab", -2, NORMAL },
	{ "bc", -1, UNUSED }, { "abc", -3, UNUSED }, { "d", -4, UNUSED }, { 0 }
};

static const struct piece_row controls[] = {
	{ "<s>", 0, CONTROL }, { "</s>", 0, CONTROL }, { "<", -1, NORMAL }, { "s", -2, NORMAL },
	{ ">", -3, NORMAL }, { "s>", -1, NORMAL }, { "!", 0, CONTROL }, { 0 }
};

/* The second is half a character, the third is cut where it meets a space, the last has spaces. */
static const struct piece_row users[] = {
	{ "a", -1, NORMAL }, { "\xc3", 0, USER }, { "a ", 0, USER }, { "  ", 0, USER },
	{ S, -1, NORMAL }, { 0 }
};

static const struct {
	const struct piece_row *rows;
	struct settings settings;
	const char *text;
	size_t bytes, count;
	uint32_t ids[8];
	const char *why;
} encodings[] = {
	{ letters, { 0 }, "", 0, 0, { 0 }, "an empty text has no tokens" },
	{ letters, { 0 }, "abc", 3, 1, { 6 }, "the best union is joined first, then others" },
	{ letters, { 0 }, "ab", 2, 1, { 4 }, "a pair that is a piece is joined" },
	{ letters, { 0 }, "aab", 3, 2, { 1, 4 }, "what has no union stays" },
	{ letters, { 0 }, "zzb", 3, 2, { 0, 2 }, "unknown characters in a row are one unknown" },
	{ letters, { 0 }, "a[x]b", 5, 3, { 1, 7, 2 }, "a user-defined piece is never joined" },
	{ letters, { 0 }, "[x]y[x]z", 8, 3, { 8, 7, 0 }, "the longest user piece is taken" },
	{ letters, { 0 }, "a[xb", 4, 3, { 1, 0, 2 }, "half of a user-defined piece is none" },
	{ letters, { .has_bytes = true }, "a\0\xff", 3, 5, { 1, 9, 9 + 0xef, 9 + 0xbf, 9 + 0xbd },
	  "a zero byte is a character, an invalid byte is U+FFFD" },
	{ letters, { .has_bytes = true }, "\xed\xa0\x80", 3, 9, { 9 + 0xef, 9 + 0xbf, 9 + 0xbd,
	  9 + 0xef, 9 + 0xbf, 9 + 0xbd, 9 + 0xef, 9 + 0xbf },
	  "a surrogate is three invalid bytes" },
	{ spaces, { 0 }, "a  a", 4, 3, { 2, 1, 3 }, "spaces are U+2581, and stay" },
	{ spaces, { .has_dummy_prefix = true }, "a", 1, 1, { 3 }, "a dummy space is put in front" },
	{ spaces, { .has_dummy_prefix = true }, " ", 1, 2, { 1, 1 }, "also of a space that stays" },
	{ spaces, { .has_dummy_prefix = true, .removes_spaces = true }, "  a  b ", 7, 3,
	  { 3, 1, 4 }, "extra spaces are removed at both ends and inside" },
	{ spaces, { .has_dummy_prefix = true, .removes_spaces = true }, "   ", 3, 0, { 0 },
	  "nothing is left of spaces, not even the dummy one" },
	{ spaces, { .removes_spaces = true }, "a" S S, 7, 1, { 2 },
	  "a U+2581 of the text itself is removed at its end" },
	{ spaces, { .has_dummy_prefix = true, .is_suffix = true }, "b", 1, 2, { 4, 1 },
	  "or the dummy space goes behind" },
	{ spaces, { .has_dummy_prefix = true, .keeps_spaces = true }, "a", 1, 1, { 6 },
	  "spaces that are not escaped stay spaces" },
	{ unused, { 0 }, "abc", 3, 3, { 1, 2, 3 }, "unused pieces fall back into what made them" },
	{ unused, { 0 }, "dab", 3, 2, { 7, 4 }, "an unused character has nothing to fall back to" },
	{ controls, { 0 }, "<s>", 3, 2, { 3, 6 }, "text never becomes a control piece" },
	{ users, { .has_bytes = true }, "\xc3\xa9", 2, 4, { 2, 6 + 0xef, 6 + 0xbf, 6 + 0xbd },
	  "a user-defined piece need not be whole characters" },
	{ users, { 0 }, "a  a", 4, 4, { 1, 5, 5, 1 },
	  "a user-defined piece with a space counts only as long as the space is one" },
	{ users, { .removes_spaces = true }, "a  a", 4, 3, { 1, 5, 1 },
	  "its last space removes those that follow" },
};

static void test_encode(void)
{
	for (size_t i = 0; i < sizeof(encodings) / sizeof(encodings[0]); i++) {
		struct flm_tokenizer *t = make(encodings[i].rows, encodings[i].settings);
		size_t count = 0, compared = encodings[i].count < 8 ? encodings[i].count : 8;
		uint32_t ids[ROOM];
		int ret = -1;

		if (t)
			ret = flm_tokenizer_encode(t, encodings[i].text, encodings[i].bytes, ids,
						   ROOM, &count);
		if (!ok(!ret && count == encodings[i].count &&
			!memcmp(ids, encodings[i].ids, 4 * compared), "%s", encodings[i].why))
			for (size_t n = 0; n < count; n++)
				printf("# %u\n", ids[n]);
		flm_tokenizer_free(t);
	}
}

static void test_encode_errors(void)
{
	struct flm_tokenizer *t = make(letters, (struct settings) { 0 });
	uint32_t ids[3] = { 77, 77, 77 };
	size_t count;

	ok(flm_tokenizer_encode(t, "aab", 3, ids, 1, &count) == -105 && count == 2 && ids[0] == 1 &&
	   ids[1] == 77, "too little room is -ENOBUFS, with the first ids and the needed count");
	ok(!flm_tokenizer_encode(t, NULL, 0, NULL, 0, &count) && !count, "no text needs no memory");
	flm_tokenizer_free(t);
	t = make(controls, (struct settings) { 0 });
	ok(flm_tokenizer_encode(t, "s!", 2, ids, 3, &count) == -22 && !count,
	   "a character that is a control piece is refused");
	ok(flm_tokenizer_bos(t) == 1 && flm_tokenizer_eos(t) == 2 && !flm_tokenizer_unk(t),
	   "begin, end and unknown are found by name and type");
	flm_tokenizer_free(t);
	t = make(letters, (struct settings) { 0 });
	ok(flm_tokenizer_bos(t) == -1 && flm_tokenizer_eos(t) == -1, "and -1 where there are none");
	flm_tokenizer_free(t);
}

/* ---- Decoding ---- */

#define FFFD "\xef\xbf\xbd"
#define X(byte) (7 + (byte))	/* byte pieces of `spaces` */

static const struct {
	struct settings settings;
	size_t count;
	uint32_t ids[8];
	const char *text, *why;
} decodings[] = {
	{ { 0 }, 2, { 3, 1 }, " a ", "U+2581 is a space" },
	{ { .has_dummy_prefix = true }, 3, { 1, 3, 1 }, " a ", "a space at the start is dropped" },
	{ { .has_dummy_prefix = true }, 2, { 4, 3 }, "b a", "but none behind text" },
	{ { .removes_spaces = true }, 4, { 1, 1, 3, 3 }, "a a",
	  "where extra spaces are removed, all at the start are dropped" },
	{ { .has_dummy_prefix = true, .keeps_spaces = true }, 2, { 5, 1 }, "  ",
	  "a plain space is no dummy, and U+2581 always is one" },
	{ { 0 }, 3, { 4, 0, 4 }, "b \xe2\x81\x87 b", "an unknown token is U+2047 between spaces" },
	{ { .unknown_text = "??" }, 1, { 0 }, "??", "or what the model says" },
	{ { .unknown_text = "", .has_dummy_prefix = true }, 2, { 0, 3 }, "a",
	  "which may be nothing, and is then no text" },
	{ { .has_bytes = true }, 4, { X(0xf0), X(0x9f), X(0x98), X(0x80) }, "\xf0\x9f\x98\x80",
	  "bytes become a character" },
	{ { .has_bytes = true }, 3, { X(0xe2), X(0x96), 2 }, FFFD FFFD "a",
	  "bytes that piece of text cuts off are U+FFFD each" },
	{ { .has_bytes = true }, 3, { X(0xed), X(0xa0), X(0x41) }, FFFD FFFD "A",
	  "so are those of a surrogate" },
	{ { .has_bytes = true, .has_dummy_prefix = true }, 2, { X(0x20), 3 }, "  a",
	  "a space from a byte is no dummy" },
	{ { .has_bytes = true }, 1, { X(0xc3) }, FFFD, "the end cuts off, too" },
};

/* Token by token, into text of `room` bytes; returns how many. */
static size_t stream(const struct flm_tokenizer *t, const uint32_t *ids, size_t count, char *text,
		     size_t room)
{
	struct flm_detokenizer *d;
	size_t used = 0, n;

	if (flm_detokenizer_new(t, &d))
		return 0;
	for (size_t i = 0; i <= count; i++) {
		const char *out = i < count ? flm_detokenizer_push(d, ids[i], &n) :
					      flm_detokenizer_finish(d, &n);

		if (used + n > room)
			abort();
		memcpy(text + used, out, n);
		used += n;
	}
	flm_detokenizer_free(d);
	return used;
}

static void test_decode(void)
{
	char text[64];
	size_t n;

	for (size_t i = 0; i < sizeof(decodings) / sizeof(decodings[0]); i++) {
		struct flm_tokenizer *t = make(spaces, decodings[i].settings);
		size_t want = strlen(decodings[i].text);
		bool is_same = !flm_tokenizer_decode(t, decodings[i].ids, decodings[i].count, text,
						     sizeof(text), &n) &&
			       n == want && !memcmp(text, decodings[i].text, n);

		n = stream(t, decodings[i].ids, decodings[i].count, text, sizeof(text));
		ok(is_same && n == want && !memcmp(text, decodings[i].text, n), "%s",
		   decodings[i].why);
		flm_tokenizer_free(t);
	}
}

static void test_decode_long(void)
{
	static char unknown[8000], text[8000];
	struct flm_tokenizer *t;
	size_t n;

	memset(unknown, '?', 7999);
	t = make(spaces, (struct settings) { .unknown_text = unknown });
	ok(t && !flm_tokenizer_decode(t, (uint32_t[]) { 0 }, 1, text, 8000, &n) && n == 7999 &&
	   !strcmp(text, unknown) && stream(t, (uint32_t[]) { 0 }, 1, text, 8000) == 7999,
	   "an unknown token may be 7999 bytes");
	flm_tokenizer_free(t);
}

static void test_decode_control(void)
{
	struct flm_tokenizer *t = make(controls, (struct settings) { .has_bytes = true });
	const uint32_t ids[] = { 1, 8 + 0xc3, 2, 8 + 0xa9, 4 }, none[] = { 4, 264 };
	char text[16] = "................";
	size_t n;

	ok(!flm_tokenizer_decode(t, ids, 5, text, 16, &n) && n == 7 &&
	   !memcmp(text, FFFD FFFD "s", 7) && stream(t, ids, 5, text, 16) == 7 &&
	   !memcmp(text, FFFD FFFD "s", 7),
	   "a control token is nothing, but ends a character");
	memset(text, '.', 16);
	ok(flm_tokenizer_decode(t, ids, 5, text, 4, &n) == -105 && n == 7 &&
	   !memcmp(text, FFFD "\xef.", 5), "too little room is -ENOBUFS, with the first bytes");
	ok(flm_tokenizer_decode(t, none, 2, text, 16, &n) == -22 && !n,
	   "an id that is no piece is -EINVAL");
	ok(stream(t, none, 2, text, 16) == 1 && *text == 's', "which a stream passes over");
	ok(!flm_tokenizer_piece(t, 264, &n) && !n && flm_tokenizer_vocab(t) == 264 &&
	   flm_tokenizer_piece(t, 6, &n) && n == 2, "pieces can be looked at");
	flm_tokenizer_free(t);
}

/* What comes out as each byte goes in: nothing is held that is known to be no character. */
static void test_hold(void)
{
	static const struct {
		size_t count;
		uint8_t bytes[4];
		size_t out[4];
		const char *why;
	} cases[] = {
		{ 4, { 0xf0, 0x9f, 0x98, 0x80 }, { 0, 0, 0, 4 }, "a character waits until whole" },
		{ 2, { 0xc3, 0x41 }, { 0, 4 }, "a byte that cannot follow ends the wait" },
		{ 2, { 0xe0, 0x80 }, { 0, 6 }, "no character begins with e0 80" },
		{ 2, { 0xed, 0xa0 }, { 0, 6 }, "nor with ed a0" },
		{ 2, { 0xf0, 0x8f }, { 0, 6 }, "nor with f0 8f" },
		{ 2, { 0xf4, 0x90 }, { 0, 6 }, "nor with f4 90" },
		{ 3, { 0xf4, 0x8f, 0xbf }, { 0, 0, 0 }, "but with f4 8f bf" },
		{ 1, { 0xc1 }, { 3 }, "nor with c1" },
		{ 1, { 0xf5 }, { 3 }, "nor with f5" },
		{ 4, { 0xf0, 0x9f, 0xe2, 0x96 }, { 0, 0, 6, 0 }, "what ends one can begin one" },
	};
	struct flm_tokenizer *t = make(spaces, (struct settings) { .has_bytes = true });

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct flm_detokenizer *d;
		bool is_right = !flm_detokenizer_new(t, &d);
		size_t n;

		for (size_t at = 0; at < cases[i].count; at++) {
			flm_detokenizer_push(d, X(cases[i].bytes[at]), &n);
			is_right &= n == cases[i].out[at];
		}
		ok(is_right, "%s", cases[i].why);
		flm_detokenizer_free(d);
	}
	flm_tokenizer_free(t);
}

/* ---- Models that are refused ---- */

enum flaw { NONE, EMPTY, CUT, UNIGRAM, TABLE, BACK_TABLE, SAME, TWO_UNKNOWN, NO_UNKNOWN, LOWER_BYTE,
	    NO_FALLBACK, MISSING_BYTE, NOT_A_NUMBER, TYPE, NO_TEXT, ZERO, LONG, GROUP, ENDLESS,
	    BEYOND, LONG_UNKNOWN, COLLIDING };

/* Texts whose FNV-1a ends in the same ten bits: in a table of 1,024 rows all want one. */
static void put_colliding(struct bytes *b)
{
	char text[12];

	for (unsigned int i = 0, n = 0; n < 250; i++) {
		uint32_t hash = 2166136261u;

		snprintf(text, sizeof(text), "%06u", i);
		for (int at = 0; at < 6; at++)
			hash = (hash ^ text[at]) * 16777619u;
		if (hash & 1023)
			continue;
		put_piece(b, (struct piece_row) { text, -1, NORMAL }, 6);
		n++;
	}
}

static void put_flawed(struct bytes *b, enum flaw flaw)
{
	static const char x[8000] = "xy";
	char surface[8001] = "";

	b->count = 0;
	if (flaw != NO_UNKNOWN)
		put_piece(b, (struct piece_row) { "<unk>", 0, UNKNOWN }, 5);
	put_piece(b, (struct piece_row) { "a", flaw == NOT_A_NUMBER ? __builtin_nanf("") : -1,
					  flaw == TYPE ? 7 : NORMAL }, flaw != NO_TEXT);
	if (flaw == SAME)
		put_piece(b, (struct piece_row) { "a", -1, USER }, 1);
	if (flaw == TWO_UNKNOWN)
		put_piece(b, (struct piece_row) { "<unk2>", 0, UNKNOWN }, 6);
	put_byte_pieces(b, flaw == MISSING_BYTE ? 255 : 256);
	if (flaw == LOWER_BYTE)
		put_piece(b, (struct piece_row) { "<0xff>", 0, BYTE }, 6);
	if (flaw == ZERO)
		put_piece(b, (struct piece_row) { x, -1, NORMAL }, 3);
	if (flaw == LONG) {
		struct bytes piece = { .count = 0 };
		char text[8000];

		memset(text, 'x', sizeof(text));
		put_bytes(&piece, 1, text, sizeof(text));
		put_bytes(b, 1, piece.at, piece.count);
	}
	if (flaw == COLLIDING)
		put_colliding(b);
	if (flaw == LONG_UNKNOWN)
		memset(surface, 'x', 8000);
	put_settings(b, (struct settings) { .is_unigram = flaw == UNIGRAM,
					    .has_bytes = flaw != NO_FALLBACK,
					    .unknown_text = *surface ? surface : NULL });
	if (flaw == TABLE)
		put_bytes(b, 3, "\x12\x01x", 3);
	if (flaw == BACK_TABLE)
		put_bytes(b, 5, "\x12\x01x", 3);
	if (flaw == GROUP)
		put(b, "\x33\x34", 2);
	if (flaw == ENDLESS)
		put(b, "\x30\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 12);
	if (flaw == BEYOND)
		put(b, "\x32\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", 11);
	if (flaw == EMPTY)
		b->count = 0;
	if (flaw == CUT)
		b->count = 3;
}

static void test_refused(void)
{
	static const struct {
		enum flaw flaw;
		const char *says, *why;
	} cases[] = {
		{ EMPTY, "no SentencePiece model", "no bytes at all" },
		{ CUT, "cut off", "a model cut off in its first piece" },
		{ UNIGRAM, "trainer_spec.model_type is 1", "a unigram model" },
		{ TABLE, "normalizer_spec.precompiled_charsmap", "a normalizer with a table" },
		{ BACK_TABLE, "denormalizer_spec.precompiled_charsmap",
		  "a denormalizer with a table" },
		{ SAME, "pieces 1 and 2 are the same", "a text that two pieces have" },
		{ TWO_UNKNOWN, "2 unknown pieces", "a second unknown piece" },
		{ NO_UNKNOWN, "0 unknown pieces", "a model without an unknown piece" },
		{ LOWER_BYTE, "byte piece 258", "a byte piece in lower case" },
		{ NO_FALLBACK, "256 byte pieces", "byte pieces without byte fallback" },
		{ MISSING_BYTE, "255 byte pieces", "byte fallback with a byte missing" },
		{ NOT_A_NUMBER, "score of piece 1", "a score that is no number" },
		{ TYPE, "piece 1 has type 7", "a type that does not exist" },
		{ NO_TEXT, "piece 1 is empty", "a piece without text" },
		{ ZERO, "piece 258 is empty, has a zero", "a piece with a zero byte" },
		{ LONG, "more than 7999 bytes", "a piece of 8000 bytes" },
		{ GROUP, "cut off", "a field of a type that is not known" },
		{ ENDLESS, "cut off", "a number of more than ten bytes" },
		{ BEYOND, "cut off", "a length of 2^63" },
		{ LONG_UNKNOWN, "trainer_spec.unk_surface is longer than 7999 bytes",
		  "an unknown piece shown by 8000 bytes" },
		{ COLLIDING, "made to slow", "a model whose pieces are made to collide" },
	};
	static struct bytes b;
	struct flm_tokenizer *t;

	put_flawed(&b, NONE);
	ok(!flm_tokenizer_new(b.at, b.count, &t), "without a flaw the model is accepted");
	flm_tokenizer_free(t);
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int ret;

		put_flawed(&b, cases[i].flaw);
		ret = flm_tokenizer_new(b.at, b.count, &t);
		if (!ok(ret == -74 && !t && strstr(flm_error(), cases[i].says),
			"%s is refused and named", cases[i].why))
			printf("# %d: %s\n", ret, flm_error());
	}
}

/* ---- A real model ---- */

static struct flm_tokenizer *load(const char *path)
{
	static uint8_t model[1 << 22];
	struct flm_tokenizer *t = NULL;
	FILE *file = fopen(path, "rb");
	size_t n = file ? fread(model, 1, sizeof(model), file) : 0;

	if (file)
		fclose(file);
	if (flm_tokenizer_new(model, n, &t))
		fprintf(stderr, "%s: %s\n", path, flm_error());
	return t;
}

#define LONG_BYTES (1u << 20)

static uint32_t long_ids[3 * LONG_BYTES];
static char long_text[LONG_BYTES], long_out[12 * LONG_BYTES], long_whole[12 * LONG_BYTES];

/* One letter a million times is the worst that a list without a heap can meet: hours. */
static void test_long(const struct flm_tokenizer *t)
{
	clock_t start = clock();
	size_t count, n;
	int ret;

	memset(long_text, 'a', LONG_BYTES);
	ret = flm_tokenizer_encode(t, long_text, LONG_BYTES, long_ids, 3 * LONG_BYTES, &count);
	ok(!ret && (double)(clock() - start) / CLOCKS_PER_SEC < 10, "a megabyte takes no hours");
	ret = flm_tokenizer_decode(t, long_ids, count, long_out, sizeof(long_out), &n);
	ok(!ret && n == LONG_BYTES && !memcmp(long_out, long_text, n), "and comes back the same");
}

/* Tokens at random, of which half are bytes, most of them of characters. */
static void test_random_tokens(const struct flm_tokenizer *t)
{
	uint32_t random = 1;
	size_t whole, n;

	for (size_t i = 0; i < 100000; i++) {
		random = random * 1664525 + 1013904223;
		long_ids[i] = (random >> 16) % 2048;
		if (random >> 31)
			long_ids[i] = 3 + 0x80 + long_ids[i] % 0x80;
	}
	n = stream(t, long_ids, 100000, long_out, sizeof(long_out));
	ok(!flm_tokenizer_decode(t, long_ids, 100000, long_whole, sizeof(long_whole), &whole) &&
	   whole == n && !memcmp(long_out, long_whole, n), "a stream of any tokens is their text");
	ok(n > 100000 && strstr(long_out, FFFD), "and that is not a short one");
}

struct job {
	const struct flm_tokenizer *t;
	uint32_t ids[65536];
	size_t count;
};

static void *encode_job(void *opaque)
{
	struct job *job = opaque;

	for (int i = 0; i < 5; i++)
		if (flm_tokenizer_encode(job->t, long_text, 50000, job->ids, 65536, &job->count))
			job->count = 0;
	return NULL;
}

static void test_threads(const struct flm_tokenizer *t)
{
	static struct job jobs[4];
	pthread_t threads[4];
	FILE *file = fopen("tests/data/fables-3m/eval.txt", "rb");
	bool is_same = file && fread(long_text, 1, 50000, file) == 50000;

	if (file)
		fclose(file);
	for (int i = 0; i < 4; i++) {
		jobs[i].t = t;
		is_same &= !pthread_create(&threads[i], NULL, encode_job, &jobs[i]);
	}
	for (int i = 0; i < 4; i++) {
		is_same &= !pthread_join(threads[i], NULL) && jobs[i].count > 10000 &&
			   jobs[i].count == jobs[0].count &&
			   !memcmp(jobs[i].ids, jobs[0].ids, 4 * jobs[0].count);
	}
	ok(is_same, "four threads with one tokenizer get the same ids");
}

static void test_real_model(void)
{
	static const char once[] = "Once upon a time, there was a princess.";
	/* As spm_encode gives them. */
	static const uint32_t once_ids[] = { 1919, 668, 261, 510, 1977, 435, 310, 261, 845, 1982 };
	struct flm_tokenizer *t = load(MODEL);
	uint32_t ids[ROOM];
	size_t count;

	if (!ok(t, "the tokenizer of fables-3m is accepted"))
		return;
	ok(flm_tokenizer_vocab(t) == 2048 && flm_tokenizer_unk(t) == 0 &&
	   flm_tokenizer_bos(t) == 1 && flm_tokenizer_eos(t) == 2,
	   "it has 2048 pieces, the first three of them special");
	flm_tokenizer_encode(t, once, strlen(once), ids, ROOM, &count);
	ok(count == 10 && !memcmp(ids, once_ids, sizeof(once_ids)), "a sentence has its ids");
	/* U+1F600, of which the vocabulary has no piece. */
	flm_tokenizer_encode(t, "\xf0\x9f\x98\x80", 4, ids, ROOM, &count);
	ok(count == 5 && ids[1] == 3 + 0xf0 && ids[4] == 3 + 0x80,
	   "an unknown character is its bytes");
	test_long(t);
	test_random_tokens(t);
	test_threads(t);
	flm_tokenizer_free(t);
}

/* ---- As a filter ---- */

static int encode_line(const struct flm_tokenizer *t, const char *line, size_t bytes)
{
	size_t count;

	if (flm_tokenizer_encode(t, line, bytes, long_ids, 3 * LONG_BYTES, &count))
		return 1;
	for (size_t i = 0; i < count; i++)
		printf("%s%u", i ? " " : "", long_ids[i]);
	putchar('\n');
	return 0;
}

static int decode_line(const struct flm_tokenizer *t, char *line)
{
	size_t count = 0, n, whole;
	char *end;

	for (; *line && count < LONG_BYTES; line = end) {
		long_ids[count++] = strtoul(line, &end, 10);
		if (end == line)
			return 1;
	}
	n = stream(t, long_ids, count, long_out, sizeof(long_out));
	if (flm_tokenizer_decode(t, long_ids, count, long_whole, sizeof(long_whole), &whole) ||
	    whole != n || memcmp(long_out, long_whole, n))
		return 1;
	fwrite(long_out, 1, n, stdout);
	putchar('\n');
	return 0;
}

static int filter(bool is_encoding, const char *path)
{
	struct flm_tokenizer *t = load(path);
	size_t room = 0;
	char *line = NULL;
	ssize_t n;
	int ret = !t;

	while (!ret && (n = getline(&line, &room, stdin)) > 0) {
		if (line[n - 1] == '\n')
			line[--n] = 0;
		ret = is_encoding ? encode_line(t, line, n) : decode_line(t, line);
	}
	if (ret)
		fprintf(stderr, "%s\n", flm_error());
	free(line);
	flm_tokenizer_free(t);
	return ret;
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return filter(!strcmp(argv[1], "encode"), argv[2]);
	test_encode();
	test_encode_errors();
	test_decode();
	test_decode_long();
	test_decode_control();
	test_hold();
	test_refused();
	test_real_model();
	return done_testing();
}
