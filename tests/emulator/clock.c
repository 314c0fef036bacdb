// SPDX-License-Identifier: MIT
/*
 * Card time, by the rule of SPEC.md ("Time"): what passes of known work cost, and that a long pass
 * tells of its cost while it runs, which is how a driver finds out that one is hung. tiny has 100
 * MHz, 256 MACs a cycle in MM, 64 in MV, and 32 bytes a cycle and core.
 */
#include <stdio.h>
#include <unistd.h>

#include "tests/emulator/bench.h"
#include "tests/tap.h"

static void costs(struct bench *b)
{
	static const struct {
		const char *what, *program;
		unsigned int cores;
		uint64_t cycles;
	} passes[] = {
		{ "a pass of nothing: 1 cycle", "", 1, 1 },
		{ "an access of 65,536 bytes: 2,048 + 1",
		  "@ld\nld seg=1 dst=act:0 rows=1/1 bytes=65536/65536", 1, 2050 },
		{ "1,024 accesses of a byte: 32 + 1,024",
		  "@ld\nld seg=1 dst=act:0 src_pitch=2 dst_pitch=1 rows=1024/1024 bytes=1/1", 1,
		  1057 },
		{ "4 rows of 64 elements: 16",
		  "@misc\nmisc.fill out=act:0 out_pitch=256 rows=4/4 cols=64/64", 1, 17 },
		{ "the same on two cores at once: 16",
		  "@misc\nmisc.fill out=act:0 out_pitch=256 rows=4/4 cols=64/64", 2, 17 },
		{ "MM, 4 x 64 x 32 MACs and 4 rows: 32 + 4",
		  "@mm\nmm.qk a=act:0 a_scales=act:4096 b=act:8192 b_scales=act:16384 out=glb:0 "
		  "a_pitch=32 a_scale_pitch=4 b_pitch=32 b_scale_pitch=4 out_pitch=256 dim=32 "
		  "positions=64/64 tokens=4/4", 1, 37 },
		{ "MV, 64 x 32 MACs and a row: 32 + 1",
		  "@mv\nmv.qk a=act:0 a_scales=act:4096 b=act:8192 b_scales=act:16384 out=glb:0 "
		  "b_pitch=32 b_scale_pitch=4 dim=32 positions=64/64", 1, 34 },
		{ "a barrier: 1", "@sys\nbarrier", 2, 2 },
		{ "4 rows of 100 bytes from each of two cores to both: 2 x 4 x 2 + 1",
		  "@sys\ngather src=act:0 src_pitch=128 dst=act:8192 dst_pitch=128 rows=4/4 "
		  "bytes=100/100", 2, 18 },
		{ "the greatest of 100 values, 400 bytes: 7 + 1",
		  "@sys\nallmax src=act:0 count=100/100", 2, 9 },
		{ "sums of 100 values: the same", "@sys\nallsum src=act:0 count=100/100", 2, 9 },
		{ "the best of 10 candidates, 80 bytes: 2 + 1",
		  "@sys\nalltopk src=act:0 count=10", 2, 4 },
	};
	struct rig *rigs[] = { bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0),
			       bench_rig(b, FLM_QUEUE_COMPUTE, 3, 0) };

	for (size_t i = 0; i < sizeof(passes) / sizeof(passes[0]); i++) {
		struct rig *r = rigs[passes[i].cores - 1];
		const struct flm_done *done;

		bench_program(r, passes[i].cores, passes[i].program);
		bench_job(r, 1);
		done = bench_run(b, r);
		ok(le32toh(done->status) == FLM_STATUS_DONE &&
		   le64toh(done->cycles) == passes[i].cycles, "%s (status %u, fault %u, %llu)",
		   passes[i].what, le32toh(done->status), done->fault,
		   (unsigned long long)le64toh(done->cycles));
	}
}

static uint64_t busy_us(const struct rig *r)
{
	return le64toh(__atomic_load_n(&r->status->busy_us, __ATOMIC_ACQUIRE));
}

