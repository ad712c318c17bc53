/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/agent.h"

#include <ctype.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "vm/vm.h"

#define LINE_MAX 256

const char *const agent_things[AGENT_THINGS] = {"random", "time", "hostname",
						"nic", "hooks"};

struct agent {
	struct chr chr; /* first */
	struct loop *loop;
	pthread_mutex_t lock; /* what follows; > the console's dev.lock */
	unsigned refs;
	struct agent_news news;
	char id[2 * VMGENID_SIZE + 1];
	char out[LINE_MAX]; /* to the guest */
	size_t len, sent;   /* len 0: not yet made */
	bool waits;         /* the guest has not taken all of it */
	bool cut;           /* an older line was left in its middle */
	char in[LINE_MAX];  /* from the guest, up to a line's end */
	size_t got;
	bool skip; /* the line is too long: the rest of it is */
	struct agent_answer answer;
};

bool agent_hostname_ok(const char *name)
{
	size_t n = strlen(name);
	bool ok = n && n < AGENT_HOST_NAME && isalnum((unsigned char)*name);

	for (size_t i = 0; ok && i < n; i++)
		ok = isalnum((unsigned char)name[i]) || strchr(".-", name[i]);
	return ok;
}

/* ---- to the guest ---- */

static void agent_line(struct agent *a)
{
	const struct agent_news *n = &a->news;
	u64 now = clock_real_ns();
	char old[VM_MAC_TEXT], new[VM_MAC_TEXT];
	int len = snprintf(a->out, sizeof(a->out),
			   "%srenew id=%s time=%lu.%09lu", a->cut ? "\n" : "",
			   a->id, now / 1000000000, now % 1000000000);

	if (n->hostname[0])
		len += snprintf(a->out + len, sizeof(a->out) - (size_t)len,
				" hostname=%s", n->hostname);
	if (n->nic) {
		vm_mac_text(n->nic_old, old);
		vm_mac_text(n->nic_new, new);
		len += snprintf(a->out + len, sizeof(a->out) - (size_t)len,
				" nic=%s,%s", old, new);
	}
	a->out[len++] = '\n';
	a->len = (size_t)len;
}

/* A line that was begun is ended; one that was not has the time of now. */
static void agent_push_locked(struct agent *a)
{
	size_t (*input)(void *, const u8 *, size_t);
	size_t n = 1;

	input = __atomic_load_n(&a->chr.input, __ATOMIC_ACQUIRE);
	while (input && a->waits && n) {
		if (!a->sent)
			agent_line(a);
		n = input(a->chr.input_arg, (u8 *)a->out + a->sent,
			  a->len - a->sent);
		a->sent += n;
		a->waits = a->sent < a->len;
		a->cut &= !n;
	}
}

static void agent_push(void *arg)
{
	struct agent *a = arg;

	pthread_mutex_lock(&a->lock);
	agent_push_locked(a);
	pthread_mutex_unlock(&a->lock);
}

static void agent_room(struct chr *chr)
{
	struct agent *a = (struct agent *)chr;

	loop_call(a->loop, agent_push, a);
}

void agent_tell(struct agent *a, const struct agent_news *n)
{
	pthread_mutex_lock(&a->lock);
	a->news = *n;
	for (unsigned i = 0; i < VMGENID_SIZE; i++)
		snprintf(a->id + 2 * i, 3, "%02x", n->id[i]);
	a->answer = (struct agent_answer){.state = AGENT_TOLD};
	a->cut |= a->waits && a->sent;
	a->sent = 0;
	a->waits = true;
	pthread_mutex_unlock(&a->lock);
	loop_call(a->loop, agent_push, a);
}

/* ---- from the guest ---- */

/* "time=ok": letters only, so that it can be shown. */
static void agent_word(struct agent *a, const char *word)
{
	const char *value = strchr(word, '=');
	size_t len = value ? (size_t)(value - word) : 0;

	for (unsigned i = 0; i < AGENT_THINGS; i++) {
		if (len != strlen(agent_things[i]) ||
		    strncmp(word, agent_things[i], len))
			continue;
		snprintf(a->answer.result[i], sizeof(a->answer.result[i]), "%s",
			 strcmp(value, "=ok") ? "failed" : "ok");
	}
}

/* "renewed id=HEX time=ok hostname=failed ..." */
static void agent_heard(struct agent *a)
{
	char *save, *word = strtok_r(a->in, " \r", &save);

	if (!word || strcmp(word, "renewed") || a->answer.state != AGENT_TOLD)
		return;
	word = strtok_r(NULL, " \r", &save);
	if (!word || strncmp(word, "id=", 3) || strcmp(word + 3, a->id))
		return;
	while ((word = strtok_r(NULL, " \r", &save)))
		agent_word(a, word);
	a->answer.state = AGENT_ANSWERED;
}

/* The device's thread. */
static size_t agent_write(struct chr *chr, const void *buf, size_t n)
{
	struct agent *a = (struct agent *)chr;
	const char *p = buf;

	pthread_mutex_lock(&a->lock);
	for (size_t i = 0; i < n; i++) {
		bool end = p[i] == '\n';

		a->skip |= !end && a->got + 1 == sizeof(a->in);
		if (!end && !a->skip)
			a->in[a->got++] = p[i];
		if (!end)
			continue;
		a->in[a->got] = 0;
		if (!a->skip)
			agent_heard(a);
		a->got = 0;
		a->skip = false;
	}
	pthread_mutex_unlock(&a->lock);
	return n;
}

void agent_answer(struct agent *a, struct agent_answer *out)
{
	pthread_mutex_lock(&a->lock);
	*out = a->answer;
	pthread_mutex_unlock(&a->lock);
}

/* ---- life ---- */

void agent_free(struct agent *a)
{
	bool last;

	if (!a)
		return;
	pthread_mutex_lock(&a->lock);
	last = !--a->refs;
	pthread_mutex_unlock(&a->lock);
	if (!last)
		return;
	pthread_mutex_destroy(&a->lock);
	free(a);
}

static void agent_chr_free(struct chr *chr)
{
	agent_free((struct agent *)chr);
}

static const struct chr_ops agent_ops = {
	.write = agent_write,
	.free = agent_chr_free,
};

struct agent *agent_new(struct loop *l)
{
	struct agent *a = calloc(1, sizeof(*a));

	if (!a)
		return NULL;
	a->chr.ops = &agent_ops;
	a->chr.room = agent_room;
	a->loop = l;
	a->refs = 1;
	pthread_mutex_init(&a->lock, NULL);
	return a;
}

struct chr *agent_chr(struct agent *a)
{
	a->refs++;
	return &a->chr;
}
