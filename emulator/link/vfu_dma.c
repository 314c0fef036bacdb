// SPDX-License-Identifier: MIT
/*
 * Maps the client's memory for the card.
 *
 * The one idea: the table of mappings is the truth, sorted by address, and a mapping is lent to the
 * card after it exists here and taken back before it goes. A second table, of fixed places, lets
 * the SIGBUS handler find a mapping without a lock.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/magic.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "emulator/link/vfu_dma.h"

#define PAGE 4096u

/*
 * What the handler may replace by zeros. A place is written by the owner's thread while it is empty
 * (start 0), start last; the handler, on whatever thread, reads start first.
 */
static struct {
	_Atomic uintptr_t start;
	_Atomic size_t bytes;
} places[VFU_DMA_MAPS];
static atomic_bool is_broken;
static size_t free_place;	/* where place_add() begins to look */

/* There are as many places as mappings at most, so one is free; the last one freed is tried first.
 */
static size_t place_add(void *memory, size_t bytes)
{
	size_t i = free_place;

	while (atomic_load(&places[i].start))
		i = (i + 1) % VFU_DMA_MAPS;
	atomic_store(&places[i].bytes, bytes);
	atomic_store(&places[i].start, (uintptr_t)memory);
	free_place = (i + 1) % VFU_DMA_MAPS;
	return i;
}

static void place_remove(size_t i)
{
	atomic_store(&places[i].start, 0);
	free_place = i;
}

/* mmap is no more than a system call here: it takes no lock of the C library. */
static void on_sigbus(int signal_number, siginfo_t *info, void *context)
{
	uintptr_t at = (uintptr_t)info->si_addr;
	int saved = errno;

	(void)context;
	for (size_t i = 0; i < VFU_DMA_MAPS; i++) {
		uintptr_t start = atomic_load(&places[i].start);
		size_t bytes = atomic_load(&places[i].bytes);

		if (!start || at < start || at - start >= bytes)
			continue;
		if (mmap((void *)start, bytes, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1,
			 0) == MAP_FAILED)
			break;
		atomic_store(&is_broken, true);
		errno = saved;
		return;
	}
	/* Not the client's doing: die as if there were no handler. */
	signal(signal_number, SIG_DFL);
	raise(signal_number);
}

void vfu_dma_guard(void)
{
	struct sigaction action = { .sa_sigaction = on_sigbus,
				    .sa_flags = SA_SIGINFO | SA_NODEFER };

	sigemptyset(&action.sa_mask);
	sigaction(SIGBUS, &action, NULL);
}

bool vfu_dma_broken(void)
{
	return atomic_load(&is_broken);
}

void vfu_dma_init(struct vfu_dma *dma, struct card *card)
{
	*dma = (struct vfu_dma){ .card = card };
}

