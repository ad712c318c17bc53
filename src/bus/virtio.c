/* SPDX-License-Identifier: BSD-2-Clause */
#include "bus/virtio.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/log.h"

/* ---- the device's side ---- */

bool virtio_ready(struct virtio *v, unsigned q)
{
	const struct virtq *vq = virtio_q(v, q);

	return v->r->started && !v->paused && vq->running && !vq->why &&
	       !mem_would_sleep(v->mem) && v->transport &&
	       v->transport->may_dma(v->transport_arg);
}

void virtio_signal(struct virtio *v, unsigned q)
{
	struct virtq *vq = virtio_q(v, q);

	if (!virtq_notify(vq) || !v->transport)
		return;
	v->r->isr |= VIRTIO_ISR_QUEUE;
	v->transport->queue_irq(v->transport_arg, vq->s.vector);
}

void virtio_config_changed(struct virtio *v)
{
	v->r->generation++;
	if (!v->r->started || !v->transport)
		return;
	v->r->isr |= VIRTIO_ISR_CONFIG;
	v->transport->config_irq(v->transport_arg, v->r->config_vector);
}

static void virtio_broken(struct virtq *q)
{
	struct virtio *v = q->arg;

	v->broken++;
	log_guest("%s %u: queue %u: %s; the device needs a reset",
		  v->dev.class->name, v->dev.instance, q->index, q->why);
	v->r->status |= VIRTIO_STATUS_NEEDS_RESET;
	virtio_config_changed(v);
}

void virtio_fail(struct virtio *v, unsigned q, const char *why)
{
	virtq_fail(virtio_q(v, q), why);
}

void virtio_hold(struct virtio *v, unsigned q)
{
	v->queue[q].inflight++;
}

void virtio_release(struct virtio *v, unsigned q)
{
	ASSERT(v->queue[q].inflight);
	if (!--v->queue[q].inflight)
		pthread_cond_broadcast(&v->changed);
}

void virtio_kick(struct virtio *v, unsigned q)
{
	eventfd_write(v->queue[q].kick_fd, 1);
}

void virtio_kick_all(struct virtio *v)
{
	for (unsigned i = 0; i < v->nqueues; i++)
		virtio_kick(v, i);
}

static void virtio_kicked(void *arg, u32 events)
{
	struct virtio_queue *vq = arg;
	struct virtio *v = vq->v;
	eventfd_t n;

	(void)events;
	eventfd_read(vq->kick_fd, &n);
	__atomic_fetch_add(&vq->kicks, 1, __ATOMIC_RELAXED);
	pthread_mutex_lock(&v->dev.lock);
	if (virtio_ready(v, vq->q.index) && v->type->ops->kick)
		v->type->ops->kick(v, vq->q.index);
	pthread_mutex_unlock(&v->dev.lock);
}

static void virtio_wait_idle(struct virtio *v, unsigned q)
{
	while (v->queue[q].inflight)
		pthread_cond_wait(&v->changed, &v->dev.lock);
}

void virtio_pause(struct virtio *v)
{
	virtio_lock(v);
	v->paused = true;
	for (unsigned i = 0; i < v->nqueues; i++)
		virtio_wait_idle(v, i);
	virtio_unlock(v);
}

void virtio_resume(struct virtio *v)
{
	virtio_lock(v);
	v->paused = false;
	virtio_unlock(v);
	virtio_kick_all(v);
}

/* ---- the transport's side ---- */

void virtio_lock(struct virtio *v)
{
	pthread_mutex_lock(&v->dev.lock);
	while (v->changing)
		pthread_cond_wait(&v->changed, &v->dev.lock);
}

void virtio_unlock(struct virtio *v)
{
	pthread_mutex_unlock(&v->dev.lock);
}

u32 virtio_features_read(struct virtio *v, u32 select)
{
	return select < 2 ? (u32)(v->features >> (32 * select)) : 0;
}

