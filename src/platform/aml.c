/* SPDX-License-Identifier: BSD-2-Clause */
#include "platform/aml.h"

#include <string.h>

/* Opcodes (ACPI 6.4, table 20.1) */
enum {
	AML_ZERO = 0x00,
	AML_ONE = 0x01,
	AML_NAME = 0x08,
	AML_BYTE = 0x0a,
	AML_WORD = 0x0b,
	AML_DWORD = 0x0c,
	AML_STRING = 0x0d,
	AML_QWORD = 0x0e,
	AML_SCOPE = 0x10,
	AML_BUFFER = 0x11,
	AML_PACKAGE = 0x12,
	AML_METHOD = 0x14,
	AML_DUAL_PREFIX = 0x2e,
	AML_EXT = 0x5b,
	AML_ROOT = 0x5c,
	AML_ARG0 = 0x68,
	AML_STORE = 0x70,
	AML_EXT_DEVICE = 0x82,
	AML_NOTIFY = 0x86,
	AML_IF = 0xa0,
	AML_RETURN = 0xa4,
};

#define AML_LENGTH_BYTES 3u
#define AML_BLOCK_MAX    BIT(20)
#define RES_END_TAG      0x79u

void aml_init(struct aml *a, u8 *buf, u32 size)
{
	*a = (struct aml){.buf = buf, .size = size};
}

static void aml_le(struct aml *a, u64 v, unsigned n)
{
	if (n > a->size - a->len) {
		a->full = true;
		return;
	}
	memcpy(a->buf + a->len, &v, n);
	a->len += n;
}

static void aml_byte(struct aml *a, u8 v)
{
	aml_le(a, v, 1);
}

/* "\\AAAABBBB": a root prefix and segments of four. */
static void aml_path(struct aml *a, const char *name)
{
	size_t n;

	if (*name == '\\') {
		aml_byte(a, AML_ROOT);
		name++;
	}
	n = strlen(name);
	ASSERT(n == 4 || n == 8);
	if (n == 8)
		aml_byte(a, AML_DUAL_PREFIX);
	for (size_t i = 0; i < n; i++)
		aml_byte(a, (u8)name[i]);
}

/* A PkgLength of three bytes, filled in by aml_end(). */
static void aml_open(struct aml *a)
{
	ASSERT(a->depth < AML_DEPTH);
	a->open[a->depth].at = a->len;
	a->open[a->depth].template = 0;
	a->depth++;
	aml_le(a, 0, AML_LENGTH_BYTES);
}

static void aml_close_template(struct aml *a, u32 at)
{
	u32 n;

	aml_byte(a, RES_END_TAG);
	aml_byte(a, 0); /* checksum: zero means "as good as summed" */
	n = a->len - (at + 2);
	if (!a->full)
		memcpy(a->buf + at, &n, 2);
}

void aml_end(struct aml *a)
{
	u32 at, n;
	u8 *p;

	ASSERT(a->depth);
	a->depth--;
	at = a->open[a->depth].at;
	if (a->open[a->depth].template)
		aml_close_template(a, a->open[a->depth].template);
	n = a->len - at;
	ASSERT(n < AML_BLOCK_MAX);
	if (a->full)
		return;
	p = a->buf + at;
	p[0] = (u8)((AML_LENGTH_BYTES - 1) << 6 | (n & 0xf));
	p[1] = (u8)(n >> 4);
	p[2] = (u8)(n >> 12);
}

void aml_scope(struct aml *a, const char *name)
{
	aml_byte(a, AML_SCOPE);
	aml_open(a);
	aml_path(a, name);
}

void aml_device(struct aml *a, const char *name)
{
	aml_byte(a, AML_EXT);
	aml_byte(a, AML_EXT_DEVICE);
	aml_open(a);
	aml_path(a, name);
}

void aml_method(struct aml *a, const char *name, unsigned args)
{
	aml_byte(a, AML_METHOD);
	aml_open(a);
	aml_path(a, name);
	aml_byte(a, (u8)args);
}

void aml_package(struct aml *a, unsigned elements)
{
	ASSERT(elements < 256);
	aml_byte(a, AML_PACKAGE);
	aml_open(a);
	aml_byte(a, (u8)elements);
}

void aml_resources(struct aml *a)
{
	aml_byte(a, AML_BUFFER);
	aml_open(a);
	aml_byte(a, AML_WORD); /* the buffer's size */
	a->open[a->depth - 1].template = a->len;
	aml_le(a, 0, 2);
}

void aml_if_not_zero(struct aml *a, const char *name)
{
	aml_byte(a, AML_IF);
	aml_open(a);
	aml_path(a, name);
}

void aml_notify(struct aml *a, const char *name, u8 value)
{
	aml_byte(a, AML_NOTIFY);
	aml_path(a, name);
	aml_int(a, value);
}

