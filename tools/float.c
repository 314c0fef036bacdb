// SPDX-License-Identifier: MIT
/*
 * LLaMA in float32, one window of tokens at a time. All the work is in one kernel, out = in x W
 * with 16 columns of W side by side: rows of weights are read and transposed into that form in
 * pieces, and so are the keys of a head; values have it already. Sums run over k in ascending
 * order, so the kernel's two builds (by vector size) and any number of threads give the same bits.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/checkpoint/checkpoint.h"
#include "tools/float.h"

#define LANES		16	/* columns that the kernel works on together */
#define TILE		4	/* tokens that share a load of them */
#define ROWS		64	/* rows of weights a piece of work has */
#define QUERIES		64	/* positions a piece of attention has */
#define THREADS_MAX	64

struct float_model {
	const struct checkpoint *cp;
	const struct checkpoint_config *c;
	unsigned int threads;
	uint32_t count;			/* tokens of this call */
	uint32_t room;			/* tokens that the buffers have room for */
	uint32_t q_size, kv_size;
	float *turn_cos, *turn_sin;	/* [room][head_dim / 2] */
	float *residual, *normed;	/* [room][hidden] */
	float *q, *mixed;		/* [room][q_size]: queries; attention's output */
	float *k, *v;			/* [room][kv_size] */
	float *gate, *up;		/* [room][ffn] */
	float *gain;			/* [hidden] */
	char layer[32];			/* "model.layers.3." */

	pthread_mutex_t lock;		/* protects ret and why */
	int ret;			/* the first failure of a piece of work, and its text */
	char why[CHECKPOINT_ERROR_BYTES];
};

/* ---- The kernel ---- */

/*
 * out[t][0 .. LANES - 1] = sum over k of in[t][k] * w[k][..], for up to TILE rows t of in. One body
 * for each vector size: two vectors of columns at a time keep its eight sums in registers. Checks
 * of pointer arithmetic would make it three times slower; its memory is checked all the same.
 */
#define TILE_BUILD(name, vector) \
__attribute__((no_sanitize("undefined"))) \
static void name(const float *in, size_t in_stride, unsigned int tokens, const float *w, \
		 size_t w_stride, size_t depth, float out[TILE][LANES]) \
{ \
	const float *in1 = tokens > 1 ? in + in_stride : in; \
	const float *in2 = tokens > 2 ? in + 2 * in_stride : in; \
	const float *in3 = tokens > 3 ? in + 3 * in_stride : in; \
	size_t n = sizeof(vector) / sizeof(float), i, k; \
\
	for (i = 0; i < LANES; i += 2 * n) { \
		vector sum[2 * TILE] = { 0 }, x, y; \
\
		for (k = 0; k < depth; k++) { \
			memcpy(&x, w + k * w_stride + i, sizeof(x)); \
			memcpy(&y, w + k * w_stride + i + n, sizeof(y)); \
			sum[0] += in[k] * x; \
			sum[1] += in[k] * y; \
			sum[2] += in1[k] * x; \
			sum[3] += in1[k] * y; \
			sum[4] += in2[k] * x; \
			sum[5] += in2[k] * y; \
			sum[6] += in3[k] * x; \
			sum[7] += in3[k] * y; \
		} \
		for (k = 0; k < TILE; k++) \
			memcpy(out[k] + i, &sum[2 * k], 2 * sizeof(x)); \
	} \
}

typedef float vector4 __attribute__((vector_size(16)));
TILE_BUILD(tile_plain, vector4)
#ifdef __x86_64__
typedef float vector8 __attribute__((vector_size(32)));
__attribute__((target("avx2"))) TILE_BUILD(tile_avx2, vector8)
#endif

static void tile(const float *in, size_t in_stride, unsigned int tokens, const float *w,
		 size_t w_stride, size_t depth, float out[TILE][LANES])
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return tile_avx2(in, in_stride, tokens, w, w_stride, depth, out);
#endif
	tile_plain(in, in_stride, tokens, w, w_stride, depth, out);
}

static uint32_t least(uint32_t a, uint32_t b)
{
	return a < b ? a : b;
}

/* rows (at most LANES) of in as columns: to[k][LANES], absent ones 0. */
static void transpose(const float *in, size_t stride, uint32_t rows, uint32_t cols, float *to)
{
	uint32_t r, k;

	for (r = 0; r < LANES; r++)
		for (k = 0; k < cols; k++)
			to[(size_t)k * LANES + r] = r < rows ? in[r * stride + k] : 0;
}

