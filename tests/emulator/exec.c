// SPDX-License-Identifier: MIT
/*
 * Instruction by instruction: small programs against literals that were computed from SPEC-isa.md
 * by other means than C, and against the plainest possible arithmetic where literals would be long.
 * Links with exec.c core.c decode.c move.c expand.c mpe.c dot.c sfu.c exchange.c math.c of the
 * emulator only; memory is that of stream.h.
 */
#include <endian.h>
#include <pthread.h>
#include <unistd.h>

#include "emulator/dot.h"
#include "emulator/exec.h"
#include "emulator/math.h"
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

static void begin(uint32_t cores)
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
static unsigned int run(void)
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

static uint8_t *chip(unsigned int core, uint32_t address)
{
	return exec_buffer(exec, core, address >> 28) + (address & 0x0fffffff);
}

static void put_floats(uint32_t address, const float *values, unsigned int count)
{
	memcpy(chip(0, address), values, count * sizeof(float));
}

static uint32_t word_at(unsigned int core, uint32_t address)
{
	uint32_t word;

	memcpy(&word, chip(core, address), sizeof(word));
	return word;
}

static float float_at(unsigned int core, uint32_t address)
{
	return math_float(word_at(core, address));
}

static bool words_are(uint32_t address, const uint32_t *want, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		if (word_at(0, address + 4 * i) == want[i])
			continue;
		printf("# word %u is 0x%08x, not 0x%08x\n", i, word_at(0, address + 4 * i), want[i]);
		return false;
	}
	return true;
}

#define WORDS_ARE(address, ...) words_are(address, (const uint32_t[]) { __VA_ARGS__ }, \
	sizeof((const uint32_t[]) { __VA_ARGS__ }) / 4)

/* ---- Numbers ---- */

static void test_numbers(void)
{
	static const uint32_t exp[][2] = {
		{ 0x00000000, 0x3f800000 }, { 0x3f800000, 0x402df854 }, { 0xbf800000, 0x3ebc5ab2 },
		{ 0x3f000000, 0x3fd3094c }, { 0x41200000, 0x46ac14ee }, { 0xc2af0000, 0x006cb2bc },
		{ 0xc2ce0000, 0x00000001 }, { 0x42b16666, 0x7f7a37fc }, { 0xc2c80000, 0x0000001b },
		{ 0x42b17217, 0x7f7fff84 }, { 0x42b17218, 0x7f800000 }, { 0xc2cff1b4, 0x00000001 },
		{ 0xc2cff1b5, 0x00000000 }, { 0x322bcc77, 0x3f800000 }, { 0x7f800000, 0x7f800000 },
		{ 0xff800000, 0x00000000 },
	};
	static const uint32_t sigmoid[][2] = {
		{ 0x00000000, 0x3f000000 }, { 0x80000000, 0x3f000000 }, { 0x3f800000, 0x3f3b26a8 },
		{ 0xbf800000, 0x3e89b2b1 }, { 0x40a00000, 0x3f7e4961 }, { 0xc0a00000, 0x3bdb4fb4 },
		{ 0xc2b40000, 0x0008ec28 }, { 0x42b40000, 0x3f800000 },
	};
	static const uint32_t half[][2] = {
		{ 0x0000, 0x00000000 }, { 0x8000, 0x80000000 }, { 0x0001, 0x33800000 },
		{ 0x83ff, 0xb87fc000 }, { 0x0400, 0x38800000 }, { 0x3c00, 0x3f800000 },
		{ 0xc500, 0xc0a00000 }, { 0x7bff, 0x477fe000 }, { 0x7c00, 0x7f800000 },
		{ 0xfc00, 0xff800000 },
	};
	static const float logits[] = { 2.0f, 1.5f, 1.0f, -1.0f };
	struct math_sampler sampler = { .temperature = 0.0f };
	uint32_t out[4], i, wrong = 0, seen[4] = { 0 };
	float x[37];

	for (i = 0; i < sizeof(exp) / sizeof(exp[0]); i++)
		wrong += math_bits(math_exp(math_float(exp[i][0]))) != exp[i][1];
	ok(!wrong, "exp gives the stated bits at its edges and between");
	ok(math_exp(math_float(0x7fc00001)) != math_exp(0.0f) &&
	   math_bits(math_written(math_exp(math_float(0x7fc00001)))) == 0x7fc00000,
	   "exp of NaN is NaN, written as 0x7fc00000");
	for (i = 0, wrong = 0; i < sizeof(sigmoid) / sizeof(sigmoid[0]); i++)
		wrong += math_bits(math_sigmoid(math_float(sigmoid[i][0]))) != sigmoid[i][1];
	ok(!wrong, "sigmoid gives the stated bits");
	for (i = 0, wrong = 0; i < sizeof(half) / sizeof(half[0]); i++)
		wrong += math_bits(math_half((uint16_t)half[i][0])) != half[i][1];
	ok(!wrong && math_half(0x7e00) != math_half(0x7e00),
	   "float16 converts exactly, subnormals, infinity and NaN too");
	for (i = 0; i < 37; i++)
		x[i] = (float)(0.1 * (double)(i + 1));
	ok(math_bits(math_sum(x, 37)) == 0x428c999a, "SUM adds in sixteen lanes and a tree");
	math_philox((uint32_t[]) { 0, 0, 0, 0 }, (uint32_t[]) { 0, 0 }, out);
	ok(out[0] == 0x6627e8d5 && out[1] == 0xe169c58d && out[2] == 0xbc57ac4c &&
	   out[3] == 0x9b00dbd8, "Philox of zeros is the published vector");
	math_philox((uint32_t[]) { 0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344 },
		    (uint32_t[]) { 0xa4093822, 0x299f31d0 }, out);
	ok(out[0] == 0xd16cfe09 && out[1] == 0x94fdcceb && out[2] == 0x5001e420 &&
	   out[3] == 0x24126ea1, "Philox of the digits of pi is the published vector");

	ok(math_choose(logits, 4, &sampler, 5) == 0, "temperature 0 chooses the first candidate");
	sampler.temperature = math_float(0x7fc00000);
	ok(math_choose(logits, 4, &sampler, 5) == 0, "temperature NaN does too");
	sampler.temperature = 0.8f;
	for (i = 0; i < 1000; i++)
		seen[math_choose(logits, 4, &sampler, i)]++;
	ok(seen[0] > 490 && seen[0] < 590 && seen[1] > 240 && seen[1] < 340 && seen[2] > 105 &&
	   seen[2] < 205 && seen[3] > 2 && seen[3] < 30, "a choice follows the probabilities");
	sampler.top_k = 2;
	memset(seen, 0, sizeof(seen));
	for (i = 0; i < 1000; i++)
		seen[math_choose(logits, 4, &sampler, i)]++;
	ok(seen[0] && seen[1] && !seen[2] && !seen[3], "top_k keeps that many");
	sampler.top_k = 0;
	sampler.top_p = 0.8f;	/* 0.54 + 0.29 reaches it */
	memset(seen, 0, sizeof(seen));
	for (i = 0; i < 1000; i++)
		seen[math_choose(logits, 4, &sampler, i)]++;
	ok(seen[0] && seen[1] && !seen[2] && !seen[3], "top_p keeps up to the one that reaches it");
	sampler.top_p = 1.0f;
	sampler.min_p = 0.28f;	/* e is 1, 0.535, 0.2865, 0.0235 */
	memset(seen, 0, sizeof(seen));
	for (i = 0; i < 1000; i++)
		seen[math_choose(logits, 4, &sampler, i)]++;
	ok(seen[0] && seen[1] && seen[2] && !seen[3], "min_p keeps those not below it");
	ok(math_rank(1.0f, 5) > math_rank(0.5f, 1) && math_rank(1.0f, 5) > math_rank(1.0f, 6) &&
	   math_rank(math_float(0x80000000), 1) > math_rank(0.0f, 2) &&
	   math_rank(-1.0f, 1) > math_rank(-2.0f, 1) &&
	   math_rank(math_float(0x7fc00000), 1) < math_rank(-3e38f, 1),
	   "candidates rank by logit, then by id, NaN last");
}

/* ---- Streams, loops, tokens ---- */

static uint32_t *fill(uint32_t out, uint32_t value)
{
	uint32_t *w = EMIT(sfu, MISC);

	SET_HEAD(w, MODE, FLM_MISC_FILL);
	SET(w, MISC, OUT, out);
	SET(w, MISC, IMM, value);
	SET_SIZE(w, MISC, ROWS, 1);
	SET_SIZE(w, MISC, COLS, 1);
	return w;
}

