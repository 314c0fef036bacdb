// SPDX-License-Identifier: MIT
/*
 * Queues: their states and commands, doorbells, and how slots are lost. A queue that a worker has
 * (is_running) is left alone, except for a command and the sign to give up.
 */
#include <endian.h>
#include <string.h>

#include "emulator/device/device.h"

/* ---- Ends ---- */

/* Forgets the slot that has begun. */
void queue_forget_slot(struct queue *q)
{
	job_free(q->job);
	copy_free(q->copy);
	q->job = NULL;
	q->copy = NULL;
	q->running = 0;
	q->core_reset = false;
	q->injected = 0;
	q->space.is_broken = false;
	memset(&q->work, 0, sizeof(q->work));
}

/*
 * Without a completion and without touching the host. What the registers tell stays until ENABLE.
 */
void queue_drop(struct queue *q)
{
	queue_forget_slot(q);
	space_unload(&q->space);
	q->state = FLM_QUEUE_DISABLED;
	q->command = 0;
	q->is_armed = false;
	q->waits_since_us = q->slice_us = 0;
	atomic_store(&q->abort, false);
	atomic_store(&q->is_lost, false);
}

void queue_halt(struct card *card, struct queue *q, unsigned int error)
{
	q->state = FLM_QUEUE_HALTED;
	q->error = error;
	STORE32(error, error);
	notify_trace(card, "queue=%u halted error=%u", queue_number(card, q), error);
	if (q->command == FLM_QUEUE_DISABLE)
		queue_drop(q);
	/* The cores that it waited for may have been reserved for it. */
	pthread_cond_broadcast(&card->work);
	notify_event(card, FLM_REG_FIELD(EVENTS, QUEUE, 1));
}

void queue_drop_all(struct card *card)
{
	for (unsigned int i = 0; i < card->profile.queues; i++) {
		struct queue *q = &card->queues[i];

		if (q->is_running) {
			atomic_store(&q->abort, true);
			q->command = FLM_QUEUE_RESET;
		} else {
			/* Its streams may be many; nobody waits for that with the lock. */
			if (q->job)
				q->dropped = q->job;
			q->job = NULL;
			queue_drop(q);
		}
	}
}

void queue_free_dropped(struct card *card)
{
	for (unsigned int i = 0; i < card->profile.queues; i++) {
		job_free(card->queues[i].dropped);
		card->queues[i].dropped = NULL;
	}
}

void queue_forget_all(struct card *card)
{
	queue_free_dropped(card);
	for (unsigned int i = 0; i < card->profile.queues; i++) {
		queue_drop(&card->queues[i]);
		memset(&card->queues[i], 0, sizeof(card->queues[i]));
	}
}

void queue_reset_cores(struct card *card, uint32_t mask)
{
	for (unsigned int i = 0; i < card->profile.queues; i++) {
		struct queue *q = &card->queues[i];

		/* `running` is the worker's while it has the queue. */
		if (!(q->cores & mask) || (!q->is_running && !q->running))
			continue;
		q->core_reset = true;
		if (q->is_running)
			atomic_store(&q->abort, true);
	}
	for (unsigned int c = 0; c < card->profile.cores; c++)
		if (mask >> c & 1)
			card->core_context[c] = 0;
	pthread_cond_broadcast(&card->work);
}

/* ---- Doorbells ---- */

static uint32_t read_doorbell(const struct card *card, const struct queue *q)
{
	const uint32_t *word = (const void *)(card->doorbells +
					      queue_number(card, q) * (uint64_t)FLM_DOORBELL_BYTES);

	return le32toh(__atomic_load_n(word, __ATOMIC_ACQUIRE));
}

/* Looks for a new tail. */
void queue_look(struct card *card, struct queue *q)
{
	uint32_t tail = read_doorbell(card, q);

	if (tail == q->tail)
		return;
	card->doorbells_seen++;
	if (tail - q->head > 1u << q->slots_log2) {
		queue_halt(card, q, FLM_FAULT_SLOT);
		return;
	}
	q->tail = tail;
	notify_trace(card, "doorbell queue=%u tail=%u", queue_number(card, q), tail);
	if (q->is_armed) {
		q->is_armed = false;
		STORE32(armed, 0);
	}
}

/* An empty queue goes to sleep, unless its doorbell rings meanwhile. */
void queue_arm(struct card *card, struct queue *q)
{
	q->is_armed = true;
	STORE32(armed, 1);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	queue_look(card, q);
}

