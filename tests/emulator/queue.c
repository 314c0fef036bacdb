// SPDX-License-Identifier: MIT
/*
 * Registers by their rows, the life of a queue, who runs when, what a table may say, core resets.
 * Long jobs here are many short passes, so that each has a point within microseconds.
 */
#include <signal.h>

#include "tests/emulator/bench.h"
#include "tests/tap.h"

/* A pass of about two thousand instructions that samples. */
#define PASS                                                                                       \
	"@misc\nmisc.topk a=act:0 out=act:4096 rows=1/1 cols=16/16 imm=16\n"                       \
	"misc.sample a=act:4096 rows=1/1 cols=1/1 imm=16\n@sys\nloop sub=1000 bound=1000 "         \
	"body=2\nsync\nend"

static const struct row {
	const char *name, *access;
	uint32_t offset, bytes;
	uint64_t reset;
} rows[] = {
#define REG(name, offset, bank, access, reset, meaning) { #name, #access, offset, 4, reset },
#define REG64(name, offset, bank, access, reset, meaning) { #name, #access, offset, 8, reset },
#include <flightllm/regs.def>
};

static bool is_at(const struct row *row, uint32_t offset)
{
	return row->offset == offset;
}

static void registers(struct bench *b)
{
	unsigned int wo = 0, ro = 0, rw = 0, odd = 0, holes = 0;

	set(b, FLM_REG_QUEUE_SELECT, 7, 4);
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		const struct row *row = &rows[i];
		uint64_t before = reg(b, row->offset, row->bytes), after;
		/* Time goes on, and what counts accesses counts these. */
		bool moves = is_at(row, FLM_REG_TIME_US) || is_at(row, FLM_REG_CYCLES) ||
			is_at(row, FLM_REG_COUNT_READS) || is_at(row, FLM_REG_COUNT_WRITES);

		odd += reg(b, row->offset, 1) || reg(b, row->offset, 2) ||
			reg(b, row->offset + 2, 4) || (row->offset % 8 && reg(b, row->offset, 8));
		if (!strcmp(row->access, "WO")) {
			wo += before != 0;
		} else if (!strcmp(row->access, "RO")) {
			set(b, row->offset, ~before, row->bytes);
			ro += !moves && reg(b, row->offset, row->bytes) != before;
		} else if (!strcmp(row->access, "RW") && !is_at(row, FLM_REG_QUEUE_SELECT)) {
			rw += before != row->reset;
			set(b, row->offset, 3, row->bytes);
			after = reg(b, row->offset, row->bytes);
			rw += after != 3;
			set(b, row->offset, 1, 2);
			rw += reg(b, row->offset, row->bytes) != 3;
			if (row->bytes == 8) {
				set(b, row->offset + 4, 0x55, 4);
				rw += reg(b, row->offset, 8) != 0x5500000003ull;
				rw += reg(b, row->offset + 4, 4) != 0x55;
			}
			set(b, row->offset, row->reset, row->bytes);
		}
	}
	for (uint32_t at = 0; at < 4096; at += 4) {
		bool is_named = false;

		for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
			is_named |= at >= rows[i].offset && at < rows[i].offset + rows[i].bytes;
		if (!is_named) {
			set(b, at, ~0ull, 4);
			holes += reg(b, at, 4) != 0;
		}
	}
	ok(!wo, "rows that are WO read as zero");
	ok(!ro, "rows that are RO ignore writes (%u did not)", ro);
	ok(!rw, "rows that are RW hold what was written, whole or by halves (%u did not)", rw);
	ok(!odd, "accesses of other sizes and alignments read as zero");
	ok(!holes, "what no row names reads as zero");
	{
		uint64_t reads = reg(b, FLM_REG_COUNT_READS, 8),
			 writes = reg(b, FLM_REG_COUNT_WRITES, 8);

		reg(b, 0, 1);
		reg(b, 4092, 8);
		set(b, 1, 0, 2);
		ok(reg(b, FLM_REG_COUNT_READS, 8) == reads + 4 &&
			   reg(b, FLM_REG_COUNT_WRITES, 8) == writes + 1,
		   "accesses of any size are counted");
	}
	{
		struct timespec pause = { 0, 5000000 };
		uint64_t us = reg(b, FLM_REG_TIME_US, 8), cycles = reg(b, FLM_REG_CYCLES, 8);

		nanosleep(&pause, NULL);
		us = reg(b, FLM_REG_TIME_US, 8) - us;
		cycles = reg(b, FLM_REG_CYCLES, 8) - cycles;
		ok(us >= 5000 && cycles >= 499000, "5 ms of nothing: %u us, %u cycles of 100 MHz",
		   (unsigned int)us, (unsigned int)cycles);
	}
}

