/* SPDX-License-Identifier: BSD-2-Clause */
/* The firmware tables: checksums, links, and what iasl and dmidecode say. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "platform/acpi.h"
#include "platform/aml.h"
#include "platform/pc.h"

struct fixture {
	struct mem mem;
	gpa_t rsdp;
	char dir[32];
};

static int setup_with(void **state, u64 ram, unsigned cpus)
{
	struct fixture *f = calloc(1, sizeof(*f));

	assert_int_equal(pc_memory(&f->mem, ram, NULL), 0);
	assert_int_equal(acpi_write(&f->mem, cpus, &f->rsdp, NULL), 0);
	assert_int_equal(smbios_write(&f->mem, cpus, NULL), 0);
	strcpy(f->dir, "/tmp/acpi_test.XXXXXX");
	assert_non_null(mkdtemp(f->dir));
	*state = f;
	return 0;
}

static int setup_small(void **state)
{
	return setup_with(state, 64 * MIB, 1);
}

static int setup_large(void **state)
{
	return setup_with(state, 16 * GIB, PC_CPUS_MAX);
}

static int teardown(void **state)
{
	struct fixture *f = *state;
	char cmd[64];

	snprintf(cmd, sizeof(cmd), "rm -rf %s", f->dir);
	assert_int_equal(system(cmd), 0);
	mem_fini(&f->mem);
	free(f);
	return 0;
}

static const u8 *at(struct fixture *f, gpa_t gpa, u64 n)
{
	const u8 *p = mem_ptr(&f->mem, gpa, n);

	assert_non_null(p);
	return p;
}

static u8 sum(const u8 *p, u32 n)
{
	u8 s = 0;

	while (n--)
		s += *p++;
	return s;
}

static u32 le32(const u8 *p)
{
	u32 v;

	memcpy(&v, p, 4);
	return v;
}

static u64 le64(const u8 *p)
{
	u64 v;

	memcpy(&v, p, 8);
	return v;
}

/* A table whose checksum is right. */
static const u8 *table(struct fixture *f, gpa_t gpa)
{
	const u8 *p = at(f, gpa, 36);

	p = at(f, gpa, le32(p + 4));
	assert_int_equal(sum(p, le32(p + 4)), 0);
	return p;
}

static const u8 *find(struct fixture *f, const char *signature)
{
	const u8 *rsdp = at(f, f->rsdp, 36), *xsdt;

	assert_memory_equal(rsdp, "RSD PTR ", 8);
	assert_int_equal(sum(rsdp, 20), 0);
	assert_int_equal(sum(rsdp, 36), 0);
	xsdt = table(f, le64(rsdp + 24));
	for (u32 i = 36; i < le32(xsdt + 4); i += 8) {
		const u8 *t = table(f, le64(xsdt + i));

		if (!memcmp(t, signature, 4))
			return t;
	}
	fail_msg("no %s", signature);
	return NULL;
}

static void links(void **state)
{
	struct fixture *f = *state;
	const u8 *fadt = find(f, "FACP"), *mcfg = find(f, "MCFG");

	assert_int_equal(f->rsdp % 16, 0);
	assert_memory_equal(table(f, le64(fadt + 140)), "DSDT", 4);
	assert_memory_equal(at(f, le32(fadt + 36), 64), "FACS", 4);
	assert_int_equal(le32(fadt + 36) % 64, 0);
	assert_int_equal(le64(mcfg + 44), PC_ECAM_BASE);
}

static void madt_entries(void **state)
{
	struct fixture *f = *state;
	const u8 *m = find(f, "APIC");
	unsigned cpus = 0, ioapics = 0, overrides = 0;
	u32 i;

	for (i = 44; i < le32(m + 4); i += m[i + 1]) {
		assert_true(m[i + 1] >= 6);
		if (m[i] == 0)
			assert_int_equal(m[i + 3], cpus++);
		ioapics += m[i] == 1;
		overrides += m[i] == 2;
	}
	assert_int_equal(i, le32(m + 4));
	assert_int_equal(cpus, f->mem.size > GIB ? PC_CPUS_MAX : 1);
	assert_int_equal(ioapics, 1);
	assert_int_equal(overrides, 2);
}

