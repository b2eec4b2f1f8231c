/* SPDX-License-Identifier: Apache-2.0
 *
 * A lane's figures, read from any thread while it runs. They are torn from one another by at most the pass
 * under way; once the lane has ended they agree exactly.
 */
#include <stdio.h>
#include <string.h>

#include "core/lane.h"

static uint64_t relaxed(const _Atomic uint64_t *counter)
{
    /* relaxed: see ps_lane_counters. */
    return atomic_load_explicit(counter, memory_order_relaxed);
}

static int32_t state_of(const ps_lane *lane, bool ended)
{
    if (atomic_load_explicit(&lane->hung, memory_order_relaxed))
        return PS_LANE_HUNG;
    if (ended)
        return PS_LANE_DONE;
    return ps_lane_started(lane) ? PS_LANE_RUNNING : PS_LANE_NEW;
}

/* A lane that hangs cannot count what it misses meanwhile: the slots up to the stop are counted for it, as it
 * will itself if its call ever comes back. */
static void confess(const ps_lane *lane, ps_lane_stats *out)
{
    int64_t start_ns = atomic_load_explicit(&lane->counters.start_ns, memory_order_relaxed);
    int64_t stop_ns = atomic_load_explicit(&lane->stop_ns, memory_order_relaxed);
    if (lane->mode != PS_MODE_PACED || !ps_lane_started(lane) || stop_ns < start_ns)
        return;
    uint64_t due = (uint64_t)((stop_ns - start_ns) / lane->period_ns + 1);
    if (due > out->passes + out->skipped)
        out->skipped = due - out->passes;
}

void ps_lane_stats_get(const ps_lane *lane, ps_lane_stats *out)
{
    const ps_lane_counters *counters = &lane->counters;
    memset(out, 0, sizeof *out);
    snprintf(out->name, sizeof out->name, "%s", lane->source->name);
    snprintf(out->driver, sizeof out->driver, "%s", lane->source->driver);
    snprintf(out->note, sizeof out->note, "%s", lane->source->note);

    /* First, so that what follows is final if the lane has ended. */
    out->state = state_of(lane, ps_lane_ended(lane));
    out->mode = lane->mode;
    out->unfollowed = atomic_load_explicit(&counters->unfollowed, memory_order_relaxed);
    out->period_ns = lane->period_ns;
    out->rate_hz = lane->rate_hz;
    out->rate_origin = lane->rate_origin;
    out->call_cost_ns = lane->call_cost_ns;

    out->passes = relaxed(&counters->passes);
    out->skipped = relaxed(&counters->skipped);
    if (out->state == PS_LANE_HUNG)
        confess(lane, out);
    out->slots = out->passes + out->skipped;
    out->reopens = relaxed(&counters->reopens);
    /* In this order: the other way round a busy reader could make the difference negative. */
    out->drained = ps_ring_consumed(lane->ring);
    out->in_ring = ps_ring_written(lane->ring) - out->drained;
    out->dropped = ps_ring_dropped(lane->ring);
    out->records = relaxed(&counters->records);

    out->start_ns = atomic_load_explicit(&counters->start_ns, memory_order_relaxed);
    out->last_ns = atomic_load_explicit(&counters->last_ns, memory_order_relaxed);
    out->lead_ns = atomic_load_explicit(&counters->lead_ns, memory_order_relaxed);
    out->cpu_ns = atomic_load_explicit(&counters->cpu_ns, memory_order_relaxed);
    out->cpu = atomic_load_explicit(&counters->cpu, memory_order_relaxed);
    out->cpu_errno = atomic_load_explicit(&counters->cpu_errno, memory_order_relaxed);
    out->fifo_priority = atomic_load_explicit(&counters->fifo_priority, memory_order_relaxed);
    out->fifo_refusal = atomic_load_explicit(&counters->fifo_refusal, memory_order_relaxed);
    out->fifo_errno = atomic_load_explicit(&counters->fifo_errno, memory_order_relaxed);

    out->updates = relaxed(&counters->updates);
    out->acquisitions = relaxed(&counters->acquisitions);
    out->n_followed = lane->mode == PS_MODE_FOLLOW ? lane->n_followed : 0;
    for (uint32_t i = 0; i < out->n_followed; i++) {
        out->followed_channel[i] = lane->followed[i].channel;
        out->followed_period_ns[i] = atomic_load_explicit(&counters->followed_period_ns[i], memory_order_relaxed);
    }

    /* acquire; pairs with the release in count_error, which publishes the codes below n_errors. */
    out->n_errors = atomic_load_explicit(&counters->n_errors, memory_order_acquire);
    for (uint32_t i = 0; i < out->n_errors; i++) {
        out->error_code[i] = atomic_load_explicit(&counters->error_code[i], memory_order_relaxed);
        out->error_count[i] = relaxed(&counters->error_count[i]);
    }
    out->error_other = relaxed(&counters->error_other);
    for (int bin = 0; bin < PS_LANE_BINS; bin++) {
        int folded = bin < PS_HIST_BINS ? bin : PS_HIST_BINS - 1;
        out->call_hist[folded] += relaxed(&counters->call_hist[bin]);
        out->wake_hist[folded] += relaxed(&counters->wake_hist[bin]);
    }
}