static void enable(struct bench *b)
{
	static const struct {
		uint32_t reg;
		uint64_t value;
		unsigned int error;
		const char *what;
	} bad[] = {
		{ FLM_REG_QUEUE_KIND, 2, 1, "kind 2" },
		{ FLM_REG_QUEUE_KIND, 1, 1, "cores on a copy queue" },
		{ FLM_REG_QUEUE_SLOTS_LOG2, 3, 1, "8 slots" },
		{ FLM_REG_QUEUE_SLOTS_LOG2, 13, 1, "8192 slots" },
		{ FLM_REG_QUEUE_SLOTS_LOG2, 0xffffffff, 1, "2^(2^32 - 1) slots" },
		{ FLM_REG_QUEUE_RING, BASE + 64, 1, "a ring at 64" },
		{ FLM_REG_QUEUE_DONE, BASE + 2048, 1, "completions at 2048" },
		{ FLM_REG_QUEUE_STATUS, BASE + 8, 1, "a status page at 8" },
		{ FLM_REG_QUEUE_CONTEXT, BASE + 1, 1, "a context page at 1" },
		{ FLM_REG_QUEUE_PRIORITY, 4, 1, "priority 4" },
		{ FLM_REG_QUEUE_CORES, 4, 1, "a core that is not there" },
		{ FLM_REG_QUEUE_CORES, 0, 1, "no core" },
		{ FLM_REG_QUEUE_VECTOR, 32, 1, "vector 32" },
		{ FLM_REG_QUEUE_STATUS, 0x1000, 6, "a status page that is not lent" },
	};
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 3, 0);
	const struct flm_status_page *s = r->status;

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
		bench_enable(b, r, FLM_QUEUE_COMPUTE, 3, 1, 0);
		set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
		set(b, bad[i].reg, bad[i].value, bad[i].reg >= FLM_REG_QUEUE_RING &&
		    bad[i].reg <= FLM_REG_QUEUE_CONTEXT ? 8 : 4);
		set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_ENABLE, 4);
		ok(!reg(b, FLM_REG_QUEUE_STATE, 4) &&
			   reg(b, FLM_REG_QUEUE_ERROR, 4) == bad[i].error,
		   "%s: DISABLED with error %u", bad[i].what, bad[i].error);
	}
	memset(r->status, 0xee, 4096);
	r->tail = 0;
	set(b, FLM_REG_QUEUE_STATUS, bus(b, r->status), 8);
	set(b, FLM_REG_QUEUE_CONTROL, 9, 4);
	ok(!reg(b, FLM_REG_QUEUE_STATE, 4), "another command does nothing");
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_ENABLE, 4);
	ok(reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_ENABLED && s->armed == htole32(1) &&
		   !s->head && !s->reserved1[246] && s->stop == 0xeeeeeeeeeeeeeeee,
	   "ENABLE writes the card's half alone");
	set(b, FLM_REG_QUEUE_CORES, 1, 4);
	set(b, FLM_REG_QUEUE_PRIORITY, 2, 4);
	ok(reg(b, FLM_REG_QUEUE_CORES, 4) == 3 && reg(b, FLM_REG_QUEUE_PRIORITY, 4) == 2,
	   "then only the priority may be written");
	r->status->stop = 0;
	set(b, FLM_REG_EVENT_ENABLE, 1, 4);
	r->tail = 17;
	*(uint32_t *)((uint8_t *)card_bar_memory(b->card, 4) + r->queue * 4096) = htole32(18);
	set(b, FLM_REG_KICK, r->queue, 4);
	ok(UNTIL(reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_HALTED) &&
		   reg(b, FLM_REG_QUEUE_ERROR, 4) == 1 && s->error == htole32(1),
	   "18 slots in a ring of 16: HALTED, SLOT");
	ok(reg(b, FLM_REG_HALTED, 4) == r->queue && reg(b, FLM_REG_EVENTS, 4) == 1,
	   "HALTED names it, EVENTS.QUEUE is set");
	ok(__atomic_load_n(&b->interrupts, __ATOMIC_SEQ_CST) == 1, "vector 0 fired once");
	set(b, FLM_REG_EVENTS, 1, 4);
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_ENABLE, 4);
	ok(reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_HALTED && !reg(b, FLM_REG_EVENTS, 4),
	   "ENABLE does nothing there; EVENTS is cleared by writing 1");
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_DISABLE, 4);
	ok(!reg(b, FLM_REG_QUEUE_STATE, 4) && reg(b, FLM_REG_HALTED, 4) == 0xffffffff,
	   "DISABLE takes it back at once");
}

