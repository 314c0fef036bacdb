// SPDX-License-Identifier: MIT
/*
 * The float32 reference against a plain twin in float64 that is written from the model's formulas,
 * and the arithmetic of perplexity against numbers worked out by hand. At the end fables-3m must
 * have the perplexity that its README says.
 */
#include <errno.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/checkpoint/checkpoint.h"
#include "lib/flightllm.h"
#include "tests/tap.h"
#include "tools/float.h"
#include "tools/ppl.h"

static char error[CHECKPOINT_ERROR_BYTES];

static __attribute__((noreturn)) void die(const char *what)
{
	fprintf(stderr, "%s: %s\n", what, error);
	exit(1);
}

static void *room(size_t count, size_t each)
{
	void *p = calloc(count, each);

	if (!p)
		die("calloc");
	return p;
}

/* ---- The plain twin ---- */

/* The matrix (or vector) of this name; the caller frees. */
static float *weights(const struct checkpoint *cp, int layer, const char *name)
{
	uint64_t rows, cols;
	char full[96];
	float *w;

	if (layer < 0)
		snprintf(full, sizeof(full), "%s", name);
	else
		snprintf(full, sizeof(full), "model.layers.%d.%s", layer, name);
	if (checkpoint_shape(cp, full, &rows, &cols))
		die(full);
	w = room(rows * cols, sizeof(*w));
	if (checkpoint_rows_f32(cp, full, 0, rows, w))
		die(full);
	return w;
}

/* out[n] = W x (+ bias) */
static void twin_linear(const struct checkpoint *cp, int layer, const char *name, bool has_bias,
			const double *x, unsigned int k, double *out, unsigned int n)
{
	char full[64];
	float *w, *bias = NULL;
	unsigned int i, j;

	snprintf(full, sizeof(full), "%s.weight", name);
	w = weights(cp, layer, full);
	snprintf(full, sizeof(full), "%s.bias", name);
	if (has_bias)
		bias = weights(cp, layer, full);
	for (i = 0; i < n; i++) {
		out[i] = has_bias ? bias[i] : 0;
		for (j = 0; j < k; j++)
			out[i] += x[j] * w[i * k + j];
	}
	free(w);
	free(bias);
}

static void twin_norm(const struct checkpoint *cp, int layer, const char *name, const double *x,
		      double *out)
{
	const struct checkpoint_config *c = checkpoint_config(cp);
	float *gain = weights(cp, layer, name);
	double sum = 0;
	unsigned int i;

	for (i = 0; i < c->hidden; i++)
		sum += x[i] * x[i];
	for (i = 0; i < c->hidden; i++)
		out[i] = gain[i] * x[i] / sqrt(sum / c->hidden + c->norm_eps);
	free(gain);
}

static void twin_rope(const struct checkpoint_config *c, double *x, unsigned int heads,
		      unsigned int position)
{
	unsigned int h, i, half = c->head_dim / 2;

	for (h = 0; h < heads; h++, x += c->head_dim) {
		for (i = 0; i < half; i++) {
			double angle = position / pow(c->rope_theta, 2.0 * i / c->head_dim);
			double a = x[i], b = x[i + half];

			x[i] = a * cos(angle) - b * sin(angle);
			x[i + half] = a * sin(angle) + b * cos(angle);
		}
	}
}

/* One position t, whose keys and values join k and v [position][kv_heads x head_dim]. */
static void twin_attention(const struct checkpoint_config *c, const double *q, const double *k,
			   const double *v, unsigned int t, double *out)
{
	unsigned int d = c->head_dim, kv_size = c->kv_heads * d, h, i, s;
	double *p = room(t + 1, sizeof(*p));

	for (h = 0; h < c->heads; h++) {
		unsigned int kv = h / (c->heads / c->kv_heads) * d;
		double sum = 0;

		for (s = 0; s <= t; s++) {
			for (p[s] = 0, i = 0; i < d; i++)
				p[s] += q[h * d + i] * k[s * kv_size + kv + i];
			p[s] = exp(p[s] / sqrt(d));
			sum += p[s];
		}
		for (i = 0; i < d; i++)
			for (out[h * d + i] = 0, s = 0; s <= t; s++)
				out[h * d + i] += p[s] / sum * v[s * kv_size + kv + i];
	}
	free(p);
}

