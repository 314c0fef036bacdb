/* SPDX-License-Identifier: MIT */
/*
 * One machine of three cores for the tests of single instructions, and the instructions that many
 * of them need. A test begins with begin(), emits into the six streams, and looks at what run()
 * did.
 *
 *	begin(1);
 *	misc(FLM_MISC_ADD, 1, 4, 0);
 *	ok(!run() && WORDS_ARE(ACT(0), 0x40000000, ...), "add");
 *
 * What includes it links with the objects of emulator/core alone; memory is that of stream.h.
 */
#ifndef TESTS_EMULATOR_MACHINE_H
#define TESTS_EMULATOR_MACHINE_H

#include <endian.h>

#include "emulator/core/exec.h"
#include "emulator/core/math.h"
#include "tests/emulator/stream.h"
#include "tests/tap.h"

#define BUFFER 65536
#define MEMORY (1 << 20)
#define ACT(offset) FLM_CHIP(FLM_BUFFER_ACT, offset)
#define WGT(offset) FLM_CHIP(FLM_BUFFER_WGT, offset)
#define IDX(offset) FLM_CHIP(FLM_BUFFER_IDX, offset)
#define GLB(offset) FLM_CHIP(FLM_BUFFER_GLB, offset)
#define BIT(unit) (1u << FLM_UNIT_##unit)

/* One machine for all tests: three cores, segment 1 read and write, 2 read only, 3 unbound. */
static const struct exec_chip machine = { 3, { BUFFER, 2 * BUFFER, BUFFER, BUFFER } };
static struct exec *exec;
static struct flat flat;
static struct exec_pass pass;
static struct exec_result result;
static struct stream streams[FLM_UNITS];
static uint8_t memory[3][MEMORY];
static uint8_t constants[MEMORY];

static struct stream *const ld = &streams[FLM_UNIT_LD];
static struct stream *const st = &streams[FLM_UNIT_ST];
static struct stream *const mm = &streams[FLM_UNIT_MM];
static struct stream *const mv = &streams[FLM_UNIT_MV];
static struct stream *const sfu = &streams[FLM_UNIT_MISC];
static struct stream *const sys = &streams[FLM_UNIT_SYS];

static inline void begin(uint32_t cores)
{
	unsigned int u, core, b;

	memset(&pass, 0, sizeof(pass));
	for (u = 0; u < FLM_UNITS; u++)
		streams[u].count = 0;
	/* Tests write there by themselves, so clearing what passes wrote is not enough. */
	for (core = 0; core < machine.cores; core++)
		for (b = 0; b < FLM_BUFFERS; b++)
			memset(exec_buffer(exec, core, b), 0, machine.buffer_bytes[b]);
	pass.space = flat_space(&flat);
	pass.cores = cores;
	pass.watchdog = 1000000;
}

/* Ends every stream that has words, runs the pass, returns the kind of its fault. */
static inline unsigned int run(void)
{
	unsigned int u;

	for (u = 0; u < FLM_UNITS; u++) {
		if (streams[u].count)
			emit_end(&streams[u]);
		pass.streams[u] = (struct exec_stream) { streams[u].words, streams[u].count };
	}
	exec_pass(exec, &pass, &result);
	return result.fault.kind;
}

static inline uint8_t *chip(unsigned int core, uint32_t address)
{
	return exec_buffer(exec, core, address >> 28) + (address & 0x0fffffff);
}

static inline void put_floats(uint32_t address, const float *values, unsigned int count)
{
	memcpy(chip(0, address), values, count * sizeof(float));
}

static inline uint32_t word_at(unsigned int core, uint32_t address)
{
	uint32_t word;

	memcpy(&word, chip(core, address), sizeof(word));
	return word;
}

static inline float float_at(unsigned int core, uint32_t address)
{
	return math_float(word_at(core, address));
}

static inline bool words_are(uint32_t address, const uint32_t *want, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (word_at(0, address + 4 * i) == want[i])
			continue;
		printf("# word %u is 0x%08x, not 0x%08x\n", i, word_at(0, address + 4 * i),
		       want[i]);
		return false;
	}
	return true;
}

