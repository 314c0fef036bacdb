// SPDX-License-Identifier: MIT
/*
 * Buffers. What the CPU cannot reach is copied by the card: through two halves of a staging
 * buffer, so that one is filled while the other is on its way.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <drm/flightllm_accel.h>

#include "lib/internal.h"

#define HALF_BYTES	(2u << 20)

/* Segments of the context that copies run in. */
enum { SEGMENT_STAGING = 0, SEGMENT_TARGET = 1 };

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

/* A buffer, without the lock. */
static int bo_new(struct flm_device *device, enum flm_placement placement, unsigned int core,
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

/* The end of a buffer, without the lock. */
static void bo_free(struct flm_bo *bo)
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

/* Maps a host buffer once. The lock is held, or the buffer is not shared yet. */
static int map_once(struct flm_bo *bo)
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

/* ---- The copies' context; the lock is held in all but copy_fini() ---- */

void copy_fini(struct flm_device *device)
{
	flm_queue_free(device->copy.queue);
	flm_context_free(device->copy.context);
	bo_free(device->copy.staging);
	memset(&device->copy, 0, sizeof(device->copy));
}

static int copy_context(struct flm_device *device)
{
	struct copy *copy = &device->copy;
	struct flm_binding binding = {
		.segment = SEGMENT_STAGING, .core = FLM_ALL_CORES, .bytes = 2 * HALF_BYTES,
		.rights = FLM_READ | FLM_WRITE,
	};
	int ret;

	if (copy->context)
		return 0;
	ret = bo_new(device, FLM_BO_HOST, 0, 2 * HALF_BYTES, &copy->staging);
	if (!ret)
		ret = map_once(copy->staging);
	if (!ret)
		ret = flm_context_new(device, &copy->context);
	binding.bo = copy->staging;
	if (!ret)
		ret = flm_context_bind(copy->context, &binding, 1);
	if (ret)
		copy_fini(device);
	return ret;
}

/* Forgets a context that was lost, and with it that buffers held anything. */
static void copy_check(struct flm_device *device)
{
	if (!device->copy.context || !context_is_lost(device->copy.context))
		return;
	copy_fini(device);
	__atomic_add_fetch(&device->losses, 1, __ATOMIC_SEQ_CST);
}

/* ---- Buffers ---- */

bool bo_is_lost(const struct flm_bo *bo)
{
	return bo->placement != FLM_BO_HOST &&
	       bo->losses != __atomic_load_n(&bo->device->losses, __ATOMIC_SEQ_CST);
}

PUBLIC int flm_bo_new(struct flm_device *device, enum flm_placement placement, unsigned int core,
		      uint64_t bytes, struct flm_bo **bo)
{
	unsigned int losses = 0;
	int ret = 0;

	*bo = NULL;
	if (placement != FLM_BO_HOST) {
		/* Before the buffer: so a reset that the context survives is older than both. */
		pthread_mutex_lock(&device->lock);
		copy_check(device);
		ret = copy_context(device);
		losses = device->losses;
		pthread_mutex_unlock(&device->lock);
	}
	if (!ret)
		ret = bo_new(device, placement, core, bytes, bo);
	if (!ret)
		(*bo)->losses = losses;
	return ret;
}

PUBLIC void flm_bo_free(struct flm_bo *bo)
{
	struct flm_device *device;

	if (!bo)
		return;
	device = bo->device;
	/* A buffer that the copies' context still has would keep its memory until the next copy. */
	pthread_mutex_lock(&device->lock);
	if (device->copy.target == bo) {
		context_unbind(device->copy.context, SEGMENT_TARGET);
		device->copy.target = NULL;
	}
	pthread_mutex_unlock(&device->lock);
	bo_free(bo);
}

PUBLIC uint64_t flm_bo_bytes(const struct flm_bo *bo)
{
	return bo->bytes;
}

int bo_map(struct flm_bo *bo)
{
	int ret;

	pthread_mutex_lock(&bo->device->lock);
	ret = map_once(bo);
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

/* ---- Copying; the lock is held ---- */

/* Makes bo the target segment. No copy is under way. */
static int copy_aim(struct flm_device *device, struct flm_bo *bo)
{
	struct flm_binding binding = {
		.segment = SEGMENT_TARGET, .core = FLM_ALL_CORES, .bo = bo, .bytes = bo->bytes,
		.rights = FLM_READ | FLM_WRITE,
	};
	int ret;

	if (device->copy.target == bo)
		return 0;
	ret = flm_context_bind(device->copy.context, &binding, 1);
	device->copy.target = ret ? NULL : bo;
	return ret;
}

static int wait_copy(struct flm_device *device, uint64_t seqno)
{
	struct flm_completion done;
	int ret = flm_queue_wait(device->copy.queue, seqno, 0, INT64_MAX, &done);

	if (ret)
		return ret;
	if (done.status == DRM_FLIGHTLLM_STATUS_DONE)
		return 0;
	if (done.status == DRM_FLIGHTLLM_STATUS_LOST)
		return flm_fail(-ECANCELED, "%s: " RESET_TEXT, device->node);
	if (done.status == DRM_FLIGHTLLM_STATUS_RESET)
		return flm_fail(-EIO, "%s: a copy did not come to its end and was cut off; try again, "
				"and see 'dmesg'", device->node);
	return flm_fail(-EIO, "%s: a copy ended with status %u, fault %u at offset 0x%llx; try again, "
			"and if it stays, report this", device->node, done.status, done.fault.kind,
			(unsigned long long)done.fault.offset);
}

/* One direction of flm_bo_write() and _read(), half by half; exactly one of the two is not NULL. */
static int copy_run(struct flm_bo *bo, uint64_t offset, const uint8_t *from, uint8_t *to,
		    uint64_t bytes)
{
	struct flm_device *device = bo->device;
	uint8_t *staging = device->copy.staging->memory;
	struct { uint64_t seqno, at, n; } flying[2] = { 0 };
	uint64_t at = 0;
	int ret = 0;

	for (unsigned int half = 0;
	     !ret && (at < bytes || flying[0].seqno || flying[1].seqno); half ^= 1) {
		uint8_t *place = staging + half * HALF_BYTES;

		if (flying[half].seqno) {
			ret = wait_copy(device, flying[half].seqno);
			if (!ret && to)
				memcpy(to + flying[half].at, place, flying[half].n);
			flying[half].seqno = 0;
		}
		if (ret || at >= bytes)
			continue;
		flying[half].at = at;
		flying[half].n = bytes - at < HALF_BYTES ? bytes - at : HALF_BYTES;
		if (from)
			memcpy(place, from + at, flying[half].n);
		ret = queue_copy(device->copy.queue, from ? SEGMENT_STAGING : SEGMENT_TARGET,
				 from ? half * HALF_BYTES : offset + at,
				 from ? SEGMENT_TARGET : SEGMENT_STAGING,
				 from ? offset + at : half * HALF_BYTES, flying[half].n,
				 &flying[half].seqno);
		at += flying[half].n;
	}
	return ret;
}

static int copy(struct flm_bo *bo, uint64_t offset, const void *from, void *to, uint64_t bytes)
{
	struct flm_device *device = bo->device;
	int ret;

	if (offset > bo->bytes || bytes > bo->bytes - offset)
		return flm_fail(-EINVAL, "%llu bytes at %llu lie outside a buffer of %llu",
				(unsigned long long)bytes, (unsigned long long)offset,
				(unsigned long long)bo->bytes);
	if (bo->placement == FLM_BO_HOST) {
		ret = bo_map(bo);
		if (!ret && from)
			memcpy((uint8_t *)bo->memory + offset, from, bytes);
		else if (!ret)
			memcpy(to, (uint8_t *)bo->memory + offset, bytes);
		return ret;
	}
	pthread_mutex_lock(&device->lock);
	ret = copy_context(device);
	if (!ret && bo_is_lost(bo))
		ret = flm_fail(-ECANCELED, "%s: " RESET_TEXT, device->node);
	if (!ret && !device->copy.queue)
		ret = queue_new_copy(device->copy.context, &device->copy.queue);
	if (!ret)
		ret = copy_aim(device, bo);
	if (!ret)
		ret = copy_run(bo, offset, from, to, bytes);
	if (ret) {
		/* The queue may have a copy in flight, or be dead: another one next time. */
		flm_queue_free(device->copy.queue);
		device->copy.queue = NULL;
		copy_check(device);
	}
	pthread_mutex_unlock(&device->lock);
	return ret;
}

PUBLIC int flm_bo_write(struct flm_bo *bo, uint64_t offset, const void *memory, uint64_t bytes)
{
	return copy(bo, offset, memory, NULL, bytes);
}

PUBLIC int flm_bo_read(struct flm_bo *bo, uint64_t offset, void *memory, uint64_t bytes)
{
	return copy(bo, offset, NULL, memory, bytes);
}
