/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * vCPU threads: run, wait while halted, stop at the gate.
 *
 * The gate is where a thread waits while the VM is paused; it is passed
 * between any two vcpu_run(). Whoever closes it kicks and wakes all vCPUs
 * afterwards, and no kick is lost, so each arrives there soon.
 *
 * The soft engine's local APIC timers: a halted vCPU waits until the deadline
 * itself; a running one is kicked by a POSIX timer's signal to its thread.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <linux/futex.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/log.h"
#include "vm/vm_priv.h"

#ifndef sigev_notify_thread_id
#define sigev_notify_thread_id _sigev_un._tid
#endif

#define NS_PER_S 1000000000ull

static struct timespec vm_timespec(u64 ns)
{
	return (struct timespec){(time_t)(ns / NS_PER_S),
				 (long)(ns % NS_PER_S)};
}

/* Until *word is not val, or clock_ns() >= deadline (0: for ever). */
static void vm_futex_wait(u32 *word, u32 val, u64 deadline)
{
	struct timespec ts = vm_timespec(deadline);

	syscall(SYS_futex, word, FUTEX_WAIT_BITSET_PRIVATE, val,
		deadline ? &ts : NULL, NULL, FUTEX_BITSET_MATCH_ANY);
}

void vm_cpu_wake(struct vm_cpu *c)
{
	u32 was = __atomic_exchange_n(&c->wake, WAKE_PENDING, __ATOMIC_SEQ_CST);

	if (was == WAKE_SLEEPING)
		syscall(SYS_futex, &c->wake, FUTEX_WAKE_PRIVATE, 1);
}

void vm_cpu_set_timer(struct vm_cpu *c, u64 deadline_ns)
{
	struct itimerspec its = {.it_value = vm_timespec(deadline_ns)};

	__atomic_store_n(&c->deadline, deadline_ns, __ATOMIC_SEQ_CST);
	if (c->has_timer)
		timer_settime(c->timer, TIMER_ABSTIME, &its, NULL);
}

/* On the vCPU's thread, outside of vcpu_run(). */
static bool vm_cpu_timer_due(struct vm_cpu *c)
{
	u64 d = __atomic_load_n(&c->deadline, __ATOMIC_SEQ_CST);

	if (!d || clock_ns() < d ||
	    !__atomic_compare_exchange_n(&c->deadline, &d, 0, false,
					 __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST))
		return false;
	if (c->vcpu->lapic)
		lapic_timer_fired(c->vcpu->lapic);
	return true;
}

/* Halted: until somebody wakes the vCPU or its timer is due. */
static void vm_cpu_wait(struct vm_cpu *c)
{
	for (;;) {
		u32 none = WAKE_NONE;

		if (vm_cpu_timer_due(c))
			return;
		if (!__atomic_compare_exchange_n(&c->wake, &none, WAKE_SLEEPING,
						 false, __ATOMIC_SEQ_CST,
						 __ATOMIC_SEQ_CST))
			break;
		vm_futex_wait(&c->wake, WAKE_SLEEPING,
			      __atomic_load_n(&c->deadline, __ATOMIC_SEQ_CST));
		if (__atomic_exchange_n(&c->wake, WAKE_NONE,
					__ATOMIC_SEQ_CST) == WAKE_PENDING)
			return;
	}
	__atomic_store_n(&c->wake, WAKE_NONE, __ATOMIC_SEQ_CST);
}

/* Waits while the gate is closed. False: the thread shall end. */
static bool vm_cpu_gate(struct vm_cpu *c)
{
	struct vm *vm = c->vm;
	bool quit;

	pthread_mutex_lock(&vm->lock);
	vm->parked++;
	pthread_cond_broadcast(&vm->changed);
	while (__atomic_load_n(&vm->hold, __ATOMIC_SEQ_CST) && !vm->quit)
		pthread_cond_wait(&vm->changed, &vm->lock);
	vm->parked--;
	quit = vm->quit;
	pthread_mutex_unlock(&vm->lock);
	return !quit;
}

static void vm_cpu_signal(int sig, siginfo_t *info, void *context)
{
	struct vm_cpu *c = info->si_value.sival_ptr;

	(void)sig;
	(void)context;
	if (info->si_code == SI_TIMER)
		c->vcpu->class->vcpu_kick(c->vcpu);
}

