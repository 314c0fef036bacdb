/* SPDX-License-Identifier: MIT */
/* Shared by form.c (linear forms), verify_insn.c (one instruction) and verify.c (streams). */
#ifndef COMPILER_VERIFY_H
#define COMPILER_VERIFY_H

#include <stdarg.h>

#include "compiler/cc.h"

/* constant + lengths + loop indices, core registers put in; a size has a maximum besides. */
struct form {
	int64_t constant;
	int64_t length[FLM_LENGTHS];
	int64_t loop[FLM_LOOP_DEPTH];
	bool is_size;
	uint32_t max;
};

/* The checker's position. */
struct check {
	struct plan *plan;
	unsigned int entry, core, unit;
	uint32_t min[FLM_LENGTHS], max[FLM_LENGTHS];
	uint32_t at;			/* word in the stream */
	const uint32_t *words;
	unsigned int fixed;		/* words before the terms */
	unsigned int depth;
	struct {
		uint64_t count;		/* trips at most, for this core */
		uint32_t end;
	} loop[FLM_LOOP_DEPTH];
	/* What this entry's topk leaves in this core; SYS is looked at after MISC. */
	struct {
		int64_t at;		/* as FLM_CHIP() has it */
		uint32_t count;		/* 0: none yet */
	} candidates;
};

/* Bytes on chip: `rows` rows at `pitch`, each of each * size + more bytes. */
struct touch {
	const char *name;
	int word, number;		/* the ADDR operand */
	unsigned int buffer;	/* 1 + the one it must be; 0: any */
	int align;		/* 0: 1 */
	struct form rows;	/* no size: one row */
	int64_t pitch;
	struct form size;	/* no size: zero */
	int64_t each, more;
};

__attribute__((format(printf, 2, 3), noreturn))
void verify_fail(const struct check *c, const char *format, ...);

/* A term of an operand is added to a form. */
void form_add_term(struct check *c, struct form *f, uint32_t class, uint32_t index,
		   int64_t stride);
struct form form_read(struct check *c, int word, int number, bool is_address);
struct form form_size(struct check *c, int word, int number);
struct form form_sum(struct form a, struct form b, int64_t times);
int64_t form_greatest(const struct check *c, const struct form *f);
int64_t form_least(const struct check *c, const struct form *f);
bool form_is_zero(const struct check *c, const struct form *size);
/* Greatest value of base + (rows - 1) * pitch + each * size + more. */
int64_t form_end(const struct check *c, struct form base, const struct form *rows, int64_t pitch,
		 const struct form *size, int64_t each, int64_t more);
void form_touch(struct check *c, const struct touch *t);

/* The instruction at c->words: its operands, segments, tables. */
void verify_insn(struct check *c, int insn);

#endif
