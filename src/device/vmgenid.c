/* SPDX-License-Identifier: BSD-2-Clause */
#include "device/vmgenid.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

struct vmgenid_regs {
	u8 id[VMGENID_SIZE];
};

struct vmgenid {
	struct dev dev;
	struct vmgenid_regs r; /* dev.lock */
	struct vmgenid_config c;
};

static void vmgenid_draw(u8 id[VMGENID_SIZE])
{
	/* 16 bytes come whole or, early in the host's boot, after a wait. */
	while (getrandom(id, VMGENID_SIZE, 0) < 0 && errno == EINTR)
		;
}

/* A machine that starts again has the same life, but its memory is new. */
static void vmgenid_reset(struct dev *d)
{
	struct vmgenid *v = (struct vmgenid *)d;

	mem_write(v->c.mem, v->c.gpa, v->r.id, VMGENID_SIZE);
}

void vmgenid_renew(struct vmgenid *v)
{
	pthread_mutex_lock(&v->dev.lock);
	vmgenid_draw(v->r.id);
	mem_write(v->c.mem, v->c.gpa, v->r.id, VMGENID_SIZE);
	pthread_mutex_unlock(&v->dev.lock);
	v->c.changed(v->c.arg);
}

void vmgenid_get(struct vmgenid *v, u8 id[VMGENID_SIZE])
{
	pthread_mutex_lock(&v->dev.lock);
	memcpy(id, v->r.id, VMGENID_SIZE);
	pthread_mutex_unlock(&v->dev.lock);
}

static const struct state_field vmgenid_fields[] = {
	STATE_ARRAY(struct vmgenid_regs, id, 1),
};

static const struct state_desc vmgenid_state = {
	.name = "vmgenid",
	.version = 1,
	.size = sizeof(struct vmgenid_regs),
	.fields = vmgenid_fields,
	.nfields = ARRAY_LEN(vmgenid_fields),
};

static const struct dev_class vmgenid_class = {
	.name = "vmgenid",
	.state = &vmgenid_state,
	.reset = vmgenid_reset,
};

struct vmgenid *vmgenid_new(const struct vmgenid_config *c)
{
	struct vmgenid *v = calloc(1, sizeof(*v));

	if (!v)
		return NULL;
	dev_init(&v->dev, &vmgenid_class, &v->r);
	v->c = *c;
	vmgenid_draw(v->r.id);
	return v;
}
