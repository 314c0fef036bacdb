/* SPDX-License-Identifier: MIT */
/*
 * flightllm-cc from the inside: what the passes hand to each other. main.c calls them in order:
 *
 *	graph_build	model -> operators on values			graph.c
 *	fuse_run	operators that need no bytes of their own	fuse.c
 *	tile_run	chunk, tiles, on-chip addresses			tile.c
 *	place_run	segments, strip tables, core registers		place.c
 *	emit_run	six streams for each entry	emit.c, linear.c, attention.c, operand.c
 *	verify_run	reads the words again	verify.c, verify_insn.c, form.c, walk.c
 *	write_run	quantises into the file	write.c, weights.c, vectors.c, layout.c
 *
 * Everything hangs on one struct plan; memory comes from an arena that lives as long as the
 * process. A user's mistake or a model that does not fit ends in die(), which also removes the
 * unfinished file.
 */
#ifndef COMPILER_CC_H
#define COMPILER_CC_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

#include <flightllm/file.h>
#include <flightllm/isa.h>
#include <flightllm/names.h>
#include <flightllm/queue.h>

#include "lib/checkpoint/checkpoint.h"

#define CC_VERSION "0.1.0"

#define DIV_UP(a, b)	(((a) + (b) - 1) / (b))
#define ROUND_UP(a, b)	(DIV_UP(a, b) * (b))
#define MIN(a, b)	((a) < (b) ? (a) : (b))
#define MAX(a, b)	((a) > (b) ? (a) : (b))

/* ---- card.c ---- */

struct card {
	const char *name;
	unsigned int cores;
	uint32_t buffer_bytes[FLM_BUFFERS];	/* of each core */
	uint64_t hbm_bytes;			/* of each core */
	uint64_t ddr_bytes;
};

const struct card *card_find(const char *name);	/* NULL: none of that name */
const char *card_names(void);

/* ---- options (main.c) ---- */

#define HADAMARD_AUTO 0xffffffffu

/* Inputs that may be rotated, FLM_ROTATE_QKV on, by name. */
#define ROTATION(name, number, text, meaning) + 1
enum {
	ROTATIONS = 0
#include <flightllm/names.def>
};

extern const char *const rotation_names[ROTATIONS];	/* graph.c */

struct options {
	const char *model;		/* directory, or NULL */
	const char *synthetic;		/* shape, or NULL */
	uint64_t seed;
	const char *out;
	const struct card *card;
	unsigned int width;		/* bits of a weight: 8 or 4 */
	uint32_t hadamard[FLM_ROTATIONS];	/* block, 0 none, HADAMARD_AUTO */
	uint32_t context;		/* 0: the model's */
	const char *dump;		/* pass to print, or NULL */
	unsigned int threads;
	bool json, quiet;
	const char *command;		/* the command line, noted in the file */
};

/* ---- values and operators ---- */

/* A core's part of a vector. */
enum split { SPLIT_NONE, SPLIT_Q, SPLIT_KV, SPLIT_HIDDEN, SPLIT_FFN, SPLIT_VOCAB, SPLITS };

/* Number of rows: of the pass, of one trip of the logits loop, the pass's last one, a constant. */
enum rows { ROWS_PASS, ROWS_TILE, ROWS_LAST, ROWS_ONE };

enum value_type { VALUE_F32, VALUE_Q8 };

struct value {
	const char *name;
	enum value_type type;
	enum rows rows;
	enum split split;		/* of what is computed; storage is full width if is_full */
	bool is_full;			/* a split value at its place in the whole vector */
	uint32_t cols;			/* of the whole vector */
	uint32_t block;			/* its rotation so far */
	struct value *alias;		/* lies in this value's bytes (fuse.c) */
	int first, last;		/* operators that write it first and read it last */
	/* tile.c: on-chip addresses (FLM_CHIP) and pitches in bytes */
	uint32_t at, pitch;
	uint32_t scale_at, scale_pitch;
};

enum op_kind {
	OP_EMBED,	/* token ids -> rows of the embedding */
	OP_ROPE_ROWS,	/* cosines and sines of the pass */
	OP_VECTORS,	/* norm weights -> chip */
	OP_BIAS,	/* a core's part of a bias -> chip */
	OP_RMSNORM,
	OP_HADAMARD,
	OP_QUANT,
	OP_LINEAR,
	OP_ROPE,
	OP_ATTENTION,
	OP_GATHER,
	OP_SILU,
	OP_MUL,
	OP_ADD,
	OP_LOGITS,	/* to where the job wants them */
	OP_SAMPLE,
	OP_KINDS
};

/* Parts of a pass. LAYER is a loop over the layers, ROWS over the logits wanted, LAST 0 or 1. */
enum phase { PHASE_START, PHASE_LAYER, PHASE_ROWS, PHASE_LAST, PHASES };

/* Bytes that only one operator uses, while it runs. */
struct scratch {
	const char *name;
	uint32_t bytes;
	uint32_t at;
};

enum { SCRATCH_MAX = 10, OP_INPUTS = 3 };

