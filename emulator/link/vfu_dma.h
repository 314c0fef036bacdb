/* SPDX-License-Identifier: MIT */
/*
 * The client's memory that the card may reach: files that a vfio-user client has sent, mapped into
 * this process and lent to the card.
 *
 * A client's file can shrink under a mapping; an access is then SIGBUS. vfu_dma_guard() puts zeros
 * in the place of such a mapping and goes on. vfu_dma_broken() tells that this has happened, so
 * that the client can be dropped.
 *
 * Threads: one owner. Only the card's own threads touch the memory.
 */
#ifndef FLIGHTLLM_VFU_DMA_H
#define FLIGHTLLM_VFU_DMA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "emulator/card.h"

/*
 * Windows at a time, told to the client. Fewer than the protocol's default of 65,535: a process of
 * Linux has at most 65,530 mappings (vm.max_map_count), its own among them, and all windows are
 * taken back in one message, which is to be answered within 100 ms.
 */
#define VFU_DMA_MAPS 16384

struct vfu_dma_map {
	uint64_t address, bytes;
	void *memory;		/* NULL: no file came with it, the card cannot reach it */
	void *blocks;		/* whole blocks of the file, of which memory is a part */
	size_t block_bytes;	/* of all of them */
	size_t place;		/* where the SIGBUS handler finds them */
};

struct vfu_dma {
	struct card *card;
	struct vfu_dma_map *maps;	/* by ascending address, without overlaps */
	size_t count, room;
};

/*
 * Once a process, before the first mapping: takes over SIGBUS. All mappings of the process must
 * have one owner's thread.
 */
void vfu_dma_guard(void);
bool vfu_dma_broken(void);

void vfu_dma_init(struct vfu_dma *dma, struct card *card);

/*
 * Takes everything back from the card. 0, or -errno of munmap(): the rest stays mapped and in the
 * table; call again.
 */
int vfu_dma_fini(struct vfu_dma *dma);

/* Whether a file can be mapped: memfds and files of tmpfs, hugetlbfs or a disk. */
bool vfu_dma_is_memory(int fd);

/*
 * rights: enum card_dma. fd may be -1 and stays the caller's. Returns -EINVAL for a range that
 * wraps, is empty or not in whole pages of 4 KiB, or lies beyond the end of its file; -EEXIST for
 * an overlap; -ENOSPC; or what mmap says.
 */
int vfu_dma_map(struct vfu_dma *dma, uint64_t address, uint64_t bytes, int fd, uint64_t offset,
		unsigned int rights);

/*
 * Takes back every mapping inside the range; there need not be one. -EINVAL when one lies across a
 * border of the range; or as vfu_dma_fini().
 */
int vfu_dma_unmap(struct vfu_dma *dma, uint64_t address, uint64_t bytes);

#endif
