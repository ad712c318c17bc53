/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * How: a fast pass looks at each byte for the opcode of a sensitive
 * instruction (candidates, most of them the insides of others). For each
 * candidate it is decided whether an instruction begins there by decoding from
 * all of 15 neighbouring places well before it, and from each place where
 * compilers put functions and loops (multiples of 16) in between. Decoding
 * from a wrong place falls into step with the right one after a few
 * instructions, so nearly always all agree; where they do not, the candidate
 * counts.
 *
 * What is not here because it traps, or is harmless:
 * - Privileged instructions, IN, OUT, STI, CLI (IOPL 0), HLT, RDPMC, INT n
 *   (but INT 4), INT3, INT1, UD2: they stop the child. SYSCALL and INT 0x80 do
 *   by ptrace.
 * - PUSHF, POPF: with IOPL 0 and IF set the guest sees and changes at CPL 3
 *   the bits that it would; TF makes the host trap after the next instruction.
 * - MOV from a segment register, PUSH FS: the selectors are equal.
 * - MOV and POP to one, far transfers: whoever runs code directly looks at the
 *   selectors when it stops.
 * - SLDT, STR: the same in every Linux, and only such guests run directly.
 * - RDTSC, RDTSCP: the child has PR_SET_TSC, with which they fault.
 * - XBEGIN and its like: they do what they do, announced or not, and stand
 *   among the C library's string functions.
 * - AVX-512, which stands there too: nobody runs it whom CPUID did not tell to.
 *   Whoever runs code directly sees when it has been.
 * - RDFSBASE and its like: the bases are the guest's while its code runs.
 * - RDRAND and other features of the model: the guest has all that the host
 *   has. AMX and CET stay off in a process that did not ask for them.
 * - The vsyscall page is not the guest's memory, and the child has none.
 */
#include "cpu/direct/scan.h"

#include <pthread.h>
#include <string.h>

#include "cpu/x86/optable.h"

/* Sensitive instructions of the opcode table. */
static const struct scan_op {
	u16 op; /* enum x86_op */
	const char *why;
} scan_ops[] = {
	{OP_CPUID, "CPUID tells of the host's features"},
	{OP_RDPID, "RDPID tells the host's CPU"},
	{OP_XGETBV, "XGETBV tells the host's vector state"},
	{OP_LSL, "LSL reads the host's descriptors"},
	{OP_LAR, "LAR reads the host's descriptors"},
	{OP_VERR, "VERR reads the host's descriptors"},
	{OP_VERW, "VERW reads the host's descriptors"},
	{OP_SGDT, "SGDT tells the host's table, or what its kernel makes up"},
	{OP_SIDT, "SIDT tells the host's table, or what its kernel makes up"},
	{OP_SMSW, "SMSW tells the host's CR0"},
	{OP_XSAVE, "XSAVE writes components that the guest has not"},
	{OP_XSAVEC, "XSAVEC writes components that the guest has not"},
	{OP_XSAVEOPT, "XSAVEOPT writes components that the guest has not"},
	{OP_XRSTOR, "XRSTOR loads components that the guest has not"},
	{OP_SYSENTER, "SYSENTER loses RSP and RIP in the host's kernel"},
	{OP_VMCALL, "VMCALL asks the host's hypervisor"},
	{OP_VMMCALL, "VMMCALL asks the host's hypervisor"},
	{OP_LSS, "LSS uses the host's GDT"},
	{OP_LFS, "LFS uses the host's GDT"},
	{OP_LGS, "LGS uses the host's GDT"},
	{OP_INT, "INT 4 stops behind it, as a fault of what follows would"},
};

#define ANY 0xff

/*
 * Instructions beyond the CPU model, undefined ones to the guest, that hosts
 * have and that work there without anybody's leave. reg, mem: digits of
 * ModRM.reg, a bit each, with a register operand and with memory.
 */
