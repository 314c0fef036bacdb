// SPDX-License-Identifier: MIT
/*
 * The card in the process: loads libflightllm-card.so and answers the driver's ioctls over it. This
 * file is the device: its queries, and which function answers which ioctl. One lock is held in all
 * of them except WAIT.
 */
#include <dlfcn.h>
#include <endian.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <drm/flightllm_accel.h>

#include "lib/internal.h"
#include "lib/soft/soft.h"

/* ---- Queries ---- */

static void query_card(struct soft *soft, struct drm_flightllm_query_card *card)
{
	uint32_t name[4];

	for (unsigned int i = 0; i < 4; i++)
		name[i] = htole32(soft_read(soft, FLM_REG_PROFILE0 + 4 * i));
	memcpy(card->name, name, sizeof(card->name));
	card->name[15] = 0;
	card->serial = soft_read64(soft, FLM_REG_SERIAL);
	card->features = DRM_FLIGHTLLM_FEATURE_COPY_CRC32C;
	card->caps = soft_read(soft, FLM_REG_CAPS);
	card->map_version = soft_read(soft, FLM_REG_VERSION);
	card->isa_version = soft_read(soft, FLM_REG_ISA);
	card->cores = soft->cores;
	card->queues = soft->card_queues;
	card->segments = FLM_SEGMENTS;
	card->jobs_max = SOFT_SLOTS;
	card->points_max = SOFT_POINTS_MAX;
	card->copy_point_bytes = FLM_COPY_POINT;
	card->history = SOFT_SLOTS;
	card->watchdog = SOFT_WATCHDOG;
	card->priorities = FLM_QUEUE_PRIORITIES;
	card->chunk = soft_read(soft, FLM_REG_CHUNK);
	card->clock_khz = soft_read(soft, FLM_REG_CLOCK_KHZ);
	card->macs = soft_read(soft, FLM_REG_MACS);
	card->widths = soft_read(soft, FLM_REG_WIDTHS);
	for (unsigned int i = 0; i < 4; i++)
		card->buffer_bytes[i] = soft_read(soft, FLM_REG_BUFFER_ACT + 4 * i);
	card->cache_bytes = soft_read(soft, FLM_REG_CACHE);
	card->host_bo_max = SOFT_HOST_MAX;
}

static void query_memory(struct soft *soft, struct drm_flightllm_query_memory *memory)
{
	struct drm_flightllm_region *r = memory->regions;

	for (unsigned int i = 0; i < soft->region_count; i++, r++) {
		const struct soft_region *region = &soft->regions[i];

		memcpy(r->name, region->name, sizeof(r->name));
		r->id = region->id;
		r->block = region->block;
		r->size = region->size;
		r->free = region->size - region->used;
		r->visible = region->visible;
		r->channels = region->channels;
		r->mbps = region->mbps;
		r->used_by_file = region->used;
	}
	*r = (struct drm_flightllm_region) {
		.name = "host", .id = FLM_REGION_HOST, .block = FLM_HOST_BLOCK,
		.size = SOFT_HOST_MAX, .free = SOFT_HOST_MAX - soft->host_used,
		.visible = SOFT_HOST_MAX, .used_by_file = soft->host_used,
	};
	memory->count = soft->region_count + 1;
}

static void query_counters(struct soft *soft, struct drm_flightllm_query_counters *c)
{
	c->reads = soft_read64(soft, FLM_REG_COUNT_READS);
	c->writes = soft_read64(soft, FLM_REG_COUNT_WRITES);
	c->kicks = soft_read64(soft, FLM_REG_COUNT_KICKS);
	c->doorbells = soft_read64(soft, FLM_REG_COUNT_DOORBELLS);
	c->interrupts = soft_read64(soft, FLM_REG_COUNT_INTERRUPTS);
	c->jobs = soft_read64(soft, FLM_REG_COUNT_JOBS);
	c->copies = soft_read64(soft, FLM_REG_COUNT_COPIES);
	c->tokens = soft_read64(soft, FLM_REG_COUNT_TOKENS);
	c->faults = soft_read64(soft, FLM_REG_COUNT_FAULTS);
	c->instructions = soft_read64(soft, FLM_REG_COUNT_INSTRUCTIONS);
	c->points = soft_read64(soft, FLM_REG_COUNT_POINTS);
	c->switches = soft_read64(soft, FLM_REG_COUNT_SWITCHES);
	c->host_read = soft_read64(soft, FLM_REG_COUNT_HOST_READ);
	c->host_written = soft_read64(soft, FLM_REG_COUNT_HOST_WRITTEN);
	c->dma_errors = soft_read64(soft, FLM_REG_COUNT_DMA_ERRORS);
	c->cache_hits = soft_read64(soft, FLM_REG_COUNT_CACHE_HITS);
	c->cache_misses = soft_read64(soft, FLM_REG_COUNT_CACHE_MISSES);
	c->time_us = soft_read64(soft, FLM_REG_TIME_US);
	c->cycles = soft_read64(soft, FLM_REG_CYCLES);
	c->submits = soft->submits;
}

