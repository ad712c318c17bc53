/* SPDX-License-Identifier: BSD-2-Clause */
#define _GNU_SOURCE
#include "api/rundir.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define TRIES         20   /* while somebody sweeps the folder */
#define TRY_US        2000 /* between two of them */
#define BACKLOG       16
#define CONNECT_TRIES 100 /* while it starts or ends */
#define CONNECT_US    10000
#define MOST_VMS      9999 /* of one stem */

int rundir_check_name(const char *name, struct err *e)
{
	size_t n = strlen(name);
	bool good = n && n < RUNDIR_NAME && isalnum((unsigned char)*name);

	for (size_t i = 0; good && i < n; i++)
		good = isalnum((unsigned char)name[i]) ||
		       strchr("._-", name[i]);
	if (good)
		return 0;
	return err_set(e, -EINVAL,
		       "'%.80s' cannot be a machine's name: 1 to %d letters, "
		       "digits, '.', '_', '-', the first a letter or digit",
		       name, RUNDIR_NAME - 1);
}

/* ---- the base folder ---- */

static void rundir_base_path(char path[PATH_MAX])
{
	const char *own = getenv("SUBLET_RUNTIME_DIR");
	const char *xdg = getenv("XDG_RUNTIME_DIR");

	if (own && *own)
		snprintf(path, PATH_MAX, "%s", own);
	else if (!geteuid())
		snprintf(path, PATH_MAX, "/run/sublet");
	else if (xdg && *xdg)
		snprintf(path, PATH_MAX, "%s/sublet", xdg);
	else
		snprintf(path, PATH_MAX, "/tmp/sublet-%u", geteuid());
}

/* -ENOENT if it is not there and shall not be made. */
static int rundir_base(bool make, struct err *e)
{
	char path[PATH_MAX];
	struct stat st;
	int fd;

	rundir_base_path(path);
	if (make && mkdir(path, 0700) && errno != EEXIST)
		return err_errno(e, -errno, "cannot make the folder %s", path);
	fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd < 0)
		return err_errno(e, -errno, "cannot open the folder %s", path);
	if (fstat(fd, &st) || st.st_uid != geteuid() || (st.st_mode & 022)) {
		close(fd);
		return err_set(e, -EPERM,
			       "the folder %s must be yours and writable by "
			       "nobody else",
			       path);
	}
	return fd;
}

/* ---- one VM's folder ---- */

/* The folder was not removed or replaced since it was opened. */
static bool rundir_same(int base, const char *name, int dir)
{
	struct stat a, b;

	return !fstat(dir, &a) &&
	       !fstatat(base, name, &b, AT_SYMLINK_NOFOLLOW) &&
	       a.st_ino == b.st_ino && a.st_dev == b.st_dev;
}

/* Empties it but for the lock, which goes last. */
static void rundir_empty(int dir)
{
	DIR *d = fdopendir(dup(dir));
	struct dirent *de;

	if (d)
		rewinddir(d); /* the place is shared with dir */
	while (d && (de = readdir(d)))
		if (de->d_name[0] != '.' && strcmp(de->d_name, "lock"))
			unlinkat(dir, de->d_name, 0);
	if (d)
		closedir(d);
}

static void rundir_remove(int base, const char *name, int dir)
{
	rundir_empty(dir);
	unlinkat(dir, "lock", 0);
	unlinkat(base, name, AT_REMOVEDIR);
}

/*
 * Opens BASE/NAME and its lock, and takes the lock: 1 if it is ours now, 0 if
 * a living process has it, or -errno. lock is open in both of these cases.
 */
