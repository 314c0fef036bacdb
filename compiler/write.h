/* SPDX-License-Identifier: MIT */
/* Shared by the files that write: places of sections, names in the checkpoint, writers. */
#ifndef COMPILER_WRITE_H
#define COMPILER_WRITE_H

#include "compiler/cc.h"
#include "compiler/output.h"

struct blob {
	const void *data;
	size_t bytes;
};

/* ---- tensor.c ---- */

/* The checkpoint's name of a matrix, without ".weight". Returns name. */
const char *tensor_name(const struct plan *plan, unsigned int matrix, unsigned int layer,
			char name[64]);
/* The whole name of what holds its weights; MATRICES: of the embedding. */
void tensor_weight_name(const struct plan *plan, unsigned int matrix, unsigned int layer,
			char full[80]);
/* Rows of a tensor as float32, [rows][cols]; any thread. */
void tensor_read(const struct plan *plan, const char *name, uint64_t first, uint64_t rows,
		 float *out);

/* ---- layout.c ---- */

/* Places all sections in the file and makes the contents of all except weights and vectors. */
void layout_run(struct plan *plan, struct blob blobs[SECTIONS_MAX]);
/* Offset of a section in the file. */
uint64_t layout_section(const struct plan *plan, uint32_t kind, uint32_t core);

/* ---- weights.c, vectors.c ---- */

void weights_write(const struct plan *plan, const struct output *output);
void vectors_write(const struct plan *plan, const struct output *output);

#endif
