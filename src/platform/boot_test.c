/* SPDX-License-Identifier: BSD-2-Clause */
/* The boot loaders, fed with small files made here. */
#include <elf.h>
#include <fcntl.h>
#include <lz4.h>
#include <lzma.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include <zlib.h>
#include <zstd.h>

#include <cmocka.h>

#include "platform/boot_priv.h"
#include "platform/pc.h"

#define TEST_RAM  (64 * MIB)
#define TEST_RSDP 0xe0000

struct fixture {
	struct mem mem;
	struct boot_config config;
	struct boot_entry entry;
	struct err err;
	char initrd[64];
};

static void fixture_file(char *path, const void *p, size_t n)
{
	int fd;

	strcpy(path, "/tmp/boot_test.XXXXXX");
	fd = mkstemp(path);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	close(fd);
}

static int setup(void **state)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(pc_memory(&f->mem, TEST_RAM, &f->err), 0);
	f->config.kernel = "test-kernel";
	f->config.cmdline = "console=ttyS0 quiet";
	fixture_file(f->initrd, "initrd-bytes", 12);
	*state = f;
	return 0;
}

static int teardown(void **state)
{
	struct fixture *f = *state;

	unlink(f->initrd);
	mem_fini(&f->mem);
	free(f);
	return 0;
}

static int load(struct fixture *f, const void *p, u64 len)
{
	f->err.text[0] = 0;
	return boot_load_image(&f->mem, &f->config, p, len, TEST_RSDP,
			       &f->entry, &f->err);
}

static u64 guest(struct fixture *f, gpa_t gpa, unsigned n)
{
	u64 v = 0;

	assert_true(mem_read(&f->mem, gpa, &v, n));
	return v;
}

static void guest_str(struct fixture *f, gpa_t gpa, const char *want)
{
	char buf[256] = {0};

	assert_true(mem_read(&f->mem, gpa, buf, strlen(want) + 1));
	assert_string_equal(buf, want);
}

/* A bzImage: 2 setup sectors, then code, then the payload. */
#define BZ_SETUP   1536u
#define BZ_CODE    1024u
#define BZ_INIT    (2 * MIB)
#define BZ_PREFERS (16 * MIB)

static void set(u8 *p, u64 v, unsigned n)
{
	memcpy(p, &v, n);
}

static u64 bz_make(u8 *p, bool is64, const u8 *payload, u64 len)
{
	u64 total = ALIGN_UP(BZ_SETUP + BZ_CODE + len, 16);

	memset(p, 0, total);
	p[0x1f1] = 2;
	set(p + 0x1f4, (total - BZ_SETUP) / 16, 4);
	set(p + 0x1fe, 0xaa55, 2);
	p[0x201] = 0x66;
	memcpy(p + 0x202, "HdrS", 4);
	set(p + 0x206, 0x20f, 2);
	p[0x211] = 1;
	set(p + 0x22c, 0x7fffffff, 4);
	set(p + 0x230, 0x200000, 4);
	p[0x234] = 1;
	p[0x236] = is64;
	set(p + 0x238, 2047, 4);
	set(p + 0x248, BZ_CODE, 4);
	set(p + 0x24c, len, 4);
	set(p + 0x258, BZ_PREFERS, 8);
	set(p + 0x260, BZ_INIT, 4);
	memset(p + BZ_SETUP, 0x90, BZ_CODE);
	if (len)
		memcpy(p + BZ_SETUP + BZ_CODE, payload, len);
	return total;
}

static void bzimage_64(void **state)
{
	struct fixture *f = *state;
	u8 image[8192];
	u64 n = bz_make(image, true, NULL, 0), rd;

	f->config.initrd = f->initrd;
	assert_int_equal(load(f, image, n), 0);
	assert_int_equal(f->entry.mode, BOOT_MODE_LONG);
	assert_int_equal(f->entry.rip, BZ_PREFERS + 0x200);
	assert_int_equal(guest(f, f->entry.rip, 4), 0x90909090);
	rd = guest(f, f->entry.rsi + 0x218, 4);
	assert_int_equal(guest(f, f->entry.rsi + 0x21c, 4), 12);
	guest_str(f, rd, "initrd-bytes");
	guest_str(f, guest(f, f->entry.rsi + 0x228, 4), "console=ttyS0 quiet");
	assert_int_equal(guest(f, f->entry.rsi + 0x70, 8), TEST_RSDP);
	assert_int_equal(guest(f, f->entry.rsi + 0x1ef, 1), 0);
	assert_int_equal(guest(f, f->entry.rsi + 0x210, 1), 0xff);
}

