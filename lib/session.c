// SPDX-License-Identifier: MIT
/*
 * A session: one sequence of tokens, its KV pages, a context and a queue of its own. A request is
 * one job (or a chain of them where the driver bounds a job's length): the session writes a job
 * record, the card runs prompt and tokens, the session reads them from the token ring.
 *
 * State between requests is two numbers: `cached` positions in the KV cache, and perhaps one
 * pending token, generated but not yet fed back. Everything else belongs to the card while a job
 * runs.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <flightllm/file.h>
#include <flightllm/queue.h>

#include "lib/flightllm_isa.h"
#include "lib/internal.h"

/* Places in the job buffer: record and row, then arrays of le32. */
#define SEQUENCE_AT		sizeof(struct flm_job_record)
#define ARRAYS_AT	1024

/* Streaming: the card interrupts for new tokens, but no more often than this. */
#define NOTIFY_MS	10

/* Times that a part is cut again before its refusal is believed. */
#define REFUSALS_MAX	8

struct flm_session {
	struct flm_model *model;
	struct flm_context *context;
	struct flm_queue *queue;
	struct flm_bo *kv[FLM_CORES_MAX];
	struct flm_bo *job;
	struct flm_bo *logits;		/* grown when asked for */
	uint8_t *memory;		/* of job */
	unsigned int capacity;		/* positions */
	unsigned int pages;
	unsigned int cached;		/* positions in the KV cache */
	bool is_pending;
	uint32_t pending;
	bool is_lost;			/* the card or the queue was reset */
	uint64_t running;		/* seqno of the job a stop would end; atomic */
	bool stop;			/* atomic: asked for since the request began */
};

/* One job of a request's chain. */
struct part {
	const uint32_t *tokens;
	unsigned int count, generate;
	unsigned int first_position;
	unsigned int done;		/* tokens of earlier parts */
	bool fills_context;		/* its tokens are all that there is room for */
	/* how it went */
	unsigned int points;		/* preemption points reached */
	unsigned int tokens_made;	/* that count: what the caller cut off does not */
	enum flm_end end;
};

static uint64_t now_ns(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000000000ull + now.tv_nsec;
}

static uint32_t float_bits(float value)
{
	uint32_t bits;

	memcpy(&bits, &value, sizeof(bits));
	return bits;
}

static uint32_t pages_at(void)
{
	return ARRAYS_AT;
}

static uint32_t prompt_at(const struct flm_session *session)
{
	return pages_at() + 4 * session->pages;
}

static uint32_t ring_at(const struct flm_session *session)
{
	return prompt_at(session) + 4 * session->capacity;
}

static int make_buffers(struct flm_session *session)
{
	const struct flm_model *model = session->model;
	unsigned int cores = model->info.cores;
	struct flm_binding bindings[MODEL_BINDINGS_MAX + FLM_CORES_MAX + 1];
	unsigned int count = 0;
	int ret;

	for (; count < model->bindings; count++)
		bindings[count] = model->binding[count];
	for (unsigned int c = 0; c < cores; c++) {
		ret = flm_bo_new(model->device, FLM_BO_HBM, c,
				 (uint64_t)session->pages * model->page_bytes[c],
				 &session->kv[c]);
		if (ret)
			return ret;
		bindings[count++] = (struct flm_binding) {
			.segment = FLM_SEGMENT_KV, .core = c, .bo = session->kv[c],
			.bytes = (uint64_t)session->pages * model->page_bytes[c],
			.rights = FLM_READ | FLM_WRITE,
		};
	}
	ret = flm_bo_new(model->device, FLM_BO_HOST, 0, ring_at(session) + 4 * session->capacity,
			 &session->job);
	if (ret)
		return ret;
	ret = bo_map(session->job);
	if (ret)
		return ret;
	session->memory = session->job->memory;
	bindings[count++] = (struct flm_binding) {
		.segment = FLM_SEGMENT_JOB, .core = FLM_ALL_CORES, .bo = session->job,
		.bytes = flm_bo_bytes(session->job), .rights = FLM_READ | FLM_WRITE,
	};
	return flm_context_bind(session->context, bindings, count);
}

PUBLIC int flm_session_new(struct flm_model *model, const struct flm_session_options *options,
			   struct flm_session **session)
{
	static const struct flm_session_options usual;
	struct flm_session *s;
	int ret;

