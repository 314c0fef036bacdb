// SPDX-License-Identifier: MIT
/*
 * MSI-X masks across the socket: a message whose vector is masked, in whatever way, is pending and
 * not counted; once it is sent, it is counted once, however many jobs it stands for.
 *
 * The one idea: each way to mask is tried by the same three steps (two jobs while it is masked,
 * a look at eventfd, pending bit and COUNT_INTERRUPTS, then the same look after the mask is gone).
 */
#include <flightllm/queue.h>
#include <flightllm/regs.h>

#include "tests/emulator/program.h"
#include "tests/emulator/vfu_client.h"
#include "tests/tap.h"

enum { VECTOR = 1, QUEUE = 3 };

/* Bus addresses. */
enum {
	MEMORY = 0x100000, MEMORY_BYTES = 0x40000, RING = 0x100000, CONTEXT = 0x103000,
	TABLES = 0x104000, PROGRAM = 0x110000, JOB = 0x120000,
};

static struct client c;
static uint8_t *memory;
static int file;
static uint32_t tail, msix, table, pending;

static void *at(uint32_t address)
{
	return memory + (address - MEMORY);
}

static void put_segment(int core, int segment, uint64_t address, uint8_t rights)
{
	struct flm_segment_row *row = (struct flm_segment_row *)at(TABLES) + 2 * core + segment;

	*row = (struct flm_segment_row){
		.length = 0x10000, .count = 1, .flags = FLM_SEGMENT_CONTIGUOUS, .rights = rights,
		.blocks = (uint64_t)FLM_REGION_HOST << FLM_BLOCK_REGION_SHIFT | address,
	};
}

/* A queue for jobs that do nothing; its vector is VECTOR. */
static void set_up(void)
{
	struct flm_generation *page = at(CONTEXT);

	memset(memory, 0, MEMORY_BYTES);
	for (int core = 0; core < 2; core++) {
		put_segment(core, 0, PROGRAM, FLM_RIGHT_X);
		put_segment(core, 1, JOB, FLM_RIGHT_R);
	}
	page[1] = (struct flm_generation){ TABLES, 1, 2, { 0 } };
	program_write(at(PROGRAM), 1, "");
	program_job(at(JOB), 1);
	client_put(&c, CLIENT_CONFIG, 4, 0x6, 2);
	client_put(&c, CLIENT_BAR0, 0x200, QUEUE, 4);
	client_put(&c, CLIENT_BAR0, 0x210, FLM_QUEUE_COMPUTE, 4);
	client_put(&c, CLIENT_BAR0, 0x214, 6, 4);
	client_put(&c, CLIENT_BAR0, 0x218, RING, 8);
	client_put(&c, CLIENT_BAR0, 0x220, RING + 0x1000, 8);
	client_put(&c, CLIENT_BAR0, 0x228, RING + 0x2000, 8);
	client_put(&c, CLIENT_BAR0, 0x230, CONTEXT, 8);
	client_put(&c, CLIENT_BAR0, 0x240, 1, 4);
	client_put(&c, CLIENT_BAR0, 0x244, VECTOR, 4);
	client_put(&c, CLIENT_BAR0, 0x204, 1, 4);
	tail = 0;
}

/* Capability MSI-X, and where in BAR0 its table and pending bits are. */
static void find_msix(void)
{
	for (msix = client_get(&c, CLIENT_CONFIG, 0x34, 1);
	     msix && client_get(&c, CLIENT_CONFIG, msix, 1) != 0x11;
	     msix = client_get(&c, CLIENT_CONFIG, msix + 1, 1))
		;
	table = client_get(&c, CLIENT_CONFIG, msix + 4, 4);
	pending = client_get(&c, CLIENT_CONFIG, msix + 8, 4);
}

