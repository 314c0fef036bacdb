// SPDX-License-Identifier: MIT
/* Devices: a card behind either side of the seam. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <drm/flightllm_accel.h>

#include <flightllm/isa.h>

#include "lib/internal.h"

static int query(struct flm_device *device, uint32_t type, void *answer, size_t bytes)
{
	struct drm_flightllm_dev_query query = {
		.type = type, .size = bytes, .pointer = (uintptr_t)answer,
	};

	memset(answer, 0, bytes);
	return device_ask(device, DRM_IOCTL_FLIGHTLLM_DEV_QUERY, &query, "DEV_QUERY");
}

static int query_card(struct flm_device *device, struct drm_flightllm_query_card *card)
{
	int ret;

	pthread_mutex_lock(&device->asking);
	ret = query(device, DRM_FLIGHTLLM_QUERY_CARD, card, sizeof(*card));
	if (!ret)
		__atomic_store_n(&device->points, card->points_max, __ATOMIC_RELAXED);
	pthread_mutex_unlock(&device->asking);
	return ret;
}

unsigned int device_points(struct flm_device *device, unsigned int wanted)
{
	struct drm_flightllm_query_card card;

	if (__atomic_load_n(&device->points, __ATOMIC_RELAXED) < wanted)
		query_card(device, &card);
	return __atomic_load_n(&device->points, __ATOMIC_RELAXED);
}

/* After the seam is closed, or when it never was open. */
static void device_free(struct flm_device *device)
{
	pthread_mutex_destroy(&device->asking);
	pthread_mutex_destroy(&device->lock);
	free(device);
}

PUBLIC int flm_device_open(const char *name, struct flm_device **device)
{
	struct drm_flightllm_query_card card;
	struct flm_device *d;
	int ret;

	*device = NULL;
	if (!name)
		name = getenv("FLIGHTLLM_DEVICE");
	if (name && !*name)
		name = NULL;
	d = calloc(1, sizeof(*d));
	if (!d)
		return flm_fail(-ENOMEM, "no memory for a device");
	pthread_mutex_init(&d->asking, NULL);
	pthread_mutex_init(&d->lock, NULL);
	if (name && !strncmp(name, "emulate", 7) && (!name[7] || name[7] == ':')) {
		d->is_soft = true;
		snprintf(d->node, sizeof(d->node), "emulate:%s", name[7] ? name + 8 : "u280");
		ret = soft_open(d->node + 8, &d->seam);
	} else {
		ret = drm_open(name, &d->seam, d->node, d->bus);
	}
	if (!ret)
		ret = query_card(d, &card);
	if (!ret && card.isa_version >> 16 != FLM_ISA_MAJOR)
		ret = flm_fail(-EPROTO, "%s has instruction set %u.%u, this library knows %u; install "
			       "the library of the card's release", d->node, card.isa_version >> 16,
			       card.isa_version & 0xffff, FLM_ISA_MAJOR);
	if (ret) {
		if (d->seam.close)
			d->seam.close(d->seam.handle);
		device_free(d);
		return ret;
	}
	*device = d;
	return 0;
}

PUBLIC void flm_device_close(struct flm_device *device)
{
	if (!device)
		return;
	copy_fini(device);
	device->seam.close(device->seam.handle);
	device_free(device);
}

PUBLIC int flm_device_info(struct flm_device *device, struct flm_device_info *info)
{
	struct drm_flightllm_query_card card;
	struct drm_flightllm_query_memory memory;
	int ret;

	memset(info, 0, sizeof(*info));
	ret = query_card(device, &card);
	if (!ret)
		ret = query(device, DRM_FLIGHTLLM_QUERY_MEMORY, &memory, sizeof(memory));
	if (ret)
		return ret;
	memcpy(info->node, device->node, sizeof(info->node));
	memcpy(info->bus, device->bus, sizeof(info->bus));
	snprintf(info->card, sizeof(info->card), "%.15s", (const char *)card.name);
	snprintf(info->driver, sizeof(info->driver), "%s %d.%d", device->is_soft ? "soft" : "flightllm",
		 DRM_FLIGHTLLM_MAJOR, DRM_FLIGHTLLM_MINOR);
	info->serial = card.serial;
	info->cores = card.cores;
	info->queues = card.queues;
	info->isa_major = card.isa_version >> 16;
	info->isa_minor = card.isa_version & 0xffff;
	info->regions = memory.count < 16 ? memory.count : 16;
	for (unsigned int i = 0; i < info->regions; i++) {
		snprintf(info->region[i].name, sizeof(info->region[i].name), "%.7s",
			 (const char *)memory.regions[i].name);
		info->region[i].bytes = memory.regions[i].size;
		info->region[i].free_bytes = memory.regions[i].free;
	}
	return 0;
}

PUBLIC int flm_device_counters(struct flm_device *device, struct flm_counters *counters)
{
	struct drm_flightllm_query_counters c;
	int ret = query(device, DRM_FLIGHTLLM_QUERY_COUNTERS, &c, sizeof(c));

	if (ret)
		return ret;
	*counters = (struct flm_counters) {
		.register_reads = c.reads, .register_writes = c.writes, .kicks = c.kicks,
		.doorbells = c.doorbells, .interrupts = c.interrupts, .jobs = c.jobs,
		.tokens = c.tokens, .instructions = c.instructions, .submits = c.submits,
	};
	return 0;
}
