/* SPDX-License-Identifier: MIT */
/*
 * A small vfio-user client for tests: starts flightllm-emu and talks to it, without kernel or root.
 * Messages are built from numbers of the protocol's description, not from the server's code.
 *
 *	struct client c = client_start("tiny", NULL);
 *	client_version(&c);
 *	client_read(&c, CLIENT_CONFIG, 0, &id, 4);
 *	client_stop(&c);
 */
#ifndef TESTS_EMULATOR_VFU_CLIENT_H
#define TESTS_EMULATOR_VFU_CLIENT_H

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "tests/patience.h"

enum { CLIENT_BAR0 = 0, CLIENT_BAR2 = 2, CLIENT_BAR4 = 4, CLIENT_ROM = 6, CLIENT_CONFIG = 7 };

enum {
	MSG_VERSION = 1,
	MSG_DMA_MAP = 2,
	MSG_DMA_UNMAP = 3,
	MSG_GET_INFO = 4,
	MSG_GET_REGION_INFO = 5,
	MSG_GET_REGION_IO_FDS = 6,
	MSG_GET_IRQ_INFO = 7,
	MSG_SET_IRQS = 8,
	MSG_REGION_READ = 9,
	MSG_REGION_WRITE = 10,
	MSG_RESET = 13,
	MSG_WRITE_MULTI = 15,
};

struct client_header {
	uint16_t id, command;
	uint32_t bytes, flags, error;
};

struct client {
	pid_t pid;
	int socket;
	char folder[64], path[96];
	uint16_t id;
	int fd;			/* the file that came with the last answer, or -1 */
	uint32_t reply_bytes;	/* payload of the last answer */
	int status;		/* wait status of the server once it has ended */
	bool has_ended;
};

/* flightllm-emu of the same build: tests lie in BUILD/tests/emulator. */
static inline void client_program(char path[PATH_MAX])
{
	char self[PATH_MAX];
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		err(1, "/proc/self/exe");
	self[n] = 0;
	if (snprintf(path, PATH_MAX, "%.3000s/../../flightllm-emu", dirname(self)) >= PATH_MAX)
		errx(1, "path too long");
}

