/* SPDX-License-Identifier: Apache-2.0
 *
 * See rate.h. Groups slower than the fastest (counters, AUX) get a fifth of a lane's share at most, `stretch` times
 * their own rates, so that power keeps the rest. With that fixed, the share of time that a lane's calls take is
 * sum(cost * min(rate, limit)): it never falls with the rate, so bisection finds the highest rate within a share.
 */
#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "core/rate.h"

/* Following: polls a second that a sensor of T = 100 ms takes, at a jitter of 1 ms, by their spacing in a window. The wider
 * one still places updates within 0.8 ms, without reserve for a late wake-up. */
static const struct {
    double spacing_ns, polls_hz;
} follow_ways[] = {{1e6, 60}, {1.6e6, 40}};

enum { BISECTIONS = 60 }; /* beyond a double's digits from any start used here */

/* A tight lane's passes cannot be closer than this, whatever was measured for a call that does nothing. */
#define TIGHT_PASS_MIN_NS 100.0

static double fastest_group_hz(const ps_rate_lane *lane)
{
    return fmax(PS_RATE_MIN_HZ, ps_group_fastest_hz(lane->groups, lane->n_groups));
}

static double highest_useful_hz(const ps_rate_lane *lane)
{
    return fmin(fastest_group_hz(lane), PS_RATE_AUTO_MAX_HZ);
}

double ps_rate_least_hz(const ps_group *groups, uint32_t n_groups)
{
    double least = 0;
    for (uint32_t i = 0; i < n_groups; i++)
        least = fmax(least, groups[i].min_hz);
    return least;
}

double ps_rate_rounded_up(double rate_hz)
{
    if (!(rate_hz > 0))
        return rate_hz;
    double unit = pow(10, floor(log10(rate_hz)) - 2);
    return ceil(rate_hz / unit) * unit;
}

static bool is_slow(const ps_rate_lane *lane, const ps_group *group)
{
    return group->max_hz < fastest_group_hz(lane);
}

static double share_at(const ps_rate_lane *lane, double rate_hz, double stretch)
{
    double share = 0;
    for (uint32_t i = 0; i < lane->n_groups; i++) {
        const ps_group *group = &lane->groups[i];
        double limit_hz = is_slow(lane, group) ? fmax(group->max_hz * stretch, group->min_hz) : group->max_hz;
        share += group->cost_ns * 1e-9 * fmin(rate_hz, limit_hz);
    }
    return share;
}

/* What the lane would take with nothing withheld from it. */
static double share_wanted(const ps_rate_lane *lane)
{
    return share_at(lane, highest_useful_hz(lane), 1);
}

/* How much of their own rates the slow groups get: all, unless they would take more than their part of the share and
 * the fast ones need it. */
static double stretch_within(const ps_rate_lane *lane, double share)
{
    double fast = share_at(lane, highest_useful_hz(lane), 0);
    double slow = share_wanted(lane) - fast;
    double allowed = fmax(PS_RATE_SLOW_PART * share, share - fast);
    return slow <= allowed ? 1 : allowed / slow;
}

static double rate_within(const ps_rate_lane *lane, double share, double stretch)
{
    double high = highest_useful_hz(lane);
    if (share_at(lane, high, stretch) <= share)
        return high;
    double low = PS_RATE_MIN_HZ;
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = (low + high) / 2;
        if (share_at(lane, middle, stretch) <= share)
            low = middle;
        else
            high = middle;
    }
    return low;
}

/* rate / max_hz rounded up, where a grid of whole nanoseconds must not cost a divisor: 3.000000003 is 3. */
static uint32_t divisor_for(double rate_hz, double max_hz)
{
    double divisor = ceil(rate_hz / max_hz - 1e-6);
    return divisor < 1 ? 1 : divisor > UINT32_MAX ? UINT32_MAX : (uint32_t)divisor;
}

/* The lane's rate is the rate of its fastest groups, even where more was asked than tells anything new; the
 * others keep to their own. */
