// SPDX-License-Identifier: MIT
/*
 * Answers the messages of a vfio-user client, as QEMU's documentation (interop/vfio-user) describes
 * them.
 *
 * The one idea: one message at a time goes through fixed buffers. Header, payload and answer each
 * move as far as the socket lets them, and nothing is read while an answer is unsent; so there is no
 * queue to overflow and nothing to wait for. A message whose bounds are in order but whose content is
 * not gets an error for an answer; one that breaks the framing ends the connection, for nothing that
 * follows it can be trusted.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <poll.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "emulator/vfu.h"
#include "emulator/vfu_device.h"

#define MAX_DATA (64u << 10)	/* bytes of a region read or write */
#define MAX_PAYLOAD (MAX_DATA + 64)
#define MAX_FDS 16		/* in one message; QEMU refuses a server that takes more */

enum command {
	CMD_VERSION = 1,
	CMD_DMA_MAP = 2,
	CMD_DMA_UNMAP = 3,
	CMD_GET_INFO = 4,
	CMD_GET_REGION_INFO = 5,
	CMD_GET_REGION_IO_FDS = 6,
	CMD_GET_IRQ_INFO = 7,
	CMD_SET_IRQS = 8,
	CMD_REGION_READ = 9,
	CMD_REGION_WRITE = 10,
	CMD_RESET = 13,
	CMD_REGION_WRITE_MULTI = 15,
};

enum { TYPE_MASK = 0xf, TYPE_COMMAND = 0, TYPE_REPLY = 1, NO_REPLY = 0x10, IS_ERROR = 0x20 };

struct header {
	uint16_t id, command;
	uint32_t bytes;		/* header included */
	uint32_t flags, error;
};
_Static_assert(sizeof(struct header) == 16, "the protocol's header");

struct dma_map {
	uint32_t argsz, flags;
	uint64_t offset, address, bytes;
};
_Static_assert(sizeof(struct dma_map) == 32, "payload of DMA_MAP");

struct dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, bytes;
};
_Static_assert(sizeof(struct dma_unmap) == 24, "payload of DMA_UNMAP");

struct device_info {
	uint32_t argsz, flags, regions, irqs;
};

struct region_info {
	uint32_t argsz, flags, index, cap_offset;
	uint64_t bytes, offset;
};
_Static_assert(sizeof(struct region_info) == 32, "payload of GET_REGION_INFO");

struct io_fds {
	uint32_t argsz, flags, index, count;
};

struct irq_info {
	uint32_t argsz, flags, index, count;
};

struct irq_set {
	uint32_t argsz, flags, index, start, count;
};
_Static_assert(sizeof(struct irq_set) == 20, "payload of SET_IRQS");

struct region_access {
	uint64_t offset;
	uint32_t region, bytes;
};
_Static_assert(sizeof(struct region_access) == 16, "payload of REGION_READ");

struct region_write8 {
	struct region_access access;
	uint8_t data[8];
};

struct vfu {
	struct vfu_device device;
	int socket;			/* -1: nobody is connected */
	bool has_version;		/* the first message was answered */
	bool can_write_multiple;

	/* The message that is being read. */
	struct header in;
	size_t in_bytes;		/* of header and payload, so far */
	_Alignas(8) uint8_t payload[MAX_PAYLOAD];
	int fds[MAX_FDS];
	unsigned int fd_count;

	/* The answer that is being sent. */
	_Alignas(8) uint8_t out[sizeof(struct header) + MAX_PAYLOAD];
	size_t out_bytes, out_sent;
	int out_fd;			/* borrowed from the card, goes with the first byte; or -1 */

	char complaint[200];
};

__attribute__((format(printf, 2, 3)))
static int complain(struct vfu *vfu, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(vfu->complaint, sizeof(vfu->complaint), format, args);
	va_end(args);
	return -EPROTO;
}

static void close_fds(struct vfu *vfu)
{
	for (unsigned int i = 0; i < vfu->fd_count; i++)
		if (vfu->fds[i] >= 0)
			close(vfu->fds[i]);
	vfu->fd_count = 0;
}

/* The payload of the answer; its header is written last. */
static void *answer(struct vfu *vfu, size_t bytes)
{
	uint8_t *payload = vfu->out + sizeof(struct header);

	vfu->out_bytes = sizeof(struct header) + bytes;
	memset(payload, 0, bytes);
	return payload;
}

