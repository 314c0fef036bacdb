// SPDX-License-Identifier: MIT
/*
 * A card that breaks, as flightllm-emu --faults makes it: what its client hears and how soon, what
 * another client notices, and that the next one finds a card that works, or one that says it is
 * gone. FLIGHTLLM_FAULTS is a list like the emulator's, in the order of the turns. The card counts
 * its jobs and interrupts since power-on, so this program must be the first to use it, counts
 * along, and runs plain jobs until the turn of each fault has come. tests/vm/faults.sh boots it.
 */
#include <linux/sync_file.h>
#include <pthread.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "tests/patience.h"
#include "tests/tap.h"
#include "tests/uapi/client.h"

/* Statuses and kinds of fault, as numbers of the header and of SPEC.md. */
enum { DONE = 1, FAULT = 5, RESET = 6, LOST = 7 };
enum { DMA = 6, INTERNAL = 19 };

struct bench {
	struct client broken, other;	/* one core each */
	unsigned long jobs;		/* begun since power-on */
};

/* One job of a client, its fence in *sync. */
static uint64_t submit(struct bench *b, struct client *client, uint32_t *sync)
{
	struct drm_flightllm_sync out = { .handle = syncobj_create(&client->dev) };
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_submit args = {
		.queue = client->queue, .jobs = (uintptr_t)&job, .job_count = 1,
		.job_stride = sizeof(job), .out_syncs = (uintptr_t)&out, .out_count = 1,
		.out_stride = sizeof(out),
	};

	memset(job_ring(&client->job), 0, CLIENT_TOKENS * sizeof(uint32_t));
	must(CALL(&client->dev, SUBMIT, &args), "SUBMIT");
	b->jobs++;
	*sync = out.handle;
	return args.seqno;
}

static bool works(struct bench *b, struct client *client)
{
	b->jobs++;
	return client_works(client);
}

/* A syncobj's fence as a sync file, which outlives the device. */
static int fence_open(struct seam *dev, uint32_t sync)
{
	struct drm_syncobj_handle export = {
		.handle = sync, .flags = DRM_SYNCOBJ_HANDLE_TO_FD_FLAGS_EXPORT_SYNC_FILE, .fd = -1,
	};

	must(DRM(dev, SYNCOBJ_HANDLE_TO_FD, &export), "exporting a sync file");
	return export.fd;
}

/* 1 signalled, 0 not yet, or the fence's error. */
static int fence_file_status(int fd)
{
	struct sync_file_info info = { 0 };

	if (ioctl(fd, SYNC_IOC_FILE_INFO, &info))
		must(-errno, "SYNC_IOC_FILE_INFO");
	return info.status;
}

/* WAIT can be told of an end before the scheduler is, and with it the fence: UNTIL(). */
static int fence_status(struct seam *dev, uint32_t sync)
{
	int fd = fence_open(dev, sync), status = fence_file_status(fd);

	close(fd);
	return status;
}

static struct drm_flightllm_fault_query query_faults(struct client *client)
{
	struct drm_flightllm_fault_query query = { .context = client->context };

	must(CALL(&client->dev, FAULT_QUERY, &query), "FAULT_QUERY");
	return query;
}

static bool is_lost(struct client *client)
{
	struct drm_flightllm_job job = run_job();

	return query_faults(client).lost == 1 &&
	       _submit(&client->dev, client->queue, &job, 1, NULL) == -ECANCELED;
}

/* Destroys what a reset of the card has lost, and makes it anew in the same file. */
static void renew(struct client *client)
{
	struct drm_flightllm_context_destroy context = { .id = client->context };

	must(_queue_destroy(&client->dev, client->queue), "QUEUE_DESTROY");
	must(CALL(&client->dev, CONTEXT_DESTROY, &context), "CONTEXT_DESTROY");
	client_renew(client);
}

/* A client that makes a buffer in card memory meanwhile: the card is to clear it. */
struct maker {
	pthread_t thread;
	struct seam *dev;
	int ret;
};

