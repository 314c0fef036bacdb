// SPDX-License-Identifier: MIT
/*
 * Contexts, queues and jobs over a card in the process. Job number s of a queue is slot s - 1 of
 * its ring, so that how a job ended is read from the completion row of the same number: nothing
 * is kept twice.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <drm/flightllm_accel.h>

#include "lib/internal.h"
#include "lib/soft.h"

#define BINDINGS_MAX	4096
#define SYNCS_MAX	64
#define STRIDE_MAX	4096
#define RIGHTS		(FLM_RIGHT_R | FLM_RIGHT_W | FLM_RIGHT_X)
#define QUEUE_BYTES	(3 * 4096)	/* ring, completions, status page */
#define SETUP_NS	1000000000ll	/* that the card may take for a queue command */

_Static_assert(SOFT_SLOTS * sizeof(struct flm_slot) == 4096, "a ring is a page");
_Static_assert(SOFT_SLOTS * sizeof(struct flm_done) == 4096, "so are its completions");

static struct soft_context *context_find(struct soft *soft, uint32_t id)
{
	return id && id <= SOFT_CONTEXTS ? soft->contexts[id - 1] : NULL;
}

static struct soft_queue *queue_find(struct soft *soft, uint32_t id)
{
	return id && id <= SOFT_QUEUES ? soft->queues[id - 1] : NULL;
}

static uint32_t queue_head(const struct soft_queue *queue)
{
	return le32toh(__atomic_load_n(&queue->status->head, __ATOMIC_ACQUIRE));
}

static int64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

void soft_sleep(struct soft *soft, uint64_t events, int64_t deadline)
{
	/*
	 * The condition variable waits by the wall clock, in short steps: a step lost is not
	 * missed.
	 */
	struct timespec until;
	int64_t left = deadline - now_ns();

	clock_gettime(CLOCK_REALTIME, &until);
	if (left > 50000000)
		left = 50000000;
	if (left <= 0)
		return;
	until.tv_nsec += left;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	pthread_mutex_lock(&soft->wake);
	if (soft->events == events)
		pthread_cond_timedwait(&soft->woken, &soft->wake, &until);
	pthread_mutex_unlock(&soft->wake);
}

uint64_t soft_events(struct soft *soft)
{
	uint64_t events;

	pthread_mutex_lock(&soft->wake);
	events = soft->events;
	pthread_mutex_unlock(&soft->wake);
	return events;
}

/* ---- Generations ---- */

static bool generation_is_used(struct soft *soft, const struct soft_context *context,
			       uint32_t number)
{
	if (number == context->generation)
		return true;
	for (unsigned int i = 0; i < SOFT_QUEUES; i++) {
		const struct soft_queue *queue = soft->queues[i];

		if (!queue || queue->context != context)
			continue;
		for (uint32_t slot = queue_head(queue); slot != queue->tail; slot++)
			if (le32toh(queue->ring[slot % SOFT_SLOTS].generation) == number)
				return true;
	}
	return false;
}

static void generation_free(struct soft *soft, struct soft_context *context,
			    struct soft_generation *g)
{
	if (!g->number)
		return;
	context->page[g->number % FLM_GENERATIONS].generation = 0;
	for (unsigned int i = 0; i < g->bo_count; i++)
		soft_bo_put(soft, g->bos[i]);
	free(g->bos);
	soft_dma_free(soft, g->tables, soft->cores * FLM_SEGMENTS * sizeof(*g->tables));
	memset(g, 0, sizeof(*g));
}

void soft_retire(struct soft *soft, struct soft_context *context)
{
	for (unsigned int i = 0; i < FLM_GENERATIONS; i++) {
		struct soft_generation *g = &context->generations[i];

		if (g->number && !generation_is_used(soft, context, g->number))
			generation_free(soft, context, g);
	}
}

