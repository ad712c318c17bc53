/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Virtio devices (virtio 1.2, chapters 2 and 3): what all have in common, and
 * the seam between a device type (device/virtio_*.c) and its transport
 * (virtio_pci.c).
 *
 * A device type embeds struct virtio first in its own struct. Its registers
 * begin with struct virtio_regs, its field table with VIRTIO_FIELDS.
 *
 * One lock, dev.lock, guards everything of a device: registers, queues, the
 * type's own data. All ops are called with it held. Kicks arrive by an
 * eventfd for each queue, watched by the device's loop; that loop's thread
 * moves the data. Lock order: virtio's dev.lock > pci_dev's.
 */
#ifndef BUS_VIRTIO_H
#define BUS_VIRTIO_H

#include "base/loop.h"
#include "bus/dev.h"
#include "bus/virtq.h"

#define VIRTIO_QUEUES    32
#define VIRTIO_NO_VECTOR 0xffff

enum {
	VIRTIO_STATUS_ACKNOWLEDGE = 1,
	VIRTIO_STATUS_DRIVER = 2,
	VIRTIO_STATUS_DRIVER_OK = 4,
	VIRTIO_STATUS_FEATURES_OK = 8,
	VIRTIO_STATUS_NEEDS_RESET = 64,
	VIRTIO_STATUS_FAILED = 128,
};

enum {
	VIRTIO_ISR_QUEUE = 1,
	VIRTIO_ISR_CONFIG = 2,
};

#define VIRTIO_F_INDIRECT_DESC BIT64(28)
#define VIRTIO_F_EVENT_IDX     BIT64(29)
#define VIRTIO_F_VERSION_1     BIT64(32)
#define VIRTIO_F_RING_PACKED   BIT64(34)
#define VIRTIO_F_RING_RESET    BIT64(40)
#define VIRTIO_F_TRANSPORT                                                  \
	(VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1 | \
	 VIRTIO_F_RING_PACKED | VIRTIO_F_RING_RESET)

enum virtio_id {
	VIRTIO_ID_NET = 1,
	VIRTIO_ID_BLK = 2,
	VIRTIO_ID_CONSOLE = 3,
	VIRTIO_ID_RNG = 4,
	VIRTIO_ID_BALLOON = 5,
	VIRTIO_ID_VSOCK = 19,
};

/* Saved. The q_ arrays are up to date only between saving and loading: while
 * the machine runs, struct virtq has them. */
struct virtio_regs {
	u64 driver_features;
	u32 device_feature_select, driver_feature_select;
	u16 queue_select;
	u16 config_vector;
	u8 status;
	u8 generation;
	u8 isr;
	u8 started; /* features were agreed and DRIVER_OK was seen */
	u64 q_desc[VIRTIO_QUEUES], q_driver[VIRTIO_QUEUES];
	u64 q_device[VIRTIO_QUEUES];
	u16 q_size[VIRTIO_QUEUES], q_vector[VIRTIO_QUEUES];
	u16 q_enabled[VIRTIO_QUEUES];
	u16 q_avail[VIRTIO_QUEUES], q_avail_wrap[VIRTIO_QUEUES];
	u16 q_used[VIRTIO_QUEUES], q_used_wrap[VIRTIO_QUEUES];
};

/* T: the type's registers, of which member v is the struct virtio_regs. */
#define VIRTIO_FIELDS(T)                                                       \
	STATE(T, v.driver_features, 1), STATE(T, v.device_feature_select, 1),  \
		STATE(T, v.driver_feature_select, 1),                          \
		STATE(T, v.queue_select, 1), STATE(T, v.config_vector, 1),     \
		STATE(T, v.status, 1), STATE(T, v.generation, 1),              \
		STATE(T, v.isr, 1), STATE(T, v.started, 1),                    \
		STATE_ARRAY(T, v.q_desc, 1), STATE_ARRAY(T, v.q_driver, 1),    \
		STATE_ARRAY(T, v.q_device, 1), STATE_ARRAY(T, v.q_size, 1),    \
		STATE_ARRAY(T, v.q_vector, 1), STATE_ARRAY(T, v.q_enabled, 1), \
		STATE_ARRAY(T, v.q_avail, 1),                                  \
		STATE_ARRAY(T, v.q_avail_wrap, 1),                             \
		STATE_ARRAY(T, v.q_used, 1), STATE_ARRAY(T, v.q_used_wrap, 1)

/* A type's dev_class; the second for one that does more to pause. */
#define VIRTIO_CLASS(n, s) VIRTIO_CLASS_PAUSE(n, s, virtio_dev_pause)
#define VIRTIO_CLASS_PAUSE(n, s, p)                                       \
	{                                                                 \
		.name = (n), .state = (s), .reset = virtio_dev_reset,     \
		.saving = virtio_dev_saving, .loaded = virtio_dev_loaded, \
		.fits = virtio_dev_fits, .pause = (p),                    \
		.resume = virtio_dev_resume, .free = virtio_dev_free,     \
	}
void virtio_dev_reset(struct dev *d);
void virtio_dev_saving(struct dev *d);
void virtio_dev_loaded(struct dev *d);
int virtio_dev_fits(struct dev *d, const void *regs, struct err *e);
void virtio_dev_pause(struct dev *d);
void virtio_dev_resume(struct dev *d);
void virtio_dev_free(struct dev *d);
/* For state_desc.check of registers that begin with struct virtio_regs. */
int virtio_check(const void *regs, struct err *e);

