/* SPDX-License-Identifier: BSD-2-Clause */
/* What the files of the control socket's server share. Loop thread. */
#ifndef API_API_PRIV_H
#define API_API_PRIV_H

#include "api/api.h"
#include "api/http.h"

struct api_conn;

/* A request on its way to its answer. */
struct api_call {
	struct api *api;
	struct api_conn *conn; /* NULL: the client has gone */
	const struct api_endpoint *endpoint;
	json_t *body; /* or NULL */
	char word[HTTP_PATH_MAX];
	bool lines;     /* the client takes progress lines */
	bool upgrade;   /* and asks for a console */
	bool streaming; /* chunks are on their way */
	struct api_job *job;
	struct api_call **list; /* it waits there; or NULL */
	struct api_call *next;
};

struct api {
	struct api_config config;
	struct loop_fd *watch; /* of config.listen */
	struct loop_timer *timer;
	struct api_conn *conns, *dead;
	unsigned nconns;
	struct api_call *waiting, *listening; /* GET /wait, GET /events */
	struct api_job *job;                  /* under way; or NULL */
	bool paused;                          /* by PATCH /vm */
	u64 started;                          /* clock_ns() */
};

/* conn.c */
int api_listen(struct api *a, struct err *e);
void api_unlisten(struct api *a);
void api_close(struct api *a);
void conn_send(struct api_conn *c, const void *p, size_t n);
/* A call is under way. */
void conn_begin(struct api_conn *c, struct api_call *call);
/* It was answered: reads on, or closes. */
void conn_next(struct api_conn *c);
/* Its descriptor, which is the caller's from now on; c is gone. */
int conn_take(struct api_conn *c);

/* call.c */
void call_dispatch(struct api_conn *conn, struct api *a,
		   const struct http_request *r, const char *body);
/* Answered without being understood: status 400 or 413. */
void call_refuse(struct api_conn *conn, int status, const char *text);
/* The client hung up. */
void call_gone(struct api_call *c);
/* Waits in the list until somebody answers it. */
void call_wait_in(struct api_call *c, struct api_call **list);
/* Ends the call; its connection's descriptor is the caller's, or -1. */
int call_take(struct api_call *c);
/* An answer in lines: begins, a line (taken over), the end. */
void call_stream(struct api_call *c);
void call_line(struct api_call *c, json_t *line);
void call_stream_end(struct api_call *c);

/* job.c: the client has gone; at the end of the VM. */
void job_cancel(struct api_job *j);
void job_finish(struct api_job *j);
json_t *job_describe(struct api_job *j);

#endif
