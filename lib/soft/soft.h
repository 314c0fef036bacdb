/* SPDX-License-Identifier: MIT */
/*
 * The seam's second side: what the kernel driver does, done over a card in the process. Each file
 * calls those before it: card.c the card, bo.c memory and buffers, context.c contexts, job.c queues
 * and jobs, engine.c the driver's own queue, soft.c the device. Bus addresses are addresses of the
 * process.
 */
#ifndef LIB_SOFT_H
#define LIB_SOFT_H

#include <endian.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <flightllm/queue.h>
#include <flightllm/regs.h>

#include "emulator/card.h"

#define SOFT_RING_LOG2	6		/* slots of a queue's ring: jobs_max and history */
#define SOFT_WATCHDOG	(1ull << 22)	/* a core's instructions between points, as the driver */
#define SOFT_SLOTS	(1u << SOFT_RING_LOG2)
#define SOFT_QUEUES	128
#define SOFT_CONTEXTS	1024
#define SOFT_POINTS_MAX	(1u << 20)	/* nothing else waits for this process's card */
#define SOFT_HOST_MAX	(64ull << 30)

/* Bytes of a region in use: extents in ascending order. */
struct soft_extent {
	uint64_t start, bytes;
	struct soft_extent *next;
};

struct soft_region {
	unsigned int id;
	char name[8];
	uint64_t size, block, visible, bar2, used;
	uint32_t channels, mbps;
	struct soft_extent *extents;
};

struct soft_bo {
	unsigned int references;
	uint32_t handle;
	uint32_t placement, core, flags;
	uint64_t bytes;
	struct soft_region *region;	/* card memory */
	uint64_t address;		/* in the region, or the bus address */
	int fd;				/* host memory: a memfd */
	void *memory;			/* of it, as the card has it; NULL: card memory */
};

struct soft_binding {
	struct soft_bo *bo;
	uint64_t offset, length;
	uint32_t rights;
};

/* One row of the context page: a table, and the buffers it keeps alive. */
struct soft_generation {
	uint32_t number;		/* 0: free */
	struct flm_segment_row *tables;	/* [cores][FLM_SEGMENTS] */
	struct soft_bo **bos;
	unsigned int bo_count;
};

struct soft_context {
	uint32_t id;
	struct flm_generation *page;
	struct soft_binding *now;	/* [cores][FLM_SEGMENTS] */
	struct soft_generation generations[FLM_GENERATIONS];
	uint32_t generation;		/* newest */
	unsigned int queues;
	uint32_t faults;
	uint32_t fault_queue;		/* of the first fault */
	struct flm_done fault;
};

struct soft_queue {
	uint32_t id;
	unsigned int number;		/* of the card's queue */
	struct soft_context *context;
	uint32_t kind, cores;
	void *memory;			/* ring, completions, status page */
	struct flm_slot *ring;
	struct flm_done *done;
	struct flm_status_page *status;
	uint32_t tail;			/* slots posted; job seqno s is slot s - 1 */
	uint32_t seen;			/* completions whose faults were counted */
};

struct soft {
	void *library;
	struct card *card;
	/* card.h by name */
	int (*card_new)(const struct card_options *options, const struct card_host *host,
			struct card **card, char *error);
	void (*card_free)(struct card *card);
	void (*card_reg_read)(struct card *card, uint64_t offset, void *value, unsigned int bytes);
	void (*card_reg_write)(struct card *card, uint64_t offset, const void *value,
			       unsigned int bytes);
	int (*card_bar_fd)(struct card *card, int bar);
	void *(*card_bar_memory)(struct card *card, int bar);
	int (*card_dma_map)(struct card *card, uint64_t address, uint64_t bytes, void *memory,
			    unsigned int rights);
	int (*card_dma_unmap)(struct card *card, uint64_t address, uint64_t bytes);
	void (*card_bus_master)(struct card *card, int enabled);

	pthread_mutex_t lock;		/* of everything below, except events */
	unsigned int cores, vectors, card_queues;
	struct soft_region regions[FLM_REGIONS];
	unsigned int region_count;
	uint64_t host_used;
	struct soft_bo **bos;		/* by handle - 1 */
	uint32_t bo_room;
	struct soft_context *contexts[SOFT_CONTEXTS];	/* by id - 1 */
	struct soft_queue *queues[SOFT_QUEUES];		/* by id - 1; id - 1 is the card's queue */
	struct soft_context *own;	/* the driver's own, for clearing */
	uint32_t own_queue;
	uint64_t submits;

	pthread_mutex_t wake;		/* of events */
	pthread_cond_t woken;
	uint64_t events;		/* interrupts so far */
};

/* ---- card.c ---- */

/* Slots of a queue that the card has finished. */
static inline uint32_t soft_queue_head(const struct soft_queue *queue)
{
	return le32toh(__atomic_load_n(&queue->status->head, __ATOMIC_ACQUIRE));
}

