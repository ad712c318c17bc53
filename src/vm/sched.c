/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "vm/sched.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <mntent.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#ifndef PR_SCHED_CORE
#define PR_SCHED_CORE        62
#define PR_SCHED_CORE_CREATE 1
#endif
#define SCHED_CORE_PROCESS 1 /* the whole thread group */

#define CGROUP_PERIOD_US 100000u

/* ---- affinity ---- */

static bool sched_number(const char **p, unsigned max, unsigned *out)
{
	unsigned long v;
	char *end;

	if (!isdigit((unsigned char)**p))
		return false;
	v = strtoul(*p, &end, 10);
	*p = end;
	*out = (unsigned)v;
	return v < max;
}

/* "N" or "N-M" */
static bool sched_range(const char **p, unsigned max, unsigned *lo,
			unsigned *hi)
{
	if (!sched_number(p, max, lo))
		return false;
	*hi = *lo;
	if (**p != '-')
		return true;
	++*p;
	return sched_number(p, max, hi) && *hi >= *lo;
}

/*
 * The host CPUs of vCPU id out of the text; false if the text is wrong.
 * "A-B:C-D" gives vCPU A+i the CPU C+i where both ranges are as long, and all
 * of C-D to each otherwise.
 */
static bool sched_parse(const char *p, unsigned id, cpu_set_t *set)
{
	CPU_ZERO(set);
	for (;;) {
		unsigned lo, hi, first = 0, last = SCHED_CPUS;

		if (!sched_range(&p, SCHED_CPUS, &lo, &hi))
			return false;
		if (*p == ':') {
			p++;
			first = lo;
			last = hi;
			if (!sched_range(&p, SCHED_CPUS, &lo, &hi))
				return false;
			if (hi - lo == last - first && id >= first &&
			    id <= last)
				lo = hi = lo + (id - first);
		}
		for (; lo <= hi && id >= first && id <= last; lo++)
			CPU_SET(lo, set);
		if (!*p)
			return true;
		if (*p++ != ',')
			return false;
	}
}

static int sched_affinity(const struct sched_config *c, unsigned id,
			  cpu_set_t *set, struct err *e)
{
	cpu_set_t have, both;

	if (!sched_parse(c->affinity, id, set))
		return err_set(
			e, -EINVAL,
			"--cpu-affinity: '%s' is not like 0-3 or 0:2,1:3",
			c->affinity);
	if (!CPU_COUNT(set)) /* a vCPU that is not named runs anywhere */
		return 0;
	if (sched_getaffinity(0, sizeof(have), &have))
		return err_errno(e, -errno, "cannot read the CPU affinity");
	CPU_AND(&both, set, &have);
	if (!CPU_EQUAL(&both, set))
		return err_set(e, -EINVAL,
			       "--cpu-affinity: '%s' names CPUs that are not "
			       "there or not allowed",
			       c->affinity);
	return 0;
}

/* Names a vCPU that the machine has not. */
static bool sched_names(const char *p, unsigned cpus, unsigned *which)
{
	for (; p; p = strchr(p, ',')) {
		unsigned lo, hi;

		p += *p == ',';
		if (!sched_range(&p, SCHED_CPUS, &lo, &hi))
			return false;
		*which = hi;
		if (*p == ':' && hi >= cpus)
			return true;
	}
	return false;
}

int sched_check(const struct sched_config *c, unsigned cpus, struct err *e)
{
	unsigned which;
	cpu_set_t set;

	if (c->weight > SCHED_WEIGHT_MAX)
		return err_set(e, -EINVAL, "--cpu-shares is 1 to %d",
			       SCHED_WEIGHT_MAX);
	for (unsigned id = 0; c->affinity && id < cpus; id++) {
		int rc = sched_affinity(c, id, &set, e);

		if (rc)
			return rc;
	}
	if (c->affinity && sched_names(c->affinity, cpus, &which))
		return err_set(e, -EINVAL,
			       "--cpu-affinity: '%s' names vCPU %u of %u",
			       c->affinity, which, cpus);
	return 0;
}

int sched_pin(const struct sched_config *c, unsigned id, struct err *e)
{
	cpu_set_t set;
	int rc;

	if (!c->affinity)
		return 0;
	rc = sched_affinity(c, id, &set, e);
	if (rc || !CPU_COUNT(&set))
		return rc;
	if (sched_setaffinity(0, sizeof(set), &set))
		return err_errno(e, -errno, "cannot pin vCPU %u", id);
	return 0;
}

/* ---- cgroup v2 ---- */

static int sched_write(const char *dir, const char *file, const char *text)
{
	char path[4096];
	int fd, rc = 0;

	snprintf(path, sizeof(path), "%s/%s", dir, file);
	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		rc = -errno;
	close(fd);
	return rc;
}