/* Makes the next generation from context->now. -EAGAIN: jobs still use the row it needs. */
static int generation_make(struct soft *soft, struct soft_context *context)
{
	unsigned int rows = soft->cores * FLM_SEGMENTS;
	uint32_t number = context->generation + 1 ? context->generation + 1 : 1;
	struct soft_generation *g = &context->generations[number % FLM_GENERATIONS];
	struct flm_generation *row = &context->page[number % FLM_GENERATIONS];

	soft_retire(soft, context);
	if (g->number)
		return -EAGAIN;
	g->bos = calloc(rows, sizeof(*g->bos));
	g->tables = soft_dma_new(soft, rows * sizeof(*g->tables));
	if (!g->bos || !g->tables) {
		free(g->bos);
		soft_dma_free(soft, g->tables, rows * sizeof(*g->tables));
		memset(g, 0, sizeof(*g));
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < rows; i++) {
		const struct soft_binding *b = &context->now[i];
		unsigned int region;

		if (!b->bo)
			continue;
		b->bo->references++;
		g->bos[g->bo_count++] = b->bo;
		region = b->bo->region ? b->bo->region->id : FLM_REGION_HOST;
		g->tables[i] = (struct flm_segment_row) {
			.length = htole64(b->length),
			.blocks = htole64((uint64_t)region << FLM_BLOCK_REGION_SHIFT |
					  (b->bo->address + b->offset)),
			.count = htole32(1), .flags = FLM_SEGMENT_CONTIGUOUS,
			.rights = b->rights,
		};
	}
	g->number = number;
	row->tables = htole64((uintptr_t)g->tables);
	row->segments = htole32(FLM_SEGMENTS);
	__atomic_store_n(&row->generation, htole32(number), __ATOMIC_RELEASE);
	context->generation = number;
	soft_retire(soft, context);
	return 0;
}

/* ---- Contexts ---- */

int soft_context_create(struct soft *soft, struct drm_flightllm_context_create *args)
{
	struct soft_context *context;
	unsigned int i;

	if (args->flags || args->reserved[0] || args->reserved[1])
		return -EINVAL;
	for (i = 0; i < SOFT_CONTEXTS && soft->contexts[i]; i++)
		;
	if (i == SOFT_CONTEXTS)
		return -ENOSPC;
	context = calloc(1, sizeof(*context));
	if (!context)
		return -ENOMEM;
	context->now = calloc(soft->cores * FLM_SEGMENTS, sizeof(*context->now));
	context->page = soft_dma_new(soft, 4096);
	if (!context->now || !context->page || generation_make(soft, context)) {
		free(context->now);
		soft_dma_free(soft, context->page, 4096);
		free(context);
		return -ENOMEM;
	}
	context->id = i + 1;
	soft->contexts[i] = context;
	args->id = context->id;
	return 0;
}

static void context_free(struct soft *soft, struct soft_context *context)
{
	for (unsigned int i = 0; i < FLM_GENERATIONS; i++)
		generation_free(soft, context, &context->generations[i]);
	for (unsigned int i = 0; i < soft->cores * FLM_SEGMENTS; i++)
		soft_bo_put(soft, context->now[i].bo);
	soft_dma_free(soft, context->page, 4096);
	free(context->now);
	soft->contexts[context->id - 1] = NULL;
	free(context);
}

int soft_context_destroy(struct soft *soft, const struct drm_flightllm_context_destroy *args)
{
	struct soft_context *context = context_find(soft, args->id);

	if (args->pad)
		return -EINVAL;
	if (!context || context == soft->own)
		return -ENOENT;
	if (context->queues)
		return -EBUSY;
	context_free(soft, context);
	return 0;
}

/* 0 when a row of SEGMENT_BIND is as it must be. */
static int binding_check(struct soft *soft, const struct drm_flightllm_binding *b)
{
	struct soft_bo *bo = soft_bo_find(soft, b->handle);
	uint64_t block;

	if (b->segment >= FLM_SEGMENTS || b->reserved ||
	    (b->core >= soft->cores && b->core != DRM_FLIGHTLLM_CORE_ALL))
		return -EINVAL;
	if (!b->handle)
		return b->rights || b->offset || b->length ? -EINVAL : 0;
	if (!bo)
		return -ENOENT;
	block = bo->region ? bo->region->block : FLM_HOST_BLOCK;
	if (!b->rights || b->rights & ~RIGHTS || b->offset % block || !b->length ||
	    b->offset > bo->bytes || b->length > bo->bytes - b->offset)
		return -EINVAL;
	return 0;
}

