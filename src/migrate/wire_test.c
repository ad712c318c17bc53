/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Frames and batches of pages: what goes in comes out, over streams that are
 * cut and damaged at every byte; and what to do next, by arithmetic.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "migrate/addr.h"
#include "migrate/missing.h"
#include "migrate/pages.h"
#include "migrate/pair_testing.h"
#include "migrate/plan.h"
#include "migrate/ram.h"
#include "migrate/throttle.h"
#include "migrate/wire.h"

#define ALL (~0u)

static int pair_setup(void **state)
{
	int rc = pair_make(state);
	struct pair *p = *state;

	p->a.timeout_ms = p->b.timeout_ms = 300;
	return rc;
}

static void frames(void **state)
{
	struct pair *p = *state;
	u64 v;

	assert_int_equal(mig_send_u64(&p->a, MIG_BARRIER, 77, &p->e), 0);
	assert_int_equal(mig_send(&p->a, MIG_STATE, "state", 5, &p->e), 0);
	assert_int_equal(mig_recv(&p->b, &p->f, BIT(MIG_BARRIER), &p->e), 0);
	assert_int_equal(mig_frame_u64(&p->f, &v, &p->e), 0);
	assert_int_equal(v, 77);
	assert_int_equal(mig_recv(&p->b, &p->f, ALL, &p->e), 0);
	assert_int_equal(p->f.type, MIG_STATE);
	assert_string_equal((char *)p->f.data, "state");
	assert_int_equal(mig_frame_u64(&p->f, &v, &p->e), -EPROTO);
}

static void refusal_is_told(void **state)
{
	struct pair *p = *state;

	mig_send(&p->a, MIG_REFUSE, "no \033[1mway", 10, &p->e);
	assert_int_equal(mig_recv(&p->b, &p->f, BIT(MIG_PAGES), &p->e),
			 -EREMOTEIO);
	assert_non_null(strstr(p->e.text, "no  [1mway"));
}

static void out_of_place(void **state)
{
	struct pair *p = *state;

	mig_send_u64(&p->a, MIG_COMMIT, 1, &p->e);
	assert_int_equal(mig_recv(&p->b, &p->f, BIT(MIG_PAGES), &p->e),
			 -EPROTO);
	assert_non_null(strstr(p->e.text, "COMMIT"));
}

static void stalls(void **state)
{
	struct pair *p = *state;
	u64 start = clock_ns();

	assert_int_equal(mig_recv(&p->b, &p->f, ALL, &p->e), -ETIMEDOUT);
	assert_true(clock_ns() - start >= 290000000);
	p->a.timeout_ms = 100;
	memset(p->f.data, 0, MIG_FRAME_MAX);
	/* nobody reads: the socket fills up */
	while (!mig_send(&p->a, MIG_STATE, p->f.data, MIB, &p->e))
		;
	assert_non_null(strstr(p->e.text, "has not moved"));
}

static bool never(void *arg)
{
	return *(bool *)arg;
}

static void cancelled(void **state)
{
	struct pair *p = *state;
	bool yes = true;
	struct mig_cancel c = {never, &yes};

	p->b.cancel = &c;
	assert_int_equal(mig_recv(&p->b, &p->f, ALL, &p->e), -ECANCELED);
}

static void bandwidth(void **state)
{
	struct pair *p = *state;
	struct mig_pace pace = {.limit = 1000000};
	u64 start = clock_ns();

	p->a.pace = &pace;
	for (unsigned i = 0; i < 10; i++) {
		mig_send(&p->a, MIG_STATE, p->f.data, 30000, &p->e);
		mig_recv(&p->b, &p->f, ALL, &p->e);
	}
	/* 300 kB at 1 MB/s, the first piece and 20 ms for nothing */
	assert_true(clock_ns() - start >= 240000000);
}

/* The bytes of a stream of two frames. */
static size_t record(u8 *out, size_t max)
{
	struct err e;
	struct mig_chan a;
	size_t n;
	int sv[2];

	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	mig_chan_init(&a, sv[0], sv[0]);
	mig_send(&a, MIG_STATE, "0123456789abcdef", 16, &e);
	mig_send_u64(&a, MIG_STATE_END, 16, &e);
	n = (size_t)read(sv[1], out, max);
	mig_chan_close(&a);
	close(sv[1]);
	return n;
}

