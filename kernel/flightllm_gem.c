// SPDX-License-Identifier: GPL-2.0
/*
 * Buffers. All card memory is one range of pages to TTM, region behind region, and a buffer's
 * placement is the part of it that is its region; host buffers are TTM's own pages, mapped for
 * DMA. Every buffer is pinned where it was made, so its address never changes; what keeps it is a
 * handle, a segment table or a mapping.
 */
#include <linux/delay.h>
#include <linux/dma-resv.h>

#include <drm/drm_gem.h>
#include <drm/drm_managed.h>
#include <drm/drm_vma_manager.h>
#include <drm/ttm/ttm_placement.h>
#include <drm/ttm/ttm_range_manager.h>
#include <drm/ttm/ttm_tt.h>

#include "flightllm_compat.h"
#include "flightllm_job.h"

static struct flightllm_bo *ttm_to_bo(struct ttm_buffer_object *ttm)
{
	return container_of(ttm, struct flightllm_bo, ttm);
}

static struct flightllm_device *ttm_to_fdev(struct ttm_device *ttm)
{
	return container_of(ttm, struct flightllm_device, ttm);
}

static struct ttm_tt *tt_create(struct ttm_buffer_object *bo, u32 page_flags)
{
	struct ttm_tt *tt = kzalloc(sizeof(*tt), GFP_KERNEL);

	if (!tt)
		return NULL;
	/* The form with DMA addresses: populating maps every page. */
	if (ttm_sg_tt_init(tt, bo, page_flags, ttm_cached)) {
		kfree(tt);
		return NULL;
	}
	return tt;
}

static void tt_destroy(struct ttm_device *ttm, struct ttm_tt *tt)
{
	ttm_tt_fini(tt);
	kfree(tt);
}

/* Moves nothing out to make room, and may wait for buffers that are being freed. */
static bool eviction_valuable(struct ttm_buffer_object *bo, const struct ttm_place *place)
{
	return bo->deleted && ttm_bo_eviction_valuable(bo, place);
}

static void evict_flags(struct ttm_buffer_object *bo, struct ttm_placement *placement)
{
	placement->num_placement = 0;
}

static int move(struct ttm_buffer_object *bo, bool evict, struct ttm_operation_ctx *ctx,
		struct ttm_resource *res, struct ttm_place *hop)
{
	if (bo->resource)
		return -EINVAL;
	ttm_bo_move_null(bo, res);
	return 0;
}

static int io_mem_reserve(struct ttm_device *ttm, struct ttm_resource *res)
{
	struct flightllm_device *fdev = ttm_to_fdev(ttm);
	u64 start = (u64)res->start << PAGE_SHIFT, bytes = res->size;
	unsigned int i;

	if (res->mem_type != TTM_PL_VRAM)
		return 0;
	for (i = 0; i < fdev->region_count; i++) {
		struct flightllm_region *region = &fdev->region[i];
		u64 offset = start - (region->first_page << PAGE_SHIFT);

		if (region->id == FLM_REGION_HOST || offset >= region->bytes)
			continue;
		if (offset + bytes > region->visible)
			return -ENXIO;
		res->bus.offset = fdev->window + region->window + offset;
		res->bus.is_iomem = true;
		res->bus.caching = ttm_write_combined;
		return 0;
	}
	return -ENXIO;
}

static struct ttm_device_funcs ttm_funcs = {
	.ttm_tt_create = tt_create,
	.ttm_tt_destroy = tt_destroy,
	.eviction_valuable = eviction_valuable,
	.evict_flags = evict_flags,
	.move = move,
	.io_mem_reserve = io_mem_reserve,
};

static void ttm_fini_action(struct drm_device *drm, void *data)
{
	struct flightllm_device *fdev = data;

	/* The last buffers may be on their way out still. */
	flush_workqueue(fdev->ttm.wq);
	ttm_range_man_fini(&fdev->ttm, TTM_PL_VRAM);
	ttm_range_man_fini(&fdev->ttm, TTM_PL_TT);
	ttm_device_fini(&fdev->ttm);
}

