/* SPDX-License-Identifier: MIT */
/*
 * One client and its usual job, for the tests that break something and then ask who noticed:
 *
 *	client_open(&client, 0);
 *	... something ends badly ...
 *	EXPECT_TRUE(client_works(&client));
 */
#ifndef TESTS_UAPI_CLIENT_H
#define TESTS_UAPI_CLIENT_H

#include <fcntl.h>
#include <unistd.h>

#include "tests/uapi/uapi.h"

#define CLIENT_TOKENS 20

struct client {
	struct seam dev;
	uint32_t cores;		/* mask, 0: all */
	uint32_t context, queue;
	struct job job;
};

/* The job anew, after something else was written there. */
static inline void client_write(struct client *client)
{
	uint32_t cores = client->cores ? (uint32_t)__builtin_popcount(client->cores) :
					 query_card(&client->dev).cores;

	job_write(&client->job, cores, 1, CLIENT_TOKENS);
}

/* A context and a queue in place of lost ones, which are the caller's to destroy. */
static inline void client_renew(struct client *client)
{
	client->context = context_create(&client->dev);
	client->queue = queue_create_on(&client->dev, client->context,
					DRM_FLIGHTLLM_QUEUE_COMPUTE, client->cores, 1);
	client_write(client);
	job_bind(&client->dev, client->context, &client->job);
}

static inline void client_open(struct client *client, uint32_t cores)
{
	device_open(&client->dev);
	client->cores = cores;
	job_new(&client->dev, &client->job);
	client_renew(client);
}

/* What job `seqno` made is what it should be. */
static inline bool client_has_tokens(struct client *client, uint64_t seqno)
{
	if (wait_end(&client->dev, client->queue, seqno).made != CLIENT_TOKENS)
		return false;
	for (int i = 0; i < CLIENT_TOKENS; i++)
		if (job_ring(&client->job)[i] != TOKEN)
			return false;
	return true;
}

/* Twenty tokens, exact. */
static inline bool client_works(struct client *client)
{
	struct drm_flightllm_job job = run_job();
	uint64_t seqno;

	memset(job_ring(&client->job), 0, CLIENT_TOKENS * sizeof(uint32_t));
	return !_submit(&client->dev, client->queue, &job, 1, &seqno) &&
	       client_has_tokens(client, seqno);
}

static inline bool new_client_works(void)
{
	struct client client;
	bool works;

	client_open(&client, 0);
	works = client_works(&client);
	device_close(&client.dev);
	return works;
}

/* ---- Its card on the bus ---- */

static inline int write_file(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY);
	int ret = fd < 0 ? -errno : 0;

	if (fd >= 0) {
		if (write(fd, text, strlen(text)) < 0)
			ret = -errno;
		close(fd);
	}
	return ret;
}

/* The card's address on the bus, from the node that the library found. */
static inline void pci_name(char name[32])
{
	uint32_t pci;
	struct seam dev;

	device_open(&dev);
	pci = query_card(&dev).pci;
	device_close(&dev);
	snprintf(name, 32, "%04x:%02x:%02x.%x", pci >> 16, pci >> 8 & 0xff, pci >> 3 & 0x1f,
		 pci & 7);
}

#endif
