// SPDX-License-Identifier: MIT
/*
 * Faults that are the card's own: those that it is told to have, each when its turn comes, once and
 * not before, and INTERNAL, when the machine below has no memory left for it.
 */
#include <sys/resource.h>

#include "tests/emulator/bench.h"
#include "tests/tap.h"

#define PAGES 200000	/* of a page list: too much for what lies about in an allocator */

static struct rig *begin(struct bench *b, const char *faults)
{
	struct rig *r;

	bench_open_broken(b, "tiny", faults);
	r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0);
	bench_program(r, 1, "");
	bench_job(r, 1);
	return r;
}

static void post(struct bench *b, struct rig *r)
{
	struct flm_slot slot = bench_slot(r);

	bench_post(b, r, &slot);
}

static unsigned int interrupts(struct bench *b)
{
	return __atomic_load_n(&b->interrupts, __ATOMIC_SEQ_CST);
}

static void names(void)
{
	static const struct { const char *list, *part;
	} bad[] = {
		{ "hangs",
		  "unknown fault 'hangs'; known: hang, deaf, lost-interrupt, late-interrupt, "
		  "dma-error, bad-completion, dead-heartbeat, removal" },
		{ "hang,removal@x", "removal@x" },
		{ "hang@0", "N numbers the jobs" },
		{ "lost-interrupt@", "N numbers the interrupts" },
		{ ",hang", "unknown fault ''" },
	};

	for (unsigned int i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		struct card_options options = { .profile = "tiny", .faults = bad[i].list };
		struct card_host host = { 0 };
		char error[CARD_ERROR_BYTES];
		struct card *card;

		ok(card_new(&options, &host, &card, error) == -22 && !card &&
			   strstr(error, bad[i].part),
		   "'%s' is refused: %s", bad[i].list, error);
	}
}

static uint64_t busy_of(const struct rig *r)
{
	return le64toh(__atomic_load_n(&r->status->busy_us, __ATOMIC_SEQ_CST));
}

static uint64_t beat_of(const struct rig *r)
{
	return le64toh(__atomic_load_n(&r->status->heartbeat_us, __ATOMIC_SEQ_CST));
}

static bool is_running(const struct rig *r)
{
	return __atomic_load_n(&r->status->running, __ATOMIC_SEQ_CST);
}

/* Ten beats long. */
static bool has_stopped(const struct rig *r)
{
	uint64_t beat = beat_of(r);

	pause_ms(1000);
	return beat_of(r) == beat;
}

static void revive(struct bench *b, struct rig *r)
{
	card_reset(b->card);
	ok(UNTIL(reg(b, FLM_REG_STATE, 4) & 1), "READY after a reset of the card");
	bench_enable(b, r, FLM_QUEUE_COMPUTE, 1, 1, 0);
	ok(le32toh(bench_run(b, r)->status) == FLM_STATUS_DONE, "which brings it back");
	bench_close(b);
}

