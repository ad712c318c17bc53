/* SPDX-License-Identifier: BSD-2-Clause */
/* Which of the opcode table's features a vCPU has. */
#include "cpu/soft/soft.h"

void soft_features(const struct soft_vcpu *v, bool out[FEATURES])
{
	const struct cpuid_model *m =
		v->vcpu.engine ? &soft_engine_of(v)->cpuid : NULL;

	out[FEAT_NONE] = true;
	for (unsigned k = 1; k < FEATURES; k++) {
		const struct op_feature_bit *f = &op_features[k];
		u32 sub = f->leaf == 0xd;
		struct cpuid_regs r =
			m ? cpuid_model_get(m, f->leaf, sub, v->vcpu.id)
			  : cpuid_host(NULL, f->leaf, sub);
		u32 reg[] = {r.eax, r.ebx, r.ecx, r.edx};

		out[k] = reg[f->reg] >> f->bit & 1;
	}
}
