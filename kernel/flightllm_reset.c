// SPDX-License-Identifier: GPL-2.0
/*
 * Looking after the card: hung queues, a dead card, events, resets. Time here is card time: a job
 * is hung when its queue has been busy for two seconds without a preemption point, however slow
 * the card or its emulator is; the card is dead when its heartbeat stands still for ten seconds by
 * the clock. All of it runs on one ordered workqueue, so that two remedies never meet; while the
 * PCI core resets the card itself there is none.
 */
#include <linux/kobject.h>

#include <drm/drm_file.h>

#include "flightllm_job.h"
#include "flightllm_trace.h"

#define WATCH_PERIOD	HZ
#define HUNG_US		(2 * USEC_PER_SEC)
#define DEAD		(10 * HZ)

enum verdict { VERDICT_FINE, VERDICT_HUNG, VERDICT_HALTED, VERDICT_DEAD };

void flightllm_reset_watch(struct flightllm_device *fdev)
{
	queue_delayed_work(fdev->reset_wq, &fdev->watch, WATCH_PERIOD);
}

void flightllm_reset_card(struct flightllm_device *fdev)
{
	queue_work(fdev->reset_wq, &fdev->reset_work);
}

/* May a remedy begin? If so, drm_dev_exit(*idx) is its end. */
static bool enter(struct flightllm_device *fdev, int *idx)
{
	if (!drm_dev_enter(&fdev->drm, idx))
		return false;
	if (!READ_ONCE(fdev->held))
		return true;
	drm_dev_exit(*idx);
	return false;
}

static enum verdict judge(struct flightllm_queue *queue)
{
	const struct flm_status_page *status = queue->status;
	u64 points = le64_to_cpu(READ_ONCE(status->points));
	u64 busy_us = le64_to_cpu(READ_ONCE(status->busy_us));
	u64 heartbeat_us = le64_to_cpu(READ_ONCE(status->heartbeat_us));

	if (READ_ONCE(status->error))
		return VERDICT_HALTED;
	if (!queue->watch.armed || heartbeat_us != queue->watch.heartbeat_us)
		queue->watch.changed = jiffies;
	queue->watch.heartbeat_us = heartbeat_us;
	/* The end of a job is no point; its time does not count for the next point. */
	if (!queue->watch.armed || points != queue->watch.points ||
	    queue->reaped != queue->watch.reaped) {
		queue->watch.armed = true;
		queue->watch.points = points;
		queue->watch.reaped = queue->reaped;
		queue->watch.busy_us = busy_us;
	}
	if (busy_us - queue->watch.busy_us > HUNG_US)
		return VERDICT_HUNG;
	if (time_after(jiffies, queue->watch.changed + DEAD))
		return VERDICT_DEAD;
	return VERDICT_FINE;
}

/* Takes in what a lost interrupt would have told, and judges what is left. */
static enum verdict look_at(struct flightllm_queue *queue)
{
	enum verdict verdict = VERDICT_FINE;

	flightllm_queue_reap(queue);
	spin_lock_irq(&queue->lock);
	if (queue->dead || queue->reaped == queue->tail)
		queue->watch.armed = false;
	else
		verdict = judge(queue);
	spin_unlock_irq(&queue->lock);
	return verdict;
}

static bool card_is_alive(struct flightllm_device *fdev)
{
	return flightllm_read(fdev, FLM_REG_MAGIC) != ~0u &&
	       flightllm_read(fdev, FLM_REG_RESETS) == fdev->resets_seen;
}

