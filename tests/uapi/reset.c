// SPDX-License-Identifier: MIT
/*
 * How things end: queues with work, processes that are killed, a card that is reset or unbound.
 * After each of them the next client finds the card as if nothing had been.
 */
#include <fcntl.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include "kselftest_harness.h"

#include "tests/uapi/client.h"

#define MIB (1ull << 20)

static void submit_endless(struct client *client, uint32_t count)
{
	struct drm_flightllm_job jobs[256];

	job_make_endless(&client->job);
	for (uint32_t i = 0; i < count; i++)
		jobs[i] = run_job();
	must(_submit(&client->dev, client->queue, jobs, count, NULL), "SUBMIT");
	usleep(50000);
}

/* A process with a client that has endless work and these buffers besides, all at work by now. */
static pid_t start_client(uint32_t placement, uint32_t buffers, uint64_t bytes, uint32_t jobs)
{
	int pipes[2];
	pid_t child;
	char byte;

	must(pipe(pipes) ? -errno : 0, "pipe");
	child = fork();
	must(child < 0 ? -errno : 0, "fork");
	if (!child) {
		struct client client;

		client_open(&client, 0);
		for (uint32_t i = 0; i < buffers; i++)
			bo_create(&client.dev, placement, 0, bytes, 0);
		submit_endless(&client, jobs);
		if (write(pipes[1], "x", 1) != 1)
			_exit(1);
		pause();
		_exit(0);
	}
	close(pipes[1]);
	must(read(pipes[0], &byte, 1) == 1 ? 0 : -EPIPE, "hearing of the other client");
	close(pipes[0]);
	return child;
}

static uint64_t all_free(struct seam *dev)
{
	struct drm_flightllm_query_memory memory = query_memory(dev);
	uint64_t sum = 0;

	for (uint32_t i = 0; i < memory.count; i++)
		sum += memory.regions[i].free;
	return sum;
}

FIXTURE(reset) {
	struct client client;
};

FIXTURE_SETUP(reset)
{
	client_open(&self->client, 0);
}

FIXTURE_TEARDOWN(reset)
{
	device_close(&self->client.dev);
}

TEST_F(reset, destroying_a_queue_ends_its_jobs)
{
	struct client *c = &self->client;
	uint32_t syncobj;
	struct drm_syncobj_wait wait = { .count_handles = 1, .timeout_nsec = in_ms(10000) };

	submit_endless(c, 8);
	if (!is_emulated()) {
		struct drm_flightllm_sync out = { .handle = syncobj_create(&c->dev) };
		struct drm_flightllm_job job = run_job();
		struct drm_flightllm_submit args = {
			.queue = c->queue, .jobs = (uintptr_t)&job, .job_count = 1,
			.job_stride = sizeof(job), .out_syncs = (uintptr_t)&out, .out_count = 1,
			.out_stride = sizeof(out),
		};

		ASSERT_EQ(0, CALL(&c->dev, SUBMIT, &args));
		syncobj = out.handle;
		wait.handles = (uintptr_t)&syncobj;
	}
	ASSERT_EQ(0, _queue_destroy(&c->dev, c->queue));
	EXPECT_EQ(-ENOENT, _wait(&c->dev, c->queue, 1, 0, 0, NULL));
	if (!is_emulated())
		EXPECT_EQ(0, DRM(&c->dev, SYNCOBJ_WAIT, &wait));
	client_write(c);
	c->queue = queue_create(&c->dev, c->context, DRM_FLIGHTLLM_QUEUE_COMPUTE);
	EXPECT_TRUE(client_works(c));
}

TEST_F(reset, a_waiter_is_told_when_its_queue_is_destroyed)
{
	struct client *c = &self->client;
	struct drm_flightllm_wait out;
	pid_t child;

	if (is_emulated())
		SKIP(return, "needs a second thread of the kernel");
	submit_endless(c, 100);
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		usleep(1000000);
		_exit(_queue_destroy(&c->dev, c->queue) ? 1 : 0);
	}
	ASSERT_EQ(0, _wait(&c->dev, c->queue, 100, 0, in_ms(20000), &out));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_RESET, out.status);
	EXPECT_EQ(child, waitpid(child, NULL, 0));
}

