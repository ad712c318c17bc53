/* SPDX-License-Identifier: BSD-2-Clause */
#include "state/state.h"

#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

struct gate {
	u64 time;
	u32 level;
	u16 port[3];
	u8 open, late; /* late: since version 2 */
	u8 pad[4];
};

static const struct state_field gate_fields[] = {
	STATE(struct gate, time, 1),       STATE(struct gate, level, 1),
	STATE_ARRAY(struct gate, port, 1), STATE(struct gate, open, 1),
	STATE(struct gate, late, 2),       STATE_ARRAY(struct gate, pad, 1),
};

static int gate_check(const void *regs, struct err *e)
{
	const struct gate *g = regs;

	if (g->open > 1)
		return err_set(e, -EDOM, "gate: open is %u", g->open);
	return 0;
}

static const struct state_desc gate_state = {
	.name = "gate",
	.version = 2,
	.size = sizeof(struct gate),
	.fields = gate_fields,
	.nfields = ARRAY_LEN(gate_fields),
	.check = gate_check,
};

static const struct gate sample = {
	.time = 0x1122334455667788,
	.level = 0x99aabbcc,
	.port = {1, 2, 0xfffe},
	.open = 1,
	.late = 7,
};

static void test_round_trip(void **state)
{
	struct gate back;
	u8 out[64];
	u64 n;

	(void)state;
	memset(&back, 0xa5, sizeof(back));
	memset(out, 0xa5, sizeof(out));
	n = state_save(&gate_state, &sample, out);
	assert_int_equal(n, 24);
	assert_int_equal(state_size(&gate_state), 24);
	assert_int_equal(out[24], 0xa5);
	/* little-endian, in the order of the table */
	assert_memory_equal(out, "\x88\x77\x66\x55\x44\x33\x22\x11", 8);
	assert_memory_equal(out + 12, "\1\0\2\0\xfe\xff\1\7", 8);
	assert_int_equal(state_load(&gate_state, &back, out, n, 2, NULL), 0);
	assert_memory_equal(&back, &sample, sizeof(back));
}

/* Whatever is wrong, the device is as it was and the sentence says why. */
static void refused(const u8 *in, u64 len, u32 version, int rc, const char *why)
{
	struct gate g = sample;
	struct err e = {""};

	g.time = 1;
	assert_int_equal(state_load(&gate_state, &g, in, len, version, &e), rc);
	assert_string_equal(e.text, why);
	assert_int_equal(g.time, 1);
	assert_int_equal(g.late, 7);
}

static void test_refusals(void **state)
{
	u8 in[64] = {0};

	(void)state;
	state_save(&gate_state, &sample, in);
	refused(in, 23, 2, -EPROTO, "gate: record ends before field pad");
	refused(in, 0, 2, -EPROTO, "gate: record ends before field time");
	refused(in, 25, 2, -EPROTO, "gate: 1 bytes too many");
	refused(in, 24, 3, -ENOTSUP,
		"gate: record of version 3, known up to 2");
	refused(in, 24, 0, -ENOTSUP,
		"gate: record of version 0, known up to 2");
	in[18] = 2;
	refused(in, 24, 2, -EDOM, "gate: open is 2");
}

static void test_older_version(void **state)
{
	struct gate g = sample;
	u8 in[64] = {0};

	(void)state;
	in[0] = 9;
	in[18] = 1;
	assert_int_equal(state_load(&gate_state, &g, in, 23, 1, NULL), 0);
	assert_int_equal(g.time, 9);
	assert_int_equal(g.open, 1);
	assert_int_equal(g.late, 0); /* not known then: zero */
}

static void test_covers(void **state)
{
	struct state_field f[ARRAY_LEN(gate_fields)];
	struct state_desc d = gate_state;

	(void)state;
	assert_true(state_covers(&d));
	d.nfields--;
	assert_false(state_covers(&d)); /* the last is missing */
	memcpy(f, gate_fields, sizeof(f));
	f[1] = f[0];
	d = gate_state;
	d.fields = f;
	assert_false(state_covers(&d)); /* one twice */
	f[1] = gate_fields[1];
	f[5].count++;
	assert_false(state_covers(&d)); /* beyond the end */
}

static void test_text(void **state)
{
	static const char *const want[] = {
		"time = 0x1122334455667788",
		"level = 0x99aabbcc",
		"port[0] = 0x1",
		"port[1] = 0x2",
		"port[2] = 0xfffe",
		"open = 0x1",
		"late = 0x7",
		"pad[0] = 0",
	};
	char buf[64];

	(void)state;
	for (u32 i = 0; i < ARRAY_LEN(want); i++) {
		assert_true(
			state_text(&gate_state, &sample, i, buf, sizeof(buf)));
		assert_string_equal(buf, want[i]);
	}
	assert_true(state_text(&gate_state, &sample, 10, buf, sizeof(buf)));
	assert_false(state_text(&gate_state, &sample, 11, buf, sizeof(buf)));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip),
		cmocka_unit_test(test_refusals),
		cmocka_unit_test(test_older_version),
		cmocka_unit_test(test_covers),
		cmocka_unit_test(test_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