static void binding_apply(struct soft *soft, struct soft_context *context,
			  const struct drm_flightllm_binding *b)
{
	struct soft_bo *bo = soft_bo_find(soft, b->handle);

	for (unsigned int core = 0; core < soft->cores; core++) {
		struct soft_binding *now = &context->now[core * FLM_SEGMENTS + b->segment];

		if (b->core != core && b->core != DRM_FLIGHTLLM_CORE_ALL)
			continue;
		if (bo)
			bo->references++;
		soft_bo_put(soft, now->bo);
		*now = (struct soft_binding) {
			.bo = bo, .offset = b->offset, .length = b->length, .rights = b->rights,
		};
	}
}

/*
 * Row i of an array {pointer, count, stride} as a structure of `bytes`: what a shorter stride
 * leaves out is zero, what a longer one adds must be.
 */
static int array_row(uint64_t pointer, uint32_t stride, uint32_t i, void *row, uint32_t bytes)
{
	const uint8_t *from = (const uint8_t *)(uintptr_t)pointer + (uint64_t)stride * i;

	memset(row, 0, bytes);
	if (stride > STRIDE_MAX)
		return -E2BIG;
	memcpy(row, from, stride < bytes ? stride : bytes);
	for (uint32_t at = bytes; at < stride; at++)
		if (from[at])
			return -E2BIG;
	return 0;
}

int soft_segment_bind(struct soft *soft, struct drm_flightllm_segment_bind *args)
{
	struct soft_context *context = context_find(soft, args->context);
	unsigned int rows = soft->cores * FLM_SEGMENTS;
	struct soft_binding *before;
	struct drm_flightllm_binding b;
	int ret;

	if (args->flags || args->pad || !args->count || args->count > BINDINGS_MAX || !args->stride)
		return -EINVAL;
	if (!context)
		return -ENOENT;
	for (uint32_t i = 0; i < args->count; i++) {
		ret = array_row(args->bindings, args->stride, i, &b, sizeof(b));
		if (!ret)
			ret = binding_check(soft, &b);
		if (ret)
			return ret;
	}
	before = malloc(rows * sizeof(*before));
	if (!before)
		return -ENOMEM;
	memcpy(before, context->now, rows * sizeof(*before));
	for (unsigned int i = 0; i < rows; i++)
		if (before[i].bo)
			before[i].bo->references++;
	for (uint32_t i = 0; i < args->count; i++) {
		array_row(args->bindings, args->stride, i, &b, sizeof(b));
		binding_apply(soft, context, &b);
	}
	ret = generation_make(soft, context);
	if (ret) {
		for (unsigned int i = 0; i < rows; i++)
			soft_bo_put(soft, context->now[i].bo);
		memcpy(context->now, before, rows * sizeof(*before));
	} else {
		for (unsigned int i = 0; i < rows; i++)
			soft_bo_put(soft, before[i].bo);
		args->generation = context->generation;
	}
	free(before);
	return ret;
}

int soft_fault_query(struct soft *soft, struct drm_flightllm_fault_query *args)
{
	struct soft_context *context = context_find(soft, args->context);
	uint32_t flags = args->flags;

	if (flags & ~DRM_FLIGHTLLM_FAULT_CLEAR || args->eventfd || args->reserved[0] ||
	    args->reserved[1])
		return -EINVAL;
	if (!context)
		return -ENOENT;
	*args = (struct drm_flightllm_fault_query) {
		.context = args->context, .flags = flags, .count = context->faults,
		.queue = context->fault_queue, .seqno = le64toh(context->fault.seqno),
	};
	if (context->faults)
		args->fault = (struct drm_flightllm_fault) {
			.kind = context->fault.fault, .core = context->fault.core,
			.unit = context->fault.unit, .entry = context->fault.entry,
			.word = le32toh(context->fault.word),
			.segment = le32toh(context->fault.segment),
			.offset = le64toh(context->fault.offset),
		};
	if (flags & DRM_FLIGHTLLM_FAULT_CLEAR) {
		context->faults = 0;
		context->fault_queue = 0;
		memset(&context->fault, 0, sizeof(context->fault));
	}
	return 0;
}

