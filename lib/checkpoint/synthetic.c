// SPDX-License-Identifier: MIT
/*
 * Models of a known shape with made-up weights, for trying out sizes without their files. A weight
 * is a function of seed, tensor name and index (the counter is the index), so reads in any order
 * and in any pieces agree, and nothing is stored.
 *
 * The generator: key = mix(seed ^ FNV-1a-64(tensor name)), word i = mix(key + (i + 1) x golden),
 * where mix is splitmix64's finaliser and golden its increment; the tensor's words are thus a
 * splitmix64 sequence that can be entered anywhere. A weight is the sum of its word's eight bytes,
 * minus its mean of 1020: nearly normal, within 4.9 standard deviations, and exact in integers.
 * Scales keep activations of order 1 through any number of layers: 1/sqrt(K) into a branch,
 * 1/sqrt(2 K layers) back to the residual.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/checkpoint/table.h"

#define GOLDEN	UINT64_C(0x9e3779b97f4a7c15)
#define SUM_MEAN	1020		/* 8 x 127.5 */
#define SUM_DEVIATION	209.0215300		/* sqrt(8 (256^2 - 1) / 12) */

#define LLAMA(hidden_, ffn_, layers_, heads_, kv_heads_, head_dim_, vocab_, context_, eps, tied) { \
	.architecture = "LlamaForCausalLM", .activation = "silu", .hidden = hidden_, .ffn = ffn_, \
	.layers = layers_, .heads = heads_, .kv_heads = kv_heads_, .head_dim = head_dim_, \
	.vocab = vocab_, .context = context_, .norm_eps = eps, .rope_theta = 10000, \
	.is_tied = tied, .bos = 1, .eos_count = 1, .eos = { 2 } }

static const struct {
	const char *name;
	struct checkpoint_config config;
} shapes[] = {
	{ "llama2-7b", LLAMA(4096, 11008, 32, 32, 32, 128, 32000, 4096, 1e-5f, false) },
	{ "llama-1b", LLAMA(2048, 5632, 22, 32, 4, 64, 32000, 2048, 1e-5f, false) },
	{ "llama-110m", LLAMA(768, 2048, 12, 12, 12, 64, 32000, 1024, 1e-5f, true) },
	{ "llama-15m", LLAMA(288, 768, 6, 6, 6, 48, 32000, 256, 1e-5f, true) },
	/* Sizes that end in short groups and divide by nothing. */
	{ "tiny", LLAMA(80, 172, 2, 5, 1, 16, 300, 128, 1e-5f, false) },
};

#define SHAPES (sizeof(shapes) / sizeof(*shapes))

static uint64_t mix(uint64_t z)
{
	z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
	z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
	return z ^ z >> 31;
}

static uint64_t tensor_key(uint64_t seed, const char *name)
{
	uint64_t hash = UINT64_C(0xcbf29ce484222325);

	for (; *name; name++)
		hash = (hash ^ (unsigned char)*name) * UINT64_C(0x100000001b3);
	return mix(seed ^ hash);
}

static int read_synthetic(const struct checkpoint *cp, const struct tensor *t, uint64_t first,
			  uint64_t count, float *out)
{
	const uint64_t bytes = UINT64_C(0x00ff00ff00ff00ff), lanes = UINT64_C(0x0001000100010001);
	uint64_t z, word = t->key + (first + 1) * GOLDEN, i;

	(void)cp;
	for (i = 0; i < count; i++, word += GOLDEN) {
		z = mix(word);
		z = (z & bytes) + (z >> 8 & bytes);
		out[i] = t->mean + (float)((int)(z * lanes >> 48) - SUM_MEAN) * t->scale;
	}
	return 0;
}

static double deviation(const struct checkpoint_config *c, const struct wanted *w)
{
	switch (w->use) {
	case USE_EMBEDDING:
		return c->is_tied ? 2 / sqrt(c->hidden) : 1;
	case USE_HEAD:
		return 2 / sqrt(c->hidden);
	case USE_NORM:
		return 0.1;
	case USE_INTO:
		return 1 / sqrt(w->cols);
	case USE_OUT_OF:
		return 1 / sqrt(2.0 * w->cols * c->layers);
	case USE_BIAS:
		break;
	}
	return 0.02;
}

static int make_table(struct checkpoint *cp, uint64_t seed)
{
	struct wanted w;
	struct tensor *t;
	unsigned int i;

	for (i = 0; checkpoint_wanted(&cp->config, i, &w); i++) {
		t = checkpoint_add(cp, w.name);
		if (!t)
			return -ENOMEM;
		t->type = CHECKPOINT_SYNTHETIC;
		t->rank = w.rank;
		t->rows = w.rows;
		t->cols = w.cols;
		t->key = tensor_key(seed, w.name);
		t->mean = w.use == USE_NORM;
		t->scale = (float)(deviation(&cp->config, &w) / SUM_DEVIATION);
	}
	return checkpoint_sort(cp);
}

const char *checkpoint_synthetic_shapes(void)
{
	return "llama2-7b, llama-1b, llama-110m, llama-15m, tiny";
}

static int synthetic(const char *shape, uint64_t seed, struct checkpoint *cp)
{
	unsigned int i;

	for (i = 0; i < SHAPES && strcmp(shape, shapes[i].name); i++)
		;
	if (i == SHAPES)
		return checkpoint_fail(-EINVAL, "no synthetic model %.60s; there are %s", shape,
				       checkpoint_synthetic_shapes());
	cp->config = shapes[i].config;
	cp->read = read_synthetic;
	cp->label = strdup(shape);
	if (!cp->label || make_table(cp, seed))
		return checkpoint_fail(-ENOMEM, "%s: out of memory", shape);
	return 0;
}

int checkpoint_synthetic(const char *shape, uint64_t seed, char *error, size_t error_bytes,
			 struct checkpoint **out)
{
	struct checkpoint *cp = calloc(1, sizeof(*cp));
	int ret;

	*out = NULL;
	ret = cp ? synthetic(shape, seed, cp) : checkpoint_fail(-ENOMEM,
								"%s: out of memory", shape);
	if (ret) {
		checkpoint_close(cp);
		if (error && error_bytes)
			snprintf(error, error_bytes, "%s", checkpoint_error());
		return ret;
	}
	*out = cp;
	return 0;
}
