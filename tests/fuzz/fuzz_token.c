// SPDX-License-Identifier: MIT
/* Any bytes as a tokenizer model; where they make one, any bytes as text, there and back. */
#include <stdint.h>
#include <stdlib.h>

#include "lib/flightllm.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	/* The last up to 64 bytes are the text. */
	size_t text = bytes < 64 ? bytes / 2 : 64, count;
	struct flm_tokenizer *tokenizer;
	struct flm_detokenizer *words;
	uint32_t ids[1024];

	if (flm_tokenizer_new(data, bytes - text, &tokenizer))
		return 0;
	if (!flm_tokenizer_encode(tokenizer, (const char *)data + bytes - text, text, ids, 1024,
				  &count) && !flm_detokenizer_new(tokenizer, &words)) {
		for (size_t i = 0; i < count; i++)
			flm_detokenizer_push(words, ids[i], &bytes);
		flm_detokenizer_finish(words, &bytes);
		flm_detokenizer_free(words);
	}
	flm_tokenizer_free(tokenizer);
	return 0;
}
