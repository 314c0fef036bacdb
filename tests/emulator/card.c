// SPDX-License-Identifier: MIT
/*
 * The card through its door, by a driver of a few lines: identity, rings and doorbells,
 * completions, copies, resets, and that no call ever waits for work.
 */
#include <fcntl.h>
#include <stdbool.h>

#include "tests/emulator/bench.h"
#include "tests/tap.h"

static void identity(struct bench *b)
{
	struct card_identity id;
	uint32_t name[2];

	card_identify(b->card, &id);
	ok(id.vendor == 0x1234 && id.device == 0xf117 && id.class_code == 0x120000 &&
		   id.revision == 1,
	   "it is 1234:f117, a processing accelerator, map 1");
	ok(reg(b, 0, 4) == 0x314d4c46, "MAGIC is FLM1");
	ok(reg(b, 4, 4) == 0x10000, "VERSION is 1.0");
	name[0] = reg(b, 0x10, 4);
	name[1] = reg(b, 0x14, 4);
	ok(!memcmp(name, "tiny\0\0\0\0", 8), "the profile's name is tiny");
	ok(b->cores == 2 && b->queues == 8, "two cores, eight queues");
	set(b, FLM_REG_REGION_SELECT, 1, 4);
	ok(reg(b, FLM_REG_REGION_SIZE, 8) == 32u << 20, "core 1 has 32 MiB of HBM");
	ok(reg(b, FLM_REG_REGION_SIZE, 4) == 32u << 20 && !reg(b, FLM_REG_REGION_SIZE + 4, 4),
	   "by halves too");
	set(b, 0, 5, 4);
	ok(reg(b, 0, 4) == 0x314d4c46, "a write to a read-only register changes nothing");
	ok(!reg(b, 0xffc, 4) && !reg(b, 0x2, 4), "what no row names reads as zero");
}

/* A window as large as all card memory, or the next power of two: it shows every byte. */
static void whole_window(const char *profile, uint64_t bar2)
{
	struct card_options options = { .profile = profile, .bar2_bytes = bar2 };
	uint64_t size, visible, at, end = 0, all = 0, hidden = 0;
	struct card_host host = { 0 };
	char error[CARD_ERROR_BYTES];
	struct card *card;

	if (card_new(&options, &host, &card, error))
		errx(1, "%s", error);
	for (uint32_t id = 0; id < FLM_REGION_PEER; id++) {
		card_reg_write(card, FLM_REG_REGION_SELECT, &id, 4);
		card_reg_read(card, FLM_REG_REGION_SIZE, &size, 8);
		card_reg_read(card, FLM_REG_REGION_VISIBLE, &visible, 8);
		card_reg_read(card, FLM_REG_REGION_BAR2, &at, 8);
		hidden += size - visible;
		hidden += size && at != end;
		end += visible;
		all += size;
	}
	ok(!hidden && all <= bar2 && 2 * all > bar2,
	   "%s: a BAR2 of %llu MiB shows all %llu MiB of card memory", profile,
	   (unsigned long long)bar2 >> 20, (unsigned long long)all >> 20);
	card_free(card);
}

