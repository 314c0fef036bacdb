// SPDX-License-Identifier: MIT
/*
 * Shared by every pass: the one way out on a mistake, memory that is never given back.
 * die() may be called by any thread; the first one speaks and the process ends with it.
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "compiler/cc.h"

#define ARENA_BLOCK (1u << 20)

static pthread_mutex_t die_lock = PTHREAD_MUTEX_INITIALIZER;
static const char *volatile unfinished;

struct block {
	struct block *next;
	size_t used, bytes;
	_Alignas(16) char memory[];
};

static struct block *blocks;

static void interrupted(int signal)
{
	if (unfinished)
		unlink(unfinished);
	_exit(128 + signal);
}

void die_removes(const char *path)
{
	static const int signals[] = { SIGINT, SIGTERM, SIGHUP, SIGPIPE };

	unfinished = path;
	/* Signals that the caller ignores, as nohup ignores SIGHUP, stay ignored. */
	for (size_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++)
		if (signal(signals[i], path ? interrupted : SIG_DFL) == SIG_IGN)
			signal(signals[i], SIG_IGN);
	signal(SIGXFSZ, SIG_IGN);	/* a file that is too large is an error of write() */
}

static void __attribute__((noreturn)) die_text(int status, const char *format, va_list args)
{
	char text[2048];

	pthread_mutex_lock(&die_lock);	/* never unlocked: later ones wait for the end */
	vsnprintf(text, sizeof(text), format, args);
	for (char *c = text; *c; c++)
		if (*c == '\n')
			*c = ' ';
	fprintf(stderr, "flightllm-cc: %s\n", text);
	if (unfinished)
		unlink(unfinished);
	fflush(stdout);
	_exit(status);
}

void finish(void)
{
	errno = 0;
	if (fflush(stdout) || ferror(stdout))
		die("standard output: %s; make room there, or write to another place",
		    errno ? strerror(errno) : "it cannot be written");
	exit(0);
}

void die(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	die_text(EXIT_FAILED, format, args);
}

void die_with(int status, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	die_text(status, format, args);
}

void die_checkpoint(int error)
{
	die_with(error == -EACCES ? EXIT_PERMISSION : EXIT_FAILED, "%s", checkpoint_error());
}

void *arena(size_t bytes)
{
	struct block *block = blocks;
	void *memory;

	if (bytes > SIZE_MAX / 2)
		die("out of memory");
	bytes = ROUND_UP(bytes, 16);
	if (!block || block->bytes - block->used < bytes) {
		size_t size = MAX(bytes, ARENA_BLOCK);

		block = calloc(1, sizeof(*block) + size);
		if (!block)
			die("out of memory: %zu bytes more are needed", size);
		block->bytes = size;
		block->next = blocks;
		blocks = block;
	}
	memory = block->memory + block->used;
	block->used += bytes;
	return memory;
}

void *arena_grow(void *old, size_t old_bytes, size_t bytes)
{
	void *memory = arena(bytes);

	if (old_bytes)
		memcpy(memory, old, old_bytes);
	return memory;
}

char *arena_printf(const char *format, ...)
{
	va_list args, again;
	char *text;
	int n;

	va_start(args, format);
	va_copy(again, args);
	n = vsnprintf(NULL, 0, format, args);
	text = arena(n + 1);
	vsnprintf(text, n + 1, format, again);
	va_end(again);
	va_end(args);
	return text;
}

/* Bytes of the UTF-8 character that a text begins with, 0 where there is none (RFC 3629). */
static unsigned int character(const char *text)
{
	const unsigned char *c = (const unsigned char *)text;
	unsigned int n = *c < 0x80 ? 1 : *c < 0xc2 ? 0 : *c < 0xe0 ? 2 : *c < 0xf0 ? 3 :
			 *c < 0xf5 ? 4 : 0;

	for (unsigned int i = 1; i < n; i++)
		if ((c[i] & 0xc0) != 0x80)
			return 0;
	/* Overlong, a surrogate, beyond U+10FFFF. */
	if ((*c == 0xe0 && c[1] < 0xa0) || (*c == 0xed && c[1] >= 0xa0) ||
	    (*c == 0xf0 && c[1] < 0x90) || (*c == 0xf4 && c[1] >= 0x90))
		return 0;
	return n;
}

char *json_text(const char *text)
{
	char *out = arena(6 * strlen(text) + 3), *at = out;
	unsigned int n;

	*at++ = '"';
	for (; *text; text += n ? n : 1) {
		unsigned char c = *text;

		n = character(text);
		if (c == '"' || c == '\\')
			*at++ = '\\';
		if (c < 0x20)
			at += sprintf(at, "\\u%04x", c);
		else
			at = mempcpy(at, n ? text : "\xef\xbf\xbd", n ? n : 3);
	}
	*at++ = '"';
	*at = 0;
	return out;
}

const char *bytes_text(uint64_t bytes, char text[32])
{
	static const char *const units[] = { "bytes", "KiB", "MiB", "GiB", "TiB" };
	double value = bytes;
	int unit = 0;

	while (value >= 1024 && unit < 4) {
		value /= 1024;
		unit++;
	}
	snprintf(text, 32, unit ? "%.1f %s" : "%.0f %s", value, units[unit]);
	return text;
}

void put_le16(uint8_t *at, uint16_t value)
{
	at[0] = value;
	at[1] = value >> 8;
}

void put_le32(uint8_t *at, uint32_t value)
{
	put_le16(at, value);
	put_le16(at + 2, value >> 16);
}

void put_le64(uint8_t *at, uint64_t value)
{
	put_le32(at, value);
	put_le32(at + 4, value >> 32);
}
