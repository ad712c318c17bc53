/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Decompression by content: gzip, xz, lzma, zstd and the lz4 frame of old
 * ("legacy") that Linux uses. bzip2 and lzo are left to the guest.
 *
 * A Linux payload has its unpacked length after the compressed data; what
 * follows the stream is ignored.
 */
#include <errno.h>
#include <lz4.h>
#include <lzma.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "platform/boot_priv.h"

#define UNPACK_FIRST  (32 * MIB)
#define LZ4_MAGIC     0x184c2102u
#define LZ4_BLOCK_MAX (8 * MIB)

/* Output that grows. */
struct unpack {
	const u8 *in;
	u64 len;
	u8 *out;
	u64 used, size;
};

static bool unpack_grow(struct unpack *u)
{
	u64 size = u->size ? u->size * 2 : UNPACK_FIRST;
	u8 *p;

	if (size > BOOT_FILE_MAX)
		return false;
	p = realloc(u->out, size);
	if (!p)
		return false;
	u->out = p;
	u->size = size;
	return true;
}

static bool unpack_gzip(struct unpack *u)
{
	z_stream z = {.next_in = (u8 *)u->in, .avail_in = (uInt)u->len};
	int rc = inflateInit2(&z, 15 + 16);

	while (rc == Z_OK) {
		if (u->used == u->size && !unpack_grow(u))
			break;
		z.next_out = u->out + u->used;
		z.avail_out = (uInt)(u->size - u->used);
		rc = inflate(&z, Z_NO_FLUSH);
		u->used = u->size - z.avail_out;
	}
	inflateEnd(&z);
	return rc == Z_STREAM_END;
}

static bool unpack_lzma_stream(struct unpack *u, lzma_stream *z)
{
	lzma_ret rc = LZMA_OK;

	z->next_in = u->in;
	z->avail_in = u->len;
	while (rc == LZMA_OK) {
		if (u->used == u->size && !unpack_grow(u))
			break;
		z->next_out = u->out + u->used;
		z->avail_out = u->size - u->used;
		rc = lzma_code(z, LZMA_FINISH);
		u->used = u->size - z->avail_out;
	}
	lzma_end(z);
	return rc == LZMA_STREAM_END;
}

static bool unpack_xz(struct unpack *u)
{
	lzma_stream z = LZMA_STREAM_INIT;

	return lzma_stream_decoder(&z, 256 * MIB, 0) == LZMA_OK &&
	       unpack_lzma_stream(u, &z);
}

static bool unpack_lzma(struct unpack *u)
{
	lzma_stream z = LZMA_STREAM_INIT;

	return lzma_alone_decoder(&z, 256 * MIB) == LZMA_OK &&
	       unpack_lzma_stream(u, &z);
}

static bool unpack_zstd(struct unpack *u)
{
	ZSTD_DStream *z = ZSTD_createDStream();
	ZSTD_inBuffer in = {u->in, u->len, 0};
	size_t rc = 1;

	while (z && rc && !ZSTD_isError(rc)) {
		ZSTD_outBuffer out;
		u64 before = in.pos;

		if (u->used == u->size && !unpack_grow(u))
			break;
		out = (ZSTD_outBuffer){u->out, u->size, u->used};
		rc = ZSTD_decompressStream(z, &out, &in);
		if (out.pos == u->used && in.pos == before)
			break; /* the stream ends too early */
		u->used = out.pos;
	}
	ZSTD_freeDStream(z);
	return rc == 0;
}

static bool unpack_lz4(struct unpack *u)
{
	u64 at = 4;

	/* Blocks follow each other; the last 4 bytes are Linux's length. */
	while (u->len - at > 4) {
		u32 n = boot_u32(u->in + at);
		int got;

		at += 4;
		if (n == LZ4_MAGIC)
			continue;
		if (!n || n > u->len - at || n > LZ4_BLOCK_MAX * 2)
			return false;
		while (u->size - u->used < LZ4_BLOCK_MAX)
			if (!unpack_grow(u))
				return false;
		got = LZ4_decompress_safe((const char *)u->in + at,
					  (char *)u->out + u->used, (int)n,
					  (int)LZ4_BLOCK_MAX);
		if (got < 0)
			return false;
		u->used += (u64)got;
		at += n;
	}
	return u->used > 0;
}

static const struct {
	const char *name;
	u8 magic[6];
	u8 len;
	bool (*unpack)(struct unpack *u);
} unpackers[] = {
	{"gzip", {0x1f, 0x8b}, 2, unpack_gzip},
	{"xz", {0xfd, '7', 'z', 'X', 'Z', 0}, 6, unpack_xz},
	{"lzma", {0x5d, 0, 0}, 3, unpack_lzma},
	{"zstd", {0x28, 0xb5, 0x2f, 0xfd}, 4, unpack_zstd},
	{"lz4", {0x02, 0x21, 0x4c, 0x18}, 4, unpack_lz4},
};

int boot_inflate(const u8 *p, u64 len, u8 **out, u64 *out_len, struct err *e)
{
	struct unpack u = {.in = p, .len = len};

	*out = NULL;
	for (size_t i = 0; i < ARRAY_LEN(unpackers); i++) {
		if (len < 8 || memcmp(p, unpackers[i].magic, unpackers[i].len))
			continue;
		if (unpackers[i].unpack(&u)) {
			*out = u.out;
			*out_len = u.used;
			return 0;
		}
		free(u.out);
		return err_set(e, -EBADMSG,
			       "kernel: the %s data in it is damaged or "
			       "truncated",
			       unpackers[i].name);
	}
	return err_set(e, -ENOTSUP,
		       "kernel: packed in a way that is not known here");
}
