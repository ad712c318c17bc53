/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/snap_pack.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "vm/snap_file.h"
#include "vm/snap_ram.h"

#define PACK_LEVEL 1 /* of zstd: the guest's owner waits */

struct pack_entry {
	u64 offset;
	u32 len, sum;
};

_Static_assert(sizeof(struct pack_entry) == 16, "format");

static u64 pack_pieces(u64 size)
{
	return ALIGN_UP(size, SNAP_PACK) / SNAP_PACK;
}

static u64 pack_bytes(u64 size, u64 n)
{
	return MIN(SNAP_PACK, size - n * SNAP_PACK);
}

/* ---- writing ---- */

struct pack_writer {
	int memory, fd;
	u64 size, end; /* end: of memory.zst so far */
	struct pack_entry *index;
	u8 *plain, *frame;
	ZSTD_CCtx *zstd;
};

static int pack_piece(struct pack_writer *w, u64 n)
{
	u64 len = pack_bytes(w->size, n), max = ZSTD_compressBound(SNAP_PACK);
	struct pack_entry *x = &w->index[n];
	size_t got;
	int rc;

	rc = file_read_at(w->memory, w->plain, len, n * SNAP_PACK);
	if (rc || snap_is_zero(w->plain, len))
		return rc;
	got = ZSTD_compressCCtx(w->zstd, w->frame, max, w->plain, len,
				PACK_LEVEL);
	if (ZSTD_isError(got))
		return -ENOMEM;
	*x = (struct pack_entry){w->end, (u32)got, crc32c(0, w->frame, got)};
	w->end += got;
	return file_write_at(w->fd, w->frame, got, x->offset);
}

static int pack_all(struct pack_writer *w, bool (*stop)(void *arg), void *arg,
		    struct err *e)
{
	int rc = 0;

	for (u64 n = 0; !rc && n < pack_pieces(w->size); n++) {
		if (stop && stop(arg))
			return err_set(e, -ECANCELED,
				       "the snapshot was given up");
		rc = pack_piece(w, n);
	}
	if (!rc && fsync(w->fd))
		rc = -errno;
	return rc ? err_errno(e, rc,
			      "cannot compress the memory of the "
			      "snapshot")
		  : 0;
}

static int pack_open_writer(struct pack_writer *w, int dirfd, struct err *e)
{
	w->index = calloc(pack_pieces(w->size), sizeof(*w->index));
	w->plain = malloc(SNAP_PACK);
	w->frame = malloc(ZSTD_compressBound(SNAP_PACK));
	w->zstd = ZSTD_createCCtx();
	if (!w->index || !w->plain || !w->frame || !w->zstd)
		return err_set(e, -ENOMEM, "no memory to compress a snapshot");
	w->fd = snap_create(dirfd, "memory.zst", e);
	return w->fd < 0 ? w->fd : 0;
}

int snap_pack_write(int dirfd, int memory, u64 size, struct snap_packed *out,
		    bool (*stop)(void *arg), void *arg, struct err *e)
{
	struct pack_writer w = {.memory = memory, .fd = -1, .size = size};
	u64 len = pack_pieces(size) * sizeof(*w.index);
	int rc = pack_open_writer(&w, dirfd, e);

	if (!rc)
		rc = pack_all(&w, stop, arg, e);
	if (!rc)
		rc = snap_write(dirfd, "memory.index", w.index, len, e);
	if (!rc)
		*out = (struct snap_packed){w.end, crc32c(0, w.index, len)};
	if (w.fd >= 0)
		close(w.fd);
	ZSTD_freeCCtx(w.zstd);
	free(w.index);
	free(w.plain);
	free(w.frame);
	return rc;
}

/* ---- reading ---- */

struct snap_pack {
	int fd;
	u64 size;
	struct pack_entry *index;
	u8 *frame;
	ZSTD_DCtx *zstd;
};

/* Every frame lies in the file and is no longer than one can be. */
static int pack_check(const struct snap_pack *p, u64 bytes, struct err *e)
{
	for (u64 n = 0; n < pack_pieces(p->size); n++) {
		const struct pack_entry *x = &p->index[n];

		if (x->len > ZSTD_compressBound(SNAP_PACK) ||
		    x->offset > bytes || x->len > bytes - x->offset)
			return err_set(e, -EINVAL,
				       "its file memory.index points past "
				       "the end of memory.zst");
	}
	return 0;
}

static int pack_open(struct snap_pack *p, int dirfd,
		     const struct snap_packed *want, struct err *e)
{
	u64 len, bytes = pack_pieces(p->size) * sizeof(*p->index);
	int rc = snap_read(dirfd, "memory.index", bytes, (u8 **)&p->index, &len,
			   e);

	if (rc)
		return rc;
	if (len != bytes || crc32c(0, p->index, len) != want->index_sum)
		return err_set(e, -EBADMSG,
			       "its file memory.index is damaged (checksum)");
	p->fd = snap_open_file(dirfd, "memory.zst", want->bytes, e);
	if (p->fd < 0)
		return p->fd;
	p->frame = malloc(ZSTD_compressBound(SNAP_PACK));
	p->zstd = ZSTD_createDCtx();
	if (!p->frame || !p->zstd)
		return err_set(e, -ENOMEM, "no memory for a snapshot");
	return pack_check(p, want->bytes, e);
}

struct snap_pack *snap_pack_open(int dirfd, u64 size,
				 const struct snap_packed *want, struct err *e)
{
	struct snap_pack *p = calloc(1, sizeof(*p));

	if (!p) {
		err_set(e, -ENOMEM, "no memory for a snapshot");
		return NULL;
	}
	p->fd = -1;
	p->size = size;
	if (!pack_open(p, dirfd, want, e))
		return p;
	snap_pack_free(p);
	return NULL;
}

void snap_pack_free(struct snap_pack *p)
{
	if (!p)
		return;
	if (p->fd >= 0)
		close(p->fd);
	ZSTD_freeDCtx(p->zstd);
	free(p->frame);
	free(p->index);
	free(p);
}

int snap_pack_read(struct snap_pack *p, u64 n, u8 *buf, struct err *e)
{
	const struct pack_entry *x = &p->index[n];
	u64 len = pack_bytes(p->size, n);
	size_t got;
	int rc;

	if (!x->len)
		return 1;
	rc = file_read_at(p->fd, p->frame, x->len, x->offset);
	if (rc)
		return err_errno(e, rc, "its file memory.zst cannot be read");
	if (crc32c(0, p->frame, x->len) != x->sum)
		got = 0;
	else
		got = ZSTD_decompressDCtx(p->zstd, buf, len, p->frame, x->len);
	if (!ZSTD_isError(got) && got == len)
		return 0;
	return err_set(e, -EBADMSG,
		       "its memory is damaged between %llu and %llu KiB "
		       "(checksum)",
		       n * SNAP_PACK / KIB, (n * SNAP_PACK + len) / KIB);
}
