// SPDX-License-Identifier: MIT
/*
 * Jobs of compute queues. begin copies everything a job is described by (record, row, page list,
 * program header, streams) and checks the copies; step runs one pass and hands out what it made.
 * What a job is between two passes is all in struct job: nothing of it is on the chip then.
 */
#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device/device.h"

/* Where the word of fault SLOT counts from: slot, record, row, program. */
enum { AT_SLOT = 0, AT_RECORD = 256, AT_ROW = 512, AT_PROGRAM = 1024 };

#define WATCHDOG_DEFAULT	(1ull << 32)
#define FETCH_BYTES		(256u << 10)	/* between two looks whether the job is given up */

struct job {
	struct flm_job_record record;
	struct flm_row row;
	struct flm_program *program;	/* header alone */
	uint32_t *words[2][FLM_UNITS];	/* entries 0 and 1, host order */
	uint32_t counts[2][FLM_UNITS];
	uint32_t *pages;
	unsigned int core;		/* the lowest of the queue's: whose table it reads */
	uint64_t watchdog;
	uint32_t prompt, generate, chunk;	/* of row and program */
	uint32_t fed;			/* prompt tokens fed, then generated ones too */
	uint32_t made;			/* tokens generated */
	uint32_t token;			/* the last of them */
	uint32_t told;			/* of them when the host was last notified */
	int64_t told_ns;
};

void job_free(struct job *job)
{
	if (!job)
		return;
	for (unsigned int e = 0; e < 2; e++)
		for (unsigned int u = 0; u < FLM_UNITS; u++)
			free(job->words[e][u]);
	free(job->program);
	free(job->pages);
	free(job);
}

/* ---- Taking a job apart ---- */

struct loading {
	struct queue *queue;
	struct job *job;
};

static enum step fault(const struct loading *l, unsigned int kind, uint32_t word)
{
	return slot_fault(l->queue, kind, word);
}

#define SLOT_WORD(field)	(AT_SLOT + __builtin_offsetof(struct flm_slot, field))
#define RECORD_WORD(field)	(AT_RECORD + __builtin_offsetof(struct flm_job_record, field))
#define ROW_WORD(field)		(AT_ROW + __builtin_offsetof(struct flm_row, field))
#define PROGRAM_WORD(field)	(AT_PROGRAM + __builtin_offsetof(struct flm_program, field))

/* Offsets that no segment contains are as good as any other. */
static uint64_t add(uint64_t a, uint64_t b)
{
	uint64_t sum;

	return __builtin_add_overflow(a, b, &sum) ? UINT64_MAX : sum;
}

/* A copy of memory that describes the job; one that is given up gets any bytes. */
static enum step fetch(const struct loading *l, unsigned int segment, uint64_t offset, void *to,
		       uint64_t bytes, unsigned int rights)
{
	struct fault *f = &l->queue->work.fault;
	uint64_t at = 0, n;
	int bad = 0;

	for (; !bad && at < bytes && !atomic_load(&l->queue->abort); at += n) {
		n = bytes - at < FETCH_BYTES ? bytes - at : FETCH_BYTES;
		bad = space_read(&l->queue->space, l->job->core, segment, add(offset, at),
				 (uint8_t *)to + at, n, rights, f);
	}
	if (!bad)
		return STEP_GOES_ON;
	l->queue->work.status = FLM_STATUS_FAULT;
	l->queue->work.entry = FLM_NOWHERE;
	f->core = l->job->core;
	f->unit = FLM_NOWHERE;
	f->word = 0;
	return STEP_ENDED;
}

static bool is_zero(const void *memory, size_t bytes)
{
	const uint8_t *p = memory;

	while (bytes--)
		if (*p++)
			return false;
	return true;
}

static float float_of(__le32 bits)
{
	uint32_t word = le32toh(bits);
	float value;

	memcpy(&value, &word, sizeof(value));
	return value;
}

static enum step check_record(const struct loading *l)
{
	const struct flm_job_record *r = &l->job->record;

