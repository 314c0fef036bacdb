// SPDX-License-Identifier: MIT
/*
 * The checker rejects what the emitter would never write: seeded changes of one word of a good
 * program, each of a kind that must be found. Then changes of any kind: what the checker accepts
 * of them the card must run without a fault. Every change runs in a process of its own, since
 * die() ends it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compiler/cc.h"
#include "lib/flightllm_isa.h"
#include "tests/compiler/pass.h"
#include "tests/tap.h"

#define MUTATIONS	500
#define BLIND		1000	/* changes of any kind, by one seed each */

static uint64_t state = 1;

static uint32_t draw(uint32_t below)
{
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 33) % below;
}

static struct plan *build(const struct card *card, const char *shape, const char *out)
{
	struct plan *p = calloc(1, sizeof(*p));
	struct options *o = calloc(1, sizeof(*o));
	char error[CHECKPOINT_ERROR_BYTES];

	o->card = card;
	o->synthetic = shape;
	o->width = 8;
	o->hadamard[FLM_ROTATE_QKV] = 16;
	o->command = "test";
	o->out = out;
	o->threads = 1;
	o->quiet = true;
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
	verify_run(p);	/* the watchdog of the file */
	write_run(p);
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
			w[FLM_LD_KV_QUERIES_MAX_W] = 0x1000000;
		else if (insn == FLM_INSN_LD_GATHER)
			FLM_PUT(w, LD_GATHER, LIMIT, p->config->vocab + 1);
		else if (insn == FLM_INSN_LD_LINEAR && w[FLM_LD_LINEAR_ROWS_MAX_W])
			w[FLM_LD_LINEAR_OFF_W] = p->shared_bytes;
		else
			return NULL;
		return "a size or limit out of bounds";
	case 10:
		w = pick(p, false, &insn, &unit);
		if (insn != FLM_INSN_MISC)
			return NULL;
		switch (FLM_GET_HEAD(w, MODE)) {
		case FLM_MISC_SOFTMAX:
			if (draw(2))
				FLM_PUT_HEAD(w, FLAGS, 1);
			else
				w[FLM_MISC_B_PITCH_W] = 64;
			return "a mask in a program without one";
		case FLM_MISC_DEQUANT:
			FLM_PUT_HEAD(w, FLAGS, 4 | 1u << draw(2));
			break;
		default:
			FLM_PUT_HEAD(w, FLAGS, 1u << draw(3));
		}
		return "a flag of another operation";
	case 11:
		do
			w = pick(p, false, &insn, &unit);
		while (insn != FLM_INSN_ST_KV && insn != FLM_INSN_SYS_TOPK &&
		       insn != FLM_INSN_LD_GATHER);
		if (insn == FLM_INSN_LD_GATHER) {
			w[draw(2) ? FLM_LD_GATHER_INDEX_W : FLM_LD_GATHER_ROWS_W] += 64;
			w[FLM_LD_GATHER_ROWS_MAX_W] = FLM_CHUNK_MAX;
			return "indices that are no tokens";
		}
		if (insn == FLM_INSN_SYS_TOPK) {
			if (draw(2))
				w[FLM_SYS_TOPK_COUNT_W]--;
			else
				w[FLM_SYS_TOPK_SRC_W] += 8;
			return "other candidates than those of topk";
		}
		for (uint32_t i = 0; i < FLM_GET_HEAD(w, TERMS); i++) {
			uint32_t *term = w + FLM_WORDS_ST_KV + 2 * i;

			if (FLM_GET_TERM(term, OPERAND) == FLM_ST_KV_FIRST_NUMBER)
				term[1] = 0;
		}
		return "a store at the first position";
	case 12:
		do
			w = pick(p, false, &insn, &unit);
		while (insn != FLM_INSN_MISC || FLM_GET_HEAD(w, MODE) < FLM_MISC_ROPE);
		switch (FLM_GET_HEAD(w, MODE)) {
		case FLM_MISC_ROPE:
		case FLM_MISC_HADAMARD:
			w[draw(2) ? FLM_MISC_IMM_W : FLM_MISC_COLS_W] += 8;
			return "blocks that do not divide a row";
		case FLM_MISC_SAMPLE:
			w[draw(2) ? FLM_MISC_ROWS_W : FLM_MISC_COLS_W] -= 1;
			return "a sample of nothing";
		case FLM_MISC_TOPK:
			w[FLM_MISC_IMM_W] -= 1;
			return "fewer candidates than are chosen from";
		default:
			return NULL;
		}
	case 13:
		w = pick(p, false, &insn, &unit);
		if (!FLM_GET_HEAD(w, TERMS))
			return NULL;
		w += flm_isa_words(w, FLM_WORDS_MAX) - 2;
		FLM_PUT_TERM(w, CLASS, FLM_CLASS_LOOP);
		FLM_PUT_TERM(w, INDEX, 7);
		return "a term of a loop that is not open";
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

/* Some word of some instruction becomes another one. */
static void change(uint32_t *word)
{
	switch (draw(5)) {
	case 0:
		*word ^= 1u << draw(32);
		break;
	case 1:
		*word += 1 + draw(64);
		break;
	case 2:
		*word -= 1 + draw(64);
		break;
	case 3:
		*word = draw(300);
		break;
	default:
		*word *= 2;
	}
}

/* On a card of its own: the passes of an entry, from an empty and to a full cache. */
static void run_on_card(struct loaded *l, const struct plan *p, unsigned int entry)
{
	const struct {
		uint32_t kv, tokens;
		bool sample, every;
	} passes[ENTRIES][5] = {
		{ { 0, 1, false, false }, { 0, p->chunk, true, true },
		  { p->context - p->chunk, p->chunk, true, true },
		  { p->context - 1, 1, true, true }, { p->context / 2, 3, false, true } },
		{ { 0, 1, true, false }, { 1, 1, false, false }, { p->context / 2, 1, true, false },
		  { p->context - 2, 1, true, false }, { p->context - 1, 1, true, false } },
	};
	uint32_t tokens[FLM_CHUNK_MAX];

	for (uint32_t i = 0; i < FLM_CHUNK_MAX; i++)
		tokens[i] = 7 * i % l->vocab;
	pass_card(l, p->card->buffer_bytes);
	for (int i = 0; i < 5; i++) {
		l->kv = passes[entry][i].kv;
		if (pass_run(l, entry, tokens, passes[entry][i].tokens, passes[entry][i].sample,
			     passes[entry][i].every) < 0) {
			fflush(stdout);
			_exit(1);
		}
	}
	_exit(0);
}

/* Changes one word of program and file. Returns whether the card runs what the checker accepts. */
static bool blind(struct plan *p, struct loaded *l, unsigned int *accepted)
{
	unsigned int entry = draw(ENTRIES), unit = draw(FLM_UNITS);
	const struct flm_stream *s = &l->program->entry[entry].stream[unit];
	uint32_t *words = p->streams[entry][unit].words, at = draw(p->streams[entry][unit].count);
	uint32_t *file = (uint32_t *)((uint8_t *)l->program + le32toh(s->offset));
	uint32_t old = words[at];
	int status = 0;
	pid_t child;

	change(&words[at]);
	if (words[at] != old && !verdict(p)) {
		(*accepted)++;
		file[at] = htole32(words[at]);
		fflush(stdout);
		child = fork();
		if (!child)
			run_on_card(l, p, entry);
		if (child < 0 || waitpid(child, &status, 0) < 0)
			status = -1;
		file[at] = htole32(old);
	}
	if (status)
		printf("# entry %u, unit %u, word %u: 0x%08x instead of 0x%08x\n", entry, unit, at,
		       words[at], old);
	words[at] = old;
	return !status;
}

static void check_blind(struct plan *p, const char *path)
{
	unsigned int accepted = 0, faulty = 0;
	struct loaded l;

	pass_load(&l, path, p->card->buffer_bytes);
	/* The accepted program may need more instructions than the one in the file. */
	((struct flm_program *)l.program)->watchdog = htole64(1 << 30);
	for (int i = 0; i < BLIND; i++)
		faulty += !blind(p, &l, &accepted);
	ok(accepted > BLIND / 10 && !faulty,
	   "of %d changed programs the card runs all %u that are accepted", BLIND, accepted);
	pass_unload(&l);
}

/* MM has nothing to do for a token: its stream of entry 1 is an END, or this and an END. */
static void check_foreign(struct plan *p)
{
	struct stream *mm = &p->streams[1][FLM_UNIT_MM], old = *mm;
	uint32_t words[FLM_WORDS_MAX + 1];
	static const struct {
		const char *text;
		int verdict;
	} rows[] = {
		{ "sync", 0 }, { "mm.pv dim=1", 0 }, { "sync wait=mm", 9 }, { "sync wait=ld", 9 },
		{ "sync release=ld", 9 }, { "misc.fill", 9 }, { "mv.pv dim=1", 9 },
		{ "ld rows=0/0", 9 }, { "barrier", 9 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char error[FLM_TEXT_BYTES];
		int n = flm_isa_parse(rows[i].text, words, FLM_WORDS_MAX, error);

		words[n] = (uint32_t)FLM_OP_END << FLM_HEAD_OP_LO;
		mm->words = words;
		mm->count = n + 1;
		ok(n > 0 && verdict(p) == rows[i].verdict, "'%s' in MM's stream is %s",
		   rows[i].text, rows[i].verdict ? "rejected" : "accepted");
	}
	*mm = old;
}

int main(void)
{
	char path[] = "/tmp/flightllm-verify.XXXXXX";
	uint32_t *copy[ENTRIES * FLM_UNITS] = { NULL };
	unsigned int tried = 0;
	struct plan *p;
	int fd = mkstemp(path);

	if (fd < 0)
		err(1, "%s", path);
	close(fd);
	p = build(card_find("tiny"), "tiny", path);
	ok(verdict(p) == 0, "the program as it was emitted is accepted");
	check_foreign(p);
	save(p, copy, false);
	while (tried < MUTATIONS) {
		const char *what = mutate(p, draw(15));

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
	check_blind(p, path);
	unlink(path);
	for (int i = 0; i < ENTRIES * FLM_UNITS; i++)
		free(copy[i]);
	checkpoint_close(p->checkpoint);
	free((void *)p->options);
	free(p);
	return done_testing();
}
