/* SPDX-License-Identifier: MIT */
/*
 * A prefill in the shape of LLaMA2-7B for two cores of a u280: 32 layers, 4,096 columns, 11,008
 * between up and down, 32 heads of 128, chunks of 128 tokens, weights of 8 bits in strips that LD
 * and MM pass to each other through two slots of the weight buffer, as the compiler's programs do.
 *
 * The one idea: shapes and traffic are the model's, numbers are not. All weights and activations
 * are 1, so eight strips of them serve all matrices and each layer's result is known: down_proj
 * adds 11,008 ones.
 */
#ifndef TESTS_EMULATOR_PREFILL_H
#define TESTS_EMULATOR_PREFILL_H

#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "tests/emulator/program.h"

#define PREFILL_CHUNK	128
#define PREFILL_LAYERS	32
#define PREFILL_RESULT	0x462c0000u	/* 11008.0 */
#define PREFILL_STRIP	67584u		/* bytes: 16 rows of 4,096 codes, 64 groups of scales */
#define PREFILL_BYTES	0x90000u	/* of the segment of weights: tables, then eight strips */

/* Segments of the program: 0 itself, 1 its job, and these. */
enum { PREFILL_WEIGHTS = 2, PREFILL_RESULTS = 3 };

/* Strip tables, as offsets in the weights: of 4,096 / 2, of 11,008 / 2 and of 4,096 / 2 rows. */
enum { PREFILL_SQUARE = 0, PREFILL_WIDE = 0x1000, PREFILL_DOWN = 0x4000, PREFILL_CODES = 0x8000 };

/* In ACT: activations [128][11008], their scales [128][172], then two results [128][5504]. */
enum { PREFILL_A = 0, PREFILL_SCALES = 0x160000, PREFILL_OUT = 0x200000, PREFILL_OUT2 = 0x4b0000 };

/* Text that grows. */
struct prefill_text {
	char at[32768];
	size_t used;
};

__attribute__((format(printf, 2, 3)))
static inline void prefill_add(struct prefill_text *text, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text->used += vsnprintf(text->at + text->used, sizeof(text->at) - text->used, format, args);
	va_end(args);
	if (text->used >= sizeof(text->at))
		errx(1, "the prefill's program is too long");
}

static inline unsigned int prefill_words(const char *text)
{
	uint32_t words[FLM_WORDS_MAX];
	char *copy = strdup(text), *rest = copy, *line, error[FLM_TEXT_BYTES];
	unsigned int count = 0;

	while ((line = strsep(&rest, "\n"))) {
		int n = flm_isa_parse(line, words, FLM_WORDS_MAX, error);

		if (n < 0)
			errx(1, "%s: %s", line, error);
		count += n;
	}
	free(copy);
	return count;
}

static inline void prefill_loop(struct prefill_text *text, unsigned int trips, const char *body)
{
	prefill_add(text, "loop sub=%u bound=%u body=%u\n%send\n", trips, trips,
		    prefill_words(body) + 1, body);
}

/*
 * One matrix of `strips` strips a core, four of them in a slot; each K tile of each four is loaded
 * or multiplied in turn.
 */
static inline void prefill_matrix(struct prefill_text *text, bool is_load, unsigned int table,
				  unsigned int strips, unsigned int tiles, unsigned int out)
{
	struct prefill_text body = { .used = 0 };

	for (unsigned int i = 0; i < 2 * tiles; i++) {
		unsigned int half = i / tiles, k = i % tiles, slot = (i & 1) * 0x80000;

		prefill_add(&body, "%s%s seg=2 table=%u row=%u+%u*loop1 step=%u strips=4/4 ",
			    is_load ? "ld.tile" : "mm", is_load || k ? "" : " +first", table,
			    half * 4 * tiles + k, 8 * tiles, tiles);
		if (is_load)
			prefill_add(&body, "dst=wgt:%u pitch=%u idx=idx:0 wait=mm release=mm\n",
				    slot, PREFILL_STRIP);
		else
			prefill_add(&body,
				    "w=wgt:%u w_pitch=%u idx=idx:0 a=act:%u a_pitch=11008 "
				    "a_scales=act:%u a_scale_pitch=688 tokens=0+1*len1/128 "
				    "out=act:%u+512*loop1 out_pitch=22016 wait=ld release=ld\n",
				    slot, PREFILL_STRIP, PREFILL_A + 4096 * k,
				    PREFILL_SCALES + 256 * k, out + 256 * half);
	}
	prefill_loop(text, strips / 8, body.at);
}

/* q, k, v and what follows attention; what each unit does between the two is the caller's. */
static inline void prefill_before(struct prefill_text *layer, bool is_load)
{
	for (unsigned int i = 0; i < 3; i++)
		prefill_matrix(layer, is_load, PREFILL_SQUARE, 128, 1, PREFILL_OUT2);
}

static inline void prefill_after(struct prefill_text *layer, bool is_load)
{
	prefill_matrix(layer, is_load, PREFILL_SQUARE, 128, 1, PREFILL_OUT2);
	prefill_matrix(layer, is_load, PREFILL_WIDE, 344, 1, PREFILL_OUT);
	prefill_matrix(layer, is_load, PREFILL_WIDE, 344, 1, PREFILL_OUT2);
	if (!is_load)
		prefill_add(layer, "mm tokens=0/0 release=misc\nmm tokens=0/0 wait=misc\n");
	prefill_matrix(layer, is_load, PREFILL_DOWN, 128, 3, PREFILL_OUT);
}

