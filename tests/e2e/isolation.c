// SPDX-License-Identifier: MIT
/*
 * Two clients of one card, one of them hostile. The good one writes its story of 200 tokens again
 * and again, in many short jobs, each token and each logit compared with the reference. The other
 * gives the same cores programs that break every rule, by a seed, and reads the record of each
 * fault from the driver. Between the good one's jobs a spy looks at all that ST reaches of the
 * activation buffers, and must find zeros.
 *
 * The clients are processes; what they did they count in shared memory, and their parent says
 * what should have come of it. SEED sets the attempts, ROUNDS how often each kind is tried.
 */
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tests/e2e/hostile.h"
#include "tests/e2e/story.h"
#include "tests/tap.h"

#define SECRET		0x5ec2e75a	/* no byte of it is zero */
#define PATIENCE_MS	60000		/* for the other client, who needs a second or less */

/* Written by the clients with atomic operations, or before and after they run together. */
struct shared {
	unsigned int ready;		/* the good client has its reference */
	unsigned int go;		/* the hostile one begins: so may the good one */
	unsigned int done;		/* the hostile one has ended */
	unsigned int jobs;		/* of the good client, so far */
	unsigned int stories, exact;
	unsigned int tried[HOSTILE_KINDS], good[HOSTILE_KINDS];
	unsigned int faults;		/* jobs that ended so */
	unsigned int mutants[8];	/* attempts of them by the status of their end */
	unsigned int between;		/* attempts and spies right behind a job of the other */
	unsigned int slowest_ms;
	unsigned int dirty, chip;	/* bytes that a spy of the own context finds, of all */
	unsigned int spies, silent;	/* spies that found zeros alone */
};

static struct shared *shared;

static unsigned int look(unsigned int *at)
{
	return __atomic_load_n(at, __ATOMIC_ACQUIRE);
}

static void count(unsigned int *at)
{
	__atomic_add_fetch(at, 1, __ATOMIC_RELEASE);
}

/* Until *at is at least `value`, or the other client has left. */
static void await(unsigned int *at, unsigned int value)
{
	int64_t end = in_ms(PATIENCE_MS);

	while (look(at) < value && !look(&shared->done) && in_ms(0) < end)
		usleep(500);
}

/* ---- The good client ---- */

/* One story in requests of a few tokens, each one job. */
static bool is_story_exact(struct story *story, struct dice *dice, const uint32_t *want,
			   const float *want_logits, float *logits)
{
	uint32_t got[TOKENS] = { 0 };
	struct flm_request request = {
		.tokens = story->prompt, .count = story->prompt_count, .logits = logits,
		.logit_count = story->rows,
	};
	struct flm_session *session;
	struct flm_result result;
	unsigned int made = 0;
	int ret = flm_session_new(story->model, NULL, &session);

	memset(logits, 0, story->rows * story->info.vocab * sizeof(*logits));
	while (!ret && made < TOKENS) {
		request.out = got + made;
		request.generate = 1 + dice_below(dice, 6);
		if (request.generate > TOKENS - made)
			request.generate = TOKENS - made;
		ret = flm_session_generate(session, &request, &result);
		made += result.tokens;
		request.count = 0;
		count(&shared->jobs);
	}
	if (ret)
		printf("# the good client: %s\n", flm_error());
	flm_session_free(session);
	return !ret && story_same_tokens(got, want) == TOKENS &&
	       story_same_logits(story, logits, want_logits) == story->rows;
}

static int be_good(const char *path, uint64_t seed)
{
	struct ref_model_sampler greedy = { .temperature = 0 };
	struct dice dice = dice_new(seed + 1);
	float *want_logits, *logits;
	uint32_t want[TOKENS];
	struct story story;

	if (!story_open(&story, path, NULL))
		return 1;
	want_logits = calloc(story.rows * story.info.vocab, sizeof(*want_logits));
	logits = calloc(story.rows * story.info.vocab, sizeof(*logits));
	if (!want_logits || !logits)
		return 1;
	story_reference(&story, &greedy, want, want_logits);
	count(&shared->ready);
	await(&shared->go, 1);
	do {
		shared->exact += is_story_exact(&story, &dice, want, want_logits, logits);
		shared->stories++;
	} while (!look(&shared->done));
	story_close(&story);
	free(logits);
	free(want_logits);
	return 0;
}

