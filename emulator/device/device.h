/* SPDX-License-Identifier: MIT */
/*
 * The card as its own files see it: what it tells (notify.c), copies and jobs (copy.c, record.c,
 * job.c), queues (queue.c) and whose turn is next (schedule.c, turn.c), resets and registers
 * (reset.c, regs.c), over memory (mem.c), the clock and the execution of passes (core/exec.c).
 *
 * One lock, card->lock, covers every field except those that say otherwise. Nobody computes, waits
 * or moves more than a few words under it. A queue that a worker runs (queue->is_running) belongs
 * to that worker; other threads only leave it a command.
 */
#ifndef EMULATOR_DEVICE_H
#define EMULATOR_DEVICE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <flightllm/queue.h>
#include <flightllm/regs.h>

#include "emulator/card.h"
#include "emulator/core/exec.h"
#include "emulator/device/fault.h"
#include "emulator/mem.h"
#include "emulator/time/clock.h"

#define CARD_QUEUES	128	/* of any profile */
#define CARD_VECTORS	32	/* at most 32: masks of them are words */
#define RING_LOG2_MIN	4
#define RING_LOG2_MAX	12

struct profile {
	const char *name;
	unsigned int id, cores;
	uint64_t core_bytes, ddr_bytes;
	unsigned int channels;
	uint32_t buffer_bytes[FLM_BUFFERS];
	unsigned int queues;
	uint32_t clock_khz, mm_macs, mv_macs, hbm_mbps, ddr_mbps;
};

/* Where the status page's half of the host begins. */
#define STATUS_HOST_HALF __builtin_offsetof(struct flm_status_page, stop)

struct job;
struct copy;

/* State of a slot at a preemption point. */
enum step { STEP_GOES_ON, STEP_ENDED, STEP_DROPPED };

/* Counts of one slot, from begin to end. */
struct work {
	uint64_t started_us, cycles;
	uint32_t points, value;
	unsigned int status;		/* enum flm_status, when it has ended */
	unsigned int entry;		/* of the fault */
	struct fault fault;
	bool wants_interrupt;		/* notify fell due at this point */
	/* cost of the last step, and the part of it that heartbeats have told already */
	uint64_t told_us, told_cycles;
	uint64_t step_us, step_cycles, step_instructions, step_tokens;
	uint64_t unit_instructions[EXEC_CORES_MAX][FLM_UNITS];
};

struct queue {
	/* as the registers set them */
	uint32_t kind, slots_log2, priority, quantum_us, cores, vector;
	uint64_t ring, done, status, context, watchdog;
	/* state */
	unsigned int state;		/* enum flm_queue_state */
	unsigned int error;
	unsigned int command;		/* enum flm_queue_command for the worker, 0: none */
	bool is_running;
	bool is_armed;
	atomic_bool abort;		/* the pass that runs is to be given up */
	atomic_bool is_lost;		/* the status page could not be reached */
	bool core_reset;		/* the slot that has begun ends with RESET */
	uint32_t head, tail;		/* tail as last read */
	uint64_t seqno, points, busy_us, cycles, tokens;
	uint64_t slice_us;		/* card time since another queue had these cores */
	uint64_t waits_since_us;	/* card time since it has work but no cores, or 0 */
	uint64_t served;		/* card->turns when it last ran: round robin */
	/* of its last fault */
	uint64_t fault_seqno, fault_offset;
	uint32_t fault, fault_word, fault_segment;
	/* the slot that has begun, of the worker */
	uint64_t running;		/* its seqno, 0: none */
	uint32_t flags;			/* of the slot */
	unsigned int injected;		/* bits of enum injection that befall it; under the lock */
	struct job *job;
	struct job *dropped;		/* by a reset of the card, the keeper's to free */
	struct copy *copy;
	struct space space;		/* of the last generation used */
	struct work work;
};

struct card {
	struct profile profile;
	struct card_host host;
	uint64_t serial;
	FILE *trace;
	unsigned int vectors;
	uint32_t vectors_masked, vectors_pending;	/* a bit for each */

	struct dma dma;
	struct memory memory;
	struct exec *exec;
	int doorbell_fd;
	uint8_t *doorbells;
	uint64_t doorbell_bytes;

	pthread_mutex_t lock;
	pthread_cond_t work;		/* for workers: something may have become possible */
	pthread_cond_t idle;		/* for the keeper: a worker ended, or there is work */
	pthread_t *workers, keeper;
	unsigned int worker_count;
	bool is_closing, is_resetting;
	bool is_failed;			/* the last reset left bytes behind */
	bool keeper_sleeps;		/* nothing to keep: it waits for a signal */
	int64_t next_beat_ns;
	uint32_t resets;

	/* faults that the card was told to have */
	struct injections injections;
	bool is_dead;			/* serves no queue until it is reset */
	bool is_gone;			/* pulled out; written under dma.lock too */
	unsigned int late_vector;
	int64_t late_ns;		/* when it fires, 0: none is late */

	struct queue queues[CARD_QUEUES];
	uint32_t busy_cores;
	bool copy_is_busy;
	uint64_t turns;
	uint64_t core_context[EXEC_CORES_MAX];	/* context page that ran there last, 0: none */