TEST_F(reset, others_do_not_notice_a_hostile_client)
{
	struct client hostile;

	client_open(&hostile, 0);
	submit_endless(&hostile, 16);
	for (int i = 0; i < 20; i++)
		EXPECT_TRUE(client_works(&self->client));
	device_close(&hostile.dev);
	EXPECT_TRUE(client_works(&self->client));
}

/* No watchdog that counts instructions ends one: 2 s of card time without a point do. */
TEST_F(reset, a_job_of_one_instruction_of_hours_is_reset_and_others_go_on)
{
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_wait out;
	struct client hostile;
	struct flm_stream *stream;
	uint32_t *words;

	if (is_emulated())
		SKIP(return, "it is the kernel that judges");
	client_open(&hostile, 0);
	words = (uint32_t *)(hostile.job.memory + JOB_STREAMS + 0x400);
	put_misc(words, FLM_MISC_FILL, 65536, 0);
	ASSERT_EQ(0, FLM_PUT(words, MISC, ROWS, 0xffffff) ||
		     FLM_PUT(words, MISC, ROWS_MAX, 0xffffff));
	words[FLM_WORDS_MISC] = END_WORD;
	stream = &job_program(&hostile.job)->entry[0].stream[FLM_UNIT_MISC];
	stream->offset = JOB_STREAMS + 0x400;
	stream->words = FLM_WORDS_MISC + 1;
	ASSERT_EQ(0, _submit(&hostile.dev, hostile.queue, &job, 1, NULL));
	usleep(50000);
	/* On the same cores: its turn comes when the other has lost its own. */
	EXPECT_TRUE(client_works(&self->client));
	ASSERT_EQ(0, _wait(&hostile.dev, hostile.queue, 1, 0, in_ms(60000), &out));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_RESET, out.status);
	EXPECT_EQ(0, out.made);
	client_write(&hostile);
	EXPECT_EQ(0, _submit(&hostile.dev, hostile.queue, &job, 1, NULL));
	ASSERT_EQ(0, _wait(&hostile.dev, hostile.queue, 2, 0, in_ms(60000), &out));
	EXPECT_EQ(CLIENT_TOKENS, out.made);
	device_close(&hostile.dev);
}

TEST_F(reset, a_killed_client_leaves_nothing_behind)
{
	struct seam *dev = &self->client.dev;
	uint64_t before = all_free(dev);

	if (is_emulated())
		SKIP(return, "needs a process of its own");
	for (int round = 0; round < 4; round++) {
		uint32_t placement = round % 2 ? DRM_FLIGHTLLM_BO_DDR : DRM_FLIGHTLLM_BO_HBM;
		pid_t child = start_client(placement, 2, 4 * MIB, 1 + 20 * round);

		kill(child, SIGKILL);
		ASSERT_EQ(child, waitpid(child, NULL, 0));
	}
	/* Work that the card still had is reset; the buffers go with it. */
	for (int i = 0; i < 200 && all_free(dev) != before; i++)
		usleep(50000);
	EXPECT_EQ(before, all_free(dev));
	EXPECT_TRUE(client_works(&self->client));
}

TEST_F(reset, a_function_level_reset_loses_contexts_and_nothing_else)
{
	struct client *c = &self->client;
	struct drm_flightllm_fault_query query = { .context = c->context };
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_binding none = { .core = DRM_FLIGHTLLM_CORE_ALL };
	struct drm_flightllm_queue_create create = { .context = c->context };
	struct drm_flightllm_wait out;
	char name[32], path[96];

	if (is_emulated())
		SKIP(return, "there is no bus");
	pci_name(name);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/reset", name);
	submit_endless(c, 5);
	ASSERT_EQ(0, write_file(path, "1"));
	ASSERT_EQ(0, _wait(&c->dev, c->queue, 5, 0, in_ms(30000), &out));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_LOST, out.status);
	EXPECT_EQ(-ECANCELED, _submit(&c->dev, c->queue, &job, 1, NULL));
	EXPECT_EQ(-ECANCELED, _bind(&c->dev, c->context, &none, 1));
	EXPECT_EQ(-ECANCELED, CALL(&c->dev, QUEUE_CREATE, &create));
	ASSERT_EQ(0, CALL(&c->dev, FAULT_QUERY, &query));
	EXPECT_EQ(1, query.lost);
	EXPECT_TRUE(new_client_works());
	/* The same file goes on with a new context; its buffers are still there. */
	ASSERT_EQ(0, _queue_destroy(&c->dev, c->queue));
	client_renew(c);
	EXPECT_TRUE(client_works(c));
}

