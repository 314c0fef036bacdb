/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Buffers: GEM objects on TTM, in HBM, DDR or host memory, and their rows in segment tables. A
 * buffer is pinned where it was made, and is zero before it has a handle.
 */
#ifndef FLIGHTLLM_GEM_H
#define FLIGHTLLM_GEM_H

#include <drm/ttm/ttm_bo.h>

#include "flightllm_device.h"

struct flightllm_bo {
	struct ttm_buffer_object ttm;
	struct flightllm_region *region;
	u32 placement;			/* enum drm_flightllm_placement */
	u32 core;
	u32 flags;
	u64 address;			/* in its region; host: bus address, if contiguous */
	bool contiguous;
	struct flightllm_mem *blocks;	/* __le64 block entries, unless contiguous */
	struct list_head link;		/* region->bos */
};

static inline struct flightllm_bo *to_flightllm_bo(struct drm_gem_object *gem)
{
	return container_of(gem, struct flightllm_bo, ttm.base);
}

static inline u64 flightllm_bo_bytes(const struct flightllm_bo *bo)
{
	return bo->ttm.base.size;
}

int flightllm_gem_init(struct flightllm_device *fdev);	/* managed */

/* After drm_dev_unplug(), when every fence has signalled: unmaps all pages from the card. */
void flightllm_gem_stop(struct flightllm_device *fdev);

/* Takes a reference; NULL if the handle is unknown. */
struct flightllm_bo *flightllm_bo_lookup(struct drm_file *file, u32 handle);
void flightllm_bo_put(struct flightllm_bo *bo);

/* Fills the row of a segment table for bytes [offset, offset + length) of the buffer. */
void flightllm_bo_row(struct flightllm_bo *bo, u64 offset, u64 length, u32 rights,
		      struct flm_segment_row *row);

/* Free bytes of a region, and the longest piece of them. */
void flightllm_region_free(struct flightllm_device *fdev, struct flightllm_region *region,
			   u64 *free, u64 *largest);

int flightllm_bo_create_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int flightllm_bo_mmap_offset_ioctl(struct drm_device *drm, void *data, struct drm_file *file);
int flightllm_bo_info_ioctl(struct drm_device *drm, void *data, struct drm_file *file);

#endif
