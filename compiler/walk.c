// SPDX-License-Identifier: MIT
/*
 * The card without its data: runs the six streams of every core for given length registers,
 * moving only tokens. It finds mistakes that no single instruction shows: a deadlock, tokens
 * left over or piled up, cores that do not meet at the same exchange. It reads words, not the
 * plan's ideas.
 */
#include <string.h>

#include "compiler/cc.h"

#include "lib/flightllm_isa.h"

struct open_loop {
	uint32_t start;		/* first word of the body */
	uint32_t count, trip;
};

struct unit {
	const uint32_t *words;
	uint32_t count, pc;
	unsigned int depth;
	struct open_loop loop[FLM_LOOP_DEPTH];
	bool is_done;
	bool is_meeting;	/* stands at an exchange, its tokens taken */
};

struct core {
	struct unit unit[FLM_UNITS];
	unsigned int tokens[FLM_UNITS][FLM_UNITS];	/* [from][to] */
	uint64_t instructions;
	unsigned int samples;
};

static void __attribute__((noreturn)) wrong(const struct walk *w, unsigned int unit, uint32_t pc,
					    const char *what)
{
	die_with(EXIT_UNVERIFIED, "verification: entry %u, %s, word %u (KV %u, %u tokens): %s",
		 w->entry, flm_isa_unit_name(unit), pc, w->lengths[FLM_LENGTH_KV],
		 w->lengths[FLM_LENGTH_TOKENS], what);
}

static uint32_t loop_count(const struct walk *w, unsigned int core, unsigned int unit,
			   const uint32_t *words, uint32_t pc)
{
	uint32_t class = FLM_GET(words, LOOP, CLASS), index = FLM_GET(words, LOOP, INDEX);
	uint32_t shift = FLM_GET(words, LOOP, SHIFT), sub = FLM_GET(words, LOOP, SUB);
	int64_t value;

	if (class == FLM_CLASS_CONST) {
		value = sub;
	} else {
		if (index >= FLM_LENGTHS || (class != FLM_CLASS_LENGTH && class != FLM_CLASS_CORE))
			wrong(w, unit, pc, "a loop counts what is no register");
		value = class == FLM_CLASS_LENGTH ? w->lengths[index] :
						    w->plan->registers[core][index];
		value = MAX(value - (int32_t)sub, 0);
		if (FLM_GET(words, LOOP, CEIL))
			value += (1ll << shift) - 1;
		value >>= shift;
	}
	if (value > FLM_GET(words, LOOP, BOUND))
		wrong(w, unit, pc, "a loop runs more often than its bound");
	return value;
}

static void loop_begin(const struct walk *w, unsigned int core, unsigned int unit, struct unit *u)
{
	const uint32_t *words = u->words + u->pc;
	uint32_t count = loop_count(w, core, unit, words, u->pc), body = FLM_GET(words, LOOP, BODY);

	if (u->depth == FLM_LOOP_DEPTH)
		wrong(w, unit, u->pc, "a loop too deep");
	u->pc += FLM_WORDS_LOOP;
	if (!count) {
		u->pc += body;
		return;
	}
	u->loop[u->depth++] = (struct open_loop) { u->pc, count, 0 };
}

static void loop_end(struct unit *u)
{
	struct open_loop *loop;

	u->pc++;
	if (!u->depth) {
		u->is_done = true;
		return;
	}
	loop = &u->loop[u->depth - 1];
	if (++loop->trip < loop->count)
		u->pc = loop->start;
	else
		u->depth--;
}

/* Tokens of an instruction: taken if all are there. */
static bool take(struct core *c, unsigned int unit, uint32_t word)
{
	uint32_t wait = flm_get(&word, 0, FLM_HEAD_WAIT_HI, FLM_HEAD_WAIT_LO);

	for (unsigned int from = 0; from < FLM_UNITS; from++)
		if (wait >> from & 1 && !c->tokens[from][unit])
			return false;
	for (unsigned int from = 0; from < FLM_UNITS; from++)
		c->tokens[from][unit] -= wait >> from & 1;
	return true;
}

static void give(const struct walk *w, struct core *c, unsigned int unit, uint32_t pc,
		 uint32_t word)
{
	uint32_t release = flm_get(&word, 0, FLM_HEAD_RELEASE_HI, FLM_HEAD_RELEASE_LO);

	for (unsigned int to = 0; to < FLM_UNITS; to++) {
		c->tokens[unit][to] += release >> to & 1;
		/* The card would wait; a program of ours never comes near. */
		if (c->tokens[unit][to] > FLM_TOKEN_DEPTH)
			wrong(w, unit, pc, "more tokens than a queue holds");
	}
}

