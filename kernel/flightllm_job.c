// SPDX-License-Identifier: GPL-2.0
/*
 * Jobs: from SUBMIT through the scheduler to a slot of the ring. Everything that can fail happens
 * before the first job of a call is armed; from there on nothing can, so a call gives all or none.
 */
#include <linux/dma-fence-chain.h>
#include <linux/module.h>
#include <linux/rcupdate.h>
#include <linux/slab.h>
#include <linux/uaccess.h>

#include <drm/drm_syncobj.h>

#include "flightllm_compat.h"
#include "flightllm_job.h"
#include "flightllm_trace.h"

#define SYNCS_MAX	64

static const char *fence_driver_name(struct dma_fence *fence)
{
	return "flightllm";
}

static const char *fence_timeline_name(struct dma_fence *fence)
{
	return "flightllm-ring";
}

/* Somebody's sync file may outlive everything else; the code of these functions has to stay. */
static void fence_free(struct rcu_head *rcu)
{
	struct flightllm_fence *fence = container_of(rcu, struct flightllm_fence, base.rcu);
	struct module *owner = fence->queue->owner;

	flightllm_queue_put_shell(fence->queue);
	kfree(fence);
	module_put(owner);
}

static void fence_release(struct dma_fence *fence)
{
	call_rcu(&fence->rcu, fence_free);
}

static const struct dma_fence_ops fence_ops = {
	.get_driver_name = fence_driver_name,
	.get_timeline_name = fence_timeline_name,
	.release = fence_release,
};

static struct flightllm_job *to_flightllm_job(struct drm_sched_job *base)
{
	return container_of(base, struct flightllm_job, base);
}

/* A job that was never given to the scheduler, or that the scheduler is done with. */
static void job_free(struct flightllm_job *job)
{
	if (job->tables)
		flightllm_tables_put(job->tables);
	if (job->fence)
		dma_fence_put(&job->fence->base);
	flightllm_queue_put(job->queue);
	kfree(job);
}

static struct flightllm_job *job_new(struct flightllm_queue *queue, u64 client)
{
	struct flightllm_job *job = kzalloc(sizeof(*job), GFP_KERNEL);
	struct flightllm_fence *fence;
	int ret;

	if (!job)
		return ERR_PTR(-ENOMEM);
	kref_get(&queue->kref);
	job->queue = queue;
	job->tables = flightllm_tables_get_current(queue->context);
	fence = kzalloc(sizeof(*fence), GFP_KERNEL);
	if (!fence || !job->tables) {
		kfree(fence);
		ret = job->tables ? -ENOMEM : -ECANCELED;
		goto out_free;
	}
	kref_get(&queue->shell);
	fence->queue = queue;
	__module_get(queue->owner);
	spin_lock_init(&fence->lock);
	dma_fence_init(&fence->base, &fence_ops, &fence->lock, queue->fence_context, 0);
	job->fence = fence;
	ret = flightllm_sched_job_init(&job->base, &queue->entity, client);
	if (ret)
		goto out_free;
	return job;

out_free:
	job_free(job);
	return ERR_PTR(ret);
}

/* Undoes job_new() and all additions to a job that has not been armed. */
static void job_drop(struct flightllm_job *job)
{
	drm_sched_job_cleanup(&job->base);
	job_free(job);
}

/* Its place in the queue's order; from here on it will be run or killed. submit_lock is held. */
static void job_arm(struct flightllm_job *job)
{
	struct flightllm_queue *queue = job->queue;
	struct flightllm_fence *fence = job->fence;

	lockdep_assert_held(&queue->submit_lock);
	WRITE_ONCE(queue->seqno, queue->seqno + 1);
	fence->seqno = queue->seqno;
	fence->base.seqno = queue->seqno;
	fence->submitted_ns = ktime_get_raw_ns();
	job->slot.run.seqno = cpu_to_le64(queue->seqno);
	job->slot.run.generation = cpu_to_le32(job->tables->generation);
	atomic_inc(&queue->jobs);
	trace_flightllm_job_submit(queue->hw, queue->seqno);
	drm_sched_job_arm(&job->base);
}

static struct dma_fence *run_job(struct drm_sched_job *base)
{
	struct flightllm_job *job = to_flightllm_job(base);
	struct dma_fence *fence;

	fence = flightllm_queue_post(job->queue, &job->slot, job->fence, job->is_last);
	if (IS_ERR(fence))
		flightllm_queue_never_ran(job->queue, job->fence->seqno,
					  job->fence->submitted_ns);
	job->posted = true;
	return fence;
}

