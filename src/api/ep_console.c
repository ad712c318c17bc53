/* SPDX-License-Identifier: BSD-2-Clause */
/* Attaching to the VM's console: the connection becomes a stream of bytes. */
#include <sys/socket.h>
#include <unistd.h>

#include "api/api_priv.h"
#include "api/endpoints.h"

static void ep_console(struct api_call *c)
{
	static const char head[] = "HTTP/1.1 101 Switching Protocols\r\n"
				   "Server: Sublet\r\n"
				   "Connection: Upgrade\r\n"
				   "Upgrade: sublet-console\r\n\r\n";
	struct chr *hub = c->api->config.console;
	int fd;

	if (!hub) {
		api_fail(c, "This machine has no console to attach to.");
		return;
	}
	if (!c->upgrade) {
		api_fail(c, "GET /console needs the header Upgrade: "
			    "sublet-console.");
		return;
	}
	if (chr_hub_full(hub)) {
		api_fail(c, "Too many consoles are attached already.");
		return;
	}
	fd = call_take(c);
	/* A new socket's buffer has room for this. */
	if (fd >= 0 && send(fd, head, sizeof(head) - 1, MSG_NOSIGNAL) > 0)
		chr_hub_attach(hub, fd, NULL);
	else if (fd >= 0)
		close(fd);
}

static void ep_console_size(struct api_call *c)
{
	int cols, rows;

	if (api_args(c, "{s:i, s:i}", "columns", &cols, "rows", &rows))
		return;
	if (cols < 1 || rows < 1 || cols > 0xffff || rows > 0xffff) {
		api_fail(c, "A console has 1 to 65535 columns and rows.");
		return;
	}
	vm_console_size(api_vm(c), (u16)cols, (u16)rows);
	api_done(c);
}

const struct api_endpoint api_console_endpoints[] = {
	{"GET", "/console", ep_console},
	{"PUT", "/console/size", ep_console_size},
	{0},
};
