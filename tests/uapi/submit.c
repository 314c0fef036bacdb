// SPDX-License-Identifier: MIT
/* SUBMIT: jobs run in order, copies copy, syncobjs order, and every field is checked. */
#include "kselftest_harness.h"

#include "tests/uapi/uapi.h"

FIXTURE(submit) {
	struct seam dev;
	uint32_t context, queue, copies;
	struct job job;
};

FIXTURE_SETUP(submit)
{
	device_open(&self->dev);
	self->context = context_create(&self->dev);
	self->queue = queue_create(&self->dev, self->context, DRM_FLIGHTLLM_QUEUE_COMPUTE);
	self->copies = queue_create(&self->dev, self->context, DRM_FLIGHTLLM_QUEUE_COPY);
	job_new(&self->dev, &self->job);
	job_write(&self->job, query_card(&self->dev).cores, 1, 0);
	job_bind(&self->dev, self->context, &self->job);
}

FIXTURE_TEARDOWN(submit)
{
	device_close(&self->dev);
}

TEST_F(submit, a_job_without_anything_to_do_is_done)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait end;
	uint64_t seqno = 0;

	job_sequence(&self->job)->prompt = 0;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	EXPECT_EQ(1, seqno);
	end = wait_end(&self->dev, self->queue, seqno);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, end.status);
	EXPECT_EQ(0, end.points);
	EXPECT_EQ(0, end.fault.kind);
}

TEST_F(submit, a_prompt_is_cut_into_chunks)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait end;
	uint64_t seqno;

	job_sequence(&self->job)->prompt = 300;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	end = wait_end(&self->dev, self->queue, seqno);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, end.status);
	EXPECT_EQ(3, end.points);
	EXPECT_EQ(0, end.made);
	EXPECT_LE(end.started_us, end.ended_us);
	if (is_emulated())
		SKIP(return, "the host's clock is the kernel's to read");
	EXPECT_LE(end.submitted_ns, end.finished_ns);
	EXPECT_NE(0, end.submitted_ns);
}

TEST_F(submit, tokens_come_one_by_one_into_the_ring)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait end;
	uint64_t seqno;

	job_sequence(&self->job)->generate = 50;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	end = wait_end(&self->dev, self->queue, seqno);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, end.status);
	EXPECT_EQ(50, end.made);
	EXPECT_EQ(50, end.points);
	for (int i = 0; i < 50; i++)
		EXPECT_EQ(7, job_ring(&self->job)[i]);
	EXPECT_EQ(0, job_ring(&self->job)[50]);
}

TEST_F(submit, a_stop_token_ends_the_job)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait end;
	uint64_t seqno;

	job_sequence(&self->job)->generate = 50;
	job_sequence(&self->job)->stop_count = 1;
	job_sequence(&self->job)->stop[0] = 7;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	end = wait_end(&self->dev, self->queue, seqno);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_STOP_TOKEN, end.status);
	EXPECT_EQ(1, end.made);
}

TEST_F(submit, jobs_of_one_call_have_ascending_seqnos_and_cost_one_kick)
{
	struct drm_flightllm_query_counters before, after;
	struct drm_flightllm_job jobs[64];
	uint64_t seqno, ended_us = 0;

	for (int i = 0; i < 64; i++)
		jobs[i] = run_job();
	before = query_counters(&self->dev);
	ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, 64, &seqno));
	EXPECT_EQ(64, seqno);
	wait_end(&self->dev, self->queue, 64);
	after = query_counters(&self->dev);
	for (uint64_t i = 1; i <= 64; i++) {
		struct drm_flightllm_wait end = wait_end(&self->dev, self->queue, i);

		EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, end.status);
		EXPECT_LE(ended_us, end.started_us);
		ended_us = end.ended_us;
	}
	EXPECT_EQ(64, after.jobs - before.jobs);
	EXPECT_EQ(1, after.submits - before.submits);
	EXPECT_EQ(1, after.kicks - before.kicks);
	EXPECT_EQ(1, after.doorbells - before.doorbells);
}

TEST_F(submit, one_job_costs_one_kick_one_interrupt_and_no_other_access)
{
	struct drm_flightllm_query_counters before, after;
	struct drm_flightllm_job job = run_job();
	uint64_t own, seqno;

	if (is_emulated())
		SKIP(return, "the card in the process has no registers to count");
	job_sequence(&self->job)->generate = 200;
	before = query_counters(&self->dev);
	after = query_counters(&self->dev);
	own = after.reads - before.reads;	/* what a query costs */
	before = after;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	EXPECT_EQ(200, wait_end(&self->dev, self->queue, seqno).made);
	after = query_counters(&self->dev);
	EXPECT_EQ(own, after.reads - before.reads);
	EXPECT_EQ(1, after.writes - before.writes);
	EXPECT_EQ(1, after.kicks - before.kicks);
	EXPECT_EQ(1, after.interrupts - before.interrupts);
	EXPECT_EQ(200, after.tokens - before.tokens);
}

