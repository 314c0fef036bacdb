// SPDX-License-Identifier: MIT
/*
 * ref_run MODEL.flm [PROMPT [GENERATE]]: runs a file's programs in ref_isa as a card would run a
 * job, and compares all logits and tokens with ref_model, to the bit. This judges what the compiler
 * made without any emulator. Prints TAP.
 *
 * Whatever a program must not depend on is bad on purpose: on-chip memory is 0xff before every
 * pass, KV pages begin as 0xa5 and the page list is reversed.
 */
#include <endian.h>
#include <err.h>
#include <stdlib.h>
#include <string.h>

#include <flightllm/file.h>
#include <flightllm/queue.h>

#include "tests/ref/ref_isa.h"
#include "tests/ref/ref_model.h"
#include "tests/tap.h"

#define BUFFER_BYTES	(16u << 20)

static struct ref_isa isa;
static const uint8_t *file;
static const struct flm_program *program;
static uint32_t vocab, context;
static uint32_t token[1 << 16];
static uint8_t *logits;		/* [position][vocab] float32 */

static void *take(uint64_t bytes)
{
	void *at = calloc(1, bytes);

	if (!at)
		err(1, "memory");
	return at;
}

/* The whole file; ref_model_open() has checked it. */
static void read_file(const char *path)
{
	FILE *in = fopen(path, "rb");
	long bytes = -1;
	uint8_t *at;

	if (in && !fseek(in, 0, SEEK_END))
		bytes = ftell(in);
	if (bytes < 0)
		err(1, "%s", path);
	rewind(in);
	at = take(bytes);
	if (fread(at, 1, bytes, in) != (size_t)bytes)
		err(1, "%s", path);
	fclose(in);
	file = at;
}

/* Binds the file's sections, KV pages and a place for all logits, as the library does. */
static void bind(void)
{
	const struct flm_file *header = (const void *)file;
	const struct flm_section *s = (const void *)(file + sizeof(*header));
	const struct flm_model_desc *model = NULL;
	uint32_t i, pages, *list;
	uint8_t *at;
	int core;

	isa.cores = le32toh(header->cores);
	for (i = 0; i < le32toh(header->sections); i++, s++) {
		if (le32toh(s->kind) == FLM_SECTION_MODEL)
			model = (const void *)(file + le64toh(s->offset));
		if (le32toh(s->place) == FLM_PLACE_NONE)
			continue;
		at = take(le64toh(s->memory_bytes));
		memcpy(at, file + le64toh(s->offset), le64toh(s->bytes));
		if (le32toh(s->kind) == FLM_SECTION_PROGRAM)
			program = (const void *)at;
		for (core = 0; core < isa.cores; core++) {
			if (le32toh(s->core) == FLM_CORE_ALL || le32toh(s->core) == (uint32_t)core)
				isa.core[core].segment[le32toh(s->segment)] = (struct ref_segment){
					at, le64toh(s->memory_bytes), le32toh(s->rights),
				};
		}
	}
	if (!model || !program)
		errx(1, "the file has no model table or no program");
	pages = (context + 63) / 64;
	list = take(pages * sizeof(*list));
	for (i = 0; i < pages; i++)
		list[i] = pages - 1 - i;
	isa.pages = list;
	isa.page_count = pages;
	for (core = 0; core < isa.cores; core++) {
		uint64_t bytes = (uint64_t)pages * le32toh(model->kv_page_bytes[core]);

		at = take(bytes);
		memset(at, 0xa5, bytes);
		isa.core[core].segment[FLM_SEGMENT_KV] = (struct ref_segment){
			at, bytes, FLM_RIGHT_R | FLM_RIGHT_W,
		};
	}
	logits = take((uint64_t)context * vocab * 4);
	isa.core[0].segment[FLM_SEGMENT_LOGITS] = (struct ref_segment){
		logits, (uint64_t)context * vocab * 4, FLM_RIGHT_W,
	};
	isa.logits = (struct ref_logits){
		.mode = FLM_LOGITS_EVERY, .segment = FLM_SEGMENT_LOGITS, .count = context,
		.stride = 4 * (uint64_t)vocab,
	};
	isa.watchdog = le64toh(program->watchdog);
}

