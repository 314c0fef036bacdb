/* SPDX-License-Identifier: MIT */
/*
 * What the tests of the ioctls share: a device behind the library's seam (the kernel's node, or
 * with FLIGHTLLM_EMULATE=PROFILE the card in the process), calls that return 0 or -errno, and a
 * small program by hand, because there is no compiler down here.
 *
 * Helpers that begin with an underscore give the raw result; the others must work and return what
 * they made, or end the test.
 */
#ifndef TESTS_UAPI_H
#define TESTS_UAPI_H

#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include <drm/flightllm_accel.h>

#include <flightllm/queue.h>

#include "lib/internal.h"

#define CALL(dev, name, args) ((dev)->ioctl((dev)->handle, DRM_IOCTL_FLIGHTLLM_##name, (args)))
#define DRM(dev, name, args) ((dev)->ioctl((dev)->handle, DRM_IOCTL_##name, (args)))

static inline void must(int ret, const char *what)
{
	if (ret) {
		fprintf(stderr, "# %s failed: %s\n", what, strerror(-ret));
		exit(1);
	}
}

static inline bool is_emulated(void)
{
	return getenv("FLIGHTLLM_EMULATE") != NULL;
}

static inline int _device_open(struct seam *dev)
{
	char node[FLM_NAME_BYTES], bus[FLM_NAME_BYTES];

	if (is_emulated())
		return soft_open(getenv("FLIGHTLLM_EMULATE"), dev);
	return drm_open(NULL, dev, node, bus);
}

static inline void device_open(struct seam *dev)
{
	must(_device_open(dev), "opening the device");
}

static inline void device_close(struct seam *dev)
{
	dev->close(dev->handle);
}

static inline int _query(struct seam *dev, uint32_t type, void *to, uint32_t bytes)
{
	struct drm_flightllm_dev_query query = {
		.type = type, .size = bytes, .pointer = (uintptr_t)to,
	};

	return CALL(dev, DEV_QUERY, &query);
}

static inline void query_of(struct seam *dev, uint32_t type, void *to, uint32_t bytes)
{
	must(_query(dev, type, to, bytes), "DEV_QUERY");
}

static inline struct drm_flightllm_query_card query_card(struct seam *dev)
{
	struct drm_flightllm_query_card card = { 0 };

	query_of(dev, DRM_FLIGHTLLM_QUERY_CARD, &card, sizeof(card));
	return card;
}

static inline struct drm_flightllm_query_memory query_memory(struct seam *dev)
{
	struct drm_flightllm_query_memory memory = { 0 };

	query_of(dev, DRM_FLIGHTLLM_QUERY_MEMORY, &memory, sizeof(memory));
	return memory;
}

static inline struct drm_flightllm_query_counters query_counters(struct seam *dev)
{
	struct drm_flightllm_query_counters counters = { 0 };

	query_of(dev, DRM_FLIGHTLLM_QUERY_COUNTERS, &counters, sizeof(counters));
	return counters;
}

static inline struct drm_flightllm_query_health query_health(struct seam *dev)
{
	struct drm_flightllm_query_health health = { 0 };

	query_of(dev, DRM_FLIGHTLLM_QUERY_HEALTH, &health, sizeof(health));
	return health;
}

static inline struct drm_flightllm_region region_of(struct seam *dev, uint32_t id)
{
	struct drm_flightllm_query_memory memory = query_memory(dev);

	for (uint32_t i = 0; i < memory.count; i++)
		if (memory.regions[i].id == id)
			return memory.regions[i];
	fprintf(stderr, "# the card has no region %u\n", id);
	exit(1);
}

/* ---- Refusals ---- */

/* One field of a good argument made wrong, and the errno for it. */
struct refusal {
	const char *what;
	size_t offset, bytes;
	uint64_t value;
	int error;
};

#define REFUSAL(type, field, value, error) \
	{ #field " = " #value, offsetof(struct type, field), sizeof(((struct type *)0)->field), \
	  value, error }

/*
 * Makes the call with each row's `bad`, a copy of `good` with its one field changed; a row that is
 * not refused, or with another errno, is named.
 *
 *	EXPECT_REFUSED(rows, good, bad, CALL(&self->dev, BO_CREATE, &bad));
 */
#define EXPECT_REFUSED(rows, good, bad, call) \
	do { \
		for (size_t i = 0; i < sizeof(rows) / sizeof((rows)[0]); i++) { \
			__typeof__(good) bad = good; \
			\
			memcpy((uint8_t *)&bad + (rows)[i].offset, &(rows)[i].value, \
			       (rows)[i].bytes); \
			EXPECT_EQ(-(rows)[i].error, call) \
				TH_LOG("%s", (rows)[i].what); \
		} \
	} while (0)

/* ---- Buffers ---- */

static inline uint32_t bo_create(struct seam *dev, uint32_t placement, uint32_t core,
				 uint64_t size, uint32_t flags)
{
	struct drm_flightllm_bo_create args = {
		.size = size, .placement = placement, .core = core, .flags = flags,
	};

	must(CALL(dev, BO_CREATE, &args), "BO_CREATE");
	return args.handle;
}