static struct rig *runner(struct bench *b, uint32_t cores, unsigned int priority, uint32_t quantum)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, cores, 0);
	struct flm_job_record *record = (void *)r->job;

	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	set(b, FLM_REG_QUEUE_QUANTUM_US, quantum, 4);
	set(b, FLM_REG_QUEUE_PRIORITY, priority, 4);
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_ENABLE, 4);
	bench_program(r, __builtin_popcount(cores), PASS);
	bench_job(r, 1);
	record->ring.segment = htole16(1);
	record->ring.offset = htole64(16384);
	record->ring.count = htole32(8);
	return r;
}

static void start(struct bench *b, struct rig *r, uint32_t tokens)
{
	struct flm_slot slot = bench_slot(r);

	((struct flm_sequence *)(void *)(r->job + 256))->generate = htole32(tokens);
	slot.max_points = htole32(tokens + 1);
	bench_post(b, r, &slot);
}

static uint32_t made(struct rig *r)
{
	return le32toh(__atomic_load_n(&r->status->made, __ATOMIC_ACQUIRE));
}

static void wait_made(struct rig *r, uint32_t tokens)
{
	double end = seconds() + 20;

	while (made(r) < tokens && seconds() < end)
		;
}

static void stop(struct rig *r)
{
	__atomic_store_n(&r->status->stop, htole64(r->seqno), __ATOMIC_RELEASE);
	bench_wait(r, r->tail);
}

/* The two words of the status page that a host writes or waits for beside `head`. */
static void status_page(struct bench *b)
{
	struct rig *r = runner(b, 1, 1, 0);
	struct flm_status_page *s = r->status;
	uint32_t generation;

	UNTIL(__atomic_load_n(&s->armed, __ATOMIC_SEQ_CST));
	__atomic_store_n(&s->armed, 0, __ATOMIC_SEQ_CST);
	set(b, FLM_REG_KICK, r->queue, 4);
	ok(UNTIL(__atomic_load_n(&s->armed, __ATOMIC_SEQ_CST) == htole32(1)),
	   "a KICK without work stores armed anew");
	start(b, r, 1000000);
	wait_made(r, 5);
	generation = __atomic_load_n(&s->generation, __ATOMIC_ACQUIRE);
	ok(generation == htole32(1), "generation is named while a job of it runs");
	stop(r);
	ok(le32toh(s->head) == 1 && !s->generation, "and by nothing when that has ended");
}

static void turns(struct bench *b)
{
	struct rig *low = runner(b, 1, 0, 2000), *high = runner(b, 1, 3, 0),
		   *other = runner(b, 2, 0, 0);
	struct rig *wide = runner(b, 3, 0, 0), *same = runner(b, 1, 0, 2000);
	const struct flm_done *done;
	uint64_t ended;
	uint32_t before;

	start(b, low, 1000000);
	wait_made(low, 5);
	start(b, high, 50);
	done = bench_wait(high, 1);
	ok(done && le32toh(done->status) == FLM_STATUS_DONE && !low->status->head,
	   "a job of higher priority ends while the lower one waits between two passes");
	start(b, other, 1000000);
	wait_made(other, 5);
	before = made(low);
	wait_made(low, before + 5);
	ok(made(low) >= before + 5 && !other->status->head, "jobs on two cores run at once");
	start(b, same, 200);
	done = bench_wait(same, 1);
	ok(done && le32toh(done->status) == FLM_STATUS_DONE && !low->status->head,
	   "two jobs on one core take turns of 2 ms, with a third on another core");
	start(b, wide, 3);
	done = bench_wait(wide, 1);
	ok(done && le32toh(done->status) == FLM_STATUS_DONE && !low->status->head &&
		   !other->status->head,
	   "a job that needs both cores comes in between");
	set(b, FLM_REG_QUEUE_SELECT, low->queue, 4);
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_DISABLE, 4);
	ok(reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_BUSY, "DISABLE of a queue at work: BUSY");
	stop(low);
	ok(UNTIL(!reg(b, FLM_REG_QUEUE_STATE, 4)) &&
	   low->done[0].status == htole32(FLM_STATUS_STOPPED),
	   "until its job has ended");
	set(b, FLM_REG_CORE_RESET, 2, 4);
	done = bench_wait(other, 1);
	ok(done && le32toh(done->status) == FLM_STATUS_RESET,
	   "CORE_RESET ends the job on its core");
	start(b, other, 3);
	done = bench_wait(other, 2);
	ok(done && le32toh(done->status) == FLM_STATUS_DONE, "its queue goes on");
	bench_program(other, 1, "@sys\n" PROGRAM_ENDLESS);
	start(b, other, 0);
	start(b, same, 50);
	done = bench_wait(same, 2);
	ok(done && le32toh(done->status) == FLM_STATUS_DONE && le32toh(other->status->head) == 2,
	   "an endless pass holds its core alone");
	ended = le64toh(__atomic_load_n(&other->status->heartbeat_us, __ATOMIC_SEQ_CST));
	ok(UNTIL(le64toh(__atomic_load_n(&other->status->heartbeat_us, __ATOMIC_SEQ_CST)) > ended),
	   "its heart beats");
	set(b, FLM_REG_CORE_RESET, 2, 4);
	done = bench_wait(other, 3);
	ok(done && le32toh(done->status) == FLM_STATUS_RESET && !done->points,
	   "CORE_RESET ends that too");
}

