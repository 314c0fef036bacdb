/* SPDX-License-Identifier: MIT */
/*
 * Writing the six streams of one entry: instructions, loops, and who waits for whom.
 *
 *	BEGIN(e, LD_LINEAR);
 *	OPERAND(e, LD_LINEAR, SEG, 2);
 *	EXPRESSION(e, LD_LINEAR, OFF, plus(value(64), FLM_CLASS_LOOP, 0, 768));
 *	SIZED(e, LD_LINEAR, BYTES, value(768), 768);
 *	emit(e);			in order behind whatever ran before
 *
 * Order. Everything except the weights runs in program order. A baton, one token, passes from each
 * instruction to the next on another unit, so nothing on chip is written before its last reader is
 * done. Weight tiles run ahead of the baton: LD and the unit that multiplies hand two halves of the
 * weight buffer back and forth (emit_free), and nothing else touches that buffer. LD and the
 * multiplier never pass the baton to each other directly, because their queues carry the halves;
 * SYS stands between.
 */
#ifndef COMPILER_STREAM_H
#define COMPILER_STREAM_H

#include "compiler/cc.h"

#define EXPR_TERMS 6

struct expr {
	int64_t constant;
	unsigned int terms;
	struct {
		unsigned int class, index;
		int64_t stride;
	} term[EXPR_TERMS];
};

struct emitter {
	struct plan *plan;
	unsigned int entry;
	struct stream *streams;		/* [FLM_UNITS] */
	const char *where;		/* operator being emitted, for errors */

	/* the instruction under construction */
	uint32_t words[FLM_WORDS_MAX];
	unsigned int unit, fixed, terms;

	/* open loops: where each stream's LOOP is */
	unsigned int depth;
	uint32_t loop_at[FLM_LOOP_DEPTH][FLM_UNITS];

	/* the baton: the last instruction in program order */
	bool has_baton;
	unsigned int baton_unit;
	uint32_t baton_at;
};

static inline struct expr value(int64_t constant)
{
	return (struct expr) { .constant = constant };
}

/* e + stride * source */
struct expr plus(struct expr e, unsigned int class, unsigned int index, int64_t stride);

void insn_begin(struct emitter *e, unsigned int op, unsigned int mode, unsigned int words);
void insn_flags(struct emitter *e, unsigned int flags);
void insn_put(struct emitter *e, int word, int high, int low, uint64_t v, const char *name);
void insn_expr(struct emitter *e, int word, int number, struct expr v, bool is_address,
	       const char *name);
void insn_size(struct emitter *e, int word, int number, struct expr v, uint64_t max,
	       const char *name);

#define BEGIN(e, insn) \
	insn_begin(e, FLM_OP_OF_##insn, FLM_MODE_##insn, FLM_WORDS_##insn)
#define OPERAND(e, insn, name, v) \
	insn_put(e, FLM_##insn##_##name##_W, FLM_##insn##_##name##_HI, FLM_##insn##_##name##_LO, \
		 v, #insn "." #name)
#define EXPRESSION(e, insn, name, v) \
	insn_expr(e, FLM_##insn##_##name##_W, FLM_##insn##_##name##_NUMBER, v, false, \
		  #insn "." #name)
#define ADDRESS(e, insn, name, v) \
	insn_expr(e, FLM_##insn##_##name##_W, FLM_##insn##_##name##_NUMBER, v, true, \
		  #insn "." #name)
#define SIZED(e, insn, name, v, max) \
	insn_size(e, FLM_##insn##_##name##_W, FLM_##insn##_##name##_NUMBER, v, max, \
		  #insn "." #name)

/* The instruction takes the baton: it runs when all before it in program order is done. */
void emit(struct emitter *e);
/* Waits for and releases only these units (masks of 1 << unit); leaves the baton where it is. */
void emit_free(struct emitter *e, unsigned int wait, unsigned int release);
/* BEGIN() of a SYNC, which only waits and releases, in the stream of any unit. */
void begin_sync(struct emitter *e, unsigned int unit);
/* Passes the baton to this unit, by a SYNC unless the unit has it. */
void baton_to(struct emitter *e, unsigned int unit);
/* The baton's next release must come from a later instruction than those in a closed loop. */
void baton_renew(struct emitter *e, unsigned int unit);

/* Loops in all streams; those of streams without an instruction inside vanish. */
void loop_constant(struct emitter *e, uint32_t count);
void loop_register(struct emitter *e, unsigned int class, unsigned int index, unsigned int shift,
		   uint32_t bound);
void loop_end(struct emitter *e);
/* The same around instructions of emit_free() alone: the baton stays outside. */
void loop_free_register(struct emitter *e, unsigned int class, unsigned int index,
			unsigned int shift, uint32_t bound);
void loop_free_end(struct emitter *e);

/* Closes all streams. */
void streams_end(struct emitter *e);

#endif
