// SPDX-License-Identifier: MIT
/*
 * Reads a .flm file: sections and their checksums, tensors by name, and strips of weights, which
 * come out as plain integers with a scale for each row and 64 columns.
 */
#include <endian.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/ref/ref_model_file.h"

#define DECODED_MAX	(64u << 20)	/* weights of a file that are kept as plain integers */

__attribute__((format(printf, 2, 3)))
static int bad(struct ref_model *model, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(model->error, 256, format, args);
	va_end(args);
	return -1;
}

void *ref_model_take(uint64_t n, uint64_t size)
{
	void *at = calloc(n ? n : 1, size);

	if (!at) {
		perror("ref_model");
		exit(1);
	}
	return at;
}

uint32_t ref_model_crc32c(uint32_t crc, const void *bytes, uint64_t n)
{
	static uint32_t table[256];
	const uint8_t *at = bytes;
	uint64_t i;
	int bit;

	for (i = 0; i < 256 && !table[255]; i++) {
		table[i] = i;
		for (bit = 0; bit < 8; bit++)
			table[i] = table[i] >> 1 ^ (table[i] & 1 ? 0x82f63b78 : 0);
	}
	crc = ~crc;
	for (i = 0; i < n; i++)
		crc = crc >> 8 ^ table[(crc ^ at[i]) & 0xff];
	return ~crc;
}

static int check_file(struct ref_model *model)
{
	const struct flm_file *file = (const void *)model->file;
	struct flm_file copy;
	uint64_t table_end, end, i;
	uint32_t crc;

	if (model->bytes < sizeof(*file) || memcmp(file->magic, FLM_FILE_MAGIC, 8))
		return bad(model, "not a .flm file: no FLM-FILE at its start");
	if (le16toh(file->major) != 1)
		return bad(model, "format %u.%u is not 1.x", le16toh(file->major),
			   le16toh(file->minor));
	if (le64toh(file->bytes) != model->bytes)
		return bad(model, "the file has %llu bytes, its header says %llu",
			   (unsigned long long)model->bytes,
			   (unsigned long long)le64toh(file->bytes));
	model->section_count = le32toh(file->sections);
	table_end = sizeof(*file) + (uint64_t)model->section_count * sizeof(*model->sections);
	if (model->section_count > FLM_FILE_SECTIONS_MAX || table_end > model->bytes)
		return bad(model, "%u sections do not fit", model->section_count);
	model->sections = (const void *)(model->file + sizeof(*file));
	copy = *file;
	copy.crc32c = 0;
	crc = ref_model_crc32c(0, &copy, sizeof(copy));
	crc = ref_model_crc32c(crc, model->sections, table_end - sizeof(*file));
	if (crc != le32toh(file->crc32c))
		return bad(model, "header checksum is %08x, not %08x", crc, le32toh(file->crc32c));
	if (file->reserved[0] || file->reserved[1] || file->reserved[2])
		return bad(model, "a reserved field of the header is not zero");
	end = table_end;
	for (i = 0; i < model->section_count; i++) {
		const struct flm_section *s = &model->sections[i];
		uint64_t offset = le64toh(s->offset), bytes = le64toh(s->bytes);

		if (offset % FLM_FILE_ALIGN || offset < end || offset > model->bytes ||
		    bytes > model->bytes - offset)
			return bad(model, "section %u lies outside the file or its place",
				   (unsigned int)i);
		end = offset + bytes;
		if (le32toh(s->place) != FLM_PLACE_NONE && le64toh(s->memory_bytes) < bytes)
			return bad(model, "section %u is larger than its buffer", (unsigned int)i);
		if (le32toh(s->kind) & FLM_SECTION_REQUIRED)
			return bad(model, "section %u of kind %#x is required but unknown",
				   (unsigned int)i, le32toh(s->kind));
		crc = ref_model_crc32c(0, model->file + offset, bytes);
		if (crc != le32toh(s->crc32c))
			return bad(model, "section %u: checksum is %08x, not %08x", (unsigned int)i,
				   crc, le32toh(s->crc32c));
	}
	return 0;
}

static const struct flm_section *find_section(const struct ref_model *model, uint32_t kind)
{
	uint32_t i;

	for (i = 0; i < model->section_count; i++) {
		if (le32toh(model->sections[i].kind) == kind)
			return &model->sections[i];
	}
	return NULL;
}

