/* SPDX-License-Identifier: MIT */
/*
 * Programs from text and the job records that run them, as they lie in memory that a card reads.
 * The one idea: a test says what its units do in the assembler's words, and nothing else of a
 * program is of interest to it.
 *
 *	program_write(memory, 2, "@ld\nld seg=2 dst=act:0 rows=1/1 bytes=64/64");
 *	program_job(memory + 65536, 1);
 */
#ifndef TESTS_EMULATOR_PROGRAM_H
#define TESTS_EMULATOR_PROGRAM_H

#include <endian.h>
#include <err.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <flightllm/isa.h>
#include <flightllm/queue.h>

#include "lib/flightllm_isa.h"

/* For any unit: 2^48 instructions, which only a watchdog or a reset ends. */
#define PROGRAM_ENDLESS                                                                            \
	"loop sub=0xffffff bound=0xffffff body=8\nloop sub=0xffffff bound=0xffffff body=2\nsync\n" \
	"end\nend\n"

/*
 * One line an instruction; "@mm" and its like begin, or go on with, the stream of a unit, of which
 * counts[] words are there. A loop without a body gets what stands up to its end.
 */
static inline void program_parse(const char *text, uint32_t *const streams[FLM_UNITS],
				 uint32_t counts[FLM_UNITS], uint32_t room)
{
	static const char *const names[FLM_UNITS] = { "@ld", "@st", "@mm", "@mv", "@misc", "@sys" };
	uint32_t loops[FLM_UNITS][FLM_LOOP_DEPTH + 1], depth[FLM_UNITS] = { 0 };
	char *copy = strdup(text), *line, *rest = copy, error[FLM_TEXT_BYTES];
	unsigned int unit = 0;

	while ((line = strsep(&rest, "\n"))) {
		uint32_t *words = streams[unit] + counts[unit];
		int n, insn;

		if (line[0] == '@') {
			for (unit = 0; unit < FLM_UNITS && strcmp(names[unit], line); unit++)
				;
			if (unit == FLM_UNITS)
				errx(1, "%s: no unit", line);
			continue;
		}
		n = flm_isa_parse(line, words, room - counts[unit], error);
		if (n < 0)
			errx(1, "%s: %s", line, error);
		counts[unit] += n;
		insn = n ? flm_isa_insn(words[0]) : -1;
		if (insn == FLM_INSN_LOOP && depth[unit] <= FLM_LOOP_DEPTH) {
			loops[unit][depth[unit]++] = counts[unit];
		} else if (insn == FLM_INSN_END && depth[unit]) {
			uint32_t body = loops[unit][--depth[unit]];
			uint32_t *loop = streams[unit] + body - FLM_WORDS_LOOP;

			if (!FLM_GET(loop, LOOP, BODY))
				FLM_PUT(loop, LOOP, BODY, counts[unit] - body);
		}
	}
	free(copy);
}

/*
 * The same for both entries. Streams that are not named are empty; each gets its END. Core register
 * 0 is the core's rank. Memory at `at`, 32 KiB at most, must be zero.
 */
static inline void program_write(void *at, unsigned int cores, const char *text)
{
	struct flm_program *p = at;
	uint32_t streams[FLM_UNITS][1024], *starts[FLM_UNITS], counts[FLM_UNITS] = { 0 }, words = 0;

	for (unsigned int u = 0; u < FLM_UNITS; u++)
		starts[u] = streams[u];
	program_parse(text, starts, counts, 1000);
	p->magic = htole32(FLM_PROGRAM_MAGIC);
	p->isa_major = htole16(FLM_ISA_MAJOR);
	p->entries = htole32(2);
	p->cores = htole32(cores);
	p->chunk = htole32(128);
	for (unsigned int c = 0; c < FLM_CORES; c++)
		p->core[c][0] = htole32(c);
	for (unsigned int i = 0; i < FLM_LENGTHS; i++)
		p->bounds[i].max = htole32(FLM_VALUE_MAX);
	for (unsigned int u = 0; u < FLM_UNITS; u++) {
		uint32_t offset = sizeof(*p) + 2 * sizeof(p->entry[0]) + 4 * words;
		uint32_t *stream = (void *)((uint8_t *)at + offset);

		streams[u][counts[u]++] = 0x70000000;
		p->entry[0].stream[u].offset = htole32(offset);
		p->entry[0].stream[u].words = htole32(counts[u]);
		p->entry[1].stream[u] = p->entry[0].stream[u];
		for (uint32_t i = 0; i < counts[u]; i++)
			stream[i] = htole32(streams[u][i]);
		words += counts[u];
	}
}

/*
 * A record, its row at 256 and a prompt of so many tokens (ids 0, 1, 2 ..) at 4096, nothing
 * generated. The memory is segment 1 from its start on.
 */
static inline void program_job(void *at, uint32_t prompt)
{
	struct flm_job_record *record = at;
	struct flm_sequence *sequence = (void *)((uint8_t *)at + 256);
	uint32_t *ids = (void *)((uint8_t *)at + 4096);

	record->bytes = htole32(256);
	record->sequences = htole32(1);
	record->sequence_offset = htole64(256);
	record->prompt.segment = htole16(1);
	record->prompt.offset = htole64(4096);
	sequence->prompt = htole32(prompt);
	for (uint32_t i = 0; i < prompt && i < 8192; i++)
		ids[i] = htole32(i);
}

#endif
