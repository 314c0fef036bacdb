// SPDX-License-Identifier: MIT
/*
 * The connection to a vfio-user client.
 *
 * The one idea: one message at a time goes through fixed buffers. Header, payload and answer each
 * move as far as the socket lets them, and nothing is read while an answer is unsent; so there is
 * no queue to overflow and nothing to wait for.
 */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "emulator/link/vfu.h"
#include "emulator/link/vfu_dma.h"
#include "emulator/link/vfu_message.h"

struct vfu {
	struct vfu_device device;
	int socket;		/* -1: nobody is connected */
	struct vfu_message message;
	size_t in_bytes;	/* of the message that is being read, header included */
	size_t out_sent;	/* of the answer */
};

/*
 * Only what some message can use is kept until the whole of it is there: a client's own socket, or
 * something that holds it, would stay open with us, and its end be seen by nobody.
 */
static int keep_fd(int fd)
{
	if (vfu_event_is(fd) || vfu_dma_is_memory(fd))
		return fd;
	close(fd);
	return -1;
}

/* Files arrive with the bytes they were sent with, that is, with a header. */
static int keep_fds(struct vfu *vfu, struct msghdr *message)
{
	bool too_many = message->msg_flags & MSG_CTRUNC;

	for (struct cmsghdr *c = CMSG_FIRSTHDR(message); c; c = CMSG_NXTHDR(message, c)) {
		size_t n = (c->cmsg_len - CMSG_LEN(0)) / sizeof(int);

		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		for (size_t i = 0; i < n; i++) {
			int fd;

			memcpy(&fd, CMSG_DATA(c) + i * sizeof(fd), sizeof(fd));
			if (vfu->message.fd_count < VFU_FDS_MAX) {
				vfu->message.fds[vfu->message.fd_count++] = keep_fd(fd);
			} else {
				close(fd);
				too_many = true;
			}
		}
	}
	if (too_many)
		return vfu_message_complain(&vfu->message, "more than %d files with one message",
					    VFU_FDS_MAX);
	return 0;
}

/* Returns 1 when there is nothing more to read now, 0 when `bytes` of the message are there. */
static int receive(struct vfu *vfu, size_t bytes)
{
	union {
		char bytes[CMSG_SPACE(VFU_FDS_MAX * sizeof(int))];
		struct cmsghdr align;
	} control;

	while (vfu->in_bytes < bytes) {
		const size_t header = sizeof(vfu->message.in), at = vfu->in_bytes;
		struct iovec part = at < header ?
			(struct iovec){ (char *)&vfu->message.in + at, header - at } :
			(struct iovec){ vfu->message.payload + at - header, bytes - at };
		struct msghdr message = {
			.msg_iov = &part, .msg_iovlen = 1,
			.msg_control = &control, .msg_controllen = sizeof(control),
		};
		ssize_t n = recvmsg(vfu->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return 1;
			return errno == ECONNRESET
				       ? -ENOTCONN
				       : vfu_message_complain(&vfu->message, "receiving: %s",
							      strerror(errno));
		}
		if (n == 0)
			return at ? vfu_message_complain(&vfu->message,
							 "it left in the middle of a message") :
				-ENOTCONN;
		vfu->in_bytes += n;
		if (keep_fds(vfu, &message))
			return -EPROTO;
	}
	return 0;
}

static int check_header(struct vfu *vfu)
{
	const struct vfu_header *in = &vfu->message.in;

	if (in->bytes < sizeof(*in) || in->bytes > sizeof(*in) + VFU_PAYLOAD_MAX)
		return vfu_message_complain(&vfu->message, "a message of %u bytes", in->bytes);
	if ((in->flags & VFU_TYPE_MASK) != VFU_TYPE_COMMAND)
		return vfu_message_complain(&vfu->message, "an answer to no question (flags 0x%x)",
					    in->flags);
	return 0;
}

