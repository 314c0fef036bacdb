// SPDX-License-Identifier: MIT
/*
 * The file. Where every byte goes is known before a weight is read; then threads take strips of
 * 16 rows, read them as float32, rotate and quantise them, and write each where it belongs. No
 * more of the model is ever in memory than a strip a thread.
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "compiler/cc.h"
#include "compiler/output.h"
#include "compiler/write.h"
#include "lib/crc32c.h"

#define STRIPS_A_TASK	4
#define ROWS_A_TASK	64	/* of the embedding */

/* Some strips of one core's matrix, or (core FLM_CORE_ALL) rows of the embedding. */
struct task {
	unsigned int core, layer, matrix;
	uint32_t first, count;
};

struct work {
	struct plan *plan;
	const char *path;
	int fd;
	struct task *tasks;
	size_t count, room;
	atomic_size_t next;
	atomic_ullong done;		/* elements */
	uint64_t all;
	atomic_bool is_over;
	atomic_uint *greatest;		/* of each tensor, as quant_greatest() has it */
};

static void write_at(struct work *w, uint64_t offset, const void *bytes, size_t count)
{
	const char *p = bytes;

	while (count) {
		ssize_t n = pwrite(w->fd, p, count, offset);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			die("%s: cannot write: %s: make room, or choose another folder", w->path,
			    n ? strerror(errno) : "disk full");
		p += n;
		offset += n;
		count -= n;
	}
}

static uint64_t section_offset(const struct plan *p, uint32_t kind, uint32_t core)
{
	for (unsigned int i = 0; i < p->section_count; i++)
		if (p->sections[i].kind == kind && p->sections[i].core == core)
			return p->sections[i].offset;
	die("internal error: no section %u of core %u", kind, core);
}

const char *write_tensor_name(const struct plan *p, unsigned int matrix, unsigned int layer,
			      char name[64])
{
	if (matrix == M_HEAD)
		snprintf(name, 64, "lm_head");
	else
		snprintf(name, 64, "model.layers.%u.%s", layer, p->matrix[matrix].part);
	return name;
}

static void read_rows(const struct plan *p, const char *name, uint64_t first, uint64_t rows,
		      float *out)
{
	int ret = checkpoint_rows_f32(p->checkpoint, name, first, rows, out);

	if (ret)
		die_checkpoint(ret);
}

/* Tensors by number: those of each layer, the head, the embedding. */
static size_t tensor_number(const struct plan *p, unsigned int matrix, unsigned int layer)
{
	return matrix < M_HEAD ? layer * M_HEAD + matrix :
	       (size_t)p->config->layers * M_HEAD + matrix - M_HEAD;
}

static void weight_name(const struct plan *p, unsigned int matrix, unsigned int layer,
			char full[80])
{
	char name[64];

	if (matrix == MATRICES || (matrix == M_HEAD && p->config->is_tied))
		snprintf(full, 80, "model.embed_tokens.weight");
	else
		snprintf(full, 80, "%s.weight", write_tensor_name(p, matrix, layer, name));
}

/* Returns whether all are finite: what was so when it was read may not be when it is rotated. */
static bool note_greatest(struct work *w, size_t tensor, const float *rows, size_t count)
{
	unsigned int most = quant_greatest(rows, count), known = atomic_load(&w->greatest[tensor]);

	while (most > known &&
	       !atomic_compare_exchange_weak(&w->greatest[tensor], &known, most))
		;
	return most < 0x7f800000;
}

