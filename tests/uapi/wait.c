// SPDX-License-Identifier: MIT
/*
 * WAIT and STOP: for the end or for tokens, with a deadline, and what a job says of itself later.
 */
#include "kselftest_harness.h"

#include "tests/uapi/uapi.h"

FIXTURE(wait) {
	struct seam dev;
	uint32_t context, queue;
	struct job job;
};

FIXTURE_SETUP(wait)
{
	device_open(&self->dev);
	self->context = context_create(&self->dev);
	self->queue = queue_create(&self->dev, self->context, DRM_FLIGHTLLM_QUEUE_COMPUTE);
	job_new(&self->dev, &self->job);
	job_write(&self->job, query_card(&self->dev).cores, 1, 0);
	job_bind(&self->dev, self->context, &self->job);
}

FIXTURE_TEARDOWN(wait)
{
	device_close(&self->dev);
}

TEST_F(wait, arguments_that_are_wrong_are_refused)
{
#define BAD(field, value, error) REFUSAL(drm_flightllm_wait, field, value, error)
	static const struct refusal rows[] = {
		BAD(seqno, 0, EINVAL),
		BAD(seqno, 2, EINVAL),
		BAD(flags, 1, EINVAL),
		BAD(pad, 1, EINVAL),
		BAD(reserved[1], 1, EINVAL),
		BAD(queue, 0x7777, ENOENT),
	};
#undef BAD
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait good = { .queue = self->queue, .seqno = 1 };

	EXPECT_EQ(-EINVAL, CALL(&self->dev, WAIT, &good));	/* not yet given out */
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, NULL));
	wait_end(&self->dev, self->queue, 1);
	EXPECT_REFUSED(rows, good, bad, CALL(&self->dev, WAIT, &bad));
	EXPECT_EQ(0, CALL(&self->dev, WAIT, &good));
}

TEST_F(wait, a_deadline_that_has_passed_only_looks)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait out;
	uint64_t seqno;
	int64_t before;
	int ret;

	job_make_endless(&self->job);
	job_program(&self->job)->watchdog = 1000;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	before = in_ms(0);
	ret = _wait(&self->dev, self->queue, seqno, 0, 0, &out);
	EXPECT_LT(in_ms(0) - before, 5000000000);
	EXPECT_TRUE(ret == -ETIME || out.status == DRM_FLIGHTLLM_STATUS_FAULT);
	wait_end(&self->dev, self->queue, seqno);
}

TEST_F(wait, an_endless_loop_ends_by_the_watchdog)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait out;
	uint64_t seqno;

	job_make_endless(&self->job);
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	out = wait_end(&self->dev, self->queue, seqno);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_FAULT, out.status);
	EXPECT_EQ(FLM_FAULT_WATCHDOG, out.fault.kind);
	EXPECT_EQ(FLM_UNIT_LD, out.fault.unit);
	EXPECT_EQ(0, out.fault.entry);
	/* And the queue is as good as new. */
	job_write(&self->job, query_card(&self->dev).cores, 1, 0);
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, wait_end(&self->dev, self->queue, seqno).status);
}

TEST_F(wait, a_watchdog_above_the_drivers_is_refused)
{
	struct drm_flightllm_job job = run_job();
	uint64_t seqno;

	job_program(&self->job)->watchdog = query_card(&self->dev).watchdog + 1;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	EXPECT_EQ(FLM_FAULT_SLOT, wait_end(&self->dev, self->queue, seqno).fault.kind);
}

TEST_F(wait, tokens_wake_a_waiter_before_the_end)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait out;
	uint64_t seqno;

	job_sequence(&self->job)->generate = 256;
	job_record(&self->job)->notify_tokens = 1;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	ASSERT_EQ(0, _wait(&self->dev, self->queue, seqno, 3, in_ms(30000), &out));
	EXPECT_GE(out.made, 3);
	EXPECT_EQ(7, job_ring(&self->job)[2]);
	out = wait_end(&self->dev, self->queue, seqno);
	EXPECT_EQ(256, out.made);
}

TEST_F(wait, waiting_for_more_tokens_than_come_ends_with_the_job)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait out;
	uint64_t seqno;

	job_sequence(&self->job)->generate = 5;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, &seqno));
	ASSERT_EQ(0, _wait(&self->dev, self->queue, seqno, 100, in_ms(30000), &out));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, out.status);
	EXPECT_EQ(5, out.made);
}

TEST_F(wait, ends_are_remembered_for_a_while)
{
	struct drm_flightllm_job jobs[256];
	struct drm_flightllm_wait out;
	uint64_t seqno, oldest;

	for (int i = 0; i < 256; i++)
		jobs[i] = run_job();
	for (int i = 0; i < 20; i++) {
		ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, 64, &seqno));
		wait_end(&self->dev, self->queue, seqno);
	}
	EXPECT_EQ(1280, seqno);
	oldest = 1281 - query_card(&self->dev).history;
	EXPECT_EQ(0, _wait(&self->dev, self->queue, oldest, 0, 0, &out));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, out.status);
	EXPECT_EQ(-ESTALE, _wait(&self->dev, self->queue, oldest - 1, 0, 0, &out));
}

