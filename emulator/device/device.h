/* SPDX-License-Identifier: MIT */
/*
 * The card as its own files see it: registers (regs.c), queues and who runs next (queue.c), jobs
 * (job.c), copies (copy.c), over memory (mem.c) and the execution of passes (exec.c).
 *
 * One lock, card->lock, covers all that is not said to be otherwise; nobody computes, waits or
 * moves more than a few words under it. A queue that a worker runs (queue->is_running) belongs to
 * that worker; others only leave it a command.
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

struct job;
struct copy;

/* What a slot has come to at a preemption point. */
enum step { STEP_GOES_ON, STEP_ENDED, STEP_DROPPED };

/* What the card counts for one slot, from begin to end. */
struct work {
	uint64_t started_us, cycles;
	uint32_t points, value;
	unsigned int status;		/* enum flm_status, when it has ended */
	unsigned int entry;		/* of the fault */
	struct fault fault;
	bool wants_interrupt;		/* notify fell due at this point */
	/* what the last step cost, and how much of it the heartbeats have told already */
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
	unsigned int worker_count, workers_busy;
	bool is_closing, is_resetting;
	bool is_failed;			/* the last reset left bytes behind: until the next one */
	bool keeper_sleeps;		/* until it is signalled, there being nothing to keep */
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
	uint64_t base_us;		/* card time when it was last idle, or now if busy */
	int64_t idle_since_ns;		/* wall clock then; only while idle */

	/* counters */
	uint64_t reads, writes, kicks, jobs, copies, tokens, faults, instructions, points, switches;
	uint64_t cycles;		/* goes with base_us */
	uint64_t doorbells_seen;
	uint64_t interrupts;		/* atomic */
	uint64_t unit_instructions[EXEC_CORES_MAX][FLM_UNITS];
};

/* clock.c; the lock is held. */
int64_t wall_ns(void);
uint64_t card_time_us(struct card *card);
uint64_t card_cycles(struct card *card);
void card_time_spend(struct card *card, uint64_t us, uint64_t cycles);
/* How often the clock ticks in so long. */
uint64_t card_cycles_in(const struct card *card, uint64_t us);
/* A worker begins or ends a turn: time stands on what work costs while there is one. */
void card_work_begins(struct card *card);
void card_work_ends(struct card *card);
/* The step that runs, or has ended, has come to so much: time goes on by what is new of it. */
void clock_tell(struct card *card, struct queue *queue, uint64_t us, uint64_t cycles);
/* A step has ended: all that it cost and did is told and counted. */
void clock_account(struct card *card, struct queue *queue);

/* card.c; the lock is held. */
void card_interrupt(struct card *card, unsigned int vector);
void card_event(struct card *card, uint32_t bits);
void card_reset_begin(struct card *card);
void card_remove(struct card *card);
__attribute__((format(printf, 2, 3))) void card_trace(struct card *card, const char *format, ...);

/* queue.c; the lock is held. */
void queue_command(struct card *card, unsigned int number, uint32_t command);
void queue_kick(struct card *card, unsigned int number);
/* In DISABLED any value, else one that ENABLE would take. */
void queue_prioritise(struct card *card, unsigned int number, uint32_t priority);
void queue_drop_all(struct card *card);
/* While no worker has a queue and a reset is under way; no lock. */
void queue_free_dropped(struct card *card);
/* All queues as after power-on; no worker has one. */
void queue_forget_all(struct card *card);
void queue_reset_cores(struct card *card, uint32_t mask);
bool queue_has_work(const struct card *card, const struct queue *queue);
/* Heartbeats; hung_us: card time that jobs which hang have used up since the last. */
void queue_beat(struct card *card, uint64_t hung_us);
void *queue_worker(void *card);

/*
 * job.c and copy.c; no lock, the queue is the worker's. begin takes a slot apart: STEP_GOES_ON, or
 * STEP_ENDED with work.status. step goes to the next preemption point.
 */
/* Reserved fields of a slot: STEP_GOES_ON if they are zero. */
enum step job_check_reserved(struct queue *queue, const struct flm_slot *slot);
enum step copy_check_reserved(struct queue *queue, const struct flm_copy_slot *slot);
enum step job_begin(struct card *card, struct queue *queue, const struct flm_slot *slot);
enum step job_step(struct card *card, struct queue *queue);
void job_free(struct job *job);
/* What the pass that runs has cost so far; from any thread. */
uint64_t job_cycles_so_far(const struct card *card, const struct queue *queue);
enum step copy_begin(struct card *card, struct queue *queue, const struct flm_copy_slot *slot);
enum step copy_step(struct card *card, struct queue *queue);
void copy_free(struct copy *copy);

/* A field of the status page. If the page cannot be reached, the queue halts at its next point. */
void queue_store32(struct card *card, struct queue *queue, size_t field, uint32_t value);
void queue_store64(struct card *card, struct queue *queue, size_t field, uint64_t value);
/* True when the host wants the running slot to end here. */
bool queue_is_stopped(struct card *card, struct queue *queue);
/* Ends a slot with a fault of its own fields: `word` says which. */
enum step slot_fault(struct queue *queue, unsigned int kind, uint32_t word);

/* regs.c; the lock is held. */
uint64_t regs_read(struct card *card, uint32_t offset, unsigned int bytes);
void regs_write(struct card *card, uint32_t offset, uint64_t value, unsigned int bytes);

#endif