static void query_health(struct soft *soft, struct drm_flightllm_query_health *h)
{
	h->state = soft_read(soft, FLM_REG_STATE) & 1 ? 0 : 1;
	h->temperature_mc = soft_read(soft, FLM_REG_TEMPERATURE);
	h->temperature_hbm_mc = soft_read(soft, FLM_REG_TEMPERATURE_HBM);
	h->power_mw = soft_read(soft, FLM_REG_POWER_MW);
	h->volt_mv = soft_read(soft, FLM_REG_VOLT_MV);
}

static int dev_query(struct soft *soft, struct drm_flightllm_dev_query *args)
{
	union {
		struct drm_flightllm_query_card card;
		struct drm_flightllm_query_memory memory;
		struct drm_flightllm_query_counters counters;
		struct drm_flightllm_query_health health;
	} answer;
	uint32_t bytes;

	if (args->pad)
		return -EINVAL;
	memset(&answer, 0, sizeof(answer));
	switch (args->type) {
	case DRM_FLIGHTLLM_QUERY_CARD:
		query_card(soft, &answer.card);
		bytes = sizeof(answer.card);
		break;
	case DRM_FLIGHTLLM_QUERY_MEMORY:
		query_memory(soft, &answer.memory);
		bytes = sizeof(answer.memory);
		break;
	case DRM_FLIGHTLLM_QUERY_COUNTERS:
		query_counters(soft, &answer.counters);
		bytes = sizeof(answer.counters);
		break;
	case DRM_FLIGHTLLM_QUERY_HEALTH:
		query_health(soft, &answer.health);
		bytes = sizeof(answer.health);
		break;
	default:
		return -EINVAL;
	}
	if (!args->pointer || args->size > bytes)
		args->size = bytes;
	if (args->pointer)
		memcpy((void *)(uintptr_t)args->pointer, &answer, args->size);
	return 0;
}

/* Closes a handle; contexts then release the buffers that no job needs any more. */
static int bo_close(struct soft *soft, const struct drm_gem_close *args)
{
	int ret = soft_bo_close(soft, args);

	for (unsigned int i = 0; !ret && i < SOFT_CONTEXTS; i++)
		if (soft->contexts[i])
			soft_retire(soft, soft->contexts[i]);
	return ret;
}