int flightllm_gem_init(struct flightllm_device *fdev)
{
	struct flightllm_region *host = &fdev->region[fdev->region_count - 1];
	u64 pages = 0;
	unsigned int i;
	int ret;

	for (i = 0; i < fdev->region_count - 1; i++)
		pages += fdev->region[i].bytes >> PAGE_SHIFT;
	ret = flightllm_ttm_device_init(&fdev->ttm, &ttm_funcs, fdev->drm.dev,
					fdev->drm.anon_inode->i_mapping,
					fdev->drm.vma_offset_manager);
	if (ret)
		return ret;
	ret = ttm_range_man_init(&fdev->ttm, TTM_PL_TT, true, host->bytes >> PAGE_SHIFT);
	if (ret)
		goto out_fini_ttm;
	ret = ttm_range_man_init(&fdev->ttm, TTM_PL_VRAM, false, pages);
	if (ret)
		goto out_fini_host;
	return drmm_add_action_or_reset(&fdev->drm, ttm_fini_action, fdev);

out_fini_host:
	ttm_range_man_fini(&fdev->ttm, TTM_PL_TT);
out_fini_ttm:
	ttm_device_fini(&fdev->ttm);
	return ret;
}

static void bo_free_object(struct drm_gem_object *gem)
{
	struct flightllm_bo *bo = to_flightllm_bo(gem);

	if (bo->ttm.pin_count) {
		dma_resv_lock(gem->resv, NULL);
		ttm_bo_unpin(&bo->ttm);
		dma_resv_unlock(gem->resv);
	}
	flightllm_ttm_bo_free(&bo->ttm);
}

/* TTM's own fault handler, and a page of zeros once the card has been left. */
static vm_fault_t bo_fault(struct vm_fault *vmf)
{
	struct ttm_buffer_object *bo = vmf->vma->vm_private_data;
	vm_fault_t ret;
	int idx;

	ret = ttm_bo_vm_reserve(bo, vmf);
	if (ret)
		return ret;
	if (drm_dev_enter(bo->base.dev, &idx)) {
		ret = ttm_bo_vm_fault_reserved(vmf, vmf->vma->vm_page_prot,
					       TTM_BO_VM_NUM_PREFAULT);
		drm_dev_exit(idx);
	} else {
		ret = ttm_bo_vm_dummy_page(vmf, vmf->vma->vm_page_prot);
	}
	if (ret == VM_FAULT_RETRY && !(vmf->flags & FAULT_FLAG_RETRY_NOWAIT))
		return ret;
	dma_resv_unlock(bo->base.resv);
	return ret;
}

/* ptrace() and /proc/PID/mem. */
static int bo_access(struct vm_area_struct *vma, unsigned long address, void *data, int bytes,
		     int write)
{
	struct ttm_buffer_object *bo = vma->vm_private_data;
	int ret = -EIO, idx;

	if (drm_dev_enter(bo->base.dev, &idx)) {
		ret = ttm_bo_vm_access(vma, address, data, bytes, write);
		drm_dev_exit(idx);
	}
	return ret;
}

/*
 * A mapping keeps the GEM object, not TTM's alone as drm_gem_ttm_mmap() has it: with the object
 * goes the pin, and the place of what is still seen must not be given to anybody.
 */
static int bo_mmap(struct drm_gem_object *gem, struct vm_area_struct *vma)
{
	return ttm_bo_mmap_obj(vma, &to_flightllm_bo(gem)->ttm);
}

static void bo_vm_open(struct vm_area_struct *vma)
{
	struct ttm_buffer_object *bo = vma->vm_private_data;

	drm_gem_object_get(&bo->base);
	ttm_bo_vm_open(vma);
}

static void bo_vm_close(struct vm_area_struct *vma)
{
	struct ttm_buffer_object *bo = vma->vm_private_data;

	ttm_bo_vm_close(vma);
	drm_gem_object_put(&bo->base);
}

