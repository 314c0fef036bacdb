// SPDX-License-Identifier: MIT
/*
 * What a vfio-user client can do with the files that it sends, whose descriptions it shares with the
 * emulator: whatever it does, registers answer, the next client is served and SIGTERM ends it all.
 */
#include "tests/emulator/vfu_guest.h"
#include "tests/tap.h"

static const char *const keep[] = { "--keep", NULL };

/* An answer that does not come within 5 s comes never. */
static void be_impatient(struct client *c)
{
	struct timeval limit = { .tv_sec = 5 };

	setsockopt(c->socket, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
}

static struct client start(void)
{
	struct client c = client_start("tiny", keep);

	if (c.socket < 0 || client_version(&c))
		errx(1, "flightllm-emu does not start: %s", client_log(&c));
	be_impatient(&c);
	return c;
}

/* The client leaves, and another comes: whether it is served. */
static bool next_is_served(struct client *c)
{
	close(c->socket);
	c->socket = client_dial(c->path);
	be_impatient(c);
	return c->socket >= 0 && !client_version(c);
}

/* O_NONBLOCK is the description's, which both have: a card that relied on it would wait for good. */
static void test_full(void)
{
	const uint64_t full = UINT64_MAX - 1;
	struct client c = start();
	struct guest g = guest_start(&c);

	if (fcntl(g.event, F_SETFL, 0) || write(g.event, &full, sizeof(full)) != sizeof(full))
		err(1, "eventfd");
	guest_fill(&c, &g, 7);
	ok(UNTIL(load32(g.memory + DONE + 8)) && client_get(&c, CLIENT_BAR0, 0, 4) == 0x314d4c46,
	   "an eventfd that is full and blocks does not stop the card");
	ok(!client_set_irqs(&c, 1 | 32, 2, 1, 1, NULL, 0), "nor a message that rings it");
	ok(next_is_served(&c), "the next client is served");
	take(g.event);		/* empty, it lets go whoever waits for it */
	guest_stop(&g);
	g = guest_start(&c);
	if (fcntl(g.event, F_SETFL, 0) || write(g.event, &full, sizeof(full)) != sizeof(full))
		err(1, "eventfd");
	guest_fill(&c, &g, 8);
	UNTIL(load32(g.memory + DONE + 8));
	client_set_irqs(&c, 1 | 32, 2, 1, 1, NULL, 0);
	kill(c.pid, SIGTERM);
	ok(UNTIL(client_ended(&c, false)), "and SIGTERM ends the emulator");
	ok(take(g.event) >= full, "the eventfd is as full as before");
	ok(client_stop(&c) == 0, "with status 0");
	guest_stop(&g);
}

/* Sends the first bytes of a message with files, leaves, and closes all that it has of them. */
static void leave_in_the_middle(struct client *c, const int *fds, unsigned int count)
{
	const struct client_header cut = { 1, MSG_REGION_READ, 32, 0, 0 };

	client_send_raw(c, &cut, sizeof(cut), fds, count);
	pause_ms(20);
}

/* A file that holds the client's socket would keep the client alive. */
static void test_own_socket(void)
{
	struct client c = start();
	int event = eventfd(0, EFD_CLOEXEC), memory = memory_file(4096), pair[2];
	int both[2] = { event, c.socket }, three[3] = { event, memory, -1 };

	ok(client_set_irqs(&c, 4 | 32, 2, 0, 2, both, 2) == EINVAL, "a socket is no eventfd");
	ok(client_dma_map(&c, 0x100000, 4096, c.socket, 0, 3) == EINVAL &&
	   client_dma_map(&c, 0x100000, 4096, event, 0, 3) == EINVAL,
	   "a socket or an eventfd is no memory");
	leave_in_the_middle(&c, &c.socket, 1);
	ok(next_is_served(&c), "a client that has sent its own socket and left is seen to leave");
	/* Its socket on its way to somebody else's, which came with eventfd and memory. */
	if (socketpair(AF_UNIX, SOCK_STREAM, 0, pair))
		err(1, "socketpair");
	client_send_raw(&(struct client) { .socket = pair[0] }, "x", 1, &c.socket, 1);
	three[2] = pair[1];
	leave_in_the_middle(&c, three, 3);
	close(pair[0]);
	close(pair[1]);
	ok(next_is_served(&c), "and so is one whose socket is inside another");
	close(event);
	close(memory);
	kill(c.pid, SIGTERM);
	ok(client_stop(&c) == 0, "the emulator ends with status 0");
}

int main(void)
{
	test_full();
	test_own_socket();
	return done_testing();
}
