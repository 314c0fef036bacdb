// SPDX-License-Identifier: MIT
/*
 * random [COUNT [SEED]]: COUNT random programs from SEED on, run by the emulator and by the
 * reference that was written from SPEC.md alone. On-chip buffers, memory, sampled tokens and faults
 * must be equal to the bit. One program in eight is broken, some of them for some cores alone or in
 * several places. What all programs together executed is counted, and nothing may be missing.
 */
#include "emulator/core/exec.h"
#include "tests/emulator/generate.h"
#include "tests/ref/ref_isa.h"
#include "tests/tap.h"

#define POOL (1 << 20)

/* Memory of one side: the emulator's or the reference's. */
struct world {
	uint8_t memory[GEN_CORES][GEN_MEMORY];
	uint8_t kv[GEN_CORES][GEN_PAGES * GEN_PAGE_BYTES];
	uint8_t shared[GEN_SHARED];
	uint8_t logits[GEN_LOGITS];
};

static struct world worlds[2];
static uint8_t constants[GEN_CONSTANTS], pool[POOL];
static struct flat flat;
static struct ref_isa ref;
static struct exec *execs[2];
static struct gen gen;
static struct gen_coverage total;

/* The same random bytes for both sides; floats where floats are likely to be read. */
static void fill_both(uint8_t *a, uint8_t *b, uint32_t bytes)
{
	uint32_t at, part;

	for (at = 0; at < bytes; at += part) {
		uint32_t from = gen_below(&gen, POOL / 4) * 4;

		part = bytes - at < POOL - from ? bytes - at : POOL - from;
		memcpy(a + at, pool + from, part);
		memcpy(b + at, pool + from, part);
	}
}

static void bind(unsigned int core, unsigned int segment, uint8_t *ours, uint8_t *theirs,
		 uint64_t length, unsigned int rights)
{
	flat.segments[core][segment].bytes = ours;
	flat.segments[core][segment].length = length;
	flat.segments[core][segment].rights = rights;
	ref.core[core].segment[segment] = (struct ref_segment) { theirs, length, rights };
}

static void prepare(struct exec *exec)
{
	const unsigned int rw = FLM_RIGHT_R | FLM_RIGHT_W;
	struct world *ours = &worlds[0], *theirs = &worlds[1];
	unsigned int c, b;

	fill_both(ours->shared, theirs->shared, GEN_SHARED);
	fill_both(ours->logits, theirs->logits, GEN_LOGITS);
	for (c = 0; c < gen.cores; c++) {
		fill_both(ours->memory[c], theirs->memory[c], GEN_MEMORY);
		fill_both(ours->kv[c], theirs->kv[c], sizeof(ours->kv[c]));
		for (b = 0; b < FLM_BUFFERS; b++)
			fill_both(exec_buffer(exec, c, b), ref.core[c].buffer[b], gen_buffers[b]);
		bind(c, GEN_SEG_MEMORY, ours->memory[c], theirs->memory[c], GEN_MEMORY, rw);
		bind(c, GEN_SEG_CONSTANTS, constants, constants, GEN_CONSTANTS, FLM_RIGHT_R);
		bind(c, GEN_SEG_KV, ours->kv[c], theirs->kv[c], sizeof(ours->kv[c]), rw);
		bind(c, GEN_SEG_SHARED, ours->shared, theirs->shared, GEN_SHARED, rw);
		bind(c, GEN_SEG_LOGITS, ours->logits, theirs->logits, GEN_LOGITS, rw);
	}
}

/* ---- Broken programs ---- */

#define INSN(name, op, mode, words, mnemonic, meaning) { op, mode, words },
static const struct {
	uint32_t op, mode, words;
} rows[] = {
#include <flightllm/isa.def>
};

static unsigned int insn_of(const uint32_t *w)
{
	unsigned int i;

	for (i = 0; i < FLM_INSNS; i++)
		if (rows[i].op == FLM_GET_HEAD(w, OP) &&
		    (rows[i].op == FLM_OP_MISC || rows[i].mode == FLM_GET_HEAD(w, MODE)))
			return i;
	abort();
}

/* Where instructions begin and which they are, of a program that is whole. */
static struct {
	uint32_t at;
	unsigned int insn;
} starts[FLM_UNITS][STREAM_WORDS];
static uint32_t start_count[FLM_UNITS];

