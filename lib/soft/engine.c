// SPDX-License-Identifier: MIT
/*
 * The driver's own context and queue, made with the first buffer in card memory: it zeroes each
 * before somebody has it.
 */
#include <endian.h>
#include <errno.h>
#include <string.h>

#include <drm/flightllm_accel.h>

#include "lib/soft/soft.h"

static int engine_init(struct soft *soft)
{
	struct drm_flightllm_context_create context = { 0 };
	struct drm_flightllm_queue_create queue = {
		.kind = DRM_FLIGHTLLM_QUEUE_COPY, .priority = 1 };
	int ret;

	if (soft->own)
		return 0;
	ret = soft_context_create(soft, &context);
	if (ret)
		return ret;
	queue.context = context.id;
	ret = soft_queue_create(soft, &queue);
	if (ret) {
		soft_context_free(soft, soft->contexts[context.id - 1]);
		return ret;
	}
	soft->own = soft->contexts[context.id - 1];
	soft->own_queue = queue.id;
	return 0;
}

/* Zeroes, before anybody sees the buffer; afterwards nothing here refers to it. */
static int engine_clear(struct soft *soft, struct soft_bo *bo)
{
	struct drm_flightllm_job job = { .op = DRM_FLIGHTLLM_JOB_FILL, .bytes = bo->bytes };
	struct soft_binding *target;
	struct soft_queue *queue;
	uint32_t slot;
	int ret = engine_init(soft);

	if (ret)
		return ret;
	target = &soft->own->now[0];
	*target = (struct soft_binding) {
		.bo = bo, .length = bo->bytes, .rights = FLM_RIGHT_W,
	};
	ret = soft_generation_make(soft, soft->own);
	memset(target, 0, sizeof(*target));
	if (ret)
		return ret;
	queue = soft_queue_find(soft, soft->own_queue);
	slot = queue->tail;
	soft_queue_post(soft, queue, &job);
	while (soft_queue_head(queue) == slot)
		soft_sleep(soft, soft_events(soft), soft_now_ns() + 1000000);
	if (le32toh(queue->done[slot % SOFT_SLOTS].status) != FLM_STATUS_DONE)
		ret = -EIO;
	/* Whatever came of it, only the caller has the buffer now. */
	soft_generation_empty(soft, soft->own);
	return ret;
}

int soft_bo_create(struct soft *soft, struct drm_flightllm_bo_create *args)
{
	struct soft_bo *bo;
	int ret;

	if (!args->size || args->flags & ~(DRM_FLIGHTLLM_BO_VISIBLE | DRM_FLIGHTLLM_BO_USERPTR) ||
	    args->user_address || args->reserved[0] || args->reserved[1])
		return -EINVAL;
	if (args->flags & DRM_FLIGHTLLM_BO_USERPTR)
		return -EOPNOTSUPP;
	ret = soft_bo_new(soft, args, &bo);
	if (ret)
		return ret;
	ret = bo->region ? engine_clear(soft, bo) : 0;
	if (!ret)
		ret = soft_bo_handle(soft, bo);
	if (ret) {
		soft_bo_put(soft, bo);
		return ret;
	}
	args->size = bo->bytes;
	args->handle = bo->handle;
	return 0;
}