/* A job takes seconds, and each pass that makes a token behind the first some milliseconds. */
static void make_slow(struct seam *dev, struct job *job)
{
	job_make_slow(job, 1, 1000);
	job_program(job)->watchdog = query_card(dev).watchdog;
	job_sequence(job)->generate = 256;
	job_record(job)->notify_tokens = 1;
}

TEST_F(wait, a_queue_takes_jobs_max_jobs_and_no_more)
{
	uint32_t max = query_card(&self->dev).jobs_max;
	struct drm_flightllm_stop stop = { .queue = self->queue, .seqno = max };
	struct drm_flightllm_job jobs[256];
	uint64_t seqno;

	for (uint32_t i = 0; i < max; i++)
		jobs[i] = run_job();
	make_slow(&self->dev, &self->job);
	ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, max, &seqno));
	EXPECT_EQ(-EBUSY, _submit(&self->dev, self->queue, jobs, 1, NULL));
	ASSERT_EQ(0, CALL(&self->dev, STOP, &stop));
	wait_end(&self->dev, self->queue, seqno);
	job_sequence(&self->job)->generate = 1;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, 1, &seqno));
	EXPECT_EQ(max + 1, seqno);
	wait_end(&self->dev, self->queue, seqno);
}

TEST_F(wait, stop_ends_a_job_and_keeps_its_tokens)
{
	struct drm_flightllm_stop stop = { .queue = self->queue };
	struct drm_flightllm_job jobs[60];
	struct drm_flightllm_wait out;
	uint64_t seqno;

	for (int i = 0; i < 60; i++)
		jobs[i] = run_job();
	job_sequence(&self->job)->generate = 256;
	job_record(&self->job)->notify_tokens = 1;
	ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, 60, &seqno));
	ASSERT_EQ(0, _wait(&self->dev, self->queue, 1, 1, in_ms(30000), &out));
	stop.seqno = 60;
	ASSERT_EQ(0, CALL(&self->dev, STOP, &stop));
	out = wait_end(&self->dev, self->queue, 60);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_STOPPED, out.status);
	EXPECT_EQ(0, out.made);
	/* Those behind it are not concerned. */
	ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, 1, &seqno));
	out = wait_end(&self->dev, self->queue, seqno);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, out.status);
	EXPECT_EQ(256, out.made);
}

TEST_F(wait, a_stop_takes_no_other_back)
{
	struct drm_flightllm_stop stop = { .queue = self->queue, .seqno = 5 };
	struct drm_flightllm_job jobs[5];
	struct drm_flightllm_wait out;
	uint64_t seqno;

	for (int i = 0; i < 5; i++)
		jobs[i] = run_job();
	make_slow(&self->dev, &self->job);
	ASSERT_EQ(0, _submit(&self->dev, self->queue, jobs, 5, &seqno));
	ASSERT_EQ(0, _wait(&self->dev, self->queue, 1, 1, in_ms(30000), &out));
	ASSERT_EQ(0, CALL(&self->dev, STOP, &stop));
	stop.seqno = 2;
	ASSERT_EQ(0, CALL(&self->dev, STOP, &stop));
	out = wait_end(&self->dev, self->queue, 4);
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_STOPPED, out.status);
	EXPECT_EQ(0, out.made);
}

TEST_F(wait, stop_refuses_what_it_does_not_know)
{
#define BAD(field, value, error) REFUSAL(drm_flightllm_stop, field, value, error)
	static const struct refusal rows[] = {
		BAD(seqno, 0, EINVAL),
		BAD(seqno, 2, EINVAL),
		BAD(queue, 0x7777, ENOENT),
		BAD(pad, 1, EINVAL),
	};
#undef BAD
	struct drm_flightllm_stop good = { .queue = self->queue, .seqno = 1 };
	struct drm_flightllm_job job = run_job();

	EXPECT_EQ(-EINVAL, CALL(&self->dev, STOP, &good));	/* not yet given out */
	ASSERT_EQ(0, _submit(&self->dev, self->queue, &job, 1, NULL));
	wait_end(&self->dev, self->queue, 1);
	EXPECT_REFUSED(rows, good, bad, CALL(&self->dev, STOP, &bad));
	EXPECT_EQ(0, CALL(&self->dev, STOP, &good));
}

TEST_F(wait, fault_query_refuses_what_it_does_not_know)
{
#define BAD(field, value, error) REFUSAL(drm_flightllm_fault_query, field, value, error)
	static const struct refusal rows[] = {
		BAD(context, 0x7777, ENOENT),
		BAD(flags, 2, EINVAL),
		BAD(eventfd, 1, EINVAL),
		BAD(reserved[0], 1, EINVAL),
	};
#undef BAD
	struct drm_flightllm_fault_query good = { .context = self->context };

	EXPECT_REFUSED(rows, good, bad, CALL(&self->dev, FAULT_QUERY, &bad));
	EXPECT_EQ(0, CALL(&self->dev, FAULT_QUERY, &good));
	EXPECT_EQ(0, good.count);
}

TEST_HARNESS_MAIN
