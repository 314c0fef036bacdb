// SPDX-License-Identifier: MIT
/*
 * What one context may learn of another: nothing. Whatever a victim leaves on the chip, by whatever
 * road it came there and however the job ended, the next program of its own context still sees, and
 * a spy of another context does not.
 *
 * The one idea: ST reads every byte of every buffer, so one program is both the witness that all
 * was dirty and the spy that must find zeros; only the context differs.
 */
#define HOST_BYTES (128u << 20)
#include "tests/emulator/bench.h"
#include "tests/tap.h"

#define WATCHDOG 200000

/* Tokens of a prompt that just fits the rig's segment behind the record: 120 passes. */
#define LONG_PROMPT 15360

static const char *const buffer_names[FLM_BUFFERS] = { "act", "wgt", "idx", "glb" };

/* A victim with two queues, a spy with one, and where both put what they find. */
struct scene {
	struct bench b;
	struct rig *victim, *witness, *spy;
	uint32_t bytes[FLM_BUFFERS], chip;	/* of each buffer of a core; of all of them */
	uint8_t *pattern;			/* segment 2: no byte of it is zero */
	uint8_t *found;				/* segment 3: [core][chip] */
	uint8_t *inputs;			/* segment 4 */
	char dump[512];				/* the program of witness and spy */
};

/* Segment 3 is another place for each core. */
static void bind_found(struct scene *s, struct rig *r)
{
	bench_bind(&s->b, r, 3, FLM_REGION_HOST, bus(&s->b, s->found), s->chip, FLM_RIGHT_W);
	for (unsigned int c = 0; c < s->b.cores; c++)
		r->tables[c * SEGMENTS + 3].blocks =
			htole64((uint64_t)FLM_REGION_HOST << FLM_BLOCK_REGION_SHIFT |
				(bus(&s->b, s->found) + (uint64_t)c * s->chip));
}

/* Another queue of r's context. */
static struct rig *beside(struct bench *b, const struct rig *r, uint32_t cores)
{
	struct rig *other = bench_rig(b, FLM_QUEUE_COMPUTE, cores, 0);

