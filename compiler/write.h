/* SPDX-License-Identifier: MIT */
/* What write.c and layout.c share: the small sections' bytes, made in memory. */
#ifndef COMPILER_WRITE_H
#define COMPILER_WRITE_H

#include "compiler/cc.h"

struct blob {
	const void *data;
	size_t bytes;
};

/* Places all sections in the file and makes the contents of all but weights and shared tables. */
void write_layout(struct plan *plan, struct blob blobs[SECTIONS_MAX]);

/* The checkpoint's name of a matrix, without ".weight". Returns name. */
const char *write_tensor_name(const struct plan *plan, unsigned int matrix, unsigned int layer,
			      char name[64]);

#endif