static void twin(const struct checkpoint *cp, const uint32_t *tokens, unsigned int count,
		 double *logits)
{
	const struct checkpoint_config *c = checkpoint_config(cp);
	unsigned int q_size = c->heads * c->head_dim, kv_size = c->kv_heads * c->head_dim, t, i, l;
	double *x = room((size_t)count * c->hidden, sizeof(*x)), *n = room(c->hidden, sizeof(*n));
	double *q = room(q_size, sizeof(*q)), *mixed = room(q_size, sizeof(*mixed));
	double *k = room((size_t)count * kv_size, sizeof(*k));
	double *v = room((size_t)count * kv_size, sizeof(*v));
	double *gate = room(c->ffn, sizeof(*gate)), *up = room(c->ffn, sizeof(*up));
	double *out = room(c->hidden, sizeof(*out));
	float *embedding = weights(cp, -1, "model.embed_tokens.weight");

	for (t = 0; t < count; t++)
		for (i = 0; i < c->hidden; i++)
			x[t * c->hidden + i] = embedding[tokens[t] * c->hidden + i];
	for (l = 0; l < c->layers; l++) {
		const bool *bias = c->has_bias;

		for (t = 0; t < count; t++) {
			double *r = x + t * c->hidden;

			twin_norm(cp, l, "input_layernorm.weight", r, n);
			twin_linear(cp, l, "self_attn.q_proj", bias[CHECKPOINT_Q],
				    n, c->hidden, q, q_size);
			twin_linear(cp, l, "self_attn.k_proj", bias[CHECKPOINT_K],
				    n, c->hidden, k + t * kv_size, kv_size);
			twin_linear(cp, l, "self_attn.v_proj", bias[CHECKPOINT_V],
				    n, c->hidden, v + t * kv_size, kv_size);
			twin_rope(c, q, c->heads, t);
			twin_rope(c, k + t * kv_size, c->kv_heads, t);
			twin_attention(c, q, k, v, t, mixed);
			twin_linear(cp, l, "self_attn.o_proj", bias[CHECKPOINT_O],
				    mixed, q_size, out, c->hidden);
			for (i = 0; i < c->hidden; i++)
				r[i] += out[i];
			twin_norm(cp, l, "post_attention_layernorm.weight", r, n);
			twin_linear(cp, l, "mlp.gate_proj", bias[CHECKPOINT_GATE],
				    n, c->hidden, gate, c->ffn);
			twin_linear(cp, l, "mlp.up_proj", bias[CHECKPOINT_UP],
				    n, c->hidden, up, c->ffn);
			for (i = 0; i < c->ffn; i++)
				up[i] *= gate[i] / (1 + exp(-gate[i]));
			twin_linear(cp, l, "mlp.down_proj", bias[CHECKPOINT_DOWN],
				    up, c->ffn, out, c->hidden);
			for (i = 0; i < c->hidden; i++)
				r[i] += out[i];
		}
	}
	for (t = 0; t < count; t++) {
		twin_norm(cp, -1, "model.norm.weight", x + t * c->hidden, n);
		twin_linear(cp, -1, c->is_tied ? "model.embed_tokens" : "lm_head", false, n,
			    c->hidden, logits + (size_t)t * c->vocab, c->vocab);
	}
	free(x);
	free(n);
	free(q);
	free(mixed);
	free(k);
	free(v);
	free(gate);
	free(up);
	free(out);
	free(embedding);
}

/* ---- Forward passes ---- */

static void forward(const struct checkpoint *cp, unsigned int threads, const uint32_t *tokens,
		    unsigned int count, float *logits)
{
	struct float_model *fm;

	if (float_open(cp, threads, error, sizeof(error), &fm) ||
	    float_logits(fm, tokens, count, logits, error, sizeof(error)))
		die("forward");
	float_close(fm);
}

static void agrees(const struct checkpoint *cp, unsigned int count, const char *what)
{
	const struct checkpoint_config *c = checkpoint_config(cp);
	size_t all = (size_t)count * c->vocab, i;
	double *want = room(all, sizeof(*want)), worst = 0, size = 0;
	float *got = room(all, sizeof(*got));
	uint32_t tokens[256];

	for (i = 0; i < count; i++)
		tokens[i] = (7 * i * i + 3 * i + 1) % c->vocab;
	forward(cp, 2, tokens, count, got);
	twin(cp, tokens, count, want);
	for (i = 0; i < all; i++) {
		worst = fmax(worst, fabs(got[i] - want[i]));
		size = fmax(size, fabs(want[i]));
	}
	ok(size > 0.5 && worst < 2e-5 * size, "%s: logits of %u positions are the formulas'", what,
	   count);
	printf("# largest logit %g, worst difference %g\n", size, worst);
	free(got);
	free(want);
}

