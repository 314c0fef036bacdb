// SPDX-License-Identifier: MIT
/* DEV_QUERY: sizes are negotiated, answers make sense, nothing else is answered. */
#include "kselftest_harness.h"

#include "tests/uapi/client.h"

FIXTURE(query) {
	struct seam dev;
};

FIXTURE_SETUP(query)
{
	device_open(&self->dev);
}

FIXTURE_TEARDOWN(query)
{
	device_close(&self->dev);
}

TEST_F(query, without_a_pointer_the_size_is_told)
{
	static const uint32_t sizes[] = { 168, 1288, 192, 88 };

	for (uint32_t type = 0; type < 4; type++) {
		struct drm_flightllm_dev_query args = { .type = type, .size = 12345 };

		ASSERT_EQ(0, CALL(&self->dev, DEV_QUERY, &args));
		EXPECT_EQ(sizes[type], args.size);
	}
}

TEST_F(query, an_older_program_gets_the_first_bytes)
{
	uint8_t answer[64];
	struct drm_flightllm_dev_query args = {
		.type = DRM_FLIGHTLLM_QUERY_CARD, .size = 24, .pointer = (uintptr_t)answer,
	};

	memset(answer, 0xee, sizeof(answer));
	ASSERT_EQ(0, CALL(&self->dev, DEV_QUERY, &args));
	EXPECT_EQ(24, args.size);
	EXPECT_NE(0xee, answer[0]);
	for (int i = 24; i < 64; i++)
		EXPECT_EQ(0xee, answer[i]);
}

TEST_F(query, a_newer_program_is_told_how_much_there_is)
{
	uint8_t answer[400];
	struct drm_flightllm_dev_query args = {
		.type = DRM_FLIGHTLLM_QUERY_CARD, .size = 400, .pointer = (uintptr_t)answer,
	};

	memset(answer, 0xee, sizeof(answer));
	ASSERT_EQ(0, CALL(&self->dev, DEV_QUERY, &args));
	EXPECT_EQ(168, args.size);
	EXPECT_EQ(0xee, answer[168]);
}

TEST_F(query, an_unknown_type_is_refused)
{
	struct drm_flightllm_dev_query args = { .type = 4 };

	EXPECT_EQ(-EINVAL, CALL(&self->dev, DEV_QUERY, &args));
}

TEST_F(query, a_pad_that_is_not_zero_is_refused)
{
	struct drm_flightllm_dev_query args = { .type = 0, .pad = 1 };

	EXPECT_EQ(-EINVAL, CALL(&self->dev, DEV_QUERY, &args));
}

TEST_F(query, a_bad_pointer_is_refused)
{
	struct drm_flightllm_dev_query args = { .type = 0, .size = 168, .pointer = 8 };

	if (is_emulated())
		SKIP(return, "the card in the process shares our memory");
	EXPECT_EQ(-EFAULT, CALL(&self->dev, DEV_QUERY, &args));
}

TEST_F(query, the_card_says_what_it_is)
{
	struct drm_flightllm_query_card card = query_card(&self->dev);

	EXPECT_NE(0, card.name[0]);
	EXPECT_EQ(0, card.name[15]);
	EXPECT_EQ(1, card.map_version >> 16);
	EXPECT_GE(card.cores, 1);
	EXPECT_LE(card.cores, 8);
	EXPECT_GE(card.queues, 4);
	EXPECT_EQ(256, card.segments);
	EXPECT_EQ(is_emulated() ? 64 : 256, card.jobs_max);
	EXPECT_GE(card.points_max, 256);
	EXPECT_EQ(4194304, card.copy_point_bytes);
	EXPECT_EQ(is_emulated() ? 64 : 1024, card.history);
	EXPECT_EQ(4194304, card.watchdog);
	EXPECT_EQ(4, card.priorities);
	EXPECT_EQ(0, card.pad);
	EXPECT_EQ(0, card.reserved[0] | card.reserved[1] | card.reserved[2]);
}

TEST_F(query, a_client_has_points_by_the_pace_of_its_own_jobs)
{
	struct drm_flightllm_job job = run_job();
	struct client fast, other;

	if (is_emulated())
		SKIP(return, "nobody else waits for the card in the process");
	client_open(&fast, 0);
	client_open(&other, 0);
	EXPECT_EQ(256, query_card(&fast.dev).points_max);
	ASSERT_TRUE(client_works(&fast));
	/* Its passes do nothing: 5 s have room for millions of them, but 4096 is the most. */
	EXPECT_EQ(4096, query_card(&fast.dev).points_max);
	job.max_points = 4096;
	EXPECT_EQ(0, _submit(&fast.dev, fast.queue, &job, 1, NULL));
	EXPECT_EQ(-E2BIG, _submit(&other.dev, other.queue, &job, 1, NULL));
	job.max_points = 4097;
	EXPECT_EQ(-E2BIG, _submit(&fast.dev, fast.queue, &job, 1, NULL));
	job.max_points = 257;
	EXPECT_EQ(256, query_card(&other.dev).points_max);
	EXPECT_EQ(-E2BIG, _submit(&other.dev, other.queue, &job, 1, NULL));
	job.max_points = 256;
	EXPECT_EQ(0, _submit(&other.dev, other.queue, &job, 1, NULL));
	device_close(&other.dev);
	device_close(&fast.dev);
}

TEST_F(query, every_region_is_listed_once)
{
	struct drm_flightllm_query_memory memory = query_memory(&self->dev);
	struct drm_flightllm_query_card card = query_card(&self->dev);

	ASSERT_EQ(card.cores + 2, memory.count);
	for (uint32_t i = 0; i < memory.count; i++) {
		struct drm_flightllm_region *region = &memory.regions[i];

		EXPECT_GT(region->size, 0);
		EXPECT_LE(region->free, region->size);
		EXPECT_LE(region->visible, region->size);
		EXPECT_EQ(0, region->used_by_file);
		if (i)
			EXPECT_GT(region->id, memory.regions[i - 1].id);
	}
	EXPECT_STREQ("hbm0", (char *)memory.regions[0].name);
	EXPECT_EQ(2u << 20, memory.regions[0].block);
	EXPECT_STREQ("host", (char *)memory.regions[memory.count - 1].name);
	EXPECT_EQ(4096, memory.regions[memory.count - 1].block);
}

TEST_F(query, a_file_sees_the_bytes_of_its_own_buffers)
{
	struct seam other;

	device_open(&other);
	bo_create(&other, DRM_FLIGHTLLM_BO_HBM, 0, 4 << 20, 0);
	EXPECT_EQ(4u << 20, region_of(&other, 0).used_by_file);
	EXPECT_EQ(0, region_of(&self->dev, 0).used_by_file);
	device_close(&other);
}

TEST_F(query, register_accesses_are_counted)
{
	struct drm_flightllm_query_counters a = query_counters(&self->dev);
	struct drm_flightllm_query_counters b = query_counters(&self->dev);

	EXPECT_GT(b.reads, a.reads);
	EXPECT_GE(b.time_us, a.time_us);
	EXPECT_EQ(0, b.dma_errors);
}

TEST_F(query, a_healthy_card_is_ready)
{
	struct drm_flightllm_query_health health = { 0 };
	struct drm_flightllm_dev_query args = {
		.type = DRM_FLIGHTLLM_QUERY_HEALTH, .size = sizeof(health),
		.pointer = (uintptr_t)&health,
	};

	ASSERT_EQ(0, CALL(&self->dev, DEV_QUERY, &args));
	EXPECT_EQ(0, health.state);
	EXPECT_EQ(0, health.uncorrected);
}

TEST_HARNESS_MAIN
