// SPDX-License-Identifier: MIT
/*
 * One step of one unit: fetch, check, evaluate operands, loops, tokens. What an instruction does is
 * in ref_ops.c, and when a unit has its turn in ref_pass.c.
 */
#include <string.h>

#include "tests/ref/ref_machine.h"

enum slot_kind {
	SLOT_NONE,
	SLOT_EXPR,
	SLOT_ADDR,
	SLOT_SIZE,
};

/* isa.def as arrays: which bits of each fixed word may be set, and what each slot is. */
struct row {
	uint32_t op;
	uint32_t mode;
	uint32_t words;
	uint32_t flags;
	uint32_t bits[32];
	struct {
		enum slot_kind kind;
		int word;
	} slot[16];
};

static struct row rows[FLM_INSNS];
static uint32_t misc_uses[FLM_MISCS];

void ref_step_init(void)
{
	struct row *row = rows;

	memset(rows, 0, sizeof(rows));
#define INSN(name, o, m, w, mnemonic, meaning) \
	row = &rows[FLM_INSN_##name]; row->op = (o); row->mode = (m); row->words = (w);
#define FLAG(insn, name, bit, meaning) row->flags |= 1u << (bit);
#define OPND(insn, name, word, high, low, meaning) \
	row->bits[word] |= (0xffffffffu >> (31 - (high) + (low))) << (low);
#define EXPR(insn, name, w, s, meaning) \
	row->bits[w] = ~0u; row->slot[s].kind = SLOT_EXPR; row->slot[s].word = (w);
#define ADDR(insn, name, w, s, meaning) \
	row->bits[w] = ~0u; row->slot[s].kind = SLOT_ADDR; row->slot[s].word = (w);
#define SIZE(insn, name, w, s, meaning) \
	row->bits[w] = ~0u; row->bits[(w) + 1] = ~0u; \
	row->slot[s].kind = SLOT_SIZE; row->slot[s].word = (w);
#define MISC(name, mode, uses, mnemonic, meaning) misc_uses[mode] = (uses);
#include <flightllm/isa.def>
}

static const uint32_t stream_op[FLM_UNITS] = {
	FLM_OP_LD, FLM_OP_ST, FLM_OP_MM, FLM_OP_MV, FLM_OP_MISC, FLM_OP_SYS
};

static bool is_exchange(int insn)
{
	return rows[insn].op == FLM_OP_SYS && insn != FLM_INSN_SYNC;
}

/* The row of isa.def, or -1. MISC is one row for all its modes. */
static int find_row(uint32_t op, uint32_t mode)
{
	int i;

	for (i = 0; i < FLM_INSNS; i++) {
		if (rows[i].op != op)
			continue;
		if (op == FLM_OP_MISC ? mode < FLM_MISCS : rows[i].mode == mode)
			return i;
	}
	return -1;
}

static bool has_term(const uint32_t *words, int insn, uint32_t slot)
{
	uint32_t i;

	for (i = 0; i < FLM_GET_HEAD(words, TERMS); i++) {
		if (FLM_GET_TERM(words + rows[insn].words + 2 * i, OPERAND) == slot)
			return true;
	}
	return false;
}

/* An operand of MISC that the operation does not use must be zero, its terms included. */
static int check_misc(const uint32_t *words)
{
	uint32_t mode = FLM_GET_HEAD(words, MODE);
	uint32_t flags = FLM_GET_HEAD(words, FLAGS);
	uint32_t uses = misc_uses[mode];
	uint32_t allowed = 0;

	if (mode == FLM_MISC_SOFTMAX)
		allowed = FLM_MISC_MASK | FLM_MISC_SAME;
	if (mode == FLM_MISC_DEQUANT)
		allowed = FLM_MISC_HALF;
	if (flags & ~allowed)
		return FLM_FAULT_OPCODE;
	if (mode == FLM_MISC_SOFTMAX && !(flags & FLM_MISC_MASK))
		uses &= ~FLM_USE_B;
	if (!(uses & FLM_USE_A) && (FLM_GET(words, MISC, A) || FLM_GET(words, MISC, A_PITCH) ||
				    has_term(words, FLM_INSN_MISC, FLM_MISC_A_NUMBER)))
		return FLM_FAULT_OPCODE;
	if (!(uses & FLM_USE_B) && (FLM_GET(words, MISC, B) || FLM_GET(words, MISC, B_PITCH) ||
				    has_term(words, FLM_INSN_MISC, FLM_MISC_B_NUMBER)))
		return FLM_FAULT_OPCODE;
	if (!(uses & FLM_USE_C) && (FLM_GET(words, MISC, C) || FLM_GET(words, MISC, C_PITCH) ||
				    has_term(words, FLM_INSN_MISC, FLM_MISC_C_NUMBER)))
		return FLM_FAULT_OPCODE;
	if (mode == FLM_MISC_LAYERNORM && FLM_GET(words, MISC, C_PITCH))
		return FLM_FAULT_OPCODE;
	if (!(uses & FLM_USE_OUT) &&
	    (FLM_GET(words, MISC, OUT) || FLM_GET(words, MISC, OUT_PITCH) ||
	     has_term(words, FLM_INSN_MISC, FLM_MISC_OUT_NUMBER)))
		return FLM_FAULT_OPCODE;
	if (!(uses & FLM_USE_IMM) && FLM_GET(words, MISC, IMM))
		return FLM_FAULT_OPCODE;
	if (!(uses & FLM_USE_POS) && (FLM_GET(words, MISC, POS) ||
				      has_term(words, FLM_INSN_MISC, FLM_MISC_POS_NUMBER)))
		return FLM_FAULT_OPCODE;
	return FLM_FAULT_NONE;
}

/* Limits that belong to the encoding of one instruction. */
static int check_limits(const uint32_t *words, int insn)
{
	uint32_t tokens = 0, dim = 1, count = 1;

	switch (insn) {
	case FLM_INSN_MISC:
		return check_misc(words);
	case FLM_INSN_LD_KV:
		return FLM_GET(words, LD_KV, PAGE) % 64 ? FLM_FAULT_OPCODE : FLM_FAULT_NONE;
	case FLM_INSN_ST_KV:
		return FLM_GET(words, ST_KV, PAGE) % 64 ? FLM_FAULT_OPCODE : FLM_FAULT_NONE;
	case FLM_INSN_MM_LINEAR:
		tokens = words[FLM_MM_LINEAR_TOKENS_MAX_W];
		break;
	case FLM_INSN_MM_QK:
		tokens = words[FLM_MM_QK_TOKENS_MAX_W];
		dim = FLM_GET(words, MM_QK, DIM);
		break;
	case FLM_INSN_MM_PV:
		tokens = words[FLM_MM_PV_TOKENS_MAX_W];
		dim = FLM_GET(words, MM_PV, DIM);
		break;
	case FLM_INSN_MV_QK:
		dim = FLM_GET(words, MV_QK, DIM);
		break;
	case FLM_INSN_MV_PV:
		dim = FLM_GET(words, MV_PV, DIM);
		break;
	case FLM_INSN_SYS_TOPK:
		count = FLM_GET(words, SYS_TOPK, COUNT);
		break;
	}
	if (tokens > 128 || dim < 1 || dim > 1024 || count < 1 || count > 1024)
		return FLM_FAULT_OPCODE;
	return FLM_FAULT_NONE;
}

/* Everything about the instruction at u->pc that does not depend on values. */
static int check_encoding(const struct machine *m, const struct unit *u, int unit, int *insn)
{
	const uint32_t *words = m->isa->stream[unit] + u->pc;
	uint32_t left = m->isa->words[unit] - u->pc;
	const struct row *row;
	uint32_t op, terms, i;

	if (u->pc >= m->isa->words[unit])
		return FLM_FAULT_OPCODE;
	op = FLM_GET_HEAD(words, OP);
	*insn = find_row(op, FLM_GET_HEAD(words, MODE));
	if (*insn < 0)
		return FLM_FAULT_OPCODE;
	row = &rows[*insn];
	if (op == FLM_OP_LOOP || op == FLM_OP_END) {
		if (words[0] != op << FLM_HEAD_OP_LO)
			return FLM_FAULT_OPCODE;
	} else if (op != stream_op[unit] && *insn != FLM_INSN_SYNC) {
		return FLM_FAULT_OPCODE;
	}
	terms = FLM_GET_HEAD(words, TERMS);
	if (row->words + 2 * terms > left)
		return FLM_FAULT_OPCODE;
	if (FLM_GET_HEAD(words, FLAGS) & ~row->flags)
		return FLM_FAULT_OPCODE;
	if ((FLM_GET_HEAD(words, WAIT) | FLM_GET_HEAD(words, RELEASE)) & 1u << unit)
		return FLM_FAULT_OPCODE;
	for (i = 1; i < row->words; i++) {
		if (words[i] & ~row->bits[i])
			return FLM_FAULT_OPCODE;
	}
	for (i = 0; i < 16; i++) {
		uint32_t word = words[row->slot[i].word];

		if (row->slot[i].kind == SLOT_ADDR && word >> 28 >= FLM_BUFFERS)
			return FLM_FAULT_OPCODE;
		if (row->slot[i].kind == SLOT_SIZE &&
		    words[row->slot[i].word + 1] > FLM_VALUE_MAX)
			return FLM_FAULT_OPCODE;
	}
	for (i = 0; i < terms; i++) {
		const uint32_t *term = words + row->words + 2 * i;
		uint32_t index = FLM_GET_TERM(term, INDEX);

		if (row->slot[FLM_GET_TERM(term, OPERAND)].kind == SLOT_NONE || term[0] & 0xfffff)
			return FLM_FAULT_OPCODE;
		switch (FLM_GET_TERM(term, CLASS)) {
		case FLM_CLASS_LENGTH:
		case FLM_CLASS_CORE:
			if (index > 15)
				return FLM_FAULT_OPCODE;
			break;
		case FLM_CLASS_LOOP:
			if (index >= (uint32_t)u->depth)
				return FLM_FAULT_OPCODE;
			break;
		default:
			return FLM_FAULT_OPCODE;
		}
	}
	return check_limits(words, *insn);
}

static int64_t source(const struct machine *m, int core, const struct unit *u, const uint32_t *term)
{
	uint32_t index = FLM_GET_TERM(term, INDEX);

	switch (FLM_GET_TERM(term, CLASS)) {
	case FLM_CLASS_LENGTH:
		return m->isa->length[index];
	case FLM_CLASS_CORE:
		return m->isa->core[core].reg[index];
	default:
		return u->loop[index].trip;
	}
}

/* An operand that belongs to a flag which is not set is not looked at. */
static bool is_unused(const struct ref_insn *in, uint32_t slot)
{
	switch (in->insn) {
	case FLM_INSN_LD_KV:
		return !(in->flags & FLM_LD_KV_MASK) &&
		       (slot == FLM_LD_KV_QUERY_NUMBER || slot == FLM_LD_KV_QUERIES_NUMBER);
	case FLM_INSN_MM_QK:
		return !(in->flags & FLM_MM_QK_MASK) &&
		       (slot == FLM_MM_QK_QUERY_NUMBER || slot == FLM_MM_QK_KEY_NUMBER);
	case FLM_INSN_MM_PV:
		return !(in->flags & FLM_MM_PV_MASK) &&
		       (slot == FLM_MM_PV_QUERY_NUMBER || slot == FLM_MM_PV_KEY_NUMBER);
	case FLM_INSN_MV_QK:
		return !(in->flags & FLM_MV_QK_MASK) &&
		       (slot == FLM_MV_QK_QUERY_NUMBER || slot == FLM_MV_QK_KEY_NUMBER);
	case FLM_INSN_MV_PV:
		return !(in->flags & FLM_MV_PV_MASK) &&
		       (slot == FLM_MV_PV_QUERY_NUMBER || slot == FLM_MV_PV_KEY_NUMBER);
	default:
		return false;
	}
}

/* Values of all slots. Sets *is_idle when a size is zero: then nothing else is checked. */
static int evaluate(const struct machine *m, int core, const struct unit *u, struct ref_insn *in,
		    bool *is_idle)
{
	const struct row *row = &rows[in->insn];
	uint32_t i;

	*is_idle = false;
	for (i = 0; i < 16; i++) {
		uint32_t word = in->words[row->slot[i].word];
		struct ref_value *v = &in->slot[i];

		v->buffer = row->slot[i].kind == SLOT_ADDR ? word >> 28 : 0;
		v->value = row->slot[i].kind == SLOT_ADDR ? (int64_t)(word & 0xfffffff)
							  : (int32_t)word;
	}
	for (i = 0; i < FLM_GET_HEAD(in->words, TERMS); i++) {
		const uint32_t *term = in->words + row->words + 2 * i;

		in->slot[FLM_GET_TERM(term, OPERAND)].value +=
			(int64_t)(int32_t)term[1] * source(m, core, u, term);
	}
	for (i = 0; i < 16; i++) {
		struct ref_value *v = &in->slot[i];
		uint32_t max;

		if (row->slot[i].kind != SLOT_SIZE || is_unused(in, i))
			continue;
		max = in->words[row->slot[i].word + 1];
		if (v->value < 0)
			v->value = 0;
		if (v->value > max)
			v->value = max;
		if (!v->value)
			*is_idle = true;
	}
	if (*is_idle)
		return FLM_FAULT_NONE;
	for (i = 0; i < 16; i++) {
		int64_t value = in->slot[i].value;

		if (row->slot[i].kind == SLOT_EXPR && !is_unused(in, i) &&
		    (value < 0 || value >> 40))
			return FLM_FAULT_BOUND;
	}
	return FLM_FAULT_NONE;
}

static int do_loop(const struct machine *m, int core, int unit, struct unit *u)
{
	const uint32_t *words = m->isa->stream[unit] + u->pc;
	uint32_t class = FLM_GET(words, LOOP, CLASS);
	uint32_t index = FLM_GET(words, LOOP, INDEX);
	uint32_t shift = FLM_GET(words, LOOP, SHIFT);
	uint32_t ceil = FLM_GET(words, LOOP, CEIL);
	uint32_t bound = FLM_GET(words, LOOP, BOUND);
	uint32_t body = FLM_GET(words, LOOP, BODY);
	uint32_t first = u->pc + FLM_WORDS_LOOP;
	int64_t count, d;

	if (u->depth == FLM_LOOP_DEPTH)
		return FLM_FAULT_OPCODE;
	if (class == FLM_CLASS_CONST) {
		if (index || shift || ceil)
			return FLM_FAULT_OPCODE;
		count = FLM_GET(words, LOOP, SUB);
	} else if (class == FLM_CLASS_LENGTH || class == FLM_CLASS_CORE) {
		if (index > 15)
			return FLM_FAULT_OPCODE;
		d = class == FLM_CLASS_LENGTH ? m->isa->length[index]
					      : m->isa->core[core].reg[index];
		d -= (int32_t)FLM_GET(words, LOOP, SUB);
		if (d < 0)
			d = 0;
		count = (ceil ? d + ((int64_t)1 << shift) - 1 : d) >> shift;
	} else {
		return FLM_FAULT_OPCODE;
	}
	if (!body || body > m->isa->words[unit] - first ||
	    m->isa->stream[unit][first + body - 1] != (uint32_t)FLM_OP_END << FLM_HEAD_OP_LO)
		return FLM_FAULT_OPCODE;
	if (bound > FLM_VALUE_MAX || count > bound)
		return FLM_FAULT_BOUND;
	if (!count) {
		u->pc = first + body;
		return FLM_FAULT_NONE;
	}
	u->loop[u->depth++] = (struct loop){
		.body = first, .behind = first + body, .trip = 0, .count = count,
	};
	u->pc = first;
	return FLM_FAULT_NONE;
}

static int do_end(struct unit *u)
{
	struct loop *loop;

	if (!u->depth) {
		u->state = STATE_ENDED;
		return FLM_FAULT_NONE;
	}
	loop = &u->loop[u->depth - 1];
	if (u->pc + 1 != loop->behind)
		return FLM_FAULT_OPCODE;
	if (++loop->trip < loop->count) {
		u->pc = loop->body;
	} else {
		u->depth--;
		u->pc = loop->behind;
	}
	return FLM_FAULT_NONE;
}

/* Takes a token from every queue in `wait`, or none and returns false. */
static bool take_tokens(struct machine *m, int core, int unit, uint32_t wait)
{
	int u;

	for (u = 0; u < FLM_UNITS; u++) {
		if (wait & 1u << u && !m->tokens[core][u][unit])
			return false;
	}
	for (u = 0; u < FLM_UNITS; u++) {
		if (wait & 1u << u)
			m->tokens[core][u][unit]--;
	}
	return true;
}

static bool put_tokens(struct machine *m, int core, int unit, uint32_t release)
{
	int u;

	for (u = 0; u < FLM_UNITS; u++) {
		if (release & 1u << u && m->tokens[core][unit][u] == FLM_TOKEN_DEPTH)
			return false;
	}
	for (u = 0; u < FLM_UNITS; u++) {
		if (release & 1u << u)
			m->tokens[core][unit][u]++;
	}
	return true;
}

/* Counts an instruction that is about to be executed. */
static int watch(struct machine *m, int core)
{
	if (m->isa->watchdog && m->executed[core] == m->isa->watchdog)
		return FLM_FAULT_WATCHDOG;
	m->executed[core]++;
	return FLM_FAULT_NONE;
}

int ref_step(struct machine *m, int core, int unit, bool *did)
{
	struct unit *u = &m->unit[core][unit];
	const uint32_t *words = m->isa->stream[unit] + u->pc;
	int insn, ret;
	bool is_idle;

	*did = false;
	if (u->state == STATE_RELEASING) {
		if (!put_tokens(m, core, unit, u->release))
			return FLM_FAULT_NONE;
		u->pc = u->next;
		u->state = STATE_READY;
		*did = true;
		return FLM_FAULT_NONE;
	}
	if (u->state != STATE_READY)
		return FLM_FAULT_NONE;
	ret = check_encoding(m, u, unit, &insn);
	if (ret)
		return ret;
	if (insn == FLM_INSN_LOOP || insn == FLM_INSN_END) {
		*did = true;
		ret = watch(m, core);
		if (ret)
			return ret;
		return insn == FLM_INSN_LOOP ? do_loop(m, core, unit, u) : do_end(u);
	}
	if (!take_tokens(m, core, unit, FLM_GET_HEAD(words, WAIT)))
		return FLM_FAULT_NONE;
	*did = true;
	ret = watch(m, core);
	if (ret)
		return ret;
	u->insn = (struct ref_insn){
		.insn = insn, .mode = FLM_GET_HEAD(words, MODE),
		.flags = FLM_GET_HEAD(words, FLAGS), .words = words,
		.isa = m->isa, .core = core, .fault = &m->isa->core[core].fault,
	};
	u->next = u->pc + rows[insn].words + 2 * FLM_GET_HEAD(words, TERMS);
	u->release = FLM_GET_HEAD(words, RELEASE);
	ret = evaluate(m, core, u, &u->insn, &is_idle);
	if (ret)
		return ret;
	if (is_exchange(insn)) {
		u->state = STATE_MEETING;
		return FLM_FAULT_NONE;
	}
	u->state = STATE_RELEASING;
	return is_idle ? FLM_FAULT_NONE : ref_ops_do(&u->insn);
}
