// SPDX-License-Identifier: MIT
/*
 * What PCI tells of cards, from a folder laid out as /sys/bus/pci is: cards at full speed and not,
 * of another driver and of none, as root sees them and as others do, and what is no card.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "lib/internal.h"
#include "tests/tap.h"

static char root[] = "/tmp/flightllm-pci.XXXXXX";

static void must(int failed, const char *what)
{
	if (!failed)
		return;
	perror(what);
	exit(1);
}

/* A file of a device, with text or bytes. */
static void put(const char *device, const char *name, const void *bytes, size_t n)
{
	char path[256];
	FILE *file;

	snprintf(path, sizeof(path), "%s/devices/%s/%s", root, device, name);
	file = fopen(path, "w");
	must(!file || fwrite(bytes, 1, n, file) != n || fclose(file), path);
}

static void put_text(const char *device, const char *name, const char *text)
{
	put(device, name, text, strlen(text));
}

static void put_word(uint8_t *at, uint64_t value, int bytes)
{
	for (int i = 0; i < bytes; i++)
		at[i] = (uint8_t)(value >> 8 * i);
}

struct link {
	unsigned int speed, width, speed_max, width_max;	/* by the registers' numbers */
};

/* A device 1234:id, of whose configuration space the first `config` bytes are seen. */
static void add(const char *name, unsigned int id, const char *driver, struct link link,
		size_t config)
{
	uint8_t space[4096] = { 0 };
	char path[256], target[256], text[64];

	snprintf(path, sizeof(path), "%s/devices/%s", root, name);
	must(mkdir(path, 0700), path);
	put_text(name, "vendor", "0x1234\n");
	snprintf(text, sizeof(text), "0x%04x\n", id);
	put_text(name, "device", text);
	put_text(name, "class", "0x120000\n");
	put_text(name, "irq", "11\n");
	put_text(name, "resource",
		 "0x00000000fe000000 0x00000000fe07ffff 0x0000000000040200\n"
		 "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
		 "0x0000000800000000 0x000000080fffffff 0x000000000014220c\n"
		 "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
		 "0x0000000810000000 0x000000081000ffff 0x0000000000140204\n"
		 "0x0000000000000000 0x0000000000000000 0x0000000000000000\n"
		 "0x0000000000000000 0x0000000000000000 0x0000000000000000\n");
	put_word(space, 0x1234, 2);
	put_word(space + 2, id, 2);
	put_word(space + 6, 0x10, 2);			/* there are capabilities */
	space[0x34] = 0x50;
	space[0x50] = 0x10;				/* PCI Express */
	put_word(space + 0x50 + 0x0c, link.speed_max | link.width_max << 4, 4);
	put_word(space + 0x50 + 0x12, link.speed | link.width << 4, 2);
	put_word(space + 0x100, 1 | 2 << 16 | 0x150u << 20, 4);	/* AER, then the serial number */
	put_word(space + 0x150, 3 | 1 << 16, 4);
	put_word(space + 0x154, 0x0123456789abcdef, 8);
	put(name, "config", space, config);
	if (!driver)
		return;
	snprintf(target, sizeof(target), "../../drivers/%s", driver);
	snprintf(path, sizeof(path), "%s/devices/%s/driver", root, name);
	must(symlink(target, path), path);
	snprintf(path, sizeof(path), "%s/drivers/%s", root, driver);
	must(mkdir(path, 0700), path);
}

static bool has_link(const struct flm_pci_info *row, unsigned int mts, unsigned int width,
		     unsigned int mts_max, unsigned int width_max)
{
	return row->link_mts == mts && row->link_width == width &&
	       row->link_mts_max == mts_max && row->link_width_max == width_max;
}

static void test_rows(void)
{
	struct flm_pci_info rows[8];

	memset(rows, 0xff, sizeof(rows));
	ok(pci_list(root, rows, 8) == 4, "four cards, and two devices that are none");
	ok(!strcmp(rows[0].bus, "0000:01:00.0") && !strcmp(rows[1].bus, "0000:02:00.0") &&
	   !strcmp(rows[2].bus, "0000:02:00.1") && !strcmp(rows[3].bus, "0001:00:1f.7"),
	   "by address");
	ok(!strcmp(rows[0].driver, "flightllm") && !strcmp(rows[1].driver, "vfio-pci") &&
	   !strcmp(rows[2].driver, ""), "with this driver, with another, with none");
	ok(strstr(rows[0].name, "f117"), "pci.ids does not know the device: '%s'", rows[0].name);
	ok(has_link(&rows[0], 8000, 16, 8000, 16), "a link as fast as the card");
	ok(has_link(&rows[1], 2500, 4, 16000, 8), "and one that is slower");
	ok(has_link(&rows[3], 0, 0, 0, 0), "a card that has fallen off the bus has none");
	ok(rows[0].bar_bytes[0] == 512 << 10 && rows[0].bar_bytes[2] == 256 << 20 &&
	   rows[0].bar_bytes[4] == 64 << 10, "sizes of BARs 0, 2 and 4");
	ok(!rows[0].bar_bytes[1] && !rows[0].bar_bytes[3] && !rows[0].bar_bytes[5],
	   "and there are no others");
	ok(rows[0].serial == 0x0123456789abcdef, "serial number");
	ok(has_link(&rows[2], 0, 0, 0, 0) && !rows[2].serial && rows[2].bar_bytes[2] == 256 << 20,
	   "who may read 64 bytes of a device sees its BARs, not its link and serial number");
	memset(rows, 0xff, sizeof(rows));
	ok(pci_list(root, rows, 1) == 4 && rows[1].link_mts == UINT32_MAX,
	   "no more rows are written than there is room for");
	ok(pci_list(root, NULL, 0) == 4, "or none, to count them");
}

int main(void)
{
	const struct link slow = { 1, 4, 4, 8 }, full = { 3, 16, 3, 16 };
	char path[256];

	must(!mkdtemp(root), root);
	ok(!pci_list("/nowhere/pci", NULL, 0), "a machine without PCI has no card");
	ok(pci_list(root, NULL, 0) == -EIO && strstr(flm_error(), "PCI: ") &&
	   strstr(flm_error(), root), "a folder that is none is an error: %s", flm_error());
	snprintf(path, sizeof(path), "%s/devices", root);
	must(mkdir(path, 0700), path);
	snprintf(path, sizeof(path), "%s/drivers", root);
	must(mkdir(path, 0700), path);
	ok(!pci_list(root, NULL, 0), "nor has one without devices");
	add("0000:02:00.0", 0xf117, "vfio-pci", slow, 4096);
	add("0000:01:00.0", 0xf117, "flightllm", full, 4096);
	add("0001:00:1f.7", 0xf117, NULL, (struct link) { 15, 63, 15, 63 }, 4096);
	add("0000:02:00.1", 0xf117, NULL, full, 64);
	add("0000:00:02.0", 0x1111, "bochs-drm", full, 4096);
	add("0000:03:00.0", 0xf118, NULL, full, 4096);
	test_rows();
	/* A device that is unplugged while it is looked at. */
	snprintf(path, sizeof(path), "%s/devices/0000:03:00.0/vendor", root);
	must(unlink(path), path);
	ok(pci_list(root, NULL, 0) == -EIO, "a device without its files is an error: %s",
	   flm_error());
	put_text("0000:03:00.0", "vendor", "0x1234\n");
	ok(pci_list(root, NULL, 0) == 4, "and the next call is as good as the first");
	snprintf(path, sizeof(path), "rm -rf %s", root);
	must(system(path), path);
	return done_testing();
}
