// SPDX-License-Identifier: MIT
/*
 * Jobs by their fields: what is wrong with a slot, record, row or program is named to the byte, and
 * each way in which a job can end is seen, with its tokens, candidates, logits and interrupts.
 */
#include "tests/emulator/bench.h"
#include "tests/tap.h"

/* Logits at 49152 of segment 1: sixteen of them; the greatest is the token. */
#define SAMPLING "@ld\nld seg=1 off=49152 dst=act:0 rows=1/1 bytes=64/64 release=misc\n@misc\n" \
	"misc.topk a=act:0 out=act:4096 rows=1/1 cols=16/16 imm=16 wait=ld\n" \
	"misc.sample a=act:4096 rows=1/1 cols=1/1 imm=16"
#define RING 16384
#define TOP 20480
#define LOGITS 24576

static struct flm_job_record *record_of(struct rig *r)
{
	return (void *)r->job;
}

static struct flm_sequence *sequence_of(struct rig *r)
{
	return (void *)(r->job + 256);
}

/* Five tokens of prompt, `generate` to come; token 11, then 3 (by ids: 2.5 both), then the rest. */
static void sampling_job(struct rig *r, uint32_t cores, uint32_t generate)
{
	float *logits = (void *)(r->job + 49152);

	bench_program(r, cores, SAMPLING);
	bench_job(r, 5);
	for (int i = 0; i < 16; i++)
		logits[i] = i == 11 ? 3 : i == 3 || i == 7 ? 2.5f : -(float)i;
	record_of(r)->ring.segment = htole16(1);
	record_of(r)->ring.offset = htole64(RING);
	record_of(r)->ring.count = htole32(8);
	sequence_of(r)->generate = htole32(generate);
}

/* ---- Fields ---- */

enum { SLOT, RECORD, ROW, PROGRAM, GENERATION, SEGMENT, STATUS };

