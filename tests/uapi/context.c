// SPDX-License-Identifier: MIT
/* Contexts and SEGMENT_BIND: all or nothing, and every row is checked. */
#include "kselftest_harness.h"

#include "tests/uapi/uapi.h"

FIXTURE(context) {
	struct seam dev;
	uint32_t id, bo;
	struct drm_flightllm_binding good;
};

FIXTURE_SETUP(context)
{
	device_open(&self->dev);
	self->id = context_create(&self->dev);
	self->bo = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HOST, 0, 16384, 0);
	self->good = (struct drm_flightllm_binding){
		.segment = 1, .core = DRM_FLIGHTLLM_CORE_ALL, .handle = self->bo, .length = 8192,
		.offset = 4096, .rights = DRM_FLIGHTLLM_RIGHT_R,
	};
}

FIXTURE_TEARDOWN(context)
{
	device_close(&self->dev);
}

TEST_F(context, create_refuses_flags_and_reserved_fields)
{
	static const struct refusal rows[] = {
		REFUSAL(drm_flightllm_context_create, flags, 1, EINVAL),
		REFUSAL(drm_flightllm_context_create, reserved[0], 1, EINVAL),
		REFUSAL(drm_flightllm_context_create, reserved[1], 1, EINVAL),
	};
	struct drm_flightllm_context_create good = { 0 };

	EXPECT_REFUSED(rows, good, bad, CALL(&self->dev, CONTEXT_CREATE, &bad));
	EXPECT_EQ(0, CALL(&self->dev, CONTEXT_CREATE, &good));
}

TEST_F(context, a_file_has_1024_contexts_at_most)
{
	struct drm_flightllm_context_create args = { 0 };
	int made = 1;

	while (!CALL(&self->dev, CONTEXT_CREATE, &args))
		made++;
	EXPECT_EQ(1024, made);
	EXPECT_EQ(-ENOSPC, CALL(&self->dev, CONTEXT_CREATE, &args));
}

TEST_F(context, destroy_wants_a_context_without_queues)
{
	struct drm_flightllm_context_destroy args = { .id = 0x7777 };
	uint32_t queue = queue_create(&self->dev, self->id, DRM_FLIGHTLLM_QUEUE_COPY);

	EXPECT_EQ(-ENOENT, CALL(&self->dev, CONTEXT_DESTROY, &args));
	args.id = self->id;
	EXPECT_EQ(-EBUSY, CALL(&self->dev, CONTEXT_DESTROY, &args));
	ASSERT_EQ(0, _queue_destroy(&self->dev, queue));
	args.pad = 1;
	EXPECT_EQ(-EINVAL, CALL(&self->dev, CONTEXT_DESTROY, &args));
	args.pad = 0;
	EXPECT_EQ(0, CALL(&self->dev, CONTEXT_DESTROY, &args));
	EXPECT_EQ(-ENOENT, CALL(&self->dev, CONTEXT_DESTROY, &args));
}

TEST_F(context, contexts_belong_to_their_file)
{
	struct drm_flightllm_context_destroy args = { .id = self->id };
	struct seam other;

	device_open(&other);
	EXPECT_EQ(-ENOENT, CALL(&other, CONTEXT_DESTROY, &args));
	device_close(&other);
}

TEST_F(context, each_bind_makes_the_next_generation)
{
	struct drm_flightllm_segment_bind args = {
		.context = self->id, .bindings = (uintptr_t)&self->good, .count = 1,
		.stride = sizeof(self->good),
	};
	uint32_t first;

	ASSERT_EQ(0, CALL(&self->dev, SEGMENT_BIND, &args));
	first = args.generation;
	EXPECT_NE(0, first);
	/* More often than there are rows in a context page. */
	for (uint32_t i = 1; i < 200; i++) {
		ASSERT_EQ(0, CALL(&self->dev, SEGMENT_BIND, &args));
		EXPECT_EQ(first + i, args.generation);
	}
}

