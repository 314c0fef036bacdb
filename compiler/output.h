/* SPDX-License-Identifier: MIT */
/*
 * The file that is being made:
 *
 *	output_open(&o, "out.flm");
 *	output_reserve(&o, bytes);
 *	output_write(&o, offset, memory, bytes);	from any thread
 *	output_commit(&o);
 *
 * Until output_commit() the name keeps its old file, or has none; also when the process ends early,
 * by die() or by a signal. Failures die().
 */
#ifndef COMPILER_OUTPUT_H
#define COMPILER_OUTPUT_H

#include <stddef.h>
#include <stdint.h>

struct output {
	const char *path;
	int fd;			/* read and write */
	char *temporary;	/* its name so far; NULL: it has none */
};

void output_open(struct output *output, const char *path);
/* Reserves all room at once if the file system can, so that a full disk shows before the work. */
void output_reserve(const struct output *output, uint64_t bytes);
/* Writes all of these bytes. Any thread. */
void output_write(const struct output *output, uint64_t offset, const void *bytes, size_t count);
void output_read(const struct output *output, uint64_t offset, void *bytes, size_t count);
void output_commit(struct output *output);

#endif
