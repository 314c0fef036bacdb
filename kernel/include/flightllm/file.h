/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/*
 * The .flm file: what flightllm-cc writes and the library uploads; all of it can be mapped.
 *
 *	struct flm_file			the header, at 0
 *	struct flm_section[sections]	behind it
 *	the sections' bytes		each aligned to 4096 bytes, in ascending order
 *
 * All fields are little-endian. A section with a segment is memory as the card wants it: its bytes
 * are copied to a buffer of memory_bytes (the rest zero) and bound, nothing in it is parsed. The
 * others are tables for the host. CRC32C (Castagnoli, as iSCSI has it: reflected, initial value and
 * final xor 0xffffffff) protects each section and the header.
 */
#ifndef FLIGHTLLM_FILE_H
#define FLIGHTLLM_FILE_H

#include <linux/types.h>

#define FLM_FILE_MAGIC	"FLM-FILE"	/* eight bytes, no terminator */
#define FLM_FILE_MAJOR	1		/* major version of the file */
#define FLM_FILE_MINOR	0		/* minor version of the file */
#define FLM_FILE_ALIGN	4096		/* bytes that sections are aligned to */
#define FLM_FILE_SECTIONS_MAX 256	/* sections of a file at most */

/* The header, at 0. */
struct flm_file {
	__u8 magic[8];		/* FLM_FILE_MAGIC */
	__le16 major;		/* of the file: another major is refused */
	__le16 minor;		/* of the file: a newer minor is accepted */
	__le16 isa_major;	/* instruction set of its program: another major is refused */
	__le16 isa_minor;	/* of that: a minor above that of the card is refused */
	__u8 card[16];		/* profile it was made for, zero-terminated */
	__le32 cores;		/* cores it was made for */
	__le32 sections;	/* rows of the section table */
	__le64 bytes;		/* of the whole file */
	__le32 reserved[3];	/* must be zero */
	__le32 crc32c;		/* of the header with this field zero, then the section table */
};
_Static_assert(sizeof(struct flm_file) == 64, "the file header has 64 bytes");

/* A reader ignores a kind that it does not know, unless the kind has the bit REQUIRED. */
enum flm_section_kind {
	FLM_SECTION_MODEL = 1,		/* one struct flm_model_desc */
	FLM_SECTION_TENSORS = 2,	/* struct flm_tensor[]: where each matrix and vector lies */
	FLM_SECTION_PROGRAM = 3,	/* struct flm_program and its streams */
	FLM_SECTION_WEIGHTS = 4,	/* strip tables and strips of one core */
	FLM_SECTION_SHARED = 5,		/* what all cores read alike: embedding, norms, RoPE */
	FLM_SECTION_TOKENIZER = 6,	/* tokenizer.model as it is */
	FLM_SECTION_NOTES = 7,		/* JSON: how it was made, sizes, measured errors */
	FLM_SECTION_MAP = 8,		/* struct flm_map[]: names of parts of the streams */
	FLM_SECTION_REQUIRED = 0x8000,	/* bit of a kind that a reader must know */
};

/* Where a section is to lie on the card. */
enum flm_place {
	FLM_PLACE_NONE = 0,	/* a table for the host */
	FLM_PLACE_HBM = 1,	/* HBM of the section's core */
	FLM_PLACE_DDR = 2,	/* once, bound in every core */
};

#define FLM_CORE_ALL	0xffffffffu	/* instead of a core: all cores */

/* One row of the section table, which follows the header. */
struct flm_section {
	__le32 kind;		/* enum flm_section_kind */
	__le32 core;		/* FLM_CORE_ALL unless place is FLM_PLACE_HBM */
	__le64 offset;		/* in the file, a multiple of FLM_FILE_ALIGN */
	__le64 bytes;		/* how many in the file */
	__le64 memory_bytes;	/* of the buffer, at least bytes; 0 without a segment */
	__le32 segment;		/* number to bind it at; 0 without a place */
	__le32 place;		/* enum flm_place */
	__le32 rights;		/* FLM_RIGHT_ bits: R 1, W 2, X 4 */
	__le32 crc32c;		/* of its bytes in the file */
	__le32 reserved[4];	/* must be zero */
};
_Static_assert(sizeof(struct flm_section) == 64, "sections have rows of 64 bytes");