static void test_loops(void)
{
	uint32_t outer, inner, *w;

	begin(1);
	outer = open_loop(sfu, FLM_CLASS_CONST, 0, 3, 3);
	inner = open_loop(sfu, FLM_CLASS_CONST, 0, 2, 2);
	fill(ACT(0), 7);
	term(sfu, FLM_MISC_OUT_SLOT, FLM_CLASS_LOOP, 0, 8);
	term(sfu, FLM_MISC_OUT_SLOT, FLM_CLASS_LOOP, 1, 4);
	close_loop(sfu, inner);
	close_loop(sfu, outer);
	ok(!run() && WORDS_ARE(ACT(0), 7, 7, 7, 7, 7, 7, 0), "two loops address 3 x 2 words");
	ok(result.instructions == 1 + 3 * (1 + 2 * 2 + 1) + 1 &&
	   result.by_insn[FLM_INSN_MISC] == 6 && result.core_instructions[0] == 20,
	   "LOOP and END are counted");

	/* ceil((37 - 5) / 8) = 4, floor((39 - 5) / 8) = 4, register below SUB: 0 */
	begin(1);
	pass.lengths[9] = 38;
	pass.registers[0][15] = 3;
	inner = open_loop(sfu, FLM_CLASS_LENGTH, 9, 5, 5);
	SET(sfu->words + inner, LOOP, SHIFT, 3);
	SET(sfu->words + inner, LOOP, CEIL, 1);
	fill(ACT(0), 1);
	term(sfu, FLM_MISC_OUT_SLOT, FLM_CLASS_LOOP, 0, 4);
	close_loop(sfu, inner);
	inner = open_loop(sfu, FLM_CLASS_LENGTH, 9, 5, 5);
	SET(sfu->words + inner, LOOP, SHIFT, 3);
	fill(ACT(64), 2);
	term(sfu, FLM_MISC_OUT_SLOT, FLM_CLASS_LOOP, 0, 4);
	close_loop(sfu, inner);
	inner = open_loop(sfu, FLM_CLASS_CORE, 15, 4, 0);
	fill(ACT(128), 3);
	close_loop(sfu, inner);
	ok(!run() && WORDS_ARE(ACT(0), 1, 1, 1, 1, 1, 0) && WORDS_ARE(ACT(64), 2, 2, 2, 2, 0) &&
	   WORDS_ARE(ACT(128), 0), "counts round up or down, and zero skips the body");

	begin(1);
	pass.lengths[1] = 3;
	w = fill(ACT(4), 9);
	SET(w, MISC, COLS, 0);
	SET(w, MISC, COLS_MAX, 2);
	term(sfu, FLM_MISC_COLS_SLOT, FLM_CLASS_LENGTH, 1, 1);
	w = fill(ACT(16), 9);
	SET(w, MISC, COLS, (uint32_t)-3);
	SET(w, MISC, OUT, ACT(BUFFER * 2));
	term(sfu, FLM_MISC_COLS_SLOT, FLM_CLASS_LENGTH, 1, 1);
	ok(!run() && WORDS_ARE(ACT(0), 0, 9, 9, 0),
	   "a size is clamped, and a size of zero checks no address");

	begin(1);
	open_loop(sfu, FLM_CLASS_LENGTH, 9, 0, 2);
	pass.lengths[9] = 3;
	emit_end(sfu);
	SET(sfu->words, LOOP, BODY, 1);
	ok(run() == FLM_FAULT_BOUND && result.fault.unit == FLM_UNIT_MISC && !result.fault.word,
	   "a count above its bound is fault BOUND");

	begin(1);
	open_loop(sfu, FLM_CLASS_CONST, 0, 0xffffff, 0xffffff);
	open_loop(sfu, FLM_CLASS_CONST, 0, 0xffffff, 0xffffff);
	emit_end(sfu);
	emit_end(sfu);
	SET(sfu->words, LOOP, BODY, FLM_WORDS_LOOP + 2);
	SET(sfu->words + FLM_WORDS_LOOP, LOOP, BODY, 1);
	ok(run() == FLM_FAULT_WATCHDOG && result.instructions == 1000000,
	   "an endless loop ends by the watchdog");

	begin(1);
	open_loop(sfu, FLM_CLASS_CONST, 0, 1, 1);
	fill(ACT(0), 1);
	emit_end(sfu);
	emit_end(sfu);
	SET(sfu->words, LOOP, BODY, FLM_WORDS_MISC + 2);
	ok(run() == FLM_FAULT_OPCODE && result.fault.word == FLM_WORDS_LOOP + FLM_WORDS_MISC,
	   "a BODY that names another END is fault OPCODE there");
}

static void test_tokens(void)
{
	uint32_t *w, i, loop;

	/* LD of memory, MISC doubles it, ST: ordered by tokens only. */
	begin(1);
	memcpy(memory[0], (const float[]) { 1.5f, -2.0f }, 8);
	w = EMIT(ld, LD_LINEAR);
	SET(w, LD_LINEAR, SEG, 1);
	SET(w, LD_LINEAR, DST, ACT(32));
	SET_SIZE(w, LD_LINEAR, ROWS, 1);
	SET_SIZE(w, LD_LINEAR, BYTES, 8);
	tokens_of(ld, 0, BIT(MISC));
	w = EMIT(sfu, MISC);
	SET_HEAD(w, MODE, FLM_MISC_ADD);
	SET(w, MISC, A, ACT(32));
	SET(w, MISC, B, ACT(32));
	SET(w, MISC, OUT, ACT(32));
	SET_SIZE(w, MISC, ROWS, 1);
	SET_SIZE(w, MISC, COLS, 2);
	tokens_of(sfu, BIT(LD), BIT(ST));
	w = EMIT(st, ST_LINEAR);
	SET(w, ST_LINEAR, SEG, 1);
	SET(w, ST_LINEAR, OFF, 100);
	SET(w, ST_LINEAR, SRC, ACT(32));
	SET_SIZE(w, ST_LINEAR, ROWS, 1);
	SET_SIZE(w, ST_LINEAR, BYTES, 8);
	tokens_of(st, BIT(MISC), 0);
	ok(!run() && !memcmp(memory[0] + 100, (const float[]) { 3.0f, -4.0f }, 8),
	   "load, add, store in the order of their tokens");
	ok(result.bytes_read == 8 && result.bytes_written == 8, "bytes are counted");

	begin(1);
	fill(ACT(0), 1);
	tokens_of(sfu, BIT(SYS), 0);
	w = EMIT(sys, SYS_SYNC);
	tokens_of(sys, BIT(MISC), BIT(MISC));
	ok(run() == FLM_FAULT_DEADLOCK && result.fault.unit == FLM_UNIT_MISC &&
	   !result.fault.word, "units that wait for each other are fault DEADLOCK");

	begin(1);
	fill(ACT(0), 1);
	tokens_of(sfu, 0, BIT(SYS));
	EMIT(sys, SYS_SYNC);
	ok(run() == FLM_FAULT_TOKEN && result.fault.unit == FLM_UNIT_MISC,
	   "a token that nobody took is fault TOKEN of its sender");

	/* 100 tokens through a queue of 63: the sender waits for room, never overflows. */
	begin(1);
	loop = open_loop(sfu, FLM_CLASS_CONST, 0, 100, 100);
	fill(GLB(0), 0);
	tokens_of(sfu, 0, BIT(SYS));
	close_loop(sfu, loop);
	loop = open_loop(sys, FLM_CLASS_CONST, 0, 100, 100);
	EMIT(sys, SYS_SYNC);
	tokens_of(sys, BIT(MISC), 0);
	close_loop(sys, loop);
	ok(!run(), "a full queue holds its sender back");

	begin(1);
	for (i = 0; i < 64; i++) {
		fill(ACT(0), i);
		tokens_of(sfu, 0, BIT(SYS));
	}
	EMIT(sys, SYS_SYNC);
	ok(run() == FLM_FAULT_DEADLOCK && result.fault.word == 63 * FLM_WORDS_MISC,
	   "a sender that finds no room forever is a deadlock");
}

/* ---- Encoding ---- */

static void test_encoding(void)
{
	uint32_t *w, i;
	bool holds = true;

	begin(1);
	sfu->words[0] = 0x80000000;
	sfu->count = 1;
	ok(run() == FLM_FAULT_OPCODE, "an unknown operation is refused");
	begin(1);
	SET_HEAD(fill(ACT(0), 1), MODE, FLM_MISC_SAMPLE + 1);
	ok(run() == FLM_FAULT_OPCODE, "an unknown mode is refused");
	begin(1);
	w = EMIT(ld, ST_LINEAR);
	ok(run() == FLM_FAULT_OPCODE && result.fault.unit == FLM_UNIT_LD && w == ld->words,
	   "an instruction in another unit's stream is refused");
	begin(1);
	EMIT(ld, LD_LINEAR)[1] = 1u << 8;
	ok(run() == FLM_FAULT_OPCODE, "a reserved bit is refused");
	begin(1);
	SET_HEAD(EMIT(ld, LD_LINEAR), FLAGS, 1);
	ok(run() == FLM_FAULT_OPCODE, "a flag that does not exist is refused");
	begin(1);
	fill(ACT(0), 1);
	tokens_of(sfu, BIT(MISC), 0);
	ok(run() == FLM_FAULT_OPCODE, "a token from the unit itself is refused");
	begin(1);
	SET(fill(ACT(0), 1), MISC, OUT, 0x40000000);
	ok(run() == FLM_FAULT_OPCODE, "a fifth buffer is refused");
	begin(1);
	SET(fill(ACT(0), 1), MISC, COLS_MAX, 0x1000000);
	ok(run() == FLM_FAULT_OPCODE, "a maximum beyond 2^24 - 1 is refused");
	begin(1);
	SET(fill(ACT(0), 1), MISC, A, 4);
	ok(run() == FLM_FAULT_OPCODE, "an operand that the operation does not use is refused");
	begin(1);
	fill(ACT(0), 1);
	term(sfu, FLM_MISC_POS_SLOT, FLM_CLASS_LENGTH, 0, 0);
	ok(run() == FLM_FAULT_OPCODE, "a term of such an operand is refused");
	begin(1);
	fill(ACT(0), 1);
	term(sfu, 7, FLM_CLASS_LENGTH, 0, 0);
	ok(run() == FLM_FAULT_OPCODE, "a term of a slot that does not exist is refused");
	for (i = 0; i < 8; i++) {
		begin(1);
		fill(ACT(0), 1);
		term(sfu, FLM_MISC_OUT_SLOT, i, i == FLM_CLASS_LOOP ? 0 : 1, 0);
		holds = holds && (run() == FLM_FAULT_OPCODE) ==
				 (i != FLM_CLASS_LENGTH && i != FLM_CLASS_CORE);
	}
	ok(holds, "of the eight classes a term takes registers, and loops only inside them");
	begin(1);
	fill(ACT(0), 1);
	term(sfu, FLM_MISC_OUT_SLOT, FLM_CLASS_LENGTH, 16, 0);
	ok(run() == FLM_FAULT_OPCODE, "a seventeenth register is refused");
	begin(1);
	fill(ACT(0), 1);
	sfu->words[FLM_WORDS_MISC] = 0;
	SET_HEAD(sfu->words, TERMS, 1);
	ok(run() == FLM_FAULT_OPCODE, "an instruction that reaches beyond its stream is refused");
	begin(1);
	w = EMIT(sys, SYS_TOPK);
	SET(w, SYS_TOPK, COUNT, 1025);
	ok(run() == FLM_FAULT_OPCODE, "a count above 1024 candidates is refused");
	begin(1);
	w = EMIT(mm, MM_QK);
	SET(w, MM_QK, DIM, 0);
	ok(run() == FLM_FAULT_OPCODE, "a dim of zero is refused");
	begin(1);
	w = EMIT(mm, MM_LINEAR);
	SET(w, MM_LINEAR, TOKENS_MAX, 129);
	ok(run() == FLM_FAULT_OPCODE, "more than 128 tokens are refused");
	begin(1);
	for (i = 0; i < 9; i++) {
		w = EMIT(sfu, LOOP);
		SET(w, LOOP, SUB, 1);
		SET(w, LOOP, BOUND, 1);
		SET(w, LOOP, BODY, (8 - i) * FLM_WORDS_LOOP + i + 1);
	}
	for (i = 0; i < 9; i++)
		emit_end(sfu);
	ok(run() == FLM_FAULT_OPCODE && result.fault.word == 8 * FLM_WORDS_LOOP,
	   "a ninth open loop is refused");
	begin(1);
	w = EMIT(ld, LD_LINEAR);
	SET(w, LD_LINEAR, SEG, 1);
	SET(w, LD_LINEAR, OFF, (uint32_t)-1);
	SET_SIZE(w, LD_LINEAR, ROWS, 1);
	SET_SIZE(w, LD_LINEAR, BYTES, 1);
	ok(run() == FLM_FAULT_BOUND, "a negative offset is fault BOUND");
	begin(1);
	pass.lengths[3] = 0x1000000;
	ok(run() == FLM_FAULT_BOUND, "a register beyond 2^24 - 1 is fault BOUND");
}