static const struct {
	const char *what;
	unsigned int where, at, bytes;
	uint64_t value;
	unsigned int fault;
	uint32_t word;
} wrong[] = {
	{ "an unknown flag", SLOT, 0, 4, 0x21, 1, 0 },
	{ "a copy on a compute queue", SLOT, 0, 4, 2, 1, 0 },
	{ "no operation", SLOT, 0, 4, 0, 1, 0 },
	{ "generation 0", SLOT, 4, 4, 0, 3, 4 },
	{ "a generation that is not there", SLOT, 4, 4, 65, 3, 4 },
	{ "seqno 0", SLOT, 8, 8, 0, 1, 8 },
	{ "a program that is not aligned", SLOT, 16, 8, 32, 1, 16 },
	{ "a record that is not aligned", SLOT, 24, 8, 4, 1, 24 },
	{ "fewer points than passes", SLOT, 36, 4, 2, 1, 36 },
	{ "a reserved word of the slot", SLOT, 60, 4, 1, 1, 40 },
	{ "a program in no segment", SLOT, 32, 2, 9, 3, 0 },
	{ "a program in the first segment behind a core's table", SLOT, 32, 2, 16, 3, 0 },
	{ "a record in a segment without R", SLOT, 34, 2, 0, 4, 0 },
	{ "a program in a segment without X", SLOT, 32, 2, 1, 4, 0 },
	{ "a program at the end of all bytes", SLOT, 16, 8, ~63ull, 3, 0 },
	{ "a record of another size", RECORD, 0, 4, 260, 2, 256 },
	{ "flags of the record", RECORD, 4, 4, 1, 1, 260 },
	{ "a register's value beyond 2^24 - 1", RECORD, 12, 4, 1 << 24, 1, 268 },
	{ "two rows", RECORD, 36, 4, 2, 1, 292 },
	{ "a row that is not aligned", RECORD, 40, 8, 260, 1, 296 },
	{ "n of the prompt", RECORD, 50, 2, 1, 1, 304 },
	{ "count of the prompt", RECORD, 52, 4, 1, 1, 304 },
	{ "a prompt that is not aligned", RECORD, 56, 8, 4098, 1, 304 },
	{ "n of the ring", RECORD, 66, 2, 1, 1, 320 },
	{ "a ring of no tokens", RECORD, 68, 4, 0, 1, 320 },
	{ "65 candidates", RECORD, 82, 6, 1 << 16 | 65, 1, 336 },
	{ "candidates without a ring", RECORD, 82, 2, 1, 1, 336 },
	{ "logits without a mode", RECORD, 100, 4, 64, 1, 352 },
	{ "an unknown mode", RECORD, 98, 1, 3, 1, 354 },
	{ "an unknown type", RECORD, 99, 1, 1, 1, 355 },
	{ "a mode without a stride", RECORD, 98, 1, 1, 1, 356 },
	{ "a mask over logits", RECORD, 136, 8, 1, 1, 384 },
	{ "results", RECORD, 148, 4, 1, 1, 400 },
	{ "a group", RECORD, 160, 4, 1, 1, 416 },
	{ "a rank", RECORD, 164, 2, 1, 1, 420 },
	{ "a size of a group", RECORD, 166, 2, 1, 1, 422 },
	{ "a reserved word of the record", RECORD, 252, 4, 1, 1, 424 },
	{ "a position beyond 2^24 - 1", ROW, 0, 4, 1 << 24, 1, 512 },
	{ "a KV length beyond it", ROW, 4, 4, 1 << 24, 1, 516 },
	{ "tokens to generate without a prompt", ROW, 8, 4, 0, 1, 520 },
	{ "a prompt beyond it", ROW, 8, 4, 1 << 24, 1, 520 },
	{ "a last position beyond it", ROW, 0, 4, 0xffffff - 5, 1, 524 },
	{ "a last KV length beyond it", ROW, 4, 4, 0xffffff - 5, 1, 524 },
	{ "17 stop tokens", ROW, 18, 2, 17, 1, 530 },
	{ "too long a page list", ROW, 20, 4, 262145, 1, 532 },
	{ "a page list that is not aligned", ROW, 24, 8, 2, 1, 536 },
	{ "a temperature of 101", ROW, 32, 4, 0x42ca0000, 1, 544 },
	{ "a negative temperature", ROW, 32, 4, 0xbf800000, 1, 544 },
	{ "a temperature that is no number", ROW, 32, 4, 0x7fc00000, 1, 544 },
	{ "top_p of 1.5", ROW, 40, 4, 0x3fc00000, 1, 552 },
	{ "min_p of infinity", ROW, 44, 4, 0x7f800000, 1, 556 },
	{ "a mask of the row", ROW, 56, 4, 1, 1, 568 },
	{ "an adapter", ROW, 60, 2, 1, 1, 572 },
	{ "a reserved half of the row", ROW, 62, 2, 1, 1, 574 },
	{ "a stop token behind the last", ROW, 72, 4, 1, 1, 584 },
	{ "another magic", PROGRAM, 0, 4, 0, 2, 1024 },
	{ "another major version", PROGRAM, 4, 2, 2, 2, 1028 },
	{ "no entries", PROGRAM, 8, 4, 0, 1, 1032 },
	{ "no entry for tokens", PROGRAM, 8, 4, 1, 1, 1032 },
	{ "nine entries", PROGRAM, 8, 4, 9, 1, 1032 },
	{ "a program for two cores", PROGRAM, 12, 4, 2, 1, 1036 },
	{ "no chunk", PROGRAM, 16, 4, 0, 1, 1040 },
	{ "a chunk of 129", PROGRAM, 16, 4, 129, 1, 1040 },
	{ "flags of the program", PROGRAM, 20, 4, 1, 1, 1044 },
	{ "a greater need than the watchdog's", PROGRAM, 24, 8, 1001, 1, 1048 },
	{ "a reserved word of the program", PROGRAM, 60, 4, 1, 1, 1056 },
	{ "a core register beyond 2^24 - 1", PROGRAM, 192 + 64, 4, 1 << 24, 1, 1024 + 256 },
	{ "a stream at an odd place", PROGRAM, 704, 4, 1026, 1, 1728 },
	{ "an empty stream", PROGRAM, 712 + 4, 4, 0, 1, 1736 },
	{ "streams of more than 2^22 words", PROGRAM, 708, 4, (1 << 22) + 1, 1, 1728 },
	{ "a stream beyond the segment", PROGRAM, 708, 4, 20000, 3, 0 },
	{ "more tokens than the bound of TOKENS", PROGRAM, 64 + 8 + 4, 4, 4, 9, 1 },
	{ "fewer rows than the bound of ROWS", PROGRAM, 64 + 40, 4, 2, 9, 5 },
};

