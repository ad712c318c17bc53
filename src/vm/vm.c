/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/vm.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "cpu/jit/jit.h"
#include "vm/pager.h"
#include "vm/snap.h"
#include "vm/vm_priv.h"
#include "vm/vm_state.h"

void vm_do_wanted(struct vm *vm)
{
	u32 want = __atomic_load_n(&vm->want, __ATOMIC_SEQ_CST);

	if (want & VM_WANT_END)
		loop_stop(vm->loop);
	else if (want & VM_WANT_RESET && vm_is_whole(vm))
		vm_do_reset(vm);
}

static void vm_wanted(void *arg)
{
	vm_do_wanted(arg);
}

void vm_request(struct vm *vm, u32 want)
{
	u32 was = __atomic_fetch_or(&vm->want, want, __ATOMIC_SEQ_CST);

	__atomic_store_n(&vm->hold, 1, __ATOMIC_SEQ_CST);
	vm_kick_all(vm);
	if ((was & want) != want) /* else the loop knows already */
		loop_call(vm->loop, vm_wanted, vm);
}

void vm_ended(struct vm *vm, enum vm_end end, int code, const char *report)
{
	pthread_mutex_lock(&vm->end_lock);
	if (vm->end == VM_END_NONE) {
		vm->end = end;
		vm->code = code;
		snprintf(vm->report, sizeof(vm->report), "%s", report);
	}
	pthread_mutex_unlock(&vm->end_lock);
	vm_request(vm, VM_WANT_END);
}

static void vm_event(void *arg, enum pc_event ev, u32 val)
{
	struct vm *vm = arg;

	switch (ev) {
	case PC_EVENT_POWER_OFF: vm_ended(vm, VM_END_POWER_OFF, 0, ""); break;
	case PC_EVENT_DEBUG_EXIT:
		vm_ended(vm, VM_END_DEBUG_EXIT, (int)(val & 0xff), "");
		break;
	case PC_EVENT_RESET:
		if (vm->config.no_reboot)
			vm_ended(vm, VM_END_RESET, 0, "");
		else
			vm_request(vm, VM_WANT_RESET);
		break;
	}
}

static void vm_wake(void *arg, unsigned id)
{
	vm_cpu_wake(&((struct vm *)arg)->cpus[id]);
}

static void vm_timer(void *arg, unsigned id, u64 deadline_ns)
{
	vm_cpu_set_timer(&((struct vm *)arg)->cpus[id], deadline_ns);
}

static int vm_boot_cpu(struct vm *vm, unsigned id, struct err *e)
{
	struct vcpu *v = vm->cpus[id].vcpu;
	struct cpu_state *s = malloc(sizeof(*s));
	int rc = 0;

	if (!s)
		return err_set(e, -ENOMEM, "no memory for a vCPU's state");
	cpu_state_reset(s, id);
	if (id == 0)
		rc = pc_boot(vm->pc, &vm->config.boot, s, e);
	if (!rc)
		rc = v->class->vcpu_set(v, s, e);
	free(s);
	return rc;
}

void vm_tsc_moment(struct vm *vm, u64 host_tsc)
{
	if (vm->engine->class->tsc_moment)
		vm->engine->class->tsc_moment(vm->engine, host_tsc);
}

/* Images into memory and every vCPU to its start. vCPUs do not run. */
static int vm_boot(struct vm *vm, struct err *e)
{
	int rc = 0;

	if (!vm->config.boot.kernel)
		return err_set(e, -ENOENT, "no kernel to boot");
	vm_tsc_moment(vm, clock_tsc());
	for (unsigned i = 0; !rc && i < vm->config.cpus; i++)
		rc = vm_boot_cpu(vm, i, e);
	vm_tsc_moment(vm, 0);
	return rc;
}

void vm_do_reset(struct vm *vm)
{
	struct err e = {{0}};
	char text[600];
	int rc;

	if (vm->away) { /* what is here is the last copy, perhaps */
		__atomic_and_fetch(&vm->want, ~(u32)VM_WANT_RESET,
				   __ATOMIC_SEQ_CST);
		return;
	}
	vm_quiesce(vm);
	pc_reset(vm->pc);
	rc = vm_boot(vm, &e);
	if (rc) {
		snprintf(text, sizeof(text), "reset: %s", e.text);
		vm_ended(vm, VM_END_ERROR, 0, text);
	}
	__atomic_and_fetch(&vm->want, ~(u32)VM_WANT_RESET, __ATOMIC_SEQ_CST);
	vm_unquiesce(vm);
}

