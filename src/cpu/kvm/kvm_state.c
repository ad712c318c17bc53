/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The whole architectural state, out of KVM and into it.
 *
 * Order of setting: special registers first (they decide what the rest means,
 * the APIC's mode among it), nested state where there is some, then local APIC,
 * then MSRs (TSC before what depends on it), events last because setting
 * registers drops them.
 */
#include <errno.h>
#include <string.h>

#include "cpu/kvm/kvm_priv.h"
#include "cpu/x86/x86.h"

#define KMSR(n, f)                               \
	{                                        \
		n, offsetof(struct cpu_state, f) \
	}

/* In the order in which they are set. */
static const struct kstate_msr {
	u32 msr;
	u32 off;
} kstate_msrs[] = {
	KMSR(MSR_TSC_ADJUST, tsc_adjust),
	KMSR(MSR_TSC, tsc),
	KMSR(MSR_TSC_DEADLINE, tsc_deadline),
	KMSR(MSR_TSC_AUX, tsc_aux),
	KMSR(MSR_STAR, star),
	KMSR(MSR_LSTAR, lstar),
	KMSR(MSR_CSTAR, cstar),
	KMSR(MSR_SFMASK, sfmask),
	KMSR(MSR_KERNEL_GS_BASE, kernel_gs_base),
	KMSR(MSR_SYSENTER_CS, sysenter_cs),
	KMSR(MSR_SYSENTER_ESP, sysenter_esp),
	KMSR(MSR_SYSENTER_EIP, sysenter_eip),
	KMSR(MSR_PAT, pat),
	KMSR(MSR_MISC_ENABLE, misc_enable),
	KMSR(MSR_SPEC_CTRL, spec_ctrl),
	KMSR(MSR_XSS, xss),
	KMSR(MSR_DEBUGCTL, debugctl),
	KMSR(0xc0010117, vm_hsave),
	KMSR(MSR_MTRR_DEF_TYPE, mtrr_def_type),
	KMSR(MSR_MTRR_FIX64K, mtrr_fixed[0]),
	KMSR(0x258, mtrr_fixed[1]),
	KMSR(0x259, mtrr_fixed[2]),
	KMSR(0x268, mtrr_fixed[3]),
	KMSR(0x269, mtrr_fixed[4]),
	KMSR(0x26a, mtrr_fixed[5]),
	KMSR(0x26b, mtrr_fixed[6]),
	KMSR(0x26c, mtrr_fixed[7]),
	KMSR(0x26d, mtrr_fixed[8]),
	KMSR(0x26e, mtrr_fixed[9]),
	KMSR(0x26f, mtrr_fixed[10]),
	KMSR(0x200, mtrr_base[0]),
	KMSR(0x201, mtrr_mask[0]),
	KMSR(0x202, mtrr_base[1]),
	KMSR(0x203, mtrr_mask[1]),
	KMSR(0x204, mtrr_base[2]),
	KMSR(0x205, mtrr_mask[2]),
	KMSR(0x206, mtrr_base[3]),
	KMSR(0x207, mtrr_mask[3]),
	KMSR(0x208, mtrr_base[4]),
	KMSR(0x209, mtrr_mask[4]),
	KMSR(0x20a, mtrr_base[5]),
	KMSR(0x20b, mtrr_mask[5]),
	KMSR(0x20c, mtrr_base[6]),
	KMSR(0x20d, mtrr_mask[6]),
	KMSR(0x20e, mtrr_base[7]),
	KMSR(0x20f, mtrr_mask[7]),
	KMSR(0x4b564d00, pv_wall_clock),
	KMSR(0x4b564d01, pv_system_time),
	KMSR(0x4b564d06, pv_async_pf_int),
	KMSR(0x4b564d02, pv_async_pf),
	KMSR(0x4b564d03, pv_steal_time),
	KMSR(0x4b564d04, pv_eoi),
	KMSR(0x4b564d05, pv_poll_control),
};

#define KSTATE_MSRS ARRAY_LEN(kstate_msrs)

struct kstate_msr_list {
	struct kvm_msrs head;
	struct kvm_msr_entry entry[KSTATE_MSRS];
};

/* KVM and we number the registers alike, but not in the same order. */
#define KSTATE_GPRS(X) \
	X(REG_AX, rax) \
	X(REG_CX, rcx) \
	X(REG_DX, rdx) \
	X(REG_BX, rbx) \
	X(REG_SP, rsp) \
	X(REG_BP, rbp) \
	X(REG_SI, rsi) \
	X(REG_DI, rdi) \
	X(8, r8)       \
	X(9, r9)       \
	X(10, r10)     \
	X(11, r11)     \
	X(12, r12)     \
	X(13, r13)     \
	X(14, r14)     \
	X(15, r15)

#define KSTATE_SEGS(X)     \
	X(seg[SEG_ES], es) \
	X(seg[SEG_CS], cs) \
	X(seg[SEG_SS], ss) \
	X(seg[SEG_DS], ds) \
	X(seg[SEG_FS], fs) \
	X(seg[SEG_GS], gs) \
	X(ldtr, ldt)       \
	X(tr, tr)

static int kstate_failed(struct err *e, int rc, const char *what)
{
	return err_errno(e, rc, "kvm: cannot move the vCPU's %s", what);
}

static void kstate_seg_get(struct seg_state *s, const struct kvm_segment *k)
{
	*s = (struct seg_state){
		.base = k->base,
		.limit = k->limit,
		.sel = k->selector,
		.attr = (u32)(k->type | k->s << 4 | k->dpl << 5 |
			      k->present << 7 | k->avl << 12 | k->l << 13 |
			      k->db << 14 | k->g << 15 | k->unusable << 16),
	};
}

static void kstate_seg_set(struct kvm_segment *k, const struct seg_state *s)
{
	*k = (struct kvm_segment){
		.base = s->base,
		.limit = s->limit,
		.selector = (u16)s->sel,
		.type = s->attr & SEG_ATTR_TYPE,
		.s = !!(s->attr & SEG_ATTR_S),
		.dpl = SEG_ATTR_DPL(s->attr),
		.present = !!(s->attr & SEG_ATTR_P),
		.avl = !!(s->attr & SEG_ATTR_AVL),
		.l = !!(s->attr & SEG_ATTR_L),
		.db = !!(s->attr & SEG_ATTR_DB),
		.g = !!(s->attr & SEG_ATTR_G),
		.unusable = !!(s->attr & SEG_ATTR_UNUSABLE),
	};
}

static int kstate_get_regs(int fd, struct cpu_state *s)
{
	struct kvm_regs r;
	int rc = kvm_ioctl(fd, KVM_GET_REGS, &r);

#define X(n, name) s->gpr[n] = r.name;
	KSTATE_GPRS(X)
#undef X
	s->rip = r.rip;
	s->rflags = r.rflags;
	return rc;
}

static int kstate_set_regs(int fd, const struct cpu_state *s)
{
	struct kvm_regs r = {.rip = s->rip, .rflags = s->rflags};

#define X(n, name) r.name = s->gpr[n];
	KSTATE_GPRS(X)
#undef X
	return kvm_ioctl(fd, KVM_SET_REGS, &r);
}

static int kstate_get_sregs(int fd, struct cpu_state *s)
{
	struct kvm_sregs r;
	int rc = kvm_ioctl(fd, KVM_GET_SREGS, &r);

#define X(ours, theirs) kstate_seg_get(&s->ours, &r.theirs);
	KSTATE_SEGS(X)
#undef X
	s->gdt = (struct dtable_state){r.gdt.base, r.gdt.limit};
	s->idt = (struct dtable_state){r.idt.base, r.idt.limit};
	s->cr0 = r.cr0;
	s->cr2 = r.cr2;
	s->cr3 = r.cr3;
	s->cr4 = r.cr4;
	s->cr8 = r.cr8;
	s->efer = r.efer;
	s->lapic.apic_base = r.apic_base;
	return rc;
}

static int kstate_set_sregs(int fd, const struct cpu_state *s)
{
	struct kvm_sregs r = {
		.gdt = {.base = s->gdt.base, .limit = (u16)s->gdt.limit},
		.idt = {.base = s->idt.base, .limit = (u16)s->idt.limit},
		.cr0 = s->cr0,
		.cr2 = s->cr2,
		.cr3 = s->cr3,
		.cr4 = s->cr4,
		.cr8 = s->cr8,
		.efer = s->efer,
		.apic_base = s->lapic.apic_base,
	};

#define X(ours, theirs) kstate_seg_set(&r.theirs, &s->ours);
	KSTATE_SEGS(X)
#undef X
	return kvm_ioctl(fd, KVM_SET_SREGS, &r);
}

static int kstate_get_fpu(int fd, struct cpu_state *s)
{
	struct kvm_xsave x;
	struct kvm_xcrs xcr = {0};
	int rc = kvm_ioctl(fd, KVM_GET_XSAVE, &x);

	memcpy(s->xsave, x.region, sizeof(s->xsave));
	if (rc < 0)
		return rc;
	rc = kvm_ioctl(fd, KVM_GET_XCRS, &xcr);
	s->xcr0 = 1;
	for (u32 i = 0; i < xcr.nr_xcrs && i < KVM_MAX_XCRS; i++)
		if (!xcr.xcrs[i].xcr)
			s->xcr0 = xcr.xcrs[i].value;
	return rc == -EINVAL ? 0 : rc; /* no XSAVE: only XCR0 = 1 */
}

static int kstate_set_fpu(int fd, const struct cpu_state *s)
{
	struct kvm_xsave x = {0};
	struct kvm_xcrs xcr = {
		.nr_xcrs = 1,
		.xcrs = {{.xcr = 0, .value = s->xcr0}},
	};
	int rc;

	memcpy(x.region, s->xsave, sizeof(s->xsave));
	rc = kvm_ioctl(fd, KVM_SET_XSAVE, &x);
	if (rc < 0)
		return rc;
	rc = kvm_ioctl(fd, KVM_SET_XCRS, &xcr);
	return rc == -EINVAL && s->xcr0 == 1 ? 0 : rc;
}

static int kstate_get_debug(int fd, struct cpu_state *s)
{
	struct kvm_debugregs d;
	int rc = kvm_ioctl(fd, KVM_GET_DEBUGREGS, &d);

	for (int i = 0; i < 4; i++)
		s->dr[i] = d.db[i];
	s->dr6 = d.dr6;
	s->dr7 = d.dr7;
	return rc;
}

static int kstate_set_debug(int fd, const struct cpu_state *s)
{
	struct kvm_debugregs d = {.dr6 = s->dr6, .dr7 = s->dr7};

	for (int i = 0; i < 4; i++)
		d.db[i] = s->dr[i];
	return kvm_ioctl(fd, KVM_SET_DEBUGREGS, &d);
}

static u64 *kstate_msr(struct cpu_state *s, unsigned i)
{
	return (u64 *)((u8 *)s + kstate_msrs[i].off);
}

/*
 * Moves as many MSRs as KVM has. It stops at the first that it does not know
 * (SPEC_CTRL on many hosts): that one is left out and the rest goes on.
 */
static int kstate_move_msrs(int fd, unsigned long nr, unsigned count,
			    const struct kstate_msr_list *from,
			    struct kstate_msr_list *done)
{
	unsigned at = 0;

	while (at < count) {
		struct kstate_msr_list l;
		unsigned n = count - at;
		int rc;

		l.head = (struct kvm_msrs){.nmsrs = n};
		memcpy(l.entry, from->entry + at, n * sizeof(l.entry[0]));
		rc = kvm_ioctl(fd, nr, &l);
		if (rc < 0)
			return rc;
		memcpy(done->entry + at, l.entry,
		       (unsigned)rc * sizeof(l.entry[0]));
		at += (unsigned)rc + 1;
	}
	return 0;
}

static int kstate_get_msrs(int fd, struct cpu_state *s)
{
	struct kstate_msr_list l = {0}, got = {0};
	int rc;

	for (unsigned i = 0; i < KSTATE_MSRS; i++)
		l.entry[i].index = kstate_msrs[i].msr;
	rc = kstate_move_msrs(fd, KVM_GET_MSRS, KSTATE_MSRS, &l, &got);
	for (unsigned i = 0; i < KSTATE_MSRS; i++)
		*kstate_msr(s, i) = got.entry[i].data;
	s->lapic.tsc_deadline = s->tsc_deadline;
	return rc;
}

/* Only those that change: some hosts know an MSR by its value 0 alone. */
static int kstate_set_msrs(int fd, const struct cpu_state *s)
{
	struct kstate_msr_list l = {0}, done = {0};
	struct cpu_state have = {0};
	unsigned n = 0;
	int rc = kstate_get_msrs(fd, &have);

	for (unsigned i = 0; i < KSTATE_MSRS; i++) {
		u64 val = *kstate_msr((struct cpu_state *)s, i);

		if (val == *kstate_msr(&have, i))
			continue;
		l.entry[n].index = kstate_msrs[i].msr;
		l.entry[n++].data = val;
	}
	return rc < 0 ? rc : kstate_move_msrs(fd, KVM_SET_MSRS, n, &l, &done);
}

static int kstate_get_events(int fd, struct cpu_state *s)
{
	struct kvm_vcpu_events ev;
	int rc = kvm_ioctl(fd, KVM_GET_VCPU_EVENTS, &ev);

	s->exception_injected = ev.exception.injected;
	s->exception_nr = ev.exception.nr;
	s->exception_has_error = ev.exception.has_error_code;
	s->exception_error = ev.exception.error_code;
	s->interrupt_injected = ev.interrupt.injected;
	s->interrupt_nr = ev.interrupt.nr;
	s->interrupt_soft = ev.interrupt.soft;
	s->shadow = ev.interrupt.shadow & KVM_X86_SHADOW_INT_MOV_SS ? 2
		    : ev.interrupt.shadow                           ? 1
								    : 0;
	s->nmi_injected = ev.nmi.injected;
	s->nmi_pending = ev.nmi.pending;
	s->nmi_masked = ev.nmi.masked;
	s->sipi_vector = ev.sipi_vector;
	s->smm = ev.smi.smm;
	return rc;
}

static int kstate_set_events(int fd, const struct cpu_state *s)
{
	static const u8 shadow[] = {0, KVM_X86_SHADOW_INT_STI,
				    KVM_X86_SHADOW_INT_MOV_SS};
	struct kvm_vcpu_events ev = {
		.exception.injected = s->exception_injected,
		.exception.nr = s->exception_nr,
		.exception.has_error_code = s->exception_has_error,
		.exception.error_code = s->exception_error,
		.interrupt.injected = s->interrupt_injected,
		.interrupt.nr = s->interrupt_nr,
		.interrupt.soft = s->interrupt_soft,
		.interrupt.shadow = shadow[s->shadow % ARRAY_LEN(shadow)],
		.nmi.injected = s->nmi_injected,
		.nmi.pending = s->nmi_pending,
		.nmi.masked = s->nmi_masked,
		.sipi_vector = s->sipi_vector,
		.flags = KVM_VCPUEVENT_VALID_NMI_PENDING |
			 KVM_VCPUEVENT_VALID_SIPI_VECTOR |
			 KVM_VCPUEVENT_VALID_SHADOW,
	};

	return kvm_ioctl(fd, KVM_SET_VCPU_EVENTS, &ev);
}

static int kstate_get_mp(int fd, struct cpu_state *s)
{
	struct kvm_mp_state mp;
	int rc = kvm_ioctl(fd, KVM_GET_MP_STATE, &mp);

	switch (mp.mp_state) {
	case KVM_MP_STATE_UNINITIALIZED:
	case KVM_MP_STATE_INIT_RECEIVED: s->mp_state = MP_WAIT_SIPI; break;
	case KVM_MP_STATE_HALTED: s->mp_state = MP_HALTED; break;
	default: s->mp_state = MP_RUNNABLE;
	}
	return rc;
}

static int kstate_set_mp(int fd, const struct cpu_state *s)
{
	struct kvm_mp_state mp = {
		.mp_state = s->mp_state == MP_WAIT_SIPI
				    ? KVM_MP_STATE_INIT_RECEIVED
			    : s->mp_state == MP_HALTED ? KVM_MP_STATE_HALTED
						       : KVM_MP_STATE_RUNNABLE,
	};

	return kvm_ioctl(fd, KVM_SET_MP_STATE, &mp);
}

static int kstate_get_lapic(int fd, struct cpu_state *s)
{
	struct kvm_lapic_state l;
	int rc = kvm_ioctl(fd, KVM_GET_LAPIC, &l);

	lapic_regs_from_page(&s->lapic, (const u8 *)l.regs);
	return rc;
}

static int kstate_set_lapic(int fd, const struct cpu_state *s)
{
	struct kvm_lapic_state l = {0};

	lapic_regs_to_page(&s->lapic, (u8 *)l.regs);
	return kvm_ioctl(fd, KVM_SET_LAPIC, &l);
}

/* In the order of setting. */
static const struct kstate_part {
	const char *name;
	int (*get)(int fd, struct cpu_state *s);
	int (*set)(int fd, const struct cpu_state *s);
} kstate_parts[] = {
	{"special registers", kstate_get_sregs, kstate_set_sregs},
	{"local APIC", kstate_get_lapic, kstate_set_lapic},
	{"registers", kstate_get_regs, kstate_set_regs},
	{"FPU state", kstate_get_fpu, kstate_set_fpu},
	{"debug registers", kstate_get_debug, kstate_set_debug},
	{"MSRs", kstate_get_msrs, kstate_set_msrs},
	{"events", kstate_get_events, kstate_set_events},
	{"MP state", kstate_get_mp, kstate_set_mp},
};

int kstate_get(struct vcpu *vcpu, struct cpu_state *s, struct err *e)
{
	int fd = ((struct kvm_vcpu *)vcpu)->fd;

	memset(s, 0, sizeof(*s));
	for (size_t i = ARRAY_LEN(kstate_parts); i--;) {
		int rc = kstate_parts[i].get(fd, s);

		if (rc < 0)
			return kstate_failed(e, rc, kstate_parts[i].name);
	}
	if (vcpu->engine->config.nested &&
	    kvm_cap(kvm_of(vcpu->engine)->fd, KVM_CAP_NESTED_STATE)) {
		int rc = kstate_nested_get(fd, s);

		if (rc < 0)
			return kstate_failed(e, rc, "nested state");
	}
	return 0;
}

int kstate_set(struct vcpu *vcpu, const struct cpu_state *s, struct err *e)
{
	int fd = ((struct kvm_vcpu *)vcpu)->fd;

	((struct kvm_vcpu *)vcpu)->left = 1; /* it stood still until now */
	for (size_t i = 0; i < ARRAY_LEN(kstate_parts); i++) {
		int rc = kstate_parts[i].set(fd, s);

		if (rc < 0)
			return kstate_failed(e, rc, kstate_parts[i].name);
		if (i == 0 && (rc = kstate_nested_set(fd, s)) < 0)
			return kstate_failed(e, rc, "nested state");
	}
	return 0;
}
