/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The network device through PCI: against a backend that records frames, and
 * against libslirp with a guest that speaks ARP, DHCP, UDP and TCP by hand.
 */
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include "bus/dev_testing.h"
#include "bus/vboard.h"
#include "device/virtio_net.h"

#define F_CSUM       BIT64(0)
#define F_GUEST_CSUM BIT64(1)
#define F_TSO4       BIT64(11)
#define F_MRG        BIT64(15)
#define F_ANNOUNCE   BIT64(21)
#define F_CTRL       (BIT64(17) | BIT64(18) | BIT64(23))

#define HDR   12u
#define RXBUF 1600u

static const u8 mac[6] = {0x02, 0, 0, 0, 0, 1};

/* A backend that keeps the last frame and can be made to deliver. */
struct fake {
	struct net n;
	u8 frame[NET_FRAME_MAX];
	u32 len;
	u32 sent, flushes, readies; /* atomic */
};

static int fake_start(struct net *n, struct loop *l, struct err *e)
{
	(void)n;
	(void)l;
	(void)e;
	return 0;
}

static void fake_send(struct net *n, const u8 *frame, size_t len)
{
	struct fake *f = (struct fake *)n;

	memcpy(f->frame, frame, len);
	f->len = (u32)len;
	__atomic_add_fetch(&f->sent, 1, __ATOMIC_SEQ_CST);
}

static void fake_flush(struct net *n)
{
	__atomic_add_fetch(&((struct fake *)n)->flushes, 1, __ATOMIC_SEQ_CST);
}

static void fake_ready(struct net *n)
{
	__atomic_add_fetch(&((struct fake *)n)->readies, 1, __ATOMIC_SEQ_CST);
}

static void fake_free(struct net *n)
{
	(void)n;
}

static const struct net_ops fake_ops = {
	.start = fake_start,
	.send = fake_send,
	.flush = fake_flush,
	.ready = fake_ready,
	.free = fake_free,
};

struct rig {
	struct vboard *b;
	struct virtio *v;
	struct vfn f;
	struct vdrv_queue q[3];
	struct fake *fake;
	u64 rx, tx; /* buffers */
	u8 host_mac[6];
};

static struct rig *rig_new(struct net *net)
{
	struct rig *r = calloc(1, sizeof(*r));

	r->b = vboard_new(NULL);
	if (!net) {
		r->fake = calloc(1, sizeof(*r->fake));
		r->fake->n = (struct net){
			.ops = &fake_ops, .mtu = 1500, .large = true};
		net = &r->fake->n;
	}
	r->v = vnet_new(&r->b->mem, net, mac, false, NULL);
	assert_non_null(r->v);
	r->f = vboard_add(r->b, r->v);
	r->rx = vboard_buf(r->b, 64 * RXBUF);
	r->tx = vboard_buf(r->b, 128 * KIB);
	return r;
}

static void rig_free(struct rig *r)
{
	vboard_free(r->b);
	free(r);
}

static void rig_go(struct rig *r, u64 features, unsigned nrx, u32 rxlen)
{
	vfn_msix(&r->f, 4);
	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1 | features));
	for (unsigned i = 0; i < 3; i++)
		vfn_queue(&r->f, i, 64, &r->q[i]);
	vfn_go(&r->f);
	for (unsigned i = 0; i < nrx; i++) {
		struct vdrv_buf b = {r->rx + RXBUF * i, rxlen, true};

		vdrv_add(&r->q[0], &b, 1);
	}
	vfn_kick(&r->f, 0);
}

/* Sends header and frame in two pieces, and waits until it is taken. */
static void send_with(struct rig *r, const u8 header[HDR], const void *frame,
		      u32 len)
{
	struct vdrv_buf b[2] = {{r->tx, HDR, false}, {r->tx + 64, len, false}};
	u32 got;

	memcpy(vboard_ptr(r->b, r->tx), header, HDR);
	memcpy(vboard_ptr(r->b, r->tx + 64), frame, len);
	vdrv_add(&r->q[1], b, 2);
	vfn_kick(&r->f, 1);
	assert_int_not_equal(vdrv_wait(&r->q[1], &got, 3000), -1);
}

