/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The card as the driver sees it: registers, what it is, its memory, its queues.
 *
 * Locks, outer before inner:
 *
 *	flightllm_file.lock	contexts and queues of one file come and go
 *	context.lock		the tables of a context change
 *	dma_resv of a buffer	it is being made or freed
 *	fdev->queues_lock	fdev->queue[] and the card's state; held over a reset of the card
 *	queue.submit_lock	order of seqnos = order in the scheduler
 *	queue.post_lock		the ring's tail, the doorbell, reset of the queue
 *	fdev->select_lock	windows behind the _SELECT registers
 *	vector.lock (irq)	which queues a vector serves; the interrupt handler's
 *	queue.lock (irq)	what is in flight, history; fences are signalled under it
 *	context.fault_lock (irq), fence.lock (irq)
 *
 * No other lock is taken inside bos_lock, mems_lock and context.tables_lock.
 *
 * Code that touches the card or its memory does so between drm_dev_enter() and drm_dev_exit(), and
 * waits there for nothing that only the card can do. The end of a queue must reach the card for
 * longer: under queues_lock, until fdev->stopped.
 *
 * Memory that the card can reach is freed, and the fence of its job signalled, only when the card
 * can no longer reach it: the queue is DISABLED, or the card was reset, or bus mastering is off.
 */
#ifndef FLIGHTLLM_DEVICE_H
#define FLIGHTLLM_DEVICE_H

#include <linux/io.h>
#include <linux/io-64-nonatomic-lo-hi.h>
#include <linux/mutex.h>
#include <linux/pci.h>
#include <linux/spinlock.h>
#include <linux/wait.h>
#include <linux/workqueue.h>
#include <linux/xarray.h>

#include <drm/drm_device.h>
#include <drm/drm_drv.h>
#include <drm/drm_file.h>
#include <drm/drm_print.h>
#include <drm/ttm/ttm_device.h>

#include <flightllm/queue.h>
#include <flightllm/regs.h>

struct flightllm_context;
struct flightllm_queue;

#define FLIGHTLLM_SLOTS_LOG2	8	/* jobs of a queue at once: 256 */
#define FLIGHTLLM_SLOTS		BIT(FLIGHTLLM_SLOTS_LOG2)
#define FLIGHTLLM_HISTORY	1024	/* ends of jobs that WAIT still knows, a power of two */
#define FLIGHTLLM_CONTEXTS	1024	/* of one file */
#define FLIGHTLLM_VECTORS	9	/* interrupts to ask for: events, and eight to share */
#define FLIGHTLLM_WATCHDOG	BIT_ULL(22)	/* instructions of a core between two points */
#define FLIGHTLLM_HOST_BO_MAX	(2ull << 30)	/* its block array is one allocation of 4 MiB */
#define FLIGHTLLM_POINTS_MIN	256	/* of one job, however slow */
#define FLIGHTLLM_POINTS_MAX	4096	/* however fast: its next points may be slow ones */

/* Memory that host and card share, freed at the latest when the driver leaves the card. */
struct flightllm_mem {
	struct list_head link;	/* fdev->mems, under mems_lock */
	void *cpu;		/* NULL once the card has been left */
	dma_addr_t bus;
	size_t bytes;
};

/* One kind of memory. To TTM all card memory is one range of pages, region behind region. */
struct flightllm_region {
	char name[8];
	u32 id;			/* enum flm_region */
	u32 block;
	u32 channels;
	u32 mbps;
	u64 bytes;
	u64 visible;		/* bytes that the CPU can map, from its start */
	u64 window;		/* where they begin in BAR2 */
	u64 first_page;		/* of TTM's range */
	struct list_head bos;	/* ascending by address, under fdev->bos_lock */
	u64 used;		/* bytes, under fdev->bos_lock */
};

/* The card's identity; constant while it is bound. */
struct flightllm_card {
	char name[17];
	u64 serial;
	u32 caps, map_version, isa_version;
	u32 cores, queues, vectors, segments, chunk;
	u32 clock_khz, macs, widths, buffer_bytes[4], cache_bytes;
	u32 slots_log2_min, slots_log2_max;
};

/* One MSI-X vector and the queues that it tells of. */
struct flightllm_vector {
	struct flightllm_device *fdev;
	spinlock_t lock;		/* protects queues */
	struct list_head queues;
	int irq;
};

struct flightllm_device {
	struct drm_device drm;
	struct pci_dev *pdev;
	void __iomem *regs;
	void __iomem *doorbells;
	phys_addr_t window;		/* BAR2 */

	struct flightllm_card card;
	unsigned int region_count;
	struct flightllm_region region[FLM_REGIONS];
	struct ttm_device ttm;
	struct mutex bos_lock;		/* protects the regions' bos and used */

	struct mutex mems_lock;		/* protects mems; the innermost */
	struct list_head mems;

	wait_queue_head_t row_free;	/* a context's tables have a free row, or all are lost */
	struct mutex select_lock;	/* protects the windows behind _SELECT */
	struct mutex queues_lock;	/* protects queue[] and the card's state; see above */
	struct flightllm_queue **queue;	/* [card.queues] */
	struct flightllm_vector vector[FLIGHTLLM_VECTORS];
	unsigned int vectors;

