/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Linux: bzImage by the boot protocol (Documentation/arch/x86/boot.rst and
 * zero-page.rst), and vmlinux at startup_64, which takes the same
 * boot_params. 64-bit entry where the kernel has one, else 32-bit entry.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "platform/boot_priv.h"

/* Offsets in boot_params; the setup header has the same ones in the file. */
enum {
	BP_ACPI_RSDP = 0x070,
	BP_EXT_RAMDISK_IMAGE = 0x0c0,
	BP_E820_ENTRIES = 0x1e8,
	BP_HEADER = 0x1f1,
	HDR_SETUP_SECTS = 0x1f1,
	HDR_SYSSIZE = 0x1f4,
	HDR_VID_MODE = 0x1fa,
	HDR_BOOT_FLAG = 0x1fe,
	HDR_JUMP_LENGTH = 0x201,
	HDR_MAGIC = 0x202,
	HDR_VERSION = 0x206,
	HDR_TYPE_OF_LOADER = 0x210,
	HDR_LOADFLAGS = 0x211,
	HDR_CODE32_START = 0x214,
	HDR_RAMDISK_IMAGE = 0x218,
	HDR_RAMDISK_SIZE = 0x21c,
	HDR_CMD_LINE_PTR = 0x228,
	HDR_INITRD_ADDR_MAX = 0x22c,
	HDR_KERNEL_ALIGNMENT = 0x230,
	HDR_XLOADFLAGS = 0x236,
	HDR_CMDLINE_SIZE = 0x238,
	HDR_PAYLOAD_OFFSET = 0x248,
	HDR_PAYLOAD_LENGTH = 0x24c,
	HDR_PREF_ADDRESS = 0x258,
	HDR_INIT_SIZE = 0x260,
	HDR_END = 0x290,
	BP_E820_TABLE = 0x2d0,
	BP_SIZE = 0x1000,
};

#define HDR_MAGIC_VALUE       0x53726448u /* "HdrS" */
#define LOADFLAG_LOADED_HIGH  1
#define XLOADFLAG_KERNEL_64   1
#define E820_ENTRY            20
#define LINUX_ENTRY64         0x200
#define LINUX_CMDLINE_OLD     255
#define LINUX_INITRD_MAX      0x7fffffffull
#define LINUX_INITRD_MAX_OLD  0x37ffffffull
#define LINUX_VMLINUX_CMDLINE 2047

struct linux_header {
	u8 raw[HDR_END]; /* of the file, zero past the header's end */
	unsigned version;
	u64 setup_size; /* real-mode part, in bytes */
	u64 load, init_size;
	u64 initrd_max, cmdline_max;
	bool has64;
};

static void put32(u8 *p, u64 v)
{
	u32 v4 = (u32)v;

	memcpy(p, &v4, 4);
}

static void put64(u8 *p, u64 v)
{
	memcpy(p, &v, 8);
}

static int linux_header_read(const u8 *p, u64 len, struct linux_header *h,
			     struct err *e)
{
	u64 end, sects;

	memset(h, 0, sizeof(*h));
	if (len < 0x264)
		return err_set(e, -ENOEXEC,
			       "kernel: the bzImage is truncated "
			       "in its header");
	end = MIN((u64)HDR_MAGIC + p[HDR_JUMP_LENGTH], (u64)HDR_END);
	memcpy(h->raw + BP_HEADER, p + BP_HEADER, MIN(end, len) - BP_HEADER);
	h->version = boot_u16(h->raw + HDR_VERSION);
	if (h->version < 0x200 ||
	    !(h->raw[HDR_LOADFLAGS] & LOADFLAG_LOADED_HIGH))
		return err_set(e, -ENOEXEC,
			       "kernel: a zImage or a Linux of "
			       "before 1995, which cannot be booted");
	sects = h->raw[HDR_SETUP_SECTS] ? h->raw[HDR_SETUP_SECTS] : 4;
	h->setup_size = (sects + 1) * 512;
	if (len <= h->setup_size ||
	    len - h->setup_size < boot_u32(h->raw + HDR_SYSSIZE) * 16ull)
		return err_set(e, -ENOEXEC,
			       "kernel: the bzImage is truncated: %lu bytes "
			       "of %llu",
			       len,
			       h->setup_size +
				       boot_u32(h->raw + HDR_SYSSIZE) * 16ull);
	return 0;
}