static const struct vm_operations_struct bo_vm_ops = {
	.fault = bo_fault,
	.open = bo_vm_open,
	.close = bo_vm_close,
	.access = bo_access,
};

static const struct drm_gem_object_funcs bo_funcs = {
	.free = bo_free_object,
	.mmap = bo_mmap,
	.vm_ops = &bo_vm_ops,
};

/* TTM has let go of it: no fence is pending, the pages are free. */
static void bo_destroy(struct ttm_buffer_object *ttm)
{
	struct flightllm_bo *bo = ttm_to_bo(ttm);
	struct flightllm_device *fdev = ttm_to_fdev(ttm->bdev);

	if (!list_empty(&bo->link)) {
		mutex_lock(&fdev->bos_lock);
		list_del(&bo->link);
		bo->region->used -= ttm->base.size;
		mutex_unlock(&fdev->bos_lock);
	}
	flightllm_mem_free(fdev, bo->blocks);
	drm_gem_object_release(&ttm->base);
	kfree(bo);
}

struct flightllm_bo *flightllm_bo_lookup(struct drm_file *file, u32 handle)
{
	struct drm_gem_object *gem = drm_gem_object_lookup(file, handle);

	return gem ? to_flightllm_bo(gem) : NULL;
}

void flightllm_bo_put(struct flightllm_bo *bo)
{
	drm_gem_object_put(&bo->ttm.base);
}

/* The pages go back and with them what the card could reach; the object stays. */
static void bo_leave(struct flightllm_bo *bo)
{
	struct ttm_operation_ctx ctx = { 0 };
	struct ttm_placement nowhere = { 0 };

	dma_resv_lock(bo->ttm.base.resv, NULL);
	ttm_bo_unpin(&bo->ttm);
	ttm_bo_validate(&bo->ttm, &nowhere, &ctx);
	dma_resv_unlock(bo->ttm.base.resv);
}

/*
 * ttm_device_clear_dma_mappings() would do, but spins under a lock that the release of a buffer
 * needs. No buffer is made any more, and every fence has signalled.
 */
void flightllm_gem_stop(struct flightllm_device *fdev)
{
	struct flightllm_region *host = &fdev->region[fdev->region_count - 1];
	struct flightllm_bo *bo;
	LIST_HEAD(left);

	mutex_lock(&fdev->bos_lock);
	while (!list_empty(&host->bos)) {
		bo = list_first_entry(&host->bos, struct flightllm_bo, link);
		if (kref_get_unless_zero(&bo->ttm.base.refcount)) {
			list_move(&bo->link, &left);
			mutex_unlock(&fdev->bos_lock);
			bo_leave(bo);
			flightllm_bo_put(bo);
		} else {
			/* Somebody is giving it back; then it leaves the list. */
			list_move_tail(&bo->link, &host->bos);
			mutex_unlock(&fdev->bos_lock);
			fsleep(100);
		}
		mutex_lock(&fdev->bos_lock);
	}
	list_splice(&left, &host->bos);
	mutex_unlock(&fdev->bos_lock);
}

void flightllm_region_free(struct flightllm_device *fdev, struct flightllm_region *region,
			   u64 *free, u64 *largest)
{
	struct flightllm_bo *bo;
	u64 end = 0;

	mutex_lock(&fdev->bos_lock);
	*free = region->bytes - min(region->used, region->bytes);
	*largest = 0;
	if (region->id == FLM_REGION_HOST) {
		*largest = min(*free, FLIGHTLLM_HOST_BO_MAX);
	} else {
		list_for_each_entry(bo, &region->bos, link) {
			*largest = max(*largest, bo->address - end);
			end = bo->address + flightllm_bo_bytes(bo);
		}
		*largest = max(*largest, region->bytes - end);
	}
	mutex_unlock(&fdev->bos_lock);
}