/* The first mapping that ends after `address`. */
static size_t find(const struct vfu_dma *dma, uint64_t address)
{
	size_t low = 0, high = dma->count;

	while (low < high) {
		size_t middle = low + (high - low) / 2;
		const struct vfu_dma_map *m = &dma->maps[middle];

		if (m->address + (m->bytes - 1) < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

static int release(struct vfu_dma_map *map)
{
	if (!map->memory)
		return 0;
	if (munmap(map->blocks, map->block_bytes))
		return -errno;
	place_remove(map->place);
	return 0;
}

/*
 * Takes mappings first .. end - 1 back from the card, all at once, then from this process. One that
 * stays mapped stays in the table, because its place in the handler's is taken.
 */
static int take_back(struct vfu_dma *dma, size_t first, size_t end)
{
	const struct vfu_dma_map *head = &dma->maps[first], *tail = &dma->maps[end - 1];
	size_t kept = first;
	int ret = 0;

	/* The first one by itself: what begins at 0 may end where no number of bytes reaches. */
	card_dma_unmap(dma->card, head->address, head->bytes);
	if (head != tail)
		card_dma_unmap(dma->card, head[1].address,
			       tail->address + tail->bytes - head[1].address);
	for (size_t i = first; i < end; i++) {
		int error = release(&dma->maps[i]);

		if (!error)
			continue;
		ret = error;
		dma->maps[kept++] = dma->maps[i];
	}
	memmove(&dma->maps[kept], &dma->maps[end], (dma->count - end) * sizeof(*dma->maps));
	dma->count -= end - kept;
	return ret;
}

int vfu_dma_fini(struct vfu_dma *dma)
{
	int ret = dma->count ? take_back(dma, 0, dma->count) : 0;

	atomic_store(&is_broken, false);
	if (ret)
		return ret;
	free(dma->maps);
	dma->maps = NULL;
	dma->room = 0;
	return 0;
}

bool vfu_dma_is_memory(int fd)
{
	struct stat st;

	return !fstat(fd, &st) && S_ISREG(st.st_mode);
}

/* Page after page must exist in the file, or the first access would end in SIGBUS. */
static int check_file(int fd, uint64_t offset, uint64_t bytes)
{
	struct stat st;
	uint64_t end;

	if (fstat(fd, &st))
		return -errno;
	if (__builtin_add_overflow(offset, bytes, &end) || st.st_size < 0 ||
	    end > (uint64_t)st.st_size)
		return -EINVAL;
	return 0;
}

/*
 * Huge pages are mapped and unmapped whole, wherever in them a window begins and ends: the blocks
 * of the file around it.
 */
static int map_blocks(struct vfu_dma_map *map, int fd, uint64_t offset, int protection)
{
	uint64_t block = PAGE, skip;
	struct statfs fs;

	if (fstatfs(fd, &fs))
		return -errno;
	if (fs.f_type == HUGETLBFS_MAGIC)
		block = (uint64_t)fs.f_bsize;
	skip = offset % block;
	map->block_bytes = (skip + map->bytes + block - 1) / block * block;
	map->blocks = mmap(NULL, map->block_bytes, protection, MAP_SHARED | MAP_NORESERVE, fd,
			   (off_t)(offset - skip));
	if (map->blocks == MAP_FAILED)
		return -errno;
	map->memory = (char *)map->blocks + skip;
	map->place = place_add(map->blocks, map->block_bytes);
	return 0;
}

static int make_room(struct vfu_dma *dma)
{
	size_t room = dma->room ? 2 * dma->room : 64;
	struct vfu_dma_map *maps;

	if (dma->count == VFU_DMA_MAPS)
		return -ENOSPC;
	if (dma->count < dma->room)
		return 0;
	maps = reallocarray(dma->maps, room, sizeof(*maps));
	if (!maps)
		return -ENOMEM;
	dma->maps = maps;
	dma->room = room;
	return 0;
}

int vfu_dma_map(struct vfu_dma *dma, uint64_t address, uint64_t bytes, int fd, uint64_t offset,
		unsigned int rights)
{
	struct vfu_dma_map map = { .address = address, .bytes = bytes };
	uint64_t last;
	size_t at;
	int ret, protection = 0;

	if (!bytes || bytes > SIZE_MAX / 2 || __builtin_add_overflow(address, bytes - 1, &last) ||
	    (address | bytes | offset) % PAGE || !rights)
		return -EINVAL;
	at = find(dma, address);
	if (at < dma->count && dma->maps[at].address <= last)
		return -EEXIST;
	ret = make_room(dma);
	if (ret)
		return ret;
	if (fd >= 0) {
		ret = check_file(fd, offset, bytes);
		if (ret)
			return ret;
		if (rights & CARD_DMA_READ)
			protection |= PROT_READ;
		if (rights & CARD_DMA_WRITE)
			protection |= PROT_READ | PROT_WRITE;
		ret = map_blocks(&map, fd, offset, protection);
		if (ret)
			return ret;
		ret = card_dma_map(dma->card, address, bytes, map.memory, rights);
		if (ret) {
			release(&map);
			return ret;
		}
	}
	memmove(&dma->maps[at + 1], &dma->maps[at], (dma->count - at) * sizeof(map));
	dma->maps[at] = map;
	dma->count++;
	return 0;
}

int vfu_dma_unmap(struct vfu_dma *dma, uint64_t address, uint64_t bytes)
{
	uint64_t last;
	size_t first, end;

	if (!bytes || __builtin_add_overflow(address, bytes - 1, &last))
		return -EINVAL;
	first = find(dma, address);
	for (end = first; end < dma->count && dma->maps[end].address <= last; end++) {
		const struct vfu_dma_map *m = &dma->maps[end];

		if (m->address < address || m->address + (m->bytes - 1) > last)
			return -EINVAL;
	}
	return first == end ? 0 : take_back(dma, first, end);
}
