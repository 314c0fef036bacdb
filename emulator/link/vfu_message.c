// SPDX-License-Identifier: MIT
/*
 * The meaning of a vfio-user client's messages, as QEMU's documentation (interop/vfio-user)
 * describes them.
 *
 * The one idea: a message whose bounds are in order but whose content is not gets an errno for an
 * answer and changes nothing; only what makes the rest of the stream worthless ends the connection.
 */
#include <errno.h>
#include <linux/vfio.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "emulator/link/vfu_message.h"

enum command {
	CMD_VERSION = 1,
	CMD_DMA_MAP = 2,
	CMD_DMA_UNMAP = 3,
	CMD_GET_INFO = 4,
	CMD_GET_REGION_INFO = 5,
	CMD_GET_REGION_IO_FDS = 6,
	CMD_GET_IRQ_INFO = 7,
	CMD_SET_IRQS = 8,
	CMD_REGION_READ = 9,
	CMD_REGION_WRITE = 10,
	CMD_RESET = 13,
	CMD_REGION_WRITE_MULTI = 15,
};

struct dma_map {
	uint32_t argsz, flags;
	uint64_t offset, address, bytes;
};
_Static_assert(sizeof(struct dma_map) == 32, "payload of DMA_MAP");

struct dma_unmap {
	uint32_t argsz, flags;
	uint64_t address, bytes;
};
_Static_assert(sizeof(struct dma_unmap) == 24, "payload of DMA_UNMAP");

struct device_info {
	uint32_t argsz, flags, regions, irqs;
};

struct region_info {
	uint32_t argsz, flags, index, cap_offset;
	uint64_t bytes, offset;
};
_Static_assert(sizeof(struct region_info) == 32, "payload of GET_REGION_INFO");

struct io_fds {
	uint32_t argsz, flags, index, count;
};

struct irq_info {
	uint32_t argsz, flags, index, count;
};

struct irq_set {
	uint32_t argsz, flags, index, start, count;
};
_Static_assert(sizeof(struct irq_set) == 20, "payload of SET_IRQS");

struct region_access {
	uint64_t offset;
	uint32_t region, bytes;
};
_Static_assert(sizeof(struct region_access) == 16, "payload of REGION_READ");

struct region_write8 {
	struct region_access access;
	uint8_t data[8];
};

int vfu_message_complain(struct vfu_message *m, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vsnprintf(m->complaint, sizeof(m->complaint), format, args);
	va_end(args);
	return -EPROTO;
}

void vfu_message_close_fds(struct vfu_message *m)
{
	for (unsigned int i = 0; i < m->fd_count; i++)
		if (m->fds[i] >= 0)
			close(m->fds[i]);
	m->fd_count = 0;
}

/* The payload of the answer; its header is written last. */
static void *answer(struct vfu_message *m, size_t bytes)
{
	uint8_t *payload = m->out + sizeof(struct vfu_header);

	m->out_bytes = sizeof(struct vfu_header) + bytes;
	memset(payload, 0, bytes);
	return payload;
}

/* A payload of at least `bytes`, or NULL. */
static void *request(struct vfu_message *m, size_t bytes)
{
	return m->in.bytes - sizeof(struct vfu_header) >= bytes ? m->payload : NULL;
}

static size_t payload_bytes(const struct vfu_message *m)
{
	return m->in.bytes - sizeof(struct vfu_header);
}

/*
 * Version 0.0 is what every client speaks. Of the capabilities a few words are of interest; those
 * that the answer names must have been offered, and only write_multiple may be missing in an offer.
 */