/* ---- Work for several threads ---- */

/* The first failure's text is the call's. */
static int keep_error(struct float_model *fm, int ret, const char *why)
{
	pthread_mutex_lock(&fm->lock);
	if (!fm->ret) {
		fm->ret = ret;
		snprintf(fm->why, sizeof(fm->why), "%s", why);
	}
	pthread_mutex_unlock(&fm->lock);
	return ret;
}

struct work {
	struct float_model *fm;
	int (*piece)(struct float_model *fm, void *arg, uint32_t index, float *scratch);
	void *arg;
	uint32_t pieces;
	size_t scratch_floats;
	atomic_uint next;
};

static void *work_thread(void *opaque)
{
	struct work *w = opaque;
	struct float_model *fm = w->fm;
	float *scratch = malloc(w->scratch_floats * sizeof(*scratch));
	uint32_t i;
	int ret = scratch ? 0 : -ENOMEM;

	while (!ret && (i = atomic_fetch_add(&w->next, 1)) < w->pieces)
		ret = w->piece(fm, w->arg, i, scratch);
	if (ret) {
		atomic_store(&w->next, w->pieces);
		keep_error(fm, ret, scratch ? checkpoint_error() : "out of memory");
	}
	free(scratch);
	return NULL;
}

/* All pieces, in any order; 0 or the first failure. A thread that cannot be had is done without. */
static int run(struct float_model *fm, uint32_t pieces, size_t scratch_floats,
	       int (*piece)(struct float_model *, void *, uint32_t, float *), void *arg)
{
	struct work w = { .fm = fm, .piece = piece, .arg = arg, .pieces = pieces,
			  .scratch_floats = scratch_floats };
	pthread_t threads[THREADS_MAX];
	unsigned int i, n = 0;

	while (n + 1 < least(fm->threads, pieces) &&
	       !pthread_create(&threads[n], NULL, work_thread, &w))
		n++;
	work_thread(&w);
	for (i = 0; i < n; i++)
		pthread_join(threads[i], NULL);
	return fm->ret;
}

/* ---- Layers ---- */

static int read_rows(struct float_model *fm, const char *layer, const char *name, uint64_t first,
		     uint64_t rows, float *out)
{
	char full[96];

	snprintf(full, sizeof(full), "%s%s", layer, name);
	return checkpoint_rows_f32(fm->cp, full, first, rows, out);
}

struct linear {
	const char *layer, *name;	/* "model.layers.3.", "mlp.up_proj" */
	bool has_bias, is_added;	/* is_added: out += instead of out = */
	const float *in;		/* [count][cols] */
	float *out;			/* [count][rows] */
	uint32_t rows, cols;
};

/* ROWS rows of the matrix, for all tokens. Scratch: the rows, then transposed blocks of them. */
static int linear_piece(struct float_model *fm, void *arg, uint32_t index, float *scratch)
{
	const struct linear *l = arg;
	uint32_t first = index * ROWS, rows = least(l->rows - first, ROWS), t, i, j, r;
	float *w = scratch + (size_t)ROWS * l->cols, bias[ROWS] = { 0 }, sums[TILE][LANES];
	char name[64];
	int ret;

	snprintf(name, sizeof(name), "%s.weight", l->name);
	ret = read_rows(fm, l->layer, name, first, rows, scratch);
	if (!ret && l->has_bias) {
		/* A bias is one row: read whole, kept in part. */
		snprintf(name, sizeof(name), "%s.bias", l->name);
		ret = read_rows(fm, l->layer, name, 0, 1, w);
		memcpy(bias, w + first, rows * sizeof(*bias));
	}
	if (ret)
		return ret;
	for (i = 0; i < rows; i += LANES)
		transpose(scratch + (size_t)i * l->cols, l->cols, least(rows - i, LANES), l->cols,
			  w + (size_t)i * l->cols);
	for (t = 0; t < fm->count; t += TILE) {
		for (i = 0; i < rows; i += LANES) {
			tile(l->in + (size_t)t * l->cols, l->cols, fm->count - t,
			     w + (size_t)i * l->cols, LANES, l->cols, sums);
			for (j = 0; j < least(fm->count - t, TILE); j++) {
				float *out = l->out + (size_t)(t + j) * l->rows + first + i;

				for (r = 0; r < least(rows - i, LANES); r++)
					out[r] = (l->is_added ? out[r] : 0) +
						 (sums[j][r] + bias[i + r]);
			}
		}
	}
	return 0;
}

