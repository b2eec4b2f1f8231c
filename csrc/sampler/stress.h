/* SPDX-License-Identifier: Apache-2.0
 *
 * --stress: a load beside the sampler, for a calibration where there is no Python.
 *
 * Nothing of it happens while a capability is held: stress_check looks at words only (and takes a descriptor that the
 * caller has opened), stress_open reads the caller's pattern, makes the file for the edges and the threads.
 */
#ifndef PS_SAMPLER_STRESS_H
#define PS_SAMPLER_STRESS_H

#include "core/json.h"
#include "sampler/options.h"

typedef struct stress stress;

/* False, having printed why, when the words are no load. Takes over the descriptor of --edges fd:N. */
bool stress_check(sampler_options *options);

/* Returns an exit code. The threads are ready and asleep then. */
int stress_open(const sampler_options *options, stress **out);
int stress_start(stress *self);
/* NULL while it runs, else why it has ended: "duration", "temperature". To be asked ten times a second. */
const char *stress_over(stress *self);
void stress_stop(stress *self); /* whatever it is doing; what it logged stays */
/* After stress_stop: tells of trouble, writes the edges. Returns an exit code. */
int stress_finish(stress *self);
void stress_json(const stress *self, ps_text *text); /* an object for the end line */
void stress_free(stress *self);

#endif