/* The memory behind a tensor: its segment in its core. */
static const struct flm_section *find_memory(const struct ref_model *model,
					     const struct flm_tensor *t)
{
	uint32_t i;

	for (i = 0; i < model->section_count; i++) {
		const struct flm_section *s = &model->sections[i];

		if (le32toh(s->place) != FLM_PLACE_NONE && s->segment == t->segment &&
		    (s->core == t->core || le32toh(s->core) == FLM_CORE_ALL ||
		     le32toh(t->core) == FLM_CORE_ALL))
			return s;
	}
	return NULL;
}

/* Copies bytes of a segment; what the file does not hold of its memory is zero. */
static int fetch(struct ref_model *model, const struct flm_section *s, uint64_t offset, void *to,
		 uint64_t bytes)
{
	uint64_t memory = le64toh(s->memory_bytes), held = le64toh(s->bytes);

	if (bytes > memory || offset > memory - bytes)
		return bad(model, "bytes %llu + %llu lie outside segment %u",
			   (unsigned long long)offset, (unsigned long long)bytes,
			   le32toh(s->segment));
	memset(to, 0, bytes);
	if (offset < held)
		memcpy(to, model->file + le64toh(s->offset) + offset,
		       held - offset < bytes ? held - offset : bytes);
	return 0;
}

static int check_model(struct ref_model *model)
{
	const struct flm_section *s = find_section(model, FLM_SECTION_MODEL);
	const struct flm_model_desc *m;
	uint32_t i;

	if (!s || le64toh(s->bytes) != sizeof(*m))
		return bad(model, "no model table");
	m = (const void *)(model->file + le64toh(s->offset));
	if (le32toh(m->arch) != FLM_ARCH_LLAMA)
		return bad(model, "architecture %u is not 1 (llama)", le32toh(m->arch));
	model->layers = le32toh(m->layers);
	model->hidden = le32toh(m->hidden);
	model->ffn = le32toh(m->ffn);
	model->heads = le32toh(m->heads);
	model->kv_heads = le32toh(m->kv_heads);
	model->head_dim = le32toh(m->head_dim);
	model->vocab = le32toh(m->vocab);
	model->context = le32toh(m->context);
	model->norm_eps = ref_model_bits(le32toh(m->norm_eps));
	model->softmax_scale = ref_model_bits(le32toh(m->softmax_scale));
	model->eos_count = le32toh(m->eos_count);
	if (!model->layers || model->layers > 1024 || !model->hidden || model->hidden > 1 << 20 ||
	    !model->ffn || model->ffn > 1 << 20 || !model->heads || model->heads > 1024 ||
	    !model->kv_heads || model->heads % model->kv_heads || !model->head_dim ||
	    model->head_dim > FLM_DIM_MAX || model->head_dim % 2 || !model->vocab ||
	    model->vocab > 1 << 24 || !model->context || model->context > 1 << 24 ||
	    model->eos_count > FLM_EOS_MAX)
		return bad(model, "the model table holds a shape that cannot be");
	model->head_groups = (model->head_dim + 63) / 64;
	for (i = 0; i < model->eos_count; i++)
		model->eos[i] = le32toh(m->eos[i]);
	for (i = 0; i < FLM_ROTATIONS; i++) {
		uint32_t n = le32toh(m->rotate[i]);
		uint32_t length = i == FLM_ROTATE_DOWN ? model->ffn
				  : i == FLM_ROTATE_O  ? model->heads * model->head_dim
						       : model->hidden;

		if (n && ((n != 16 && n != 32 && n != 64 && n != 128) || length % n))
			return bad(model, "rotation %u has blocks of %u in %u columns", i, n,
				   length);
		model->rotate[i] = n;
	}
	s = find_section(model, FLM_SECTION_TENSORS);
	if (!s || le64toh(s->bytes) % sizeof(*model->tensors))
		return bad(model, "no table of tensors");
	model->tensors = (const void *)(model->file + le64toh(s->offset));
	model->tensor_count = le64toh(s->bytes) / sizeof(*model->tensors);
	for (i = 0; i < model->tensor_count; i++) {
		if (model->tensors[i].name[sizeof(model->tensors[i].name) - 1])
			return bad(model, "tensor %u has a name without an end", i);
		if (!find_memory(model, &model->tensors[i]))
			return bad(model, "%s lies in segment %u, which the file lacks",
				   model->tensors[i].name, le32toh(model->tensors[i].segment));
	}
	return 0;
}

