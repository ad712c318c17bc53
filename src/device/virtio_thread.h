/* SPDX-License-Identifier: BSD-2-Clause */
/* A thread with an event loop, for devices that are busy. */
#ifndef DEVICE_VIRTIO_THREAD_H
#define DEVICE_VIRTIO_THREAD_H

#include <pthread.h>

#include "base/loop.h"

struct vthread {
	struct loop *loop;
	pthread_t thread;
	bool running;
};

/* name: up to 15 characters, for people. */
int vthread_start(struct vthread *t, const char *name, struct err *e);
/* Ends the thread; the loop can still be told to forget things. */
void vthread_stop(struct vthread *t);
void vthread_free(struct vthread *t);

#endif