static void fields(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 1000);
	uint64_t faults = reg(b, FLM_REG_COUNT_FAULTS, 8);
	unsigned int count = sizeof(wrong) / sizeof(wrong[0]);
	const struct flm_done *done;
	struct flm_slot slot;

	for (unsigned int i = 0; i < count; i++) {
		uint8_t *places[] = { (uint8_t *)&slot, r->job, r->job + 256, r->program };

		sampling_job(r, 1, 4);
		slot = bench_slot(r);
		memcpy(places[wrong[i].where] + wrong[i].at, &wrong[i].value, wrong[i].bytes);
		bench_post(b, r, &slot);
		done = bench_wait(r, r->tail);
		ok(done && le32toh(done->status) == FLM_STATUS_FAULT &&
			   done->fault == wrong[i].fault && le32toh(done->word) == wrong[i].word &&
			   done->unit == 0xff &&
			   done->entry == (wrong[i].fault == FLM_FAULT_BOUND ? 0 : 0xff) &&
			   !done->value,
		   "%s: fault %u, word %u (fault %u, word %u)", wrong[i].what, wrong[i].fault,
		   wrong[i].word, done ? done->fault : 0, done ? le32toh(done->word) : 0);
	}
	ok(reg(b, FLM_REG_COUNT_FAULTS, 8) - faults == count, "COUNT_FAULTS counts each");
	set(b, FLM_REG_QUEUE_SELECT, r->queue, 4);
	ok(reg(b, FLM_REG_QUEUE_FAULT, 4) == 0x00ffff09 &&
		   reg(b, FLM_REG_QUEUE_FAULT_WORD, 4) == 5 &&
		   reg(b, FLM_REG_QUEUE_FAULT_SEQNO, 8) == count,
	   "QUEUE_FAULT_ keeps the last");
	sampling_job(r, 1, 4);
	((struct flm_program *)(void *)r->program)->isa_minor = htole16(9);
	ok(le32toh(bench_run(b, r)->status) == FLM_STATUS_DONE,
	   "a newer minor version is accepted");
	bench_program(r, 1, "@ld\nsync release=misc\n@misc\nsync wait=ld");
	bench_job(r, 5);
	((struct flm_program *)(void *)r->program)->isa_minor = 0;
	ok(le32toh(bench_run(b, r)->status) == FLM_STATUS_DONE,
	   "a program that names 1.0 may have the sync of 1.1");
	sampling_job(r, 1, 4);
	record_of(r)->user[1] = htole32(7);
	for (unsigned int i = 0; i < 2; i++)
		((struct flm_program *)(void *)r->program)->bounds[9 + i] =
			(struct flm_bound) { htole32(7 * i), htole32(7 * i) };
	ok(le32toh(bench_run(b, r)->status) == FLM_STATUS_DONE,
	   "registers at both bounds are inside them");
	sampling_job(r, 1, 4);
	record_of(r)->ring.count = 0;
	sequence_of(r)->stop_count = htole16(17);
	done = bench_run(b, r);
	ok(done->fault == FLM_FAULT_SLOT && le32toh(done->word) == 530,
	   "a ring of no tokens is found after the row: 17 stop tokens, word 530 (%u)",
	   le32toh(done->word));
	slot = bench_slot(r);
	slot.seqno = htole64(r->seqno - 1);
	bench_post(b, r, &slot);
	done = bench_wait(r, r->tail);
	ok(done && done->fault == FLM_FAULT_SLOT && le32toh(done->word) == 8 &&
	   le64toh(r->status->seqno) == r->seqno - 1, "a seqno that does not ascend: word 8");
}

/*
 * Two things are wrong, or one ends the job before the other is looked at; or what a slot's tables
 * say is wrong. Row i is run as seqno i + 1, which is what STATUS is told to stop.
 */