static void set_divisors(ps_rate_lane *lane, double passes_hz, double stretch)
{
    lane->call_cost_ns = 0;
    for (uint32_t i = 0; i < lane->n_groups; i++) {
        ps_group *group = &lane->groups[i];
        group->divisor = 1;
        if (is_slow(lane, group)) {
            group->divisor = divisor_for(passes_hz, group->max_hz * stretch);
            /* Rounding may only ever make a counter's reads more frequent than it needs. */
            double most = group->min_hz > 0 ? floor(passes_hz / group->min_hz) : UINT32_MAX;
            if (group->divisor > most)
                group->divisor = most < 1 ? 1 : (uint32_t)most;
        }
        lane->call_cost_ns += group->cost_ns / group->divisor;
    }
}

static void set_grid(ps_rate_lane *lane, double rate_hz, double stretch, int32_t origin)
{
    /* An asked rate is met as closely as whole nanoseconds allow; a found one is a limit, never passed. */
    lane->period_ns = (int64_t)(origin == PS_RATE_ASKED   ? round(1e9 / rate_hz)
                                : origin == PS_RATE_TURNS ? floor(1e9 / rate_hz)
                                                          : ceil(1e9 / rate_hz));
    lane->rate_hz = 1e9 / (double)lane->period_ns;
    lane->origin = origin;
    set_divisors(lane, lane->rate_hz, stretch);
}

/* Back to back: there is no grid, and what the fastest groups cost tells how often a pass will come. */
static void set_tight(ps_rate_lane *lane)
{
    double pass_ns = 0;
    for (uint32_t i = 0; i < lane->n_groups; i++)
        if (!is_slow(lane, &lane->groups[i]))
            pass_ns += lane->groups[i].cost_ns;
    lane->period_ns = 0;
    lane->rate_hz = 0;
    lane->origin = PS_RATE_ASKED;
    set_divisors(lane, 1e9 / fmax(pass_ns, TIGHT_PASS_MIN_NS), 1);
}

/* Follows if a few polls an update are within the lane's share, beside what the other groups are given; else the grid
 * stays that has been set. */
static void set_follow(ps_rate_lane *lane, double allowed)
{
    double fast_ns = 0;
    for (uint32_t i = 0; i < lane->n_groups; i++)
        fast_ns += is_slow(lane, &lane->groups[i]) ? 0 : lane->groups[i].cost_ns;
    const double slow = share_wanted(lane) - fast_ns * 1e-9 * highest_useful_hz(lane);
    lane->unfollowed = lane->followable ? PS_UNFOLLOWED_BUDGET : PS_UNFOLLOWED_NOTHING;
    lane->mode = PS_MODE_PACED;
    for (uint32_t way = 0; lane->followable && way < sizeof follow_ways / sizeof follow_ways[0]; way++) {
        const double left = allowed - fast_ns * 1e-9 * follow_ways[way].polls_hz;
        if (left < fmin(slow, PS_RATE_SLOW_PART * allowed))
            continue;
        lane->unfollowed = PS_FOLLOWED;
        lane->mode = PS_MODE_FOLLOW;
        lane->origin = PS_RATE_UPDATES;
        lane->idle_ns = lane->period_ns;
        lane->period_ns = (int64_t)follow_ways[way].spacing_ns;
        lane->rate_hz = 0;
        lane->call_cost_ns = fast_ns;
        for (uint32_t i = 0; i < lane->n_groups; i++) {
            ps_group *group = &lane->groups[i];
            /* A poll may have to wait for a pause as long as its spacing: hence twice what a counter needs. */
            const double read_hz = fmax(group->max_hz * (slow <= left ? 1 : left / slow), 2 * group->min_hz);
            group->every_ns = is_slow(lane, group) ? (int64_t)(1e9 / read_hz) : 0;
        }
        return;
    }
}

static int is_automatic(const ps_rate_lane *lane)
{
    return lane->mode != PS_MODE_TIGHT && lane->asked_hz == 0;
}

static int shares_driver(const ps_rate_lane *lane, const char *driver)
{
    return driver[0] && is_automatic(lane) && strcmp(lane->driver, driver) == 0;
}

/* What the driver's automatic lanes take together if none takes more than `most`. */
static double driver_share(const ps_rate_lane *lanes, uint32_t n_lanes, const char *driver, double most)
{
    double sum = 0;
    for (uint32_t i = 0; i < n_lanes; i++)
        if (shares_driver(&lanes[i], driver))
            sum += fmin(most, share_wanted(&lanes[i]));
    return sum;
}

