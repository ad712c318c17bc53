/* SPDX-License-Identifier: BSD-2-Clause */
#include "vm/vm_track.h"

#include <errno.h>
#include <stdlib.h>

#include "vm/vm_priv.h"

struct vm_track {
	struct vm *vm;
	struct vm_track *next; /* vm.track_lock */
	unsigned long *seen;   /* collected for others; the same */
};

u64 vm_track_words(struct vm *vm)
{
	return ALIGN_UP(vm->mem.size >> PAGE_SHIFT, 64) / 64;
}

/* What the engine and the memory know goes to every tracker. */
static int track_gather(struct vm *vm, struct err *e)
{
	struct engine *g = vm->engine;
	u64 words = vm_track_words(vm);
	int rc = g->class->dirty_sync(g, e);

	if (rc)
		return rc;
	mem_dirty_collect(&vm->mem, vm->track_bits);
	for (struct vm_track *t = vm->tracks; t; t = t->next)
		for (u64 i = 0; i < words; i++)
			t->seen[i] |= vm->track_bits[i];
	return 0;
}

static int track_start(struct vm *vm, struct err *e)
{
	struct engine *g = vm->engine;
	int rc;

	vm->track_bits = calloc(vm_track_words(vm), 8);
	if (!vm->track_bits)
		return err_set(e, -ENOMEM, "no memory for dirty pages");
	rc = mem_dirty_start(&vm->mem, e);
	if (!rc)
		rc = g->class->dirty_start(g, e);
	if (!rc)
		return 0;
	mem_dirty_stop(&vm->mem);
	free(vm->track_bits);
	return rc;
}

static void track_stop(struct vm *vm)
{
	mem_dirty_stop(&vm->mem);
	vm->engine->class->dirty_stop(vm->engine);
	free(vm->track_bits);
	vm->track_bits = NULL;
}

struct vm_track *vm_track_new(struct vm *vm, struct err *e)
{
	struct vm_track *t = calloc(1, sizeof(*t));
	int rc = 0;

	if (t)
		t->seen = calloc(vm_track_words(vm), 8);
	if (!t || !t->seen) {
		free(t);
		err_set(e, -ENOMEM, "no memory for dirty pages");
		return NULL;
	}
	t->vm = vm;
	pthread_mutex_lock(&vm->track_lock);
	/* The others' pages before ours: what is older is not ours. */
	rc = vm->tracks ? track_gather(vm, e) : track_start(vm, e);
	if (!rc) {
		t->next = vm->tracks;
		vm->tracks = t;
	}
	pthread_mutex_unlock(&vm->track_lock);
	if (!rc)
		return t;
	free(t->seen);
	free(t);
	return NULL;
}

void vm_track_free(struct vm_track *t)
{
	struct vm_track **at;
	struct vm *vm;

	if (!t)
		return;
	vm = t->vm;
	pthread_mutex_lock(&vm->track_lock);
	for (at = &vm->tracks; *at != t; at = &(*at)->next)
		;
	*at = t->next;
	if (!vm->tracks)
		track_stop(vm);
	pthread_mutex_unlock(&vm->track_lock);
	free(t->seen);
	free(t);
}

int vm_track_collect(struct vm_track *t, unsigned long *dirty, struct err *e)
{
	struct vm *vm = t->vm;
	int rc;

	pthread_mutex_lock(&vm->track_lock);
	rc = track_gather(vm, e);
	for (u64 i = 0; !rc && i < vm_track_words(vm); i++) {
		dirty[i] |= t->seen[i];
		t->seen[i] = 0;
	}
	pthread_mutex_unlock(&vm->track_lock);
	return rc;
}
