/* SPDX-License-Identifier: BSD-2-Clause */
/* Defaults and sanity of a VM's configuration. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>

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
		.direct = DIRECT_ON,
		/* Behind its own NAT each VM may have the same. */
		.mac = {0x02, 0x00, 10, 0, 2, 15},
	};
}

void vm_mac_text(const u8 mac[6], char text[VM_MAC_TEXT])
{
	snprintf(text, VM_MAC_TEXT, "%02x:%02x:%02x:%02x:%02x:%02x", mac[0],
		 mac[1], mac[2], mac[3], mac[4], mac[5]);
}

bool vm_mac_parse(const char *text, u8 mac[6])
{
	u8 m[6];
	int end = 0;

	if (sscanf(text, "%2hhx:%2hhx:%2hhx:%2hhx:%2hhx:%2hhx%n", &m[0], &m[1],
		   &m[2], &m[3], &m[4], &m[5], &end) != 6 ||
	    end != VM_MAC_TEXT - 1 || text[end] || m[0] & 1)
		return false;
	memcpy(mac, m, sizeof(m));
	return true;
}

void vm_mac_draw(u8 mac[6])
{
	while (getrandom(mac, 6, 0) != 6)
		;
	mac[0] = (u8)((mac[0] & ~1u) | 2);
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
	if (c->vsock.cid &&
	    (c->vsock.cid < VSOCK_CID_MIN || c->vsock.cid > VSOCK_CID_MAX))
		return err_set(e, -EINVAL,
			       "a machine's vsock CID is %u to %u, not %u",
			       VSOCK_CID_MIN, VSOCK_CID_MAX, c->vsock.cid);
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
