/* SPDX-License-Identifier: BSD-2-Clause */
/* SYSCALL and SYSRET, SYSENTER and SYSEXIT, INT from CPL 3, SWAPGS, FS and GS
 * bases, compatibility mode. */
#include "lib/guest.h"

#define USER(name, bits, text)                                      \
	__asm__(".text\n.code" #bits "\nuser_" #name ": " text "\n" \
		".code64\n");                                       \
	extern const u8 user_##name[];

USER(regs, 64, "mov $0x1111, %ebx\n mov $7, %eax\n syscall")
USER(flags, 64, "pushq $0xed7\n popfq\n syscall")
USER(int80, 64, "mov $5, %eax\n int $0x80\n ud2")
USER(gs, 64, "mov %gs:0, %rax\n syscall")
USER(fs, 64, "mov %fs:8, %rax\n syscall")
USER(sel, 64,
     "mov %cs, %eax\n mov %ss, %ecx\n shl $16, %ecx\n"
     "or %ecx, %eax\n syscall")
USER(compat, 32,
     "mov %cs, %eax\n mov $0x12345678, %ecx\n inc %ecx\n"
     "int $0x81\n ud2")
USER(compat_push, 32,
     "mov %esp, %eax\n push %eax\n sub %esp, %eax\n"
     "int $0x81\n ud2")
USER(compat_inc, 32, ".byte 0x40\n int $0x81\n ud2") /* INC EAX, not REX */

static u64 data[2];
static u64 seen_rax, seen_rcx;

static bool int81(struct frame *f)
{
	seen_rax = f->rax;
	seen_rcx = f->rcx;
	return false;
}

static void user(const char *name, const void *code, u16 cs)
{
	seen_rax = seen_rcx = 0;
	user_run(code, 0x202, cs);
	print("%s: ", name);
	if (user_by_syscall)
		print("rax %lx rcx +%ld r11 %lx rflags now %s\n",
		      user_saved_rax, user_saved_rcx - USER_BASE - (u64)code,
		      user_saved_r11, "masked");
	else {
		show("");
		print("  rax %lx rcx %lx cs %lx\n", seen_rax, seen_rcx,
		      fault.cs);
	}
}

/* Through the tables of 32-bit code: not mapped for CPL 3 at low addresses,
 * so the same pages are opened there for a while. */
static void open_low(bool on)
{
	for (int i = 0; i < 8; i++)
		pd[i] = on ? pd[i] | 4 : pd[i] & ~4ull;
	write_cr3(read_cr3());
}

static void bases(void)
{
	data[0] = 0xaaaa;
	data[1] = 0xbbbb;
	wrmsr(0xc0000102, USER_BASE + (u64)data);
	wrmsr(0xc0000101, 0x5555);
	__asm__ volatile("swapgs");
	print("gs %lx kernel gs %lx\n",
	      rdmsr(0xc0000101) - USER_BASE - (u64)data, rdmsr(0xc0000102));
	wrmsr(0xc0000100, USER_BASE + (u64)data);
	user("gs", user_gs, SEL_UCODE);
	user("fs", user_fs, SEL_UCODE);
	SHOW("mov %%rcx, %%fs\n", "c"(0));
	unsure(); /* AMD keeps the base, Intel clears it */
	print("null FS: base %d\n", rdmsr(0xc0000100) != 0);
	unsure();
	SHOW("wrmsr", "c"(0xc0000101), "a"(0), "d"(0x800000));
}

int main(void)
{
	idt_set(0x80, trap_stubs[0x80], SEL_CODE, 0xee, 0);
	idt_set(0x81, trap_stubs[0x81], SEL_CODE, 0xee, 0);
	guest_handler[0x81] = int81;
	user("regs", user_regs, SEL_UCODE);
	user("flags", user_flags, SEL_UCODE);
	user("int80", user_int80, SEL_UCODE);
	user("selectors", user_sel, SEL_UCODE);
	bases();
	pml4[0] |= 4;
	pdpt[0] |= 4;
	open_low(true);
	user("compat", user_compat, SEL_UCODE32);
	user("compat push", user_compat_push, SEL_UCODE32);
	user("compat inc", user_compat_inc, SEL_UCODE32);
	open_low(false);
	return 0;
}
