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
 * Functions that can fail return 0 or -errno, and objects through their last parameter. On failure
 * the object is NULL and flm_error() says what was wrong and what to do. free and close take NULL
 * and leave the text of flm_error() alone. The caller owns the objects and frees them in the
 * opposite order: sessions before their model, queues before their context, all before the device.
 * The library never prints and never exits.
 *
 * Errors. Each function's comment names its own. Any function that makes an object or asks the card
 * may also return -ENOMEM (no memory in the host), -ECANCELED (the card was reset, has failed or is
 * gone) and -EBUSY (the card is being reset; try again in a moment).
 *
 * A reset of the card (-ECANCELED; another program's job may be the reason) loses the contents of
 * HBM and DDR. The device, tokenizers, and buffers in host memory with their bytes survive.
 * Sessions, models, contexts, queues, and buffers in HBM and DDR do not: each of them answers
 * -ECANCELED from then on; free it. On the same device a model can be loaded again at once, and new
 * sessions begun. If that is -ECANCELED too, the card is gone: close the device.
 *
 * Threads. Different objects of one device may be used from several threads at once. One session,
 * context, queue or detokenizer may be used by one thread at a time, except that flm_session_stop()
 * and flm_queue_stop() may be called from any thread. An object must not be in use when it is
 * freed. flm_error() is the calling thread's own.
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
	char driver[FLM_NAME_BYTES];	/* "flightllm 1.0" or "soft 1.0": name and interface */
	uint64_t serial;
	unsigned int cores;
	unsigned int isa_major, isa_minor;
	unsigned int queues;
	unsigned int regions;
	struct flm_region_info region[16];
};

/*
 * Lists the nodes that the flightllm driver owns, opened or not. Fills node and bus of at most max
 * rows; their other fields are zero. Returns the number of nodes, which may be more than max, or
 * -errno of reading /sys/class/accel. Any thread.
 */
int flm_device_list(struct flm_device_info *rows, unsigned int max);

/* What PCI knows of a card, owned by a driver or not. There is nothing to free. */
struct flm_pci_info {
	char bus[FLM_NAME_BYTES];	/* PCI address, as in flm_device_info */
	char driver[FLM_NAME_BYTES];	/* its owner: "flightllm", another, or "": none */
	char name[128];			/* vendor and device, by pci.ids or by number */
	unsigned int link_width, link_width_max;	/* lanes in use; lanes of the card */
	unsigned int link_mts, link_mts_max;	/* megatransfers a second and lane: 8000 is Gen3 */
	uint64_t bar_bytes[6];		/* 0: there is no such BAR */
	uint64_t serial;		/* as in flm_device_info; 0: the card tells none */
};

/*
 * Lists the cards of this machine by PCI address, and opens none. Fills at most max rows; returns
 * the number of cards (at most 64; 0 also on a machine without PCI). The link_ fields and serial
 * are 0 unless the caller is root: only root may read the whole configuration space. Any thread.
 * -EIO: sysfs cannot be read, or a card went away meanwhile. -ENOMEM.
 */
int flm_pci_list(struct flm_pci_info *rows, unsigned int max);

/*
 * Opens a card. name is a number ("0"), a node or a PCI address; "emulate" or "emulate:PROFILE" for
 * a card in the process (loads libflightllm-card.so); or NULL for $FLIGHTLLM_DEVICE or, without
 * that, the first card. Any thread.
 * -ENODEV: no such card, or the driver does not own it. -EACCES: no permission (flm_error() names
 * the group). -EPROTO: versions differ. -EINVAL: no such PROFILE.
 */
int flm_device_open(const char *name, struct flm_device **device);

/* Free the objects of the device before. No other thread may use the device any more. */
void flm_device_close(struct flm_device *device);

/* Identity, sizes, and how much memory is free now. On failure *info is zero. Any thread. */
int flm_device_info(struct flm_device *device, struct flm_device_info *info);