static const struct scan_absent {
	u8 map; /* enum op_map */
	u8 first, last;
	u8 reg, mem;
	const char *why; /* their names */
} scan_absents[] = {
	{MAP_0F, 0x01, 0x01, 0xa0, 0, "SERIALIZE, RDPKRU, MONITORX"},
	{MAP_0F, 0xae, 0xae, 0x50, 0x10, "UMONITOR, TPAUSE, PTWRITE"},
	{MAP_38, 0xcf, 0xcf, ANY, ANY, "GFNI"},
	{MAP_38, 0xf8, 0xf9, ANY, ANY, "MOVDIRI, MOVDIR64B"},
	{MAP_3A, 0xce, 0xcf, ANY, ANY, "GFNI"},
	{MAP_V38, 0x50, 0x53, ANY, ANY, "AVX-VNNI"},
	{MAP_V38, 0x72, 0x72, ANY, ANY, "AVX-NE-CONVERT"},
	{MAP_V38, 0xb0, 0xb5, ANY, ANY, "AVX-NE-CONVERT, AVX-IFMA"},
	{MAP_V38, 0xcb, 0xcf, ANY, ANY, "SHA512, GFNI"},
	{MAP_V38, 0xd2, 0xd3, ANY, ANY, "AVX-VNNI"},
	{MAP_V38, 0xda, 0xda, ANY, ANY, "SM3, SM4"},
	{MAP_V38, 0xdc, 0xdf, ANY, ANY, "VAES"},
	{MAP_V38, 0xe0, 0xef, 0, ANY, "CMPccXADD"},
	{MAP_V3A, 0x44, 0x44, ANY, ANY, "VPCLMULQDQ"},
	{MAP_V3A, 0xce, 0xcf, ANY, ANY, "GFNI"},
	{MAP_V3A, 0xde, 0xde, ANY, ANY, "SM3"},
};

/* Bytes of an instruction at most, and so the places where one can start. */
#define SCAN_INSN DIRECT_SCAN_AFTER
/* What is looked at of the page before: enough to fall into step. */
#define SCAN_BEFORE DIRECT_SCAN_BEFORE
/* Where compilers put functions. */
#define SCAN_ALIGN 16

/* Opcodes by map; in each a bit for ModRM.reg, + 8 with a register operand. */
struct scan_opcodes {
	u16 digits[MAPS][256];
};

/* Made from the tables above and the opcode table, once. */
static pthread_once_t scan_once = PTHREAD_ONCE_INIT;
static struct scan_opcodes scan_wanted, scan_beyond;
static const char *scan_why[X86_OPS]; /* NULL: not sensitive */
/* First byte | second << 8: a bit where the fast pass looks closer. */
static u8 scan_pairs[65536 / 8];

/* A page with what is known around it, and of the instructions there. */
struct scan {
	bool cpuid_faults;
	int first, end; /* of what is known, in places of code[] */
	/* The page begins at SCAN_BEFORE; zeros beyond what is known, enough
	 * to decode at the last place and to look at what follows an opcode */
	u8 code[SCAN_BEFORE + PAGE_SIZE + 2 * SCAN_INSN];
	/* Length of the instruction that begins there, | SCAN_SENSITIVE; 0: not
	 * decoded yet */
	u8 insn[SCAN_BEFORE + PAGE_SIZE];
	/* The last candidate for which decoding came by there */
	u16 seen[SCAN_BEFORE + PAGE_SIZE];
};

#define SCAN_SENSITIVE 0x80

static u16 scan_digits(const struct op_row *o)
{
	u16 digits = 0;

	for (unsigned k = 0; k < 16; k++) {
		u32 key = (k & 7) << KEY_DIGIT_BIT | (k & 8 ? KEY_REG : 0);
		u32 known = (7 << KEY_DIGIT_BIT | KEY_REG) & o->sel >> 16;

		if (!((key ^ o->sel) & known))
			digits |= BIT(k);
	}
	return digits;
}

