/* SPDX-License-Identifier: MIT */
/*
 * A job as record.c takes it apart and job.c runs it: copies of its description, and its progress.
 * Between two passes the whole state of a job is here, and none of it on the chip.
 */
#ifndef EMULATOR_JOB_H
#define EMULATOR_JOB_H

#include <endian.h>
#include <string.h>

#include "emulator/device/device.h"

struct job {
	struct flm_job_record record;
	struct flm_sequence sequence;
	struct flm_program *program;	/* header alone */
	uint32_t *words[2][FLM_UNITS];	/* entries 0 and 1, host order */
	uint32_t counts[2][FLM_UNITS];
	uint32_t *pages;
	unsigned int core;		/* the lowest of the queue's: whose table it reads */
	uint64_t watchdog;
	uint32_t prompt, generate, chunk;	/* of sequence and program */
	uint32_t fed;			/* prompt tokens fed, then generated ones too */
	uint32_t made;			/* tokens generated */
	uint32_t token;			/* the last of them */
	uint32_t told;			/* of them when the host was last notified */
	int64_t told_ns;
};

/* Offsets that no segment contains are as good as any other. */
static inline uint64_t job_add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

static inline float job_float(__le32 bits)
{
	uint32_t word = le32toh(bits);
	float value;

	memcpy(&value, &word, sizeof(value));
	return value;
}

/* Copies memory that describes the job. For a job that is given up the bytes do not matter. */
enum step job_fetch(struct queue *queue, unsigned int segment, uint64_t offset, void *to,
		    uint64_t bytes, unsigned int rights);

/* Ends a slot with a refused access to memory that the job names: a fault of its lowest core. */
enum step job_refused(struct queue *queue);

#endif
