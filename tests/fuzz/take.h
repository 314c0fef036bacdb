/* SPDX-License-Identifier: MIT */
/*
 * A fuzzer's input, taken from the front a few bytes at a time.
 */
#ifndef TESTS_FUZZ_TAKE_H
#define TESTS_FUZZ_TAKE_H

#include <endian.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

/* The next bytes, at most 8, as a little-endian number; what is missing at the end is zero. */
static inline uint64_t take(const uint8_t **data, size_t *size, size_t bytes)
{
	uint64_t value = 0;

	if (bytes > *size)
		bytes = *size;
	memcpy(&value, *data, bytes);
	*data += bytes;
	*size -= bytes;
	return le64toh(value);
}

#endif
