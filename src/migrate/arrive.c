/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Waiting for a VM, and whether this host can run it: what it lacks is told to
 * the source before anything moves.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/log.h"
#include "migrate/target_priv.h"
#include "vm/vm_state.h"

/* ---- what this host lacks ---- */

struct lacks {
	char text[480];
	size_t len;
};

static void lacks_add(struct lacks *l, const char *fmt, ...) PRINTF(2, 3);
static void lacks_add(struct lacks *l, const char *fmt, ...)
{
	size_t room = sizeof(l->text) - l->len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	if (l->len && room > 3)
		l->len += (size_t)snprintf(l->text + l->len, room, "; ");
	room = sizeof(l->text) - l->len;
	n = vsnprintf(l->text + l->len, room, fmt, ap);
	va_end(ap);
	l->len += MIN((size_t)MAX(n, 0), room - 1);
}

static void lacks_cpu(struct mig_incoming *in, struct lacks *l)
{
	const struct engine_class *c;
	struct err e = {{0}};

	c = engine_find(in->o.engine, NULL, &e);
	if (!c ||
	    vm_state_check_cpu(&in->hello.cpuid, in->hello.config.cpus, c, &e))
		lacks_add(l, "%s", e.text);
}

static u64 memory_available(void)
{
	FILE *f = fopen("/proc/meminfo", "re");
	unsigned long long kib = ~0ull >> 10;
	char line[128];

	while (f && fgets(line, sizeof(line), f))
		if (sscanf(line, "MemAvailable: %llu kB", &kib) == 1)
			break;
	if (f)
		fclose(f);
	return kib * KIB;
}

static void lacks_memory(struct mig_incoming *in, struct lacks *l)
{
	u64 want = in->hello.config.memory, have = memory_available();

	if (want > have)
		lacks_add(l, "%llu MiB of memory, %llu are free", want / MIB,
			  have / MIB);
}

static void lacks_disk(struct mig_incoming *in, unsigned i, struct lacks *l)
{
	const struct vm_disk *d = &in->hello.config.disks[i];
	struct stat st;
	off_t size;
	int fd = open(d->path, (d->readonly ? O_RDONLY : O_RDWR) | O_CLOEXEC |
				       O_NONBLOCK | O_NOCTTY);

	if (fd < 0) {
		lacks_add(l, "disk %s: %s", d->path, strerror(errno));
		return;
	}
	size = lseek(fd, 0, SEEK_END) / 512 * 512; /* whole sectors */
	if (fstat(fd, &st) || (!S_ISREG(st.st_mode) && !S_ISBLK(st.st_mode)))
		lacks_add(l, "disk %s is no disk here", d->path);
	else if ((u64)size != in->hello.disk_size[i])
		lacks_add(l, "disk %s has %llu bytes here, %llu there", d->path,
			  (unsigned long long)size,
			  (unsigned long long)in->hello.disk_size[i]);
	close(fd);
}

/* Files for the disks that come along. */
static int incoming_disks(struct mig_incoming *in, struct vm_config *c,
			  struct err *e)
{
	int rc = 0;

	if (!in->o.disks)
		return err_set(e, -EINVAL,
			       "the machine's disks come along; sublet receive "
			       "wants --disks FOLDER for them");
	for (unsigned i = 0; !rc && i < c->ndisks; i++) {
		rc = mig_disk_in_new(&in->disk[i], in->o.disks, c->name, i,
				     in->hello.disk_size[i], e);
		in->ndisks = i + 1;
		c->disks[i].path = in->disk[i].path;
		c->disks[i].overlay = false;
	}
	return rc;
}

static void incoming_disks_free(struct mig_incoming *in, bool keep)
{
	for (unsigned i = 0; i < in->ndisks; i++)
		mig_disk_in_free(&in->disk[i], keep);
	in->ndisks = 0;
}

static int incoming_check(struct mig_incoming *in, struct vm_config *c,
			  struct err *e)
{
	struct lacks l = {.len = 0};
	int rc;

