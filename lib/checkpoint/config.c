// SPDX-License-Identifier: MIT
/*
 * config.json: the sizes of a model, as the transformers library writes them. Absent keys have that
 * library's defaults; sizes have none. A key that would change what the model computes and that
 * nobody here computes (scaled RoPE, windows, quantised weights) is refused by name.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include <jansson.h>

#include "lib/checkpoint/table.h"

/* Where a key is looked for, and whose name errors give. */
struct source {
	const json_t *root;
	const char *path;
};

static const char *type_name(const json_t *value)
{
	switch (json_typeof(value)) {
	case JSON_OBJECT:
		return "an object";
	case JSON_ARRAY:
		return "an array";
	case JSON_STRING:
		return "a string";
	case JSON_INTEGER:
		return "an integer";
	case JSON_REAL:
		return "a fraction";
	case JSON_TRUE:
		return "true";
	case JSON_FALSE:
		return "false";
	default:
		return "null";
	}
}

static const json_t *get(const struct source *s, const char *key)
{
	const json_t *value = json_object_get(s->root, key);

	return json_is_null(value) ? NULL : value;
}

static int whole_number(const struct source *s, const char *key, uint32_t max, uint32_t *out)
{
	const json_t *value = get(s, key);
	json_int_t number;

	if (!value)
		return checkpoint_fail(-EBADMSG,
				       "%s: %s is missing; it must be 1 to %u", s->path, key, max);
	if (!json_is_integer(value))
		return checkpoint_fail(-EBADMSG,
				       "%s: %s is %s; it must be a whole number, 1 to %u", s->path,
				       key, type_name(value), max);
	number = json_integer_value(value);
	if (number < 1 || number > max)
		return checkpoint_fail(-EBADMSG, "%s: %s is %lld; it must be 1 to %u", s->path, key,
				       (long long)number, max);
	*out = number;
	return 0;
}

static int whole_number_or(const struct source *s, const char *key, uint32_t max, uint32_t standard,
			   uint32_t *out)
{
	*out = standard;
	return get(s, key) ? whole_number(s, key, max, out) : 0;
}

static int fraction_or(const struct source *s, const char *key, double min, double max,
		       double standard, double *out)
{
	const json_t *value = get(s, key);
	double number;

	*out = standard;
	if (!value)
		return 0;
	if (!json_is_number(value))
		return checkpoint_fail(-EBADMSG, "%s: %s is %s; it must be a number", s->path, key,
				       type_name(value));
	number = json_number_value(value);
	if (!(number >= min && number <= max))
		return checkpoint_fail(-EBADMSG,
				       "%s: %s is %g; it must be %g to %g", s->path, key, number,
				       min, max);
	*out = number;
	return 0;
}

static int yes_or_no(const struct source *s, const char *key, enum checkpoint_said *out)
{
	const json_t *value = get(s, key);

	*out = CHECKPOINT_SAID_NOTHING;
	if (!value)
		return 0;
	if (!json_is_boolean(value))
		return checkpoint_fail(-EBADMSG,
				       "%s: %s is %s; it must be true or false", s->path, key,
				       type_name(value));
	*out = json_is_true(value) ? CHECKPOINT_SAID_YES : CHECKPOINT_SAID_NO;
	return 0;
}

static int refuse_unsupported(const struct source *s)
{
	const char *key = get(s, "quantization_config") ? "quantization_config" : NULL;
	enum checkpoint_said slides;
	int ret = yes_or_no(s, "use_sliding_window", &slides);

	if (ret)
		return ret;
	/* A window of a model that does not use it changes nothing. */
	if (get(s, "sliding_window") && slides != CHECKPOINT_SAID_NO)
		key = "sliding_window";
	else if (slides == CHECKPOINT_SAID_YES)
		key = "use_sliding_window";
	if (!key)
		return 0;
	return checkpoint_fail(-EOPNOTSUPP, "%s: %s is not supported; use a model without it",
			       s->path, key);
}

