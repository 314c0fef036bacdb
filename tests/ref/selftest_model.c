// SPDX-License-Identifier: MIT
/*
 * Does the reference of the model follow SPEC.md's chapter "A layer, to the bit"? A small model
 * made of short formulas is written as a .flm file, in all widths, dense and sparse. The expected
 * logits were computed from the same formulas by a program in another language that rounds each
 * operation of that chapter to float32 and knows nothing of strips.
 */
#include <err.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flightllm/file.h>
#include <flightllm/isa.h>

#include "tests/ref/ref_isa.h"
#include "tests/ref/ref_model.h"
#include "tests/tap.h"

#define SEGMENT_BYTES	65536
#define HIDDEN		80
#define FFN		48
#define HEADS		2
#define DIM		16
#define VOCAB		20
#define CONTEXT		70

static const struct tensor {
	const char *name;
	uint32_t rows, cols, width;
	int is_sparse;
} tensors[8] = {
	{ "model.layers.0.self_attn.q_proj", HEADS * DIM, HIDDEN, 8, 0 },
	{ "model.layers.0.self_attn.k_proj", DIM, HIDDEN, 4, 0 },
	{ "model.layers.0.self_attn.v_proj", DIM, HIDDEN, 5, 0 },
	{ "model.layers.0.self_attn.o_proj", HIDDEN, HEADS * DIM, 3, 1 },
	{ "model.layers.0.mlp.gate_proj", FFN, HIDDEN, 2, 0 },
	{ "model.layers.0.mlp.up_proj", FFN, HIDDEN, 4, 1 },
	{ "model.layers.0.mlp.down_proj", HIDDEN, FFN, 8, 1 },
	{ "lm_head", VOCAB, HIDDEN, 5, 1 },
};

static _Alignas(64) uint8_t file[131072];
static struct flm_tensor table[16];
static uint32_t table_count;
static uint8_t *segment;	/* in file */
static uint32_t used;		/* bytes of segment */

/* ---- The formulas ---- */

static uint32_t code_of(uint32_t m, uint32_t r, uint32_t c)
{
	return (m * 37 + r * 11 + c * 7 + r * c * 3) % (1u << tensors[m].width);
}

static uint16_t scale_of(uint32_t m, uint32_t r, uint32_t g)
{
	return 0x2000 + (m + r + 3 * g) % 4 * 0x100;	/* 2^-7 * 1, 1.25, 1.5, 1.75 */
}

static uint32_t n_of(uint32_t block)
{
	static const uint8_t n[5] = { 16, 8, 4, 2, 0 };

	return n[block % 5];
}

/* 5 is odd, so each row keeps n of 16 columns. */
static int is_kept(uint32_t r, uint32_t c)
{
	return (c % 16 * 5 + r) % 16 < n_of(c / 16);
}

/* ---- The file ---- */

static uint32_t place(uint32_t bytes)
{
	uint32_t at = used;

	used = (used + bytes + 63) / 64 * 64;
	if (used > SEGMENT_BYTES)
		errx(1, "the segment is too small");
	return at;
}

/* Low bits of code i of a plane of `lanes` bytes, then its top bit in the plane behind `low`. */
static void put_code(uint8_t *low, uint8_t *top, uint32_t width, uint32_t lanes, uint32_t i,
		     uint32_t top_bit, uint32_t code)
{
	uint32_t bits = width == 3 ? 2 : width == 5 ? 4 : width;

	low[i % lanes] |= (code & ((1u << bits) - 1)) << bits * (i / lanes);
	if (bits != width)
		top[top_bit / 8] |= code >> bits << top_bit % 8;
}

static void pack_dense(uint32_t m, uint32_t strip, uint8_t *at)
{
	uint32_t width = tensors[m].width, bits = width == 3 ? 2 : width == 5 ? 4 : width;
	uint32_t share = 8 / bits, g, q, i, cols;

	for (g = 0; g < tensors[m].cols; g += 64) {
		cols = tensors[m].cols - g < 64 ? tensors[m].cols - g : 64;
		for (q = 0; q < cols / 4; q++) {
			for (i = 0; i < 64; i++)
				put_code(at + q / share * 64, at + 2 * bits * cols, width, 64,
					 q % share * 64 + i, 64 * q + i,
					 code_of(m, 16 * strip + i / 4, g + 4 * q + i % 4));
		}
		at += 2 * width * cols;
	}
}

