/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The host's side of a virtio socket device (virtio 1.2, 5.10): streams
 * between ports of the guest and UNIX sockets, as Firecracker has them. A
 * program of the host connects to PATH, says "CONNECT PORT\n" and reads
 * "OK NUMBER\n" when the guest has taken the stream. A guest that connects to
 * port P of the host (CID 2) reaches whoever listens at PATH_P.
 *
 * Everything is on the loop's thread with the device's lock held, unless said
 * otherwise. The guest is hostile: connections, bytes held for each and
 * answers that wait are bounded; who breaks the rules of credit is reset.
 */
#ifndef BACKEND_VSOCK_H
#define BACKEND_VSOCK_H

#include <pthread.h>

#include "base/err.h"
#include "base/loop.h"
#include "base/types.h"

#define VSOCK_PAYLOAD_MAX 65536u  /* of one packet */
#define VSOCK_CONNS       512u    /* at once */
#define VSOCK_BUFFER      131072u /* from the guest, of each */
#define VSOCK_CID_HOST    2u
#define VSOCK_CID_MIN     3u
#define VSOCK_CID_MAX     0x7fffffffu

/* As on the wire (5.10.6), little-endian. */
struct vsock_hdr {
	u64 src_cid, dst_cid;
	u32 src_port, dst_port, len;
	u16 type, op;
	u32 flags, buf_alloc, fwd_cnt;
} __attribute__((packed));

enum { VSOCK_STREAM = 1 };
enum {
	VSOCK_REQUEST = 1,
	VSOCK_RESPONSE,
	VSOCK_RST,
	VSOCK_SHUTDOWN,
	VSOCK_RW,
	VSOCK_CREDIT_UPDATE,
	VSOCK_CREDIT_REQUEST,
};
enum { VSOCK_SHUT_RECEIVE = 1, VSOCK_SHUT_SEND = 2 };

struct vsock;

/* What the device gives a backend. */
struct vsock_front {
	struct loop *loop;
	pthread_mutex_t *lock;
	u32 cid;
	void (*ready)(void *arg); /* vsock_next() has something */
	void *arg;
};

/*
 * Listens at path, whose folder must exist; a socket that nobody listens at
 * any more is replaced. Any thread, no lock. vsock_free() removes the path.
 */
struct vsock *vsock_new(const char *path, struct err *e);
void vsock_free(struct vsock *s); /* the loop does not run; NULL is nothing */
int vsock_start(struct vsock *s, const struct vsock_front *f, struct err *e);

/* A packet of the guest and its h->len bytes. */
void vsock_packet(struct vsock *s, const struct vsock_hdr *h, const u8 *data);
/* May vsock_next() have one? */
bool vsock_pending(const struct vsock *s);
/* The next packet for the guest, with at most room bytes; false: none. */
bool vsock_next(struct vsock *s, struct vsock_hdr *h, u8 *data, u32 room);
/* The guest's driver is there, or not: without it all streams end and new ones
 * are refused. Any thread, lock held. */
void vsock_up(struct vsock *s, bool up);
/* All streams end, without a word to the guest. Any thread, lock held. */
void vsock_drop(struct vsock *s);

/* A random CID: unique enough among machines that never meet. */
u32 vsock_cid_draw(void);

#endif
