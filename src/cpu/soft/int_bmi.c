/* SPDX-License-Identifier: BSD-2-Clause */
/* BMI1, BMI2 and ADX, run on the host: sizes 4 and 8. */
#include "cpu/soft/flags.h"
#include "cpu/soft/int.h"
#include "cpu/soft/int_bind.h"

/* "op a, b, result", in the assembler's order; with or without flags */
#define BMI_FLAGS(op, k)                                \
	asm(op " %" k "2, %" k "3, %" k "0\n\t" FL_SAVE \
	    : "=&r"(r), "=&a"(fl)                       \
	    : "r"(a), "r"(b)                            \
	    : "cc");                                    \
	v->fl = fl
#define BMI_PLAIN(op, k) \
	(void)fl;        \
	asm(op " %" k "1, %" k "2, %" k "0" : "=r"(r) : "r"(a), "r"(b))

#define BMI_3(name, op, DO, first, second)                          \
	static HANDLER(name##4)                                     \
	{                                                           \
		u64 rm = int_get_rm(v, i, 4), vr = v->gpr[i->vreg]; \
		u64 a = first, b = second, r;                       \
		u16 fl;                                             \
		DO(op, "k");                                        \
		reg_set(v, i->reg, 4, r);                           \
		NEXT();                                             \
	}                                                           \
	static HANDLER(name##8)                                     \
	{                                                           \
		u64 rm = int_get_rm(v, i, 8), vr = v->gpr[i->vreg]; \
		u64 a = first, b = second, r;                       \
		u16 fl;                                             \
		DO(op, "q");                                        \
		reg_set(v, i->reg, 8, r);                           \
		NEXT();                                             \
	}

BMI_3(andn, "andn", BMI_FLAGS, rm, vr)
BMI_3(pext, "pext", BMI_PLAIN, rm, vr)
BMI_3(pdep, "pdep", BMI_PLAIN, rm, vr)
BMI_3(bzhi, "bzhi", BMI_FLAGS, vr, rm)
BMI_3(bextr, "bextr", BMI_FLAGS, vr, rm)
BMI_3(shlx, "shlx", BMI_PLAIN, vr, rm)
BMI_3(sarx, "sarx", BMI_PLAIN, vr, rm)
BMI_3(shrx, "shrx", BMI_PLAIN, vr, rm)

#define BMI_2(name, op, size, k)                       \
	static HANDLER(name##size)                     \
	{                                              \
		u64 a = int_get_rm(v, i, size), r;     \
		u16 fl;                                \
		asm(op " %" k "2, %" k "0\n\t" FL_SAVE \
		    : "=&r"(r), "=&a"(fl)              \
		    : "r"(a)                           \
		    : "cc");                           \
		v->fl = fl;                            \
		reg_set(v, i->vreg, size, r);          \
		NEXT();                                \
	}

BMI_2(blsr, "blsr", 4, "k")
BMI_2(blsr, "blsr", 8, "q")
BMI_2(blsmsk, "blsmsk", 4, "k")
BMI_2(blsmsk, "blsmsk", 8, "q")
BMI_2(blsi, "blsi", 4, "k")
BMI_2(blsi, "blsi", 8, "q")

/* ADCX, ADOX: reg += r/m + CF or OF, and no other flag. */
#define ADX(name, op, size, k)                                    \
	static HANDLER(name##size)                                \
	{                                                         \
		u64 a = int_get_rm(v, i, size);                   \
		u64 r = reg_get(v, i->reg, size);                 \
		u16 fl = v->fl;                                   \
		asm(FL_RESTORE op " %" k "2, %" k "0\n\t" FL_SAVE \
		    : "+&r"(r), "+&a"(fl)                         \
		    : "r"(a)                                      \
		    : "cc");                                      \
		v->fl = fl;                                       \
		reg_set(v, i->reg, size, r);                      \
		NEXT();                                           \
	}

ADX(adcx, "adcx", 4, "k")
ADX(adcx, "adcx", 8, "q")
ADX(adox, "adox", 4, "k")
ADX(adox, "adox", 8, "q")

static HANDLER(rorx4)
{
	u32 a = (u32)int_get_rm(v, i, 4);
	unsigned n = i->imm & 31;

	reg_set(v, i->reg, 4, a >> n | a << (-n & 31));
	NEXT();
}

static HANDLER(rorx8)
{
	u64 a = int_get_rm(v, i, 8);
	unsigned n = i->imm & 63;

	reg_set(v, i->reg, 8, a >> n | a << (-n & 63));
	NEXT();
}

/* The high half wins if both destinations are one register. */
static HANDLER(mulx4)
{
	u64 r = (u64)(u32)v->gpr[REG_DX] * (u32)int_get_rm(v, i, 4);

	reg_set(v, i->vreg, 4, r);
	reg_set(v, i->reg, 4, r >> 32);
	NEXT();
}

static HANDLER(mulx8)
{
	unsigned __int128 r = v->gpr[REG_DX];

	r *= int_get_rm(v, i, 8);
	reg_set(v, i->vreg, 8, (u64)r);
	reg_set(v, i->reg, 8, (u64)(r >> 64));
	NEXT();
}

#define BMI_PICK(name) (i->opsize == 8 ? name##8 : name##4)

insn_fn *int_bind_bmi(const struct insn *i)
{
	switch (i->op) {
	case OP_ANDN: return BMI_PICK(andn);
	case OP_PEXT: return BMI_PICK(pext);
	case OP_PDEP: return BMI_PICK(pdep);
	case OP_BZHI: return BMI_PICK(bzhi);
	case OP_BEXTR: return BMI_PICK(bextr);
	case OP_SHLX: return BMI_PICK(shlx);
	case OP_SARX: return BMI_PICK(sarx);
	case OP_SHRX: return BMI_PICK(shrx);
	case OP_BLSR: return BMI_PICK(blsr);
	case OP_BLSMSK: return BMI_PICK(blsmsk);
	case OP_BLSI: return BMI_PICK(blsi);
	case OP_ADCX: return BMI_PICK(adcx);
	case OP_ADOX: return BMI_PICK(adox);
	case OP_RORX: return BMI_PICK(rorx);
	case OP_MULX: return BMI_PICK(mulx);
	default: return NULL;
	}
}