/* ---- The hostile client ---- */

struct hostile {
	struct seam dev;
	struct dice dice;
	uint64_t seed;
	struct drm_flightllm_query_card card;
	struct job job;			/* SEG_JOB of both contexts */
	uint32_t data;			/* handle of SEG_DATA */
	uint8_t *spoils[FLM_CORES];	/* SEG_SPOILS: each core's own */
	uint32_t spoils_handle[FLM_CORES];
	uint32_t context, queue[1 << FLM_CORES];	/* by mask of cores */
	uint32_t spy_context, spy_queue;
	struct attempt attempt;
	unsigned int attempts, seen;	/* seen: the other's jobs at the end of ours */
};

static void bind_spoils(struct hostile *h, uint32_t context)
{
	for (uint32_t c = 0; c < h->card.cores; c++) {
		struct drm_flightllm_binding row = {
			.segment = SEG_SPOILS, .core = c, .handle = h->spoils_handle[c],
			.length = h->card.buffer_bytes[0], .rights = DRM_FLIGHTLLM_RIGHT_W,
		};

		must(_bind(&h->dev, context, &row, 1), "SEGMENT_BIND");
	}
}

static void hostile_open(struct hostile *h, uint64_t seed)
{
	uint32_t all, small;

	h->seed = seed;
	h->dice = dice_new(seed);
	device_open(&h->dev);
	h->card = query_card(&h->dev);
	all = (1u << h->card.cores) - 1;
	h->context = context_create(&h->dev);
	h->spy_context = context_create(&h->dev);
	h->spy_queue = queue_create(&h->dev, h->spy_context, DRM_FLIGHTLLM_QUEUE_COMPUTE);
	for (uint32_t mask = 1; mask <= all; mask++)
		h->queue[mask] = queue_create_on(&h->dev, h->context, DRM_FLIGHTLLM_QUEUE_COMPUTE,
						 mask, dice_below(&h->dice, 3));
	job_new(&h->dev, &h->job);
	job_bind(&h->dev, h->context, &h->job);
	job_bind(&h->dev, h->spy_context, &h->job);
	h->data = bo_create(&h->dev, DRM_FLIGHTLLM_BO_HOST, 0, DATA_ROOM, 0);
	h->attempt.dice = &h->dice;
	h->attempt.buffers = h->card.buffer_bytes;
	h->attempt.data = bo_memory(&h->dev, h->data, DATA_ROOM);
	small = bo_create(&h->dev, DRM_FLIGHTLLM_BO_HBM, h->card.cores - 1, SMALL_BYTES, 0);
	bind_all(&h->dev, h->context, SEG_READ, small, SMALL_BYTES, DRM_FLIGHTLLM_RIGHT_R);
	small = bo_create(&h->dev, DRM_FLIGHTLLM_BO_DDR, 0, SMALL_BYTES, 0);
	bind_all(&h->dev, h->context, SEG_CODE, small, SMALL_BYTES, DRM_FLIGHTLLM_RIGHT_X);
	small = bo_create(&h->dev, DRM_FLIGHTLLM_BO_HOST, 0, SMALL_BYTES, 0);
	bind_all(&h->dev, h->context, SEG_WRITE, small, SMALL_BYTES, DRM_FLIGHTLLM_RIGHT_W);
	for (uint32_t c = 0; c < h->card.cores; c++) {
		h->spoils_handle[c] = bo_create(&h->dev, DRM_FLIGHTLLM_BO_HOST, 0,
						h->card.buffer_bytes[0], 0);
		h->spoils[c] = bo_memory(&h->dev, h->spoils_handle[c], h->card.buffer_bytes[0]);
	}
	bind_spoils(h, h->context);
	bind_spoils(h, h->spy_context);
}