static void send_frame(struct rig *r, const void *frame, u32 len)
{
	static const u8 none[HDR];

	send_with(r, none, frame, len);
}

static bool deliver(struct rig *r, const void *frame, size_t len)
{
	bool ok = r->fake->n.recv(r->fake->n.recv_arg, frame, len);

	r->fake->n.recv_end(r->fake->n.recv_arg);
	return ok;
}

static void test_config(void **state)
{
	struct rig *r = rig_new(NULL);

	(void)state;
	assert_int_equal(vfn_cfg(&r->f, 0, 4), 0x10411af4);
	assert_int_equal(vfn_get(&r->f, r->f.config, 4), 0x00000002);
	assert_int_equal(vfn_get(&r->f, r->f.config + 4, 4), 0x00010100);
	assert_int_equal(vfn_get(&r->f, r->f.config + 8, 4), 0x05dc0001);
	/* large segments need checksums */
	assert_false(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1 | F_TSO4));
	rig_go(r, BIT64(16), 0, 0);
	vfn_put(&r->f, r->f.common + VFN_CONFIG_VECTOR, 0, 2);
	vnet_link(r->v, false);
	assert_int_equal(r->b->msis[0], 1);
	assert_int_equal(vfn_get(&r->f, r->f.config + 6, 2), 0);
	rig_free(r);
}

static void test_send(void **state)
{
	struct rig *r = rig_new(NULL);
	static const u8 none[HDR];
	u8 frame[100];

	(void)state;
	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (u8)i;
	rig_go(r, VIRTIO_F_RING_PACKED, 0, 0);
	send_frame(r, frame, 100);
	assert_int_equal(r->fake->len, 100);
	assert_memory_equal(r->fake->frame, frame, 100);
	assert_true(vboard_until(&r->fake->flushes, 1, 1000));
	/* too short, too long, not agreed */
	send_frame(r, frame, 13);
	send_frame(r, vboard_ptr(r->b, r->rx), NET_FRAME_MAX + 1);
	send_with(r, (u8[HDR]){1, 1}, frame, 100);
	assert_int_equal(r->fake->sent, 1);
	send_with(r, none, frame, 14);
	assert_int_equal(r->fake->sent, 2);
	vnet_link(r->v, false);
	send_frame(r, frame, 100);
	assert_int_equal(r->fake->sent, 2);
	rig_free(r);
}

/* csum_start and csum_offset as given; the sum over it all is then all ones. */
static void test_checksum(void **state)
{
	struct rig *r = rig_new(NULL);
	u8 frame[101];

	(void)state;
	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (u8)(i * 37);
	rig_go(r, F_CSUM, 0, 0);
	frame[50] = 0x12; /* pseudo header */
	frame[51] = 0x34;
	send_with(r, (u8[HDR]){1, 0, 0, 0, 0, 0, 34, 0, 16, 0}, frame, 101);
	assert_int_equal(r->fake->sent, 1);
	frame[50] = 0;
	frame[51] = 0;
	assert_memory_equal(r->fake->frame, frame, 50);
	assert_memory_equal(r->fake->frame + 52, frame + 52, 49);
	assert_int_equal(
		(u16)~net_sum_fold(net_sum(r->fake->frame + 34, 67, 0)),
		(u16)~net_sum_fold(0x1234 ^ 0xffff));
	/* outside the frame */
	send_with(r, (u8[HDR]){1, 0, 0, 0, 0, 0, 101, 0, 0, 0}, frame, 101);
	send_with(r, (u8[HDR]){1, 0, 0, 0, 0, 0, 34, 0, 66, 0}, frame, 101);
	send_with(r, (u8[HDR]){1, 0, 0, 0, 0, 0, 255, 255, 255, 255}, frame,
		  101);
	assert_int_equal(r->fake->sent, 1);
	send_with(r, (u8[HDR]){1, 0, 0, 0, 0, 0, 34, 0, 65, 0}, frame, 101);
	assert_int_equal(r->fake->sent, 2);
	rig_free(r);
}

