// SPDX-License-Identifier: MIT
/*
 * A hostile guest: everything that a card reads (slots, job records, rows, programs, tables,
 * context pages, stop words, doorbells) and everything that it may be told by register, in any
 * order. The input is a list of deeds done to a card with three queues that would work; then the
 * queues are reset, which must take effect, and a good job must run as if nothing had been.
 */
#define HOST_BYTES (1u << 20)

#include "tests/emulator/bench.h"
#include "tests/fuzz/take.h"

#define GOOD "@ld\nld seg=1 off=0 dst=act:0 rows=1/1 bytes=64/64 release=misc\n@misc\n" \
	"misc.fill out=act:0 rows=1/1 cols=64/64 imm=0x3f800000 wait=ld release=st\n" \
	"misc.topk a=act:0 out=act:4096 rows=1/1 cols=64/64 imm=4\n" \
	"misc.sample a=act:4096 rows=1/1 cols=1/1 imm=4\n@st\n" \
	"st seg=1 off=32768 src=act:0 rows=1/1 bytes=64/64 wait=misc"

static struct bench b;
static uint8_t *template;

static void die(const char *what)
{
	fprintf(stderr, "%s\n", what);
	abort();
}

static void good_job(struct rig *r, uint32_t cores)
{
	struct flm_job_record *record = (void *)r->job;
	struct flm_sequence *sequence = (void *)(r->job + 256);

	bench_program(r, cores, GOOD);
	bench_job(r, 3);
	record->ring.segment = htole16(1);
	record->ring.offset = htole64(16384);
	record->ring.count = htole32(8);
	sequence->generate = htole32(3);
}

static void set_up(void)
{
	struct card_options options = { .profile = "tiny", .threads = 1 };
	struct card_host host = { .interrupt = on_interrupt, .opaque = &b };
	char error[CARD_ERROR_BYTES];
	struct flm_copy_slot copy = {
		.flags = htole32(FLM_SLOT_COPY), .generation = htole32(1), .seqno = htole64(1),
		.bytes = htole64(40000), .src_segment = htole16(1), .dst_segment = htole16(2),
	};

	if (card_new(&options, &host, &b.card, error))
		die(error);
	b.host = aligned_alloc(4096, HOST_BYTES);
	template = malloc(HOST_BYTES);
	if (!b.host || !template)
		die("no memory");
	memset(b.host, 0, HOST_BYTES);
	if (card_dma_map(b.card, BASE, HOST_BYTES, b.host, CARD_DMA_READ | CARD_DMA_WRITE))
		die("no host memory");
	card_bus_master(b.card, 1);
	b.cores = 2;
	b.queues = 8;
	good_job(bench_rig(&b, FLM_QUEUE_COMPUTE, 1, 20000), 1);
	good_job(bench_rig(&b, FLM_QUEUE_COMPUTE, 3, 20000), 2);
	bench_rig(&b, FLM_QUEUE_COPY, 0, 0);
	for (unsigned int i = 0; i < 3; i++) {
		struct rig *r = &b.rigs[i];
		struct flm_slot slot;

		bench_bind(&b, r, 2, FLM_REGION_HBM, 0, 4 << 20, 7);
		for (uint64_t s = 0; s < 1 << RING_LOG2; s++) {
			copy.seqno = htole64(s + 1);
			slot = bench_slot(r);
			memcpy(&r->ring[s], i == 2 ? (void *)&copy : (void *)&slot, 64);
		}
	}
	memcpy(template, b.host, HOST_BYTES);
}

/* Host memory as it was, three queues enabled. The tails are the fuzzer's. */
static void begin(void)
{
	static const uint32_t cores[3] = { 1, 3, 0 };

	memcpy(b.host, template, b.used);
	for (unsigned int i = 0; i < 3; i++)
		if (!bench_enable(&b, &b.rigs[i], i == 2, cores[i], i, 20000))
			die("a queue cannot be enabled");
}

static void ring(unsigned int queue, uint32_t tail)
{
	uint32_t *bells = card_bar_memory(b.card, FLM_BAR_DOORBELLS);

	__atomic_store_n(bells + queue % 8 * 1024, htole32(tail), __ATOMIC_RELEASE);
	set(&b, FLM_REG_KICK, queue, 4);
}

