// SPDX-License-Identifier: MIT
/*
 * The examples of emulator/SPEC.md: each block that is fenced as "insn" is
 * assembled, its words are compared with those beside it, and it runs on the
 * emulator's cores from the inputs to the outputs that it states. Every row of
 * isa.def and every operation of MISC must have one. SPEC.md says in chapter
 * "Examples" how a block is read. `examples words` prints the words of each
 * instruction.
 */
#include <ctype.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "lib/flightllm_isa.h"
#include "tests/emulator/machine.h"

#define SPEC "emulator/SPEC.md"
#define LINES 64
#define PAGES 16

/* One block: lines that were continued are one. */
struct block {
	unsigned int at; /* line of SPEC.md where it begins */
	char lines[LINES][FLM_TEXT_BYTES];
	unsigned int count;
};

static bool prints_words;
static bool seen_insn[FLM_INSNS], seen_misc[FLM_MISCS];
static uint32_t pages[PAGES];

static const char *const unit_names[] = { "LD", "ST", "MM", "MV", "MISC", "SYS" };
static const char *const buffer_names[] = { "act", "wgt", "idx", "glb" };

static bool complain(const struct block *b, const char *line, const char *what)
{
	printf("# " SPEC ":%u: %s: %s\n", b->at, what, line);
	return false;
}

/* ---- Values ---- */

/* One value as `type` at `to`; returns its bytes, 0 where it is none. */
static unsigned int put_value(const char *type, const char *text, uint8_t *to)
{
	unsigned int bytes = !strcmp(type, "i8") || !strcmp(type, "u8") ? 1 :
			     !strcmp(type, "u16")			? 2 :
									  4;
	uint32_t word;
	float x;
	char *end;

	if (!strcmp(type, "f32") || !strcmp(type, "cand")) {
		x = strtof(text, &end);
		word = isnan(x) ? 0x7fc00000 : math_bits(x);
	} else {
		word = (uint32_t)strtoll(text, &end, 0);
	}
	if (end == text)
		return 0;
	word = htole32(word);
	memcpy(to, &word, bytes);
	if (strcmp(type, "cand"))
		return *end ? 0 : bytes;
	if (*end != ':')
		return 0;
	text = end + 1;
	word = !strcmp(text, "none") ? FLM_CANDIDATE_NONE : (uint32_t)strtoul(text, &end, 0);
	word = htole32(word);
	memcpy(to + 4, &word, 4);
	return 8;
}

/* All values of a line, "value*count" repeated; returns their bytes, 0 after a mistake. */
static unsigned int put_values(char *text, uint8_t *to, unsigned int room)
{
	char *type = strtok(text, " "), *value;
	unsigned int used = 0, bytes, times;

	while (type && (value = strtok(NULL, " "))) {
		char *star = strchr(value, '*');

		times = star ? (unsigned int)strtoul(star + 1, NULL, 0) : 1;
		if (star)
			*star = 0;
		for (; times; times--, used += bytes) {
			if (used + 8 > room)
				return 0;
			bytes = put_value(type, value, to + used);
			if (!bytes)
				return 0;
		}
	}
	return used;
}

/* "core1.act:0x40" or "seg1:0x0": the bytes there, NULL where it is no place.
 */
static uint8_t *find_place(const char *text, unsigned int *room)
{
	unsigned int core = 0, b, n = 0;
	uint32_t offset;
	char name[8];

	if (sscanf(text, "core%1u.%n", &core, (int *)&n) == 1 && n)
		text += n;
	if (core >= machine.cores || sscanf(text, "%7[a-z0-9]:%i", name, (int *)&offset) != 2)
		return NULL;
	*room = BUFFER - 4096;
	if (offset >= 4096)
		return NULL;
	if (!strcmp(name, "seg1"))
		return memory[core] + offset;
	for (b = 0; b < FLM_BUFFERS; b++)
		if (!strcmp(name, buffer_names[b]))
			return chip(core, FLM_CHIP(b, offset));
	return NULL;
}

/*
 * What a job or a pass has beside memory: "pages 2 0", "len1 5", "reg0 0 8", "logits_mode 1".
 */
