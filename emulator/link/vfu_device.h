/* SPDX-License-Identifier: MIT */
/*
 * The device that a vfio-user client plugs in: card, configuration space, the client's memory, and
 * the eventfds of its interrupts. vfu_message.c reads the messages; this does the work.
 *
 * Threads: one owner. Only vfu_device_interrupt() may be called from any thread.
 */
#ifndef FLIGHTLLM_VFU_DEVICE_H
#define FLIGHTLLM_VFU_DEVICE_H

#include <pthread.h>
#include <stdint.h>

#include "emulator/card.h"
#include "emulator/link/pci.h"
#include "emulator/link/vfu_dma.h"
#include "emulator/link/vfu_event.h"

struct vfu_device {
	struct card *card;
	struct card_identity identity;
	struct pci pci;
	struct vfu_dma dma;
	pthread_mutex_t lock;		/* protects vectors[], which the card's threads read */
	int vectors[PCI_VECTORS_MAX];	/* eventfds, -1: none */
	struct vfu_event event;
};

/*
 * init comes before the card exists, because the card needs a receiver of interrupts; then comes
 * plug. 0 or -errno of vfu_event_init().
 */
int vfu_device_init(struct vfu_device *device);
int vfu_device_plug(struct vfu_device *device, struct card *card);
void vfu_device_fini(struct vfu_device *device);

/* As after power-on. The client's memory stays mapped. */
void vfu_device_reset(struct vfu_device *device);

/* The client is gone: takes its memory and interrupts from the card, then resets the card. */
void vfu_device_unplug(struct vfu_device *device);

/* After that, when the card is ready: mappings of the last client lose the card. */
int vfu_device_renew(struct vfu_device *device);

/* Size of a VFIO region of a PCI device; 0: there is none. */
uint64_t vfu_device_region_bytes(const struct vfu_device *device, uint32_t region);

/* [offset, offset + bytes) must lie within the region. */
void vfu_device_read(struct vfu_device *device, uint32_t region, uint64_t offset, void *data,
		     uint32_t bytes);
void vfu_device_write(struct vfu_device *device, uint32_t region, uint64_t offset,
		      const void *data, uint32_t bytes);

/* vector < identity.vectors; fd becomes the device's, -1 takes the vector back. */
void vfu_device_set_vector(struct vfu_device *device, uint32_t vector, int fd);
void vfu_device_clear_vectors(struct vfu_device *device);
void vfu_device_interrupt(struct vfu_device *device, unsigned int vector);

#endif