static void find_starts(void)
{
	unsigned int u, insn;
	uint32_t at, n;

	for (u = 0; u < FLM_UNITS; u++) {
		const struct stream *s = &gen.streams[u];

		for (at = 0, n = 0; at < s->count; n++) {
			insn = insn_of(s->words + at);
			starts[u][n].at = at;
			starts[u][n].insn = insn;
			at += rows[insn].words + 2 * FLM_GET_HEAD(s->words + at, TERMS);
		}
		start_count[u] = n;
	}
}

/* A random instruction, and its row. */
static uint32_t *pick_insn(unsigned int *insn)
{
	unsigned int u = gen_below(&gen, FLM_UNITS);
	uint32_t n = gen_below(&gen, start_count[u]);

	*insn = starts[u][n].insn;
	return gen.streams[u].words + starts[u][n].at;
}

#define EXPR(insn, name, word, slot, meaning) { FLM_INSN_##insn, word, false, false },
#define ADDR(insn, name, word, slot, meaning) { FLM_INSN_##insn, word, true, false },
#define SIZE(insn, name, word, slot, meaning) { FLM_INSN_##insn, word, false, true },
static const struct {
	unsigned int insn, word;
	bool is_address, is_size;
} values[] = {
#include <flightllm/isa.def>
};

/* A value of the instruction moves out of what is allowed, or just away. */
static void break_value(uint32_t *w, unsigned int insn)
{
	unsigned int i, count = 0, chosen = 0;

	for (i = 0; i < sizeof(values) / sizeof(values[0]); i++)
		if (values[i].insn == insn && !gen_below(&gen, ++count))
			chosen = i;
	if (!count)
		return;
	w += values[chosen].word;
	if (values[chosen].is_address)
		*w = gen_chance(&gen, 4) ? *w + gen_between(&gen, 1, 3) : *w ^ 0x08000000;
	else if (values[chosen].is_size)
		w[1] = GEN_ANY(&gen, FLM_VALUE_MAX, FLM_VALUE_MAX + 1, w[1] * 2 + 1);
	else
		*w += GEN_ANY(&gen, 1, 0x40000000, 0x80000000);
}

/* A term is about the core's number now: in some cores the value is far away, in some it may do. */
static void break_cores(void)
{
	uint32_t *w, *term, tries = 0;
	unsigned int insn;

	do
		w = pick_insn(&insn);
	while (!FLM_GET_HEAD(w, TERMS) && ++tries < 100);
	if (tries == 100)
		return;
	term = w + rows[insn].words;
	FLM_PUT_TERM(term, CLASS, FLM_CLASS_CORE);
	FLM_PUT_TERM(term, INDEX, 0);
	term[1] = GEN_ANY(&gen, 0x80000000, 0x7fffffff, (uint32_t)-64, 0x100000);
}

/* One change that may make it fail; whether and how it does both sides must agree on. */
static void break_place(uint64_t *watchdog)
{
	unsigned int insn, what = gen_below(&gen, 22);
	uint32_t *w = pick_insn(&insn);

	switch (what) {
	case 0:
		SET_HEAD(w, FLAGS, gen_below(&gen, 16));
		break;
	case 1:
		SET_HEAD(w, MODE, gen_below(&gen, 20));
		break;
	case 2:
		/* Class, index or a reserved bit of the first term. */
		if (FLM_GET_HEAD(w, TERMS))
			w[rows[insn].words] ^= 1u << gen_below(&gen, 28);
		break;
	case 3:
		/* A token that is not sent, or one too many. */
		SET_HEAD(w, RELEASE, FLM_GET_HEAD(w, RELEASE) ^ 1u << gen_below(&gen, 6));
		break;
	case 4:
		SET_HEAD(w, WAIT, FLM_GET_HEAD(w, WAIT) ^ 1u << gen_below(&gen, 6));
		break;
	case 5:
	case 6:
		if (insn == FLM_INSN_LD_LINEAR || insn == FLM_INSN_ST_LINEAR ||
		    insn == FLM_INSN_LD_KV || insn == FLM_INSN_ST_KV ||
		    insn == FLM_INSN_LD_GATHER || insn == FLM_INSN_LD_TILE ||
		    insn == FLM_INSN_MM_LINEAR || insn == FLM_INSN_MV_LINEAR)
			SET(w, LD_LINEAR, SEG, GEN_ANY(&gen, GEN_SEG_NONE, GEN_SEG_CONSTANTS, 255));
		break;
	case 7:
		/* Word 1 on: far away, or negative, or the top bit. */
		w[1 + gen_below(&gen, rows[insn].words)] ^=
			GEN_ANY(&gen, 0x80000000, 0x0f000000, 1);
		break;
	case 8:
		if (insn == FLM_INSN_LOOP)
			SET(w, LOOP, BOUND, gen_below(&gen, 2));
		break;
	case 9:
		*watchdog = gen_below(&gen, 60) + 1;
		break;
	case 15:
	case 16:
		/* Tables, N, masks and indices are data, and checked when read. */
		do
			constants[gen_below(&gen, gen.used)] ^= (uint8_t)(1u << gen_below(&gen, 8));
		while (gen_chance(&gen, 2));
		break;
	case 17:
		gen.page_count = 0;
		gen.logits_stride = 4;
		break;
	case 18:
	case 19:
	case 20:
	case 21:
		break_cores();
		break;
	default:
		break_value(w, insn);
	}
}

