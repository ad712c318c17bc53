/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PCI configuration space as software sees it: both access mechanisms, sizing
 * and moving BARs, write masks, capabilities, interrupts.
 */
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "bus/dev_testing.h"
#include "bus/pci.h"

#define ECAM 0xe0000000ull

struct card {
	struct pci_dev pci;
	u8 ram[0x1000];
	u64 moved;
	unsigned moves, master;
};

struct board {
	struct io_space *pio, *mmio;
	struct pci_bus *bus;
	struct dev_list devs;
	struct card *card, *card2;
	bool level[4];
	u64 msi_address[16];
	u32 msi_data[16];
	unsigned msis, resets;
	u64 routed;
	u32 routed_data;
	int routed_fd;
};

static void board_line(void *arg, unsigned n, bool level)
{
	((struct board *)arg)->level[n] = level;
}

static void board_msi(void *arg, u64 address, u32 data)
{
	struct board *b = arg;

	b->msi_address[b->msis % 16] = address;
	b->msi_data[b->msis++ % 16] = data;
}

static void board_reset(void *arg)
{
	((struct board *)arg)->resets++;
}

static int board_irqfd(void *arg, int fd, u64 address, u32 data)
{
	struct board *b = arg;

	b->routed_fd = fd;
	b->routed = address;
	b->routed_data = data;
	return 0;
}

static const struct accel_ops board_accel = {.irqfd = board_irqfd};

static u64 card_read(struct pci_dev *d, unsigned bar, u64 off, unsigned len)
{
	struct card *c = (struct card *)d;
	u64 v = 0;

	if (bar == 0)
		memcpy(&v, c->ram + off, len);
	return v;
}

static void card_write(struct pci_dev *d, unsigned bar, u64 off, u64 val,
		       unsigned len)
{
	struct card *c = (struct card *)d;

	if (bar == 0)
		memcpy(c->ram + off, &val, len);
}

static void card_moved(struct pci_dev *d, unsigned bar, u64 base)
{
	struct card *c = (struct card *)d;

	if (bar != 0)
		return;
	c->moved = base;
	c->moves++;
}

static void card_master(struct pci_dev *d, bool on)
{
	((struct card *)d)->master += on;
}

static const struct pci_dev_ops card_ops = {
	.bar_read = card_read,
	.bar_write = card_write,
	.bar_moved = card_moved,
	.master = card_master,
};

static const struct pci_id card_id = {
	.vendor = 0x1af4,
	.device = 0x1042,
	.sub_vendor = 0x1234,
	.sub_device = 0x5678,
	.class = 0x018000,
	.revision = 1,
};

/* BAR 0: 64-bit, 4 KiB; BAR 2: MSI-X; BAR 3: 32 ports. */
static struct card *card_new(struct board *b, unsigned slot)
{
	struct card *c = calloc(1, sizeof(*c));
	static const u8 body[6] = {8, 1, 2, 3, 4, 5};
	static const u8 mask[6] = {0, 0, 0xff, 0, 0, 0x0f};

	pci_dev_init(&c->pci, &card_ops, &card_id, "card");
	pci_bar(&c->pci, 0, 0x1000, PCI_BAR_64 | PCI_BAR_PREFETCH);
	pci_bar(&c->pci, 2, 0x1000, 0);
	pci_bar(&c->pci, 3, 32, PCI_BAR_IO);
	pci_cap(&c->pci, PCI_CAP_VENDOR, body, mask, 8);
	pci_msix(&c->pci, 4, 2, 0, 0x800);
	pci_pin(&c->pci, 1);
	assert_int_equal(pci_attach(b->bus, slot, &c->pci, NULL), 0);
	dev_add(&b->devs, &c->pci.dev);
	return c;
}

static int setup(void **state)
{
	struct board *b = calloc(1, sizeof(*b));
	struct pci_wiring w = {
		.pio = b->pio = io_space_new("pio"),
		.mmio = b->mmio = io_space_new("mmio"),
		.msi = {board_msi, b},
		.accel = {&board_accel, b},
		.reset = board_reset,
		.reset_arg = b,
	};

	for (unsigned i = 0; i < 4; i++)
		w.intx[i] = (struct irq_line){board_line, b, i};
	b->bus = pci_bus_new(&w, NULL);
	assert_non_null(b->bus);
	pci_bus_add(b->bus, &b->devs);
	assert_int_equal(pci_bus_ecam(b->bus, ECAM, 256 * MIB, NULL), 0);
	b->card = card_new(b, 0);
	b->card2 = card_new(b, 5);
	*state = b;
	return 0;
}

