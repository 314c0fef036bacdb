// SPDX-License-Identifier: MIT
/*
 * Model directories out of nothing but noise. The input is a config.json, a zero byte, an index, a
 * zero byte, and a safetensors file; without a config a good one is used, with an index the file is
 * its shard. What opens is read to the end.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/checkpoint/checkpoint.h"

static const char config[] =
	"{\"architectures\":[\"LlamaForCausalLM\"],\"hidden_size\":2,\"intermediate_size\":2,"
	"\"num_hidden_layers\":1,\"num_attention_heads\":1,\"vocab_size\":2,\"eos_token_id\":1}";

static char dir[64];

static void put(const char *name, const uint8_t *bytes, size_t count)
{
	char path[128];
	FILE *f;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	f = fopen(path, "w");
	if (!f || fwrite(bytes, 1, count, f) != count || fclose(f))
		abort();
}

static void remove_file(const char *name)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	unlink(path);
}

static void clean(void)
{
	remove_file("config.json");
	remove_file("model.safetensors");
	remove_file("model.safetensors.index.json");
	remove_file("a.safetensors");
	rmdir(dir);
}

static void read_all(const struct checkpoint *cp)
{
	struct checkpoint_tensor t;
	uint64_t row, rows;
	float *out;
	size_t i;

	for (i = 0; i < checkpoint_tensor_count(cp); i++) {
		checkpoint_tensor(cp, i, &t);
		if (t.cols > 1 << 20)
			continue;
		out = malloc(3 * t.cols * sizeof(*out) + 1);
		if (!out)
			abort();
		for (row = 0; row < t.rows && row < 1000; row += rows) {
			rows = t.rows - row < 3 ? t.rows - row : 3;
			if (checkpoint_rows_f32(cp, t.name, row, rows, out))
				break;
		}
		free(out);
	}
}

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	(void)argc;
	(void)argv;
	snprintf(dir, sizeof(dir), "%s/fuzz-checkpoint-XXXXXX",
		 access("/dev/shm", W_OK) ? "/tmp" : "/dev/shm");
	if (!mkdtemp(dir))
		abort();
	atexit(clean);
	return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char error[CHECKPOINT_ERROR_BYTES] = "";
	const uint8_t *first, *second;
	struct checkpoint *cp;
	size_t n;

	first = memchr(data, 0, size);
	if (!first)
		return 0;
	n = first++ - data;
	second = memchr(first, 0, size - n - 1);
	if (!second)
		return 0;
	put("config.json", n ? data : (const uint8_t *)config, n ? n : sizeof(config) - 1);
	n = second++ - first;
	if (n) {
		put("model.safetensors.index.json", first, n);
		remove_file("model.safetensors");
	}
	put(n ? "a.safetensors" : "model.safetensors", second, data + size - second);

	/* Either it opens, or there is one line that says why. */
	if (!checkpoint_open(dir, error, sizeof(error), &cp))
		read_all(cp);
	else if (cp || !*error || strchr(error, '\n'))
		abort();
	checkpoint_close(cp);
	return 0;
}
