// SPDX-License-Identifier: MIT
/*
 * safetensors files: eight bytes with the length of a JSON header, the header, and the tensors'
 * bytes, which the header must account for without a gap or an overlap. Reads of weights go through
 * a small buffer on the stack, so that they need no memory and no lock.
 */
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <jansson.h>

#include "lib/checkpoint/table.h"

#define HEADER_BYTES_MAX	(32u << 20)	/* 200,000 tensors */
#define INDEX_BYTES_MAX		(16u << 20)
#define SHARDS_MAX		512		/* each keeps a file descriptor */
#define NAME_BYTES_MAX		255
#define ELEMENTS_AT_ONCE	8192

#define NO_MEMORY(path) checkpoint_fail(-ENOMEM, "%s: out of memory", path)

static const struct {
	const char *name;
	unsigned int bits;
	bool is_float;		/* one that is read, as type */
	enum checkpoint_type type;
} dtypes[] = {
	{ "F32", 32, true, CHECKPOINT_F32 }, { "F16", 16, true, CHECKPOINT_F16 },
	{ "BF16", 16, true, CHECKPOINT_BF16 },
	{ "F64", 64, 0, 0 }, { "I64", 64, 0, 0 }, { "U64", 64, 0, 0 }, { "I32", 32, 0, 0 },
	{ "U32", 32, 0, 0 }, { "I16", 16, 0, 0 }, { "U16", 16, 0, 0 }, { "I8", 8, 0, 0 },
	{ "U8", 8, 0, 0 }, { "BOOL", 8, 0, 0 }, { "F8_E4M3", 8, 0, 0 }, { "F8_E5M2", 8, 0, 0 },
	{ "F8_E8M0", 8, 0, 0 }, { "F6_E2M3", 6, 0, 0 }, { "F6_E3M2", 6, 0, 0 }, { "F4", 4, 0, 0 },
	{ "C64", 64, 0, 0 },
};

/* ---- One tensor of a header ---- */

static int tensor_dtype(struct tensor *t, const json_t *entry, const char *path, unsigned int *bits)
{
	const char *name = json_string_value(json_object_get(entry, "dtype"));
	size_t i;

	for (i = 0; name && i < sizeof(dtypes) / sizeof(*dtypes); i++) {
		if (strcmp(name, dtypes[i].name))
			continue;
		t->dtype = dtypes[i].name;
		t->is_float = dtypes[i].is_float;
		t->type = dtypes[i].type;
		*bits = dtypes[i].bits;
		return 0;
	}
	return checkpoint_fail(-EBADMSG,
			       "%s: tensor %s: dtype %.40s is not known; fetch the file again",
			       path, t->name, name ? name : "(none)");
}

static int tensor_shape(struct tensor *t, const json_t *entry, const char *path, uint64_t *elements)
{
	const json_t *shape = json_object_get(entry, "shape");
	uint64_t dims[2] = { 1, 1 };	/* first, all others */
	size_t i, rank = json_array_size(shape);

	if (!json_is_array(shape) || rank > 8)
		return checkpoint_fail(-EBADMSG,
				       "%s: tensor %s: shape must be a list of at most 8 sizes",
				       path, t->name);
	for (i = 0; i < rank; i++) {
		const json_t *dim = json_array_get(shape, i);
		uint64_t *to = &dims[i > 0];

		if (!json_is_integer(dim) || json_integer_value(dim) < 0 ||
		    __builtin_mul_overflow(*to, (uint64_t)json_integer_value(dim), to))
			return checkpoint_fail(-EBADMSG,
					       "%s: tensor %s: dimension %zu of its shape is no size",
					       path, t->name, i);
	}
	if (__builtin_mul_overflow(dims[0], dims[1], elements) || *elements > UINT64_MAX / 64)
		return checkpoint_fail(-EBADMSG,
				       "%s: tensor %s: its shape has more elements than any file",
				       path, t->name);
	t->rank = rank;
	t->rows = rank > 1 ? dims[0] : 1;
	t->cols = rank > 1 ? dims[1] : dims[0];
	return 0;
}

