// SPDX-License-Identifier: MIT
/*
 * The library over a card that is reset under it: what flightllm.h says is lost is lost, what it
 * says goes on goes on, and a model that is loaded again on the same device says the same. What
 * tests/lib/seam.c plays, by the driver itself.
 */
#include <errno.h>
#include <fcntl.h>

#include "lib/flightllm.h"
#include "tests/lib/model.h"
#include "tests/tap.h"

#define TOKENS	12
#define BYTES	100000

static struct flm_device *device;
static uint8_t bytes[BYTES], back[BYTES];

static int round_trip(struct flm_bo *bo)
{
	int ret = flm_bo_write(bo, 0, bytes, BYTES);

	memset(back, 0, BYTES);
	if (!ret)
		ret = flm_bo_read(bo, 0, back, BYTES);
	return ret ? ret : !!memcmp(bytes, back, BYTES);
}

static int speak(struct flm_session *session, uint32_t *out)
{
	static const uint32_t prompt[] = { 1, 7, 3, 200, 11 };
	struct flm_request request = {
		.tokens = prompt, .count = 5, .generate = TOKENS, .out = out,
	};
	struct flm_result result;
	int ret = flm_session_generate(session, &request, &result);

	return ret ? ret : result.tokens != TOKENS;
}

/* A function-level reset, as an administrator asks for it. */
static bool reset_card(void)
{
	struct flm_device_info info;
	char path[160];
	bool done;
	int fd;

	if (flm_device_info(device, &info))
		return false;
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", info.bus);
	fd = open(path, O_WRONLY);
	done = fd >= 0 && write(fd, "1", 1) == 1;
	if (fd >= 0)
		close(fd);
	return done;
}

int main(void)
{
	struct flm_session *session = NULL, *again = NULL, *none = NULL;
	struct flm_model *model = NULL, *reloaded = NULL;
	struct flm_bo *card = NULL, *host = NULL, *fresh = NULL;
	uint32_t before[TOKENS] = { 0 }, after[TOKENS] = { 1 };
	struct flm_device_info info;
	char options[64];

	if (getenv("FLIGHTLLM_EMULATE")) {
		printf("1..0 # SKIP there is no bus\n");
		return 0;
	}
	for (unsigned int i = 0; i < BYTES; i++)
		bytes[i] = i * 2654435761u >> 24;
	if (flm_device_open(NULL, &device) || flm_device_info(device, &info)) {
		printf("Bail out! %s\n", flm_error());
		return 1;
	}
	snprintf(options, sizeof(options), "--synthetic tiny --card %s", info.card);
	model_make(options);
	if (flm_model_load(device, model_path, NULL, &model) ||
	    flm_session_new(model, NULL, &session) ||
	    flm_bo_new(device, FLM_BO_HBM, 1, BYTES, &card) ||
	    flm_bo_new(device, FLM_BO_HOST, 0, BYTES, &host)) {
		printf("Bail out! %s\n", flm_error());
		return 1;
	}
	ok(!speak(session, before) && !round_trip(card) && !round_trip(host),
	   "a model speaks, buffers hold what they are given");
	if (!ok(reset_card(), "the card is reset"))
		return done_testing();
	ok(speak(session, after) == -ECANCELED, "the session is lost");
	ok(flm_session_new(model, NULL, &none) == -ECANCELED && !none, "the model has no other");
	ok(round_trip(card) == -ECANCELED && round_trip(card) == -ECANCELED,
	   "a buffer of the card is lost, and stays so");
	ok(!round_trip(host), "one in host memory is not");
	ok(!flm_bo_new(device, FLM_BO_HBM, 1, BYTES, &fresh) && !round_trip(fresh),
	   "the next buffer works at once");
	ok(!flm_model_load(device, model_path, NULL, &reloaded) &&
	   !flm_session_new(reloaded, NULL, &again) && !speak(again, after) &&
	   !memcmp(before, after, sizeof(before)), "the model, loaded again, says the same");
	flm_bo_free(fresh);
	flm_bo_free(host);
	flm_bo_free(card);
	flm_session_free(none);
	flm_session_free(again);
	flm_session_free(session);
	flm_model_free(reloaded);
	flm_model_free(model);
	session = NULL;
	model = NULL;

	/* Nobody has met this one when the next model is loaded. */
	if (ok(reset_card(), "the card is reset while nothing is loaded"))
		ok(!flm_model_load(device, model_path, NULL, &model) &&
		   !flm_session_new(model, NULL, &session) && !speak(session, after) &&
		   !memcmp(before, after, sizeof(before)), "and the next model does not notice");
	flm_session_free(session);
	flm_model_free(model);
	flm_device_close(device);
	return done_testing();
}
