/* SPDX-License-Identifier: BSD-2-Clause */
/* The configuration from its JSON object. */
#include <errno.h>
#include <string.h>

#include "vm/vm_json.h"

/* Up to max strings; -1: not an array of strings, or too many. */
static int vm_json_list(json_t *a, const char **out, unsigned max, unsigned *n)
{
	json_t *s;
	size_t i;

	*n = 0;
	if (!a)
		return 0;
	if (!json_is_array(a) || json_array_size(a) > max)
		return -1;
	json_array_foreach(a, i, s)
	{
		if (!json_is_string(s))
			return -1;
		out[(*n)++] = json_string_value(s);
	}
	return 0;
}

static int vm_json_bad(const json_error_t *why, const char *where,
		       struct err *e)
{
	return err_set(e, -EINVAL, "the configuration's %s: %s", where,
		       why->text);
}

static int vm_json_boot(json_t *j, struct vm_config *c, struct err *e)
{
	struct boot_config *b = &c->boot;
	json_t *modules = NULL;
	json_error_t why;

	if (json_unpack_ex(j, &why, JSON_STRICT, "{s?s, s?s, s?s, s?o}",
			   "kernel_image_path", &b->kernel, "initrd_path",
			   &b->initrd, "boot_args", &b->cmdline, "modules",
			   &modules))
		return vm_json_bad(&why, "boot-source", e);
	if (vm_json_list(modules, b->modules, BOOT_MODULES, &b->nmodules))
		return err_set(e, -EINVAL,
			       "the configuration's modules are no names");
	return 0;
}

static int vm_json_machine(json_t *j, struct vm_config *c, struct err *e)
{
	json_error_t why;
	json_int_t mib;
	int cpus, smt = 0;

	if (json_unpack_ex(j, &why, JSON_STRICT, "{s:i, s:I, s?b}",
			   "vcpu_count", &cpus, "mem_size_mib", &mib, "smt",
			   &smt))
		return vm_json_bad(&why, "machine-config", e);
	if (cpus < 1 || mib < 1 || mib > (json_int_t)(1 << 30))
		return err_set(e, -EINVAL,
			       "the configuration has nonsense for memory or "
			       "CPUs");
	c->cpus = (unsigned)cpus;
	c->memory = (u64)mib * MIB;
	return 0;
}

static int vm_json_drive(json_t *j, struct vm_disk *d, struct err *e)
{
	const char *id;
	json_error_t why;
	int root, readonly = 0, overlay = 0;

	if (json_unpack_ex(j, &why, JSON_STRICT, "{s:s, s:s, s:b, s?b, s?b}",
			   "drive_id", &id, "path_on_host", &d->path,
			   "is_root_device", &root, "is_read_only", &readonly,
			   "overlay", &overlay))
		return vm_json_bad(&why, "drives", e);
	d->readonly = readonly;
	d->overlay = overlay;
	return 0;
}

static int vm_json_networks_parse(json_t *a, struct vm_config *c, struct err *e)
{
	const char *id, *backend, *mac = NULL;
	json_t *forwards = NULL;
	json_error_t why;

	c->net = VM_NET_NONE;
	if (!json_array_size(a))
		return 0;
	if (json_unpack_ex(a, &why, JSON_STRICT, "[{s:s, s:s, s?s, s?o !}!]",
			   "iface_id", &id, "backend", &backend, "guest_mac",
			   &mac, "forwards", &forwards))
		return vm_json_bad(&why, "network-interfaces", e);
	if (mac && !vm_mac_parse(mac, c->mac))
		return err_set(e, -EINVAL,
			       "the configuration's guest_mac is no MAC "
			       "address");
	if (strcmp(backend, "user"))
		return err_set(e, -EINVAL,
			       "the configuration has a network of the unknown "
			       "kind %s",
			       backend);
	c->net = VM_NET_USER;
	if (vm_json_list(forwards, c->forwards, VM_FORWARDS, &c->nforwards))
		return err_set(e, -EINVAL,
			       "the configuration's forwards are not right");
	return 0;
}

static int vm_json_vsock_parse(json_t *j, struct vm_config *c, struct err *e)
{
	json_error_t why;
	json_int_t cid;

	if (json_unpack_ex(j, &why, JSON_STRICT, "{s:I, s?s}", "guest_cid",
			   &cid, "uds_path", &c->vsock.path))
		return vm_json_bad(&why, "vsock", e);
	c->vsock.cid = cid > 0 && cid <= VSOCK_CID_MAX ? (u32)cid : 1;
	return 0;
}

static int vm_json_own(json_t *j, struct vm_config *c, struct err *e)
{
	int nested = 0, no_reboot = 0, interpret = 0, console = 0;
	int debug_exit = 0, debug_console = 0;
	json_t *ports = NULL;
	json_error_t why;

	if (json_unpack_ex(j, &why, JSON_STRICT,
			   "{s?s, s?b, s?b, s?b, s?b, s?o, s?i, s?i}", "engine",
			   &c->engine, "nested", &nested, "no_reboot",
			   &no_reboot, "interpret", &interpret, "console",
			   &console, "ports", &ports, "debug_exit", &debug_exit,
			   "debug_console", &debug_console))
		return vm_json_bad(&why, "sublet", e);
	c->nested = nested;
	c->no_reboot = no_reboot;
	c->interp_only = interpret;
	c->console = console;
	c->debug_exit_port = (u16)debug_exit;
	c->debug_console_port = (u16)debug_console;
	if (vm_json_list(ports, c->ports, VM_PORTS, &c->nports))
		return err_set(e, -EINVAL,
			       "the configuration's ports are not right");
	return 0;
}

int vm_config_parse(json_t *j, struct vm_config *c, struct err *e)
{
	json_t *boot, *machine, *drives, *nets, *own, *d, *vsock = NULL;
	json_error_t why;
	size_t i;
	int rc;

	vm_config_init(c);
	if (json_unpack_ex(j, &why, JSON_STRICT,
			   "{s:o, s:o, s:o, s:o, s:o, s?o}", "boot-source",
			   &boot, "machine-config", &machine, "drives", &drives,
			   "network-interfaces", &nets, "sublet", &own, "vsock",
			   &vsock))
		return vm_json_bad(&why, "objects", e);
	rc = vm_json_boot(boot, c, e);
	if (!rc)
		rc = vm_json_machine(machine, c, e);
	if (!rc && json_array_size(drives) > VM_DISKS)
		rc = err_set(e, -EINVAL, "the configuration has %zu disks",
			     json_array_size(drives));
	if (!rc)
		json_array_foreach(drives, i, d)
		{
			rc = vm_json_drive(d, &c->disks[c->ndisks++], e);
			if (rc)
				break;
		}
	if (!rc)
		rc = vm_json_networks_parse(nets, c, e);
	if (!rc && vsock)
		rc = vm_json_vsock_parse(vsock, c, e);
	return rc ? rc : vm_json_own(own, c, e);
}
