/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio entropy device (virtio 1.2, 5.4): getrandom() into the guest's
 * buffers, in pieces small enough that a guest with huge buffers does not
 * hold up the loop.
 */
#include "device/virtio_rng.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/random.h>

#define VRNG_QUEUE_MAX 64
#define VRNG_AT_ONCE   4096u /* bytes of one request */
#define VRNG_REQUESTS  16u   /* of one kick */

struct vrng_regs {
	struct virtio_regs v;
};

struct vrng {
	struct virtio v; /* first */
	struct vrng_regs r;
	struct virtq_chain chain;
};

/* How many bytes the buffers got; fewer than they hold is allowed. */
static u32 vrng_fill(const struct virtq_chain *c)
{
	u8 buf[VRNG_AT_ONCE];
	u64 want = MIN(c->in_len, sizeof(buf));
	ssize_t n = getrandom(buf, want, GRND_NONBLOCK);

	return n > 0 ? (u32)virtq_scatter(c, 0, buf, (u64)n) : 0;
}

static void vrng_kick(struct virtio *v, unsigned queue)
{
	struct vrng *g = container_of(v, struct vrng, v);
	struct virtq *q = virtio_q(v, queue);
	unsigned budget = VRNG_REQUESTS;

	do {
		while (budget && virtq_pop(q, &g->chain)) {
			budget--;
			virtq_push(q, &g->chain, vrng_fill(&g->chain));
		}
	} while (budget && virtq_kicks(q, true));
	virtio_signal(v, queue);
	if (!budget)
		virtio_kick(v, queue);
}

static const struct virtio_ops vrng_ops = {.kick = vrng_kick};

static const struct virtio_type vrng_type = {
	.id = VIRTIO_ID_RNG,
	.pci_class = 0x00ff00,
	.ops = &vrng_ops,
};

static const struct state_field vrng_fields[] = {
	VIRTIO_FIELDS(struct vrng_regs),
};

static const struct state_desc vrng_state = {
	.name = "virtio-rng",
	.version = 1,
	.size = sizeof(struct vrng_regs),
	.fields = vrng_fields,
	.nfields = ARRAY_LEN(vrng_fields),
	.check = virtio_check,
};

static const struct dev_class vrng_class =
	VIRTIO_CLASS("virtio-rng", &vrng_state);

struct virtio *vrng_new(struct mem *m, struct loop *l, struct err *e)
{
	struct vrng *g = calloc(1, sizeof(*g));

	if (!g) {
		err_set(e, -ENOMEM, "no memory for an entropy device");
		return NULL;
	}
	if (!virtio_init(&g->v, &vrng_type, &vrng_class, &g->r, m, l, 1,
			 VRNG_QUEUE_MAX, VIRTIO_F_TRANSPORT, e))
		return &g->v;
	free(g);
	return NULL;
}
