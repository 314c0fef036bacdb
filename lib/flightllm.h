/* SPDX-License-Identifier: MIT */
/*
 * libflightllm: language models on a FlightLLM card, or on the emulated one in the process.
 *
 *	struct flm_device *device;
 *	struct flm_model *model;
 *	struct flm_session *session;
 *
 *	if (flm_device_open(NULL, &device) ||
 *	    flm_model_load(device, "fables-3m.flm", NULL, &model) ||
 *	    flm_session_new(model, NULL, &session))
 *		errx(1, "%s", flm_error());
 *	flm_tokenizer_encode(flm_model_tokenizer(model), text, strlen(text), ids, max, &n);
 *	flm_session_generate(session, &(struct flm_request) {
 *		.tokens = ids, .count = n, .generate = 200, .on_token = print_it }, &result);
 *	flm_session_free(session);
 *	flm_model_free(model);
 *	flm_device_close(device);
 *
 * Functions that can fail return 0 or -errno, and objects through their last parameter; on failure
 * the object is NULL and flm_error() says what was wrong and what to do. free and close take NULL.
 * The library never prints and never exits.
 *
 * Threads: objects of one device may be used from several threads at once; one session, context or
 * queue by one thread at a time, but for flm_session_stop() and flm_queue_stop(), which may be
 * called from any. flm_error() is the calling thread's own.
 */
#ifndef FLIGHTLLM_H
#define FLIGHTLLM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define FLM_VERSION "0.1.0"

/* Text of the calling thread's last failure, one line; valid until its next failing call. */
const char *flm_error(void);

/* ---- Devices ---- */

struct flm_device;

#define FLM_NAME_BYTES 64

struct flm_region_info {
	char name[8];			/* "hbm0", "ddr", "host" */
	uint64_t bytes;
	uint64_t free_bytes;
};

struct flm_device_info {
	char node[FLM_NAME_BYTES];	/* "/dev/accel/accel0", or "emulate:u280" */
	char bus[FLM_NAME_BYTES];	/* PCI address, or "" */
	char card[16];			/* profile: "u280" */
	char driver[FLM_NAME_BYTES];	/* "flightllm 0.1.0", or "soft" */
	uint64_t serial;
	unsigned int cores;
	unsigned int isa_major, isa_minor;
	unsigned int queues;
	unsigned int regions;
	struct flm_region_info region[16];
};

/*
 * Nodes that the flightllm driver owns, opened or not. Fills at most max rows with node and bus,
 * the rest is zero; returns how many there are, or -errno.
 */
int flm_device_list(struct flm_device_info *rows, unsigned int max);

/*
 * name: NULL for $FLIGHTLLM_DEVICE, or else the first card; a number ("0"), a node, a PCI
 * address; or "emulate" or "emulate:PROFILE" for a card in the process (loads
 * libflightllm-card.so). -ENODEV no such card, -EACCES no permission (flm_error() names the group),
 * -EPROTO versions differ.
 */
int flm_device_open(const char *name, struct flm_device **device);

/* Objects of the device must have been freed before. */
void flm_device_close(struct flm_device *device);

int flm_device_info(struct flm_device *device, struct flm_device_info *info);

/* The card's counts since it was reset: what a job cost on the bus. */
struct flm_counters {
	uint64_t register_reads, register_writes;
	uint64_t kicks, doorbells, interrupts;
	uint64_t jobs, tokens, instructions;
};

int flm_device_counters(struct flm_device *device, struct flm_counters *counters);

/* ---- Buffers ---- */

struct flm_bo;

enum flm_placement { FLM_BO_HBM = 1, FLM_BO_DDR = 2, FLM_BO_HOST = 3 };

/*
 * bytes are rounded up to the region's block. core: whose HBM. Zeroed. -ENOSPC: the region is full;
 * flm_error() says how much is free.
 */
int flm_bo_new(struct flm_device *device, enum flm_placement placement, unsigned int core,
	       uint64_t bytes, struct flm_bo **bo);
void flm_bo_free(struct flm_bo *bo);
uint64_t flm_bo_bytes(const struct flm_bo *bo);

/* The CPU's view of a host buffer, mapped once and kept; NULL for others and on failure. */
void *flm_bo_map(struct flm_bo *bo);

/*
 * Copies between memory of the process and a buffer in any place, through the copy queue where the
 * CPU cannot reach it. Returns when done. -EINVAL outside the buffer, -EIO the card failed.
 */
