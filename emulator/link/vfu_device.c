// SPDX-License-Identifier: MIT
/*
 * The device behind vfio-user: regions, interrupts and resets of a card in a PCI slot.
 *
 * The one idea: a region is an offset and a size, and everything that PCI says about when a device
 * answers (memory enable, bus master, power state, FLR) is decided here, so that the card sees only
 * accesses that would have reached it.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/vfio.h>
#include <stdbool.h>
#include <string.h>
#include <unistd.h>

#include <flightllm/regs.h>

#include "emulator/link/vfu_device.h"

uint64_t vfu_device_region_bytes(const struct vfu_device *device, uint32_t region)
{
	if (region < PCI_BARS)
		return device->pci.bar_bytes[region];
	return region == VFIO_PCI_CONFIG_REGION_INDEX ? PCI_CONFIG_BYTES : 0;
}

/*
 * A vector without an eventfd is as good as masked: the card keeps its message until there is one.
 */
static void update_mask(struct vfu_device *device, uint32_t vector)
{
	bool has_file;

	if (vector >= device->identity.vectors)
		return;
	pthread_mutex_lock(&device->lock);
	has_file = device->vectors[vector] >= 0;
	pthread_mutex_unlock(&device->lock);
	card_vector_mask(device->card, vector,
			 !has_file || pci_vector_masked(&device->pci, vector));
}

static void update_masks(struct vfu_device *device)
{
	for (uint32_t i = 0; i < device->identity.vectors; i++)
		update_mask(device, i);
}

void vfu_device_set_vector(struct vfu_device *device, uint32_t vector, int fd)
{
	int old;

	/* Masked before its file goes: no message may fall between the two. */
	if (fd < 0 && vector < device->identity.vectors)
		card_vector_mask(device->card, vector, 1);
	pthread_mutex_lock(&device->lock);
	old = device->vectors[vector];
	device->vectors[vector] = fd;
	pthread_mutex_unlock(&device->lock);
	update_mask(device, vector);
	if (old >= 0)
		close(old);
}

void vfu_device_clear_vectors(struct vfu_device *device)
{
	for (uint32_t i = 0; i < PCI_VECTORS_MAX; i++)
		vfu_device_set_vector(device, i, -1);
}

void vfu_device_interrupt(struct vfu_device *device, unsigned int vector)
{
	if (vector >= PCI_VECTORS_MAX)
		return;
	pthread_mutex_lock(&device->lock);
	if (device->vectors[vector] >= 0 &&
	    vfu_event_ring(&device->event, device->vectors[vector])) {
		close(device->vectors[vector]);
		device->vectors[vector] = -1;
	}
	pthread_mutex_unlock(&device->lock);
}

