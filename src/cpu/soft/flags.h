/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Arithmetic on the host's ALU with the guest's flags.
 *
 * v->fl is what LAHF and SETO leave in AX: AL = OF, AH = SF ZF 0 AF 0 PF 1 CF.
 * So undefined flags come out as the host's CPU makes them. Instructions that
 * read flags, or leave some alone, have them put back first: OF by 127 + AL,
 * the rest by SAHF. The others do not, which keeps them from waiting for the
 * instruction before.
 *
 * All are macros or always-inline with constant size, so that each use becomes
 * one host instruction.
 */
#ifndef CPU_SOFT_FLAGS_H
#define CPU_SOFT_FLAGS_H

#include "cpu/soft/soft.h"

/* Flags as bits of v->fl */
enum {
	FL_OF = BIT(0),
	FL_CF = BIT(8),
	FL_PF = BIT(10),
	FL_AF = BIT(12),
	FL_ZF = BIT(14),
	FL_SF = BIT(15),
	FL_FIXED = BIT(9),
};

#define FL_SAVE    "lahf\n\tseto %%al"
#define FL_RESTORE "addb $127, %%al\n\tsahf\n\t"

/* Result of "op src, dst" (ADD, SUB, AND, CMP, ...), all flags written. */
#define FL_BINARY(op, size, dst, src, fl)                         \
	({                                                        \
		u64 res_;                                         \
		u16 fl_;                                          \
		switch (size) {                                   \
		case 1: FL_BINARY_(op "b", u8, dst, src) break;   \
		case 2: FL_BINARY_(op "w", u16, dst, src) break;  \
		case 4: FL_BINARY_(op "l", u32, dst, src) break;  \
		default: FL_BINARY_(op "q", u64, dst, src) break; \
		}                                                 \
		(fl) = fl_;                                       \
		res_;                                             \
	})
#define FL_BINARY_(op, type, dst, src)       \
	{                                    \
		type d_ = (type)(dst);       \
		asm(op " %2, %0\n\t" FL_SAVE \
		    : "+&q"(d_), "=&a"(fl_)  \
		    : "q"((type)(src))       \
		    : "cc");                 \
		res_ = d_;                   \
	}

/* The same with the guest's flags in force before: ADC, SBB. */
#define FL_CARRY(op, size, dst, src, fl)                         \
	({                                                       \
		u64 res_;                                        \
		u16 fl_ = (fl);                                  \
		switch (size) {                                  \
		case 1: FL_CARRY_(op "b", u8, dst, src) break;   \
		case 2: FL_CARRY_(op "w", u16, dst, src) break;  \
		case 4: FL_CARRY_(op "l", u32, dst, src) break;  \
		default: FL_CARRY_(op "q", u64, dst, src) break; \
		}                                                \
		(fl) = fl_;                                      \
		res_;                                            \
	})
#define FL_CARRY_(op, type, dst, src)                   \
	{                                               \
		type d_ = (type)(dst);                  \
		asm("sahf\n\t" op " %2, %0\n\t" FL_SAVE \
		    : "+&q"(d_), "+&a"(fl_)             \
		    : "q"((type)(src))                  \
		    : "cc");                            \
		res_ = d_;                              \
	}

/* "op dst" with CF in force before: INC, DEC, NEG. */
#define FL_UNARY(op, size, dst, fl)                         \
	({                                                  \
		u64 res_;                                   \
		u16 fl_ = (fl);                             \
		switch (size) {                             \
		case 1: FL_UNARY_(op "b", u8, dst) break;   \
		case 2: FL_UNARY_(op "w", u16, dst) break;  \
		case 4: FL_UNARY_(op "l", u32, dst) break;  \
		default: FL_UNARY_(op "q", u64, dst) break; \
		}                                           \
		(fl) = fl_;                                 \
		res_;                                       \
	})
#define FL_UNARY_(op, type, dst)                    \
	{                                           \
		type d_ = (type)(dst);              \
		asm("sahf\n\t" op " %0\n\t" FL_SAVE \
		    : "+&q"(d_), "+&a"(fl_)         \
		    :                               \
		    : "cc");                        \
		res_ = d_;                          \
	}

