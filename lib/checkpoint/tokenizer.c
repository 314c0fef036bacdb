// SPDX-License-Identifier: MIT
/*
 * What stands beside the weights for text: tokenizer.model, which is read by the code that will use
 * it, so that what is accepted here is not refused there; and the chat template of
 * tokenizer_config.json. A template is a program in Jinja, which nobody here runs: it is recognised
 * by the marks that it writes.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <jansson.h>

#include "lib/checkpoint/table.h"
#include "lib/internal.h"

#define TOKENIZER_BYTES_MAX	(64u << 20)
#define SETTINGS_BYTES_MAX	(16u << 20)

int checkpoint_tokenizer_read(const struct checkpoint *cp, char **text, size_t *bytes)
{
	const char *path = cp->tokenizer;
	struct flm_tokenizer *tokenizer;
	uint32_t pieces;
	char why[256];
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
	ret = flm_tokenizer_load(*text, *bytes, why, sizeof(why), &tokenizer);
	pieces = ret ? 0 : flm_tokenizer_vocab(tokenizer);
	if (ret)
		checkpoint_fail(ret,
				"%s: %s; fetch the file again, or take a model whose tokenizer is SentencePiece's BPE with the normalizer 'identity'",
				path, why);
	else if (pieces > cp->config.vocab)
		ret = checkpoint_fail(-EBADMSG,
				      "%s: it has %u pieces, and vocab_size in config.json is %u, the two files do not belong together; fetch both again",
				      path, pieces, cp->config.vocab);
	flm_tokenizer_free(tokenizer);
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