static void test_receive(void **state)
{
	static const u64 modes[] = {0, VIRTIO_F_EVENT_IDX, VIRTIO_F_RING_PACKED,
				    VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX};
	u8 frame[1514];

	(void)state;
	for (unsigned i = 0; i < sizeof(frame); i++)
		frame[i] = (u8)(i * 7);
	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		struct rig *r = rig_new(NULL);
		u32 len;

		rig_go(r, modes[m] | F_GUEST_CSUM, 2, RXBUF);
		for (unsigned lap = 0; lap < 200; lap++) {
			struct vdrv_buf b;
			u8 *p;
			int id;

			assert_true(deliver(r, frame, 60 + lap));
			id = vdrv_wait(&r->q[0], &len, 1000);
			assert_int_not_equal(id, -1);
			assert_int_equal(len, HDR + 60 + lap);
			b = (struct vdrv_buf){r->rx + RXBUF * (u64)id, RXBUF,
					      true};
			p = vboard_ptr(r->b, b.gpa);
			assert_int_equal(p[0], 2);
			assert_int_equal(p[10], 1);
			assert_memory_equal(p + HDR, frame, 60 + lap);
			vdrv_add(&r->q[0], &b, 1);
			vfn_kick(&r->f, 0);
		}
		rig_free(r);
	}
}

static void test_no_buffers(void **state)
{
	static const u64 modes[] = {0, VIRTIO_F_EVENT_IDX,
				    VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX};
	u8 frame[300] = {0};
	u32 len;

	(void)state;
	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		struct rig *r = rig_new(NULL);
		struct vdrv_buf b = {r->rx + 2 * RXBUF, 110, true};

		/* two buffers of 110 are no room for 312 */
		rig_go(r, modes[m] | F_MRG, 2, 110);
		usleep(2000);
		r->fake->readies = 0;
		assert_false(deliver(r, frame, 300));
		assert_int_equal(vdrv_wait(&r->q[0], &len, 10), -1);
		vdrv_add(&r->q[0], &b, 1);
		vfn_kick(&r->f, 0);
		assert_true(vboard_until(&r->fake->readies, 1, 2000));
		assert_true(deliver(r, frame, 300));
		assert_int_not_equal(vdrv_wait(&r->q[0], &len, 1000), -1);
		assert_int_equal(len, 110);
		assert_int_equal(((u8 *)vboard_ptr(r->b, r->rx))[10], 3);
		assert_int_not_equal(vdrv_wait(&r->q[0], &len, 0), -1);
		assert_int_not_equal(vdrv_wait(&r->q[0], &len, 0), -1);
		assert_int_equal(len, 92);
		/* without merging a buffer that is too small loses the frame */
		rig_go(r, modes[m], 2, 110);
		assert_true(deliver(r, frame, 300));
		assert_int_equal(vdrv_wait(&r->q[0], &len, 10), -1);
		assert_true(deliver(r, frame, 98));
		assert_int_not_equal(vdrv_wait(&r->q[0], &len, 1000), -1);
		rig_free(r);
	}
}

static u8 command(struct rig *r, const void *cmd, u32 len)
{
	struct vdrv_buf b[2] = {{r->tx, len, false}, {r->tx + 512, 1, true}};
	u8 *ack = vboard_ptr(r->b, r->tx + 512);
	u32 got;

	*ack = 0xee;
	memcpy(vboard_ptr(r->b, r->tx), cmd, len);
	vdrv_add(&r->q[2], b, 2);
	vfn_kick(&r->f, 2);
	assert_int_not_equal(vdrv_wait(&r->q[2], &got, 3000), -1);
	assert_int_equal(got, 1);
	return *ack;
}

