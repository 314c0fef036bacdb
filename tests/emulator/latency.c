// SPDX-License-Identifier: MIT
/*
 * The thread that owns the socket never waits for work: while one core turns in an endless loop and
 * the copy engine fills the client's memory, registers answer, busy memory is taken back and the
 * card is reset, each within 100 ms.
 */
#include <flightllm/queue.h>

#include "tests/emulator/vfu_client.h"
#include "tests/tap.h"

/* Bus addresses: a page or more each. Control in one mapping, the filled memory in another. */
enum {
	CONTROL = 0x100000, CONTROL_BYTES = 0x100000,
	CONTEXT = 0x3000, TABLES = 0x8000, PROGRAM = 0x10000,
	COPY_RING = 0x20000, COPY_DONE = 0x21000, COPY_STATUS = 0x22000,
	RUN_RING = 0x30000, RUN_DONE = 0x31000, RUN_STATUS = 0x32000,
	DATA = 0x10000000, DATA_BYTES = 256 << 20,
};

/* In the program's segment, as offsets. */
enum { STREAMS = 0x800, RECORD = 0x4000, ROW = 0x4100, PROMPT = 0x5000, RING = 0x8000 };

static uint8_t *control;
static double worst;

/* Runs `call`, which gives 0, and keeps the longest time. */
#define TIMED(call) do {						\
	double begin = client_seconds(), took;				\
									\
	if (call)							\
		worst = 1e9;						\
	took = client_seconds() - begin;				\
	worst = took > worst ? took : worst;				\
} while (0)

static void put_segment(int core, int segment, uint64_t address, uint64_t length, uint8_t rights)
{
	struct flm_segment_row *row = (struct flm_segment_row *)(control + TABLES) +
		2 * core + segment;

	row->length = length;
	row->blocks = (uint64_t)FLM_REGION_HOST << FLM_BLOCK_REGION_SHIFT | address;
	row->count = 1;
	row->flags = FLM_SEGMENT_CONTIGUOUS;
	row->rights = rights;
}

/* A program whose LD unit turns in two loops of 2^24 - 1 trips, and a job of one prompt token. */
static void write_program(void)
{
	static const uint32_t loops[] = {
		0x60000000, 0, 0xffffff, 0xffffff, 7,	/* LOOP, 7 words of body */
		0x60000000, 0, 0xffffff, 0xffffff, 1,
		0x70000000, 0x70000000, 0x70000000,	/* END, END, and the stream's */
	};
	struct flm_program *program = (struct flm_program *)(control + PROGRAM);
	struct flm_job_record *record = (struct flm_job_record *)(control + PROGRAM + RECORD);
	struct flm_row *row = (struct flm_row *)(control + PROGRAM + ROW);
	uint32_t *streams = (uint32_t *)(control + PROGRAM + STREAMS);

	streams[0] = 0x70000000;
	memcpy(streams + 16, loops, sizeof(loops));
	program->magic = FLM_PROGRAM_MAGIC;
	program->isa_major = FLM_ISA_MAJOR;
	program->isa_minor = FLM_ISA_MINOR;
	program->entries = 2;
	program->cores = 1;
	program->chunk = 128;
	for (int i = 0; i < FLM_LENGTHS; i++)
		program->bounds[i].max = 0xffffff;
	for (int e = 0; e < 2; e++) {
		for (int u = 0; u < FLM_UNITS; u++) {
			bool turns = e == 0 && u == FLM_UNIT_LD;

			program->entry[e].stream[u].offset = STREAMS + (turns ? 64 : 0);
			program->entry[e].stream[u].words = turns ? 13 : 1;
		}
	}
	record->bytes = sizeof(*record);
	record->rows = 1;
	record->row_offset = ROW;
	record->prompt.segment = record->ring.segment = 1;
	record->prompt.offset = PROMPT;
	record->ring.offset = RING;
	record->ring.count = 16;
	row->prompt = 1;
}

static void enable(struct client *c, uint32_t queue, uint32_t kind, uint64_t ring, uint32_t cores)
{
	client_put(c, CLIENT_BAR0, 0x200, queue, 4);
	client_put(c, CLIENT_BAR0, 0x210, kind, 4);
	client_put(c, CLIENT_BAR0, 0x214, client_get(c, CLIENT_BAR0, 0x38, 4) & 0xff, 4);
	client_put(c, CLIENT_BAR0, 0x218, CONTROL + ring, 8);
	client_put(c, CLIENT_BAR0, 0x220, CONTROL + ring + 0x1000, 8);
	client_put(c, CLIENT_BAR0, 0x228, CONTROL + ring + 0x2000, 8);
	client_put(c, CLIENT_BAR0, 0x230, CONTROL + CONTEXT, 8);
	client_put(c, CLIENT_BAR0, 0x240, cores, 4);
	client_put(c, CLIENT_BAR0, 0x204, 1, 4);
	ok(client_get(c, CLIENT_BAR0, 0x208, 4) == 1, "queue %u is enabled", queue);
}

