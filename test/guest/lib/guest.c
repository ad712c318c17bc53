/* SPDX-License-Identifier: BSD-2-Clause */
/* Start, traps, output, user mode and other processors of guest programs. */
#include "guest.h"

#include <stdarg.h>

volatile struct fault fault;
volatile u64 guest_recover, guest_at, guest_rsp;
trap_fn *guest_handler[256];
struct tss guest_tss;

static struct {
	u64 lo, hi;
} idt[256];
static u8 user_stack[8192], ist_stack[8192], rsp0_stack[8192];

int main(void);
void user_enter(u64 rip, u64 rsp, u64 cs, u64 ss, u64 rflags);
extern u8 user_leave[], user_syscall[];
void guest_start(void);
void guest_ap_start(void);
void guest_trap(struct frame *f);

void *memset(void *p, int c, size_t n)
{
	u8 *b = p;

	while (n--)
		*b++ = (u8)c;
	return p;
}

void *memcpy(void *d, const void *s, size_t n)
{
	u8 *b = d;
	const u8 *from = s;

	while (n--)
		*b++ = *from++;
	return d;
}

int memcmp(const void *a, const void *b, size_t n)
{
	const u8 *x = a, *y = b;

	for (; n; n--, x++, y++)
		if (*x != *y)
			return *x - *y;
	return 0;
}

static void print_number(u64 v, unsigned base, unsigned width)
{
	char buf[24];
	unsigned n = 0;

	do {
		buf[n++] = "0123456789abcdef"[v % base];
		v /= base;
	} while (v || n < width);
	while (n)
		outb(PORT_CONSOLE, (u8)buf[--n]);
}

/* %s %c %d %u %x, with l and a width of zeroes */
void print(const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	for (; *fmt; fmt++) {
		unsigned width = 0;
		bool is_long = false;
		u64 v;

		if (*fmt != '%') {
			outb(PORT_CONSOLE, (u8)*fmt);
			continue;
		}
		for (fmt++; *fmt >= '0' && *fmt <= '9'; fmt++)
			width = width * 10 + (unsigned)(*fmt - '0');
		for (; *fmt == 'l'; fmt++)
			is_long = true;
		if (*fmt == 's') {
			for (const char *s = va_arg(ap, char *); *s; s++)
				outb(PORT_CONSOLE, (u8)*s);
			continue;
		}
		v = is_long ? va_arg(ap, u64) : va_arg(ap, unsigned);
		if (*fmt == 'c')
			outb(PORT_CONSOLE, (u8)v);
		else if (*fmt == 'd' && (s64)(is_long ? v : (u64)(int)v) < 0) {
			outb(PORT_CONSOLE, '-');
			print_number(is_long ? -v : (u32)-v, 10, width);
		} else
			print_number(v, *fmt == 'x' ? 16 : 10, width);
	}
	va_end(ap);
}

void unsure(void)
{
	outb(PORT_CONSOLE, '~');
}

static int failures;

void check(bool good, const char *what)
{
	failures += !good;
	print("%s: %s\n", what, good ? "ok" : "WRONG");
}

void finish(int code)
{
	outb(PORT_EXIT, (u8)code);
	for (;;)
		__asm__ volatile("cli; hlt");
}

void show(const char *name)
{
	static const char *const names[] = {"#DE", "#DB", "NMI", "#BP", "#OF",
					    "#BR", "#UD", "#NM", "#DF", "#09",
					    "#TS", "#NP", "#SS", "#GP", "#PF",
					    "#0f", "#MF", "#AC", "#MC", "#XM"};
	int v = fault.vector;

	for (; *name; name++) { /* the text of an asm statement */
		if (*name == '%' && name[1] == '%')
			continue;
		outb(PORT_CONSOLE, *name == '\n' ? ';' : (u8)*name);
	}
	print(": ");
	if (v < 0) {
		print("nothing\n");
		return;
	}
	if (v < (int)ARRAY_LEN(names))
		print("%s", names[v]);
	else
		print("vector %x", (unsigned)v);
	if (v == 8 || (v >= 10 && v <= 14) || v == 17)
		print(" error %lx", fault.error);
	if (v == 14)
		print(" cr2 %lx", fault.cr2);
	if (fault.offset < 0 || fault.offset > 15)
		print(" elsewhere\n");
	else
		print(" +%d\n", fault.offset);
}

static void guest_note(const struct frame *f)
{
	fault.vector = (int)f->vector;
	fault.error = f->error;
	fault.cr2 = read_cr2();
	fault.at = f->rip;
	fault.rsp = f->rsp;
	fault.rflags = f->rflags;
	fault.cs = f->cs;
	fault.rcx = f->rcx;
	fault.rsi = f->rsi;
	fault.rdi = f->rdi;
	fault.offset = (int)(f->rip - guest_at);
}