/* The card's counts since its last reset. Their difference over a job is its cost on the bus. */
struct flm_counters {
	uint64_t register_reads, register_writes;
	uint64_t kicks, doorbells, interrupts;
	uint64_t jobs, tokens, instructions;
	uint64_t submits;	/* SUBMIT calls of all clients, since the driver was bound */
};

/* On failure *counters is unchanged. Any thread. */
int flm_device_counters(struct flm_device *device, struct flm_counters *counters);

/* ---- Buffers ---- */

struct flm_bo;

enum flm_placement { FLM_BO_HBM = 1, FLM_BO_DDR = 2, FLM_BO_HOST = 3 };

/*
 * Makes a buffer of `bytes`, rounded up to the region's block, and zeroes it. core says whose HBM,
 * and is 0 for DDR and HOST. Any thread.
 * -ENOSPC: the region is full; flm_error() says how much is free. -E2BIG: more than the whole
 * region. -EINVAL: bytes is 0, or there is no such placement or core.
 */
int flm_bo_new(struct flm_device *device, enum flm_placement placement, unsigned int core,
	       uint64_t bytes, struct flm_bo **bo);
/* Jobs already submitted, and contexts that have it bound, keep its memory until they end. */
void flm_bo_free(struct flm_bo *bo);

/* The size as rounded up. */
uint64_t flm_bo_bytes(const struct flm_bo *bo);

/*
 * The CPU's view of a buffer in HOST, mapped once and valid until the buffer is freed. Any thread.
 * Returns NULL with flm_error() set for buffers in HBM and DDR, and when mapping fails.
 */
void *flm_bo_map(struct flm_bo *bo);

/*
 * Copies between memory of the process and a buffer in any placement; a copy queue moves bytes that
 * the CPU cannot reach. Returns when the copy is done; after a failure part of it may be done. Any
 * thread; copies of one device wait for each other.
 * -EINVAL: outside the buffer; nothing was copied. -EIO: the card broke off the copy. -ENOSPC: all
 * queues of the card are taken.
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
	uint64_t offset, bytes;		/* multiples of the block, except at the buffer's end */
	unsigned int rights;
};

/* An empty table of segments for each core. -ENOSPC: the device has 1,024 contexts already. */
int flm_context_new(struct flm_device *device, struct flm_context **context);
/* Free its queues before. */
void flm_context_free(struct flm_context *context);

/*
 * Binds `count` rows, all or none. Jobs submitted before keep the bindings they had. Each call
 * makes one generation of bindings; it waits while jobs still use 63 older ones. The rows may be
 * freed afterwards.
 * -EINVAL: more than 64 rows, or a row out of range.
 */
int flm_context_bind(struct flm_context *context, const struct flm_binding *bindings,
		     unsigned int count);

/*
 * Makes a queue. cores is a mask of the cores of each job, 0 for all. priority is 0 (lowest) to 3
 * (needs CAP_SYS_NICE); 1 is usual.
 * -EINVAL: no such core or priority. -EACCES: priority 3 without the privilege. -ENOSPC: all queues
 * of the card are taken. -ETIMEDOUT: the card did not answer.
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
 * Submits `count` jobs in one system call, all or none; they run in order. *seqno is the last
 * job's, 0 on failure; job i has seqno *seqno - count + 1 + i. The rows may be freed afterwards.
 * -EINVAL: count is not 1 to 64, or a segment or offset is impossible. -E2BIG: more preemption
 * points than the driver allows now. -EBUSY: the queue is full; it holds at least 64 jobs. A
 * mistake in the program or its record is a fault of the job, not an error of this call.
 */
int flm_queue_submit(struct flm_queue *queue, const struct flm_job *jobs, unsigned int count,
		     uint64_t *seqno);

/*
 * Names of numbers: "KV_FULL" of enum flm_status, "WATCHDOG" of enum flm_fault, "stop_token" of
 * enum flm_end; "?" for a number that has none. Static text; any thread.
 */
const char *flm_status_name(unsigned int status);
const char *flm_fault_name(unsigned int fault);
const char *flm_end_name(unsigned int end);

