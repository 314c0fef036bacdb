// SPDX-License-Identifier: MIT
/*
 * What LD and ST do, and the parts of a weight tile. Each byte that any instruction touches goes
 * through ref_memory() or ref_chip(), which are the only bounds checks.
 */
#include <stdlib.h>
#include <string.h>

#include "tests/ref/ref_ops.h"

/* Bytes */

/* Bytes of a segment of the instruction's core. */
int ref_memory(struct ref_insn *in, uint32_t segment, uint64_t offset, uint64_t bytes,
	       uint32_t right, uint8_t **at)
{
	const struct ref_segment *s = &in->isa->core[in->core].segment[segment];
	int ret = FLM_FAULT_NONE;

	*at = NULL;
	if (!bytes)
		return FLM_FAULT_NONE;
	if (!s->length)
		ret = FLM_FAULT_SEGMENT;
	else if (!(s->rights & right))
		ret = FLM_FAULT_RIGHTS;
	else if (bytes > s->length || offset > s->length - bytes)
		ret = FLM_FAULT_SEGMENT;
	if (ret) {
		in->fault->segment = segment;
		in->fault->offset = offset;
		return ret;
	}
	*at = s->bytes + offset;
	return FLM_FAULT_NONE;
}

/* On-chip bytes of one core: `add` bytes behind `place`. */
int ref_chip_of(struct ref_insn *in, int core, struct ref_value place, int64_t add,
		uint64_t bytes, int align, uint8_t **at)
{
	uint64_t size = in->isa->buffer_bytes[place.buffer];
	int64_t offset;

	*at = NULL;
	if (!bytes)
		return FLM_FAULT_NONE;
	if (__builtin_add_overflow(place.value, add, &offset))
		return FLM_FAULT_BUFFER;
	if (offset < 0 || offset % align || bytes > size || (uint64_t)offset > size - bytes)
		return FLM_FAULT_BUFFER;
	*at = in->isa->core[core].buffer[place.buffer] + offset;
	return FLM_FAULT_NONE;
}

int ref_chip(struct ref_insn *in, struct ref_value place, int64_t add, uint64_t bytes, int align,
	     uint8_t **at)
{
	return ref_chip_of(in, in->core, place, add, bytes, align, at);
}

int ref_chip_rows(struct ref_insn *in, struct ref_value place, uint64_t rows, uint64_t pitch,
		  uint64_t bytes, int align)
{
	uint8_t *at;
	uint64_t r;
	int ret = FLM_FAULT_NONE;

	for (r = 0; r < rows && !ret; r++)
		ret = ref_chip(in, place, r * pitch, bytes, align, &at);
	return ret;
}

int ref_chip_mask(struct ref_insn *in, struct ref_value place, uint32_t pitch, uint64_t first_query,
		  uint64_t last_query, uint64_t first_key, uint64_t last_key)
{
	uint64_t b, k;
	bool kept;
	int ret;

	for (b = first_query; b <= last_query; b++) {
		for (k = first_key; k <= last_key; k++) {
			ret = ref_is_kept(in, place, pitch, b, k, &kept);
			if (ret)
				return ret;
		}
	}
	return FLM_FAULT_NONE;
}

int ref_is_kept(struct ref_insn *in, struct ref_value masks, uint32_t pitch, uint64_t query_block,
		uint64_t key_block, bool *kept)
{
	uint8_t *at;
	int64_t add;
	int ret;

	if (__builtin_mul_overflow(query_block, pitch, &add) ||
	    __builtin_add_overflow(add, key_block / 8, &add))
		return FLM_FAULT_BUFFER;
	ret = ref_chip(in, masks, add, 1, 1, &at);
	if (ret)
		return ret;
	*kept = *at >> key_block % 8 & 1;
	return FLM_FAULT_NONE;
}

/* LD and ST */

static int ld_linear(struct ref_insn *in)
{
	uint64_t rows = VALUE(in, LD_LINEAR, ROWS), bytes = VALUE(in, LD_LINEAR, BYTES), r;
	uint8_t *from, *to;
	int ret;

	ret = ref_chip_rows(in, PLACE(in, LD_LINEAR, DST), rows, FIELD(in, LD_LINEAR, DST_PITCH),
			    bytes, 1);
	if (ret)
		return ret;
	for (r = 0; r < rows; r++) {
		ret = ref_memory(in, FIELD(in, LD_LINEAR, SEG),
				 VALUE(in, LD_LINEAR, OFF) + r * FIELD(in, LD_LINEAR, SRC_PITCH),
				 bytes, FLM_RIGHT_R, &from);
		if (ret)
			return ret;
		ret = ref_chip(in, PLACE(in, LD_LINEAR, DST), r * FIELD(in, LD_LINEAR, DST_PITCH),
			       bytes, 1, &to);
		if (ret)
			return ret;
		memmove(to, from, bytes);
	}
	return FLM_FAULT_NONE;
}

