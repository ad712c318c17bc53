/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "device/virtio_thread.h"

#include <errno.h>
#include <signal.h>

static void *vthread_run(void *arg)
{
	loop_run(arg);
	return NULL;
}

/* Signals are the main thread's affair. */
int vthread_start(struct vthread *t, const char *name, struct err *e)
{
	sigset_t all, old;
	int rc;

	t->loop = loop_new(e);
	if (!t->loop)
		return -ENOMEM;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&t->thread, NULL, vthread_run, t->loop);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	if (rc) {
		loop_free(t->loop);
		t->loop = NULL;
		return err_errno(e, -rc, "cannot make a thread for %s", name);
	}
	pthread_setname_np(t->thread, name);
	t->running = true;
	return 0;
}

void vthread_stop(struct vthread *t)
{
	if (!t->running)
		return;
	loop_stop(t->loop);
	pthread_join(t->thread, NULL);
	t->running = false;
}

void vthread_free(struct vthread *t)
{
	loop_free(t->loop);
	t->loop = NULL;
}