static void bzimage_e820(void **state)
{
	struct fixture *f = *state;
	u8 image[8192];
	u64 n = bz_make(image, true, NULL, 0), ram = 0, top = 0;
	gpa_t bp;

	assert_int_equal(load(f, image, n), 0);
	bp = f->entry.rsi;
	for (u64 i = 0; i < guest(f, bp + 0x1e8, 1); i++) {
		gpa_t at = bp + 0x2d0 + i * 20;
		u64 base = guest(f, at, 8), size = guest(f, at + 8, 8);

		assert_true(base >= top); /* sorted, no overlap */
		top = base + size;
		if (guest(f, at + 16, 4) == 1) {
			assert_non_null(mem_ptr(&f->mem, base, size));
			ram += size;
		}
	}
	assert_int_equal(ram, TEST_RAM - MIB + 0x9fc00);
}

static void bzimage_32(void **state)
{
	struct fixture *f = *state;
	u8 image[8192];
	u64 n = bz_make(image, false, NULL, 0);

	assert_int_equal(load(f, image, n), 0);
	assert_int_equal(f->entry.mode, BOOT_MODE_FLAT32);
	assert_int_equal(f->entry.rip, BZ_PREFERS);
}

static void bzimage_wrong(void **state)
{
	struct fixture *f = *state;
	static char line[4096];
	u8 image[8192];
	u64 n = bz_make(image, true, NULL, 0);

	assert_int_not_equal(load(f, image, n - 600), 0);
	assert_non_null(strstr(f->err.text, "truncated"));
	memset(line, 'x', 2048);
	f->config.cmdline = line;
	assert_int_not_equal(load(f, image, n), 0);
	assert_non_null(strstr(f->err.text, "2047 at most"));
	line[2047] = 0;
	assert_int_equal(load(f, image, n), 0);
	set(image + 0x260, 60 * MIB, 4);
	assert_int_not_equal(load(f, image, n), 0);
	assert_non_null(strstr(f->err.text, "machine of 64 MiB"));
	bz_make(image, true, NULL, 0);
	f->config.initrd = "/nonexistent/initrd";
	assert_int_not_equal(load(f, image, n), 0);
	assert_non_null(strstr(f->err.text, "/nonexistent/initrd"));
	f->config.initrd = NULL;
	assert_int_not_equal(load(f, "#!/bin/sh\necho no kernel\n", 24), 0);
	assert_non_null(strstr(f->err.text, "not a kernel"));
}

static void initrd_too_big(void **state)
{
	struct fixture *f = *state;
	u8 image[8192];
	u64 n = bz_make(image, true, NULL, 0);

	assert_int_equal(truncate(f->initrd, 47 * MIB), 0);
	f->config.initrd = f->initrd;
	assert_int_not_equal(load(f, image, n), 0);
	assert_non_null(strstr(f->err.text, "do not fit"));
	assert_int_equal(truncate(f->initrd, 46 * MIB), 0);
	assert_int_equal(load(f, image, n), 0);
	/* Below the kernel, where memory is short. */
	set(image + 0x260, 46 * MIB, 4);
	assert_int_equal(truncate(f->initrd, 15 * MIB), 0);
	assert_int_equal(load(f, image, n), 0);
	assert_int_equal(guest(f, f->entry.rsi + 0x218, 4), MIB);
	assert_int_equal(truncate(f->initrd, 15 * MIB + 1), 0);
	assert_int_not_equal(load(f, image, n), 0);
}