/* ---- Queues ---- */

/* One command to the card's selected queue; the lock is held. */
static int queue_command(struct soft *soft, unsigned int number, uint32_t command, uint32_t want)
{
	int64_t deadline = now_ns() + SETUP_NS;

	soft_write(soft, FLM_REG_QUEUE_SELECT, number);
	soft_write(soft, FLM_REG_QUEUE_CONTROL, command);
	while (soft_read(soft, FLM_REG_QUEUE_STATE) == FLM_QUEUE_BUSY)
		if (now_ns() > deadline)
			return -ETIMEDOUT;
	return soft_read(soft, FLM_REG_QUEUE_STATE) == want ? 0 : -EIO;
}

static int queue_setup(struct soft *soft, const struct soft_queue *queue,
		       const struct drm_flightllm_queue_create *args)
{
	soft_write(soft, FLM_REG_QUEUE_SELECT, queue->number);
	soft_write(soft, FLM_REG_QUEUE_KIND, queue->kind);
	soft_write(soft, FLM_REG_QUEUE_SLOTS_LOG2, SOFT_RING_LOG2);
	soft_write64(soft, FLM_REG_QUEUE_RING, (uintptr_t)queue->ring);
	soft_write64(soft, FLM_REG_QUEUE_DONE, (uintptr_t)queue->done);
	soft_write64(soft, FLM_REG_QUEUE_STATUS, (uintptr_t)queue->status);
	soft_write64(soft, FLM_REG_QUEUE_CONTEXT, (uintptr_t)queue->context->page);
	soft_write(soft, FLM_REG_QUEUE_PRIORITY, args->priority);
	soft_write(soft, FLM_REG_QUEUE_QUANTUM_US, args->quantum_us);
	soft_write(soft, FLM_REG_QUEUE_CORES, queue->cores);
	soft_write(soft, FLM_REG_QUEUE_VECTOR, soft->vectors > 1 ?
		   1 + queue->number % (soft->vectors - 1) : 0);
	soft_write64(soft, FLM_REG_QUEUE_WATCHDOG, SOFT_WATCHDOG);
	return queue_command(soft, queue->number, FLM_QUEUE_ENABLE, FLM_QUEUE_ENABLED);
}

int soft_queue_create(struct soft *soft, struct drm_flightllm_queue_create *args)
{
	uint32_t all = (1u << soft->cores) - 1;
	struct soft_context *context = context_find(soft, args->context);
	volatile uint32_t *doorbell;
	struct soft_queue *queue;
	unsigned int i;
	int ret;

	if (args->kind > DRM_FLIGHTLLM_QUEUE_COPY || args->flags & ~DRM_FLIGHTLLM_QUEUE_USER ||
	    args->priority >= FLM_QUEUE_PRIORITIES || args->cores & ~all || args->pad ||
	    (args->kind == DRM_FLIGHTLLM_QUEUE_COPY && args->cores) ||
	    args->quantum_us > 1000000 || args->reserved[0] || args->reserved[1] ||
	    args->reserved[2] || args->reserved[3])
		return -EINVAL;
	if (args->flags)
		return -EOPNOTSUPP;
	if (!context)
		return -ENOENT;
	for (i = 0; i < soft->card_queues && soft->queues[i]; i++)
		;
	if (i == soft->card_queues)
		return -ENOSPC;
	queue = calloc(1, sizeof(*queue));
	if (!queue)
		return -ENOMEM;
	*queue = (struct soft_queue) {
		.id = i + 1, .number = i, .context = context, .kind = args->kind,
		.cores = args->kind == DRM_FLIGHTLLM_QUEUE_COPY ? 0 :
			 args->cores ? args->cores : all,
		.memory = soft_dma_new(soft, QUEUE_BYTES),
	};
	if (!queue->memory) {
		free(queue);
		return -ENOMEM;
	}
	queue->ring = queue->memory;
	queue->done = (void *)((uint8_t *)queue->memory + 4096);
	queue->status = (void *)((uint8_t *)queue->memory + 8192);
	doorbell = (void *)((uint8_t *)soft->card_bar_memory(soft->card, FLM_BAR_DOORBELLS) +
			    (uint64_t)i * FLM_DOORBELL_BYTES);
	*doorbell = 0;
	ret = queue_setup(soft, queue, args);
	if (ret) {
		soft_dma_free(soft, queue->memory, QUEUE_BYTES);
		free(queue);
		return ret;
	}
	context->queues++;
	soft->queues[i] = queue;
	args->id = queue->id;
	return 0;
}

