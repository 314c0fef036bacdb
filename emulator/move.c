// SPDX-License-Identifier: MIT
/*
 * LD and ST. All of them are rows of bytes between a segment and on-chip memory; they differ in
 * where the rows lie: at a pitch, at indices, in tiles, in pages, or where the job wants logits.
 */
#include <endian.h>
#include <string.h>

#include "emulator/core.h"
#include "emulator/expand.h"

struct rows {
	uint64_t segment, offset, memory_pitch;
	uint64_t chip_pitch;
	uint64_t rows, bytes;
};

/* Rows that are contiguous on both sides are one. */
static void join(struct rows *rows)
{
	if (rows->memory_pitch != rows->bytes || rows->chip_pitch != rows->bytes)
		return;
	rows->bytes *= rows->rows;
	rows->rows = 1;
}

static int load_rows(struct core *core, struct rows rows, const struct place *place)
{
	uint8_t *to = core_out(core, place, 0, rows.rows, rows.chip_pitch, rows.bytes, 1);
	uint64_t r;

	if (!to)
		return -1;
	join(&rows);
	for (r = 0; r < rows.rows; r++) {
		if (core_is_aborted(core) ||
		    core_load(core, rows.segment, core_offset(rows.offset, r, rows.memory_pitch),
			      to + r * rows.chip_pitch, rows.bytes))
			return -1;
	}
	return 0;
}

static int store_rows(struct core *core, struct rows rows, const struct place *place)
{
	const uint8_t *from = core_in(core, place, 0, rows.rows, rows.chip_pitch, rows.bytes, 1);
	uint64_t r;

	if (!from)
		return -1;
	join(&rows);
	for (r = 0; r < rows.rows; r++) {
		if (core_is_aborted(core) ||
		    core_store(core, rows.segment, core_offset(rows.offset, r, rows.memory_pitch),
			       from + r * rows.chip_pitch, rows.bytes))
			return -1;
	}
	return 0;
}

static int load_gather(struct core *core, const struct insn *insn)
{
	uint64_t rows = VALUE(insn, LD_GATHER, ROWS), bytes = VALUE(insn, LD_GATHER, BYTES);
	uint64_t pitch = VALUE(insn, LD_GATHER, DST_PITCH), r;
	const uint8_t *indices = core_in(core, PLACE(insn, LD_GATHER, INDEX), 0, 1, 0, 4 * rows, 4);
	uint8_t *to;

	if (!indices)
		return -1;
	to = core_out(core, PLACE(insn, LD_GATHER, DST), 0, rows, pitch, bytes, 1);
	if (!to)
		return -1;
	for (r = 0; r < rows; r++) {
		uint32_t index;

		if (core_is_aborted(core))
			return -1;
		memcpy(&index, indices + 4 * r, sizeof(index));
		index = le32toh(index);
		if (index >= VALUE(insn, LD_GATHER, LIMIT))
			return core_fault(core, FLM_FAULT_INDEX);
		if (core_load(core, VALUE(insn, LD_GATHER, SEG),
			      core_offset(VALUE(insn, LD_GATHER, OFF), index,
					  VALUE(insn, LD_GATHER, SRC_PITCH)),
			      to + r * pitch, bytes))
			return -1;
	}
	return 0;
}

/* N bytes and masks of a sparse tile; they also say how many bytes its codes take. */
static int load_tile_index(struct core *core, const struct insn *insn, uint64_t s,
			   struct tile *tile)
{
	uint64_t segment = VALUE(insn, LD_TILE, SEG), pitch = VALUE(insn, LD_TILE, IDX_PITCH);
	uint64_t n_bytes = expand_pad(tile->blocks), mask_bytes;
	uint8_t n[FLM_TILE_COLS / FLM_STRIP], *to;