/* Now and then, or as it is wanted: not before the other client's next job has ended. */
static void wait_for_other(struct hostile *h, bool is_wanted)
{
	if (!is_wanted)
		return;
	await(&shared->jobs, h->seen + 1);
	if (look(&shared->jobs) > h->seen)
		shared->between++;
}

/* The first fault since the last look, and how many. */
static struct drm_flightllm_fault_query take_faults(struct hostile *h)
{
	struct drm_flightllm_fault_query query = {
		.context = h->context, .flags = DRM_FLIGHTLLM_FAULT_CLEAR,
	};

	must(CALL(&h->dev, FAULT_QUERY, &query), "FAULT_QUERY");
	shared->faults += query.count;
	return query;
}

/* A program of all cores that must be DONE, or with `fault` end so. */
static void run_text(struct hostile *h, uint32_t queue, const char *text, uint32_t fault)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait end;
	uint64_t seqno;

	job_write(&h->job, h->card.cores, 1, 0);
	memset(h->job.memory, 0, KEPT_AT);
	program_write(h->job.memory, h->card.cores, text);
	must(_submit(&h->dev, queue, &job, 1, &seqno), "SUBMIT");
	end = wait_end(&h->dev, queue, seqno);
	h->seen = look(&shared->jobs);
	if (end.fault.kind != fault || take_faults(h).fault.kind != fault)
		must(-EIO, "a program of the spy");
}

/* Bytes of all activation buffers that are not zero, as a program of this queue stores them. */
static unsigned int spy(struct hostile *h, uint32_t queue)
{
	uint32_t bytes = h->card.buffer_bytes[0];
	unsigned int found = 0;
	char text[128];

	for (uint32_t c = 0; c < h->card.cores; c++)
		memset(h->spoils[c], 0xff, bytes);
	snprintf(text, sizeof(text), "@st\nst seg=%u src=act:0 rows=1/1 bytes=%u/%u", SEG_SPOILS,
		 bytes, bytes);
	run_text(h, queue, text, 0);
	for (uint32_t c = 0; c < h->card.cores; c++) {
		const uint64_t *words = (void *)h->spoils[c];

		for (uint32_t i = 0; i < bytes / 8; i++)
			for (uint64_t word = words[i]; word; word >>= 8)
				found += (word & 0xff) != 0;
	}
	return found;
}

/* Every byte of the activation buffers is ours; then the job is DONE, or a fault ends it. */
static void fill(struct hostile *h, uint32_t fault)
{
	uint32_t floats = h->card.buffer_bytes[0] / 4;
	char text[256];

	snprintf(text, sizeof(text), "@misc\nmisc.fill out=act:0 rows=1/1 cols=%u/%u imm=%u "
		 "release=ld\n@ld\nld%s wait=misc", floats, floats, SECRET,
		 fault ? " seg=255 dst=act:0 rows=1/1 bytes=4/4" : "");
	run_text(h, h->queue[(1u << h->card.cores) - 1], text, fault);
}

/* What the spy of another context finds: nothing. */
static void expect_silence(struct hostile *h)
{
	unsigned int found = spy(h, h->spy_queue);

	shared->spies++;
	shared->silent += !found;
	if (found)
		printf("# attempt %u: a spy finds %u bytes\n", h->attempts, found);
}

/* Before the other begins: the spy's program does see what is there, in its own context. */
static void rehearse(struct hostile *h)
{
	fill(h, 0);
	shared->chip = h->card.cores * h->card.buffer_bytes[0];
	shared->dirty = spy(h, h->queue[(1u << h->card.cores) - 1]);
	fill(h, 0);
	expect_silence(h);
}