	*session = NULL;
	if (!options)
		options = &usual;
	if (options->context > model->info.context)
		return flm_fail(-EINVAL, "the model was compiled for a context of %u tokens, not %u; "
				"compile it with --context %u", model->info.context,
				options->context, options->context);
	s = calloc(1, sizeof(*s));
	if (!s)
		return flm_fail(-ENOMEM, "no memory for a session");
	s->model = model;
	s->capacity = options->context ? options->context : model->info.context;
	s->pages = (s->capacity + FLM_PAGE - 1) / FLM_PAGE;
	ret = flm_context_new(model->device, &s->context);
	if (!ret)
		ret = make_buffers(s);
	if (!ret)
		ret = flm_queue_new(s->context, 0, options->priority ? options->priority : 1,
				    &s->queue);
	if (ret) {
		flm_session_free(s);
		return ret;
	}
	*session = s;
	return 0;
}

PUBLIC void flm_session_free(struct flm_session *session)
{
	if (!session)
		return;
	flm_queue_free(session->queue);
	flm_context_free(session->context);
	for (unsigned int c = 0; c < FLM_CORES_MAX; c++)
		flm_bo_free(session->kv[c]);
	flm_bo_free(session->job);
	flm_bo_free(session->logits);
	free(session);
}

/* Makes sure that the logits segment holds `bytes`. */
static int need_logits(struct flm_session *session, uint64_t bytes)
{
	struct flm_binding binding = {
		.segment = FLM_SEGMENT_LOGITS, .core = FLM_ALL_CORES, .rights = FLM_WRITE,
	};
	struct flm_bo *bo;
	int ret;

	if (session->logits && flm_bo_bytes(session->logits) >= bytes)
		return 0;
	ret = flm_bo_new(session->model->device, FLM_BO_HOST, 0, bytes, &bo);
	if (ret)
		return ret;
	binding.bo = bo;
	binding.bytes = flm_bo_bytes(bo);
	/* Mapped first: once it is bound, the card writes to it and not to the one before. */
	ret = bo_map(bo);
	if (!ret)
		ret = flm_context_bind(session->context, &binding, 1);
	if (ret) {
		flm_bo_free(bo);
		return ret;
	}
	flm_bo_free(session->logits);
	session->logits = bo;
	return 0;
}

static void write_record(struct flm_session *session, const struct flm_request *request,
			 const struct part *part)
{
	struct flm_job_record *record = (void *)session->memory;
	struct flm_sequence *sequence = (void *)(session->memory + SEQUENCE_AT);
	__le32 *pages = (void *)(session->memory + pages_at());
	__le32 *prompt = (void *)(session->memory + prompt_at(session));

	memset(session->memory, 0, ARRAYS_AT);
	for (unsigned int i = 0; i < session->pages; i++)
		pages[i] = htole32(i);
	for (unsigned int i = 0; i < part->count; i++)
		prompt[i] = htole32(part->tokens[i]);
	record->bytes = htole32(sizeof(*record));
	record->sequences = htole32(1);
	record->sequence_offset = htole64(SEQUENCE_AT);
	record->prompt.segment = htole16(FLM_SEGMENT_JOB);
	record->prompt.offset = htole64(prompt_at(session));
	record->ring.segment = htole16(FLM_SEGMENT_JOB);
	record->ring.count = htole32(session->capacity);
	record->ring.offset = htole64(ring_at(session));
	if (request->logits && request->logit_count) {
		record->logits_segment = htole16(FLM_SEGMENT_LOGITS);
		record->logits_mode = FLM_LOGITS_EVERY;
		record->logits_stride = htole32(4 * session->model->info.vocab);
		record->logits_first = htole32(request->logit_first);
		record->logits_count = htole32(request->logit_count);
	}
	if (request->on_token) {
		record->notify_tokens = htole32(1);
		record->notify_ms = htole32(NOTIFY_MS);
	}
	sequence->position = htole32(part->first_position);
	sequence->kv_length = htole32(part->first_position);
	sequence->prompt = htole32(part->count);
	sequence->generate = htole32(part->generate);
	sequence->page_segment = htole16(FLM_SEGMENT_JOB);
	sequence->page_count = htole32(session->pages);
	sequence->page_offset = htole64(pages_at());
	sequence->temperature = htole32(float_bits(request->sampler.temperature));
	sequence->top_k = htole32(request->sampler.top_k);
	sequence->top_p = htole32(float_bits(request->sampler.top_p));
	sequence->min_p = htole32(float_bits(request->sampler.min_p));
	sequence->seed = htole64(request->sampler.seed);
	sequence->stop_count = htole16(request->stop_count);
	for (unsigned int i = 0; i < request->stop_count; i++)
		sequence->stop[i] = htole32(request->stop[i]);
}