static int teardown(void **state)
{
	struct board *b = *state;

	dev_list_free(&b->devs);
	io_space_free(b->pio);
	io_space_free(b->mmio);
	free(b);
	return 0;
}

static u32 cf8(unsigned bdf, unsigned reg)
{
	return 0x80000000u | bdf << 8 | (reg & 0xfc);
}

static u32 port_read(struct board *b, unsigned bdf, unsigned reg, unsigned len)
{
	io_write(b->pio, 0xcf8, cf8(bdf, reg), 4);
	return (u32)io_read(b->pio, 0xcfc + (reg & 3), len);
}

static void port_write(struct board *b, unsigned bdf, unsigned reg, u32 v,
		       unsigned len)
{
	io_write(b->pio, 0xcf8, cf8(bdf, reg), 4);
	io_write(b->pio, 0xcfc + (reg & 3), v, len);
}

static u64 ecam_read(struct board *b, unsigned bdf, unsigned reg, unsigned len)
{
	return io_read(b->mmio, ECAM + (bdf << 12) + reg, len);
}

#define CARD PCI_DEVFN(1, 0)

static void test_ids(void **state)
{
	struct board *b = *state;

	assert_int_equal(port_read(b, 0, 8, 4) >> 8, 0x060000);
	assert_int_equal(port_read(b, CARD, 0, 4), 0x10421af4);
	assert_int_equal(port_read(b, CARD, 2, 2), 0x1042);
	assert_int_equal(port_read(b, CARD, 1, 1), 0x1a);
	assert_int_equal(port_read(b, CARD, 8, 4), 0x01800001);
	assert_int_equal(port_read(b, CARD, 0x2c, 4), 0x56781234);
	assert_int_equal(ecam_read(b, CARD, 0, 4), 0x10421af4);
	assert_int_equal(ecam_read(b, CARD, 0, 8) >> 32, 0x00100000);
	assert_int_equal(ecam_read(b, PCI_DEVFN(5, 0), 0, 4), 0x10421af4);
}

static void test_nobody_there(void **state)
{
	struct board *b = *state;

	assert_int_equal(port_read(b, PCI_DEVFN(2, 0), 0, 4), 0xffffffff);
	assert_int_equal(port_read(b, PCI_DEVFN(1, 1), 0, 2), 0xffff);
	assert_int_equal(port_read(b, 0x100, 0, 4), 0xffffffff);
	assert_int_equal(ecam_read(b, 0xffff, 0, 4), 0xffffffff);
	port_write(b, PCI_DEVFN(2, 0), 4, 7, 2);
	/* the address register selects nothing without bit 31 */
	io_write(b->pio, 0xcf8, cf8(CARD, 0) & 0x7fffffff, 4);
	assert_int_equal(io_read(b->pio, 0xcfc, 4), 0xffffffff);
}

static void test_address_register(void **state)
{
	struct board *b = *state;

	io_write(b->pio, 0xcf8, 0xffffffff, 4);
	assert_int_equal(io_read(b->pio, 0xcf8, 4), 0x80fffffc);
	io_write(b->pio, 0xcf8, 0x12, 1);
	io_write(b->pio, 0xcfa, 0x1234, 2);
	assert_int_equal(io_read(b->pio, 0xcf8, 4), 0x80fffffc);
}

static void test_reset_control(void **state)
{
	struct board *b = *state;

	io_write(b->pio, 0xcf9, 0x02, 1);
	assert_int_equal(io_read(b->pio, 0xcf9, 1), 0x02);
	assert_int_equal(b->resets, 0);
	io_write(b->pio, 0xcf9, 0x06, 1);
	assert_int_equal(b->resets, 1);
	io_write(b->pio, 0xcf9, 0x06, 1);
	assert_int_equal(b->resets, 1);
}

