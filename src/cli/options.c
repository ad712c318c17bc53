/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "cli/options.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "api/rundir.h"

/* --NAME VALUE or --NAME=VALUE, or --NAME alone where set takes none. */
struct option_row {
	const char *name;
	bool value;
	int (*set)(struct run_options *o, char *value, struct err *e);
};

static int parse_number(const char *s, unsigned long long max,
			unsigned long long *out, const char *what,
			struct err *e)
{
	char *end;

	errno = 0;
	*out = isdigit((unsigned char)*s) ? strtoull(s, &end, 0) : 0;
	if (!isdigit((unsigned char)*s) || *end || errno || *out > max)
		return err_set(e, -EINVAL,
			       "%s: '%s' is not a number up to %llu", what, s,
			       max);
	return 0;
}

int parse_size(const char *s, u64 *out, struct err *e)
{
	static const char units[] = "KMGT";
	unsigned long long v;
	const char *unit;
	unsigned shift = 0;
	char *end;

	errno = 0;
	v = isdigit((unsigned char)*s) ? strtoull(s, &end, 10) : 0;
	if (!isdigit((unsigned char)*s) || errno)
		goto bad;
	unit = *end ? strchr(units, toupper((unsigned char)*end)) : NULL;
	if (unit) {
		shift = 10 * (unsigned)(unit - units + 1);
		end++;
		if (*end == 'i' && end[1] == 'B')
			end += 2;
		else if (*end == 'B')
			end++;
	}
	if (*end || v > ~0ull >> shift)
		goto bad;
	*out = v << shift;
	return 0;
bad:
	return err_set(e, -EINVAL, "'%s' is not a size; for example 512M or 4G",
		       s);
}

static int opt_kernel(struct run_options *o, char *v, struct err *e)
{
	(void)e;
	o->vm.boot.kernel = v;
	return 0;
}

static int opt_initrd(struct run_options *o, char *v, struct err *e)
{
	(void)e;
	o->vm.boot.initrd = v;
	return 0;
}

static int opt_module(struct run_options *o, char *v, struct err *e)
{
	if (o->vm.boot.nmodules == BOOT_MODULES)
		return err_set(e, -EINVAL, "more than %d modules",
			       BOOT_MODULES);
	o->vm.boot.modules[o->vm.boot.nmodules++] = v;
	return 0;
}

static int opt_append(struct run_options *o, char *v, struct err *e)
{
	(void)e;
	o->append = v;
	return 0;
}

static int opt_unpack(struct run_options *o, char *v, struct err *e)
{
	static const char *const names[] = {"auto", "host", "guest"};

	for (unsigned i = 0; i < ARRAY_LEN(names); i++) {
		if (strcmp(v, names[i]))
			continue;
		o->vm.boot.unpack = (enum boot_unpack)i;
		return 0;
	}
	return err_set(e, -EINVAL,
		       "--kernel-unpack: '%s' is none of auto, host, guest", v);
}

static int opt_cpus(struct run_options *o, char *v, struct err *e)
{
	unsigned long long n;
	int rc = parse_number(v, 100000, &n, "--cpus", e);

	o->vm.cpus = (unsigned)n;
	return rc;
}

static int opt_affinity(struct run_options *o, char *v, struct err *e)
{
	(void)e;
	o->vm.sched.affinity = v;
	return 0;
}

static int opt_shares(struct run_options *o, char *v, struct err *e)
{
	unsigned long long n;
	int rc = parse_number(v, SCHED_WEIGHT_MAX, &n, "--cpu-shares", e);

	if (!rc && !n)
		rc = err_set(e, -EINVAL, "--cpu-shares is 1 to %d, not 0",
			     SCHED_WEIGHT_MAX);
	o->vm.sched.weight = (unsigned)n;
	return rc;
}

static int opt_quota(struct run_options *o, char *v, struct err *e)
{
	size_t n = strlen(v);
	unsigned long long percent;
	int rc;

	if (n > 1 && v[n - 1] == '%')
		v[n - 1] = 0;
	rc = parse_number(v, 100 * SCHED_CPUS, &percent, "--cpu-quota", e);
	if (!rc && !percent)
		rc = err_set(e, -EINVAL, "--cpu-quota is 1%% or more, not 0");
	o->vm.sched.quota = (unsigned)percent;
	return rc;
}

