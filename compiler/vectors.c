// SPDX-License-Identifier: MIT
/* The vectors of a model, float32 as they are: norms, biases, and the table of RoPE. */
#include <math.h>
#include <stdlib.h>

#include "compiler/write.h"

static void write_biases(const struct plan *p, const struct output *output)
{
	uint64_t base = layout_section(p, FLM_SECTION_SHARED, FLM_CORE_ALL) + p->biases;
	char name[64], full[80];

	for (uint32_t layer = 0; layer < p->config->layers; layer++, base += p->layer_biases) {
		for (int i = 0; i < M_HEAD; i++) {
			const struct matrix *m = &p->matrix[i];
			float *row;

			if (!m->has_bias)
				continue;
			row = malloc(4 * (size_t)m->rows);
			if (!row)
				die("out of memory: a bias of %u rows", m->rows);
			tensor_name(p, i, layer, name);
			snprintf(full, sizeof(full), "%s.bias", name);
			tensor_read(p, full, 0, 1, row);
			output_write(output, base + m->bias, row, 4 * (size_t)m->rows);
			free(row);
		}
	}
}

/* Row p: cosines and sines of position p, in double and rounded once (SPEC.md, "rope.table"). */
static void write_rope(const struct plan *p, const struct output *output, float *row)
{
	const struct checkpoint_config *c = p->config;
	uint64_t base = layout_section(p, FLM_SECTION_SHARED, FLM_CORE_ALL);

	for (uint32_t position = 0; position < p->context; position++) {
		uint32_t half = c->head_dim / 2;

		for (uint32_t i = 0; i < half; i++) {
			double angle = position * pow(c->rope_theta, -2.0 * i / c->head_dim);

			row[i] = cos(angle);
			row[half + i] = sin(angle);
		}
		output_write(output, base + p->rope + 4ull * position * c->head_dim, row,
			     4 * c->head_dim);
	}
}

void vectors_write(const struct plan *p, const struct output *output)
{
	const struct checkpoint_config *c = p->config;
	uint64_t base = layout_section(p, FLM_SECTION_SHARED, FLM_CORE_ALL), at = p->norms;
	size_t bytes = 4 * (size_t)MAX(c->hidden, c->head_dim);
	float *row = arena(bytes);
	char name[80];

	for (uint32_t i = 0; i < 2 * c->layers + 1; i++) {
		if (i == 2 * c->layers)
			snprintf(name, sizeof(name), "model.norm.weight");
		else
			snprintf(name, sizeof(name), "model.layers.%u.%s.weight", i / 2,
				 i % 2 ? "post_attention_layernorm" : "input_layernorm");
		tensor_read(p, name, 0, 1, row);
		output_write(output, base + at, row, 4 * (size_t)c->hidden);
		at += 4ull * c->hidden;
	}
	write_biases(p, output);
	write_rope(p, output, row);
}
