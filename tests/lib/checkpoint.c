// SPDX-License-Identifier: MIT
/*
 * Checkpoints: one good model of 172 weights, and many that are good but for one thing. Each row of
 * the tables below replaces a piece of its config.json, header, index or data, and names the error
 * that must come of it.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "lib/checkpoint/checkpoint.h"
#include "tests/lib/directory.h"
#include "tests/tap.h"

/* ---- The good one ---- */

static void good_model(void)
{
	static const float halves[] = {
		1, 5.9604644775390625e-08f, -0.0f, 65504, 6.09755516052246e-05f, -2, 1, 1
	};
	const struct checkpoint_config *c;
	struct checkpoint_tensor t;
	struct checkpoint *cp;
	struct files f;
	uint64_t rows, cols;
	float out[20];
	char path[64];
	bool same;
	int i;

	good(&f);
	/* Edges of BF16, in q_proj: smallest subnormal, largest, -0 */
	memcpy(f.data + 136, (unsigned char []) { 0x01, 0x00, 0x7f, 0xff, 0x00, 0x80 }, 6);
	/* and of F32: smallest subnormal, -largest */
	memcpy(f.data + 72, (unsigned char []) { 1, 0, 0, 0, 0xff, 0xff, 0x7f, 0xff }, 8);
	put(&f);
	put_file("tokenizer.model", "x", 1);
	if (!ok(!checkpoint_open(dir, error, sizeof(error), &cp), "a good model opens")) {
		printf("# %s\n", error);
		return;
	}
	c = checkpoint_config(cp);
	ok(!strcmp(c->architecture, "LlamaForCausalLM") && !strcmp(c->activation, "silu") &&
	   c->hidden == 4 && c->ffn == 6 && c->layers == 1 && c->heads == 2 && c->kv_heads == 1 &&
	   c->head_dim == 2 && c->vocab == 5 && c->context == 32, "its sizes are config.json's");
	ok(c->norm_eps == 1e-5f && c->rope_theta == 500000 && !c->is_tied &&
		   !memchr(c->has_bias, true, sizeof(c->has_bias)),
	   "so are its numbers and switches");
	ok(c->bos == 0 && c->eos_count == 2 && c->eos[0] == 3 && c->eos[1] == 4,
	   "and its token ids");
	snprintf(path, sizeof(path), "%s/tokenizer.model", dir);
	ok(checkpoint_tokenizer(cp) && !strcmp(checkpoint_tokenizer(cp), path),
	   "its tokenizer is found");
	ok(checkpoint_tensor_count(cp) == 12 && checkpoint_parameters(cp) == 172,
	   "all tensors and parameters are counted");
	checkpoint_tensor(cp, 2, &t);
	ok(!strcmp(t.name, "model.layers.0.input_layernorm.weight") && t.type == CHECKPOINT_BF16 &&
	   t.rows == 1 && t.cols == 4, "tensors are listed by name");
	ok(!checkpoint_shape(cp, "model.layers.0.mlp.down_proj.weight", &rows, &cols) &&
		   rows == 4 && cols == 6,
	   "a shape is found by name");

	ok(!checkpoint_rows_f32(cp, "model.embed_tokens.weight", 0, 2, out) &&
		   !memcmp(out, halves, sizeof(halves)),
	   "F16 is exact: subnormals, minus zero, the largest");
	ok(!checkpoint_rows_f32(cp, "model.layers.0.self_attn.q_proj.weight", 0, 1, out) &&
		   out[0] == 9.18354961579912e-41f && out[1] == -3.38953138925153547590e38f &&
		   out[2] == 0 && signbit(out[2]) && out[3] == 1,
	   "BF16 is exact: subnormals, the largest, minus zero");
	ok(!checkpoint_rows_f32(cp, "lm_head.weight", 0, 5, out), "all rows of F32 are read");
	for (same = true, i = 0; i < 18; i++)
		same &= out[i] == i * 0.5f;
	ok(same && out[18] == 1.40129846432481707e-45f && out[19] == -3.40282346638528860e38f,
	   "F32 is exact: subnormals, the largest");
	ok(!checkpoint_rows_f32(cp, "lm_head.weight", 3, 1, out) && out[0] == 6 && out[3] == 7.5f,
	   "a row from the middle is that row");
	ok(!checkpoint_rows_f32(cp, "lm_head.weight", 5, 0, out),
	   "no rows behind the last are fine");

	ok(checkpoint_rows_f32(cp, "lm_head.weight", 4, 2, out) == -EINVAL &&
		   strstr(checkpoint_error(), "has 5 rows, not 2 from 4 on"),
	   "a row behind the last is refused");
	ok(checkpoint_rows_f32(cp, "lm_head.weight", UINT64_MAX, 2, out) == -EINVAL,
	   "a row number that would wrap is refused");
	ok(checkpoint_rows_f32(cp, "lm_tail.weight", 0, 1, out) == -ENOENT &&
	   strstr(checkpoint_error(), "no tensor lm_tail.weight"), "an unknown name is refused");
	ok(checkpoint_shape(cp, "lm_tail.weight", NULL, NULL) == -ENOENT, "so is its shape");

	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	if (truncate(path, 1000))
		die(path);
	ok(checkpoint_rows_f32(cp, "model.layers.0.mlp.down_proj.weight", 0, 4, out) == -EIO &&
		   strstr(checkpoint_error(), "became shorter"),
	   "a file that shrinks while it is open is an error");
	checkpoint_close(cp);
	checkpoint_close(NULL);
	clean();
}

