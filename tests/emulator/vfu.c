// SPDX-License-Identifier: MIT
/*
 * The card across a vfio-user socket: configuration space, BARs, interrupts, memory for DMA,
 * resets, and what happens to a client that breaks the protocol. Each part plugs in a card of its
 * own.
 */
#include <dirent.h>

#include "tests/emulator/vfu_guest.h"
#include "tests/tap.h"

static struct client start(void)
{
	static const char *const options[] = { "--bar2", "16M", "--serial", "0x0123456789abcdef",
					       NULL };
	struct client c = client_start("tiny", options);

	if (c.socket < 0 || client_version(&c))
		errx(1, "flightllm-emu does not start: %s", client_log(&c));
	return c;
}

static void stop(struct client *c)
{
	ok(client_stop(c) == 0, "the emulator ends with status 0 when its client has left");
}

static void test_version(void)
{
	static const char text[] = "\0\0\3\0{\"capabilities\":{\"max_msg_fds\":8}}";
	static const char newer[] = "\1\0\0\0{}";
	static const char open_end[] = { 0, 0, 0, 0, '{', '}' };
	struct client c = client_start("tiny", NULL);
	char reply[256] = "";

	ok(client_call(&c, MSG_VERSION, text, sizeof(text), reply, sizeof(reply)) == 0 &&
		   !memcmp(reply, "\0\0\0\0", 4) && strstr(reply + 4, "\"max_dma_maps\":16384") &&
		   strstr(reply + 4, "\"max_data_xfer_size\":65536") &&
		   !strstr(reply + 4, "write_multiple"),
	   "version 0.3 is answered by 0.0 and what was offered");
	ok(client_call(&c, MSG_VERSION, text, sizeof(text), reply, sizeof(reply)) == -1,
	   "a second version ends the connection");
	ok(strstr(client_log(&c), "a second VERSION"), "and one line says so");
	stop(&c);

	c = client_start("tiny", NULL);
	ok(client_call(&c, MSG_VERSION, newer, sizeof(newer), reply, sizeof(reply)) == -1 &&
	   strstr(client_log(&c), "version 1.0 is not spoken"), "version 1 is refused by name");
	stop(&c);
	c = client_start("tiny", NULL);
	ok(client_call(&c, MSG_VERSION, open_end, sizeof(open_end), reply, sizeof(reply)) == -1,
	   "a version whose text has no end is refused");
	stop(&c);
	c = client_start("tiny", NULL);
	ok(client_get(&c, CLIENT_CONFIG, 0, 4) == ~0ull, "nothing is answered before the version");
	stop(&c);
}

static void test_info(void)
{
	struct client c = start();
	struct { uint32_t argsz, flags, regions, irqs; } info = { 16, 0, 0, 0 };
	struct {
		uint32_t argsz, flags, index, cap;
		uint64_t bytes, offset;
	} region = { .argsz = 32 };
	struct { uint32_t argsz, flags, index, count; } irq = { 16, 0, 2, 0 }, io = { 16, 0, 0, 9 };

	ok(!client_call(&c, MSG_GET_INFO, &info, 16, &info, 16) && info.argsz == 16 &&
	   info.flags == 3 && info.regions == 9 && info.irqs == 5,
	   "it is a PCI device with reset, 9 regions and 5 kinds of interrupts");
	region.index = 2;
	ok(!client_call(&c, MSG_GET_REGION_INFO, &region, 32, &region, 32) && region.argsz == 32 &&
	   region.flags == 7 && region.bytes == 16 << 20 && c.fd >= 0, "BAR2 is a file of 16 MiB");
	memset(&region, 0, sizeof(region));
	region.argsz = 32;
	region.index = 4;
	ok(!client_call(&c, MSG_GET_REGION_INFO, &region, 32, &region, 32) && region.flags == 7 &&
		   region.bytes >= 8 * 4096 && c.fd >= 0,
	   "BAR4 is a file with a page for each of 8 queues");
	memset(&region, 0, sizeof(region));
	region.argsz = 32;
	ok(!client_call(&c, MSG_GET_REGION_INFO, &region, 32, &region, 32) && region.flags == 3 &&
	   region.bytes == 16384 && c.fd < 0, "BAR0 is trapped");
	memset(&region, 0, sizeof(region));
	region.argsz = 32;
	region.index = 7;
	ok(!client_call(&c, MSG_GET_REGION_INFO, &region, 32, &region, 32) && region.flags == 3 &&
	   region.bytes == 4096, "configuration space has 4096 bytes");
	memset(&region, 0, sizeof(region));
	region.argsz = 32;
	region.index = 6;
	ok(!client_call(&c, MSG_GET_REGION_INFO, &region, 32, &region, 32) && region.flags == 0 &&
	   region.bytes == 0, "there is no ROM");
	region.index = 9;
	ok(client_call(&c, MSG_GET_REGION_INFO, &region, 32, &region, 32) == EINVAL,
	   "region 9 does not exist");
	region.index = 0;
	ok(client_call(&c, MSG_GET_REGION_INFO, &region, 31, &region, 32) == EINVAL,
	   "a question that is too short is refused");
	ok(!client_call(&c, MSG_GET_IRQ_INFO, &irq, 16, &irq, 16) && irq.flags == 9 &&
		   irq.count >= 1 && irq.count <= 2048,
	   "MSI-X vectors exist and are signalled by eventfds");
	irq.index = 0;
	ok(!client_call(&c, MSG_GET_IRQ_INFO, &irq, 16, &irq, 16) && irq.count == 0,
	   "there is no pin interrupt");
	irq.index = 5;
	ok(client_call(&c, MSG_GET_IRQ_INFO, &irq, 16, &irq, 16) == EINVAL,
	   "kind 5 does not exist");
	ok(!client_call(&c, MSG_GET_REGION_IO_FDS, &io, 16, &io, 16) && io.count == 0 &&
		   io.argsz == 16,
	   "no region has eventfds of its own");
	ok(client_call(&c, 16, &io, 16, NULL, 0) == ENOTSUP,
	   "an unknown command is an error, no more");
	ok(client_get(&c, CLIENT_CONFIG, 0, 4) == 0xf1171234, "and the next one is answered");
	stop(&c);
}

