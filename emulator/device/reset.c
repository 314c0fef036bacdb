// SPDX-License-Identifier: MIT
/*
 * A reset of the card in two parts. The quick one, under the lock: the host is not touched and no
 * interrupt is sent from here on. The slow one is the keeper's, once the workers have let go.
 */
#include <string.h>

#include "emulator/device/device.h"

void reset_begin(struct card *card)
{
	pthread_rwlock_wrlock(&card->dma.lock);
	card->dma.epoch++;
	pthread_rwlock_unlock(&card->dma.lock);
	card->is_resetting = true;
	card->late_ns = 0;
	card->vectors_pending = 0;
	queue_drop_all(card);
	notify_trace(card, "reset");
	pthread_cond_broadcast(&card->idle);
	pthread_cond_broadcast(&card->work);
}

void reset_remove(struct card *card)
{
	pthread_rwlock_wrlock(&card->dma.lock);
	card->is_gone = true;
	card->dma.enabled = false;
	pthread_rwlock_unlock(&card->dma.lock);
	reset_begin(card);
}

void reset_finish(struct card *card)
{
	uint32_t epoch;
	int ret;

	do {
		epoch = card->dma.epoch;
		pthread_mutex_unlock(&card->lock);
		queue_free_dropped(card);
		ret = memory_lose(&card->memory);
		exec_clear(card->exec, (1u << card->profile.cores) - 1);
		memset(card->doorbells, 0, card->doorbell_bytes);
		pthread_mutex_lock(&card->lock);
	} while (epoch != card->dma.epoch && !card->is_closing);
	queue_forget_all(card);
	card->turns = 0;
	card->is_dead = false;
	memset(card->core_context, 0, sizeof(card->core_context));
	memset(card->unit_instructions, 0, sizeof(card->unit_instructions));
	card->region_select = card->queue_select = card->unit_select = card->channel_select = 0;
	card->is_failed = ret;
	card->events = ret ? FLM_REG_FIELD(EVENTS, FAILED, 1) : 0;
	card->event_enable = 0;
	if (ret)
		notify_trace(card, "reset failed: %s", strerror(-ret));
	card->reads = card->writes = card->kicks = card->jobs = card->copies = card->tokens = 0;
	card->faults = card->instructions = card->points = card->switches = 0;
	card->doorbells_seen = 0;
	__atomic_store_n(&card->interrupts, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&card->dma.read, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&card->dma.written, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&card->dma.errors, 0, __ATOMIC_RELAXED);
	clock_begin(&card->clock);
	card->resets++;
	card->is_resetting = false;
}
