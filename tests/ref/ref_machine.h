/* SPDX-License-Identifier: MIT */
/*
 * A pass under way: where each unit of each core stands. ref_isa.c takes a unit one step on,
 * ref_pass.c says whose turn it is and what cores are to each other.
 */
#ifndef TESTS_REF_MACHINE_H
#define TESTS_REF_MACHINE_H

#include "tests/ref/ref_ops.h"

struct loop {
	uint32_t body;		/* word of the first instruction in it */
	uint32_t behind;	/* word behind the closing END, as BODY names it */
	uint32_t trip;
	uint32_t count;
};

enum state {
	STATE_READY,		/* at an instruction, or waiting for its tokens */
	STATE_MEETING,		/* SYS: waits for the other cores */
	STATE_RELEASING,	/* complete, waits for room in the queues it releases to */
	STATE_ENDED,
};

struct unit {
	enum state state;
	uint32_t pc;
	uint32_t next;		/* behind the instruction at pc */
	uint32_t release;
	int depth;
	struct loop loop[FLM_LOOP_DEPTH];
	struct ref_insn insn;
};

struct machine {
	struct ref_isa *isa;
	struct unit unit[FLM_CORES][FLM_UNITS];
	uint8_t tokens[FLM_CORES][FLM_UNITS][FLM_UNITS];	/* [core][from][to] */
	uint64_t executed[FLM_CORES];
};

/* Reads isa.def; before the first step. */
void ref_step_init(void);

/* One step of one unit. *did says whether anything happened. Returns a kind of fault. */
int ref_step(struct machine *m, int core, int unit, bool *did);

#endif
