/* SPDX-License-Identifier: MIT */
/*
 * Memory as the card sees it. Three layers, each using the one above it:
 *
 *	struct dma	host memory that was lent to the card, by bus address
 *	struct memory	the card's own: HBM of each core and DDR, allocated as it is touched
 *	struct space	what a job may reach: the segment tables of one generation of a context
 *
 * Every access of a job goes through a space: it is checked at each burst and split at blocks; a
 * refusal comes back as a fault, nothing is logged and nothing is touched outside.
 */
#ifndef EMULATOR_MEM_H
#define EMULATOR_MEM_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <flightllm/queue.h>

#define MEM_BURST	65536	/* bytes of host memory moved under one hold of the lock */
#define MEM_CARD_BLOCK	(2u << 20)
#define MEM_CHANNELS	32	/* of a region at most */
#define MEM_STRIPE	256	/* bytes on a channel before the next one follows */

/* Place and kind of a job's fault; becomes its completion row. kind 0: no fault. */
struct fault {
	unsigned int kind;	/* enum flm_fault */
	unsigned int core;
	unsigned int unit;
	uint32_t word;		/* of the instruction in its stream */
	unsigned int segment;
	uint64_t offset;
};

/* ---- Host memory ---- */

struct dma_map {
	uint64_t address, bytes;
	uint8_t *memory;
	unsigned int rights;
};

struct dma {
	pthread_rwlock_t lock;	/* of all below; read: an access is under way */
	struct dma_map *maps;	/* ascending, not overlapping */
	unsigned int count, room;
	bool enabled;		/* bus master, and no reset since */
	uint32_t epoch;		/* resets so far: accesses of an older one are refused */
	uint64_t read, written, errors;	/* atomic */
};

int dma_init(struct dma *dma);
void dma_fini(struct dma *dma);
int dma_map(struct dma *dma, uint64_t address, uint64_t bytes, void *memory, unsigned int rights);
int dma_unmap(struct dma *dma, uint64_t address, uint64_t bytes);

/* 0, or -1: some of it is not lent, or without that right, or the epoch is over. */
int dma_read(struct dma *dma, uint32_t epoch, uint64_t address, void *to, uint64_t bytes);
int dma_write(struct dma *dma, uint32_t epoch, uint64_t address, const void *from, uint64_t bytes);

/* A 32- or 64-bit word at an aligned address, stored whole, after everything written before it. */
int dma_store32(struct dma *dma, uint32_t epoch, uint64_t address, uint32_t value);
int dma_store64(struct dma *dma, uint32_t epoch, uint64_t address, uint64_t value);
/* The other way, into *value. */
int dma_load64(struct dma *dma, uint32_t epoch, uint64_t address, uint64_t *value);

/* ---- Card memory ---- */

struct region {
	uint64_t bytes, block;	/* bytes 0: there is none */
	uint64_t bar2, visible;	/* its window: place in BAR2, bytes from the region's start */
	uint8_t *base;		/* all of it, mapped */
	uint64_t file_offset;	/* of the part behind the window, in memory.fd */
	unsigned int channels;	/* 0: bytes are not counted */
	uint64_t read[MEM_CHANNELS], written[MEM_CHANNELS];	/* atomic */
};

struct memory {
	struct region regions[FLM_REGIONS];
	int bar2_fd, fd;	/* the window; all the rest */
	uint64_t bar2_bytes;
	uint8_t *bar2;
};

/* bytes by region id. 0 or -errno. */
int memory_init(struct memory *memory, const uint64_t bytes[FLM_REGIONS], uint64_t bar2_bytes);
void memory_fini(struct memory *memory);
/*
 * Loses everything: memory that was used is freed, and begins with the pattern 0xa5 in each block.
 * 0, or -errno: some bytes are still there.
 */
int memory_lose(struct memory *memory);
/*
 * Puts another file, of zeros, in the place of the window's; mappings of the old one are no longer
 * the card's memory. Call it while nobody uses the memory. After -ENOMEM the memory can only be
 * freed.
 */
int memory_renew_window(struct memory *memory);

/* ---- Segments ---- */

struct space {
	struct dma *dma;
	struct memory *memory;
	uint32_t epoch;
	unsigned int cores;
	bool is_broken;				/* every access is fault DMA */
	uint32_t generation, segments;
	uint64_t context;			/* bus address of the context page */
	struct flm_segment_row *tables;		/* copied: [cores][segments] */
};

/* Reads row generation % 64 of a context page and its tables. 0, or -1 with a fault. */
int space_load(struct space *space, uint64_t context, uint32_t generation, struct fault *fault);
void space_unload(struct space *space);

/*
 * Moves bytes between `memory` and [offset, offset + bytes) of a segment, as `core` sees it.
 * Returns 0, or -1 with kind, segment and offset of the fault filled in. Bytes already moved stay
 * moved. Any thread; a burst of host memory holds a lock for at most MEM_BURST bytes.
 */
int space_read(struct space *space, unsigned int core, unsigned int segment, uint64_t offset,
	       void *memory, uint64_t bytes, unsigned int rights, struct fault *fault);
int space_write(struct space *space, unsigned int core, unsigned int segment, uint64_t offset,
		const void *memory, uint64_t bytes, struct fault *fault);

#endif
