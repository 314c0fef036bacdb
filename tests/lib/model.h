/* SPDX-License-Identifier: MIT */
/*
 * A small model for the tests of the library: made by the compiler of the same build into a folder
 * that is gone when the test ends, and the card's library of that build for "emulate". A .flm file
 * in memory can be changed field by field and sealed again, with a CRC32C of this file's own.
 */
#ifndef TESTS_LIB_MODEL_H
#define TESTS_LIB_MODEL_H

#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/flightllm.h"

static char model_dir[64], model_path[96], model_build[4096];

static void model_remove(void)
{
	unlink(model_path);
	rmdir(model_dir);
}

/* Makes model_path; ends the test when that fails. */
static void model_make(const char *options)
{
	char command[3 * sizeof(model_build)], library[sizeof(model_build) + 32];
	ssize_t n = readlink("/proc/self/exe", model_build, sizeof(model_build) - 1);

	/* BUILD/tests/lib/NAME */
	for (int up = 0; up < 3 && n > 0; up++) {
		model_build[n] = 0;
		*strrchr(model_build, '/') = 0;
		n = strlen(model_build);
	}
	snprintf(library, sizeof(library), "%s/libflightllm-card.so", model_build);
	setenv("FLIGHTLLM_CARD_LIBRARY", library, 1);
	snprintf(model_dir, sizeof(model_dir), "/tmp/flightllm-test-XXXXXX");
	if (!mkdtemp(model_dir)) {
		printf("Bail out! no temporary folder\n");
		exit(1);
	}
	snprintf(model_path, sizeof(model_path), "%s/model.flm", model_dir);
	atexit(model_remove);
	snprintf(command, sizeof(command), "'%s/flightllm-cc' %s -o %s --no-progress >/dev/null",
		 model_build, options, model_path);
	if (system(command)) {
		printf("Bail out! flightllm-cc %s failed\n", options);
		exit(1);
	}
}

/* Of all the card's memory. */
static inline uint64_t free_bytes(struct flm_device *device)
{
	struct flm_device_info info;
	uint64_t bytes = 0;

	flm_device_info(device, &info);
	for (unsigned int i = 0; i < info.regions; i++)
		bytes += info.region[i].free_bytes;
	return bytes;
}

/* ---- A .flm file in memory ---- */

struct flm_copy {
	uint8_t *data;
	size_t bytes;
};

static inline struct flm_copy flm_read(const char *path)
{
	struct flm_copy copy = { 0 };
	FILE *file = fopen(path, "rb");
	long bytes = file && !fseek(file, 0, SEEK_END) ? ftell(file) : 0;

	if (bytes > 0) {
		rewind(file);
		copy.data = malloc(bytes);
		copy.bytes = copy.data ? fread(copy.data, 1, bytes, file) : 0;
	}
	if (file)
		fclose(file);
	if (!copy.bytes) {
		printf("Bail out! %s cannot be read\n", path);
		exit(1);
	}
	return copy;
}

static inline uint32_t get32(const uint8_t *at)
{
	return at[0] | at[1] << 8 | at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline uint64_t get64(const uint8_t *at)
{
	return get32(at) | (uint64_t)get32(at + 4) << 32;
}

static inline void put(uint8_t *at, uint64_t value, unsigned int bytes)
{
	for (unsigned int i = 0; i < bytes; i++)
		at[i] = value >> 8 * i;
}

static inline uint32_t slow_crc32c(const uint8_t *data, size_t bytes)
{
	uint32_t crc = ~0u;

	for (size_t i = 0; i < bytes; i++) {
		crc ^= data[i];
		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
	}
	return ~crc;
}

/* The row of the first section of a kind; NULL: there is none. */
static inline uint8_t *flm_row_of(const struct flm_copy *copy, uint32_t kind)
{
	uint32_t sections = get32(copy->data + 36);

	for (uint32_t i = 0; i < sections; i++)
		if (get32(copy->data + 64 + 64 * i) == kind)
			return copy->data + 64 + 64 * i;
	return NULL;
}

/* CRCs of header and table as they must be, and of every section that lies in the file. */
static inline void flm_seal(struct flm_copy *copy)
{
	uint32_t sections = get32(copy->data + 36);

	if (sections > 256 || 64 + 64 * (size_t)sections > copy->bytes)
		sections = 0;
	for (uint32_t i = 0; i < sections; i++) {
		uint8_t *row = copy->data + 64 + 64 * i;
		uint64_t offset = get64(row + 8), bytes = get64(row + 16);

		if (offset <= copy->bytes && bytes <= copy->bytes - offset)
			put(row + 44, slow_crc32c(copy->data + offset, bytes), 4);
	}
	put(copy->data + 60, 0, 4);
	put(copy->data + 60, slow_crc32c(copy->data, 64 + 64 * (size_t)sections), 4);
}

#endif