static void scan_want_rows(const struct scan_op *s)
{
	for (unsigned r = 1; r < op_row_count; r++) {
		const struct op_row *o = &op_rows[r];

		if (o->op == s->op && !(o->attr & OPA_NO64))
			scan_wanted.digits[o->map][o->opcode] |= scan_digits(o);
	}
}

static void scan_want_absent(const struct scan_absent *a)
{
	for (unsigned op = a->first; op <= a->last; op++) {
		u16 digits = a->mem | a->reg << 8;

		scan_beyond.digits[a->map][op] |= digits;
		scan_wanted.digits[a->map][op] |= digits;
	}
}

static bool scan_has(const struct scan_opcodes *t, enum op_map map, u8 opcode,
		     u8 modrm)
{
	unsigned digit = (modrm >> 3 & 7) | (modrm >= 0xc0 ? 8 : 0);

	return t->digits[map][opcode] >> digit & 1;
}

/* Whether an instruction of scan_wanted can begin with these two bytes. */
static bool scan_pair(u8 b0, u8 b1)
{
	switch (b0) {
	case 0x0f:
		return b1 == 0x38 || b1 == 0x3a ||
		       scan_wanted.digits[MAP_0F][b1];
	case 0xc4:
	case 0xc5: return true;
	case 0xcd: return b1 == 4;
	default: return scan_has(&scan_wanted, MAP_1B, b0, b1);
	}
}

static void scan_prepare(void)
{
	for (unsigned k = 0; k < ARRAY_LEN(scan_ops); k++) {
		scan_why[scan_ops[k].op] = scan_ops[k].why;
		scan_want_rows(&scan_ops[k]);
	}
	for (unsigned k = 0; k < ARRAY_LEN(scan_absents); k++)
		scan_want_absent(&scan_absents[k]);
	for (unsigned pair = 0; pair < 65536; pair++) {
		if (scan_pair(pair & 0xff, pair >> 8))
			scan_pairs[pair / 8] |= BIT(pair % 8);
	}
}

/* The map and, at *opcode, the place of the opcode of what begins at p, after
 * its prefixes; MAPS if it is undefined. */
static enum op_map scan_map(const u8 *p, int *opcode)
{
	static const u8 vex[4] = {MAPS, MAP_V0F, MAP_V38, MAP_V3A};

	*opcode = 0;
	switch (p[0]) {
	case 0x0f:
		*opcode = p[1] == 0x38 || p[1] == 0x3a ? 2 : 1;
		return p[1] == 0x38 ? MAP_38 : p[1] == 0x3a ? MAP_3A : MAP_0F;
	case 0xc5: *opcode = 2; return MAP_V0F;
	case 0xc4: *opcode = 3; return p[1] & 0x1c ? MAPS : vex[p[1] & 3];
	default: return MAP_1B;
	}
}

/* Whether the bytes at p, of which n are known, can be an instruction of t. */
static bool scan_looks(const struct scan_opcodes *t, const u8 *p, int n)
{
	int at;
	enum op_map map = scan_map(p, &at);

	if (n <= at)
		return true;
	if (map == MAPS)
		return false;
	if (n == at + 1)
		return t->digits[map][p[at]];
	return scan_has(t, map, p[at], p[at + 1]);
}

/* Where the decoded instruction at p begins if prefixes do not count. */
static const u8 *scan_unprefixed(const u8 *p, const struct insn *i)
{
	const u8 *opcode = p + i->opc_off;

	if (i->prefix & PFX_VEX) {
		while (*p != 0xc4 && *p != 0xc5)
			p++;
		return p;
	}
	if (i->opc_off >= 2 && opcode[-2] == 0x0f)
		return opcode - 2;
	if (i->opc_off >= 1 && opcode[-1] == 0x0f)
		return opcode - 1;
	return opcode;
}

