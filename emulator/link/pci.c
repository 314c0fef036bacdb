// SPDX-License-Identifier: MIT
/*
 * PCI configuration space of the card.
 *
 * The one idea: the space is bytes with two masks, bits that keep what is written and bits that
 * writing 1 clears, and everything is laid out once in pci_init(). Only the FLR bit and the power
 * state need code at the time of a write.
 *
 * Offsets and values are those of the PCI Local Bus and PCI Express Base specifications;
 * <linux/pci_regs.h> names them.
 */
#include <errno.h>
#include <linux/pci_regs.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/link/pci.h"

/* Where the capabilities lie; the extended ones begin at 0x100. */
enum {
	CAP_PM = 0x40,
	CAP_EXPRESS = 0x50,
	CAP_MSIX = 0x90,
	EXT_AER = 0x100,
	EXT_SERIAL = 0x150,
};

#define LINK_SPEED 3		/* 8 GT/s, Gen3 */
#define LINK_WIDTH 16
#define LINK_SPEEDS 0x0e	/* bits 1 to 3: 2.5, 5 and 8 GT/s */
#define PAGE 4096u

static void put(uint8_t *bytes, uint32_t offset, uint64_t value, unsigned int n)
{
	for (unsigned int i = 0; i < n; i++)
		bytes[offset + i] = value >> (8 * i);
}

static uint32_t get(const uint8_t *bytes, uint32_t offset, unsigned int n)
{
	uint32_t value = 0;

	for (unsigned int i = 0; i < n; i++)
		value |= (uint32_t)bytes[offset + i] << (8 * i);
	return value;
}

/* One field: value after reset, bits the host may change, bits it clears by writing 1. */
static void field(struct pci *pci, uint32_t offset, unsigned int n, uint32_t value,
		  uint32_t writable, uint32_t clear)
{
	put(pci->initial, offset, value, n);
	put(pci->writable, offset, writable, n);
	put(pci->clear, offset, clear, n);
}

static bool is_power_of_two(uint64_t x)
{
	return x && !(x & (x - 1));
}

static uint64_t round_up_power(uint64_t x)
{
	uint64_t p = PAGE;

	while (p < x)
		p <<= 1;
	return p;
}

/*
 * The address bits below the size stay zero: that is how a host finds the size. A 64-bit BAR takes
 * the next one's place for its upper half.
 */
static int add_bar(struct pci *pci, int bar, uint64_t bytes, uint32_t flags)
{
	uint32_t at = PCI_BASE_ADDRESS_0 + 4 * bar;
	uint64_t mask = ~(bytes - 1);

	if (!is_power_of_two(bytes) || bytes < PAGE)
		return -EINVAL;
	if (!(flags & PCI_BASE_ADDRESS_MEM_TYPE_64) && bytes > 1u << 31)
		return -EINVAL;
	pci->bar_bytes[bar] = bytes;
	field(pci, at, 4, flags, (uint32_t)mask, 0);
	if (flags & PCI_BASE_ADDRESS_MEM_TYPE_64)
		field(pci, at + 4, 4, 0, mask >> 32, 0);
	return 0;
}

static void add_header(struct pci *pci, const struct card_identity *identity)
{
	field(pci, PCI_VENDOR_ID, 2, identity->vendor, 0, 0);
	field(pci, PCI_DEVICE_ID, 2, identity->device, 0, 0);
	field(pci, PCI_COMMAND, 2, 0,
	      PCI_COMMAND_MEMORY | PCI_COMMAND_MASTER | PCI_COMMAND_PARITY | PCI_COMMAND_SERR |
	      PCI_COMMAND_INTX_DISABLE, 0);
	field(pci, PCI_STATUS, 2, PCI_STATUS_CAP_LIST, 0,
	      PCI_STATUS_PARITY | PCI_STATUS_SIG_TARGET_ABORT | PCI_STATUS_REC_TARGET_ABORT |
		      PCI_STATUS_REC_MASTER_ABORT | PCI_STATUS_SIG_SYSTEM_ERROR |
		      PCI_STATUS_DETECTED_PARITY);
	field(pci, PCI_REVISION_ID, 1, identity->revision, 0, 0);
	field(pci, PCI_CLASS_PROG, 1, identity->class_code, 0, 0);
	field(pci, PCI_CLASS_DEVICE, 2, identity->class_code >> 8, 0, 0);
	field(pci, PCI_CACHE_LINE_SIZE, 1, 0, 0xff, 0);
	field(pci, PCI_HEADER_TYPE, 1, PCI_HEADER_TYPE_NORMAL, 0, 0);
	field(pci, PCI_SUBSYSTEM_VENDOR_ID, 2, identity->subsystem_vendor, 0, 0);
	field(pci, PCI_SUBSYSTEM_ID, 2, identity->subsystem, 0, 0);
	field(pci, PCI_CAPABILITY_LIST, 1, CAP_PM, 0, 0);
	field(pci, PCI_INTERRUPT_LINE, 1, 0, 0xff, 0);
}

