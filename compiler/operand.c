// SPDX-License-Identifier: MIT
/*
 * Operands that several emitters need: how many rows, which part of a value a core has and where,
 * as expressions of length and core registers; and the one shape of MISC.
 */
#include "compiler/emit.h"

struct operand_size operand_rows(const struct emitter *e, enum phase phase)
{
	const struct plan *p = e->plan;
	struct operand_size size = { value(1), 1 };

	if (phase == PHASE_ROWS) {
		size.max = p->logit_rows;
		size.value = plus(value(0), FLM_CLASS_LENGTH, FLM_LENGTH_LOGIT_ROWS, 1);
		size.value = plus(size.value, FLM_CLASS_LOOP, 0, -(int64_t)p->logit_rows);
	} else if (phase != PHASE_LAST && e->entry == 0) {
		size.max = p->chunk;
		size.value = plus(value(0), FLM_CLASS_LENGTH, FLM_LENGTH_TOKENS, 1);
	}
	return size;
}

struct operand_size operand_core(const struct plan *p, enum core_register r, uint32_t each)
{
	return (struct operand_size) {
		plus(value(0), FLM_CLASS_CORE, r, each), (uint64_t)p->register_max[r] * each
	};
}

struct operand_size operand_cols(const struct plan *p, const struct value *v)
{
	uint32_t dim = p->config->head_dim;

	switch (v->split) {
	case SPLIT_Q:
		return operand_core(p, CORE_KV_HEADS, p->heads_per_kv * dim);
	case SPLIT_KV:
		return operand_core(p, CORE_KV_HEADS, dim);
	case SPLIT_HIDDEN:
		return operand_core(p, CORE_HIDDEN_ROWS, 1);
	case SPLIT_FFN:
		return operand_core(p, CORE_FFN_ROWS, 1);
	case SPLIT_VOCAB:
		return operand_core(p, CORE_VOCAB_ROWS, 1);
	default:
		return (struct operand_size) { value(v->cols), v->cols };
	}
}

struct expr operand_part(const struct plan *p, const struct value *v)
{
	uint32_t element = v->type == VALUE_Q8 ? 1 : 4;
	struct expr at = value(v->at);

	if (!v->is_full)
		return at;
	switch (v->split) {
	case SPLIT_Q:
		return plus(at, FLM_CLASS_CORE, CORE_KV_FIRST,
			    p->heads_per_kv * p->config->head_dim * element);
	case SPLIT_HIDDEN:
		return plus(at, FLM_CLASS_CORE, CORE_HIDDEN_FIRST, FLM_STRIP * element);
	case SPLIT_FFN:
		return plus(at, FLM_CLASS_CORE, CORE_FFN_FIRST, FLM_STRIP * element);
	default:
		return at;
	}
}

struct expr operand_scales(const struct value *v)
{
	struct expr at = value(v->scale_at);

	return v->is_full && v->split == SPLIT_FFN ?
		plus(at, FLM_CLASS_CORE, CORE_FFN_FIRST, 4 * FLM_STRIP / FLM_GROUP) : at;
}

void operand_misc(struct emitter *e, const struct operand_misc *m)
{
	insn_begin(e, FLM_OP_MISC, m->mode, FLM_WORDS_MISC);
	insn_flags(e, m->flags);
	ADDRESS(e, MISC, A, m->a);
	OPERAND(e, MISC, A_PITCH, m->a_pitch);
	ADDRESS(e, MISC, B, m->b);
	OPERAND(e, MISC, B_PITCH, m->b_pitch);
	ADDRESS(e, MISC, C, m->c);
	OPERAND(e, MISC, C_PITCH, m->c_pitch);
	ADDRESS(e, MISC, OUT, m->out);
	OPERAND(e, MISC, OUT_PITCH, m->out_pitch);
	SIZED(e, MISC, ROWS, m->rows.value, m->rows.max);
	SIZED(e, MISC, COLS, m->cols.value, m->cols.max);
	OPERAND(e, MISC, IMM, m->imm);
	EXPRESSION(e, MISC, POS, m->pos);
	emit(e);
}
