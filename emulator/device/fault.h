/* SPDX-License-Identifier: MIT */
/*
 * Faults injected into a card (flightllm-emu --faults), to try a driver with a broken card. SPEC.md
 * lists them in a table.
 */
#ifndef EMULATOR_FAULT_H
#define EMULATOR_FAULT_H

#include <stdint.h>

enum injection {
	INJECT_HANG,
	INJECT_DEAF,
	INJECT_LOST_INTERRUPT,
	INJECT_LATE_INTERRUPT,
	INJECT_DMA_ERROR,
	INJECT_BAD_COMPLETION,
	INJECT_DEAD_HEARTBEAT,
	INJECT_REMOVAL,
	INJECTIONS,
};

#define INJECT_HUNG	(1u << INJECT_HANG | 1u << INJECT_DEAF)
#define INJECT_LATE_MS	500

/* When each happens: at the at[i]-th job or interrupt since power-on, 0: never. */
struct injections {
	uint64_t at[INJECTIONS];
	uint64_t jobs, interrupts;	/* so far */
};

/* Parses "NAME[@N],.." (NULL: none). Returns 0, or -EINVAL with one line in error[bytes]. */
int injections_parse(struct injections *injections, const char *list, char *error,
		     unsigned int bytes);

/* A job begins, or an interrupt is due: returns the faults of it as bits (1 << enum injection). */
unsigned int injections_job(struct injections *injections);
unsigned int injections_interrupt(struct injections *injections);

#endif