/* data_offsets count from the end of the header, at byte `data` of the file. */
static int tensor_bytes(struct tensor *t, const json_t *entry, const struct checkpoint_file *file,
			uint64_t data, uint64_t bits)
{
	const json_t *offsets = json_object_get(entry, "data_offsets");
	const json_t *first = json_array_get(offsets, 0), *second = json_array_get(offsets, 1);
	uint64_t begin, end, room = file->bytes - data;

	if (json_array_size(offsets) != 2 || !json_is_integer(first) || !json_is_integer(second) ||
	    json_integer_value(first) < 0 || json_integer_value(second) < json_integer_value(first))
		return checkpoint_fail(-EBADMSG,
				       "%s: tensor %s: data_offsets must be two ascending numbers",
				       file->path, t->name);
	begin = json_integer_value(first);
	end = json_integer_value(second);
	if (end > room)
		return checkpoint_fail(-EBADMSG,
				       "%s: tensor %s ends at byte %llu of the data, and the file has %llu; it is truncated, fetch it again",
				       file->path, t->name, (unsigned long long)end,
				       (unsigned long long)room);
	if (bits % 8 || (end - begin) * 8 != bits)
		return checkpoint_fail(
			-EBADMSG,
			"%s: tensor %s has %llu bytes, by its shape and type %s it must have %llu",
			file->path, t->name, (unsigned long long)(end - begin), t->dtype,
			(unsigned long long)(bits / 8));
	t->begin = data + begin;
	t->end = data + end;
	return 0;
}

static int add_tensor(struct checkpoint *cp, const char *name, const json_t *entry, uint64_t data)
{
	const struct checkpoint_file *file = &cp->files[cp->file_count - 1];
	struct tensor *t;
	uint64_t elements = 0;
	unsigned int bits = 0;
	int ret;

	if (!*name || strlen(name) > NAME_BYTES_MAX)
		return checkpoint_fail(-EBADMSG,
				       "%s: the name of a tensor has %zu bytes; it must be 1 to %d: %.40s",
				       file->path, strlen(name), NAME_BYTES_MAX, name);
	if (!json_is_object(entry) || json_object_size(entry) != 3)
		return checkpoint_fail(-EBADMSG,
				       "%s: tensor %s: it must have dtype, shape and data_offsets, and nothing else",
				       file->path, name);
	t = checkpoint_add(cp, name);
	if (!t)
		return NO_MEMORY(file->path);
	t->file = cp->file_count - 1;
	ret = tensor_dtype(t, entry, file->path, &bits);
	if (!ret)
		ret = tensor_shape(t, entry, file->path, &elements);
	if (!ret)
		ret = tensor_bytes(t, entry, file, data, elements * bits);
	return ret;
}

/* ---- One file ---- */

static int by_place(const void *a, const void *b)
{
	const struct tensor *x = a, *y = b;

	if (x->begin != y->begin)
		return x->begin < y->begin ? -1 : 1;
	return x->end < y->end ? -1 : x->end > y->end;
}

/* Tensors first .. of the table must fill the file from data to its end. */
static int check_places(struct checkpoint *cp, size_t first, uint64_t data)
{
	const struct checkpoint_file *file = &cp->files[cp->file_count - 1];
	const struct tensor *t;
	uint64_t end = data;
	size_t i;

	if (cp->count > first)
		qsort(cp->tensors + first, cp->count - first, sizeof(*cp->tensors), by_place);
	for (i = first; i < cp->count; i++) {
		t = &cp->tensors[i];
		if (t->begin < end)
			return checkpoint_fail(-EBADMSG,
					       "%s: tensors %s and %s overlap; fetch the file again",
					       file->path, cp->tensors[i - 1].name, t->name);
		if (t->begin > end)
			return checkpoint_fail(
				-EBADMSG,
				"%s: %llu bytes before tensor %s belong to no tensor; fetch the file again",
				file->path, (unsigned long long)(t->begin - end), t->name);
		end = t->end;
	}
	if (end != file->bytes)
		return checkpoint_fail(-EBADMSG,
				       "%s: %llu bytes at its end belong to no tensor; fetch the file again",
				       file->path, (unsigned long long)(file->bytes - end));
	return 0;
}