static void add_power(struct pci *pci)
{
	field(pci, CAP_PM, 1, PCI_CAP_ID_PM, 0, 0);
	field(pci, CAP_PM + 1, 1, CAP_EXPRESS, 0, 0);
	field(pci, CAP_PM + PCI_PM_PMC, 2, 3, 0, 0);	/* version 3, D0 and D3hot */
	field(pci, CAP_PM + PCI_PM_CTRL, 2, PCI_PM_CTRL_NO_SOFT_RESET, PCI_PM_CTRL_STATE_MASK, 0);
}

static void add_express(struct pci *pci)
{
	uint32_t at = CAP_EXPRESS;

	field(pci, at, 1, PCI_CAP_ID_EXP, 0, 0);
	field(pci, at + 1, 1, CAP_MSIX, 0, 0);
	field(pci, at + PCI_EXP_FLAGS, 2, 2 | PCI_EXP_TYPE_ENDPOINT << 4, 0, 0);
	/* 256 bytes of payload, 8-bit tags, errors by role, FLR */
	field(pci, at + PCI_EXP_DEVCAP, 4,
	      1 | PCI_EXP_DEVCAP_EXT_TAG | PCI_EXP_DEVCAP_RBER |
	      PCI_EXP_DEVCAP_FLR, 0, 0);
	/* relaxed ordering, no snoop, reads of 512 bytes; the FLR bit reads as 0 */
	field(pci, at + PCI_EXP_DEVCTL, 2, 0x2810, 0x7fff, 0);
	field(pci, at + PCI_EXP_DEVSTA, 2, 0, 0,
	      PCI_EXP_DEVSTA_CED | PCI_EXP_DEVSTA_NFED | PCI_EXP_DEVSTA_FED | PCI_EXP_DEVSTA_URD);
	field(pci, at + PCI_EXP_LNKCAP, 4, LINK_SPEED | LINK_WIDTH << 4, 0, 0);
	field(pci, at + PCI_EXP_LNKCTL, 2, 0,
	      PCI_EXP_LNKCTL_RCB | PCI_EXP_LNKCTL_CCC | PCI_EXP_LNKCTL_ES, 0);
	field(pci, at + PCI_EXP_LNKSTA, 2, LINK_SPEED | LINK_WIDTH << 4 | PCI_EXP_LNKSTA_SLC, 0, 0);
	field(pci, at + PCI_EXP_DEVCAP2, 4, PCI_EXP_DEVCAP2_COMP_TMOUT_DIS, 0, 0);
	field(pci, at + PCI_EXP_DEVCTL2, 2, 0,
	      PCI_EXP_DEVCTL2_COMP_TIMEOUT | PCI_EXP_DEVCTL2_COMP_TMOUT_DIS, 0);
	field(pci, at + PCI_EXP_LNKCAP2, 4, LINK_SPEEDS, 0, 0);
	field(pci, at + PCI_EXP_LNKCTL2, 2, LINK_SPEED, PCI_EXP_LNKCTL2_TLS, 0);
}