/* A frame that comes while the machine is loaded or saved is not lost. */
static void test_paused(void **state)
{
	struct rig *r = rig_new(NULL);
	u8 frame[60] = {1, 2, 3};
	int before;

	(void)state;
	rig_go(r, 0, 4, RXBUF);
	virtio_pause(r->v);
	before = r->fake->readies;
	assert_false(deliver(r, frame, sizeof(frame)));
	virtio_resume(r->v);
	assert_true(vboard_until(&r->fake->readies, before + 1, 3000));
	assert_true(deliver(r, frame, sizeof(frame)));
	rig_free(r);
}

static void test_control(void **state)
{
	struct rig *r = rig_new(NULL);

	(void)state;
	rig_go(r, F_CTRL, 0, 0);
	assert_int_equal(command(r, "\0\0\1", 3), 0);
	assert_int_equal(command(r, "\0\6\1", 3), 1);
	assert_int_equal(command(r, "\0\0", 2), 1);
	assert_int_equal(command(r, "\1\1\2\3\4\5\6\7", 8), 0);
	assert_int_equal(vfn_get(&r->f, r->f.config, 4), 0x05040302);
	assert_int_equal(command(r, "\1\1\2\3\4\5\6", 7), 1);
	assert_int_equal(command(r, "\4\0\1\0", 4), 1);
	assert_int_equal(command(r, "\1", 1), 1);
	vfn_set_status(&r->f, 0);
	assert_int_equal(vfn_get(&r->f, r->f.config, 4), 0x00000002);
	rig_free(r);
}

static void test_announce(void **state)
{
	struct rig *r = rig_new(NULL);

	(void)state;
	vnet_announce(r->v); /* nobody listens yet */
	rig_go(r, F_CTRL | F_ANNOUNCE, 0, 0);
	assert_int_equal(vfn_get(&r->f, r->f.config + 6, 2), 1);
	vnet_announce(r->v);
	assert_int_equal(vfn_get(&r->f, r->f.config + 6, 2), 3);
	assert_int_equal(command(r, "\3\0", 2), 0);
	assert_int_equal(vfn_get(&r->f, r->f.config + 6, 2), 1);
	rig_free(r);
}

/* A clone's address: for the driver at once, and after a reset too. */
static void test_new_mac(void **state)
{
	static const u8 other[6] = {0x02, 9, 8, 7, 6, 5};
	struct rig *r = rig_new(NULL);
	u8 was[6];

	(void)state;
	rig_go(r, F_CTRL, 0, 0);
	vfn_put(&r->f, r->f.common + VFN_CONFIG_VECTOR, 0, 2);
	vnet_set_mac(r->v, other, was);
	assert_memory_equal(was, mac, 6);
	assert_int_equal(r->b->msis[0], 1);
	assert_int_equal(vfn_get(&r->f, r->f.config, 4), 0x07080902);
	vfn_set_status(&r->f, 0);
	assert_int_equal(vfn_get(&r->f, r->f.config, 4), 0x07080902);
	vnet_mac(r->v, was);
	assert_memory_equal(was, other, 6);
	rig_free(r);
}

static void test_class(void **state)
{
	struct rig *r = rig_new(NULL);

	(void)state;
	dev_test(&(struct dev_test){
		.dev = &r->v->dev,
		.range = {{0x5000, &vfn_bar_ops, &r->f}},
	});
	rig_free(r);
}

/* ---- with libslirp ---- */

static void put16(u8 *p, unsigned v)
{
	p[0] = (u8)(v >> 8);
	p[1] = (u8)v;
}

static void put32(u8 *p, u32 v)
{
	put16(p, v >> 16);
	put16(p + 2, v);
}

static u32 get32(const u8 *p)
{
	return (u32)p[0] << 24 | (u32)p[1] << 16 | (u32)p[2] << 8 | p[3];
}