static int opt_core(struct run_options *o, char *v, struct err *e)
{
	(void)v;
	(void)e;
	o->vm.sched.core = true;
	return 0;
}

static int opt_memory(struct run_options *o, char *v, struct err *e)
{
	o->memory_given = true;
	return parse_size(v, &o->vm.memory, e);
}

/* A file name may have commas; only a last word of these is an option. */
static int opt_disk(struct run_options *o, char *v, struct err *e)
{
	static const struct {
		const char *word;
		bool readonly, overlay;
	} kinds[] = {
		{",rw", false, false},
		{",ro", true, false},
		{",private", false, true},
	};
	struct vm_disk *d = &o->vm.disks[o->vm.ndisks];
	char *comma = strrchr(v, ',');

	if (o->vm.ndisks == VM_DISKS)
		return err_set(e, -EINVAL, "more than %d disks", VM_DISKS);
	*d = (struct vm_disk){.path = v};
	for (size_t i = 0; comma && i < ARRAY_LEN(kinds); i++) {
		if (strcmp(comma, kinds[i].word))
			continue;
		d->readonly = kinds[i].readonly;
		d->overlay = kinds[i].overlay;
		*comma = 0;
		break;
	}
	if (!*v)
		return err_set(e, -EINVAL, "--disk needs a file");
	o->vm.ndisks++;
	return 0;
}

static int opt_net(struct run_options *o, char *v, struct err *e)
{
	if (!strcmp(v, "user"))
		o->vm.net = VM_NET_USER;
	else if (!strcmp(v, "none"))
		o->vm.net = VM_NET_NONE;
	else
		return err_set(e, -EINVAL, "--net: '%s' is none of user, none",
			       v);
	return 0;
}

/* For others, who may stand in another folder; it lives as long as we do. */
static char *absolute_path(char *path)
{
	char *cwd = *path == '/' ? NULL : getcwd(NULL, 0), *out = path;

	if (cwd && asprintf(&out, "%s/%s", cwd, path) < 0)
		out = path;
	free(cwd);
	return out;
}

int parse_vsock(struct vm_vsock *o, char *v, struct err *e)
{
	unsigned long long cid = o->cid;
	char *path = strstr(v, "path="), *end;

	if (path && path > v && path[-1] == ',')
		path[-1] = 0;
	else if (path != v)
		path = NULL;
	if (path && path[5])
		o->path = absolute_path(path + 5);
	if (!strncmp(v, "cid=", 4)) {
		cid = isdigit((unsigned char)v[4]) ? strtoull(v + 4, &end, 10)
						   : 0;
		if (cid < VSOCK_CID_MIN || cid > VSOCK_CID_MAX || *end)
			return err_set(e, -EINVAL,
				       "--vsock: the CID is a number from %u "
				       "to %u, not '%s'",
				       VSOCK_CID_MIN, VSOCK_CID_MAX, v + 4);
	} else if (strcmp(v, "on") && (v != path || !path[5])) {
		return err_set(e, -EINVAL,
			       "--vsock: '%s' is none of on, cid=N, path=FILE, "
			       "cid=N,path=FILE",
			       v);
	}
	o->cid = cid ? (u32)cid : vsock_cid_draw();
	return 0;
}

static int opt_vsock(struct run_options *o, char *v, struct err *e)
{
	return parse_vsock(&o->vm.vsock, v, e);
}

static int opt_agent(struct run_options *o, char *v, struct err *e)
{
	(void)v;
	(void)e;
	o->agent = true;
	return 0;
}

static int opt_forward(struct run_options *o, char *v, struct err *e)
{
	if (o->vm.nforwards == VM_FORWARDS)
		return err_set(e, -EINVAL, "more than %d forwards",
			       VM_FORWARDS);
	o->vm.forwards[o->vm.nforwards++] = v;
	return 0;
}