int flm_bo_write(struct flm_bo *bo, uint64_t offset, const void *memory, uint64_t bytes);
int flm_bo_read(struct flm_bo *bo, uint64_t offset, void *memory, uint64_t bytes);

/* ---- Contexts, queues, jobs: for programs that bring their own instruction streams ---- */

struct flm_context;
struct flm_queue;

enum flm_rights { FLM_READ = 1, FLM_WRITE = 2, FLM_EXECUTE = 4 };

#define FLM_ALL_CORES 0xffffffffu

struct flm_binding {
	unsigned int segment;
	unsigned int core;		/* or FLM_ALL_CORES */
	struct flm_bo *bo;		/* NULL: unbind */
	uint64_t offset, bytes;		/* multiples of the block size, but for the last bytes */
	unsigned int rights;
};

int flm_context_new(struct flm_device *device, struct flm_context **context);
void flm_context_free(struct flm_context *context);

/* All or nothing; jobs submitted before keep what they had. */
int flm_context_bind(struct flm_context *context, const struct flm_binding *bindings,
		     unsigned int count);

/* cores: mask, 0 for all. priority: 0 (lowest) to 3 (needs a privilege), 1 is usual. */
int flm_queue_new(struct flm_context *context, uint32_t cores, unsigned int priority,
		  struct flm_queue **queue);
void flm_queue_free(struct flm_queue *queue);

struct flm_job {
	unsigned int program_segment, job_segment;
	uint64_t program_offset, job_offset;	/* struct flm_program, struct flm_job_record */
	unsigned int max_points;	/* preemption points: chunks of the prompt + tokens */
};

/* seqno: of the last job; jobs of a queue run in order. One system call. */
int flm_queue_submit(struct flm_queue *queue, const struct flm_job *jobs, unsigned int count,
		     uint64_t *seqno);

struct flm_completion {
	unsigned int status;		/* enum flm_status of queue.h */
	unsigned int tokens;
	unsigned int points;		/* preemption points reached */
	uint64_t started_us, ended_us;	/* card time */
	struct {
		unsigned int kind, core, unit, word, segment;
		uint64_t offset;
	} fault;			/* when status is FLM_STATUS_FAULT */
};

/*
 * Waits until job seqno has ended (tokens 0), or is running and has made that many tokens, or has
 * ended. 0, -ETIME; completion (may be NULL) is filled when it has ended, and tokens always.
 */
int flm_queue_wait(struct flm_queue *queue, uint64_t seqno, unsigned int tokens,
		   int64_t timeout_ns, struct flm_completion *completion);

/* Ends the job at its next preemption point. Any thread. */
int flm_queue_stop(struct flm_queue *queue, uint64_t seqno);

/* ---- Tokenizer: SentencePiece BPE with byte fallback ---- */

struct flm_tokenizer;

/*
 * model: the bytes of a tokenizer.model, copied. -EBADMSG: broken or of a kind that is not
 * supported; flm_error() names the setting. A tokenizer does not change: any number of threads
 * may use one.
 */
int flm_tokenizer_new(const void *model, size_t bytes, struct flm_tokenizer **tokenizer);
void flm_tokenizer_free(struct flm_tokenizer *tokenizer);

uint32_t flm_tokenizer_vocab(const struct flm_tokenizer *tokenizer);

/* Text of a piece as the model has it (U+2581 for a space), not terminated; NULL: no such token. */
const char *flm_tokenizer_piece(const struct flm_tokenizer *tokenizer, uint32_t token,
				size_t *bytes);

/*
 * Text (any bytes; invalid UTF-8 counts as U+FFFD) as ids, without bos or eos. *count is how many
 * there are; -ENOBUFS when that is more than room, and the first room of them are written.
 */
int flm_tokenizer_encode(const struct flm_tokenizer *tokenizer, const char *text, size_t bytes,
			 uint32_t *ids, size_t room, size_t *count);

/*
 * Ids as text, as they come: only whole UTF-8 characters come out, bytes that make none come out as
 * U+FFFD, control tokens as nothing. All outputs together are the text of all tokens. What is
 * returned is valid until the next call. One thread at a time; the tokenizer must outlive it.
 */
struct flm_detokenizer;

int flm_detokenizer_new(const struct flm_tokenizer *tokenizer,
			struct flm_detokenizer **detokenizer);
void flm_detokenizer_free(struct flm_detokenizer *detokenizer);
const char *flm_detokenizer_push(struct flm_detokenizer *detokenizer, uint32_t token,
				 size_t *bytes);