static int linear(struct float_model *fm, struct linear l)
{
	size_t w = (size_t)ROWS * l.cols;

	if (l.has_bias && w < l.rows)
		w = l.rows;
	return run(fm, (l.rows + ROWS - 1) / ROWS, (size_t)ROWS * l.cols + w, linear_piece, &l);
}

static int norm(struct float_model *fm, const char *layer, const char *name)
{
	uint32_t hidden = fm->c->hidden, t, i;
	int ret;

	ret = read_rows(fm, layer, name, 0, 1, fm->gain);
	if (ret)
		return keep_error(fm, ret, checkpoint_error());
	for (t = 0; t < fm->count; t++) {
		const float *x = fm->residual + (size_t)t * hidden;
		float *y = fm->normed + (size_t)t * hidden, scale;
		double sum = 0;

		for (i = 0; i < hidden; i++)
			sum += (double)x[i] * x[i];
		scale = 1 / sqrt(sum / hidden + fm->c->norm_eps);
		for (i = 0; i < hidden; i++)
			y[i] = x[i] * scale * fm->gain[i];
	}
	return 0;
}

/* Turns each head's pairs (i, i + head_dim / 2) by position x theta^(-2i / head_dim). */
static void rope(const struct float_model *fm, float *x, uint32_t heads)
{
	uint32_t half = fm->c->head_dim / 2, t, h, i;

	for (t = 0; t < fm->count; t++) {
		const float *cs = fm->turn_cos + (size_t)t * half;
		const float *sn = fm->turn_sin + (size_t)t * half;

		for (h = 0; h < heads; h++, x += 2 * half) {
			for (i = 0; i < half; i++) {
				float a = x[i], b = x[i + half];

				x[i] = a * cs[i] - b * sn[i];
				x[i + half] = b * cs[i] + a * sn[i];
			}
		}
	}
}

/* The first `seen` scores become probabilities, the rest 0. */
static void softmax(float *scores, uint32_t seen, uint32_t all, float scale)
{
	float top = scores[0], inverse;
	double sum = 0;
	uint32_t i;

	for (i = 1; i < seen; i++)
		top = scores[i] > top ? scores[i] : top;
	for (i = 0; i < seen; i++) {
		scores[i] = expf((scores[i] - top) * scale);
		sum += scores[i];
	}
	inverse = 1 / sum;
	for (i = 0; i < seen; i++)
		scores[i] *= inverse;
	for (; i < all; i++)
		scores[i] = 0;
}

/*
 * QUERIES positions of one head against all positions up to their last. Scratch: scores
 * [QUERIES][count rounded up], then keys or values with LANES side by side.
 */
static int attention_piece(struct float_model *fm, void *arg, uint32_t index, float *scratch)
{
	const struct checkpoint_config *c = fm->c;
	uint32_t dim = c->head_dim, head = index % c->heads, first = index / c->heads * QUERIES;
	uint32_t kv = head / (c->heads / c->kv_heads) * dim;
	uint32_t queries = least(fm->count - first, QUERIES), all = first + queries;
	uint32_t stride = (all + LANES - 1) / LANES * LANES, t, i, j, n;
	float *w = scratch + (size_t)QUERIES * stride, sums[TILE][LANES];
	const float *q = fm->q + (size_t)first * fm->q_size + head * dim;
	float *out = fm->mixed + (size_t)first * fm->q_size + head * dim;

	(void)arg;
	for (i = 0; i < all; i += LANES) {
		transpose(fm->k + (size_t)i * fm->kv_size + kv, fm->kv_size, least(all - i, LANES),
			  dim, w);
		for (t = 0; t < queries; t += TILE) {
			tile(q + (size_t)t * fm->q_size, fm->q_size, queries - t, w, LANES, dim,
			     sums);
			for (j = 0; j < least(queries - t, TILE); j++)
				memcpy(scratch + (size_t)(t + j) * stride + i, sums[j],
				       sizeof(sums[j]));
		}
	}
	for (t = 0; t < queries; t++)
		softmax(scratch + (size_t)t * stride, first + t + 1, stride, 1 / sqrtf(dim));
	for (i = 0; i < dim; i += LANES) {
		n = least(dim - i, LANES);
		memset(w, 0, (size_t)all * LANES * sizeof(*w));
		for (t = 0; t < all; t++)
			memcpy(w + (size_t)t * LANES, fm->v + (size_t)t * fm->kv_size + kv + i,
			       n * sizeof(*w));
		for (t = 0; t < queries; t += TILE) {
			tile(scratch + (size_t)t * stride, stride, queries - t, w, LANES, all,
			     sums);
			for (j = 0; j < least(queries - t, TILE); j++)
				memcpy(out + (size_t)(t + j) * fm->q_size + i, sums[j],
				       n * sizeof(*w));
		}
	}
	return 0;
}

