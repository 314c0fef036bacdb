// SPDX-License-Identifier: MIT
/*
 * The file that is being made. It has no name until it is complete (O_TMPFILE), so that even a
 * SIGKILL leaves nothing; then it gets the output's name, in one step, whatever had it before.
 * Where the file system makes no files without names, it has a temporary one, which die() and
 * signals remove.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "compiler/cc.h"
#include "compiler/output.h"

#define DESCRIPTORS "/proc/self/fd"	/* through which a file without a name gets one */
#define NAMES_MAX 100

/* An existing file is replaced only if it is an older .flm or empty, so never a model's weights. */
static void check_old(const char *path)
{
	char magic[sizeof(FLM_FILE_MAGIC) - 1];
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		die_with(EXIT_PERMISSION, "%s: it exists and may not be read (%s); choose another name",
			 path, strerror(errno));
	n = read(fd, magic, sizeof(magic));
	close(fd);
	if (n && (n != sizeof(magic) || memcmp(magic, FLM_FILE_MAGIC, sizeof(magic))))
		die("%s: it exists and is no .flm file; choose another name, or remove it", path);
}

/* All that can be wrong with the name, before the work; it is used only after it. */
static void check_place(const char *path)
{
	size_t length = strlen(path);
	struct stat st;

	if (!length || path[length - 1] == '/')
		die("'%s': it names no file; choose a name", path);
	if (stat(path, &st)) {
		/* Without its folder, too; open_named() says so. */
		if (errno != ENOENT && errno != ENOTDIR)
			die_with(errno == EACCES ? EXIT_PERMISSION : EXIT_FAILED,
				 "%s: cannot be made: %s; choose another name", path,
				 strerror(errno));
		return;
	}
	if (!S_ISREG(st.st_mode))
		die("%s: it exists and is no file; choose another name", path);
	if (access(path, W_OK))
		die_with(EXIT_PERMISSION, "%s: it exists and may not be written (%s); choose another name",
			 path, strerror(errno));
	check_old(path);
}

/* With a name of its own beside the output's. */
static void open_named(struct output *o, const char *dir)
{
	o->temporary = arena_printf("%s.XXXXXX", o->path);
	o->fd = mkostemp(o->temporary, O_CLOEXEC);
	if (o->fd < 0 && (errno == EACCES || errno == EPERM || errno == EROFS))
		die_with(EXIT_PERMISSION, "%s: no permission to make a file here (%s); choose another folder",
			 dir, strerror(errno));
	if (o->fd < 0 && (errno == ENOENT || errno == ENOTDIR))
		die("%s: there is no folder %s; make it first", o->path, dir);
	if (o->fd < 0)
		die("%s: cannot make it: %s; choose another name or folder", o->path,
		    strerror(errno));
}

void output_open(struct output *o, const char *path)
{
	const char *slash = strrchr(path, '/');
	const char *dir = slash ? arena_printf("%.*s", (int)(slash - path) + 1, path) : ".";
	mode_t mask;

	*o = (struct output) { .path = path, .fd = -1 };
	check_place(path);
	if (!access(DESCRIPTORS, X_OK))
		o->fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
	/* Whatever the reason was, if it is not the missing O_TMPFILE, this names it. */
	if (o->fd < 0)
		open_named(o, dir);
	die_removes(o->temporary);
	mask = umask(0);
	umask(mask);
	if (o->temporary && fchmod(o->fd, 0666 & ~mask))
		die("%s: cannot set its mode: %s; choose another folder", o->temporary,
		    strerror(errno));
}

void output_reserve(const struct output *o, uint64_t bytes)
{
	char text[32];

	if (!fallocate(o->fd, 0, 0, bytes))
		return;
	if ((errno == EOPNOTSUPP || errno == ENOSYS) && !ftruncate(o->fd, bytes))
		return;
	die("%s: no room for %s: %s; make room, or choose another folder", o->path,
	    bytes_text(bytes, text), strerror(errno));
}

void output_write(const struct output *o, uint64_t offset, const void *bytes, size_t count)
{
	const char *p = bytes;

	while (count) {
		ssize_t n = pwrite(o->fd, p, count, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("%s: cannot write: %s; make room, or choose another folder", o->path,
			    n ? strerror(errno) : "disk full");
		p += n;
		offset += n;
		count -= n;
	}
}

void output_read(const struct output *o, uint64_t offset, void *bytes, size_t count)
{
	uint8_t *p = bytes;

	while (count) {
		ssize_t n = pread(o->fd, p, count, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("%s: cannot read back: %s; choose another folder", o->path,
			    n ? strerror(errno) : "it shrank");
		p += n;
		offset += n;
		count -= n;
	}
}

/*
 * Gives a file without a name one: the output's if nothing has it, else one of its own, from which
 * it can be renamed.
 */
static void give_name(struct output *o)
{
	const char *self = arena_printf(DESCRIPTORS "/%d", o->fd);

	if (!linkat(AT_FDCWD, self, AT_FDCWD, o->path, AT_SYMLINK_FOLLOW))
		return;
	for (int i = 0; errno == EEXIST && i < NAMES_MAX; i++) {
		o->temporary = arena_printf("%s.%ld-%d", o->path, (long)getpid(), i);
		if (linkat(AT_FDCWD, self, AT_FDCWD, o->temporary, AT_SYMLINK_FOLLOW))
			continue;
		die_removes(o->temporary);
		return;
	}
	die("%s: cannot give the file its name: %s; choose another one", o->path, strerror(errno));
}

void output_commit(struct output *o)
{
	if (!o->temporary)
		give_name(o);
	if (close(o->fd))
		die("%s: cannot write: %s; make room, or choose another folder", o->path,
		    strerror(errno));
	if (o->temporary && rename(o->temporary, o->path))
		die("%s: cannot give the file its name: %s; choose another one", o->path,
		    strerror(errno));
	die_removes(NULL);
}
