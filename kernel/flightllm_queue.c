// SPDX-License-Identifier: GPL-2.0
/*
 * Queues: posting slots, ringing doorbells, reaping completions. The fast path touches no
 * register: a slot is written, the doorbell page stored to, and only a card that sleeps gets a
 * KICK; completions and status come by DMA. The interrupt handler reads host memory alone.
 */
#include <linux/capability.h>
#include <linux/iopoll.h>
#include <linux/log2.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/wait_bit.h>

#include "flightllm_compat.h"
#include "flightllm_job.h"

#define CREATE_TRACE_POINTS
#include "flightllm_trace.h"

#define ANSWER_MS	1000	/* a queue command is done within 100 ms of the card's wall time */
#define QUANTUM_US	5000
#define QUANTUM_MAX_US	USEC_PER_SEC

/* Sets up the card's side and enables it. post_lock is held, or nobody knows the queue yet. */
static int hw_enable(struct flightllm_queue *queue)
{
	struct flightllm_device *fdev = queue->fdev;
	u32 state, error;

	mutex_lock(&fdev->select_lock);
	flightllm_write(fdev, FLM_REG_QUEUE_SELECT, queue->hw);
	flightllm_write(fdev, FLM_REG_QUEUE_KIND, queue->kind);
	flightllm_write(fdev, FLM_REG_QUEUE_SLOTS_LOG2, FLIGHTLLM_SLOTS_LOG2);
	flightllm_write64(fdev, FLM_REG_QUEUE_RING, queue->rings->bus);
	flightllm_write64(fdev, FLM_REG_QUEUE_DONE,
			  queue->rings->bus + FLIGHTLLM_SLOTS * sizeof(struct flm_slot));
	flightllm_write64(fdev, FLM_REG_QUEUE_STATUS, queue->page->bus);
	flightllm_write64(fdev, FLM_REG_QUEUE_CONTEXT, queue->context->page->bus);
	flightllm_write(fdev, FLM_REG_QUEUE_PRIORITY, queue->priority);
	flightllm_write(fdev, FLM_REG_QUEUE_QUANTUM_US, queue->quantum_us);
	flightllm_write(fdev, FLM_REG_QUEUE_CORES, queue->cores);
	flightllm_write(fdev, FLM_REG_QUEUE_VECTOR, queue->vector);
	flightllm_write64(fdev, FLM_REG_QUEUE_WATCHDOG, FLIGHTLLM_WATCHDOG);
	flightllm_write(fdev, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_ENABLE);
	state = flightllm_read(fdev, FLM_REG_QUEUE_STATE);
	error = flightllm_read(fdev, FLM_REG_QUEUE_ERROR);
	mutex_unlock(&fdev->select_lock);
	if (state == FLM_QUEUE_ENABLED)
		return 0;
	drm_err(&fdev->drm, "queue %u was not enabled: state %#x, error %u\n", queue->hw, state,
		error);
	return state == ~0u ? -EIO : -ETIMEDOUT;
}

/* Stops the card's side: after success it touches none of the queue's memory. */
static int hw_reset(struct flightllm_queue *queue)
{
	struct flightllm_device *fdev = queue->fdev;
	u32 state;
	int ret;

	mutex_lock(&fdev->select_lock);
	flightllm_write(fdev, FLM_REG_QUEUE_SELECT, queue->hw);
	flightllm_write(fdev, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET);
	ret = read_poll_timeout(flightllm_read, state,
				state == FLM_QUEUE_DISABLED || state == ~0u,
				USEC_PER_MSEC, ANSWER_MS * USEC_PER_MSEC, false,
				fdev, FLM_REG_QUEUE_STATE);
	mutex_unlock(&fdev->select_lock);
	if (state == ~0u)
		return -ENODEV;
	if (ret)
		drm_err(&fdev->drm, "queue %u does not answer a reset: state %u\n", queue->hw,
			state);
	return ret;
}

static int fence_error(u32 status)
{
	switch (status) {
	case FLM_STATUS_FAULT:
		return -EIO;
	case FLM_STATUS_RESET:
	case FLM_STATUS_LOST:
		return -ECANCELED;
	}
	return 0;
}

static void history_add(struct flightllm_queue *queue, const struct flm_done *done,
			u64 submitted_ns)
{
	u64 seqno = le64_to_cpu(done->seqno);
	struct flightllm_end *end = &queue->history[seqno % FLIGHTLLM_HISTORY];

	lockdep_assert_held(&queue->lock);
	end->done = *done;
	end->submitted_ns = submitted_ns;
	end->finished_ns = ktime_get_raw_ns();
	atomic_dec(&queue->jobs);
}

