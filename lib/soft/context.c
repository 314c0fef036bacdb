// SPDX-License-Identifier: MIT
/*
 * Contexts over a card in the process: which buffers a program may reach, as tables of segments.
 * The card reads a table when it likes, so a table never changes: each binding makes the next
 * generation, and one that no job uses any more is freed with what it kept alive.
 */
#include <endian.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include <drm/flightllm_accel.h>

#include "lib/soft/soft.h"

#define BINDINGS_MAX	4096
#define RIGHTS		(FLM_RIGHT_R | FLM_RIGHT_W | FLM_RIGHT_X)

struct soft_context *soft_context_find(struct soft *soft, uint32_t id)
{
	return id && id <= SOFT_CONTEXTS ? soft->contexts[id - 1] : NULL;
}

/* ---- Generations ---- */

static bool generation_is_used(struct soft *soft, const struct soft_context *context,
			       uint32_t number)
{
	if (number == context->generation)
		return true;
	for (unsigned int i = 0; i < SOFT_QUEUES; i++) {
		const struct soft_queue *queue = soft->queues[i];

		if (!queue || queue->context != context)
			continue;
		for (uint32_t slot = soft_queue_head(queue); slot != queue->tail; slot++)
			if (le32toh(queue->ring[slot % SOFT_SLOTS].generation) == number)
				return true;
	}
	return false;
}

static void put_bos(struct soft *soft, struct soft_generation *g)
{
	for (unsigned int i = 0; i < g->bo_count; i++)
		soft_bo_put(soft, g->bos[i]);
	g->bo_count = 0;
}

static void generation_free(struct soft *soft, struct soft_context *context,
			    struct soft_generation *g)
{
	if (!g->number)
		return;
	context->page[g->number % FLM_GENERATIONS].generation = 0;
	put_bos(soft, g);
	free(g->bos);
	soft_dma_free(soft, g->tables, soft->cores * FLM_SEGMENTS * sizeof(*g->tables));
	memset(g, 0, sizeof(*g));
}

void soft_retire(struct soft *soft, struct soft_context *context)
{
	for (unsigned int i = 0; i < FLM_GENERATIONS; i++) {
		struct soft_generation *g = &context->generations[i];

		if (g->number && !generation_is_used(soft, context, g->number))
			generation_free(soft, context, g);
	}
}

int soft_generation_make(struct soft *soft, struct soft_context *context)
{
	unsigned int rows = soft->cores * FLM_SEGMENTS;
	uint32_t number = context->generation + 1 ? context->generation + 1 : 1;
	struct soft_generation *g = &context->generations[number % FLM_GENERATIONS];
	struct flm_generation *row = &context->page[number % FLM_GENERATIONS];

	soft_retire(soft, context);
	if (g->number)
		return -EAGAIN;
	g->bos = calloc(rows, sizeof(*g->bos));
	g->tables = soft_dma_new(soft, rows * sizeof(*g->tables));
	if (!g->bos || !g->tables) {
		free(g->bos);
		soft_dma_free(soft, g->tables, rows * sizeof(*g->tables));
		memset(g, 0, sizeof(*g));
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < rows; i++) {
		const struct soft_binding *b = &context->now[i];
		unsigned int region;

		if (!b->bo)
			continue;
		b->bo->references++;
		g->bos[g->bo_count++] = b->bo;
		region = b->bo->region ? b->bo->region->id : FLM_REGION_HOST;
		g->tables[i] = (struct flm_segment_row) {
			.length = htole64(b->length),
			.blocks = htole64((uint64_t)region << FLM_BLOCK_REGION_SHIFT |
					  (b->bo->address + b->offset)),
			.count = htole32(1), .flags = FLM_SEGMENT_CONTIGUOUS,
			.rights = b->rights,
		};
	}
	g->number = number;
	row->tables = htole64((uintptr_t)g->tables);
	row->segments = htole32(FLM_SEGMENTS);
	__atomic_store_n(&row->generation, htole32(number), __ATOMIC_RELEASE);
	context->generation = number;
	soft_retire(soft, context);
	return 0;
}

void soft_generation_empty(struct soft *soft, struct soft_context *context)
{
	struct soft_generation *g = &context->generations[context->generation % FLM_GENERATIONS];

	memset(g->tables, 0, soft->cores * FLM_SEGMENTS * sizeof(*g->tables));
	put_bos(soft, g);
}

/* ---- Contexts ---- */

int soft_context_create(struct soft *soft, struct drm_flightllm_context_create *args)
{
	struct soft_context *context;
	unsigned int i;

	if (args->flags || args->reserved[0] || args->reserved[1])
		return -EINVAL;
	for (i = 0; i < SOFT_CONTEXTS && soft->contexts[i]; i++)
		;
	if (i == SOFT_CONTEXTS)
		return -ENOSPC;
	context = calloc(1, sizeof(*context));
	if (!context)
		return -ENOMEM;
	context->now = calloc(soft->cores * FLM_SEGMENTS, sizeof(*context->now));
	context->page = soft_dma_new(soft, 4096);
	if (!context->now || !context->page || soft_generation_make(soft, context)) {
		free(context->now);
		soft_dma_free(soft, context->page, 4096);
		free(context);
		return -ENOMEM;
	}
	context->id = i + 1;
	soft->contexts[i] = context;
	args->id = context->id;
	return 0;
}