static inline void prefill_program(void *at)
{
	static struct prefill_text text, layer, head;

	text.used = layer.used = 0;
	prefill_add(&text, "@ld\n");
	prefill_before(&layer, true);
	prefill_after(&layer, true);
	prefill_loop(&text, PREFILL_LAYERS, layer.at);
	prefill_add(&text, "ld rows=0/0 wait=mm\nld rows=0/0 wait=mm\n");

	/* One line of each layer's result, so that a host sees how far it is. */
	prefill_add(&text, "@st\n");
	prefill_loop(&text, PREFILL_LAYERS,
		     "st seg=3 off=0+64*loop0 src=act:0x200000 rows=1/1 bytes=64/64 wait=mm "
		     "release=mm\n");

	layer.used = head.used = 0;
	prefill_add(&text, "@mm\nmm tokens=0/0 wait=misc release=ld\nmm tokens=0/0 release=ld\n");
	prefill_before(&layer, false);
	prefill_add(&head,
		    "mm.qk a=act:0+128*loop1 a_pitch=11008 a_scales=act:%u a_scale_pitch=688 "
		    "b=glb:0 b_pitch=128 b_scales=glb:0x4000 b_scale_pitch=8 dim=128 "
		    "positions=128/128 tokens=0+1*len1/128 out=glb:0x20000 out_pitch=512 "
		    "release=misc\n"
		    "mm.pv +first a=glb:0x30000 a_pitch=128 a_scales=glb:0x34000 a_scale_pitch=8 "
		    "b=glb:0x8000 b_pitch=128 dim=128 positions=128/128 tokens=0+1*len1/128 "
		    "out=act:%u+512*loop1 out_pitch=22016 wait=misc\n",
		    PREFILL_SCALES, PREFILL_OUT2);
	prefill_loop(&layer, 16, head.at);
	prefill_after(&layer, false);
	prefill_add(&layer, "mm tokens=0/0 release=st\nmm tokens=0/0 wait=st\n");
	prefill_loop(&text, PREFILL_LAYERS, layer.at);

	layer.used = head.used = 0;
	prefill_add(&text,
		    "@misc\n"
		    "misc.fill out=act:0 out_pitch=11008 rows=128/128 cols=2752/2752 "
		    "imm=0x01010101\n"
		    "misc.fill out=act:%u out_pitch=688 rows=128/128 cols=172/172 imm=0x3f800000\n"
		    "misc.fill out=glb:0 rows=1/1 cols=12288/12288 imm=0x01010101\n"
		    "misc.fill out=glb:0x4000 rows=1/1 cols=256/256 imm=0x3f800000 release=mm\n",
		    PREFILL_SCALES);
	prefill_add(&head,
		    "misc.softmax a=glb:0x20000 a_pitch=512 out=glb:0x20000 out_pitch=512 "
		    "rows=0+1*len1/128 cols=128/128 imm=0x3db504f3 wait=mm\n"
		    "misc.quant a=glb:0x20000 a_pitch=512 c=glb:0x34000 c_pitch=8 out=glb:0x30000 "
		    "out_pitch=128 rows=0+1*len1/128 cols=128/128 imm=64 release=mm\n");
	prefill_loop(&layer, 16, head.at);
	prefill_add(&layer,
		    "misc.silu a=act:%u a_pitch=22016 out=act:%u out_pitch=22016 "
		    "rows=0+1*len1/128 cols=5504/5504 wait=mm\n"
		    "misc.mul a=act:%u a_pitch=22016 b=act:%u b_pitch=22016 out=act:%u "
		    "out_pitch=22016 rows=0+1*len1/128 cols=5504/5504 release=mm\n",
		    PREFILL_OUT, PREFILL_OUT, PREFILL_OUT, PREFILL_OUT2, PREFILL_OUT);
	prefill_loop(&text, PREFILL_LAYERS, layer.at);
	program_write(at, 2, text.at);
}

/* A table whose strips name the same eight in turn; the last of three K tiles has 2,816 columns. */
static inline void prefill_table(void *at, unsigned int strips, unsigned int tiles)
{
	struct flm_strip *row = at;

	for (unsigned int i = 0; i < strips * tiles; i++) {
		uint32_t codes = (PREFILL_CODES + i % 8 * PREFILL_STRIP) / 64;

		row[i] = (struct flm_strip) {
			.width = 8, .blocks = htole16(i % tiles == 2 ? 176 : 256),
			.codes = htole32(codes), .scales = htole32(codes + 65536 / 64),
		};
	}
}

/* PREFILL_BYTES of tables and weights. */
static inline void prefill_weights(uint8_t *at)
{
	prefill_table(at + PREFILL_SQUARE, 128, 1);
	prefill_table(at + PREFILL_WIDE, 344, 1);
	prefill_table(at + PREFILL_DOWN, 128, 3);
	for (unsigned int i = 0; i < 8; i++) {
		uint8_t *strip = at + PREFILL_CODES + i * PREFILL_STRIP;

		memset(strip, 0x81, 65536);		/* code 129 of 8 bits: 1 */
		for (unsigned int j = 65536; j < PREFILL_STRIP; j += 2) {
			strip[j] = 0;			/* float16 1.0, least byte first */
			strip[j + 1] = 0x3c;
		}
	}
}

#endif
