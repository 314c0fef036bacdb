/* SPDX-License-Identifier: MIT */
/*
 * The reference that compressed models are measured against: a float32 forward pass over the
 * original weights.
 *
 *	struct float_model *fm;
 *
 *	if (float_open(cp, 0, error, sizeof(error), &fm) ||
 *	    float_logits(fm, ids, count, logits, error, sizeof(error)))
 *		die("%s", error);
 *	float_close(fm);
 *
 * Weights are read from the checkpoint as they are needed, once a call, and not kept: memory is
 * that of the activations, whatever the size of the model. Results do not depend on the number of
 * threads or on the other tokens behind a position.
 */
#ifndef TOOLS_FLOAT_H
#define TOOLS_FLOAT_H

#include <stddef.h>
#include <stdint.h>

struct checkpoint;
struct float_model;

/*
 * The checkpoint stays the caller's and must outlive the model. threads: 0 for one per CPU. error
 * (may be NULL) gets one line. -ENOMEM.
 */
int float_open(const struct checkpoint *cp, unsigned int threads, char *error, size_t error_bytes,
	       struct float_model **fm);
void float_close(struct float_model *fm);

/*
 * Logits [count][vocab] that follow each of count tokens, which start at position 0. -EINVAL: more
 * tokens than the model's context, none, or one that is not below vocab; or as
 * checkpoint_rows_f32(), whose text error then has. One call at a time.
 */
int float_logits(struct float_model *fm, const uint32_t *tokens, uint32_t count, float *logits,
		 char *error, size_t error_bytes);

#endif
