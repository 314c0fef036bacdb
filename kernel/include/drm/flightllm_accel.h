/* SPDX-License-Identifier: (GPL-2.0 WITH Linux-syscall-note) OR MIT */
/*
 * flightllm: the ioctls of /dev/accel/accelN. This header is their manual.
 *
 *	DEV_QUERY			what the card is and has
 *	BO_CREATE			memory in HBM, DDR or the host; GEM_CLOSE frees it
 *	CONTEXT_CREATE, SEGMENT_BIND	which buffers a program may reach, as numbered segments
 *	QUEUE_CREATE, SUBMIT		jobs, in order within a queue
 *	WAIT, STOP, FAULT_QUERY		how they end
 *
 * Rules. A pad, reserved field or flag that is not named here must be zero, otherwise the call is
 * -EINVAL. Handles, context ids and queue ids belong to the file descriptor. Times of waits are
 * absolute CLOCK_MONOTONIC nanoseconds, so that a call interrupted by a signal can be repeated
 * unchanged.
 *
 * Arrays are {pointer, count, stride}. With a stride shorter than the structure, the fields left
 * out are zero. With a longer one, bytes that the driver does not know must be zero (else -E2BIG).
 *
 * Every call may return -EFAULT (bad pointer), -ENODEV (the driver has left the card) and -ENOMEM
 * (the host is out of memory). Any thread may make any call at any time.
 *
 * A card that has failed for good is broken or pulled out. All contexts are then lost, and the
 * calls that need the card are -EIO: BO_CREATE, CONTEXT_CREATE, QUEUE_CREATE, SUBMIT, and DEV_QUERY
 * for COUNTERS. All other calls go on, so that a client can learn how its jobs ended and free its
 * objects.
 */
#ifndef FLIGHTLLM_ACCEL_H
#define FLIGHTLLM_ACCEL_H

#include "drm.h"

