// SPDX-License-Identifier: MIT
/*
 * Fits the graph into the card's on-chip buffers: how many tokens a pass may have, how many
 * strips of weights are loaded at once (twice, so that one loads while the other is used), and
 * where each value lies. Two values share bytes when no operator needs both; operators run one
 * after the other, so "needs" is a range of operator numbers. The largest chunk that fits is
 * taken.
 */
#include <string.h>

#include "compiler/cc.h"

#define PIECES_MAX	200
#define PIECE_ALIGN	64u
#define CHUNK_GOOD	64u	/* tokens of a pass that a longer context is not worth */

/* Bytes on chip for a range of operators; `at` is where their address goes. */
struct piece {
	const char *name;
	uint64_t bytes;
	int first, last;
	bool prefers_glb;
	uint32_t lead;		/* bytes in front that belong to it */
	uint32_t *at;
	unsigned int buffer;	/* placed: where */
	uint64_t offset;
	bool is_placed;
};

struct fit {
	struct piece piece[PIECES_MAX];
	int count;
	uint64_t used[FLM_BUFFERS];
	uint64_t missing;	/* bytes of the piece that did not fit, 0: all fit */
	const char *what;
};

/* Whether strips of all matrices fit, so wide a weight. */
static bool fits_half(const struct plan *p, unsigned int width)
{
	bool fits = true;

	for (int i = 0; i < MATRICES; i++)
		fits &= strip_bytes(width, MIN(p->matrix[i].cols, FLM_TILE_COLS)) <=
			p->half_bytes;
	return fits;
}

static void tile_matrix(struct plan *p, struct matrix *m)
{
	uint32_t cols = ROUND_UP(m->cols, FLM_STRIP), width = p->options->width;
	uint32_t strips = DIV_UP(core_rows_max(p, m->split), FLM_STRIP);
	uint32_t widest = MIN(cols, FLM_TILE_COLS);

	m->tiles = DIV_UP(cols, FLM_TILE_COLS);
	m->strip_bytes = strip_bytes(width, m->cols);
	m->tile_bytes = strip_bytes(width, widest);
	if (m->tile_bytes > p->half_bytes)
		die("%s: a strip of %u columns takes %u bytes at %u bits, half of the weight buffer of card %s has %u; use %sanother card",
		    m->part, widest, m->tile_bytes, width, p->card->name, p->half_bytes,
		    width > 4 && fits_half(p, 4) ? "--weights w4, or " : "");
	m->strips_at_once = 1;
	/* At least two tiles, so that one loads while the other is used. */
	while (2 * m->strips_at_once * m->tile_bytes <= p->half_bytes &&
	       4 * m->strips_at_once <= strips)
		m->strips_at_once *= 2;
}

static uint32_t row_count(const struct plan *p, enum rows rows)
{
	switch (rows) {
	case ROWS_PASS:
		return p->chunk;
	case ROWS_TILE:
		return p->logit_rows;
	default:
		return 1;
	}
}

/*
 * From the first operator that writes it to the last that reads it, aliases and loops included.
 */
static void live_ranges(struct plan *p)
{
	int layer_end = 0;

	for (int i = 0; i < p->value_count; i++)
		p->values[i]->first = p->values[i]->last = -1;
	for (int i = 0; i < p->op_count; i++)
		if (p->ops[i]->phase == PHASE_LAYER)
			layer_end = i;
	for (int i = 0; i < p->op_count; i++) {
		const struct op *op = p->ops[i];

		for (int j = 0; j <= OP_INPUTS; j++) {
			struct value *v = j < OP_INPUTS ? op->in[j] : op->out;

			if (!v)
				continue;
			v = value_home(v);
			if (v->first < 0)
				v->first = i;
			v->last = MAX(v->last, i);
			/* Made before the loop over the layers, needed by each of them. */
			if (op->phase == PHASE_LAYER &&
			    p->ops[v->first]->phase == PHASE_START)
				v->last = MAX(v->last, layer_end);
		}
	}
}

static void piece_add(struct fit *fit, const char *name, uint64_t bytes, int first, int last,
		      bool prefers_glb, uint32_t lead, uint32_t *at)
{
	if (fit->count == PIECES_MAX)
		die("tile: more than %d pieces", PIECES_MAX);
	fit->piece[fit->count++] = (struct piece) {
		.name = name, .bytes = ROUND_UP(bytes + lead, PIECE_ALIGN), .first = first,
		.last = last, .prefers_glb = prefers_glb, .lead = lead, .at = at,
	};
}