static void test_read_only(void **state)
{
	struct board *b = *state;
	u8 before[256];

	for (unsigned i = 0; i < 256; i++)
		before[i] = (u8)ecam_read(b, CARD, i, 1);
	for (unsigned i = 0; i < 256; i += 4)
		if (i != 4 && (i < 0x10 || i >= 0x28))
			port_write(b, CARD, i, ~(u32)port_read(b, CARD, i, 4),
				   4);
	for (unsigned i = 0; i < 256; i++) {
		u8 want = b->card->pci.wmask[i];

		if ((i >= 4 && i < 8) || (i >= 0x10 && i < 0x28))
			continue;
		assert_int_equal(ecam_read(b, CARD, i, 1) ^ before[i], want);
	}
	/* past the space: nothing, and no harm */
	assert_int_equal(ecam_read(b, CARD, 0x100, 4), 0);
	assert_int_equal(ecam_read(b, CARD, 0xfff, 4), 0);
	io_write(b->mmio, ECAM + (CARD << 12) + 0xfe, ~0u, 4);
	io_write(b->mmio, ECAM + (CARD << 12) + 0xffc, ~0u, 8);
}

static void test_status(void **state)
{
	struct board *b = *state;

	assert_int_equal(port_read(b, CARD, PCI_STATUS, 2), 0x10);
	b->card->pci.r.cfg[PCI_STATUS + 1] = 0x31;
	port_write(b, CARD, PCI_STATUS, 0x2000, 2);
	assert_int_equal(port_read(b, CARD, PCI_STATUS, 2), 0x1110);
}

static void test_capabilities(void **state)
{
	struct board *b = *state;
	u32 at = port_read(b, CARD, PCI_CAP_PTR, 1);

	assert_int_equal(port_read(b, CARD, at, 1), PCI_CAP_VENDOR);
	assert_int_equal(port_read(b, CARD, at + 2, 1), 8);
	port_write(b, CARD, at + 4, 0xffffffff, 4);
	assert_int_equal(port_read(b, CARD, at + 4, 4), 0x0f0403ff);
	at = port_read(b, CARD, at + 1, 1);
	assert_int_equal(port_read(b, CARD, at, 1), PCI_CAP_MSIX);
	assert_int_equal(port_read(b, CARD, at + 1, 1), 0);
	assert_int_equal(port_read(b, CARD, at + 2, 2), 3);
	assert_int_equal(port_read(b, CARD, at + 4, 4), 2);
	assert_int_equal(port_read(b, CARD, at + 8, 4), 0x802);
}

static void test_bar_sizing(void **state)
{
	struct board *b = *state;

	for (unsigned i = 0; i < 6; i++)
		port_write(b, CARD, 0x10 + 4 * i, 0xffffffff, 4);
	assert_int_equal(port_read(b, CARD, 0x10, 4), 0xfffff00c);
	assert_int_equal(port_read(b, CARD, 0x14, 4), 0xffffffff);
	assert_int_equal(port_read(b, CARD, 0x18, 4), 0xfffff000);
	assert_int_equal(port_read(b, CARD, 0x1c, 4), 0xffffffe1);
	assert_int_equal(port_read(b, CARD, 0x20, 4), 0);
	assert_int_equal(port_read(b, CARD, 0x24, 4), 0);
	port_write(b, CARD, 0x30, 0xffffffff, 4); /* no ROM */
	assert_int_equal(port_read(b, CARD, 0x30, 4), 0);
	/* decoding on while sized, as some software does: maps nothing odd */
	port_write(b, CARD, PCI_COMMAND, 3, 2);
	assert_int_equal(b->card->moved, 0);
}

static void test_bar_moves(void **state)
{
	struct board *b = *state;
	u64 high = 0x4000000000ull;

	port_write(b, CARD, 0x10, 0xd0000000, 4);
	assert_int_equal(b->card->moved, 0);
	port_write(b, CARD, PCI_COMMAND, 2, 2);
	assert_int_equal(b->card->moved, 0xd0000000);
	io_write(b->mmio, 0xd0000010, 0x11223344, 4);
	assert_int_equal(io_read(b->mmio, 0xd0000010, 4), 0x11223344);
	port_write(b, CARD, 0x14, (u32)(high >> 32), 4);
	port_write(b, CARD, 0x10, 0x1000, 4);
	assert_int_equal(b->card->moved, high + 0x1000);
	assert_int_equal(io_read(b->mmio, high + 0x1010, 4), 0x11223344);
	assert_int_equal(io_read(b->mmio, 0xd0000010, 4), 0xffffffff);
	port_write(b, CARD, PCI_COMMAND, 0, 2);
	assert_int_equal(b->card->moved, 0);
	assert_int_equal(io_read(b->mmio, high + 0x1010, 4), 0xffffffff);
}

