// SPDX-License-Identifier: MIT
/* Jobs of compute queues, pass by pass: each step runs one and hands out what it made. */
#include <endian.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/device/job.h"

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
	pass->page_count = le32toh(job->sequence.page_count);
	pass->kv_start = le32toh(job->sequence.kv_length);
	pass->watchdog = job->watchdog;
	pass->abort = &q->abort;
	for (unsigned int u = 0; u < FLM_UNITS; u++)
		pass->streams[u] = (struct exec_stream) {
			job->words[entry][u], job->counts[entry][u] };
	pass->lengths[FLM_LENGTH_POS] = le32toh(job->sequence.position) + job->fed;
	pass->lengths[FLM_LENGTH_TOKENS] = tokens;
	pass->lengths[FLM_LENGTH_KV] = le32toh(job->sequence.kv_length) + job->fed;
	pass->lengths[FLM_LENGTH_KV_END] = pass->lengths[FLM_LENGTH_KV] + tokens;
	pass->lengths[FLM_LENGTH_GENERATE] = job->generate - job->made;
	pass->lengths[FLM_LENGTH_SEQUENCES] = 1;
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
	pass->sampler.temperature = job_float(job->sequence.temperature);
	pass->sampler.top_k = le32toh(job->sequence.top_k);
	pass->sampler.top_p = job_float(job->sequence.top_p);
	pass->sampler.min_p = job_float(job->sequence.min_p);
	pass->sampler.seed = le64toh(job->sequence.seed);
}

/* The ids of the pass: prompt from memory, or the last token made. */
static enum step fetch_tokens(struct queue *q, const struct exec_pass *pass,
			      uint32_t tokens[FLM_CHUNK_MAX])
{
	const struct job *job = q->job;
	uint32_t count = pass->lengths[FLM_LENGTH_TOKENS];
	enum step step;

	if (job->fed >= job->prompt) {
		tokens[0] = job->token;
		return STEP_GOES_ON;
	}
	step = job_fetch(q, le16toh(job->record.prompt.segment),
			 job_add(le64toh(job->record.prompt.offset), 4ull * job->fed), tokens,
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
	q->work.step_us = q->work.step_cycles * 1000 / card->clock.khz + 1;
	q->work.step_instructions = result->instructions;
	memcpy(q->work.unit_instructions, result->by_unit, sizeof(result->by_unit));
}

/* Token, its candidates and the count go to the host. */
static enum step hand_out(struct card *card, struct queue *q,
			  const struct exec_result *result)
{
	struct job *job = q->job;
	const struct flm_span *ring = &job->record.ring, *top = &job->record.top;
	struct flm_candidate candidates[FLM_TOP_MAX];
	uint32_t n = le16toh(top->n), token = htole32(result->token);
	struct fault *f = &q->work.fault;
	int bad;

	bad = space_write(&q->space, job->core, le16toh(ring->segment),
			  job_add(le64toh(ring->offset),
				  4ull * (job->made % le32toh(ring->count))), &token, 4, f);
	if (!bad && n) {
		for (uint32_t i = 0; i < n; i++)
			candidates[i] = i < result->top_count ? result->top[i] :
				(struct flm_candidate) {
					htole32(0xff800000), htole32(FLM_CANDIDATE_NONE) };
		bad = space_write(&q->space, job->core, le16toh(top->segment),
				  job_add(le64toh(top->offset),
				  sizeof(candidates[0]) * n * (job->made % le32toh(top->count))),
				  candidates, n * sizeof(candidates[0]), f);
	}
	if (bad)
		return job_refused(q);
	job->token = result->token;
	job->made++;
	q->work.value = job->made;
	q->work.step_tokens = 1;
	__atomic_thread_fence(__ATOMIC_SEQ_CST);
	slot_store32(card, q, __builtin_offsetof(struct flm_status_page, made), job->made);
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
	for (unsigned int i = 0; i < le16toh(job->sequence.stop_count); i++)
		if (le32toh(job->sequence.stop[i]) == job->token)
			return true;
	return false;
}

static bool fits(const struct job *job, const struct exec_pass *pass)
{
	uint32_t pages = le32toh(job->sequence.page_count);

	return !pages || pass->lengths[FLM_LENGTH_KV_END] <= (uint64_t)pages * FLM_PAGE;
}

enum step job_step(struct card *card, struct queue *q)
{
	struct job *job = q->job;
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
		step = slot_fault(q, FLM_FAULT_BOUND, i);
		q->work.entry = is_prompt ? FLM_ENTRY_CHUNK : FLM_ENTRY_TOKEN;
		return step;
	}
	step = fetch_tokens(q, &pass, tokens);
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
		step = hand_out(card, q, &result);
		if (step != STEP_GOES_ON)
			return step;
		if (is_stop_token(job))
			return ended(q, FLM_STATUS_STOP_TOKEN);
	}
	if (job->fed >= job->prompt && job->made >= job->generate)
		return ended(q, FLM_STATUS_DONE);
	if (slot_is_stopped(card, q))
		return ended(q, FLM_STATUS_STOPPED);
	make_pass(card, q, &next);
	if (!fits(job, &next))
		return ended(q, FLM_STATUS_KV_FULL);
	notify(q);
	return STEP_GOES_ON;
}
