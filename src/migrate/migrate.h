/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Moving a running VM to another monitor (docs/migration.md).
 *
 * The source sends memory while the guest runs, round after round, each time
 * what was written since (plan.h decides for how long), then pauses it and
 * hands it over:
 *
 *   source: paused, state sent -> target: loaded, READY -> source: gives up
 *   its disks' locks, COMMIT -> target: takes them, RUNNING, runs.
 *
 * Until the source has sent COMMIT, whatever fails leaves the VM running at the
 * source. From then on the source never runs it again by itself: if RUNNING
 * does not come, it keeps the paused VM, and people decide.
 */
#ifndef MIGRATE_MIGRATE_H
#define MIGRATE_MIGRATE_H

#include "migrate/addr.h"
#include "migrate/pages.h"
#include "migrate/plan.h"
#include "migrate/tls.h"
#include "vm/vm.h"

enum mig_post { MIG_POST_NEVER, MIG_POST_AUTO, MIG_POST_ALWAYS };

#define MIG_CODEC_AUTO MIG_CODECS

struct mig_options {
	const char *dest; /* strings are the caller's */
	struct mig_goals goals;
	enum mig_post post;
	enum mig_codec codec; /* or MIG_CODEC_AUTO */
	unsigned streams;     /* 1..MIG_STREAMS */
	u64 bandwidth;        /* bytes a second; 0: all there is */
	unsigned timeout_ms;  /* for each wait */
	bool dry_run, insecure;
	bool with_disks; /* their contents go along */
	struct mig_tls_config tls;
};

void mig_options_init(struct mig_options *o);
/* One sentence for what cannot be. */
int mig_options_check(const struct mig_options *o, struct err *e);

/* Over a network without TLS only if that was asked for. */
int mig_secure_check(const struct mig_addr *a, const struct mig_tls_config *tls,
		     bool insecure, struct err *e);

/* Told now and then, for people. */
struct mig_progress {
	const char *phase;
	unsigned round, slowdown;
	u64 sent;        /* bytes on the wire */
	u64 left;        /* bytes of memory still to be sent */
	u64 rate;        /* bytes a second */
	u64 downtime_ns; /* expected */
	char why[256];   /* the last decision */
};

/* How the VM's own process lends a hand. Functions of the migrating thread,
 * which is not the loop's. */
struct mig_host {
	struct vm *vm;
	/* Runs fn(fn_arg) on the loop's thread and waits; -ECANCELED if the
	 * VM has ended. */
	int (*on_loop)(void *arg, int (*fn)(void *fn_arg, struct err *e),
		       void *fn_arg, struct err *e);
	void (*progress)(void *arg, const struct mig_progress *p);
	bool (*cancelled)(void *arg);
	void *arg;
};

enum mig_outcome {
	MIG_STAYED, /* it runs here */
	MIG_MOVED,  /* it runs there */
	MIG_UNSURE, /* paused here; it may run there */
	MIG_BROKEN, /* runs there without all of its memory: resume */
};

struct mig_result {
	enum mig_outcome outcome;
	u64 downtime_ns, total_ns, sent;
	unsigned rounds;
	bool postcopy;
	u64 postcopy_ns;
	char why[256];
	char target[16]; /* its engine */
};

/*
 * Moves host->vm. 0: done (or, with dry_run, it would be), result says what
 * happened; else result.outcome tells where the VM is. Any thread but the
 * loop's.
 */
int mig_source(const struct mig_host *host, const struct mig_options *o,
	       struct mig_result *result, struct err *e);
/* Goes on with a post-copy whose connection broke; the target waits for it at
 * the same place. */
int mig_source_resume(const struct mig_host *host, const struct mig_options *o,
		      struct mig_result *result, struct err *e);
/* The VM was handed over and is kept paused; this makes it run here again, for
 * people who know that it does not run elsewhere. Loop thread. */
int mig_take_back(struct vm *vm, struct err *e);

/* ---- target ---- */

struct mig_incoming;

struct mig_incoming_options {
	const char *at;
	const char *engine; /* "auto" or a name */
	const char
		*disks; /* folder for disks that come along; NULL: none may */
	unsigned timeout_ms;
	bool interpret; /* soft engine: do not translate */
	bool insecure;
	struct mig_tls_config tls;
	bool (*cancelled)(void); /* asked while something is waited for; NULL */
};

/* Opens the place to wait at. */
struct mig_incoming *mig_incoming_new(const struct mig_incoming_options *o,
				      struct err *e);
/*
 * Waits until a source says what it wants to move, and refuses what this host
 * cannot run. Dry runs are served on the way. Fills in c, whose strings live as
 * long as the struct mig_incoming. Those who do not speak the protocol are
 * logged and forgotten.
 */
int mig_incoming_wait(struct mig_incoming *in, struct vm_config *c,
		      struct err *e);
/* Tells the source why not; it runs on. */
void mig_incoming_refuse(struct mig_incoming *in, const char *why);
/*
 * Receives memory and state into vm, made of that configuration; then it is
 * ours and vm_run() may be called. Else the source has it. Loop thread, before
 * vm_run().
 */
int mig_incoming_receive(struct mig_incoming *in, struct vm *vm, struct err *e);
/* After the VM has ended, before vm_free(). */
void mig_incoming_stop(struct mig_incoming *in);
/* Last of all: the configuration's strings go. */
void mig_incoming_free(struct mig_incoming *in);

#endif
