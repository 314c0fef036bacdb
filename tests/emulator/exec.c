// SPDX-License-Identifier: MIT
/*
 * What holds for all instructions: encoding, loops, tokens, exchange, sampling, and what a pass
 * promises to the device. Links with the objects of emulator/core/exec.h only (see machine.h).
 */
#include <pthread.h>
#include <unistd.h>

#include "tests/emulator/machine.h"

/* A word of ACT is 1; two loops around nothing; the token is one of three candidates. */
#define FILL "misc.fill out=act:0 rows=1/1 cols=1/1 imm=1"
#define ENDLESS "loop sub=0xffffff bound=0xffffff\nloop sub=0xffffff bound=0xffffff\nend\nend"
#define THRICE(text) text text text
#define SAMPLE "misc.sample a=glb:0 a_pitch=64 rows=1/1 cols=1/1 imm=3"

static void test_loops(void)
{
	begin(1);
	program("@misc\nloop sub=3 bound=3\nloop sub=2 bound=2\n"
		FILL " out=act:0+8*loop0+4*loop1 imm=7\nend\nend");
	ok(!run() && WORDS_ARE(ACT(0), 7, 7, 7, 7, 7, 7, 0), "two loops address 3 x 2 words");
	ok(result.instructions == 1 + 3 * (1 + 2 * 2 + 1) + 1 &&
	   result.by_insn[FLM_INSN_MISC] == 6 && result.core_instructions[0] == 20,
	   "LOOP and END are counted");

	/* ceil((37 - 5) / 8) = 4, floor((39 - 5) / 8) = 4, register below SUB: 0 */
	begin(1);
	pass.lengths[9] = 38;
	pass.registers[0][15] = 3;
	program("@misc\n"
		"loop class=1 index=9 shift=3 ceil=1 sub=5 bound=5\n"
		FILL " out=act:0+4*loop0 imm=1\nend\n"
		"loop class=1 index=9 shift=3 sub=5 bound=5\n"
		FILL " out=act:64+4*loop0 imm=2\nend\n"
		"loop class=2 index=15 sub=4 bound=0\n"
		FILL " out=act:128 imm=3\nend");
	ok(!run() && WORDS_ARE(ACT(0), 1, 1, 1, 1, 1, 0) && WORDS_ARE(ACT(64), 2, 2, 2, 2, 0) &&
	   WORDS_ARE(ACT(128), 0), "counts round up or down, and zero skips the body");

	begin(1);
	pass.lengths[1] = 3;
	program("@misc\n" FILL " out=act:4 cols=0+1*len1/2 imm=9\n"
		FILL " out=act:%d cols=-3+1*len1/1 imm=9", BUFFER * 2);
	ok(!run() && WORDS_ARE(ACT(0), 0, 9, 9, 0),
	   "a size is clamped, and a size of zero checks no address");

	begin(1);
	program("@misc\nloop class=1 index=9 bound=2\nend");
	pass.lengths[9] = 3;
	ok(run() == FLM_FAULT_BOUND && result.fault.unit == FLM_UNIT_MISC && !result.fault.word,
	   "a count above its bound is fault BOUND");

	begin(1);
	program("@misc\n" ENDLESS);
	ok(run() == FLM_FAULT_WATCHDOG && result.instructions == 1000000,
	   "an endless loop ends by the watchdog");

	begin(1);
	program("@misc\nloop sub=1 bound=1 body=%d\n" FILL "\nend\nend", FLM_WORDS_MISC + 2);
	ok(run() == FLM_FAULT_OPCODE && result.fault.word == FLM_WORDS_LOOP + FLM_WORDS_MISC,
	   "a BODY that names another END is fault OPCODE there");
}

