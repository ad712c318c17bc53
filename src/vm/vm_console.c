/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/vm_console.h"

#include <errno.h>
#include <stdlib.h>

struct console;

struct console_front {
	struct chr chr;
	struct console *console;
	unsigned which;
};

struct console {
	struct chr *back;
	struct console_front front[VM_CONSOLES];
	u32 input; /* atomic; which front gets it */
	u32 refs;  /* atomic; fronts not yet freed */
};

static size_t console_write(struct chr *chr, const void *buf, size_t n)
{
	struct console_front *f = (struct console_front *)chr;
	struct console *c = f->console;

	if (f->which == VM_CONSOLE_VIRTIO &&
	    __atomic_exchange_n(&c->input, f->which, __ATOMIC_SEQ_CST) !=
		    f->which)
		chr_input_ready(c->back); /* what the other did not take */
	chr_write(c->back, buf, n);
	return n;
}

static void console_free(struct chr *chr)
{
	struct console *c = ((struct console_front *)chr)->console;

	__atomic_store_n(&chr->input, NULL, __ATOMIC_RELEASE);
	if (__atomic_sub_fetch(&c->refs, 1, __ATOMIC_SEQ_CST))
		return;
	chr_free(c->back);
	free(c);
}

static const struct chr_ops console_ops = {
	.write = console_write,
	.free = console_free,
};

static size_t console_input(void *arg, const u8 *buf, size_t n)
{
	struct console *c = arg;
	u32 which = __atomic_load_n(&c->input, __ATOMIC_SEQ_CST);
	struct chr *chr = &c->front[which].chr;
	size_t (*input)(void *, const u8 *, size_t);

	input = __atomic_load_n(&chr->input, __ATOMIC_ACQUIRE);
	return input ? input(chr->input_arg, buf, n) : 0;
}

static void console_room(struct chr *chr)
{
	chr_input_ready(((struct console_front *)chr)->console->back);
}

unsigned vm_console_which(const struct chr *front)
{
	const struct console_front *f = (const struct console_front *)front;

	return __atomic_load_n(&f->console->input, __ATOMIC_SEQ_CST);
}

void vm_console_choose(struct chr *front, unsigned which)
{
	struct console *c = ((struct console_front *)front)->console;

	__atomic_store_n(&c->input, which, __ATOMIC_SEQ_CST);
	chr_input_ready(c->back);
}

int vm_console_new(struct chr *back, struct chr *front[VM_CONSOLES])
{
	struct console *c = calloc(1, sizeof(*c));

	if (!c) {
		chr_free(back);
		return -ENOMEM;
	}
	c->back = back;
	c->refs = VM_CONSOLES;
	for (unsigned i = 0; i < VM_CONSOLES; i++) {
		c->front[i] = (struct console_front){
			.chr = {.ops = &console_ops, .room = console_room},
			.console = c,
			.which = i,
		};
		front[i] = &c->front[i].chr;
	}
	chr_receive(back, console_input, c);
	return 0;
}
