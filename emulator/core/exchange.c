// SPDX-License-Identifier: MIT
/*
 * Exchanges between cores, once the SYS units of all cores of a job have met. Nothing else of the
 * job runs then, so one thread does it for all; floats are only compared here, never added.
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/core/core.h"
#include "emulator/core/math.h"

#define CYCLE_BYTES	64		/* what a core takes in a cycle */
#define PART_BYTES	(1u << 20)	/* between two looks whether the pass is to stop */

static const struct unit *sys_of(const struct core *core)
{
	return &core->units[FLM_UNIT_SYS];
}

bool exchange_is_same(const struct core *a, const struct core *b)
{
	const struct unit *x = sys_of(a), *y = sys_of(b);

	return x->at == y->at && x->depth == y->depth &&
	       !memcmp(x->trips, y->trips, x->depth * sizeof(x->trips[0]));
}

static struct core *refuse(struct core *core, enum flm_fault kind)
{
	core_fault(core, kind);
	return core;
}

/*
 * Copies what a sender's rows span, gaps included, so that rows at a pitch of zero or that overlap
 * need no more room than the buffer they lie in.
 */
static int take_rows(struct core *core)
{
	const struct insn *insn = &sys_of(core)->insn;
	uint64_t rows = VALUE(insn, SYS_GATHER, ROWS), bytes = VALUE(insn, SYS_GATHER, BYTES);
	uint64_t pitch = VALUE(insn, SYS_GATHER, SRC_PITCH);
	const uint8_t *from;

	if (insn->is_empty)
		return 0;
	from = core_in(core, PLACE(insn, SYS_GATHER, SRC), 0, rows, pitch, bytes, 1);
	if (!from)
		return -1;
	memcpy(core->scratch->bytes, from, (rows - 1) * pitch + bytes);
	return 0;
}

/* A core takes so many bytes of a row or list. True once the pass is to stop. */
static bool takes(struct core *core, uint64_t bytes)
{
	return core_step(core, (bytes + CYCLE_BYTES - 1) / CYCLE_BYTES);
}

/* One row to one core. */
static int give_row(struct core *to, uint8_t *at, const uint8_t *from, uint64_t bytes)
{
	uint64_t done, n;

	for (done = 0; done < bytes; done += n) {
		n = bytes - done < PART_BYTES ? bytes - done : PART_BYTES;
		if (takes(to, n))
			return -1;
		memcpy(at + done, from + done, n);
	}
	return 0;
}

/*
 * Buffers have the same size in all cores, so what the sender may write it may write in each. A
 * pass that is to stop is left half done: the cores find out by themselves.
 */
static int give_rows(struct core *from, struct core *const *cores, unsigned int count)
{
	const struct insn *insn = &sys_of(from)->insn;
	uint64_t rows = VALUE(insn, SYS_GATHER, ROWS), bytes = VALUE(insn, SYS_GATHER, BYTES), r;
	uint64_t src_pitch = VALUE(insn, SYS_GATHER, SRC_PITCH);
	uint64_t dst_pitch = VALUE(insn, SYS_GATHER, DST_PITCH);
	const struct place *place = PLACE(insn, SYS_GATHER, DST);
	unsigned int k;

	if (insn->is_empty)
		return 0;
	if (!core_out(from, place, 0, rows, dst_pitch, bytes, 1))
		return -1;
	for (k = 0; k < count; k++) {
		uint8_t *at = core_out(cores[k], place, 0, rows, dst_pitch, bytes, 1);

		for (r = 0; r < rows; r++)
			if (give_row(cores[k], at + r * dst_pitch,
				     from->scratch->bytes + r * src_pitch, bytes))
				return 0;
	}
	return 0;
}

static struct core *gather(struct core *const *cores, unsigned int count)
{
	unsigned int i;

	for (i = 0; i < count; i++)
		if (take_rows(cores[i]))
			return cores[i];
	for (i = 0; i < count; i++)
		if (give_rows(cores[i], cores, count))
			return cores[i];
	return NULL;
}

static uint32_t load_word(const uint8_t *at)
{
	uint32_t word;

	memcpy(&word, at, sizeof(word));
	return le32toh(word);
}

static void store_word(uint8_t *at, uint32_t word)
{
	word = htole32(word);
	memcpy(at, &word, sizeof(word));
}

static uint32_t greater(uint32_t m, uint32_t x)
{
	float a = math_float(m), b = math_float(x);

	if (a != a || b != b)
		return 0x7fc00000;
	return b > a ? x : m;
}