/*
 * A job on a core that is free waits behind a wider one's reservation, until that goes: the choice
 * is made anew, though no job ends and no doorbell rings; or until it has a higher priority itself.
 */
static void reservations(struct bench *b)
{
	static const struct {
		const char *what;
		unsigned int command;	/* to the wide one; 0: the narrow one's priority */
	} ways[] = {
		{ "RESET of the one that waited", FLM_QUEUE_RESET },
		{ "DISABLE of the one that waited", FLM_QUEUE_DISABLE },
		{ "a higher priority", 0 },
	};
	struct rig *endless = runner(b, 2, 1, 0), *wide = runner(b, 3, 1, 0);
	struct rig *narrow = runner(b, 1, 1, 0);

	bench_program(endless, 1, "@sys\n" PROGRAM_ENDLESS);
	start(b, endless, 0);
	UNTIL(__atomic_load_n(&endless->status->running, __ATOMIC_ACQUIRE));
	for (size_t i = 0; i < sizeof(ways) / sizeof(ways[0]); i++) {
		uint64_t asked = le64toh(__atomic_load_n(&endless->status->heartbeat_us,
							 __ATOMIC_ACQUIRE));
		bool has_waited;

		start(b, wide, 3);
		/* Card time must pass before it has waited longer than its quantum of 0. */
		UNTIL(le64toh(__atomic_load_n(&endless->status->heartbeat_us, __ATOMIC_ACQUIRE)) >
		      asked + 1);
		start(b, narrow, 3);
		pause_ms(20);
		has_waited = !narrow->status->head;
		set(b, FLM_REG_QUEUE_SELECT, ways[i].command ? wide->queue : narrow->queue, 4);
		if (ways[i].command)
			set(b, FLM_REG_QUEUE_CONTROL, ways[i].command, 4);
		else
			set(b, FLM_REG_QUEUE_PRIORITY, 2, 4);
		ok(has_waited && UNTIL(__atomic_load_n(&narrow->status->head, __ATOMIC_ACQUIRE)),
		   "%s lets a job behind its reservation run", ways[i].what);
		bench_reset(b, wide);
		bench_enable(b, wide, FLM_QUEUE_COMPUTE, 3, 1, 0);
		bench_reset(b, narrow);
		bench_enable(b, narrow, FLM_QUEUE_COMPUTE, 1, 1, 0);
	}
	bench_reset(b, endless);
}