static void test_tokens(void)
{
	uint32_t i;

	/* LD of memory, MISC doubles it, ST: ordered by tokens only. */
	begin(1);
	memcpy(memory[0], (const float[]) { 1.5f, -2.0f }, 8);
	program("@ld\nld seg=1 dst=act:32 rows=1/1 bytes=8/8 release=misc\n"
		"@misc\n"
		"misc.add a=act:32 b=act:32 out=act:32 rows=1/1 cols=2/2 wait=ld release=st\n"
		"@st\nst seg=1 off=100 src=act:32 rows=1/1 bytes=8/8 wait=misc");
	ok(!run() && !memcmp(memory[0] + 100, (const float[]) { 3.0f, -4.0f }, 8),
	   "load, add, store in the order of their tokens");
	ok(result.work.bytes_read == 8 && result.work.bytes_written == 8, "bytes are counted");

	begin(1);
	program("@misc\n" FILL " wait=sys\n@sys\nsync wait=misc release=misc");
	ok(run() == FLM_FAULT_DEADLOCK && result.fault.unit == FLM_UNIT_MISC &&
	   !result.fault.word, "units that wait for each other are fault DEADLOCK");

	begin(1);
	program("@misc\n" FILL " release=sys\n@sys\nsync");
	ok(run() == FLM_FAULT_TOKEN && result.fault.unit == FLM_UNIT_MISC,
	   "a token that nobody took is fault TOKEN of its sender");

	/* 100 tokens through a queue of 63: the sender waits for room, never overflows. */
	begin(1);
	program("@misc\nloop sub=100 bound=100\n" FILL " out=glb:0 imm=0 release=sys\nend\n"
		"@sys\nloop sub=100 bound=100\nsync wait=misc\nend");
	ok(!run(), "a full queue holds its sender back");

	begin(1);
	for (i = 0; i < 64; i++)
		program("@misc\n" FILL " imm=%u release=sys", i);
	program("@sys\nsync");
	ok(run() == FLM_FAULT_DEADLOCK && result.fault.word == 63 * FLM_WORDS_MISC,
	   "a sender that finds no room forever is a deadlock");
}

/* A sync stands in every stream: a token goes round all units, then back the other way. */
static void test_sync(void)
{
	static const struct {
		unsigned int field_hi, field_lo, value;
		const char *what;
	} bad[] = {
		{ FLM_HEAD_FLAGS_HI, FLM_HEAD_FLAGS_LO, 1, "a flag" },
		{ FLM_HEAD_FLAGS_HI, FLM_HEAD_FLAGS_LO, 8, "the fourth flag" },
		{ FLM_HEAD_TERMS_HI, FLM_HEAD_TERMS_LO, 1, "a term" },
		{ FLM_HEAD_MODE_HI, FLM_HEAD_MODE_LO, 6, "a mode that no row has" },
	};
	unsigned int u, i, held = 0;

	begin(1);
	program("@ld\nsync release=st\nsync wait=st\n"
		"@st\nsync wait=ld release=mm\nsync wait=mm release=ld\n"
		"@mm\nsync wait=st release=mv\nsync wait=mv release=st\n"
		"@mv\nsync wait=mm release=misc\nsync wait=misc release=mm\n"
		"@misc\nsync wait=mv release=sys\nsync wait=sys release=mv\n"
		"@sys\nsync wait=misc\nsync release=misc");
	ok(!run() && result.by_insn[FLM_INSN_SYNC] == 12 && result.instructions == 18,
	   "a token goes through the syncs of all units, and back");
	begin(1);
	program("@ld\nsync wait=sys\n@sys\nsync wait=ld release=ld");
	ok(run() == FLM_FAULT_DEADLOCK && result.fault.unit == FLM_UNIT_LD,
	   "syncs that wait for each other are fault DEADLOCK");
	for (i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		for (held = u = 0; u < FLM_UNITS; u++) {
			begin(1);
			flm_put(EMIT(&streams[u], SYNC), 0, bad[i].field_hi, bad[i].field_lo,
				bad[i].value);
			streams[u].words[streams[u].count] = 0;
			streams[u].words[streams[u].count + 1] = 0;
			streams[u].count += 2;
			held += run() == FLM_FAULT_OPCODE && result.fault.unit == u &&
				!result.fault.word;
		}
		ok(held == FLM_UNITS, "a sync with %s is refused in all %u streams", bad[i].what,
		   held);
	}
	for (held = u = 0; u < FLM_UNITS; u++) {
		begin(1);
		EMIT(&streams[u], SYNC);
		tokens_of(&streams[u], u % 2 << u, !(u % 2) << u);
		held += run() == FLM_FAULT_OPCODE && result.fault.unit == u;
	}
	ok(held == FLM_UNITS, "one that names its own unit is, in %u", held);
	for (held = u = 0; u < FLM_UNITS - 1; u++) {
		begin(1);
		EMIT(&streams[u], SYS_BARRIER);
		held += run() == FLM_FAULT_OPCODE && result.fault.unit == u;
	}
	ok(held == FLM_UNITS - 1, "a barrier is refused in all streams but that of SYS");
}

