// SPDX-License-Identifier: MIT
/*
 * What stands beside the weights for text: tokenizer.model, of which only the outermost layer is
 * read (the library that will use it reads the rest), and the chat template of
 * tokenizer_config.json. A template is a program in Jinja, which nobody here runs: it is recognised
 * by the marks that it writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "lib/checkpoint_table.h"

#define TOKENIZER_BYTES_MAX	(64u << 20)
#define SETTINGS_BYTES_MAX	(16u << 20)

/* Number 1 of a ModelProto, and the wire type of all its fields: a length, then bytes. */
#define PIECE_KEY	(1 << 3 | 2)

/* A number in pieces of seven bits, the lowest first. */
static bool varint(const unsigned char **at, const unsigned char *end, uint64_t *value)
{
	unsigned int shift;

	*value = 0;
	for (shift = 0; shift < 64 && *at < end; shift += 7) {
		*value |= (uint64_t)(**at & 0x7f) << shift;
		if (!(*(*at)++ & 0x80))
			return true;
	}
	return false;
}

/* False: this is no SentencePiece model. */
static bool count_pieces(const unsigned char *at, size_t bytes, uint64_t *pieces)
{
	const unsigned char *end = at + bytes;
	uint64_t key, length;

	*pieces = 0;
	while (at < end) {
		if (!varint(&at, end, &key) || (key & 7) != 2 || key < 8 ||
		    !varint(&at, end, &length) || length > (uint64_t)(end - at))
			return false;
		*pieces += key == PIECE_KEY;
		at += length;
	}
	return *pieces > 0;
}

int checkpoint_tokenizer_read(const struct checkpoint *cp, char **text, size_t *bytes)
{
	const char *path = cp->tokenizer;
	uint64_t pieces;
	int ret;

	*text = NULL;
	*bytes = 0;
	if (!path)
		return checkpoint_fail(-ENOENT,
				       "%s: no tokenizer.model; fetch SentencePiece's file beside config.json, the only kind of tokenizer that is read",
				       cp->label);
	ret = checkpoint_read_text(AT_FDCWD, path, path, TOKENIZER_BYTES_MAX, text, bytes);
	if (ret)
		return ret;
	if (!count_pieces((const unsigned char *)*text, *bytes, &pieces))
		ret = checkpoint_fail(-EBADMSG,
				      "%s: it is truncated or no SentencePiece model; fetch it again",
				      path);
	else if (pieces > cp->config.vocab)
		ret = checkpoint_fail(-EBADMSG,
				      "%s: it has %llu pieces, and vocab_size in config.json is %u; the two files do not belong together: fetch both again",
				      path, (unsigned long long)pieces, cp->config.vocab);
	if (ret) {
		free(*text);
		*text = NULL;
	}
	return ret;
}

static enum checkpoint_chat chat_of(const json_t *settings)
{
	const json_t *value = json_object_get(settings, "chat_template");
	const char *text = json_string_value(value);

	if (!value || json_is_null(value))
		return CHECKPOINT_CHAT_NONE;
	return text && strstr(text, "[INST]") && strstr(text, "<<SYS>>") ?
		CHECKPOINT_CHAT_LLAMA2 : CHECKPOINT_CHAT_OTHER;
}

int checkpoint_read_chat(struct checkpoint *cp, int dir)
{
	static const char name[] = "tokenizer_config.json";
	json_error_t why;
	json_t *root;
	char *path, *text;
	size_t bytes;
	int ret;

	if (asprintf(&path, "%s/%s", cp->label, name) < 0)
		return checkpoint_fail(-ENOMEM, "%s: out of memory", cp->label);
	ret = checkpoint_read_text(dir, name, path, SETTINGS_BYTES_MAX, &text, &bytes);
	if (ret) {
		free(path);
		return ret == -ENOENT ? 0 : ret;
	}
	/* As reals: model_max_length is often 10^30, which means that there is none. */
	root = json_loadb(text, bytes, JSON_DECODE_INT_AS_REAL, &why);
	free(text);
	if (root)
		cp->chat = chat_of(root);
	else
		ret = checkpoint_fail(-EBADMSG, "%s: line %d: %s; fetch the file again, or remove it",
				      path, why.line, why.text);
	json_decref(root);
	free(path);
	return ret;
}
