/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Exceptions (SDM volume 3, 6.15): what becomes of a soft_fault(), double and
 * triple faults, INT n, debug traps (chapter 17) and the reports about a
 * vCPU that cannot go on.
 */
#include "cpu/soft/event.h"

#include <stdarg.h>
#include <stdio.h>

#include "cpu/soft/segment.h"
#include "cpu/soft/sys.h"

enum delivering {
	DELIVER_NONE,
	DELIVER_BENIGN,
	DELIVER_CONTRIB,
	DELIVER_PF,
	DELIVER_DF
};

static enum delivering exception_class(u8 vector)
{
	switch (vector) {
	case VEC_DE:
	case VEC_TS:
	case VEC_NP:
	case VEC_SS:
	case VEC_GP: return DELIVER_CONTRIB;
	case VEC_PF: return DELIVER_PF;
	case VEC_DF: return DELIVER_DF;
	}
	return DELIVER_BENIGN;
}

/* SDM table 6-5: what a fault during a delivery turns into. */
static enum delivering exception_combine(enum delivering first,
					 enum delivering second)
{
	if (second < DELIVER_CONTRIB || first < DELIVER_CONTRIB)
		return DELIVER_NONE;
	if (first == DELIVER_CONTRIB && second == DELIVER_PF)
		return DELIVER_NONE;
	return DELIVER_DF;
}

static void report_bytes(struct soft_vcpu *v, char *buf, size_t size)
{
	gva_t lin = v->rip;
	size_t at = 0;

	if (!(v->mode & MODE_CS64))
		lin = (u32)(lin + v->seg[SEG_CS].base);
	buf[0] = 0;
	for (unsigned i = 0; i < 12 && at + 4 < size; i++) {
		const u8 *p = soft_host(v, lin + i, 1, MMU_EXEC);

		if (!p)
			break;
		at += (size_t)snprintf(buf + at, size - at, " %02x", *p);
	}
}

static size_t report_history(struct soft_vcpu *v, char *buf, size_t size)
{
	const struct soft_sys *s = v->sys;
	size_t at = 0;

	buf[0] = 0;
	for (unsigned i = 0; i < 3 && i < s->exceptions; i++) {
		const struct sys_exception *x =
			&s->last[(s->exceptions - 1 - i) % SYS_LAST];

		at += (size_t)snprintf(buf + at, at < size ? size - at : 0,
				       " #%u(%#x)@%llx", x->vector, x->error,
				       (unsigned long long)x->rip);
	}
	return at;
}

void soft_stop(struct soft_vcpu *v, enum soft_stop why, const char *fmt, ...)
{
	char text[128], bytes[48], last[128];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(text, sizeof(text), fmt, ap);
	va_end(ap);
	report_bytes(v, bytes, sizeof(bytes));
	report_history(v, last, sizeof(last));
	snprintf(v->vcpu.report, sizeof(v->vcpu.report),
		 "vCPU %u: %s at %x:%llx (cpl %u, code%s), rsp %llx, rflags "
		 "%llx, cr0 %llx, cr2 %llx, cr3 %llx, cr4 %llx, efer %llx; "
		 "last exceptions:%s",
		 v->vcpu.id, text, v->seg[SEG_CS].sel,
		 (unsigned long long)v->rip, v->cpl, bytes,
		 (unsigned long long)v->gpr[REG_SP],
		 (unsigned long long)soft_rflags(v), (unsigned long long)v->cr0,
		 (unsigned long long)v->cr2, (unsigned long long)v->cr3,
		 (unsigned long long)v->cr4, (unsigned long long)v->efer, last);
	v->stop = (u8)why;
	soft_attention(v, ATTN_MODE);
}

static void exception_trace(const struct soft_vcpu *v)
{
	static const char *const names[] = {
		"#DE", "#DB", "NMI", "#BP", "#OF", "#BR", "#UD",
		"#NM", "#DF", "9",   "#TS", "#NP", "#SS", "#GP",
		"#PF", "15",  "#MF", "#AC", "#MC", "#XM",
	};
	u8 n = v->fault_vector;
	char at[128];

	trace_line(soft_trace(v),
		   "vCPU %u fault %s error %x CR2 %lx CPL %u at %s", v->vcpu.id,
		   n < ARRAY_LEN(names) ? names[n] : "?",
		   v->fault_has_error ? v->fault_error : 0, v->cr2, v->cpl,
		   trace_name(soft_trace(v), v->rip, at, sizeof(at)));
}

