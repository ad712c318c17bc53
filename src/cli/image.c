/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "cli/image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/log.h"
#include "cli/cli.h"
#include "cli/manifest.h"
#include "cli/recipes.h"

#define SCRATCH_PREFIX ".making-"

/* The folder of all images; made if need be. */
static int image_root(char *buf, size_t size, struct err *e)
{
	const char *cache = getenv("XDG_CACHE_HOME");
	const char *home = getenv("HOME");

	if (cache && *cache == '/')
		snprintf(buf, size, "%s/sublet/images", cache);
	else if (home && *home == '/')
		snprintf(buf, size, "%s/.cache/sublet/images", home);
	else
		return err_set(e, -ENOENT,
			       "neither XDG_CACHE_HOME nor HOME names a folder "
			       "for the images");
	for (char *p = buf + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = 0;
		mkdir(buf, 0755);
		*p = '/';
	}
	if (mkdir(buf, 0755) && errno != EEXIST)
		return err_errno(e, -errno, "cannot make %s", buf);
	return 0;
}

/* A name is one path component and no option: letters, digits, "._-". */
static bool image_name_ok(const char *name)
{
	static const char set[] = "abcdefghijklmnopqrstuvwxyz"
				  "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789._-";
	size_t n = strlen(name);

	return n && n < 64 && *name != '.' && *name != '-' &&
	       strspn(name, set) == n;
}

static int image_unlink(const char *path, const struct stat *st, int type,
			struct FTW *ftw)
{
	(void)st;
	(void)type;
	(void)ftw;
	return remove(path);
}

static void image_rm(const char *dir)
{
	nftw(dir, image_unlink, 16, FTW_DEPTH | FTW_PHYS);
}

/* Scratch folders that a killed "create" left; called with the lock held. */
static void image_sweep(const char *root)
{
	char path[PATH_MAX + 256];
	struct dirent *d;
	DIR *dir = opendir(root);

	while (dir && (d = readdir(dir))) {
		if (strncmp(d->d_name, SCRATCH_PREFIX, strlen(SCRATCH_PREFIX)))
			continue;
		snprintf(path, sizeof(path), "%s/%s", root, d->d_name);
		image_rm(path);
	}
	if (dir)
		closedir(dir);
}

/* One maker at a time; the lock goes with the fd. */
static int image_lock(const char *root, struct err *e)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/.lock", root);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open %s", path);
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		fprintf(stderr, "sublet: waiting for another sublet that is "
				"making an image\n");
		while (flock(fd, LOCK_EX) && errno == EINTR)
			;
	}
	return fd;
}

/* The child: sh runs the script. */
NORETURN static void image_run_script(const char *script, const char *out,
				      const char *tmp)
{
	int null = open("/dev/null", O_RDWR);
	sigset_t none;

	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGTERM);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	setenv("OUT", out, 1);
	setenv("TMP", tmp, 1);
	dup2(null, STDIN_FILENO);
	dup2(STDERR_FILENO, STDOUT_FILENO);
	closefrom(STDERR_FILENO + 1);
	execl("/bin/sh", "sh", "-c", script, NULL);
	_exit(127);
}

/*
 * Waits for the recipe, a process group of its own; Ctrl-C and the like are
 * handed on to it and remembered. They stay blocked, so that the caller can
 * clear away before they take effect. Returns its wait status, -1 if broken
 * off.
 */
static int image_wait(pid_t pid, const sigset_t *signals)
{
	int status = 0, sig;
	bool broken_off = false;

	for (;;) {
		sig = sigwaitinfo(signals, NULL);
		if (sig == SIGCHLD && waitpid(pid, &status, WNOHANG) == pid)
			break;
		if (sig < 0 || sig == SIGCHLD)
			continue;
		broken_off = true;
		kill(-pid, SIGTERM);
	}
	return broken_off ? -1 : status;
}

static int image_cook(const struct recipe *r, const char *out, const char *tmp,
		      struct err *e)
{
	sigset_t signals, old;
	char *script;
	int status;
	pid_t pid;