struct op {
	enum op_kind kind;
	enum phase phase;
	const char *name;
	struct value *in[OP_INPUTS];
	struct value *out;
	int matrix;			/* of plan->matrix, LINEAR and BIAS only */
	uint32_t imm;			/* group, block, head size */
	struct scratch scratch[SCRATCH_MAX];
	unsigned int scratches;
};

/* Scratch of OP_EMBED and OP_ATTENTION, OP_SAMPLE by number. */
enum { EMBED_CODES, EMBED_SCALES };
enum { ATT_K, ATT_KS, ATT_V, ATT_VS, ATT_Q, ATT_QS, ATT_S, ATT_P, ATT_PS };
enum { SAMPLE_TOP };

/* ---- matrices ---- */

/* A layer's, in the checkpoint's order, and the head. */
enum matrix_id {
	M_Q = CHECKPOINT_Q, M_K = CHECKPOINT_K, M_V = CHECKPOINT_V, M_O = CHECKPOINT_O,
	M_GATE = CHECKPOINT_GATE, M_UP = CHECKPOINT_UP, M_DOWN = CHECKPOINT_DOWN,
	M_HEAD = CHECKPOINT_MATRICES, MATRICES
};

struct matrix {
	const char *part;		/* "self_attn.q_proj"; the head: "lm_head" */
	uint32_t rows, cols;
	enum split split;
	uint32_t rotate;		/* enum flm_rotation of its input */
	bool has_bias;
	/* tile.c */
	uint32_t tiles;			/* K tiles */
	uint32_t strip_bytes;		/* all K tiles of a strip: codes and scales */
	uint32_t tile_bytes;		/* the widest K tile of a strip */
	uint32_t strips_at_once;	/* a power of two */
	/* place.c, offsets in the core's WEIGHTS segment */
	uint32_t table;			/* of layer 0, the same in every core */
	uint64_t data[FLM_CORES_MAX];	/* of layer 0's first strip */
	uint32_t bias;			/* offset in a layer's biases, SHARED segment */
};

/* ---- what each core has ---- */

/* Core registers, in this order. */
enum core_register {
	CORE_KV_HEADS, CORE_KV_FIRST, CORE_Q_STRIPS, CORE_KV_STRIPS,
	CORE_HIDDEN_STRIPS, CORE_HIDDEN_FIRST, CORE_HIDDEN_ROWS,
	CORE_FFN_STRIPS, CORE_FFN_FIRST, CORE_FFN_ROWS, CORE_FFN_GROUPS,
	CORE_VOCAB_STRIPS, CORE_VOCAB_FIRST, CORE_VOCAB_ROWS,
	CORE_REGISTERS
};

/* ---- streams ---- */

struct stream {
	uint32_t *words;
	uint32_t count, room;
};

struct map_row {
	uint32_t entry, unit, first, words;
	char name[48];
};

enum { ENTRIES = 2 };

/* ---- the plan ---- */

struct section_plan {
	uint32_t kind, core, segment, place, rights;
	uint64_t offset, bytes, memory_bytes;
};

enum { SECTIONS_MAX = 8 + FLM_CORES_MAX };

/* The pass that a plan has begun last. If one runs again, those after it must run again too. */
enum stage {
	STAGE_NONE, STAGE_GRAPH, STAGE_FUSE, STAGE_TILE, STAGE_PLACE, STAGE_EMIT, STAGE_VERIFY,
	STAGE_WRITE
};

/* Fields stand under the pass that fills them; those after it read them. */
struct plan {
	enum stage stage;		/* stage_begin() alone sets it */

	/* main.c, before the first pass */
	const struct options *options;
	const struct card *card;
	struct checkpoint *checkpoint;
	const struct checkpoint_config *config;
	uint32_t context;		/* tile.c and place.c cut it to what the card holds */

	/* graph.c */
	uint32_t heads_per_kv;		/* query heads of a KV head */
	uint32_t softmax_scale;		/* float32 bits of 1 / sqrt(head size) */
	uint32_t rotate[FLM_ROTATIONS];
	struct matrix matrix[MATRICES];	/* struct matrix names what tile.c and place.c fill */
	struct op **ops;
	int op_count;
	struct value **values;
	int value_count;

	/* tile.c */
	uint32_t chunk;			/* tokens of a pass */
	uint32_t logit_rows;		/* rows of one trip of the logits loop */
	uint32_t queries;		/* rows of one trip of the query loop in attention */
	uint32_t half_bytes;		/* half of the weight buffer */
	uint32_t act_used, glb_used;

	/* place.c */
	uint32_t registers[FLM_CORES_MAX][FLM_CORE_REGISTERS];
	uint32_t register_max[FLM_CORE_REGISTERS];
	uint32_t page_bytes, page_scales, kv_heads_max;
	uint32_t layer_tables;		/* bytes of one layer's strip tables */
	uint64_t layer_bytes[FLM_CORES_MAX];	/* of one layer's strips */
	uint64_t weight_bytes[FLM_CORES_MAX];
	uint64_t norms, rope, biases, embed, embed_scales, shared_bytes;	/* in SHARED */
	uint32_t layer_biases;		/* bytes of one layer's biases */
	uint32_t embed_groups;

