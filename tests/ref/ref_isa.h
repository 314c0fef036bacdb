/* SPDX-License-Identifier: MIT */
/*
 * The card's arithmetic a second time, written from SPEC.md alone: runs one pass of six instruction
 * streams on all cores of a job. Nothing here is fast and nothing is shared with the emulator.
 *
 *	struct ref_isa isa = { .cores = 1, .buffer_bytes = { 65536, 65536, 65536, 65536 } };
 *	struct ref_fault fault;
 *
 *	ref_isa_init(&isa);			allocates the on-chip buffers
 *	isa.stream[FLM_UNIT_LD] = words;
 *	isa.words[FLM_UNIT_LD] = 11;
 *	isa.core[0].segment[1] = (struct ref_segment){ bytes, length, FLM_RIGHT_R };
 *	if (ref_isa_run(&isa, &fault))
 *		printf("fault %d, unit %d, word %u\n", fault.kind, fault.unit, fault.word);
 *	memcmp(isa.core[0].buffer[FLM_BUFFER_ACT], ...);
 *	ref_isa_fini(&isa);
 */
#ifndef TESTS_REF_ISA_H
#define TESTS_REF_ISA_H

#include <stdbool.h>
#include <stdint.h>

#include <flightllm/isa.h>
#include <flightllm/queue.h>

struct ref_fault {
	enum flm_fault kind;
	int core;
	int unit;		/* enum flm_unit */
	uint32_t word;		/* of the instruction, in its stream */
	int segment;		/* SEGMENT and RIGHTS, else 0 */
	uint64_t offset;
};

struct ref_segment {
	uint8_t *bytes;		/* caller's */
	uint64_t length;	/* 0: not bound */
	uint32_t rights;	/* FLM_RIGHT_ */
};

struct ref_candidate {
	float logit;
	uint32_t id;
};

struct ref_core {
	uint8_t *buffer[FLM_BUFFERS];
	uint32_t reg[FLM_CORE_REGISTERS];
	struct ref_segment segment[FLM_SEGMENTS];

	/* after a pass */
	struct ref_fault fault;	/* the core's own, if any */
	bool has_sampled;
	uint32_t sampled_at;	/* word of its SAMPLE */
	struct ref_candidate chosen_from[FLM_TOPK_MAX];
	uint32_t chosen_from_count;
};

/* Which logits the job wants: its record's logits_ fields. The segment is core 0's. */
struct ref_logits {
	enum flm_logits_mode mode;
	int segment;
	uint64_t offset;
	uint64_t first;
	uint64_t count;
	uint64_t stride;	/* bytes */
};

struct ref_sampler {
	float temperature;
	uint32_t top_k;
	float top_p;
	float min_p;
	uint64_t seed;
};

struct ref_isa {
	int cores;
	uint32_t buffer_bytes[FLM_BUFFERS];
	struct ref_core core[FLM_CORES];

	const uint32_t *stream[FLM_UNITS];
	uint32_t words[FLM_UNITS];
	uint32_t length[FLM_LENGTHS];	/* the pass's registers; POS, TOKENS, SAMPLE are used too */
	const uint32_t *tokens;		/* length[TOKENS] ids, or NULL: the index buffer stays */
	const uint32_t *pages;
	uint32_t page_count;
	uint64_t kv_start;		/* positions that were cached when the job started */
	bool ends_prompt;		/* this pass ends the prompt, or is entry 1 */
	uint64_t watchdog;		/* instructions a core may execute; 0: no end */
	struct ref_logits logits;
	struct ref_sampler sampler;

	uint32_t token;			/* result of SAMPLE, if core[0].has_sampled */
};

/* Allocates zeroed buffers of buffer_bytes for every core; 0, or -1 without memory. */
int ref_isa_init(struct ref_isa *isa);
void ref_isa_fini(struct ref_isa *isa);

/* Runs one pass. Returns 0, or the kind of the lowest core's fault, which it copies to `fault`. */
int ref_isa_run(struct ref_isa *isa, struct ref_fault *fault);

/* Chapter Numbers and chapter Sampling, one function a paragraph. */
float ref_isa_bits(uint32_t bits);
float ref_isa_half(uint16_t half);
float ref_isa_sum(const float *x, uint32_t n);
float ref_isa_exp(float x);
float ref_isa_sigmoid(float x);
void ref_isa_philox(const uint32_t counter[4], const uint32_t key[2], uint32_t out[4]);
uint32_t ref_isa_choose(const struct ref_candidate *candidates, uint32_t count,
			const struct ref_sampler *sampler, uint64_t position);

#endif
