/* SPDX-License-Identifier: BSD-2-Clause */
/* State of a VM with --nested: where its own KVM is in running a guest. The
 * special registers are set before it (they say whether SVM is on). */
#include <errno.h>
#include <string.h>

#include "cpu/kvm/kvm_priv.h"

int kstate_nested_get(int fd, struct cpu_state *s)
{
	struct kvm_nested_state head = {.size = sizeof(s->nested)};
	int rc;

	memcpy(s->nested, &head, sizeof(head));
	rc = kvm_ioctl(fd, KVM_GET_NESTED_STATE, s->nested);
	memcpy(&head, s->nested, sizeof(head));
	s->nested_size = rc < 0 ? 0 : MIN(head.size, sizeof(s->nested));
	return rc;
}

int kstate_nested_set(int fd, const struct cpu_state *s)
{
	struct kvm_nested_state head;
	u8 copy[NESTED_STATE_SIZE];

	if (!s->nested_size)
		return 0;
	/* Only the length that was checked counts, whatever the data say. */
	memcpy(&head, s->nested, sizeof(head));
	if (s->nested_size < sizeof(head) || head.size != s->nested_size)
		return -EINVAL;
	memcpy(copy, s->nested, sizeof(copy));
	return kvm_ioctl(fd, KVM_SET_NESTED_STATE, copy);
}