#if defined(__cplusplus)
extern "C" {
#endif

/* Version of this interface, as DRM_IOCTL_VERSION tells it: another major is another interface. */
#define DRM_FLIGHTLLM_MAJOR	1
#define DRM_FLIGHTLLM_MINOR	0

/* Numbers of the ioctls: appended, never used again. */
enum drm_flightllm_ioctl_id {
	DRM_FLIGHTLLM_DEV_QUERY = 0,
	DRM_FLIGHTLLM_BO_CREATE = 1,
	DRM_FLIGHTLLM_BO_MMAP_OFFSET = 2,
	DRM_FLIGHTLLM_BO_INFO = 3,
	DRM_FLIGHTLLM_CONTEXT_CREATE = 4,
	DRM_FLIGHTLLM_CONTEXT_DESTROY = 5,
	DRM_FLIGHTLLM_SEGMENT_BIND = 6,
	DRM_FLIGHTLLM_QUEUE_CREATE = 7,
	DRM_FLIGHTLLM_QUEUE_DESTROY = 8,
	DRM_FLIGHTLLM_SUBMIT = 9,
	DRM_FLIGHTLLM_WAIT = 10,
	DRM_FLIGHTLLM_STOP = 11,
	DRM_FLIGHTLLM_FAULT_QUERY = 12
};

/* ---- DEV_QUERY ---- */

/* Answers of DEV_QUERY. */
enum drm_flightllm_query_type {
	DRM_FLIGHTLLM_QUERY_CARD = 0,		/* struct drm_flightllm_query_card */
	DRM_FLIGHTLLM_QUERY_MEMORY = 1,		/* struct drm_flightllm_query_memory */
	DRM_FLIGHTLLM_QUERY_COUNTERS = 2,	/* struct drm_flightllm_query_counters */
	DRM_FLIGHTLLM_QUERY_HEALTH = 3		/* struct drm_flightllm_query_health */
};

/**
 * struct drm_flightllm_dev_query - ask what the card is, has and does
 *
 * With @pointer 0 the call only sets @size to the bytes of the whole structure. Otherwise it writes
 * min(@size, those) bytes and sets @size to the number written; bytes beyond stay unchanged.
 *
 * -EINVAL: unknown @type, @pad not zero. -EBUSY: COUNTERS while the card is being reset; try again.
 */
struct drm_flightllm_dev_query {
	/** @type: Input: enum drm_flightllm_query_type. */
	__u32 type;
	/** @size: Input: bytes at @pointer. Output: bytes of the structure, or bytes written. */
	__u32 size;
	/** @pointer: Input: user memory for the answer, or 0. */
	__u64 pointer;
	/** @pad: Input: must be zero. */
	__u64 pad;
};

/* Bits of drm_flightllm_query_card.features. A program asks here, not by version. */
#define DRM_FLIGHTLLM_FEATURE_COPY_CRC32C	(1ull << 0)	/* CRC32C jobs */
#define DRM_FLIGHTLLM_FEATURE_USER_QUEUES	(1ull << 1)	/* reserved */
#define DRM_FLIGHTLLM_FEATURE_PRIME		(1ull << 2)	/* reserved: import and export */
#define DRM_FLIGHTLLM_FEATURE_USERPTR		(1ull << 3)	/* reserved */
#define DRM_FLIGHTLLM_FEATURE_SEAL		(1ull << 4)	/* reserved */
#define DRM_FLIGHTLLM_FEATURE_EVICT		(1ull << 5)	/* reserved: over-commit of HBM */
#define DRM_FLIGHTLLM_FEATURE_QUOTA		(1ull << 6)	/* reserved */

/** struct drm_flightllm_query_card - identity and limits, constant while the device is bound */
struct drm_flightllm_query_card {
	/** @name: Output: profile of the card, zero-terminated. */
	__u8 name[16];
	/** @serial: Output: serial number. */
	__u64 serial;
	/** @features: Output: DRM_FLIGHTLLM_FEATURE_ bits. */
	__u64 features;
	/** @caps: Output: CAPS register. */
	__u32 caps;
	/** @map_version: Output: VERSION register. */
	__u32 map_version;
	/** @isa_version: Output: ISA register. */
	__u32 isa_version;
	/** @cores: Output: compute cores. */
	__u32 cores;
	/** @queues: Output: queues that clients together may have. */
	__u32 queues;
	/** @segments: Output: segments of a context. */
	__u32 segments;
	/** @jobs_max: Output: jobs of one SUBMIT, and of a queue at once. */
	__u32 jobs_max;
	/**
	 * @points_max: Output: preemption points of one job: 5 s of card time at the pace of this
	 * file descriptor's slowest context, clamped to 256 .. 4096. Valid until the next query;
	 * 256 before the first.
	 */
	__u32 points_max;
	/** @copy_point_bytes: Output: bytes of a copy that count as one preemption point. */
	__u32 copy_point_bytes;
	/** @history: Output: jobs of a queue whose end WAIT still knows. */
	__u32 history;
	/** @priorities: Output: of queues, 0 the lowest; the highest needs CAP_SYS_NICE. */
	__u32 priorities;
	/** @chunk: Output: tokens of one pass. */
	__u32 chunk;
	/** @clock_khz: Output: clock of the cores. */
	__u32 clock_khz;
	/** @macs: Output: MACS register. */
	__u32 macs;
	/** @widths: Output: bit b: weights of b bits. */
	__u32 widths;
	/** @buffer_bytes: Output: on-chip buffers of a core, by enum flm_buffer. */
	__u32 buffer_bytes[4];
	/** @cache_bytes: Output: instruction cache of a core. */
	__u32 cache_bytes;
	/** @pci: Output: bus address, domain << 16 | bus << 8 | device << 3 | function. */
	__u32 pci;
	/** @pad: Output: zero. */
	__u32 pad;
	/** @host_bo_max: Output: bytes of one host buffer at most. */
	__u64 host_bo_max;
	/** @pinned_max: Output: reserved, bytes that user-mode queues may pin; 0 today. */
	__u64 pinned_max;
	/** @watchdog: Output: instructions of a core between two preemption points. */
	__u64 watchdog;
	/** @reserved: Output: zero. */
	__u64 reserved[3];
};

/** struct drm_flightllm_region - one kind of memory */
struct drm_flightllm_region {
	/** @name: Output: "hbm0", "ddr", "host", zero-terminated. */
	__u8 name[8];
	/** @id: Output: enum flm_region of queue.h. */
	__u32 id;
	/** @block: Output: sizes and offsets of bindings are multiples of it. */
	__u32 block;
	/** @size: Output: bytes. */
	__u64 size;
	/** @free: Output: bytes that a buffer could still have, in pieces. */
	__u64 free;
	/** @visible: Output: bytes that the CPU can map. */
	__u64 visible;
	/** @channels: Output: channels it is spread over. */
	__u32 channels;
	/** @mbps: Output: bandwidth in 10^6 bytes a second. */
	__u32 mbps;
	/** @used_by_file: Output: bytes of this file descriptor's buffers. */
	__u64 used_by_file;
	/** @quota: Output: reserved, 0 = none. */
	__u64 quota;
	/** @reserved: Output: zero. */
	__u64 reserved[2];
};

/** struct drm_flightllm_query_memory - all kinds of memory */
struct drm_flightllm_query_memory {
	/** @count: Output: regions that follow. */
	__u32 count;
	/** @pad: Output: zero. */
	__u32 pad;
	/** @regions: Output: in ascending order of id. */
	struct drm_flightllm_region regions[16];
};

/** struct drm_flightllm_query_counters - COUNT_ registers of the card; reading them counts too */
struct drm_flightllm_query_counters {
	/** @reads: Output: register reads before this query. */
	__u64 reads;
	/** @writes: Output: register writes before this query. */
	__u64 writes;
	/** @kicks: Output: writes to KICK. */
	__u64 kicks;
	/** @doorbells: Output: new tails that the card saw. */
	__u64 doorbells;
	/** @interrupts: Output: MSI-X messages. */
	__u64 interrupts;
	/** @jobs: Output: compute jobs finished. */
	__u64 jobs;
	/** @copies: Output: copy jobs finished. */
	__u64 copies;
	/** @tokens: Output: tokens generated. */
	__u64 tokens;
	/** @faults: Output: jobs that ended with a fault. */
	__u64 faults;
	/** @instructions: Output: executed, all cores. */
	__u64 instructions;
	/** @points: Output: preemption points. */
	__u64 points;
	/** @switches: Output: changes of context on a core. */
	__u64 switches;
	/** @host_read: Output: bytes the card read from the host. */
	__u64 host_read;
	/** @host_written: Output: bytes the card wrote to the host. */
	__u64 host_written;
	/** @dma_errors: Output: accesses to host memory that were refused. */
	__u64 dma_errors;
	/** @cache_hits: Output: instruction fetches served by the cache. */
	__u64 cache_hits;
	/** @cache_misses: Output: instruction fetches from memory. */
	__u64 cache_misses;
	/** @time_us: Output: card time. */
	__u64 time_us;
	/** @cycles: Output: cycles of the cores' clock. */
	__u64 cycles;
	/** @submits: Output: SUBMIT calls since the driver was bound. */
	__u64 submits;
	/** @evictions: Output: reserved, buffers moved to make room. */
	__u64 evictions;
	/** @reserved: Output: zero. */
	__u64 reserved[3];
};

/** struct drm_flightllm_query_health - resets, errors, sensors (0 unless ready), link */
struct drm_flightllm_query_health {
	/** @state: Output: 0 ready, 1 resetting, 2 failed for good. */
	__u32 state;
	/** @card_resets: Output: since the driver was bound. */
	__u32 card_resets;
	/** @queue_resets: Output: since the driver was bound. */
	__u32 queue_resets;
	/** @core_resets: Output: reserved. */
	__u32 core_resets;
	/** @corrected: Output: memory errors corrected. */
	__u64 corrected;
	/** @uncorrected: Output: memory errors not corrected. */
	__u64 uncorrected;
	/** @temperature_mc: Output: millidegrees of the FPGA, 0 without a sensor. */
	__s32 temperature_mc;
	/** @temperature_hbm_mc: Output: millidegrees of the HBM. */
	__s32 temperature_hbm_mc;
	/** @power_mw: Output: milliwatts. */
	__u32 power_mw;
	/** @volt_mv: Output: millivolts. */
	__u32 volt_mv;
	/** @link_mtps: Output: PCIe transfers a second and lane in 10^6 (8000: Gen3), 0 unknown. */
	__u32 link_mtps;
	/** @link_width: Output: PCIe lanes, 0 unknown. */
	__u32 link_width;
	/** @reserved: Output: zero. */
	__u64 reserved[4];
};

/* ---- Buffers ---- */

/* Where a buffer lies. */
enum drm_flightllm_placement {
	DRM_FLIGHTLLM_BO_HBM = 1,	/* HBM of one core */
	DRM_FLIGHTLLM_BO_DDR = 2,
	DRM_FLIGHTLLM_BO_HOST = 3	/* pages of the host that the card reaches by DMA */
};

#define DRM_FLIGHTLLM_BO_VISIBLE	(1u << 0)	/* the CPU will map it */
#define DRM_FLIGHTLLM_BO_USERPTR	(1u << 1)	/* reserved */

/**
 * struct drm_flightllm_bo_create - make a buffer
 *
 * The buffer is zero. DRM_IOCTL_GEM_CLOSE frees it; bindings and jobs that still use it keep its
 * memory. On -ENOSPC @total, @free and @largest say why.
 *
 * -EINVAL: @size 0, unknown @placement or @flags, a @core that the card does not have or that is
 * not zero outside HBM, @user_address. -ENOSPC: no room in the region (or, with VISIBLE, in its
 * window).
 * -E2BIG: @size beyond the region, or host_bo_max. -EOPNOTSUPP: USERPTR. -EBUSY: the card was reset
 * meanwhile; try again. -EINTR: a signal; nothing was made; repeat the call. -EIO also: the card
 * could not clear the buffer.
 */
struct drm_flightllm_bo_create {
	/** @size: Input: bytes. Output: rounded up to blocks of its region and the host's pages. */
	__u64 size;
	/** @placement: Input: enum drm_flightllm_placement. */
	__u32 placement;
	/** @core: Input: whose HBM; else zero. */
	__u32 core;
	/** @flags: Input: DRM_FLIGHTLLM_BO_ flags. */
	__u32 flags;
	/** @handle: Output: GEM handle. */
	__u32 handle;
	/** @user_address: Input: reserved. */
	__u64 user_address;
	/** @total: Output: bytes of the region, on -ENOSPC. */
	__u64 total;
	/** @free: Output: free bytes, on -ENOSPC. */
	__u64 free;
	/** @largest: Output: free bytes in one piece, on -ENOSPC. */
	__u64 largest;
	/** @reserved: Input: must be zero. */
	__u64 reserved[2];
};

/**
 * struct drm_flightllm_bo_mmap_offset - where mmap() of the node finds a buffer
 *
 * Host memory maps cached, card memory write-combined through BAR2.
 *
 * -ENOENT: no such handle. -ENXIO: outside the window; copy it to a host buffer instead.
 */
struct drm_flightllm_bo_mmap_offset {
	/** @handle: Input: GEM handle. */
	__u32 handle;
	/** @flags: Input: must be zero. */
	__u32 flags;
	/** @offset: Output: offset for mmap(). */
	__u64 offset;
};

/**
 * struct drm_flightllm_bo_info - what a buffer is
 *
 * -ENOENT: no such handle.
 */
struct drm_flightllm_bo_info {
	/** @handle: Input: GEM handle. */
	__u32 handle;
	/** @pad: Input: must be zero. */
	__u32 pad;
	/** @size: Output: bytes. */
	__u64 size;
	/** @placement: Output: where it was made. */
	__u32 placement;
	/** @core: Output: whose HBM. */
	__u32 core;
	/** @flags: Output: DRM_FLIGHTLLM_BO_ flags. */
	__u32 flags;
	/** @resident: Output: 1 where it belongs, 0 moved to the host. */
	__u32 resident;
	/** @visible: Output: 1 if BO_MMAP_OFFSET would succeed. */
	__u32 visible;
	/** @pad2: Output: zero. */
	__u32 pad2;
	/** @reserved: Output: zero. */
	__u64 reserved[2];
};

/* ---- Contexts ---- */

/**
 * struct drm_flightllm_context_create - make a context: an empty table of segments for each core
 *
 * -EINVAL: @flags or @reserved. -ENOSPC: too many contexts of this file descriptor (1024).
 */
struct drm_flightllm_context_create {
	/** @flags: Input: must be zero. */
	__u32 flags;
	/** @id: Output: context id, never 0. */
	__u32 id;
	/** @reserved: Input: must be zero. */
	__u64 reserved[2];
};

/**
 * struct drm_flightllm_context_destroy - free a context
 *
 * Its queues must have been destroyed before. -ENOENT: no such context. -EBUSY: it has queues.
 */
struct drm_flightllm_context_destroy {
	/** @id: Input: context id. */
	__u32 id;
	/** @pad: Input: must be zero. */
	__u32 pad;
};

#define DRM_FLIGHTLLM_CORE_ALL	0xffffffffu

#define DRM_FLIGHTLLM_RIGHT_R	1u
#define DRM_FLIGHTLLM_RIGHT_W	2u
#define DRM_FLIGHTLLM_RIGHT_X	4u

/** struct drm_flightllm_binding - one segment of one core or of all */
struct drm_flightllm_binding {
	/** @segment: Input: number below the card's limit. */
	__u32 segment;
	/** @core: Input: core, or DRM_FLIGHTLLM_CORE_ALL. */
	__u32 core;
	/** @handle: Input: buffer; 0 unbinds, all that follows is then zero. */
	__u32 handle;
	/** @rights: Input: DRM_FLIGHTLLM_RIGHT_ bits, at least one. */
	__u32 rights;
	/** @offset: Input: in the buffer, a multiple of its region's block. */
	__u64 offset;
	/** @length: Input: bytes, at least 1; offset + length inside the buffer. */
	__u64 length;
	/** @reserved: Input: must be zero. */
	__u64 reserved;
};

/**
 * struct drm_flightllm_segment_bind - change the tables of a context, all at once or not at all
 *
 * The rows are applied in order to a copy of the tables, which becomes the next generation. Jobs
 * submitted from now on see it; jobs submitted before keep theirs, with the buffers they need.
 * While jobs use 63 generations, the call waits, interruptibly, for the oldest to end.
 *
 * -EINVAL: @flags, segment, core, rights, offset or length out of range, @count 0 or above 4096,
 * @stride 0.
 * -ENOENT: no such context or buffer. -E2BIG: a longer @stride with unknown fields.
 * -ECANCELED: the context is lost. -EINTR: nothing was changed. -EOVERFLOW: 2^32 generations.
 */
struct drm_flightllm_segment_bind {
	/** @context: Input: context id. */
	__u32 context;
	/** @flags: Input: must be zero. */
	__u32 flags;
	/** @bindings: Input: array of struct drm_flightllm_binding. */
	__u64 bindings;
	/** @count: Input: rows of it. */
	__u32 count;
	/** @stride: Input: bytes from row to row. */
	__u32 stride;
	/** @generation: Output: number of the new generation. */
	__u32 generation;
	/** @pad: Input: must be zero. */
	__u32 pad;
};

/* ---- Queues ---- */

enum drm_flightllm_queue_kind {
	DRM_FLIGHTLLM_QUEUE_COMPUTE = 0,
	DRM_FLIGHTLLM_QUEUE_COPY = 1
};

#define DRM_FLIGHTLLM_QUEUE_USER	(1u << 0)	/* reserved: mapped into the process */

/**
 * struct drm_flightllm_queue_create - make a queue of a context
 *
 * -EINVAL: @kind, @flags, @priority, @cores (a core that the card does not have; not zero for
 * COPY), @quantum_us above a second. -ENOENT: no such context. -EACCES: highest priority without
 * CAP_SYS_NICE. -ENOSPC: all queues of the card are taken. -EOPNOTSUPP: USER. -ECANCELED: the
 * context is lost. -ETIMEDOUT: the card did not enable it. -EBUSY: the card is being reset; try
 * again.
 */
struct drm_flightllm_queue_create {
	/** @context: Input: context id. */
	__u32 context;
	/** @kind: Input: enum drm_flightllm_queue_kind. */
	__u32 kind;
	/** @flags: Input: DRM_FLIGHTLLM_QUEUE_ flags. */
	__u32 flags;
	/** @priority: Input: 0 lowest; 1 is usual. */
	__u32 priority;
	/** @cores: Input: mask of the cores of each job; 0: all. */
	__u32 cores;
	/** @quantum_us: Input: card time before others of its priority, 0: the driver's choice. */
	__u32 quantum_us;
	/** @id: Output: queue id, never 0. */
	__u32 id;
	/** @pad: Input: must be zero. */
	__u32 pad;
	/** @reserved: Input: must be zero. */
	__u64 reserved[4];
};

/**
 * struct drm_flightllm_queue_destroy - free a queue
 *
 * Its jobs end with RESET. Jobs on the card are reset (fences: -ECANCELED). A job that waits for
 * fences is cancelled once they have signalled (its fence: -ESRCH).
 * -ENOENT: no such queue.
 */
struct drm_flightllm_queue_destroy {
	/** @id: Input: queue id. */
	__u32 id;
	/** @pad: Input: must be zero. */
	__u32 pad;
};

/* ---- Jobs ---- */

enum drm_flightllm_job_op {
	DRM_FLIGHTLLM_JOB_RUN = 1,	/* COMPUTE queues: a program with a job record */
	DRM_FLIGHTLLM_JOB_COPY = 2,	/* COPY queues */
	DRM_FLIGHTLLM_JOB_FILL = 3,	/* COPY queues: 32-bit value over and over */
	DRM_FLIGHTLLM_JOB_CRC32C = 4	/* COPY queues: checksum, WAIT tells it */
};

/**
 * struct drm_flightllm_job - one job
 *
 * Fields that its operation does not use must be zero. The card checks segments and offsets as the
 * job runs: a mistake in them is a fault of the job, not an error of SUBMIT.
 */
struct drm_flightllm_job {
	/** @op: Input: enum drm_flightllm_job_op. */
	__u32 op;
	/** @flags: Input: must be zero. */
	__u32 flags;
	/** @program_segment: Input: RUN: segment of struct flm_program, right X. */
	__u32 program_segment;
	/** @job_segment: Input: RUN: segment of struct flm_job_record, right R. */
	__u32 job_segment;
	/** @program_offset: Input: RUN: a multiple of 64. */
	__u64 program_offset;
	/** @job_offset: Input: RUN: a multiple of 64. */
	__u64 job_offset;
	/** @max_points: Input: RUN: preemption points it needs at most; 0: points_max. */
	__u32 max_points;
	/** @fill: Input: FILL: the value. */
	__u32 fill;
	/** @src_segment: Input: COPY, CRC32C. */
	__u32 src_segment;
	/** @src_core: Input: COPY, CRC32C: whose table names the segment. */
	__u32 src_core;
	/** @dst_segment: Input: COPY, FILL. */
	__u32 dst_segment;
	/** @dst_core: Input: COPY, FILL. */
	__u32 dst_core;
	/** @src_offset: Input: COPY, CRC32C. */
	__u64 src_offset;
	/** @dst_offset: Input: COPY, FILL; for FILL a multiple of 4. */
	__u64 dst_offset;
	/** @bytes: Input: COPY, FILL, CRC32C: at least 1; for FILL a multiple of 4. */
	__u64 bytes;
	/** @reserved: Input: must be zero. */
	__u64 reserved[2];
};

/** struct drm_flightllm_sync - a syncobj to wait for or to signal */
struct drm_flightllm_sync {
	/** @handle: Input: syncobj. */
	__u32 handle;
	/** @flags: Input: must be zero. */
	__u32 flags;
	/** @point: Input: point of a timeline; 0: a binary syncobj. */
	__u64 point;
};

/**
 * struct drm_flightllm_submit - give a queue jobs, all or none
 *
 * The first job waits for all of @in_syncs; each of @out_syncs gets the fence of the last. Jobs of
 * a queue run one after the other. Job i of this call has seqno @seqno - @job_count + 1 + i. A job
 * that ends with a fault does not stop those behind it. The fence of a job has the error -EIO when
 * it ended with a fault, -ECANCELED when it ended with RESET or LOST or when the driver left the
 * card before.
 *
 * -EINVAL: @flags, a job's op that does not fit the queue, a field that must be zero, an offset
 * out of alignment, core or segment out of range, @job_count or a stride 0. -E2BIG: @job_count
 * above jobs_max, more points than points_max, unknown fields beyond the structure, more than 64
 * syncs. -ENOENT: no such queue, or syncobj, or a point without a fence. -EBUSY: the queue already
 * has jobs_max jobs. -ECANCELED: the context is lost, or the queue is being destroyed.
 */
struct drm_flightllm_submit {
	/** @queue: Input: queue id. */
	__u32 queue;
	/** @flags: Input: must be zero. */
	__u32 flags;
	/** @jobs: Input: array of struct drm_flightllm_job. */
	__u64 jobs;
	/** @job_count: Input: rows of it. */
	__u32 job_count;
	/** @job_stride: Input: bytes from row to row. */
	__u32 job_stride;
	/** @in_syncs: Input: array of struct drm_flightllm_sync. */
	__u64 in_syncs;
	/** @in_count: Input: rows of it. */
	__u32 in_count;
	/** @in_stride: Input: bytes from row to row. */
	__u32 in_stride;
	/** @out_syncs: Input: array of struct drm_flightllm_sync. */
	__u64 out_syncs;
	/** @out_count: Input: rows of it. */
	__u32 out_count;
	/** @out_stride: Input: bytes from row to row. */
	__u32 out_stride;
	/** @seqno: Output: of the last job. */
	__u64 seqno;
	/** @reserved: Input: must be zero. */
	__u64 reserved[2];
};

/* How a job ended: enum flm_status of queue.h. */
enum drm_flightllm_status {
	DRM_FLIGHTLLM_STATUS_RUNNING = 0,	/* or waiting */
	DRM_FLIGHTLLM_STATUS_DONE = 1,
	DRM_FLIGHTLLM_STATUS_STOPPED = 2,
	DRM_FLIGHTLLM_STATUS_STOP_TOKEN = 3,
	DRM_FLIGHTLLM_STATUS_KV_FULL = 4,
	DRM_FLIGHTLLM_STATUS_FAULT = 5,
	DRM_FLIGHTLLM_STATUS_RESET = 6,
	DRM_FLIGHTLLM_STATUS_LOST = 7
};

/** struct drm_flightllm_fault - where and why a job faulted; see struct flm_done of queue.h */
struct drm_flightllm_fault {
	/** @kind: Output: enum flm_fault, 0 without a fault. */
	__u32 kind;
	/** @core: Output: core, 255 none. */
	__u32 core;
	/** @unit: Output: enum flm_unit, 255 slot, record or header. */
	__u32 unit;
	/** @entry: Output: entry of the program, 255 none. */
	__u32 entry;
	/** @word: Output: of the instruction in its stream. */
	__u32 word;
	/** @segment: Output: segment. */
	__u32 segment;
	/** @offset: Output: in the segment, of the burst that was refused; else 0. */
	__u64 offset;
};

/**
 * struct drm_flightllm_wait - wait for the end of a job, or for tokens of it
 *
 * Returns 0 when job @seqno has ended or, unless @tokens is 0, has made @tokens tokens. @status and
 * @made are filled in, the rest once the job has ended; also on -ETIME. Tokens wake a waiter as
 * often as the notify fields of the job record ask for, and at the end.
 *
 * -EINVAL: @flags, @seqno 0 or never given out. -ENOENT: no such queue. -ETIME: @timeout_ns has
 * passed. -ESTALE: it ended before the last `history` jobs. -EINTR: a signal; repeat the call.
 */
struct drm_flightllm_wait {
	/** @queue: Input: queue id. */
	__u32 queue;
	/** @flags: Input: must be zero. */
	__u32 flags;
	/** @seqno: Input: of a job. */
	__u64 seqno;
	/** @timeout_ns: Input: absolute CLOCK_MONOTONIC; 0 or less: only look. */
	__s64 timeout_ns;
	/** @tokens: Input: return once it has generated this many; 0: at its end. */
	__u32 tokens;
	/** @status: Output: enum drm_flightllm_status. */
	__u32 status;
	/** @made: Output: tokens generated so far. */
	__u32 made;
	/** @value: Output: CRC32C: the checksum. */
	__u32 value;
	/** @points: Output: preemption points reached. */
	__u32 points;
	/** @pad: Input: must be zero. */
	__u32 pad;
	/** @started_us: Output: card time of its start. */
	__u64 started_us;
	/** @ended_us: Output: card time of its end. */
	__u64 ended_us;
	/** @cycles: Output: card cycles spent on it. */
	__u64 cycles;
	/** @submitted_ns: Output: CLOCK_MONOTONIC_RAW when SUBMIT took it. */
	__u64 submitted_ns;
	/** @finished_ns: Output: CLOCK_MONOTONIC_RAW when the driver saw its end. */
	__u64 finished_ns;
	/** @started_ns: Output: reserved, its start on CLOCK_MONOTONIC_RAW by the card; 0 today. */
	__u64 started_ns;
	/** @ended_ns: Output: reserved, its end; 0 today. */
	__u64 ended_ns;
	/** @fault: Output: when @status is FAULT. */
	struct drm_flightllm_fault fault;
	/** @reserved: Input: must be zero. */
	__u64 reserved[2];
};

/**
 * struct drm_flightllm_stop - end a job, and those before it in its queue, at the next point
 *
 * They end with STOPPED and keep the tokens made so far; one that has not begun makes none.
 * Returns at once; jobs that ended already are not touched.
 *
 * -EINVAL: @seqno never given out, @pad. -ENOENT: no such queue.
 */
struct drm_flightllm_stop {
	/** @queue: Input: queue id. */
	__u32 queue;
	/** @pad: Input: must be zero. */
	__u32 pad;
	/** @seqno: Input: of a job. */
	__u64 seqno;
};

#define DRM_FLIGHTLLM_FAULT_CLEAR	(1u << 0)	/* forget it: the next fault is the first */

/**
 * struct drm_flightllm_fault_query - the first fault of a context, and how many there were
 *
 * -EINVAL: @flags, @reserved. -ENOENT: no such context.
 */
struct drm_flightllm_fault_query {
	/** @context: Input: context id. */
	__u32 context;
	/** @flags: Input: DRM_FLIGHTLLM_FAULT_ flags. */
	__u32 flags;
	/** @count: Output: faults since the context was made or the record cleared. */
	__u32 count;
	/** @queue: Output: queue of the first one, 0 without. */
	__u32 queue;
	/** @seqno: Output: its job. */
	__u64 seqno;
	/** @fault: Output: where and why. */
	struct drm_flightllm_fault fault;
	/** @lost: Output: 1 if the context was lost in a reset of the card. */
	__u32 lost;
	/** @eventfd: Input: reserved, must be zero. */
	__u32 eventfd;
	/** @reserved: Input: must be zero. */
	__u64 reserved[2];
};

#define DRM_IOCTL_FLIGHTLLM(access, id, type) \
	DRM_##access(DRM_COMMAND_BASE + DRM_FLIGHTLLM_##id, struct drm_flightllm_##type)

#define DRM_IOCTL_FLIGHTLLM_DEV_QUERY \
	DRM_IOCTL_FLIGHTLLM(IOWR, DEV_QUERY, dev_query)
#define DRM_IOCTL_FLIGHTLLM_BO_CREATE \
	DRM_IOCTL_FLIGHTLLM(IOWR, BO_CREATE, bo_create)
#define DRM_IOCTL_FLIGHTLLM_BO_MMAP_OFFSET \
	DRM_IOCTL_FLIGHTLLM(IOWR, BO_MMAP_OFFSET, bo_mmap_offset)
#define DRM_IOCTL_FLIGHTLLM_BO_INFO \
	DRM_IOCTL_FLIGHTLLM(IOWR, BO_INFO, bo_info)
#define DRM_IOCTL_FLIGHTLLM_CONTEXT_CREATE \
	DRM_IOCTL_FLIGHTLLM(IOWR, CONTEXT_CREATE, context_create)
#define DRM_IOCTL_FLIGHTLLM_CONTEXT_DESTROY \
	DRM_IOCTL_FLIGHTLLM(IOW, CONTEXT_DESTROY, context_destroy)
#define DRM_IOCTL_FLIGHTLLM_SEGMENT_BIND \
	DRM_IOCTL_FLIGHTLLM(IOWR, SEGMENT_BIND, segment_bind)
#define DRM_IOCTL_FLIGHTLLM_QUEUE_CREATE \
	DRM_IOCTL_FLIGHTLLM(IOWR, QUEUE_CREATE, queue_create)
#define DRM_IOCTL_FLIGHTLLM_QUEUE_DESTROY \
	DRM_IOCTL_FLIGHTLLM(IOW, QUEUE_DESTROY, queue_destroy)
#define DRM_IOCTL_FLIGHTLLM_SUBMIT \
	DRM_IOCTL_FLIGHTLLM(IOWR, SUBMIT, submit)
#define DRM_IOCTL_FLIGHTLLM_WAIT \
	DRM_IOCTL_FLIGHTLLM(IOWR, WAIT, wait)
#define DRM_IOCTL_FLIGHTLLM_STOP \
	DRM_IOCTL_FLIGHTLLM(IOW, STOP, stop)
#define DRM_IOCTL_FLIGHTLLM_FAULT_QUERY \
	DRM_IOCTL_FLIGHTLLM(IOWR, FAULT_QUERY, fault_query)

#if defined(__cplusplus)
}
#endif

#endif
