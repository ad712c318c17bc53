/* SPDX-License-Identifier: BSD-2-Clause */
/* The tables of endpoints, api_X_endpoints in ep_X.c; endpoints.c puts them
 * in one list. */
#ifndef API_ENDPOINTS_H
#define API_ENDPOINTS_H

#include "api/api.h"

extern const struct api_endpoint api_vm_endpoints[];
extern const struct api_endpoint api_snapshot_endpoints[];
extern const struct api_endpoint api_console_endpoints[];
extern const struct api_endpoint api_migrate_endpoints[];
extern const struct api_endpoint api_wait_endpoints[];

#endif
