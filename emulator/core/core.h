/* SPDX-License-Identifier: MIT */
/*
 * One compute core inside a pass: its on-chip memory, its six units and what the units' operations
 * share. Every on-chip byte that an instruction touches passes core_in() or core_out(), every byte
 * of memory core_load() or core_store(); each checks the whole range once and refuses it with a
 * fault. On-chip memory is accessed as bytes or by memcpy(), so no type or alignment is assumed.
 */
#ifndef EMULATOR_CORE_H
#define EMULATOR_CORE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "emulator/core/decode.h"
#include "emulator/core/dot.h"
#include "emulator/core/exec.h"

enum unit_phase {
	UNIT_FETCH,		/* at the start of an instruction */
	UNIT_WAIT,		/* decoded, waits for tokens */
	UNIT_MEET,		/* SYS: at an exchange, waits for the other cores */
	UNIT_RELEASE,		/* done, waits for room for its tokens */
	UNIT_ENDED,
};

struct loop {
	uint32_t start, body;	/* words */
	uint32_t count;
};

struct unit {
	struct exec_stream stream;
	uint32_t at;		/* word of the current instruction */
	enum unit_phase phase;
	unsigned int depth;
	struct loop loops[FLM_LOOP_DEPTH];
	uint32_t trips[FLM_LOOP_DEPTH];
	struct insn insn;
};

/* What SAMPLE saw in a pass. */
struct choice {
	bool is_made;
	uint32_t word;
	uint32_t count;
	struct flm_candidate candidates[FLM_TOPK_MAX];
};

/* Work space of operations; nothing in it outlives an instruction. */
struct scratch {
	float *rows[4];			/* [largest buffer / 4 + 64] each */
	uint8_t *bytes;			/* [largest buffer + 64] */
	uint8_t codes[FLM_TILE_COLS * FLM_STRIP];
	float scales[FLM_TILE_COLS / FLM_GROUP][FLM_STRIP];
	int32_t sums[FLM_CHUNK_MAX][FLM_TILE_COLS / FLM_GROUP];
};

struct core {
	unsigned int index;
	uint8_t *buffers[FLM_BUFFERS];
	uint32_t buffer_bytes[FLM_BUFFERS];
	uint32_t dirty_from[FLM_BUFFERS], dirty_to[FLM_BUFFERS];	/* written since cleared */
	struct scratch *scratch;
	const struct dot *dot;

	/* of the pass */
	const struct exec_pass *pass;
	struct unit units[FLM_UNITS];
	uint8_t tokens[FLM_UNITS][FLM_UNITS];	/* [from][to] */
	struct choice choice;
	struct fault fault;
	bool is_aborted;
	uint64_t instructions, by_insn[FLM_INSNS], by_unit[FLM_UNITS];
	/* atomic: read while the pass runs */
	uint64_t mm_macs, mv_macs, bytes_read, bytes_written, steps;
};

/* State of a core. */
enum core_state {
	CORE_READY,		/* can go on, no thread has it */
	CORE_RUNNING,
	CORE_MEETING,		/* SYS stands at an exchange, nothing else can go on */
	CORE_STUCK,		/* units wait for tokens that no unit of this core will send */
	CORE_ENDED,
	CORE_FAULTY,
};

/* Sets the counts of a pass's cost to zero. */
void core_forget_work(struct core *core);

/* Before a pass: streams at their start, nothing counted, the ids of its tokens on chip. */
void core_start(struct core *core, const struct exec_pass *pass);

/* Runs the units until none can go on by itself. Never returns CORE_READY or CORE_RUNNING. */
enum core_state core_run(struct core *core);

/* Refuses the current instruction for another reason than memory: sets the fault, returns -1. */
int core_fault(struct core *core, enum flm_fault kind);
/* The same, and names the instruction at which unit `u` stands. */
int core_fault_at(struct core *core, unsigned int u, enum flm_fault kind);

/* True once the pass is to stop. */
bool core_is_aborted(struct core *core);

/*
 * A row, strip or access of an instruction begins: counts the cycles that it takes at the least.
 * True once the pass is to stop; every loop whose trips a program chooses asks it.
 */
bool core_step(struct core *core, uint64_t cycles);

/* Only the thread that has the core adds to a counter of it. */
static inline void core_count(uint64_t *counter, uint64_t n)
{
	__atomic_store_n(counter, *counter + n, __ATOMIC_RELAXED);
}

/*
 * `rows` rows of `bytes` bytes, `pitch` apart, at `place` + `skip`. NULL after fault BUFFER. No
 * rows or no bytes: nothing is checked, and nothing may be touched through the result.
 */
const uint8_t *core_in(struct core *core, const struct place *place, uint64_t skip, uint64_t rows,
		       uint64_t pitch, uint64_t bytes, unsigned int align);
uint8_t *core_out(struct core *core, const struct place *place, uint64_t skip, uint64_t rows,
		  uint64_t pitch, uint64_t bytes, unsigned int align);

/* Moves bytes of a segment; 0 bytes are no access. 0, or -1 after a fault. */
int core_load(struct core *core, uint64_t segment, uint64_t offset, void *to, uint64_t bytes);
int core_store(struct core *core, uint64_t segment, uint64_t offset, const void *from,
	       uint64_t bytes);
/* The same with the segment of the job's lowest core: what a job record names. */
int core_store_job(struct core *core, uint64_t segment, uint64_t offset, const void *from,
		   uint64_t bytes);

/* a + b * c, or UINT64_MAX where that does not fit: an offset that no segment contains. */
uint64_t core_offset(uint64_t a, uint64_t b, uint64_t c);

/* A block mask: which blocks of 64 x 64 of queries and keys are computed. */
struct mask {
	const uint8_t *bits;	/* byte of the first key block, row of the first query block */
	uint64_t pitch;
	uint64_t first_query, first_byte;
};

/* The part for these positions; 0, or -1 after a fault. queries and keys are at least 1. */
int core_mask(struct core *core, const struct place *place, uint64_t pitch, uint64_t query,
	      uint64_t queries, uint64_t key, uint64_t keys, struct mask *mask);

static inline bool mask_keeps(const struct mask *mask, uint64_t query_block, uint64_t key_block)
{
	return mask->bits[(query_block - mask->first_query) * mask->pitch +
			  (key_block / 8 - mask->first_byte)] >> (key_block % 8) & 1;
}

/* The operations of the units: 0, or -1 after a fault or when the pass is to stop. */
int move_run(struct core *core, const struct insn *insn);	/* LD and ST */
int mpe_run(struct core *core, const struct insn *insn);	/* MM and MV */
int sfu_run(struct core *core, const struct insn *insn);	/* MISC */

/* The same exchange instruction, in the same trip of every loop. Both stand at UNIT_MEET. */
bool exchange_is_same(const struct core *a, const struct core *b);

/*
 * Does an exchange. All `count` cores of the job, in ascending order, stand at UNIT_MEET at the
 * same place. Returns NULL, or the core whose fault was set.
 */
struct core *exchange_run(struct core *const *cores, unsigned int count);

#endif
