// SPDX-License-Identifier: MIT
/*
 * One pass of all cores. The idea is that any legal order gives the same bytes, so the simplest is
 * taken: each core in turn runs until it stands, each of its units in turn until it must wait. Only
 * then is looked at what cores are to each other: the lowest core's fault, candidates, an exchange.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_machine.h"

/* The same word, and the same trip of every loop around it. */
static bool is_same_place(const struct unit *a, const struct unit *b)
{
	int i;

	if (a->pc != b->pc || a->depth != b->depth)
		return false;
	for (i = 0; i < a->depth; i++) {
		if (a->loop[i].trip != b->loop[i].trip)
			return false;
	}
	return true;
}

/* Lets an exchange take place when all cores wait for it. */
static int meet(struct machine *m, bool *did)
{
	struct ref_insn in[FLM_CORES];
	const struct unit *first = NULL;
	int core, waiting = 0, ret;

	*did = false;
	for (core = 0; core < m->isa->cores; core++) {
		const struct unit *u = &m->unit[core][FLM_UNIT_SYS];

		if (u->state == STATE_MEETING) {
			if (!waiting++)
				first = u;
			in[core] = u->insn;
		}
	}
	if (!waiting)
		return FLM_FAULT_NONE;
	for (core = 0; core < m->isa->cores; core++) {
		const struct unit *u = &m->unit[core][FLM_UNIT_SYS];

		m->fault->core = core;
		m->fault->unit = FLM_UNIT_SYS;
		m->fault->word = u->pc;
		if (u->state == STATE_ENDED)
			return FLM_FAULT_EXCHANGE;
		if (u->state == STATE_MEETING && !is_same_place(first, u))
			return FLM_FAULT_EXCHANGE;
	}
	if (waiting < m->isa->cores)
		return FLM_FAULT_NONE;
	*did = true;
	m->fault->core = 0;
	ret = ref_ops_exchange(in, m->isa->cores);
	if (ret)
		return ret;
	for (core = 0; core < m->isa->cores; core++)
		m->unit[core][FLM_UNIT_SYS].state = STATE_RELEASING;
	return FLM_FAULT_NONE;
}

/* Everything to its end, or to where nothing moves. */
static int run_units(struct machine *m)
{
	bool did, moved;
	int core, unit, ret;

	do {
		moved = false;
		for (core = 0; core < m->isa->cores; core++) {
			for (unit = 0; unit < FLM_UNITS; unit++) {
				do {
					m->fault->core = core;
					m->fault->unit = unit;
					m->fault->word = m->unit[core][unit].pc;
					ret = ref_step(m, core, unit, &did);
					if (ret)
						return ret;
					moved |= did;
				} while (did);
			}
		}
		ret = meet(m, &did);
		if (ret)
			return ret;
		moved |= did;
	} while (moved);
	return FLM_FAULT_NONE;
}

/* What must hold when nothing moves any more. */
static int check_end(struct machine *m)
{
	int core, unit, to;

	for (core = 0; core < m->isa->cores; core++) {
		for (unit = 0; unit < FLM_UNITS; unit++) {
			m->fault->core = core;
			m->fault->unit = unit;
			m->fault->word = m->unit[core][unit].pc;
			if (m->unit[core][unit].state != STATE_ENDED)
				return FLM_FAULT_DEADLOCK;
		}
	}
	for (core = 0; core < m->isa->cores; core++) {
		for (unit = 0; unit < FLM_UNITS; unit++) {
			for (to = 0; to < FLM_UNITS; to++) {
				m->fault->core = core;
				m->fault->unit = unit;
				m->fault->word = m->unit[core][unit].pc;
				if (m->tokens[core][unit][to])
					return FLM_FAULT_TOKEN;
			}
		}
	}
	for (core = 0; core < m->isa->cores; core++) {
		m->fault->core = core;
		m->fault->unit = FLM_UNIT_MISC;
		m->fault->word = m->unit[core][FLM_UNIT_MISC].pc;
		if (m->isa->length[FLM_LENGTH_SAMPLE] && !m->isa->core[core].has_sampled)
			return FLM_FAULT_SAMPLE;
	}
	return FLM_FAULT_NONE;
}

int ref_isa_run(struct ref_isa *isa, struct ref_fault *fault)
{
	struct machine *m = calloc(1, sizeof(*m));
	int core, unit, ret;
	uint32_t t;

	if (!m)
		abort();
	ref_step_init();
	memset(fault, 0, sizeof(*fault));
	m->isa = isa;
	m->fault = fault;
	isa->token = 0;
	isa->chosen_from_count = 0;
	for (core = 0; core < isa->cores; core++) {
		isa->core[core].has_sampled = false;
		for (t = 0; isa->tokens && t < isa->length[FLM_LENGTH_TOKENS]; t++) {
			uint8_t *at = isa->core[core].buffer[FLM_BUFFER_IDX] + 4 * t;

			at[0] = isa->tokens[t];
			at[1] = isa->tokens[t] >> 8;
			at[2] = isa->tokens[t] >> 16;
			at[3] = isa->tokens[t] >> 24;
		}
		for (unit = 0; unit < FLM_UNITS; unit++) {
			if (!isa->words[unit])
				m->unit[core][unit].state = STATE_ENDED;
		}
	}
	ret = run_units(m);
	if (!ret)
		ret = check_end(m);
	if (!ret)
		memset(fault, 0, sizeof(*fault));
	fault->kind = ret;
	free(m);
	return ret;
}

int ref_isa_init(struct ref_isa *isa)
{
	int core, b;

	for (core = 0; core < isa->cores; core++) {
		for (b = 0; b < FLM_BUFFERS; b++) {
			isa->core[core].buffer[b] = calloc(1, isa->buffer_bytes[b] + 1);
			if (!isa->core[core].buffer[b]) {
				ref_isa_fini(isa);
				return -1;
			}
		}
	}
	return 0;
}

void ref_isa_fini(struct ref_isa *isa)
{
	int core, b;

	for (core = 0; core < isa->cores; core++) {
		for (b = 0; b < FLM_BUFFERS; b++) {
			free(isa->core[core].buffer[b]);
			isa->core[core].buffer[b] = NULL;
		}
	}
}
