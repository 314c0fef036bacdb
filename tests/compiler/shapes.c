// SPDX-License-Identifier: MIT
/*
 * Models of odd shapes, made up by a seed and written as checkpoints: head sizes that are no
 * multiple of a group or a strip, more cores than heads or rows, vocabularies of a few tokens,
 * short last groups, tied heads, chunks and query tiles smaller than the prompt. Each is compiled
 * and equals ref_model to the bit. `shapes FIRST COUNT` tries other seeds.
 */
#include "tests/compiler/compare.h"

static uint64_t state;

static uint32_t draw(uint32_t below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 33) % below;
}

struct shape {
	uint32_t hidden, ffn, layers, heads, kv_heads, dim, vocab, context;
	bool is_tied, has_bias, has_o_bias;
};

struct writer {
	FILE *json, *data;
	uint64_t at;
	bool is_first;
};

static void tensor(struct writer *w, const char *name, uint32_t rows, uint32_t cols, float scale)
{
	uint64_t count = (uint64_t)MAX(rows, 1) * cols;

	fprintf(w->json, "%s\"%s\":{\"dtype\":\"F32\",\"shape\":[", w->is_first ? "" : ",", name);
	if (rows)
		fprintf(w->json, "%u,", rows);
	fprintf(w->json, "%u],\"data_offsets\":[%llu,%llu]}", cols, (unsigned long long)w->at,
		(unsigned long long)(w->at + 4 * count));
	for (uint64_t i = 0; i < count; i++) {
		float x = scale * ((int32_t)draw(2001) - 1000) / 1000;

		/* A vector is a norm's weights, near one, unless it is a bias. */
		if (!rows && !strstr(name, "bias"))
			x = 1 + 0.3f * x;
		fwrite(&x, 4, 1, w->data);
	}
	w->at += 4 * count;
	w->is_first = false;
}

static void write_layer(struct writer *w, const struct shape *s, uint32_t layer)
{
	const uint32_t q = s->heads * s->dim, kv = s->kv_heads * s->dim;
	const struct {
		const char *name;
		uint32_t rows, cols;
		bool is_attention;
	} parts[] = {
		{ "input_layernorm", 0, s->hidden, false },
		{ "post_attention_layernorm", 0, s->hidden, false },
		{ "self_attn.q_proj", q, s->hidden, true },
		{ "self_attn.k_proj", kv, s->hidden, true },
		{ "self_attn.v_proj", kv, s->hidden, true },
		{ "self_attn.o_proj", s->hidden, q, true },
		{ "mlp.gate_proj", s->ffn, s->hidden, false },
		{ "mlp.up_proj", s->ffn, s->hidden, false },
		{ "mlp.down_proj", s->hidden, s->ffn, false },
	};
	char name[128];

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		snprintf(name, sizeof(name), "model.layers.%u.%s.weight", layer, parts[i].name);
		tensor(w, name, parts[i].rows, parts[i].cols, parts[i].rows ? 0.2f : 1);
		if (!s->has_bias || !parts[i].is_attention ||
		    (!s->has_o_bias && !strcmp(parts[i].name, "self_attn.o_proj")))
			continue;
		snprintf(name, sizeof(name), "model.layers.%u.%s.bias", layer, parts[i].name);
		tensor(w, name, 0, parts[i].rows, 0.5f);
	}
}

static void write_weights(const char *path, const struct shape *s)
{
	struct writer w = { .is_first = true };
	char *json = NULL, *data = NULL;
	size_t json_bytes, data_bytes, padded;
	uint64_t header;
	FILE *file = fopen(path, "wb");

	w.json = open_memstream(&json, &json_bytes);
	w.data = open_memstream(&data, &data_bytes);
	if (!file || !w.json || !w.data)
		err(1, "%s", path);
	fputc('{', w.json);
	tensor(&w, "model.embed_tokens.weight", s->vocab, s->hidden, 1);
	for (uint32_t layer = 0; layer < s->layers; layer++)
		write_layer(&w, s, layer);
	tensor(&w, "model.norm.weight", 0, s->hidden, 1);
	if (!s->is_tied)
		tensor(&w, "lm_head.weight", s->vocab, s->hidden, 0.2f);
	fputc('}', w.json);
	fflush(w.json);
	for (padded = json_bytes; padded % 8; padded++)
		fputc(' ', w.json);
	fclose(w.json);
	fclose(w.data);
	header = htole64(padded);
	fwrite(&header, 8, 1, file);
	fwrite(json, 1, padded, file);
	fwrite(data, 1, data_bytes, file);
	if (fclose(file))
		err(1, "%s", path);
	free(json);
	free(data);
}

