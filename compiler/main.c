// SPDX-License-Identifier: MIT
/*
 * flightllm-cc: a model in, a program file for a FlightLLM card out. Options here, and the list
 * of passes in compile(); each pass can be printed with -d.
 */
#include <ctype.h>
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "compiler/cc.h"

#define ROTATION(name, number, text, meaning) " " text
static const char rotation_list[] =
#include <flightllm/names.def>
;

static const char usage[] =
"Usage: flightllm-cc MODEL -o OUT.flm [options]\n"
"       flightllm-cc --synthetic SHAPE[:SEED] -o OUT.flm [options]\n"
"Compiles a language model (a directory with config.json, model.safetensors or its shards, and\n"
"tokenizer.model) for a FlightLLM card.\n"
"\n"
"  -o, --output FILE      the file to write\n"
"      --card NAME        %s (default u280)\n"
"      --weights FORMAT   w8 or w4: bits of a weight (default w8)\n"
"      --hadamard BLOCKS  none, auto, or NAME=BLOCK,... with NAME one of%s\n"
"                         and BLOCK 16, 32, 64: rotate these inputs before they are quantised;\n"
"                         auto takes the largest block that divides an input (default auto)\n"
"      --context N        positions to keep (default: the model's,\n"
"                         or as many as the card holds)\n"
"      --synthetic SHAPE  weights made from a seed: %s\n"
"  -d, --dump PASS        print the result of graph, fuse, tile, place, emit, or all\n"
"      --threads N        (default: one a processor)\n"
"      --json             a line of JSON about the result\n"
"      --no-progress      no progress bar\n"
"  -h, --help\n"
"  -V, --version\n";

enum {
	OPTION_CARD = 256,
	OPTION_WEIGHTS,
	OPTION_HADAMARD,
	OPTION_CONTEXT,
	OPTION_SYNTHETIC,
	OPTION_THREADS,
	OPTION_JSON,
	OPTION_QUIET,
};

static const struct option long_options[] = {
	{ "output", required_argument, NULL, 'o' },
	{ "card", required_argument, NULL, OPTION_CARD },
	{ "weights", required_argument, NULL, OPTION_WEIGHTS },
	{ "hadamard", required_argument, NULL, OPTION_HADAMARD },
	{ "context", required_argument, NULL, OPTION_CONTEXT },
	{ "synthetic", required_argument, NULL, OPTION_SYNTHETIC },
	{ "dump", required_argument, NULL, 'd' },
	{ "threads", required_argument, NULL, OPTION_THREADS },
	{ "json", no_argument, NULL, OPTION_JSON },
	{ "no-progress", no_argument, NULL, OPTION_QUIET },
	{ "help", no_argument, NULL, 'h' },
	{ "version", no_argument, NULL, 'V' },
	{ NULL, 0, NULL, 0 },
};

static uint64_t number(const char *option, const char *text, uint64_t min, uint64_t max)
{
	int base = text[0] == '0' && (text[1] == 'x' || text[1] == 'X') ? 16 : 10;
	unsigned long long n;
	char *end;

	errno = 0;
	n = strtoull(text, &end, base);		/* 010 is ten */
	if (errno || !isdigit((unsigned char)*text) || *end || n < min || n > max)
		die_with(EXIT_USAGE, "%s %s: must be a number from %llu to %llu", option, text,
			 (unsigned long long)min, (unsigned long long)max);
	return n;
}

static void parse_hadamard(struct options *o, const char *text)
{
	uint32_t all = !strcmp(text, "auto") ? HADAMARD_AUTO : 0;
	char *list = arena_printf("%s", text), *item, *rest = NULL;

	for (int i = 0; i < ROTATIONS; i++)
		o->hadamard[i] = all;
	if (all || !strcmp(text, "none"))
		return;
	for (item = strtok_r(list, ",", &rest); item; item = strtok_r(NULL, ",", &rest)) {
		char *block = strchr(item, '=');
		int which = -1;

		if (block)
			*block++ = 0;
		for (int i = 0; i < ROTATIONS; i++)
			if (!strcmp(item, rotation_names[i]))
				which = i;
		if (which < 0 || !block)
			die_with(EXIT_USAGE, "--hadamard %s: must be none, auto, or NAME=BLOCK with NAME one of%s",
				 text, rotation_list);
		o->hadamard[which] = number("--hadamard", block, 0, 64);
		if (o->hadamard[which] & (o->hadamard[which] - 1) ||
		    (o->hadamard[which] && o->hadamard[which] < 16))
			die_with(EXIT_USAGE, "--hadamard %s: blocks are 16, 32, 64, or 0 for none",
				 text);
	}
}