static void strip_task(struct work *w, const struct task *t, float *rows, uint8_t *out)
{
	const struct plan *p = w->plan;
	const struct matrix *m = &p->matrix[t->matrix];
	uint32_t cols = ROUND_UP(m->cols, FLM_STRIP), first, have;
	uint64_t to = section_offset(p, FLM_SECTION_WEIGHTS, t->core) + m->data[t->core];
	char full[80];

	have = core_rows(p, m->split, t->core, &first);
	to += t->layer * p->layer_bytes[t->core] + (uint64_t)t->first * m->strip_bytes;
	weight_name(p, t->matrix, t->layer, full);
	for (uint32_t s = 0; s < t->count; s++) {
		uint32_t row = (t->first + s) * FLM_STRIP, n = MIN(have - row, FLM_STRIP);
		bool is_fine;

		read_rows(p, full, first + row, n, rows);
		quant_rotate(rows, n, m->cols, p->rotate[m->rotate]);
		is_fine = note_greatest(w, tensor_number(p, t->matrix, t->layer), rows,
					(size_t)n * m->cols);
		/* Columns up to 16 are zero. The last row first: rows move towards the end. */
		for (uint32_t r = n; cols != m->cols && r--;) {
			memmove(rows + (size_t)r * cols, rows + (size_t)r * m->cols, 4 * m->cols);
			memset(rows + (size_t)r * cols + m->cols, 0, 4 * (cols - m->cols));
		}
		memset(rows + (size_t)n * cols, 0, 4 * (size_t)(FLM_STRIP - n) * cols);
		if (!is_fine ||
		    !quant_strip(rows, cols, p->options->width, out + (size_t)s * m->strip_bytes))
			die("%s: a weight of rows %u to %u is too large for a float16 scale: the model is broken, fetch it again",
			    full, first + row, first + row + n - 1);
	}
	write_at(w, to, out, (size_t)t->count * m->strip_bytes);
	atomic_fetch_add(&w->done, (uint64_t)t->count * FLM_STRIP * m->cols);
}

static void embedding_task(struct work *w, const struct task *t, float *rows, uint8_t *out)
{
	const struct plan *p = w->plan;
	uint32_t cols = p->config->hidden, scale_bytes = 2 * p->embed_groups;
	uint64_t base = section_offset(p, FLM_SECTION_SHARED, FLM_CORE_ALL);
	uint8_t *scales = out + (size_t)t->count * cols;

	read_rows(p, "model.embed_tokens.weight", t->first, t->count, rows);
	note_greatest(w, tensor_number(p, MATRICES, 0), rows, (size_t)t->count * cols);
	for (uint32_t r = 0; r < t->count; r++)
		if (!quant_row(rows + (size_t)r * cols, cols, (int8_t *)out + (size_t)r * cols,
			       scales + (size_t)r * scale_bytes))
			die("model.embed_tokens.weight: row %u is too large for a float16 scale: the model is broken, fetch it again",
			    t->first + r);
	write_at(w, base + p->embed + (uint64_t)t->first * cols, out, (size_t)t->count * cols);
	write_at(w, base + p->embed_scales + (uint64_t)t->first * scale_bytes, scales,
		 (size_t)t->count * scale_bytes);
	atomic_fetch_add(&w->done, (uint64_t)t->count * cols);
}

static void *worker(void *argument)
{
	struct work *w = argument;
	const struct plan *p = w->plan;
	size_t in = (size_t)ROWS_A_TASK * p->config->hidden, out = 0, i;
	uint8_t *bytes;
	float *rows;

	for (int m = 0; m < MATRICES; m++) {
		in = MAX(in, (size_t)FLM_STRIP * ROUND_UP(p->matrix[m].cols, FLM_STRIP));
		out = MAX(out, (size_t)STRIPS_A_TASK * p->matrix[m].strip_bytes);
	}
	out = MAX(out, (size_t)ROWS_A_TASK * (p->config->hidden + 2 * p->embed_groups));
	rows = malloc(4 * in);
	bytes = malloc(out);
	if (!rows || !bytes)
		die("out of memory: a thread needs %zu bytes", 4 * in + out);
	while ((i = atomic_fetch_add(&w->next, 1)) < w->count) {
		const struct task *t = &w->tasks[i];

		(t->core == FLM_CORE_ALL ? embedding_task : strip_task)(w, t, rows, bytes);
	}
	free(rows);
	free(bytes);
	return NULL;
}

