/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Saves running machines and goes on in fresh ones, of the same and of the
 * other engine: guest programs (test/guest) that are moved many times print
 * what they print without. Damaged and foreign states are refused and leave
 * the machine as it was.
 */
#include <libgen.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "bus/dev.h"
#include "platform/pc.h"
#include "vm/vm_priv.h"
#include "vm/vm_state.h"

#define OUTPUT_MAX 65536
#define MOVES_MAX  20

struct play {
	const char *engine[2]; /* by turns */
	unsigned max_us;       /* between two moves; 0: none */
	struct loop *loop;
	struct vm_config config;
	char path[4200];
	struct vm *vm;
	struct loop_timer *timer;
	char out[OUTPUT_MAX];
	unsigned len, moves;
	bool moving;
	struct buf state;
	u8 *ram;
	const struct cpuid_model *cpuid; /* NULL: the first engine's */
};

/* ---- a console that remembers ---- */

struct keep {
	struct chr chr;
	struct play *p;
};

static size_t keep_write(struct chr *c, const void *buf, size_t n)
{
	struct play *p = ((struct keep *)c)->p;

	if (p->len + n < OUTPUT_MAX) {
		memcpy(p->out + p->len, buf, n);
		p->len += (unsigned)n;
	}
	return n;
}

static void keep_free(struct chr *c)
{
	free(c);
}

static const struct chr_ops keep_ops = {.write = keep_write, .free = keep_free};

/* ---- moving ---- */

static void play_vm(struct play *p, const struct cpuid_model *cpuid)
{
	struct keep *k = calloc(1, sizeof(*k));
	struct vm_backends b = {.loop = p->loop, .debug = &k->chr};
	struct err e = {0};

	k->chr.ops = &keep_ops;
	k->p = p;
	p->config.engine = p->engine[p->moves % 2];
	p->config.incoming = p->moves > 0;
	p->config.cpuid = cpuid;
	p->vm = vm_new(&p->config, &b, &e);
	if (!p->vm)
		fail_msg("%s", e.text);
}

static void play_save(struct play *p)
{
	struct err e = {0};

	vm_quiesce(p->vm);
	p->state.len = 0;
	if (vm_state_save(p->vm, &p->state, &e))
		fail_msg("%s", e.text);
	memcpy(p->ram, p->vm->mem.base, p->vm->mem.size);
	vm_unquiesce(p->vm);
}

static void play_load(struct play *p)
{
	struct vm_state_info info;
	struct err e = {0};

	if (vm_state_check(p->state.data, p->state.len, &info, &e))
		fail_msg("%s", e.text);
	assert_int_equal(info.memory, p->config.memory);
	p->moves++;
	play_vm(p, &info.cpuid);
	vm_quiesce(p->vm);
	memcpy(p->vm->mem.base, p->ram, p->vm->mem.size);
	if (vm_state_load(p->vm, p->state.data, p->state.len, &e))
		fail_msg("%s", e.text);
	vm_unquiesce(p->vm);
}

static void play_move(void *arg)
{
	struct play *p = arg;

	if (p->vm->end != VM_END_NONE)
		return;
	vm_quiesce(p->vm); /* it stays so */
	if (p->vm->end == VM_END_NONE) {
		play_save(p);
		p->moving = true;
		vm_stop(p->vm);
	}
	vm_unquiesce(p->vm);
}

static void play_arm(struct play *p)
{
	p->moving = false;
	if (p->max_us && p->moves < MOVES_MAX)
		loop_timer_arm(
			p->timer,
			clock_ns() + 1000ull * ((unsigned)rand() % p->max_us));
}

static void play_init(struct play *p, const char *program)
{
	char self[4096] = {0};
	struct err e = {0};

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		fail();
	snprintf(p->path, sizeof(p->path), "%s/../guest/%s", dirname(self),
		 program);
	p->loop = loop_new(&e);
	p->timer = loop_timer_new(p->loop, play_move, p);
	vm_config_init(&p->config);
	p->config.memory = 32 * MIB;
	p->config.net = VM_NET_NONE;
	p->config.boot.kernel = p->path;
	p->config.debug_exit_port = 0xf4;
	p->config.debug_console_port = 0xe9;
	p->ram = malloc(p->config.memory);
}

static void play_fini(struct play *p)
{
	loop_timer_free(p->timer);
	loop_free(p->loop);
	buf_free(&p->state);
	free(p->ram);
}

/* The program's exit status; p->out has what it printed. */
static int play_run(struct play *p)
{
	u64 end = clock_ns() + 60000000000;
	int code;

	play_vm(p, p->cpuid);
	for (;;) {
		enum vm_end why;

		play_arm(p);
		why = vm_run(p->vm);
		if (why == VM_END_DEBUG_EXIT && !p->moving)
			break;
		if (why != VM_END_STOPPED || clock_ns() > end)
			fail_msg("end %d after %u moves: %s\n%.*s", why,
				 p->moves, vm_report(p->vm), (int)p->len,
				 p->out);
		vm_free(p->vm);
		play_load(p);
	}
	code = vm_exit_code(p->vm);
	if (code != 1)
		print_message("%u moves, then:\n%.*s", p->moves, (int)p->len,
			      p->out);
	vm_free(p->vm);
	return code;
}

