/* SPDX-License-Identifier: BSD-2-Clause */
/* The engines there are, and the choice among them. */
#include "cpu/engine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

/* Folders of the engines come after this one, so no header of theirs here. */
extern const struct engine_class kvm_engine;
extern const struct engine_class soft_engine;

const struct engine_class *const engine_classes[] = {
	&kvm_engine,
	&soft_engine,
	NULL,
};

/* clang-format off */
const char *const vcpu_stat_names[VCPU_STATS] = {
	[VCPU_STAT_INSNS] = "instructions",
	[VCPU_STAT_PIO] = "pio",
	[VCPU_STAT_MMIO] = "mmio",
	[VCPU_STAT_HALT] = "halts",
	[VCPU_STAT_IRQ] = "interrupts",
	[VCPU_STAT_EXCEPTION] = "exceptions",
	[VCPU_STAT_KICK] = "kicks",
	[VCPU_STAT_HYPERCALL] = "hypercalls",
	[VCPU_STAT_TLB_MISS] = "tlb_misses",
	[VCPU_STAT_DECODE] = "decoded",
	[VCPU_STAT_SMC] = "code_writes",
	[VCPU_STAT_EXIT] = "exits",
	[VCPU_STAT_EXIT_SIGNAL] = "exits_signal",
	[VCPU_STAT_EXIT_WINDOW] = "exits_window",
	[VCPU_STAT_EXIT_EOI] = "exits_eoi",
	[VCPU_STAT_EXIT_MSR] = "exits_msr",
	[VCPU_STAT_EXIT_RING] = "exits_ring",
	[VCPU_STAT_UNITS] = "units",
	[VCPU_STAT_TRANSLATED] = "translated",
	[VCPU_STAT_TR_FLUSH] = "translation_flushes",
	[VCPU_STAT_TR_EVICT] = "translation_evictions",
	[VCPU_STAT_TR_FILL] = "fills",
	[VCPU_STAT_OUT_LINK] = "out_link",
	[VCPU_STAT_OUT_KEY] = "out_key",
	[VCPU_STAT_OUT_INDIRECT] = "out_indirect",
	[VCPU_STAT_OUT_POLL] = "out_poll",
	[VCPU_STAT_OUT_FAULT] = "out_fault",
	[VCPU_STAT_OUT_OP] = "out_op",
	[VCPU_STAT_OUT_ACCESS] = "out_access",
	[VCPU_STAT_OUT_VALUE] = "out_value",
	[VCPU_STAT_OUT_SIMD] = "out_simd",
	[VCPU_STAT_OUT_ADDRESS] = "out_address",
	[VCPU_STAT_OUT_NONE] = "out_none",
	[VCPU_STAT_DIRECT] = "direct",
	[VCPU_STAT_DIRECT_CALL] = "direct_call",
	[VCPU_STAT_DIRECT_FAULT] = "direct_fault",
	[VCPU_STAT_DIRECT_TRAP] = "direct_trap",
	[VCPU_STAT_DIRECT_KICK] = "direct_kick",
	[VCPU_STAT_DIRECT_CODE] = "direct_code",
};
/* clang-format on */

static const struct engine_class *engine_auto(struct err *why, struct err *e)
{
	size_t used = 0;

	why->text[0] = 0;
	for (unsigned i = 0; engine_classes[i]; i++) {
		const struct engine_class *c = engine_classes[i];
		struct err reason = {0};

		if (!c->probe(&reason))
			return c;
		used += (size_t)snprintf(
			why->text + used, sizeof(why->text) - used,
			"%s%s: %.200s", used ? "; " : "", c->name, reason.text);
		used = MIN(used, sizeof(why->text) - 1);
	}
	err_set(e, -ENOTSUP, "no CPU engine works here: %s", why->text);
	return NULL;
}

const struct engine_class *engine_find(const char *name, struct err *why,
				       struct err *e)
{
	struct err unwanted;

	if (!why)
		why = &unwanted;
	why->text[0] = 0;
	if (!strcmp(name, "auto"))
		return engine_auto(why, e);
	for (unsigned i = 0; engine_classes[i]; i++)
		if (!strcmp(name, engine_classes[i]->name))
			return engine_classes[i];
	err_set(e, -ENOENT, "there is no CPU engine '%s'", name);
	return NULL;
}