static void add_msix(struct pci *pci)
{
	field(pci, CAP_MSIX, 1, PCI_CAP_ID_MSIX, 0, 0);
	field(pci, CAP_MSIX + PCI_MSIX_FLAGS, 2, pci->vectors - 1,
	      PCI_MSIX_FLAGS_ENABLE | PCI_MSIX_FLAGS_MASKALL, 0);
	field(pci, CAP_MSIX + PCI_MSIX_TABLE, 4, pci->table_offset, 0, 0);	/* BAR 0 */
	field(pci, CAP_MSIX + PCI_MSIX_PBA, 4, pci->pending_offset, 0, 0);
}

/* Errors are injected by the host's kernel; the card itself has only the registers. */
static void add_extended(struct pci *pci, uint64_t serial)
{
	const uint32_t uncorrectable = PCI_ERR_UNC_DLP | PCI_ERR_UNC_POISON_TLP | PCI_ERR_UNC_FCP |
		PCI_ERR_UNC_COMP_TIME | PCI_ERR_UNC_COMP_ABORT | PCI_ERR_UNC_UNX_COMP |
		PCI_ERR_UNC_RX_OVER | PCI_ERR_UNC_MALF_TLP | PCI_ERR_UNC_ECRC | PCI_ERR_UNC_UNSUP |
		PCI_ERR_UNC_INTN;
	const uint32_t fatal = PCI_ERR_UNC_DLP | PCI_ERR_UNC_FCP | PCI_ERR_UNC_RX_OVER |
		PCI_ERR_UNC_MALF_TLP | PCI_ERR_UNC_INTN;
	const uint32_t correctable = PCI_ERR_COR_RCVR | PCI_ERR_COR_BAD_TLP | PCI_ERR_COR_BAD_DLLP |
		PCI_ERR_COR_REP_ROLL | PCI_ERR_COR_REP_TIMER | PCI_ERR_COR_ADV_NFAT |
		PCI_ERR_COR_INTERNAL;

	field(pci, EXT_AER, 4, PCI_EXT_CAP_ID_ERR | 2 << 16 | EXT_SERIAL << 20, 0, 0);
	field(pci, EXT_AER + PCI_ERR_UNCOR_STATUS, 4, 0, 0, uncorrectable);
	field(pci, EXT_AER + PCI_ERR_UNCOR_MASK, 4, PCI_ERR_UNC_INTN, uncorrectable, 0);
	field(pci, EXT_AER + PCI_ERR_UNCOR_SEVER, 4, fatal, uncorrectable, 0);
	field(pci, EXT_AER + PCI_ERR_COR_STATUS, 4, 0, 0, correctable);
	field(pci, EXT_AER + PCI_ERR_COR_MASK, 4, PCI_ERR_COR_ADV_NFAT | PCI_ERR_COR_INTERNAL,
	      correctable, 0);
	field(pci, EXT_SERIAL, 4, PCI_EXT_CAP_ID_DSN | 1 << 16, 0, 0);
	put(pci->initial, EXT_SERIAL + 4, serial, 8);
}

int pci_init(struct pci *pci, const struct card_identity *identity)
{
	uint64_t table_bytes = (uint64_t)identity->vectors * PCI_MSIX_ENTRY_SIZE;

	memset(pci, 0, sizeof(*pci));
	if (!identity->vectors || identity->vectors > PCI_VECTORS_MAX ||
	    !is_power_of_two(identity->bar0_bytes) || identity->bar0_bytes > 1u << 30)
		return -EINVAL;
	pci->vectors = identity->vectors;
	pci->registers_bytes = identity->bar0_bytes;
	/* Pages of their own: a client traps the table's page and may map what is around it. */
	pci->table_offset = (identity->bar0_bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1);
	pci->pending_offset =
		pci->table_offset + ((table_bytes + PAGE - 1) & ~(uint64_t)(PAGE - 1));
	if (add_bar(pci, 0, round_up_power(pci->pending_offset + PAGE), 0) ||
	    add_bar(pci, 2, identity->bar2_bytes,
		    PCI_BASE_ADDRESS_MEM_TYPE_64 | PCI_BASE_ADDRESS_MEM_PREFETCH) ||
	    add_bar(pci, 4, identity->bar4_bytes, PCI_BASE_ADDRESS_MEM_TYPE_64))
		return -EINVAL;
	pci->table = calloc(pci->vectors, PCI_MSIX_ENTRY_SIZE);
	if (!pci->table)
		return -ENOMEM;
	add_header(pci, identity);
	add_power(pci);
	add_express(pci);
	add_msix(pci);
	add_extended(pci, identity->serial);
	pci_reset(pci);
	return 0;
}

