// SPDX-License-Identifier: MIT
/*
 * Host memory, card memory, segments; see mem.h. Card memory is two memfds, one for the window that
 * BAR2 shows and one for the rest, mapped so that each region is one piece of address space.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "emulator/card.h"
#include "emulator/mem.h"

#define MAPS_MAX	65536
#define PATTERN		0xa5

/* ---- Host memory ---- */

int dma_init(struct dma *dma)
{
	pthread_rwlockattr_t attributes;

	memset(dma, 0, sizeof(*dma));
	pthread_rwlockattr_init(&attributes);
	/* An unmap must not wait for a stream of bursts to pause. */
	pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
	pthread_rwlock_init(&dma->lock, &attributes);
	pthread_rwlockattr_destroy(&attributes);
	return 0;
}

void dma_fini(struct dma *dma)
{
	pthread_rwlock_destroy(&dma->lock);
	free(dma->maps);
}

/* Index of the first mapping that ends behind address. */
static unsigned int dma_find(const struct dma *dma, uint64_t address)
{
	unsigned int low = 0, high = dma->count;

	while (low < high) {
		unsigned int middle = (low + high) / 2;
		const struct dma_map *map = &dma->maps[middle];

		if (map->address + (map->bytes - 1) < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

int dma_map(struct dma *dma, uint64_t address, uint64_t bytes, void *memory, unsigned int rights)
{
	unsigned int at;
	int ret = 0;

	if (!bytes || address + (bytes - 1) < address)
		return -EINVAL;
	pthread_rwlock_wrlock(&dma->lock);
	at = dma_find(dma, address);
	if (at < dma->count && dma->maps[at].address <= address + (bytes - 1)) {
		ret = -EEXIST;
	} else if (dma->count == MAPS_MAX) {
		ret = -ENOSPC;
	} else if (dma->count == dma->room) {
		unsigned int room = dma->room ? 2 * dma->room : 64;
		struct dma_map *more = realloc(dma->maps, room * sizeof(*more));

		if (more) {
			dma->maps = more;
			dma->room = room;
		} else {
			ret = -ENOMEM;
		}
	}
	if (!ret) {
		memmove(&dma->maps[at + 1], &dma->maps[at],
			(dma->count - at) * sizeof(dma->maps[0]));
		dma->maps[at] = (struct dma_map) { address, bytes, memory, rights };
		dma->count++;
	}
	pthread_rwlock_unlock(&dma->lock);
	return ret;
}

int dma_unmap(struct dma *dma, uint64_t address, uint64_t bytes)
{
	uint64_t last = address + (bytes - 1);
	unsigned int first, end;

	if (!bytes || last < address)
		return -EINVAL;
	pthread_rwlock_wrlock(&dma->lock);
	/* Those inside the range are neighbours; one that reaches into it at either end stays. */
	first = dma_find(dma, address);
	if (first < dma->count && dma->maps[first].address < address)
		first++;
	for (end = first; end < dma->count; end++)
		if (dma->maps[end].address > last ||
		    dma->maps[end].address + (dma->maps[end].bytes - 1) > last)
			break;
	if (first < end) {
		memmove(&dma->maps[first], &dma->maps[end],
			(dma->count - end) * sizeof(dma->maps[0]));
		dma->count -= end - first;
	}
	pthread_rwlock_unlock(&dma->lock);
	return 0;
}

/*
 * Memory at address for up to *bytes of it, which is cut to what lies in one mapping; NULL when
 * it is not lent with that right. The lock is held for reading.
 */
static uint8_t *dma_at(struct dma *dma, uint32_t epoch, uint64_t address, unsigned int right,
		       uint64_t *bytes)
{
	unsigned int at = dma_find(dma, address);
	const struct dma_map *map = at < dma->count ? &dma->maps[at] : NULL;

	if (!dma->enabled || epoch != dma->epoch)
		return NULL;
	if (!map || map->address > address || !(map->rights & right)) {
		__atomic_fetch_add(&dma->errors, 1, __ATOMIC_RELAXED);
		return NULL;
	}
	if (*bytes > map->bytes - (address - map->address))
		*bytes = map->bytes - (address - map->address);
	return map->memory + (address - map->address);
}

int dma_read(struct dma *dma, uint32_t epoch, uint64_t address, void *to, uint64_t bytes)
{
	uint8_t *out = to;

	while (bytes) {
		uint64_t n = bytes < MEM_BURST ? bytes : MEM_BURST;
		const uint8_t *from;

		pthread_rwlock_rdlock(&dma->lock);
		from = dma_at(dma, epoch, address, CARD_DMA_READ, &n);
		if (from) {
			memcpy(out, from, n);
			/* Counted under the lock: a figure read after an unmap is whole. */
			__atomic_fetch_add(&dma->read, n, __ATOMIC_RELAXED);
		}
		pthread_rwlock_unlock(&dma->lock);
		if (!from)
			return -1;
		out += n;
		address += n;
		bytes -= n;
	}
	return 0;
}

int dma_write(struct dma *dma, uint32_t epoch, uint64_t address, const void *from, uint64_t bytes)
{
	const uint8_t *in = from;

	while (bytes) {
		uint64_t n = bytes < MEM_BURST ? bytes : MEM_BURST;
		uint8_t *to;

		pthread_rwlock_rdlock(&dma->lock);
		to = dma_at(dma, epoch, address, CARD_DMA_WRITE, &n);
		if (to) {
			memcpy(to, in, n);
			__atomic_fetch_add(&dma->written, n, __ATOMIC_RELAXED);
		}
		pthread_rwlock_unlock(&dma->lock);
		if (!to)
			return -1;
		in += n;
		address += n;
		bytes -= n;
	}
	return 0;
}

/* One aligned word; bytes is 4 or 8. */
static int dma_store(struct dma *dma, uint32_t epoch, uint64_t address, uint64_t value,
		     uint64_t bytes)
{
	__le64 word = htole64(value);
	uint64_t n = bytes;
	uint8_t *to;

	pthread_rwlock_rdlock(&dma->lock);
	to = dma_at(dma, epoch, address, CARD_DMA_WRITE, &n);
	if (to && n == bytes && (uintptr_t)to % bytes)
		/* Lent at an odd place: nothing can store it whole. */
		memcpy(to, &word, bytes);
	else if (to && n == bytes && bytes == 4)
		__atomic_store_n((uint32_t *)to, htole32((uint32_t)value), __ATOMIC_SEQ_CST);
	else if (to && n == bytes)
		__atomic_store_n((uint64_t *)to, htole64(value), __ATOMIC_SEQ_CST);
	if (to && n == bytes)
		__atomic_fetch_add(&dma->written, n, __ATOMIC_RELAXED);
	pthread_rwlock_unlock(&dma->lock);
	return to && n == bytes ? 0 : -1;
}

int dma_store32(struct dma *dma, uint32_t epoch, uint64_t address, uint32_t value)
{
	return dma_store(dma, epoch, address, value, 4);
}

int dma_store64(struct dma *dma, uint32_t epoch, uint64_t address, uint64_t value)
{
	return dma_store(dma, epoch, address, value, 8);
}

int dma_load64(struct dma *dma, uint32_t epoch, uint64_t address, uint64_t *value)
{
	uint64_t n = sizeof(*value);
	const uint8_t *from;
	__le64 word = 0;

	pthread_rwlock_rdlock(&dma->lock);
	from = dma_at(dma, epoch, address, CARD_DMA_READ, &n);
	if (from && n == sizeof(word) && (uintptr_t)from % sizeof(word))
		memcpy(&word, from, sizeof(word));
	else if (from && n == sizeof(word))
		word = __atomic_load_n((const uint64_t *)from, __ATOMIC_SEQ_CST);
	if (from && n == sizeof(word))
		__atomic_fetch_add(&dma->read, n, __ATOMIC_RELAXED);
	pthread_rwlock_unlock(&dma->lock);
	if (!from || n != sizeof(word))
		return -1;
	*value = le64toh(word);
	return 0;
}

/* ---- Card memory ---- */

static int region_map(struct memory *memory, struct region *region)
{
	region->base = mmap(NULL, region->bytes, PROT_NONE,
			    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (region->base == MAP_FAILED) {
		region->base = NULL;
		return -ENOMEM;
	}
	if (region->bytes > region->visible &&
	    mmap(region->base + region->visible, region->bytes - region->visible,
		 PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED | MAP_NORESERVE, memory->fd,
		 region->file_offset) == MAP_FAILED)
		return -ENOMEM;
	madvise(region->base, region->bytes, MADV_HUGEPAGE);
	return 0;
}

int memory_renew_window(struct memory *memory)
{
	int fd = memfd_create("flightllm-bar2", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	bool is_bad = fd < 0 || ftruncate(fd, memory->bar2_bytes) ||
		      mmap(memory->bar2, memory->bar2_bytes, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED;

	for (unsigned int i = 0; !is_bad && i < FLM_REGIONS; i++) {
		const struct region *region = &memory->regions[i];

		if (!region->visible)
			continue;
		is_bad = mmap(region->base, region->visible, PROT_READ | PROT_WRITE,
			      MAP_SHARED | MAP_FIXED, fd, region->bar2) == MAP_FAILED;
		madvise(region->base, region->visible, MADV_HUGEPAGE);
	}
	if (memory->bar2_fd >= 0)
		close(memory->bar2_fd);
	memory->bar2_fd = fd;
	return is_bad ? -ENOMEM : 0;
}

int memory_init(struct memory *memory, const uint64_t bytes[FLM_REGIONS], uint64_t bar2_bytes)
{
	uint64_t share, bar2 = 0, rest = 0, all = 0;
	unsigned int count = 0;
	int ret = 0;

	memset(memory, 0, sizeof(*memory));
	memory->bar2_bytes = bar2_bytes;
	memory->bar2_fd = -1;
	memory->fd = memfd_create("flightllm-memory", MFD_CLOEXEC);
	for (unsigned int i = 0; i < FLM_REGIONS; i++) {
		count += bytes[i] != 0;
		all += bytes[i];
	}
	share = bar2_bytes >= all ? all : bar2_bytes / count / MEM_CARD_BLOCK * MEM_CARD_BLOCK;
	for (unsigned int i = 0; i < FLM_REGIONS; i++) {
		struct region *region = &memory->regions[i];

		region->bytes = bytes[i];
		region->block = MEM_CARD_BLOCK;
		region->visible = bytes[i] < share ? bytes[i] : share;
		region->bar2 = bar2;
		region->file_offset = rest;
		bar2 += region->visible;
		rest += region->bytes - region->visible;
	}
	if (memory->fd < 0 || (rest && ftruncate(memory->fd, rest)))
		ret = -ENOMEM;
	if (!ret) {
		/* A place; the window's file comes to it and to the regions in one go. */
		memory->bar2 = mmap(NULL, bar2_bytes, PROT_NONE,
				    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
		if (memory->bar2 == MAP_FAILED) {
			memory->bar2 = NULL;
			ret = -ENOMEM;
		}
	}
	for (unsigned int i = 0; !ret && i < FLM_REGIONS; i++)
		if (memory->regions[i].bytes)
			ret = region_map(memory, &memory->regions[i]);
	if (!ret)
		ret = memory_renew_window(memory);
	if (ret)
		memory_fini(memory);
	return ret;
}

void memory_fini(struct memory *memory)
{
	for (unsigned int i = 0; i < FLM_REGIONS; i++)
		if (memory->regions[i].base)
			munmap(memory->regions[i].base, memory->regions[i].bytes);
	if (memory->bar2)
		munmap(memory->bar2, memory->bar2_bytes);
	if (memory->bar2_fd >= 0)
		close(memory->bar2_fd);
	if (memory->fd >= 0)
		close(memory->fd);
	memset(memory, 0, sizeof(*memory));
	memory->bar2_fd = memory->fd = -1;
}

/*
 * A file's pages go back to the system; each block that had some begins with the pattern. 0, or
 * -errno with bytes that are still there.
 */
static int file_lose(int fd)
{
	uint8_t page[4096];
	off_t at = 0, end, size = lseek(fd, 0, SEEK_END);

	memset(page, PATTERN, sizeof(page));
	while ((at = lseek(fd, at, SEEK_DATA)) >= 0) {
		end = lseek(fd, at, SEEK_HOLE);
		at = at / MEM_CARD_BLOCK * MEM_CARD_BLOCK;
		end = (end + MEM_CARD_BLOCK - 1) / MEM_CARD_BLOCK * MEM_CARD_BLOCK;
		if (end > size)
			end = size;
		if (fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, at, end - at))
			return -errno;
		for (; at < end; at += MEM_CARD_BLOCK)
			if (pwrite(fd, page, sizeof(page), at) < 0)
				continue;	/* no memory for the pattern: it reads as zero */
	}
	return 0;
}

int memory_lose(struct memory *memory)
{
	int window = file_lose(memory->bar2_fd), rest = file_lose(memory->fd);

	for (unsigned int i = 0; i < FLM_REGIONS; i++) {
		for (unsigned int c = 0; c < MEM_CHANNELS; c++) {
			__atomic_store_n(&memory->regions[i].read[c], 0, __ATOMIC_RELAXED);
			__atomic_store_n(&memory->regions[i].written[c], 0, __ATOMIC_RELAXED);
		}
	}
	return window ? window : rest;
}

/* ---- Segments ---- */

static int refuse(struct fault *fault, unsigned int kind, unsigned int segment, uint64_t offset)
{
	fault->kind = kind;
	fault->segment = segment;
	fault->offset = offset;
	return -1;
}

int space_load(struct space *space, uint64_t context, uint32_t generation, struct fault *fault)
{
	struct flm_generation row;
	uint32_t segments;
	uint64_t bytes;

	if (dma_read(space->dma, space->epoch, context + generation % FLM_GENERATIONS * sizeof(row),
		     &row, sizeof(row)))
		return refuse(fault, FLM_FAULT_DMA, 0, 0);
	if (!generation || le32toh(row.generation) != generation)
		return refuse(fault, FLM_FAULT_SEGMENT, 0, 0);
	segments = le32toh(row.segments);
	for (unsigned int i = 0; i < 12; i++)
		if (row.reserved[i])
			return refuse(fault, FLM_FAULT_BLOCK, 0, 0);
	if (!segments || segments > FLM_SEGMENTS)
		return refuse(fault, FLM_FAULT_BLOCK, 0, 0);
	bytes = (uint64_t)space->cores * segments * sizeof(*space->tables);
	free(space->tables);
	space->tables = malloc(bytes);
	if (!space->tables)
		return refuse(fault, FLM_FAULT_INTERNAL, 0, 0);
	if (dma_read(space->dma, space->epoch, le64toh(row.tables), space->tables, bytes)) {
		space_unload(space);
		return refuse(fault, FLM_FAULT_DMA, 0, 0);
	}
	space->context = context;
	space->generation = generation;
	space->segments = segments;
	return 0;
}

void space_unload(struct space *space)
{
	free(space->tables);
	space->tables = NULL;
	space->generation = 0;
	space->segments = 0;
}

/*
 * The block entry that holds `offset` of a row, and how many bytes from there on it holds.
 * Returns the kind of fault, 0 for none.
 */
static unsigned int find_block(struct space *space, const struct flm_segment_row *row,
			       uint64_t offset, uint64_t *entry, uint64_t *bytes)
{
	uint64_t length = le64toh(row->length), block, word;
	unsigned int log2 = row->block_log2;

	if (row->flags & ~FLM_SEGMENT_CONTIGUOUS || row->reserved0 || row->reserved1[0] ||
	    row->reserved1[1] || row->rights & ~(FLM_RIGHT_R | FLM_RIGHT_W | FLM_RIGHT_X))
		return FLM_FAULT_BLOCK;
	if (row->flags & FLM_SEGMENT_CONTIGUOUS) {
		if (log2 || le32toh(row->count) != 1)
			return FLM_FAULT_BLOCK;
		*entry = le64toh(row->blocks);
		*bytes = length - offset;
		return 0;
	}
	if (log2 < 12 || log2 > 40)
		return FLM_FAULT_BLOCK;
	block = 1ull << log2;
	if (le32toh(row->count) != length / block + (length % block != 0))
		return FLM_FAULT_BLOCK;
	if (__builtin_add_overflow(le64toh(row->blocks), 8 * (offset >> log2), &word) ||
	    dma_read(space->dma, space->epoch, word, &word, 8))
		return FLM_FAULT_DMA;
	*entry = le64toh(word);
	*bytes = block - offset % block;
	return 0;
}

/* Adds a burst to the counts of the channels that it is spread over. */
static void count_channels(const struct region *region, uint64_t *counts, uint64_t address,
			   uint64_t bytes)
{
	uint64_t round = (uint64_t)region->channels * MEM_STRIPE, rounds, n;

	if (!round)
		return;
	rounds = bytes / round * MEM_STRIPE;
	for (unsigned int c = 0; rounds && c < region->channels; c++)
		__atomic_fetch_add(&counts[c], rounds, __ATOMIC_RELAXED);
	for (bytes %= round; bytes; bytes -= n, address += n) {
		n = MEM_STRIPE - address % MEM_STRIPE;
		if (n > bytes)
			n = bytes;
		__atomic_fetch_add(&counts[address / MEM_STRIPE % region->channels], n,
				   __ATOMIC_RELAXED);
	}
}

/* Moves a burst that lies in one block; `inside` is its offset from the entry's address. */
static unsigned int move_burst(struct space *space, const struct flm_segment_row *row,
			       uint64_t entry, uint64_t inside, uint8_t *to, const uint8_t *from,
			       uint64_t bytes)
{
	unsigned int id = entry >> FLM_BLOCK_REGION_SHIFT;
	uint64_t address = entry & FLM_BLOCK_ADDRESS_MASK;
	struct region *region = &space->memory->regions[id];
	uint64_t block = id == FLM_REGION_HOST ? FLM_HOST_BLOCK : region->block;
	bool is_contiguous = row->flags & FLM_SEGMENT_CONTIGUOUS;

	if (id != FLM_REGION_HOST && !region->bytes)
		return FLM_FAULT_BLOCK;
	if (address % block || (!is_contiguous && 1ull << row->block_log2 < block))
		return FLM_FAULT_BLOCK;
	if (id == FLM_REGION_HOST) {
		uint64_t last;

		if (__builtin_add_overflow(address, inside, &last) ||
		    __builtin_add_overflow(last, bytes - 1, &last))
			return FLM_FAULT_DMA;
		if (from ? dma_write(space->dma, space->epoch, address + inside, from, bytes) :
			   dma_read(space->dma, space->epoch, address + inside, to, bytes))
			return FLM_FAULT_DMA;
		return 0;
	}
	if (inside > region->bytes || address > region->bytes - inside ||
	    bytes > region->bytes - inside - address)
		return FLM_FAULT_BLOCK;
	count_channels(region, from ? region->written : region->read, address + inside, bytes);
	if (from)
		memcpy(region->base + address + inside, from, bytes);
	else
		memcpy(to, region->base + address + inside, bytes);
	return 0;
}

static int access_space(struct space *space, unsigned int core, unsigned int segment,
			uint64_t offset, uint8_t *to, const uint8_t *from, uint64_t bytes,
			unsigned int rights, struct fault *fault)
{
	const struct flm_segment_row *row;
	uint64_t length, entry, n;
	unsigned int kind;

	if (space->is_broken)
		return refuse(fault, FLM_FAULT_DMA, segment, offset);
	if (core >= space->cores || segment >= space->segments)
		return refuse(fault, FLM_FAULT_SEGMENT, segment, offset);
	row = &space->tables[core * space->segments + segment];
	length = le64toh(row->length);
	if (!length)
		return refuse(fault, FLM_FAULT_SEGMENT, segment, offset);
	if ((row->rights & rights) != rights)
		return refuse(fault, FLM_FAULT_RIGHTS, segment, offset);
	if (offset > length || bytes > length - offset)
		return refuse(fault, FLM_FAULT_SEGMENT, segment, offset);
	while (bytes) {
		bool is_contiguous = row->flags & FLM_SEGMENT_CONTIGUOUS;

		kind = find_block(space, row, offset, &entry, &n);
		if (kind)
			return refuse(fault, kind, segment, offset);
		if (n > bytes)
			n = bytes;
		kind = move_burst(space, row, entry, is_contiguous ? offset :
				  offset % (1ull << row->block_log2), to, from, n);
		if (kind)
			return refuse(fault, kind, segment, offset);
		offset += n;
		bytes -= n;
		if (to)
			to += n;
		if (from)
			from += n;
	}
	return 0;
}

int space_read(struct space *space, unsigned int core, unsigned int segment, uint64_t offset,
	       void *memory, uint64_t bytes, unsigned int rights, struct fault *fault)
{
	return access_space(space, core, segment, offset, memory, NULL, bytes, rights, fault);
}

int space_write(struct space *space, unsigned int core, unsigned int segment, uint64_t offset,
		const void *memory, uint64_t bytes, struct fault *fault)
{
	return access_space(space, core, segment, offset, NULL, memory, bytes, FLM_RIGHT_W, fault);
}