/* ---- config.json ---- */

static void broken_configs(void)
{
	static const struct {
		const char *what, *from, *to;
		int want;
		const char *text;
	} rows[] = {
		{ "an empty config.json", config, "", -EBADMSG, "line 1" },
		{ "one that is cut off", "\"hidden_act\": \"silu\"", "\"hidden_act\": \"si",
		  -EBADMSG, "line 1" },
		{ "one that holds a list", config, "[4]", -EBADMSG, "must be an object" },
		{ "a key given twice", "{", "{\"hidden_size\": 5, ", -EBADMSG, "uplicate" },
		{ "no architecture", "[\"LlamaForCausalLM\"]", "[]", -EBADMSG,
		  "architectures must be" },
		{ "two architectures", "\"LlamaForCausalLM\"", "\"LlamaForCausalLM\", \"X\"",
		  -EBADMSG, "architectures must be" },
		{ "an unknown architecture", "LlamaFor", "GPTNeoXFor", -EOPNOTSUPP,
		  "architecture GPTNeoXForCausalLM is not supported; LlamaForCausalLM is" },
		{ "an architecture with control characters", "LlamaFor", "\\u001b[2J\\nX",
		  -EOPNOTSUPP, "?[2J?X" },
		{ "an unknown activation", "silu", "gelu", -EOPNOTSUPP,
		  "hidden_act gelu is not supported" },
		{ "an activation that is a number", "\"silu\"", "1", -EBADMSG,
		  "hidden_act is an integer" },
		{ "a missing size", "\"hidden_size\": 4,", "", -EBADMSG, "hidden_size is missing" },
		{ "a size of 0", "\"hidden_size\": 4", "\"hidden_size\": 0", -EBADMSG,
		  "hidden_size is 0; it must be 1 to 65536" },
		{ "a negative size", "\"vocab_size\": 5", "\"vocab_size\": -5", -EBADMSG,
		  "vocab_size is -5" },
		{ "a size beyond 64 bits", "\"vocab_size\": 5",
		  "\"vocab_size\": 99999999999999999999", -EBADMSG, "line 1" },
		{ "a size beyond its limit", "_layers\": 1", "_layers\": 1025", -EBADMSG,
		  "1 to 1024" },
		{ "a size that is a fraction", "\"vocab_size\": 5", "\"vocab_size\": 5.5", -EBADMSG,
		  "is a fraction" },
		{ "a size that is text", "\"vocab_size\": 5", "\"vocab_size\": \"5\"", -EBADMSG,
		  "is a string" },
		{ "heads that do not divide", "value_heads\": 1", "value_heads\": 3", -EBADMSG,
		  "multiple of num_key_value_heads 3" },
		{ "a head size that is a switch", "\"head_dim\": 2", "\"head_dim\": true", -EBADMSG,
		  "head_dim is true" },
		{ "an odd head size", "\"head_dim\": 2", "\"head_dim\": 3", -EBADMSG,
		  "head size 3 must be even" },
		{ "an epsilon of 0", "1e-05", "0", -EBADMSG, "rms_norm_eps is 0" },
		{ "an epsilon that is not a number", "1e-05", "NaN", -EBADMSG, "line 1" },
		{ "an epsilon of text", "1e-05", "\"1\"", -EBADMSG, "rms_norm_eps is a string" },
		{ "a negative rope_theta", "500000.0", "-1", -EBADMSG, "rope_theta is -1" },
		{ "scaled RoPE", "{", "{\"rope_scaling\": {\"rope_type\": \"llama3\"}, ",
		  -EOPNOTSUPP, "rope_scaling is not supported" },
		{ "scaled RoPE in its new place", "{",
		  "{\"rope_parameters\": {\"rope_type\": \"yarn\"}, ", -EOPNOTSUPP,
		  "rope_type yarn" },
		{ "RoPE parameters of text", "{", "{\"rope_parameters\": \"x\", ", -EBADMSG,
		  "rope_parameters is a string" },
		{ "RoPE on a part of a head", "{", "{\"partial_rotary_factor\": 0.5, ", -EOPNOTSUPP,
		  "partial_rotary_factor 0.5" },
		{ "a sliding window", "{", "{\"sliding_window\": 4096, ", -EOPNOTSUPP,
		  "sliding_window" },
		{ "a sliding window that is used", "{",
		  "{\"sliding_window\": 4096, \"use_sliding_window\": true, ", -EOPNOTSUPP,
		  "sliding_window" },
		{ "a sliding window of a size that is not said", "{",
		  "{\"use_sliding_window\": true, ", -EOPNOTSUPP, "use_sliding_window" },
		{ "a switch of the window that is a number", "{", "{\"use_sliding_window\": 0, ",
		  -EBADMSG, "use_sliding_window is an integer" },
		{ "a quantised model", "{", "{\"quantization_config\": {}, ", -EOPNOTSUPP,
		  "quantization_config" },
		{ "a switch that is a number", "\"mlp_bias\": false", "\"mlp_bias\": 0", -EBADMSG,
		  "mlp_bias is an integer" },
		{ "a bos outside the vocabulary", "\"bos_token_id\": 0", "\"bos_token_id\": 5",
		  -EBADMSG, "must be below vocab_size, 5" },
		{ "an eos that is negative", "[3, 4]", "-1", -EBADMSG, "eos_token_id is -1" },
		{ "an eos of text", "[3, 4]", "[3, \"4\"]", -EBADMSG, "holds a string" },
		{ "seventeen ends", "[3, 4]", "[1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1,1]", -EOPNOTSUPP,
		  "lists 17 tokens" },
		{ "biases that the file lacks", "\"mlp_bias\": false", "\"mlp_bias\": true",
		  -ENOENT, "mlp.gate_proj.bias is missing" },
		{ "more layers than the file has", "_layers\": 1", "_layers\": 2", -ENOENT,
		  "tensor model.layers.1.input_layernorm.weight is missing" },
		{ "another vocabulary than the file's", "\"vocab_size\": 5", "\"vocab_size\": 6",
		  -EBADMSG, "is 5 x 4, by config.json it must be 6 x 4" },
	};
	struct files f;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		good(&f);
		replace(f.config, sizeof(f.config), rows[i].from, rows[i].to);
		put(&f);
		refused(rows[i].what, rows[i].want, rows[i].text);
	}

	good(&f);
	replace(f.config, sizeof(f.config), "\"head_dim\": 2, ", "");
	replace(f.config, sizeof(f.config), "attention_heads\": 2", "attention_heads\": 3");
	put(&f);
	refused("a hidden size without whole heads", -EBADMSG,
		"hidden_size 4 must be a multiple of num_attention_heads 3");

	good(&f);
	replace(f.config, sizeof(f.config), "\"head_dim\": 2, ", "");
	replace(f.config, sizeof(f.config), "\"rope_theta\": 500000.0",
		"\"rope_parameters\": {\"rope_type\": \"default\", \"rope_theta\": 7}");
	replace(f.config, sizeof(f.config), "\"bos_token_id\": 0", "\"bos_token_id\": null");
	replace(f.config, sizeof(f.config), "[3, 4]", "null");
	put(&f);
	opens("a config.json with absent head_dim and rope_theta in its new place");
}

