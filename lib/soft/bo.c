// SPDX-License-Identifier: MIT
/*
 * Memory of the card in the process, and the buffers in it. Card memory is given out first fit over
 * a list of extents; a host buffer is a memfd, so that the card and the program map the same pages.
 * A buffer lives as long as somebody refers to it: its handle, a binding, a generation.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <drm/flightllm_accel.h>

#include "lib/soft/soft.h"

#define MAP_SHIFT 40		/* mmap offset of a buffer: its handle, shifted so far */

/* ---- Card memory: first fit over extents ---- */

static uint64_t region_largest(const struct soft_region *region)
{
	uint64_t at = 0, largest = 0;

	for (const struct soft_extent *e = region->extents; e; e = e->next) {
		if (e->start - at > largest)
			largest = e->start - at;
		at = e->start + e->bytes;
	}
	return region->size - at > largest ? region->size - at : largest;
}

static int region_take(struct soft_region *region, uint64_t bytes, uint64_t limit, uint64_t *start)
{
	struct soft_extent **at = &region->extents, *extent;
	uint64_t from = 0;

	while (*at && (*at)->start - from < bytes) {
		from = (*at)->start + (*at)->bytes;
		at = &(*at)->next;
	}
	if (from > limit || bytes > limit - from)
		return -ENOSPC;
	extent = malloc(sizeof(*extent));
	if (!extent)
		return -ENOMEM;
	*extent = (struct soft_extent) { .start = from, .bytes = bytes, .next = *at };
	*at = extent;
	region->used += bytes;
	*start = from;
	return 0;
}

static void region_give(struct soft_region *region, uint64_t start)
{
	for (struct soft_extent **at = &region->extents; *at; at = &(*at)->next) {
		struct soft_extent *extent = *at;

		if (extent->start != start)
			continue;
		*at = extent->next;
		region->used -= extent->bytes;
		free(extent);
		return;
	}
}

static struct soft_region *region_find(struct soft *soft, unsigned int id)
{
	for (unsigned int i = 0; i < soft->region_count; i++)
		if (soft->regions[i].id == id)
			return &soft->regions[i];
	return NULL;
}

/* ---- Buffers ---- */

struct soft_bo *soft_bo_find(struct soft *soft, uint32_t handle)
{
	return handle && handle <= soft->bo_room ? soft->bos[handle - 1] : NULL;
}

void soft_bo_put(struct soft *soft, struct soft_bo *bo)
{
	if (!bo || --bo->references)
		return;
	if (bo->memory) {
		soft->card_dma_unmap(soft->card, bo->address, bo->bytes);
		munmap(bo->memory, bo->bytes);
		close(bo->fd);
		soft->host_used -= bo->bytes;
	} else if (bo->region) {
		region_give(bo->region, bo->address);
	}
	free(bo);
}

int soft_bo_handle(struct soft *soft, struct soft_bo *bo)
{
	uint32_t i;
	struct soft_bo **more;

	for (i = 0; i < soft->bo_room && soft->bos[i]; i++)
		;
	if (i == soft->bo_room) {
		more = realloc(soft->bos, (i + 64) * sizeof(*more));
		if (!more)
			return -ENOMEM;
		memset(more + i, 0, 64 * sizeof(*more));
		soft->bos = more;
		soft->bo_room += 64;
	}
	soft->bos[i] = bo;
	bo->handle = i + 1;
	return 0;
}

static int bo_host(struct soft *soft, struct soft_bo *bo)
{
	bo->fd = memfd_create("flightllm-bo", MFD_CLOEXEC);
	if (bo->fd < 0)
		return -errno;
	if (ftruncate(bo->fd, bo->bytes)) {
		close(bo->fd);
		return -ENOMEM;
	}
	bo->memory = mmap(NULL, bo->bytes, PROT_READ | PROT_WRITE, MAP_SHARED, bo->fd, 0);
	if (bo->memory == MAP_FAILED) {
		bo->memory = NULL;
		close(bo->fd);
		return -ENOMEM;
	}
	bo->address = (uintptr_t)bo->memory;
	if (soft->card_dma_map(soft->card, bo->address, bo->bytes, bo->memory,
			       CARD_DMA_READ | CARD_DMA_WRITE)) {
		munmap(bo->memory, bo->bytes);
		bo->memory = NULL;
		close(bo->fd);
		return -ENOMEM;
	}
	soft->host_used += bo->bytes;
	return 0;
}

