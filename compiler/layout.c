// SPDX-License-Identifier: MIT
/*
 * Sections of the file: where each lies, and the contents of the small ones (model, tensors,
 * program, tokenizer, notes, names of parts of the streams). Everything is computed from the
 * plan, so the same model and options give the same file.
 */
#include <stdlib.h>
#include <string.h>

#include "compiler/cc.h"
#include "compiler/write.h"

static void section(struct plan *p, struct blob *blobs, struct section_plan s, struct blob blob)
{
	struct section_plan *at = &p->sections[p->section_count];

	if (p->section_count == SECTIONS_MAX)
		die("internal error: more than %d sections", SECTIONS_MAX);
	*at = s;
	if (blob.bytes)
		at->bytes = blob.bytes;
	if (at->place != FLM_PLACE_NONE)
		at->memory_bytes = at->bytes;
	blobs[p->section_count++] = blob;
}

/* Last part of a directory's path, also where "." or a link is what the user wrote. */
static const char *base_name(const char *path)
{
	char *real = realpath(path, NULL), *slash = real ? strrchr(real, '/') : NULL;
	const char *name = slash && slash[1] ? arena_printf("%s", slash + 1) : path;

	free(real);
	return name;
}

static uint32_t float_bits(float x)
{
	uint32_t bits;

	memcpy(&bits, &x, 4);
	return bits;
}

static struct blob make_model(const struct plan *p)
{
	const struct checkpoint_config *c = p->config;
	const struct options *o = p->options;
	struct flm_model_desc *m = arena(sizeof(*m));
	const struct {
		__le32 *at;
		uint32_t value;
	} fields[] = {
		{ &m->arch, FLM_ARCH_LLAMA }, { &m->layers, c->layers }, { &m->hidden, c->hidden },
		{ &m->ffn, c->ffn }, { &m->heads, c->heads }, { &m->kv_heads, c->kv_heads },
		{ &m->head_dim, c->head_dim }, { &m->vocab, c->vocab }, { &m->context, p->context },
		{ &m->chunk, p->chunk }, { &m->norm_eps, float_bits(c->norm_eps) },
		{ &m->softmax_scale, p->softmax_scale }, { &m->bos, c->bos },
		{ &m->eos_count, c->eos_count },
	};

	if (c->bos < 0)
		die("%s/config.json: no bos_token_id; name the token that begins a text", o->model);
	if (c->eos_count > FLM_EOS_MAX)
		die("%s/config.json: eos_token_id lists %u tokens, an .flm holds %d; leave some out",
		    o->model, c->eos_count, FLM_EOS_MAX);
	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		put_le32((uint8_t *)fields[i].at, fields[i].value);
	for (int i = 0; i < FLM_ROTATIONS; i++)
		put_le32((uint8_t *)&m->rotate[i], p->rotate[i]);
	for (uint32_t i = 0; i < c->eos_count; i++)
		put_le32((uint8_t *)&m->eos[i], c->eos[i]);
	for (unsigned int core = 0; core < p->card->cores; core++)
		put_le32((uint8_t *)&m->kv_page_bytes[core], p->page_bytes);
	snprintf((char *)m->name, sizeof(m->name), "%s",
		 o->synthetic ? o->synthetic : base_name(o->model));
	return (struct blob) { m, sizeof(*m) };
}

struct tensors {
	struct flm_tensor *rows;
	size_t count;
};

static void tensor(struct tensors *t, const char *name, uint32_t kind, uint32_t core,
		   uint32_t segment, uint32_t first, uint32_t rows, uint32_t cols, uint64_t offset)
{
	struct flm_tensor *row = &t->rows[t->count++];

	snprintf((char *)row->name, sizeof(row->name), "%s", name);
	put_le32((uint8_t *)&row->kind, kind);
	put_le32((uint8_t *)&row->core, core);
	put_le32((uint8_t *)&row->segment, segment);
	put_le32((uint8_t *)&row->first_row, first);
	put_le32((uint8_t *)&row->rows, rows);
	put_le32((uint8_t *)&row->cols, cols);
	put_le32((uint8_t *)&row->pitch, kind == FLM_TENSOR_F32 ? 4 * cols :
		 kind == FLM_TENSOR_INT8 ? cols : 0);
	put_le64((uint8_t *)&row->offset, offset);
	put_le32((uint8_t *)&row->factor, float_bits(1));
}