static void ring_bell(struct client *c, uint32_t queue, uint32_t tail)
{
	client_put(c, CLIENT_BAR4, queue * 4096, tail, 4);
	client_put(c, CLIENT_BAR0, 0x90, queue, 4);
}

static void start_work(struct client *c)
{
	struct flm_generation *row = (struct flm_generation *)(control + CONTEXT) + 1;
	struct flm_copy_slot *copy = (struct flm_copy_slot *)(control + COPY_RING);
	struct flm_slot *run = (struct flm_slot *)(control + RUN_RING);

	for (int core = 0; core < 3; core++) {
		put_segment(core, 0, DATA, DATA_BYTES, FLM_RIGHT_R | FLM_RIGHT_W);
		put_segment(core, 1, CONTROL + PROGRAM, 0x10000,
			    FLM_RIGHT_R | FLM_RIGHT_W | FLM_RIGHT_X);
	}
	*row = (struct flm_generation){ CONTROL + TABLES, 1, 2, { 0 } };
	write_program();
	enable(c, 2, 1, COPY_RING, 0);
	enable(c, 3, 0, RUN_RING, 1);
	for (int i = 0; i < 16; i++)
		copy[i] = (struct flm_copy_slot){
			.flags = FLM_SLOT_FILL, .generation = 1, .seqno = i + 1,
			.bytes = DATA_BYTES, .fill = 0x5a5a0000 + i,
		};
	run[0] = (struct flm_slot){
		.flags = FLM_SLOT_RUN, .generation = 1, .seqno = 1, .job = RECORD,
		.program_segment = 1, .job_segment = 1, .max_points = 16,
	};
	ring_bell(c, 3, 1);
	ring_bell(c, 2, 16);
}

static const struct flm_status_page *status_of(uint64_t ring)
{
	return (const struct flm_status_page *)(control + ring + 0x2000);
}

/* Work is under way when both queues name the slot that runs. */
static bool is_busy(void)
{
	for (int i = 0; i < 500; i++) {
		if (__atomic_load_n(&status_of(COPY_RING)->running, __ATOMIC_ACQUIRE) &&
		    __atomic_load_n(&status_of(RUN_RING)->running, __ATOMIC_ACQUIRE))
			return true;
		usleep(10000);
	}
	return false;
}

static int memory_file(uint64_t bytes)
{
	int fd = memfd_create("guest", MFD_CLOEXEC);

	if (fd < 0 || ftruncate(fd, bytes))
		err(1, "memfd");
	return fd;
}

int main(void)
{
	struct client c = client_start("u280", NULL);
	int file = memory_file(CONTROL_BYTES), data = memory_file(DATA_BYTES);
	uint64_t fault = 0;
	bool is_ready = false;

	if (c.socket < 0 || client_version(&c))
		errx(1, "flightllm-emu does not start: %s", client_log(&c));
	control = mmap(NULL, CONTROL_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	if (control == MAP_FAILED)
		err(1, "mmap");
	client_put(&c, CLIENT_CONFIG, 4, 0x6, 2);
	client_dma_map(&c, CONTROL, CONTROL_BYTES, file, 0, 3);
	client_dma_map(&c, DATA, DATA_BYTES, data, 0, 3);
	start_work(&c);
	ok(is_busy(), "a core turns in an endless loop while 4 GiB are filled");

	for (int i = 0; i < 1000; i++) {
		TIMED(client_get(&c, CLIENT_BAR0, 0, 4) != 0x314d4c46);
		if (i % 50 == 0)
			usleep(1000);
	}
	ok(worst < 0.1, "1,000 register reads took %.1f ms at most", worst * 1e3);
	ok(is_busy(), "and the card is as busy as before");
	worst = 0;
	TIMED(client_dma_unmap(&c, DATA, DATA_BYTES));
	ok(worst < 0.1, "busy memory was taken back in %.1f ms", worst * 1e3);
	for (int i = 0; i < 500 && !fault; i++) {
		const struct flm_done *done = (const struct flm_done *)(control + COPY_DONE);

		for (int j = 0; j < 16; j++)
			fault |= done[j].status == FLM_STATUS_FAULT &&
				 done[j].fault == FLM_FAULT_DMA;
		usleep(10000);
	}
	ok(fault, "the slot that was using it ends with fault DMA");
	worst = 0;
	TIMED(client_call(&c, MSG_RESET, NULL, 0, NULL, 0));
	ok(worst < 0.1, "a reset was answered in %.1f ms", worst * 1e3);
	client_put(&c, CLIENT_CONFIG, 4, 0x6, 2);
	worst = 0;
	for (int i = 0; i < 500 && !is_ready; i++) {
		uint32_t state = 0;

		TIMED(client_read(&c, CLIENT_BAR0, 0x84, &state, 4));
		is_ready = state & 1;
		usleep(10000);
	}
	ok(is_ready, "the endless loop is gone and the card is ready again");
	ok(worst < 0.1, "reads during the reset took %.1f ms at most", worst * 1e3);
	for (char *line = strtok((char *)client_log(&c), "\n"); line; line = strtok(NULL, "\n"))
		printf("# %s\n", line);
	ok(client_stop(&c) == 0, "the emulator ends in order");
	return done_testing();
}
