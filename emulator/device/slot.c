// SPDX-License-Identifier: MIT
/* The part of a running slot that jobs and copies share: status page, stop word, faults. */
#include "emulator/device/device.h"

void slot_store32(struct card *card, struct queue *q, size_t field, uint32_t value)
{
	if (dma_store32(&card->dma, q->space.epoch, q->status + field, value))
		atomic_store(&q->is_lost, true);
}

void slot_store64(struct card *card, struct queue *q, size_t field, uint64_t value)
{
	if (dma_store64(&card->dma, q->space.epoch, q->status + field, value))
		atomic_store(&q->is_lost, true);
}

bool slot_is_stopped(struct card *card, struct queue *q)
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