static void task_add(struct work *w, struct task task)
{
	if (w->count == w->room) {
		size_t room = w->room ? 2 * w->room : 1024;

		w->tasks = realloc(w->tasks, room * sizeof(*w->tasks));
		if (!w->tasks)
			die("out of memory: %zu pieces of work", room);
		w->room = room;
	}
	w->tasks[w->count++] = task;
}

static void list_matrix(struct work *w, uint32_t layer, int matrix)
{
	const struct plan *p = w->plan;
	const struct matrix *m = &p->matrix[matrix];

	for (unsigned int core = 0; core < p->card->cores; core++) {
		uint32_t first, strips = DIV_UP(core_rows(p, m->split, core, &first), FLM_STRIP);

		w->all += (uint64_t)strips * FLM_STRIP * m->cols;
		for (uint32_t s = 0; s < strips; s += STRIPS_A_TASK)
			task_add(w, (struct task) {
				.core = core, .layer = layer, .matrix = matrix, .first = s,
				.count = MIN(STRIPS_A_TASK, strips - s) });
	}
}

static void list_tasks(struct work *w)
{
	const struct checkpoint_config *c = w->plan->config;

	for (uint32_t row = 0; row < c->vocab; row += ROWS_A_TASK)
		task_add(w, (struct task) {
			.core = FLM_CORE_ALL, .first = row,
			.count = MIN(ROWS_A_TASK, c->vocab - row) });
	w->all = (uint64_t)c->vocab * c->hidden;
	for (uint32_t layer = 0; layer < c->layers; layer++)
		for (int m = 0; m < M_HEAD; m++)
			list_matrix(w, layer, m);
	list_matrix(w, 0, M_HEAD);
}

static double now(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + 1e-9 * t.tv_nsec;
}

static void *show_progress(void *argument)
{
	struct work *w = argument;
	double start = now();

	while (!atomic_load(&w->is_over)) {
		double part = (double)atomic_load(&w->done) / w->all, passed = now() - start;
		int bar = 40 * part;

		fprintf(stderr, "\r%s [%.*s%*s] %3.0f %%", w->path, bar,
			"########################################", 40 - bar, "", 100 * part);
		if (passed > 1 && part > 0)
			fprintf(stderr, ", %.0f s left  ", passed / part - passed);
		usleep(100000);
	}
	fprintf(stderr, "\r\033[K");
	return NULL;
}

static void run_tasks(struct work *w)
{
	const struct options *o = w->plan->options;
	bool has_bar = !o->quiet && isatty(STDERR_FILENO);
	pthread_t *threads = arena(o->threads * sizeof(*threads)), bar;

	if (has_bar && pthread_create(&bar, NULL, show_progress, w))
		has_bar = false;
	for (unsigned int i = 0; i < o->threads; i++)
		if (pthread_create(&threads[i], NULL, worker, w))
			die("cannot start %u threads: use --threads with less", o->threads);
	for (unsigned int i = 0; i < o->threads; i++)
		pthread_join(threads[i], NULL);
	atomic_store(&w->is_over, true);
	if (has_bar)
		pthread_join(bar, NULL);
}

/* Up to half of the least float16 all codes are zero: another model than the one asked for. */
static void check_small(const struct work *w, unsigned int matrix, unsigned int layer)
{
	uint32_t bits = atomic_load(&w->greatest[tensor_number(w->plan, matrix, layer)]);
	char full[80];
	float most;

	memcpy(&most, &bits, 4);
	if (most == 0 || most > 0x1p-25f)
		return;
	weight_name(w->plan, matrix, layer, full);
	die("%s: its greatest weight is %g, too small for a float16 scale: the model is broken, fetch it again",
	    full, most);
}

static void check_weights(const struct work *w)
{
	for (uint32_t layer = 0; layer < w->plan->config->layers; layer++)
		for (int m = 0; m < M_HEAD; m++)
			check_small(w, m, layer);
	check_small(w, M_HEAD, 0);
	check_small(w, MATRICES, 0);
}