/* A payload of at least `bytes`, or NULL. */
static void *request(struct vfu *vfu, size_t bytes)
{
	return vfu->in.bytes - sizeof(struct header) >= bytes ? vfu->payload : NULL;
}

static size_t payload_bytes(const struct vfu *vfu)
{
	return vfu->in.bytes - sizeof(struct header);
}

/*
 * Version 0.0 is what every client speaks. Of the capabilities a few words are of interest; those that
 * the answer names must have been offered, and only write_multiple may be missing in an offer.
 */
static int do_version(struct vfu *vfu)
{
	struct { uint16_t major, minor; } version;
	size_t text_bytes;
	char text[160];
	char *out;

	if (payload_bytes(vfu) < sizeof(version))
		return complain(vfu, "VERSION of %zu bytes", payload_bytes(vfu));
	memcpy(&version, vfu->payload, sizeof(version));
	if (version.major != 0)
		return complain(vfu, "protocol version %u.%u is not spoken here, 0.x is",
				version.major, version.minor);
	text_bytes = payload_bytes(vfu) - sizeof(version);
	vfu->can_write_multiple = false;
	if (text_bytes) {
		const char *offer = (const char *)vfu->payload + sizeof(version);

		if (offer[text_bytes - 1])
			return complain(vfu, "VERSION text without an end");
		vfu->can_write_multiple = strstr(offer, "\"write_multiple\"") != NULL;
	}
	snprintf(text, sizeof(text), "{\"capabilities\":{\"max_msg_fds\":%d,"
		 "\"max_data_xfer_size\":%u,\"pgsizes\":4096%s}}", MAX_FDS, MAX_DATA,
		 vfu->can_write_multiple ? ",\"write_multiple\":true" : "");
	out = answer(vfu, sizeof(version) + strlen(text) + 1);
	version.minor = 0;
	memcpy(out, &version, sizeof(version));
	memcpy(out + sizeof(version), text, strlen(text) + 1);
	vfu->has_version = true;
	return 0;
}

static int do_dma_map(struct vfu *vfu)
{
	struct dma_map *map = request(vfu, sizeof(*map));
	unsigned int rights = 0;

	if (!map || map->argsz < sizeof(*map) || vfu->fd_count > 1 || (map->flags & ~3u))
		return -EINVAL;
	if (map->flags & VFIO_DMA_MAP_FLAG_READ)
		rights |= CARD_DMA_READ;
	if (map->flags & VFIO_DMA_MAP_FLAG_WRITE)
		rights |= CARD_DMA_WRITE;
	return vfu_dma_map(&vfu->device.dma, map->address, map->bytes,
			   vfu->fd_count ? vfu->fds[0] : -1, map->offset, rights);
}

static int do_dma_unmap(struct vfu *vfu)
{
	struct dma_unmap *unmap = request(vfu, sizeof(*unmap));
	int ret;

	if (!unmap || unmap->argsz < sizeof(*unmap))
		return -EINVAL;
	if (unmap->flags == VFIO_DMA_UNMAP_FLAG_ALL && !unmap->address && !unmap->bytes) {
		vfu_dma_fini(&vfu->device.dma);
	} else {
		if (unmap->flags)
			return -EINVAL;
		ret = vfu_dma_unmap(&vfu->device.dma, unmap->address, unmap->bytes);
		if (ret)
			return ret;
	}
	memcpy(answer(vfu, sizeof(*unmap)), unmap, sizeof(*unmap));
	return 0;
}

static int do_get_info(struct vfu *vfu)
{
	struct device_info *info = request(vfu, sizeof(*info)), *out;

	if (!info || info->argsz < sizeof(*info))
		return -EINVAL;
	out = answer(vfu, sizeof(*out));
	out->argsz = sizeof(*out);
	out->flags = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI;
	out->regions = VFIO_PCI_NUM_REGIONS;
	out->irqs = VFIO_PCI_NUM_IRQS;
	return 0;
}