/* Returns 1 when the client does not take more now. */
static int send_answer(struct vfu *vfu)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };

	while (vfu->out_sent < vfu->message.out_bytes) {
		struct iovec part = { vfu->message.out + vfu->out_sent,
				      vfu->message.out_bytes - vfu->out_sent };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
		ssize_t n;

		if (vfu->message.out_fd >= 0 && !vfu->out_sent) {
			message.msg_control = &control;
			message.msg_controllen = sizeof(control);
			control.align.cmsg_len = CMSG_LEN(sizeof(int));
			control.align.cmsg_level = SOL_SOCKET;
			control.align.cmsg_type = SCM_RIGHTS;
			memcpy(CMSG_DATA(&control.align), &vfu->message.out_fd, sizeof(int));
		}
		n = sendmsg(vfu->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return 1;
			return errno == EPIPE || errno == ECONNRESET ? -ENOTCONN :
				vfu_message_complain(&vfu->message, "sending: %s", strerror(errno));
		}
		vfu->out_sent += n;
	}
	vfu->message.out_bytes = vfu->out_sent = 0;
	return 0;
}

/* One message, as far as it goes: 0 done, 1 wait for the socket, or -errno. */
static int step(struct vfu *vfu)
{
	int ret;

	if (vfu->message.out_bytes)
		return send_answer(vfu);
	if (vfu_dma_broken())
		return vfu_message_complain(&vfu->message, "a file mapped for DMA became shorter");
	ret = receive(vfu, sizeof(vfu->message.in));
	if (ret)
		return ret;
	ret = check_header(vfu);
	if (ret)
		return ret;
	ret = receive(vfu, vfu->message.in.bytes);
	if (ret)
		return ret;
	vfu->in_bytes = 0;
	return vfu_message_handle(&vfu->message, &vfu->device);
}

struct vfu *vfu_new(void)
{
	struct vfu *vfu = calloc(1, sizeof(*vfu));
	int ret;

	if (!vfu)
		return NULL;
	vfu->socket = -1;
	ret = vfu_device_init(&vfu->device);
	if (ret) {
		free(vfu);
		errno = -ret;
		return NULL;
	}
	return vfu;
}

void vfu_free(struct vfu *vfu)
{
	if (!vfu)
		return;
	if (vfu->socket >= 0)
		vfu_disconnect(vfu);
	vfu_device_fini(&vfu->device);
	free(vfu);
}

int vfu_plug(struct vfu *vfu, struct card *card)
{
	return vfu_device_plug(&vfu->device, card);
}

void vfu_connect(struct vfu *vfu, int socket)
{
	vfu->socket = socket;
	vfu->message.has_version = false;
	vfu->in_bytes = vfu->message.out_bytes = vfu->out_sent = 0;
	vfu->message.complaint[0] = 0;
}

short vfu_wants(const struct vfu *vfu)
{
	return vfu->message.out_bytes ? POLLOUT : POLLIN;
}

int vfu_serve(struct vfu *vfu)
{
	/* A client that never stops talking must leave room for signals: some messages, then back.
	 */
	for (int i = 0; i < 64; i++) {
		int ret = step(vfu);

		if (ret == 1)
			return 0;
		if (ret == -ENOTCONN)
			return 1;
		if (ret)
			return ret;
	}
	return 0;
}

const char *vfu_complaint(const struct vfu *vfu)
{
	return vfu->message.complaint;
}

void vfu_disconnect(struct vfu *vfu)
{
	close(vfu->socket);
	vfu->socket = -1;
	vfu_message_close_fds(&vfu->message);
	vfu_device_unplug(&vfu->device);
}

int vfu_renew(struct vfu *vfu)
{
	return vfu_device_renew(&vfu->device);
}

void vfu_interrupt(void *opaque, unsigned int vector)
{
	struct vfu *vfu = opaque;

	vfu_device_interrupt(&vfu->device, vector);
}
