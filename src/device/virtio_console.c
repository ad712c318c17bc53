/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio console (virtio 1.2, 5.3). Port 0 is the console; with named ports
 * the device has two control queues as well, by which both sides say which
 * ports there are and which are open.
 *
 * Nothing is dropped: output goes to the backend with the lock given up, so
 * that a backend may block; input that finds no buffer stays with the backend.
 */
#include "device/virtio_console.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "device/virtio_thread.h"

#define VCON_QUEUE_MAX 64
#define VCON_NAME_MAX  64

#define VCON_F_SIZE        BIT64(0)
#define VCON_F_MULTIPORT   BIT64(1)
#define VCON_F_EMERG_WRITE BIT64(2)

enum { VCON_CONTROL_RX = 2, VCON_CONTROL_TX = 3 };

enum {
	VCON_DEVICE_READY = 0,
	VCON_DEVICE_ADD = 1,
	VCON_PORT_READY = 3,
	VCON_CONSOLE_PORT = 4,
	VCON_RESIZE = 5,
	VCON_PORT_OPEN = 6,
	VCON_PORT_NAME = 7,
};

struct vcon_control {
	u32 id;
	u16 event, value;
};

struct vcon_config {
	u16 cols, rows;
	u32 max_nr_ports, emerg_wr;
};

struct vcon_regs {
	struct virtio_regs v;
	u32 cols, rows;
	u8 open[VCON_PORTS + 1];    /* by the guest */
	u8 pending[VCON_PORTS + 1]; /* messages to send: bits by event */
	u8 closed[VCON_PORTS + 1];  /* by the host */
};

struct vcon;

struct vcon_port {
	struct vcon *c;
	unsigned id;
	const char *name; /* NULL: the console */
	struct chr *chr;  /* owned; may be NULL */
	bool stalled;     /* the chr holds input */
	bool hasted;      /* and perhaps output */
};

struct vcon {
	struct virtio v; /* first */
	struct vcon_regs r;
	struct vcon_config config;
	struct vcon_port port[VCON_PORTS];
	unsigned nports;
	struct vthread thread;
	struct virtq_chain tx; /* the device's thread */
	struct virtq_chain rx; /* dev.lock */
};

static struct vcon *vcon_of(struct virtio *v)
{
	return container_of(v, struct vcon, v);
}

static unsigned vcon_rx(unsigned port)
{
	return port ? 2 + 2 * port : 0;
}

static unsigned vcon_port_of(unsigned queue)
{
	return queue < 2 ? 0 : queue / 2 - 1;
}

static bool vcon_multiport(const struct vcon *c)
{
	return virtio_has(&c->v, VCON_F_MULTIPORT);
}

/* Linux drops what arrives at a port that nobody has opened: it waits. */
static bool vcon_open(const struct vcon_port *p)
{
	const struct vcon *c = p->c;

	return vcon_multiport(c) ? c->r.open[p->id] : p->id == 0;
}

/* ---- control messages to the guest ---- */

static void vcon_tell(struct vcon *c, unsigned port, unsigned event)
{
	c->r.pending[port] |= (u8)BIT(event);
}

/*
 * The order of rows and columns in this message is the one that Linux reads,
 * not the one that the specification (5.3.6.2) gives.
 */
static unsigned vcon_message(struct vcon *c, unsigned port, unsigned event,
			     u8 *out)
{
	const char *name = c->port[port].name;
	struct vcon_control m = {.id = port, .event = (u16)event, .value = 1};
	unsigned len = sizeof(m);

	if (event == VCON_PORT_OPEN)
		m.value = !c->r.closed[port];
	memcpy(out, &m, len);
	if (event == VCON_RESIZE) {
		memcpy(out + len, &c->r.rows, 2);
		memcpy(out + len + 2, &c->r.cols, 2);
		len += 4;
	}
	if (event == VCON_PORT_NAME) {
		memcpy(out + len, name, strnlen(name, VCON_NAME_MAX));
		len += (unsigned)strnlen(name, VCON_NAME_MAX);
	}
	return len;
}

