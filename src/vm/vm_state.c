/* SPDX-License-Identifier: BSD-2-Clause */
/* Saving and loading, see vm_state.h. */
#include "vm/vm_state.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/crc32c.h"
#include "bus/dev.h"
#include "state/record.h"
#include "vm/vm_console.h"
#include "vm/vm_priv.h"
#include "vm/vm_state_desc.h"

#define AGE_MAX_NS (20ull * 365 * 86400 * 1000000000)

#define STATE_MAGIC 0x4d5674656c627553ull /* "SubletVM" */

/* Little-endian, at the start of the bytes. */
struct vm_state_head {
	u64 magic;
	u32 format, records;
	u64 length; /* of everything */
	char engine[16];
	u32 zero, crc; /* of all before */
};

_Static_assert(sizeof(struct vm_state_head) == VM_STATE_HEAD, "format");

/* ---- standing still ---- */

void vm_quiesce(struct vm *vm)
{
	vm_pause(vm);
	if (!vm->quiet++)
		dev_list_pause(pc_devices(vm->pc));
}

void vm_unquiesce(struct vm *vm)
{
	ASSERT(vm->quiet);
	if (!--vm->quiet)
		dev_list_resume(pc_devices(vm->pc));
	vm_resume(vm);
}

/* ---- saving ---- */

/* All before the first is saved: an interrupt that one finds to be due goes
 * into the registers of others and of the vCPUs. */
static void save_prepare(struct vm *vm)
{
	for (struct dev *d = pc_devices(vm->pc)->first; d; d = d->next) {
		if (!d->class->saving)
			continue;
		pthread_mutex_lock(&d->lock);
		d->class->saving(d);
		pthread_mutex_unlock(&d->lock);
	}
}

static void save_devices(struct vm *vm, struct buf *out, u32 *n)
{
	for (struct dev *d = pc_devices(vm->pc)->first; d; d = d->next) {
		if (!d->class->state)
			continue;
		pthread_mutex_lock(&d->lock);
		record_put(out, d->class->name, d->instance, 0, d->class->state,
			   d->regs);
		pthread_mutex_unlock(&d->lock);
		++*n;
	}
}

/*
 * The states were taken one after the other. Counters that are the same but
 * for what the guest adjusted are made the same again.
 */
static void save_tsc(struct cpu_state *s, u64 tsc, u64 hz)
{
	u64 apart = s->tsc - s->tsc_adjust - tsc;

	if (apart < hz || -apart < hz)
		s->tsc = tsc + s->tsc_adjust;
}

static int save_cpus(struct vm *vm, struct buf *out, u32 *n, struct err *e)
{
	u64 hz = clock_tsc_hz(), tsc = 0;
	struct cpu_state *s = malloc(sizeof(*s));
	int rc = 0;

	if (!s)
		return err_set(e, -ENOMEM, "no memory for a vCPU's state");
	for (unsigned i = 0; i < vm->config.cpus; i++) {
		struct vcpu *v = vm->cpus[i].vcpu;

		rc = v->class->vcpu_get(v, s, e);
		if (rc)
			break;
		if (!i)
			tsc = s->tsc - s->tsc_adjust;
		save_tsc(s, tsc, hz);
		record_put(out, "cpu", i, 0, &cpu_state_desc, s);
		++*n;
	}
	free(s);
	return rc;
}

/* After the vCPUs: their counters go on from before this clock. */
static void save_vm(struct vm *vm, struct buf *out, u32 *n)
{
	struct vm_regs r = {
		.memory = vm->mem.size,
		.cpus = vm->config.cpus,
		.real_ns = clock_real_ns(),
	};
	struct vm_cpuid_regs *c = malloc(sizeof(*c));

	r.has_clock = vm->engine->class->clock_get &&
		      !vm->engine->class->clock_get(vm->engine, &r.clock_ns);
	if (vm->front)
		r.console = vm_console_which(vm->front);
	record_put(out, "vm", 0, 0, &vm_state_desc, &r);
	if (!c) {
		out->failed = true;
		return;
	}
	vm_cpuid_from_model(c, vm->engine->config.cpuid);
	record_put(out, "cpuid", 0, 0, &vm_cpuid_desc, c);
	free(c);
	*n += 2;
}

