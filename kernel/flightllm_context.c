// SPDX-License-Identifier: GPL-2.0
/*
 * Contexts and their segment tables. SEGMENT_BIND never changes a table: it writes a new one
 * beside the old, enters it in the context page as the next generation, and makes it current for
 * the jobs to come. A job's reference keeps its generation, and that keeps its buffers.
 */
#include <linux/math64.h>
#include <linux/mm.h>
#include <linux/overflow.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include "flightllm_queue.h"

#define BINDINGS_MAX	4096

static struct flm_generation *generation_row(struct flightllm_context *context, u32 generation)
{
	struct flm_generation *page = context->page->cpu;

	return &page[generation % FLM_GENERATIONS];
}

static void context_release(struct kref *kref)
{
	struct flightllm_context *context = container_of(kref, struct flightllm_context, kref);

	flightllm_mem_free(context->fdev, context->page);
	atomic_dec(&context->fdev->live_contexts);
	mutex_destroy(&context->lock);
	kfree(context);
}

void flightllm_context_put(struct flightllm_context *context)
{
	kref_put(&context->kref, context_release);
}

static void tables_free(struct flightllm_tables *tables)
{
	struct flightllm_context *context = tables->context;
	u32 count = tables->segments * context->fdev->card.cores, i;

	for (i = 0; i < count; i++)
		if (tables->binding[i].bo)
			flightllm_bo_put(tables->binding[i].bo);
	flightllm_mem_free(context->fdev, tables->mem);
	kvfree(tables);
	flightllm_context_put(context);
}

static void tables_release(struct kref *kref)
{
	struct flightllm_tables *tables = container_of(kref, struct flightllm_tables, kref);
	struct flightllm_context *context = tables->context;
	int idx;

	/* No slot names it any more, so the card does not look: the row can go, then the memory. */
	if (drm_dev_enter(&context->fdev->drm, &idx)) {
		WRITE_ONCE(generation_row(context, tables->generation)->generation, 0);
		drm_dev_exit(idx);
	}
	clear_bit_unlock(tables->generation % FLM_GENERATIONS, context->live);
	wake_up_all(&context->fdev->row_free);
	tables_free(tables);
}

void flightllm_tables_put(struct flightllm_tables *tables)
{
	kref_put(&tables->kref, tables_release);
}

struct flightllm_tables *flightllm_tables_get_current(struct flightllm_context *context)
{
	struct flightllm_tables *tables;

	spin_lock(&context->tables_lock);
	tables = context->tables;
	if (tables)
		kref_get(&tables->kref);
	spin_unlock(&context->tables_lock);
	return tables;
}

/* Empty tables of this context, not yet entered anywhere. */
static struct flightllm_tables *tables_new(struct flightllm_context *context, u32 segments)
{
	struct flightllm_device *fdev = context->fdev;
	u32 count = segments * fdev->card.cores;
	struct flightllm_tables *tables;

	tables = kvzalloc(struct_size(tables, binding, count), GFP_KERNEL);
	if (!tables)
		return NULL;
	tables->mem = flightllm_mem_new(fdev, count * sizeof(struct flm_segment_row));
	if (!tables->mem) {
		kvfree(tables);
		return NULL;
	}
	kref_init(&tables->kref);
	kref_get(&context->kref);
	tables->context = context;
	tables->segments = segments;
	return tables;
}

/* Makes finished tables the context's current generation. Its row must be free. */
static void tables_enter(struct flightllm_context *context, struct flightllm_tables *tables,
			 u32 generation)
{
	struct flm_generation *row = generation_row(context, generation);
	struct flightllm_tables *old;

	tables->generation = generation;
	set_bit(generation % FLM_GENERATIONS, context->live);
	row->tables = cpu_to_le64(tables->mem->bus);
	row->segments = cpu_to_le32(tables->segments);
	dma_wmb();	/* the card believes the row once it sees the number */
	WRITE_ONCE(row->generation, cpu_to_le32(generation));

	spin_lock(&context->tables_lock);
	old = context->tables;
	context->tables = tables;
	spin_unlock(&context->tables_lock);
	if (old)
		flightllm_tables_put(old);
}

struct flightllm_context *flightllm_context_new(struct flightllm_device *fdev)
{
	struct flightllm_context *context = kzalloc(sizeof(*context), GFP_KERNEL);
	struct flightllm_tables *tables;