/* A 64-bit ELF with one segment at gpa and, if pvh, a note. */
static u64 elf_make(u8 *p, u64 gpa, u64 entry, u32 pvh)
{
	Elf64_Ehdr h = {
		.e_ident = {0x7f, 'E', 'L', 'F', ELFCLASS64, ELFDATA2LSB, 1},
		.e_type = ET_EXEC,
		.e_machine = EM_X86_64,
		.e_entry = entry,
		.e_phoff = sizeof(h),
		.e_phentsize = sizeof(Elf64_Phdr),
		.e_phnum = pvh ? 2 : 1,
	};
	Elf64_Phdr load = {
		.p_type = PT_LOAD,
		.p_offset = 512,
		.p_paddr = gpa,
		.p_filesz = 256,
		.p_memsz = 8192,
	};
	Elf64_Phdr note = {.p_type = PT_NOTE, .p_offset = 480, .p_filesz = 20};
	u32 raw[5] = {4, 4, 18, 0x006e6558, pvh};

	memset(p, 0, 768);
	memcpy(p, &h, sizeof(h));
	memcpy(p + sizeof(h), &load, sizeof(load));
	memcpy(p + sizeof(h) + sizeof(load), &note, sizeof(note));
	memcpy(p + 480, raw, sizeof(raw));
	memset(p + 512, 0xcc, 256);
	return 768;
}

static void elf_vmlinux(void **state)
{
	struct fixture *f = *state;
	u8 image[1024];
	u64 n = elf_make(image, 0x1000000, 0x1000010, 0);

	mem_write(&f->mem, 0x1000000 + 300, "dirt", 4);
	assert_int_equal(load(f, image, n), 0);
	assert_int_equal(f->entry.mode, BOOT_MODE_LONG);
	assert_int_equal(f->entry.rip, 0x1000010);
	assert_int_equal(guest(f, 0x1000000 + 252, 8), 0xcccccccc);
	assert_int_equal(guest(f, 0x1000000 + 300, 4), 0);
	assert_int_equal(guest(f, f->entry.rsi + 0x202, 4), 0x53726448);
}

static void elf_pvh(void **state)
{
	struct fixture *f = *state;
	u8 image[1024];
	u64 n = elf_make(image, 0x1000000, 0xffffffff80000000, 0x1000020);
	gpa_t si, map, mod;

	f->config.initrd = f->initrd;
	f->config.modules[0] = "/dev/null with args";
	assert_int_equal(load(f, image, n), 0);
	assert_int_equal(f->entry.mode, BOOT_MODE_FLAT32);
	assert_int_equal(f->entry.rip, 0x1000020);
	si = f->entry.ebx;
	assert_int_equal(guest(f, si, 4), 0x336ec578);
	assert_int_equal(guest(f, si + 12, 4), 1);
	mod = guest(f, si + 16, 8);
	guest_str(f, guest(f, mod, 8), "initrd-bytes");
	assert_int_equal(guest(f, mod + 8, 8), 12);
	guest_str(f, guest(f, si + 24, 8), "console=ttyS0 quiet");
	assert_int_equal(guest(f, si + 32, 8), TEST_RSDP);
	map = guest(f, si + 40, 8);
	assert_int_equal(guest(f, map, 8), 0);
	assert_int_equal(guest(f, map + 16, 4), 1);
	f->config.nmodules = 1;
	assert_int_not_equal(load(f, image, n), 0);
	assert_non_null(strstr(f->err.text, "/dev/null is not a regular file"));
}

static void elf_wrong(void **state)
{
	struct fixture *f = *state;
	u8 image[1024];
	u64 n = elf_make(image, 0x1000000, 0x1000010, 0);

	assert_int_not_equal(load(f, image, n - 1), 0);
	assert_non_null(strstr(f->err.text, "truncated"));
	assert_int_not_equal(load(f, image, 70), 0);
	assert_non_null(strstr(f->err.text, "truncated"));
	set(image + 18, EM_AARCH64, 2);
	assert_int_not_equal(load(f, image, n), 0);
	assert_non_null(strstr(f->err.text, "another kind of processor"));
	elf_make(image, TEST_RAM - 4096, 0x1000010, 0);
	assert_int_not_equal(load(f, image, n), 0);
	assert_non_null(strstr(f->err.text, "does not have"));
	elf_make(image, 0x1000, 0x1000, 0);
	assert_int_not_equal(load(f, image, n), 0);
	assert_non_null(strstr(f->err.text, "boot data"));
	elf_make(image, 0x1000000, 0x2000000, 0);
	assert_int_not_equal(load(f, image, n), 0);
	assert_non_null(strstr(f->err.text, "outside"));
}