/* The next frame that comes, without its virtio header; its length, or 0. */
static u32 receive(struct rig *r, u8 *out, unsigned ms)
{
	u32 len;
	int id = vdrv_wait(&r->q[0], &len, ms);
	struct vdrv_buf b;

	if (id < 0)
		return 0;
	b = (struct vdrv_buf){r->rx + RXBUF * (u64)id, RXBUF, true};
	memcpy(out, (u8 *)vboard_ptr(r->b, b.gpa) + HDR, len - HDR);
	vdrv_add(&r->q[0], &b, 1);
	vfn_kick(&r->f, 0);
	return len - HDR;
}

/* The next IPv4 frame of this protocol, answering ARP on the way. */
static u32 receive_ip(struct rig *r, u8 protocol, u8 *out)
{
	for (unsigned tries = 0; tries < 50; tries++) {
		u32 len = receive(r, out, 3000);

		if (!len)
			return 0;
		if (out[12] == 8 && out[13] == 6 && out[21] == 1) {
			memcpy(out, out + 6, 6);
			memcpy(out + 6, mac, 6);
			out[21] = 2;
			memcpy(out + 32, out + 22, 10);
			memcpy(out + 22, mac, 6);
			put32(out + 28, 0x0a00020f);
			send_frame(r, out, 42);
		}
		if (out[12] == 8 && out[13] == 0 && out[23] == protocol)
			return len;
	}
	return 0;
}

static struct rig *slirp_rig(u64 features, const char *forward)
{
	struct err e = {""};
	struct net *n = net_user_new(&forward, forward ? 1 : 0, &e);
	struct rig *r;

	assert_string_equal(e.text, "");
	r = rig_new(n);
	rig_go(r, features, 32, RXBUF);
	return r;
}

static void arp(struct rig *r)
{
	static const u8 ask[42] = {
		0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2, 0, 0, 0, 0,  1, 8, 6,
		0,    1,    8,    0,    6,    4,    0, 1, 2, 0, 0,  0, 0, 1,
		10,   0,    2,    15,   0,    0,    0, 0, 0, 0, 10, 0, 2, 2};
	u8 in[RXBUF];

	send_frame(r, ask, 42);
	assert_true(receive(r, in, 3000) >= 42);
	assert_int_equal(in[21], 2);
	assert_int_equal(get32(in + 28), 0x0a000202);
	memcpy(r->host_mac, in + 22, 6);
}

static void test_arp(void **state)
{
	struct rig *r = slirp_rig(0, NULL);

	(void)state;
	arp(r);
	rig_free(r);
}

/* Ethernet and IPv4 headers around n bytes of payload at f + 34. */
static u32 ip_header(struct rig *r, u8 *f, u8 protocol, u32 to, u32 n)
{
	memset(f, 0, 34);
	memcpy(f, r->host_mac, 6);
	memcpy(f + 6, mac, 6);
	f[12] = 8;
	f[14] = 0x45;
	put16(f + 16, 20 + n);
	f[22] = 64;
	f[23] = protocol;
	put32(f + 26, 0x0a00020f);
	put32(f + 30, to);
	put16(f + 24, net_sum_fold(net_sum(f + 14, 20, 0)));
	return 34 + n;
}

/* The checksum field gets what a driver leaves there: the pseudo header. */
static void pseudo(u8 *f, unsigned field, u8 protocol, u32 n)
{
	u32 sum = net_sum(f + 26, 8, protocol + n);

	put16(f + field, (u16)~net_sum_fold(sum));
}

