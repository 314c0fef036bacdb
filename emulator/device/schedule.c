// SPDX-License-Identifier: MIT
/*
 * The choice of the queue that runs next. A worker takes a queue and its cores, goes to the
 * slot's next preemption point without the lock, and gives them back: so the choice is made anew
 * at each point.
 */
#include "emulator/device/device.h"

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
 * A slot of a core reset that no worker has: it ends here and now, because it needs no core,
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
	uint64_t now = clock_us(&card->clock);
	uint32_t reserved = 0;
	unsigned int count = 0, at;

	for (unsigned int i = 0; i < card->profile.queues; i++) {
		struct queue *q = &card->queues[i];

		if (!may_run(q))
			continue;
		if (ends_by_reset(q))
			return q;
		queue_look(card, q);
		if (q->state == FLM_QUEUE_ENABLED && !queue_has_work(q) && !q->is_armed)
			queue_arm(card, q);
		if (q->state == FLM_QUEUE_ENABLED && atomic_load(&q->is_lost))
			queue_halt(card, q, FLM_FAULT_DMA);
		if (q->state != FLM_QUEUE_ENABLED || !queue_has_work(q))
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

/*
 * Applies the faults of this job. False: the job does not begin, because the card is dead or
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
		reset_remove(card);
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

/* A worker begins or ends a turn; the keeper may sleep until then. */
static void work_begins(struct card *card)
{
	clock_work_begins(&card->clock);
	if (card->keeper_sleeps)
		pthread_cond_signal(&card->idle);
}

static void work_ends(struct card *card)
{
	if (clock_work_ends(&card->clock) && card->is_resetting)
		pthread_cond_signal(&card->idle);
}

void *schedule_worker(void *opaque)
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
			turn_end(card, q, STEP_ENDED, q->work.points);
			pthread_cond_broadcast(&card->work);
			continue;
		}
		if (!inject(card, q))
			continue;
		work_begins(card);
		take_turn(card, q);
		changed = switch_context(card, q);
		if (!q->running)
			q->work.started_us = clock_us(&card->clock);
		points = q->work.points;
		pthread_mutex_unlock(&card->lock);

		if (changed)
			exec_clear(card->exec, changed);
		step = turn_run(card, q);

		pthread_mutex_lock(&card->lock);
		turn_end(card, q, step, points);
		q->is_running = false;
		card->busy_cores &= ~q->cores;
		if (q->kind == FLM_QUEUE_COPY)
			card->copy_is_busy = false;
		work_ends(card);
		pthread_cond_broadcast(&card->work);
	}
	pthread_mutex_unlock(&card->lock);
	return NULL;
}