/* Walks a capability list; returns the offset of `id`, or 0. */
static uint32_t find_capability(struct client *c, uint8_t id)
{
	uint32_t at = client_get(c, CLIENT_CONFIG, 0x34, 1);

	for (int i = 0; at && i < 48; i++) {
		if (client_get(c, CLIENT_CONFIG, at, 1) == id)
			return at;
		at = client_get(c, CLIENT_CONFIG, at + 1, 1);
	}
	return 0;
}

static uint32_t find_extended(struct client *c, uint16_t id)
{
	uint32_t at = 0x100;

	for (int i = 0; at && i < 48; i++) {
		uint32_t header = client_get(c, CLIENT_CONFIG, at, 4);

		if ((header & 0xffff) == id)
			return at;
		at = header >> 20;
	}
	return 0;
}

static uint64_t bar_size(struct client *c, uint32_t at, bool is_64)
{
	uint32_t old = client_get(c, CLIENT_CONFIG, at, 4), low, high = 0xffffffff;

	client_put(c, CLIENT_CONFIG, at, 0xffffffff, 4);
	low = client_get(c, CLIENT_CONFIG, at, 4);
	client_put(c, CLIENT_CONFIG, at, old, 4);
	if (is_64) {
		client_put(c, CLIENT_CONFIG, at + 4, 0xffffffff, 4);
		high = client_get(c, CLIENT_CONFIG, at + 4, 4);
		client_put(c, CLIENT_CONFIG, at + 4, 0, 4);
	}
	return ~((uint64_t)high << 32 | (low & ~0xfu)) + 1;
}

static void test_config(void)
{
	struct client c = start();
	uint32_t pm, express, msix, aer, serial;

	ok(client_get(&c, CLIENT_CONFIG, 0, 4) == 0xf1171234, "vendor 1234, device f117");
	ok(client_get(&c, CLIENT_CONFIG, 8, 4) == 0x12000001,
	   "class 1200, revision = register map 1");
	ok(client_get(&c, CLIENT_CONFIG, 0x2c, 4) == 0x00041234, "subsystem 4 is the profile tiny");
	ok(client_get(&c, CLIENT_CONFIG, 4, 4) == 0x00100000, "memory and bus master are off");
	ok((client_get(&c, CLIENT_CONFIG, 0x10, 4) & 0xf) == 0 &&
		   bar_size(&c, 0x10, false) == 16384,
	   "BAR0 has 32 bits and 16 KiB");
	ok((client_get(&c, CLIENT_CONFIG, 0x18, 4) & 0xf) == 0xc &&
		   bar_size(&c, 0x18, true) == 16 << 20,
	   "BAR2 is 64-bit, prefetchable, 16 MiB");
	ok((client_get(&c, CLIENT_CONFIG, 0x20, 4) & 0xf) == 0x4 &&
		   bar_size(&c, 0x20, true) >= 32768,
	   "BAR4 is 64-bit, not prefetchable");
	client_put(&c, CLIENT_CONFIG, 0, 0xdeadbeef, 4);
	ok(client_get(&c, CLIENT_CONFIG, 0, 4) == 0xf1171234, "the identity cannot be written");

	pm = find_capability(&c, 0x01);
	express = find_capability(&c, 0x10);
	msix = find_capability(&c, 0x11);
	ok(pm && express && msix, "capabilities: power management, PCI Express, MSI-X");
	ok((client_get(&c, CLIENT_CONFIG, express + 2, 2) & 0xff) == 0x02,
	   "it is an Express endpoint");
	ok(client_get(&c, CLIENT_CONFIG, express + 4, 4) >> 28 & 1, "which knows FLR");
	ok((client_get(&c, CLIENT_CONFIG, express + 0x12, 2) & 0x3ff) == 0x103,
	   "on a link Gen3 x16");
	ok((client_get(&c, CLIENT_CONFIG, msix + 4, 4) & 7) == 0 &&
	   client_get(&c, CLIENT_CONFIG, msix + 4, 4) >= 4096, "MSI-X lies behind the registers");

	aer = find_extended(&c, 0x0001);
	serial = find_extended(&c, 0x0003);
	ok(aer && serial, "extended capabilities: AER and serial number");
	ok(client_get(&c, CLIENT_CONFIG, serial + 4, 8) == 0x0123456789abcdefull,
	   "the serial number");
	client_put(&c, CLIENT_CONFIG, aer + 8, 0xffffffff, 4);
	ok(client_get(&c, CLIENT_CONFIG, aer + 8, 4) == 0x005ff010,
	   "AER masks exactly the errors that exist");
	ok(client_get(&c, CLIENT_CONFIG, 4094, 2) == 0, "the end of the space can be read");
	ok(client_get(&c, CLIENT_CONFIG, 4094, 4) == ~0ull, "but not beyond it");
	ok(client_read(&c, CLIENT_CONFIG, UINT64_MAX - 1, &(uint32_t){ 0 }, 4) == EINVAL,
	   "nor around the end of 64 bits");
	stop(&c);
}