	status = recipe_put_files(tmp);
	if (status)
		return err_errno(e, status, "cannot write to %s", tmp);
	if (asprintf(&script, "%s%s", recipe_common, r->script) < 0)
		return err_set(e, -ENOMEM, "out of memory");
	sigemptyset(&signals);
	sigaddset(&signals, SIGINT);
	sigaddset(&signals, SIGTERM);
	sigaddset(&signals, SIGHUP);
	sigaddset(&signals, SIGCHLD);
	sigprocmask(SIG_BLOCK, &signals, &old);
	pid = fork();
	if (pid == 0)
		image_run_script(script, out, tmp);
	free(script);
	status = pid < 0 ? -1 : image_wait(pid, &signals);
	sigprocmask(SIG_SETMASK, &old, NULL);
	if (pid < 0)
		return err_errno(e, -EAGAIN, "cannot start a shell");
	if (status == -1)
		return err_set(e, -EINTR, "interrupted; image %s was not made",
			       r->name);
	if (status)
		return err_set(e, -EIO, "image %s was not made", r->name);
	return 0;
}

static int image_room(const struct recipe *r, const char *root, struct err *e)
{
	struct statvfs fs;
	u64 free_bytes;

	if (statvfs(root, &fs))
		return err_errno(e, -errno, "cannot look at %s", root);
	free_bytes = (u64)fs.f_bavail * fs.f_frsize;
	if (free_bytes < r->need)
		return err_set(e, -ENOSPC,
			       "image %s needs %llu MiB in %s, where %llu MiB "
			       "are free",
			       r->name, r->need / MIB, root, free_bytes / MIB);
	return 0;
}

/* By which recipe it is made, among the options that it left. */
static int image_note_recipe(const struct recipe *r, const char *out,
			     struct err *e)
{
	char path[PATH_MAX + 16];
	FILE *f;

	snprintf(path, sizeof(path), "%s/options", out);
	f = fopen(path, "ae");
	if (!f || fprintf(f, "recipe %08x\n", recipe_crc(r)) < 0 || fclose(f))
		return err_errno(e, -errno, "cannot write %s", path);
	return 0;
}

static int image_make_in(const struct recipe *r, const char *root,
			 const char *dir, struct err *e)
{
	char out[PATH_MAX], tmp[PATH_MAX], scratch[PATH_MAX - 8];
	int rc = image_room(r, root, e);

	if (rc)
		return rc;
	snprintf(scratch, sizeof(scratch), "%s/" SCRATCH_PREFIX "XXXXXX", root);
	if (!mkdtemp(scratch))
		return err_errno(e, -errno, "cannot make a folder in %s", root);
	snprintf(out, sizeof(out), "%s/out", scratch);
	snprintf(tmp, sizeof(tmp), "%s/tmp", scratch);
	if (mkdir(out, 0755) || mkdir(tmp, 0755))
		rc = err_errno(e, -errno, "cannot make a folder in %s",
			       scratch);
	else
		rc = image_cook(r, out, tmp, e);
	if (!rc)
		rc = image_note_recipe(r, out, e);
	if (!rc)
		rc = manifest_write(out, e);
	if (!rc) {
		image_rm(dir);
		if (rename(out, dir))
			rc = err_errno(e, -errno, "cannot make %s", dir);
	}
	image_rm(scratch);
	return rc;
}

static void image_option(void *arg, const char *name, const char *value)
{
	struct image *img = arg;

	if (!strcmp(name, "command"))
		img->takes_command = true;
	else if (!strcmp(name, "memory"))
		img->memory = strtoull(value, NULL, 10) * MIB;
	else if (!strcmp(name, "recipe"))
		img->recipe = (u32)strtoul(value, NULL, 16);
}

/* Broken, or made by an earlier recipe. Not to be made anew for the latter is
 * what has a disk: snapshots may stand on it. */
static bool image_old(const struct recipe *r, const char *dir)
{
	char disk[PATH_MAX + 16];
	struct image img = {0};

	if (manifest_check(dir, false, image_option, &img, NULL))
		return true;
	snprintf(disk, sizeof(disk), "%s/disk.raw", dir);
	return img.recipe != recipe_crc(r) && access(disk, F_OK);
}