static void tensor_matrix(const struct plan *p, struct tensors *t, int id, uint32_t layer)
{
	const struct matrix *m = &p->matrix[id];
	char name[64];
	char bias[80];

	tensor_name(p, id, layer, name);
	if (m->has_bias) {
		snprintf(bias, sizeof(bias), "%s.bias", name);
		tensor(t, bias, FLM_TENSOR_F32, FLM_CORE_ALL, FLM_SEGMENT_SHARED, 0, 1, m->rows,
		       p->biases + (uint64_t)layer * p->layer_biases + m->bias);
	}
	for (unsigned int core = 0; core < p->card->cores; core++) {
		uint32_t first, rows = core_rows(p, m->split, core, &first);

		tensor(t, name, FLM_TENSOR_STRIPS, core, FLM_SEGMENT_WEIGHTS, first, rows, m->cols,
		       m->table + (uint64_t)layer * p->layer_tables);
	}
}

static struct blob make_tensors(const struct plan *p)
{
	const struct checkpoint_config *c = p->config;
	size_t most = (size_t)c->layers * (7 * p->card->cores + 9) + p->card->cores + 3;
	struct tensors t = { arena(most * sizeof(*t.rows)), 0 };
	uint64_t norm = p->norms;
	struct flm_tensor *embed;
	char name[64];

	embed = t.rows;
	tensor(&t, "model.embed_tokens", FLM_TENSOR_INT8, FLM_CORE_ALL, FLM_SEGMENT_SHARED, 0,
	       c->vocab, c->hidden, p->embed);
	put_le32((uint8_t *)&embed->scale_pitch, 2 * p->embed_groups);
	put_le64((uint8_t *)&embed->scale_offset, p->embed_scales);
	tensor(&t, "rope.table", FLM_TENSOR_F32, FLM_CORE_ALL, FLM_SEGMENT_SHARED, 0, p->context,
	       c->head_dim, p->rope);
	for (uint32_t layer = 0; layer < c->layers; layer++) {
		for (int i = 0; i < 2; i++, norm += 4ull * c->hidden) {
			snprintf(name, sizeof(name), "model.layers.%u.%s", layer,
				 i ? "post_attention_layernorm" : "input_layernorm");
			tensor(&t, name, FLM_TENSOR_F32, FLM_CORE_ALL, FLM_SEGMENT_SHARED, 0, 1,
			       c->hidden, norm);
		}
		for (int m = 0; m < M_HEAD; m++)
			tensor_matrix(p, &t, m, layer);
	}
	tensor(&t, "model.norm", FLM_TENSOR_F32, FLM_CORE_ALL, FLM_SEGMENT_SHARED, 0, 1, c->hidden,
	       norm);
	tensor_matrix(p, &t, M_HEAD, 0);
	return (struct blob) { t.rows, t.count * sizeof(*t.rows) };
}

static struct blob make_map(const struct plan *p)
{
	struct flm_map *rows = arena((p->map_count + 1) * sizeof(*rows));

	for (uint32_t i = 0; i < p->map_count; i++) {
		put_le32((uint8_t *)&rows[i].entry, p->map[i].entry);
		put_le32((uint8_t *)&rows[i].unit, p->map[i].unit);
		put_le32((uint8_t *)&rows[i].first, p->map[i].first);
		put_le32((uint8_t *)&rows[i].words, p->map[i].words);
		memcpy(rows[i].name, p->map[i].name, sizeof(rows[i].name));
	}
	return (struct blob) { rows, p->map_count * sizeof(*rows) };
}

static struct blob make_tokenizer(const struct plan *p)
{
	size_t bytes;
	char *text;
	void *data;
	int ret;

	if (p->options->synthetic)
		return (struct blob) { 0 };
	ret = checkpoint_tokenizer_read(p->checkpoint, &text, &bytes);
	if (ret)
		die_checkpoint(ret);
	data = arena_grow(text, bytes, bytes);
	free(text);
	return (struct blob) { data, bytes };
}

/* Bytes of one kind of matrix, all layers and cores; and its elements. */
static uint64_t matrix_bytes(const struct plan *p, int id, uint64_t *elements)
{
	const struct matrix *m = &p->matrix[id];
	uint64_t layers = id == M_HEAD ? 1 : p->config->layers, bytes = 0;

	for (unsigned int core = 0; core < p->card->cores; core++) {
		uint32_t first, rows = core_rows(p, m->split, core, &first);

		bytes += (uint64_t)DIV_UP(rows, FLM_STRIP) *
			 (m->strip_bytes + m->tiles * sizeof(struct flm_strip));
	}
	*elements = layers * m->rows * m->cols;
	return layers * bytes;
}