/* Several places: then cores may fail at different ones. */
static void break_program(uint64_t *watchdog)
{
	find_starts();
	do
		break_place(watchdog);
	while (gen_below(&gen, 3));
}

/* ---- Both sides ---- */

static int run_emulator(struct exec *exec, uint64_t watchdog, struct exec_result *result)
{
	struct exec_pass pass = {
		.space = flat_space(&flat), .cores = (1u << gen.cores) - 1, .tokens = gen.tokens,
		.pages = gen.pages, .page_count = gen.page_count, .kv_start = gen.kv_start,
		.watchdog = watchdog,
	};
	unsigned int u;

	for (u = 0; u < FLM_UNITS; u++)
		pass.streams[u] =
			(struct exec_stream){ gen.streams[u].words, gen.streams[u].count };
	memcpy(pass.lengths, gen.lengths, sizeof(pass.lengths));
	memcpy(pass.registers, gen.registers, sizeof(gen.registers));
	pass.logits.wanted = gen.logits_mode;
	pass.logits.ends_prompt = gen.ends_prompt;
	pass.logits.segment = GEN_SEG_LOGITS;
	pass.logits.offset = 100;
	pass.logits.first = gen.logits_first;
	pass.logits.count = gen.logits_count;
	pass.logits.stride = gen.logits_stride;
	pass.sampler.temperature = ref.sampler.temperature;
	pass.sampler.top_p = ref.sampler.top_p;
	pass.sampler.min_p = ref.sampler.min_p;
	pass.sampler.top_k = ref.sampler.top_k;
	pass.sampler.seed = ref.sampler.seed;
	return exec_pass(exec, &pass, result);
}

static int run_reference(uint64_t watchdog, struct ref_fault *fault)
{
	unsigned int u, c;

	ref.cores = (int)gen.cores;
	for (u = 0; u < FLM_UNITS; u++) {
		ref.stream[u] = gen.streams[u].words;
		ref.words[u] = gen.streams[u].count;
	}
	memcpy(ref.length, gen.lengths, sizeof(ref.length));
	for (c = 0; c < gen.cores; c++)
		memcpy(ref.core[c].reg, gen.registers[c], sizeof(ref.core[c].reg));
	ref.tokens = gen.tokens;
	ref.pages = gen.pages;
	ref.page_count = gen.page_count;
	ref.kv_start = gen.kv_start;
	ref.ends_prompt = gen.ends_prompt;
	ref.watchdog = watchdog;
	ref.logits.mode = gen.logits_mode;
	ref.logits.segment = GEN_SEG_LOGITS;
	ref.logits.offset = 100;
	ref.logits.first = gen.logits_first;
	ref.logits.count = gen.logits_count;
	ref.logits.stride = gen.logits_stride;
	return ref_isa_run(&ref, fault);
}

static bool bytes_equal(const char *what, unsigned int core, const uint8_t *ours,
			const uint8_t *theirs, uint32_t bytes)
{
	uint32_t i, n = 0;

	if (!memcmp(ours, theirs, bytes))
		return true;
	for (i = 0; i < bytes; i++) {
		if (ours[i] == theirs[i])
			continue;
		if (!n++)
			printf("# core %u, %s: first at %u: %02x, reference %02x\n", core, what, i,
			       ours[i], theirs[i]);
	}
	printf("# %u bytes differ\n", n);
	return false;
}