static int replay(const u8 *bytes, size_t n, struct err *e)
{
	struct mig_chan b;
	struct mig_frame f;
	int sv[2], rc;

	assert_int_equal(mig_frame_init(&f, e), 0);
	assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, sv), 0);
	mig_chan_init(&b, sv[1], sv[1]);
	b.timeout_ms = 2000;
	assert_int_equal(write(sv[0], bytes, n), n);
	close(sv[0]);
	rc = mig_recv(&b, &f, BIT(MIG_STATE), e);
	if (!rc)
		rc = mig_recv(&b, &f, BIT(MIG_STATE_END), e);
	mig_chan_close(&b);
	mig_frame_fini(&f);
	return rc;
}

/* By arithmetic: who sends wakes up late each time. */
static void bandwidth_is_used(void **state)
{
	struct mig_pace pace = {.limit = 100000000};
	u64 now = 1000000000, start = now, sent = 0;
	double rate;

	(void)state;
	for (unsigned i = 0; now - start < 5000000000; i++) {
		u64 at = mig_pace_at(&pace, 256 * KIB, now);

		now = MAX(at, now) + i * 7919 % 3000000; /* ns too late */
		sent += 256 * KIB;
	}
	rate = (double)sent * 1e9 / (double)(now - start);
	assert_true(rate > 95e6 && rate < 105e6);
	/* What was not used for long is lost. */
	now += 3600ull * 1000000000;
	for (sent = 0; mig_pace_at(&pace, 256 * KIB, now) <= now;)
		sent += 256 * KIB;
	assert_true(sent <= 3000000);
}

/* Ticks come late; the guest stands still for its share and no more. */
static void slowdown(void **state)
{
	(void)state;
	for (unsigned percent = 1; percent < 100; percent++) {
		struct mig_throttle t = {.percent = percent};
		double share = 0;

		for (unsigned i = 0; i < 2000; i++) {
			t.stood_ns += 200000 * percent + i * 7919 % 5000000;
			t.ran_ns += mig_throttle_run_ns(&t);
			share = (double)t.stood_ns * 100 /
				(double)(t.stood_ns + t.ran_ns);
			assert_true(share < percent + 0.01);
			t.ran_ns += i * 104729 % 100000;
		}
		assert_true(share > percent - 2.0);
	}
}

static void cut_anywhere(void **state)
{
	u8 bytes[256];
	size_t n = record(bytes, sizeof(bytes));
	struct err e;

	(void)state;
	assert_int_equal(replay(bytes, n, &e), 0);
	for (size_t i = 0; i < n; i++)
		assert_int_equal(replay(bytes, i, &e), -ECONNRESET);
}

static void any_bit_flipped(void **state)
{
	u8 bytes[256];
	size_t n = record(bytes, sizeof(bytes));
	struct err e;

	(void)state;
	for (size_t i = 0; i < n * 8; i++) {
		bytes[i / 8] ^= (u8)BIT(i % 8);
		assert_int_equal(replay(bytes, n, &e), -EBADMSG);
		bytes[i / 8] ^= (u8)BIT(i % 8);
	}
}

/* Checksums right, contents wrong. */
static void lies_about_sizes(void **state)
{
	struct pair *p = *state;

	p->a.seq_out = 5;
	mig_send_u64(&p->a, MIG_BARRIER, 1, &p->e);
	assert_int_equal(mig_recv(&p->b, &p->f, ALL, &p->e), -EPROTO);
	assert_non_null(strstr(p->e.text, "frame 5 where 0"));
}

