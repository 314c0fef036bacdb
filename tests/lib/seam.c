// SPDX-License-Identifier: MIT
/*
 * The library over a driver that changes its mind: the card in the process behind a seam of this
 * test's own, which lowers and raises the limit on preemption points, loses all contexts as a reset
 * of the card does, and fails any call by its number. What the library must then do, and that
 * nothing is left behind: every buffer, context and queue is counted.
 */
#include <errno.h>
#include <sched.h>

#include <drm/flightllm_accel.h>

#include "lib/internal.h"
#include "tests/lib/model.h"
#include "tests/tap.h"

#define PROMPT	100
#define CHUNK	32	/* so that the prompt has four */
#define TOKENS	20
#define IDS	4096

static struct {
	struct seam real;
	/* points_max as it is, and as this device was told last */
	unsigned int points, told;
	unsigned int asks, submits, refusals;
	bool is_stubborn;		/* refuses every job as too long */
	/* resets so far; of contexts, what they were when it was made; of queues, their context */
	unsigned int resets, born[IDS], context_of[IDS];
	/* so many jobs to come end with RESET, and the queue that one did */
	unsigned int queue_resets, dead_queue;
	/* the call that fails, counted down, and how */
	int fail_at, fail_with;
	struct flm_session *stop;	/* stopped by the next buffer that is made */
	struct flm_session *cut;	/* stopped by the first point of its next job */
	unsigned int stops;		/* of jobs */
	int buffers, contexts, queues;
} fake;

static struct flm_device *device;
static uint32_t prompt[PROMPT];

static bool is_lost(unsigned int context)
{
	return fake.born[context] != fake.resets;
}

static int fake_create(unsigned long request, void *argument)
{
	struct drm_flightllm_queue_create *queue = argument;
	struct drm_flightllm_context_create *context = argument;
	int ret;

	if (request == DRM_IOCTL_FLIGHTLLM_QUEUE_CREATE && is_lost(queue->context))
		return -ECANCELED;
	ret = fake.real.ioctl(fake.real.handle, request, argument);
	if (ret)
		return ret;
	switch (request) {
	case DRM_IOCTL_FLIGHTLLM_BO_CREATE:
		fake.buffers++;
		if (fake.stop)
			flm_session_stop(fake.stop);
		fake.stop = NULL;
		break;
	case DRM_IOCTL_FLIGHTLLM_CONTEXT_CREATE:
		fake.contexts++;
		fake.born[context->id] = fake.resets;
		break;
	default:
		fake.queues++;
		fake.context_of[queue->id] = queue->context;
	}
	return 0;
}

/* Preemption points that the card has passed. */
static uint64_t passed(void)
{
	struct drm_flightllm_query_counters counters;
	struct drm_flightllm_dev_query query = {
		.type = DRM_FLIGHTLLM_QUERY_COUNTERS, .size = sizeof(counters),
		.pointer = (uintptr_t)&counters,
	};

	fake.real.ioctl(fake.real.handle, DRM_IOCTL_FLIGHTLLM_DEV_QUERY, &query);
	return counters.points;
}

static int fake_submit(struct drm_flightllm_submit *submit)
{
	const struct drm_flightllm_job *jobs = (const void *)(uintptr_t)submit->jobs;
	uint64_t before = fake.cut ? passed() : 0;
	int ret;

	if (is_lost(fake.context_of[submit->queue]) || submit->queue == fake.dead_queue)
		return -ECANCELED;
	for (uint32_t i = 0; i < submit->job_count; i++) {
		if (jobs[i].op != DRM_FLIGHTLLM_JOB_RUN)
			continue;
		fake.submits++;
		if (fake.is_stubborn || jobs[i].max_points > fake.told) {
			fake.refusals++;
			return -E2BIG;
		}
	}
	ret = fake.real.ioctl(fake.real.handle, DRM_IOCTL_FLIGHTLLM_SUBMIT, submit);
	if (fake.cut) {
		while (!ret && passed() == before)
			sched_yield();
		flm_session_stop(fake.cut);
		fake.cut = NULL;
	}
	return ret;
}

static int fake_wait(struct drm_flightllm_wait *wait)
{
	int ret = fake.real.ioctl(fake.real.handle, DRM_IOCTL_FLIGHTLLM_WAIT, wait);

	if (!ret && is_lost(fake.context_of[wait->queue])) {
		wait->status = DRM_FLIGHTLLM_STATUS_LOST;
	} else if (!ret && fake.queue_resets) {
		fake.queue_resets--;
		fake.dead_queue = wait->queue;
		wait->status = DRM_FLIGHTLLM_STATUS_RESET;
	}
	return ret;
}

