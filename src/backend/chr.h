/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Character backends: what stands behind a serial port or console: the
 * terminal, a file, a socket, a command's output, or nothing.
 *
 * chr_write() never blocks the caller: what the far side does not take is
 * buffered up to a bound and then dropped and counted (a guest that floods
 * its serial port must not stop the monitor). One backend waits instead, the
 * output of a command, on its device's own thread: see chr_haste(). Input
 * arrives on the event loop's thread by the receiver's input function.
 */
#ifndef BACKEND_CHR_H
#define BACKEND_CHR_H

#include "base/err.h"
#include "base/loop.h"
#include "base/types.h"

struct chr;

struct chr_ops {
	/* Takes up to n bytes; returns how many, never negative. */
	size_t (*write)(struct chr *c, const void *buf, size_t n);
	/* NULL-able; for one whose write() waits: while in haste, it takes
	 * into memory what the far side does not. */
	void (*haste)(struct chr *c, bool on);
	void (*free)(struct chr *c);
};

struct chr {
	const struct chr_ops *ops;
	/* Receiver, set by the device. input() returns how many bytes it
	 * took; n = 0 says, once or more often, that no more will come; room()
	 * is called by the device (chr_input_ready) when it can take more. Loop
	 * thread. */
	size_t (*input)(void *arg, const u8 *buf, size_t n);
	void *input_arg;
	void (*room)(struct chr *c); /* set by the backend; may be NULL */
};

/* Any thread; c may be NULL (bytes vanish). */
void chr_write(struct chr *c, const void *buf, size_t n);
/* Makes fn the receiver, which may be called from now on. c may be NULL. */
void chr_receive(struct chr *c,
		 size_t (*fn)(void *arg, const u8 *buf, size_t n), void *arg);
/* The device can take input again. Any thread, also with its lock held. */
void chr_input_ready(struct chr *c);
/* Ends and prevents waits in chr_write(), when the VM is to stand still: nobody
 * may have to wait for who reads its output. Any thread; c may be NULL. */
void chr_haste(struct chr *c, bool on);
void chr_free(struct chr *c);

/*
 * The monitor's own terminal or pipes: in_fd is read (-1: no input), out_fd
 * written. Neither is owned. With a terminal, raw mode is the caller's job.
 * escape: called when the user types Ctrl-] q (leave); NULL passes all bytes,
 * else Ctrl-] Ctrl-] sends one. The process must ignore SIGPIPE.
 */
struct chr *chr_fd_new(struct loop *l, int in_fd, int out_fd,
		       void (*escape)(void *arg), void *arg, struct err *e);
/* Appends to a file, made anew with mode 0600. */
struct chr *chr_file_new(const char *path, struct err *e);

#endif
