/* SPDX-License-Identifier: MIT */
/*
 * A .flm file, mapped and checked: whoever holds one may follow every offset in its tables. The
 * bytes of sections that go to the card are checked by image_check_section(), while they are
 * uploaded.
 */
#ifndef LIB_IMAGE_H
#define LIB_IMAGE_H

#include <stdint.h>

#include <flightllm/file.h>

struct image {
	char *path;
	int fd;
	const uint8_t *data;
	uint64_t bytes;
	const struct flm_file *file;
	const struct flm_section *sections;
	unsigned int count;
	const struct flm_model_desc *model;
	const uint8_t *tokenizer;	/* NULL: none */
	uint64_t tokenizer_bytes;
	const char *notes;		/* not terminated */
	uint64_t notes_bytes;
};

/* 0, or -errno with flm_error() set: -ENOENT.., -EBADMSG broken, -EPROTO another version. */
int image_open(const char *path, struct image *image);
void image_close(struct image *image);

/* Bytes of a section with a place; offset and length were checked by image_open(). */
const uint8_t *image_bytes(const struct image *image, const struct flm_section *section);

/* -EBADMSG when crc (of all its bytes) is not the section's. */
int image_check_section(const struct image *image, unsigned int section, uint32_t crc);

#endif
