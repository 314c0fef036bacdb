// SPDX-License-Identifier: MIT
/*
 * Queues: rings and doorbells, which queue runs next, completions and the status page. A worker
 * takes a queue and its cores, goes to the slot's next preemption point without the lock, and
 * gives them back: so the choice is made anew at each point, and a job's whole state between two
 * points is in struct job.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device/device.h"

#define STATUS_HOST_HALF __builtin_offsetof(struct flm_status_page, stop)

void queue_store32(struct card *card, struct queue *q, size_t field, uint32_t value)
{
	if (dma_store32(&card->dma, q->space.epoch, q->status + field, value))
		atomic_store(&q->is_lost, true);
}

void queue_store64(struct card *card, struct queue *q, size_t field, uint64_t value)
{
	if (dma_store64(&card->dma, q->space.epoch, q->status + field, value))
		atomic_store(&q->is_lost, true);
}

#define FIELD(field) __builtin_offsetof(struct flm_status_page, field)
#define STORE32(field, value) queue_store32(card, q, FIELD(field), value)
#define STORE64(field, value) queue_store64(card, q, FIELD(field), value)

static unsigned int number_of(const struct card *card, const struct queue *q)
{
	return q - card->queues;
}

/* ---- Ends ---- */

/* Forgets the slot that has begun. */
static void slot_free(struct queue *q)
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
static void queue_drop(struct queue *q)
{
	slot_free(q);
	space_unload(&q->space);
	q->state = FLM_QUEUE_DISABLED;
	q->command = 0;
	q->is_armed = false;
	q->waits_since_us = q->slice_us = 0;
	atomic_store(&q->abort, false);
	atomic_store(&q->is_lost, false);
}

static void queue_halt(struct card *card, struct queue *q, unsigned int error)
{
	q->state = FLM_QUEUE_HALTED;
	q->error = error;
	STORE32(error, error);
	card_trace(card, "queue=%u halted error=%u", number_of(card, q), error);
	if (q->command == FLM_QUEUE_DISABLE)
		queue_drop(q);
	/* The cores that it waited for may have been reserved for it. */
	pthread_cond_broadcast(&card->work);
	card_event(card, FLM_REG_FIELD(EVENTS, QUEUE, 1));
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
					      number_of(card, q) * (uint64_t)FLM_DOORBELL_BYTES);

	return le32toh(__atomic_load_n(word, __ATOMIC_ACQUIRE));
}

bool queue_has_work(const struct card *card, const struct queue *q)
{
	(void)card;
	return q->is_running || q->running || q->head != q->tail;
}

/* Looks for a new tail. */
static void look(struct card *card, struct queue *q)
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
	card_trace(card, "doorbell queue=%u tail=%u", number_of(card, q), tail);
	if (q->is_armed) {
		q->is_armed = false;
		STORE32(armed, 0);
	}
}