int parse_console(struct run_options *o, const char *v, struct err *e)
{
	o->console_given = true;
	if (!strcmp(v, "tty")) {
		o->console = RUN_CONSOLE_TTY;
	} else if (!strcmp(v, "none")) {
		o->console = RUN_CONSOLE_NONE;
	} else if (!strncmp(v, "file=", 5) && v[5]) {
		o->console = RUN_CONSOLE_FILE;
		o->console_file = v + 5;
	} else {
		return err_set(
			e, -EINVAL,
			"--console: '%s' is none of tty, file=FILE, none", v);
	}
	return 0;
}

static int opt_console(struct run_options *o, char *v, struct err *e)
{
	return parse_console(o, v, e);
}

static int opt_engine(struct run_options *o, char *v, struct err *e)
{
	if (strcmp(v, "auto") && strcmp(v, "soft") && strcmp(v, "kvm"))
		return err_set(e, -EINVAL,
			       "--engine: '%s' is none of auto, kvm, soft", v);
	o->vm.engine = v;
	return 0;
}

static int opt_name(struct run_options *o, char *v, struct err *e)
{
	o->vm.name = v;
	o->name_given = true;
	return rundir_check_name(v, e);
}

static int opt_port(const char *what, char *v, u16 *port, struct err *e)
{
	unsigned long long n;
	int rc = parse_number(v, 0xfffc, &n, what, e);

	if (!rc && !n)
		return err_set(e, -EINVAL, "%s: port 0 cannot be used", what);
	*port = (u16)n;
	return rc;
}

static int opt_debug_exit(struct run_options *o, char *v, struct err *e)
{
	return opt_port("--debug-exit", v, &o->vm.debug_exit_port, e);
}

static int opt_debug_console(struct run_options *o, char *v, struct err *e)
{
	return opt_port("--debug-console", v, &o->vm.debug_console_port, e);
}

static int opt_no_reboot(struct run_options *o, char *v, struct err *e)
{
	(void)v;
	(void)e;
	o->vm.no_reboot = true;
	return 0;
}

static int opt_nested(struct run_options *o, char *v, struct err *e)
{
	(void)v;
	(void)e;
	o->vm.nested = true;
	return 0;
}

static int opt_interp(struct run_options *o, char *v, struct err *e)
{
	(void)v;
	(void)e;
	o->vm.interp_only = true;
	return 0;
}

static int opt_direct(struct run_options *o, char *v, struct err *e)
{
	static const char *const name[] = {
		[DIRECT_OFF] = "off",
		[DIRECT_ON] = "on",
		[DIRECT_ALWAYS] = "always",
	};

	for (unsigned k = 0; k < ARRAY_LEN(name); k++) {
		if (!strcmp(v, name[k])) {
			o->vm.direct = k;
			return 0;
		}
	}
	return err_set(e, -EINVAL, "--direct: '%s' is not on, off or always",
		       v);
}

static int opt_trace(struct run_options *o, char *v, struct err *e)
{
	return trace_parse(&o->trace, v, e);
}

static int opt_lockstep(struct run_options *o, char *v, struct err *e)
{
	int rc = parse_size(v, &o->vm.lockstep, e);

	return rc ? err_set(e, rc,
			    "--lockstep: '%s' is no number of instructions "
			    "(as 50M)",
			    v)
		  : 0;
}

static int opt_code_cache(struct run_options *o, char *v, struct err *e)
{
	int rc = parse_size(v, &o->vm.code_cache, e);

	return rc ? err_set(e, rc, "--code-cache: '%s' is no size (as 64M)", v)
		  : 0;
}

static int opt_trace_file(struct run_options *o, char *v, struct err *e)
{
	(void)e;
	o->trace.path = v;
	return 0;
}

static int opt_trace_symbols(struct run_options *o, char *v, struct err *e)
{
	(void)e;
	o->trace.symbols_path = v;
	return 0;
}

static int opt_detach(struct run_options *o, char *v, struct err *e)
{
	(void)v;
	(void)e;
	o->detach = true;
	return 0;
}

static int opt_verbose(struct run_options *o, char *v, struct err *e)
{
	(void)v;
	(void)e;
	o->verbose = true;
	return 0;
}

