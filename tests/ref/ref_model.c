// SPDX-License-Identifier: MIT
/*
 * A LLaMA in the card's arithmetic, one token at a time: chapter "A layer, to the bit" as code.
 * Matrices become plain integers and scales when the file is opened, or strip by strip when they
 * are large. Nothing here knows about instructions, tiles of work, cores or chunks, so it shows
 * what no program may change.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "tests/ref/ref_model_file.h"

/* Chapter Numbers */

float ref_model_half(uint16_t half)
{
	float magnitude;
	int exponent = half >> 10 & 0x1f;
	int fraction = half & 0x3ff;

	if (exponent == 0)
		magnitude = ldexpf(fraction, -24);
	else if (exponent < 31)
		magnitude = ldexpf(1024 + fraction, exponent - 25);
	else
		magnitude = fraction ? NAN : INFINITY;
	return half & 0x8000 ? -magnitude : magnitude;
}

static float sum16(const float *x, uint32_t n)
{
	float lane[16];
	uint32_t i;

	for (i = 0; i < 16; i++)
		lane[i] = 0;
	for (i = 0; i < n; i++)
		lane[i & 15] += x[i];
	for (i = 0; i < 8; i++)
		lane[i] += lane[8 + i];
	for (i = 0; i < 4; i++)
		lane[i] += lane[4 + i];
	return (lane[0] + lane[2]) + (lane[1] + lane[3]);
}

float ref_model_exp(float x)
{
	float n, r, p, y, half;

	if (x != x)
		return x;
	if (x > ref_model_bits(0x42b17217))
		return INFINITY;
	if (x < ref_model_bits(0xc2cff1b4))
		return 0;
	n = nearbyintf(x * ref_model_bits(0x3fb8aa3b));
	r = x - n * ref_model_bits(0x3f318000);
	r = r - n * ref_model_bits(0xb95e8083);
	p = ref_model_bits(0x39500d01);
	p = p * r + ref_model_bits(0x3ab60b61);
	p = p * r + ref_model_bits(0x3c088889);
	p = p * r + ref_model_bits(0x3d2aaaab);
	p = p * r + ref_model_bits(0x3e2aaaab);
	p = p * r + ref_model_bits(0x3f000000);
	y = ((p * r) * r + r) + 1;
	half = floorf(n / 2);
	y = ldexpf(y, (int)half);
	return ldexpf(y, (int)(n - half));
}

float ref_model_sigmoid(float x)
{
	float e;

	if (x != x)
		return x;
	e = ref_model_exp(x < 0 ? x : -x);
	return x < 0 ? e / (1 + e) : 1 / (1 + e);
}

/* v[n] in groups, each from its own start: codes[n], scales[groups]. */
void ref_model_quant(const float *v, uint32_t n, uint32_t group, int8_t *codes, float *scales)
{
	uint32_t first, i;

	for (first = 0; first < n; first += group) {
		uint32_t end = n - first > group ? first + group : n;
		float greatest = 0, inverse;
		bool is_good = true;

		for (i = first; i < end; i++) {
			if (!isfinite(v[i]))
				is_good = false;
			greatest = fmaxf(greatest, fabsf(v[i]));
			codes[i] = 0;
		}
		inverse = 127.0f / greatest;
		if (!is_good) {
			scales[first / group] = NAN;
		} else if (isinf(inverse)) {
			scales[first / group] = 0;
		} else {
			scales[first / group] = greatest / 127.0f;
			for (i = first; i < end; i++) {
				float code = nearbyintf(v[i] * inverse);

				codes[i] = (int8_t)fmaxf(-127, fminf(127, code));
			}
		}
	}
}

static void rmsnorm(const struct ref_model *model, const float *x, const float *weight, float *out)
{
	uint32_t n = model->hidden, i;
	float s;

	for (i = 0; i < n; i++)
		out[i] = x[i] * x[i];
	s = 1.0f / sqrtf(sum16(out, n) / (float)n + model->norm_eps);
	for (i = 0; i < n; i++)
		out[i] = x[i] * s * weight[i];
}

