// SPDX-License-Identifier: MIT
/* Eventfds, rung without a chance to wait; vfu_event.h says how. */
#include <errno.h>
#include <fcntl.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "emulator/link/vfu_event.h"

int vfu_event_init(struct vfu_event *event)
{
	int error;

	event->context = 0;
	event->null = open("/dev/null", O_RDONLY | O_CLOEXEC);
	if (event->null < 0)
		return -errno;
	if (!syscall(SYS_io_setup, 1, &event->context))
		return 0;
	error = -errno;
	close(event->null);
	return error;
}

void vfu_event_fini(struct vfu_event *event)
{
	syscall(SYS_io_destroy, event->context);
	close(event->null);
}

int vfu_event_ring(struct vfu_event *event, int fd)
{
	struct iocb request = {
		.aio_lio_opcode = IOCB_CMD_PREAD, .aio_fildes = event->null,
		.aio_flags = IOCB_FLAG_RESFD, .aio_resfd = fd,
	}, *list = &request;
	struct io_event done;

	if (syscall(SYS_io_submit, event->context, 1, &list) != 1)
		return -errno;
	/* It has ended; what tells of that makes room for the next. */
	return syscall(SYS_io_getevents, event->context, 1, 1, &done, NULL) == 1 ? 0 : -errno;
}

bool vfu_event_is(int fd)
{
	char path[32], target[32] = "";

	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	return readlink(path, target, sizeof(target) - 1) > 0 &&
		!strcmp(target, "anon_inode:[eventfd]");
}