static void pack_sparse(uint32_t m, uint32_t strip, uint8_t *at, uint8_t *n, uint8_t *mask)
{
	uint32_t width = tensors[m].width, bits = width == 3 ? 2 : width == 5 ? 4 : width;
	uint32_t b, bit, p, r, c;

	for (b = 0; b < tensors[m].cols / 16; b++) {
		n[b] = n_of(b);
		for (bit = 0, p = 0; bit < 256; bit++) {
			r = 16 * strip + bit / 64 + 4 * (bit / 16 % 4);
			c = 16 * b + bit % 16;
			if (!is_kept(r, c))
				continue;
			if (n[b] < 16)
				mask[bit / 8] |= 1 << bit % 8;
			put_code(at, at + 2 * bits * n[b], width, 2 * bits * n[b], p, p,
				 code_of(m, r, c));
			p++;
		}
		if (n[b] && n[b] < 16)
			mask += 32;
		at += 2 * n[b] * width;
	}
}

static struct flm_tensor *add_tensor(const char *name, uint32_t kind, uint32_t rows, uint32_t cols)
{
	struct flm_tensor *t = &table[table_count++];

	*t = (struct flm_tensor){
		.kind = kind, .core = FLM_CORE_ALL, .segment = 2, .rows = rows, .cols = cols,
		.pitch = kind == FLM_TENSOR_F32 ? 4 * cols : kind == FLM_TENSOR_INT8 ? cols : 0,
		.factor = 0x3f800000,
	};
	strcpy((char *)t->name, name);
	return t;
}

static void add_matrix(uint32_t m)
{
	const struct tensor *x = &tensors[m];
	uint32_t strips = (x->rows + 15) / 16, s, r, g, groups = (x->cols + 63) / 64;
	uint32_t codes, n, masks, scales, at = place(32 * strips);

	add_tensor(x->name, FLM_TENSOR_STRIPS, x->rows, x->cols)->offset = at;
	for (s = 0; s < strips; s++) {
		codes = place(2 * x->width * x->cols);
		n = x->is_sparse ? place(x->cols / 16) : 0;
		masks = x->is_sparse ? place(2 * x->cols) : 0;
		scales = place(32 * groups);
		if (x->is_sparse)
			pack_sparse(m, s, segment + codes, segment + n, segment + masks);
		else
			pack_dense(m, s, segment + codes);
		for (g = 0; g < groups; g++) {
			for (r = 0; r < 16; r++) {
				uint16_t half = scale_of(m, 16 * s + r, g);

				memcpy(segment + scales + 32 * g + 2 * r, &half, 2);
			}
		}
		*(struct flm_strip *)(segment + at + 32 * s) = (struct flm_strip){
			.width = x->width, .flags = x->is_sparse, .blocks = x->cols / 16,
			.codes = codes / 64, .n = n / 64, .masks = masks / 64,
			.scales = scales / 64,
		};
	}
}

static void add_norm(const char *name, uint32_t rows, uint32_t cols, uint32_t which)
{
	uint32_t at = place(4 * rows * cols), r, c;
	float x;

	add_tensor(name, FLM_TENSOR_F32, rows, cols)->offset = at;
	for (r = 0; r < rows; r++) {
		for (c = 0; c < cols; c++) {
			if (which < 3)		/* norms: 1 to 2 */
				x = 1 + (float)((c * 5 + which) % 64) / 64;
			else if (c < DIM / 2)	/* the rope table: anything will do */
				x = 1 - (float)(r * (c + 1) % 128) / 128;
			else
				x = (float)(r * (c + 3) % 128) / 64 - 1;
			memcpy(segment + at + 4 * (r * cols + c), &x, 4);
		}
	}
}

static void add_embedding(void)
{
	struct flm_tensor *t = add_tensor("model.embed_tokens", FLM_TENSOR_INT8, VOCAB, HIDDEN);
	uint32_t r, c, g;

	t->offset = place(VOCAB * HIDDEN);
	t->scale_offset = place(VOCAB * 4);
	t->scale_pitch = 4;
	for (r = 0; r < VOCAB; r++) {
		for (c = 0; c < HIDDEN; c++)
			segment[t->offset + HIDDEN * r + c] = r * 29 + c * 13 + r * c;
		for (g = 0; g < 2; g++) {
			uint16_t half = scale_of(0, r, g);

			memcpy(segment + t->scale_offset + 4 * r + 2 * g, &half, 2);
		}
	}
}