/* ROT: blocks of `block`, nothing for 0. */
static void rotate(float *v, uint32_t n, uint32_t block)
{
	uint32_t first, h, i, j;
	float f;

	if (!block)
		return;
	f = ref_model_bits(block == 16 ? 0x3e800000 : block == 32 ? 0x3e3504f3 :
		      block == 64 ? 0x3e000000 : 0x3db504f3);
	for (first = 0; first < n; first += block) {
		for (h = 1; h < block; h *= 2) {
			for (i = first; i < first + block; i += 2 * h) {
				for (j = i; j < i + h; j++) {
					float x = v[j], y = v[j + h];

					v[j] = x + y;
					v[j + h] = x - y;
				}
			}
		}
	}
	for (i = 0; i < n; i++)
		v[i] = v[i] * f;
}

static void rope(const struct ref_model *model, float *v, uint32_t heads, uint32_t position)
{
	uint32_t d = model->head_dim, h, i;
	const float *cosine = model->rope + (uint64_t)position * d;
	const float *sine = cosine + d / 2;

	for (h = 0; h < heads; h++) {
		float *x = v + h * d, *y = x + d / 2;

		for (i = 0; i < d / 2; i++) {
			float turned_x = x[i] * cosine[i] - y[i] * sine[i];
			float turned_y = y[i] * cosine[i] + x[i] * sine[i];

			x[i] = turned_x;
			y[i] = turned_y;
		}
	}
}

static float dot(const struct matrix *m, const int8_t *value, const float *scale,
		 const int8_t *codes, const float *a_scales)
{
	float acc = 0;
	uint32_t g, c, end;

	for (g = 0; g < m->groups; g++) {
		int32_t sum = 0;

		end = 64 * g + 64 < m->cols ? 64 * g + 64 : m->cols;
		for (c = 64 * g; c < end; c++)
			sum += value[c] * codes[c];
		acc = acc + ((float)sum * scale[g]) * a_scales[g];
	}
	return acc;
}

/* LINEAR: out[rows] = m . a, then factor and bias. */
static void linear(struct ref_model *model, const struct matrix *m, const int8_t *codes,
		   const float *a_scales, float *out)
{
	int8_t *value = NULL;
	float *scale = NULL;
	uint32_t s, r, row;
	int i;

	if (m->value) {
		for (row = 0; row < m->rows; row++)
			out[row] = dot(m, m->value + (uint64_t)row * m->width,
				       m->scale + (uint64_t)row * m->groups, codes, a_scales);
	} else {
		value = ref_model_take(16, m->width);
		scale = ref_model_take(16 * (uint64_t)m->groups, sizeof(float));
		for (i = 0; i < m->pieces; i++) {
			for (s = 0; 16 * s < m->piece[i].rows; s++) {
				/* checked when the file was opened */
				ref_model_read_strip(model, m, &m->piece[i], s, value, scale);
				for (r = 0; r < 16 && 16 * s + r < m->piece[i].rows; r++)
					out[m->piece[i].first_row + 16 * s + r] = dot(
						m, value + (uint64_t)r * m->width,
						scale + (uint64_t)r * m->groups, codes, a_scales);
			}
		}
		free(value);
		free(scale);
	}
	for (row = 0; row < m->rows; row++) {
		if (m->factor != 1.0f)
			out[row] = out[row] * m->factor;
		if (m->bias)
			out[row] = out[row] + m->bias[row];
	}
}

/* LINEAR(m, QUANT(ROT(v, block), 64)); v is changed. */
static void quant_linear(struct ref_model *model, const struct matrix *m, float *v, uint32_t block,
			 float *out)
{
	int8_t *codes = ref_model_take(m->cols, 1);
	float *scales = ref_model_take(m->groups, sizeof(float));

	rotate(v, m->cols, block);
	ref_model_quant(v, m->cols, 64, codes, scales);
	linear(model, m, codes, scales, out);
	free(codes);
	free(scales);
}