TEST_F(context, bind_refuses_a_row_that_is_wrong)
{
#define BAD(field, value, error) REFUSAL(drm_flightllm_binding, field, value, error)
	static const struct refusal rows[] = {
		BAD(segment, 256, EINVAL),
		BAD(core, 8, EINVAL),
		BAD(rights, 0, EINVAL),
		BAD(rights, 8, EINVAL),
		BAD(length, 0, EINVAL),
		BAD(length, 12289, EINVAL),
		BAD(length, ~0ull, EINVAL),
		BAD(offset, 64, EINVAL),
		BAD(reserved, 1, EINVAL),
		BAD(handle, 0x7777, ENOENT),
		BAD(handle, 0, EINVAL),
	};
#undef BAD

	ASSERT_EQ(0, _bind(&self->dev, self->id, &self->good, 1));
	EXPECT_REFUSED(rows, self->good, bad, _bind(&self->dev, self->id, &bad, 1));
}

TEST_F(context, bind_refuses_an_array_that_is_wrong)
{
#define BAD(field, value, error) REFUSAL(drm_flightllm_segment_bind, field, value, error)
	static const struct refusal rows[] = {
		BAD(flags, 1, EINVAL),
		BAD(pad, 1, EINVAL),
		BAD(count, 0, EINVAL),
		BAD(count, 4097, EINVAL),
		BAD(stride, 0, EINVAL),
		BAD(context, 0x7777, ENOENT),
	};
	static const struct refusal memory[] = { BAD(bindings, 8, EFAULT) };
#undef BAD
	struct drm_flightllm_segment_bind good = {
		.context = self->id, .bindings = (uintptr_t)&self->good, .count = 1,
		.stride = sizeof(self->good),
	}, longer;
	struct {
		struct drm_flightllm_binding row;
		uint64_t more;
	} newer = { .row = self->good };

	ASSERT_EQ(0, CALL(&self->dev, SEGMENT_BIND, &good));
	EXPECT_REFUSED(rows, good, bad, CALL(&self->dev, SEGMENT_BIND, &bad));
	/* A newer program's longer rows are fine as long as the news is zero. */
	longer = good, longer.bindings = (uintptr_t)&newer, longer.stride = sizeof(newer);
	EXPECT_EQ(0, CALL(&self->dev, SEGMENT_BIND, &longer));
	newer.more = 1;
	EXPECT_EQ(-E2BIG, CALL(&self->dev, SEGMENT_BIND, &longer));
	if (is_emulated())
		SKIP(return, "the card in the process shares our memory");
	EXPECT_REFUSED(memory, good, bad, CALL(&self->dev, SEGMENT_BIND, &bad));
}

TEST_F(context, one_bad_row_changes_nothing)
{
	struct drm_flightllm_binding rows[2] = { self->good, self->good };
	struct drm_flightllm_job copy = {
		.op = DRM_FLIGHTLLM_JOB_COPY, .src_segment = 1, .dst_segment = 2, .bytes = 64,
	};
	uint32_t queue = queue_create(&self->dev, self->id, DRM_FLIGHTLLM_QUEUE_COPY);
	uint64_t seqno;

	rows[1].segment = 2;
	rows[1].handle = 0x7777;
	EXPECT_EQ(-ENOENT, _bind(&self->dev, self->id, rows, 2));
	ASSERT_EQ(0, _submit(&self->dev, queue, &copy, 1, &seqno));
	EXPECT_EQ(FLM_FAULT_SEGMENT, wait_end(&self->dev, queue, seqno).fault.kind);
}

TEST_F(context, a_bound_buffer_outlives_its_handle)
{
	uint32_t queue = queue_create(&self->dev, self->id, DRM_FLIGHTLLM_QUEUE_COPY);
	struct drm_flightllm_job crc = {
		.op = DRM_FLIGHTLLM_JOB_CRC32C, .src_segment = 1, .bytes = 8192,
	};
	uint64_t seqno;

	ASSERT_EQ(0, _bind(&self->dev, self->id, &self->good, 1));
	ASSERT_EQ(0, _bo_close(&self->dev, self->bo));
	ASSERT_EQ(0, _submit(&self->dev, queue, &crc, 1, &seqno));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_DONE, wait_end(&self->dev, queue, seqno).status);
}

TEST_HARNESS_MAIN