static void watch_work(struct work_struct *work)
{
	struct flightllm_device *fdev = container_of(work, struct flightllm_device, watch.work);
	static const char * const why[] = {
		[VERDICT_HUNG] = "is hung", [VERDICT_HALTED] = "has halted",
	};
	unsigned int i;
	int idx;

	if (!enter(fdev, &idx))
		return;
	mutex_lock(&fdev->queues_lock);
	for (i = 0; i < fdev->card.queues; i++) {
		struct flightllm_queue *queue = fdev->queue[i];
		enum verdict verdict = queue ? look_at(queue) : VERDICT_FINE;

		if (verdict == VERDICT_FINE)
			continue;
		if (verdict == VERDICT_DEAD || !card_is_alive(fdev)) {
			drm_err(&fdev->drm, "card is dead: no heartbeat on queue %u\n", i);
			flightllm_reset_card(fdev);
			break;
		}
		drm_err(&fdev->drm, "queue %u %s, error %u: resetting it\n", i, why[verdict],
			le32_to_cpu(READ_ONCE(queue->status->error)));
		if (flightllm_queue_reset(queue)) {
			flightllm_reset_card(fdev);
			break;
		}
	}
	mutex_unlock(&fdev->queues_lock);
	if (atomic_read(&fdev->in_flight))
		flightllm_reset_watch(fdev);
	drm_dev_exit(idx);
}

static void event_work(struct work_struct *work)
{
	struct flightllm_device *fdev = container_of(work, struct flightllm_device, event_work);
	u32 events;
	int idx;

	if (!enter(fdev, &idx))
		return;
	events = flightllm_read(fdev, FLM_REG_EVENTS);
	if (events == ~0u)
		goto out_exit;
	flightllm_write(fdev, FLM_REG_EVENTS, events);
	if (FLM_REG_GET(events, EVENTS, UNCORRECTED))
		drm_err_ratelimited(&fdev->drm, "uncorrected memory error\n");
	if (FLM_REG_GET(events, EVENTS, THERMAL))
		drm_err_ratelimited(&fdev->drm, "card is too hot: %u millidegrees\n",
				    flightllm_read(fdev, FLM_REG_TEMPERATURE));
	if (FLM_REG_GET(events, EVENTS, FAILED))
		flightllm_reset_card(fdev);
	/* A halted queue says so in its status page; this makes the watch look now. */
	if (FLM_REG_GET(events, EVENTS, QUEUE))
		mod_delayed_work(fdev->reset_wq, &fdev->watch, 0);
out_exit:
	drm_dev_exit(idx);
}

/* The uevent that newer kernels send through drm_dev_wedged_event(). */
static void tell_wedged(struct flightllm_device *fdev)
{
	char wedged[] = "WEDGED=rebind";
	char *env[2] = { wedged };

	if (fdev->drm.accel && fdev->drm.accel->kdev)
		kobject_uevent_env(&fdev->drm.accel->kdev->kobj, KOBJ_CHANGE, env);
}

void flightllm_reset_lose_everything(struct flightllm_device *fdev, bool tell)
{
	unsigned int i;

	lockdep_assert_held(&fdev->queues_lock);
	WRITE_ONCE(fdev->epoch, fdev->epoch + 1);
	/* Wakes clients that wait for room in a context's tables. */
	wake_up_all(&fdev->row_free);
	for (i = 0; i < fdev->card.queues; i++)
		if (fdev->queue[i])
			flightllm_queue_kill(fdev->queue[i], FLM_STATUS_LOST, tell);
}

static int restart(struct flightllm_device *fdev)
{
	struct flightllm_context *context, *old_context;
	struct flightllm_queue *queue, *old_queue;
	int ret;

	if (fdev->vectors > 1)
		flightllm_write(fdev, FLM_REG_EVENT_ENABLE, ~0u);
	context = flightllm_context_new_kernel(fdev);
	if (IS_ERR(context))
		return PTR_ERR(context);
	ret = flightllm_queue_new(context, 0, FLM_QUEUE_COPY, FLM_QUEUE_PRIORITIES - 1, 0, 0,
				  &queue);
	if (ret) {
		flightllm_context_close(context);
		flightllm_context_put(context);
		return ret;
	}
	mutex_lock(&fdev->queues_lock);
	old_queue = fdev->kernel_queue;
	old_context = fdev->kernel_context;
	fdev->kernel_queue = queue;
	fdev->kernel_context = context;
	mutex_unlock(&fdev->queues_lock);
	flightllm_queue_close(old_queue);
	flightllm_context_close(old_context);
	flightllm_context_put(old_context);
	return 0;
}

/* For good. Before any fence says so: who hears of it must not be told to try again. */
static void fail(struct flightllm_device *fdev)
{
	lockdep_assert_held(&fdev->queues_lock);
	pci_clear_master(fdev->pdev);
	WRITE_ONCE(fdev->failed, true);
}