	if (PLACE(insn, LD_TILE, IDX)->buffer != FLM_BUFFER_IDX)
		return core_fault(core, FLM_FAULT_BUFFER);
	if (core_load(core, segment, tile->n, n, n_bytes))
		return -1;
	if (expand_measure(tile, n))
		return core_fault(core, FLM_FAULT_FORMAT);
	mask_bytes = expand_pad(tile->mask_bytes);
	if (n_bytes + mask_bytes > pitch)
		return core_fault(core, FLM_FAULT_FORMAT);
	to = core_out(core, PLACE(insn, LD_TILE, IDX), s * pitch, 1, 0, n_bytes + mask_bytes,
		      EXPAND_ALIGN);
	if (!to)
		return -1;
	memcpy(to, n, n_bytes);
	return core_load(core, segment, tile->masks, to + n_bytes, mask_bytes);
}

static int load_tile(struct core *core, const struct insn *insn)
{
	uint64_t segment = VALUE(insn, LD_TILE, SEG), pitch = VALUE(insn, LD_TILE, PITCH), s;

	if (PLACE(insn, LD_TILE, DST)->buffer != FLM_BUFFER_WGT)
		return core_fault(core, FLM_FAULT_BUFFER);
	for (s = 0; s < VALUE(insn, LD_TILE, STRIPS); s++) {
		uint64_t code_bytes, scale_bytes;
		struct tile tile;
		uint8_t *to;

		if (core_is_aborted(core) ||
		    expand_fetch(core, segment, VALUE(insn, LD_TILE, TABLE),
				 VALUE(insn, LD_TILE, ROW) + s * VALUE(insn, LD_TILE, STEP), &tile))
			return -1;
		if (tile.is_sparse && load_tile_index(core, insn, s, &tile))
			return -1;
		code_bytes = expand_pad(tile.code_bytes);
		scale_bytes = expand_pad(tile.scale_bytes);
		if (code_bytes + scale_bytes > pitch)
			return core_fault(core, FLM_FAULT_FORMAT);
		to = core_out(core, PLACE(insn, LD_TILE, DST), s * pitch, 1, 0,
			      code_bytes + scale_bytes, EXPAND_ALIGN);
		if (!to || core_load(core, segment, tile.codes, to, code_bytes) ||
		    core_load(core, segment, tile.scales, to + code_bytes, scale_bytes))
			return -1;
	}
	return 0;
}

/* The operands that LD.KV and ST.KV have in common. */
struct pages {
	uint64_t segment, page_bytes;
	uint64_t values, value_bytes, scales, scale_bytes;	/* in a page; of a position */
	uint64_t first, count;
};

#define PAGES(insn, name) { \
	.segment = VALUE(insn, name, SEG), .page_bytes = VALUE(insn, name, PAGE), \
	.values = VALUE(insn, name, VALUES), .value_bytes = VALUE(insn, name, VALUE_BYTES), \
	.scales = VALUE(insn, name, SCALES), .scale_bytes = VALUE(insn, name, SCALE_BYTES), \
	.first = VALUE(insn, name, FIRST), .count = VALUE(insn, name, COUNT), \
}

/*
 * The positions from p to the end of its page or of the instruction: their number, or 0 after
 * fault INDEX. *page is where the page starts in the segment.
 */
static uint64_t page_run(struct core *core, const struct pages *pages, uint64_t p, uint64_t *page)
{
	uint64_t run = FLM_PAGE - p % FLM_PAGE, left = pages->first + pages->count - p;
	uint64_t end;

	if (run > left)
		run = left;
	if (p / FLM_PAGE >= core->pass->page_count) {
		core_fault(core, FLM_FAULT_INDEX);
		return 0;
	}
	/* A position outside the page ends the instruction where it stands in the run. */
	end = p % FLM_PAGE + run;
	if ((pages->value_bytes &&
	     pages->values + end * pages->value_bytes > pages->page_bytes) ||
	    (pages->scale_bytes &&
	     pages->scales + end * pages->scale_bytes > pages->page_bytes)) {
		core_fault(core, FLM_FAULT_INDEX);
		return 0;
	}
	*page = (uint64_t)core->pass->pages[p / FLM_PAGE] * pages->page_bytes;
	return run;
}