static struct blob make_notes(struct plan *p)
{
	static const char *const chats[] = {
		[CHECKPOINT_CHAT_NONE] = "", [CHECKPOINT_CHAT_LLAMA2] = "\"chat\": \"llama2\", ",
		[CHECKPOINT_CHAT_OTHER] = "\"chat\": \"other\", ",
	};
	uint64_t all_bytes = 0, all_elements = 0;
	char *tensors = "", *rotate = "", *text;

	for (int i = 0; i < MATRICES; i++) {
		uint64_t elements, bytes = matrix_bytes(p, i, &elements);

		tensors = arena_printf("%s%s\"%s\": {\"bytes\": %llu, \"elements\": %llu}", tensors,
				       i ? ", " : "", p->matrix[i].part, (unsigned long long)bytes,
				       (unsigned long long)elements);
		all_bytes += bytes;
		all_elements += elements;
	}
	for (int i = 0; i < ROTATIONS; i++)
		rotate = arena_printf("%s%s\"%s\": %u", rotate, i ? ", " : "", rotation_names[i],
				      p->rotate[i]);
	p->bits = 8.0 * all_bytes / all_elements;
	text = arena_printf("{\"compiler\": \"flightllm-cc " CC_VERSION "\", \"command\": %s, "
			    "\"card\": \"%s\", \"weights\": \"w%u\", \"bits\": %.4f, "
			    "%s\"rotate\": {%s}, \"chunk\": %u, \"watchdog\": %llu, "
			    "\"tensors\": {%s, \"model.embed_tokens\": {\"bytes\": %llu, \"elements\": %llu}}}\n",
			    json_text(p->options->command), p->card->name, p->options->width,
			    p->bits, chats[checkpoint_chat(p->checkpoint)], rotate, p->chunk,
			    (unsigned long long)p->watchdog, tensors,
			    (unsigned long long)p->config->vocab *
			    (p->config->hidden + 2 * p->embed_groups),
			    (unsigned long long)p->config->vocab * p->config->hidden);
	return (struct blob) { text, strlen(text) };
}

void layout_run(struct plan *p, struct blob blobs[SECTIONS_MAX])
{
	struct blob none = { 0 }, program, tokenizer;
	uint8_t *bytes;
	uint64_t at;

#define HOST(k, blob) \
	section(p, blobs, (struct section_plan) { .kind = k, .core = FLM_CORE_ALL }, blob)
	HOST(FLM_SECTION_MODEL, make_model(p));
	HOST(FLM_SECTION_TENSORS, make_tensors(p));
	program.bytes = program_build(p, &bytes);
	program.data = bytes;
	section(p, blobs, (struct section_plan) {
		.kind = FLM_SECTION_PROGRAM, .core = FLM_CORE_ALL, .segment = FLM_SEGMENT_PROGRAM,
		.place = FLM_PLACE_DDR, .rights = FLM_RIGHT_R | FLM_RIGHT_X }, program);
	tokenizer = make_tokenizer(p);
	if (tokenizer.bytes)
		HOST(FLM_SECTION_TOKENIZER, tokenizer);
	HOST(FLM_SECTION_NOTES, make_notes(p));
	HOST(FLM_SECTION_MAP, make_map(p));
#undef HOST
	section(p, blobs, (struct section_plan) {
		.kind = FLM_SECTION_SHARED, .core = FLM_CORE_ALL, .segment = FLM_SEGMENT_SHARED,
		.place = FLM_PLACE_DDR, .rights = FLM_RIGHT_R, .bytes = p->shared_bytes }, none);
	for (unsigned int core = 0; core < p->card->cores; core++)
		section(p, blobs, (struct section_plan) {
			.kind = FLM_SECTION_WEIGHTS, .core = core, .segment = FLM_SEGMENT_WEIGHTS,
			.place = FLM_PLACE_HBM, .rights = FLM_RIGHT_R,
			.bytes = p->weight_bytes[core] }, none);
	at = sizeof(struct flm_file) + p->section_count * sizeof(struct flm_section);
	for (unsigned int i = 0; i < p->section_count; i++) {
		at = ROUND_UP(at, FLM_FILE_ALIGN);
		p->sections[i].offset = at;
		at += p->sections[i].bytes;
	}
	p->file_bytes = at;
}

uint64_t layout_section(const struct plan *p, uint32_t kind, uint32_t core)
{
	for (unsigned int i = 0; i < p->section_count; i++)
		if (p->sections[i].kind == kind && p->sections[i].core == core)
			return p->sections[i].offset;
	die("internal error: no section %u of core %u", kind, core);
}
