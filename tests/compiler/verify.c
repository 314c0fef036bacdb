// SPDX-License-Identifier: MIT
/*
 * The checker rejects what the emitter would never write: seeded changes of one word of a good
 * program, each of a kind that must be found. Every change runs in a process of its own, since
 * die() ends it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compiler/cc.h"
#include "lib/flightllm_isa.h"
#include "tests/tap.h"

#define MUTATIONS 400

static uint64_t state = 1;

static uint32_t draw(uint32_t below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 33) % below;
}

static struct plan *build(const struct card *card, const char *shape)
{
	struct plan *p = calloc(1, sizeof(*p));
	struct options *o = calloc(1, sizeof(*o));
	char error[CHECKPOINT_ERROR_BYTES];

	o->card = card;
	o->synthetic = shape;
	o->width = 8;
	o->command = "test";
	p->options = o;
	p->card = card;
	if (checkpoint_synthetic(shape, 0, error, sizeof(error), &p->checkpoint)) {
		printf("Bail out! %s\n", error);
		exit(1);
	}
	p->config = checkpoint_config(p->checkpoint);
	p->context = p->config->context;
	graph_build(p);
	fuse_run(p);
	tile_run(p);
	place_run(p);
	emit_run(p);
	return p;
}

/* A random instruction of the program that is neither LOOP nor END, or with is_loop a LOOP. */
static uint32_t *pick(struct plan *p, bool is_loop, int *insn, unsigned int *unit)
{
	for (;;) {
		unsigned int entry = draw(ENTRIES);
		struct stream *s;
		uint32_t count = 0, want;

		*unit = draw(FLM_UNITS);
		s = &p->streams[entry][*unit];
		for (int pass = 0; pass < 2; pass++) {
			want = pass && count ? draw(count) : 0;
			if (pass && !count)
				break;
			count = 0;
			for (uint32_t at = 0; at < s->count;) {
				*insn = flm_isa_insn(s->words[at]);
				if (is_loop ? *insn == FLM_INSN_LOOP :
				    *insn != FLM_INSN_LOOP && *insn != FLM_INSN_END) {
					if (pass && count == want)
						return s->words + at;
					count++;
				}
				at += flm_isa_words(s->words + at, s->count - at);
			}
		}
	}
}

/* The second of a pair of tiles may be of no strip at all in a model this small. */
static bool is_second_half(const uint32_t *w, int insn)
{
	return (insn == FLM_INSN_LD_TILE && w[FLM_LD_TILE_STRIPS_W]) ||
	       (insn == FLM_INSN_MM_LINEAR && w[FLM_MM_LINEAR_STRIPS_W]) ||
	       (insn == FLM_INSN_MV_LINEAR && w[FLM_MV_LINEAR_STRIPS_W]);
}