TEST_F(reset, a_queue_that_halts_is_reset_and_goes_on)
{
	struct client *c = &self->client;
	uint32_t queues = query_card(&c->dev).queues + 1;
	struct drm_flightllm_wait out;
	volatile uint8_t *doorbells;
	char name[32], path[96];
	int fd;

	if (is_emulated())
		SKIP(return, "there is no bus");
	pci_name(name);
	snprintf(path, sizeof(path), "/sys/bus/pci/devices/%s/resource4", name);
	fd = open(path, O_RDWR);
	ASSERT_LE(0, fd);
	doorbells = mmap(NULL, queues * 4096, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (doorbells == MAP_FAILED)
		SKIP(return, "doorbells are the driver's alone; boot with iomem=relaxed");
	submit_endless(c, 23);
	/* The queue that has 23 posts is ours; now it says that it has more than its ring holds. */
	for (uint32_t q = 0; q < queues; q++) {
		volatile uint32_t *tail = (volatile uint32_t *)(doorbells + q * 4096);

		if (*tail == 23)
			*tail = 100000;
	}
	ASSERT_EQ(0, _wait(&c->dev, c->queue, 23, 0, in_ms(20000), &out));
	EXPECT_EQ(DRM_FLIGHTLLM_STATUS_RESET, out.status);
	client_write(c);
	EXPECT_TRUE(client_works(c));
	munmap((void *)doorbells, queues * 4096);
}

TEST_F(reset, unbinding_with_work_in_flight_leaves_files_that_say_so)
{
	struct client *c = &self->client;
	struct drm_flightllm_job job = run_job();
	struct drm_flightllm_bo_create create = {
		.size = 4096, .placement = DRM_FLIGHTLLM_BO_HOST,
	};
	int own_memory = open("/proc/self/mem", O_RDWR);
	volatile uint32_t *hbm;
	uint32_t handle, word;
	char name[32];

	if (is_emulated())
		SKIP(return, "there is no bus");
	pci_name(name);
	handle = bo_create(&c->dev, DRM_FLIGHTLLM_BO_HBM, 0, 2 * MIB, DRM_FLIGHTLLM_BO_VISIBLE);
	hbm = bo_memory(&c->dev, handle, 2 * MIB);
	hbm[0] = 1;
	submit_endless(c, 20);
	ASSERT_EQ(0, write_file("/sys/bus/pci/drivers/flightllm/unbind", name));
	EXPECT_EQ(-ENODEV, _submit(&c->dev, c->queue, &job, 1, NULL));
	EXPECT_EQ(-ENODEV, CALL(&c->dev, BO_CREATE, &create));
	/* The mappings are still there, of nothing that anybody else has. */
	hbm[0] = 2;
	job_ring(&c->job)[0] = 3;
	/* Nor does a debugger reach the card, or pages that were its. */
	EXPECT_EQ(-1, pread(own_memory, &word, 4, (uintptr_t)hbm));
	EXPECT_EQ(-1, pread(own_memory, &word, 4, (uintptr_t)job_ring(&c->job)));
	close(own_memory);
	ASSERT_EQ(0, write_file("/sys/bus/pci/drivers/flightllm/bind", name));
	EXPECT_TRUE(new_client_works());
	EXPECT_EQ(-ENODEV, _submit(&c->dev, c->queue, &job, 1, NULL));
}

/* Its buffers go while the driver takes back what the card could reach. */
TEST_F(reset, unbinding_meets_a_client_that_dies)
{
	char name[32];

	if (is_emulated())
		SKIP(return, "there is no bus");
	pci_name(name);
	for (int round = 0; round < 6; round++) {
		pid_t child = start_client(DRM_FLIGHTLLM_BO_HOST, 6, 16 * MIB, 3);

		kill(child, SIGKILL);
		usleep(1000 * round);
		ASSERT_EQ(0, write_file("/sys/bus/pci/drivers/flightllm/unbind", name));
		ASSERT_EQ(child, waitpid(child, NULL, 0));
		ASSERT_EQ(0, write_file("/sys/bus/pci/drivers/flightllm/bind", name));
		EXPECT_TRUE(new_client_works());
	}
}

TEST_HARNESS_MAIN