/* ---- Memory ---- */

static uint32_t *load(uint32_t segment, uint32_t off, uint32_t dst, uint32_t rows, uint32_t bytes)
{
	uint32_t *w = EMIT(ld, LD_LINEAR);

	SET(w, LD_LINEAR, SEG, segment);
	SET(w, LD_LINEAR, OFF, off);
	SET(w, LD_LINEAR, DST, dst);
	SET_SIZE(w, LD_LINEAR, ROWS, rows);
	SET_SIZE(w, LD_LINEAR, BYTES, bytes);
	return w;
}

static void test_rows(void)
{
	uint32_t *w, i;

	for (i = 0; i < MEMORY; i++)
		constants[i] = (uint8_t)(i * 7 + (i >> 8));
	begin(1);
	w = load(2, 10, ACT(5), 3, 4);
	SET(w, LD_LINEAR, SRC_PITCH, 100);
	SET(w, LD_LINEAR, DST_PITCH, 6);
	ok(!run() && !memcmp(chip(0, ACT(5)), constants + 10, 4) &&
	   !memcmp(chip(0, ACT(11)), constants + 110, 4) &&
	   !memcmp(chip(0, ACT(17)), constants + 210, 4) && !chip(0, ACT(9))[0],
	   "ld moves rows at a pitch");
	begin(1);
	w = load(2, 64, ACT(0), 16, 32);
	SET(w, LD_LINEAR, SRC_PITCH, 32);
	SET(w, LD_LINEAR, DST_PITCH, 32);
	ok(!run() && !memcmp(chip(0, ACT(0)), constants + 64, 512), "and contiguous ones");
	begin(1);
	w = load(2, MEMORY - 6, ACT(0), 2, 4);
	SET(w, LD_LINEAR, SRC_PITCH, 4);
	SET(w, LD_LINEAR, DST_PITCH, 8);
	ok(run() == FLM_FAULT_SEGMENT && result.fault.segment == 2 &&
	   result.fault.offset == MEMORY - 2 && result.fault.unit == FLM_UNIT_LD &&
	   !memcmp(chip(0, ACT(0)), constants + MEMORY - 6, 4),
	   "a row beyond the segment is fault SEGMENT, the rows before it stay");
	begin(1);
	load(3, 0, ACT(0), 1, 1);
	ok(run() == FLM_FAULT_SEGMENT, "a segment that is not bound is fault SEGMENT");
	begin(1);
	load(2, 0, ACT(BUFFER - 3), 1, 4);
	ok(run() == FLM_FAULT_BUFFER && result.fault.offset == ACT(BUFFER - 3),
	   "a byte beyond the buffer is fault BUFFER");
	begin(1);
	load(2, 0, ACT(BUFFER - 4), 1, 4);
	ok(!run(), "the last bytes of a buffer are usable");
	begin(1);
	w = load(2, 0, ACT(0), 0xffffff, 0xffffff);
	SET(w, LD_LINEAR, DST_PITCH, 0xffffffff);
	ok(run() == FLM_FAULT_BUFFER, "a huge product does not wrap around");
	begin(1);
	load(2, 0, ACT(0), 1, 1);
	pass.lengths[0] = 1;
	term(ld, FLM_LD_LINEAR_DST_SLOT, FLM_CLASS_LENGTH, 0, -1);
	ok(run() == FLM_FAULT_BUFFER, "an address below the buffer is fault BUFFER");

	begin(1);
	memcpy(chip(0, GLB(7)), "abcdefgh", 8);
	w = EMIT(st, ST_LINEAR);
	SET(w, ST_LINEAR, SEG, 1);
	SET(w, ST_LINEAR, OFF, 50);
	SET(w, ST_LINEAR, SRC, GLB(7));
	SET(w, ST_LINEAR, SRC_PITCH, 5);
	SET(w, ST_LINEAR, DST_PITCH, 3);
	SET_SIZE(w, ST_LINEAR, ROWS, 2);
	SET_SIZE(w, ST_LINEAR, BYTES, 3);
	ok(!run() && !memcmp(memory[0] + 50, "abcfgh", 6), "st moves rows the other way");
	begin(1);
	w = EMIT(st, ST_LINEAR);
	SET(w, ST_LINEAR, SEG, 2);
	SET_SIZE(w, ST_LINEAR, ROWS, 1);
	SET_SIZE(w, ST_LINEAR, BYTES, 3);
	ok(run() == FLM_FAULT_RIGHTS, "a store to a read-only segment is fault RIGHTS");

	for (i = 0; i < 2; i++) {
		begin(1);
		pass.lengths[FLM_LENGTH_TOKENS] = 3;
		pass.tokens = (const uint32_t[]) { 5, 0, 99 };
		w = EMIT(ld, LD_GATHER);
		SET(w, LD_GATHER, SEG, 2);
		SET(w, LD_GATHER, OFF, 1000);
		SET(w, LD_GATHER, SRC_PITCH, 16);
		SET(w, LD_GATHER, LIMIT, 100 - i);
		SET(w, LD_GATHER, INDEX, IDX(0));
		SET_SIZE(w, LD_GATHER, ROWS, 3);
		SET_SIZE(w, LD_GATHER, BYTES, 8);
		SET(w, LD_GATHER, DST, ACT(0));
		SET(w, LD_GATHER, DST_PITCH, 8);
		if (!i)
			ok(!run() && !memcmp(chip(0, ACT(0)), constants + 1080, 8) &&
			   !memcmp(chip(0, ACT(8)), constants + 1000, 8) &&
			   !memcmp(chip(0, ACT(16)), constants + 1000 + 99 * 16, 8),
			   "ld.gather takes rows by the ids of the pass");
		else
			ok(run() == FLM_FAULT_INDEX, "an index at the limit is fault INDEX");
	}
}

static uint32_t *load_kv(uint32_t first, uint32_t count)
{
	uint32_t *w = EMIT(ld, LD_KV);

	SET(w, LD_KV, SEG, 1);
	SET(w, LD_KV, PAGE, 4096);
	SET(w, LD_KV, VALUES, 256);
	SET(w, LD_KV, VALUE_BYTES, 8);
	SET(w, LD_KV, SCALES, 2048);
	SET(w, LD_KV, SCALE_BYTES, 4);
	SET(w, LD_KV, FIRST, first);
	SET_SIZE(w, LD_KV, COUNT, count);
	SET(w, LD_KV, DST, WGT(0));
	SET(w, LD_KV, DST_SCALES, ACT(0));
	SET_SIZE(w, LD_KV, QUERIES, 1);
	return w;
}

static uint32_t *store_kv(uint32_t first, uint32_t count)
{
	uint32_t *w = EMIT(st, ST_KV);

	SET(w, ST_KV, SEG, 1);
	SET(w, ST_KV, PAGE, 4096);
	SET(w, ST_KV, VALUES, 256);
	SET(w, ST_KV, VALUE_BYTES, 8);
	SET(w, ST_KV, SCALES, 2048);
	SET(w, ST_KV, SCALE_BYTES, 4);
	SET(w, ST_KV, FIRST, first);
	SET_SIZE(w, ST_KV, COUNT, count);
	SET(w, ST_KV, SRC, GLB(0));
	SET(w, ST_KV, SRC_PITCH, 16);
	SET(w, ST_KV, SRC_SCALES, GLB(1024));
	SET(w, ST_KV, SCALE_PITCH, 4);
	return w;
}

static void test_kv(void)
{
	static const uint32_t pages[] = { 5, 2, 7 };
	uint32_t i, p, *w;
	bool holds = true;

	for (i = 0; i < MEMORY; i++)
		memory[0][i] = (uint8_t)(i * 13 + (i >> 7));
	begin(1);
	pass.pages = pages;
	pass.page_count = 3;
	load_kv(60, 70);
	ok(!run(), "ld.kv goes through the page list");
	for (i = 0; i < 70; i++) {
		uint8_t *page = memory[0] + 4096 * pages[(60 + i) / 64];

		p = (60 + i) % 64;
		holds = holds && !memcmp(chip(0, WGT(8 * i)), page + 256 + 8 * p, 8) &&
			!memcmp(chip(0, ACT(4 * i)), page + 2048 + 4 * p, 4);
	}
	ok(holds, "and finds values and scales of each position");
	begin(1);
	pass.pages = pages;
	pass.page_count = 3;
	load_kv(128, 65);
	ok(run() == FLM_FAULT_INDEX, "a position beyond the page list is fault INDEX");
	begin(1);
	pass.pages = pages;
	pass.page_count = 3;
	SET(load_kv(63, 1), LD_KV, SCALES, 4096 - 63 * 4 - 3);
	ok(run() == FLM_FAULT_INDEX, "a position that leaves the page is fault INDEX");
	begin(1);
	pass.pages = pages;
	pass.page_count = 3;
	w = load_kv(0, 192);
	SET_HEAD(w, FLAGS, FLM_LD_KV_MASK);
	SET(w, LD_KV, MASKS, IDX(0));
	SET(w, LD_KV, MASK_PITCH, 1);
	SET(w, LD_KV, QUERY, 64);
	SET_SIZE(w, LD_KV, QUERIES, 65);
	chip(0, IDX(0))[0] = 7;		/* query block 0 does not take part */
	chip(0, IDX(0))[1] = 1;
	chip(0, IDX(0))[2] = 4;
	ok(!run() && !memcmp(chip(0, WGT(0)), memory[0] + 4096 * 5 + 256, 512) &&
	   !memcmp(chip(0, WGT(1024)), memory[0] + 4096 * 7 + 256, 512) &&
	   result.bytes_read == 2 * 64 * 12, "a masked ld.kv loads the kept blocks only");

	begin(1);
	pass.pages = pages;
	pass.page_count = 3;
	pass.kv_start = 63;
	for (i = 0; i < 2048; i++)
		chip(0, GLB(0))[i] = (uint8_t)(i * 3);
	store_kv(63, 2);
	ok(!run() && !memcmp(memory[0] + 4096 * 5 + 256 + 63 * 8, chip(0, GLB(0)), 8) &&
	   !memcmp(memory[0] + 4096 * 2 + 256, chip(0, GLB(16)), 8) &&
	   !memcmp(memory[0] + 4096 * 2 + 2048, chip(0, GLB(1028)), 4),
	   "st.kv writes positions into their pages");
	begin(1);
	pass.pages = pages;
	pass.page_count = 3;
	pass.kv_start = 64;
	store_kv(63, 2);
	ok(run() == FLM_FAULT_RIGHTS, "a shared position is read-only");
}

