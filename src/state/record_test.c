/* SPDX-License-Identifier: BSD-2-Clause */
/* Records: what is written is read back; what is damaged is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/crc32c.h"
#include "state/record.h"

struct toy_regs {
	u64 wide;
	u32 word;
	u16 half[3];
	u8 byte[6];
};

static const struct state_field toy_fields[] = {
	STATE(struct toy_regs, wide, 1),
	STATE(struct toy_regs, word, 1),
	STATE_ARRAY(struct toy_regs, half, 1),
	STATE_ARRAY(struct toy_regs, byte, 2),
};

static int toy_check(const void *regs, struct err *e)
{
	const struct toy_regs *r = regs;

	return r->word == 13 ? err_set(e, -EDOM, "toy: 13") : 0;
}

static const struct state_desc toy = {
	.name = "toy",
	.version = 2,
	.size = sizeof(struct toy_regs),
	.fields = toy_fields,
	.nfields = ARRAY_LEN(toy_fields),
	.check = toy_check,
};

static const struct toy_regs sample = {
	.wide = 0x1122334455667788,
	.word = 99,
	.half = {1, 2, 0xffff},
	.byte = "hello",
};

static struct buf written(const struct state_desc *d)
{
	struct buf b = {0};

	record_put(&b, d->name, 7, RECORD_OPTIONAL, d, &sample);
	assert_false(b.failed);
	return b;
}

static void round_trip(void **state)
{
	struct buf b = written(&toy);
	struct toy_regs back;
	struct record r;
	struct err e;
	u64 at = 0;

	(void)state;
	assert_int_equal(record_parse(b.data, b.len, &at, &r, &e), 0);
	assert_int_equal(at, b.len);
	assert_string_equal(r.name, "toy");
	assert_int_equal(r.instance, 7);
	assert_int_equal(r.flags, RECORD_OPTIONAL);
	assert_int_equal(record_load(&r, &toy, &back, &e), 0);
	assert_memory_equal(&back, &sample, sizeof(back));
	buf_free(&b);
}

/* Who does not know the class can still say what is in it. */
static void describes_itself(void **state)
{
	static const char *const names[] = {"wide", "word", "half", "byte"};
	static const u32 sizes[] = {8, 4, 2, 1}, counts[] = {1, 1, 3, 6};
	struct buf b = written(&toy);
	u64 at = 0, pos = 0, off = 0;
	struct record_field f;
	struct record r;
	struct err e;

	(void)state;
	assert_int_equal(record_parse(b.data, b.len, &at, &r, &e), 0);
	for (unsigned i = 0; i < 4; i++) {
		assert_true(record_field(&r, &pos, &off, &f));
		assert_string_equal(f.name, names[i]);
		assert_int_equal(f.esize, sizes[i]);
		assert_int_equal(f.count, counts[i]);
	}
	assert_memory_equal(f.data, "hello", 6);
	assert_false(record_field(&r, &pos, &off, &f));
	buf_free(&b);
}

static void old_versions_load(void **state)
{
	struct state_desc old = toy;
	struct toy_regs back;
	struct record r;
	struct buf b;
	struct err e;
	u64 at = 0;

	(void)state;
	old.version = 1;
	old.nfields = 3;
	b = written(&old);
	assert_int_equal(record_parse(b.data, b.len, &at, &r, &e), 0);
	assert_int_equal(record_load(&r, &toy, &back, &e), 0);
	assert_int_equal(back.wide, sample.wide);
	assert_int_equal(back.byte[0], 0);
	buf_free(&b);

	b = written(&toy);
	at = 0;
	assert_int_equal(record_parse(b.data, b.len, &at, &r, &e), 0);
	assert_int_equal(record_load(&r, &old, &back, &e), -ENOTSUP);
	buf_free(&b);
}

static void other_fields_are_refused(void **state)
{
	struct state_field fields[ARRAY_LEN(toy_fields)];
	struct state_desc other = toy;
	struct buf b = written(&toy);
	struct record r;
	struct err e;
	u64 at = 0;

	(void)state;
	other.fields = fields;
	assert_int_equal(record_parse(b.data, b.len, &at, &r, &e), 0);
	memcpy(fields, toy_fields, sizeof(fields));
	fields[1].name = "wort";
	assert_int_equal(record_check(&r, &other, &e), -EPROTO);
	assert_non_null(strstr(e.text, "wort"));
	memcpy(fields, toy_fields, sizeof(fields));
	fields[2].esize = 4;
	assert_int_equal(record_check(&r, &other, &e), -EPROTO);
	memcpy(fields, toy_fields, sizeof(fields));
	other.nfields = 3;
	assert_int_equal(record_check(&r, &other, &e), -EPROTO);
	assert_non_null(strstr(e.text, "unknown field byte"));
	buf_free(&b);
}

static void damage_is_noticed(void **state)
{
	struct buf b = written(&toy);
	struct record r;
	struct err e;

	(void)state;
	for (u64 len = 0; len < b.len; len++) {
		u64 at = 0;
		u8 *part = malloc(len + 1); /* for sanitizers */

		memcpy(part, b.data, len);
		assert_true(record_parse(part, len, &at, &r, &e) < 0);
		assert_int_equal(at, 0);
		free(part);
	}
	for (u64 bit = 0; bit < 8 * b.len; bit++) {
		u64 at = 0;

		b.data[bit / 8] ^= (u8)BIT(bit % 8);
		assert_true(record_parse(b.data, b.len, &at, &r, &e) < 0);
		b.data[bit / 8] ^= (u8)BIT(bit % 8);
	}
	buf_free(&b);
}

/* With a good checksum: an enemy computes it too. */
static void nonsense_is_refused(void **state)
{
	struct buf b = written(&toy);
	unsigned refused = 0;
	struct record r;
	struct err e;

	(void)state;
	for (u64 bit = 8 * 8; bit < 8 * b.len; bit++) {
		u64 at = 0;
		u32 crc;

		b.data[bit / 8] ^= (u8)BIT(bit % 8);
		crc = crc32c(0, b.data + 8, b.len - 8);
		memcpy(b.data + 4, &crc, 4);
		if (record_parse(b.data, b.len, &at, &r, &e) ||
		    record_check(&r, &toy, &e))
			refused++;
		b.data[bit / 8] ^= (u8)BIT(bit % 8);
	}
	/* payload, flags, instance and "since" may be anything */
	assert_true(refused > 8 * (b.len - 32 - 24));
	buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(round_trip),
		cmocka_unit_test(describes_itself),
		cmocka_unit_test(old_versions_load),
		cmocka_unit_test(other_fields_are_refused),
		cmocka_unit_test(damage_is_noticed),
		cmocka_unit_test(nonsense_is_refused),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
