/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Small user programs for a guest, whose output must be the same however the
 * guest's user code is run: see test/direct.sh. A case prints what it sees
 * (nothing that depends on time, place or process ids) and says check() of
 * what must hold anyway. Each runs in a process of its own.
 */
#ifndef DIRECT_CASES_H
#define DIRECT_CASES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;

#define PAGE         4096ul
#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

struct test_case {
	const char *name;
	void (*run)(void);
};

/* One list a file; ends with a NULL name. */
extern const struct test_case fault_cases[], call_cases[], value_cases[],
	state_cases[], code_cases[], memory_cases[], thread_cases[],
	trace_cases[], hostile_cases[];

/* Prints a line, after the case's name. */
void say(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* Prints that it does not hold, if so; the case has failed. */
void check(bool holds, const char *what);

/* Computes for so long in user mode that it looks worth running directly. */
void warm(void);

u64 now_ns(void);

/* Anonymous memory; ends the case if there is none. */
void *pages(void *at, size_t size, int prot);

/* Runs f(arg) in another process; its wait status. */
int status_of(void (*f)(void *), void *arg);

/* Prints how a process ended. */
void say_status(const char *what, int status);

/* ---- signals ---- */

struct caught {
	volatile int signo; /* 0: none */
	int code;
	u64 addr, rip, trap, error;
	u64 rcx, rsi, rdi;
};

/*
 * Runs the code at f (which need not return) with rax = a and rbx = b, until
 * it returns or a signal comes: *c.
 */
void catch (struct caught *c, const void *f, u64 a, u64 b);

#endif
