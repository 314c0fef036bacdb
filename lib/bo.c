// SPDX-License-Identifier: MIT
/*
 * Buffers. What the CPU cannot reach is copied by the card: through two halves of a staging
 * buffer, so that one is filled while the other is on its way.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <drm/flightllm_accel.h>

#include "lib/internal.h"

#define HALF_BYTES	(2u << 20)

/* Segments of the context that copies run in. */
enum { SEGMENT_STAGING = 0, SEGMENT_TARGET = 1 };

static const char *const places[] = { "", "HBM", "DDR", "host memory" };

PUBLIC int flm_bo_new(struct flm_device *device, enum flm_placement placement, unsigned int core,
		      uint64_t bytes, struct flm_bo **bo)
{
	struct drm_flightllm_bo_create create = {
		.size = bytes, .placement = placement, .core = core,
	};
	struct flm_bo *b;
	int ret;

	*bo = NULL;
	b = calloc(1, sizeof(*b));
	if (!b)
		return flm_fail(-ENOMEM, "no memory for a buffer");
	ret = device_ask(device, DRM_IOCTL_FLIGHTLLM_BO_CREATE, &create, "BO_CREATE");
	if (ret) {
		const char *place = placement <= 3 ? places[placement] : "";

		free(b);
		if (ret == -ENOSPC)
			return flm_fail(ret, "%s of core %u is full: %.1f MB wanted, %.1f of %.1f MB "
					"free, %.1f in one piece; end other programs on the card, or use "
					"a smaller model or context", place, core, bytes / 1e6,
					create.free / 1e6, create.total / 1e6,
					create.largest / 1e6);
		if (ret == -E2BIG)
			return flm_fail(ret, "a buffer of %.1f MB is larger than the card's %s; use a "
					"smaller model or context", bytes / 1e6, place);
		return ret;
	}
	b->device = device;
	b->handle = create.handle;
	b->bytes = create.size;
	b->placement = placement;
	b->core = core;
	*bo = b;
	return 0;
}

PUBLIC void flm_bo_free(struct flm_bo *bo)
{
	static const struct flm_binding nothing = {
		.segment = SEGMENT_TARGET, .core = FLM_ALL_CORES,
	};
	struct drm_gem_close close = { 0 };

	if (!bo)
		return;
	/* A buffer that the copies' context still has would keep its memory. */
	pthread_mutex_lock(&bo->device->lock);
	if (bo->device->copy.target == bo) {
		flm_context_bind(bo->device->copy.context, &nothing, 1);
		bo->device->copy.target = NULL;
	}
	pthread_mutex_unlock(&bo->device->lock);
	if (bo->memory)
		munmap(bo->memory, bo->bytes);
	close.handle = bo->handle;
	bo->device->seam.ioctl(bo->device->seam.handle, DRM_IOCTL_GEM_CLOSE, &close);
	free(bo);
}

PUBLIC uint64_t flm_bo_bytes(const struct flm_bo *bo)
{
	return bo->bytes;
}

PUBLIC void *flm_bo_map(struct flm_bo *bo)
{
	struct drm_flightllm_bo_mmap_offset where = { .handle = bo->handle };
	struct seam *seam = &bo->device->seam;
	void *memory;

	if (bo->memory || bo->placement != FLM_BO_HOST)
		return bo->memory;
	if (seam->ioctl(seam->handle, DRM_IOCTL_FLIGHTLLM_BO_MMAP_OFFSET, &where))
		return NULL;
	memory = seam->map(seam->handle, where.offset, bo->bytes);
	if (memory != MAP_FAILED)
		bo->memory = memory;
	return bo->memory;
}

void copy_fini(struct flm_device *device)
{
	flm_queue_free(device->copy.queue);
	flm_context_free(device->copy.context);
	flm_bo_free(device->copy.staging);
	memset(&device->copy, 0, sizeof(device->copy));
}

/* Context, queue and staging buffer for copies, on first use. The lock is held. */
static int copy_init(struct flm_device *device)
{
	struct copy *copy = &device->copy;
	struct flm_binding binding = {
		.segment = SEGMENT_STAGING, .core = FLM_ALL_CORES, .bytes = 2 * HALF_BYTES,
		.rights = FLM_READ | FLM_WRITE,
	};
	int ret;

	if (copy->queue)
		return 0;
	ret = flm_bo_new(device, FLM_BO_HOST, 0, 2 * HALF_BYTES, &copy->staging);
	if (!ret && !flm_bo_map(copy->staging))
		ret = flm_fail(-ENOMEM, "the staging buffer cannot be mapped");
	if (!ret)
		ret = flm_context_new(device, &copy->context);
	binding.bo = copy->staging;
	if (!ret)
		ret = flm_context_bind(copy->context, &binding, 1);
	if (!ret)
		ret = queue_new_copy(copy->context, &copy->queue);
	return ret;
}

/* Makes bo the target segment. The lock is held, no copy is under way. */
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
	if (done.status == DRM_FLIGHTLLM_STATUS_LOST || done.status == DRM_FLIGHTLLM_STATUS_RESET)
		return flm_fail(-ECANCELED, "the card was reset during a copy; load the model again");
	return flm_fail(-EIO, "a copy ended with status %u, fault %u at offset 0x%llx", done.status,
			done.fault.kind, (unsigned long long)done.fault.offset);
}

/* One direction of flm_bo_write() and _read(), half by half; exactly one of the two is not NULL. */
static int copy_run(struct flm_bo *bo, uint64_t offset, const uint8_t *from, uint8_t *to,
		    uint64_t bytes)
{
	struct flm_device *device = bo->device;
	uint8_t *staging = flm_bo_map(device->copy.staging);
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
	for (unsigned int half = 0; half < 2; half++)
		if (flying[half].seqno && wait_copy(device, flying[half].seqno) && !ret)
			ret = -EIO;
	return ret;
}

static int copy(struct flm_bo *bo, uint64_t offset, const void *from, void *to, uint64_t bytes)
{
	struct flm_device *device = bo->device;
	uint8_t *memory;
	int ret;

	if (offset > bo->bytes || bytes > bo->bytes - offset)
		return flm_fail(-EINVAL, "%llu bytes at %llu lie outside a buffer of %llu",
				(unsigned long long)bytes, (unsigned long long)offset,
				(unsigned long long)bo->bytes);
	memory = flm_bo_map(bo);
	if (memory) {
		if (from)
			memcpy(memory + offset, from, bytes);
		else
			memcpy(to, memory + offset, bytes);
		return 0;
	}
	pthread_mutex_lock(&device->lock);
	ret = copy_init(device);
	if (!ret)
		ret = copy_aim(device, bo);
	if (!ret)
		ret = copy_run(bo, offset, from, to, bytes);
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
