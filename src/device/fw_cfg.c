/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * fw_cfg (QEMU's specification "QEMU Firmware Configuration Device"): items
 * by key, a directory of named files, traditional port access and DMA.
 *
 * Offsets: 0 selector (2 bytes), 1 data, 4 DMA address (8 bytes, big-endian;
 * the write of its low half starts the transfer).
 */
#include "device/fw_cfg.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#define FILES     64u
#define FILE_KEY  0x20u /* of the first file */
#define KEYS      (FILE_KEY + FILES)
#define NAME_SIZE 56u

/* Reading past an item's end gives zeros: so many, then an error. */
#define ZEROS_MAX (1024 * KIB)

enum { KEY_SIGNATURE = 0x00, KEY_ID = 0x01, KEY_DIRECTORY = 0x19 };
enum { ID_TRADITIONAL = BIT(0), ID_DMA = BIT(1) };
enum {
	DMA_ERROR = BIT(0),
	DMA_READ = BIT(1),
	DMA_SKIP = BIT(2),
	DMA_SELECT = BIT(3),
	DMA_WRITE = BIT(4),
};

#define DMA_SIGNATURE 0x51454d5520434647ull /* "QEMU CFG" */

/* What the guest puts in its memory; all big-endian. */
struct fw_cfg_dma {
	u32 control, length;
	u64 address;
};

struct fw_cfg_file {
	u32 size;
	u16 key, reserved;
	char name[NAME_SIZE];
};

struct fw_cfg_directory {
	u32 count;
	struct fw_cfg_file file[FILES];
};

struct fw_cfg_item {
	u8 *data;
	size_t len;
	bool owned, writable;
	void (*written)(void *arg);
	void *arg;
};

struct fw_cfg_regs {
	u64 dma;    /* address register */
	u32 offset; /* within the selected item */
	u16 key;
	u16 pad; /* zero */
};

struct fw_cfg {
	struct dev dev;
	struct fw_cfg_regs r; /* dev.lock */
	struct mem *mem;
	unsigned files;
	struct fw_cfg_directory dir;
	struct fw_cfg_item item[KEYS]; /* fixed before the guest runs */
};

static const struct fw_cfg_item *fw_cfg_selected(const struct fw_cfg *f)
{
	static const struct fw_cfg_item none;
	u16 key = f->r.key & 0x3fff; /* bit 14: write, bit 15: per machine */

	return f->r.key & 0x8000 || key >= KEYS ? &none : &f->item[key];
}

/* What is left of the item from the present offset, len at most. */
static u32 fw_cfg_left(const struct fw_cfg *f, u32 len)
{
	const struct fw_cfg_item *i = fw_cfg_selected(f);

	if (f->r.offset >= i->len)
		return 0;
	return (u32)MIN((size_t)len, i->len - f->r.offset);
}

static void fw_cfg_skip(struct fw_cfg *f, u32 n)
{
	f->r.offset = n > ~0u - f->r.offset ? ~0u : f->r.offset + n;
}

static void fw_cfg_select(struct fw_cfg *f, u16 key)
{
	f->r.key = key;
	f->r.offset = 0;
}

static u8 fw_cfg_read_byte(struct fw_cfg *f)
{
	u8 val = 0;

	if (fw_cfg_left(f, 1))
		val = fw_cfg_selected(f)->data[f->r.offset];
	fw_cfg_skip(f, 1);
	return val;
}

/* ---- DMA ---- */

static bool fw_cfg_dma_read(struct fw_cfg *f, gpa_t to, u32 len)
{
	static const u8 zeros[4096];
	u32 n = fw_cfg_left(f, len);
	bool ok = true;

	if (n)
		ok = mem_write(f->mem, to,
			       fw_cfg_selected(f)->data + f->r.offset, n);
	fw_cfg_skip(f, len);
	if (len - n > ZEROS_MAX)
		return false;
	while (ok && n < len) {
		u32 some = MIN(len - n, (u32)sizeof(zeros));

		ok = mem_write(f->mem, to + n, zeros, some);
		n += some;
	}
	return ok;
}

/* Wholly or not at all. */
static bool fw_cfg_dma_write(struct fw_cfg *f, gpa_t from, u32 len)
{
	const struct fw_cfg_item *i = fw_cfg_selected(f);
	bool ok = i->writable && fw_cfg_left(f, len) == len &&
		  mem_read(f->mem, from, i->data + f->r.offset, len);

	fw_cfg_skip(f, len);
	if (ok && i->written)
		i->written(i->arg);
	return ok;
}

static void fw_cfg_transfer(struct fw_cfg *f, gpa_t at)
{
	struct fw_cfg_dma dma;
	u32 control, len, result;
	bool ok = true;
	gpa_t address;

	if (!mem_read(f->mem, at, &dma, sizeof(dma)))
		return; /* nowhere to tell it */
	control = __builtin_bswap32(dma.control);
	len = __builtin_bswap32(dma.length);
	address = __builtin_bswap64(dma.address);
	if (control & DMA_SELECT)
		fw_cfg_select(f, (u16)(control >> 16));
	if (control & DMA_READ)
		ok = fw_cfg_dma_read(f, address, len);
	else if (control & DMA_WRITE)
		ok = fw_cfg_dma_write(f, address, len);
	else if (control & DMA_SKIP)
		fw_cfg_skip(f, len);
	result = __builtin_bswap32(ok ? 0 : DMA_ERROR);
	mem_write(f->mem, at, &result, sizeof(result));
}

/* ---- registers ---- */

static u64 fw_cfg_read(struct dev *d, u64 off, unsigned len)
{
	struct fw_cfg *f = (struct fw_cfg *)d;
	u64 val = 0;

	if (off >= 4) { /* big-endian: the most significant byte first */
		val = __builtin_bswap64(DMA_SIGNATURE) >> 8 * (off - 4);
		return val;
	}
	if (off == 0)
		return f->r.key;
	for (unsigned i = 0; off == 1 && i < len; i++)
		val |= (u64)fw_cfg_read_byte(f) << 8 * i;
	return val;
}

static void fw_cfg_write_dma(struct fw_cfg *f, u64 off, u64 val, unsigned len)
{
	gpa_t at;

	if (off == 4 && len == 8)
		f->r.dma = __builtin_bswap64(val);
	else if (off == 4 && len == 4)
		f->r.dma = (u64)__builtin_bswap32((u32)val) << 32;
	else if (off == 8 && len == 4)
		f->r.dma |= __builtin_bswap32((u32)val);
	else
		return;
	if (off == 4 && len == 4)
		return;
	at = f->r.dma;
	f->r.dma = 0;
	fw_cfg_transfer(f, at);
}

/* Writes to the data port did nothing since QEMU 2.4. */
static void fw_cfg_write(struct dev *d, u64 off, u64 val, unsigned len)
{
	struct fw_cfg *f = (struct fw_cfg *)d;

	if (off >= 4)
		fw_cfg_write_dma(f, off, val, len);
	else if (off == 0 && len == 2)
		fw_cfg_select(f, (u16)val);
}

/* ---- items ---- */

static int fw_cfg_copy(struct fw_cfg_item *i, const void *data, size_t len,
		       struct err *e)
{
	u8 *copy = malloc(len + 1);

	if (!copy)
		return err_set(e, -ENOMEM, "no memory for a fw_cfg item");
	memcpy(copy, data, len);
	if (i->owned)
		free(i->data);
	*i = (struct fw_cfg_item){.data = copy, .len = len, .owned = true};
	return 0;
}

int fw_cfg_add_item(struct fw_cfg *f, u16 key, const void *data, size_t len,
		    struct err *e)
{
	ASSERT(key < FILE_KEY && len < GIB);
	return fw_cfg_copy(&f->item[key], data, len, e);
}

/* The directory's next entry, filled in; *key: its item. */
static int fw_cfg_name(struct fw_cfg *f, const char *name, size_t len,
		       unsigned *key, struct err *e)
{
	struct fw_cfg_file *file = &f->dir.file[f->files];

	if (f->files == FILES || strlen(name) >= NAME_SIZE || len >= GIB)
		return err_set(e, -ENOSPC, "no room for the fw_cfg file %s",
			       name);
	*key = FILE_KEY + f->files++;
	file->size = __builtin_bswap32((u32)len);
	file->key = __builtin_bswap16((u16)*key);
	strcpy(file->name, name);
	f->dir.count = __builtin_bswap32(f->files);
	f->item[KEY_DIRECTORY] = (struct fw_cfg_item){
		.data = (u8 *)&f->dir,
		.len = 4 + f->files * sizeof(*file),
	};
	return 0;
}

int fw_cfg_add_file(struct fw_cfg *f, const char *name, const void *data,
		    size_t len, struct err *e)
{
	unsigned key;
	int rc = fw_cfg_name(f, name, len, &key, e);

	return rc ? rc : fw_cfg_copy(&f->item[key], data, len, e);
}

int fw_cfg_add_writable(struct fw_cfg *f, const char *name, void *data,
			size_t len, void (*written)(void *arg), void *arg,
			struct err *e)
{
	unsigned key;
	int rc = fw_cfg_name(f, name, len, &key, e);

	if (rc)
		return rc;
	f->item[key] = (struct fw_cfg_item){
		.data = data,
		.len = len,
		.writable = true,
		.written = written,
		.arg = arg,
	};
	return 0;
}

/* ---- life ---- */

static void fw_cfg_reset(struct dev *d)
{
	((struct fw_cfg *)d)->r = (struct fw_cfg_regs){0};
}

static void fw_cfg_free(struct dev *d)
{
	struct fw_cfg *f = (struct fw_cfg *)d;

	for (unsigned i = 0; i < KEYS; i++)
		if (f->item[i].owned)
			free(f->item[i].data);
}

static const struct state_field fw_cfg_fields[] = {
	STATE(struct fw_cfg_regs, dma, 1),
	STATE(struct fw_cfg_regs, offset, 1),
	STATE(struct fw_cfg_regs, key, 1),
	STATE(struct fw_cfg_regs, pad, 1),
};

static const struct state_desc fw_cfg_state = {
	.name = "fw_cfg",
	.version = 1,
	.size = sizeof(struct fw_cfg_regs),
	.fields = fw_cfg_fields,
	.nfields = ARRAY_LEN(fw_cfg_fields),
};

static const struct dev_class fw_cfg_class = {
	.name = "fw_cfg",
	.state = &fw_cfg_state,
	.read = fw_cfg_read,
	.write = fw_cfg_write,
	.reset = fw_cfg_reset,
	.free = fw_cfg_free,
};

struct fw_cfg *fw_cfg_new(struct mem *m)
{
	struct fw_cfg *f = calloc(1, sizeof(*f));
	u32 id = ID_TRADITIONAL | ID_DMA;

	if (!f)
		return NULL;
	dev_init(&f->dev, &fw_cfg_class, &f->r);
	f->mem = m;
	if (fw_cfg_add_item(f, KEY_SIGNATURE, "QEMU", 4, NULL) ||
	    fw_cfg_add_item(f, KEY_ID, &id, sizeof(id), NULL)) {
		dev_free(&f->dev);
		return NULL;
	}
	return f;
}
