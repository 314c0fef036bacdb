// SPDX-License-Identifier: MIT
/*
 * Every allocation of the library fails once, from opening a device to closing it: each failure is
 * reported as what it is, the object is NULL, and afterwards not one allocation, mapping or file
 * is left. The linker sends the library's calls through the wrappers here (see Makefile); the card
 * is a library of its own and has all the memory it wants.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/mman.h>

#include "lib/internal.h"
#include "tests/lib/model.h"
#include "tests/tap.h"

#define TOKENIZER	"tests/data/fables-3m/tokenizer.model"

static int countdown;		/* allocations until the one that fails; 0: none does */
static long blocks, mappings;	/* that are not freed */

static bool fails(void)
{
	return countdown && !--countdown;
}

void *__real_malloc(size_t bytes);
void *__real_calloc(size_t count, size_t bytes);
void *__real_realloc(void *memory, size_t bytes);
char *__real_strdup(const char *text);
char *__real_strndup(const char *text, size_t bytes);
void __real_free(void *memory);
void *__real_mmap(void *at, size_t bytes, int rights, int flags, int fd, off_t offset);
int __real_munmap(void *memory, size_t bytes);
int __real_memfd_create(const char *name, unsigned int flags);

void *__wrap_malloc(size_t bytes);
void *__wrap_calloc(size_t count, size_t bytes);
void *__wrap_realloc(void *memory, size_t bytes);
char *__wrap_strdup(const char *text);
char *__wrap_strndup(const char *text, size_t bytes);
void __wrap_free(void *memory);
void *__wrap_mmap(void *at, size_t bytes, int rights, int flags, int fd, off_t offset);
int __wrap_munmap(void *memory, size_t bytes);
int __wrap_memfd_create(const char *name, unsigned int flags);

static void *counted(void *memory)
{
	blocks += memory != NULL;
	return memory;
}

void *__wrap_malloc(size_t bytes)
{
	return fails() ? NULL : counted(__real_malloc(bytes));
}

void *__wrap_calloc(size_t count, size_t bytes)
{
	return fails() ? NULL : counted(__real_calloc(count, bytes));
}

void *__wrap_realloc(void *memory, size_t bytes)
{
	if (fails())
		return NULL;
	return memory ? __real_realloc(memory, bytes) : counted(__real_realloc(memory, bytes));
}

char *__wrap_strdup(const char *text)
{
	return fails() ? NULL : counted(__real_strdup(text));
}

char *__wrap_strndup(const char *text, size_t bytes)
{
	return fails() ? NULL : counted(__real_strndup(text, bytes));
}

void __wrap_free(void *memory)
{
	blocks -= memory != NULL;
	__real_free(memory);
}

void *__wrap_mmap(void *at, size_t bytes, int rights, int flags, int fd, off_t offset)
{
	void *memory = MAP_FAILED;

	errno = ENOMEM;
	if (!fails())
		memory = __real_mmap(at, bytes, rights, flags, fd, offset);
	mappings += memory != MAP_FAILED;
	return memory;
}

int __wrap_munmap(void *memory, size_t bytes)
{
	mappings--;
	return __real_munmap(memory, bytes);
}

int __wrap_memfd_create(const char *name, unsigned int flags)
{
	errno = ENOMEM;
	return fails() ? -1 : __real_memfd_create(name, flags);
}

/* Descriptors of this process below 256. */
static int files(void)
{
	int count = 0;

	for (int fd = 0; fd < 256; fd++)
		count += !fcntl(fd, F_GETFD) || errno != EBADF;
	return count;
}

/* ---- What is tried ---- */

static const uint32_t prompt[] = { 1, 7, 3, 200, 11 };
static char text[4000];
static struct flm_copy tokenizer_model;

/* Each of these returns 0 or -errno, having freed what it made; `wrong` counts broken promises. */
static unsigned int wrong;

static void expect(bool holds, const char *what)
{
	if (holds)
		return;
	printf("# %s\n", what);
	wrong++;
}

static int device_alone(void)
{
	struct flm_device *device = (void *)8;
	int ret = flm_device_open("emulate:tiny", &device);

	expect(!ret == (device != NULL), "a failed open gives no device");
	flm_device_close(device);
	return ret;
}

static int probe(void)
{
	struct flm_model_info info;
	char *notes = (void *)8;
	int ret = flm_model_probe(model_path, &info, &notes);

	expect(!ret == (notes != NULL), "a failed probe gives no notes");
	free(notes);
	return ret;
}

static int speak(struct flm_model *model)
{
	struct flm_session *session = (void *)8;
	struct flm_result result;
	static float logits[2 * 4096];
	struct flm_request request = {
		.tokens = prompt, .count = 5, .generate = 3, .logits = logits, .logit_first = 0,
		.logit_count = 1,
	};
	int ret = flm_session_new(model, NULL, &session);

	expect(!ret == (session != NULL), "a failed session is NULL");
	if (!ret)
		ret = flm_session_generate(session, &request, &result);
	request.logit_count = 2;
	if (!ret)
		ret = flm_session_truncate(session, 0);
	if (!ret)
		ret = flm_session_generate(session, &request, &result);
	flm_session_free(session);
	return ret;
}

