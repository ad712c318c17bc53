/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/pages.h"

#include <errno.h>
#include <lz4.h>
#include <string.h>
#include <zstd.h>

#include "migrate/wire.h"

#define PAGES_ZSTD_LEVEL 1

const char *const mig_codec_names[MIG_CODECS] = {"none", "lz4", "zstd"};

bool mig_page_zero(const void *page)
{
	const u64 *p = page;

	for (unsigned i = 0; i < PAGE_SIZE / 8; i += 8)
		if (p[i] | p[i + 1] | p[i + 2] | p[i + 3] | p[i + 4] |
		    p[i + 5] | p[i + 6] | p[i + 7])
			return false;
	return true;
}

void mig_pages_add(struct mig_pages *p, gpa_t gpa, const void *page)
{
	u8 *to = p->data + p->ndata * PAGE_SIZE;

	p->gpa[p->n] = gpa;
	memcpy(to, page, PAGE_SIZE);
	p->zero[p->n] = mig_page_zero(to);
	p->ndata += !p->zero[p->n];
	p->n++;
}

/* 0: it did not become smaller. */
static u32 pages_compress(const struct mig_pages *p, enum mig_codec codec,
			  u8 *out)
{
	u32 raw = p->ndata * (u32)PAGE_SIZE;
	size_t n;
	int len;

	if (codec == MIG_CODEC_LZ4) {
		len = LZ4_compress_default((const char *)p->data, (char *)out,
					   (int)raw, (int)raw - 1);
		return len > 0 ? (u32)len : 0;
	}
	n = ZSTD_compress(out, raw - 1, p->data, raw, PAGES_ZSTD_LEVEL);
	return ZSTD_isError(n) ? 0 : (u32)n;
}

u32 mig_pages_encode(const struct mig_pages *p, enum mig_codec codec, u8 *out)
{
	u32 raw = p->ndata * (u32)PAGE_SIZE, len = 0;
	u8 *at = mig_put(out, p->round, 4);
	u8 *how = at;

	at += 2;
	at = mig_put(at, p->n, 2);
	for (u32 i = 0; i < p->n; i++)
		at = mig_put(at, p->gpa[i] | p->zero[i], 8);
	if (codec != MIG_CODEC_NONE && raw)
		len = pages_compress(p, codec, at);
	mig_put(how, len ? codec : MIG_CODEC_NONE, 2);
	if (!len) {
		memcpy(at, p->data, raw);
		len = raw;
	}
	return (u32)(at - out) + len;
}

static int pages_bad(struct err *e, const char *what)
{
	return err_set(e, -EPROTO,
		       "the migration stream has a wrong batch of "
		       "pages: %s",
		       what);
}

static bool pages_expand(struct mig_pages *p, unsigned codec, const u8 *in,
			 u32 len)
{
	u32 raw = p->ndata * (u32)PAGE_SIZE;

	switch (codec) {
	case MIG_CODEC_NONE:
		if (len != raw)
			return false;
		memcpy(p->data, in, raw);
		return true;
	case MIG_CODEC_LZ4:
		return LZ4_decompress_safe((const char *)in, (char *)p->data,
					   (int)len, (int)raw) == (int)raw;
	case MIG_CODEC_ZSTD:
		return ZSTD_decompress(p->data, raw, in, len) == raw;
	}
	return false;
}

int mig_pages_decode(struct mig_pages *p, const u8 *in, u32 len, struct err *e)
{
	u32 head;

	if (len < 8)
		return pages_bad(e, "too short");
	p->round = (u32)mig_get(in, 4);
	p->n = (u32)mig_get(in + 6, 2);
	p->ndata = 0;
	head = 8 + p->n * 8;
	if (!p->n || p->n > MIG_BATCH || len < head)
		return pages_bad(e, "its number of pages");
	for (u32 i = 0; i < p->n; i++) {
		u64 entry = mig_get(in + 8 + i * 8, 8);

		if (entry & PAGE_MASK & ~1ull)
			return pages_bad(e, "an address is not a page's");
		p->gpa[i] = entry & ~1ull;
		p->zero[i] = entry & 1;
		p->ndata += !p->zero[i];
	}
	if (!pages_expand(p, (unsigned)mig_get(in + 4, 2), in + head,
			  len - head))
		return pages_bad(e, "its contents do not unpack");
	return 0;
}