/* A BAR that is memory is mapped whole, so the answer needs no list of areas. */
static int do_get_region_info(struct vfu *vfu)
{
	struct region_info *info = request(vfu, sizeof(*info)), *out;
	uint32_t index;

	if (!info || info->argsz < sizeof(*info) || info->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	index = info->index;
	out = answer(vfu, sizeof(*out));
	out->argsz = sizeof(*out);
	out->index = index;
	out->bytes = vfu_device_region_bytes(&vfu->device, index);
	if (out->bytes)
		out->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	if (index == 2 || index == 4) {
		out->flags |= VFIO_REGION_INFO_FLAG_MMAP;
		vfu->out_fd = card_bar_fd(vfu->device.card, index);
	}
	return 0;
}

/* There are none: doorbells are memory, and the other registers are seldom written. */
static int do_get_region_io_fds(struct vfu *vfu)
{
	struct io_fds *io = request(vfu, sizeof(*io)), *out;
	uint32_t index;

	if (!io || io->argsz < sizeof(*io) || io->flags || io->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	index = io->index;
	out = answer(vfu, sizeof(*out));
	out->argsz = sizeof(*out);
	out->index = index;
	return 0;
}

static uint32_t irq_count(const struct vfu *vfu, uint32_t index)
{
	return index == VFIO_PCI_MSIX_IRQ_INDEX ? vfu->device.pci.vectors : 0;
}

static int do_get_irq_info(struct vfu *vfu)
{
	struct irq_info *info = request(vfu, sizeof(*info)), *out;
	uint32_t index;

	if (!info || info->argsz < sizeof(*info) || info->index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	index = info->index;
	out = answer(vfu, sizeof(*out));
	out->argsz = sizeof(*out);
	out->index = index;
	out->count = irq_count(vfu, index);
	if (out->count)
		out->flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE;
	return 0;
}

/* Only an eventfd takes a write of 8 bytes without ever waiting, once it is non-blocking. */
static bool is_eventfd(int fd)
{
	char path[32], target[32] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, target, sizeof(target) - 1) > 0 &&
		!strcmp(target, "anon_inode:[eventfd]");
}

static int do_set_irqs(struct vfu *vfu)
{
	struct irq_set *set = request(vfu, sizeof(*set));
	uint32_t data, action, last;
	uint8_t *bools;

	if (!set || set->argsz < sizeof(*set) || set->index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	data = set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
	if (set->flags & ~(uint32_t)(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK))
		return -EINVAL;
	if (__builtin_add_overflow(set->start, set->count, &last) ||
	    last > irq_count(vfu, set->index))
		return -EINVAL;
	/* MSI-X has its mask bits in the table, which the client keeps. */
	if (action != VFIO_IRQ_SET_ACTION_TRIGGER)
		return -EINVAL;
	switch (data) {
	case VFIO_IRQ_SET_DATA_NONE:
		if (!set->count) {
			if (set->start)
				return -EINVAL;
			if (set->index == VFIO_PCI_MSIX_IRQ_INDEX)
				vfu_device_clear_vectors(&vfu->device);
			return 0;
		}
		for (uint32_t i = set->start; i < last; i++)
			vfu_device_interrupt(&vfu->device, i);
		return 0;
	case VFIO_IRQ_SET_DATA_BOOL:
		if (payload_bytes(vfu) - sizeof(*set) < set->count)
			return -EINVAL;
		bools = vfu->payload + sizeof(*set);
		for (uint32_t i = 0; i < set->count; i++)
			if (bools[i])
				vfu_device_interrupt(&vfu->device, set->start + i);
		return 0;
	case VFIO_IRQ_SET_DATA_EVENTFD:
		if (vfu->fd_count && vfu->fd_count != set->count)
			return -EINVAL;
		for (uint32_t i = 0; i < vfu->fd_count; i++)
			if (!is_eventfd(vfu->fds[i]) ||
			    fcntl(vfu->fds[i], F_SETFL, O_NONBLOCK) < 0)
				return -EINVAL;
		for (uint32_t i = 0; i < set->count; i++) {
			vfu_device_set_vector(&vfu->device, set->start + i,
					      vfu->fd_count ? vfu->fds[i] : -1);
			if (vfu->fd_count)
				vfu->fds[i] = -1;	/* ours to keep now */
		}
		return 0;
	default:
		return -EINVAL;
	}
}

static int check_access(const struct vfu *vfu, const struct region_access *access)
{
	uint64_t end;

	if (access->region >= VFIO_PCI_NUM_REGIONS || access->bytes > MAX_DATA ||
	    __builtin_add_overflow(access->offset, access->bytes, &end) ||
	    end > vfu_device_region_bytes(&vfu->device, access->region))
		return -EINVAL;
	return 0;
}

static int do_region_read(struct vfu *vfu)
{
	struct region_access *access = request(vfu, sizeof(*access));
	uint8_t *out;

	if (!access || check_access(vfu, access))
		return -EINVAL;
	out = answer(vfu, sizeof(*access) + access->bytes);
	memcpy(out, access, sizeof(*access));
	vfu_device_read(&vfu->device, access->region, access->offset, out + sizeof(*access),
			access->bytes);
	return 0;
}

static int do_region_write(struct vfu *vfu)
{
	struct region_access *access = request(vfu, sizeof(*access));

	if (!access || check_access(vfu, access) ||
	    payload_bytes(vfu) - sizeof(*access) < access->bytes)
		return -EINVAL;
	vfu_device_write(&vfu->device, access->region, access->offset,
			 vfu->payload + sizeof(*access), access->bytes);
	memcpy(answer(vfu, sizeof(*access)), access, sizeof(*access));
	return 0;
}

static int do_region_write_multi(struct vfu *vfu)
{
	uint64_t *count = request(vfu, sizeof(*count));
	struct region_write8 write;

	if (!count || *count != (payload_bytes(vfu) - sizeof(*count)) / sizeof(write) ||
	    (payload_bytes(vfu) - sizeof(*count)) % sizeof(write))
		return -EINVAL;
	for (uint64_t i = 0; i < *count; i++) {
		memcpy(&write, vfu->payload + sizeof(*count) + i * sizeof(write), sizeof(write));
		if (write.access.bytes > sizeof(write.data) || check_access(vfu, &write.access))
			return -EINVAL;
		vfu_device_write(&vfu->device, write.access.region, write.access.offset, write.data,
				 write.access.bytes);
	}
	memcpy(answer(vfu, sizeof(*count)), count, sizeof(*count));
	return 0;
}

static int do_reset(struct vfu *vfu)
{
	vfu_device_reset(&vfu->device);
	return 0;
}

static int dispatch(struct vfu *vfu)
{
	if (vfu->in.command == CMD_VERSION) {
		if (vfu->has_version)
			return complain(vfu, "a second VERSION");
		return do_version(vfu);
	}
	if (!vfu->has_version)
		return complain(vfu, "command %u before VERSION", vfu->in.command);
	switch (vfu->in.command) {
	case CMD_DMA_MAP: return do_dma_map(vfu);
	case CMD_DMA_UNMAP: return do_dma_unmap(vfu);
	case CMD_GET_INFO: return do_get_info(vfu);
	case CMD_GET_REGION_INFO: return do_get_region_info(vfu);
	case CMD_GET_REGION_IO_FDS: return do_get_region_io_fds(vfu);
	case CMD_GET_IRQ_INFO: return do_get_irq_info(vfu);
	case CMD_SET_IRQS: return do_set_irqs(vfu);
	case CMD_REGION_READ: return do_region_read(vfu);
	case CMD_REGION_WRITE: return do_region_write(vfu);
	case CMD_RESET: return do_reset(vfu);
	case CMD_REGION_WRITE_MULTI: return do_region_write_multi(vfu);
	default: return -ENOTSUP;
	}
}

/* Runs the message that is complete now and puts the answer in place. */
static int handle(struct vfu *vfu)
{
	struct header *out = (struct header *)vfu->out;
	int ret;

	vfu->out_bytes = sizeof(*out);
	vfu->out_sent = 0;
	vfu->out_fd = -1;
	ret = dispatch(vfu);
	close_fds(vfu);
	vfu->in_bytes = 0;
	if (ret == -EPROTO)
		return ret;
	if (vfu->in.flags & NO_REPLY) {
		vfu->out_bytes = 0;
		return 0;
	}
	if (ret) {
		vfu->out_bytes = sizeof(*out);
		vfu->out_fd = -1;
	}
	*out = (struct header){
		.id = vfu->in.id,
		.command = vfu->in.command,
		.bytes = vfu->out_bytes,
		.flags = TYPE_REPLY | (ret ? IS_ERROR : 0),
		.error = -ret,
	};
	return 0;
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
			if (vfu->fd_count < MAX_FDS) {
				vfu->fds[vfu->fd_count++] = fd;
			} else {
				close(fd);
				too_many = true;
			}
		}
	}
	return too_many ? complain(vfu, "more than %d files with one message", MAX_FDS) : 0;
}

/* Returns 1 when there is nothing more to read now, 0 when `bytes` of the message are there. */
static int receive(struct vfu *vfu, size_t bytes)
{
	union {
		char bytes[CMSG_SPACE(MAX_FDS * sizeof(int))];
		struct cmsghdr align;
	} control;

	while (vfu->in_bytes < bytes) {
		const size_t header = sizeof(vfu->in);
		struct iovec part = vfu->in_bytes < header ?
			(struct iovec){ (char *)&vfu->in + vfu->in_bytes, header - vfu->in_bytes } :
			(struct iovec){ vfu->payload + vfu->in_bytes - header,
					bytes - vfu->in_bytes };
		struct msghdr message = {
			.msg_iov = &part, .msg_iovlen = 1,
			.msg_control = &control, .msg_controllen = sizeof(control),
		};
		ssize_t n = recvmsg(vfu->socket, &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);

		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return 1;
			return errno == ECONNRESET ? -ENOTCONN :
				complain(vfu, "receiving: %s", strerror(errno));
		}
		if (n == 0)
			return vfu->in_bytes ? complain(vfu, "it left in the middle of a message") :
				-ENOTCONN;
		vfu->in_bytes += n;
		if (keep_fds(vfu, &message))
			return -EPROTO;
	}
	return 0;
}