static int model_alone(void)
{
	struct flm_device *device;
	struct flm_model *model = (void *)8;
	int ret = flm_device_open("emulate:tiny", &device);

	if (ret)
		return ret;
	ret = flm_model_load(device, model_path, NULL, &model);
	expect(!ret == (model != NULL), "a failed load gives no model");
	if (!ret)
		ret = speak(model);
	flm_model_free(model);
	flm_device_close(device);
	return ret;
}

static int tokens(void)
{
	static uint32_t ids[3 * sizeof(text)];
	static char back[2 * sizeof(text)];
	struct flm_tokenizer *tokenizer = (void *)8;
	size_t count = 0, bytes;
	int ret = flm_tokenizer_new(tokenizer_model.data, tokenizer_model.bytes, &tokenizer);

	expect(!ret == (tokenizer != NULL), "a failed tokenizer is NULL");
	if (!ret) {
		ret = flm_tokenizer_encode(tokenizer, text, sizeof(text), ids,
					   sizeof(ids) / sizeof(ids[0]), &count);
		expect(!ret == (count > 0), "a failed encoding has no tokens");
	}
	if (!ret)
		ret = flm_tokenizer_decode(tokenizer, ids, count, back, sizeof(back), &bytes);
	flm_tokenizer_free(tokenizer);
	return ret;
}

/* ---- Each allocation of it fails once ---- */

static void sweep(const char *name, int (*try)(void), unsigned int least)
{
	long blocks_before, mappings_before;
	int files_before, n, ret;
	unsigned int reported = 0, harmless = 0, leaks = 0;

	ret = try();
	blocks_before = blocks;
	mappings_before = mappings;
	files_before = files();
	wrong = 0;
	if (!ok(!ret, "%s: it works with all the memory it wants", name))
		return;
	for (n = 1; n < 5000; n++) {
		flm_fail(0, "nothing was wrong");
		countdown = n;
		ret = try();
		if (countdown)
			break;
		if (ret == -ENOMEM && strcmp(flm_error(), "nothing was wrong") &&
		    !strchr(flm_error(), '\n'))
			reported++;
		else if (!ret)
			harmless++;
		else
			printf("# allocation %d: %d, %s\n", n, ret, flm_error());
		if (blocks == blocks_before && mappings == mappings_before &&
		    files() == files_before)
			continue;
		printf("# allocation %d leaks: %ld blocks, %ld mappings, %d files\n", n,
		       blocks - blocks_before, mappings - mappings_before,
		       files() - files_before);
		blocks_before = blocks;
		mappings_before = mappings;
		files_before = files();
		leaks++;
	}
	countdown = 0;
	ok(reported >= least && reported + harmless == (unsigned int)n - 1 && !wrong,
	   "%s: of %d allocations that fail, %u are -ENOMEM and %u do no harm", name, n - 1,
	   reported, harmless);
	ok(!leaks, "%s: nothing is left behind by any of them", name);
}

/* Card memory, too: a buffer that could not be made whole is given back at once. */
static void card_memory(void)
{
	struct flm_device *device;
	unsigned int failed = 0, given_back = 0;
	struct flm_bo *bo;
	uint64_t before;

	if (!ok(!flm_device_open("emulate:tiny", &device) &&
		!flm_bo_new(device, FLM_BO_HBM, 0, 1 << 20, &bo), "a buffer of a megabyte"))
		return;
	flm_bo_free(bo);
	before = free_bytes(device);
	for (int n = 1; n < 1000; n++) {
		int ret;

		countdown = n;
		ret = flm_bo_new(device, FLM_BO_HBM, 0, 1 << 20, &bo);
		if (countdown)
			break;
		failed += ret == -ENOMEM;
		given_back += free_bytes(device) == before;
	}
	countdown = 0;
	flm_bo_free(bo);
	ok(failed > 3 && given_back == failed, "of %u that fail half made, %u are given back",
	   failed, given_back);
	ok(free_bytes(device) == before, "and the whole one, when it is freed");
	flm_device_close(device);
}

int main(void)
{
	for (unsigned int i = 0; i < sizeof(text); i++)
		text[i] = "once upon a time \xff\xc3\xa9"[i % 20];
	model_make("tests/data/fables-3m --card tiny --context 64");
	tokenizer_model = flm_read(TOKENIZER);
	sweep("a device", device_alone, 2);
	sweep("a probe", probe, 2);
	sweep("a model that speaks", model_alone, 40);
	sweep("a tokenizer", tokens, 5);
	card_memory();
	free(tokenizer_model.data);
	return done_testing();
}