int vm_state_save(struct vm *vm, struct buf *out, struct err *e)
{
	struct vm_state_head h = {
		.magic = STATE_MAGIC,
		.format = VM_STATE_FORMAT,
	};
	u64 start = out->len;
	int rc;

	ASSERT(vm->quiet);
	buf_add(out, &h, sizeof(h));
	save_prepare(vm);
	rc = save_cpus(vm, out, &h.records, e);
	if (rc)
		return rc;
	save_devices(vm, out, &h.records);
	save_vm(vm, out, &h.records);
	if (out->failed)
		return err_set(e, -ENOMEM, "no memory for the machine's state");
	h.length = out->len - start;
	snprintf(h.engine, sizeof(h.engine), "%s", vm->engine->class->name);
	h.crc = crc32c(0, &h, offsetof(struct vm_state_head, crc));
	memcpy(out->data + start, &h, sizeof(h));
	return 0;
}

/* ---- checking ---- */

static int check_head(const void *bytes, u64 len, struct vm_state_head *h,
		      struct err *e)
{
	if (len < sizeof(*h))
		return err_set(e, -EPROTO, "the machine's state is cut off");
	memcpy(h, bytes, sizeof(*h));
	if (h->magic != STATE_MAGIC)
		return err_set(e, -EPROTO, "this is no state of a machine");
	if (crc32c(0, h, offsetof(struct vm_state_head, crc)) != h->crc)
		return err_set(e, -EBADMSG,
			       "the machine's state is damaged (checksum of "
			       "its header)");
	if (h->format != VM_STATE_FORMAT)
		return err_set(e, -ENOTSUP,
			       "the machine's state has format %u; this "
			       "version of Sublet knows %u",
			       h->format, VM_STATE_FORMAT);
	if (h->length != len)
		return err_set(e, -EPROTO,
			       "the machine's state has %lu bytes, not %lu",
			       len, h->length);
	if (h->engine[sizeof(h->engine) - 1])
		return err_set(e, -EPROTO, "nonsense about the engine");
	return 0;
}

struct state_walk {
	struct vm_state_info *info;
	unsigned vm, cpuid; /* records seen */
	u64 cpus;           /* a bit each */
};

static int check_vm(struct state_walk *w, const struct record *r, struct err *e)
{
	struct vm_regs v;
	int rc = record_load(r, &vm_state_desc, &v, e);

	if (rc)
		return rc;
	w->vm++;
	w->info->memory = v.memory;
	w->info->cpus = v.cpus;
	w->info->real_ns = v.real_ns;
	return 0;
}

static int check_cpuid(struct state_walk *w, const struct record *r,
		       struct err *e)
{
	struct vm_cpuid_regs *c = malloc(sizeof(*c));
	int rc = c ? record_load(r, &vm_cpuid_desc, c, e) : -ENOMEM;

	if (!rc) {
		w->cpuid++;
		vm_cpuid_to_model(&w->info->cpuid, c);
	}
	free(c);
	return rc;
}

static int check_record(struct state_walk *w, const struct record *r,
			struct err *e)
{
	if (!strcmp(r->name, "vm"))
		return check_vm(w, r, e);
	if (!strcmp(r->name, "cpuid"))
		return check_cpuid(w, r, e);
	if (strcmp(r->name, "cpu")) {
		w->info->devices++;
		return 0;
	}
	if (r->instance >= 64 || w->cpus & BIT64(r->instance))
		return err_set(e, -EPROTO, "vCPU %u is one too many",
			       r->instance);
	w->cpus |= BIT64(r->instance);
	return record_check(r, &cpu_state_desc, e);
}

