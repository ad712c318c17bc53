/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * When user code is run directly, and what is done when it stops.
 *
 * A stop costs about 10 us where generated code of the translator takes 0.3 to
 * 3 for the same trap, and saves some microseconds for each one of user code.
 * So a space is begun with when the guest's timer finds its user code running
 * and few ways into the kernel since the last time, and given up, for longer
 * each time, when what is around user code takes more time than that.
 */
#include "cpu/soft/direct_priv.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "cpu/soft/access.h"
#include "cpu/soft/event.h"
#include "mem/mem.h"

#define SAMPLE_NS    2000000 /* of the thread, between two samples at least */
#define SAMPLE_EXITS 40      /* a millisecond, at most, for beginning, */
#define SAMPLE_HITS  2       /* so often in a row */
#define WINDOW_STOPS 128     /* after so many a space must be worth it, */
#define FIRST_STOPS  512     /* after more when it is new */
#define STOP_NS      4000    /* of user code that must lie between two, */
#define CHANGE_NS    2000    /* beside what of a stop is the child's time */
#define REST_MS      50      /* given up for so long, doubled each time, */
#define REST_DOUBLED 6       /* so often */
#define CPUID_STOPS  16
#define SENSITIVE    64 /* instructions interpreted of a page, at most */

/* ---- Notes ---- */

#define FOR_SPACES(v, s)                                  \
	for (struct direct_space *s = (v)->direct->space; \
	     s < (v)->direct->space + DIRECT_SPACES; s++) \
		if (s->child)

void direct_note_set(struct soft_vcpu *v, const struct mmu_set *set)
{
	FOR_SPACES(v, s)
	{
		if (s->set == set)
			s->stale = true;
	}
}

void direct_note_page(struct soft_vcpu *v, const struct mmu_set *set, gva_t lin,
		      unsigned shift)
{
	FOR_SPACES(v, s)
	{
		if (s->set != set || s->stale)
			continue;
		if (s->ndrops == DIRECT_NOTES)
			s->stale = true;
		else
			s->drop[s->ndrops++] =
				(struct direct_drop){lin, MAX(shift, 12u)};
	}
}

static void note_host(struct soft_vcpu *v, u64 page)
{
	FOR_SPACES(v, s)
	{
		if (s->nhosts == DIRECT_NOTES)
			s->stale = true;
		else
			s->host[s->nhosts++] = (u32)page;
	}
}

void direct_note_host(struct soft_vcpu *v, const u8 *host)
{
	if (host)
		note_host(v, mem_page(soft_mem(v), host));
	else
		FOR_SPACES(v, s) s->stale = true;
}

void direct_note_code(struct soft_vcpu *v, u64 page)
{
	if (v->direct->scan[page])
		note_host(v, page);
	v->direct->scan[page] = SCAN_UNKNOWN;
}

void direct_note_all_code(struct soft_vcpu *v)
{
	madvise(v->direct->scan, v->direct->scan_size, MADV_DONTNEED);
	direct_note_host(v, NULL);
}

/* ---- Spaces ---- */

static u64 direct_cr3(const struct soft_vcpu *v)
{
	return v->cr3 & v->mmu->addr_mask;
}

static bool direct_always(const struct soft_vcpu *v)
{
	return v->vcpu.engine->config.direct == DIRECT_ALWAYS;
}

static void direct_want(struct soft_vcpu *v)
{
	const struct direct_space *s = v->direct->now;

	v->direct_want = s && s->on;
	v->direct_on = v->direct_want;
}

static void space_free(struct direct_space *s)
{
	dspace_free(s->child);
	if (s->region)
		munmap(s->region, DIRECT_REGIONS * sizeof(s->region[0]));
	free(s->hash);
	*s = (struct direct_space){.cpu = -1};
}