static inline int _bo_close(struct seam *dev, uint32_t handle)
{
	struct drm_gem_close args = { .handle = handle };

	return DRM(dev, GEM_CLOSE, &args);
}

static inline void *bo_memory(struct seam *dev, uint32_t handle, uint64_t bytes)
{
	struct drm_flightllm_bo_mmap_offset args = { .handle = handle };
	void *memory;

	must(CALL(dev, BO_MMAP_OFFSET, &args), "BO_MMAP_OFFSET");
	memory = dev->map(dev->handle, args.offset, bytes);
	if (memory == MAP_FAILED)
		must(-errno, "mmap");
	return memory;
}

/* ---- Contexts, queues ---- */

static inline uint32_t context_create(struct seam *dev)
{
	struct drm_flightllm_context_create args = { 0 };

	must(CALL(dev, CONTEXT_CREATE, &args), "CONTEXT_CREATE");
	return args.id;
}

static inline int _bind(struct seam *dev, uint32_t context, struct drm_flightllm_binding *rows,
			uint32_t count)
{
	struct drm_flightllm_segment_bind args = {
		.context = context, .bindings = (uintptr_t)rows, .count = count,
		.stride = sizeof(*rows),
	};

	return CALL(dev, SEGMENT_BIND, &args);
}

static inline void bind_all(struct seam *dev, uint32_t context, uint32_t segment, uint32_t handle,
			    uint64_t length, uint32_t rights)
{
	struct drm_flightllm_binding row = {
		.segment = segment, .core = DRM_FLIGHTLLM_CORE_ALL, .handle = handle,
		.length = length, .rights = rights,
	};

	must(_bind(dev, context, &row, 1), "SEGMENT_BIND");
}

/* cores: mask, 0 for all of a compute queue. */
static inline uint32_t queue_create_on(struct seam *dev, uint32_t context, uint32_t kind,
				       uint32_t cores, uint32_t priority)
{
	struct drm_flightllm_queue_create args = {
		.context = context, .kind = kind, .cores = cores, .priority = priority,
	};

	must(CALL(dev, QUEUE_CREATE, &args), "QUEUE_CREATE");
	return args.id;
}

static inline uint32_t queue_create(struct seam *dev, uint32_t context, uint32_t kind)
{
	return queue_create_on(dev, context, kind, 0, 1);
}

static inline int _queue_destroy(struct seam *dev, uint32_t id)
{
	struct drm_flightllm_queue_destroy args = { .id = id };

	return CALL(dev, QUEUE_DESTROY, &args);
}

/* ---- Jobs ---- */

static inline int _submit(struct seam *dev, uint32_t queue, struct drm_flightllm_job *jobs,
			  uint32_t count, uint64_t *seqno)
{
	struct drm_flightllm_submit args = {
		.queue = queue, .jobs = (uintptr_t)jobs, .job_count = count,
		.job_stride = sizeof(*jobs),
	};
	int ret = CALL(dev, SUBMIT, &args);

	if (!ret && seqno)
		*seqno = args.seqno;
	return ret;
}

static inline int64_t in_ms(int64_t ms)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ll + now.tv_nsec + ms * 1000000;
}

static inline int _wait(struct seam *dev, uint32_t queue, uint64_t seqno, uint32_t tokens,
			int64_t timeout_ns, struct drm_flightllm_wait *out)
{
	struct drm_flightllm_wait args = {
		.queue = queue, .seqno = seqno, .tokens = tokens, .timeout_ns = timeout_ns,
	};
	int ret = CALL(dev, WAIT, &args);

	if (out)
		*out = args;
	return ret;
}

/* The end of a job, within 30 s. */
static inline struct drm_flightllm_wait wait_end(struct seam *dev, uint32_t queue, uint64_t seqno)
{
	struct drm_flightllm_wait end;
	int ret;

	do
		ret = _wait(dev, queue, seqno, 0, in_ms(30000), &end);
	while (ret == -EINTR);
	must(ret, "WAIT");
	return end;
}

static inline uint32_t syncobj_create(struct seam *dev)
{
	struct drm_syncobj_create args = { 0 };

	must(DRM(dev, SYNCOBJ_CREATE, &args), "SYNCOBJ_CREATE");
	return args.handle;
}

/* ---- A program by hand ---- */

/*
 * One host buffer holds all of a job: the program, its record, prompt and ring. The program's
 * passes do nothing but choose token TOKEN where one is wanted.
 */
#define JOB_BYTES	0x10000
#define JOB_STREAMS	0x800
#define JOB_RECORD	0x4000
#define JOB_SEQUENCE		0x4100
#define JOB_PROMPT	0x5000	/* 1024 tokens */
#define JOB_RING	0x8000	/* 4096 tokens */
#define JOB_RING_TOKENS	4096
#define TOKEN		7

struct job {
	uint32_t handle;
	uint8_t *memory;
};

static inline struct flm_program *job_program(struct job *job)
{
	return (struct flm_program *)job->memory;
}

static inline struct flm_job_record *job_record(struct job *job)
{
	return (struct flm_job_record *)(job->memory + JOB_RECORD);
}

