/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/hello.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "vm/vm_json.h"

static json_t *hello_sizes(const struct mig_hello *h)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < h->config.ndisks; i++)
		json_array_append_new(
			a, json_integer((json_int_t)h->disk_size[i]));
	return a;
}

static bool hello_get_sizes(struct mig_hello *h, const json_t *a)
{
	const json_t *v;
	size_t i;

	if (!json_is_array(a) || json_array_size(a) != h->config.ndisks)
		return false;
	json_array_foreach(a, i, v)
	{
		if (!json_is_integer(v) || json_integer_value(v) < 0)
			return false;
		h->disk_size[i] = (u64)json_integer_value(v);
	}
	return true;
}

/* ---- CPU model ---- */

static json_t *hello_cpuid(const struct cpuid_model *m)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < m->n; i++) {
		const struct cpuid_leaf *l = &m->leaf[i];

		json_array_append_new(
			a,
			json_pack("[I,I,b,I,I,I,I]", (json_int_t)l->leaf,
				  (json_int_t)l->subleaf, (int)l->has_subleaf,
				  (json_int_t)l->r.eax, (json_int_t)l->r.ebx,
				  (json_int_t)l->r.ecx, (json_int_t)l->r.edx));
	}
	return json_pack("{s:o, s:I, s:I, s:I}", "leaves", a, "xcr0",
			 (json_int_t)m->xcr0_mask, "arch_capabilities",
			 (json_int_t)m->arch_capabilities, "pv",
			 (json_int_t)m->pv_features);
}

static bool hello_get_leaf(struct cpuid_leaf *l, json_t *v)
{
	json_int_t n[6];
	int sub;

	if (json_unpack(v, "[I,I,b,I,I,I,I!]", &n[0], &n[1], &sub, &n[2], &n[3],
			&n[4], &n[5]))
		return false;
	*l = (struct cpuid_leaf){
		.leaf = (u32)n[0],
		.subleaf = (u32)n[1],
		.has_subleaf = sub,
		.r = {(u32)n[2], (u32)n[3], (u32)n[4], (u32)n[5]},
	};
	return true;
}

static bool hello_get_cpuid(struct cpuid_model *m, json_t *j)
{
	json_int_t xcr0, caps, pv;
	json_t *a, *v;
	size_t i;

	if (json_unpack(j, "{s:o, s:I, s:I, s:I}", "leaves", &a, "xcr0", &xcr0,
			"arch_capabilities", &caps, "pv", &pv) ||
	    !json_is_array(a) || json_array_size(a) > CPUID_LEAVES)
		return false;
	memset(m, 0, sizeof(*m));
	m->xcr0_mask = (u64)xcr0;
	m->arch_capabilities = (u64)caps;
	m->pv_features = (u32)pv;
	m->n = (unsigned)json_array_size(a);
	json_array_foreach(a, i,
			   v) if (!hello_get_leaf(&m->leaf[i], v)) return false;
	return true;
}

/* ---- all of it ---- */

static int hello_send_json(struct mig_chan *c, enum mig_type type, json_t *j,
			   struct err *e)
{
	char *text = j ? json_dumps(j, JSON_COMPACT) : NULL;
	int rc;

	json_decref(j);
	if (!text)
		return err_set(e, -ENOMEM, "no memory for a message");
	rc = mig_send(c, type, text, (u32)strlen(text), e);
	free(text);
	return rc;
}

int mig_hello_send(struct mig_chan *c, const struct mig_hello *h, struct err *e)
{
	const struct vm_config *v = &h->config;

	return hello_send_json(
		c, MIG_HELLO,
		json_pack("{s:s, s:s, s:s, s:i, s:b, s:b, s:b, s:I, s:o, s:o, "
			  "s:o}",
			  "version", SUBLET_VERSION, "engine", h->engine,
			  "name", v->name, "streams", (int)h->streams,
			  "dry_run", (int)h->dry_run, "postcopy",
			  (int)h->postcopy, "with_disks", (int)h->with_disks,
			  "memory", (json_int_t)v->memory, "disk_sizes",
			  hello_sizes(h), "config", vm_config_json(v), "cpu",
			  hello_cpuid(&h->cpuid)),
		e);
}

