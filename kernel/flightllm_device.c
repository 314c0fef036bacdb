// SPDX-License-Identifier: GPL-2.0
/*
 * The card itself: BARs, identity, shared memory, interrupts, start and stop. The one idea: the
 * card is reset when it is bound and told to stop everything when it is left, so that no queue of
 * an earlier life ever writes into memory that somebody else has by now.
 */
#include <linux/delay.h>
#include <linux/dma-mapping.h>
#include <linux/mm.h>
#include <linux/wait_bit.h>

#include <drm/drm_managed.h>

#include "flightllm_job.h"

#define READY_MS	10000

struct flightllm_mem *flightllm_mem_new(struct flightllm_device *fdev, size_t bytes)
{
	struct flightllm_mem *mem = kzalloc(sizeof(*mem), GFP_KERNEL);

	if (!mem)
		return NULL;
	mem->bytes = PAGE_ALIGN(bytes);
	mem->cpu = dma_alloc_coherent(fdev->drm.dev, mem->bytes, &mem->bus,
				      GFP_KERNEL | __GFP_NOWARN);
	if (!mem->cpu) {
		kfree(mem);
		return NULL;
	}
	mutex_lock(&fdev->mems_lock);
	list_add(&mem->link, &fdev->mems);
	mutex_unlock(&fdev->mems_lock);
	return mem;
}

static void mem_release(struct flightllm_device *fdev, struct flightllm_mem *mem)
{
	lockdep_assert_held(&fdev->mems_lock);
	list_del(&mem->link);
	dma_free_coherent(fdev->drm.dev, mem->bytes, mem->cpu, mem->bus);
	mem->cpu = NULL;
}

void flightllm_mem_free(struct flightllm_device *fdev, struct flightllm_mem *mem)
{
	if (!mem)
		return;
	mutex_lock(&fdev->mems_lock);
	if (mem->cpu)
		mem_release(fdev, mem);
	mutex_unlock(&fdev->mems_lock);
	kfree(mem);
}

static void free_all_mems(struct flightllm_device *fdev)
{
	struct flightllm_mem *mem, *next;

	/* The structs are their owners', who find later that the memory has gone. */
	mutex_lock(&fdev->mems_lock);
	list_for_each_entry_safe(mem, next, &fdev->mems, link)
		mem_release(fdev, mem);
	mutex_unlock(&fdev->mems_lock);
}

int flightllm_device_wait_ready(struct flightllm_device *fdev)
{
	unsigned int waited;
	u32 state = 0;

	for (waited = 0; waited < READY_MS; waited += 20) {
		if (flightllm_read(fdev, FLM_REG_MAGIC) == ~0u)
			return -ENODEV;
		state = flightllm_read(fdev, FLM_REG_STATE);
		if (FLM_REG_GET(state, STATE, FAILED))
			break;
		if (FLM_REG_GET(state, STATE, READY))
			return 0;
		msleep(20);
	}
	drm_err(&fdev->drm, "card did not become ready after a reset: STATE %#x\n", state);
	return -ETIMEDOUT;
}

/* A card that ignores the command is READY as before and goes on: only RESETS tells. */
int flightllm_device_reset(struct flightllm_device *fdev)
{
	u32 before = flightllm_read(fdev, FLM_REG_RESETS);
	int ret;

	flightllm_write(fdev, FLM_REG_CONTROL, FLM_RESET_KEY);
	ret = flightllm_device_wait_ready(fdev);
	if (!ret && flightllm_read(fdev, FLM_REG_RESETS) == before) {
		drm_err(&fdev->drm, "card ignores its reset\n");
		ret = -ETIMEDOUT;
	}
	return ret;
}

static int map_bars(struct flightllm_device *fdev)
{
	struct pci_dev *pdev = fdev->pdev;
	int ret;

	fdev->regs = pcim_iomap_region(pdev, FLM_BAR_REGS, "flightllm");
	if (IS_ERR(fdev->regs))
		return dev_err_probe(&pdev->dev, PTR_ERR(fdev->regs), "cannot map BAR0\n");
	fdev->doorbells = pcim_iomap_region(pdev, FLM_BAR_DOORBELLS, "flightllm");
	if (IS_ERR(fdev->doorbells))
		return dev_err_probe(&pdev->dev, PTR_ERR(fdev->doorbells), "cannot map BAR4\n");
	ret = pcim_request_region(pdev, FLM_BAR_MEMORY, "flightllm");
	if (ret)
		return dev_err_probe(&pdev->dev, ret, "cannot request BAR2\n");
	fdev->window = pci_resource_start(pdev, FLM_BAR_MEMORY);
	/* x86 asks its own table what a page of a BAR is, whatever the mapping says. */
	ret = devm_arch_io_reserve_memtype_wc(&pdev->dev, fdev->window,
					      pci_resource_len(pdev, FLM_BAR_MEMORY));
	if (ret)
		dev_info(&pdev->dev, "BAR2 is not write-combined: uploads are slower\n");
	return 0;
}

