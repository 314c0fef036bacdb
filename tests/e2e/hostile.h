/* SPDX-License-Identifier: MIT */
/*
 * Programs that a card must refuse: each kind of mistake with random operands. An attempt knows
 * which record its fault must leave, because it breaks one rule of SPEC.md in one place; only a
 * mutant knows nothing. (Block entries and bus addresses are the driver's: no client breaks them.)
 *
 *	attempt_begin(&attempt, cores);
 *	hostile_kinds[i].make(&attempt);
 *	attempt_place(&attempt, &job);
 *	... submit attempt.args; the record is attempt.want ...
 */
#ifndef TESTS_E2E_HOSTILE_H
#define TESTS_E2E_HOSTILE_H

#include "tests/e2e/attempt.h"

static void want_memory(struct attempt *a, uint32_t kind, uint32_t segment, uint64_t offset)
{
	a->want.kind = kind;
	a->want.segment = segment;
	a->want.offset = offset;
}

/* Found before a core begins: unit and entry are none. */
static void want_nowhere(struct attempt *a, uint32_t kind, uint32_t core, uint32_t word)
{
	a->is_nowhere = true;
	a->want.kind = kind;
	a->want.core = core;
	a->want.unit = a->want.entry = NOWHERE;
	a->want.word = word;
}

/* A row of bytes between chip and memory. */
static void put_row(struct attempt *a, unsigned int unit, uint32_t segment, uint32_t offset)
{
	uint32_t bytes = between(a, 1, 64);

	put(a, unit, "%s seg=%u off=%u %s=act:%u rows=1/1 bytes=%u/%u", unit_names[unit], segment,
	    offset, unit == LD ? "dst" : "src", roll(a, 4096), bytes, bytes);
}

static void make_unbound(struct attempt *a)
{
	uint32_t segment = between(a, SEG_UNBOUND, 255), offset = roll(a, 0x7fffffff);

	put_row(a, roll(a, 2) ? LD : ST, segment, offset);
	want_memory(a, SEGMENT, segment, offset);
}

/* Row `bad` is the first that reaches beyond the segment's end. */
static void make_beyond(struct attempt *a)
{
	uint32_t bytes = between(a, 2, 200), pitch = bytes + between(a, 1, 99), bad = roll(a, 6);
	uint32_t rows = bad + between(a, 1, 3), offset = a->data_bytes - bytes;

	if (bad)
		offset -= between(a, 0, pitch - 1) + (bad - 1) * pitch;
	else
		offset += between(a, 1, DATA_ROOM);
	if (roll(a, 2))
		put(a, LD, "ld seg=1 off=%u src_pitch=%u dst=glb:0 dst_pitch=%u rows=%u/%u "
		    "bytes=%u/%u", offset, pitch, bytes, rows, rows, bytes, bytes);
	else
		put(a, ST, "st seg=1 off=%u dst_pitch=%u src=glb:0 src_pitch=%u rows=%u/%u "
		    "bytes=%u/%u", offset, pitch, bytes, rows, rows, bytes, bytes);
	want_memory(a, SEGMENT, SEG_DATA, offset + bad * pitch);
}

static void make_read(struct attempt *a)
{
	uint32_t segment = roll(a, 2) ? SEG_CODE : SEG_WRITE, offset = roll(a, 2 * SMALL_BYTES);

	put_row(a, LD, segment, offset);
	want_memory(a, RIGHTS, segment, offset);
}

static void make_write(struct attempt *a)
{
	uint32_t segment = roll(a, 2) ? SEG_READ : SEG_CODE, offset = roll(a, 2 * SMALL_BYTES);

	put_row(a, ST, segment, offset);
	want_memory(a, RIGHTS, segment, offset);
}