/* Calls that free never fail, in the kernel as here. */
static int fake_free(unsigned long request, void *argument)
{
	const struct drm_flightllm_queue_destroy *queue = argument;
	int ret = fake.real.ioctl(fake.real.handle, request, argument);

	if (request == DRM_IOCTL_FLIGHTLLM_QUEUE_DESTROY && queue->id == fake.dead_queue)
		fake.dead_queue = 0;
	if (request == DRM_IOCTL_GEM_CLOSE)
		fake.buffers -= !ret;
	else if (request == DRM_IOCTL_FLIGHTLLM_CONTEXT_DESTROY)
		fake.contexts -= !ret;
	else
		fake.queues -= !ret;
	return ret;
}

static int fake_query(struct drm_flightllm_dev_query *query)
{
	struct drm_flightllm_query_card *card = (void *)(uintptr_t)query->pointer;
	int ret = fake.real.ioctl(fake.real.handle, DRM_IOCTL_FLIGHTLLM_DEV_QUERY, query);

	if (!ret && query->type == DRM_FLIGHTLLM_QUERY_CARD) {
		card->points_max = fake.points;
		fake.told = fake.points;
		fake.asks++;
	}
	return ret;
}

static int fake_ioctl(void *handle, unsigned long request, void *argument)
{
	const struct drm_flightllm_segment_bind *bind = argument;
	struct drm_flightllm_fault_query *fault = argument;
	int ret;

	(void)handle;
	switch (request) {
	case DRM_IOCTL_GEM_CLOSE:
	case DRM_IOCTL_FLIGHTLLM_CONTEXT_DESTROY:
	case DRM_IOCTL_FLIGHTLLM_QUEUE_DESTROY:
		return fake_free(request, argument);
	}
	if (fake.fail_at && !--fake.fail_at)
		return fake.fail_with;
	switch (request) {
	case DRM_IOCTL_FLIGHTLLM_DEV_QUERY:
		return fake_query(argument);
	case DRM_IOCTL_FLIGHTLLM_BO_CREATE:
	case DRM_IOCTL_FLIGHTLLM_CONTEXT_CREATE:
	case DRM_IOCTL_FLIGHTLLM_QUEUE_CREATE:
		return fake_create(request, argument);
	case DRM_IOCTL_FLIGHTLLM_SUBMIT:
		return fake_submit(argument);
	case DRM_IOCTL_FLIGHTLLM_WAIT:
		return fake_wait(argument);
	case DRM_IOCTL_FLIGHTLLM_STOP:
		fake.stops++;
		break;
	case DRM_IOCTL_FLIGHTLLM_SEGMENT_BIND:
		if (is_lost(bind->context))
			return -ECANCELED;
		break;
	case DRM_IOCTL_FLIGHTLLM_FAULT_QUERY:
		ret = fake.real.ioctl(fake.real.handle, request, argument);
		fault->lost = !ret && is_lost(fault->context);
		return ret;
	}
	return fake.real.ioctl(fake.real.handle, request, argument);
}

/* A device that knows of `points`, with this test between it and the card. */
static bool open_device(unsigned int points)
{
	if (flm_device_open("emulate:tiny", &device)) {
		printf("# %s\n", flm_error());
		return false;
	}
	memset(&fake, 0, sizeof(fake));
	fake.real = device->seam;
	fake.points = fake.told = device->points = points;
	device->seam.ioctl = fake_ioctl;
	return true;
}

/* The model in chunks of CHUNK: its table says so, and its program. Results are the same. */
static void shorten_chunks(void)
{
	struct flm_copy copy = flm_read(model_path);
	FILE *file = fopen(model_path, "wb");

	put(copy.data + get64(flm_row_of(&copy, 1) + 8) + 36, CHUNK, 4);
	put(copy.data + get64(flm_row_of(&copy, 3) + 8) + 16, CHUNK, 4);
	flm_seal(&copy);
	if (!file || fwrite(copy.data, 1, copy.bytes, file) != copy.bytes || fclose(file)) {
		printf("Bail out! %s cannot be written\n", model_path);
		exit(1);
	}
	free(copy.data);
}