static uint64_t page_place(uint64_t page, uint64_t offset, uint64_t p, uint64_t bytes)
{
	return core_offset(core_offset(page, 1, offset), p % FLM_PAGE, bytes);
}

/* Whether any query block of the mask keeps key block k. */
static bool any_keeps(struct core *core, const struct mask *mask, uint64_t query_blocks, uint64_t k)
{
	uint64_t b;

	/* With a pitch of zero all query blocks read the same row. */
	if (!mask->pitch)
		query_blocks = 1;
	for (b = 0; b < query_blocks; b++) {
		if (mask_keeps(mask, mask->first_query + b, k))
			return true;
		if (b % 1024 == 1023 && core_is_aborted(core))
			return false;
	}
	return false;
}

static int load_kv(struct core *core, const struct insn *insn)
{
	const struct pages pages = PAGES(insn, LD_KV);
	uint64_t query = VALUE(insn, LD_KV, QUERY), queries = VALUE(insn, LD_KV, QUERIES);
	uint64_t query_blocks = (query + queries - 1) / FLM_PAGE - query / FLM_PAGE + 1;
	bool is_masked = insn->flags & FLM_LD_KV_MASK;
	uint64_t p, run, page = 0;
	uint8_t *values, *scales;
	struct mask mask;

	values = core_out(core, PLACE(insn, LD_KV, DST), 0, pages.count, pages.value_bytes,
			  pages.value_bytes, 1);
	if (!values)
		return -1;
	scales = core_out(core, PLACE(insn, LD_KV, DST_SCALES), 0, pages.count, pages.scale_bytes,
			  pages.scale_bytes, 1);
	if (!scales)
		return -1;
	if (is_masked && core_mask(core, PLACE(insn, LD_KV, MASKS), VALUE(insn, LD_KV, MASK_PITCH),
				   query, queries, pages.first, pages.count, &mask))
		return -1;
	for (p = pages.first; p < pages.first + pages.count; p += run) {
		bool is_kept = !is_masked || any_keeps(core, &mask, query_blocks, p / FLM_PAGE);

		if (core_is_aborted(core))
			return -1;
		if (!is_kept) {
			run = FLM_PAGE - p % FLM_PAGE;
			continue;
		}
		run = page_run(core, &pages, p, &page);
		if (!run ||
		    core_load(core, pages.segment,
			      page_place(page, pages.values, p, pages.value_bytes),
			      values + (p - pages.first) * pages.value_bytes,
			      run * pages.value_bytes) ||
		    core_load(core, pages.segment,
			      page_place(page, pages.scales, p, pages.scale_bytes),
			      scales + (p - pages.first) * pages.scale_bytes,
			      run * pages.scale_bytes))
			return -1;
	}
	return 0;
}

static int store_kv(struct core *core, const struct insn *insn)
{
	const struct pages pages = PAGES(insn, ST_KV);
	uint64_t pitch = VALUE(insn, ST_KV, SRC_PITCH), p, run, page = 0, i;
	uint64_t scale_pitch = VALUE(insn, ST_KV, SCALE_PITCH);
	const uint8_t *values, *scales;

	if (pages.first < core->pass->kv_start) {
		core->fault.segment = (unsigned int)pages.segment;
		return core_fault(core, FLM_FAULT_RIGHTS);
	}
	values =
		core_in(core, PLACE(insn, ST_KV, SRC), 0, pages.count, pitch, pages.value_bytes, 1);
	if (!values)
		return -1;
	scales = core_in(core, PLACE(insn, ST_KV, SRC_SCALES), 0, pages.count, scale_pitch,
			 pages.scale_bytes, 1);
	if (!scales)
		return -1;
	for (p = pages.first; p < pages.first + pages.count; p += run) {
		run = page_run(core, &pages, p, &page);
		if (!run)
			return -1;
		for (i = p; i < p + run; i++) {
			if (core_is_aborted(core) ||
			    core_store(core, pages.segment,
				       page_place(page, pages.values, i, pages.value_bytes),
				       values + (i - pages.first) * pitch, pages.value_bytes) ||
			    core_store(core, pages.segment,
				       page_place(page, pages.scales, i, pages.scale_bytes),
				       scales + (i - pages.first) * scale_pitch, pages.scale_bytes))
				return -1;
		}
	}
	return 0;
}