static void test_logits(void)
{
	uint32_t *w, i, mode;

	for (mode = FLM_LOGITS_NONE; mode <= FLM_LOGITS_LAST; mode++) {
		begin(1);
		memset(memory[0], 0, 4096);
		for (i = 0; i < 4; i++)
			put_floats(ACT(16 * i), (const float[]) { (float)i, 10.0f + (float)i }, 2);
		pass.lengths[FLM_LENGTH_POS] = 20;
		pass.lengths[FLM_LENGTH_TOKENS] = 5;
		pass.logits.wanted = mode;
		pass.logits.ends_prompt = 1;
		pass.logits.segment = 1;
		pass.logits.offset = 40;
		pass.logits.first = 22;
		pass.logits.count = 3;
		pass.logits.stride = 16;
		w = EMIT(st, ST_LOGITS);
		SET(w, ST_LOGITS, ROW, 1);
		SET_SIZE(w, ST_LOGITS, ROWS, 4);
		SET(w, ST_LOGITS, COL, 2);
		SET_SIZE(w, ST_LOGITS, COLS, 2);
		SET(w, ST_LOGITS, SRC, ACT(0));
		SET(w, ST_LOGITS, SRC_PITCH, 16);
		run();
		if (mode == FLM_LOGITS_NONE)
			ok(!result.fault.kind && !result.bytes_written, "no logits, no store");
		else if (mode == FLM_LOGITS_EVERY)
			ok(!result.fault.kind && result.bytes_written == 24 &&
			   !memcmp(memory[0] + 48, (const float[]) { 1, 11 }, 8) &&
			   !memcmp(memory[0] + 64, (const float[]) { 2, 12 }, 8),
			   "logits of the wanted positions go to their rows");
		else
			ok(!result.fault.kind && result.bytes_written == 8 &&
			   !memcmp(memory[0] + 80, (const float[]) { 3, 13 }, 8),
			   "the last position's logits go to its row");
	}
	begin(1);
	pass.lengths[FLM_LENGTH_TOKENS] = 1;
	pass.logits.wanted = FLM_LOGITS_LAST;
	pass.logits.segment = 1;
	pass.logits.count = 1;
	pass.logits.stride = 16;
	w = EMIT(st, ST_LOGITS);
	SET_SIZE(w, ST_LOGITS, ROWS, 1);
	SET(w, ST_LOGITS, COL, 3);
	SET_SIZE(w, ST_LOGITS, COLS, 2);
	ok(!run() && !result.bytes_written, "a chunk inside the prompt has no last position");
	pass.logits.ends_prompt = 1;
	exec_pass(exec, &pass, &result);
	ok(result.fault.kind == FLM_FAULT_INDEX, "a column beyond the stride is fault INDEX");
}

/* ---- Weights ---- */

/* Little state, good enough bits. */
static uint32_t random_state = 1;

static uint32_t draw(void)
{
	random_state = random_state * 1664525 + 1013904223;
	return random_state >> 8;
}

/*
 * A strip in memory at `offset`, and its plain values. Written from the description of the layout
 * one code at a time, with none of the emulator's tricks.
 */
struct plain {
	int8_t value[16][4096];
	float scale[64][16];
};

static void set_code(uint8_t *codes, unsigned int width, uint32_t plane, uint32_t top, uint32_t run,
		     uint32_t i, uint32_t p, uint32_t code)
{
	/* `run` codes share bytes; i is the place in a run's first member, p the place overall. */
	unsigned int bits = width == 8 ? 8 : width >= 4 ? 4 : 2;

	codes[plane + i % run] |= (uint8_t)((code & ((1u << bits) - 1)) << (i / run * bits));
	if (width == 3 || width == 5)
		codes[top + p / 8] |= (uint8_t)((code >> bits) << (p % 8));
}

static int value_of(unsigned int width, uint32_t code)
{
	return width == 2 ? 2 * (int)code - 3 : (int)code - (1 << (width - 1));
}

static void make_tile(unsigned int width, int n, uint32_t blocks, uint32_t row, struct plain *plain)
{
	uint32_t codes_at = 4096, n_at = 200000, masks_at = 210000 / 64 * 64, scales_at = 300032;
	uint32_t cols = blocks * 16, groups = (cols + 63) / 64, g, r, c, b, at = codes_at, masks = 0;
	unsigned int bits = width == 8 ? 8 : width >= 4 ? 4 : 2, parts = 8 / bits;
	struct flm_strip *strip = (struct flm_strip *)(constants + 64 + 32 * row);

	n_at = n_at / 64 * 64;
	memset(plain, 0, sizeof(*plain));
	memset(strip, 0, sizeof(*strip));
	memset(constants + codes_at, 0, 190000);
	memset(constants + masks_at, 0, 9000);
	strip->width = (uint8_t)width;
	strip->blocks = htole16((uint16_t)blocks);
	strip->codes = htole32(codes_at / 64);
	strip->scales = htole32(scales_at / 64);
	for (g = 0; g < groups; g++) {
		for (r = 0; r < 16; r++) {
			uint16_t half = (uint16_t)(draw() & 0xbfff);

			constants[scales_at + 32 * g + 2 * r] = (uint8_t)half;
			constants[scales_at + 32 * g + 2 * r + 1] = (uint8_t)(half >> 8);
			plain->scale[g][r] = math_half(half);
		}
	}
	if (n < 0) {
		for (g = 0; g < groups; g++) {
			uint32_t width_cols = cols - 64 * g < 64 ? cols - 64 * g : 64;
			uint32_t top = width_cols / 4 / parts * 64;

			for (c = 0; c < width_cols; c++) {
				for (r = 0; r < 16; r++) {
					uint32_t q = c / 4, i = 4 * r + c % 4;
					uint32_t code = draw() & ((1u << width) - 1);

					plain->value[r][64 * g + c] = (int8_t)value_of(width, code);
					set_code(constants + at, width, q / parts * 64, top, 64,
						 q % parts * 64 + i, q * 64 + i, code);
				}
			}
			at += 2 * width * width_cols;
		}
		return;
	}
	strip->flags = FLM_STRIP_SPARSE;
	strip->n = htole32(n_at / 64);
	strip->masks = htole32(masks_at / 64);
	for (b = 0; b < blocks; b++) {
		/* n 1: each block its own */
		uint32_t own = n == 1 ? (uint32_t[]) { 0, 2, 4, 8, 16 }[draw() % 5] : (uint32_t)n;
		uint32_t p = 0, j, part;

		constants[n_at + b] = (uint8_t)own;
		if (!own)
			continue;
		for (j = 0; j < 4; j++) {
			for (part = 0; part < 4; part++) {
				uint32_t mask = 0, kept = 0;

				while (kept < own) {
					c = draw() % 16;
					kept += !(mask >> c & 1);
					mask |= 1u << c;
				}
				for (c = 0; c < 16; c++) {
					uint32_t code = draw() & ((1u << width) - 1);

					if (!(mask >> c & 1))
						continue;
					r = j + 4 * part;
					plain->value[r][16 * b + c] = (int8_t)value_of(width, code);
					set_code(constants + at, width, 0, 16 * own / parts,
						 16 * own / parts, p, p, code);
					p++;
				}
				if (own == 16)
					continue;
				constants[masks_at + 32 * masks + 8 * j + 2 * part] = (uint8_t)mask;
				constants[masks_at + 32 * masks + 8 * j + 2 * part + 1] =
					(uint8_t)(mask >> 8);
			}
		}
		masks += own != 16;
		at += 2 * own * width;
	}
}

static void load_tile(uint32_t row, uint32_t strips, uint32_t pitch)
{
	uint32_t *w = EMIT(ld, LD_TILE);

	SET(w, LD_TILE, SEG, 2);
	SET(w, LD_TILE, TABLE, 64);
	SET(w, LD_TILE, ROW, row);
	SET(w, LD_TILE, STEP, 1);
	SET_SIZE(w, LD_TILE, STRIPS, strips);
	SET(w, LD_TILE, DST, WGT(0));
	SET(w, LD_TILE, PITCH, pitch);
	SET(w, LD_TILE, IDX, IDX(1024));
	SET(w, LD_TILE, IDX_PITCH, 16384);
	tokens_of(ld, 0, BIT(MM));
}

static uint32_t *mm_linear(uint32_t strips, uint32_t pitch, uint32_t tokens, uint32_t flags)
{
	uint32_t *w = EMIT(mm, MM_LINEAR);

	SET_HEAD(w, FLAGS, flags);
	SET(w, MM_LINEAR, SEG, 2);
	SET(w, MM_LINEAR, TABLE, 64);
	SET(w, MM_LINEAR, STEP, 1);
	SET_SIZE(w, MM_LINEAR, STRIPS, strips);
	SET(w, MM_LINEAR, W, WGT(0));
	SET(w, MM_LINEAR, W_PITCH, pitch);
	SET(w, MM_LINEAR, IDX, IDX(1024));
	SET(w, MM_LINEAR, IDX_PITCH, 16384);
	SET(w, MM_LINEAR, A, ACT(0));
	SET(w, MM_LINEAR, A_PITCH, 4096);
	SET(w, MM_LINEAR, A_SCALES, GLB(0));
	SET(w, MM_LINEAR, A_SCALE_PITCH, 256);
	SET_SIZE(w, MM_LINEAR, TOKENS, tokens);
	SET(w, MM_LINEAR, OUT, GLB(8192));
	SET(w, MM_LINEAR, OUT_PITCH, 64 * strips);
	SET(w, MM_LINEAR, FACTOR_AT, GLB(4096));
	SET(w, MM_LINEAR, BIAS_AT, GLB(4160));
	tokens_of(mm, BIT(LD), 0);
	return w;
}

