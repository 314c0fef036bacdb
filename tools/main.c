// SPDX-License-Identifier: MIT
/* flightllm: one command, one file a sub-command. This file only finds the right one. */
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "tools/tool.h"

static const struct command *const commands[] = {
	&run_command, &list_command, &info_command, &bench_command, &perplexity_command,
	&dis_command,
};

#define COUNT(array) (sizeof(array) / sizeof((array)[0]))

static void usage(void)
{
	fputs("Usage: flightllm COMMAND [OPTION]...\n"
	      "Language models on a FlightLLM card, or on the emulated one with --emulate.\n\n",
	      stdout);
	for (size_t i = 0; i < COUNT(commands); i++)
		printf("  %-12s %s\n", commands[i]->name, commands[i]->summary);
	fputs("\n'flightllm COMMAND --help' lists a command's options, 'flightllm --version' tells the release.\n"
	      "Exit status: 0 done, 1 failed, 2 usage, 3 no device, 4 permission, 5 busy, 6 timeout,\n"
	      "7 card lost, 8 version, 9 verification failed.\n", stdout);
}

/*
 * A device that is opened must not get the number of a standard stream that is closed. What takes
 * its place is opened the wrong way round, so that using the stream fails as before.
 */
static void keep_streams(void)
{
	for (int fd = 0; fd <= STDERR_FILENO; fd++)
		if (fcntl(fd, F_GETFD) < 0)
			open("/dev/null", fd ? O_RDONLY : O_WRONLY);
}

static const struct command *find(const char *name)
{
	for (size_t i = 0; i < COUNT(commands); i++)
		if (!strcmp(name, commands[i]->name))
			return commands[i];
	return NULL;
}

int main(int argc, char **argv)
{
	struct common common = { 0 };
	const char *word = argc > 1 ? argv[1] : "";
	int status = EXIT_DONE;

	keep_streams();
	common.command = find(word);
	if (common.command)
		status = common.command->run(argc - 1, argv + 1);
	else if (!strcmp(word, "--help") || !strcmp(word, "-h") || !strcmp(word, "help"))
		usage();
	else if (!strcmp(word, "--version") || !strcmp(word, "-V"))
		puts("flightllm " FLM_VERSION);
	else if (argc < 2)
		fail(&common, EXIT_USAGE, "a command is missing; 'flightllm --help' lists them");
	else
		fail(&common, EXIT_USAGE, "unknown command '%s'; 'flightllm --help' lists those known",
		     word);
	if (status == EXIT_DONE)
		check_stdout(&common);
	return status;
}
