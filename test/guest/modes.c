/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Round trips through the processor's modes (SDM 3A, 9.9 and 10.8.5): 64-bit,
 * compatibility, protected without paging, with 32-bit paging, 16-bit
 * protected, real, and back. The same bytes are run in each and do something
 * else in each.
 */
#include "lib/guest.h"

#define ROUNDS 200

/* Below 64 KiB: the 16-bit code and what it notes. */
#define LOW ((u8 *)0x9000)

enum { TRIP_MODES = 9 };

struct seen {
	u32 width; /* what the bytes of trip_same left in EAX */
	u32 cs, cr0, efer;
};

struct log {
	struct seen seen[TRIP_MODES];
	u32 interrupt_cs, wrapped, unreal;
};
#define LOG ((volatile struct log *)0xa000)

extern const u8 trip_low[], trip_low_end[], trip_int[];
void trip(void);

u64 trip_rsp;
u32 trip_pd[1024] __attribute__((aligned(4096)));

/* clang-format off */
__asm__(
	".set LOW, 0x9000\n .set LOG, 0xa000\n .set LOG_END, LOG + 9 * 16\n"
	/* Notes what this mode is. LOW is the place of trip_same. */
	".macro SEEN n, same=LOW\n"
	"	xor %eax, %eax\n	call \\same\n"
	"	mov %eax, LOG + \\n * 16\n"
	"	xor %eax, %eax\n	mov %cs, %ax\n"
	"	mov %eax, LOG + \\n * 16 + 4\n"
	"	.byte 0x0f, 0x20, 0xc0\n" /* mov %cr0, %eax or %rax */
	"	mov %eax, LOG + \\n * 16 + 8\n"
	"	mov $0xc0000080, %ecx\n	rdmsr\n"
	"	mov %eax, LOG + \\n * 16 + 12\n"
	".endm\n"
	".macro CR op, n, value\n" /* through EAX */
	"	mov %cr\\n, %eax\n	\\op \\value, %eax\n	mov %eax, %cr\\n\n"
	".endm\n"
	".macro SEGMENTS value\n"
	"	mov \\value, %ax\n	mov %ax, %ds\n	mov %ax, %es\n"
	"	mov %ax, %ss\n"
	".endm\n"

	"trip:	push %rbx\n	push %rbp\n"
	"	mov %rsp, trip_rsp\n"
	"	SEEN 0\n"
	"	ljmp *trip_to32\n"
	"trip_to32: .long trip32\n	.word 0x18\n"

	".code32\n"
	"trip32: SEGMENTS $0x10\n	mov $0xb000, %esp\n"
	"	SEEN 1\n"
	"	CR and, 0, $0x7fffffff\n" /* paging off: not long mode */
	"	SEEN 2\n"
	"	mov $0xc0000080, %ecx\n	rdmsr\n"
	"	and $~0x100, %eax\n	wrmsr\n"
	"	CR and, 4, $~0x20\n	CR or, 4, $0x10\n" /* PSE, not PAE */
	"	mov $trip_pd, %eax\n	mov %eax, %cr3\n"
	"	CR or, 0, $0x80000000\n"
	"	SEEN 3\n"
	"	CR and, 0, $0x7fffffff\n"
	"	ljmp $0x38, $LOW + trip16 - trip_low\n"

	"trip_low:\n" /* xor, REX.W and CDQE; or xor, DEC, CWDE or CBW; ret */
	"trip_same: .byte 0x31, 0xc0, 0x48, 0x98, 0xc3\n"
	".code16\n"
	"trip16: SEGMENTS $0x40\n	mov $0xb000, %sp\n"
	"	SEEN 4, trip_same\n"
	"	CR and, 0, $~1\n"
	"	SEEN 5, trip_same\n" /* real, CS still the protected one */
	"	ljmp $0, $LOW + trip_real - trip_low\n"
	"trip_real: SEGMENTS $0\n	lidtl LOW + trip_ivt - trip_low\n"
	"	SEEN 6, trip_same\n"
	"	int $0x20\n"
	"	mov $0xffff, %ax\n	mov %ax, %es\n" /* 1 MiB, A20 is on */
	"	movzbl %es:0x10, %eax\n	mov %eax, LOG_END + 4\n"
	"	CR or, 0, $1\n" /* a limit of 4 GiB stays in real mode */
	"	mov $0x10, %ax\n	mov %ax, %es\n"
	"	CR and, 0, $~1\n"
	"	ljmp $0, $LOW + trip_unreal - trip_low\n"
	"trip_unreal: xor %ax, %ax\n	mov %ax, %es\n"
	"	mov $trip_pd, %ebx\n"
	"	mov %es:(%ebx), %eax\n	mov %eax, LOG_END + 8\n"
	"	CR or, 0, $1\n"
	"	ljmpl $0x18, $trip_back\n"
	"trip_int: xor %eax, %eax\n	mov %cs, %ax\n"
	"	mov %eax, LOG_END\n	iret\n"
	"trip_ivt: .word 0x3ff\n	.long 0\n"
	"trip_low_end:\n"

	".code32\n"
	"trip_back: SEGMENTS $0x10\n	mov $0xb000, %esp\n"
	"	SEEN 7\n"
	"	call long_mode\n"
	"	ljmp $8, $trip64\n"
	".code64\n"
	"trip64: mov trip_rsp, %rsp\n"
	"	SEEN 8\n"
	"	pop %rbp\n	pop %rbx\n	ret\n");
/* clang-format on */

static void once(void)
{
	memset((void *)LOG, 0, sizeof(*LOG));
	trip();
	idt_load();
}

static void tell(const struct log *l)
{
	static const char *const names[TRIP_MODES] = {
		"64-bit",        "compatibility",    "paging off",
		"32-bit paging", "16-bit protected", "real, old CS",
		"real",          "protected again",  "64-bit again",
	};

	for (unsigned i = 0; i < TRIP_MODES; i++) {
		const struct seen *s = &l->seen[i];

		print("%s: bytes give %x, cs %x, paging %u, protected %u, "
		      "LME %u, LMA %u\n",
		      names[i], s->width, s->cs, s->cr0 >> 31, s->cr0 & 1,
		      s->efer >> 8 & 1, s->efer >> 10 & 1);
	}
	print("interrupt in real mode: cs %x\n", l->interrupt_cs);
	print("byte at ffff:10: %x\n", l->wrapped);
	print("beyond 64 KiB in real mode: %x\n", l->unreal);
}

int main(void)
{
	u16 *ivt = (u16 *)(0x20 * 4);
	struct log first;
	unsigned same = 0;

	memcpy(LOW, trip_low, (size_t)(trip_low_end - trip_low));
	for (u32 i = 0; i < 1024; i++)
		trip_pd[i] = i << 22 | 0x83; /* P W PS */
	__asm__ volatile("" : "+r"(ivt));
	ivt[0] = (u16)(trip_int - trip_low);
	ivt[1] = (u16)((u64)LOW >> 4);
	once();
	memcpy(&first, (void *)LOG, sizeof(first));
	tell(&first);
	for (unsigned i = 0; i < ROUNDS; i++) {
		once();
		same += !memcmp(&first, (void *)LOG, sizeof(first));
	}
	check(same == ROUNDS, "the same every time");
	return 0;
}
