// SPDX-License-Identifier: MIT
/*
 * The card copies bytes that the CPU cannot reach: through two halves of a staging buffer, so that
 * one is filled while the other is on its way. The context that copies run in is older than any
 * buffer in card memory, so it also tells which of them a reset has wiped.
 */
#include <errno.h>
#include <string.h>

#include <drm/flightllm_accel.h>

#include "lib/internal.h"

#define HALF_BYTES	(2u << 20)

/* Segments of the context that copies run in. */
enum { SEGMENT_STAGING = 0, SEGMENT_TARGET = 1 };

/* ---- The copies' context; the lock is held, except in copy_fini() ---- */

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
		ret = bo_map_locked(copy->staging);
	if (!ret)
		ret = flm_context_new(device, &copy->context);
	binding.bo = copy->staging;
	if (!ret)
		ret = flm_context_bind(copy->context, &binding, 1);
	if (!ret)
		ret = queue_new_copy(copy->context, &copy->queue);
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
	__atomic_add_fetch(&device->epoch, 1, __ATOMIC_SEQ_CST);
}

/* ---- Buffers ---- */

PUBLIC int flm_bo_new(struct flm_device *device, enum flm_placement placement, unsigned int core,
		      uint64_t bytes, struct flm_bo **bo)
{
	unsigned int epoch = 0;
	int ret = 0;

	*bo = NULL;
	if (placement != FLM_BO_HOST) {
		/* Before the buffer: so a reset that the context survives is older than both. */
		pthread_mutex_lock(&device->lock);
		copy_check(device);
		ret = copy_context(device);
		epoch = device->epoch;
		pthread_mutex_unlock(&device->lock);
	}
	if (!ret)
		ret = bo_new(device, placement, core, bytes, bo);
	if (!ret)
		(*bo)->epoch = epoch;
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
		return flm_fail(-EIO, "%s: a copy did not end and was cut off; try again, and see "
				"'dmesg'", device->node);
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
		return flm_fail(-EINVAL, "%llu bytes at %llu: outside the buffer of %llu bytes; give a "
				"range inside it",
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
	/* One that is not lost is younger than the copies' context, which therefore stands. */
	ret = bo_is_lost(bo) ? flm_fail(-ECANCELED, "%s: " RESET_TEXT, device->node) : 0;
	if (!ret && !device->copy.queue)	/* the last copy failed */
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