/* Makes the image unless it is there and right (or force). */
static int image_make(const char *name, bool force, struct err *e)
{
	const struct recipe *r = recipe_find(name);
	char root[PATH_MAX - 80], dir[PATH_MAX];
	int lock, rc;

	if (!r)
		return err_set(e, -ENOENT,
			       "there is no recipe for an image '%s'", name);
	rc = image_root(root, sizeof(root), e);
	if (rc)
		return rc;
	snprintf(dir, sizeof(dir), "%s/%s", root, name);
	lock = image_lock(root, e);
	if (lock < 0)
		return lock;
	image_sweep(root);
	if (force || image_old(r, dir)) {
		fprintf(stderr, "sublet: making image %s (%s)\n", name,
			r->what);
		rc = image_make_in(r, root, dir, e);
		if (!rc)
			fprintf(stderr, "sublet: image %s is ready\n", name);
	}
	close(lock);
	return rc;
}

static int image_read_cmdline(struct image *img, struct err *e)
{
	char path[PATH_MAX + 16];
	FILE *f;

	snprintf(path, sizeof(path), "%s/cmdline", img->dir);
	f = fopen(path, "re");
	if (!f)
		return err_errno(e, -errno, "cannot open %s", path);
	if (!fgets(img->cmdline, sizeof(img->cmdline), f))
		img->cmdline[0] = 0;
	fclose(f);
	img->cmdline[strcspn(img->cmdline, "\n")] = 0;
	return 0;
}

/* Sets a member to dir/file, or to "" where there is no such file. */
static void image_path(const struct image *img, const char *file, char *path,
		       size_t size)
{
	if ((size_t)snprintf(path, size, "%s/%s", img->dir, file) >= size ||
	    access(path, F_OK))
		*path = 0;
}

static int image_load(struct image *img, bool deep, struct err *e)
{
	int rc = manifest_check(img->dir, deep, image_option, img, e);

	if (rc)
		return rc;
	image_path(img, "kernel", img->kernel, sizeof(img->kernel));
	image_path(img, "initrd", img->initrd, sizeof(img->initrd));
	image_path(img, "disk.raw", img->disk, sizeof(img->disk));
	return image_read_cmdline(img, e);
}

static int image_locate(struct image *img, const char *name, struct err *e)
{
	char root[PATH_MAX - 80];
	int rc;

	memset(img, 0, sizeof(*img));
	if (!image_name_ok(name))
		return err_set(e, -EINVAL,
			       "'%s' cannot be an image's name (letters, "
			       "digits, '.', '_' and '-')",
			       name);
	rc = image_root(root, sizeof(root), e);
	if (rc)
		return rc;
	snprintf(img->name, sizeof(img->name), "%s", name);
	snprintf(img->dir, sizeof(img->dir), "%s/%s", root, name);
	return 0;
}

/* Of an earlier version: what cannot be made anew is as good as it was. */
static int image_renew(struct image *img, struct err *e)
{
	const struct recipe *r = recipe_find(img->name);
	struct err why = {""};

	if (!r || img->recipe == recipe_crc(r))
		return 0;
	if (img->disk[0]) {
		log_warn("image %s is of an earlier version; 'sublet image "
			 "create --force %s' makes it anew",
			 img->name, img->name);
		return 0;
	}
	if (image_make(img->name, false, &why) == -EINTR) {
		*e = why;
		return -EINTR;
	}
	if (why.text[0])
		log_warn("image %s is of an earlier version, which will do: %s",
			 img->name, why.text);
	return image_load(img, false, e);
}

int image_open(const char *name, struct image *img, struct err *e)
{
	int rc = image_locate(img, name, e);

	if (rc)
		return rc;
	if (!image_load(img, false, e))
		return image_renew(img, e);
	if (!recipe_find(name)) {
		if (!access(img->dir, F_OK))
			return -EINVAL; /* with the sentence of the check */
		return err_set(
			e, -ENOENT,
			"there is no image '%s'; see 'sublet image list'",
			name);
	}
	rc = image_make(name, false, e);
	return rc ? rc : image_load(img, false, e);
}