static uint32_t straight[TOKENS];

/* Prompt and TOKENS from position 0 on: 0, -errno, or 1 when they are not what they were once. */
static int speak(struct flm_session *session, struct flm_result *result)
{
	uint32_t out[TOKENS] = { 0 };
	struct flm_request request = {
		.tokens = prompt, .count = PROMPT, .generate = TOKENS, .out = out,
	};
	int ret = flm_session_truncate(session, 0);

	if (!ret)
		ret = flm_session_generate(session, &request, result);
	if (ret)
		return ret;
	return result->tokens != TOKENS || result->end != FLM_END_COUNT ||
	       memcmp(out, straight, sizeof(out));
}

/* That all is freed but what the device copies with. */
static void nothing_left(const char *where)
{
	ok(fake.buffers == 1 && fake.contexts == 1 && fake.queues == 1,
	   "%s: what is left is what the device copies with", where);
	flm_device_close(device);
	ok(!fake.buffers && !fake.contexts && !fake.queues, "%s: and that goes with it", where);
}

/* ---- Preemption points ---- */

static void limit(unsigned int now, unsigned int told, unsigned int known)
{
	fake.points = now;
	fake.told = told;
	device->points = known;
	fake.asks = fake.submits = fake.refusals = 0;
}

static void points(void)
{
	struct flm_request few = { .tokens = prompt, .count = 2, .generate = 3 };
	struct flm_request request = {
		.tokens = prompt, .count = PROMPT, .generate = TOKENS, .out = straight,
	};
	struct flm_session *session;
	struct flm_result result;
	struct flm_model *model;

	if (!ok(open_device(1000) && !flm_model_load(device, model_path, NULL, &model) &&
		!flm_session_new(model, NULL, &session), "a session over a patient driver"))
		return;
	limit(1000, 1000, 1000);
	ok(!flm_session_generate(session, &request, &result) && result.submits == 1 && !fake.asks,
	   "one job and no question, where the limit is far");
	limit(4, 4, 4);
	flm_session_truncate(session, 0);
	ok(!flm_session_generate(session, &few, &result) && result.submits == 1 && !fake.asks,
	   "nor is there one where it is just far enough");
	ok(!speak(session, &result) && result.submits == 8 && !fake.refusals,
	   "with four points a job the same tokens come in 8 jobs");
	limit(2, 2, 2);
	ok(!speak(session, &result) && result.submits == 23 && !fake.refusals,
	   "with two points a prompt of four chunks is cut three times: 23 jobs");
	limit(256, 4, 4);
	ok(!speak(session, &result) && result.submits == 1 && fake.asks == 1,
	   "a limit that has grown is asked for, once, and used");
	ok(!speak(session, &result) && result.submits == 1 && fake.asks == 1, "and remembered");
	limit(4, 4, 256);
	ok(!speak(session, &result) && fake.refusals == 1 && result.submits == 8,
	   "one that has shrunk is a refusal, a question, and shorter jobs");
	limit(256, 256, 256);
	fake.is_stubborn = true;
	ok(speak(session, &result) == -E2BIG && fake.submits == 9 && !result.submits &&
	   strstr(flm_error(), "; ask for fewer tokens at a time"),
	   "a driver that refuses all is believed in the end, after 9 tries");
	fake.is_stubborn = false;
	ok(!speak(session, &result), "and no harm is done");
	flm_session_free(session);
	flm_model_free(model);
	nothing_left("points");
}

/* ---- A card that is reset ---- */

static uint8_t bytes[70000], back[70000];

static int round_trip(struct flm_bo *bo)
{
	int ret = flm_bo_write(bo, 0, bytes, sizeof(bytes));

	memset(back, 0, sizeof(back));
	if (!ret)
		ret = flm_bo_read(bo, 0, back, sizeof(back));
	return ret ? ret : !!memcmp(bytes, back, sizeof(bytes));
}

static bool is_reset_text(void)
{
	return strstr(flm_error(), "was reset and what its memory held is lost; load the model again");
}