static void free_job(struct drm_sched_job *base)
{
	struct flightllm_job *job = to_flightllm_job(base);

	/* The scheduler kills what it has not run when the queue is closed. */
	if (!job->posted)
		flightllm_queue_never_ran(job->queue, job->fence->seqno,
					  job->fence->submitted_ns);
	/*
	 * Whoever asks for the name of the scheduler's fence gets it from the scheduler, which may
	 * be freed by then. The parent, which is ours, keeps that; a job that never ran has none.
	 */
	if (!base->s_fence->parent) {
		/* As the scheduler itself does it: somebody may be setting a deadline. */
		smp_store_release(&base->s_fence->parent, dma_fence_get(&job->fence->base));
	}
	drm_sched_job_cleanup(base);
	job_free(job);
}

const struct drm_sched_backend_ops flightllm_sched_ops = {
	.run_job = run_job,
	.free_job = free_job,
};

int flightllm_job_clear(struct flightllm_device *fdev, u32 region, u64 address, u64 bytes,
			struct dma_fence **out)
{
	struct flightllm_queue *queue;
	struct flightllm_job *job;
	int ret = 0;

	mutex_lock(&fdev->queues_lock);
	queue = fdev->kernel_queue;
	if (queue)
		kref_get(&queue->kref);
	mutex_unlock(&fdev->queues_lock);
	if (!queue)
		return -EIO;
	job = job_new(queue, 0);
	if (IS_ERR(job)) {
		ret = PTR_ERR(job);
		goto out_put;
	}
	job->slot.copy.flags = cpu_to_le32(FLM_SLOT_FILL | FLM_SLOT_INTERRUPT);
	job->slot.copy.dst = cpu_to_le64(address);
	job->slot.copy.bytes = cpu_to_le64(bytes);
	job->slot.copy.dst_segment = cpu_to_le16(region);
	mutex_lock(&queue->submit_lock);
	if (queue->closed) {
		job_drop(job);
		ret = -ECANCELED;
	} else {
		job->is_last = true;
		job_arm(job);
		*out = dma_fence_get(&job->base.s_fence->finished);
		drm_sched_entity_push_job(&job->base);
	}
	mutex_unlock(&queue->submit_lock);
out_put:
	flightllm_queue_put(queue);
	return ret;
}

static int check_run(struct flightllm_queue *queue, const struct drm_flightllm_job *in,
		     u32 points_max)
{
	u32 segments = queue->fdev->card.segments;

	if (in->fill || in->src_segment || in->src_core || in->dst_segment || in->dst_core ||
	    in->src_offset || in->dst_offset || in->bytes)
		return -EINVAL;
	if (in->program_segment >= segments || in->job_segment >= segments ||
	    in->program_offset % 64 || in->job_offset % 64)
		return -EINVAL;
	return in->max_points > points_max ? -E2BIG : 0;
}

static int check_copy(struct flightllm_queue *queue, const struct drm_flightllm_job *in,
		      u32 points_max)
{
	const struct flightllm_card *card = &queue->fdev->card;
	bool has_src = in->op != DRM_FLIGHTLLM_JOB_FILL;
	bool has_dst = in->op != DRM_FLIGHTLLM_JOB_CRC32C;

	if (in->program_segment || in->job_segment || in->program_offset || in->job_offset ||
	    in->max_points || !in->bytes)
		return -EINVAL;
	if (!has_src && (in->src_segment || in->src_core || in->src_offset ||
			 (in->dst_offset | in->bytes) % 4))
		return -EINVAL;
	if (has_src && in->fill)
		return -EINVAL;
	if (!has_dst && (in->dst_segment || in->dst_core || in->dst_offset))
		return -EINVAL;
	if (in->src_segment >= card->segments || in->dst_segment >= card->segments ||
	    in->src_core >= card->cores || in->dst_core >= card->cores)
		return -EINVAL;
	return in->bytes > (u64)points_max * FLM_COPY_POINT ? -E2BIG : 0;
}

static int check_job(struct flightllm_queue *queue, const struct drm_flightllm_job *in,
		     u32 points_max)
{
	if (in->flags || in->reserved[0] || in->reserved[1])
		return -EINVAL;
	if (queue->kind == FLM_QUEUE_COMPUTE)
		return in->op == DRM_FLIGHTLLM_JOB_RUN ? check_run(queue, in, points_max) : -EINVAL;
	if (in->op < DRM_FLIGHTLLM_JOB_COPY || in->op > DRM_FLIGHTLLM_JOB_CRC32C)
		return -EINVAL;
	return check_copy(queue, in, points_max);
}

