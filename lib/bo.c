// SPDX-License-Identifier: MIT
/* Buffers as the driver has them: made, mapped, freed. copy.c fills those in card memory. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <drm/flightllm_accel.h>

#include "lib/internal.h"

static int refused(struct flm_device *device, const struct drm_flightllm_bo_create *create,
		   int ret)
{
	static const char *const places[] = { "memory", "HBM of core ", "DDR", "host memory" };
	const char *name = places[create->placement <= 3 ? create->placement : 0];
	char place[32];

	snprintf(place, sizeof(place), create->placement == DRM_FLIGHTLLM_BO_HBM ? "%s%u" : "%s",
		 name, create->core);
	switch (ret) {
	case -ENOSPC:
		return flm_fail(ret, "%s is full: %.1f MB wanted, %.1f of %.1f MB free, %.1f in one "
				"piece; end other programs on the card, or use a smaller model or "
				"context", place, create->size / 1e6, create->free / 1e6,
				create->total / 1e6, create->largest / 1e6);
	case -E2BIG:
		return flm_fail(ret, "a buffer of %.1f MB is larger than %s; use a smaller model or "
				"context", create->size / 1e6, place);
	case -EINVAL:
		return flm_fail(ret, "%s has no buffers of %llu bytes in %s; they have at least one, and "
				"a place that 'flightllm info' shows", device->node,
				(unsigned long long)create->size, place);
	}
	return ret;
}

int bo_new(struct flm_device *device, enum flm_placement placement, unsigned int core,
		  uint64_t bytes, struct flm_bo **bo)
{
	struct drm_flightllm_bo_create create = {
		.size = bytes, .placement = placement, .core = core,
	};
	struct flm_bo *b = calloc(1, sizeof(*b));
	int ret;

	*bo = NULL;
	if (!b)
		return flm_fail(-ENOMEM, "no memory for a buffer");
	ret = device_ask(device, DRM_IOCTL_FLIGHTLLM_BO_CREATE, &create, "BO_CREATE");
	if (ret) {
		free(b);
		return refused(device, &create, ret);
	}
	b->device = device;
	b->handle = create.handle;
	b->bytes = create.size;
	b->placement = placement;
	b->core = core;
	*bo = b;
	return 0;
}

void bo_free(struct flm_bo *bo)
{
	struct drm_gem_close close = { 0 };

	if (!bo)
		return;
	if (bo->memory)
		munmap(bo->memory, bo->bytes);
	close.handle = bo->handle;
	bo->device->seam.ioctl(bo->device->seam.handle, DRM_IOCTL_GEM_CLOSE, &close);
	free(bo);
}

int bo_map_locked(struct flm_bo *bo)
{
	struct drm_flightllm_bo_mmap_offset where = { .handle = bo->handle };
	struct seam *seam = &bo->device->seam;
	void *memory;
	int ret;

	if (bo->memory)
		return 0;
	ret = device_ask(bo->device, DRM_IOCTL_FLIGHTLLM_BO_MMAP_OFFSET, &where, "BO_MMAP_OFFSET");
	if (ret)
		return ret;
	memory = seam->map(seam->handle, where.offset, bo->bytes);
	if (memory == MAP_FAILED)
		return flm_fail(-errno, "a buffer of %llu bytes cannot be mapped: %s",
				(unsigned long long)bo->bytes, strerror(errno));
	bo->memory = memory;
	return 0;
}

PUBLIC uint64_t flm_bo_bytes(const struct flm_bo *bo)
{
	return bo->bytes;
}

int bo_map(struct flm_bo *bo)
{
	int ret;

	pthread_mutex_lock(&bo->device->lock);
	ret = bo_map_locked(bo);
	pthread_mutex_unlock(&bo->device->lock);
	return ret;
}

PUBLIC void *flm_bo_map(struct flm_bo *bo)
{
	if (bo->placement != FLM_BO_HOST) {
		flm_fail(-EINVAL, "a buffer in the card's memory cannot be mapped; use flm_bo_read() "
			 "and flm_bo_write(), or a buffer in host memory");
		return NULL;
	}
	return bo_map(bo) ? NULL : bo->memory;
}