static void test_bars(void)
{
	struct client c = start();
	struct { uint32_t argsz, flags, index, cap; uint64_t bytes, offset; } region = {
		.argsz = 32, .index = 2 };
	struct {
		uint64_t count;
		struct {
			uint64_t offset;
			uint32_t region, bytes;
			uint64_t data;
		} w[2];
	} multi = { 2, { { 64, 2, 4, 0x11223344 }, { 68, 2, 2, 0x5566 } } };
	static uint8_t block[65536];
	uint32_t *memory, behind;
	int file;

	ok(client_get(&c, CLIENT_BAR0, 0, 4) == 0xffffffff,
	   "no BAR answers before memory is enabled");
	client_put(&c, CLIENT_CONFIG, 4, 0x2, 2);
	ok(client_get(&c, CLIENT_BAR0, 0, 4) == 0x314d4c46, "MAGIC");
	ok(client_get(&c, CLIENT_BAR0, 0x20, 8) == 0x0123456789abcdefull,
	   "SERIAL, 8 bytes at once");
	ok(client_get(&c, CLIENT_BAR0, 1, 2) == 0, "an access of another size reads 0");
	client_put(&c, CLIENT_BAR0, 0x98, 0x15, 4);
	ok(client_get(&c, CLIENT_BAR0, 0x98, 4) == 0x15, "EVENT_ENABLE keeps what is written");
	ok(client_get(&c, CLIENT_BAR0, 4096 + 12, 4) == 1,
	   "MSI-X vectors are masked after a reset");
	client_put(&c, CLIENT_BAR0, 4096, 0xfee00000, 4);
	ok(client_get(&c, CLIENT_BAR0, 4096, 4) == 0xfee00000,
	   "the MSI-X table keeps what is written");
	behind = 4096 + 16 * ((client_get(&c, CLIENT_CONFIG, find_capability(&c, 0x11) + 2, 2) &
			       0x7ff) + 1);
	ok(!client_put(&c, CLIENT_BAR0, behind, 0xfee00000, 4) &&
	   client_get(&c, CLIENT_BAR0, behind, 4) == 0, "what lies behind the table does not");
	ok(client_get(&c, CLIENT_BAR0, 4094, 4) == 0,
	   "an access across the registers' end reads 0");
	ok(client_read(&c, CLIENT_BAR0, 16384, block, 1) == EINVAL, "there is nothing behind BAR0");

	client_call(&c, MSG_GET_REGION_INFO, &region, 32, &region, 32);
	file = c.fd;
	c.fd = -1;
	memory = mmap(NULL, region.bytes, PROT_READ | PROT_WRITE, MAP_SHARED, file, region.offset);
	ok(memory != MAP_FAILED, "the window on card memory can be mapped");
	memory[5] = 0xcafe;
	ok(client_get(&c, CLIENT_BAR2, 20, 4) == 0xcafe, "and is the memory that messages read");
	client_put(&c, CLIENT_BAR2, 24, 0x123456789, 8);
	ok(memory[6] == 0x23456789 && memory[7] == 1, "and write");
	ok(ftruncate(file, 4096) < 0 && errno == EPERM, "a client cannot shorten it");
	ok(!client_call(&c, MSG_WRITE_MULTI, &multi, sizeof(multi), NULL, 0) &&
		   memory[16] == 0x11223344 && (memory[17] & 0xffff) == 0x5566,
	   "several writes in one message");
	multi.w[0].bytes = 9;
	ok(client_call(&c, MSG_WRITE_MULTI, &multi, sizeof(multi), NULL, 0) == EINVAL,
	   "of 8 bytes each at most");
	multi.w[0].bytes = 4;
	multi.count = UINT64_MAX / 24;
	ok(client_call(&c, MSG_WRITE_MULTI, &multi, sizeof(multi), NULL, 0) == EINVAL,
	   "of which the count must be true");
	memset(block, 0x5a, sizeof(block));
	ok(!client_write(&c, CLIENT_BAR2, 1 << 20, block, 65536) && memory[1 << 18] == 0x5a5a5a5a,
	   "64 KiB in one message");
	ok(client_read(&c, CLIENT_BAR2, (16 << 20) - 4, block, 8) == EINVAL,
	   "a read across the end of BAR2 is refused");
	ok(client_read(&c, CLIENT_BAR2, 0, block, 65537) == EINVAL,
	   "a read of more than 64 KiB too");
	ok(client_read(&c, 1, 0, block, 4) == EINVAL, "BAR1 does not exist");
	client_put(&c, CLIENT_CONFIG, find_capability(&c, 1) + 4, 3, 2);
	ok(client_get(&c, CLIENT_BAR0, 0, 4) == 0xffffffff, "asleep in D3 no BAR answers");
	client_put(&c, CLIENT_CONFIG, find_capability(&c, 1) + 4, 0, 2);
	ok(client_get(&c, CLIENT_BAR0, 0, 4) == 0x314d4c46, "awake again it does");
	munmap(memory, region.bytes);
	close(file);
	stop(&c);
}

