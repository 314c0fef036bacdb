// SPDX-License-Identifier: MIT
/*
 * Where what a core has lies in memory: its numbers (core registers), strip tables and strips in
 * HBM, norms, RoPE table and embedding in DDR, pages of the KV cache. Tables lie at the same
 * offsets in every core, sized for the core that has most, so that one stream serves all. The
 * strips themselves are reached through the tables and lie as they fall.
 */
#include "compiler/cc.h"

/* Buffers on the card are made of blocks of this size. */
#define CARD_BLOCK (2ull << 20)

static void place_registers(struct plan *p)
{
	uint32_t dim = p->config->head_dim;

	for (unsigned int core = 0; core < p->card->cores; core++) {
		uint32_t *r = p->registers[core], first, rows;

		rows = core_rows(p, SPLIT_KV, core, &first);
		r[CORE_KV_HEADS] = rows / dim;
		r[CORE_KV_FIRST] = rows ? first / dim : 0;
		r[CORE_KV_STRIPS] = DIV_UP(rows, FLM_STRIP);
		r[CORE_Q_STRIPS] = DIV_UP(core_rows(p, SPLIT_Q, core, &first), FLM_STRIP);
		rows = core_rows(p, SPLIT_HIDDEN, core, &first);
		/* First rows are multiples of 64, except for a core without rows. */
		r[CORE_HIDDEN_STRIPS] = DIV_UP(rows, FLM_STRIP);
		r[CORE_HIDDEN_FIRST] = rows ? first / FLM_STRIP : 0;
		r[CORE_HIDDEN_ROWS] = rows;
		rows = core_rows(p, SPLIT_FFN, core, &first);
		r[CORE_FFN_STRIPS] = DIV_UP(rows, FLM_STRIP);
		r[CORE_FFN_FIRST] = rows ? first / FLM_STRIP : 0;
		r[CORE_FFN_ROWS] = rows;
		r[CORE_FFN_GROUPS] = DIV_UP(rows, FLM_GROUP);
		rows = core_rows(p, SPLIT_VOCAB, core, &first);
		r[CORE_VOCAB_STRIPS] = DIV_UP(rows, FLM_STRIP);
		r[CORE_VOCAB_FIRST] = rows ? first / FLM_STRIP : 0;
		r[CORE_VOCAB_ROWS] = rows;
		for (int i = 0; i < CORE_REGISTERS; i++)
			p->register_max[i] = MAX(p->register_max[i], r[i]);
	}
}

/*
 * Tables first: one layer's behind the other, then the head's. Then all strips in the same order.
 */
static void place_weights(struct plan *p)
{
	uint64_t tables = 0;
	uint32_t at = 0;

	for (int i = 0; i < MATRICES; i++) {
		struct matrix *m = &p->matrix[i];
		uint32_t strips = DIV_UP(core_rows_max(p, m->split), FLM_STRIP);
		uint32_t bytes = strips * m->tiles * sizeof(struct flm_strip);

		if (i == M_HEAD) {
			p->layer_tables = at;
			tables = (uint64_t)at * p->config->layers;
			if (tables + bytes > INT32_MAX)
				die("%u layers: their strip tables do not fit 2 GiB; choose a smaller model",
				    p->config->layers);
			m->table = tables;
			tables = ROUND_UP(tables + bytes, 64);
			break;
		}
		m->table = at;
		at += bytes;
	}
	for (unsigned int core = 0; core < p->card->cores; core++) {
		uint64_t data = tables, layer = 0;

		for (int i = 0; i < MATRICES; i++) {
			struct matrix *m = &p->matrix[i];
			uint32_t first;
			uint64_t rows = core_rows(p, m->split, core, &first);

			if (i == M_HEAD) {
				p->layer_bytes[core] = layer;
				data = tables + layer * p->config->layers;
			}
			m->data[core] = data;
			data += DIV_UP(rows, FLM_STRIP) * m->strip_bytes;
			layer += i == M_HEAD ? 0 : DIV_UP(rows, FLM_STRIP) * m->strip_bytes;
		}
		p->weight_bytes[core] = data + 64;	/* readable behind the last part */
	}
}

static void place_shared(struct plan *p)
{
	const struct checkpoint_config *c = p->config;
	uint64_t at = 0;

	p->layer_biases = 0;
	p->norms = at;
	at += ROUND_UP((2ull * c->layers + 1) * c->hidden * 4, 64);
	p->rope = at;
	/* A pass may begin at any position that is declared: a chunk of rows beyond the last. */
	at += ROUND_UP(((uint64_t)p->context + p->chunk) * c->head_dim * 4, 64);
	for (int i = 0; i < M_HEAD; i++) {
		struct matrix *m = &p->matrix[i];

		m->bias = p->layer_biases;
		/* A core's last strip may be read to its sixteenth row. */
		if (m->has_bias)
			p->layer_biases += ROUND_UP(m->rows * 4, 64) + 64;
	}
	p->biases = at;
	at += (uint64_t)p->layer_biases * c->layers;
	if (at > INT32_MAX)
		die("norms, RoPE table and biases of %u layers do not fit 2 GiB; choose a smaller model or --context",
		    c->layers);
	p->embed = at;
	at += ROUND_UP((uint64_t)c->vocab * c->hidden, 64);
	p->embed_groups = DIV_UP(c->hidden, FLM_GROUP);
	p->embed_scales = at;
	at += (uint64_t)c->vocab * p->embed_groups * 2;
	if (p->embed_scales > INT32_MAX)
		die("an embedding of %u x %u does not fit 2 GiB; choose a smaller model", c->vocab,
		    c->hidden);
	p->shared_bytes = at + 64;
}

