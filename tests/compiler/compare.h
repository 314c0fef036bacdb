/* SPDX-License-Identifier: MIT */
/*
 * From a model to logits in two ways: through compiler and card, and by ref_model. They are
 * compared as bits, with the prompt in one piece and cut unevenly, then token by token.
 */
#ifndef TESTS_COMPILER_COMPARE_H
#define TESTS_COMPILER_COMPARE_H

#include <stdio.h>

#include "compiler/cc.h"
#include "lib/checkpoint/checkpoint.h"
#include "tests/compiler/pass.h"
#include "tests/ref/ref_model.h"
#include "tests/tap.h"

/* Compiles as main() of flightllm-cc does. */
static void compile(struct options *options, struct plan *p)
{
	char error[CHECKPOINT_ERROR_BYTES];
	int ret;

	options->command = "test";
	options->threads = 2;
	options->quiet = true;
	p->options = options;
	p->card = options->card;
	if (options->synthetic)
		ret = checkpoint_synthetic(options->synthetic, options->seed, error, sizeof(error),
					   &p->checkpoint);
	else
		ret = checkpoint_open(options->model, error, sizeof(error), &p->checkpoint);
	if (ret)
		errx(1, "%s", error);
	p->config = checkpoint_config(p->checkpoint);
	p->context = options->context ? options->context : p->config->context;
	graph_build(p);
	fuse_run(p);
	tile_run(p);
	place_run(p);
	emit_run(p);
	verify_run(p);
	write_run(p);
	checkpoint_close(p->checkpoint);
}

/* The first of the greatest logits of a position. */
static int64_t greatest(const struct loaded *l, uint32_t position)
{
	const float *logits = l->logits + (size_t)position * l->vocab;
	uint32_t best = 0;

	for (uint32_t i = 1; i < l->vocab; i++)
		if (logits[i] > logits[best])
			best = i;
	return best;
}

/*
 * Chunks of these sizes, over and over, then single tokens. Returns positions whose logits
 * differ.
 */
static unsigned int differences(struct loaded *l, struct ref_model *ref, const uint32_t *tokens,
				uint32_t prompt, uint32_t all, const uint32_t *chunks,
				int chunk_count)
{
	float *want = calloc(l->vocab, sizeof(*want));
	unsigned int wrong = 0;
	uint32_t at = 0;
	int64_t next = 0;
	bool right = true;

	l->kv = 0;
	memset(l->logits, 0xff, 4ull * l->context * l->vocab);
	for (int i = 0; at < prompt && next >= 0; i++) {
		uint32_t n = MIN(MIN(chunks[i % chunk_count], l->chunk), prompt - at);

		next = pass_run(l, 0, tokens + at, n, at + n == prompt, true);
		at += n;
		right &= at < prompt || next < 0 || next == greatest(l, at - 1);
	}
	for (; at < all && next >= 0; at++) {
		next = pass_run(l, 1, tokens + at, 1, true, false);
		right &= next < 0 || next == greatest(l, at);
	}
	if (next < 0)
		return all;
	if (!right)
		printf("# a sampled token is not the one with the greatest logit\n");
	ref_model_reset(ref);
	for (uint32_t p = 0; p < all; p++) {
		const float *got = l->logits + (size_t)p * l->vocab;

		ref_model_logits(ref, tokens[p], p, want);
		if (memcmp(want, got, 4 * l->vocab)) {
			if (!wrong)
				printf("# position %u: logit 0 is %g, should be %g\n", p, got[0],
				       want[0]);
			wrong++;
		}
	}
	free(want);
	return wrong + !right;
}

static void compare(const char *path, const struct card *card, uint32_t most, const char *what)
{
	static const uint32_t whole[] = { 128 }, uneven[] = { 1, 17, 64, 3 };
	struct ref_model *ref;
	struct loaded l;
	uint32_t *tokens, all, prompt;
	char error[256];
	unsigned int wrong;

	pass_load(&l, path, card->buffer_bytes);
	if (!ok(!ref_model_open(path, &ref, error), "%s: the reference reads it%s%s", what, "", ""))
		errx(1, "%s", error);
	all = MIN(most, l.context);
	prompt = all * 2 / 3 + (all == 1);
	tokens = calloc(all, sizeof(*tokens));
	for (uint32_t i = 0; i < all; i++)
		tokens[i] = i ? (tokens[i - 1] * 1103515245u + 12345 + i) % l.vocab : 1 % l.vocab;
	wrong = differences(&l, ref, tokens, prompt, all, whole, 1);
	ok(!wrong, "%s: %u logits rows of %u tokens equal the reference", what, all - wrong, all);
	wrong = differences(&l, ref, tokens, prompt, all, uneven, 4);
	ok(!wrong, "%s: a prompt cut unevenly gives the same bits (%u of %u)", what, all - wrong,
	   all);
	free(tokens);
	ref_model_close(ref);
	pass_unload(&l);
}

static void compile_and_compare(struct options options, uint32_t most, const char *what)
{
	char dir[] = "/tmp/flightllm-cc.XXXXXX";
	struct plan *plan = calloc(1, sizeof(*plan));
	char *path;

	if (!mkdtemp(dir))
		err(1, "%s", dir);
	path = arena_printf("%s/model.flm", dir);
	options.out = path;
	compile(&options, plan);
	compare(path, plan->card, most, what);
	unlink(path);
	rmdir(dir);
	free(plan);
}

#endif
