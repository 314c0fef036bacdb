/* SPDX-License-Identifier: MIT */
/*
 * One message of a vfio-user client and its answer. vfu.c moves the bytes, vfu_message.c knows what
 * they mean.
 */
#ifndef FLIGHTLLM_VFU_MESSAGE_H
#define FLIGHTLLM_VFU_MESSAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "emulator/link/vfu_device.h"

#define VFU_DATA_MAX (64u << 10)	/* bytes of a region read or write */
#define VFU_PAYLOAD_MAX (VFU_DATA_MAX + 64)
#define VFU_FDS_MAX 16		/* in one message; QEMU refuses a server that takes more */

/* Flags of a header. */
enum {
	VFU_TYPE_MASK = 0xf,
	VFU_TYPE_COMMAND = 0,
	VFU_TYPE_REPLY = 1,
	VFU_NO_REPLY = 0x10,
	VFU_IS_ERROR = 0x20,
};

struct vfu_header {
	uint16_t id, command;
	uint32_t bytes;		/* header included */
	uint32_t flags, error;
};
_Static_assert(sizeof(struct vfu_header) == 16, "the protocol's header");

struct vfu_message {
	bool has_version;	/* the first message was answered */

	/* The request: in.bytes of header and payload, in bounds. */
	struct vfu_header in;
	_Alignas(8) uint8_t payload[VFU_PAYLOAD_MAX];
	int fds[VFU_FDS_MAX];	/* files that came with it; -1: kept by somebody, or of no use */
	unsigned int fd_count;

	/* The answer; out_bytes is 0 for none. */
	_Alignas(8) uint8_t out[sizeof(struct vfu_header) + VFU_PAYLOAD_MAX];
	size_t out_bytes;
	int out_fd;		/* goes with it, borrowed from the card; or -1 */

	char complaint[200];	/* why the client must be dropped */
};

/* Notes the reason in one line; returns -EPROTO. */
__attribute__((format(printf, 2, 3)))
int vfu_message_complain(struct vfu_message *message, const char *format, ...);

void vfu_message_close_fds(struct vfu_message *message);

/*
 * Executes a complete message, prepares the answer and closes the files that nobody kept. Returns
 * 0, also when the answer is an error, or -EPROTO when the client must be dropped.
 */
int vfu_message_handle(struct vfu_message *message, struct vfu_device *device);

#endif
