/* SPDX-License-Identifier: MIT */
/*
 * The model as its maker published it: sizes, and tensors as float32, a few rows at a time. The
 * weights may come from a directory (config.json and safetensors files) or be made up by a seed.
 *
 *	char error[CHECKPOINT_ERROR_BYTES];
 *	struct checkpoint *cp;
 *
 *	if (checkpoint_open("models/fables-3m", error, sizeof(error), &cp))
 *		die("%s", error);
 *	config = checkpoint_config(cp);
 *	if (checkpoint_rows_f32(cp, "model.layers.0.mlp.up_proj.weight", first, rows, out))
 *		die("%s", checkpoint_error());
 *	checkpoint_close(cp);
 *
 * Files are not trusted. An open checkpoint is complete: every tensor that the architecture needs
 * is there in its shape and lies inside its file, and there is no other tensor. Weights are read
 * when rows are asked for, and rows that hold NaN or infinity are refused then. They are not
 * mapped, so a file that shrinks is an error and not a signal, and its pages are not the process's
 * memory.
 *
 * Once open, a checkpoint does not change: any number of threads may read from it. An archive of
 * its own, with the library's reader of tokenizers; it needs libc and jansson. Nothing is printed
 * and nothing exits.
 */
#ifndef CHECKPOINT_H
#define CHECKPOINT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CHECKPOINT_ERROR_BYTES	1024
#define CHECKPOINT_EOS_MAX	16

struct checkpoint;

/* The matrices of a layer. */
enum checkpoint_matrix {
	CHECKPOINT_Q, CHECKPOINT_K, CHECKPOINT_V, CHECKPOINT_O, CHECKPOINT_GATE, CHECKPOINT_UP,
	CHECKPOINT_DOWN, CHECKPOINT_MATRICES
};

/* What config.json says of a fact that the tensors decide. */
enum checkpoint_said { CHECKPOINT_SAID_NOTHING, CHECKPOINT_SAID_NO, CHECKPOINT_SAID_YES };

struct checkpoint_config {
	char architecture[64];		/* "LlamaForCausalLM" is the only one so far */
	char activation[16];		/* "silu" */
	uint32_t hidden;		/* size of the residual */
	uint32_t ffn;			/* rows of gate and up */
	uint32_t layers;
	uint32_t heads;			/* a multiple of kv_heads */
	uint32_t kv_heads;
	uint32_t head_dim;		/* even; heads x head_dim may differ from hidden */
	uint32_t vocab;
	uint32_t context;		/* max_position_embeddings */
	float norm_eps;
	double rope_theta;
	bool is_tied;			/* no lm_head: model.embed_tokens is the head too */
	enum checkpoint_said attention_bias;	/* of q, k, v, o together */
	enum checkpoint_said mlp_bias;		/* of gate, up, down together */
	bool has_bias[CHECKPOINT_MATRICES];	/* the file has it; Qwen2 has none on o */
	int64_t bos;			/* token id, -1: none */
	uint32_t eos_count;
	uint32_t eos[CHECKPOINT_EOS_MAX];
};

/* Form of a chat that the model's maker wants: what its chat template writes. */
enum checkpoint_chat {
	CHECKPOINT_CHAT_NONE,		/* no template */
	CHECKPOINT_CHAT_LLAMA2,		/* [INST] <<SYS>> ... [/INST] */
	CHECKPOINT_CHAT_OTHER,
};

enum checkpoint_type { CHECKPOINT_F32, CHECKPOINT_F16, CHECKPOINT_BF16, CHECKPOINT_SYNTHETIC };

struct checkpoint_tensor {
	const char *name;		/* Hugging Face's; the checkpoint's */
	enum checkpoint_type type;
	uint64_t rows, cols;		/* a vector is one row */
};

/*
 * Opens a directory with config.json and either model.safetensors or shards named by
 * model.safetensors.index.json. -ENOENT something is missing, -EBADMSG a file is broken,
 * -EOPNOTSUPP it needs something that is not supported; error (may be NULL) says what, where, and
 * what to do, in one line. The caller closes *cp.
 */
int checkpoint_open(const char *dir, char *error, size_t error_bytes, struct checkpoint **cp);

/*
 * A checkpoint of a known shape with weights made from seed: "llama2-7b", "llama-1b", "llama-110m",
 * "llama-15m", "tiny". They are computed when asked for, so a model of any size costs no memory; a
 * weight depends on seed, tensor and index alone. -EINVAL: no such shape.
 */
int checkpoint_synthetic(const char *shape, uint64_t seed, char *error, size_t error_bytes,
			 struct checkpoint **cp);

/* The shapes' names in one line, for --help. */
const char *checkpoint_synthetic_shapes(void);

void checkpoint_close(struct checkpoint *cp);

const struct checkpoint_config *checkpoint_config(const struct checkpoint *cp);

/* Path of the directory's tokenizer.model, NULL where there is none. */
const char *checkpoint_tokenizer(const struct checkpoint *cp);

/*
 * Its bytes, which the caller frees. -ENOENT there is none, -EBADMSG it is none that
 * flm_tokenizer_new() takes or has more pieces than the model's vocabulary; checkpoint_error() says
 * so.
 */
int checkpoint_tokenizer_read(const struct checkpoint *cp, char **text, size_t *bytes);

enum checkpoint_chat checkpoint_chat(const struct checkpoint *cp);

/* Tensors by number, in byte order of their names, and all their elements together. */
size_t checkpoint_tensor_count(const struct checkpoint *cp);
void checkpoint_tensor(const struct checkpoint *cp, size_t index, struct checkpoint_tensor *tensor);
uint64_t checkpoint_parameters(const struct checkpoint *cp);

/* -ENOENT: no such tensor. rows and cols may be NULL. */
int checkpoint_shape(const struct checkpoint *cp, const char *name, uint64_t *rows, uint64_t *cols);

/*
 * Rows first_row .. first_row + rows - 1 as float32 into out [rows][cols], exactly. -ENOENT no such
 * tensor, -EINVAL not its rows, -EBADMSG a NaN or an infinity (checkpoint_error() names tensor and
 * element), -EIO. out is undefined after a failure.
 */
int checkpoint_rows_f32(const struct checkpoint *cp, const char *name, uint64_t first_row,
			uint64_t rows, float *out);

/* Text of the calling thread's last failure, one line. */
const char *checkpoint_error(void);

#endif