/* Qwen2 and its kin name a window that they do not use. */
static void unused_window(void)
{
	struct files f;

	good(&f);
	replace(f.config, sizeof(f.config), "{",
		"{\"sliding_window\": 4096, \"use_sliding_window\": false, ");
	put(&f);
	opens("a config.json with a sliding window that is not used");
}

/* Whether the bias of q, of o and of gate is used, where only q and gate have one. */
static void biases(void)
{
	static const char bias[] =
		"," T(L "self_attn.q_proj.bias", "BF16", "[4]", "384", "392")
		"," T(L "mlp.gate_proj.bias", "BF16", "[6]", "392", "404") "}   ";
	static const struct {
		const char *what, *from, *to;
	} rows[] = {
		{ "that config.json announces with others",
		  "\"attention_bias\": false, \"mlp_bias\": false",
		  "\"attention_bias\": true, \"mlp_bias\": true" },
		{ "that config.json does not speak of",
		  "\"attention_bias\": false, \"mlp_bias\": false,", "" },
	};
	const struct checkpoint_config *c;
	struct checkpoint *cp;
	struct files f;

	for (size_t i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		good(&f);
		replace(f.config, sizeof(f.config), rows[i].from, rows[i].to);
		replace(f.header, sizeof(f.header), "}   ", bias);
		memset(f.data + f.data_bytes, 0, 20);
		f.data_bytes += 20;
		put(&f);
		if (!ok(!checkpoint_open(dir, error, sizeof(error), &cp), "biases %s: it opens",
			rows[i].what)) {
			printf("# %s\n", error);
			continue;
		}
		c = checkpoint_config(cp);
		ok(c->has_bias[CHECKPOINT_Q] && !c->has_bias[CHECKPOINT_K] &&
			   !c->has_bias[CHECKPOINT_V] && !c->has_bias[CHECKPOINT_O] &&
			   c->has_bias[CHECKPOINT_GATE] && !c->has_bias[CHECKPOINT_UP] &&
			   !c->has_bias[CHECKPOINT_DOWN],
		   "biases %s: those are used that the file has", rows[i].what);
		checkpoint_close(cp);
	}

	good(&f);
	replace(f.header, sizeof(f.header), "}   ", bias);
	memset(f.data + f.data_bytes, 0, 20);
	f.data_bytes += 20;
	put(&f);
	refused("a bias that config.json denies", -EOPNOTSUPP, "bias is no part of");
}