static void empty_jobs(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 3, 0);
	uint64_t kicks = reg(b, FLM_REG_COUNT_KICKS, 8);
	const struct flm_done *done;
	struct flm_slot slot;

	bench_program(r, 2, "");
	bench_job(r, 300);
	done = bench_run(b, r);
	ok(le32toh(done->status) == FLM_STATUS_DONE && le64toh(done->seqno) == 1,
	   "an empty job is DONE (status %u, fault %u, word %u)", le32toh(done->status),
	   done->fault, le32toh(done->word));
	ok(le32toh(done->points) == 3, "300 prompt tokens in chunks of 128 are 3 points");
	for (int i = 0; i < 10; i++)
		bench_run(b, r);
	ok(le64toh(r->status->seqno) == 11 && le32toh(r->status->head) == 11, "ten more, in order");
	ok(reg(b, FLM_REG_COUNT_KICKS, 8) - kicks <= 11, "a kick each at most");
	ok(__atomic_load_n(&b->interrupts, __ATOMIC_SEQ_CST) == 11, "an interrupt each");
	slot = bench_slot(r);
	slot.reserved[2] = 1;
	bench_post(b, r, &slot);
	done = bench_wait(r, r->tail);
	ok(done && done->fault == FLM_FAULT_SLOT && done->unit == FLM_NOWHERE,
	   "a slot with a reserved field is fault SLOT");
	slot = bench_slot(r);
	slot.max_points = htole32(2);
	bench_post(b, r, &slot);
	done = bench_wait(r, r->tail);
	ok(done && done->fault == FLM_FAULT_SLOT && le32toh(done->word) == 36,
	   "a job that needs more points than it may is fault SLOT");
	slot = bench_slot(r);
	slot.generation = htole32(77);
	bench_post(b, r, &slot);
	done = bench_wait(r, r->tail);
	ok(done && done->fault == FLM_FAULT_SEGMENT, "an unknown generation is fault SEGMENT");
	r->status->stop = htole64(r->seqno + 1);
	done = bench_run(b, r);
	ok(le32toh(done->status) == FLM_STATUS_STOPPED && !done->points,
	   "a slot that is to stop before it begins does nothing");
	bench_job(r, 1);
	done = bench_run(b, r);
	ok(le32toh(done->status) == FLM_STATUS_DONE, "and the next one runs");
}

