// SPDX-License-Identifier: MIT
/*
 * A .flm file, checked; see image.h. It is read and not mapped: a file that shrinks under a mapping
 * is a signal, and one that changes is checked as it was and uploaded as it is. Each byte is read
 * once, its tables into memory of our own.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <flightllm/isa.h>

#include "lib/crc32c.h"
#include "lib/image.h"
#include "lib/internal.h"

#define REMEDY "copy it again, or compile the model again"

/* Of a table for the host; the compiler takes no larger tokenizer, and all else is small. */
#define TABLE_BYTES_MAX	(64u << 20)

static int damaged(const struct image *image, const char *what)
{
	return flm_fail(-EBADMSG, "%s: %s; " REMEDY, image->path, what);
}

static int read_at(const struct image *image, uint64_t offset, void *memory, uint64_t bytes)
{
	uint8_t *at = memory;

	while (bytes) {
		ssize_t n = pread(image->fd, at, bytes, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return flm_fail(-errno, "%s: %s; " REMEDY, image->path, strerror(errno));
		if (!n)
			return damaged(image, "it became shorter while it was read");
		at += n;
		offset += n;
		bytes -= n;
	}
	return 0;
}

/* A name of printable ASCII, ended inside its field: errors and tools show it on a terminal. */
static bool is_name(const uint8_t *name, size_t bytes)
{
	size_t n = strnlen((const char *)name, bytes);

	for (size_t i = 0; i < n; i++)
		if (name[i] <= ' ' || name[i] > '~')
			return false;
	return n && n < bytes;
}

static int check_header(struct image *image)
{
	struct flm_file copy, *file = &copy;
	uint32_t crc, count;
	int ret = read_at(image, 0, file, sizeof(*file));

	if (ret)
		return ret;
	if (memcmp(file->magic, FLM_FILE_MAGIC, 8))
		return flm_fail(-EBADMSG, "%s is no .flm file; flightllm-cc makes one from a model",
				image->path);
	if (le16toh(file->major) != FLM_FILE_MAJOR)
		return flm_fail(-EPROTO, "%s has file version %u.%u, this library reads %u; compile the "
				"model with the flightllm-cc of this release", image->path,
				le16toh(file->major), le16toh(file->minor), FLM_FILE_MAJOR);
	if (le16toh(file->isa_major) != FLM_ISA_MAJOR)
		return flm_fail(-EPROTO, "%s is for instruction set %u.%u, this library knows %u; "
				"compile the model with the flightllm-cc of this release",
				image->path, le16toh(file->isa_major), le16toh(file->isa_minor),
				FLM_ISA_MAJOR);
	if (le64toh(file->bytes) != image->bytes)
		return flm_fail(-EBADMSG, "%s has %llu bytes but its header says %llu; " REMEDY,
				image->path, (unsigned long long)image->bytes,
				(unsigned long long)le64toh(file->bytes));
	count = le32toh(file->sections);
	if (count > FLM_FILE_SECTIONS_MAX ||
	    sizeof(*file) + count * sizeof(struct flm_section) > image->bytes)
		return damaged(image, "its section table does not fit");
	file = malloc(sizeof(*file) + count * sizeof(struct flm_section));
	if (!file)
		return flm_fail(-ENOMEM, "%s: no memory to open it", image->path);
	image->file = file;
	*file = copy;
	ret = read_at(image, sizeof(*file), file + 1, count * sizeof(struct flm_section));
	if (ret)
		return ret;
	copy.crc32c = 0;
	crc = flm_crc32c(0, &copy, sizeof(copy));
	crc = flm_crc32c(crc, file + 1, count * sizeof(struct flm_section));
	if (crc != le32toh(file->crc32c))
		return damaged(image, "CRC32C of header and section table differs");
	if (file->reserved[0] || file->reserved[1] || file->reserved[2])
		return damaged(image, "its header has reserved bytes that are not zero");
	if (!le32toh(file->cores) || le32toh(file->cores) > FLM_CORES_MAX ||
	    !is_name(file->card, sizeof(file->card)))
		return damaged(image, "its header names no card");
	image->sections = (const void *)(file + 1);
	image->count = count;
	return 0;
}

static int check_section(const struct image *image, unsigned int i)
{
	const struct flm_section *s = &image->sections[i];
	uint64_t offset = le64toh(s->offset), bytes = le64toh(s->bytes);
	uint32_t place = le32toh(s->place), core = le32toh(s->core);
	char what[64];

	snprintf(what, sizeof(what), "section %u of %u is not as it must be", i, image->count);
	if (offset % FLM_FILE_ALIGN || offset > image->bytes || bytes > image->bytes - offset ||
	    place > FLM_PLACE_DDR || memcmp(s->reserved, (uint8_t[16]) { 0 }, 16))
		return damaged(image, what);
	if (place == FLM_PLACE_NONE)
		return le64toh(s->memory_bytes) || le32toh(s->segment) ? damaged(image, what) : 0;
	if (le64toh(s->memory_bytes) < bytes || !bytes || !le32toh(s->rights) ||
	    le32toh(s->rights) > 7 ||
	    le32toh(s->segment) >= FLM_SEGMENT_KV ||
	    (place == FLM_PLACE_HBM ? core >= le32toh(image->file->cores) : core != FLM_CORE_ALL))
		return damaged(image, what);
	return 0;
}

/* Each section with a place has its segment, in the cores that see it, for itself. */
static int check_segments(const struct image *image)
{
	for (unsigned int i = 0; i < image->count; i++) {
		const struct flm_section *a = &image->sections[i];

		for (unsigned int j = 0; j < i; j++) {
			const struct flm_section *b = &image->sections[j];

			if (le32toh(a->place) != FLM_PLACE_NONE &&
			    le32toh(b->place) != FLM_PLACE_NONE && a->segment == b->segment &&
			    (a->core == b->core || le32toh(a->core) == FLM_CORE_ALL ||
			     le32toh(b->core) == FLM_CORE_ALL))
				return damaged(image, "two of its sections have one segment");
		}
	}
	return 0;
}

/* One section of a kind for the host, checked by its CRC; NULL when there is none. */
static int find(const struct image *image, uint32_t kind, void **data, uint64_t *bytes)
{
	unsigned int found = image->count;
	int ret;

	*data = NULL;
	*bytes = 0;
	for (unsigned int i = 0; i < image->count; i++) {
		if (le32toh(image->sections[i].kind) != kind)
			continue;
		if (found < image->count)
			return damaged(image, "it has two sections of one kind");
		found = i;
	}
	if (found == image->count)
		return 0;
	*bytes = le64toh(image->sections[found].bytes);
	if (*bytes > TABLE_BYTES_MAX)
		return damaged(image, "one of its tables is larger than 64 MiB");
	*data = malloc(*bytes + !*bytes);
	if (!*data)
		return flm_fail(-ENOMEM, "%s: no memory to open it", image->path);
	ret = image_read(image, found, 0, *data, *bytes);
	return ret ? ret : image_check_section(image, found, flm_crc32c(0, *data, *bytes));
}

static bool has_sizes(const struct flm_model_desc *m)
{
	const __le32 sizes[] = { m->layers, m->hidden, m->ffn, m->heads, m->kv_heads, m->head_dim,
				 m->vocab, m->context };

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		if (!le32toh(sizes[i]) || le32toh(sizes[i]) > 1u << 24)
			return false;
	return true;
}

static int check_model(struct image *image)
{
	const struct flm_model_desc *m;
	uint64_t bytes;
	int ret = find(image, FLM_SECTION_MODEL, &image->model_table, &bytes);

	if (ret)
		return ret;
	m = image->model_table;
	if (!m || bytes != sizeof(*m))
		return damaged(image, "it has no model table");
	if (le32toh(m->arch) != FLM_ARCH_LLAMA)
		return flm_fail(-EPROTO, "%s holds a model of architecture %u, which this library does "
				"not know; install a newer release", image->path,
				le32toh(m->arch));
	for (unsigned int i = 0; i < sizeof(m->reserved) / sizeof(m->reserved[0]); i++)
		if (m->reserved[i])
			return damaged(image, "its model table has reserved bytes that are not zero");
	if (!has_sizes(m) || !le32toh(m->chunk) || le32toh(m->chunk) > FLM_CHUNK_MAX ||
	    le32toh(m->eos_count) > FLM_EOS_MAX || le32toh(m->bos) >= le32toh(m->vocab) ||
	    !memchr(m->name, 0, sizeof(m->name)))
		return damaged(image, "its model table holds impossible numbers");
	for (unsigned int i = 0; i < le32toh(m->eos_count); i++)
		if (le32toh(m->eos[i]) >= le32toh(m->vocab))
			return damaged(image, "its model table holds impossible end tokens");
	for (unsigned int c = 0; c < le32toh(image->file->cores); c++)
		if (!le32toh(m->kv_page_bytes[c]) || le32toh(m->kv_page_bytes[c]) % 64)
			return damaged(image, "its model table holds impossible KV pages");
	image->model = m;
	return 0;
}

static int check_sections(struct image *image)
{
	bool has_program = false;
	int ret;

	for (unsigned int i = 0; i < image->count; i++) {
		uint32_t kind = le32toh(image->sections[i].kind);

		ret = check_section(image, i);
		if (ret)
			return ret;
		if (kind & FLM_SECTION_REQUIRED)
			return flm_fail(-EPROTO, "%s needs section kind 0x%x, which this library does "
					"not know; install a newer release", image->path, kind);
		has_program |= kind == FLM_SECTION_PROGRAM;
	}
	if (!has_program)
		return damaged(image, "it has no program");
	ret = check_segments(image);
	if (!ret)
		ret = check_model(image);
	if (!ret)
		ret = find(image, FLM_SECTION_TOKENIZER, &image->tokenizer,
			   &image->tokenizer_bytes);
	if (!ret)
		ret = find(image, FLM_SECTION_NOTES, &image->notes, &image->notes_bytes);
	return ret;
}

int image_read(const struct image *image, unsigned int section, uint64_t at, void *memory,
	       uint64_t bytes)
{
	return read_at(image, le64toh(image->sections[section].offset) + at, memory, bytes);
}

int image_check_section(const struct image *image, unsigned int section, uint32_t crc)
{
	if (crc == le32toh(image->sections[section].crc32c))
		return 0;
	return flm_fail(-EBADMSG, "%s: section %u of %u is damaged (CRC32C differs); " REMEDY,
			image->path, section, image->count);
}

int image_open(const char *path, struct image *image)
{
	struct stat info;
	int ret;

	memset(image, 0, sizeof(*image));
	image->fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);	/* a pipe is no file */
	if (image->fd < 0 && errno == ENOENT)
		return flm_fail(-ENOENT, "%s: no such file; flightllm-cc makes one from a model",
				path);
	if (image->fd < 0)
		return flm_fail(-errno, "%s: %s; %s", path, strerror(errno), errno == EACCES ?
				"ask its owner to let you read it" : "name a file that can be read");
	image->path = strdup(path);
	if (!image->path || fstat(image->fd, &info)) {
		ret = flm_fail(-ENOMEM, "%s: no memory to open it", path);
		goto out_close;
	}
	image->bytes = info.st_size;
	if (!S_ISREG(info.st_mode) || image->bytes < sizeof(struct flm_file)) {
		ret = flm_fail(-EBADMSG, "%s is no .flm file; flightllm-cc makes one from a model",
			       path);
		goto out_close;
	}
	ret = check_header(image);
	if (!ret)
		ret = check_sections(image);
	if (!ret)
		return 0;
out_close:
	image_close(image);
	return ret;
}

void image_close(struct image *image)
{
	free(image->file);
	free(image->model_table);
	free(image->tokenizer);
	free(image->notes);
	if (image->fd >= 0)
		close(image->fd);
	free(image->path);
	memset(image, 0, sizeof(*image));
	image->fd = -1;
}
