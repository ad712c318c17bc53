/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The decoder against written-down cases, against itself, and, where Zydis is
 * installed, against Zydis over millions of random instructions.
 */
/* clang-format off */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
/* clang-format on */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "cpu/x86/optable.h"

#if __has_include(<Zydis/Zydis.h>)
#include <Zydis/Zydis.h>
#define HAVE_ZYDIS 1
#else
#define HAVE_ZYDIS 0
#endif

static const struct {
	enum decode_mode mode;
	const char *hex, *text;
} cases[] = {
	{DECODE_64, "90", "nop"},
	{DECODE_64, "4190", "xchg r8d, eax"},
	{DECODE_64, "f390", "pause"},
	{DECODE_64, "4001c8", "add eax, ecx"},
	{DECODE_64, "66480505000000", "add rax, 0x5"},
	{DECODE_64, "88e0", "mov al, ah"},
	{DECODE_64, "4088e0", "mov al, spl"},
	{DECODE_64, "4863c1", "movsxd rax, ecx"},
	{DECODE_32, "63c1", "arpl cx, ax"},
	{DECODE_64, "488d0500000000", "lea rax, [0x401007]"},
	{DECODE_64, "678d0500000000", "lea eax, [0x401007]"},
	{DECODE_32, "8d0500000000", "lea eax, [0x0]"},
	{DECODE_64, "8b0424", "mov eax, dword ptr [rsp]"},
	{DECODE_64, "418b0424", "mov eax, dword ptr [r12]"},
	{DECODE_64, "428b0420", "mov eax, dword ptr [rax+r12]"},
	{DECODE_64, "8b042500000080",
	 "mov eax, dword ptr [0xffffffff80000000]"},
	{DECODE_64, "648b04c3", "mov eax, dword ptr [fs:rbx+rax*8]"},
	{DECODE_64, "3e8b4500", "mov eax, dword ptr [rbp]"},
	{DECODE_32, "3e8b4500", "mov eax, dword ptr [ds:ebp]"},
	{DECODE_16, "8b42f0", "mov ax, word ptr [bp+si-0x10]"},
	{DECODE_16, "8b1e3412", "mov bx, word ptr [0x1234]"},
	{DECODE_16, "66678b0424", "mov eax, dword ptr [esp]"},
	{DECODE_64, "48b88877665544332211", "mov rax, 0x1122334455667788"},
	{DECODE_64, "a18877665544332211",
	 "mov eax, dword ptr [0x1122334455667788]"},
	{DECODE_64, "67a144332211", "mov eax, dword ptr [0x11223344]"},
	{DECODE_64, "66e900000000", "jmp 0x401006"},
	{DECODE_32, "66e90000", "jmp 0x1004"},
	{DECODE_64, "74fe", "jz 0x401000"},
	{DECODE_32, "ea785634120800", "jmp far 0x8:0x12345678"},
	{DECODE_64, "ea785634120800", "(bad)"},
	{DECODE_64, "48ff29", "jmp far tbyte ptr [rcx]"},
	{DECODE_64, "c8100002", "enter 0x10, 0x2"},
	{DECODE_64, "6668ff7f", "push 0x7fff"},
	{DECODE_64, "f348a5", "rep movsq"},
	{DECODE_64, "f2a6", "repne cmpsb"},
	{DECODE_64, "f00108", "lock add dword ptr [rax], ecx"},
	{DECODE_64, "f001c8", "(bad)"},
	{DECODE_64, "f08908", "(bad)"},
	{DECODE_64, "f00fc70f", "lock cmpxchg8b qword ptr [rdi]"},
	{DECODE_64, "480fc70f", "cmpxchg16b xmmword ptr [rdi]"},
	{DECODE_64, "f20f38f0c1", "crc32 eax, cl"},
	{DECODE_64, "66f20f38f1c1", "crc32 eax, cx"},
	{DECODE_64, "660f38f100", "movbe word ptr [rax], ax"},
	{DECODE_64, "0f38f1c0", "(bad)"},
	{DECODE_64, "f30fbcc1", "tzcnt eax, ecx"},
	{DECODE_64, "0fbcc1", "bsf eax, ecx"},
	{DECODE_64, "0f22c0", "mov cr0, rax"},
	{DECODE_64, "0f2200", "mov cr0, rax"},
	{DECODE_64, "440f20c0", "mov rax, cr8"},
	{DECODE_64, "0f20c8", "(bad)"},
	{DECODE_64, "8ec8", "(bad)"},
	{DECODE_64, "8ed8", "mov ds, eax"},
	{DECODE_64, "0f1f440000", "nop [rax+rax]"},
	{DECODE_64, "0f58c1", "addps xmm0, xmm1"},
	{DECODE_64, "660f58c1", "addpd xmm0, xmm1"},
	{DECODE_64, "66f30f58c1", "addss xmm0, xmm1"},
	{DECODE_64, "f2f30f58c1", "addss xmm0, xmm1"},
	{DECODE_64, "f20f5800", "addsd xmm0, qword ptr [rax]"},
	{DECODE_64, "660fefc9", "pxor xmm1, xmm1"},
	{DECODE_64, "0fefc9", "pxor mm1, mm1"},
	{DECODE_64, "f30fefc9", "(bad)"},
	{DECODE_64, "66480f6ec8", "movq xmm1, rax"},
	{DECODE_32, "660f6ec8", "movd xmm1, eax"},
	{DECODE_64, "c5f877", "vzeroupper"},
	{DECODE_64, "c5fc77", "vzeroall"},
	{DECODE_64, "c5f477", "(bad)"},
	{DECODE_64, "c5f458c2", "vaddps ymm0, ymm1, ymm2"},
	{DECODE_64, "66c5f458c2", "(bad)"},
	{DECODE_64, "40c5f458c2", "(bad)"},
	{DECODE_64, "c4e27118c1", "(bad)"},
	{DECODE_64, "c4e27918c1", "vbroadcastss xmm0, xmm1"},
	{DECODE_64, "c4e3714ac230", "vblendvps xmm0, xmm1, xmm2, xmm3"},
	{DECODE_64, "c4e2f1900411",
	 "vpgatherdq xmm0, qword ptr [rcx+xmm2], xmm1"},
	{DECODE_64, "c4e2f1900401", "(bad)"},
	{DECODE_64, "c4e2f0f2c2", "andn rax, rcx, rdx"},
	{DECODE_32, "c4e2f0f2c2", "andn eax, ecx, edx"},
	{DECODE_32, "c501", "lds eax, fword ptr [ecx]"},
	{DECODE_64, "c501", ""},
	{DECODE_32, "62057f000000", "bound eax, qword ptr [0x7f]"},
	{DECODE_64, "62f17c4858c1", "(bad)"},
	{DECODE_64, "d9c1", "fld st(1)"},
	{DECODE_64, "d9d0", "fnop"},
	{DECODE_64, "d9d1", "(bad)"},
	{DECODE_64, "db28", "fld tbyte ptr [rax]"},
	{DECODE_64, "dfe0", "fnstsw ax"},
	{DECODE_64, "0f0b", "ud2"},
	{DECODE_64, "27", "(bad)"},
	{DECODE_32, "27", "daa"},
	{DECODE_64, "0f0fc19e", "(bad)"},
	{DECODE_64, "660fc711", "(bad)"},
};

