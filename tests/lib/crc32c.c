// SPDX-License-Identifier: MIT
/*
 * CRC32C by both of its roads, the processor's instruction and the tables, against known answers
 * and against each other.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crc32c.h"
#include "tests/tap.h"

typedef uint32_t (*road_fn)(uint32_t before, const void *memory, size_t bytes);

static const struct {
	const char *name;
	road_fn crc;
} roads[] = { { "the fast road", flm_crc32c }, { "the plain road", flm_crc32c_plain } };

/* RFC 3720, B.4, and the nine digits that each CRC is known by. */
static void known_answers(void)
{
	uint8_t zeros[32] = { 0 }, ones[32], up[32], down[32];
	const uint8_t scsi_read[48] = {
		[0] = 0x01, 0xc0, [16] = 0x14, [22] = 0x04, [27] = 0x14, [31] = 0x18,
		[32] = 0x28, [40] = 0x02,
	};
	const struct {
		const char *what;
		const void *memory;
		size_t bytes;
		uint32_t crc;
	} rows[] = {
		{ "no bytes", "", 0, 0 },
		{ "one byte", "a", 1, 0xc1d04330 },
		{ "the nine digits", "123456789", 9, 0xe3069283 },
		{ "32 zeros", zeros, 32, 0x8a9136aa },
		{ "32 bytes of ones", ones, 32, 0x62a8ab43 },
		{ "32 ascending bytes", up, 32, 0x46dd794e },
		{ "32 descending bytes", down, 32, 0x113fdb5c },
		{ "iSCSI's read command", scsi_read, 48, 0xd9963a56 },
	};

	memset(ones, 0xff, sizeof(ones));
	for (int i = 0; i < 32; i++) {
		up[i] = i;
		down[i] = 31 - i;
	}
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		for (int r = 0; r < 2; r++)
			ok(roads[r].crc(0, rows[i].memory, rows[i].bytes) == rows[i].crc,
			   "%s: %s is %08x", roads[r].name, rows[i].what, rows[i].crc);
}

/* In one piece by tables and in random pieces by each road, at every alignment. */
static void random_pieces(const uint8_t *memory)
{
	unsigned int wrong[2] = { 0 };

	srandom(1);
	for (int trial = 0; trial < 20000; trial++) {
		size_t bytes = random() % (trial % 100 ? 300 : 70000);
		const uint8_t *from = memory + random() % 64;
		uint32_t whole = flm_crc32c_plain(0, from, bytes);

		for (int r = 0; r < 2; r++) {
			uint32_t crc = 0;

			for (size_t at = 0, n; at < bytes; at += n) {
				n = 1 + random() % (bytes - at);
				crc = roads[r].crc(crc, from + at, n);
			}
			wrong[r] += crc != whole;
		}
	}
	for (int r = 0; r < 2; r++)
		ok(!wrong[r], "%s: 20,000 ranges in pieces are as by tables in one (%u are not)",
		   roads[r].name, wrong[r]);
}

int main(void)
{
	static uint8_t memory[70064];
	uint32_t state = 1;

	for (size_t i = 0; i < sizeof(memory); i++) {
		state = state * 1664525 + 1013904223;
		memory[i] = state >> 24;
	}
	known_answers();
	random_pieces(memory);
	return done_testing();
}