static int st_linear(struct ref_insn *in)
{
	uint64_t rows = VALUE(in, ST_LINEAR, ROWS), bytes = VALUE(in, ST_LINEAR, BYTES), r;
	uint8_t *from, *to;
	int ret;

	ret = ref_chip_rows(in, PLACE(in, ST_LINEAR, SRC), rows, FIELD(in, ST_LINEAR, SRC_PITCH),
			    bytes, 1);
	if (ret)
		return ret;
	for (r = 0; r < rows; r++) {
		ret = ref_chip(in, PLACE(in, ST_LINEAR, SRC), r * FIELD(in, ST_LINEAR, SRC_PITCH),
			       bytes, 1, &from);
		if (ret)
			return ret;
		ret = ref_memory(in, FIELD(in, ST_LINEAR, SEG),
				 VALUE(in, ST_LINEAR, OFF) + r * FIELD(in, ST_LINEAR, DST_PITCH),
				 bytes, FLM_RIGHT_W, &to);
		if (ret)
			return ret;
		memmove(to, from, bytes);
	}
	return FLM_FAULT_NONE;
}

static int ld_gather(struct ref_insn *in)
{
	uint64_t rows = VALUE(in, LD_GATHER, ROWS), bytes = VALUE(in, LD_GATHER, BYTES), r, offset;
	uint8_t *index, *from, *to;
	uint32_t i;
	int ret;

	ret = ref_chip_rows(in, PLACE(in, LD_GATHER, INDEX), 1, 0, 4 * rows, 4);
	if (!ret)
		ret = ref_chip_rows(in, PLACE(in, LD_GATHER, DST), rows,
				    FIELD(in, LD_GATHER, DST_PITCH), bytes, 1);
	if (ret)
		return ret;
	for (r = 0; r < rows; r++) {
		ret = ref_chip(in, PLACE(in, LD_GATHER, INDEX), 4 * r, 4, 4, &index);
		if (ret)
			return ret;
		i = ref_get32(index);
		if (i >= FIELD(in, LD_GATHER, LIMIT))
			return FLM_FAULT_INDEX;
		offset = (uint64_t)i * FIELD(in, LD_GATHER, SRC_PITCH);
		if (__builtin_add_overflow(offset, (uint64_t)VALUE(in, LD_GATHER, OFF), &offset))
			return FLM_FAULT_SEGMENT;
		ret = ref_memory(in, FIELD(in, LD_GATHER, SEG), offset, bytes, FLM_RIGHT_R, &from);
		if (ret)
			return ret;
		ret = ref_chip(in, PLACE(in, LD_GATHER, DST), r * FIELD(in, LD_GATHER, DST_PITCH),
			       bytes, 1, &to);
		if (ret)
			return ret;
		memmove(to, from, bytes);
	}
	return FLM_FAULT_NONE;
}

/* Where position p of a KV operand lies: bytes a position at `part` of its page. */
static int kv_offset(struct ref_insn *in, uint64_t p, uint64_t page_bytes, uint64_t part,
		     uint64_t bytes, uint64_t *offset)
{
	uint64_t i = p / FLM_PAGE;

	if (i >= in->isa->page_count)
		return FLM_FAULT_INDEX;
	*offset = part + p % FLM_PAGE * bytes;
	if (bytes && *offset + bytes > page_bytes)
		return FLM_FAULT_INDEX;
	*offset += (uint64_t)in->isa->pages[i] * page_bytes;
	return FLM_FAULT_NONE;
}

/* Whether any query block of the instruction keeps the key block of position p. */
static int kv_is_kept(struct ref_insn *in, uint64_t p, bool *kept)
{
	uint64_t first = VALUE(in, LD_KV, QUERY) / FLM_PAGE;
	uint64_t last = (VALUE(in, LD_KV, QUERY) + VALUE(in, LD_KV, QUERIES) - 1) / FLM_PAGE;
	uint64_t b;
	int ret;

	*kept = true;
	if (!(in->flags & FLM_LD_KV_MASK))
		return FLM_FAULT_NONE;
	for (b = first; b <= last; b++) {
		ret = ref_is_kept(in, PLACE(in, LD_KV, MASKS), FIELD(in, LD_KV, MASK_PITCH), b,
				  p / FLM_PAGE, kept);
		if (ret || *kept)
			return ret;
	}
	return FLM_FAULT_NONE;
}