static const struct {
	const char *what;
	struct {
		unsigned int where, at, bytes;
		uint64_t value;
	} fields[4];
	unsigned int status, fault, word;
	bool names_segment;
} ordered[] = {
	{ "no segments in the generation's row: BLOCK, before a program that is not aligned",
	  { { GENERATION, 12, 4, 0 }, { SLOT, 16, 8, 32 } }, 5, 5, 4, false },
	{ "a reserved word in it: BLOCK", { { GENERATION, 28, 4, 1 } }, 5, 5, 4, false },
	{ "tables that are not lent: DMA", { { GENERATION, 0, 8, 0x1000 } }, 5, 6, 4, false },
	{ "an unknown right on the record's segment: BLOCK", { { SEGMENT, 21, 1, 11 } },
	  5, 5, 0, true },
	{ "an unknown flag in a slot that is to stop: SLOT",
	  { { SLOT, 0, 4, 0x31 }, { STATUS, 2048, 8, 5 } }, 5, 1, 0, false },
	{ "a slot that is to stop, of a generation that is not there: STOPPED",
	  { { SLOT, 4, 4, 2 }, { STATUS, 2048, 8, 6 } }, 2, 0, 0, false },
	{ "a pass that does not fit, with TOKENS out of bounds: KV_FULL",
	  { { ROW, 4, 4, 60 }, { ROW, 16, 2, 1 }, { ROW, 20, 4, 1 },
	    { PROGRAM, 64 + 8 + 4, 4, 1 } }, 4, 0, 0, false },
};

static void orders(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 1000);
	const struct flm_generation generation = r->page[1];
	const struct flm_segment_row segment = r->tables[1];
	const struct flm_done *done;
	struct flm_slot slot;

	for (unsigned int i = 0; i < sizeof(ordered) / sizeof(ordered[0]); i++) {
		uint8_t *places[] = {
			(uint8_t *)&slot, r->job, r->job + 256, r->program,
			(uint8_t *)&r->page[1], (uint8_t *)&r->tables[1], (uint8_t *)r->status,
		};

		sampling_job(r, 1, 4);
		slot = bench_slot(r);
		r->page[1] = generation;
		r->tables[1] = segment;
		r->status->stop = 0;
		for (unsigned int f = 0; f < 4; f++)
			memcpy(places[ordered[i].fields[f].where] + ordered[i].fields[f].at,
			       &ordered[i].fields[f].value, ordered[i].fields[f].bytes);
		bench_post(b, r, &slot);
		done = bench_wait(r, r->tail);
		ok(done && le32toh(done->status) == ordered[i].status &&
		   done->fault == ordered[i].fault && le32toh(done->word) == ordered[i].word &&
		   !done->segment == !ordered[i].names_segment,
		   "%s (status %u, fault %u, word %u)", ordered[i].what,
		   done ? le32toh(done->status) : 0, done ? done->fault : 0,
		   done ? le32toh(done->word) : 0);
	}
	set(b, FLM_REG_QUEUE_SELECT, r->queue, 4);
	set(b, FLM_REG_QUEUE_PRIORITY, 2, 4);
	set(b, FLM_REG_QUEUE_PRIORITY, 4, 4);
	ok(reg(b, FLM_REG_QUEUE_PRIORITY, 4) == 2, "a priority of 4 is ignored while it is enabled");
	ok(reg(b, FLM_REG_QUEUE_FAULT_SEQNO, 8), "QUEUE_FAULT_ tells of a fault");
	bench_reset(b, r);
	ok(reg(b, FLM_REG_QUEUE_FAULT_SEQNO, 8), "after RESET too");
	bench_enable(b, r, FLM_QUEUE_COMPUTE, 1, 1, 1000);
	ok(!reg(b, FLM_REG_QUEUE_FAULT_SEQNO, 8) && !reg(b, FLM_REG_QUEUE_FAULT, 4) &&
	   !reg(b, FLM_REG_QUEUE_TOKENS, 8), "until ENABLE");
}

/* Two streams, each of half the words that a program may have, and one more. */
static void many_words(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0);
	struct flm_program *program = bench_alloc(b, 16 << 20);
	const struct flm_done *done;

	program_write(program, 1, "");
	for (unsigned int u = 0; u < 2; u++)
		program->entry[0].stream[u].words = htole32((1 << 21) + 1);
	bench_bind(b, r, 0, FLM_REGION_HOST, bus(b, program), 16 << 20, FLM_RIGHT_X);
	bench_job(r, 1);
	done = bench_run(b, r);
	ok(done->fault == FLM_FAULT_SLOT && le32toh(done->word) == 1736,
	   "streams of more than 2^22 words together: fault 1 at the second (fault %u, word %u)",
	   done->fault, le32toh(done->word));
}

