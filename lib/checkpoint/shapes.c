// SPDX-License-Identifier: MIT
/*
 * Which tensors an architecture has, and in which shape. One table row per tensor; the same rows
 * check what a file brings and make what a synthetic model has. A tensor that is not in the table
 * is refused: ignored, it would give a model that computes something else than its maker meant.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/checkpoint/table.h"

enum dim { ONE, HIDDEN, FFN, VOCAB, QUERY, KEY };
/* From BIAS on: where the file has the bias of matrix when - BIAS. */
enum when { ALWAYS, UNTIED, BIAS };

struct row {
	const char *name;
	enum dim rows, cols;
	enum tensor_use use;
	unsigned int when;
};

/* LLaMA, of the whole model and of each layer ("model.layers.N." before the name). */
static const struct row llama_model[] = {
	{ "model.embed_tokens.weight", VOCAB, HIDDEN, USE_EMBEDDING, ALWAYS },
	{ "model.norm.weight", ONE, HIDDEN, USE_NORM, ALWAYS },
	{ "lm_head.weight", VOCAB, HIDDEN, USE_HEAD, UNTIED },
};

static const struct row llama_layer[] = {
	{ "input_layernorm.weight", ONE, HIDDEN, USE_NORM, ALWAYS },
	{ "self_attn.q_proj.weight", QUERY, HIDDEN, USE_INTO, ALWAYS },
	{ "self_attn.k_proj.weight", KEY, HIDDEN, USE_INTO, ALWAYS },
	{ "self_attn.v_proj.weight", KEY, HIDDEN, USE_INTO, ALWAYS },
	{ "self_attn.o_proj.weight", HIDDEN, QUERY, USE_OUT_OF, ALWAYS },
	{ "post_attention_layernorm.weight", ONE, HIDDEN, USE_NORM, ALWAYS },
	{ "mlp.gate_proj.weight", FFN, HIDDEN, USE_INTO, ALWAYS },
	{ "mlp.up_proj.weight", FFN, HIDDEN, USE_INTO, ALWAYS },
	{ "mlp.down_proj.weight", HIDDEN, FFN, USE_OUT_OF, ALWAYS },
	{ "self_attn.q_proj.bias", ONE, QUERY, USE_BIAS, BIAS + CHECKPOINT_Q },
	{ "self_attn.k_proj.bias", ONE, KEY, USE_BIAS, BIAS + CHECKPOINT_K },
	{ "self_attn.v_proj.bias", ONE, KEY, USE_BIAS, BIAS + CHECKPOINT_V },
	{ "self_attn.o_proj.bias", ONE, HIDDEN, USE_BIAS, BIAS + CHECKPOINT_O },
	{ "mlp.gate_proj.bias", ONE, FFN, USE_BIAS, BIAS + CHECKPOINT_GATE },
	{ "mlp.up_proj.bias", ONE, FFN, USE_BIAS, BIAS + CHECKPOINT_UP },
	{ "mlp.down_proj.bias", ONE, HIDDEN, USE_BIAS, BIAS + CHECKPOINT_DOWN },
};

#define MODEL_ROWS (sizeof(llama_model) / sizeof(*llama_model))
#define LAYER_ROWS (sizeof(llama_layer) / sizeof(*llama_layer))

static uint64_t dim_size(const struct checkpoint_config *c, enum dim dim)
{
	switch (dim) {
	case HIDDEN:
		return c->hidden;
	case FFN:
		return c->ffn;
	case VOCAB:
		return c->vocab;
	case QUERY:
		return (uint64_t)c->heads * c->head_dim;
	case KEY:
		return (uint64_t)c->kv_heads * c->head_dim;
	case ONE:
		break;
	}
	return 1;
}

static bool is_present(const struct checkpoint_config *c, unsigned int when)
{
	if (when >= BIAS)
		return c->has_bias[when - BIAS];
	return when == ALWAYS || !c->is_tied;
}

bool checkpoint_wanted(const struct checkpoint_config *config, unsigned int index,
		       struct wanted *wanted)
{
	const struct row *row;
	unsigned int i, layer, each = 0;

	for (i = 0; i < MODEL_ROWS; i++) {
		row = &llama_model[i];
		if (is_present(config, row->when) && !index--) {
			snprintf(wanted->name, sizeof(wanted->name), "%s", row->name);
			goto found;
		}
	}
	for (i = 0; i < LAYER_ROWS; i++)
		each += is_present(config, llama_layer[i].when);
	layer = index / each;
	if (layer >= config->layers)
		return false;
	index %= each;
	for (i = 0; !is_present(config, llama_layer[i].when) || index--; i++)
		;
	row = &llama_layer[i];
	snprintf(wanted->name, sizeof(wanted->name), "model.layers.%u.%s", layer, row->name);
found:
	wanted->rank = row->rows == ONE ? 1 : 2;
	wanted->rows = dim_size(config, row->rows);
	wanted->cols = dim_size(config, row->cols);
	wanted->use = row->use;
	return true;
}