static int parse_header(struct checkpoint *cp, const char *text, size_t bytes)
{
	const char *path = cp->files[cp->file_count - 1].path;
	size_t first = cp->count;
	json_error_t why;
	json_t *root, *entry;
	const char *name;
	int ret = 0;

	root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
	if (!root)
		return checkpoint_fail(-EBADMSG,
				       "%s: byte %d of its header: %s; fetch the file again", path,
				       why.position, why.text);
	if (!json_is_object(root))
		ret = checkpoint_fail(-EBADMSG, "%s: its header must be an object", path);
	json_object_foreach(root, name, entry) {
		if (ret)
			break;
		if (!strcmp(name, "__metadata__"))
			continue;
		ret = add_tensor(cp, name, entry, 8 + bytes);
	}
	json_decref(root);
	return ret ? ret : check_places(cp, first, 8 + bytes);
}

/* The file is the table's from here on, whatever comes. */
static int add_file(struct checkpoint *cp, int dir, const char *name)
{
	struct checkpoint_file *file;
	uint64_t length;
	char *path, *text;
	int fd, ret;

	if (asprintf(&path, "%s/%s", cp->label, name) < 0)
		return NO_MEMORY(cp->label);
	file = reallocarray(cp->files, cp->file_count + 1, sizeof(*file));
	if (!file) {
		free(path);
		return NO_MEMORY(cp->label);
	}
	cp->files = file;
	file += cp->file_count;
	fd = checkpoint_open_file(dir, name, path, &file->bytes);
	if (fd < 0) {
		free(path);
		return fd;
	}
	file->fd = fd;
	file->path = path;
	cp->file_count++;

	if (file->bytes < 8)
		return checkpoint_fail(-EBADMSG,
				       "%s: it has %llu bytes, too few for safetensors; fetch it again",
				       path, (unsigned long long)file->bytes);
	ret = checkpoint_read_all(fd, path, &length, sizeof(length), 0);
	if (ret)
		return ret;
	if (!memcmp(&length, "version ", 8))
		return checkpoint_fail(-EBADMSG,
				       "%s: it is a pointer of Git LFS, not the weights; run git lfs pull there",
				       path);
	length = le64toh(length);
	if (length > file->bytes - 8)
		return checkpoint_fail(-EBADMSG,
				       "%s: its header has %llu bytes, and %llu follow, it is truncated or no safetensors file; fetch it again",
				       path, (unsigned long long)length,
				       (unsigned long long)file->bytes - 8);
	if (length > HEADER_BYTES_MAX)
		return checkpoint_fail(-EBADMSG,
				       "%s: its header has %llu bytes, and at most %u are read",
				       path, (unsigned long long)length, HEADER_BYTES_MAX);
	text = malloc(length + 1);
	if (!text)
		return NO_MEMORY(path);
	ret = checkpoint_read_all(fd, path, text, length, 8);
	if (!ret)
		ret = parse_header(cp, text, length);
	free(text);
	return ret;
}

/* ---- Shards ---- */

/* A name in the index must stay inside the directory. */
static bool is_shard_name(const char *name)
{
	static const char suffix[] = ".safetensors";
	size_t n = name ? strlen(name) : 0;

	return n >= sizeof(suffix) && n <= NAME_BYTES_MAX && *name != '.' && !strchr(name, '/') &&
	       !strcmp(name + n - (sizeof(suffix) - 1), suffix);
}

