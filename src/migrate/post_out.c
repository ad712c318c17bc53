/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Post-copy at the source: the VM runs at the target, and we send what it has
 * not got: at once what it asks for, meanwhile everything else.
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "migrate/missing.h"
#include "migrate/source_priv.h"

/* Pages in a batch that nobody waits for: what somebody then asks for is not
 * held up for long. */
#define PUSH_PAGES 16u
/* What the kernel may hold back of it. */
#define PUSH_BUFFER (128 * 1024)

/* Sends up to max pages of todo from page at on, in one frame. */
static int post_send(struct source *s, u64 at, unsigned max, struct err *e)
{
	struct mig_ram *r = &s->ram;
	struct mig_pages *p = calloc(1, sizeof(*p));
	u8 *out = malloc(MIG_PAGES_MAX);
	int rc = p && out ? 0 : -ENOMEM;

	for (; !rc && at < r->words * 64 && p->n < max; at++) {
		gpa_t gpa;

		if (!(r->todo[at / 64] >> (at % 64) & 1)) {
			if (p->n)
				break; /* neighbours only */
			continue;
		}
		r->todo[at / 64] &= ~BIT64(at % 64);
		gpa = mig_page_gpa(s->mem, at);
		if (gpa != ~0ull)
			mig_pages_add(p, gpa,
				      s->mem->base + (at << PAGE_SHIFT));
	}
	if (rc)
		err_set(e, rc, "no memory to send pages");
	if (!rc && p->n) {
		p->round = r->round;
		r->sent += p->n;
		rc = mig_send(&s->chan[0], MIG_PAGES, out,
			      mig_pages_encode(p, r->codec, out), e);
	}
	free(p);
	free(out);
	return rc;
}

int source_fetch(struct source *s, const struct mig_frame *f, struct err *e)
{
	struct mig_ram *r = &s->ram;
	unsigned long *want = calloc(r->words, 8);
	int rc;

	if (!want)
		return err_set(e, -ENOMEM, "no memory for a list of pages");
	rc = mig_missing_add(s->mem, f, want, e);
	for (u64 p = 0; !rc && p < r->words * 64; p++) {
		if (!want[p / 64]) {
			p |= 63;
			continue;
		}
		if (want[p / 64] & r->todo[p / 64] & BIT64(p % 64))
			rc = post_send(s, p, PUSH_PAGES, e);
	}
	free(want);
	return rc;
}

int source_send_missing(struct source *s, struct err *e)
{
	return mig_missing_send(&s->chan[0], s->mem, s->ram.todo, e);
}

/* Pages that are asked for must not queue behind many that are not. */
static void post_tune(struct mig_chan *c)
{
	int size = PUSH_BUFFER;

	setsockopt(c->out, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	setsockopt(c->out, IPPROTO_TCP, TCP_NOTSENT_LOWAT, &size, sizeof(size));
}

static int post_push(struct source *s, u64 *at, struct err *e)
{
	struct mig_ram *r = &s->ram;

	while (*at < r->words * 64 && !(r->todo[*at / 64] >> (*at % 64) & 1))
		*at = r->todo[*at / 64] ? *at + 1 : (*at | 63) + 1;
	if (*at >= r->words * 64)
		return 0;
	return post_send(s, *at, PUSH_PAGES, e);
}

int source_serve(struct source *s, struct err *e)
{
	struct mig_chan *c = &s->chan[0];
	u64 at = 0;
	bool told = false;

	post_tune(c);
	for (;;) {
		bool all = at >= s->ram.words * 64;
		int rc = mig_chan_wait(c, all ? (int)c->timeout_ms : 0, e);

		if (!rc && all)
			rc = err_set(e, -ETIMEDOUT, "the target is silent");
		if (rc > 0) {
			rc = mig_recv(c, &s->frame,
				      BIT(MIG_FETCH) | BIT(MIG_COMPLETE), e);
			if (!rc && s->frame.type == MIG_COMPLETE) {
				mig_send_u64(c, MIG_COMPLETE, s->hello.session,
					     NULL);
				return 0;
			}
			if (!rc)
				rc = source_fetch(s, &s->frame, e);
		} else if (!rc) {
			rc = post_push(s, &at, e);
			source_tell(s, "post-copy", mig_ram_left(&s->ram));
		}
		if (!rc && at >= s->ram.words * 64 && !told) {
			told = true;
			rc = mig_send_u64(c, MIG_COMPLETE, s->hello.session, e);
		}
		if (rc < 0)
			return rc;
	}
}