static void add_value(struct plan *p, struct fit *fit, struct value *v)
{
	uint32_t cols = v->split == SPLIT_NONE || v->is_full ? v->cols : core_rows_max(p, v->split);
	uint64_t rows = row_count(p, v->rows);
	bool small = v->rows == ROWS_ONE || !strcmp(v->name, "rope");
	uint32_t lead = 0;

	cols = ROUND_UP(cols, FLM_STRIP);
	v->pitch = v->type == VALUE_Q8 ? cols : 4 * cols;
	/* The last row is base - pitch + TOKENS * pitch, and no constant may be negative. */
	if (!strcmp(v->name, "x"))
		lead = v->pitch;
	piece_add(fit, v->name, rows * v->pitch, v->first, v->last, small, lead, &v->at);
	if (v->type == VALUE_Q8) {
		v->scale_pitch = 4 * DIV_UP(v->cols, FLM_GROUP);
		piece_add(fit, v->name, rows * v->scale_pitch, v->first, v->last, true, 0,
			  &v->scale_at);
	}
}

static void scratch_set(struct op *op, int number, const char *name, uint64_t bytes)
{
	op->scratch[number] = (struct scratch) { .name = name, .bytes = MIN(bytes, 0xfffffff) };
	op->scratches = MAX(op->scratches, (unsigned int)number + 1);
}

static void add_scratch(struct plan *p, struct op *op)
{
	uint32_t d = p->config->head_dim, groups = DIV_UP(d, FLM_GROUP);
	uint64_t context = p->context, chunk = p->chunk, queries = p->queries;

	op->scratches = 0;
	switch (op->kind) {
	case OP_EMBED:
		scratch_set(op, EMBED_CODES, "embed.codes", chunk * op->out->cols);
		scratch_set(op, EMBED_SCALES, "embed.scales",
			    chunk * 2 * DIV_UP(op->out->cols, FLM_GROUP));
		break;
	case OP_ATTENTION:
		/* Quantising writes zeros up to the next multiple of 16 columns. */
		scratch_set(op, ATT_K, "keys", context * d + FLM_STRIP);
		scratch_set(op, ATT_KS, "keys.scales", context * groups * 4);
		scratch_set(op, ATT_V, "values", context * d + FLM_STRIP);
		scratch_set(op, ATT_VS, "values.scales", context * 4);
		scratch_set(op, ATT_Q, "query", queries * ROUND_UP(d, FLM_STRIP));
		scratch_set(op, ATT_QS, "query.scales", queries * groups * 4);
		scratch_set(op, ATT_S, "scores", queries * ROUND_UP(context, FLM_STRIP) * 4);
		scratch_set(op, ATT_P, "weights", queries * ROUND_UP(context, FLM_STRIP));
		scratch_set(op, ATT_PS, "weights.scales", queries * DIV_UP(context, FLM_GROUP) * 4);
		break;
	case OP_SAMPLE:
		scratch_set(op, SAMPLE_TOP, "top", MIN(p->config->vocab, FLM_TOPK_MAX) * 8);
		break;
	default:
		break;
	}
}

/* Offset of the lowest gap in a buffer that is free for all of the piece's life, or ~0. */
static uint64_t gap(const struct fit *fit, const struct piece *piece, unsigned int buffer,
		    uint64_t bytes)
{
	uint64_t offset = 0;
	bool moved = true;

	while (moved) {
		moved = false;
		for (int i = 0; i < fit->count; i++) {
			const struct piece *q = &fit->piece[i];

			if (!q->is_placed || q->buffer != buffer || q->last < piece->first ||
			    q->first > piece->last || q->offset >= offset + piece->bytes ||
			    q->offset + q->bytes <= offset)
				continue;
			offset = q->offset + q->bytes;
			moved = true;
		}
	}
	return offset + piece->bytes <= bytes ? offset : UINT64_MAX;
}

static bool place_piece(const struct plan *p, struct fit *fit, struct piece *piece)
{
	const unsigned int order[2][2] = {
		{ FLM_BUFFER_ACT, FLM_BUFFER_GLB }, { FLM_BUFFER_GLB, FLM_BUFFER_ACT }
	};

	for (int i = 0; i < 2; i++) {
		unsigned int buffer = order[piece->prefers_glb][i];
		uint64_t offset = gap(fit, piece, buffer, p->card->buffer_bytes[buffer]);

		if (offset == UINT64_MAX)
			continue;
		piece->is_placed = true;
		piece->buffer = buffer;
		piece->offset = offset;
		*piece->at = FLM_CHIP(buffer, offset + piece->lead);
		fit->used[buffer] = MAX(fit->used[buffer], offset + piece->bytes);
		return true;
	}
	return false;
}