static void dump(struct fixture *f, const char *name, const void *p, u64 n)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/%s", f->dir, name);
	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(write(fd, p, n), n);
	close(fd);
}

/* Runs a command in the folder; its output into buf. */
static int shell(struct fixture *f, const char *cmd, char *buf, size_t size)
{
	char line[512];
	FILE *p;
	size_t n;

	snprintf(line, sizeof(line), "cd %s && (%s) 2>&1", f->dir, cmd);
	p = popen(line, "r");
	assert_non_null(p);
	n = fread(buf, 1, size - 1, p);
	buf[n] = 0;
	while (fgetc(p) != EOF)
		;
	return pclose(p);
}

/* Decompiled and compiled again, it is the same program. */
static void iasl_round_trip(void **state)
{
	struct fixture *f = *state;
	const u8 *dsdt = table(f, le64(find(f, "FACP") + 140));
	static char out[65536];

	if (system("command -v iasl >/dev/null"))
		skip();
	dump(f, "dsdt.dat", dsdt, le32(dsdt + 4));
	assert_int_equal(shell(f, "iasl -d dsdt.dat", out, sizeof(out)), 0);
	assert_null(strstr(out, "rror"));
	assert_int_equal(shell(f, "iasl -p again dsdt.dsl", out, sizeof(out)),
			 0);
	assert_non_null(strstr(out, " 0 Errors"));
	assert_int_equal(shell(f, "cat dsdt.dsl", out, sizeof(out)), 0);
	assert_non_null(strstr(out, "Name (_HID, EisaId (\"PNP0A08\")"));
	assert_non_null(strstr(out, "Name (\\_S5, Package"));
	assert_non_null(strstr(out, "QWordMemory"));
}

static void iasl_tables(void **state)
{
	static const char *const names[] = {"FACP", "APIC", "MCFG"};
	struct fixture *f = *state;
	static char out[65536];

	if (system("command -v iasl >/dev/null"))
		skip();
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		const u8 *t = find(f, names[i]);
		char cmd[64];

		dump(f, "t.dat", t, le32(t + 4));
		snprintf(cmd, sizeof(cmd), "iasl -d t.dat && iasl t.dsl");
		assert_int_equal(shell(f, cmd, out, sizeof(out)), 0);
		assert_null(strstr(out, "nvalid"));
		assert_non_null(strstr(out, " 0 Errors"));
		assert_non_null(strstr(out, " 0 Warnings"));
	}
}

static void smbios_read(void **state)
{
	struct fixture *f = *state;
	static char out[16384];
	u8 *image;

	if (system("command -v dmidecode >/dev/null"))
		skip();
	image = calloc(1, PC_BIOS_END);
	memcpy(image + PC_SMBIOS_BASE, at(f, PC_SMBIOS_BASE, 0x10000), 0x10000);
	dump(f, "mem", image, PC_BIOS_END);
	free(image);
	assert_int_equal(
		shell(f, "dmidecode --no-sysfs -d mem", out, sizeof(out)), 0);
	assert_non_null(strstr(out, "Manufacturer: Sublet"));
	assert_non_null(strstr(out, "Product Name: Sublet PC"));
	assert_non_null(strstr(out, "End Of Table"));
	assert_null(strstr(out, "BAD"));
	assert_null(strstr(out, "TRUNCATED"));
}

static void too_small(void **state)
{
	u8 buf[512];

	(void)state;
	assert_int_equal(acpi_dsdt(buf, sizeof(buf), 1, 64 * GIB), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define SMALL(t) cmocka_unit_test_setup_teardown(t, setup_small, teardown)
#define LARGE(t) cmocka_unit_test_setup_teardown(t, setup_large, teardown)
		SMALL(links),           LARGE(links),
		SMALL(madt_entries),    LARGE(madt_entries),
		SMALL(iasl_round_trip), LARGE(iasl_round_trip),
		SMALL(iasl_tables),     LARGE(iasl_tables),
		SMALL(smbios_read),     cmocka_unit_test(too_small),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
