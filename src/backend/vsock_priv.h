/* SPDX-License-Identifier: BSD-2-Clause */
/* What the two halves of the virtio socket backend share: packets (vsock.c)
 * and UNIX sockets (vsock_unix.c). */
#ifndef BACKEND_VSOCK_PRIV_H
#define BACKEND_VSOCK_PRIV_H

#include <sys/queue.h>

#include "backend/vsock.h"

#define VSOCK_BUCKETS 64u
#define VSOCK_RESETS  64u /* that wait; more are dropped */

#define VSOCK_GREETING 24u /* "CONNECT 4294967295\r\n" and some */

enum vconn_state {
	VCONN_GREETING,  /* a program of the host has not yet said where to */
	VCONN_REQUESTED, /* the guest was asked */
	VCONN_OPEN,
	VCONN_LINGER, /* the host's end is gone: the guest's RST is awaited */
	VCONN_DRAIN,  /* the guest's end is gone: the rest is written */
};

/* Packets that wait, in the order in which they go. */
enum {
	VCONN_SEND_REQUEST = BIT(0),
	VCONN_SEND_RESPONSE = BIT(1),
	VCONN_SEND_RW = BIT(2), /* the socket may be readable */
	VCONN_SEND_SHUTDOWN = BIT(3),
	VCONN_SEND_CREDIT = BIT(4),
	VCONN_SEND_ASK = BIT(5), /* for credit */
	VCONN_SEND_RST = BIT(6), /* and the end of it */
};

struct vconn {
	struct vsock *s;
	LIST_ENTRY(vconn) bucket;
	TAILQ_ENTRY(vconn) all, ready;
	enum vconn_state state;
	u32 host_port, guest_port;
	char greeting[VSOCK_GREETING + 1];
	u8 greeted;
	int fd; /* -1: closed */
	struct loop_fd *watch;
	u32 events;  /* watched for */
	u32 pending; /* VCONN_SEND_*; in the ready list if not 0 */
	bool eof;    /* the host sends no more */
	bool hung;   /* nor reads */
	bool dry;    /* waits for credit */
	u8 shut;     /* what the guest gave up: VSOCK_SHUT_* */
	/* Credit (5.10.6.3): bytes that came from the guest, of these written
	 * on, and as the guest was last told; then the guest's own. */
	u32 rx_cnt, fwd_cnt, told;
	u32 tx_cnt, peer_alloc, peer_fwd;
	u8 *buf; /* VSOCK_BUFFER bytes that wait for the socket, or NULL */
	u32 at, len;
};

struct vsock_key {
	u32 host_port, guest_port;
};

struct vsock {
	struct vsock_front f;
	int dir; /* the folder of the socket */
	char name[64];
	int listen; /* -1: not ours */
	struct loop_fd *watch;
	LIST_HEAD(vconn_bucket, vconn) bucket[VSOCK_BUCKETS];
	TAILQ_HEAD(vconn_list, vconn) all, ready;
	unsigned nconns;
	u32 next_port;
	struct vsock_key reset[VSOCK_RESETS];
	unsigned nresets;
	bool up, drop;
	u64 dropped; /* packets; for people */
};

/* vsock.c */
/* fd is taken over, also on failure; NULL: too many. */
struct vconn *vconn_new(struct vsock *s, int fd, enum vconn_state state);
void vconn_key(struct vconn *c, u32 host_port, u32 guest_port);
struct vconn *vconn_find(struct vsock *s, u32 host_port, u32 guest_port);
void vconn_free(struct vconn *c);
void vconn_send(struct vconn *c, u32 what);
/* The host's end is gone: the guest is told. */
void vconn_hang_up(struct vconn *c);
/* The socket takes more. */
void vconn_flush(struct vconn *c);
/* What the socket is watched for, by the state. */
void vconn_watch(struct vconn *c);
/* On the loop's thread: what vsock_drop() left to do. */
void vsock_settle(struct vsock *s);

/* vsock_unix.c */
int vsock_connect(struct vsock *s, u32 port); /* to PATH_PORT; fd or -errno */
void vconn_event(void *arg, u32 events);
/* The guest has taken the stream. */
void vconn_accepted(struct vconn *c);

#endif
