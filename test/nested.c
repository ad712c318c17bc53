/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Run in a guest started with --nested: /dev/kvm there runs a guest of its
 * own, two instructions of real mode. Prints what came out.
 */
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>

int main(void)
{
	/* mov $0x42, %al; out %al, $0x10 */
	static const unsigned char code[] = {0xb0, 0x42, 0xe6, 0x10, 0xf4};
	int sys = open("/dev/kvm", O_RDWR), vm, cpu;
	unsigned char *mem = mmap(NULL, 4096, PROT_READ | PROT_WRITE,
				  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct kvm_userspace_memory_region r = {
		.memory_size = 4096,
		.userspace_addr = (unsigned long)mem,
	};
	struct kvm_sregs s;
	struct kvm_regs regs = {.rflags = 2};
	struct kvm_run *run;

	memcpy(mem, code, sizeof(code));
	vm = ioctl(sys, KVM_CREATE_VM, 0);
	ioctl(vm, KVM_SET_USER_MEMORY_REGION, &r);
	cpu = ioctl(vm, KVM_CREATE_VCPU, 0);
	run = mmap(NULL, 12288, PROT_READ | PROT_WRITE, MAP_SHARED, cpu, 0);
	if (sys < 0 || vm < 0 || cpu < 0 || run == MAP_FAILED) {
		perror("nested: no KVM here");
		return 1;
	}
	ioctl(cpu, KVM_GET_SREGS, &s);
	s.cs.base = s.cs.selector = 0;
	ioctl(cpu, KVM_SET_SREGS, &s);
	ioctl(cpu, KVM_SET_REGS, &regs);
	if (ioctl(cpu, KVM_RUN, 0))
		perror("nested: KVM_RUN");
	printf("NESTED exit %u port %x value %x\n", run->exit_reason,
	       run->io.port, *((unsigned char *)run + run->io.data_offset));
	return 0;
}