/* The next message of a port: in the order of their numbers. */
static bool vcon_send_one(struct vcon *c, unsigned port)
{
	struct virtq *q = virtio_q(&c->v, VCON_CONTROL_RX);
	unsigned event = (unsigned)__builtin_ctz(c->r.pending[port]);
	u8 text[sizeof(struct vcon_control) + VCON_NAME_MAX];
	unsigned len;

	if (!virtq_pop(q, &c->rx))
		return false;
	len = vcon_message(c, port, event, text);
	virtq_push(q, &c->rx, (u32)virtq_scatter(&c->rx, 0, text, len));
	c->r.pending[port] &= (u8)~BIT(event);
	return true;
}

static void vcon_send(struct vcon *c)
{
	if (!vcon_multiport(c) || !virtio_ready(&c->v, VCON_CONTROL_RX))
		return;
	for (unsigned i = 0; i < c->nports; i++)
		while (c->r.pending[i])
			if (!vcon_send_one(c, i))
				goto out;
out:
	virtio_signal(&c->v, VCON_CONTROL_RX);
}

/* ---- control messages from the guest ---- */

static void vcon_describe(struct vcon *c, unsigned port)
{
	vcon_tell(c, port,
		  c->port[port].name ? VCON_PORT_NAME : VCON_CONSOLE_PORT);
	if (!port && c->r.cols)
		vcon_tell(c, port, VCON_RESIZE);
	if (!c->r.closed[port])
		vcon_tell(c, port, VCON_PORT_OPEN);
}

static void vcon_control(struct vcon *c, const struct vcon_control *m)
{
	if (m->event == VCON_DEVICE_READY && m->value)
		for (unsigned i = 0; i < c->nports; i++)
			vcon_tell(c, i, VCON_DEVICE_ADD);
	if (m->id >= c->nports)
		return;
	if (m->event == VCON_PORT_READY && m->value)
		vcon_describe(c, m->id);
	if (m->event == VCON_PORT_OPEN) {
		c->r.open[m->id] = m->value == 1;
		if (m->value)
			chr_input_ready(c->port[m->id].chr);
	}
}

static void vcon_control_tx(struct vcon *c)
{
	struct virtq *q = virtio_q(&c->v, VCON_CONTROL_TX);
	unsigned budget = q->s.size;
	struct vcon_control m;

	do {
		while (budget && virtq_pop(q, &c->tx)) {
			budget--;
			if (virtq_gather(&c->tx, 0, &m, sizeof(m)) == sizeof(m))
				vcon_control(c, &m);
			virtq_push(q, &c->tx, 0);
		}
	} while (budget && virtq_kicks(q, true));
	virtio_signal(&c->v, VCON_CONTROL_TX);
	if (!budget)
		virtio_kick(&c->v, VCON_CONTROL_TX);
	vcon_send(c);
}

/* ---- data ---- */

/* The lock is given up; the hold makes a reset wait. */
static void vcon_output(struct vcon *c, struct vcon_port *p, unsigned queue)
{
	virtio_hold(&c->v, queue);
	pthread_mutex_unlock(&c->v.dev.lock);
	for (unsigned i = 0; i < c->tx.nout; i++)
		chr_write(p->chr, c->tx.out[i].iov_base, c->tx.out[i].iov_len);
	pthread_mutex_lock(&c->v.dev.lock);
	virtq_push(virtio_q(&c->v, queue), &c->tx, 0);
	virtio_release(&c->v, queue);
}

/* What was taken in haste is written now, or when there is room. */
static void vcon_flush(struct vcon *c, struct vcon_port *p, unsigned queue)
{
	p->hasted = false;
	virtio_hold(&c->v, queue);
	pthread_mutex_unlock(&c->v.dev.lock);
	chr_write(p->chr, "", 0);
	pthread_mutex_lock(&c->v.dev.lock);
	virtio_release(&c->v, queue);
}

static void vcon_data_tx(struct vcon *c, unsigned queue)
{
	struct vcon_port *p = &c->port[vcon_port_of(queue)];
	struct virtq *q = virtio_q(&c->v, queue);
	unsigned budget = q->s.size;

	if (p->hasted)
		vcon_flush(c, p, queue);
	do {
		while (budget && virtio_ready(&c->v, queue) &&
		       virtq_pop(q, &c->tx)) {
			budget--;
			vcon_output(c, p, queue);
			virtio_signal(&c->v, queue);
		}
	} while (budget && virtio_ready(&c->v, queue) && virtq_kicks(q, true));
	if (!budget)
		virtio_kick(&c->v, queue);
}

