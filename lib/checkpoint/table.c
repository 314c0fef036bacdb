// SPDX-License-Identifier: MIT
/*
 * The table of tensors, sorted by name once it is full, and the error's text: what every other file
 * of a checkpoint stands on.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lib/checkpoint/table.h"

static __thread char last_error[CHECKPOINT_ERROR_BYTES];

/* Names out of hostile files get into messages: a message stays one line of printable bytes. */
int checkpoint_fail(int code, const char *format, ...)
{
	va_list args;
	char *p;

	va_start(args, format);
	vsnprintf(last_error, sizeof(last_error), format, args);
	va_end(args);
	for (p = last_error; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	return code;
}

const char *checkpoint_error(void)
{
	return last_error;
}

/* The new row's name is set and the rest is zero; NULL when out of memory. */
struct tensor *checkpoint_add(struct checkpoint *cp, const char *name)
{
	struct tensor *t;

	if (cp->count == cp->space) {
		size_t space = cp->space ? 2 * cp->space : 64;

		t = reallocarray(cp->tensors, space, sizeof(*t));
		if (!t)
			return NULL;
		cp->tensors = t;
		cp->space = space;
	}
	t = &cp->tensors[cp->count];
	memset(t, 0, sizeof(*t));
	t->name = strdup(name);
	if (!t->name)
		return NULL;
	cp->count++;
	return t;
}

static int by_name(const void *a, const void *b)
{
	const struct tensor *x = a, *y = b;

	return strcmp(x->name, y->name);
}

/* Of two with one name, the one of the earlier file is named first in the message. */
static int by_name_and_file(const void *a, const void *b)
{
	const struct tensor *x = a, *y = b;
	int order = by_name(a, b);

	return order ? order : (x->file > y->file) - (x->file < y->file);
}

int checkpoint_sort(struct checkpoint *cp)
{
	size_t i;

	if (cp->count)
		qsort(cp->tensors, cp->count, sizeof(*cp->tensors), by_name_and_file);
	for (i = 1; i < cp->count; i++) {
		const struct tensor *a = &cp->tensors[i - 1], *b = &cp->tensors[i];

		if (!strcmp(a->name, b->name))
			return checkpoint_fail(-EBADMSG,
					       "%s: tensor %s is in %s and in %s; remove one of the files",
					       cp->label, a->name, cp->files[a->file].path,
					       cp->files[b->file].path);
	}
	return 0;
}

struct tensor *checkpoint_find(const struct checkpoint *cp, const char *name)
{
	struct tensor key = { .name = (char *)name };

	if (!cp->count)
		return NULL;
	return bsearch(&key, cp->tensors, cp->count, sizeof(key), by_name);
}

void checkpoint_close(struct checkpoint *cp)
{
	size_t i;

	if (!cp)
		return;
	for (i = 0; i < cp->count; i++)
		free(cp->tensors[i].name);
	for (i = 0; i < cp->file_count; i++) {
		close(cp->files[i].fd);
		free(cp->files[i].path);
	}
	free(cp->tensors);
	free(cp->files);
	free(cp->tokenizer);
	free(cp->label);
	free(cp);
}