/* Two jobs with an interrupt each; true when both are finished. */
static bool run_two(void)
{
	const struct flm_status_page *status = at(RING + 0x2000);
	struct flm_slot *slots = at(RING);

	for (int i = 0; i < 2; i++, tail++)
		slots[tail] = (struct flm_slot){
			.flags = FLM_SLOT_RUN | FLM_SLOT_INTERRUPT, .generation = 1,
			.seqno = tail + 1, .job_segment = 1, .max_points = 1,
		};
	client_put(&c, CLIENT_BAR4, QUEUE * 4096, tail, 4);
	client_put(&c, CLIENT_BAR0, 0x90, QUEUE, 4);
	for (int i = 0; i < 2000 && __atomic_load_n(&status->head, __ATOMIC_ACQUIRE) != tail; i++)
		usleep(5000);
	return status->head == tail;
}

/* What the eventfd has counted since the last look; waits a little for the first. */
static uint64_t rung(bool is_expected)
{
	uint64_t n = 0;

	for (int i = 0; i < 4000 && read(file, &n, sizeof(n)) != sizeof(n) && is_expected; i++)
		usleep(5000);
	return n;
}

static uint64_t counted(void)
{
	return client_get(&c, CLIENT_BAR0, 0x320, 8);
}

static uint64_t pending_bits(void)
{
	return client_get(&c, CLIENT_BAR0, pending, 8);
}

static void set_mask(uint32_t where, uint32_t value)
{
	client_put(&c, where == msix + 2 ? CLIENT_CONFIG : CLIENT_BAR0, where, value,
		   where == msix + 2 ? 2 : 4);
}

/* A mask that writes to a register, or without one the loss of the eventfd. */
static void masked(const char *what, uint32_t where, uint32_t mask, uint32_t unmask)
{
	uint64_t before = counted();

	if (where)
		set_mask(where, mask);
	else
		client_set_irqs(&c, 4 | 32, 2, VECTOR, 1, NULL, 0);
	ok(run_two() && !rung(false) && counted() == before && pending_bits() == 1 << VECTOR,
	   "%s holds the message back: pending, not counted", what);
	if (where)
		set_mask(where, unmask);
	else
		client_set_irqs(&c, 4 | 32, 2, VECTOR, 1, &file, 1);
	ok(rung(true) == 1 && counted() == before + 1 && !pending_bits(),
	   "without it the message is sent, and counted, once");
}

int main(void)
{
	int guest = memfd_create("guest", MFD_CLOEXEC), before;

	file = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (guest < 0 || ftruncate(guest, MEMORY_BYTES) || file < 0)
		err(1, "memfd and eventfd");
	memory = mmap(NULL, MEMORY_BYTES, PROT_READ | PROT_WRITE, MAP_SHARED, guest, 0);
	if (memory == MAP_FAILED)
		err(1, "mmap");
	c = client_start("tiny", NULL);
	if (c.socket < 0 || client_version(&c))
		errx(1, "flightllm-emu does not start: %s", client_log(&c));
	client_dma_map(&c, MEMORY, MEMORY_BYTES, guest, 0, 3);
	client_set_irqs(&c, 4 | 32, 2, VECTOR, 1, &file, 1);
	find_msix();
	set_up();
	before = counted();
	ok(run_two() && rung(true) && counted() > (uint64_t)before && counted() <= before + 2ull,
	   "a vector that a client has never masked fires");
	while (counted() < before + 2ull && rung(true))
		;
	rung(false);
	masked("the function mask", msix + 2, 0xc000, 0x8000);
	masked("a missing eventfd", 0, 0, 0);
	masked("the table's mask bit", table + 16 * VECTOR + 12, 1, 0);
	client_set_irqs(&c, 4 | 32, 2, VECTOR, 1, NULL, 0);
	ok(run_two() && pending_bits() == 1 << VECTOR, "a reset comes while a message is pending");
	client_call(&c, MSG_RESET, NULL, 0, NULL, 0);
	client_put(&c, CLIENT_CONFIG, 4, 0x6, 2);
	UNTIL(client_get(&c, CLIENT_BAR0, 0x84, 4) & 1);
	client_set_irqs(&c, 4 | 32, 2, VECTOR, 1, &file, 1);
	ok(!pending_bits() && !rung(false) && !counted(), "the message is gone, as is the count");
	ok(client_stop(&c) == 0, "the emulator ends in order");
	return done_testing();
}