/* Opens each shard once; the object `numbers` keeps which file it became. */
static int open_shards(struct checkpoint *cp, int dir, const char *path, json_t *map,
		       json_t *numbers)
{
	const char *name, *shard;
	json_t *value;
	int ret;

	json_object_foreach(map, name, value) {
		shard = json_string_value(value);
		if (!is_shard_name(shard))
			return checkpoint_fail(-EBADMSG,
					       "%s: tensor %.200s: its file must be a name that ends in .safetensors, without a slash",
					       path, name);
		if (json_object_get(numbers, shard))
			continue;
		if (cp->file_count == SHARDS_MAX)
			return checkpoint_fail(-EOPNOTSUPP,
					       "%s: more than %d files; at most that many are read",
					       path, SHARDS_MAX);
		ret = add_file(cp, dir, shard);
		if (ret)
			return ret;
		if (json_object_set_new(numbers, shard, json_integer(cp->file_count - 1)))
			return NO_MEMORY(path);
	}
	return 0;
}

static int check_index(const struct checkpoint *cp, const char *path, json_t *map, json_t *numbers)
{
	const struct tensor *t;
	const char *name, *shard;
	json_t *value;

	json_object_foreach(map, name, value) {
		shard = json_string_value(value);
		t = checkpoint_find(cp, name);
		if (!t || t->file != json_integer_value(json_object_get(numbers, shard)))
			return checkpoint_fail(-EBADMSG,
					       "%s: tensor %.200s is not in %s; fetch index and shards again, together",
					       path, name, shard);
	}
	return 0;
}

static int read_shards(struct checkpoint *cp, int dir, const char *path, const char *text,
		       size_t bytes)
{
	json_error_t why;
	json_t *root = json_loadb(text, bytes, JSON_REJECT_DUPLICATES, &why);
	json_t *map = json_object_get(root, "weight_map"), *numbers = json_object();
	int ret;

	if (!root)
		ret = checkpoint_fail(-EBADMSG, "%s: line %d: %s; fetch the file again", path,
				      why.line, why.text);
	else if (!numbers)
		ret = NO_MEMORY(path);
	else if (!json_is_object(map) || !json_object_size(map))
		ret = checkpoint_fail(-EBADMSG,
				      "%s: weight_map must be an object that names each tensor's file",
				      path);
	else
		ret = open_shards(cp, dir, path, map, numbers);
	if (!ret)
		ret = checkpoint_sort(cp);
	if (!ret)
		ret = check_index(cp, path, map, numbers);
	json_decref(numbers);
	json_decref(root);
	return ret;
}

/* ---- Weights ---- */

static inline uint32_t bits_32(const unsigned char *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return le32toh(v);
}

static inline uint32_t bits_16(const unsigned char *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return le16toh(v);
}

/*
 * Each returns non-zero when an exponent of all ones, NaN or infinity, was among the elements;
 * looking for it costs one operation an element here and a second pass elsewhere.
 */
static uint32_t convert_f32(const unsigned char *in, size_t n, float *out)
{
	uint32_t v, bad = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		v = bits_32(in + 4 * i);
		bad |= (v & 0x7f800000) + 0x00800000;
		memcpy(&out[i], &v, sizeof(v));
	}
	return bad & 0x80000000;
}

static uint32_t convert_bf16(const unsigned char *in, size_t n, float *out)
{
	uint32_t v, bad = 0;
	size_t i;

	for (i = 0; i < n; i++) {
		v = bits_16(in + 2 * i) << 16;
		bad |= (v & 0x7f800000) + 0x00800000;
		memcpy(&out[i], &v, sizeof(v));
	}
	return bad & 0x80000000;
}

