/* SPDX-License-Identifier: MIT */
/*
 * The card as an object: the one door to the emulator.
 *
 * flightllm-emu puts a vfio-user socket in front of it; lib/soft loads it into the process with
 * dlopen(). Exactly the traffic of a PCIe link passes here: register accesses, two memory BARs,
 * host memory that the card may reach, resets, interrupts.
 *
 *	struct card_options options = { .profile = "u280" };
 *	struct card_host host = { .interrupt = ring_eventfd, .opaque = vm };
 *	struct card *card;
 *	char error[CARD_ERROR_BYTES];
 *
 *	if (card_new(&options, &host, &card, error))
 *		errx(1, "%s", error);
 *	card_dma_map(card, 0x100000, 0x200000, memory, CARD_DMA_READ | CARD_DMA_WRITE);
 *	card_bus_master(card, 1);
 *	card_reg_read(card, FLM_REG_MAGIC, &value, 4);
 *
 * Threads: every function may be called from any thread, except that card_free() must be the last
 * call. None of the others computes or waits for work. Each returns within a few milliseconds, even
 * while the card works, so that one thread can own a socket. The card's own threads do the work and
 * call host->interrupt().
 */
#ifndef FLIGHTLLM_CARD_H
#define FLIGHTLLM_CARD_H

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#define CARD_ERROR_BYTES 256

struct card;

struct card_options {
	const char *profile;	/* row of profile.def: "u280", "vhk158", "u280x", "tiny" */
	uint64_t mem_bytes;	/* HBM of all cores together, DDR at most; 0: the profile's */
	uint64_t bar2_bytes;	/* window on card memory, a power of two; 0: 256 MiB */
	unsigned int threads;	/* host threads that compute; 0: one a processor */
	const char *faults;	/* injected faults, a comma-separated list; NULL: none */
	FILE *trace;		/* one line an event; NULL: none; stays the caller's */
	uint64_t serial;	/* serial number; 0: a fixed one */
};

struct card_host {
	/*
	 * MSI-X vector `vector` fires. Called from the card's threads, or from card_vector_mask(),
	 * with the card's locks held: it must not block and must not call any function of this
	 * file, or the card stands still for good.
	 */
	void (*interrupt)(void *opaque, unsigned int vector);
	void *opaque;
};

/* What configuration space and BARs need to know. */
struct card_identity {
	uint16_t vendor, device, subsystem_vendor, subsystem;
	uint8_t revision;		/* register map major */
	uint32_t class_code;		/* 24 bits, 0x120000 */
	uint64_t serial;
	unsigned int vectors;		/* MSI-X vectors */
	uint64_t bar0_bytes, bar2_bytes, bar4_bytes;
	const char *profile;		/* owned by the card */
};

enum card_dma { CARD_DMA_READ = 1, CARD_DMA_WRITE = 2 };	/* as the card sees it */

/*
 * Makes a card as after power-on. options and host are copied; options->trace stays the caller's
 * and must outlive the card. Returns 0; -EINVAL for an option, -ENOMEM without memory or threads.
 * On failure *card is NULL and `error` holds one line that says what was wrong and what to do.
 */
int card_new(const struct card_options *options, const struct card_host *host, struct card **card,
	     char error[CARD_ERROR_BYTES]);

/*
 * Stops all work, waits for the card's threads and frees the card; NULL is allowed. After the
 * return the card touches no memory of the caller.
 */
void card_free(struct card *card);

/* Fills *identity; constant for the life of the card. */
void card_identify(struct card *card, struct card_identity *identity);

/*
 * Accesses to BAR0. bytes is 4 or 8, and offset a multiple of bytes. Other accesses and unknown
 * registers read as zero and are ignored when written (SPEC.md). value is in host order. A card
 * that has been pulled out reads as all ones.
 */
void card_reg_read(struct card *card, uint64_t offset, void *value, unsigned int bytes);
void card_reg_write(struct card *card, uint64_t offset, const void *value, unsigned int bytes);

/*
 * Memory of BAR2 (card memory window) and BAR4 (doorbell pages): a file that another process can
 * map, and the card's own mapping of it. Both stay the card's. -1 and NULL for another bar.
 */
int card_bar_fd(struct card *card, int bar);
void *card_bar_memory(struct card *card, int bar);

/*
 * Puts new files of zeros in the place of both; the card's own mappings keep their addresses. Old
 * mappings of other processes are no longer the card's memory. Call it after a reset, before
 * another client gets the card. Returns 0; -EBUSY while a reset or work is under way; or -ENOMEM,
 * after which the card can only be freed.
 */
int card_renew_bars(struct card *card);

/*
 * Lends host memory to the card: bus addresses [address, address + bytes) are the bytes at
 * `memory`, in this process. They need no alignment, except that `address` and `memory` are equal
 * modulo 8. rights is a mask of enum card_dma. The memory must stay mapped until
 * card_dma_unmap() of it has returned. Returns 0; -EINVAL for a range that is empty or wraps;
 * -EEXIST when it overlaps another mapping; -ENOSPC when there are too many; -ENOMEM.
 *
 * card_dma_unmap() takes back every mapping that lies inside the range. It returns when no access
 * of the card to them is under way; work that still needs one ends with fault DMA. Returns 0 (also
 * without a mapping), or -EINVAL for a range that is empty or wraps.
 */
int card_dma_map(struct card *card, uint64_t address, uint64_t bytes, void *memory,
		 unsigned int rights);
int card_dma_unmap(struct card *card, uint64_t address, uint64_t bytes);

/*
 * Bus master enable, off after card_new(). While it is off the card does not touch host memory and
 * does not interrupt.
 */
void card_bus_master(struct card *card, int enabled);

/*
 * MSI-X masks, all clear after card_new(). The owner of the PCI function keeps them up to date. A
 * message of a masked vector becomes pending; it is sent, and counted, once when the mask is
 * cleared. card_vectors_pending() has a bit for each vector with a pending message; a reset drops
 * the messages.
 */
void card_vector_mask(struct card *card, unsigned int vector, int masked);
uint64_t card_vectors_pending(struct card *card);

/*
 * FLR, DEVICE_RESET or power loss: everything is lost, and used memory is filled with a pattern.
 * Returns at once; the card is ready again when STATE says READY.
 */
void card_reset(struct card *card);

#endif