/* The chapter's loop, one rounding a line. */
static float naive_linear(const struct plain *plain, uint32_t r, uint32_t cols, const int8_t *a,
			  const float *a_scales, float acc)
{
	uint32_t c, g;

	for (g = 0; 64 * g < cols; g++) {
		int32_t sum = 0;
		volatile float x;

		for (c = 64 * g; c < cols && c < 64 * g + 64; c++)
			sum += a[c] * plain->value[r][c];
		x = (float)sum * plain->scale[g][r];
		x = x * a_scales[g];
		acc = acc + x;
	}
	return acc;
}

static bool linear_is_right(unsigned int width, int n, uint32_t blocks, bool is_mv)
{
	static struct plain plain;
	uint32_t tokens = is_mv ? 1 : 3, cols = blocks * 16, t, r, i, *w;
	float before[48];
	bool holds;

	make_tile(width, n, blocks, 0, &plain);
	begin(1);
	for (i = 0; i < 3 * 4096; i++)
		chip(0, ACT(0))[i] = (uint8_t)draw();
	for (i = 0; i < 3 * 64; i++) {
		float x = (float)draw() / 16777216.0f;

		memcpy(chip(0, GLB(4 * i)), &x, 4);
	}
	for (i = 0; i < 48; i++) {
		float x = (float)draw() / 1048576.0f - 8.0f;

		memcpy(chip(0, GLB(8192 + 4 * i)), &x, 4);
	}
	load_tile(0, 1, 65536);
	if (is_mv) {
		ld->count = 0;
		load_tile(0, 1, 65536);
		tokens_of(ld, 0, BIT(MV));
		w = EMIT(mv, MV_LINEAR);
		SET(w, MV_LINEAR, SEG, 2);
		SET(w, MV_LINEAR, TABLE, 64);
		SET_SIZE(w, MV_LINEAR, STRIPS, 1);
		SET(w, MV_LINEAR, W, WGT(0));
		SET(w, MV_LINEAR, W_PITCH, 65536);
		SET(w, MV_LINEAR, IDX, IDX(1024));
		SET(w, MV_LINEAR, IDX_PITCH, 16384);
		SET(w, MV_LINEAR, A, ACT(0));
		SET(w, MV_LINEAR, A_SCALES, GLB(0));
		SET(w, MV_LINEAR, OUT, GLB(8192));
		tokens_of(mv, BIT(LD), 0);
	} else {
		mm_linear(1, 65536, tokens, 0);
	}
	memcpy(before, chip(0, GLB(8192)), sizeof(before));
	holds = !run();
	for (t = 0; t < tokens && holds; t++) {
		for (r = 0; r < 16 && holds; r++) {
			float want = naive_linear(&plain, r, cols,
						  (int8_t *)chip(0, ACT(4096 * t)),
						  (float *)chip(0, GLB(256 * t)),
						  before[16 * t + r]);

			holds = word_at(0, GLB(8192 + 64 * t + 4 * r)) == math_bits(want);
		}
	}
	if (!holds)
		printf("# width %u, n %d, blocks %u, fault %u\n", width, n, blocks,
		       result.fault.kind);
	return holds;
}

static void test_linear(void)
{
	static const unsigned int widths[] = { 2, 3, 4, 5, 8 };
	static const uint32_t blocks[] = { 1, 2, 3, 4, 7, 18, 128 };
	static const int ns[] = { -1, 0, 1, 2, 4, 8, 16 };
	static struct plain plain;
	uint32_t i, k, n;
	bool holds = true;

	for (i = 0; i < 5; i++)
		for (k = 0; k < 7; k++)
			for (n = 0; n < 7; n++)
				holds = holds && linear_is_right(widths[i], ns[n], blocks[k], false) &&
					linear_is_right(widths[i], ns[n], blocks[k], true);
	ok(holds, "linear of every width, sparsity and last group equals the plain loop");
	ok(linear_is_right(4, -1, 256, false) && linear_is_right(2, 8, 256, true),
	   "and so does a tile of 4096 columns");

	make_tile(8, -1, 1, 0, &plain);
	begin(1);
	memset(chip(0, ACT(0)), 0, 4096);
	chip(0, ACT(0))[3] = 0x80;	/* -128 */
	put_floats(GLB(0), (const float[]) { 0.5f }, 1);
	put_floats(GLB(4096), (const float[]) { -2.0f }, 1);
	for (i = 0; i < 16; i++)
		put_floats(GLB(4160 + 4 * i), (const float[]) { 100.0f }, 1);
	load_tile(0, 1, 65536);
	mm_linear(1, 65536, 1, FLM_MM_LINEAR_FIRST | FLM_MM_LINEAR_FACTOR | FLM_MM_LINEAR_BIAS);
	run();
	ok(!result.fault.kind && result.macs == 256 &&
	   float_at(0, GLB(8192 + 20)) == ((float)(-128 * plain.value[5][3]) * plain.scale[0][5]) *
					  0.5f * -2.0f + 100.0f,
	   "FIRST, FACTOR and BIAS do what they say");
}

static void test_format(void)
{
	static const struct {
		const char *what;
		uint32_t byte, value;
	} broken[] = {
		{ "a width of 6", 0, 6 }, { "a width of 1", 0, 1 }, { "an unknown flag", 1, 2 },
		{ "no blocks", 2, 0 }, { "a reserved word", 20, 1 },
		{ "masks of a dense tile", 12, 1 }, { "N of a dense tile", 8, 1 },
	};
	static struct plain plain;
	uint32_t i;

	for (i = 0; i < sizeof(broken) / sizeof(broken[0]); i++) {
		make_tile(8, -1, 4, 0, &plain);
		constants[64 + broken[i].byte] = (uint8_t)broken[i].value;
		begin(1);
		load_tile(0, 1, 65536);
		mm_linear(1, 65536, 1, 1);
		ok(run() == FLM_FAULT_FORMAT && result.fault.unit == FLM_UNIT_LD,
		   "%s in a strip row is fault FORMAT", broken[i].what);
	}
	make_tile(8, -1, 4, 0, &plain);
	constants[64 + 3] = 2;		/* 516 blocks */
	begin(1);
	load_tile(0, 1, 65536);
	mm_linear(1, 65536, 1, 1);
	ok(run() == FLM_FAULT_FORMAT, "more than 256 blocks are fault FORMAT");
	make_tile(8, -1, 4, 0, &plain);
	begin(1);
	load_tile(0, 1, 1024);
	mm_linear(1, 65536, 1, 1);
	ok(run() == FLM_FAULT_FORMAT, "a strip that does not fit its pitch is fault FORMAT");
	begin(1);
	load_tile(0, 1, 1024 + 64);
	mm_linear(1, 1024, 1, 1);
	ok(run() == FLM_FAULT_FORMAT && result.fault.unit == FLM_UNIT_MM,
	   "for MM too");
	begin(1);
	load_tile(0, 1, 65536);
	SET(ld->words, LD_TILE, DST, ACT(0));
	mm_linear(1, 65536, 1, 1);
	ok(run() == FLM_FAULT_BUFFER, "tiles go to the weight buffer only");
	begin(1);
	load_tile(0, 1, 65536);
	SET(ld->words, LD_TILE, DST, WGT(32));
	mm_linear(1, 65536, 1, 1);
	ok(run() == FLM_FAULT_BUFFER, "and are aligned to 64 bytes");
	make_tile(4, 4, 4, 0, &plain);
	constants[200000 / 64 * 64 + 2] = 3;
	begin(1);
	load_tile(0, 1, 65536);
	mm_linear(1, 65536, 1, 1);
	ok(run() == FLM_FAULT_FORMAT && result.fault.unit == FLM_UNIT_LD, "N = 3 is fault FORMAT");
	make_tile(4, 4, 4, 0, &plain);
	constants[210000 / 64 * 64] ^= 1;
	begin(1);
	load_tile(0, 1, 65536);
	mm_linear(1, 65536, 1, 1);
	ok(run() == FLM_FAULT_FORMAT && result.fault.unit == FLM_UNIT_MM,
	   "a mask that keeps not N a row is fault FORMAT when it is used");
	begin(1);
	load_tile(0, 1, 65536);
	SET(ld->words, LD_TILE, IDX, GLB(1024));
	mm_linear(1, 65536, 1, 1);
	ok(run() == FLM_FAULT_BUFFER, "N and masks go to the index buffer only");
}

static void test_dot(void)
{
	static uint8_t codes[4096 * 16];
	static int8_t a[4096], b[64 * 1024];
	static float scales[64][16], a_scales[64], out[2][64];
	static int32_t a_sums[64], sums[2][1024];
	const struct dot *plain = dot_get(0), *other;
	uint32_t i, n, cols, count;
	float acc[2][16];

	ok(!strcmp(plain->name, "plain"), "there is a plain dot product");
	for (n = 1; (other = dot_get(n)); n++) {
		bool holds = true;

		for (cols = 16; cols <= 4096; cols = cols * 5 / 4 / 16 * 16 + 16) {
			for (i = 0; i < sizeof(codes); i++)
				codes[i] = (uint8_t)draw();
			for (i = 0; i < 4096; i++)
				a[i] = i % 5 ? (int8_t)draw() : -128;
			for (i = 0; i < 64; i++) {
				a_sums[i] = (int32_t)(draw() % 8192) - 4096;
				a_scales[i] = (float)draw() / 1e6f;
			}
			for (i = 0; i < 1024; i++)
				scales[i / 16][i % 16] = math_half((uint16_t)(draw() & 0xbfff));
			for (i = 0; i < 16; i++)
				acc[0][i] = acc[1][i] = (float)draw();
			plain->strip(codes, cols, 128, a, a_sums, (uint8_t *)a_scales, scales, acc[0]);
			other->strip(codes, cols, 128, a, a_sums, (uint8_t *)a_scales, scales, acc[1]);
			holds = holds && !memcmp(acc[0], acc[1], sizeof(acc[0]));
		}
		for (cols = 1; cols <= 1024; cols = cols * 3 / 2 + 1) {
			count = 1 + draw() % 64;
			for (i = 0; i < sizeof(b); i++)
				b[i] = i % 3 ? (int8_t)draw() : -128;
			plain->keys(a, (uint8_t *)a_scales, b, 1024, (uint8_t *)scales, 4, cols, count,
				    out[0]);
			other->keys(a, (uint8_t *)a_scales, b, 1024, (uint8_t *)scales, 4, cols, count,
				    out[1]);
			plain->values(a, b, 1024, count, cols, sums[0]);
			other->values(a, b, 1024, count, cols, sums[1]);
			holds = holds && !memcmp(out[0], out[1], count * 4) &&
				!memcmp(sums[0], sums[1], cols * 4);
		}
		ok(holds, "%s gives the bits of the plain one", other->name);
	}
}