/* Slot `reaped` has ended like this: tell everybody. */
static void complete_slot(struct flightllm_queue *queue, struct flm_done *done)
{
	u32 index = queue->reaped % FLIGHTLLM_SLOTS, status;
	struct flightllm_fence *fence = queue->flight[index];
	int error;

	lockdep_assert_held(&queue->lock);
	queue->flight[index] = NULL;
	queue->reaped++;
	status = le32_to_cpu(done->status);
	if (le64_to_cpu(done->seqno) != fence->seqno || !status || status > FLM_STATUS_LOST) {
		drm_err_ratelimited(&queue->fdev->drm, "queue %u: bad completion for job %llu\n",
				    queue->hw, fence->seqno);
		*done = (struct flm_done){
			.seqno = cpu_to_le64(fence->seqno),
			.status = cpu_to_le32(FLM_STATUS_FAULT), .fault = FLM_FAULT_INTERNAL,
			.core = FLM_NOWHERE, .unit = FLM_NOWHERE, .entry = FLM_NOWHERE,
		};
		status = FLM_STATUS_FAULT;
	}
	if (status == FLM_STATUS_FAULT)
		flightllm_context_fault(queue->context, queue->id, done);
	if (queue->kind == FLM_QUEUE_COMPUTE)
		flightllm_context_measure(queue->context, done);
	queue->cycles += le64_to_cpu(done->cycles);
	history_add(queue, done, fence->submitted_ns);
	trace_flightllm_job_end(queue->hw, done);
	error = fence_error(status);
	if (error)
		dma_fence_set_error(&fence->base, error);
	dma_fence_signal(&fence->base);
	dma_fence_put(&fence->base);
	atomic_dec(&queue->fdev->in_flight);
}

void flightllm_queue_reap(struct flightllm_queue *queue)
{
	struct flm_done done;
	unsigned long flags;
	u32 head;

	spin_lock_irqsave(&queue->lock, flags);
	if (!queue->dead) {
		head = le32_to_cpu(READ_ONCE(queue->status->head));
		dma_rmb();	/* rows up to head are older than head */
		/* The card's word goes no further than what was posted. */
		while (queue->reaped != head && queue->reaped != queue->tail) {
			done = queue->done[queue->reaped % FLIGHTLLM_SLOTS];
			complete_slot(queue, &done);
		}
	}
	spin_unlock_irqrestore(&queue->lock, flags);
	wake_up_all(&queue->waiters);
}

irqreturn_t flightllm_queue_irq(int irq, void *data)
{
	struct flightllm_vector *vector = data;
	struct flightllm_queue *queue;
	unsigned long flags;

	spin_lock_irqsave(&vector->lock, flags);
	list_for_each_entry(queue, &vector->queues, vector_link)
		flightllm_queue_reap(queue);
	spin_unlock_irqrestore(&vector->lock, flags);
	return IRQ_HANDLED;
}

/* Everything posted ends with this status; the card will not write about it any more. */
static void complete_all_slots(struct flightllm_queue *queue, u32 status)
{
	struct flm_done done;

	lockdep_assert_held(&queue->lock);
	while (queue->reaped != queue->tail) {
		memset(&done, 0, sizeof(done));
		done.seqno = cpu_to_le64(queue->flight[queue->reaped % FLIGHTLLM_SLOTS]->seqno);
		done.status = cpu_to_le32(status);
		complete_slot(queue, &done);
	}
}

void flightllm_queue_never_ran(struct flightllm_queue *queue, u64 seqno, u64 submitted_ns)
{
	struct flm_done done = { .seqno = cpu_to_le64(seqno) };
	unsigned long flags;

	spin_lock_irqsave(&queue->lock, flags);
	done.status = cpu_to_le32(queue->dead ? queue->dead : FLM_STATUS_RESET);
	history_add(queue, &done, submitted_ns);
	spin_unlock_irqrestore(&queue->lock, flags);
	wake_up_all(&queue->waiters);
}

static void ring_doorbell(struct flightllm_queue *queue, u32 tail)
{
	struct flightllm_device *fdev = queue->fdev;

	/*
	 * The store is ordered behind the slot by writel(). Either the card sees the new tail
	 * before it sleeps, or armed is seen here; armed is cleared by the host first, so that one
	 * sleep costs one KICK, and set anew by the card when it handles that.
	 */
	writel(tail, fdev->doorbells + queue->hw * FLM_DOORBELL_BYTES);
	mb();	/* doorbell before armed: the other half is the card's */
	if (READ_ONCE(queue->status->armed)) {
		WRITE_ONCE(queue->status->armed, 0);
		flightllm_write(fdev, FLM_REG_KICK, queue->hw);
	}
}