static void test_dhcp(void **state)
{
	struct rig *r = slirp_rig(F_CSUM, NULL);
	u8 f[400] = {0}, in[RXBUF], *d = f + 42;
	u32 len;

	(void)state;
	memset(r->host_mac, 0xff, 6);
	d[0] = 1;
	d[1] = 1;
	d[2] = 6;
	put32(d + 4, 0x12345678);
	memcpy(d + 28, mac, 6);
	put32(d + 236, 0x63825363);
	memcpy(d + 240, "\x35\1\1\xff", 4);
	put16(f + 34, 68);
	put16(f + 36, 67);
	put16(f + 38, 8 + 300);
	len = ip_header(r, f, 17, 0xffffffff, 8 + 300);
	put32(f + 26, 0);
	put16(f + 24, 0);
	put16(f + 24, net_sum_fold(net_sum(f + 14, 20, 0)));
	pseudo(f, 40, 17, 308);
	send_with(r, (u8[HDR]){1, 0, 0, 0, 0, 0, 34, 0, 6, 0}, f, len);
	assert_true(receive_ip(r, 17, in) > 282);
	assert_int_equal(in[42], 2);
	assert_int_equal(get32(in + 46), 0x12345678);
	assert_int_equal(get32(in + 58), 0x0a00020f);
	rig_free(r);
}

struct tcp {
	u16 local, remote;
	u32 to, seq, ack;
};

static void tcp_send(struct rig *r, struct tcp *t, u8 flags, const void *data,
		     u32 n, bool large)
{
	u8 *f = calloc(1, 54 + n);
	u8 h[HDR] = {1, 0, 54, 0, 0, 0, 34, 0, 16, 0};
	u32 len = ip_header(r, f, 6, t->to, 20 + n);

	put16(f + 34, t->local);
	put16(f + 36, t->remote);
	put32(f + 38, t->seq);
	put32(f + 42, t->ack);
	f[46] = 0x50;
	f[47] = flags;
	put16(f + 48, 60000);
	if (n)
		memcpy(f + 54, data, n);
	pseudo(f, 50, 6, 20 + n);
	if (large) {
		h[1] = 1;
		h[4] = 0xb4; /* 1460 */
		h[5] = 5;
	}
	send_with(r, h, f, len);
	t->seq += n + !!(flags & 2);
	free(f);
}

static int listener(u16 *port)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t n = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM, 0);

	assert_int_equal(bind(fd, (void *)&a, sizeof(a)), 0);
	assert_int_equal(listen(fd, 1), 0);
	getsockname(fd, (void *)&a, &n);
	*port = ntohs(a.sin_port);
	return fd;
}

static void read_all(int fd, u8 *out, size_t n)
{
	struct timeval tv = {3, 0};

	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	assert_int_equal(recv(fd, out, n, MSG_WAITALL), (ssize_t)n);
}

/* The guest connects to a server of the host and sends, the last time in one
 * large segment with its checksum left to the device. */
static void test_tcp(void **state)
{
	struct rig *r = slirp_rig(F_CSUM | F_TSO4, NULL);
	struct tcp t = {.local = 4000, .to = 0x0a000202, .seq = 1000};
	u8 in[RXBUF], big[20000], out[20000];
	int l = listener(&t.remote), fd;

	(void)state;
	for (unsigned i = 0; i < sizeof(big); i++)
		big[i] = (u8)(i * 31 >> 3);
	arp(r);
	tcp_send(r, &t, 2, NULL, 0, false);
	assert_true(receive_ip(r, 6, in) >= 54);
	assert_int_equal(in[47] & 0x12, 0x12);
	assert_int_equal(get32(in + 42), 1001);
	t.ack = get32(in + 38) + 1;
	tcp_send(r, &t, 0x10, NULL, 0, false);
	fd = accept(l, NULL, NULL);
	assert_true(fd >= 0);
	tcp_send(r, &t, 0x18, "hello", 5, false);
	read_all(fd, out, 5);
	assert_memory_equal(out, "hello", 5);
	tcp_send(r, &t, 0x18, big, sizeof(big), true);
	read_all(fd, out, sizeof(big));
	assert_memory_equal(out, big, sizeof(big));
	/* and back */
	assert_int_equal(send(fd, "answer", 6, 0), 6);
	do
		assert_true(receive_ip(r, 6, in) >= 54);
	while (!(in[47] & 8));
	assert_memory_equal(in + 54, "answer", 6);
	close(fd);
	close(l);
	rig_free(r);
}

