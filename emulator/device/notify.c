// SPDX-License-Identifier: MIT
/*
 * Messages that the card sends by itself: interrupts, events, and the lines of the trace. The lock
 * is held, so that the host's function must not block.
 */
#include <stdarg.h>
#include <stdio.h>

#include "emulator/device/device.h"

void notify_trace(struct card *card, const char *format, ...)
{
	va_list args;

	if (!card->trace)
		return;
	va_start(args, format);
	flockfile(card->trace);
	fprintf(card->trace, "%lld ", (long long)(wall_ns() / 1000));
	vfprintf(card->trace, format, args);
	putc_unlocked('\n', card->trace);
	funlockfile(card->trace);
	va_end(args);
}

static void send_interrupt(struct card *card, unsigned int vector)
{
	uint32_t bit = 1u << vector;
	bool enabled;

	if (card->vectors_masked & bit) {
		card->vectors_pending |= bit;
		notify_trace(card, "interrupt vector=%u masked", vector);
		return;
	}
	pthread_rwlock_rdlock(&card->dma.lock);
	enabled = card->dma.enabled;
	/* Before the host hears of it: whoever reads the trace then finds the line. */
	notify_trace(card, "interrupt vector=%u%s", vector, enabled ? "" : " held");
	if (enabled) {
		__atomic_fetch_add(&card->interrupts, 1, __ATOMIC_RELAXED);
		if (card->host.interrupt)
			card->host.interrupt(card->host.opaque, vector);
	}
	pthread_rwlock_unlock(&card->dma.lock);
}

void notify_interrupt(struct card *card, unsigned int vector)
{
	unsigned int injected = injections_interrupt(&card->injections);

	if (injected & 1u << INJECT_LOST_INTERRUPT)
		return;
	if (!(injected & 1u << INJECT_LATE_INTERRUPT)) {
		send_interrupt(card, vector);
		return;
	}
	card->late_vector = vector;
	card->late_ns = wall_ns() + INJECT_LATE_MS * 1000000ll;
	pthread_cond_signal(&card->idle);
}

void notify_event(struct card *card, uint32_t bits)
{
	uint32_t rising = bits & ~card->events & card->event_enable;

	card->events |= bits;
	if (rising)
		notify_interrupt(card, 0);
}

int64_t notify_late(struct card *card, int64_t now)
{
	if (card->late_ns && now >= card->late_ns) {
		card->late_ns = 0;
		send_interrupt(card, card->late_vector);
	}
	return card->late_ns;
}

void notify_unmasked(struct card *card, unsigned int vector)
{
	uint32_t bit = 1u << vector;

	card->vectors_masked &= ~bit;
	if (!(card->vectors_pending & bit))
		return;
	card->vectors_pending &= ~bit;
	send_interrupt(card, vector);
}