	/* emit.c */
	struct stream streams[ENTRIES][FLM_UNITS];
	struct map_row *map;
	uint32_t map_count, map_room;

	/* verify.c */
	uint64_t watchdog;		/* most instructions of one core in one pass */

	/* layout.c, as write_run() begins */
	struct section_plan sections[SECTIONS_MAX];
	unsigned int section_count;
	uint64_t file_bytes;
	double bits;			/* an element of the matrices, all told */
};

/* A value's bytes are those of the value at the end of its alias chain. */
static inline struct value *value_home(struct value *v)
{
	while (v->alias)
		v = v->alias;
	return v;
}

/* ---- passes ---- */

/* Each pass's first call: die() unless the pass before it has begun. (stage.c) */
void stage_begin(struct plan *plan, enum stage stage);

void graph_build(struct plan *plan);
void graph_check(const struct plan *plan, const char *after);
void fuse_run(struct plan *plan);
void tile_run(struct plan *plan);
void place_run(struct plan *plan);
void emit_run(struct plan *plan);
void verify_run(struct plan *plan);
void write_run(struct plan *plan);
void dump_pass(const struct plan *plan, const char *pass);

/* Positions that HBM holds beside the weights that tile_run() has cut; die() if none. */
uint64_t place_context(struct plan *plan);

/* Program section: header and streams. Returns its bytes, memory from the arena. */
uint64_t program_build(const struct plan *plan, uint8_t **bytes);
/* Declared bounds of the length registers. */
void program_bounds(const struct plan *plan, uint32_t min[FLM_LENGTHS], uint32_t max[FLM_LENGTHS]);

/* ---- ground floor: facts that several passes need ---- */

/* split.c: a core's rows of a vector with this split, and the first of them. */
uint32_t core_rows(const struct plan *plan, enum split split, unsigned int core, uint32_t *first);
uint32_t core_rows_max(const struct plan *plan, enum split split);

/* strip.c: bytes of the codes and of the scales of one K tile of a strip. */
uint32_t strip_codes_bytes(unsigned int width, uint32_t cols);
uint32_t strip_scales_bytes(uint32_t cols);
/* Both, of all K tiles of a strip. */
uint32_t strip_bytes(unsigned int width, uint32_t cols);
/* Rows of the strip table for a strip at byte `at` of its segment; returns the byte behind it. */
uint64_t strip_rows(unsigned int width, uint32_t cols, uint64_t at, struct flm_strip *rows);

/* ---- walk.c: the abstract card of verify.c ---- */

struct walk {
	const struct plan *plan;
	uint32_t entry;
	uint32_t lengths[FLM_LENGTHS];
};

/* Runs the streams of all cores without data. Returns the most instructions a core executed. */
uint64_t walk_run(const struct walk *walk);

/* ---- quant.c ---- */

/* Block Hadamard of each row's columns in place; block 0 does nothing. */
void quant_rotate(float *rows, uint32_t row_count, uint32_t cols, uint32_t block);
/* float32 bits of the greatest magnitude; infinity is above all numbers, NaN above infinity. */
uint32_t quant_greatest(const float *w, size_t count);
/*
 * One strip of 16 rows [16][cols] as codes and scales of all its K tiles, as the card stores
 * them; cols here are padded to 16. out has strip_bytes. false: a scale does not fit float16.
 */
bool quant_strip(const float *rows, uint32_t cols, unsigned int width, uint8_t *out);
/* One row of the embedding: int8 codes and float16 scales of groups of 64. */
bool quant_row(const float *row, uint32_t cols, int8_t *codes, uint8_t *scales);
uint16_t quant_half(float x);		/* float16 bits, to nearest even */
float quant_float(uint16_t half);

/* ---- util.c ---- */

__attribute__((format(printf, 1, 2), noreturn)) void die(const char *format, ...);
__attribute__((format(printf, 2, 3), noreturn)) void die_with(int status, const char *format, ...);
/* A failure of lib/checkpoint/checkpoint.h, with its text. */
__attribute__((noreturn)) void die_checkpoint(int error);
/* Ends a run without mistakes; die() if stdout could not be written. */
__attribute__((noreturn)) void finish(void);
/* The unfinished file, which die() and signals remove. NULL: none with a name. */
void die_removes(const char *path);
void *arena(size_t bytes);		/* zeroed; never NULL */
__attribute__((format(printf, 1, 2))) char *arena_printf(const char *format, ...);
/* Text as a JSON string, in quotes; a byte that is no UTF-8 becomes U+FFFD. */
char *json_text(const char *text);
void *arena_grow(void *old, size_t old_bytes, size_t bytes);
/* "1.5 GiB" */
const char *bytes_text(uint64_t bytes, char text[32]);
void put_le16(uint8_t *at, uint16_t value);
void put_le32(uint8_t *at, uint32_t value);
void put_le64(uint8_t *at, uint64_t value);

#endif
