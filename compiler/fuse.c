// SPDX-License-Identifier: MIT
/*
 * Fusion: operators that work element by element or row by row take their operand's place, so
 * that a chain of them (linear, silu, mul, hadamard; linear, rope; attention, gather) runs on one
 * set of bytes on chip and nothing is moved between. What makes it legal: the operand is read
 * here for the last time, and the card reads all of a row before it writes any of it.
 */
#include "compiler/cc.h"

static bool is_read_after(const struct plan *p, int op, const struct value *v)
{
	for (int i = op + 1; i < p->op_count; i++)
		for (int j = 0; j < OP_INPUTS; j++)
			if (p->ops[i]->in[j] == v)
				return true;
	return false;
}

static bool is_in_place(enum op_kind kind)
{
	switch (kind) {
	case OP_HADAMARD:
	case OP_ROPE:
	case OP_SILU:
	case OP_MUL:
	case OP_ADD:
	case OP_GATHER:		/* each core's part lies where the whole expects it */
		return true;
	default:
		return false;
	}
}

void fuse_run(struct plan *p)
{
	stage_begin(p, STAGE_FUSE);
	for (int i = 0; i < p->op_count; i++) {
		struct op *op = p->ops[i];

		if (is_in_place(op->kind) && op->in[0]->type == op->out->type &&
		    !is_read_after(p, i, op->in[0]))
			op->out->alias = op->in[0];
	}
	graph_check(p, "fuse");
}