/* A valid instruction; then, where no text can say what is wrong, one of its words is changed. */
static void test_encoding(void)
{
	uint32_t i, *const fill = sfu->words, *const fill_term = fill + FLM_WORDS_MISC;
	bool holds = true;

	begin(1);
	sfu->words[0] = 0x80000000;
	sfu->count = 1;
	ok(run() == FLM_FAULT_OPCODE, "an unknown operation is refused");
	begin(1);
	program("@misc\n" FILL);
	SET_HEAD(fill, MODE, FLM_MISC_SAMPLE + 1);
	ok(run() == FLM_FAULT_OPCODE, "an unknown mode is refused");
	begin(1);
	program("@ld\nst");
	ok(run() == FLM_FAULT_OPCODE && result.fault.unit == FLM_UNIT_LD,
	   "an instruction in another unit's stream is refused");
	begin(1);
	program("@ld\nld");
	ld->words[1] = 1u << 8;
	ok(run() == FLM_FAULT_OPCODE, "a reserved bit is refused");
	begin(1);
	program("@ld\nld");
	SET_HEAD(ld->words, FLAGS, 1);
	ok(run() == FLM_FAULT_OPCODE, "a flag that does not exist is refused");
	begin(1);
	program("@misc\n" FILL " wait=misc");
	ok(run() == FLM_FAULT_OPCODE, "a token from the unit itself is refused");
	begin(1);
	program("@misc\n" FILL);
	SET(fill, MISC, OUT, 0x40000000);
	ok(run() == FLM_FAULT_OPCODE, "a fifth buffer is refused");
	begin(1);
	program("@misc\n" FILL " cols=1/0x1000000");
	ok(run() == FLM_FAULT_OPCODE, "a maximum beyond 2^24 - 1 is refused");
	begin(1);
	program("@misc\n" FILL);
	SET(fill, MISC, A, 4);
	ok(run() == FLM_FAULT_OPCODE, "an operand that the operation does not use is refused");
	begin(1);
	program("@misc\n" FILL " out=act:0+0*len0");
	SET_TERM(fill_term, OPERAND, FLM_MISC_POS_NUMBER);
	ok(run() == FLM_FAULT_OPCODE, "a term of such an operand is refused");
	begin(1);
	program("@misc\n" FILL " out=act:0+0*len0");
	SET_TERM(fill_term, OPERAND, 7);
	ok(run() == FLM_FAULT_OPCODE, "a term of a slot that does not exist is refused");
	for (i = 0; i < 8; i++) {
		begin(1);
		program("@misc\n" FILL " out=act:0+0*len%d", i != FLM_CLASS_LOOP);
		SET_TERM(fill_term, CLASS, i);
		holds = holds && (run() == FLM_FAULT_OPCODE) ==
				 (i != FLM_CLASS_LENGTH && i != FLM_CLASS_CORE);
	}
	ok(holds, "of the eight classes a term takes registers, and loops only inside them");
	begin(1);
	program("@misc\n" FILL " out=act:0+0*len0");
	SET_TERM(fill_term, INDEX, 16);
	ok(run() == FLM_FAULT_OPCODE, "a seventeenth register is refused");
	begin(1);
	program("@misc\n" FILL);
	SET_HEAD(fill, TERMS, 1);
	ok(run() == FLM_FAULT_OPCODE, "an instruction that reaches beyond its stream is refused");
	begin(1);
	program("@sys\nalltopk count=1025");
	ok(run() == FLM_FAULT_OPCODE, "a count above 1024 candidates is refused");
	begin(1);
	program("@mm\nmm.qk dim=0");
	ok(run() == FLM_FAULT_OPCODE, "a dim of zero is refused");
	begin(1);
	program("@mm\nmm tokens=0/129");
	ok(run() == FLM_FAULT_OPCODE, "more than 128 tokens are refused");
	begin(1);
	program("@misc\n" THRICE(THRICE("loop sub=1 bound=1\n")) THRICE(THRICE("end\n")));
	ok(run() == FLM_FAULT_OPCODE && result.fault.word == 8 * FLM_WORDS_LOOP,
	   "a ninth open loop is refused");
	begin(1);
	program("@ld\nld seg=1 off=-1 rows=1/1 bytes=1/1");
	ok(run() == FLM_FAULT_BOUND, "a negative offset is fault BOUND");
	begin(1);
	pass.lengths[3] = 0x1000000;
	ok(run() == FLM_FAULT_BOUND, "a register beyond 2^24 - 1 is fault BOUND");
}

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
	uint32_t i, seen = 0;

	begin_sample(1);
	program("@misc\n" SAMPLE);
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
	program("@misc\n" FILL);
	ok(run() == FLM_FAULT_SAMPLE && result.fault.unit == FLM_UNIT_MISC,
	   "a pass that must sample and does not is fault SAMPLE");
	begin_sample(1);
	pass.lengths[FLM_LENGTH_SAMPLE] = 0;
	program("@misc\n" SAMPLE);
	ok(!run() && !result.sampled, "a pass that must not sample does not");
	begin_sample(1);
	program("@misc\n" SAMPLE " a=glb:8\n" SAMPLE);
	ok(!run() && result.token == 5, "only the first sample of a pass counts");
	begin_sample(1);
	put_candidates(0, GLB(0), (const float[]) { 3.0f }, (const uint32_t[]) { 0xffffffff }, 1);
	program("@misc\n" SAMPLE);
	ok(!run() && result.sampled && !result.token && !result.top_count,
	   "no candidate gives token 0");
	begin_sample(1);
	program("@misc\n" SAMPLE " rows=2/2");
	ok(run() == FLM_FAULT_FORMAT, "sample has one row");
	begin_sample(7);
	program("@misc\n" SAMPLE);
	ok(!run() && result.token == 77, "all cores of a job sample together");
	begin_sample(7);
	put_candidates(2, GLB(0), (const float[]) { 3.5f }, (const uint32_t[]) { 77 }, 1);
	program("@misc\n" SAMPLE);
	ok(run() == FLM_FAULT_EXCHANGE && result.fault.core == 2,
	   "cores with different candidates are fault EXCHANGE");
}

