/* SPDX-License-Identifier: MIT */
/*
 * The one CRC32C, of .flm files for library and compiler, of copy queues for the emulator:
 *
 *	crc = flm_crc32c(0, head, head_bytes);
 *	crc = flm_crc32c(crc, rest, rest_bytes);	// as of both in one piece
 */
#ifndef LIB_CRC32C_H
#define LIB_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* CRC32C of bytes that follow those whose CRC is `before` (0 at the start). Any thread. */
uint32_t flm_crc32c(uint32_t before, const void *memory, size_t bytes);

/* The same by tables, which flm_crc32c() uses where the processor has no instruction for it. */
uint32_t flm_crc32c_plain(uint32_t before, const void *memory, size_t bytes);

#endif
