// SPDX-License-Identifier: MIT
/*
 * The tables of emulator/SPEC.md that come from rows: registers, instructions, operations of the
 * SFU, and the structs and constants of the headers, whose rows structs.awk makes from the headers
 * themselves. `spec print` prints them; without an argument it checks that SPEC.md ends with just
 * these lines.
 */
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <flightllm/file.h>
#include <flightllm/isa.h>
#include <flightllm/queue.h>
#include <flightllm/regs.h>

#include "tests/tap.h"

#define SPEC "emulator/SPEC.md"

static void print_registers(FILE *to)
{
	fputs("| offset | bits | bank | access | reset | name | meaning |\n"
	      "|---|---|---|---|---|---|---|\n", to);
#define REG(name, offset, bank, access, reset, meaning) \
	fprintf(to, "| 0x%03x | 32 | %s | %s | 0x%x | %s | %s |\n", (unsigned int)(offset), #bank, \
		#access, (unsigned int)(reset), #name, meaning);
#define REG64(name, offset, bank, access, reset, meaning) \
	fprintf(to, "| 0x%03x | 64 | %s | %s | 0x%x | %s | %s |\n", (unsigned int)(offset), #bank, \
		#access, (unsigned int)(reset), #name, meaning);
#define FLD(reg, name, high, low) \
	fprintf(to, "| | %d:%d | | | | %s.%s | |\n", high, low, #reg, #name);
#include <flightllm/regs.def>
}

static void print_instructions(FILE *to)
{
#define INSN(name, op, mode, words, mnemonic, meaning) \
	fprintf(to, "\n**%s** `%s`: operation 0x%x, mode %d, %d words:\n%s\n\n", #name, mnemonic, \
		op, mode, words, meaning); \
	fputs("| operand | word | bits | kind | number | meaning |\n" \
	      "|---|---|---|---|---|---|\n", to);
#define FLAG(insn, name, bit, meaning) \
	fprintf(to, "| %s | 0 | %d | flag | | %s |\n", #name, bit, meaning);
#define OPND(insn, name, word, high, low, meaning) \
	fprintf(to, "| %s | %d | %d:%d | OPND | | %s |\n", #name, word, high, low, meaning);
#define EXPR(insn, name, word, number, meaning) \
	fprintf(to, "| %s | %d | 31:0 | EXPR | %d | %s |\n", #name, word, number, meaning);
#define ADDR(insn, name, word, number, meaning) \
	fprintf(to, "| %s | %d | 31:0 | ADDR | %d | %s |\n", #name, word, number, meaning);
#define SIZE(insn, name, word, number, meaning) \
	fprintf(to, "| %s | %d, MAX %d | 31:0 | SIZE | %d | %s |\n", #name, word, (word) + 1, \
		number, meaning);
#include <flightllm/isa.def>
}

static const char *uses(int bits)
{
	static char text[32];

	snprintf(text, sizeof(text), "%s%s%s%s%s%s", bits & FLM_USE_A ? "A " : "",
		 bits & FLM_USE_B ? "B " : "", bits & FLM_USE_C ? "C " : "",
		 bits & FLM_USE_OUT ? "OUT " : "", bits & FLM_USE_IMM ? "IMM " : "",
		 bits & FLM_USE_POS ? "POS " : "");
	text[strlen(text) - 1] = 0;
	return text;
}

static void print_operations(FILE *to)
{
	fputs("\n| mode | mnemonic | uses | meaning |\n|---|---|---|---|\n", to);
#define MISC(name, mode, used, mnemonic, meaning) \
	fprintf(to, "| %d | `misc.%s` | %s | %s |\n", mode, mnemonic, uses(used), meaning);
#include <flightllm/isa.def>
}

/* Structures: what follows is for the rows of structs.awk, one macro for each form of a row. */

#define ELEMENTS(array) (sizeof(array) / sizeof((array)[0]))
#define MEMBER(tag, field) (((struct tag *)0)->field)
#define OFFSET(tag, field) ((int)offsetof(struct tag, field))

static const char *kind_of(const char *type)
{
	return type + (strncmp(type, "__", 2) ? 0 : 2);
}

/* What stands above a table; a struct has a size. */
static void print_title(FILE *to, const char *what, size_t bytes, const char *meaning)
{
	fprintf(to, "\n**%s**", what);
	if (bytes)
		fprintf(to, ", %zu bytes", bytes);
	fprintf(to, "%s%s\n\n", meaning[0] ? ":\n" : "", meaning);
}

static void print_structures(FILE *to)
{
#define SECTION(name) fprintf(to, "\n### %s\n", name);
#define STRUCT(tag, meaning) \
	print_title(to, "struct " #tag, sizeof(struct tag), meaning); \
	fputs("| offset | bytes | type | name | meaning |\n|---|---|---|---|---|\n", to);
#define FIELD(tag, type, name, meaning) \
	fprintf(to, "| %d | %zu | %s | %s | %s |\n", OFFSET(tag, name), sizeof(type), \
		kind_of(#type), #name, meaning);
#define ARRAY(tag, type, name, meaning) \
	fprintf(to, "| %d | %zu x %zu | %s | %s | %s |\n", OFFSET(tag, name), \
		ELEMENTS(MEMBER(tag, name)), sizeof(type), kind_of(#type), #name, meaning);
#define MATRIX(tag, type, name, meaning) \
	fprintf(to, "| %d | %zu x %zu x %zu | %s | %s | %s |\n", OFFSET(tag, name), \
		ELEMENTS(MEMBER(tag, name)), ELEMENTS(MEMBER(tag, name)[0]), sizeof(type), \
		kind_of(#type), #name, meaning);
#define TAIL(tag, type, name, meaning) \
	fprintf(to, "| %d | n x %zu | %s | %s | %s |\n", OFFSET(tag, name), sizeof(type), \
		kind_of(#type), #name, meaning);
#define END(tag)
#define VALUES(what, meaning) \
	print_title(to, what, 0, meaning); \
	fputs("| name | value | meaning |\n|---|---|---|\n", to);
#define VALUE(name, meaning) \
	fprintf(to, "| %s | %llu | %s |\n", #name, (unsigned long long)(name), meaning);
#define HEX(name, meaning) \
	fprintf(to, "| %s | %#llx | %s |\n", #name, (unsigned long long)(name), meaning);
#define TEXT(name, meaning) fprintf(to, "| %s | `%s` | %s |\n", #name, name, meaning);
#define FIELDS(what, meaning) \
	print_title(to, what, 0, meaning); \
	fputs("| name | bits | meaning |\n|---|---|---|\n", to);
#define BITS(name, meaning) \
	fprintf(to, "| %s | %d:%d | %s |\n", #name, name##_HI, name##_LO, meaning);
#include "structs.def"
#undef SECTION
#undef STRUCT
#undef FIELD
#undef ARRAY
#undef MATRIX
#undef TAIL
#undef END
#undef VALUES
#undef VALUE
#undef HEX
#undef TEXT
#undef FIELDS
#undef BITS
}

static void print_names(FILE *to)
{
	static const char head[] = "| number | name | text | meaning |\n|---|---|---|---|\n";
	static const char plain[] = "| number | name | meaning |\n|---|---|---|\n";

	fputs("\n### Names\n", to);
	print_title(to, "enum flm_unit", 0, "units, each with its own in-order stream; also the "
		    "bits of WAIT and RELEASE");
	fputs(head, to);
#define UNIT(name, number, text, meaning) \
	fprintf(to, "| %d | FLM_UNIT_%s | `%s` | %s |\n", number, #name, text, meaning);
#include <flightllm/names.def>
	print_title(to, "enum flm_buffer", 0, "on-chip buffers: bits 31:28 of an on-chip address");
	fputs(head, to);
#define BUFFER(name, number, text, meaning) \
	fprintf(to, "| %d | FLM_BUFFER_%s | `%s` | %s |\n", number, #name, text, meaning);
#include <flightllm/names.def>
	print_title(to, "enum flm_rotation", 0, "inputs of linears that a program may rotate");
	fputs(head, to);
#define ROTATION(name, number, text, meaning) \
	fprintf(to, "| %d | FLM_ROTATE_%s | `%s` | %s |\n", number, #name, text, meaning);
#include <flightllm/names.def>
	print_title(to, "enum flm_status", 0, "how a job ended");
	fputs(plain, to);
#define STATUS(name, number, meaning) \
	fprintf(to, "| %d | FLM_STATUS_%s | %s |\n", number, #name, meaning);
#include <flightllm/names.def>
	print_title(to, "enum flm_fault", 0, "why, where it ended with status FAULT");
	fputs(plain, to);
#define FAULT(name, number, meaning) \
	fprintf(to, "| %d | FLM_FAULT_%s | %s |\n", number, #name, meaning);
#include <flightllm/names.def>
}

/* No field was overlooked: each begins where the one before ends, and has its type's bytes. */
static void check_structures(void)
{
	unsigned int structs = 0, constants = 0;
	bool follow = true, typed = true, said = true;
	size_t at = 0;

#define SECTION(name)
#define STRUCT(tag, meaning) at = 0;
#define ROW(tag, type, name, count, meaning) \
	follow &= offsetof(struct tag, name) == at; \
	typed &= sizeof(MEMBER(tag, name)) == (count) * sizeof(type); \
	said &= !!(meaning)[0]; \
	at += (count) * sizeof(type);
#define FIELD(tag, type, name, meaning) ROW(tag, type, name, 1, meaning)
#define ARRAY(tag, type, name, meaning) \
	ROW(tag, type, name, ELEMENTS(MEMBER(tag, name)), meaning)
#define MATRIX(tag, type, name, meaning) \
	ROW(tag, type, name, ELEMENTS(MEMBER(tag, name)) * ELEMENTS(MEMBER(tag, name)[0]), meaning)
#define TAIL(tag, type, name, meaning) \
	follow &= offsetof(struct tag, name) == at; \
	typed &= sizeof(MEMBER(tag, name)[0]) == sizeof(type); \
	said &= !!(meaning)[0];
#define END(tag) follow &= sizeof(struct tag) == at, structs++;
#define VALUES(what, meaning)
#define VALUE(name, meaning) said &= !!(meaning)[0], constants++;
#define HEX(name, meaning) VALUE(name, meaning)
#define TEXT(name, meaning) VALUE(name, meaning)
#define FIELDS(what, meaning)
#define BITS(name, meaning) VALUE(name, meaning)
#include "structs.def"
	ok(structs == 20, "structs.awk finds all 20 structs (%u)", structs);
	ok(constants > 100, "structs.awk finds the constants (%u)", constants);
	ok(follow, "each field begins where the one before it ends, and the last ends the struct");
	ok(typed, "each field has as many bytes as its type and number say");
	ok(said, "each field and each constant says what it means");
}

int main(int argc, char **argv)
{
	static char want[1 << 18], spec[1 << 20];
	FILE *memory = fmemopen(want, sizeof(want) - 1, "w"), *file;

	fputs("## Registers, by row\n\n", memory);
	print_registers(memory);
	fputs("\n## Instructions, by row\n", memory);
	print_instructions(memory);
	print_operations(memory);
	fputs("\n## Structures, by field\n", memory);
	print_structures(memory);
	print_names(memory);
	fclose(memory);
	if (argc > 1 && !strcmp(argv[1], "print")) {
		fputs(want, stdout);
		return 0;
	}
	file = fopen(SPEC, "r");
	if (!file) {
		printf("Bail out! no " SPEC "\n");
		return 1;
	}
	spec[fread(spec, 1, sizeof(spec) - 1, file)] = 0;
	fclose(file);
	ok(strlen(want) > 10000 && strlen(spec) > strlen(want) &&
	   !strcmp(spec + strlen(spec) - strlen(want), want),
	   SPEC " ends with the tables of the rows ('build/tests/abi/spec print' prints them)");
	check_structures();
	return done_testing();
}
