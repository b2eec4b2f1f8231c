/* SPDX-License-Identifier: Apache-2.0
 *
 * How fast each lane goes: arithmetic on measured call costs, without devices, threads or clocks.
 */
#ifndef PS_RATE_H
#define PS_RATE_H

#include <stdbool.h>

#include "core/source.h"

#define PS_RATE_MIN_HZ 1e-3
#define PS_RATE_MAX_HZ 1e6       /* what may be asked for */
#define PS_RATE_AUTO_MAX_HZ 1e3  /* what is chosen by itself: 1 kHz costs a few percent of a core, 10 kHz tens */
#define PS_RATE_LANE_SHARE 0.02  /* of a lane's time in its calls */
#define PS_RATE_SLOW_PART 0.2    /* of that for counters and AUX, where power has use for the rest */
#define PS_RATE_DRIVER_SHARE 0.05 /* of time in the calls of one driver: they may share a lock with the workload's */
#define PS_RATE_DRIVER_PLANNED (0.96 * PS_RATE_DRIVER_SHARE) /* calls that meet wait for each other; timing by turns hides it */
#define PS_RATE_ALIKE 3           /* a board whose calls cost this many times what others' do is a slower one */

typedef struct ps_rate_lane {
    /* given */
    const char *driver; /* "" for none */
    ps_group *groups;   /* max_hz and cost_ns given, divisor found */
    uint32_t n_groups;
    int32_t mode;       /* enum ps_mode; found: PS_MODE_PACED where following is refused */
    double asked_hz;    /* 0: automatic */
    bool followable;    /* there are channels to follow */
    bool guessed;       /* its costs are no measurement */
    /* found */
    int64_t period_ns;  /* 0 in tight mode; following: the spacing of polls around an update */
    int64_t idle_ns;    /* following: the period of the grid that it stands in for */
    double share;       /* of its time that its calls may take; 0 where it was asked for more than that */
    int32_t unfollowed; /* enum ps_unfollowed */
    double rate_hz;
    double call_cost_ns;
    int32_t origin;     /* enum ps_rate_origin */
} ps_rate_lane;

/* The lowest rate of a lane at which no counter of it can turn round twice unseen; 0: any. */
double ps_rate_least_hz(const ps_group *groups, uint32_t n_groups);
double ps_rate_rounded_up(double rate_hz); /* to three digits, so that a rate which is told does when it is asked for */

/* Takes the calls of boards alike, those of one driver with the same groups, to cost the median of what they cost on all of
 * them: ten timed calls of one lane are few, and where one of them had to wait, that lane would poll at half the others' rate
 * for the whole run. Costs that were guessed, or are a slower board's, stay. `scratch` holds n_lanes. */
void ps_rate_even_costs(ps_rate_lane *lanes, uint32_t n_lanes, double *scratch);

/* Sets the grid of every lane and the divisor of every group, or its spacing where updates are followed. Slow groups keep their own rates whatever the
 * lane's is, or less where their part of the budget is used up, but never less than their min_hz: a budget is for
 * politeness, a turn unseen is energy lost. Rates that were asked for are taken as they are
 * and do not count against their driver's share: whoever asks has decided, and the lanes left to themselves
 * must still run. */
void ps_rate_plan(ps_rate_lane *lanes, uint32_t n_lanes);

#endif
