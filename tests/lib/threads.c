// SPDX-License-Identifier: MIT
/*
 * Sessions of one model on one card from several threads at once: each makes the tokens that a
 * lone run makes; buffers, copies and models, too. Stopping from another thread, going back, a full
 * context, errors of each thread its own; and that what was freed is free: memory, buffers and
 * queues, before and after.
 */
#include <errno.h>
#include <pthread.h>

#include "lib/flightllm.h"
#include "tests/lib/model.h"
#include "tests/tap.h"

#define THREADS	4
#define ROUNDS	5
#define TOKENS	24
#define PROMPT	6
#define SESSIONS 200

static struct flm_device *device;
static struct flm_model *model;
static struct flm_model_info info;

static const uint32_t prompts[THREADS][PROMPT] = {
	{ 1, 7, 3, 200, 11, 299 }, { 1, 1, 1, 1, 1, 1 }, { 42, 0, 5, 6, 7, 8 },
	{ 250, 251, 252, 253, 254, 255 },
};

/* How many of `generate` tokens behind prompt `which` are made, -errno if it fails. */
static int run(unsigned int which, uint32_t *out, unsigned int generate, bool truncates)
{
	struct flm_request request = {
		.tokens = prompts[which], .count = PROMPT, .generate = generate, .out = out,
	};
	struct flm_session *session;
	struct flm_result result;
	int ret = flm_session_new(model, NULL, &session);

	if (ret)
		return ret;
	ret = flm_session_generate(session, &request, &result);
	if (!ret && truncates) {
		ret = flm_session_truncate(session, 0);
		if (!ret)
			ret = flm_session_generate(session, &request, &result);
	}
	flm_session_free(session);
	return ret ? ret : (int)result.tokens;
}

/* ---- Many at once ---- */

struct worker {
	pthread_t thread;
	unsigned int which;
	uint32_t want[TOKENS];
	unsigned int same;
	bool is_error_own;
};

static void *work(void *opaque)
{
	struct worker *worker = opaque;
	struct flm_session *none;
	struct flm_session_options options = { .context = 1000 + worker->which };
	char number[16];

	snprintf(number, sizeof(number), "not %u;", 1000 + worker->which);
	for (int i = 0; i < ROUNDS; i++) {
		uint32_t out[TOKENS] = { 0 };

		flm_session_new(model, &options, &none);
		worker->same += run(worker->which, out, TOKENS, i % 2) == TOKENS &&
				!memcmp(out, worker->want, sizeof(out));
		worker->is_error_own = strstr(flm_error(), number) != NULL;
	}
	return NULL;
}

static void together(void)
{
	struct worker workers[THREADS] = { 0 };

	for (unsigned int i = 0; i < THREADS; i++) {
		workers[i].which = i;
		ok(run(i, workers[i].want, TOKENS, false) == TOKENS,
		   "prompt %u alone: %d tokens", i, TOKENS);
	}
	ok(memcmp(workers[0].want, workers[1].want, sizeof(workers[0].want)) &&
	   memcmp(workers[2].want, workers[3].want, sizeof(workers[2].want)),
	   "the prompts are followed by different tokens");
	for (unsigned int i = 0; i < THREADS; i++)
		pthread_create(&workers[i].thread, NULL, work, &workers[i]);
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(workers[i].thread, NULL);
		ok(workers[i].same == ROUNDS, "prompt %u among others, sessions made and freed all "
		   "the while: the same tokens in %u of %d runs", i, workers[i].same, ROUNDS);
		ok(workers[i].is_error_own, "prompt %u: the thread's error is its own", i);
	}
}

/* ---- Everything at once ---- */

#define BUFFERS	100
#define COPY	3000000		/* more than a half of what the device copies with */

static struct flm_bo *shared[BUFFERS];
static pthread_barrier_t barrier;

struct hand {
	pthread_t thread;
	unsigned int which;
	void *seen[BUFFERS];
	unsigned int copied, loaded;
};

/* Maps the shared buffers when the others do, copies to and from one of its own, loads a model. */
static void *lend(void *opaque)
{
	struct hand *hand = opaque;
	uint8_t *there = malloc(COPY), *back = malloc(COPY);
	struct flm_device_info card;
	struct flm_model *own;
	struct flm_bo *bo;

	for (unsigned int i = 0; i < BUFFERS; i++) {
		pthread_barrier_wait(&barrier);
		hand->seen[i] = flm_bo_map(shared[i]);
	}
	for (int i = 0; i < ROUNDS; i++) {
		memset(there, 16 * hand->which + i + 1, COPY);
		memset(back, 0, COPY);
		if (flm_bo_new(device, FLM_BO_HBM, hand->which % info.cores, COPY, &bo))
			continue;
		hand->copied += !flm_bo_write(bo, 0, there, COPY) &&
				!flm_bo_read(bo, 0, back, COPY) && !memcmp(there, back, COPY);
		flm_bo_free(bo);
		hand->loaded += !flm_model_load(device, model_path, NULL, &own) &&
				!flm_device_info(device, &card);
		flm_model_free(own);
	}
	free(there);
	free(back);
	return NULL;
}

