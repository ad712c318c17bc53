/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * What guest programs are written with. A program has a main(), prints what it
 * sees to the debug console, and ends by the debug-exit port. Its output must
 * not depend on the engine, the speed or the host: it is compared.
 */
#ifndef TEST_GUEST_H
#define TEST_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

typedef uint8_t u8;
typedef uint16_t u16;
typedef uint32_t u32;
typedef uint64_t u64;
typedef int64_t s64;

#define PORT_CONSOLE 0xe9
#define PORT_EXIT    0xf4

#define SEL_CODE    0x08
#define SEL_DATA    0x10
#define SEL_CODE32  0x18
#define SEL_UCODE32 0x23
#define SEL_UDATA   0x2b
#define SEL_UCODE   0x33
#define SEL_CODE16  0x38
#define SEL_DATA16  0x40
#define SEL_TSS     0x48
#define SEL_FREE    0x58

#define USER_BASE 0x8000000000ul
#define AP_START  0x8000

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))

struct frame {
	u64 r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx,
		rax;
	u64 vector, error, rip, cs, rflags, rsp, ss;
};

/* What the last TRY() met. */
struct fault {
	int vector; /* -1: nothing */
	u64 error, cr2, at, rsp, rflags, cs;
	u64 rcx, rsi, rdi;
	int offset; /* of the saved RIP from the instruction */
};
extern volatile struct fault fault;
extern volatile u64 guest_recover, guest_at, guest_rsp;

/*
 * Executes one instruction and says in fault what came of it. Operands follow
 * as inputs; R15 is lost. TRY_AT() takes several, of which the label 1 marks
 * the one that is to fault.
 */
#define TRY_AT(insn, ...)                                          \
	({                                                         \
		fault.vector = -1;                                 \
		__asm__ volatile("mov %%rsp, guest_rsp\n"          \
				 "lea 2f(%%rip), %%r15\n"          \
				 "mov %%r15, guest_recover\n"      \
				 "lea 1f(%%rip), %%r15\n"          \
				 "mov %%r15, guest_at\n" insn "\n" \
				 "2: movq $0, guest_recover\n"     \
				 :                                 \
				 : __VA_ARGS__                     \
				 : "r15", "memory", "cc");         \
		fault.vector;                                      \
	})
#define TRY(insn, ...) TRY_AT("1: " insn, ##__VA_ARGS__)

