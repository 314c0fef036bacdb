// SPDX-License-Identifier: MIT
/* Buffers: made in each place, zero, mapped, refused with the errno of the header. */
#include <fcntl.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "tests/uapi/uapi.h"

#define MIB (1ull << 20)

FIXTURE(bo) {
	struct seam dev;
};

FIXTURE_SETUP(bo)
{
	device_open(&self->dev);
}

FIXTURE_TEARDOWN(bo)
{
	device_close(&self->dev);
}

TEST_F(bo, size_is_rounded_up_to_the_block_of_the_region)
{
	struct drm_flightllm_bo_create args = { .size = 1, .placement = DRM_FLIGHTLLM_BO_HBM };

	ASSERT_EQ(0, CALL(&self->dev, BO_CREATE, &args));
	EXPECT_EQ(2 * MIB, args.size);
	EXPECT_NE(0, args.handle);
	args = (struct drm_flightllm_bo_create){ .size = 1, .placement = DRM_FLIGHTLLM_BO_DDR };
	ASSERT_EQ(0, CALL(&self->dev, BO_CREATE, &args));
	EXPECT_EQ(2 * MIB, args.size);
	args = (struct drm_flightllm_bo_create){ .size = 1, .placement = DRM_FLIGHTLLM_BO_HOST };
	ASSERT_EQ(0, CALL(&self->dev, BO_CREATE, &args));
	EXPECT_EQ(4096, args.size);
}

TEST_F(bo, create_refuses_what_it_does_not_know)
{
#define BAD(field, value, error) REFUSAL(drm_flightllm_bo_create, field, value, error)
	static const struct refusal rows[] = {
		BAD(size, 0, EINVAL),
		BAD(size, ~0ull, E2BIG),
		BAD(placement, 0, EINVAL),
		BAD(placement, 4, EINVAL),
		BAD(core, 1, EINVAL),
		BAD(flags, 4, EINVAL),
		BAD(flags, DRM_FLIGHTLLM_BO_USERPTR, EOPNOTSUPP),
		BAD(user_address, 4096, EINVAL),
		BAD(reserved[0], 1, EINVAL),
		BAD(reserved[1], 1, EINVAL),
	};
	static const struct refusal hbm_rows[] = {
		BAD(size, ~0ull, E2BIG),
		BAD(core, 8, EINVAL),
	};
#undef BAD
	struct drm_flightllm_bo_create host = {
		.size = 4096, .placement = DRM_FLIGHTLLM_BO_HOST,
	};
	struct drm_flightllm_bo_create hbm = {
		.size = 4096, .placement = DRM_FLIGHTLLM_BO_HBM,
	};

	EXPECT_REFUSED(rows, host, bad, CALL(&self->dev, BO_CREATE, &bad));
	EXPECT_REFUSED(hbm_rows, hbm, bad, CALL(&self->dev, BO_CREATE, &bad));
	ASSERT_EQ(0, CALL(&self->dev, BO_CREATE, &host));
	ASSERT_EQ(0, CALL(&self->dev, BO_CREATE, &hbm));
}

TEST_F(bo, a_full_region_says_how_much_is_left)
{
	struct drm_flightllm_region hbm = region_of(&self->dev, 0);
	struct drm_flightllm_bo_create args = {
		.size = hbm.free - 4 * MIB, .placement = DRM_FLIGHTLLM_BO_HBM,
	};

	if (hbm.size > 1024 * MIB)
		SKIP(return, "clearing that much takes too long; run it on the card tiny");
	ASSERT_EQ(0, CALL(&self->dev, BO_CREATE, &args));
	args = (struct drm_flightllm_bo_create){
		.size = 6 * MIB, .placement = DRM_FLIGHTLLM_BO_HBM,
	};
	EXPECT_EQ(-ENOSPC, CALL(&self->dev, BO_CREATE, &args));
	EXPECT_EQ(0, args.handle);
	EXPECT_EQ(6 * MIB, args.size);
	EXPECT_EQ(hbm.size, args.total);
	EXPECT_EQ(4 * MIB, args.free);
	EXPECT_EQ(4 * MIB, args.largest);
	args = (struct drm_flightllm_bo_create){
		.size = 4 * MIB, .placement = DRM_FLIGHTLLM_BO_HBM,
	};
	EXPECT_EQ(0, CALL(&self->dev, BO_CREATE, &args));
}

