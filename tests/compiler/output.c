// SPDX-License-Identifier: MIT
/*
 * The file that is being made has no name, or a temporary one where the file system knows no other
 * way: this program's open() stands before libc's and can refuse files without names, as such a
 * file system does.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "compiler/cc.h"
#include "compiler/output.h"
#include "tests/tap.h"

static bool knows_tmpfile;

int open(const char *path, int flags, ...)
{
	va_list args;
	mode_t mode;

	va_start(args, flags);
	mode = flags & (O_CREAT | O_TMPFILE) ? va_arg(args, unsigned int) : 0;
	va_end(args);
	if ((flags & O_TMPFILE) == O_TMPFILE && !knows_tmpfile) {
		errno = EOPNOTSUPP;
		return -1;
	}
	return openat(AT_FDCWD, path, flags, mode);
}

/* Names in the current folder, the two that are in each left out. */
static int names(void)
{
	DIR *dir = opendir(".");
	int count = 0;

	while (readdir(dir))
		count++;
	closedir(dir);
	return count - 2;
}

static void put(int fd, const char *text)
{
	if (write(fd, text, strlen(text)) != (ssize_t)strlen(text))
		ok(false, "the unfinished file can be written");
}

static bool holds(const char *path, const char *text)
{
	char bytes[64] = { 0 };
	int fd = openat(AT_FDCWD, path, O_RDONLY);
	ssize_t n = read(fd, bytes, sizeof(bytes) - 1);

	close(fd);
	return n == (ssize_t)strlen(text) && !strcmp(bytes, text);
}

static void make(const char *path, const char *text)
{
	struct output output;

	output_open(&output, path);
	put(output.fd, text);
	output_commit(&output);
}

/* A process that opens an output and is killed before it is complete. */
static void end_by(int signal)
{
	int status;
	pid_t child = fork();

	if (!child) {
		struct output output;

		output_open(&output, "out");
		put(output.fd, "FLM-FILE half");
		raise(signal);
		_exit(0);
	}
	ok(waitpid(child, &status, 0) == child &&
	   ((WIFSIGNALED(status) && WTERMSIG(status) == signal) ||
	    (WIFEXITED(status) && WEXITSTATUS(status) == 128 + signal)),
	   "a process that makes a file ends by signal %d", signal);
}

static void check_way(const char *way)
{
	struct output output;
	struct stat st;

	umask(0027);
	output_open(&output, "out");
	put(output.fd, "FLM-FILE 2");
	ok(access("out", F_OK) && names() == !knows_tmpfile, "%s: an unfinished file has %s", way,
	   knows_tmpfile ? "no name" : "a name of its own");
	output_commit(&output);
	ok(holds("out", "FLM-FILE 2") && names() == 1, "%s: it gets its name when it is complete",
	   way);
	ok(!stat("out", &st) && (st.st_mode & 0777) == 0640, "%s: its mode is what umask leaves",
	   way);
	make("out", "FLM-FILE 3");
	ok(holds("out", "FLM-FILE 3") && names() == 1, "%s: a complete file takes an older one's place",
	   way);
	end_by(SIGTERM);
	ok(holds("out", "FLM-FILE 3") && names() == 1, "%s: SIGTERM leaves the older file alone",
	   way);
}

int main(void)
{
	char folder[] = "/tmp/flightllm-output.XXXXXX";
	int fd;

	if (!mkdtemp(folder) || chdir(folder))
		return 1;
	fd = openat(AT_FDCWD, ".", O_TMPFILE | O_RDWR, 0600);
	if (fd < 0) {
		skip("files without names", "the file system of /tmp makes none");
	} else {
		close(fd);
		knows_tmpfile = true;
		check_way("with files without names");
		end_by(SIGKILL);
		ok(holds("out", "FLM-FILE 3") && names() == 1, "and so does SIGKILL");
		unlink("out");
		end_by(SIGKILL);
		ok(names() == 0, "where there was none, SIGKILL leaves nothing");
	}
	knows_tmpfile = false;
	check_way("without");
	unlink("out");
	rmdir(folder);
	return done_testing();
}
