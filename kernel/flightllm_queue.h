/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Queues: one ring of the card and one scheduler for each queue of a client. The scheduler knows
 * what a job waits for; the card decides which queue runs.
 */
#ifndef FLIGHTLLM_QUEUE_DRV_H
#define FLIGHTLLM_QUEUE_DRV_H

#include <linux/dma-fence.h>

#include <drm/flightllm_accel.h>
#include <drm/gpu_scheduler.h>

#include "flightllm_context.h"

/* Signalled by flightllm_queue_reap() or by the end of the queue, under queue->lock. */
struct flightllm_fence {
	struct dma_fence base;
	spinlock_t lock;	/* the fence's own: it may outlive the queue */
	struct flightllm_queue *queue;	/* holds a reference of its shell */
	u64 seqno;
	u64 submitted_ns;
};

/* How a job ended, for WAIT. */
struct flightllm_end {
	struct flm_done done;	/* seqno 0: empty */
	u64 submitted_ns, finished_ns;
};

struct flightllm_queue {
	struct kref kref;		/* file, jobs, lookups */
	struct kref shell;		/* the bare struct, which fences keep */
	struct flightllm_device *fdev;
	struct flightllm_context *context;	/* holds a reference */
	u32 id;				/* of the file */
	struct module *owner;		/* this module, kept loaded; the kernel's queue: NULL */
	u32 hw;				/* of the card */
	u32 kind, priority, cores, quantum_us;
	u32 vector;
	struct flightllm_mem *rings;	/* slots, then completions */
	struct flightllm_mem *page;	/* status */
	void *slots;
	struct flm_done *done;
	struct flm_status_page *status;	/* of page; once the queue is dead it may have gone */

	struct drm_gpu_scheduler sched;
	struct drm_sched_entity entity;
	u64 fence_context;
	char name[24];

	struct mutex submit_lock;	/* protects seqno and closed: order of arming */
	u64 seqno;			/* last given out */
	bool closed;			/* SUBMIT comes too late */
	atomic_t jobs;			/* submitted, not yet ended */

	struct mutex post_lock;		/* protects dead's change, tail's change, registers */
	u32 dead;			/* 0, or the status of all jobs from now on */

	spinlock_t lock;		/* irq; protects what follows */
	struct list_head vector_link;	/* except this: vector->lock */
	u32 tail;			/* slots posted */
	u32 reaped;			/* slots whose end was seen */
	struct flightllm_fence *flight[FLIGHTLLM_SLOTS];
	struct flightllm_end *history;	/* [seqno % FLIGHTLLM_HISTORY] */
	u64 busy_us, cycles;		/* totals over resets of the queue */

	struct {			/* flightllm_reset.c alone, on its ordered workqueue */
		u64 points, busy_us, heartbeat_us;
		u32 reaped;
		unsigned long changed;	/* jiffies when heartbeat_us last moved */
		bool armed;
	} watch;

	wait_queue_head_t waiters;	/* WAIT: something of the queue moved */
	struct work_struct release;
};

/* Makes a queue of this context and enables it. May sleep. 0, or the errors of QUEUE_CREATE. */
int flightllm_queue_new(struct flightllm_context *context, u32 id, u32 kind, u32 priority,
			u32 cores, u32 quantum_us, struct flightllm_queue **queue);
/* Its jobs end with RESET; then put. The owner calls it once. */
void flightllm_queue_close(struct flightllm_queue *queue);
void flightllm_queue_put(struct flightllm_queue *queue);
struct flightllm_queue *flightllm_queue_lookup(struct flightllm_file *ffile, u32 id);

/* A fence of a job is named through its scheduler, as long as anybody has it. Any context. */
void flightllm_queue_put_shell(struct flightllm_queue *queue);

/*
 * Puts a slot on the ring. tell: rings the doorbell, because no other slot follows at once. Returns
 * a reference to the fence, or an ERR_PTR if the queue is dead. Only the scheduler calls it, so
 * there is room.
 */
struct dma_fence *flightllm_queue_post(struct flightllm_queue *queue, const void *slot,
				       struct flightllm_fence *fence, bool tell);

/* Completes the jobs that the card has finished. Any context. */
void flightllm_queue_reap(struct flightllm_queue *queue);

/* Records the end of a job that never reached the card. */
void flightllm_queue_never_ran(struct flightllm_queue *queue, u64 seqno, u64 submitted_ns);

/* Hung or halted: resets it on the card and ends its jobs in flight. -ETIMEDOUT: no answer. */
int flightllm_queue_reset(struct flightllm_queue *queue);

/*
 * Ends the queue: all its jobs end with `status`. tell: the card still has the queue and must stop
 * it. A card that does not stop is cut off from the host's memory, and a reset of it begins.
 */
void flightllm_queue_kill(struct flightllm_queue *queue, u32 status, bool tell);

irqreturn_t flightllm_queue_irq(int irq, void *vector);

int flightllm_queue_create_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int flightllm_queue_destroy_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int flightllm_wait_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int flightllm_stop_ioctl(struct drm_device *drm, void *data, struct drm_file *file);

#endif
