/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * ELF executables, 32 and 64 bit: program headers, segments by physical
 * address, and Xen's note with the PVH entry (Xen public headers,
 * "elfnote.h", type 18).
 */
#include <elf.h>
#include <errno.h>
#include <string.h>

#include "platform/boot_priv.h"

#define NOTE_XEN_PHYS32_ENTRY 18
#define ELF_SEGMENTS          64u

struct elf_segment {
	u32 type;
	u64 offset, paddr, filesz, memsz, align;
};

bool boot_is_elf(const u8 *p, u64 len)
{
	return len >= SELFMAG && !memcmp(p, ELFMAG, SELFMAG);
}

static int elf_check(const u8 *p, u64 len, struct err *e)
{
	u16 type, machine;

	if (len < EI_NIDENT ||
	    (p[EI_CLASS] != ELFCLASS64 && p[EI_CLASS] != ELFCLASS32))
		return err_set(e, -ENOEXEC, "kernel: not a sound ELF file");
	if (len < (p[EI_CLASS] == ELFCLASS64 ? sizeof(Elf64_Ehdr)
					     : sizeof(Elf32_Ehdr)))
		return err_set(e, -ENOEXEC,
			       "kernel: the ELF file is "
			       "truncated");
	type = boot_u16(p + 16);
	machine = boot_u16(p + 18);
	if (p[EI_DATA] != ELFDATA2LSB ||
	    (machine != EM_X86_64 && machine != EM_386))
		return err_set(e, -ENOEXEC,
			       "kernel: an ELF file for another kind of "
			       "processor (machine %u)",
			       machine);
	if (type != ET_EXEC && type != ET_DYN)
		return err_set(e, -ENOEXEC,
			       "kernel: an ELF file that is not an executable");
	return 0;
}

static void elf_header(const u8 *p, u64 *phoff, unsigned *phsize, unsigned *n)
{
	if (p[EI_CLASS] == ELFCLASS64) {
		*phoff = boot_u64(p + offsetof(Elf64_Ehdr, e_phoff));
		*phsize = boot_u16(p + offsetof(Elf64_Ehdr, e_phentsize));
		*n = boot_u16(p + offsetof(Elf64_Ehdr, e_phnum));
	} else {
		*phoff = boot_u32(p + offsetof(Elf32_Ehdr, e_phoff));
		*phsize = boot_u16(p + offsetof(Elf32_Ehdr, e_phentsize));
		*n = boot_u16(p + offsetof(Elf32_Ehdr, e_phnum));
	}
}

static void elf_segment_load(const u8 *ph, bool is64, struct elf_segment *s)
{
	Elf64_Phdr h64;
	Elf32_Phdr h32;

	if (is64) {
		memcpy(&h64, ph, sizeof(h64));
		*s = (struct elf_segment){h64.p_type,  h64.p_offset,
					  h64.p_paddr, h64.p_filesz,
					  h64.p_memsz, h64.p_align};
	} else {
		memcpy(&h32, ph, sizeof(h32));
		*s = (struct elf_segment){h32.p_type,  h32.p_offset,
					  h32.p_paddr, h32.p_filesz,
					  h32.p_memsz, h32.p_align};
	}
}

/* Segment i of the n there are; sound as far as the file goes. */
static int elf_segment(const u8 *p, u64 len, unsigned i, struct elf_segment *s,
		       struct err *e)
{
	bool is64 = p[EI_CLASS] == ELFCLASS64;
	unsigned size, n;
	u64 off;

	elf_header(p, &off, &size, &n);
	if (size < (is64 ? sizeof(Elf64_Phdr) : sizeof(Elf32_Phdr)) ||
	    off > len || (u64)(i + 1) * size > len - off)
		return err_set(e, -ENOEXEC,
			       "kernel: the ELF file is truncated in its "
			       "program headers");
	elf_segment_load(p + off + (u64)i * size, is64, s);
	if (s->offset > len || s->filesz > len - s->offset)
		return err_set(e, -ENOEXEC,
			       "kernel: the ELF file is truncated: segment %u "
			       "ends past the end of the file",
			       i);
	if (s->type == PT_LOAD &&
	    (s->memsz < s->filesz || s->paddr + s->memsz < s->paddr))
		return err_set(e, -ENOEXEC,
			       "kernel: segment %u of the ELF file is not "
			       "sound",
			       i);
	return 0;
}

static unsigned elf_segments(const u8 *p)
{
	unsigned size, n;
	u64 off;

	elf_header(p, &off, &size, &n);
	return MIN(n, ELF_SEGMENTS);
}

/* Looks for the PVH entry among the notes of one segment. */
static void elf_notes(const u8 *p, u64 len, u64 align, struct elf_info *info)
{
	align = align == 8 ? 8 : 4;
	for (u64 at = 0; len - at >= sizeof(Elf64_Nhdr);) {
		u64 namesz = boot_u32(p + at), descsz = boot_u32(p + at + 4);
		u32 type = boot_u32(p + at + 8);
		u64 name = at + sizeof(Elf64_Nhdr);
		u64 desc = name + ALIGN_UP(namesz, align);
		u64 next = desc + ALIGN_UP(descsz, align);

		if (desc > len || descsz > len - desc)
			return;
		if (type == NOTE_XEN_PHYS32_ENTRY && namesz == 4 &&
		    !memcmp(p + name, "Xen", 4) && descsz >= 4) {
			info->pvh = true;
			info->pvh_entry = boot_u32(p + desc);
		}
		if (next > len)
			return;
		at = next;
	}
}

int boot_elf_parse(const u8 *p, u64 len, struct elf_info *info, struct err *e)
{
	struct elf_segment s;
	unsigned loads = 0;
	int rc = elf_check(p, len, e);

	if (rc)
		return rc;
	*info = (struct elf_info){.is64 = p[EI_CLASS] == ELFCLASS64};
	info->entry = info->is64 ? boot_u64(p + offsetof(Elf64_Ehdr, e_entry))
				 : boot_u32(p + offsetof(Elf32_Ehdr, e_entry));
	for (unsigned i = 0; i < elf_segments(p); i++) {
		rc = elf_segment(p, len, i, &s, e);
		if (rc)
			return rc;
		if (s.type == PT_NOTE)
			elf_notes(p + s.offset, s.filesz, s.align, info);
		loads += s.type == PT_LOAD;
	}
	if (!loads)
		return err_set(e, -ENOEXEC,
			       "kernel: the ELF file has nothing to load");
	return 0;
}

int boot_elf_load(struct boot_ctx *c, const u8 *p, u64 len, struct err *e)
{
	struct elf_segment s;

	for (unsigned i = 0; i < elf_segments(p); i++) {
		int rc = elf_segment(p, len, i, &s, e);

		if (!rc && s.type == PT_LOAD)
			rc = boot_put(c, s.paddr, p + s.offset, s.filesz,
				      s.memsz, e);
		if (rc)
			return rc;
	}
	return 0;
}