/* The next tensor of this name from *i on, or NULL. */
static const struct flm_tensor *next_tensor(const struct ref_model *model, const char *name,
					    uint32_t *i)
{
	while (*i < model->tensor_count) {
		const struct flm_tensor *t = &model->tensors[(*i)++];

		if (!strcmp((const char *)t->name, name))
			return t;
	}
	return NULL;
}

/* All rows of a float32 tensor, gathered from its pieces. */
static int load_f32(struct ref_model *model, const char *name, uint32_t rows, uint32_t cols,
		    float **out)
{
	const struct flm_tensor *t;
	uint32_t i = 0, seen = 0, r, c;

	*out = ref_model_take((uint64_t)rows * cols, sizeof(float));
	while ((t = next_tensor(model, name, &i))) {
		uint32_t first = le32toh(t->first_row), n = le32toh(t->rows);

		if (le32toh(t->kind) != FLM_TENSOR_F32 || le32toh(t->cols) != cols || n > rows ||
		    first > rows - n)
			return bad(model, "%s is not float32 [%u][%u]", name, rows, cols);
		for (r = 0; r < n; r++) {
			float *row = *out + (uint64_t)(first + r) * cols;

			if (fetch(model, find_memory(model, t),
				  le64toh(t->offset) + (uint64_t)r * le32toh(t->pitch), row,
				  (uint64_t)cols * 4))
				return -1;
			for (c = 0; c < cols; c++) {
				uint32_t bits;

				memcpy(&bits, &row[c], 4);
				row[c] = ref_model_bits(le32toh(bits));
			}
		}
		seen += n;
		if (le32toh(t->core) == FLM_CORE_ALL)
			break;
	}
	if (seen != rows)
		return bad(model, "%s has %u rows of %u", name, seen, rows);
	return 0;
}

static int load_embedding(struct ref_model *model)
{
	uint32_t groups = (model->hidden + 63) / 64, i = 0, r, g;
	const char *name = "model.embed_tokens";
	const struct flm_tensor *t = next_tensor(model, name, &i);
	uint16_t *half = ref_model_take(groups, 2);

	model->embed = ref_model_take((uint64_t)model->vocab * model->hidden, 1);
	model->embed_scale = ref_model_take((uint64_t)model->vocab * groups, sizeof(float));
	if (!t || le32toh(t->kind) != FLM_TENSOR_INT8 || t->first_row ||
	    le32toh(t->rows) != model->vocab || le32toh(t->cols) != model->hidden) {
		free(half);
		return bad(model, "%s is not int8 [%u][%u]", name, model->vocab, model->hidden);
	}
	for (r = 0; r < model->vocab; r++) {
		if (fetch(model, find_memory(model, t),
			  le64toh(t->offset) + (uint64_t)r * le32toh(t->pitch),
			  model->embed + (uint64_t)r * model->hidden, model->hidden) ||
		    fetch(model, find_memory(model, t),
			  le64toh(t->scale_offset) + (uint64_t)r * le32toh(t->scale_pitch), half,
			  2 * groups)) {
			free(half);
			return -1;
		}
		for (g = 0; g < groups; g++)
			model->embed_scale[(uint64_t)r * groups + g] =
				ref_model_half(le16toh(half[g]));
	}
	free(half);
	return 0;
}

/* Strips. A stream of bits of one tile, and the order in which codes come. */

static int bit_at(const uint8_t *at, uint64_t bit)
{
	return at[bit / 8] >> bit % 8 & 1;
}

static int number(uint32_t width, uint32_t code)
{
	return width == 2 ? 2 * (int)code - 3 : (int)code - (1 << (width - 1));
}

/* Code i of `lanes` bytes that hold several of `bits` bits: field i / lanes of byte i % lanes. */
static uint32_t packed(const uint8_t *at, uint32_t lanes, uint32_t bits, uint32_t i)
{
	return at[i % lanes] >> bits * (i / lanes) & ((1u << bits) - 1);
}

/*
 * A dense group: columns c of 16 rows. Per four columns there are 64 codes, and 8 / low vectors of
 * them share 64 bytes; the top bit of 3 and 5 bits lies behind all of that.
 */