/* One head: o[head_dim] from q[head_dim] and the cached positions 0 .. position. */
static void attend(struct ref_model *model, uint32_t layer, uint32_t kv_head, uint32_t position,
		   const float *q, float *o)
{
	uint32_t d = model->head_dim, n = position + 1, groups = (n + 63) / 64, j, g, i;
	uint64_t head = (uint64_t)layer * model->kv_heads + kv_head;
	const int8_t *k_value = model->k_value + head * model->context * d;
	const int8_t *v_value = model->v_value + head * model->context * d;
	const float *k_scale = model->k_scale + head * model->context * model->head_groups;
	const float *v_scale = model->v_scale + head * model->context;
	float q_scale[FLM_DIM_MAX / 64], *p = ref_model_take(n, sizeof(float));
	float *p_scale = ref_model_take(groups, sizeof(float)), greatest = -INFINITY, inverse;
	int8_t q_code[FLM_DIM_MAX], *p_code = ref_model_take(n, 1);

	ref_model_quant(q, d, 64, q_code, q_scale);
	for (j = 0; j < n; j++) {
		float acc = 0;

		for (g = 0; g < model->head_groups; g++) {
			int32_t sum = 0;

			for (i = 64 * g; i < 64 * g + 64 && i < d; i++)
				sum += q_code[i] * k_value[(uint64_t)j * d + i];
			acc = acc + ((float)sum * k_scale[(uint64_t)j * model->head_groups + g]) *
				    q_scale[g];
		}
		p[j] = acc * model->softmax_scale;
		if (p[j] > greatest)
			greatest = p[j];
	}
	for (j = 0; j < n; j++)
		p[j] = ref_model_exp(p[j] - greatest);
	inverse = 1 / sum16(p, n);
	for (j = 0; j < n; j++)
		p[j] = (p[j] * inverse) * v_scale[j];
	ref_model_quant(p, n, 64, p_code, p_scale);
	for (i = 0; i < d; i++) {
		float acc = 0;

		for (g = 0; g < groups; g++) {
			int32_t sum = 0;

			for (j = 64 * g; j < 64 * g + 64 && j < n; j++)
				sum += p_code[j] * v_value[(uint64_t)j * d + i];
			acc = acc + (float)sum * p_scale[g];
		}
		o[i] = acc;
	}
	free(p);
	free(p_scale);
	free(p_code);
}

/* Quantised K and V of one position into the cache. */
static void remember(struct ref_model *model, uint32_t layer, uint32_t position, const float *k,
		     const float *v)
{
	uint32_t d = model->head_dim, h;

	for (h = 0; h < model->kv_heads; h++) {
		uint64_t at = ((uint64_t)layer * model->kv_heads + h) * model->context + position;

		ref_model_quant(k + h * d, d, 64, model->k_value + at * d,
				model->k_scale + at * model->head_groups);
		ref_model_quant(v + h * d, d, d, model->v_value + at * d, model->v_scale + at);
	}
}

