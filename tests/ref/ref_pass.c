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

/* A core is at fault, and named is where `unit` stands. */
static void refuse(struct machine *m, int core, int unit, enum flm_fault kind)
{
	struct ref_fault *fault = &m->isa->core[core].fault;

	fault->kind = kind;
	fault->core = core;
	fault->unit = unit;
	fault->word = m->unit[core][unit].pc;
}

/* A core goes on until it stands: at its end, at an exchange, for want of tokens, or at fault. */
static void run_core(struct machine *m, int core)
{
	bool did, moved;
	int unit, ret;

	do {
		moved = false;
		for (unit = 0; unit < FLM_UNITS; unit++) {
			do {
				ret = ref_step(m, core, unit, &did);
				if (ret) {
					refuse(m, core, unit, ret);
					return;
				}
				moved |= did;
			} while (did);
		}
	} while (moved);
}

/* Looks at cores that stand: at fault is the first that sampled otherwise than the lowest. */
static bool check_choices(struct machine *m)
{
	const struct ref_core *first = NULL, *own;
	int core;

	for (core = 0; core < m->isa->cores; core++) {
		own = &m->isa->core[core];
		if (!own->has_sampled)
			continue;
		if (!first)
			first = own;
		if (own->chosen_from_count == first->chosen_from_count &&
		    !memcmp(own->chosen_from, first->chosen_from,
			    own->chosen_from_count * sizeof(own->chosen_from[0])))
			continue;
		refuse(m, core, FLM_UNIT_MISC, FLM_FAULT_EXCHANGE);
		m->isa->core[core].fault.word = own->sampled_at;
		return false;
	}
	return true;
}

/* Lets an exchange take place when all cores wait for it; returns whether one did. */
static bool meet(struct machine *m)
{
	struct ref_insn in[FLM_CORES];
	const struct unit *first = NULL;
	int core, waiting = 0, ret;

	for (core = 0; core < m->isa->cores; core++) {
		const struct unit *u = &m->unit[core][FLM_UNIT_SYS];

		if (u->state == STATE_MEETING) {
			if (!waiting++)
				first = u;
			in[core] = u->insn;
		}
	}
	for (core = 0; core < m->isa->cores && waiting; core++) {
		const struct unit *u = &m->unit[core][FLM_UNIT_SYS];

		if (u->state == STATE_ENDED ||
		    (u->state == STATE_MEETING && !is_same_place(first, u))) {
			refuse(m, core, FLM_UNIT_SYS, FLM_FAULT_EXCHANGE);
			return false;
		}
	}
	if (!waiting || waiting < m->isa->cores)
		return false;
	core = 0;
	ret = ref_ops_exchange(in, m->isa->cores, &core);
	if (ret) {
		refuse(m, core, FLM_UNIT_SYS, ret);
		return false;
	}
	for (core = 0; core < m->isa->cores; core++)
		m->unit[core][FLM_UNIT_SYS].state = STATE_RELEASING;
	return true;
}

/* What must hold when nothing moves any more. */
static void check_end(struct machine *m)
{
	int core, unit, to;

	for (core = 0; core < m->isa->cores; core++) {
		for (unit = 0; unit < FLM_UNITS; unit++) {
			if (m->unit[core][unit].state != STATE_ENDED) {
				refuse(m, core, unit, FLM_FAULT_DEADLOCK);
				return;
			}
		}
	}
	for (core = 0; core < m->isa->cores; core++) {
		for (unit = 0; unit < FLM_UNITS; unit++) {
			for (to = 0; to < FLM_UNITS; to++) {
				if (m->tokens[core][unit][to]) {
					refuse(m, core, unit, FLM_FAULT_TOKEN);
					return;
				}
			}
		}
	}
	for (core = 0; core < m->isa->cores; core++) {
		if (m->isa->length[FLM_LENGTH_SAMPLE] && !m->isa->core[core].has_sampled) {
			refuse(m, core, FLM_UNIT_MISC, FLM_FAULT_SAMPLE);
			return;
		}
	}
}

/* The fault of the lowest core that has one, or NULL. */
static const struct ref_fault *lowest_fault(const struct ref_isa *isa)
{
	int core;

	for (core = 0; core < isa->cores; core++) {
		if (isa->core[core].fault.kind)
			return &isa->core[core].fault;
	}
	return NULL;
}

/* Everything to its end, or to where nothing moves. What cores are to each other waits for that. */
static void run_cores(struct machine *m)
{
	int core;

	do {
		for (core = 0; core < m->isa->cores; core++)
			run_core(m, core);
		if (lowest_fault(m->isa) || !check_choices(m))
			return;
	} while (meet(m));
	if (!lowest_fault(m->isa))
		check_end(m);
}

/* Before a pass: the ids of its tokens are on chip, units without a stream have ended. */
static void start_core(struct machine *m, int core)
{
	struct ref_isa *isa = m->isa;
	uint32_t t;
	int unit;

	memset(&isa->core[core].fault, 0, sizeof(isa->core[core].fault));
	isa->core[core].has_sampled = false;
	for (t = 0; isa->tokens && t < isa->length[FLM_LENGTH_TOKENS]; t++)
		ref_put32(isa->core[core].buffer[FLM_BUFFER_IDX] + 4 * t, isa->tokens[t]);
	for (unit = 0; unit < FLM_UNITS; unit++) {
		if (!isa->words[unit])
			m->unit[core][unit].state = STATE_ENDED;
	}
}

int ref_isa_run(struct ref_isa *isa, struct ref_fault *fault)
{
	struct machine *m = calloc(1, sizeof(*m));
	const struct ref_core *zero = &isa->core[0];
	const struct ref_fault *lowest;
	int core;

	if (!m)
		abort();
	ref_step_init();
	m->isa = isa;
	for (core = 0; core < isa->cores; core++)
		start_core(m, core);
	run_cores(m);
	free(m);
	lowest = lowest_fault(isa);
	*fault = lowest ? *lowest : (struct ref_fault){ .kind = FLM_FAULT_NONE };
	isa->token = 0;
	if (!lowest && zero->has_sampled)
		isa->token = ref_isa_choose(zero->chosen_from, zero->chosen_from_count,
					    &isa->sampler,
					    (uint64_t)isa->length[FLM_LENGTH_POS] +
					    isa->length[FLM_LENGTH_TOKENS]);
	return fault->kind;
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
