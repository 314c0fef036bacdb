// SPDX-License-Identifier: MIT
/* Contexts, queues and jobs: thin wrappers, an ioctl each. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <drm/flightllm_accel.h>
#include <flightllm/regs.h>

#include "lib/internal.h"

struct flm_context {
	struct flm_device *device;
	uint32_t id;
};

struct flm_queue {
	struct flm_device *device;
	uint32_t id;
};

#define BINDINGS_MAX	64
#define JOBS_MAX	64

PUBLIC int flm_context_new(struct flm_device *device, struct flm_context **context)
{
	struct drm_flightllm_context_create create = { 0 };
	struct flm_context *c = calloc(1, sizeof(*c));
	int ret;

	*context = NULL;
	if (!c)
		return flm_fail(-ENOMEM, "no memory for a context");
	ret = device_ask(device, DRM_IOCTL_FLIGHTLLM_CONTEXT_CREATE, &create, "CONTEXT_CREATE");
	if (ret) {
		free(c);
		return ret;
	}
	c->device = device;
	c->id = create.id;
	*context = c;
	return 0;
}

PUBLIC void flm_context_free(struct flm_context *context)
{
	struct drm_flightllm_context_destroy destroy = { 0 };

	if (!context)
		return;
	destroy.id = context->id;
	context->device->seam.ioctl(context->device->seam.handle,
				    DRM_IOCTL_FLIGHTLLM_CONTEXT_DESTROY, &destroy);
	free(context);
}

PUBLIC int flm_context_bind(struct flm_context *context, const struct flm_binding *bindings,
			    unsigned int count)
{
	struct drm_flightllm_binding rows[BINDINGS_MAX] = { 0 };
	struct drm_flightllm_segment_bind bind = {
		.context = context->id, .bindings = (uintptr_t)rows, .count = count,
		.stride = sizeof(rows[0]),
	};

	if (count > BINDINGS_MAX)
		return flm_fail(-EINVAL, "%u bindings in one call: too many; give at most %d",
				count, BINDINGS_MAX);
	for (unsigned int i = 0; i < count; i++) {
		rows[i].segment = bindings[i].segment;
		rows[i].core = bindings[i].core;
		if (!bindings[i].bo)
			continue;
		if (bo_is_lost(bindings[i].bo))
			return flm_fail(-ECANCELED, "%s: " RESET_TEXT, context->device->node);
		rows[i].handle = bindings[i].bo->handle;
		rows[i].rights = bindings[i].rights;
		rows[i].offset = bindings[i].offset;
		rows[i].length = bindings[i].bytes;
	}
	return device_ask(context->device, DRM_IOCTL_FLIGHTLLM_SEGMENT_BIND, &bind, "SEGMENT_BIND");
}

bool context_is_lost(const struct flm_context *context)
{
	struct drm_flightllm_fault_query query = { .context = context->id };
	struct seam *seam = &context->device->seam;

	return !seam->ioctl(seam->handle, DRM_IOCTL_FLIGHTLLM_FAULT_QUERY, &query) && query.lost;
}

int context_unbind(struct flm_context *context, unsigned int segment)
{
	struct drm_flightllm_binding row = {
		.segment = segment, .core = DRM_FLIGHTLLM_CORE_ALL,
	};
	struct drm_flightllm_segment_bind bind = {
		.context = context->id, .bindings = (uintptr_t)&row, .count = 1,
		.stride = sizeof(row),
	};
	struct seam *seam = &context->device->seam;

	return seam->ioctl(seam->handle, DRM_IOCTL_FLIGHTLLM_SEGMENT_BIND, &bind);
}

static int queue_new(struct flm_context *context, struct drm_flightllm_queue_create *create,
		     struct flm_queue **queue)
{
	struct flm_queue *q = calloc(1, sizeof(*q));
	int ret;

	*queue = NULL;
	if (!q)
		return flm_fail(-ENOMEM, "no memory for a queue");
	create->context = context->id;
	ret = device_ask(context->device, DRM_IOCTL_FLIGHTLLM_QUEUE_CREATE, create, "QUEUE_CREATE");
	if (ret == -ENOSPC)
		flm_fail(ret, "all queues of %s are taken; end a program that uses it",
			 context->device->node);
	if (ret == -EACCES)
		flm_fail(ret, "priority %u needs CAP_SYS_NICE; use a lower one", create->priority);
	if (ret) {
		free(q);
		return ret;
	}
	q->device = context->device;
	q->id = create->id;
	*queue = q;
	return 0;
}

PUBLIC int flm_queue_new(struct flm_context *context, uint32_t cores, unsigned int priority,
			 struct flm_queue **queue)
{
	struct drm_flightllm_queue_create create = {
		.kind = DRM_FLIGHTLLM_QUEUE_COMPUTE, .cores = cores, .priority = priority,
	};

	*queue = NULL;
	if (priority >= FLM_QUEUE_PRIORITIES)
		return flm_fail(-EINVAL, "unknown priority %u; give 0 to %d",
				priority, FLM_QUEUE_PRIORITIES - 1);
	return queue_new(context, &create, queue);
}

int queue_new_copy(struct flm_context *context, struct flm_queue **queue)
{
	struct drm_flightllm_queue_create create = {
		.kind = DRM_FLIGHTLLM_QUEUE_COPY, .priority = 1,
	};

	return queue_new(context, &create, queue);
}

PUBLIC void flm_queue_free(struct flm_queue *queue)
{
	struct drm_flightllm_queue_destroy destroy = { 0 };

	if (!queue)
		return;
	destroy.id = queue->id;
	queue->device->seam.ioctl(queue->device->seam.handle, DRM_IOCTL_FLIGHTLLM_QUEUE_DESTROY,
				  &destroy);
	free(queue);
}

static int submit(struct flm_queue *queue, const struct drm_flightllm_job *jobs,
		  unsigned int count, uint64_t *seqno)
{
	struct drm_flightllm_submit submit = {
		.queue = queue->id, .jobs = (uintptr_t)jobs, .job_count = count,
		.job_stride = sizeof(jobs[0]),
	};
	int ret = device_ask(queue->device, DRM_IOCTL_FLIGHTLLM_SUBMIT, &submit, "SUBMIT");

	if (ret == -E2BIG)
		flm_fail(ret, "%s: the job has more preemption points than the driver allows now; ask for "
			 "fewer tokens at a time", queue->device->node);
	*seqno = ret ? 0 : submit.seqno;
	return ret;
}

PUBLIC int flm_queue_submit(struct flm_queue *queue, const struct flm_job *jobs,
			    unsigned int count, uint64_t *seqno)
{
	struct drm_flightllm_job rows[JOBS_MAX] = { 0 };

	if (!count || count > JOBS_MAX)
		return flm_fail(-EINVAL, "%u jobs in one call: not possible; give 1 to %d", count,
				JOBS_MAX);
	for (unsigned int i = 0; i < count; i++) {
		rows[i].op = DRM_FLIGHTLLM_JOB_RUN;
		rows[i].program_segment = jobs[i].program_segment;
		rows[i].job_segment = jobs[i].job_segment;
		rows[i].program_offset = jobs[i].program_offset;
		rows[i].job_offset = jobs[i].job_offset;
		rows[i].max_points = jobs[i].max_points;
	}
	return submit(queue, rows, count, seqno);
}

int queue_copy(struct flm_queue *queue, unsigned int src_segment, uint64_t src_offset,
	       unsigned int dst_segment, uint64_t dst_offset, uint64_t bytes, uint64_t *seqno)
{
	struct drm_flightllm_job job = {
		.op = DRM_FLIGHTLLM_JOB_COPY, .src_segment = src_segment, .src_offset = src_offset,
		.dst_segment = dst_segment, .dst_offset = dst_offset, .bytes = bytes,
	};

	return submit(queue, &job, 1, seqno);
}

static int64_t deadline(int64_t timeout_ns)
{
	struct timespec now;
	int64_t ns;

	clock_gettime(CLOCK_MONOTONIC, &now);
	ns = now.tv_sec * 1000000000ll + now.tv_nsec;
	return timeout_ns > INT64_MAX - ns ? INT64_MAX : ns + timeout_ns;
}

PUBLIC int flm_queue_wait(struct flm_queue *queue, uint64_t seqno, unsigned int tokens,
			  int64_t timeout_ns, struct flm_completion *completion)
{
	struct drm_flightllm_wait wait = {
		.queue = queue->id, .seqno = seqno, .tokens = tokens,
		.timeout_ns = deadline(timeout_ns),
	};
	int ret;

	do {
		ret = device_ask(queue->device, DRM_IOCTL_FLIGHTLLM_WAIT, &wait, "WAIT");
	} while (ret == -EINTR);
	if (ret && ret != -ETIME)
		return ret;
	if (completion)
		*completion = (struct flm_completion) {
			.status = wait.status, .made = wait.made, .points = wait.points,
			.started_us = wait.started_us, .ended_us = wait.ended_us,
			.fault = {
				.kind = wait.fault.kind, .core = wait.fault.core,
				.unit = wait.fault.unit, .word = wait.fault.word,
				.segment = wait.fault.segment, .offset = wait.fault.offset,
			},
		};
	return ret ? flm_fail(ret, "job %llu: has not ended yet; wait longer",
			      (unsigned long long)seqno) : 0;
}

PUBLIC int flm_queue_stop(struct flm_queue *queue, uint64_t seqno)
{
	struct drm_flightllm_stop stop = { .queue = queue->id, .seqno = seqno };

	return device_ask(queue->device, DRM_IOCTL_FLIGHTLLM_STOP, &stop, "STOP");
}