/* What the keys that may be absent mean then. */
static void defaults(void)
{
	static const char *const absent[] = { " \"rms_norm_eps\": 1e-05,",
					      " \"rope_theta\": 500000.0,",
					      " \"tie_word_embeddings\": false,",
					      " \"attention_bias\": false,",
					      " \"mlp_bias\": false,",
					      " \"bos_token_id\": 0,",
					      " \"eos_token_id\": [3, 4],",
					      " \"max_position_embeddings\": 32,",
					      " \"hidden_act\": \"silu\",",
					      " \"head_dim\": 2," };
	const struct checkpoint_config *c;
	struct checkpoint *cp;
	struct files f;
	size_t i;

	good(&f);
	for (i = 0; i < sizeof(absent) / sizeof(*absent); i++)
		replace(f.config, sizeof(f.config), absent[i], "");
	put(&f);
	if (!ok(!checkpoint_open(dir, error, sizeof(error), &cp),
		"a config.json of sizes alone opens"))
		return;
	c = checkpoint_config(cp);
	ok(c->norm_eps == 1e-6f && c->rope_theta == 10000 && !c->is_tied &&
		   !memchr(c->has_bias, true, sizeof(c->has_bias)) && c->bos == 1 &&
		   c->eos_count == 1 && c->eos[0] == 2 && c->context == 2048 &&
		   !strcmp(c->activation, "silu") && c->head_dim == 2,
	   "what it leaves out has the usual value");
	ok(!checkpoint_tokenizer(cp), "a model without a tokenizer says so");
	checkpoint_close(cp);
}

/* ---- safetensors ---- */

static void broken_headers(void)
{
	static const struct {
		const char *what, *from, *to;
		int want;
		const char *text;
	} rows[] = {
		{ "a header that is no JSON", "{", "x", -EBADMSG, "byte 1 of its header" },
		{ "a header cut inside a name", "[336,384]}}   ", "[336,384", -EBADMSG,
		  "of its header" },
		{ "a bracket too many", "[5,4]", "[5,4]]", -EBADMSG, "of its header" },
		{ "a name given twice", "self_attn.k_proj", "self_attn.q_proj", -EBADMSG,
		  "uplicate" },
		{ "a missing tensor", "mlp.up_proj", "mlp.left_proj", -ENOENT,
		  "tensor model.layers.0.mlp.up_proj.weight is missing" },
		{ "a name with control characters", "model.norm.weight", "model\\n\\u001b.weight",
		  -ENOENT, "model.norm.weight is missing" },
		{ "an unknown type", "\"F16\"", "\"Q4\"", -EBADMSG,
		  "tensor model.embed_tokens.weight: dtype Q4 is not known" },
		{ "a type that is a number", "\"F16\"", "16", -EBADMSG, "dtype (none)" },
		{ "weights of integers", "\"F16\"", "\"I16\"", -EOPNOTSUPP,
		  "is of type I16; only F32, F16 and BF16" },
		{ "a wrong shape", "[5,4]", "[4,5]", -EBADMSG,
		  "tensor lm_head.weight is 4 x 5, by config.json it must be 5 x 4" },
		{ "a vector for a matrix", "[5,4]", "[20]", -EBADMSG, "is a vector of 20" },
		{ "a matrix for a vector", "[4],\"data_offsets\":[120",
		  "[1,4],\"data_offsets\":[120", -EBADMSG, "is 1 x 4" },
		{ "three dimensions", "[5,4]", "[5,2,2]", -EBADMSG, "has 3 dimensions" },
		{ "nine dimensions", "[5,4]", "[5,4,1,1,1,1,1,1,1]", -EBADMSG, "at most 8 sizes" },
		{ "a shape that is no list", "[5,4]", "20", -EBADMSG, "shape must be a list" },
		{ "a negative dimension", "[5,4]", "[-5,-4]", -EBADMSG,
		  "dimension 0 of its shape" },
		{ "a dimension that is a fraction", "[5,4]", "[5,4.0]", -EBADMSG,
		  "dimension 1 of its shape" },
		{ "a shape that overflows", "[5,4]", "[4294967296,4294967296,16]", -EBADMSG,
		  "more elements than any file" },
		{ "a dimension that overflows", "[5,4]",
		  "[1,9223372036854775807,9223372036854775807]", -EBADMSG, "dimension 2" },
		{ "a size beyond its bytes", "[5,4]", "[6,4]", -EBADMSG,
		  "has 80 bytes, by its shape and type F32 it must have 96" },
		{ "offsets in descending order", "[0,80]", "[80,0]", -EBADMSG,
		  "two ascending numbers" },
		{ "a negative offset", "[0,80]", "[-80,0]", -EBADMSG, "two ascending numbers" },
		{ "one offset", "[0,80]", "[80]", -EBADMSG, "two ascending numbers" },
		{ "an offset of text", "[0,80]", "[\"0\",80]", -EBADMSG, "two ascending numbers" },
		{ "a tensor behind the end", "[336,384]", "[352,400]", -EBADMSG,
		  "ends at byte 400 of the data, and the file has 384; it is truncated" },
		{ "overlapping tensors", "[80,120]", "[78,118]", -EBADMSG,
		  "tensors lm_head.weight and model.embed_tokens.weight overlap" },
		{ "two tensors in one place", "[184,200]", "[168,184]", -EBADMSG, "overlap" },
		{ "bytes without a tensor", "[168,184]", "[184,200]", -EBADMSG,
		  "16 bytes before tensor " L "self_attn." },
		{ "an unknown key", "\"shape\":[5,4]", "\"shape\":[5,4],\"strides\":[4,1]",
		  -EBADMSG, "and nothing else" },
		{ "a missing key", "\"shape\":[5,4],", "", -EBADMSG, "and nothing else" },
		{ "a tensor that is a number", "\"__metadata__\":{\"format\":\"pt\"}", "\"x\":1",
		  -EBADMSG, "tensor x: it must have" },
		{ "a tensor without a name", "\"lm_head.weight\"", "\"\"", -EBADMSG,
		  "has 0 bytes; it must be 1 to 255" },
		{ "a tensor that the model has no place for",
		  "{\"__metadata__\":{\"format\":\"pt\"}",
		  "{" T("model.layers.0.self_attn.q_norm.weight", "BF16", "[0]", "0", "0"),
		  -EOPNOTSUPP, "q_norm.weight is no part of LlamaForCausalLM" },
	};
	char deep[2501];
	struct files f;
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		good(&f);
		replace(f.header, sizeof(f.header), rows[i].from, rows[i].to);
		put(&f);
		refused(rows[i].what, rows[i].want, rows[i].text);
	}
	good(&f);
	snprintf(f.header, sizeof(f.header), "[]");
	put(&f);
	refused("a header that is an empty list", -EBADMSG, "its header must be an object");
	good(&f);
	memset(deep, '[', 2500);
	deep[2500] = 0;
	snprintf(f.header, sizeof(f.header), "{\"x\":%s", deep);
	put(&f);
	refused("a header nested 2,500 deep", -EBADMSG, "of its header");

	good(&f);
	replace(f.header, sizeof(f.header), "{\"__metadata__\":{\"format\":\"pt\"}",
		"{" T("model.layers.0.self_attn.rotary_emb.inv_freq", "I64", "[0]", "0", "0"));
	put(&f);
	opens("a model with the tables of an older library");
	good(&f);
	replace(f.config, sizeof(f.config), "\"tie_word_embeddings\": false",
		"\"tie_word_embeddings\": true");
	put(&f);
	opens("a tied model that keeps its head");
}

