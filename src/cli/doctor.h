/* SPDX-License-Identifier: BSD-2-Clause */
/* The verb "sublet doctor": what this host offers and what follows. */
#ifndef CLI_DOCTOR_H
#define CLI_DOCTOR_H

int doctor_main(int argc, char **argv);

#endif