static void linux_header_limits(struct linux_header *h, u64 len)
{
	const u8 *r = h->raw;

	h->load = 0x100000;
	h->initrd_max = h->version >= 0x203 ? boot_u32(r + HDR_INITRD_ADDR_MAX)
					    : LINUX_INITRD_MAX_OLD;
	h->cmdline_max = h->version >= 0x206 ? boot_u32(r + HDR_CMDLINE_SIZE)
					     : LINUX_CMDLINE_OLD;
	h->init_size = len - h->setup_size;
	if (h->version >= 0x20a) {
		h->load = boot_u64(r + HDR_PREF_ADDRESS);
		h->init_size =
			MAX(h->init_size, (u64)boot_u32(r + HDR_INIT_SIZE));
	}
	h->has64 =
		h->version >= 0x20c && r[HDR_XLOADFLAGS] & XLOADFLAG_KERNEL_64;
}

static int linux_initrd(struct boot_ctx *c, u64 max, u8 *bp, struct err *e)
{
	gpa_t gpa;
	u64 size;
	int rc;

	if (c->config->nmodules)
		return err_set(e, -EINVAL,
			       "Linux takes no modules at boot, only an "
			       "initrd");
	if (!c->config->initrd)
		return 0;
	rc = boot_put_file(c, c->config->initrd, max + 1, &gpa, &size, e);
	if (rc)
		return rc;
	put32(bp + HDR_RAMDISK_IMAGE, gpa);
	put32(bp + HDR_RAMDISK_SIZE, size);
	put32(bp + BP_EXT_RAMDISK_IMAGE, gpa >> 32);
	return 0;
}

static void linux_e820(const struct mem *m, u8 *bp)
{
	struct boot_range r[BOOT_RANGES];
	unsigned n = boot_memory_map(m, r);

	bp[BP_E820_ENTRIES] = (u8)n;
	for (unsigned i = 0; i < n; i++) {
		u8 *p = bp + BP_E820_TABLE + i * E820_ENTRY;

		put64(p, r[i].base);
		put64(p + 8, r[i].size);
		put32(p + 16, r[i].type);
	}
}

/* Fills in boot_params, initrd and command line for a kernel in memory. */
static int linux_params(struct boot_ctx *c, const u8 *header, u64 initrd_max,
			u64 cmdline_max, struct err *e)
{
	u8 bp[BP_SIZE] = {0};
	int rc;

	memcpy(bp + BP_HEADER, header + BP_HEADER, HDR_END - BP_HEADER);
	rc = boot_put_cmdline(c, "", cmdline_max, e);
	if (!rc)
		rc = linux_initrd(c, initrd_max, bp, e);
	if (rc)
		return rc;
	bp[HDR_TYPE_OF_LOADER] = 0xff;
	bp[HDR_VID_MODE] = bp[HDR_VID_MODE + 1] = 0xff; /* as it is */
	put32(bp + HDR_CMD_LINE_PTR, BOOT_CMDLINE);
	put64(bp + BP_ACPI_RSDP, c->rsdp);
	linux_e820(c->mem, bp);
	mem_write(c->mem, BOOT_PARAMS, bp, sizeof(bp));
	return 0;
}

/* The setup header of a vmlinux, which brings none. */
static void linux_header_make(u8 *raw)
{
	static const u8 magic[] = {'H', 'd', 'r', 'S', 0x0f, 0x02};

	memset(raw, 0, HDR_END);
	raw[HDR_BOOT_FLAG] = 0x55;
	raw[HDR_BOOT_FLAG + 1] = 0xaa;
	memcpy(raw + HDR_MAGIC, magic, sizeof(magic));
	raw[HDR_LOADFLAGS] = LOADFLAG_LOADED_HIGH;
	put32(raw + HDR_KERNEL_ALIGNMENT, 0x200000);
	put32(raw + HDR_CMDLINE_SIZE, LINUX_VMLINUX_CMDLINE);
}

