// SPDX-License-Identifier: MIT
/* QUEUE_CREATE and QUEUE_DESTROY. */
#include <unistd.h>

#include "kselftest_harness.h"

#include "tests/uapi/uapi.h"

FIXTURE(queue) {
	struct seam dev;
	struct drm_flightllm_queue_create good;
};

FIXTURE_SETUP(queue)
{
	device_open(&self->dev);
	self->good = (struct drm_flightllm_queue_create){
		.context = context_create(&self->dev), .kind = DRM_FLIGHTLLM_QUEUE_COMPUTE,
		.priority = 1,
	};
}

FIXTURE_TEARDOWN(queue)
{
	device_close(&self->dev);
}

static int queue_create_err(struct seam *dev, struct drm_flightllm_queue_create args)
{
	return CALL(dev, QUEUE_CREATE, &args);
}

TEST_F(queue, create_refuses_what_it_does_not_know)
{
#define BAD(field, value, error) REFUSAL(drm_flightllm_queue_create, field, value, error)
	static const struct refusal rows[] = {
		BAD(kind, 2, EINVAL),
		BAD(flags, 2, EINVAL),
		BAD(flags, DRM_FLIGHTLLM_QUEUE_USER, EOPNOTSUPP),
		BAD(priority, 4, EINVAL),
		BAD(cores, 0x100, EINVAL),
		BAD(quantum_us, 1000001, EINVAL),
		BAD(pad, 1, EINVAL),
		BAD(reserved[0], 1, EINVAL),
		BAD(reserved[1], 1, EINVAL),
		BAD(reserved[2], 1, EINVAL),
		BAD(reserved[3], 1, EINVAL),
		BAD(context, 0x7777, ENOENT),
	};
	static const struct refusal copy_rows[] = { BAD(cores, 1, EINVAL) };
#undef BAD
	struct drm_flightllm_queue_create copy = self->good;

	copy.kind = DRM_FLIGHTLLM_QUEUE_COPY;
	EXPECT_REFUSED(rows, self->good, bad, CALL(&self->dev, QUEUE_CREATE, &bad));
	EXPECT_REFUSED(copy_rows, copy, bad, CALL(&self->dev, QUEUE_CREATE, &bad));
	ASSERT_EQ(0, CALL(&self->dev, QUEUE_CREATE, &self->good));
	ASSERT_EQ(0, CALL(&self->dev, QUEUE_CREATE, &copy));
}

TEST_F(queue, the_highest_priority_needs_a_privilege)
{
	struct drm_flightllm_queue_create args = self->good;

	if (is_emulated())
		SKIP(return, "privileges are the kernel's");
	args.priority = 3;
	ASSERT_EQ(0, queue_create_err(&self->dev, args));
	ASSERT_EQ(0, setresuid(65534, 65534, 65534));
	EXPECT_EQ(-EACCES, queue_create_err(&self->dev, args));
	args.priority = 2;
	EXPECT_EQ(0, queue_create_err(&self->dev, args));
}

TEST_F(queue, there_are_as_many_as_the_card_says_and_they_come_back)
{
	uint32_t queues = query_card(&self->dev).queues;

	for (int round = 0; round < 2; round++) {
		struct drm_flightllm_queue_create args;
		uint32_t made = 0, id[4096];

		for (;;) {
			args = self->good;
			if (CALL(&self->dev, QUEUE_CREATE, &args))
				break;
			id[made++] = args.id;
		}
		EXPECT_EQ(queues, made);
		EXPECT_EQ(-ENOSPC, queue_create_err(&self->dev, self->good));
		while (made)
			ASSERT_EQ(0, _queue_destroy(&self->dev, id[--made]));
	}
}

TEST_F(queue, destroy_refuses_unknown_ids_and_pads)
{
	struct drm_flightllm_queue_destroy args = { .id = 0x7777 };

	EXPECT_EQ(-ENOENT, CALL(&self->dev, QUEUE_DESTROY, &args));
	args.id = queue_create(&self->dev, self->good.context, DRM_FLIGHTLLM_QUEUE_COMPUTE);
	args.pad = 1;
	EXPECT_EQ(-EINVAL, CALL(&self->dev, QUEUE_DESTROY, &args));
	args.pad = 0;
	EXPECT_EQ(0, CALL(&self->dev, QUEUE_DESTROY, &args));
	EXPECT_EQ(-ENOENT, CALL(&self->dev, QUEUE_DESTROY, &args));
}

TEST_HARNESS_MAIN