/* Prints the outcome: "NAME: #PF error 2 cr2 1000 +0". */
void show(const char *name);
/* TRY() and show() */
#define SHOW_AT(insn, ...)                   \
	do {                                 \
		TRY_AT(insn, ##__VA_ARGS__); \
		show(insn);                  \
	} while (0)
#define SHOW(insn, ...)                   \
	do {                              \
		TRY(insn, ##__VA_ARGS__); \
		show(insn);               \
	} while (0)

/*
 * The next show() or print() of a line is something that emulators of
 * hardware get wrong, or that depends on what the CPU has: "~" in front of it
 * says that it is only compared where the CPU is known.
 */
void unsure(void);

void print(const char *fmt, ...) __attribute__((format(printf, 1, 2)));
void check(bool good, const char *what); /* prints "what: ok" or WRONG */
void finish(int code) __attribute__((noreturn));

/* Calls fn for an interrupt or exception before anything else; true: done,
 * return from it. */
typedef bool trap_fn(struct frame *f);
extern trap_fn *guest_handler[256];

/* Gates */
void idt_set(unsigned vector, u64 handler, u16 sel, u8 type, u8 ist);
extern u64 trap_stubs[256];
extern u64 gdt[];
extern u8 gdt_end[];
extern u64 pml4[512], pdpt[512], pdpt_user[512], pd[2048], pd_user[2048];
struct __attribute__((packed)) tss {
	u32 r0;
	u64 rsp[3], r1, ist[7], r2;
	u16 r3, iomap;
};
extern struct tss guest_tss;
extern u32 boot_info;

/* Runs code (position-independent, within the program) at CPL 3 until it
 * faults or makes a system call; fault says what. */
void user_run(const void *code, u64 rflags, u16 cs);
extern u64 user_rax, user_saved_rsp, user_saved_rax, user_saved_rcx,
	user_saved_r11, user_by_syscall;

/* Other processors */
extern u8 ap_code[], ap_code_end[];
extern volatile u32 ap_count; /* started ones, with the first */
unsigned smp_start(void);     /* starts them all; how many there are */
void smp_run(unsigned cpu, void (*fn)(unsigned cpu)); /* and does not wait */
void smp_wait(unsigned cpu);
void idt_load(void);

/* Local APIC, xAPIC mode */
#define APIC(reg) (*(volatile u32 *)(0xfee00000ull + (reg)))
enum {
	APIC_ID = 0x20,
	APIC_TPR = 0x80,
	APIC_PPR = 0xa0,
	APIC_EOI = 0xb0,
	APIC_LDR = 0xd0,
	APIC_DFR = 0xe0,
	APIC_SVR = 0xf0,
	APIC_ISR = 0x100,
	APIC_TMR = 0x180,
	APIC_IRR = 0x200,
	APIC_ESR = 0x280,
	APIC_ICR = 0x300,
	APIC_ICR2 = 0x310,
	APIC_LVTT = 0x320,
	APIC_LVT0 = 0x350,
	APIC_LVT1 = 0x360,
	APIC_TMICT = 0x380,
	APIC_TMCCT = 0x390,
	APIC_TDCR = 0x3e0,
};

static inline void outb(u16 port, u8 v)
{
	__asm__ volatile("outb %0, %1" : : "a"(v), "Nd"(port));
}
static inline void outw(u16 port, u16 v)
{
	__asm__ volatile("outw %0, %1" : : "a"(v), "Nd"(port));
}
static inline void outl(u16 port, u32 v)
{
	__asm__ volatile("outl %0, %1" : : "a"(v), "Nd"(port));
}
static inline u8 inb(u16 port)
{
	u8 v;

	__asm__ volatile("inb %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline u16 inw(u16 port)
{
	u16 v;

	__asm__ volatile("inw %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline u32 inl(u16 port)
{
	u32 v;

	__asm__ volatile("inl %1, %0" : "=a"(v) : "Nd"(port));
	return v;
}
static inline u64 rdmsr(u32 msr)
{
	u32 lo, hi;

	__asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
	return lo | (u64)hi << 32;
}
static inline void wrmsr(u32 msr, u64 v)
{
	__asm__ volatile("wrmsr"
			 :
			 : "c"(msr), "a"((u32)v), "d"((u32)(v >> 32))
			 : "memory");
}
static inline void cpuid(u32 leaf, u32 sub, u32 r[4])
{
	__asm__ volatile("cpuid"
			 : "=a"(r[0]), "=b"(r[1]), "=c"(r[2]), "=d"(r[3])
			 : "a"(leaf), "c"(sub));
}
static inline u64 rdtsc(void)
{
	u32 lo, hi;

	__asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
	return lo | (u64)hi << 32;
}
#define CR_FUNCS(n)                                                        \
	static inline u64 read_cr##n(void)                                 \
	{                                                                  \
		u64 v;                                                     \
                                                                           \
		__asm__ volatile("mov %%cr" #n ", %0" : "=r"(v));          \
		return v;                                                  \
	}                                                                  \
	static inline void write_cr##n(u64 v)                              \
	{                                                                  \
		__asm__ volatile("mov %0, %%cr" #n : : "r"(v) : "memory"); \
	}
CR_FUNCS(0)
CR_FUNCS(2)
CR_FUNCS(3)
CR_FUNCS(4)
CR_FUNCS(8)
static inline void invlpg(u64 va)
{
	__asm__ volatile("invlpg (%0)" : : "r"(va) : "memory");
}
static inline void pause(void)
{
	__asm__ volatile("pause" ::: "memory");
}

void *memset(void *p, int c, size_t n);
void *memcpy(void *d, const void *s, size_t n);
int memcmp(const void *a, const void *b, size_t n);

#endif
