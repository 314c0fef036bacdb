// SPDX-License-Identifier: MIT
/*
 * Passes: the cores of a job together, and the threads that run them. A core runs until it stands
 * (unit.c) and never blocks a host thread, so any number of threads serves any number of cores.
 * When no core of a job runs, what they wait for is decided at one place: an exchange, the end, or
 * a deadlock.
 */
#include "emulator/core/exec.h"

#include <endian.h>
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "emulator/core/core.h"
#include "emulator/core/math.h"

#define SPINS 2000		/* looks at the change counter before a thread sleeps */
#define TOP_MAX 64

/* A pass under way. */
struct run {
	struct run *next;
	const struct exec_pass *pass;
	struct core *cores[EXEC_CORES_MAX];	/* of the job, ascending */
	enum core_state states[EXEC_CORES_MAX];
	unsigned int count, ready, running;
	bool is_over;
};

struct exec {
	struct exec_chip chip;
	struct core *cores[EXEC_CORES_MAX];

	pthread_mutex_t lock;	/* runs, their states and counts, is_stopping */
	pthread_cond_t changed;
	atomic_uint changes;	/* counts what `changed` announces, for those who spin */
	struct run *runs;
	bool is_stopping;
	unsigned int thread_count;
	pthread_t threads[];
};

/* ---- The job's cores together ---- */

static void run_fault(struct run *run, unsigned int i, unsigned int u, enum flm_fault kind)
{
	core_fault_at(run->cores[i], u, kind);
	run->states[i] = CORE_FAULTY;
}

/* Cores that have sampled must have had the same candidates. False: they had. */
static bool check_choices(struct run *run)
{
	const struct choice *first = NULL, *own;
	unsigned int i;

	for (i = 0; i < run->count; i++) {
		own = &run->cores[i]->choice;
		if (!own->is_made)
			continue;
		if (!first)
			first = own;
		if (own->count == first->count && !memcmp(own->candidates, first->candidates,
							   own->count * sizeof(own->candidates[0])))
			continue;
		run_fault(run, i, FLM_UNIT_MISC, FLM_FAULT_EXCHANGE);
		run->cores[i]->fault.word = own->word;
		return true;
	}
	return false;
}

/* All cores have ended: nothing may be left, and a token must have been sampled if it should. */
static void check_end(struct run *run)
{
	unsigned int i, from, to;

	for (i = 0; i < run->count; i++)
		for (from = 0; from < FLM_UNITS; from++)
			for (to = 0; to < FLM_UNITS; to++)
				if (run->cores[i]->tokens[from][to]) {
					run_fault(run, i, from, FLM_FAULT_TOKEN);
					return;
				}
	for (i = 0; i < run->count && run->pass->lengths[FLM_LENGTH_SAMPLE] == 1; i++) {
		if (!run->cores[i]->choice.is_made) {
			run_fault(run, i, FLM_UNIT_MISC, FLM_FAULT_SAMPLE);
			return;
		}
	}
}

static unsigned int count_state(const struct run *run, enum core_state state)
{
	unsigned int i, n = 0;

	for (i = 0; i < run->count; i++)
		n += run->states[i] == state;
	return n;
}

/*
 * Some core waits at an exchange: the first one that will never come to the same place, because it
 * is at another or has ended, is at fault. False: none.
 */
static bool check_meeting(struct run *run)
{
	const struct core *first = NULL;
	unsigned int i;

	for (i = 0; i < run->count && !first; i++)
		if (run->states[i] == CORE_MEETING)
			first = run->cores[i];
	for (i = 0; i < run->count && first; i++) {
		const struct unit *sys = &run->cores[i]->units[FLM_UNIT_SYS];

		if (sys->phase == UNIT_ENDED || (run->states[i] == CORE_MEETING &&
						 !exchange_is_same(first, run->cores[i]))) {
			run_fault(run, i, FLM_UNIT_SYS, FLM_FAULT_EXCHANGE);
			return true;
		}
	}
	return false;
}

/* No core can go on: the lowest unit that has not ended is named. False: all have ended. */
static bool check_deadlock(struct run *run)
{
	unsigned int i, u;

	for (i = 0; i < run->count; i++) {
		for (u = 0; u < FLM_UNITS; u++) {
			if (run->cores[i]->units[u].phase != UNIT_ENDED) {
				run_fault(run, i, u, FLM_FAULT_DEADLOCK);
				return true;
			}
		}
	}
	return false;
}