/* The most that each lane of the driver may take: lanes that need less leave the rest to the others. */
static double lane_share(const ps_rate_lane *lanes, uint32_t n_lanes, const char *driver)
{
    double high = PS_RATE_LANE_SHARE;
    if (!driver[0] || driver_share(lanes, n_lanes, driver, high) <= PS_RATE_DRIVER_PLANNED)
        return high;
    double low = 0;
    for (int i = 0; i < BISECTIONS; i++) {
        double middle = (low + high) / 2;
        if (driver_share(lanes, n_lanes, driver, middle) <= PS_RATE_DRIVER_PLANNED)
            low = middle;
        else
            high = middle;
    }
    return low;
}

static bool are_alike(const ps_rate_lane *one, const ps_rate_lane *other)
{
    if (one->guessed || other->guessed || !one->driver[0] || strcmp(one->driver, other->driver) != 0 ||
        one->n_groups != other->n_groups)
        return false;
    for (uint32_t i = 0; i < one->n_groups; i++)
        if (one->groups[i].max_hz != other->groups[i].max_hz)
            return false;
    return true;
}

/* The median of what a group costs on the boards that are like this lane's; of an even number the dearer middle one. */
static double median_cost_ns(const ps_rate_lane *lanes, uint32_t n_lanes, uint32_t lane, uint32_t group)
{
    uint32_t alike = 0;
    for (uint32_t i = 0; i < n_lanes; i++)
        alike += are_alike(&lanes[lane], &lanes[i]);
    for (uint32_t i = 0; i < n_lanes; i++) {
        if (!are_alike(&lanes[lane], &lanes[i]))
            continue;
        const double cost_ns = lanes[i].groups[group].cost_ns;
        uint32_t below = 0, equal = 0;
        for (uint32_t j = 0; j < n_lanes; j++) {
            if (!are_alike(&lanes[lane], &lanes[j]))
                continue;
            below += lanes[j].groups[group].cost_ns < cost_ns;
            equal += lanes[j].groups[group].cost_ns == cost_ns;
        }
        if (below <= alike / 2 && alike / 2 < below + equal)
            return cost_ns;
    }
    return lanes[lane].groups[group].cost_ns; /* none is alike, not even itself: guessed, or without a driver */
}

void ps_rate_even_costs(ps_rate_lane *lanes, uint32_t n_lanes, double *scratch)
{
    uint32_t most = 0;
    for (uint32_t i = 0; i < n_lanes; i++)
        most = lanes[i].n_groups > most ? lanes[i].n_groups : most;
    for (uint32_t group = 0; group < most; group++) {
        for (uint32_t i = 0; i < n_lanes; i++)
            scratch[i] = group < lanes[i].n_groups ? median_cost_ns(lanes, n_lanes, i, group) : 0;
        for (uint32_t i = 0; i < n_lanes; i++)
            if (group < lanes[i].n_groups && lanes[i].groups[group].cost_ns < PS_RATE_ALIKE * scratch[i])
                lanes[i].groups[group].cost_ns = scratch[i];
    }
}

void ps_rate_plan(ps_rate_lane *lanes, uint32_t n_lanes)
{
    for (uint32_t i = 0; i < n_lanes; i++) {
        ps_rate_lane *lane = &lanes[i];
        if (lane->mode == PS_MODE_TIGHT) {
            set_tight(lane);
        } else if (lane->asked_hz > 0) {
            set_grid(lane, lane->asked_hz, 1, PS_RATE_ASKED);
        } else {
            double allowed = lane_share(lanes, n_lanes, lane->driver);
            double stretch = stretch_within(lane, allowed);
            double rate_hz = rate_within(lane, allowed, stretch);
            int32_t origin = rate_hz >= highest_useful_hz(lane) ? PS_RATE_CAP
                             : allowed < PS_RATE_LANE_SHARE   ? PS_RATE_DRIVER_BUDGET
                                                              : PS_RATE_LANE_BUDGET;
            double least_hz = ps_rate_least_hz(lane->groups, lane->n_groups);
            if (rate_hz < least_hz) {
                rate_hz = least_hz;
                origin = PS_RATE_TURNS;
            }
            set_grid(lane, rate_hz, stretch, origin);
            lane->share = allowed;
            if (lane->mode == PS_MODE_FOLLOW)
                set_follow(lane, allowed);
        }
    }
}
