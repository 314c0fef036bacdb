// SPDX-License-Identifier: MIT
/* What -d prints: the state of the plan after a pass, for people. */
#include <string.h>

#include "compiler/cc.h"

#include "lib/flightllm_isa.h"

static const char *const phases[] = { "start", "layer", "rows", "last" };
static const char *const splits[] = { "whole", "q heads", "kv heads", "hidden rows", "ffn rows",
				      "vocabulary" };
static const char *const rows[] = { "pass", "tile", "last", "one" };

static void dump_operators(const struct plan *p)
{
	for (int i = 0; i < p->op_count; i++) {
		const struct op *op = p->ops[i];

		printf("%3d %-5s %-32s", i, phases[op->phase], op->name);
		for (int j = 0; j < OP_INPUTS; j++)
			if (op->in[j])
				printf(" %s", op->in[j]->name);
		if (op->out)
			printf(" -> %s", op->out->name);
		if (op->imm)
			printf(" (%u)", op->imm);
		putchar('\n');
	}
}

static void dump_values(const struct plan *p, bool has_places)
{
	for (int i = 0; i < p->value_count; i++) {
		const struct value *v = p->values[i];

		printf("    %-36s %s %s x %u, %s%s", v->name, v->type == VALUE_Q8 ? "int8" : "f32",
		       rows[v->rows], v->cols, splits[v->split], v->is_full ? " in place" : "");
		if (v->alias)
			printf(", lies in %s", value_home((struct value *)v)->name);
		else if (has_places)
			printf(", %s:0x%x + %u, operators %d to %d",
			       flm_isa_buffer_name(v->at >> 28), v->at & 0xfffffff, v->pitch,
			       v->first, v->last);
		putchar('\n');
	}
}

static void dump_tiles(const struct plan *p)
{
	printf("chunk %u, %u queries and %u rows of logits at once, act %u bytes, glb %u bytes\n",
	       p->chunk, p->queries, p->logit_rows, p->act_used, p->glb_used);
	for (int i = 0; i < MATRICES; i++) {
		const struct matrix *m = &p->matrix[i];

		printf("    %-20s %u x %u, %u K tiles, %u strips of %u bytes at once\n", m->part,
		       m->rows, m->cols, m->tiles, m->strips_at_once, m->tile_bytes);
	}
	dump_values(p, true);
	for (int i = 0; i < p->op_count; i++)
		for (unsigned int j = 0; j < p->ops[i]->scratches; j++)
			printf("    %-36s %u bytes, %s:0x%x, operator %d\n",
			       p->ops[i]->scratch[j].name, p->ops[i]->scratch[j].bytes,
			       flm_isa_buffer_name(p->ops[i]->scratch[j].at >> 28),
			       p->ops[i]->scratch[j].at & 0xfffffff, i);
}

static void dump_places(const struct plan *p)
{
	static const char *const registers[] = {
		"kv heads", "first kv head", "q strips", "kv strips", "hidden strips",
		"first hidden strip", "hidden rows", "ffn strips", "first ffn strip", "ffn rows",
		"ffn groups", "vocabulary strips", "first vocabulary strip", "vocabulary rows",
	};

	for (int i = 0; i < CORE_REGISTERS; i++) {
		printf("    core%-2d %-22s", i, registers[i]);
		for (unsigned int core = 0; core < p->card->cores; core++)
			printf(" %7u", p->registers[core][i]);
		putchar('\n');
	}
	for (unsigned int core = 0; core < p->card->cores; core++)
		printf("    hbm%u: weights %llu bytes of %llu, KV page %u bytes\n", core,
		       (unsigned long long)p->weight_bytes[core],
		       (unsigned long long)p->card->hbm_bytes, p->page_bytes);
	printf("    ddr: norms 0x%llx, rope 0x%llx, embedding 0x%llx and 0x%llx, %llu bytes\n",
	       (unsigned long long)p->norms, (unsigned long long)p->rope,
	       (unsigned long long)p->embed, (unsigned long long)p->embed_scales,
	       (unsigned long long)p->shared_bytes);
	for (int i = 0; i < MATRICES; i++)
		printf("    %-20s table 0x%x\n", p->matrix[i].part, p->matrix[i].table);
}

static const char *part_at(const struct plan *p, uint32_t entry, uint32_t unit, uint32_t at)
{
	for (uint32_t i = 0; i < p->map_count; i++)
		if (p->map[i].entry == entry && p->map[i].unit == unit && p->map[i].first == at)
			return p->map[i].name;
	return NULL;
}

static void dump_stream(const struct plan *p, uint32_t entry, uint32_t unit)
{
	const struct stream *s = &p->streams[entry][unit];
	char text[FLM_TEXT_BYTES];

	printf("entry %u, %s: %u words\n", entry, flm_isa_unit_name(unit), s->count);
	for (uint32_t at = 0; at < s->count;) {
		const char *part = part_at(p, entry, unit, at);
		int n = flm_isa_print(s->words + at, s->count - at, text);

		if (part)
			printf("  # %s\n", part);
		printf("%6u  %s\n", at, text);
		if (n < 0)
			die("internal error: entry %u, %s, word %u is no instruction: %s", entry,
			    flm_isa_unit_name(unit), at, text);
		at += n;
	}
}

void dump_pass(const struct plan *p, const char *pass)
{
	printf("== %s\n", pass);
	if (!strcmp(pass, "graph") || !strcmp(pass, "fuse")) {
		dump_operators(p);
		dump_values(p, false);
	} else if (!strcmp(pass, "tile")) {
		dump_tiles(p);
	} else if (!strcmp(pass, "place")) {
		dump_places(p);
	} else {
		for (uint32_t entry = 0; entry < ENTRIES; entry++)
			for (uint32_t unit = 0; unit < FLM_UNITS; unit++)
				dump_stream(p, entry, unit);
	}
}
