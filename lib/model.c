// SPDX-License-Identifier: MIT
/*
 * A model on the card: the sections of a .flm file that have a place become buffers, filled through
 * the copy queue while their CRC is taken, so that the file is read once, and what was checked is
 * what was uploaded.
 */
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lib/crc32c.h"
#include "lib/image.h"
#include "lib/internal.h"
#include "lib/token/token.h"

#define UPLOAD_BYTES (4u << 20)		/* a step of upload, checksum and progress */

/*
 * A model's name is that of somebody's folder: what of it is no character, or would move a
 * terminal's cursor, is shown as '?'.
 */
static void fill_name(char name[FLM_NAME_BYTES], const struct flm_model_desc *m)
{
	const char *from = (const char *)m->name;
	size_t left = strlen(from), n;

	for (; left; from += n, left -= n) {
		n = token_character(from, left);
		/* U+0000 to U+001F, U+007F, and U+0080 to U+009F */
		if (!n || (n == 1 && (*from < ' ' || *from == 0x7f)) ||
		    (n == 2 && (uint8_t)from[0] == 0xc2 && (uint8_t)from[1] < 0xa0)) {
			*name++ = '?';
			n += !n;
		} else {
			name = mempcpy(name, from, n);
		}
	}
	*name = 0;
}

static void fill_info(const struct image *image, struct flm_model_info *info)
{
	const struct flm_model_desc *m = image->model;
	uint64_t page = 0;

	memset(info, 0, sizeof(*info));
	fill_name(info->name, m);
	snprintf(info->card, sizeof(info->card), "%.15s", (const char *)image->file->card);
	info->cores = le32toh(image->file->cores);
	info->layers = le32toh(m->layers);
	info->hidden = le32toh(m->hidden);
	info->ffn = le32toh(m->ffn);
	info->heads = le32toh(m->heads);
	info->kv_heads = le32toh(m->kv_heads);
	info->head_dim = le32toh(m->head_dim);
	info->vocab = le32toh(m->vocab);
	info->context = le32toh(m->context);
	info->chunk = le32toh(m->chunk);
	info->bos = le32toh(m->bos);
	info->eos_count = le32toh(m->eos_count);
	for (unsigned int i = 0; i < info->eos_count; i++)
		info->eos[i] = le32toh(m->eos[i]);
	info->file_bytes = image->bytes;
	for (unsigned int i = 0; i < image->count; i++) {
		uint32_t kind = le32toh(image->sections[i].kind);
		uint64_t bytes = le64toh(image->sections[i].bytes);

		if (kind == FLM_SECTION_PROGRAM)
			info->program_bytes += bytes;
		else if (kind == FLM_SECTION_WEIGHTS || kind == FLM_SECTION_SHARED)
			info->weight_bytes += bytes;
	}
	for (unsigned int c = 0; c < info->cores; c++)
		page += le32toh(m->kv_page_bytes[c]);
	info->kv_bytes_per_token = page / 64;
	info->notes = "";
}

PUBLIC int flm_model_probe(const char *path, struct flm_model_info *info, char **notes)
{
	struct image image;
	int ret;

	if (notes)
		*notes = NULL;
	ret = image_open(path, &image);
	if (ret)
		return ret;
	fill_info(&image, info);
	if (notes) {
		*notes = strndup(image.notes ? image.notes : "", image.notes_bytes);
		if (!*notes)
			ret = flm_fail(-ENOMEM, "no memory for the notes of %s", path);
	}
	image_close(&image);
	return ret;
}

/* Bytes to upload in all, for the bar. */
static uint64_t upload_bytes(const struct image *image)
{
	uint64_t bytes = 0;

	for (unsigned int i = 0; i < image->count; i++)
		if (le32toh(image->sections[i].place) != FLM_PLACE_NONE)
			bytes += le64toh(image->sections[i].bytes);
	return bytes;
}

static int upload(struct flm_model *model, const struct image *image, unsigned int i,
		  const struct flm_load_options *options, uint64_t *done)
{
	const struct flm_section *s = &image->sections[i];
	uint64_t bytes = le64toh(s->bytes), n = bytes < UPLOAD_BYTES ? bytes : UPLOAD_BYTES;
	struct flm_binding *binding = &model->binding[model->bindings];
	uint8_t *buffer;
	struct flm_bo *bo;
	uint32_t crc = 0;
	int ret;

	ret = flm_bo_new(model->device,
			 le32toh(s->place) == FLM_PLACE_HBM ? FLM_BO_HBM : FLM_BO_DDR,
			 le32toh(s->place) == FLM_PLACE_HBM ? le32toh(s->core) : 0,
			 le64toh(s->memory_bytes), &bo);
	if (ret)
		return ret;
	model->bo[model->bindings++] = bo;
	*binding = (struct flm_binding) {
		.segment = le32toh(s->segment),
		.core = le32toh(s->place) == FLM_PLACE_HBM ? le32toh(s->core) : FLM_ALL_CORES,
		.bo = bo, .bytes = le64toh(s->memory_bytes), .rights = le32toh(s->rights),
	};
	buffer = malloc(n);
	if (!buffer)
		return flm_fail(-ENOMEM, "no memory to load %s", image->path);
	for (uint64_t at = 0; at < bytes; at += n) {
		n = bytes - at < UPLOAD_BYTES ? bytes - at : UPLOAD_BYTES;
		ret = image_read(image, i, at, buffer, n);
		if (!ret)
			ret = flm_bo_write(bo, at, buffer, n);
		if (ret)
			break;
		crc = flm_crc32c(crc, buffer, n);
		*done += n;
		if (options && options->progress)
			options->progress(options->opaque, *done, upload_bytes(image));
	}
	free(buffer);
	return ret ? ret : image_check_section(image, i, crc);
}