/* Largest first: what is small finds room between them. */
static bool fits(struct plan *p, struct fit *fit)
{
	memset(fit, 0, sizeof(*fit));
	for (int i = 0; i < p->value_count; i++)
		if (!p->values[i]->alias)
			add_value(p, fit, p->values[i]);
	for (int i = 0; i < p->op_count; i++) {
		struct op *op = p->ops[i];

		add_scratch(p, op);
		for (unsigned int j = 0; j < op->scratches; j++)
			piece_add(fit, op->scratch[j].name, op->scratch[j].bytes, i, i,
				  op->scratch[j].bytes < 65536, 0, &op->scratch[j].at);
	}
	for (int n = 0; n < fit->count; n++) {
		struct piece *best = NULL;

		for (int i = 0; i < fit->count; i++)
			if (!fit->piece[i].is_placed &&
			    (!best || fit->piece[i].bytes > best->bytes))
				best = &fit->piece[i];
		if (!place_piece(p, fit, best)) {
			fit->missing = best->bytes;
			fit->what = best->name;
			return false;
		}
	}
	p->act_used = fit->used[FLM_BUFFER_ACT];
	p->glb_used = fit->used[FLM_BUFFER_GLB];
	return true;
}

/* The largest chunk that fits, with it the most queries and the most rows of logits at once. */
static bool fit_chunk(struct plan *p, struct fit *fit)
{
	for (p->chunk = FLM_CHUNK_MAX; p->chunk; p->chunk /= 2) {
		if (p->chunk > p->context)
			continue;
		for (p->queries = p->chunk; p->queries; p->queries /= 2)
			for (p->logit_rows = p->chunk; p->logit_rows; p->logit_rows /= 2)
				if (fits(p, fit))
					return true;
	}
	p->chunk = p->queries = p->logit_rows = 1;
	fits(p, fit);
	return false;
}

/* The longest context below `high` that fits with chunks of at least so many tokens, or 0. */
static uint32_t longest(struct plan *p, struct fit *fit, uint32_t high, uint32_t chunk)
{
	uint32_t low = chunk - 1;

	while (high > low + 1) {
		p->context = low + (high - low) / 2;
		if (fit_chunk(p, fit) && p->chunk >= chunk)
			low = p->context;
		else
			high = p->context;
	}
	return low < chunk ? 0 : low;
}

/*
 * The longest context that fits, if the user asked for none; else the end. Not at any price: each
 * chunk of a prompt fetches all weights, so the last few positions would cost most of the speed.
 */
static void shorten(struct plan *p, struct fit *fit)
{
	uint32_t wanted = p->context, low;
	const char *what = fit->what;
	uint64_t missing = fit->missing;

	low = p->options->context ? 0 : longest(p, fit, wanted, CHUNK_GOOD);
	if (!low)
		low = longest(p, fit, wanted, 1);
	if (low && !p->options->context) {
		p->context = low;
		fit_chunk(p, fit);
		return;
	}
	if (low)
		die("context %u: no room on chip of card %s for %llu bytes of %s; --context %llu fits",
		    wanted, p->card->name, (unsigned long long)missing, what,
		    (unsigned long long)MIN(low, place_context(p)));
	/* What a context of 1 lacks. */
	die("no room on chip of card %s for %llu bytes of %s, whatever the context; use another card",
	    p->card->name, (unsigned long long)fit->missing, fit->what);
}

/* Aliases lie where their homes lie. */
static void settle(struct plan *p)
{
	for (int i = 0; i < p->value_count; i++) {
		struct value *v = p->values[i], *home = value_home(v);

		v->at = home->at;
		v->pitch = home->pitch;
		v->scale_at = home->scale_at;
		v->scale_pitch = home->scale_pitch;
	}
}

void tile_run(struct plan *p)
{
	struct fit *fit = arena(sizeof(*fit));

	stage_begin(p, STAGE_TILE);
	p->half_bytes = p->card->buffer_bytes[FLM_BUFFER_WGT] / 2 / 64 * 64;
	for (int i = 0; i < MATRICES; i++)
		tile_matrix(p, &p->matrix[i]);
	live_ranges(p);
	if (4 * FLM_CHUNK_MAX > p->card->buffer_bytes[FLM_BUFFER_IDX])
		die("card %s: its index buffer does not hold the tokens of a pass", p->card->name);
	if (!fit_chunk(p, fit))
		shorten(p, fit);
	settle(p);
	graph_check(p, "tile");
}
