/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * Names of the registers of a FlightLLM card and of their fields, derived from regs.def:
 *
 *	FLM_REG_<name>			offset in BAR0
 *	FLM_<reg>_<field>_SHIFT, _BITS	a field; FLM_REG_GET() and FLM_REG_FIELD() use them
 *
 * The PCI identity of the card stands here too: a board maker changes these rows and nothing else.
 */
#ifndef FLIGHTLLM_REGS_H
#define FLIGHTLLM_REGS_H

#include <linux/types.h>

/* 1234:f117: 1234 is what QEMU's own educational devices use. */
#define FLM_PCI_VENDOR		0x1234		/* vendor, and subsystem vendor */
#define FLM_PCI_DEVICE		0xf117		/* device */
#define FLM_PCI_CLASS		0x120000	/* class: processing accelerator */

/* Subsystem id of the profiles; the subsystem vendor is FLM_PCI_VENDOR. */
enum flm_profile {
	FLM_PROFILE_U280 = 1,	/* u280 */
	FLM_PROFILE_VHK158 = 2,	/* vhk158 */
	FLM_PROFILE_U280X = 3,	/* u280x */
	FLM_PROFILE_TINY = 4,	/* tiny */
	FLM_PROFILE_V80 = 5,	/* v80: reserved, no such card yet */
};

#define FLM_MAP_MAJOR		1	/* major version of the map, also the PCI revision */
#define FLM_MAP_MINOR		0	/* minor version of the map */

/* Base address registers. */
#define FLM_BAR_REGS		0	/* registers; the card sees every access */
#define FLM_BAR_MEMORY		2	/* 64 bits, prefetchable: window on card memory */
#define FLM_BAR_DOORBELLS	4	/* a page of 4096 bytes a queue, 2^n of them */
#define FLM_BAR_REGS_BYTES	4096	/* bytes of BAR0 that are registers */

#define REG(name, offset, bank, access, reset, meaning) FLM_REG_##name = (offset),
enum {
#include <flightllm/regs.def>
	FLM_REG_END = FLM_BAR_REGS_BYTES
};

#define FLD(reg, name, high, low) \
	FLM_##reg##_##name##_SHIFT = (low), FLM_##reg##_##name##_BITS = (high) - (low) + 1,
enum {
#include <flightllm/regs.def>
	FLM_FIELDS_END
};

#define FLM_FIELD_MASK(reg, name) \
	((0xffffffffu >> (32 - FLM_##reg##_##name##_BITS)) << FLM_##reg##_##name##_SHIFT)
#define FLM_REG_GET(value, reg, name) \
	(((value) & FLM_FIELD_MASK(reg, name)) >> FLM_##reg##_##name##_SHIFT)
/* The field's bits of a value that fits. */
#define FLM_REG_FIELD(reg, name, value) \
	(((__u32)(value) << FLM_##reg##_##name##_SHIFT) & FLM_FIELD_MASK(reg, name))

/* Commands: values of QUEUE_CONTROL. */
enum flm_queue_command {
	FLM_QUEUE_ENABLE = 1,	/* check the registers and begin to serve the doorbell */
	FLM_QUEUE_DISABLE = 2,	/* begin no further slot */
	FLM_QUEUE_RESET = 3,	/* abandon the slot that has begun */
};

/* Values of QUEUE_STATE. */
enum flm_queue_state {
	FLM_QUEUE_DISABLED = 0,	/* does nothing; its registers may be written */
	FLM_QUEUE_ENABLED = 1,	/* its doorbell is served */
	FLM_QUEUE_HALTED = 2,	/* an error stopped it: QUEUE_ERROR */
	FLM_QUEUE_BUSY = 3,	/* DISABLE or RESET is at work */
};

/* Values of QUEUE_KIND. */
enum flm_queue_kind {
	FLM_QUEUE_COMPUTE = 0,	/* its slots are jobs */
	FLM_QUEUE_COPY = 1,	/* its slots are copies, fills and checksums */
};

#define FLM_QUEUE_PRIORITIES	4		/* priorities, 0 to 3 */
#define FLM_RESET_KEY		0xf117f117u	/* CONTROL resets the card for this value alone */

#endif