static uint32_t make_bound(struct seam *dev, uint32_t context, uint32_t segment, uint32_t placement,
			   uint64_t bytes, uint32_t flags)
{
	uint32_t handle = bo_create(dev, placement, 0, bytes, flags);

	bind_all(dev, context, segment, handle, bytes,
		 DRM_FLIGHTLLM_RIGHT_R | DRM_FLIGHTLLM_RIGHT_W);
	return handle;
}

TEST_F(submit, copies_go_up_and_come_down_again)
{
	const uint64_t bytes = 5 << 20;
	uint32_t a = make_bound(&self->dev, self->context, 1, DRM_FLIGHTLLM_BO_HOST, bytes, 0);
	uint32_t b = make_bound(&self->dev, self->context, 3, DRM_FLIGHTLLM_BO_HOST, bytes, 0);
	uint8_t *from = bo_memory(&self->dev, a, bytes), *to = bo_memory(&self->dev, b, bytes);
	struct drm_flightllm_job jobs[] = {
		{ .op = DRM_FLIGHTLLM_JOB_COPY, .src_segment = 1, .dst_segment = 2,
		  .bytes = bytes - 3, .src_offset = 1, .dst_offset = 2 },
		{ .op = DRM_FLIGHTLLM_JOB_COPY, .src_segment = 2, .dst_segment = 4,
		  .bytes = bytes },
		{ .op = DRM_FLIGHTLLM_JOB_COPY, .src_segment = 4, .dst_segment = 3,
		  .bytes = bytes },
		{ .op = DRM_FLIGHTLLM_JOB_FILL, .dst_segment = 3, .dst_offset = 16, .bytes = 8,
		  .fill = 0xdeadbeef },
	};
	uint64_t seqno;
	bool same = true;

	make_bound(&self->dev, self->context, 2, DRM_FLIGHTLLM_BO_HBM, bytes, 0);
	make_bound(&self->dev, self->context, 4, DRM_FLIGHTLLM_BO_DDR, bytes, 0);
	for (uint64_t i = 0; i < bytes; i++)
		from[i] = i * 31 + (i >> 8);
	ASSERT_EQ(0, _submit(&self->dev, self->copies, jobs, 4, &seqno));
	for (uint64_t i = 1; i <= 4; i++)
		EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, wait_end(&self->dev, self->copies, i).status);
	EXPECT_EQ(2, wait_end(&self->dev, self->copies, 1).points);
	EXPECT_EQ(0, to[0] | to[1]);
	EXPECT_EQ(0xef, to[16]);
	EXPECT_EQ(0xde, to[23]);
	for (uint64_t i = 24; i < bytes - 1; i++)
		same &= to[i] == from[i - 1];
	EXPECT_TRUE(same);
	EXPECT_EQ(0, to[bytes - 1]);
}

TEST_F(submit, crc32c_is_the_known_one)
{
	uint32_t a = make_bound(&self->dev, self->context, 1, DRM_FLIGHTLLM_BO_HOST, 4096, 0);
	struct drm_flightllm_job job = {
		.op = DRM_FLIGHTLLM_JOB_CRC32C, .src_segment = 1, .src_offset = 5, .bytes = 9,
	};
	uint64_t seqno;

	memcpy((uint8_t *)bo_memory(&self->dev, a, 4096) + 5, "123456789", 9);
	ASSERT_EQ(0, _submit(&self->dev, self->copies, &job, 1, &seqno));
	EXPECT_EQ(0xe3069283, wait_end(&self->dev, self->copies, seqno).value);
}