static void resets(void)
{
	struct flm_binding binding = { .core = FLM_ALL_CORES, .rights = FLM_READ };
	struct flm_session *session, *none = (void *)8;
	struct flm_model *model, *again;
	struct flm_bo *unused, *used, *host, *fresh;
	struct flm_context *context;
	struct flm_result result;

	if (!ok(open_device(1000) && !flm_bo_new(device, FLM_BO_HBM, 1, sizeof(bytes), &unused),
		"a buffer that nothing was copied to"))
		return;
	fake.resets++;
	ok(round_trip(unused) == -ECANCELED && is_reset_text(), "it is lost with the card's memory");
	if (!ok(!flm_bo_new(device, FLM_BO_DDR, 0, sizeof(bytes), &used) && !round_trip(used) &&
		!flm_bo_new(device, FLM_BO_HOST, 0, sizeof(bytes), &host) && !round_trip(host) &&
		!flm_model_load(device, model_path, NULL, &model) &&
		!flm_session_new(model, NULL, &session) && !speak(session, &result),
		"the device goes on: buffers, a model, a session")) {
		printf("# %s\n", flm_error());
		return;
	}

	fake.resets++;
	ok(speak(session, &result) == -ECANCELED && is_reset_text(), "a reset ends a session");
	ok(speak(session, &result) == -ECANCELED && strstr(flm_error(), "begin a new one"),
	   "and it stays ended");
	ok(flm_session_new(model, NULL, &none) == -ECANCELED && !none && is_reset_text(),
	   "its model has no more sessions");
	ok(!flm_model_load(device, model_path, NULL, &again), "but can be loaded again at once");
	ok(!flm_session_new(again, NULL, &none) && !speak(none, &result),
	   "and says the same as ever");
	ok(round_trip(used) == -ECANCELED && round_trip(unused) == -ECANCELED &&
	   round_trip(used) == -ECANCELED,
	   "buffers of the card stay lost, although the device copies again");
	ok(!flm_context_new(device, &context), "a context");
	binding.bo = used;
	binding.bytes = sizeof(bytes);
	ok(flm_context_bind(context, &binding, 1) == -ECANCELED && is_reset_text(),
	   "takes none of them");
	binding.bo = host;
	ok(!round_trip(host) && !flm_context_bind(context, &binding, 1),
	   "host memory is as good as before");
	flm_context_free(context);

	fake.resets++;
	ok(!flm_bo_new(device, FLM_BO_HBM, 0, sizeof(bytes), &fresh) && !round_trip(fresh),
	   "a reset that nobody has met yet costs the next buffer nothing");
	flm_session_free(none);
	flm_session_free(session);
	flm_model_free(again);
	flm_model_free(model);
	flm_bo_free(fresh);
	flm_bo_free(host);
	flm_bo_free(used);
	flm_bo_free(unused);
	nothing_left("resets");
}

static void reset_at(void *opaque, uint64_t done, uint64_t all)
{
	(void)done;
	(void)all;
	if (!--*(int *)opaque)
		fake.resets++;
}

/* A reset after each step of a load: the load fails, or else no session begins. */
static void resets_while_loading(void)
{
	unsigned int refused = 0, sessionless = 0, sound = 0, steps;
	struct flm_session *session;
	struct flm_result result;
	struct flm_model *model;
	int countdown = 0;

	if (!ok(open_device(1000), "a device to load on"))
		return;
	for (steps = 1; steps < 100; steps++) {
		struct flm_load_options options = { .progress = reset_at, .opaque = &countdown };
		int ret;

		countdown = steps;
		ret = flm_model_load(device, model_path, &options, &model);
		if (!ret && countdown > 0)
			break;
		if (ret) {
			refused += ret == -ECANCELED && !model && is_reset_text();
		} else {
			sessionless += flm_session_new(model, NULL, &session) == -ECANCELED;
			flm_model_free(model);
		}
		if (flm_model_load(device, model_path, NULL, &model))
			continue;
		sound += !flm_session_new(model, NULL, &session) && !speak(session, &result);
		flm_session_free(session);
		flm_model_free(model);
	}
	flm_model_free(model);
	ok(steps > 3 && refused == steps - 2 && sessionless == 1,
	   "a reset at any of %u steps of a load is seen", steps - 1);
	ok(sound == steps - 1, "and the next load is sound");
	nothing_left("loads");
}

