/* SPDX-License-Identifier: MIT */
/*
 * Shared by the checkpoint's files: the table of tensors, between the fillers (safetensors, the
 * synthetic shapes) and the readers. A new file format adds a filler and a read
 * function, a new architecture adds rows to shapes.c; nothing here changes.
 */
#ifndef CHECKPOINT_TABLE_H
#define CHECKPOINT_TABLE_H

#include "lib/checkpoint/checkpoint.h"

/* Purpose of a tensor; the synthetic shapes take the size of their weights from it. */
enum tensor_use { USE_EMBEDDING, USE_HEAD, USE_NORM, USE_INTO, USE_OUT_OF, USE_BIAS };

struct tensor {
	char *name;			/* the table's */
	enum checkpoint_type type;
	bool is_float;			/* type means something: one of the three that are read */
	const char *dtype;		/* as the file calls it; static */
	unsigned int rank;
	uint64_t rows, cols;
	unsigned int file;		/* files[file], bytes begin .. end of it */
	uint64_t begin, end;
	uint64_t key;			/* synthetic: start of its random numbers */
	float mean, scale;
};

struct checkpoint_file {
	int fd;
	char *path;
	uint64_t bytes;
};

struct checkpoint {
	struct checkpoint_config config;
	char *label;			/* directory or shape, for messages */
	char *tokenizer;
	enum checkpoint_chat chat;
	struct tensor *tensors;		/* sorted by name once open */
	size_t count, space;
	struct checkpoint_file *files;
	unsigned int file_count;
	/* count elements of t from first on; both lie inside it */
	int (*read)(const struct checkpoint *cp, const struct tensor *t, uint64_t first,
		    uint64_t count, float *out);
};

/* A tensor that an architecture has, for a config. */
struct wanted {
	char name[96];
	unsigned int rank;
	uint64_t rows, cols;
	enum tensor_use use;
};

/* ---- table.c ---- */

/* Keeps the text for checkpoint_error() and returns code. */
__attribute__((format(printf, 2, 3)))
int checkpoint_fail(int code, const char *format, ...);

struct tensor *checkpoint_add(struct checkpoint *cp, const char *name);
int checkpoint_sort(struct checkpoint *cp);
struct tensor *checkpoint_find(const struct checkpoint *cp, const char *name);

/* ---- file.c ---- */

/* A regular file of the directory, never a pipe that would block. Its descriptor, or -errno. */
int checkpoint_open_file(int dir, const char *name, const char *path, uint64_t *bytes);
/* All bytes or a refusal; a file that ends early has been cut since it was opened. */
int checkpoint_read_all(int fd, const char *path, void *to, size_t bytes, uint64_t offset);
/* A whole small file of the directory, with a 0 behind it; the caller frees. */
int checkpoint_read_text(int dir, const char *name, const char *path, size_t limit, char **text,
			 size_t *bytes);

/* ---- Fillers and readers ---- */

/* config.c: text of a config.json; path is for messages. */
int checkpoint_parse_config(const char *text, size_t bytes, const char *path,
			    struct checkpoint_config *config);

/* shapes.c: false behind the last tensor. */
bool checkpoint_wanted(const struct checkpoint_config *config, unsigned int index,
		       struct wanted *wanted);
/* Finds which biases there are, and holds the whole table against the architecture's. */
int checkpoint_match(struct checkpoint *cp);

/* tokenizer.c: the form of a chat, from the directory's tokenizer_config.json. */
int checkpoint_read_chat(struct checkpoint *cp, int dir);

/* safetensors.c: fills files and tensors from the directory. */
int checkpoint_read_directory(struct checkpoint *cp, int dir);

#endif