static void mixed(void)
{
	static struct hand hands[THREADS];
	unsigned int same = 0, copied = 0, loaded = 0, made = 0;

	for (unsigned int i = 0; i < BUFFERS; i++)
		made += !flm_bo_new(device, FLM_BO_HOST, 0, 4096, &shared[i]);
	if (!ok(made == BUFFERS, "%u buffers to share", made))
		return;
	pthread_barrier_init(&barrier, NULL, THREADS);
	for (unsigned int i = 0; i < THREADS; i++) {
		hands[i].which = i;
		pthread_create(&hands[i].thread, NULL, lend, &hands[i]);
	}
	for (unsigned int i = 0; i < THREADS; i++) {
		pthread_join(hands[i].thread, NULL);
		copied += hands[i].copied;
		loaded += hands[i].loaded;
	}
	pthread_barrier_destroy(&barrier);
	for (unsigned int i = 0; i < BUFFERS; i++) {
		void *first = hands[0].seen[i];
		bool is_one = first;

		for (unsigned int t = 1; t < THREADS; t++)
			is_one &= hands[t].seen[i] == first;
		same += is_one;
		flm_bo_free(shared[i]);
	}
	ok(same == BUFFERS, "a buffer that all threads map at once is mapped once (%u of %d)", same,
	   BUFFERS);
	ok(copied == THREADS * ROUNDS, "copies of several threads do not mix (%u of %d)", copied,
	   THREADS * ROUNDS);
	ok(loaded == THREADS * ROUNDS, "nor do models on their way (%u of %d)", loaded,
	   THREADS * ROUNDS);
}

/* ---- Stop ---- */

struct stopper {
	struct flm_session *session;
	unsigned int seen;		/* atomic */
	bool ends;			/* atomic */
};

static void *stop_soon(void *opaque)
{
	struct stopper *stopper = opaque;

	while (!__atomic_load_n(&stopper->seen, __ATOMIC_ACQUIRE))
		usleep(100);
	while (!__atomic_load_n(&stopper->ends, __ATOMIC_ACQUIRE)) {
		flm_session_stop(stopper->session);
		usleep(1000);
	}
	return NULL;
}

static bool count_token(void *opaque, uint32_t token)
{
	struct stopper *stopper = opaque;

	(void)token;
	__atomic_add_fetch(&stopper->seen, 1, __ATOMIC_RELEASE);
	return false;
}

static void stops(void)
{
	uint32_t straight[100], got[100] = { 0 };
	struct flm_request request = {
		.tokens = prompts[0], .count = PROMPT, .generate = 100, .out = got,
		.on_token = count_token,
	};
	struct stopper stopper = { 0 };
	struct flm_result result = { 0 };
	unsigned int stopped = 0, right = 0, tries, rest;
	pthread_t thread;

	ok(run(0, straight, 100, false) == 100, "100 tokens in one go");
	/* A tiny model may be done before a stop arrives, but not each time. */
	for (tries = 0; tries < 5 || (!stopped && tries < 200); tries++) {
		if (flm_session_new(model, NULL, &stopper.session))
			break;
		stopper.seen = stopper.ends = 0;
		request.opaque = &stopper;
		request.tokens = prompts[0];
		request.count = PROMPT;
		request.generate = 100;
		request.out = got;
		request.on_token = count_token;
		pthread_create(&thread, NULL, stop_soon, &stopper);
		flm_session_generate(stopper.session, &request, &result);
		__atomic_store_n(&stopper.ends, true, __ATOMIC_RELEASE);
		pthread_join(thread, NULL);
		stopped += result.end == FLM_END_STOPPED && result.tokens < 100;
		/* What is left, in a second request that nobody stops. */
		rest = 100 - result.tokens;
		request.tokens = NULL;
		request.count = 0;
		request.generate = rest;
		request.out = got + result.tokens;
		request.on_token = NULL;
		if (rest)
			flm_session_generate(stopper.session, &request, &result);
		right += (!rest || result.tokens == rest) &&
			 !memcmp(got, straight, sizeof(got));
		flm_session_free(stopper.session);
	}
	ok(stopped >= 1, "another thread stops a request (%u of %u)", stopped, tries);
	ok(right == tries, "and the next goes on where it ended (%u of %u)", right, tries);
}

