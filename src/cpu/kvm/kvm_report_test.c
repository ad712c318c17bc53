/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What is said when KVM cannot be used or cannot go on. Exits that no guest
 * can bring about are put into struct kvm_run by hand.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "cpu/kvm/kvm_testing.h"

RM(halt, "sti\n 1: hlt\n jmp 1b")
RM(triple, "lidt 0x3000\n mov %cr0, %eax\n or $1, %al\n mov %eax, %cr0\n ud2")

/* ---- KVM that cannot be used ---- */

static void expect_open(const char *path, int rc, const char *why)
{
	struct err e = {0};

	assert_int_equal(kprobe_open(path, &e), rc);
	assert_non_null(strstr(e.text, why));
}

static void no_device(void **state)
{
	(void)state;
	expect_open("/nowhere/kvm", -ENOENT, "there is no /dev/kvm: hardware");
}

/* Of somebody who is not root: a child, as there is no way back. */
static void no_permission(void **state)
{
	char path[] = "/tmp/kvm-test-XXXXXX";
	int fd = mkstemp(path), status;
	pid_t child;

	(void)state;
	assert_true(fd >= 0);
	close(fd);
	chmod(path, 0);
	child = fork();
	if (!child) {
		struct err e = {0};

		if (!geteuid() && setresuid(65534, 65534, 65534))
			_exit(2);
		_exit(kprobe_open(path, &e) != -EACCES ||
		      !strstr(e.text, "no permission to open /dev/kvm"));
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	unlink(path);
	assert_int_equal(status, 0);
}

/* A KVM that has all but one. */
static unsigned long missing, asked[32];
static unsigned nasked;

static int cap_but_one(int fd, unsigned long cap)
{
	(void)fd;
	assert_true(nasked < ARRAY_LEN(asked));
	asked[nasked++] = cap;
	return cap != missing;
}

static void too_old(void **state)
{
	struct err e = {0};
	unsigned n;

	(void)state;
	assert_int_equal(kprobe_enough(11, cap_but_one, -1, &e), -ENOTSUP);
	assert_string_equal(e.text, "/dev/kvm speaks version 11, not 12");
	missing = ~0ul;
	nasked = 0;
	assert_int_equal(kprobe_enough(12, cap_but_one, -1, &e), 0);
	n = nasked;
	assert_true(n > 5);
	for (unsigned i = 0; i < n; i++) {
		missing = asked[i];
		nasked = 0;
		memset(&e, 0, sizeof(e));
		assert_int_equal(kprobe_enough(12, cap_but_one, -1, &e),
				 -ENOTSUP);
		assert_int_equal(nasked, i + 1);
		assert_non_null(
			strstr(e.text, "/dev/kvm of this kernel lacks "));
	}
	missing = KVM_CAP_IRQ_ROUTING;
	nasked = 0;
	kprobe_enough(12, cap_but_one, -1, &e);
	assert_string_equal(e.text,
			    "/dev/kvm of this kernel lacks interrupt routing");
}

/* ---- KVM that cannot go on ---- */

static void shutdown_is_reported(void **state)
{
	RIG(r, triple);

	(void)state;
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_SHUTDOWN);
	if (!strstr(r.v->report, "triple fault (registers lost)"))
		assert_non_null(strstr(r.v->report, "triple fault at "
						    "0000:100d, code 0f 0b"));
	rig_fini(&r);
}

/* Code where there is no memory: KVM cannot fetch it. */
static void failure_is_reported(void **state)
{
	struct cpu_state s;
	struct err e;
	RIG(r, halt);

	(void)state;
	s = rig_state(&r);
	s.seg[SEG_CS].base = 0xb0000;
	s.seg[SEG_CS].sel = 0xb000;
	s.rip = 0;
	assert_int_equal(kvm_engine.vcpu_set(r.v, &s, &e), 0);
	assert_int_equal(kvm_engine.vcpu_run(r.v), VCPU_EXIT_ERROR);
	assert_non_null(strstr(r.v->report, "KVM internal error"));
	assert_non_null(strstr(r.v->report, "b000:0, code unreadable"));
	rig_fini(&r);
}

/* The exit is as if KVM had given it, right before the program's start. */
static void expect_report(struct rig *r, int rc, const char *why)
{
	static const char *const all[] = {
		"vCPU 0: ",
		" at 0000:1000, code fb f4 eb fd",
		" rflags 2 ",
		" cr0 ",
		" cr3 ",
		" efer ",
		" rax 1122334455667788 ",
		" rsp 8000 ",
		" r8 8 ",
		" r15 f",
	};
	struct kvm_vcpu *v = (struct kvm_vcpu *)r->v;

	r->v->report[0] = 0;
	assert_int_equal(krun_handle(v), rc);
	assert_non_null(strstr(r->v->report, why));
	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		if (!strstr(r->v->report, all[i]))
			fail_msg("no '%s' in %s", all[i], r->v->report);
}

static void every_end_is_reported(void **state)
{
	struct cpu_state s;
	struct kvm_run *run;
	struct err e;
	RIG(r, halt);

	(void)state;
	s = rig_state(&r);
	s.gpr[REG_AX] = 0x1122334455667788;
	s.gpr[8] = 8;
	s.gpr[15] = 0xf;
	assert_int_equal(kvm_engine.vcpu_set(r.v, &s, &e), 0);
	run = ((struct kvm_vcpu *)r.v)->run;
	run->exit_reason = KVM_EXIT_FAIL_ENTRY;
	run->fail_entry.hardware_entry_failure_reason = 0x80000021;
	expect_report(&r, VCPU_EXIT_ERROR,
		      "KVM cannot enter the guest: hardware reason 0x80000021");
	run->exit_reason = KVM_EXIT_INTERNAL_ERROR;
	run->internal.suberror = KVM_INTERNAL_ERROR_DELIVERY_EV;
	run->internal.ndata = 1;
	run->internal.data[0] = 0x80000b0e;
	expect_report(&r, VCPU_EXIT_ERROR,
		      "error 3 (exit in event delivery, data 0x80000b0e)");
	run->exit_reason = KVM_EXIT_SYSTEM_EVENT;
	run->system_event.type = 3;
	expect_report(&r, VCPU_EXIT_SHUTDOWN, "system event 3");
	run->exit_reason = 4711;
	expect_report(&r, VCPU_EXIT_ERROR,
		      "KVM gave back the vCPU for reason 4711");
	rig_fini(&r);
}

int main(void)
{
	const struct CMUnitTest without[] = {
		cmocka_unit_test(no_device),
		cmocka_unit_test(no_permission),
		cmocka_unit_test(too_old),
	};
	const struct CMUnitTest with[] = {
		cmocka_unit_test(shutdown_is_reported),
		cmocka_unit_test(failure_is_reported),
		cmocka_unit_test(every_end_is_reported),
	};
	int rc = cmocka_run_group_tests(without, NULL, NULL);

	if (access(KVM_PATH, R_OK | W_OK)) {
		print_message("no " KVM_PATH ": the rest is skipped\n");
		return rc;
	}
	return rc + cmocka_run_group_tests(with, NULL, NULL);
}