/* ---- Attention ---- */

static uint32_t *mm_qk(uint32_t dim, uint32_t positions, uint32_t tokens)
{
	uint32_t *w = EMIT(mm, MM_QK);

	SET(w, MM_QK, A, ACT(0));
	SET(w, MM_QK, A_PITCH, 256);
	SET(w, MM_QK, A_SCALES, GLB(0));
	SET(w, MM_QK, A_SCALE_PITCH, 16);
	SET(w, MM_QK, B, WGT(0));
	SET(w, MM_QK, B_PITCH, 256);
	SET(w, MM_QK, B_SCALES, GLB(4096));
	SET(w, MM_QK, B_SCALE_PITCH, 16);
	SET(w, MM_QK, DIM, dim);
	SET_SIZE(w, MM_QK, POSITIONS, positions);
	SET_SIZE(w, MM_QK, TOKENS, tokens);
	SET(w, MM_QK, OUT, GLB(16384));
	SET(w, MM_QK, OUT_PITCH, 1024);
	SET(w, MM_QK, MASKS, IDX(0));
	SET(w, MM_QK, MASK_PITCH, 1);
	return w;
}

static uint32_t *mm_pv(uint32_t dim, uint32_t positions, uint32_t tokens, uint32_t flags)
{
	uint32_t *w = EMIT(mm, MM_PV);

	SET_HEAD(w, FLAGS, flags);
	SET(w, MM_PV, A, ACT(0));
	SET(w, MM_PV, A_PITCH, 256);
	SET(w, MM_PV, A_SCALES, GLB(0));
	SET(w, MM_PV, A_SCALE_PITCH, 16);
	SET(w, MM_PV, B, WGT(0));
	SET(w, MM_PV, B_PITCH, 256);
	SET(w, MM_PV, DIM, dim);
	SET_SIZE(w, MM_PV, POSITIONS, positions);
	SET_SIZE(w, MM_PV, TOKENS, tokens);
	SET(w, MM_PV, OUT, GLB(16384));
	SET(w, MM_PV, OUT_PITCH, 1024);
	SET(w, MM_PV, MASKS, IDX(0));
	SET(w, MM_PV, MASK_PITCH, 1);
	return w;
}

static void fill_attention(void)
{
	uint32_t i;

	for (i = 0; i < 4096; i++)
		chip(0, ACT(0))[i] = (uint8_t)draw();
	for (i = 0; i < 65536; i++)
		chip(0, WGT(0))[i] = (uint8_t)draw();
	for (i = 0; i < 2048; i++)
		put_floats(GLB(4 * i), (const float[]) { (float)draw() / 1e8f }, 1);
}

static bool kept(uint32_t query, uint32_t key)
{
	return chip(0, IDX(query / 64))[key / 64 / 8] >> (key / 64 % 8) & 1;
}

static bool attention_is_right(uint32_t dim, bool is_masked)
{
	uint32_t t, p, d, g, *w;
	bool holds;

	begin(1);
	fill_attention();
	memcpy(chip(0, IDX(0)), "\x02\x05", 2);
	w = mm_qk(dim, 150, 3);
	if (is_masked)
		SET_HEAD(w, FLAGS, FLM_MM_QK_MASK);
	SET(w, MM_QK, QUERY, 62);
	SET(w, MM_QK, KEY, 10);
	holds = !run();
	for (t = 0; t < 3; t++) {
		for (p = 0; p < 150; p++) {
			float acc = 0.0f;

			for (g = 0; 64 * g < dim; g++) {
				int32_t sum = 0;
				volatile float x;

				for (d = 64 * g; d < dim && d < 64 * g + 64; d++)
					sum += (int8_t)chip(0, ACT(256 * t))[d] *
					       (int8_t)chip(0, WGT(256 * p))[d];
				x = (float)sum * float_at(0, GLB(4096 + 16 * p + 4 * g));
				x = x * float_at(0, GLB(16 * t + 4 * g));
				acc = acc + x;
			}
			if (is_masked && !kept(62 + t, 10 + p))
				acc = 0.0f;
			holds = holds && word_at(0, GLB(16384 + 1024 * t + 4 * p)) == math_bits(acc);
		}
	}
	begin(1);
	fill_attention();
	memcpy(chip(0, IDX(0)), "\x02\x05", 2);
	w = mm_pv(dim, 150, 3, FLM_MM_PV_FIRST | (is_masked ? FLM_MM_PV_MASK : 0));
	SET(w, MM_PV, QUERY, 62);
	holds = holds && !run();
	for (t = 0; t < 3; t++) {
		for (d = 0; d < dim; d++) {
			float acc = 0.0f;

			for (g = 0; 64 * g < 150; g++) {
				int32_t sum = 0;
				volatile float x;

				if (is_masked && !kept(62 + t, 64 * g))
					continue;
				for (p = 64 * g; p < 150 && p < 64 * g + 64; p++)
					sum += (int8_t)chip(0, ACT(256 * t))[p] *
					       (int8_t)chip(0, WGT(256 * p))[d];
				x = (float)sum * float_at(0, GLB(16 * t + 4 * g));
				acc = acc + x;
			}
			holds = holds && word_at(0, GLB(16384 + 1024 * t + 4 * d)) == math_bits(acc);
		}
	}
	return holds;
}

static void test_attention(void)
{
	static const uint32_t dims[] = { 8, 32, 48, 64, 80, 128 };
	bool holds = true;
	uint32_t i, *w;

	for (i = 0; i < 6; i++)
		holds = holds && attention_is_right(dims[i], false) && attention_is_right(dims[i], true);
	ok(holds, "qk and pv of every head size, masked or not, equal the plain loops");
	begin(1);
	w = mm_pv(8, 10, 1, FLM_MM_PV_MASK);
	SET(w, MM_PV, KEY, 32);
	ok(run() == FLM_FAULT_BOUND, "a masked pv starts at a multiple of 64");
	begin(1);
	w = mm_qk(8, 10, 1);
	SET_HEAD(w, FLAGS, FLM_MM_QK_MASK);
	SET(w, MM_QK, B, ACT(BUFFER - 1));
	ok(run() == FLM_FAULT_BUFFER, "an operand is checked as a whole, masked blocks too");
	begin(1);
	w = mm_qk(8, 10, 1);
	SET(w, MM_QK, QUERY, (uint32_t)-1);
	SET(w, MM_QK, MASKS, ACT(BUFFER));
	put_floats(GLB(16384), (const float[]) { 3.0f }, 1);
	ok(!run() && WORDS_ARE(GLB(16384), 0), "operands of a flag are not looked at without it");
	begin(1);
	w = mm_qk(8, 10, 1);
	SET_HEAD(w, FLAGS, FLM_MM_QK_MASK);
	SET(w, MM_QK, MASKS, ACT(BUFFER));
	ok(run() == FLM_FAULT_BUFFER, "with the flag they are");
	begin(1);
	w = mm_qk(8, 10, 2);
	SET(w, MM_QK, OUT_PITCH, 42);
	ok(run() == FLM_FAULT_BUFFER, "float rows at an odd pitch are fault BUFFER");
	begin(1);
	w = mm_qk(8, 10, 1);
	SET(w, MM_QK, OUT_PITCH, 42);
	ok(!run(), "unless there is one row");
}

/* ---- MISC ---- */

/* One operation: A at GLB(0), B at GLB(256), C at GLB(512), OUT at ACT(0), rows 64 bytes apart. */
static uint32_t *misc(unsigned int mode, uint32_t rows, uint32_t cols, uint32_t imm)
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

static void begin_misc(void)
{
	begin(1);
	put_floats(GLB(0), (const float[]) { 1.0f, -2.0f, 0.5f, 3.0f }, 4);
	put_floats(GLB(256), (const float[]) { 1.0f, 0.5f, 2.0f, -1.0f }, 4);
	put_floats(GLB(512), (const float[]) { 0.25f, 0.0f, -1.0f, 1.0f }, 4);
}