static int check_whole(const struct state_walk *w, struct err *e)
{
	u32 n = w->info->cpus;

	if (w->vm != 1 || w->cpuid != 1)
		return err_set(e, -EPROTO,
			       "the machine's state lacks its description");
	if (w->cpus != (n == 64 ? ~0ull : BIT64(n) - 1))
		return err_set(e, -EPROTO,
			       "the machine's state does not have the state of "
			       "each of its %u CPUs",
			       n);
	return 0;
}

int vm_state_check(const void *bytes, u64 len, struct vm_state_info *info,
		   struct err *e)
{
	struct state_walk w = {.info = info};
	u64 at = sizeof(struct vm_state_head);
	struct vm_state_head h;
	int rc;

	memset(info, 0, sizeof(*info));
	rc = check_head(bytes, len, &h, e);
	if (rc)
		return rc;
	info->format = h.format;
	memcpy(info->engine, h.engine, sizeof(info->engine));
	for (; !rc && at < len; info->records++) {
		struct record r;

		rc = record_parse(bytes, len, &at, &r, e);
		if (!rc)
			rc = check_record(&w, &r, e);
	}
	if (!rc && info->records != h.records)
		rc = err_set(e, -EPROTO,
			     "the machine's state has %u records, not %u",
			     info->records, h.records);
	return rc ? rc : check_whole(&w, e);
}

/* ---- loading ---- */

static bool is_device(const struct record *r)
{
	return strcmp(r->name, "vm") && strcmp(r->name, "cpuid") &&
	       strcmp(r->name, "cpu");
}

static struct dev *find_device(struct vm *vm, const struct record *r)
{
	for (struct dev *d = pc_devices(vm->pc)->first; d; d = d->next)
		if (d->class->state && d->instance == r->instance &&
		    !strcmp(d->class->name, r->name))
			return d;
	return NULL;
}

/* Into scratch memory; then what the device itself says. */
static int fits_device(struct dev *d, const struct record *r, struct err *e)
{
	void *regs = malloc(d->class->state->size);
	int rc;

	if (!regs)
		return err_set(e, -ENOMEM, "no memory for %s", r->name);
	rc = record_load(r, d->class->state, regs, e);
	if (!rc && d->class->fits)
		rc = d->class->fits(d, regs, e);
	free(regs);
	return rc;
}

/* Calls fn for each record of bytes that vm_state_check() liked. */
static int for_records(const void *bytes, u64 len,
		       int (*fn)(struct vm *vm, const struct record *r,
				 struct err *e),
		       struct vm *vm, struct err *e)
{
	u64 at = sizeof(struct vm_state_head);
	int rc = 0;

	while (!rc && at < len) {
		struct record r;

		rc = record_parse(bytes, len, &at, &r, e);
		if (!rc)
			rc = fn(vm, &r, e);
	}
	return rc;
}

static int fits_record(struct vm *vm, const struct record *r, struct err *e)
{
	struct dev *d;

	if (!is_device(r))
		return 0;
	d = find_device(vm, r);
	if (d && d->seen)
		return err_set(e, -EPROTO, "device %s %u is there twice",
			       r->name, r->instance);
	if (d) {
		d->seen = true;
		return fits_device(d, r, e);
	}
	if (r->flags & RECORD_OPTIONAL)
		return 0;
	return err_set(e, -ENODEV,
		       "the saved machine has a device %s %u, which this one "
		       "does not have",
		       r->name, r->instance);
}

static int fits_all(struct vm *vm, const void *bytes, u64 len, struct err *e)
{
	struct dev *first = pc_devices(vm->pc)->first;
	int rc;

	for (struct dev *d = first; d; d = d->next)
		d->seen = false;
	rc = for_records(bytes, len, fits_record, vm, e);
	for (struct dev *d = first; !rc && d; d = d->next)
		if (d->class->state && !d->seen)
			rc = err_set(e, -ENODEV,
				     "this machine has a device %s %u, which "
				     "the saved one does not have",
				     d->class->name, d->instance);
	return rc;
}

