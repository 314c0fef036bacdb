/* SPDX-License-Identifier: MIT */
/*
 * A .flm file loaded into plain memory and run pass by pass on the card's execution part, without
 * queues, driver or library: what the compiler's tests compare with ref_model.
 */
#ifndef TESTS_COMPILER_PASS_H
#define TESTS_COMPILER_PASS_H

#include <endian.h>
#include <err.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <flightllm/file.h>
#include <flightllm/queue.h>

#include "emulator/core/exec.h"

struct bytes {
	uint8_t *data;
	uint64_t length;
	unsigned int rights;
};

/*
 * Stands where the card has its segment tables: space_read() and space_write() below replace its
 * own.
 */
struct segments {
	struct bytes segment[EXEC_CORES_MAX][8];
};

struct loaded {
	const uint8_t *file;
	uint64_t file_bytes;
	unsigned int cores;
	const struct flm_model_desc *model;
	const struct flm_program *program;
	struct segments segments;
	struct exec *exec;
	uint32_t *pages;
	uint32_t page_count;
	uint32_t vocab, context, chunk;
	float *logits;			/* [context][vocab] */
	uint32_t kv;			/* positions cached */
};

static struct bytes *segment_of(struct space *space, unsigned int core, unsigned int segment,
				uint64_t offset, uint64_t bytes, unsigned int rights,
				struct fault *fault)
{
	struct bytes *s = segment < 8 ?
		&((struct segments *)space)->segment[core][segment] : NULL;

	fault->segment = segment;
	fault->offset = offset;
	if (!s || offset > s->length || bytes > s->length - offset)
		fault->kind = FLM_FAULT_SEGMENT;
	else if ((s->rights & rights) != rights)
		fault->kind = FLM_FAULT_RIGHTS;
	else
		return s;
	return NULL;
}

int space_read(struct space *space, unsigned int core, unsigned int segment, uint64_t offset,
	       void *memory, uint64_t bytes, unsigned int rights, struct fault *fault)
{
	struct bytes *s = segment_of(space, core, segment, offset, bytes, rights, fault);

	if (!s)
		return -1;
	memcpy(memory, s->data + offset, bytes);
	return 0;
}

int space_write(struct space *space, unsigned int core, unsigned int segment, uint64_t offset,
		const void *memory, uint64_t bytes, struct fault *fault)
{
	struct bytes *s = segment_of(space, core, segment, offset, bytes, FLM_RIGHT_W, fault);

	if (!s)
		return -1;
	memcpy(s->data + offset, memory, bytes);
	return 0;
}

static void load_sections(struct loaded *l)
{
	const struct flm_file *file = (const void *)l->file;
	const struct flm_section *s = (const void *)(file + 1);

	l->cores = le32toh(file->cores);
	for (uint32_t i = 0; i < le32toh(file->sections); i++) {
		uint8_t *data = (uint8_t *)l->file + le64toh(s[i].offset);

		if (le32toh(s[i].kind) == FLM_SECTION_MODEL)
			l->model = (const void *)data;
		if (le32toh(s[i].kind) == FLM_SECTION_PROGRAM)
			l->program = (const void *)data;
		if (!s[i].place)
			continue;
		for (unsigned int core = 0; core < l->cores; core++)
			if (s[i].core == FLM_CORE_ALL || le32toh(s[i].core) == core)
				l->segments.segment[core][le32toh(s[i].segment)] = (struct bytes) {
					data, le64toh(s[i].memory_bytes), le32toh(s[i].rights) };
	}
}

/* A card, also for a process that was forked off: threads stay behind. */
static void pass_card(struct loaded *l, const uint32_t buffers[FLM_BUFFERS])
{
	struct exec_chip chip = { .cores = l->cores };

	memcpy(chip.buffer_bytes, buffers, sizeof(chip.buffer_bytes));
	if (exec_new(&chip, 2, &l->exec))
		errx(1, "no memory for the card");
}

/*
 * Buffers of the card by the order of enum flm_buffer, bytes a core. What is changed of the file
 * in memory stays there.
 */