static int do_version(struct vfu_message *m)
{
	struct { uint16_t major, minor; } version;
	size_t text_bytes;
	bool can_write_multiple = false;
	char text[192];
	char *out;

	if (payload_bytes(m) < sizeof(version))
		return vfu_message_complain(m, "VERSION of %zu bytes", payload_bytes(m));
	memcpy(&version, m->payload, sizeof(version));
	if (version.major != 0)
		return vfu_message_complain(m, "protocol version %u.%u is not spoken here, 0.x is",
					    version.major, version.minor);
	text_bytes = payload_bytes(m) - sizeof(version);
	if (text_bytes) {
		const char *offer = (const char *)m->payload + sizeof(version);

		if (offer[text_bytes - 1])
			return vfu_message_complain(m, "VERSION text without an end");
		can_write_multiple = strstr(offer, "\"write_multiple\"") != NULL;
	}
	snprintf(text, sizeof(text), "{\"capabilities\":{\"max_msg_fds\":%d,"
		 "\"max_data_xfer_size\":%u,\"pgsizes\":4096,\"max_dma_maps\":%u%s}}", VFU_FDS_MAX,
		 VFU_DATA_MAX, VFU_DMA_MAPS, can_write_multiple ? ",\"write_multiple\":true" : "");
	out = answer(m, sizeof(version) + strlen(text) + 1);
	version.minor = 0;
	memcpy(out, &version, sizeof(version));
	memcpy(out + sizeof(version), text, strlen(text) + 1);
	m->has_version = true;
	return 0;
}

static int do_dma_map(struct vfu_message *m, struct vfu_device *device)
{
	struct dma_map *map = request(m, sizeof(*map));
	unsigned int rights = 0;

	if (!map || map->argsz < sizeof(*map) || m->fd_count > 1 || (map->flags & ~3u) ||
	    (m->fd_count && m->fds[0] < 0))
		return -EINVAL;
	if (map->flags & VFIO_DMA_MAP_FLAG_READ)
		rights |= CARD_DMA_READ;
	if (map->flags & VFIO_DMA_MAP_FLAG_WRITE)
		rights |= CARD_DMA_WRITE;
	return vfu_dma_map(&device->dma, map->address, map->bytes,
			   m->fd_count ? m->fds[0] : -1, map->offset, rights);
}

static int do_dma_unmap(struct vfu_message *m, struct vfu_device *device)
{
	struct dma_unmap *unmap = request(m, sizeof(*unmap));
	int ret;

	if (!unmap || unmap->argsz < sizeof(*unmap))
		return -EINVAL;
	if (unmap->flags == VFIO_DMA_UNMAP_FLAG_ALL && !unmap->address && !unmap->bytes) {
		ret = vfu_dma_fini(&device->dma);
	} else {
		if (unmap->flags)
			return -EINVAL;
		ret = vfu_dma_unmap(&device->dma, unmap->address, unmap->bytes);
	}
	if (ret)
		return ret;
	memcpy(answer(m, sizeof(*unmap)), unmap, sizeof(*unmap));
	return 0;
}

static int do_get_info(struct vfu_message *m)
{
	struct device_info *info = request(m, sizeof(*info)), *out;

	if (!info || info->argsz < sizeof(*info))
		return -EINVAL;
	out = answer(m, sizeof(*out));
	out->argsz = sizeof(*out);
	out->flags = VFIO_DEVICE_FLAGS_RESET | VFIO_DEVICE_FLAGS_PCI;
	out->regions = VFIO_PCI_NUM_REGIONS;
	out->irqs = VFIO_PCI_NUM_IRQS;
	return 0;
}

