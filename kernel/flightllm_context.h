/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Contexts: the memory that programs may reach. The tables of a generation never change. A job
 * holds the tables that were current when it was submitted, and with them the buffers.
 */
#ifndef FLIGHTLLM_CONTEXT_H
#define FLIGHTLLM_CONTEXT_H

#include <linux/kref.h>

#include <drm/flightllm_accel.h>

#include "flightllm_gem.h"

struct flightllm_binding {
	struct flightllm_bo *bo;	/* holds a reference; NULL: not bound */
	u64 offset, length;
	u32 rights;
};

/* One generation. Freed, and its row emptied, when neither the context nor a job holds it. */
struct flightllm_tables {
	struct kref kref;
	struct flightllm_context *context;	/* holds a reference */
	struct flightllm_mem *mem;	/* struct flm_segment_row [core][segment] */
	u32 generation;
	u32 segments;
	struct flightllm_binding binding[];	/* [core][segment] */
};

struct flightllm_context {
	struct kref kref;
	struct flightllm_device *fdev;
	struct flightllm_mem *page;	/* struct flm_generation [64] */
	u32 epoch;			/* fdev->epoch it was made under: another one = lost */
	u32 point_us;			/* card time of a preemption point; 0: not yet measured */
	atomic_t queues;
	struct mutex lock;		/* tables change */
	spinlock_t tables_lock;		/* protects the pointer tables */
	struct flightllm_tables *tables;	/* current generation */
	unsigned long live[BITS_TO_LONGS(FLM_GENERATIONS)];	/* rows in use, atomic bits */

	spinlock_t fault_lock;		/* irq; protects what follows */
	u32 faults;			/* since made or cleared */
	u32 fault_queue;
	struct flm_done fault;		/* the first one's row */
};

static inline bool flightllm_context_is_lost(struct flightllm_context *context)
{
	return context->epoch != READ_ONCE(context->fdev->epoch);
}

struct flightllm_context *flightllm_context_new(struct flightllm_device *fdev);
/* The driver's own: segment r is all of region r, in every core's table. */
struct flightllm_context *flightllm_context_new_kernel(struct flightllm_device *fdev);
/* After the last submit: drops the current tables. The caller then puts the context. */
void flightllm_context_close(struct flightllm_context *context);
void flightllm_context_put(struct flightllm_context *context);

/* By id of this file; takes a reference; NULL if unknown. */
struct flightllm_context *flightllm_context_lookup(struct flightllm_file *ffile, u32 id);

struct flightllm_tables *flightllm_tables_get_current(struct flightllm_context *context);
void flightllm_tables_put(struct flightllm_tables *tables);

/* Records the fault of a job of queue `id`. Any context. */
void flightllm_context_fault(struct flightllm_context *context, u32 id,
			     const struct flm_done *done);
/* Measures the card time of a preemption point from a job's end. Any context. */
void flightllm_context_measure(struct flightllm_context *context, const struct flm_done *done);

/* Preemption points that one job of this file may have, at the pace of its slowest context. */
u32 flightllm_context_points(struct flightllm_file *ffile);

void flightllm_fault_to_user(const struct flm_done *done, struct drm_flightllm_fault *fault);

int flightllm_context_create_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int flightllm_context_destroy_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int flightllm_segment_bind_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int flightllm_fault_query_ioctl(struct drm_device *drm, void *data, struct drm_file *file);

#endif