static void preamble(void **state)
{
	struct mig_preamble in = {MIG_VERSION, MIG_ROLE_STREAM, 3, 0x1234}, out;
	struct pair *p = *state;

	assert_int_equal(mig_send_preamble(&p->a, &in, &p->e), 0);
	assert_int_equal(mig_recv_preamble(&p->b, &out, &p->e), 0);
	assert_memory_equal(&in, &out, sizeof(in));
	in.version = 9;
	mig_send_preamble(&p->a, &in, &p->e);
	assert_int_equal(mig_recv_preamble(&p->b, &out, &p->e), -ENOTSUP);
	mig_chan_write(&p->a, "SSH-2.0-OpenSSH_9", 16, &p->e);
	assert_int_equal(mig_recv_preamble(&p->b, &out, &p->e), -EPROTO);
}

/* ---- pages ---- */

static void fill_pages(struct mig_pages *p)
{
	u8 page[PAGE_SIZE];

	p->n = p->ndata = 0;
	p->round = 3;
	for (u32 i = 0; i < MIG_BATCH; i++) {
		memset(page, i % 3 ? (int)i : 0, sizeof(page));
		for (u32 k = 0; i % 5 == 1 && k < PAGE_SIZE; k++)
			page[k] = (u8)rand();
		mig_pages_add(p, i * 7ull * PAGE_SIZE, page);
	}
}

static void pages_round_trip(void **state)
{
	struct mig_pages *a = malloc(sizeof(*a)), *b = malloc(sizeof(*b));
	u8 *wire = malloc(MIG_PAGES_MAX);
	struct err e;

	(void)state;
	fill_pages(a);
	/* multiples of 3 that are not 5k + 1 */
	assert_int_equal(a->n - a->ndata, 18);
	for (unsigned c = 0; c < MIG_CODECS; c++) {
		u32 len = mig_pages_encode(a, c, wire);

		if (c)
			assert_true(len < a->ndata * PAGE_SIZE / 2);
		memset(b, 0xee, sizeof(*b));
		assert_int_equal(mig_pages_decode(b, wire, len, &e), 0);
		assert_int_equal(b->round, 3);
		assert_memory_equal(a->gpa, b->gpa, sizeof(a->gpa));
		assert_memory_equal(a->zero, b->zero, sizeof(a->zero));
		assert_memory_equal(a->data, b->data, a->ndata * PAGE_SIZE);
		for (u32 i = 0; i < len; i += 13)
			assert_int_not_equal(mig_pages_decode(b, wire, i, &e),
					     0);
	}
	free(a);
	free(b);
	free(wire);
}

static void pages_nonsense(void **state)
{
	struct mig_pages *p = malloc(sizeof(*p));
	u8 *wire = malloc(MIG_PAGES_MAX);
	struct err e;

	(void)state;
	for (unsigned n = 0; n < 200000; n++) {
		u32 len = (u32)rand() % 200;

		for (u32 i = 0; i < len; i++)
			wire[i] = (u8)(rand() % (n % 2 ? 256 : 3));
		mig_pages_decode(p, wire, len, &e);
	}
	free(p);
	free(wire);
}

/* ---- memory ---- */

static void memory_init(struct mem *m)
{
	struct err e;

	assert_int_equal(mem_init(m, 4 * MIB, &e), 0);
	assert_int_equal(mem_add_slot(m, 0, 3 * MIB, 0, false, &e), 0);
	assert_int_equal(mem_add_slot(m, GIB, MIB, 3 * MIB, false, &e), 0);
}

static void ram_travels(void **state)
{
	struct pair *p = *state;
	struct mem a, b;
	struct mig_ram out;
	struct mig_ram_in in;
	struct mig_pages *pages = malloc(sizeof(*pages));

	memory_init(&a);
	memory_init(&b);
	mem_write(&a, 0x5000, "five", 4);
	mem_write(&a, GIB + 0x7000, "high", 4);
	assert_int_equal(mig_ram_init(&out, &a, &p->e), 0);
	assert_int_equal(mig_ram_in_init(&in, &b, &p->e), 0);
	out.chan = &p->a;
	out.n = 1;
	assert_int_equal(mig_ram_all(&out, &p->e), 0);
	assert_int_equal(mig_ram_left(&out), 2);
	assert_int_equal(mig_ram_send(&out, &p->e), 0);
	assert_int_equal(mig_ram_left(&out), 0);
	for (;;) {
		assert_int_equal(mig_recv(&p->b, &p->f, ALL, &p->e), 0);
		if (p->f.type != MIG_PAGES)
			break;
		assert_int_equal(
			mig_pages_decode(pages, p->f.data, p->f.len, &p->e), 0);
		assert_int_equal(mig_ram_apply(&in, pages, &p->e), 0);
	}
	assert_int_equal(p->f.type, MIG_BARRIER);
	assert_memory_equal(a.base, b.base, a.size);
	/* a page that the machine does not have */
	pages->gpa[0] = 2 * GIB;
	assert_int_equal(mig_ram_apply(&in, pages, &p->e), -EPROTO);
	mig_ram_fini(&out);
	mig_ram_in_fini(&in);
	mem_fini(&a);
	mem_fini(&b);
	free(pages);
}