static void multiboot_flat(void **state)
{
	struct fixture *f = *state;
	u32 image[64] = {
		[4] = 0x1badb002,
		[5] = 0x10003,
		[6] = -(0x1badb002 + 0x10003),
		[7] = 0x100010, /* header */
		[8] = 0x100000, /* load */
		[9] = 0,
		[10] = 0x102000,
		[11] = 0x100030,
		[63] = 0x12345678,
	};
	char spec[80];
	gpa_t mods;

	snprintf(spec, sizeof(spec), "%s hello world", f->initrd);
	f->config.modules[0] = spec;
	f->config.nmodules = 1;
	assert_int_equal(load(f, image, sizeof(image)), 0);
	assert_int_equal(f->entry.rip, 0x100030);
	assert_int_equal(f->entry.eax, 0x2badb002);
	assert_int_equal(guest(f, 0x1000fc, 4), 0x12345678);
	assert_int_equal(guest(f, f->entry.ebx + 8, 4), 63 * 1024);
	guest_str(f, guest(f, f->entry.ebx + 16, 4),
		  "test-kernel console=ttyS0 quiet");
	assert_int_equal(guest(f, f->entry.ebx + 20, 4), 1);
	mods = guest(f, f->entry.ebx + 24, 4);
	guest_str(f, guest(f, mods, 4), "initrd-bytes");
	assert_int_equal(guest(f, mods + 4, 4) - guest(f, mods, 4), 12);
	guest_str(f, guest(f, mods + 8, 4), spec);
	image[7] = 0xff000;
	assert_int_not_equal(load(f, image, sizeof(image)), 0);
	image[7] = 0x100010;
	image[9] = 0x100000 + sizeof(image) + 1;
	assert_int_not_equal(load(f, image, sizeof(image)), 0);
	assert_non_null(strstr(f->err.text, "truncated"));
}

