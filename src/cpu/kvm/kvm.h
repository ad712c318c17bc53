/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The engine on /dev/kvm (Linux Documentation/virt/kvm/api.rst).
 *
 * Split irqchip: the local APICs are the kernel's; I/O APIC, 8259 and 8254 are
 * the board's and reach the local APICs by msi() and extint(). HLT and waiting
 * for SIPI happen in the kernel, so vcpu_run() never returns HALTED.
 */
#ifndef CPU_KVM_KVM_H
#define CPU_KVM_KVM_H

#include "cpu/engine.h"

extern const struct engine_class kvm_engine;

#endif