static uint64_t page_bytes(const struct plan *p, uint32_t *scales)
{
	const struct checkpoint_config *c = p->config;
	uint64_t groups = DIV_UP(c->head_dim, FLM_GROUP), heads = p->kv_heads_max;
	uint64_t values = ROUND_UP(2ull * c->layers * heads * FLM_PAGE * c->head_dim, 64);

	*scales = values;
	return ROUND_UP(values + c->layers * heads * FLM_PAGE * (groups + 1) * 4, 64);
}

/*
 * A page has the same layout in every core, that of the core with the most heads: its size is an
 * operand of the one stream, and products of two registers do not exist.
 */
static void place_pages(struct plan *p)
{
	uint64_t bytes;

	p->kv_heads_max = p->register_max[CORE_KV_HEADS];
	bytes = page_bytes(p, &p->page_scales);
	if (bytes > INT32_MAX)
		die("a page of the KV cache would have %llu bytes, the card takes 2 GiB; choose a smaller model",
		    (unsigned long long)bytes);
	p->page_bytes = bytes;
}

/* Bytes of HBM that a core lacks for so many bytes of weights and one page of the KV cache. */
static uint64_t lacking(const struct plan *p, uint64_t weights)
{
	uint64_t need = ROUND_UP(weights, CARD_BLOCK) + ROUND_UP(p->page_bytes, CARD_BLOCK);

	return need > p->card->hbm_bytes ? need - p->card->hbm_bytes : 0;
}

static bool helps_w4(const struct plan *p)
{
	for (unsigned int core = 0; core < p->card->cores; core++) {
		uint64_t bytes = p->weight_bytes[core];

		for (int i = 0; i < MATRICES; i++) {
			const struct matrix *m = &p->matrix[i];
			uint64_t layers = i == M_HEAD ? 1 : p->config->layers;
			uint32_t first, rows = core_rows(p, m->split, core, &first);

			bytes -= layers * DIV_UP(rows, FLM_STRIP) *
				 (m->strip_bytes - strip_bytes(4, m->cols));
		}
		if (lacking(p, bytes))
			return false;
	}
	return p->options->width > 4;
}

/* Positions that every core's HBM holds beside its weights; none: the end. */
static uint64_t hbm_context(const struct plan *p)
{
	uint64_t have = p->card->hbm_bytes, least = UINT64_MAX;
	char a[32], b[32], c[32];

	for (unsigned int core = 0; core < p->card->cores; core++) {
		uint64_t weights = ROUND_UP(p->weight_bytes[core], CARD_BLOCK);
		uint64_t missing = lacking(p, p->weight_bytes[core]);

		if (missing)
			die("HBM of core %u of card %s: the weights take %s of %s, %s too much with one page of the KV cache; use %sa larger card",
			    core, p->card->name, bytes_text(weights, a), bytes_text(have, b),
			    bytes_text(missing, c), helps_w4(p) ? "--weights w4, or " : "");
		least = MIN(least, (have - weights) / CARD_BLOCK * CARD_BLOCK / p->page_bytes *
				   FLM_PAGE);
	}
	return least;
}

static void check_memory(struct plan *p)
{
	uint64_t pages = DIV_UP(p->context, FLM_PAGE), fit = hbm_context(p);
	/* The program needs a block of its own. */
	uint64_t ddr = ROUND_UP(p->shared_bytes, CARD_BLOCK) + CARD_BLOCK;
	char a[32], b[32];

	for (unsigned int core = 0; core < p->card->cores; core++) {
		uint64_t weights = ROUND_UP(p->weight_bytes[core], CARD_BLOCK);
		uint64_t need = weights + ROUND_UP(pages * p->page_bytes, CARD_BLOCK);
		uint64_t have = p->card->hbm_bytes;

		if (need <= have)
			continue;
		if (!p->options->context) {
			p->context = fit;
			return;
		}
		die("HBM of core %u of card %s: weights and a KV cache of %u positions take %s, %s more than there is; --context %llu fits",
		    core, p->card->name, p->context, bytes_text(need, a),
		    bytes_text(need - have, b),
		    (unsigned long long)fit);
	}
	if (ddr > p->card->ddr_bytes)
		die("DDR of card %s: embedding, tables and program take %s of %s; use a larger card",
		    p->card->name, bytes_text(ddr, a), bytes_text(p->card->ddr_bytes, b));
}

uint64_t place_context(struct plan *p)
{
	place_registers(p);
	place_weights(p);
	place_pages(p);
	return hbm_context(p);
}

/* May shorten a context that nobody asked for; tiles then have to be chosen again. */
void place_run(struct plan *p)
{
	stage_begin(p, STAGE_PLACE);
	place_registers(p);
	place_weights(p);
	place_shared(p);
	place_pages(p);
	check_memory(p);
	graph_check(p, "place");
}
