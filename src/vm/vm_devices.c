/* SPDX-License-Identifier: BSD-2-Clause */
/* What the configuration adds to the bare board. */
#include "vm/vm_priv.h"

int vm_make_devices(struct vm *vm, const struct vm_backends *b, struct err *e)
{
	(void)vm;
	(void)b;
	(void)e;
	return 0;
}
