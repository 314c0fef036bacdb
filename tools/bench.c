// SPDX-License-Identifier: MIT
/*
 * flightllm bench: prompt processing (ppN) and text generation (tgN) in tokens a second, with the
 * names that people know from llama-bench. Tokens are random: speed does not depend on them.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "tools/tool.h"

static const char help[] =
	"Usage: flightllm bench MODEL.flm [OPTION]...\n"
	"Measures prompt processing (pp) and generation (tg) in tokens a second.\n\n"
	"  -p N                 prompt tokens (default 512, at most what fits the context; 0: skip)\n"
	"  -n N                 tokens to generate (default 128; 0: skip)\n"
	"  -r N                 repetitions (default 5), after one that is not counted\n"
	"  -d, --device CARD    number, node or PCI address (default: $FLIGHTLLM_DEVICE, or the first)\n"
	"      --emulate[=CARD] a card inside this process instead\n"
	"      --json           one JSON object instead of text\n"
	"  -h, --help, -V, --version\n";

static const struct option options[] = { CARD_OPTIONS, { 0 } };

#define RUNS_MAX 100

struct series {
	char name[16];
	double rate[RUNS_MAX];		/* tokens a second, ascending when printed */
	double mean, deviation;
};

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;

	return (x > y) - (x < y);
}

static void measure(const struct common *common, struct flm_model *model, unsigned int prompt,
		    unsigned int generate, unsigned int runs, struct series *series)
{
	struct flm_model_info info;
	unsigned int count = generate ? 1 : prompt;
	uint32_t *tokens = calloc(count, sizeof(*tokens));
	double sum = 0, squares = 0;
	int ret;

	flm_model_info(model, &info);
	for (unsigned int i = 0; tokens && i < count; i++)
		tokens[i] = (i * 2654435761u >> 8) % info.vocab;
	for (unsigned int r = 0; r <= runs; r++) {
		struct flm_request request = { .tokens = tokens, .count = count,
					       .generate = generate };
		struct flm_session *session;
		struct flm_result result;
		double start;

		ret = flm_session_new(model, NULL, &session);
		if (ret)
			fail_flm(common, ret);
		start = now_seconds();
		ret = flm_session_generate(session, &request, &result);
		if (ret)
			fail_flm(common, ret);
		if (r) {
			double rate = (generate ? generate : prompt) / (now_seconds() - start);

			series->rate[r - 1] = rate;
			sum += rate;
			squares += rate * rate;
		}
		flm_session_free(session);
	}
	series->mean = sum / runs;
	series->deviation = runs > 1 ?
		sqrt(fmax(0, (squares - sum * sum / runs) / (runs - 1))) : 0;
	snprintf(series->name, sizeof(series->name), generate ? "tg%u" : "pp%u",
		 generate ? generate : prompt);
	qsort(series->rate, runs, sizeof(series->rate[0]), by_value);
	free(tokens);
}

static int bench_main(int argc, char **argv)
{
	struct common common = { .command = &bench_command };
	unsigned int prompt = 512, generate = 128, runs = 5, count = 0;
	struct flm_model_info info;
	struct flm_device *device;
	struct flm_model *model;
	struct series series[2];
	int option;

	while ((option = next_option(&common, argc, argv, "p:n:r:d:", options)) != -1) {
		switch (option) {
		case 'p': prompt = parse_count(&common, "-p", optarg, 0, 1 << 20); break;
		case 'n': generate = parse_count(&common, "-n", optarg, 0, 1 << 20); break;
		case 'r': runs = parse_count(&common, "-r", optarg, 1, RUNS_MAX); break;
		default: common_option(&common, option);
		}
	}
	if (argc - optind != 1)
		fail(&common, EXIT_USAGE, "takes one model file; 'flightllm bench --help' says more");
	if (!prompt && !generate)
		fail(&common, EXIT_USAGE, "-p 0 and -n 0 leave nothing to measure; give one of them");
	device = open_device(&common, argv[optind]);
	model = load_model(&common, device, argv[optind], false);
	flm_model_info(model, &info);
	if (prompt > info.context)
		prompt = info.context;
	if (generate > info.context - 1)
		generate = info.context - 1;
	if (prompt)
		measure(&common, model, prompt, 0, runs, &series[count++]);
	if (generate)
		measure(&common, model, 1, generate, runs, &series[count++]);
	if (common.json) {
		json_t *tests = json_array();

		for (unsigned int i = 0; i < count; i++)
			json_array_append_new(tests, json_pack("{s:s, s:f, s:f, s:f}", "test",
				series[i].name, "tokens_per_s", series[i].mean, "median_tokens_per_s",
				series[i].rate[runs / 2], "deviation", series[i].deviation));
		print_json(json_pack("{s:o, s:o, s:i, s:o}", "model", json_text(info.name),
				     "card", json_text(info.card), "runs", (int)runs,
				     "tests", tests));
	} else {
		printf("| %-24s | %-8s | %-8s | %18s | %10s |\n", "model", "card", "test",
		       "t/s", "median");
		printf("|--------------------------|----------|----------|-------------------:|-----------:|\n");
		for (unsigned int i = 0; i < count; i++)
			printf("| %-24s | %-8s | %-8s | %9.2f +- %5.2f | %10.2f |\n", info.name,
			       info.card, series[i].name, series[i].mean, series[i].deviation,
			       series[i].rate[runs / 2]);
	}
	flm_model_free(model);
	flm_device_close(device);
	return EXIT_DONE;
}

const struct command bench_command = {
	"bench", "measure tokens a second", help, bench_main,
};
