// SPDX-License-Identifier: MIT
/*
 * The doors of a core: on-chip ranges, segments, block masks. What passes here is checked once for
 * all rows of an operand, so the operations themselves need no checks.
 */
#include "emulator/core/core.h"

#include <stddef.h>

int core_fault(struct core *core, enum flm_fault kind)
{
	core->fault.kind = kind;
	core->fault.segment = 0;
	core->fault.offset = 0;
	return -1;
}

bool core_is_aborted(struct core *core)
{
	if (core->pass->abort && atomic_load_explicit(core->pass->abort, memory_order_relaxed))
		core->is_aborted = true;
	return core->is_aborted;
}

bool core_step(struct core *core, uint64_t cycles)
{
	core_count(&core->steps, cycles);
	return core_is_aborted(core);
}

/* Byte offset in the buffer, or -1. `rows` and `bytes` are not zero. */
static int64_t range_check(const struct core *core, const struct place *place, uint64_t skip,
			   uint64_t rows, uint64_t pitch, uint64_t bytes, unsigned int align,
			   int64_t *end)
{
	int64_t start, span;

	if (skip > INT64_MAX || bytes > INT64_MAX ||
	    __builtin_add_overflow(place->offset, (int64_t)skip, &start) ||
	    __builtin_mul_overflow(rows - 1, pitch, &span) ||
	    __builtin_add_overflow(span, (int64_t)bytes, &span) ||
	    __builtin_add_overflow(start, span, end))
		return -1;
	if (start < 0 || *end > core->buffer_bytes[place->buffer])
		return -1;
	if (start % align || (rows > 1 && pitch % align))
		return -1;
	return start;
}

const uint8_t *core_in(struct core *core, const struct place *place, uint64_t skip, uint64_t rows,
		       uint64_t pitch, uint64_t bytes, unsigned int align)
{
	int64_t start, end;

	if (!rows || !bytes)
		return core->buffers[place->buffer];
	start = range_check(core, place, skip, rows, pitch, bytes, align, &end);
	if (start < 0) {
		core_fault(core, FLM_FAULT_BUFFER);
		return NULL;
	}
	return core->buffers[place->buffer] + start;
}

uint8_t *core_out(struct core *core, const struct place *place, uint64_t skip, uint64_t rows,
		  uint64_t pitch, uint64_t bytes, unsigned int align)
{
	unsigned int b = place->buffer;
	int64_t start, end;

	if (!rows || !bytes)
		return core->buffers[b];
	start = range_check(core, place, skip, rows, pitch, bytes, align, &end);
	if (start < 0) {
		core_fault(core, FLM_FAULT_BUFFER);
		return NULL;
	}
	if (start < core->dirty_from[b])
		core->dirty_from[b] = (uint32_t)start;
	if (end > core->dirty_to[b])
		core->dirty_to[b] = (uint32_t)end;
	return core->buffers[b] + start;
}

int core_load(struct core *core, uint64_t segment, uint64_t offset, void *to, uint64_t bytes)
{
	if (!bytes)
		return 0;
	core_count(&core->bytes_read, bytes);
	return space_read(core->pass->space, core->index, (unsigned int)segment, offset, to, bytes,
			  FLM_RIGHT_R, &core->fault);
}

static int store_as(struct core *core, unsigned int index, uint64_t segment, uint64_t offset,
		    const void *from, uint64_t bytes)
{
	if (!bytes)
		return 0;
	core_count(&core->bytes_written, bytes);
	return space_write(core->pass->space, index, (unsigned int)segment, offset, from, bytes,
			   &core->fault);
}

int core_store(struct core *core, uint64_t segment, uint64_t offset, const void *from,
	       uint64_t bytes)
{
	return store_as(core, core->index, segment, offset, from, bytes);
}

int core_store_job(struct core *core, uint64_t segment, uint64_t offset, const void *from,
		   uint64_t bytes)
{
	return store_as(core, (unsigned int)__builtin_ctz(core->pass->cores), segment, offset, from,
			bytes);
}

uint64_t core_offset(uint64_t a, uint64_t b, uint64_t c)
{
	uint64_t sum;

	if (__builtin_mul_overflow(b, c, &sum) || __builtin_add_overflow(sum, a, &sum))
		return UINT64_MAX;
	return sum;
}

int core_mask(struct core *core, const struct place *place, uint64_t pitch, uint64_t query,
	      uint64_t queries, uint64_t key, uint64_t keys, struct mask *mask)
{
	uint64_t last_query = (query + queries - 1) / FLM_PAGE;
	uint64_t last_byte = (key + keys - 1) / FLM_PAGE / 8;

	mask->pitch = pitch;
	mask->first_query = query / FLM_PAGE;
	mask->first_byte = key / FLM_PAGE / 8;
	mask->bits = core_in(core, place, core_offset(mask->first_byte, mask->first_query, pitch),
			     last_query - mask->first_query + 1, pitch,
			     last_byte - mask->first_byte + 1, 1);
	return mask->bits ? 0 : -1;
}