static void copies(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COPY, 0, 0);
	uint8_t *from = bench_alloc(b, 1 << 20), *to = bench_alloc(b, 1 << 20);
	struct flm_copy_slot slot = {
		.flags = htole32(FLM_SLOT_COPY), .seqno = htole64(1), .bytes = htole64(700001),
		.src_segment = htole16(2), .dst_segment = htole16(3), .src = htole64(17),
	};
	const struct flm_done *done;

	for (int i = 0; i < 1 << 20; i++)
		from[i] = i * 7 + i / 251;
	bench_bind(b, r, 2, FLM_REGION_HOST, bus(b, from), 1 << 20, FLM_RIGHT_R);
	bench_bind(b, r, 3, FLM_REGION_HBM + 1, 4 << 20, 1 << 20, FLM_RIGHT_R | FLM_RIGHT_W);
	bench_bind(b, r, 4, FLM_REGION_HOST, bus(b, to), 1 << 20, FLM_RIGHT_W);
	slot.generation = htole32(r->generation);
	bench_post(b, r, &slot);
	slot.seqno = htole64(2);
	slot.src_segment = htole16(3);
	slot.dst_segment = htole16(4);
	slot.src = 0;
	bench_post(b, r, &slot);
	bench_wait(r, 2);
	ok(!memcmp(to, from + 17, 700001) && !to[700001], "host to HBM and back: the same bytes");
	memcpy(from, "123456789", 9);
	slot = (struct flm_copy_slot) {
		.flags = htole32(FLM_SLOT_CRC32C), .seqno = htole64(3), .bytes = htole64(9),
		.src_segment = htole16(2), .generation = htole32(r->generation),
	};
	bench_post(b, r, &slot);
	done = bench_wait(r, 3);
	ok(done && le32toh(done->value) == 0xe3069283, "CRC32C of 123456789 is e3069283");
	slot = (struct flm_copy_slot) {
		.flags = htole32(FLM_SLOT_FILL), .seqno = htole64(4), .bytes = htole64(64),
		.dst_segment = htole16(4), .fill = htole32(0x01020304),
		.generation = htole32(r->generation),
	};
	bench_post(b, r, &slot);
	bench_wait(r, 4);
	ok(to[0] == 4 && to[63] == 1 && to[64] == from[17 + 64], "a fill fills, and not more");
	slot.seqno = htole64(5);
	slot.dst_segment = htole16(2);
	bench_post(b, r, &slot);
	done = bench_wait(r, 5);
	ok(done && done->fault == FLM_FAULT_RIGHTS && le32toh(done->segment) == 2,
	   "a fill without the right to write is fault RIGHTS");
	slot.seqno = htole64(6);
	slot.dst_segment = htole16(4);
	slot.dst = htole64((1 << 20) - 32);
	bench_post(b, r, &slot);
	done = bench_wait(r, 6);
	ok(done && done->fault == FLM_FAULT_SEGMENT, "beyond the segment's end is fault SEGMENT");
	bench_bind(b, r, 2, FLM_REGION_HOST, bus(b, from), 150 << 10, FLM_RIGHT_R);
	bench_generation(b, r);
	slot = (struct flm_copy_slot) {
		.flags = htole32(FLM_SLOT_COPY), .seqno = htole64(7), .bytes = htole64(200 << 10),
		.src_segment = htole16(2), .dst_segment = htole16(4),
		.generation = htole32(r->generation),
	};
	bench_post(b, r, &slot);
	done = bench_wait(r, 7);
	ok(done && done->fault == FLM_FAULT_SEGMENT && le64toh(done->offset) == 128 << 10,
	   "200 KiB of a segment of 150: the burst of 64 KiB that does not fit is named");
	card_dma_map(b->card, 0x10000, 4096, from, CARD_DMA_WRITE);
	bench_bind(b, r, 2, FLM_REGION_HOST, 0x10000, 4096, FLM_RIGHT_R | FLM_RIGHT_W);
	for (unsigned int i = 0; i < 2; i++) {
		bench_generation(b, r);
		slot = (struct flm_copy_slot) {
			.flags = htole32(i ? FLM_SLOT_CRC32C : FLM_SLOT_FILL),
			.seqno = htole64(8 + i), .bytes = htole64(64),
			.generation = htole32(r->generation),
		};
		*(i ? &slot.src_segment : &slot.dst_segment) = htole16(2);
		bench_post(b, r, &slot);
		done = bench_wait(r, 8 + i);
		ok(done && done->fault == (i ? FLM_FAULT_DMA : 0),
		   i ? "but not be read: fault DMA" : "memory lent to be written can be written");
	}
	card_dma_unmap(b->card, 0x10000, 4096);
	slot = (struct flm_copy_slot) {
		.flags = htole32(FLM_SLOT_FILL), .seqno = htole64(10), .bytes = htole64(64),
		.dst_segment = htole16(4), .dst = htole64(UINT64_MAX - 31),
		.generation = htole32(r->generation),
	};
	bench_post(b, r, &slot);
	done = bench_wait(r, 10);
	ok(done && done->fault == FLM_FAULT_SEGMENT &&
	   le64toh(done->offset) == 0xffffffffffffffe0,
	   "a fill around the end of 64 bits is fault SEGMENT at its beginning");
}

/* A queue with a job that does not end until somebody ends it. */
struct work {
	struct bench *b;
	struct rig *rig;
	uint32_t cores;
	double taken;		/* how long RESET itself took, at best */
};

static void work_begin(struct work *w)
{
	struct flm_slot slot = bench_slot(w->rig);

	bench_post(w->b, w->rig, &slot);
	UNTIL(__atomic_load_n(&w->rig->status->running, __ATOMIC_ACQUIRE));
}

/* The slowest of 1,000. */
static double read_registers(void *opaque)
{
	struct work *w = opaque;
	double worst = 0;

	for (int i = 0; i < 1000; i++) {
		struct watch watch = watch_call(0);
		double took;

		reg(w->b, FLM_REG_TIME_US, 8);
		took = watch_took(&watch);
		worst = took > worst ? took : worst;
	}
	return worst;
}

