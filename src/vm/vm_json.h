/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A VM's configuration as the JSON object that the API shows and that
 * snapshots keep: Firecracker's objects and fields where it has them, ours
 * beside them (docs/control.md).
 */
#ifndef VM_VM_JSON_H
#define VM_VM_JSON_H

#include <jansson.h>

#include "vm/vm.h"

/* A new object, or NULL without memory. */
json_t *vm_config_json(const struct vm_config *c);

/* {"vcpus": [{"id": 0, "instructions": 1, ..., "left": [...]}, ...]}: what
 * each vCPU counted, zeros left out. Any thread. */
json_t *vm_stat_json(const struct vm *vm);
/* Who the machine is (GET /identity): its addresses, its generation, and what
 * became of telling the guest. Any thread. */
json_t *vm_identity_json(struct vm *vm);
/* The other way round, with defaults for what is not in it. Strings point
 * into j, which must outlive c. The values themselves are not yet checked:
 * vm_config_check(). */
int vm_config_parse(json_t *j, struct vm_config *c, struct err *e);

#endif
