/* SPDX-License-Identifier: MIT */
/*
 * A .flm file, open and checked. Its tables are in memory, and every offset in them is valid. The
 * bytes of sections for the card are read by image_read() and checked by image_check_section()
 * while they are uploaded. One thread at a time.
 */
#ifndef LIB_IMAGE_H
#define LIB_IMAGE_H

#include <stdint.h>

#include <flightllm/file.h>

struct image {
	char *path;
	int fd;
	uint64_t bytes;
	struct flm_file *file;		/* and behind it the section table */
	const struct flm_section *sections;
	unsigned int count;
	const struct flm_model_desc *model;	/* in model_table, once that is checked */
	void *model_table;
	void *tokenizer;		/* NULL: none */
	uint64_t tokenizer_bytes;
	void *notes;			/* not terminated; NULL: none */
	uint64_t notes_bytes;
};

/* 0, or -errno with flm_error() set: -ENOENT.., -EBADMSG broken, -EPROTO another version. */
int image_open(const char *path, struct image *image);
void image_close(struct image *image);

/* Bytes of a section from `at` on, inside it. -EBADMSG: the file has become shorter. */
int image_read(const struct image *image, unsigned int section, uint64_t at, void *memory,
	       uint64_t bytes);

/* -EBADMSG when crc (of all its bytes) is not the section's. */
int image_check_section(const struct image *image, unsigned int section, uint32_t crc);

#endif