static size_t from_hex(const char *hex, u8 *out)
{
	size_t n = strlen(hex) / 2;
	unsigned b;

	for (size_t k = 0; k < n; k++) {
		assert_int_equal(sscanf(hex + 2 * k, "%2x", &b), 1);
		out[k] = (u8)b;
	}
	return n;
}

static void test_cases(void **state)
{
	u8 bytes[16];
	char text[128];
	struct insn i;
	enum decode_result r;

	(void)state;
	for (size_t k = 0; k < ARRAY_LEN(cases); k++) {
		size_t n = from_hex(cases[k].hex, bytes);

		if (strchr(cases[k].text, '('))
			text[0] = 0;
		r = insn_decode(&i, bytes, n, cases[k].mode);
		if (!cases[k].text[0]) {
			assert_int_equal(r, DECODE_MORE);
			continue;
		}
		assert_int_equal(r, DECODE_OK);
		insn_format(&i, cases[k].mode == DECODE_64 ? 0x401000 : 0x1000,
			    text, sizeof(text));
		if (strcmp(text, cases[k].text))
			print_message("%s\n", cases[k].hex);
		assert_string_equal(text, cases[k].text);
		if (i.op != OP_INVALID)
			assert_int_equal(i.len, n);
	}
}

/* Rows of one opcode follow each other, or op_find() would miss some. */
static void test_rows_adjacent(void **state)
{
	(void)state;
	for (unsigned r = 1; r < op_row_count; r++) {
		const struct op_row *o = &op_rows[r];

		for (unsigned k = 0; k < o->span; k++) {
			unsigned last = op_last[o->map][o->opcode + k];

			assert_true(last >= r);
			for (unsigned q = r; q <= last; q++) {
				const struct op_row *p = &op_rows[q];

				assert_int_equal(p->map, o->map);
				assert_true(o->opcode + k - p->opcode <
					    p->span);
			}
		}
	}
}