/* All queues end in DISABLED, whatever they do. */
static void reset_queues(void)
{
	double end = seconds() + 10;
	bool is_waiting = true;

	for (unsigned int q = 0; q < 8; q++) {
		set(&b, FLM_REG_QUEUE_SELECT, q, 4);
		set(&b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	}
	while (is_waiting && seconds() < end) {
		is_waiting = false;
		for (unsigned int q = 0; q < 8; q++) {
			set(&b, FLM_REG_QUEUE_SELECT, q, 4);
			is_waiting |= reg(&b, FLM_REG_QUEUE_STATE, 4) != FLM_QUEUE_DISABLED;
		}
	}
	if (is_waiting)
		die("a queue is busy with a reset for ever");
}

static void wait_ready(void)
{
	double end = seconds() + 10;

	while (!(reg(&b, FLM_REG_STATE, 4) & 1))
		if (seconds() > end)
			die("the card is not ready after a reset");
}

static void pause_us(unsigned int us)
{
	struct timespec pause = { 0, us * 1000 };

	nanosleep(&pause, NULL);
}

/* Where changes matter: the beginning of each piece of the rigs. */
static uint8_t *place(uint64_t which)
{
	struct rig *r = &b.rigs[which / 8 % 3];

	switch (which % 8) {
	case 0: return (uint8_t *)r->ring;
	case 1: return (uint8_t *)(r->page + 1);
	case 2: return (uint8_t *)r->tables;
	case 3: return r->program;
	case 4: return r->program + sizeof(struct flm_program);
	case 5: return r->job;
	case 6: return r->job + 256;
	default: return (uint8_t *)&r->status->stop;
	}
}

static void deed(const uint8_t **data, size_t *size)
{
	uint64_t what = take(data, size, 1), which, at, value;

	switch (what % 12) {
	case 0:
	case 1:
	case 2:
	case 3:
		which = take(data, size, 1);
		at = take(data, size, 1) * 4 + which / 24 * 256;
		value = take(data, size, 1 + what / 12 % 8);
		memcpy(place(which) + at, &value, what & 64 ? 8 : 4);
		break;
	case 4:
	case 5:
		which = take(data, size, 1);
		ring(which, take(data, size, 1 + (which & 64) / 16));
		break;
	case 6:
		at = take(data, size, 2) % 0x480;
		value = take(data, size, 4 + (what & 4));
		if (value != FLM_RESET_KEY || at != FLM_REG_CONTROL)
			set(&b, at, value, what & 16 ? 8 : what & 32 ? at % 9 : 4);
		break;
	case 7:
		pause_us(take(data, size, 1));
		break;
	case 8:
		at = take(data, size, 2) % 0x480;
		reg(&b, at, what & 16 ? 8 : 4);
		break;
	case 9:
		at = take(data, size, 1) << 12;
		card_dma_unmap(b.card, BASE, HOST_BYTES);
		if (at < HOST_BYTES)
			card_dma_map(b.card, BASE + at, HOST_BYTES - at, b.host + at,
				     1 + what / 12 % 3);
		break;
	case 10:
		set(&b, FLM_REG_CORE_RESET, what / 12, 4);
		break;
	default:
		if (what > 240)
			card_reset(b.card);
		else
			card_bus_master(b.card, what / 12 & 1);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct flm_done *done;
	unsigned int pauses = 0;

	if (!template)
		set_up();
	begin();
	while (size && pauses++ < 64)
		deed(&data, &size);
	for (unsigned int q = 0; q < 3; q++)
		ring(q, 2);
	pause_us(500);
	wait_ready();
	reset_queues();
	card_dma_unmap(b.card, BASE, HOST_BYTES);
	if (card_dma_map(b.card, BASE, HOST_BYTES, b.host, CARD_DMA_READ | CARD_DMA_WRITE))
		die("host memory cannot be lent again");
	card_bus_master(b.card, 1);
	begin();
	ring(1, 1);
	done = bench_wait(&b.rigs[1], 1);
	if (!done || le32toh(done->status) != FLM_STATUS_DONE || le32toh(done->value) != 3)
		die("a good job does not run any more");
	reset_queues();
	return 0;
}