static int fits_machine(struct vm *vm, const struct vm_state_info *info,
			struct err *e)
{
	const struct cpuid_model *have = vm->engine->config.cpuid;

	if (info->memory != vm->mem.size || info->cpus != vm->config.cpus)
		return err_set(e, -EINVAL,
			       "the saved machine has %u CPUs and %llu MiB, "
			       "this one %u and %llu",
			       info->cpus, info->memory / MIB, vm->config.cpus,
			       vm->mem.size / MIB);
	if (have->n != info->cpuid.n || memcmp(have->leaf, info->cpuid.leaf,
					       have->n * sizeof(have->leaf[0])))
		return err_set(e, -EINVAL,
			       "this machine was made with another CPU model "
			       "than the saved one");
	return 0;
}

static int load_device(struct vm *vm, const struct record *r, struct err *e)
{
	struct dev *d = is_device(r) ? find_device(vm, r) : NULL;
	int rc;

	if (!d)
		return 0;
	pthread_mutex_lock(&d->lock);
	rc = record_load(r, d->class->state, d->regs, e);
	if (!rc && d->class->loaded)
		d->class->loaded(d);
	pthread_mutex_unlock(&d->lock);
	return rc;
}

static int load_vm(struct vm *vm, const struct record *r, struct err *e)
{
	const struct engine_class *c = vm->engine->class;
	struct vm_regs v;
	int rc;

	if (strcmp(r->name, "vm"))
		return 0;
	rc = record_load(r, &vm_state_desc, &v, e);
	if (!rc && v.has_clock && c->clock_set &&
	    c->clock_set(vm->engine, v.clock_ns + vm->load_age))
		return err_set(e, -EIO, "cannot set the guest's clock");
	if (!rc && vm->front)
		vm_console_choose(vm->front, v.console);
	return rc;
}

static int load_cpu(struct vm *vm, const struct record *r, struct err *e)
{
	struct cpu_state *s;
	struct vcpu *v;
	int rc;

	if (strcmp(r->name, "cpu"))
		return 0;
	s = malloc(sizeof(*s));
	if (!s)
		return err_set(e, -ENOMEM, "no memory for a vCPU's state");
	v = vm->cpus[r->instance].vcpu;
	rc = record_load(r, &cpu_state_desc, s, e);
	if (!rc) {
		if (!v->class->tsc_moment)
			s->tsc += clock_tsc() - vm->load_tsc;
		s->tsc += mul_div(vm->load_age, clock_tsc_hz(), 1000000000);
		rc = v->class->vcpu_set(v, s, e);
	}
	free(s);
	return rc;
}

void vm_state_age(struct vm *vm, const struct vm_state_info *info)
{
	u64 now = clock_real_ns();

	/* A clock that was set back, or that was nonsense then. */
	if (now < info->real_ns || now - info->real_ns > AGE_MAX_NS)
		vm->load_age = 0;
	else
		vm->load_age = now - info->real_ns;
}

int vm_state_load(struct vm *vm, const void *bytes, u64 len, struct err *e)
{
	struct vm_state_info info;
	int rc;

	ASSERT(vm->quiet);
	rc = vm_state_check(bytes, len, &info, e);
	if (!rc)
		rc = fits_machine(vm, &info, e);
	if (!rc)
		rc = fits_all(vm, bytes, len, e);
	if (rc)
		return rc;
	/* Devices last: what they find to be due interrupts the new vCPUs. */
	rc = for_records(bytes, len, load_vm, vm, e);
	/* Counters go on together, though they are set one after the other. */
	vm->load_tsc = clock_tsc();
	vm_tsc_moment(vm, vm->load_tsc);
	if (!rc)
		rc = for_records(bytes, len, load_cpu, vm, e);
	vm_tsc_moment(vm, 0);
	return rc ? rc : for_records(bytes, len, load_device, vm, e);
}