/* A BAR that is memory is mapped whole, so the answer needs no list of areas. */
static int do_get_region_info(struct vfu_message *m, struct vfu_device *device)
{
	struct region_info *info = request(m, sizeof(*info)), *out;
	uint32_t index;

	if (!info || info->argsz < sizeof(*info) || info->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	index = info->index;
	out = answer(m, sizeof(*out));
	out->argsz = sizeof(*out);
	out->index = index;
	out->bytes = vfu_device_region_bytes(device, index);
	if (out->bytes)
		out->flags = VFIO_REGION_INFO_FLAG_READ | VFIO_REGION_INFO_FLAG_WRITE;
	if (index == 2 || index == 4) {
		out->flags |= VFIO_REGION_INFO_FLAG_MMAP;
		m->out_fd = card_bar_fd(device->card, index);
	}
	return 0;
}

/* There are none: doorbells are memory, and the other registers are seldom written. */
static int do_get_region_io_fds(struct vfu_message *m)
{
	struct io_fds *io = request(m, sizeof(*io)), *out;
	uint32_t index;

	if (!io || io->argsz < sizeof(*io) || io->flags || io->index >= VFIO_PCI_NUM_REGIONS)
		return -EINVAL;
	index = io->index;
	out = answer(m, sizeof(*out));
	out->argsz = sizeof(*out);
	out->index = index;
	return 0;
}

static uint32_t irq_count(const struct vfu_device *device, uint32_t index)
{
	return index == VFIO_PCI_MSIX_IRQ_INDEX ? device->pci.vectors : 0;
}

static int do_get_irq_info(struct vfu_message *m, struct vfu_device *device)
{
	struct irq_info *info = request(m, sizeof(*info)), *out;
	uint32_t index;

	if (!info || info->argsz < sizeof(*info) || info->index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	index = info->index;
	out = answer(m, sizeof(*out));
	out->argsz = sizeof(*out);
	out->index = index;
	out->count = irq_count(device, index);
	if (out->count)
		out->flags = VFIO_IRQ_INFO_EVENTFD | VFIO_IRQ_INFO_NORESIZE;
	return 0;
}

static int do_set_irqs(struct vfu_message *m, struct vfu_device *device)
{
	struct irq_set *set = request(m, sizeof(*set));
	uint32_t data, action, last;
	uint8_t *bools;

	if (!set || set->argsz < sizeof(*set) || set->index >= VFIO_PCI_NUM_IRQS)
		return -EINVAL;
	data = set->flags & VFIO_IRQ_SET_DATA_TYPE_MASK;
	action = set->flags & VFIO_IRQ_SET_ACTION_TYPE_MASK;
	if (set->flags & ~(uint32_t)(VFIO_IRQ_SET_DATA_TYPE_MASK | VFIO_IRQ_SET_ACTION_TYPE_MASK))
		return -EINVAL;
	if (__builtin_add_overflow(set->start, set->count, &last) ||
	    last > irq_count(device, set->index))
		return -EINVAL;
	/* MSI-X has its mask bits in the table, which the client keeps. */
	if (action != VFIO_IRQ_SET_ACTION_TRIGGER)
		return -EINVAL;
	switch (data) {
	case VFIO_IRQ_SET_DATA_NONE:
		if (!set->count) {
			if (set->start)
				return -EINVAL;
			if (set->index == VFIO_PCI_MSIX_IRQ_INDEX)
				vfu_device_clear_vectors(device);
			return 0;
		}
		for (uint32_t i = set->start; i < last; i++)
			vfu_device_interrupt(device, i);
		return 0;
	case VFIO_IRQ_SET_DATA_BOOL:
		if (payload_bytes(m) - sizeof(*set) < set->count)
			return -EINVAL;
		bools = m->payload + sizeof(*set);
		for (uint32_t i = 0; i < set->count; i++)
			if (bools[i])
				vfu_device_interrupt(device, set->start + i);
		return 0;
	case VFIO_IRQ_SET_DATA_EVENTFD:
		if (m->fd_count && m->fd_count != set->count)
			return -EINVAL;
		for (uint32_t i = 0; i < m->fd_count; i++)
			if (!vfu_event_is(m->fds[i]))
				return -EINVAL;
		for (uint32_t i = 0; i < set->count; i++) {
			vfu_device_set_vector(device, set->start + i,
					      m->fd_count ? m->fds[i] : -1);
			if (m->fd_count)
				m->fds[i] = -1;	/* ours to keep now */
		}
		return 0;
	default:
		return -EINVAL;
	}
}

static int check_access(const struct vfu_device *device, const struct region_access *access)
{
	uint64_t end;

	if (access->region >= VFIO_PCI_NUM_REGIONS || access->bytes > VFU_DATA_MAX ||
	    __builtin_add_overflow(access->offset, access->bytes, &end) ||
	    end > vfu_device_region_bytes(device, access->region))
		return -EINVAL;
	return 0;
}

static int do_region_read(struct vfu_message *m, struct vfu_device *device)
{
	struct region_access *access = request(m, sizeof(*access));
	uint8_t *out;

	if (!access || check_access(device, access))
		return -EINVAL;
	out = answer(m, sizeof(*access) + access->bytes);
	memcpy(out, access, sizeof(*access));
	vfu_device_read(device, access->region, access->offset, out + sizeof(*access),
			access->bytes);
	return 0;
}

static int do_region_write(struct vfu_message *m, struct vfu_device *device)
{
	struct region_access *access = request(m, sizeof(*access));

	if (!access || check_access(device, access) ||
	    payload_bytes(m) - sizeof(*access) < access->bytes)
		return -EINVAL;
	vfu_device_write(device, access->region, access->offset,
			 m->payload + sizeof(*access), access->bytes);
	memcpy(answer(m, sizeof(*access)), access, sizeof(*access));
	return 0;
}

static int do_region_write_multi(struct vfu_message *m, struct vfu_device *device)
{
	uint64_t *count = request(m, sizeof(*count));
	struct region_write8 write;

	if (!count || *count != (payload_bytes(m) - sizeof(*count)) / sizeof(write) ||
	    (payload_bytes(m) - sizeof(*count)) % sizeof(write))
		return -EINVAL;
	for (uint64_t i = 0; i < *count; i++) {
		memcpy(&write, m->payload + sizeof(*count) + i * sizeof(write), sizeof(write));
		if (write.access.bytes > sizeof(write.data) || check_access(device, &write.access))
			return -EINVAL;
		vfu_device_write(device, write.access.region, write.access.offset, write.data,
				 write.access.bytes);
	}
	memcpy(answer(m, sizeof(*count)), count, sizeof(*count));
	return 0;
}

static int dispatch(struct vfu_message *m, struct vfu_device *device)
{
	if (m->in.command == CMD_VERSION) {
		if (m->has_version)
			return vfu_message_complain(m, "a second VERSION");
		return do_version(m);
	}
	if (!m->has_version)
		return vfu_message_complain(m, "command %u before VERSION", m->in.command);
	switch (m->in.command) {
	case CMD_DMA_MAP: return do_dma_map(m, device);
	case CMD_DMA_UNMAP: return do_dma_unmap(m, device);
	case CMD_GET_INFO: return do_get_info(m);
	case CMD_GET_REGION_INFO: return do_get_region_info(m, device);
	case CMD_GET_REGION_IO_FDS: return do_get_region_io_fds(m);
	case CMD_GET_IRQ_INFO: return do_get_irq_info(m, device);
	case CMD_SET_IRQS: return do_set_irqs(m, device);
	case CMD_REGION_READ: return do_region_read(m, device);
	case CMD_REGION_WRITE: return do_region_write(m, device);
	case CMD_RESET:
		vfu_device_reset(device);
		return 0;
	case CMD_REGION_WRITE_MULTI: return do_region_write_multi(m, device);
	default: return -ENOTSUP;
	}
}

int vfu_message_handle(struct vfu_message *m, struct vfu_device *device)
{
	struct vfu_header *out = (struct vfu_header *)m->out;
	int ret;

	m->out_bytes = sizeof(*out);
	m->out_fd = -1;
	ret = dispatch(m, device);
	vfu_message_close_fds(m);
	if (ret == -EPROTO)
		return ret;
	if (m->in.flags & VFU_NO_REPLY) {
		m->out_bytes = 0;
		return 0;
	}
	if (ret) {
		m->out_bytes = sizeof(*out);
		m->out_fd = -1;
	}
	*out = (struct vfu_header){
		.id = m->in.id,
		.command = m->in.command,
		.bytes = m->out_bytes,
		.flags = VFU_TYPE_REPLY | (ret ? VFU_IS_ERROR : 0),
		.error = -ret,
	};
	return 0;
}