static void write_tables(struct work *w, unsigned int core)
{
	const struct plan *p = w->plan;
	uint64_t base = section_offset(p, FLM_SECTION_WEIGHTS, core);
	uint32_t layers = p->config->layers;

	for (int i = 0; i < MATRICES; i++) {
		const struct matrix *m = &p->matrix[i];
		uint32_t cols = ROUND_UP(m->cols, FLM_STRIP), first;
		uint32_t strips = DIV_UP(core_rows(p, m->split, core, &first), FLM_STRIP);
		size_t bytes = (size_t)strips * m->tiles * sizeof(struct flm_strip);
		struct flm_strip *rows = calloc(1, bytes ? bytes : 1);

		if (!rows)
			die("out of memory: a strip table of %zu bytes", bytes);
		for (uint32_t layer = 0; layer < (i == M_HEAD ? 1 : layers); layer++) {
			uint64_t at = m->data[core] + layer * p->layer_bytes[core];
			uint64_t table = m->table + (uint64_t)layer * p->layer_tables;
			struct flm_strip *row = rows;

			for (uint32_t s = 0; s < strips; s++) {
				for (uint32_t k = 0; k < m->tiles; k++, row++) {
					uint32_t n = MIN(cols - k * FLM_TILE_COLS, FLM_TILE_COLS);
					uint32_t codes = tile_codes_bytes(p->options->width, n);

					row->width = p->options->width;
					put_le16((uint8_t *)&row->blocks, n / FLM_STRIP);
					put_le32((uint8_t *)&row->codes, at / 64);
					put_le32((uint8_t *)&row->scales, (at + codes) / 64);
					at += codes + tile_scales_bytes(n);
				}
			}
			write_at(w, base + table, rows, bytes);
		}
		free(rows);
	}
}

static void write_biases(struct work *w)
{
	const struct plan *p = w->plan;
	uint64_t base = section_offset(p, FLM_SECTION_SHARED, FLM_CORE_ALL) + p->biases;
	char name[64], full[80];

	for (uint32_t layer = 0; layer < p->config->layers; layer++, base += p->layer_biases) {
		for (int i = 0; i < M_HEAD; i++) {
			const struct matrix *m = &p->matrix[i];
			float *row;

			if (!m->has_bias)
				continue;
			row = malloc(4 * (size_t)m->rows);
			if (!row)
				die("out of memory: a bias of %u rows", m->rows);
			write_tensor_name(p, i, layer, name);
			snprintf(full, sizeof(full), "%s.bias", name);
			read_rows(p, full, 0, 1, row);
			write_at(w, base + m->bias, row, 4 * (size_t)m->rows);
			free(row);
		}
	}
}

static void write_vectors(struct work *w)
{
	const struct plan *p = w->plan;
	const struct checkpoint_config *c = p->config;
	uint64_t base = section_offset(p, FLM_SECTION_SHARED, FLM_CORE_ALL), at = p->norms;
	size_t bytes = 4 * (size_t)MAX(c->hidden, c->head_dim);
	float *row = arena(bytes);
	char name[80];

	for (uint32_t i = 0; i < 2 * c->layers + 1; i++) {
		if (i == 2 * c->layers)
			snprintf(name, sizeof(name), "model.norm.weight");
		else
			snprintf(name, sizeof(name), "model.layers.%u.%s.weight", i / 2,
				 i % 2 ? "post_attention_layernorm" : "input_layernorm");
		read_rows(p, name, 0, 1, row);
		write_at(w, base + at, row, 4 * (size_t)c->hidden);
		at += 4ull * c->hidden;
	}
	write_biases(w);
	for (uint32_t position = 0; position < p->context; position++) {
		uint32_t half = c->head_dim / 2;

		for (uint32_t i = 0; i < half; i++) {
			double angle = position * pow(c->rope_theta, -2.0 * i / c->head_dim);

			row[i] = cos(angle);
			row[half + i] = sin(angle);
		}
		write_at(w, base + p->rope + 4ull * position * c->head_dim, row, 4 * c->head_dim);
	}
}

