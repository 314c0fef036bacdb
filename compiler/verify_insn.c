// SPDX-License-Identifier: MIT
/*
 * What each instruction touches and names, from the manual: on-chip bytes by operand, bytes of
 * segments, rows of strip tables, positions of the KV cache. One function a group of
 * instructions.
 */
#include <inttypes.h>
#include <string.h>

#include "compiler/verify.h"

#define FORM(insn, name) \
	form_read(c, FLM_##insn##_##name##_W, FLM_##insn##_##name##_NUMBER, false)
#define SIZE_OF(insn, name) \
	form_size(c, FLM_##insn##_##name##_W, FLM_##insn##_##name##_NUMBER)
#define FIELD(insn, name)	FLM_GET(c->words, insn, name)
#define TOUCH(insn, operand, ...) \
	form_touch(c, &(struct touch) { .name = #insn "." #operand, \
		   .word = FLM_##insn##_##operand##_W, .number = FLM_##insn##_##operand##_NUMBER, \
		   __VA_ARGS__ })

static struct form fixed(int64_t n)
{
	return (struct form) { .constant = n, .is_size = true, .max = n };
}

static uint64_t segment_bytes(struct check *c, uint32_t segment)
{
	switch (segment) {
	case FLM_SEGMENT_WEIGHTS:
		return c->plan->weight_bytes[c->core];
	case FLM_SEGMENT_SHARED:
		return c->plan->shared_bytes;
	default:
		verify_fail(c, "segment %u is none that a program reads linearly", segment);
	}
}

static void check_memory(struct check *c, uint32_t segment, struct form off,
			 const struct form *rows, int64_t pitch, const struct form *size,
			 int64_t more)
{
	int64_t end = form_end(c, off, rows, pitch, size, size->is_size, more);
	uint64_t bytes = segment_bytes(c, segment);

	if (form_least(c, &off) < 0 || end > (int64_t)bytes)
		verify_fail(c, "it may read to byte %" PRId64 " of segment %u, which has %" PRIu64,
			    end, segment, bytes);
}

static void ld_linear(struct check *c)
{
	struct form rows = SIZE_OF(LD_LINEAR, ROWS), bytes = SIZE_OF(LD_LINEAR, BYTES);

	if (form_is_zero(c, &rows) || form_is_zero(c, &bytes))
		return;
	check_memory(c, FIELD(LD_LINEAR, SEG), FORM(LD_LINEAR, OFF), &rows,
		     FIELD(LD_LINEAR, SRC_PITCH), &bytes, 0);
	TOUCH(LD_LINEAR, DST, .rows = rows, .pitch = FIELD(LD_LINEAR, DST_PITCH), .size = bytes,
	      .each = 1);
}

static void ld_gather(struct check *c)
{
	struct form rows = SIZE_OF(LD_GATHER, ROWS), bytes = SIZE_OF(LD_GATHER, BYTES);
	struct form index = form_read(c, FLM_LD_GATHER_INDEX_W, FLM_LD_GATHER_INDEX_NUMBER, true);
	struct form limit = fixed(FIELD(LD_GATHER, LIMIT)), beyond = rows;

	if (form_is_zero(c, &rows) || form_is_zero(c, &bytes))
		return;
	if (FIELD(LD_GATHER, LIMIT) != c->plan->config->vocab)
		verify_fail(c, "a gather of %u rows from a vocabulary of %u",
			    FIELD(LD_GATHER, LIMIT), c->plan->config->vocab);
	/* Only tokens are known to be below it; the card puts those of the pass there. */
	beyond.length[FLM_LENGTH_TOKENS]--;
	if (c->words[FLM_LD_GATHER_INDEX_W] >> 28 != FLM_BUFFER_IDX || form_least(c, &index) ||
	    form_greatest(c, &index) || form_greatest(c, &beyond) > 0)
		verify_fail(c, "indices that are not the tokens of the pass");
	check_memory(c, FIELD(LD_GATHER, SEG), FORM(LD_GATHER, OFF), &limit,
		     FIELD(LD_GATHER, SRC_PITCH), &bytes, 0);
	TOUCH(LD_GATHER, INDEX, .rows = rows, .pitch = 4, .more = 4, .align = 4);
	TOUCH(LD_GATHER, DST, .rows = rows, .pitch = FIELD(LD_GATHER, DST_PITCH), .size = bytes,
	      .each = 1);
}

/* "q_proj" of "layer.q_proj" and of "self_attn.q_proj" */
static const char *last_name(const char *name)
{
	const char *dot = strrchr(name, '.');

	return dot ? dot + 1 : name;
}

/* The map section's name for the part that this instruction belongs to. */
static const char *part_name(const struct check *c)
{
	for (uint32_t i = 0; i < c->plan->map_count; i++) {
		const struct map_row *row = &c->plan->map[i];

		if (row->entry == c->entry && row->unit == c->unit && c->at >= row->first &&
		    c->at - row->first < row->words)
			return last_name(row->name);
	}
	return "nothing";
}

/*
 * The matrix that this part of the program is named for. Its table is what TABLE must name, and
 * ROW and STEP must stay inside it. k is the K tile that all strips of the instruction belong to.
 */
static const struct matrix *find_table(struct check *c, struct form table, struct form row,
				       uint32_t step, const struct form *strips, uint32_t *k)
{
	struct plan *p = c->plan;
	const char *name = part_name(c);
	const struct matrix *m = NULL;
	uint32_t first, rows;
	int64_t end;

	for (int i = 0; i < MATRICES; i++)
		if (!strcmp(name, last_name(p->matrix[i].part)))
			m = &p->matrix[i];
	if (!m)
		verify_fail(c, "weights in a part of the program that is named %s", name);
	if (table.constant != m->table ||
	    table.loop[0] != (m == &p->matrix[M_HEAD] ? 0 : p->layer_tables))
		verify_fail(c, "%s: a strip table at %" PRId64 " + %" PRId64 " a layer, it is at %u + %u",
			    m->part, table.constant, table.loop[0], m->table, p->layer_tables);
	if (step != m->tiles)
		verify_fail(c, "%s: a step of %u rows, a strip has %u", m->part, step, m->tiles);
	for (int i = 0; i < FLM_LENGTHS; i++)
		if (table.length[i] || row.length[i])
			verify_fail(c, "%s: a table row that depends on a length", m->part);
	for (int i = 0; i < FLM_LOOP_DEPTH; i++)
		if (row.loop[i] % m->tiles || (i && table.loop[i]))
			verify_fail(c, "%s: K tiles of different columns in one loop", m->part);
	*k = row.constant % m->tiles;
	rows = DIV_UP(core_rows(p, m->split, c->core, &first), FLM_STRIP) * m->tiles;
	end = form_end(c, row, strips, step, strips, 0, 1);
	if (form_least(c, &row) < 0 || end > rows)
		verify_fail(c, "%s: row %" PRId64 " of a strip table of %u rows", m->part, end - 1,
			    rows);
	return m;
}

static void tile_parts(struct check *c, const struct matrix *m, uint32_t k, uint32_t pitch)
{
	uint32_t cols = ROUND_UP(m->cols, FLM_STRIP) - k * FLM_TILE_COLS;
	uint32_t bytes;

	cols = MIN(cols, FLM_TILE_COLS);
	bytes = strip_codes_bytes(c->plan->options->width, cols) + strip_scales_bytes(cols);
	if (bytes > pitch)
		verify_fail(c, "%s: a strip of %u bytes at a pitch of %u", m->part, bytes, pitch);
}

static void ld_tile(struct check *c)
{
	struct form strips = SIZE_OF(LD_TILE, STRIPS);
	uint32_t pitch = FIELD(LD_TILE, PITCH), k;
	const struct matrix *m;

	if (form_is_zero(c, &strips))
		return;
	if (FIELD(LD_TILE, SEG) != FLM_SEGMENT_WEIGHTS)
		verify_fail(c, "tiles from segment %u", FIELD(LD_TILE, SEG));
	m = find_table(c, FORM(LD_TILE, TABLE), FORM(LD_TILE, ROW), FIELD(LD_TILE, STEP), &strips,
		       &k);
	tile_parts(c, m, k, pitch);
	TOUCH(LD_TILE, DST, .rows = strips, .pitch = pitch, .more = pitch, .align = 64,
	      .buffer = 1 + FLM_BUFFER_WGT);
	TOUCH(LD_TILE, IDX, .rows = strips, .pitch = FIELD(LD_TILE, IDX_PITCH), .align = 64,
	      .buffer = 1 + FLM_BUFFER_IDX);
}

/* A page's values and scales of one head lie inside it, and positions inside the context. */
static void kv_page(struct check *c, uint32_t page, struct form values, uint32_t value_bytes,
		    struct form scales, uint32_t scale_bytes, struct form first,
		    const struct form *count)
{
	int64_t end = form_greatest(c, &values) + (int64_t)FLM_PAGE * value_bytes;
	int64_t scales_end = form_greatest(c, &scales) + (int64_t)FLM_PAGE * scale_bytes;

	if (page != c->plan->page_bytes || page % 64)
		verify_fail(c, "pages of %u bytes, the cache has %u", page, c->plan->page_bytes);
	if (form_least(c, &values) < 0 || end > c->plan->page_scales)
		verify_fail(c, "values end at byte %" PRId64 " of a page, scales begin at %u", end,
			    c->plan->page_scales);
	if (form_least(c, &scales) < c->plan->page_scales || scales_end > page)
		verify_fail(c, "scales end at byte %" PRId64 " of a page of %u", scales_end, page);
	if (form_least(c, &first) < 0 ||
	    form_end(c, first, count, 1, count, 0, 1) > c->plan->context)
		verify_fail(c, "positions beyond the context of %u", c->plan->context);
}

static void ld_kv(struct check *c)
{
	struct form count = SIZE_OF(LD_KV, COUNT);
	uint32_t values = FIELD(LD_KV, VALUE_BYTES), scales = FIELD(LD_KV, SCALE_BYTES);

	/* Counts with a mask only, but is a size all the same. */
	SIZE_OF(LD_KV, QUERIES);
	if (form_is_zero(c, &count))
		return;
	if (FIELD(LD_KV, SEG) != FLM_SEGMENT_KV || FLM_GET_HEAD(c->words, FLAGS))
		verify_fail(c, "pages from segment %u, flags %u", FIELD(LD_KV, SEG),
			    FLM_GET_HEAD(c->words, FLAGS));
	kv_page(c, FIELD(LD_KV, PAGE), FORM(LD_KV, VALUES), values, FORM(LD_KV, SCALES), scales,
		FORM(LD_KV, FIRST), &count);
	TOUCH(LD_KV, DST, .rows = count, .pitch = values, .more = values);
	TOUCH(LD_KV, DST_SCALES, .rows = count, .pitch = scales, .more = scales, .align = 4);
}

static void st_kv(struct check *c)
{
	struct form count = SIZE_OF(ST_KV, COUNT), first = FORM(ST_KV, FIRST);
	uint32_t values = FIELD(ST_KV, VALUE_BYTES), scales = FIELD(ST_KV, SCALE_BYTES);

	if (form_is_zero(c, &count))
		return;
	if (FIELD(ST_KV, SEG) != FLM_SEGMENT_KV)
		verify_fail(c, "pages to segment %u", FIELD(ST_KV, SEG));
	kv_page(c, FIELD(ST_KV, PAGE), FORM(ST_KV, VALUES), values, FORM(ST_KV, SCALES), scales,
		first, &count);
	/* A job may not write what was cached before it began. */
	first.length[FLM_LENGTH_KV]--;
	if (form_least(c, &first) < 0)
		verify_fail(c, "positions that were cached before this pass");
	TOUCH(ST_KV, SRC, .rows = count, .pitch = FIELD(ST_KV, SRC_PITCH), .more = values);
	TOUCH(ST_KV, SRC_SCALES, .rows = count, .pitch = FIELD(ST_KV, SCALE_PITCH), .more = scales,
	      .align = 4);
}

static void st_logits(struct check *c)
{
	struct form rows = SIZE_OF(ST_LOGITS, ROWS), cols = SIZE_OF(ST_LOGITS, COLS);
	struct form none = { 0 }, col = FORM(ST_LOGITS, COL), row = FORM(ST_LOGITS, ROW);

	if (form_is_zero(c, &rows) || form_is_zero(c, &cols))
		return;
	if (form_least(c, &col) < 0 ||
	    form_end(c, col, &cols, 1, &none, 0, 1) > c->plan->config->vocab)
		verify_fail(c, "logits beyond the vocabulary of %u", c->plan->config->vocab);
	if (form_least(c, &row) < 0 ||
	    form_end(c, row, &rows, 1, &none, 0, 1) > c->max[FLM_LENGTH_TOKENS])
		verify_fail(c, "logits of rows beyond the pass");
	TOUCH(ST_LOGITS, SRC, .rows = rows, .pitch = FIELD(ST_LOGITS, SRC_PITCH), .size = cols,
	      .each = 4, .align = 4);
}

/* A K tile's codes and scales of the activation: bytes of one token. */
static void linear_input(const struct matrix *m, uint32_t k, uint32_t *codes, uint32_t *scales)
{
	uint32_t cols = ROUND_UP(m->cols, FLM_STRIP) - k * FLM_TILE_COLS;

	*codes = MIN(cols, FLM_TILE_COLS);
	*scales = 4 * DIV_UP(*codes, FLM_GROUP);
}

#define LINEAR_TOUCHES(insn) \
	do { \
		m = find_table(c, FORM(insn, TABLE), FORM(insn, ROW), FIELD(insn, STEP), &strips, \
			       &k); \
		if (FIELD(insn, SEG) != FLM_SEGMENT_WEIGHTS) \
			verify_fail(c, "weights from segment %u", FIELD(insn, SEG)); \
		tile_parts(c, m, k, FIELD(insn, W_PITCH)); \
		linear_input(m, k, &codes, &scales); \
		TOUCH(insn, W, .rows = strips, .pitch = FIELD(insn, W_PITCH), \
		      .more = FIELD(insn, W_PITCH), .align = 64, .buffer = 1 + FLM_BUFFER_WGT); \
		if (FLM_GET_HEAD(c->words, FLAGS) & FLM_##insn##_BIAS) \
			TOUCH(insn, BIAS_AT, .size = strips, .each = 4 * FLM_STRIP, .align = 4); \
		if (FLM_GET_HEAD(c->words, FLAGS) & FLM_##insn##_FACTOR) \
			verify_fail(c, "a factor, and no tensor has one"); \
		TOUCH(insn, IDX, .rows = strips, .pitch = FIELD(insn, IDX_PITCH), .align = 64, \
		      .buffer = 1 + FLM_BUFFER_IDX); \
	} while (0)

static void mm_linear(struct check *c)
{
	struct form strips = SIZE_OF(MM_LINEAR, STRIPS), tokens = SIZE_OF(MM_LINEAR, TOKENS);
	uint32_t k, codes, scales;
	const struct matrix *m;

	if (tokens.max > FLM_CHUNK_MAX)
		verify_fail(c, "%u tokens", tokens.max);
	if (form_is_zero(c, &strips) || form_is_zero(c, &tokens))
		return;
	LINEAR_TOUCHES(MM_LINEAR);
	TOUCH(MM_LINEAR, A, .rows = tokens, .pitch = FIELD(MM_LINEAR, A_PITCH), .more = codes);
	TOUCH(MM_LINEAR, A_SCALES, .rows = tokens, .pitch = FIELD(MM_LINEAR, A_SCALE_PITCH),
	      .more = scales, .align = 4);
	TOUCH(MM_LINEAR, OUT, .rows = tokens, .pitch = FIELD(MM_LINEAR, OUT_PITCH), .size = strips,
	      .each = 4 * FLM_STRIP, .align = 4);
}

static void mv_linear(struct check *c)
{
	struct form strips = SIZE_OF(MV_LINEAR, STRIPS);
	uint32_t k, codes, scales;
	const struct matrix *m;

	if (form_is_zero(c, &strips))
		return;
	LINEAR_TOUCHES(MV_LINEAR);
	TOUCH(MV_LINEAR, A, .more = codes);
	TOUCH(MV_LINEAR, A_SCALES, .more = scales, .align = 4);
	TOUCH(MV_LINEAR, OUT, .size = strips, .each = 4 * FLM_STRIP, .align = 4);
}

static uint32_t dim_of(struct check *c, uint32_t dim)
{
	/* The same bit in qk and pv, MM and MV. */
	if (FLM_GET_HEAD(c->words, FLAGS) & FLM_MM_QK_MASK)
		verify_fail(c, "a mask, and no program of this compiler has one");
	if (!dim || dim > FLM_DIM_MAX)
		verify_fail(c, "a dimension of %u", dim);
	return dim;
}

static void mm_qk(struct check *c)
{
	struct form tokens = SIZE_OF(MM_QK, TOKENS), positions = SIZE_OF(MM_QK, POSITIONS);
	uint32_t dim = dim_of(c, FIELD(MM_QK, DIM)), scales = 4 * DIV_UP(dim, FLM_GROUP);

	if (tokens.max > FLM_CHUNK_MAX)
		verify_fail(c, "%u tokens", tokens.max);
	if (form_is_zero(c, &tokens) || form_is_zero(c, &positions))
		return;
	TOUCH(MM_QK, A, .rows = tokens, .pitch = FIELD(MM_QK, A_PITCH), .more = dim);
	TOUCH(MM_QK, A_SCALES, .rows = tokens, .pitch = FIELD(MM_QK, A_SCALE_PITCH), .more = scales,
	      .align = 4);
	TOUCH(MM_QK, B, .rows = positions, .pitch = FIELD(MM_QK, B_PITCH), .more = dim);
	TOUCH(MM_QK, B_SCALES, .rows = positions, .pitch = FIELD(MM_QK, B_SCALE_PITCH),
	      .more = scales, .align = 4);
	TOUCH(MM_QK, OUT, .rows = tokens, .pitch = FIELD(MM_QK, OUT_PITCH), .size = positions,
	      .each = 4, .align = 4);
}

static void mv_qk(struct check *c)
{
	struct form positions = SIZE_OF(MV_QK, POSITIONS);
	uint32_t dim = dim_of(c, FIELD(MV_QK, DIM)), scales = 4 * DIV_UP(dim, FLM_GROUP);

	if (form_is_zero(c, &positions))
		return;
	TOUCH(MV_QK, A, .more = dim);
	TOUCH(MV_QK, A_SCALES, .more = scales, .align = 4);
	TOUCH(MV_QK, B, .rows = positions, .pitch = FIELD(MV_QK, B_PITCH), .more = dim);
	TOUCH(MV_QK, B_SCALES, .rows = positions, .pitch = FIELD(MV_QK, B_SCALE_PITCH),
	      .more = scales, .align = 4);
	TOUCH(MV_QK, OUT, .size = positions, .each = 4, .align = 4);
}

/* Positions may begin a group: a scale for each 64 of them, counted up. */
static int64_t group_bytes(const struct form *positions)
{
	return 4 * (int64_t)DIV_UP(positions->max, FLM_GROUP);
}

static void mm_pv(struct check *c)
{
	struct form tokens = SIZE_OF(MM_PV, TOKENS), positions = SIZE_OF(MM_PV, POSITIONS);
	uint32_t dim = dim_of(c, FIELD(MM_PV, DIM));

	if (tokens.max > FLM_CHUNK_MAX)
		verify_fail(c, "%u tokens", tokens.max);
	if (form_is_zero(c, &tokens) || form_is_zero(c, &positions))
		return;
	TOUCH(MM_PV, A, .rows = tokens, .pitch = FIELD(MM_PV, A_PITCH), .size = positions,
	      .each = 1);
	TOUCH(MM_PV, A_SCALES, .rows = tokens, .pitch = FIELD(MM_PV, A_SCALE_PITCH),
	      .more = group_bytes(&positions), .align = 4);
	TOUCH(MM_PV, B, .rows = positions, .pitch = FIELD(MM_PV, B_PITCH), .more = dim);
	TOUCH(MM_PV, OUT, .rows = tokens, .pitch = FIELD(MM_PV, OUT_PITCH), .more = 4 * dim,
	      .align = 4);
}

static void mv_pv(struct check *c)
{
	struct form positions = SIZE_OF(MV_PV, POSITIONS);
	uint32_t dim = dim_of(c, FIELD(MV_PV, DIM));

	if (form_is_zero(c, &positions))
		return;
	TOUCH(MV_PV, A, .size = positions, .each = 1);
	TOUCH(MV_PV, A_SCALES, .more = group_bytes(&positions), .align = 4);
	TOUCH(MV_PV, B, .rows = positions, .pitch = FIELD(MV_PV, B_PITCH), .more = dim);
	TOUCH(MV_PV, OUT, .more = 4 * dim, .align = 4);
}

/* Place of the candidates: the same for all lengths. */
static int64_t candidates_at(struct check *c, int word, int number)
{
	struct form f = form_read(c, word, number, true);
	int64_t at = form_greatest(c, &f);

	if (form_least(c, &f) != at)
		verify_fail(c, "candidates at a place that depends on a length");
	return (c->words[word] & 0xf0000000u) + at;
}

/* Cores must choose from the same candidates, those of all: of what topk left, all of it. */
static void check_candidates(struct check *c, int64_t at, uint32_t count)
{
	if (at != c->candidates.at || count != c->candidates.count)
		verify_fail(c, "%u candidates at 0x%" PRIx64 ", topk leaves %u at 0x%" PRIx64,
			    count, at, c->candidates.count, c->candidates.at);
}

static void topk(struct check *c, const struct form *cols)
{
	struct form pos = FORM(MISC, POS), none = { 0 };

	c->candidates.at = candidates_at(c, FLM_MISC_OUT_W, FLM_MISC_OUT_NUMBER);
	c->candidates.count = FIELD(MISC, IMM);
	if (!form_is_zero(c, cols) &&
	    form_end(c, pos, cols, 1, &none, 0, 1) > c->plan->config->vocab)
		verify_fail(c, "candidates beyond the vocabulary of %u", c->plan->config->vocab);
}

/* A sample of zero rows would do nothing, one of two is none. */
static void sample(struct check *c, const struct form *rows, const struct form *cols)
{
	uint32_t imm = FIELD(MISC, IMM);

	if (form_least(c, rows) != 1 || form_greatest(c, rows) != 1 || !rows->max ||
	    form_least(c, cols) != 1 || form_greatest(c, cols) != 1 || !cols->max)
		verify_fail(c, "a sample of another size than one");
	check_candidates(c, candidates_at(c, FLM_MISC_A_W, FLM_MISC_A_NUMBER), imm);
	TOUCH(MISC, A, .more = 8 * (int64_t)imm, .align = 4);
}

/* Columns of rope and hadamard are whole blocks, whatever the lengths. */
static void check_blocks(struct check *c, uint32_t mode, uint32_t imm, const struct form *cols)
{
	bool fine = mode == FLM_MISC_ROPE ? imm && imm % 2 == 0 :
		    imm == 16 || imm == 32 || imm == 64 || imm == 128;

	if (!fine)
		verify_fail(c, "blocks of %u", imm);
	fine = cols->constant % imm == 0 && cols->max % imm == 0;
	for (int i = 0; i < FLM_LENGTHS; i++)
		fine &= cols->length[i] % imm == 0;
	for (int i = 0; i < FLM_LOOP_DEPTH; i++)
		fine &= cols->loop[i] % imm == 0;
	if (!fine)
		verify_fail(c, "columns that are not whole blocks of %u", imm);
}

/* Operands of a MISC by operation: bytes of an element, and where rows have a fixed length. */
static void misc(struct check *c)
{
	uint32_t mode = FLM_GET_HEAD(c->words, MODE), imm = FIELD(MISC, IMM);
	struct form rows = SIZE_OF(MISC, ROWS), cols = SIZE_OF(MISC, COLS), pos = FORM(MISC, POS);
	struct form out_cols = cols;
	int64_t scales, out = 4, a = 4;

	if ((mode == FLM_MISC_TOPK || mode == FLM_MISC_SAMPLE) && (!imm || imm > FLM_TOPK_MAX))
		verify_fail(c, "%u candidates", imm);
	/* Even of no columns: a core without a row of the vocabulary has candidates, too. */
	if (mode == FLM_MISC_TOPK)
		topk(c, &cols);
	if (mode == FLM_MISC_SAMPLE)
		return sample(c, &rows, &cols);
	if (form_is_zero(c, &rows) || form_is_zero(c, &cols))
		return;
	if ((mode == FLM_MISC_QUANT || mode == FLM_MISC_DEQUANT) && (!imm || imm > 1024))
		verify_fail(c, "groups of %u", imm);
	if (form_least(c, &pos) < 0)
		verify_fail(c, "a position below zero");
	if (mode == FLM_MISC_SOFTMAX && FLM_GET_HEAD(c->words, FLAGS) & FLM_MISC_MASK)
		verify_fail(c, "a mask, and no program of this compiler has one");
	if (mode == FLM_MISC_ROPE || mode == FLM_MISC_HADAMARD)
		check_blocks(c, mode, imm, &cols);
	if (mode == FLM_MISC_QUANT) {
		out = 1;
		/* Zeros are written up to the next multiple of 16 columns. */
		out_cols.constant += FLM_STRIP - 1;
		out_cols.max = ROUND_UP(cols.max, FLM_STRIP);
	}
	if (mode == FLM_MISC_DEQUANT)
		a = 1;
	if (mode != FLM_MISC_FILL)
		TOUCH(MISC, A, .rows = rows, .pitch = FIELD(MISC, A_PITCH), .size = cols, .each = a,
		      .align = a);
	if (mode == FLM_MISC_ADD || mode == FLM_MISC_MUL || mode == FLM_MISC_RMSNORM ||
	    mode == FLM_MISC_LAYERNORM)
		TOUCH(MISC, B, .rows = FIELD(MISC, B_PITCH) ? rows : fixed(1),
		      .pitch = FIELD(MISC, B_PITCH), .size = cols, .each = 4, .align = 4);
	if (mode == FLM_MISC_LAYERNORM)
		TOUCH(MISC, C, .size = cols, .each = 4, .align = 4);
	if (mode == FLM_MISC_ROPE)
		TOUCH(MISC, B, .rows = FIELD(MISC, B_PITCH) ? rows : fixed(1),
		      .pitch = FIELD(MISC, B_PITCH), .more = 4 * (int64_t)imm, .align = 4);
	if (mode == FLM_MISC_QUANT || mode == FLM_MISC_DEQUANT) {
		int width = FLM_GET_HEAD(c->words, FLAGS) & FLM_MISC_HALF ? 2 : 4;

		/* A short vector may use fewer scales: the greatest number counts. */
		scales = width * (int64_t)DIV_UP(MIN(cols.max, form_greatest(c, &cols)), imm);
		TOUCH(MISC, C, .rows = rows, .pitch = FIELD(MISC, C_PITCH), .more = scales,
		      .align = width);
	}
	if (mode == FLM_MISC_TOPK)
		TOUCH(MISC, OUT, .rows = rows, .pitch = FIELD(MISC, OUT_PITCH),
		      .more = 8 * (int64_t)imm, .align = 4);
	else
		TOUCH(MISC, OUT, .rows = rows, .pitch = FIELD(MISC, OUT_PITCH), .size = out_cols,
		      .each = out, .align = out);
}

static void sys_gather(struct check *c)
{
	struct form rows = SIZE_OF(SYS_GATHER, ROWS), bytes = SIZE_OF(SYS_GATHER, BYTES);

	if (form_is_zero(c, &rows) || form_is_zero(c, &bytes))
		return;
	TOUCH(SYS_GATHER, SRC, .rows = rows, .pitch = FIELD(SYS_GATHER, SRC_PITCH), .size = bytes,
	      .each = 1);
	TOUCH(SYS_GATHER, DST, .rows = rows, .pitch = FIELD(SYS_GATHER, DST_PITCH), .size = bytes,
	      .each = 1);
}

void verify_insn(struct check *c, int insn)
{
	switch (insn) {
	case FLM_INSN_LD_LINEAR:
		return ld_linear(c);
	case FLM_INSN_LD_TILE:
		return ld_tile(c);
	case FLM_INSN_LD_KV:
		return ld_kv(c);
	case FLM_INSN_LD_GATHER:
		return ld_gather(c);
	case FLM_INSN_ST_KV:
		return st_kv(c);
	case FLM_INSN_ST_LOGITS:
		return st_logits(c);
	case FLM_INSN_MM_LINEAR:
		return mm_linear(c);
	case FLM_INSN_MM_QK:
		return mm_qk(c);
	case FLM_INSN_MM_PV:
		return mm_pv(c);
	case FLM_INSN_MV_LINEAR:
		return mv_linear(c);
	case FLM_INSN_MV_QK:
		return mv_qk(c);
	case FLM_INSN_MV_PV:
		return mv_pv(c);
	case FLM_INSN_MISC:
		return misc(c);
	case FLM_INSN_SYNC:
	case FLM_INSN_SYS_BARRIER:
		return;
	case FLM_INSN_SYS_GATHER:
		return sys_gather(c);
	case FLM_INSN_SYS_TOPK:
		if (!FIELD(SYS_TOPK, COUNT) || FIELD(SYS_TOPK, COUNT) > FLM_TOPK_MAX)
			verify_fail(c, "%u candidates", FIELD(SYS_TOPK, COUNT));
		check_candidates(c, candidates_at(c, FLM_SYS_TOPK_SRC_W, FLM_SYS_TOPK_SRC_NUMBER),
				 FIELD(SYS_TOPK, COUNT));
		TOUCH(SYS_TOPK, SRC, .more = 8 * (int64_t)FIELD(SYS_TOPK, COUNT), .align = 4);
		return;
	default:
		verify_fail(c, "an instruction that no program of this compiler has");
	}
}