static int ld_kv(struct ref_insn *in)
{
	uint64_t first = VALUE(in, LD_KV, FIRST), count = VALUE(in, LD_KV, COUNT);
	uint64_t query = VALUE(in, LD_KV, QUERY);
	uint64_t value_bytes = FIELD(in, LD_KV, VALUE_BYTES);
	uint64_t scale_bytes = FIELD(in, LD_KV, SCALE_BYTES);
	uint64_t p, offset;
	uint8_t *from, *to;
	bool kept;
	int ret;

	ret = ref_chip_rows(in, PLACE(in, LD_KV, DST), 1, 0, count * value_bytes, 1);
	if (!ret)
		ret = ref_chip_rows(in, PLACE(in, LD_KV, DST_SCALES), 1, 0, count * scale_bytes, 1);
	if (!ret && in->flags & FLM_LD_KV_MASK)
		ret = ref_chip_mask(in, PLACE(in, LD_KV, MASKS), FIELD(in, LD_KV, MASK_PITCH),
				    query / FLM_PAGE,
				    (query + VALUE(in, LD_KV, QUERIES) - 1) / FLM_PAGE,
				    first / FLM_PAGE, (first + count - 1) / FLM_PAGE);
	if (ret)
		return ret;
	for (p = first; p < first + count; p++) {
		ret = kv_is_kept(in, p, &kept);
		if (ret)
			return ret;
		if (!kept)
			continue;
		ret = kv_offset(in, p, FIELD(in, LD_KV, PAGE), VALUE(in, LD_KV, VALUES),
				value_bytes, &offset);
		if (!ret)
			ret = ref_memory(in, FIELD(in, LD_KV, SEG), offset, value_bytes,
					 FLM_RIGHT_R, &from);
		if (!ret)
			ret = ref_chip(in, PLACE(in, LD_KV, DST), (p - first) * value_bytes,
				       value_bytes, 1, &to);
		if (ret)
			return ret;
		if (value_bytes)
			memmove(to, from, value_bytes);
		ret = kv_offset(in, p, FIELD(in, LD_KV, PAGE), VALUE(in, LD_KV, SCALES),
				scale_bytes, &offset);
		if (!ret)
			ret = ref_memory(in, FIELD(in, LD_KV, SEG), offset, scale_bytes,
					 FLM_RIGHT_R, &from);
		if (!ret)
			ret = ref_chip(in, PLACE(in, LD_KV, DST_SCALES), (p - first) * scale_bytes,
				       scale_bytes, 1, &to);
		if (ret)
			return ret;
		if (scale_bytes)
			memmove(to, from, scale_bytes);
	}
	return FLM_FAULT_NONE;
}

static int st_kv(struct ref_insn *in)
{
	uint64_t first = VALUE(in, ST_KV, FIRST), count = VALUE(in, ST_KV, COUNT);
	uint64_t value_bytes = FIELD(in, ST_KV, VALUE_BYTES);
	uint64_t scale_bytes = FIELD(in, ST_KV, SCALE_BYTES);
	uint64_t p, offset;
	uint8_t *from, *to;
	int ret;

	ret = ref_chip_rows(in, PLACE(in, ST_KV, SRC), count, FIELD(in, ST_KV, SRC_PITCH),
			    value_bytes, 1);
	if (!ret)
		ret = ref_chip_rows(in, PLACE(in, ST_KV, SRC_SCALES), count,
				    FIELD(in, ST_KV, SCALE_PITCH), scale_bytes, 1);
	if (ret)
		return ret;
	for (p = first; p < first + count; p++) {
		if (p < in->isa->kv_start)
			return FLM_FAULT_RIGHTS;
		ret = kv_offset(in, p, FIELD(in, ST_KV, PAGE), VALUE(in, ST_KV, VALUES),
				value_bytes, &offset);
		if (!ret)
			ret = ref_memory(in, FIELD(in, ST_KV, SEG), offset, value_bytes,
					 FLM_RIGHT_W, &to);
		if (!ret)
			ret = ref_chip(in, PLACE(in, ST_KV, SRC),
				       (p - first) * FIELD(in, ST_KV, SRC_PITCH), value_bytes, 1,
				       &from);
		if (ret)
			return ret;
		if (value_bytes)
			memmove(to, from, value_bytes);
		ret = kv_offset(in, p, FIELD(in, ST_KV, PAGE), VALUE(in, ST_KV, SCALES),
				scale_bytes, &offset);
		if (!ret)
			ret = ref_memory(in, FIELD(in, ST_KV, SEG), offset, scale_bytes,
					 FLM_RIGHT_W, &to);
		if (!ret)
			ret = ref_chip(in, PLACE(in, ST_KV, SRC_SCALES),
				       (p - first) * FIELD(in, ST_KV, SCALE_PITCH), scale_bytes, 1,
				       &from);
		if (ret)
			return ret;
		if (scale_bytes)
			memmove(to, from, scale_bytes);
	}
	return FLM_FAULT_NONE;
}