static void read_dense_group(const uint8_t *at, uint32_t width, uint32_t cols, int8_t *out,
			     uint32_t pitch)
{
	uint32_t low = width == 3 ? 2 : width == 5 ? 4 : width, share = 8 / low;
	const uint8_t *top = at + 2 * low * cols;
	uint32_t r, c, code;

	for (r = 0; r < 16; r++) {
		for (c = 0; c < cols; c++) {
			uint32_t q = c / 4, i = 4 * r + c % 4;

			code = packed(at + 64 * (q / share), 64, low, i + 64 * (q % share));
			if (low != width)
				code |= (uint32_t)bit_at(top, 64 * q + i) << low;
			out[(uint64_t)r * pitch + c] = number(width, code);
		}
	}
}

/* A sparse block; mask is NULL when all is kept. False if a row does not keep n columns. */
static bool read_block(const uint8_t *at, uint32_t width, uint32_t n, const uint8_t *mask,
		       int8_t *out, uint32_t pitch)
{
	uint32_t low = width == 3 ? 2 : width == 5 ? 4 : width, share = 8 / low, p = 0;
	uint32_t lanes = 16 * n / share, kept[16] = { 0 }, j, k, c, code;
	const uint8_t *top = at + lanes;

	for (j = 0; j < 4; j++) {
		for (k = 0; k < 4; k++) {
			uint32_t r = j + 4 * k;

			for (c = 0; c < 16; c++) {
				if (mask && !bit_at(mask + 8 * j, 16 * k + c))
					continue;
				if (++kept[r] > n)
					return false;
				code = packed(at, lanes, low, p);
				if (low != width)
					code |= (uint32_t)bit_at(top, p) << low;
				out[(uint64_t)r * pitch + c] = number(width, code);
				p++;
			}
			if (kept[r] != n)
				return false;
		}
	}
	return true;
}

/* One tile into columns first_col.. of value [16][width] and scale [16][groups]. */
static int read_tile(struct ref_model *model, const struct matrix *m, const struct piece *piece,
		     const struct flm_strip *strip, uint32_t first_col, int8_t *value, float *scale)
{
	uint32_t width = strip->width, blocks = le16toh(strip->blocks), b, g, r, c;
	uint32_t groups = (blocks + 3) / 4;
	uint64_t code_bytes = 0, mask_bytes = 0, at = 0, mask_at = 0;
	uint8_t n[256], *codes = NULL, *masks = NULL;
	uint16_t half[64 * 16];
	int ret;

	if ((width != 2 && width != 3 && width != 4 && width != 5 && width != 8) ||
	    strip->flags & ~FLM_STRIP_SPARSE ||
	    blocks * 16 != (m->width - first_col < 4096 ? m->width - first_col : 4096))
		return bad(model, "a strip has %u bits, flags %u, %u blocks", width, strip->flags,
			   blocks);
	if (strip->flags & FLM_STRIP_SPARSE) {
		if (fetch(model, piece->section, (uint64_t)le32toh(strip->n) * 64, n, blocks))
			return -1;
		for (b = 0; b < blocks; b++) {
			if (n[b] != 0 && n[b] != 2 && n[b] != 4 && n[b] != 8 && n[b] != 16)
				return bad(model, "a block keeps %u of 16", n[b]);
			code_bytes += 2 * n[b] * width;
			mask_bytes += n[b] % 16 ? 32 : 0;
		}
	} else {
		code_bytes = 2 * width * 16 * blocks;
	}
	codes = ref_model_take(code_bytes, 1);
	masks = ref_model_take(mask_bytes, 1);
	ret = fetch(model, piece->section, (uint64_t)le32toh(strip->codes) * 64, codes, code_bytes);
	if (!ret)
		ret = fetch(model, piece->section, (uint64_t)le32toh(strip->masks) * 64, masks,
			    mask_bytes);
	if (!ret)
		ret = fetch(model, piece->section, (uint64_t)le32toh(strip->scales) * 64, half,
			    32 * groups);
	if (ret)
		goto out_free;
	for (g = 0; g < groups; g++) {
		for (r = 0; r < 16; r++)
			scale[(uint64_t)r * m->groups + first_col / 64 + g] =
				ref_model_half(le16toh(half[16 * g + r]));
	}
	if (!(strip->flags & FLM_STRIP_SPARSE)) {
		for (c = 0; c < 16 * blocks; c += 64) {
			uint32_t cols = 16 * blocks - c < 64 ? 16 * blocks - c : 64;

			read_dense_group(codes + at, width, cols, value + first_col + c, m->width);
			at += 2 * width * cols;
		}
		goto out_free;
	}
	for (b = 0; b < blocks; b++) {
		if (n[b] &&
		    !read_block(codes + at, width, n[b], n[b] == 16 ? NULL : masks + mask_at,
				value + first_col + 16 * b, m->width)) {
			ret = bad(model, "a mask does not keep %u columns in each row", n[b]);
			goto out_free;
		}
		at += 2 * n[b] * width;
		mask_at += n[b] % 16 ? 32 : 0;
	}
out_free:
	free(codes);
	free(masks);
	return ret;
}

