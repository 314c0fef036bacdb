// SPDX-License-Identifier: GPL-2.0
/*
 * Registers as they read now, by row; queues and buffers. Reading registers counts in the card's
 * own counters, and costs a trap each where the card is emulated.
 */
#include <linux/seq_file.h>

#include <drm/drm_debugfs.h>

#include "flightllm_queue.h"

static const struct {
	const char *name, *access, *meaning;
	u32 offset, bytes;
} rows[] = {
#define REG(name, offset, bank, access, reset, meaning) { #name, #access, meaning, offset, 4 },
#define REG64(name, offset, bank, access, reset, meaning) { #name, #access, meaning, offset, 8 },
#include <flightllm/regs.def>
};

static struct flightllm_device *seq_to_fdev(struct seq_file *m)
{
	struct drm_debugfs_entry *entry = m->private;

	return to_flightllm_device(entry->dev);
}

static int registers_show(struct seq_file *m, void *data)
{
	struct flightllm_device *fdev = seq_to_fdev(m);
	unsigned int i;
	u64 value;
	int idx;

	if (!drm_dev_enter(&fdev->drm, &idx))
		return -ENODEV;
	mutex_lock(&fdev->select_lock);
	for (i = 0; i < ARRAY_SIZE(rows); i++) {
		if (!strcmp(rows[i].access, "WO"))
			continue;
		value = rows[i].bytes == 8 ? flightllm_read64(fdev, rows[i].offset) :
					     flightllm_read(fdev, rows[i].offset);
		seq_printf(m, "%03x %-20s %#18llx  %s\n", rows[i].offset, rows[i].name, value,
			   rows[i].meaning);
	}
	mutex_unlock(&fdev->select_lock);
	drm_dev_exit(idx);
	return 0;
}

static int queues_show(struct seq_file *m, void *data)
{
	struct flightllm_device *fdev = seq_to_fdev(m);
	struct flightllm_queue *queue;
	unsigned int i;

	seq_puts(m, "queue kind    prio cores dead posted reaped seqno points busy_us\n");
	mutex_lock(&fdev->queues_lock);
	for (i = 0; i < fdev->card.queues; i++) {
		queue = fdev->queue[i];
		if (!queue)
			continue;
		spin_lock_irq(&queue->lock);
		seq_printf(m, "%5u %-7s %4u %#5x %4u %6u %6u %5llu", i,
			   queue->kind == FLM_QUEUE_COPY ? "copy" : "compute", queue->priority,
			   queue->cores, queue->dead, queue->tail, queue->reaped,
			   READ_ONCE(queue->seqno));
		if (!queue->dead)
			seq_printf(m, " %6llu %7llu", le64_to_cpu(queue->status->points),
				   queue->busy_us + le64_to_cpu(queue->status->busy_us));
		seq_putc(m, '\n');
		spin_unlock_irq(&queue->lock);
	}
	mutex_unlock(&fdev->queues_lock);
	return 0;
}

static int buffers_show(struct seq_file *m, void *data)
{
	struct flightllm_device *fdev = seq_to_fdev(m);
	struct flightllm_bo *bo;
	unsigned int i;

	mutex_lock(&fdev->bos_lock);
	for (i = 0; i < fdev->region_count; i++) {
		struct flightllm_region *region = &fdev->region[i];

		seq_printf(m, "%s: %llu of %llu bytes\n", region->name, region->used,
			   region->bytes);
		list_for_each_entry(bo, &region->bos, link)
			seq_printf(m, "  %#14llx %12llu%s\n", bo->address, flightllm_bo_bytes(bo),
				   bo->contiguous ? "" : " scattered");
	}
	mutex_unlock(&fdev->bos_lock);
	return 0;
}

/* Counts of all objects; after the last client has gone, only the driver's own. */
static int state_show(struct seq_file *m, void *data)
{
	struct flightllm_device *fdev = seq_to_fdev(m);
	struct flightllm_mem *mem;
	u64 shared = 0;

	mutex_lock(&fdev->mems_lock);
	list_for_each_entry(mem, &fdev->mems, link)
		shared += mem->bytes;
	mutex_unlock(&fdev->mems_lock);

	seq_printf(m, "card_resets %d\nqueue_resets %d\ncontexts %d\nqueues %d\nin_flight %d\n",
		   atomic_read(&fdev->card_resets), atomic_read(&fdev->queue_resets),
		   atomic_read(&fdev->live_contexts), atomic_read(&fdev->live_queues),
		   atomic_read(&fdev->in_flight));
	seq_printf(m, "shared_bytes %llu\nfailed %d\n", shared, READ_ONCE(fdev->failed));
	return 0;
}

static const struct drm_debugfs_info files[] = {
	{ "registers", registers_show },
	{ "queues", queues_show },
	{ "buffers", buffers_show },
	{ "state", state_show },
};

void flightllm_debugfs_init(struct flightllm_device *fdev)
{
	drm_debugfs_add_files(&fdev->drm, files, ARRAY_SIZE(files));
}
