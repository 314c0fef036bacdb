// SPDX-License-Identifier: MIT
/*
 * BAR0. The rows of regs.def say what exists and how it may be written; this file says what each
 * one reads as. All with the card's lock held, and nothing that waits.
 */
#include <string.h>

#include "emulator/device/device.h"

enum access { RO, RW, WO, W1C };
enum bank { CARD, COUNT, REGION, QUEUE, UNIT, CHANNEL };

struct row {
	uint16_t offset;
	uint8_t bytes;
	uint8_t bank;
	uint8_t access;
	uint64_t reset;
};

#define REG(name, offset, bank, access, reset, meaning) { offset, 4, bank, access, reset },
#define REG64(name, offset, bank, access, reset, meaning) { offset, 8, bank, access, reset },
static const struct row rows[] = {
#include <flightllm/regs.def>
};

static const struct row *find_row(uint32_t offset)
{
	for (unsigned int i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (offset >= rows[i].offset && offset < (uint32_t)rows[i].offset + rows[i].bytes)
			return &rows[i];
	return NULL;
}

static struct queue *selected_queue(struct card *card)
{
	return card->queue_select < card->profile.queues ? &card->queues[card->queue_select] : NULL;
}

static uint64_t read_region(struct card *card, uint32_t reg)
{
	unsigned int id = card->region_select;
	const struct region *region = id < FLM_REGIONS ? &card->memory.regions[id] : NULL;
	bool is_ddr = id == FLM_REGION_DDR;

	if (id == FLM_REGION_HOST)
		return reg == FLM_REG_REGION_SIZE ? UINT64_MAX :
		       reg == FLM_REG_REGION_BLOCK ? FLM_HOST_BLOCK : 0;
	if (!region || !region->bytes)
		return 0;
	switch (reg) {
	case FLM_REG_REGION_BLOCK: return region->block;
	case FLM_REG_REGION_SIZE: return region->bytes;
	case FLM_REG_REGION_BAR2: return region->bar2;
	case FLM_REG_REGION_VISIBLE: return region->visible;
	case FLM_REG_REGION_CHANNELS: return region->channels;
	case FLM_REG_REGION_STRIPE: return MEM_STRIPE;
	case FLM_REG_REGION_MBPS: return is_ddr ? card->profile.ddr_mbps : card->profile.hbm_mbps;
	default: return 0;
	}
}

static uint64_t read_queue(struct card *card, uint32_t reg)
{
	const struct queue *q = selected_queue(card);

	if (!q)
		return 0;
	switch (reg) {
	case FLM_REG_QUEUE_STATE: return q->command ? FLM_QUEUE_BUSY : q->state;
	case FLM_REG_QUEUE_ERROR: return q->error;
	case FLM_REG_QUEUE_KIND: return q->kind;
	case FLM_REG_QUEUE_SLOTS_LOG2: return q->slots_log2;
	case FLM_REG_QUEUE_RING: return q->ring;
	case FLM_REG_QUEUE_DONE: return q->done;
	case FLM_REG_QUEUE_STATUS: return q->status;
	case FLM_REG_QUEUE_CONTEXT: return q->context;
	case FLM_REG_QUEUE_PRIORITY: return q->priority;
	case FLM_REG_QUEUE_QUANTUM_US: return q->quantum_us;
	case FLM_REG_QUEUE_CORES: return q->cores;
	case FLM_REG_QUEUE_VECTOR: return q->vector;
	case FLM_REG_QUEUE_WATCHDOG: return q->watchdog;
	case FLM_REG_QUEUE_HEAD: return q->head;
	case FLM_REG_QUEUE_TAIL: return q->tail;
	case FLM_REG_QUEUE_SEQNO: return q->seqno;
	case FLM_REG_QUEUE_POINTS: return q->points;
	case FLM_REG_QUEUE_BUSY_US: return q->busy_us;
	case FLM_REG_QUEUE_CYCLES: return q->cycles;
	case FLM_REG_QUEUE_TOKENS: return q->tokens;
	case FLM_REG_QUEUE_FAULT_SEQNO: return q->fault_seqno;
	case FLM_REG_QUEUE_FAULT_OFFSET: return q->fault_offset;
	case FLM_REG_QUEUE_FAULT: return q->fault;
	case FLM_REG_QUEUE_FAULT_WORD: return q->fault_word;
	case FLM_REG_QUEUE_FAULT_SEGMENT: return q->fault_segment;
	default: return 0;
	}
}

static uint64_t read_count(struct card *card, uint32_t reg)
{
	switch (reg) {
	case FLM_REG_COUNT_READS: return card->reads;
	case FLM_REG_COUNT_WRITES: return card->writes;
	case FLM_REG_COUNT_KICKS: return card->kicks;
	case FLM_REG_COUNT_DOORBELLS: return card->doorbells_seen;
	case FLM_REG_COUNT_INTERRUPTS:
		return __atomic_load_n(&card->interrupts, __ATOMIC_RELAXED);
	case FLM_REG_COUNT_JOBS: return card->jobs;
	case FLM_REG_COUNT_COPIES: return card->copies;
	case FLM_REG_COUNT_TOKENS: return card->tokens;
	case FLM_REG_COUNT_FAULTS: return card->faults;
	case FLM_REG_COUNT_INSTRUCTIONS: return card->instructions;
	case FLM_REG_COUNT_POINTS: return card->points;
	case FLM_REG_COUNT_SWITCHES: return card->switches;
	case FLM_REG_COUNT_HOST_READ:
		return __atomic_load_n(&card->dma.read, __ATOMIC_RELAXED);
	case FLM_REG_COUNT_HOST_WRITTEN:
		return __atomic_load_n(&card->dma.written, __ATOMIC_RELAXED);
	case FLM_REG_COUNT_DMA_ERRORS:
		return __atomic_load_n(&card->dma.errors, __ATOMIC_RELAXED);
	default: return 0;
	}
}

static uint64_t read_unit(const struct card *card, uint32_t reg)
{
	uint32_t unit = FLM_REG_GET(card->unit_select, UNIT_SELECT, UNIT);
	uint32_t core = FLM_REG_GET(card->unit_select, UNIT_SELECT, CORE);

	if (reg != FLM_REG_UNIT_INSTRUCTIONS || unit >= FLM_UNITS || core >= card->profile.cores)
		return 0;
	return card->unit_instructions[core][unit];
}

/* Bytes of the selected channel; these count on every card. */
static uint64_t read_channel(const struct card *card, uint32_t reg)
{
	uint32_t id = FLM_REG_GET(card->channel_select, CHANNEL_SELECT, REGION);
	uint32_t channel = FLM_REG_GET(card->channel_select, CHANNEL_SELECT, CHANNEL);
	const struct region *region;

	if (id >= FLM_REGIONS || channel >= card->memory.regions[id].channels)
		return 0;
	region = &card->memory.regions[id];
	switch (reg) {
	case FLM_REG_CHANNEL_READ:
		return __atomic_load_n(&region->read[channel], __ATOMIC_RELAXED);
	case FLM_REG_CHANNEL_WRITTEN:
		return __atomic_load_n(&region->written[channel], __ATOMIC_RELAXED);
	default: return 0;
	}
}

static uint32_t lowest_halted(const struct card *card)
{
	for (unsigned int i = 0; i < card->profile.queues; i++)
		if (card->queues[i].state == FLM_QUEUE_HALTED)
			return i;
	return UINT32_MAX;
}

static uint64_t read_card(const struct card *card, const struct row *row)
{
	const struct profile *p = &card->profile;
	char name[16] = "";
	uint32_t word;

	switch (row->offset) {
	case FLM_REG_CAPS:
		return FLM_REG_FIELD(CAPS, CRC32C, 1) | FLM_REG_FIELD(CAPS, SPARSE, 1);
	case FLM_REG_PROFILE0:
	case FLM_REG_PROFILE1:
	case FLM_REG_PROFILE2:
	case FLM_REG_PROFILE3:
		strncpy(name, p->name, sizeof(name) - 1);
		memcpy(&word, name + (row->offset - FLM_REG_PROFILE0), 4);
		return word;
	case FLM_REG_SERIAL: return card->serial;
	case FLM_REG_CORES: return p->cores;
	case FLM_REG_QUEUES: return p->queues;
	case FLM_REG_VECTORS: return card->vectors;
	case FLM_REG_SLOTS_LOG2:
		return FLM_REG_FIELD(SLOTS_LOG2, MAX, RING_LOG2_MAX) |
		       FLM_REG_FIELD(SLOTS_LOG2, MIN, RING_LOG2_MIN);
	case FLM_REG_CLOCK_KHZ: return p->clock_khz;
	case FLM_REG_BUFFER_ACT: return p->buffer_bytes[FLM_BUFFER_ACT];
	case FLM_REG_BUFFER_WGT: return p->buffer_bytes[FLM_BUFFER_WGT];
	case FLM_REG_BUFFER_IDX: return p->buffer_bytes[FLM_BUFFER_IDX];
	case FLM_REG_BUFFER_GLB: return p->buffer_bytes[FLM_BUFFER_GLB];
	case FLM_REG_MACS:
		return FLM_REG_FIELD(MACS, MM, p->mm_macs) | FLM_REG_FIELD(MACS, MV, p->mv_macs);
	case FLM_REG_STATE:
		return FLM_REG_FIELD(STATE, READY, !card->is_resetting && !card->is_failed) |
		       FLM_REG_FIELD(STATE, FAILED, !card->is_resetting && card->is_failed);
	case FLM_REG_RESETS: return card->resets;
	case FLM_REG_EVENTS: return card->events;
	case FLM_REG_EVENT_ENABLE: return card->event_enable;
	case FLM_REG_HALTED: return lowest_halted(card);
	case FLM_REG_TIME_US: return clock_us(&card->clock);
	case FLM_REG_CYCLES: return clock_cycles(&card->clock);
	case FLM_REG_REGION_SELECT: return card->region_select;
	case FLM_REG_QUEUE_SELECT: return card->queue_select;
	case FLM_REG_UNIT_SELECT: return card->unit_select;
	case FLM_REG_CHANNEL_SELECT: return card->channel_select;
	default: return row->reset;
	}
}

/* The value of a row, all of its bits. */
static uint64_t read_row(struct card *card, const struct row *row)
{
	switch ((enum bank)row->bank) {
	case COUNT: return read_count(card, row->offset);
	case REGION: return read_region(card, row->offset);
	case QUEUE: return read_queue(card, row->offset);
	case UNIT: return read_unit(card, row->offset);
	case CHANNEL: return read_channel(card, row->offset);
	case CARD: break;
	}
	return read_card(card, row);
}

uint64_t regs_read(struct card *card, uint32_t offset, unsigned int bytes)
{
	uint64_t value = 0;

	for (unsigned int at = 0; at < bytes; at += 4) {
		const struct row *row = find_row(offset + at);
		uint64_t all;

		if (!row || row->access == WO)
			continue;
		all = read_row(card, row);
		if (row->offset == offset && row->bytes == bytes)
			return all;
		value |= (all >> 8 * (offset + at - row->offset) & 0xffffffff) << 8 * at;
	}
	return value;
}

/* A queue's registers, while it is DISABLED; `mask` says which bits of the row are written. */
static void write_queue(struct card *card, uint32_t reg, uint64_t value, uint64_t mask)
{
	struct queue *q = selected_queue(card);
	uint64_t *wide = NULL;
	uint32_t *narrow = NULL;

	if (!q)
		return;
	if (reg == FLM_REG_QUEUE_CONTROL) {
		queue_command(card, card->queue_select, value);
		return;
	}
	if (reg == FLM_REG_QUEUE_PRIORITY) {
		queue_prioritise(card, card->queue_select, value);
		return;
	}
	switch (reg) {
	case FLM_REG_QUEUE_KIND: narrow = &q->kind; break;
	case FLM_REG_QUEUE_SLOTS_LOG2: narrow = &q->slots_log2; break;
	case FLM_REG_QUEUE_RING: wide = &q->ring; break;
	case FLM_REG_QUEUE_DONE: wide = &q->done; break;
	case FLM_REG_QUEUE_STATUS: wide = &q->status; break;
	case FLM_REG_QUEUE_CONTEXT: wide = &q->context; break;
	case FLM_REG_QUEUE_QUANTUM_US: narrow = &q->quantum_us; break;
	case FLM_REG_QUEUE_CORES: narrow = &q->cores; break;
	case FLM_REG_QUEUE_VECTOR: narrow = &q->vector; break;
	case FLM_REG_QUEUE_WATCHDOG: wide = &q->watchdog; break;
	default: return;
	}
	if (q->state != FLM_QUEUE_DISABLED || q->command)
		return;
	if (narrow)
		*narrow = value;
	else
		*wide = (*wide & ~mask) | (value & mask);
}

static void write_card(struct card *card, uint32_t reg, uint64_t value)
{
	switch (reg) {
	case FLM_REG_CONTROL:
		if (value == FLM_RESET_KEY)
			reset_begin(card);
		break;
	case FLM_REG_CORE_RESET:
		queue_reset_cores(card, value);
		break;
	case FLM_REG_KICK:
		card->kicks++;
		queue_kick(card, value);
		break;
	case FLM_REG_EVENTS:
		card->events &= ~value;
		break;
	case FLM_REG_EVENT_ENABLE:
		card->event_enable = value & 0x1f;
		break;
	case FLM_REG_REGION_SELECT:
		card->region_select = value;
		break;
	case FLM_REG_QUEUE_SELECT:
		card->queue_select = value;
		break;
	case FLM_REG_UNIT_SELECT:
		card->unit_select = value & 0xffff;
		break;
	case FLM_REG_CHANNEL_SELECT:
		card->channel_select = value & 0xffff;
		break;
	default:
		break;
	}
}

static void write_row(struct card *card, const struct row *row, uint64_t value, uint64_t mask)
{
	if (row->bank == QUEUE)
		write_queue(card, row->offset, value, mask);
	else
		write_card(card, row->offset, value);
}

void regs_write(struct card *card, uint32_t offset, uint64_t value, unsigned int bytes)
{
	for (unsigned int at = 0; at < bytes; at += 4) {
		const struct row *row = find_row(offset + at);
		unsigned int shift;

		if (!row || row->access == RO)
			continue;
		if (row->offset == offset && row->bytes == bytes) {
			write_row(card, row, value, UINT64_MAX);
			return;
		}
		shift = 8 * (offset + at - row->offset);
		write_row(card, row, (value >> 8 * at & 0xffffffff) << shift,
			  0xffffffffull << shift);
	}
}
