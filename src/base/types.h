/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Scalar types, bit and array helpers, and ASSERT.
 *
 * u8..u64 are for registers and wire formats, plain C types for the rest.
 * gpa_t and gva_t exist because a mix-up of the two corrupts a guest.
 */
#ifndef BASE_TYPES_H
#define BASE_TYPES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int8_t s8;
typedef int16_t s16;
typedef int32_t s32;
typedef int64_t s64;

typedef u64 gpa_t; /* guest physical address */
typedef u64 gva_t; /* guest linear (virtual, segment base added) address */

#define KIB 1024ull
#define MIB (1024ull * KIB)
#define GIB (1024ull * MIB)

#define PAGE_SHIFT 12
#define PAGE_SIZE  4096ull
#define PAGE_MASK  (PAGE_SIZE - 1)

#define BIT(n)                (1u << (n))
#define BIT64(n)              (1ull << (n))
#define ARRAY_LEN(a)          (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b)             ((a) < (b) ? (a) : (b))
#define MAX(a, b)             ((a) > (b) ? (a) : (b))
#define ALIGN_UP(x, a)        (((x) + (a)-1) & ~((__typeof__(x))(a)-1))
#define ALIGN_DOWN(x, a)      ((x) & ~((__typeof__(x))(a)-1))
#define container_of(p, t, m) ((t *)((char *)(p)-offsetof(t, m)))

#define likely(x)    __builtin_expect(!!(x), 1)
#define unlikely(x)  __builtin_expect(!!(x), 0)
#define PRINTF(f, a) __attribute__((format(printf, f, a)))
#define NORETURN     __attribute__((noreturn))

/* A violated invariant of our own code, never of the guest or the operator. */
#define ASSERT(c) \
	((c) ? (void)0 : assert_failed(#c, __FILE__, __LINE__, __func__))
NORETURN void assert_failed(const char *what, const char *file, int line,
			    const char *func);

#endif