static void *make_buffer(void *opaque)
{
	struct maker *maker = opaque;
	struct drm_flightllm_bo_create args = {
		.size = 2 << 20, .placement = DRM_FLIGHTLLM_BO_HBM,
	};

	maker->ret = CALL(maker->dev, BO_CREATE, &args);
	return NULL;
}

static void start(pthread_t *thread, void *(*run)(void *opaque), void *opaque)
{
	must(-pthread_create(thread, NULL, run, opaque), "pthread_create");
}

/* ---- One kind each; the next job, or interrupt, is the broken one ---- */

static void lost_interrupt(struct bench *b)
{
	struct client *c = &b->broken;
	uint64_t before = query_counters(&c->dev).interrupts, seqno;
	double began = seconds();
	uint32_t sync;

	seqno = submit(b, c, &sync);
	ok(client_has_tokens(c, seqno) && UNTIL(fence_status(&c->dev, sync) == 1),
	   "a job whose interrupt is lost ends all the same, with its tokens");
	ok(seconds() - began < 10, "within ten seconds (%.1f)", seconds() - began);
	ok(query_counters(&c->dev).interrupts == before, "and there was no interrupt");
}

static void late_interrupt(struct bench *b)
{
	struct client *c = &b->broken;
	uint64_t before = query_counters(&c->dev).interrupts;
	uint32_t *ring = job_ring(&c->job), sync;

	submit(b, c, &sync);
	ok(UNTIL(__atomic_load_n(&ring[CLIENT_TOKENS - 1], __ATOMIC_ACQUIRE) == TOKEN &&
		 fence_status(&c->dev, sync) == 1),
	   "a job whose interrupt is late has its tokens, and ends");
	must(_queue_destroy(&c->dev, c->queue), "QUEUE_DESTROY");
	ok(fence_status(&c->dev, sync) == 1, "a job that ended before its queue is destroyed ended well");
	ok(UNTIL(query_counters(&c->dev).interrupts == before + 1),
	   "its interrupt comes when the queue has gone");
	c->queue = queue_create_on(&c->dev, c->context, DRM_FLIGHTLLM_QUEUE_COMPUTE, c->cores, 1);
	ok(works(b, c), "and disturbs nobody");
}

/* The job ends with this record; nothing else is touched by it. */
static void expect_fault(struct bench *b, const char *what, uint32_t kind, uint32_t core,
			 uint32_t unit, uint32_t entry)
{
	struct client *c = &b->broken;
	struct drm_flightllm_fault_query clear = {
		.context = c->context, .flags = DRM_FLIGHTLLM_FAULT_CLEAR,
	};
	struct drm_flightllm_fault_query first;
	struct drm_flightllm_wait end;
	uint64_t seqno;
	uint32_t sync;

	seqno = submit(b, c, &sync);
	end = wait_end(&c->dev, c->queue, seqno);
	ok(end.status == FAULT && end.fault.kind == kind && end.fault.core == core &&
		   end.fault.unit == unit && end.fault.entry == entry,
	   "%s is a fault of kind %u, core %u, unit %u, entry %u", what, kind, core, unit, entry);
	ok(UNTIL(fence_status(&c->dev, sync) == -EIO), "the fence of that job says -EIO");
	first = query_faults(c);
	ok(first.count == 1 && first.queue == c->queue && first.seqno == seqno &&
		   !memcmp(&first.fault, &end.fault, sizeof(end.fault)) && !first.lost,
	   "its context has the same record");
	must(CALL(&c->dev, FAULT_QUERY, &clear), "FAULT_QUERY");
	ok(works(b, c) && works(b, &b->other), "the queue goes on with its next job");
}

static void dma_error(struct bench *b)
{
	expect_fault(b, "a host address that does not answer", DMA, 0, 255, 255);
}

static void bad_completion(struct bench *b)
{
	expect_fault(b, "a completion of which every bit is 1", INTERNAL, 255, 255, 255);
}