static void tiny(void)
{
	static const uint32_t wrong[] = { 5, 299, 300 };
	uint32_t tokens[70];
	float *one = room(70 * 300, sizeof(*one)), *more = room(70 * 300, sizeof(*more));
	struct float_model *fm;
	struct checkpoint *cp;
	unsigned int i;

	if (checkpoint_synthetic("tiny", 11, error, sizeof(error), &cp))
		die("tiny");
	agrees(cp, 1, "tiny");
	agrees(cp, 67, "tiny");

	for (i = 0; i < 70; i++)
		tokens[i] = 4 * i + 2;
	forward(cp, 1, tokens, 70, one);
	forward(cp, 3, tokens, 70, more);
	ok(!memcmp(one, more, 70 * 300 * sizeof(*one)), "threads change no bit");
	forward(cp, 0, tokens, 9, more);
	ok(!memcmp(one, more, 9 * 300 * sizeof(*one)),
	   "later tokens change no bit of earlier logits");

	if (float_open(cp, 1, error, sizeof(error), &fm))
		die("tiny");
	ok(!float_logits(fm, tokens, 2, more, NULL, 0) &&
		   !float_logits(fm, tokens, 70, more, NULL, 0) &&
		   !memcmp(one, more, 70 * 300 * sizeof(*one)),
	   "a longer window after a shorter is fine");
	ok(float_logits(fm, wrong, 3, more, error, sizeof(error)) == -EINVAL &&
	   strstr(error, "token 2 is 300; the model's vocabulary has 300"),
	   "a token outside the vocabulary is refused");
	ok(float_logits(fm, tokens, 129, more, error, sizeof(error)) == -EINVAL &&
		   strstr(error, "129 tokens; the model takes 1 to 128"),
	   "a window beyond the context is refused");
	ok(float_logits(fm, tokens, 0, more, NULL, 0) == -EINVAL, "an empty window is refused");
	float_close(fm);
	float_close(NULL);
	checkpoint_close(cp);
	free(one);
	free(more);
}

/* What tiny lacks: biases, a tied head, heads apart from the hidden size, float32. */
static const char odd_config[] =
	"{\"architectures\": [\"LlamaForCausalLM\"], \"hidden_size\": 36,"
	" \"intermediate_size\": 70, \"num_hidden_layers\": 2, \"num_attention_heads\": 4,"
	" \"num_key_value_heads\": 2, \"head_dim\": 22, \"vocab_size\": 90,"
	" \"max_position_embeddings\": 80, \"rms_norm_eps\": 0.01, \"rope_theta\": 500,"
	" \"tie_word_embeddings\": true, \"attention_bias\": true, \"mlp_bias\": true}";

/* Values are small sixteenths from a fixed sequence; bad: one weight more is NaN. */
static void put_odd(const char *dir, bool bad)
{
	static const struct {
		const char *name;
		unsigned int rows, cols;
	} rows[] = {
		{ "input_layernorm.weight", 0, 36 }, { "post_attention_layernorm.weight", 0, 36 },
		{ "self_attn.q_proj.weight", 88, 36 }, { "self_attn.q_proj.bias", 0, 88 },
		{ "self_attn.k_proj.weight", 44, 36 }, { "self_attn.k_proj.bias", 0, 44 },
		{ "self_attn.v_proj.weight", 44, 36 }, { "self_attn.v_proj.bias", 0, 44 },
		{ "self_attn.o_proj.weight", 36, 88 }, { "self_attn.o_proj.bias", 0, 36 },
		{ "mlp.gate_proj.weight", 70, 36 }, { "mlp.gate_proj.bias", 0, 70 },
		{ "mlp.up_proj.weight", 70, 36 }, { "mlp.up_proj.bias", 0, 70 },
		{ "mlp.down_proj.weight", 36, 70 }, { "mlp.down_proj.bias", 0, 36 },
	};
	unsigned int at = 4 * (90 * 36 + 36), layer, i, bytes, n, count;
	char path[256], header[8192];
	uint32_t state = 1;
	FILE *f;

	n = sprintf(header, "{\"model.embed_tokens.weight\":{\"dtype\":\"F32\",\"shape\":[90,36],"
		    "\"data_offsets\":[0,12960]},\"model.norm.weight\":{\"dtype\":\"F32\","
		    "\"shape\":[36],\"data_offsets\":[12960,13104]}");
	for (layer = 0; layer < 2; layer++) {
		for (i = 0; i < sizeof(rows) / sizeof(*rows); i++, at += bytes) {
			bytes = 4 * (rows[i].rows ? rows[i].rows : 1) * rows[i].cols;
			n += sprintf(header + n,
				     ",\"model.layers.%u.%s\":{\"dtype\":\"F32\",\"shape\":[",
				     layer, rows[i].name);
			if (rows[i].rows)
				n += sprintf(header + n, "%u,", rows[i].rows);
			n += sprintf(header + n, "%u],\"data_offsets\":[%u,%u]}", rows[i].cols, at,
				     at + bytes);
		}
	}
	n += sprintf(header + n, "}");

	snprintf(path, sizeof(path), "%s/config.json", dir);
	f = fopen(path, "w");
	if (!f || fputs(odd_config, f) < 0 || fclose(f))
		die(path);
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	f = fopen(path, "w");
	if (!f || fwrite((uint8_t []) { n, n >> 8, 0, 0, 0, 0, 0, 0 }, 1, 8, f) != 8 ||
	    fwrite(header, 1, n, f) != n)
		die(path);
	for (count = at / 4, i = 0; i < count; i++) {
		float value;

		state = state * 1664525 + 1013904223;
		value = ((int)(state >> 28) - 7) * 0.0625f;
		if (bad && i == 5000)
			value = NAN;
		if (fwrite(&value, sizeof(value), 1, f) != 1)
			die(path);
	}
	if (fclose(f))
		die(path);
}

