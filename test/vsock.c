/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * The guest's side of test/clone.sh: virtio sockets by hand.
 *
 *   vsock cid               prints the machine's CID
 *   vsock echo PORT         echoes what is sent, one stream after the other
 *   vsock send PORT MIB     sends zeros to that port of the host
 *   vsock sink PORT         counts what comes, answers with the number
 */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include <linux/vm_sockets.h>

static char buf[65536];

static int fail(const char *what)
{
	perror(what);
	return 1;
}

static int show_cid(void)
{
	int fd = open("/dev/vsock", O_RDONLY);
	unsigned cid;

	if (fd < 0 || ioctl(fd, IOCTL_VM_SOCKETS_GET_LOCAL_CID, &cid))
		return fail("/dev/vsock");
	printf("cid=%u\n", cid);
	return 0;
}

static void serve(int fd, int echo)
{
	unsigned long long sum = 0;
	ssize_t n;

	while ((n = read(fd, buf, sizeof(buf))) > 0) {
		sum += (unsigned long long)n;
		if (echo && write(fd, buf, (size_t)n) != n)
			break;
	}
	n = snprintf(buf, sizeof(buf), "%llu\n", sum);
	if (!echo && write(fd, buf, (size_t)n) != n)
		perror("write");
	close(fd);
}

static int listen_at(unsigned port, int echo)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK,
				.svm_cid = VMADDR_CID_ANY,
				.svm_port = port};
	int fd, l = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (l < 0 || bind(l, (struct sockaddr *)&a, sizeof(a)) || listen(l, 8))
		return fail("listen");
	puts("listens");
	fflush(stdout);
	while ((fd = accept(l, NULL, NULL)) >= 0)
		serve(fd, echo);
	return fail("accept");
}

static int send_to(unsigned port, unsigned long mib)
{
	struct sockaddr_vm a = {.svm_family = AF_VSOCK,
				.svm_cid = VMADDR_CID_HOST,
				.svm_port = port};
	int fd = socket(AF_VSOCK, SOCK_STREAM, 0);

	if (fd < 0 || connect(fd, (struct sockaddr *)&a, sizeof(a)))
		return fail("connect");
	for (unsigned long i = 0; i < mib * 16; i++)
		if (write(fd, buf, sizeof(buf)) != sizeof(buf))
			return fail("write");
	return 0;
}

int main(int argc, char **argv)
{
	unsigned port = argc > 2 ? (unsigned)strtoul(argv[2], NULL, 10) : 0;

	if (argc == 2 && !strcmp(argv[1], "cid"))
		return show_cid();
	if (argc == 3 && !strcmp(argv[1], "echo"))
		return listen_at(port, 1);
	if (argc == 3 && !strcmp(argv[1], "sink"))
		return listen_at(port, 0);
	if (argc == 4 && !strcmp(argv[1], "send"))
		return send_to(port, strtoul(argv[3], NULL, 10));
	fputs("usage: vsock cid | echo PORT | sink PORT | send PORT MIB\n",
	      stderr);
	return 2;
}