static bool space_make(struct soft_vcpu *v, struct direct_space *s)
{
	struct err e = {""};

	s->region = mmap(NULL, DIRECT_REGIONS * sizeof(s->region[0]),
			 PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	s->hash = calloc(DIRECT_HASH, sizeof(s->hash[0]));
	if (s->region == MAP_FAILED)
		s->region = NULL;
	if (s->region && s->hash)
		s->child = dspace_new(soft_mem(v)->fd, &e);
	if (s->child)
		return true;
	log_info("vCPU %u: %s", v->vcpu.id, e.text);
	space_free(s);
	v->direct->broken = true;
	return false;
}

/* One that is free, or the one that was not used for longest. */
static struct direct_space *space_oldest(struct soft_direct *d)
{
	struct direct_space *old = d->space;

	for (unsigned k = 0; k < DIRECT_SPACES; k++) {
		if (!d->space[k].child)
			return &d->space[k];
		if (d->space[k].used < old->used)
			old = &d->space[k];
	}
	return old;
}

/* A space for the CR3 in use; NULL: there can be none. */
static struct direct_space *space_take(struct soft_vcpu *v)
{
	struct direct_space *s = space_oldest(v->direct);

	if (!s->child && !space_make(v, s))
		return NULL;
	direct_forget(s);
	if (dspace_clear(s->child)) {
		space_free(s);
		return NULL;
	}
	if (s->cpuid_faults)
		dspace_fault_cpuid(s->child, false);
	s->cpuid_faults = false;
	s->cpuid_stops = 0;
	s->cr3 = direct_cr3(v);
	s->pending = 0;
	s->fails = 0;
	s->not_before = 0;
	v->direct->now = s;
	return s;
}

/* ---- Policy ---- */

static u64 direct_clock(clockid_t clock)
{
	struct timespec t = {0};

	clock_gettime(clock, &t);
	return (u64)t.tv_sec * 1000000000 + (u64)t.tv_nsec;
}

/* CPU time of the child, ns; of a busy host any other tells little. */
static u64 direct_time(const struct direct_space *s)
{
	clockid_t clock;

	return clock_getcpuclockid(dspace_pid(s->child), &clock)
		       ? 0
		       : direct_clock(clock);
}

static void direct_begin(struct soft_vcpu *v)
{
	struct soft_direct *d = v->direct;
	struct direct_space *s = d->now;

	if (s && clock_tsc() < s->not_before)
		return;
	if (!s)
		s = space_take(v);
	if (!s)
		return;
	s->on = true;
	s->stops = 0;
	s->time = direct_time(s);
	direct_want(v);
}

void soft_direct_switched(struct soft_vcpu *v)
{
	struct soft_direct *d = v->direct;
	u64 cr3 = direct_cr3(v);

	d->now = NULL;
	FOR_SPACES(v, s)
	{
		if (s->cr3 == cr3)
			d->now = s;
		else if (s->set == v->mmu->set)
			s->set = NULL; /* that is another's now */
	}
	if (direct_always(v) && !d->broken && !(d->now && d->now->on))
		direct_begin(v);
	direct_want(v);
}

static void direct_give_up(struct soft_vcpu *v, struct direct_space *s)
{
	struct soft_direct *d = v->direct;

	s->on = false;
	s->not_before =
		clock_tsc() + (REST_MS * d->ms << MIN(s->fails, REST_DOUBLED));
	s->fails++;
	direct_unplace(v);
	direct_want(v);
}

/* The page tables' place is another program's now. */
static void direct_other(struct soft_vcpu *v, struct direct_space *s)
{
	s->other = false;
	s->on = direct_always(v);
	s->fails = 0;
	s->not_before = 0;
	direct_unplace(v);
	direct_want(v);
}

/* Whether it was worth it. */
static void direct_judge(struct soft_vcpu *v, struct direct_space *s)
{
	u64 time, lost;

	if (direct_always(v))
		return;
	if (++s->stops < (s->fails ? WINDOW_STOPS : FIRST_STOPS))
		return;
	time = direct_time(s);
	lost = (u64)s->stops * STOP_NS;
	if (time - s->time < lost + (u64)s->stops * CHANGE_NS) {
		direct_give_up(v, s);
		return;
	}
	s->fails = 1;
	s->stops = 0;
	s->time = time;
}

void soft_direct_sample(struct soft_vcpu *v)
{
	struct soft_direct *d = v->direct;
	u64 now, time, cr3 = direct_cr3(v);
	u32 exits = v->user_exits - d->sample_exits;

	if (v->direct_want || d->broken)
		return;
	now = direct_clock(CLOCK_THREAD_CPUTIME_ID);
	time = now - d->sample_time;
	if (time < SAMPLE_NS)
		return;
	direct_unplace(v);
	if (v->cpl == 3 && cr3 == d->sample_cr3 && direct_ready(v) &&
	    exits * 1000000ull < SAMPLE_EXITS * time)
		d->sample_hits++;
	else
		d->sample_hits = 0;
	d->sample_time = now;
	d->sample_cr3 = cr3;
	d->sample_exits = v->user_exits;
	if (d->sample_hits >= SAMPLE_HITS)
		direct_begin(v);
}

/* ---- Running ---- */

/* Makes CPUID fault where pages with it are in the way often. */
static void direct_try_cpuid(struct soft_vcpu *v, struct direct_space *s)
{
	if (direct_scanned(v, s, v->rip) == SCAN_CPUID && !s->cpuid_faults &&
	    ++s->cpuid_stops == CPUID_STOPS)
		s->cpuid_faults = dspace_fault_cpuid(s->child, true);
}

/* Code that must not run in the child: interpreted up to where it may. */
static void direct_sensitive(struct soft_vcpu *v, struct direct_space *s)
{
	v->vcpu.stat[VCPU_STAT_DIRECT_CODE]++;
	direct_try_cpuid(v, s);
	for (unsigned k = 0; k < SENSITIVE; k++) {
		soft_step_plain(v);
		if (__atomic_load_n(&v->attention, __ATOMIC_RELAXED) ||
		    v->stop || v->cpl != 3 || v->rip >= DSPACE_END ||
		    direct_code(v, s, v->rip))
			return;
	}
	v->direct_on = false; /* until the kernel has been in */
}

/* The instruction before rip made the child stop. */
static u64 direct_back(struct soft_vcpu *v, u64 rip)
{
	const u8 *p = soft_host(v, rip - 1, 1, MMU_EXEC);

	return p && (*p == 0xcc || *p == 0xf1) ? rip - 1 : rip - 2;
}

/* A single step that user code asked for itself has been made. */
NORETURN static void direct_stepped(struct soft_vcpu *v)
{
	v->dr6 = (v->dr6 & ~15ull) | BIT(14);
	soft_fault(v, VEC_DB);
}

/*
 * After a stop that is not a kick: the instruction is the interpreter's, which
 * does what the guest's CPU would. What it lacked of memory is mapped before
 * the child runs again.
 */
static void direct_step(struct soft_vcpu *v, struct direct_space *s,
			const struct dspace_stop *stop)
{
	const struct dspace_regs *r = dspace_regs(s->child);

	if (stop->why == DSPACE_SYSCALL) {
		v->vcpu.stat[VCPU_STAT_DIRECT_CALL]++;
		v->gpr[REG_AX] = r->orig_rax;
		v->rip -= 2;
	} else if (stop->signo == SIGTRAP) {
		v->vcpu.stat[VCPU_STAT_DIRECT_TRAP]++;
		if (v->rflags & RFLAGS_TF)
			direct_stepped(v);
		v->rip = direct_back(v, v->rip);
	} else if (stop->signo == SIGSEGV && stop->code != SI_KERNEL) {
		v->vcpu.stat[VCPU_STAT_DIRECT_FAULT]++;
		if (stop->addr >> PAGE_SHIFT == v->rip >> PAGE_SHIFT &&
		    !direct_is_code(s, v->rip))
			return; /* direct_code() sees to it */
		s->pending = stop->addr;
	} else {
		v->vcpu.stat[VCPU_STAT_DIRECT_TRAP]++;
	}
	soft_step_plain(v);
}

/* The child is of no use any more. */
static void direct_lost(struct soft_vcpu *v, struct direct_space *s)
{
	log_info("vCPU %u: a child process for user code has ended",
		 v->vcpu.id);
	space_free(s);
	v->direct->now = NULL;
	direct_want(v);
}

/* Until the next stop. False: not here, not now. */
static bool direct_once(struct soft_vcpu *v, struct direct_space *s,
			struct dspace_stop *stop)
{
	int rc = -EIO;

	if (direct_state_in(v, s)) {
		direct_place(v, s);
		rc = dspace_run(s->child, &v->direct_pid, &v->attention, stop);
	}
	if (rc) {
		direct_forget(s);
		direct_give_up(v, s);
		return false;
	}
	v->vcpu.stat[VCPU_STAT_DIRECT]++;
	if (!direct_state_out(v, s))
		s->vectors_known = false;
	direct_judge(v, s);
	return true;
}

static bool direct_may_go_on(const struct soft_vcpu *v)
{
	return v->direct_on && v->cpl == 3 && !v->stop &&
	       !__atomic_load_n(&v->attention, __ATOMIC_SEQ_CST) &&
	       direct_ready(v);
}

bool soft_direct_run(struct soft_vcpu *v)
{
	struct direct_space *s = v->direct->now;
	struct dspace_stop stop;
	int rc;

	if (!direct_ready(v)) {
		v->direct_on = false;
		return false;
	}
	s->used = ++v->direct->tick;
	do {
		rc = direct_mend(v, s);
		if (!rc)
			rc = direct_code(v, s, v->rip);
		if (rc == -ESRCH) {
			direct_lost(v, s);
			return false;
		}
		if (rc < 0)
			continue;
		if (s->other) {
			direct_other(v, s);
			return false;
		}
		if (!rc) {
			direct_sensitive(v, s);
			return true;
		}
		if (!direct_once(v, s, &stop))
			return false;
		if (stop.why == DSPACE_DIED) {
			direct_lost(v, s);
			return true;
		}
		if (s->beyond)
			soft_fault(v, VEC_UD);
		if (stop.why == DSPACE_KICKED) {
			v->vcpu.stat[VCPU_STAT_DIRECT_KICK]++;
			return true;
		}
		direct_step(v, s, &stop);
	} while (direct_may_go_on(v));
	return true;
}

/* ---- Beginning and end ---- */

void soft_direct_init(struct soft_vcpu *v)
{
	const struct engine_config *c = &v->vcpu.engine->config;
	struct soft_direct *d;

	if (!c->direct || !v->jit || c->lockstep || c->mem->private)
		return;
	d = calloc(1, sizeof(*d));
	if (!d)
		return;
	d->scan_size = ALIGN_UP(c->mem->size >> PAGE_SHIFT, PAGE_SIZE);
	d->scan = mmap(NULL, d->scan_size, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (d->scan == MAP_FAILED) {
		free(d);
		return;
	}
	d->ms = soft_engine_of(v)->tsc_hz / 1000;
	d->cpu = -1;
	for (unsigned k = 0; k < DIRECT_SPACES; k++)
		d->space[k].cpu = -1;
	v->direct = d;
}

void soft_direct_fini(struct soft_vcpu *v)
{
	struct soft_direct *d = v->direct;

	if (!d)
		return;
	for (unsigned k = 0; k < DIRECT_SPACES; k++)
		space_free(&d->space[k]);
	munmap(d->scan, d->scan_size);
	free(d);
	v->direct = NULL;
}
