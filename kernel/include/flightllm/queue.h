/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * What lies in memory between host and card: context pages and segment tables, ring slots, status
 * pages, completion rows, programs and job records. emulator/SPEC.md says what happens with them.
 *
 * A queue is four pieces of host memory, each named by bus address in the queue's registers:
 *
 *	ring		struct flm_slot[slots]		the host writes, the card reads
 *	completions	struct flm_done[slots]		the card writes row i at the end of slot i
 *	status page	struct flm_status_page		the card writes, but for the stop word
 *	context page	struct flm_generation[64]	what its programs may reach
 *
 * Everything is little-endian, every reserved field must be zero and is checked. Programs and slots
 * name bytes by segment and offset, never by address.
 */
#ifndef FLIGHTLLM_QUEUE_H
#define FLIGHTLLM_QUEUE_H

#include <linux/types.h>

#include <flightllm/isa.h>

/* ---- Regions, contexts, segments ---- */

/* Kinds of memory, bits 63:60 of a block entry. Addresses of a card region count from 0. */
enum flm_region {
	FLM_REGION_HBM = 0,	/* HBM of core 0; of core c: region c, 0 to 7 */
	FLM_REGION_DDR = 8,	/* DDR of the card */
	FLM_REGION_PEER = 14,	/* reserved: another card of the group */
	FLM_REGION_HOST = 15,	/* memory of the host, by bus address */
	FLM_REGIONS = 16,	/* how many numbers there are */
};

#define FLM_CORES		8	/* cores a card has at most */
#define FLM_SEGMENTS		256	/* segments a context has at most */
#define FLM_GENERATIONS		64	/* generations of its tables that exist at once */
#define FLM_HOST_BLOCK		4096	/* bytes of a block of host memory */

#define FLM_BLOCK_REGION_SHIFT	60	/* block entry: lowest bit of the region, bits 63:60 */
#define FLM_BLOCK_ADDRESS_MASK	0x0fffffffffffffffull	/* block entry: bits of the address */

/* Rights on a segment, and what a burst asks for. */
enum {
	FLM_RIGHT_R = 1,	/* read: loads, job data, page list, prompt, sources of copies */
	FLM_RIGHT_W = 2,	/* write: stores, tokens, logits, destinations of copies */
	FLM_RIGHT_X = 4,	/* fetch: program headers and streams */
};

/* Row g % 64 of a context page. The host writes tables and segments first, generation last. */
struct flm_generation {
	__le64 tables;		/* bus address of struct flm_segment_row [core][segment] */
	__le32 generation;	/* g, never 0; 0: the row is empty */
	__le32 segments;	/* rows a core, 1..256 */
	__le32 reserved[12];	/* must be zero */
};
_Static_assert(sizeof(struct flm_generation) == 64, "64 generations fill a context page");

/* One segment as one core sees it. Not changed while its generation is in the context page. */
struct flm_segment_row {
	__le64 length;		/* bytes of the segment; 0: not bound */
	__le64 blocks;		/* bus address of le64[count]; CONTIGUOUS: its one block entry */
	__le32 count;		/* entries, length / block rounded up; 1 with CONTIGUOUS */
	__u8 flags;		/* FLM_SEGMENT_CONTIGUOUS */
	__u8 rights;		/* FLM_RIGHT_ bits */
	__u8 block_log2;	/* 2^block_log2 bytes a block; 0 with CONTIGUOUS */
	__u8 reserved0;		/* must be zero */
	__le32 reserved1[2];	/* must be zero */
};
_Static_assert(sizeof(struct flm_segment_row) == 32, "segment tables have rows of 32 bytes");

#define FLM_SEGMENT_CONTIGUOUS	1	/* flag of a row: blocks is its one entry, not an address */

/* ---- Slots ---- */

/* Operations of slots, in FLM_SLOT_OP_MASK of their flags. */
enum flm_slot_op {
	FLM_SLOT_RUN = 1,	/* compute queues: a job, struct flm_slot */
	FLM_SLOT_COPY = 2,	/* copy queues from here on, struct flm_copy_slot */
	FLM_SLOT_FILL = 3,	/* dst gets the 32-bit value fill over and over */
	FLM_SLOT_CRC32C = 4,	/* CRC32C of src; flm_done.value has the result */
};

