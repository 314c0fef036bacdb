// SPDX-License-Identifier: MIT
/*
 * Model files that are broken, truncated, newer, or something else: each is a sound file in every
 * respect but one (its checksums are made right again where the case is not about them), and gets
 * the errno that flightllm.h promises and one line that names the file, what is wrong and what to
 * do. A refused file leaves no buffer on the card.
 */
#include <errno.h>
#include <sys/stat.h>

#include "lib/flightllm.h"
#include "tests/lib/model.h"
#include "tests/tap.h"

/* What a change of a field is relative to; the numbers are the section kinds of the format. */
enum place { HEADER = 0, IN_MODEL = 0x100, MODEL = 1, PROGRAM = 3, WEIGHTS = 4, NOTES = 7 };

static const struct change {
	const char *what;
	enum place place;
	unsigned int at, bytes;
	uint64_t value;
	int want;
	const char *word;		/* of the error's text */
} changes[] = {
	{ "another magic", HEADER, 7, 1, 'X', -EBADMSG, "is no .flm file" },
	{ "a newer file major", HEADER, 8, 2, 2, -EPROTO, "file version 2.0" },
	{ "another instruction set", HEADER, 12, 2, 9, -EPROTO, "instruction set 9.1" },
	{ "a card's name without end", HEADER, 16, 16, 0, -EBADMSG, "names no card" },
	{ "a card's name with an escape", HEADER, 17, 1, 0x1b, -EBADMSG, "names no card" },
	{ "a card's name beyond ASCII", HEADER, 17, 1, 0x9b, -EBADMSG, "names no card" },
	{ "a card without a name", HEADER, 16, 1, 0, -EBADMSG, "names no card" },
	{ "no cores", HEADER, 32, 4, 0, -EBADMSG, "names no card" },
	{ "nine cores", HEADER, 32, 4, 9, -EBADMSG, "names no card" },
	{ "no section", HEADER, 36, 4, 0, -EBADMSG, "has no program" },
	{ "257 sections", HEADER, 36, 4, 257, -EBADMSG, "section table" },
	{ "2^32 - 1 sections", HEADER, 36, 4, 0xffffffff, -EBADMSG, "section table" },
	{ "a header that says 64 bytes", HEADER, 40, 8, 64, -EBADMSG, "its header says 64" },
	{ "a header that says 2^64 - 1 bytes", HEADER, 40, 8, ~0ull, -EBADMSG, "its header says" },
	{ "reserved bytes of the header", HEADER, 48, 4, 1, -EBADMSG, "reserved" },
	{ "reserved bytes at the header's end", HEADER, 59, 1, 1, -EBADMSG, "reserved" },
	{ "a section of the future that is required", PROGRAM, 0, 4, 0x8009, -EPROTO, "0x8009" },
	{ "no program", PROGRAM, 0, 4, 99, -EBADMSG, "has no program" },
	{ "no model table", MODEL, 0, 4, 99, -EBADMSG, "no model table" },
	{ "a short model table", MODEL, 16, 8, 255, -EBADMSG, "no model table" },
	{ "a section off its alignment", WEIGHTS, 8, 8, 4100, -EBADMSG, "section" },
	{ "a section beyond the file", WEIGHTS, 8, 8, 1ull << 40, -EBADMSG, "section" },
	{ "a section that ends beyond the file", WEIGHTS, 16, 8, 1 << 30, -EBADMSG, "section" },
	{ "a section whose end wraps around", WEIGHTS, 16, 8, ~0ull, -EBADMSG, "section" },
	{ "a section of no bytes", WEIGHTS, 16, 8, 0, -EBADMSG, "section" },
	{ "memory smaller than the bytes", WEIGHTS, 24, 8, 1, -EBADMSG, "section" },
	{ "weights in the KV segment", WEIGHTS, 32, 4, 3, -EBADMSG, "section" },
	{ "weights in the program's segment", WEIGHTS, 32, 4, 0, -EBADMSG, "one segment" },
	{ "the weights of core 0 for core 1, which has some", WEIGHTS, 4, 4, 1, -EBADMSG,
	  "one segment" },
	{ "an unknown place", WEIGHTS, 36, 4, 3, -EBADMSG, "section" },
	{ "rights of the future", WEIGHTS, 40, 4, 8, -EBADMSG, "section" },
	{ "no rights", WEIGHTS, 40, 4, 0, -EBADMSG, "section" },
	{ "HBM of a core too many", WEIGHTS, 4, 4, 2, -EBADMSG, "section" },
	{ "reserved bytes of a section", WEIGHTS, 63, 1, 1, -EBADMSG, "section" },
	{ "a host table with a segment", MODEL, 32, 4, 1, -EBADMSG, "section" },
	{ "a host table that ends beyond the file", NOTES, 16, 8, 1 << 20, -EBADMSG,
	  "not as it must be" },
	{ "a host table with memory", MODEL, 24, 8, 256, -EBADMSG, "section" },
	{ "another architecture", IN_MODEL, 0, 4, 2, -EPROTO, "architecture 2" },
	{ "reserved bytes of the model table", IN_MODEL, 152, 4, 1, -EBADMSG, "reserved" },
	{ "and its last ones", IN_MODEL, 191, 1, 128, -EBADMSG, "reserved" },
	{ "an empty vocabulary", IN_MODEL, 28, 4, 0, -EBADMSG, "impossible numbers" },
	{ "a vocabulary of 2^31", IN_MODEL, 28, 4, 1u << 31, -EBADMSG, "impossible numbers" },
	{ "no layers", IN_MODEL, 4, 4, 0, -EBADMSG, "impossible numbers" },
	{ "2^31 layers", IN_MODEL, 4, 4, 1u << 31, -EBADMSG, "impossible numbers" },
	{ "no hidden size", IN_MODEL, 8, 4, 0, -EBADMSG, "impossible numbers" },
	{ "a hidden size of 2^32 - 1", IN_MODEL, 8, 4, 0xffffffff, -EBADMSG, "impossible numbers" },
	{ "a feed-forward size of 2^31", IN_MODEL, 12, 4, 1u << 31, -EBADMSG, "impossible" },
	{ "no heads", IN_MODEL, 16, 4, 0, -EBADMSG, "impossible numbers" },
	{ "2^31 KV heads", IN_MODEL, 20, 4, 1u << 31, -EBADMSG, "impossible numbers" },
	{ "heads of no size", IN_MODEL, 24, 4, 0, -EBADMSG, "impossible numbers" },
	{ "a context of 0", IN_MODEL, 32, 4, 0, -EBADMSG, "impossible numbers" },
	{ "a context of 2^32 - 1", IN_MODEL, 32, 4, 0xffffffff, -EBADMSG, "impossible numbers" },
	{ "a chunk of 0", IN_MODEL, 36, 4, 0, -EBADMSG, "impossible numbers" },
	{ "a chunk of 129", IN_MODEL, 36, 4, 129, -EBADMSG, "impossible numbers" },
	{ "bos beyond the vocabulary", IN_MODEL, 80, 4, 300, -EBADMSG, "impossible numbers" },
	{ "nine end tokens", IN_MODEL, 84, 4, 9, -EBADMSG, "impossible numbers" },
	{ "an end token beyond the vocabulary", IN_MODEL, 88, 4, 300, -EBADMSG, "impossible" },
	{ "KV pages of 0 bytes", IN_MODEL, 120, 4, 0, -EBADMSG, "KV pages" },
	{ "KV pages of 65 bytes on core 1", IN_MODEL, 124, 4, 65, -EBADMSG, "KV pages" },
};