void pci_fini(struct pci *pci)
{
	free(pci->table);
	pci->table = NULL;
}

void pci_reset(struct pci *pci)
{
	memcpy(pci->space, pci->initial, sizeof(pci->space));
	for (unsigned int i = 0; i < pci->vectors; i++) {
		uint8_t *entry = pci->table + i * PCI_MSIX_ENTRY_SIZE;

		memset(entry, 0, PCI_MSIX_ENTRY_SIZE);
		entry[PCI_MSIX_ENTRY_VECTOR_CTRL] = PCI_MSIX_ENTRY_CTRL_MASKBIT;
	}
	pci->table_is_used = false;
}

void pci_read(const struct pci *pci, uint32_t offset, void *data, uint32_t bytes)
{
	memcpy(data, pci->space + offset, bytes);
}

unsigned int pci_write(struct pci *pci, uint32_t offset, const void *data, uint32_t bytes)
{
	const uint32_t flr_byte = CAP_EXPRESS + PCI_EXP_DEVCTL + 1;
	const uint8_t *in = data;
	unsigned int events = 0;

	for (uint32_t i = 0; i < bytes; i++) {
		uint32_t at = offset + i;
		uint8_t keep = pci->writable[at];

		pci->space[at] = (pci->space[at] & ~keep & ~(in[i] & pci->clear[at])) |
			(in[i] & keep);
		if (at == flr_byte && (in[i] & (PCI_EXP_DEVCTL_BCR_FLR >> 8)))
			events |= PCI_FLR;
	}
	return events;
}

static bool is_awake(const struct pci *pci)
{
	return (get(pci->space, CAP_PM + PCI_PM_CTRL, 2) & PCI_PM_CTRL_STATE_MASK) == 0;
}

bool pci_bus_master(const struct pci *pci)
{
	return is_awake(pci) && (get(pci->space, PCI_COMMAND, 2) & PCI_COMMAND_MASTER);
}

bool pci_memory_enabled(const struct pci *pci)
{
	return is_awake(pci) && (get(pci->space, PCI_COMMAND, 2) & PCI_COMMAND_MEMORY);
}

bool pci_vector_masked(const struct pci *pci, unsigned int vector)
{
	const uint8_t *entry = pci->table + vector * PCI_MSIX_ENTRY_SIZE;

	return (get(pci->space, CAP_MSIX + PCI_MSIX_FLAGS, 2) & PCI_MSIX_FLAGS_MASKALL) ||
	       (pci->table_is_used &&
		(entry[PCI_MSIX_ENTRY_VECTOR_CTRL] & PCI_MSIX_ENTRY_CTRL_MASKBIT));
}

void pci_msix_read(const struct pci *pci, uint64_t offset, void *data, uint32_t bytes)
{
	uint64_t table_bytes = (uint64_t)pci->vectors * PCI_MSIX_ENTRY_SIZE;
	uint8_t *out = data;

	for (uint32_t i = 0; i < bytes; i++) {
		uint64_t at = offset + i;

		if (at >= pci->table_offset && at - pci->table_offset < table_bytes)
			out[i] = pci->table[at - pci->table_offset];
		else if (at >= pci->pending_offset && at - pci->pending_offset < 8)
			out[i] = pci->pending >> 8 * (at - pci->pending_offset);
		else
			out[i] = 0;
	}
}

void pci_msix_write(struct pci *pci, uint64_t offset, const void *data, uint32_t bytes)
{
	uint64_t table_bytes = (uint64_t)pci->vectors * PCI_MSIX_ENTRY_SIZE;
	const uint8_t *in = data;

	for (uint32_t i = 0; i < bytes; i++) {
		uint64_t at = offset + i;

		if (at < pci->table_offset || at - pci->table_offset >= table_bytes)
			continue;
		pci->table[at - pci->table_offset] = in[i];
		pci->table_is_used = true;
	}
}
