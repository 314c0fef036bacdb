// SPDX-License-Identifier: MIT
/*
 * A client that says anything: the input is a list of messages {command, flags, files, length (two
 * bytes), payload} that get a header each, up to a command of 255; from there on it is sent as it
 * is. The server may answer what it likes or hang up; it must not crash, leak or wait.
 */
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "emulator/card.h"
#include "emulator/link/vfu.h"

/* Header with room for its size, version 0.0, and the one capability that the server looks for. */
static const char version[] = "\1\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0" "\0\0\0\0"
	"{\"capabilities\":{\"write_multiple\":true}}";

static struct vfu *vfu;
static struct card *card;
static int files[4];

int LLVMFuzzerInitialize(int *argc, char ***argv);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes);

int LLVMFuzzerInitialize(int *argc, char ***argv)
{
	struct card_options options = { .profile = "tiny", .bar2_bytes = 16 << 20, .threads = 1 };
	struct card_host host = { .interrupt = vfu_interrupt };
	char error[CARD_ERROR_BYTES];
	int pipes[2];

	(void)argc;
	(void)argv;
	vfu = vfu_new();
	host.opaque = vfu;
	if (!vfu || card_new(&options, &host, &card, error) || vfu_plug(vfu, card))
		abort();
	files[0] = memfd_create("guest", MFD_CLOEXEC);
	files[1] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (files[0] < 0 || ftruncate(files[0], 1 << 20) || pipe(pipes))
		abort();
	files[2] = pipes[0];
	files[3] = pipes[1];
	return 0;
}

/* Lets the server work until it waits for us; what it answers is thrown away. */
static bool serve(int client)
{
	static uint8_t answer[1 << 17];
	ssize_t n;

	for (;;) {
		bool got = false;

		if (vfu_serve(vfu))
			return false;
		while ((n = recv(client, answer, sizeof(answer), MSG_DONTWAIT)) > 0)
			got = true;
		if (!got && vfu_wants(vfu) == POLLIN)
			return true;
	}
}

static bool say(int client, const void *bytes, size_t n, unsigned int kind)
{
	union {
		char bytes[CMSG_SPACE(2 * sizeof(int))];
		struct cmsghdr align;
	} control = { 0 };
	struct iovec part = { (void *)bytes, n };
	struct msghdr m = { .msg_iov = &part, .msg_iovlen = 1 };
	unsigned int count = kind == 0 ? 0 : 1 + (kind >> 2 & 1);

	if (count) {
		m.msg_control = &control;
		m.msg_controllen = CMSG_SPACE(count * sizeof(int));
		control.align.cmsg_len = CMSG_LEN(count * sizeof(int));
		control.align.cmsg_level = SOL_SOCKET;
		control.align.cmsg_type = SCM_RIGHTS;
		for (unsigned int i = 0; i < count; i++)
			memcpy(CMSG_DATA(&control.align) + i * sizeof(int), &files[kind & 3],
			       sizeof(int));
	}
	return sendmsg(client, &m, MSG_NOSIGNAL | MSG_DONTWAIT) > 0 && serve(client);
}

static void talk(int client, const uint8_t *data, size_t bytes)
{
	static uint8_t message[16 + 65536];
	uint32_t size;

	memcpy(message, version, sizeof(version));
	size = sizeof(version);
	memcpy(message + 4, &size, 4);
	if (!say(client, message, size, 0))
		return;
	while (bytes >= 5 && data[0] != 255) {
		size_t n = data[3] | data[4] << 8;

		if (n > bytes - 5)
			n = bytes - 5;
		memset(message, 0, 16);
		message[2] = data[0];
		message[8] = data[1] & 0x30;
		size = 16 + n;
		memcpy(message + 4, &size, 4);
		memcpy(message + 16, data + 5, n);
		if (!say(client, message, size, data[2] & 7))
			return;
		data += 5 + n;
		bytes -= 5 + n;
	}
	if (bytes > 1)
		say(client, data + 1, bytes - 1, 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t bytes)
{
	int ends[2];

	if (bytes > 60000 || socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return 0;
	vfu_connect(vfu, ends[0]);
	talk(ends[1], data, bytes);
	close(ends[1]);
	vfu_disconnect(vfu);
	return 0;
}
