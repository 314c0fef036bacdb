// SPDX-License-Identifier: MIT
/*
 * No pass of the compiler reads a plan that has not come far enough: each is called on a plan of
 * each earlier stage, in a process of its own, since die() ends it. In their order they all run,
 * and a pass that runs again takes back what comes after it.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compiler/cc.h"
#include "tests/tap.h"

static char out[] = "/tmp/flightllm-stage.XXXXXX";

static const struct {
	const char *name;
	void (*run)(struct plan *p);
} passes[] = {
	{ "graph", graph_build }, { "fuse", fuse_run }, { "tile", tile_run },
	{ "place", place_run }, { "emit", emit_run }, { "verify", verify_run },
	{ "write", write_run },
};

#define PASSES (sizeof(passes) / sizeof(passes[0]))

static struct plan *fresh(void)
{
	struct plan *p = calloc(1, sizeof(*p));
	struct options *o = calloc(1, sizeof(*o));
	char error[CHECKPOINT_ERROR_BYTES];

	if (!p || !o)
		exit(1);
	o->card = card_find("tiny");
	o->synthetic = "tiny";
	o->width = 8;
	o->command = "test";
	o->out = out;
	o->threads = 1;
	o->quiet = true;
	p->options = o;
	p->card = o->card;
	if (checkpoint_synthetic(o->synthetic, 0, error, sizeof(error), &p->checkpoint)) {
		printf("Bail out! %s\n", error);
		exit(1);
	}
	p->config = checkpoint_config(p->checkpoint);
	p->context = p->config->context;
	return p;
}

static void give_back(struct plan *p)
{
	checkpoint_close(p->checkpoint);
	free((void *)p->options);
	free(p);
}

/* Exit code of a process that calls the pass, 128 and more if a signal ended it; its last words. */
static int try(struct plan *p, size_t pass, char *words, size_t room)
{
	int ends[2], status;
	ssize_t n;
	pid_t child;

	fflush(stdout);
	if (pipe(ends))
		exit(1);
	child = fork();
	if (!child) {
		dup2(ends[1], STDERR_FILENO);
		close(ends[0]);
		close(ends[1]);
		passes[pass].run(p);
		_exit(0);
	}
	close(ends[1]);
	n = read(ends[0], words, room - 1);
	words[n < 0 ? 0 : n] = 0;
	close(ends[0]);
	if (child < 0 || waitpid(child, &status, 0) < 0)
		return -1;
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* Passes from `first` on whose turn has not come on this plan are refused, by the pass missed. */
static void refuses(struct plan *p, const char *after, size_t first)
{
	char words[512], want[128];

	for (size_t i = first; i < PASSES; i++) {
		int code = try(p, i, words, sizeof(words));

		snprintf(want, sizeof(want), "internal error: %s after %s; it reads what %s fills",
			 passes[i].name, after, passes[i - 1].name);
		if (!ok(code == EXIT_FAILED && strstr(words, want), "%s is refused after %s",
			passes[i].name, after))
			printf("# exit code %d, %s\n", code, words);
	}
}

int main(void)
{
	struct plan *p = fresh();
	int fd = mkstemp(out);

	if (fd < 0)
		exit(1);
	close(fd);
	refuses(p, "nothing", 1);
	for (size_t i = 0; i < PASSES; i++) {
		passes[i].run(p);
		ok(true, "%s runs in its turn", passes[i].name);
		refuses(p, passes[i].name, i + 2);
	}
	place_run(p);
	refuses(p, "place", 5);
	give_back(p);
	unlink(out);
	return done_testing();
}
