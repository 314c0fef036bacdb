// SPDX-License-Identifier: MIT
/*
 * .flm files out of nothing but noise, given by a path to a memfd. Length and checksums are made
 * right first, so that what is behind them is reached. What opens is followed to every end that
 * its tables name; what does not has one line that says why.
 */
#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lib/crc32c.h"
#include "lib/image.h"
#include "lib/internal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void repair(uint8_t *data, size_t size)
{
	struct flm_file *file = (void *)data;
	struct flm_section *rows = (void *)(file + 1);
	uint32_t count;

	if (size < sizeof(*file))
		return;
	count = le32toh(file->sections);
	if (count > (size - sizeof(*file)) / sizeof(*rows))
		return;
	file->bytes = htole64(size);
	for (uint32_t i = 0; i < count; i++) {
		uint64_t offset = le64toh(rows[i].offset), bytes = le64toh(rows[i].bytes);

		/* Tables may themselves be a section; those stay wrong. */
		if (offset <= size && bytes <= size - offset)
			rows[i].crc32c = htole32(flm_crc32c(0, data + offset, bytes));
	}
	file->crc32c = 0;
	file->crc32c = htole32(flm_crc32c(0, data, sizeof(*file) + count * sizeof(*rows)));
}

/* One line, and an errno that the header promises. */
static void check_refusal(int ret)
{
	if ((ret != -EBADMSG && ret != -EPROTO) || !*flm_error() || strchr(flm_error(), '\n'))
		abort();
}

static void follow(const struct image *image)
{
	for (unsigned int i = 0; i < image->count; i++) {
		uint64_t bytes = le64toh(image->sections[i].bytes);
		uint8_t *memory = malloc(bytes + !bytes);
		int ret;

		if (!memory || image_read(image, i, 0, memory, bytes))
			abort();
		ret = image_check_section(image, i, flm_crc32c(0, memory, bytes));
		if (ret)
			check_refusal(ret);
		free(memory);
	}
	if (!image->model || !image->file->cores)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct flm_model_info info;
	struct image image;
	char path[32];
	uint8_t *copy;
	char *notes;
	int fd, ret;

	fd = memfd_create("fuzz", MFD_CLOEXEC);
	copy = malloc(size + 1);
	if (fd < 0 || !copy)
		abort();
	memcpy(copy, data, size);
	repair(copy, size);
	if (write(fd, copy, size) != (ssize_t)size)
		abort();
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	ret = image_open(path, &image);
	if (!ret) {
		follow(&image);
		image_close(&image);
	} else {
		check_refusal(ret);
	}
	if (flm_model_probe(path, &info, &notes) != ret)
		abort();
	if (!ret && (strlen(info.name) > 63 || info.cores > 8 || !notes))
		abort();
	free(notes);
	free(copy);
	close(fd);
	return 0;
}
