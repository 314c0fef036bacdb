/* SPDX-License-Identifier: MIT */
/*
 * PCI configuration space of the card: identity, BAR sizing, power management, PCI Express with
 * FLR, MSI-X, AER and the serial number.
 *
 * The space decides nothing by itself. pci_write() reports what a write has set off, and the owner
 * acts on it:
 *
 *	if (pci_write(&pci, offset, data, bytes) & PCI_FLR)
 *		card_reset(card);
 *	card_bus_master(card, pci_bus_master(&pci));
 *
 * Threads: one owner, no locks.
 */
#ifndef FLIGHTLLM_PCI_H
#define FLIGHTLLM_PCI_H

#include <stdbool.h>
#include <stdint.h>

#include "emulator/card.h"

#define PCI_CONFIG_BYTES 4096
#define PCI_BARS 6
#define PCI_VECTORS_MAX 2048	/* what MSI-X can count */

/* Effects of a write to configuration space. */
enum pci_event { PCI_FLR = 1 };

struct pci {
	uint8_t space[PCI_CONFIG_BYTES];
	uint8_t writable[PCI_CONFIG_BYTES];	/* bits that keep what is written */
	uint8_t clear[PCI_CONFIG_BYTES];	/* bits that writing 1 clears */
	uint8_t initial[PCI_CONFIG_BYTES];	/* the space after a reset */
	uint64_t bar_bytes[PCI_BARS];		/* 0: no BAR, or the upper half of the one before */
	uint64_t registers_bytes;		/* BAR0: the card's; MSI-X follows */
	unsigned int vectors;
	uint64_t table_offset, pending_offset;	/* MSI-X, in BAR0 */
	uint8_t *table; /* vectors * 16 bytes: the host's to read and write */
	bool table_is_used;			/* has been written since the reset */
	uint64_t pending;			/* what the pending bits read as; the owner's */
};

/* Returns 0, or -EINVAL when the identity cannot be shown by a PCI function, or -ENOMEM. */
int pci_init(struct pci *pci, const struct card_identity *identity);
void pci_fini(struct pci *pci);

/* As after power-on: BARs, command register and MSI-X are off. */
void pci_reset(struct pci *pci);

/* [offset, offset + bytes) must lie within PCI_CONFIG_BYTES. */
void pci_read(const struct pci *pci, uint32_t offset, void *data, uint32_t bytes);
unsigned int pci_write(struct pci *pci, uint32_t offset, const void *data, uint32_t bytes);

/* Whether the card may reach the host's memory; whether it answers in its BARs. */
bool pci_bus_master(const struct pci *pci);
bool pci_memory_enabled(const struct pci *pci);

/*
 * Whether the host has masked this vector: by the function mask, or by the table. A client such as
 * QEMU keeps the table itself; then our table is never written and has no meaning.
 */
bool pci_vector_masked(const struct pci *pci, unsigned int vector);

/*
 * The part of BAR0 behind the registers: MSI-X table and pending bits; offset counts from the start
 * of the BAR. Unused bytes read as zero.
 */
void pci_msix_read(const struct pci *pci, uint64_t offset, void *data, uint32_t bytes);
void pci_msix_write(struct pci *pci, uint64_t offset, const void *data, uint32_t bytes);

#endif
