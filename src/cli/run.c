/* SPDX-License-Identifier: BSD-2-Clause */
/* sublet run: one virtual machine, from the command line to its end. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/image.h"
#include "cli/session.h"
#include "vm/agent.h"

struct run {
	struct run_options o;
	struct image image;
	char cmdline[4096];
	struct session s;
};

/* ---- configuration ---- */

/* The image's files where the user named none of his own. */
static int run_use_image(struct run *r, struct err *e)
{
	struct vm_config *c = &r->o.vm;
	int rc = image_open(r->o.image, &r->image, e);

	if (rc)
		return rc;
	if (r->o.command && !r->image.takes_command)
		return err_set(e, -EINVAL,
			       "the image %s does not take commands; log in "
			       "at its console instead",
			       r->o.image);
	if (!c->boot.kernel)
		c->boot.kernel = r->image.kernel;
	if (!c->boot.initrd && r->image.initrd[0])
		c->boot.initrd = r->image.initrd;
	if (!r->o.memory_given && r->image.memory)
		c->memory = r->image.memory;
	if (!r->image.disk[0])
		return 0;
	if (c->ndisks == VM_DISKS)
		return err_set(e, -EINVAL, "more than %d disks", VM_DISKS - 1);
	/* The image's own disk comes first: it is the root. */
	memmove(&c->disks[1], &c->disks[0], c->ndisks * sizeof(c->disks[0]));
	c->disks[0] = (struct vm_disk){.path = r->image.disk, .overlay = true};
	c->ndisks++;
	return 0;
}

static int run_cmdline(struct run *r, struct err *e)
{
	const char *append = r->o.append ? r->o.append : "";
	int n = snprintf(r->cmdline, sizeof(r->cmdline), "%s%s%s%s",
			 r->image.cmdline,
			 r->image.cmdline[0] && *append ? " " : "", append,
			 r->o.command ? " sublet.command" : "");

	if (n >= (int)sizeof(r->cmdline))
		return err_set(e, -E2BIG,
			       "the kernel's command line is longer "
			       "than %zu characters",
			       sizeof(r->cmdline) - 1);
	r->o.vm.boot.cmdline = r->cmdline;
	return 0;
}

static int run_configure(struct run *r, struct err *e)
{
	int rc = 0;

	r->o.vm.trace = &r->o.trace;
	if (r->o.image)
		rc = run_use_image(r, e);
	/* A command has the ports to itself. */
	if (r->o.agent || (r->o.image && !r->o.command))
		r->o.vm.ports[r->o.vm.nports++] = AGENT_PORT;
	if (!rc)
		rc = run_cmdline(r, e);
	return rc ? rc : vm_config_check(&r->o.vm, e);
}

/* ---- the run ---- */

static int run_build(struct run *r, struct err *e)
{
	int rc = session_open(&r->s, &r->o, e);

	if (rc)
		return rc;
	r->s.vm = vm_new(&r->o.vm, &r->s.backends, e);
	return r->s.vm ? 0 : -EINVAL;
}

static int run_main(int argc, char **argv)
{
	struct run r = {0};
	struct err e = {{0}};
	int rc;

	if (run_options_parse(&r.o, argc, argv, &e)) {
		fprintf(stderr, "sublet: %s\n", e.text);
		return CLI_EXIT_USAGE;
	}
	if (r.o.verbose)
		log_set_level(LOG_INFO);
	rc = run_configure(&r, &e);
	if (!rc)
		rc = trace_open(&r.o.trace, &e);
	if (rc) {
		fprintf(stderr, "sublet: %s\n", e.text);
		return CLI_EXIT_FAILED;
	}
	rc = run_build(&r, &e);
	if (rc)
		fprintf(stderr, "sublet: %s\n", e.text);
	rc = rc ? CLI_EXIT_FAILED : session_run(&r.s);
	session_close(&r.s);
	trace_close(&r.o.trace);
	return rc;
}