static void broken_files(void)
{
	unsigned char small[16] = { 0 };
	struct files f;
	char path[64];

	good(&f);
	f.data_bytes = DATA_BYTES - 1;
	put(&f);
	refused("a file one byte short", -EBADMSG,
		"ends at byte 384 of the data, and the file has 383; it is truncated");
	f.data_bytes = DATA_BYTES + 1;
	put(&f);
	refused("a file one byte long", -EBADMSG, "1 bytes at its end belong to no tensor");
	put_file("model.safetensors", "", 0);
	refused("an empty file", -EBADMSG, "it has 0 bytes");
	memset(small, 0xff, 8);
	put_file("model.safetensors", small, sizeof(small));
	refused("a header longer than the file", -EBADMSG,
		"its header has 18446744073709551615 bytes, and 8 follow");
	put_file("model.safetensors", "version https://git-lfs.github.com/spec/v1\n", 43);
	refused("a pointer in place of a file", -EBADMSG, "run git lfs pull");

	put(&f);
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	put_file("model.safetensors", "\1\0\0\2\0\0\0", 8);
	if (truncate(path, 40 << 20))
		die(path);
	refused("a header of 32 MiB and a byte", -EBADMSG, "at most 33554432 are read");
	remove_file("model.safetensors");
	if (mkfifo(path, 0600))
		die(path);
	refused("a pipe in place of a file", -EBADMSG, "not a regular file");
	remove_file("model.safetensors");
	refused("a directory without weights", -ENOENT, "neither model.safetensors nor");
	put_file("pytorch_model.bin", "x", 1);
	refused("a directory with weights of another kind", -ENOENT, "convert it to safetensors");
	remove_file("config.json");
	refused("a directory without config.json", -ENOENT, "config.json: no such file");
	put_file("config.json", "", 0);
	snprintf(path, sizeof(path), "%s/config.json", dir);
	if (truncate(path, (1 << 20) + 1))
		die(path);
	refused("a config.json of a megabyte", -EBADMSG, "at most 1048576 are read");
	clean();
}

