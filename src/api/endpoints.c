/* SPDX-License-Identifier: BSD-2-Clause */
/* What the control socket answers: one table for each ep_*.c. */
#include "api/endpoints.h"

#include "api/api.h"

const struct api_endpoint *const api_endpoints[] = {
	api_vm_endpoints,      api_snapshot_endpoints, api_wait_endpoints,
	api_console_endpoints, api_migrate_endpoints,  NULL,
};
