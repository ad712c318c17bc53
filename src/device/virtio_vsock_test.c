/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The socket device through PCI, with real UNIX sockets on one side and a
 * driver by hand on the other.
 */
#include <errno.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include <cmocka.h>

#include "bus/dev_testing.h"
#include "bus/vboard.h"
#include "device/virtio_vsock.h"

#define CID   77u
#define HDR   44u
#define RXBUF 4096u
#define NRX   32u

struct rig {
	struct vboard *b;
	struct virtio *v;
	struct vfn f;
	struct vdrv_queue q[3];
	u64 rx, tx;
	char dir[32], path[48];
};

static struct rig *rig_new(void)
{
	struct rig *r = calloc(1, sizeof(*r));
	struct err e = {""};
	struct vsock *s;

	strcpy(r->dir, "/tmp/vsock-test-XXXXXX");
	assert_non_null(mkdtemp(r->dir));
	snprintf(r->path, sizeof(r->path), "%s/v", r->dir);
	s = vsock_new(r->path, &e);
	assert_string_equal(e.text, "");
	r->b = vboard_new(NULL);
	r->v = vvs_new(&r->b->mem, s, CID, &e);
	assert_non_null(r->v);
	r->f = vboard_add(r->b, r->v);
	r->rx = vboard_buf(r->b, NRX * RXBUF);
	r->tx = vboard_buf(r->b, 256 * KIB);
	return r;
}

static void rig_free(struct rig *r)
{
	vboard_free(r->b);
	/* the socket went with it */
	assert_int_equal(rmdir(r->dir), 0);
	free(r);
}

static void give(struct rig *r, unsigned i)
{
	struct vdrv_buf b = {r->rx + RXBUF * i, RXBUF, true};

	vdrv_add(&r->q[0], &b, 1);
}

static struct rig *rig_go(u64 features, unsigned nrx)
{
	struct rig *r = rig_new();

	vfn_msix(&r->f, 4);
	assert_true(vfn_negotiate(&r->f, VIRTIO_F_VERSION_1 | features));
	for (unsigned i = 0; i < 3; i++)
		vfn_queue(&r->f, i, 64, &r->q[i]);
	vfn_go(&r->f);
	for (unsigned i = 0; i < nrx; i++)
		give(r, i);
	vfn_kick(&r->f, 0);
	return r;
}

/* ---- the guest ---- */

static void say(struct rig *r, const struct vsock_hdr *h, const void *data,
		u32 len)
{
	struct vdrv_buf b[2] = {{r->tx, HDR, false},
				{r->tx + 64, MAX(len, 1u), false}};
	u32 got;

	memcpy(vboard_ptr(r->b, r->tx), h, HDR);
	if (len)
		memcpy(vboard_ptr(r->b, r->tx + 64), data, len);
	vdrv_add(&r->q[1], b, len ? 2 : 1);
	vfn_kick(&r->f, 1);
	assert_int_not_equal(vdrv_wait(&r->q[1], &got, 3000), -1);
}

static struct vsock_hdr head(u16 op, u32 guest, u32 host)
{
	return (struct vsock_hdr){
		.src_cid = CID,
		.dst_cid = 2,
		.src_port = guest,
		.dst_port = host,
		.type = VSOCK_STREAM,
		.op = op,
		.buf_alloc = 65536,
	};
}

static void say_op(struct rig *r, u16 op, u32 guest, u32 host)
{
	struct vsock_hdr h = head(op, guest, host);

	say(r, &h, NULL, 0);
}

static void say_data(struct rig *r, u32 guest, u32 host, const void *data,
		     u32 len)
{
	struct vsock_hdr h = head(VSOCK_RW, guest, host);

	h.len = len;
	say(r, &h, data, len);
}

/* The next packet; data may be NULL. op 0: none came. */
static struct vsock_hdr hear(struct rig *r, u8 *data)
{
	struct vsock_hdr h = {0};
	u32 len;
	int id = vdrv_wait(&r->q[0], &len, 2000);