/* Program or record where they may not be fetched, or where nothing is. */
static void make_fetch(struct attempt *a)
{
	uint32_t offset = 64 * roll(a, (DATA_LEAST - 0x4000) / 64), segment;

	want_nowhere(a, RIGHTS, lowest_core(a), 0);
	switch (roll(a, 5)) {
	case 0:		/* the whole program, in memory that may be read and written only */
		a->args.program_segment = segment = SEG_DATA;
		a->args.program_offset = offset;
		break;
	case 1:
		a->args.job_segment = segment = roll(a, 2) ? SEG_CODE : SEG_WRITE;
		a->args.job_offset = offset;
		break;
	case 2:
		a->want.kind = SEGMENT;
		a->args.program_segment = segment = between(a, SEG_UNBOUND, 255);
		a->args.program_offset = offset;
		break;
	case 3:
		a->want.kind = SEGMENT;
		segment = SEG_JOB;
		a->args.job_offset = offset = JOB_BYTES - 64 * between(a, 0, 3);
		break;
	default:	/* more words than the segment has behind the stream's first */
		a->want.kind = SEGMENT;
		a->entry = 0;
		segment = SEG_JOB;
		offset = 800;
		a->patch.at = 708;
		a->patch.bytes = 4;
		a->patch.value = between(a, JOB_BYTES / 4, 1 << 21);
	}
	a->want.segment = segment;
	a->want.offset = offset;
}

static void make_endless(struct attempt *a)
{
	unsigned int depth = between(a, 1, a->is_everywhere ? 8 : 7), unit = roll(a, UNITS);

	/* 2^22 instructions are allowed, each END of the innermost loop is one. */
	put_loops(a, unit, depth, FLM_VALUE_MAX, between(a, 1 << 22, FLM_VALUE_MAX));
	a->want.kind = WATCHDOG;
	a->want.word += 5 * depth;
}

/* Units of a ring that each wait for the next. */
static void make_deadlock(struct attempt *a)
{
	unsigned int ring[UNITS] = { LD, ST, MM, MV, MISC, SYS }, count = between(a, 2, UNITS);
	unsigned int lowest = UNITS, word = 0;

	for (unsigned int i = 0; i < UNITS; i++) {
		unsigned int j = between(a, i, UNITS - 1), other = ring[j];

		ring[j] = ring[i];
		ring[i] = other;
	}
	for (unsigned int i = 0; i < count; i++) {
		unsigned int next = ring[(i + 1) % count], before = ring[(i + count - 1) % count];

		put(a, ring[i], "%s wait=%s release=%s", idle[ring[i]], unit_names[next],
		    unit_names[before]);
		if (ring[i] < lowest) {
			lowest = ring[i];
			word = a->want.word;
		}
	}
	a->want.kind = DEADLOCK;
	a->want.unit = lowest;
	a->want.word = word;
}

static unsigned int another(struct attempt *a, unsigned int unit)
{
	return (unit + between(a, 1, UNITS - 1)) % UNITS;
}

/* A 64th token that nobody takes: the sender waits for room for ever. */
static void make_overflow(struct attempt *a)
{
	unsigned int unit = roll(a, UNITS), words = unit == SYS ? 1 : unit == MM ? 21 :
			    unit == MV ? 16 : unit == MISC ? 15 : 10;
	uint32_t count = between(a, 64, 5000);

	open_gate(a, unit, 5 + words + 1);
	append(a, unit, "loop sub=%u bound=%u body=%u", count, count, words + 1);
	a->want.word = append(a, unit, "%s release=%s", idle[unit], unit_names[another(a, unit)]);
	append(a, unit, "end");
	close_gate(a, unit);
	a->want.kind = DEADLOCK;
}

static void make_token(struct attempt *a)
{
	unsigned int unit = roll(a, UNITS), to = another(a, unit);

	for (unsigned int n = between(a, 1, 5); n; n--)
		put(a, unit, "%s release=%s", idle[unit], unit_names[to]);
	a->want.kind = TOKEN_LEFT;
	a->has_word = false;
}

static void make_opcode(struct attempt *a)
{
	static const uint32_t unknown[] = { 0, 8, 9, 10, 11, 12, 13, 14 };
	static const uint32_t modes[UNITS] = { 4, 3, 3, 3, 17, 6 };
	static const uint32_t ops[UNITS] = { 1, 2, 3, 4, 5, 15 };
	unsigned int unit = roll(a, UNITS), depth = a->is_everywhere ? 9 : 8, n;

	switch (roll(a, 8)) {
	case 0:
		put_word(a, unit, unknown[roll(a, 8)] << 28 | roll(a, 1 << 28));
		break;
	case 1:
		put_word(a, unit, ops[unit] << 28 | between(a, modes[unit], 127) << 4);
		break;
	case 2:		/* a bit that no row names */
		unit = roll(a, 2);
		put(a, unit, "%s", idle[unit]);
		poke(a, unit, a->want.word + 1, 1u << between(a, 8, 31));
		break;
	case 3:
		n = another(a, unit);	/* a sync may stand anywhere */
		put(a, unit, "%s", n == SYS ? "barrier" : idle[n]);
		break;
	case 4:
		put(a, unit, "%s wait=%s", idle[unit], unit_names[unit]);
		break;
	case 5:		/* an LD that the stream's END cuts off */
		a->is_everywhere = true;
		put_word(a, LD, 0x10000000);
		for (n = roll(a, 8); n; n--)
			poke(a, LD, append(a, LD, "sync"), 0);
		break;
	case 6:		/* a ninth loop in eight */
		put_loops(a, unit, depth, 1, 1);
		a->want.word += 5 * (depth - 1);
		break;
	default:
		put_word(a, unit, 0x70000000 | 1u << roll(a, 28));
	}
	a->want.kind = OPCODE;
}

