// SPDX-License-Identifier: MIT
/*
 * LD and ST: rows, gather, pages of KV, logits, and where they refuse. Tiles are in mpe.c.
 */
#include "tests/emulator/machine.h"

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
	ok(run() == FLM_FAULT_BUFFER && !result.fault.segment && !result.fault.offset,
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
	   result.work.bytes_read == 2 * 64 * 12, "a masked ld.kv loads the kept blocks only");

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
	w = EMIT(st, ST_LOGITS);
	SET_SIZE(w, ST_LOGITS, ROWS, 1);
	SET(w, ST_LOGITS, COL, 3);
	SET_SIZE(w, ST_LOGITS, COLS, 2);
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