/*
 * "op %cl, dst"; count is not 0. FL_SHIFT writes all flags (SHL, SHR, SAR),
 * FL_ROTATE has them in force before (ROL, RCL).
 */
#define FL_SHIFT(op, size, dst, count, fl) \
	FL_COUNT("=&a", "", op, size, dst, count, fl)
#define FL_ROTATE(op, size, dst, count, fl) \
	FL_COUNT("+&a", FL_RESTORE, op, size, dst, count, fl)
#define FL_COUNT(io, first, op, size, dst, count, fl)                        \
	({                                                                   \
		u64 res_;                                                    \
		u16 fl_ = (fl);                                              \
		switch (size) {                                              \
		case 1: FL_COUNT_(io, first op "b", u8, dst, count) break;   \
		case 2: FL_COUNT_(io, first op "w", u16, dst, count) break;  \
		case 4: FL_COUNT_(io, first op "l", u32, dst, count) break;  \
		default: FL_COUNT_(io, first op "q", u64, dst, count) break; \
		}                                                            \
		(fl) = fl_;                                                  \
		res_;                                                        \
	})
#define FL_COUNT_(io, op, type, dst, count)    \
	{                                      \
		type d_ = (type)(dst);         \
		asm(op " %%cl, %0\n\t" FL_SAVE \
		    : "+&q"(d_), io(fl_)       \
		    : "c"((u8)(count))         \
		    : "cc");                   \
		res_ = d_;                     \
	}

/*
 * "op src, dst" for sizes 2, 4, 8 with the destination's old value in place:
 * FL_FRESH writes all flags (IMUL, POPCNT), FL_KEEP has them in force before
 * (BT).
 */
#define FL_FRESH(op, size, dst, src, fl) \
	FL_WIDE("=&a", "", op, size, dst, src, fl)
#define FL_KEEP(op, size, dst, src, fl) \
	FL_WIDE("+&a", FL_RESTORE, op, size, dst, src, fl)
#define FL_WIDE(io, first, op, size, dst, src, fl)                        \
	({                                                                \
		u64 res_;                                                 \
		u16 fl_ = (fl);                                           \
		switch (size) {                                           \
		case 2: FL_WIDE_(io, first op "w", u16, dst, src) break;  \
		case 4: FL_WIDE_(io, first op "l", u32, dst, src) break;  \
		default: FL_WIDE_(io, first op "q", u64, dst, src) break; \
		}                                                         \
		(fl) = fl_;                                               \
		res_;                                                     \
	})
#define FL_WIDE_(io, op, type, dst, src)     \
	{                                    \
		type d_ = (type)(dst);       \
		asm(op " %2, %0\n\t" FL_SAVE \
		    : "+&r"(d_), io(fl_)     \
		    : "r"((type)(src))       \
		    : "cc");                 \
		res_ = d_;                   \
	}

/* Whether condition cc (of Jcc) holds. cc need not be constant. */
static inline __attribute__((always_inline)) bool fl_cond(u16 fl, unsigned cc)
{
	bool r;

	switch (cc >> 1) {
	case 0: r = fl & FL_OF; break;
	case 1: r = fl & FL_CF; break;
	case 2: r = fl & FL_ZF; break;
	case 3: r = fl & (FL_CF | FL_ZF); break;
	case 4: r = fl & FL_SF; break;
	case 5: r = fl & FL_PF; break;
	case 6: r = (fl >> 15) != (fl & FL_OF); break;
	default: r = (fl & FL_ZF) || (fl >> 15) != (fl & FL_OF); break;
	}
	return r != (cc & 1);
}

/* v->fl for RFLAGS */
static inline u16 fl_from_rflags(u64 rflags)
{
	return (u16)((rflags & 0xd5) << 8 | FL_FIXED | (rflags >> 11 & 1));
}

/* All flags but OF of a byte like LAHF's; OF kept. For BCD and the like. */
static inline u16 fl_from_ah(u16 fl, u8 ah)
{
	return (u16)((fl & FL_OF) | ah << 8);
}

#endif