/* A job that waits for a core of the reset and for another's, which an endless job has. */
static void preempted(struct bench *b)
{
	struct rig *wide = runner(b, 3, 0, 0), *endless = runner(b, 2, 1, 0);
	const struct flm_done *done;
	uint64_t busy;

	start(b, wide, 1000000);
	wait_made(wide, 5);
	bench_program(endless, 1, "@sys\n" PROGRAM_ENDLESS);
	start(b, endless, 0);
	UNTIL(__atomic_load_n(&endless->status->running, __ATOMIC_ACQUIRE));
	set(b, FLM_REG_CORE_RESET, 1, 4);
	done = bench_wait(wide, 1);
	ok(done && le32toh(done->status) == FLM_STATUS_RESET && le32toh(done->value) >= 5 &&
	   __atomic_load_n(&endless->status->running, __ATOMIC_ACQUIRE),
	   "CORE_RESET ends a preempted job, though its other core is another's");
	busy = le64toh(__atomic_load_n(&wide->status->busy_us, __ATOMIC_ACQUIRE));
	start(b, wide, 3);
	pause_ms(200);
	ok(le64toh(__atomic_load_n(&wide->status->busy_us, __ATOMIC_ACQUIRE)) == busy &&
	   le32toh(wide->status->head) == 1, "and its queue waits for both cores again");
	bench_reset(b, endless);
	done = bench_wait(wide, 2);
	ok(done && le32toh(done->status) == FLM_STATUS_DONE, "then it goes on");
}

/* One turn lasts as long as the quantum, whatever runs on another core. */
static void quantum(struct bench *b)
{
	struct rig *first = runner(b, 1, 1, 4000000000u), *second = runner(b, 1, 1, 4000000000u);

	start(b, first, 400);
	wait_made(first, 2);
	start(b, second, 3);
	bench_wait(second, 1);
	ok(le32toh(first->status->head) == 1 && le32toh(first->done[0].value) == 400 &&
	   le64toh(second->done[0].started_us) >= le64toh(first->done[0].ended_us),
	   "with a long quantum the first job ends before the second begins");
}

/* Segment 2 by a table of 64 blocks, or in one piece, or by a generation so far ahead. */
enum { BLOCKS, PIECE, ENTRY, AHEAD };

static const struct {
	const char *what;
	unsigned int where, at, bytes;
	uint64_t value;
	unsigned int fault;
} segments[] = {
	{ "as it should be", BLOCKS, 0, 0, 0, 0 },
	{ "63 entries", BLOCKS, 16, 4, 63, 5 },
	{ "blocks smaller than the region's", BLOCKS, 22, 1, 11, 5 },
	{ "a reserved byte", BLOCKS, 23, 1, 1, 5 },
	{ "entries that are not lent", BLOCKS, 8, 8, 0x1000, 6 },
	{ "65 entries", BLOCKS, 16, 4, 65, 5 },
	{ "in one piece, with a size of blocks", PIECE, 22, 1, 12, 5 },
	{ "an entry in no region", ENTRY, 0, 8, 14ull << 60, 5 },
	{ "a generation that is not there", AHEAD, 0, 4, 64, 3 },
};

