// SPDX-License-Identifier: MIT
/*
 * A core as a state machine: its six units run in turn, each as far as its tokens reach, until none
 * can go on. Then the core has ended, has a fault, waits for the other cores, or is stuck. Which
 * unit goes first cannot matter: whatever two units both touch is ordered by tokens.
 */
#include <endian.h>
#include <string.h>

#include "emulator/core/core.h"

int core_fault_at(struct core *core, unsigned int u, enum flm_fault kind)
{
	core->fault.unit = u;
	core->fault.word = core->units[u].at;
	return core_fault(core, kind);
}

static bool is_end(const struct unit *unit, uint64_t word)
{
	return word < unit->stream.count &&
	       unit->stream.words[word] == (uint32_t)FLM_OP_END << FLM_HEAD_OP_LO;
}

/* Trips of a LOOP; -1 for fault BOUND, -2 for fault OPCODE. */
static int64_t loop_count(const struct core *core, const struct insn *insn)
{
	uint64_t class = VALUE(insn, LOOP, CLASS), index = VALUE(insn, LOOP, INDEX);
	unsigned int shift = (unsigned int)VALUE(insn, LOOP, SHIFT);
	uint64_t bound = VALUE(insn, LOOP, BOUND), sub = VALUE(insn, LOOP, SUB);
	int64_t count;

	if (class == FLM_CLASS_CONST) {
		if (shift || index || VALUE(insn, LOOP, CEIL))
			return -2;
		count = (int64_t)sub;
	} else if ((class == FLM_CLASS_LENGTH && index < FLM_LENGTHS) ||
		   (class == FLM_CLASS_CORE && index < FLM_CORE_REGISTERS)) {
		count = class == FLM_CLASS_LENGTH ? core->pass->lengths[index] :
			core->pass->registers[core->index][index];
		count -= (int32_t)sub;
		if (count < 0)
			count = 0;
		if (VALUE(insn, LOOP, CEIL))
			count += ((int64_t)1 << shift) - 1;
		count >>= shift;
	} else {
		return -2;
	}
	if (bound > FLM_VALUE_MAX || count > (int64_t)bound)
		return -1;
	return count;
}

static int loop_open(struct core *core, unsigned int u)
{
	struct unit *unit = &core->units[u];
	uint64_t body = VALUE(&unit->insn, LOOP, BODY);
	uint32_t start = unit->at + unit->insn.words;
	int64_t count = loop_count(core, &unit->insn);

	if (unit->depth == FLM_LOOP_DEPTH || count == -2 || !body ||
	    !is_end(unit, start + body - 1))
		return core_fault_at(core, u, FLM_FAULT_OPCODE);
	if (count < 0)
		return core_fault_at(core, u, FLM_FAULT_BOUND);
	if (!count) {
		unit->at = start + (uint32_t)body;
		return 0;
	}
	unit->loops[unit->depth] = (struct loop) { start, (uint32_t)body, (uint32_t)count };
	unit->trips[unit->depth++] = 0;
	unit->at = start;
	return 0;
}

static int loop_close(struct core *core, unsigned int u)
{
	struct unit *unit = &core->units[u];
	const struct loop *loop;

	if (!unit->depth) {
		unit->phase = UNIT_ENDED;
		return 0;
	}
	loop = &unit->loops[unit->depth - 1];
	if (unit->at + 1 != loop->start + loop->body)
		return core_fault_at(core, u, FLM_FAULT_OPCODE);
	if (++unit->trips[unit->depth - 1] < loop->count) {
		unit->at = loop->start;
	} else {
		unit->depth--;
		unit->at++;
	}
	return 0;
}

/* Counts an instruction against the watchdog. */
static int start(struct core *core, unsigned int u)
{
	if (core->instructions == core->pass->watchdog)
		return core_fault_at(core, u, FLM_FAULT_WATCHDOG);
	core->instructions++;
	core->by_insn[core->units[u].insn.kind]++;
	core->by_unit[u]++;
	return 0;
}

static int fetch(struct core *core, unsigned int u)
{
	struct unit *unit = &core->units[u];
	const struct sources sources = {
		core->pass->lengths, core->pass->registers[core->index], unit->trips, unit->depth
	};
	enum flm_fault kind = decode(unit->stream.words + unit->at, unit->stream.count - unit->at,
				     u, &sources, &unit->insn);

	if (kind)
		return core_fault_at(core, u, kind);
	if (unit->insn.kind == FLM_INSN_LOOP)
		return start(core, u) ? -1 : loop_open(core, u);
	if (unit->insn.kind == FLM_INSN_END)
		return start(core, u) ? -1 : loop_close(core, u);
	unit->phase = UNIT_WAIT;
	return 0;
}

