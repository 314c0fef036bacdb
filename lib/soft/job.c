// SPDX-License-Identifier: MIT
/*
 * Queues and jobs over a card in the process. Job number s of a queue is slot s - 1 of
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
#include "lib/soft/soft.h"

#define SYNCS_MAX	64
#define QUEUE_BYTES	(3 * 4096)	/* ring, completions, status page */
#define SETUP_NS	1000000000ll	/* that the card may take for a queue command */

_Static_assert(SOFT_SLOTS * sizeof(struct flm_slot) == 4096, "a ring is a page");
_Static_assert(SOFT_SLOTS * sizeof(struct flm_done) == 4096, "so are its completions");

struct soft_queue *soft_queue_find(struct soft *soft, uint32_t id)
{
	return id && id <= SOFT_QUEUES ? soft->queues[id - 1] : NULL;
}

/* ---- Queues ---- */

/* One command to the card's selected queue; the lock is held. */
static int queue_command(struct soft *soft, unsigned int number, uint32_t command, uint32_t want)
{
	int64_t deadline = soft_now_ns() + SETUP_NS;

	soft_write(soft, FLM_REG_QUEUE_SELECT, number);
	soft_write(soft, FLM_REG_QUEUE_CONTROL, command);
	while (soft_read(soft, FLM_REG_QUEUE_STATE) == FLM_QUEUE_BUSY)
		if (soft_now_ns() > deadline)
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
	struct soft_context *context = soft_context_find(soft, args->context);
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
	struct soft_queue *queue = soft_queue_find(soft, args->id);

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
	uint32_t head = soft_queue_head(queue);

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

void soft_queue_post(struct soft *soft, struct soft_queue *queue,
		     const struct drm_flightllm_job *job)
{
	write_slot(queue, job);
	ring_doorbell(soft, queue);
}

int soft_submit(struct soft *soft, struct drm_flightllm_submit *args)
{
	struct soft_queue *queue = soft_queue_find(soft, args->queue);
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
		ret = soft_array_row(args->jobs, args->job_stride, i, &job, sizeof(job));
		if (!ret)
			ret = job_check(soft, queue, &job);
		if (ret)
			return ret;
	}
	queue_reap(queue);
	if (queue->tail - soft_queue_head(queue) + args->job_count > SOFT_SLOTS)
		return -EBUSY;
	for (uint32_t i = 0; i < args->job_count; i++) {
		soft_array_row(args->jobs, args->job_stride, i, &job, sizeof(job));
		write_slot(queue, &job);
	}
	ring_doorbell(soft, queue);
	soft->submits++;
	args->seqno = queue->tail;
	return 0;
}

/* Fills in the state of a job; true when the waiter need not wait any longer. */
static bool look(struct soft_queue *queue, struct drm_flightllm_wait *args)
{
	const struct flm_status_page *page = queue->status;
	uint32_t slot = args->seqno - 1, head = soft_queue_head(queue);
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
		args->made = le32toh(__atomic_load_n(&page->made, __ATOMIC_ACQUIRE));
	return args->tokens && args->made >= args->tokens;
}

int soft_wait(struct soft *soft, struct drm_flightllm_wait *args)
{
	for (;;) {
		uint64_t events = soft_events(soft);
		struct soft_queue *queue;
		int ret = -EAGAIN;

		pthread_mutex_lock(&soft->lock);
		queue = soft_queue_find(soft, args->queue);
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
		else if (args->timeout_ns <= soft_now_ns())
			ret = -ETIME;
		pthread_mutex_unlock(&soft->lock);
		if (ret != -EAGAIN)
			return ret;
		soft_sleep(soft, events, args->timeout_ns);
	}
}

int soft_stop(struct soft *soft, const struct drm_flightllm_stop *args)
{
	struct soft_queue *queue = soft_queue_find(soft, args->queue);

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

void soft_job_fini(struct soft *soft)
{
	for (unsigned int i = 0; i < SOFT_QUEUES; i++)
		if (soft->queues[i])
			queue_free(soft, soft->queues[i]);
	for (unsigned int i = 0; i < SOFT_CONTEXTS; i++)
		if (soft->contexts[i])
			soft_context_free(soft, soft->contexts[i]);
}