void soft_context_free(struct soft *soft, struct soft_context *context)
{
	for (unsigned int i = 0; i < FLM_GENERATIONS; i++)
		generation_free(soft, context, &context->generations[i]);
	for (unsigned int i = 0; i < soft->cores * FLM_SEGMENTS; i++)
		soft_bo_put(soft, context->now[i].bo);
	soft_dma_free(soft, context->page, 4096);
	free(context->now);
	soft->contexts[context->id - 1] = NULL;
	free(context);
}

int soft_context_destroy(struct soft *soft, const struct drm_flightllm_context_destroy *args)
{
	struct soft_context *context = soft_context_find(soft, args->id);

	if (args->pad)
		return -EINVAL;
	if (!context || context == soft->own)
		return -ENOENT;
	if (context->queues)
		return -EBUSY;
	soft_context_free(soft, context);
	return 0;
}

/* 0 when a row of SEGMENT_BIND is as it must be. */
static int binding_check(struct soft *soft, const struct drm_flightllm_binding *b)
{
	struct soft_bo *bo = soft_bo_find(soft, b->handle);
	uint64_t block;

	if (b->segment >= FLM_SEGMENTS || b->reserved ||
	    (b->core >= soft->cores && b->core != DRM_FLIGHTLLM_CORE_ALL))
		return -EINVAL;
	if (!b->handle)
		return b->rights || b->offset || b->length ? -EINVAL : 0;
	if (!bo)
		return -ENOENT;
	block = bo->region ? bo->region->block : FLM_HOST_BLOCK;
	if (!b->rights || b->rights & ~RIGHTS || b->offset % block || !b->length ||
	    b->offset > bo->bytes || b->length > bo->bytes - b->offset)
		return -EINVAL;
	return 0;
}

static void binding_apply(struct soft *soft, struct soft_context *context,
			  const struct drm_flightllm_binding *b)
{
	struct soft_bo *bo = soft_bo_find(soft, b->handle);

	for (unsigned int core = 0; core < soft->cores; core++) {
		struct soft_binding *now = &context->now[core * FLM_SEGMENTS + b->segment];

		if (b->core != core && b->core != DRM_FLIGHTLLM_CORE_ALL)
			continue;
		if (bo)
			bo->references++;
		soft_bo_put(soft, now->bo);
		*now = (struct soft_binding) {
			.bo = bo, .offset = b->offset, .length = b->length, .rights = b->rights,
		};
	}
}

int soft_segment_bind(struct soft *soft, struct drm_flightllm_segment_bind *args)
{
	struct soft_context *context = soft_context_find(soft, args->context);
	unsigned int rows = soft->cores * FLM_SEGMENTS;
	struct soft_binding *before;
	struct drm_flightllm_binding b;
	int ret;

	if (args->flags || args->pad || !args->count || args->count > BINDINGS_MAX || !args->stride)
		return -EINVAL;
	if (!context)
		return -ENOENT;
	for (uint32_t i = 0; i < args->count; i++) {
		ret = soft_array_row(args->bindings, args->stride, i, &b, sizeof(b));
		if (!ret)
			ret = binding_check(soft, &b);
		if (ret)
			return ret;
	}
	before = malloc(rows * sizeof(*before));
	if (!before)
		return -ENOMEM;
	memcpy(before, context->now, rows * sizeof(*before));
	for (unsigned int i = 0; i < rows; i++)
		if (before[i].bo)
			before[i].bo->references++;
	for (uint32_t i = 0; i < args->count; i++) {
		soft_array_row(args->bindings, args->stride, i, &b, sizeof(b));
		binding_apply(soft, context, &b);
	}
	ret = soft_generation_make(soft, context);
	if (ret) {
		for (unsigned int i = 0; i < rows; i++)
			soft_bo_put(soft, context->now[i].bo);
		memcpy(context->now, before, rows * sizeof(*before));
	} else {
		for (unsigned int i = 0; i < rows; i++)
			soft_bo_put(soft, before[i].bo);
		args->generation = context->generation;
	}
	free(before);
	return ret;
}

int soft_fault_query(struct soft *soft, struct drm_flightllm_fault_query *args)
{
	struct soft_context *context = soft_context_find(soft, args->context);
	uint32_t flags = args->flags;

	if (flags & ~DRM_FLIGHTLLM_FAULT_CLEAR || args->eventfd || args->reserved[0] ||
	    args->reserved[1])
		return -EINVAL;
	if (!context)
		return -ENOENT;
	*args = (struct drm_flightllm_fault_query) {
		.context = args->context, .flags = flags, .count = context->faults,
		.queue = context->fault_queue, .seqno = le64toh(context->fault.seqno),
	};
	if (context->faults)
		args->fault = (struct drm_flightllm_fault) {
			.kind = context->fault.fault, .core = context->fault.core,
			.unit = context->fault.unit, .entry = context->fault.entry,
			.word = le32toh(context->fault.word),
			.segment = le32toh(context->fault.segment),
			.offset = le64toh(context->fault.offset),
		};
	if (flags & DRM_FLIGHTLLM_FAULT_CLEAR) {
		context->faults = 0;
		context->fault_queue = 0;
		memset(&context->fault, 0, sizeof(context->fault));
	}
	return 0;
}