	*c = in->hello.config;
	c->engine = in->o.engine;
	c->interp_only = in->o.interpret;
	c->incoming = true;
	c->cpuid = &in->hello.cpuid;
	rc = vm_config_check(c, e);
	if (rc)
		return rc;
	lacks_cpu(in, &l);
	lacks_memory(in, &l);
	for (unsigned i = 0; i < c->ndisks && !in->hello.with_disks; i++)
		lacks_disk(in, i, &l);
	if (!l.len && in->hello.with_disks && !in->hello.dry_run)
		return incoming_disks(in, c, e);
	if (!l.len)
		return 0;
	return err_set(e, -ENOTSUP,
		       "the target lacks what the machine needs: "
		       "%s",
		       l.text);
}

/* ---- waiting ---- */

static int incoming_secure(struct mig_incoming *in, struct mig_chan *c,
			   struct err *e)
{
	if (!in->o.tls.cert)
		return 0;
	return mig_tls_start(c, &in->o.tls, true, e);
}

int incoming_accept(struct mig_incoming *in, struct mig_chan *c,
		    struct mig_preamble *p, unsigned timeout_ms, struct err *e)
{
	int rc;

	if (in->addr.kind == MIG_STDIO) {
		mig_chan_init(c, dup(STDIN_FILENO), dup(STDOUT_FILENO));
		c->cancel = &in->cancel;
		rc = 0;
	} else {
		rc = mig_addr_accept(in->listen, c, &in->cancel, timeout_ms, e);
	}
	if (rc)
		return rc;
	c->timeout_ms = in->o.timeout_ms;
	rc = incoming_secure(in, c, e);
	if (!rc)
		rc = mig_recv_preamble(c, p, e);
	if (rc)
		mig_chan_close(c);
	return rc;
}

/* The first words of whoever has connected. */
static int incoming_hello(struct mig_incoming *in, struct vm_config *c,
			  struct err *e)
{
	struct mig_frame f;
	struct mig_preamble p;
	int rc = mig_frame_init(&f, e);

	if (rc)
		return rc;
	rc = incoming_accept(in, &in->chan[0], &p, 0, e);
	if (!rc) {
		in->nchan = 1;
		if (p.role != MIG_ROLE_MAIN)
			rc = err_set(e, -EPROTO,
				     "a connection without a "
				     "migration that it belongs to");
	}
	if (!rc)
		rc = mig_recv(&in->chan[0], &f, BIT(MIG_HELLO), e);
	if (!rc)
		rc = mig_hello_parse(&in->hello, &f, e);
	in->hello.session = p.session;
	if (!rc)
		rc = incoming_check(in, c, e);
	mig_frame_fini(&f);
	return rc;
}

/* A connection that cannot be made again must not be needed again. */
static int incoming_postcopy(const struct mig_incoming *in, struct err *e)
{
	if (in->addr.kind == MIG_STDIO)
		return err_set(e, -ENOTSUP,
			       "it waits at stdio:, where nobody can connect "
			       "again if the connection breaks");
	return post_possible(e);
}

int incoming_accept_it(struct mig_incoming *in, const char *engine,
		       struct err *e)
{
	struct mig_accept a = {0};
	struct err why = {{0}};

	snprintf(a.engine, sizeof(a.engine), "%s", engine);
	a.postcopy = in->hello.postcopy && !incoming_postcopy(in, &why);
	snprintf(a.no_postcopy, sizeof(a.no_postcopy), "%.120s", why.text);
	return mig_accept_send(&in->chan[0], &a, e);
}

/* Takes pages and drops them, so that the source can measure. */
static int incoming_rehearse(struct mig_incoming *in, struct mig_frame *f,
			     struct mig_pages *p, struct err *e)
{
	struct mig_chan *c = &in->chan[0];
	u64 round;