/* Facts about a row that must go together. */
static void test_rows_consistent(void **state)
{
	(void)state;
	for (unsigned r = 1; r < op_row_count; r++) {
		const struct op_row *o = &op_rows[r];
		bool vex = o->map >= MAP_V0F && o->map <= MAP_V3A;

		assert_int_equal(o->flags_undef & ~o->flags_written, 0);
		assert_true(!(o->attr & OPA_LOCK) ||
			    (o->attr & OPA_LOAD && o->attr & OPA_STORE));
		assert_true(!(o->attr & OPA_NO64 && o->attr & OPA_ONLY64));
		assert_true(o->form != FORM_SIMD || o->attr & OPA_SIMD);
		assert_true(o->form != FORM_X87 || o->attr & OPA_X87);
		assert_true(!(o->attr & OPA_AVX) || vex);
	}
}

static u64 rnd(u64 *s)
{
	*s ^= *s << 13;
	*s ^= *s >> 7;
	*s ^= *s << 17;
	return *s;
}

/* Random bytes, with prefixes and opcode maps more often than by chance. */
static void random_insn(u64 *s, u8 b[15], enum decode_mode mode)
{
	static const u8 prefixes[] = {0x66, 0x66, 0xf2, 0xf3, 0xf3, 0xf0, 0x67,
				      0x2e, 0x64, 0x65, 0x36, 0x3e, 0x26};
	unsigned n = (unsigned[]){0, 0, 0, 0, 1, 1, 2, 3}[rnd(s) % 8];
	unsigned p = 0;

	for (unsigned k = 0; k < 15; k++)
		b[k] = (u8)rnd(s);
	while (n--)
		b[p++] = prefixes[rnd(s) % sizeof(prefixes)];
	if (rnd(s) % 3 == 0)
		b[p++] = 0x40 | (rnd(s) & 15);
	switch (rnd(s) % 8) {
	case 2:
	case 3: b[p] = 0x0f; break;
	case 4:
	case 5:
		b[p++] = 0x0f;
		b[p] = rnd(s) & 1 ? 0x38 : 0x3a;
		break;
	case 6:
		b[p++] = 0xc5;
		b[p] |= rnd(s) & 1 ? 0xf8 : 0x80;
		break;
	case 7:
		b[p++] = 0xc4;
		b[p] = (b[p] & 0xe0) | (1 + rnd(s) % 3) |
		       (mode == DECODE_64 ? 0 : 0xc0);
		b[p + 1] |= rnd(s) & 1 ? 0x78 : 0;
		break;
	}
}

static u64 test_seed(void)
{
	const char *e = getenv("SEED");

	return e ? strtoull(e, NULL, 0) : 0x9e3779b97f4a7c15;
}