static bool take_tokens(struct core *core, unsigned int u)
{
	unsigned int wait = core->units[u].insn.wait, from;

	for (from = 0; from < FLM_UNITS; from++)
		if (wait >> from & 1 && !core->tokens[from][u])
			return false;
	for (from = 0; from < FLM_UNITS; from++)
		if (wait >> from & 1)
			core->tokens[from][u]--;
	return true;
}

static bool give_tokens(struct core *core, unsigned int u)
{
	unsigned int release = core->units[u].insn.release, to;

	for (to = 0; to < FLM_UNITS; to++)
		if (release >> to & 1 && core->tokens[u][to] == FLM_TOKEN_DEPTH)
			return false;
	for (to = 0; to < FLM_UNITS; to++)
		if (release >> to & 1)
			core->tokens[u][to]++;
	return true;
}

static int perform(struct core *core, unsigned int u)
{
	const struct insn *insn = &core->units[u].insn;
	int ret = 0;

	if (u == FLM_UNIT_SYS && insn->kind != FLM_INSN_SYNC) {
		core->units[u].phase = UNIT_MEET;
		return 0;
	}
	if (!insn->is_empty) {
		if (u == FLM_UNIT_LD || u == FLM_UNIT_ST)
			ret = move_run(core, insn);
		else if (u == FLM_UNIT_MISC)
			ret = sfu_run(core, insn);
		else
			ret = mpe_run(core, insn);
	}
	if (ret) {
		core->fault.unit = u;
		core->fault.word = core->units[u].at;
		return -1;
	}
	core->units[u].phase = UNIT_RELEASE;
	return 0;
}

/* One step of a unit: 1 it went on, 0 it waits or has ended, -1 the core must stop. */
static int unit_step(struct core *core, unsigned int u)
{
	struct unit *unit = &core->units[u];

	switch (unit->phase) {
	case UNIT_FETCH:
		if (core_is_aborted(core))
			return -1;
		return fetch(core, u) ? -1 : 1;
	case UNIT_WAIT:
		if (!take_tokens(core, u))
			return 0;
		if (start(core, u))
			return -1;
		if (unit->insn.is_outside)
			return core_fault_at(core, u, FLM_FAULT_BOUND);
		return perform(core, u) ? -1 : 1;
	case UNIT_RELEASE:
		if (!give_tokens(core, u))
			return 0;
		unit->at += unit->insn.words;
		unit->phase = UNIT_FETCH;
		return 1;
	default:
		return 0;
	}
}

void core_forget_work(struct core *core)
{
	__atomic_store_n(&core->mm_macs, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&core->mv_macs, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&core->bytes_read, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&core->bytes_written, 0, __ATOMIC_RELAXED);
	__atomic_store_n(&core->steps, 0, __ATOMIC_RELAXED);
}

void core_start(struct core *core, const struct exec_pass *pass)
{
	uint32_t tokens = pass->lengths[FLM_LENGTH_TOKENS], i;
	struct place ids = { .offset = 0, .buffer = FLM_BUFFER_IDX };
	unsigned int u;
	uint8_t *at;

	core->pass = pass;
	memset(core->tokens, 0, sizeof(core->tokens));
	memset(&core->fault, 0, sizeof(core->fault));
	memset(core->by_insn, 0, sizeof(core->by_insn));
	memset(core->by_unit, 0, sizeof(core->by_unit));
	core->choice.is_made = false;
	core->is_aborted = false;
	core->instructions = 0;
	core_forget_work(core);
	for (u = 0; u < FLM_UNITS; u++) {
		struct unit *unit = &core->units[u];

		unit->stream = pass->streams[u];
		unit->at = 0;
		unit->depth = 0;
		unit->phase = unit->stream.count ? UNIT_FETCH : UNIT_ENDED;
	}
	at = core_out(core, &ids, 0, 1, 0, (uint64_t)tokens * sizeof(uint32_t), 4);
	for (i = 0; at && pass->tokens && i < tokens; i++) {
		uint32_t id = htole32(pass->tokens[i]);

		memcpy(at + 4 * i, &id, sizeof(id));
	}
}

enum core_state core_run(struct core *core)
{
	unsigned int u, ended = 0;
	bool has_moved;

	do {
		has_moved = false;
		for (u = 0; u < FLM_UNITS; u++) {
			int step;

			while ((step = unit_step(core, u)) > 0)
				has_moved = true;
			if (step < 0)
				return CORE_FAULTY;
		}
	} while (has_moved);
	if (core->units[FLM_UNIT_SYS].phase == UNIT_MEET)
		return CORE_MEETING;
	for (u = 0; u < FLM_UNITS; u++)
		ended += core->units[u].phase == UNIT_ENDED;
	return ended == FLM_UNITS ? CORE_ENDED : CORE_STUCK;
}