static uint32_t crc_of_section(struct work *w, const struct section_plan *s, uint8_t *buffer,
			       size_t room)
{
	uint32_t crc = 0;

	for (uint64_t at = 0; at < s->bytes;) {
		size_t n = MIN(room, s->bytes - at);
		ssize_t got = pread(w->fd, buffer, n, s->offset + at);

		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			die("%s: cannot read back: %s: choose another folder", w->path,
			    got ? strerror(errno) : "it shrank");
		crc = flm_crc32c(crc, buffer, got);
		at += got;
	}
	return crc;
}

static void write_header(struct work *w)
{
	const struct plan *p = w->plan;
	size_t rows = p->section_count * sizeof(struct flm_section), room = 1 << 20;
	struct flm_section *table = arena(rows);
	struct flm_file head = { 0 };
	uint8_t *buffer = arena(room);
	uint32_t crc;

	for (unsigned int i = 0; i < p->section_count; i++) {
		const struct section_plan *s = &p->sections[i];

		put_le32((uint8_t *)&table[i].kind, s->kind);
		put_le32((uint8_t *)&table[i].core, s->core);
		put_le64((uint8_t *)&table[i].offset, s->offset);
		put_le64((uint8_t *)&table[i].bytes, s->bytes);
		put_le64((uint8_t *)&table[i].memory_bytes, s->memory_bytes);
		put_le32((uint8_t *)&table[i].segment, s->segment);
		put_le32((uint8_t *)&table[i].place, s->place);
		put_le32((uint8_t *)&table[i].rights, s->rights);
		put_le32((uint8_t *)&table[i].crc32c, crc_of_section(w, s, buffer, room));
	}
	memcpy(head.magic, FLM_FILE_MAGIC, sizeof(head.magic));
	put_le16((uint8_t *)&head.major, FLM_FILE_MAJOR);
	put_le16((uint8_t *)&head.minor, FLM_FILE_MINOR);
	put_le16((uint8_t *)&head.isa_major, FLM_ISA_MAJOR);
	put_le16((uint8_t *)&head.isa_minor, FLM_ISA_MINOR);
	snprintf((char *)head.card, sizeof(head.card), "%s", p->card->name);
	put_le32((uint8_t *)&head.cores, p->card->cores);
	put_le32((uint8_t *)&head.sections, p->section_count);
	put_le64((uint8_t *)&head.bytes, p->file_bytes);
	crc = flm_crc32c(0, &head, sizeof(head));
	put_le32((uint8_t *)&head.crc32c, flm_crc32c(crc, table, rows));
	write_at(w, 0, &head, sizeof(head));
	write_at(w, sizeof(head), table, rows);
}

/* Contents of the small sections, in the order of struct plan's sections. */
static void write_small(struct work *w, struct blob *blobs)
{
	for (unsigned int i = 0; i < w->plan->section_count; i++)
		if (blobs[i].bytes)
			write_at(w, w->plan->sections[i].offset, blobs[i].data, blobs[i].bytes);
}

/* All of the room at once, where the file system can: a full disk is noticed before the work. */
static void reserve(struct work *w)
{
	uint64_t bytes = w->plan->file_bytes;
	char text[32];

	if (!fallocate(w->fd, 0, 0, bytes))
		return;
	if ((errno == EOPNOTSUPP || errno == ENOSYS) && !ftruncate(w->fd, bytes))
		return;
	die("%s: no room for %s: %s: make room, or choose another folder", w->path,
	    bytes_text(bytes, text), strerror(errno));
}

void write_run(struct plan *p)
{
	struct work w = { .plan = p, .path = p->options->out };
	struct blob blobs[SECTIONS_MAX] = { 0 };
	struct output output;

	write_layout(p, blobs);
	output_open(&output, w.path);
	w.fd = output.fd;
	reserve(&w);
	list_tasks(&w);
	w.greatest = arena((tensor_number(p, MATRICES, 0) + 1) * sizeof(*w.greatest));
	run_tasks(&w);
	check_weights(&w);
	for (unsigned int core = 0; core < p->card->cores; core++)
		write_tables(&w, core);
	write_vectors(&w);
	write_small(&w, blobs);
	write_header(&w);
	output_commit(&output);
	free(w.tasks);
}