static void parse_synthetic(struct options *o, const char *text)
{
	char *name = arena_printf("%s", text), *seed = strchr(name, ':');

	if (seed) {
		*seed++ = 0;
		o->seed = number("--synthetic NAME:", seed, 0, UINT64_MAX);
	}
	o->synthetic = name;
}

static void parse_dump(struct options *o, const char *text)
{
	const char *const passes = " graph fuse tile place emit all ";

	if (strchr(text, ' ') || !strstr(passes, arena_printf(" %s ", text)))
		die_with(EXIT_USAGE, "-d %s: no such pass; there are%s", text, passes);
	o->dump = text;
}

static void parse_card(struct options *o, const char *text)
{
	o->card = card_find(text);
	if (!o->card)
		die_with(EXIT_USAGE, "--card %s: unknown card; known: %s", text, card_names());
}

static void parse(struct options *o, int argc, char **argv)
{
	int option;

	opterr = 0;
	while ((option = getopt_long(argc, argv, "o:d:hV", long_options, NULL)) != -1) {
		switch (option) {
		case 'o':
			o->out = optarg;
			break;
		case 'd':
			parse_dump(o, optarg);
			break;
		case OPTION_CARD:
			parse_card(o, optarg);
			break;
		case OPTION_WEIGHTS:
			if (strcmp(optarg, "w8") && strcmp(optarg, "w4"))
				die_with(EXIT_USAGE, "--weights %s: must be w8 or w4", optarg);
			o->width = optarg[1] - '0';
			break;
		case OPTION_HADAMARD:
			parse_hadamard(o, optarg);
			break;
		case OPTION_CONTEXT:
			o->context = number("--context", optarg, 1, FLM_VALUE_MAX - 1);
			break;
		case OPTION_SYNTHETIC:
			parse_synthetic(o, optarg);
			break;
		case OPTION_THREADS:
			o->threads = number("--threads", optarg, 1, 256);
			break;
		case OPTION_JSON:
			o->json = true;
			break;
		case OPTION_QUIET:
			o->quiet = true;
			break;
		case 'h':
			printf(usage, card_names(), rotation_list, checkpoint_synthetic_shapes());
			finish();
		case 'V':
			printf("flightllm-cc %s\n", CC_VERSION);
			finish();
		default:
			die_with(EXIT_USAGE, "%s: unknown option, or its argument is missing; see --help",
				 argv[MAX(optind - 1, 1)]);
		}
	}
	if (optind < argc)
		o->model = argv[optind++];
	if (optind < argc)
		die_with(EXIT_USAGE, "%s: one model at a time; see --help", argv[optind]);
	if (!o->model == !o->synthetic)
		die_with(EXIT_USAGE, "name a model directory or --synthetic, one of them; see --help");
	if (!o->out && !o->dump)
		die_with(EXIT_USAGE, "-o OUT.flm is missing; see --help");
}

/* The command line, without options that do not change the file: output, threads, display. */
static const char *command_line(const struct options *o)
{
	char *text = o->synthetic ?
		arena_printf("flightllm-cc --synthetic %s:%llu", o->synthetic,
			     (unsigned long long)o->seed) :
		arena_printf("flightllm-cc %s", o->model);

	text = arena_printf("%s --card %s --weights w%u", text, o->card->name, o->width);
	for (int i = 0; i < ROTATIONS; i++) {
		if (o->hadamard[i] == HADAMARD_AUTO)
			return arena_printf("%s --hadamard auto%s", text, o->context ?
					    arena_printf(" --context %u", o->context) : "");
		text = arena_printf("%s%s%s=%u", text, i ? "," : " --hadamard ", rotation_names[i],
				    o->hadamard[i]);
	}
	return o->context ? arena_printf("%s --context %u", text, o->context) : text;
}

