// SPDX-License-Identifier: MIT
/*
 * The card as one object: made and freed, its door, and the thread that keeps it (heartbeats, late
 * interrupts, the slow part of a reset). See card.h for what the world may do with it.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "emulator/device/device.h"

#define PUBLIC __attribute__((visibility("default")))

#define MIB(n) ((uint64_t)(n) << 20)
#define KIB(n) ((uint32_t)(n) << 10)

static const struct profile profiles[] = {
#define PROFILE(name, id, cores, core_mib, channels, ddr_mib, act, wgt, idx, glb, queues, khz, mm, \
		mv, hbm, ddr) \
	{ #name, id, cores, MIB(core_mib), MIB(ddr_mib), channels, \
	  { KIB(act), KIB(wgt), KIB(idx), KIB(glb) }, queues, khz, mm, mv, hbm, ddr },
#include "emulator/profile.def"
};

#define PROFILES	(sizeof(profiles) / sizeof(profiles[0]))
#define DDR_CHANNELS	2
#define BEAT_NS		(FLM_HEARTBEAT_MS * 1000000ll / 2)

/* ", u280, ...": every row's name. */
static const char profile_names[] =
#define PROFILE(name, ...) ", " #name
#include "emulator/profile.def"
	;

static const struct profile *profile_find(const char *name)
{
	for (unsigned int i = 0; i < PROFILES; i++)
		if (!strcmp(profiles[i].name, name))
			return &profiles[i];
	return NULL;
}

/* ---- The keeper ---- */

/* Until that time of wall_ns() or a signal; 0: until a signal. */
static void keep_waiting(struct card *card, int64_t until)
{
	struct timespec when = { until / 1000000000, until % 1000000000 };

	if (until) {
		pthread_cond_timedwait(&card->idle, &card->lock, &when);
		return;
	}
	card->keeper_sleeps = true;
	pthread_cond_wait(&card->idle, &card->lock);
	card->keeper_sleeps = false;
}

/* Heartbeats while there is work, and the slow part of resets. */
static void *keep(void *opaque)
{
	struct card *card = opaque;

	pthread_mutex_lock(&card->lock);
	while (!card->is_closing) {
		int64_t now = wall_ns(), until;

		if (card->is_resetting && !card->clock.workers) {
			reset_finish(card);
			continue;
		}
		notify_late(card, now);
		if (card->clock.workers && !card->is_resetting && now >= card->next_beat_ns) {
			int64_t since = now - (card->next_beat_ns - BEAT_NS);

			turn_beat(card, since < 1000000000 ? since / 1000 : 0);
			card->next_beat_ns = now + BEAT_NS;
		}
		until = card->clock.workers || now < card->next_beat_ns ? card->next_beat_ns : 0;
		if (card->late_ns && (!until || card->late_ns < until))
			until = card->late_ns;
		if (card->is_resetting)
			until = 0;	/* the last worker says when */
		keep_waiting(card, until);
	}
	pthread_mutex_unlock(&card->lock);
	return NULL;
}

/* ---- The door ---- */

