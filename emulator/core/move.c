// SPDX-License-Identifier: MIT
/*
 * LD and ST. All of them are rows of bytes between a segment and on-chip memory; they differ in
 * where the rows lie: at a pitch, at indices, in tiles, in pages, or where the job wants logits.
 */
#include <endian.h>
#include <string.h>

#include "emulator/core/core.h"
#include "emulator/core/expand.h"

/* Rows on both sides; memory at `offset`, the chip's side wherever it was checked to be. */
struct rows {
	uint64_t segment, offset, memory_pitch;
	uint64_t chip_pitch;
	uint64_t rows, bytes;
};

static int load_row(struct core *core, const struct rows *rows, uint64_t r, uint8_t *to)
{
	if (core_step(core, 1))
		return -1;
	return core_load(core, rows->segment, core_offset(rows->offset, r, rows->memory_pitch),
			 to + r * rows->chip_pitch, rows->bytes);
}

static int store_row(struct core *core, const struct rows *rows, uint64_t r, const uint8_t *from)
{
	if (core_step(core, 1))
		return -1;
	return core_store(core, rows->segment, core_offset(rows->offset, r, rows->memory_pitch),
			  from + r * rows->chip_pitch, rows->bytes);
}

/* Rows that are contiguous on both sides are one. False: they are not, or not more than one. */
static bool join(const struct rows *rows, struct rows *joined)
{
	if (rows->memory_pitch != rows->bytes || rows->chip_pitch != rows->bytes || rows->rows < 2)
		return false;
	*joined = *rows;
	joined->bytes *= rows->rows;
	return true;
}

static int load_rows(struct core *core, const struct rows *rows, const struct place *place)
{
	uint8_t *to = core_out(core, place, 0, rows->rows, rows->chip_pitch, rows->bytes, 1);
	struct rows joined;
	uint64_t r;

	if (!to)
		return -1;
	if (join(rows, &joined) && !load_row(core, &joined, 0, to))
		return 0;
	/* Where one big burst is refused, the record names the row's. */
	for (r = 0; r < rows->rows; r++)
		if (load_row(core, rows, r, to))
			return -1;
	return 0;
}