static bool worlds_equal(struct exec *exec)
{
	static const char *const names[] = { "act", "wgt", "idx", "glb" };
	bool equal = true;
	unsigned int c, b;

	for (c = 0; c < gen.cores; c++) {
		for (b = 0; b < FLM_BUFFERS; b++)
			equal &= bytes_equal(names[b], c, exec_buffer(exec, c, b),
					     ref.core[c].buffer[b], gen_buffers[b]);
		equal &= bytes_equal("memory", c, worlds[0].memory[c], worlds[1].memory[c],
				     GEN_MEMORY);
		equal &= bytes_equal("kv", c, worlds[0].kv[c], worlds[1].kv[c],
				     sizeof(worlds[0].kv[c]));
	}
	equal &= bytes_equal("shared", 0, worlds[0].shared, worlds[1].shared, GEN_SHARED);
	equal &= bytes_equal("logits", 0, worlds[0].logits, worlds[1].logits, GEN_LOGITS);
	return equal;
}

static bool choices_equal(const struct exec_result *result)
{
	uint32_t i;

	if (result->sampled != ref.core[0].has_sampled)
		return false;
	if (!result->sampled)
		return true;
	if (result->token != ref.token || result->top_count !=
	    (ref.core[0].chosen_from_count < 64 ? ref.core[0].chosen_from_count : 64))
		return false;
	for (i = 0; i < result->top_count; i++) {
		uint32_t bits = le32toh(result->top[i].logit);

		if (memcmp(&bits, &ref.core[0].chosen_from[i].logit, 4) ||
		    le32toh(result->top[i].id) != ref.core[0].chosen_from[i].id)
			return false;
	}
	return true;
}

/* Which unit's turn it was when a core's instructions ran out is not defined; that they did is. */
static bool faults_equal(const struct fault *ours, const struct ref_fault *theirs)
{
	if (ours->kind == (unsigned int)theirs->kind &&
	    (ours->kind == FLM_FAULT_NONE ||
	     (ours->core == (unsigned int)theirs->core && ours->kind == FLM_FAULT_WATCHDOG) ||
	     (ours->core == (unsigned int)theirs->core &&
	      ours->unit == (unsigned int)theirs->unit && ours->word == theirs->word &&
	      ours->segment == (unsigned int)theirs->segment && ours->offset == theirs->offset)))
		return true;
	printf("# fault %u, core %u, unit %u, word %u, segment %u, offset 0x%llx\n", ours->kind,
	       ours->core, ours->unit, ours->word, ours->segment, (unsigned long long)ours->offset);
	printf("# reference %d, core %d, unit %d, word %u, segment %d, offset 0x%llx\n",
	       theirs->kind, theirs->core, theirs->unit, theirs->word, theirs->segment,
	       (unsigned long long)theirs->offset);
	return false;
}

/* Whether a higher core stopped at another place than the one that is reported. */
static bool has_several_faults(const struct ref_fault *reported)
{
	unsigned int c;

	for (c = 0; c < gen.cores; c++) {
		const struct ref_fault *own = &ref.core[c].fault;

		if (own->kind && (own->unit != reported->unit || own->word != reported->word))
			return true;
	}
	return false;
}

/* Returns whether both sides agree; *is_complete: the program ran to its end. */
static bool try_program(uint64_t seed, bool *is_complete, uint32_t faults[FLM_FAULTS],
			uint32_t *several)
{
	struct exec *exec = execs[seed % 2];
	uint64_t watchdog = 1 << 20;
	struct exec_result result;
	struct ref_fault fault;
	bool is_broken;

	gen_program(&gen, seed, constants);
	is_broken = gen_chance(&gen, 8);
	if (is_broken)
		break_program(&watchdog);
	ref.sampler.temperature =
		gen_chance(&gen, 3) ? 0.0f : (float)gen_between(&gen, 1, 40) / 8.0f;
	ref.sampler.top_k = gen_chance(&gen, 2) ? gen_below(&gen, 50) : 0;
	ref.sampler.top_p = gen_chance(&gen, 2) ? (float)gen_below(&gen, 110) / 100.0f : 0.0f;
	ref.sampler.min_p = gen_chance(&gen, 2) ? (float)gen_below(&gen, 50) / 1000.0f : 0.0f;
	ref.sampler.seed = gen_next(&gen) << 20 ^ gen_next(&gen);
	prepare(exec);
	run_emulator(exec, watchdog, &result);
	run_reference(watchdog, &fault);
	faults[result.fault.kind]++;
	*several += has_several_faults(&fault);
	*is_complete = !result.fault.kind;
	if (!faults_equal(&result.fault, &fault))
		return false;
	if (result.fault.kind) {
		if (!is_broken)
			printf("# fault %u of a program that was not broken: core %u, unit %u, "
			       "word %u\n",
			       result.fault.kind, result.fault.core, result.fault.unit,
			       result.fault.word);
		return is_broken;
	}
	return worlds_equal(exec) && choices_equal(&result);
}

