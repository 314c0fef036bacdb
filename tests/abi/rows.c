// SPDX-License-Identifier: MIT
/*
 * The rows of regs.def obey their own rules: no two registers share a byte, each name and each
 * meaning stands once, fields stay inside their register and do not overlap, accesses are known.
 */
#include <stdint.h>
#include <string.h>

#include <flightllm/isa.h>
#include <flightllm/regs.h>

#include "tests/tap.h"

struct reg {
	const char *name, *bank, *access, *meaning;
	unsigned int offset, bytes;
	uint64_t reset;
};

struct field {
	const char *reg, *name;
	int high, low;
};

#define REG(name, offset, bank, access, reset, meaning) \
	{ #name, #bank, #access, meaning, offset, 4, reset },
#define REG64(name, offset, bank, access, reset, meaning) \
	{ #name, #bank, #access, meaning, offset, 8, reset },
static const struct reg regs[] = {
#include <flightllm/regs.def>
};

#define FLD(reg, name, high, low) { #reg, #name, high, low },
static const struct field fields[] = {
#include <flightllm/regs.def>
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static const struct reg *find(const char *name)
{
	for (unsigned int i = 0; i < COUNT(regs); i++)
		if (!strcmp(regs[i].name, name))
			return &regs[i];
	return NULL;
}

static void check_registers(void)
{
	bool aligned = true, inside = true, known = true, apart = true, once = true, said = true;

	for (unsigned int i = 0; i < COUNT(regs); i++) {
		const struct reg *r = &regs[i];

		aligned &= r->offset % r->bytes == 0;
		inside &= r->offset + r->bytes <= 4096;
		known &= !strcmp(r->access, "RO") || !strcmp(r->access, "RW") ||
			 !strcmp(r->access, "WO") || !strcmp(r->access, "W1C");
		said &= r->meaning[0] != '\0';
		for (unsigned int k = i + 1; k < COUNT(regs); k++) {
			const struct reg *other = &regs[k];

			apart &= r->offset + r->bytes <= other->offset;
			once &= strcmp(r->name, other->name) != 0;
		}
	}
	ok(aligned, "every register is aligned to its size");
	ok(inside, "every register lies in the first 4096 bytes of BAR0");
	ok(known, "every access is RO, RW, WO or W1C");
	ok(said, "every register says what it means");
	ok(apart, "registers stand in ascending order and share no byte");
	ok(once, "every name stands once");
}

/* The bank of what stands before the first '_', or CARD: what a *_SELECT chooses follows it. */
static const char *bank_of(const struct reg *r)
{
	static const char *const banks[] = { "COUNT", "REGION", "QUEUE", "UNIT", "CHANNEL" };
	size_t length = strcspn(r->name, "_");

	for (unsigned int i = 0; i < COUNT(banks); i++)
		if (length == strlen(banks[i]) && r->name[length] &&
		    !strncmp(r->name, banks[i], length) && strcmp(r->name + length, "_SELECT"))
			return banks[i];
	return "CARD";
}

static void check_banks(void)
{
	unsigned int selects = 0;
	bool right = true;

	for (unsigned int i = 0; i < COUNT(regs); i++) {
		right &= !strcmp(regs[i].bank, bank_of(&regs[i]));
		selects += !!strstr(regs[i].name, "_SELECT");
	}
	ok(right, "a register is in the bank that its name begins with, else the card's");
	ok(selects == 4, "each of the four banks of which there are many has one SELECT");
}

static void check_fields(void)
{
	bool owned = true, inside = true, apart = true, once = true;

	for (unsigned int i = 0; i < COUNT(fields); i++) {
		const struct field *f = &fields[i];
		const struct reg *r = find(f->reg);

		owned &= !!r;
		inside &= r && f->high >= f->low && f->low >= 0 && f->high < (int)r->bytes * 8;
		for (unsigned int k = i + 1; k < COUNT(fields); k++) {
			const struct field *other = &fields[k];

			if (strcmp(f->reg, other->reg))
				continue;
			apart &= f->high < other->low || other->high < f->low;
			once &= strcmp(f->name, other->name) != 0;
		}
	}
	ok(owned, "every field belongs to a register");
	ok(inside, "every field lies inside its register");
	ok(apart, "no two fields of a register overlap");
	ok(once, "no register names a field twice");
}

/* A few rows as the manual prints them, so that nobody moves one unseen. */
static void check_places(void)
{
	ok(FLM_REG_MAGIC == 0x000 && find("MAGIC")->reset == 0x314d4c46, "MAGIC is FLM1 at 0x000");
	ok(FLM_REG_VERSION == 0x004 && find("VERSION")->reset == 0x10000, "VERSION 1.0 at 0x004");
	ok(FLM_REG_ISA == 0x008 && find("ISA")->reset == 0x10001 && FLM_ISA_MAJOR == 1 &&
	   FLM_ISA_MINOR == 1, "ISA 1.1 at 0x008, as the instructions' header says");
	ok(FLM_REG_CONTROL == 0x080, "CONTROL is at 0x080");
	ok(FLM_REG_KICK == 0x090, "KICK is at 0x090");
	ok(FLM_REG_REGION_SELECT == 0x100, "the region window is at 0x100");
	ok(FLM_REG_QUEUE_SELECT == 0x200, "the queue window is at 0x200");
	ok(FLM_REG_QUEUE_RING == 0x218, "QUEUE_RING is at 0x218");
	ok(FLM_REG_COUNT_READS == 0x300, "the counters are at 0x300");
	ok(FLM_REG_UNIT_SELECT == 0x400, "the unit window is at 0x400");
	ok(FLM_REG_GET(0x00010203, VERSION, MAJOR) == 1, "VERSION.MAJOR is the upper half");
	ok(FLM_REG_GET(0x00010203, VERSION, MINOR) == 0x203, "VERSION.MINOR is the lower half");
	ok(FLM_REG_FIELD(QUEUE_FAULT, UNIT, 5) == 0x50000, "QUEUE_FAULT.UNIT is bits 23 to 16");
}

int main(void)
{
	check_registers();
	check_banks();
	check_fields();
	check_places();
	return done_testing();
}
