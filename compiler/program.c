// SPDX-License-Identifier: MIT
/*
 * The program as the card fetches it: header with the declared bounds of the length registers and
 * every core's numbers, then the streams, each from a multiple of 64 bytes.
 */
#include <string.h>

#include "compiler/cc.h"

void program_bounds(const struct plan *p, uint32_t min[FLM_LENGTHS], uint32_t max[FLM_LENGTHS])
{
	memset(min, 0, FLM_LENGTHS * sizeof(*min));
	for (int i = 0; i < FLM_LENGTHS; i++)
		max[i] = FLM_VALUE_MAX;		/* what no instruction of ours looks at */
	max[FLM_LENGTH_POS] = p->context - 1;
	min[FLM_LENGTH_TOKENS] = 1;
	max[FLM_LENGTH_TOKENS] = p->chunk;
	max[FLM_LENGTH_KV] = p->context - 1;
	min[FLM_LENGTH_KV_END] = 1;
	max[FLM_LENGTH_KV_END] = p->context;
	min[FLM_LENGTH_SEQUENCES] = max[FLM_LENGTH_SEQUENCES] = 1;
	max[FLM_LENGTH_LOGIT_FIRST] = p->chunk;
	max[FLM_LENGTH_LOGIT_ROWS] = p->chunk;
	max[FLM_LENGTH_SAMPLE] = 1;
}

uint64_t program_build(const struct plan *p, uint8_t **bytes)
{
	uint32_t min[FLM_LENGTHS], max[FLM_LENGTHS];
	uint64_t at = sizeof(struct flm_program) + ENTRIES * sizeof(struct flm_entry), end = at;
	struct flm_program *head;
	uint8_t *out;

	for (int i = 0; i < ENTRIES * FLM_UNITS; i++)
		end = ROUND_UP(end, 64) + 4ull * p->streams[i / FLM_UNITS][i % FLM_UNITS].count;
	out = arena(end);
	head = (struct flm_program *)out;
	put_le32((uint8_t *)&head->magic, FLM_PROGRAM_MAGIC);
	put_le16((uint8_t *)&head->isa_major, FLM_ISA_MAJOR);
	put_le16((uint8_t *)&head->isa_minor, FLM_ISA_MINOR);
	put_le32((uint8_t *)&head->entries, ENTRIES);
	put_le32((uint8_t *)&head->cores, p->card->cores);
	put_le32((uint8_t *)&head->chunk, p->chunk);
	put_le64((uint8_t *)&head->watchdog, p->watchdog);
	program_bounds(p, min, max);
	for (int i = 0; i < FLM_LENGTHS; i++) {
		put_le32((uint8_t *)&head->bounds[i].min, min[i]);
		put_le32((uint8_t *)&head->bounds[i].max, max[i]);
	}
	for (unsigned int core = 0; core < p->card->cores; core++)
		for (int i = 0; i < FLM_CORE_REGISTERS; i++)
			put_le32((uint8_t *)&head->core[core][i], p->registers[core][i]);
	for (int entry = 0; entry < ENTRIES; entry++) {
		for (int unit = 0; unit < FLM_UNITS; unit++) {
			const struct stream *s = &p->streams[entry][unit];
			struct flm_stream *row = &head->entry[entry].stream[unit];

			at = ROUND_UP(at, 64);
			put_le32((uint8_t *)&row->offset, at);
			put_le32((uint8_t *)&row->words, s->count);
			for (uint32_t i = 0; i < s->count; i++, at += 4)
				put_le32(out + at, s->words[i]);
		}
	}
	*bytes = out;
	return end;
}