/* Into its region's list, by address. */
static void bo_enlist(struct flightllm_device *fdev, struct flightllm_bo *bo)
{
	struct flightllm_region *region = bo->region;
	struct list_head *before = &region->bos;
	struct flightllm_bo *other;

	mutex_lock(&fdev->bos_lock);
	if (region->id != FLM_REGION_HOST) {
		list_for_each_entry(other, &region->bos, link) {
			if (other->address > bo->address) {
				before = &other->link;
				break;
			}
		}
	}
	list_add_tail(&bo->link, before);
	region->used += flightllm_bo_bytes(bo);
	mutex_unlock(&fdev->bos_lock);
}

/* Finds out where the bytes are, for segment tables. */
static int bo_resolve(struct flightllm_device *fdev, struct flightllm_bo *bo)
{
	struct ttm_tt *tt = bo->ttm.ttm;
	u32 pages = flightllm_bo_bytes(bo) >> PAGE_SHIFT, i;
	u32 blocks = flightllm_bo_bytes(bo) / FLM_HOST_BLOCK;
	u64 offset, address;
	__le64 *block;

	if (bo->region->id != FLM_REGION_HOST) {
		bo->contiguous = true;
		bo->address = (bo->ttm.resource->start - bo->region->first_page) << PAGE_SHIFT;
		return 0;
	}
	bo->address = tt->dma_address[0];
	bo->contiguous = true;
	for (i = 1; i < pages && bo->contiguous; i++)
		bo->contiguous = tt->dma_address[i] == bo->address + ((u64)i << PAGE_SHIFT);
	if (bo->contiguous)
		return 0;
	bo->blocks = flightllm_mem_new(fdev, (size_t)blocks * sizeof(*block));
	if (!bo->blocks)
		return -ENOMEM;
	block = bo->blocks->cpu;
	for (i = 0; i < blocks; i++) {
		offset = (u64)i * FLM_HOST_BLOCK;
		address = tt->dma_address[offset >> PAGE_SHIFT] + offset_in_page(offset);
		block[i] = cpu_to_le64((u64)FLM_REGION_HOST << FLM_BLOCK_REGION_SHIFT |
				       (address & FLM_BLOCK_ADDRESS_MASK));
	}
	return 0;
}

void flightllm_bo_row(struct flightllm_bo *bo, u64 offset, u64 length, u32 rights,
		      struct flm_segment_row *row)
{
	u32 shift = ilog2(bo->region->block);
	u64 address;

	memset(row, 0, sizeof(*row));
	row->length = cpu_to_le64(length);
	row->rights = rights;
	if (bo->contiguous) {
		address = (bo->address + offset) & FLM_BLOCK_ADDRESS_MASK;
		row->blocks = cpu_to_le64((u64)bo->region->id << FLM_BLOCK_REGION_SHIFT | address);
		row->count = cpu_to_le32(1);
		row->flags = FLM_SEGMENT_CONTIGUOUS;
	} else {
		row->blocks = cpu_to_le64(bo->blocks->bus + (offset >> shift) * sizeof(__le64));
		row->count = cpu_to_le32((length + bo->region->block - 1) >> shift);
		row->block_log2 = shift;
	}
}

/* Nobody may see it before this. The fence also keeps the pages if the caller gives up. */
static int bo_clear(struct flightllm_device *fdev, struct flightllm_bo *bo,
		    struct dma_fence **fence)
{
	int ret;

	if (bo->region->id == FLM_REGION_HOST)
		return 0;	/* TTM's pages come cleared */
	ret = dma_resv_reserve_fences(bo->ttm.base.resv, 1);
	if (ret)
		return ret;
	ret = flightllm_job_clear(fdev, bo->region->id, bo->address, flightllm_bo_bytes(bo),
				  fence);
	if (ret)
		return ret;
	dma_resv_add_fence(bo->ttm.base.resv, *fence, DMA_RESV_USAGE_KERNEL);
	return 0;
}

