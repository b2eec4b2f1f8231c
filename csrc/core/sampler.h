/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampler's inside, for the spool that reads its rings.
 */
#ifndef PS_SAMPLER_H
#define PS_SAMPLER_H

#include <stdatomic.h>
#include <sys/types.h>

#include "core/lane.h"

struct ps_sampler {
    ps_lane **lanes;
    uint32_t n_lanes;
    uint32_t n_channels;
    bool start_called;
    bool running;        /* started and not yet stopped */
    pid_t pid;           /* of the process whose threads the lanes are */
    _Atomic bool spooled; /* a spool reads the rings */
    _Atomic uint32_t users; /* its owner and its spools: the last one takes the memory along */
};

void ps_sampler_hold(ps_sampler *sampler);
void ps_sampler_release(ps_sampler *sampler);

/* A forked child inherits the object and none of its threads. */
bool ps_sampler_is_foreign(const ps_sampler *sampler);

#endif
