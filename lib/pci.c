// SPDX-License-Identifier: MIT
/*
 * What PCI tells of the cards of this machine, by libpci, which reads sysfs and pci.ids; a driver
 * is not needed, nothing is written, no node is opened. libpci ends the process when it fails, so
 * its error function leaves by longjmp() instead.
 */
#include <errno.h>
#include <pci/pci.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <flightllm/regs.h>

#include "lib/internal.h"

#define CARDS_MAX 64
#define LANES_MAX 32

static _Thread_local struct {
	jmp_buf out;
	char why[128];
} failure;

__attribute__((noreturn, format(printf, 1, 2))) static void fail(char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(failure.why, sizeof(failure.why), format, args);
	va_end(args);
	longjmp(failure.out, 1);
}

/* Hides libpci's warning that only root may read all of the space. */
__attribute__((format(printf, 1, 2))) static void keep_quiet(char *format, ...)
{
	(void)format;
}

/* Speed in MT/s by its number in the link's registers. */
static unsigned int speed_of(unsigned int number)
{
	static const unsigned int speeds[] = { 0, 2500, 5000, 8000, 16000, 32000, 64000 };

	return number < sizeof(speeds) / sizeof(speeds[0]) ? speeds[number] : 0;
}

static void read_link(struct pci_dev *card, struct flm_pci_info *row)
{
	struct pci_cap *express = pci_find_cap(card, PCI_CAP_ID_EXP, PCI_CAP_NORMAL);
	uint32_t can, is, width, width_max;

	if (!express)
		return;
	can = pci_read_long(card, express->addr + PCI_EXP_LNKCAP);
	is = pci_read_word(card, express->addr + PCI_EXP_LNKSTA);
	width = (is & PCI_EXP_LNKSTA_WIDTH) >> 4;
	width_max = (can & PCI_EXP_LNKCAP_WIDTH) >> 4;
	/* A card that has fallen off the bus answers with ones: more lanes than there can be. */
	if (width > LANES_MAX || width_max > LANES_MAX)
		return;
	row->link_width = width;
	row->link_width_max = width_max;
	row->link_mts = speed_of(is & PCI_EXP_LNKSTA_SPEED);
	row->link_mts_max = speed_of(can & PCI_EXP_LNKCAP_SPEED);
}

static void read_card(struct pci_access *access, struct pci_dev *card, struct flm_pci_info *row)
{
	struct pci_cap *serial;
	const char *driver;

	memset(row, 0, sizeof(*row));
	pci_fill_info(card, PCI_FILL_IDENT | PCI_FILL_BASES | PCI_FILL_SIZES | PCI_FILL_CAPS |
		      PCI_FILL_EXT_CAPS | PCI_FILL_DRIVER);
	snprintf(row->bus, sizeof(row->bus), "%04x:%02x:%02x.%x", card->domain, card->bus,
		 card->dev, card->func);
	driver = pci_get_string_property(card, PCI_FILL_DRIVER);
	snprintf(row->driver, sizeof(row->driver), "%.*s", FLM_NAME_BYTES - 1, driver ? driver : "");
	if (!pci_lookup_name(access, row->name, sizeof(row->name),
			     PCI_LOOKUP_VENDOR | PCI_LOOKUP_DEVICE | PCI_LOOKUP_NO_HWDB,
			     card->vendor_id, card->device_id))
		row->name[0] = 0;
	for (int i = 0; i < 6; i++)
		row->bar_bytes[i] = card->size[i];
	read_link(card, row);
	serial = pci_find_cap(card, PCI_EXT_CAP_ID_DSN, PCI_CAP_EXTENDED);
	if (serial)
		row->serial = pci_read_long(card, serial->addr + 4) |
			      (uint64_t)pci_read_long(card, serial->addr + 8) << 32;
}

static int by_address(const void *a, const void *b)
{
	return strcmp(((const struct flm_pci_info *)a)->bus, ((const struct flm_pci_info *)b)->bus);
}

/* All cards, ascending; returns how many. Leaves by fail(). */
static int scan(struct pci_access *access, const char *sysfs, struct flm_pci_info *rows)
{
	int found = 0;

	access->error = fail;
	access->warning = keep_quiet;
	access->method = PCI_ACCESS_SYS_BUS_PCI;
	pci_set_param(access, "sysfs.path", (char *)sysfs);
	/* Names of the network are not asked for; libpci 3.13 leaks the path of their cache. */
	pci_set_param(access, "net.cache_name", "");
	pci_init(access);
	pci_scan_bus(access);
	for (struct pci_dev *card = access->devices; card && found < CARDS_MAX; card = card->next) {
		pci_fill_info(card, PCI_FILL_IDENT);
		if (card->vendor_id == FLM_PCI_VENDOR && card->device_id == FLM_PCI_DEVICE)
			read_card(access, card, &rows[found++]);
	}
	qsort(rows, found, sizeof(rows[0]), by_address);
	return found;
}

static int scan_or_fail(struct pci_access *access, const char *sysfs, struct flm_pci_info *rows)
{
	if (setjmp(failure.out))
		return flm_fail(-EIO, "PCI: %s; try again, and see what 'lspci' says", failure.why);
	return scan(access, sysfs, rows);
}

int pci_list(const char *sysfs, struct flm_pci_info *rows, unsigned int max)
{
	struct flm_pci_info *all;
	struct pci_access *pci;
	int count;

	/* A machine or a container without PCI. */
	if (access(sysfs, F_OK))
		return 0;
	all = calloc(CARDS_MAX, sizeof(*all));
	pci = all ? pci_alloc() : NULL;
	if (!pci) {
		free(all);
		return flm_fail(-ENOMEM, "no memory for a list of cards");
	}
	count = scan_or_fail(pci, sysfs, all);
	pci_cleanup(pci);
	for (int i = 0; i < count && (unsigned int)i < max; i++)
		rows[i] = all[i];
	free(all);
	return count;
}

PUBLIC int flm_pci_list(struct flm_pci_info *rows, unsigned int max)
{
	return pci_list("/sys/bus/pci", rows, max);
}

int pci_without_driver(const char *bus)
{
	struct flm_pci_info rows[CARDS_MAX];
	int count = flm_pci_list(rows, CARDS_MAX);

	for (int i = 0; i < count; i++) {
		const char *driver = rows[i].driver;

		if (!strcmp(driver, "flightllm") || (bus && strcmp(bus, rows[i].bus)))
			continue;
		if (*driver)
			return flm_fail(-ENODEV, "card without driver: %s owns %s; release it "
					"('echo %s | sudo tee /sys/bus/pci/drivers/%s/unbind'), then "
					"'sudo modprobe flightllm'", driver, rows[i].bus,
					rows[i].bus, driver);
		return flm_fail(-ENODEV, "card without driver: %s; load it ('sudo modprobe flightllm', or "
				"'sudo insmod build/flightllm.ko' of a build), or see in 'dmesg' why it "
				"refused the card", rows[i].bus);
	}
	return 0;
}