static void broken_directories(void)
{
	struct checkpoint *cp;
	char path[64], small[8];

	snprintf(path, sizeof(path), "%s/nothing", dir);
	ok(checkpoint_open(path, error, sizeof(error), &cp) == -ENOENT && !cp &&
	   strstr(error, "nothing: No such file"), "a directory that is not there is refused");
	put_file("config.json", "{}", 2);
	snprintf(path, sizeof(path), "%s/config.json", dir);
	ok(checkpoint_open(path, error, sizeof(error), &cp) == -ENOTDIR &&
		   strstr(error, "name the one that holds config.json"),
	   "a file in place of a directory is refused");
	ok(checkpoint_open(path, NULL, 0, &cp) == -ENOTDIR &&
		   strstr(checkpoint_error(), "config.json"),
	   "an error needs no buffer");
	ok(checkpoint_open(path, small, sizeof(small), &cp) == -ENOTDIR && strlen(small) == 7,
	   "an error is cut to its buffer");
	clean();
}

static void bad_weights(void)
{
	static const struct {
		const char *what;
		unsigned int at, bytes;
		unsigned char value[4];
		const char *tensor;
		const char *text;
	} rows[] = {
		{ "a NaN in F32", 0, 4, { 1, 0, 0x80, 0x7f }, "lm_head.weight",
		  "element 0 (row 0, column 0) is NaN" },
		{ "an infinity in F32", 76, 4, { 0, 0, 0x80, 0xff }, "lm_head.weight",
		  "element 19 (row 4, column 3) is infinite" },
		{ "a NaN in F16", 90, 2, { 0, 0x7e }, "model.embed_tokens.weight",
		  "element 5 (row 1, column 1) is NaN" },
		{ "an infinity in F16", 118, 2, { 0, 0x7c }, "model.embed_tokens.weight",
		  "element 19 (row 4, column 3) is infinite" },
		{ "a NaN in BF16", 120, 2, { 0xc0, 0xff }, "model.norm.weight",
		  "element 0 (row 0, column 0) is NaN" },
		{ "an infinity in BF16", 382, 2, { 0x80, 0x7f }, L "mlp.down_proj.weight",
		  "element 23 (row 3, column 5) is infinite" },
	};
	struct checkpoint *cp;
	struct files f;
	uint64_t n;
	float out[24];
	size_t i;

	for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		good(&f);
		memcpy(f.data + rows[i].at, rows[i].value, rows[i].bytes);
		put(&f);
		if (!ok(!checkpoint_open(dir, error, sizeof(error), &cp), "a model with %s opens",
			rows[i].what))
			continue;
		checkpoint_shape(cp, rows[i].tensor, &n, NULL);
		ok(checkpoint_rows_f32(cp, rows[i].tensor, 0, n, out) == -EBADMSG &&
			   strstr(checkpoint_error(), rows[i].tensor) &&
			   strstr(checkpoint_error(), rows[i].text),
		   "%s is refused when it is read, and named", rows[i].what);
		checkpoint_close(cp);
	}
	clean();
}

/* ---- Shards ---- */

#define A "\"a.safetensors\""
#define B "\"b.safetensors\""
static const char index_json[] =
	"{\"metadata\": {\"total_size\": 384}, \"weight_map\": {\"lm_head.weight\": " A ","
	" \"model.embed_tokens.weight\": " A ", \"model.norm.weight\": " A ","
	" \"model.layers.0.mlp.up_proj.weight\": " B "}}";

/* b's offsets begin at 128 of the whole; as a file of its own they begin at 0. */
static void put_shards(const char *index, const char *a, const char *b)
{
	char moved[4096], *to = moved;
	struct files f;
	int n;

	for (n = 0; *b; b += n) {
		unsigned int from, end;

		if (sscanf(b, "data_offsets\":[%u,%u]%n", &from, &end, &n) == 2) {
			to += sprintf(to, "data_offsets\":[%u,%u]", from - 128, end - 128);
		} else {
			*to++ = *b;
			n = 1;
		}
	}
	*to = 0;
	good(&f);
	put_file("config.json", f.config, strlen(f.config));
	put_file("model.safetensors.index.json", index, strlen(index));
	put_safetensors("a.safetensors", a, f.data, 128);
	put_safetensors("b.safetensors", moved, f.data + 128, DATA_BYTES - 128);
}