static int check_versions(struct flightllm_device *fdev)
{
	struct device *dev = fdev->drm.dev;
	u32 magic = flightllm_read(fdev, FLM_REG_MAGIC);
	u32 version = flightllm_read(fdev, FLM_REG_VERSION);

	if (magic != 0x314d4c46)
		return dev_err_probe(dev, -ENODEV, "no FlightLLM card: magic %#x\n", magic);
	if (FLM_REG_GET(version, VERSION, MAJOR) != FLM_MAP_MAJOR)
		return dev_err_probe(dev, -EPROTO,
				     "register map is %u.%u, driver knows %u.%u: update the %s\n",
				     FLM_REG_GET(version, VERSION, MAJOR),
				     FLM_REG_GET(version, VERSION, MINOR),
				     FLM_MAP_MAJOR, FLM_MAP_MINOR,
				     FLM_REG_GET(version, VERSION, MAJOR) > FLM_MAP_MAJOR ?
				     "driver" : "card");
	fdev->card.map_version = version;
	return 0;
}

static int read_identity(struct flightllm_device *fdev)
{
	struct flightllm_card *card = &fdev->card;
	struct device *dev = fdev->drm.dev;
	unsigned int i;
	u32 value;

	for (i = 0; i < 4; i++) {
		value = flightllm_read(fdev, FLM_REG_PROFILE0 + 4 * i);
		card->name[4 * i] = value;
		card->name[4 * i + 1] = value >> 8;
		card->name[4 * i + 2] = value >> 16;
		card->name[4 * i + 3] = value >> 24;
		card->buffer_bytes[i] = flightllm_read(fdev, FLM_REG_BUFFER_ACT + 4 * i);
	}
	card->serial = flightllm_read64(fdev, FLM_REG_SERIAL);
	card->caps = flightllm_read(fdev, FLM_REG_CAPS);
	card->isa_version = flightllm_read(fdev, FLM_REG_ISA);
	card->cores = flightllm_read(fdev, FLM_REG_CORES);
	card->queues = flightllm_read(fdev, FLM_REG_QUEUES);
	card->vectors = flightllm_read(fdev, FLM_REG_VECTORS);
	card->segments = flightllm_read(fdev, FLM_REG_SEGMENTS);
	card->chunk = flightllm_read(fdev, FLM_REG_CHUNK);
	card->clock_khz = flightllm_read(fdev, FLM_REG_CLOCK_KHZ);
	card->macs = flightllm_read(fdev, FLM_REG_MACS);
	card->widths = flightllm_read(fdev, FLM_REG_WIDTHS);
	card->cache_bytes = flightllm_read(fdev, FLM_REG_CACHE);
	value = flightllm_read(fdev, FLM_REG_SLOTS_LOG2);
	card->slots_log2_min = FLM_REG_GET(value, SLOTS_LOG2, MIN);
	card->slots_log2_max = FLM_REG_GET(value, SLOTS_LOG2, MAX);

	if (!card->cores || card->cores > FLM_CORES || card->queues < 2 || card->queues > 4096 ||
	    !card->segments || card->segments > FLM_SEGMENTS || !card->vectors)
		return dev_err_probe(dev, -EPROTO,
				     "impossible card: %u cores, %u queues, %u segments, %u vectors\n",
				     card->cores, card->queues, card->segments, card->vectors);
	if (card->slots_log2_min > FLIGHTLLM_SLOTS_LOG2 ||
	    card->slots_log2_max < FLIGHTLLM_SLOTS_LOG2)
		return dev_err_probe(dev, -EPROTO,
				     "rings have 2^%u to 2^%u slots, the driver uses 2^%u\n",
				     card->slots_log2_min, card->slots_log2_max,
				     FLIGHTLLM_SLOTS_LOG2);
	if (pci_resource_len(fdev->pdev, FLM_BAR_DOORBELLS) / FLM_DOORBELL_BYTES < card->queues)
		return dev_err_probe(dev, -EPROTO, "BAR4 is too small for %u queues\n",
				     card->queues);
	return 0;
}

