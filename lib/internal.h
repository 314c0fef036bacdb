/* SPDX-License-Identifier: MIT */
/*
 * What the files of the library share: the seam to a driver, the objects, errors.
 *
 * The seam is the driver's contract, drm/flightllm_accel.h, and nothing else: one function that
 * answers ioctls and one that maps. lib/drm.c asks the kernel; lib/soft.c answers the same
 * structures over a card in the process. Above it nobody knows which of the two it is.
 */
#ifndef LIB_INTERNAL_H
#define LIB_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "lib/flightllm.h"

#define PUBLIC __attribute__((visibility("default")))

/* Sets the calling thread's error text and returns `error`. */
__attribute__((format(printf, 2, 3))) int flm_fail(int error, const char *format, ...);

/* CRC32C of bytes that follow those whose CRC is `before` (0 at the start). Any thread. */
uint32_t flm_crc32c(uint32_t before, const void *memory, size_t bytes);

/* flm_tokenizer_new() with its own place for the error's text. */
int flm_tokenizer_load(const void *model, size_t bytes, char *text, size_t text_bytes,
		       struct flm_tokenizer **tokenizer);

struct seam {
	/* 0 or -errno; request and argument as the DRM_IOCTL_ constants say. Any thread. */
	int (*ioctl)(void *handle, unsigned long request, void *argument);
	/* A buffer by the offset that BO_MMAP_OFFSET gave, or MAP_FAILED with errno. */
	void *(*map)(void *handle, uint64_t offset, uint64_t bytes);
	void (*close)(void *handle);
	void *handle;
};

/* name: node, number or PCI address; NULL the first card. */
int drm_open(const char *name, struct seam *seam, char node[FLM_NAME_BYTES],
	     char bus[FLM_NAME_BYTES]);

/* profile: "u280" and its like. */
int soft_open(const char *profile, struct seam *seam);

struct flm_bo {
	struct flm_device *device;
	uint32_t handle;
	uint64_t bytes;
	enum flm_placement placement;
	unsigned int core;
	void *memory;			/* the CPU's view, once mapped */
};

/* What flm_bo_write() and _read() need; made on first use. */
struct copy {
	struct flm_context *context;
	struct flm_queue *queue;
	struct flm_bo *staging;
	struct flm_bo *target;		/* bound as the target segment, or NULL */
};

struct flm_device {
	struct seam seam;
	char node[FLM_NAME_BYTES], bus[FLM_NAME_BYTES];
	bool is_soft;
	unsigned int max_points;	/* preemption points a job may ask for */
	pthread_mutex_t lock;		/* of copy */
	struct copy copy;
};

/*
 * An ioctl by name; its failure becomes the error's text, and a card that is gone or has failed is
 * -ECANCELED whatever the call.
 */
int device_ask(struct flm_device *device, unsigned long request, void *argument, const char *name);

void copy_fini(struct flm_device *device);

/* A copy queue, and one copy in it; segments as core 0 sees them. */
int queue_new_copy(struct flm_context *context, struct flm_queue **queue);
int queue_copy(struct flm_queue *queue, unsigned int src_segment, uint64_t src_offset,
	       unsigned int dst_segment, uint64_t dst_offset, uint64_t bytes, uint64_t *seqno);

#define MODEL_BINDINGS_MAX 16

/* A loaded model: its buffers, shared by all of its sessions. */
struct flm_model {
	struct flm_device *device;
	struct flm_model_info info;
	char *notes;
	struct flm_tokenizer *tokenizer;
	struct flm_bo *bo[MODEL_BINDINGS_MAX];
	struct flm_binding binding[MODEL_BINDINGS_MAX];	/* of every context that runs it */
	unsigned int bindings;
	uint32_t page_bytes[8];		/* of a KV page, by core */
	unsigned int max_points;	/* preemption points a job may ask for */
};

#endif