TEST_F(submit, a_segment_that_is_not_bound_is_a_fault_of_the_job)
{
	struct drm_flightllm_job jobs[2] = { run_job(), run_job() };
	struct drm_flightllm_fault_query query = { .context = self->context };
	struct drm_flightllm_wait end;
	uint64_t seqno;

	jobs[0].job_segment = 9;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, 2, &seqno));
	end = wait_end(&self->dev, self->queue, 1);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_FAULT, end.status);
	EXPECT_EQ(FLM_FAULT_SEGMENT, end.fault.kind);
	EXPECT_EQ(9, end.fault.segment);
	EXPECT_EQ(JOB_RECORD, end.fault.offset);
	/* The queue goes on. */
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, wait_end(&self->dev, self->queue, 2).status);

	ASSERT_EQ(0, CALL(&self->dev, FAULT_QUERY, &query));
	EXPECT_EQ(1, query.count);
	EXPECT_EQ(self->queue, query.queue);
	EXPECT_EQ(1, query.seqno);
	EXPECT_EQ(FLM_FAULT_SEGMENT, query.fault.kind);
	EXPECT_EQ(0, query.lost);
	query = (struct drm_flightllm_fault_query){
		.context = self->context, .flags = DRM_FLIGHTLLM_FAULT_CLEAR,
	};
	ASSERT_EQ(0, CALL(&self->dev, FAULT_QUERY, &query));
	EXPECT_EQ(1, query.count);
	ASSERT_EQ(0, CALL(&self->dev, FAULT_QUERY, &query));
	EXPECT_EQ(0, query.count);
	EXPECT_EQ(0, query.fault.kind);
}

TEST_F(submit, rights_are_held)
{
	uint32_t handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HOST, 0, 4096, 0);
	struct drm_flightllm_job fill = {
		.op = DRM_FLIGHTLLM_JOB_FILL, .dst_segment = 1, .bytes = 64,
	};
	struct drm_flightllm_job crc = {
		.op = DRM_FLIGHTLLM_JOB_CRC32C, .src_segment = 2, .bytes = 64,
	};
	uint64_t seqno;

	bind_all(&self->dev, self->context, 1, handle, 4096, DRM_FLIGHTLLM_RIGHT_R);
	bind_all(&self->dev, self->context, 2, handle, 4096, DRM_FLIGHTLLM_RIGHT_W);
	ASSERT_EQ(0, _submit(&self->dev, self->copies, &fill, 1, &seqno));
	EXPECT_EQ(FLM_FAULT_RIGHTS, wait_end(&self->dev, self->copies, seqno).fault.kind);
	ASSERT_EQ(0, _submit(&self->dev, self->copies, &crc, 1, &seqno));
	EXPECT_EQ(FLM_FAULT_RIGHTS, wait_end(&self->dev, self->copies, seqno).fault.kind);
}

TEST_F(submit, a_bound_length_is_held_to_the_byte)
{
	uint32_t handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HOST, 0, 8192, 0);
	struct drm_flightllm_job crc = {
		.op = DRM_FLIGHTLLM_JOB_CRC32C, .src_segment = 1, .bytes = 101,
	};
	uint64_t seqno;

	bind_all(&self->dev, self->context, 1, handle, 100, DRM_FLIGHTLLM_RIGHT_R);
	ASSERT_EQ(0, _submit(&self->dev, self->copies, &crc, 1, &seqno));
	EXPECT_EQ(FLM_FAULT_SEGMENT, wait_end(&self->dev, self->copies, seqno).fault.kind);
	crc.bytes = 100;
	ASSERT_EQ(0, _submit(&self->dev, self->copies, &crc, 1, &seqno));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, wait_end(&self->dev, self->copies, seqno).status);
}

TEST_F(submit, a_job_keeps_the_tables_it_was_submitted_with)
{
	struct drm_flightllm_binding none = { .segment = 0, .core = DRM_FLIGHTLLM_CORE_ALL };
	struct drm_flightllm_job jobs[32];
	uint64_t seqno;

	for (int i = 0; i < 32; i++)
		jobs[i] = run_job();
	job_sequence(&self->job)->generate = 100;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, 32, &seqno));
	ASSERT_EQ(0, _bind(&self->dev, self->context, &none, 1));
	for (uint64_t i = 1; i <= 32; i++)
		EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, wait_end(&self->dev, self->queue, i).status);
	ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, 1, &seqno));
	EXPECT_EQ(FLM_FAULT_SEGMENT, wait_end(&self->dev, self->queue, seqno).fault.kind);
}

TEST_F(submit, more_points_than_promised_is_a_fault)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait end;
	uint64_t seqno;

	job.max_points = 9;
	job_sequence(&self->job)->generate = 10;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	end = wait_end(&self->dev, self->queue, seqno);
	EXPECT_EQ(FLM_FAULT_SLOT, end.fault.kind);
	EXPECT_EQ(36, end.fault.word);
	job.max_points = 10;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	EXPECT_EQ(10, wait_end(&self->dev, self->queue, seqno).made);
}

