/* SPDX-License-Identifier: Apache-2.0
 *
 * Owns the lanes: gathers sources, times their calls, starts and stops their threads. Control calls (add,
 * start, stop, free) belong to one thread at a time; statistics may be read from any.
 */
#include <errno.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/pace.h"
#include "core/rate.h"
#include "core/sampler.h"

enum {
    RING_RECORDS = 1 << 17,
    TIMED_CALLS = 9,
    TIMING_NS = 20 * 1000 * 1000,         /* at most so long a group, one call at least */
    START_WAIT_NS = 1000 * 1000 * 1000,
    POLL_NS = 500 * 1000
};

bool ps_sampler_is_foreign(const ps_sampler *sampler)
{
    return sampler->start_called && sampler->pid != getpid();
}

int ps_sampler_new(ps_sampler **out)
{
    if (!out)
        return PS_E_INVALID;
    ps_sampler *sampler = calloc(1, sizeof *sampler);
    if (!sampler)
        return PS_E_NOMEM;
    atomic_init(&sampler->users, 1);
    *out = sampler;
    return PS_OK;
}

static int check_options(const ps_source *source, const ps_lane_options *options, ps_error *error)
{
    const char *call = "ps_sampler_add", *name = source->name;
    double rate_hz = options->rate_hz;
    if (options->mode < PS_MODE_PACED || options->mode > PS_MODE_VIRTUAL)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: no such mode: %d", name, options->mode);
    if (options->mode == PS_MODE_VIRTUAL && !source->simulated_time)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: virtual mode needs a source of simulated time", name);
    if (options->mode == PS_MODE_TIGHT && rate_hz != 0)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: tight mode goes back to back and takes no rate (%g Hz)", name,
                       rate_hz);
    /* Written so that NaN is refused, too. */
    if (rate_hz != 0 && !(rate_hz >= PS_RATE_MIN_HZ && rate_hz <= PS_RATE_MAX_HZ))
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: rate of %g Hz: give %g to %g Hz, or 0 for automatic", name,
                       rate_hz, PS_RATE_MIN_HZ, PS_RATE_MAX_HZ);
    return PS_OK;
}

static bool has_channel(const ps_sampler *sampler, const char *name)
{
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        const ps_source *source = sampler->lanes[i]->source;
        for (uint32_t j = 0; j < source->n_channels; j++)
            if (strcmp(source->channels[j].name, name) == 0)
                return true;
    }
    return false;
}

int ps_sampler_add(ps_sampler *sampler, ps_source *source, const ps_lane_options *options, uint32_t *lane,
                   ps_error *error)
{
    const char *call = "ps_sampler_add";
    if (!sampler || !source || !options)
        return ps_fail(error, PS_E_INVALID, 0, call, "sampler, source and options are needed");
    if (sampler->start_called)
        return ps_fail(error, PS_E_STATE, 0, call, "%s: the sampler has been started; make a new one", source->name);
    int status = check_options(source, options, error);
    if (status != PS_OK)
        return status;
    if (source->n_channels > UINT16_MAX - sampler->n_channels)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: more than %d channels", source->name, UINT16_MAX);
    for (uint32_t i = 0; i < source->n_channels; i++)
        if (has_channel(sampler, source->channels[i].name))
            return ps_fail(error, PS_E_INVALID, 0, call, "%s: there is a channel %s already", source->name,
                           source->channels[i].name);

    ps_lane **lanes = realloc(sampler->lanes, (sampler->n_lanes + 1) * sizeof(ps_lane *));
    if (!lanes)
        return ps_fail(error, PS_E_NOMEM, 0, call, "%s", source->name);
    sampler->lanes = lanes;

    ps_lane_options complete = *options;
    if (complete.ring_records == 0)
        complete.ring_records = RING_RECORDS;
    status = ps_lane_new(source, &complete, (uint16_t)sampler->n_channels, &lanes[sampler->n_lanes]);
    if (status != PS_OK)
        return ps_fail(error, status, 0, call, "%s: ring of %u records%s", source->name, complete.ring_records,
                       status == PS_E_INVALID ? ": give a power of two from 2 to 2^26" : "");
    for (uint32_t i = 0; i < source->n_channels; i++) {
        source->channels[i].lane = sampler->n_lanes;
        source->channels[i].id = sampler->n_channels + i;
    }
    if (lane)
        *lane = sampler->n_lanes;
    sampler->n_lanes++;
    sampler->n_channels += source->n_channels;
    return PS_OK;
}

