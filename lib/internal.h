/* SPDX-License-Identifier: MIT */
/*
 * What the files of the library share: the seam to a driver, the objects, errors.
 *
 * The seam is the driver's contract, drm/flightllm_accel.h, and nothing else: one function that
 * answers ioctls and one that maps. lib/drm.c asks the kernel; lib/soft answers the same
 * structures over a card in the process. Above it nobody knows which of the two it is.
 */
#ifndef LIB_INTERNAL_H
#define LIB_INTERNAL_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <flightllm/file.h>

#include "lib/flightllm.h"

#define PUBLIC __attribute__((visibility("default")))

/* Sets the calling thread's error text and returns `error`. */
__attribute__((format(printf, 2, 3))) int flm_fail(int error, const char *format, ...);

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

/* flm_pci_list() of the folder that is /sys/bus/pci. */
int pci_list(const char *sysfs, struct flm_pci_info *rows, unsigned int max);

/*
 * -ENODEV if there is a card (at this PCI address unless NULL) that the driver does not own; the
 * error's text says how to give it to the driver. 0: there is none.
 */
int pci_without_driver(const char *bus);

/* profile: "u280" and its like. */
int soft_open(const char *profile, struct seam *seam);

struct flm_bo {
	struct flm_device *device;
	uint32_t handle;
	uint64_t bytes;
	enum flm_placement placement;
	unsigned int core;
	unsigned int epoch;		/* the device's when it was made */
	void *memory;			/* the CPU's view, once mapped */
};

/* Objects of flm_bo_write() and _read(), made with the first buffer in card memory. */
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
	pthread_mutex_t asking;		/* one at a time: the next question ends an answer */
	unsigned int points;		/* that a job may ask for, as last told; atomic */
	pthread_mutex_t lock;		/* of copy, and of buffers being mapped */
	struct copy copy;
	/*
	 * Resets of the card that were noticed; atomic. The copies' context shows them, which is
	 * older than any buffer in card memory: what was made before one has lost its bytes.
	 */
	unsigned int epoch;
};

/* The end of every error that a reset of the card causes. */
#define RESET_TEXT "the card was reset and what its memory held is lost; load the model again"

/*
 * An ioctl by name. A failure sets the error's text. A card that is gone or has failed is
 * -ECANCELED for every call.
 */
int device_ask(struct flm_device *device, unsigned long request, void *argument, const char *name);

/*
 * Preemption points that a job may ask for. The driver's answer follows the pace of this
 * device's jobs, so it is asked again when what is known is less than `wanted`.
 */
unsigned int device_points(struct flm_device *device, unsigned int wanted);

/* A buffer and its end, for the code that counts resets; all other code calls flm_bo_new(). */
int bo_new(struct flm_device *device, enum flm_placement placement, unsigned int core,
	   uint64_t bytes, struct flm_bo **bo);
void bo_free(struct flm_bo *bo);

/* Maps a host buffer, once: bo->memory. _locked: with the device's lock, or nobody else has it. */
int bo_map(struct flm_bo *bo);
int bo_map_locked(struct flm_bo *bo);

/* True when the buffer lies in card memory that a reset has wiped. */
static inline bool bo_is_lost(const struct flm_bo *bo)
{
	return bo->placement != FLM_BO_HOST &&
	       bo->epoch != __atomic_load_n(&bo->device->epoch, __ATOMIC_SEQ_CST);
}

/* True when the context was lost in a reset. */
bool context_is_lost(const struct flm_context *context);

/* Takes a segment from all cores, and leaves the error's text alone. */
int context_unbind(struct flm_context *context, unsigned int segment);

/* A copy queue, and one copy in it; segments as core 0 sees them. */
int queue_new_copy(struct flm_context *context, struct flm_queue **queue);
int queue_copy(struct flm_queue *queue, unsigned int src_segment, uint64_t src_offset,
	       unsigned int dst_segment, uint64_t dst_offset, uint64_t bytes, uint64_t *seqno);

/* Ends the device's copying. */
void copy_fini(struct flm_device *device);

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
	uint32_t page_bytes[FLM_CORES_MAX];	/* of a KV page, by core */
};

#endif