static int architecture(const struct source *s, struct checkpoint_config *c)
{
	const json_t *list = get(s, "architectures");
	const char *name = json_string_value(json_array_get(list, 0));
	const json_t *activation = get(s, "hidden_act");

	if (!name || json_array_size(list) != 1)
		return checkpoint_fail(
			-EBADMSG,
			"%s: architectures must be a list of one name, as [\"LlamaForCausalLM\"]",
			s->path);
	if (strcmp(name, "LlamaForCausalLM"))
		return checkpoint_fail(-EOPNOTSUPP,
				       "%s: architecture %.60s is not supported; LlamaForCausalLM is",
				       s->path, name);
	snprintf(c->architecture, sizeof(c->architecture), "%s", name);

	name = activation ? json_string_value(activation) : "silu";
	if (!name)
		return checkpoint_fail(-EBADMSG, "%s: hidden_act is %s; it must be a name", s->path,
				       type_name(activation));
	if (strcmp(name, "silu"))
		return checkpoint_fail(-EOPNOTSUPP,
				       "%s: hidden_act %.60s is not supported; silu is", s->path,
				       name);
	snprintf(c->activation, sizeof(c->activation), "%s", name);
	return 0;
}

static int sizes(const struct source *s, struct checkpoint_config *c)
{
	int ret;

	ret = whole_number(s, "hidden_size", 1 << 16, &c->hidden);
	if (!ret)
		ret = whole_number(s, "intermediate_size", 1 << 20, &c->ffn);
	if (!ret)
		ret = whole_number(s, "num_hidden_layers", 1 << 10, &c->layers);
	if (!ret)
		ret = whole_number(s, "num_attention_heads", 1 << 10, &c->heads);
	if (!ret)
		ret = whole_number_or(s, "num_key_value_heads", 1 << 10, c->heads, &c->kv_heads);
	if (!ret)
		ret = whole_number(s, "vocab_size", 1 << 24, &c->vocab);
	if (!ret)
		ret = whole_number_or(s, "max_position_embeddings", 1 << 24, 2048, &c->context);
	if (ret)
		return ret;
	if (c->heads % c->kv_heads)
		return checkpoint_fail(-EBADMSG,
				       "%s: num_attention_heads %u must be a multiple of num_key_value_heads %u",
				       s->path, c->heads, c->kv_heads);
	if (!get(s, "head_dim") && c->hidden % c->heads)
		return checkpoint_fail(-EBADMSG,
				       "%s: hidden_size %u must be a multiple of num_attention_heads %u where head_dim is missing",
				       s->path, c->hidden, c->heads);
	ret = whole_number_or(s, "head_dim", 1 << 10, c->hidden / c->heads, &c->head_dim);
	if (ret)
		return ret;
	if (c->head_dim % 2 || c->head_dim > 1 << 10)
		return checkpoint_fail(-EBADMSG,
				       "%s: head size %u must be even and at most 1024; RoPE turns pairs",
				       s->path, c->head_dim);
	return 0;
}

/* Newer files keep rope_theta in an object of its own, with the kind of scaling beside it. */
static int rope(const struct source *s, struct checkpoint_config *c)
{
	const json_t *scaling = get(s, "rope_scaling");
	struct source inner = { get(s, "rope_parameters"), s->path };
	const json_t *kind;
	const char *name;
	double partial;
	int ret;

	ret = fraction_or(s, "rope_theta", 1, 1e30, 10000, &c->rope_theta);
	if (ret)
		return ret;
	if (scaling)
		return checkpoint_fail(-EOPNOTSUPP,
				       "%s: rope_scaling is not supported; only models with plain RoPE are",
				       s->path);
	if (inner.root) {
		if (!json_is_object(inner.root))
			return checkpoint_fail(-EBADMSG,
					       "%s: rope_parameters is %s; it must be an object",
					       s->path, type_name(inner.root));
		kind = get(&inner, "rope_type");
		name = kind ? json_string_value(kind) : "default";
		if (!name || strcmp(name, "default"))
			return checkpoint_fail(-EOPNOTSUPP,
					       "%s: rope_type %.60s is not supported; default is",
					       s->path, name ? name : type_name(kind));
		ret = fraction_or(&inner, "rope_theta", 1, 1e30, c->rope_theta, &c->rope_theta);
		if (ret)
			return ret;
	}
	ret = fraction_or(s, "partial_rotary_factor", 1e-30, 1, 1, &partial);
	if (!ret && inner.root)
		ret = fraction_or(&inner, "partial_rotary_factor", 1e-30, 1, partial, &partial);
	if (!ret && partial != 1)
		ret = checkpoint_fail(-EOPNOTSUPP,
				      "%s: partial_rotary_factor %g is not supported; 1 is",
				      s->path, partial);
	return ret;
}

