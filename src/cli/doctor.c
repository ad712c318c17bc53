/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * "sublet doctor": one row for each thing a host may offer, what was found,
 * and what follows from it. Changes nothing on the host.
 */
#define _GNU_SOURCE
#include <cpuid.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <liburing.h>
#include <linux/landlock.h>
#include <linux/userfaultfd.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <unistd.h>

#include "cli/cli.h"
#include "cpu/direct/dspace.h"
#include "cpu/engine.h"

struct finding {
	bool good;
	char found[200];
	const char *follows; /* in words for the user */
};

struct check {
	const char *name;
	void (*look)(struct finding *f);
};

PRINTF(4, 5)
static void doctor_set(struct finding *f, bool good, const char *follows,
		       const char *fmt, ...)
{
	va_list ap;

	f->good = good;
	f->follows = follows;
	va_start(ap, fmt);
	vsnprintf(f->found, sizeof(f->found), fmt, ap);
	va_end(ap);
}

/* The first line of a file in buf; false if it cannot be read. */
static bool doctor_read(const char *path, char *buf, size_t size)
{
	FILE *f = fopen(path, "re");
	bool ok = f && fgets(buf, (int)size, f);

	if (f)
		fclose(f);
	if (ok)
		buf[strcspn(buf, "\n")] = 0;
	return ok;
}

static void look_kernel(struct finding *f)
{
	struct utsname u;

	uname(&u);
	doctor_set(f, true, "", "%s %s, %ld CPUs, %ld MiB of memory", u.sysname,
		   u.release, sysconf(_SC_NPROCESSORS_ONLN),
		   sysconf(_SC_PHYS_PAGES) / 256);
}

static void look_cpu(struct finding *f)
{
	/* Features of leaf 1 (ECX) and leaf 7 (EBX) of the guest's model. */
	static const struct {
		const char *name;
		u8 leaf7, bit;
	} want[] = {
		{"SSE4.2", 0, 20}, {"MOVBE", 0, 22}, {"POPCNT", 0, 23},
		{"AES", 0, 25},    {"AVX", 0, 28},   {"F16C", 0, 29},
		{"RDRAND", 0, 30}, {"FMA", 0, 12},   {"FSGSBASE", 1, 0},
		{"BMI1", 1, 3},    {"AVX2", 1, 5},   {"BMI2", 1, 8},
		{"ADX", 1, 19},    {"SHA", 1, 29},
	};
	u32 a, b, c = 0, d, b7 = 0, c7;
	char lacks[160] = "";

	__get_cpuid(1, &a, &b, &c, &d);
	__get_cpuid_count(7, 0, &a, &b7, &c7, &d);
	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		if (!((want[i].leaf7 ? b7 : c) >> want[i].bit & 1))
			snprintf(lacks + strlen(lacks),
				 sizeof(lacks) - strlen(lacks), " %s",
				 want[i].name);
	if (*lacks)
		doctor_set(f, false, "guests lack these features too",
			   "without%s", lacks);
	else
		doctor_set(f, true, "guests get all of CPU model sublet-v1",
			   "x86-64-v3 with AES, SHA, ADX, RDRAND");
}

static void look_kvm(struct finding *f)
{
	const struct engine_class *kvm;
	struct err e = {{0}};

	kvm = engine_find("kvm", NULL, &e);
	if (!kvm)
		doctor_set(f, false, "the soft engine runs guests", "%s",
			   e.text);
	else if (kvm->probe(&e))
		doctor_set(f, false, "the soft engine runs guests", "%s",
			   e.text);
	else
		doctor_set(f, true, "guests run at the hardware's speed",
			   "usable");
}

static void look_engine(struct finding *f)
{
	const struct engine_class *g;
	struct err why = {{0}}, e = {{0}};

	g = engine_find("auto", &why, &e);
	doctor_set(f, g != NULL, "what --engine auto chooses", "%s",
		   g ? g->name : e.text);
}

static void look_huge_pages(struct finding *f)
{
	char thp[80] = "none", shmem[80] = "none", pool[32] = "0";

	doctor_read("/sys/kernel/mm/transparent_hugepage/enabled", thp,
		    sizeof(thp));
	doctor_read("/sys/kernel/mm/transparent_hugepage/shmem_enabled", shmem,
		    sizeof(shmem));
	doctor_read("/proc/sys/vm/nr_hugepages", pool, sizeof(pool));
	if (strstr(shmem, "[advise]") || strstr(shmem, "[always]") ||
	    strstr(shmem, "[within_size]"))
		doctor_set(f, true, "guest memory uses 2 MiB pages",
			   "transparent: %s; shared memory: %s", thp, shmem);
	else
		doctor_set(f, false,
			   "guest memory uses 4 KiB pages (root: echo advise > "
			   "/sys/kernel/mm/transparent_hugepage/shmem_enabled)",
			   "transparent: %s; shared memory: %s; pool: %s", thp,
			   shmem, pool);
}

static void look_userfaultfd(struct finding *f)
{
	struct uffdio_api api = {.api = UFFD_API};
	int fd = (int)syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	int rc = fd < 0 ? -1 : ioctl(fd, UFFDIO_API, &api);

	if (rc)
		doctor_set(
			f, false,
			"no background snapshots and post-copy (root: sysctl "
			"vm.unprivileged_userfaultfd=1)",
			"not usable: %s", strerror(errno));
	else
		doctor_set(f, true, "snapshots and migration can use it",
			   "usable, features %#llx", api.features);
	if (fd >= 0)
		close(fd);
}