/* All cores of the run stand. Lets them go on after an exchange, or the run is over. */
static void settle(struct run *run)
{
	struct core *faulty;
	unsigned int i;

	if (count_state(run, CORE_FAULTY) || check_choices(run) || check_meeting(run))
		return;
	if (count_state(run, CORE_MEETING) == run->count) {
		faulty = exchange_run(run->cores, run->count);
		for (i = 0; i < run->count; i++) {
			struct unit *sys = &run->cores[i]->units[FLM_UNIT_SYS];

			run->states[i] = run->cores[i] == faulty ? CORE_FAULTY : CORE_READY;
			if (run->cores[i] == faulty) {
				faulty->fault.unit = FLM_UNIT_SYS;
				faulty->fault.word = sys->at;
			}
			sys->phase = UNIT_RELEASE;
		}
		return;
	}
	if (!check_deadlock(run))
		check_end(run);
}

static void announce(struct exec *exec)
{
	atomic_fetch_add(&exec->changes, 1);
	pthread_cond_broadcast(&exec->changed);
}

/* Runs a ready core of `run` until it stands. With the lock held, which it gives up meanwhile. */
static void serve(struct exec *exec, struct run *run)
{
	enum core_state state;
	unsigned int i = 0;

	while (run->states[i] != CORE_READY)
		i++;
	run->states[i] = CORE_RUNNING;
	run->ready--;
	run->running++;
	pthread_mutex_unlock(&exec->lock);
	state = core_run(run->cores[i]);
	pthread_mutex_lock(&exec->lock);
	run->states[i] = state;
	if (run->ready || run->running > 1) {
		run->running--;
		return;
	}
	/* This was the last one: nobody else touches the run until it is settled. */
	pthread_mutex_unlock(&exec->lock);
	settle(run);
	pthread_mutex_lock(&exec->lock);
	run->running--;
	if (!count_state(run, CORE_FAULTY))
		run->ready = count_state(run, CORE_READY);
	run->is_over = !run->ready;
	announce(exec);
}

static void relax(void)
{
#ifdef __x86_64__
	__builtin_ia32_pause();
#endif
}

/* With the lock held: waits for announce(), a little while awake, then asleep. */
static void wait_for_change(struct exec *exec)
{
	unsigned int seen = atomic_load(&exec->changes), i;

	pthread_mutex_unlock(&exec->lock);
	for (i = 0; i < SPINS && atomic_load_explicit(&exec->changes, memory_order_relaxed) == seen;
	     i++)
		relax();
	pthread_mutex_lock(&exec->lock);
	if (atomic_load(&exec->changes) == seen)
		pthread_cond_wait(&exec->changed, &exec->lock);
}

static void *help(void *argument)
{
	struct exec *exec = argument;
	struct run *run;

	pthread_mutex_lock(&exec->lock);
	while (!exec->is_stopping) {
		for (run = exec->runs; run && !run->ready; run = run->next)
			;
		if (run)
			serve(exec, run);
		else
			wait_for_change(exec);
	}
	pthread_mutex_unlock(&exec->lock);
	return NULL;
}

/* ---- What the device calls ---- */

static void choose_token(const struct run *run, struct exec_result *result)
{
	const struct choice *choice = &run->cores[0]->choice;
	const struct exec_pass *pass = run->pass;
	const struct math_sampler sampler = {
		.temperature = pass->sampler.temperature, .top_p = pass->sampler.top_p,
		.min_p = pass->sampler.min_p, .top_k = pass->sampler.top_k,
		.seed = pass->sampler.seed,
	};
	float logits[FLM_TOPK_MAX];
	uint32_t i, chosen;

	if (!choice->is_made)
		return;
	result->sampled = 1;
	result->top_count = choice->count < TOP_MAX ? choice->count : TOP_MAX;
	memcpy(result->top, choice->candidates, result->top_count * sizeof(result->top[0]));
	if (!choice->count)
		return;
	for (i = 0; i < choice->count; i++)
		logits[i] = math_float(le32toh(choice->candidates[i].logit));
	chosen = math_choose(logits, choice->count, &sampler,
			     pass->lengths[FLM_LENGTH_POS] + pass->lengths[FLM_LENGTH_TOKENS]);
	result->token = le32toh(choice->candidates[chosen].id);
}

