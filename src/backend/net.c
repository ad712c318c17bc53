/* SPDX-License-Identifier: BSD-2-Clause */
#include "backend/net.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

void net_free(struct net *n)
{
	if (!n)
		return;
	n->ops->free(n);
	free(n);
}

u32 net_sum(const u8 *data, size_t len, u32 sum)
{
	u64 total = sum;
	size_t i;

	for (i = 0; i + 1 < len; i += 2)
		total += (u32)data[i] << 8 | data[i + 1];
	if (i < len)
		total += (u32)data[i] << 8;
	while (total >> 32)
		total = (total & 0xffffffff) + (total >> 32);
	return (u32)total;
}

u16 net_sum_fold(u32 sum)
{
	while (sum >> 16)
		sum = (sum & 0xffff) + (sum >> 16);
	return (u16)~sum;
}

static bool net_parse_port(const char *s, u16 *port)
{
	char *end;
	long n = strtol(s, &end, 10);

	if (end == s || *end || *s < '0' || *s > '9' || n < 1 || n > 65535)
		return false;
	*port = (u16)n;
	return true;
}

static bool net_parse_address(const char *s, u32 *address)
{
	struct in_addr a;

	if (inet_pton(AF_INET, s, &a) != 1)
		return false;
	*address = a.s_addr;
	return true;
}

int net_forward_parse(const char *text, struct net_forward *f, struct err *e)
{
	char copy[80], *part[5] = {NULL}, *rest = copy;
	unsigned n = 0;
	bool ok;

	*f = (struct net_forward){.address = htonl(INADDR_LOOPBACK)};
	snprintf(copy, sizeof(copy), "%s", text);
	while (n < 5 && (part[n] = strsep(&rest, ":")))
		n++;
	ok = n == 3 || n == 4;
	if (ok)
		ok = !strcmp(part[0], "tcp") || !strcmp(part[0], "udp");
	if (ok && n == 4) {
		/* either order of port and address: only one has dots */
		bool first = strchr(part[1], '.');

		ok = net_parse_address(part[first ? 1 : 2], &f->address);
		part[1] = part[first ? 2 : 1];
	}
	if (!ok || !net_parse_port(part[1], &f->host) ||
	    !net_parse_port(part[n - 1], &f->guest))
		return err_set(e, -EINVAL,
			       "forward '%s' is not of the form "
			       "tcp:HOSTPORT[:ADDRESS]:GUESTPORT",
			       text);
	f->udp = part[0][0] == 'u';
	return 0;
}