/* A queue that is reset, as one that hangs is, takes nothing with it. */
static void broken_copies(void)
{
	struct flm_bo *bo;

	if (!ok(open_device(1000) && !flm_bo_new(device, FLM_BO_HBM, 0, sizeof(bytes), &bo) &&
		!round_trip(bo), "a buffer with bytes"))
		return;
	fake.queue_resets = 1;
	ok(flm_bo_write(bo, 0, back, 100) == -EIO && strstr(flm_error(), "try again"),
	   "a copy that is cut off is an error");
	memset(back, 0, sizeof(back));
	ok(!flm_bo_read(bo, 0, back, sizeof(back)) && !memcmp(bytes, back, sizeof(bytes)),
	   "the next one works, and the bytes are still there");
	flm_bo_free(bo);
	nothing_left("copies");
}

/* What the device copies with is made whole or not at all. */
static void half_made(void)
{
	unsigned int n, right = 0;
	struct flm_bo *bo;

	for (n = 1; n < 100; n++) {
		if (!open_device(1000))
			return;
		fake.fail_with = -ENOMEM;
		fake.fail_at = n;
		if (!flm_bo_new(device, FLM_BO_HBM, 0, sizeof(bytes), &bo)) {
			flm_bo_free(bo);
			flm_device_close(device);
			break;
		}
		if (!bo && !flm_bo_new(device, FLM_BO_HBM, 0, sizeof(bytes), &bo)) {
			flm_bo_free(bo);
			right += fake.buffers == 1 && fake.contexts == 1;
		}
		flm_device_close(device);
	}
	ok(n > 4 && right == n - 1, "a first buffer that fails in one of %u ways leaves nothing half "
	   "made", n - 1);
}

/* More logits than there is room for: what fails then leaves the buffer that there was. */
static void logits(void)
{
	float want[300] = { 0 }, got[300];
	float *many = calloc(50 * 300, sizeof(*many));
	struct flm_request one = {
		.tokens = prompt, .count = 60, .logits = want, .logit_first = 59, .logit_count = 1,
	};
	struct flm_request other = {
		.tokens = prompt, .count = 60, .logits = got, .logit_first = 10, .logit_count = 1,
	};
	struct flm_request more = {
		.tokens = prompt, .count = 60, .logits = many, .logit_count = 50,
	};
	struct flm_session *session = NULL;
	struct flm_model *model = NULL;
	struct flm_result result;
	unsigned int right = 0;

	if (!ok(open_device(1000) && !flm_model_load(device, model_path, NULL, &model) &&
		!flm_session_new(model, NULL, &session) &&
		!flm_session_generate(session, &one, &result) && want[0] != 0,
		"logits of one position"))
		return;
	one.logits = got;
	for (int n = 1; n <= 3; n++) {
		flm_session_truncate(session, 0);
		if (flm_session_generate(session, &other, &result) ||
		    !memcmp(got, want, sizeof(got)))
			break;
		flm_session_truncate(session, 0);
		fake.fail_with = -ENOMEM;
		fake.fail_at = n;
		right += flm_session_generate(session, &more, &result) == -ENOMEM &&
			 !fake.fail_at && !flm_session_generate(session, &one, &result) &&
			 !memcmp(got, want, sizeof(got));
	}
	ok(right == 3, "are right after each of three ways to have no room for fifty (%u)", right);
	flm_session_free(session);
	flm_model_free(model);
	free(many);
	nothing_left("logits");
}

/* ---- Stops ---- */

/* One that comes while the buffer for logits is made, before any job. */
static void early_stop(void)
{
	float *many = calloc(50 * 300, sizeof(*many));
	struct flm_request request = {
		.tokens = prompt, .count = 60, .generate = 40, .logits = many, .logit_count = 50,
	};
	struct flm_session *session = NULL;
	struct flm_model *model = NULL;
	struct flm_result result;

	if (!ok(open_device(1000) && !flm_model_load(device, model_path, NULL, &model) &&
		!flm_session_new(model, NULL, &session), "a session to stop"))
		return;
	fake.stop = session;
	ok(!flm_session_generate(session, &request, &result) && !fake.stop && fake.stops == 1,
	   "a stop before the first job ends that job");
	flm_session_truncate(session, 0);
	flm_session_stop(session);
	ok(!flm_session_generate(session, &request, &result) && result.tokens == 40 &&
	   fake.stops == 1, "one before the request ends nothing");
	flm_session_free(session);
	flm_model_free(model);
	free(many);
	nothing_left("a stop");
}