static void test_exchange(void)
{
	static const uint32_t all[] = { 1, 2, 3, 4, 5, 6 };
	uint32_t core;
	bool holds = true;

	begin(7);
	for (core = 0; core < 3; core++) {
		memcpy(chip(core, ACT(0)), &all[2 * core], 8);
		pass.registers[core][0] = core;
	}
	program("@sys\ngather src=act:0 src_pitch=4 dst=glb:16+4*core0 dst_pitch=12 rows=2/2 "
		"bytes=4/4");
	run();
	for (core = 0; core < 3; core++)
		holds = holds && word_at(core, GLB(16)) == 1 && word_at(core, GLB(20)) == 3 &&
			word_at(core, GLB(24)) == 5 && word_at(core, GLB(28)) == 2 &&
			word_at(core, GLB(32)) == 4 && word_at(core, GLB(36)) == 6 &&
			!word_at(core, GLB(40));
	ok(!result.fault.kind && holds, "gather brings each core's rows to every core");

	begin(7);
	for (core = 0; core < 3; core++) {
		float x[3] = { (float)core, -(float)core,
			       core == 1 ? math_float(0xffc00001) : 1.0f };

		memcpy(chip(core, ACT(0)), x, 12);
	}
	program("@sys\nallmax src=act:0 count=3/3");
	holds = !run();
	for (core = 0; core < 3; core++)
		holds = holds && float_at(core, ACT(0)) == 2.0f &&
			word_at(core, ACT(4)) == 0x80000000 && word_at(core, ACT(8)) == 0x7fc00000;
	ok(holds, "allmax keeps the greatest, the first of equals, and NaN");

	begin(5);
	for (core = 0; core < 3; core++)
		memcpy(chip(core, ACT(0)), (const uint32_t[]) { 0x80000000, core }, 8);
	program("@sys\nallsum src=act:0 count=2/2");
	ok(!run() && !word_at(0, ACT(0)) && word_at(2, ACT(4)) == 2 && word_at(1, ACT(4)) == 1,
	   "allsum wraps, and cores of other jobs take no part");

	begin(3);
	put_candidates(0, ACT(0), (const float[]) { 5.0f, 1.0f }, (const uint32_t[]) { 9, 1 }, 2);
	put_candidates(1, ACT(0), (const float[]) { 5.0f, 2.0f },
		       (const uint32_t[]) { 3, 0xffffffff }, 2);
	program("@sys\nalltopk src=act:0 count=2");
	ok(!run() && WORDS_ARE(ACT(0), 0x40a00000, 3, 0x40a00000, 9) &&
	   word_at(1, ACT(4)) == 3 && word_at(1, ACT(12)) == 9, "alltopk keeps the best of all");

	begin(7);
	for (core = 0; core < 3; core++)
		pass.registers[core][1] = 3 + (core == 1);
	program("@sys\nloop class=2 index=1 bound=8\nbarrier\nend");
	ok(run() == FLM_FAULT_EXCHANGE && !result.fault.core &&
	   result.fault.unit == FLM_UNIT_SYS && result.fault.word == sys->count - 1,
	   "a core that has ended when another waits is fault EXCHANGE");
	begin(3);
	pass.registers[1][0] = 1;
	program("@sys\nloop class=2 index=0 bound=1\nbarrier\nend\nbarrier");
	ok(run() == FLM_FAULT_EXCHANGE, "cores at different barriers are fault EXCHANGE");
	begin(3);
	for (core = 0; core < 2; core++) {
		pass.registers[core][0] = 2 - core;
		pass.registers[core][1] = 1 + core;
	}
	program("@sys\nloop class=2 index=0 bound=2\nloop class=2 index=1 bound=2\nbarrier\nend\n"
		"end");
	ok(run() == FLM_FAULT_EXCHANGE, "cores at one barrier in different turns of its loops too");
	begin(3);
	pass.registers[1][0] = 1;
	program("@sys\nallsum src=act:0 count=0+1*core0/4");
	ok(run() == FLM_FAULT_EXCHANGE, "sums of different lengths are fault EXCHANGE");
	begin(3);
	pass.registers[1][0] = 1;
	program("@sys\nloop class=2 index=0 bound=1\nsync wait=misc\nend\nbarrier");
	ok(run() == FLM_FAULT_DEADLOCK && !result.fault.core && result.fault.unit == FLM_UNIT_SYS,
	   "cores that starve while others meet are fault DEADLOCK of the lowest");
}