/* Another file of zeros at the doorbells' place. */
static int renew_doorbells(struct card *card)
{
	int fd = memfd_create("flightllm-doorbells", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	bool is_bad = fd < 0 || ftruncate(fd, card->doorbell_bytes) ||
		      mmap(card->doorbells, card->doorbell_bytes, PROT_READ | PROT_WRITE,
			   MAP_SHARED | MAP_FIXED, fd, 0) == MAP_FAILED;

	if (card->doorbell_fd >= 0)
		close(card->doorbell_fd);
	card->doorbell_fd = fd;
	return is_bad ? -ENOMEM : 0;
}

static int make_doorbells(struct card *card)
{
	card->doorbell_bytes = FLM_DOORBELL_BYTES;
	while (card->doorbell_bytes < (uint64_t)card->profile.queues * FLM_DOORBELL_BYTES)
		card->doorbell_bytes *= 2;
	card->doorbells = mmap(NULL, card->doorbell_bytes, PROT_NONE,
			       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (card->doorbells == MAP_FAILED) {
		card->doorbells = NULL;
		return -ENOMEM;
	}
	return renew_doorbells(card);
}

static int make_memory(struct card *card, const struct card_options *options, char *error)
{
	uint64_t bytes[FLM_REGIONS] = { 0 };
	uint64_t hbm = options->mem_bytes ? options->mem_bytes / card->profile.cores :
			card->profile.core_bytes;
	uint64_t ddr = card->profile.ddr_bytes;
	uint64_t bar2 = options->bar2_bytes ? options->bar2_bytes : MIB(256);

	if (options->mem_bytes && ddr > options->mem_bytes)
		ddr = options->mem_bytes / MEM_CARD_BLOCK * MEM_CARD_BLOCK;
	hbm = hbm / MEM_CARD_BLOCK * MEM_CARD_BLOCK;
	if (!hbm) {
		snprintf(error, CARD_ERROR_BYTES,
			 "memory of %llu bytes: too small for %u cores; give at least %u MiB",
			 (unsigned long long)options->mem_bytes, card->profile.cores,
			 2 * card->profile.cores);
		return -EINVAL;
	}
	if (bar2 < MIB(16) || bar2 & (bar2 - 1)) {
		snprintf(error, CARD_ERROR_BYTES,
			 "BAR2 of %llu bytes: not possible; give a power of two, at least 16 MiB",
			 (unsigned long long)bar2);
		return -EINVAL;
	}
	for (unsigned int c = 0; c < card->profile.cores; c++)
		bytes[FLM_REGION_HBM + c] = hbm;
	bytes[FLM_REGION_DDR] = ddr;
	if (memory_init(&card->memory, bytes, bar2)) {
		snprintf(error, CARD_ERROR_BYTES,
			 "cannot reserve the card's memory; raise the limit of address space (ulimit -v)");
		return -ENOMEM;
	}
	for (unsigned int i = 0; i < FLM_REGIONS; i++)
		card->memory.regions[i].channels = !bytes[i] ? 0 : i == FLM_REGION_DDR ?
			DDR_CHANNELS : card->profile.channels;
	return 0;
}

static int start_threads(struct card *card)
{
	/* A job a core at most, and one copy. */
	unsigned int count = card->profile.cores + 1;

	card->workers = calloc(count, sizeof(*card->workers));
	if (!card->workers || pthread_create(&card->keeper, NULL, keep, card)) {
		free(card->workers);
		card->workers = NULL;
		return -ENOMEM;
	}
	for (; card->worker_count < count; card->worker_count++)
		if (pthread_create(&card->workers[card->worker_count], NULL, schedule_worker, card))
			return -ENOMEM;
	return 0;
}

PUBLIC int card_new(const struct card_options *options, const struct card_host *host,
		    struct card **out, char error[CARD_ERROR_BYTES])
{
	const char *name = options->profile ? options->profile : "u280";
	const struct profile *profile = profile_find(name);
	struct injections injections;
	pthread_condattr_t clock;
	struct exec_chip chip;
	long processors = sysconf(_SC_NPROCESSORS_ONLN);
	struct card *card;
	int ret;

	*out = NULL;
	if (!profile) {
		snprintf(error, CARD_ERROR_BYTES, "unknown card '%.64s'; known: %s", name,
			 profile_names + 2);
		return -EINVAL;
	}
	if (injections_parse(&injections, options->faults, error, CARD_ERROR_BYTES))
		return -EINVAL;
	card = calloc(1, sizeof(*card));
	if (!card) {
		snprintf(error, CARD_ERROR_BYTES, "no memory for a card; end other programs");
		return -ENOMEM;
	}
	card->profile = *profile;
	card->host = *host;
	card->trace = options->trace;
	card->serial = options->serial ? options->serial : 0xf117000000000001ull;
	card->vectors = CARD_VECTORS;
	card->injections = injections;
	card->doorbell_fd = card->memory.fd = card->memory.bar2_fd = -1;
	card->clock.khz = profile->clock_khz;
	clock_begin(&card->clock);
	pthread_mutex_init(&card->lock, NULL);
	pthread_cond_init(&card->work, NULL);
	pthread_condattr_init(&clock);
	pthread_condattr_setclock(&clock, CLOCK_MONOTONIC);
	pthread_cond_init(&card->idle, &clock);
	pthread_condattr_destroy(&clock);
	dma_init(&card->dma);
	chip.cores = profile->cores;
	memcpy(chip.buffer_bytes, profile->buffer_bytes, sizeof(chip.buffer_bytes));
	ret = make_memory(card, options, error);
	if (!ret) {
		snprintf(error, CARD_ERROR_BYTES,
			 "cannot start the card: no memory or threads left; end other programs, or "
			 "give fewer threads");
		ret = make_doorbells(card);
	}
	if (!ret)
		ret = exec_new(&chip, options->threads ? options->threads :
			       processors > 0 ? processors : 1, &card->exec);
	if (!ret)
		ret = start_threads(card);
	if (ret) {
		card_free(card);
		return ret;
	}
	*out = card;
	return 0;
}

PUBLIC void card_free(struct card *card)
{
	if (!card)
		return;
	if (card->workers) {
		pthread_mutex_lock(&card->lock);
		card->is_closing = true;
		reset_begin(card);
		pthread_mutex_unlock(&card->lock);
		pthread_join(card->keeper, NULL);
		for (unsigned int i = 0; i < card->worker_count; i++)
			pthread_join(card->workers[i], NULL);
		free(card->workers);
		queue_forget_all(card);
	}
	exec_free(card->exec);
	if (card->doorbells)
		munmap(card->doorbells, card->doorbell_bytes);
	if (card->doorbell_fd >= 0)
		close(card->doorbell_fd);
	memory_fini(&card->memory);
	dma_fini(&card->dma);
	pthread_mutex_destroy(&card->lock);
	pthread_cond_destroy(&card->work);
	pthread_cond_destroy(&card->idle);
	free(card);
}

PUBLIC void card_identify(struct card *card, struct card_identity *identity)
{
	*identity = (struct card_identity) {
		.vendor = FLM_PCI_VENDOR, .device = FLM_PCI_DEVICE,
		.subsystem_vendor = FLM_PCI_VENDOR, .subsystem = card->profile.id,
		.revision = FLM_MAP_MAJOR, .class_code = FLM_PCI_CLASS, .serial = card->serial,
		.vectors = card->vectors, .bar0_bytes = FLM_BAR_REGS_BYTES,
		.bar2_bytes = card->memory.bar2_bytes, .bar4_bytes = card->doorbell_bytes,
		.profile = card->profile.name,
	};
}

PUBLIC void card_reg_read(struct card *card, uint64_t offset, void *value, unsigned int bytes)
{
	bool is_whole = (bytes == 4 || bytes == 8) && offset % bytes == 0;
	uint64_t result = 0;

	pthread_mutex_lock(&card->lock);
	if (offset < FLM_BAR_REGS_BYTES) {
		if (is_whole)
			result = regs_read(card, offset, bytes);
		card->reads++;
	}
	if (card->is_gone) {
		result = UINT64_MAX;
		memset(value, 0xff, bytes);
	} else {
		memset(value, 0, bytes);
	}
	pthread_mutex_unlock(&card->lock);
	if (is_whole)
		memcpy(value, &result, bytes);
}

PUBLIC void card_reg_write(struct card *card, uint64_t offset, const void *value,
			   unsigned int bytes)
{
	bool is_whole = (bytes == 4 || bytes == 8) && offset % bytes == 0;
	uint64_t written = 0;

	if (is_whole)
		memcpy(&written, value, bytes);
	pthread_mutex_lock(&card->lock);
	if (offset < FLM_BAR_REGS_BYTES && !card->is_gone) {
		card->writes++;
		if (is_whole)
			regs_write(card, offset, written, bytes);
	}
	pthread_mutex_unlock(&card->lock);
}

PUBLIC int card_bar_fd(struct card *card, int bar)
{
	return bar == FLM_BAR_MEMORY ? card->memory.bar2_fd :
	       bar == FLM_BAR_DOORBELLS ? card->doorbell_fd : -1;
}

PUBLIC void *card_bar_memory(struct card *card, int bar)
{
	return bar == FLM_BAR_MEMORY ? card->memory.bar2 :
	       bar == FLM_BAR_DOORBELLS ? card->doorbells : NULL;
}

PUBLIC int card_renew_bars(struct card *card)
{
	int ret = -EBUSY;

	pthread_mutex_lock(&card->lock);
	/* Nothing of the card looks at its memory until a queue is enabled. */
	if (!card->is_resetting && !card->clock.workers)
		ret = memory_renew_window(&card->memory);
	if (!ret)
		ret = renew_doorbells(card);
	pthread_mutex_unlock(&card->lock);
	return ret;
}

PUBLIC int card_dma_map(struct card *card, uint64_t address, uint64_t bytes, void *memory,
			unsigned int rights)
{
	return dma_map(&card->dma, address, bytes, memory, rights);
}

PUBLIC int card_dma_unmap(struct card *card, uint64_t address, uint64_t bytes)
{
	return dma_unmap(&card->dma, address, bytes);
}

PUBLIC void card_bus_master(struct card *card, int enabled)
{
	pthread_rwlock_wrlock(&card->dma.lock);
	card->dma.enabled = enabled && !card->is_gone;
	pthread_rwlock_unlock(&card->dma.lock);
}

PUBLIC void card_vector_mask(struct card *card, unsigned int vector, int masked)
{
	uint32_t bit = 1u << vector % 32;

	pthread_mutex_lock(&card->lock);
	if (vector < card->vectors && masked)
		card->vectors_masked |= bit;
	else if (vector < card->vectors)
		notify_unmasked(card, vector);
	pthread_mutex_unlock(&card->lock);
}

PUBLIC uint64_t card_vectors_pending(struct card *card)
{
	uint64_t pending;

	pthread_mutex_lock(&card->lock);
	pending = card->vectors_pending;
	pthread_mutex_unlock(&card->lock);
	return pending;
}

PUBLIC void card_reset(struct card *card)
{
	pthread_mutex_lock(&card->lock);
	reset_begin(card);
	pthread_mutex_unlock(&card->lock);
}