	for (;;) {
		int rc = mig_recv(c, f, BIT(MIG_PAGES) | BIT(MIG_BARRIER), e);

		if (rc == -EREMOTEIO) /* "that was all" */
			return 0;
		if (!rc && f->type == MIG_PAGES)
			rc = mig_pages_decode(p, f->data, f->len, e);
		else if (!rc)
			rc = mig_frame_u64(f, &round, e);
		if (!rc && f->type == MIG_BARRIER)
			rc = mig_send_u64(c, MIG_BARRIER_ACK, round, e);
		if (rc)
			return rc;
	}
}

static int incoming_dry_run(struct mig_incoming *in, struct err *e)
{
	const struct engine_class *g = engine_find(in->o.engine, NULL, e);
	struct mig_pages *p = malloc(sizeof(*p));
	struct mig_frame f;
	int rc = mig_frame_init(&f, e);

	if (!rc && (!g || !p))
		rc = -ENOMEM;
	if (!rc)
		rc = incoming_accept_it(in, g->name, e);
	if (!rc)
		rc = incoming_rehearse(in, &f, p, e);
	mig_frame_fini(&f);
	free(p);
	return rc;
}

void mig_incoming_refuse(struct mig_incoming *in, const char *why)
{
	if (in->nchan)
		mig_send(&in->chan[0], MIG_REFUSE, why, (u32)strlen(why), NULL);
	for (unsigned i = 0; i < in->nchan; i++)
		mig_chan_close(&in->chan[i]);
	in->nchan = 0;
	incoming_disks_free(in, false);
	mig_hello_fini(&in->hello);
}

int mig_incoming_wait(struct mig_incoming *in, struct vm_config *c,
		      struct err *e)
{
	for (;;) {
		int rc;

		in->failed = 0;
		in->streams_done = false;
		rc = incoming_hello(in, c, e);
		if (!rc && !in->hello.dry_run)
			return 0;
		if (!rc)
			rc = incoming_dry_run(in, e);
		mig_incoming_refuse(in, e->text);
		if (rc == -ECANCELED || in->addr.kind == MIG_STDIO)
			return rc;
		if (rc)
			log_warnx("refused: %s", e->text);
	}
}

/* ---- life ---- */

static bool incoming_cancelled(void *arg)
{
	struct mig_incoming *in = arg;

	return __atomic_load_n(&in->failed, __ATOMIC_RELAXED) ||
	       (!in->ours && in->o.cancelled && in->o.cancelled());
}

struct mig_incoming *mig_incoming_new(const struct mig_incoming_options *o,
				      struct err *e)
{
	struct mig_incoming *in = calloc(1, sizeof(*in));
	int rc;

	if (!in) {
		err_set(e, -ENOMEM, "no memory for a migration");
		return NULL;
	}
	in->o = *o;
	in->listen = -1;
	in->cancel = (struct mig_cancel){incoming_cancelled, in};
	pthread_mutex_init(&in->lock, NULL);
	pthread_cond_init(&in->changed, NULL);
	rc = mig_addr_parse(&in->addr, o->at, e);
	if (!rc)
		rc = mig_secure_check(&in->addr, &o->tls, o->insecure, e);
	if (!rc && in->addr.kind != MIG_STDIO)
		rc = in->listen = mig_addr_listen(&in->addr, e);
	if (rc >= 0)
		return in;
	mig_incoming_free(in);
	return NULL;
}

void incoming_unlisten(struct mig_incoming *in)
{
	if (in->listen < 0)
		return;
	close(in->listen);
	in->listen = -1;
	if (in->addr.kind == MIG_UNIX)
		unlink(in->addr.path);
}

void mig_incoming_stop(struct mig_incoming *in)
{
	post_free(in);
	incoming_hang_up(in, 0);
}

void mig_incoming_free(struct mig_incoming *in)
{
	mig_incoming_stop(in);
	incoming_disks_free(in, in->ours);
	incoming_unlisten(in);
	mig_hello_fini(&in->hello);
	pthread_cond_destroy(&in->changed);
	pthread_mutex_destroy(&in->lock);
	free(in);
}