/* The thread's name, signals and timer. */
static void vm_cpu_prepare(struct vm_cpu *c)
{
	struct sigaction sa = {.sa_sigaction = vm_cpu_signal,
			       .sa_flags = SA_SIGINFO | SA_RESTART};
	struct sigevent ev = {.sigev_notify = SIGEV_THREAD_ID,
			      .sigev_signo = VM_TIMER_SIGNAL,
			      .sigev_value.sival_ptr = c};
	char name[16];
	sigset_t set;

	snprintf(name, sizeof(name), "vcpu%u", c->id);
	prctl(PR_SET_NAME, name);
	/* The kernel rounds waits of ordinary threads by 50 us. */
	prctl(PR_SET_TIMERSLACK, 1);
	sigaction(VM_TIMER_SIGNAL, &sa, NULL);
	sigemptyset(&set);
	sigaddset(&set, VM_TIMER_SIGNAL);
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	ev.sigev_notify_thread_id = gettid();
	c->has_timer = c->vcpu->lapic &&
		       timer_create(CLOCK_MONOTONIC, &ev, &c->timer) == 0;
	if (c->vcpu->lapic && !c->has_timer)
		log_warn("vCPU %u has no timer", c->id);
	if (c->has_timer && c->deadline)
		vm_cpu_set_timer(c, c->deadline);
}

static void vm_cpu_stopped(struct vm_cpu *c, enum vcpu_exit why)
{
	char text[800];

	snprintf(text, sizeof(text), "vCPU %u: %s%s%s", c->id,
		 why == VCPU_EXIT_SHUTDOWN ? "triple fault" : "",
		 why == VCPU_EXIT_SHUTDOWN && c->vcpu->report[0] ? ": " : "",
		 c->vcpu->report);
	vm_ended(c->vm,
		 why == VCPU_EXIT_SHUTDOWN ? VM_END_SHUTDOWN : VM_END_ERROR, 0,
		 text);
}

/* Nothing but the gate is between here and the guest. */
static void vm_cpu_first(void)
{
	log_info("first instruction %.2f ms after the start, %.2f ms of CPU "
		 "time",
		 (double)(clock_ns() - clock_started()) / 1e6,
		 (double)clock_read_ns(CLOCK_PROCESS_CPUTIME_ID) / 1e6);
}

static void *vm_cpu_main(void *arg)
{
	struct vm_cpu *c = arg;
	struct err e;

	vm_cpu_prepare(c);
	if (sched_pin(&c->vm->config.sched, c->id, &e))
		vm_ended(c->vm, VM_END_ERROR, 0, e.text);
	if (!c->id)
		vm_cpu_first();
	while (vm_cpu_gate(c)) {
		enum vcpu_exit why;

		do {
			why = c->vcpu->class->vcpu_run(c->vcpu);
			if (why == VCPU_EXIT_HALTED)
				vm_cpu_wait(c);
			else if (why == VCPU_EXIT_KICKED)
				vm_cpu_timer_due(c);
			else
				vm_cpu_stopped(c, why);
		} while (!__atomic_load_n(&c->vm->hold, __ATOMIC_SEQ_CST));
	}
	if (c->has_timer)
		timer_delete(c->timer);
	c->has_timer = false;
	return NULL;
}

/* All signals but the vCPU's own stay with the loop's thread. */
static int vm_cpu_start(struct vm_cpu *c)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGFPE);
	sigdelset(&all, SIGILL);
	sigdelset(&all, SIGTRAP);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&c->thread, NULL, vm_cpu_main, c);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc)
		return -rc;
	c->started = true;
	pthread_mutex_lock(&c->vm->lock);
	c->vm->started++;
	pthread_mutex_unlock(&c->vm->lock);
	return 0;
}

int vm_cpus_start(struct vm *vm, struct err *e)
{
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		int rc = vm_cpu_start(&vm->cpus[i]);

		if (rc)
			return err_errno(e, rc, "cannot start vCPU %u", i);
	}
	return 0;
}

void vm_kick_all(struct vm *vm)
{
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct vm_cpu *c = &vm->cpus[i];

		c->vcpu->class->vcpu_kick(c->vcpu);
		vm_cpu_wake(c);
	}
}

void vm_cpus_abandon(struct vm *vm)
{
	pthread_mutex_lock(&vm->lock);
	vm->quit = true;
	__atomic_store_n(&vm->hold, 1, __ATOMIC_SEQ_CST);
	pthread_cond_broadcast(&vm->changed);
	pthread_mutex_unlock(&vm->lock);
	vm_kick_all(vm);
}

void vm_cpus_quit(struct vm *vm)
{
	vm_cpus_abandon(vm);
	for (unsigned i = 0; i < vm->config.cpus; i++)
		if (vm->cpus[i].started)
			pthread_join(vm->cpus[i].thread, NULL);
}