static void look_io_uring(struct finding *f)
{
	struct io_uring ring;
	int rc = io_uring_queue_init(2, &ring, 0);

	if (rc) {
		doctor_set(f, false, "disks use a thread pool",
			   "not usable: %s", strerror(-rc));
		return;
	}
	io_uring_queue_exit(&ring);
	doctor_set(f, true, "disks use it", "usable");
}

/* A device node that must be opened read-write. */
static void look_node(struct finding *f, const char *path, const char *good,
		      const char *bad)
{
	int fd = open(path, O_RDWR | O_CLOEXEC);

	if (fd < 0) {
		doctor_set(f, false, bad, "%s: %s", path, strerror(errno));
		return;
	}
	close(fd);
	doctor_set(f, true, good, "%s can be opened", path);
}

static void look_tun(struct finding *f)
{
	look_node(f, "/dev/net/tun", "tap networks are possible",
		  "only user-mode networks (--net user)");
}

static void look_vhost(struct finding *f)
{
	look_node(f, "/dev/vhost-net", "the kernel can carry guest packets",
		  "the monitor carries guest packets");
}

static void look_iommu(struct finding *f)
{
	DIR *d = opendir("/sys/kernel/iommu_groups");
	unsigned groups = 0;

	while (d && readdir(d))
		groups++;
	if (d)
		closedir(d);
	if (groups > 2)
		doctor_set(f, true, "devices can be passed through",
			   "%u groups", groups - 2);
	else
		doctor_set(f, false, "no device pass-through", "none");
}

static void look_landlock(struct finding *f)
{
	int abi = (int)syscall(SYS_landlock_create_ruleset, NULL, 0,
			       LANDLOCK_CREATE_RULESET_VERSION);

	if (abi < 0)
		doctor_set(f, false, "the sandbox does without", "%s",
			   strerror(errno));
	else
		doctor_set(f, true, "the sandbox can confine file access",
			   "ABI %d", abi);
}

static void look_cgroups(struct finding *f)
{
	char line[200];

	if (doctor_read("/sys/fs/cgroup/cgroup.controllers", line,
			sizeof(line)))
		doctor_set(f, true, "CPU shares and memory limits are possible",
			   "v2: %s", line);
	else if (!access("/sys/fs/cgroup/cpu", F_OK))
		doctor_set(f, false, "limits have to be set from outside",
			   "v1 only");
	else
		doctor_set(f, false, "limits have to be set from outside",
			   "not mounted");
}

static void look_user_namespaces(struct finding *f)
{
	char max[32] = "0";

	doctor_read("/proc/sys/user/max_user_namespaces", max, sizeof(max));
	doctor_set(f, atol(max) > 0, "", "at most %s", max);
	f->follows =
		f->good ? "a sandbox needs no root" : "a sandbox needs root";
}

/* What a child process of direct execution needs. */
static void look_direct(struct finding *f)
{
	struct err e = {""};
	int fd = memfd_create("sublet-doctor", MFD_CLOEXEC);
	struct dspace *s = fd < 0 ? NULL : dspace_new(fd, &e);

	if (s)
		doctor_set(f, true, "user code can run without translation",
			   "child processes can be traced and filtered");
	else
		doctor_set(f, false, "all guest code is translated", "%s",
			   fd < 0 ? "no memory files" : e.text);
	dspace_free(s);
	if (fd >= 0)
		close(fd);
}

static const struct check checks[] = {
	{"host", look_kernel},
	{"CPU", look_cpu},
	{"KVM", look_kvm},
	{"engine", look_engine},
	{"direct", look_direct},
	{"huge pages", look_huge_pages},
	{"userfaultfd", look_userfaultfd},
	{"io_uring", look_io_uring},
	{"tun", look_tun},
	{"vhost", look_vhost},
	{"IOMMU", look_iommu},
	{"Landlock", look_landlock},
	{"cgroups", look_cgroups},
	{"namespaces", look_user_namespaces},
};

static const char doctor_help[] =
	"Usage: sublet doctor\n"
	"\n"
	"Says what this host offers to virtual machines and what follows: '+'\n"
	"is there, '-' is not. Nothing is changed. The exit code is 0 if\n"
	"guests can run.\n";

static int doctor_run(int argc, char **argv)
{
	bool can_run = false;

	if (argc > 1) {
		bool help =
			!strcmp(argv[1], "--help") || !strcmp(argv[1], "-h");

		fputs(doctor_help, help ? stdout : stderr);
		return help ? 0 : CLI_EXIT_USAGE;
	}
	for (size_t i = 0; i < ARRAY_LEN(checks); i++) {
		struct finding f = {.follows = ""};

		checks[i].look(&f);
		printf("%c %-12s %s\n", f.good ? '+' : '-', checks[i].name,
		       f.found);
		if (*f.follows)
			printf("  %-12s -> %s\n", "", f.follows);
		if (checks[i].look == look_engine)
			can_run = f.good;
	}
	return can_run ? 0 : 1;
}

const struct cli_verb cli_doctor = {
	.name = "doctor",
	.summary = "say what this host offers and what follows",
	.help = doctor_help,
	.run = doctor_run,
};
