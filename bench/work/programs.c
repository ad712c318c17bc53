/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * Debian's programs, run by the shell in the benchmark's root file system.
 * What a program writes to its standard output must be the same everywhere;
 * its checksum is printed.
 */
#include "work.h"

#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#define OUTPUT "/tmp/out"
#define ERRORS "/tmp/errors"

struct program {
	const char *command;
	/* openssl speed: it says how many bytes a second of blocks this big;
	 * else 0, and the time of the whole command counts. */
	unsigned block;
};

static bool program_run(const char *command)
{
	int status, out, errors;
	pid_t p = fork();

	if (p < 0)
		return false;
	if (!p) {
		out = open(OUTPUT, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		errors = open(ERRORS, O_WRONLY | O_CREAT | O_TRUNC, 0600);
		dup2(out, 1);
		dup2(errors, 2);
		execl("/bin/sh", "sh", "-c", command, NULL);
		_exit(127);
	}
	return waitpid(p, &status, 0) == p && status == 0;
}

/* The bytes a second in a line "+F:index:name:number". */
static double output_rate(void)
{
	FILE *f = fopen(OUTPUT, "r");
	char line[256];
	double rate = 0;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, "+F:", 3) && strrchr(line, ':'))
			rate = strtod(strrchr(line, ':') + 1, NULL);
	if (f)
		fclose(f);
	return rate;
}

static uint32_t output_checksum(void)
{
	FILE *f = fopen(OUTPUT, "r");
	uint32_t sum = 2166136261u; /* FNV-1a */
	int c;

	while (f && (c = getc_unlocked(f)) != EOF)
		sum = (sum ^ (uint32_t)c) * 16777619u;
	if (f)
		fclose(f);
	return sum;
}

static void program_fail(const char *name)
{
	FILE *f = fopen(ERRORS, "r");
	char line[256] = "";

	if (f) {
		if (fgets(line, sizeof(line), f))
			line[strcspn(line, "\n")] = '\0';
		fclose(f);
	}
	fail(name, line);
}

static void program_measure(const struct work *w)
{
	const struct program *p = w->arg;
	uint64_t start = now(), ns;
	double rate;

	if (!program_run(p->command)) {
		program_fail(w->name);
		return;
	}
	ns = now() - start;
	if (!p->block) {
		report(w->name, (double)ns);
		printf("check %s %08x\n", w->name, output_checksum());
		return;
	}
	rate = output_rate();
	if (rate > 0)
		report(w->name, 1e9 * p->block / rate);
	else
		fail(w->name, "no rate in its output");
}

#define PROGRAM(name, ...)                                                 \
	{                                                                  \
		name, "programs", NULL, program_measure, &(struct program) \
		{                                                          \
			__VA_ARGS__                                        \
		}                                                          \
	}
#define SPEED "openssl speed -elapsed -mr -seconds 1 -bytes 16384 -evp "

const struct work program_works[] = {
	PROGRAM("python", "python3 -B /programs/python.py", 0),
	PROGRAM("gcc",
		"gcc -O1 -w -c -o /tmp/o.o /programs/compile.c && cat /tmp/o.o",
		0),
	PROGRAM("sqlite", "sqlite3 :memory: </programs/work.sql", 0),
	PROGRAM("zstd", "zstd -q -T1 -3 -c /programs/data", 0),
	PROGRAM("xz", "head -c 2000000 /programs/data | xz -T1 -2 -c", 0),
	PROGRAM("sha256", SPEED "sha256", 16384),
	PROGRAM("aes", SPEED "aes-128-gcm", 16384),
	PROGRAM("shell",
		"i=0; while [ $i -lt 100 ]; do /bin/true; i=$((i + 1)); done",
		0),
	{NULL, NULL, NULL, NULL, NULL},
};