static void test_misc(void)
{
	const uint32_t nan = 0x7fc00000, infinity = 0x7f800000, eps = 0x3727c5ac;
	uint32_t *w, i;

	begin_misc();
	misc(FLM_MISC_ADD, 1, 4, 0);
	ok(!run() && WORDS_ARE(ACT(0), 0x40000000, 0xbfc00000, 0x40200000, 0x40000000, 0), "add");
	begin_misc();
	misc(FLM_MISC_MUL, 1, 4, 0);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, 0xbf800000, 0x3f800000, 0xc0400000, 0), "mul");
	begin_misc();
	misc(FLM_MISC_SCALE, 1, 4, 0xbf000000);
	ok(!run() && WORDS_ARE(ACT(0), 0xbf000000, 0x3f800000, 0xbe800000, 0xbfc00000, 0), "scale");
	begin_misc();
	memcpy(chip(0, GLB(4)), &(uint32_t) { 0xffc12345 }, 4);
	misc(FLM_MISC_COPY, 1, 3, 0);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, 0xffc12345, 0x3f000000, 0),
	   "copy leaves the bits of a NaN");
	sfu->count = 0;
	misc(FLM_MISC_SCALE, 1, 3, 0x3f800000);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, nan, 0x3f000000, 0),
	   "what computes writes one NaN");
	begin(1);
	SET(fill(ACT(4), 0xff812345), MISC, COLS, 1);
	ok(!run() && WORDS_ARE(ACT(0), 0, 0xff812345, 0), "fill writes its bits");
	begin_misc();
	memcpy(chip(0, GLB(8)), &(uint32_t) { 0xffc12345 }, 4);
	memcpy(chip(0, GLB(12)), &(uint32_t) { 0x80000000 }, 4);
	misc(FLM_MISC_RELU, 1, 4, 0);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, 0, nan, 0), "relu keeps NaN, -0 becomes +0");
	begin_misc();
	misc(FLM_MISC_SILU, 1, 4, 0);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f3b26a8, 0xbe7420a9, 0x3e9f597f, 0x4036e4ec), "silu");
	begin_misc();
	misc(FLM_MISC_GELU, 1, 4, 0);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f57585c, 0xbd39f7c6, 0x3eb1016d, 0x403fc468), "gelu");
	begin_misc();
	misc(FLM_MISC_RMSNORM, 1, 4, eps);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f07a1c5, 0xbf07a1c5, 0x3f07a1c5, 0xbfcb72a8), "rmsnorm");
	begin_misc();
	misc(FLM_MISC_LAYERNORM, 1, 4, eps);
	ok(!run() && WORDS_ARE(ACT(0), 0x3eebce4f, 0xbf3ca90b, 0xbf91f7b8, 0xbeaac54c), "layernorm");
	begin_misc();
	put_floats(GLB(256), (const float[]) { 0.5f, -1.0f, 0.25f, 2.0f }, 4);
	misc(FLM_MISC_ROPE, 1, 4, 4);
	ok(!run() && WORDS_ARE(ACT(0), 0x3ec00000, 0xc0800000, 0x3f000000, 0xc0e00000), "rope");
	begin_misc();
	misc(FLM_MISC_ROPE, 1, 6, 4);
	ok(run() == FLM_FAULT_FORMAT, "rope wants whole heads");

	begin_misc();
	w = misc(FLM_MISC_SOFTMAX, 1, 4, 0x3f000000);
	SET(w, MISC, POS, 1);
	put_floats(ACT(8), (const float[]) { 7.0f, 7.0f }, 2);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f514c8f, 0x3e3acdc1, 0, 0),
	   "softmax ends at the row's position");
	begin_misc();
	w = misc(FLM_MISC_SOFTMAX, 2, 4, 0x3f000000);
	SET(w, MISC, A_PITCH, 0);
	SET(w, MISC, POS, 1000);
	SET_HEAD(w, FLAGS, FLM_MISC_SAME);
	ok(!run() && WORDS_ARE(ACT(0), 0x3e58f07b, 0x3d419f74, 0x3e28f3da, 0x3f136cf3) &&
	   WORDS_ARE(ACT(64), 0x3e58f07b, 0x3d419f74, 0x3e28f3da, 0x3f136cf3), "or at its length");
	begin_misc();
	w = misc(FLM_MISC_SOFTMAX, 1, 4, 0x3f000000);
	SET(w, MISC, POS, 70);
	SET(w, MISC, B, IDX(0));
	SET(w, MISC, B_PITCH, 1);
	SET_HEAD(w, FLAGS, FLM_MISC_MASK);
	put_floats(ACT(0), (const float[]) { 7.0f, 7.0f, 7.0f, 7.0f }, 4);
	chip(0, IDX(0))[0] = 1;
	ok(!run() && WORDS_ARE(ACT(0), 0, 0, 0, 0), "a row without present positions gives +0");

	begin_misc();
	memset(chip(0, ACT(0)), 9, 32);
	misc(FLM_MISC_QUANT, 1, 4, 4);
	ok(!run() && !memcmp(chip(0, ACT(0)), "\x2a\xab\x15\x7f\0\0\0\0\0\0\0\0\0\0\0\0\x09", 17) &&
	   WORDS_ARE(GLB(512), 0x3cc18306), "quant rounds to nearest and pads with zeros");
	begin_misc();
	put_floats(GLB(8), (const float[]) { 0.0f, 1e-38f }, 2);
	misc(FLM_MISC_QUANT, 1, 5, 2);
	memcpy(chip(0, GLB(16)), &infinity, 4);
	ok(!run() && !memcmp(chip(0, ACT(0)), "\x40\x81\0\0\0", 5) &&
	   WORDS_ARE(GLB(512), 0x3c810204, 0, nan), "nothing has scale 0, infinity scale NaN");
	begin_misc();
	misc(FLM_MISC_QUANT, 1, 4, 0);
	ok(run() == FLM_FAULT_FORMAT, "a group of nothing is fault FORMAT");
	begin(1);
	memcpy(chip(0, GLB(0)), "\x01\xff\x80\x02\x03", 5);
	put_floats(GLB(512), (const float[]) { 0.5f, 2.0f, -1.0f }, 3);
	misc(FLM_MISC_DEQUANT, 1, 5, 2);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f000000, 0xbf000000, 0xc3800000, 0x40800000, 0xc0400000),
	   "dequant multiplies each group by its scale");
	begin(1);
	memcpy(chip(0, GLB(0)), "\x01\xff\x80\x02\x03", 5);
	memcpy(chip(0, GLB(512)), "\x00\x38\x00\x40\x00\xbc", 6);
	w = misc(FLM_MISC_DEQUANT, 1, 5, 2);
	SET_HEAD(w, FLAGS, FLM_MISC_HALF);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f000000, 0xbf000000, 0xc3800000, 0x40800000, 0xc0400000),
	   "and takes float16 scales");
	begin(1);
	for (i = 0; i < 16; i++)
		put_floats(GLB(4 * i), (const float[]) { (float)i }, 1);
	misc(FLM_MISC_HADAMARD, 1, 16, 16);
	ok(!run() && float_at(0, ACT(0)) == 30.0f && float_at(0, ACT(4)) == -2.0f &&
	   float_at(0, ACT(8)) == -4.0f && float_at(0, ACT(16)) == -8.0f &&
	   float_at(0, ACT(32)) == -16.0f && float_at(0, ACT(12)) == 0.0f, "hadamard of 0..15");
	begin(1);
	misc(FLM_MISC_HADAMARD, 1, 48, 48);
	ok(run() == FLM_FAULT_FORMAT, "a hadamard block is a power of two");

	begin_misc();
	memcpy(chip(0, GLB(4)), &nan, 4);
	put_floats(GLB(16), (const float[]) { 3.0f, -1.0f }, 2);
	w = misc(FLM_MISC_TOPK, 1, 6, 4);
	SET(w, MISC, POS, 100);
	ok(!run() && WORDS_ARE(ACT(0), 0x40400000, 103, 0x40400000, 104, 0x3f800000, 100,
			       0x3f000000, 102, 0), "topk sorts by logit, then by id");
	begin_misc();
	memcpy(chip(0, GLB(4)), &nan, 4);
	misc(FLM_MISC_TOPK, 1, 2, 4);
	ok(!run() && WORDS_ARE(ACT(0), 0x3f800000, 0, 0xff800000, 1, 0xff800000, 0xffffffff,
			       0xff800000, 0xffffffff), "NaN is -infinity, empty places follow");
	begin_misc();
	w = misc(FLM_MISC_TOPK, 1, 2, 4);
	SET(w, MISC, POS, 0xfffffffe - 1);
	term(sfu, FLM_MISC_POS_SLOT, FLM_CLASS_LENGTH, 0, 1);
	ok(run() == FLM_FAULT_BOUND, "an id of 2^32 - 1 is fault BOUND");

	begin_misc();
	w = misc(FLM_MISC_ADD, 2, 4, 0);
	SET(w, MISC, OUT, GLB(0));
	SET(w, MISC, B_PITCH, 64);
	put_floats(GLB(64), (const float[]) { 5.0f, 5.0f, 5.0f, 5.0f }, 4);
	put_floats(GLB(320), (const float[]) { -5.0f, 1.0f, 1.0f, 1.0f }, 4);
	ok(!run() && WORDS_ARE(GLB(0), 0x40000000, 0xbfc00000, 0x40200000, 0x40000000) &&
	   WORDS_ARE(GLB(64), 0, 0x40c00000, 0x40c00000, 0x40c00000), "an operation runs in place");
	begin_misc();
	w = misc(FLM_MISC_ADD, 1, 4, 0);
	SET(w, MISC, A, GLB(2));
	ok(run() == FLM_FAULT_BUFFER, "floats are aligned to four bytes");
}

/* ---- Sampling and exchange ---- */

static void put_candidates(unsigned int core, uint32_t address, const float *logits,
			   const uint32_t *ids, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++) {
		memcpy(chip(core, address + 8 * i), &logits[i], 4);
		memcpy(chip(core, address + 8 * i + 4), &ids[i], 4);
	}
}

static void begin_sample(uint32_t cores)
{
	unsigned int core;

	begin(cores);
	pass.lengths[FLM_LENGTH_SAMPLE] = 1;
	for (core = 0; core < 3; core++)
		put_candidates(core, GLB(0), (const float[]) { 3.0f, 2.0f, 1.0f },
			       (const uint32_t[]) { 77, 5, 0xffffffff }, 3);
}

static void test_sample(void)
{
	uint32_t *w, i, seen = 0;

	begin_sample(1);
	misc(FLM_MISC_SAMPLE, 1, 1, 3);
	ok(!run() && result.sampled && result.token == 77 && result.top_count == 2,
	   "sample takes the first candidate at temperature 0 and shows what it saw");
	for (i = 0; i < 64; i++) {
		pass.sampler.temperature = 2.0f;
		pass.sampler.seed = 0x123456789abcULL + i;
		exec_pass(exec, &pass, &result);
		seen |= result.token == 77 ? 1 : result.token == 5 ? 2 : 4;
	}
	ok(seen == 3, "and another one at another seed, never an absent one");
	begin_sample(1);
	fill(ACT(0), 1);
	ok(run() == FLM_FAULT_SAMPLE && result.fault.unit == FLM_UNIT_MISC,
	   "a pass that must sample and does not is fault SAMPLE");
	begin_sample(1);
	pass.lengths[FLM_LENGTH_SAMPLE] = 0;
	misc(FLM_MISC_SAMPLE, 1, 1, 3);
	ok(!run() && !result.sampled, "a pass that must not sample does not");
	begin_sample(1);
	w = misc(FLM_MISC_SAMPLE, 1, 1, 3);
	w[FLM_MISC_A_W] = GLB(8);
	misc(FLM_MISC_SAMPLE, 1, 1, 3);
	ok(!run() && result.token == 5, "only the first sample of a pass counts");
	begin_sample(1);
	put_candidates(0, GLB(0), (const float[]) { 3.0f }, (const uint32_t[]) { 0xffffffff }, 1);
	misc(FLM_MISC_SAMPLE, 1, 1, 3);
	ok(!run() && result.sampled && !result.token && !result.top_count,
	   "no candidate gives token 0");
	begin_sample(1);
	misc(FLM_MISC_SAMPLE, 2, 1, 3);
	ok(run() == FLM_FAULT_FORMAT, "sample has one row");
	begin_sample(7);
	misc(FLM_MISC_SAMPLE, 1, 1, 3);
	ok(!run() && result.token == 77, "all cores of a job sample together");
	begin_sample(7);
	put_candidates(2, GLB(0), (const float[]) { 3.5f }, (const uint32_t[]) { 77 }, 1);
	misc(FLM_MISC_SAMPLE, 1, 1, 3);
	ok(run() == FLM_FAULT_EXCHANGE && result.fault.core == 2,
	   "cores with different candidates are fault EXCHANGE");
}

