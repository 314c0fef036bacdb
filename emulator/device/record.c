// SPDX-License-Identifier: MIT
/*
 * A job is taken apart: everything it is described by (record, sequence, page list, program header,
 * streams) is copied, and the copies are checked, in the order of SPEC.md ("Beginning").
 */
#include <endian.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device/job.h"

/* Where the word of fault SLOT counts from: slot, record, sequence, program. */
enum { AT_SLOT = 0, AT_RECORD = 256, AT_SEQUENCE = 512, AT_PROGRAM = 1024 };

#define WATCHDOG_DEFAULT	(1ull << 32)
#define FETCH_BYTES		(256u << 10)	/* between two looks whether the job is given up */

enum step job_refused(struct queue *q)
{
	struct fault *f = &q->work.fault;

	q->work.status = FLM_STATUS_FAULT;
	q->work.entry = FLM_NOWHERE;
	f->core = q->job->core;
	f->unit = FLM_NOWHERE;
	f->word = 0;
	return STEP_ENDED;
}

enum step job_fetch(struct queue *q, unsigned int segment, uint64_t offset, void *to,
		    uint64_t bytes, unsigned int rights)
{
	uint64_t at = 0, n;
	int bad = 0;

	for (; !bad && at < bytes && !atomic_load(&q->abort); at += n) {
		n = bytes - at < FETCH_BYTES ? bytes - at : FETCH_BYTES;
		bad = space_read(&q->space, q->job->core, segment, job_add(offset, at),
				 (uint8_t *)to + at, n, rights, &q->work.fault);
	}
	return bad ? job_refused(q) : STEP_GOES_ON;
}

#define SLOT_WORD(field)	(AT_SLOT + __builtin_offsetof(struct flm_slot, field))
#define RECORD_WORD(field)	(AT_RECORD + __builtin_offsetof(struct flm_job_record, field))
#define SEQUENCE_WORD(field) (AT_SEQUENCE + __builtin_offsetof(struct flm_sequence, field))
#define PROGRAM_WORD(field)	(AT_PROGRAM + __builtin_offsetof(struct flm_program, field))

static bool is_zero(const void *memory, size_t bytes)
{
	const uint8_t *p = memory;

	while (bytes--)
		if (*p++)
			return false;
	return true;
}

static enum step check_record(struct queue *q)
{
	const struct flm_job_record *r = &q->job->record;

	if (le32toh(r->bytes) != sizeof(*r))
		return slot_fault(q, FLM_FAULT_VERSION, RECORD_WORD(bytes));
	if (r->flags)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(flags));
	for (unsigned int i = 0; i < FLM_USER_LENGTHS; i++)
		if (le32toh(r->user[i]) > FLM_VALUE_MAX)
			return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(user[i]));
	if (le32toh(r->sequences) != 1)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(sequences));
	if (le64toh(r->sequence_offset) % 64)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(sequence_offset));
	if (r->prompt.n || r->prompt.count || le64toh(r->prompt.offset) % 4)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(prompt));
	if (r->ring.n || le64toh(r->ring.offset) % 4)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(ring));
	if (le16toh(r->top.n) > FLM_TOP_MAX || (r->top.n && !r->top.count) ||
	    le64toh(r->top.offset) % 4)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(top));
	if (r->logits_mode > FLM_LOGITS_LAST)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(logits_mode));
	if (r->logits_type != FLM_LOGITS_F32)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(logits_type));
	if (r->logits_mode == FLM_LOGITS_NONE) {
		if (r->logits_segment || r->logits_stride || r->logits_offset || r->logits_first ||
		    r->logits_count)
			return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(logits_segment));
	} else if (!r->logits_stride || le32toh(r->logits_stride) % 4) {
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(logits_stride));
	} else if (le64toh(r->logits_offset) % 4) {
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(logits_offset));
	}
	if (!is_zero(&r->mask, sizeof(r->mask)))
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(mask));
	if (!is_zero(&r->results, sizeof(r->results)))
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(results));
	if (r->group)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(group));
	if (r->group_rank)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(group_rank));
	if (r->group_size)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(group_size));
	if (!is_zero(r->reserved, sizeof(r->reserved)))
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(reserved));
	return STEP_GOES_ON;
}

static bool is_fraction(float value)
{
	return value >= 0 && value <= 1;
}