static void test_interrupts(void)
{
	struct client c = start();
	int e[2] = { eventfd(0, EFD_CLOEXEC), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK) };
	const uint64_t full = UINT64_MAX - 1;
	bool is_answered;
	int pipes[2];

	ok(!client_set_irqs(&c, 4 | 32, 2, 0, 2, e, 2), "two vectors get eventfds");
	ok(!client_set_irqs(&c, 1 | 32, 2, 1, 1, NULL, 0) && take(e[1]) == 1 && take(e[0]) == 0,
	   "a client can trigger the second alone");
	if (write(e[0], &full, sizeof(full)) != sizeof(full))
		err(1, "eventfd");
	is_answered = !client_set_irqs(&c, 1 | 32, 2, 0, 1, NULL, 0);
	/* Emptied in any case: a card that waits for it goes on then, and ends. */
	ok(take(e[0]) >= full && is_answered, "the card does not wait for an eventfd that is full");
	ok(!client_set_irqs(&c, 4 | 32, 2, 1, 1, NULL, 0) &&
	   !client_set_irqs(&c, 1 | 32, 2, 0, 2, NULL, 0) && take(e[0]) == 1 && take(e[1]) == 0,
	   "a vector without a file is silent");
	ok(!client_set_irqs(&c, 1 | 32, 2, 0, 0, NULL, 0) &&
		   !client_set_irqs(&c, 1 | 32, 2, 0, 1, NULL, 0) && take(e[0]) == 0,
	   "count 0 silences all");
	ok(client_set_irqs(&c, 4 | 32, 2, 2048, 2, e, 2) == EINVAL, "vector 2048 does not exist");
	ok(client_set_irqs(&c, 4 | 32, 2, UINT32_MAX, 2, e, 2) == EINVAL,
	   "nor does one around 32 bits");
	ok(client_set_irqs(&c, 4 | 32, 2, 0, 1, e, 2) == EINVAL, "files and count must agree");
	ok(client_set_irqs(&c, 4 | 8, 2, 0, 1, e, 1) == EINVAL, "masking is the table's business");
	ok(client_set_irqs(&c, 4 | 32, 3, 0, 1, e, 1) == EINVAL, "there is no error interrupt");
	if (pipe(pipes))
		err(1, "pipe");
	ok(client_set_irqs(&c, 4 | 32, 2, 0, 1, &pipes[1], 1) == EINVAL, "a pipe is no eventfd");
	for (int i = 0; i < 2; i++) {
		close(pipes[i]);
		close(e[i]);
	}
	stop(&c);
}

static void test_dma(void)
{
	struct client c = start();
	int fd = memory_file(1 << 20);
	struct { uint32_t argsz, flags; uint64_t address, bytes; } all = { 24, 2, 0, 0 };
	int fds[2] = { fd, fd };
	struct { uint32_t argsz, flags; uint64_t offset, address, bytes; } two = {
		32, 3, 0, 0x900000, 4096 };

	ok(!client_dma_map(&c, 0x100000, 0x80000, fd, 0, 3), "memory can be lent");
	ok(client_dma_map(&c, 0x17f000, 0x2000, fd, 0, 3) == EEXIST, "but not twice");
	ok(!client_dma_map(&c, 0x180000, 0x80000, fd, 0x80000, 1), "nor read only");
	ok(client_dma_map(&c, 0x300000, 0x100000, fd, 0x1000, 3) == EINVAL, "nor beyond its file");
	ok(client_dma_map(&c, 0x300000, 0x1000, fd, UINT64_MAX - 0xfff, 3) == EINVAL,
	   "nor around 64 bits of the file");
	ok(client_dma_map(&c, UINT64_MAX - 0xfff, 0x2000, fd, 0, 3) == EINVAL,
	   "nor around 64 bits of the bus");
	ok(client_dma_map(&c, 0x300800, 0x1000, fd, 0, 3) == EINVAL, "nor in half pages");
	ok(client_dma_map(&c, 0x300000, 0, fd, 0, 3) == EINVAL, "nor nothing");
	ok(client_dma_map(&c, 0x300000, 0x1000, fd, 0, 0) == EINVAL, "nor without a right");
	ok(client_dma_map(&c, 0x300000, 0x1000, fd, 0, 7) == EINVAL, "nor with unknown flags");
	ok(client_call_fds(&c, MSG_DMA_MAP, &two, 32, NULL, 0, fds, 2) == EINVAL,
	   "nor with two files");
	ok(!client_dma_map(&c, 0x400000, 0x1000, -1, 0, 3), "memory without a file is accepted");
	ok(client_dma_unmap(&c, 0x100000, 0x1000) == EINVAL, "half a mapping cannot be taken back");
	ok(!client_dma_unmap(&c, 0x10000000, 0x1000), "nothing can");
	ok(!client_dma_unmap(&c, 0x100000, 0x80000), "a mapping can");
	ok(!client_dma_map(&c, 0x100000, 0x80000, fd, 0, 3), "and then be lent again");
	ok(!client_dma_unmap(&c, 0, 0x10000000), "a range takes back all inside");
	ok(!client_dma_map(&c, 0x100000, 0x80000, fd, 0, 3), "as this shows");
	ok(!client_call(&c, MSG_DMA_UNMAP, &all, 24, NULL, 0), "one message takes back everything");
	ok(!client_dma_map(&c, 0x100000, 0x80000, fd, 0, 3), "as this shows");
	ok(client_dma_unmap(&c, UINT64_MAX - 0xfff, 0x2000) == EINVAL, "a range does not wrap");
	close(fd);
	stop(&c);
}

