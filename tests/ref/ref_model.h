/* SPDX-License-Identifier: MIT */
/*
 * What a model computes, from SPEC.md's chapter "A layer, to the bit" and a .flm file's tensors;
 * the file's programs are never looked at, and nothing is shared with ref_isa.c.
 *
 *	struct ref_model *model;
 *	char error[256];
 *
 *	if (ref_model_open("model.flm", &model, error))
 *		errx(1, "%s", error);
 *	logits = calloc(ref_model_vocab(model), sizeof(float));
 *	for (position = 0; position < n; position++)
 *		ref_model_logits(model, token[position], position, logits);
 *	next = ref_model_sample(model, logits, &sampler, n, 1024);
 *	ref_model_close(model);
 */
#ifndef TESTS_REF_MODEL_H
#define TESTS_REF_MODEL_H

#include <stdbool.h>
#include <stdint.h>

struct ref_model;

/* Opens and checks a file. 0, or -1 and one sentence in `error`. */
int ref_model_open(const char *path, struct ref_model **model, char error[256]);
void ref_model_close(struct ref_model *model);	/* NULL is fine */

/* Decodes strips on the way from now on, as is done for models of more than 64 M weights. */
void ref_model_drop_decoded(struct ref_model *model);

/* Forgets the KV cache. */
void ref_model_reset(struct ref_model *model);

uint32_t ref_model_vocab(const struct ref_model *model);
uint32_t ref_model_context(const struct ref_model *model);	/* positions at most */
bool ref_model_is_eos(const struct ref_model *model, uint32_t token);

/*
 * Logits [vocab] behind `token` at `position`, which must be at most the number of positions seen
 * since the reset (a smaller one goes back to there). logits may be NULL: only the KV cache is
 * filled. 0, or -1: position or token out of range.
 */
int ref_model_logits(struct ref_model *model, uint32_t token, uint32_t position, float *logits);

/* Chapter Sampling. candidates: the k of the program's topk; position: that of the new token. */
struct ref_model_sampler {
	float temperature;
	uint32_t top_k;
	float top_p;
	float min_p;
	uint64_t seed;
};

uint32_t ref_model_sample(const struct ref_model *model, const float *logits,
			  const struct ref_model_sampler *sampler, uint32_t position,
			  uint32_t candidates);

/* Numbers, for the self-test. */
float ref_model_exp(float x);
float ref_model_sigmoid(float x);
float ref_model_half(uint16_t half);
void ref_model_quant(const float *v, uint32_t n, uint32_t group, int8_t *codes, float *scales);
uint32_t ref_model_crc32c(uint32_t crc, const void *bytes, uint64_t n);	/* start with 0 */

#endif