static enum step check_sequence(struct queue *q)
{
	const struct flm_sequence *sequence = &q->job->sequence;
	uint64_t position = le32toh(sequence->position), kv = le32toh(sequence->kv_length);
	uint64_t prompt = le32toh(sequence->prompt), generate = le32toh(sequence->generate);
	float temperature = job_float(sequence->temperature);

	if (position > FLM_VALUE_MAX)
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(position));
	if (kv > FLM_VALUE_MAX)
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(kv_length));
	if (prompt > FLM_VALUE_MAX || (!prompt && generate))
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(prompt));
	if (position + prompt + generate > FLM_VALUE_MAX || kv + prompt + generate > FLM_VALUE_MAX)
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(generate));
	if (le16toh(sequence->stop_count) > FLM_STOP_TOKENS)
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(stop_count));
	if (le32toh(sequence->page_count) > FLM_VALUE_MAX / FLM_PAGE + 1)
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(page_count));
	if (le64toh(sequence->page_offset) % 4)
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(page_offset));
	if (!(temperature >= 0 && temperature <= 100))
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(temperature));
	if (!is_fraction(job_float(sequence->top_p)))
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(top_p));
	if (!is_fraction(job_float(sequence->min_p)))
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(min_p));
	if (sequence->mask)
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(mask));
	if (sequence->adapter)
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(adapter));
	if (sequence->reserved)
		return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(reserved));
	for (unsigned int i = le16toh(sequence->stop_count); i < FLM_STOP_TOKENS; i++)
		if (sequence->stop[i])
			return slot_fault(q, FLM_FAULT_SLOT, SEQUENCE_WORD(stop[i]));
	/* A field of the record, but only the sequence says whether it matters. */
	if (generate && !q->job->record.ring.count)
		return slot_fault(q, FLM_FAULT_SLOT, RECORD_WORD(ring));
	return STEP_GOES_ON;
}

static enum step check_program(struct queue *q)
{
	const struct flm_program *p = q->job->program;
	uint32_t entries = le32toh(p->entries), chunk = le32toh(p->chunk);

	if (le32toh(p->magic) != FLM_PROGRAM_MAGIC)
		return slot_fault(q, FLM_FAULT_VERSION, PROGRAM_WORD(magic));
	if (le16toh(p->isa_major) != FLM_ISA_MAJOR)
		return slot_fault(q, FLM_FAULT_VERSION, PROGRAM_WORD(isa_major));
	if (!entries || entries > FLM_ENTRIES_MAX || (entries < 2 && q->job->generate > 1))
		return slot_fault(q, FLM_FAULT_SLOT, PROGRAM_WORD(entries));
	if (le32toh(p->cores) != (uint32_t)__builtin_popcount(q->cores))
		return slot_fault(q, FLM_FAULT_SLOT, PROGRAM_WORD(cores));
	if (!chunk || chunk > FLM_CHUNK_MAX)
		return slot_fault(q, FLM_FAULT_SLOT, PROGRAM_WORD(chunk));
	if (p->flags)
		return slot_fault(q, FLM_FAULT_SLOT, PROGRAM_WORD(flags));
	if (le64toh(p->watchdog) > q->job->watchdog)
		return slot_fault(q, FLM_FAULT_SLOT, PROGRAM_WORD(watchdog));
	if (!is_zero(p->reserved, sizeof(p->reserved)))
		return slot_fault(q, FLM_FAULT_SLOT, PROGRAM_WORD(reserved));
	for (unsigned int c = 0; c < FLM_CORES; c++)
		for (unsigned int r = 0; r < FLM_CORE_REGISTERS; r++)
			if (le32toh(p->core[c][r]) > FLM_VALUE_MAX)
				return slot_fault(q, FLM_FAULT_SLOT, PROGRAM_WORD(core[c][r]));
	return STEP_GOES_ON;
}

static enum step load_streams(struct queue *q, unsigned int segment, uint64_t at)
{
	struct job *job = q->job;
	unsigned int entries = le32toh(job->program->entries) < 2 ? 1 : 2;
	uint32_t left = FLM_PROGRAM_WORDS;