static int fits_card(const struct image *image, struct flm_device *device,
		     struct flm_model *model)
{
	struct flm_device_info card;
	int ret = flm_device_info(device, &card);

	if (ret)
		return ret;
	if (strncmp(card.card, model->info.card, sizeof(card.card)) ||
	    card.cores != model->info.cores)
		return flm_fail(-EPROTO, "%s was compiled for card %s (%u cores), this is %s (%u "
				"cores); compile it with --card %s", image->path, model->info.card,
				model->info.cores, card.card, card.cores, card.card);
	/* Another major is refused with the file, or with the card. */
	if (le16toh(image->file->isa_minor) > card.isa_minor)
		return flm_fail(-EPROTO, "%s: needs instruction set %u.%u, card %s has %u.%u; compile it "
				"with the flightllm-cc of the card's release, or update the card",
				image->path, le16toh(image->file->isa_major),
				le16toh(image->file->isa_minor), card.node, card.isa_major,
				card.isa_minor);
	return 0;
}

static int load_tokenizer(const struct image *image, bool is_needed, struct flm_model *model)
{
	char why[256];
	int ret;

	if (!image->tokenizer && is_needed)
		return flm_fail(-ENODATA, "%s has no tokenizer; compile it from a directory with "
				"tokenizer.model", image->path);
	if (!image->tokenizer)
		return 0;
	ret = flm_tokenizer_load(image->tokenizer, image->tokenizer_bytes, why, sizeof(why),
				 &model->tokenizer);
	if (ret)
		flm_fail(ret, "%s: its tokenizer: %s; compile it again with a sound "
			 "tokenizer.model", image->path, why);
	return ret;
}

PUBLIC int flm_model_load(struct flm_device *device, const char *path,
			  const struct flm_load_options *options, struct flm_model **model)
{
	struct flm_model *m;
	struct image image;
	uint64_t done = 0;
	int ret;

	*model = NULL;
	ret = image_open(path, &image);
	if (ret)
		return ret;
	m = calloc(1, sizeof(*m));
	if (!m) {
		image_close(&image);
		return flm_fail(-ENOMEM, "no memory for a model");
	}
	m->device = device;
	fill_info(&image, &m->info);
	m->notes = strndup(image.notes ? image.notes : "", image.notes_bytes);
	m->info.notes = m->notes;
	for (unsigned int c = 0; c < m->info.cores; c++)
		m->page_bytes[c] = le32toh(image.model->kv_page_bytes[c]);
	ret = m->notes ? fits_card(&image, device, m) : flm_fail(-ENOMEM, "no memory for a model");
	if (!ret)
		ret = load_tokenizer(&image, options && options->needs_tokenizer, m);
	for (unsigned int i = 0; !ret && i < image.count; i++) {
		if (le32toh(image.sections[i].place) == FLM_PLACE_NONE)
			continue;
		if (m->bindings == MODEL_BINDINGS_MAX)
			ret = flm_fail(-EBADMSG, "%s: more than %d sections are for the card; compile the model "
				       "again", path,
				       MODEL_BINDINGS_MAX);
		else
			ret = upload(m, &image, i, options, &done);
	}
	image_close(&image);
	/* A reset between two sections shows in the buffer that was there before it. */
	for (unsigned int i = 0; !ret && i < m->bindings; i++)
		if (bo_is_lost(m->bo[i]))
			ret = flm_fail(-ECANCELED, "%s: " RESET_TEXT, device->node);
	if (ret) {
		flm_model_free(m);
		return ret;
	}
	*model = m;
	return 0;
}

PUBLIC void flm_model_free(struct flm_model *model)
{
	if (!model)
		return;
	for (unsigned int i = 0; i < model->bindings; i++)
		flm_bo_free(model->bo[i]);
	flm_tokenizer_free(model->tokenizer);
	free(model->notes);
	free(model);
}

PUBLIC void flm_model_info(struct flm_model *model, struct flm_model_info *info)
{
	*info = model->info;
}

PUBLIC struct flm_tokenizer *flm_model_tokenizer(struct flm_model *model)
{
	return model->tokenizer;
}