static void exception_note(struct soft_vcpu *v)
{
	struct soft_sys *s = v->sys;

	s->last[s->exceptions++ % SYS_LAST] = (struct sys_exception){
		.vector = v->fault_vector,
		.error = v->fault_error,
		.rip = v->rip,
	};
	v->vcpu.stat[VCPU_STAT_EXCEPTION]++;
	if (trace_on(soft_trace(v), TRACE_FAULTS))
		exception_trace(v);
}

/* Turns the fault into #DF where it must be. False: triple fault. */
static bool exception_promote(struct soft_vcpu *v)
{
	enum delivering first = v->delivering;

	if (!exception_combine(first, exception_class(v->fault_vector)))
		return true;
	if (first == DELIVER_DF)
		return false;
	v->fault_vector = VEC_DF;
	v->fault_has_error = true;
	v->fault_error = 0;
	return true;
}

void soft_deliver_exception(struct soft_vcpu *v)
{
	struct event e = {.kind = EVENT_FAULT};

	exception_note(v);
	if (!exception_promote(v)) {
		v->delivering = DELIVER_NONE;
		soft_stop(v, STOP_SHUTDOWN, "triple fault");
		return;
	}
	v->delivering = exception_class(v->fault_vector);
	e.vector = v->fault_vector;
	/* Real mode pushes no error codes. */
	e.has_error = v->fault_has_error && v->mode & MODE_PE;
	e.error = v->fault_error;
	e.rip = v->rip;
	e.rflags = soft_rflags(v);
	if (e.vector == VEC_DB)
		v->dr7 &= ~BIT64(13);
	else
		e.rflags |= RFLAGS_RF;
	v->shadow = 0;
	event_deliver(v, &e);
	v->delivering = DELIVER_NONE;
}

void soft_interrupt(struct soft_vcpu *v, u8 vector, u64 return_rip,
		    enum soft_int_kind kind)
{
	struct event e = {
		.kind = kind == INT_PRIV ? EVENT_PRIV : EVENT_SOFT,
		.vector = vector,
		.rip = return_rip,
		.rflags = soft_rflags(v),
	};

	v->delivering = DELIVER_BENIGN;
	event_deliver(v, &e);
	v->delivering = DELIVER_NONE;
}

static void debug_fault(struct soft_vcpu *v, u32 bits)
{
	v->dr6 = (v->dr6 & ~15ull) | bits;
	soft_fault(v, VEC_DB);
}

/* Instruction breakpoints: R/W 0, length 1. */
static u32 debug_code_hits(const struct soft_vcpu *v)
{
	gva_t lin = v->rip;
	u32 hits = 0;

	if (!(v->mode & MODE_CS64))
		lin = (u32)(lin + v->seg[SEG_CS].base);
	for (unsigned i = 0; i < 4; i++)
		if (v->dr7 >> (2 * i) & 3 && !(v->dr7 >> (16 + 4 * i) & 3) &&
		    v->dr[i] == lin)
			hits |= BIT(i);
	return hits;
}

u64 soft_step_begin(struct soft_vcpu *v)
{
	v->db_pending = 0;
	v->sys->skip_step = false;
	if (unlikely(v->dr7 & 0xff) && !(v->rflags & RFLAGS_RF)) {
		u32 hits = debug_code_hits(v);

		if (hits && !(v->shadow & 2))
			debug_fault(v, hits);
	}
	return (v->rflags & (RFLAGS_TF | RFLAGS_RF)) | (u64)v->shadow << 32;
}

void soft_step_end(struct soft_vcpu *v, u64 begin)
{
	u32 bits = v->db_pending;

	if (begin >> 32 && v->shadow == begin >> 32)
		v->shadow = 0;
	if (begin & RFLAGS_RF)
		v->rflags &= ~(u64)RFLAGS_RF;
	if (begin & RFLAGS_TF && !v->sys->skip_step)
		bits |= BIT(14);
	if (!bits || v->shadow & 2)
		return; /* MOV SS holds debug traps off for one instruction */
	v->db_pending = 0;
	debug_fault(v, bits);
}
