/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A small writer of AML (ACPI 6.4, chapter 20) and of resource descriptors
 * (6.4.2, 6.4.3), as much as a DSDT of fixed devices needs.
 *
 * What has a length is opened by a function and closed by aml_end(), nested.
 * Names are given in full, four characters a segment: "\\_SB_", "PCI0".
 */
#ifndef PLATFORM_AML_H
#define PLATFORM_AML_H

#include "base/types.h"

#define AML_DEPTH 16

struct aml {
	u8 *buf;
	u32 len, size;
	bool full; /* something did not fit: the result is no good */
	struct {
		u32 at;       /* of the length */
		u32 template; /* of the buffer's size, or 0 */
	} open[AML_DEPTH];
	unsigned depth;
};

void aml_init(struct aml *a, u8 *buf, u32 size);

/* Blocks */
void aml_scope(struct aml *a, const char *name);
void aml_device(struct aml *a, const char *name);
void aml_method(struct aml *a, const char *name, unsigned args);
void aml_package(struct aml *a, unsigned elements); /* after aml_name() */
void aml_resources(struct aml *a);                  /* after aml_name() */
void aml_if_not_zero(struct aml *a, const char *name);
void aml_end(struct aml *a);

/* Notify(name, value) */
void aml_notify(struct aml *a, const char *name, u8 value);

/* Objects; aml_name() begins a definition, the value follows. */
void aml_name(struct aml *a, const char *name);
void aml_int(struct aml *a, u64 v);
void aml_string(struct aml *a, const char *s);
void aml_eisa_id(struct aml *a, const char *id); /* "PNP0A08" */
void aml_name_int(struct aml *a, const char *name, u64 v);
void aml_return(struct aml *a, const char *name);
void aml_store_arg0(struct aml *a, const char *name);

/* Resource descriptors, inside aml_resources() */
void aml_res_io(struct aml *a, u16 base, u8 len);
void aml_res_irq(struct aml *a, unsigned irq);
void aml_res_memory(struct aml *a, u32 base, u32 len); /* fixed */
/* Windows that a bridge passes on */
void aml_res_buses(struct aml *a, u16 first, u16 last);
void aml_res_io_window(struct aml *a, u16 first, u16 last);
void aml_res_mem32_window(struct aml *a, u32 base, u32 len);
void aml_res_mem64_window(struct aml *a, u64 base, u64 len);

#endif