struct dma_fence *flightllm_queue_post(struct flightllm_queue *queue, const void *slot,
				       struct flightllm_fence *fence, bool tell)
{
	struct flightllm_device *fdev = queue->fdev;
	u32 index, tail;
	int idx;

	/* Without the card it ends as those that the card had: all of them are lost. */
	if (!drm_dev_enter(&fdev->drm, &idx))
		return ERR_PTR(-ECANCELED);
	mutex_lock(&queue->post_lock);
	if (queue->dead) {
		mutex_unlock(&queue->post_lock);
		drm_dev_exit(idx);
		return ERR_PTR(-ECANCELED);
	}

	spin_lock_irq(&queue->lock);
	index = queue->tail % FLIGHTLLM_SLOTS;
	memcpy(queue->slots + index * sizeof(struct flm_slot), slot, sizeof(struct flm_slot));
	dma_fence_get(&fence->base);
	queue->flight[index] = fence;
	tail = ++queue->tail;
	spin_unlock_irq(&queue->lock);
	atomic_inc(&fdev->in_flight);
	trace_flightllm_job_post(queue->hw, fence->seqno);
	if (tell)
		ring_doorbell(queue, tail);
	flightllm_reset_watch(fdev);
	mutex_unlock(&queue->post_lock);
	drm_dev_exit(idx);
	return dma_fence_get(&fence->base);
}

int flightllm_queue_reset(struct flightllm_queue *queue)
{
	int ret;

	mutex_lock(&queue->post_lock);
	if (queue->dead) {
		mutex_unlock(&queue->post_lock);
		return 0;
	}
	atomic_inc(&queue->fdev->queue_resets);
	ret = hw_reset(queue);
	if (!ret) {
		/* Jobs that had ended before the reset ended well. */
		flightllm_queue_reap(queue);
		spin_lock_irq(&queue->lock);
		complete_all_slots(queue, FLM_STATUS_RESET);
		queue->busy_us += le64_to_cpu(queue->status->busy_us);
		queue->tail = 0;
		queue->reaped = 0;
		queue->watch.armed = false;
		spin_unlock_irq(&queue->lock);
		ret = hw_enable(queue);
	}
	trace_flightllm_queue_reset(queue->hw, ret);
	mutex_unlock(&queue->post_lock);
	wake_up_all(&queue->waiters);
	return ret;
}

void flightllm_queue_kill(struct flightllm_queue *queue, u32 status, bool tell)
{
	struct flightllm_device *fdev = queue->fdev;
	int ret = 0;

	lockdep_assert_held(&fdev->queues_lock);
	mutex_lock(&queue->post_lock);
	if (!queue->dead) {
		if (tell)
			ret = hw_reset(queue);
		if (ret) {
			/*
			 * It may go on writing: cut it off before anything is given back. No
			 * queue can go on like this, and none is made until the reset is over.
			 */
			pci_clear_master(fdev->pdev);
			WRITE_ONCE(fdev->resetting, true);
			flightllm_reset_card(fdev);
		}
		flightllm_queue_reap(queue);
		spin_lock_irq(&queue->lock);
		queue->dead = status;
		complete_all_slots(queue, status);
		spin_unlock_irq(&queue->lock);
	}
	mutex_unlock(&queue->post_lock);
	wake_up_all(&queue->waiters);
}

static void shell_release(struct kref *kref)
{
	kfree(container_of(kref, struct flightllm_queue, shell));
}

void flightllm_queue_put_shell(struct flightllm_queue *queue)
{
	kref_put(&queue->shell, shell_release);
}

static void queue_free(struct flightllm_queue *queue)
{
	struct flightllm_device *fdev = queue->fdev;

	flightllm_mem_free(fdev, queue->page);
	flightllm_mem_free(fdev, queue->rings);
	kvfree(queue->history);
	mutex_destroy(&queue->post_lock);
	mutex_destroy(&queue->submit_lock);
	flightllm_context_put(queue->context);
	flightllm_queue_put_shell(queue);
}

/* Not in the scheduler's own work, which may have dropped the last reference. */
static void queue_release_work(struct work_struct *work)
{
	struct flightllm_queue *queue = container_of(work, struct flightllm_queue, release);
	struct flightllm_device *fdev = queue->fdev;
	struct module *owner = queue->owner;
	bool ours = !queue->id;

	drm_sched_fini(&queue->sched);
	queue_free(queue);
	atomic_dec(&fdev->live_queues);
	if (ours && atomic_dec_and_test(&fdev->kernel_queues))
		wake_up_var(&fdev->kernel_queues);
	drm_dev_put(&fdev->drm);
	module_put(owner);
}