/* Every prefix of an instruction wants more; never a byte past n is read. */
static void test_truncated(void **state)
{
	u64 s = test_seed();
	u8 bytes[15];
	struct insn i, j;

	(void)state;
	for (unsigned t = 0; t < 200000; t++) {
		enum decode_mode mode = rnd(&s) % 3;

		random_insn(&s, bytes, mode);
		if (insn_decode(&i, bytes, 15, mode) != DECODE_OK ||
		    i.op == OP_INVALID)
			continue;
		for (unsigned n = 0; n < i.len; n++)
			assert_int_equal(insn_decode(&j, bytes, n, mode),
					 DECODE_MORE);
		memset(bytes + i.len, 0xcc, 15u - i.len);
		assert_int_equal(insn_decode(&j, bytes, i.len, mode),
				 DECODE_OK);
		assert_memory_equal(&i, &j, sizeof(i));
	}
}

static void test_too_long(void **state)
{
	u8 bytes[20];
	struct insn i;

	(void)state;
	memset(bytes, 0x66, sizeof(bytes));
	assert_int_equal(insn_decode(&i, bytes, 20, DECODE_64),
			 DECODE_TOO_LONG);
	assert_int_equal(insn_decode(&i, bytes, 14, DECODE_64), DECODE_MORE);
	bytes[14] = 0x90;
	assert_int_equal(insn_decode(&i, bytes, 15, DECODE_64), DECODE_OK);
	assert_int_equal(i.len, 15);
	bytes[14] = 0x66;
	bytes[15] = 0x90;
	assert_int_equal(insn_decode(&i, bytes, 20, DECODE_64),
			 DECODE_TOO_LONG);
}

static void test_format_bounded(void **state)
{
	u64 s = test_seed();
	u8 bytes[15];
	char text[64];
	struct insn i;

	(void)state;
	for (unsigned t = 0; t < 200000; t++) {
		size_t room = rnd(&s) % sizeof(text);
		enum decode_mode mode = rnd(&s) % 3;

		random_insn(&s, bytes, mode);
		if (insn_decode(&i, bytes, 15, mode) != DECODE_OK)
			continue;
		memset(text, 1, sizeof(text));
		insn_format(&i, 0, text, room);
		assert_true(!room || memchr(text, 0, room));
		for (size_t k = room; k < sizeof(text); k++)
			assert_int_equal(text[k], 1);
	}
}

#if HAVE_ZYDIS

/* What Zydis knows and the guest's CPU does not announce: #UD for us. */
static bool zydis_foreign(const ZydisDecodedInstruction *z)
{
	static const char *const ext[] = {
		"AMD3DNOW", "FMA4",     "KEYLOCKER",   "KNC",        "KNCV",
		"VTX",      "SVM",      "VTX",         "ENQCMD",     "SSE4A",
		"AVX512",   "SMX",      "CET",         "VPCLMULQDQ", "GFNI",
		"MOVDIR",   "AVX_VNNI", "XOP",         "VAES",       "MONITORX",
		"PT",       "SGX",      "WAITPKG",     "RDPRU",      "RTM",
		"UINTR",    "PKU",      "PADLOCK",     "PCONFIG",    "AMX_",
		"TDX",      "SNP",      "AMD_INVLPGB", "TSX_LDTRK",  "TBM",
		"LWP",      "CLZERO",   "HRESET",      "SERIALIZE"};
	const char *name = ZydisISAExtGetString(z->meta.isa_ext);

	if (z->encoding == ZYDIS_INSTRUCTION_ENCODING_EVEX ||
	    z->encoding == ZYDIS_INSTRUCTION_ENCODING_MVEX)
		return true;
	if (z->mnemonic == ZYDIS_MNEMONIC_VMCALL ||
	    z->mnemonic == ZYDIS_MNEMONIC_VMMCALL)
		return false;
	for (size_t k = 0; k < ARRAY_LEN(ext); k++)
		if (!strncmp(name, ext[k], strlen(ext[k])))
			return z->encoding !=
				       ZYDIS_INSTRUCTION_ENCODING_LEGACY ||
			       z->meta.category != ZYDIS_CATEGORY_PREFETCH;
	/* SYSCALL and SYSRET outside 64-bit mode are AMD's. */
	return z->meta.isa_set == ZYDIS_ISA_SET_AMD;
}