/* The card cannot write the completion then: the queue halts, and nothing else. */
static double unmap(void *opaque)
{
	struct work *w = opaque;
	struct bench *b = w->b;
	struct watch watch;
	double took;

	work_begin(w);
	watch = watch_start(0);
	card_dma_unmap(b->card, BASE, HOST_BYTES);
	took = watch_took(&watch);
	set(b, FLM_REG_QUEUE_SELECT, w->rig->queue, 4);
	ok(UNTIL(reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_HALTED) &&
	   reg(b, FLM_REG_QUEUE_ERROR, 4) == FLM_FAULT_DMA, "the queue halts with DMA");
	card_dma_map(b->card, BASE, HOST_BYTES, b->host, CARD_DMA_READ | CARD_DMA_WRITE);
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	ok(reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_DISABLED, "RESET makes it usable again");
	ok(bench_enable(b, w->rig, FLM_QUEUE_COMPUTE, w->cores, 1, 0), "ENABLE too");
	return took;
}

static double reset_queue(void *opaque)
{
	struct work *w = opaque;
	struct watch watch;
	double taken, took;

	/* A queue that is enabled already keeps its state, and an `armed` that is gone. */
	bench_reset(w->b, w->rig);
	bench_enable(w->b, w->rig, FLM_QUEUE_COMPUTE, w->cores, 1, 0);
	work_begin(w);
	set(w->b, FLM_REG_QUEUE_SELECT, w->rig->queue, 4);
	watch = watch_start(0);
	set(w->b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	taken = watch_took(&watch);
	w->taken = taken < w->taken ? taken : w->taken;
	took = UNTIL(reg(w->b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_DISABLED) ? 0 : PATIENCE;
	return took + watch_took(&watch);
}

/* No call waits for work: timed while an endless loop runs that the watchdog allows to go on. */
static void busy(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 3, 0);
	struct work work = { b, r, 3, LATE };
	uint8_t *extra = bench_alloc(b, 4 << 20);
	const struct flm_done *done;
	bool is_soon;
	double took;

	bench_bind(b, r, 2, FLM_REGION_HOST, bus(b, extra), 4 << 20, FLM_RIGHT_R);
	bench_program(
		r, 2,
		"@ld\nloop sub=0xffffff bound=0xffffff body=11\nld seg=2 src_pitch=0 dst_pitch=0 "
		"dst=act:0 rows=4/4 bytes=200000/200000\nend");
	bench_job(r, 1);
	work_begin(&work);
	is_soon = comes_soon(read_registers, &work, &took);
	ok(is_soon, "1000 register reads while it runs: the slowest took %.2f ms", took * 1e3);
	bench_reset(b, r);
	bench_enable(b, r, FLM_QUEUE_COMPUTE, 3, 1, 0);
	is_soon = comes_soon(unmap, &work, &took);
	ok(is_soon, "an unmap of the memory in use took %.2f ms", took * 1e3);
	is_soon = comes_soon(reset_queue, &work, &took);
	ok(work.taken < SOON, "RESET of a queue at work is taken in %.2f ms", work.taken * 1e3);
	ok(is_soon, "and done after %.1f ms", took * 1e3);
	ok(!le32toh(r->status->head), "without a completion");
	bench_program(r, 2, "");
	bench_enable(b, r, FLM_QUEUE_COMPUTE, 3, 1, 0);
	done = bench_run(b, r);
	ok(le32toh(done->status) == FLM_STATUS_DONE, "the next job runs");
}

static void resets(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0);
	uint8_t *memory = card_bar_memory(b->card, FLM_BAR_MEMORY);
	struct work work = { b, r, 1, LATE };
	struct flm_slot slot;
	unsigned int interrupts;
	struct watch watch;
	double start, took;
	uint64_t where;

	set(b, FLM_REG_REGION_SELECT, 0, 4);
	where = reg(b, FLM_REG_REGION_BAR2, 8);
	memory[where] = 0x5a;
	bench_program(
		r, 1,
		"@ld\nloop sub=0xffffff bound=0xffffff body=11\nld seg=1 src_pitch=0 dst_pitch=0 "
		"dst=act:0 rows=4/4 bytes=60000/60000\nend");
	bench_job(r, 1);
	work_begin(&work);
	start = seconds();
	watch = watch_start(0);
	card_reset(b->card);
	took = watch_took(&watch);
	ok(took < SOON, "a reset of the card at work is taken in %.2f ms", took * 1e3);
	interrupts = __atomic_load_n(&b->interrupts, __ATOMIC_SEQ_CST);
	memset(r->status, 0xee, 4096);
	ok(UNTIL(reg(b, FLM_REG_STATE, 4) & 1), "READY after %.1f ms", (seconds() - start) * 1e3);
	ok(memory[where] == 0xa5, "card memory begins with the pattern");
	ok(reg(b, FLM_REG_RESETS, 4) == 1, "RESETS counts it");
	ok(((uint8_t *)r->status)[0] == 0xee && ((uint8_t *)r->status)[40] == 0xee &&
	   interrupts == __atomic_load_n(&b->interrupts, __ATOMIC_SEQ_CST),
	   "nothing was written to the host, no interrupt came");
	set(b, FLM_REG_QUEUE_SELECT, r->queue, 4);
	ok(!reg(b, FLM_REG_QUEUE_STATE, 4) && !reg(b, FLM_REG_QUEUE_HEAD, 4),
	   "queues are disabled");
	ok(bench_enable(b, r, FLM_QUEUE_COMPUTE, 1, 1, 0), "and can be enabled again");
	bench_program(r, 1, "");
	ok(le32toh(bench_run(b, r)->status) == FLM_STATUS_DONE, "a job runs after the reset");
	card_bus_master(b->card, 0);
	slot = bench_slot(r);
	memset(r->done, 0, 4096);
	bench_post(b, r, &slot);
	start = seconds();
	while (reg(b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_ENABLED && seconds() < start + 0.2)
		;
	ok(!r->done[1].status, "without bus master the card writes nothing");
	card_bus_master(b->card, 1);
}

/* Memory that no window shows is lost in a reset as all other is. */
static void hidden_memory(void)
{
	struct flm_copy_slot slots[2] = {
		{ .flags = htole32(FLM_SLOT_FILL), .seqno = htole64(1), .bytes = htole64(4096),
		  .dst_segment = htole16(2), .fill = htole32(0x5a5a5a5a) },
		{ .flags = htole32(FLM_SLOT_COPY), .seqno = htole64(2), .bytes = htole64(4096),
		  .src_segment = htole16(2), .dst_segment = htole16(3) },
	};
	uint64_t visible, size;
	struct bench b;
	struct rig *r;
	uint8_t *to;

	bench_open(&b, "u280");
	r = bench_rig(&b, FLM_QUEUE_COPY, 0, 0);
	to = bench_alloc(&b, 4096);
	set(&b, FLM_REG_REGION_SELECT, 0, 4);
	visible = reg(&b, FLM_REG_REGION_VISIBLE, 8);
	size = reg(&b, FLM_REG_REGION_SIZE, 8);
	bench_bind(&b, r, 2, FLM_REGION_HBM, visible, 4096, FLM_RIGHT_R | FLM_RIGHT_W);
	bench_bind(&b, r, 3, FLM_REGION_HOST, bus(&b, to), 4096, FLM_RIGHT_W);
	for (unsigned int i = 0; i < 2; i++) {
		slots[i].generation = htole32(r->generation);
		bench_post(&b, r, &slots[i]);
	}
	bench_wait(r, 2);
	ok(visible < size && to[0] == 0x5a && to[4095] == 0x5a,
	   "memory behind its region's window holds what is written there");
	card_reset(b.card);
	UNTIL(reg(&b, FLM_REG_STATE, 4) & 1);
	bench_enable(&b, r, FLM_QUEUE_COPY, 0, 1, 0);
	bench_post(&b, r, &slots[1]);
	bench_wait(r, 1);
	ok(to[0] == 0xa5 && to[4095] == 0xa5, "and begins with the pattern after a reset");
	bench_close(&b);
}

/* Whoever lets others have the window without sealing it: what cannot be lost is not kept quiet. */
static void failed_reset(void)
{
	struct rig *r;
	struct bench b;
	uint8_t *window;

	bench_open(&b, "tiny");
	r = bench_rig(&b, FLM_QUEUE_COMPUTE, 1, 0);
	window = card_bar_memory(b.card, FLM_BAR_MEMORY);
	window[8192] = 0x5e;
	if (fcntl(card_bar_fd(b.card, FLM_BAR_MEMORY), F_ADD_SEALS, F_SEAL_FUTURE_WRITE))
		err(1, "F_SEAL_FUTURE_WRITE");
	card_reset(b.card);
	ok(UNTIL(reg(&b, FLM_REG_STATE, 4) == 2) && reg(&b, FLM_REG_EVENTS, 4) == 1 << 4,
	   "memory that a reset cannot take away: STATE is FAILED, not READY, and EVENTS says so");
	ok(!bench_enable(&b, r, FLM_QUEUE_COMPUTE, 1, 1, 0), "no queue is enabled then");
	ok(!card_renew_bars(b.card) && window == card_bar_memory(b.card, FLM_BAR_MEMORY) &&
	   !window[8192], "other files have none of it");
	card_reset(b.card);
	ok(UNTIL(reg(&b, FLM_REG_STATE, 4) == 1), "and another reset is one");
	bench_close(&b);
}

/*
 * Fifteen jobs have begun on one core and hold 16 MiB of streams each: a reset does not make its
 * caller, who owns a socket, give them back.
 */
static void heavy_reset(void)
{
	const uint64_t bytes = (16u << 20) + 65536;
	struct flm_program *program;
	struct timespec from, to;
	unsigned int begun = 0;
	struct rig *rigs[15];
	struct bench b;
	double took;

	bench_open(&b, "u280");
	program = bench_alloc(&b, bytes);
	program_write(program, 1, "@sys\nloop sub=2000 bound=2000 body=2\nsync\nend");
	program->chunk = htole32(1);
	program->entry[0].stream[0].words = htole32(FLM_PROGRAM_WORDS - 4096);
	for (unsigned int i = 0; i < 15; i++) {
		struct flm_slot slot;

		rigs[i] = bench_rig(&b, FLM_QUEUE_COMPUTE, 1, 0);
		bench_bind(&b, rigs[i], 0, FLM_REGION_HOST, bus(&b, program), bytes, FLM_RIGHT_X);
		bench_job(rigs[i], 8000);
		slot = bench_slot(rigs[i]);
		slot.max_points = htole32(10000);
		bench_post(&b, rigs[i], &slot);
	}
	for (unsigned int i = 0; i < 15; i++)
		begun += UNTIL(__atomic_load_n(&rigs[i]->status->points, __ATOMIC_ACQUIRE)) &&
			 !rigs[i]->status->head;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &from);
	card_reset(b.card);
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &to);
	took = to.tv_sec - from.tv_sec + (to.tv_nsec - from.tv_nsec) * 1e-9;
	ok(begun == 15 && took < SOON / 25,
	   "a reset of 15 jobs with 16 MiB of streams each takes its caller %.2f ms (%u)",
	   took * 1e3, begun);
	UNTIL(reg(&b, FLM_REG_STATE, 4) & 1);
	bench_close(&b);
}

int main(void)
{
	static const struct card_options unknown = { .profile = "u281" };
	struct card_host host = { 0 };
	char error[CARD_ERROR_BYTES];
	struct card *card;
	struct bench b;

	ok(card_new(&unknown, &host, &card, error) == -22 && !card && strstr(error, "u281"),
	   "an unknown card is refused by name");
	whole_window("u280", 64ull << 30);
	whole_window("vhk158", 64ull << 30);
	whole_window("tiny", 128 << 20);
	bench_open(&b, "tiny");
	identity(&b);
	empty_jobs(&b);
	copies(&b);
	busy(&b);
	resets(&b);
	bench_close(&b);
	hidden_memory();
	failed_reset();
	heavy_reset();
	return done_testing();
}