TEST_F(submit, jobs_that_are_wrong_are_refused)
{
#define BAD(field, value, error) REFUSAL(drm_flightllm_job, field, value, error)
	const struct refusal runs[] = {
		BAD(op, 0, EINVAL),
		BAD(op, DRM_FLIGHTLLM_JOB_COPY, EINVAL),
		BAD(flags, 1, EINVAL),
		BAD(program_segment, 256, EINVAL),
		BAD(job_segment, 256, EINVAL),
		BAD(program_offset, 32, EINVAL),
		BAD(job_offset, JOB_RECORD + 4, EINVAL),
		BAD(fill, 1, EINVAL),
		BAD(src_segment, 1, EINVAL),
		BAD(src_core, 1, EINVAL),
		BAD(dst_segment, 1, EINVAL),
		BAD(dst_core, 1, EINVAL),
		BAD(src_offset, 1, EINVAL),
		BAD(dst_offset, 1, EINVAL),
		BAD(bytes, 1, EINVAL),
		BAD(reserved[0], 1, EINVAL),
		BAD(reserved[1], 1, EINVAL),
		BAD(max_points, query_card(&self->dev).points_max * 4 + 4000000, E2BIG),
	};
	static const struct refusal copies[] = {
		BAD(op, DRM_FLIGHTLLM_JOB_RUN, EINVAL),
		BAD(op, 5, EINVAL),
		BAD(bytes, 0, EINVAL),
		BAD(fill, 1, EINVAL),
		BAD(program_offset, 64, EINVAL),
		BAD(max_points, 1, EINVAL),
		BAD(src_segment, 256, EINVAL),
		BAD(dst_segment, 256, EINVAL),
		BAD(src_core, 8, EINVAL),
		BAD(dst_core, 8, EINVAL),
	};
	static const struct refusal fills[] = {
		BAD(src_segment, 1, EINVAL),
		BAD(src_offset, 4, EINVAL),
		BAD(bytes, 63, EINVAL),
		BAD(dst_offset, 2, EINVAL),
	};
	static const struct refusal checks[] = {
		BAD(dst_segment, 1, EINVAL),
		BAD(dst_offset, 4, EINVAL),
	};
	static const struct refusal lengths[] = { BAD(bytes, 1ull << 50, E2BIG) };
#undef BAD
	struct drm_flightllm_job run = run_job();
	struct drm_flightllm_job copy = {
		.op = DRM_FLIGHTLLM_JOB_COPY, .src_segment = 1, .dst_segment = 2, .bytes = 64,
	};
	struct drm_flightllm_job fill = {
		.op = DRM_FLIGHTLLM_JOB_FILL, .dst_segment = 2, .bytes = 64,
	};
	struct drm_flightllm_job crc = {
		.op = DRM_FLIGHTLLM_JOB_CRC32C, .src_segment = 2, .bytes = 64,
	};

	EXPECT_REFUSED(runs, run, bad, _submit(&self->dev, self->queue, &bad, 1, NULL));
	EXPECT_REFUSED(copies, copy, bad, _submit(&self->dev, self->copies, &bad, 1, NULL));
	EXPECT_REFUSED(fills, fill, bad, _submit(&self->dev, self->copies, &bad, 1, NULL));
	EXPECT_REFUSED(checks, crc, bad, _submit(&self->dev, self->copies, &bad, 1, NULL));
	if (!is_emulated())	/* whose copies may be as long as they like */
		EXPECT_REFUSED(lengths, copy, bad,
			       _submit(&self->dev, self->copies, &bad, 1, NULL));
}