static void open_model(struct plan *p)
{
	const struct options *o = p->options;
	int ret;

	if (o->synthetic)
		ret = checkpoint_synthetic(o->synthetic, o->seed, NULL, 0, &p->checkpoint);
	else
		ret = checkpoint_open(o->model, NULL, 0, &p->checkpoint);
	if (ret == -EINVAL && o->synthetic)
		die_with(EXIT_USAGE, "%s", checkpoint_error());
	if (ret)
		die_checkpoint(ret);
	p->config = checkpoint_config(p->checkpoint);
	p->context = o->context ? o->context : p->config->context;
	if (p->context > p->config->context)
		die("--context %u: the model was made for at most %u positions; take fewer",
		    p->context, p->config->context);
}

static void after(const struct plan *p, const char *pass)
{
	const char *wanted = p->options->dump;

	if (wanted && (!strcmp(wanted, pass) || !strcmp(wanted, "all")))
		dump_pass(p, pass);
}

/* A context that nobody asked for is cut to what the card holds, and that is said. */
static void map(struct plan *p)
{
	uint32_t context;

	do {
		context = p->context;
		tile_run(p);
		place_run(p);
	} while (p->context != context);
	if (!p->options->context && context < p->config->context)
		fprintf(stderr, "flightllm-cc: a context of %u, as much as card %s holds with %u tokens a pass; the model's is %u\n",
			context, p->card->name, p->chunk, p->config->context);
	after(p, "tile");
	after(p, "place");
}

static void compile(struct plan *p)
{
	open_model(p);
	graph_build(p);
	graph_check(p, "graph");
	after(p, "graph");
	fuse_run(p);
	after(p, "fuse");
	map(p);
	emit_run(p);
	after(p, "emit");
	verify_run(p);
	if (p->options->out)
		write_run(p);
}

static void report(const struct plan *p, double seconds)
{
	uint64_t entry[ENTRIES] = { 0 };
	struct rusage use;
	char text[32];

	for (int i = 0; i < ENTRIES * FLM_UNITS; i++)
		entry[i / FLM_UNITS] += 4ull * p->streams[i / FLM_UNITS][i % FLM_UNITS].count;
	getrusage(RUSAGE_SELF, &use);
	if (p->options->json)
		printf("{\"file\": %s, \"bytes\": %llu, \"bits\": %.4f, \"chunk\": %u, \"prefill_bytes\": %llu, \"decode_bytes\": %llu, \"watchdog\": %llu, \"parameters\": %llu, \"seconds\": %.3f, \"peak_bytes\": %llu}\n",
		       json_text(p->options->out), (unsigned long long)p->file_bytes, p->bits,
		       p->chunk, (unsigned long long)entry[0], (unsigned long long)entry[1],
		       (unsigned long long)p->watchdog,
		       (unsigned long long)checkpoint_parameters(p->checkpoint), seconds,
		       1024ull * use.ru_maxrss);
	else
		printf("%s: %s, %.2f bits a weight, streams of %llu bytes a chunk and %llu a token, %.1f s\n",
		       p->options->out, bytes_text(p->file_bytes, text), p->bits,
		       (unsigned long long)entry[0], (unsigned long long)entry[1], seconds);
}

int main(int argc, char **argv)
{
	struct options *options = arena(sizeof(*options));
	struct plan *plan = arena(sizeof(*plan));
	struct timespec start, end;
	long cpus = sysconf(_SC_NPROCESSORS_ONLN);

	options->card = card_find("u280");
	options->width = 8;
	/* Halves the divergence from float32 at 8 bits: 4.5e-4 for 8.7e-4 nats on fables-3m. */
	for (int i = 0; i < ROTATIONS; i++)
		options->hadamard[i] = HADAMARD_AUTO;
	options->threads = cpus < 1 ? 1 : MIN(cpus, 256);
	parse(options, argc, argv);
	options->command = command_line(options);
	plan->options = options;
	plan->card = options->card;
	clock_gettime(CLOCK_MONOTONIC, &start);
	compile(plan);
	clock_gettime(CLOCK_MONOTONIC, &end);
	if (options->out)
		report(plan, end.tv_sec - start.tv_sec + 1e-9 * (end.tv_nsec - start.tv_nsec));
	checkpoint_close(plan->checkpoint);
	finish();
}
