// SPDX-License-Identifier: MIT
/*
 * The file. Where every byte goes is known before a weight is read (layout.c); then weights with
 * their strip tables, vectors and small sections are written, and the header with their checksums
 * last.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "compiler/write.h"
#include "lib/crc32c.h"

static uint32_t crc_of_section(const struct output *output, const struct section_plan *s,
			       uint8_t *buffer, size_t room)
{
	uint32_t crc = 0;

	for (uint64_t at = 0, n; at < s->bytes; at += n) {
		n = MIN(room, s->bytes - at);
		output_read(output, s->offset + at, buffer, n);
		crc = flm_crc32c(crc, buffer, n);
	}
	return crc;
}

static void write_header(const struct plan *p, const struct output *output)
{
	size_t rows = p->section_count * sizeof(struct flm_section), room = 1 << 20;
	struct flm_section *table = arena(rows);
	struct flm_file head = { 0 };
	uint8_t *buffer = arena(room);
	uint32_t crc;

	for (unsigned int i = 0; i < p->section_count; i++) {
		const struct section_plan *s = &p->sections[i];

		put_le32((uint8_t *)&table[i].kind, s->kind);
		put_le32((uint8_t *)&table[i].core, s->core);
		put_le64((uint8_t *)&table[i].offset, s->offset);
		put_le64((uint8_t *)&table[i].bytes, s->bytes);
		put_le64((uint8_t *)&table[i].memory_bytes, s->memory_bytes);
		put_le32((uint8_t *)&table[i].segment, s->segment);
		put_le32((uint8_t *)&table[i].place, s->place);
		put_le32((uint8_t *)&table[i].rights, s->rights);
		put_le32((uint8_t *)&table[i].crc32c, crc_of_section(output, s, buffer, room));
	}
	memcpy(head.magic, FLM_FILE_MAGIC, sizeof(head.magic));
	put_le16((uint8_t *)&head.major, FLM_FILE_MAJOR);
	put_le16((uint8_t *)&head.minor, FLM_FILE_MINOR);
	put_le16((uint8_t *)&head.isa_major, FLM_ISA_MAJOR);
	put_le16((uint8_t *)&head.isa_minor, FLM_ISA_MINOR);
	snprintf((char *)head.card, sizeof(head.card), "%s", p->card->name);
	put_le32((uint8_t *)&head.cores, p->card->cores);
	put_le32((uint8_t *)&head.sections, p->section_count);
	put_le64((uint8_t *)&head.bytes, p->file_bytes);
	crc = flm_crc32c(0, &head, sizeof(head));
	put_le32((uint8_t *)&head.crc32c, flm_crc32c(crc, table, rows));
	output_write(output, 0, &head, sizeof(head));
	output_write(output, sizeof(head), table, rows);
}

/* Contents of the small sections, in the order of struct plan's sections. */
static void write_small(const struct plan *p, const struct output *output,
			const struct blob *blobs)
{
	for (unsigned int i = 0; i < p->section_count; i++)
		if (blobs[i].bytes)
			output_write(output, p->sections[i].offset, blobs[i].data, blobs[i].bytes);
}

void write_run(struct plan *p)
{
	struct blob blobs[SECTIONS_MAX] = { 0 };
	struct output output;

	stage_begin(p, STAGE_WRITE);
	layout_run(p, blobs);
	output_open(&output, p->options->out);
	output_reserve(&output, p->file_bytes);
	weights_write(p, &output);
	vectors_write(p, &output);
	write_small(p, &output, blobs);
	write_header(p, &output);
	output_commit(&output);
}