/* Long enough for many heartbeats, each of which tells a part. */
static void parts(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0);
	uint64_t seen = 0, cycles, seen_cycles = 0, queue_cycles = 0, card_cycles = 0;
	unsigned int changes = 0, cycle_changes = 0;
	struct flm_slot slot;

	bench_program(r, 1, "@misc\nmisc.silu a=act:0 out=act:0 rows=4000/4000 cols=16000/16000");
	bench_job(r, 1);
	slot = bench_slot(r);
	bench_post(b, r, &slot);
	while (!le32toh(__atomic_load_n(&r->status->head, __ATOMIC_ACQUIRE))) {
		if (!le64toh(r->status->points) && busy_us(r) > seen) {
			uint64_t told = le64toh(__atomic_load_n(&r->status->cycles,
								__ATOMIC_ACQUIRE));
			uint64_t of_queue = reg(b, FLM_REG_QUEUE_CYCLES, 8);
			uint64_t of_card = reg(b, FLM_REG_CYCLES, 8);

			seen = busy_us(r);
			changes++;
			cycle_changes += told > seen_cycles && of_queue > queue_cycles &&
					 of_card > card_cycles;
			seen_cycles = told;
			queue_cycles = of_queue;
			card_cycles = of_card;
		}
		usleep(5000);
	}
	cycles = le64toh(r->done[0].cycles);
	ok(cycles == 4000001, "4,000 rows of 16,000 elements are 1,000 cycles each (%llu)",
	   (unsigned long long)cycles);
	ok(changes >= 2, "busy_us went on %u times before there was a point", changes);
	ok(cycle_changes >= 2, "so did the cycles of the page, of the queue and of the card (%u)",
	   cycle_changes);
	UNTIL(le64toh(__atomic_load_n(&r->status->cycles, __ATOMIC_ACQUIRE)) == cycles);
	ok(le64toh(r->status->cycles) == cycles && reg(b, FLM_REG_QUEUE_CYCLES, 8) == cycles,
	   "in the end each is counted once");
	ok(seen <= cycles / 100 + 1 && busy_us(r) == cycles / 100 + 1,
	   "its parts add up to the whole: %llu us", (unsigned long long)busy_us(r));
}

struct endless {
	struct bench *b;
	struct rig *rig;
	uint32_t cores;
};

/* RESET in the middle of a job, then the job anew for the next try. */
static double reset_midway(void *opaque)
{
	struct endless *e = opaque;
	struct flm_slot slot;
	double took;

	UNTIL(busy_us(e->rig) > 0);
	took = bench_reset(e->b, e->rig);
	bench_enable(e->b, e->rig, FLM_QUEUE_COMPUTE, e->cores, 1, 0);
	slot = bench_slot(e->rig);
	bench_post(e->b, e->rig, &slot);
	return took;
}

/* One instruction that takes hours; 2 s of card time without a point is the driver's verdict. */
static void hangs(struct bench *b)
{
	struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, 1, 0);
	struct endless endless = { b, r, 1 };
	double start = seconds(), took;
	struct flm_slot slot;
	bool is_soon;

	bench_program(r, 1, "@misc\nmisc.fill out=act:0 rows=0xffffff/0xffffff cols=65536/65536");
	bench_job(r, 1);
	slot = bench_slot(r);
	bench_post(b, r, &slot);
	while (busy_us(r) < 2000000 && seconds() < start + 300)
		usleep(5000);
	ok(busy_us(r) >= 2000000 && !le64toh(r->status->points),
	   "one long instruction is busy for 2 s of card time without a point");
	is_soon = comes_soon(reset_midway, &endless, &took);
	ok(is_soon, "RESET ends it in the middle, after %.1f ms", took * 1e3);
}

/*
 * Instructions that are one row, one token or one exchange and yet take long, so many times: they
 * tell what they cost and stop in their middle, as all others. u280, for the size of its buffers.
 */
