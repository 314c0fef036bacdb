/* SPDX-License-Identifier: MIT */
/*
 * Time, for tests that hold on a slow machine with other work. What only has to come is waited for
 * with patience; what is claimed to come soon is timed with a watch that stands still while a
 * thread waits for a processor, for that is the machine's doing and not the card's.
 *
 *	ok(UNTIL(reg(b, FLM_REG_STATE, 4) & 1), "READY");
 *	watch = watch_start(0);
 *	...
 *	took = watch_took(&watch);
 *	ok(took < SOON, "done in %.1f ms", took * 1e3);
 */
#ifndef TESTS_PATIENCE_H
#define TESTS_PATIENCE_H

#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

#define PATIENCE	10.0	/* s, for what must come */
#define SOON		0.1	/* s, for an answer, by the watch */
#define LATE		2.0	/* s, from which on all time counts */
#define TRIES		3	/* of which the best must be soon, and none late */
#define WATCH_THREADS	32

static inline double seconds(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec + now.tv_nsec * 1e-9;
}

static inline void pause_ms(unsigned int ms)
{
	struct timespec pause = { ms / 1000, ms % 1000 * 1000000 };

	nanosleep(&pause, NULL);
}

/* Whether the condition holds, now or before PATIENCE is at its end. */
#define UNTIL(condition) ({						\
	double until_end = seconds() + PATIENCE;			\
	bool until_holds = (condition);					\
									\
	while (!until_holds && seconds() < until_end) {			\
		pause_ms(1);						\
		until_holds = (condition);				\
	}								\
	until_holds;							\
})

/* The threads of a process, and how long each had waited when the watch began. */
struct watch_process {
	unsigned int count;
	struct {
		pid_t thread;
		double waited;
	} of[WATCH_THREADS];
};

struct watch {
	double began;
	struct watch_process self, server;
};

/* Seconds for which a thread could have run and had no processor; 0 where nobody counts them. */
static inline double watch_waited(pid_t thread)
{
	unsigned long long ns = 0;
	char path[64], text[96];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/schedstat", (int)thread);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	n = read(fd, text, sizeof(text) - 1);
	close(fd);
	text[n < 0 ? 0 : n] = 0;
	return sscanf(text, "%*u %llu", &ns) == 1 ? ns * 1e-9 : 0;
}

static inline void watch_threads(struct watch_process *process, pid_t pid)
{
	struct dirent *entry;
	char path[64];
	DIR *threads;

	snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
	threads = opendir(path);
	while (threads && process->count < WATCH_THREADS) {
		pid_t thread;

		entry = readdir(threads);
		if (!entry)
			break;
		thread = atoi(entry->d_name);
		if (thread <= 0)
			continue;
		process->of[process->count].thread = thread;
		process->of[process->count++].waited = watch_waited(thread);
	}
	if (threads)
		closedir(threads);
}

/* How long the thread that waited longest has waited since. */
static inline double watch_longest(const struct watch_process *process)
{
	double longest = 0;

	for (unsigned int i = 0; i < process->count; i++) {
		double waited = watch_waited(process->of[i].thread) - process->of[i].waited;

		longest = waited > longest ? waited : longest;
	}
	return longest;
}

/* server: a process that answers this one, or 0 where all are threads of this one. */
static inline struct watch watch_start(pid_t server)
{
	struct watch watch = { .began = 0 };

	watch_threads(&watch.self, getpid());
	if (server)
		watch_threads(&watch.server, server);
	watch.began = seconds();
	return watch;
}

/* The same for a call that no work is to hold up: only its two ends' first threads may wait. */
static inline struct watch watch_call(pid_t server)
{
	struct watch watch = { .self = { .count = 1 }, .server = { .count = server != 0 } };

	watch.self.of[0].thread = getpid();
	watch.self.of[0].waited = watch_waited(getpid());
	watch.server.of[0].thread = server;
	watch.server.of[0].waited = server ? watch_waited(server) : 0;
	watch.began = seconds();
	return watch;
}

/* Seconds since, without those for which the slowest thread of each process had no processor. */
static inline double watch_took(const struct watch *watch)
{
	double took = seconds() - watch->began, waited;

	if (took >= LATE)
		return took;
	waited = watch_longest(&watch->self) + watch_longest(&watch->server);
	return took > waited ? took - waited : 0;
}

/*
 * Whether the best of TRIES is soon and none is late; *took is the one that decides. `try` returns
 * what its watch says.
 */
static inline bool comes_soon(double (*try)(void *opaque), void *opaque, double *took)
{
	*took = LATE;
	for (unsigned int i = 0; i < TRIES && *took >= SOON; i++) {
		double now = try(opaque);

		if (now >= LATE) {
			*took = now;
			return false;
		}
		*took = now < *took ? now : *took;
	}
	return *took < SOON;
}

#endif