/*
 * Position p goes to offset + (p - first) * stride if the job wants it. The segment is the job's:
 * that of the lowest core, whichever core stores.
 */
static int st_logits(struct ref_insn *in)
{
	const struct ref_logits *l = &in->isa->logits;
	uint64_t pos = in->isa->length[FLM_LENGTH_POS];
	uint64_t last = pos + in->isa->length[FLM_LENGTH_TOKENS] - 1;
	uint64_t rows = VALUE(in, ST_LOGITS, ROWS), cols = VALUE(in, ST_LOGITS, COLS);
	uint64_t col = VALUE(in, ST_LOGITS, COL), r, p, offset;
	struct ref_insn job = *in;
	uint8_t *from, *to;
	int ret;

	ret = ref_chip_rows(in, PLACE(in, ST_LOGITS, SRC), rows, FIELD(in, ST_LOGITS, SRC_PITCH),
			    4 * cols, 4);
	if (ret)
		return ret;
	job.core = 0;
	for (r = 0; r < rows; r++) {
		p = pos + VALUE(in, ST_LOGITS, ROW) + r;
		if (l->mode == FLM_LOGITS_NONE || p < l->first || p - l->first >= l->count)
			continue;
		if (l->mode == FLM_LOGITS_LAST && (p != last || !in->isa->ends_prompt))
			continue;
		if (col + cols > l->stride / 4)
			return FLM_FAULT_INDEX;
		if (__builtin_mul_overflow(p - l->first, l->stride, &offset) ||
		    __builtin_add_overflow(offset, l->offset, &offset) ||
		    __builtin_add_overflow(offset, 4 * col, &offset))
			return FLM_FAULT_SEGMENT;
		ret = ref_chip(in, PLACE(in, ST_LOGITS, SRC), r * FIELD(in, ST_LOGITS, SRC_PITCH),
			       4 * cols, 4, &from);
		if (ret)
			return ret;
		ret = ref_memory(&job, l->segment, offset, 4 * cols, FLM_RIGHT_W, &to);
		if (ret)
			return ret;
		memmove(to, from, 4 * cols);
	}
	return FLM_FAULT_NONE;
}

/* Weights: strips and tiles */

int ref_read_strip(struct ref_insn *in, uint32_t segment, uint64_t table, uint64_t row,
		   struct ref_strip *s)
{
	uint8_t *at;
	int ret;

	ret = ref_memory(in, segment, table + row * 32, 32, FLM_RIGHT_R, &at);
	if (ret)
		return ret;
	s->width = at[0];
	s->is_sparse = at[1] & FLM_STRIP_SPARSE;
	s->blocks = at[2] | at[3] << 8;
	s->codes = (uint64_t)ref_get32(at + 4) * 64;
	s->n = (uint64_t)ref_get32(at + 8) * 64;
	s->masks = (uint64_t)ref_get32(at + 12) * 64;
	s->scales = (uint64_t)ref_get32(at + 16) * 64;
	if (s->width != 2 && s->width != 3 && s->width != 4 && s->width != 5 && s->width != 8)
		return FLM_FAULT_FORMAT;
	if (at[1] & ~FLM_STRIP_SPARSE || s->blocks < 1 || s->blocks > 256)
		return FLM_FAULT_FORMAT;
	if (ref_get32(at + 20) || ref_get32(at + 24) || ref_get32(at + 28))
		return FLM_FAULT_FORMAT;
	if (!s->is_sparse && (s->n || s->masks))
		return FLM_FAULT_FORMAT;
	return FLM_FAULT_NONE;
}

int ref_part_bytes(const struct ref_strip *s, const uint8_t *n, uint64_t *codes, uint64_t *masks)
{
	uint32_t i;

	*codes = 0;
	*masks = 0;
	if (!s->is_sparse) {
		*codes = 2 * s->width * 16 * s->blocks;
		return FLM_FAULT_NONE;
	}
	for (i = 0; i < s->blocks; i++) {
		if (n[i] != 0 && n[i] != 2 && n[i] != 4 && n[i] != 8 && n[i] != 16)
			return FLM_FAULT_FORMAT;
		*codes += 2 * n[i] * s->width;
		if (n[i] == 2 || n[i] == 4 || n[i] == 8)
			*masks += 32;
	}
	return FLM_FAULT_NONE;
}