static int rundir_try(int base, const char *name, int *dir, int *lock)
{
	int rc = 0;

	*lock = -1;
	*dir = openat(base, name,
		      O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (*dir < 0)
		return -errno;
	*lock = openat(*dir, "lock", O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC,
		       0600);
	if (*lock >= 0 && !flock(*lock, LOCK_EX | LOCK_NB))
		rc = rundir_same(base, name, *dir) ? 1 : -ENOENT;
	else if (errno != EWOULDBLOCK)
		rc = -errno;
	if (rc >= 0)
		return rc;
	if (*lock >= 0)
		close(*lock);
	close(*dir);
	return rc;
}

/* True if it belongs to a living monitor; a dead one's is removed. */
static bool rundir_alive(int base, const char *name, pid_t *pid)
{
	char text[16] = "";
	int dir, lock, rc = rundir_try(base, name, &dir, &lock);

	if (rc < 0)
		return false;
	if (rc)
		rundir_remove(base, name, dir);
	else if (pid)
		*pid = pread(lock, text, sizeof(text) - 1, 0) > 0 ? atoi(text)
								  : 0;
	close(lock);
	close(dir);
	return !rc;
}

/* ---- the monitor's side ---- */

static int rundir_write_pid(struct rundir *r, struct err *e)
{
	char text[16];
	int n = snprintf(text, sizeof(text), "%d\n", getpid());

	rundir_empty(r->dir);
	if (ftruncate(r->lock, 0) || pwrite(r->lock, text, (size_t)n, 0) != n)
		return err_errno(e, -errno, "cannot write the lock of %s",
				 r->name);
	return 0;
}

static int rundir_claim_name(struct rundir *r, const char *name, int tries,
			     struct err *e)
{
	pid_t pid = 0;
	int rc = 0;

	snprintf(r->name, sizeof(r->name), "%s", name);
	while (tries--) {
		if (mkdirat(r->base, name, 0700) && errno != EEXIST)
			return err_errno(e, -errno,
					 "cannot make a folder for %s", name);
		rc = rundir_try(r->base, name, &r->dir, &r->lock);
		if (rc == 1)
			return rundir_write_pid(r, e);
		if (!rc) {
			close(r->lock);
			close(r->dir);
		}
		r->lock = r->dir = -1;
		if (rc && rc != -ENOENT)
			return err_errno(e, rc, "cannot use the folder of %s",
					 name);
		if (tries)
			usleep(TRY_US);
	}
	rundir_alive(r->base, name, &pid);
	return err_set(e, -EEXIST,
		       "a machine named %s is running already (process %d); "
		       "give another --name",
		       name, pid);
}

static int rundir_claim_stem(struct rundir *r, const char *stem, struct err *e)
{
	char name[RUNDIR_NAME];
	int rc = -EEXIST;

	if (rundir_check_name(stem, NULL) || strlen(stem) > RUNDIR_NAME - 6)
		stem = "vm";
	for (unsigned i = 1; rc == -EEXIST && i < MOST_VMS; i++) {
		snprintf(name, sizeof(name), i > 1 ? "%s-%u" : "%s", stem, i);
		rc = rundir_claim_name(r, name, 1, e);
	}
	return rc;
}

int rundir_claim(struct rundir *r, const char *name, const char *stem,
		 struct err *e)
{
	int rc = name ? rundir_check_name(name, e) : 0;

	*r = (struct rundir){.base = -1, .dir = -1, .lock = -1};
	if (rc)
		return rc;
	r->base = rundir_base(true, e);
	if (r->base < 0)
		return r->base;
	rc = name ? rundir_claim_name(r, name, TRIES, e)
		  : rundir_claim_stem(r, stem, e);
	if (rc)
		rundir_release(r);
	return rc;
}

int rundir_log(struct rundir *r, struct err *e)
{
	int fd = openat(r->dir, "log",
			O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC,
			0600);

	return fd >= 0 ? fd
		       : err_errno(e, -errno, "cannot make a log for %s",
				   r->name);
}

/* By the folder's descriptor: a path could be longer than an address may. */
static void rundir_address(struct sockaddr_un *a, int dir, const char *file)
{
	*a = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(a->sun_path, sizeof(a->sun_path), "/proc/self/fd/%d/%s", dir,
		 file);
}

int rundir_listen(struct rundir *r, struct err *e)
{
	struct sockaddr_un a;
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	if (fd < 0)
		return err_errno(e, -errno, "cannot make a control socket");
	rundir_address(&a, r->dir, RUNDIR_API);
	if (bind(fd, (struct sockaddr *)&a, sizeof(a)) ||
	    fchmodat(r->dir, RUNDIR_API, 0600, 0) || listen(fd, BACKLOG)) {
		int rc = err_errno(e, -errno,
				   "cannot make the control socket of %s",
				   r->name);

		close(fd);
		return rc;
	}
	return fd;
}

void rundir_release(struct rundir *r)
{
	if (r->lock >= 0) {
		rundir_remove(r->base, r->name, r->dir);
		close(r->lock);
		close(r->dir);
	}
	if (r->base >= 0)
		close(r->base);
	r->lock = r->dir = r->base = -1;
}

/* ---- the client's side ---- */

static int rundir_none(const char *name, struct err *e)
{
	return err_set(e, -ESRCH,
		       "no machine named %s is running (sublet ps lists those "
		       "that are)",
		       name);
}

/* A connection, or -errno as connect() gives it. */
static int rundir_open_socket(int base, const char *name, const char *file,
			      pid_t *pid)
{
	struct sockaddr_un a;
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	int rc, dir = openat(base, name, O_PATH | O_DIRECTORY | O_CLOEXEC);

	if (fd >= 0 && dir >= 0)
		rundir_address(&a, dir, file);
	rc = fd < 0 || dir < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a))
		     ? -errno
		     : 0;
	if (dir >= 0)
		close(dir);
	if (rc && fd >= 0)
		close(fd);
	if (rc)
		return rc;
	fcntl(fd, F_SETFL, 0);
	if (pid && !getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		*pid = peer.pid;
	return fd;
}