/* Segments of a model's context. A .flm brings 0..2, the library makes the others. */
enum flm_segment {
	FLM_SEGMENT_PROGRAM = 0,	/* the program */
	FLM_SEGMENT_WEIGHTS = 1,	/* strip tables and strips of this core */
	FLM_SEGMENT_SHARED = 2,		/* what all cores read alike */
	FLM_SEGMENT_KV = 3,		/* KV pages, a buffer a core, kv_page_bytes[core] a page */
	FLM_SEGMENT_JOB = 4,		/* host: job record, prompt, page list, token ring */
	FLM_SEGMENT_LOGITS = 5,		/* host: logits */
};

/* What layers a model has. */
enum flm_arch {
	FLM_ARCH_LLAMA = 1,	/* the Llama family */
};

/* Inputs of linears that may be rotated by block Hadamard before they are quantised. */
#define ROTATION(name, number, text, meaning) FLM_ROTATE_##name = number,
enum flm_rotation {
#include <flightllm/names.def>
	FLM_ROTATIONS = 8,	/* places for rotations; 5 to 7 are not used */
};

#define FLM_CORES_MAX	8	/* cores of a model at most */
#define FLM_EOS_MAX	8	/* end-of-sequence tokens of a model at most */

/* The model: all that the library must know of it. */
struct flm_model_desc {
	__le32 arch;		/* enum flm_arch */
	__le32 layers;		/* decoder layers */
	__le32 hidden;		/* width of the residual stream */
	__le32 ffn;		/* width between gate, up and down */
	__le32 heads;		/* query heads */
	__le32 kv_heads;	/* key and value heads */
	__le32 head_dim;	/* columns of a head */
	__le32 vocab;		/* token ids */
	__le32 context;		/* positions at most */
	__le32 chunk;		/* tokens of a pass of entry 0 at most */
	__le32 norm_eps;	/* epsilon of RMSNorm, float32 bits */
	__le32 softmax_scale;	/* factor of attention scores, float32 bits */
	__le32 rotate[FLM_ROTATIONS];	/* Hadamard block, 0: none; enum flm_rotation */
	__le32 bos;		/* id of the begin-of-sequence token */
	__le32 eos_count;	/* how many of eos are used */
	__le32 eos[FLM_EOS_MAX];	/* ids of end-of-sequence tokens */
	__le32 kv_page_bytes[FLM_CORES_MAX];	/* a page of 64 positions, a multiple of 64 */
	__le32 reserved[10];	/* must be zero */
	__u8 name[64];		/* name of the model, zero-terminated */
};
_Static_assert(sizeof(struct flm_model_desc) == 256, "the model table has 256 bytes");

/* How a tensor lies in its segment. */
enum flm_tensor_kind {
	FLM_TENSOR_STRIPS = 1,	/* strip table at offset, rows x cols in strips and K tiles */
	FLM_TENSOR_F32 = 2,	/* float32 [rows][cols] at pitch */
	FLM_TENSOR_INT8 = 3,	/* int8 [rows][cols] at pitch, float16 scales [rows][group of 64] */
};

/* One tensor, or one core's rows of it. Names are the checkpoint's, without ".weight". */
struct flm_tensor {
	__u8 name[64];		/* name in the checkpoint without ".weight", zero-terminated */
	__le32 kind;		/* enum flm_tensor_kind */
	__le32 core;		/* FLM_CORE_ALL: the same bytes for every core */
	__le32 segment;		/* segment that holds it */
	__le32 first_row;	/* row of the whole tensor that is row 0 here */
	__le32 rows;		/* how many rows here */
	__le32 cols;		/* columns of a row */
	__le32 pitch;		/* bytes from row to row; strips: 0 */
	__le32 scale_pitch;	/* int8: bytes from row to row of scales */
	__le64 offset;		/* in the segment: strip table, or row 0 */
	__le64 scale_offset;	/* int8: scales of row 0 */
	__le32 factor;		/* of the whole tensor, float32 bits; 1.0 if there is none */
	__le32 reserved[3];	/* must be zero */
};
_Static_assert(sizeof(struct flm_tensor) == 128, "tensors have rows of 128 bytes");

/* A name for words [first, first + words) of one stream: what a disassembler prints above them. */
struct flm_map {
	__le32 entry;		/* entry of the program */
	__le32 unit;		/* enum flm_unit */
	__le32 first;		/* first word of the part */
	__le32 words;		/* how many words */
	__u8 name[48];		/* name of the part, zero-terminated */
};
_Static_assert(sizeof(struct flm_map) == 64, "map rows have 64 bytes");

#endif