void queue_kick(struct card *card, unsigned int number)
{
	struct queue *q = number < card->profile.queues ? &card->queues[number] : NULL;

	if (!q || q->state != FLM_QUEUE_ENABLED)
		return;
	/* The host has cleared `armed`: without work it must be stored anew. */
	q->is_armed = false;
	pthread_cond_broadcast(&card->work);
}

/* ---- Commands ---- */

static bool is_setup_right(const struct card *card, const struct queue *q)
{
	uint32_t all = (1u << card->profile.cores) - 1;

	return q->kind <= FLM_QUEUE_COPY && q->slots_log2 >= RING_LOG2_MIN &&
	       q->slots_log2 <= RING_LOG2_MAX && !(q->ring % 4096) && !(q->done % 4096) &&
	       !(q->status % 4096) && !(q->context % 4096) && q->priority < FLM_QUEUE_PRIORITIES &&
	       !(q->cores & ~all) && (q->kind == FLM_QUEUE_COPY) == !q->cores &&
	       q->vector < card->vectors;
}

static void queue_enable(struct card *card, struct queue *q)
{
	uint8_t page[STATUS_HOST_HALF] = { 0 };
	uint32_t armed = htole32(1);
	uint32_t *doorbell = (void *)(card->doorbells +
				      queue_number(card, q) * (uint64_t)FLM_DOORBELL_BYTES);

	q->error = 0;
	if (card->is_resetting || card->is_failed || !is_setup_right(card, q)) {
		q->error = FLM_FAULT_SLOT;
		return;
	}
	queue_drop(q);
	q->space = (struct space) {
		.dma = &card->dma, .memory = &card->memory, .epoch = card->dma.epoch,
		.cores = card->profile.cores,
	};
	memcpy(page + __builtin_offsetof(struct flm_status_page, armed), &armed, sizeof(armed));
	if (dma_write(&card->dma, q->space.epoch, q->status, page, sizeof(page))) {
		q->error = FLM_FAULT_DMA;
		return;
	}
	__atomic_store_n(doorbell, 0, __ATOMIC_RELEASE);
	/*
	 * Another context may have had its page at this address: it must not find that one's
	 * bytes.
	 */
	for (unsigned int c = 0; c < card->profile.cores; c++)
		if (card->core_context[c] == q->context + 1)
			card->core_context[c] = 0;
	q->is_armed = true;
	q->head = q->tail = 0;
	q->seqno = q->points = q->busy_us = q->cycles = q->tokens = 0;
	q->fault_seqno = q->fault_offset = 0;
	q->fault = q->fault_word = q->fault_segment = 0;
	q->state = FLM_QUEUE_ENABLED;
	notify_trace(card, "queue=%u enabled kind=%u cores=0x%x priority=%u", queue_number(card, q),
		     q->kind, q->cores, q->priority);
}

void queue_command(struct card *card, unsigned int number, uint32_t command)
{
	struct queue *q = &card->queues[number];

	if (q->command == FLM_QUEUE_RESET)
		return;
	if (command == FLM_QUEUE_ENABLE && q->state == FLM_QUEUE_DISABLED) {
		queue_enable(card, q);
	} else if (command == FLM_QUEUE_DISABLE && q->state == FLM_QUEUE_HALTED && !q->is_running) {
		queue_drop(q);
	} else if (command == FLM_QUEUE_DISABLE && q->state == FLM_QUEUE_ENABLED) {
		if (q->is_running || q->running)
			q->command = FLM_QUEUE_DISABLE;
		else
			queue_drop(q);
	} else if (command == FLM_QUEUE_RESET && q->is_running) {
		q->command = FLM_QUEUE_RESET;
		/* A deaf one stays BUSY. */
		atomic_store(&q->abort, !(q->injected & 1u << INJECT_DEAF));
	} else if (command == FLM_QUEUE_RESET) {
		queue_drop(q);
	}
	/* Others may have waited behind its reservation. */
	pthread_cond_broadcast(&card->work);
}

void queue_prioritise(struct card *card, unsigned int number, uint32_t priority)
{
	struct queue *q = &card->queues[number];

	if (priority >= FLM_QUEUE_PRIORITIES && q->state != FLM_QUEUE_DISABLED)
		return;
	q->priority = priority;
	pthread_cond_broadcast(&card->work);
}
