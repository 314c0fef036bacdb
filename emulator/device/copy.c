// SPDX-License-Identifier: MIT
/* Copy queues: bytes between segments, fills, checksums; a point every FLM_COPY_POINT bytes. */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device/device.h"
#include "lib/crc32c.h"

#define BUFFER_BYTES 65536

struct copy {
	struct flm_copy_slot slot;
	unsigned int op;
	uint64_t at, bytes;		/* moved, of all */
	uint32_t crc;			/* so far */
	uint8_t buffer[BUFFER_BYTES];
};

void copy_free(struct copy *copy)
{
	free(copy);
}

#define WORD(field) __builtin_offsetof(struct flm_copy_slot, field)

static enum step check(struct card *card, struct queue *q, const struct flm_copy_slot *s,
		       unsigned int op)
{
	unsigned int cores = card->profile.cores;

	const struct { bool is_wrong; uint32_t word; } rules[] = {
		{ op == FLM_SLOT_FILL && s->src, WORD(src) },
		{ op == FLM_SLOT_CRC32C && s->dst, WORD(dst) },
		{ op == FLM_SLOT_FILL && s->src_segment, WORD(src_segment) },
		{ op == FLM_SLOT_CRC32C && s->dst_segment, WORD(dst_segment) },
		{ op == FLM_SLOT_FILL && s->src_core, WORD(src_core) },
		{ op == FLM_SLOT_CRC32C && s->dst_core, WORD(dst_core) },
		{ op != FLM_SLOT_FILL && s->fill, WORD(fill) },
		{ s->src_core >= cores, WORD(src_core) },
		{ s->dst_core >= cores, WORD(dst_core) },
		{ !s->bytes, WORD(bytes) },
		{ op == FLM_SLOT_FILL && le64toh(s->dst) % 4, WORD(dst) },
		{ op == FLM_SLOT_FILL && le64toh(s->bytes) % 4, WORD(bytes) },
	};

	for (unsigned int i = 0; i < sizeof(rules) / sizeof(rules[0]); i++)
		if (rules[i].is_wrong)
			return slot_fault(q, FLM_FAULT_SLOT, rules[i].word);
	return STEP_GOES_ON;
}

enum step copy_check_reserved(struct queue *q, const struct flm_copy_slot *s)
{
	if (s->reserved0)
		return slot_fault(q, FLM_FAULT_SLOT, WORD(reserved0));
	if (s->reserved1[0] || s->reserved1[1] || s->reserved1[2])
		return slot_fault(q, FLM_FAULT_SLOT, WORD(reserved1));
	return STEP_GOES_ON;
}

enum step copy_begin(struct card *card, struct queue *q, const struct flm_copy_slot *slot)
{
	unsigned int op = q->flags & FLM_SLOT_OP_MASK;
	struct copy *copy;
	enum step step = check(card, q, slot, op);

	if (step != STEP_GOES_ON)
		return step;
	copy = malloc(sizeof(*copy));
	if (!copy)
		return slot_fault(q, FLM_FAULT_INTERNAL, 0);
	copy->slot = *slot;
	copy->op = op;
	copy->at = 0;
	copy->bytes = le64toh(slot->bytes);
	copy->crc = 0;
	if (op == FLM_SLOT_FILL)
		for (size_t i = 0; i < BUFFER_BYTES; i += 4)
			memcpy(copy->buffer + i, &slot->fill, 4);
	q->copy = copy;
	return STEP_GOES_ON;
}

static int move(struct queue *q, struct copy *copy, uint64_t n)
{
	const struct flm_copy_slot *s = &copy->slot;
	struct fault *f = &q->work.fault;
	/* None wraps: all bytes before `at` were found inside their segment. */
	uint64_t src = le64toh(s->src), dst = le64toh(s->dst);

	f->core = s->src_core;
	if (copy->op != FLM_SLOT_FILL &&
	    space_read(&q->space, s->src_core, le16toh(s->src_segment), src + copy->at,
		       copy->buffer, n,
		       FLM_RIGHT_R, f))
		return -1;
	f->core = s->dst_core;
	if (copy->op != FLM_SLOT_CRC32C)
		return space_write(&q->space, s->dst_core, le16toh(s->dst_segment), dst + copy->at,
				   copy->buffer, n, f);
	copy->crc = flm_crc32c(copy->crc, copy->buffer, n);
	return 0;
}

enum step copy_step(struct card *card, struct queue *q)
{
	struct copy *copy = q->copy;
	uint64_t end = copy->bytes - copy->at < FLM_COPY_POINT ? copy->bytes :
		       copy->at + FLM_COPY_POINT;
	uint64_t begin = copy->at, n;

	for (; copy->at < end && !atomic_load(&q->abort); copy->at += n) {
		n = end - copy->at < BUFFER_BYTES ? end - copy->at : BUFFER_BYTES;
		if (!move(q, copy, n))
			continue;
		q->work.status = FLM_STATUS_FAULT;
		q->work.entry = FLM_NOWHERE;
		q->work.fault.unit = FLM_NOWHERE;
		q->work.fault.word = 0;
		return STEP_ENDED;
	}
	/* PCIe Gen3 x16 moves 12.5 GB/s. */
	q->work.step_us = (copy->at - begin) / 12500 + 1;
	q->work.step_cycles = q->work.step_us * card->clock.khz / 1000;
	if (atomic_load(&q->abort))
		return STEP_GOES_ON;
	q->work.points++;
	if (copy->at == copy->bytes) {
		q->work.status = FLM_STATUS_DONE;
		if (copy->op == FLM_SLOT_CRC32C)
			q->work.value = copy->crc;
		return STEP_ENDED;
	}
	if (slot_is_stopped(card, q)) {
		q->work.status = FLM_STATUS_STOPPED;
		return STEP_ENDED;
	}
	return STEP_GOES_ON;
}
