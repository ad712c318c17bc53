/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * For tests of the KVM engine: a VM with one vCPU that runs a few bytes of
 * real-mode code, and notes every access to ports and MMIO.
 */
#ifndef CPU_KVM_KVM_TESTING_H
#define CPU_KVM_KVM_TESTING_H

#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "cpu/kvm/kvm_priv.h"
#include "cpu/x86/x86.h"

#define CODE 0x1000
#define RAM  (32 * MIB)

/* Guest code: rm_NAME to rm_NAME_end, loaded at CODE. */
#define RM(name, text)                                                \
	__asm__(".pushsection .rodata\nrm_" #name ":\n.code16\n" text \
		"\n.code64\nrm_" #name "_end:\n.popsection\n");       \
	extern const u8 rm_##name[], rm_##name##_end[];

struct access {
	u64 at, val;
	unsigned len;
	bool write;
};

struct rig {
	struct mem mem;
	struct engine *g;
	struct vcpu *v;
	struct access log[32];
	unsigned n, stop_after; /* kicks the vCPU after so many accesses */
	int vector;             /* of the 8259, or -1 */
	int ended;              /* vector of the last EOI, or -1 */
};

static inline void rig_log(struct rig *r, u64 at, u64 val, unsigned len,
			   bool write)
{
	if (r->n < ARRAY_LEN(r->log))
		r->log[r->n] = (struct access){at, val, len, write};
	if (++r->n >= r->stop_after && r->stop_after)
		kvm_engine.vcpu_kick(r->v);
}

static inline u64 rig_pio_read(void *m, u16 port, unsigned len)
{
	rig_log(m, port, 0, len, false);
	return 0xa1b2c3d4 + ((struct rig *)m)->n;
}

static inline void rig_pio_write(void *m, u16 port, u64 val, unsigned len)
{
	rig_log(m, port, val, len, true);
}

static inline u64 rig_mmio_read(void *m, gpa_t gpa, unsigned len)
{
	rig_log(m, gpa, 0, len, false);
	return 0x1122334455667788 + ((struct rig *)m)->n;
}

static inline void rig_mmio_write(void *m, gpa_t gpa, u64 val, unsigned len)
{
	rig_log(m, gpa, val, len, true);
}

static inline int rig_ack(void *m)
{
	struct rig *r = m;
	int vector = r->vector;

	r->vector = -1;
	kvm_engine.extint(r->g, false);
	return vector;
}

static inline void rig_eoi(void *m, u8 vector)
{
	((struct rig *)m)->ended = vector;
}

static const struct cpu_ops rig_ops = {
	.pio_read = rig_pio_read,
	.pio_write = rig_pio_write,
	.mmio_read = rig_mmio_read,
	.mmio_write = rig_mmio_write,
	.extint_ack = rig_ack,
	.eoi = rig_eoi,
};

static inline void rig_make(struct rig *r, const u8 *code, const u8 *end,
			    bool ring, bool nested)
{
	struct engine_config c = {
		.mem = &r->mem,
		.ops = &rig_ops,
		.machine = r,
		.cpus = 1,
		.dirty_ring = ring,
		.nested = nested,
	};
	struct cpu_state s;
	struct err e = {0};

	memset(r, 0, sizeof(*r));
	r->vector = r->ended = -1;
	assert_int_equal(mem_init(&r->mem, RAM, &e), 0);
	mem_add_slot(&r->mem, 0, 640 * KIB, 0, false, &e);
	mem_add_slot(&r->mem, MIB, RAM - MIB, MIB, false, &e);
	memcpy(r->mem.base + CODE, code, (size_t)(end - code));
	r->g = kvm_engine.new(&c, &e);
	if (!r->g)
		fail_msg("%s", e.text);
	r->v = kvm_engine.vcpu_new(r->g, 0, &e);
	if (!r->v)
		fail_msg("%s", e.text);
	assert_int_equal(kvm_engine.vcpu_get(r->v, &s, &e), 0);
	s.rip = CODE;
	s.seg[SEG_CS].base = 0;
	s.seg[SEG_CS].sel = 0;
	s.gpr[REG_SP] = 0x8000;
	s.rflags = RFLAGS_FIXED;
	if (kvm_engine.vcpu_set(r->v, &s, &e) < 0)
		fail_msg("%s", e.text);
}

static inline void rig_init(struct rig *r, const u8 *code, const u8 *end,
			    bool ring)
{
	rig_make(r, code, end, ring, false);
}

static inline void rig_fini(struct rig *r)
{
	kvm_engine.vcpu_free(r->v);
	kvm_engine.free(r->g);
	mem_fini(&r->mem);
}

#define RIG(r, name)  \
	struct rig r; \
	rig_init(&r, rm_##name, rm_##name##_end, false)

static inline void rig_check(struct rig *r, unsigned i, u64 at, u64 val,
			     unsigned len, bool write)
{
	assert_true(i < r->n);
	assert_int_equal(r->log[i].at, at);
	assert_int_equal(r->log[i].val, val);
	assert_int_equal(r->log[i].len, len);
	assert_int_equal(r->log[i].write, write);
}

static inline struct cpu_state rig_state(struct rig *r)
{
	struct cpu_state s;
	struct err e;

	if (kvm_engine.vcpu_get(r->v, &s, &e) < 0)
		fail_msg("%s", e.text);
	return s;
}

#endif