	if (le32toh(r->bytes) != sizeof(*r))
		return fault(l, FLM_FAULT_VERSION, RECORD_WORD(bytes));
	if (r->flags)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(flags));
	for (unsigned int i = 0; i < FLM_USER_LENGTHS; i++)
		if (le32toh(r->user[i]) > FLM_VALUE_MAX)
			return fault(l, FLM_FAULT_SLOT, RECORD_WORD(user[i]));
	if (le32toh(r->rows) != 1)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(rows));
	if (le64toh(r->row_offset) % 64)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(row_offset));
	if (r->prompt.n || r->prompt.count || le64toh(r->prompt.offset) % 4)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(prompt));
	if (r->ring.n || le64toh(r->ring.offset) % 4)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(ring));
	if (le16toh(r->top.n) > FLM_TOP_MAX || (r->top.n && !r->top.count) ||
	    le64toh(r->top.offset) % 4)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(top));
	if (r->logits_mode > FLM_LOGITS_LAST)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(logits_mode));
	if (r->logits_type != FLM_LOGITS_F32)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(logits_type));
	if (r->logits_mode == FLM_LOGITS_NONE) {
		if (r->logits_segment || r->logits_stride || r->logits_offset || r->logits_first ||
		    r->logits_count)
			return fault(l, FLM_FAULT_SLOT, RECORD_WORD(logits_segment));
	} else if (!r->logits_stride || le32toh(r->logits_stride) % 4) {
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(logits_stride));
	} else if (le64toh(r->logits_offset) % 4) {
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(logits_offset));
	}
	if (!is_zero(&r->mask, sizeof(r->mask)))
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(mask));
	if (!is_zero(&r->results, sizeof(r->results)))
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(results));
	if (r->group)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(group));
	if (r->group_rank)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(group_rank));
	if (r->group_size)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(group_size));
	if (!is_zero(r->reserved, sizeof(r->reserved)))
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(reserved));
	return STEP_GOES_ON;
}

static bool is_fraction(float value)
{
	return value >= 0 && value <= 1;
}

static enum step check_row(const struct loading *l)
{
	const struct flm_row *row = &l->job->row;
	uint64_t position = le32toh(row->position), kv = le32toh(row->kv_length);
	uint64_t prompt = le32toh(row->prompt), generate = le32toh(row->generate);
	float temperature = float_of(row->temperature);

	if (position > FLM_VALUE_MAX)
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(position));
	if (kv > FLM_VALUE_MAX)
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(kv_length));
	if (prompt > FLM_VALUE_MAX || (!prompt && generate))
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(prompt));
	if (position + prompt + generate > FLM_VALUE_MAX || kv + prompt + generate > FLM_VALUE_MAX)
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(generate));
	if (le16toh(row->stop_count) > FLM_STOP_TOKENS)
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(stop_count));
	if (le32toh(row->page_count) > FLM_VALUE_MAX / FLM_PAGE + 1)
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(page_count));
	if (le64toh(row->page_offset) % 4)
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(page_offset));
	if (!(temperature >= 0 && temperature <= 100))
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(temperature));
	if (!is_fraction(float_of(row->top_p)))
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(top_p));
	if (!is_fraction(float_of(row->min_p)))
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(min_p));
	if (row->mask)
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(mask));
	if (row->adapter)
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(adapter));
	if (row->reserved)
		return fault(l, FLM_FAULT_SLOT, ROW_WORD(reserved));
	for (unsigned int i = le16toh(row->stop_count); i < FLM_STOP_TOKENS; i++)
		if (row->stop[i])
			return fault(l, FLM_FAULT_SLOT, ROW_WORD(stop[i]));
	/* A field of the record, but only the row says whether it matters. */
	if (generate && !l->job->record.ring.count)
		return fault(l, FLM_FAULT_SLOT, RECORD_WORD(ring));
	return STEP_GOES_ON;
}

static enum step check_program(const struct loading *l)
{
	const struct flm_program *p = l->job->program;
	uint32_t entries = le32toh(p->entries), chunk = le32toh(p->chunk);