static void queue_free(struct soft *soft, struct soft_queue *queue)
{
	queue_command(soft, queue->number, FLM_QUEUE_RESET, FLM_QUEUE_DISABLED);
	queue->context->queues--;
	soft->queues[queue->number] = NULL;
	soft_dma_free(soft, queue->memory, QUEUE_BYTES);
	soft_retire(soft, queue->context);
	free(queue);
}

int soft_queue_destroy(struct soft *soft, const struct drm_flightllm_queue_destroy *args)
{
	struct soft_queue *queue = queue_find(soft, args->id);

	if (args->pad)
		return -EINVAL;
	if (!queue || queue->id == soft->own_queue)
		return -ENOENT;
	queue_free(soft, queue);
	return 0;
}

/* ---- Jobs ---- */

/* Counts the faults of completions not seen yet. */
static void queue_reap(struct soft_queue *queue)
{
	struct soft_context *context = queue->context;
	uint32_t head = queue_head(queue);

	for (; queue->seen != head; queue->seen++) {
		const struct flm_done *done = &queue->done[queue->seen % SOFT_SLOTS];

		if (le32toh(done->status) != FLM_STATUS_FAULT)
			continue;
		if (!context->faults++) {
			context->fault = *done;
			context->fault_queue = queue->id;
		}
	}
}

static bool is_zero(const void *memory, size_t bytes)
{
	const uint8_t *p = memory;

	while (bytes--)
		if (*p++)
			return false;
	return true;
}

static int job_check(struct soft *soft, const struct soft_queue *queue,
		     const struct drm_flightllm_job *job)
{
	bool is_copy = queue->kind == DRM_FLIGHTLLM_QUEUE_COPY;
	struct drm_flightllm_job rest = *job;

	if (job->flags || job->op < DRM_FLIGHTLLM_JOB_RUN || job->op > DRM_FLIGHTLLM_JOB_CRC32C ||
	    is_copy != (job->op != DRM_FLIGHTLLM_JOB_RUN))
		return -EINVAL;
	rest.op = 0;
	if (!is_copy) {
		if (job->program_segment >= FLM_SEGMENTS || job->job_segment >= FLM_SEGMENTS ||
		    job->program_offset % 64 || job->job_offset % 64)
			return -EINVAL;
		if (job->max_points > SOFT_POINTS_MAX)
			return -E2BIG;
		rest.program_segment = rest.job_segment = rest.max_points = 0;
		rest.program_offset = rest.job_offset = 0;
		return is_zero(&rest, sizeof(rest)) ? 0 : -EINVAL;
	}
	if (!job->bytes || job->src_segment >= FLM_SEGMENTS || job->dst_segment >= FLM_SEGMENTS ||
	    job->src_core >= soft->cores || job->dst_core >= soft->cores)
		return -EINVAL;
	rest.bytes = 0;
	if (job->op != DRM_FLIGHTLLM_JOB_FILL) {
		rest.src_segment = rest.src_core = 0;
		rest.src_offset = 0;
	} else {
		if (job->bytes % 4 || job->dst_offset % 4)
			return -EINVAL;
		rest.fill = 0;
	}
	if (job->op != DRM_FLIGHTLLM_JOB_CRC32C) {
		rest.dst_segment = rest.dst_core = 0;
		rest.dst_offset = 0;
	}
	return is_zero(&rest, sizeof(rest)) ? 0 : -EINVAL;
}