/* Flags of a slot: the operation, and these; all other bits must be zero. */
#define FLM_SLOT_OP_MASK	0xfu	/* the operation, enum flm_slot_op */
#define FLM_SLOT_INTERRUPT	0x10u	/* raise the queue's vector when the slot is finished */

/* One slot of a compute queue. The host writes it, the card reads it once and keeps a copy. */
struct flm_slot {
	__le32 flags;		/* FLM_SLOT_RUN, and FLM_SLOT_INTERRUPT or not */
	__le32 generation;	/* generation of the segment tables to use */
	__le64 seqno;		/* ascending in a queue, never 0 */
	__le64 program;		/* offset of struct flm_program, a multiple of 64 */
	__le64 job;		/* offset of struct flm_job_record, a multiple of 64 */
	__le16 program_segment;	/* segment of the program */
	__le16 job_segment;	/* segment of the job record */
	__le32 max_points;	/* preemption points the job may need; more is fault SLOT */
	__le32 reserved[6];	/* must be zero */
};
_Static_assert(sizeof(struct flm_slot) == 64, "the card reads slots of 64 bytes");

/* One slot of a copy queue. Where source and destination overlap, dst gets any bytes. */
struct flm_copy_slot {
	__le32 flags;		/* COPY, FILL or CRC32C, and FLM_SLOT_INTERRUPT or not */
	__le32 generation;	/* generation of the segment tables to use */
	__le64 seqno;		/* ascending in a queue, never 0 */
	__le64 src;		/* offset of the source; FILL: zero */
	__le64 dst;		/* offset of the destination; CRC32C: zero */
	__le64 bytes;		/* how many, at least 1; FILL: dst and bytes are multiples of 4 */
	__le16 src_segment;	/* segment of the source; FILL: zero */
	__le16 dst_segment;	/* segment of the destination; CRC32C: zero */
	__u8 src_core;		/* core whose table names src_segment; FILL: zero */
	__u8 dst_core;		/* core whose table names dst_segment; CRC32C: zero */
	__le16 reserved0;	/* must be zero */
	__le32 fill;		/* FILL: the value; else zero */
	__le32 reserved1[3];	/* must be zero */
};
_Static_assert(sizeof(struct flm_copy_slot) == 64, "the card reads slots of 64 bytes");

#define FLM_COPY_POINT	(4u << 20)	/* bytes of a copy from one preemption point to the next */

/* ---- Completion ---- */

/* How a slot ended. */
#define STATUS(name, number, meaning) FLM_STATUS_##name = number,
enum flm_status {
#include <flightllm/names.def>
};

/* Why a job or copy was ended, or a queue halted. */
#define FAULT(name, number, meaning) FLM_FAULT_##name = number,
enum flm_fault {
#include <flightllm/names.def>
	FLM_FAULTS		/* how many numbers there are */
};

#define FLM_NOWHERE	0xff	/* core, unit or entry of a fault that has none */

/* Row i of the completions: how slot i ended. */
struct flm_done {
	__le64 seqno;		/* seqno of the slot */
	__le32 status;		/* enum flm_status */
	__le32 value;		/* compute: tokens generated; CRC32C: the checksum; else 0 */
	__le64 started_us;	/* card time at which the slot began */
	__le64 ended_us;	/* card time at which the slot ended */
	__le64 cycles;		/* cycles of the card's clock spent on this slot */
	__u8 fault;		/* enum flm_fault; unless status is FAULT 0, as what follows */
	__u8 core;		/* core of the fault, or FLM_NOWHERE */
	__u8 unit;		/* enum flm_unit, or FLM_NOWHERE: slot, record or header */
	__u8 entry;		/* entry of the program, or FLM_NOWHERE */
	__le32 word;		/* place of the instruction in its stream; or which field */
	__le32 segment;		/* segment of the burst that was refused */
	__le32 points;		/* preemption points reached; also without a fault */
	__le64 offset;		/* offset in the segment of the burst that was refused */
};
_Static_assert(sizeof(struct flm_done) == 64, "completion rows have 64 bytes");