/* One that comes in the middle of a prompt, which leaves the chunks that were done. */
static void stop_in_prompt(void)
{
	uint32_t out[TOKENS] = { 0 };
	struct flm_request request = {
		.tokens = prompt, .count = PROMPT, .generate = TOKENS, .out = out,
	};
	struct flm_session *session = NULL;
	struct flm_model *model = NULL;
	struct flm_result result = { .tokens = 1 };
	unsigned int at = 0;

	if (!ok(open_device(1000) && !flm_model_load(device, model_path, NULL, &model) &&
		!flm_session_new(model, NULL, &session), "a session to stop in its prompt"))
		return;
	/* The card may be through with the prompt before the stop arrives, but not each time. */
	for (int try = 0; try < 200 && result.tokens; try++) {
		flm_session_truncate(session, 0);
		fake.cut = session;
		if (flm_session_generate(session, &request, &result))
			break;
		at = flm_session_position(session);
	}
	ok(!result.tokens && result.end == FLM_END_STOPPED && at && at < PROMPT && !(at % CHUNK),
	   "a stop in the middle of the prompt leaves whole chunks of it (%u tokens)", at);
	request.tokens += at;
	request.count -= at;
	ok(!flm_session_generate(session, &request, &result) && result.tokens == TOKENS &&
	   !memcmp(out, straight, sizeof(out)), "behind which the rest can be fed");
	flm_session_free(session);
	flm_model_free(model);
	nothing_left("a stop in a prompt");
}

/* ---- Every call fails once ---- */

/* Much of what the library does; 0, -errno, or 1 when it is not right. */
static int everything(void)
{
	struct flm_session *session = NULL;
	struct flm_model *model = NULL;
	struct flm_bo *bo = NULL;
	struct flm_result result;
	float *logits = calloc(2 * 300, sizeof(*logits));
	struct flm_request request = {
		.tokens = prompt, .count = 3, .logits = logits, .logit_first = 1,
		.logit_count = 2,
	};
	int ret = flm_model_load(device, model_path, NULL, &model);

	if (!ret)
		ret = flm_session_new(model, NULL, &session);
	if (!ret)
		ret = flm_session_generate(session, &request, &result);
	if (!ret)
		ret = speak(session, &result);
	if (!ret)
		ret = flm_bo_new(device, FLM_BO_HBM, 0, sizeof(bytes), &bo);
	if (!ret)
		ret = round_trip(bo);
	flm_bo_free(bo);
	flm_session_free(session);
	flm_model_free(model);
	free(logits);
	return ret;
}

static void failures(int with, int want, const char *name)
{
	unsigned int n, expected = 0, harmless = 0, recovered = 0;
	char text[600];

	if (!ok(open_device(8) && !everything(), "all is well before %s", name))
		return;
	for (n = 1; n < 1000; n++) {
		int ret;

		flm_fail(0, "nothing was wrong");
		device->points = 8;
		fake.fail_with = with;
		fake.fail_at = n;
		ret = everything();
		snprintf(text, sizeof(text), "%s", flm_error());
		if (fake.fail_at)
			break;
		if (ret == want && strcmp(text, "nothing was wrong") && !strchr(text, '\n'))
			expected++;
		else if (!ret)
			harmless++;	/* a question that need not be answered */
		else
			printf("# call %u: %d, %s\n", n, ret, text);
		if (fake.buffers > 1 || fake.contexts > 1 || fake.queues > 1)
			printf("# call %u: %d buffers, %d contexts, %d queues are left\n", n,
			       fake.buffers, fake.contexts, fake.queues);
		else
			recovered += !everything();
	}
	fake.fail_at = 0;
	ok(n > 40 && expected + harmless == n - 1 && expected >= 40,
	   "%s of each of %u calls: %u are reported, %u do no harm", name, n - 1, expected,
	   harmless);
	ok(recovered == n - 1, "after each of them nothing is left, and all works again");
	nothing_left(name);
}

int main(void)
{
	for (unsigned int i = 0; i < PROMPT; i++)
		prompt[i] = (i * 7 + 3) % 300;
	for (unsigned int i = 0; i < sizeof(bytes); i++)
		bytes[i] = i * 2654435761u >> 24;
	model_make("--synthetic tiny --card tiny");
	shorten_chunks();
	points();
	resets();
	resets_while_loading();
	broken_copies();
	half_made();
	logits();
	early_stop();
	stop_in_prompt();
	failures(-ENOMEM, -ENOMEM, "want of memory");
	failures(-ENODEV, -ECANCELED, "the card's absence");
	return done_testing();
}
