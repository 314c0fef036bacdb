/* SPDX-License-Identifier: MIT */
/*
 * What emit.c, linear.c and attention.c share: sizes with their maximum, parts of values, one
 * shape of MISC.
 */
#ifndef COMPILER_EMIT_H
#define COMPILER_EMIT_H

#include "compiler/stream.h"

struct emit_size {
	struct expr value;
	uint64_t max;
};

/* A MISC instruction; what an operation does not use stays zero. */
struct emit_misc {
	enum flm_misc mode;
	unsigned int flags;
	struct expr a, b, c, out;
	uint32_t a_pitch, b_pitch, c_pitch, out_pitch;
	struct emit_size rows, cols;
	uint32_t imm;
	struct expr pos;
};

void emit_misc(struct emitter *e, const struct emit_misc *m);
/* Rows that an operator of this section works on. */
struct emit_size emit_rows(const struct emitter *e, enum section section);
/* Where this core's part of a value begins. */
struct expr emit_part(const struct plan *p, const struct value *v);

/* each * a core register, and its greatest value over the cores. */
struct emit_size emit_core(const struct plan *p, enum core_register r, uint32_t each);

void emit_linear(struct emitter *e, const struct op *op);
void emit_bias(struct emitter *e, const struct op *op);
void emit_attention(struct emitter *e, const struct op *op);

#endif