static void write_slot(struct soft_queue *queue, const struct drm_flightllm_job *job)
{
	struct flm_slot *slot = &queue->ring[queue->tail % SOFT_SLOTS];

	memset(slot, 0, sizeof(*slot));
	if (job->op == DRM_FLIGHTLLM_JOB_RUN) {
		*slot = (struct flm_slot) {
			.program = htole64(job->program_offset), .job = htole64(job->job_offset),
			.program_segment = htole16(job->program_segment),
			.job_segment = htole16(job->job_segment),
			.max_points = htole32(job->max_points ? job->max_points : SOFT_POINTS_MAX),
		};
	} else {
		struct flm_copy_slot copy = {
			.src = htole64(job->src_offset), .dst = htole64(job->dst_offset),
			.bytes = htole64(job->bytes), .src_segment = htole16(job->src_segment),
			.dst_segment = htole16(job->dst_segment), .src_core = job->src_core,
			.dst_core = job->dst_core, .fill = htole32(job->fill),
		};

		memcpy(slot, &copy, sizeof(*slot));
	}
	slot->flags = htole32(job->op | FLM_SLOT_INTERRUPT);
	slot->generation = htole32(queue->context->generation);
	slot->seqno = htole64((uint64_t)queue->tail + 1);
	queue->tail++;
}

/* The new tail, a full barrier, and a kick if the card sleeps. */
static void ring_doorbell(struct soft *soft, const struct soft_queue *queue)
{
	uint32_t *doorbell = (void *)((uint8_t *)soft->card_bar_memory(soft->card,
			FLM_BAR_DOORBELLS) + (uint64_t)queue->number * FLM_DOORBELL_BYTES);

	__atomic_store_n(doorbell, htole32(queue->tail), __ATOMIC_RELEASE);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (__atomic_load_n(&queue->status->armed, __ATOMIC_RELAXED))
		soft_write(soft, FLM_REG_KICK, queue->number);
}

int soft_submit(struct soft *soft, struct drm_flightllm_submit *args)
{
	struct soft_queue *queue = queue_find(soft, args->queue);
	struct drm_flightllm_job job;
	int ret;

	if (args->flags || !args->job_count || !args->job_stride || args->reserved[0] ||
	    args->reserved[1])
		return -EINVAL;
	if (args->job_count > SOFT_SLOTS || args->in_count > SYNCS_MAX ||
	    args->out_count > SYNCS_MAX)
		return -E2BIG;
	if (!queue)
		return -ENOENT;
	if (args->in_count || args->out_count)
		return -EOPNOTSUPP;	/* syncobjs are the kernel's */
	for (uint32_t i = 0; i < args->job_count; i++) {
		ret = array_row(args->jobs, args->job_stride, i, &job, sizeof(job));
		if (!ret)
			ret = job_check(soft, queue, &job);
		if (ret)
			return ret;
	}
	queue_reap(queue);
	if (queue->tail - queue_head(queue) + args->job_count > SOFT_SLOTS)
		return -EBUSY;
	for (uint32_t i = 0; i < args->job_count; i++) {
		array_row(args->jobs, args->job_stride, i, &job, sizeof(job));
		write_slot(queue, &job);
	}
	ring_doorbell(soft, queue);
	soft->submits++;
	args->seqno = queue->tail;
	return 0;
}