	/* registers that hold what was written */
	uint32_t region_select, queue_select, unit_select, channel_select, events, event_enable;

	/* card time */
	struct clock clock;

	/* counters */
	uint64_t reads, writes, kicks, jobs, copies, tokens, faults, instructions, points, switches;
	uint64_t doorbells_seen;
	uint64_t interrupts;		/* atomic */
	uint64_t unit_instructions[EXEC_CORES_MAX][FLM_UNITS];
};

/*
 * Each file calls those that stand above it, and nothing below.
 *
 * notify.c; the lock is held.
 */
void notify_interrupt(struct card *card, unsigned int vector);
void notify_event(struct card *card, uint32_t bits);
/* The vector's mask is cleared: sends the pending message. */
void notify_unmasked(struct card *card, unsigned int vector);
/* Sends the interrupt that was told to be late when its time has come; when that is, 0: none. */
int64_t notify_late(struct card *card, int64_t now);
__attribute__((format(printf, 2, 3)))
void notify_trace(struct card *card, const char *format, ...);

/* slot.c; no lock: the queue is the worker's, or the lock is held and no worker has it. */
/* A field of the status page. If the page cannot be reached, the queue halts at its next point. */
void slot_store32(struct card *card, struct queue *queue, size_t field, uint32_t value);
void slot_store64(struct card *card, struct queue *queue, size_t field, uint64_t value);
/* True when the host wants the running slot to end here. */
bool slot_is_stopped(struct card *card, struct queue *queue);
/* Ends a slot with a fault of its own fields: `word` says which. */
enum step slot_fault(struct queue *queue, unsigned int kind, uint32_t word);

#define FIELD(field) __builtin_offsetof(struct flm_status_page, field)
#define STORE32(field, value) slot_store32(card, q, FIELD(field), value)
#define STORE64(field, value) slot_store64(card, q, FIELD(field), value)

/*
 * copy.c, record.c, job.c; no lock, the queue is the worker's. begin takes a slot apart:
 * STEP_GOES_ON, or STEP_ENDED with work.status. step goes to the next preemption point.
 */
/* Reserved fields of a slot: STEP_GOES_ON if they are zero. */
enum step job_check_reserved(struct queue *queue, const struct flm_slot *slot);
enum step copy_check_reserved(struct queue *queue, const struct flm_copy_slot *slot);
enum step copy_begin(struct card *card, struct queue *queue, const struct flm_copy_slot *slot);
enum step copy_step(struct card *card, struct queue *queue);
void copy_free(struct copy *copy);
enum step job_begin(struct queue *queue, const struct flm_slot *slot);
enum step job_step(struct card *card, struct queue *queue);
void job_free(struct job *job);
/* Cost so far of the pass that runs. Any thread. */
uint64_t job_cycles_so_far(const struct card *card, const struct queue *queue);

/* queue.c; the lock is held. */
static inline unsigned int queue_number(const struct card *card, const struct queue *queue)
{
	return queue - card->queues;
}

static inline bool queue_has_work(const struct queue *queue)
{
	return queue->is_running || queue->running || queue->head != queue->tail;
}

void queue_command(struct card *card, unsigned int number, uint32_t command);
void queue_kick(struct card *card, unsigned int number);
/* In DISABLED any value, otherwise only one that ENABLE would take. */
void queue_prioritise(struct card *card, unsigned int number, uint32_t priority);
void queue_reset_cores(struct card *card, uint32_t mask);
/* Looks at the doorbell; an empty queue goes to sleep, unless its doorbell rings meanwhile. */
void queue_look(struct card *card, struct queue *queue);
void queue_arm(struct card *card, struct queue *queue);
/* Forgets the slot that has begun. */
void queue_forget_slot(struct queue *queue);
/* Without a completion and without the host; the registers keep their values until ENABLE. */
void queue_drop(struct queue *queue);
void queue_halt(struct card *card, struct queue *queue, unsigned int error);
void queue_drop_all(struct card *card);
/* While no worker has a queue and a reset is under way; no lock. */
void queue_free_dropped(struct card *card);
/* All queues as after power-on; no worker has one. */
void queue_forget_all(struct card *card);

/* reset.c; the lock is held. */
void reset_begin(struct card *card);
/* Pulls the card out for good: nothing answers any more. */
void reset_remove(struct card *card);
/* Called when no worker works; drops the lock during the long part. */
void reset_finish(struct card *card);

/* turn.c */
/* To the next preemption point; no lock, the queue is the worker's. */
enum step turn_run(struct card *card, struct queue *queue);
/* What follows from how it ended; points: of the slot before. The lock is held, as in turn_beat. */
void turn_end(struct card *card, struct queue *queue, enum step step, uint32_t points);
/* Heartbeats; hung_us: card time that jobs which hang have used up since the last. */
void turn_beat(struct card *card, uint64_t hung_us);

/* schedule.c: a thread; no lock. */
void *schedule_worker(void *card);

/* regs.c; the lock is held. */
uint64_t regs_read(struct card *card, uint32_t offset, unsigned int bytes);
void regs_write(struct card *card, uint32_t offset, uint64_t value, unsigned int bytes);

#endif