struct flm_completion {
	unsigned int status;		/* enum flm_status of queue.h */
	unsigned int made;		/* tokens that the job has made so far */
	unsigned int points;		/* preemption points reached */
	uint64_t started_us, ended_us;	/* card time */
	struct {
		unsigned int kind, core, unit, word, segment;
		uint64_t offset;
	} fault;			/* when status is FLM_STATUS_FAULT */
};

/*
 * Waits until job seqno has ended or, unless tokens is 0, has made `tokens` tokens. timeout_ns
 * counts from now; 0 only looks. Signals do not end the wait. completion (may be NULL) is filled on
 * 0 and -ETIME: made always, the rest when status is not 0.
 * -ETIME: not yet. -EINVAL: no such job. -ESTALE: the queue no longer remembers the job; it
 * remembers at least its last 64.
 */
int flm_queue_wait(struct flm_queue *queue, uint64_t seqno, unsigned int tokens,
		   int64_t timeout_ns, struct flm_completion *completion);

/*
 * Ends the job, and those before it in the queue, at the next preemption point. Returns at once; a
 * job that has ended is left alone. Any thread. -EINVAL: no such job.
 */
int flm_queue_stop(struct flm_queue *queue, uint64_t seqno);

/* ---- Tokenizer: SentencePiece BPE with byte fallback ---- */

struct flm_tokenizer;

/*
 * model is the bytes of a tokenizer.model; they are copied. Needs no device. A tokenizer does not
 * change, so any number of threads may use one. -EBADMSG: broken, or of a kind that is not
 * supported; flm_error() names the setting.
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
 * Text as ids [room], without bos or eos. The text may hold any bytes, zero bytes too; invalid
 * UTF-8 counts as U+FFFD. *count is the number of ids: at most bytes + 1 without byte fallback, and
 * at most 3 * bytes + 3 with it. Any thread.
 * -ENOBUFS: more than room; the first `room` ids are written. -E2BIG: more than 2^29 - 1 bytes.
 * -EINVAL: a character of the text is one of the model's control pieces. After -E2BIG, -EINVAL and
 * -ENOMEM nothing is written and *count is 0.
 */
int flm_tokenizer_encode(const struct flm_tokenizer *tokenizer, const char *text, size_t bytes,
			 uint32_t *ids, size_t room, size_t *count);

/*
 * Ids as text [room], not terminated, the same bytes that a detokenizer gives one by one. *bytes is
 * the length of the text. Any thread.
 * -ENOBUFS: more than room; the first `room` bytes are written and may end inside a character.
 * -EINVAL: an id outside the vocabulary. After -EINVAL and -ENOMEM nothing is written and *bytes is
 * 0.
 */
int flm_tokenizer_decode(const struct flm_tokenizer *tokenizer, const uint32_t *ids, size_t count,
			 char *text, size_t room, size_t *bytes);

/*
 * Turns ids into text one by one. Byte pieces come out as whole UTF-8 characters, bytes that make
 * no character as U+FFFD, control tokens and ids outside the vocabulary as nothing. All outputs
 * together are the text of all tokens. The returned text is *bytes long, may be empty, is not
 * terminated, and belongs to the detokenizer until its next call. push and finish cannot fail. One
 * thread at a time; the tokenizer must outlive it.
 */
struct flm_detokenizer;

int flm_detokenizer_new(const struct flm_tokenizer *tokenizer,
			struct flm_detokenizer **detokenizer);
void flm_detokenizer_free(struct flm_detokenizer *detokenizer);
const char *flm_detokenizer_push(struct flm_detokenizer *detokenizer, uint32_t token,
				 size_t *bytes);

/* Ends the text: gives the rest of an incomplete character. The next push begins a new text. */
const char *flm_detokenizer_finish(struct flm_detokenizer *detokenizer, size_t *bytes);

/* ---- Models ---- */

struct flm_model;

/* done of all bytes; called now and then from the loading thread. */
typedef void (*flm_progress)(void *opaque, uint64_t done, uint64_t all);