TEST_F(bo, a_client_that_fills_a_region_takes_nothing_from_another)
{
	uint32_t own = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HBM, 0, 2 * MIB,
				 DRM_FLIGHTLLM_BO_VISIBLE);
	uint32_t *memory = bo_memory(&self->dev, own, 2 * MIB);
	struct drm_flightllm_bo_create args;
	uint32_t handles[256], count = 0, wrong = 0;
	struct seam other;
	uint64_t before;

	device_open(&other);
	before = region_of(&other, 0).free;
	if (before > 256 * 4 * MIB)
		SKIP(return, "clearing that much takes too long; run it on the card tiny");
	for (uint32_t i = 0; i < 2 * MIB / 4; i++)
		memory[i] = 0x9e3779b9 * i;
	for (;;) {
		args = (struct drm_flightllm_bo_create){
			.size = 4 * MIB, .placement = DRM_FLIGHTLLM_BO_HBM,
		};
		if (CALL(&other, BO_CREATE, &args))
			break;
		handles[count++] = args.handle;
	}
	EXPECT_EQ(before / (4 * MIB), count);
	EXPECT_EQ(before % (4 * MIB), args.free);
	EXPECT_EQ(before % (4 * MIB), region_of(&other, 0).free);
	/* Every second one back: enough in all, but not in one piece. */
	for (uint32_t i = 0; i < count; i += 2)
		ASSERT_EQ(0, _bo_close(&other, handles[i]));
	args = (struct drm_flightllm_bo_create){
		.size = 8 * MIB, .placement = DRM_FLIGHTLLM_BO_HBM,
	};
	EXPECT_EQ(-ENOSPC, CALL(&other, BO_CREATE, &args));
	EXPECT_EQ((count + 1) / 2 * 4 * MIB + before % (4 * MIB), args.free);
	EXPECT_LE(4 * MIB, args.largest);
	EXPECT_GT(8 * MIB, args.largest);
	for (uint32_t i = 0; i < 2 * MIB / 4; i++)
		wrong += memory[i] != 0x9e3779b9 * i;
	EXPECT_EQ(0, wrong);
	for (uint32_t i = 1; i < count; i += 2)
		ASSERT_EQ(0, _bo_close(&other, handles[i]));
	EXPECT_EQ(before, region_of(&other, 0).free);
	device_close(&other);
	munmap(memory, 2 * MIB);
}

TEST_F(bo, memory_comes_back_when_a_buffer_is_closed)
{
	uint64_t before = region_of(&self->dev, FLM_REGION_DDR).free;
	uint32_t handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_DDR, 0, 8 * MIB, 0);

	EXPECT_EQ(before - 8 * MIB, region_of(&self->dev, FLM_REGION_DDR).free);
	ASSERT_EQ(0, _bo_close(&self->dev, handle));
	EXPECT_EQ(before, region_of(&self->dev, FLM_REGION_DDR).free);
}

TEST_F(bo, host_memory_maps_and_keeps_what_is_written)
{
	uint32_t handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HOST, 0, 1 * MIB, 0);
	uint8_t *memory = bo_memory(&self->dev, handle, 1 * MIB);
	uint8_t *again = bo_memory(&self->dev, handle, 1 * MIB);

	for (unsigned int i = 0; i < 1 * MIB; i += 4096)
		EXPECT_EQ(0, memory[i]);
	memset(memory, 0x5a, 1 * MIB);
	EXPECT_EQ(0x5a, again[0]);
	EXPECT_EQ(0x5a, again[1 * MIB - 1]);
	munmap(memory, 1 * MIB);
	munmap(again, 1 * MIB);
}

TEST_F(bo, a_buffer_never_shows_what_was_there_before)
{
	for (int round = 0; round < 3; round++) {
		uint32_t handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HBM, 0, 2 * MIB,
					    DRM_FLIGHTLLM_BO_VISIBLE);
		uint32_t *memory = bo_memory(&self->dev, handle, 2 * MIB);
		uint32_t seen = 0;

		for (unsigned int i = 0; i < 2 * MIB / 4; i++)
			seen |= memory[i];
		EXPECT_EQ(0, seen);
		memset(memory, 0xc3, 2 * MIB);
		munmap(memory, 2 * MIB);
		ASSERT_EQ(0, _bo_close(&self->dev, handle));
	}
}

TEST_F(bo, what_the_cpu_cannot_see_is_not_mapped)
{
	struct drm_flightllm_region hbm = region_of(&self->dev, 0);
	struct drm_flightllm_bo_mmap_offset args = { 0 };
	struct drm_flightllm_bo_info info = { 0 };

	if (hbm.visible == hbm.size)
		SKIP(return, "the window shows all of this card's memory");
	args.handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HBM, 0, 2 * MIB, 0);
	EXPECT_EQ(-ENXIO, CALL(&self->dev, BO_MMAP_OFFSET, &args));
	info.handle = args.handle;
	ASSERT_EQ(0, CALL(&self->dev, BO_INFO, &info));
	EXPECT_EQ(0, info.visible);
}