/* What is known of a job now; true when the waiter need not wait any longer. */
static bool look(struct soft_queue *queue, struct drm_flightllm_wait *args)
{
	const struct flm_status_page *page = queue->status;
	uint32_t slot = args->seqno - 1, head = queue_head(queue);
	const struct flm_done *done = &queue->done[slot % SOFT_SLOTS];

	queue_reap(queue);
	if ((int32_t)(head - slot) > 0) {
		args->status = le32toh(done->status);
		args->made = queue->kind ? 0 : le32toh(done->value);
		args->value = queue->kind ? le32toh(done->value) : 0;
		args->points = le32toh(done->points);
		args->started_us = le64toh(done->started_us);
		args->ended_us = le64toh(done->ended_us);
		args->cycles = le64toh(done->cycles);
		if (done->fault)
			args->fault = (struct drm_flightllm_fault) {
				.kind = done->fault, .core = done->core, .unit = done->unit,
				.entry = done->entry, .word = le32toh(done->word),
				.segment = le32toh(done->segment),
				.offset = le64toh(done->offset),
			};
		return true;
	}
	args->status = DRM_FLIGHTLLM_STATUS_RUNNING;
	args->made = 0;
	if (le64toh(__atomic_load_n(&page->running, __ATOMIC_ACQUIRE)) == args->seqno)
		args->made = le32toh(__atomic_load_n(&page->tokens, __ATOMIC_ACQUIRE));
	return args->tokens && args->made >= args->tokens;
}

int soft_wait(struct soft *soft, struct drm_flightllm_wait *args)
{
	for (;;) {
		uint64_t events = soft_events(soft);
		struct soft_queue *queue;
		int ret = -EAGAIN;

		pthread_mutex_lock(&soft->lock);
		queue = queue_find(soft, args->queue);
		if (args->flags || args->pad || args->reserved[0] || args->reserved[1])
			ret = -EINVAL;
		else if (!queue)
			ret = -ENOENT;
		else if (!args->seqno || args->seqno > queue->tail)
			ret = -EINVAL;
		else if (queue->tail - args->seqno >= SOFT_SLOTS)
			ret = -ESTALE;
		else if (look(queue, args))
			ret = 0;
		else if (args->timeout_ns <= now_ns())
			ret = -ETIME;
		pthread_mutex_unlock(&soft->lock);
		if (ret != -EAGAIN)
			return ret;
		soft_sleep(soft, events, args->timeout_ns);
	}
}

int soft_stop(struct soft *soft, const struct drm_flightllm_stop *args)
{
	struct soft_queue *queue = queue_find(soft, args->queue);

	if (args->pad)
		return -EINVAL;
	if (!queue)
		return -ENOENT;
	if (!args->seqno || args->seqno > queue->tail)
		return -EINVAL;
	if (le64toh(queue->status->stop) < args->seqno)
		__atomic_store_n(&queue->status->stop, htole64(args->seqno), __ATOMIC_SEQ_CST);
	return 0;
}

/* ---- The driver's own queue ---- */

static int own_init(struct soft *soft)
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
		context_free(soft, soft->contexts[context.id - 1]);
		return ret;
	}
	soft->own = soft->contexts[context.id - 1];
	soft->own_queue = queue.id;
	return 0;
}

int soft_job_clear(struct soft *soft, struct soft_bo *bo)
{
	struct drm_flightllm_job job = { .op = DRM_FLIGHTLLM_JOB_FILL, .bytes = bo->bytes };
	struct soft_binding *target;
	struct soft_queue *queue;
	uint32_t slot;
	int ret = own_init(soft);

	if (ret)
		return ret;
	target = &soft->own->now[0];
	*target = (struct soft_binding) {
		.bo = bo, .length = bo->bytes, .rights = FLM_RIGHT_W,
	};
	ret = generation_make(soft, soft->own);
	if (!ret) {
		queue = queue_find(soft, soft->own_queue);
		slot = queue->tail;
		write_slot(queue, &job);
		ring_doorbell(soft, queue);
		while (queue_head(queue) == slot)
			soft_sleep(soft, soft_events(soft), now_ns() + 1000000);
		if (le32toh(queue->done[slot % SOFT_SLOTS].status) != FLM_STATUS_DONE)
			ret = -EIO;
	}
	memset(target, 0, sizeof(*target));
	if (!ret)
		ret = generation_make(soft, soft->own);
	return ret;
}

void soft_job_fini(struct soft *soft)
{
	for (unsigned int i = 0; i < SOFT_QUEUES; i++)
		if (soft->queues[i])
			queue_free(soft, soft->queues[i]);
	for (unsigned int i = 0; i < SOFT_CONTEXTS; i++)
		if (soft->contexts[i])
			context_free(soft, soft->contexts[i]);
}