static void copy_fields(struct bench *b)
{
	static const struct {
		const char *what;
		unsigned int op, at, bytes;
		uint64_t value;
		uint32_t word;
	} rows[] = {
		{ "a job on a copy queue", 2, 0, 4, 1, 0 },
		{ "an unknown operation", 2, 0, 4, 5, 0 },
		{ "a reserved half", 2, 46, 2, 1, 46 },
		{ "a reserved word", 2, 60, 4, 1, 52 },
		{ "a value to copy with", 2, 48, 4, 1, 48 },
		{ "no bytes", 2, 32, 8, 0, 32 },
		{ "a core that is not there", 2, 44, 1, 2, 44 },
		{ "a second core that is not there", 2, 45, 1, 2, 45 },
		{ "a fill's source", 3, 16, 8, 4, 16 },
		{ "a fill's source segment", 3, 40, 2, 1, 40 },
		{ "a fill's source core", 3, 44, 1, 1, 44 },
		{ "a fill of 6 bytes", 3, 32, 8, 6, 32 },
		{ "a fill at 2", 3, 24, 8, 2, 24 },
		{ "a checksum's destination", 4, 24, 8, 4, 24 },
		{ "a checksum's destination segment", 4, 42, 2, 1, 42 },
		{ "a checksum's destination core", 4, 45, 1, 1, 45 },
	};
	struct rig *r = bench_rig(b, FLM_QUEUE_COPY, 0, 0);
	const struct flm_done *done;

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct flm_copy_slot slot = {
			.flags = htole32(rows[i].op), .generation = htole32(r->generation),
			.seqno = htole64(++r->seqno), .bytes = htole64(4),
			.src_segment = htole16(rows[i].op == 3 ? 0 : 1),
			.dst_segment = htole16(rows[i].op == 4 ? 0 : 1),
		};

		memcpy((uint8_t *)&slot + rows[i].at, &rows[i].value, rows[i].bytes);
		bench_post(b, r, &slot);
		done = bench_wait(r, r->tail);
		ok(done && done->fault == FLM_FAULT_SLOT && le32toh(done->word) == rows[i].word,
		   "%s: word %u (fault %u, word %u)", rows[i].what, rows[i].word,
		   done ? done->fault : 0, done ? le32toh(done->word) : 0);
	}
}

/* ---- Ends ---- */

static void tokens(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 2, 0);
	const uint32_t *ring = (void *)(r->job + RING);
	const struct flm_candidate *top = (void *)(r->job + TOP);
	const struct flm_done *done;
	uint64_t tokens_before = reg(b, FLM_REG_COUNT_TOKENS, 8);

	sampling_job(r, 1, 11);
	record_of(r)->top.segment = htole16(1);
	record_of(r)->top.offset = htole64(TOP);
	record_of(r)->top.n = htole16(20);
	record_of(r)->top.count = htole32(2);
	memset(r->job + RING, 0xee, 8192);
	done = bench_run(b, r);
	ok(le32toh(done->status) == FLM_STATUS_DONE && le32toh(done->value) == 11 &&
	   le32toh(done->points) == 11, "11 tokens in 11 points");
	ok(ring[0] == htole32(11) && ring[7] == htole32(11) && ring[8] == 0xeeeeeeee,
	   "they fill a ring of 8, and not more");
	ok(top[0].id == htole32(11) && top[0].logit == htole32(0x40400000) &&
		   top[1].id == htole32(3) && top[2].id == htole32(7) && top[3].id == htole32(0),
	   "their candidates, equal ones by id");
	ok(top[16].id == 0xffffffff && top[16].logit == htole32(0xff800000) &&
		   top[20].id == htole32(11) && ((uint32_t *)top)[80] == 0xeeeeeeee,
	   "absent ones are marked; two lists, and not more");
	ok(reg(b, FLM_REG_COUNT_TOKENS, 8) - tokens_before == 11 &&
	   le32toh(r->status->made) == 11, "they are counted");
	sequence_of(r)->stop_count = htole16(2);
	sequence_of(r)->stop[0] = htole32(99);
	sequence_of(r)->stop[1] = htole32(11);
	done = bench_run(b, r);
	ok(le32toh(done->status) == FLM_STATUS_STOP_TOKEN && le32toh(done->value) == 1,
	   "a stop token ends the job and counts");
	sampling_job(r, 1, 100);
	sequence_of(r)->kv_length = htole32(60);
	sequence_of(r)->page_count = htole32(2);
	sequence_of(r)->page_segment = htole16(1);
	done = bench_run(b, r);
	ok(le32toh(done->status) == FLM_STATUS_KV_FULL && le32toh(done->value) == 64 &&
	   le32toh(done->points) == 64, "two pages from position 60: KV_FULL after 64 tokens (%u)",
	   le32toh(done->value));
	sequence_of(r)->kv_length = htole32(124);
	done = bench_run(b, r);
	ok(le32toh(done->status) == FLM_STATUS_KV_FULL && !done->value && !done->points,
	   "a prompt that does not fit: nothing happened");
	sequence_of(r)->page_segment = htole16(9);
	done = bench_run(b, r);
	ok(done->fault == FLM_FAULT_SEGMENT && le32toh(done->segment) == 9,
	   "no page list: SEGMENT");
	sampling_job(r, 1, 3);
	record_of(r)->ring.segment = htole16(0);
	done = bench_run(b, r);
	ok(done->fault == FLM_FAULT_RIGHTS && done->unit == 0xff,
	   "a ring that cannot be written: RIGHTS");
	sampling_job(r, 1, 3);
	record_of(r)->prompt.offset = htole64(65532);
	done = bench_run(b, r);
	ok(done->fault == FLM_FAULT_SEGMENT && le64toh(done->offset) == 65532,
	   "a prompt beyond its segment: SEGMENT");
	sampling_job(r, 1, 1);
	bench_program(r, 1, "");
	done = bench_run(b, r);
	ok(done->fault == FLM_FAULT_SAMPLE && done->unit == FLM_UNIT_MISC, "no sample: SAMPLE");
	bench_job(r, 0);
	done = bench_run(b, r);
	ok(le32toh(done->status) == FLM_STATUS_DONE && !done->points,
	   "nothing to do: DONE, no points");
}

