/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moves running guest programs (test/guest) from engine to engine at random
 * points: the whole state is taken from one vCPU and put into another, and
 * the program must print the same as without.
 *
 * The machine has one vCPU, memory, a debug console and a debug-exit port. All
 * engines that work here take part: in the lab KVM and the soft engine,
 * elsewhere the soft engine alone.
 */
#include <libgen.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "cpu/engine.h"
#include "platform/boot.h"
#include "platform/pc.h"

#define RAM        (64 * MIB)
#define OUTPUT_MAX 65536
#define PORT_OUT   0xe9
#define PORT_EXIT  0xf4

struct rig {
	struct mem mem;
	struct engine *g[2];
	struct vcpu *v[2];
	struct vcpu *at; /* where the program runs */
	struct apic_bus *apics[2];
	char out[OUTPUT_MAX];
	unsigned len;
	int exit; /* -1: still running */
};

/* What a program does at most, in ns; kicked at random within. */
struct plan {
	struct cpuid_model cpuid;
	const struct engine_class *engine[4];
	unsigned n;
	unsigned max_us; /* 0: no moves */
};

static u64 rig_pio_read(void *m, u16 port, unsigned len)
{
	(void)m;
	(void)port;
	(void)len;
	return ~0ull;
}

static void rig_pio_write(void *m, u16 port, u64 val, unsigned len)
{
	struct rig *r = m;

	(void)len;
	if (port == PORT_OUT && r->len < OUTPUT_MAX - 1)
		r->out[r->len++] = (char)val;
	if (port == PORT_EXIT) {
		r->exit = (int)val;
		r->at->class->vcpu_kick(r->at);
	}
}

static u64 rig_mmio_read(void *m, gpa_t gpa, unsigned len)
{
	(void)gpa;
	return rig_pio_read(m, 0, len);
}

static void rig_mmio_write(void *m, gpa_t gpa, u64 val, unsigned len)
{
	(void)m;
	(void)gpa;
	(void)val;
	(void)len;
}

static int rig_ack(void *m)
{
	(void)m;
	return -1;
}

static void rig_eoi(void *m, u8 vector)
{
	(void)m;
	(void)vector;
}

static void rig_wake(void *m, unsigned id)
{
	(void)m;
	(void)id;
}

static void rig_timer(void *m, unsigned id, u64 deadline_ns)
{
	(void)m;
	(void)id;
	(void)deadline_ns;
}

static const struct cpu_ops rig_ops = {
	.pio_read = rig_pio_read,
	.pio_write = rig_pio_write,
	.mmio_read = rig_mmio_read,
	.mmio_write = rig_mmio_write,
	.extint_ack = rig_ack,
	.eoi = rig_eoi,
	.wake = rig_wake,
	.timer = rig_timer,
};

static void rig_engine(struct rig *r, unsigned i, const struct engine_class *c,
		       const struct cpuid_model *cpuid)
{
	struct err e = {0};
	struct engine_config config = {
		.mem = &r->mem,
		.ops = &rig_ops,
		.machine = r,
		.cpus = 1,
		.cpuid = cpuid,
	};

	r->apics[i] = apic_bus_new(rig_eoi, r);
	config.apics = r->apics[i];
	r->g[i] = c->new (&config, &e);
	if (!r->g[i])
		fail_msg("%s", e.text);
	r->v[i] = c->vcpu_new(r->g[i], 0, &e);
	if (!r->v[i])
		fail_msg("%s", e.text);
}

static void rig_fini(struct rig *r)
{
	for (unsigned i = 0; i < 2 && r->g[i]; i++) {
		const struct engine_class *c = r->g[i]->class;

		c->vcpu_free(r->v[i]);
		c->free(r->g[i]);
		apic_bus_free(r->apics[i]);
	}
	mem_fini(&r->mem);
}

static void rig_enter(struct rig *r, unsigned i, const struct cpu_state *s)
{
	struct err e = {0};

	r->at = r->v[i];
	mem_written(&r->mem, 0, RAM); /* by the other engine */
	if (r->at->class->vcpu_set(r->at, s, &e) < 0)
		fail_msg("%s", e.text);
}

static void rig_leave(struct rig *r, struct cpu_state *s)
{
	struct err e = {0};

	if (r->at->class->vcpu_get(r->at, s, &e) < 0)
		fail_msg("%s", e.text);
}

static void rig_load(struct rig *r, const char *program, struct cpu_state *s)
{
	char self[4096] = {0}, path[4200];
	struct boot_config b = {0};
	struct boot_entry entry;
	struct err e = {0};

	if (readlink("/proc/self/exe", self, sizeof(self) - 1) < 0)
		fail();
	snprintf(path, sizeof(path), "%s/../guest/%s", dirname(self), program);
	memset(r, 0, sizeof(*r));
	r->exit = -1;
	if (pc_memory(&r->mem, RAM, &e))
		fail_msg("%s", e.text);
	b.kernel = path;
	cpu_state_reset(s, 0);
	if (boot_load(&r->mem, &b, 0, &entry, &e))
		fail_msg("%s", e.text);
	boot_enter(&r->mem, &entry, s);
}

struct kick {
	struct vcpu *v;
	unsigned us;
};