static void queue_release(struct kref *kref)
{
	struct flightllm_queue *queue = container_of(kref, struct flightllm_queue, kref);

	queue_work(flightllm_release_wq, &queue->release);
}

void flightllm_queue_put(struct flightllm_queue *queue)
{
	kref_put(&queue->kref, queue_release);
}

struct flightllm_queue *flightllm_queue_lookup(struct flightllm_file *ffile, u32 id)
{
	struct flightllm_queue *queue;

	xa_lock(&ffile->queues);
	queue = xa_load(&ffile->queues, id);
	if (queue)
		kref_get(&queue->kref);
	xa_unlock(&ffile->queues);
	return queue;
}

/* A number that no queue has, then the card's side of it. */
static int queue_attach(struct flightllm_queue *queue)
{
	struct flightllm_device *fdev = queue->fdev;
	struct flightllm_vector *vector;
	int ret;

	mutex_lock(&fdev->queues_lock);
	if (fdev->failed) {
		ret = -EIO;
		goto out_unlock;
	}
	/* But the driver's own, which is part of coming back. */
	if (fdev->resetting && queue->id) {
		ret = -EBUSY;
		goto out_unlock;
	}
	if (flightllm_context_is_lost(queue->context)) {
		ret = -ECANCELED;
		goto out_unlock;
	}
	for (queue->hw = 0; queue->hw < fdev->card.queues; queue->hw++)
		if (!fdev->queue[queue->hw])
			break;
	if (queue->hw == fdev->card.queues) {
		ret = -ENOSPC;
		goto out_unlock;
	}
	queue->vector = fdev->vectors > 1 ? 1 + queue->hw % (fdev->vectors - 1) : 0;
	ret = hw_enable(queue);
	if (ret)
		goto out_unlock;
	fdev->queue[queue->hw] = queue;
	vector = &fdev->vector[queue->vector];
	spin_lock_irq(&vector->lock);
	list_add_tail(&queue->vector_link, &vector->queues);
	spin_unlock_irq(&vector->lock);
out_unlock:
	mutex_unlock(&fdev->queues_lock);
	return ret;
}

int flightllm_queue_new(struct flightllm_context *context, u32 id, u32 kind, u32 priority,
			u32 cores, u32 quantum_us, struct flightllm_queue **out)
{
	struct flightllm_device *fdev = context->fdev;
	struct drm_gpu_scheduler *sched;
	struct flightllm_queue *queue;
	int ret = -ENOMEM;

	queue = kzalloc(sizeof(*queue), GFP_KERNEL);
	if (!queue)
		return -ENOMEM;
	kref_init(&queue->kref);
	kref_init(&queue->shell);
	queue->fdev = fdev;
	kref_get(&context->kref);
	queue->context = context;
	queue->id = id;
	queue->owner = id ? THIS_MODULE : NULL;
	queue->kind = kind;
	queue->priority = priority;
	queue->cores = cores;
	queue->quantum_us = quantum_us ? quantum_us : QUANTUM_US;
	queue->fence_context = dma_fence_context_alloc(1);
	mutex_init(&queue->submit_lock);
	mutex_init(&queue->post_lock);
	spin_lock_init(&queue->lock);
	INIT_LIST_HEAD(&queue->vector_link);
	init_waitqueue_head(&queue->waiters);
	INIT_WORK(&queue->release, queue_release_work);
	snprintf(queue->name, sizeof(queue->name), "flightllm-queue-%u", id);
	queue->history = kvcalloc(FLIGHTLLM_HISTORY, sizeof(*queue->history), GFP_KERNEL);
	queue->rings = flightllm_mem_new(fdev, FLIGHTLLM_SLOTS *
					 (sizeof(struct flm_slot) + sizeof(struct flm_done)));
	queue->page = flightllm_mem_new(fdev, sizeof(struct flm_status_page));
	if (!queue->history || !queue->rings || !queue->page)
		goto out_free;
	queue->slots = queue->rings->cpu;
	queue->done = queue->rings->cpu + FLIGHTLLM_SLOTS * sizeof(struct flm_slot);
	queue->status = queue->page->cpu;

	ret = flightllm_sched_init(&queue->sched, &flightllm_sched_ops, fdev->submit_wq,
				   FLIGHTLLM_SLOTS, queue->name, fdev->drm.dev);
	if (ret)
		goto out_free;
	sched = &queue->sched;
	ret = drm_sched_entity_init(&queue->entity, DRM_SCHED_PRIORITY_NORMAL, &sched, 1, NULL);
	if (ret)
		goto out_fini_sched;
	ret = queue_attach(queue);
	if (ret)
		goto out_fini_entity;
	atomic_inc(&fdev->live_queues);
	if (!id)
		atomic_inc(&fdev->kernel_queues);
	drm_dev_get(&fdev->drm);
	__module_get(queue->owner);
	*out = queue;
	return 0;

out_fini_entity:
	drm_sched_entity_fini(&queue->entity);
out_fini_sched:
	drm_sched_fini(&queue->sched);
out_free:
	queue_free(queue);
	return ret;
}

