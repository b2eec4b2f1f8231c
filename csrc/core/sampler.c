/* SPDX-License-Identifier: Apache-2.0
 *
 * Owns the lanes: gathers sources, plans their rates, starts and stops their threads. Control calls (add,
 * start, stop, free) belong to one thread at a time; statistics may be read from any once start has returned.
 */
#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/pace.h"
#include "core/rate.h"
#include "core/sampler.h"

enum {
    RING_RECORDS = 1 << 17,
    TIMING_WAIT_NS = 2000 * 1000 * 1000, /* for the lanes to time their calls; who takes longer joins later */
    START_WAIT_NS = 1000 * 1000 * 1000,
    POLL_NS = 500 * 1000,
    TURN_NS = 500 * 1000 * 1000,         /* that one lane may keep the others of its driver waiting */
    FIFO_PRIORITY_MAX = 99,
    COST_GUESS_NS = 1000 * 1000,
    GRID_AHEAD_NS = 10 * 1000 * 1000, /* the lanes calibrate their wake-up meanwhile */
    SPREAD_MAX_NS = 100 * 1000 * 1000
};

#define COST_MARGIN 1.05 /* planned with: what ten calls at start do not show of calls beside a busy program */

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

/* The name of the channel that needs the highest rate of all. */
static const char *neediest(const ps_source *source)
{
    const ps_channel *found = &source->channels[0];
    for (uint32_t i = 1; i < source->n_channels; i++)
        if (source->groups[source->channels[i].group].min_hz > source->groups[found->group].min_hz)
            found = &source->channels[i];
    return found->name;
}

static int check_options(const ps_source *source, const ps_lane_options *options, ps_error *error)
{
    const char *call = "ps_sampler_add", *name = source->name;
    double rate_hz = options->rate_hz;
    if (options->mode < PS_MODE_PACED || options->mode > PS_MODE_FOLLOW)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: no such mode: %d", name, options->mode);
    if (options->mode == PS_MODE_VIRTUAL && !source->simulated_time)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: virtual mode needs a source of simulated time", name);
    if (options->mode == PS_MODE_TIGHT && rate_hz != 0)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: tight mode goes back to back and takes no rate (%g Hz)", name,
                       rate_hz);
    if (options->mode == PS_MODE_FOLLOW && rate_hz != 0)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: following goes by the sensor's updates and takes no rate (%g Hz)",
                       name, rate_hz);
    if (options->fifo_priority < 0 || options->fifo_priority > FIFO_PRIORITY_MAX)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: real-time priority %d: give 1 to %d, or 0 for none", name,
                       options->fifo_priority, FIFO_PRIORITY_MAX);
    if (options->mode == PS_MODE_VIRTUAL && options->fifo_priority != 0)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: simulated time knows no real-time class", name);
    /* Written so that NaN is refused, too. */
    if (rate_hz != 0 && !(rate_hz >= PS_RATE_MIN_HZ && rate_hz <= PS_RATE_MAX_HZ))
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: rate of %g Hz: give %g to %g Hz, or 0 for automatic", name,
                       rate_hz, PS_RATE_MIN_HZ, PS_RATE_MAX_HZ);
    double least_hz = ps_rate_least_hz(source->groups, source->n_groups);
    if (rate_hz != 0 && rate_hz < least_hz)
        return ps_fail(error, PS_E_INVALID, 0, call,
                       "%s: at %g Hz %s could turn round twice between two reads: give at least %.3g Hz", name, rate_hz,
                       neediest(source), ps_rate_rounded_up(least_hz));
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
        return ps_fail(error, status, 0, call, "%s: ring of %u records (%" PRIu64 " MiB): %s", source->name,
                       complete.ring_records, (uint64_t)complete.ring_records * sizeof(ps_sample) >> 20,
                       status == PS_E_INVALID ? "give a power of two from 2 to 2^26"
                                              : "give fewer, or raise the memory limit (ulimit -v, memory.max)");
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

/* What a lane's calls are taken to cost while its first one has not come back: as much as the slowest of its
 * driver, for they wait on the same locks. */
static double guessed_cost_ns(const ps_sampler *sampler, const ps_lane *silent)
{
    double worst_ns = COST_GUESS_NS;
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        const ps_lane *lane = sampler->lanes[i];
        if (!ps_lane_timed(lane) || strcmp(lane->source->driver, silent->source->driver) != 0)
            continue;
        for (uint32_t group = 0; group < lane->source->n_groups; group++)
            worst_ns = fmax(worst_ns, lane->costs_ns[group]);
    }
    return worst_ns;
}

/* Returns whether they are measured. */
static bool set_costs(const ps_sampler *sampler, ps_lane *lane)
{
    ps_source *source = lane->source;
    bool timed = ps_lane_timed(lane);
    double guess_ns = timed ? 0 : guessed_cost_ns(sampler, lane);
    for (uint32_t group = 0; group < source->n_groups; group++)
        source->groups[group].cost_ns = COST_MARGIN * (timed ? lane->costs_ns[group] : guess_ns);
    return timed;
}

/* Gives every lane its grid and lets it go. The grids are offset against one another: eight lanes at the same
 * instant would queue for one driver's lock, and each would record the others' calls as its own latency. */
