/* SPDX-License-Identifier: BSD-2-Clause */
/* What the configuration adds to the bare board. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "device/virtio_blk.h"
#include "device/virtio_console.h"
#include "device/virtio_net.h"
#include "device/virtio_rng.h"
#include "device/virtio_vsock.h"
#include "vm/vm_console.h"
#include "vm/vm_priv.h"

int vm_parts_init(struct vm_parts *p, const struct vm_backends *b,
		  struct err *e)
{
	struct chr *front[VM_CONSOLES] = {NULL};
	int rc = 0;

	ASSERT(b->nports <= VM_PORTS);
	*p = (struct vm_parts){
		.debug = b->debug, .nports = b->nports, .vsock = b->vsock};
	for (unsigned i = 0; i < b->nports; i++)
		p->ports[i] = b->ports[i];
	if (b->console)
		rc = vm_console_new(b->console, front);
	p->serial = front[VM_CONSOLE_SERIAL];
	p->virtio = front[VM_CONSOLE_VIRTIO];
	return rc ? err_set(e, rc, "no memory for a console") : 0;
}

void vm_parts_fini(struct vm_parts *p)
{
	chr_free(p->serial);
	chr_free(p->virtio);
	chr_free(p->debug);
	vsock_free(p->vsock);
	for (unsigned i = 0; i < p->nports; i++)
		chr_free(p->ports[i].chr);
}

static int vm_add(struct vm *vm, struct virtio *v, struct err *e)
{
	int rc = v ? pc_add_virtio(vm->pc, v, e) : -ENODEV;

	if (rc)
		return rc;
	ASSERT(vm->nvirtio < VM_VIRTIO);
	vm->virtio[vm->nvirtio++] = v;
	return 0;
}

static int vm_add_disk(struct vm *vm, unsigned n, struct err *e)
{
	const struct vm_disk *c = &vm->config.disks[n];
	bool readonly = c->readonly || c->overlay;
	/* Whose machine comes to us still has the lock (vm_disks_lock). */
	struct disk *d = vm->config.incoming
				 ? disk_raw_open_unlocked(c->path, readonly, e)
				 : disk_raw_open(c->path, readonly, e);
	char serial[20];
	int rc;

	if (d && c->layered)
		d = disk_layer_open(d, c->layer_data, c->layer_map, e);
	if (d && c->overlay)
		d = disk_overlay_new(d, NULL, e);
	if (!d)
		return -EIO;
	snprintf(serial, sizeof(serial), "disk%u", n);
	rc = vm_add(vm, vblk_new(&vm->mem, d, vm->config.cpus, serial, e), e);
	if (!rc)
		vm->disk[n] = d;
	return rc;
}

int vm_disks_lock(struct vm *vm, bool on, struct err *e)
{
	int rc = 0;

	for (unsigned i = 0; !rc && i < vm->config.ndisks; i++)
		rc = disk_lock(vm->disk[i], on, e);
	return rc;
}

int vm_disks_sync(struct vm *vm, struct err *e)
{
	for (unsigned i = 0; i < vm->config.ndisks; i++) {
		int rc = disk_sync(vm->disk[i]);

		if (rc)
			return err_errno(e, rc, "disk %s",
					 vm->config.disks[i].path);
	}
	return 0;
}

/* The backend of this name, taken out; NULL: nothing stands behind it. */
static struct chr *vm_take_port(struct vm *vm, struct vm_parts *p,
				const char *name)
{
	if (!strcmp(name, AGENT_PORT)) {
		vm->agent = agent_new(vm->loop);
		return vm->agent ? agent_chr(vm->agent) : NULL;
	}
	for (unsigned i = 0; i < p->nports; i++) {
		struct chr *chr = p->ports[i].chr;

		if (strcmp(p->ports[i].name, name))
			continue;
		p->ports[i].chr = NULL;
		return chr;
	}
	return NULL;
}

static int vm_add_console(struct vm *vm, struct vm_parts *p, struct err *e)
{
	const struct vm_config *c = &vm->config;
	struct vcon_named named[VM_PORTS];
	struct chr *console = p->virtio;

	if (!c->console && !c->nports)
		return 0;
	for (unsigned i = 0; i < c->nports; i++)
		named[i] = (struct vcon_named){
			c->ports[i], vm_take_port(vm, p, c->ports[i])};
	p->virtio = NULL;
	vm->console = vcon_new(&vm->mem, console, named, c->nports, e);
	return vm_add(vm, vm->console, e);
}

void vm_parts_config(const struct vm_parts *p, struct vm_config *c)
{
	c->console |= p->virtio != NULL;
	if (!p->nports || c->incoming)
		return;
	ASSERT(c->nports + p->nports <= VM_PORTS);
	for (unsigned i = 0; i < p->nports; i++)
		c->ports[c->nports++] = p->ports[i].name;
}

static int vm_add_net(struct vm *vm, struct err *e)
{
	struct net *n;

	if (vm->config.net == VM_NET_NONE)
		return 0;
	n = net_user_new(vm->config.forwards, vm->config.nforwards, e);
	if (!n)
		return -EIO;
	vm->net = vnet_new(&vm->mem, n, vm->config.mac, vm->config.incoming, e);
	return vm_add(vm, vm->net, e);
}

static int vm_add_vsock(struct vm *vm, struct vm_parts *p, struct err *e)
{
	struct vsock *s = p->vsock;

	if (!vm->config.vsock.cid)
		return 0;
	if (!s)
		return err_set(e, -EINVAL, "virtio sockets without a socket");
	p->vsock = NULL;
	return vm_add(vm, vvs_new(&vm->mem, s, vm->config.vsock.cid, e), e);
}

void vm_announce(struct vm *vm)
{
	if (vm->net)
		vnet_announce(vm->net);
}

int vm_make_devices(struct vm *vm, struct vm_parts *p, struct err *e)
{
	int rc = vm_add_console(vm, p, e);

	if (!rc)
		rc = vm_add(vm, vrng_new(&vm->mem, vm->loop, e), e);
	for (unsigned i = 0; !rc && i < vm->config.ndisks; i++)
		rc = vm_add_disk(vm, i, e);
	if (!rc)
		rc = vm_add_net(vm, e);
	return rc ? rc : vm_add_vsock(vm, p, e);
}

void vm_console_size(struct vm *vm, u16 cols, u16 rows)
{
	vm->cols = cols;
	vm->rows = rows;
	if (vm->console && vm_is_whole(vm))
		vcon_resize(vm->console, cols, rows);
}
