/* SPDX-License-Identifier: BSD-2-Clause */
/* Units and exits for people. */
#ifndef CPU_JIT_SHOW_H
#define CPU_JIT_SHOW_H

#include "base/trace.h"
#include "cpu/jit/jit_priv.h"

/* The unit just made, which took ns, as tr wants it. */
void jit_show(const struct soft_vcpu *v, const struct trace *tr,
	      const struct jit_unit *t, u64 ns);

const char *jit_exit_name(enum jit_exit why);

#endif
