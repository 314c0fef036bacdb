// SPDX-License-Identifier: MIT
/*
 * The weights: threads take strips of 16 rows, read them as float32, rotate and quantise them, and
 * write each where it belongs, with the rows of the strip table that name it. No more of the model
 * is ever in memory than a strip a thread.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "compiler/write.h"

#define STRIPS_A_TASK	4
#define ROWS_A_TASK	64	/* of the embedding */

/* Some strips of one core's matrix, or (core FLM_CORE_ALL) rows of the embedding. */
struct task {
	unsigned int core, layer, matrix;
	uint32_t first, count;
};

struct work {
	const struct plan *plan;
	const struct output *output;
	struct task *tasks;
	size_t count, room;
	atomic_size_t next;
	atomic_ullong done;		/* elements */
	uint64_t all;
	atomic_bool is_over;
	atomic_uint *greatest;		/* of each tensor, as quant_greatest() has it */
};

/* Tensors by number: those of each layer, the head, the embedding. */
static size_t tensor_number(const struct plan *p, unsigned int matrix, unsigned int layer)
{
	return matrix < M_HEAD ? layer * M_HEAD + matrix :
	       (size_t)p->config->layers * M_HEAD + matrix - M_HEAD;
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

/* The rows of the strip table that name these strips: the first lies at byte `at` of WEIGHTS. */
static void table_rows(struct work *w, const struct task *t, uint64_t section, uint64_t at,
		       struct flm_strip *rows)
{
	const struct plan *p = w->plan;
	const struct matrix *m = &p->matrix[t->matrix];
	size_t bytes = (size_t)m->tiles * sizeof(*rows);
	uint64_t table = m->table + (uint64_t)t->layer * p->layer_tables + t->first * bytes;

	memset(rows, 0, t->count * bytes);
	for (uint32_t s = 0; s < t->count; s++)
		at = strip_rows(p->options->width, m->cols, at, rows + (size_t)s * m->tiles);
	output_write(w->output, section + table, rows, t->count * bytes);
}

static void strip_task(struct work *w, const struct task *t, float *rows, uint8_t *out)
{
	const struct plan *p = w->plan;
	const struct matrix *m = &p->matrix[t->matrix];
	uint32_t cols = ROUND_UP(m->cols, FLM_STRIP), first, have;
	uint64_t section = layout_section(p, FLM_SECTION_WEIGHTS, t->core), at = m->data[t->core];
	char full[80];

	have = core_rows(p, m->split, t->core, &first);
	at += t->layer * p->layer_bytes[t->core] + (uint64_t)t->first * m->strip_bytes;
	tensor_weight_name(p, t->matrix, t->layer, full);
	for (uint32_t s = 0; s < t->count; s++) {
		uint32_t row = (t->first + s) * FLM_STRIP, n = MIN(have - row, FLM_STRIP);
		bool is_fine;

		tensor_read(p, full, first + row, n, rows);
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
			die("%s: a weight of rows %u to %u is too large for a float16 scale, the model is broken; fetch it again",
			    full, first + row, first + row + n - 1);
	}
	output_write(w->output, section + at, out, (size_t)t->count * m->strip_bytes);
	table_rows(w, t, section, at, (struct flm_strip *)out);	/* no larger than the strips */
	atomic_fetch_add(&w->done, (uint64_t)t->count * FLM_STRIP * m->cols);
}

static void embedding_task(struct work *w, const struct task *t, float *rows, uint8_t *out)
{
	const struct plan *p = w->plan;
	uint32_t cols = p->config->hidden, scale_bytes = 2 * p->embed_groups;
	uint64_t base = layout_section(p, FLM_SECTION_SHARED, FLM_CORE_ALL);
	uint8_t *scales = out + (size_t)t->count * cols;

	tensor_read(p, "model.embed_tokens.weight", t->first, t->count, rows);
	note_greatest(w, tensor_number(p, MATRICES, 0), rows, (size_t)t->count * cols);
	for (uint32_t r = 0; r < t->count; r++)
		if (!quant_row(rows + (size_t)r * cols, cols, (int8_t *)out + (size_t)r * cols,
			       scales + (size_t)r * scale_bytes))
			die("model.embed_tokens.weight: row %u is too large for a float16 scale, the model is broken; fetch it again",
			    t->first + r);
	output_write(w->output, base + p->embed + (uint64_t)t->first * cols, out,
		     (size_t)t->count * cols);
	output_write(w->output, base + p->embed_scales + (uint64_t)t->first * scale_bytes, scales,
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

		fprintf(stderr, "\r%s [%.*s%*s] %3.0f %%", w->output->path, bar,
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
			die("%u threads: they cannot be started; use --threads with less",
			    o->threads);
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
	tensor_weight_name(w->plan, matrix, layer, full);
	die("%s: its greatest weight is %g, too small for a float16 scale, the model is broken; fetch it again",
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

void weights_write(const struct plan *p, const struct output *output)
{
	struct work w = { .plan = p, .output = output };

	list_tasks(&w);
	w.greatest = arena((tensor_number(p, MATRICES, 0) + 1) * sizeof(*w.greatest));
	run_tasks(&w);
	check_weights(&w);
	free(w.tasks);
}