/* ---- the verb ---- */

static const char image_help[] =
	"Usage: sublet image create [--force] NAME\n"
	"       sublet image list\n"
	"       sublet image check NAME\n"
	"       sublet image remove NAME\n"
	"\n"
	"Makes and keeps the images that 'sublet run' starts. They live in\n"
	"$XDG_CACHE_HOME/sublet/images (~/.cache/sublet/images) and are never\n"
	"written by a running VM. A built-in image is made from Debian's\n"
	"packages; 'sublet image list' names them.\n";

static int image_create(const char *name, bool force, struct err *e)
{
	struct image img;
	int rc = image_locate(&img, name, e);

	if (rc)
		return rc;
	if (!force && !image_load(&img, true, NULL)) {
		fprintf(stderr,
			"sublet: image %s is there already (--force makes it "
			"anew)\n",
			name);
		return 0;
	}
	return image_make(name, force || !access(img.dir, F_OK), e);
}

static void image_list_one(const char *name, const char *what)
{
	struct image img;
	struct err e;
	const char *status = "ready";

	if (image_locate(&img, name, &e))
		return;
	if (access(img.dir, F_OK))
		status = "not made yet";
	else if (image_load(&img, false, &e))
		status = "broken";
	printf("%-16s %-14s %s\n", name, status, what);
}

static int image_list(struct err *e)
{
	char root[PATH_MAX - 80];
	struct dirent *d;
	DIR *dir;
	int rc = image_root(root, sizeof(root), e);

	if (rc)
		return rc;
	for (const struct recipe *r = recipes; r->name; r++)
		image_list_one(r->name, r->what);
	dir = opendir(root);
	while (dir && (d = readdir(dir)))
		if (d->d_name[0] != '.' && !recipe_find(d->d_name))
			image_list_one(d->d_name, "");
	if (dir)
		closedir(dir);
	return 0;
}

static int image_check_verb(const char *name, struct err *e)
{
	struct image img;
	int rc = image_locate(&img, name, e);

	if (!rc)
		rc = image_load(&img, true, e);
	if (!rc)
		printf("image %s is as it was made\n", name);
	return rc;
}

static int image_remove(const char *name, struct err *e)
{
	struct image img;
	int rc = image_locate(&img, name, e);

	if (rc)
		return rc;
	if (access(img.dir, F_OK))
		return err_set(e, -ENOENT, "there is no image '%s'", name);
	image_rm(img.dir);
	if (!access(img.dir, F_OK))
		return err_set(e, -EIO, "cannot remove all of %s", img.dir);
	return 0;
}

static int image_verb(const char *verb, const char *name, bool force,
		      struct err *e)
{
	if (!strcmp(verb, "list") && !name)
		return image_list(e);
	if (name && !strcmp(verb, "create"))
		return image_create(name, force, e);
	if (name && !strcmp(verb, "check"))
		return image_check_verb(name, e);
	if (name && !strcmp(verb, "remove"))
		return image_remove(name, e);
	return err_set(e, -EINVAL,
		       "image: expected create, check or remove and a NAME, or "
		       "list; see 'sublet image --help'");
}

static int image_run(int argc, char **argv)
{
	static const struct option options[] = {
		{"force", no_argument, NULL, 'f'},
		{"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	bool force = false;
	struct err e;
	int c, rc;

	while ((c = getopt_long(argc, argv, "fh", options, NULL)) != -1) {
		if (c == 'h') {
			fputs(image_help, stdout);
			return 0;
		}
		if (c != 'f')
			return CLI_EXIT_USAGE;
		force = true;
	}
	if (optind >= argc || argc - optind > 2) {
		fputs(image_help, stderr);
		return CLI_EXIT_USAGE;
	}
	rc = image_verb(argv[optind],
			argc - optind == 2 ? argv[optind + 1] : NULL, force,
			&e);
	if (!rc)
		return 0;
	fprintf(stderr, "sublet: %s\n", e.text);
	return CLI_EXIT_FAILED;
}

const struct cli_verb cli_image = {
	.name = "image",
	.summary = "make, list, check and remove images",
	.help = image_help,
	.run = image_run,
};
