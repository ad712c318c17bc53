/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What the boot loaders share: the file being loaded, where boot data lies in
 * low memory, placement of modules, the memory map.
 */
#ifndef PLATFORM_BOOT_PRIV_H
#define PLATFORM_BOOT_PRIV_H

#include "platform/boot.h"
#include "platform/pc_map.h"

/* Boot data in low memory; a kernel's own segments must stay clear of it. */
#define BOOT_GDT         0x500ull
#define BOOT_PAGE_TABLES 0x1000ull /* 6 pages: PML4, PDPT, 4 PD */
#define BOOT_PARAMS      0x7000ull /* boot_params, start_info, multiboot */
#define BOOT_LISTS       0x8000ull /* memory map, module list */
#define BOOT_LISTS_END   0x10000ull
#define BOOT_CMDLINE     0x20000ull
#define BOOT_CMDLINE_MAX 0x10000ull
#define BOOT_STRINGS     0x30000ull /* module arguments */
#define BOOT_STRINGS_END 0x60000ull
#define BOOT_STACK       0x80000ull
#define BOOT_DATA_END    BOOT_STACK
#define BOOT_EBDA        0x9fc00ull

#define BOOT_FILE_MAX (1 * GIB)

struct boot_ctx {
	struct mem *mem;
	const struct boot_config *config;
	gpa_t rsdp;
	const u8 *image; /* the kernel file; untrusted */
	u64 len;
	gpa_t kernel_start, kernel_end;
	gpa_t ceiling;     /* modules go below, top down */
	gpa_t low_ceiling; /* the same below the kernel */
	gpa_t strings;     /* next free byte of BOOT_STRINGS */
	struct boot_entry *out;
};

/* Little-endian loads from a file; the caller has checked the length. */
static inline u16 boot_u16(const u8 *p)
{
	return (u16)(p[0] | p[1] << 8);
}
static inline u32 boot_u32(const u8 *p)
{
	return boot_u16(p) | (u32)boot_u16(p + 2) << 16;
}
static inline u64 boot_u64(const u8 *p)
{
	return boot_u32(p) | (u64)boot_u32(p + 4) << 32;
}

/* The whole file, malloc'ed. */
int boot_read_file(const char *path, u8 **out, u64 *len, struct err *e);

/*
 * Copies image bytes to RAM at [gpa, gpa + memsz), the rest zeroed, and widens
 * kernel_start..kernel_end. what names it in a sentence.
 */
int boot_put(struct boot_ctx *c, gpa_t gpa, const u8 *p, u64 filesz, u64 memsz,
	     struct err *e);

/* Reads a file into RAM below the ceiling (and below limit), page-aligned. */
int boot_put_file(struct boot_ctx *c, const char *path, gpa_t limit, gpa_t *gpa,
		  u64 *size, struct err *e);

struct boot_module {
	gpa_t gpa, cmdline;
	u64 size;
};

/* initrd and modules of the configuration, with their argument strings;
 * names: put the file's name before the arguments (multiboot's custom). */
int boot_put_modules(struct boot_ctx *c, struct boot_module *mods, unsigned *n,
		     bool names, struct err *e);

/* The command line, at BOOT_CMDLINE; max without the final 0. */
int boot_put_cmdline(struct boot_ctx *c, const char *prefix, u64 max,
		     struct err *e);

/* The memory map; types as in e820: 1 RAM, 2 reserved. */
struct boot_range {
	u64 base, size;
	u32 type;
};
#define BOOT_RANGES 8
unsigned boot_memory_map(const struct mem *m, struct boot_range *r);

/* One loader each. */
int boot_bzimage(struct boot_ctx *c, struct err *e);
int boot_vmlinux(struct boot_ctx *c, const u8 *header, struct err *e);
int boot_pvh(struct boot_ctx *c, u32 entry, struct err *e);
int boot_multiboot(struct boot_ctx *c, u64 header, struct err *e);

/* True, and the offset of the header, if the file has a multiboot header. */
bool boot_multiboot_find(const u8 *p, u64 len, u64 *header);

struct elf_info {
	u64 entry;
	bool is64;
	bool pvh; /* has a PVH note */
	u32 pvh_entry;
};

/* Reads headers and notes. */
int boot_elf_parse(const u8 *p, u64 len, struct elf_info *info, struct err *e);
/* Puts the segments of a file that boot_elf_parse() liked into memory. */
int boot_elf_load(struct boot_ctx *c, const u8 *p, u64 len, struct err *e);
bool boot_is_elf(const u8 *p, u64 len);

/* Decompresses by content. -ENOTSUP: none of the known formats. */
int boot_inflate(const u8 *p, u64 len, u8 **out, u64 *out_len, struct err *e);

#endif