static void hang(struct bench *b)
{
	struct client *c = &b->broken;
	struct drm_flightllm_query_health before = query_health(&c->dev), after;
	struct drm_flightllm_wait end;
	double began = seconds();
	uint64_t seqno;
	uint32_t sync;

	seqno = submit(b, c, &sync);
	pause_ms(100);
	ok(works(b, &b->other) && fence_status(&c->dev, sync) == 0,
	   "while a job hangs another client's cores work");
	end = wait_end(&c->dev, c->queue, seqno);
	ok(end.status == RESET && !end.fault.kind, "a job that hangs ends with RESET");
	ok(seconds() - began < 20, "within twenty seconds (%.1f)", seconds() - began);
	ok(UNTIL(fence_status(&c->dev, sync) == -ECANCELED), "its fence says -ECANCELED");
	after = query_health(&c->dev);
	ok(after.queue_resets == before.queue_resets + 1 &&
		   after.card_resets == before.card_resets && !query_faults(c).lost,
	   "its queue was reset, and nothing else");
	ok(works(b, c) && works(b, &b->other), "the same queue goes on");
}

/* Every context of a card that was reset is lost; job `seqno` of the first client was on it. */
static void expect_card_reset(struct bench *b, const char *what, uint64_t seqno, uint32_t sync,
			      double began, uint32_t resets)
{
	struct client *c = &b->broken, *other = &b->other;

	ok(wait_end(&c->dev, c->queue, seqno).status == LOST, "%s: its job is lost", what);
	ok(seconds() - began < 28, "within 28 seconds (%.1f)", seconds() - began);
	ok(UNTIL(fence_status(&c->dev, sync) == -ECANCELED), "the fence says -ECANCELED");
	ok(UNTIL(!query_health(&c->dev).state) && query_health(&c->dev).card_resets == resets + 1,
	   "the card was reset once, and is ready");
	ok(is_lost(c) && is_lost(other), "every context is lost, and says so");
	b->jobs++;
	ok(new_client_works(), "the next client works");
	renew(c);
	renew(other);
	ok(works(b, c) && works(b, other), "and so do old files with new contexts");
}

static void dead_heartbeat(struct bench *b)
{
	uint32_t sync, other_sync, resets = query_health(&b->broken.dev).card_resets;
	uint64_t seqno = submit(b, &b->broken, &sync), other_seqno;
	struct maker maker = { .dev = &b->other.dev };
	double began = seconds();

	/* The heart must have stopped; that it is taken for dead takes ten seconds. */
	pause_ms(1000);
	start(&maker.thread, make_buffer, &maker);
	other_seqno = submit(b, &b->other, &other_sync);
	b->jobs--;	/* on a dead card it does not begin */
	ok(wait_end(&b->other.dev, b->other.queue, other_seqno).status == LOST &&
		   UNTIL(fence_status(&b->other.dev, other_sync) == -ECANCELED),
	   "a job that a dead card has not begun is lost");
	pthread_join(maker.thread, NULL);
	ok(maker.ret == -EBUSY, "a buffer that it did not clear is -EBUSY");
	expect_card_reset(b, "a card without a heartbeat", seqno, sync, began, resets);
}

/* What a bystander of a queue's end sees at the moment at which the last job's end is told. */
struct witness {
	struct client *client;
	uint64_t seqno;
	uint32_t resets;
	bool is_cut_off;
};

static void *bear_witness(void *opaque)
{
	struct witness *w = opaque;
	struct drm_flightllm_query_health health;

	wait_end(&w->client->dev, w->client->queue, w->seqno);
	health = query_health(&w->client->dev);
	w->is_cut_off = health.state || health.card_resets > w->resets;
	return NULL;
}