	for (unsigned int e = 0; e < entries; e++) {
		uint64_t place = job_add(at, sizeof(*job->program) + e * sizeof(struct flm_entry));
		struct flm_entry entry = { 0 };
		enum step step = job_fetch(q, segment, place, &entry, sizeof(entry), FLM_RIGHT_X);

		for (unsigned int u = 0; step == STEP_GOES_ON && u < FLM_UNITS; u++) {
			uint32_t offset = le32toh(entry.stream[u].offset);
			uint32_t count = le32toh(entry.stream[u].words);
			uint32_t *words;

			if (offset % 4 || !count || count > left)
				return slot_fault(q, FLM_FAULT_SLOT,
						  AT_PROGRAM + sizeof(*job->program) +
						  e * sizeof(entry) + u * sizeof(entry.stream[0]));
			left -= count;
			words = calloc(count, sizeof(*words));
			if (!words)
				return slot_fault(q, FLM_FAULT_INTERNAL, 0);
			job->words[e][u] = words;
			job->counts[e][u] = count;
			step = job_fetch(q, segment, job_add(at, offset), words, 4ull * count,
					 FLM_RIGHT_X);
			for (uint32_t i = 0; i < count; i++)
				words[i] = le32toh(words[i]);
		}
		if (step != STEP_GOES_ON)
			return step;
	}
	return STEP_GOES_ON;
}

static enum step load_pages(struct queue *q)
{
	struct job *job = q->job;
	uint32_t count = le32toh(job->sequence.page_count);
	enum step step;

	if (!count)
		return STEP_GOES_ON;
	job->pages = calloc(count, sizeof(*job->pages));
	if (!job->pages)
		return slot_fault(q, FLM_FAULT_INTERNAL, 0);
	step = job_fetch(q, le16toh(job->sequence.page_segment), le64toh(job->sequence.page_offset),
			 job->pages, 4ull * count, FLM_RIGHT_R);
	for (uint32_t i = 0; i < count; i++)
		job->pages[i] = le32toh(job->pages[i]);
	return step;
}

enum step job_check_reserved(struct queue *q, const struct flm_slot *slot)
{
	if (!is_zero(slot->reserved, sizeof(slot->reserved)))
		return slot_fault(q, FLM_FAULT_SLOT, SLOT_WORD(reserved));
	return STEP_GOES_ON;
}

enum step job_begin(struct queue *q, const struct flm_slot *slot)
{
	struct job *job = calloc(1, sizeof(*job));
	uint64_t at = le64toh(slot->program), record = le64toh(slot->job);
	unsigned int segment = le16toh(slot->program_segment), records = le16toh(slot->job_segment);
	uint64_t points;
	enum step step;

	if (!job)
		return slot_fault(q, FLM_FAULT_INTERNAL, 0);
	q->job = job;
	job->program = calloc(1, sizeof(*job->program));
	if (!job->program)
		return slot_fault(q, FLM_FAULT_INTERNAL, 0);
	job->core = __builtin_ctz(q->cores);
	job->watchdog = q->watchdog ? q->watchdog : WATCHDOG_DEFAULT;
	job->told_ns = wall_ns();
	if (at % 64)
		return slot_fault(q, FLM_FAULT_SLOT, SLOT_WORD(program));
	if (record % 64)
		return slot_fault(q, FLM_FAULT_SLOT, SLOT_WORD(job));
	step = job_fetch(q, records, record, &job->record, sizeof(job->record), FLM_RIGHT_R);
	if (step == STEP_GOES_ON)
		step = check_record(q);
	if (step == STEP_GOES_ON)
		step = job_fetch(q, records, le64toh(job->record.sequence_offset), &job->sequence,
				 sizeof(job->sequence), FLM_RIGHT_R);
	job->prompt = le32toh(job->sequence.prompt);
	job->generate = le32toh(job->sequence.generate);
	if (step == STEP_GOES_ON)
		step = check_sequence(q);
	if (step == STEP_GOES_ON)
		step = load_pages(q);
	if (step == STEP_GOES_ON)
		step = job_fetch(q, segment, at, job->program, sizeof(*job->program), FLM_RIGHT_X);
	if (step == STEP_GOES_ON)
		step = check_program(q);
	if (step == STEP_GOES_ON)
		step = load_streams(q, segment, at);
	if (step != STEP_GOES_ON)
		return step;
	job->chunk = le32toh(job->program->chunk);
	points = (job->prompt + job->chunk - 1) / job->chunk;
	points += job->generate > 1 ? job->generate - 1 : 0;
	if (points > le32toh(slot->max_points))
		return slot_fault(q, FLM_FAULT_SLOT, SLOT_WORD(max_points));
	if (!job->prompt) {
		q->work.status = FLM_STATUS_DONE;
		return STEP_ENDED;
	}
	return STEP_GOES_ON;
}
