/* SPDX-License-Identifier: MIT */
/*
 * Faults that a card is told to have (flightllm-emu --faults), so that what a driver does about a
 * broken card can be tried. SPEC.md has them in a table.
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

/* "NAME[@N],.." (NULL: none). 0, or -EINVAL with one line in error[bytes]. */
int injections_parse(struct injections *injections, const char *list, char *error,
		     unsigned int bytes);

/* A job begins, an interrupt is due: bits (1 << enum injection) of what happens now. */
unsigned int injections_job(struct injections *injections);
unsigned int injections_interrupt(struct injections *injections);

#endif
