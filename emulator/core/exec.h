/* SPDX-License-Identifier: MIT */
/*
 * The execution of passes: on-chip memory of all cores, six units a core, exchange between them.
 * The device (queue.c, job.c) decides what runs when; this part knows nothing of rings or time.
 *
 *	exec_new(&chip, threads, &exec);
 *	exec_clear(exec, cores);			a change of context
 *	if (exec_pass(exec, &pass, &result))		result.fault says why
 */
#ifndef EMULATOR_EXEC_H
#define EMULATOR_EXEC_H

#include <stdatomic.h>
#include <stdint.h>

#include <flightllm/isa.h>

#include "emulator/mem.h"

#define EXEC_CORES_MAX 8

struct exec;

/* On-chip memory of one core in bytes, by enum flm_buffer; each a multiple of 64. */
struct exec_chip {
	unsigned int cores;
	uint32_t buffer_bytes[FLM_BUFFERS];
};

struct exec_stream {
	const uint32_t *words;	/* host order; a copy that nobody changes while the job runs */
	uint32_t count;
};

/* Everything one pass needs; all memory is the caller's and constant while it runs. */
struct exec_pass {
	struct space *space;
	uint32_t cores;				/* mask of the job's cores */
	struct exec_stream streams[FLM_UNITS];
	uint32_t lengths[FLM_LENGTHS];
	uint32_t registers[EXEC_CORES_MAX][FLM_CORE_REGISTERS];
	const uint32_t *tokens;			/* [lengths[TOKENS]] ids; NULL: not written */
	const uint32_t *pages;			/* page list of the row */
	uint32_t page_count;
	uint32_t kv_start;			/* KV length at the job's start: shared below */
	struct {				/* logits wanted; the lowest core's segment */
		unsigned int wanted;		/* enum flm_logits_mode */
		unsigned int ends_prompt;	/* this pass ends the prompt or is entry 1 */
		unsigned int segment;
		uint64_t offset;
		uint32_t first, count;
		uint32_t stride;		/* bytes a row */
	} logits;
	struct {
		float temperature, top_p, min_p;
		uint32_t top_k;
		uint64_t seed;
	} sampler;
	uint64_t watchdog;			/* instructions a core may still execute */
	const atomic_bool *abort;		/* set: stop soon; the result does not matter */
};

/* The work of a pass that takes time. */
struct exec_work {
	uint64_t mm_macs, mv_macs, bytes_read, bytes_written;
	uint64_t steps;		/* accesses, strips, sixteen elements of MISC, 64 bytes exchanged */
};

struct exec_result {
	struct fault fault;			/* kind 0: none */
	int aborted;
	int sampled;				/* a token was chosen */
	uint32_t token;
	uint32_t top_count;			/* candidates SAMPLE saw, at most 64 */
	struct flm_candidate top[64];
	uint64_t instructions;			/* all cores */
	uint64_t by_insn[FLM_INSNS];		/* executed, all cores */
	struct exec_work work;			/* all cores */
	uint64_t core_instructions[EXEC_CORES_MAX];
	uint64_t by_unit[EXEC_CORES_MAX][FLM_UNITS];	/* executed */
};

/*
 * threads: host threads that compute for one pass, its caller included. They wait in their own pool
 * between passes. 0, -EINVAL (too many cores) or -ENOMEM.
 */
int exec_new(const struct exec_chip *chip, unsigned int threads, struct exec **exec);
void exec_free(struct exec *exec);

/* Zeroes the on-chip memory of these cores (only what was touched since the last time). */
void exec_clear(struct exec *exec, uint32_t cores);

/*
 * Runs a pass to its end. 0, or -1: result->fault or result->aborted says why. Passes on different
 * cores may run at once, from different threads.
 */
int exec_pass(struct exec *exec, const struct exec_pass *pass, struct exec_result *result);

/*
 * The work so far of the pass that runs on these cores; or, without one, of the last pass since
 * exec_forget_work(). Any thread.
 */
void exec_work_so_far(const struct exec *exec, uint32_t cores, struct exec_work *work);
/* No pass may run on these cores. */
void exec_forget_work(struct exec *exec, uint32_t cores);

/* For tests: one core's buffer. */
uint8_t *exec_buffer(struct exec *exec, unsigned int core, unsigned int buffer);

#endif