static void make_buffer(struct attempt *a)
{
	uint32_t buffer = roll(a, 4), bytes = between(a, 1, 64), size = a->buffers[buffer];
	uint32_t at = roll(a, 3) ? size - bytes + between(a, 1, bytes) : between(a, size,
									  0xfffffff);

	switch (roll(a, 4)) {
	case 0:
		put(a, LD, "ld seg=1 dst=%s:%u rows=1/1 bytes=%u/%u", chip_names[buffer], at,
		    bytes, bytes);
		break;
	case 1:
		put(a, ST, "st seg=1 src=%s:%u rows=1/1 bytes=%u/%u", chip_names[buffer], at,
		    bytes, bytes);
		break;
	case 2:
		put(a, MISC, "misc.fill out=%s:%u rows=1/1 cols=%u/%u", chip_names[buffer],
		    at / 4 * 4, bytes, bytes);
		break;
	default:	/* inside, but no float begins there */
		put(a, MISC, "misc.fill out=%s:%u rows=1/1 cols=1/1", chip_names[buffer],
		    4 * roll(a, 999) + between(a, 1, 3));
	}
	a->want.kind = BUFFER;
}

/* A row of a strip table, sound but for one field. */
static void make_strip(struct attempt *a)
{
	static const uint8_t widths[] = { 0, 1, 6, 7, 9, 255 }, counts[] = { 1, 3, 5, 9, 17, 255 };
	uint32_t table = 32 * roll(a, 8), row = roll(a, 64), pitch = 0x4000;
	struct flm_strip strip = { .width = 4, .blocks = htole16(4), .codes = htole32(64) };

	switch (roll(a, 7)) {
	case 0:
		strip.width = widths[roll(a, 6)];
		break;
	case 1:
		strip.flags = between(a, 2, 255);
		break;
	case 2:
		strip.blocks = htole16(roll(a, 2) ? 0 : between(a, 257, 65535));
		break;
	case 3:
		strip.reserved[roll(a, 3)] = htole32(between(a, 1, UINT32_MAX));
		break;
	case 4:
		*(roll(a, 2) ? &strip.n : &strip.masks) = htole32(between(a, 1, UINT32_MAX));
		break;
	case 5:		/* 4 blocks of 4 bits and their scales have 576 bytes */
		pitch = 64 * roll(a, 9);
		break;
	default:	/* N of its first block, in the data at 0x2000 */
		strip.flags = 1;
		strip.n = htole32(0x2000 / 64);
		a->data[0x2000] = counts[roll(a, 6)];
	}
	memcpy(a->data + table + 32 * row, &strip, sizeof(strip));
	put(a, LD, "ld.tile seg=1 table=%u row=%u strips=1/1 dst=wgt:0 pitch=%u idx=idx:0 "
	    "idx_pitch=%u", table, row, pitch, pitch);
	a->want.kind = FORMAT;
}

static void make_bound(struct attempt *a)
{
	unsigned int unit = roll(a, UNITS);
	uint32_t count = between(a, 1, FLM_VALUE_MAX);

	a->want.kind = BOUND;
	switch (roll(a, 4)) {
	case 0:
		open_gate(a, unit, 6);
		append(a, unit, "loop sub=%u bound=%u body=1", count,
		       between(a, 0, count - 1));
		append(a, unit, "end");
		close_gate(a, unit);
		break;
	case 1:
		put(a, LD, "ld seg=1 off=-%u dst=act:0 rows=1/1 bytes=4/4", count);
		break;
	case 2:
		put(a, LD, "ld.tile seg=1 table=%u strips=1/1 dst=wgt:0 idx=idx:0 pitch=64",
		    32 * roll(a, 9) + between(a, 1, 31));
		break;
	default:	/* a pass has one token, and the header says none at most */
		a->entry = 0;
		a->patch.at = 64 + 8 * 1 + 4;
		a->patch.bytes = 4;
		want_nowhere(a, BOUND, NOWHERE, 1);
		a->want.entry = 0;
	}
}

