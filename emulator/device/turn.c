// SPDX-License-Identifier: MIT
/*
 * One turn of a queue. A worker, without the lock, fetches its slot, takes it apart and runs it to
 * the next preemption point. Then, with the lock, what that cost is counted, and status page,
 * completion and interrupt tell the host.
 */
#include <endian.h>
#include <string.h>
#include <time.h>

#include "emulator/device/device.h"

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
	STORE32(made, 0);
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
	if (slot_is_stopped(card, q)) {
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
	return is_copy ? copy_begin(card, q, (const void *)&slot) : job_begin(q, &slot);
}

enum step turn_run(struct card *card, struct queue *q)
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

/* ---- What it cost; the lock is held ---- */

/* The step that runs, or has ended, has come to so much: time goes on by what is new of it. */
static void work_tell(struct card *card, struct queue *q, uint64_t us, uint64_t cycles)
{
	struct work *work = &q->work;
	uint64_t new_us = us > work->told_us ? us - work->told_us : 0;
	uint64_t new_cycles = cycles > work->told_cycles ? cycles - work->told_cycles : 0;

	clock_spend(&card->clock, new_us, new_cycles);
	q->busy_us += new_us;
	q->cycles += new_cycles;
	work->told_us += new_us;
	work->told_cycles += new_cycles;
}

/* A step has ended: all that it cost and did is told and counted. */
static void work_account(struct card *card, struct queue *q)
{
	struct work *work = &q->work;

	work_tell(card, q, work->step_us, work->step_cycles);
	q->slice_us += work->step_us;
	work->cycles += work->step_cycles;
	card->instructions += work->step_instructions;
	q->tokens += work->step_tokens;
	card->tokens += work->step_tokens;
	for (unsigned int c = 0; c < EXEC_CORES_MAX; c++)
		for (unsigned int u = 0; u < FLM_UNITS; u++)
			card->unit_instructions[c][u] += work->unit_instructions[c][u];
	work->told_us = work->told_cycles = work->step_us = work->step_cycles = 0;
	work->step_instructions = work->step_tokens = 0;
	memset(work->unit_instructions, 0, sizeof(work->unit_instructions));
}

void turn_beat(struct card *card, uint64_t hung_us)
{
	/* A pass may be at a place where it costs nothing, but the card lives. */
	clock_spend(&card->clock, 1, clock_cycles_in(&card->clock, 1));
	for (unsigned int i = 0; i < card->profile.queues; i++) {
		struct queue *q = &card->queues[i];

		if (q->state != FLM_QUEUE_ENABLED)
			continue;
		if (q->is_running && q->injected & INJECT_HUNG) {
			uint64_t cycles = clock_cycles_in(&card->clock, hung_us);

			clock_spend(&card->clock, hung_us, cycles);
			q->busy_us += hung_us;
			q->cycles += cycles;
		} else if (q->is_running && q->kind == FLM_QUEUE_COMPUTE) {
			uint64_t cycles = job_cycles_so_far(card, q);

			work_tell(card, q, cycles * 1000 / card->clock.khz, cycles);
		}
		if (queue_has_work(q)) {
			STORE64(heartbeat_us, clock_us(&card->clock));
			STORE64(busy_us, q->busy_us);
			STORE64(cycles, q->cycles);
		}
	}
}

/* ---- After a turn; the lock is held ---- */

static void write_status(struct card *card, struct queue *q)
{
	STORE64(points, q->points);
	STORE64(busy_us, q->busy_us);
	STORE64(cycles, q->cycles);
	STORE64(heartbeat_us, clock_us(&card->clock));
}

/* False: the queue has halted, nobody will know how the slot ended. */
static bool write_done(struct card *card, struct queue *q)
{
	const struct work *work = &q->work;
	uint32_t mask = (1u << q->slots_log2) - 1;
	struct flm_done done = {
		.seqno = htole64(q->running), .status = htole32(work->status),
		.value = htole32(work->value), .started_us = htole64(work->started_us),
		.ended_us = htole64(clock_us(&card->clock)), .cycles = htole64(work->cycles),
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
		queue_forget_slot(q);
		return;
	}
	if (q->kind == FLM_QUEUE_COPY)
		card->copies++;
	else
		card->jobs++;
	notify_trace(card, "end queue=%u seqno=%llu status=%u fault=%u value=%u",
		     queue_number(card, q), (unsigned long long)q->running, q->work.status,
		     q->work.fault.kind, q->work.value);
	if (moves)
		q->seqno = q->running;
	q->head++;
	write_status(card, q);
	STORE32(generation, 0);
	STORE64(running, 0);
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	STORE64(seqno, q->seqno);
	STORE32(head, q->head);
	queue_forget_slot(q);
	if (wants_interrupt)
		notify_interrupt(card, q->vector);
}

void turn_end(struct card *card, struct queue *q, enum step step, uint32_t points)
{
	work_account(card, q);
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
		queue_forget_slot(q);
		queue_halt(card, q, FLM_FAULT_DMA);
	} else if (step == STEP_ENDED) {
		slot_end(card, q);
	} else {
		write_status(card, q);
		if (q->work.wants_interrupt)
			notify_interrupt(card, q->vector);
		q->work.wants_interrupt = false;
	}
	if (q->state == FLM_QUEUE_ENABLED && atomic_load(&q->is_lost))
		queue_halt(card, q, FLM_FAULT_DMA);
	if (q->command == FLM_QUEUE_DISABLE && !q->running)
		queue_drop(q);
}
