// SPDX-License-Identifier: MIT
/* flightllm dis: a model's program as text, the model's names beside it; or any stream of words. */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include <flightllm/file.h>
#include <flightllm/queue.h>

#include "lib/flightllm_isa.h"
#include "tools/tool.h"

#define UNIT(name, number, text, meaning) " " text
static const char unit_names[] =
#include <flightllm/names.def>
;

#define UNIT(name, number, text, meaning) " " text
static const char help[] =
	"Usage: flightllm dis MODEL.flm [OPTION]...\n"
	"Prints the instructions of a model's program, with the names of its parts.\n\n"
	"      --entry N        only entry N (0: a chunk of the prompt, 1: a token)\n"
	"      --unit NAME      only the stream of one unit:"
#include <flightllm/names.def>
	"\n"
	"      --json           one JSON object instead of text\n"
	"  -h, --help, -V, --version\n";

enum { OPT_ENTRY = OPT_OWN, OPT_UNIT };

static const struct option options[] = {
	BASE_OPTIONS,
	{ "entry", required_argument, NULL, OPT_ENTRY },
	{ "unit", required_argument, NULL, OPT_UNIT },
	{ 0 }
};

struct dis {
	struct common common;
	const char *path;
	FILE *file;
	uint64_t bytes;			/* of the file */
	struct flm_program *program;
	uint64_t program_bytes;
	struct flm_map *map;		/* map_rows of them; NULL: the file has none */
	uint64_t map_rows;
	int entry, unit;		/* -1: all */
	json_t *json;			/* array of instructions, or NULL */
};

__attribute__((noreturn))
static void damaged(const struct dis *dis, const char *what)
{
	fail(&dis->common, EXIT_FAILED, "%s: %s; copy it again, or compile the model again",
	     dis->path, what);
}

/* A part of the file that must lie inside it, as the caller's memory. */
static void *read_part(const struct dis *dis, uint64_t offset, uint64_t bytes)
{
	char *part;

	if (offset > dis->bytes || bytes > dis->bytes - offset)
		damaged(dis, "it is cut off");
	part = malloc(bytes + !bytes);
	if (!part)
		fail(&dis->common, EXIT_FAILED, "no memory for %llu bytes of %s",
		     (unsigned long long)bytes, dis->path);
	if (fseeko(dis->file, offset, SEEK_SET) || fread(part, 1, bytes, dis->file) != bytes)
		damaged(dis, feof(dis->file) ? "it has become shorter while it was read" :
					       strerror(errno));
	return part;
}

static void print_names(const struct dis *dis, int entry, int unit, uint32_t word)
{
	if (dis->json)
		return;
	for (uint64_t i = 0; i < dis->map_rows; i++) {
		const struct flm_map *row = &dis->map[i];

		if ((int)le32toh(row->entry) != entry || (int)le32toh(row->unit) != unit ||
		    le32toh(row->first) != word)
			continue;
		printf("# ");
		/* Text of a file must not control the terminal. */
		for (size_t c = 0; c < sizeof(row->name) && row->name[c]; c++)
			putchar(row->name[c] >= ' ' && row->name[c] <= '~' ? row->name[c] : '?');
		putchar('\n');
	}
}

static void print_stream(const struct dis *dis, const uint32_t *words, uint32_t count, int entry,
			 int unit)
{
	char text[FLM_TEXT_BYTES];
	int depth = 0;

	if (!dis->json)
		printf("\n== entry %d, %s: %u words\n", entry, flm_isa_unit_name(unit), count);
	for (uint32_t at = 0; at < count; ) {
		int n = flm_isa_print(words + at, count - at, text);

		if (n < 0)
			fail(&dis->common, EXIT_UNVERIFIED, "entry %d, %s, word %u: %s", entry,
			     flm_isa_unit_name(unit), at, text);
		print_names(dis, entry, unit, at);
		if (!strcmp(text, "end"))
			depth -= depth > 0;
		if (dis->json)
			json_array_append_new(dis->json,
					      json_pack("{s:i, s:s, s:I, s:s}", "entry", entry,
							"unit", flm_isa_unit_name(unit), "word",
							(json_int_t)at, "text", text));
		else
			printf("%6u  %*s%s\n", at, 2 * depth, "", text);
		if (!strncmp(text, "loop ", 5))
			depth++;
		at += n;
	}
}

