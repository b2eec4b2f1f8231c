/* SPDX-License-Identifier: Apache-2.0
 *
 * The loop of the mode `follow`: the fast groups, whose power channels have a tracker each, are read when any of these
 * wants a poll, and every tracker is told of every poll. The other groups are read at their own spacing, in the pauses.
 */
#include "core/lane_pass.h"

#define OVER_BUDGET 1.25 /* times its share of time in calls, before a lane gives up */

static const int64_t WATCH_NS = INT64_C(10000000000);  /* over which that is measured */
static const int64_t SETTLE_NS = INT64_C(5000000000);  /* not counted: acquiring once costs what a grid would */

static int64_t wanted_ns(const ps_lane *lane)
{
    int64_t wanted = INT64_MAX;
    for (uint32_t i = 0; i < lane->n_followed; i++)
        if (lane->followed[i].tracker.next_ns < wanted)
            wanted = lane->followed[i].tracker.next_ns;
    return wanted;
}

/* The group at its own spacing that is to be read before the next poll: one that is over by then, or that has waited for a
 * pause as long as its whole spacing. NULL for none. */
static ps_group *group_before(const ps_lane *lane, int64_t poll_ns)
{
    ps_group *first = NULL;
    for (uint32_t i = 0; i < lane->source->n_groups; i++) {
        ps_group *group = &lane->source->groups[i];
        if (group->every_ns && (!first || group->due_ns < first->due_ns))
            first = group;
    }
    if (!first)
        return NULL;
    const int64_t begin_ns = first->due_ns > lane->now_ns ? first->due_ns : lane->now_ns;
    const bool fits = begin_ns + (int64_t)(2 * first->cost_ns) < poll_ns;
    return fits || first->due_ns + first->every_ns < poll_ns ? first : NULL;
}

static void serve_group(ps_lane *lane, ps_group *group)
{
    begin_pass(lane);
    group->due_ns += group->every_ns;
    if (group->due_ns <= lane->now_ns) /* late by more than its spacing: no burst makes up for it */
        group->due_ns = lane->now_ns + group->every_ns;
    (void)read_group(lane, (uint32_t)(group - lane->source->groups), false);
    end_pass(lane);
}

static void offer(ps_lane *lane, uint32_t n, int64_t t0_ns)
{
    for (uint32_t i = 0; i < n; i++)
        for (uint32_t j = 0; j < lane->n_followed; j++)
            if (lane->followed[j].channel == lane->readings[i].channel)
                ps_tracker_offer(&lane->followed[j].tracker, t0_ns, lane->now_ns, lane->readings[i].raw,
                                 lane->readings[i].status == 0);
}

static void publish_learnt(ps_lane *lane)
{
    ps_lane_counters *counters = &lane->counters;
    uint64_t updates = 0, acquisitions = 0;
    for (uint32_t i = 0; i < lane->n_followed; i++) {
        const ps_tracker *tracker = &lane->followed[i].tracker;
        updates += tracker->updates;
        acquisitions += tracker->acquisitions;
        atomic_store_explicit(&counters->followed_period_ns[i],
                              ps_tracker_locked(tracker) ? (int64_t)tracker->period_ns : 0, memory_order_relaxed);
    }
    atomic_store_explicit(&counters->updates, updates, memory_order_relaxed);
    atomic_store_explicit(&counters->acquisitions, acquisitions, memory_order_relaxed);
}

/* A poll that somebody wanted: all fast groups, so that what belongs together stays together. */
static void serve_poll(ps_lane *lane)
{
    uint64_t passed_over = 0;
    for (uint32_t i = 0; i < lane->n_followed; i++) {
        const uint64_t mine = ps_tracker_passed_over(&lane->followed[i].tracker, lane->now_ns);
        passed_over = mine > passed_over ? mine : passed_over; /* one poll would have served them all */
    }
    add(&lane->counters.skipped, passed_over);
    begin_pass(lane);
    for (uint32_t i = 0; i < lane->source->n_groups; i++) {
        if (lane->source->groups[i].every_ns)
            continue;
        const int64_t t0_ns = lane->now_ns;
        const uint32_t n = read_group(lane, i, false);
        if (!(n & PS_READ_STAMPED))
            offer(lane, n, t0_ns);
    }
    publish_learnt(lane);
    end_pass(lane);
}

