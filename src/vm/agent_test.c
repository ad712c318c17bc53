/* SPDX-License-Identifier: BSD-2-Clause */
/* What the agent is told, and what is believed of its answers. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "vm/agent.h"

/* The guest's port: takes up to room bytes. */
struct port {
	struct loop *loop;
	struct agent *a;
	struct chr *chr;
	size_t room, n;
	char text[1024];
};

static size_t port_input(void *arg, const u8 *buf, size_t n)
{
	struct port *p = arg;

	n = MIN(n, p->room);
	memcpy(p->text + p->n, buf, n);
	p->n += n;
	p->text[p->n] = 0;
	p->room -= n;
	return n;
}

/* What was handed to the loop is done. */
static void port_turn(struct port *p)
{
	loop_call(p->loop, (void (*)(void *))loop_stop, p->loop);
	loop_run(p->loop);
}

static struct port *port_new(size_t room)
{
	struct port *p = calloc(1, sizeof(*p));

	p->loop = loop_new(NULL);
	p->a = agent_new(p->loop);
	p->chr = agent_chr(p->a);
	p->room = room;
	chr_receive(p->chr, port_input, p);
	return p;
}

static void port_free(struct port *p)
{
	chr_free(p->chr);
	agent_free(p->a);
	loop_free(p->loop);
	free(p);
}

static void answer(struct port *p, const char *text)
{
	chr_write(p->chr, text, strlen(text));
}

static enum agent_state state_of(struct port *p)
{
	struct agent_answer out;

	agent_answer(p->a, &out);
	return out.state;
}

#define ID "07070707070707070707070707070707"

static const struct agent_news news = {
	.id = {7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7, 7},
	.hostname = "web-1",
	.nic = true,
	.nic_old = {2, 0, 10, 0, 2, 15},
	.nic_new = {2, 1, 2, 3, 4, 255},
};

static void test_line(void **state)
{
	struct port *p = port_new(1000);
	unsigned long s, ns;
	char host[32], nic[64];

	(void)state;
	port_turn(p);
	assert_int_equal(p->n, 0);
	assert_int_equal(state_of(p), AGENT_IDLE);
	agent_tell(p->a, &news);
	port_turn(p);
	assert_int_equal(sscanf(p->text,
				"renew id=" ID " time=%lu.%lu %31s %63s\n", &s,
				&ns, host, nic),
			 4);
	assert_string_equal(host, "hostname=web-1");
	assert_string_equal(nic, "nic=02:00:0a:00:02:0f,02:01:02:03:04:ff");
	assert_int_equal(p->text[p->n - 1], '\n');
	assert_int_equal(state_of(p), AGENT_TOLD);
	port_free(p);
}

/* No room at first; then an older line is in its middle. */
static void test_late(void **state)
{
	struct port *p = port_new(0);
	struct agent_news other = news;
	char *second;

	(void)state;
	agent_tell(p->a, &news);
	port_turn(p);
	assert_int_equal(p->n, 0);
	p->room = 20;
	chr_input_ready(p->chr);
	port_turn(p);
	assert_int_equal(p->n, 20);
	memset(other.id, 9, sizeof(other.id));
	agent_tell(p->a, &other);
	p->room = 900;
	port_turn(p);
	second = strchr(p->text, '\n');
	assert_non_null(second);
	assert_int_equal(second - p->text, 20);
	assert_int_equal(strncmp(second + 1, "renew id=0909", 13), 0);
	assert_int_equal(p->text[p->n - 1], '\n');
	port_free(p);
}

static void test_answer(void **state)
{
	struct port *p = port_new(1000);
	struct agent_answer a;

	(void)state;
	answer(p, "renewed id=" ID " time=ok\n"); /* nobody asked */
	assert_int_equal(state_of(p), AGENT_IDLE);
	agent_tell(p->a, &news);
	port_turn(p);
	answer(p, "renewed id=08070707070707070707070707070707 time=ok\n");
	answer(p, "renewed\n\nrenewed id\nhello id=" ID "\n\xff\n");
	for (unsigned i = 0; i < 2000; i++)
		answer(p, "renewed id=" ID " ");
	answer(p, "\n");
	assert_int_equal(state_of(p), AGENT_TOLD);
	answer(p, "renewed id=" ID " time=ok nic=bad\x1b[2J ti");
	answer(p, "me2=ok hooks hostname=okay random=ok\r\n");
	agent_answer(p->a, &a);
	assert_int_equal(a.state, AGENT_ANSWERED);
	assert_string_equal(a.result[AGENT_TIME], "ok");
	assert_string_equal(a.result[AGENT_RANDOM], "ok");
	assert_string_equal(a.result[AGENT_NIC], "failed");
	assert_string_equal(a.result[AGENT_HOSTNAME], "failed");
	assert_string_equal(a.result[AGENT_HOOKS], "");
	/* the first counts */
	answer(p, "renewed id=" ID " nic=ok\n");
	agent_answer(p->a, &a);
	assert_string_equal(a.result[AGENT_NIC], "failed");
	port_free(p);
}

static void test_hostname(void **state)
{
	(void)state;
	assert_true(agent_hostname_ok("a"));
	assert_true(agent_hostname_ok("web-1.example.org"));
	assert_false(agent_hostname_ok(""));
	assert_false(agent_hostname_ok("-a"));
	assert_false(agent_hostname_ok("a b"));
	assert_false(agent_hostname_ok("a\n"));
	assert_false(agent_hostname_ok("a_b"));
	assert_false(
		agent_hostname_ok("1234567890123456789012345678901234567890"
				  "123456789012345678901234"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_line),
		cmocka_unit_test(test_late),
		cmocka_unit_test(test_answer),
		cmocka_unit_test(test_hostname),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