/* The card was reset (ret 0) or could not be; every queue is dead. 0, or it has failed for good. */
static int come_back(struct flightllm_device *fdev, int ret)
{
	if (!ret) {
		pci_set_master(fdev->pdev);
		fdev->resets_seen = flightllm_read(fdev, FLM_REG_RESETS);
		ret = restart(fdev);
	}
	mutex_lock(&fdev->queues_lock);
	if (ret)
		fail(fdev);
	WRITE_ONCE(fdev->resetting, false);
	mutex_unlock(&fdev->queues_lock);
	if (ret) {
		drm_err(&fdev->drm,
			"card did not come back: unbind the driver and reset the card\n");
		tell_wedged(fdev);
	}
	return ret;
}

static void reset_work(struct work_struct *work)
{
	struct flightllm_device *fdev = container_of(work, struct flightllm_device, reset_work);
	int idx, ret;

	if (!enter(fdev, &idx))
		return;
	mutex_lock(&fdev->queues_lock);
	if (fdev->failed) {
		mutex_unlock(&fdev->queues_lock);
		goto out_exit;
	}
	drm_err(&fdev->drm, "resetting the card: all contexts are lost\n");
	WRITE_ONCE(fdev->resetting, true);
	atomic_inc(&fdev->card_resets);
	ret = flightllm_device_reset(fdev);
	if (ret)
		fail(fdev);
	trace_flightllm_card_reset(ret);
	flightllm_reset_lose_everything(fdev, false);
	mutex_unlock(&fdev->queues_lock);
	come_back(fdev, ret);
out_exit:
	drm_dev_exit(idx);
}

void flightllm_reset_prepare(struct flightllm_device *fdev)
{
	int idx;

	if (!drm_dev_enter(&fdev->drm, &idx))
		return;
	/* A remedy under way comes to its end, and none begins. */
	WRITE_ONCE(fdev->held, true);
	flush_workqueue(fdev->reset_wq);
	mutex_lock(&fdev->queues_lock);
	WRITE_ONCE(fdev->resetting, true);
	atomic_inc(&fdev->card_resets);
	flightllm_reset_lose_everything(fdev, true);
	mutex_unlock(&fdev->queues_lock);
	drm_dev_exit(idx);
}

int flightllm_reset_done(struct flightllm_device *fdev)
{
	int idx, ret;

	if (!drm_dev_enter(&fdev->drm, &idx))
		return -ENODEV;
	mutex_lock(&fdev->queues_lock);
	ret = flightllm_device_wait_ready(fdev);
	/*
	 * The PCI core says so, and the card may sleep without being reset; but a queue that did
	 * not stop must, before it can reach memory again.
	 */
	if (!ret && flightllm_read(fdev, FLM_REG_RESETS) == fdev->resets_seen)
		ret = flightllm_device_reset(fdev);
	/* Somebody reset a card that had been given up: it may have another try. */
	if (!ret)
		WRITE_ONCE(fdev->failed, false);
	mutex_unlock(&fdev->queues_lock);
	ret = come_back(fdev, ret);
	flightllm_reset_go(fdev);
	drm_dev_exit(idx);
	return ret;
}

void flightllm_reset_go(struct flightllm_device *fdev)
{
	WRITE_ONCE(fdev->held, false);
	/* Jobs and events that came meanwhile were not looked at. */
	flightllm_reset_watch(fdev);
	queue_work(fdev->reset_wq, &fdev->event_work);
}

void flightllm_reset_init(struct flightllm_device *fdev)
{
	fdev->held = true;
	INIT_DELAYED_WORK(&fdev->watch, watch_work);
	INIT_WORK(&fdev->event_work, event_work);
	INIT_WORK(&fdev->reset_work, reset_work);
}

void flightllm_reset_fini(struct flightllm_device *fdev)
{
	/* Unplugged or held: none of them does anything any more, or starts another. */
	cancel_work_sync(&fdev->event_work);
	cancel_work_sync(&fdev->reset_work);
	cancel_delayed_work_sync(&fdev->watch);
}