	struct workqueue_struct *submit_wq;	/* all schedulers' */
	struct workqueue_struct *reset_wq;	/* ordered: watch, events, resets */
	struct delayed_work watch;	/* runs while jobs are in flight */
	struct work_struct event_work;
	struct work_struct reset_work;
	atomic_t in_flight;		/* jobs on the card */

	struct flightllm_context *kernel_context;	/* segment = region, all of it */
	struct flightllm_queue *kernel_queue;	/* copies and fills by the driver itself */

	atomic_t live_contexts, live_queues;	/* not yet released */
	atomic_t kernel_queues;		/* of them, the driver's own: present and past */

	u32 epoch;			/* resets of the card; a context of another epoch is lost */
	u32 resets_seen;		/* RESETS register when epoch was last changed */
	/* The card's state: changed under queues_lock; a reader that may be late reads without. */
	bool failed;			/* it did not come back: for good */
	bool resetting;			/* no client's queue is made */
	bool held;			/* no remedy begins: not started, or the PCI core's reset */
	bool stopped;			/* it has been left: every queue is dead */
	atomic_t card_resets, queue_resets;
	atomic64_t submits;
};

/* An open file: its contexts and queues by id. */
struct flightllm_file {
	struct mutex lock;		/* contexts and queues come and go */
	struct xarray contexts;
	struct xarray queues;
	unsigned int context_count;
	u32 points_told;		/* by the last query: a job may have so many points */
	u64 client;
};

static inline struct flightllm_device *to_flightllm_device(struct drm_device *drm)
{
	return container_of(drm, struct flightllm_device, drm);
}

static inline u32 flightllm_read(struct flightllm_device *fdev, u32 offset)
{
	return readl(fdev->regs + offset);
}

static inline u64 flightllm_read64(struct flightllm_device *fdev, u32 offset)
{
	return readq(fdev->regs + offset);
}

static inline void flightllm_write(struct flightllm_device *fdev, u32 offset, u32 value)
{
	writel(value, fdev->regs + offset);
}

static inline void flightllm_write64(struct flightllm_device *fdev, u32 offset, u64 value)
{
	writeq(value, fdev->regs + offset);
}

/*
 * Maps the BARs, resets the card and reads its identity. Managed: undone with the DRM device. May
 * sleep. 0 or -errno, with one line in the log.
 */
int flightllm_device_init(struct flightllm_device *fdev);

/*
 * Enables interrupts, then makes the kernel's own queue. Not managed: undone by
 * flightllm_device_stop(). May sleep. 0 or -errno.
 */
int flightllm_device_start(struct flightllm_device *fdev);

/* After drm_dev_unplug(): ends every queue, takes all memory from the card. May sleep. */
void flightllm_device_stop(struct flightllm_device *fdev);

/* Sleeps until the card says READY. 0, -ETIMEDOUT, or -ENODEV: the card is gone. */
int flightllm_device_wait_ready(struct flightllm_device *fdev);

/* DEVICE_RESET, then as above. -ETIMEDOUT also: the card ignored the reset. */
int flightllm_device_reset(struct flightllm_device *fdev);

/*
 * Zeroed memory for host and card; NULL without memory. May sleep. free takes NULL; the card must
 * no longer reach the memory.
 */
struct flightllm_mem *flightllm_mem_new(struct flightllm_device *fdev, size_t bytes);
void flightllm_mem_free(struct flightllm_device *fdev, struct flightllm_mem *mem);

/* Queues are released here; the module's own, so that it can be emptied before the code goes. */
extern struct workqueue_struct *flightllm_release_wq;

/* flightllm_reset.c */
void flightllm_reset_init(struct flightllm_device *fdev);
void flightllm_reset_fini(struct flightllm_device *fdev);
/* Remedies may begin. */
void flightllm_reset_go(struct flightllm_device *fdev);
/* Loses every context, ends every queue. tell: the card still has them. Under queues_lock. */
void flightllm_reset_lose_everything(struct flightllm_device *fdev, bool tell);
/* A job is in flight: starts the watch. Any context. */
void flightllm_reset_watch(struct flightllm_device *fdev);
/* The card is dead or was reset by others: begins a reset of the card. Any context. */
void flightllm_reset_card(struct flightllm_device *fdev);
/* The driver's part of a reset by the PCI core, or of a sleep: before and after it. May sleep. */
void flightllm_reset_prepare(struct flightllm_device *fdev);
int flightllm_reset_done(struct flightllm_device *fdev);

/* flightllm_query.c */
int flightllm_query_ioctl(struct drm_device *drm, void *data, struct drm_file *file);

/* flightllm_debugfs.c */
#ifdef CONFIG_DEBUG_FS
void flightllm_debugfs_init(struct flightllm_device *fdev);
#else
static inline void flightllm_debugfs_init(struct flightllm_device *fdev)
{
}
#endif

#endif
