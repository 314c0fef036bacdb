// SPDX-License-Identifier: MIT
/*
 * Hostile programs: each breaks one rule, is told which, and disturbs nobody. The one idea: a
 * victim in another context computes beside every one of them, on a core that the attacker wants
 * too, and its bytes are compared each time.
 */
#include "tests/emulator/bench.h"
#include "tests/tap.h"

/*
 * One hostile program after the other in one context; a victim in another computes all the while.
 */
static void hostile_programs(struct bench *b)
{
	static const struct {
		const char *program;
		unsigned int fault;
		const char *what;
	} hostile[] = {
		{ "@ld\nld seg=9 dst=act:0 rows=1/1 bytes=4/4", FLM_FAULT_SEGMENT,
		  "a segment that is not bound" },
		{ "@ld\nld seg=2 off=65533 dst=act:0 rows=1/1 bytes=4/4", FLM_FAULT_SEGMENT,
		  "a read beyond a segment" },
		{ "@ld\nld seg=0 dst=act:0 rows=1/1 bytes=4/4", FLM_FAULT_RIGHTS,
		  "a read of its own program" },
		{ "@st\nst seg=3 src=act:0 rows=1/1 bytes=4/4", FLM_FAULT_RIGHTS,
		  "a write where it may only read" },
		{ "@ld\nld seg=4 off=2097150 dst=act:0 rows=1/1 bytes=4/4", FLM_FAULT_BLOCK,
		  "a read across the end of card memory" },
		{ "@st\nst seg=4 off=2097150 src=act:0 rows=1/1 bytes=4/4", FLM_FAULT_BLOCK,
		  "a write across it" },
		{ "@ld\nld seg=4 off=3145728 dst=act:0 rows=1/1 bytes=4/4", FLM_FAULT_BLOCK,
		  "a read behind it" },
		{ "@st\nst seg=4 off=3145728 src=act:0 rows=1/1 bytes=4/4", FLM_FAULT_BLOCK,
		  "a write behind it" },
		{ "@ld\nld seg=6 dst=act:0 rows=1/1 bytes=4/4", FLM_FAULT_BLOCK,
		  "a table row that begins inside a block of card memory" },
		{ "@ld\nld seg=5 dst=act:0 rows=1/1 bytes=4/4", FLM_FAULT_DMA,
		  "a table row that names host memory not lent" },
		{ "@ld\nld seg=2 dst=act:262141 rows=1/1 bytes=4/4", FLM_FAULT_BUFFER,
		  "an on-chip address at the edge" },
		{ "@misc\nbarrier wait=ld", FLM_FAULT_OPCODE,
		  "a barrier in the stream of the SFU" },
		{ "@misc\nloop sub=2 bound=2 body=2\nbarrier\nend", FLM_FAULT_OPCODE,
		  "the same in a loop" },
		{ "@misc\n" PROGRAM_ENDLESS, FLM_FAULT_WATCHDOG, "an endless loop there" },
		{ "@ld\nsync wait=sys", FLM_FAULT_DEADLOCK,
		  "a unit that waits for one without a stream" },
		{ "@sys\nloop sub=2 bound=2 body=9\nloop sub=2 bound=2 body=2\nsync\nend\nend",
		  FLM_FAULT_OPCODE, "a loop whose body does not end where it says" },
		{ "@sys\n" PROGRAM_ENDLESS, FLM_FAULT_WATCHDOG, "an endless loop" },
		{ "@ld\nloop sub=0xffffff bound=0xffffff body=7\nloop sub=0xffffff bound=0xffffff "
		  "body=1\nend\nend", FLM_FAULT_WATCHDOG, "an endless loop around nothing" },
		{ "@sys\nsync wait=ld\n@ld\nld rows=0/0 wait=sys", FLM_FAULT_DEADLOCK,
		  "two units that wait for each other" },
		{ "@sys\nsync release=ld", FLM_FAULT_TOKEN, "a token that nobody takes" },
		{ "@sys\nloop sub=5 bound=4 body=2\nsync\nend", FLM_FAULT_BOUND,
		  "a count above its bound" },
		{ "@ld\nld.gather seg=2 limit=0 index=idx:0 dst=act:0 rows=1/1 bytes=4/4",
		  FLM_FAULT_INDEX, "an index at its limit" },
		{ "@ld\nld.tile seg=2 table=64 strips=1/1 dst=wgt:0 idx=idx:0 pitch=64",
		  FLM_FAULT_FORMAT, "a strip row of zeros" },
		{ "@sys\nloop class=2 sub=0 bound=1 body=2\nbarrier\nend", FLM_FAULT_EXCHANGE,
		  "a core that does not come to a meeting" },
	};
	struct rig *victim = bench_rig(b, FLM_QUEUE_COMPUTE, 2, 0);
	struct rig *attacker = bench_rig(b, FLM_QUEUE_COMPUTE, 3, 100000);
	uint8_t *secret = bench_alloc(b, 65536), *out = bench_alloc(b, 65536);
	uint8_t *loot = bench_alloc(b, 65536), *data = bench_alloc(b, 65536);
	unsigned int exact = 0;
	const struct flm_done *done;

	for (int i = 0; i < 65536; i++)
		secret[i] = 1 + i % 255;
	bench_bind(b, victim, 2, FLM_REGION_HOST, bus(b, secret), 65536, FLM_RIGHT_R);
	bench_bind(b, victim, 3, FLM_REGION_HOST, bus(b, out), 65536, FLM_RIGHT_W);
	bench_program(victim, 1, "@ld\nld seg=2 dst=act:0 rows=1/1 bytes=65536/65536 release=st\n"
		      "@st\nst seg=3 src=act:0 rows=1/1 bytes=65536/65536 wait=ld");
	bench_job(victim, 1);
	bench_bind(b, attacker, 2, FLM_REGION_HOST, bus(b, loot), 65536, FLM_RIGHT_R | FLM_RIGHT_W);
	bench_bind(b, attacker, 3, FLM_REGION_HOST, bus(b, data), 65536, FLM_RIGHT_R);
	/* Of the 32 MiB of a core's memory the last two. */
	bench_bind(b, attacker, 4, FLM_REGION_HBM, 30 << 20, 4 << 20, FLM_RIGHT_R | FLM_RIGHT_W);
	bench_bind(b, attacker, 6, FLM_REGION_HBM, 29 << 20, 1 << 20, FLM_RIGHT_R);
	bench_bind(b, attacker, 5, FLM_REGION_HOST, BASE + HOST_BYTES, 4096, FLM_RIGHT_R);
	bench_job(attacker, 1);
	for (size_t i = 0; i < sizeof(hostile) / sizeof(hostile[0]); i++) {
		struct flm_slot slot;

		bench_program(attacker, 2, hostile[i].program);
		memset(out, 0, 65536);
		slot = bench_slot(victim);
		bench_post(b, victim, &slot);
		done = bench_run(b, attacker);
		ok(done->fault == hostile[i].fault, "%s is fault %u (got status %u, fault %u)",
		   hostile[i].what, hostile[i].fault, le32toh(done->status), done->fault);
		done = bench_wait(victim, victim->tail);
		exact += done && le32toh(done->status) == FLM_STATUS_DONE &&
			 !memcmp(out, secret, 65536);
	}
	ok(exact == sizeof(hostile) / sizeof(hostile[0]),
	   "beside each of them the victim's job was exact (%u)", exact);
}

int main(void)
{
	struct bench b;

	bench_open(&b, "tiny");
	hostile_programs(&b);
	bench_close(&b);
	return done_testing();
}