#define WORDS_ARE(address, ...) words_are(address, (const uint32_t[]) { __VA_ARGS__ }, \
	sizeof((const uint32_t[]) { __VA_ARGS__ }) / 4)

static inline uint32_t *fill(uint32_t out, uint32_t value)
{
	uint32_t *w = EMIT(sfu, MISC);

	SET_HEAD(w, MODE, FLM_MISC_FILL);
	SET(w, MISC, OUT, out);
	SET(w, MISC, IMM, value);
	SET_SIZE(w, MISC, ROWS, 1);
	SET_SIZE(w, MISC, COLS, 1);
	return w;
}

static inline uint32_t *load(uint32_t segment, uint32_t off, uint32_t dst, uint32_t rows,
			     uint32_t bytes)
{
	uint32_t *w = EMIT(ld, LD_LINEAR);

	SET(w, LD_LINEAR, SEG, segment);
	SET(w, LD_LINEAR, OFF, off);
	SET(w, LD_LINEAR, DST, dst);
	SET_SIZE(w, LD_LINEAR, ROWS, rows);
	SET_SIZE(w, LD_LINEAR, BYTES, bytes);
	return w;
}

/* One operation: A at GLB(0), B at GLB(256), C at GLB(512), OUT at ACT(0), rows 64 bytes apart. */
static inline uint32_t *misc(unsigned int mode, uint32_t rows, uint32_t cols, uint32_t imm)
{
	static const uint8_t uses[] = {
		[FLM_MISC_ADD] = 11, [FLM_MISC_MUL] = 11, [FLM_MISC_SCALE] = 9, [FLM_MISC_COPY] = 9,
		[FLM_MISC_RELU] = 9, [FLM_MISC_SILU] = 9, [FLM_MISC_GELU] = 9,
		[FLM_MISC_RMSNORM] = 11, [FLM_MISC_LAYERNORM] = 15, [FLM_MISC_ROPE] = 11,
		[FLM_MISC_SOFTMAX] = 9, [FLM_MISC_QUANT] = 13, [FLM_MISC_DEQUANT] = 13,
		[FLM_MISC_HADAMARD] = 9, [FLM_MISC_TOPK] = 9, [FLM_MISC_SAMPLE] = 1,
	};
	uint32_t *w = EMIT(sfu, MISC);

	SET_HEAD(w, MODE, mode);
	if (uses[mode] & 1) {
		SET(w, MISC, A, GLB(0));
		SET(w, MISC, A_PITCH, 64);
	}
	if (uses[mode] & 2)
		SET(w, MISC, B, GLB(256));
	if (uses[mode] & 4)
		SET(w, MISC, C, GLB(512));
	if (uses[mode] & 4 && mode != FLM_MISC_LAYERNORM)
		SET(w, MISC, C_PITCH, 64);
	if (uses[mode] & 8) {
		SET(w, MISC, OUT, ACT(0));
		SET(w, MISC, OUT_PITCH, 64);
	}
	SET(w, MISC, IMM, imm);
	SET_SIZE(w, MISC, ROWS, rows);
	SET_SIZE(w, MISC, COLS, cols);
	return w;
}

/* Segment 1 is each core's own memory, 2 constants for all, read only; 3 is not bound. */
static inline bool machine_open(void)
{
	unsigned int core;

	if (exec_new(&machine, 1, &exec))
		return false;
	for (core = 0; core < machine.cores; core++) {
		flat.segments[core][1].bytes = memory[core];
		flat.segments[core][1].length = MEMORY;
		flat.segments[core][1].rights = FLM_RIGHT_R | FLM_RIGHT_W;
		flat.segments[core][2].bytes = constants;
		flat.segments[core][2].length = MEMORY;
		flat.segments[core][2].rights = FLM_RIGHT_R;
	}
	return true;
}

static inline int machine_close(void)
{
	exec_free(exec);
	return done_testing();
}

#endif