static void odd(void)
{
	char dir[] = "/tmp/float-test-XXXXXX", path[64];
	struct float_model *fm;
	struct checkpoint *cp;
	float *logits = room(90, sizeof(*logits));
	uint32_t token = 89;

	if (!mkdtemp(dir))
		die(dir);
	put_odd(dir, false);
	if (checkpoint_open(dir, error, sizeof(error), &cp))
		die("odd");
	agrees(cp, 80, "biases, tied, wide heads");
	checkpoint_close(cp);

	put_odd(dir, true);
	if (checkpoint_open(dir, error, sizeof(error), &cp) ||
	    float_open(cp, 2, error, sizeof(error), &fm))
		die("odd");
	ok(float_logits(fm, &token, 1, logits, error, sizeof(error)) == -EBADMSG &&
		   strstr(error, "model.layers.0.self_attn.q_proj.weight: element 1652") &&
		   strstr(error, "NaN"),
	   "a NaN among the weights is refused by name");
	float_close(fm);
	checkpoint_close(cp);
	free(logits);
	snprintf(path, sizeof(path), "%s/config.json", dir);
	unlink(path);
	snprintf(path, sizeof(path), "%s/model.safetensors", dir);
	unlink(path);
	rmdir(dir);
}

/* ---- Perplexity ---- */

static bool near(double is, double want)
{
	if (fabs(is - want) <= 1e-9 * fabs(want))
		return true;
	printf("# is %.12g, must be %.12g\n", is, want);
	return false;
}

static void arithmetic(void)
{
	/* Softmax gives 1/4 1/4 1/2 and 1/2 1/4 1/4; the constants only shift. */
	const float is[] = { logf(2) + 5, logf(2) + 5, logf(4) + 5 };
	const float reference[] = { logf(4) - 80, logf(2) - 80, logf(2) - 80 };
	const float flat[8] = { 0 }, far[] = { 3e38f, -3e38f, 0 }, tie[] = { 1, 4, 4 };
	float broken[] = { 0, 0, INFINITY };
	struct ppl p = { 0 };

	ok(!ppl_add(&p, flat, NULL, 2, 1) && near(p.nll.mean, 0.69314718055994531) &&
	   near(ppl_value(&p.nll), 2) && ppl_error(&p.nll) == 0 && p.kld.count == 0,
	   "two equal logits have perplexity 2, and one sample no error");
	ok(!ppl_add(&p, flat, NULL, 4, 0) && near(ppl_value(&p.nll), 2.8284271247461903) &&
		   near(ppl_mean_error(&p.nll), 0.34657359027997264) &&
		   near(ppl_error(&p.nll), 0.98025814346854725),
	   "mean and standard error of ln 2 and ln 4");

	memset(&p, 0, sizeof(p));
	ok(!ppl_add(&p, is, reference, 3, 2) && fabs(p.kld.mean - 0.17328679513998632) < 1e-6 &&
	   fabs(p.nll.mean - 0.69314718055994531) < 1e-6 &&
	   fabs(p.nll_reference.mean - 1.3862943611198906) < 1e-5 &&
	   fabs(ppl_value(&p.difference) - 0.5) < 1e-5 && p.top1_same.mean == 0,
	   "divergence, ratio and first choice against a reference");
	ok(!ppl_add(&p, tie, tie, 3, 1) && p.top1_same.mean == 0.5 && p.kld.count == 2 &&
	   fabs(p.kld.mean - 0.08664339756999316) < 1e-6, "nothing diverges from itself");
	ok(!ppl_add(&p, tie, (float []) { 0, 9, 9 }, 3, 1) && near(p.top1_same.mean, 2.0 / 3),
	   "of equal logits the lower id is first");

	memset(&p, 0, sizeof(p));
	ok(!ppl_add(&p, far, far, 3, 0) && p.nll.mean == 0 && p.kld.mean == 0,
	   "logits as far apart as they can be are certain");
	ok(!ppl_add(&p, far, NULL, 3, 1) && p.nll.mean > 1e38 && isfinite(p.nll.mean),
	   "and the unlikely one costs what it must");
	ok(ppl_add(&p, broken, NULL, 3, 0) == -EDOM && ppl_add(&p, tie, broken, 3, 0) == -EDOM &&
	   ppl_add(&p, tie, NULL, 3, 3) == -EINVAL && p.nll.count == 2,
	   "logits that are not finite are refused, and a token outside the vocabulary");
	broken[2] = NAN;
	ok(ppl_add(&p, broken, NULL, 3, 0) == -EDOM, "so is NaN");
}

