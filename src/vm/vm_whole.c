/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A machine that runs before all of its memory is there (post-copy). What
 * could make the loop's thread wait for a page is refused or put off: it has
 * to answer and to end the machine also if the page never comes.
 */
#include <errno.h>

#include "bus/virtio.h"
#include "vm/vm_priv.h"

int vm_check_whole(const struct vm *vm, struct err *e)
{
	if (vm_is_whole(vm))
		return 0;
	return err_set(e, -EBUSY,
		       "a part of the machine's memory is still at its source; "
		       "if the connection broke, sublet migrate --resume there "
		       "sends the rest");
}

bool vm_is_whole(const struct vm *vm)
{
	return !mem_absent(&vm->mem);
}

/* What was put off. */
static void vm_whole_now(void *arg)
{
	struct vm *vm = arg;

	for (unsigned i = 0; i < vm->nvirtio; i++)
		virtio_kick_all(vm->virtio[i]);
	if (vm->cols)
		vm_console_size(vm, vm->cols, vm->rows);
	vm_do_wanted(vm);
}

void vm_whole(struct vm *vm)
{
	mem_absent_end(&vm->mem);
	loop_call(vm->loop, vm_whole_now, vm);
}