static void test_bar_collision(void **state)
{
	struct board *b = *state;

	port_write(b, CARD, 0x10, (u32)ECAM, 4);
	port_write(b, CARD, PCI_COMMAND, 2, 2);
	assert_int_equal(b->card->moved, 0);
	assert_int_not_equal(b->bus->bad_bars, 0);
	assert_int_equal(ecam_read(b, CARD, 0, 4), 0x10421af4);
	port_write(b, CARD, 0x10, 0xd0000000, 4);
	assert_int_equal(b->card->moved, 0xd0000000);
}

static void test_assign_and_reset(void **state)
{
	struct board *b = *state;

	assert_int_equal(pci_bus_assign(b->bus, 0xc0000000, 0x10000, NULL), 0);
	assert_int_equal(b->card->moved, 0xc0000000);
	assert_int_equal(b->card2->moved, 0xc0002000);
	assert_int_equal(port_read(b, CARD, PCI_COMMAND, 2), 2);
	dev_list_reset(&b->devs);
	assert_int_equal(b->card->moved, 0);
	assert_int_equal(port_read(b, CARD, 0x10, 4), 0xc);
	assert_int_equal(pci_bus_assign(b->bus, 0xc0000000, 0x2000, NULL),
			 -ENOSPC);
}

/* Cards 1 and 5 share wire 1. */
static void test_intx(void **state)
{
	struct board *b = *state;

	pci_intx(&b->card->pci, true);
	pci_intx(&b->card->pci, true);
	assert_true(b->level[1]);
	assert_int_equal(port_read(b, CARD, PCI_STATUS, 2), 0x18);
	pci_intx(&b->card2->pci, true);
	pci_intx(&b->card->pci, false);
	assert_true(b->level[1]);
	pci_intx(&b->card2->pci, false);
	assert_false(b->level[1]);
	pci_intx(&b->card->pci, true);
	port_write(b, CARD, PCI_COMMAND, PCI_COMMAND_INTX_OFF, 2);
	assert_false(b->level[1]);
	assert_int_equal(port_read(b, CARD, PCI_STATUS, 2), 0x18);
	port_write(b, CARD, PCI_COMMAND, 0, 2);
	assert_true(b->level[1]);
	dev_list_reset(&b->devs);
	assert_false(b->level[1]);
}

static void msix_program(struct board *b, unsigned v, bool masked)
{
	u64 at = 0xc8000000 + 16 * v;

	port_write(b, CARD, 0x18, 0xc8000000, 4);
	port_write(b, CARD, PCI_COMMAND, 6, 2);
	io_write(b->mmio, at, 0xfee01000, 4);
	io_write(b->mmio, at + 4, 0, 4);
	io_write(b->mmio, at + 8, 0x40 + v, 4);
	io_write(b->mmio, at + 12, masked, 4);
}

static void msix_control(struct board *b, u16 v)
{
	port_write(b, CARD, b->card->pci.msix_cap + 2u, v, 2);
}

static void test_msix(void **state)
{
	struct board *b = *state;

	msix_program(b, 1, false);
	pci_msix_send(&b->card->pci, 1);
	assert_int_equal(b->msis, 0);
	msix_control(b, 0x8000);
	assert_true(pci_msix_on(&b->card->pci));
	pci_msix_send(&b->card->pci, 1);
	assert_int_equal(b->msis, 1);
	assert_int_equal(b->msi_address[0], 0xfee01000);
	assert_int_equal(b->msi_data[0], 0x41);
	pci_msix_send(&b->card->pci, 4);
	pci_msix_send(&b->card->pci, 0xffff);
	assert_int_equal(b->msis, 1);
}

static void test_msix_masks(void **state)
{
	struct board *b = *state;

	msix_program(b, 1, false);
	msix_program(b, 2, true);
	msix_control(b, 0xc000);
	pci_msix_send(&b->card->pci, 1);
	pci_msix_send(&b->card->pci, 2);
	assert_int_equal(b->msis, 0);
	assert_int_equal(io_read(b->mmio, 0xc8000800, 8), 6);
	io_write(b->mmio, 0xc8000800, 0, 8); /* read-only */
	assert_int_equal(io_read(b->mmio, 0xc8000800, 4), 6);
	msix_control(b, 0x8000);
	assert_int_equal(b->msis, 1);
	assert_int_equal(b->msi_data[0], 0x41);
	assert_int_equal(io_read(b->mmio, 0xc8000800, 1), 4);
	io_write(b->mmio, 0xc8000000 + 2 * 16 + 12, 0, 4);
	assert_int_equal(b->msis, 2);
	assert_int_equal(b->msi_data[1], 0x42);
	assert_int_equal(io_read(b->mmio, 0xc8000800, 8), 0);
}

