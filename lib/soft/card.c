// SPDX-License-Identifier: MIT
/*
 * Access to the card: registers, memory that it may reach, sleep until it has
 * something to tell; and rows of the arrays that come with an ioctl.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "lib/soft/soft.h"

#define STEP_NS		50000000	/* tokens may come without an interrupt: look so often */
#define STRIDE_MAX	4096

uint32_t soft_read(struct soft *soft, uint32_t reg)
{
	uint32_t value;

	soft->card_reg_read(soft->card, reg, &value, 4);
	return value;
}

uint64_t soft_read64(struct soft *soft, uint32_t reg)
{
	uint64_t value;

	soft->card_reg_read(soft->card, reg, &value, 8);
	return value;
}

void soft_write(struct soft *soft, uint32_t reg, uint32_t value)
{
	soft->card_reg_write(soft->card, reg, &value, 4);
}

void soft_write64(struct soft *soft, uint32_t reg, uint64_t value)
{
	soft->card_reg_write(soft->card, reg, &value, 8);
}

/* ---- Interrupts ---- */

void soft_interrupt(void *opaque, unsigned int vector)
{
	struct soft *soft = opaque;

	(void)vector;
	pthread_mutex_lock(&soft->wake);
	soft->events++;
	pthread_cond_broadcast(&soft->woken);
	pthread_mutex_unlock(&soft->wake);
}

int64_t soft_now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec;
}

void soft_sleep(struct soft *soft, uint64_t events, int64_t deadline)
{
	int64_t until = soft_now_ns() + STEP_NS;
	struct timespec time;

	if (until > deadline)
		until = deadline;
	time = (struct timespec) { .tv_sec = until / 1000000000, .tv_nsec = until % 1000000000 };
	pthread_mutex_lock(&soft->wake);
	if (soft->events == events && until > 0)
		pthread_cond_timedwait(&soft->woken, &soft->wake, &time);
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

/* ---- Memory that the card can reach ---- */

void *soft_dma_new(struct soft *soft, uint64_t bytes)
{
	void *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE,
			    MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (memory == MAP_FAILED)
		return NULL;
	if (soft->card_dma_map(soft->card, (uintptr_t)memory, bytes, memory,
			       CARD_DMA_READ | CARD_DMA_WRITE)) {
		munmap(memory, bytes);
		return NULL;
	}
	return memory;
}

void soft_dma_free(struct soft *soft, void *memory, uint64_t bytes)
{
	if (!memory)
		return;
	soft->card_dma_unmap(soft->card, (uintptr_t)memory, bytes);
	munmap(memory, bytes);
}

/* ---- Arrays ---- */

int soft_array_row(uint64_t pointer, uint32_t stride, uint32_t i, void *row, uint32_t bytes)
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