/* Where cgroup v2 is mounted; false: nowhere. */
static bool sched_root(char *root, size_t size)
{
	FILE *f = setmntent("/proc/self/mounts", "re");
	struct mntent *m;
	bool found = false;

	while (f && !found && (m = getmntent(f))) {
		found = !strcmp(m->mnt_type, "cgroup2");
		if (found)
			snprintf(root, size, "%s", m->mnt_dir);
	}
	if (f)
		endmntent(f);
	return found;
}

/* The path of our own cgroup, to be freed; NULL: no cgroup v2 here. */
static char *sched_own(void)
{
	char root[1024], line[4096], *path = NULL;
	FILE *f;

	if (!sched_root(root, sizeof(root)))
		return NULL;
	f = fopen("/proc/self/cgroup", "re");
	while (f && !path && fgets(line, sizeof(line), f)) {
		line[strcspn(line, "\n")] = 0;
		if (!strncmp(line, "0::", 3) &&
		    asprintf(&path, "%s%s", root,
			     strcmp(line + 3, "/") ? line + 3 : "") < 0)
			path = NULL;
	}
	if (f)
		fclose(f);
	return path;
}

static int sched_limit(const struct sched *s, const struct sched_config *c,
		       struct err *e)
{
	char text[64];
	int rc = 0;

	if (c->weight) {
		snprintf(text, sizeof(text), "%u", c->weight);
		rc = sched_write(s->cgroup, "cpu.weight", text);
	}
	if (!rc && c->quota) {
		snprintf(text, sizeof(text), "%u %u",
			 CGROUP_PERIOD_US / 100 * c->quota, CGROUP_PERIOD_US);
		rc = sched_write(s->cgroup, "cpu.max", text);
	}
	return rc ? err_errno(e, rc, "cannot set CPU limits in %s", s->cgroup)
		  : 0;
}

/* The group gets its controller only when no process is left in its parent,
 * the root excepted. */
static int sched_enter(const struct sched *s, struct err *e)
{
	char text[16];
	int rc;

	snprintf(text, sizeof(text), "%d", getpid());
	rc = sched_write(s->cgroup, "cgroup.procs", text);
	if (rc)
		return err_errno(e, rc, "cannot join %s", s->cgroup);
	rc = sched_write(s->parent, "cgroup.subtree_control", "+cpu");
	if (rc == -EBUSY)
		return err_set(e, rc,
			       "--cpu-shares and --cpu-quota: other processes "
			       "are in our cgroup; start with systemd-run "
			       "--scope -p Delegate=yes");
	if (rc == -ENOENT || rc == -EINVAL)
		return err_set(e, -ENOTSUP,
			       "--cpu-shares and --cpu-quota need the cpu "
			       "controller of cgroup v2, which %s has not",
			       s->parent);
	return rc ? err_errno(e, rc, "--cpu-shares and --cpu-quota: %s",
			      s->parent)
		  : 0;
}

static int sched_cgroup(struct sched *s, const struct sched_config *c,
			struct err *e)
{
	int rc;

	s->parent = sched_own();
	if (!s->parent)
		return err_set(e, -ENOTSUP,
			       "--cpu-shares and --cpu-quota need cgroup v2");
	if (asprintf(&s->cgroup, "%s/sublet-%s-%d", s->parent,
		     c->name ? c->name : "vm", getpid()) < 0) {
		s->cgroup = NULL;
		return err_set(e, -ENOMEM, "out of memory");
	}
	if (mkdir(s->cgroup, 0755)) {
		rc = err_errno(e, -errno,
			       "--cpu-shares and --cpu-quota: cannot make "
			       "the cgroup %s",
			       s->cgroup);
		free(s->cgroup);
		s->cgroup = NULL;
		return rc;
	}
	rc = sched_enter(s, e);
	return rc ? rc : sched_limit(s, c, e);
}

/* ---- all of it ---- */

static int sched_core(struct err *e)
{
	if (!prctl(PR_SCHED_CORE, PR_SCHED_CORE_CREATE, 0, SCHED_CORE_PROCESS,
		   0))
		return 0;
	if (errno == ENODEV)
		return err_set(e, -ENOTSUP,
			       "--core-scheduling: no core of this host has "
			       "two threads");
	if (errno == EINVAL)
		return err_set(e, -ENOTSUP,
			       "--core-scheduling: this host's kernel is "
			       "built without it");
	return err_errno(e, -errno, "--core-scheduling");
}

int sched_join(struct sched *s, const struct sched_config *c, struct err *e)
{
	int rc = 0;

	memset(s, 0, sizeof(*s));
	if (c->weight || c->quota)
		rc = sched_cgroup(s, c, e);
	if (!rc && c->core)
		rc = sched_core(e);
	if (rc)
		sched_leave(s);
	return rc;
}

void sched_leave(struct sched *s)
{
	char text[16];

	if (s->cgroup) {
		snprintf(text, sizeof(text), "%d", getpid());
		sched_write(s->parent, "cgroup.procs", text);
		rmdir(s->cgroup);
	}
	free(s->cgroup);
	free(s->parent);
	memset(s, 0, sizeof(*s));
}