/* The first word of the index buffer is the pass's token: TOKEN. */
static void make_index(struct attempt *a)
{
	if (roll(a, 2))
		put(a, LD, "ld.gather seg=1 src_pitch=%u limit=%u index=idx:0 dst=act:0 rows=1/1 "
		    "bytes=4/4", roll(a, 999), roll(a, TOKEN + 1));
	else
		put(a, LD, "ld.kv seg=1 page=%u value_bytes=4 scale_bytes=4 first=%u count=1/1 "
		    "dst=wgt:0 dst_scales=wgt:64", 64 * between(a, 1, 99), roll(a, 99999));
	a->want.kind = INDEX;
}

/* Blame is on the first core that does not come. */
static void make_exchange(struct attempt *a)
{
	static const char *const meetings[] = {
		"barrier", "allmax src=glb:0 count=4/4", "allsum src=glb:0 count=4/4",
		"alltopk src=glb:0 count=8", "gather src=glb:0 dst=act:0 rows=1/1 bytes=64/64",
	};

	a->is_everywhere = false;
	put(a, SYS, "%s", meetings[roll(a, 5)]);
	a->want.kind = EXCHANGE;
	a->has_word = false;
	if (!(a->mask & (a->mask - 1))) {	/* alone it meets itself: let it wait as well */
		put(a, SYS, "sync wait=ld");
		a->want.kind = DEADLOCK;
		a->has_word = true;
	} else if (a->core == lowest_core(a)) {
		a->core = __builtin_ctz(a->mask & (a->mask - 1));
	} else {
		a->core = lowest_core(a);
	}
}

static void make_sample(struct attempt *a)
{
	a->entry = 0;
	a->generate = between(a, 1, 4);
	a->is_everywhere = true;
	a->want.kind = SAMPLE;
	a->want.unit = MISC;
	a->has_word = false;
}