static int add_region(struct flightllm_device *fdev, u32 id, u64 *first_page)
{
	struct flightllm_region *region = &fdev->region[fdev->region_count];

	INIT_LIST_HEAD(&region->bos);
	region->id = id;
	if (id == FLM_REGION_HOST) {
		strscpy(region->name, "host");
		region->block = FLM_HOST_BLOCK;
		region->bytes = (u64)totalram_pages() / 2 << PAGE_SHIFT;
		region->visible = region->bytes;
		fdev->region_count++;
		return 0;
	}

	flightllm_write(fdev, FLM_REG_REGION_SELECT, id);
	region->bytes = flightllm_read64(fdev, FLM_REG_REGION_SIZE);
	if (!region->bytes)
		return 0;
	region->block = flightllm_read(fdev, FLM_REG_REGION_BLOCK);
	region->visible = flightllm_read64(fdev, FLM_REG_REGION_VISIBLE);
	region->window = flightllm_read64(fdev, FLM_REG_REGION_BAR2);
	region->channels = flightllm_read(fdev, FLM_REG_REGION_CHANNELS);
	region->mbps = flightllm_read(fdev, FLM_REG_REGION_MBPS);
	if (id == FLM_REGION_DDR)
		strscpy(region->name, "ddr");
	else
		snprintf(region->name, sizeof(region->name), "hbm%u", id);
	if (region->block < PAGE_SIZE || !is_power_of_2(region->block) ||
	    region->bytes % region->block || region->bytes >> 48 ||
	    region->visible > region->bytes ||
	    region->window > pci_resource_len(fdev->pdev, FLM_BAR_MEMORY) ||
	    region->visible > pci_resource_len(fdev->pdev, FLM_BAR_MEMORY) - region->window)
		return dev_err_probe(fdev->drm.dev, -EPROTO,
				     "%s: impossible size: %llu bytes, block %u, %llu visible\n",
				     region->name, region->bytes, region->block, region->visible);
	region->first_page = *first_page;
	*first_page += region->bytes >> PAGE_SHIFT;
	fdev->region_count++;
	return 0;
}

static int read_regions(struct flightllm_device *fdev)
{
	u64 first_page = 0;
	u32 id;
	int ret;

	for (id = 0; id < FLM_REGIONS; id++) {
		if (id == FLM_REGION_PEER || (id >= fdev->card.cores && id < FLM_REGION_DDR))
			continue;
		ret = add_region(fdev, id, &first_page);
		if (ret)
			return ret;
	}
	return 0;
}

static void destroy_workqueue_action(struct drm_device *drm, void *wq)
{
	destroy_workqueue(wq);
}

static int init_software(struct flightllm_device *fdev)
{
	struct drm_device *drm = &fdev->drm;
	int ret;

	INIT_LIST_HEAD(&fdev->mems);
	init_waitqueue_head(&fdev->row_free);
	fdev->epoch = 1;
	ret = drmm_mutex_init(drm, &fdev->mems_lock);
	if (!ret)
		ret = drmm_mutex_init(drm, &fdev->bos_lock);
	if (!ret)
		ret = drmm_mutex_init(drm, &fdev->select_lock);
	if (!ret)
		ret = drmm_mutex_init(drm, &fdev->queues_lock);
	if (ret)
		return ret;

	fdev->submit_wq = alloc_workqueue("flightllm-submit", WQ_MEM_RECLAIM | WQ_UNBOUND, 0);
	if (!fdev->submit_wq)
		return -ENOMEM;
	ret = drmm_add_action_or_reset(drm, destroy_workqueue_action, fdev->submit_wq);
	if (ret)
		return ret;
	fdev->reset_wq = alloc_ordered_workqueue("flightllm-reset", WQ_MEM_RECLAIM);
	if (!fdev->reset_wq)
		return -ENOMEM;
	return drmm_add_action_or_reset(drm, destroy_workqueue_action, fdev->reset_wq);
}

int flightllm_device_init(struct flightllm_device *fdev)
{
	struct pci_dev *pdev = fdev->pdev;
	int ret;

	ret = init_software(fdev);
	if (ret)
		return ret;
	flightllm_reset_init(fdev);

	ret = pcim_enable_device(pdev);
	if (ret)
		return dev_err_probe(&pdev->dev, ret, "cannot enable the card\n");
	/* Bits 63:60 of a block entry name the region. */
	ret = dma_set_mask_and_coherent(&pdev->dev, DMA_BIT_MASK(FLM_BLOCK_REGION_SHIFT));
	if (ret)
		return dev_err_probe(&pdev->dev, ret, "cannot use a DMA mask of %d bits\n",
				     FLM_BLOCK_REGION_SHIFT);
	dma_set_max_seg_size(&pdev->dev, UINT_MAX);
	ret = map_bars(fdev);
	if (!ret)
		ret = check_versions(fdev);
	if (ret)
		return ret;
	ret = flightllm_device_reset(fdev);
	if (ret)
		return ret;
	fdev->resets_seen = flightllm_read(fdev, FLM_REG_RESETS);
	ret = read_identity(fdev);
	if (!ret)
		ret = read_regions(fdev);
	if (ret)
		return ret;

	fdev->queue = drmm_kcalloc(&fdev->drm, fdev->card.queues, sizeof(*fdev->queue),
				   GFP_KERNEL);
	if (!fdev->queue)
		return -ENOMEM;
	return flightllm_gem_init(fdev);
}

