/* SPDX-License-Identifier: GPL-2.0 */
/* Jobs: SUBMIT, the scheduler's callbacks, fences. */
#ifndef FLIGHTLLM_JOB_H
#define FLIGHTLLM_JOB_H

#include "flightllm_queue.h"

struct flightllm_job {
	struct drm_sched_job base;
	struct flightllm_queue *queue;		/* holds a reference */
	struct flightllm_tables *tables;	/* holds a reference */
	struct flightllm_fence *fence;		/* holds a reference; arming gives it its seqno */
	bool posted;
	bool is_last;		/* of its SUBMIT: rings the doorbell for all of them */
	union {
		struct flm_slot run;
		struct flm_copy_slot copy;
	} slot;
};

extern const struct drm_sched_backend_ops flightllm_sched_ops;

/*
 * Fills [address, address + bytes) of card memory with zeros, by the driver's own queue. fence: a
 * reference to what signals the end.
 */
int flightllm_job_clear(struct flightllm_device *fdev, u32 region, u64 address, u64 bytes,
			struct dma_fence **fence);

int flightllm_submit_ioctl(struct drm_device *drm, void *data, struct drm_file *file);

#endif
