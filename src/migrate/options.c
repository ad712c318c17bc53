/* SPDX-License-Identifier: BSD-2-Clause */
#include <errno.h>

#include "migrate/migrate.h"
#include "migrate/wire.h"

void mig_options_init(struct mig_options *o)
{
	*o = (struct mig_options){
		.goals = {.max_downtime_ns = 50000000,
			  .max_time_ns = 120000000000,
			  .max_slowdown = 10},
		.post = MIG_POST_AUTO,
		.codec = MIG_CODEC_AUTO,
		.streams = 1,
		.timeout_ms = MIG_TIMEOUT_MS,
	};
}

int mig_secure_check(const struct mig_addr *a, const struct mig_tls_config *tls,
		     bool insecure, struct err *e)
{
	int rc = mig_tls_check(tls, e);

	if (rc)
		return rc;
	if (tls->cert && a->kind != MIG_TCP)
		return err_set(e, -EINVAL, "TLS is for tcp:");
	if (tls->cert || insecure || mig_addr_local(a))
		return 0;
	return err_set(e, -EPERM,
		       "over a network a machine moves encrypted: give "
		       "--tls-cert, --tls-key and --tls-ca, or --insecure if "
		       "nobody else can reach port %s of %s",
		       a->port, a->host);
}

int mig_options_check(const struct mig_options *o, struct err *e)
{
	struct mig_addr a;
	int rc = mig_addr_parse(&a, o->dest, e);

	if (rc)
		return rc;
	if (!o->streams || o->streams > MIG_STREAMS)
		return err_set(e, -EINVAL,
			       "a migration has 1 to %u streams, "
			       "not %u",
			       MIG_STREAMS, o->streams);
	if (o->goals.max_slowdown > 99)
		return err_set(e, -EINVAL,
			       "a guest can be slowed down by 0 to "
			       "99 percent, not %u",
			       o->goals.max_slowdown);
	return mig_secure_check(&a, &o->tls, o->insecure, e);
}
