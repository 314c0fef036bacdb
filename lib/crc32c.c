// SPDX-License-Identifier: MIT
/*
 * CRC32C (Castagnoli polynomial 0x1edc6f41, reflected 0x82f63b78; RFC 3720, B.4). SSE4.2 and ARMv8
 * have an instruction for eight bytes of it. The plain road takes eight bytes a step too: table k
 * holds the effect of a byte that is followed by k zero bytes.
 */
#include <endian.h>
#include <pthread.h>
#include <string.h>
#ifdef __aarch64__
#include <asm/hwcap.h>
#include <sys/auxv.h>
#endif

#include "lib/crc32c.h"

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

uint32_t flm_crc32c_plain(uint32_t before, const void *memory, size_t bytes)
{
	const uint8_t *p = memory;
	uint32_t crc = ~before;

	pthread_once(&once, make_table);
	for (; bytes >= 8; bytes -= 8, p += 8) {
		uint32_t low, high;

		memcpy(&low, p, 4);
		memcpy(&high, p + 4, 4);
		low = le32toh(low) ^ crc;
		high = le32toh(high);
		crc = table[7][low & 0xff] ^ table[6][low >> 8 & 0xff] ^
		      table[5][low >> 16 & 0xff] ^ table[4][low >> 24] ^
		      table[3][high & 0xff] ^ table[2][high >> 8 & 0xff] ^
		      table[1][high >> 16 & 0xff] ^ table[0][high >> 24];
	}
	while (bytes--)
		crc = crc >> 8 ^ table[0][(crc ^ *p++) & 0xff];
	return ~crc;
}

/* The instruction, of eight bytes and of one, and whether this processor has it. */
#if defined(__x86_64__)
#define HAS_INSTRUCTION __builtin_cpu_supports("sse4.2")
#define INSTRUCTION __attribute__((target("sse4.2")))

INSTRUCTION
static inline uint32_t crc_8(uint32_t crc, uint64_t word)
{
	return __builtin_ia32_crc32di(crc, word);
}

INSTRUCTION
static inline uint32_t crc_1(uint32_t crc, uint8_t byte)
{
	return __builtin_ia32_crc32qi(crc, byte);
}
#elif defined(__AARCH64EL__)
#define HAS_INSTRUCTION (getauxval(AT_HWCAP) & HWCAP_CRC32)
#define INSTRUCTION

static inline uint32_t crc_8(uint32_t crc, uint64_t word)
{
	__asm__(".arch_extension crc\n\tcrc32cx %w0, %w0, %x1" : "+r"(crc) : "r"(word));
	return crc;
}

static inline uint32_t crc_1(uint32_t crc, uint32_t byte)
{
	__asm__(".arch_extension crc\n\tcrc32cb %w0, %w0, %w1" : "+r"(crc) : "r"(byte));
	return crc;
}
#endif

#ifdef HAS_INSTRUCTION
INSTRUCTION
static uint32_t by_instruction(uint32_t before, const void *memory, size_t bytes)
{
	const uint8_t *p = memory;
	uint32_t crc = ~before;
	uint64_t word;

	for (; bytes >= 8; bytes -= 8, p += 8) {
		memcpy(&word, p, 8);
		crc = crc_8(crc, word);
	}
	while (bytes--)
		crc = crc_1(crc, *p++);
	return ~crc;
}
#endif

uint32_t flm_crc32c(uint32_t before, const void *memory, size_t bytes)
{
#ifdef HAS_INSTRUCTION
	if (HAS_INSTRUCTION)
		return by_instruction(before, memory, bytes);
#endif
	return flm_crc32c_plain(before, memory, bytes);
}
