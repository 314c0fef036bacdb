/* SPDX-License-Identifier: MIT */
/*
 * A card on the bench: what a driver does, in few lines and without one. Host memory is one piece
 * that the card may reach, bus address = offset + BASE; programs are text.
 *
 *	struct bench b;
 *	bench_open(&b, "tiny");
 *	struct rig *r = bench_rig(&b, FLM_QUEUE_COMPUTE, 3, 0);	a context with a queue
 *	bench_bind(&b, r, 2, FLM_REGION_HOST, address, bytes, FLM_RIGHT_R);
 *	bench_program(r, 2, "@ld\nld seg=2 ...");
 *	bench_job(r, 1);
 *	done = bench_run(&b, r);
 */
#ifndef TESTS_EMULATOR_BENCH_H
#define TESTS_EMULATOR_BENCH_H

#include <endian.h>
#include <err.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <flightllm/queue.h>
#include <flightllm/regs.h>

#include "emulator/card.h"
#include "tests/emulator/program.h"
#include "tests/patience.h"

#define BASE		0x100000000ull	/* bus address of the first byte of host memory */
#ifndef HOST_BYTES
#define HOST_BYTES	(64u << 20)
#endif
#define RING_LOG2	4
#define SEGMENTS	16

struct rig {
	unsigned int queue;
	uint32_t tail;
	uint64_t seqno;
	struct flm_slot *ring;
	struct flm_done *done;
	struct flm_status_page *status;
	struct flm_generation *page;
	struct flm_segment_row *tables;	/* [cores][SEGMENTS] of the newest generation */
	uint32_t generation;
	/* segment 0: program; segment 1: job record, prompt, ring */
	uint8_t *program, *job;
};

struct bench {
	struct card *card;
	uint8_t *host;
	uint64_t used;
	unsigned int cores, queues;
	unsigned int interrupts;	/* atomic */
	struct rig rigs[16];
	unsigned int rig_count;
};

static inline uint64_t bus(const struct bench *b, const void *p)
{
	return BASE + ((const uint8_t *)p - b->host);
}

static inline void *bench_alloc(struct bench *b, uint64_t bytes)
{
	void *p = b->host + b->used;

	b->used += (bytes + 4095) & ~4095ull;
	if (b->used > HOST_BYTES)
		errx(1, "the bench has no more host memory");
	return p;
}

static inline void on_interrupt(void *opaque, unsigned int vector)
{
	struct bench *b = opaque;

	(void)vector;
	__atomic_fetch_add(&b->interrupts, 1, __ATOMIC_SEQ_CST);
}

static inline uint64_t reg(struct bench *b, uint32_t offset, unsigned int bytes)
{
	uint64_t value = 0;

	card_reg_read(b->card, offset, &value, bytes);
	return value;
}

static inline void set(struct bench *b, uint32_t offset, uint64_t value, unsigned int bytes)
{
	card_reg_write(b->card, offset, &value, bytes);
}

static inline void bench_open_broken(struct bench *b, const char *profile, const char *faults)
{
	struct card_options options = { .profile = profile, .faults = faults };
	struct card_host host = { .interrupt = on_interrupt, .opaque = b };
	char error[CARD_ERROR_BYTES];

	memset(b, 0, sizeof(*b));
	if (card_new(&options, &host, &b->card, error))
		errx(1, "%s", error);
	b->host = mmap(NULL, HOST_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		       0);
	if (b->host == MAP_FAILED || card_dma_map(b->card, BASE, HOST_BYTES, b->host,
						  CARD_DMA_READ | CARD_DMA_WRITE))
		errx(1, "no host memory");
	card_bus_master(b->card, 1);
	b->cores = reg(b, FLM_REG_CORES, 4);
	b->queues = reg(b, FLM_REG_QUEUES, 4);
}

static inline void bench_open(struct bench *b, const char *profile)
{
	bench_open_broken(b, profile, NULL);
}

static inline void bench_close(struct bench *b)
{
	card_free(b->card);
	munmap(b->host, HOST_BYTES);
}

/* The next generation: a copy of the tables that may then be changed. */
static inline void bench_generation(struct bench *b, struct rig *r)
{
	struct flm_segment_row *tables = bench_alloc(b, b->cores * SEGMENTS * sizeof(*tables));
	struct flm_generation *row;

	if (r->tables)
		memcpy(tables, r->tables, b->cores * SEGMENTS * sizeof(*tables));
	r->tables = tables;
	row = &r->page[++r->generation % FLM_GENERATIONS];
	row->tables = htole64(bus(b, tables));
	row->segments = htole32(SEGMENTS);
	row->generation = htole32(r->generation);
}

/* Contiguous bytes for every core; the region is a number of enum flm_region. */
static inline void bench_bind(struct bench *b, struct rig *r, unsigned int segment,
			      unsigned int region, uint64_t address, uint64_t bytes,
			      unsigned int rights)
{
	for (unsigned int c = 0; c < b->cores; c++)
		r->tables[c * SEGMENTS + segment] = (struct flm_segment_row) {
			.length = htole64(bytes),
			.blocks = htole64((uint64_t)region << FLM_BLOCK_REGION_SHIFT | address),
			.count = htole32(1), .flags = FLM_SEGMENT_CONTIGUOUS, .rights = rights,
		};
}