	if (le32toh(p->magic) != FLM_PROGRAM_MAGIC)
		return fault(l, FLM_FAULT_VERSION, PROGRAM_WORD(magic));
	if (le16toh(p->isa_major) != FLM_ISA_MAJOR)
		return fault(l, FLM_FAULT_VERSION, PROGRAM_WORD(isa_major));
	if (!entries || entries > FLM_ENTRIES_MAX || (entries < 2 && l->job->generate > 1))
		return fault(l, FLM_FAULT_SLOT, PROGRAM_WORD(entries));
	if (le32toh(p->cores) != (uint32_t)__builtin_popcount(l->queue->cores))
		return fault(l, FLM_FAULT_SLOT, PROGRAM_WORD(cores));
	if (!chunk || chunk > FLM_CHUNK_MAX)
		return fault(l, FLM_FAULT_SLOT, PROGRAM_WORD(chunk));
	if (p->flags)
		return fault(l, FLM_FAULT_SLOT, PROGRAM_WORD(flags));
	if (le64toh(p->watchdog) > l->job->watchdog)
		return fault(l, FLM_FAULT_SLOT, PROGRAM_WORD(watchdog));
	if (!is_zero(p->reserved, sizeof(p->reserved)))
		return fault(l, FLM_FAULT_SLOT, PROGRAM_WORD(reserved));
	for (unsigned int c = 0; c < FLM_CORES; c++)
		for (unsigned int r = 0; r < FLM_CORE_REGISTERS; r++)
			if (le32toh(p->core[c][r]) > FLM_VALUE_MAX)
				return fault(l, FLM_FAULT_SLOT, PROGRAM_WORD(core[c][r]));
	return STEP_GOES_ON;
}

static enum step load_streams(const struct loading *l, unsigned int segment, uint64_t at)
{
	struct job *job = l->job;
	unsigned int entries = le32toh(job->program->entries) < 2 ? 1 : 2;
	uint32_t left = FLM_PROGRAM_WORDS;

	for (unsigned int e = 0; e < entries; e++) {
		uint64_t place = add(at, sizeof(*job->program) + e * sizeof(struct flm_entry));
		struct flm_entry entry = { 0 };
		enum step step = fetch(l, segment, place, &entry, sizeof(entry), FLM_RIGHT_X);

		for (unsigned int u = 0; step == STEP_GOES_ON && u < FLM_UNITS; u++) {
			uint32_t offset = le32toh(entry.stream[u].offset);
			uint32_t count = le32toh(entry.stream[u].words);
			uint32_t *words;

			if (offset % 4 || !count || count > left)
				return fault(l, FLM_FAULT_SLOT, AT_PROGRAM + sizeof(*job->program) +
					     e * sizeof(entry) + u * sizeof(entry.stream[0]));
			left -= count;
			words = calloc(count, sizeof(*words));
			if (!words)
				return fault(l, FLM_FAULT_INTERNAL, 0);
			job->words[e][u] = words;
			job->counts[e][u] = count;
			step = fetch(l, segment, add(at, offset), words, 4ull * count,
				     FLM_RIGHT_X);
			for (uint32_t i = 0; i < count; i++)
				words[i] = le32toh(words[i]);
		}
		if (step != STEP_GOES_ON)
			return step;
	}
	return STEP_GOES_ON;
}

static enum step load_pages(const struct loading *l)
{
	struct job *job = l->job;
	uint32_t count = le32toh(job->row.page_count);
	enum step step;

	if (!count)
		return STEP_GOES_ON;
	job->pages = calloc(count, sizeof(*job->pages));
	if (!job->pages)
		return fault(l, FLM_FAULT_INTERNAL, 0);
	step = fetch(l, le16toh(job->row.page_segment), le64toh(job->row.page_offset), job->pages,
		     4ull * count, FLM_RIGHT_R);
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

enum step job_begin(struct card *card, struct queue *q, const struct flm_slot *slot)
{
	struct job *job = calloc(1, sizeof(*job));
	struct loading l = { .queue = q, .job = job };
	uint64_t at = le64toh(slot->program), record = le64toh(slot->job);
	unsigned int segment = le16toh(slot->program_segment), records = le16toh(slot->job_segment);
	uint64_t points;
	enum step step;

