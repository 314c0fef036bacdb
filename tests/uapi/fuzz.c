// SPDX-License-Identifier: MIT
/*
 * A hostile client: seeded random calls with fields that are almost right, while jobs run and
 * buffers come and go. The claim is about everybody else: a client beside it stays exact.
 * FUZZ_CALLS and FUZZ_SEED set how many calls, and which.
 */
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "tests/dice.h"
#include "tests/uapi/uapi.h"

#define POOL 16

struct fuzz {
	struct dice dice;
	struct seam dev;
	uint32_t bo[POOL], context[POOL], queue[POOL], kind[POOL], sync[POOL];
	uint64_t seqno[POOL];
	struct job job;
	uint32_t cores;
	unsigned int good, bad;
};

static uint64_t any(struct fuzz *f)
{
	return dice_any(&f->dice);
}

static uint32_t below(struct fuzz *f, uint32_t n)
{
	return dice_below(&f->dice, n);
}

/* Mostly zero, as a field that must be zero; now and then not. */
static uint64_t rarely(struct fuzz *f)
{
	return below(f, 100) ? 0 : any(f) >> below(f, 64);
}

/* One of a pool; now and then something that is not there. */
static uint32_t pick(struct fuzz *f, const uint32_t *pool)
{
	return below(f, 30) ? pool[below(f, POOL)] : (uint32_t)any(f);
}

static uint64_t size(struct fuzz *f)
{
	static const uint64_t sizes[] = { 1, 64, 4096, 65536, 2 << 20, 5 << 20, ~0ull };

	return below(f, 4) ? sizes[below(f, 6)] : sizes[below(f, 7)] + below(f, 3) - 1;
}

static int do_bo_create(struct fuzz *f, uint32_t slot)
{
	struct drm_flightllm_bo_create args = {
		.size = size(f), .placement = below(f, 10) ? 1 + below(f, 3) : any(f),
		.flags = below(f, 3) ? 0 : below(f, 4), .user_address = rarely(f),
		.reserved = { rarely(f), rarely(f) },
	};
	int ret;

	if (args.placement == DRM_FLIGHTLLM_BO_HBM)
		args.core = below(f, f->cores + 1);
	if (f->bo[slot])
		_bo_close(&f->dev, f->bo[slot]);
	f->bo[slot] = 0;
	ret = CALL(&f->dev, BO_CREATE, &args);
	if (!ret)
		f->bo[slot] = args.handle;
	return ret;
}

static int do_bo_use(struct fuzz *f)
{
	struct drm_flightllm_bo_mmap_offset map = { .handle = pick(f, f->bo), .flags = rarely(f) };
	struct drm_flightllm_bo_info info = { .handle = map.handle, .pad = rarely(f) };
	volatile uint8_t *memory;
	int ret = CALL(&f->dev, BO_INFO, &info);

	if (ret || CALL(&f->dev, BO_MMAP_OFFSET, &map))
		return ret;
	memory = f->dev.map(f->dev.handle, map.offset, info.size);
	if (memory == MAP_FAILED)
		return -errno;
	memory[below(f, info.size)] = any(f);
	munmap((void *)memory, info.size);
	return 0;
}

static int do_context(struct fuzz *f, uint32_t slot)
{
	struct drm_flightllm_context_create create = { .flags = rarely(f) };
	struct drm_flightllm_context_destroy destroy = { .id = pick(f, f->context) };
	int ret;

	if (below(f, 2))
		return CALL(&f->dev, CONTEXT_DESTROY, &destroy);
	ret = CALL(&f->dev, CONTEXT_CREATE, &create);
	if (!ret)
		f->context[slot] = create.id;
	return ret;
}

static int do_bind(struct fuzz *f)
{
	struct drm_flightllm_binding rows[8];
	uint32_t count = 1 + below(f, 8);

	for (uint32_t i = 0; i < count; i++) {
		rows[i] = (struct drm_flightllm_binding){
			.segment = below(f, 20) ? below(f, 8) : any(f),
			.core = below(f, 2) ? DRM_FLIGHTLLM_CORE_ALL : below(f, f->cores + 1),
			.handle = below(f, 4) ? pick(f, f->bo) : f->job.handle,
			.rights = 1 + below(f, 7), .length = size(f), .reserved = rarely(f),
			.offset = below(f, 3) ? 0 : (uint64_t)below(f, 4) <<
				  (below(f, 2) ? 12 : 21),
		};
		if (!below(f, 8))
			memset(&rows[i].handle, 0, sizeof(rows[i]) - 8);
	}
	return _bind(&f->dev, pick(f, f->context), rows, count);
}

