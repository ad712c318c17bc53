/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Loads a kernel into guest memory as its own boot protocol wants it, and
 * says in which state the boot processor enters it. The kind of file is told
 * by its content:
 *
 *   bzImage       Linux x86 boot protocol, 64-bit or 32-bit entry
 *   ELF, PVH      Xen's PVH note: 32-bit entry with struct hvm_start_info
 *   ELF           64-bit Linux vmlinux: startup_64 with boot_params
 *   multiboot 1   header in the first 8 KiB, ELF or flat
 *
 * Files are untrusted. Everything is checked against the file's length and
 * the guest's memory before it is written.
 */
#ifndef PLATFORM_BOOT_H
#define PLATFORM_BOOT_H

#include "base/err.h"
#include "cpu/x86/state.h"
#include "mem/mem.h"

/* Who decompresses a bzImage: auto is host where the format is known. */
enum boot_unpack { BOOT_UNPACK_AUTO, BOOT_UNPACK_HOST, BOOT_UNPACK_GUEST };

#define BOOT_MODULES 16

struct boot_config {
	const char *kernel;
	const char *initrd;  /* NULL: none; multiboot: the first module */
	const char *cmdline; /* NULL: empty */
	/* "FILE[ ARGUMENTS]" for multiboot and PVH */
	const char *modules[BOOT_MODULES];
	unsigned nmodules;
	enum boot_unpack unpack;
};

/* Registers at the kernel's first instruction. */
enum boot_mode { BOOT_MODE_FLAT32, BOOT_MODE_LONG };

struct boot_entry {
	enum boot_mode mode;
	const char *protocol; /* for people */
	u64 rip;
	u32 eax, ebx;
	u64 rsi;
};

/* Loads b; rsdp is where the ACPI tables are (0: none). */
int boot_load(struct mem *m, const struct boot_config *b, gpa_t rsdp,
	      struct boot_entry *out, struct err *e);

/* The same with the kernel file already read. */
int boot_load_image(struct mem *m, const struct boot_config *b, const u8 *image,
		    u64 len, gpa_t rsdp, struct boot_entry *out, struct err *e);

/* Puts a vCPU that is in its reset state at the entry. Writes a GDT and page
 * tables into low memory. */
void boot_enter(struct mem *m, const struct boot_entry *b,
		struct cpu_state *cpu);

/*
 * The ELF file inside a bzImage, decompressed; *out is malloc'ed. -ENOTSUP:
 * not a bzImage, or packed in a way that only the guest can undo.
 */
int boot_unpack_kernel(const u8 *image, u64 len, u8 **out, u64 *out_len,
		       struct err *e);

#endif