static int locked_ioctl(struct soft *soft, unsigned long request, void *argument)
{
	switch (request) {
	case DRM_IOCTL_GEM_CLOSE:
		return bo_close(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_DEV_QUERY:
		return dev_query(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_BO_CREATE:
		return soft_bo_create(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_BO_MMAP_OFFSET:
		return soft_bo_mmap_offset(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_BO_INFO:
		return soft_bo_info(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_CONTEXT_CREATE:
		return soft_context_create(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_CONTEXT_DESTROY:
		return soft_context_destroy(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_SEGMENT_BIND:
		return soft_segment_bind(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_QUEUE_CREATE:
		return soft_queue_create(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_QUEUE_DESTROY:
		return soft_queue_destroy(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_SUBMIT:
		return soft_submit(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_STOP:
		return soft_stop(soft, argument);
	case DRM_IOCTL_FLIGHTLLM_FAULT_QUERY:
		return soft_fault_query(soft, argument);
	default:
		return -ENOTTY;
	}
}

static int soft_seam_ioctl(void *handle, unsigned long request, void *argument)
{
	struct soft *soft = handle;
	int ret;

	if (request == DRM_IOCTL_FLIGHTLLM_WAIT)
		return soft_wait(soft, argument);
	/* SEGMENT_BIND may have to wait for a job to end; others may stop that job meanwhile. */
	do {
		uint64_t events = soft_events(soft);

		pthread_mutex_lock(&soft->lock);
		ret = locked_ioctl(soft, request, argument);
		pthread_mutex_unlock(&soft->lock);
		if (ret == -EAGAIN)
			soft_sleep(soft, events, INT64_MAX);
	} while (ret == -EAGAIN);
	return ret;
}

/* ---- Opening and closing ---- */

static void soft_seam_close(void *handle)
{
	struct soft *soft = handle;

	if (soft->card) {
		soft_job_fini(soft);
		for (uint32_t i = 0; i < soft->bo_room; i++)
			soft_bo_put(soft, soft->bos[i]);
		soft->card_free(soft->card);
	}
	free(soft->bos);
	if (soft->library)
		dlclose(soft->library);
	pthread_mutex_destroy(&soft->lock);
	pthread_mutex_destroy(&soft->wake);
	pthread_cond_destroy(&soft->woken);
	free(soft);
}

/* $FLIGHTLLM_CARD_LIBRARY, beside the program, in ../lib, or where the loader looks. */
static void *load_library(void)
{
	const char *chosen = getenv("FLIGHTLLM_CARD_LIBRARY");
	static const char *const places[] = { "%s/libflightllm-card.so",
					      "%s/../lib/libflightllm-card.so" };
	char self[PATH_MAX], path[2 * PATH_MAX];
	void *library = NULL;
	ssize_t n;

	if (chosen)
		return dlopen(chosen, RTLD_NOW | RTLD_LOCAL);
	n = readlink("/proc/self/exe", self, sizeof(self) - 1);
	if (n > 0) {
		self[n] = 0;
		*strrchr(self, '/') = 0;
		for (unsigned int i = 0; i < 2 && !library; i++) {
			snprintf(path, sizeof(path), places[i], self);
			if (!access(path, R_OK))
				return dlopen(path, RTLD_NOW | RTLD_LOCAL);
		}
	}
	return dlopen("libflightllm-card.so", RTLD_NOW | RTLD_LOCAL);
}

static int find_symbols(struct soft *soft)
{
	const struct { const char *name; void **place; } symbols[] = {
		{ "card_new", (void **)&soft->card_new },
		{ "card_free", (void **)&soft->card_free },
		{ "card_reg_read", (void **)&soft->card_reg_read },
		{ "card_reg_write", (void **)&soft->card_reg_write },
		{ "card_bar_fd", (void **)&soft->card_bar_fd },
		{ "card_bar_memory", (void **)&soft->card_bar_memory },
		{ "card_dma_map", (void **)&soft->card_dma_map },
		{ "card_dma_unmap", (void **)&soft->card_dma_unmap },
		{ "card_bus_master", (void **)&soft->card_bus_master },
	};

	for (unsigned int i = 0; i < sizeof(symbols) / sizeof(symbols[0]); i++) {
		*symbols[i].place = dlsym(soft->library, symbols[i].name);
		if (!*symbols[i].place)
			return flm_fail(-EPROTO, "libflightllm-card.so has no %s; install the one of "
					"this library's release", symbols[i].name);
	}
	return 0;
}

static void find_regions(struct soft *soft)
{
	for (unsigned int id = 0; id < FLM_REGION_PEER; id++) {
		struct soft_region *region = &soft->regions[soft->region_count];

		soft_write(soft, FLM_REG_REGION_SELECT, id);
		region->size = soft_read64(soft, FLM_REG_REGION_SIZE);
		if (!region->size)
			continue;
		region->id = id;
		region->block = soft_read(soft, FLM_REG_REGION_BLOCK);
		region->visible = soft_read64(soft, FLM_REG_REGION_VISIBLE);
		region->bar2 = soft_read64(soft, FLM_REG_REGION_BAR2);
		region->channels = soft_read(soft, FLM_REG_REGION_CHANNELS);
		region->mbps = soft_read(soft, FLM_REG_REGION_MBPS);
		if (id == FLM_REGION_DDR)
			strcpy(region->name, "ddr");
		else
			snprintf(region->name, sizeof(region->name), "hbm%u", id & 7);
		soft->region_count++;
	}
}

int soft_open(const char *profile, struct seam *seam)
{
	struct card_options options = { .profile = profile };
	struct card_host host = { .interrupt = soft_interrupt };
	char error[CARD_ERROR_BYTES];
	pthread_condattr_t attributes;
	struct soft *soft;
	int ret;

	soft = calloc(1, sizeof(*soft));
	if (!soft)
		return flm_fail(-ENOMEM, "no memory for a card");
	pthread_mutex_init(&soft->lock, NULL);
	pthread_mutex_init(&soft->wake, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&soft->woken, &attributes);
	pthread_condattr_destroy(&attributes);
	soft->library = load_library();
	if (!soft->library)
		ret = flm_fail(-ENODEV, "%s; --emulate needs libflightllm-card.so, which 'make' builds "
			       "(FLIGHTLLM_CARD_LIBRARY names another place)", dlerror());
	else
		ret = find_symbols(soft);
	if (ret)
		goto out_close;
	host.opaque = soft;
	ret = soft->card_new(&options, &host, &soft->card, error);
	if (ret) {
		soft->card = NULL;
		flm_fail(ret, "%s", error);
		goto out_close;
	}
	soft->card_bus_master(soft->card, 1);
	soft->cores = soft_read(soft, FLM_REG_CORES);
	soft->vectors = soft_read(soft, FLM_REG_VECTORS);
	soft->card_queues = soft_read(soft, FLM_REG_QUEUES);
	if (soft->card_queues > SOFT_QUEUES)
		soft->card_queues = SOFT_QUEUES;
	find_regions(soft);
	*seam = (struct seam) {
		.ioctl = soft_seam_ioctl, .map = soft_bo_map, .close = soft_seam_close,
		.handle = soft,
	};
	return 0;

out_close:
	soft_seam_close(soft);
	return ret;
}