	if (!context)
		return ERR_PTR(-ENOMEM);
	kref_init(&context->kref);
	context->fdev = fdev;
	atomic_inc(&fdev->live_contexts);
	context->epoch = READ_ONCE(fdev->epoch);
	mutex_init(&context->lock);
	spin_lock_init(&context->tables_lock);
	spin_lock_init(&context->fault_lock);
	context->page = flightllm_mem_new(fdev, PAGE_SIZE);
	if (!context->page)
		goto out_put;
	/* Generation 1 has one segment, and that is not bound. */
	tables = tables_new(context, 1);
	if (!tables)
		goto out_put;
	tables_enter(context, tables, 1);
	return context;

out_put:
	flightllm_context_put(context);
	return ERR_PTR(-ENOMEM);
}

struct flightllm_context *flightllm_context_new_kernel(struct flightllm_device *fdev)
{
	struct flightllm_context *context = flightllm_context_new(fdev);
	struct flm_segment_row *rows;
	struct flightllm_tables *tables;
	unsigned int core, i;

	if (IS_ERR(context))
		return context;
	tables = tables_new(context, FLM_REGIONS);
	if (!tables) {
		flightllm_context_close(context);
		flightllm_context_put(context);
		return ERR_PTR(-ENOMEM);
	}
	rows = tables->mem->cpu;
	for (core = 0; core < fdev->card.cores; core++) {
		for (i = 0; i < fdev->region_count; i++) {
			struct flightllm_region *region = &fdev->region[i];
			struct flm_segment_row *row = &rows[core * FLM_REGIONS + region->id];

			if (region->id == FLM_REGION_HOST)
				continue;
			row->length = cpu_to_le64(region->bytes);
			row->blocks = cpu_to_le64((u64)region->id << FLM_BLOCK_REGION_SHIFT);
			row->count = cpu_to_le32(1);
			row->flags = FLM_SEGMENT_CONTIGUOUS;
			row->rights = FLM_RIGHT_R | FLM_RIGHT_W;
		}
	}
	tables_enter(context, tables, 2);
	return context;
}

void flightllm_context_close(struct flightllm_context *context)
{
	struct flightllm_tables *tables;

	mutex_lock(&context->lock);
	spin_lock(&context->tables_lock);
	tables = context->tables;
	context->tables = NULL;
	spin_unlock(&context->tables_lock);
	mutex_unlock(&context->lock);
	if (tables)
		flightllm_tables_put(tables);
}

struct flightllm_context *flightllm_context_lookup(struct flightllm_file *ffile, u32 id)
{
	struct flightllm_context *context;

	xa_lock(&ffile->contexts);
	context = xa_load(&ffile->contexts, id);
	if (context)
		kref_get(&context->kref);
	xa_unlock(&ffile->contexts);
	return context;
}

void flightllm_context_fault(struct flightllm_context *context, u32 id, const struct flm_done *done)
{
	unsigned long flags;

	spin_lock_irqsave(&context->fault_lock, flags);
	if (!context->faults++) {
		context->fault = *done;
		context->fault_queue = id;
	}
	spin_unlock_irqrestore(&context->fault_lock, flags);
}

void flightllm_context_measure(struct flightllm_context *context, const struct flm_done *done)
{
	u64 points = le32_to_cpu(done->points), mhz = max(context->fdev->card.clock_khz / 1000, 1u);
	u32 us, old = READ_ONCE(context->point_us);

	if (!points)
		return;
	/* Its own cycles: what others had in between is not its pace. */
	us = clamp(div64_u64(le64_to_cpu(done->cycles), points * mhz), 1, USEC_PER_SEC);
	/* Slower counts at once, faster by and by. Racy between queues, and good enough. */
	WRITE_ONCE(context->point_us, max(us, (7 * old + us) / 8));
}

u32 flightllm_context_points(struct flightllm_file *ffile)
{
	struct flightllm_context *context;
	unsigned long id;
	u32 us = 0;

	xa_lock(&ffile->contexts);
	xa_for_each(&ffile->contexts, id, context)
		us = max(us, READ_ONCE(context->point_us));
	xa_unlock(&ffile->contexts);
	if (!us)
		return FLIGHTLLM_POINTS_MIN;
	return clamp(5 * USEC_PER_SEC / us, FLIGHTLLM_POINTS_MIN, FLIGHTLLM_POINTS_MAX);
}

int flightllm_context_create_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct flightllm_device *fdev = to_flightllm_device(drm);
	struct drm_flightllm_context_create *args = data;
	struct flightllm_file *ffile = file->driver_priv;
	struct flightllm_context *context;
	int ret, idx;

	if (args->flags || args->reserved[0] || args->reserved[1])
		return -EINVAL;
	if (READ_ONCE(fdev->failed))
		return -EIO;
	if (!drm_dev_enter(drm, &idx))
		return -ENODEV;
	mutex_lock(&ffile->lock);
	if (ffile->context_count >= FLIGHTLLM_CONTEXTS) {
		ret = -ENOSPC;
		goto out_unlock;
	}
	context = flightllm_context_new(fdev);
	if (IS_ERR(context)) {
		ret = PTR_ERR(context);
		goto out_unlock;
	}
	ret = xa_alloc(&ffile->contexts, &args->id, context, xa_limit_31b, GFP_KERNEL);
	if (ret) {
		flightllm_context_close(context);
		flightllm_context_put(context);
		goto out_unlock;
	}
	ffile->context_count++;