/* Vector 0 tells of events; a card with one vector only has none, the watch finds them then. */
static irqreturn_t event_irq(int irq, void *data)
{
	struct flightllm_vector *vector = data;

	queue_work(vector->fdev->reset_wq, &vector->fdev->event_work);
	return IRQ_HANDLED;
}

static void free_vectors(struct flightllm_device *fdev)
{
	while (fdev->vectors) {
		fdev->vectors--;
		free_irq(fdev->vector[fdev->vectors].irq, &fdev->vector[fdev->vectors]);
	}
	pci_free_irq_vectors(fdev->pdev);
}

static int init_vectors(struct flightllm_device *fdev)
{
	int count, i, ret;

	count = pci_alloc_irq_vectors(fdev->pdev, 1, min(fdev->card.vectors, FLIGHTLLM_VECTORS),
				      PCI_IRQ_MSIX);
	if (count < 0) {
		drm_err(&fdev->drm, "cannot allocate an MSI-X vector: %pe\n", ERR_PTR(count));
		return count;
	}
	for (i = 0; i < count; i++) {
		struct flightllm_vector *vector = &fdev->vector[i];

		vector->fdev = fdev;
		spin_lock_init(&vector->lock);
		INIT_LIST_HEAD(&vector->queues);
		vector->irq = pci_irq_vector(fdev->pdev, i);
		ret = request_irq(vector->irq, i || count == 1 ? flightllm_queue_irq : event_irq,
				  0, "flightllm", vector);
		if (ret) {
			drm_err(&fdev->drm, "cannot request interrupt %d: %pe\n", i, ERR_PTR(ret));
			free_vectors(fdev);
			return ret;
		}
		fdev->vectors++;
	}
	return 0;
}

int flightllm_device_start(struct flightllm_device *fdev)
{
	struct flightllm_context *context;
	int ret;

	pci_set_master(fdev->pdev);
	ret = init_vectors(fdev);
	if (ret)
		return ret;
	if (fdev->vectors > 1)
		flightllm_write(fdev, FLM_REG_EVENT_ENABLE, ~0u);

	context = flightllm_context_new_kernel(fdev);
	if (IS_ERR(context)) {
		ret = PTR_ERR(context);
		goto out_free_vectors;
	}
	fdev->kernel_context = context;
	ret = flightllm_queue_new(context, 0, FLM_QUEUE_COPY, FLM_QUEUE_PRIORITIES - 1, 0, 0,
				  &fdev->kernel_queue);
	if (ret)
		goto out_put_context;
	flightllm_reset_go(fdev);
	return 0;

out_put_context:
	flightllm_context_close(context);
	flightllm_context_put(context);
	fdev->kernel_context = NULL;
out_free_vectors:
	flightllm_write(fdev, FLM_REG_EVENT_ENABLE, 0);
	free_vectors(fdev);
	flightllm_reset_fini(fdev);
	return ret;
}

void flightllm_device_stop(struct flightllm_device *fdev)
{
	/* Files may still be open: their queues end here, and are freed when the file closes. */
	mutex_lock(&fdev->queues_lock);
	flightllm_reset_lose_everything(fdev, true);
	WRITE_ONCE(fdev->stopped, true);
	mutex_unlock(&fdev->queues_lock);
	flightllm_reset_fini(fdev);

	flightllm_queue_close(fdev->kernel_queue);
	flightllm_context_close(fdev->kernel_context);
	flightllm_context_put(fdev->kernel_context);
	/* They hold no reference of the module: a driver that is bound cannot be unloaded. */
	wait_var_event(&fdev->kernel_queues, !atomic_read(&fdev->kernel_queues));

	flightllm_write(fdev, FLM_REG_EVENT_ENABLE, 0);
	pci_clear_master(fdev->pdev);
	free_vectors(fdev);

	flightllm_gem_stop(fdev);
	free_all_mems(fdev);
}