static inline int client_dial(const char *path)
{
	struct sockaddr_un address = { .sun_family = AF_UNIX };
	struct timeval limit = { .tv_sec = 60 };
	int s = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	snprintf(address.sun_path, sizeof(address.sun_path), "%s", path);
	if (connect(s, (struct sockaddr *)&address, sizeof(address))) {
		close(s);
		return -1;
	}
	/* A server that does not answer fails the test, it does not hang it. */
	setsockopt(s, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(s, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	return s;
}

static inline bool client_ended(struct client *c, bool wait)
{
	if (!c->has_ended)
		c->has_ended = waitpid(c->pid, &c->status, wait ? 0 : WNOHANG) == c->pid;
	return c->has_ended;
}

/* options: NULL-terminated, or NULL. Output of the server goes to FOLDER/log. */
static inline struct client client_start(const char *card, const char *const *options)
{
	struct client c = { .socket = -1, .fd = -1 };
	const char *argv[32] = { "flightllm-emu", "--socket", c.path, "--card", card };
	char program[PATH_MAX], log[96];
	int n = 5;

	client_program(program);
	snprintf(c.folder, sizeof(c.folder), "/tmp/flightllm-vfu.XXXXXX");
	if (!mkdtemp(c.folder))
		err(1, "%s", c.folder);
	snprintf(c.path, sizeof(c.path), "%s/socket", c.folder);
	snprintf(log, sizeof(log), "%s/log", c.folder);
	for (; options && *options && n < 31; options++)
		argv[n++] = *options;
	c.pid = fork();
	if (c.pid < 0)
		err(1, "fork");
	if (!c.pid) {
		int fd = open(log, O_WRONLY | O_CREAT | O_APPEND, 0600);

		prctl(PR_SET_PDEATHSIG, SIGKILL);
		dup2(fd, 2);
		execv(program, (char *const *)argv);
		warn("%s", program);
		_exit(127);
	}
	for (int i = 0; i < 1000 && c.socket < 0 && !client_ended(&c, false); i++) {
		c.socket = client_dial(c.path);
		if (c.socket < 0)
			usleep(10000);
	}
	return c;
}

/* What the server has written to its stderr. */
static inline const char *client_log(struct client *c)
{
	static char text[4096];
	char path[96];
	int fd;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/log", c->folder);
	fd = open(path, O_RDONLY);
	n = fd < 0 ? 0 : read(fd, text, sizeof(text) - 1);
	text[n < 0 ? 0 : n] = 0;
	if (fd >= 0)
		close(fd);
	return text;
}

/* Hangs up and waits for the server. Returns its exit status, or 128 + signal. */
static inline int client_stop(struct client *c)
{
	char path[96];

	if (c->socket >= 0)
		close(c->socket);
	if (c->fd >= 0)
		close(c->fd);
	c->socket = c->fd = -1;
	client_ended(c, true);
	snprintf(path, sizeof(path), "%s/log", c->folder);
	unlink(path);
	unlink(c->path);
	rmdir(c->folder);
	return WIFSIGNALED(c->status) ? 128 + WTERMSIG(c->status) : WEXITSTATUS(c->status);
}

static inline bool client_send_raw(struct client *c, const void *data, size_t bytes, const int *fds,
				   unsigned int fd_count)
{
	union {
		char bytes[CMSG_SPACE(64 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec part = { (void *)data, bytes };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };

	if (fd_count) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(fd_count * sizeof(int));
		control.align.cmsg_len = CMSG_LEN(fd_count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		memcpy(CMSG_DATA(&control.align), fds, fd_count * sizeof(int));
	}
	return sendmsg(c->socket, &m, MSG_NOSIGNAL) == (ssize_t)bytes;
}

static inline bool client_receive(struct client *c, void *data, size_t bytes)
{
	union {
		char bytes[CMSG_SPACE(4 * sizeof(int))];
		struct cmsghdr align;
	} control;

	while (bytes) {
		struct iovec part = { data, bytes };
		struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1, .msg_control = &control,
				    .msg_controllen = sizeof(control) };
		ssize_t n = recvmsg(c->socket, &m, MSG_CMSG_CLOEXEC);
		struct cmsghdr *h;

		if (n <= 0)
			return false;
		h = CMSG_FIRSTHDR(&m);
		if (h && h->cmsg_type == SCM_RIGHTS) {
			if (c->fd >= 0)
				close(c->fd);
			memcpy(&c->fd, CMSG_DATA(h), sizeof(int));
		}
		data = (char *)data + n;
		bytes -= n;
	}
	return true;
}

/*
 * One question and its answer. `reply` takes at most reply_bytes of the answer's payload. Returns
 * 0, the server's errno as a positive number, or -1 when the connection has ended or the answer is
 * not one.
 */
static inline int client_call_fds(struct client *c, uint16_t command, const void *payload,
				  uint32_t bytes, void *reply, uint32_t reply_bytes,
				  const int *fds, unsigned int fd_count)
{
	static uint8_t out[1 << 20], in[1 << 20];
	struct client_header h = { .id = ++c->id, .command = command, .bytes = 16 + bytes }, r;

	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
	memcpy(out, &h, 16);
	if (bytes)
		memcpy(out + 16, payload, bytes);
	if (!client_send_raw(c, out, 16 + bytes, fds, fd_count) || !client_receive(c, &r, 16))
		return -1;
	if (r.id != h.id || r.command != command || (r.flags & 0xf) != 1 || r.bytes < 16 ||
	    r.bytes > sizeof(in) || !client_receive(c, in, r.bytes - 16))
		return -1;
	c->reply_bytes = r.bytes - 16;
	if (r.flags & 0x20)
		return r.error && r.bytes == 16 ? (int)r.error : -1;
	if (reply)
		memcpy(reply, in, reply_bytes < c->reply_bytes ? reply_bytes : c->reply_bytes);
	return 0;
}

static inline int client_call(struct client *c, uint16_t command, const void *payload,
			      uint32_t bytes, void *reply, uint32_t reply_bytes)
{
	return client_call_fds(c, command, payload, bytes, reply, reply_bytes, NULL, 0);
}

static inline int client_version(struct client *c)
{
	static const char text[] = "\0\0\0\0{\"capabilities\":{\"max_msg_fds\":8,"
		"\"max_data_xfer_size\":1048576,\"pgsizes\":4096,\"write_multiple\":true}}";
	char reply[256] = "";

	return client_call(c, MSG_VERSION, text, sizeof(text), reply, sizeof(reply));
}

static inline int client_read(struct client *c, uint32_t region, uint64_t offset, void *data,
			      uint32_t bytes)
{
	struct { uint64_t offset; uint32_t region, bytes; } q = { offset, region, bytes };
	static uint8_t reply[16 + (64 << 10)];
	int ret = client_call(c, MSG_REGION_READ, &q, 16, reply, sizeof(reply));

	if (!ret && (c->reply_bytes != 16 + bytes || memcmp(reply, &q, 16)))
		return -1;
	if (!ret)
		memcpy(data, reply + 16, bytes);
	return ret;
}

static inline int client_write(struct client *c, uint32_t region, uint64_t offset, const void *data,
			       uint32_t bytes)
{
	struct { uint64_t offset; uint32_t region, bytes; } q = { offset, region, bytes };
	static uint8_t out[16 + (64 << 10)];
	uint8_t reply[16];
	int ret;

	memcpy(out, &q, 16);
	memcpy(out + 16, data, bytes);
	ret = client_call(c, MSG_REGION_WRITE, out, 16 + bytes, reply, 16);
	return !ret && (c->reply_bytes != 16 || memcmp(reply, &q, 16)) ? -1 : ret;
}

/* Values that a test compares with literals; ~0 stands for an error too. */
static inline uint64_t client_get(struct client *c, uint32_t region, uint64_t offset,
				  uint32_t bytes)
{
	uint64_t value = 0;

	return client_read(c, region, offset, &value, bytes) ? ~0ull : value;
}

static inline int client_put(struct client *c, uint32_t region, uint64_t offset, uint64_t value,
			     uint32_t bytes)
{
	return client_write(c, region, offset, &value, bytes);
}

static inline int client_dma_map(struct client *c, uint64_t address, uint64_t bytes, int fd,
				 uint64_t offset, uint32_t flags)
{
	struct { uint32_t argsz, flags; uint64_t offset, address, bytes; } q = {
		32, flags, offset, address, bytes };

	return client_call_fds(c, MSG_DMA_MAP, &q, 32, NULL, 0, &fd, fd >= 0);
}

static inline int client_dma_unmap(struct client *c, uint64_t address, uint64_t bytes)
{
	struct { uint32_t argsz, flags; uint64_t address, bytes; } q = { 24, 0, address, bytes };
	uint8_t reply[24];
	int ret = client_call(c, MSG_DMA_UNMAP, &q, 24, reply, 24);

	return !ret && (c->reply_bytes != 24 || memcmp(reply, &q, 24)) ? -1 : ret;
}

/* flags as in the protocol: data none 1, bool 2, eventfd 4; mask 8, unmask 16, trigger 32. */
static inline int client_set_irqs(struct client *c, uint32_t flags, uint32_t index, uint32_t start,
				  uint32_t count, const int *fds, unsigned int fd_count)
{
	struct {
		uint32_t argsz, flags, index, start, count;
	} q = { 20, flags, index, start, count };

	return client_call_fds(c, MSG_SET_IRQS, &q, 20, NULL, 0, fds, fd_count);
}

#endif
