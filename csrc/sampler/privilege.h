/* SPDX-License-Identifier: Apache-2.0
 *
 * What this program may do beyond its caller when it bears file capabilities, or is set-user-ID, and how that ends.
 *
 * Capabilities are for opening counters, at this program's own places (/sys, /dev), and for nothing else. In this order:
 * the options are read with none in effect; the counters are opened; everything is dropped for good, and that is looked
 * at; only then a library is loaded, a thread started, or anything opened that the caller has named. A path of the
 * caller's for what would otherwise be opened with capabilities, or for output, costs them at once: then this is the
 * caller's own program, which may do what the caller may.
 */
#ifndef PS_SAMPLER_PRIVILEGE_H
#define PS_SAMPLER_PRIVILEGE_H

#include <stdbool.h>
#include <stdint.h>

typedef struct sampler_privilege {
    bool secure;  /* the kernel says so: AT_SECURE */
    bool held;    /* capabilities are permitted still */
    uint64_t got; /* which were at the start, of those of use here: bit n is capability n */
} sampler_privilege;

/* The first thing in main. Opens what is missing of descriptors 0 to 2, so that no device or file gets their numbers.
 * Under AT_SECURE: no core, no ptrace, real user and group ids, capabilities of use permitted and none in effect. False,
 * having printed why, when that is not so afterwards. */
bool privilege_begin(sampler_privilege *out);

/* Puts them into effect, and empties the environment: a library that is loaded later may not be steered by it. */
bool privilege_use(const sampler_privilege *self);

/* Gives up all of them, and every way to new ones. False, having printed why, when any is left: then end. */
bool privilege_drop(sampler_privilege *self);

/* Writes the names of the capabilities in `set`, such as "cap_perfmon,cap_sys_nice". */
enum { PRIVILEGE_NAMES = 96 };
void privilege_names(uint64_t set, char out[PRIVILEGE_NAMES]);

#endif