void exec_work_so_far(const struct exec *exec, uint32_t cores, struct exec_work *work)
{
	unsigned int i;

	memset(work, 0, sizeof(*work));
	for (i = 0; i < exec->chip.cores; i++) {
		const struct core *core = exec->cores[i];

		if (!(cores >> i & 1))
			continue;
		work->mm_macs += __atomic_load_n(&core->mm_macs, __ATOMIC_RELAXED);
		work->mv_macs += __atomic_load_n(&core->mv_macs, __ATOMIC_RELAXED);
		work->bytes_read += __atomic_load_n(&core->bytes_read, __ATOMIC_RELAXED);
		work->bytes_written += __atomic_load_n(&core->bytes_written, __ATOMIC_RELAXED);
		work->steps += __atomic_load_n(&core->steps, __ATOMIC_RELAXED);
	}
}

void exec_forget_work(struct exec *exec, uint32_t cores)
{
	unsigned int i;

	for (i = 0; i < exec->chip.cores; i++)
		if (cores >> i & 1)
			core_forget_work(exec->cores[i]);
}

static int report(const struct exec *exec, const struct run *run, struct exec_result *result)
{
	unsigned int i, n;

	for (i = 0; i < run->count; i++) {
		const struct core *core = run->cores[i];

		for (n = 0; n < FLM_INSNS; n++)
			result->by_insn[n] += core->by_insn[n];
		result->instructions += core->instructions;
		result->core_instructions[core->index] = core->instructions;
		memcpy(result->by_unit[core->index], core->by_unit, sizeof(core->by_unit));
		result->aborted |= core->is_aborted;
	}
	exec_work_so_far(exec, run->pass->cores, &result->work);
	if (result->aborted)
		return -1;
	for (i = 0; i < run->count; i++) {
		if (run->states[i] == CORE_FAULTY) {
			result->fault = run->cores[i]->fault;
			result->fault.core = run->cores[i]->index;
			return -1;
		}
	}
	choose_token(run, result);
	return 0;
}

/* Sources of terms must fit, or decoding could overflow. */
static bool registers_fit(const struct exec *exec, const struct exec_pass *pass)
{
	uint64_t id_bytes = (uint64_t)pass->lengths[FLM_LENGTH_TOKENS] * sizeof(uint32_t);
	unsigned int i, r;

	for (i = 0; i < FLM_LENGTHS; i++)
		if (pass->lengths[i] > FLM_VALUE_MAX)
			return false;
	for (i = 0; i < exec->chip.cores; i++)
		for (r = 0; r < FLM_CORE_REGISTERS; r++)
			if (pass->cores >> i & 1 && pass->registers[i][r] > FLM_VALUE_MAX)
				return false;
	return pass->lengths[FLM_LENGTH_TOKENS] <= FLM_CHUNK_MAX &&
	       id_bytes <= exec->chip.buffer_bytes[FLM_BUFFER_IDX];
}

int exec_pass(struct exec *exec, const struct exec_pass *pass, struct exec_result *result)
{
	struct run run = { .pass = pass }, **link;
	unsigned int i;

	memset(result, 0, sizeof(*result));
	if (!registers_fit(exec, pass)) {
		result->fault = (struct fault) { .kind = FLM_FAULT_BOUND, .core = FLM_NOWHERE,
						 .unit = FLM_NOWHERE };
		return -1;
	}
	for (i = 0; i < exec->chip.cores; i++) {
		if (pass->cores >> i & 1) {
			core_start(exec->cores[i], pass);
			run.cores[run.count++] = exec->cores[i];
		}
	}
	run.ready = run.count;
	run.is_over = !run.count;
	pthread_mutex_lock(&exec->lock);
	run.next = exec->runs;
	exec->runs = &run;
	if (run.count > 1)
		announce(exec);
	while (!run.is_over) {
		if (run.ready)
			serve(exec, &run);
		else
			wait_for_change(exec);
	}
	for (link = &exec->runs; *link != &run; link = &(*link)->next)
		;
	*link = run.next;
	pthread_mutex_unlock(&exec->lock);
	return report(exec, &run, result);
}