static void pass_load(struct loaded *l, const char *path, const uint32_t buffers[FLM_BUFFERS])
{
	struct stat st;
	uint8_t *logits;
	int fd = open(path, O_RDONLY);

	memset(l, 0, sizeof(*l));
	if (fd < 0 || fstat(fd, &st))
		err(1, "%s", path);
	l->file_bytes = st.st_size;
	l->file = mmap(NULL, st.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	if (l->file == MAP_FAILED)
		err(1, "%s", path);
	close(fd);
	load_sections(l);
	l->vocab = le32toh(l->model->vocab);
	l->context = le32toh(l->model->context);
	l->chunk = le32toh(l->model->chunk);
	l->page_count = (l->context + FLM_PAGE - 1) / FLM_PAGE;
	l->pages = calloc(l->page_count, 4);
	/* Pages in no order: what a program must not care about. */
	for (uint32_t i = 0; i < l->page_count; i++)
		l->pages[i] = l->page_count - 1 - i;
	logits = calloc((size_t)l->context * l->vocab, 4);
	l->logits = (float *)logits;
	for (unsigned int core = 0; core < l->cores; core++) {
		uint64_t kv = (uint64_t)l->page_count * le32toh(l->model->kv_page_bytes[core]);

		l->segments.segment[core][FLM_SEGMENT_KV] = (struct bytes) {
			malloc(kv), kv, FLM_RIGHT_R | FLM_RIGHT_W };
		memset(l->segments.segment[core][FLM_SEGMENT_KV].data, 0xa5, kv);
		l->segments.segment[core][FLM_SEGMENT_LOGITS] = (struct bytes) {
			logits, 4ull * l->context * l->vocab, FLM_RIGHT_R | FLM_RIGHT_W };
	}
	pass_card(l, buffers);
}

static void pass_unload(struct loaded *l)
{
	exec_free(l->exec);
	for (unsigned int core = 0; core < l->cores; core++)
		free(l->segments.segment[core][FLM_SEGMENT_KV].data);
	free(l->logits);
	free(l->pages);
	munmap((void *)l->file, l->file_bytes);
}

/*
 * One pass of an entry. sample: the last token's successor is chosen, greedily, and returned;
 * every: the other rows' logits are stored too. -1: a fault, described on stdout.
 */
static int64_t pass_run(struct loaded *l, unsigned int entry, const uint32_t *tokens,
			uint32_t count, bool sample, bool every)
{
	struct exec_pass pass = { 0 };
	struct exec_result result = { 0 };
	const uint8_t *base = (const uint8_t *)l->program;

	pass.space = (struct space *)&l->segments;
	pass.cores = (1u << l->cores) - 1;
	for (int unit = 0; unit < FLM_UNITS; unit++) {
		const struct flm_stream *s = &l->program->entry[entry].stream[unit];

		pass.streams[unit].words = (const uint32_t *)(base + le32toh(s->offset));
		pass.streams[unit].count = le32toh(s->words);
	}
	for (unsigned int core = 0; core < l->cores; core++)
		for (int i = 0; i < FLM_CORE_REGISTERS; i++)
			pass.registers[core][i] = le32toh(l->program->core[core][i]);
	pass.lengths[FLM_LENGTH_POS] = pass.lengths[FLM_LENGTH_KV] = l->kv;
	pass.lengths[FLM_LENGTH_TOKENS] = count;
	pass.lengths[FLM_LENGTH_KV_END] = l->kv + count;
	pass.lengths[FLM_LENGTH_SEQUENCES] = 1;
	pass.lengths[FLM_LENGTH_LOGIT_ROWS] = every ? count - sample : 0;
	pass.lengths[FLM_LENGTH_SAMPLE] = sample;
	pass.tokens = tokens;
	pass.pages = l->pages;
	pass.page_count = l->page_count;
	pass.kv_start = l->kv;
	pass.logits.wanted = FLM_LOGITS_EVERY;
	pass.logits.ends_prompt = 1;
	pass.logits.segment = FLM_SEGMENT_LOGITS;
	pass.logits.count = l->context;
	pass.logits.stride = 4 * l->vocab;
	pass.watchdog = le64toh(l->program->watchdog);
	if (exec_pass(l->exec, &pass, &result)) {
		printf("# fault %u, core %u, unit %u, word %u, segment %u, offset 0x%llx\n",
		       result.fault.kind, result.fault.core, result.fault.unit, result.fault.word,
		       result.fault.segment, (unsigned long long)result.fault.offset);
		return -1;
	}
	l->kv += count;
	return sample ? result.token : 0;
}

#endif