/* The mnemonic in Zydis's spelling. */
static void zydis_name(const struct insn *i, char *buf, size_t size)
{
	static const char *const alias[][2] = {
		{"fneni", "feni8087_nop"},    {"fndisi", "fdisi8087_nop"},
		{"fnsetpm", "fsetpm287_nop"}, {"endbr64", "nop"},
		{"endbr32", "nop"},
	};
	char *p, *end;

	insn_format(i, 0, buf, size);
	p = buf;
	while (!strncmp(p, "lock ", 5) || !strncmp(p, "rep", 3))
		p = strchr(p, ' ') + 1;
	end = strchr(p, ' ');
	if (end)
		*end = 0;
	memmove(buf, p, strlen(p) + 1);
	for (size_t k = 0; k < ARRAY_LEN(alias); k++)
		if (!strcmp(buf, alias[k][0]))
			strcpy(buf, alias[k][1]);
}

static bool zydis_same_name(const struct insn *i,
			    const ZydisDecodedInstruction *z)
{
	const char *want = ZydisMnemonicGetString(z->mnemonic);
	char have[128];

	/* Prefetches of no effect we call NOP. */
	if (i->op == OP_NOP && !strncmp(want, "prefetch", 8))
		return true;
	zydis_name(i, have, sizeof(have));
	if (!strcmp(have, want))
		return true;
	print_message("we say %s, Zydis %s\n", have, want);
	return false;
}

static unsigned zydis_reg(ZydisRegister r)
{
	if (r == ZYDIS_REGISTER_NONE)
		return INSN_REG_NONE;
	if (r == ZYDIS_REGISTER_RIP || r == ZYDIS_REGISTER_EIP)
		return INSN_REG_RIP;
	return (unsigned)ZydisRegisterGetId(r);
}

/* Sizes where Zydis has another opinion: LEA, hints, areas, cache lines. */
static bool zydis_memsize(const struct insn *i, const ZydisDecodedOperand *m)
{
	/* MOVSXD of 16 bits: the CPU reads no more. */
	return i->memsize == 0 || op_rows[i->row].mem == MS_1 ||
	       op_rows[i->row].mem == MS_Z || m->size / 8 == i->memsize;
}

static bool zydis_same_access(const struct insn *i,
			      const ZydisDecodedOperand *m)
{
	u32 attr = op_rows[i->row].attr;
	bool load = m->actions & ZYDIS_OPERAND_ACTION_MASK_READ;
	bool store = m->actions & ZYDIS_OPERAND_ACTION_MASK_WRITE;

	return i->memsize == 0 ||
	       (load == !!(attr & OPA_LOAD) && store == !!(attr & OPA_STORE));
}

static bool zydis_same_mem(const struct insn *i, const ZydisDecodedOperand *m)
{
	static const ZydisRegister seg[] = {
		ZYDIS_REGISTER_ES, ZYDIS_REGISTER_CS, ZYDIS_REGISTER_SS,
		ZYDIS_REGISTER_DS, ZYDIS_REGISTER_FS, ZYDIS_REGISTER_GS};
	s64 disp = m->mem.disp.has_displacement ? m->mem.disp.value : 0;

	if (i->op != OP_LEA && m->mem.segment != seg[i->seg])
		return false;
	if (i->form == FORM_MOFFS)
		return !((i->imm ^ (u64)disp) << (64 - 8 * i->adsize));
	return zydis_reg(m->mem.base) == i->base &&
	       zydis_reg(m->mem.index) == i->index &&
	       (i->index == INSN_REG_NONE ||
		MAX(m->mem.scale, 1) == 1 << i->scale) &&
	       disp == i->disp && zydis_memsize(i, m) &&
	       zydis_same_access(i, m);
}

