// SPDX-License-Identifier: MIT
/*
 * The thread that owns the socket never waits for work: while two cores compute a prefill in the
 * shape of LLaMA2-7B, the third turns in an endless loop and the copy engine fills the client's
 * memory, registers answer, busy memory is taken back and the card is reset, each within 100 ms.
 *
 * The one idea: the prefill's weights lie in memory that the client lends, so that COUNT_HOST_READ
 * tells that it computes, and the memory that is taken back is what it needs next.
 */
#include <flightllm/queue.h>
#include <flightllm/regs.h>

#include "tests/emulator/prefill.h"
#include "tests/emulator/vfu_client.h"
#include "tests/tap.h"

#define LAYER_SECONDS	300	/* for the first layer of a prefill; 2 s is usual */
#define CHUNKS		16

/* Bus addresses: control in one mapping, the filled memory and the weights in others. */
enum {
	CONTROL = 0x100000, CONTROL_BYTES = 0x100000,
	WEIGHTS = 0x8000000,
	DATA = 0x10000000, DATA_BYTES = 256 << 20,
};

/* In control, as offsets; a queue's completions and status page follow its ring. */
enum {
	COPY_RING = 0x20000, RUN_RING = 0x24000, PREFILL_RING = 0x28000,
	LOOP_CONTEXT = 0x3000, PREFILL_CONTEXT = 0x4000, LOOP_TABLES = 0x5000,
	PREFILL_TABLES = 0x6000,
	LOOP_PROGRAM = 0x40000, LOOP_JOB = 0x48000,
	PREFILL_PROGRAM = 0x50000, PREFILL_JOB = 0x58000, RESULTS = 0x60000,
};

enum { COPY_QUEUE = 2, RUN_QUEUE = 3, PREFILL_QUEUE = 4, SEGMENTS = 4, COPIES = 64 };

static uint8_t *control;
static double worst;

/* Runs `call`, which gives 0, and keeps the longest time that the client `c` waited for it. */
#define TIMED(start, call) do {						\
	struct watch watch = start(c->pid);				\
	double took;							\
									\
	if (call)							\
		worst = 1e9;						\
	took = watch_took(&watch);					\
	worst = took > worst ? took : worst;				\
} while (0)

static const struct flm_status_page *status_of(uint64_t ring)
{
	return (const struct flm_status_page *)(control + ring + 0x2000);
}

static const struct flm_done *done_of(uint64_t ring)
{
	return (const struct flm_done *)(control + ring + 0x1000);
}

static bool is_running(uint64_t ring)
{
	return __atomic_load_n(&status_of(ring)->running, __ATOMIC_ACQUIRE);
}

static void put_segment(uint64_t tables, int core, int segment, uint64_t address, uint64_t length,
			uint8_t rights)
{
	struct flm_segment_row *row = (struct flm_segment_row *)(control + tables) +
		SEGMENTS * core + segment;

	row->length = length;
	row->blocks = (uint64_t)FLM_REGION_HOST << FLM_BLOCK_REGION_SHIFT | address;
	row->count = 1;
	row->flags = FLM_SEGMENT_CONTIGUOUS;
	row->rights = rights;
}

/* Two contexts: one loops and fills, the other has the prefill. */
static void write_contexts(void)
{
	struct flm_generation *page;

	for (int core = 0; core < 3; core++) {
		put_segment(LOOP_TABLES, core, 0, CONTROL + LOOP_PROGRAM, 0x8000, FLM_RIGHT_X);
		put_segment(LOOP_TABLES, core, 1, CONTROL + LOOP_JOB, 0x8000, FLM_RIGHT_R);
		put_segment(LOOP_TABLES, core, 2, DATA, DATA_BYTES, FLM_RIGHT_W);
		put_segment(PREFILL_TABLES, core, 0, CONTROL + PREFILL_PROGRAM, 0x8000,
			    FLM_RIGHT_X);
		put_segment(PREFILL_TABLES, core, 1, CONTROL + PREFILL_JOB, 0x8000, FLM_RIGHT_R);
		put_segment(PREFILL_TABLES, core, PREFILL_WEIGHTS, WEIGHTS, PREFILL_BYTES,
			    FLM_RIGHT_R);
		put_segment(PREFILL_TABLES, core, PREFILL_RESULTS, CONTROL + RESULTS + 4096 * core,
			    4096, FLM_RIGHT_W);
	}
	page = (struct flm_generation *)(control + LOOP_CONTEXT);
	page[1] = (struct flm_generation){ CONTROL + LOOP_TABLES, 1, SEGMENTS, { 0 } };
	page = (struct flm_generation *)(control + PREFILL_CONTEXT);
	page[1] = (struct flm_generation){ CONTROL + PREFILL_TABLES, 1, SEGMENTS, { 0 } };
	program_write(control + LOOP_PROGRAM, 1, "@sys\n" PROGRAM_ENDLESS);
	program_job(control + LOOP_JOB, 1);
	prefill_program(control + PREFILL_PROGRAM);
	program_job(control + PREFILL_JOB, CHUNKS * PREFILL_CHUNK);
}