/* Fills the guest's buffers; how many bytes they took. */
static size_t vcon_fill(struct vcon *c, unsigned queue, const u8 *buf, size_t n)
{
	struct virtq *q = virtio_q(&c->v, queue);
	size_t done = 0;

	while (done < n && virtq_pop(q, &c->rx)) {
		u64 part = virtq_scatter(&c->rx, 0, buf + done, n - done);

		virtq_push(q, &c->rx, (u32)part);
		if (!part) {
			virtio_fail(&c->v, queue, "input buffer of no bytes");
			break;
		}
		done += part;
	}
	virtio_signal(&c->v, queue);
	return done;
}

static void vcon_hang_up(struct vcon_port *p)
{
	struct vcon *c = p->c;

	if (!p->name || c->r.closed[p->id])
		return;
	c->r.closed[p->id] = 1;
	vcon_tell(c, p->id, VCON_PORT_OPEN);
	vcon_send(c);
}

/* From the backend, on its loop's thread: never waits for a reset. */
static size_t vcon_input(void *arg, const u8 *buf, size_t n)
{
	struct vcon_port *p = arg;
	struct vcon *c = p->c;
	unsigned queue = vcon_rx(p->id);
	size_t done = 0;

	pthread_mutex_lock(&c->v.dev.lock);
	if (!n)
		vcon_hang_up(p);
	else if (vcon_open(p) && virtio_ready(&c->v, queue))
		do
			done += vcon_fill(c, queue, buf + done, n - done);
		while (done < n && virtq_kicks(virtio_q(&c->v, queue), true));
	p->stalled = done < n;
	pthread_mutex_unlock(&c->v.dev.lock);
	return done;
}

static void vcon_data_rx(struct vcon *c, unsigned queue)
{
	struct vcon_port *p = &c->port[vcon_port_of(queue)];

	if (!p->stalled || !vcon_open(p))
		return;
	p->stalled = false;
	chr_input_ready(p->chr);
}

static void vcon_kick(struct virtio *v, unsigned queue)
{
	struct vcon *c = vcon_of(v);

	if (queue == VCON_CONTROL_RX)
		vcon_send(c);
	else if (queue == VCON_CONTROL_TX)
		vcon_control_tx(c);
	else if (queue & 1)
		vcon_data_tx(c, queue);
	else
		vcon_data_rx(c, queue);
}

/* ---- the rest ---- */

static void vcon_config_write(struct virtio *v, u32 off, u64 val, unsigned len)
{
	u8 byte = (u8)val;

	if (off == offsetof(struct vcon_config, emerg_wr) && len)
		chr_write(vcon_of(v)->port[0].chr, &byte, 1);
}

static void vcon_reset(struct virtio *v)
{
	struct vcon *c = vcon_of(v);

	memset(c->r.open, 0, sizeof(c->r.open));
	memset(c->r.pending, 0, sizeof(c->r.pending));
}

static void vcon_size_config(struct vcon *c)
{
	c->config.cols = (u16)c->r.cols;
	c->config.rows = (u16)c->r.rows;
}

static void vcon_loaded(struct virtio *v)
{
	struct vcon *c = vcon_of(v);

	vcon_size_config(c);
	for (unsigned i = 0; i < c->nports; i++)
		chr_input_ready(c->port[i].chr);
}

void vcon_resize(struct virtio *v, u16 cols, u16 rows)
{
	struct vcon *c = vcon_of(v);

	pthread_mutex_lock(&v->dev.lock);
	c->r.cols = cols;
	c->r.rows = rows;
	vcon_size_config(c);
	virtio_config_changed(v);
	if (vcon_multiport(c) && c->r.open[0]) {
		vcon_tell(c, 0, VCON_RESIZE);
		vcon_send(c);
	}
	pthread_mutex_unlock(&v->dev.lock);
}

