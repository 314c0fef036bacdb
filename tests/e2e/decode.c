// SPDX-License-Identifier: MIT
/*
 * decode MODEL.flm DEVICE TOKENS LOGITS: the library's answer to one token, for models that have no
 * tokenizer. Feeds token 1, prints the ids of TOKENS greedy ones on one line, and writes the raw
 * float32 logits of every position it fed to LOGITS: what ref_main prints and writes, so that cmp
 * compares the two.
 */
#include <err.h>
#include <stdio.h>
#include <stdlib.h>

#include "lib/flightllm.h"

int main(int argc, char **argv)
{
	struct flm_request request = { .tokens = (const uint32_t[]) { 1 }, .count = 1 };
	struct flm_session *session;
	struct flm_model_info info;
	struct flm_device *device;
	struct flm_result result;
	struct flm_model *model;
	FILE *out;

	if (argc != 5 || atoi(argv[3]) < 1)
		errx(2, "usage: decode MODEL.flm DEVICE TOKENS LOGITS");
	request.generate = atoi(argv[3]);
	request.logit_count = request.generate;
	if (flm_device_open(argv[2], &device) || flm_model_load(device, argv[1], NULL, &model))
		errx(1, "%s", flm_error());
	flm_model_info(model, &info);
	request.out = calloc(request.generate, sizeof(*request.out));
	request.logits = calloc((size_t)request.generate * info.vocab, sizeof(*request.logits));
	if (!request.out || !request.logits)
		err(1, "%u tokens", request.generate);
	if (flm_session_new(model, NULL, &session) ||
	    flm_session_generate(session, &request, &result))
		errx(1, "%s", flm_error());
	for (unsigned int i = 0; i < result.tokens; i++)
		printf("%s%u", i ? " " : "", request.out[i]);
	putchar('\n');
	fprintf(stderr, "%u tokens in %.2f s\n", result.tokens,
		(result.prefill_ns + result.decode_ns) * 1e-9);
	out = fopen(argv[4], "wb");
	if (!out ||
	    fwrite(request.logits, 4ull * info.vocab, result.tokens, out) != result.tokens ||
	    fclose(out))
		err(1, "%s", argv[4]);
	flm_session_free(session);
	flm_model_free(model);
	flm_device_close(device);
	free(request.logits);
	free(request.out);
	return 0;
}
