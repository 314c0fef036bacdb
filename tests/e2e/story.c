// SPDX-License-Identifier: MIT
/*
 * The whole stack against the plain reference: 200 tokens greedy and 200 with a sampler, token
 * for token, and the logits of every position bit for bit. The device is an argument ("emulate",
 * or none for the card that the driver has); so the same test runs in the process and in the VM.
 * It also counts what a request costs on the bus.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "tests/e2e/story.h"
#include "tests/tap.h"

static struct story story;

static bool count_token(void *opaque, uint32_t token)
{
	unsigned int *count = opaque;

	(void)token;
	/* Somebody slow: when he looks again, the rest has come. */
	if (!*count)
		usleep(300000);
	++*count;
	return false;
}

static void compare(const char *what, struct flm_sampler sampler, bool streams)
{
	float *want_logits = calloc(story.rows * story.info.vocab, sizeof(float));
	float *logits = calloc(story.rows * story.info.vocab, sizeof(float));
	uint32_t want[TOKENS], got[TOKENS] = { 0 };
	unsigned int same, equal, seen = 0;
	struct ref_model_sampler ref_sampler = {
		.temperature = sampler.temperature, .top_k = sampler.top_k, .top_p = sampler.top_p,
		.min_p = sampler.min_p, .seed = sampler.seed,
	};
	struct flm_request request = {
		.tokens = story.prompt, .count = story.prompt_count, .generate = TOKENS,
		.sampler = sampler, .out = got, .logits = logits, .logit_count = story.rows,
		.on_token = streams ? count_token : NULL, .opaque = &seen,
	};
	struct flm_session *session = NULL;
	struct flm_result result = { 0 };
	int ret;

	story_reference(&story, &ref_sampler, want, want_logits);
	ret = flm_session_new(story.model, NULL, &session);
	if (!ret)
		ret = flm_session_generate(session, &request, &result);
	ok(!ret && result.tokens == TOKENS && result.end == FLM_END_COUNT, "%s: %u tokens come%s%s",
	   what, result.tokens, ret ? ": " : "", ret ? flm_error() : "");
	ok(seen == (streams ? TOKENS : 0), "%s: the callback saw %u of them", what, seen);
	ok(result.prefill_ns && result.decode_ns, "%s: prompt and tokens took their time", what);
	same = story_same_tokens(got, want);
	equal = story_same_logits(&story, logits, want_logits);
	ok(same == TOKENS, "%s: %u of %u tokens are the reference's", what, same, TOKENS);
	ok(equal == story.rows, "%s: logits of %u of %zu positions are the reference's to the bit",
	   what, equal, story.rows);
	flm_session_free(session);
	free(logits);
	free(want_logits);
}

/*
 * 200 tokens, the card silent until the end: one submit, one kick at most, nothing else on the
 * bus.
 */
static void costs(void)
{
	struct flm_request request = {
		.tokens = story.prompt, .count = story.prompt_count, .generate = TOKENS,
	};
	struct flm_counters before, between, after;
	struct flm_session *session;
	struct flm_result result;

	if (!ok(!flm_session_new(story.model, NULL, &session), "a session for the count"))
		return;
	/* Two queries in a row say what a query itself costs. */
	flm_device_counters(story.device, &before);
	flm_device_counters(story.device, &between);
	ok(!flm_session_generate(session, &request, &result), "200 tokens in one request");
	flm_device_counters(story.device, &after);
	ok(after.submits - between.submits == 1 && result.submits == 1, "they cost %u SUBMIT",
	   (unsigned int)(after.submits - between.submits));
	ok(after.kicks - between.kicks <= 1, "they cost %u KICK, at most 1",
	   (unsigned int)(after.kicks - between.kicks));
	ok(after.register_reads - between.register_reads ==
	   between.register_reads - before.register_reads, "and no register read");
	ok(after.register_writes - after.kicks - (between.register_writes - between.kicks) ==
	   between.register_writes - between.kicks - (before.register_writes - before.kicks),
	   "and no other register write");
	ok(after.interrupts - between.interrupts <= 1, "and %u interrupt, at most 1",
	   (unsigned int)(after.interrupts - between.interrupts));
	ok(after.tokens - between.tokens == TOKENS, "the card counts %u tokens",
	   (unsigned int)(after.tokens - between.tokens));
	flm_session_free(session);
}

/*
 * Going on, going back, stopping: the session's arithmetic on positions, against one straight
 * run.
 */
static void turns(void)
{
	uint32_t straight[40], turned[40];
	struct flm_session *session;
	struct flm_result result;
	struct flm_request request = {
		.tokens = story.prompt, .count = story.prompt_count, .generate = 40,
		.out = straight,
	};
	int ret;

	if (!ok(!flm_session_new(story.model, NULL, &session), "a session for turns"))
		return;
	flm_session_generate(session, &request, &result);
	ok(flm_session_position(session) == story.prompt_count + 40,
	   "40 tokens stand behind the prompt");
	ok(!flm_session_truncate(session, 0) && !flm_session_position(session), "back to the start");
	request.out = turned;
	request.generate = 15;
	flm_session_generate(session, &request, &result);
	request.tokens = NULL;
	request.count = 0;
	request.out = turned + 15;
	request.generate = 25;
	flm_session_generate(session, &request, &result);
	ok(!memcmp(straight, turned, sizeof(straight)), "two requests are the same as one");
	ok(!flm_session_truncate(session, story.prompt_count + 10), "back by 30 tokens");
	request.tokens = straight + 10;
	request.count = 5;
	request.out = turned + 15;
	flm_session_generate(session, &request, &result);
	ok(!memcmp(straight, turned, sizeof(straight)), "and on again: the same tokens");
	request.count = story.info.context;
	ok(flm_session_generate(session, &request, &result) == -75 &&
	   flm_session_position(session) == story.prompt_count + 40,
	   "a prompt that does not fit is -EOVERFLOW and changes nothing");
	request.tokens = story.prompt;
	request.count = 1;
	request.generate = story.info.context;
	request.out = NULL;
	ret = flm_session_generate(session, &request, &result);
	ok(!ret && result.end == FLM_END_CONTEXT_FULL && result.tokens ==
	   story.info.context - (story.prompt_count + 40),
	   "a full context ends a request with what fits (%u tokens)", result.tokens);
	flm_session_free(session);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		fprintf(stderr, "usage: story MODEL.flm [DEVICE]\n");
		return 2;
	}
	if (!story_open(&story, argv[1], argc > 2 ? argv[2] : NULL))
		return 1;
	compare("greedy", (struct flm_sampler) { .temperature = 0 }, false);
	compare("temperature 0.8", (struct flm_sampler) {
		.temperature = 0.8f, .top_k = 40, .top_p = 0.95f, .min_p = 0.05f, .seed = 7,
	}, true);
	costs();
	turns();
	story_close(&story);
	return done_testing();
}