static void *set_abort(void *flag)
{
	usleep(50000);
	atomic_store((atomic_bool *)flag, true);
	return NULL;
}

static void test_passes(void)
{
	static const struct exec_chip four = { 4, { BUFFER, 2 * BUFFER, BUFFER, BUFFER } };
	uint32_t threads, core;
	uint32_t want[4] = { 0 };
	struct exec *saved = exec;
	atomic_bool stop = false;
	pthread_t thread;
	bool holds = true;

	begin(1);
	program("@misc\n" FILL " out=act:%d imm=5\n" FILL " out=glb:128 imm=6", BUFFER - 4);
	run();
	exec_clear(exec, 2);
	ok(word_at(0, ACT(BUFFER - 4)) == 5, "clearing another core leaves this one");
	exec_clear(exec, 1);
	ok(!word_at(0, ACT(BUFFER - 4)) && !word_at(0, GLB(128)), "clearing a core leaves zeros");

	begin(1);
	pass.watchdog = 3;
	program("@misc\n" FILL "\n" FILL);
	ok(!run() && result.instructions == 3, "as many instructions as allowed may run");
	pass.watchdog = 2;
	exec_pass(exec, &pass, &result);
	ok(result.fault.kind == FLM_FAULT_WATCHDOG && result.fault.word == 2 * FLM_WORDS_MISC,
	   "one more is fault WATCHDOG");

	begin(1);
	pass.watchdog = UINT64_MAX;
	pass.abort = &stop;
	program("@misc\n" ENDLESS);
	pthread_create(&thread, NULL, set_abort, &stop);
	run();
	pthread_join(thread, NULL);
	ok(result.aborted, "a pass can be aborted inside a loop");
	stop = false;
	begin(1);
	pass.abort = &stop;
	program("@ld\nld seg=2 dst=act:0 rows=0xffffff/0xffffff bytes=32768/32768");
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
		program("@sys\nloop sub=200 bound=200\nallsum src=act:0 count=1/1\nend");
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
	if (!machine_open())
		return 1;
	test_loops();
	test_tokens();
	test_sync();
	test_encoding();
	test_sample();
	test_exchange();
	test_passes();
	return machine_close();
}