int ref_model_read_strip(struct ref_model *model, const struct matrix *m, const struct piece *piece,
		      uint32_t s, int8_t *value, float *scale)
{
	uint32_t tiles = (m->width + 4095) / 4096, k;
	struct flm_strip strip;

	memset(value, 0, 16 * (uint64_t)m->width);
	for (k = 0; k < tiles; k++) {
		if (fetch(model, piece->section,
			  piece->offset + ((uint64_t)s * tiles + k) * sizeof(strip), &strip,
			  sizeof(strip)) ||
		    read_tile(model, m, piece, &strip, 4096 * k, value, scale))
			return -1;
	}
	return 0;
}

static int find_matrix(struct ref_model *model, const char *name, uint32_t rows, uint32_t cols,
		       struct matrix *m)
{
	uint8_t *covered = ref_model_take(rows, 1);
	const struct flm_tensor *t;
	uint32_t i = 0, r, seen = 0;
	char bias[80];

	m->rows = rows;
	m->cols = cols;
	m->width = (cols + 15) / 16 * 16;
	m->groups = (cols + 63) / 64;
	while ((t = next_tensor(model, name, &i))) {
		uint32_t first = le32toh(t->first_row), n = le32toh(t->rows);

		if (le32toh(t->kind) != FLM_TENSOR_STRIPS || le32toh(t->cols) != cols || n > rows ||
		    first > rows - n || m->pieces == FLM_CORES_MAX) {
			free(covered);
			return bad(model, "%s is not strips [%u][%u]", name, rows, cols);
		}
		m->piece[m->pieces++] = (struct piece){
			.section = find_memory(model, t), .offset = le64toh(t->offset),
			.first_row = first, .rows = n,
		};
		m->factor = ref_model_bits(le32toh(t->factor));
		for (r = first; r < first + n; r++) {
			seen += !covered[r];
			covered[r] = 1;
		}
	}
	free(covered);
	if (seen != rows)
		return bad(model, "%s has %u rows of %u", name, seen, rows);
	snprintf(bias, sizeof(bias), "%s.bias", name);
	i = 0;
	if (!next_tensor(model, bias, &i))
		return 0;
	/* one row of `rows` columns, or that many rows of one: pieces are by output row */
	i--;
	if (le32toh(model->tensors[i].cols) == 1)
		return load_f32(model, bias, rows, 1, &m->bias);
	return load_f32(model, bias, 1, rows, &m->bias);
}

/* The whole matrix as plain integers. */
static int decode_matrix(struct ref_model *model, struct matrix *m)
{
	int8_t *value = ref_model_take(16, m->width);
	float *scale = ref_model_take(16 * (uint64_t)m->groups, sizeof(float));
	uint32_t s, r;
	int i, ret = 0;

	m->value = ref_model_take(m->rows, m->width);
	m->scale = ref_model_take((uint64_t)m->rows * m->groups, sizeof(float));
	for (i = 0; i < m->pieces && !ret; i++) {
		const struct piece *piece = &m->piece[i];

		for (s = 0; 16 * s < piece->rows && !ret; s++) {
			ret = ref_model_read_strip(model, m, piece, s, value, scale);
			for (r = 0; r < 16 && 16 * s + r < piece->rows && !ret; r++) {
				uint64_t row = piece->first_row + 16 * s + r;

				memcpy(m->value + row * m->width, value + r * m->width, m->width);
				memcpy(m->scale + row * m->groups, scale + r * m->groups,
				       m->groups * sizeof(float));
			}
		}
	}
	free(value);
	free(scale);
	return ret;
}

