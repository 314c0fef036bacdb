// SPDX-License-Identifier: MIT
/*
 * The chapter "From an empty card to one token" of emulator/SPEC.md, line by line. Its blocks are
 * the test: what the host writes is written, and what the card writes is compared, to the byte.
 * The chapter says what a line means. What no line tells of must not change.
 */
#include <endian.h>
#include <err.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <flightllm/isa.h>
#include <flightllm/regs.h>

#include "emulator/card.h"
#include "lib/flightllm_isa.h"
#include "tests/patience.h"
#include "tests/tap.h"

#define SPEC		"emulator/SPEC.md"
#define HOST		0x100000u	/* bus address of the chapter's host memory */
#define HOST_BYTES	0x10000u
#define VECTORS		8

struct run {
	struct card *card;
	uint8_t *host;
	int want[HOST_BYTES];		/* a byte of host memory; -1: any */
	unsigned int interrupts[VECTORS], told[VECTORS];
	char text[FLM_TEXT_BYTES];	/* instruction whose words come next */
	uint32_t words[FLM_WORDS_MAX];
	int count, next;		/* words of it, and how many have come */
};

static const char *name_of(uint32_t offset)
{
	static const struct { uint32_t offset; const char *name; } rows[] = {
#define REG(name, offset, bank, access, reset, meaning) { offset, #name },
#include <flightllm/regs.def>
	};

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(*rows); i++)
		if (rows[i].offset == offset)
			return rows[i].name;
	return "no register";
}

static void on_interrupt(void *opaque, unsigned int vector)
{
	struct run *run = opaque;

	if (vector < VECTORS)
		__atomic_fetch_add(&run->interrupts[vector], 1, __ATOMIC_SEQ_CST);
}

static void open_card(struct run *run)
{
	struct card_options options = { .profile = "tiny" };
	struct card_host host = { .interrupt = on_interrupt, .opaque = run };
	char error[CARD_ERROR_BYTES];

	if (card_new(&options, &host, &run->card, error))
		errx(1, "%s", error);
	run->host = mmap(NULL, HOST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			 -1, 0);
	if (run->host == MAP_FAILED || card_dma_map(run->card, HOST, HOST_BYTES, run->host,
						    CARD_DMA_READ | CARD_DMA_WRITE))
		errx(1, "no host memory");
	card_bus_master(run->card, 1);
}

/* "write4 0x200 0x0 # QUEUE_SELECT ...", or read: the name after # must be the register's. */
static void access_register(struct run *run, const char *line, bool is_write, unsigned int bytes)
{
	char name[32] = "";
	uint64_t value, got = 0;
	uint32_t offset;

	if (sscanf(line, "%*s %x %lx # %31[A-Z0-9_]", &offset, &value, name) < 3)
		errx(1, "%s: offset, value and name of a register are wanted", line);
	if (strcmp(name, name_of(offset)))
		ok(false, "0x%03x is %s, not %s", offset, name_of(offset), name);
	if (is_write) {
		card_reg_write(run->card, offset, &value, bytes);
		return;
	}
	card_reg_read(run->card, offset, &got, bytes);
	if (!ok(got == value, "%s reads as 0x%lx", name, value))
		printf("# it is 0x%lx\n", got);
}

/* The bytes of a line from its colon to its comment, -1 for "..". */
static unsigned int line_bytes(const char *line, int bytes[64])
{
	const char *at = strchr(line, ':'), *end = strchr(line, '#');
	unsigned int count = 0;

	if (!at)
		errx(1, "%s: bytes are wanted", line);
	for (at++; count < 64 && (!end || at < end); count++) {
		char hex[3];

		at += strspn(at, " ");
		if (!*at || at == end)
			break;
		memcpy(hex, at, 2);
		hex[2] = 0;
		bytes[count] = strcmp(hex, "..") ? (int)strtol(hex, NULL, 16) : -1;
		at += 2;
	}
	return count;
}

static uint8_t *host_at(struct run *run, uint32_t address, unsigned int bytes)
{
	if (address < HOST || address + bytes > HOST + HOST_BYTES)
		errx(1, "0x%x is outside the chapter's host memory", address);
	return run->host + (address - HOST);
}

/* The host stores: into its own memory, the window or a doorbell. */
static void store(struct run *run, const char *line, int bar)
{
	int bytes[64];
	unsigned int count = line_bytes(line, bytes);
	uint32_t address = strtoul(line + 5, NULL, 16), tail = 0;
	uint8_t *to = bar ? (uint8_t *)card_bar_memory(run->card, bar) + address :
		      host_at(run, address, count);

	if (bar == FLM_BAR_DOORBELLS) {	/* one store of 32 bits */
		for (unsigned int i = 0; i < 4; i++)
			tail |= (uint32_t)bytes[i] << 8 * i;
		__atomic_store_n((uint32_t *)(void *)to, htole32(tail), __ATOMIC_SEQ_CST);
		return;
	}
	for (unsigned int i = 0; i < count; i++) {
		__atomic_store_n(&to[i], (uint8_t)bytes[i], __ATOMIC_SEQ_CST);
		if (!bar)
			run->want[address - HOST + i] = bytes[i];
	}
}