static void enable(struct client *c, uint32_t queue, uint32_t kind, uint64_t ring, uint64_t context,
		   uint32_t cores)
{
	client_put(c, CLIENT_BAR0, 0x200, queue, 4);
	client_put(c, CLIENT_BAR0, 0x210, kind, 4);
	client_put(c, CLIENT_BAR0, 0x214, 6, 4);
	client_put(c, CLIENT_BAR0, 0x218, CONTROL + ring, 8);
	client_put(c, CLIENT_BAR0, 0x220, CONTROL + ring + 0x1000, 8);
	client_put(c, CLIENT_BAR0, 0x228, CONTROL + ring + 0x2000, 8);
	client_put(c, CLIENT_BAR0, 0x230, CONTROL + context, 8);
	client_put(c, CLIENT_BAR0, 0x240, cores, 4);
	client_put(c, CLIENT_BAR0, 0x204, 1, 4);
	ok(client_get(c, CLIENT_BAR0, 0x208, 4) == 1, "queue %u is enabled", queue);
}

static void ring_bell(struct client *c, uint32_t queue, uint32_t tail)
{
	client_put(c, CLIENT_BAR4, queue * 4096, tail, 4);
	client_put(c, CLIENT_BAR0, 0x90, queue, 4);
}

static void post_job(struct client *c, uint32_t queue, uint64_t ring, uint32_t number)
{
	struct flm_slot *slots = (struct flm_slot *)(control + ring);

	slots[number - 1] = (struct flm_slot){
		.flags = FLM_SLOT_RUN, .generation = 1, .seqno = number, .job_segment = 1,
		.max_points = CHUNKS,
	};
	ring_bell(c, queue, number);
}

/* COPIES times 256 MiB. */
static void post_copies(struct client *c)
{
	struct flm_copy_slot *slots = (struct flm_copy_slot *)(control + COPY_RING);

	for (int i = 0; i < COPIES; i++)
		slots[i] = (struct flm_copy_slot){
			.flags = FLM_SLOT_FILL, .generation = 1, .seqno = i + 1, .dst_segment = 2,
			.bytes = DATA_BYTES, .fill = 0x5a5a0000 + i,
		};
	ring_bell(c, COPY_QUEUE, COPIES);
}

/* Until both cores of the prefill have stored a whole layer's result: all of it works. */
static bool wait_layer(void)
{
	for (double end = seconds() + LAYER_SECONDS; seconds() < end;
	     usleep(10000)) {
		int right = 0;

		for (int core = 1; core < 3; core++) {
			const uint32_t *at = (const uint32_t *)(control + RESULTS + 4096 * core);

			for (int i = 0; i < 16; i++)
				right += __atomic_load_n(&at[i], __ATOMIC_ACQUIRE) ==
					 PREFILL_RESULT;
		}
		if (right == 32)
			return true;
	}
	return false;
}

static bool wait_running(uint64_t ring)
{
	return UNTIL(is_running(ring));
}

static void start_prefill(struct client *c, uint32_t number)
{
	memset(control + RESULTS, 0, 0x3000);
	post_job(c, PREFILL_QUEUE, PREFILL_RING, number);
	ok(wait_layer(), "two cores have computed the first layer of a prefill, 11,008 in each row");
}

/* All three at once, or how to know better: the prefill loads weights while somebody looks. */
static uint64_t weights_loaded(struct client *c)
{
	return client_get(c, CLIENT_BAR0, 0x360, 8);
}

static bool all_run(void)
{
	return is_running(PREFILL_RING) && is_running(RUN_RING) && is_running(COPY_RING);
}

/* The slowest of 1,000. */
static double read_thousand(void *opaque)
{
	struct client *c = opaque;

	worst = 0;
	for (int i = 0; i < 1000; i++) {
		TIMED(watch_call, client_get(c, CLIENT_BAR0, 0, 4) != 0x314d4c46);
		if (i % 5 == 0)
			usleep(1000);
	}
	return worst;
}

static void read_registers(struct client *c)
{
	uint64_t before = weights_loaded(c), after;
	bool is_soon;
	double took;

	is_soon = comes_soon(read_thousand, c, &took);
	ok(is_soon, "1,000 register reads took %.1f ms at most", took * 1e3);
	UNTIL((after = weights_loaded(c)) - before >= 4 * PREFILL_STRIP);
	ok(all_run() && status_of(PREFILL_RING)->points < CHUNKS,
	   "and the prefill, the loop and the copy are not finished");
	ok(after - before >= 4 * PREFILL_STRIP, "meanwhile the prefill has loaded %llu MiB of "
	   "weights", (unsigned long long)(after - before) >> 20);
}