static struct flm_copy good;
static char path[96];

static struct flm_copy copy_good(void)
{
	struct flm_copy copy = { .data = malloc(good.bytes), .bytes = good.bytes };

	memcpy(copy.data, good.data, good.bytes);
	return copy;
}

static void write_file(const struct flm_copy *copy)
{
	FILE *file = fopen(path, "wb");

	if (!file || fwrite(copy->data, 1, copy->bytes, file) != copy->bytes || fclose(file)) {
		printf("Bail out! %s cannot be written\n", path);
		exit(1);
	}
}

/* One line that names the file and, behind a semicolon, what to do. */
static bool is_good_text(const char *text, const char *word)
{
	bool is = !strchr(text, '\n') && strstr(text, path) && strstr(text, "; ") &&
		  strstr(text, word);

	if (!is)
		printf("# %s\n", text);
	return is;
}

static void probe(const char *what, int want, const char *word)
{
	struct flm_model_info info;
	int ret = flm_model_probe(path, &info, NULL);

	ok(ret == want && is_good_text(flm_error(), word), "%s: %s", what,
	   want == -EPROTO ? "-EPROTO" : "-EBADMSG");
}

static void fields(void)
{
	for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
		const struct change *c = &changes[i];
		struct flm_copy copy = copy_good();
		uint8_t *at = copy.data;

		if (c->place == IN_MODEL)
			at += get64(flm_row_of(&copy, MODEL) + 8);
		else if (c->place != HEADER)
			at = flm_row_of(&copy, c->place);
		if (c->bytes == 16)
			memset(at + c->at, 'a', 16);
		else
			put(at + c->at, c->value, c->bytes);
		flm_seal(&copy);
		write_file(&copy);
		probe(c->what, c->want, c->word);
		free(copy.data);
	}
}