static bool set_fact(const char *name, char *values)
{
	const struct {
		const char *name;
		uint32_t *word;
		float *x;
	} facts[] = {
		{ "kv_length", &pass.kv_start, NULL },
		{ "logits_mode", &pass.logits.wanted, NULL },
		{ "logits_segment", &pass.logits.segment, NULL },
		{ "logits_first", &pass.logits.first, NULL },
		{ "logits_count", &pass.logits.count, NULL },
		{ "logits_stride", &pass.logits.stride, NULL },
		{ "temperature", NULL, &pass.sampler.temperature },
		{ "cores", &pass.cores, NULL },
	};
	unsigned int i, core;
	char *value = strtok(values, " ");

	if (!value)
		return false;
	if (!strcmp(name, "pages")) {
		for (i = 0; value && i < PAGES; value = strtok(NULL, " "))
			pages[i++] = (uint32_t)strtoul(value, NULL, 0);
		pass.pages = pages;
		pass.page_count = i;
		return true;
	}
	if (sscanf(name, "len%u", &i) == 1 && i < FLM_LENGTHS) {
		pass.lengths[i] = (uint32_t)strtoul(value, NULL, 0);
		return true;
	}
	if (sscanf(name, "reg%u", &i) == 1 && i < FLM_CORE_REGISTERS) {
		for (core = 0; value && core < machine.cores; value = strtok(NULL, " "))
			pass.registers[core++][i] = (uint32_t)strtoul(value, NULL, 0);
		return true;
	}
	if (!strcmp(name, "logits_offset")) {
		pass.logits.offset = strtoul(value, NULL, 0);
		return true;
	}
	for (i = 0; i < sizeof(facts) / sizeof(facts[0]); i++) {
		if (strcmp(name, facts[i].name))
			continue;
		if (facts[i].x)
			*facts[i].x = strtof(value, NULL);
		else
			*facts[i].word = (uint32_t)strtoul(value, NULL, 0);
		return true;
	}
	return false;
}

/* ---- Lines ---- */

/* "UNIT: text": assembled into its stream. `next`: the line with its words. */
static bool take_insn(const struct block *b, unsigned int u, const char *line, const char *next)
{
	struct stream *s = &streams[u];
	uint32_t *words = s->words + s->count;
	const char *text = strchr(line, ':') + 1;
	char error[FLM_TEXT_BYTES];
	int count = flm_isa_parse(text, words, STREAM_WORDS - s->count, error), i;
	char *end;

	if (count <= 0)
		return complain(b, line, count ? error : "no instruction");
	s->count += (uint32_t)count;
	if (!prints_words && (!next || next[0] != '='))
		return complain(b, line, "no words stand below");
	if (prints_words) {
		printf("%s\n=", line);
		for (i = 0; i < count; i++)
			printf("%s%08x", i && i % 10 == 0 ? "\n  " : " ", words[i]);
		printf("\n");
	} else {
		for (i = 0, next++; i < count; i++, next = end)
			if ((uint32_t)strtoul(next, &end, 16) != words[i] || end == next)
				return complain(b, next, "other words than those of the line");
		if (strspn(next, " ") != strlen(next))
			return complain(b, next, "more words than the line has");
	}
	seen_insn[flm_isa_insn(words[0])] = true;
	if (FLM_GET_HEAD(words, OP) == FLM_OP_MISC)
		seen_misc[FLM_GET_HEAD(words, MODE)] = true;
	return true;
}

static bool take_input(const struct block *b, const char *line)
{
	char copy[FLM_TEXT_BYTES], name[32];
	unsigned int room;
	uint8_t *to;
	int n = 0;

	strcpy(copy, line);
	if (sscanf(copy, "in %31s %n", name, &n) != 1 || !n)
		return complain(b, line, "no input");
	to = find_place(name, &room);
	if (to ? !put_values(copy + n, to, room) : !set_fact(name, copy + n))
		return complain(b, line, "no input");
	return true;
}

static bool check_output(const struct block *b, const char *line)
{
	char copy[FLM_TEXT_BYTES], name[32];
	static uint8_t want[BUFFER];
	unsigned int room, bytes, i;
	const uint8_t *at;
	int n = 0;

	strcpy(copy, line);
	if (sscanf(copy, "out %31s %n", name, &n) != 1 || !n)
		return complain(b, line, "no output");
	if (!strcmp(name, "token")) {
		if (!result.sampled || result.token != strtoul(copy + n, NULL, 0))
			return complain(b, line, "another token, or none");
		return true;
	}
	at = find_place(name, &room);
	bytes = at ? put_values(copy + n, want, room) : 0;
	if (!bytes)
		return complain(b, line, "no output");
	for (i = 0; i < bytes && at[i] == want[i]; i++)
		;
	if (i == bytes)
		return true;
	i &= ~3u;
	printf("# byte %u on: %02x %02x %02x %02x, not %02x %02x %02x %02x\n", i, at[i], at[i + 1],
	       at[i + 2], at[i + 3], want[i], want[i + 1], want[i + 2], want[i + 3]);
	return complain(b, line, "another result");
}

static int unit_of_line(const char *line)
{
	unsigned int u;
	size_t length;

	for (u = 0; u < FLM_UNITS; u++) {
		length = strlen(unit_names[u]);
		if (!strncmp(line, unit_names[u], length) && line[length] == ':')
			return (int)u;
	}
	return -1;
}