static int check_header(struct vfu *vfu)
{
	const struct header *in = &vfu->in;

	if (in->bytes < sizeof(*in) || in->bytes > sizeof(*in) + MAX_PAYLOAD)
		return complain(vfu, "a message of %u bytes", in->bytes);
	if ((in->flags & TYPE_MASK) != TYPE_COMMAND)
		return complain(vfu, "an answer to no question (flags 0x%x)", in->flags);
	return 0;
}

/* Returns 1 when the client does not take more now. */
static int send_answer(struct vfu *vfu)
{
	union {
		char bytes[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };

	while (vfu->out_sent < vfu->out_bytes) {
		struct iovec part = { vfu->out + vfu->out_sent, vfu->out_bytes - vfu->out_sent };
		struct msghdr message = { .msg_iov = &part, .msg_iovlen = 1 };
		ssize_t n;

		if (vfu->out_fd >= 0 && !vfu->out_sent) {
			message.msg_control = &control;
			message.msg_controllen = sizeof(control);
			control.align.cmsg_len = CMSG_LEN(sizeof(int));
			control.align.cmsg_level = SOL_SOCKET;
			control.align.cmsg_type = SCM_RIGHTS;
			memcpy(CMSG_DATA(&control.align), &vfu->out_fd, sizeof(int));
		}
		n = sendmsg(vfu->socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (n < 0) {
			if (errno == EAGAIN || errno == EINTR)
				return 1;
			return errno == EPIPE || errno == ECONNRESET ? -ENOTCONN :
				complain(vfu, "sending: %s", strerror(errno));
		}
		vfu->out_sent += n;
	}
	vfu->out_bytes = vfu->out_sent = 0;
	return 0;
}

/* One message, as far as it goes: 0 done, 1 wait for the socket, or -errno. */
static int step(struct vfu *vfu)
{
	int ret;

	if (vfu->out_bytes)
		return send_answer(vfu);
	if (vfu_dma_broken())
		return complain(vfu, "a file mapped for DMA became shorter");
	ret = receive(vfu, sizeof(vfu->in));
	if (ret)
		return ret;
	ret = check_header(vfu);
	if (ret)
		return ret;
	ret = receive(vfu, vfu->in.bytes);
	if (ret)
		return ret;
	return handle(vfu);
}

struct vfu *vfu_new(void)
{
	struct vfu *vfu = calloc(1, sizeof(*vfu));

	if (!vfu)
		return NULL;
	vfu->socket = -1;
	vfu_device_init(&vfu->device);
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
	vfu->has_version = false;
	vfu->in_bytes = vfu->out_bytes = vfu->out_sent = 0;
	vfu->complaint[0] = 0;
}

short vfu_wants(const struct vfu *vfu)
{
	return vfu->out_bytes ? POLLOUT : POLLIN;
}

int vfu_serve(struct vfu *vfu)
{
	/* A client that never stops talking must leave room for signals: some messages, then back. */
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
	return vfu->complaint;
}

void vfu_disconnect(struct vfu *vfu)
{
	close(vfu->socket);
	vfu->socket = -1;
	close_fds(vfu);
	vfu_device_unplug(&vfu->device);
}

void vfu_interrupt(void *opaque, unsigned int vector)
{
	struct vfu *vfu = opaque;

	vfu_device_interrupt(&vfu->device, vector);
}
