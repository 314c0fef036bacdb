// SPDX-License-Identifier: GPL-2.0
/*
 * WAIT and STOP. What has ended is in the queue's history; what runs says its tokens in the status
 * page that the card keeps. No register is read.
 */
#include <linux/sched/signal.h>

#include <drm/drm_utils.h>

#include "flightllm_queue.h"

static void end_to_user(const struct flightllm_end *end, struct drm_flightllm_wait *args)
{
	const struct flm_done *done = &end->done;

	args->status = le32_to_cpu(done->status);
	args->points = le32_to_cpu(done->points);
	args->started_us = le64_to_cpu(done->started_us);
	args->ended_us = le64_to_cpu(done->ended_us);
	args->cycles = le64_to_cpu(done->cycles);
	args->submitted_ns = end->submitted_ns;
	args->finished_ns = end->finished_ns;
	flightllm_fault_to_user(done, &args->fault);
}

static void wait_clear(struct drm_flightllm_wait *args)
{
	args->status = DRM_FLIGHTLLM_STATUS_RUNNING;
	args->made = 0;
	args->value = 0;
	args->points = 0;
	args->started_us = 0;
	args->ended_us = 0;
	args->cycles = 0;
	args->submitted_ns = 0;
	args->finished_ns = 0;
	args->started_ns = 0;
	args->ended_ns = 0;
	memset(&args->fault, 0, sizeof(args->fault));
}

/* Fills in what is known; 1: what was waited for is so, 0: not yet, or -ESTALE. */
static int wait_look(struct flightllm_queue *queue, struct drm_flightllm_wait *args)
{
	const struct flightllm_end *end = &queue->history[args->seqno % FLIGHTLLM_HISTORY];
	u64 running;
	u32 tokens;
	int ret = 0;

	spin_lock_irq(&queue->lock);
	if (le64_to_cpu(end->done.seqno) == args->seqno) {
		end_to_user(end, args);
		if (queue->kind == FLM_QUEUE_COMPUTE)
			args->made = le32_to_cpu(end->done.value);
		else
			args->value = le32_to_cpu(end->done.value);
		ret = 1;
	} else if (le64_to_cpu(end->done.seqno) > args->seqno) {
		ret = -ESTALE;
	} else if (!queue->dead && queue->kind == FLM_QUEUE_COMPUTE) {
		/* The count belongs to the job that is running; look twice, it may have changed. */
		running = le64_to_cpu(READ_ONCE(queue->status->running));
		dma_rmb();
		tokens = le32_to_cpu(READ_ONCE(queue->status->made));
		dma_rmb();
		if (running == args->seqno &&
		    running == le64_to_cpu(READ_ONCE(queue->status->running)))
			args->made = max(args->made, tokens);
		ret = args->tokens && args->made >= args->tokens;
	}
	spin_unlock_irq(&queue->lock);
	return ret;
}

/* The queue to which the job was submitted, with a reference; -ENOENT, or -EINVAL: no such job. */
static struct flightllm_queue *queue_of_job(struct flightllm_file *ffile, u32 id, u64 seqno)
{
	struct flightllm_queue *queue = flightllm_queue_lookup(ffile, id);

	if (!queue)
		return ERR_PTR(-ENOENT);
	if (!seqno || seqno > READ_ONCE(queue->seqno)) {
		flightllm_queue_put(queue);
		return ERR_PTR(-EINVAL);
	}
	return queue;
}

int flightllm_wait_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_flightllm_wait *args = data;
	struct flightllm_file *ffile = file->driver_priv;
	struct flightllm_queue *queue;
	long left;
	int ret;

	if (args->flags || args->pad || args->reserved[0] || args->reserved[1])
		return -EINVAL;
	queue = queue_of_job(ffile, args->queue, args->seqno);
	if (IS_ERR(queue))
		return PTR_ERR(queue);
	wait_clear(args);
	ret = wait_look(queue, args);
	if (!ret && args->timeout_ns > 0) {
		left = drm_timeout_abs_to_jiffies(args->timeout_ns);
		left = wait_event_interruptible_timeout(queue->waiters,
							(ret = wait_look(queue, args)) != 0, left);
		if (!ret && left < 0)
			ret = left;
	}
	if (!ret)
		ret = -ETIME;
	if (ret > 0)
		ret = 0;
	flightllm_queue_put(queue);
	return ret;
}

int flightllm_stop_ioctl(struct drm_device *drm, void *data, struct drm_file *file)
{
	struct drm_flightllm_stop *args = data;
	struct flightllm_file *ffile = file->driver_priv;
	struct flightllm_queue *queue;

	if (args->pad)
		return -EINVAL;
	queue = queue_of_job(ffile, args->queue, args->seqno);
	if (IS_ERR(queue))
		return PTR_ERR(queue);
	spin_lock_irq(&queue->lock);
	if (!queue->dead && le64_to_cpu(queue->status->stop) < args->seqno)
		WRITE_ONCE(queue->status->stop, cpu_to_le64(args->seqno));
	spin_unlock_irq(&queue->lock);
	flightllm_queue_put(queue);
	return 0;
}