bool vcon_is_open(struct virtio *v, const char *name)
{
	struct vcon *c = vcon_of(v);
	bool open = false;

	pthread_mutex_lock(&v->dev.lock);
	for (unsigned i = 1; i < c->nports; i++)
		open |= !strcmp(c->port[i].name, name) &&
			vcon_open(&c->port[i]);
	pthread_mutex_unlock(&v->dev.lock);
	return open;
}

static void vcon_free(struct virtio *v)
{
	struct vcon *c = vcon_of(v);

	vthread_stop(&c->thread);
	for (unsigned i = 0; i < c->nports; i++)
		chr_free(c->port[i].chr);
	vthread_free(&c->thread);
}

static const struct virtio_ops vcon_ops = {
	.kick = vcon_kick,
	.config_write = vcon_config_write,
	.reset = vcon_reset,
	.loaded = vcon_loaded,
	.free = vcon_free,
};

static const struct virtio_type vcon_type = {
	.id = VIRTIO_ID_CONSOLE,
	.pci_class = 0x078000,
	.ops = &vcon_ops,
};

static const struct state_field vcon_fields[] = {
	VIRTIO_FIELDS(struct vcon_regs),
	STATE(struct vcon_regs, cols, 1),
	STATE(struct vcon_regs, rows, 1),
	STATE_ARRAY(struct vcon_regs, open, 1),
	STATE_ARRAY(struct vcon_regs, pending, 1),
	STATE_ARRAY(struct vcon_regs, closed, 1),
};

static const struct state_desc vcon_state = {
	.name = "virtio-console",
	.version = 1,
	.size = sizeof(struct vcon_regs),
	.fields = vcon_fields,
	.nfields = ARRAY_LEN(vcon_fields),
	.check = virtio_check,
};

/* A request under way may wait for whoever reads a port's output. */
static void vcon_pause(struct dev *d)
{
	struct vcon *c = (struct vcon *)container_of(d, struct virtio, dev);

	for (unsigned i = 0; i < c->nports; i++)
		chr_haste(c->port[i].chr, true);
	virtio_dev_pause(d);
	for (unsigned i = 0; i < c->nports; i++) {
		chr_haste(c->port[i].chr, false);
		c->port[i].hasted = true; /* nothing runs */
	}
}

static const struct dev_class vcon_class =
	VIRTIO_CLASS_PAUSE("virtio-console", &vcon_state, vcon_pause);

static void vcon_add(struct vcon *c, const char *name, struct chr *chr)
{
	c->port[c->nports] = (struct vcon_port){
		.c = c,
		.id = c->nports,
		.name = name,
		.chr = chr,
	};
	c->nports++;
}

static int vcon_start(struct vcon *c, struct mem *m, struct err *e)
{
	u64 features = VIRTIO_F_TRANSPORT | VCON_F_SIZE | VCON_F_EMERG_WRITE;
	unsigned queues = 2;
	int rc = vthread_start(&c->thread, "virtio-console", e);

	if (rc)
		return rc;
	if (c->nports > 1) {
		features |= VCON_F_MULTIPORT;
		queues = 2 + 2 * c->nports;
	}
	rc = virtio_init(&c->v, &vcon_type, &vcon_class, &c->r, m,
			 c->thread.loop, queues, VCON_QUEUE_MAX, features, e);
	if (rc)
		return rc;
	c->config.max_nr_ports = c->nports;
	c->v.config = &c->config;
	c->v.config_len = sizeof(c->config);
	for (unsigned i = 0; i < c->nports; i++)
		chr_receive(c->port[i].chr, vcon_input, &c->port[i]);
	return 0;
}

struct virtio *vcon_new(struct mem *m, struct chr *console,
			const struct vcon_named *ports, unsigned nports,
			struct err *e)
{
	struct vcon *c = calloc(1, sizeof(*c));

	ASSERT(nports < VCON_PORTS);
	if (!c) {
		chr_free(console);
		for (unsigned i = 0; i < nports; i++)
			chr_free(ports[i].chr);
		err_set(e, -ENOMEM, "no memory for a console");
		return NULL;
	}
	vcon_add(c, NULL, console);
	for (unsigned i = 0; i < nports; i++)
		vcon_add(c, ports[i].name, ports[i].chr);
	if (!vcon_start(c, m, e))
		return &c->v;
	vcon_free(&c->v);
	free(c);
	return NULL;
}
