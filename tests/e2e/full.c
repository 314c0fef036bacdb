// SPDX-License-Identifier: MIT
/*
 * full STATUS COMMAND [ARGUMENT...]: fills the memory of a card `tiny` to the last block and claims
 * what the library then says. While all HBM is taken it runs COMMAND, which must end with STATUS.
 * A second client has a buffer all the while, and keeps it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lib/flightllm.h"
#include "tests/tap.h"

#define MIB		(1u << 20)
#define BUFFERS_MAX	64

static struct flm_device *device;
static struct flm_bo *held[BUFFERS_MAX];
static unsigned int count;

/* Free bytes of hbm0, hbm1 and ddr. */
static void ask_free(uint64_t bytes[3])
{
	struct flm_device_info info;

	flm_device_info(device, &info);
	for (unsigned int i = 0; i < 3; i++)
		bytes[i] = info.region[i].free_bytes;
}

/* Takes buffers of so many MiB while there are; why there are no more. */
static int take(enum flm_placement place, unsigned int core, uint64_t mib)
{
	int ret;

	do
		ret = count < BUFFERS_MAX ? flm_bo_new(device, place, core, mib * MIB,
						       &held[count]) : -ENOBUFS;
	while (!ret && ++count);
	return ret;
}

static void give_back(void)
{
	while (count)
		flm_bo_free(held[--count]);
}

static void expect_full(enum flm_placement place, unsigned int core, uint64_t mib,
			const char *words)
{
	int ret = take(place, core, mib);

	ok(ret == -ENOSPC && !strcmp(flm_error(), words), "%s", flm_error());
}

static void run(char **command, int want)
{
	pid_t child;
	int status;

	fflush(stdout);
	child = fork();
	if (!child) {
		execvp(command[0], command);
		_exit(127);
	}
	ok(child > 0 && waitpid(child, &status, 0) == child && WIFEXITED(status) &&
	   WEXITSTATUS(status) == want, "meanwhile a program ends with status %d", want);
}

int main(int argc, char **argv)
{
	uint8_t *pattern = malloc(2 * MIB), *read = malloc(2 * MIB);
	uint64_t before[3], full[3], after[3];
	struct flm_device *neighbour;
	struct flm_bo *own;

	if (argc < 3 || !pattern || !read) {
		fprintf(stderr, "usage: full STATUS COMMAND [ARGUMENT...]\n");
		return 2;
	}
	for (unsigned int i = 0; i < 2 * MIB; i++)
		pattern[i] = i * 7 + i / 251;
	if (flm_device_open(NULL, &device) || flm_device_open(NULL, &neighbour) ||
	    flm_bo_new(neighbour, FLM_BO_HBM, 0, 2 * MIB, &own) ||
	    flm_bo_write(own, 0, pattern, 2 * MIB)) {
		printf("Bail out! %s\n", flm_error());
		return 1;
	}
	ask_free(before);
	expect_full(FLM_BO_DDR, 0, 4,
		    "DDR is full: 4.2 MB wanted, 0.0 of 33.6 MB free, 0.0 in one piece; "
		    "end other programs on the card, or use a smaller model or context");
	give_back();
	expect_full(FLM_BO_HBM, 0, 8,
		    "HBM of core 0 is full: 8.4 MB wanted, 6.3 of 33.6 MB free, 6.3 in one piece; "
		    "end other programs on the card, or use a smaller model or context");
	expect_full(FLM_BO_HBM, 0, 2,
		    "HBM of core 0 is full: 2.1 MB wanted, 0.0 of 33.6 MB free, 0.0 in one piece; "
		    "end other programs on the card, or use a smaller model or context");
	expect_full(FLM_BO_HBM, 1, 2,
		    "HBM of core 1 is full: 2.1 MB wanted, 0.0 of 33.6 MB free, 0.0 in one piece; "
		    "end other programs on the card, or use a smaller model or context");
	flm_bo_free(held[1]);
	held[1] = held[--count];
	expect_full(FLM_BO_HBM, 0, 16,
		    "HBM of core 0 is full: 16.8 MB wanted, 8.4 of 33.6 MB free, 8.4 in one piece; "
		    "end other programs on the card, or use a smaller model or context");
	take(FLM_BO_HBM, 0, 8);
	ask_free(full);
	ok(!full[0] && !full[1] && full[2] == before[2], "HBM has not a byte left, DDR all");
	run(argv + 2, atoi(argv[1]));
	ok(!flm_bo_read(own, 0, read, 2 * MIB) && !memcmp(read, pattern, 2 * MIB),
	   "the other client's buffer is whole");
	give_back();
	ask_free(after);
	ok(!memcmp(after, before, sizeof(before)), "when all is given back as much is free as before");
	flm_bo_free(own);
	flm_device_close(neighbour);
	flm_device_close(device);
	free(read);
	free(pattern);
	return done_testing();
}