static void tables(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COPY, 0, 0);
	uint8_t *pages = bench_alloc(b, 64 * 4096), *flat = bench_alloc(b, 64 * 4096);
	__le64 *blocks = bench_alloc(b, 4096), host = (uint64_t)FLM_REGION_HOST << 60;
	const struct flm_segment_row whole = {
		.length = htole64(64 * 4096 - 100), .blocks = htole64(bus(b, blocks)),
		.count = htole32(64), .rights = FLM_RIGHT_R | FLM_RIGHT_W, .block_log2 = 12,
	};
	const struct flm_segment_row piece = {
		.length = whole.length, .blocks = htole64(host | bus(b, pages)),
		.count = htole32(1), .rights = whole.rights, .flags = FLM_SEGMENT_CONTIGUOUS,
	};
	struct flm_copy_slot slot = {
		.flags = htole32(FLM_SLOT_COPY), .bytes = htole64(200000), .src = htole64(5),
		.src_segment = htole16(3), .dst_segment = htole16(2), .dst = htole64(7),
	};
	const struct flm_done *done = NULL;
	unsigned int exact = 0, old;
	uint64_t read;

	for (unsigned int i = 0; i < 64; i++)
		blocks[i] = htole64(host | bus(b, pages + i * 29 % 64 * 4096));
	for (unsigned int i = 0; i < 64 * 4096; i++)
		flat[i] = i * 13 + i / 4096;
	for (unsigned int i = 0; i < sizeof(segments) / sizeof(segments[0]); i++) {
		struct flm_segment_row row = segments[i].where == PIECE ? piece : whole;
		uint32_t ahead = 0;
		uint8_t *places[] = { (uint8_t *)&row, (uint8_t *)&row, (uint8_t *)blocks,
				      (uint8_t *)&ahead };

		bench_generation(b, r);
		bench_bind(b, r, 3, FLM_REGION_HOST, bus(b, flat), 64 * 4096, FLM_RIGHT_R);
		blocks[0] = htole64(host | bus(b, pages));
		memcpy(places[segments[i].where] + segments[i].at, &segments[i].value,
		       segments[i].bytes);
		r->tables[2] = row;
		slot.generation = htole32(r->generation + ahead);
		slot.seqno = htole64(++r->seqno);
		bench_post(b, r, &slot);
		done = bench_wait(r, r->tail);
		ok(done && done->fault == segments[i].fault, "a segment, %s: fault %u (%u)",
		   segments[i].what, segments[i].fault, done ? done->fault : 99);
	}
	for (unsigned int i = 0; i < 200000; i++)
		exact += pages[(i + 7) / 4096 * 29 % 64 * 4096 + (i + 7) % 4096] == flat[i + 5];
	ok(exact == 200000, "64 pages in any order hold what was copied (%u of 200000)", exact);
	old = r->generation;
	blocks[0] = htole64(host | bus(b, pages));
	for (unsigned int i = 0; i < 64; i++)
		bench_generation(b, r);
	r->tables[2] = whole;
	for (unsigned int i = 0; i < 2; i++) {
		slot.generation = htole32(i ? r->generation : old);
		slot.seqno = htole64(++r->seqno);
		bench_post(b, r, &slot);
		done = bench_wait(r, r->tail);
		ok(done && done->fault == (i ? 0 : FLM_FAULT_SEGMENT),
		   i ? "the row's new generation runs"
		     : "a generation whose row was used again is fault SEGMENT");
	}
	set(b, FLM_REG_CHANNEL_SELECT, 1 << 8 | 1, 4);
	read = reg(b, FLM_REG_CHANNEL_WRITTEN, 8);
	bench_generation(b, r);
	bench_bind(b, r, 2, FLM_REGION_HBM + 1, 0, 4 << 20, FLM_RIGHT_W);
	slot.generation = htole32(r->generation);
	slot.seqno = htole64(++r->seqno);
	slot.bytes = htole64(1000);
	slot.dst = htole64(300);
	bench_post(b, r, &slot);
	bench_wait(r, r->tail);
	ok(reg(b, FLM_REG_CHANNEL_WRITTEN, 8) - read == 488,
	   "bytes 300 to 1299 in stripes of 256 on two channels: 488 on the second");
}

/* Only the status page is taken back: the queue halts at the next point. */
static void lost_page(struct bench *b)
{
	struct rig *r = runner(b, 1, 0, 0);
	uint64_t page = bus(b, r->status);

	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	card_dma_map(b->card, 0x5000, 4096, r->status, CARD_DMA_READ | CARD_DMA_WRITE);
	set(b, FLM_REG_QUEUE_STATUS, 0x5000, 8);
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_ENABLE, 4);
	start(b, r, 1000000);
	wait_made(r, 3);
	card_dma_unmap(b->card, 0x5000, 4096);
	set(b, FLM_REG_QUEUE_SELECT, r->queue, 4);
	ok(UNTIL(reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_HALTED) &&
	   reg(b, FLM_REG_QUEUE_ERROR, 4) == FLM_FAULT_DMA && !r->done[0].status,
	   "a status page that is gone halts its queue: DMA, no completion");
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	set(b, FLM_REG_QUEUE_STATUS, page, 8);
}

/* Slots that fail at once, on every core and the copy engine: the door still opens. */
static void flood(struct bench *b)
{
	struct rig *rigs[3];
	double worst = 0, end, last = seconds() + PATIENCE;

	for (unsigned int i = 0; i < 3; i++) {
		rigs[i] = bench_rig(b, i == 2, i == 2 ? 0 : 1 << i, 0);
		memset(rigs[i]->ring, 0xff, 4096);
	}
	for (end = seconds() + 0.5; seconds() < end ||
	     (le32toh(rigs[0]->status->head) <= 1000 && seconds() < last);) {
		struct watch watch;
		double took;

		for (unsigned int i = 0; i < 3; i++) {
			uint32_t *bell = card_bar_memory(b->card, FLM_BAR_DOORBELLS);
			uint32_t head = le32toh(__atomic_load_n(&rigs[i]->status->head,
								__ATOMIC_ACQUIRE));

			__atomic_store_n(bell + rigs[i]->queue * 1024, htole32(head + 16),
					 __ATOMIC_RELEASE);
			if (__atomic_load_n(&rigs[i]->status->armed, __ATOMIC_SEQ_CST))
				set(b, FLM_REG_KICK, rigs[i]->queue, 4);
		}
		watch = watch_call(0);
		reg(b, FLM_REG_TIME_US, 8);
		took = watch_took(&watch);
		worst = took > worst ? took : worst;
	}
	ok(worst < SOON && le32toh(rigs[0]->status->head) > 1000,
	   "under a flood of bad slots (%u on one queue) the slowest register read took %.2f ms",
	   le32toh(rigs[0]->status->head), worst * 1e3);
}