/* Registers and doorbells must move in one piece; memcpy may take them byte by byte. */
static void copy_memory(void *to, const void *from, uint32_t bytes)
{
	if (bytes == 8 && !(((uintptr_t)to | (uintptr_t)from) & 7))
		__atomic_store_n((uint64_t *)to, __atomic_load_n((const uint64_t *)from,
				 __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	else if (bytes == 4 && !(((uintptr_t)to | (uintptr_t)from) & 3))
		__atomic_store_n((uint32_t *)to, __atomic_load_n((const uint32_t *)from,
				 __ATOMIC_RELAXED), __ATOMIC_RELAXED);
	else
		memcpy(to, from, bytes);
}

/* An access across the end of the registers is one to neither side. */
static void bar0_read(struct vfu_device *device, uint64_t offset, void *data, uint32_t bytes)
{
	uint64_t end = device->pci.registers_bytes;

	memset(data, 0, bytes);
	if (offset + bytes <= end && bytes <= 8)
		card_reg_read(device->card, offset, data, bytes);
	if (offset < end)
		return;
	device->pci.pending = card_vectors_pending(device->card);
	pci_msix_read(&device->pci, offset, data, bytes);
}

static void bar0_write(struct vfu_device *device, uint64_t offset, const void *data, uint32_t bytes)
{
	uint64_t end = device->pci.registers_bytes;

	if (offset + bytes <= end && bytes <= 8)
		card_reg_write(device->card, offset, data, bytes);
	if (offset < end)
		return;
	pci_msix_write(&device->pci, offset, data, bytes);
	update_masks(device);
}

void vfu_device_read(struct vfu_device *device, uint32_t region, uint64_t offset, void *data,
		     uint32_t bytes)
{
	if (!bytes)
		return;
	if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
		pci_read(&device->pci, offset, data, bytes);
	} else if (!pci_memory_enabled(&device->pci)) {
		memset(data, 0xff, bytes);	/* nobody answers */
	} else if (region == 0) {
		bar0_read(device, offset, data, bytes);
	} else {
		const char *memory = card_bar_memory(device->card, region);

		copy_memory(data, memory + offset, bytes);
	}
}

void vfu_device_reset(struct vfu_device *device)
{
	pci_reset(&device->pci);
	card_bus_master(device->card, 0);
	card_reset(device->card);
	update_masks(device);
}

static void config_write(struct vfu_device *device, uint64_t offset, const void *data,
			 uint32_t bytes)
{
	bool was_master = pci_bus_master(&device->pci);

	if (pci_write(&device->pci, offset, data, bytes) & PCI_FLR)
		vfu_device_reset(device);
	else if (pci_bus_master(&device->pci) != was_master)
		card_bus_master(device->card, !was_master);
	update_masks(device);
}

void vfu_device_write(struct vfu_device *device, uint32_t region, uint64_t offset,
		      const void *data, uint32_t bytes)
{
	if (!bytes)
		return;
	if (region == VFIO_PCI_CONFIG_REGION_INDEX) {
		config_write(device, offset, data, bytes);
	} else if (!pci_memory_enabled(&device->pci)) {
		return;
	} else if (region == 0) {
		bar0_write(device, offset, data, bytes);
	} else {
		char *memory = card_bar_memory(device->card, region);

		copy_memory(memory + offset, data, bytes);
	}
}

int vfu_device_init(struct vfu_device *device)
{
	int ret;

	memset(device, 0, sizeof(*device));
	ret = vfu_event_init(&device->event);
	if (ret)
		return ret;
	pthread_mutex_init(&device->lock, NULL);
	for (int i = 0; i < PCI_VECTORS_MAX; i++)
		device->vectors[i] = -1;
	return 0;
}

/*
 * The client gets these files to map. One that it could shorten would be a way to end this process,
 * one that it could seal itself a way to keep its bytes over a reset.
 */
static int seal(int fd)
{
	const int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL;

	if (fcntl(fd, F_ADD_SEALS, seals) < 0 && (fcntl(fd, F_GET_SEALS) & seals) != seals)
		return -EPERM;
	return 0;
}

static int seal_bars(struct vfu_device *device)
{
	return seal(card_bar_fd(device->card, FLM_BAR_MEMORY)) ||
	       seal(card_bar_fd(device->card, FLM_BAR_DOORBELLS)) ? -EPERM : 0;
}

int vfu_device_plug(struct vfu_device *device, struct card *card)
{
	int ret;

	device->card = card;
	card_identify(card, &device->identity);
	vfu_dma_init(&device->dma, card);
	vfu_dma_guard();
	if (seal_bars(device))
		return -EPERM;
	ret = pci_init(&device->pci, &device->identity);
	if (ret)
		return ret;
	update_masks(device);
	return 0;
}

int vfu_device_renew(struct vfu_device *device)
{
	int ret = vfu_dma_fini(&device->dma);	/* what could not be unmapped before */

	if (!ret)
		ret = card_renew_bars(device->card);
	return ret ? ret : seal_bars(device);
}

void vfu_device_fini(struct vfu_device *device)
{
	pci_fini(&device->pci);
	vfu_event_fini(&device->event);
	pthread_mutex_destroy(&device->lock);
}

void vfu_device_unplug(struct vfu_device *device)
{
	card_bus_master(device->card, 0);
	vfu_dma_fini(&device->dma);
	vfu_device_clear_vectors(device);
	vfu_device_reset(device);
}