void vm_hold(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->pauses++;
	__atomic_store_n(&vm->hold, 1, __ATOMIC_SEQ_CST);
	pthread_mutex_unlock(&vm->lock);
	vm_kick_all(vm);
}

void vm_pause(struct vm *vm)
{
	vm_hold(vm);
	pthread_mutex_lock(&vm->lock);
	while (vm->parked < vm->started && !vm->quit)
		pthread_cond_wait(&vm->changed, &vm->lock);
	pthread_mutex_unlock(&vm->lock);
}

/* A want that comes between the look and the store closes the gate again by
 * its call of vm_wanted(), which is still to come. */
void vm_resume(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	ASSERT(vm->pauses);
	vm->pauses--;
	if (!vm->pauses && !vm->quit) {
		__atomic_store_n(&vm->hold, 0, __ATOMIC_SEQ_CST);
		if (__atomic_load_n(&vm->want, __ATOMIC_SEQ_CST))
			__atomic_store_n(&vm->hold, 1, __ATOMIC_SEQ_CST);
		pthread_cond_broadcast(&vm->changed);
	}
	pthread_mutex_unlock(&vm->lock);
}

static int vm_make_engine(struct vm *vm, struct err *e)
{
	struct engine_config ec = {
		.mem = &vm->mem,
		.ops = &pc_cpu_ops,
		.machine = vm->pc,
		.apics = pc_apics(vm->pc),
		.cpus = vm->config.cpus,
		.cpuid = vm->config.cpuid,
		.nested = vm->config.nested,
		.translator = vm->config.interp_only ? NULL : &jit_translator,
		.direct = vm->config.direct,
		.trace = vm->config.trace,
		.code_cache = vm->config.code_cache,
		.lockstep = vm->config.lockstep,
	};
	const struct engine_class *c;

	c = engine_find(vm->config.lockstep ? "soft" : vm->config.engine,
			&vm->why, e);
	if (!c)
		return -ENODEV;
	if (vm->config.incoming && ec.cpuid &&
	    vm_state_check_cpu(ec.cpuid, ec.cpus, c, e))
		return -ENOTSUP;
	vm->engine = c->new (&ec, e);
	if (!vm->engine)
		return -ENODEV;
	vm->config.cpuid = vm->engine->config.cpuid;
	pc_connect(vm->pc, vm->engine);
	return 0;
}

static int vm_make_cpus(struct vm *vm, struct err *e)
{
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct vm_cpu *c = &vm->cpus[i];

		c->vcpu = vm->engine->class->vcpu_new(vm->engine, i, e);
		if (!c->vcpu)
			return -ENOMEM;
	}
	return 0;
}

static int vm_make_board(struct vm *vm, struct vm_parts *p, struct err *e)
{
	struct pc_config pc = {
		.mem = &vm->mem,
		.loop = vm->loop,
		.cpus = vm->config.cpus,
		.com1 = p->serial,
		.debug_exit_port = vm->config.debug_exit_port,
		.debug_chr_port = vm->config.debug_console_port,
		.debug_chr = p->debug,
		.host = {vm_event, vm_wake, vm_timer, vm},
	};

	p->serial = p->debug = NULL;
	vm->pc = pc_new(&pc, e);
	return vm->pc ? 0 : -EINVAL;
}

static int vm_build(struct vm *vm, struct vm_parts *p, struct err *e)
{
	int rc;

	vm_parts_config(p, &vm->config);
	vm->front = p->serial;
	/* Before the first thread: threads inherit it. */
	rc = sched_join(&vm->sched, &vm->config.sched, e);
	if (rc)
		return rc;
	rc = pc_memory_file(&vm->mem, vm->config.memory,
			    vm->config.ram_file ? vm->config.ram_fd : -1, e);
	if (rc)
		return rc;
	rc = vm_make_board(vm, p, e);
	if (!rc)
		rc = vm_make_devices(vm, p, e);
	if (!rc)
		rc = vm_make_engine(vm, e);
	if (!rc)
		rc = vm_make_cpus(vm, e);
	if (!rc && !vm->config.incoming)
		rc = vm_boot(vm, e);
	return rc;
}

static struct vm *vm_alloc(const struct vm_config *c, struct loop *l)
{
	struct vm *vm = calloc(1, sizeof(*vm));