int ref_model_logits(struct ref_model *model, uint32_t token, uint32_t position, float *logits)
{
	uint32_t hidden = model->hidden, q_rows = model->heads * model->head_dim;
	uint32_t kv_rows = model->kv_heads * model->head_dim, l, i;
	float *x, *a, *copy, *q, *k, *v, *o, *g, *up;

	if (token >= model->vocab || position >= model->context || position > model->length)
		return -1;
	x = ref_model_take(hidden, sizeof(float));
	a = ref_model_take(hidden, sizeof(float));
	copy = ref_model_take(hidden, sizeof(float));
	q = ref_model_take(q_rows, sizeof(float));
	k = ref_model_take(kv_rows, sizeof(float));
	v = ref_model_take(kv_rows, sizeof(float));
	o = ref_model_take(q_rows, sizeof(float));
	g = ref_model_take(model->ffn, sizeof(float));
	up = ref_model_take(model->ffn, sizeof(float));

	for (i = 0; i < hidden; i++)
		x[i] = (float)model->embed[(uint64_t)token * hidden + i] *
		       model->embed_scale[(uint64_t)token * ((hidden + 63) / 64) + i / 64];
	for (l = 0; l < model->layers; l++) {
		const struct layer *layer = &model->layer[l];

		rmsnorm(model, x, layer->input_layernorm, a);
		memcpy(copy, a, hidden * sizeof(float));
		quant_linear(model, &layer->q, copy, model->rotate[FLM_ROTATE_QKV], q);
		memcpy(copy, a, hidden * sizeof(float));
		quant_linear(model, &layer->k, copy, model->rotate[FLM_ROTATE_QKV], k);
		memcpy(copy, a, hidden * sizeof(float));
		quant_linear(model, &layer->v, copy, model->rotate[FLM_ROTATE_QKV], v);
		rope(model, q, model->heads, position);
		rope(model, k, model->kv_heads, position);
		remember(model, l, position, k, v);
		for (i = 0; i < model->heads; i++)
			attend(model, l, i / (model->heads / model->kv_heads), position,
			       q + i * model->head_dim, o + i * model->head_dim);
		quant_linear(model, &layer->o, o, model->rotate[FLM_ROTATE_O], a);
		for (i = 0; i < hidden; i++)
			x[i] = x[i] + a[i];
		rmsnorm(model, x, layer->post_attention_layernorm, a);
		memcpy(copy, a, hidden * sizeof(float));
		quant_linear(model, &layer->gate, copy, model->rotate[FLM_ROTATE_GATE_UP], g);
		quant_linear(model, &layer->up, a, model->rotate[FLM_ROTATE_GATE_UP], up);
		for (i = 0; i < model->ffn; i++)
			g[i] = (g[i] * ref_model_sigmoid(g[i])) * up[i];
		quant_linear(model, &layer->down, g, model->rotate[FLM_ROTATE_DOWN], a);
		for (i = 0; i < hidden; i++)
			x[i] = x[i] + a[i];
	}
	model->length = position + 1;
	if (logits) {
		rmsnorm(model, x, model->norm, a);
		quant_linear(model, &model->head, a, model->rotate[FLM_ROTATE_HEAD], logits);
		for (i = 0; i < model->vocab; i++) {
			if (isnan(logits[i]))
				logits[i] = ref_model_bits(0x7fc00000);
		}
	}
	free(x);
	free(a);
	free(copy);
	free(q);
	free(k);
	free(v);
	free(o);
	free(g);
	free(up);
	return 0;
}

/* First word of Philox4x32-10 of counter (position, 0, 0, 0). */
static uint32_t random_word(uint64_t seed, uint32_t position)
{
	uint32_t c0 = position, c1 = 0, c2 = 0, c3 = 0;
	uint32_t k0 = (uint32_t)seed, k1 = (uint32_t)(seed >> 32);
	int i;

	for (i = 0; i < 10; i++) {
		uint64_t left = 0xd2511f53ull * c0, right = 0xcd9e8d57ull * c2;

		c0 = (uint32_t)(right >> 32) ^ c1 ^ k0;
		c1 = (uint32_t)right;
		c2 = (uint32_t)(left >> 32) ^ c3 ^ k1;
		c3 = (uint32_t)left;
		k0 += 0x9e3779b9;
		k1 += 0xbb67ae85;
	}
	return c0;
}

