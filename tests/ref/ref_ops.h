/* SPDX-License-Identifier: MIT */
/*
 * What ref_isa.c, which brings an instruction to its start, hands to ref_ops.c, which does it: the
 * instruction with its operands evaluated.
 */
#ifndef TESTS_REF_OPS_H
#define TESTS_REF_OPS_H

#include <string.h>

#include "tests/ref/ref_isa.h"

/* The value of a slot after constant and terms are added and clamped. */
struct ref_value {
	int buffer;		/* ADDR only */
	int64_t value;		/* number, byte offset in the buffer, or size */
};

struct ref_insn {
	int insn;		/* FLM_INSN_ */
	uint32_t mode;
	uint32_t flags;
	const uint32_t *words;
	struct ref_value slot[16];
	struct ref_isa *isa;
	int core;
	struct ref_fault *fault;	/* the core's; segment and offset where they matter */
};

#define VALUE(in, insn, operand) ((in)->slot[FLM_##insn##_##operand##_NUMBER].value)
#define PLACE(in, insn, operand) ((in)->slot[FLM_##insn##_##operand##_NUMBER])
#define FIELD(in, insn, operand) FLM_GET((in)->words, insn, operand)

/* Bytes of a segment of the instruction's core; a kind of fault if they are not all there. */
int ref_memory(struct ref_insn *in, uint32_t segment, uint64_t offset, uint64_t bytes,
	       uint32_t right, uint8_t **at);

/* On-chip bytes `add` behind `place`, of the instruction's core or of any. No bytes: no fault. */
int ref_chip(struct ref_insn *in, struct ref_value place, int64_t add, uint64_t bytes, int align,
	     uint8_t **at);
int ref_chip_of(struct ref_insn *in, int core, struct ref_value place, int64_t add,
		uint64_t bytes, int align, uint8_t **at);

/* The same check for every row of an operand, without the bytes. */
int ref_chip_rows(struct ref_insn *in, struct ref_value place, uint64_t rows, uint64_t pitch,
		  uint64_t bytes, int align);

/* And for the bytes of a block mask that tell of these query and key blocks. */
int ref_chip_mask(struct ref_insn *in, struct ref_value place, uint32_t pitch, uint64_t first_query,
		  uint64_t last_query, uint64_t first_key, uint64_t last_key);

/* Bit `key_block` of row `query_block` of a block mask. */
int ref_is_kept(struct ref_insn *in, struct ref_value masks, uint32_t pitch,
		uint64_t query_block, uint64_t key_block, bool *kept);

static inline uint32_t ref_get32(const uint8_t *at)
{
	return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void ref_put32(uint8_t *at, uint32_t value)
{
	at[0] = value;
	at[1] = value >> 8;
	at[2] = value >> 16;
	at[3] = value >> 24;
}

static inline float ref_get_float(const uint8_t *at)
{
	return ref_isa_bits(ref_get32(at));
}

static inline void ref_put_float(uint8_t *at, float x)
{
	uint32_t bits;

	memcpy(&bits, &x, sizeof(bits));
	ref_put32(at, x != x ? 0x7fc00000 : bits);
}

/* A row of a strip table, and the sizes of the parts of its tile before they are padded. */
struct ref_strip {
	int width;
	bool is_sparse;
	uint32_t blocks;
	uint64_t codes, n, masks, scales;	/* bytes from the start of the segment */
};

int ref_read_strip(struct ref_insn *in, uint32_t segment, uint64_t table, uint64_t row,
		   struct ref_strip *s);
int ref_part_bytes(const struct ref_strip *s, const uint8_t *n, uint64_t *codes, uint64_t *masks);
uint64_t ref_scale_bytes(const struct ref_strip *s);

static inline uint64_t ref_pad64(uint64_t bytes)
{
	return (bytes + 63) / 64 * 64;
}

/* All but exchanges; no size is zero. Returns a kind of fault. */
int ref_ops_do(struct ref_insn *in);
int ref_ops_matrix(struct ref_insn *in);
int ref_ops_misc(struct ref_insn *in);

/* One exchange: in[core] of every core. A fault is that of *core. */
int ref_ops_exchange(struct ref_insn *in, int cores, int *core);

#endif