struct virtio;

/* All NULL-able; dev.lock held. */
struct virtio_ops {
	/* There may be work in queue q. The device's loop. */
	void (*kick)(struct virtio *v, unsigned q);
	/* The driver asks for these features of those offered: all right? */
	bool (*features)(struct virtio *v, u64 features);
	/* The driver wrote len bytes of val at off of the configuration. */
	void (*config_write)(struct virtio *v, u32 off, u64 val, unsigned len);
	/* Queue q starts or has ended; no request of it is under way. */
	void (*queue_start)(struct virtio *v, unsigned q);
	void (*queue_stop)(struct virtio *v, unsigned q);
	/* To the state after power-on; queues have been stopped. */
	void (*reset)(struct virtio *v);
	/* Saved registers were loaded. */
	void (*loaded)(struct virtio *v);
	/* The lock is not held: frees what the type owns, not v. */
	void (*free)(struct virtio *v);
};

struct virtio_type {
	enum virtio_id id;
	u32 pci_class;
	const struct virtio_ops *ops;
};

struct virtio_transport {
	void (*queue_irq)(void *arg, u16 vector);
	void (*config_irq)(void *arg, u16 vector);
	void (*isr_clear)(void *arg);
	bool (*may_dma)(void *arg);
};

struct virtio_queue {
	struct virtq q;
	struct virtio *v;
	unsigned inflight; /* requests taken and not given back */
	int kick_fd;
	struct loop_fd *watch;
	u64 kicks;      /* atomic; times the loop was woken for it */
	u64 kick_exits; /* atomic; notifications that made an exit */
};

struct virtio {
	struct dev dev; /* first; lock: everything here */
	struct virtio_regs *r;
	const struct virtio_type *type;
	struct mem *mem;
	struct loop *loop; /* whose thread serves the queues */
	u64 features;      /* offered */
	void *config;      /* the type's configuration space */
	u32 config_len;
	unsigned nqueues;
	u16 queue_max;
	struct virtio_queue *queue;
	const struct virtio_transport *transport;
	void *transport_arg;
	pthread_cond_t changed; /* inflight became 0; changing ended */
	bool changing;          /* a reset waits for requests under way */
	bool paused;
	u64 broken; /* times a driver broke the rules */
};

/*
 * Fills in v, whose regs begin with a struct virtio_regs. features: the
 * type's own and those of VIRTIO_F_TRANSPORT that it wants. v->config is set
 * afterwards. virtio_start() begins to watch for kicks.
 */
int virtio_init(struct virtio *v, const struct virtio_type *t,
		const struct dev_class *class, void *regs, struct mem *mem,
		struct loop *loop, unsigned nqueues, u16 queue_max,
		u64 features, struct err *e);
int virtio_start(struct virtio *v, struct err *e);
/* Stops watching; nothing of v runs afterwards. Then fini. */
void virtio_stop(struct virtio *v);
void virtio_fini(struct virtio *v);

/* ---- for device types; lock held unless said otherwise ---- */

static inline struct virtq *virtio_q(struct virtio *v, unsigned q)
{
	return &v->queue[q].q;
}

static inline bool virtio_has(const struct virtio *v, u64 feature)
{
	return v->r->driver_features & feature;
}

/* May queue q be served now, by this thread? */
bool virtio_ready(struct virtio *v, unsigned q);
/* Interrupts for queue q, if the driver wants it. */
void virtio_signal(struct virtio *v, unsigned q);
/* v->config was changed by the device. */
void virtio_config_changed(struct virtio *v);
/* The driver broke the device's own rules (why: a constant). */
void virtio_fail(struct virtio *v, unsigned q, const char *why);
/* Counts requests that outlive kick(), so that a reset waits for them. */
void virtio_hold(struct virtio *v, unsigned q);
void virtio_release(struct virtio *v, unsigned q);
/* Lets kick() run (again) on the loop. Any thread, lock held or not. */
void virtio_kick(struct virtio *v, unsigned q);
void virtio_kick_all(struct virtio *v);

/* After pause no request is under way and none begins. Lock not held. */
void virtio_pause(struct virtio *v);
void virtio_resume(struct virtio *v);

/* ---- for transports; lock held ---- */

/* Takes the lock, after a reset under way has ended. */
void virtio_lock(struct virtio *v);
void virtio_unlock(struct virtio *v);
u32 virtio_features_read(struct virtio *v, u32 select);
void virtio_features_write(struct virtio *v, u32 select, u32 val);
void virtio_status_write(struct virtio *v, u8 val);
void virtio_queue_size(struct virtio *v, unsigned q, u16 size);
void virtio_queue_enable(struct virtio *v, unsigned q);
void virtio_queue_reset(struct virtio *v, unsigned q);
/* len bytes at off of the configuration; past its end zero, dropped. */
u64 virtio_config_read(struct virtio *v, u64 off, unsigned len);
void virtio_config_write(struct virtio *v, u64 off, u64 val, unsigned len);
u8 virtio_isr_read(struct virtio *v);

#endif
