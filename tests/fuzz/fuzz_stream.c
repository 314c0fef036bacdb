// SPDX-License-Identifier: MIT
/*
 * Hostile instruction streams. The first byte chooses: even, the input is six streams as they are;
 * odd, it is the seed of a legal program, then patches to it, so that what lies deep in an
 * operation is reached as well. Nothing is expected but that the pass ends, with or without a
 * fault, and that the sanitizers have nothing to say.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "emulator/core/exec.h"
#include "tests/emulator/generate.h"
#include "tests/fuzz/take.h"

#define BUFFER 16384
#define MEMORY (256 << 10)

static struct exec *small, *large;
static struct flat flat;
static struct gen gen;
static uint8_t memory[GEN_CORES][MEMORY], constants[GEN_CONSTANTS];
static atomic_bool abort_flag;
static atomic_uint runs;

/* One instruction may legally take hours: a run that is still the same after a tick is stopped. */
static void *watch(void *unused)
{
	unsigned int seen = 0, now;

	for (;; seen = now) {
		usleep(20000);
		now = atomic_load(&runs);
		if (now == seen)
			atomic_store(&abort_flag, true);
	}
	return unused;
}

static void set_up(void)
{
	struct exec_chip tiny = { GEN_CORES, { BUFFER, 2 * BUFFER, BUFFER, BUFFER } };
	struct exec_chip chip = { .cores = GEN_CORES };
	pthread_t thread;
	unsigned int c, s;

	memcpy(chip.buffer_bytes, gen_buffers, sizeof(gen_buffers));
	if (exec_new(&tiny, 1, &small) || exec_new(&chip, 2, &large) ||
	    pthread_create(&thread, NULL, watch, NULL))
		abort();
	for (c = 0; c < GEN_CORES; c++) {
		for (s = 1; s < 6; s++) {
			flat.segments[c][s].bytes = s == GEN_SEG_CONSTANTS ? constants : memory[c];
			flat.segments[c][s].length =
				s == GEN_SEG_CONSTANTS ? GEN_CONSTANTS : MEMORY;
			flat.segments[c][s].rights = s == GEN_SEG_CONSTANTS ? FLM_RIGHT_R :
				FLM_RIGHT_R | FLM_RIGHT_W;
		}
	}
}

/* The input as streams: a count of words each, then the words. */
static void take_streams(const uint8_t *data, size_t size, struct exec_pass *pass)
{
	uint32_t u, i;

	pass->cores = 1 + (uint32_t)take(&data, &size, 1) % 15;
	for (i = 0; i < FLM_LENGTHS; i++)
		gen.lengths[i] = (uint32_t)take(&data, &size, 1);
	gen.lengths[FLM_LENGTH_TOKENS] %= 10;
	gen.lengths[FLM_LENGTH_SAMPLE] &= 1;
	for (u = 0; u < FLM_UNITS; u++)
		gen.streams[u].count = (uint32_t)take(&data, &size, 1) * 2;
	for (u = 0; u < FLM_UNITS; u++)
		for (i = 0; i < gen.streams[u].count; i++)
			gen.streams[u].words[i] = (uint32_t)take(&data, &size, 4);
	for (i = 0; i < GEN_CORES; i++)
		gen.registers[i][0] = i;
	gen.page_count = 4;
}

/* A legal program, then exclusive ors at places of its streams and of the constants. */
static void take_patches(const uint8_t *data, size_t size, struct exec_pass *pass)
{
	gen_program(&gen, take(&data, &size, 3), constants);
	pass->cores = (1u << gen.cores) - 1;
	while (size) {
		uint32_t u = (uint32_t)take(&data, &size, 1) % 7,
			 at = (uint32_t)take(&data, &size, 2);
		uint32_t bits = (uint32_t)take(&data, &size, 4);

		if (u < FLM_UNITS)
			gen.streams[u].words[at % gen.streams[u].count] ^= bits;
		else
			constants[at % gen.used] ^= (uint8_t)bits;
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct exec_pass pass = { .space = flat_space(&flat), .tokens = gen.tokens,
				  .pages = gen.pages, .watchdog = 3000, .abort = &abort_flag };
	bool is_raw = !(take(&data, &size, 1) & 1);
	struct exec_result result;
	struct exec *exec;
	unsigned int u;

	if (!small)
		set_up();
	exec = is_raw ? small : large;
	if (is_raw)
		take_streams(data, size, &pass);
	else
		take_patches(data, size, &pass);
	for (u = 0; u < FLM_UNITS; u++)
		pass.streams[u] =
			(struct exec_stream){ gen.streams[u].words, gen.streams[u].count };
	memcpy(pass.lengths, gen.lengths, sizeof(pass.lengths));
	memcpy(pass.registers, gen.registers, sizeof(gen.registers));
	pass.page_count = gen.page_count;
	pass.kv_start = gen.kv_start;
	pass.logits.wanted = gen.logits_mode;
	pass.logits.segment = GEN_SEG_LOGITS;
	pass.logits.count = gen.logits_count;
	pass.logits.stride = gen.logits_stride;
	atomic_store(&abort_flag, false);
	atomic_fetch_add(&runs, 1);
	exec_pass(exec, &pass, &result);
	exec_clear(exec, pass.cores);
	return 0;
}