void flightllm_queue_close(struct flightllm_queue *queue)
{
	struct flightllm_device *fdev = queue->fdev;
	struct flightllm_vector *vector = &fdev->vector[queue->vector];

	/* From here on SUBMIT finds it closed, so that nothing is pushed behind entity_fini(). */
	mutex_lock(&queue->submit_lock);
	queue->closed = true;
	mutex_unlock(&queue->submit_lock);

	mutex_lock(&fdev->queues_lock);
	/* The device may be unplugged already; until it is stopped the card has the queue. */
	flightllm_queue_kill(queue, FLM_STATUS_RESET, !fdev->stopped);
	spin_lock_irq(&vector->lock);
	list_del_init(&queue->vector_link);
	spin_unlock_irq(&vector->lock);
	fdev->queue[queue->hw] = NULL;
	mutex_unlock(&fdev->queues_lock);

	drm_sched_entity_fini(&queue->entity);
	flightllm_queue_put(queue);
}

static int queue_create_check(struct flightllm_device *fdev,
			      const struct drm_flightllm_queue_create *args)
{
	u32 cores = (1u << fdev->card.cores) - 1;

	if (args->kind > DRM_FLIGHTLLM_QUEUE_COPY || args->flags & ~DRM_FLIGHTLLM_QUEUE_USER ||
	    args->pad || args->reserved[0] || args->reserved[1] || args->reserved[2] ||
	    args->reserved[3])
		return -EINVAL;
	if (args->flags & DRM_FLIGHTLLM_QUEUE_USER)
		return -EOPNOTSUPP;
	if (args->cores & ~cores || (args->kind == DRM_FLIGHTLLM_QUEUE_COPY && args->cores))
		return -EINVAL;
	if (args->priority >= FLM_QUEUE_PRIORITIES || args->quantum_us > QUANTUM_MAX_US)
		return -EINVAL;
	if (args->priority == FLM_QUEUE_PRIORITIES - 1 && !capable(CAP_SYS_NICE))
		return -EACCES;
	return 0;
}

int flightllm_queue_create_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct flightllm_device *fdev = to_flightllm_device(drm);
	struct drm_flightllm_queue_create *args = data;
	struct flightllm_file *ffile = file->driver_priv;
	struct flightllm_context *context;
	struct flightllm_queue *queue;
	u32 cores = args->cores;
	int ret, idx;

	ret = queue_create_check(fdev, args);
	if (ret)
		return ret;
	if (!cores && args->kind == DRM_FLIGHTLLM_QUEUE_COMPUTE)
		cores = (1u << fdev->card.cores) - 1;
	if (!drm_dev_enter(drm, &idx))
		return -ENODEV;
	mutex_lock(&ffile->lock);
	context = flightllm_context_lookup(ffile, args->context);
	if (!context) {
		ret = -ENOENT;
		goto out_unlock;
	}
	/* The id first: the queue knows it from birth, and nobody finds it before it is whole. */
	ret = xa_alloc(&ffile->queues, &args->id, NULL, xa_limit_31b, GFP_KERNEL);
	if (ret)
		goto out_put_context;
	ret = flightllm_queue_new(context, args->id, args->kind, args->priority, cores,
				  args->quantum_us, &queue);
	if (ret) {
		xa_erase(&ffile->queues, args->id);
		goto out_put_context;
	}
	atomic_inc(&context->queues);
	xa_store(&ffile->queues, args->id, queue, GFP_KERNEL);
out_put_context:
	flightllm_context_put(context);
out_unlock:
	mutex_unlock(&ffile->lock);
	drm_dev_exit(idx);
	return ret;
}

int flightllm_queue_destroy_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_flightllm_queue_destroy *args = data;
	struct flightllm_file *ffile = file->driver_priv;
	struct flightllm_queue *queue;

	if (args->pad)
		return -EINVAL;
	mutex_lock(&ffile->lock);
	queue = xa_erase(&ffile->queues, args->id);
	if (queue)
		atomic_dec(&queue->context->queues);
	mutex_unlock(&ffile->lock);
	if (!queue)
		return -ENOENT;
	flightllm_queue_close(queue);
	return 0;
}
