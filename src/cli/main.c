/* SPDX-License-Identifier: BSD-2-Clause */
#include <stdio.h>

int main(void)
{
	puts("sublet " SUBLET_VERSION);
	return 0;
}
