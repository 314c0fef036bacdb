// SPDX-License-Identifier: MIT
/*
 * What a vfio-user client can do with the files that it sends and shares with the emulator:
 * whatever it does, registers answer, the next client is served and SIGTERM ends it all.
 */
#include <linux/filter.h>
#include <linux/memfd.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/syscall.h>

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

/* O_NONBLOCK is the file's, which both have: a card that relied on it would wait for good. */
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

/* How many huge pages the host keeps, or -1; `pages` is to be that from now on if it is not. */
static int huge_pages(int pages)
{
	int fd = open("/proc/sys/vm/nr_hugepages", pages < 0 ? O_RDONLY : O_RDWR), n = -1;
	char text[32] = "";

	if (fd >= 0 && pages >= 0)
		dprintf(fd, "%d", pages);
	if (fd >= 0 && pread(fd, text, sizeof(text) - 1, 0) > 0)
		n = atoi(text);
	close(fd);
	return n;
}

/* A file of two huge pages, all there; or -1. */
static int huge_file(uint64_t bytes)
{
	int fd = memfd_create("huge", MFD_CLOEXEC | MFD_HUGETLB | MFD_HUGE_2MB);

	if (fd >= 0 && !fallocate(fd, 0, 0, (off_t)bytes))
		return fd;
	close(fd);
	return -1;
}

/* Whether the emulator has a file of this name mapped. */
static bool is_mapped(const struct client *c, const char *name)
{
	char path[64], line[512];
	bool is_found = false;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", c->pid);
	maps = fopen(path, "r");
	while (maps && fgets(line, sizeof(line), maps))
		is_found |= strstr(line, name) != NULL;
	if (maps)
		fclose(maps);
	return is_found;
}

/* Windows of huge pages as QEMU makes them, where guests have holes: below 640 KiB, from 768 on. */
static void check_huge(int file, uint64_t bytes)
{
	const uint64_t at = 768 << 10;		/* in the file: the guest lies across two pages */
	uint8_t *memory = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
	struct client c = start();
	struct guest g;

	if (memory == MAP_FAILED)
		err(1, "mmap");
	ok(!client_dma_map(&c, 0, 640 << 10, file, 0, 3) &&
	   !client_dma_map(&c, 2 << 20, 2 << 20, file, 2 << 20, 3), "a window of 640 KiB and a whole page");
	ok(!client_dma_unmap(&c, 0, 640 << 10) && !client_dma_unmap(&c, 2 << 20, 2 << 20) &&
	   !is_mapped(&c, "memfd:huge"), "nothing of them stays mapped");
	memset(memory + at, 0, GUEST_BYTES + 4096);
	memory[at - 1] = memory[at + GUEST_BYTES] = 0x5a;
	g = guest_start_in(&c, file, at, memory + at);
	guest_fill(&c, &g, 0xdeadbeef);
	ok(guest_hears(&g) && load32(g.memory + DATA) == 0xdeadbeef &&
	   load32(g.memory + DATA + 4092) == 0xdeadbeef && !load32(g.memory + DATA + 4096),
	   "a window that begins and ends in the middle of a page is the guest's memory");
	ok(memory[at - 1] == 0x5a && memory[at + GUEST_BYTES] == 0x5a, "what lies around it is not");
	ok(client_dma_map(&c, 0x4000000, 8192, file, bytes - 4096, 3) == EINVAL,
	   "a window beyond the end of its file is refused");
	ok(!client_dma_unmap(&c, GUEST, GUEST_BYTES) && !is_mapped(&c, "memfd:huge"),
	   "and nothing of it stays mapped");
	client_dma_map(&c, GUEST, GUEST_BYTES, g.file, at, 3);
	ok(next_is_served(&c) && !is_mapped(&c, "memfd:huge"), "nor when the client leaves");
	close(g.event);
	munmap(memory, bytes);
	kill(c.pid, SIGTERM);
	ok(client_stop(&c) == 0, "the emulator ends with status 0");
}

static void test_huge(void)
{
	const uint64_t bytes = 4 << 20;
	int before = huge_pages(-1), file = huge_file(bytes);

	if (file < 0 && before >= 0 && huge_pages(before + 2) == before + 2)
		file = huge_file(bytes);
	else
		before = -1;
	if (file >= 0)
		check_huge(file, bytes);
	else
		skip("windows of huge pages", "there are none, and only root makes some "
		     "(sysctl vm.nr_hugepages=2)");
	close(file);
	if (before >= 0)
		huge_pages(before);
}

/* From now on io_setup() ends with this errno, in all that this process starts. */
static bool refuse_aio(unsigned int error)
{
	struct sock_filter filter[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_io_setup, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | error),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = { sizeof(filter) / sizeof(filter[0]), filter };

	return !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) &&
	       !prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program);
}

/* Without asynchronous I/O there are no interrupts: the emulator says so and does not begin. */
static void test_no_aio(void)
{
	static const struct {
		int error;
		const char *remedy;
	} rows[] = {
		{ EAGAIN, "; raise fs.aio-max-nr\n" },
		{ EPERM, "Operation not permitted; use a kernel that has it, and a container that "
			 "allows io_setup()\n" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct client c;

		if (!refuse_aio(rows[i].error)) {
			skip("a host that refuses asynchronous I/O", "no filter of system calls here");
			return;
		}
		c = client_start("tiny", keep);
		ok(c.socket < 0 && strstr(client_log(&c), rows[i].remedy),
		   "a host that refuses asynchronous I/O: %s", strerror(rows[i].error));
		ok(client_stop(&c) == 1, "with status 1");
	}
}

int main(void)
{
	test_full();
	test_own_socket();
	test_huge();
	test_no_aio();		/* last: what is refused stays refused */
	return done_testing();
}