uint32_t soft_read(struct soft *soft, uint32_t reg);
uint64_t soft_read64(struct soft *soft, uint32_t reg);
void soft_write(struct soft *soft, uint32_t reg, uint32_t value);
void soft_write64(struct soft *soft, uint32_t reg, uint64_t value);

/* CLOCK_MONOTONIC. */
int64_t soft_now_ns(void);

/* struct card_host's interrupt. */
void soft_interrupt(void *soft, unsigned int vector);

/* Interrupts so far, and sleep until there are more, or for a moment, at most until deadline. */
uint64_t soft_events(struct soft *soft);
void soft_sleep(struct soft *soft, uint64_t events, int64_t deadline);

/* Memory that the card can reach, page-aligned and zero; NULL when there is none left. */
void *soft_dma_new(struct soft *soft, uint64_t bytes);
void soft_dma_free(struct soft *soft, void *memory, uint64_t bytes);

/*
 * Row i of an array {pointer, count, stride} as a structure of `bytes`: what a shorter stride
 * leaves out is zero, what a longer one adds must be, else -E2BIG.
 */
int soft_array_row(uint64_t pointer, uint32_t stride, uint32_t i, void *row, uint32_t bytes);

/* ---- bo.c; the lock is held from here on, except in soft_bo_map() and soft_wait() ---- */

struct drm_flightllm_bo_create;
struct drm_flightllm_bo_info;
struct drm_flightllm_bo_mmap_offset;
struct drm_gem_close;

/* By handle, NULL if there is none. */
struct soft_bo *soft_bo_find(struct soft *soft, uint32_t handle);
void soft_bo_put(struct soft *soft, struct soft_bo *bo);

/* A buffer with one reference, not zeroed; args->flags is checked. 0 or -errno. */
int soft_bo_new(struct soft *soft, struct drm_flightllm_bo_create *args, struct soft_bo **bo);
/* Gives it a handle, which takes the reference over. */
int soft_bo_handle(struct soft *soft, struct soft_bo *bo);

/* The ioctls: 0 or -errno. */
int soft_bo_close(struct soft *soft, const struct drm_gem_close *args);
int soft_bo_mmap_offset(struct soft *soft, struct drm_flightllm_bo_mmap_offset *args);
int soft_bo_info(struct soft *soft, struct drm_flightllm_bo_info *args);

/* struct seam's map. */
void *soft_bo_map(void *handle, uint64_t offset, uint64_t bytes);

/* ---- context.c ---- */

struct drm_flightllm_context_create;
struct drm_flightllm_context_destroy;
struct drm_flightllm_fault_query;
struct drm_flightllm_segment_bind;

struct soft_context *soft_context_find(struct soft *soft, uint32_t id);
void soft_context_free(struct soft *soft, struct soft_context *context);

/* Makes the next generation from context->now. -EAGAIN: jobs still use the row it needs. */
int soft_generation_make(struct soft *soft, struct soft_context *context);

/* Lets go of the newest generation's buffers, which no job may use. Cannot fail. */
void soft_generation_empty(struct soft *soft, struct soft_context *context);

/* Lets go of what no job needs any more. */
void soft_retire(struct soft *soft, struct soft_context *context);

int soft_context_create(struct soft *soft, struct drm_flightllm_context_create *args);
int soft_context_destroy(struct soft *soft, const struct drm_flightllm_context_destroy *args);
int soft_segment_bind(struct soft *soft, struct drm_flightllm_segment_bind *args);
int soft_fault_query(struct soft *soft, struct drm_flightllm_fault_query *args);

/* ---- job.c ---- */

struct drm_flightllm_queue_create;
struct drm_flightllm_queue_destroy;
struct drm_flightllm_stop;
struct drm_flightllm_submit;
struct drm_flightllm_wait;

/* By id, NULL if there is none. */
struct soft_queue *soft_queue_find(struct soft *soft, uint32_t id);

/* A job that was checked, into a queue that has room. */
struct drm_flightllm_job;
void soft_queue_post(struct soft *soft, struct soft_queue *queue,
		     const struct drm_flightllm_job *job);

int soft_queue_create(struct soft *soft, struct drm_flightllm_queue_create *args);
int soft_queue_destroy(struct soft *soft, const struct drm_flightllm_queue_destroy *args);
int soft_submit(struct soft *soft, struct drm_flightllm_submit *args);
int soft_wait(struct soft *soft, struct drm_flightllm_wait *args);
int soft_stop(struct soft *soft, const struct drm_flightllm_stop *args);

/* Frees all queues and contexts. */
void soft_job_fini(struct soft *soft);

/* ---- engine.c ---- */

/* BO_CREATE: a buffer in card memory is zeroed before it has a handle. */
int soft_bo_create(struct soft *soft, struct drm_flightllm_bo_create *args);

#endif