static bool cut(void *opaque, uint32_t token)
{
	(void)token;
	return ++*(unsigned int *)opaque == 3;
}

static void cuts(void)
{
	uint32_t straight[20], got[20] = { 0 };
	unsigned int seen = 0;
	struct flm_request request = {
		.tokens = prompts[2], .count = PROMPT, .generate = 20, .out = got, .on_token = cut,
		.opaque = &seen,
	};
	struct flm_session *session;
	struct flm_result result = { 0 };

	run(2, straight, 20, false);
	if (!ok(!flm_session_new(model, NULL, &session), "a session for a cut"))
		return;
	flm_session_generate(session, &request, &result);
	ok(result.tokens == 3 && result.end == FLM_END_STOPPED &&
	   flm_session_position(session) == PROMPT + 3, "a callback cuts after its third token");
	request = (struct flm_request) { .generate = 17, .out = got + 3 };
	flm_session_generate(session, &request, &result);
	ok(result.tokens == 17 && !memcmp(got, straight, sizeof(got)),
	   "what the card made beyond it never was");
	flm_session_free(session);
}

/* ---- The end of a context, logits that grow ---- */

static void edges(void)
{
	struct flm_request request = { .tokens = prompts[0], .count = PROMPT, .generate = 1000 };
	struct flm_session_options options = { .context = 32 };
	struct flm_session *session;
	struct flm_result result = { 0 };
	float *few, *many;
	uint32_t *big;
	int ret;

	if (!ok(!flm_session_new(model, &options, &session), "a session of 32 positions"))
		return;
	ret = flm_session_generate(session, &request, &result);
	ok(!ret && result.end == FLM_END_CONTEXT_FULL && result.tokens == 27 &&
	   flm_session_position(session) == 33,
	   "it takes 26 tokens behind a prompt of 6, and says the one that follows (%u, at %u)",
	   result.tokens, flm_session_position(session));
	request.generate = 1;
	ok(flm_session_generate(session, &request, &result) == -EOVERFLOW &&
	   strstr(flm_error(), "full"), "full, it takes no prompt");
	request.count = 0;
	ok(flm_session_generate(session, &request, &result) == -EOVERFLOW, "and does not go on");
	big = calloc(100000, sizeof(*big));
	request.tokens = big;
	request.count = 100000;
	ok(flm_session_generate(session, &request, &result) == -EOVERFLOW, "nor a huge prompt");
	free(big);
	ok(!flm_session_truncate(session, 32) && flm_session_position(session) == 32 &&
	   flm_session_truncate(session, 33) == -EINVAL, "truncate goes back only");
	request.tokens = prompts[1];
	request.count = 1;
	ok(flm_session_generate(session, &request, &result) == -EOVERFLOW,
	   "a prompt of one token too many");
	ok(!flm_session_truncate(session, 31) &&
	   !flm_session_generate(session, &request, &result) && result.tokens == 1,
	   "the last position can be used again");
	flm_session_truncate(session, 0);
	request.count = 0;
	ok(flm_session_generate(session, &request, &result) == -EINVAL, "an empty session has "
	   "nothing to go on from");

	few = calloc(info.vocab, sizeof(float));
	many = calloc(6ull * info.vocab, sizeof(float));
	request = (struct flm_request) {
		.tokens = prompts[0], .count = PROMPT, .logits = few, .logit_first = 5,
		.logit_count = 1,
	};
	ok(!flm_session_generate(session, &request, &result), "logits of one position");
	flm_session_truncate(session, 0);
	request.logits = many;
	request.logit_first = 0;
	request.logit_count = 6;
	ok(!flm_session_generate(session, &request, &result) &&
	   !memcmp(many + 5ull * info.vocab, few, info.vocab * sizeof(float)) &&
	   memcmp(many, few, info.vocab * sizeof(float)),
	   "then of six: a larger buffer, the same values");
	flm_session_truncate(session, 0);
	memset(few, 0, info.vocab * sizeof(float));
	request.logits = few;
	request.logit_first = 5;
	request.logit_count = 1;
	ok(!flm_session_generate(session, &request, &result) &&
	   !memcmp(many + 5ull * info.vocab, few, info.vocab * sizeof(float)), "and of one again");
	free(few);
	free(many);
	flm_session_free(session);
}

