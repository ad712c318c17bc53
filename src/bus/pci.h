/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * PCI: bus 0 with its host bridge, functions with a type 0 header, and their
 * interrupts (PCI 3.0; ECAM from PCI Express 3.0, 7.2.2).
 *
 * A device embeds struct pci_dev first in its own struct, describes itself by
 * pci_dev_init(), pci_bar(), pci_cap() and pci_msix(), and is put on the bus
 * by pci_attach(). Configuration space is an array of bytes with a mask of
 * what software may write; BARs are mapped and moved as software writes them.
 *
 * Locks: pci_bus.dev.lock (one configuration access at a time) > the locks of
 * what is behind the function > pci_dev.dev.lock (configuration bytes, MSI-X
 * table; a leaf but for the interrupt wires). bar_read() and bar_write() are
 * called with none of them held.
 */
#ifndef BUS_PCI_H
#define BUS_PCI_H

#include "bus/accel.h"
#include "bus/dev.h"
#include "bus/io.h"
#include "bus/pci_regs.h"
#include "irq/irq.h"
#include "mem/mem.h"

#define PCI_DEVFN(slot, fn) ((slot) << 3 | (fn))
#define PCI_FUNCTIONS       256 /* slots times functions of one bus */
#define PCI_CFG_SIZE        256
#define PCI_BARS            6
#define PCI_VECTORS         64

struct pci_dev;

struct pci_dev_ops {
	/* All NULL-able. */
	u64 (*bar_read)(struct pci_dev *d, unsigned bar, u64 off, unsigned len);
	void (*bar_write)(struct pci_dev *d, unsigned bar, u64 off, u64 val,
			  unsigned len);
	/* The BAR answers at base from now on; 0: nowhere. Bus lock held. */
	void (*bar_moved)(struct pci_dev *d, unsigned bar, u64 base);
	/* Around accesses to bytes past the header. Bus lock held. */
	void (*cfg_reading)(struct pci_dev *d, unsigned off, unsigned len);
	void (*cfg_written)(struct pci_dev *d, unsigned off, unsigned len);
	/* Bus mastering was switched. Bus lock held. */
	void (*master)(struct pci_dev *d, bool on);
	/* The function goes: nobody may use it afterwards. */
	void (*free)(struct pci_dev *d);
};

/* Guest-visible, saved. */
struct pci_regs {
	u8 cfg[PCI_CFG_SIZE];
	u32 msix[PCI_VECTORS * 4];
	u32 msix_pending[PCI_VECTORS / 32];
	u32 intx; /* what the device drives on its pin */
};

struct pci_bar {
	struct pci_dev *d;
	u64 size; /* 0: not there */
	u64 at;   /* where it is mapped; 0: nowhere. bus lock */
	u8 flags; /* PCI_BAR_* */
};

struct pci_id {
	u16 vendor, device, sub_vendor, sub_device;
	u32 class; /* class, subclass, programming interface */
	u8 revision;
};

struct pci_dev {
	struct dev dev;    /* first; lock: all of r */
	struct pci_regs r; /* dev.lock */
	const struct pci_dev_ops *ops;
	struct pci_bus *bus; /* set by pci_attach() */
	const char *name;
	struct pci_bar bar[PCI_BARS];
	u8 reset_cfg[PCI_CFG_SIZE]; /* power-on values */
	u8 wmask[PCI_CFG_SIZE];     /* bits software may write */
	u8 w1c[PCI_CFG_SIZE];       /* bits that writing one clears */
	u8 devfn;
	u8 last_cap, next_cap;
	u8 pin;      /* 0: none, 1: INTA */
	u8 msix_cap; /* 0: none */
	u8 msix_bar;
	u16 nvectors;
	u32 msix_table, msix_pba;     /* offsets in the BAR */
	bool wire;                    /* level on the bus's wire; dev.lock */
	int irqfd[PCI_VECTORS];       /* pci_msix_fd(); -1: none. dev.lock */
	u64 irqfd_route[PCI_VECTORS]; /* address it was routed to, or 0 */
	u32 irqfd_data[PCI_VECTORS];
};