static void explain(const struct hostile *h, unsigned int kind, uint32_t status,
		    const struct drm_flightllm_fault *got)
{
	const struct drm_flightllm_fault *want = &h->attempt.want;

	printf("# SEED=%llu attempt %u, %s: kind %u core %u unit %u entry %u word %u segment %u "
	       "offset %llu, not (status %u) %u %u %u %u %u %u %llu\n",
	       (unsigned long long)h->seed, h->attempts, hostile_kinds[kind].what, want->kind,
	       want->core, want->unit, want->entry, want->word, want->segment,
	       (unsigned long long)want->offset, status, got->kind, got->core, got->unit,
	       got->entry, got->word, got->segment, (unsigned long long)got->offset);
	for (unsigned int u = 0; u < UNITS; u++)
		for (const char *c = h->attempt.text[u]; *c; c++)
			putchar(*c == '\n' ? ';' : *c);
	putchar('\n');
}

/* Jobs of one kind, all alike, and the record that the driver has of the first. */
static void attack(struct hostile *h, unsigned int kind)
{
	bool is_endless = strstr(hostile_kinds[kind].what, "endless");
	uint32_t jobs_count = is_endless ? 1 : 1 + dice_below(&h->dice, 3);
	struct drm_flightllm_fault_query query;
	struct drm_flightllm_job jobs[3];
	struct attempt *a = &h->attempt;
	struct drm_flightllm_wait end;
	uint64_t seqno;
	int64_t start;
	bool is_good;

	a->data_bytes = DATA_LEAST + dice_below(&h->dice, DATA_ROOM - DATA_LEAST) + 1;
	bind_all(&h->dev, h->context, SEG_DATA, h->data, a->data_bytes,
		 DRM_FLIGHTLLM_RIGHT_R | DRM_FLIGHTLLM_RIGHT_W);
	attempt_begin(a, h->card.cores);
	hostile_kinds[kind].make(a);
	attempt_place(a, &h->job);
	for (uint32_t i = 0; i < jobs_count; i++)
		jobs[i] = a->args;
	h->attempts++;
	wait_for_other(h, dice_below(&h->dice, 2));
	start = in_ms(0);
	must(_submit(&h->dev, h->queue[a->mask], jobs, jobs_count, &seqno), "SUBMIT");
	end = wait_end(&h->dev, h->queue[a->mask], seqno);
	if ((in_ms(0) - start) / 1000000 > shared->slowest_ms)
		shared->slowest_ms = (in_ms(0) - start) / 1000000;
	h->seen = look(&shared->jobs);
	query = take_faults(h);
	shared->tried[kind]++;
	if (a->is_mutant) {
		is_good = end.status >= DRM_FLIGHTLLM_STATUS_DONE &&
			  end.status <= DRM_FLIGHTLLM_STATUS_RESET && !query.lost;
		shared->mutants[end.status % 8]++;
	} else {
		is_good = end.status == DRM_FLIGHTLLM_STATUS_FAULT && query.count == jobs_count &&
			  query.queue == h->queue[a->mask] &&
			  query.seqno == seqno - jobs_count + 1 && !query.lost &&
			  attempt_is_wanted(a, &query.fault) && attempt_is_wanted(a, &end.fault);
	}
	shared->good[kind] += is_good;
	if (!is_good)
		explain(h, kind, end.status, &query.fault);
}

static int be_hostile(uint64_t seed, unsigned int rounds)
{
	static struct hostile h;

	hostile_open(&h, seed);
	await(&shared->ready, 1);
	rehearse(&h);
	count(&shared->go);
	for (unsigned int i = 0; i < rounds * HOSTILE_KINDS; i++) {
		attack(&h, i % HOSTILE_KINDS);
		if (i % 9 == 8) {		/* what the other client has left */
			wait_for_other(&h, true);
			expect_silence(&h);
		}
		if (i % 27 == 13) {		/* what a program has that did not end well */
			fill(&h, SEGMENT);
			expect_silence(&h);
		}
	}
	/* It leaves as it came: the kernel tidies up. */
	return 0;
}

/* ---- Both ---- */

static pid_t start(int which, const char *path, uint64_t seed, unsigned int rounds)
{
	pid_t child;

	fflush(stdout);
	child = fork();
	if (!child) {
		int status = which ? be_hostile(seed, rounds) : be_good(path, seed);

		fflush(stdout);
		_exit(status);
	}
	return child;
}