/* A name comes from anywhere, and is shown. */
static void names(void)
{
	static const struct { const char *stored, *shown; } cases[] = {
		{ "m\x1b]0;x\a\n", "m?]0;x??" },
		{ "\x7f" "\xc2\x9b" "31m", "??31m" },
		{ "b\xff" "d \xc3\xa4\xe2\x82\xac \xed\xa0\x80", "b?d \xc3\xa4\xe2\x82\xac ???" },
		{ "0123456789012345678901234567890123456789012345678901234567890a\xc3",
		  "0123456789012345678901234567890123456789012345678901234567890a?" },
	};
	struct flm_model_info info;

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct flm_copy copy = copy_good();
		char *name = (char *)copy.data + get64(flm_row_of(&copy, MODEL) + 8) + 192;

		memset(name, 0, 64);
		memcpy(name, cases[i].stored, strlen(cases[i].stored));
		flm_seal(&copy);
		write_file(&copy);
		ok(!flm_model_probe(path, &info, NULL) && !strcmp(info.name, cases[i].shown),
		   "a name is shown without what a terminal obeys: %s", cases[i].shown);
		free(copy.data);
	}
}

/* Every length from nothing to the end of the tables, then some; and one byte too many. */
static void lengths(void)
{
	size_t tables = 64 + 64 * get32(good.data + 36), refused = 0, tried = 0;
	struct flm_copy copy = copy_good();
	struct flm_model_info info;

	for (size_t n = 0; n < good.bytes; n += n < tables ? 1 : 4093, tried++) {
		copy.bytes = n;
		write_file(&copy);
		refused += flm_model_probe(path, &info, NULL) == -EBADMSG &&
			   is_good_text(flm_error(), "flm");
	}
	ok(refused == tried && tried > 300, "%zu of %zu truncated files are -EBADMSG", refused,
	   tried);
	free(copy.data);
	copy.data = calloc(1, good.bytes + 1);
	memcpy(copy.data, good.data, good.bytes);
	copy.bytes = good.bytes + 1;
	write_file(&copy);
	probe("a byte too many", -EBADMSG, "its header says");
	free(copy.data);
}

/* Checksums as they were, bytes not. */
static void checksums(void)
{
	static const struct { const char *what; int row; unsigned int at; } bytes[] = {
		{ "a flipped bit in the header's reserved bytes", 0, 50 },
		{ "a flipped bit in the section table", 0, 64 + 63 },
		{ "a flipped bit in the model table", MODEL, 200 },
		{ "a flipped bit in the notes", 7, 5 },
	};

	for (size_t i = 0; i < sizeof(bytes) / sizeof(bytes[0]); i++) {
		struct flm_copy copy = copy_good();
		uint8_t *at = copy.data;

		if (bytes[i].row)
			at += get64(flm_row_of(&copy, bytes[i].row) + 8);
		at[bytes[i].at] ^= 4;
		write_file(&copy);
		probe(bytes[i].what, -EBADMSG, "CRC32C");
		free(copy.data);
	}
}

static void foreign(void)
{
	static uint8_t zeros[8192];
	struct flm_model_info info;
	struct flm_copy text = { .data = (uint8_t *)"{\"a\":1}", .bytes = 7 };
	struct flm_copy zero = { .data = zeros, .bytes = sizeof(zeros) };
	struct flm_copy empty = { .data = zeros };
	struct flm_copy copy = copy_good();
	int ret;

	write_file(&text);
	probe("a text", -EBADMSG, "is no .flm file");
	write_file(&zero);
	probe("zeros", -EBADMSG, "is no .flm file");
	write_file(&empty);
	probe("an empty file", -EBADMSG, "is no .flm file");
	memcpy(copy.data + 64, good.data + 128, 64);
	flm_seal(&copy);
	write_file(&copy);
	probe("a section twice and another missing", -EBADMSG, "model table");
	free(copy.data);
	copy = copy_good();
	put(flm_row_of(&copy, 7), MODEL, 4);
	flm_seal(&copy);
	write_file(&copy);
	probe("two model tables", -EBADMSG, "two sections of one kind");
	free(copy.data);
	unlink(path);
	ret = flm_model_probe(path, &info, NULL);
	ok(ret == -ENOENT && is_good_text(flm_error(), "no such file"), "no file: -ENOENT");
	mkdir(path, 0700);
	probe("a folder", -EBADMSG, "is no .flm file");
	rmdir(path);
	mkfifo(path, 0600);
	probe("a pipe", -EBADMSG, "is no .flm file");
	unlink(path);
}