/* What the board solders to the host bridge. */
struct pci_wiring {
	struct io_space *pio, *mmio;
	struct irq_line intx[4]; /* wired-or of the functions' pins */
	struct msi_sink msi;
	struct accel accel;
	/* Port 0xcf9: software asks for a reset. May be NULL. Any thread. */
	void (*reset)(void *arg);
	void *reset_arg;
};

struct pci_bus_regs {
	u32 address;     /* 0xcf8 */
	u32 rst_control; /* 0xcf9 */
};

struct pci_bus {
	struct dev dev;        /* first; lock: configuration accesses */
	struct pci_bus_regs r; /* dev.lock */
	struct pci_wiring w;
	struct pci_dev *bridge; /* 0:0.0 */
	struct pci_dev *fn[PCI_FUNCTIONS];
	u64 ecam;                  /* 0: none */
	pthread_mutex_t wire_lock; /* innermost */
	unsigned wires[4];         /* functions pulling; wire_lock */
	u64 bad_bars; /* BARs put where something else is; dev.lock */
};

/*
 * The bus with its host bridge; takes ports 0xcf8 to 0xcff. The bus and the
 * bridge are two devices: pci_bus_add() hands both to l.
 */
struct pci_bus *pci_bus_new(const struct pci_wiring *w, struct err *e);
void pci_bus_add(struct pci_bus *b, struct dev_list *l);
/* Shows configuration space at base, as MCFG says: 1 MiB for each bus. */
int pci_bus_ecam(struct pci_bus *b, u64 base, u64 len, struct err *e);

/*
 * What firmware does: gives BARs addresses in [base, base + len) and switches
 * memory decoding on. For boots without firmware, after each reset.
 */
int pci_bus_assign(struct pci_bus *b, u64 base, u64 len, struct err *e);

/* Index into pci_wiring.intx of a function's pin (1 = INTA), for _PRT. */
static inline unsigned pci_intx_wire(unsigned devfn, unsigned pin)
{
	return ((devfn >> 3) + pin - 1) & 3;
}

/* Configuration accesses as root complex; len 1, 2 or 4, any alignment. */
u32 pci_cfg_read(struct pci_bus *b, unsigned bdf, unsigned off, unsigned len);
void pci_cfg_write(struct pci_bus *b, unsigned bdf, unsigned off, u32 val,
		   unsigned len);

/* Describing a function; before pci_attach(). name must outlive it. */
void pci_dev_init(struct pci_dev *d, const struct pci_dev_ops *ops,
		  const struct pci_id *id, const char *name);
/* size: a power of two; a 64-bit BAR takes n and n + 1. */
void pci_bar(struct pci_dev *d, unsigned n, u64 size, u8 flags);
/* A capability of len bytes, body after the two of the header, with the bits
 * software may write (NULL: none). Returns its offset. */
unsigned pci_cap(struct pci_dev *d, u8 id, const void *body, const void *wmask,
		 unsigned len);
/* MSI-X with its table and pending bits at these offsets of a BAR. */
void pci_msix(struct pci_dev *d, unsigned vectors, unsigned bar, u32 table,
	      u32 pba);
void pci_pin(struct pci_dev *d, unsigned pin);
/* slot 0: the next free one. Does not dev_add(). */
int pci_attach(struct pci_bus *b, unsigned slot, struct pci_dev *d,
	       struct err *e);
void pci_detach(struct pci_dev *d); /* no vCPU runs */

/* Any thread, with the device's own lock held or not. */
void pci_intx(struct pci_dev *d, bool level);
bool pci_msix_on(struct pci_dev *d);
void pci_msix_send(struct pci_dev *d, unsigned vector);
bool pci_master(struct pci_dev *d); /* may the function do DMA? */
/* An eventfd whose signals become the vector's message, for helpers outside
 * the monitor; -ENOTSUP without accel. The fd stays the function's. */
int pci_msix_fd(struct pci_dev *d, unsigned vector);

#endif