/* Memory that shows a file: what was written is not in it. */
static void private_memory(void **state)
{
	struct pair *p = *state;
	struct mem m;
	struct mig_ram r;
	int fd = memfd_create("snapshot", 0);

	assert_int_equal(ftruncate(fd, 4 * MIB), 0);
	assert_int_equal(pwrite(fd, "x", 1, 0x3000), 1);
	assert_int_equal(mem_init_file(&m, 4 * MIB, fd, &p->e), 0);
	assert_int_equal(mem_add_slot(&m, 0, 4 * MIB, 0, false, &p->e), 0);
	mem_write(&m, 0x3000, "three", 6);
	mem_write(&m, 0x9000, "nine", 5); /* a hole of the file */
	assert_int_equal(mig_ram_init(&r, &m, &p->e), 0);
	assert_int_equal(mig_ram_all(&r, &p->e), 0);
	assert_int_equal(r.todo[0], BIT64(3) | BIT64(9));
	assert_int_equal(mig_ram_left(&r), 2);
	mig_ram_fini(&r);
	mem_fini(&m);
	close(fd);
}

static void missing_travels(void **state)
{
	struct pair *p = *state;
	unsigned long bits[16] = {0xf0, 0, 1ul << 63, 1, [12] = 3}, got[16];
	struct mem m;

	memory_init(&m);
	memset(got, 0, sizeof(got));
	assert_int_equal(mig_missing_send(&p->a, &m, bits, &p->e), 0);
	do {
		assert_int_equal(mig_recv(&p->b, &p->f, ALL, &p->e), 0);
		assert_int_equal(mig_missing_add(&m, &p->f, got, &p->e), 0);
	} while (p->f.len);
	assert_memory_equal(bits, got, sizeof(bits));
	/* beyond memory, and more than 64 bits of it */
	mig_put(mig_put(p->f.data, 0x2ff000, 8), 2, 8);
	p->f.len = 16;
	assert_int_equal(mig_missing_add(&m, &p->f, got, &p->e), -EPROTO);
	mig_put(mig_put(p->f.data, 0, 8), ~0ull, 8);
	assert_int_equal(mig_missing_add(&m, &p->f, got, &p->e), -EPROTO);
	p->f.len = 7;
	assert_int_equal(mig_missing_add(&m, &p->f, got, &p->e), -EPROTO);
	mem_fini(&m);
}

/* ---- places ---- */

static void places(void **state)
{
	struct mig_addr a;
	struct err e;

	(void)state;
	assert_int_equal(mig_addr_parse(&a, "tcp:127.0.0.1:99", &e), 0);
	assert_true(mig_addr_local(&a));
	assert_int_equal(mig_addr_parse(&a, "tcp:[::1]:99", &e), 0);
	assert_string_equal(a.host, "::1");
	assert_true(mig_addr_local(&a));
	assert_int_equal(mig_addr_parse(&a, "tcp:192.0.2.1:99", &e), 0);
	assert_false(mig_addr_local(&a));
	assert_int_equal(mig_addr_parse(&a, "unix:/x/y", &e), 0);
	assert_int_equal(mig_addr_parse(&a, "exec:cat", &e), 0);
	assert_int_equal(mig_addr_parse(&a, "tcp:host", &e), -EINVAL);
	assert_int_equal(mig_addr_parse(&a, "tcp::5", &e), -EINVAL);
	assert_int_equal(mig_addr_parse(&a, "tcp:h:70000", &e), -EINVAL);
	assert_int_equal(mig_addr_parse(&a, "unix:", &e), -EINVAL);
	assert_int_equal(mig_addr_parse(&a, "nowhere", &e), -EINVAL);
}