static void test_exchange(void)
{
	static const uint32_t all[] = { 1, 2, 3, 4, 5, 6 };
	uint32_t *w, core, loop;
	bool holds = true;

	begin(7);
	for (core = 0; core < 3; core++) {
		memcpy(chip(core, ACT(0)), &all[2 * core], 8);
		pass.registers[core][0] = core;
	}
	w = EMIT(sys, SYS_GATHER);
	SET(w, SYS_GATHER, SRC, ACT(0));
	SET(w, SYS_GATHER, SRC_PITCH, 4);
	SET(w, SYS_GATHER, DST, GLB(16));
	SET(w, SYS_GATHER, DST_PITCH, 12);
	SET_SIZE(w, SYS_GATHER, ROWS, 2);
	SET_SIZE(w, SYS_GATHER, BYTES, 4);
	term(sys, FLM_SYS_GATHER_DST_SLOT, FLM_CLASS_CORE, 0, 4);
	run();
	for (core = 0; core < 3; core++)
		holds = holds && word_at(core, GLB(16)) == 1 && word_at(core, GLB(20)) == 3 &&
			word_at(core, GLB(24)) == 5 && word_at(core, GLB(28)) == 2 &&
			word_at(core, GLB(32)) == 4 && word_at(core, GLB(36)) == 6 &&
			!word_at(core, GLB(40));
	ok(!result.fault.kind && holds, "gather brings each core's rows to every core");

	begin(7);
	for (core = 0; core < 3; core++) {
		float x[3] = { (float)core, -(float)core, core == 1 ? math_float(0xffc00001) : 1.0f };

		memcpy(chip(core, ACT(0)), x, 12);
	}
	w = EMIT(sys, SYS_MAX);
	SET(w, SYS_MAX, SRC, ACT(0));
	SET_SIZE(w, SYS_MAX, COUNT, 3);
	holds = !run();
	for (core = 0; core < 3; core++)
		holds = holds && float_at(core, ACT(0)) == 2.0f && word_at(core, ACT(4)) == 0x80000000 &&
			word_at(core, ACT(8)) == 0x7fc00000;
	ok(holds, "allmax keeps the greatest, the first of equals, and NaN");

	begin(5);
	for (core = 0; core < 3; core++)
		memcpy(chip(core, ACT(0)), (const uint32_t[]) { 0x80000000, core }, 8);
	w = EMIT(sys, SYS_SUM);
	SET(w, SYS_SUM, SRC, ACT(0));
	SET_SIZE(w, SYS_SUM, COUNT, 2);
	ok(!run() && !word_at(0, ACT(0)) && word_at(2, ACT(4)) == 2 && word_at(1, ACT(4)) == 1,
	   "allsum wraps, and cores of other jobs take no part");

	begin(3);
	put_candidates(0, ACT(0), (const float[]) { 5.0f, 1.0f }, (const uint32_t[]) { 9, 1 }, 2);
	put_candidates(1, ACT(0), (const float[]) { 5.0f, 2.0f },
		       (const uint32_t[]) { 3, 0xffffffff }, 2);
	w = EMIT(sys, SYS_TOPK);
	SET(w, SYS_TOPK, SRC, ACT(0));
	SET(w, SYS_TOPK, COUNT, 2);
	ok(!run() && WORDS_ARE(ACT(0), 0x40a00000, 3, 0x40a00000, 9) &&
	   word_at(1, ACT(4)) == 3 && word_at(1, ACT(12)) == 9, "alltopk keeps the best of all");

	begin(7);
	for (core = 0; core < 3; core++)
		pass.registers[core][1] = 3 + (core == 1);
	loop = open_loop(sys, FLM_CLASS_CORE, 1, 0, 8);
	EMIT(sys, SYS_BARRIER);
	close_loop(sys, loop);
	ok(run() == FLM_FAULT_EXCHANGE && !result.fault.core &&
	   result.fault.unit == FLM_UNIT_SYS && result.fault.word == sys->count - 1,
	   "a core that has ended when another waits is fault EXCHANGE");
	begin(3);
	pass.registers[1][0] = 1;
	loop = open_loop(sys, FLM_CLASS_CORE, 0, 0, 1);
	EMIT(sys, SYS_BARRIER);
	close_loop(sys, loop);
	EMIT(sys, SYS_BARRIER);
	ok(run() == FLM_FAULT_EXCHANGE, "cores at different barriers are fault EXCHANGE");
	begin(3);
	pass.registers[1][0] = 1;
	w = EMIT(sys, SYS_SUM);
	SET(w, SYS_SUM, COUNT_MAX, 4);
	term(sys, FLM_SYS_SUM_COUNT_SLOT, FLM_CLASS_CORE, 0, 1);
	ok(run() == FLM_FAULT_EXCHANGE, "sums of different lengths are fault EXCHANGE");
	begin(3);
	pass.registers[1][0] = 1;
	loop = open_loop(sys, FLM_CLASS_CORE, 0, 0, 1);
	EMIT(sys, SYS_SYNC);
	tokens_of(sys, BIT(MISC), 0);
	close_loop(sys, loop);
	EMIT(sys, SYS_BARRIER);
	ok(run() == FLM_FAULT_DEADLOCK && !result.fault.core && result.fault.unit == FLM_UNIT_SYS,
	   "cores that starve while others meet are fault DEADLOCK of the lowest");
}

/* ---- Passes ---- */

static void *set_abort(void *flag)
{
	usleep(50000);
	atomic_store((atomic_bool *)flag, true);
	return NULL;
}

static void test_passes(void)
{
	static const struct exec_chip four = { 4, { BUFFER, 2 * BUFFER, BUFFER, BUFFER } };
	uint32_t threads, core, trip, loop, *w;
	uint32_t want[4] = { 0 };
	struct exec *saved = exec;
	atomic_bool stop = false;
	pthread_t thread;
	bool holds = true;

	begin(1);
	fill(ACT(BUFFER - 4), 5);
	fill(GLB(128), 6);
	run();
	exec_clear(exec, 2);
	ok(word_at(0, ACT(BUFFER - 4)) == 5, "clearing another core leaves this one");
	exec_clear(exec, 1);
	ok(!word_at(0, ACT(BUFFER - 4)) && !word_at(0, GLB(128)), "clearing a core leaves zeros");

	begin(1);
	pass.watchdog = 3;
	fill(ACT(0), 1);
	fill(ACT(0), 1);
	ok(!run() && result.instructions == 3, "as many instructions as allowed may run");
	pass.watchdog = 2;
	exec_pass(exec, &pass, &result);
	ok(result.fault.kind == FLM_FAULT_WATCHDOG && result.fault.word == 2 * FLM_WORDS_MISC,
	   "one more is fault WATCHDOG");

	begin(1);
	pass.watchdog = UINT64_MAX;
	pass.abort = &stop;
	loop = open_loop(sfu, FLM_CLASS_CONST, 0, 0xffffff, 0xffffff);
	trip = open_loop(sfu, FLM_CLASS_CONST, 0, 0xffffff, 0xffffff);
	close_loop(sfu, trip);
	close_loop(sfu, loop);
	pthread_create(&thread, NULL, set_abort, &stop);
	run();
	pthread_join(thread, NULL);
	ok(result.aborted, "a pass can be aborted inside a loop");
	stop = false;
	begin(1);
	pass.abort = &stop;
	w = load(2, 0, ACT(0), 0xffffff, 32768);
	SET(w, LD_LINEAR, SRC_PITCH, 0);
	pthread_create(&thread, NULL, set_abort, &stop);
	run();
	pthread_join(thread, NULL);
	ok(result.aborted, "and inside a long instruction");

	/* A sum over four cores, many times, whatever number of threads serves them. */
	for (threads = 1; threads <= 5; threads++) {
		if (exec_new(&four, threads, &exec)) {
			holds = false;
			break;
		}
		begin(15);
		for (core = 0; core < 4; core++)
			memcpy(chip(core, ACT(0)), &(uint32_t) { core + 1 }, 4);
		loop = open_loop(sys, FLM_CLASS_CONST, 0, 200, 200);
		w = EMIT(sys, SYS_SUM);
		SET(w, SYS_SUM, SRC, ACT(0));
		SET_SIZE(w, SYS_SUM, COUNT, 1);
		close_loop(sys, loop);
		run();
		for (core = 0; core < 4; core++) {
			if (threads == 1)
				want[core] = word_at(core, ACT(0));
			holds = holds && word_at(core, ACT(0)) == want[core];
		}
		holds = holds && !result.fault.kind && result.instructions == 4 * 402;
		exec_free(exec);
	}
	exec = saved;
	/* 10 after the first, then times 4 modulo 2^32: nothing is left after sixteen. */
	ok(holds && !want[0], "results do not depend on the number of threads");
	exec_free(NULL);
	ok(exec_new(&(struct exec_chip) { .cores = 9 }, 1, &exec) < 0, "nine cores are refused");
	exec = saved;
}

int main(void)
{
	unsigned int core;

	if (exec_new(&machine, 1, &exec))
		return 1;
	for (core = 0; core < 3; core++) {
		flat.segments[core][1].bytes = memory[core];
		flat.segments[core][1].length = MEMORY;
		flat.segments[core][1].rights = FLM_RIGHT_R | FLM_RIGHT_W;
		flat.segments[core][2].bytes = constants;
		flat.segments[core][2].length = MEMORY;
		flat.segments[core][2].rights = FLM_RIGHT_R;
	}
	test_numbers();
	test_loops();
	test_tokens();
	test_encoding();
	test_rows();
	test_kv();
	test_logits();
	test_linear();
	test_format();
	test_dot();
	test_attention();
	test_misc();
	test_sample();
	test_exchange();
	test_passes();
	exec_free(exec);
	return done_testing();
}
