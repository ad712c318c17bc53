/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/vm_state_desc.h"

#include <errno.h>
#include <string.h>

#include "platform/pc_map.h"
#include "vm/vm_console.h"

static const struct state_field vm_fields[] = {
	STATE(struct vm_regs, memory, 1),    STATE(struct vm_regs, clock_ns, 1),
	STATE(struct vm_regs, real_ns, 1),   STATE(struct vm_regs, cpus, 1),
	STATE(struct vm_regs, has_clock, 1), STATE(struct vm_regs, console, 1),
	STATE(struct vm_regs, pad, 1),
};

static int vm_regs_check(const void *regs, struct err *e)
{
	const struct vm_regs *r = regs;

	if (!r->cpus || r->cpus > PC_CPUS_MAX)
		return err_set(e, -EDOM, "vm: %u CPUs", r->cpus);
	if (r->memory < PC_MEMORY_MIN || r->memory > PC_MEMORY_MAX ||
	    r->memory & PAGE_MASK)
		return err_set(e, -EDOM, "vm: %lu bytes of memory", r->memory);
	if (r->has_clock > 1 || r->console >= VM_CONSOLES)
		return err_set(e, -EDOM,
			       "vm: nonsense about the clock or the "
			       "console");
	return 0;
}

const struct state_desc vm_state_desc = {
	.name = "vm",
	.version = 1,
	.size = sizeof(struct vm_regs),
	.fields = vm_fields,
	.nfields = ARRAY_LEN(vm_fields),
	.check = vm_regs_check,
};

static const struct state_field vm_cpuid_fields[] = {
	STATE(struct vm_cpuid_regs, xcr0_mask, 1),
	STATE(struct vm_cpuid_regs, arch_capabilities, 1),
	STATE(struct vm_cpuid_regs, pv_features, 1),
	STATE(struct vm_cpuid_regs, n, 1),
	STATE_ARRAY(struct vm_cpuid_regs, leaf, 1),
	STATE_ARRAY(struct vm_cpuid_regs, subleaf, 1),
	STATE_ARRAY(struct vm_cpuid_regs, has_subleaf, 1),
	STATE_ARRAY(struct vm_cpuid_regs, eax, 1),
	STATE_ARRAY(struct vm_cpuid_regs, ebx, 1),
	STATE_ARRAY(struct vm_cpuid_regs, ecx, 1),
	STATE_ARRAY(struct vm_cpuid_regs, edx, 1),
};

static int vm_cpuid_check(const void *regs, struct err *e)
{
	const struct vm_cpuid_regs *r = regs;

	if (!r->n || r->n > CPUID_LEAVES)
		return err_set(e, -EDOM, "cpuid: %u leaves", r->n);
	for (u32 i = 0; i < r->n; i++)
		if (r->has_subleaf[i] > 1)
			return err_set(e, -EDOM, "cpuid: leaf %u is nonsense",
				       i);
	return 0;
}

const struct state_desc vm_cpuid_desc = {
	.name = "cpuid",
	.version = 1,
	.size = sizeof(struct vm_cpuid_regs),
	.fields = vm_cpuid_fields,
	.nfields = ARRAY_LEN(vm_cpuid_fields),
	.check = vm_cpuid_check,
};

_Static_assert(CPUID_LEAVES <= VM_CPUID_LEAVES, "format");

void vm_cpuid_from_model(struct vm_cpuid_regs *r, const struct cpuid_model *m)
{
	memset(r, 0, sizeof(*r));
	r->xcr0_mask = m->xcr0_mask;
	r->arch_capabilities = m->arch_capabilities;
	r->pv_features = m->pv_features;
	r->n = m->n;
	for (unsigned i = 0; i < m->n; i++) {
		const struct cpuid_leaf *l = &m->leaf[i];

		r->leaf[i] = l->leaf;
		r->subleaf[i] = l->subleaf;
		r->has_subleaf[i] = l->has_subleaf;
		r->eax[i] = l->r.eax;
		r->ebx[i] = l->r.ebx;
		r->ecx[i] = l->r.ecx;
		r->edx[i] = l->r.edx;
	}
}

void vm_cpuid_to_model(struct cpuid_model *m, const struct vm_cpuid_regs *r)
{
	memset(m, 0, sizeof(*m));
	m->xcr0_mask = r->xcr0_mask;
	m->arch_capabilities = r->arch_capabilities;
	m->pv_features = r->pv_features;
	m->n = r->n;
	for (unsigned i = 0; i < m->n; i++)
		m->leaf[i] = (struct cpuid_leaf){
			.leaf = r->leaf[i],
			.subleaf = r->subleaf[i],
			.has_subleaf = r->has_subleaf[i],
			.r = {r->eax[i], r->ebx[i], r->ecx[i], r->edx[i]},
		};
}
