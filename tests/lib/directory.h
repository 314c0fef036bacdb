/* SPDX-License-Identifier: MIT */
/*
 * A model directory of a few bytes that opens: config.json and model.safetensors, good() in
 * memory, put() as files. A test replaces one thing in between, then says what opening it gives.
 */
#ifndef TESTS_LIB_DIRECTORY_H
#define TESTS_LIB_DIRECTORY_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/checkpoint/checkpoint.h"
#include "tests/tap.h"

#define DATA_BYTES 384

static char dir[] = "/tmp/checkpoint-test-XXXXXX";
static char error[CHECKPOINT_ERROR_BYTES];

static const char config[] =
	"{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_act\": \"silu\", \"hidden_size\": 4,"
	" \"intermediate_size\": 6, \"num_hidden_layers\": 1, \"num_attention_heads\": 2,"
	" \"num_key_value_heads\": 1, \"head_dim\": 2, \"vocab_size\": 5,"
	" \"max_position_embeddings\": 32, \"rms_norm_eps\": 1e-05, \"rope_theta\": 500000.0,"
	" \"tie_word_embeddings\": false, \"attention_bias\": false, \"mlp_bias\": false,"
	" \"bos_token_id\": 0, \"eos_token_id\": [3, 4], \"torch_dtype\": \"bfloat16\"}";

#define T(name, type, shape, from, to)                                                             \
	"\"" name "\":{\"dtype\":\"" type "\",\"shape\":" shape ",\"data_offsets\":[" from "," to  \
	"]}"
#define L "model.layers.0."

static const char head[] =
	"{\"__metadata__\":{\"format\":\"pt\"},"
	T("lm_head.weight", "F32", "[5,4]", "0", "80") ","
	T("model.embed_tokens.weight", "F16", "[5,4]", "80", "120") ","
	T("model.norm.weight", "BF16", "[4]", "120", "128") "}";
static const char layer[] =
	"{" T(L "input_layernorm.weight", "BF16", "[4]", "128", "136") ","
	T(L "self_attn.q_proj.weight", "BF16", "[4,4]", "136", "168") ","
	T(L "self_attn.k_proj.weight", "BF16", "[2,4]", "168", "184") ","
	T(L "self_attn.v_proj.weight", "BF16", "[2,4]", "184", "200") ","
	T(L "self_attn.o_proj.weight", "BF16", "[4,4]", "200", "232") ","
	T(L "post_attention_layernorm.weight", "BF16", "[4]", "232", "240") ","
	T(L "mlp.gate_proj.weight", "BF16", "[6,4]", "240", "288") ","
	T(L "mlp.up_proj.weight", "BF16", "[6,4]", "288", "336") ","
	T(L "mlp.down_proj.weight", "BF16", "[4,6]", "336", "384") "}   ";

/* The files a case is made of, before they are written. */
struct files {
	char config[2048];
	char header[4096];
	unsigned char data[DATA_BYTES + 64];
	size_t data_bytes;
};

static __attribute__((noreturn)) void die(const char *what)
{
	perror(what);
	exit(1);
}

static void put_file(const char *name, const void *bytes, size_t count)
{
	char path[256];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
	f = fopen(path, "w");
	if (!f || fwrite(bytes, 1, count, f) != count || fclose(f))
		die(path);
}

static void put_safetensors(const char *name, const char *header, const void *data,
			    size_t data_bytes)
{
	unsigned char all[8192] = { 0 };
	size_t n = strlen(header);

	all[0] = n & 255;
	all[1] = n >> 8;
	memcpy(all + 8, header, n);
	memcpy(all + 8 + n, data, data_bytes);
	put_file(name, all, 8 + n + data_bytes);
}

static void remove_file(const char *name)
{
	char path[256];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
}

static void clean(void)
{
	static const char *const names[] = { "config.json",	 "model.safetensors",
					     "tokenizer.model",	 "model.safetensors.index.json",
					     "a.safetensors",	 "b.safetensors",
					     "pytorch_model.bin" };
	size_t i;

	for (i = 0; i < sizeof(names) / sizeof(*names); i++)
		remove_file(names[i]);
}

static void replace(char *text, size_t room, const char *from, const char *to)
{
	char *at = strstr(text, from), tail[4096];

	if (!at || strlen(text) + strlen(to) + 1 > room) {
		fprintf(stderr, "nothing to replace: %s\n", from);
		exit(1);
	}
	snprintf(tail, sizeof(tail), "%s", at + strlen(from));
	snprintf(at, room - (at - text), "%s%s", to, tail);
}

static void good(struct files *f)
{
	/* F32: 0, 0.5, 1 ...; F16: 1, 2^-24, -0, 65504, 2^-14 - 2^-24, -2, 1 ...; BF16: 1 ... */
	static const uint16_t halves[] = { 0x3c00, 0x0001, 0x8000, 0x7bff, 0x03ff, 0xc000 };
	unsigned int i, bits;
	float value;

	memset(f, 0, sizeof(*f));
	snprintf(f->config, sizeof(f->config), "%s", config);
	snprintf(f->header, sizeof(f->header), "%.*s,%s", (int)strlen(head) - 1, head, layer + 1);
	for (i = 0; i < 20; i++) {
		value = i * 0.5f;
		memcpy(&bits, &value, 4);
		memcpy(f->data + 4 * i,
		       (unsigned char[]){ bits, bits >> 8, bits >> 16, bits >> 24 }, 4);
		bits = i < 6 ? halves[i] : 0x3c00;
		memcpy(f->data + 80 + 2 * i, (unsigned char []) { bits, bits >> 8 }, 2);
	}
	for (i = 120; i < DATA_BYTES; i += 2)
		memcpy(f->data + i, (unsigned char []) { 0x80, 0x3f }, 2);
	f->data_bytes = DATA_BYTES;
}

static void put(const struct files *f)
{
	put_file("config.json", f->config, strlen(f->config));
	put_safetensors("model.safetensors", f->header, f->data, f->data_bytes);
}

/* Opening fails with ret and a text that begins with the directory and holds `text`. */
static void refused(const char *what, int want, const char *text)
{
	struct checkpoint *cp = (void *)1;
	int ret = checkpoint_open(dir, error, sizeof(error), &cp);
	bool holds = ret == want && !cp && !strncmp(error, dir, strlen(dir)) &&
		     strstr(error, text) && !strpbrk(error, "\n\r\033");

	if (!ok(holds, "%s is refused", what))
		printf("# %d, %s\n", ret, ret ? error : "no error");
	if (!ret)
		checkpoint_close(cp);
}

static void opens(const char *what)
{
	struct checkpoint *cp;
	int ret = checkpoint_open(dir, error, sizeof(error), &cp);

	if (!ok(!ret, "%s opens", what))
		printf("# %d, %s\n", ret, error);
	checkpoint_close(cp);
}

#endif