	if (id < 0)
		return h;
	memcpy(&h, vboard_ptr(r->b, r->rx + RXBUF * (u32)id), HDR);
	assert_int_equal(len, HDR + h.len);
	if (data)
		memcpy(data, vboard_ptr(r->b, r->rx + RXBUF * (u32)id + HDR),
		       h.len);
	give(r, (unsigned)id);
	vfn_kick(&r->f, 0);
	return h;
}

static struct vsock_hdr expect(struct rig *r, u16 op, u32 guest, u32 host)
{
	struct vsock_hdr h = hear(r, NULL);

	assert_int_equal(h.op, op);
	assert_int_equal(h.src_cid, 2);
	assert_int_equal(h.dst_cid, CID);
	assert_int_equal(h.type, VSOCK_STREAM);
	assert_int_equal(h.dst_port, guest);
	if (host)
		assert_int_equal(h.src_port, host);
	return h;
}

static bool silent(struct rig *r)
{
	u32 len;

	return vdrv_wait(&r->q[0], &len, 30) < 0;
}

/* ---- the host ---- */

static int host_socket(const char *path, bool listens)
{
	struct sockaddr_un a = {.sun_family = AF_UNIX};
	struct timeval tv = {3, 0};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	snprintf(a.sun_path, sizeof(a.sun_path), "%s", path);
	if (listens) {
		assert_int_equal(bind(fd, (void *)&a, sizeof(a)), 0);
		assert_int_equal(listen(fd, 600), 0);
	} else {
		assert_int_equal(connect(fd, (void *)&a, sizeof(a)), 0);
	}
	setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &tv, sizeof(tv));
	return fd;
}

static int listener(struct rig *r, u32 port, char path[64])
{
	snprintf(path, 64, "%s_%u", r->path, port);
	return host_socket(path, true);
}

static void must_read(int fd, const void *want, size_t n)
{
	u8 *buf = malloc(n);

	assert_int_equal(recv(fd, buf, n, MSG_WAITALL), (ssize_t)n);
	assert_memory_equal(buf, want, n);
	free(buf);
}

/* The other end has gone, cleanly or not. */
static void must_end(int fd)
{
	char c;

	assert_true(recv(fd, &c, 1, 0) <= 0 && errno != EAGAIN);
}

/* A stream to the guest's port 5; the host's port. */
static int connect_guest(struct rig *r, u32 *host)
{
	int fd = host_socket(r->path, false);
	struct vsock_hdr h;
	char ok[24];

	assert_int_equal(send(fd, "CONNECT 5\n", 10, 0), 10);
	h = expect(r, VSOCK_REQUEST, 5, 0);
	assert_int_equal(h.buf_alloc, VSOCK_BUFFER);
	*host = h.src_port;
	say_op(r, VSOCK_RESPONSE, 5, *host);
	snprintf(ok, sizeof(ok), "OK %u\n", *host);
	must_read(fd, ok, strlen(ok));
	return fd;
}

/* ---- tests ---- */