/* The whole file into `file`; returns its bytes. */
static uint32_t make_file(void)
{
	struct flm_file *header = (struct flm_file *)file;
	struct flm_section *section = (struct flm_section *)(file + 64);
	struct flm_model_desc *model = (struct flm_model_desc *)(file + 4096);
	uint32_t m, crc;

	memset(file, 0, sizeof(file));
	table_count = 0;
	segment = file + 12288;
	used = 0;
	*model = (struct flm_model_desc){
		.arch = 1, .layers = 1, .hidden = HIDDEN, .ffn = FFN, .heads = HEADS, .kv_heads = 1,
		.head_dim = DIM, .vocab = VOCAB, .context = CONTEXT, .chunk = 16,
		.norm_eps = 0x3c23d70a, .softmax_scale = 0x3e800000,	/* 0.01, 0.25 */
		.rotate = { 0, 32, 0, 16, 16 }, .bos = 1, .eos_count = 1, .eos = { 2 },
	};
	for (m = 0; m < 8; m++)
		add_matrix(m);
	add_norm("model.layers.0.input_layernorm", 1, HIDDEN, 0);
	add_norm("model.layers.0.post_attention_layernorm", 1, HIDDEN, 1);
	add_norm("model.norm", 1, HIDDEN, 2);
	add_norm("rope.table", CONTEXT, DIM, 3);
	add_embedding();
	memcpy(file + 8192, table, table_count * sizeof(table[0]));
	section[0] = (struct flm_section){
		.kind = FLM_SECTION_MODEL, .core = FLM_CORE_ALL, .offset = 4096, .bytes = 256,
		.crc32c = ref_model_crc32c(0, file + 4096, 256),
	};
	section[1] = (struct flm_section){
		.kind = FLM_SECTION_TENSORS, .core = FLM_CORE_ALL, .offset = 8192,
		.bytes = table_count * sizeof(table[0]),
		.crc32c = ref_model_crc32c(0, table, table_count * sizeof(table[0])),
	};
	section[2] = (struct flm_section){
		.kind = FLM_SECTION_SHARED, .core = FLM_CORE_ALL, .offset = 12288,
		.bytes = used, .memory_bytes = SEGMENT_BYTES, .segment = 2, .rights = 1,
		.place = FLM_PLACE_DDR, .crc32c = ref_model_crc32c(0, segment, used),
	};
	memcpy(header->magic, "FLM-FILE", 8);
	header->major = htole16(1);
	header->isa_major = htole16(1);
	header->cores = 1;
	header->sections = 3;
	header->bytes = 12288 + used;
	crc = ref_model_crc32c(0, header, 64);
	header->crc32c = ref_model_crc32c(crc, section, 3 * sizeof(*section));
	return 12288 + used;
}

static int open_file(uint32_t bytes, struct ref_model **model, char error[256])
{
	char path[] = "/tmp/ref-model-XXXXXX";
	int fd = mkstemp(path), ret;

	if (fd < 0 || write(fd, file, bytes) != (ssize_t)bytes)
		err(1, "%s", path);
	close(fd);
	ret = ref_model_open(path, model, error);
	unlink(path);
	return ret;
}

static void refuses(uint32_t bytes, const char *what, const char *part)
{
	struct ref_model *model = NULL;
	char error[256] = "";

	ok(open_file(bytes, &model, error) && strstr(error, part), "%s is refused: %s", what,
	   error);
	ref_model_close(model);
}

/* ---- The claims ---- */

static const struct {
	uint32_t position, logits[VOCAB];
} known[] = {
	{ 0,
	  { 0x3f619510, 0x3d6f54a2, 0x3f1b2c2f, 0xbfb34729, 0xbf42c93b,
	    0xbf96509b, 0xbf25e573, 0xbf98e197, 0x3ef3cdaa, 0x3ee71e47,
	    0x3b532c8e, 0xbf782127, 0xbf4fdfdc, 0x3ed61b66, 0xbea007c4,
	    0x3f5dbb96, 0x3d815817, 0xbe1c08bf, 0x3d96509b, 0x3ede9cd6 } },
	{ 1,
	  { 0xbf8ca65e, 0xbe2f5b0e, 0x3f9b58f0, 0xbf1eb690, 0x3fdb524b,
	    0xbdfe5fbe, 0x3f0162be, 0xbf904d99, 0xbdd8e4f9, 0x3eecc8c8,
	    0xbf542cf7, 0x3f9019a4, 0xbf7e6cbb, 0x3f1722d3, 0xbf3476a6,
	    0x3f745c85, 0x3f3c7af5, 0x3ecebf1c, 0xbfed09ba, 0xbe343a08 } },
	{ 69,
	  { 0xbeb30b04, 0x3ef69340, 0xbc933586, 0x3f920354, 0x3ea961e7,
	    0x3f59de93, 0xbf017f7c, 0x3fb05ff7, 0xbf8459a4, 0xbf3fbd65,
	    0xbf5b3419, 0xbe0247b0, 0x3e654734, 0xbe91003d, 0xbf213d6c,
	    0xbe5f0591, 0x3fca8cec, 0xbee07e6c, 0x3f58369c, 0xbed2e083 } },
};