/* The VM has the name but perhaps not yet, or no longer, the socket. */
static bool rundir_soon(int rc)
{
	return rc == -ENOENT || rc == -ECONNREFUSED || rc == -EAGAIN;
}

static int rundir_connect_to(const char *name, const char *file, pid_t *pid,
			     struct err *e)
{
	int base, fd = rundir_check_name(name, e);

	if (fd)
		return fd;
	base = rundir_base(false, e);
	if (base == -ENOENT)
		return rundir_none(name, e);
	if (base < 0)
		return base;
	for (unsigned i = 0;; i++) {
		fd = -ESRCH;
		if (!rundir_alive(base, name, pid))
			break;
		fd = rundir_open_socket(base, name, file, pid);
		if (!rundir_soon(fd) || i == CONNECT_TRIES)
			break;
		usleep(CONNECT_US);
	}
	close(base);
	if (fd == -ESRCH)
		return rundir_none(name, e);
	if (rundir_soon(fd))
		return err_set(e, -EAGAIN, "%s does not answer", name);
	return fd >= 0 ? fd : err_errno(e, fd, "cannot reach %s", name);
}

int rundir_connect(const char *name, pid_t *pid, struct err *e)
{
	return rundir_connect_to(name, RUNDIR_API, pid, e);
}

int rundir_connect_vsock(const char *name, struct err *e)
{
	return rundir_connect_to(name, RUNDIR_VSOCK, NULL, e);
}

static int rundir_compare(const void *a, const void *b)
{
	return strcmp(a, b);
}

int rundir_list(char (**names)[RUNDIR_NAME], size_t *n, struct err *e)
{
	int base = rundir_base(false, e), rc = 0;
	struct dirent *de;
	DIR *d;

	*names = NULL;
	*n = 0;
	if (base == -ENOENT)
		return 0;
	if (base < 0)
		return base;
	d = fdopendir(dup(base));
	while (d && !rc && (de = readdir(d))) {
		void *more;

		if (rundir_check_name(de->d_name, NULL) ||
		    !rundir_alive(base, de->d_name, NULL))
			continue;
		more = reallocarray(*names, *n + 1, sizeof(**names));
		if (!more) {
			rc = err_set(e, -ENOMEM, "out of memory");
			break;
		}
		*names = more;
		strcpy((*names)[(*n)++], de->d_name);
	}
	if (d)
		closedir(d);
	close(base);
	if (*n)
		qsort(*names, *n, sizeof(**names), rundir_compare);
	return rc;
}