static void print_program(const struct dis *dis)
{
	const struct flm_program *program = dis->program;
	uint64_t bytes = dis->program_bytes;
	uint32_t entries;

	if (bytes < sizeof(*program) || le32toh(program->magic) != FLM_PROGRAM_MAGIC)
		damaged(dis, "it holds no program");
	entries = le32toh(program->entries);
	if (entries > FLM_ENTRIES_MAX ||
	    sizeof(*program) + entries * sizeof(program->entry[0]) > bytes)
		damaged(dis, "the header of its program is damaged");
	if (dis->entry >= (int)entries)
		fail(&dis->common, EXIT_USAGE, "--entry %d: the program of %s has %u entries, from 0 "
		     "on; name one of them", dis->entry, dis->path, entries);
	for (uint32_t e = 0; e < entries; e++) {
		for (int u = 0; u < FLM_UNITS; u++) {
			uint32_t at = le32toh(program->entry[e].stream[u].offset);
			uint32_t count = le32toh(program->entry[e].stream[u].words);
			uint32_t *words;

			if ((dis->entry >= 0 && dis->entry != (int)e) ||
			    (dis->unit >= 0 && dis->unit != u))
				continue;
			if (at > bytes || count > (bytes - at) / 4)
				damaged(dis, "a stream lies outside its program");
			words = malloc(4ull * count + 4);
			if (!words)
				fail(&dis->common, EXIT_FAILED, "no memory for %u words", count);
			memcpy(words, (const uint8_t *)program + at, 4ull * count);
			for (uint32_t i = 0; i < count; i++)
				words[i] = le32toh(words[i]);
			print_stream(dis, words, count, e, u);
			free(words);
		}
	}
}

static void read_sections(struct dis *dis)
{
	struct flm_file *file = read_part(dis, 0, sizeof(*file));
	uint32_t count = le32toh(file->sections);
	struct flm_section *sections = read_part(dis, sizeof(*file),
						 (uint64_t)count * sizeof(*sections));

	for (uint32_t i = 0; i < count; i++) {
		uint32_t kind = le32toh(sections[i].kind);
		uint64_t offset = le64toh(sections[i].offset), bytes = le64toh(sections[i].bytes);

		if (kind == FLM_SECTION_PROGRAM && !dis->program) {
			dis->program = read_part(dis, offset, bytes);
			dis->program_bytes = bytes;
		} else if (kind == FLM_SECTION_MAP && !dis->map) {
			dis->map = read_part(dis, offset, bytes);
			dis->map_rows = bytes / sizeof(*dis->map);
		}
	}
	if (!dis->program)
		damaged(dis, "it holds no program");
	free(sections);
	free(file);
}

static int dis_main(int argc, char **argv)
{
	struct dis dis = { .common.command = &dis_command, .entry = -1, .unit = -1 };
	struct flm_model_info info;
	struct stat status;
	int option;

	while ((option = next_option(&dis.common, argc, argv, "", options)) != -1) {
		switch (option) {
		case OPT_ENTRY:
			dis.entry = parse_count(&dis.common, "--entry", optarg, 0, 7);
			break;
		case OPT_UNIT:
			dis.unit = flm_isa_unit(optarg);
			if (dis.unit < 0)
				fail(&dis.common, EXIT_USAGE, "--unit takes one of%s, not '%s'",
				     unit_names, optarg);
			break;
		default: common_option(&dis.common, option);
		}
	}
	if (argc - optind != 1)
		fail(&dis.common, EXIT_USAGE, "takes one model file; 'flightllm dis --help' says more");
	dis.path = argv[optind];
	probe_model(&dis.common, dis.path, &info, NULL);
	dis.file = fopen(dis.path, "rbe");
	if (!dis.file || fstat(fileno(dis.file), &status))
		fail(&dis.common, EXIT_FAILED, "%s: %s", dis.path, strerror(errno));
	dis.bytes = status.st_size;
	dis.json = dis.common.json ? json_array() : NULL;
	read_sections(&dis);
	print_program(&dis);
	if (dis.json)
		print_json(json_pack("{s:o}", "instructions", dis.json));
	free(dis.map);
	free(dis.program);
	fclose(dis.file);
	return EXIT_DONE;
}

const struct command dis_command = {
	"dis", "a model's program as text", help, dis_main,
};