static const struct {
	const char *what, *program;
	unsigned int cores;
	unsigned int times;	/* for its cost; RESET meets a thousand of them */
} lasting[] = {
	{ "mv.pv over 8,388,608 positions",
	  "@mv\nloop sub=%u bound=%u body=14\nmv.pv a=act:0 a_scales=glb:0 b=wgt:0 b_pitch=0 "
	  "dim=1024 positions=8388608/8388608 out=glb:700000\nend", 1, 1 },
	{ "mv.qk over 2,097,152 positions",
	  "@mv\nloop sub=%u bound=%u body=16\nmv.qk a=wgt:0 a_scales=wgt:2048 b=wgt:4096 "
	  "b_pitch=0 b_scales=wgt:8192 b_scale_pitch=0 dim=1024 positions=2097152/2097152 "
	  "out=act:0\nend", 1, 1000 },
	{ "a gather of 1,023 times 8 MiB",
	  "@sys\nloop sub=%u bound=%u body=10\ngather src=act:0 src_pitch=0 dst=act:0 dst_pitch=0 "
	  "rows=1023/1023 bytes=8388608/8388608\nend", 1, 1 },
	{ "the greatest of 2,097,152 values in three cores",
	  "@sys\nloop sub=%u bound=%u body=5\nallmax src=act:0 count=2097152/2097152\nend", 3,
	  1000 },
	{ "the 1,024 best of 2,097,152 logits that ascend",
	  "@ld\nld seg=2 dst=act:0 rows=1/1 bytes=8388608/8388608 release=misc\n"
	  "@misc\nmisc.copy a=act:0 out=act:0 rows=1/1 cols=1/1 wait=ld\n"
	  "loop sub=%u bound=%u body=21\nmisc.topk a=act:0 out=glb:0 rows=1000/1000 "
	  "cols=2097152/2097152 imm=1024\nend", 1, 1000 },
};

/* Whether one try sees busy_us move while the job has reached no point. The queue is left empty. */
static bool tells_midway(struct bench *b, struct rig *r, uint32_t cores)
{
	struct flm_slot slot = bench_slot(r);
	bool is_told;

	bench_post(b, r, &slot);
	UNTIL(busy_us(r) || le32toh(__atomic_load_n(&r->status->head, __ATOMIC_ACQUIRE)));
	is_told = busy_us(r) && !le64toh(__atomic_load_n(&r->status->points, __ATOMIC_ACQUIRE));
	bench_reset(b, r);
	bench_enable(b, r, FLM_QUEUE_COMPUTE, cores, 1, 0);
	return is_told;
}

static void lasts(struct bench *b)
{
	float *ascending = bench_alloc(b, 8 << 20);

	for (unsigned int i = 0; i < 2 << 20; i++)
		ascending[i] = i;
	for (size_t i = 0; i < sizeof(lasting) / sizeof(lasting[0]); i++) {
		uint32_t cores = (1u << lasting[i].cores) - 1;
		struct rig *r = bench_rig(b, FLM_QUEUE_COMPUTE, cores, 0);
		struct endless endless = { b, r, cores };
		bool is_told = false, is_soon;
		struct flm_slot slot;
		char program[512];
		double took;

		bench_bind(b, r, 2, FLM_REGION_HOST, bus(b, ascending), 8 << 20, FLM_RIGHT_R);
		bench_job(r, 1);
		snprintf(program, sizeof(program), lasting[i].program, lasting[i].times,
			 lasting[i].times);
		bench_program(r, lasting[i].cores, program);
		for (unsigned int try = 0; try < TRIES && !is_told; try++)
			is_told = tells_midway(b, r, cores);
		ok(is_told, "%s: its cost is told before it ends", lasting[i].what);
		snprintf(program, sizeof(program), lasting[i].program, 1000, 1000);
		bench_program(r, lasting[i].cores, program);
		slot = bench_slot(r);
		bench_post(b, r, &slot);
		is_soon = comes_soon(reset_midway, &endless, &took);
		ok(is_soon, "RESET ends it in the middle, after %.1f ms", took * 1e3);
		bench_reset(b, r);
	}
}

int main(void)
{
	struct bench b;

	bench_open(&b, "tiny");
	costs(&b);
	parts(&b);
	hangs(&b);
	bench_close(&b);
	bench_open(&b, "u280");
	lasts(&b);
	bench_close(&b);
	return done_testing();
}