static int attention(struct float_model *fm)
{
	size_t all = (fm->count + LANES - 1) / LANES * LANES;
	size_t w = all > fm->c->head_dim ? all : fm->c->head_dim;

	return run(fm, (fm->count + QUERIES - 1) / QUERIES * fm->c->heads,
		   QUERIES * all + w * LANES, attention_piece, NULL);
}

static int layer(struct float_model *fm, uint32_t index)
{
	const struct checkpoint_config *c = fm->c;
	const char *at = fm->layer;
	const bool *bias = c->has_bias;
	size_t i, n = (size_t)fm->count * c->ffn;
	int ret;

	snprintf(fm->layer, sizeof(fm->layer), "model.layers.%u.", index);
	ret = norm(fm, at, "input_layernorm.weight");
	if (!ret)
		ret = linear(fm, (struct linear) {
			at, "self_attn.q_proj", bias[CHECKPOINT_Q], false,
			fm->normed, fm->q, fm->q_size, c->hidden });
	if (!ret)
		ret = linear(fm, (struct linear) {
			at, "self_attn.k_proj", bias[CHECKPOINT_K], false,
			fm->normed, fm->k, fm->kv_size, c->hidden });
	if (!ret)
		ret = linear(fm, (struct linear) {
			at, "self_attn.v_proj", bias[CHECKPOINT_V], false,
			fm->normed, fm->v, fm->kv_size, c->hidden });
	if (ret)
		return ret;
	rope(fm, fm->q, c->heads);
	rope(fm, fm->k, c->kv_heads);
	ret = attention(fm);
	if (!ret)
		ret = linear(fm, (struct linear) {
			at, "self_attn.o_proj", bias[CHECKPOINT_O], true,
			fm->mixed, fm->residual, c->hidden, fm->q_size });
	if (!ret)
		ret = norm(fm, at, "post_attention_layernorm.weight");
	if (!ret)
		ret = linear(fm, (struct linear) {
			at, "mlp.gate_proj", bias[CHECKPOINT_GATE], false,
			fm->normed, fm->gate, c->ffn, c->hidden });
	if (!ret)
		ret = linear(fm, (struct linear) { at, "mlp.up_proj", bias[CHECKPOINT_UP], false,
						   fm->normed, fm->up, c->ffn, c->hidden });
	if (ret)
		return ret;
	for (i = 0; i < n; i++)
		fm->up[i] *= fm->gate[i] / (1 + expf(-fm->gate[i]));
	return linear(fm, (struct linear) { at, "mlp.down_proj", bias[CHECKPOINT_DOWN], true,
						   fm->up, fm->residual, c->hidden, c->ffn });
}

/* ---- The model ---- */

struct buffer {
	float **at;
	uint32_t each;			/* floats a token */
};

#define BUFFERS 10

static void list_buffers(struct float_model *fm, struct buffer list[BUFFERS])
{
	const struct checkpoint_config *c = fm->c;
	const struct buffer all[BUFFERS] = {
		{ &fm->turn_cos, c->head_dim / 2 }, { &fm->turn_sin, c->head_dim / 2 },
		{ &fm->residual, c->hidden }, { &fm->normed, c->hidden }, { &fm->q, fm->q_size },
		{ &fm->mixed, fm->q_size }, { &fm->k, fm->kv_size }, { &fm->v, fm->kv_size },
		{ &fm->gate, c->ffn }, { &fm->up, c->ffn },
	};

	memcpy(list, all, sizeof(all));
}