/* Why following goes no further, or PS_FOLLOWED. */
static int32_t watch(ps_lane *lane, int64_t begin_ns)
{
    for (uint32_t i = 0; i < lane->n_followed; i++)
        if (lane->followed[i].tracker.too_fast)
            return PS_UNFOLLOWED_FAST;
    if (begin_ns >= lane->watch_from_ns)
        lane->busy_ns += lane->now_ns - begin_ns;
    if (lane->now_ns < lane->watch_from_ns + WATCH_NS)
        return PS_FOLLOWED;
    const double share = (double)lane->busy_ns / (double)(lane->now_ns - lane->watch_from_ns);
    lane->busy_ns = 0;
    lane->watch_from_ns = lane->now_ns;
    return share > OVER_BUDGET * lane->share ? PS_UNFOLLOWED_BUDGET : PS_FOLLOWED;
}

/* On a grid from now on, as `auto` would have had it from the start. */
static void give_up(ps_lane *lane, int32_t why, int64_t lead_ns)
{
    atomic_store_explicit(&lane->counters.unfollowed, why, memory_order_relaxed);
    for (uint32_t i = 0; i < lane->source->n_groups; i++) {
        ps_group *group = &lane->source->groups[i];
        const int64_t divisor = group->every_ns / lane->idle_ns;
        group->divisor = divisor < 1 ? 1 : divisor > UINT32_MAX ? UINT32_MAX : (uint32_t)divisor;
        group->countdown = group->divisor;
    }
    ps_lane_go_paced(lane, lane->now_ns + lane->idle_ns, lane->idle_ns, lead_ns);
}

OWN_FRAME void ps_lane_run_follow(ps_lane *lane)
{
    ps_lane_raise(lane, lane->share);
    const uint64_t limit = pass_limit(lane);
    const int64_t lead_ns = ps_pace_lead(lane->period_ns);
    const int64_t earliest_ns = ps_clock_now_ns() + PS_PACE_SLEEP_MIN_NS;
    const int64_t start_ns = lane->grid_ns > earliest_ns ? lane->grid_ns : earliest_ns;
    for (uint32_t i = 0; i < lane->n_followed; i++)
        ps_tracker_init(&lane->followed[i].tracker, lane->period_ns, lane->idle_ns,
                        (uint64_t)start_ns + lane->first_channel + i, start_ns);
    for (uint32_t i = 0; i < lane->source->n_groups; i++)
        lane->source->groups[i].due_ns = start_ns;
    lane->now_ns = start_ns;
    lane->watch_from_ns = start_ns + SETTLE_NS;
    atomic_store_explicit(&lane->counters.lead_ns, lead_ns, memory_order_relaxed);
    mark_started(lane, start_ns);

    while (passes_begun(lane) < limit) {
        const int64_t poll_ns = wanted_ns(lane);
        ps_group *group = group_before(lane, poll_ns);
        const int64_t due_ns = group ? group->due_ns : poll_ns;
        const int64_t begin_ns = ps_pace_wait(due_ns, lead_ns, &lane->stop_ns);
        if (stop_asked(lane))
            return;
        count_duration(lane->counters.wake_hist, begin_ns - due_ns);
        lane->now_ns = begin_ns;
        if (group)
            serve_group(lane, group);
        else
            serve_poll(lane);
        const int32_t why = watch(lane, begin_ns);
        if (why != PS_FOLLOWED) {
            give_up(lane, why, lead_ns);
            return;
        }
    }
}
