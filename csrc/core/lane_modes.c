/* SPDX-License-Identifier: Apache-2.0
 *
 * The loops of the modes that have a grid or none, and what they keep out of their way. Here nothing is allocated, locked,
 * logged or written to a file. lane_follow.c has the loop of the third.
 */
#include "core/lane_pass.h"

enum { CPU_STAMP_NS = 1000 * 1000 * 1000 /* spacing of the thread's CPU time, a system call */ };

void ps_lane_count_error(ps_lane *lane, uint32_t code)
{
    ps_lane_counters *counters = &lane->counters;
    lane->failed = true;
    lane->house_due_ns = INT64_MIN; /* after this pass */
    uint32_t known = atomic_load_explicit(&counters->n_errors, memory_order_relaxed); /* own */
    for (uint32_t i = 0; i < known; i++) {
        if (atomic_load_explicit(&counters->error_code[i], memory_order_relaxed) == code) {
            add(&counters->error_count[i], 1);
            return;
        }
    }
    if (known == PS_ERROR_CODES) {
        add(&counters->error_other, 1);
        return;
    }
    atomic_store_explicit(&counters->error_code[known], code, memory_order_relaxed);
    add(&counters->error_count[known], 1);
    /* release; pairs with the acquire in ps_lane_stats_get; publishes the row above; without it a reader
     * could see the row counted and its code still 0. */
    atomic_store_explicit(&counters->n_errors, known + 1, memory_order_release);
}

void ps_lane_push_stamped(ps_lane *lane, uint32_t n, bool simulated)
{
    push_readings(lane, n, 0, 0, lane->source->stamps_ns, simulated);
}

/* What need not be done in every pass. */
void ps_lane_keep_house(ps_lane *lane)
{
    const int64_t now_ns = lane->now_ns;
    if (lane->failed) {
        lane->failed = false;
        if (lane->source->ops->recover && lane->source->ops->recover(lane->source, now_ns) == 1)
            add(&lane->counters.reopens, 1);
    }
    if (now_ns >= lane->cpu_due_ns) {
        ps_lane_stamp_cpu_time(lane);
        ps_lane_check_place(lane, now_ns, atomic_load_explicit(&lane->counters.cpu_ns, memory_order_relaxed)); /* own */
        lane->cpu_due_ns = now_ns + CPU_STAMP_NS;
    }
    lane->house_due_ns = lane->cpu_due_ns;
}

/* Makes the calls that are due, the first starting at lane->now_ns, which moves on to the end of the last. */
static ALWAYS_INLINE void serve(ps_lane *lane, bool simulated)
{
    begin_pass(lane);
    ps_group *group = lane->source->groups;
    uint32_t i = 0;
    do {
        if (--group->countdown)
            continue;
        group->countdown = group->divisor;
        (void)read_group(lane, i, simulated);
    } while (group++, ++i < lane->source->n_groups);
    end_pass(lane);
}

void ps_lane_go_paced(ps_lane *lane, int64_t start_ns, int64_t period_ns, int64_t lead_ns)
{
    const uint64_t limit = pass_limit(lane);
    ps_lane_counters *counters = &lane->counters;
    int64_t next = 0; /* the slot to wait for */
    while (passes_begun(lane) < limit) {
        int64_t now_ns = ps_pace_wait(start_ns + next * period_ns, lead_ns, &lane->stop_ns);
        int64_t stop_ns = atomic_load_explicit(&lane->stop_ns, memory_order_relaxed); /* as in stop_asked */
        if (stop_ns) {
            /* Slots that were due before the stop and had no chance: one long call may hide many. */
            if (stop_ns >= start_ns + next * period_ns)
                add(&counters->skipped, (uint64_t)((stop_ns - start_ns) / period_ns - next + 1));
            return;
        }
        /* A late lane serves the newest slot that is due and confesses those that it passed over. */
        int64_t slot = (now_ns - start_ns) / period_ns;
        if (slot != next)
            add(&counters->skipped, (uint64_t)(slot - next));
        count_duration(counters->wake_hist, now_ns - (start_ns + slot * period_ns));
        lane->now_ns = now_ns;
        serve(lane, false);
        next = slot + 1;
    }
}

OWN_FRAME void ps_lane_run_paced(ps_lane *lane)
{
    const int64_t period_ns = lane->period_ns;
    ps_lane_raise(lane, ps_pace_duty(lane->call_cost_ns, period_ns));
    const int64_t lead_ns = ps_pace_lead(period_ns);
    const int64_t earliest_ns = ps_clock_now_ns() + lead_ns + PS_PACE_SLEEP_MIN_NS;
    const int64_t start_ns = lane->grid_ns > earliest_ns ? lane->grid_ns : earliest_ns;
    atomic_store_explicit(&lane->counters.lead_ns, lead_ns, memory_order_relaxed);
    mark_started(lane, start_ns);
    ps_lane_go_paced(lane, start_ns, period_ns, lead_ns);
}

OWN_FRAME void ps_lane_run_tight(ps_lane *lane)
{
    const uint64_t limit = pass_limit(lane);
    ps_lane_raise(lane, 1);
    lane->now_ns = ps_clock_now_ns();
    mark_started(lane, lane->now_ns);
    while (passes_begun(lane) < limit && !stop_asked(lane))
        serve(lane, false); /* back to back: the end of a pass is the start of the next */
}

OWN_FRAME void ps_lane_run_virtual(ps_lane *lane)
{
    const uint64_t limit = pass_limit(lane);
    int64_t now_ns = lane->options.virtual_start_ns;
    const int64_t end_of_time_ns = INT64_MAX - lane->period_ns - PS_GROUP_MAX * (int64_t)VIRTUAL_CALL_NS;
    mark_started(lane, now_ns);
    while (passes_begun(lane) < limit && !stop_asked(lane) && now_ns < end_of_time_ns) {
        lane->now_ns = now_ns;
        serve(lane, true);
        now_ns += lane->period_ns;
    }
}