void aml_name(struct aml *a, const char *name)
{
	aml_byte(a, AML_NAME);
	aml_path(a, name);
}

void aml_int(struct aml *a, u64 v)
{
	if (v <= 1) {
		aml_byte(a, (u8)v); /* AML_ZERO, AML_ONE */
	} else if (v <= 0xff) {
		aml_byte(a, AML_BYTE);
		aml_le(a, v, 1);
	} else if (v <= 0xffff) {
		aml_byte(a, AML_WORD);
		aml_le(a, v, 2);
	} else if (v <= 0xffffffff) {
		aml_byte(a, AML_DWORD);
		aml_le(a, v, 4);
	} else {
		aml_byte(a, AML_QWORD);
		aml_le(a, v, 8);
	}
}

void aml_string(struct aml *a, const char *s)
{
	aml_byte(a, AML_STRING);
	do
		aml_byte(a, (u8)*s);
	while (*s++);
}

static u32 aml_hex(char c)
{
	return (u32)(c <= '9' ? c - '0' : c - 'A' + 10);
}

/* Three letters of five bits, four hexadecimal digits, big-endian. */
void aml_eisa_id(struct aml *a, const char *id)
{
	u32 v = 0;

	for (unsigned i = 0; i < 3; i++)
		v = v << 5 | (u32)(id[i] - '@');
	for (unsigned i = 3; i < 7; i++)
		v = v << 4 | aml_hex(id[i]);
	aml_byte(a, AML_DWORD);
	aml_le(a, __builtin_bswap32(v), 4);
}

void aml_name_int(struct aml *a, const char *name, u64 v)
{
	aml_name(a, name);
	aml_int(a, v);
}

void aml_return(struct aml *a, const char *name)
{
	aml_byte(a, AML_RETURN);
	aml_path(a, name);
}

void aml_store_arg0(struct aml *a, const char *name)
{
	aml_byte(a, AML_STORE);
	aml_byte(a, AML_ARG0);
	aml_path(a, name);
}

/* I/O port descriptor, decoding 16 bits */
void aml_res_io(struct aml *a, u16 base, u8 len)
{
	aml_byte(a, 0x47);
	aml_byte(a, 1);
	aml_le(a, base, 2);
	aml_le(a, base, 2);
	aml_byte(a, 1);
	aml_byte(a, len);
}

/* IRQ descriptor without flags: edge, active high, exclusive */
void aml_res_irq(struct aml *a, unsigned irq)
{
	aml_byte(a, 0x22);
	aml_le(a, BIT(irq), 2);
}

/* 32-bit fixed memory descriptor, writable */
void aml_res_memory(struct aml *a, u32 base, u32 len)
{
	aml_byte(a, 0x86);
	aml_le(a, 9, 2);
	aml_byte(a, 1);
	aml_le(a, base, 4);
	aml_le(a, len, 4);
}

/*
 * Address space descriptor (6.4.3.5) of 2, 4 or 8-byte fields: resource
 * type, general flags "fixed both ends, produced", type-specific flags.
 */
static void aml_window(struct aml *a, u8 tag, unsigned n, u8 type, u8 flags,
		       u64 first, u64 last)
{
	aml_byte(a, tag);
	aml_le(a, 3 + 5 * n, 2);
	aml_byte(a, type);
	aml_byte(a, 0x0c);
	aml_byte(a, flags);
	aml_le(a, 0, n); /* granularity */
	aml_le(a, first, n);
	aml_le(a, last, n);
	aml_le(a, 0, n); /* translation */
	aml_le(a, last - first + 1, n);
}

enum { RES_WORD = 0x88, RES_DWORD = 0x87, RES_QWORD = 0x8a };
enum { RES_MEM = 0, RES_IO = 1, RES_BUS = 2 };
enum { RES_IO_ENTIRE = 3, RES_MEM_WRITABLE = 1 };

void aml_res_buses(struct aml *a, u16 first, u16 last)
{
	aml_window(a, RES_WORD, 2, RES_BUS, 0, first, last);
}

void aml_res_io_window(struct aml *a, u16 first, u16 last)
{
	aml_window(a, RES_WORD, 2, RES_IO, RES_IO_ENTIRE, first, last);
}

void aml_res_mem32_window(struct aml *a, u32 base, u32 len)
{
	aml_window(a, RES_DWORD, 4, RES_MEM, RES_MEM_WRITABLE, base,
		   (u64)base + len - 1);
}

void aml_res_mem64_window(struct aml *a, u64 base, u64 len)
{
	aml_window(a, RES_QWORD, 8, RES_MEM, RES_MEM_WRITABLE, base,
		   base + len - 1);
}