void virtio_features_write(struct virtio *v, u32 select, u32 val)
{
	unsigned shift = 32 * select;
	u64 *f = &v->r->driver_features;

	if (select < 2 && !(v->r->status & VIRTIO_STATUS_FEATURES_OK))
		*f = (*f & ~(0xffffffffull << shift)) | (u64)val << shift;
}

/* What was not offered, or no version 1: the driver finds the bit cleared. */
static bool virtio_features_ok(struct virtio *v)
{
	u64 f = v->r->driver_features;

	if (f & ~v->features || !(f & VIRTIO_F_VERSION_1))
		return false;
	return !v->type->ops->features || v->type->ops->features(v, f);
}

static void virtio_queue_run(struct virtio *v, unsigned q)
{
	struct virtq *vq = virtio_q(v, q);

	if (vq->running || !vq->s.enabled || !v->r->started)
		return;
	vq->packed = virtio_has(v, VIRTIO_F_RING_PACKED);
	vq->indirect = virtio_has(v, VIRTIO_F_INDIRECT_DESC);
	vq->event_idx = virtio_has(v, VIRTIO_F_EVENT_IDX);
	if (!virtq_start(vq))
		return;
	if (v->type->ops->queue_start)
		v->type->ops->queue_start(v, q);
	virtio_kick(v, q);
}

/* The lock is given up while requests under way end. */
static void virtio_queue_end(struct virtio *v, unsigned q)
{
	struct virtq *vq = virtio_q(v, q);
	bool was = vq->running;

	virtq_stop(vq);
	v->changing = true;
	virtio_wait_idle(v, q);
	v->changing = false;
	pthread_cond_broadcast(&v->changed);
	if (was && v->type->ops->queue_stop)
		v->type->ops->queue_stop(v, q);
	virtq_reset(vq, v->queue_max);
}

static void virtio_reset_locked(struct virtio *v)
{
	struct virtio_regs *r = v->r;

	for (unsigned i = 0; i < v->nqueues; i++)
		virtio_queue_end(v, i);
	r->driver_features = 0;
	r->device_feature_select = r->driver_feature_select = 0;
	r->queue_select = 0;
	r->config_vector = VIRTIO_NO_VECTOR;
	r->status = r->isr = r->started = 0;
	if (v->type->ops->reset)
		v->type->ops->reset(v);
	if (v->transport)
		v->transport->isr_clear(v->transport_arg);
}

void virtio_status_write(struct virtio *v, u8 val)
{
	struct virtio_regs *r = v->r;
	u8 now = val | (r->status & VIRTIO_STATUS_NEEDS_RESET);

	if (!val) {
		virtio_reset_locked(v);
		return;
	}
	if (now & ~r->status & VIRTIO_STATUS_FEATURES_OK &&
	    !virtio_features_ok(v))
		now &= (u8)~VIRTIO_STATUS_FEATURES_OK;
	if (!(now & VIRTIO_STATUS_FEATURES_OK))
		now &= (u8)~VIRTIO_STATUS_DRIVER_OK;
	r->status = now;
	if (now & VIRTIO_STATUS_DRIVER_OK && !r->started) {
		r->started = 1;
		for (unsigned i = 0; i < v->nqueues; i++)
			virtio_queue_run(v, i);
	}
}

void virtio_queue_size(struct virtio *v, unsigned q, u16 size)
{
	struct virtq *vq = virtio_q(v, q);

	vq->packed = virtio_has(v, VIRTIO_F_RING_PACKED);
	if (!vq->s.enabled && virtq_size_ok(vq, size, v->queue_max))
		vq->s.size = size;
}

/* A broken queue stays so until it is reset. */
void virtio_queue_enable(struct virtio *v, unsigned q)
{
	struct virtq *vq = virtio_q(v, q);

	if (vq->s.enabled || !(v->r->status & VIRTIO_STATUS_FEATURES_OK))
		return;
	vq->packed = virtio_has(v, VIRTIO_F_RING_PACKED);
	if (!virtq_size_ok(vq, vq->s.size, v->queue_max))
		return;
	vq->s.enabled = 1;
	virtio_queue_run(v, q);
}

