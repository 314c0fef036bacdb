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
 * the object is NULL and flm_error() says what was wrong and what to do. free and close take NULL
 * and leave the text of flm_error() alone. Objects are the caller's to free, in the opposite order:
 * sessions before their model, queues before their context, all before the device. The library
 * never prints and never exits.
 *
 * Errors. Those that a function's comment names, and from any that makes or asks something:
 * -ENOMEM, no memory in the host; -ECANCELED, the card was reset, has failed or is gone; -EBUSY,
 * the card is just being reset, try again in a moment.
 *
 * A card that was reset (-ECANCELED; another program's job may be the reason) has lost what lay in
 * HBM and DDR. What survives: the device, buffers in host memory with their bytes, tokenizers. What
 * does not: sessions, models, contexts, queues, and buffers in HBM and DDR. Each of them answers
 * -ECANCELED from then on, and is to be freed. On the same device a model can be loaded again at
 * once, and sessions begin anew. When that, too, is -ECANCELED, the card is gone: close the device.
 *
 * Threads: objects of one device may be used from several threads at once; one session, context,
 * queue or detokenizer by one thread at a time, but for flm_session_stop() and flm_queue_stop(),
 * which may be called from any. What is freed must not be in use. flm_error() is the calling
 * thread's own.
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
 * the rest is zero; returns how many there are, or -errno of reading /sys/class/accel.
 */
int flm_device_list(struct flm_device_info *rows, unsigned int max);

/* What PCI tells of a card, whether a driver owns it or not. There is nothing to free. */
struct flm_pci_info {
	char bus[FLM_NAME_BYTES];	/* PCI address, as in flm_device_info */
	char driver[FLM_NAME_BYTES];	/* that owns it: "flightllm", another, or "": none */
	char name[128];			/* vendor and device, by pci.ids or by number */
	unsigned int link_width, link_width_max;	/* lanes in use; that the card can use */
	unsigned int link_mts, link_mts_max;	/* megatransfers a second and lane: 8000 is Gen3 */
	uint64_t bar_bytes[6];		/* 0: there is no such BAR */
	uint64_t serial;		/* as in flm_device_info; 0: the card tells none */
};

/*
 * Cards of this machine, by PCI address; none is opened. Fills at most max rows, returns how many
 * cards there are (at most 64), 0 also on a machine without PCI. link_ and serial are 0 for users
 * who may not read a device's whole configuration space: the kernel shows that to root alone. Any
 * thread. -EIO: sysfs cannot be read, or a card went away meanwhile. -ENOMEM.
 */
int flm_pci_list(struct flm_pci_info *rows, unsigned int max);

/*
 * name: NULL for $FLIGHTLLM_DEVICE, or else the first card; a number ("0"), a node, a PCI
 * address; or "emulate" or "emulate:PROFILE" for a card in the process (loads
 * libflightllm-card.so). -ENODEV no such card, or the driver does not own it, -EACCES no
 * permission (flm_error() names the group), -EPROTO versions differ, -EINVAL no such PROFILE.
 */
int flm_device_open(const char *name, struct flm_device **device);

/* Objects of the device must have been freed before. */
void flm_device_close(struct flm_device *device);

/* What the card is and has, and how much of its memory is free now. */
int flm_device_info(struct flm_device *device, struct flm_device_info *info);

/* The card's counts since it was reset: what a job cost on the bus. */
struct flm_counters {
	uint64_t register_reads, register_writes;
	uint64_t kicks, doorbells, interrupts;
	uint64_t jobs, tokens, instructions;
	uint64_t submits;	/* SUBMIT calls of all clients, since the driver was bound */
};

int flm_device_counters(struct flm_device *device, struct flm_counters *counters);

/* ---- Buffers ---- */

struct flm_bo;

enum flm_placement { FLM_BO_HBM = 1, FLM_BO_DDR = 2, FLM_BO_HOST = 3 };

/*
 * bytes are rounded up to the region's block. core: whose HBM; else 0. Zeroed. -ENOSPC: the region
 * is full, flm_error() says how much is free. -E2BIG: more than the whole region. -EINVAL: no
 * bytes, or no such place.
 */
int flm_bo_new(struct flm_device *device, enum flm_placement placement, unsigned int core,
	       uint64_t bytes, struct flm_bo **bo);
/* Jobs that were submitted, and contexts that have it bound, keep its memory until they end. */
void flm_bo_free(struct flm_bo *bo);

/* As rounded up. */
uint64_t flm_bo_bytes(const struct flm_bo *bo);

/*
 * The CPU's view of a host buffer, mapped once and kept until it is freed. NULL for others and on
 * failure; flm_error() says which.
 */
void *flm_bo_map(struct flm_bo *bo);

/*
 * Copies between memory of the process and a buffer in any place, through a copy queue where the
 * CPU cannot reach it. Returns when done; after a failure part of it may have been copied. Copies
 * of one device wait for each other. -EINVAL: outside the buffer, nothing was copied. -EIO: the
 * card broke the copy off. -ENOSPC: all queues of the card are taken.
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

/* -ENOSPC: 1,024 contexts are all that a device has. */
int flm_context_new(struct flm_device *device, struct flm_context **context);
void flm_context_free(struct flm_context *context);

/*
 * All or nothing; jobs submitted before keep what they had. Waits when jobs of 63 bindings before
 * it are still to end. -EINVAL: more than 64 rows, or a row out of range.
 */
int flm_context_bind(struct flm_context *context, const struct flm_binding *bindings,
		     unsigned int count);

/*
 * cores: mask, 0 for all. priority: 0 (lowest) to 3 (needs a privilege, else -EACCES), 1 is usual.
 * -EINVAL: another core or priority. -ENOSPC: all queues of the card are taken. -ETIMEDOUT: the
 * card did not answer.
 */
int flm_queue_new(struct flm_context *context, uint32_t cores, unsigned int priority,
		  struct flm_queue **queue);

/* Ends its jobs first. */
void flm_queue_free(struct flm_queue *queue);

struct flm_job {
	unsigned int program_segment, job_segment;
	uint64_t program_offset, job_offset;	/* struct flm_program, struct flm_job_record */
	unsigned int max_points;	/* preemption points: chunks of the prompt + tokens */
};

/*
 * seqno: of the last job, 0 on failure; jobs of a queue run in order, and all or none are taken.
 * One system call. -EINVAL: count is not 1 to 64, a segment or offset that cannot be. -E2BIG: more
 * preemption points than the driver allows now. -EBUSY: the queue is full; it takes at least 64.
 * What is wrong with the program or its record is no error here but the job's fault.
 */
int flm_queue_submit(struct flm_queue *queue, const struct flm_job *jobs, unsigned int count,
		     uint64_t *seqno);

/*
 * Names of numbers: "KV_FULL" of enum flm_status, "WATCHDOG" of enum flm_fault, "stop_token" of enum
 * flm_end; "?" for a number that has none. Static text; any thread.
 */
const char *flm_status_name(unsigned int status);
const char *flm_fault_name(unsigned int fault);
const char *flm_end_name(unsigned int end);

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
 * ended; timeout_ns from now, 0 only looks. Signals do not end the wait. completion (may be NULL)
 * is filled on 0 and -ETIME: tokens always, the rest when status is not 0. -ETIME: not yet.
 * -EINVAL: no such job. -ESTALE: it ended before the last 64 jobs of the queue, or more where the
 * driver remembers more.
 */
int flm_queue_wait(struct flm_queue *queue, uint64_t seqno, unsigned int tokens,
		   int64_t timeout_ns, struct flm_completion *completion);

/*
 * Ends the job, and those before it in the queue, at the next preemption point; returns at once.
 * Any thread. One that has ended is left alone. -EINVAL: no such job.
 */
int flm_queue_stop(struct flm_queue *queue, uint64_t seqno);

/* ---- Tokenizer: SentencePiece BPE with byte fallback ---- */

struct flm_tokenizer;

/*
 * model: the bytes of a tokenizer.model, copied. -EBADMSG: broken or of a kind that is not
 * supported; flm_error() names the setting. A tokenizer does not change: any number of threads
 * may use one. Needs no device.
 */
int flm_tokenizer_new(const void *model, size_t bytes, struct flm_tokenizer **tokenizer);
void flm_tokenizer_free(struct flm_tokenizer *tokenizer);

/* Pieces; ids are below it. */
uint32_t flm_tokenizer_vocab(const struct flm_tokenizer *tokenizer);

/* Ids of the unknown piece, and of begin and end of a text as the model names them; -1: none. */
int64_t flm_tokenizer_unk(const struct flm_tokenizer *tokenizer);
int64_t flm_tokenizer_bos(const struct flm_tokenizer *tokenizer);
int64_t flm_tokenizer_eos(const struct flm_tokenizer *tokenizer);

/*
 * Text of a piece as the model has it (U+2581 for a space), *bytes long, not terminated; the
 * tokenizer's. NULL: no such token.
 */
const char *flm_tokenizer_piece(const struct flm_tokenizer *tokenizer, uint32_t token,
				size_t *bytes);

/*
 * Text (any bytes, zero bytes too; invalid UTF-8 counts as U+FFFD) as ids [room], without bos or
 * eos. *count is how many there are, at most bytes + 1 without byte fallback and 3 * bytes + 3 with
 * it. -ENOBUFS: more than room; the first room of them are written. -E2BIG: more than 2^29 - 1
 * bytes. -EINVAL: a character of the text is one of the model's control pieces. With these two and
 * -ENOMEM nothing is written and *count is 0.
 */
int flm_tokenizer_encode(const struct flm_tokenizer *tokenizer, const char *text, size_t bytes,
			 uint32_t *ids, size_t room, size_t *count);

/*
 * Ids as text [room], all at once: what a detokenizer gives for them one by one, not terminated.
 * *bytes is how many there are. -ENOBUFS: more than room; the first room of them are written, which
 * may end inside a character. -EINVAL: an id that is no piece. With this and -ENOMEM nothing is
 * written and *bytes is 0.
 */
int flm_tokenizer_decode(const struct flm_tokenizer *tokenizer, const uint32_t *ids, size_t count,
			 char *text, size_t room, size_t *bytes);

/*
 * Ids as text, as they come: only whole UTF-8 characters come out of byte pieces, bytes that make
 * none come out as U+FFFD, control tokens and ids that are no piece as nothing. All outputs
 * together are the text of all tokens. What is returned is *bytes long, may be empty, is not
 * terminated and belongs to the detokenizer until its next call; neither call can fail. One thread
 * at a time; the tokenizer must outlive it.
 */
struct flm_detokenizer;

int flm_detokenizer_new(const struct flm_tokenizer *tokenizer,
			struct flm_detokenizer **detokenizer);
void flm_detokenizer_free(struct flm_detokenizer *detokenizer);
const char *flm_detokenizer_push(struct flm_detokenizer *detokenizer, uint32_t token,
				 size_t *bytes);

/* What was held back of a character that never became whole; the next push begins a new text. */
const char *flm_detokenizer_finish(struct flm_detokenizer *detokenizer, size_t *bytes);

/* ---- Models ---- */

struct flm_model;

/* done of all bytes; called now and then from the loading thread. */
typedef void (*flm_progress)(void *opaque, uint64_t done, uint64_t all);

struct flm_load_options {
	flm_progress progress;		/* may be NULL */
	void *opaque;
	bool needs_tokenizer;		/* a file without one is -ENODATA before any upload */
};

struct flm_model_info {
	char name[FLM_NAME_BYTES];	/* UTF-8 without control characters */
	char card[16];
	unsigned int cores;
	unsigned int layers, hidden, ffn, heads, kv_heads, head_dim, vocab, context, chunk;
	uint64_t file_bytes, weight_bytes, program_bytes;
	uint64_t kv_bytes_per_token;	/* all cores */
	unsigned int bos, eos_count, eos[8];
	const char *notes;		/* JSON, as long as the model lives; "": none */
};

/*
 * Reads what the file says of itself, without a device; info->notes is "". notes (may be NULL) gets
 * the model's, to be freed by free(), NULL on failure. Each broken, truncated or newer file is
 * -EBADMSG or -EPROTO with one line in flm_error(), also one that shrinks in the meantime; one that
 * cannot be opened or read is open()'s or pread()'s errno.
 */
int flm_model_probe(const char *path, struct flm_model_info *info, char **notes);

/*
 * Checks the file, makes buffers, uploads them; the file is not needed afterwards. options may be
 * NULL. Errors of flm_model_probe() for the file, -EPROTO also when it is for another card or
 * needs a newer instruction set than the card has; of flm_bo_new() and flm_bo_write() for the
 * card. On failure no buffer is left.
 */
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

/*
 * A context, a queue and KV pages of its own. options may be NULL. -EINVAL: a context longer than
 * the model's, or no such priority. -ENOSPC: no room for the KV cache, or no queue left. -EACCES: a
 * priority that needs a privilege.
 */
int flm_session_new(struct flm_model *model, const struct flm_session_options *options,
		    struct flm_session **session);
void flm_session_free(struct flm_session *session);

struct flm_sampler {
	float temperature;		/* 0 to 100; 0: the most likely token */
	unsigned int top_k;		/* 0: all (the card looks at the first 1,024) */
	float top_p;			/* 0 to 1; 0 or 1: off */
	float min_p;			/* 0 to 1; 0: off */
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

/* Why a request ended: END(name, text, meaning). */
#define FLM_END_ROWS(END) \
	END(COUNT, "count", "as many tokens as were asked for") \
	END(STOP_TOKEN, "stop_token", "the last token is one of the stop tokens") \
	END(STOPPED, "stopped", "the caller's function or flm_session_stop() wanted no more") \
	END(CONTEXT_FULL, "context_full", "the session holds no more tokens")

#define FLM_END(name, text, meaning) FLM_END_##name,
enum flm_end { FLM_END_ROWS(FLM_END) };
#undef FLM_END

struct flm_result {
	unsigned int tokens;		/* generated */
	enum flm_end end;
	unsigned int submits;		/* jobs: one, or more where it is longer than one may be */
	/* Wall time to the first token, and after it, as the pace of the tokens tells. */
	uint64_t prefill_ns, decode_ns;
	uint64_t card_us;		/* card time of all jobs */
};

/*
 * Appends the prompt, then what the card generates. The last generated token is pending: the next
 * request feeds it first. Returns when the card is done; result (not NULL) is filled on failure
 * too, with what was done before. -EINVAL: a token beyond the vocabulary, too many stop tokens, a
 * number of the sampler outside its range, or nothing to go on from; -EOVERFLOW: the prompt does
 * not fit the context; with both nothing was changed. -ENOSPC, -E2BIG: no room for so many logits.
 * -EIO: the job faulted, flm_error() says where; the session can go on from its last position.
 * -ECANCELED: the card was reset, or the session's queue for a job that did not end; the session is
 * lost.
 */
int flm_session_generate(struct flm_session *session, const struct flm_request *request,
			 struct flm_result *result);

/*
 * Ends the running request at the card's next preemption point: one whose flm_session_generate()
 * has been entered and has not returned. Without one it does nothing; no later request ends by it.
 * Any thread.
 */
void flm_session_stop(struct flm_session *session);

/* Positions in use, the pending token counted. */
unsigned int flm_session_position(struct flm_session *session);

/* Forgets everything from this position on. -EINVAL beyond the end. */
int flm_session_truncate(struct flm_session *session, unsigned int position);

#ifdef __cplusplus
}
#endif

#endif