static uint64_t all_free(const struct drm_flightllm_query_memory *memory)
{
	uint64_t sum = 0;

	for (uint32_t i = 0; i < memory->count; i++)
		sum += memory->regions[i].free;
	return sum;
}

/* What the card and its memory say, when nobody else has it open. */
static void ask(struct drm_flightllm_query_counters *counters, uint64_t *bytes)
{
	struct drm_flightllm_query_memory memory;
	struct seam dev;

	device_open(&dev);
	*counters = query_counters(&dev);
	memory = query_memory(&dev);
	*bytes = all_free(&memory);
	device_close(&dev);
}

static void claims(const struct drm_flightllm_query_counters *before,
		   const struct drm_flightllm_query_counters *after)
{
	unsigned int attempts = 0;

	for (unsigned int i = 0; i < HOSTILE_KINDS; i++) {
		ok(shared->tried[i] && shared->good[i] == shared->tried[i],
		   "%s: %u of %u attempts %s", hostile_kinds[i].what, shared->good[i],
		   shared->tried[i], i + 1 < HOSTILE_KINDS ? "leave the record they must" :
		   "end in some way");
		attempts += shared->tried[i];
	}
	printf("# of the mutants %u were DONE, %u FAULT, %u RESET\n", shared->mutants[1],
	       shared->mutants[5], shared->mutants[6]);
	ok(shared->stories && shared->exact == shared->stories,
	   "beside them %u of %u stories of 200 tokens are exact, each logit to the bit",
	   shared->exact, shared->stories);
	ok(shared->between >= attempts / 3,
	   "%u programs came right behind one of the other's %u jobs", shared->between,
	   shared->jobs);
	ok(after->switches - before->switches >= shared->between,
	   "cores changed their context %llu times",
	   (unsigned long long)(after->switches - before->switches));
	ok(after->faults - before->faults == shared->faults,
	   "the card counts the %u faults that the driver told of", shared->faults);
	ok(shared->slowest_ms < 10000, "the slowest attempt took %u ms, less than 10 s",
	   shared->slowest_ms);
	ok(shared->chip && shared->dirty == shared->chip,
	   "a spy of the same context finds %u of %u bytes of a program before it", shared->dirty,
	   shared->chip);
	ok(shared->spies > attempts / 10 && shared->silent == shared->spies,
	   "%u of %u spies of another find zeros alone in all cores", shared->silent,
	   shared->spies);
}

int main(int argc, char **argv)
{
	unsigned int rounds = dice_setting("ROUNDS", 4);
	struct drm_flightllm_query_counters before, after;
	uint64_t seed = dice_setting("SEED", 1), free_before, free_after;
	pid_t child[2];
	int status;

	if (argc != 2) {
		fprintf(stderr, "usage: isolation MODEL.flm\n");
		return 2;
	}
	if (is_emulated()) {
		printf("1..0 # SKIP a card in the process has one client\n");
		return 0;
	}
	printf("# SEED=%llu ROUNDS=%u\n", (unsigned long long)seed, rounds);
	shared = mmap(NULL, sizeof(*shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS,
		      -1, 0);
	if (shared == MAP_FAILED)
		must(-errno, "mmap");
	ask(&before, &free_before);
	for (int i = 0; i < 2; i++)
		child[i] = start(i, argv[1], seed, rounds);
	for (int i = 0; i < 2; i++) {
		pid_t ended = waitpid(-1, &status, 0);

		ok(ended > 0 && WIFEXITED(status) && !WEXITSTATUS(status),
		   "the %s client ends in order", ended == child[1] ? "hostile" : "good");
		count(&shared->done);
	}
	/* What the card still has of them is taken back within a second. */
	for (int i = 0; i < 100; i++) {
		ask(&after, &free_after);
		if (free_after == free_before)
			break;
		usleep(50000);
	}
	claims(&before, &after);
	ok(free_after == free_before, "all memory is free as before");
	munmap(shared, sizeof(*shared));
	return done_testing();
}