static void load(struct flm_device *device, const char *what, int want, const char *word)
{
	uint64_t before = free_bytes(device);
	struct flm_model *model = (void *)8;
	int ret = flm_model_load(device, path, NULL, &model);

	ok(ret == want && !model && is_good_text(flm_error(), word), "%s: not loaded", what);
	ok(free_bytes(device) == before, "%s: no buffer is left", what);
}

static void cut_off(void *opaque, uint64_t done, uint64_t all)
{
	(void)opaque;
	(void)done;
	(void)all;
	if (truncate(path, 4096))
		printf("# %s stays as it is\n", path);
}

/* A file that is made shorter while it is loaded, as a copy over it does. */
static void shrinks(struct flm_device *device)
{
	struct flm_load_options options = { .progress = cut_off };
	uint64_t before = free_bytes(device);
	struct flm_model *model = (void *)8;
	int ret;

	write_file(&good);
	ret = flm_model_load(device, path, &options, &model);
	ok(ret == -EBADMSG && !model && is_good_text(flm_error(), "shorter"),
	   "a file that shrinks while it is loaded: -EBADMSG");
	ok(free_bytes(device) == before, "and no buffer is left");
}

static void loads(void)
{
	struct flm_device *device, *other;
	struct flm_model *model;
	struct flm_copy copy;
	uint64_t before;

	if (!ok(!flm_device_open("emulate:tiny", &device), "a card in the process"))
		return;
	/* The first copy makes the device's own staging buffer, which stays. */
	if (!ok(!flm_model_load(device, model_path, NULL, &model), "the sound file loads")) {
		printf("# %s\n", flm_error());
		return;
	}
	flm_model_free(model);
	before = free_bytes(device);
	flm_model_load(device, model_path, NULL, &model);
	ok(free_bytes(device) < before, "a loaded model takes memory");
	flm_model_free(model);
	ok(free_bytes(device) == before, "a freed model gives all of it back");

	shrinks(device);
	copy = copy_good();
	copy.data[get64(flm_row_of(&copy, WEIGHTS) + 8) + 77] ^= 1;
	write_file(&copy);
	load(device, "a flipped bit in the weights", -EBADMSG, "CRC32C");
	free(copy.data);

	copy = copy_good();
	copy.data[get64(flm_row_of(&copy, PROGRAM) + 8) + 99] ^= 1;
	write_file(&copy);
	load(device, "a flipped bit in the program", -EBADMSG, "CRC32C");
	free(copy.data);

	copy = copy_good();
	put(flm_row_of(&copy, 7), 6, 4);
	flm_seal(&copy);
	write_file(&copy);
	load(device, "notes as a tokenizer", -EBADMSG, "its tokenizer");
	free(copy.data);

	copy = copy_good();
	put(copy.data + 16, 0x30383275, 4);	/* "u280" */
	put(copy.data + 20, 0, 4);
	flm_seal(&copy);
	write_file(&copy);
	load(device, "a file for another card", -EPROTO, "compile it with --card tiny");
	free(copy.data);

	copy = copy_good();
	put(copy.data + 10, 7, 2);
	put(flm_row_of(&copy, 7), 99, 4);
	flm_seal(&copy);
	write_file(&copy);
	ok(!flm_model_load(device, path, NULL, &model),
	   "a newer minor with a section that may be ignored loads");
	flm_model_free(model);
	free(copy.data);
	flm_device_close(device);

	ok(flm_device_open("emulate:u9000", &other) < 0 && !other &&
	   strstr(flm_error(), "u9000"), "no such profile, and the error names it");
	unlink(path);
}

int main(void)
{
	struct flm_model_info info;
	char *notes;

	model_make("--synthetic tiny --card tiny");
	snprintf(path, sizeof(path), "%s/bad.flm", model_dir);
	good = flm_read(model_path);
	ok(!flm_model_probe(model_path, &info, &notes) && info.vocab == 300 && info.layers == 2 &&
	   !strcmp(info.card, "tiny") && info.cores == 2 && notes[0] == '{',
	   "the sound file says what it is");
	free(notes);
	fields();
	names();
	lengths();
	checksums();
	foreign();
	loads();
	free(good.data);
	return done_testing();
}