static int do_queue(struct fuzz *f, uint32_t slot)
{
	struct drm_flightllm_queue_create args = {
		.context = pick(f, f->context), .kind = below(f, 2), .flags = rarely(f),
		.priority = below(f, 4), .quantum_us = below(f, 2) ? 0 : below(f, 10000),
		.pad = rarely(f),
	};
	int ret;

	if (!args.kind)
		args.cores = below(f, 1u << f->cores);
	if (f->queue[slot])
		_queue_destroy(&f->dev, f->queue[slot]);
	f->queue[slot] = 0;
	ret = CALL(&f->dev, QUEUE_CREATE, &args);
	if (!ret)
		f->queue[slot] = args.id;
	f->kind[slot] = args.kind;
	f->seqno[slot] = 0;
	return ret;
}

/* A job for this kind of queue, but for one in fifty. */
static void make_job(struct fuzz *f, struct drm_flightllm_job *job, uint32_t kind)
{
	memset(job, 0, sizeof(*job));
	job->op = kind == DRM_FLIGHTLLM_QUEUE_COMPUTE ? DRM_FLIGHTLLM_JOB_RUN : 2 + below(f, 3);
	if (!below(f, 50))
		job->op = any(f);
	job->flags = rarely(f);
	job->reserved[below(f, 2)] = rarely(f);
	if (job->op == DRM_FLIGHTLLM_JOB_RUN) {
		job->program_segment = below(f, 5) ? 0 : below(f, 8);
		job->job_segment = below(f, 5) ? 0 : below(f, 258);
		job->program_offset = below(f, 9) ? 0 : 64ull * below(f, 1 << 20);
		job->job_offset = below(f, 40) ? JOB_RECORD : size(f);
		job->max_points = below(f, 300);
		return;
	}
	job->bytes = job->op == DRM_FLIGHTLLM_JOB_FILL ? size(f) & ~3ull : size(f);
	if (job->op != DRM_FLIGHTLLM_JOB_FILL) {
		job->src_segment = below(f, 8);
		job->src_core = below(f, f->cores);
		job->src_offset = below(f, 2) ? 0 : size(f);
	}
	if (job->op != DRM_FLIGHTLLM_JOB_CRC32C) {
		job->dst_segment = below(f, 8);
		job->dst_core = below(f, f->cores);
		job->dst_offset = below(f, 2) ? 0 : 4 * below(f, 2000);
	}
}

/* Scribbles over program and record: words, or what was there before. */
static void scribble(struct fuzz *f)
{
	if (!below(f, 4))
		job_write(&f->job, f->cores, below(f, 300), below(f, 50));
	if (!below(f, 6))
		job_make_endless(&f->job);
	for (uint32_t i = below(f, 4); i; i--)
		((uint32_t *)f->job.memory)[below(f, 0x4200 / 4)] = any(f) >> below(f, 32);
}

static int do_submit(struct fuzz *f, uint32_t slot)
{
	struct drm_flightllm_sync in, out;
	struct drm_flightllm_job jobs[32];
	struct drm_flightllm_submit args = {
		.queue = below(f, 30) ? f->queue[slot] : (uint32_t)any(f),
		.flags = rarely(f), .jobs = (uintptr_t)jobs,
		.job_count = 1 + below(f, below(f, 3) ? 3 : 32),
		.job_stride = below(f, 20) ? sizeof(jobs[0]) : below(f, 2 * sizeof(jobs[0])),
	};
	int ret;

	scribble(f);
	for (uint32_t i = 0; i < args.job_count; i++)
		make_job(f, &jobs[i], f->kind[slot]);
	if (args.job_stride > sizeof(jobs[0]))
		args.job_count = 1 + below(f, 16);
	if (!is_emulated() && !below(f, 3)) {
		in = (struct drm_flightllm_sync){
			.handle = pick(f, f->sync), .point = below(f, 4) };
		args.in_syncs = (uintptr_t)&in;
		args.in_count = 1;
		args.in_stride = sizeof(in);
	}
	if (!is_emulated() && below(f, 2)) {
		out = (struct drm_flightllm_sync){
			.handle = pick(f, f->sync), .point = below(f, 9) };
		args.out_syncs = (uintptr_t)&out;
		args.out_count = 1;
		args.out_stride = sizeof(out);
	}
	ret = CALL(&f->dev, SUBMIT, &args);
	if (!ret)
		f->seqno[slot] = args.seqno;
	return ret;
}