/* ModRM and what belongs to it, in bytes. */
static int scan_modrm_length(const u8 *p)
{
	unsigned mod = p[0] >> 6, rm = p[0] & 7;
	bool sib = mod != 3 && rm == 4;
	unsigned base = sib ? p[1] & 7 : rm;
	int disp = mod == 1 ? 1 : mod == 2 || (!mod && base == 5) ? 4 : 0;

	return 1 + sib + disp;
}

/* Whether AVX-512's instruction has an immediate byte: those of the third map,
 * and in the first one shuffles and shifts, compares, inserts. */
static bool scan_has_imm(unsigned map, u8 op)
{
	return map == 3 ||
	       (map == 1 && ((op >= 0x70 && op <= 0x73) || op == 0xc2 ||
			     (op >= 0xc4 && op <= 0xc6)));
}

/* By EVEX: the two bytes after 62 have their fixed bits and a map that exists.
 * Length in bytes, or 0. */
static int scan_evex_length(const u8 *p)
{
	if (p[0] != 0x62 || p[1] & 8 || !(0x6e >> (p[1] & 7) & 1) ||
	    !(p[2] & 4))
		return 0;
	return 5 + scan_modrm_length(p + 5) + scan_has_imm(p[1] & 7, p[4]);
}

/* Of opmasks, which are VEX's. Length in bytes, or 0. */
static int scan_opmask_length(const u8 *p)
{
	int at = p[0] == 0xc4 ? 3 : p[0] == 0xc5 ? 2 : 0;
	unsigned map = at == 3 ? p[1] & 0x1f : 1;
	u8 op = p[at];

	if (!at || !((map == 1 && ((op >= 0x41 && op <= 0x4b) ||
				   (op >= 0x90 && op <= 0x99))) ||
		     (map == 3 && op >= 0x30 && op <= 0x33)))
		return 0;
	return at + 1 + scan_modrm_length(p + at + 1) + (map == 3);
}

/* Length of what the decoder does not know for it is AVX-512; or 0. */
static int scan_avx512_length(const u8 *p)
{
	int n = scan_evex_length(p);

	return n ? n : scan_opmask_length(p);
}

/* Length of the instruction at place at, | SCAN_SENSITIVE. */
static u8 scan_decode(const struct scan *s, int at)
{
	const u8 *p = s->code + at;
	struct insn i;
	const u8 *lead;
	int known, avx512 = scan_avx512_length(p);
	bool sensitive;

	if (avx512)
		return avx512;
	if (insn_decode(&i, p, SCAN_INSN, DECODE_64) != DECODE_OK)
		return 1; /* too long: #GP */
	lead = scan_unprefixed(p, &i);
	known = s->end - (int)(lead - s->code);
	if (at + i.len > s->end)
		sensitive = scan_looks(&scan_wanted, lead, known);
	else if (i.op != OP_INVALID)
		sensitive = scan_why[i.op] &&
			    !(i.op == OP_CPUID && s->cpuid_faults);
	else
		sensitive = scan_looks(&scan_beyond, lead, known);
	if (i.op == OP_INVALID && !sensitive)
		return 1;
	return i.len | (sensitive ? SCAN_SENSITIVE : 0);
}

/*
 * Decodes from at on; whether the instruction that covers place target is a
 * sensitive one. False too if another call for target has been here.
 */
static bool scan_reaches(struct scan *s, int at, int target)
{
	int len;

	for (;; at += len) {
		if (s->seen[at] == target)
			return false;
		s->seen[at] = target;
		if (!s->insn[at])
			s->insn[at] = scan_decode(s, at);
		len = s->insn[at] & ~SCAN_SENSITIVE;
		if (at + len > target)
			return s->insn[at] & SCAN_SENSITIVE;
	}
}

/* Whether the byte before at is one that stands between functions. */
static bool scan_is_gap(const struct scan *s, int at)
{
	u8 b = s->code[at - 1];

	return b == 0xc3 || b == 0xcc || b == 0x90;
}