static void test_config(void **state)
{
	struct rig *r = rig_new();
	struct stat st;

	(void)state;
	assert_int_equal(vfn_cfg(&r->f, 0, 4), 0x10531af4);
	assert_int_equal(vfn_get(&r->f, r->f.config, 4), CID);
	assert_int_equal(vfn_get(&r->f, r->f.config + 4, 4), 0);
	assert_int_equal(stat(r->path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	rig_free(r);
}

static void test_from_host(void **state)
{
	static const u64 modes[] = {0, VIRTIO_F_EVENT_IDX,
				    VIRTIO_F_RING_PACKED | VIRTIO_F_EVENT_IDX};
	u8 data[RXBUF];

	(void)state;
	for (unsigned m = 0; m < ARRAY_LEN(modes); m++) {
		struct rig *r = rig_go(modes[m], NRX);
		struct vsock_hdr h;
		u32 port;
		int fd = connect_guest(r, &port);

		for (unsigned lap = 0; lap < 100; lap++) {
			send(fd, "to the guest", 12, 0);
			h = hear(r, data);
			assert_int_equal(h.op, VSOCK_RW);
			assert_int_equal(h.len, 12);
			assert_memory_equal(data, "to the guest", 12);
			say_data(r, 5, port, "to the host", 11);
			must_read(fd, "to the host", 11);
		}
		/* the guest closes */
		h = head(VSOCK_SHUTDOWN, 5, port);
		h.flags = VSOCK_SHUT_SEND | VSOCK_SHUT_RECEIVE;
		say(r, &h, NULL, 0);
		expect(r, VSOCK_RST, 5, port);
		must_end(fd);
		close(fd);
		/* the host closes */
		fd = connect_guest(r, &port);
		send(fd, "last", 4, 0);
		close(fd);
		assert_int_equal(hear(r, data).len, 4);
		h = expect(r, VSOCK_SHUTDOWN, 5, port);
		assert_int_equal(h.flags, 3);
		say_op(r, VSOCK_RST, 5, port);
		assert_true(silent(r));
		rig_free(r);
	}
}

static void test_from_guest(void **state)
{
	struct rig *r = rig_go(0, NRX);
	char path[64];
	int l = listener(r, 9, path), fd;
	struct vsock_hdr h;

	(void)state;
	say_op(r, VSOCK_REQUEST, 1000, 8);
	expect(r, VSOCK_RST, 1000, 8); /* nobody there */
	say_op(r, VSOCK_REQUEST, 1000, 9);
	expect(r, VSOCK_RESPONSE, 1000, 9);
	fd = accept(l, NULL, NULL);
	say_data(r, 1000, 9, "hello", 5);
	must_read(fd, "hello", 5);
	/* the host sends no more, but reads on */
	shutdown(fd, SHUT_WR);
	h = expect(r, VSOCK_SHUTDOWN, 1000, 9);
	assert_int_equal(h.flags, VSOCK_SHUT_SEND);
	say_data(r, 1000, 9, "more", 4);
	must_read(fd, "more", 4);
	/* nor does the guest */
	h = head(VSOCK_SHUTDOWN, 1000, 9);
	h.flags = VSOCK_SHUT_SEND;
	say(r, &h, NULL, 0);
	must_end(fd);
	close(fd);
	h = expect(r, VSOCK_SHUTDOWN, 1000, 9);
	assert_int_equal(h.flags, 3);
	say_op(r, VSOCK_RST, 1000, 9);
	/* a reset ends it at once */
	say_op(r, VSOCK_REQUEST, 1000, 9);
	expect(r, VSOCK_RESPONSE, 1000, 9);
	fd = accept(l, NULL, NULL);
	say_op(r, VSOCK_RST, 1000, 9);
	must_end(fd);
	close(fd);
	close(l);
	unlink(path);
	rig_free(r);
}

static void test_credit_of_guest(void **state)
{
	struct rig *r = rig_go(0, NRX);
	struct vsock_hdr h;
	u8 data[RXBUF], out[100];
	u32 port;
	int fd = connect_guest(r, &port);

	(void)state;
	memset(out, 7, sizeof(out));
	h = head(VSOCK_CREDIT_UPDATE, 5, port);
	h.buf_alloc = 10;
	say(r, &h, NULL, 0);
	send(fd, out, 100, 0);
	assert_int_equal(hear(r, data).len, 10);
	expect(r, VSOCK_CREDIT_REQUEST, 5, port);
	assert_true(silent(r));
	h.fwd_cnt = 10;
	h.buf_alloc = 50;
	say(r, &h, NULL, 0);
	assert_int_equal(hear(r, data).len, 50);
	expect(r, VSOCK_CREDIT_REQUEST, 5, port);
	/* nonsense: more taken than was sent */
	h.fwd_cnt = 1000;
	say(r, &h, NULL, 0);
	expect(r, VSOCK_CREDIT_REQUEST, 5, port);
	h.fwd_cnt = 60;
	say(r, &h, NULL, 0);
	assert_int_equal(hear(r, data).len, 40);
	close(fd);
	expect(r, VSOCK_SHUTDOWN, 5, port);
	rig_free(r);
}

static void test_credit_of_host(void **state)
{
	struct rig *r = rig_go(0, NRX);
	u8 *data = malloc(VSOCK_PAYLOAD_MAX), c;
	struct vsock_hdr h;
	u32 port, sent = 0, small = 4096;
	int fd = connect_guest(r, &port);

	(void)state;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	for (u32 i = 0; i < VSOCK_PAYLOAD_MAX; i++)
		data[i] = (u8)(i * 11);
	/* nobody reads: what the socket and our buffer do not take is refused
	 * by the credit, which comes back when it is read */
	h.fwd_cnt = 0;
	while (sent - h.fwd_cnt + 8192 <= VSOCK_BUFFER) {
		say_data(r, 5, port, data, 8192);
		sent += 8192;
		say_op(r, VSOCK_CREDIT_REQUEST, 5, port);
		do
			h = expect(r, VSOCK_CREDIT_UPDATE, 5, port);
		while (!silent(r));
	}
	assert_in_range(sent, VSOCK_BUFFER, 4 * MIB);
	for (u32 got = 0; got < sent; got += 8192)
		must_read(fd, data, 8192);
	do
		h = expect(r, VSOCK_CREDIT_UPDATE, 5, port);
	while (h.fwd_cnt != sent && sent - h.fwd_cnt >= VSOCK_BUFFER / 4);
	/* more than was granted is an end with RST */
	for (unsigned i = 0; i < 100; i++)
		say_data(r, 5, port, data, VSOCK_PAYLOAD_MAX);
	do
		h = hear(r, NULL);
	while (h.op == VSOCK_CREDIT_UPDATE);
	assert_int_equal(h.op, VSOCK_RST);
	while (recv(fd, &c, 1, 0) > 0)
		;
	assert_int_not_equal(errno, EAGAIN);
	close(fd);
	free(data);
	rig_free(r);
}

/* What the guest sent before its reset reaches a host that reads late. */
static void test_drain(void **state)
{
	struct rig *r = rig_go(0, NRX);
	u8 *data = calloc(1, VSOCK_PAYLOAD_MAX);
	u32 port, n = 0, small = 4096;
	int fd = connect_guest(r, &port);

	(void)state;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
	say_data(r, 5, port, data, VSOCK_PAYLOAD_MAX);
	say_data(r, 5, port, data, VSOCK_PAYLOAD_MAX);
	say_op(r, VSOCK_RST, 5, port);
	while (recv(fd, data, 1, 0) == 1)
		n++;
	assert_int_equal(n, 2 * VSOCK_PAYLOAD_MAX);
	close(fd);
	free(data);
	rig_free(r);
}

static void test_greetings(void **state)
{
	static const char *const bad[] = {"CONNECT\n",
					  "CONNECT x\n",
					  "connect 5\n",
					  "CONNECT -1\n",
					  "\n",
					  "CONNECT 4294967296\n",
					  "CONNECT 5 5 5\n",
					  "CONNECT 00000000000000000005\n"};
	struct rig *r = rig_go(0, NRX);
	int fd;

	(void)state;
	for (unsigned i = 0; i < ARRAY_LEN(bad); i++) {
		fd = host_socket(r->path, false);
		send(fd, bad[i], strlen(bad[i]), 0);
		must_end(fd);
		close(fd);
	}
	assert_true(silent(r));
	/* in pieces, and what follows belongs to the stream */
	fd = host_socket(r->path, false);
	send(fd, "CONNE", 5, 0);
	usleep(1000);
	send(fd, "CT 4294967295\nabc", 17, 0);
	expect(r, VSOCK_REQUEST, 0xffffffff, 0);
	close(fd);
	expect(r, VSOCK_RST, 0xffffffff, 0);
	/* refused by the guest */
	fd = host_socket(r->path, false);
	send(fd, "CONNECT 6\n", 10, 0);
	say_op(r, VSOCK_RST, 6, expect(r, VSOCK_REQUEST, 6, 0).src_port);
	must_end(fd);
	close(fd);
	/* no driver */
	vfn_set_status(&r->f, 0);
	fd = host_socket(r->path, false);
	send(fd, "CONNECT 6\n", 10, 0);
	must_end(fd);
	close(fd);
	rig_free(r);
}

static void test_hostile(void **state)
{
	struct rig *r = rig_go(0, NRX);
	struct vsock_hdr h = head(VSOCK_RW, 1, 2);
	struct vdrv_buf b = {0};
	u32 port, len;
	int fd = connect_guest(r, &port);

	(void)state;
	say_op(r, VSOCK_RW, 1, 2);
	expect(r, VSOCK_RST, 1, 2);
	say_op(r, VSOCK_RST, 1, 2); /* never answered */
	say_op(r, 99, 1, 2);
	expect(r, VSOCK_RST, 1, 2);
	h.type = 2;
	h.op = VSOCK_REQUEST;
	say(r, &h, NULL, 0);
	expect(r, VSOCK_RST, 1, 2);
	/* another's address, another's machine */
	h = head(VSOCK_REQUEST, 1, 2);
	h.src_cid = CID + 1;
	say(r, &h, NULL, 0);
	h.src_cid = CID;
	h.dst_cid = 1;
	say(r, &h, NULL, 0);
	/* lengths that the packet does not have */
	h = head(VSOCK_RW, 5, port);
	h.len = 0xffffffff;
	say(r, &h, "abc", 3);
	h.len = 4;
	say(r, &h, "abc", 3);
	b = (struct vdrv_buf){r->tx, HDR - 1, false};
	vdrv_add(&r->q[1], &b, 1);
	vfn_kick(&r->f, 1);
	assert_int_not_equal(vdrv_wait(&r->q[1], &len, 3000), -1);
	assert_true(silent(r));
	/* a request for what is there already ends it */
	say_op(r, VSOCK_REQUEST, 5, port);
	expect(r, VSOCK_RST, 5, port);
	must_end(fd);
	close(fd);
	rig_free(r);
}

/* Answers are made, but the guest gives no buffers for them. */
static void test_no_buffers(void **state)
{
	struct rig *r = rig_go(VIRTIO_F_EVENT_IDX, 0);
	u32 len, n = 0;

	(void)state;
	for (unsigned i = 0; i < 1000; i++)
		say_op(r, VSOCK_RW, i, 2);
	for (unsigned i = 0; i < NRX; i++)
		give(r, i);
	vfn_kick(&r->f, 0);
	while (n < 1000 && hear(r, NULL).op == VSOCK_RST)
		n++;
	assert_in_range(n, 1, 100);
	/* one that is too small for any packet */
	vfn_negotiate(&r->f, VIRTIO_F_VERSION_1);
	for (unsigned i = 0; i < 3; i++)
		vfn_queue(&r->f, i, 64, &r->q[i]);
	vfn_go(&r->f);
	vdrv_add(&r->q[0], &(struct vdrv_buf){r->rx, HDR, true}, 1);
	say_op(r, VSOCK_RW, 1, 2);
	for (unsigned i = 0; i < 1000 && !(vfn_status(&r->f) & 64); i++)
		usleep(1000);
	assert_int_equal(vfn_status(&r->f) & 64, 64);
	assert_int_equal(vdrv_wait(&r->q[0], &len, 10), -1);
	rig_free(r);
}

static void test_many(void **state)
{
	struct rig *r = rig_go(0, NRX);
	int fd[VSOCK_CONNS], l, refused = 0;
	char path[64];

	(void)state;
	l = listener(r, 9, path);
	for (u32 i = 0; i < VSOCK_CONNS + 50; i++) {
		struct vsock_hdr h;

		say_op(r, VSOCK_REQUEST, i, 9);
		h = hear(r, NULL);
		if (h.op == VSOCK_RESPONSE && i < VSOCK_CONNS)
			fd[i] = accept(l, NULL, NULL);
		refused += h.op == VSOCK_RST;
	}
	assert_int_equal(refused, 50);
	say_data(r, 100, 9, "still", 5);
	must_read(fd[100], "still", 5);
	/* one goes: there is room for another */
	say_op(r, VSOCK_RST, 100, 9);
	say_op(r, VSOCK_REQUEST, 100, 9);
	assert_int_equal(hear(r, NULL).op, VSOCK_RESPONSE);
	/* a reset of the device ends all */
	vfn_set_status(&r->f, 0);
	for (u32 i = 0; i < VSOCK_CONNS; i++) {
		must_end(fd[i]);
		close(fd[i]);
	}
	close(l);
	unlink(path);
	rig_free(r);
}

/* A loaded machine: its streams are gone, and it is told so. */
static void test_loaded(void **state)
{
	struct rig *r = rig_go(0, NRX);
	struct vdrv_buf b = {r->tx + 128 * KIB, 8, true};
	u8 *event = vboard_ptr(r->b, b.gpa);
	u32 port, len;
	int fd = connect_guest(r, &port);
	u8 *record;

	(void)state;
	memset(event, 0xee, 8);
	virtio_pause(r->v);
	record = dev_test_save(&r->v->dev);
	dev_test_load(&r->v->dev, record);
	virtio_resume(r->v);
	must_end(fd);
	close(fd);
	/* the buffer comes late */
	usleep(2000);
	vdrv_add(&r->q[2], &b, 1);
	vfn_kick(&r->f, 2);
	assert_int_not_equal(vdrv_wait(&r->q[2], &len, 3000), -1);
	assert_int_equal(len, 4);
	assert_memory_equal(event, "\0\0\0\0\xee", 5);
	vdrv_add(&r->q[2], &b, 1);
	vfn_kick(&r->f, 2);
	assert_int_equal(vdrv_wait(&r->q[2], &len, 20), -1); /* once */
	say_data(r, 5, port, "x", 1);
	expect(r, VSOCK_RST, 5, port);
	close(connect_guest(r, &port));
	free(record);
	rig_free(r);
}

/* The socket of a killed machine is replaced, that of a living one is not. */
static void test_path(void **state)
{
	struct rig *r = rig_new();
	struct err e = {""};
	char path[64];
	struct vsock *s;

	(void)state;
	assert_null(vsock_new(r->path, &e));
	assert_non_null(strstr(e.text, r->path));
	assert_null(vsock_new("/nonexistent/x", &e));
	assert_null(vsock_new("/tmp/", &e));
	close(listener(r, 1, path));
	s = vsock_new(path, &e);
	assert_non_null(s);
	vsock_free(s);
	assert_int_equal(access(path, F_OK), -1);
	assert_in_range(vsock_cid_draw(), 1024, 0x7fffffff);
	rig_free(r);
}

static void test_class(void **state)
{
	struct rig *r = rig_new();

	(void)state;
	dev_test(&(struct dev_test){
		.dev = &r->v->dev,
		.range = {{0x5000, &vfn_bar_ops, &r->f}},
	});
	rig_free(r);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_config),
		cmocka_unit_test(test_from_host),
		cmocka_unit_test(test_from_guest),
		cmocka_unit_test(test_credit_of_guest),
		cmocka_unit_test(test_credit_of_host),
		cmocka_unit_test(test_drain),
		cmocka_unit_test(test_greetings),
		cmocka_unit_test(test_hostile),
		cmocka_unit_test(test_no_buffers),
		cmocka_unit_test(test_many),
		cmocka_unit_test(test_loaded),
		cmocka_unit_test(test_path),
		cmocka_unit_test(test_class),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