static void by_command(void **state)
{
	struct pair *p = *state;
	struct mig_addr a;
	struct mig_chan c;

	assert_int_equal(mig_addr_parse(&a, "exec:cat", &p->e), 0);
	assert_int_equal(mig_addr_connect(&a, &c, NULL, 2000, &p->e), 0);
	assert_int_equal(mig_send(&c, MIG_STATE, "echo", 4, &p->e), 0);
	assert_int_equal(mig_recv(&c, &p->f, ALL, &p->e), 0);
	assert_string_equal((char *)p->f.data, "echo");
	mig_chan_close(&c);
}

/* ---- the plan ---- */

static struct mig_plan plan(double send_mb, double dirty_mb, double left_mb,
			    struct mig_measure m, struct mig_goals g)
{
	char why[256];

	m.send = send_mb * 1e6 / PAGE_SIZE;
	m.round_ns = 1000000000;
	m.written = (u64)(dirty_mb * 1e6 / PAGE_SIZE);
	m.left = (u64)(left_mb * 1e6 / PAGE_SIZE);
	m.handover_ns = 1000000;
	return mig_plan(&m, &g, why, sizeof(why));
}

static void plans(void **state)
{
	struct mig_goals g = {.max_downtime_ns = 50000000,
			      .max_time_ns = 10000000000,
			      .max_slowdown = 15};
	struct mig_measure m = {.rounds = 1, .elapsed_ns = 1000000000};

	(void)state;
	/* 10 MB at 1000 MB/s: 10 ms */
	assert_int_equal(plan(1000, 100, 10, m, g).step, MIG_STEP_STOP);
	/* 100 MB shrink to a tenth each round */
	assert_int_equal(plan(1000, 100, 100, m, g).step, MIG_STEP_ROUND);
	/* never: it writes more than can be sent */
	m.rounds = 5;
	assert_int_equal(plan(100, 200, 100, m, g).step, MIG_STEP_SLOW);
	assert_int_equal(plan(100, 200, 100, m, g).slowdown, 10);
	assert_true(plan(100, 200, 100, m, g).total_ns == ~0ull);
	m.slowdown = 10;
	assert_int_equal(plan(100, 200, 100, m, g).slowdown, 15);
	m.slowdown = 15;
	assert_int_equal(plan(100, 200, 100, m, g).step, MIG_STEP_FAIL);
	m.postcopy = true;
	assert_int_equal(plan(100, 200, 100, m, g).step, MIG_STEP_POST);
	/* it would end, but too late */
	m = (struct mig_measure){.rounds = 5, .elapsed_ns = 9900000000};
	assert_int_equal(plan(100, 50, 1000, m, g).step, MIG_STEP_SLOW);
	m.elapsed_ns = 10000000001;
	assert_int_equal(plan(100, 50, 1000, m, g).step, MIG_STEP_FAIL);
}

#define P(fn) cmocka_unit_test_setup_teardown(fn, pair_setup, pair_teardown)

int main(void)
{
	static const struct CMUnitTest tests[] = {
		P(frames),
		P(refusal_is_told),
		P(out_of_place),
		P(stalls),
		P(cancelled),
		P(bandwidth),
		cmocka_unit_test(bandwidth_is_used),
		cmocka_unit_test(slowdown),
		cmocka_unit_test(cut_anywhere),
		cmocka_unit_test(any_bit_flipped),
		P(lies_about_sizes),
		P(preamble),
		cmocka_unit_test(pages_round_trip),
		cmocka_unit_test(pages_nonsense),
		P(ram_travels),
		P(private_memory),
		P(missing_travels),
		cmocka_unit_test(places),
		P(by_command),
		cmocka_unit_test(plans),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