/* Whether what stands at place target may have prefixes that are not known: it
 * is, after prefixes at most, the first of what is known. */
static bool scan_is_torn(const struct scan *s, int target)
{
	const u8 *p = s->code + s->first;
	struct insn i;

	return target - s->first < SCAN_INSN &&
	       insn_decode(&i, p, SCAN_INSN, DECODE_64) == DECODE_OK &&
	       scan_unprefixed(p, &i) == s->code + target;
}

/* Whether a sensitive instruction has its opcode at place target. */
static bool scan_decide(struct scan *s, int target)
{
	int from = MAX(s->first, target - SCAN_BEFORE);
	int until = MIN(from + SCAN_INSN, target + 1);
	int at;

	if (scan_is_torn(s, target))
		return true;
	for (at = from; at < until; at++) {
		if (scan_reaches(s, at, target))
			return true;
	}
	at = SCAN_BEFORE + ALIGN_UP(at - SCAN_BEFORE, SCAN_ALIGN);
	for (; at <= target; at += SCAN_ALIGN) {
		if (scan_is_gap(s, at) && scan_reaches(s, at, target))
			return true;
	}
	return false;
}

/* The fast pass: whether to look closer at place at. */
static bool scan_candidate(const struct scan *s, int at)
{
	const u8 *p = s->code + at;
	unsigned pair = p[0] | p[1] << 8;

	if (!(scan_pairs[pair / 8] >> pair % 8 & 1) && at + 4 < s->end)
		return false;
	return scan_looks(&scan_wanted, p, s->end - at);
}

static const char *scan_reason(const u8 *p)
{
	struct insn i;
	int opcode;
	enum op_map map = scan_map(p, &opcode);

	if (insn_decode(&i, p, SCAN_INSN, DECODE_64) == DECODE_OK &&
	    scan_why[i.op])
		return scan_why[i.op];
	for (unsigned k = 0; k < ARRAY_LEN(scan_absents); k++) {
		const struct scan_absent *a = &scan_absents[k];

		if (a->map == map && p[opcode] >= a->first &&
		    p[opcode] <= a->last)
			return a->why;
	}
	return "it may be one together with the next page";
}

static bool scan_page(const u8 *page, unsigned before, unsigned after,
		      bool cpuid_faults, struct direct_finding *f)
{
	struct scan s;

	pthread_once(&scan_once, scan_prepare);
	s.cpuid_faults = cpuid_faults;
	before = MIN(before, SCAN_BEFORE);
	after = MIN(after, SCAN_INSN);
	s.first = SCAN_BEFORE - (int)before;
	s.end = SCAN_BEFORE + (int)PAGE_SIZE + (int)after;
	memset(s.code, 0, s.first);
	memcpy(s.code + s.first, page - before, PAGE_SIZE + before + after);
	memset(s.code + s.end, 0, sizeof(s.code) - s.end);
	memset(s.insn, 0, sizeof(s.insn));
	memset(s.seen, 0, sizeof(s.seen));
	for (int at = SCAN_BEFORE; at < SCAN_BEFORE + (int)PAGE_SIZE; at++) {
		if (!scan_candidate(&s, at) || !scan_decide(&s, at))
			continue;
		f->at = at - SCAN_BEFORE;
		f->why = scan_reason(s.code + at);
		return false;
	}
	return true;
}

bool direct_scan_find(const u8 *page, unsigned before, unsigned after,
		      struct direct_finding *f)
{
	return scan_page(page, before, after, false, f);
}

bool direct_scan_but_cpuid(const u8 *page, unsigned before, unsigned after)
{
	struct direct_finding f;

	return scan_page(page, before, after, true, &f);
}

bool direct_scan(const u8 *page, unsigned before, unsigned after)
{
	struct direct_finding f;

	return scan_page(page, before, after, false, &f);
}