static bool run_block(const struct block *b)
{
	unsigned int i, insns = 0, outputs = 0;

	begin(1);
	memset(memory, 0, sizeof(memory));
	for (i = 0; i < b->count; i++) {
		const char *line = b->lines[i], *next = i + 1 < b->count ? b->lines[i + 1] : NULL;
		int u = unit_of_line(line);

		if (u >= 0) {
			insns++;
			if (!take_insn(b, (unsigned int)u, line, next))
				return false;
		} else if (!strncmp(line, "in ", 3)) {
			if (!take_input(b, line))
				return false;
		} else if (!strncmp(line, "out ", 4)) {
			outputs++;
		} else if (line[0] != '=') {
			return complain(b, line, "no such line");
		}
	}
	if (prints_words)
		return true;
	pass.cores = pass.cores > 1 ? (1u << pass.cores) - 1 : 1;
	if (!insns || !outputs)
		return complain(b, "", "no instruction, or no output");
	if (run()) {
		printf("# fault %u, unit %u, word %u\n", result.fault.kind, result.fault.unit,
		       result.fault.word);
		return complain(b, b->lines[0], "a fault");
	}
	for (i = 0; i < b->count; i++)
		if (!strncmp(b->lines[i], "out ", 4) && !check_output(b, b->lines[i]))
			return false;
	return true;
}

/* The next block of `file`; false: there is none. */
static bool read_block(FILE *file, struct block *b, unsigned int *at)
{
	char line[FLM_TEXT_BYTES];
	bool is_inside = false;

	b->count = 0;
	while (fgets(line, sizeof(line), file)) {
		++*at;
		line[strcspn(line, "\n")] = 0;
		if (!is_inside) {
			is_inside = !strcmp(line, "```insn");
			b->at = *at;
		} else if (!strncmp(line, "```", 3)) {
			return true;
		} else if (isspace((unsigned char)line[0]) && b->count) {
			char *text = b->lines[b->count - 1];
			size_t used = strlen(text);

			snprintf(text + used, FLM_TEXT_BYTES - used, " %s",
				 line + strspn(line, " "));
		} else if (b->count < LINES) {
			strcpy(b->lines[b->count++], line);
		}
	}
	return false;
}

/* A wrong line must be found, or the test proves nothing. */
static bool finds_mistakes(void)
{
	static const char *const lines[][4] = {
		{ "MISC: misc.fill out=act:0x0 imm=7 rows=1/1 cols=1/1", "= 0",
		  "out act:0x0 u32 7" },
		{ "MISC: misc.fil out=act:0x0", "= 0", "out act:0x0 u32 7" },
		{ "SYS: barrier", "= f0000010", "out act:0x0 u32 7" },
		{ "SYS: barrier", "= f0000010 0", "out act:0x0 u32 0" },
		{ "SYS: barrier", "= f0000010", "out act:0x0 f32 zero" },
		{ "SYS: barrier", "= f0000010", "put act:0x0 u32 0" },
		{ "SYS: barrier", "= f0000010" },
	};
	static struct block b;
	unsigned int i;

	for (i = 0; i < sizeof(lines) / sizeof(lines[0]); i++) {
		for (b.count = 0; b.count < 4 && lines[i][b.count]; b.count++)
			strcpy(b.lines[b.count], lines[i][b.count]);
		if (run_block(&b))
			return false;
	}
	memset(seen_insn, 0, sizeof(seen_insn));
	memset(seen_misc, 0, sizeof(seen_misc));
	return true;
}

int main(int argc, char **argv)
{
	static struct block b;
	unsigned int at = 0, blocks = 0, right = 0;
	FILE *file = fopen(SPEC, "r");

	if (!file || !machine_open()) {
		printf("Bail out! no " SPEC ", or no machine\n");
		return 1;
	}
	prints_words = argc > 1 && !strcmp(argv[1], "words");
	if (!prints_words)
		ok(finds_mistakes(), "an example that is wrong is found");
	while (read_block(file, &b, &at)) {
		blocks++;
		right += run_block(&b);
	}
	fclose(file);
	if (prints_words)
		return 0;
	ok(blocks && right == blocks, "%u of %u examples of " SPEC " give their words and outputs",
	   right, blocks);
#define INSN(name, op, mode, words, mnemonic, meaning) \
	ok(seen_insn[FLM_INSN_##name], SPEC " has an example of " #name);
#define MISC(name, mode, uses, mnemonic, meaning) \
	ok(seen_misc[mode], SPEC " has an example of misc." mnemonic);
#include <flightllm/isa.def>
	return machine_close();
}
