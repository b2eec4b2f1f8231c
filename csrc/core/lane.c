/* SPDX-License-Identifier: Apache-2.0
 *
 * A lane's life: made, started, planned, stopped, left behind, freed. Its thread times its calls, waits for its plan, and then
 * runs the loop of its mode (lane_modes.c, lane_follow.c).
 */
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/lane_pass.h"

enum {
    TIMED_CALLS = 9,              /* of each of the fastest groups at start, beside the first */
    TIMED_SLOW_CALLS = 3,         /* of the others */
    TIMING_NS = 8 * 1000 * 1000,  /* of calls at most a group, one at least */
    TIMING_PAUSE_NS = 1000 * 1000,
    PAUSED_NS = 20 * 1000,        /* a call that is shorter goes nowhere */
    PLAN_POLL_NS = 200 * 1000,
    FOLLOW_FROM_HZ = 100          /* what a grid reads less often is read seldom enough */
};

/* Calls in a row are cheaper than calls now and then, which find caches cold and a core or a device asleep: so with pauses,
 * as they will be made. The mean: the budget is about time, of which a rare slow call takes most. The first call does not
 * count if there are others: it often pays for waking the device. */
static double time_call(const ps_lane *lane, uint32_t group)
{
    const bool often = lane->source->groups[group].max_hz >= ps_group_fastest_hz(lane->source->groups, lane->source->n_groups);
    const uint32_t calls = often ? TIMED_CALLS : TIMED_SLOW_CALLS;
    ps_reading readings[PS_GROUP_MAX];
    int64_t spent_ns = 0, call_ns = 0;
    for (uint32_t n = 0; n <= calls && !stop_asked(lane); n++) {
        if (call_ns > PAUSED_NS)
            ps_pace_sleep(TIMING_PAUSE_NS);
        const int64_t begin_ns = ps_clock_monotonic_ns();
        (void)lane->source->ops->read(lane->source, group, 0, readings);
        call_ns = ps_clock_monotonic_ns() - begin_ns;
        if (n > 0)
            spent_ns += call_ns;
        if (n > 0 && (spent_ns >= TIMING_NS || n == calls))
            return (double)spent_ns / n;
        if (call_ns >= TIMING_NS)
            break;
    }
    return (double)call_ns;
}

/* Polls, as what the controller does next takes milliseconds. False: asked to stop meanwhile. */
static bool wait_for(const ps_lane *lane, const _Atomic bool *flag)
{
    /* acquire; pairs with the releases in ps_lane_give_turn and ps_lane_set_planned; publishes the plan: grid, period, mode and
     * divisors; without it the lane could run on those of before. */
    while (!atomic_load_explicit(flag, memory_order_acquire)) {
        if (stop_asked(lane))
            return false;
        ps_pace_sleep(PLAN_POLL_NS);
    }
    return !stop_asked(lane);
}

/* Times the calls here and not in the controller's thread: a device that hangs then hangs its own lane only.
 * Returns whether there is a plan to follow. */
static bool prepare(ps_lane *lane)
{
    if (!wait_for(lane, &lane->turn))
        return false;
    if (lane->options.mode != PS_MODE_VIRTUAL) /* there calls cost nothing */
        for (uint32_t group = 0; group < lane->source->n_groups; group++)
            lane->costs_ns[group] = time_call(lane, group);
    /* release; pairs with the acquire in ps_lane_timed; publishes costs_ns; without it the plan could be made
     * of costs half written. */
    atomic_store_explicit(&lane->timed, true, memory_order_release);
    return wait_for(lane, &lane->planned);
}

static void *run(void *argument)
{
    ps_lane *lane = argument;
    prctl(PR_SET_NAME, "ps-lane");
    prctl(PR_SET_TIMERSLACK, 1UL); /* of this thread; 0 would mean the default */
    ps_lane_pin(lane);
    if (!prepare(lane))
        ; /* stopped before it began */
    else if (lane->mode == PS_MODE_PACED)
        ps_lane_run_paced(lane);
    else if (lane->mode == PS_MODE_FOLLOW)
        ps_lane_run_follow(lane);
    else if (lane->mode == PS_MODE_TIGHT)
        ps_lane_run_tight(lane);
    else
        ps_lane_run_virtual(lane);
    ps_lane_stamp_cpu_time(lane);
    /* release; pairs with the acquire in ps_lane_ended; publishes all the thread did; without it the
     * controller could free a lane under its last writes, or read counters that do not add up yet. */
    atomic_store_explicit(&lane->ended, true, memory_order_release);
    return NULL;
}

