/* SPDX-License-Identifier: BSD-2-Clause */
#include "migrate/hello.h"

#include <errno.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum field_type { FIELD_STRING, FIELD_BOOL, FIELD_U16, FIELD_U32, FIELD_U64 };

/* What is plain in a configuration. */
static const struct {
	const char *name;
	size_t off;
	enum field_type type;
} fields[] = {
#define FIELD(type, name, member)                                      \
	{                                                              \
		name, offsetof(struct vm_config, member), FIELD_##type \
	}
	FIELD(STRING, "name", name),
	FIELD(U32, "cpus", cpus),
	FIELD(U64, "memory", memory),
	FIELD(BOOL, "nested", nested),
	FIELD(BOOL, "no_reboot", no_reboot),
	FIELD(BOOL, "interpret", interp_only),
	FIELD(BOOL, "console", console),
	FIELD(U32, "net", net),
	FIELD(U16, "debug_exit", debug_exit_port),
	FIELD(U16, "debug_console", debug_console_port),
	FIELD(STRING, "kernel", boot.kernel),
	FIELD(STRING, "initrd", boot.initrd),
	FIELD(STRING, "cmdline", boot.cmdline),
#undef FIELD
};

static void hello_put_field(json_t *j, size_t i, const u8 *at)
{
	json_t *v = NULL;

	switch (fields[i].type) {
	case FIELD_STRING: v = json_string(*(const char *const *)at); break;
	case FIELD_BOOL: v = json_boolean(*(const bool *)at); break;
	case FIELD_U16: v = json_integer(*(const u16 *)at); break;
	case FIELD_U32: v = json_integer(*(const u32 *)at); break;
	case FIELD_U64: v = json_integer((json_int_t) * (const u64 *)at); break;
	}
	if (v)
		json_object_set_new(j, fields[i].name, v);
}

/* A string may be absent, nothing else. */
static bool hello_get_field(const json_t *j, size_t i, u8 *at)
{
	const json_t *v = json_object_get(j, fields[i].name);
	json_int_t n = json_integer_value(v);

	switch (fields[i].type) {
	case FIELD_STRING:
		*(const char **)at = json_string_value(v);
		return !v || json_is_string(v);
	case FIELD_BOOL:
		*(bool *)at = json_is_true(v);
		return json_is_boolean(v);
	case FIELD_U16:
		*(u16 *)at = (u16)n;
		return json_is_integer(v) && n >= 0 && n <= 0xffff;
	case FIELD_U32:
		*(u32 *)at = (u32)n;
		return json_is_integer(v) && n >= 0 && n <= 0x7fffffff;
	case FIELD_U64:
		*(u64 *)at = (u64)n;
		return json_is_integer(v) && n >= 0;
	}
	return false;
}

static json_t *hello_strings(const char *const *s, unsigned n)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < n; i++)
		json_array_append_new(a, json_string(s[i]));
	return a;
}

static bool hello_get_strings(const json_t *j, const char *name,
			      const char **out, unsigned max, unsigned *n)
{
	const json_t *a = json_object_get(j, name), *v;
	size_t i;

	*n = (unsigned)json_array_size(a);
	if (!json_is_array(a) || json_array_size(a) > max)
		return false;
	json_array_foreach(a, i, v)
	{
		out[i] = json_string_value(v);
		if (!out[i])
			return false;
	}
	return true;
}

static json_t *hello_disks(const struct mig_hello *h)
{
	json_t *a = json_array();

	for (unsigned i = 0; i < h->config.ndisks; i++) {
		const struct vm_disk *d = &h->config.disks[i];

		json_array_append_new(
			a, json_pack("{s:s, s:b, s:I}", "path", d->path,
				     "readonly", (int)d->readonly, "size",
				     (json_int_t)h->disk_size[i]));
	}
	return a;
}

static bool hello_get_disks(struct mig_hello *h, const json_t *j)
{
	const json_t *a = json_object_get(j, "disks"), *v;
	size_t i;

	if (!json_is_array(a) || json_array_size(a) > VM_DISKS)
		return false;
	h->config.ndisks = (unsigned)json_array_size(a);
	json_array_foreach(a, i, v)
	{
		const json_t *size = json_object_get(v, "size");

		h->config.disks[i] = (struct vm_disk){
			.path = json_string_value(json_object_get(v, "path")),
			.readonly =
				json_is_true(json_object_get(v, "readonly")),
		};
		h->disk_size[i] = (u64)json_integer_value(size);
		if (!h->config.disks[i].path || !json_is_integer(size))
			return false;
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
	json_t *config = json_object();

	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		hello_put_field(config, i, (const u8 *)v + fields[i].off);
	json_object_set_new(config, "modules",
			    hello_strings(v->boot.modules, v->boot.nmodules));
	json_object_set_new(config, "forwards",
			    hello_strings(v->forwards, v->nforwards));
	json_object_set_new(config, "disks", hello_disks(h));
	return hello_send_json(
		c, MIG_HELLO,
		json_pack("{s:s, s:s, s:i, s:b, s:b, s:b, s:o, s:o}", "version",
			  SUBLET_VERSION, "engine", h->engine, "streams",
			  (int)h->streams, "dry_run", (int)h->dry_run,
			  "postcopy", (int)h->postcopy, "with_disks",
			  (int)h->with_disks, "config", config, "cpu",
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

static bool hello_config(struct mig_hello *h, const json_t *j)
{
	struct vm_config *v = &h->config;

	for (size_t i = 0; i < ARRAY_LEN(fields); i++)
		if (!hello_get_field(j, i, (u8 *)v + fields[i].off))
			return false;
	return v->name && v->net <= VM_NET_USER &&
	       hello_get_strings(j, "modules", v->boot.modules, BOOT_MODULES,
				 &v->boot.nmodules) &&
	       hello_get_strings(j, "forwards", v->forwards, VM_FORWARDS,
				 &v->nforwards) &&
	       hello_get_disks(h, j);
}

int mig_hello_parse(struct mig_hello *h, const struct mig_frame *f,
		    struct err *e)
{
	json_t *j = hello_load(f, e), *config, *cpu;
	int streams, dry, post, disks;
	const char *engine;

	memset(h, 0, sizeof(*h));
	if (!j)
		return -EPROTO;
	h->json = j;
	vm_config_init(&h->config);
	if (json_unpack(j, "{s:s, s:i, s:b, s:b, s:b, s:o, s:o}", "engine",
			&engine, "streams", &streams, "dry_run", &dry,
			"postcopy", &post, "with_disks", &disks, "config",
			&config, "cpu", &cpu) ||
	    streams < 1 || streams > (int)MIG_STREAMS)
		return err_set(e, -EPROTO,
			       "the source's HELLO lacks something");
	h->streams = (unsigned)streams;
	h->dry_run = dry;
	h->postcopy = post;
	h->with_disks = disks;
	snprintf(h->engine, sizeof(h->engine), "%s", engine);
	if (!hello_config(h, config))
		return err_set(e, -EPROTO,
			       "the source's HELLO has a wrong "
			       "configuration");
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
