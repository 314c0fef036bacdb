// SPDX-License-Identifier: MIT
/*
 * Files and cards of other versions of the instruction set. A file that instruction set 1.0 was
 * enough for, as the compiler of then wrote it, gives the bits that it gave then. A file that needs
 * more than the card has is refused before a buffer is made. The card in the process is of today:
 * what it says of itself passes through this test, which changes the version.
 */
#include <errno.h>

#include <drm/flightllm_accel.h>

#include <flightllm/isa.h>

#include "lib/internal.h"
#include "tests/lib/model.h"
#include "tests/ref/ref_model.h"
#include "tests/tap.h"

#define OLD	"tests/data/flm-1.0/tiny.flm"
#define PROMPT	20
#define TOKENS	24
#define ROWS	(PROMPT + TOKENS - 1)
#define VOCAB	300

/* The library of the release that made OLD said so on the card of that release. */
static const uint32_t recorded[TOKENS] = {
	220, 263, 210, 243, 126, 14, 12, 160, 205, 24, 35, 289,
	6, 244, 196, 111, 177, 231, 15, 292, 166, 35, 289, 6,
};
#define RECORDED_CRC	0xe1fe088bu	/* of the logits of all ROWS positions */

static struct {
	struct seam real;
	unsigned int version;	/* of the instruction set, 0: the card's own */
	unsigned int buffers;	/* made so far */
} fake;

static int fake_ioctl(void *handle, unsigned long request, void *argument)
{
	const struct drm_flightllm_dev_query *query = argument;
	int ret = fake.real.ioctl(fake.real.handle, request, argument);

	(void)handle;
	if (request == DRM_IOCTL_FLIGHTLLM_BO_CREATE)
		fake.buffers++;
	if (!ret && fake.version && request == DRM_IOCTL_FLIGHTLLM_DEV_QUERY &&
	    query->type == DRM_FLIGHTLLM_QUERY_CARD)
		((struct drm_flightllm_query_card *)(uintptr_t)query->pointer)->isa_version =
			fake.version;
	return ret;
}

static struct flm_device *open_card(unsigned int version)
{
	struct flm_device *device;

	if (flm_device_open("emulate:tiny", &device)) {
		printf("Bail out! %s\n", flm_error());
		exit(1);
	}
	fake.real = device->seam;
	fake.version = version;
	fake.buffers = 0;
	device->seam.ioctl = fake_ioctl;
	return device;
}

static void fill_prompt(uint32_t *prompt)
{
	for (unsigned int i = 0; i < PROMPT; i++)
		prompt[i] = (i * 7 + 3) % VOCAB;
}

/* What the file says on a card that calls itself of this version. */
static bool speaks(unsigned int version, uint32_t *tokens, float *logits)
{
	struct flm_device *device = open_card(version);
	struct flm_session *session = NULL;
	struct flm_model *model = NULL;
	struct flm_result result = { 0 };
	uint32_t prompt[PROMPT];
	struct flm_request request = {
		.tokens = prompt, .count = PROMPT, .generate = TOKENS, .out = tokens,
		.logits = logits, .logit_count = ROWS,
	};
	bool is_well;

	fill_prompt(prompt);
	is_well = !flm_model_load(device, OLD, NULL, &model) &&
		  !flm_session_new(model, NULL, &session) &&
		  !flm_session_generate(session, &request, &result) && result.tokens == TOKENS;
	if (!is_well)
		printf("# %s\n", flm_error());
	flm_session_free(session);
	flm_model_free(model);
	flm_device_close(device);
	return is_well;
}

static void old_file(void)
{
	static float logits[ROWS][VOCAB], want[VOCAB];
	struct flm_copy file = flm_read(OLD);
	uint32_t tokens[TOKENS], prompt[PROMPT];
	unsigned int same = 0;
	struct ref_model *ref;
	char error[256];

	ok(get32(file.data + 12) == 1, OLD " names instruction set 1.0");
	free(file.data);
	if (!ok(speaks(0, tokens, logits[0]), "it runs on the card of today"))
		return;
	ok(!memcmp(tokens, recorded, sizeof(tokens)), "it says the tokens that it said then");
	ok(slow_crc32c((const uint8_t *)logits, sizeof(logits)) == RECORDED_CRC,
	   "and its logits are to the bit what they were (CRC32C 0x%08x)",
	   slow_crc32c((const uint8_t *)logits, sizeof(logits)));
	if (!ok(!ref_model_open(OLD, &ref, error) && ref_model_vocab(ref) == VOCAB,
		"the reference reads it"))
		return;
	fill_prompt(prompt);
	for (unsigned int i = 0; i < ROWS; i++) {
		ref_model_logits(ref, i < PROMPT ? prompt[i] : tokens[i - PROMPT], i, want);
		same += !memcmp(want, logits[i], sizeof(want));
	}
	ok(same == ROWS, "%u of %u rows of logits are the reference's", same, ROWS);
	ref_model_close(ref);
	ok(speaks(1 << 16, tokens, logits[0]) && !memcmp(tokens, recorded, sizeof(tokens)),
	   "a card that calls itself 1.0 takes it");
}

/* model_path, which needs `minor`, on a card that has `version`. */
static void refused(unsigned int minor, unsigned int version, const char *want)
{
	struct flm_device *device = open_card(version);
	struct flm_copy file = flm_read(model_path);
	struct flm_model *model = NULL;
	char text[512];
	FILE *out;
	int ret;

	put(file.data + 14, minor, 2);
	flm_seal(&file);
	out = fopen(model_path, "wb");
	if (!out || fwrite(file.data, 1, file.bytes, out) != file.bytes || fclose(out)) {
		printf("Bail out! %s cannot be written\n", model_path);
		exit(1);
	}
	free(file.data);
	ret = flm_model_load(device, model_path, NULL, &model);
	snprintf(text, sizeof(text), "%s%s", model_path, want ? want : "");
	ok(want ? ret == -EPROTO && !model && !fake.buffers && !strcmp(flm_error(), text) : !ret,
	   "a file for 1.%u on a card of %u.%u is %s", minor, version >> 16, version & 0xffff,
	   want ? "refused, and no buffer is made" : "taken");
	if (ret && (!want || strcmp(flm_error(), text)))
		printf("# %s\n", flm_error());
	flm_model_free(model);
	flm_device_close(device);
}

int main(void)
{
	struct flm_copy file;

	model_make("--synthetic tiny --card tiny");
	file = flm_read(model_path);
	ok(get32(file.data + 12) == (FLM_ISA_MAJOR | FLM_ISA_MINOR << 16),
	   "the compiler writes the version that its programs need");
	free(file.data);
	old_file();
	refused(1, 0x10000, ": needs instruction set 1.1, card emulate:tiny has 1.0; compile it with "
		"the flightllm-cc of the card's release, or update the card");
	refused(9, 0x10008, ": needs instruction set 1.9, card emulate:tiny has 1.8; compile it with "
		"the flightllm-cc of the card's release, or update the card");
	refused(9, 0x10009, NULL);
	refused(1, 0x10009, NULL);
	refused(0, 0x10001, NULL);
	return done_testing();
}