out_unlock:
	mutex_unlock(&ffile->lock);
	drm_dev_exit(idx);
	return ret;
}

int flightllm_context_destroy_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_flightllm_context_destroy *args = data;
	struct flightllm_file *ffile = file->driver_priv;
	struct flightllm_context *context;

	if (args->pad)
		return -EINVAL;
	mutex_lock(&ffile->lock);
	context = xa_load(&ffile->contexts, args->id);
	if (!context || atomic_read(&context->queues)) {
		mutex_unlock(&ffile->lock);
		return context ? -EBUSY : -ENOENT;
	}
	xa_erase(&ffile->contexts, args->id);
	ffile->context_count--;
	mutex_unlock(&ffile->lock);
	flightllm_context_close(context);
	flightllm_context_put(context);
	return 0;
}

/* Copies the array row by row: fields that the caller does not know are zero, ours to him too. */
static struct drm_flightllm_binding *copy_bindings(const struct drm_flightllm_segment_bind *args)
{
	struct drm_flightllm_binding *rows;
	u32 i;
	int ret;

	if (!args->count || args->count > BINDINGS_MAX || !args->stride)
		return ERR_PTR(-EINVAL);
	if (args->stride > PAGE_SIZE)
		return ERR_PTR(-E2BIG);
	rows = kvcalloc(args->count, sizeof(*rows), GFP_KERNEL);
	if (!rows)
		return ERR_PTR(-ENOMEM);
	for (i = 0; i < args->count; i++) {
		ret = copy_struct_from_user(&rows[i], sizeof(*rows),
					    u64_to_user_ptr(args->bindings +
							    (u64)i * args->stride),
					    args->stride);
		if (ret) {
			kvfree(rows);
			return ERR_PTR(ret);
		}
	}
	return rows;
}

static int check_binding(struct flightllm_device *fdev, const struct drm_flightllm_binding *row)
{
	const u32 known = DRM_FLIGHTLLM_RIGHT_R | DRM_FLIGHTLLM_RIGHT_W | DRM_FLIGHTLLM_RIGHT_X;

	if (row->segment >= fdev->card.segments || row->reserved)
		return -EINVAL;
	if (row->core != DRM_FLIGHTLLM_CORE_ALL && row->core >= fdev->card.cores)
		return -EINVAL;
	if (!row->handle)
		return row->rights || row->offset || row->length ? -EINVAL : 0;
	return !row->rights || row->rights & ~known || !row->length ? -EINVAL : 0;
}

static void binding_set(struct flightllm_binding *binding, struct flightllm_bo *bo,
			const struct drm_flightllm_binding *row)
{
	struct flightllm_bo *old = binding->bo;

	if (bo)
		drm_gem_object_get(&bo->ttm.base);
	binding->bo = bo;
	binding->offset = row->offset;
	binding->length = row->length;
	binding->rights = row->rights;
	if (old)
		flightllm_bo_put(old);
}

static int apply_binding(struct flightllm_tables *tables, struct drm_file *file,
			 const struct drm_flightllm_binding *row)
{
	u32 cores = tables->context->fdev->card.cores, core;
	struct flightllm_bo *bo = NULL;
	u64 end;

	if (row->handle) {
		bo = flightllm_bo_lookup(file, row->handle);
		if (!bo)
			return -ENOENT;
		if (!IS_ALIGNED(row->offset, bo->region->block) ||
		    check_add_overflow(row->offset, row->length, &end) ||
		    end > flightllm_bo_bytes(bo)) {
			flightllm_bo_put(bo);
			return -EINVAL;
		}
	}
	for (core = 0; core < cores; core++)
		if (row->core == DRM_FLIGHTLLM_CORE_ALL || row->core == core)
			binding_set(&tables->binding[core * tables->segments + row->segment],
				    bo, row);
	if (bo)
		flightllm_bo_put(bo);
	return 0;
}

