/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PVH: 32-bit protected mode, EBX = struct hvm_start_info, version 1 (Xen
 * public headers, "arch-x86/hvm/start_info.h"; docs/misc/pvh.pandoc).
 */
#include "platform/boot_priv.h"

#define PVH_MAGIC   0x336ec578u
#define PVH_CMDLINE 4095

struct pvh_start_info {
	u32 magic, version, flags, nr_modules;
	u64 modlist, cmdline, rsdp, memmap;
	u32 memmap_entries, reserved;
};

struct pvh_module {
	u64 paddr, size, cmdline, reserved;
};

struct pvh_range {
	u64 addr, size;
	u32 type, reserved;
};

static void pvh_lists(struct boot_ctx *c, const struct boot_module *mods,
		      struct pvh_start_info *si)
{
	struct boot_range r[BOOT_RANGES];
	gpa_t at = BOOT_LISTS;

	si->memmap = at;
	si->memmap_entries = boot_memory_map(c->mem, r);
	for (u32 i = 0; i < si->memmap_entries; i++) {
		struct pvh_range p = {r[i].base, r[i].size, r[i].type, 0};

		mem_write(c->mem, at, &p, sizeof(p));
		at += sizeof(p);
	}
	si->modlist = si->nr_modules ? at : 0;
	for (u32 i = 0; i < si->nr_modules; i++) {
		struct pvh_module m = {mods[i].gpa, mods[i].size,
				       mods[i].cmdline, 0};

		mem_write(c->mem, at, &m, sizeof(m));
		at += sizeof(m);
	}
}

int boot_pvh(struct boot_ctx *c, u32 entry, struct err *e)
{
	struct pvh_start_info si = {
		.magic = PVH_MAGIC,
		.version = 1,
		.cmdline = BOOT_CMDLINE,
		.rsdp = c->rsdp,
	};
	struct boot_module mods[BOOT_MODULES + 1];
	int rc = boot_elf_load(c, c->image, c->len, e);

	if (!rc)
		rc = boot_put_cmdline(c, "", PVH_CMDLINE, e);
	if (!rc)
		rc = boot_put_modules(c, mods, &si.nr_modules, false, e);
	if (rc)
		return rc;
	pvh_lists(c, mods, &si);
	mem_write(c->mem, BOOT_PARAMS, &si, sizeof(si));
	*c->out = (struct boot_entry){
		.mode = BOOT_MODE_FLAT32,
		.protocol = "PVH",
		.rip = entry,
		.ebx = BOOT_PARAMS,
	};
	return 0;
}