static void shards(void)
{
	static const struct {
		const char *what, *from, *to;
		int want;
		const char *text;
	} rows[] = {
		{ "an index that is no JSON", "{", "", -EBADMSG, "index.json: line 1" },
		{ "an index without a map", "weight_map", "map", -EBADMSG, "weight_map must be" },
		{ "a map that is a list", index_json, "{\"weight_map\": [1]}", -EBADMSG,
		  "weight_map must be" },
		{ "a tensor given twice", "model.norm.weight", "lm_head.weight", -EBADMSG,
		  "uplicate" },
		{ "a tensor in the wrong shard", "model.norm.weight\": " A,
		  "model.norm.weight\": " B, -EBADMSG,
		  "tensor model.norm.weight is not in b.safetensors" },
		{ "a tensor in no shard", "model.norm.weight", "model.nerm.weight", -EBADMSG,
		  "is not in a.safetensors" },
		{ "a shard that is not there", B, "\"c.safetensors\"", -ENOENT,
		  "c.safetensors: No such file" },
		{ "a shard in another directory", B, "\"../b.safetensors\"", -EBADMSG,
		  "without a slash" },
		{ "a shard by its absolute path", B, "\"/b.safetensors\"", -EBADMSG,
		  "without a slash" },
		{ "a shard that is a number", B, "1", -EBADMSG, "without a slash" },
		{ "a shard of another kind", B, "\"b.bin\"", -EBADMSG, "ends in .safetensors" },
		{ "a shard that is hidden", B, "\".safetensors\"", -EBADMSG,
		  "ends in .safetensors" },
	};
	char text[1024], twice[1024];
	struct checkpoint *cp;
	float out[24];
	size_t i;

	put_shards(index_json, head, layer);
	if (ok(!checkpoint_open(dir, error, sizeof(error), &cp), "a model in two shards opens")) {
		ok(checkpoint_tensor_count(cp) == 12 &&
			   !checkpoint_rows_f32(cp, "model.layers.0.mlp.down_proj.weight", 0, 4,
						out) &&
			   out[23] == 1 && !checkpoint_rows_f32(cp, "lm_head.weight", 4, 1, out) &&
			   out[3] == 9.5f,
		   "tensors of both shards are read");
		checkpoint_close(cp);
	} else {
		printf("# %s\n", error);
	}
	for (i = 0; i < sizeof(rows) / sizeof(*rows); i++) {
		snprintf(text, sizeof(text), "%s", index_json);
		replace(text, sizeof(text), rows[i].from, rows[i].to);
		put_shards(text, head, layer);
		refused(rows[i].what, rows[i].want, rows[i].text);
	}
	snprintf(twice, sizeof(twice), "%s", head);
	replace(twice, sizeof(twice), "\"__metadata__\":{\"format\":\"pt\"}",
		T(L "mlp.up_proj.weight", "BF16", "[0]", "0", "0"));
	put_shards(index_json, twice, layer);
	refused("a tensor in two shards", -EBADMSG, "a.safetensors and in");
	clean();
}

/* ---- Synthetic ---- */

/* Reads of one row and of many, forwards and backwards, give the same bits. */
static void any_order(struct checkpoint *cp, const char *name, uint64_t rows, uint64_t cols)
{
	float *all = malloc(rows * cols * sizeof(*all)),
	      *some = malloc(rows * cols * sizeof(*some));
	uint64_t r, n;
	int failed;

	if (!all || !some)
		die("malloc");
	failed = checkpoint_rows_f32(cp, name, 0, rows, all);
	for (r = rows; r > 0; r -= n) {
		n = r % 7 < r ? r % 7 + (r % 7 == 0) : r;
		failed |= checkpoint_rows_f32(cp, name, r - n, n, some + (r - n) * cols);
	}
	ok(!failed && !memcmp(all, some, rows * cols * sizeof(*all)),
	   "weights of %s are the same in any order and pieces", name);
	free(all);
	free(some);
}