static void set_plan(ps_sampler *sampler, const ps_rate_lane *plan)
{
    const int64_t base_ns = ps_clock_now_ns() + GRID_AHEAD_NS;
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        ps_lane *lane = sampler->lanes[i];
        int64_t spread_ns = plan[i].period_ns < SPREAD_MAX_NS ? plan[i].period_ns : SPREAD_MAX_NS;
        lane->grid_ns = base_ns + spread_ns * i / sampler->n_lanes;
        lane->mode = plan[i].mode;
        lane->period_ns = plan[i].period_ns;
        lane->idle_ns = plan[i].idle_ns;
        lane->share = plan[i].share;
        atomic_store_explicit(&lane->counters.unfollowed, plan[i].unfollowed, memory_order_relaxed); /* as the plan */
        lane->rate_hz = plan[i].rate_hz;
        lane->call_cost_ns = plan[i].call_cost_ns / COST_MARGIN;
        lane->rate_origin = plan[i].origin;
        for (uint32_t j = 0; j < lane->source->n_channels; j++) {
            ps_channel *channel = &lane->source->channels[j];
            channel->divisor = lane->source->groups[channel->group].divisor;
        }
        ps_lane_set_planned(lane);
    }
}

static int plan_rates(ps_sampler *sampler)
{
    if (sampler->n_lanes == 0)
        return PS_OK;
    ps_rate_lane *plan = calloc(sampler->n_lanes, sizeof *plan);
    double *scratch = calloc(sampler->n_lanes, sizeof *scratch);
    int status = PS_E_NOMEM;
    if (!plan || !scratch)
        goto out;
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        ps_lane *lane = sampler->lanes[i];
        bool measured = set_costs(sampler, lane);
        plan[i] = (ps_rate_lane){.driver = lane->source->driver,
                                 .groups = lane->source->groups,
                                 .n_groups = lane->source->n_groups,
                                 .mode = lane->options.mode,
                                 .asked_hz = lane->options.rate_hz,
                                 .followable = lane->n_followed > 0,
                                 .guessed = !measured};
    }
    ps_rate_even_costs(plan, sampler->n_lanes, scratch);
    ps_rate_plan(plan, sampler->n_lanes);
    set_plan(sampler, plan);
    status = PS_OK;
out:
    free(scratch);
    free(plan);
    return status;
}

/* Waits for the first n_lanes by turns until `reached` holds or the deadline is past. */
static void wait_for(ps_sampler *sampler, uint32_t n_lanes, bool (*reached)(const ps_lane *), int64_t deadline_ns)
{
    for (uint32_t i = 0; i < n_lanes; i++)
        while (!reached(sampler->lanes[i]) && ps_clock_now_ns() < deadline_ns)
            ps_pace_sleep(POLL_NS);
}

/* The lane before that its calls may have to wait for. */
static const ps_lane *neighbour(const ps_sampler *sampler, uint32_t lane)
{
    const char *driver = sampler->lanes[lane]->source->driver;
    for (uint32_t i = lane; driver[0] && i-- > 0;)
        if (strcmp(sampler->lanes[i]->source->driver, driver) == 0)
            return sampler->lanes[i];
    return NULL;
}

/* The lanes of one driver time their calls one after the other. All at once, where they share a lock, each would measure
 * its wait for the others, and eight lanes would plan an eighth of the rate that they may have. */
static void time_calls(ps_sampler *sampler)
{
    const int64_t end_ns = ps_clock_now_ns() + TIMING_WAIT_NS;
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        const ps_lane *before = neighbour(sampler, i);
        const int64_t patience_ns = ps_clock_now_ns() + TURN_NS, until_ns = patience_ns < end_ns ? patience_ns : end_ns;
        while (before && !ps_lane_timed(before) && ps_clock_now_ns() < until_ns)
            ps_pace_sleep(POLL_NS);
        ps_lane_give_turn(sampler->lanes[i]);
    }
    wait_for(sampler, sampler->n_lanes, ps_lane_timed, end_ns);
}

/* A lane whose first call has not come back is not waited for. */
static bool goes_or_is_silent(const ps_lane *lane)
{
    return ps_lane_started(lane) || !ps_lane_timed(lane);
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

    sampler->start_called = true;
    sampler->pid = getpid();
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        int system_errno;
        int status = ps_lane_start(sampler->lanes[i], &system_errno);
        if (status != PS_OK) {
            (void)stop_lanes(sampler, i, 5.0);
            return ps_fail(error, status, system_errno, "pthread_create", "lane %s: %s%s",
                           sampler->lanes[i]->source->name, strerror(system_errno),
                           system_errno == EAGAIN ? "; raise the limit of threads (ulimit -u, pids.max)" : "");
        }
    }
    time_calls(sampler);
    int status = plan_rates(sampler);
    if (status != PS_OK) {
        (void)stop_lanes(sampler, sampler->n_lanes, 5.0);
        return ps_fail(error, status, 0, call, "%u lanes", sampler->n_lanes);
    }
    sampler->running = true;
    wait_for(sampler, sampler->n_lanes, goes_or_is_silent, ps_clock_now_ns() + START_WAIT_NS);
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
