/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The books of why generated code was left: by reason in vcpu.stat[], and
 * what was left to the interpreter by instruction in jit.left[]. Whoever looks
 * for what keeps a guest slow begins here.
 */
#include <stdio.h>

#include "cpu/jit/jit.h"
#include "cpu/jit/jit_priv.h"
#include "cpu/jit/space.h"

static const u8 exit_stat[JIT_EXITS] = {
	[JIT_EXIT_POLL] = VCPU_STAT_OUT_POLL,
	[JIT_EXIT_INDIRECT] = VCPU_STAT_OUT_INDIRECT,
	[JIT_EXIT_LINK] = VCPU_STAT_OUT_LINK,
	[JIT_EXIT_FAULT] = VCPU_STAT_OUT_FAULT,
	[JIT_EXIT_OP] = VCPU_STAT_OUT_OP,
	[JIT_EXIT_ACCESS] = VCPU_STAT_OUT_ACCESS,
	[JIT_EXIT_VALUE] = VCPU_STAT_OUT_VALUE,
	[JIT_EXIT_SIMD] = VCPU_STAT_OUT_SIMD,
	[JIT_EXIT_ADDRESS] = VCPU_STAT_OUT_ADDRESS,
	[JIT_EXIT_NONE] = VCPU_STAT_OUT_NONE,
};

void jit_count(struct soft_vcpu *v, enum jit_exit why, bool attention)
{
	const struct jit_link *l = v->jit_pending;
	unsigned stat = exit_stat[why];

	if (why == JIT_EXIT_INDIRECT && attention)
		stat = VCPU_STAT_OUT_POLL;
	else if (why == JIT_EXIT_LINK && l->to)
		stat = VCPU_STAT_OUT_KEY;
	v->vcpu.stat[stat]++;
	v->jit_left = v->jit->left[why];
}

/* Puts *l where it belongs in the n sorted ones; there is room for max. */
static unsigned exit_insert(struct vcpu_left *out, unsigned n, unsigned max,
			    struct vcpu_left l)
{
	unsigned at;

	if (n == max) {
		if (!n || out[n - 1].n >= l.n)
			return n;
		n--;
	}
	for (at = n; at && out[at - 1].n < l.n; at--)
		out[at] = out[at - 1];
	out[at] = l;
	return n + 1;
}

unsigned jit_left(const struct soft_vcpu *v, struct vcpu_left *out,
		  unsigned max)
{
	const char *name[X86_OPS] = {"(undefined)"};
	unsigned n = 0;

	for (unsigned r = 1; r < op_row_count; r++)
		name[op_rows[r].op] = op_rows[r].name;
	for (unsigned why = JIT_EXIT_INTERP; why < JIT_EXITS; why++)
		for (unsigned op = 0; op < X86_OPS; op++) {
			u64 count = __atomic_load_n(&v->jit->left[why][op],
						    __ATOMIC_RELAXED);

			if (count)
				n = exit_insert(out, n, max,
						(struct vcpu_left){
							name[op],
							exit_stat[why], count});
		}
	return n;
}

void jit_report(const struct soft_vcpu *v, char *buf, size_t size)
{
	const u64 *stat = v->vcpu.stat;
	int n = snprintf(buf, size, "%u units, %zu KiB of code;",
			 space_used(v->jit).units,
			 space_used(v->jit).code / 1024);

	for (unsigned k = VCPU_STAT_UNITS; k < VCPU_STATS; k++)
		if (stat[k] && (size_t)n < size)
			n += snprintf(buf + n, size - (size_t)n, " %s %lu",
				      vcpu_stat_names[k], stat[k]);
}