	(void)card;
	if (!job)
		return fault(&l, FLM_FAULT_INTERNAL, 0);
	q->job = job;
	job->program = calloc(1, sizeof(*job->program));
	if (!job->program)
		return fault(&l, FLM_FAULT_INTERNAL, 0);
	job->core = __builtin_ctz(q->cores);
	job->watchdog = q->watchdog ? q->watchdog : WATCHDOG_DEFAULT;
	job->told_ns = wall_ns();
	if (at % 64)
		return fault(&l, FLM_FAULT_SLOT, SLOT_WORD(program));
	if (record % 64)
		return fault(&l, FLM_FAULT_SLOT, SLOT_WORD(job));
	step = fetch(&l, records, record, &job->record, sizeof(job->record), FLM_RIGHT_R);
	if (step == STEP_GOES_ON)
		step = check_record(&l);
	if (step == STEP_GOES_ON)
		step = fetch(&l, records, le64toh(job->record.row_offset), &job->row,
			     sizeof(job->row), FLM_RIGHT_R);
	job->prompt = le32toh(job->row.prompt);
	job->generate = le32toh(job->row.generate);
	if (step == STEP_GOES_ON)
		step = check_row(&l);
	if (step == STEP_GOES_ON)
		step = load_pages(&l);
	if (step == STEP_GOES_ON)
		step = fetch(&l, segment, at, job->program, sizeof(*job->program), FLM_RIGHT_X);
	if (step == STEP_GOES_ON)
		step = check_program(&l);
	if (step == STEP_GOES_ON)
		step = load_streams(&l, segment, at);
	if (step != STEP_GOES_ON)
		return step;
	job->chunk = le32toh(job->program->chunk);
	points = (job->prompt + job->chunk - 1) / job->chunk;
	points += job->generate > 1 ? job->generate - 1 : 0;
	if (points > le32toh(slot->max_points))
		return fault(&l, FLM_FAULT_SLOT, SLOT_WORD(max_points));
	if (!job->prompt) {
		q->work.status = FLM_STATUS_DONE;
		return STEP_ENDED;
	}
	return STEP_GOES_ON;
}

/* ---- Passes ---- */

/* Rows of this pass whose logits are wanted, without the sampled one: first and count. */
static void wanted_rows(const struct job *job, struct exec_pass *pass)
{
	const struct flm_job_record *r = &job->record;
	uint64_t pos = pass->lengths[FLM_LENGTH_POS], tokens = pass->lengths[FLM_LENGTH_TOKENS];
	uint64_t first = le32toh(r->logits_first), end = first + le32toh(r->logits_count);
	uint64_t from = pos, to = pos + tokens;

	if (r->logits_mode == FLM_LOGITS_NONE)
		return;
	if (r->logits_mode == FLM_LOGITS_LAST)
		from = pass->logits.ends_prompt ? to - 1 : to;
	if (pass->lengths[FLM_LENGTH_SAMPLE])
		to--;
	if (from < first)
		from = first;
	if (to > end)
		to = end;
	if (from >= to)
		return;
	pass->lengths[FLM_LENGTH_LOGIT_FIRST] = from - pos;
	pass->lengths[FLM_LENGTH_LOGIT_ROWS] = to - from;
}

static void make_pass(struct card *card, struct queue *q, struct exec_pass *pass)
{
	const struct job *job = q->job;
	const struct flm_job_record *r = &job->record;
	bool is_prompt = job->fed < job->prompt;
	uint32_t tokens = is_prompt ? job->prompt - job->fed : 1;
	unsigned int entry, rank = 0;

	if (tokens > job->chunk)
		tokens = job->chunk;
	entry = is_prompt ? FLM_ENTRY_CHUNK : FLM_ENTRY_TOKEN;
	memset(pass, 0, sizeof(*pass));
	pass->space = &q->space;
	pass->cores = q->cores;
	pass->pages = job->pages;
	pass->page_count = le32toh(job->row.page_count);
	pass->kv_start = le32toh(job->row.kv_length);
	pass->watchdog = job->watchdog;
	pass->abort = &q->abort;
	for (unsigned int u = 0; u < FLM_UNITS; u++)
		pass->streams[u] = (struct exec_stream) {
			job->words[entry][u], job->counts[entry][u] };
	pass->lengths[FLM_LENGTH_POS] = le32toh(job->row.position) + job->fed;
	pass->lengths[FLM_LENGTH_TOKENS] = tokens;
	pass->lengths[FLM_LENGTH_KV] = le32toh(job->row.kv_length) + job->fed;
	pass->lengths[FLM_LENGTH_KV_END] = pass->lengths[FLM_LENGTH_KV] + tokens;
	pass->lengths[FLM_LENGTH_GENERATE] = job->generate - job->made;
	pass->lengths[FLM_LENGTH_ROWS] = 1;
	pass->lengths[FLM_LENGTH_SAMPLE] = job->generate && job->fed + tokens >= job->prompt;
	for (unsigned int i = 0; i < FLM_USER_LENGTHS; i++)
		pass->lengths[FLM_LENGTH_USER + i] = le32toh(r->user[i]);
	for (unsigned int c = 0; c < card->profile.cores; c++) {
		if (!(q->cores >> c & 1))
			continue;
		for (unsigned int i = 0; i < FLM_CORE_REGISTERS; i++)
			pass->registers[c][i] = le32toh(job->program->core[rank][i]);
		rank++;
	}
	pass->logits.wanted = r->logits_mode;
	pass->logits.ends_prompt = job->fed + tokens >= job->prompt;
	pass->logits.segment = le16toh(r->logits_segment);
	pass->logits.offset = le64toh(r->logits_offset);
	pass->logits.first = le32toh(r->logits_first);
	pass->logits.count = le32toh(r->logits_count);
	pass->logits.stride = le32toh(r->logits_stride);
	wanted_rows(job, pass);
	pass->sampler.temperature = float_of(job->row.temperature);
	pass->sampler.top_k = le32toh(job->row.top_k);
	pass->sampler.top_p = float_of(job->row.top_p);
	pass->sampler.min_p = float_of(job->row.min_p);
	pass->sampler.seed = le64toh(job->row.seed);
}

/* The ids of the pass: prompt from memory, or the last token made. */
static enum step fetch_tokens(const struct loading *l, const struct exec_pass *pass,
			      uint32_t tokens[FLM_CHUNK_MAX])
{
	const struct job *job = l->job;
	uint32_t count = pass->lengths[FLM_LENGTH_TOKENS];
	enum step step;

	if (job->fed >= job->prompt) {
		tokens[0] = job->token;
		return STEP_GOES_ON;
	}
	step = fetch(l, le16toh(job->record.prompt.segment),
		     add(le64toh(job->record.prompt.offset), 4ull * job->fed), tokens,
		     4ull * count, FLM_RIGHT_R);
	for (uint32_t i = 0; i < count; i++)
		tokens[i] = le32toh(tokens[i]);
	return step;
}

/*
 * What work of a pass costs on the card: work / peak, bytes / bandwidth, and a cycle for each step.
 * An instruction has either work or bytes, so the sum over all is the larger of the two for each.
 */
static uint64_t cycles_of(const struct card *card, const struct queue *q,
			  const struct exec_work *work)
{
	const struct profile *p = &card->profile;
	double cores = __builtin_popcount(q->cores);
	double macs = (double)work->mm_macs / p->mm_macs + (double)work->mv_macs / p->mv_macs;
	double bytes = (double)(work->bytes_read + work->bytes_written) * p->clock_khz /
		       (1000.0 * p->hbm_mbps);

	return (uint64_t)ceil((macs + bytes + work->steps) / cores) + 1;
}

uint64_t job_cycles_so_far(const struct card *card, const struct queue *q)
{
	struct exec_work work;

	exec_work_so_far(card->exec, q->cores, &work);
	return cycles_of(card, q, &work);
}

static void cost(const struct card *card, struct queue *q, const struct exec_result *result)
{
	q->work.step_cycles = cycles_of(card, q, &result->work);
	q->work.step_us = q->work.step_cycles * 1000 / card->profile.clock_khz + 1;
	q->work.step_instructions = result->instructions;
	memcpy(q->work.unit_instructions, result->by_unit, sizeof(result->by_unit));
}

/* Token, its candidates and the count go to the host. */
static enum step hand_out(struct card *card, const struct loading *l,
			  const struct exec_result *result)
{
	struct job *job = l->job;
	struct queue *q = l->queue;
	const struct flm_span *ring = &job->record.ring, *top = &job->record.top;
	struct flm_candidate candidates[FLM_TOP_MAX];
	uint32_t n = le16toh(top->n), token = htole32(result->token);
	struct fault *f = &q->work.fault;
	int bad;

	bad = space_write(&q->space, job->core, le16toh(ring->segment), add(le64toh(ring->offset),
			  4ull * (job->made % le32toh(ring->count))), &token, 4, f);
	if (!bad && n) {
		for (uint32_t i = 0; i < n; i++)
			candidates[i] = i < result->top_count ? result->top[i] :
				(struct flm_candidate) {
					htole32(0xff800000), htole32(FLM_CANDIDATE_NONE) };
		bad = space_write(&q->space, job->core, le16toh(top->segment),
				  add(le64toh(top->offset),
				  sizeof(candidates[0]) * n * (job->made % le32toh(top->count))),
				  candidates, n * sizeof(candidates[0]), f);
	}
	if (bad) {
		q->work.status = FLM_STATUS_FAULT;
		q->work.entry = FLM_NOWHERE;
		f->core = job->core;
		f->unit = FLM_NOWHERE;
		f->word = 0;
		return STEP_ENDED;
	}
	job->token = result->token;
	job->made++;
	q->work.value = job->made;
	q->work.step_tokens = 1;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	queue_store32(card, q, __builtin_offsetof(struct flm_status_page, tokens), job->made);
	return STEP_GOES_ON;
}

static void notify(struct queue *q)
{
	struct job *job = q->job;
	uint32_t tokens = le32toh(job->record.notify_tokens);
	int64_t now = wall_ns();

	if (!tokens || job->made - job->told < tokens ||
	    now - job->told_ns < le32toh(job->record.notify_ms) * 1000000ll)
		return;
	job->told = job->made;
	job->told_ns = now;
	q->work.wants_interrupt = true;
}

static enum step ended(struct queue *q, unsigned int status)
{
	q->work.status = status;
	return STEP_ENDED;
}

static bool is_stop_token(const struct job *job)
{
	for (unsigned int i = 0; i < le16toh(job->row.stop_count); i++)
		if (le32toh(job->row.stop[i]) == job->token)
			return true;
	return false;
}

static bool fits(const struct job *job, const struct exec_pass *pass)
{
	uint32_t pages = le32toh(job->row.page_count);

	return !pages || pass->lengths[FLM_LENGTH_KV_END] <= (uint64_t)pages * FLM_PAGE;
}

enum step job_step(struct card *card, struct queue *q)
{
	struct job *job = q->job;
	struct loading l = { .queue = q, .job = job };
	bool is_prompt = job->fed < job->prompt;
	uint32_t tokens[FLM_CHUNK_MAX] = { 0 };
	struct exec_result result;
	struct exec_pass pass, next;
	enum step step;