static void cut(const char *what, const char *from, const char *want)
{
	char text[128], got[128] = "", *rest = text, *document;
	size_t bytes = strlen(from), n;

	memcpy(text, from, bytes + 1);
	while (ppl_document(&rest, &bytes, &document, &n)) {
		strcat(got, "<");
		strncat(got, document, n);
		strcat(got, ">");
	}
	ok(!strcmp(got, want) && bytes == 0, "%s", what);
}

static void documents(void)
{
	cut("a blank line divides, a line break is a space", "one\ntwo\n\nthree",
	    "<one two><three>");
	cut("many blank lines are one", "\n\n\none\n\n\n\ntwo\nthree\n", "<one><two three>");
	cut("line breaks may have two characters", "one\r\ntwo\r\n\r\nthree\r\n",
	    "<one two><three>");
	cut("spaces are text", " one \n two\n\n ", "< one   two>< >");
	cut("so is a carriage return by itself", "a\rb", "<a\rb>");
	cut("blank lines are no document", "\n\n", "");
	cut("nor is nothing", "", "");
}

/* ---- fables-3m ---- */

static char *read_file(const char *path, size_t *bytes)
{
	char *text = room(1 << 20, 1);
	FILE *f = fopen(path, "r");

	if (!f)
		die(path);
	*bytes = fread(text, 1, (1 << 20) - 1, f);
	fclose(f);
	return text;
}

static void fables(void)
{
	size_t bytes, tokenizer_bytes, document_bytes, n, count = 0, documents = 0, at, p;
	char *tokenizer = read_file("tests/data/fables-3m/tokenizer.model", &tokenizer_bytes);
	char *text = read_file("tests/data/fables-3m/eval.txt", &bytes), *rest = text, *document;
	uint32_t *ids = room(2 * bytes, sizeof(*ids));
	float *logits = room(256 * 2048, sizeof(*logits));
	struct flm_tokenizer *t;
	struct ppl ppl = { 0 };
	struct float_model *fm;
	struct checkpoint *cp;

	if (checkpoint_open("tests/data/fables-3m", error, sizeof(error), &cp) ||
	    float_open(cp, 0, error, sizeof(error), &fm) ||
	    flm_tokenizer_new(tokenizer, tokenizer_bytes, &t))
		die("fables-3m");
	while (ppl_document(&rest, &bytes, &document, &document_bytes)) {
		ids[count++] = 1;
		if (flm_tokenizer_encode(t, document, document_bytes, ids + count,
					 document_bytes + 8, &n))
			die("tokenizer");
		count += n;
		documents++;
	}
	ok(documents == 64 && count == 15933, "eval.txt has 64 documents and 15,933 tokens");
	for (at = 0; at < count; at += 256) {
		n = count - at < 256 ? count - at : 256;
		if (float_logits(fm, ids + at, n, logits, error, sizeof(error)))
			die("fables-3m");
		for (p = 1; p < n; p++)
			if (ppl_add(&ppl, logits + (p - 1) * 2048, NULL, 2048, ids[at + p]))
				die("logits");
	}
	ok(ppl.nll.count == 15870 && fabs(ppl_value(&ppl.nll) / 27.59 - 1) < 0.001,
	   "its perplexity is 27.59 within 0.1 percent");
	printf("# %.4f +- %.4f\n", ppl_value(&ppl.nll), ppl_error(&ppl.nll));
	flm_tokenizer_free(t);
	float_close(fm);
	checkpoint_close(cp);
	free(tokenizer);
	free(text);
	free(ids);
	free(logits);
}

int main(void)
{
	tiny();
	odd();
	arithmetic();
	documents();
	fables();
	return done_testing();
}