/* The explicit memory operand, if there is one, is the same. */
static bool zydis_same_operands(const struct insn *i,
				const ZydisDecodedInstruction *z,
				const ZydisDecodedOperand *o)
{
	if (op_rows[i->row].attr & OPA_STRING || i->op == OP_XLAT)
		return true;
	for (unsigned k = 0; k < z->operand_count; k++) {
		if (o[k].type != ZYDIS_OPERAND_TYPE_MEMORY ||
		    o[k].visibility != ZYDIS_OPERAND_VISIBILITY_EXPLICIT)
			continue;
		return (i->mem || i->form == FORM_MOFFS) &&
		       zydis_same_mem(i, &o[k]);
	}
	return !i->mem && i->form != FORM_MOFFS;
}

static bool zydis_agrees(const ZydisDecoder *d, const u8 *bytes,
			 enum decode_mode mode)
{
	ZydisDecodedInstruction z;
	ZydisDecodedOperand o[ZYDIS_MAX_OPERAND_COUNT];
	struct insn i;
	bool theirs = ZYAN_SUCCESS(ZydisDecoderDecodeFull(d, bytes, 15, &z, o));
	bool ours = insn_decode(&i, bytes, 15, mode) == DECODE_OK &&
		    i.op != OP_INVALID;

	if (theirs && zydis_foreign(&z))
		return !ours;
	if (ours != theirs)
		return false;
	return !ours ||
	       (i.len == z.length && i.adsize == z.address_width / 8 &&
		zydis_same_name(&i, &z) && zydis_same_operands(&i, &z, o));
}

static void zydis_init(ZydisDecoder d[3])
{
	static const ZydisMachineMode modes[] = {ZYDIS_MACHINE_MODE_LEGACY_16,
						 ZYDIS_MACHINE_MODE_LEGACY_32,
						 ZYDIS_MACHINE_MODE_LONG_64};
	static const ZydisStackWidth widths[] = {ZYDIS_STACK_WIDTH_16,
						 ZYDIS_STACK_WIDTH_32,
						 ZYDIS_STACK_WIDTH_64};
	static const ZydisDecoderMode off[] = {
		ZYDIS_DECODER_MODE_MPX,          ZYDIS_DECODER_MODE_CET,
		ZYDIS_DECODER_MODE_CLDEMOTE,     ZYDIS_DECODER_MODE_WBNOINVD,
		ZYDIS_DECODER_MODE_AMD_BRANCHES, ZYDIS_DECODER_MODE_KNC};

	for (unsigned m = 0; m < 3; m++) {
		ZydisDecoderInit(&d[m], modes[m], widths[m]);
		for (size_t k = 0; k < ARRAY_LEN(off); k++)
			ZydisDecoderEnableMode(&d[m], off[k], ZYAN_FALSE);
	}
}

static void test_zydis(void **state)
{
	ZydisDecoder d[3];
	u64 s = test_seed();
	unsigned bad = 0;
	u8 b[15];

	(void)state;
	zydis_init(d);
	for (unsigned t = 0; t < 3000000; t++) {
		enum decode_mode mode = rnd(&s) % 3;

		random_insn(&s, b, mode);
		if (zydis_agrees(&d[mode], b, mode))
			continue;
		print_message("mode %u:", mode);
		for (unsigned k = 0; k < 15; k++)
			print_message(" %02x", b[k]);
		print_message("\n");
		if (++bad == 20)
			break;
	}
	assert_int_equal(bad, 0);
}

#else

static void test_zydis(void **state)
{
	(void)state;
	print_message("skip: Zydis is not installed\n");
	skip();
}

#endif

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_cases),
		cmocka_unit_test(test_rows_adjacent),
		cmocka_unit_test(test_rows_consistent),
		cmocka_unit_test(test_truncated),
		cmocka_unit_test(test_too_long),
		cmocka_unit_test(test_format_bounded),
		cmocka_unit_test(test_zydis),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
