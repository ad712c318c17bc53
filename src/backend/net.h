/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Network backends: what stands behind a network device. Frames are Ethernet,
 * without checksum.
 *
 * net_start() binds a backend to a loop; everything else happens on that
 * loop's thread. send() must not call recv(): what it provokes arrives later.
 */
#ifndef BACKEND_NET_H
#define BACKEND_NET_H

#include "base/err.h"
#include "base/loop.h"
#include "base/types.h"

#define NET_HEADER    14u /* Ethernet */
#define NET_FRAME_MAX (NET_HEADER + 4 + 65535u)

struct net;

struct net_ops {
	int (*start)(struct net *n, struct loop *l, struct err *e);
	/* A frame from the guest, with all checksums. */
	void (*send)(struct net *n, const u8 *frame, size_t len);
	void (*flush)(struct net *n); /* the end of a batch */
	/* recv() takes frames again. Any thread. */
	void (*ready)(struct net *n);
	void (*free)(struct net *n); /* all but the struct */
};

struct net {
	const struct net_ops *ops;
	u16 mtu;
	bool large; /* send() takes TCP segments of up to 64 KiB */
	/* Receiver, set by the device. False: no room; the backend keeps the
	 * frame, or drops it, until ready(). */
	bool (*recv)(void *arg, const u8 *frame, size_t len);
	void (*recv_end)(void *arg); /* the end of a batch */
	void *recv_arg;
};

static inline int net_start(struct net *n, struct loop *l, struct err *e)
{
	return n->ops->start(n, l, e);
}

void net_free(struct net *n);

/*
 * The Internet checksum (RFC 1071) of data, its start value sum. Fold gives
 * what goes on the wire.
 */
u32 net_sum(const u8 *data, size_t len, u32 sum);
u16 net_sum_fold(u32 sum);

/*
 * User-mode network by libslirp: the guest is 10.0.2.15 by DHCP behind a NAT,
 * 10.0.2.2 is the host, 10.0.2.3 a name server. No privileges.
 *
 * forwards: "tcp:HOST:GUEST" or "udp:...", where HOST is a port of 127.0.0.1,
 * or with an address "tcp:HOST:ADDRESS:GUEST".
 */
struct net *net_user_new(const char *const *forwards, unsigned nforwards,
			 struct err *e);

struct net_forward {
	bool udp;
	u32 address; /* network order */
	u16 host, guest;
};
int net_forward_parse(const char *text, struct net_forward *f, struct err *e);

#endif
