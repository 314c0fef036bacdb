// SPDX-License-Identifier: MIT
/*
 * The tokenizer on its own: small models made here by hand, and the tokenizer of fables-3m. With arguments it is a filter instead (for token_oracle.sh): "encode MODEL" turns lines
 * into ids, "decode MODEL" turns lines into ids and, token by token, back into text.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/flightllm.h"
#include "tests/tap.h"

#define MODEL "tests/data/fables-3m/tokenizer.model"

struct bytes {
	uint8_t at[4096];
	size_t count;
};

static void put(struct bytes *b, const void *bytes, size_t count)
{
	memcpy(b->at + b->count, bytes, count);
	b->count += count;
}

static void put_piece(struct bytes *b, const char *text, float score, int type)
{
	size_t n = strlen(text);
	uint8_t head[] = { 0x0a, n + 9, 0x0a, n };
	uint8_t tail[] = { 0x15, 0, 0, 0, 0, 0x18, type };

	memcpy(tail + 1, &score, 4);
	put(b, head, 4);
	put(b, text, n);
	put(b, tail, 7);
}

/* <unk> 0, then a b ab bc abc (abc cannot be reached but through ab), \xe2\x96\x81 and a user piece. */
static void small_model(struct bytes *b, int model_type, const char *charsmap)
{
	uint8_t trainer[] = { 0x12, 2, 0x18, model_type };
	uint8_t normalizer[16] = { 0x1a, 6, 0x18, 0, 0x20, 0, 0x28, 1 };

	b->count = 0;
	put_piece(b, "<unk>", 0, 2);
	put_piece(b, "a", -10, 1);
	put_piece(b, "b", -11, 1);
	put_piece(b, "c", -12, 1);
	put_piece(b, "ab", -2, 1);
	put_piece(b, "bc", -1, 1);
	put_piece(b, "abc", -3, 1);
	put_piece(b, "[x]", 0, 4);
	put(b, trainer, 4);
	if (charsmap) {
		uint8_t with[] = { 0x1a, 3, 0x12, 1, 'x' };

		put(b, with, 5);
	} else {
		put(b, normalizer, 8);
	}
}

static void by_hand(void)
{
	static const struct {
		const char *text;
		size_t count;
		uint32_t ids[8];
		const char *why;
	} cases[] = {
		{ "", 0, { 0 }, "an empty text has no tokens" },
		{ "abc", 1, { 6 }, "bc is joined before ab, and a with it" },
		{ "ab", 1, { 4 }, "a pair that is a piece is joined" },
		{ "aab", 2, { 1, 4 }, "what has no union stays" },
		{ "zzb", 2, { 0, 2 }, "unknown characters in a row are one unknown" },
		{ "a[x]b", 3, { 1, 7, 2 }, "a user-defined piece is never joined or cut" },
		{ "a[xb", 3, { 1, 0, 2 }, "half of a user-defined piece is not one" },
	};
	static const struct {
		size_t cut;
		int type;
		const char *charsmap, *why;
	} refused[] = {
		{ 0, 2, NULL, "no bytes at all" },
		{ 7, 2, NULL, "a model cut off in its first piece" },
		{ 4096, 1, NULL, "a unigram model" },
		{ 4096, 2, "x", "a normalizer with a table" },
	};
	struct flm_tokenizer *t;
	struct bytes b;
	uint32_t ids[16];
	size_t count;

	small_model(&b, 2, NULL);
	if (!ok(!flm_tokenizer_new(b.at, b.count, &t), "a small model made by hand is accepted"))
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		int ret = flm_tokenizer_encode(t, cases[i].text, strlen(cases[i].text), ids, 16, &count);

		ok(!ret && count == cases[i].count && !memcmp(ids, cases[i].ids, 4 * count), "%s", cases[i].why);
	}
	ok(flm_tokenizer_encode(t, "aab", 3, ids, 1, &count) == -105 && count == 2,
	   "too little room is -ENOBUFS with the count that is needed");
	flm_tokenizer_free(t);
	for (size_t i = 0; i < sizeof(refused) / sizeof(refused[0]); i++) {
		small_model(&b, refused[i].type, refused[i].charsmap);
		if (refused[i].cut < b.count)
			b.count = refused[i].cut;
		ok(flm_tokenizer_new(b.at, b.count, &t) == -74 && !t && *flm_error(),
		   "%s is refused with a reason", refused[i].why);
	}
}

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

static void real_model(void)
{
	struct flm_tokenizer *t = load(MODEL);
	struct flm_detokenizer *d;
	char text[64] = "";
	uint32_t ids[16];
	size_t count, bytes, used = 0;

	if (!ok(t && !flm_detokenizer_new(t, &d), "the tokenizer of fables-3m is accepted"))
		return;
	ok(flm_tokenizer_vocab(t) == 2048, "it has 2048 pieces");
	/* U+1F600, of which the vocabulary has no piece, through four byte tokens. */
	flm_tokenizer_encode(t, "\xf0\x9f\x98\x80", 4, ids, 16, &count);
	ok(count == 5 && ids[1] == 3 + 0xf0 && ids[4] == 3 + 0x80, "an unknown character is its bytes");
	for (size_t i = 0; i < count; i++) {
		const char *out = flm_detokenizer_push(d, ids[i], &bytes);

		memcpy(text + used, out, bytes);
		used += bytes;
		if (i == 3)
			ok(!used, "three of four bytes of a character are held back");
	}
	ok(used == 4 && !memcmp(text, "\xf0\x9f\x98\x80", 4), "the fourth completes it");
	flm_detokenizer_push(d, 3 + 0xf0, &bytes);
	flm_detokenizer_push(d, 3 + 0x41, &bytes);
	ok(bytes == 4 && !memcmp(flm_detokenizer_finish(d, &used), "", 0) && !used,
	   "a character that is never completed comes out as U+FFFD at once");
	flm_detokenizer_free(d);
	flm_tokenizer_free(t);
}

static int filter(const char *what, const char *path)
{
	static uint32_t ids[1 << 20];
	struct flm_tokenizer *t = load(path);
	struct flm_detokenizer *d = NULL;
	size_t room = 0, count, bytes;
	const char *tail;
	char *line = NULL;
	ssize_t n;

	if (!t || flm_detokenizer_new(t, &d))
		return 1;
	while ((n = getline(&line, &room, stdin)) > 0) {
		if (line[n - 1] == '\n')
			n--;
		if (flm_tokenizer_encode(t, line, n, ids, 1 << 20, &count)) {
			fprintf(stderr, "%s\n", flm_error());
			return 1;
		}
		for (size_t i = 0; i < count; i++) {
			if (!strcmp(what, "encode")) {
				printf("%s%u", i ? " " : "", ids[i]);
			} else {
				const char *out = flm_detokenizer_push(d, ids[i], &bytes);

				fwrite(out, 1, bytes, stdout);
			}
		}
		tail = flm_detokenizer_finish(d, &bytes);
		fwrite(tail, 1, bytes, stdout);
		putchar('\n');
	}
	free(line);
	flm_detokenizer_free(d);
	flm_tokenizer_free(t);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 3)
		return filter(argv[1], argv[2]);
	by_hand();
	real_model();
	return done_testing();
}