static int load_layer(struct ref_model *model, uint32_t l)
{
	uint32_t q_rows = model->heads * model->head_dim,
		 kv_rows = model->kv_heads * model->head_dim;
	struct layer *layer = &model->layer[l];
	const struct {
		const char *name;
		uint32_t rows, cols;
		struct matrix *matrix;
	} table[] = {
		{ "self_attn.q_proj", q_rows, model->hidden, &layer->q },
		{ "self_attn.k_proj", kv_rows, model->hidden, &layer->k },
		{ "self_attn.v_proj", kv_rows, model->hidden, &layer->v },
		{ "self_attn.o_proj", model->hidden, q_rows, &layer->o },
		{ "mlp.gate_proj", model->ffn, model->hidden, &layer->gate },
		{ "mlp.up_proj", model->ffn, model->hidden, &layer->up },
		{ "mlp.down_proj", model->hidden, model->ffn, &layer->down },
	};
	char name[80];
	unsigned int i;

	for (i = 0; i < sizeof(table) / sizeof(table[0]); i++) {
		snprintf(name, sizeof(name), "model.layers.%u.%s", l, table[i].name);
		if (find_matrix(model, name, table[i].rows, table[i].cols, table[i].matrix))
			return -1;
	}
	snprintf(name, sizeof(name), "model.layers.%u.input_layernorm", l);
	if (load_f32(model, name, 1, model->hidden, &layer->input_layernorm))
		return -1;
	snprintf(name, sizeof(name), "model.layers.%u.post_attention_layernorm", l);
	return load_f32(model, name, 1, model->hidden, &layer->post_attention_layernorm);
}

struct matrix *ref_model_matrix(struct ref_model *model, uint32_t i)
{
	struct layer *layer = &model->layer[i / 7];

	if (i == 7 * model->layers)
		return &model->head;
	if (i > 7 * model->layers)
		return NULL;
	switch (i % 7) {
	case 0:
		return &layer->q;
	case 1:
		return &layer->k;
	case 2:
		return &layer->v;
	case 3:
		return &layer->o;
	case 4:
		return &layer->gate;
	case 5:
		return &layer->up;
	default:
		return &layer->down;
	}
}

static void drop_decoded(struct matrix *m)
{
	free(m->value);
	free(m->scale);
	m->value = NULL;
	m->scale = NULL;
}

void ref_model_drop_decoded(struct ref_model *model)
{
	struct matrix *m;
	uint32_t i;

	for (i = 0; (m = ref_model_matrix(model, i)); i++)
		drop_decoded(m);
}

/* Reads every strip once, so that none can be bad later; keeps them when the model is small. */
static int decode_model(struct ref_model *model)
{
	struct matrix *m;
	uint64_t total = 0;
	uint32_t i;
	int ret;

	for (i = 0; (m = ref_model_matrix(model, i)); i++)
		total += (uint64_t)m->rows * m->width;
	for (i = 0; (m = ref_model_matrix(model, i)); i++) {
		ret = decode_matrix(model, m);
		if (ret)
			return ret;
		if (total >= DECODED_MAX)
			drop_decoded(m);
	}
	return 0;
}

int ref_model_load(struct ref_model *model)
{
	uint64_t cached;
	uint32_t l;

	if (check_file(model) || check_model(model) || load_embedding(model))
		return -1;
	if (load_f32(model, "rope.table", model->context, model->head_dim, &model->rope) ||
	    load_f32(model, "model.norm", 1, model->hidden, &model->norm) ||
	    find_matrix(model, "lm_head", model->vocab, model->hidden, &model->head))
		return -1;
	model->layer = ref_model_take(model->layers, sizeof(*model->layer));
	for (l = 0; l < model->layers; l++) {
		if (load_layer(model, l))
			return -1;
	}
	if (decode_model(model))
		return -1;
	cached = (uint64_t)model->layers * model->kv_heads * model->context;
	model->k_value = ref_model_take(cached, model->head_dim);
	model->v_value = ref_model_take(cached, model->head_dim);
	model->k_scale = ref_model_take(cached * model->head_groups, sizeof(float));
	model->v_scale = ref_model_take(cached, sizeof(float));
	return 0;
}
