// SPDX-License-Identifier: MIT
/*
 * Any bytes as a tokenizer model; where they make one, any bytes as text and as tokens. What comes
 * out token by token must be what comes out at once, and ids must be below the vocabulary's size.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/token/token.h"

#define ROOM 1024
#define TEXT_BYTES 64

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

/* A piece of 7999 bytes may come out of each token. */
static char whole[ROOM * 8000];

static void decode(const struct flm_tokenizer *tokenizer, const uint32_t *ids, size_t count)
{
	struct flm_detokenizer *words;
	size_t whole_bytes, used = 0, n;

	for (size_t i = 0; i < count; i++)
		if (ids[i] >= flm_tokenizer_vocab(tokenizer))
			abort();
	if (flm_tokenizer_decode(tokenizer, ids, count, whole, sizeof(whole), &whole_bytes))
		abort();
	if (flm_detokenizer_new(tokenizer, &words))
		return;
	for (size_t i = 0; i <= count; i++) {
		const char *part = i < count ? flm_detokenizer_push(words, ids[i], &n) :
					       flm_detokenizer_finish(words, &n);

		if (n > whole_bytes - used || memcmp(part, whole + used, n))
			abort();
		used += n;
	}
	if (used != whole_bytes)
		abort();
	flm_detokenizer_free(words);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	/* The last up to 64 bytes are the text, and then tokens. */
	size_t text = bytes < TEXT_BYTES ? bytes / 2 : TEXT_BYTES, count;
	const uint8_t *at = data + bytes - text;
	struct flm_tokenizer *tokenizer;
	uint32_t ids[ROOM];
	int ret;

	if (flm_tokenizer_new(data, bytes - text, &tokenizer))
		return 0;
	ret = flm_tokenizer_encode(tokenizer, (const char *)at, text, ids, ROOM, &count);
	if (!ret)
		decode(tokenizer, ids, count);
	for (size_t i = 0; i < text; i++)
		ids[i] = (at[i] | at[(i + 1) % text] << 8u) % flm_tokenizer_vocab(tokenizer);
	decode(tokenizer, ids, text);
	flm_tokenizer_free(tokenizer);
	return 0;
}