/* c->image is the ELF file; header: of the bzImage it came from, or NULL. */
int boot_vmlinux(struct boot_ctx *c, const u8 *header, struct err *e)
{
	struct elf_info info;
	u8 made[HDR_END];
	int rc = boot_elf_parse(c->image, c->len, &info, e);

	if (rc)
		return rc;
	rc = boot_elf_load(c, c->image, c->len, e);
	if (rc)
		return rc;
	if (info.entry < c->kernel_start || info.entry >= c->kernel_end)
		return err_set(e, -ENOEXEC,
			       "%s: enters at %#lx, outside of what it loads",
			       c->config->kernel, info.entry);
	*c->out = (struct boot_entry){
		.mode = info.is64 ? BOOT_MODE_LONG : BOOT_MODE_FLAT32,
		.protocol = "Linux vmlinux",
		.rip = info.entry,
		.rsi = BOOT_PARAMS,
	};
	if (!header) {
		linux_header_make(made);
		header = made;
	}
	return linux_params(
		c, header, LINUX_INITRD_MAX,
		MAX(boot_u32(header + HDR_CMDLINE_SIZE), LINUX_CMDLINE_OLD), e);
}

/* Entry by the kernel's own decompressor. */
static int linux_packed(struct boot_ctx *c, const struct linux_header *h,
			struct err *e)
{
	int rc = boot_put(c, h->load, c->image + h->setup_size,
			  c->len - h->setup_size, h->init_size, e);

	if (rc)
		return rc;
	*c->out = (struct boot_entry){
		.mode = h->has64 ? BOOT_MODE_LONG : BOOT_MODE_FLAT32,
		.protocol = h->has64 ? "Linux bzImage"
				     : "Linux bzImage, 32-bit entry",
		.rip = h->load + (h->has64 ? LINUX_ENTRY64 : 0),
		.rsi = BOOT_PARAMS,
	};
	return linux_params(c, h->raw, h->initrd_max, h->cmdline_max, e);
}

static int linux_payload(const u8 *image, u64 len, const struct linux_header *h,
			 u8 **out, u64 *out_len, struct err *e)
{
	u64 off = h->setup_size + boot_u32(h->raw + HDR_PAYLOAD_OFFSET);
	u64 n = boot_u32(h->raw + HDR_PAYLOAD_LENGTH);
	int rc;

	if (h->version < 0x208 || !n || off > len || n > len - off)
		return err_set(e, -ENOTSUP,
			       "kernel: the bzImage does not say "
			       "where its payload is");
	rc = boot_inflate(image + off, n, out, out_len, e);
	if (rc || boot_is_elf(*out, *out_len))
		return rc;
	free(*out);
	*out = NULL;
	return err_set(e, -ENOTSUP,
		       "kernel: the bzImage's payload is not an "
		       "ELF file");
}

int boot_unpack_kernel(const u8 *image, u64 len, u8 **out, u64 *out_len,
		       struct err *e)
{
	struct linux_header h;
	int rc = linux_header_read(image, len, &h, e);

	*out = NULL;
	if (rc)
		return -ENOTSUP;
	return linux_payload(image, len, &h, out, out_len, e);
}

static int linux_unpacked(struct boot_ctx *c, const struct linux_header *h,
			  const u8 *elf, u64 len, struct err *e)
{
	struct boot_ctx sub = *c;
	int rc;

	sub.image = elf;
	sub.len = len;
	rc = boot_vmlinux(&sub, h->raw, e);
	c->out->protocol = "Linux bzImage, unpacked by the host";
	return rc;
}

int boot_bzimage(struct boot_ctx *c, struct err *e)
{
	struct linux_header h;
	u8 *elf = NULL;
	u64 len;
	int rc = linux_header_read(c->image, c->len, &h, e);

	if (rc)
		return rc;
	linux_header_limits(&h, c->len);
	/* A 32-bit vmlinux is entered through its own paging set-up, which
	 * the 32-bit entry of the bzImage leads to as well: leave it alone. */
	if (c->config->unpack == BOOT_UNPACK_GUEST ||
	    (!h.has64 && c->config->unpack == BOOT_UNPACK_AUTO))
		return linux_packed(c, &h, e);
	rc = linux_payload(c->image, c->len, &h, &elf, &len, e);
	if (rc && c->config->unpack == BOOT_UNPACK_HOST)
		return rc;
	if (rc)
		return linux_packed(c, &h, e);
	rc = linux_unpacked(c, &h, elf, len, e);
	free(elf);
	return rc;
}