/* The median of a few calls: the first one often pays for waking the device. */
static double time_call(ps_source *source, uint32_t group)
{
    int64_t durations[TIMED_CALLS];
    const int64_t begin_ns = ps_clock_now_ns();
    int64_t before_ns = begin_ns;
    uint32_t n = 0;
    while (n < TIMED_CALLS && (n == 0 || before_ns - begin_ns < TIMING_NS)) {
        ps_reading readings[PS_GROUP_MAX];
        (void)source->ops->read(source, group, 0, readings);
        int64_t after_ns = ps_clock_now_ns();
        durations[n++] = after_ns - before_ns;
        before_ns = after_ns;
    }
    return (double)ps_pace_median(durations, n);
}

static int plan_rates(ps_sampler *sampler)
{
    ps_rate_lane *plan = calloc(sampler->n_lanes, sizeof *plan);
    if (!plan)
        return PS_E_NOMEM;
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        ps_lane *lane = sampler->lanes[i];
        ps_source *source = lane->source;
        for (uint32_t group = 0; group < source->n_groups; group++)
            source->groups[group].cost_ns = lane->options.mode == PS_MODE_VIRTUAL ? 0 : time_call(source, group);
        plan[i] = (ps_rate_lane){.driver = source->driver,
                                 .groups = source->groups,
                                 .n_groups = source->n_groups,
                                 .mode = lane->options.mode,
                                 .asked_hz = lane->options.rate_hz};
    }
    ps_rate_plan(plan, sampler->n_lanes);
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        ps_lane *lane = sampler->lanes[i];
        lane->period_ns = plan[i].period_ns;
        lane->rate_hz = plan[i].rate_hz;
        lane->call_cost_ns = plan[i].call_cost_ns;
        lane->rate_origin = plan[i].origin;
        for (uint32_t j = 0; j < lane->source->n_channels; j++) {
            ps_channel *channel = &lane->source->channels[j];
            channel->divisor = lane->source->groups[channel->group].divisor;
        }
    }
    free(plan);
    return PS_OK;
}

/* Waits for the first n_lanes by turns until `reached` holds or the deadline is past. */
static void wait_for(ps_sampler *sampler, uint32_t n_lanes, bool (*reached)(const ps_lane *), int64_t deadline_ns)
{
    for (uint32_t i = 0; i < n_lanes; i++)
        while (!reached(sampler->lanes[i]) && ps_clock_now_ns() < deadline_ns)
            ps_pace_sleep(POLL_NS);
}

/* Polls rather than joining with a timeout: that call is neither portable nor on the right clock everywhere,
 * and a lane says itself when it has ended. */
static int stop_lanes(ps_sampler *sampler, uint32_t n_lanes, double timeout_s)
{
    int64_t now_ns = ps_clock_now_ns();
    int64_t deadline_ns = now_ns + (int64_t)(timeout_s * 1e9);
    for (uint32_t i = 0; i < n_lanes; i++)
        ps_lane_ask_stop(sampler->lanes[i], now_ns);
    wait_for(sampler, n_lanes, ps_lane_ended, deadline_ns);

    int status = PS_OK;
    for (uint32_t i = 0; i < n_lanes; i++) {
        if (ps_lane_ended(sampler->lanes[i])) {
            ps_lane_join(sampler->lanes[i]);
        } else {
            ps_lane_leave_behind(sampler->lanes[i]);
            status = PS_E_TIMEOUT;
        }
    }
    return status;
}

int ps_sampler_start(ps_sampler *sampler, ps_error *error)
{
    const char *call = "ps_sampler_start";
    if (!sampler)
        return ps_fail(error, PS_E_INVALID, 0, call, "no sampler");
    if (sampler->start_called)
        return ps_fail(error, PS_E_STATE, 0, call, "a sampler starts once; make a new one");
    if (sampler->n_lanes == 0)
        return ps_fail(error, PS_E_STATE, 0, call, "no source has been added");
    int status = plan_rates(sampler);
    if (status != PS_OK)
        return ps_fail(error, status, 0, call, "%u lanes", sampler->n_lanes);

    sampler->start_called = true;
    sampler->pid = getpid();
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        int system_errno;
        status = ps_lane_start(sampler->lanes[i], &system_errno);
        if (status != PS_OK) {
            (void)stop_lanes(sampler, i, 5.0);
            return ps_fail(error, status, system_errno, "pthread_create", "lane %s: %s",
                           sampler->lanes[i]->source->name, strerror(system_errno));
        }
    }
    sampler->running = true;
    wait_for(sampler, sampler->n_lanes, ps_lane_started, ps_clock_now_ns() + START_WAIT_NS);
    return PS_OK;
}

