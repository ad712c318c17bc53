/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * libFuzzer: PCI configuration space, BARs and everything in them, with four
 * virtio devices on the bus. Not part of the ordinary build.
 *
 * The input is a list of accesses of 12 bytes: how, where, what.
 */
#define _GNU_SOURCE
#include <sys/mman.h>
#include <unistd.h>

#include "bus/vboard.h"
#include "device/virtio_blk.h"
#include "device/virtio_console.h"
#include "device/virtio_net.h"
#include "device/virtio_rng.h"

int LLVMFuzzerTestOneInput(const u8 *data, size_t size);

struct access {
	u8 how; /* bit 0: write; 1-2: length; 3-5: which way */
	u8 fn;
	u16 off;
	u64 val;
} __attribute__((packed));

static int null_start(struct net *n, struct loop *l, struct err *e)
{
	(void)n;
	(void)l;
	(void)e;
	return 0;
}

static void null_send(struct net *n, const u8 *frame, size_t len)
{
	(void)n;
	(void)frame;
	(void)len;
}

static void null_any(struct net *n)
{
	(void)n;
}

static const struct net_ops null_ops = {
	.start = null_start,
	.send = null_send,
	.flush = null_any,
	.ready = null_any,
	.free = null_any,
};

static struct vboard *fuzz_make(void)
{
	static const u8 mac[6] = {2};
	static const struct vcon_named named = {"port", NULL};
	struct vboard *b = vboard_new(NULL);
	struct net *n = calloc(1, sizeof(*n));
	int fd = memfd_create("fuzz", 0);

	if (ftruncate(fd, MIB))
		abort();
	n->ops = &null_ops;
	n->mtu = 1500;
	vboard_add(b, vblk_new(&b->mem, disk_raw_new(fd, MIB, NULL), 2, "fuzz",
			       NULL));
	vboard_add(b, vcon_new(&b->mem, NULL, &named, 1, NULL));
	vboard_add(b, vnet_new(&b->mem, n, mac, false, NULL));
	vboard_add(b, vrng_new(&b->mem, b->loop, NULL));
	return b;
}

static void fuzz_port(struct vboard *b, const struct access *a, unsigned len)
{
	if (a->how & 64)
		io_write(b->pio, 0xcf8,
			 0x80000000 | a->fn << 11 | (a->off & 0xff), 4);
	if (a->how & 1)
		io_write(b->pio, 0xcf8 + (a->off & 7), a->val, len);
	else
		io_read(b->pio, 0xcf8 + (a->off & 7), len);
}

static void fuzz_mmio(struct vboard *b, u64 at, const struct access *a,
		      unsigned len)
{
	if (a->how & 1)
		io_write(b->mmio, at, a->val, len);
	else
		io_read(b->mmio, at, len);
}

/* A register of the common configuration, at its width. */
static void fuzz_common(struct vboard *b, const struct access *a)
{
	static const struct {
		u8 off, len;
	} regs[] = {{0, 4},  {4, 4},  {8, 4},  {12, 4}, {16, 2}, {18, 2},
		    {20, 1}, {21, 1}, {22, 2}, {24, 2}, {26, 2}, {28, 2},
		    {30, 2}, {32, 8}, {40, 8}, {48, 8}, {56, 2}, {58, 2}};
	unsigned i = a->off % ARRAY_LEN(regs);

	fuzz_mmio(b, VBOARD_WINDOW + (a->fn & 3) * 0x8000u + regs[i].off, a,
		  regs[i].len);
}

int LLVMFuzzerTestOneInput(const u8 *data, size_t size)
{
	static struct vboard *b;
	struct access a;

	if (!b)
		b = fuzz_make();
	dev_list_reset(&b->devs);
	if (pci_bus_assign(b->bus, VBOARD_WINDOW, MIB, NULL))
		abort();
	for (; size >= sizeof(a); data += sizeof(a), size -= sizeof(a)) {
		unsigned len;

		memcpy(&a, data, sizeof(a));
		len = 1u << (a.how >> 1 & 3);
		switch (a.how >> 3 & 7) {
		case 0: fuzz_port(b, &a, MIN(len, 4u)); break;
		case 1:
		case 2:
			fuzz_mmio(b,
				  VBOARD_ECAM + (a.fn % 6u << 15) +
					  (a.off & 0xfff),
				  &a, len);
			break;
		case 3:
			fuzz_mmio(b, VBOARD_WINDOW + a.off + (a.fn << 16), &a,
				  len);
			break;
		case 4: fuzz_mmio(b, a.val & 0xffffffffff, &a, len); break;
		default: fuzz_common(b, &a); break;
		}
	}
	return 0;
}