/* One pass of an entry over tokens [fed, fed + count) of a sequence with `left` to be generated. */
static int pass(int entry, uint32_t fed, uint32_t count, uint32_t left, bool is_last)
{
	const struct flm_entry *e = &program->entry[entry];
	bool samples = is_last && left;
	struct ref_fault fault;
	int core, i, ret;

	isa.length[FLM_LENGTH_POS] = fed;
	isa.length[FLM_LENGTH_TOKENS] = count;
	isa.length[FLM_LENGTH_KV] = fed;
	isa.length[FLM_LENGTH_KV_END] = fed + count;
	isa.length[FLM_LENGTH_GENERATE] = left;
	isa.length[FLM_LENGTH_SEQUENCES] = 1;
	isa.length[FLM_LENGTH_LOGIT_FIRST] = 0;
	isa.length[FLM_LENGTH_LOGIT_ROWS] = count - samples;
	isa.length[FLM_LENGTH_SAMPLE] = samples;
	for (i = 0; i < FLM_LENGTHS; i++) {
		if (isa.length[i] < le32toh(program->bounds[i].min) ||
		    isa.length[i] > le32toh(program->bounds[i].max)) {
			printf("# register %d is %u\n", i, isa.length[i]);
			return FLM_FAULT_BOUND;
		}
	}
	for (i = 0; i < FLM_UNITS; i++) {
		isa.stream[i] = (const void *)((const uint8_t *)program +
					       le32toh(e->stream[i].offset));
		isa.words[i] = le32toh(e->stream[i].words);
	}
	for (core = 0; core < isa.cores; core++) {
		for (i = 0; i < FLM_CORE_REGISTERS; i++)
			isa.core[core].reg[i] = le32toh(program->core[core][i]);
		for (i = 0; i < FLM_BUFFERS; i++)
			memset(isa.core[core].buffer[i], 0xff, isa.buffer_bytes[i]);
	}
	isa.tokens = token + fed;
	isa.ends_prompt = is_last;
	ret = ref_isa_run(&isa, &fault);
	if (ret)
		printf("# entry %d at %u: fault %d, core %d, unit %d, word %u, at %d:%llu\n",
		       entry, fed, fault.kind, fault.core, fault.unit, fault.word, fault.segment,
		       (unsigned long long)fault.offset);
	return ret;
}

/* The passes of a job, SPEC.md "Passes". Returns tokens fed, 0 after a fault. */
static uint32_t run_job(uint32_t prompt, uint32_t generate)
{
	uint32_t fed = 0, made = 0, count, chunk = le32toh(program->chunk);
	bool is_last;

	while (fed < prompt || made < generate) {
		count = fed >= prompt ? 1 : prompt - fed < chunk ? prompt - fed : chunk;
		is_last = fed + count >= prompt;
		if (pass(fed < prompt ? FLM_ENTRY_CHUNK : FLM_ENTRY_TOKEN, fed, count,
			 generate - made, is_last))
			return 0;
		fed += count;
		if (is_last && generate) {
			token[fed] = isa.token;
			made++;
		}
	}
	return fed;
}

int main(int argc, char **argv)
{
	uint32_t prompt = argc > 2 ? strtoul(argv[2], NULL, 0) : 1;
	uint32_t generate = argc > 3 ? strtoul(argv[3], NULL, 0) : 20;
	struct ref_model_sampler sampler = { 0 };
	uint32_t i, fed, same = 0, chosen = 0;
	struct ref_model *model;
	char error[256];
	float *want;

	if (argc < 2)
		errx(2, "usage: ref_run MODEL.flm [PROMPT [GENERATE]]");
	if (ref_model_open(argv[1], &model, error))
		errx(1, "%s: %s", argv[1], error);
	vocab = ref_model_vocab(model);
	context = ref_model_context(model);
	if (!prompt || prompt + generate > context || context > sizeof(token) / sizeof(token[0]))
		errx(2, "%u + %u tokens do not fit %u positions", prompt, generate, context);
	read_file(argv[1]);
	bind();
	for (i = 0; i < FLM_BUFFERS; i++)
		isa.buffer_bytes[i] = BUFFER_BYTES;
	if (ref_isa_init(&isa))
		err(1, "on-chip memory");
	for (i = 0; i < prompt; i++)
		token[i] = (i * 137 + 1) % vocab;

	fed = run_job(prompt, generate);
	ok(fed, "all passes end, within the program's own watchdog");
	want = take(4 * (uint64_t)vocab);
	for (i = 0; i < fed; i++) {
		if (ref_model_logits(model, token[i], i, want))
			break;
		same += !memcmp(want, logits + 4 * (uint64_t)vocab * i, 4 * (uint64_t)vocab);
		if (i + 1 >= prompt && i + 1 < prompt + generate)
			chosen += ref_model_sample(model, want, &sampler, i + 1, 1024) ==
				  token[i + 1];
	}
	ok(fed && same == fed, "logits of %u of %u positions are equal to the bit", same, fed);
	ok(chosen == generate, "%u of %u tokens are the model's", chosen, generate);
	free(want);
	ref_isa_fini(&isa);
	ref_model_close(model);
	return done_testing();
}
