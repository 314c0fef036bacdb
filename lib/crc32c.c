// SPDX-License-Identifier: MIT
/*
 * CRC32C (Castagnoli polynomial 0x1edc6f41, reflected 0x82f63b78; RFC 3720, B.4), eight bytes a
 * step: table k holds the effect of a byte that is followed by k zero bytes.
 */
#include <pthread.h>
#include <string.h>

#include "lib/internal.h"

static uint32_t table[8][256];
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void make_table(void)
{
	for (uint32_t i = 0; i < 256; i++) {
		uint32_t crc = i;

		for (int bit = 0; bit < 8; bit++)
			crc = crc >> 1 ^ (crc & 1 ? 0x82f63b78u : 0);
		table[0][i] = crc;
	}
	for (int k = 1; k < 8; k++)
		for (int i = 0; i < 256; i++)
			table[k][i] = table[k - 1][i] >> 8 ^ table[0][table[k - 1][i] & 0xff];
}

uint32_t flm_crc32c(uint32_t before, const void *memory, size_t bytes)
{
	const uint8_t *p = memory;
	uint32_t crc = ~before;

	pthread_once(&once, make_table);
	for (; bytes >= 8; bytes -= 8, p += 8) {
		uint32_t low, high;

		memcpy(&low, p, 4);
		memcpy(&high, p + 4, 4);
		low ^= crc;
		crc = table[7][low & 0xff] ^ table[6][low >> 8 & 0xff] ^
		      table[5][low >> 16 & 0xff] ^ table[4][low >> 24] ^
		      table[3][high & 0xff] ^ table[2][high >> 8 & 0xff] ^
		      table[1][high >> 16 & 0xff] ^ table[0][high >> 24];
	}
	while (bytes--)
		crc = crc >> 8 ^ table[0][(crc ^ *p++) & 0xff];
	return ~crc;
}