static void deaf(struct bench *b)
{
	struct client *c = &b->broken;
	uint32_t sync, resets = query_health(&c->dev).card_resets, queue = c->queue;
	struct witness witness = { .client = c, .resets = resets };
	struct drm_flightllm_fault_query faults;
	double began = seconds();
	pthread_t thread;

	witness.seqno = submit(b, c, &sync);
	start(&thread, bear_witness, &witness);
	pause_ms(200);
	ok(works(b, &b->other), "while a job is deaf another client's cores work");
	ok(!_queue_destroy(&c->dev, queue), "a queue that does not answer its reset is destroyed");
	pthread_join(thread, NULL);
	ok(witness.is_cut_off, "when its end is told the card cannot write any more");
	ok(UNTIL(fence_status(&c->dev, sync) == -ECANCELED), "its fence says -ECANCELED");
	UNTIL(query_health(&c->dev).card_resets != resets);
	UNTIL(!query_health(&c->dev).state);
	faults = query_faults(c);
	ok(faults.lost == 1 && is_lost(&b->other), "the card is reset, every context is lost");
	ok(seconds() - began < 20, "within twenty seconds (%.1f)", seconds() - began);
	client_renew(c);
	renew(&b->other);
	ok(works(b, c) && works(b, &b->other), "new contexts work");
}

/* The PCI core's own reset, while a queue is there that does not stop for it. */
static void function_level_reset(struct bench *b)
{
	uint32_t sync, resets = query_health(&b->broken.dev).card_resets;
	uint64_t seqno = submit(b, &b->broken, &sync);
	double began = seconds();
	char name[32], path[96];

	pause_ms(100);
	pci_name(name);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", name);
	ok(!write_file(path, "1"), "a card with a deaf queue can be reset by its function");
	expect_card_reset(b, "after it", seqno, sync, began, resets);
}

/* The driver leaves a card with a queue that does not stop, and with a job that waits for it. */
static void unbinding(struct bench *b)
{
	struct client *c = &b->broken;
	uint32_t behind = queue_create_on(&c->dev, c->context, DRM_FLIGHTLLM_QUEUE_COMPUTE, 2, 1);
	struct drm_flightllm_sync in = { 0 }, out = { .handle = syncobj_create(&c->dev) };
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_submit args = {
		.queue = behind, .jobs = (uintptr_t)&job, .job_count = 1,
		.job_stride = sizeof(job), .in_syncs = (uintptr_t)&in, .in_count = 1,
		.in_stride = sizeof(in), .out_syncs = (uintptr_t)&out, .out_count = 1,
		.out_stride = sizeof(out),
	};
	struct drm_flightllm_wait wait = { .queue = c->queue, .seqno = 1 };
	double began = seconds();
	int first, second;
	char name[32];

	submit(b, c, &in.handle);
	must(CALL(&c->dev, SUBMIT, &args), "SUBMIT");
	first = fence_open(&c->dev, in.handle);
	second = fence_open(&c->dev, out.handle);
	pause_ms(100);
	pci_name(name);
	ok(!write_file("/sys/bus/pci/drivers/flightllm/unbind", name),
	   "the driver can leave a card with a deaf queue");
	ok(seconds() - began < 20, "within twenty seconds (%.1f)", seconds() - began);
	ok(UNTIL(fence_file_status(first) == -ECANCELED), "the fence of its job says -ECANCELED");
	ok(UNTIL(fence_file_status(second) == -ECANCELED),
	   "that of a job that the card never had says -ECANCELED");
	ok(CALL(&c->dev, WAIT, &wait) == -ENODEV &&
		   _submit(&b->other.dev, b->other.queue, &job, 1, NULL) == -ENODEV,
	   "every call is -ENODEV");
	close(first);
	close(second);
	device_close(&c->dev);
	device_close(&b->other.dev);
	ok(!write_file("/sys/bus/pci/drivers/flightllm/bind", name), "it can be bound again");
	client_open(c, 1);
	client_open(&b->other, 2);
	ok(works(b, c) && works(b, &b->other), "and works");
}