/* ---- Requests that cannot be ---- */

/* Refused before the card hears of them, by a text that names the field. */
static void samplers(void)
{
	static const struct { const char *name; struct flm_sampler sampler; } cases[] = {
		{ "temperature", { .temperature = -0.5f } },
		{ "temperature", { .temperature = __builtin_nanf("") } },
		{ "temperature", { .temperature = __builtin_inff() } },
		{ "temperature", { .temperature = 100.5f } },
		{ "top_p", { .temperature = 1, .top_p = -0.1f } },
		{ "top_p", { .temperature = 1, .top_p = 1.5f } },
		{ "top_p", { .temperature = 1, .top_p = __builtin_nanf("") } },
		{ "min_p", { .temperature = 1, .min_p = -0.1f } },
		{ "min_p", { .temperature = 1, .min_p = 1.5f } },
		{ "min_p", { .temperature = 1, .min_p = __builtin_nanf("") } },
	};
	struct flm_request request = { .tokens = prompts[0], .count = PROMPT, .generate = 1 };
	struct flm_session *session;
	struct flm_result result;

	if (!ok(!flm_session_new(model, NULL, &session), "a session for samplers"))
		return;
	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		request.sampler = cases[i].sampler;
		ok(flm_session_generate(session, &request, &result) == -EINVAL &&
		   strstr(flm_error(), cases[i].name) && !flm_session_position(session),
		   "%s", flm_error());
	}
	request.sampler = (struct flm_sampler) { .temperature = 100, .top_p = 1, .min_p = 1 };
	ok(!flm_session_generate(session, &request, &result) && result.tokens == 1,
	   "the greatest numbers of all are good");
	flm_session_free(session);
}

static bool says(const char *words)
{
	bool does = strstr(flm_error(), words);

	if (!does)
		printf("# %s\n", flm_error());
	return does;
}

/* What is wrong is named, and the remedy is one that helps here. */
static void texts(void)
{
	struct flm_request request = { .tokens = prompts[0], .count = PROMPT };
	struct flm_session_options options = { .context = 8 };
	struct flm_session *session, *none = (void *)8;
	struct flm_context *context;
	struct flm_result result;
	struct flm_queue *queue;
	struct flm_bo *bo;

	if (!ok(!flm_session_new(model, &options, &session) &&
		!flm_session_generate(session, &request, &result),
		"a session of 8 positions and a prompt of %d", PROMPT))
		return;
	ok(flm_session_generate(session, &request, &result) == -EOVERFLOW &&
	   says("shorten it, or begin one with a larger options.context"),
	   "a session that is smaller than the model's can be made larger");
	request.count = 0;
	request.generate = 1;
	ok(flm_session_generate(session, &request, &result) == -EINVAL &&
	   says("no token is pending; truncate the session"), "behind a prompt none is pending");
	flm_session_truncate(session, 0);
	ok(flm_session_generate(session, &request, &result) == -EINVAL &&
	   says("prompt and session are empty"), "and an empty session is called so");
	request.tokens = (uint32_t[]) { 299, 300 };
	request.count = 2;
	ok(flm_session_generate(session, &request, &result) == -EINVAL &&
	   says("token 1 of the prompt is 300, the vocabulary has 300"),
	   "the first token behind the vocabulary is refused");
	flm_session_free(session);

	options = (struct flm_session_options) { .priority = 9 };
	ok(flm_session_new(model, &options, &none) == -EINVAL && !none &&
	   says("unknown priority 9; give 0 to 3"), "a session of priority 9");
	queue = (void *)8;
	ok(!flm_context_new(device, &context) &&
	   flm_queue_new(context, 0, 4, &queue) == -EINVAL && !queue &&
	   says("unknown priority 4; give 0 to 3"), "a queue of priority 4");
	flm_context_free(context);
	ok(!flm_bo_new(device, FLM_BO_HBM, 0, 4096, &bo) && !flm_bo_map(bo) &&
	   says("cannot be mapped; use flm_bo_read()"), "the CPU has no view of HBM");
	flm_bo_free(bo);
}

/* ---- Nothing is left ---- */

/* Queues that can still be made. */
static unsigned int free_queues(void)
{
	struct flm_context *context;
	struct flm_queue *queues[256];
	unsigned int count = 0;

	if (flm_context_new(device, &context))
		return 0;
	while (count < 256 && !flm_queue_new(context, 0, 1, &queues[count]))
		count++;
	for (unsigned int i = 0; i < count; i++)
		flm_queue_free(queues[i]);
	flm_context_free(context);
	return count;
}

