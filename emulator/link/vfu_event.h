/* SPDX-License-Identifier: MIT */
/*
 * Eventfds that a client sent: how the card rings one, and how one is known.
 *
 * write() cannot be used. It waits at a full counter unless the file has O_NONBLOCK, which the
 * client shares and can clear at any time; and the caller holds the card's locks. The kernel
 * itself, as for KVM and VFIO, adds to an eventfd without ever waiting. Asynchronous I/O gives that
 * to a process: the end of a request rings the eventfd that the request names. Our request reads
 * nothing from /dev/null, so it ends before io_submit() returns.
 *
 * Threads: vfu_event_ring() may be called from any.
 */
#ifndef FLIGHTLLM_VFU_EVENT_H
#define FLIGHTLLM_VFU_EVENT_H

#include <linux/aio_abi.h>
#include <stdbool.h>

struct vfu_event {
	aio_context_t context;
	int null;		/* /dev/null */
};

/* 0; -EAGAIN when fs.aio-max-nr is reached; -ENOSYS in a kernel without AIO; or another -errno. */
int vfu_event_init(struct vfu_event *event);
void vfu_event_fini(struct vfu_event *event);

/* Adds 1, or nothing to a counter that is full. Never waits. 0 or -errno. */
int vfu_event_ring(struct vfu_event *event, int fd);

/* fd may be -1. */
bool vfu_event_is(int fd);

#endif
