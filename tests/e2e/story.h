/* SPDX-License-Identifier: MIT */
/*
 * A model on a device and the plain reference beside it, with a prompt: what a test needs that
 * compares tokens and logits of both.
 *
 *	if (!story_open(&story, "model.flm", NULL))
 *		return 1;
 *	story_reference(&story, &(struct ref_model_sampler) { 0 }, want, want_logits);
 *	story_close(&story);
 */
#ifndef TESTS_E2E_STORY_H
#define TESTS_E2E_STORY_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include "lib/flightllm.h"
#include "tests/ref/ref_model.h"

#define TOKENS		200
#define PROMPT_MAX	64

struct story {
	struct flm_device *device;
	struct flm_model *model;
	struct flm_model_info info;
	struct ref_model *ref;
	uint32_t prompt[PROMPT_MAX];
	unsigned int prompt_count;
	size_t rows;		/* positions that TOKENS tokens behind the prompt feed */
};

/* device: as flm_device_open() takes it. False: a line in TAP's words has been printed. */
static inline bool story_open(struct story *story, const char *path, const char *device)
{
	static const char text[] = "Once upon a time there was a king who had";
	char error[256];
	size_t count;

	if (flm_device_open(device, &story->device) ||
	    flm_model_load(story->device, path, NULL, &story->model)) {
		printf("Bail out! %s\n", flm_error());
		return false;
	}
	if (ref_model_open(path, &story->ref, error)) {
		printf("Bail out! %s\n", error);
		return false;
	}
	flm_model_info(story->model, &story->info);
	story->prompt[0] = story->info.bos;
	flm_tokenizer_encode(flm_model_tokenizer(story->model), text, strlen(text),
			     story->prompt + 1, PROMPT_MAX - 1, &count);
	story->prompt_count = count + 1;
	story->rows = story->prompt_count + TOKENS - 1;
	return true;
}

static inline void story_close(struct story *story)
{
	ref_model_close(story->ref);
	flm_model_free(story->model);
	flm_device_close(story->device);
}

/* What the reference says: TOKENS ids, and logits of all positions. */
static inline void story_reference(struct story *story, const struct ref_model_sampler *sampler,
				   uint32_t *ids, float *logits)
{
	unsigned int vocab = story->info.vocab, prompt = story->prompt_count;

	ref_model_reset(story->ref);
	for (unsigned int i = 0; i < story->rows; i++) {
		uint32_t token = i < prompt ? story->prompt[i] : ids[i - prompt];
		float *row = logits + (size_t)i * vocab;

		ref_model_logits(story->ref, token, i, row);
		if (i + 1 >= prompt)
			ids[i + 1 - prompt] = ref_model_sample(story->ref, row, sampler, i + 1,
							       vocab < 1024 ? vocab : 1024);
	}
}

/* How many tokens, and how many positions' logits to the bit, are the reference's. */
static inline unsigned int story_same_tokens(const uint32_t *got, const uint32_t *want)
{
	unsigned int same = 0;

	for (unsigned int i = 0; i < TOKENS; i++)
		same += got[i] == want[i];
	return same;
}

static inline unsigned int story_same_logits(const struct story *story, const float *got,
					     const float *want)
{
	size_t vocab = story->info.vocab;
	unsigned int same = 0;

	for (size_t row = 0; row < story->rows; row++)
		same += !memcmp(got + row * vocab, want + row * vocab, 4 * vocab);
	return same;
}

#endif