/* As many windows as there may be, each beside the next: one message takes them all back, soon. */
static double unmap_many(void *opaque)
{
	struct client *c = opaque;
	int fd = memory_file(1 << 20), refused = 0;
	struct watch watch;
	double took;

	for (uint64_t i = 0; i < 16384; i++)
		refused += client_dma_map(c, i * 8192, 4096, fd, i % 256 * 4096, 3) != 0;
	refused += client_dma_map(c, 16384 * 8192, 4096, fd, 0, 3) != ENOSPC;
	watch = watch_call(c->pid);
	refused += client_dma_unmap(c, 0, 1ull << 40) != 0;
	took = watch_took(&watch);
	refused += client_dma_map(c, 4096, 1 << 20, fd, 0, 3) != 0;
	refused += client_dma_unmap(c, 4096, 1 << 20) != 0;
	close(fd);
	return refused ? 100 : took;
}

static void test_many(void)
{
	struct client c = start();
	bool is_soon;
	double took;

	is_soon = comes_soon(unmap_many, &c, &took);
	ok(is_soon, "16,384 windows are taken back by one message in %.1f ms", took * 1e3);
	stop(&c);
}

static void test_copy(void)
{
	struct client c = start();
	struct guest g = guest_start(&c);

	ok(client_get(&c, CLIENT_BAR0, 0x208, 4) == 1, "a queue in the client's memory is enabled");
	guest_fill(&c, &g, 0xdeadbeef);
	ok(guest_hears(&g), "a slot in it raises its vector");
	ok(load32(g.memory + DATA) == 0xdeadbeef && load32(g.memory + DATA + 4092) == 0xdeadbeef &&
	   load32(g.memory + DATA + 4096) == 0, "and writes the client's memory, and no more");
	ok(load32(g.memory + DONE) == 1 && load32(g.memory + DONE + 8) == 1 &&
	   load32(g.memory + STATUS + 4) == 1, "completion row and status page say so");
	/*
	 * All memory is taken back, and lent anew but for the data. A queue that cannot reach
	 * its status page halts, so the card must have written its last word there first: that
	 * it sleeps.
	 */
	UNTIL(load32(g.memory + STATUS));
	ok(!client_dma_unmap(&c, GUEST, GUEST_BYTES) &&
	   !client_dma_map(&c, GUEST, DATA, g.file, 0, 3), "the data is taken back");
	guest_fill(&c, &g, 0x600d);
	ok(guest_hears(&g) && load32(g.memory + DONE + 64 + 8) == 5 &&
	   g.memory[DONE + 64 + 40] == 6, "a slot that needs it ends with fault DMA");
	ok(load32(g.memory + DATA) == 0xdeadbeef, "and it was not touched");
	ok(!client_dma_map(&c, GUEST + DATA, 4096, g.file, DATA, 1), "it is lent to be read alone");
	guest_fill(&c, &g, 0x600d);
	ok(guest_hears(&g) && load32(g.memory + DONE + 2 * 64 + 8) == 5 &&
	   g.memory[DONE + 2 * 64 + 40] == 6, "a slot that writes it ends with fault DMA");
	ok(load32(g.memory + DATA) == 0xdeadbeef, "and it was not touched");
	guest_stop(&g);
	stop(&c);
}

/* Asleep for a while; whether the queue that is selected has halted then. */
static bool sleeps_and_halts(struct client *c)
{
	uint32_t control = find_capability(c, 1) + 4;

	client_put(c, CLIENT_CONFIG, control, 3, 2);
	pause_ms(20);
	client_put(c, CLIENT_CONFIG, control, 0, 2);
	return client_get(c, CLIENT_BAR0, 0x208, 4) == 2;
}

/*
 * 128 GiB of one block of card memory are filled while the card falls asleep: it cannot say then
 * how far it is, which it would after each 4 MiB.
 */
