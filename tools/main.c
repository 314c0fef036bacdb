// SPDX-License-Identifier: MIT
/* flightllm: one command, one file a sub-command. This file only finds the right one. */
#include <string.h>

#include "tools/tool.h"

static const struct command *const commands[] = {
	&run_command, &list_command, &info_command, &bench_command, &perplexity_command,
	&dis_command,
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void usage(FILE *to)
{
	fputs("Usage: flightllm COMMAND [OPTION]...\n"
	      "Language models on a FlightLLM card, or on the emulated one with --emulate.\n\n",
	      to);
	for (size_t i = 0; i < COUNT(commands); i++)
		fprintf(to, "  %-12s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\n'flightllm COMMAND --help' tells the options of one.\n"
	      "Exit status: 0 done, 1 failed, 2 usage, 3 no device, 4 permission, 5 busy, 6 timeout,\n"
	      "7 card lost, 8 version, 9 verification failed.\n", to);
}

int main(int argc, char **argv)
{
	if (argc < 2) {
		usage(stderr);
		return EXIT_USAGE;
	}
	if (!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h") || !strcmp(argv[1], "help")) {
		usage(stdout);
		return EXIT_DONE;
	}
	if (!strcmp(argv[1], "--version")) {
		puts("flightllm " FLM_VERSION);
		return EXIT_DONE;
	}
	for (size_t i = 0; i < COUNT(commands); i++)
		if (!strcmp(argv[1], commands[i]->name))
			return commands[i]->run(argc - 1, argv + 1);
	fprintf(stderr, "flightllm: '%s' is no command; 'flightllm --help' lists them\n", argv[1]);
	return EXIT_USAGE;
}