TEST_F(submit, arguments_that_are_wrong_are_refused)
{
#define BAD(field, value, error) REFUSAL(drm_flightllm_submit, field, value, error)
	static const struct refusal rows[] = {
		BAD(queue, 0x7777, ENOENT),
		BAD(flags, 1, EINVAL),
		BAD(job_count, 0, EINVAL),
		BAD(job_stride, 0, EINVAL),
		BAD(job_stride, 1u << 31, E2BIG),
		BAD(reserved[0], 1, EINVAL),
	};
	static const struct refusal memory[] = { BAD(jobs, 8, EFAULT) };
#undef BAD
	struct drm_flightllm_job job = run_job(), many[257];
	struct drm_flightllm_submit good = {
		.queue = self->queue, .jobs = (uintptr_t)&job, .job_count = 1,
		.job_stride = sizeof(job),
	};
	struct drm_flightllm_sync sync = { 0 };
	struct drm_flightllm_submit bad;

	ASSERT_EQ(0, CALL(&self->dev, SUBMIT, &good));
	EXPECT_REFUSED(rows, good, bad, CALL(&self->dev, SUBMIT, &bad));
	for (int i = 0; i < 257; i++)
		many[i] = job;
	bad = good, bad.jobs = (uintptr_t)many, bad.job_count = 257;
	EXPECT_EQ(-E2BIG, CALL(&self->dev, SUBMIT, &bad));
	if (is_emulated())
		SKIP(return, "syncobjs are the kernel's");
	/* Syncs: unknown, flags, without a fence, too many. */
	sync.handle = syncobj_create(&self->dev);
	bad = good, bad.in_syncs = (uintptr_t)&sync, bad.in_count = 1, bad.in_stride = sizeof(sync);
	EXPECT_EQ(-ENOENT, CALL(&self->dev, SUBMIT, &bad));
	bad.in_count = 65;
	EXPECT_EQ(-E2BIG, CALL(&self->dev, SUBMIT, &bad));
	bad = good, bad.out_syncs = (uintptr_t)&sync, bad.out_count = 1;
	EXPECT_EQ(-EINVAL, CALL(&self->dev, SUBMIT, &bad));
	bad.out_stride = sizeof(sync);
	sync.flags = 1;
	EXPECT_EQ(-EINVAL, CALL(&self->dev, SUBMIT, &bad));
	sync = (struct drm_flightllm_sync){ .handle = 0x7777 };
	EXPECT_EQ(-ENOENT, CALL(&self->dev, SUBMIT, &bad));
	bad.out_count = 65;
	EXPECT_EQ(-E2BIG, CALL(&self->dev, SUBMIT, &bad));
	EXPECT_REFUSED(memory, good, bad, CALL(&self->dev, SUBMIT, &bad));
}

static int _syncobj_wait(struct seam *dev, uint32_t handle, uint64_t point)
{
	struct drm_syncobj_timeline_wait args = {
		.handles = (uintptr_t)&handle, .points = (uintptr_t)&point, .count_handles = 1,
		.timeout_nsec = in_ms(30000),
	};

	return DRM(dev, SYNCOBJ_TIMELINE_WAIT, &args);
}

TEST_F(submit, syncobjs_order_two_queues)
{
	uint32_t binary = is_emulated() ? 0 : syncobj_create(&self->dev);
	uint32_t timeline = is_emulated() ? 0 : syncobj_create(&self->dev);
	uint32_t other = queue_create(&self->dev, self->context, DRM_FLIGHTLLM_QUEUE_COMPUTE);
	struct drm_flightllm_sync outs[2] = {
		{ .handle = binary }, { .handle = timeline, .point = 10 },
	};
	struct drm_flightllm_sync ins[1] = { { .handle = timeline, .point = 10 } };
	struct drm_flightllm_sync last = { .handle = timeline, .point = 20 };
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_submit args = {
		.queue = self->queue, .jobs = (uintptr_t)&job, .job_count = 1,
		.job_stride = sizeof(job), .out_syncs = (uintptr_t)outs, .out_count = 2,
		.out_stride = sizeof(outs[0]),
	};
	struct drm_flightllm_wait first, second;

	if (is_emulated())
		SKIP(return, "syncobjs are the kernel's");
	job_sequence(&self->job)->generate = 200;
	ASSERT_EQ(0, CALL(&self->dev, SUBMIT, &args));
	args = (struct drm_flightllm_submit){
		.queue = other, .jobs = (uintptr_t)&job, .job_count = 1,
		.job_stride = sizeof(job), .in_syncs = (uintptr_t)ins, .in_count = 1,
		.in_stride = sizeof(ins[0]), .out_syncs = (uintptr_t)&last, .out_count = 1,
		.out_stride = sizeof(last),
	};
	ASSERT_EQ(0, CALL(&self->dev, SUBMIT, &args));
	EXPECT_EQ(0, _syncobj_wait(&self->dev, binary, 0));
	EXPECT_EQ(0, _syncobj_wait(&self->dev, timeline, 20));
	first = wait_end(&self->dev, self->queue, 1);
	second = wait_end(&self->dev, other, 1);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, first.status);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, second.status);
	EXPECT_GE(second.started_us, first.ended_us);
}

TEST_F(submit, an_older_program_with_shorter_rows_is_served)
{
	struct {
		struct drm_flightllm_job job;
	} rows = { .job = run_job() };
	struct drm_flightllm_submit args = {
		.queue = self->queue, .jobs = (uintptr_t)&rows, .job_count = 1, .job_stride = 40,
	};

	ASSERT_EQ(0, CALL(&self->dev, SUBMIT, &args));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE,
		  wait_end(&self->dev, self->queue, args.seqno).status);
}

TEST_HARNESS_MAIN