static void test_logits(void)
{
	float logits[VOCAB], again[VOCAB];
	struct ref_model *model;
	char error[256];
	uint32_t p, k = 0;

	if (!ok(!open_file(make_file(), &model, error), "the model opens"))
		return;
	ok(ref_model_vocab(model) == 20 && ref_model_context(model) == 70 &&
	   ref_model_is_eos(model, 2) && !ref_model_is_eos(model, 1), "its table is read");
	for (p = 0; p < CONTEXT; p++) {
		if (ref_model_logits(model, (p * 7 + 3) % VOCAB, p, logits))
			break;
		if (k < sizeof(known) / sizeof(known[0]) && known[k].position == p) {
			ok(!memcmp(logits, known[k].logits, sizeof(logits)),
			   "all logits of position %u, to the bit", p);
			k++;
		}
	}
	ok(p == CONTEXT && k == sizeof(known) / sizeof(known[0]), "the whole context is computed");
	ok(ref_model_logits(model, 0, CONTEXT, logits) == -1, "a position behind it is refused");
	ok(ref_model_logits(model, VOCAB, 3, logits) == -1,
	   "a token beyond the vocabulary is refused");
	ref_model_logits(model, 12, 67, again);
	ok(ref_model_logits(model, (69 * 7 + 3) % VOCAB, 69, logits) == -1,
	   "after going back, a gap is refused");
	ref_model_reset(model);
	ref_model_logits(model, 3, 0, again);
	ok(!memcmp(again, known[0].logits, sizeof(again)), "a reset forgets the cache");
	ref_model_drop_decoded(model);
	ref_model_logits(model, 10, 1, again);
	ok(!memcmp(again, known[1].logits, sizeof(again)), "strips decoded on the way are alike");
	ref_model_close(model);
}

/* Candidates as topk makes them, then the other reference's choice. */
static uint32_t choose(const float *logits, uint32_t count, const struct ref_sampler *sampler,
		       uint32_t position)
{
	struct ref_candidate x[VOCAB], swap;
	uint32_t i, j;

	for (i = 0; i < VOCAB; i++)
		x[i] = (struct ref_candidate){ logits[i], i };
	for (i = 0; i < VOCAB; i++) {
		for (j = VOCAB - 1; j > i; j--) {
			if (x[j].logit > x[j - 1].logit) {
				swap = x[j];
				x[j] = x[j - 1];
				x[j - 1] = swap;
			}
		}
	}
	return ref_isa_choose(x, count, sampler, position);
}

static void test_sample(void)
{
	struct ref_model_sampler sampler = { .temperature = 1 };
	uint32_t trial, i, a, b, same = 0, first = 0, x = 1;
	struct ref_model *model;
	float logits[VOCAB] = { 0 };
	char error[256];

	if (!ok(!open_file(make_file(), &model, error), "the model opens again"))
		return;
	/* position 0, seed 0: u = 0.399; 20 and 16 equal ones */
	ok(ref_model_sample(model, logits, &sampler, 0, 1024) == 7, "of 20 equal ones: at 7.98");
	ok(ref_model_sample(model, logits, &sampler, 0, 16) == 6, "of 16 candidates: at 6.38");
	logits[11] = 0.5f;
	sampler.temperature = 0;
	ok(ref_model_sample(model, logits, &sampler, 0, 1024) == 11, "temperature 0: the greatest");
	for (trial = 0; trial < 1000; trial++) {
		struct ref_sampler other;

		for (i = 0; i < VOCAB; i++) {
			x = x * 1664525 + 1013904223;
			logits[i] = (float)(x >> 24) / 32;
		}
		sampler = (struct ref_model_sampler){
			.temperature = trial % 4 * 0.75f, .top_k = trial / 4 % 7,
			.top_p = trial % 5 * 0.25f, .min_p = trial % 3 * 0.05f,
			.seed = (uint64_t)x << 16 | trial,
		};
		other = (struct ref_sampler){ sampler.temperature, sampler.top_k, sampler.top_p,
					      sampler.min_p, sampler.seed };
		a = ref_model_sample(model, logits, &sampler, trial, 1 + trial % 30);
		b = choose(logits, 1 + trial % 30 < VOCAB ? 1 + trial % 30 : VOCAB, &other, trial);
		same += a == b;
		first += a == choose(logits, 1, &other, trial);
	}
	ok(same == 1000, "both references choose alike 1000 times (%u)", same);
	ok(first < 900, "and not always the greatest (%u times)", first);
	ref_model_close(model);
}

static void test_refusals(void)
{
	uint32_t bytes = make_file();

	file[0] = 'X';
	refuses(bytes, "another magic", "FLM-FILE");
	make_file();
	file[8] = 2;
	refuses(bytes, "another major", "format 2.0");
	make_file();
	refuses(bytes - 1, "a file that was cut off", "bytes");
	file[64 + 4]++;
	refuses(bytes, "a changed section table", "header checksum");
	make_file();
	file[bytes - 1] ^= 1;
	refuses(bytes, "a changed weight", "section 2: checksum");
}

int main(void)
{
	test_logits();
	test_sample();
	test_refusals();
	return done_testing();
}