int ps_sampler_stop(ps_sampler *sampler, double timeout_s)
{
    if (!sampler || !(timeout_s >= 0 && timeout_s <= 1e6))
        return PS_E_INVALID;
    if (!sampler->start_called || ps_sampler_is_foreign(sampler))
        return PS_E_STATE;
    if (!sampler->running)
        return PS_OK;
    sampler->running = false;
    return stop_lanes(sampler, sampler->n_lanes, timeout_s);
}

void ps_sampler_hold(ps_sampler *sampler)
{
    /* relaxed: the caller has a reference already, so nothing can vanish meanwhile. */
    atomic_fetch_add_explicit(&sampler->users, 1, memory_order_relaxed);
}

void ps_sampler_release(ps_sampler *sampler)
{
    /* acq_rel; pairs with itself in the other users: the last one must see all that they did with the rings
     * before it frees them. */
    if (atomic_fetch_sub_explicit(&sampler->users, 1, memory_order_acq_rel) > 1)
        return;
    bool foreign = ps_sampler_is_foreign(sampler);
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        ps_lane *lane = sampler->lanes[i];
        bool in_use = sampler->start_called && atomic_load_explicit(&lane->hung, memory_order_relaxed) &&
                      !ps_lane_ended(lane);
        if (foreign)
            ps_lane_abandon(lane);
        else if (!in_use)
            ps_lane_free(lane);
        /* else leaked on purpose: its thread is still in a device call and will come back to it */
    }
    free(sampler->lanes);
    free(sampler);
}

void ps_sampler_free(ps_sampler *sampler)
{
    if (!sampler)
        return;
    if (sampler->running && !ps_sampler_is_foreign(sampler))
        (void)ps_sampler_stop(sampler, 2.0);
    ps_sampler_release(sampler);
}

uint32_t ps_sampler_lanes(const ps_sampler *sampler)
{
    return sampler ? sampler->n_lanes : 0;
}

int ps_sampler_running(const ps_sampler *sampler)
{
    if (!sampler || !sampler->start_called || ps_sampler_is_foreign(sampler))
        return 0;
    int alive = 0;
    for (uint32_t i = 0; i < sampler->n_lanes; i++)
        alive += ps_lane_started(sampler->lanes[i]) && !ps_lane_ended(sampler->lanes[i]);
    return alive;
}

int ps_sampler_channels(const ps_sampler *sampler, ps_channel *out, uint32_t capacity, uint32_t *count)
{
    if (!sampler || !count || (capacity && !out))
        return PS_E_INVALID;
    uint32_t filled = 0;
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        const ps_source *source = sampler->lanes[i]->source;
        for (uint32_t j = 0; j < source->n_channels && filled < capacity; j++)
            out[filled++] = source->channels[j];
    }
    *count = sampler->n_channels; /* all there are: with capacity 0 this asks for the size */
    return PS_OK;
}

int ps_sampler_stats(const ps_sampler *sampler, uint32_t lane, ps_lane_stats *out)
{
    if (!sampler || !out || lane >= sampler->n_lanes)
        return PS_E_INVALID;
    ps_lane_stats_get(sampler->lanes[lane], out);
    return PS_OK;
}

int ps_sampler_drain(ps_sampler *sampler, uint32_t lane, ps_sample *out, uint32_t capacity, uint32_t *count)
{
    if (!sampler || !count || lane >= sampler->n_lanes || (capacity && !out))
        return PS_E_INVALID;
    /* relaxed: a guard against a mistake, not a lock; the spool is attached and taken off by the controlling
     * thread. */
    if (ps_sampler_is_foreign(sampler) || atomic_load_explicit(&sampler->spooled, memory_order_relaxed))
        return PS_E_STATE;
    *count = ps_ring_drain(sampler->lanes[lane]->ring, out, capacity);
    return PS_OK;
}