static int match_one(const struct checkpoint *cp, const struct tensor *t, const struct wanted *w)
{
	const char *path = cp->files[t->file].path;

	if (t->rank != w->rank || t->rows != w->rows || t->cols != w->cols) {
		char is[64], must[64];

		if (t->rank > 2)
			snprintf(is, sizeof(is), "has %u dimensions", t->rank);
		else if (t->rank == 2)
			snprintf(is, sizeof(is), "is %llu x %llu", (unsigned long long)t->rows,
				 (unsigned long long)t->cols);
		else
			snprintf(is, sizeof(is), "is a vector of %llu",
				 (unsigned long long)t->cols);
		if (w->rank == 2)
			snprintf(must, sizeof(must), "%llu x %llu", (unsigned long long)w->rows,
				 (unsigned long long)w->cols);
		else
			snprintf(must, sizeof(must), "a vector of %llu",
				 (unsigned long long)w->cols);
		return checkpoint_fail(-EBADMSG,
				       "%s: tensor %s %s, by config.json it must be %s; the two files do not belong together",
				       path, t->name, is, must);
	}
	if (!t->is_float)
		return checkpoint_fail(-EOPNOTSUPP,
				       "%s: tensor %s is of type %s; only F32, F16 and BF16 are read, use the model's original weights",
				       path, t->name, t->dtype);
	return 0;
}

/* What older files carry without need: tables that follow from config.json, a tied head's copy. */
static bool is_needless(const struct checkpoint_config *c, const char *name)
{
	size_t n = strlen(name);
	static const char inv_freq[] = ".self_attn.rotary_emb.inv_freq";

	if (n >= sizeof(inv_freq) && !strcmp(name + n - (sizeof(inv_freq) - 1), inv_freq))
		return true;
	return c->is_tied && !strcmp(name, "lm_head.weight");
}

/*
 * A tensor that architecture asks for and that is not there. Without "model." in front, or with
 * more than that, names are those of another class of the same model.
 */
static int missing(const struct checkpoint *cp, const char *name)
{
	const char *bare = strncmp(name, "model.", 6) ? name : name + 6;

	for (size_t i = 0; i < cp->count; i++) {
		const char *is = cp->tensors[i].name;
		size_t n = strlen(is), m = strlen(bare);

		if (n >= m && !strcmp(is + n - m, bare) && (n == m || is[n - m - 1] == '.'))
			return checkpoint_fail(-ENOENT,
					       "%s: tensor %s is missing, but %s stands there: names must be as %s saves them; save the model again from that class",
					       cp->label, name, is, cp->config.architecture);
	}
	return checkpoint_fail(-ENOENT,
			       "%s: tensor %s is missing, config.json asks for %u layers of %s; fetch the model again",
			       cp->label, name, cp->config.layers, cp->config.architecture);
}

static enum checkpoint_said said(const struct checkpoint_config *c, unsigned int matrix)
{
	return matrix < CHECKPOINT_GATE ? c->attention_bias : c->mlp_bias;
}

static bool has_in_a_layer(const struct checkpoint *cp, const char *name)
{
	char full[96];

	for (uint32_t layer = 0; layer < cp->config.layers; layer++) {
		snprintf(full, sizeof(full), "model.layers.%u.%s", layer, name);
		if (checkpoint_find(cp, full))
			return true;
	}
	return false;
}

/*
 * A bias that the file has is used, unless config.json denies it; then it is a tensor too many. Of
 * those that config.json announces one may be absent, except if all are.
 */
static void find_biases(struct checkpoint *cp)
{
	struct checkpoint_config *c = &cp->config;
	unsigned int i, matrix, found[2] = { 0 };

	for (i = 0; i < LAYER_ROWS; i++) {
		if (llama_layer[i].when < BIAS)
			continue;
		matrix = llama_layer[i].when - BIAS;
		c->has_bias[matrix] = said(c, matrix) != CHECKPOINT_SAID_NO &&
				      has_in_a_layer(cp, llama_layer[i].name);
		found[matrix >= CHECKPOINT_GATE] += c->has_bias[matrix];
	}
	for (matrix = 0; matrix < CHECKPOINT_MATRICES; matrix++)
		if (said(c, matrix) == CHECKPOINT_SAID_YES && !found[matrix >= CHECKPOINT_GATE])
			c->has_bias[matrix] = true;
}

int checkpoint_match(struct checkpoint *cp)
{
	struct wanted w;
	const struct tensor *t;
	bool *is_known = calloc(cp->count ? cp->count : 1, sizeof(*is_known));
	int ret = 0;
	size_t i;

	if (!is_known)
		return checkpoint_fail(-ENOMEM, "%s: out of memory", cp->label);
	find_biases(cp);
	for (i = 0; !ret && checkpoint_wanted(&cp->config, i, &w); i++) {
		t = checkpoint_find(cp, w.name);
		if (!t) {
			ret = missing(cp, w.name);
			break;
		}
		is_known[t - cp->tensors] = true;
		ret = match_one(cp, t, &w);
	}
	for (i = 0; !ret && i < cp->count; i++) {
		t = &cp->tensors[i];
		if (!is_known[i] && !is_needless(&cp->config, t->name))
			ret = checkpoint_fail(
				-EOPNOTSUPP,
				"%s: tensor %s is no part of %s with this config.json, it needs what is not supported; choose another one",
				cp->files[t->file].path, t->name, cp->config.architecture);
	}
	free(is_known);
	return ret;
}