static void removal(struct bench *b)
{
	struct client *c = &b->broken;
	struct drm_flightllm_bo_create bo = { .size = 4096, .placement = DRM_FLIGHTLLM_BO_HOST };
	struct drm_flightllm_queue_create queue = { .context = c->context };
	struct drm_flightllm_query_counters counters;
	struct drm_flightllm_context_create context = { 0 };
	struct maker maker = { .dev = &b->other.dev };
	struct drm_flightllm_job job = run_job();
	double began = seconds();
	uint64_t seqno;
	uint32_t sync;

	seqno = submit(b, c, &sync);
	ok(UNTIL(_query(&c->dev, DRM_FLIGHTLLM_QUERY_COUNTERS, &counters, sizeof(counters)) ==
		 -EIO), "counters of a card that was pulled out are -EIO");
	start(&maker.thread, make_buffer, &maker);
	ok(wait_end(&c->dev, c->queue, seqno).status == LOST,
	   "a job on a card that is pulled out is lost");
	pthread_join(maker.thread, NULL);
	ok(maker.ret == -EIO, "a buffer that it did not clear is -EIO");
	ok(seconds() - began < 28, "within 28 seconds (%.1f)", seconds() - began);
	ok(UNTIL(fence_status(&c->dev, sync) == -ECANCELED), "its fence says -ECANCELED");
	ok(UNTIL(query_health(&c->dev).state == 2), "the card has failed for good");
	ok(query_faults(c).lost == 1, "its contexts are lost");
	ok(_submit(&c->dev, c->queue, &job, 1, NULL) == -EIO &&
		   CALL(&c->dev, BO_CREATE, &bo) == -EIO &&
		   CALL(&c->dev, CONTEXT_CREATE, &context) == -EIO &&
		   CALL(&c->dev, QUEUE_CREATE, &queue) == -EIO &&
		   _query(&c->dev, DRM_FLIGHTLLM_QUERY_COUNTERS, &counters, sizeof(counters)) ==
			   -EIO,
	   "what needs the card is -EIO");
	ok(!_queue_destroy(&c->dev, c->queue) && !_bo_close(&c->dev, c->job.handle),
	   "what is left can be freed");
}

/* ---- Their order ---- */

static const struct {
	const char *name;
	void (*run)(struct bench *b);
} kinds[] = {
	{ "lost-interrupt", lost_interrupt }, { "late-interrupt", late_interrupt },
	{ "dma-error", dma_error }, { "bad-completion", bad_completion }, { "hang", hang },
	{ "deaf", deaf }, { "dead-heartbeat", dead_heartbeat }, { "removal", removal },
	/* With the emulator's deaf. */
	{ "flr", function_level_reset }, { "unbind", unbinding },
};

/* Runs what the first entry of a list NAME@N,.. names, at its turn; returns the rest of it. */
static const char *run_first(struct bench *b, const char *list)
{
	size_t length = strcspn(list, "@");
	unsigned long turn = list[length] ? strtoul(list + length + 1, NULL, 10) : 1;
	bool good = true;

	for (unsigned int i = 0; i < sizeof(kinds) / sizeof(kinds[0]); i++) {
		if (strlen(kinds[i].name) != length || strncmp(kinds[i].name, list, length))
			continue;
		while (b->jobs + 1 < turn)
			good &= works(b, &b->broken);
		if (ok(good && b->jobs + 1 == turn, "%s: the jobs before are done", kinds[i].name))
			kinds[i].run(b);
		list += strcspn(list, ",");
		return *list ? list + 1 : list;
	}
	ok(false, "'%s' begins with no fault that is known here", list);
	return "";
}

int main(void)
{
	const char *list = getenv("FLIGHTLLM_FAULTS");
	struct bench bench = { .jobs = 0 };

	if (!list) {
		printf("1..0 # SKIP the card is sound; tests/vm/faults.sh boots one that is not\n");
		return 0;
	}
	client_open(&bench.broken, 1);
	client_open(&bench.other, 2);
	while (*list)
		list = run_first(&bench, list);
	device_close(&bench.other.dev);
	device_close(&bench.broken.dev);
	return done_testing();
}