/* The context's tables with these changes; context->lock is held. */
static struct flightllm_tables *tables_derive(struct flightllm_context *context,
					      struct drm_file *file,
					      const struct drm_flightllm_binding *rows, u32 count)
{
	struct flightllm_tables *old = context->tables, *tables;
	u32 cores = context->fdev->card.cores, segments = old->segments, core, s, i;
	struct flm_segment_row *out;
	int ret;

	for (i = 0; i < count; i++) {
		ret = check_binding(context->fdev, &rows[i]);
		if (ret)
			return ERR_PTR(ret);
		segments = max(segments, rows[i].segment + 1);
	}
	tables = tables_new(context, segments);
	if (!tables)
		return ERR_PTR(-ENOMEM);
	for (core = 0; core < cores; core++) {
		for (s = 0; s < old->segments; s++) {
			struct flightllm_binding *to = &tables->binding[core * segments + s];

			*to = old->binding[core * old->segments + s];
			if (to->bo)
				drm_gem_object_get(&to->bo->ttm.base);
		}
	}
	for (i = 0; i < count; i++) {
		ret = apply_binding(tables, file, &rows[i]);
		if (ret) {
			tables_free(tables);
			return ERR_PTR(ret);
		}
	}
	out = tables->mem->cpu;
	for (i = 0; i < cores * segments; i++)
		if (tables->binding[i].bo)
			flightllm_bo_row(tables->binding[i].bo, tables->binding[i].offset,
					 tables->binding[i].length, tables->binding[i].rights,
					 &out[i]);
	return tables;
}

int flightllm_segment_bind_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_flightllm_segment_bind *args = data;
	struct flightllm_file *ffile = file->driver_priv;
	struct drm_flightllm_binding *rows;
	struct flightllm_context *context;
	struct flightllm_tables *tables;
	u32 generation;
	int ret, idx;

	if (args->flags || args->pad)
		return -EINVAL;
	rows = copy_bindings(args);
	if (IS_ERR(rows))
		return PTR_ERR(rows);
	context = flightllm_context_lookup(ffile, args->context);
	if (!context) {
		ret = -ENOENT;
		goto out_free_rows;
	}
	ret = mutex_lock_interruptible(&context->lock);
	if (ret)
		goto out_put_context;
	if (!context->tables) {	/* destroyed meanwhile */
		ret = -ENOENT;
		goto out_unlock;
	}
	generation = context->tables->generation + 1;
	if (!generation) {	/* four billion of them: make a new context */
		ret = -EOVERFLOW;
		goto out_unlock;
	}
	ret = wait_event_interruptible(context->fdev->row_free,
				       !test_bit(generation % FLM_GENERATIONS, context->live) ||
				       flightllm_context_is_lost(context));
	if (ret)
		goto out_unlock;
	if (!drm_dev_enter(drm, &idx)) {
		ret = -ENODEV;
		goto out_unlock;
	}
	tables = flightllm_context_is_lost(context) ? ERR_PTR(-ECANCELED) :
		 tables_derive(context, file, rows, args->count);
	if (IS_ERR(tables)) {
		ret = PTR_ERR(tables);
	} else {
		tables_enter(context, tables, generation);
		args->generation = generation;
	}
	drm_dev_exit(idx);
out_unlock:
	mutex_unlock(&context->lock);
out_put_context:
	flightllm_context_put(context);
out_free_rows:
	kvfree(rows);
	return ret;
}

void flightllm_fault_to_user(const struct flm_done *done, struct drm_flightllm_fault *fault)
{
	fault->kind = done->fault;
	fault->core = done->core;
	fault->unit = done->unit;
	fault->entry = done->entry;
	fault->word = le32_to_cpu(done->word);
	fault->segment = le32_to_cpu(done->segment);
	fault->offset = le64_to_cpu(done->offset);
}

int flightllm_fault_query_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_flightllm_fault_query *args = data;
	struct flightllm_file *ffile = file->driver_priv;
	struct flightllm_context *context;

	if (args->flags & ~DRM_FLIGHTLLM_FAULT_CLEAR || args->eventfd || args->reserved[0] ||
	    args->reserved[1])
		return -EINVAL;
	context = flightllm_context_lookup(ffile, args->context);
	if (!context)
		return -ENOENT;
	spin_lock_irq(&context->fault_lock);
	args->count = context->faults;
	args->queue = context->fault_queue;
	args->seqno = le64_to_cpu(context->fault.seqno);
	flightllm_fault_to_user(&context->fault, &args->fault);
	if (args->flags & DRM_FLIGHTLLM_FAULT_CLEAR) {
		context->faults = 0;
		context->fault_queue = 0;
		memset(&context->fault, 0, sizeof(context->fault));
	}
	spin_unlock_irq(&context->fault_lock);
	args->lost = flightllm_context_is_lost(context);
	flightllm_context_put(context);
	return 0;
}
