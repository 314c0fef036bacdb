// SPDX-License-Identifier: MIT
/*
 * A checkpoint that is open: what its makers say of it, and elements of its tensors. Where the
 * elements come from is the business of the file that filled the table.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/checkpoint/table.h"

#define CONFIG_BYTES_MAX	(1u << 20)

static int read_config(struct checkpoint *cp, int dir)
{
	char *path, *text;
	size_t bytes;
	int ret;

	if (asprintf(&path, "%s/config.json", cp->label) < 0)
		return checkpoint_fail(-ENOMEM, "%s: out of memory", cp->label);
	ret = checkpoint_read_text(dir, "config.json", path, CONFIG_BYTES_MAX, &text, &bytes);
	if (ret == -ENOENT)
		checkpoint_fail(ret,
				"%s: no such file; a model's directory holds config.json beside its weights",
				path);
	if (!ret) {
		ret = checkpoint_parse_config(text, bytes, path, &cp->config);
		free(text);
	}
	free(path);
	return ret;
}

static int open_directory(const char *path, struct checkpoint *cp)
{
	struct stat st;
	int dir, ret;

	cp->label = strdup(path);
	if (!cp->label)
		return checkpoint_fail(-ENOMEM, "%s: out of memory", path);
	dir = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (dir < 0) {
		ret = -errno;
		if (ret == -ENOTDIR)
			return checkpoint_fail(
				ret, "%s: not a directory; name the one that holds config.json",
				path);
		return checkpoint_fail(ret, "%s: %s; %s", path, strerror(-ret),
				       ret == -EACCES ? "ask its owner to let you read it" :
				       "name the directory that holds config.json");
	}
	ret = read_config(cp, dir);
	if (!ret)
		ret = checkpoint_read_directory(cp, dir);
	if (!ret)
		ret = checkpoint_match(cp);
	if (!ret)
		ret = checkpoint_read_chat(cp, dir);
	if (!ret && !fstatat(dir, "tokenizer.model", &st, 0) &&
	    asprintf(&cp->tokenizer, "%s/tokenizer.model", path) < 0) {
		cp->tokenizer = NULL;
		ret = checkpoint_fail(-ENOMEM, "%s: out of memory", path);
	}
	close(dir);
	return ret;
}

int checkpoint_open(const char *dir, char *error, size_t error_bytes, struct checkpoint **out)
{
	struct checkpoint *cp = calloc(1, sizeof(*cp));
	int ret;

	*out = NULL;
	if (cp)
		ret = open_directory(dir, cp);
	else
		ret = checkpoint_fail(-ENOMEM, "%s: out of memory", dir);
	if (ret) {
		checkpoint_close(cp);
		if (error && error_bytes)
			snprintf(error, error_bytes, "%s", checkpoint_error());
		return ret;
	}
	*out = cp;
	return 0;
}

const struct checkpoint_config *checkpoint_config(const struct checkpoint *cp)
{
	return &cp->config;
}

const char *checkpoint_tokenizer(const struct checkpoint *cp)
{
	return cp->tokenizer;
}

enum checkpoint_chat checkpoint_chat(const struct checkpoint *cp)
{
	return cp->chat;
}

size_t checkpoint_tensor_count(const struct checkpoint *cp)
{
	return cp->count;
}

void checkpoint_tensor(const struct checkpoint *cp, size_t index, struct checkpoint_tensor *tensor)
{
	const struct tensor *t = &cp->tensors[index];

	*tensor = (struct checkpoint_tensor) {
		.name = t->name, .type = t->type, .rows = t->rows, .cols = t->cols,
	};
}

uint64_t checkpoint_parameters(const struct checkpoint *cp)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < cp->count; i++)
		sum += cp->tensors[i].rows * cp->tensors[i].cols;
	return sum;
}

int checkpoint_shape(const struct checkpoint *cp, const char *name, uint64_t *rows, uint64_t *cols)
{
	const struct tensor *t = checkpoint_find(cp, name);

	if (!t)
		return checkpoint_fail(-ENOENT, "%s: no tensor %s", cp->label, name);
	if (rows)
		*rows = t->rows;
	if (cols)
		*cols = t->cols;
	return 0;
}

int checkpoint_rows_f32(const struct checkpoint *cp, const char *name, uint64_t first_row,
			uint64_t rows, float *out)
{
	const struct tensor *t = checkpoint_find(cp, name);

	if (!t)
		return checkpoint_fail(-ENOENT, "%s: no tensor %s", cp->label, name);
	if (first_row > t->rows || rows > t->rows - first_row)
		return checkpoint_fail(-EINVAL,
				       "%s: tensor %s has %llu rows, not %llu from %llu on",
				       cp->label, name, (unsigned long long)t->rows,
				       (unsigned long long)rows, (unsigned long long)first_row);
	return cp->read(cp, t, first_row * t->cols, rows * t->cols, out);
}