	set(b, FLM_REG_QUEUE_SELECT, other->queue, 4);
	set(b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	other->page = r->page;
	other->tables = r->tables;
	other->generation = r->generation;
	other->program = r->program;
	other->job = r->job;
	if (!bench_enable(b, other, FLM_QUEUE_COMPUTE, cores, 1, 0))
		errx(1, "a second queue of a context is not enabled");
	return other;
}

static void scene_open(struct scene *s, const char *profile, uint64_t watchdog)
{
	uint32_t largest = 0, cores, used = 0;

	memset(s, 0, sizeof(*s));
	bench_open(&s->b, profile);
	cores = (1u << s->b.cores) - 1;
	for (unsigned int i = 0; i < FLM_BUFFERS; i++) {
		s->bytes[i] = reg(&s->b, FLM_REG_BUFFER_ACT + 4 * i, 4);
		s->chip += s->bytes[i];
		if (s->bytes[i] > largest)
			largest = s->bytes[i];
	}
	s->pattern = bench_alloc(&s->b, largest);
	s->found = bench_alloc(&s->b, (uint64_t)s->b.cores * s->chip);
	s->inputs = bench_alloc(&s->b, 8192);
	for (uint32_t i = 0; i < largest; i++)
		s->pattern[i] = 1 + (i + i / 255) % 255;
	s->victim = bench_rig(&s->b, FLM_QUEUE_COMPUTE, cores, watchdog);
	s->spy = bench_rig(&s->b, FLM_QUEUE_COMPUTE, cores, 0);
	bench_bind(&s->b, s->victim, 2, FLM_REGION_HOST, bus(&s->b, s->pattern), largest,
		   FLM_RIGHT_R);
	bench_bind(&s->b, s->victim, 4, FLM_REGION_HOST, bus(&s->b, s->inputs), 8192, FLM_RIGHT_R);
	bind_found(s, s->victim);
	bind_found(s, s->spy);
	s->witness = beside(&s->b, s->victim, cores);
	used = snprintf(s->dump, sizeof(s->dump), "@st\n");
	for (uint32_t i = 0, at = 0; i < FLM_BUFFERS; at += s->bytes[i++])
		used += snprintf(s->dump + used, sizeof(s->dump) - used,
				 "st seg=3 off=%u src=%s:0 rows=1/1 bytes=%u/%u\n", at,
				 buffer_names[i], s->bytes[i], s->bytes[i]);
}

/* The job of a rig: a prompt of so many tokens, each this one. */
static void put_job(struct rig *r, uint32_t prompt, uint32_t id)
{
	bench_job(r, prompt);
	for (uint32_t i = 0; i < prompt; i++)
		((uint32_t *)(void *)(r->job + 4096))[i] = htole32(id);
}

/* The whole chip goes to s->found; true when the program that did it was DONE. */
static bool dump(struct scene *s, struct rig *r, uint32_t id)
{
	memset(s->found, 0xff, (size_t)s->b.cores * s->chip);
	bench_program(r, s->b.cores, s->dump);
	put_job(r, 1, id);
	return le32toh(bench_run(&s->b, r)->status) == FLM_STATUS_DONE;
}

static uint64_t count_zero(const struct scene *s)
{
	uint64_t zero = 0;

	for (size_t i = 0; i < (size_t)s->b.cores * s->chip; i++)
		zero += !s->found[i];
	return zero;
}

/* The bytes of all cores that a spy finds zero. */
static uint64_t spied_zero(struct scene *s)
{
	return dump(s, s->spy, 0) ? count_zero(s) : 0;
}

/* ---- Every byte, however the job ended ---- */

/* The bytes that a victim's program has put everywhere, but for the id of the witness's pass. */
static uint64_t count_dirty(const struct scene *s, uint32_t id)
{
	uint64_t dirty = 0;

	for (unsigned int c = 0; c < s->b.cores; c++) {
		const uint8_t *at = s->found + (size_t)c * s->chip;

		for (unsigned int i = 0; i < FLM_BUFFERS; at += s->bytes[i++])
			for (uint32_t j = 0; j < s->bytes[i]; j++)
				dirty += i == FLM_BUFFER_IDX && j < 4 ?
					 at[j] && at[j] == (id >> 8 * j & 0xff) :
					 at[j] == s->pattern[j];
	}
	return dirty;
}

enum how { RUNS, STOPS, RESETS_CORES, RESETS_QUEUE };

/*
 * A core that turns in a loop may have a thread to itself, of which there may be fewer than cores:
 * for a reset all of them meet first, so that each has loaded.
 */
static const struct ending {
	const char *what, *tail;
	enum how how;
	unsigned int status, fault;
} endings[] = {
	{ "a job that was DONE", "@sys\nsync wait=ld", RUNS, FLM_STATUS_DONE, 0 },
	{ "fault SEGMENT", "ld seg=9 dst=act:0 rows=1/1 bytes=4/4\n@sys\nsync wait=ld", RUNS,
	  FLM_STATUS_FAULT, FLM_FAULT_SEGMENT },
	{ "fault OPCODE", "@sys\nsync wait=ld\nloop class=3 body=1\nend", RUNS, FLM_STATUS_FAULT,
	  FLM_FAULT_OPCODE },
	{ "the watchdog", "@sys\nsync wait=ld\n" PROGRAM_ENDLESS, RUNS, FLM_STATUS_FAULT,
	  FLM_FAULT_WATCHDOG },
	{ "a deadlock", "@sys\nsync wait=ld\nsync wait=ld", RUNS, FLM_STATUS_FAULT,
	  FLM_FAULT_DEADLOCK },
	{ "tokens that nobody took", "", RUNS, FLM_STATUS_FAULT, FLM_FAULT_TOKEN },
	{ "the stop word",
	  "@st\nst seg=3 src=act:0 rows=1/1 bytes=1/1 wait=ld\n"
	  "@sys\nsync wait=ld\nloop sub=60000 bound=60000 body=2\nsync\nend",
	  STOPS, FLM_STATUS_STOPPED, 0 },
	{ "a reset of its cores",
	  "@st\nst seg=3 src=act:0 rows=1/1 bytes=1/1 wait=ld\n"
	  "@sys\nsync wait=ld\nbarrier\n" PROGRAM_ENDLESS,
	  RESETS_CORES, FLM_STATUS_RESET, 0 },
	{ "a reset of its queue",
	  "@st\nst seg=3 src=act:0 rows=1/1 bytes=1/1 wait=ld\n"
	  "@sys\nsync wait=ld\nbarrier\n" PROGRAM_ENDLESS,
	  RESETS_QUEUE, 0, 0 },
};

/* Waits until all cores have stored their first byte: then all that they load is on the chip. */
static bool wait_loaded(const struct scene *s)
{
	double end = seconds() + 20;

	for (unsigned int c = 0; c < s->b.cores; c++)
		while (__atomic_load_n(&s->found[(size_t)c * s->chip], __ATOMIC_ACQUIRE) !=
		       s->pattern[0]) {
			struct timespec pause = { 0, 100000 };

			if (seconds() > end)
				return false;
			nanosleep(&pause, NULL);
		}
	return true;
}

/* Fills the chip by a job of the victim and lets that end; true when it ended so. */
static bool end_as(struct scene *s, const struct ending *ending)
{
	bool tells = strstr(ending->tail, "@st"), is_done = true;
	uint32_t cores = (1u << s->b.cores) - 1;
	struct rig *r = s->victim;
	char text[2048] = "@ld\n";
	const struct flm_done *done;
	struct flm_slot slot;
	uint32_t used = 4;

	for (unsigned int i = 0; i < FLM_BUFFERS; i++)
		used += snprintf(text + used, sizeof(text) - used,
				 "ld seg=2 dst=%s:0 rows=1/1 bytes=%u/%u%s\n", buffer_names[i],
				 s->bytes[i], s->bytes[i], i + 1 < FLM_BUFFERS ? "" :
				 tells ? " release=sys,st" : " release=sys");
	snprintf(text + used, sizeof(text) - used, "%s", ending->tail);
	memset(s->found, 0, (size_t)s->b.cores * s->chip);
	set(&s->b, FLM_REG_QUEUE_SELECT, r->queue, 4);
	/* What somebody is to end must not end by itself before, however late he comes. */
	if (ending->how != RUNS) {
		bench_reset(&s->b, r);
		bench_enable(&s->b, r, FLM_QUEUE_COMPUTE, cores, 1, 0);
	}
	bench_program(r, s->b.cores, text);
	put_job(r, ending->how == STOPS ? LONG_PROMPT : 1, 0x01010101);
	slot = bench_slot(r);
	bench_post(&s->b, r, &slot);
	if (tells)
		is_done = wait_loaded(s);
	if (ending->how == STOPS)
		__atomic_store_n(&r->status->stop, htole64(r->seqno), __ATOMIC_SEQ_CST);
	if (ending->how == RESETS_CORES)
		set(&s->b, FLM_REG_CORE_RESET, cores, 4);
	if (ending->how == RESETS_QUEUE) {
		set(&s->b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
		return UNTIL(reg(&s->b, FLM_REG_QUEUE_STATE, 4) == FLM_QUEUE_DISABLED) && is_done;
	}
	done = bench_wait(r, r->tail);
	return is_done && done && le32toh(done->status) == ending->status &&
	       done->fault == ending->fault;
}

static void every_byte(const char *profile)
{
	struct scene s;
	uint64_t all;

	scene_open(&s, profile, WATCHDOG);
	all = (uint64_t)s.b.cores * s.chip;
	for (size_t i = 0; i < sizeof(endings) / sizeof(endings[0]); i++) {
		const char *what = endings[i].what;
		uint64_t dirty, zero;
		bool is_over;

		ok(end_as(&s, &endings[i]), "%s: a job that fills the chip ends by %s", profile,
		   what);
		if (endings[i].how == RESETS_CORES) {
			ok(dump(&s, s.witness, 0) && count_zero(&s) == all,
			   "%s: what was there is gone for its own context too", profile);
		} else {
			dirty = dump(&s, s.witness, 0x01010101) ? count_dirty(&s, 0x01010101) : 0;
			ok(dirty == all, "%s: %llu of %llu bytes of all cores are still there",
			   profile, (unsigned long long)dirty, (unsigned long long)all);
		}
		/* Nobody comes between the next one and the spy. */
		is_over = end_as(&s, &endings[i]);
		zero = spied_zero(&s);
		ok(is_over && zero == all,
		   "%s: after another one a spy of another context finds %llu of them zero",
		   profile, (unsigned long long)zero);
	}
	bench_close(&s.b);
}

/* ---- Every road onto the chip ---- */

#define LOAD "@ld\nld seg=4 off=4096 dst=glb:0 rows=1/1 bytes=1024/1024"
#define UNARY(name, rest) { "misc." name, LOAD " release=misc\n@misc\nmisc." name " a=glb:0 out=act:262080 " \
	"rows=1/1 cols=16/16 wait=ld" rest, FLM_BUFFER_ACT, 262080 }
#define TILE(rest) "ld.tile seg=4 strips=1/1 " rest

/*
 * Programs for tiny whose only or last way to write a place is the instruction named; its inputs
 * lie at the start of other buffers. Where the bytes loaded are multiples of core register 0 the
 * core of rank 0 has no inputs: its result comes from the other core alone.
 */
static const struct road {
	const char *what, *program;
	unsigned int buffer;
	uint32_t offset;
} roads[] = {
	{ "ld", "@ld\nld seg=4 off=4096 dst=act:262080 rows=1/1 bytes=64/64", FLM_BUFFER_ACT,
	  262080 },
	{ "ld.gather",
	  "@ld\nld.gather seg=4 off=4096 src_pitch=64 limit=100 index=idx:0 dst=act:262080 "
	  "rows=1/1 bytes=64/64", FLM_BUFFER_ACT, 262080 },
	{ "ld.tile, codes", "@ld\n" TILE("dst=wgt:64448 pitch=1088"), FLM_BUFFER_WGT, 64448 },
	{ "ld.tile, masks", "@ld\n" TILE("row=1 dst=wgt:0 pitch=1088 idx=idx:16192 idx_pitch=192"),
	  FLM_BUFFER_IDX, 16192 },
	{ "ld.kv",
	  "@ld\nld.kv seg=4 page=8192 values=4096 value_bytes=64 scales=4608 scale_bytes=4 "
	  "count=1/1 dst=act:262080 dst_scales=glb:0", FLM_BUFFER_ACT, 262080 },
	{ "ld.kv, scales",
	  "@ld\nld.kv seg=4 page=8192 values=4096 value_bytes=64 scales=4608 scale_bytes=4 "
	  "count=1/1 dst=act:0 dst_scales=glb:65532", FLM_BUFFER_GLB, 65532 },
	{ "mm",
	  LOAD "\n" TILE("dst=wgt:0 pitch=1088 release=mm")
	  "\n@mm\nmm +first seg=4 strips=1/1 w=wgt:0 w_pitch=1088 a=glb:0 "
	  "a_scales=glb:0 tokens=1/1 out=act:262080 wait=ld", FLM_BUFFER_ACT, 262080 },
	{ "mm.qk",
	  LOAD " release=mm\n@mm\nmm.qk a=glb:0 a_scales=glb:0 b=glb:0 b_pitch=16 b_scales=glb:0 "
	  "b_scale_pitch=4 dim=16 positions=16/16 tokens=1/1 out=act:262080 wait=ld",
	  FLM_BUFFER_ACT, 262080 },
	{ "mm.pv",
	  LOAD " release=mm\n@mm\nmm.pv +first a=glb:0 a_scales=glb:0 b=glb:0 b_pitch=16 dim=16 "
	  "positions=16/16 tokens=1/1 out=act:262080 wait=ld", FLM_BUFFER_ACT, 262080 },
	{ "mv",
	  LOAD "\n" TILE("dst=wgt:0 pitch=1088 release=mv")
	  "\n@mv\nmv +first seg=4 strips=1/1 w=wgt:0 w_pitch=1088 a=glb:0 "
	  "a_scales=glb:0 out=act:262080 wait=ld", FLM_BUFFER_ACT, 262080 },
	{ "mv.qk",
	  LOAD " release=mv\n@mv\nmv.qk a=glb:0 a_scales=glb:0 b=glb:0 b_pitch=16 b_scales=glb:0 "
	  "b_scale_pitch=4 dim=16 positions=16/16 out=act:262080 wait=ld", FLM_BUFFER_ACT, 262080 },
	{ "mv.pv",
	  LOAD " release=mv\n@mv\nmv.pv +first a=glb:0 a_scales=glb:0 b=glb:0 b_pitch=16 dim=16 "
	  "positions=16/16 out=act:262080 wait=ld", FLM_BUFFER_ACT, 262080 },
	UNARY("add", " b=glb:0"),
	UNARY("mul", " b=glb:0"),
	UNARY("scale", " imm=0x40000000"),
	UNARY("copy", ""),
	{ "misc.fill", "@misc\nmisc.fill out=act:262080 rows=1/1 cols=16/16 imm=7", FLM_BUFFER_ACT,
	  262080 },
	UNARY("relu", ""),
	UNARY("silu", ""),
	UNARY("gelu", ""),
	UNARY("rmsnorm", " b=glb:0"),
	UNARY("layernorm", " b=glb:0 c=glb:0 imm=0x3f800000"),
	UNARY("rope", " b=glb:0 imm=16"),
	UNARY("softmax", " imm=0x3f800000 pos=15"),
	UNARY("quant", " c=glb:1024 imm=16"),
	{ "misc.quant, scales",
	  LOAD " release=misc\n@misc\nmisc.quant a=glb:0 out=act:0 c=glb:65532 rows=1/1 cols=16/16 imm=16 "
	  "wait=ld", FLM_BUFFER_GLB, 65532 },
	UNARY("dequant", " c=glb:0 imm=16"),
	UNARY("hadamard", " imm=16"),
	UNARY("topk", " imm=8 pos=5"),
	{ "gather",
	  LOAD " release=sys\n@sys\ngather src=glb:0 dst=act:262080 rows=1/1 bytes=0+64*core0/64 wait=ld",
	  FLM_BUFFER_ACT, 262080 },
	{ "allmax",
	  "@ld\nld seg=4 off=4096 dst=act:262080 rows=1/1 bytes=0+64*core0/64 release=sys\n"
	  "@sys\nallmax src=act:262080 count=16/16 wait=ld", FLM_BUFFER_ACT, 262080 },
	{ "allsum",
	  "@ld\nld seg=4 off=4096 dst=act:262080 rows=1/1 bytes=0+64*core0/64 release=sys\n"
	  "@sys\nallsum src=act:262080 count=16/16 wait=ld", FLM_BUFFER_ACT, 262080 },
	{ "alltopk",
	  "@ld\nld seg=4 off=4096 dst=act:262080 rows=1/1 bytes=0+64*core0/64 release=sys\n"
	  "@sys\nalltopk src=act:262080 count=8 wait=ld", FLM_BUFFER_ACT, 262080 },
};

/* Two rows of a strip table, what they name, and at 4096 a vector of 1.5. */
static void put_inputs(uint8_t *at)
{
	struct flm_strip *strips = (void *)at;
	uint32_t *vector = (void *)(at + 4096);

	strips[0] = (struct flm_strip) {
		.width = 8, .blocks = htole16(4), .codes = htole32(16), .scales = htole32(32),
	};
	strips[1] = (struct flm_strip) {
		.width = 8, .flags = FLM_STRIP_SPARSE, .blocks = htole16(4), .codes = htole32(16),
		.n = htole32(40), .masks = htole32(48), .scales = htole32(32),
	};
	memset(at + 1024, 0x81, 1024);
	for (unsigned int i = 0; i < 16; i++) {
		uint16_t one = htole16(0x3c00);

		memcpy(at + 2048 + 2 * i, &one, sizeof(one));
	}
	memset(at + 2560, 8, 4);
	for (unsigned int i = 0; i < 64; i++)
		at[3072 + 2 * i] = 0xff;
	for (unsigned int i = 0; i < 1024; i++)
		vector[i] = htole32(0x3fc00000);
}

static bool is_dirty(const struct scene *s, const struct road *road)
{
	for (unsigned int c = 0; c < s->b.cores; c++) {
		const uint8_t *at = s->found + (size_t)c * s->chip;
		unsigned int i;

		for (i = 0; i < road->buffer; i++)
			at += s->bytes[i];
		for (i = road->offset; i < s->bytes[road->buffer] && !at[i]; i++)
			;
		if (i == s->bytes[road->buffer])
			return false;
	}
	return true;
}

static void every_road(void)
{
	struct scene s;

	scene_open(&s, "tiny", 0);
	put_inputs(s.inputs);
	for (size_t i = 0; i < sizeof(roads) / sizeof(roads[0]); i++) {
		struct flm_sequence *sequence = (void *)(s.victim->job + 256);
		const struct flm_done *done;
		uint64_t zero;
		bool dirty;

		bench_program(s.victim, 2, roads[i].program);
		put_job(s.victim, 1, 1);
		/* Page 0 alone; the list is the zero behind the prompt. */
		sequence->page_segment = htole16(1);
		sequence->page_count = htole32(1);
		sequence->page_offset = htole64(8192);
		done = bench_run(&s.b, s.victim);
		dirty = le32toh(done->status) == FLM_STATUS_DONE && dump(&s, s.witness, 1) &&
			is_dirty(&s, &roads[i]);
		zero = spied_zero(&s);
		ok(dirty && zero == 2ull * s.chip,
		   "what %s wrote is %sthere for its context, and %llu bytes are zero for another",
		   roads[i].what, dirty ? "" : "not ", (unsigned long long)zero);
	}
	bench_close(&s.b);
}

/* ---- What is no buffer: registers, accumulators, tokens, page lists ---- */

/* GLB holds zeros: as many of them as a register's value come to its 256 bytes of segment 3. */
static void registers_program(char *text, size_t size)
{
	size_t used = snprintf(text, size, "@st\n");

	for (unsigned int i = 0; i < 32; i++)
		used += snprintf(text + used, size - used,
				 "st seg=3 off=%u src=glb:0 rows=1/1 bytes=0+1*%s%u/255\n", 256 * i,
				 i < 16 ? "len" : "core", i % 16);
}

/* Whether on each core register i, 16 of length and 16 of the core, has value[i]. */
static bool registers_are(const struct scene *s, const uint8_t value[32])
{
	for (unsigned int c = 0; c < s->b.cores; c++)
		for (unsigned int i = 0; i < 32; i++)
			for (unsigned int j = 0; j < 256; j++)
				if ((s->found[(size_t)c * s->chip + 256 * i + j] == 0) !=
				    (j < value[i]))
					return false;
	return true;
}

static bool run_registers(struct scene *s, struct rig *r, bool are_set)
{
	struct flm_job_record *record = (void *)r->job;
	struct flm_program *program = (void *)r->program;
	struct flm_sequence *sequence = (void *)(r->job + 256);
	char text[4096];

	registers_program(text, sizeof(text));
	memset(s->found, 0xff, (size_t)s->b.cores * s->chip);
	bench_program(r, 2, text);
	put_job(r, 1, 0);
	for (unsigned int c = 0; c < FLM_CORES; c++)
		for (unsigned int i = 0; i < 16; i++)
			program->core[c][i] = htole32(are_set ? 100 + i : 0);
	for (unsigned int i = 0; are_set && i < 7; i++)
		record->user[i] = htole32(200 + i);
	sequence->position = htole32(are_set ? 50 : 0);
	sequence->kv_length = htole32(are_set ? 60 : 0);
	return le32toh(bench_run(&s->b, r)->status) == FLM_STATUS_DONE;
}

/* Runs text; the fault it ends with, 0 when it is DONE. */
static unsigned int fault_of(struct scene *s, struct rig *r, const char *text)
{
	const struct flm_done *done;

	bench_program(r, 2, text);
	put_job(r, 1, 0);
	done = bench_run(&s->b, r);
	return done->fault ? done->fault : le32toh(done->status) == FLM_STATUS_DONE ? 0 : 255;
}

static void other_state(void)
{
	/* POS, TOKENS, KV, KV_END, GENERATE, ROWS, LOGIT_FIRST, LOGIT_ROWS, SAMPLE, user; core */
	static const uint8_t set_to[32] = {
		50, 1, 60, 61, 0, 1, 0, 0, 0, 200, 201, 202, 203, 204, 205, 206,
		100, 101, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115,
	};
	static const uint8_t fresh[32] = { 0, 1, 0, 1, 0, 1 };
	static const char *const sum =
		LOAD "\n" TILE("dst=wgt:0 pitch=1088 release=mm") "\n@mm\nmm.pv +first a=glb:0 "
		"a_scales=glb:0 b=glb:0 b_pitch=16 dim=16 positions=16/16 tokens=1/1 out=act:0 "
		"wait=ld\nmm +first seg=4 strips=1/1 w=wgt:0 w_pitch=1088 a=glb:0 a_scales=glb:0 "
		"tokens=1/1 out=act:64";
	/* Adds nothing to either: activations and scales of zero. */
	static const char *const add =
		"@mm\nmm.pv a=glb:4096 a_scales=glb:4096 b=glb:4096 b_pitch=16 dim=16 "
		"positions=16/16 tokens=1/1 out=act:0\n"
		"mm seg=4 strips=1/1 w=wgt:0 w_pitch=1088 a=glb:4096 a_scales=glb:4096 tokens=1/1 "
		"out=act:64 release=st\n@st\nst seg=3 src=act:0 rows=1/1 bytes=128/128 wait=mm";
	static const uint8_t nothing[128];
	struct scene s;
	bool sees;

	scene_open(&s, "tiny", 0);
	put_inputs(s.inputs);
	bench_bind(&s.b, s.spy, 4, FLM_REGION_HOST, bus(&s.b, s.inputs), 8192, FLM_RIGHT_R);
	ok(run_registers(&s, s.victim, true) && registers_are(&s, set_to),
	   "a job sees the length and core registers that it was given");
	ok(run_registers(&s, s.spy, false) && registers_are(&s, fresh),
	   "a spy that was given none sees none of them");
	sees = !fault_of(&s, s.victim, sum) && !fault_of(&s, s.witness, add) &&
	       memcmp(s.found, nothing, 64) && memcmp(s.found + 64, nothing, 64);
	ok(sees, "sums of the array can be added to by the next job of a context");
	ok(!fault_of(&s, s.spy, add) && !memcmp(s.found, nothing, 128) &&
	   !memcmp(s.found + s.chip, nothing, 128), "and begin at zero for another");
	ok(fault_of(&s, s.victim, "@sys\nsync release=ld,st,mm,mv,misc") == FLM_FAULT_TOKEN,
	   "a job ends with tokens in five queues");
	ok(fault_of(&s, s.spy, "@st\nst wait=sys") == FLM_FAULT_DEADLOCK &&
	   fault_of(&s, s.spy, "@misc\nmisc.copy wait=sys") == FLM_FAULT_DEADLOCK,
	   "and no program after it can take one");
	ok(fault_of(&s, s.spy, "@ld\nld.kv seg=4 page=8192 value_bytes=64 count=1/1 dst=act:0 "
		    "dst_scales=act:64") == FLM_FAULT_INDEX,
	   "a job without a page list has none");
	bench_close(&s.b);
}

/* The same page of the same bus address may be another context's after ENABLE. */
static void next_owner(void)
{
	struct bench b;
	uint64_t switches;
	uint32_t *loot;
	struct rig *r;

	bench_open(&b, "tiny");
	r = bench_rig(&b, FLM_QUEUE_COMPUTE, 1, 0);
	loot = bench_alloc(&b, 65536);
	switches = reg(&b, FLM_REG_COUNT_SWITCHES, 8);
	bench_bind(&b, r, 2, FLM_REGION_HOST, bus(&b, loot), 65536, FLM_RIGHT_W);
	bench_program(r, 1, "@misc\nmisc.fill out=act:0 rows=1/1 cols=4/4 imm=7");
	bench_job(r, 1);
	bench_run(&b, r);
	bench_program(r, 1, "@st\nst seg=2 src=act:0 rows=1/1 bytes=16/16");
	bench_run(&b, r);
	ok(loot[0] == htole32(7) && loot[3] == htole32(7),
	   "what a job left on the chip is there for the next of its context");
	set(&b, FLM_REG_QUEUE_SELECT, r->queue, 4);
	set(&b, FLM_REG_QUEUE_CONTROL, FLM_QUEUE_RESET, 4);
	bench_enable(&b, r, FLM_QUEUE_COMPUTE, 1, 1, 0);
	bench_run(&b, r);
	ok(!loot[0] && !loot[3], "after ENABLE the page may be another's: zeros");
	ok(reg(&b, FLM_REG_COUNT_SWITCHES, 8) - switches == 2, "COUNT_SWITCHES counts both");
	bench_close(&b);
}

int main(void)
{
	next_owner();
	every_byte("tiny");
	every_byte("u280");
	every_road();
	other_state();
	return done_testing();
}