void exec_clear(struct exec *exec, uint32_t cores)
{
	unsigned int i, b;

	for (i = 0; i < exec->chip.cores; i++) {
		struct core *core = exec->cores[i];

		for (b = 0; b < FLM_BUFFERS && cores >> i & 1; b++) {
			if (core->dirty_from[b] < core->dirty_to[b])
				memset(core->buffers[b] + core->dirty_from[b], 0,
				       core->dirty_to[b] - core->dirty_from[b]);
			core->dirty_from[b] = UINT32_MAX;
			core->dirty_to[b] = 0;
		}
	}
}

uint8_t *exec_buffer(struct exec *exec, unsigned int core, unsigned int buffer)
{
	return exec->cores[core]->buffers[buffer];
}

static void core_free(struct core *core)
{
	unsigned int i;

	if (!core)
		return;
	for (i = 0; i < FLM_BUFFERS; i++)
		free(core->buffers[i]);
	if (core->scratch) {
		for (i = 0; i < sizeof(core->scratch->rows) / sizeof(core->scratch->rows[0]); i++)
			free(core->scratch->rows[i]);
		free(core->scratch->bytes);
	}
	free(core->scratch);
	free(core);
}

static struct core *core_new(const struct exec_chip *chip, unsigned int index)
{
	struct core *core = calloc(1, sizeof(*core));
	const struct dot *next;
	size_t largest = 0;
	bool is_complete;
	unsigned int i;

	if (!core)
		return NULL;
	core->index = index;
	for (i = 0; (next = dot_get(i)); i++)
		core->dot = next;
	core->scratch = calloc(1, sizeof(*core->scratch));
	is_complete = core->scratch;
	for (i = 0; i < FLM_BUFFERS; i++) {
		/* calloc'ed memory costs nothing before it is touched. */
		core->buffers[i] = calloc(1, (size_t)chip->buffer_bytes[i] + 1);
		core->buffer_bytes[i] = chip->buffer_bytes[i];
		core->dirty_from[i] = UINT32_MAX;
		is_complete = is_complete && core->buffers[i];
		if (chip->buffer_bytes[i] > largest)
			largest = chip->buffer_bytes[i];
	}
	largest = (largest + 3) / 4 * 4 + 64 * sizeof(float);
	for (i = 0; is_complete && i < sizeof(core->scratch->rows) / sizeof(core->scratch->rows[0]);
	     i++) {
		core->scratch->rows[i] = calloc(1, largest);
		is_complete = core->scratch->rows[i];
	}
	if (is_complete)
		core->scratch->bytes = calloc(1, largest);
	if (!is_complete || !core->scratch->bytes) {
		core_free(core);
		return NULL;
	}
	return core;
}

int exec_new(const struct exec_chip *chip, unsigned int threads, struct exec **out)
{
	/* The caller of exec_pass() is one of the threads. */
	unsigned int helpers = threads ? threads - 1 : 0, i;
	struct exec *exec;

	if (chip->cores > EXEC_CORES_MAX)
		return -EINVAL;
	exec = calloc(1, sizeof(*exec) + helpers * sizeof(exec->threads[0]));
	if (!exec)
		return -ENOMEM;
	decode_init();
	exec->chip = *chip;
	pthread_mutex_init(&exec->lock, NULL);
	pthread_cond_init(&exec->changed, NULL);
	for (i = 0; i < chip->cores; i++) {
		exec->cores[i] = core_new(chip, i);
		if (!exec->cores[i])
			goto out_free;
	}
	for (i = 0; i < helpers; i++) {
		if (pthread_create(&exec->threads[i], NULL, help, exec))
			goto out_free;
		exec->thread_count++;
	}
	*out = exec;
	return 0;

out_free:
	exec_free(exec);
	return -ENOMEM;
}

void exec_free(struct exec *exec)
{
	unsigned int i;

	if (!exec)
		return;
	pthread_mutex_lock(&exec->lock);
	exec->is_stopping = true;
	announce(exec);
	pthread_mutex_unlock(&exec->lock);
	for (i = 0; i < exec->thread_count; i++)
		pthread_join(exec->threads[i], NULL);
	for (i = 0; i < EXEC_CORES_MAX; i++)
		core_free(exec->cores[i]);
	pthread_cond_destroy(&exec->changed);
	pthread_mutex_destroy(&exec->lock);
	free(exec);
}
