// SPDX-License-Identifier: GPL-2.0
/* DEV_QUERY: what the card is, has and does. */
#include <linux/sched/mm.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "flightllm_queue.h"

static int query_card(struct flightllm_device *fdev, struct drm_file *file, void *data)
{
	struct flightllm_file *ffile = file->driver_priv;
	struct drm_flightllm_query_card *out = data;
	const struct flightllm_card *card = &fdev->card;
	struct pci_dev *pdev = fdev->pdev;

	memcpy(out->name, card->name, sizeof(out->name));
	out->name[sizeof(out->name) - 1] = 0;
	out->serial = card->serial;
	if (FLM_REG_GET(card->caps, CAPS, CRC32C))
		out->features = DRM_FLIGHTLLM_FEATURE_COPY_CRC32C;
	out->caps = card->caps;
	out->map_version = card->map_version;
	out->isa_version = card->isa_version;
	out->cores = card->cores;
	out->queues = card->queues - 1;	/* one is the driver's */
	out->segments = card->segments;
	out->jobs_max = FLIGHTLLM_SLOTS;
	out->points_max = flightllm_context_points(ffile);
	WRITE_ONCE(ffile->points_told, out->points_max);
	out->copy_point_bytes = FLM_COPY_POINT;
	out->history = FLIGHTLLM_HISTORY;
	out->priorities = FLM_QUEUE_PRIORITIES;
	out->chunk = card->chunk;
	out->clock_khz = card->clock_khz;
	out->macs = card->macs;
	out->widths = card->widths;
	memcpy(out->buffer_bytes, card->buffer_bytes, sizeof(out->buffer_bytes));
	out->cache_bytes = card->cache_bytes;
	out->pci = pci_domain_nr(pdev->bus) << 16 | pdev->bus->number << 8 | pdev->devfn;
	out->host_bo_max = FLIGHTLLM_HOST_BO_MAX;
	out->watchdog = FLIGHTLLM_WATCHDOG;
	return 0;
}

/* Bytes of this file's buffers, by region. */
static void count_buffers(struct drm_file *file, u64 used[FLM_REGIONS])
{
	struct drm_gem_object *gem;
	int handle;

	spin_lock(&file->table_lock);
	idr_for_each_entry(&file->object_idr, gem, handle)
		if (gem)
			used[to_flightllm_bo(gem)->region->id] += gem->size;
	spin_unlock(&file->table_lock);
}

static int query_memory(struct flightllm_device *fdev, struct drm_file *file, void *data)
{
	struct drm_flightllm_query_memory *out = data;
	u64 used[FLM_REGIONS] = { 0 }, largest;
	unsigned int i;

	count_buffers(file, used);
	out->count = fdev->region_count;
	for (i = 0; i < fdev->region_count; i++) {
		struct flightllm_region *region = &fdev->region[i];
		struct drm_flightllm_region *row = &out->regions[i];

		memcpy(row->name, region->name, sizeof(row->name));
		row->id = region->id;
		row->block = region->block;
		row->size = region->bytes;
		flightllm_region_free(fdev, region, &row->free, &largest);
		row->visible = region->visible;
		row->channels = region->channels;
		row->mbps = region->mbps;
		row->used_by_file = used[region->id];
	}
	return 0;
}

static int query_counters(struct flightllm_device *fdev, void *data)
{
	struct drm_flightllm_query_counters *out = data;
	const struct {
		u64 *to;
		u32 offset;
	} rows[] = {
		/* In this order: the first two before this query has added much. */
		{ &out->reads, FLM_REG_COUNT_READS },
		{ &out->writes, FLM_REG_COUNT_WRITES },
		{ &out->kicks, FLM_REG_COUNT_KICKS },
		{ &out->doorbells, FLM_REG_COUNT_DOORBELLS },
		{ &out->interrupts, FLM_REG_COUNT_INTERRUPTS },
		{ &out->jobs, FLM_REG_COUNT_JOBS },
		{ &out->copies, FLM_REG_COUNT_COPIES },
		{ &out->tokens, FLM_REG_COUNT_TOKENS },
		{ &out->faults, FLM_REG_COUNT_FAULTS },
		{ &out->instructions, FLM_REG_COUNT_INSTRUCTIONS },
		{ &out->points, FLM_REG_COUNT_POINTS },
		{ &out->switches, FLM_REG_COUNT_SWITCHES },
		{ &out->host_read, FLM_REG_COUNT_HOST_READ },
		{ &out->host_written, FLM_REG_COUNT_HOST_WRITTEN },
		{ &out->dma_errors, FLM_REG_COUNT_DMA_ERRORS },
		{ &out->cache_hits, FLM_REG_COUNT_CACHE_HITS },
		{ &out->cache_misses, FLM_REG_COUNT_CACHE_MISSES },
		{ &out->time_us, FLM_REG_TIME_US },
		{ &out->cycles, FLM_REG_CYCLES },
	};
	u32 epoch = READ_ONCE(fdev->epoch);
	unsigned int i;

	if (READ_ONCE(fdev->failed))
		return -EIO;
	if (READ_ONCE(fdev->resetting))
		return -EBUSY;
	for (i = 0; i < ARRAY_SIZE(rows); i++)
		*rows[i].to = flightllm_read64(fdev, rows[i].offset);
	/* A reset in between makes a mixture of it. */
	if (READ_ONCE(fdev->resetting) || READ_ONCE(fdev->epoch) != epoch)
		return -EBUSY;
	if (out->time_us == ~0ull)	/* it was pulled out, and nobody has told us yet */
		return -EIO;
	out->submits = atomic64_read(&fdev->submits);
	return 0;
}