/* The queue's registers, and ENABLE; true when it is enabled. */
static inline bool bench_enable(struct bench *b, struct rig *r, unsigned int kind, uint32_t cores,
				unsigned int priority, uint64_t watchdog)
{
	memset(r->status, 0, sizeof(*r->status));
	r->tail = 0;
	r->seqno = 0;
	set(b, FLM_REG_QUEUE_SELECT, r->queue, 4);
	set(b, FLM_REG_QUEUE_KIND, kind, 4);
	set(b, FLM_REG_QUEUE_SLOTS_LOG2, RING_LOG2, 4);
	set(b, FLM_REG_QUEUE_RING, bus(b, r->ring), 8);
	set(b, FLM_REG_QUEUE_DONE, bus(b, r->done), 8);
	set(b, FLM_REG_QUEUE_STATUS, bus(b, r->status), 8);
	set(b, FLM_REG_QUEUE_CONTEXT, bus(b, r->page), 8);
	set(b, FLM_REG_QUEUE_PRIORITY, priority, 4);
	set(b, FLM_REG_QUEUE_QUANTUM_US, 0, 4);
	set(b, FLM_REG_QUEUE_CORES, cores, 4);
	set(b, FLM_REG_QUEUE_VECTOR, 1, 4);
	set(b, FLM_REG_QUEUE_WATCHDOG, watchdog, 8);
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_ENABLE, 4);
	return reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_ENABLED;
}

static inline struct rig *bench_rig(struct bench *b, unsigned int kind, uint32_t cores,
				    uint64_t watchdog)
{
	struct rig *r = &b->rigs[b->rig_count];

	r->queue = b->rig_count++;
	r->ring = bench_alloc(b, 4096);
	r->done = bench_alloc(b, 4096);
	r->status = bench_alloc(b, 4096);
	r->page = bench_alloc(b, 4096);
	r->program = bench_alloc(b, 65536);
	r->job = bench_alloc(b, 65536);
	bench_generation(b, r);
	bench_bind(b, r, 0, FLM_REGION_HOST, bus(b, r->program), 65536, FLM_RIGHT_X);
	bench_bind(b, r, 1, FLM_REGION_HOST, bus(b, r->job), 65536, FLM_RIGHT_R | FLM_RIGHT_W);
	if (!bench_enable(b, r, kind, cores, 1, watchdog))
		errx(1, "queue %u is not enabled: error %u", r->queue,
		     (unsigned int)reg(b, FLM_REG_QUEUE_ERROR, 4));
	return r;
}

/* The program of the rig's segment 0; see program_write(). */
static inline void bench_program(struct rig *r, unsigned int cores, const char *text)
{
	memset(r->program, 0, 65536);
	program_write(r->program, cores, text);
}

/* The job of the rig's segment 1; see program_job(). */
static inline void bench_job(struct rig *r, uint32_t prompt)
{
	memset(r->job, 0, 4096);
	program_job(r->job, prompt);
}

static inline void bench_post(struct bench *b, struct rig *r, const void *slot)
{
	uint32_t *doorbell = (void *)((uint8_t *)card_bar_memory(b->card, FLM_BAR_DOORBELLS) +
				      r->queue * 4096ull);

	memcpy(&r->ring[r->tail++ % (1 << RING_LOG2)], slot, 64);
	__atomic_store_n(doorbell, htole32(r->tail), __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&r->status->armed, __ATOMIC_SEQ_CST))
		set(b, FLM_REG_KICK, r->queue, 4);
}

/* RESET of the rig's queue; how long it takes until the queue is disabled, by the watch. */
static inline double bench_reset(struct bench *b, struct rig *r)
{
	struct watch watch;
	double took;

	set(b, FLM_REG_QUEUE_SELECT, r->queue, 4);
	watch = watch_start(0);
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	took = UNTIL(reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_DISABLED) ? 0 : PATIENCE;
	took += watch_took(&watch);
	return took;
}

static inline struct flm_slot bench_slot(struct rig *r)
{
	return (struct flm_slot) {
		.flags = htole32(FLM_SLOT_RUN | FLM_SLOT_INTERRUPT),
		.generation = htole32(r->generation), .seqno = htole64(++r->seqno),
		.job_segment = htole16(1), .max_points = htole32(1000),
	};
}

/* Waits until so many slots are finished; NULL after 20 s. */
static inline const struct flm_done *bench_wait(struct rig *r, uint32_t slots)
{
	double end = seconds() + 20;

	while ((int32_t)(le32toh(__atomic_load_n(&r->status->head, __ATOMIC_ACQUIRE)) - slots) <
	       0) {
		struct timespec pause = { 0, 100000 };

		if (seconds() > end)
			return NULL;
		nanosleep(&pause, NULL);
	}
	return &r->done[(slots - 1) % (1 << RING_LOG2)];
}

static inline const struct flm_done *bench_run(struct bench *b, struct rig *r)
{
	static const struct flm_done none;
	struct flm_slot slot = bench_slot(r);
	const struct flm_done *done;

	bench_post(b, r, &slot);
	done = bench_wait(r, r->tail);
	return done ? done : &none;
}

#endif