/* Changes one thing. Returns what, or NULL if the instruction has no such thing. */
static const char *mutate(struct plan *p, unsigned int kind)
{
	unsigned int unit, other;
	uint32_t *w;
	int insn;

	switch (kind) {
	case 0:
		w = pick(p, false, &insn, &unit);
		do
			other = draw(FLM_UNITS);
		while (other == unit);
		FLM_PUT_HEAD(w, WAIT, FLM_GET_HEAD(w, WAIT) ^ 1u << other);
		return "a wait more or less";
	case 1:
		w = pick(p, false, &insn, &unit);
		do
			other = draw(FLM_UNITS);
		while (other == unit);
		FLM_PUT_HEAD(w, RELEASE, FLM_GET_HEAD(w, RELEASE) ^ 1u << other);
		return "a release more or less";
	case 2:
		w = pick(p, true, &insn, &unit);
		FLM_PUT(w, LOOP, BODY, FLM_GET(w, LOOP, BODY) + 1 - 2 * draw(2));
		return "a loop body longer or shorter";
	case 3:
		w = pick(p, true, &insn, &unit);
		FLM_PUT(w, LOOP, BOUND, draw(FLM_GET(w, LOOP, BOUND)));
		return "a loop bound too small";
	case 4:
		w = pick(p, true, &insn, &unit);
		if (FLM_GET(w, LOOP, CLASS) != FLM_CLASS_CONST)
			return NULL;
		FLM_PUT(w, LOOP, SUB, FLM_GET(w, LOOP, SUB) + 1 + draw(3));
		FLM_PUT(w, LOOP, BOUND, FLM_GET(w, LOOP, SUB));
		return "a trip more in one unit's loop";
	case 5:
		w = pick(p, false, &insn, &unit);
		if (is_second_half(w, insn))
			return NULL;
		if (insn == FLM_INSN_LD_TILE)
			FLM_PUT(w, LD_TILE, SEG, 0);
		else if (insn == FLM_INSN_LD_KV)
			FLM_PUT(w, LD_KV, SEG, FLM_SEGMENT_WEIGHTS);
		else if (insn == FLM_INSN_ST_KV)
			FLM_PUT(w, ST_KV, SEG, FLM_SEGMENT_SHARED);
		else if (insn == FLM_INSN_LD_GATHER)
			FLM_PUT(w, LD_GATHER, SEG, FLM_SEGMENT_JOB);
		else if (insn == FLM_INSN_MM_LINEAR)
			FLM_PUT(w, MM_LINEAR, SEG, 3);
		else if (insn == FLM_INSN_MV_LINEAR)
			FLM_PUT(w, MV_LINEAR, SEG, 9);
		else
			return NULL;
		return "another segment";
	case 6:
		w = pick(p, false, &insn, &unit);
		if (is_second_half(w, insn))
			return NULL;
		if (insn == FLM_INSN_LD_TILE)
			w[FLM_LD_TILE_DST_W] += p->card->buffer_bytes[FLM_BUFFER_WGT];
		else if (insn == FLM_INSN_MISC && w[FLM_MISC_ROWS_MAX_W])
			w[FLM_MISC_OUT_W] += p->card->buffer_bytes[w[FLM_MISC_OUT_W] >> 28];
		else if (insn == FLM_INSN_MM_QK)
			w[FLM_MM_QK_B_W] += p->card->buffer_bytes[w[FLM_MM_QK_B_W] >> 28];
		else if (insn == FLM_INSN_MV_LINEAR)
			w[FLM_MV_LINEAR_OUT_W] += p->card->buffer_bytes[FLM_BUFFER_ACT];
		else if (insn == FLM_INSN_SYS_GATHER)
			w[FLM_SYS_GATHER_DST_W] += p->card->buffer_bytes[FLM_BUFFER_ACT];
		else
			return NULL;
		if (insn == FLM_INSN_MISC && FLM_GET_HEAD(w, MODE) == FLM_MISC_SAMPLE)
			w[FLM_MISC_A_W] += p->card->buffer_bytes[w[FLM_MISC_A_W] >> 28];
		return "an address outside its buffer";
	case 7:
		w = pick(p, false, &insn, &unit);
		if (is_second_half(w, insn))
			return NULL;
		if (insn == FLM_INSN_LD_TILE)
			w[FLM_LD_TILE_ROW_W] += 4096;
		else if (insn == FLM_INSN_MM_LINEAR)
			w[FLM_MM_LINEAR_ROW_W] += 4096;
		else if (insn == FLM_INSN_MV_LINEAR)
			w[FLM_MV_LINEAR_TABLE_W] += 32;
		else
			return NULL;
		return "another row of the strip table";
	case 8:
		w = pick(p, false, &insn, &unit);
		if (insn == FLM_INSN_LD_KV)
			w[FLM_LD_KV_SCALES_W] += p->page_bytes - p->page_scales;
		else if (insn == FLM_INSN_ST_KV)
			FLM_PUT(w, ST_KV, PAGE, p->page_bytes * 2);
		else
			return NULL;
		return "another place in a page";
	case 9:
		w = pick(p, false, &insn, &unit);
		if (insn == FLM_INSN_MM_LINEAR && w[FLM_MM_LINEAR_STRIPS_MAX_W])
			w[FLM_MM_LINEAR_TOKENS_MAX_W] = 129;
		else if (insn == FLM_INSN_LD_KV)
			w[FLM_LD_KV_QUERIES_W] = 0;
		else if (insn == FLM_INSN_LD_GATHER)
			FLM_PUT(w, LD_GATHER, LIMIT, p->config->vocab + 1);
		else if (insn == FLM_INSN_LD_LINEAR && w[FLM_LD_LINEAR_ROWS_MAX_W])
			w[FLM_LD_LINEAR_OFF_W] = p->shared_bytes;
		else
			return NULL;
		return "a size or limit out of bounds";
	default:
		w = pick(p, false, &insn, &unit);
		w[0] |= 1u << FLM_HEAD_MODE_HI;
		return "an operation that does not exist";
	}
}

/* 0: accepted, 9: rejected by the checker with its reason, other: something else happened. */
static int verdict(struct plan *p)
{
	int status;
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		close(STDERR_FILENO);
		verify_run(p);
		_exit(0);
	}
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static void save(struct plan *p, uint32_t **copy, bool restore)
{
	for (int i = 0; i < ENTRIES * FLM_UNITS; i++) {
		struct stream *s = &p->streams[i / FLM_UNITS][i % FLM_UNITS];

		if (!copy[i])
			copy[i] = malloc(4 * s->count);
		memcpy(restore ? s->words : copy[i], restore ? copy[i] : s->words, 4 * s->count);
	}
}

int main(void)
{
	struct plan *p = build(card_find("tiny"), "tiny");
	uint32_t *copy[ENTRIES * FLM_UNITS] = { NULL };
	unsigned int tried = 0;

	ok(verdict(p) == 0, "the program as it was emitted is accepted");
	save(p, copy, false);
	while (tried < MUTATIONS) {
		const char *what = mutate(p, draw(11));

		if (what) {
			int status = verdict(p);

			ok(status == 9, "change %u, %s, is rejected", tried, what);
			if (status != 9)
				printf("# exit status %d\n", status);
			tried++;
		}
		save(p, copy, true);
	}
	/* Every value that lies where another one lies that is needed at the same time. */
	for (int i = 1; i < p->value_count; i++) {
		struct value *v = p->values[i], *other = p->values[0];
		uint32_t at = v->at;

		if (v->alias)
			continue;
		for (int j = 0; j < i; j++)
			if (!p->values[j]->alias && p->values[j]->last >= v->first &&
			    v->last >= p->values[j]->first)
				other = p->values[j];
		v->at = other->at;
		ok(verdict(p) == 9, "%s in the place of %s is rejected", v->name, other->name);
		v->at = at;
	}
	ok(verdict(p) == 0, "the program is accepted again");
	for (int i = 0; i < ENTRIES * FLM_UNITS; i++)
		free(copy[i]);
	checkpoint_close(p->checkpoint);
	free((void *)p->options);
	free(p);
	return done_testing();
}