/* An empty queue goes to sleep, unless its doorbell rings meanwhile. */
static void arm(struct card *card, struct queue *q)
{
	q->is_armed = true;
	STORE32(armed, 1);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	look(card, q);
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
				      number_of(card, q) * (uint64_t)FLM_DOORBELL_BYTES);

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
	card_trace(card, "queue=%u enabled kind=%u cores=0x%x priority=%u", number_of(card, q),
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

/* ---- The choice ---- */

static bool may_run(const struct queue *q)
{
	return q->state == FLM_QUEUE_ENABLED && !q->is_running &&
	       (!q->command || (q->command == FLM_QUEUE_DISABLE && q->running));
}

/* A queue that still has its turn goes before others of its priority. */
static bool has_turn(const struct queue *q)
{
	return q->running && q->slice_us < q->quantum_us;
}

static bool is_before(const struct queue *a, const struct queue *b)
{
	if (a->priority != b->priority)
		return a->priority > b->priority;
	if (has_turn(a) != has_turn(b))
		return has_turn(a);
	return a->served < b->served;
}

/*
 * A slot of a core reset that no worker has: it ends here and now, for it needs no core to do so,
 * and those of its queue may be another's for long.
 */
static bool ends_by_reset(const struct queue *q)
{
	return q->core_reset && q->running;
}

/* Whose turn is next; of a queue with a slot that only ends the cores are not looked at. */
static struct queue *choose(struct card *card)
{
	struct queue *order[CARD_QUEUES];
	uint64_t now = card_time_us(card);
	uint32_t reserved = 0;
	unsigned int count = 0, at;

	for (unsigned int i = 0; i < card->profile.queues; i++) {
		struct queue *q = &card->queues[i];

		if (!may_run(q))
			continue;
		if (ends_by_reset(q))
			return q;
		look(card, q);
		if (q->state == FLM_QUEUE_ENABLED && !queue_has_work(card, q) && !q->is_armed)
			arm(card, q);
		if (q->state == FLM_QUEUE_ENABLED && atomic_load(&q->is_lost))
			queue_halt(card, q, FLM_FAULT_DMA);
		if (q->state != FLM_QUEUE_ENABLED || !queue_has_work(card, q))
			continue;
		if (!q->waits_since_us)
			q->waits_since_us = now + !now;
		for (at = count++; at && is_before(q, order[at - 1]); at--)
			order[at] = order[at - 1];
		order[at] = q;
	}
	for (unsigned int i = 0; i < count; i++) {
		struct queue *q = order[i];

		if (q->kind == FLM_QUEUE_COPY) {
			if (!card->copy_is_busy)
				return q;
			continue;
		}
		if (!(q->cores & (card->busy_cores | reserved)))
			return q;
		if (now - q->waits_since_us > q->quantum_us)
			reserved |= q->cores;
	}
	return NULL;
}

/* ---- A turn ---- */

bool queue_is_stopped(struct card *card, struct queue *q)
{
	uint64_t stop;

	if (dma_load64(&card->dma, q->space.epoch, q->status + STATUS_HOST_HALF, &stop)) {
		atomic_store(&q->is_lost, true);
		return false;
	}
	return stop >= q->running;
}

enum step slot_fault(struct queue *q, unsigned int kind, uint32_t word)
{
	q->work.status = FLM_STATUS_FAULT;
	q->work.entry = FLM_NOWHERE;
	q->work.fault = (struct fault) {
		.kind = kind, .core = FLM_NOWHERE, .unit = FLM_NOWHERE, .word = word,
	};
	return STEP_ENDED;
}

/* Fetches the next slot and takes it apart. No lock. */
static enum step slot_begin(struct card *card, struct queue *q)
{
	struct flm_slot slot;
	uint32_t mask = (1u << q->slots_log2) - 1;
	bool is_copy = q->kind == FLM_QUEUE_COPY;
	enum step step;
	uint32_t op;

	if (dma_read(&card->dma, q->space.epoch, q->ring + (q->head & mask) * sizeof(slot), &slot,
		     sizeof(slot)))
		return STEP_DROPPED;
	q->flags = le32toh(slot.flags);
	q->running = le64toh(slot.seqno);
	/* A host that reads running, tokens, running sees a count of the job that it has read. */
	STORE32(tokens, 0);
	STORE64(running, q->running);
	op = q->flags & FLM_SLOT_OP_MASK;
	if (q->flags & ~(FLM_SLOT_OP_MASK | FLM_SLOT_INTERRUPT) ||
	    (is_copy ? op < FLM_SLOT_COPY || op > FLM_SLOT_CRC32C : op != FLM_SLOT_RUN))
		return slot_fault(q, FLM_FAULT_SLOT, __builtin_offsetof(struct flm_slot, flags));
	step = is_copy ? copy_check_reserved(q, (const void *)&slot) : job_check_reserved(q, &slot);
	if (step != STEP_GOES_ON)
		return step;
	if (!q->running || q->running <= q->seqno)
		return slot_fault(q, FLM_FAULT_SLOT, __builtin_offsetof(struct flm_slot, seqno));
	if (queue_is_stopped(card, q)) {
		q->work.status = FLM_STATUS_STOPPED;
		return STEP_ENDED;
	}
	/* The generation is named first and looked up then: see "Contexts" in SPEC.md. */
	STORE32(generation, le32toh(slot.generation));
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	if (space_load(&q->space, q->context, le32toh(slot.generation), &q->work.fault)) {
		q->work.status = FLM_STATUS_FAULT;
		q->work.entry = FLM_NOWHERE;
		q->work.fault.core = q->work.fault.unit = FLM_NOWHERE;
		q->work.fault.word = __builtin_offsetof(struct flm_slot, generation);
		return STEP_ENDED;
	}
	q->space.is_broken = q->injected & 1u << INJECT_DMA_ERROR;
	return is_copy ? copy_begin(card, q, (const void *)&slot) : job_begin(card, q, &slot);
}

/* To the next preemption point. No lock. */
static enum step turn(struct card *card, struct queue *q)
{
	enum step step;

	if (!q->running) {
		step = slot_begin(card, q);
		if (step != STEP_GOES_ON)
			return step;
	}
	/* Hung: only a reset ends it. */
	while (q->injected & INJECT_HUNG) {
		static const struct timespec pause = { 0, 1000000 };

		if (atomic_load(&q->abort))
			return STEP_GOES_ON;
		nanosleep(&pause, NULL);
	}
	return q->kind == FLM_QUEUE_COPY ? copy_step(card, q) : job_step(card, q);
}

/* ---- After a turn; the lock is held ---- */

static void write_status(struct card *card, struct queue *q)
{
	STORE64(points, q->points);
	STORE64(busy_us, q->busy_us);
	STORE64(cycles, q->cycles);
	STORE64(heartbeat_us, card_time_us(card));
}

/* False: the queue has halted, nobody will know how the slot ended. */
static bool write_done(struct card *card, struct queue *q)
{
	const struct work *work = &q->work;
	uint32_t mask = (1u << q->slots_log2) - 1;
	struct flm_done done = {
		.seqno = htole64(q->running), .status = htole32(work->status),
		.value = htole32(work->value), .started_us = htole64(work->started_us),
		.ended_us = htole64(card_time_us(card)), .cycles = htole64(work->cycles),
		.points = htole32(work->points),
	};

	if (work->status == FLM_STATUS_FAULT) {
		done.fault = work->fault.kind;
		done.core = work->fault.core;
		done.unit = work->fault.unit;
		done.entry = work->entry;
		done.word = htole32(work->fault.word);
		done.segment = htole32(work->fault.segment);
		done.offset = htole64(work->fault.offset);
	}
	if (q->injected & 1u << INJECT_BAD_COMPLETION)
		memset(&done, 0xff, sizeof(done));
	if (dma_write(&card->dma, q->space.epoch, q->done + (q->head & mask) * sizeof(done), &done,
		      sizeof(done))) {
		queue_halt(card, q, FLM_FAULT_DMA);
		return false;
	}
	if (work->status == FLM_STATUS_FAULT) {
		card->faults++;
		q->fault_seqno = q->running;
		q->fault_offset = work->fault.offset;
		q->fault = FLM_REG_FIELD(QUEUE_FAULT, KIND, work->fault.kind) |
			   FLM_REG_FIELD(QUEUE_FAULT, CORE, work->fault.core) |
			   FLM_REG_FIELD(QUEUE_FAULT, UNIT, work->fault.unit) |
			   FLM_REG_FIELD(QUEUE_FAULT, ENTRY, work->entry);
		q->fault_word = work->fault.word;
		q->fault_segment = work->fault.segment;
	}
	return true;
}

static void slot_end(struct card *card, struct queue *q)
{
	bool wants_interrupt = q->flags & FLM_SLOT_INTERRUPT;
	bool moves = q->running > q->seqno;

	if (!write_done(card, q)) {
		slot_free(q);
		return;
	}
	if (q->kind == FLM_QUEUE_COPY)
		card->copies++;
	else
		card->jobs++;
	card_trace(card, "end queue=%u seqno=%llu status=%u fault=%u value=%u", number_of(card, q),
		   (unsigned long long)q->running, q->work.status, q->work.fault.kind,
		   q->work.value);
	if (moves)
		q->seqno = q->running;
	q->head++;
	write_status(card, q);
	STORE32(generation, 0);
	STORE64(running, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	STORE64(seqno, q->seqno);
	STORE32(head, q->head);
	slot_free(q);
	if (wants_interrupt)
		card_interrupt(card, q->vector);
}

static void after_turn(struct card *card, struct queue *q, enum step step, uint32_t points)
{
	clock_account(card, q);
	if (q->command == FLM_QUEUE_RESET || q->space.epoch != card->dma.epoch) {
		queue_drop(q);
		return;
	}
	atomic_store(&q->abort, false);
	q->points += q->work.points - points;
	card->points += q->work.points - points;
	if (q->core_reset && step != STEP_DROPPED) {
		q->work.status = FLM_STATUS_RESET;
		memset(&q->work.fault, 0, sizeof(q->work.fault));
		step = STEP_ENDED;
	}
	if (step == STEP_DROPPED) {
		slot_free(q);
		queue_halt(card, q, FLM_FAULT_DMA);
	} else if (step == STEP_ENDED) {
		slot_end(card, q);
	} else {
		write_status(card, q);
		if (q->work.wants_interrupt)
			card_interrupt(card, q->vector);
		q->work.wants_interrupt = false;
	}
	if (q->state == FLM_QUEUE_ENABLED && atomic_load(&q->is_lost))
		queue_halt(card, q, FLM_FAULT_DMA);
	if (q->command == FLM_QUEUE_DISABLE && !q->running)
		queue_drop(q);
}

/*
 * Cores on which another context ran last: their on-chip memory is to be cleared. The lock is
 * held.
 */
static uint32_t switch_context(struct card *card, const struct queue *q)
{
	uint32_t changed = 0;

	for (unsigned int c = 0; c < card->profile.cores; c++) {
		if (!(q->cores >> c & 1) || card->core_context[c] == q->context + 1)
			continue;
		changed |= 1u << c;
		card->core_context[c] = q->context + 1;
		card->switches++;
	}
	return changed;
}

void queue_beat(struct card *card, uint64_t hung_us)
{
	/* A pass may be at a place where it costs nothing, but the card lives. */
	card_time_spend(card, 1, card_cycles_in(card, 1));
	for (unsigned int i = 0; i < card->profile.queues; i++) {
		struct queue *q = &card->queues[i];

		if (q->state != FLM_QUEUE_ENABLED)
			continue;
		if (q->is_running && q->injected & INJECT_HUNG) {
			uint64_t cycles = card_cycles_in(card, hung_us);

			card_time_spend(card, hung_us, cycles);
			q->busy_us += hung_us;
			q->cycles += cycles;
		} else if (q->is_running && q->kind == FLM_QUEUE_COMPUTE) {
			uint64_t cycles = job_cycles_so_far(card, q);

			clock_tell(card, q, cycles * 1000 / card->profile.clock_khz, cycles);
		}
		if (queue_has_work(card, q)) {
			STORE64(heartbeat_us, card_time_us(card));
			STORE64(busy_us, q->busy_us);
			STORE64(cycles, q->cycles);
		}
	}
}

/*
 * What the card was told to do at this job. False: the job does not begin, for the card is dead or
 * gone now.
 */
static bool inject(struct card *card, struct queue *q)
{
	if (q->running || q->kind == FLM_QUEUE_COPY)
		return true;
	q->injected = injections_job(&card->injections);
	if (q->injected & 1u << INJECT_DEAD_HEARTBEAT)
		card->is_dead = true;
	if (q->injected & 1u << INJECT_REMOVAL)
		card_remove(card);
	return !card->is_dead && !card->is_gone;
}

/*
 * The cores, or the copy engine, are q's: who had them before begins a new turn when it comes
 * back.
 */
static void take_turn(struct card *card, struct queue *q)
{
	for (unsigned int i = 0; i < card->profile.queues; i++) {
		struct queue *other = &card->queues[i];

		if (other != q && (q->kind == FLM_QUEUE_COPY ? other->kind == FLM_QUEUE_COPY :
				   (other->cores & q->cores) != 0))
			other->slice_us = 0;
	}
	if (!q->running)
		q->slice_us = 0;
	if (q->kind == FLM_QUEUE_COMPUTE)
		exec_forget_work(card->exec, q->cores);
	q->is_running = true;
	q->waits_since_us = 0;
	q->served = ++card->turns;
	card->busy_cores |= q->cores;
	card->copy_is_busy |= q->kind == FLM_QUEUE_COPY;
}

void *queue_worker(void *opaque)
{
	struct card *card = opaque;

	pthread_mutex_lock(&card->lock);
	while (!card->is_closing) {
		bool rests = card->is_resetting || card->is_dead || card->is_gone;
		struct queue *q = rests ? NULL : choose(card);
		uint32_t changed, points;
		enum step step;

		if (!q) {
			pthread_cond_wait(&card->work, &card->lock);
			continue;
		}
		if (ends_by_reset(q)) {
			after_turn(card, q, STEP_ENDED, q->work.points);
			pthread_cond_broadcast(&card->work);
			continue;
		}
		if (!inject(card, q))
			continue;
		card_work_begins(card);
		take_turn(card, q);
		changed = switch_context(card, q);
		if (!q->running)
			q->work.started_us = card_time_us(card);
		points = q->work.points;
		pthread_mutex_unlock(&card->lock);

		if (changed)
			exec_clear(card->exec, changed);
		step = turn(card, q);

		pthread_mutex_lock(&card->lock);
		after_turn(card, q, step, points);
		q->is_running = false;
		card->busy_cores &= ~q->cores;
		if (q->kind == FLM_QUEUE_COPY)
			card->copy_is_busy = false;
		card_work_ends(card);
		pthread_cond_broadcast(&card->work);
	}
	pthread_mutex_unlock(&card->lock);
	return NULL;
}