static int fault_text(const struct flm_completion *done)
{
	return flm_fail(-EIO, "the card stopped the job: fault %s, core %u, unit %s, word %u, "
			"segment %u, offset 0x%llx; "
			"compile the model again, and if it stays, report this",
			flm_fault_name(done->fault.kind),
			done->fault.core,
			done->fault.unit < FLM_UNITS ? flm_isa_unit_name(done->fault.unit) : "none",
			done->fault.word, done->fault.segment,
			(unsigned long long)done->fault.offset);
}

/* Hands new tokens of the running part to the caller; true when the caller wants no more. */
static bool hand_over(struct flm_session *session, const struct flm_request *request,
		      struct part *part, unsigned int *seen, unsigned int have)
{
	const volatile __le32 *ring = (void *)(session->memory + ring_at(session));

	for (; *seen < have; ++*seen) {
		uint32_t token = le32toh(ring[*seen]);

		if (request->out)
			request->out[part->done + *seen] = token;
		if (request->on_token && request->on_token(request->opaque, token)) {
			++*seen;
			return true;
		}
	}
	return false;
}

/*
 * How much of a job's time went by after its first token, which the prompt's last pass makes. The
 * first look, at `first`, found `seen` of them: their pace is that of those behind, but no pass of
 * a token takes more than its share. Where all were there at once, or nobody looked, every pass
 * counts alike.
 */
static uint64_t decode_time(const struct part *part, uint64_t start, uint64_t first,
			    unsigned int seen, uint64_t end)
{
	unsigned int made = part->tokens_made;
	uint64_t ns, most;

	if (made < 2)
		return 0;
	most = (end - start) * (made - 1) / made;
	if (seen && seen < made)
		ns = (end - first) * (made - 1) / (made - seen);
	else
		ns = (end - start) * (made - 1) / (part->points > made ? part->points : made);
	return ns < most ? ns : most;
}

/* Runs one job, and says in `part` how it went. */
static int run_part(struct flm_session *session, const struct flm_request *request,
		    struct part *part, struct flm_result *result)
{
	struct flm_job job = {
		.program_segment = FLM_SEGMENT_PROGRAM, .job_segment = FLM_SEGMENT_JOB,
		.max_points = (part->count + session->model->info.chunk - 1) /
			session->model->info.chunk + part->generate,
	};
	uint64_t start = now_ns(), first = 0, seqno = 0, end, decode;
	struct flm_completion done = { 0 };
	unsigned int seen = 0, first_seen = 0;
	bool is_cut = false;
	int ret;

	write_record(session, request, part);
	ret = flm_queue_submit(session->queue, &job, 1, &seqno);
	if (ret)
		return ret;
	result->submits++;
	__atomic_store_n(&session->running, seqno, __ATOMIC_SEQ_CST);
	if (__atomic_load_n(&session->stop, __ATOMIC_SEQ_CST))
		flm_queue_stop(session->queue, seqno);
	while (request->on_token && !done.status && !is_cut) {
		ret = flm_queue_wait(session->queue, seqno, seen + 1, INT64_MAX, &done);
		if (ret)
			return ret;
		if (!first) {
			first = now_ns();
			first_seen = done.made;
		}
		is_cut = hand_over(session, request, part, &seen, done.made);
	}
	if (is_cut)
		flm_queue_stop(session->queue, seqno);
	while (!done.status) {
		ret = flm_queue_wait(session->queue, seqno, 0, INT64_MAX, &done);
		if (ret)
			return ret;
	}
	__atomic_store_n(&session->running, 0, __ATOMIC_SEQ_CST);
	if (done.status == FLM_STATUS_FAULT)
		return fault_text(&done);
	if (done.status == FLM_STATUS_LOST)
		return flm_fail(-ECANCELED, RESET_TEXT);
	if (done.status == FLM_STATUS_RESET)
		return flm_fail(-ECANCELED, "the job did not end and its queue was reset; begin a new "
				"session, and see 'dmesg'");
	if (!is_cut)
		hand_over(session, request, part, &seen, done.made);
	part->tokens_made = seen;
	part->points = done.points;
	part->end = is_cut || done.status == FLM_STATUS_STOPPED ? FLM_END_STOPPED :
		    done.status == FLM_STATUS_STOP_TOKEN ? FLM_END_STOP_TOKEN :
		    done.status == FLM_STATUS_KV_FULL ? FLM_END_CONTEXT_FULL : FLM_END_COUNT;
	result->card_us += done.ended_us - done.started_us;
	end = now_ns();
	decode = part->done ? end - start : decode_time(part, start, first, first_seen, end);
	result->decode_ns += decode;
	result->prefill_ns += end - start - decode;
	return 0;
}

