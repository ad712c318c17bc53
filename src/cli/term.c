/* SPDX-License-Identifier: BSD-2-Clause */
#include "cli/term.h"

#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

/* File scope, because a handler of fatal signals must find it. */
static struct termios term_saved;
static volatile sig_atomic_t term_is_raw;

static const int term_fatal[] = {SIGSEGV, SIGBUS,  SIGILL,
				 SIGFPE,  SIGABRT, SIGSYS};

bool term_usable(void)
{
	return isatty(STDIN_FILENO) && isatty(STDOUT_FILENO);
}

void term_restore(void)
{
	if (!term_is_raw)
		return;
	term_is_raw = 0;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &term_saved);
}

/* The default action follows: the handler is reset before it is called. */
static void term_crash(int sig)
{
	term_restore();
	raise(sig);
}

static void term_watch(void)
{
	struct sigaction sa = {.sa_handler = term_crash,
			       .sa_flags = (int)(SA_RESETHAND | SA_NODEFER)};

	for (size_t i = 0; i < ARRAY_LEN(term_fatal); i++)
		sigaction(term_fatal[i], &sa, NULL);
	atexit(term_restore);
}

void term_raw(void)
{
	static bool watched;
	struct termios raw;

	if (term_is_raw || tcgetattr(STDIN_FILENO, &term_saved))
		return;
	if (!watched)
		term_watch();
	watched = true;
	raw = term_saved;
	cfmakeraw(&raw);
	/* Set before: a signal in between restores what is still there. */
	term_is_raw = 1;
	tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
}

bool term_size(u16 *cols, u16 *rows)
{
	struct winsize w;

	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &w) || !w.ws_col || !w.ws_row)
		return false;
	*cols = w.ws_col;
	*rows = w.ws_row;
	return true;
}