/*
 * One page of host memory a queue. The card writes the first 2048 bytes. The host writes the
 * others, and it clears `armed`. `seqno` and `head` are written after the completion row they
 * tell of, `made` after the tokens it counts, with a barrier between.
 */
struct flm_status_page {
	__le32 armed;		/* 1: the card sleeps on this queue, a new tail needs KICK */
	__le32 head;		/* slots finished, modulo 2^32 */
	__le64 seqno;		/* seqno of the last slot finished */
	__le64 running;		/* seqno of the slot that is running or preempted; 0: none */
	__le32 made;		/* tokens made by that slot, or by the last finished one */
	__le32 generation;	/* generation of the segment tables in use; 0: none */
	__le64 points;		/* preemption points reached since ENABLE: progress */
	__le64 heartbeat_us;	/* card time of the last write of this page */
	__le64 busy_us;		/* card time its slots have run since ENABLE */
	__le64 cycles;		/* cycles of the card that its slots have run since ENABLE */
	__le32 error;		/* enum flm_fault that halted the queue, 0 while it runs */
	__le32 reserved0;	/* zero */
	__le64 reserved1[247];	/* zero */
	__le64 stop;		/* slots up to this seqno end at their next preemption point */
	__le64 reserved2[255];	/* the host's; the card ignores it */
};
_Static_assert(sizeof(struct flm_status_page) == 4096, "the status page is a page");
_Static_assert(__builtin_offsetof(struct flm_status_page, stop) == 2048, "the host's half");

/* The first word of a queue's doorbell page is its tail: slots posted so far, modulo 2^32. */
#define FLM_DOORBELL_BYTES	4096	/* bytes from one doorbell to the next */

#define FLM_HEARTBEAT_MS	100	/* wall time between writes of a status page, with work */

/* ---- Programs ---- */

#define FLM_PROGRAM_MAGIC	0x504d4c46u	/* the letters FLMP */
#define FLM_ENTRIES_MAX		8		/* entries of a program */
#define FLM_PROGRAM_WORDS	(1u << 22)	/* words of entries 0 and 1 together, at most */
#define FLM_ENTRY_CHUNK		0		/* the entry for a chunk of the prompt */
#define FLM_ENTRY_TOKEN		1		/* the entry for a generated token, fed back */

/* One stream of an entry. */
struct flm_stream {
	__le32 offset;		/* bytes from the program header, a multiple of 4 */
	__le32 words;		/* how many 32-bit words, at least 1 */
};

/* One entry point: a stream for each unit. */
struct flm_entry {
	struct flm_stream stream[FLM_UNITS];	/* by enum flm_unit */
};
_Static_assert(sizeof(struct flm_entry) == 48, "an entry is six streams");

/* What a length register may be; fault BOUND outside. */
struct flm_bound {
	__le32 min;		/* least value */
	__le32 max;		/* greatest value */
};

/* Aligned to 64 bytes in a segment with right X; entries follow, streams are anywhere in it. */
struct flm_program {
	__le32 magic;		/* FLM_PROGRAM_MAGIC, else fault VERSION */
	__le16 isa_major;	/* instruction set it needs: another major is fault VERSION */
	__le16 isa_minor;	/* the card accepts any, the host none above that of the card */
	__le32 entries;		/* how many entries, 1..8; the card runs 0 and 1 */
	__le32 cores;		/* how many it is made for: as many as the queue's mask has */
	__le32 chunk;		/* tokens of a pass of entry 0 at most, 1..128 */
	__le32 flags;		/* must be zero */
	__le64 watchdog;	/* instructions a core needs a pass; told, not enforced */
	__le32 reserved[8];	/* must be zero */
	struct flm_bound bounds[FLM_LENGTHS];	/* of each length register, in every pass */
	__le32 core[FLM_CORES][FLM_CORE_REGISTERS];	/* core registers; by rank in the mask */
	struct flm_entry entry[];	/* the entries */
};
_Static_assert(sizeof(struct flm_program) == 704, "entries begin at 704");

/* ---- Job records ---- */

#define FLM_USER_LENGTHS	(FLM_LENGTHS - FLM_LENGTH_USER)	/* those that the job record sets */
#define FLM_STOP_TOKENS		16	/* stop tokens of a sequence at most */
#define FLM_TOP_MAX		64	/* candidates of a token in the top list at most */
#define FLM_SEQUENCES_MAX		1	/* sequences of a job at most; more are reserved */