static void test_msix_table_access(void **state)
{
	struct board *b = *state;

	msix_program(b, 0, false);
	io_write(b->mmio, 0xc8000000, 0x123456789abcdef3ull, 8);
	assert_int_equal(io_read(b->mmio, 0xc8000000, 8), 0x123456789abcdef0);
	io_write(b->mmio, 0xc8000001, 0, 1);
	io_write(b->mmio, 0xc8000002, 0, 2);
	io_write(b->mmio, 0xc8000002, 0, 4);
	assert_int_equal(io_read(b->mmio, 0xc8000000, 8), 0x123456789abcdef0);
	io_write(b->mmio, 0xc8000008, 0xffffffffffffffffull, 8);
	assert_int_equal(io_read(b->mmio, 0xc800000c, 4), 1);
	/* between table and pending bits, and across the table's end */
	assert_int_equal(io_read(b->mmio, 0xc8000040, 4), 0);
	io_write(b->mmio, 0xc800003c, ~0ull, 8);
	assert_int_equal(io_read(b->mmio, 0xc800003c, 4), 1);
}

static void test_no_master_no_message(void **state)
{
	struct board *b = *state;

	msix_program(b, 1, false);
	msix_control(b, 0x8000);
	port_write(b, CARD, PCI_COMMAND, 2, 2);
	pci_msix_send(&b->card->pci, 1);
	assert_int_equal(b->msis, 0);
	assert_int_equal(b->card->master, 1);
}

static void test_msix_fd(void **state)
{
	struct board *b = *state;
	u64 one = 1;
	int fd = pci_msix_fd(&b->card->pci, 1);

	assert_true(fd >= 0);
	msix_program(b, 1, true);
	msix_control(b, 0x8000);
	assert_int_equal(b->routed, 0);
	/* masked: the signal becomes a pending bit */
	assert_int_equal(write(fd, &one, 8), 8);
	assert_int_equal(io_read(b->mmio, 0xc8000800, 4), 2);
	io_write(b->mmio, 0xc8000000 + 16 + 12, 0, 4);
	assert_int_equal(b->msis, 1);
	assert_int_equal(b->routed, 0xfee01000);
	assert_int_equal(b->routed_data, 0x41);
	assert_int_equal(b->routed_fd, fd);
	io_write(b->mmio, 0xc8000000 + 16 + 8, 0x55, 4);
	assert_int_equal(b->routed_data, 0x55);
	msix_control(b, 0);
	assert_int_equal(b->routed, 0);
}

static u64 config_read(void *arg, u64 off, unsigned len)
{
	return ecam_read(arg, CARD, (unsigned)off, len);
}

static void config_write(void *arg, u64 off, u64 val, unsigned len)
{
	struct board *b = arg;

	io_write(b->mmio, ECAM + (CARD << 12) + off, val, len);
}

static u64 ports_read(void *arg, u64 off, unsigned len)
{
	return io_read(((struct board *)arg)->pio, 0xcf8 + off, len);
}

static void ports_write(void *arg, u64 off, u64 val, unsigned len)
{
	io_write(((struct board *)arg)->pio, 0xcf8 + off, val, len);
}

static void test_classes(void **state)
{
	static const struct io_ops config = {config_read, config_write};
	static const struct io_ops ports = {ports_read, ports_write};
	struct board *b = *state;

	dev_test(&(struct dev_test){
		.dev = &b->card->pci.dev,
		.range = {{0x200, &config, b}, {8, &ports, b}},
	});
	dev_test(&(struct dev_test){
		.dev = &b->bus->dev,
		.range = {{0x200, &config, b}, {8, &ports, b}},
	});
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_ids),
		T(test_nobody_there),
		T(test_address_register),
		T(test_reset_control),
		T(test_read_only),
		T(test_status),
		T(test_capabilities),
		T(test_bar_sizing),
		T(test_bar_moves),
		T(test_bar_collision),
		T(test_assign_and_reset),
		T(test_intx),
		T(test_msix),
		T(test_msix_masks),
		T(test_msix_table_access),
		T(test_no_master_no_message),
		T(test_msix_fd),
		T(test_classes),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
