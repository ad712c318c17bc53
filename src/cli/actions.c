/* SPDX-License-Identifier: BSD-2-Clause */
/* Verbs that are one request to the control socket and no more. */
#include "cli/cli.h"
#include "cli/ctl.h"

static int actions_state(const char *vm, const char *state)
{
	return ctl_ask(vm, "PATCH", "/vm", json_pack("{s:s}", "state", state),
		       NULL);
}

static int actions_pause(const char *vm)
{
	return actions_state(vm, "Paused");
}

static int actions_resume(const char *vm)
{
	return actions_state(vm, "Resumed");
}

static int actions_reset(const char *vm)
{
	return ctl_action(vm, "Reset");
}

static int actions_power_button(const char *vm)
{
	return ctl_action(vm, "PowerButton");
}

static int actions_nmi(const char *vm)
{
	return ctl_action(vm, "Nmi");
}

#define ACTION(id, verb, words, text)                              \
	static int actions_run_##id(int argc, char **argv)         \
	{                                                          \
		return ctl_each(argc, argv, actions_##id);         \
	}                                                          \
	const struct cli_verb cli_##id = {                         \
		.name = verb,                                      \
		.summary = words,                                  \
		.help = "usage: sublet " verb " NAME...\n\n" text, \
		.run = actions_run_##id,                           \
	}

ACTION(pause, "pause", "let a machine stand still",
       "Its processors stop between two instructions; its memory stays. "
       "Nothing happens\nif it is paused already.\n");
ACTION(resume, "resume", "let a paused machine go on",
       "Nothing happens if it runs.\n");
ACTION(reset, "reset", "press a machine's reset button",
       "It boots again; with --no-reboot of sublet run, it ends. What its "
       "system has not\nwritten to disk is lost.\n");
ACTION(power_button, "power-button", "press a machine's power button",
       "Its system is told, and may shut down, ask somebody, or do nothing. "
       "sublet stop\nsees to it that it ends.\n");
ACTION(nmi, "nmi", "send a non-maskable interrupt to all processors",
       "A kernel may print where its processors are, or panic, as it is "
       "configured.\n");