/* Room for count tokens, kept for the next call. */
static int make_room(struct float_model *fm, uint32_t count)
{
	struct buffer list[BUFFERS];
	uint32_t half = fm->c->head_dim / 2, t, i;

	if (count <= fm->room)
		return 0;
	list_buffers(fm, list);
	fm->room = 0;
	for (i = 0; i < BUFFERS; i++) {
		free(*list[i].at);
		*list[i].at = calloc((size_t)count * list[i].each, sizeof(float));
		if (!*list[i].at)
			return -ENOMEM;
	}
	for (t = 0; t < count; t++) {
		for (i = 0; i < half; i++) {
			double angle = t * pow(fm->c->rope_theta, -(double)i / half);

			fm->turn_cos[(size_t)t * half + i] = cos(angle);
			fm->turn_sin[(size_t)t * half + i] = sin(angle);
		}
	}
	fm->room = count;
	return 0;
}

static int put_error(int ret, const char *why, char *error, size_t error_bytes)
{
	if (error && error_bytes)
		snprintf(error, error_bytes, "%s", why);
	return ret;
}

int float_open(const struct checkpoint *cp, unsigned int threads, char *error, size_t error_bytes,
	       struct float_model **out)
{
	struct float_model *fm = calloc(1, sizeof(*fm));
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	*out = NULL;
	if (!fm)
		return put_error(-ENOMEM, "out of memory", error, error_bytes);
	fm->cp = cp;
	fm->c = checkpoint_config(cp);
	fm->threads = least(threads ? threads : cpus > 0 ? cpus : 1, THREADS_MAX);
	fm->q_size = fm->c->heads * fm->c->head_dim;
	fm->kv_size = fm->c->kv_heads * fm->c->head_dim;
	fm->gain = calloc(fm->c->hidden, sizeof(*fm->gain));
	if (!fm->gain) {
		free(fm);
		return put_error(-ENOMEM, "out of memory", error, error_bytes);
	}
	pthread_mutex_init(&fm->lock, NULL);
	*out = fm;
	return 0;
}

void float_close(struct float_model *fm)
{
	struct buffer list[BUFFERS];
	unsigned int i;

	if (!fm)
		return;
	list_buffers(fm, list);
	for (i = 0; i < BUFFERS; i++)
		free(*list[i].at);
	free(fm->gain);
	pthread_mutex_destroy(&fm->lock);
	free(fm);
}

static int forward(struct float_model *fm, const uint32_t *tokens, float *logits)
{
	const struct checkpoint_config *c = fm->c;
	uint32_t i;
	int ret;

	for (i = 0; i < fm->count; i++) {
		ret = read_rows(fm, "", "model.embed_tokens.weight", tokens[i], 1,
				fm->residual + (size_t)i * c->hidden);
		if (ret)
			return keep_error(fm, ret, checkpoint_error());
	}
	for (i = 0; i < c->layers; i++) {
		ret = layer(fm, i);
		if (ret)
			return ret;
	}
	ret = norm(fm, "", "model.norm.weight");
	if (ret)
		return ret;
	return linear(fm, (struct linear) { "", c->is_tied ? "model.embed_tokens" : "lm_head",
					    false, false, fm->normed, logits, c->vocab,
					    c->hidden });
}

int float_logits(struct float_model *fm, const uint32_t *tokens, uint32_t count, float *logits,
		 char *error, size_t error_bytes)
{
	char why[128];
	uint32_t i;
	int ret;

	if (!count || count > fm->c->context) {
		snprintf(why, sizeof(why), "%u tokens; the model takes 1 to %u at a time", count,
			 fm->c->context);
		return put_error(-EINVAL, why, error, error_bytes);
	}
	for (i = 0; i < count; i++) {
		if (tokens[i] < fm->c->vocab)
			continue;
		snprintf(why, sizeof(why), "token %u is %u; the model's vocabulary has %u", i,
			 tokens[i], fm->c->vocab);
		return put_error(-EINVAL, why, error, error_bytes);
	}
	if (make_room(fm, count))
		return put_error(-ENOMEM, "out of memory", error, error_bytes);
	fm->count = count;
	fm->ret = 0;
	ret = forward(fm, tokens, logits);
	return ret ? put_error(ret, fm->why, error, error_bytes) : 0;
}