/* Operations have the same numbers on both sides; one row each would say so again. */
static_assert((int)DRM_FLIGHTLLM_JOB_RUN == (int)FLM_SLOT_RUN);
static_assert((int)DRM_FLIGHTLLM_JOB_COPY == (int)FLM_SLOT_COPY);
static_assert((int)DRM_FLIGHTLLM_JOB_FILL == (int)FLM_SLOT_FILL);
static_assert((int)DRM_FLIGHTLLM_JOB_CRC32C == (int)FLM_SLOT_CRC32C);

static void fill_slot(struct flightllm_job *job, const struct drm_flightllm_job *in,
		      u32 points_max)
{
	struct flm_copy_slot *copy = &job->slot.copy;
	struct flm_slot *run = &job->slot.run;

	run->flags = cpu_to_le32(in->op | FLM_SLOT_INTERRUPT);
	if (in->op == DRM_FLIGHTLLM_JOB_RUN) {
		run->program = cpu_to_le64(in->program_offset);
		run->job = cpu_to_le64(in->job_offset);
		run->program_segment = cpu_to_le16(in->program_segment);
		run->job_segment = cpu_to_le16(in->job_segment);
		run->max_points = cpu_to_le32(in->max_points ? in->max_points : points_max);
		return;
	}
	copy->src = cpu_to_le64(in->src_offset);
	copy->dst = cpu_to_le64(in->dst_offset);
	copy->bytes = cpu_to_le64(in->bytes);
	copy->src_segment = cpu_to_le16(in->src_segment);
	copy->dst_segment = cpu_to_le16(in->dst_segment);
	copy->src_core = in->src_core;
	copy->dst_core = in->dst_core;
	copy->fill = cpu_to_le32(in->fill);
}

static void drop_jobs(struct flightllm_job **jobs, u32 count)
{
	while (count)
		job_drop(jobs[--count]);
	kvfree(jobs);
}

static struct flightllm_job **make_jobs(struct flightllm_queue *queue,
					const struct flightllm_file *ffile,
					const struct drm_flightllm_submit *args)
{
	struct drm_flightllm_job in;
	struct flightllm_job **jobs;
	u32 made = 0, points_max;
	int ret;

	if (!args->job_count || !args->job_stride)
		return ERR_PTR(-EINVAL);
	if (args->job_count > FLIGHTLLM_SLOTS || args->job_stride > PAGE_SIZE)
		return ERR_PTR(-E2BIG);
	jobs = kvcalloc(args->job_count, sizeof(*jobs), GFP_KERNEL);
	if (!jobs)
		return ERR_PTR(-ENOMEM);
	points_max = READ_ONCE(ffile->points_told);
	while (made < args->job_count) {
		ret = copy_struct_from_user(&in, sizeof(in), u64_to_user_ptr(args->jobs +
					    (u64)made * args->job_stride), args->job_stride);
		if (!ret)
			ret = check_job(queue, &in, points_max);
		if (ret)
			goto out_drop;
		jobs[made] = job_new(queue, ffile->client);
		if (IS_ERR(jobs[made])) {
			ret = PTR_ERR(jobs[made]);
			goto out_drop;
		}
		fill_slot(jobs[made], &in, points_max);
		made++;
	}
	return jobs;

out_drop:
	drop_jobs(jobs, made);
	return ERR_PTR(ret);
}

/* A syncobj to be signalled; a point of a timeline needs its link of the chain beforehand. */
struct out_sync {
	struct drm_syncobj *syncobj;
	struct dma_fence_chain *chain;
	u64 point;
};

static void free_outs(struct out_sync *outs, u32 count)
{
	while (count) {
		count--;
		dma_fence_chain_free(outs[count].chain);
		drm_syncobj_put(outs[count].syncobj);
	}
	kvfree(outs);
}

static int copy_sync(u64 array, u32 stride, u32 i, struct drm_flightllm_sync *sync)
{
	int ret = copy_struct_from_user(sync, sizeof(*sync),
					u64_to_user_ptr(array + (u64)i * stride), stride);

	if (ret)
		return ret;
	return sync->flags ? -EINVAL : 0;
}

static int check_syncs(u32 count, u32 stride)
{
	if (count > SYNCS_MAX || stride > PAGE_SIZE)
		return -E2BIG;
	return count && !stride ? -EINVAL : 0;
}

static struct out_sync *make_outs(struct drm_file *file, const struct drm_flightllm_submit *args)
{
	struct drm_flightllm_sync sync;
	struct out_sync *outs;
	u32 made = 0;
	int ret;

