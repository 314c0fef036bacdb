// SPDX-License-Identifier: MIT
/*
 * Files of a model's directory. They come from anywhere, so none is opened that could block, and
 * one that changes while it is read is refused.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/checkpoint/table.h"

int checkpoint_read_all(int fd, const char *path, void *to, size_t bytes, uint64_t offset)
{
	char *p = to;

	while (bytes) {
		ssize_t n = pread(fd, p, bytes, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return checkpoint_fail(-EIO, "%s: %s at byte %llu", path, strerror(errno),
					       (unsigned long long)offset);
		if (n == 0)
			return checkpoint_fail(-EIO,
					       "%s: it became shorter while it was read; fetch it again",
					       path);
		p += n;
		offset += n;
		bytes -= n;
	}
	return 0;
}

static int cannot_open(const char *path)
{
	int error = errno;

	return checkpoint_fail(-error, "%s: %s; %s", path, strerror(error),
			       error == EACCES ? "ask its owner to let you read it" :
			       error == EMFILE ? "raise the limit of open files (ulimit -n)" :
			       "fetch the model again");
}

int checkpoint_open_file(int dir, const char *name, const char *path, uint64_t *bytes)
{
	struct stat st;
	int fd, ret;

	fd = openat(dir, name, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (fd < 0)
		return cannot_open(path);
	if (fstat(fd, &st) < 0)
		ret = cannot_open(path);
	else if (!S_ISREG(st.st_mode))
		ret = checkpoint_fail(-EBADMSG, "%s: not a regular file; fetch it again", path);
	else
		ret = 0;
	if (ret) {
		close(fd);
		return ret;
	}
	*bytes = st.st_size;
	return fd;
}

int checkpoint_read_text(int dir, const char *name, const char *path, size_t limit, char **text,
			 size_t *bytes)
{
	uint64_t size;
	int fd, ret;

	fd = checkpoint_open_file(dir, name, path, &size);
	if (fd < 0)
		return fd;
	*text = NULL;
	if (size > limit) {
		ret = checkpoint_fail(-EBADMSG,
				      "%s: it has %llu bytes, and at most %zu are read; is it the right file?",
				      path, (unsigned long long)size, limit);
	} else {
		*text = malloc(size + 1);
		ret = *text ? checkpoint_read_all(fd, path, *text, size, 0) :
			      checkpoint_fail(-ENOMEM, "%s: out of memory", path);
	}
	close(fd);
	if (ret) {
		free(*text);
		return ret;
	}
	(*text)[size] = 0;
	*bytes = size;
	return 0;
}