static void stops(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0);
	struct flm_slot slot;
	const struct flm_done *done;
	double end = seconds() + 10;

	sampling_job(r, 1, 1000000);
	for (int i = 0; i < 2; i++) {
		slot = bench_slot(r);
		slot.max_points = htole32(1000000);
		bench_post(b, r, &slot);
	}
	while (le32toh(__atomic_load_n(&r->status->made, __ATOMIC_ACQUIRE)) < 20 &&
	       seconds() < end)
		;
	__atomic_store_n(&r->status->stop, htole64(2), __ATOMIC_RELEASE);
	done = bench_wait(r, 2);
	ok(done && le32toh(r->done[0].status) == FLM_STATUS_STOPPED &&
		   le32toh(r->done[0].value) >= 20 && le32toh(r->done[0].value) < 1000000,
	   "STOP ends a job at a point, with its tokens");
	ok(done && le32toh(done->status) == FLM_STATUS_STOPPED && !done->value && !done->points,
	   "and the next one before it begins");
}

/*
 * Jobs of four tokens and jobs of none by turns, as fast as they go: who reads running, tokens,
 * running never sees the one's count beside the other's name.
 */
static void counts(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0);
	unsigned int wrong = 0, seen[2] = { 0 };
	double end = seconds() + 1, last = seconds() + PATIENCE;

	sampling_job(r, 1, 4);
	memcpy(r->job + 32768, r->job, 256 + 128);
	((struct flm_job_record *)(void *)(r->job + 32768))->sequence_offset = htole64(32768 + 256);
	((struct flm_sequence *)(void *)(r->job + 32768 + 256))->generate = 0;
	while (seconds() < end || ((!seen[0] || !seen[1]) && seconds() < last)) {
		for (unsigned int i = 0; i < 16; i++) {
			struct flm_slot slot = bench_slot(r);

			slot.flags = htole32(FLM_SLOT_RUN);
			slot.job = htole64(slot.seqno & htole64(1) ? 32768 : 0);
			bench_post(b, r, &slot);
		}
		while (le32toh(__atomic_load_n(&r->status->head, __ATOMIC_ACQUIRE)) != r->tail) {
			uint64_t job = __atomic_load_n(&r->status->running, __ATOMIC_ACQUIRE);
			uint32_t tokens = __atomic_load_n(&r->status->made, __ATOMIC_ACQUIRE);

			if (!job || __atomic_load_n(&r->status->running, __ATOMIC_ACQUIRE) != job)
				continue;
			seen[le64toh(job) % 2]++;
			wrong += le64toh(job) % 2 && tokens;
		}
	}
	ok(seen[0] && seen[1] && !wrong, "tokens are of the job that runs (%u of %u looks were wrong)",
	   wrong, seen[1]);
}