	make_pass(card, q, &pass);
	pass.tokens = tokens;
	if (!fits(job, &pass))
		return ended(q, FLM_STATUS_KV_FULL);
	for (unsigned int i = 0; i < FLM_LENGTHS; i++) {
		if (pass.lengths[i] >= le32toh(job->program->bounds[i].min) &&
		    pass.lengths[i] <= le32toh(job->program->bounds[i].max))
			continue;
		step = fault(&l, FLM_FAULT_BOUND, i);
		q->work.entry = is_prompt ? FLM_ENTRY_CHUNK : FLM_ENTRY_TOKEN;
		return step;
	}
	step = fetch_tokens(&l, &pass, tokens);
	if (step != STEP_GOES_ON)
		return step;
	if (exec_pass(card->exec, &pass, &result)) {
		cost(card, q, &result);
		if (result.aborted)
			return STEP_GOES_ON;	/* whoever aborted it says what becomes of it */
		q->work.status = FLM_STATUS_FAULT;
		q->work.fault = result.fault;
		q->work.entry = is_prompt ? FLM_ENTRY_CHUNK : FLM_ENTRY_TOKEN;
		return STEP_ENDED;
	}
	cost(card, q, &result);
	job->fed += pass.lengths[FLM_LENGTH_TOKENS];
	q->work.points++;
	if (pass.lengths[FLM_LENGTH_SAMPLE]) {
		step = hand_out(card, &l, &result);
		if (step != STEP_GOES_ON)
			return step;
		if (is_stop_token(job))
			return ended(q, FLM_STATUS_STOP_TOKEN);
	}
	if (job->fed >= job->prompt && job->made >= job->generate)
		return ended(q, FLM_STATUS_DONE);
	if (queue_is_stopped(card, q))
		return ended(q, FLM_STATUS_STOPPED);
	make_pass(card, q, &next);
	if (!fits(job, &next))
		return ended(q, FLM_STATUS_KV_FULL);
	notify(q);
	return STEP_GOES_ON;
}