static const struct option_row rows[] = {
	{"--kernel", true, opt_kernel},
	{"--initrd", true, opt_initrd},
	{"--module", true, opt_module},
	{"--append", true, opt_append},
	{"--kernel-unpack", true, opt_unpack},
	{"--cpus", true, opt_cpus},
	{"--cpu-affinity", true, opt_affinity},
	{"--cpu-shares", true, opt_shares},
	{"--cpu-quota", true, opt_quota},
	{"--core-scheduling", false, opt_core},
	{"--memory", true, opt_memory},
	{"--disk", true, opt_disk},
	{"--net", true, opt_net},
	{"--forward", true, opt_forward},
	{"--vsock", true, opt_vsock},
	{"--agent", false, opt_agent},
	{"--console", true, opt_console},
	{"--engine", true, opt_engine},
	{"--name", true, opt_name},
	{"--debug-exit", true, opt_debug_exit},
	{"--debug-console", true, opt_debug_console},
	{"--no-reboot", false, opt_no_reboot},
	{"--nested", false, opt_nested},
	{"--interpret", false, opt_interp},
	{"--code-cache", true, opt_code_cache},
	{"--direct", true, opt_direct},
	{"--lockstep", true, opt_lockstep},
	{"--trace", true, opt_trace},
	{"--trace-file", true, opt_trace_file},
	{"--trace-symbols", true, opt_trace_symbols},
	{"--detach", false, opt_detach},
	{"--verbose", false, opt_verbose},
};

static const struct option_row *option_find(const char *arg, size_t n)
{
	for (size_t i = 0; i < ARRAY_LEN(rows); i++)
		if (strlen(rows[i].name) == n && !memcmp(rows[i].name, arg, n))
			return &rows[i];
	return NULL;
}

/* One option at argv[*i]; moves *i past its value. */
static int option_take(struct run_options *o, int argc, char **argv, int *i,
		       struct err *e)
{
	char *arg = argv[*i], *value = strchr(arg, '=');
	size_t n = value ? (size_t)(value - arg) : strlen(arg);
	const struct option_row *row = option_find(arg, n);

	if (!row)
		return err_set(e, -EINVAL,
			       "unknown option %.*s; see sublet run --help",
			       (int)n, arg);
	if (value && !row->value)
		return err_set(e, -EINVAL, "%s takes no value", row->name);
	if (value) {
		value++;
	} else if (row->value) {
		if (*i + 1 == argc)
			return err_set(e, -EINVAL, "%s needs a value",
				       row->name);
		value = argv[++*i];
	}
	return row->set(o, value, e);
}

static int options_consistent(const struct run_options *o, struct err *e)
{
	if (!o->image && !o->vm.boot.kernel)
		return err_set(e, -EINVAL,
			       "what shall run? Name an image (tiny) or give "
			       "--kernel FILE");
	if (o->image && o->vm.boot.kernel && o->vm.boot.initrd)
		return err_set(e, -EINVAL,
			       "an image brings its own kernel and initrd: "
			       "give one or the other");
	if (o->command && !o->image)
		return err_set(e, -EINVAL,
			       "a command can be run in an image only, whose "
			       "init knows how to");
	if (o->command && o->detach)
		return err_set(e, -EINVAL,
			       "a command cannot be run with --detach: its "
			       "output would go nowhere");
	return 0;
}

int run_options_parse(struct run_options *o, int argc, char **argv,
		      struct err *e)
{
	*o = (struct run_options){0};
	vm_config_init(&o->vm);
	for (int i = 1; i < argc; i++) {
		int rc = 0;

		if (!strcmp(argv[i], "--")) {
			if (i + 1 == argc)
				return err_set(e, -EINVAL,
					       "no command after --");
			o->command = &argv[i + 1];
			break;
		}
		if (argv[i][0] == '-')
			rc = option_take(o, argc, argv, &i, e);
		else if (o->image)
			rc = err_set(e, -EINVAL,
				     "one image at a time: %s or %s? (A "
				     "command follows --)",
				     o->image, argv[i]);
		else
			o->image = argv[i];
		if (rc)
			return rc;
	}
	return options_consistent(o, e);
}