static int do_wait(struct fuzz *f, uint32_t slot)
{
	struct drm_flightllm_stop stop = { .queue = f->queue[slot], .seqno = f->seqno[slot] };

	if (!below(f, 3))
		return CALL(&f->dev, STOP, &stop);
	return _wait(&f->dev, f->queue[slot], f->seqno[slot] - below(f, 3), below(f, 4),
		     in_ms(below(f, 3)), NULL);
}

static int do_query(struct fuzz *f)
{
	uint8_t answer[1400];
	struct drm_flightllm_dev_query query = {
		.type = below(f, 5), .size = below(f, sizeof(answer)), .pad = rarely(f),
		.pointer = below(f, 3) ? (uintptr_t)answer : 0,
	};
	struct drm_flightllm_fault_query fault = {
		.context = pick(f, f->context), .flags = below(f, 2), .eventfd = rarely(f),
	};

	return below(f, 2) ? CALL(&f->dev, DEV_QUERY, &query) : CALL(&f->dev, FAULT_QUERY, &fault);
}

static int one_call(struct fuzz *f)
{
	uint32_t slot = below(f, POOL);

	switch (below(f, 12)) {
	case 0: return do_bo_create(f, slot);
	case 1: return do_bo_use(f);
	case 2: return do_context(f, slot);
	case 3: case 4: return do_bind(f);
	case 5: return do_queue(f, slot);
	case 6: case 7: case 8: return do_submit(f, slot);
	case 9: case 10: return do_wait(f, slot);
	}
	return do_query(f);
}

/* Never returns: the process ends as a hostile one does, without tidying up. */
static void be_hostile(uint64_t seed, uint64_t calls)
{
	struct fuzz f = { .dice = dice_new(seed) };

	device_open(&f.dev);
	f.cores = query_card(&f.dev).cores;
	job_new(&f.dev, &f.job);
	job_write(&f.job, f.cores, 1, 5);
	for (int i = 0; i < POOL; i++) {
		f.context[i] = context_create(&f.dev);
		job_bind(&f.dev, f.context[i], &f.job);
		f.sync[i] = is_emulated() ? 0 : syncobj_create(&f.dev);
		do_queue(&f, i);
		do_bo_create(&f, i);
	}
	for (uint64_t i = 0; i < calls; i++) {
		if (one_call(&f))
			f.bad++;
		else
			f.good++;
	}
	printf("# seed %llu: %u calls succeeded, %u were refused\n", (unsigned long long)seed,
	       f.good, f.bad);
	fflush(stdout);
	_exit(f.good > calls / 4 ? 0 : 1);
}

FIXTURE(hostile) {
	struct seam dev;
};

FIXTURE_SETUP(hostile)
{
	device_open(&self->dev);
}

FIXTURE_TEARDOWN(hostile)
{
	device_close(&self->dev);
}

TEST_F(hostile, clients_are_noticed_by_nobody)
{
	uint64_t seed = dice_setting("FUZZ_SEED", 1), calls = dice_setting("FUZZ_CALLS", 4000);
	struct drm_flightllm_job job = run_job();
	struct seam *dev = &self->dev;
	struct job own;
	uint32_t context, queue;
	pid_t child[2];

	if (is_emulated())
		SKIP(return, "needs processes of their own");
	context = context_create(dev);
	queue = queue_create(dev, context, DRM_FLIGHTLLM_QUEUE_COMPUTE);
	job_new(dev, &own);
	job_write(&own, query_card(dev).cores, 1, 20);
	job_bind(dev, context, &own);
	for (int i = 0; i < 2; i++) {
		child[i] = fork();
		ASSERT_LE(0, child[i]);
		if (!child[i])
			be_hostile(seed + i, calls);
	}
	for (int running = 2; running;) {
		uint64_t seqno;
		int status;
		pid_t ended = waitpid(-1, &status, WNOHANG);

		if (ended > 0) {
			running--;
			EXPECT_TRUE(WIFEXITED(status));
			EXPECT_EQ(0, WEXITSTATUS(status));
		}
		memset(job_ring(&own), 0, 20 * sizeof(uint32_t));
		ASSERT_EQ(0, _submit(dev, queue, &job, 1, &seqno));
		ASSERT_EQ(20, wait_end(dev, queue, seqno).made);
		for (int i = 0; i < 20; i++)
			ASSERT_EQ(7, job_ring(&own)[i]);
		usleep(1000);
	}
}

TEST_HARNESS_MAIN
