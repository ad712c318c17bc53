/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/vm_json.h"

#include <stdio.h>

#include "vm/vm_priv.h"

#define LEFT   24 /* instructions told of */
#define QUEUES 64

static json_t *vm_json_strings(const char *const *s, unsigned n)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(a, json_string(s[i]));
	return a;
}

static json_t *vm_json_drives(const struct vm_config *c)
{
	json_t *a = json_array();
	char id[16];

	for (unsigned i = 0; i < c->ndisks; i++) {
		const struct vm_disk *d = &c->disks[i];

		snprintf(id, sizeof(id), "disk%u", i);
		json_array_append_new(
			a,
			json_pack("{s:s, s:s, s:b, s:b, s:b}", "drive_id", id,
				  "path_on_host", d->path, "is_root_device",
				  i == 0, "is_read_only", (int)d->readonly,
				  "overlay", (int)d->overlay));
	}
	return a;
}

static json_t *vm_json_networks(const struct vm_config *c)
{
	char mac[VM_MAC_TEXT];

	if (c->net == VM_NET_NONE)
		return json_array();
	vm_mac_text(c->mac, mac);
	return json_pack("[{s:s, s:s, s:s, s:o}]", "iface_id", "net0",
			 "backend", "user", "guest_mac", mac, "forwards",
			 vm_json_strings(c->forwards, c->nforwards));
}

/* NULL: none. */
static json_t *vm_json_vsock(const struct vm_config *c)
{
	if (!c->vsock.cid)
		return NULL;
	return json_pack("{s:I, s:s*}", "guest_cid", (json_int_t)c->vsock.cid,
			 "uds_path", c->vsock.path);
}

json_t *vm_config_json(const struct vm_config *c)
{
	const struct boot_config *b = &c->boot;

	return json_pack(
		"{s:{s:s*, s:s*, s:s*, s:o}, s:{s:i, s:I, s:b},"
		" s:o, s:o, s:o*, s:{s:s, s:b, s:b, s:b, s:b, s:o, s:i,"
		" s:i}}",
		"boot-source", "kernel_image_path", b->kernel, "initrd_path",
		b->initrd, "boot_args", b->cmdline, "modules",
		vm_json_strings(b->modules, b->nmodules), "machine-config",
		"vcpu_count", (int)c->cpus, "mem_size_mib",
		(json_int_t)(c->memory / MIB), "smt", 0, "drives",
		vm_json_drives(c), "network-interfaces", vm_json_networks(c),
		"vsock", vm_json_vsock(c), "sublet", "engine", c->engine,
		"nested", (int)c->nested, "no_reboot", (int)c->no_reboot,
		"interpret", (int)c->interp_only, "console", (int)c->console,
		"ports", vm_json_strings(c->ports, c->nports), "debug_exit",
		c->debug_exit_port, "debug_console", c->debug_console_port);
}

static json_t *vm_json_left(const struct vcpu *v)
{
	struct vcpu_left left[LEFT];
	json_t *a = json_array();
	unsigned n =
		v->class->vcpu_left ? v->class->vcpu_left(v, left, LEFT) : 0;

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(a, json_pack("{s:s, s:s, s:I}", "op",
						   left[i].op, "why",
						   vcpu_stat_names[left[i].why],
						   "n", (json_int_t)left[i].n));
	return a;
}

static json_t *vm_json_queues(const struct vm *vm)
{
	struct vm_queue_stat q[QUEUES];
	unsigned n = vm_queue_stats(vm, q, QUEUES);
	json_t *a = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(
			a,
			json_pack("{s:s, s:i, s:i, s:I, s:I}", "device",
				  q[i].device, "instance", (int)q[i].instance,
				  "queue", (int)q[i].queue, "wakeups",
				  (json_int_t)q[i].kicks, "exits",
				  (json_int_t)q[i].exits));
	return a;
}

json_t *vm_stat_json(const struct vm *vm)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < vm->config.cpus; i++) {
		const struct vcpu *v = vm->cpus[i].vcpu;
		json_t *j = json_pack("{s:i}", "id", (int)v->id);

		for (unsigned k = 0; k < VCPU_STATS; k++) {
			u64 n = __atomic_load_n(&v->stat[k], __ATOMIC_RELAXED);

			if (n)
				json_object_set_new(
					j, vcpu_stat_names[k],
					json_integer((json_int_t)n));
		}
		if (v->class->vcpu_left)
			json_object_set_new(j, "left", vm_json_left(v));
		json_array_append_new(a, j);
	}
	return json_pack("{s:o, s:o}", "vcpus", a, "queues",
			 vm_json_queues(vm));
}