const struct cli_verb cli_run = {
	.name = "run",
	.summary = "run a virtual machine",
	.help = "usage: sublet run [IMAGE] [OPTIONS] [-- COMMAND...]\n"
		"\n"
		"Runs IMAGE (see sublet image), or the kernel given by "
		"--kernel, until it powers\noff. tiny is made on first use.\n"
		"\n"
		"  --kernel FILE         bzImage, vmlinux, PVH or multiboot "
		"kernel\n"
		"  --initrd FILE         its initial RAM disk\n"
		"  --module 'FILE ARGS'  a multiboot or PVH module; may be "
		"repeated\n"
		"  --append TEXT         more for the kernel's command line\n"
		"  --kernel-unpack HOW   who unpacks a bzImage: auto, host, "
		"guest\n"
		"  --cpus N              processors (1)\n"
		"  --cpu-affinity LIST   host CPUs it may run on (0-3,8), or "
		"for each processor\n"
		"                        (0:2,1:3 or 0-1:2-3)\n"
		"  --cpu-shares N        its weight among others, 1 to 10000 "
		"(100), by cgroup v2\n"
		"  --cpu-quota PERCENT   at most so much CPU time (150: one "
		"and a half CPUs)\n"
		"  --core-scheduling     share no core with other programs\n"
		"  --memory SIZE         memory, as 512M or 4G (512M)\n"
		"  --disk FILE[,ro|,private]\n"
		"                        a raw disk; may be repeated. private: "
		"what the guest\n"
		"                        writes does not reach FILE\n"
		"  --net user|none       network by the host's sockets, or "
		"none (user)\n"
		"  --forward tcp:HOST:GUEST\n"
		"                        a port of this host leads to one of "
		"the guest\n"
		"  --vsock on|[cid=N][,path=FILE]\n"
		"                        sockets between host and guest, at "
		"FILE (see sublet vsock)\n"
		"  --agent               a port for an agent in the guest, "
		"as images have\n"
		"  --console tty|file=FILE|none\n"
		"                        where the guest's console goes (tty)\n"
		"  --engine auto|kvm|soft\n"
		"                        what executes the guest (auto)\n"
		"  --name NAME           its name for the other verbs (the "
		"image's, or vm)\n"
		"  --detach              run in the background; print the "
		"name\n"
		"  --no-reboot           a reset ends the machine\n"
		"  --nested              let the guest run its own virtual "
		"machines\n"
		"  --interpret           soft engine: do not translate\n"
		"  --code-cache SIZE     soft engine: for translated code, "
		"each "
		"CPU (32M)\n"
		"  --direct on|off|always  soft engine: run user code directly "
		"(on)\n"
		"  --debug-exit PORT     a write of v there ends with status "
		"(v<<1)|1\n"
		"  --debug-console PORT  bytes written there are printed\n"
		"  --lockstep N          soft engine: check translated code "
		"for N instructions\n"
		"  --trace WHAT[,WHAT]   exits, blocks, code[=ADDRESS|NAME], "
		"faults, irqs, perfmap:\n"
		"                        see docs/translator.md\n"
		"  --trace-file FILE     where traces go (standard error)\n"
		"  --trace-symbols FILE  the guest kernel's System.map, for "
		"names in traces\n"
		"  --verbose             say more\n"
		"\n"
		"At a terminal, Ctrl-] q leaves (Ctrl-] Ctrl-] sends one "
		"Ctrl-]).\n"
		"\n"
		"A COMMAND of one word is a line for the guest's shell, of "
		"several the words\nthemselves. Its output is our output, our "
		"input (if no terminal) its input.\n"
		"\n"
		"Exit status: of COMMAND; or 0 after power off, what the "
		"guest wrote to the\ndebug exit, 2 for a wrong command line, "
		"124 if the guest died (triple fault),\n125 if Sublet could "
		"not do it, 128+N after signal N.\n",
	.run = run_main,
};