static u32 link_mtps(struct pci_dev *pdev, u32 *width)
{
	static const u32 mtps[] = { 0, 2500, 5000, 8000, 16000, 32000, 64000 };
	u16 status = 0;
	u32 speed;

	pcie_capability_read_word(pdev, PCI_EXP_LNKSTA, &status);
	*width = (status & PCI_EXP_LNKSTA_NLW) >> PCI_EXP_LNKSTA_NLW_SHIFT;
	speed = status & PCI_EXP_LNKSTA_CLS;
	return speed < ARRAY_SIZE(mtps) ? mtps[speed] : 0;
}

static int query_health(struct flightllm_device *fdev, void *data)
{
	struct drm_flightllm_query_health *out = data;
	unsigned int i;

	out->state = READ_ONCE(fdev->failed) ? 2 : READ_ONCE(fdev->resetting) ? 1 : 0;
	out->card_resets = atomic_read(&fdev->card_resets);
	out->queue_resets = atomic_read(&fdev->queue_resets);
	out->link_mtps = link_mtps(fdev->pdev, &out->link_width);
	if (out->state)
		return 0;	/* registers of such a card say nothing */
	mutex_lock(&fdev->select_lock);
	for (i = 0; i < fdev->region_count; i++) {
		if (fdev->region[i].id == FLM_REGION_HOST)
			continue;
		flightllm_write(fdev, FLM_REG_REGION_SELECT, fdev->region[i].id);
		out->corrected += flightllm_read64(fdev, FLM_REG_REGION_CORRECTED);
		out->uncorrected += flightllm_read64(fdev, FLM_REG_REGION_UNCORRECTED);
	}
	mutex_unlock(&fdev->select_lock);
	if (FLM_REG_GET(fdev->card.caps, CAPS, SENSORS)) {
		out->temperature_mc = flightllm_read(fdev, FLM_REG_TEMPERATURE);
		out->temperature_hbm_mc = flightllm_read(fdev, FLM_REG_TEMPERATURE_HBM);
		out->power_mw = flightllm_read(fdev, FLM_REG_POWER_MW);
		out->volt_mv = flightllm_read(fdev, FLM_REG_VOLT_MV);
	}
	return 0;
}

static int fill(struct flightllm_device *fdev, struct drm_file *file, u32 type, void *data)
{
	switch (type) {
	case DRM_FLIGHTLLM_QUERY_CARD:
		return query_card(fdev, file, data);
	case DRM_FLIGHTLLM_QUERY_MEMORY:
		return query_memory(fdev, file, data);
	case DRM_FLIGHTLLM_QUERY_COUNTERS:
		return query_counters(fdev, data);
	case DRM_FLIGHTLLM_QUERY_HEALTH:
		return query_health(fdev, data);
	}
	return -EINVAL;
}

int flightllm_query_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	static const u32 sizes[] = {
		[DRM_FLIGHTLLM_QUERY_CARD] = sizeof(struct drm_flightllm_query_card),
		[DRM_FLIGHTLLM_QUERY_MEMORY] = sizeof(struct drm_flightllm_query_memory),
		[DRM_FLIGHTLLM_QUERY_COUNTERS] = sizeof(struct drm_flightllm_query_counters),
		[DRM_FLIGHTLLM_QUERY_HEALTH] = sizeof(struct drm_flightllm_query_health),
	};
	struct drm_flightllm_dev_query *args = data;
	void *answer;
	u32 size;
	int ret, idx;

	if (args->pad || args->type >= ARRAY_SIZE(sizes))
		return -EINVAL;
	size = sizes[args->type];
	if (!args->pointer) {
		args->size = size;
		return 0;
	}
	answer = kzalloc(size, GFP_KERNEL);
	if (!answer)
		return -ENOMEM;
	if (drm_dev_enter(drm, &idx)) {
		ret = fill(to_flightllm_device(drm), file, args->type, answer);
		drm_dev_exit(idx);
	} else {
		ret = -ENODEV;
	}
	args->size = min(args->size, size);
	if (!ret && copy_to_user(u64_to_user_ptr(args->pointer), answer, args->size))
		ret = -EFAULT;
	kfree(answer);
	return ret;
}
