/* SPDX-License-Identifier: BSD-2-Clause */
#include "platform/boot.h"

#include <errno.h>
#include <stdlib.h>

#include "platform/boot_priv.h"

static int boot_elf(struct boot_ctx *c, struct err *e)
{
	struct elf_info info;
	u64 header;
	int rc;

	if (boot_multiboot_find(c->image, c->len, &header))
		return boot_multiboot(c, header, e);
	rc = boot_elf_parse(c->image, c->len, &info, e);
	if (rc)
		return rc;
	if (info.pvh)
		return boot_pvh(c, info.pvh_entry, e);
	if (!info.is64)
		return err_set(e, -ENOEXEC,
			       "%s: a 32-bit ELF file without a multiboot "
			       "header or a PVH note; it cannot be booted",
			       c->config->kernel);
	return boot_vmlinux(c, NULL, e);
}

static bool boot_is_bzimage(const u8 *p, u64 len)
{
	return len >= 0x206 && boot_u16(p + 0x1fe) == 0xaa55 &&
	       boot_u32(p + 0x202) == 0x53726448; /* "HdrS" */
}

static int boot_dispatch(struct boot_ctx *c, struct err *e)
{
	u64 header;

	if (boot_is_elf(c->image, c->len))
		return boot_elf(c, e);
	if (boot_is_bzimage(c->image, c->len))
		return boot_bzimage(c, e);
	if (boot_multiboot_find(c->image, c->len, &header))
		return boot_multiboot(c, header, e);
	return err_set(e, -ENOEXEC,
		       "%s: not a kernel (neither bzImage nor ELF, and no "
		       "multiboot header)",
		       c->config->kernel);
}

int boot_load_image(struct mem *m, const struct boot_config *b, const u8 *image,
		    u64 len, gpa_t rsdp, struct boot_entry *out, struct err *e)
{
	struct boot_ctx c = {
		.mem = m,
		.config = b,
		.rsdp = rsdp,
		.image = image,
		.len = len,
		.kernel_start = ~0ull,
		.ceiling = pc_ram_low(m),
		.low_ceiling = pc_ram_low(m),
		.strings = BOOT_STRINGS,
		.out = out,
	};
	u8 *unpacked = NULL;
	int rc;

	*out = (struct boot_entry){0};
	/* A kernel may come wrapped whole, as Xen's do. */
	rc = boot_inflate(image, len, &unpacked, &c.len, e);
	if (!rc)
		c.image = unpacked;
	if (rc == -ENOTSUP)
		c.len = len;
	else if (rc)
		return rc;
	rc = boot_dispatch(&c, e);
	free(unpacked);
	return rc;
}

int boot_load(struct mem *m, const struct boot_config *b, gpa_t rsdp,
	      struct boot_entry *out, struct err *e)
{
	u8 *image;
	u64 len;
	int rc = boot_read_file(b->kernel, &image, &len, e);

	if (rc)
		return rc;
	rc = boot_load_image(m, b, image, len, rsdp, out, e);
	free(image);
	return rc;
}
