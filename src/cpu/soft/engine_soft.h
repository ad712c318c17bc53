/* SPDX-License-Identifier: BSD-2-Clause */
/* The soft engine, for the list of engines (cpu/engine.c) and tests. */
#ifndef CPU_SOFT_ENGINE_SOFT_H
#define CPU_SOFT_ENGINE_SOFT_H

#include "cpu/engine.h"

extern const struct engine_class soft_engine;

#endif
