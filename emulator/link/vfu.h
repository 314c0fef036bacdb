/* SPDX-License-Identifier: MIT */
/*
 * The server's side of vfio-user: one client at a time plugs a card in over a UNIX socket.
 *
 *	struct vfu *vfu = vfu_new();
 *	struct card_host host = { .interrupt = vfu_interrupt, .opaque = vfu };
 *	card_new(&options, &host, &card, error);
 *	vfu_plug(vfu, card);
 *	vfu_connect(vfu, socket);
 *	while (poll(socket, vfu_wants(vfu)) && !vfu_serve(vfu))
 *		;
 *	vfu_disconnect(vfu);
 *
 * Threads: one owner, which never waits in here. Only vfu_interrupt() may be called from any
 * thread.
 */
#ifndef FLIGHTLLM_VFU_H
#define FLIGHTLLM_VFU_H

#include "emulator/card.h"

struct vfu;

/* NULL with errno: ENOMEM, or what vfu_event_init() says. */
struct vfu *vfu_new(void);

/*
 * Disconnects, if need be. The card must be gone or at rest: it may call vfu_interrupt() until
 * then.
 */
void vfu_free(struct vfu *vfu);

/* Once, before the first client. The card stays the caller's. 0 or -errno. */
int vfu_plug(struct vfu *vfu, struct card *card);

/* Takes over the socket. */
void vfu_connect(struct vfu *vfu, int socket);

/* Events to poll the socket for: POLLIN, or POLLOUT while the client does not take an answer. */
short vfu_wants(const struct vfu *vfu);

/*
 * Answers messages as far as it can without waiting. Returns 0; 1 when the client has left; or
 * -EPROTO when the client must be dropped, and then vfu_complaint() says why.
 */
int vfu_serve(struct vfu *vfu);
const char *vfu_complaint(const struct vfu *vfu);

/* Closes the socket, takes memory and interrupts back from the card and resets it. */
void vfu_disconnect(struct vfu *vfu);

/* Before another client, when the card is ready: new files for its BARs. 0 or -errno. */
int vfu_renew(struct vfu *vfu);

/* For struct card_host; opaque is a struct vfu. */
void vfu_interrupt(void *opaque, unsigned int vector);

#endif
