// SPDX-License-Identifier: MIT
/*
 * ref_main MODEL.flm TOKEN... [-n N] [--logits FILE]: feeds tokens to the reference model, prints
 * the ids of N generated ones on one line, and writes the raw float32 logits of every position it
 * fed.
 */
#include <err.h>
#include <getopt.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>

#include "tests/ref/ref_model.h"

static const char usage[] =
	"usage: ref_main [option...] MODEL.flm TOKEN...\n"
	"  -n N             tokens to generate (0)\n"
	"  --logits FILE    write the float32 logits of every position fed\n"
	"  --temp T         temperature (0: the greatest logit)\n"
	"  --top-k K --top-p P --min-p P --seed S   the sampler's other values (off)\n"
	"  --candidates K   that the sampler chooses from (1024)\n"
	"  --eos            stop behind a token that ends a text\n";

static uint64_t number(const char *text, const char *what, uint64_t max)
{
	unsigned long long value;
	char *end;

	value = strtoull(text, &end, 0);
	if (end == text || *end || *text == '-' || value > max)
		errx(2, "%s '%s' is not a number from 0 to %llu", what, text,
		     (unsigned long long)max);
	return value;
}

static float real(const char *text, const char *what)
{
	char *end;
	float value = strtof(text, &end);

	if (end == text || *end)
		errx(2, "%s '%s' is not a number", what, text);
	return value;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {
		{ "logits", required_argument, NULL, 'l' },
		{ "temp", required_argument, NULL, 't' },
		{ "top-k", required_argument, NULL, 'k' },
		{ "top-p", required_argument, NULL, 'p' },
		{ "min-p", required_argument, NULL, 'm' },
		{ "seed", required_argument, NULL, 's' },
		{ "candidates", required_argument, NULL, 'c' },
		{ "eos", no_argument, NULL, 'e' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL, 0, NULL, 0 },
	};
	struct ref_model_sampler sampler = { 0 };
	uint32_t n = 0, candidates = 1024, prompt, position, token, next = 0;
	const char *logits_path = NULL;
	bool stop_at_eos = false;
	struct ref_model *model;
	FILE *out = NULL;
	char error[256];
	float *logits;
	int c;

	while ((c = getopt_long(argc, argv, "n:h", options, NULL)) != -1) {
		switch (c) {
		case 'n':
			n = number(optarg, "-n", UINT32_MAX);
			break;
		case 'l':
			logits_path = optarg;
			break;
		case 't':
			sampler.temperature = real(optarg, "--temp");
			break;
		case 'k':
			sampler.top_k = number(optarg, "--top-k", UINT32_MAX);
			break;
		case 'p':
			sampler.top_p = real(optarg, "--top-p");
			break;
		case 'm':
			sampler.min_p = real(optarg, "--min-p");
			break;
		case 's':
			sampler.seed = number(optarg, "--seed", UINT64_MAX);
			break;
		case 'c':
			candidates = number(optarg, "--candidates", 1024);
			if (!candidates)
				errx(2, "--candidates must be at least 1");
			break;
		case 'e':
			stop_at_eos = true;
			break;
		case 'h':
			fputs(usage, stdout);
			return 0;
		default:
			fputs(usage, stderr);
			return 2;
		}
	}
	if (argc - optind < 2) {
		fputs(usage, stderr);
		return 2;
	}
	if (ref_model_open(argv[optind], &model, error))
		errx(1, "%s: %s", argv[optind], error);
	prompt = argc - optind - 1;
	logits = calloc(ref_model_vocab(model), sizeof(*logits));
	if (!logits)
		err(1, "logits");
	if (logits_path) {
		out = fopen(logits_path, "wb");
		if (!out)
			err(1, "%s", logits_path);
	}
	/* Positions 0 .. prompt - 1 are given, each later one is the token chosen before it. */
	for (position = 0; position < prompt || n; position++) {
		token = position < prompt ? number(argv[optind + 1 + position], "token", UINT32_MAX)
					  : next;
		if (ref_model_logits(model, token, position, logits))
			errx(1, "token %u at position %u: the model has %u tokens and %u positions",
			     token, position, ref_model_vocab(model), ref_model_context(model));
		if (out && fwrite(logits, sizeof(*logits), ref_model_vocab(model), out) !=
			   ref_model_vocab(model))
			err(1, "%s", logits_path);
		if (!n || position + 1 < prompt)
			continue;
		next = ref_model_sample(model, logits, &sampler, position + 1, candidates);
		printf("%s%u", position + 1 > prompt ? " " : "", next);
		n--;
		if (stop_at_eos && ref_model_is_eos(model, next))
			n = 0;
		if (!n)
			putchar('\n');
		if (!n)
			break;
	}
	if (out && fclose(out))
		err(1, "%s", logits_path);
	free(logits);
	ref_model_close(model);
	return 0;
}
