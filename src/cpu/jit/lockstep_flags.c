/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Which flags may still be read: both ways of every conditional branch are
 * followed, further than the translator looks. What it leaves out must be dead
 * by this too.
 */
#include "cpu/jit/lockstep.h"

#include "cpu/soft/access.h"

#define FLAGS_INSNS 1000
#define FLAGS_SEEN  128

struct flags_walk {
	struct soft_vcpu *v;
	unsigned insns, nseen;
	struct {
		u64 rip;
		u16 want;
	} seen[FLAGS_SEEN];
};

/* True if nothing new can be found from here. */
static bool flags_known(struct flags_walk *w, u64 rip, u16 want)
{
	for (unsigned k = 0; k < w->nseen; k++)
		if (w->seen[k].rip == rip && !(want & ~w->seen[k].want))
			return true;
	if (w->nseen == FLAGS_SEEN)
		return true;
	w->seen[w->nseen].rip = rip;
	w->seen[w->nseen++].want = want;
	return false;
}

bool lockstep_look(struct soft_vcpu *v, struct unit_insn *x, u64 rip)
{
	unsigned n = (unsigned)MIN(15, PAGE_SIZE - (rip & PAGE_MASK));
	const u8 *host, *next;

	v->jit->u.code32 = !(v->mode & MODE_CS64);
	host = lin_canonical(rip) ? soft_host(v, rip, 1, MMU_EXEC) : NULL;
	if (!host)
		return false;
	memcpy(x->bytes, host, n);
	next = n < 15 && lin_canonical(rip + n)
		       ? soft_host(v, rip + n, 1, MMU_EXEC)
		       : NULL;
	if (next) {
		memcpy(x->bytes + n, next, 15 - n);
		n = 15;
	}
	return unit_look(&v->jit->u, x, rip & PAGE_MASK, n);
}

static u16 flags_live(struct flags_walk *w, u64 rip, u16 want)
{
	u16 live = 0;
	struct unit_insn x;
	u64 to;

	while (want && w->insns++ < FLAGS_INSNS) {
		if (!lockstep_look(w->v, &x, rip))
			return live | want;
		live |= x.read & want;
		want &= (u16) ~(x.read | x.write);
		to = (rip & ~PAGE_MASK) + (u64)unit_target(&x);
		rip += x.i.len;
		switch (x.kind) {
		case UNIT_JCC:
		case UNIT_LOOP:
			if (!flags_known(w, to, want))
				live |= flags_live(w, to, want);
			break;
		case UNIT_JMP:
		case UNIT_CALL:
			rip = to;
			if (flags_known(w, rip, want))
				return live;
			break;
		case UNIT_INTERP:
		case UNIT_JMP_IND:
		case UNIT_CALL_IND:
		case UNIT_RET: return live | want;
		}
	}
	return live;
}

u16 lockstep_live(struct soft_vcpu *v, u64 rip, u16 want)
{
	struct flags_walk w = {.v = v};

	return flags_live(&w, rip, want);
}
