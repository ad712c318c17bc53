/* SPDX-License-Identifier: BSD-2-Clause */
/* Who a machine is, and becoming another. */
#include <stdio.h>
#include <string.h>

#include "device/virtio_console.h"
#include "device/virtio_net.h"
#include "vm/vm_json.h"
#include "vm/vm_priv.h"

static void identity_tell(struct vm *vm, struct agent_news *n)
{
	pc_generation(vm->pc, n->id);
	if (vm->agent)
		agent_tell(vm->agent, n);
}

void vm_new_generation(struct vm *vm)
{
	struct agent_news n = {.nic = false};

	pc_new_generation(vm->pc);
	identity_tell(vm, &n);
}

void vm_renew(struct vm *vm, const char *hostname)
{
	struct agent_news n = {.nic = vm->net != NULL};

	if (hostname)
		snprintf(vm->hostname, sizeof(vm->hostname), "%s", hostname);
	memcpy(n.hostname, vm->hostname, sizeof(n.hostname));
	memcpy(n.nic_new, vm->config.mac, sizeof(n.nic_new));
	if (vm->net)
		vnet_set_mac(vm->net, n.nic_new, n.nic_old);
	identity_tell(vm, &n);
}

/* "none": nobody listens; "idle": it was told nothing; "waiting": it has not
 * answered; or its answer. */
static json_t *identity_guest(struct vm *vm)
{
	struct agent_answer a = {AGENT_IDLE};
	json_t *j;

	if (!vm->agent || !vcon_is_open(vm->console, AGENT_PORT))
		return json_pack("{s:s}", "agent", "none");
	agent_answer(vm->agent, &a);
	if (a.state == AGENT_IDLE)
		return json_pack("{s:s}", "agent", "idle");
	if (a.state == AGENT_TOLD)
		return json_pack("{s:s}", "agent", "waiting");
	j = json_pack("{s:s}", "agent", "answered");
	for (unsigned i = 0; i < AGENT_THINGS; i++)
		if (a.result[i][0])
			json_object_set_new(j, agent_things[i],
					    json_string(a.result[i]));
	return j;
}

json_t *vm_identity_json(struct vm *vm)
{
	u8 id[VMGENID_SIZE], mac[6];
	char hex[2 * VMGENID_SIZE + 1], text[VM_MAC_TEXT];
	json_t *j;

	pc_generation(vm->pc, id);
	for (unsigned i = 0; i < VMGENID_SIZE; i++)
		snprintf(hex + 2 * i, 3, "%02x", id[i]);
	j = json_pack("{s:s, s:s, s:o}", "name", vm->config.name, "generation",
		      hex, "guest", identity_guest(vm));
	if (vm->net) {
		vnet_mac(vm->net, mac);
		vm_mac_text(mac, text);
		json_object_set_new(j, "guest_mac", json_string(text));
	}
	if (vm->config.vsock.cid)
		json_object_set_new(j, "guest_cid",
				    json_integer(vm->config.vsock.cid));
	if (vm->hostname[0])
		json_object_set_new(j, "host_name", json_string(vm->hostname));
	return j;
}
