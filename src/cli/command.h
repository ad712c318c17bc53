/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * sublet run IMAGE -- COMMAND: the named ports of the virtio console that
 * carry a command to the guest and its streams and exit code back
 * (docs/images.md).
 */
#ifndef CLI_COMMAND_H
#define CLI_COMMAND_H

#include "base/loop.h"
#include "vm/vm.h"

#define COMMAND_PORTS 5

struct command;

/* argv: as after "--", NULL at the end. One word is a line for the guest's
 * shell; several are passed on as the words they are. */
struct command *command_new(struct loop *l, char *const *argv, struct err *e);
/* Ports for vm_new(), which takes them over. Once. */
const struct vm_port *command_ports(struct command *c, unsigned *n);
/* Output is no longer waited for. Any thread. */
void command_abandon(struct command *c);
/* The command's exit code, or -1 if the guest did not tell. */
int command_exit_code(const struct command *c);
/* After vm_free(). */
void command_free(struct command *c);

#endif