static bool region_is_full(struct flightllm_device *fdev, struct flightllm_region *region,
			   u64 bytes)
{
	u64 free, largest;

	if (region->id != FLM_REGION_HOST)
		return true;	/* card memory costs the host next to nothing */
	flightllm_region_free(fdev, region, &free, &largest);
	return free < bytes;
}

static struct flightllm_bo *bo_new(struct flightllm_device *fdev, struct flightllm_region *region,
				   const struct drm_flightllm_bo_create *args, u64 bytes,
				   struct dma_fence **fence)
{
	struct ttm_operation_ctx ctx = { .interruptible = true };
	struct ttm_place place = { 0 };
	struct ttm_placement placement = { .num_placement = 1, .placement = &place };
	struct flightllm_bo *bo;
	int ret;

	if (region->id == FLM_REGION_HOST) {
		place.mem_type = TTM_PL_TT;
	} else {
		u64 reach = args->flags & DRM_FLIGHTLLM_BO_VISIBLE ? region->visible :
								      region->bytes;

		if (bytes > reach)
			return ERR_PTR(-ENOSPC);	/* a last page of 0 means none to TTM */
		place.mem_type = TTM_PL_VRAM;
		place.fpfn = region->first_page;
		place.lpfn = region->first_page + (reach >> PAGE_SHIFT);
		/* Buffers that the CPU need not map leave the window to those that it must. */
		if (!(args->flags & DRM_FLIGHTLLM_BO_VISIBLE))
			place.flags = TTM_PL_FLAG_TOPDOWN;
	}

	bo = kzalloc(sizeof(*bo), GFP_KERNEL);
	if (!bo)
		return ERR_PTR(-ENOMEM);
	INIT_LIST_HEAD(&bo->link);
	bo->region = region;
	bo->placement = args->placement;
	bo->core = args->core;
	bo->flags = args->flags;
	bo->ttm.base.funcs = &bo_funcs;
	drm_gem_private_object_init(&fdev->drm, &bo->ttm.base, bytes);

	/* On failure bo_destroy() has been called. On success it is reserved. */
	ret = ttm_bo_init_reserved(&fdev->ttm, &bo->ttm, ttm_bo_type_device, &placement,
				   region->block >> PAGE_SHIFT, &ctx, NULL, NULL, bo_destroy);
	if (ret == -ENOMEM && region_is_full(fdev, region, bytes))
		ret = -ENOSPC;	/* TTM has one word for both */
	if (ret)
		return ERR_PTR(ret);
	ttm_bo_pin(&bo->ttm);
	ret = bo_resolve(fdev, bo);
	if (!ret) {
		bo_enlist(fdev, bo);
		ret = bo_clear(fdev, bo, fence);
	}
	ttm_bo_unreserve(&bo->ttm);
	if (ret) {
		flightllm_bo_put(bo);
		return ERR_PTR(ret);
	}
	return bo;
}

static struct flightllm_region *find_region(struct flightllm_device *fdev, u32 placement, u32 core)
{
	u32 id = placement == DRM_FLIGHTLLM_BO_HBM ? FLM_REGION_HBM + core :
		 placement == DRM_FLIGHTLLM_BO_DDR ? FLM_REGION_DDR : FLM_REGION_HOST;
	unsigned int i;

	for (i = 0; i < fdev->region_count; i++)
		if (fdev->region[i].id == id)
			return &fdev->region[i];
	return NULL;
}

static int bo_create_check(struct flightllm_device *fdev,
			   const struct drm_flightllm_bo_create *args)
{
	const u32 known = DRM_FLIGHTLLM_BO_VISIBLE | DRM_FLIGHTLLM_BO_USERPTR;

	if (!args->size || args->flags & ~known || args->reserved[0] || args->reserved[1])
		return -EINVAL;
	if (args->flags & DRM_FLIGHTLLM_BO_USERPTR)
		return -EOPNOTSUPP;
	if (args->user_address)
		return -EINVAL;
	switch (args->placement) {
	case DRM_FLIGHTLLM_BO_HBM:
		return args->core < fdev->card.cores ? 0 : -EINVAL;
	case DRM_FLIGHTLLM_BO_DDR:
	case DRM_FLIGHTLLM_BO_HOST:
		return args->core ? -EINVAL : 0;
	}
	return -EINVAL;
}