/* Lines with ~ depend on the CPU. */
static void drop_unsure(char *text)
{
	char *to = text;

	for (char *from = text; *from;) {
		size_t n = strcspn(from, "\n");

		n += from[n] == '\n';
		if (*from != '~') {
			memmove(to, from, n);
			to += n;
		}
		from += n;
	}
	*to = 0;
}

/* A CPU that both engines can be; KVM decides about the TSC. */
static void common_cpu(struct cpuid_model *m, const char *a, const char *b,
		       unsigned cpus)
{
	struct cpuid_model one, two;
	struct err why, e = {0};
	u64 khz;

	if (engine_find(a, &why, &e)->model(&one, cpus, &e) ||
	    engine_find(b, &why, &e)->model(&two, cpus, &e))
		fail_msg("%s", e.text);
	khz = cpuid_model_get(strcmp(a, "kvm") ? &two : &one, 0x40000010, 0, 0)
		      .eax;
	cpuid_model_common(m, &one, &two, cpus, khz * 1000);
}

static void moved(const char *program, unsigned cpus, const char *a,
		  const char *b)
{
	struct play *p = calloc(1, sizeof(*p));
	u64 start = clock_ns();
	struct cpuid_model m;
	char *want;

	common_cpu(&m, a, b, cpus);
	p->cpuid = &m;
	p->engine[0] = a;
	p->engine[1] = b;
	play_init(p, program);
	p->config.cpus = cpus;
	assert_int_equal(play_run(p), 1);
	drop_unsure(p->out);
	want = strdup(p->out);
	p->max_us = (unsigned)((clock_ns() - start) / 1000 / 10) + 100;
	memset(p->out, 0, sizeof(p->out));
	p->len = 0;
	assert_int_equal(play_run(p), 1);
	drop_unsure(p->out);
	assert_string_equal(p->out, want);
	print_message("%s on %u CPUs: moved %u times\n", program, cpus,
		      p->moves);
	free(want);
	play_fini(p);
	free(p);
}

static bool asked; /* for a test by name: its engine is there */

static bool have(const char *engine)
{
	struct err why, e = {0};
	const struct engine_class *c = engine_find(engine, &why, &e);

	if (c && (asked || !c->probe(&e)))
		return true;
	print_message("no %s: %s\n", engine, e.text);
	return false;
}

static void moved_soft(void **state)
{
	(void)state;
	moved("interrupts", 1, "soft", "soft");
	moved("paging", 1, "soft", "soft");
	moved("syscalls", 1, "soft", "soft");
	moved("smp", 2, "soft", "soft");
}

static void moved_kvm(void **state)
{
	(void)state;
	if (!have("kvm"))
		skip();
	moved("interrupts", 1, "kvm", "kvm");
	moved("interrupts", 1, "kvm", "soft");
	moved("syscalls", 1, "soft", "kvm");
	moved("smp", 2, "kvm", "soft");
}

/* ---- states that are not good ---- */

static struct play *still(void)
{
	struct play *p = calloc(1, sizeof(*p));

	p->engine[0] = p->engine[1] = "soft";
	play_init(p, "boot");
	play_vm(p, NULL);
	play_save(p);
	return p;
}

static void still_free(struct play *p)
{
	vm_free(p->vm);
	play_fini(p);
	free(p);
}

static int load(struct play *p, const u8 *data, u64 len, struct err *e)
{
	int rc;

	vm_quiesce(p->vm);
	rc = vm_state_load(p->vm, data, len, e);
	vm_unquiesce(p->vm);
	return rc;
}

static void damaged(void **state)
{
	struct play *p = still();
	struct vm_state_info info;
	struct err e;
	u8 *copy;

	(void)state;
	for (u64 len = 0; len < p->state.len; len += 1 + len / 50) {
		copy = malloc(len + 1);
		memcpy(copy, p->state.data, len);
		assert_true(vm_state_check(copy, len, &info, &e) < 0);
		assert_true(load(p, copy, len, &e) < 0);
		free(copy);
	}
	for (u64 bit = 0; bit < 8 * p->state.len; bit += 1 + bit / 1000) {
		p->state.data[bit / 8] ^= (u8)BIT(bit % 8);
		assert_true(vm_state_check(p->state.data, p->state.len, &info,
					   &e) < 0);
		p->state.data[bit / 8] ^= (u8)BIT(bit % 8);
	}
	assert_int_equal(load(p, p->state.data, p->state.len, &e), 0);
	still_free(p);
}