static void test_sleep(void)
{
	struct client c = start();
	struct guest g = guest_start(&c);
	uint8_t *slot = g.memory + RING;

	store64(g.memory + TABLES, 128ull << 30);
	store64(g.memory + TABLES + 8, GUEST + DATA);	/* zeros: block 0 of core 0 */
	store32(g.memory + TABLES + 16, 65536);
	g.memory[TABLES + 20] = 0;
	g.memory[TABLES + 22] = 21;
	store32(slot, 0x13);
	store32(slot + 4, 1);
	store64(slot + 8, 1);
	store64(slot + 32, 128ull << 30);
	client_put(&c, CLIENT_BAR4, 2 * 4096, 1, 4);
	client_put(&c, CLIENT_BAR0, 0x90, 2, 4);
	ok(UNTIL(load32(g.memory + STATUS + 32)), "a card at work");
	ok(UNTIL(sleeps_and_halts(&c)) && client_get(&c, CLIENT_BAR0, 0x20c, 4) == 6 &&
	   !load32(g.memory + DONE + 8),
	   "reaches no host memory while it is asleep: its queue halts with DMA");
	guest_stop(&g);
	stop(&c);
}

/*
 * A file that gets shorter under a running card takes down neither the emulator nor the next
 * client.
 */
static void test_shrinking_file(void)
{
	static const char *const keep[] = { "--keep", NULL };
	struct client c = client_start("tiny", keep);
	struct guest g;
	uint8_t byte;

	client_version(&c);
	g = guest_start(&c);
	guest_fill(&c, &g, 1);
	ok(guest_hears(&g), "a card is at work in a file");
	if (ftruncate(g.file, DATA))
		err(1, "ftruncate");
	guest_fill(&c, &g, 2);
	ok(!client_receive(&c, &byte, 1) && strstr(client_log(&c), "became shorter"),
	   "when the file gets shorter, its client is dropped with a line that says so");
	close(c.socket);
	c.socket = client_dial(c.path);
	ok(!client_version(&c), "the next client is served");
	guest_stop(&g);
	g = guest_start(&c);
	guest_fill(&c, &g, 3);
	ok(guest_hears(&g) && load32(g.memory + DATA) == 3, "by a card that works");
	kill(c.pid, SIGTERM);
	guest_stop(&g);
	stop(&c);
}

/* A card that was reset is back when STATE says READY; a host waits for it. */
static bool becomes_ready(struct client *c)
{
	return UNTIL(client_get(c, CLIENT_BAR0, 0x84, 4) & 1);
}

static void test_resets(void)
{
	struct client c = start();
	uint32_t express, before;

	client_put(&c, CLIENT_CONFIG, 4, 0x6, 2);
	client_put(&c, CLIENT_CONFIG, 0x10, 0xfe000000, 4);
	client_put(&c, CLIENT_BAR0, 0x98, 0x15, 4);
	before = client_get(&c, CLIENT_BAR0, 0x88, 4);
	express = find_capability(&c, 0x10);
	client_put(&c, CLIENT_CONFIG, express + 8,
		   client_get(&c, CLIENT_CONFIG, express + 8, 2) | 0x8000, 2);
	ok(client_get(&c, CLIENT_CONFIG, 4, 2) == 0 && client_get(&c, CLIENT_CONFIG, 0x10, 4) == 0,
	   "after an FLR command register and BARs are as after power-on");
	ok(!(client_get(&c, CLIENT_CONFIG, express + 8, 2) & 0x8000), "the FLR bit reads 0");
	client_put(&c, CLIENT_CONFIG, 4, 0x2, 2);
	ok(becomes_ready(&c) && client_get(&c, CLIENT_BAR0, 0x98, 4) == 0, "registers too");
	ok(client_get(&c, CLIENT_BAR0, 0x88, 4) == before + 1, "and RESETS counts it");
	ok(!client_call(&c, MSG_RESET, NULL, 0, NULL, 0), "so does a reset by message");
	client_put(&c, CLIENT_CONFIG, 4, 0x2, 2);
	ok(becomes_ready(&c) && client_get(&c, CLIENT_BAR0, 0x88, 4) == before + 2,
	   "as RESETS says");
	stop(&c);
}

/* Sends bytes that are no message; the server must hang up with a line, and end in order. */
static void check_broken(const char *what, const void *bytes, size_t n, const char *complaint)
{
	struct client c = start();
	uint8_t byte;

	client_send_raw(&c, bytes, n, NULL, 0);
	shutdown(c.socket, SHUT_WR);
	ok(!client_receive(&c, &byte, 1) && client_ended(&c, true) &&
		   strstr(client_log(&c), complaint),
	   "%s: dropped with \"%s\"", what, complaint);
	ok(client_stop(&c) == 0, "and the emulator ends in order");
}