/* The client's error for a buffer that could not be cleared. */
static int clear_error(struct flightllm_device *fdev, int ret)
{
	if (ret != -ECANCELED)
		return ret;
	if (drm_dev_is_unplugged(&fdev->drm))
		return -ENODEV;
	return READ_ONCE(fdev->failed) ? -EIO : -EBUSY;
}

int flightllm_bo_create_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct flightllm_device *fdev = to_flightllm_device(drm);
	struct drm_flightllm_bo_create *args = data;
	struct dma_fence *fence = NULL;
	struct flightllm_region *region;
	struct flightllm_bo *bo;
	u64 bytes, limit;
	int ret, idx;

	args->handle = 0;
	args->total = 0;
	args->free = 0;
	args->largest = 0;
	ret = bo_create_check(fdev, args);
	if (ret)
		return ret;
	if (READ_ONCE(fdev->failed))
		return -EIO;
	region = find_region(fdev, args->placement, args->core);
	if (!region)
		return -EINVAL;
	limit = region->id == FLM_REGION_HOST ? min(region->bytes, FLIGHTLLM_HOST_BO_MAX) :
						region->bytes;
	if (args->size > limit)
		return -E2BIG;
	/* The host's pages are blocks, or several of them. */
	bytes = round_up(args->size, max_t(u64, region->block, PAGE_SIZE));

	if (!drm_dev_enter(drm, &idx))
		return -ENODEV;
	bo = bo_new(fdev, region, args, bytes, &fence);
	drm_dev_exit(idx);
	if (IS_ERR(bo)) {
		ret = clear_error(fdev, PTR_ERR(bo));
		if (ret == -ENOSPC) {
			args->total = region->bytes;
			flightllm_region_free(fdev, region, &args->free, &args->largest);
		}
		return ret;
	}

	if (fence) {
		ret = dma_fence_wait(fence, true);
		if (!ret && dma_fence_get_status(fence) < 0)
			ret = clear_error(fdev, dma_fence_get_status(fence));
		dma_fence_put(fence);
	}
	if (!ret)
		ret = drm_gem_handle_create(file, &bo->ttm.base, &args->handle);
	flightllm_bo_put(bo);	/* the handle has its own */
	if (!ret)
		args->size = bytes;
	return ret;
}

static bool bo_is_visible(const struct flightllm_bo *bo)
{
	return bo->region->id == FLM_REGION_HOST ||
	       bo->address + flightllm_bo_bytes(bo) <= bo->region->visible;
}

int flightllm_bo_mmap_offset_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_flightllm_bo_mmap_offset *args = data;
	struct flightllm_bo *bo;
	int ret = 0;

	if (args->flags)
		return -EINVAL;
	bo = flightllm_bo_lookup(file, args->handle);
	if (!bo)
		return -ENOENT;
	if (bo_is_visible(bo))
		args->offset = drm_vma_node_offset_addr(&bo->ttm.base.vma_node);
	else
		ret = -ENXIO;
	flightllm_bo_put(bo);
	return ret;
}

int flightllm_bo_info_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_flightllm_bo_info *args = data;
	struct flightllm_bo *bo;

	if (args->pad)
		return -EINVAL;
	bo = flightllm_bo_lookup(file, args->handle);
	if (!bo)
		return -ENOENT;
	args->size = flightllm_bo_bytes(bo);
	args->placement = bo->placement;
	args->core = bo->core;
	args->flags = bo->flags;
	args->resident = 1;
	args->visible = bo_is_visible(bo);
	args->pad2 = 0;
	memset(args->reserved, 0, sizeof(args->reserved));
	flightllm_bo_put(bo);
	return 0;
}