static void add_counts(uint32_t *to, const uint32_t *from, uint32_t count)
{
	while (count--)
		to[count] += from[count];
}

static uint32_t count_zeros(const uint32_t *counts, uint32_t count)
{
	uint32_t zeros = 0;

	while (count--)
		zeros += !counts[count];
	return zeros;
}

static void report_coverage(void)
{
#define INSN(name, op, mode, words, mnemonic, meaning) mnemonic,
	static const char *const mnemonics[] = {
#include <flightllm/isa.def>
	};
#define MISC(name, mode, uses, mnemonic, meaning) mnemonic,
	static const char *const miscs[] = {
#include <flightllm/isa.def>
	};
	static const uint32_t dims[] = { 8, 32, 48, 64, 80, 128 };
	uint32_t i, least = UINT32_MAX;

	for (i = 0; i < FLM_INSNS; i++)
		if (i != FLM_INSN_LOOP && i != FLM_INSN_END && i != FLM_INSN_MISC)
			ok(total.insn[i], "%s was executed in %u places", mnemonics[i],
			   total.insn[i]);
	for (i = 0; i < FLM_UNITS; i++)
		ok(total.sync[i], "sync was executed in %u places of unit %u's streams",
		   total.sync[i], i);
	for (i = 0; i < FLM_MISCS; i++)
		ok(total.misc[i], "%s was executed in %u places", miscs[i], total.misc[i]);
	for (i = 0; i < GEN_FEATURES; i++)
		ok(total.feature[i], "%s was seen %u times", gen_features[i], total.feature[i]);
	for (i = 0; i < 6; i++)
		ok(total.dims[dims[i]], "heads of %u were seen %u times", dims[i],
		   total.dims[dims[i]]);
	for (i = 0; i < GEN_COMBINATIONS; i++)
		least = total.combination[i] < least ? total.combination[i] : least;
	ok(!count_zeros(total.combination, GEN_COMBINATIONS),
	   "all %d combinations of width, sparsity, last group and unit, the rarest %u times",
	   GEN_COMBINATIONS, least);
}

int main(int argc, char **argv)
{
	uint64_t count = argc > 1 ? strtoull(argv[1], NULL, 0) : 1000;
	uint64_t first = argc > 2 ? strtoull(argv[2], NULL, 0) : 1, seed;
	struct exec_chip chip = { .cores = GEN_CORES };
	uint32_t faults[FLM_FAULTS] = { 0 }, wrong = 0, complete = 0, several = 0, i;

	memcpy(chip.buffer_bytes, gen_buffers, sizeof(gen_buffers));
	memcpy(ref.buffer_bytes, gen_buffers, sizeof(gen_buffers));
	ref.cores = GEN_CORES;
	if (exec_new(&chip, 1, &execs[0]) || exec_new(&chip, 3, &execs[1]) || ref_isa_init(&ref))
		return 1;
	gen.random = 1;
	for (i = 0; i < POOL; i += 4) {
		uint32_t bits = gen_float_bits(&gen);

		memcpy(pool + i, &bits, 4);
	}
	for (seed = first; seed < first + count; seed++) {
		bool is_complete;

		if (!try_program(seed, &is_complete, faults, &several)) {
			wrong++;
			printf("# repeat with: random 1 %llu\n", (unsigned long long)seed);
		}
		if (!is_complete)
			continue;
		complete++;
		add_counts(total.insn, gen.coverage.insn, FLM_INSNS);
		add_counts(total.misc, gen.coverage.misc, FLM_MISCS);
		add_counts(total.combination, gen.coverage.combination, GEN_COMBINATIONS);
		add_counts(total.feature, gen.coverage.feature, GEN_FEATURES);
		add_counts(total.dims, gen.coverage.dims, FLM_DIM_MAX + 1);
		add_counts(total.sync, gen.coverage.sync, FLM_UNITS);
	}
	ok(!wrong, "%llu programs from seed %llu give the reference's bits (%u differ)",
	   (unsigned long long)count, (unsigned long long)first, wrong);
	for (i = 1; i < FLM_FAULTS; i++)
		if (faults[i])
			printf("# fault %u: %u programs\n", i, faults[i]);
	if (count >= 1000) {
		ok(complete > count * 3 / 4, "%u programs ran to their end", complete);
		ok(several, "in %u programs cores failed at different places", several);
		report_coverage();
	}
	ref.cores = GEN_CORES;
	ref_isa_fini(&ref);
	exec_free(execs[0]);
	exec_free(execs[1]);
	return done_testing();
}
