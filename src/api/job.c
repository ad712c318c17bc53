/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Jobs: what an endpoint does on a thread of its own, because it takes long.
 * The job belongs to the loop's thread, which starts, answers and frees it;
 * what both threads touch is under the lock.
 */
#define _GNU_SOURCE
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "api/api_priv.h"
#include "base/clock.h"

/* A function that the job's thread wants run by the loop's. On its stack. */
struct job_errand {
	struct api_job *job;
	int (*fn)(void *arg, struct err *e);
	void *arg;
	struct err *e;
	int rc;
	bool done; /* job.lock */
};

struct api_job {
	struct api *api;
	struct api_call *call;
	const char *what;
	api_job_fn *fn;
	void *arg;
	void (*free_arg)(void *arg);
	pthread_t thread;
	u64 started;
	int rc; /* of fn; the job's thread */
	struct err err;
	bool cancelled; /* atomic */

	pthread_mutex_t lock; /* guards what follows */
	pthread_cond_t changed;
	bool closing;   /* the loop does not run any more */
	bool told;      /* the loop will look at last */
	json_t *last;   /* line of progress */
	json_t *result; /* or NULL */
};

/* The loop's memory shortage must not lose a job. */
static void job_call_loop(struct api_job *j, void (*fn)(void *), void *arg)
{
	while (loop_call(j->api->config.loop, fn, arg))
		usleep(1000);
}

/* ---- the loop's thread ---- */

static void job_answer(struct api_job *j)
{
	struct api_call *c = j->call;

	c->job = NULL;
	if (j->rc)
		api_fail(c, "%s",
			 j->err.text[0] ? j->err.text : strerror(-j->rc));
	else if (j->result)
		api_reply(c, json_incref(j->result));
	else if (c->streaming)
		api_reply(c, json_object());
	else
		api_done(c);
}

void job_finish(struct api_job *j)
{
	pthread_mutex_lock(&j->lock);
	j->closing = true;
	pthread_cond_broadcast(&j->changed);
	pthread_mutex_unlock(&j->lock);
	pthread_join(j->thread, NULL);
	if (j->free_arg)
		j->free_arg(j->arg);
	j->api->job = NULL;
	job_answer(j);
	json_decref(j->last);
	json_decref(j->result);
	pthread_cond_destroy(&j->changed);
	pthread_mutex_destroy(&j->lock);
	free(j);
}

static void job_ended(void *arg)
{
	job_finish(arg);
}

static void job_told(void *arg)
{
	struct api_job *j = arg;
	json_t *line;

	pthread_mutex_lock(&j->lock);
	j->told = false;
	line = json_deep_copy(j->last);
	pthread_mutex_unlock(&j->lock);
	if (line && j->call->streaming)
		call_line(j->call, json_pack("{s:o}", "progress", line));
	else
		json_decref(line);
}

static void job_errand_run(void *arg)
{
	struct job_errand *w = arg;
	struct api_job *j = w->job;
	int rc = w->fn(w->arg, w->e);

	pthread_mutex_lock(&j->lock);
	w->rc = rc;
	w->done = true;
	pthread_cond_broadcast(&j->changed);
	pthread_mutex_unlock(&j->lock);
}

void job_cancel(struct api_job *j)
{
	__atomic_store_n(&j->cancelled, true, __ATOMIC_SEQ_CST);
}

json_t *job_describe(struct api_job *j)
{
	double s = (double)(clock_ns() - j->started) / 1e9;
	json_t *last;

	pthread_mutex_lock(&j->lock);
	last = json_deep_copy(j->last);
	pthread_mutex_unlock(&j->lock);
	return json_pack("{s:s, s:f, s:o*}", "job", j->what, "seconds", s,
			 "progress", last);
}

/* ---- the job's thread ---- */

static void *job_main(void *arg)
{
	struct api_job *j = arg;

	prctl(PR_SET_NAME, j->what);
	j->rc = j->fn(j, j->arg, &j->err);
	job_call_loop(j, job_ended, j);
	return NULL;
}

struct vm *api_job_vm(struct api_job *j)
{
	return j->api->config.vm;
}

int api_job_on_loop(struct api_job *j, int (*fn)(void *arg, struct err *e),
		    void *arg, struct err *e)
{
	struct job_errand w = {.job = j, .fn = fn, .arg = arg, .e = e};

	job_call_loop(j, job_errand_run, &w);
	pthread_mutex_lock(&j->lock);
	while (!w.done && !j->closing)
		pthread_cond_wait(&j->changed, &j->lock);
	pthread_mutex_unlock(&j->lock);
	return w.done ? w.rc
		      : err_set(e, -ECANCELED, "the machine ended meanwhile");
}

void api_job_progress(struct api_job *j, json_t *line)
{
	bool tell;

	pthread_mutex_lock(&j->lock);
	json_decref(j->last);
	j->last = line;
	tell = !j->told;
	j->told = true;
	pthread_mutex_unlock(&j->lock);
	if (tell)
		job_call_loop(j, job_told, j);
}

void api_job_result(struct api_job *j, json_t *result)
{
	pthread_mutex_lock(&j->lock);
	json_decref(j->result);
	j->result = result;
	pthread_mutex_unlock(&j->lock);
}

bool api_job_cancelled(struct api_job *j)
{
	return __atomic_load_n(&j->cancelled, __ATOMIC_SEQ_CST);
}

/* ---- start ---- */

static int job_start_thread(struct api_job *j)
{
	sigset_t all, old;
	int rc;

	sigfillset(&all);
	sigdelset(&all, SIGSEGV);
	sigdelset(&all, SIGBUS);
	sigdelset(&all, SIGABRT);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	rc = pthread_create(&j->thread, NULL, job_main, j);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return rc;
}

static struct api_job *job_new(struct api_call *c, const char *what,
			       api_job_fn *fn, void *arg,
			       void (*free_arg)(void *arg))
{
	struct api_job *j = calloc(1, sizeof(*j));

	if (!j)
		return NULL;
	*j = (struct api_job){
		.api = c->api,
		.call = c,
		.what = what,
		.fn = fn,
		.arg = arg,
		.free_arg = free_arg,
		.started = clock_ns(),
	};
	pthread_mutex_init(&j->lock, NULL);
	pthread_cond_init(&j->changed, NULL);
	return j;
}

void api_job_start(struct api_call *c, const char *what, api_job_fn *fn,
		   void *arg, void (*free_arg)(void *arg))
{
	struct api_job *j = NULL;

	if (!c->api->job)
		j = job_new(c, what, fn, arg, free_arg);
	if (j && !job_start_thread(j)) {
		c->api->job = c->job = j;
		if (c->lines)
			call_stream(c);
		return;
	}
	free(j);
	if (free_arg)
		free_arg(arg);
	if (c->api->job)
		api_fail(c, "The machine is busy with another job (%s).",
			 c->api->job->what);
	else
		api_fail(c, "Cannot start a thread for the job.");
}
