/* SPDX-License-Identifier: BSD-2-Clause */
/* A snapshot's memory and disks against their checksums. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "backend/disk.h"
#include "base/crc32c.h"
#include "vm/snap_file.h"
#include "vm/snap_mem.h"
#include "vm/snap_pack.h"
#include "vm/snap_priv.h"
#include "vm/snap_ram.h"

/* Of a differential snapshot only the pages it has count. */
static u32 verify_sum(struct snap *s, u64 n, const u8 *buf, u64 len)
{
	u32 sum = 0;

	if (!s->map)
		return crc32c(0, buf, len);
	for (u64 i = 0; i < len / PAGE_SIZE; i++) {
		u64 p = n * SNAP_CHUNK_PAGES + i;

		if (snap_mem_bits(s, p / 64) >> (p % 64) & 1)
			sum = crc32c(sum, buf + i * PAGE_SIZE, PAGE_SIZE);
	}
	return sum;
}

static int verify_read(struct snap *s, u64 off, u64 len, u8 *buf, struct err *e)
{
	for (u64 at = 0; at < len; at += SNAP_PACK) {
		u64 n = MIN(SNAP_PACK, len - at);
		int rc = snap_mem_own(s, off + at, n, buf + at, e);

		if (rc < 0)
			return rc;
		if (rc)
			memset(buf + at, 0, n);
	}
	return 0;
}

static int verify_chunk(struct snap *s, u64 n, u8 *buf, u32 want, struct err *e)
{
	u64 off = n * SNAP_CHUNK, len = MIN(SNAP_CHUNK, s->info.memory - off);
	int rc = verify_read(s, off, len, buf, e);

	if (rc || verify_sum(s, n, buf, len) == want)
		return rc;
	return err_set(e, -EBADMSG,
		       "its memory is damaged between %llu and %llu MiB "
		       "(checksum)",
		       off / MIB, (off + len) / MIB);
}

static int verify_memory(struct snap *s, struct err *e)
{
	u64 n = ALIGN_UP(s->info.memory, SNAP_CHUNK) / SNAP_CHUNK, len;
	u8 *sums, *buf = malloc(SNAP_CHUNK);
	json_int_t sum = -1;
	int rc;

	rc = snap_read(s->dirfd, "memory.sums", n * 4, &sums, &len, e);
	if (!rc && !buf)
		rc = err_set(e, -ENOMEM, "no memory to verify a snapshot");
	json_unpack(s->manifest, "{s:{s:I}}", "memory", "crc32c", &sum);
	if (!rc && (len != n * 4 || crc32c(0, sums, len) != (u32)sum))
		rc = err_set(e, -EBADMSG,
			     "its file memory.sums is damaged (checksum)");
	for (u64 i = 0; !rc && i < n; i++) {
		u32 want;

		memcpy(&want, sums + 4 * i, 4);
		rc = verify_chunk(s, i, buf, want, e);
	}
	free(sums);
	free(buf);
	return rc;
}

static int verify_disks(struct snap *s, struct err *e)
{
	json_t *disks = json_object_get(s->manifest, "disks"), *j;
	size_t i;

	json_array_foreach(disks, i, j)
	{
		const struct vm_disk *d = &s->config.disks[i];
		json_int_t want = 0;
		u32 sum = 0;
		int rc;

		if (!d->layered)
			continue;
		json_unpack(j, "{s:I}", "crc32c", &want);
		rc = disk_layer_sum(d->layer_data, d->layer_map, &sum, e);
		if (!rc && sum != (u32)want)
			rc = err_set(e, -EBADMSG,
				     "its file disk%zu is damaged (checksum)",
				     i);
		if (rc)
			return rc;
	}
	return 0;
}

int snap_verify(struct snap *s, struct err *e)
{
	int rc = verify_memory(s, e);

	if (!rc && s->parent)
		rc = snap_verify(s->parent, e);
	if (!rc && !s->depth)
		rc = verify_disks(s, e);
	return snap_in(s, rc, e);
}
