// SPDX-License-Identifier: MIT
/* Tensors of the checkpoint: what they are called there, and their rows as float32. */
#include <stdio.h>

#include "compiler/write.h"

const char *tensor_name(const struct plan *p, unsigned int matrix, unsigned int layer,
			char name[64])
{
	if (matrix == M_HEAD)
		snprintf(name, 64, "lm_head");
	else
		snprintf(name, 64, "model.layers.%u.%s", layer, p->matrix[matrix].part);
	return name;
}

void tensor_read(const struct plan *p, const char *name, uint64_t first, uint64_t rows, float *out)
{
	int ret = checkpoint_rows_f32(p->checkpoint, name, first, rows, out);

	if (ret)
		die_checkpoint(ret);
}

void tensor_weight_name(const struct plan *p, unsigned int matrix, unsigned int layer,
			char full[80])
{
	char name[64];

	if (matrix == MATRICES || (matrix == M_HEAD && p->config->is_tied))
		snprintf(full, 80, "model.embed_tokens.weight");
	else
		snprintf(full, 80, "%s.weight", tensor_name(p, matrix, layer, name));
}