/* Fields of program header, record and row: what they may not be, and who says so. */
static const struct {
	uint32_t at, bytes, least, most, kind, word;
} fields[] = {
	{ 0, 4, 0, 0x504d4c45, VERSION, 1024 },			/* magic */
	{ 4, 2, 0x100, 0xffff, VERSION, 1028 },			/* major version */
	{ 8, 4, 9, 0xffffffff, SLOT, 1032 },			/* entries */
	{ 8, 4, 0, 0, SLOT, 1032 },
	{ 12, 4, 4, 0xffffffff, SLOT, 1036 },			/* cores */
	{ 16, 4, 129, 0xffffffff, SLOT, 1040 },			/* chunk */
	{ 20, 4, 1, 0xffffffff, SLOT, 1044 },			/* flags */
	{ 24, 8, 4194305, 0xffffffff, SLOT, 1048 },		/* watchdog */
	{ 60, 4, 1, 0xffffffff, SLOT, 1056 },			/* reserved */
	{ 256, 4, 0x1000000, 0xffffffff, SLOT, 1280 },		/* a core register */
	{ 704, 1, 1, 3, SLOT, 1728 },				/* a stream's offset */
	{ 708, 4, 0, 0, SLOT, 1728 },				/* and words */
	{ 708, 4, 0x400001, 0xffffffff, SLOT, 1728 },
	{ JOB_RECORD, 4, 257, 0xffffffff, VERSION, 256 },	/* bytes */
	{ JOB_RECORD + 4, 4, 1, 0xffffffff, SLOT, 260 },	/* flags */
	{ JOB_RECORD + 12, 4, 0x1000000, 0xffffffff, SLOT, 268 },	/* a length register */
	{ JOB_RECORD + 36, 4, 2, 0xffffffff, SLOT, 292 },	/* rows */
	{ JOB_RECORD + 40, 1, 1, 63, SLOT, 296 },		/* sequence_offset */
	{ JOB_RECORD + 50, 2, 1, 0xffff, SLOT, 304 },		/* prompt */
	{ JOB_RECORD + 66, 2, 1, 0xffff, SLOT, 320 },		/* ring */
	{ JOB_RECORD + 82, 2, 65, 0xffff, SLOT, 336 },		/* top */
	{ JOB_RECORD + 98, 1, 3, 255, SLOT, 354 },		/* logits_mode */
	{ JOB_RECORD + 140, 4, 1, 0xffffffff, SLOT, 384 },	/* mask */
	{ JOB_RECORD + 160, 4, 1, 0xffffffff, SLOT, 416 },	/* group */
	{ JOB_RECORD + 252, 4, 1, 0xffffffff, SLOT, 424 },	/* reserved */
	{ JOB_SEQUENCE, 4, 0x1000000, 0xffffffff, SLOT, 512 },	/* position */
	{ JOB_SEQUENCE + 4, 4, 0x1000000, 0xffffffff, SLOT, 516 },	/* kv_length */
	{ JOB_SEQUENCE + 8, 4, 0x1000000, 0xffffffff, SLOT, 520 },	/* prompt */
	{ JOB_SEQUENCE + 12, 4, 0xffffff, 0xffffffff, SLOT, 524 },	/* generate */
	{ JOB_SEQUENCE + 18, 2, 17, 0xffff, SLOT, 530 },		/* stop_count */
	{ JOB_SEQUENCE + 20, 4, 262146, 0xffffffff, SLOT, 532 },	/* page_count */
	{ JOB_SEQUENCE + 32, 4, 0x42c80001, 0x7fffffff, SLOT, 544 },	/* temperature */
	{ JOB_SEQUENCE + 40, 4, 0x3f800001, 0x7fffffff, SLOT, 552 },	/* top_p */
	{ JOB_SEQUENCE + 56, 4, 1, 0xffffffff, SLOT, 568 },		/* mask */
	{ JOB_SEQUENCE + 60, 2, 1, 0xffff, SLOT, 572 },		/* adapter */
	{ JOB_SEQUENCE + 72, 4, 1, 0xffffffff, SLOT, 584 },		/* a stop token */
};

static void make_field(struct attempt *a)
{
	uint32_t i = roll(a, sizeof(fields) / sizeof(fields[0]) + 1);

	if (i == sizeof(fields) / sizeof(fields[0])) {	/* more passes than the slot allows */
		a->prompt = between(a, 129, 1000);
		a->args.max_points = 1;
		want_nowhere(a, SLOT, NOWHERE, 36);
		return;
	}
	a->patch.at = fields[i].at;
	a->patch.bytes = fields[i].bytes;
	a->patch.value = between(a, fields[i].least, fields[i].most);
	want_nowhere(a, fields[i].kind, NOWHERE, fields[i].word);
}

/* Good programs whose bits are turned when they have been placed. */
static void make_mutant(struct attempt *a)
{
	a->is_mutant = true;
	for (unsigned int n = between(a, 5, 25); n; n--) {
		unsigned int unit = roll(a, UNITS);

		append_harmless(a, unit);
		if (roll(a, 4))
			continue;
		put_loops(a, unit, between(a, 1, 3), 9, 9);
	}
	a->prompt = between(a, 1, 300);
	a->generate = roll(a, 3);
}

static const struct hostile_kind {
	const char *what;
	void (*make)(struct attempt *attempt);
} hostile_kinds[] = {
	{ "a segment that is not bound", make_unbound },
	{ "bytes beyond a segment", make_beyond },
	{ "a read without the right", make_read },
	{ "a write without the right", make_write },
	{ "a fetch without the right, or from nowhere", make_fetch },
	{ "an endless loop", make_endless },
	{ "units that wait for each other", make_deadlock },
	{ "more tokens than a queue holds", make_overflow },
	{ "a token that nobody takes", make_token },
	{ "words that are no instruction there", make_opcode },
	{ "on-chip addresses outside their buffer", make_buffer },
	{ "rows of a strip table that are wrong", make_strip },
	{ "values outside their bounds", make_bound },
	{ "indices outside their table", make_index },
	{ "an exchange to which not all cores come", make_exchange },
	{ "a pass that does not sample", make_sample },
	{ "headers, records and rows that are wrong", make_field },
	{ "mutants of good programs", make_mutant },
};

#define HOSTILE_KINDS (sizeof(hostile_kinds) / sizeof(hostile_kinds[0]))

#endif