	if (!vm)
		return NULL;
	vm->config = *c;
	vm->config.sched.name = c->name;
	vm->loop = l;
	vm->mem.fd = -1;
	pthread_mutex_init(&vm->lock, NULL);
	pthread_mutex_init(&vm->end_lock, NULL);
	pthread_mutex_init(&vm->track_lock, NULL);
	pthread_cond_init(&vm->changed, NULL);
	vm->cpus = calloc(c->cpus, sizeof(*vm->cpus));
	if (!vm->cpus) {
		free(vm);
		return NULL;
	}
	for (unsigned i = 0; i < c->cpus; i++)
		vm->cpus[i] = (struct vm_cpu){.vm = vm, .id = i};
	return vm;
}

struct vm *vm_new(const struct vm_config *c, const struct vm_backends *b,
		  struct err *e)
{
	struct vm_parts parts;
	struct vm *vm = NULL;
	int rc;

	rc = vm_parts_init(&parts, b, e);
	if (!rc)
		rc = vm_config_check(c, e);
	if (!rc)
		rc = sched_check(&c->sched, c->cpus, e);
	if (!rc) {
		vm = vm_alloc(c, b->loop);
		rc = vm ? vm_build(vm, &parts, e)
			: err_set(e, -ENOMEM, "no memory for the machine");
	}
	vm_parts_fini(&parts);
	if (!rc)
		return vm;
	if (vm)
		vm_free(vm);
	return NULL;
}

void vm_free(struct vm *vm)
{
	snap_last_free(vm->last);
	for (unsigned i = 0; i < vm->config.cpus; i++)
		if (vm->cpus[i].vcpu)
			vm->engine->class->vcpu_free(vm->cpus[i].vcpu);
	pager_release(vm->pager);
	if (vm->pc)
		pc_free(vm->pc);
	agent_free(vm->agent);
	if (vm->engine)
		vm->engine->class->free(vm->engine);
	pager_free(vm->pager);
	if (vm->mem.fd >= 0)
		mem_fini(&vm->mem);
	sched_leave(&vm->sched);
	pthread_cond_destroy(&vm->changed);
	pthread_mutex_destroy(&vm->end_lock);
	pthread_mutex_destroy(&vm->track_lock);
	pthread_mutex_destroy(&vm->lock);
	free(vm->cpus);
	free(vm);
}

enum vm_end vm_run(struct vm *vm)
{
	struct err e = {{0}};

	if (vm_cpus_start(vm, &e))
		vm_ended(vm, VM_END_ERROR, 0, e.text);
	loop_run(vm->loop);
	pager_release(vm->pager); /* a vCPU may wait for memory */
	if (vm_is_whole(vm))
		vm_cpus_quit(vm);
	else
		vm_cpus_abandon(vm);
	return vm->end;
}

const char *vm_end_name(enum vm_end end)
{
	static const char *const names[] = {
		[VM_END_NONE] = "none",
		[VM_END_POWER_OFF] = "power-off",
		[VM_END_RESET] = "reset",
		[VM_END_DEBUG_EXIT] = "debug-exit",
		[VM_END_SHUTDOWN] = "triple-fault",
		[VM_END_ERROR] = "error",
		[VM_END_STOPPED] = "stopped",
		[VM_END_MOVED] = "moved",
	};

	return names[end];
}

int vm_exit_code(const struct vm *vm)
{
	return vm->code;
}

const char *vm_report(const struct vm *vm)
{
	return vm->report;
}

const char *vm_engine(const struct vm *vm)
{
	return vm->engine->class->name;
}

const char *vm_engine_why(const struct vm *vm)
{
	return vm->why.text;
}

const struct vm_config *vm_config(const struct vm *vm)
{
	return &vm->config;
}

void vm_moved(struct vm *vm, const char *dest)
{
	vm_ended(vm, VM_END_MOVED, 0, dest);
}

void vm_stop(struct vm *vm)
{
	vm_ended(vm, VM_END_STOPPED, 0, "");
}

void vm_reset(struct vm *vm)
{
	vm_event(vm, PC_EVENT_RESET, 0);
}

void vm_power_button(struct vm *vm)
{
	pc_power_button(vm->pc);
}

void vm_nmi(struct vm *vm)
{
	struct engine *g = vm->engine;

	if (!g->class->nmi) {
		pc_nmi(vm->pc);
		return;
	}
	for (unsigned i = 0; i < vm->config.cpus; i++)
		g->class->nmi(vm->cpus[i].vcpu);
}