static void hang(void)
{
	struct bench b;
	struct rig *r = begin(&b, "hang@2");
	uint64_t busy, beat;

	ok(le32toh(bench_run(&b, r)->status) == FLM_STATUS_DONE, "hang@2: the first job runs");
	post(&b, r);
	UNTIL(is_running(r));
	busy = busy_of(r);
	beat = beat_of(r);
	ok(UNTIL(busy_of(r) >= busy + 300000 && beat_of(r) > beat) &&
	   le64toh(r->status->points) == 1 && le32toh(r->status->head) == 1,
	   "the second is busy and alive, and reaches no point");
	set(&b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	ok(UNTIL(!reg(&b, FLM_REG_QUEUE_STATE, 4)), "a reset of its queue ends it");
	bench_enable(&b, r, FLM_QUEUE_COMPUTE, 1, 1, 0);
	ok(le32toh(bench_run(&b, r)->status) == FLM_STATUS_DONE, "the next one runs");
	bench_close(&b);
}

static void deaf(void)
{
	struct bench b;
	struct rig *r = begin(&b, "deaf");
	uint64_t beat;

	post(&b, r);
	UNTIL(is_running(r));
	set(&b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	pause_ms(150);
	beat = beat_of(r);
	ok(UNTIL(beat_of(r) != beat) && reg(&b, FLM_REG_QUEUE_STATE, 4) == 3,
	   "deaf: a reset of its queue changes nothing, the card still writes");
	card_bus_master(b.card, 0);
	ok(has_stopped(r), "but not without being bus master");
	card_bus_master(b.card, 1);
	revive(&b, r);
}

static void interrupt(void)
{
	struct bench b;
	struct rig *r = begin(&b, "lost-interrupt@2,late-interrupt@3");
	double third;

	for (int i = 0; i < 2; i++)
		bench_run(&b, r);
	ok(UNTIL(interrupts(&b) == 1), "of two interrupts one comes");
	third = seconds();
	bench_run(&b, r);
	ok(UNTIL(interrupts(&b) == 2) && seconds() - third >= 0.5 &&
	   reg(&b, FLM_REG_COUNT_INTERRUPTS, 8) == 2,
	   "the second is lost, the third comes half a second late");
	bench_run(&b, r);
	ok(UNTIL(interrupts(&b) == 3), "the fourth comes");
	bench_close(&b);
}

static void job(void)
{
	struct bench b;
	struct rig *r = begin(&b, "dma-error@2,bad-completion@3");
	const struct flm_done *done;

	ok(le32toh(bench_run(&b, r)->status) == FLM_STATUS_DONE, "the first job runs");
	done = bench_run(&b, r);
	ok(done->fault == FLM_FAULT_DMA && le32toh(done->segment) == 1,
	   "dma-error@2: the second is DMA");
	done = bench_run(&b, r);
	ok(done->status == 0xffffffff && done->seqno == 0xffffffffffffffff &&
	   le64toh(r->status->seqno) == 3, "bad-completion@3: the third's row makes no sense");
	ok(le32toh(bench_run(&b, r)->status) == FLM_STATUS_DONE, "the fourth runs");
	bench_close(&b);
}

static void dead(void)
{
	struct bench b;
	struct rig *r = begin(&b, "dead-heartbeat");

	post(&b, r);
	ok(UNTIL(has_stopped(r)) && !r->status->head,
	   "dead-heartbeat: work, and no heartbeat");
	ok(reg(&b, FLM_REG_MAGIC, 4) == 0x314d4c46, "registers answer");
	revive(&b, r);
}

static void removal(void)
{
	struct bench b;
	struct rig *r = begin(&b, "removal@2");

	bench_run(&b, r);
	post(&b, r);
	ok(UNTIL(reg(&b, FLM_REG_MAGIC, 4) == 0xffffffff) && reg(&b, FLM_REG_TIME_US, 8) == ~0ull,
	   "removal@2: registers read ~0");
	card_bus_master(b.card, 1);
	set(&b, FLM_REG_CONTROL, FLM_RESET_KEY, 4);
	card_reset(b.card);
	pause_ms(50);
	ok(reg(&b, FLM_REG_MAGIC, 4) == 0xffffffff && interrupts(&b) == 1 &&
		   le32toh(r->status->head) == 1,
	   "for good, and nothing more is written or told");
	bench_close(&b);
}

#ifdef __SANITIZE_ADDRESS__
static void internal(void)
{
	skip("fault INTERNAL", "the address sanitizer itself ends when memory is refused");
}
#else
static void internal(void)
{
	struct bench b;
	struct rig *r = begin(&b, NULL);
	struct flm_sequence *sequence = (void *)(r->job + 256);
	uint32_t *list = bench_alloc(&b, 4 * PAGES);
	const struct flm_done *done;
	struct rlimit usual, none;

	bench_bind(&b, r, 2, FLM_REGION_HOST, bus(&b, list), 4 * PAGES, FLM_RIGHT_R);
	sequence->page_segment = htole16(2);
	sequence->page_count = htole32(PAGES);
	ok(le32toh(bench_run(&b, r)->status) == FLM_STATUS_DONE, "a job with a long page list runs");
	if (getrlimit(RLIMIT_DATA, &usual))
		err(1, "getrlimit");
	none = (struct rlimit) { .rlim_cur = 4096, .rlim_max = usual.rlim_max };
	setrlimit(RLIMIT_DATA, &none);
	done = bench_run(&b, r);
	setrlimit(RLIMIT_DATA, &usual);
	ok(le32toh(done->status) == FLM_STATUS_FAULT && done->fault == 19 &&
	   done->unit == FLM_NOWHERE && le64toh(done->seqno) == 2,
	   "without memory for the list it is fault INTERNAL (%u)", done->fault);
	ok(le32toh(bench_run(&b, r)->status) == FLM_STATUS_DONE, "and it runs when there is some");
	bench_close(&b);
}
#endif

int main(void)
{
	names();
	internal();
	hang();
	deaf();
	interrupt();
	job();
	dead();
	removal();
	return done_testing();
}
