// SPDX-License-Identifier: MIT
/*
 * The tables of emulator/SPEC.md that come from rows: registers, instructions, operations of the
 * SFU. `spec print` prints them; without an argument it checks that SPEC.md holds just these
 * lines.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <flightllm/isa.h>
#include <flightllm/regs.h>

#include "tests/tap.h"

#define SPEC "emulator/SPEC.md"

static void print_registers(FILE *to)
{
	fputs("| offset | bits | bank | access | reset | name | meaning |\n|---|---|---|---|---|---|---|\n",
	      to);
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
	fputs("| operand | word | bits | kind | slot | meaning |\n|---|---|---|---|---|---|\n", to);
#define FLAG(insn, name, bit, meaning) \
	fprintf(to, "| %s | 0 | %d | flag | | %s |\n", #name, bit, meaning);
#define OPND(insn, name, word, high, low, meaning) \
	fprintf(to, "| %s | %d | %d:%d | OPND | | %s |\n", #name, word, high, low, meaning);
#define EXPR(insn, name, word, slot, meaning) \
	fprintf(to, "| %s | %d | 31:0 | EXPR | %d | %s |\n", #name, word, slot, meaning);
#define ADDR(insn, name, word, slot, meaning) \
	fprintf(to, "| %s | %d | 31:0 | ADDR | %d | %s |\n", #name, word, slot, meaning);
#define SIZE(insn, name, word, slot, meaning) \
	fprintf(to, "| %s | %d, MAX %d | 31:0 | SIZE | %d | %s |\n", #name, word, (word) + 1, \
		slot, meaning);
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

int main(int argc, char **argv)
{
	static char want[1 << 17], spec[1 << 20];
	FILE *memory = fmemopen(want, sizeof(want) - 1, "w"), *file;

	fputs("## Registers, by row\n\n", memory);
	print_registers(memory);
	fputs("\n## Instructions, by row\n", memory);
	print_instructions(memory);
	print_operations(memory);
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
	ok(strlen(want) > 10000 && strstr(spec, want),
	   SPEC " holds the tables of the rows ('build/tests/abi/spec print' prints them)");
	return done_testing();
}