static void unmap(struct client *c)
{
	const struct flm_done *done = done_of(PREFILL_RING);
	bool is_lost = false;

	worst = 0;
	TIMED(watch_start, client_dma_unmap(c, WEIGHTS, PREFILL_BYTES));
	ok(worst < SOON, "the weights of the running prefill were taken back in %.1f ms",
	   worst * 1e3);
	worst = 0;
	TIMED(watch_start, client_dma_unmap(c, DATA, DATA_BYTES));
	ok(worst < SOON, "memory that is being filled was taken back in %.1f ms", worst * 1e3);
	for (int i = 0; i < 12000 && !__atomic_load_n(&done->status, __ATOMIC_ACQUIRE); i++)
		usleep(10000);
	ok(done->status == FLM_STATUS_FAULT && done->fault == FLM_FAULT_DMA &&
	   done->segment == PREFILL_WEIGHTS, "the prefill ends with fault DMA at its weights");
	for (int i = 0; i < 12000 && !is_lost; i++) {
		for (int j = 0; j < COPIES; j++)
			is_lost |= done_of(COPY_RING)[j].fault == FLM_FAULT_DMA;
		usleep(10000);
	}
	ok(is_lost, "the copy ends with fault DMA");
	ok(is_running(RUN_RING), "the loop does not notice");
}

static void reset(struct client *c)
{
	bool is_ready = false;

	ok(is_running(PREFILL_RING) && is_running(RUN_RING),
	   "another prefill and the loop run when the reset comes");
	worst = 0;
	TIMED(watch_start, client_call(c, MSG_RESET, NULL, 0, NULL, 0));
	ok(worst < SOON, "a reset was answered in %.1f ms", worst * 1e3);
	client_put(c, CLIENT_CONFIG, 4, 0x6, 2);
	worst = 0;
	for (int i = 0; i < 1000 && !is_ready; i++) {
		uint32_t state = 0;

		TIMED(watch_call, client_read(c, CLIENT_BAR0, 0x84, &state, 4));
		is_ready = state & 1;
		usleep(10000);
	}
	ok(is_ready, "prefill and loop are gone and the card is ready again");
	ok(worst < SOON, "reads during the reset took %.1f ms at most", worst * 1e3);
}

static int memory_file(uint64_t bytes, uint8_t **memory)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, bytes))
		err(1, "memfd");
	*memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (*memory == MAP_FAILED)
		err(1, "mmap");
	return fd;
}

int main(void)
{
	struct client c = client_start("u280", NULL);
	uint8_t *weights, *data;
	int file = memory_file(CONTROL_BYTES, &control);
	int weights_file = memory_file(PREFILL_BYTES, &weights);
	int data_file = memory_file(DATA_BYTES, &data);

	if (c.socket < 0 || client_version(&c))
		errx(1, "flightllm-emu does not start: %s", client_log(&c));
	prefill_weights(weights);
	write_contexts();
	client_put(&c, CLIENT_CONFIG, 4, 0x6, 2);
	client_dma_map(&c, CONTROL, CONTROL_BYTES, file, 0, 3);
	client_dma_map(&c, WEIGHTS, PREFILL_BYTES, weights_file, 0, 1);
	client_dma_map(&c, DATA, DATA_BYTES, data_file, 0, 3);
	enable(&c, COPY_QUEUE, FLM_QUEUE_COPY, COPY_RING, LOOP_CONTEXT, 0);
	enable(&c, RUN_QUEUE, FLM_QUEUE_COMPUTE, RUN_RING, LOOP_CONTEXT, 1);
	enable(&c, PREFILL_QUEUE, FLM_QUEUE_COMPUTE, PREFILL_RING, PREFILL_CONTEXT, 6);
	post_job(&c, RUN_QUEUE, RUN_RING, 1);
	start_prefill(&c, 1);
	post_copies(&c);
	ok(wait_running(COPY_RING) && all_run(),
	   "beside it a core turns in an endless loop and 16 GiB are being filled");

	read_registers(&c);
	unmap(&c);
	client_dma_map(&c, WEIGHTS, PREFILL_BYTES, weights_file, 0, 1);
	start_prefill(&c, 2);
	reset(&c);
	for (char *line = strtok((char *)client_log(&c), "\n"); line; line = strtok(NULL, "\n"))
		printf("# %s\n", line);
	ok(client_stop(&c) == 0, "the emulator ends in order");
	return done_testing();
}