/* What the part left in the KV cache, and which token is pending. */
static void account(struct flm_session *session, const struct part *part)
{
	const __le32 *ring = (void *)(session->memory + ring_at(session));
	unsigned int prompt = part->points * session->model->info.chunk;

	/* Stopped before its first pass, a job changes nothing. */
	if (!part->points && !part->tokens_made)
		return;
	session->is_pending = part->tokens_made > 0;
	if (session->is_pending) {
		session->cached = part->first_position + part->count + part->tokens_made - 1;
		session->pending = le32toh(ring[part->tokens_made - 1]);
	} else {
		/* A stop in the middle of the prompt leaves whole chunks. */
		session->cached = part->first_position +
				  (prompt < part->count ? prompt : part->count);
	}
}

/* The card's own ranges: it would call anything else a fault of the job. NaN is in none. */
static int check_sampler(const struct flm_sampler *sampler)
{
	const struct { const char *name; float value, most; } fields[] = {
		{ "temperature", sampler->temperature, 100 },
		{ "top_p", sampler->top_p, 1 },
		{ "min_p", sampler->min_p, 1 },
	};

	for (size_t i = 0; i < sizeof(fields) / sizeof(fields[0]); i++)
		if (!(fields[i].value >= 0 && fields[i].value <= fields[i].most))
			return flm_fail(-EINVAL, "%s of the sampler is %g; give it a number from 0 to "
					"%g", fields[i].name, fields[i].value, fields[i].most);
	return 0;
}

static int check(const struct flm_session *session, const struct flm_request *request)
{
	unsigned int used = flm_session_position((struct flm_session *)session);
	/* A model that --context cut was itself made for more; of others the model is the limit. */
	const char *larger = session->capacity < session->model->info.context ?
			     "begin one with a larger options.context" :
			     "compile a model that was made for more positions, with a larger "
			     "--context";

	if (session->is_lost)
		return flm_fail(-ECANCELED, "the session was lost in a reset; begin a new one, with the "
				"model loaded again if the card was reset");
	if (!request->count && !session->is_pending)
		return flm_fail(-EINVAL, used ? "nothing to go on from: the prompt is empty and "
				"no token is pending; truncate the session by its last token and "
				"give that token as the prompt" :
				"nothing to go on from: prompt and session are empty; give the "
				"prompt a token");
	if (used > session->capacity)	/* a token is pending behind the last position */
		return flm_fail(-EOVERFLOW, "the context of %u tokens is full; truncate the session, or "
				"%s", session->capacity, larger);
	if (request->count > session->capacity - used)
		return flm_fail(-EOVERFLOW, "the prompt has %u tokens, but %u of the context's %u are "
				"in use; shorten it, or %s", request->count, used,
				session->capacity, larger);
	if (request->stop_count > FLM_STOP_TOKENS)
		return flm_fail(-EINVAL, "%u stop tokens: too many; give at most %u",
				request->stop_count, FLM_STOP_TOKENS);
	for (unsigned int i = 0; i < request->count; i++)
		if (request->tokens[i] >= session->model->info.vocab)
			return flm_fail(-EINVAL, "token %u of the prompt is %u, the vocabulary has %u; "
					"encode the prompt with the model's own tokenizer",
					i, request->tokens[i], session->model->info.vocab);
	return check_sampler(&request->sampler);
}

static void copy_logits(struct flm_session *session, const struct flm_request *request,
			unsigned int from)
{
	unsigned int vocab = session->model->info.vocab, first = request->logit_first;
	const float *logits = session->logits->memory;
	unsigned int last = session->cached;

	for (unsigned int p = first > from ? first : from; p < last; p++)
		if (p - first < request->logit_count)
			memcpy(request->logits + (size_t)(p - first) * vocab,
			       logits + (size_t)(p - first) * vocab, 4 * (size_t)vocab);
}

