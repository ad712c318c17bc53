/* SPDX-License-Identifier: BSD-2-Clause */
/* A configuration that is sent arrives as it was; one that lacks something, or
 * has nonsense in its place, is refused. */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>
#include <jansson.h>

#include "migrate/hello.h"
#include "migrate/pair_testing.h"

static struct mig_hello *hello_new(void)
{
	struct mig_hello *h = calloc(1, sizeof(*h));
	struct vm_config *c = &h->config;

	vm_config_init(c);
	h->streams = 3;
	h->postcopy = h->with_disks = true;
	strcpy(h->engine, "soft");
	c->name = "web";
	c->cpus = 2;
	c->memory = 100 * MIB + 4 * KIB;
	c->boot.kernel = "/k";
	c->boot.cmdline = "quiet";
	c->disks[0] = (struct vm_disk){.path = "/d0"};
	c->disks[1] = (struct vm_disk){.path = "/d1", .readonly = true};
	c->ndisks = 2;
	h->disk_size[0] = 512;
	h->disk_size[1] = 3 * GIB;
	c->net = VM_NET_USER;
	c->forwards[0] = "tcp:2222:22";
	c->nforwards = 1;
	c->debug_exit_port = 0xf4;
	c->nested = true;
	h->cpuid.n = 1;
	h->cpuid.leaf[0] = (struct cpuid_leaf){.leaf = 0x80000001,
					       .r = {1, 2, 3, 0xffffffff}};
	h->cpuid.xcr0_mask = 7;
	return h;
}

static void receive(struct pair *p)
{
	struct mig_hello *h = hello_new();

	assert_int_equal(mig_hello_send(&p->a, h, &p->e), 0);
	assert_int_equal(mig_recv(&p->b, &p->f, BIT(MIG_HELLO), &p->e), 0);
	free(h);
}

static void arrives(void **state)
{
	struct mig_hello *h = malloc(sizeof(*h));
	struct pair *p = *state;
	const struct vm_config *c = &h->config;

	receive(p);
	assert_int_equal(mig_hello_parse(h, &p->f, &p->e), 0);
	assert_int_equal(h->streams, 3);
	assert_true(h->postcopy && h->with_disks && !h->dry_run);
	assert_string_equal(h->engine, "soft");
	assert_string_equal(c->name, "web");
	assert_int_equal(c->cpus, 2);
	assert_int_equal(c->memory, 100 * MIB + 4 * KIB);
	assert_string_equal(c->boot.kernel, "/k");
	assert_null(c->boot.initrd);
	assert_int_equal(c->ndisks, 2);
	assert_string_equal(c->disks[1].path, "/d1");
	assert_true(c->disks[1].readonly && !c->disks[0].readonly);
	assert_int_equal(h->disk_size[1], 3 * GIB);
	assert_int_equal(c->net, VM_NET_USER);
	assert_string_equal(c->forwards[0], "tcp:2222:22");
	assert_int_equal(c->debug_exit_port, 0xf4);
	assert_true(c->nested);
	assert_int_equal(h->cpuid.n, 1);
	assert_int_equal(h->cpuid.leaf[0].r.edx, 0xffffffff);
	assert_int_equal(h->cpuid.xcr0_mask, 7);
	mig_hello_fini(h);
	free(h);
}

/* The frame with one member of the object replaced, or removed (NULL). */
static int parse_with(struct pair *p, const char *key, json_t *value)
{
	struct mig_hello *h = malloc(sizeof(*h));
	struct mig_frame f = {.type = MIG_HELLO};
	json_t *j = json_loadb((char *)p->f.data, p->f.len, 0, NULL);
	int rc;

	if (value)
		json_object_set_new(j, key, value);
	else
		json_object_del(j, key);
	f.data = (u8 *)json_dumps(j, 0);
	f.len = (u32)strlen((char *)f.data);
	rc = mig_hello_parse(h, &f, &p->e);
	mig_hello_fini(h);
	json_decref(j);
	free(f.data);
	free(h);
	return rc;
}

static void nonsense(void **state)
{
	static const char *const needed[] = {
		"engine",     "name",   "streams",    "dry_run", "postcopy",
		"with_disks", "memory", "disk_sizes", "config",  "cpu"};
	struct pair *p = *state;

	receive(p);
	assert_int_equal(parse_with(p, "version", json_string("9")), 0);
	for (size_t i = 0; i < ARRAY_LEN(needed); i++) {
		assert_int_equal(parse_with(p, needed[i], NULL), -EPROTO);
		assert_int_equal(parse_with(p, needed[i], json_null()),
				 -EPROTO);
		assert_int_equal(parse_with(p, needed[i], json_object()),
				 -EPROTO);
	}
	assert_int_equal(parse_with(p, "streams", json_integer(17)), -EPROTO);
	assert_int_equal(parse_with(p, "streams", json_integer(0)), -EPROTO);
	assert_int_equal(parse_with(p, "memory", json_integer(-1)), -EPROTO);
	assert_int_equal(parse_with(p, "disk_sizes", json_pack("[i]", 5)),
			 -EPROTO);
	assert_int_equal(
		parse_with(p, "disk_sizes", json_pack("[i, i]", 5, -5)),
		-EPROTO);
}

#define P(fn) cmocka_unit_test_setup_teardown(fn, pair_make, pair_teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		P(arrives),
		P(nonsense),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
