/* SPDX-License-Identifier: MIT */
/*
 * One machine of three cores for the tests of single instructions. A test begins with begin(), says
 * in the assembler's words what the six units do, and looks at what run() did.
 *
 *	begin(1);
 *	program("@misc\nmisc.add a=glb:0 b=glb:256 out=act:0 rows=1/1 cols=4/4");
 *	ok(!run() && WORDS_ARE(ACT(0), 0x40000000, ...), "add");
 *
 * An operand that is given twice has its last value: what most instructions of a test share is a
 * macro, and what this one changes stands behind it. What includes it links with the objects of
 * emulator/core alone; memory is that of stream.h.
 */
#ifndef TESTS_EMULATOR_MACHINE_H
#define TESTS_EMULATOR_MACHINE_H

#include <endian.h>
#include <stdarg.h>

#include "emulator/core/exec.h"
#include "emulator/core/math.h"
#include "tests/emulator/program.h"
#include "tests/emulator/stream.h"
#include "tests/tap.h"

#define BUFFER 65536
#define MEMORY (1 << 20)
#define ACT(offset) FLM_CHIP(FLM_BUFFER_ACT, offset)
#define WGT(offset) FLM_CHIP(FLM_BUFFER_WGT, offset)
#define IDX(offset) FLM_CHIP(FLM_BUFFER_IDX, offset)
#define GLB(offset) FLM_CHIP(FLM_BUFFER_GLB, offset)

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

/* More instructions of the six streams. The format is printf's. */
__attribute__((format(printf, 1, 2))) static inline void program(const char *format, ...)
{
	uint32_t *words[FLM_UNITS], counts[FLM_UNITS];
	char text[FLM_TEXT_BYTES];
	va_list args;
	unsigned int u;
	int length;

	va_start(args, format);
	length = vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	if (length >= (int)sizeof(text))
		errx(1, "a text of %d characters is too long", length);
	for (u = 0; u < FLM_UNITS; u++) {
		words[u] = streams[u].words;
		counts[u] = streams[u].count;
	}
	program_parse(text, words, counts, STREAM_WORDS);
	for (u = 0; u < FLM_UNITS; u++)
		streams[u].count = counts[u];
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
