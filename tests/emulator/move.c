// SPDX-License-Identifier: MIT
/*
 * LD and ST: rows, gather, pages of KV, logits, and where they refuse. Tiles are in mpe.c.
 */
#include "tests/emulator/machine.h"

#define LD "@ld\nld seg=2 dst=act:0 rows=1/1 bytes=1/1"

static void test_rows(void)
{
	uint32_t i;

	for (i = 0; i < MEMORY; i++)
		constants[i] = (uint8_t)(i * 7 + (i >> 8));
	begin(1);
	program("@ld\nld seg=2 off=10 src_pitch=100 dst=act:5 dst_pitch=6 rows=3/3 bytes=4/4");
	ok(!run() && !memcmp(chip(0, ACT(5)), constants + 10, 4) &&
	   !memcmp(chip(0, ACT(11)), constants + 110, 4) &&
	   !memcmp(chip(0, ACT(17)), constants + 210, 4) && !chip(0, ACT(9))[0],
	   "ld moves rows at a pitch");
	begin(1);
	program("@ld\nld seg=2 off=64 src_pitch=32 dst=act:0 dst_pitch=32 rows=16/16 bytes=32/32");
	ok(!run() && !memcmp(chip(0, ACT(0)), constants + 64, 512), "and contiguous ones");
	begin(1);
	program("@ld\nld seg=2 off=%d src_pitch=4 dst=act:0 dst_pitch=8 rows=2/2 bytes=4/4",
		MEMORY - 6);
	ok(run() == FLM_FAULT_SEGMENT && result.fault.segment == 2 &&
	   result.fault.offset == MEMORY - 2 && result.fault.unit == FLM_UNIT_LD &&
	   !memcmp(chip(0, ACT(0)), constants + MEMORY - 6, 4),
	   "a row beyond the segment is fault SEGMENT, the rows before it stay");
	begin(1);
	program(LD " seg=3");
	ok(run() == FLM_FAULT_SEGMENT, "a segment that is not bound is fault SEGMENT");
	begin(1);
	program(LD " dst=act:%d bytes=4/4", BUFFER - 3);
	ok(run() == FLM_FAULT_BUFFER && !result.fault.segment && !result.fault.offset,
	   "a byte beyond the buffer is fault BUFFER");
	begin(1);
	program(LD " dst=act:%d bytes=4/4", BUFFER - 4);
	ok(!run(), "the last bytes of a buffer are usable");
	begin(1);
	program(LD " rows=0xffffff/0xffffff bytes=0xffffff/0xffffff dst_pitch=0xffffffff");
	ok(run() == FLM_FAULT_BUFFER, "a huge product does not wrap around");
	begin(1);
	program(LD " dst=act:0-1*len0");
	pass.lengths[0] = 1;
	ok(run() == FLM_FAULT_BUFFER, "an address below the buffer is fault BUFFER");

	begin(1);
	memcpy(chip(0, GLB(7)), "abcdefgh", 8);
	program("@st\nst seg=1 off=50 dst_pitch=3 src=glb:7 src_pitch=5 rows=2/2 bytes=3/3");
	ok(!run() && !memcmp(memory[0] + 50, "abcfgh", 6), "st moves rows the other way");
	begin(1);
	program("@st\nst seg=2 src=act:0 rows=1/1 bytes=3/3");
	ok(run() == FLM_FAULT_RIGHTS, "a store to a read-only segment is fault RIGHTS");

	for (i = 0; i < 2; i++) {
		begin(1);
		pass.lengths[FLM_LENGTH_TOKENS] = 3;
		pass.tokens = (const uint32_t[]) { 5, 0, 99 };
		program("@ld\nld.gather seg=2 off=1000 src_pitch=16 limit=%u index=idx:0 "
			"rows=3/3 bytes=8/8 dst=act:0 dst_pitch=8", 100 - i);
		if (!i)
			ok(!run() && !memcmp(chip(0, ACT(0)), constants + 1080, 8) &&
			   !memcmp(chip(0, ACT(8)), constants + 1000, 8) &&
			   !memcmp(chip(0, ACT(16)), constants + 1000 + 99 * 16, 8),
			   "ld.gather takes rows by the ids of the pass");
		else
			ok(run() == FLM_FAULT_INDEX, "an index at the limit is fault INDEX");
	}
}

/* Pages of 4096 bytes, eight of values and four of scales a position; a test adds which. */
#define KV "seg=1 page=4096 values=256 value_bytes=8 scales=2048 scale_bytes=4"
#define LD_KV "@ld\nld.kv " KV " dst=wgt:0 dst_scales=act:0 queries=1/1"
#define ST_KV "@st\nst.kv " KV " src=glb:0 src_pitch=16 src_scales=glb:1024 scale_pitch=4"