/*
 * Makes part the next job of what is left of a request: part->count tokens to feed, `wanted` to
 * generate. What needs more preemption points than a job may have is cut: first the prompt, in
 * whole chunks.
 */
static void cut_part(struct flm_session *session, struct part *part, unsigned int wanted)
{
	unsigned int chunk = session->model->info.chunk;
	unsigned int chunks = (part->count + chunk - 1) / chunk, limit;
	/* The card knows whole pages only; and the last token takes no position. */
	unsigned int space = session->capacity - session->cached - part->count + 1;

	part->first_position = session->cached;
	part->generate = wanted < space ? wanted : space;
	limit = device_points(session->model->device, chunks + part->generate);
	if (chunks + !!part->generate > limit) {
		part->count = (limit - !!part->generate) * chunk;
		part->generate = 0;
	} else if (part->generate > limit - chunks) {
		part->generate = limit - chunks;
	}
	part->fills_context = space < wanted && part->generate == space;
}

/*
 * Runs the parts of a request one after the other; prompt: its tokens, `count` of them, the pending
 * one first. The limit on points is the driver's word to the whole device: when another thread's
 * question has lowered it before a part is submitted, the part is refused and cut again.
 */
static int run_parts(struct flm_session *session, const struct flm_request *request,
		     uint32_t *prompt, unsigned int count, struct flm_result *result)
{
	const uint32_t *tokens = prompt;
	unsigned int refusals = 0;
	int ret;

	for (;;) {
		struct part part = { .tokens = tokens, .count = count, .done = result->tokens };

		cut_part(session, &part, request->generate - result->tokens);
		ret = run_part(session, request, &part, result);
		if (ret == -E2BIG && refusals++ < REFUSALS_MAX) {
			device_points(session->model->device, UINT32_MAX);
			continue;
		}
		if (ret)
			return ret;
		account(session, &part);
		result->tokens += part.tokens_made;
		result->end = part.end;
		if (part.end != FLM_END_COUNT)
			return 0;
		tokens += part.count;
		count -= part.count;
		if (count)
			continue;
		if (part.fills_context)
			result->end = FLM_END_CONTEXT_FULL;
		if (result->end != FLM_END_COUNT || result->tokens >= request->generate)
			return 0;
		prompt[0] = session->pending;
		tokens = prompt;
		count = 1;
	}
}

PUBLIC int flm_session_generate(struct flm_session *session, const struct flm_request *request,
				struct flm_result *result)
{
	unsigned int start = session->cached, count = 0;
	uint32_t *prompt;
	int ret;

	/* Before all else, so that a stop of this request counts however early it comes. */
	__atomic_store_n(&session->stop, false, __ATOMIC_SEQ_CST);
	memset(result, 0, sizeof(*result));
	ret = check(session, request);
	if (ret)
		return ret;
	if (request->logits && request->logit_count) {
		ret = need_logits(session,
				  4ull * session->model->info.vocab * request->logit_count);
		if (ret)
			return ret;
	}
	prompt = malloc((request->count + 1) * sizeof(*prompt));
	if (!prompt)
		return flm_fail(-ENOMEM, "no memory for a prompt of %u tokens", request->count);
	if (session->is_pending)
		prompt[count++] = session->pending;
	if (request->count)
		memcpy(prompt + count, request->tokens, 4ull * request->count);
	ret = run_parts(session, request, prompt, count + request->count, result);
	free(prompt);
	if (ret == -ECANCELED)
		session->is_lost = true;
	if (!ret && request->logits && request->logit_count)
		copy_logits(session, request, start);
	return ret;
}

PUBLIC void flm_session_stop(struct flm_session *session)
{
	uint64_t seqno;

	__atomic_store_n(&session->stop, true, __ATOMIC_SEQ_CST);
	seqno = __atomic_load_n(&session->running, __ATOMIC_SEQ_CST);
	if (seqno)
		flm_queue_stop(session->queue, seqno);
}

PUBLIC unsigned int flm_session_position(struct flm_session *session)
{
	return session->cached + session->is_pending;
}

PUBLIC int flm_session_truncate(struct flm_session *session, unsigned int position)
{
	unsigned int used = flm_session_position(session);

	if (position > used)
		return flm_fail(-EINVAL, "position %u is beyond the session's %u tokens; give at most "
				"%u", position, used, used);
	if (position == used)
		return 0;
	session->cached = position;
	session->is_pending = false;
	return 0;
}