void virtio_queue_reset(struct virtio *v, unsigned q)
{
	if (virtio_has(v, VIRTIO_F_RING_RESET))
		virtio_queue_end(v, q);
}

u64 virtio_config_read(struct virtio *v, u64 off, unsigned len)
{
	u64 val = 0;

	if (off < v->config_len)
		memcpy(&val, (u8 *)v->config + off,
		       MIN(len, v->config_len - off));
	return val;
}

void virtio_config_write(struct virtio *v, u64 off, u64 val, unsigned len)
{
	if (off + len <= v->config_len && v->type->ops->config_write)
		v->type->ops->config_write(v, (u32)off, val, len);
}

u8 virtio_isr_read(struct virtio *v)
{
	u8 isr = v->r->isr;

	v->r->isr = 0;
	if (v->transport)
		v->transport->isr_clear(v->transport_arg);
	return isr;
}

/* ---- as a device of the machine ---- */

static struct virtio *virtio_of(struct dev *d)
{
	return container_of(d, struct virtio, dev);
}

void virtio_dev_reset(struct dev *d)
{
	struct virtio *v = virtio_of(d);

	virtio_reset_locked(v);
	v->r->generation = 0;
}

void virtio_dev_saving(struct dev *d)
{
	struct virtio *v = virtio_of(d);
	struct virtio_regs *r = v->r;

	for (unsigned i = 0; i < v->nqueues; i++) {
		const struct virtq_state *s = &virtio_q(v, i)->s;

		r->q_desc[i] = s->desc;
		r->q_driver[i] = s->driver;
		r->q_device[i] = s->device;
		r->q_size[i] = s->size;
		r->q_vector[i] = s->vector;
		r->q_enabled[i] = s->enabled;
		r->q_avail[i] = s->avail;
		r->q_avail_wrap[i] = s->avail_wrap;
		r->q_used[i] = s->used;
		r->q_used_wrap[i] = s->used_wrap;
	}
}

void virtio_dev_loaded(struct dev *d)
{
	struct virtio *v = virtio_of(d);
	const struct virtio_regs *r = v->r;

	for (unsigned i = 0; i < v->nqueues; i++) {
		struct virtq *q = virtio_q(v, i);

		virtq_reset(q, v->queue_max);
		q->s = (struct virtq_state){
			.desc = r->q_desc[i],
			.driver = r->q_driver[i],
			.device = r->q_device[i],
			.size = r->q_size[i],
			.vector = r->q_vector[i],
			.enabled = r->q_enabled[i],
			.avail = r->q_avail[i],
			.avail_wrap = r->q_avail_wrap[i],
			.used = r->q_used[i],
			.used_wrap = r->q_used_wrap[i],
		};
		if (r->status & VIRTIO_STATUS_NEEDS_RESET)
			q->why = "broken before it was saved";
		virtio_queue_run(v, i);
	}
	if (v->type->ops->loaded)
		v->type->ops->loaded(v);
}

int virtio_dev_fits(struct dev *d, const void *regs, struct err *e)
{
	const struct virtio_regs *r = regs;
	struct virtio *v = virtio_of(d);
	u64 more = r->driver_features & ~v->features;

	if (more)
		return err_set(e, -ENODEV,
			       "%s %u: the guest uses features %#lx, which it "
			       "does not have here",
			       d->class->name, d->instance, more);
	for (unsigned i = 0; i < VIRTIO_QUEUES; i++)
		if (r->q_enabled[i] &&
		    (i >= v->nqueues || r->q_size[i] > v->queue_max))
			return err_set(e, -ENODEV,
				       "%s %u: the guest uses queue %u of %u "
				       "buffers, which it does not have here",
				       d->class->name, d->instance, i,
				       r->q_size[i]);
	return 0;
}