/* A host that posts at the very moment when the card stores `armed`: its page is read-only then. */
static void *falling_asleep;
static uint32_t *falling_doorbell;

static void on_armed(int number)
{
	(void)number;
	__atomic_store_n(falling_doorbell, htole32(1), __ATOMIC_SEQ_CST);
	mprotect(falling_asleep, 4096, PROT_READ | PROT_WRITE);
}

/*
 * No KICK is due, for armed is still 0: the card has to look at the doorbell once more. Jobs on
 * both cores leave one worker, so that nobody else comes by and sees it.
 */
static void falls_asleep(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COPY, 0, 0), *busy[2];
	const struct sigaction action = { .sa_handler = on_armed };
	struct sigaction before;

	for (unsigned int i = 0; i < 2; i++) {
		busy[i] = bench_rig(b, FLM_QUEUE_COMPUTE, 1 << i, UINT64_MAX);
		bench_program(busy[i], 1, "@sys\n" PROGRAM_ENDLESS);
		bench_job(busy[i], 1);
		start(b, busy[i], 0);
		UNTIL(__atomic_load_n(&busy[i]->status->running, __ATOMIC_ACQUIRE));
	}
	falling_asleep = r->status;
	falling_doorbell = (void *)((uint8_t *)card_bar_memory(b->card, FLM_BAR_DOORBELLS) +
				    r->queue * 4096);
	__atomic_store_n(&r->status->armed, 0, __ATOMIC_SEQ_CST);
	sigaction(SIGSEGV, &action, &before);
	mprotect(falling_asleep, 4096, PROT_READ);
	set(b, FLM_REG_KICK, r->queue, 4);
	ok(UNTIL(__atomic_load_n(&r->status->head, __ATOMIC_ACQUIRE)),
	   "a slot posted while its queue falls asleep ends without a KICK");
	sigaction(SIGSEGV, &before, NULL);
	for (unsigned int i = 0; i < 2; i++)
		bench_reset(b, busy[i]);
}

/* The card is freed at work; nothing of the host is touched then. */
static void free_at_work(void)
{
	struct bench b;
	struct rig *r, *copy;
	struct flm_copy_slot slot = {
		.flags = htole32(FLM_SLOT_FILL), .bytes = htole64(1ull << 40), .seqno = htole64(1),
		.dst_segment = htole16(2), .generation = htole32(1),
	};
	double begin;

	bench_open(&b, "tiny");
	r = runner(&b, 3, 0, 0);
	bench_program(r, 2, "@sys\n" PROGRAM_ENDLESS);
	copy = bench_rig(&b, FLM_QUEUE_COPY, 0, 0);
	bench_bind(&b, copy, 2, FLM_REGION_HBM, 0, 1ull << 41, FLM_RIGHT_W);
	bench_post(&b, copy, &slot);
	start(&b, r, 0);
	UNTIL(__atomic_load_n(&r->status->running, __ATOMIC_ACQUIRE));
	begin = seconds();
	card_free(b.card);
	memset(b.host, 0, HOST_BYTES);
	ok(seconds() - begin < PATIENCE, "a card at work is freed in %.1f ms",
	   (seconds() - begin) * 1e3);
	munmap(b.host, HOST_BYTES);
}

int main(void)
{
	struct bench b;

	bench_open(&b, "tiny");
	registers(&b);
	enable(&b);
	bench_close(&b);
	free_at_work();
	bench_open(&b, "tiny");
	status_page(&b);
	lost_page(&b);
	flood(&b);
	falls_asleep(&b);
	bench_close(&b);
	bench_open(&b, "tiny");
	turns(&b);
	quantum(&b);
	tables(&b);
	bench_close(&b);
	bench_open(&b, "tiny");
	reservations(&b);
	preempted(&b);
	bench_close(&b);
	return done_testing();
}