static void notify(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0);
	static const struct {
		uint32_t tokens, ms;
		unsigned int interrupts;
		const char *what;
	} rows[] = {
		{ 0, 0, 1, "no notify: one interrupt" },
		{ 10, 0, 10, "each 10 tokens of 100: nine, and one at the end" },
		{ 1, 0, 100, "each token: 99 and one" },
		{ 1, 60000, 1, "not before a minute: one" },
		{ 101, 0, 1, "each 101 tokens: one" },
	};

	for (unsigned int i = 0; i < 5; i++) {
		unsigned int before = __atomic_load_n(&b->interrupts, __ATOMIC_SEQ_CST), count = 0;

		sampling_job(r, 1, 100);
		record_of(r)->notify_tokens = htole32(rows[i].tokens);
		record_of(r)->notify_ms = htole32(rows[i].ms);
		bench_run(b, r);
		/* The interrupt follows the status page. */
		UNTIL((count = __atomic_load_n(&b->interrupts, __ATOMIC_SEQ_CST) - before) >=
		      rows[i].interrupts);
		ok(count == rows[i].interrupts, "%s (%u)", rows[i].what, count);
	}
}

/*
 * st.logits writes what is wanted of four rows; LOGIT_FIRST and LOGIT_ROWS are stored by bytes'
 * count.
 */
static void logits(struct bench *b)
{
	static const struct {
		unsigned int mode, first, count, generate;
		const char *written;	/* a digit a position: was its row stored */
		const char *what;
	} rows[] = {
		{ FLM_LOGITS_EVERY, 1, 2, 0, "01100", "EVERY, positions 1 and 2" },
		{ FLM_LOGITS_EVERY, 3, 100, 0, "00010", "EVERY, from 3 on" },
		{ FLM_LOGITS_LAST, 0, 100, 0, "00010", "LAST of a prompt of four" },
		{ FLM_LOGITS_LAST, 0, 3, 0, "00000", "LAST outside what is wanted" },
		{ FLM_LOGITS_LAST, 0, 100, 2, "00011", "LAST, and a generated one" },
		{ FLM_LOGITS_EVERY, 0, 5, 2, "11111", "EVERY with a generated one" },
	};
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0);
	const float *out = (void *)(r->job + LOGITS);

	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char seen[6] = "";
		const struct flm_done *done;

		sampling_job(r, 1, rows[i].generate);
		bench_program(r, 1,
			      SAMPLING
			      "\n@ld\nld seg=1 off=49152 dst=act:8192 rows=1/1 bytes=64/64 "
			      "release=st\n@st\nst.logits rows=4/4 cols=4/4 src=act:8192 "
			      "src_pitch=16 wait=ld");
		sequence_of(r)->prompt = htole32(4);
		record_of(r)->logits_mode = rows[i].mode;
		record_of(r)->logits_segment = htole16(1);
		record_of(r)->logits_offset = htole64(LOGITS);
		record_of(r)->logits_first = htole32(rows[i].first);
		record_of(r)->logits_count = htole32(rows[i].count);
		record_of(r)->logits_stride = htole32(32);
		memset(r->job + LOGITS, 0, 4096);
		done = bench_run(b, r);
		for (unsigned int p = 0; p < 5; p++)
			seen[p] = '0' +
				  (p >= rows[i].first && out[8 * (p - rows[i].first) + 1] != 0);
		ok(le32toh(done->status) == FLM_STATUS_DONE && !strcmp(seen, rows[i].written),
		   "%s: %s (%s, fault %u)", rows[i].what, rows[i].written, seen, done->fault);
	}
}

int main(void)
{
	struct bench b;

	bench_open(&b, "tiny");
	fields(&b);
	orders(&b);
	copy_fields(&b);
	tokens(&b);
	stops(&b);
	counts(&b);
	notify(&b);
	logits(&b);
	bench_close(&b);
	bench_open(&b, "tiny");
	many_words(&b);
	bench_close(&b);
	return done_testing();
}