static inline struct flm_sequence *job_sequence(struct job *job)
{
	return (struct flm_sequence *)(job->memory + JOB_SEQUENCE);
}

static inline uint32_t *job_ring(struct job *job)
{
	return (uint32_t *)(job->memory + JOB_RING);
}

/* One MISC of one row: `operation`, operands A or OUT at the start of the activation buffer. */
static inline int put_misc(uint32_t *words, uint32_t operation, uint32_t cols, uint32_t imm)
{
	int bad;

	memset(words, 0, FLM_WORDS_MISC * sizeof(*words));
	bad = FLM_PUT_HEAD(words, OP, FLM_OP_MISC) || FLM_PUT_HEAD(words, MODE, operation) ||
	      FLM_PUT(words, MISC, ROWS, 1) || FLM_PUT(words, MISC, ROWS_MAX, 1) ||
	      FLM_PUT(words, MISC, COLS, cols) || FLM_PUT(words, MISC, COLS_MAX, cols) ||
	      FLM_PUT(words, MISC, IMM, imm);
	if (bad)
		must(-EINVAL, "encoding a MISC");
	return FLM_WORDS_MISC;
}

#define END_WORD	0x70000000u

/* Writes program, record and row for `prompt` tokens in and `generate` out. */
static inline void job_write(struct job *job, uint32_t cores, uint32_t prompt, uint32_t generate)
{
	struct flm_program *program = job_program(job);
	uint32_t *streams = (uint32_t *)(job->memory + JOB_STREAMS);
	struct flm_job_record *record = job_record(job);
	struct flm_sequence *sequence = job_sequence(job);
	int words = 0;

	memset(job->memory, 0, JOB_BYTES);
	streams[0] = END_WORD;
	/* Candidates {logit, id}: one, the id TOKEN; its logit is a very small number. */
	words += put_misc(streams + 1, FLM_MISC_FILL, 2, TOKEN);
	words += put_misc(streams + 1 + words, FLM_MISC_SAMPLE, 1, 1);
	streams[1 + words++] = END_WORD;

	program->magic = FLM_PROGRAM_MAGIC;
	program->isa_major = FLM_ISA_MAJOR;
	program->isa_minor = FLM_ISA_MINOR;
	program->entries = 2;
	program->cores = cores;
	program->chunk = 128;
	program->watchdog = 1000;
	for (int i = 0; i < FLM_LENGTHS; i++)
		program->bounds[i].max = FLM_VALUE_MAX;
	for (int e = 0; e < 2; e++) {
		for (int u = 0; u < FLM_UNITS; u++) {
			bool samples = u == FLM_UNIT_MISC;

			program->entry[e].stream[u].offset = JOB_STREAMS + (samples ? 4 : 0);
			program->entry[e].stream[u].words = samples ? words : 1;
		}
	}
	record->bytes = sizeof(*record);
	record->sequences = 1;
	record->sequence_offset = JOB_SEQUENCE;
	record->prompt.offset = JOB_PROMPT;
	record->ring.offset = JOB_RING;
	record->ring.count = JOB_RING_TOKENS;
	sequence->prompt = prompt;
	sequence->generate = generate;
}

/* Makes the LD unit of an entry turn: two loops of `trips` around nothing. */
static inline void job_make_slow(struct job *job, unsigned int entry, uint32_t trips)
{
	uint32_t *words = (uint32_t *)(job->memory + JOB_STREAMS + 0x400);
	struct flm_stream *stream = &job_program(job)->entry[entry].stream[FLM_UNIT_LD];

	for (int depth = 0; depth < 2; depth++) {
		uint32_t *loop = words + 5 * depth;

		loop[0] = 0x60000000u;
		loop[1] = 0;			/* a constant count */
		loop[2] = trips;
		loop[3] = trips;
		loop[4] = depth ? 1 : 7;	/* body, its END included */
	}
	words[10] = words[11] = words[12] = END_WORD;
	stream->offset = JOB_STREAMS + 0x400;
	stream->words = 13;
}

/* Longer than any watchdog lets it. */
static inline void job_make_endless(struct job *job)
{
	job_make_slow(job, 0, FLM_VALUE_MAX);
}

static inline void job_new(struct seam *dev, struct job *job)
{
	job->handle = bo_create(dev, DRM_FLIGHTLLM_BO_HOST, 0, JOB_BYTES, 0);
	job->memory = bo_memory(dev, job->handle, JOB_BYTES);
}

/* Segment 0 of the context. */
static inline void job_bind(struct seam *dev, uint32_t context, struct job *job)
{
	bind_all(dev, context, 0, job->handle, JOB_BYTES,
		 DRM_FLIGHTLLM_RIGHT_R | DRM_FLIGHTLLM_RIGHT_W | DRM_FLIGHTLLM_RIGHT_X);
}

static inline struct drm_flightllm_job run_job(void)
{
	return (struct drm_flightllm_job){
		.op = DRM_FLIGHTLLM_JOB_RUN, .job_offset = JOB_RECORD,
	};
}

#endif
