/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The control socket of one running VM: HTTP/1.1 and JSON, see
 * docs/control.md. Paths, fields, status codes and error shape are
 * Firecracker's where it has the endpoint.
 *
 * Everything here runs on the loop's thread, jobs excepted. No client can
 * hold up the VM: sockets do not block, sizes and numbers have bounds, and
 * who does not read what he asked for is cut off.
 */
#ifndef API_API_H
#define API_API_H

#include <jansson.h>

#include "backend/chr_hub.h"
#include "base/loop.h"
#include "vm/vm.h"

#define API_CONNECTIONS 32

struct api;
struct api_call;
struct api_job;

/* Strings and pointers are the caller's and outlive the struct api. */
struct api_config {
	struct loop *loop;
	struct vm *vm;
	const char *name;
	const char *image;   /* NULL: none */
	struct chr *console; /* of chr_hub_new(), or NULL: none to attach to */
	int listen;          /* rundir_listen(); taken over */
};

struct api *api_new(const struct api_config *c, struct err *e);
/* After vm_run() has returned, before vm_free(): ends the job under way, takes
 * no more connections. */
void api_stop(struct api *a);
void api_free(struct api *a);

/* How it all ended, for those who wait: when nothing is left of the VM, so
 * that its name and its files are free. */
struct api_end {
	const char *end;    /* "power-off", "stopped" ... */
	int exit_code;      /* of sublet run */
	const char *report; /* "" or what happened */
};
void api_ended(struct api *a, const struct api_end *end);

/* What PATCH /vm does. */
void api_set_paused(struct api *a, bool paused);
bool api_paused(const struct api *a);
/* Sends {"event":...} to whoever listens at GET /events; takes line over. */
void api_event(struct api *a, json_t *line);

/* ---- for endpoints ---- */

/* A table ends with an empty row; endpoints.c lists the tables. A path that
 * ends with '*' has one more word there, see api_word(). */
struct api_endpoint {
	const char *method, *path;
	/* Answers once: now, or later after api_hold(). */
	void (*handle)(struct api_call *c);
};
extern const struct api_endpoint *const api_endpoints[];

struct vm *api_vm(struct api_call *c);
struct api *api_of(struct api_call *c);
/* What stood in place of the path's '*'. */
const char *api_word(struct api_call *c);
/* The request's JSON body; NULL if there was none. */
json_t *api_body(struct api_call *c);
/* json_unpack() of the body, strictly: unknown fields are refused. If it does
 * not fit, the call is answered and the result is not 0. Strings live as long
 * as the call. */
int api_args(struct api_call *c, const char *fmt, ...);

void api_done(struct api_call *c);             /* 204 */
void api_reply(struct api_call *c, json_t *j); /* 200, takes j */
void api_fail(struct api_call *c, const char *fmt, ...) PRINTF(2, 3); /* 400 */

/* ---- jobs: what takes long has a thread of its own, one job a VM ---- */

/* Runs on the job's thread. 0, or -errno with a sentence. */
typedef int api_job_fn(struct api_job *j, void *arg, struct err *e);
/* Answers c when fn has ended: 204, or 200 with its result, or 400 with the
 * sentence. free_arg(arg) is called in any case, on the loop's thread, before
 * that; may be NULL. what: "snapshot", outlives the job. */
void api_job_start(struct api_call *c, const char *what, api_job_fn *fn,
		   void *arg, void (*free_arg)(void *arg));

/* The rest on the job's thread. */
struct vm *api_job_vm(struct api_job *j);
/* Runs fn on the loop's thread and waits for it. -ECANCELED if the VM ended
 * before; fn was not called then. */
int api_job_on_loop(struct api_job *j, int (*fn)(void *arg, struct err *e),
		    void *arg, struct err *e);
/* One line of progress, an object; takes it over. The latest counts. */
void api_job_progress(struct api_job *j, json_t *line);
/* What the answer is to hold; takes it over. Once. */
void api_job_result(struct api_job *j, json_t *result);
/* The client has gone, or DELETE /job, or the VM ended: give up, if that is
 * still possible without harm. */
bool api_job_cancelled(struct api_job *j);

#endif