/* Bytes that a job reads or writes; what n and count mean is said where it is used. */
struct flm_span {
	__le16 segment;		/* segment of the bytes */
	__le16 n;		/* items of an element, where the use says so */
	__le32 count;		/* how many elements, where the use says so */
	__le64 offset;		/* in the segment */
};
_Static_assert(sizeof(struct flm_span) == 16, "a span is 16 bytes");

/* Which logits a job returns. */
enum flm_logits_mode {
	FLM_LOGITS_NONE = 0,	/* no logits are wanted */
	FLM_LOGITS_EVERY = 1,	/* positions logits_first on, logits_count of them */
	FLM_LOGITS_LAST = 2,	/* of those, the last of the prompt and every generated one */
};

/* What a logit is. */
enum flm_logits_type {
	FLM_LOGITS_F32 = 0,	/* float32 */
};

/*
 * What to do. The card copies record and sequence before it checks them. Offsets are multiples of
 * 4; the segments are looked up in the table of the lowest core of the queue's mask.
 */
struct flm_job_record {
	__le32 bytes;		/* sizeof(struct flm_job_record): 256, else fault VERSION */
	__le32 flags;		/* must be zero */
	__le32 user[FLM_USER_LENGTHS];	/* length registers 9..15 */
	__le32 sequences;	/* how many struct flm_sequence stand at sequence_offset: 1 */
	__le64 sequence_offset;	/* in the record's segment, a multiple of 64 */
	struct flm_span prompt;	/* le32 ids of sequence s at offset + s * count; count 0, n 0 */
	struct flm_span ring;	/* token i (from 0 in this job) goes to le32 [i % count]; n 0 */
	struct flm_span top;	/* n candidates (0..64) of token i go to [i % count][n] */
	__le16 logits_segment;	/* segment that logits go to */
	__u8 logits_mode;	/* enum flm_logits_mode; NONE: all of logits_ is zero */
	__u8 logits_type;	/* enum flm_logits_type */
	__le32 logits_stride;	/* bytes from position to position, a multiple of 4 */
	__le64 logits_offset;	/* position logits_first goes here */
	__le32 logits_first;	/* first position whose logits are wanted */
	__le32 logits_count;	/* how many positions */
	__le32 notify_tokens;	/* interrupt each so many tokens; 0: only as the slot says */
	__le32 notify_ms;	/* but not before so many milliseconds after the last one */
	struct flm_span mask;	/* reserved: masks over logits */
	struct flm_span results;	/* reserved: how each sequence ended */
	__le32 group;		/* reserved: cards that work together */
	__le16 group_rank;	/* reserved: rank of this card */
	__le16 group_size;	/* reserved: cards of the group */
	__le32 reserved[22];	/* must be zero */
};
_Static_assert(sizeof(struct flm_job_record) == 256, "job records have 256 bytes");

/* One sequence of a job. */
struct flm_sequence {
	__le32 position;	/* of the first prompt token: POS at the start */
	__le32 kv_length;	/* positions cached: KV at the start; read-only below */
	__le32 prompt;		/* tokens of the prompt */
	__le32 generate;	/* tokens to be generated at most */
	__le16 page_segment;	/* segment of the page list itself: le32 indices of pages */
	__le16 stop_count;	/* how many stop tokens, 0..16 */
	__le32 page_count;	/* how many pages; 0: the job has no page list */
	__le64 page_offset;	/* offset of the page list, a multiple of 4 */
	__le32 temperature;	/* float32 bits; 0: the greatest logit */
	__le32 top_k;		/* 0: all candidates */
	__le32 top_p;		/* float32 bits; 0 or 1: off */
	__le32 min_p;		/* float32 bits; 0: off */
	__le64 seed;		/* of the random numbers of sampling */
	__le32 mask;		/* reserved: which of the mask span */
	__le16 adapter;		/* reserved: adapter of the sequence */
	__le16 reserved;	/* must be zero */
	__le32 stop[FLM_STOP_TOKENS];	/* stop tokens; zero from stop_count on */
};
_Static_assert(sizeof(struct flm_sequence) == 128, "sequences have 128 bytes");

#endif