static u64 pack_gzip(const u8 *in, u64 len, u8 *out, u64 size)
{
	z_stream z = {.next_in = (u8 *)in, .avail_in = (uInt)len};

	deflateInit2(&z, 6, Z_DEFLATED, 31, 8, Z_DEFAULT_STRATEGY);
	z.next_out = out;
	z.avail_out = (uInt)size;
	assert_int_equal(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return size - z.avail_out;
}

static u64 pack_xz(const u8 *in, u64 len, u8 *out, u64 size)
{
	size_t n = 0;

	assert_int_equal(lzma_easy_buffer_encode(1, LZMA_CHECK_CRC32, NULL, in,
						 len, out, &n, size),
			 LZMA_OK);
	return n;
}

static u64 pack_zstd(const u8 *in, u64 len, u8 *out, u64 size)
{
	return ZSTD_compress(out, size, in, len, 1);
}

static u64 pack_lz4(const u8 *in, u64 len, u8 *out, u64 size)
{
	int n = LZ4_compress_default((const char *)in, (char *)out + 8,
				     (int)len, (int)size - 8);

	set(out, 0x184c2102, 4);
	set(out + 4, (u64)n, 4);
	return (u64)n + 8;
}

static void unpack_each(void **state)
{
	static u64 (*const pack[])(const u8 *, u64, u8 *, u64) = {
		pack_gzip, pack_xz, pack_zstd, pack_lz4};
	struct fixture *f = *state;

	for (size_t i = 0; i < ARRAY_LEN(pack); i++) {
		u8 elf[1024], packed[2048], image[8192], *out;
		u64 n = elf_make(elf, 0x1000000, 0x1000010, 0), m, got;

		m = pack[i](elf, n, packed, sizeof(packed) - 4);
		set(packed + m, n, 4); /* Linux's length */
		m = bz_make(image, true, packed, m + 4);
		f->config.unpack = BOOT_UNPACK_HOST;
		assert_int_equal(load(f, image, m), 0);
		assert_int_equal(f->entry.rip, 0x1000010);
		assert_int_equal(guest(f, 0x1000010, 4), 0xcccccccc);
		assert_int_equal(guest(f, f->entry.rsi + 0x238, 4), 2047);
		assert_int_equal(boot_unpack_kernel(image, m, &out, &got, NULL),
				 0);
		assert_int_equal(got, n);
		assert_memory_equal(out, elf, n);
		free(out);
		f->config.unpack = BOOT_UNPACK_GUEST;
		assert_int_equal(load(f, image, m), 0);
		assert_int_equal(f->entry.rip, BZ_PREFERS + 0x200);
		/* Damage: the host cannot, auto leaves it to the guest. */
		memset(image + BZ_SETUP + BZ_CODE + 20, 0x5a, 60);
		f->config.unpack = BOOT_UNPACK_HOST;
		assert_int_not_equal(load(f, image, m), 0);
		f->config.unpack = BOOT_UNPACK_AUTO;
		assert_int_equal(load(f, image, m), 0);
		assert_int_equal(f->entry.rip, BZ_PREFERS + 0x200);
	}
}

static void wrong_files(void **state)
{
	struct fixture *f = *state;

	f->config.kernel = "/nonexistent";
	assert_true(boot_load(&f->mem, &f->config, 0, &f->entry, &f->err) < 0);
	assert_non_null(strstr(f->err.text, "No such file"));
	f->config.kernel = "/tmp";
	assert_true(boot_load(&f->mem, &f->config, 0, &f->entry, &f->err) < 0);
	assert_string_equal(f->err.text, "/tmp is a directory");
	assert_int_equal(truncate(f->initrd, 0), 0);
	f->config.kernel = f->initrd;
	assert_true(boot_load(&f->mem, &f->config, 0, &f->entry, &f->err) < 0);
	assert_non_null(strstr(f->err.text, "is empty"));
}

/* Walks the page tables that boot_enter() made. */
static void enter_long(void **state)
{
	struct fixture *f = *state;
	struct boot_entry b = {
		.mode = BOOT_MODE_LONG, .rip = 0x1234, .rsi = 0x7000};
	struct cpu_state s = {0};

	boot_enter(&f->mem, &b, &s);
	assert_int_equal(s.gpr[REG_SI], 0x7000);
	assert_true(s.seg[SEG_CS].attr & SEG_ATTR_L);
	for (u64 lin = 0; lin < 4 * GIB; lin += 37 * MIB) {
		u64 t = guest(f, s.cr3 + (lin >> 39) * 8, 8);

		t = guest(f, (t & ~PAGE_MASK) + (lin >> 30 & 511) * 8, 8);
		t = guest(f, (t & ~PAGE_MASK) + (lin >> 21 & 511) * 8, 8);
		assert_int_equal(t & ~(2 * MIB - 1), lin & ~(2 * MIB - 1));
		assert_int_equal(t & 0x83, 0x83);
	}
	/* The descriptor in memory says what the hidden part says. */
	assert_int_equal(guest(f, s.gdt.base + s.seg[SEG_CS].sel, 8),
			 0x00af9b000000ffff);
	assert_int_equal(guest(f, s.gdt.base + s.seg[SEG_DS].sel, 8),
			 0x00cf93000000ffff);
	assert_int_equal(guest(f, s.gdt.base + s.tr.sel, 8), 0x8b0000000067);
}

/* Damaged files of each kind end in a sentence or an entry, nothing else. */
static void damaged(void **state)
{
	struct fixture *f = *state;
	u8 base[8192], image[8192], elf[1024], packed[2048];
	u64 n;

	srand(1);
	for (int round = 0; round < 4000; round++) {
		if (round % 2) {
			n = elf_make(base, 0x1000000, 0x1000010, 0x1000000);
		} else {
			n = elf_make(elf, 0x1000000, 0x1000010, 0);
			n = pack_lz4(elf, n, packed, sizeof(packed));
			n = bz_make(base, true, packed, n);
		}
		memcpy(image, base, n);
		for (int k = rand() % 6; k >= 0; k--)
			image[(u64)rand() % MIN(n, 0x280ul)] = (u8)rand();
		if (rand() % 4 == 0)
			n = (u64)rand() % n + 1;
		if (load(f, image, n))
			assert_int_not_equal(f->err.text[0], 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(t) cmocka_unit_test_setup_teardown(t, setup, teardown)
		T(bzimage_64),    T(bzimage_e820),   T(bzimage_32),
		T(bzimage_wrong), T(initrd_too_big), T(elf_vmlinux),
		T(elf_pvh),       T(elf_wrong),      T(multiboot_flat),
		T(unpack_each),   T(wrong_files),    T(enter_long),
		T(damaged),
#undef T
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
