/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: virtqueues of both formats, through the block device. Not part
 * of the ordinary build.
 *
 * The first byte chooses format and features, the second the queue's size.
 * Then come records of a 16-bit offset, a length and that many bytes, which
 * are written into the 64 KiB that hold rings, tables and buffers; a record
 * of no bytes kicks the queue, and every other one waits for its end.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "bus/vboard.h"
#include "device/virtio_blk.h"

#define BASE         0x100000ull
#define AREA         0x10000u
#define SIZE_MAX_LOG 8

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct fuzz {
	struct vboard *b;
	struct virtio *v;
	struct vfn f;
	u32 barrier; /* atomic */
};

static void fuzz_make(struct fuzz *z)
{
	struct err e;
	int fd = memfd_create("fuzz", 0);

	if (ftruncate(fd, MIB))
		abort();
	z->b = vboard_new(NULL);
	z->v = vblk_new(&z->b->mem, disk_raw_new(fd, MIB, &e), 1, "fuzz", &e);
	z->f = vboard_add(z->b, z->v);
}

static void fuzz_passed(void *arg)
{
	__atomic_add_fetch(&((struct fuzz *)arg)->barrier, 1, __ATOMIC_SEQ_CST);
}

/* Two calls: the device's thread took a whole round in between. */
static void fuzz_settle(struct fuzz *z)
{
	for (unsigned i = 0; i < 2; i++) {
		u32 want = z->barrier + 1;

		loop_call(z->v->loop, fuzz_passed, z);
		if (!vboard_until(&z->barrier, want, 10000))
			abort(); /* it hangs */
	}
	virtio_pause(z->v);
	virtio_resume(z->v);
}

static void fuzz_begin(struct fuzz *z, u8 mode, u8 log)
{
	static const u64 bits[] = {VIRTIO_F_RING_PACKED,
				   VIRTIO_F_INDIRECT_DESC,
				   VIRTIO_F_EVENT_IDX,
				   BIT64(9),
				   BIT64(13),
				   BIT64(14)};
	u64 features = VIRTIO_F_VERSION_1, c = z->f.common;

	for (unsigned i = 0; i < ARRAY_LEN(bits); i++)
		if (mode >> i & 1)
			features |= bits[i];
	memset(vboard_ptr(z->b, BASE), 0, AREA);
	if (!vfn_negotiate(&z->f, features))
		abort();
	vfn_put(&z->f, c + VFN_SELECT, 0, 2);
	vfn_put(&z->f, c + VFN_SIZE, 1u << log % (SIZE_MAX_LOG + 1), 2);
	vfn_put(&z->f, c + VFN_DESC, BASE, 8);
	vfn_put(&z->f, c + VFN_DRIVER, BASE + 0x1000, 8);
	vfn_put(&z->f, c + VFN_DEVICE, BASE + 0x2000, 8);
	vfn_put(&z->f, c + VFN_ENABLE, 1, 2);
	vfn_go(&z->f);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct fuzz z;
	unsigned kicks = 0;

	if (!z.b)
		fuzz_make(&z);
	if (size < 2)
		return 0;
	fuzz_begin(&z, data[0], data[1]);
	data += 2;
	size -= 2;
	while (size >= 3 && kicks < 16) {
		unsigned off = data[0] | (unsigned)data[1] << 8, n = data[2];

		data += 3;
		size -= 3;
		n = MIN(n, MIN((unsigned)size, AREA - off));
		memcpy(vboard_ptr(z.b, BASE + off), data, n);
		data += n;
		size -= n;
		if (n)
			continue;
		vfn_kick(&z.f, 0);
		if (kicks++ & 1)
			fuzz_settle(&z);
	}
	vfn_kick(&z.f, 0);
	fuzz_settle(&z);
	vfn_set_status(&z.f, 0);
	if (vfn_status(&z.f))
		abort();
	return 0;
}
