/* SPDX-License-Identifier: GPL-2.0 OR MIT */
/* EXIT_<name>: the exit status of every program, from the rows of names.def. */
#ifndef FLIGHTLLM_NAMES_H
#define FLIGHTLLM_NAMES_H

#define EXIT(name, number, meaning) EXIT_##name = number,
enum {
#include <flightllm/names.def>
};

#endif
