/* SPDX-License-Identifier: MIT */
/*
 * What ref_model_file.c reads from a .flm file and ref_model.c computes with.
 */
#ifndef TESTS_REF_MODEL_FILE_H
#define TESTS_REF_MODEL_FILE_H

#include <stdint.h>
#include <string.h>

#include <flightllm/file.h>
#include <flightllm/isa.h>

#include "tests/ref/ref_model.h"

/* Some rows of a matrix: what one core holds. */
struct piece {
	const struct flm_section *section;
	uint64_t offset;
	uint32_t first_row;
	uint32_t rows;
};

struct matrix {
	uint32_t rows, cols;
	uint32_t width;			/* cols padded to 16 */
	uint32_t groups;		/* of 64 columns, the last may be shorter */
	float factor;
	float *bias;			/* [rows] or NULL */
	struct piece piece[FLM_CORES_MAX];
	int pieces;
	int8_t *value;			/* [rows padded][width] or NULL: decoded on the way */
	float *scale;			/* [rows padded][groups] */
};

struct layer {
	float *input_layernorm, *post_attention_layernorm;	/* [hidden] */
	struct matrix q, k, v, o, gate, up, down;
};

struct ref_model {
	const uint8_t *file;
	uint64_t bytes;
	const struct flm_section *sections;
	uint32_t section_count;
	const struct flm_tensor *tensors;
	uint32_t tensor_count;
	char *error;

	uint32_t layers, hidden, ffn, heads, kv_heads, head_dim, vocab, context;
	uint32_t head_groups;		/* of 64 dimensions of a head */
	uint32_t rotate[FLM_ROTATIONS];
	uint32_t eos[FLM_EOS_MAX], eos_count;
	float norm_eps, softmax_scale;

	int8_t *embed;			/* [vocab][hidden] */
	float *embed_scale;		/* [vocab][hidden groups] */
	float *rope;			/* [context][head_dim]: cosines, then sines */
	float *norm;
	struct matrix head;
	struct layer *layer;

	uint32_t length;		/* positions in the cache */
	int8_t *k_value, *v_value;	/* [layer][kv head][position][head_dim] */
	float *k_scale;			/* [layer][kv head][position][head_groups] */
	float *v_scale;			/* [layer][kv head][position] */
};

static inline float ref_model_bits(uint32_t bits)
{
	float x;

	memcpy(&x, &bits, 4);
	return x;
}

/* Zeroed memory; ends the program if there is none. */
void *ref_model_take(uint64_t n, uint64_t size);

/* Checks the file and fills all but the cache. 0, or -1 with model->error written. */
int ref_model_load(struct ref_model *model);

/* Strip s of a piece: value [16][width] and scale [16][groups]. */
int ref_model_read_strip(struct ref_model *model, const struct matrix *m, const struct piece *piece,
			 uint32_t s, int8_t *value, float *scale);

/* Matrix i of the model, layers first, the head last; NULL behind it. */
struct matrix *ref_model_matrix(struct ref_model *model, uint32_t i);

#endif
