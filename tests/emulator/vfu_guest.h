/* SPDX-License-Identifier: MIT */
/*
 * A guest for tests of the card across its socket: memory that it lends, a copy queue in it and an
 * eventfd that hears of its slots. Offsets are those of queue.h, as numbers.
 *
 *	struct guest g = guest_start(&c);
 *	guest_fill(&c, &g, 0xdeadbeef);
 *	ok(guest_hears(&g), "a slot is done");
 *	guest_stop(&g);
 */
#ifndef TESTS_EMULATOR_VFU_GUEST_H
#define TESTS_EMULATOR_VFU_GUEST_H

#include <poll.h>

#include "tests/emulator/vfu_client.h"

static inline int memory_file(uint64_t bytes)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, bytes))
		err(1, "memfd");
	return fd;
}

/* What has been added to an eventfd, 0 for nothing; never waits. */
static inline uint64_t take(int fd)
{
	struct pollfd p = { .fd = fd, .events = POLLIN };
	uint64_t n = 0;

	return poll(&p, 1, 0) == 1 && read(fd, &n, sizeof(n)) == sizeof(n) ? n : 0;
}

/*
 * A copy queue in a guest's memory at bus address 0x100000: ring, completions, status page, context
 * page, tables and, at 0x10000, a page of data that is segment 0.
 */
struct guest {
	int file;
	uint8_t *memory;
	int event;
	uint32_t tail;
};

enum {
	GUEST = 0x100000, RING = 0, DONE = 0x1000, STATUS = 0x2000, CONTEXT = 0x3000,
	TABLES = 0x4000, DATA = 0x10000, GUEST_BYTES = 1 << 20
};

static inline void store64(uint8_t *at, uint64_t value)
{
	memcpy(at, &value, 8);
}

static inline void store32(uint8_t *at, uint32_t value)
{
	memcpy(at, &value, 4);
}

static inline uint32_t load32(const uint8_t *at)
{
	uint32_t value;

	memcpy(&value, at, 4);
	return value;
}

/* In a file of the caller's, which is the guest's then, that lies at `memory` from `offset` on. */
static inline struct guest guest_start_in(struct client *c, int file, uint64_t offset,
					  uint8_t *memory)
{
	struct guest g = { .file = file, .memory = memory, .event = eventfd(0, EFD_CLOEXEC) };

	store64(g.memory + CONTEXT + 64, GUEST + TABLES); /* row 1: generation 1, one segment */
	store32(g.memory + CONTEXT + 64 + 8, 1);
	store32(g.memory + CONTEXT + 64 + 12, 1);
	store64(g.memory + TABLES, 4096);
	store64(g.memory + TABLES + 8, 0xf000000000000000 | (GUEST + DATA));
	store32(g.memory + TABLES + 16, 1);
	g.memory[TABLES + 20] = 1;				/* contiguous */
	g.memory[TABLES + 21] = 3;				/* read, write */
	client_put(c, CLIENT_CONFIG, 4, 0x6, 2);
	client_dma_map(c, GUEST, GUEST_BYTES, g.file, offset, 3);
	client_set_irqs(c, 4 | 32, 2, 1, 1, &g.event, 1);
	client_put(c, CLIENT_BAR0, 0x200, 2, 4);		/* queue 2 */
	client_put(c, CLIENT_BAR0, 0x210, 1, 4);		/* copies */
	client_put(c, CLIENT_BAR0, 0x214, client_get(c, CLIENT_BAR0, 0x38, 4) & 0xff, 4);
	client_put(c, CLIENT_BAR0, 0x218, GUEST + RING, 8);
	client_put(c, CLIENT_BAR0, 0x220, GUEST + DONE, 8);
	client_put(c, CLIENT_BAR0, 0x228, GUEST + STATUS, 8);
	client_put(c, CLIENT_BAR0, 0x230, GUEST + CONTEXT, 8);
	client_put(c, CLIENT_BAR0, 0x240, 0, 4);
	client_put(c, CLIENT_BAR0, 0x244, 1, 4);
	client_put(c, CLIENT_BAR0, 0x204, 1, 4);		/* enable */
	return g;
}

static inline struct guest guest_start(struct client *c)
{
	int file = memory_file(GUEST_BYTES);
	uint8_t *memory = mmap(NULL, GUEST_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);

	if (memory == MAP_FAILED)
		err(1, "mmap");
	return guest_start_in(c, file, 0, memory);
}

/* Posts a slot that fills the data with `value` and asks for an interrupt. */
static inline void guest_fill(struct client *c, struct guest *g, uint32_t value)
{
	uint8_t *slot = g->memory + RING + 64 * g->tail++;

	store32(slot, 0x13);			/* FILL, interrupt */
	store32(slot + 4, 1);			/* generation */
	store64(slot + 8, g->tail);		/* seqno */
	store64(slot + 32, 4096);		/* bytes */
	store32(slot + 48, value);
	client_put(c, CLIENT_BAR4, 2 * 4096, g->tail, 4);
	store32(g->memory + STATUS, 0);		/* armed, which a KICK takes back */
	client_put(c, CLIENT_BAR0, 0x90, 2, 4);	/* KICK */
}

static inline bool guest_hears(struct guest *g)
{
	struct pollfd p = { .fd = g->event, .events = POLLIN };

	return poll(&p, 1, 10000) == 1 && take(g->event) > 0;
}

static inline void guest_stop(struct guest *g)
{
	munmap(g->memory, GUEST_BYTES);
	close(g->file);
	close(g->event);
}

#endif
