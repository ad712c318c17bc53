/* SPDX-License-Identifier: BSD-2-Clause */
/* Between virtq.c and the two ring formats. */
#ifndef BUS_VIRTQ_PRIV_H
#define BUS_VIRTQ_PRIV_H

#include "bus/virtq.h"

/* Also a packed one, where next is flags and flags is the buffer id. */
struct virtq_desc {
	u64 addr;
	u32 len;
	u16 flags;
	u16 next;
};

struct virtq_ring_ops {
	u64 (*driver_len)(const struct virtq *q);
	u64 (*device_len)(const struct virtq *q);
	int (*pop)(struct virtq *q, struct virtq_chain *c);
	void (*unpop)(struct virtq *q, unsigned n, unsigned slots);
	void (*fill)(struct virtq *q, const struct virtq_chain *c, u32 len,
		     unsigned n, unsigned slots);
	void (*publish)(struct virtq *q, unsigned n, unsigned slots);
	bool (*notify)(struct virtq *q);
	void (*kicks)(struct virtq *q, bool on);
	bool (*empty)(struct virtq *q);
};

extern const struct virtq_ring_ops virtq_split_ops, virtq_packed_ops;

/* Loads descriptor i of the ring, each half once. */
struct virtq_desc virtq_desc_load(const struct virtq *q, unsigned i);

/* Building a chain: begin, add each descriptor that is not a table, end. */
void virtq_chain_begin(struct virtq_chain *c);
bool virtq_chain_add(struct virtq *q, struct virtq_chain *c, u64 addr, u32 len,
		     bool writable);
int virtq_chain_end(struct virtq_chain *c);
/* A table's entry; false: broken. */
bool virtq_table_load(struct virtq *q, const struct virtq_desc *table,
		      unsigned i, struct virtq_desc *out);
/* Number of entries; 0: broken. */
unsigned virtq_table_len(struct virtq *q, const struct virtq_desc *table);

/* Used areas are DMA as well. */
void virtq_wrote(struct virtq *q, u64 gpa, u64 len);

static inline u16 virtq_load16(const u8 *p)
{
	return __atomic_load_n((const u16 *)p, __ATOMIC_ACQUIRE);
}

static inline void virtq_store16(u8 *p, u16 v)
{
	__atomic_store_n((u16 *)p, v, __ATOMIC_RELEASE);
}

static inline void virtq_store32(u8 *p, u32 v)
{
	__atomic_store_n((u32 *)p, v, __ATOMIC_RELAXED);
}

#endif