static void test_hostile(void)
{
	const struct client_header tiny = { 1, MSG_RESET, 15, 0, 0 };
	const struct client_header huge = { 1, MSG_REGION_WRITE, 0xffffffff, 0, 0 };
	const struct client_header reply = { 1, MSG_RESET, 16, 1, 0 };
	const struct client_header cut = { 1, MSG_REGION_READ, 32, 0, 0 };
	const struct client_header quiet = { 7, 99, 16, 0x10, 0 };
	struct client c = start();
	int fds[40];

	check_broken("a message of 15 bytes", &tiny, 16, "a message of 15 bytes");
	check_broken("a message of 4 GiB", &huge, 16, "a message of 4294967295 bytes");
	check_broken("an answer", &reply, 16, "an answer to no question");
	check_broken("half a header", &tiny, 7, "in the middle of a message");
	check_broken("half a message", &cut, 16, "in the middle of a message");

	ok(client_send_raw(&c, &quiet, 16, NULL, 0) &&
		   client_get(&c, CLIENT_CONFIG, 0, 4) == 0xf1171234,
	   "a message that wants no answer gets none");
	for (int i = 0; i < 40; i++)
		fds[i] = eventfd(0, EFD_CLOEXEC);
	ok(client_set_irqs(&c, 4 | 32, 2, 0, 40, fds, 40) == -1 &&
	   strstr(client_log(&c), "files with one message"), "too many files end the connection");
	for (int i = 0; i < 40; i++)
		close(fds[i]);
	ok(client_stop(&c) == 0, "and the emulator ends in order");
}

/* Many questions are sent before one answer is read: the server must neither wait nor lose one. */
static void test_deaf(void)
{
	struct client c = start();
	struct { struct client_header h; uint64_t offset; uint32_t region, bytes; } q = {
		{ 0, MSG_REGION_READ, 32, 0, 0 }, 0, CLIENT_BAR2, 65536 };
	static uint8_t answer[32 + 65536];
	int n = 0, good = 0;

	client_put(&c, CLIENT_CONFIG, 4, 0x2, 2);
	for (; n < 64; n++) {
		q.h.id = n;
		if (!client_send_raw(&c, &q, sizeof(q), NULL, 0))
			break;
	}
	usleep(200000);
	for (int i = 0; i < n; i++)
		good += client_receive(&c, answer, sizeof(answer)) && answer[0] == i;
	ok(n == 64 && good == 64,
	   "64 answers of 64 KiB arrive although nobody listened for a while");
	stop(&c);
}

static void *map_bar(struct client *c, uint32_t bar)
{
	struct {
		uint32_t argsz, flags, index, cap;
		uint64_t bytes, offset;
	} region = { .argsz = 32, .index = bar };
	void *memory;

	if (client_call(c, MSG_GET_REGION_INFO, &region, 32, &region, 32))
		errx(1, "BAR%u is not told", bar);
	memory = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED, c->fd, 0);
	if (memory == MAP_FAILED)
		err(1, "BAR%u", bar);
	return memory;
}

static void test_second_client(void)
{
	static const char *const keep[] = { "--keep", NULL };
	struct client c = client_start("tiny", keep);
	int fd = memory_file(1 << 20), first;
	uint32_t *windows[2];

	client_version(&c);
	client_put(&c, CLIENT_CONFIG, 4, 0x6, 2);
	client_dma_map(&c, 0x100000, 0x80000, fd, 0, 3);
	client_put(&c, CLIENT_BAR2, 0, 0x5ec3e7, 4);
	for (uint32_t i = 0; i < 2; i++)
		windows[i] = map_bar(&c, 2 + 2 * i);
	ok(windows[0][0] == 0x5ec3e7 && fcntl(c.fd, F_ADD_SEALS, F_SEAL_FUTURE_WRITE) &&
	   errno == EPERM, "a client may map BARs, and not seal them");
	first = c.socket;
	c.socket = client_dial(c.path);
	ok(c.socket >= 0, "a second client waits its turn");
	close(first);
	ok(!client_version(&c), "and has it when the first has left");
	ok(client_get(&c, CLIENT_CONFIG, 4, 2) == 0, "the card is as after power-on");
	client_put(&c, CLIENT_CONFIG, 4, 0x2, 2);
	ok(client_get(&c, CLIENT_BAR2, 0, 4) != 0x5ec3e7, "nothing of the first is in its memory");
	client_put(&c, CLIENT_BAR2, 0, 0x5ec0d, 4);
	client_put(&c, CLIENT_BAR4, 0, 7, 4);
	ok(windows[0][0] != 0x5ec0d && windows[1][0] != 7,
	   "nothing of its own is in what the first has mapped");
	windows[0][1] = windows[1][1] = 0x5ec3e7;
	ok(client_get(&c, CLIENT_BAR2, 4, 4) != 0x5ec3e7 &&
	   client_get(&c, CLIENT_BAR4, 4, 4) != 0x5ec3e7, "nor the other way");
	ok(!client_dma_map(&c, 0x100000, 0x80000, fd, 0, 3), "nor in its table of mappings");
	kill(c.pid, SIGTERM);
	close(fd);
	stop(&c);
}