void guest_trap(struct frame *f)
{
	trap_fn *fn = guest_handler[f->vector];

	if (fn && fn(f))
		return;
	guest_note(f);
	if (f->cs & 3) {
		f->rip = (u64)user_leave;
		f->cs = SEL_CODE;
		f->ss = SEL_DATA;
		f->rflags = 2;
		return;
	}
	if (guest_recover) {
		f->rip = guest_recover;
		f->rsp = guest_rsp;
		f->rflags &= ~0x100ull; /* TF */
		guest_recover = 0;
		return;
	}
	print("unexpected vector %lx error %lx at %lx cr2 %lx rsp %lx\n",
	      f->vector, f->error, f->rip, fault.cr2, f->rsp);
	finish(99);
}

void idt_set(unsigned vector, u64 handler, u16 sel, u8 type, u8 ist)
{
	idt[vector].lo = (handler & 0xffff) | (u64)sel << 16 | (u64)ist << 32 |
			 (u64)type << 40 | (handler >> 16 & 0xffff) << 48;
	idt[vector].hi = handler >> 32;
}

void idt_load(void)
{
	struct __attribute__((packed)) {
		u16 limit;
		u64 base;
	} p = {sizeof(idt) - 1, (u64)idt};

	__asm__ volatile("lidt %0" : : "m"(p));
}

static void guest_tss_init(void)
{
	u64 base = (u64)&guest_tss;

	guest_tss.rsp[0] = (u64)rsp0_stack + sizeof(rsp0_stack);
	guest_tss.ist[0] = (u64)ist_stack + sizeof(ist_stack);
	guest_tss.iomap = sizeof(guest_tss);
	gdt[SEL_TSS / 8] = (sizeof(guest_tss) - 1) | (base & 0xffffff) << 16 |
			   0x89ull << 40 | (base >> 24 & 0xff) << 56;
	gdt[SEL_TSS / 8 + 1] = base >> 32;
	__asm__ volatile("ltr %w0\n lldt %w1" : : "r"(SEL_TSS), "r"(0));
}

void guest_start(void)
{
	for (unsigned i = 0; i < 256; i++)
		idt_set(i, trap_stubs[i], SEL_CODE, 0x8e, 0);
	idt_load();
	guest_tss_init();
	/* All of the 8259s off: the default of every program */
	outb(0x21, 0xff);
	outb(0xa1, 0xff);
	finish(main() || failures);
}

void user_run(const void *code, u64 rflags, u16 cs)
{
	u64 stack = (u64)user_stack + sizeof(user_stack) - 64;

	fault.vector = -1;
	user_by_syscall = 0;
	guest_at = USER_BASE + (u64)code;
	if (cs == SEL_UCODE32)
		guest_at -= USER_BASE;
	else
		stack += USER_BASE;
	wrmsr(0xc0000081, (u64)SEL_UCODE32 << 48 | (u64)SEL_CODE << 32);
	wrmsr(0xc0000082, (u64)user_syscall);
	wrmsr(0xc0000084, 0x40700);
	user_enter(guest_at, stack, cs, SEL_UDATA, rflags | 2);
}

/* ---- other processors ---- */

static void (*volatile smp_work[64])(unsigned cpu);

/* By APIC id: they come here in any order. */
void guest_ap_start(void)
{
	unsigned cpu = APIC(APIC_ID) >> 24;

	idt_load();
	APIC(APIC_SVR) = 0x1ff;
	for (;;) {
		if (smp_work[cpu]) {
			smp_work[cpu](cpu);
			smp_work[cpu] = 0;
		}
		pause();
	}
}

void smp_run(unsigned cpu, void (*fn)(unsigned cpu))
{
	smp_work[cpu] = fn;
}

void smp_wait(unsigned cpu)
{
	while (smp_work[cpu])
		pause();
}

/* Waits n microseconds or more by the 8254's channel 2. */
static void smp_delay(unsigned us)
{
	while (us) {
		unsigned n = us > 10000 ? 10000 : us, ticks = n * 1193 / 1000;

		us -= n;
		outb(0x61, (inb(0x61) & ~2) | 1);
		outb(0x43, 0xb0);
		outb(0x42, (u8)ticks);
		outb(0x42, (u8)(ticks >> 8));
		while (!(inb(0x61) & 0x20))
			;
	}
}

/* Everybody but us: INIT, SIPI, SIPI; then as many as come in 50 ms. */
unsigned smp_start(void)
{
	u32 last = 0;

	memcpy((void *)AP_START, ap_code, (size_t)(ap_code_end - ap_code));
	APIC(APIC_SVR) = 0x1ff;
	APIC(APIC_ICR) = 0xc4500;
	smp_delay(10000);
	APIC(APIC_ICR) = 0xc4600 | AP_START >> 12;
	smp_delay(200);
	APIC(APIC_ICR) = 0xc4600 | AP_START >> 12;
	/* A busy host may leave some waiting. */
	for (int quiet = 0; quiet < 20; quiet++) {
		if (ap_count != last)
			quiet = 0;
		last = ap_count;
		smp_delay(10000);
	}
	return ap_count;
}
