/* SPDX-License-Identifier: MIT */
/*
 * Shared by emit.c, linear.c and attention.c: sizes with their maximum, parts of values, one
 * shape of MISC (operand.c); and the operators that have a file of their own.
 */
#ifndef COMPILER_EMIT_H
#define COMPILER_EMIT_H

#include "compiler/stream.h"

struct operand_size {
	struct expr value;
	uint64_t max;
};

/* A MISC instruction; operands that the operation does not use stay zero. */
struct operand_misc {
	enum flm_misc mode;
	unsigned int flags;
	struct expr a, b, c, out;
	uint32_t a_pitch, b_pitch, c_pitch, out_pitch;
	struct operand_size rows, cols;
	uint32_t imm;
	struct expr pos;
};

void operand_misc(struct emitter *e, const struct operand_misc *m);
/* Rows that an operator of this phase works on. */
struct operand_size operand_rows(const struct emitter *e, enum phase phase);
/* Start of this core's part of a value: at its place in the whole, or alone. */
struct expr operand_part(const struct plan *p, const struct value *v);

/* Its scales: a float32 for four strips. */
struct expr operand_scales(const struct value *v);
/* Elements of a core's part of a value, without the padding of its last strip. */
struct operand_size operand_cols(const struct plan *p, const struct value *v);

/* each * a core register, and its greatest value over the cores. */
struct operand_size operand_core(const struct plan *p, enum core_register r, uint32_t each);

void emit_linear(struct emitter *e, const struct op *op);
void emit_bias(struct emitter *e, const struct op *op);
void emit_attention(struct emitter *e, const struct op *op);

#endif