static int store_rows(struct core *core, const struct rows *rows, const struct place *place)
{
	const uint8_t *from = core_in(core, place, 0, rows->rows, rows->chip_pitch, rows->bytes, 1);
	struct rows joined;
	uint64_t r;

	if (!from)
		return -1;
	if (join(rows, &joined) && !store_row(core, &joined, 0, from))
		return 0;
	for (r = 0; r < rows->rows; r++)
		if (store_row(core, rows, r, from))
			return -1;
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

		if (core_step(core, 1))
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

/* One strip: its parts one behind the other, codes and scales in WGT, N and masks in IDX. */
static int load_strip(struct core *core, const struct insn *insn, uint64_t s)
{
	uint64_t segment = VALUE(insn, LD_TILE, SEG), pitch = VALUE(insn, LD_TILE, PITCH);
	uint64_t idx_pitch = VALUE(insn, LD_TILE, IDX_PITCH);
	uint64_t row = VALUE(insn, LD_TILE, ROW) + s * VALUE(insn, LD_TILE, STEP);
	uint64_t code_bytes, scale_bytes, n_bytes, mask_bytes;
	uint8_t n[FLM_TILE_COLS / FLM_STRIP], *to, *idx = NULL;
	struct tile tile;

	if (expand_fetch(core, segment, VALUE(insn, LD_TILE, TABLE), row, &tile))
		return -1;
	n_bytes = tile.is_sparse ? expand_pad(tile.blocks) : 0;
	if (tile.is_sparse) {
		if (PLACE(insn, LD_TILE, IDX)->buffer != FLM_BUFFER_IDX)
			return core_fault(core, FLM_FAULT_BUFFER);
		/* They also say how many bytes the codes take. */
		if (core_load(core, segment, tile.n, n, n_bytes))
			return -1;
		if (expand_measure(&tile, n))
			return core_fault(core, FLM_FAULT_FORMAT);
	}
	code_bytes = expand_pad(tile.code_bytes);
	scale_bytes = expand_pad(tile.scale_bytes);
	mask_bytes = expand_pad(tile.mask_bytes);
	if (code_bytes + scale_bytes > pitch ||
	    (tile.is_sparse && n_bytes + mask_bytes > idx_pitch))
		return core_fault(core, FLM_FAULT_FORMAT);
	to = core_out(core, PLACE(insn, LD_TILE, DST), s * pitch, 1, 0, code_bytes + scale_bytes,
		      EXPAND_ALIGN);
	if (!to)
		return -1;
	if (tile.is_sparse) {
		idx = core_out(core, PLACE(insn, LD_TILE, IDX), s * idx_pitch, 1, 0,
			       n_bytes + mask_bytes, EXPAND_ALIGN);
		if (!idx)
			return -1;
	}
	if (core_load(core, segment, tile.codes, to, code_bytes) ||
	    core_load(core, segment, tile.scales, to + code_bytes, scale_bytes))
		return -1;
	if (!tile.is_sparse)
		return 0;
	memcpy(idx, n, n_bytes);
	return core_load(core, segment, tile.masks, idx + n_bytes, mask_bytes);
}

static int load_tile(struct core *core, const struct insn *insn)
{
	uint64_t s;

	if (PLACE(insn, LD_TILE, DST)->buffer != FLM_BUFFER_WGT)
		return core_fault(core, FLM_FAULT_BUFFER);
	for (s = 0; s < VALUE(insn, LD_TILE, STRIPS); s++)
		if (core_step(core, 1) || load_strip(core, insn, s))
			return -1;
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

/* Positions from p to the end of its page or of the instruction. */
static uint64_t page_run(const struct pages *pages, uint64_t p)
{
	uint64_t run = FLM_PAGE - p % FLM_PAGE, left = pages->first + pages->count - p;

	return run < left ? run : left;
}

/*
 * Where `run` positions from p, all of one page, lie in the segment: `bytes` a position at `part`
 * of the page. 0, or -1 after fault INDEX.
 */
static int page_place(struct core *core, const struct pages *pages, uint64_t p, uint64_t run,
		      uint64_t part, uint64_t bytes, uint64_t *offset)
{
	uint64_t page = p / FLM_PAGE, start;

	if (page >= core->pass->page_count)
		return core_fault(core, FLM_FAULT_INDEX);
	start = part + p % FLM_PAGE * bytes;
	if (bytes && start + run * bytes > pages->page_bytes)
		return core_fault(core, FLM_FAULT_INDEX);
	*offset = core_offset(start, core->pass->pages[page], pages->page_bytes);
	return 0;
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
		if (b % 1024 == 1023 && core_step(core, 1))
			return false;
	}
	return false;
}

/* `run` positions from p, all of one page: values, then scales. */
static int load_positions(struct core *core, const struct pages *pages, uint64_t p, uint64_t run,
			  uint8_t *values, uint8_t *scales)
{
	uint64_t offset = 0, skip = p - pages->first;

	if (page_place(core, pages, p, run, pages->values, pages->value_bytes, &offset) ||
	    core_load(core, pages->segment, offset, values + skip * pages->value_bytes,
		      run * pages->value_bytes))
		return -1;
	if (page_place(core, pages, p, run, pages->scales, pages->scale_bytes, &offset))
		return -1;
	return core_load(core, pages->segment, offset, scales + skip * pages->scale_bytes,
			 run * pages->scale_bytes);
}

static int load_kv(struct core *core, const struct insn *insn)
{
	const struct pages pages = PAGES(insn, LD_KV);
	uint64_t query = VALUE(insn, LD_KV, QUERY), queries = VALUE(insn, LD_KV, QUERIES);
	uint64_t query_blocks = (query + queries - 1) / FLM_PAGE - query / FLM_PAGE + 1;
	bool is_masked = insn->flags & FLM_LD_KV_MASK;
	uint8_t *values, *scales;
	uint64_t p, run, i;
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

		run = page_run(&pages, p);
		if (core_step(core, 1))
			return -1;
		if (!is_kept || !load_positions(core, &pages, p, run, values, scales))
			continue;
		/* Position by position, so that the first that is refused is named. */
		for (i = p; i < p + run; i++)
			if (load_positions(core, &pages, i, 1, values, scales))
				return -1;
	}
	return 0;
}