/* The source's power channels among those that are read fastest, each of whose readings is about the present. */
static int choose_followed(ps_lane *lane)
{
    const ps_source *source = lane->source;
    const double fastest_hz = ps_group_fastest_hz(source->groups, source->n_groups);
    const bool worth_it = fastest_hz >= FOLLOW_FROM_HZ;
    lane->followed = calloc(PS_FOLLOWED_MAX, sizeof *lane->followed);
    for (uint32_t i = 0; lane->followed && worth_it && i < source->n_channels && lane->n_followed < PS_FOLLOWED_MAX; i++) {
        const ps_channel *channel = &source->channels[i];
        if (channel->kind == PS_KIND_POWER && channel->stamp == PS_STAMP_BRACKET &&
            source->groups[channel->group].max_hz >= fastest_hz)
            lane->followed[lane->n_followed++].channel = i;
    }
    return lane->followed ? PS_OK : PS_E_NOMEM;
}

int ps_lane_new(ps_source *source, const ps_lane_options *options, uint16_t first_channel, ps_lane **out)
{
    ps_lane *lane = aligned_alloc(PS_CACHE_LINE, sizeof *lane);
    if (!lane)
        return PS_E_NOMEM;
    memset(lane, 0, sizeof *lane);
    lane->source = source;
    lane->options = *options;
    lane->mode = options->mode;
    lane->first_channel = first_channel;
    atomic_init(&lane->counters.cpu, -1);
    atomic_init(&lane->counters.cpu_ns, -1);
    lane->costs_ns = calloc(source->n_groups, sizeof *lane->costs_ns);
    int status = lane->costs_ns ? ps_ring_new(options->ring_records, 0, &lane->ring) : PS_E_NOMEM;
    if (status == PS_OK && options->mode == PS_MODE_FOLLOW)
        status = choose_followed(lane);
    if (status == PS_OK)
        *out = lane;
    else
        ps_lane_abandon(lane);
    return status;
}

void ps_lane_abandon(ps_lane *lane)
{
    if (!lane)
        return;
    ps_ring_free(lane->ring);
    free(lane->followed);
    free(lane->costs_ns);
    free(lane);
}

void ps_lane_free(ps_lane *lane)
{
    if (!lane)
        return;
    ps_source_free(lane->source);
    ps_lane_abandon(lane);
}

int ps_lane_start(ps_lane *lane, int *system_errno)
{
    for (uint32_t group = 0; group < lane->source->n_groups; group++)
        lane->source->groups[group].countdown = 1; /* pass 0 makes every call */
    /* Signals belong to the program that is measured: the thread is born with all of them blocked. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    *system_errno = pthread_create(&lane->thread, NULL, run, lane);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    lane->created = *system_errno == 0;
    return lane->created ? PS_OK : PS_E_SYSTEM;
}

void ps_lane_give_turn(ps_lane *lane)
{
    /* release; pairs with the acquire in wait_for; nothing is passed but the turn itself. */
    atomic_store_explicit(&lane->turn, true, memory_order_release);
}

bool ps_lane_timed(const ps_lane *lane)
{
    /* acquire; pairs with the release in prepare. */
    return atomic_load_explicit(&lane->timed, memory_order_acquire);
}

void ps_lane_set_planned(ps_lane *lane)
{
    /* release; pairs with the acquire in wait_for; see there. */
    atomic_store_explicit(&lane->planned, true, memory_order_release);
}

bool ps_lane_started(const ps_lane *lane)
{
    /* acquire; pairs with the release in mark_started. */
    return atomic_load_explicit(&lane->started, memory_order_acquire);
}

void ps_lane_ask_stop(ps_lane *lane, int64_t now_ns)
{
    if (!stop_asked(lane))
        atomic_store_explicit(&lane->stop_ns, now_ns, memory_order_relaxed); /* as in stop_asked */
}

bool ps_lane_ended(const ps_lane *lane)
{
    /* acquire; pairs with the release at the end of run(). */
    return atomic_load_explicit(&lane->ended, memory_order_acquire);
}

void ps_lane_join(ps_lane *lane)
{
    if (lane->created)
        pthread_join(lane->thread, NULL); /* short: the thread has nothing left to do */
    lane->created = false;
}

void ps_lane_leave_behind(ps_lane *lane)
{
    atomic_store_explicit(&lane->hung, true, memory_order_relaxed); /* a mark for readers, nothing is passed by it */
    if (lane->created)
        pthread_detach(lane->thread);
    lane->created = false;
}