/* What was held back; the next push begins a new text. */
const char *flm_detokenizer_finish(struct flm_detokenizer *detokenizer, size_t *bytes);

/* ---- Models ---- */

struct flm_model;

/* done of all bytes; called now and then from the loading thread. */
typedef void (*flm_progress)(void *opaque, uint64_t done, uint64_t all);

struct flm_load_options {
	flm_progress progress;
	void *opaque;
};

struct flm_model_info {
	char name[FLM_NAME_BYTES];
	char card[16];
	unsigned int cores;
	unsigned int layers, hidden, ffn, heads, kv_heads, head_dim, vocab, context, chunk;
	uint64_t file_bytes, weight_bytes, program_bytes;
	uint64_t kv_bytes_per_token;	/* all cores */
	unsigned int bos, eos_count, eos[8];
	const char *notes;		/* JSON; the model's, "" when there is none */
};

/*
 * Reads what the file says of itself, without a device. Each broken, truncated or newer file is
 * -EBADMSG or -EPROTO with one line in flm_error().
 */
int flm_model_probe(const char *path, struct flm_model_info *info, char **notes);

/* Checks the file, makes buffers, uploads them. options may be NULL. */
int flm_model_load(struct flm_device *device, const char *path,
		   const struct flm_load_options *options, struct flm_model **model);
void flm_model_free(struct flm_model *model);
void flm_model_info(struct flm_model *model, struct flm_model_info *info);

/* The model's own; NULL when the file has none. */
struct flm_tokenizer *flm_model_tokenizer(struct flm_model *model);

/* ---- Sessions: one sequence of tokens with its KV cache ---- */

struct flm_session;

struct flm_session_options {
	unsigned int context;		/* positions to keep; 0: the model's */
	unsigned int priority;		/* of its queue; 0: 1 */
};

int flm_session_new(struct flm_model *model, const struct flm_session_options *options,
		    struct flm_session **session);
void flm_session_free(struct flm_session *session);

struct flm_sampler {
	float temperature;		/* 0: the most likely token */
	unsigned int top_k;		/* 0: all (the card looks at the first 1,024) */
	float top_p;			/* 0 or 1: off */
	float min_p;			/* 0: off */
	uint64_t seed;
};

struct flm_request {
	const uint32_t *tokens;		/* the prompt; may be empty when a token is pending */
	unsigned int count;
	unsigned int generate;		/* tokens wanted; 0: prefill only */
	struct flm_sampler sampler;
	const uint32_t *stop;		/* at most 16; ends behind the first of them */
	unsigned int stop_count;
	/*
	 * Each token as it comes, from the calling thread; return true to stop. NULL: the card says
	 * nothing until the end, and the whole request costs one doorbell.
	 */
	bool (*on_token)(void *opaque, uint32_t token);
	void *opaque;
	uint32_t *out;			/* [generate] tokens, or NULL */
	/*
	 * Logits [logit_count][vocab] of positions logit_first .. (a position's logits say what
	 * follows it), or NULL. Positions that the request does not reach stay as they are.
	 */
	float *logits;
	unsigned int logit_first, logit_count;
};

enum flm_end { FLM_END_COUNT, FLM_END_STOP_TOKEN, FLM_END_STOPPED, FLM_END_CONTEXT_FULL };

struct flm_result {
	unsigned int tokens;		/* generated */
	enum flm_end end;
	unsigned int submits;		/* system calls that submitted */
	uint64_t prefill_ns, decode_ns;	/* wall time; all of it decode_ns without on_token */
	uint64_t card_us;		/* card time of all jobs */
};

/*
 * Appends the prompt, then what the card generates. The last generated token is pending: the next
 * request feeds it first. -EOVERFLOW: the prompt does not fit the context (nothing was changed);
 * -EIO: the job faulted, flm_error() says where; -ECANCELED: the card was reset, the session is
 * lost.
 */
int flm_session_generate(struct flm_session *session, const struct flm_request *request,
			 struct flm_result *result);

/* Ends the running request at the card's next preemption point. Any thread. */
void flm_session_stop(struct flm_session *session);

/* Positions in use, the pending token counted. */
unsigned int flm_session_position(struct flm_session *session);

/* Forgets everything from this position on. -EINVAL beyond the end. */
int flm_session_truncate(struct flm_session *session, unsigned int position);

#ifdef __cplusplus
}
#endif

#endif