static void begin_kv(void)
{
	static const uint32_t pages[] = { 5, 2, 7 };

	begin(1);
	pass.pages = pages;
	pass.page_count = 3;
}

static void test_kv(void)
{
	uint32_t i, p;
	bool holds = true;

	for (i = 0; i < MEMORY; i++)
		memory[0][i] = (uint8_t)(i * 13 + (i >> 7));
	begin_kv();
	program(LD_KV " first=60 count=70/70");
	ok(!run(), "ld.kv goes through the page list");
	for (i = 0; i < 70; i++) {
		uint8_t *page = memory[0] + 4096 * pass.pages[(60 + i) / 64];

		p = (60 + i) % 64;
		holds = holds && !memcmp(chip(0, WGT(8 * i)), page + 256 + 8 * p, 8) &&
			!memcmp(chip(0, ACT(4 * i)), page + 2048 + 4 * p, 4);
	}
	ok(holds, "and finds values and scales of each position");
	begin_kv();
	program(LD_KV " first=128 count=65/65");
	ok(run() == FLM_FAULT_INDEX, "a position beyond the page list is fault INDEX");
	begin_kv();
	program(LD_KV " first=63 count=1/1 scales=%d", 4096 - 63 * 4 - 3);
	ok(run() == FLM_FAULT_INDEX, "a position that leaves the page is fault INDEX");
	begin_kv();
	program(LD_KV " +mask count=192/192 masks=idx:0 mask_pitch=1 query=64 queries=65/65");
	chip(0, IDX(0))[0] = 7;		/* query block 0 does not take part */
	chip(0, IDX(0))[1] = 1;
	chip(0, IDX(0))[2] = 4;
	ok(!run() && !memcmp(chip(0, WGT(0)), memory[0] + 4096 * 5 + 256, 512) &&
	   !memcmp(chip(0, WGT(1024)), memory[0] + 4096 * 7 + 256, 512) &&
	   result.work.bytes_read == 2 * 64 * 12, "a masked ld.kv loads the kept blocks only");

	begin_kv();
	pass.kv_start = 63;
	for (i = 0; i < 2048; i++)
		chip(0, GLB(0))[i] = (uint8_t)(i * 3);
	program(ST_KV " first=63 count=2/2");
	ok(!run() && !memcmp(memory[0] + 4096 * 5 + 256 + 63 * 8, chip(0, GLB(0)), 8) &&
	   !memcmp(memory[0] + 4096 * 2 + 256, chip(0, GLB(16)), 8) &&
	   !memcmp(memory[0] + 4096 * 2 + 2048, chip(0, GLB(1028)), 4),
	   "st.kv writes positions into their pages");
	begin_kv();
	pass.kv_start = 64;
	program(ST_KV " first=63 count=2/2");
	ok(run() == FLM_FAULT_RIGHTS, "a shared position is read-only");
}

static void test_logits(void)
{
	uint32_t i, mode;

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
		program("@st\nst.logits row=1 rows=4/4 col=2 cols=2/2 src=act:0 src_pitch=16");
		run();
		if (mode == FLM_LOGITS_NONE)
			ok(!result.fault.kind && !result.work.bytes_written, "no logits, no store");
		else if (mode == FLM_LOGITS_EVERY)
			ok(!result.fault.kind && result.work.bytes_written == 24 &&
			   !memcmp(memory[0] + 48, (const float[]) { 1, 11 }, 8) &&
			   !memcmp(memory[0] + 64, (const float[]) { 2, 12 }, 8),
			   "logits of the wanted positions go to their rows");
		else
			ok(!result.fault.kind && result.work.bytes_written == 8 &&
			   !memcmp(memory[0] + 80, (const float[]) { 3, 13 }, 8),
			   "the last position's logits go to its row");
	}
	begin(1);
	pass.lengths[FLM_LENGTH_TOKENS] = 1;
	pass.logits.wanted = FLM_LOGITS_LAST;
	pass.logits.segment = 1;
	pass.logits.count = 1;
	pass.logits.stride = 16;
	program("@st\nst.logits rows=1/1 col=3 cols=2/2 src=act:0");
	ok(!run() && !result.work.bytes_written, "a chunk inside the prompt has no last position");
	pass.logits.ends_prompt = 1;
	exec_pass(exec, &pass, &result);
	ok(result.fault.kind == FLM_FAULT_INDEX, "a column beyond the stride is fault INDEX");
}

int main(void)
{
	if (!machine_open())
		return 1;
	test_rows();
	test_kv();
	test_logits();
	return machine_close();
}