/* The sentence says what is different, and nothing was changed. */
static void refused(struct play *p, const char *sentence)
{
	struct buf before = {0}, after = {0};
	struct err e = {0};

	vm_quiesce(p->vm);
	assert_int_equal(vm_state_save(p->vm, &before, &e), 0);
	assert_true(vm_state_load(p->vm, p->state.data, p->state.len, &e) < 0);
	if (!strstr(e.text, sentence))
		fail_msg("'%s' is not about '%s'", e.text, sentence);
	assert_int_equal(vm_state_save(p->vm, &after, &e), 0);
	assert_int_equal(before.len, after.len);
	vm_unquiesce(p->vm);
	buf_free(&before);
	buf_free(&after);
}

static void other_machines(void **state)
{
	struct play *p = still();

	(void)state;
	vm_free(p->vm);
	p->config.memory = 64 * MIB;
	play_vm(p, NULL);
	refused(p, "32 MiB");

	vm_free(p->vm);
	p->config.memory = 32 * MIB;
	p->config.cpus = 2;
	play_vm(p, NULL);
	refused(p, "1 CPUs");

	vm_free(p->vm);
	p->config.cpus = 1;
	p->config.net = VM_NET_USER;
	play_vm(p, NULL);
	refused(p, "virtio-net 0, which the saved one does not have");

	play_save(p);
	vm_free(p->vm);
	p->config.net = VM_NET_NONE;
	play_vm(p, NULL);
	refused(p, "virtio-net 0, which this one does not have");
	still_free(p);
}

static void features_by_name(void **state)
{
	struct vm_state_info info;
	struct play *p = still();
	struct err why, e = {0};

	(void)state;
	assert_int_equal(vm_state_check(p->state.data, p->state.len, &info, &e),
			 0);
	assert_string_equal(info.engine, "soft");
	assert_int_equal(vm_state_check_cpu(&info.cpuid, 1,
					    engine_find("soft", &why, &e), &e),
			 0);
	for (unsigned i = 0; i < info.cpuid.n; i++)
		if (info.cpuid.leaf[i].leaf == 7 && !info.cpuid.leaf[i].subleaf)
			info.cpuid.leaf[i].r.ebx |= BIT(16); /* AVX-512 */
	assert_true(vm_state_check_cpu(&info.cpuid, 1,
				       engine_find("soft", &why, &e), &e) < 0);
	assert_non_null(strstr(e.text, "soft engine lacks here: 0x7.16"));
	still_free(p);
}

/* No device's registers are forgotten. */
static void tables_cover(void **state)
{
	struct play *p = still();
	unsigned n = 0;

	(void)state;
	assert_true(state_covers(&cpu_state_desc));
	for (struct dev *d = pc_devices(p->vm->pc)->first; d; d = d->next) {
		if (!d->class->state)
			continue;
		n++;
		if (!state_covers(d->class->state))
			fail_msg("%s", d->class->name);
	}
	assert_true(n >= 10);
	still_free(p);
}

static void set_counter(struct vcpu *v, u64 tsc)
{
	struct cpu_state s;
	struct err e = {0};

	cpu_state_reset(&s, v->id);
	s.tsc = tsc;
	if (v->class->vcpu_set(v, &s, &e))
		fail_msg("%s", e.text);
}

static u64 counter(struct vcpu *v)
{
	struct cpu_state s;
	struct err e = {0};

	if (v->class->vcpu_get(v, &s, &e))
		fail_msg("%s", e.text);
	return s.tsc;
}

/* However long it takes from one vCPU to the next. */
static void counters_agree(void **state)
{
	struct play *p = still();
	u64 tsc = BIT64(40), before, first, second;

	(void)state;
	vm_free(p->vm);
	p->config.cpus = 2;
	play_vm(p, NULL);
	vm_tsc_moment(p->vm, clock_tsc());
	set_counter(p->vm->cpus[0].vcpu, tsc);
	usleep(30000);
	set_counter(p->vm->cpus[1].vcpu, tsc);
	vm_tsc_moment(p->vm, 0);
	before = clock_tsc();
	first = counter(p->vm->cpus[0].vcpu);
	second = counter(p->vm->cpus[1].vcpu);
	assert_in_range(second - first, 0, clock_tsc() - before);
	vm_free(p->vm);
	p->config.cpus = 1;
	play_vm(p, NULL);
	still_free(p);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(tables_cover),
		cmocka_unit_test(counters_agree),
		cmocka_unit_test(damaged),
		cmocka_unit_test(other_machines),
		cmocka_unit_test(features_by_name),
		cmocka_unit_test(moved_soft),
		cmocka_unit_test(moved_kvm),
	};

	srand(argc > 1 ? (unsigned)atoi(argv[1]) : 1);
	asked = argc > 2; /* a slow machine may fail the probe */
	if (asked)
		cmocka_set_test_filter(argv[2]);
	alarm(200); /* a guest that hangs */
	return cmocka_run_group_tests(tests, NULL, NULL);
}