uint64_t ref_scale_bytes(const struct ref_strip *s)
{
	return (uint64_t)(s->blocks + 3) / 4 * 32;
}

static int copy_in(struct ref_insn *in, uint32_t segment, uint64_t offset, uint64_t bytes,
		   struct ref_value place, int64_t add)
{
	uint8_t *from, *to;
	int ret;

	ret = ref_memory(in, segment, offset, bytes, FLM_RIGHT_R, &from);
	if (ret)
		return ret;
	ret = ref_chip(in, place, add, bytes, 64, &to);
	if (!ret && bytes)
		memmove(to, from, bytes);
	return ret;
}

static int ld_tile(struct ref_insn *in)
{
	struct ref_value dst = PLACE(in, LD_TILE, DST), idx = PLACE(in, LD_TILE, IDX);
	uint64_t pitch = FIELD(in, LD_TILE, PITCH), idx_pitch = FIELD(in, LD_TILE, IDX_PITCH);
	uint64_t strips = VALUE(in, LD_TILE, STRIPS), codes, masks, scales, i;
	uint32_t seg = FIELD(in, LD_TILE, SEG);
	struct ref_strip s;
	uint8_t *n, *at;
	int ret;

	if (VALUE(in, LD_TILE, TABLE) % 32)
		return FLM_FAULT_BOUND;
	if (dst.buffer != FLM_BUFFER_WGT)
		return FLM_FAULT_BUFFER;
	for (i = 0; i < strips; i++) {
		ret = ref_read_strip(in, seg, VALUE(in, LD_TILE, TABLE),
				     VALUE(in, LD_TILE, ROW) + i * FIELD(in, LD_TILE, STEP), &s);
		if (ret)
			return ret;
		n = NULL;
		if (s.is_sparse) {
			if (idx.buffer != FLM_BUFFER_IDX)
				return FLM_FAULT_BUFFER;
			ret = ref_memory(in, seg, s.n, ref_pad64(s.blocks), FLM_RIGHT_R, &n);
			if (ret)
				return ret;
		}
		ret = ref_part_bytes(&s, n, &codes, &masks);
		if (ret)
			return ret;
		codes = ref_pad64(codes);
		masks = ref_pad64(masks);
		scales = ref_pad64(ref_scale_bytes(&s));
		if (codes + scales > pitch)
			return FLM_FAULT_FORMAT;
		if (s.is_sparse && ref_pad64(s.blocks) + masks > idx_pitch)
			return FLM_FAULT_FORMAT;
		ret = ref_chip(in, dst, i * pitch, codes + scales, 64, &at);
		if (!ret && s.is_sparse)
			ret = ref_chip(in, idx, i * idx_pitch, ref_pad64(s.blocks) + masks, 64,
				       &at);
		if (!ret)
			ret = copy_in(in, seg, s.codes, codes, dst, i * pitch);
		if (!ret)
			ret = copy_in(in, seg, s.scales, scales, dst, i * pitch + codes);
		if (!ret && s.is_sparse)
			ret = copy_in(in, seg, s.n, ref_pad64(s.blocks), idx, i * idx_pitch);
		if (!ret && s.is_sparse)
			ret = copy_in(in, seg, s.masks, masks, idx,
				      i * idx_pitch + ref_pad64(s.blocks));
		if (ret)
			return ret;
	}
	return FLM_FAULT_NONE;
}

int ref_ops_do(struct ref_insn *in)
{
	switch (in->insn) {
	case FLM_INSN_LD_LINEAR:
		return ld_linear(in);
	case FLM_INSN_LD_TILE:
		return ld_tile(in);
	case FLM_INSN_LD_KV:
		return ld_kv(in);
	case FLM_INSN_LD_GATHER:
		return ld_gather(in);
	case FLM_INSN_ST_LINEAR:
		return st_linear(in);
	case FLM_INSN_ST_KV:
		return st_kv(in);
	case FLM_INSN_ST_LOGITS:
		return st_logits(in);
	case FLM_INSN_MM_LINEAR:
	case FLM_INSN_MM_QK:
	case FLM_INSN_MM_PV:
	case FLM_INSN_MV_LINEAR:
	case FLM_INSN_MV_QK:
	case FLM_INSN_MV_PV:
		return ref_ops_matrix(in);
	case FLM_INSN_MISC:
		return ref_ops_misc(in);
	default:
		return FLM_FAULT_NONE;	/* sync */
	}
}