/* Each core takes a part of a list, `left` bytes of which are left. */
static bool all_take(struct core *const *cores, unsigned int count, uint64_t left)
{
	bool stops = false;
	unsigned int k;

	for (k = 0; k < count; k++)
		stops |= takes(cores[k], left < PART_BYTES ? left : PART_BYTES);
	return stops;
}

/* allmax and allsum: a value of each core at the same index becomes one value in all of them. */
static struct core *reduce(struct core *const *cores, unsigned int count, bool is_sum)
{
	uint8_t *at[EXEC_CORES_MAX];
	uint64_t values = 0, i;
	unsigned int k;

	for (k = 0; k < count; k++) {
		const struct insn *insn = &sys_of(cores[k])->insn;
		uint64_t own = is_sum ? VALUE(insn, SYS_SUM, COUNT) : VALUE(insn, SYS_MAX, COUNT);

		if (k && own != values)
			return refuse(cores[k], FLM_FAULT_EXCHANGE);
		values = own;
		at[k] = core_out(cores[k],
				 is_sum ? PLACE(insn, SYS_SUM, SRC) : PLACE(insn, SYS_MAX, SRC),
				 0, 1, 0, values * 4, 4);
		if (!at[k])
			return cores[k];
	}
	for (i = 0; i < values; i++) {
		uint32_t result = load_word(at[0] + 4 * i);

		if (i % (PART_BYTES / 4) == 0 && all_take(cores, count, 4 * (values - i)))
			return NULL;
		/* One core alone still writes its NaN in the one form there is. */
		if (!is_sum)
			result = greater(result, result);
		for (k = 1; k < count; k++) {
			uint32_t x = load_word(at[k] + 4 * i);

			result = is_sum ? result + x : greater(result, x);
		}
		for (k = 0; k < count; k++)
			store_word(at[k] + 4 * i, result);
	}
	return NULL;
}

struct entry {
	uint64_t rank;		/* 0: absent */
	uint32_t order, logit, id;
};

static int compare_entries(const void *a, const void *b)
{
	const struct entry *x = a, *y = b;

	if (x->rank != y->rank)
		return x->rank < y->rank ? 1 : -1;
	return x->order < y->order ? -1 : 1;
}

static struct core *best(struct core *const *cores, unsigned int count)
{
	struct entry entries[EXEC_CORES_MAX * FLM_TOPK_MAX];
	uint8_t *at[EXEC_CORES_MAX];
	uint32_t total = 0, i;
	uint64_t own = 0;
	unsigned int k;

	for (k = 0; k < count; k++) {
		const struct insn *insn = &sys_of(cores[k])->insn;

		own = VALUE(insn, SYS_TOPK, COUNT);
		at[k] = core_out(cores[k], PLACE(insn, SYS_TOPK, SRC), 0, 1, 0,
				 own * sizeof(struct flm_candidate), 4);
		if (!at[k])
			return cores[k];
	}
	for (k = 0; k < count; k++) {
		for (i = 0; i < own; i++, total++) {
			struct entry *e = &entries[total];
			float logit = math_float(load_word(at[k] + 8 * i));

			*e = (struct entry) { .order = total, .logit = math_bits(logit),
					      .id = load_word(at[k] + 8 * i + 4) };
			if (logit != logit || e->id == FLM_CANDIDATE_NONE)
				e->logit = 0xff800000;
			if (e->id != FLM_CANDIDATE_NONE)
				e->rank = math_rank(logit, e->id);
		}
	}
	if (all_take(cores, count, own * sizeof(struct flm_candidate)))
		return NULL;
	qsort(entries, total, sizeof(entries[0]), compare_entries);
	for (k = 0; k < count; k++) {
		for (i = 0; i < own; i++) {
			store_word(at[k] + 8 * i, entries[i].logit);
			store_word(at[k] + 8 * i + 4, entries[i].id);
		}
	}
	return NULL;
}

struct core *exchange_run(struct core *const *cores, unsigned int count)
{
	unsigned int i;

	/* The meeting itself. */
	for (i = 0; i < count; i++)
		core_step(cores[i], 1);
	switch (sys_of(cores[0])->insn.kind) {
	case FLM_INSN_SYS_GATHER:
		return gather(cores, count);
	case FLM_INSN_SYS_MAX:
		return reduce(cores, count, false);
	case FLM_INSN_SYS_SUM:
		return reduce(cores, count, true);
	case FLM_INSN_SYS_TOPK:
		return best(cores, count);
	default:
		return NULL;
	}
}