static int token_id(const struct source *s, const char *key, const json_t *value, uint32_t vocab,
		    uint32_t *out)
{
	json_int_t id = json_integer_value(value);

	if (!json_is_integer(value))
		return checkpoint_fail(-EBADMSG,
				       "%s: %s holds %s; it must be a token id", s->path, key,
				       type_name(value));
	if (id < 0 || id >= vocab)
		return checkpoint_fail(-EBADMSG, "%s: %s is %lld; it must be below vocab_size, %u",
				       s->path, key, (long long)id, vocab);
	*out = id;
	return 0;
}

/* Absent keys mean 1 and 2, null means none; there may be several ends. */
static int special_tokens(const struct source *s, struct checkpoint_config *c)
{
	const json_t *bos = json_object_get(s->root, "bos_token_id");
	const json_t *eos = json_object_get(s->root, "eos_token_id");
	uint32_t id = 1;
	size_t i;
	int ret;

	c->bos = -1;
	if (bos ? !json_is_null(bos) : c->vocab > 1) {
		ret = bos ? token_id(s, "bos_token_id", bos, c->vocab, &id) : 0;
		if (ret)
			return ret;
		c->bos = id;
	}
	if (!eos) {
		c->eos_count = c->vocab > 2;
		c->eos[0] = 2;
		return 0;
	}
	if (json_is_null(eos))
		return 0;
	if (!json_is_array(eos)) {
		c->eos_count = 1;
		return token_id(s, "eos_token_id", eos, c->vocab, &c->eos[0]);
	}
	if (json_array_size(eos) > CHECKPOINT_EOS_MAX)
		return checkpoint_fail(-EOPNOTSUPP,
				       "%s: eos_token_id lists %zu tokens; at most %d are supported",
				       s->path, json_array_size(eos), CHECKPOINT_EOS_MAX);
	c->eos_count = json_array_size(eos);
	for (i = 0; i < c->eos_count; i++) {
		ret = token_id(s, "eos_token_id", json_array_get(eos, i), c->vocab, &c->eos[i]);
		if (ret)
			return ret;
	}
	return 0;
}

static int parse(const struct source *s, struct checkpoint_config *c)
{
	enum checkpoint_said tied = CHECKPOINT_SAID_NOTHING;
	double eps;
	int ret;

	ret = architecture(s, c);
	if (!ret)
		ret = refuse_unsupported(s);
	if (!ret)
		ret = sizes(s, c);
	if (!ret)
		ret = rope(s, c);
	if (!ret)
		ret = fraction_or(s, "rms_norm_eps", 1e-30, 1, 1e-6, &eps);
	if (!ret)
		ret = yes_or_no(s, "tie_word_embeddings", &tied);
	if (!ret)
		ret = yes_or_no(s, "attention_bias", &c->attention_bias);
	if (!ret)
		ret = yes_or_no(s, "mlp_bias", &c->mlp_bias);
	if (!ret)
		ret = special_tokens(s, c);
	c->is_tied = tied == CHECKPOINT_SAID_YES;
	if (!ret)
		c->norm_eps = (float)eps;
	return ret;
}

int checkpoint_parse_config(const char *text, size_t bytes, const char *path,
			    struct checkpoint_config *config)
{
	json_error_t why;
	json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
	struct source s = { root, path };
	int ret;

	memset(config, 0, sizeof(*config));
	if (!root)
		return checkpoint_fail(-EBADMSG, "%s: line %d: %s; fetch the file again", path,
				       why.line, why.text);
	if (json_is_object(root))
		ret = parse(&s, config);
	else
		ret = checkpoint_fail(-EBADMSG, "%s: it holds %s; it must be an object", path,
				      type_name(root));
	json_decref(root);
	return ret;
}