/* A client of the host reaches a server in the guest. */
static void test_forward(void **state)
{
	struct sockaddr_in a = {.sin_family = AF_INET,
				.sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct tcp t = {.local = 80, .to = 0x0a000202, .seq = 5000};
	u8 in[RXBUF], out[16];
	char text[40];
	struct rig *r;
	u16 port;
	int fd = listener(&port);

	(void)state;
	close(fd); /* very likely still free */
	snprintf(text, sizeof(text), "tcp:%u:80", port);
	r = slirp_rig(F_CSUM, text);
	arp(r);
	fd = socket(AF_INET, SOCK_STREAM, 0);
	a.sin_port = htons(port);
	assert_int_equal(connect(fd, (void *)&a, sizeof(a)), 0);
	assert_true(receive_ip(r, 6, in) >= 54);
	assert_int_equal(in[47], 2);
	assert_int_equal(in[37] | in[36] << 8, 80);
	t.remote = (u16)(in[34] << 8 | in[35]);
	t.to = get32(in + 26);
	t.ack = get32(in + 38) + 1;
	tcp_send(r, &t, 0x12, NULL, 0, false);
	tcp_send(r, &t, 0x18, "from guest", 10, false);
	read_all(fd, out, 10);
	assert_memory_equal(out, "from guest", 10);
	close(fd);
	rig_free(r);
}

static void test_forward_syntax(void **state)
{
	static const char *const bad[] = {"",
					  "tcp",
					  "tcp:80",
					  "tcp:80:x",
					  "sctp:80:80",
					  "tcp:0:80",
					  "tcp:80:0",
					  "tcp:65536:80",
					  "tcp:1:2:3",
					  "tcp:80:1.2.3:80",
					  "tcp:1:1.2.3.4:2:3",
					  "tcp:-1:80",
					  "tcp:80:80x",
					  "tcp: 80:80"};
	struct net_forward f;
	struct err e;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		assert_true(net_forward_parse(bad[i], &f, &e) < 0);
		assert_non_null(strstr(e.text, "form"));
	}
	assert_int_equal(net_forward_parse("udp:5353:53", &f, &e), 0);
	assert_true(f.udp);
	assert_int_equal(f.host, 5353);
	assert_int_equal(f.guest, 53);
	assert_int_equal(f.address, htonl(0x7f000001));
	assert_int_equal(net_forward_parse("tcp:8080:0.0.0.0:80", &f, &e), 0);
	assert_int_equal(f.address, 0);
	assert_int_equal(net_forward_parse("tcp:10.1.2.3:8080:80", &f, &e), 0);
	assert_int_equal(f.address, htonl(0x0a010203));
	assert_int_equal(f.host, 8080);
}

/* A port that is taken is a sentence, not a surprise later. */
static void test_forward_taken(void **state)
{
	char text[40];
	const char *p = text;
	struct err e = {""};
	u16 port;
	int fd = listener(&port);

	(void)state;
	snprintf(text, sizeof(text), "tcp:%u:80", port);
	assert_null(net_user_new(&p, 1, &e));
	assert_non_null(strstr(e.text, "cannot forward"));
	close(fd);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_send),
		cmocka_unit_test(test_checksum),
		cmocka_unit_test(test_receive),
		cmocka_unit_test(test_no_buffers),
		cmocka_unit_test(test_paused),
		cmocka_unit_test(test_control),
		cmocka_unit_test(test_announce),
		cmocka_unit_test(test_new_mac),
		cmocka_unit_test(test_class),
		cmocka_unit_test(test_arp),
		cmocka_unit_test(test_dhcp),
		cmocka_unit_test(test_tcp),
		cmocka_unit_test(test_forward),
		cmocka_unit_test(test_forward_syntax),
		cmocka_unit_test(test_forward_taken),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