/* Its handle is gone, others want all there is, a reader comes by another road than the page. */
TEST_F(bo, what_is_still_mapped_is_given_to_nobody)
{
	uint64_t before = region_of(&self->dev, 0).free;
	uint32_t own = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HBM, 0, 2 * MIB,
				 DRM_FLIGHTLLM_BO_VISIBLE);
	uint32_t *memory = bo_memory(&self->dev, own, 2 * MIB), word = 0, wrong = 0;
	int fd = open("/proc/self/mem", O_RDWR);
	struct drm_flightllm_bo_create args;
	struct seam other;

	if (is_emulated())
		SKIP(return, "a mapping of the card in the process is not seen by it");
	if (before > 1024 * MIB)
		SKIP(return, "clearing that much takes too long; run it on the card tiny");
	for (uint32_t i = 0; i < 2 * MIB / 4; i++)
		memory[i] = 0x9e3779b9 * i;
	ASSERT_EQ(0, _bo_close(&self->dev, own));
	EXPECT_EQ(before - 2 * MIB, region_of(&self->dev, 0).free);
	/* Refused, for the card's memory; but TTM has had it in its hands. */
	if (pread(fd, &word, 4, (uintptr_t)&memory[5]) < 0)
		word = 5 * 0x9e3779b9;
	EXPECT_EQ(5 * 0x9e3779b9, word);
	device_open(&other);
	do {
		args = (struct drm_flightllm_bo_create){
			.size = 2 * MIB, .placement = DRM_FLIGHTLLM_BO_HBM,
		};
	} while (!CALL(&other, BO_CREATE, &args));
	EXPECT_EQ(0, args.free);
	for (uint32_t i = 0; i < 2 * MIB / 4; i++)
		wrong += memory[i] != 0x9e3779b9 * i;
	EXPECT_EQ(0, wrong);
	munmap(memory, 2 * MIB);
	EXPECT_EQ(2 * MIB, region_of(&other, 0).free);
	device_close(&other);
	EXPECT_EQ(before, region_of(&self->dev, 0).free);
	close(fd);
}

TEST_F(bo, mmap_offset_refuses_flags_and_unknown_handles)
{
	struct drm_flightllm_bo_mmap_offset args = { .handle = 0x7777 };

	EXPECT_EQ(-ENOENT, CALL(&self->dev, BO_MMAP_OFFSET, &args));
	args.handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HOST, 0, 4096, 0);
	args.flags = 1;
	EXPECT_EQ(-EINVAL, CALL(&self->dev, BO_MMAP_OFFSET, &args));
}

TEST_F(bo, info_says_what_was_made)
{
	struct drm_flightllm_bo_info info = {
		.handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HBM, 0, 3 * MIB,
				    DRM_FLIGHTLLM_BO_VISIBLE),
	};

	ASSERT_EQ(0, CALL(&self->dev, BO_INFO, &info));
	EXPECT_EQ(4 * MIB, info.size);
	EXPECT_EQ(DRM_FLIGHTLLM_BO_HBM, info.placement);
	EXPECT_EQ(0, info.core);
	EXPECT_EQ(DRM_FLIGHTLLM_BO_VISIBLE, info.flags);
	EXPECT_EQ(1, info.resident);
	EXPECT_EQ(1, info.visible);
	info.pad = 1;
	EXPECT_EQ(-EINVAL, CALL(&self->dev, BO_INFO, &info));
	info.pad = 0;
	info.handle = 0x7777;
	EXPECT_EQ(-ENOENT, CALL(&self->dev, BO_INFO, &info));
}

TEST_F(bo, handles_belong_to_their_file)
{
	struct drm_flightllm_bo_info info = { 0 };
	struct seam other;

	device_open(&other);
	info.handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HOST, 0, 4096, 0);
	EXPECT_EQ(-ENOENT, CALL(&other, BO_INFO, &info));
	device_close(&other);
}

TEST_F(bo, prime_is_refused_until_it_exists)
{
	struct drm_prime_handle args = { 0 };

	if (is_emulated())
		SKIP(return, "PRIME is the kernel's");
	args.handle = bo_create(&self->dev, DRM_FLIGHTLLM_BO_HOST, 0, 4096, 0);
	EXPECT_EQ(-EOPNOTSUPP, DRM(&self->dev, PRIME_HANDLE_TO_FD, &args));
	EXPECT_EQ(-EOPNOTSUPP, DRM(&self->dev, PRIME_FD_TO_HANDLE, &args));
}

TEST_HARNESS_MAIN