void virtio_dev_pause(struct dev *d)
{
	virtio_pause(virtio_of(d));
}

void virtio_dev_resume(struct dev *d)
{
	virtio_resume(virtio_of(d));
}

void virtio_dev_free(struct dev *d)
{
	struct virtio *v = virtio_of(d);

	virtio_stop(v);
	if (v->type->ops->free)
		v->type->ops->free(v);
	virtio_fini(v);
}

int virtio_check(const void *regs, struct err *e)
{
	const struct virtio_regs *r = regs;

	for (unsigned i = 0; i < VIRTIO_QUEUES; i++) {
		bool packed = r->driver_features & VIRTIO_F_RING_PACKED;
		u16 n = r->q_size[i];

		if (!r->q_enabled[i])
			continue;
		if (!n || (!packed && n & (n - 1)))
			return err_set(e, -EDOM, "queue %u has size %u", i, n);
		if (packed && (r->q_avail[i] >= n || r->q_used[i] >= n ||
			       r->q_avail_wrap[i] > 1 || r->q_used_wrap[i] > 1))
			return err_set(e, -EDOM, "queue %u is past its end", i);
	}
	return 0;
}

static int virtio_queue_init(struct virtio *v, unsigned i)
{
	struct virtio_queue *vq = &v->queue[i];

	vq->v = v;
	vq->q.mem = v->mem;
	vq->q.arg = v;
	vq->q.index = i;
	vq->q.broken = virtio_broken;
	virtq_reset(&vq->q, v->queue_max);
	vq->kick_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	return vq->kick_fd < 0 ? -errno : 0;
}

int virtio_init(struct virtio *v, const struct virtio_type *t,
		const struct dev_class *class, void *regs, struct mem *mem,
		struct loop *loop, unsigned nqueues, u16 queue_max,
		u64 features, struct err *e)
{
	int rc = 0;

	ASSERT(nqueues <= VIRTIO_QUEUES && !(queue_max & (queue_max - 1)));
	dev_init(&v->dev, class, regs);
	pthread_cond_init(&v->changed, NULL);
	v->r = regs;
	v->r->config_vector = VIRTIO_NO_VECTOR;
	v->type = t;
	v->mem = mem;
	v->loop = loop;
	v->queue_max = queue_max;
	v->features = features;
	v->queue = calloc(nqueues, sizeof(v->queue[0]));
	if (!v->queue)
		return err_set(e, -ENOMEM, "no memory for %s", class->name);
	for (; v->nqueues < nqueues && !rc; v->nqueues++)
		rc = virtio_queue_init(v, v->nqueues);
	if (!rc)
		return 0;
	virtio_fini(v);
	return err_errno(e, rc, "cannot make the queues of %s", class->name);
}

int virtio_start(struct virtio *v, struct err *e)
{
	for (unsigned i = 0; i < v->nqueues; i++) {
		struct virtio_queue *vq = &v->queue[i];

		vq->watch = loop_fd_add(v->loop, vq->kick_fd, EPOLLIN,
					virtio_kicked, vq, e);
		if (!vq->watch)
			return -ENOMEM;
	}
	return 0;
}

void virtio_stop(struct virtio *v)
{
	for (unsigned i = 0; i < v->nqueues; i++) {
		loop_fd_del(v->queue[i].watch);
		v->queue[i].watch = NULL;
	}
	virtio_lock(v);
	for (unsigned i = 0; i < v->nqueues; i++)
		virtio_queue_end(v, i);
	virtio_unlock(v);
}

void virtio_fini(struct virtio *v)
{
	for (unsigned i = 0; i < v->nqueues; i++)
		if (v->queue[i].kick_fd >= 0)
			close(v->queue[i].kick_fd);
	free(v->queue);
	v->queue = NULL;
	v->nqueues = 0;
	pthread_cond_destroy(&v->changed);
}