static void *kick_later(void *arg)
{
	struct kick *k = arg;

	usleep(k->us);
	k->v->class->vcpu_kick(k->v);
	return NULL;
}

/* Runs until the program ends or a random time has passed. */
static enum vcpu_exit rig_run(struct rig *r, unsigned max_us)
{
	struct kick k = {.v = r->at, .us = 1 + (unsigned)rand() % (max_us + 1)};
	enum vcpu_exit why;
	pthread_t t;

	if (max_us)
		pthread_create(&t, NULL, kick_later, &k);
	why = r->at->class->vcpu_run(r->at);
	if (max_us)
		pthread_join(t, NULL);
	return why;
}

/* Lines with ~ depend on the CPU, and on how well it is emulated. */
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

/* Runs a program to its end; returns what it printed. */
static char *play(const char *program, const struct plan *p, unsigned *moves)
{
	struct rig *r = test_malloc(sizeof(*r));
	u64 end = clock_ns() + 60000000000;
	struct cpu_state s;
	char *out;

	rig_load(r, program, &s);
	for (unsigned i = 0; i < p->n; i++)
		rig_engine(r, i, p->engine[i], &p->cpuid);
	*moves = 0;
	while (r->exit < 0) {
		enum vcpu_exit why;

		rig_enter(r, (*moves)++ % p->n, &s);
		why = rig_run(r, p->max_us);
		if (why != VCPU_EXIT_KICKED)
			fail_msg("%s on %s: exit %d: %s after:\n%.*s", program,
				 r->at->class->name, why, r->at->report,
				 (int)r->len, r->out);
		if (clock_ns() > end)
			fail_msg("%s hangs after:\n%.*s", program, (int)r->len,
				 r->out);
		rig_leave(r, &s);
	}
	out = strdup(r->out);
	if (strcmp(p->engine[0]->name, p->engine[p->n - 1]->name) ||
	    !strcmp(p->engine[0]->name, "kvm"))
		drop_unsure(out);
	if (r->exit)
		fail_msg("%s failed:\n%s", program, out);
	rig_fini(r);
	test_free(r);
	return out;
}

/* The engines that work here, all of them but the program's first. */
static unsigned engines(const struct engine_class **c)
{
	unsigned n = 0;

	for (unsigned i = 0; engine_classes[i]; i++)
		if (!engine_classes[i]->probe(NULL))
			c[n++] = engine_classes[i];
	return n;
}

/* The line in which two texts differ. */
static const char *line_of(const char *text, size_t at)
{
	static char line[200];
	size_t from = at, n;

	while (from && text[from - 1] != '\n')
		from--;
	n = strcspn(text + from, "\n");
	snprintf(line, sizeof(line), "%.*s", (int)n, text + from);
	return line;
}

static void differ(const char *program, const char *got, const char *want)
{
	size_t at = 0;

	while (got[at] && got[at] == want[at])
		at++;
	print_message("%s printed:  %s\n", program, line_of(got, at));
	print_message("instead of: %s\n", line_of(want, at));
	fail();
}

static void compare(const char *program, struct plan *p, const char *want,
		    u64 run_ns)
{
	u64 end = clock_ns() + 3000000000;
	unsigned moves, total = 0;

	/* About twenty moves in a run. */
	p->max_us = (unsigned)MAX(run_ns / 10000, 20ull);
	for (int i = 0; i < 5 && (!i || clock_ns() < end); i++) {
		char *got = play(program, p, &moves);

		if (strcmp(got, want))
			differ(program, got, want);
		free(got);
		total += moves - 1;
	}
	print_message("%s from %s to %s: moved %u times\n", program,
		      p->engine[0]->name, p->engine[1]->name, total);
}

/* A CPU that both engines can be; KVM decides about the TSC. */
static void common_cpu(struct plan *p)
{
	struct cpuid_model a, b, *kvm;
	struct err e;

	if (p->engine[0]->model(&a, 1, &e) || p->engine[1]->model(&b, 1, &e))
		fail_msg("%s", e.text);
	kvm = strcmp(p->engine[0]->name, "kvm") ? &b : &a;
	cpuid_model_common(&p->cpuid, &a, &b, 1,
			   cpuid_model_get(kvm, 0x40000010, 0, 0).eax *
				   1000ull);
}

static void moved(void **state)
{
	const char *program = *state;
	const struct engine_class *c[4];
	unsigned n = engines(c), moves;

	for (unsigned i = 0; i < n * n; i++) {
		struct plan p = {.engine = {c[i / n], c[i % n]}, .n = 1};
		u64 start = clock_ns();
		char *want;

		common_cpu(&p);
		want = play(program, &p, &moves);
		p.n = 2;
		if (p.engine[0] != p.engine[1])
			drop_unsure(want);
		compare(program, &p, want, clock_ns() - start);
		free(want);
	}
}

int main(int argc, char **argv)
{
	static char *const programs[] = {"boot", "exceptions", "paging",
					 "smc",  "syscalls",   "debug"};
	struct CMUnitTest tests[ARRAY_LEN(programs)];

	srand(argc > 1 ? (unsigned)atoi(argv[1]) : 1);
	for (size_t i = 0; i < ARRAY_LEN(programs); i++)
		tests[i] = (struct CMUnitTest){.name = programs[i],
					       .test_func = moved,
					       .initial_state = programs[i]};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