/* Whether the job wants the logits of a position of this pass. */
static bool is_wanted(const struct exec_pass *pass, uint64_t position)
{
	uint64_t end = (uint64_t)pass->lengths[FLM_LENGTH_POS] + pass->lengths[FLM_LENGTH_TOKENS];

	if (pass->logits.wanted == FLM_LOGITS_NONE || position < pass->logits.first ||
	    position - pass->logits.first >= pass->logits.count)
		return false;
	return pass->logits.wanted == FLM_LOGITS_EVERY ||
	       (pass->logits.ends_prompt && position + 1 == end);
}

static int store_logits(struct core *core, const struct insn *insn)
{
	const struct exec_pass *pass = core->pass;
	uint64_t rows = VALUE(insn, ST_LOGITS, ROWS), cols = VALUE(insn, ST_LOGITS, COLS);
	uint64_t col = VALUE(insn, ST_LOGITS, COL), pitch = VALUE(insn, ST_LOGITS, SRC_PITCH), r;
	uint64_t position = pass->lengths[FLM_LENGTH_POS] + VALUE(insn, ST_LOGITS, ROW);
	uint64_t bytes = cols * sizeof(float), offset;
	const uint8_t *from;

	for (r = 0; r < rows; r++)
		if (is_wanted(pass, position + r) &&
		    col + cols > pass->logits.stride / sizeof(float))
			return core_fault(core, FLM_FAULT_INDEX);
	from = core_in(core, PLACE(insn, ST_LOGITS, SRC), 0, rows, pitch, bytes, 4);
	if (!from)
		return -1;
	for (r = 0; r < rows; r++) {
		if (!is_wanted(pass, position + r))
			continue;
		offset = core_offset(pass->logits.offset, position + r - pass->logits.first,
				     pass->logits.stride);
		offset = core_offset(offset, col, sizeof(float));
		if (core_is_aborted(core) ||
		    core_store_job(core, pass->logits.segment, offset, from + r * pitch, bytes))
			return -1;
	}
	return 0;
}

int move_run(struct core *core, const struct insn *insn)
{
	switch (insn->kind) {
	case FLM_INSN_LD_LINEAR:
		return load_rows(core,
				 (struct rows){
					 .segment = VALUE(insn, LD_LINEAR, SEG),
					 .offset = VALUE(insn, LD_LINEAR, OFF),
					 .memory_pitch = VALUE(insn, LD_LINEAR, SRC_PITCH),
					 .chip_pitch = VALUE(insn, LD_LINEAR, DST_PITCH),
					 .rows = VALUE(insn, LD_LINEAR, ROWS),
					 .bytes = VALUE(insn, LD_LINEAR, BYTES),
				 },
				 PLACE(insn, LD_LINEAR, DST));
	case FLM_INSN_ST_LINEAR:
		return store_rows(core,
				  (struct rows){
					  .segment = VALUE(insn, ST_LINEAR, SEG),
					  .offset = VALUE(insn, ST_LINEAR, OFF),
					  .memory_pitch = VALUE(insn, ST_LINEAR, DST_PITCH),
					  .chip_pitch = VALUE(insn, ST_LINEAR, SRC_PITCH),
					  .rows = VALUE(insn, ST_LINEAR, ROWS),
					  .bytes = VALUE(insn, ST_LINEAR, BYTES),
				  },
				  PLACE(insn, ST_LINEAR, SRC));
	case FLM_INSN_LD_TILE:
		return load_tile(core, insn);
	case FLM_INSN_LD_KV:
		return load_kv(core, insn);
	case FLM_INSN_LD_GATHER:
		return load_gather(core, insn);
	case FLM_INSN_ST_KV:
		return store_kv(core, insn);
	default:
		return store_logits(core, insn);
	}
}