struct flm_load_options {
	flm_progress progress;		/* may be NULL */
	void *opaque;
	bool needs_tokenizer;		/* -ENODATA, before any upload, for a file without one */
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
 * Reads the description of a model file, without a device. info->notes is "". *notes (notes may be
 * NULL) gets the model's notes; the caller calls free() on them; NULL on failure. Any thread.
 * -EBADMSG: broken, truncated, or shrinking while it is read. -EPROTO: of another version. A file
 * that cannot be opened or read gives the errno of open() or pread().
 */
int flm_model_probe(const char *path, struct flm_model_info *info, char **notes);

/*
 * Checks the file, makes buffers and uploads it. The file is not needed afterwards. options may be
 * NULL. Any thread. On failure no buffer is left.
 * Errors: those of flm_model_probe(), flm_bo_new() and flm_bo_write(). -EPROTO also: the file is
 * for another card, or needs a newer instruction set than the card has. -ENODATA: see
 * needs_tokenizer.
 */
int flm_model_load(struct flm_device *device, const char *path,
		   const struct flm_load_options *options, struct flm_model **model);
/* Free its sessions before. */
void flm_model_free(struct flm_model *model);
/* info->notes is the model's own. Any thread. */
void flm_model_info(struct flm_model *model, struct flm_model_info *info);

/* The model's own, valid as long as the model; NULL if the file has none. */
struct flm_tokenizer *flm_model_tokenizer(struct flm_model *model);

/* ---- Sessions: one sequence of tokens with its KV cache ---- */

struct flm_session;

struct flm_session_options {
	unsigned int context;		/* positions to keep; 0: the model's */
	unsigned int priority;		/* of its queue; 0: 1 */
};

/*
 * Makes a session with a context, a queue and KV pages of its own. options may be NULL. The model
 * must outlive it.
 * -EINVAL: a context longer than the model's, or no such priority. -ENOSPC: no room for the KV
 * cache, or no queue left. -EACCES: a priority that needs a privilege.
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
	const uint32_t *stop;		/* at most 16 ids; the first one made ends the request */
	unsigned int stop_count;
	/*
	 * Called for each token as it comes, in the calling thread; returns true to stop. NULL: the
	 * card is silent until the end, and the whole request costs one doorbell.
	 */
	bool (*on_token)(void *opaque, uint32_t token);
	void *opaque;
	uint32_t *out;			/* [generate] tokens, or NULL */
	/*
	 * Logits [logit_count][vocab] of positions logit_first and up, or NULL. The logits of a
	 * position score the token after it. Rows of positions that the request does not reach stay
	 * unchanged.
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
	unsigned int submits;		/* jobs: more than one if one job may not be so long */
	/* Wall time to the first token and after it, estimated from the pace of the tokens. */
	uint64_t prefill_ns, decode_ns;
	uint64_t card_us;		/* card time of all jobs */
};

/*
 * Appends the prompt, then the tokens that the card generates. The last generated token is pending:
 * the next request feeds it first. Returns when the card is done. result (not NULL) is filled on
 * failure too, with the work done before it.
 * -EINVAL: a token outside the vocabulary, too many stop tokens, a number of the sampler outside
 * its range, or neither a prompt nor a pending token. -EOVERFLOW: the prompt does not fit the
 * context. After both the session is unchanged. -ENOSPC, -E2BIG: no room for so many logits. -EIO:
 * the job faulted, and flm_error() says where; the session can go on from its last position.
 * -ECANCELED: the card was reset, or the session's queue because a job did not end; the session is
 * lost.
 */
int flm_session_generate(struct flm_session *session, const struct flm_request *request,
			 struct flm_result *result);

/*
 * Ends the running request, if there is one, at the card's next preemption point. A request runs
 * from the entry of its flm_session_generate() to the return; later requests are not affected. Any
 * thread.
 */
void flm_session_stop(struct flm_session *session);

/* Positions in use, including the pending token. */
unsigned int flm_session_position(struct flm_session *session);

/*
 * Forgets everything from this position on; unless it is the end, no token is pending afterwards.
 * -EINVAL: beyond the end.
 */
int flm_session_truncate(struct flm_session *session, unsigned int position);

#ifdef __cplusplus
}
#endif

#endif
