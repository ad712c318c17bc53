/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What tests of SIMD and x87 handlers stand on instead of an MMU: guest linear
 * addresses are host addresses, of two pages before one without access.
 * Included once by each test program.
 */
#ifndef CPU_SOFT_SIMD_BED_H
#define CPU_SOFT_SIMD_BED_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include <cmocka.h>

#include "cpu/soft/simd_priv.h"

static u8 *test_page; /* two pages, then one without access */
static struct tlb_entry test_tlb[TLB_SIZE];
static bool test_slow; /* make soft_host() miss */

NORETURN void soft_fault(struct soft_vcpu *v, u8 vector)
{
	v->fault_vector = vector;
	siglongjmp(v->fault_env, 1);
}

NORETURN void soft_fault_err(struct soft_vcpu *v, u8 vector, u32 error)
{
	v->fault_error = error;
	soft_fault(v, vector);
}

static void test_access(struct soft_vcpu *v, gva_t lin, u64 n)
{
	if (lin < (u64)test_page || lin + n > (u64)test_page + 2 * PAGE_SIZE)
		soft_fault(v, VEC_PF);
}

u64 mmu_ld(struct soft_vcpu *v, gva_t lin, unsigned size, bool sys)
{
	(void)sys;
	test_access(v, lin, size);
	return host_ld((void *)lin, size);
}

void mmu_st(struct soft_vcpu *v, gva_t lin, unsigned size, u64 val, bool sys)
{
	(void)sys;
	test_access(v, lin, size);
	host_st((void *)lin, size, val);
}

void soft_ld_bytes(struct soft_vcpu *v, gva_t lin, void *buf, u64 n)
{
	test_access(v, lin, n);
	memcpy(buf, (void *)lin, n);
}

void soft_st_bytes(struct soft_vcpu *v, gva_t lin, const void *buf, u64 n)
{
	test_access(v, lin, n);
	memcpy((void *)lin, buf, n);
}

void *mmu_host(struct soft_vcpu *v, gva_t lin, u64 n, enum mmu_access access)
{
	(void)v;
	(void)access;
	if (test_slow || lin < (u64)test_page ||
	    lin + n > (u64)test_page + 2 * PAGE_SIZE)
		return NULL;
	return (void *)lin;
}

void soft_probe(struct soft_vcpu *v, gva_t lin, u64 n, enum mmu_access access)
{
	(void)access;
	test_access(v, lin, n);
}

gva_t mmu_lin(struct soft_vcpu *v, unsigned seg, u64 off, u64 size,
	      enum mmu_access access)
{
	(void)seg;
	(void)size;
	(void)access;
	if (!lin_canonical(off))
		soft_fault_err(v, VEC_GP, 0);
	return off;
}

u64 soft_ea(const struct soft_vcpu *v, const struct insn *i)
{
	u64 ea = (u64)(s64)i->disp;

	if (i->base < 16)
		ea += v->gpr[i->base];
	if (i->index < 16)
		ea += v->gpr[i->index] << i->scale;
	return ea;
}

/* A vCPU in 64-bit mode at CPL 3 with all extensions on. */
static struct soft_vcpu *test_vcpu_new(void)
{
	struct soft_vcpu *v =
		aligned_alloc(64, ALIGN_UP(sizeof(struct soft_vcpu), 64));

	assert_non_null(v);
	memset(v, 0, sizeof(*v));
	if (!test_page) {
		test_page = mmap(NULL, 3 * PAGE_SIZE, PROT_READ | PROT_WRITE,
				 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
		mprotect(test_page + 2 * PAGE_SIZE, PAGE_SIZE, PROT_NONE);
	}
	for (unsigned k = 0; k < TLB_SIZE; k++)
		test_tlb[k].tag_read = test_tlb[k].tag_write = TLB_NONE;
	v->tlb = test_tlb;
	v->mode = MODE_CS64 | MODE_PE | MODE_LMA | MODE_PG | MODE_CPL3;
	v->cpl = 3;
	v->cr0 = CR0_PE | CR0_NE | CR0_MP;
	v->cr4 = CR4_OSFXSR | CR4_OSXMMEXCPT | CR4_OSXSAVE;
	v->xcr0 = 7;
	assert_int_equal(simd_init(v, NULL), 0);
	return v;
}

static void test_vcpu_free(struct soft_vcpu *v)
{
	simd_fini(v);
	free(v);
}

/* Runs a handler; the vector of its fault, or -1. */
static int test_run(struct soft_vcpu *v, const struct insn *i)
{
	if (sigsetjmp(v->fault_env, 0))
		return v->fault_vector;
	i->fn(v, i);
	return -1;
}

#endif