uint32_t ref_model_sample(const struct ref_model *model, const float *logits,
			  const struct ref_model_sampler *sampler, uint32_t position,
			  uint32_t candidates)
{
	uint32_t n = candidates < model->vocab ? candidates : model->vocab, i, j, best, chosen;
	float *rest = ref_model_take(model->vocab, sizeof(float)),
	      *l = ref_model_take(n, sizeof(float));
	float *e = ref_model_take(n, sizeof(float)), sum, a, v;
	uint32_t *id = ref_model_take(n, sizeof(uint32_t));
	uint8_t *used = ref_model_take(model->vocab, 1);

	for (i = 0; i < model->vocab; i++)
		rest[i] = isnan(logits[i]) ? -INFINITY : logits[i];
	if (!(sampler->temperature > 0) && n > 1)
		n = 1;
	if (sampler->top_k && sampler->top_k < n)
		n = sampler->top_k;
	for (i = 0; i < n; i++) {
		best = model->vocab;
		for (j = 0; j < model->vocab; j++) {
			if (!used[j] && (best == model->vocab || rest[j] > rest[best]))
				best = j;
		}
		used[best] = 1;
		id[i] = best;
		l[i] = rest[best];
	}
	chosen = id[0];
	if (!(sampler->temperature > 0))
		goto out_free;
	sum = 0;
	for (i = 0; i < n; i++) {
		e[i] = ref_model_exp((l[i] - l[0]) / sampler->temperature);
		sum = sum + e[i];
	}
	if (sampler->top_p > 0 && sampler->top_p < 1) {
		a = 0;
		for (i = 0; i < n; i++) {
			a = a + e[i] / sum;
			if (a >= sampler->top_p) {
				n = i + 1;
				break;
			}
		}
	}
	for (i = 1; i < n && sampler->min_p > 0; i++) {
		if (!(e[i] >= sampler->min_p))
			n = i;
	}
	sum = 0;
	for (i = 0; i < n; i++)
		sum = sum + e[i];
	v = ((float)(random_word(sampler->seed, position) >> 8) * 0x1p-24f) * sum;
	a = 0;
	chosen = id[n - 1];
	for (i = 0; i < n; i++) {
		a = a + e[i];
		if (a > v) {
			chosen = id[i];
			break;
		}
	}
out_free:
	free(rest);
	free(l);
	free(e);
	free(id);
	free(used);
	return chosen;
}

int ref_model_open(const char *path, struct ref_model **out, char error[256])
{
	struct ref_model *model = ref_model_take(1, sizeof(*model));
	struct stat stat;
	int fd, ret;

	model->error = error;
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &stat)) {
		snprintf(error, 256, "%s", strerror(errno));
		if (fd >= 0)
			close(fd);
		free(model);
		return -1;
	}
	model->bytes = stat.st_size;
	model->file = mmap(NULL, model->bytes, PROT_READ, MAP_PRIVATE, fd, 0);
	close(fd);
	if (model->file == MAP_FAILED) {
		snprintf(error, 256, "%s", strerror(errno));
		free(model);
		return -1;
	}
	ret = ref_model_load(model);
	model->error = NULL;
	if (ret) {
		ref_model_close(model);
		return -1;
	}
	*out = model;
	return 0;
}

void ref_model_close(struct ref_model *model)
{
	struct matrix *m;
	uint32_t i;

	if (!model)
		return;
	if (model->layer) {
		for (i = 0; (m = ref_model_matrix(model, i)); i++) {
			free(m->value);
			free(m->scale);
			free(m->bias);
		}
		for (i = 0; i < model->layers; i++) {
			free(model->layer[i].input_layernorm);
			free(model->layer[i].post_attention_layernorm);
		}
	} else {
		free(model->head.bias);
	}
	free(model->layer);
	free(model->embed);
	free(model->embed_scale);
	free(model->rope);
	free(model->norm);
	free(model->k_value);
	free(model->v_value);
	free(model->k_scale);
	free(model->v_scale);
	munmap((void *)model->file, model->bytes);
	free(model);
}

void ref_model_reset(struct ref_model *model)
{
	model->length = 0;
}

uint32_t ref_model_vocab(const struct ref_model *model)
{
	return model->vocab;
}

uint32_t ref_model_context(const struct ref_model *model)
{
	return model->context;
}

bool ref_model_is_eos(const struct ref_model *model, uint32_t token)
{
	uint32_t i;

	for (i = 0; i < model->eos_count; i++) {
		if (model->eos[i] == token)
			return true;
	}
	return false;
}