static void synthetic(void)
{
	static const struct {
		const char *shape;
		uint64_t parameters;
		size_t tensors;
	} shapes[] = {
		{ "llama2-7b", 6738415616, 291 }, { "llama-1b", 1100048384, 201 },
		{ "llama-110m", 109529856, 110 }, { "llama-15m", 15191712, 56 },
		{ "tiny", 161680, 21 },
	};
	const struct checkpoint_config *c;
	struct checkpoint *cp, *other;
	double sum = 0, squares = 0;
	float out[4096], more[4096];
	uint64_t rows, cols;
	size_t i;

	for (i = 0; i < sizeof(shapes) / sizeof(*shapes); i++) {
		if (!ok(!checkpoint_synthetic(shapes[i].shape, 1, error, sizeof(error), &cp),
			"there is a %s", shapes[i].shape))
			continue;
		ok(checkpoint_parameters(cp) == shapes[i].parameters &&
			   checkpoint_tensor_count(cp) == shapes[i].tensors &&
			   strstr(checkpoint_synthetic_shapes(), shapes[i].shape),
		   "it has %llu parameters", (unsigned long long)shapes[i].parameters);
		checkpoint_close(cp);
	}
	ok(checkpoint_synthetic("llama3", 1, error, sizeof(error), &cp) == -EINVAL && !cp &&
	   strstr(error, "no synthetic model llama3; there are llama2-7b,"), "another is refused");

	/* Worked out by hand from the paragraph on top of checkpoint/synthetic.c. */
	if (checkpoint_synthetic("tiny", 7, error, sizeof(error), &cp) ||
	    checkpoint_synthetic("tiny", 8, error, sizeof(error), &other))
		die(error);
	ok(!checkpoint_rows_f32(cp, "model.layers.1.mlp.down_proj.weight", 0, 2, out) &&
	   out[0] == 0.04304540157318115f && out[1] == 0.05982581153512001f &&
	   out[2] == -0.046875711530447006f && out[171] == 0.029912905767560005f &&
	   out[172] == -0.058913834393024445f, "weights are the stated generator's");
	ok(!checkpoint_rows_f32(cp, "model.layers.1.mlp.down_proj.weight", 79, 1, out) &&
	   out[171] == -0.012038120999932289f, "the last one too");
	ok(!checkpoint_rows_f32(cp, "model.norm.weight", 0, 1, out) &&
		   out[0] == 1.015309453010559f && out[79] == 1.0698492527008057f,
	   "norms lie around 1");
	ok(!checkpoint_rows_f32(cp, "lm_head.weight", 0, 2, out) &&
	   !checkpoint_rows_f32(other, "lm_head.weight", 0, 2, more) && memcmp(out, more, 160 * 4),
	   "another seed gives other weights");
	any_order(cp, "lm_head.weight", 300, 80);
	any_order(cp, "model.layers.0.mlp.down_proj.weight", 80, 172);
	c = checkpoint_config(cp);
	ok(c->hidden == 80 && c->ffn == 172 && c->heads == 5 && c->kv_heads == 1 &&
		   c->head_dim == 16 && c->vocab == 300 && !checkpoint_tokenizer(cp),
	   "tiny has odd sizes");
	checkpoint_close(cp);
	checkpoint_close(other);

	if (checkpoint_synthetic("llama2-7b", 3, error, sizeof(error), &cp) ||
	    checkpoint_shape(cp, "model.layers.31.self_attn.q_proj.weight", &rows, &cols))
		die(error);
	for (i = 0; i < 64; i++) {
		unsigned int j;

		if (checkpoint_rows_f32(cp, "model.layers.31.self_attn.q_proj.weight", 64 * i, 1,
					out))
			die(checkpoint_error());
		for (j = 0; j < 4096; j++) {
			sum += out[j];
			squares += (double)out[j] * out[j];
		}
	}
	ok(rows == 4096 && cols == 4096 && fabs(sum / 262144) < 1e-4 &&
		   fabs(sqrt(squares / 262144) - 0.015625) < 1e-4,
	   "weights have mean 0 and deviation 1 / sqrt(4096)");
	checkpoint_close(cp);
}

/* ---- Out of memory ---- */

static unsigned int allocations_left;

static void *scarce_malloc(size_t bytes)
{
	return allocations_left && allocations_left-- ? malloc(bytes) : NULL;
}

/* The parser's first, second ... allocation fails, until none does. */
static void out_of_memory(void)
{
	struct checkpoint *cp = NULL;
	unsigned int n, wrong = 0;
	int ret = -1;

	put_shards(index_json, head, layer);
	json_set_alloc_funcs(scarce_malloc, free);
	for (n = 0; ret && n < 10000; n++) {
		allocations_left = n;
		*error = 0;
		ret = checkpoint_open(dir, error, sizeof(error), &cp);
		wrong += ret && (cp || !*error);
	}
	checkpoint_close(cp);
	json_set_alloc_funcs(malloc, free);
	ok(!ret && n > 100 && !wrong, "each allocation of the parser that fails is an error");
	printf("# %u allocations\n", n - 1);
	clean();
}

/* ---- A real one ---- */

static void fables(void)
{
	const struct checkpoint_config *c;
	struct checkpoint *cp;
	float out[512];

	if (!ok(!checkpoint_open("tests/data/fables-3m", error, sizeof(error), &cp),
		"fables-3m opens")) {
		printf("# %s\n", error);
		return;
	}
	c = checkpoint_config(cp);
	ok(c->hidden == 192 && c->ffn == 512 && c->layers == 6 && c->heads == 6 &&
		   c->kv_heads == 3 && c->head_dim == 32 && c->vocab == 2048 && c->context == 256 &&
		   c->bos == 1 && c->eos[0] == 2 && checkpoint_tensor_count(cp) == 57 &&
		   checkpoint_parameters(cp) == 3221952,
	   "it has the sizes that its README says");
	ok(!checkpoint_rows_f32(cp, "lm_head.weight", 2047, 1, out) && out[191] == -0.1259765625f &&
		   !checkpoint_rows_f32(cp, "model.layers.3.mlp.down_proj.weight", 0, 1, out) &&
		   out[5] == 0.07470703125f &&
		   !checkpoint_rows_f32(cp, "model.embed_tokens.weight", 0, 1, out) &&
		   out[0] == 0.00104522705078125f &&
		   !checkpoint_rows_f32(cp, "model.norm.weight", 0, 1, out) && out[191] == 2.03125f,
	   "weights are those of the file");
	ok(!strcmp(checkpoint_tokenizer(cp), "tests/data/fables-3m/tokenizer.model"),
	   "it has a tokenizer");
	checkpoint_close(cp);
}

int main(void)
{
	if (!mkdtemp(dir))
		die(dir);
	good_model();
	broken_configs();
	unused_window();
	biases();
	defaults();
	broken_headers();
	broken_files();
	broken_directories();
	bad_weights();
	shards();
	out_of_memory();
	synthetic();
	fables();
	clean();
	if (rmdir(dir))
		die(dir);
	return done_testing();
}
