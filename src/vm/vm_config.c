/* SPDX-License-Identifier: BSD-2-Clause */
/* Defaults and sanity of a VM's configuration. */
#include <errno.h>
#include <string.h>

#include "platform/pc_map.h"
#include "vm/vm.h"

void vm_config_init(struct vm_config *c)
{
	*c = (struct vm_config){
		.name = "sublet",
		.engine = "auto",
		.cpus = 1,
		.memory = 512 * MIB,
		.net = VM_NET_USER,
	};
}

static int vm_check_disks(const struct vm_config *c, struct err *e)
{
	for (unsigned i = 0; i < c->ndisks; i++)
		for (unsigned k = 0; k < i; k++)
			if (!strcmp(c->disks[i].path, c->disks[k].path) &&
			    !(c->disks[i].readonly && c->disks[k].readonly))
				return err_set(e, -EINVAL,
					       "disk %s is given twice; both "
					       "must be read-only then",
					       c->disks[i].path);
	return 0;
}

int vm_config_check(const struct vm_config *c, struct err *e)
{
	if (!c->cpus || c->cpus > PC_CPUS_MAX)
		return err_set(e, -EINVAL, "a machine has 1 to %d CPUs, not %u",
			       PC_CPUS_MAX, c->cpus);
	if (c->memory < PC_MEMORY_MIN || c->memory > PC_MEMORY_MAX)
		return err_set(e, -EINVAL,
			       "a machine has %llu MiB to %llu GiB of memory",
			       PC_MEMORY_MIN / MIB, PC_MEMORY_MAX / GIB);
	if (!c->boot.kernel && !c->incoming)
		return err_set(e, -EINVAL, "no kernel to boot");
	if (c->nforwards && c->net == VM_NET_NONE)
		return err_set(e, -EINVAL,
			       "ports cannot be forwarded without a network");
	if (c->lockstep &&
	    (c->cpus != 1 || c->interp_only || !strcmp(c->engine, "kvm")))
		return err_set(e, -EINVAL,
			       "lock step needs one CPU, the soft engine and "
			       "its translator");
	if (c->code_cache && (c->code_cache < VM_CODE_CACHE_MIN ||
			      c->code_cache > VM_CODE_CACHE_MAX))
		return err_set(
			e, -EINVAL, "a code cache has %llu MiB to %llu GiB",
			VM_CODE_CACHE_MIN / MIB, VM_CODE_CACHE_MAX / GIB);
	return vm_check_disks(c, e);
}