/* Runs one unit as far as it goes. Returns whether it went anywhere. */
static bool unit_run(const struct walk *w, struct core *c, unsigned int core, unsigned int unit)
{
	struct unit *u = &c->unit[unit];
	bool moved = false;

	while (!u->is_done && !u->is_meeting) {
		uint32_t word, op;
		int words;

		if (u->pc >= u->count)
			wrong(w, unit, u->pc, "the stream has no end");
		word = u->words[u->pc];
		op = flm_get(&word, 0, FLM_HEAD_OP_HI, FLM_HEAD_OP_LO);
		if (op == FLM_OP_LOOP) {
			loop_begin(w, core, unit, u);
		} else if (op == FLM_OP_END) {
			loop_end(u);
		} else {
			if (!take(c, unit, word))
				return moved;
			words = flm_isa_words(u->words + u->pc, u->count - u->pc);
			if (words < 0)
				wrong(w, unit, u->pc, "no instruction");
			if (op == FLM_OP_MISC)
				c->samples += FLM_GET_HEAD(&word, MODE) == FLM_MISC_SAMPLE;
			if (op == FLM_OP_SYS && flm_isa_insn(word) != FLM_INSN_SYNC) {
				u->is_meeting = true;
			} else {
				give(w, c, unit, u->pc, word);
				u->pc += words;
			}
		}
		c->instructions++;
		moved = true;
	}
	return moved;
}

/* All cores stand at an exchange: the same one, in the same trips, or the program is wrong. */
static void meet(const struct walk *w, struct core *cores, unsigned int count)
{
	const struct unit *first = &cores[0].unit[FLM_UNIT_SYS];

	for (unsigned int i = 0; i < count; i++) {
		const struct unit *u = &cores[i].unit[FLM_UNIT_SYS];

		if (u->pc != first->pc || u->depth != first->depth)
			wrong(w, FLM_UNIT_SYS, u->pc, "cores meet at different exchanges");
		for (unsigned int d = 0; d < u->depth; d++)
			if (u->loop[d].trip != first->loop[d].trip)
				wrong(w, FLM_UNIT_SYS, u->pc, "cores meet in different trips");
	}
	for (unsigned int i = 0; i < count; i++) {
		struct unit *u = &cores[i].unit[FLM_UNIT_SYS];

		give(w, &cores[i], FLM_UNIT_SYS, u->pc, u->words[u->pc]);
		u->pc += flm_isa_words(u->words + u->pc, u->count - u->pc);
		u->is_meeting = false;
	}
}

static void check_end(const struct walk *w, const struct core *c)
{
	for (unsigned int unit = 0; unit < FLM_UNITS; unit++) {
		const struct unit *u = &c->unit[unit];

		if (!u->is_done)
			wrong(w, unit, u->pc, u->is_meeting ?
			      "waits at an exchange for cores that have ended" :
			      "waits for a token that never comes");
		if (u->pc != u->count)
			wrong(w, unit, u->pc, "words behind the end of the stream");
		for (unsigned int to = 0; to < FLM_UNITS; to++)
			if (c->tokens[unit][to])
				wrong(w, unit, u->pc, "tokens are left over");
	}
	if (c->samples != w->lengths[FLM_LENGTH_SAMPLE])
		wrong(w, FLM_UNIT_MISC, c->unit[FLM_UNIT_MISC].pc,
		      c->samples ? "samples more often than it should" : "ends without a sample");
}

uint64_t walk_run(const struct walk *w)
{
	unsigned int count = w->plan->card->cores;
	struct core cores[FLM_CORES_MAX];
	uint64_t most = 0;
	bool moved;

	memset(cores, 0, sizeof(cores));
	for (unsigned int i = 0; i < count; i++)
		for (unsigned int unit = 0; unit < FLM_UNITS; unit++) {
			cores[i].unit[unit].words = w->plan->streams[w->entry][unit].words;
			cores[i].unit[unit].count = w->plan->streams[w->entry][unit].count;
		}
	do {
		unsigned int meeting = 0;

		moved = false;
		for (unsigned int i = 0; i < count; i++)
			for (unsigned int unit = 0; unit < FLM_UNITS; unit++)
				moved |= unit_run(w, &cores[i], i, unit);
		for (unsigned int i = 0; i < count; i++)
			meeting += cores[i].unit[FLM_UNIT_SYS].is_meeting;
		if (meeting == count) {
			meet(w, cores, count);
			moved = true;
		}
	} while (moved);
	for (unsigned int i = 0; i < count; i++) {
		check_end(w, &cores[i]);
		most = MAX(most, cores[i].instructions);
	}
	return most;
}