static int store_kv(struct core *core, const struct insn *insn)
{
	const struct pages pages = PAGES(insn, ST_KV);
	uint64_t pitch = VALUE(insn, ST_KV, SRC_PITCH), p, i, offset = 0;
	uint64_t scale_pitch = VALUE(insn, ST_KV, SCALE_PITCH);
	const uint8_t *values, *scales;

	values =
		core_in(core, PLACE(insn, ST_KV, SRC), 0, pages.count, pitch, pages.value_bytes, 1);
	if (!values)
		return -1;
	scales = core_in(core, PLACE(insn, ST_KV, SRC_SCALES), 0, pages.count, scale_pitch,
			 pages.scale_bytes, 1);
	if (!scales)
		return -1;
	for (i = 0; i < pages.count; i++) {
		p = pages.first + i;
		if (p < core->pass->kv_start)
			return core_fault(core, FLM_FAULT_RIGHTS);
		if (core_step(core, 1) ||
		    page_place(core, &pages, p, 1, pages.values, pages.value_bytes, &offset) ||
		    core_store(core, pages.segment, offset, values + i * pitch, pages.value_bytes))
			return -1;
		if (page_place(core, &pages, p, 1, pages.scales, pages.scale_bytes, &offset) ||
		    core_store(core, pages.segment, offset, scales + i * scale_pitch,
			       pages.scale_bytes))
			return -1;
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

	from = core_in(core, PLACE(insn, ST_LOGITS, SRC), 0, rows, pitch, bytes, 4);
	if (!from)
		return -1;
	for (r = 0; r < rows; r++) {
		if (!is_wanted(pass, position + r))
			continue;
		if (col + cols > pass->logits.stride / sizeof(float))
			return core_fault(core, FLM_FAULT_INDEX);
		offset = core_offset(pass->logits.offset, position + r - pass->logits.first,
				     pass->logits.stride);
		offset = core_offset(offset, col, sizeof(float));
		if (core_step(core, 1) ||
		    core_store_job(core, pass->logits.segment, offset, from + r * pitch, bytes))
			return -1;
	}
	return 0;
}

int move_run(struct core *core, const struct insn *insn)
{
	struct rows rows;

	switch (insn->kind) {
	case FLM_INSN_LD_LINEAR:
		rows = (struct rows) {
			.segment = VALUE(insn, LD_LINEAR, SEG),
			.offset = VALUE(insn, LD_LINEAR, OFF),
			.memory_pitch = VALUE(insn, LD_LINEAR, SRC_PITCH),
			.chip_pitch = VALUE(insn, LD_LINEAR, DST_PITCH),
			.rows = VALUE(insn, LD_LINEAR, ROWS),
			.bytes = VALUE(insn, LD_LINEAR, BYTES),
		};
		return load_rows(core, &rows, PLACE(insn, LD_LINEAR, DST));
	case FLM_INSN_ST_LINEAR:
		rows = (struct rows) {
			.segment = VALUE(insn, ST_LINEAR, SEG),
			.offset = VALUE(insn, ST_LINEAR, OFF),
			.memory_pitch = VALUE(insn, ST_LINEAR, DST_PITCH),
			.chip_pitch = VALUE(insn, ST_LINEAR, SRC_PITCH),
			.rows = VALUE(insn, ST_LINEAR, ROWS),
			.bytes = VALUE(insn, ST_LINEAR, BYTES),
		};
		return store_rows(core, &rows, PLACE(insn, ST_LINEAR, SRC));
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