/* Subnormals come out exact: they are subnormal as float32 too, and 2^112 makes them normal. */
static uint32_t convert_f16(const unsigned char *in, size_t n, float *out)
{
	uint32_t v, w, bad = 0;
	size_t i;
	float f;

	for (i = 0; i < n; i++) {
		v = bits_16(in + 2 * i);
		bad |= (v & 0x7c00) + 0x0400;
		w = (v & 0x7fff) << 13 | (v & 0x8000) << 16;
		memcpy(&f, &w, sizeof(f));
		out[i] = f * 0x1p112f;
	}
	return bad & 0x8000;
}

/* Names the first element whose exponent is all ones. */
static int refuse_element(const struct checkpoint *cp, const struct tensor *t, uint64_t first,
			  const unsigned char *in, size_t n)
{
	uint32_t v = 0, exponent = 0x7f80, fraction = 0x7f;
	unsigned long long row, col;
	size_t i;

	if (t->type == CHECKPOINT_F32) {
		exponent = 0x7f800000;
		fraction = 0x7fffff;
	} else if (t->type == CHECKPOINT_F16) {
		exponent = 0x7c00;
		fraction = 0x3ff;
	}
	for (i = 0; i < n; i++) {
		v = t->type == CHECKPOINT_F32 ? bits_32(in + 4 * i) : bits_16(in + 2 * i);
		if ((v & exponent) == exponent)
			break;
	}
	row = (first + i) / t->cols;
	col = (first + i) % t->cols;
	return checkpoint_fail(-EBADMSG,
			       "%s: tensor %s: element %llu (row %llu, column %llu) is %s, the model is broken; fetch it again",
			       cp->files[t->file].path, t->name, (unsigned long long)first + i, row,
			       col, v & fraction ? "NaN" : "infinite");
}

static int read_safetensors(const struct checkpoint *cp, const struct tensor *t, uint64_t first,
			    uint64_t count, float *out)
{
	const struct checkpoint_file *file = &cp->files[t->file];
	unsigned int each = t->type == CHECKPOINT_F32 ? 4 : 2;
	unsigned char in[4 * ELEMENTS_AT_ONCE];
	uint32_t bad;
	size_t n;
	int ret;

	for (; count; count -= n, first += n, out += n) {
		n = count < ELEMENTS_AT_ONCE ? count : ELEMENTS_AT_ONCE;
		ret = checkpoint_read_all(file->fd, file->path, in, n * each,
					  t->begin + first * each);
		if (ret)
			return ret;
		if (t->type == CHECKPOINT_F32)
			bad = convert_f32(in, n, out);
		else if (t->type == CHECKPOINT_F16)
			bad = convert_f16(in, n, out);
		else
			bad = convert_bf16(in, n, out);
		if (bad)
			return refuse_element(cp, t, first, in, n);
	}
	return 0;
}

/* ---- The directory ---- */

int checkpoint_read_directory(struct checkpoint *cp, int dir)
{
	static const char single[] = "model.safetensors";
	static const char index[] = "model.safetensors.index.json";
	char *path, *text;
	size_t bytes;
	int ret;

	cp->read = read_safetensors;
	if (!faccessat(dir, single, F_OK, 0)) {
		ret = add_file(cp, dir, single);
		return ret ? ret : checkpoint_sort(cp);
	}
	if (asprintf(&path, "%s/%s", cp->label, index) < 0)
		return NO_MEMORY(cp->label);
	ret = checkpoint_read_text(dir, index, path, INDEX_BYTES_MAX, &text, &bytes);
	if (ret == -ENOENT) {
		if (!faccessat(dir, "pytorch_model.bin", F_OK, 0) ||
		    !faccessat(dir, "pytorch_model.bin.index.json", F_OK, 0))
			checkpoint_fail(ret,
					"%s: it holds pytorch_model.bin, which is not read; convert it to safetensors",
					cp->label);
		else
			checkpoint_fail(ret,
					"%s: neither %s nor %s; a model's directory holds one of them",
					cp->label, single, index);
	}
	if (!ret) {
		ret = read_shards(cp, dir, path, text, bytes);
		free(text);
	}
	free(path);
	return ret;
}