static void test_start(void)
{
	struct client c = client_start("nosuch", NULL), d;
	static const char *const odd[] = { "--bar2", "17M", NULL };
	char path[96];
	int fd;

	ok(client_ended(&c, true) && strstr(client_log(&c), "nosuch"), "an unknown card is named");
	ok(client_stop(&c) == 2, "with status 2");
	c = client_start("tiny", odd);
	ok(client_ended(&c, true) && strstr(client_log(&c), "17M: must be a power of two"),
	   "a size of BAR2 that is no power of two is named");
	ok(client_stop(&c) == 2, "with status 2");

	/* A path that is in use, and one that is no socket: the emulator's own folder has both. */
	c = start();
	d = c;
	snprintf(path, sizeof(path), "%s/log", c.folder);
	for (int i = 0; i < 2; i++) {
		char program[PATH_MAX], text[512] = "";
		int out[2], status;
		pid_t pid;

		client_program(program);
		if (pipe(out))
			err(1, "pipe");
		pid = fork();
		if (!pid) {
			dup2(out[1], 2);
			execl(program, "flightllm-emu", "--card", "tiny", "--socket",
			      i ? path : d.path, NULL);
			_exit(127);
		}
		close(out[1]);
		waitpid(pid, &status, 0);
		if (read(out[0], text, sizeof(text) - 1) < 0)
			text[0] = 0;
		close(out[0]);
		ok(WIFEXITED(status) && WEXITSTATUS(status) == 1 &&
		   strstr(text, i ? "exists and is not a socket" : "in use by another process"),
		   i ? "a file that is no socket is not removed" : "a socket in use is left alone");
	}
	fd = open(path, O_RDONLY);
	ok(fd >= 0 && client_get(&c, CLIENT_CONFIG, 0, 4) == 0xf1171234,
	   "and both are still there");
	close(fd);
	stop(&c);
}

static unsigned int count_threads(struct client *c)
{
	char path[64];
	unsigned int n = 0;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", c->pid);
	tasks = opendir(path);
	while (tasks && readdir(tasks))
		n++;
	if (tasks)
		closedir(tasks);
	return n;
}

static bool trace_has(const char *path, const char *line)
{
	char text[8192] = "";
	int fd = open(path, O_RDONLY);

	if (fd >= 0 && read(fd, text, sizeof(text) - 1) < 0)
		text[0] = 0;
	close(fd);
	return strstr(text, line);
}

/* What the command line says about a card is what its client finds. */
static void test_options(void)
{
	char trace[] = "/tmp/flightllm-trace.XXXXXX";
	const char *const few[] = { "--mem", "16M", "--threads", "01", "--trace", trace, NULL };
	static const char *const more[] = { "--threads", "08", "--faults", "lost-interrupt", NULL };
	int fd = mkstemp(trace);
	struct client c = client_start("tiny", few), d = client_start("tiny", more);
	struct pollfd p = { .events = POLLIN };
	struct guest g;

	if (client_version(&c) || client_version(&d))
		errx(1, "flightllm-emu does not start: %s%s", client_log(&c), client_log(&d));
	ok(count_threads(&d) == count_threads(&c) + 7, "--threads 08: seven more than --threads 1");
	g = guest_start(&c);
	client_put(&c, CLIENT_BAR0, 0x100, 1, 4);
	ok(client_get(&c, CLIENT_BAR0, 0x108, 8) == 8 << 20, "--mem 16M: 8 MiB for each of two cores");
	client_put(&c, CLIENT_BAR0, 0x100, 8, 4);
	ok(client_get(&c, CLIENT_BAR0, 0x108, 8) == 16 << 20, "and 16 MiB of DDR, not the card's 32");
	guest_fill(&c, &g, 7);
	ok(guest_hears(&g), "with one thread a slot is done");
	ok(trace_has(trace, "queue=2 enabled kind=1 ") &&
	   trace_has(trace, "doorbell queue=2 tail=1\n") &&
	   trace_has(trace, "end queue=2 seqno=1 status=1 fault=0 ") &&
	   trace_has(trace, "interrupt vector=1\n"),
	   "--trace has a line for queue, doorbell, end and interrupt");
	guest_stop(&g);
	stop(&c);
	g = guest_start(&d);
	guest_fill(&d, &g, 7);
	UNTIL(load32(g.memory + DONE + 8));
	p.fd = g.event;
	ok(load32(g.memory + DONE + 8) == 1 && !poll(&p, 1, 100),
	   "--faults lost-interrupt: a slot is done and nobody hears of it");
	guest_fill(&d, &g, 8);
	ok(guest_hears(&g), "but of the next");
	guest_stop(&g);
	stop(&d);
	close(fd);
	unlink(trace);
}

/* The slowest of 1,000. */
static double read_registers(void *opaque)
{
	struct client *c = opaque;
	double worst = 0;

	for (int i = 0; i < 1000; i++) {
		struct watch watch = watch_call(c->pid);
		double took;

		if (client_get(c, CLIENT_BAR0, 0, 4) != 0x314d4c46)
			return 100;
		took = watch_took(&watch);
		worst = took > worst ? took : worst;
	}
	return worst;
}

/* Registers answer in a time that a guest does not notice, whatever was asked before. */
static void test_speed(void)
{
	struct client c = start();
	bool is_soon;
	double took;

	client_put(&c, CLIENT_CONFIG, 4, 0x2, 2);
	is_soon = comes_soon(read_registers, &c, &took);
	ok(is_soon, "1,000 register reads, each within 100 ms (%.1f)", took * 1e3);
	stop(&c);
}

int main(void)
{
	test_start();
	test_options();
	test_version();
	test_info();
	test_config();
	test_bars();
	test_interrupts();
	test_dma();
	test_many();
	test_copy();
	test_sleep();
	test_shrinking_file();
	test_resets();
	test_hostile();
	test_deaf();
	test_second_client();
	test_speed();
	return done_testing();
}
