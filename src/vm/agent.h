/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's agent, at the other end of a port of the virtio console
 * (docs/snapshots.md, "The agent"): it is told in one line that the machine
 * begins another life, and who it is now; it answers in one line what it did.
 * Nobody may be there, and what answers may be anybody: answers are bounded,
 * checked, and shown to people only.
 */
#ifndef VM_AGENT_H
#define VM_AGENT_H

#include "backend/chr.h"
#include "device/vmgenid.h"

#define AGENT_PORT      "org.sublet.agent"
#define AGENT_HOST_NAME 64 /* with its NUL */

/* What there is to renew; the order of answers. */
enum {
	AGENT_RANDOM, /* numbers of the kernel */
	AGENT_TIME,
	AGENT_HOSTNAME,
	AGENT_NIC,
	AGENT_HOOKS,
	AGENT_THINGS
};
extern const char *const agent_things[AGENT_THINGS];

struct agent_news {
	u8 id[VMGENID_SIZE];
	char hostname[AGENT_HOST_NAME]; /* "": keep it */
	bool nic;                       /* a device's address changed */
	u8 nic_old[6], nic_new[6];
};

enum agent_state {
	AGENT_IDLE, /* there was nothing to tell */
	AGENT_TOLD, /* or about to be */
	AGENT_ANSWERED,
};

struct agent_answer {
	enum agent_state state;
	char result[AGENT_THINGS][8]; /* "ok", "failed", or "": no word of it */
};

struct agent;

/* NULL: no memory. l: whose thread may give the line to the port. */
struct agent *agent_new(struct loop *l);
/* The backend for the port, which owns a reference. */
struct chr *agent_chr(struct agent *a);
void agent_free(struct agent *a); /* NULL is nothing */

/* Replaces what was not yet told. The time of day is that at which the guest
 * takes the line. Any thread. */
void agent_tell(struct agent *a, const struct agent_news *n);
/* To the latest news. Any thread. */
void agent_answer(struct agent *a, struct agent_answer *out);

/* 1 to 63 letters, digits, '-' and '.', the first no sign. */
bool agent_hostname_ok(const char *name);

#endif
