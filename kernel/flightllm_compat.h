/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One name for each function that differs between kernels. No other file of the driver includes
 * flightllm_features.h, and a driver inside a kernel tree needs neither.
 */
#ifndef FLIGHTLLM_COMPAT_H
#define FLIGHTLLM_COMPAT_H

#include <drm/gpu_scheduler.h>
#include <drm/ttm/ttm_bo.h>
#include <drm/ttm/ttm_device.h>

#include "flightllm_features.h"

/* A scheduler of one entity that never times out by itself: flightllm_reset.c watches card time. */
static inline int flightllm_sched_init(struct drm_gpu_scheduler *sched,
				       const struct drm_sched_backend_ops *ops,
				       struct workqueue_struct *submit_wq, u32 credits,
				       const char *name, struct device *dev)
{
#ifdef FLIGHTLLM_SCHED_INIT_ARGS
	const struct drm_sched_init_args args = {
		.ops = ops,
		.submit_wq = submit_wq,
#ifdef FLIGHTLLM_SCHED_NUM_RQS
		.num_rqs = DRM_SCHED_PRIORITY_COUNT,
#endif
		.credit_limit = credits,
		.timeout = MAX_SCHEDULE_TIMEOUT,
		.name = name,
		.dev = dev,
	};

	return drm_sched_init(sched, &args);
#else
	return drm_sched_init(sched, ops, submit_wq, DRM_SCHED_PRIORITY_COUNT, credits, 0,
			      MAX_SCHEDULE_TIMEOUT, NULL, NULL, name, dev);
#endif
}

static inline int flightllm_sched_job_init(struct drm_sched_job *job,
					   struct drm_sched_entity *entity, u64 client)
{
#ifdef FLIGHTLLM_SCHED_CLIENT_ID
	return drm_sched_job_init(job, entity, 1, NULL, client);
#else
	return drm_sched_job_init(job, entity, 1, NULL);
#endif
}

static inline int flightllm_ttm_device_init(struct ttm_device *ttm,
					    const struct ttm_device_funcs *funcs,
					    struct device *dev, struct address_space *mapping,
					    struct drm_vma_offset_manager *offsets)
{
#ifdef FLIGHTLLM_TTM_ALLOC_FLAGS
	return ttm_device_init(ttm, funcs, dev, mapping, offsets, 0);
#else
	return ttm_device_init(ttm, funcs, dev, mapping, offsets, false, false);
#endif
}

static inline void flightllm_ttm_bo_free(struct ttm_buffer_object *bo)
{
#ifdef FLIGHTLLM_TTM_BO_FINI
	ttm_bo_fini(bo);
#else
	ttm_bo_put(bo);
#endif
}

#endif
