/* SPDX-License-Identifier: MIT */
/*
 * The file that is being made:
 *
 *	output_open(&o, "out.flm");
 *	...pwrite(o.fd, ...), pread(o.fd, ...)...
 *	output_commit(&o);
 *
 * Until the last line there is nothing under that name, or what was there before; when the process
 * ends early, by die() or by a signal, it stays so. Failures die().
 */
#ifndef COMPILER_OUTPUT_H
#define COMPILER_OUTPUT_H

struct output {
	const char *path;
	int fd;			/* read and write */
	char *temporary;	/* its name so far; NULL: it has none */
};

void output_open(struct output *output, const char *path);
void output_commit(struct output *output);

#endif