/* The placement that an ioctl names: its region, NULL for host memory, or -EINVAL. */
static int bo_place(struct soft *soft, const struct drm_flightllm_bo_create *args,
		    struct soft_region **region)
{
	*region = NULL;
	if (args->placement != DRM_FLIGHTLLM_BO_HBM && args->core)
		return -EINVAL;
	switch (args->placement) {
	case DRM_FLIGHTLLM_BO_HBM:
		if (args->core >= soft->cores)
			return -EINVAL;
		*region = region_find(soft, FLM_REGION_HBM + args->core);
		return 0;
	case DRM_FLIGHTLLM_BO_DDR:
		*region = region_find(soft, FLM_REGION_DDR);
		return 0;
	case DRM_FLIGHTLLM_BO_HOST:
		return 0;
	}
	return -EINVAL;
}

int soft_bo_new(struct soft *soft, struct drm_flightllm_bo_create *args, struct soft_bo **out)
{
	struct soft_region *region;
	uint64_t block, limit;
	struct soft_bo *bo;
	int ret;

	ret = bo_place(soft, args, &region);
	if (ret)
		return ret;
	block = region ? region->block : FLM_HOST_BLOCK;
	limit = region ? region->size : SOFT_HOST_MAX;
	if (args->size > limit)
		return -E2BIG;
	bo = calloc(1, sizeof(*bo));
	if (!bo)
		return -ENOMEM;
	*bo = (struct soft_bo) {
		.references = 1, .placement = args->placement, .core = args->core,
		.flags = args->flags, .bytes = (args->size + block - 1) / block * block,
		.region = region, .fd = -1,
	};
	if (region)
		ret = region_take(region, bo->bytes, args->flags & DRM_FLIGHTLLM_BO_VISIBLE ?
				  region->visible : region->size, &bo->address);
	else
		ret = bo_host(soft, bo);
	if (!ret) {
		*out = bo;
		return 0;
	}
	if (region) {
		args->total = region->size;
		args->free = region->size - region->used;
		args->largest = region_largest(region);
	}
	free(bo);
	return ret;
}

int soft_bo_close(struct soft *soft, const struct drm_gem_close *args)
{
	struct soft_bo *bo = soft_bo_find(soft, args->handle);

	if (!bo)
		return -EINVAL;
	soft->bos[args->handle - 1] = NULL;
	bo->handle = 0;
	soft_bo_put(soft, bo);
	return 0;
}

static bool bo_is_visible(const struct soft_bo *bo)
{
	return bo->memory || (bo->region && bo->address + bo->bytes <= bo->region->visible);
}

int soft_bo_mmap_offset(struct soft *soft, struct drm_flightllm_bo_mmap_offset *args)
{
	struct soft_bo *bo = soft_bo_find(soft, args->handle);

	if (args->flags)
		return -EINVAL;
	if (!bo)
		return -ENOENT;
	if (!bo_is_visible(bo))
		return -ENXIO;
	args->offset = (uint64_t)args->handle << MAP_SHIFT;
	return 0;
}

int soft_bo_info(struct soft *soft, struct drm_flightllm_bo_info *args)
{
	struct soft_bo *bo = soft_bo_find(soft, args->handle);

	if (args->pad || args->reserved[0] || args->reserved[1])
		return -EINVAL;
	if (!bo)
		return -ENOENT;
	*args = (struct drm_flightllm_bo_info) {
		.handle = args->handle, .size = bo->bytes, .placement = bo->placement,
		.core = bo->core, .flags = bo->flags, .resident = 1,
		.visible = bo_is_visible(bo),
	};
	return 0;
}

void *soft_bo_map(void *handle, uint64_t offset, uint64_t bytes)
{
	struct soft *soft = handle;
	struct soft_bo *bo;
	void *memory = MAP_FAILED;

	pthread_mutex_lock(&soft->lock);
	bo = soft_bo_find(soft, offset >> MAP_SHIFT);
	errno = EINVAL;
	if (bo && bytes <= bo->bytes && bo_is_visible(bo))
		memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED,
			      bo->memory ? bo->fd : soft->card_bar_fd(soft->card, FLM_BAR_MEMORY),
			      bo->memory ? 0 : bo->region->bar2 + bo->address);
	pthread_mutex_unlock(&soft->lock);
	return memory;
}