static void nothing_left(void)
{
	uint64_t bytes = free_bytes(device);
	unsigned int queues = free_queues(), made = 0;
	struct flm_session *session;
	struct flm_result result;
	struct flm_request request = { .tokens = prompts[3], .count = PROMPT };

	for (int i = 0; i < SESSIONS; i++) {
		if (flm_session_new(model, NULL, &session))
			continue;
		/* Every tenth one is used, too. */
		made += i % 10 || !flm_session_generate(session, &request, &result);
		flm_session_free(session);
	}
	ok(made == SESSIONS, "%u sessions come and go", made);
	ok(queues >= 4 && free_queues() == queues, "all of %u queues are free again", queues);
	ok(free_bytes(device) == bytes, "so is all memory");
}

/* Sessions until the card has no queue left, then buffers until it has no memory. */
static void full(void)
{
	uint64_t bytes = free_bytes(device), size = 1 << 30;
	struct flm_session *session = (void *)8;
	struct flm_bo *bos[512];
	struct flm_session *sessions[256];
	unsigned int count = 0;
	int ret = 0;

	while (count < 256 && !(ret = flm_session_new(model, NULL, &sessions[count])))
		count++;
	ok(ret == -ENOSPC && strstr(flm_error(), "all queues of emulate:tiny are taken; "),
	   "session %u finds no queue", count + 1);
	while (count)
		flm_session_free(sessions[--count]);
	ok(free_bytes(device) == bytes, "when they are gone, all is free");

	while (count < 512 && size >= 4096) {
		ret = flm_bo_new(device, FLM_BO_HBM, 1, size, &bos[count]);
		if (ret)
			size /= 2;
		else
			count++;
	}
	ret = flm_session_new(model, NULL, &session);
	ok(ret == -ENOSPC && !session && strstr(flm_error(), "HBM of core 1 is full: ") &&
	   strstr(flm_error(), "; end other programs on the card"),
	   "a session finds HBM of core 1 full");
	while (count)
		flm_bo_free(bos[--count]);
	ok(!flm_session_new(model, NULL, &session), "when the buffers are gone, it finds room");
	flm_session_free(session);
	ok(free_bytes(device) == bytes, "and all is free again");
}

/* Buffers of sizes around the halves of the staging buffer come back as they went. */
static void copies(void)
{
	static const uint32_t sizes[] = { 1, 4096, 2097152, 2097153, 4194304, 6291461 };
	uint64_t bytes = free_bytes(device);
	unsigned int same = 0;

	for (unsigned int i = 0; i < 6; i++) {
		uint8_t *to = malloc(sizes[i]), *from = calloc(1, sizes[i]);
		struct flm_bo *bo;

		for (uint32_t at = 0; at < sizes[i]; at++)
			to[at] = (at * 2654435761u + i) >> 24;
		if (!flm_bo_new(device, FLM_BO_HBM, 1, sizes[i], &bo)) {
			same += !flm_bo_write(bo, 0, to, sizes[i]) &&
				!flm_bo_read(bo, 0, from, sizes[i]) && !memcmp(to, from, sizes[i]);
			flm_bo_free(bo);
		} else {
			printf("# %s\n", flm_error());
		}
		free(to);
		free(from);
	}
	ok(same == 6, "%u of 6 buffers are read as they were written", same);
	ok(free_bytes(device) == bytes, "and freed, the last one too");
}

static void waits(void)
{
	struct flm_context *context;
	struct flm_completion done;
	struct flm_queue *queue;

	flm_context_new(device, &context);
	flm_queue_new(context, 0, 1, &queue);
	ok(flm_queue_wait(queue, 1, 0, 0, &done) == -EINVAL && strstr(flm_error(), "WAIT"),
	   "a job that was never submitted is not waited for");
	flm_queue_free(queue);
	flm_context_free(context);
}

int main(void)
{
	uint64_t bytes;

	model_make("--synthetic tiny --card tiny");
	if (flm_device_open("emulate:tiny", &device) ||
	    flm_model_load(device, model_path, NULL, &model)) {
		printf("Bail out! %s\n", flm_error());
		return 1;
	}
	flm_model_info(model, &info);
	copies();
	together();
	mixed();
	stops();
	cuts();
	edges();
	samplers();
	texts();
	waits();
	nothing_left();
	full();
	bytes = free_bytes(device);
	flm_model_free(model);
	ok(free_bytes(device) > bytes, "the model's memory is free again");
	flm_device_close(device);
	return done_testing();
}
