/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * SMBIOS 3.0 (DMTF DSP0134): what the machine is called. Guests choose
 * drivers and quirks by it, people read it.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "platform/acpi.h"
#include "platform/pc_map.h"

#define SMBIOS_MAX 2048

struct smbios_build {
	u8 buf[SMBIOS_MAX];
	u32 len;
	u16 handle;
};

struct smbios_entry {
	char anchor[5];
	u8 checksum, length, major, minor, docrev, revision, reserved;
	u32 max_size;
	u64 address;
} __attribute__((packed));
_Static_assert(sizeof(struct smbios_entry) == 24, "SMBIOS 3 entry point");

/* One structure: type, formatted body, strings ended by an empty one. */
static void smbios_put(struct smbios_build *b, u8 type, const void *body, u8 n,
		       const char *const *strings)
{
	u8 *p = b->buf + b->len;

	p[0] = type;
	p[1] = n + 4;
	memcpy(p + 2, &b->handle, 2);
	b->handle++;
	memcpy(p + 4, body, n);
	p += 4 + n;
	if (!strings)
		*p++ = 0;
	for (; strings && *strings; strings++) {
		strcpy((char *)p, *strings);
		p += strlen(*strings) + 1;
	}
	*p++ = 0;
	b->len = (u32)(p - b->buf);
	ASSERT(b->len < SMBIOS_MAX);
}

static void smbios_bios(struct smbios_build *b)
{
	static const char *const strings[] = {"Sublet", SUBLET_VERSION,
					      "01/01/2026", NULL};
	u8 body[20] = {1, 2, 0, 0, 3};

	body[6] = 0x08;  /* characteristics not given */
	body[15] = 0x18; /* virtual machine, UEFI not given */
	smbios_put(b, 0, body, sizeof(body), strings);
}

static void smbios_system(struct smbios_build *b)
{
	static const char *const strings[] = {"Sublet", "Sublet PC",
					      SUBLET_VERSION, NULL};
	u8 body[23] = {1, 2, 3, 0};

	body[20] = 6; /* woken by the power switch */
	smbios_put(b, 1, body, sizeof(body), strings);
}

static void smbios_chassis(struct smbios_build *b)
{
	static const char *const strings[] = {"Sublet", NULL};
	u8 body[18] = {1, 1 /* other */, 0, 0, 0, 3, 3, 3, 3};

	smbios_put(b, 3, body, sizeof(body), strings);
}

static void smbios_processors(struct smbios_build *b, unsigned cpus)
{
	static const char *const strings[] = {"CPU 0", "Sublet", NULL};
	u8 body[44] = {1, 3 /* central */, 2 /* unknown */, 2};

	body[20] = 0x41; /* populated, enabled */
	body[21] = 1;    /* upgrade: other */
	body[31] = body[32] = body[33] = (u8)cpus;
	smbios_put(b, 4, body, sizeof(body), strings);
}

static void smbios_memory(struct smbios_build *b, const struct mem *m)
{
	u8 body[19] = {1 /* other */, 3 /* system */, 3 /* no ECC */};
	u32 kib = 0x80000000;
	u64 bytes = m->size;
	u16 n = 1, none = 0xfffe;

	memcpy(body + 3, &kib, 4); /* see the extended size */
	memcpy(body + 7, &none, 2);
	memcpy(body + 9, &n, 2);
	memcpy(body + 11, &bytes, 8);
	smbios_put(b, 16, body, sizeof(body), NULL);
}

int smbios_write(struct mem *m, unsigned cpus, struct err *e)
{
	struct smbios_build b = {.handle = 0};
	struct smbios_entry s = {
		.anchor = "_SM3_",
		.length = sizeof(s),
		.major = 3,
		.revision = 1,
		.address = PC_SMBIOS_BASE + 32,
	};
	u8 sum = 0;

	smbios_bios(&b);
	smbios_system(&b);
	smbios_chassis(&b);
	smbios_processors(&b, cpus);
	smbios_memory(&b, m);
	smbios_put(&b, 127, "", 0, NULL);
	s.max_size = b.len;
	for (u32 i = 0; i < sizeof(s); i++)
		sum += ((const u8 *)&s)[i];
	s.checksum = (u8)-sum;
	if (!mem_write(m, PC_SMBIOS_BASE, &s, sizeof(s)) ||
	    !mem_write(m, s.address, b.buf, b.len))
		return err_set(e, -ENOMEM, "no room for SMBIOS tables");
	return 0;
}
