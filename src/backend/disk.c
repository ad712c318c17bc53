/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/disk.h"

#include <errno.h>
#include <stdlib.h>

int disk_start(struct disk *d, struct loop *l, struct err *e)
{
	return d->ops->start(d, l, e);
}

void disk_submit(struct disk *d, struct disk_req *r)
{
	bool writes = r->op != DISK_READ && r->op != DISK_FLUSH;

	if (r->off > d->size || r->len > d->size - r->off ||
	    (r->off | r->len) % DISK_SECTOR)
		r->done(r, -EINVAL);
	else if (writes && d->readonly)
		r->done(r, -EROFS);
	else if (!r->len && r->op != DISK_FLUSH)
		r->done(r, 0);
	else {
		if (writes && __atomic_load_n(&d->tracked, __ATOMIC_ACQUIRE))
			disk_track_req(d, r);
		d->ops->submit(d, r);
	}
}

void disk_kick(struct disk *d)
{
	if (d->ops->kick)
		d->ops->kick(d);
}

int disk_lock(struct disk *d, bool on, struct err *e)
{
	return d->ops->lock ? d->ops->lock(d, on, e) : 0;
}

int disk_peek(struct disk *d, u64 off, void *buf, u64 len)
{
	return d->ops->peek ? d->ops->peek(d, off, buf, len) : -ENOTSUP;
}

int disk_sync(struct disk *d)
{
	return d->ops->sync ? d->ops->sync(d) : 0;
}

void disk_free(struct disk *d)
{
	if (!d)
		return;
	d->ops->free(d);
	free(d->track_bits);
	free(d);
}

unsigned disk_iov_slice(struct iovec *out, const struct iovec *iov, unsigned n,
			u64 skip, u64 len)
{
	unsigned used = 0;

	for (unsigned i = 0; i < n && len; i++) {
		u64 have;

		if (skip >= iov[i].iov_len) {
			skip -= iov[i].iov_len;
			continue;
		}
		have = MIN(len, iov[i].iov_len - skip);
		out[used].iov_base = (u8 *)iov[i].iov_base + skip;
		out[used++].iov_len = have;
		len -= have;
		skip = 0;
	}
	return used;
}