	ret = check_syncs(args->out_count, args->out_stride);
	if (ret)
		return ERR_PTR(ret);
	if (!args->out_count)
		return NULL;
	outs = kvcalloc(args->out_count, sizeof(*outs), GFP_KERNEL);
	if (!outs)
		return ERR_PTR(-ENOMEM);
	while (made < args->out_count) {
		ret = copy_sync(args->out_syncs, args->out_stride, made, &sync);
		if (ret)
			goto out_free;
		outs[made].syncobj = drm_syncobj_find(file, sync.handle);
		if (!outs[made].syncobj) {
			ret = -ENOENT;
			goto out_free;
		}
		outs[made].point = sync.point;
		made++;
		if (sync.point) {
			outs[made - 1].chain = dma_fence_chain_alloc();
			if (!outs[made - 1].chain) {
				ret = -ENOMEM;
				goto out_free;
			}
		}
	}
	return outs;

out_free:
	free_outs(outs, made);
	return ERR_PTR(ret);
}

static void signal_outs(struct out_sync *outs, u32 count, struct dma_fence *fence)
{
	u32 i;

	for (i = 0; i < count; i++) {
		if (outs[i].point) {
			drm_syncobj_add_point(outs[i].syncobj, outs[i].chain, fence,
					      outs[i].point);
			outs[i].chain = NULL;	/* the syncobj has it now */
		} else {
			drm_syncobj_replace_fence(outs[i].syncobj, fence);
		}
	}
}

static int add_ins(struct flightllm_job *job, struct drm_file *file,
		   const struct drm_flightllm_submit *args)
{
	struct drm_flightllm_sync sync;
	struct dma_fence *fence;
	u32 i;
	int ret;

	ret = check_syncs(args->in_count, args->in_stride);
	for (i = 0; !ret && i < args->in_count; i++) {
		ret = copy_sync(args->in_syncs, args->in_stride, i, &sync);
		if (ret)
			break;
		ret = drm_syncobj_find_fence(file, sync.handle, sync.point, 0, &fence);
		if (ret)
			ret = ret == -EINVAL ? -ENOENT : ret;
		else
			ret = drm_sched_job_add_dependency(&job->base, fence);
	}
	return ret;
}

/* The point of no return. -EBUSY, -ECANCELED: nothing was given out. */
static int push_jobs(struct flightllm_queue *queue, struct flightllm_job **jobs, u32 count,
		     struct out_sync *outs, u32 out_count, u64 *seqno)
{
	struct dma_fence *last;
	int ret = 0;
	u32 i;

	mutex_lock(&queue->submit_lock);
	if (queue->closed || READ_ONCE(queue->dead) || flightllm_context_is_lost(queue->context))
		ret = -ECANCELED;
	else if (atomic_read(&queue->jobs) + count > FLIGHTLLM_SLOTS)
		ret = -EBUSY;
	if (!ret) {
		for (i = 0; i < count; i++) {
			job_arm(jobs[i]);
			if (i == count - 1) {
				jobs[i]->is_last = true;
				last = &jobs[i]->base.s_fence->finished;
				signal_outs(outs, out_count, last);
			}
			drm_sched_entity_push_job(&jobs[i]->base);
		}
		*seqno = queue->seqno;
	}
	mutex_unlock(&queue->submit_lock);
	return ret;
}

int flightllm_submit_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct flightllm_device *fdev = to_flightllm_device(drm);
	struct drm_flightllm_submit *args = data;
	struct flightllm_file *ffile = file->driver_priv;
	struct flightllm_queue *queue;
	struct flightllm_job **jobs;
	struct out_sync *outs;
	int ret;

	if (args->flags || args->reserved[0] || args->reserved[1])
		return -EINVAL;
	if (READ_ONCE(fdev->failed))
		return -EIO;
	queue = flightllm_queue_lookup(ffile, args->queue);
	if (!queue)
		return -ENOENT;
	jobs = make_jobs(queue, ffile, args);
	if (IS_ERR(jobs)) {
		ret = PTR_ERR(jobs);
		goto out_put;
	}
	outs = make_outs(file, args);
	if (IS_ERR(outs)) {
		ret = PTR_ERR(outs);
		goto out_drop;
	}
	ret = add_ins(jobs[0], file, args);
	if (!ret)
		ret = push_jobs(queue, jobs, args->job_count, outs, args->out_count, &args->seqno);
	free_outs(outs, args->out_count);
	if (ret)
		goto out_drop;
	atomic64_inc(&fdev->submits);
	kvfree(jobs);
	flightllm_queue_put(queue);
	return 0;

out_drop:
	drop_jobs(jobs, args->job_count);
out_put:
	flightllm_queue_put(queue);
	return ret;
}
