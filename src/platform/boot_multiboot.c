/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Multiboot 1 (specification 0.6.96): header in the first 8 KiB, a flat image
 * by its address fields or an ELF file, modules, memory map. Of the header's
 * demands, a video mode is not met.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "platform/boot_priv.h"

#define MB_HEADER_MAGIC 0x1badb002u
#define MB_BOOT_MAGIC   0x2badb002u
#define MB_SEARCH       8192u

/* Header flags; of 0..15, one not known means: do not boot this. */
enum {
	MB_ALIGN = BIT(0),
	MB_MEMORY = BIT(1),
	MB_VIDEO = BIT(2),
	MB_MUST = 0xffff,
	MB_ADDRESSES = BIT(16),
};

/* Information flags */
enum {
	MBI_MEMORY = BIT(0),
	MBI_CMDLINE = BIT(2),
	MBI_MODULES = BIT(3),
	MBI_MMAP = BIT(6),
	MBI_LOADER = BIT(9),
};

struct mb_header {
	u32 magic, flags, checksum;
	u32 header_addr, load_addr, load_end, bss_end, entry;
};

struct mb_info {
	u32 flags, mem_lower, mem_upper, boot_device, cmdline;
	u32 mods_count, mods_addr, syms[4], mmap_length, mmap_addr;
	u32 drives_length, drives_addr, config, loader, apm, vbe[4];
};

struct mb_module {
	u32 start, end, string, reserved;
};

struct mb_range {
	u32 size, base[2], len[2], type;
};

static const char mb_loader[] = "Sublet";

bool boot_multiboot_find(const u8 *p, u64 len, u64 *header)
{
	for (u64 at = 0; at + 12 <= MIN(len, (u64)MB_SEARCH); at += 4) {
		u32 magic = boot_u32(p + at), flags = boot_u32(p + at + 4);

		if (magic != MB_HEADER_MAGIC ||
		    magic + flags + boot_u32(p + at + 8) != 0)
			continue;
		*header = at;
		return true;
	}
	return false;
}

static int mb_load_flat(struct boot_ctx *c, const struct mb_header *h, u64 at,
			u32 *entry, struct err *e)
{
	u64 off, filesz, memsz;

	if (h->header_addr < h->load_addr || h->header_addr - h->load_addr > at)
		return err_set(e, -ENOEXEC,
			       "%s: the addresses in the multiboot header "
			       "do not fit the file",
			       c->config->kernel);
	off = at - (h->header_addr - h->load_addr);
	filesz = c->len - off;
	if (h->load_end) {
		if (h->load_end < h->load_addr ||
		    h->load_end - h->load_addr > filesz)
			return err_set(e, -ENOEXEC,
				       "%s: truncated: the multiboot header "
				       "speaks of more than the file has",
				       c->config->kernel);
		filesz = h->load_end - h->load_addr;
	}
	memsz = MAX(filesz, h->bss_end > h->load_addr
				    ? (u64)h->bss_end - h->load_addr
				    : 0);
	*entry = h->entry;
	return boot_put(c, h->load_addr, c->image + off, filesz, memsz, e);
}

static int mb_load_elf(struct boot_ctx *c, u32 *entry, struct err *e)
{
	struct elf_info info;
	int rc;

	if (!boot_is_elf(c->image, c->len))
		return err_set(e, -ENOEXEC,
			       "%s: a multiboot header without addresses in a "
			       "file that is not ELF",
			       c->config->kernel);
	rc = boot_elf_parse(c->image, c->len, &info, e);
	if (!rc)
		rc = boot_elf_load(c, c->image, c->len, e);
	if (rc)
		return rc;
	*entry = (u32)info.entry;
	if (info.entry >= PC_HIGH_BASE)
		return err_set(e, -ENOEXEC,
			       "%s: enters at %#lx, which multiboot's 32-bit "
			       "entry cannot reach",
			       c->config->kernel, info.entry);
	return 0;
}

static int mb_load(struct boot_ctx *c, u64 at, u32 *entry, struct err *e)
{
	struct mb_header h = {0};

	memcpy(&h, c->image + at, MIN(sizeof(h), c->len - at));
	if (h.flags & MB_MUST & ~(u32)(MB_ALIGN | MB_MEMORY | MB_VIDEO))
		return err_set(e, -ENOEXEC,
			       "%s: the multiboot header asks for something "
			       "unknown (flags %#x)",
			       c->config->kernel, h.flags);
	if (!(h.flags & MB_ADDRESSES))
		return mb_load_elf(c, entry, e);
	if (c->len - at < sizeof(h))
		return err_set(e, -ENOEXEC,
			       "%s: truncated in the multiboot "
			       "header",
			       c->config->kernel);
	return mb_load_flat(c, &h, at, entry, e);
}

static void mb_lists(struct boot_ctx *c, const struct boot_module *mods,
		     struct mb_info *info)
{
	struct boot_range r[BOOT_RANGES];
	unsigned n = boot_memory_map(c->mem, r);
	gpa_t at = BOOT_LISTS;

	info->mmap_addr = (u32)at;
	info->mmap_length = n * (u32)sizeof(struct mb_range);
	for (unsigned i = 0; i < n; i++) {
		struct mb_range m = {
			.size = sizeof(m) - sizeof(m.size),
			.base = {(u32)r[i].base, (u32)(r[i].base >> 32)},
			.len = {(u32)r[i].size, (u32)(r[i].size >> 32)},
			.type = r[i].type,
		};

		mem_write(c->mem, at, &m, sizeof(m));
		at += sizeof(m);
	}
	info->mods_addr = (u32)at;
	for (unsigned i = 0; i < info->mods_count; i++) {
		struct mb_module m = {
			.start = (u32)mods[i].gpa,
			.end = (u32)(mods[i].gpa + mods[i].size),
			.string = (u32)mods[i].cmdline,
		};

		mem_write(c->mem, at, &m, sizeof(m));
		at += sizeof(m);
	}
	info->loader = (u32)at;
	mem_write(c->mem, at, mb_loader, sizeof(mb_loader));
}

/* By custom the line begins with the kernel's name. */
static int mb_cmdline(struct boot_ctx *c, struct err *e)
{
	char prefix[512];

	snprintf(prefix, sizeof(prefix), "%s ", c->config->kernel);
	return boot_put_cmdline(c, prefix, BOOT_CMDLINE_MAX - 1, e);
}

int boot_multiboot(struct boot_ctx *c, u64 at, struct err *e)
{
	struct mb_info info = {
		.flags = MBI_MEMORY | MBI_CMDLINE | MBI_MODULES | MBI_MMAP |
			 MBI_LOADER,
		.mem_lower = (u32)(BOOT_EBDA / KIB),
		.mem_upper = (u32)((pc_ram_low(c->mem) - PC_BIOS_END) / KIB),
		.cmdline = BOOT_CMDLINE,
	};
	struct boot_module mods[BOOT_MODULES + 1];
	u32 entry = 0;
	int rc = mb_load(c, at, &entry, e);

	if (!rc)
		rc = mb_cmdline(c, e);
	if (!rc)
		rc = boot_put_modules(c, mods, &info.mods_count, true, e);
	if (rc)
		return rc;
	mb_lists(c, mods, &info);
	mem_write(c->mem, BOOT_PARAMS, &info, sizeof(info));
	*c->out = (struct boot_entry){
		.mode = BOOT_MODE_FLAT32,
		.protocol = "multiboot",
		.rip = entry,
		.eax = MB_BOOT_MAGIC,
		.ebx = BOOT_PARAMS,
	};
	return 0;
}