static void write_config(const char *path, const struct shape *s)
{
	FILE *file = fopen(path, "w");

	if (!file)
		err(1, "%s", path);
	fprintf(file, "{\"architectures\":[\"LlamaForCausalLM\"],\"model_type\":\"llama\",\"hidden_act\":\"silu\",\"hidden_size\":%u,\"intermediate_size\":%u,\"num_hidden_layers\":%u,\"num_attention_heads\":%u,\"num_key_value_heads\":%u,\"head_dim\":%u,\"vocab_size\":%u,\"max_position_embeddings\":%u,\"rms_norm_eps\":1e-5,\"rope_theta\":10000.0,\"tie_word_embeddings\":%s,\"attention_bias\":%s,\"mlp_bias\":false,\"bos_token_id\":0,\"eos_token_id\":1,\"torch_dtype\":\"float32\"}\n",
		s->hidden, s->ffn, s->layers, s->heads, s->kv_heads, s->dim, s->vocab, s->context,
		s->is_tied ? "true" : "false", s->has_bias ? "true" : "false");
	if (fclose(file))
		err(1, "%s", path);
}

/*
 * One piece, "a", the unknown one, and BPE: the compiler takes no directory without a tokenizer,
 * and no words come here.
 */
static void write_tokenizer(const char *path)
{
	static const char model[] = "\012\005\012\001a\030\002" "\022\002\030\002";
	FILE *file = fopen(path, "w");

	if (!file || fwrite(model, sizeof(model) - 1, 1, file) != 1 || fclose(file))
		err(1, "%s", path);
}

static struct shape draw_shape(void)
{
	static const uint32_t dims[] = { 8, 16, 24, 32, 48, 64, 80, 128 };
	static const uint32_t contexts[] = { 1, 2, 63, 64, 65, 100, 128, 200, 300 };
	struct shape s;

	s.dim = dims[draw(8)];
	s.kv_heads = 1 + draw(4);
	s.heads = s.kv_heads * (1 + draw(3));
	s.hidden = 4 * (4 + draw(60));
	s.ffn = 4 * (1 + draw(90));
	s.layers = 1 + draw(3);
	s.vocab = 2 + draw(draw(2) ? 40 : 400);
	s.context = contexts[draw(9)];
	s.is_tied = draw(3) == 0;
	s.has_bias = draw(3) == 0;
	return s;
}

static void try(uint32_t seed)
{
	static const char *const cards[] = { "u280", "vhk158", "tiny", "tiny" };
	struct options o = { .width = 8 };
	char dir[] = "/tmp/flightllm-cc.XXXXXX", what[256];
	struct shape s;
	char *config, *weights, *tokenizer;

	state = seed;
	draw(2);
	s = draw_shape();
	s.has_o_bias = s.has_bias && seed % 2;	/* Qwen2 has none there */
	o.card = card_find(cards[draw(4)]);
	o.width = draw(2) ? 8 : 4;
	for (int i = 0; i < ROTATIONS; i++)
		o.hadamard[i] = draw(2) ? HADAMARD_AUTO : 0;
	snprintf(what, sizeof(what), "seed %u (%s w%u: hidden %u, ffn %u, %u layers, heads %u/%u of %u, vocabulary %u, context %u%s%s)",
		 seed, o.card->name, o.width, s.hidden, s.ffn, s.layers, s.heads, s.kv_heads, s.dim,
		 s.vocab, s.context, s.is_tied ? ", tied" : "",
		 s.has_o_bias ? ", biases" : s.has_bias ? ", biases of q, k, v" : "");
	if (!mkdtemp(dir))
		err(1, "%s", dir);
	config = arena_printf("%s/config.json", dir);
	weights = arena_printf("%s/model.safetensors", dir);
	tokenizer = arena_printf("%s/tokenizer.model", dir);
	write_config(config, &s);
	write_tokenizer(tokenizer);
	write_weights(weights, &s);
	o.model = dir;
	compile_and_compare(o, 300, what);
	unlink(config);
	unlink(weights);
	unlink(tokenizer);
	rmdir(dir);
}

int main(int argc, char **argv)
{
	uint32_t first = argc > 1 ? atoi(argv[1]) : 0, count = argc > 2 ? atoi(argv[2]) : 24;

	for (uint32_t seed = first; seed < first + count; seed++)
		try(seed);
	return done_testing();
}