static json_t *hello_load(const struct mig_frame *f, struct err *e)
{
	json_error_t why;
	json_t *j = json_loadb((const char *)f->data, f->len,
			       JSON_REJECT_DUPLICATES, &why);

	if (!json_is_object(j)) {
		json_decref(j);
		err_set(e, -EPROTO, "the %s is not understood: %s",
			mig_type_name(f->type), why.text);
		return NULL;
	}
	return j;
}

/* The configuration tells memory in MiB, the rest of the machine exactly. */
static int hello_config(struct mig_hello *h, json_t *config, const char *name,
			json_int_t memory, struct err *e)
{
	struct err why = {{0}};

	if (vm_config_parse(config, &h->config, &why))
		return err_set(e, -EPROTO, "the source's HELLO: %s", why.text);
	if (memory <= 0)
		return err_set(e, -EPROTO,
			       "the source's HELLO: a machine without memory");
	h->config.name = name;
	h->config.memory = (u64)memory;
	return 0;
}

int mig_hello_parse(struct mig_hello *h, const struct mig_frame *f,
		    struct err *e)
{
	json_t *j = hello_load(f, e), *config, *cpu, *sizes;
	int streams, dry, post, disks, rc;
	const char *engine, *name;
	json_int_t memory;

	memset(h, 0, sizeof(*h));
	if (!j)
		return -EPROTO;
	h->json = j;
	vm_config_init(&h->config);
	if (json_unpack(j, "{s:s, s:s, s:i, s:b, s:b, s:b, s:I, s:o, s:o, s:o}",
			"engine", &engine, "name", &name, "streams", &streams,
			"dry_run", &dry, "postcopy", &post, "with_disks",
			&disks, "memory", &memory, "disk_sizes", &sizes,
			"config", &config, "cpu", &cpu) ||
	    streams < 1 || streams > (int)MIG_STREAMS)
		return err_set(e, -EPROTO,
			       "the source's HELLO lacks something");
	h->streams = (unsigned)streams;
	h->dry_run = dry;
	h->postcopy = post;
	h->with_disks = disks;
	snprintf(h->engine, sizeof(h->engine), "%s", engine);
	rc = hello_config(h, config, name, memory, e);
	if (rc)
		return rc;
	if (!hello_get_sizes(h, sizes))
		return err_set(e, -EPROTO,
			       "the source's HELLO has wrong disks");
	if (!hello_get_cpuid(&h->cpuid, cpu))
		return err_set(e, -EPROTO,
			       "the source's HELLO has a wrong CPU model");
	return 0;
}

void mig_hello_fini(struct mig_hello *h)
{
	json_decref(h->json);
	h->json = NULL;
}

int mig_accept_send(struct mig_chan *c, const struct mig_accept *a,
		    struct err *e)
{
	return hello_send_json(c, MIG_ACCEPT,
			       json_pack("{s:s, s:s, s:b, s:s}", "version",
					 SUBLET_VERSION, "engine", a->engine,
					 "postcopy", (int)a->postcopy,
					 "no_postcopy", a->no_postcopy),
			       e);
}

int mig_accept_parse(struct mig_accept *a, const struct mig_frame *f,
		     struct err *e)
{
	json_t *j = hello_load(f, e);
	const char *engine, *no;
	int post, rc = 0;

	if (!j)
		return -EPROTO;
	if (json_unpack(j, "{s:s, s:b, s:s}", "engine", &engine, "postcopy",
			&post, "no_postcopy", &no)) {
		rc = err_set(e, -EPROTO, "the target's ACCEPT lacks something");
	} else {
		*a = (struct mig_accept){.postcopy = post};
		snprintf(a->engine, sizeof(a->engine), "%s", engine);
		snprintf(a->no_postcopy, sizeof(a->no_postcopy), "%s", no);
	}
	json_decref(j);
	return rc;
}