static bool differs(const uint8_t *at, const int *bytes, unsigned int count)
{
	for (unsigned int i = 0; i < count; i++)
		if (bytes[i] >= 0 && __atomic_load_n(&at[i], __ATOMIC_SEQ_CST) != bytes[i])
			return true;
	return false;
}

/* The card has written these bytes, now or soon. */
static void compare(struct run *run, const char *line)
{
	int bytes[64];
	unsigned int count = line_bytes(line, bytes);
	uint32_t address = strtoul(line + 5, NULL, 16);
	const uint8_t *at = host_at(run, address, count);
	const char *comment = strchr(line, '#');

	memcpy(&run->want[address - HOST], bytes, count * sizeof(*bytes));
	if (ok(UNTIL(!differs(at, bytes, count)), "0x%x:%s", address, comment ? comment + 1 : ""))
		return;
	printf("# there is:");
	for (unsigned int i = 0; i < count; i++)
		printf(" %02x", at[i]);
	puts("");
}

/* The text of an instruction goes on, or begins. */
static void assemble(struct run *run, const char *line)
{
	char error[FLM_TEXT_BYTES];

	if (line[4] != ' ') {	/* two blanks: the line before goes on */
		if (run->next < run->count)
			ok(false, "%s: all %d words stand under it", run->text, run->count);
		run->text[0] = 0;
		run->next = 0;
	}
	strcat(run->text, line + 3);
	run->count = flm_isa_parse(run->text, run->words, FLM_WORDS_MAX, error);
	if (run->count < 0)
		errx(1, "%s: %s", run->text, error);
}

/* Words of the instruction above, which go to host memory. */
static void words(struct run *run, const char *line)
{
	uint32_t address = strtoul(line + 5, NULL, 16);
	char *at = strchr(line, ':') + 1, *end;

	for (; at[strspn(at, " ")]; at = end, address += 4) {
		uint32_t word = strtoul(at, &end, 16);
		uint8_t *to = host_at(run, address, 4);
		uint32_t want = run->next < run->count ? run->words[run->next] : 0;

		if (end == at)
			errx(1, "%s: words are wanted", line);
		if (run->next >= run->count || word != want)
			ok(false, "word %d of%s is %08x, not %08x", run->next, run->text, want,
			   word);
		if (++run->next == run->count)
			ok(true, "%s: %d words", run->text + 1, run->count);
		for (unsigned int i = 0; i < 4; i++)
			run->want[address - HOST + i] = to[i] = (uint8_t)(word >> 8 * i);
	}
}

/* "vector 1": one more message has come there, and none elsewhere. */
static void interrupt(struct run *run, unsigned int vector)
{
	run->told[vector]++;
	ok(UNTIL(__atomic_load_n(&run->interrupts[vector], __ATOMIC_SEQ_CST) >= run->told[vector]),
	   "vector %u fires", vector);
}

static void obey(struct run *run, const char *line)
{
	static const char *const verbs[] = {
		"write4", "write8", "read4", "read8", "host", "bar2", "bar4", "card", "asm", "code",
		"vector",
	};
	unsigned int verb, length = strcspn(line, " ");

	for (verb = 0; verb < 11; verb++)
		if (strlen(verbs[verb]) == length && !strncmp(verbs[verb], line, length))
			break;
	switch (verb) {
	case 0 ... 3:
		return access_register(run, line, verb < 2, verb & 1 ? 8 : 4);
	case 4 ... 6:
		return store(run, line, verb == 4 ? 0 : verb == 5 ? FLM_BAR_MEMORY :
						       FLM_BAR_DOORBELLS);
	case 7:
		return compare(run, line);
	case 8:
		return assemble(run, line);
	case 9:
		return words(run, line);
	case 10:
		return interrupt(run, strtoul(line + 7, NULL, 10) % VECTORS);
	default:
		ok(false, "'%s' begins with a word of the chapter's table", line);
	}
}

int main(void)
{
	static struct run run;
	FILE *spec = fopen(SPEC, "r");
	char line[256];
	bool is_example = false;
	unsigned int lines = 0, blocks = 0;
	uint32_t changed = 0;

	if (!spec) {
		printf("Bail out! no " SPEC "\n");
		return 1;
	}
	open_card(&run);
	while (fgets(line, sizeof(line), spec)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "```", 3)) {
			is_example = !strcmp(line, "```example");
			blocks += is_example;
		} else if (is_example) {
			obey(&run, line);
			lines++;
		}
	}
	fclose(spec);
	ok(blocks > 5 && lines > 50, "the chapter has %u lines in %u blocks", lines, blocks);
	while (changed < HOST_BYTES && !differs(run.host + changed, &run.want[changed], 1))
		changed++;
	if (!ok(changed == HOST_BYTES, "host memory changed only where the chapter says so"))
		printf("# 0x%x is %02x\n", HOST + changed, run.host[changed]);
	ok(!memcmp(run.interrupts, run.told, sizeof(run.told)), "each message is named");
	card_free(run.card);
	return done_testing();
}
