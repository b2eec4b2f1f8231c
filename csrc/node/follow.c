/* SPDX-License-Identifier: Apache-2.0
 *
 * A program's CPU use as the load of the simulated devices: a thread on absolute deadlines that turns the CPU time
 * of the last interval into the power of the next, 2 ms ahead. Use is neither lost nor invented, but every edge
 * comes up to an interval and 2 ms late, and later by the smoothing where the clock is coarse.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <sys/prctl.h>

#include "core/clock.h"
#include "node/cpu_use.h"
#include "powersample.h"
#include "powersample_sim.h"

enum { SMOOTH = 5 }; /* intervals: a scheduler tick of 4 ms in 10 ms would read as +-20 % of power */

static const int64_t AHEAD_NS = 2000000;
static const int64_t DEFAULT_INTERVAL_NS = 10000000;
static const int64_t MIN_INTERVAL_NS = 1000000;
static const int64_t MAX_INTERVAL_NS = INT64_C(10000000000);

struct ps_follow {
    pthread_t thread;
    atomic_bool stop;
    cpu_use use;
    int64_t interval_ns;
    double capacity_cpus;
    uint32_t n_truths;
    ps_truth *truth[PS_FOLLOW_TRUTHS];
    int32_t idle_mw[PS_FOLLOW_TRUTHS];
    int32_t max_mw[PS_FOLLOW_TRUTHS];
    /* The thread's own: readings of the last intervals, the newest at `at`. */
    int64_t read_ns[SMOOTH + 1];
    int64_t cpu_ns[SMOOTH + 1];
    int64_t first_cpu_ns;
    uint64_t readings;
    /* What others may ask for while it runs. */
    _Atomic uint64_t ticks, late_ticks;
    _Atomic int64_t used_ns;
};

/* One instant for all: what is part of a package never changes before the package does. */
static void append(ps_follow *f, double share)
{
    int64_t t0 = ps_clock_monotonic_ns() + AHEAD_NS;
    for (uint32_t i = 0; i < f->n_truths; i++) {
        ps_truth_state state;
        if (ps_truth_state_get(f->truth[i], &state) == PS_OK && t0 <= state.last_t0_ns)
            t0 = state.last_t0_ns + 1;
    }
    for (uint32_t i = 0; i < f->n_truths; i++) {
        int32_t p = f->idle_mw[i] + (int32_t)lrint((f->max_mw[i] - f->idle_mw[i]) * share);
        /* A full timeline says so in its own state; the other devices go on. */
        (void)ps_truth_append(f->truth[i], t0, p, p, 0, 0, 1);
    }
}

static void take_reading(ps_follow *f)
{
    uint64_t slot = f->readings++ % (SMOOTH + 1);
    f->cpu_ns[slot] = cpu_use_ns(&f->use);
    f->read_ns[slot] = ps_clock_monotonic_ns();
    /* relaxed: a figure to look at; nothing hangs on it. */
    atomic_store_explicit(&f->used_ns, f->cpu_ns[slot] - f->first_cpu_ns, memory_order_relaxed);
}

/* Share of the capacity used over the last interval, or over SMOOTH of them where the clock is coarse. */
static double used_share(const ps_follow *f)
{
    uint64_t intervals = f->use.route == PS_FOLLOW_PERF ? 1 : SMOOTH;
    if (intervals > f->readings - 1)
        intervals = f->readings - 1;
    uint64_t new = (f->readings - 1) % (SMOOTH + 1);
    uint64_t old = (f->readings - 1 - intervals) % (SMOOTH + 1);
    double span = (double)(f->read_ns[new] - f->read_ns[old]);
    if (!(span > 0.0))
        return 0.0;
    return fmin(1.0, (double)(f->cpu_ns[new] - f->cpu_ns[old]) / (f->capacity_cpus * span));
}

static void *run(void *argument)
{
    ps_follow *f = argument;
    prctl(PR_SET_TIMERSLACK, 1UL, 0UL, 0UL, 0UL);
    int64_t deadline = f->read_ns[0];
    /* relaxed: the flag carries no data; what the stopper wants to see is ordered by pthread_join. */
    while (!atomic_load_explicit(&f->stop, memory_order_relaxed)) {
        deadline += f->interval_ns;
        ps_clock_sleep_until(deadline);
        take_reading(f);
        append(f, used_share(f));
        int64_t behind = ps_clock_monotonic_ns() - deadline;
        if (behind > f->interval_ns) {
            deadline += behind / f->interval_ns * f->interval_ns;
            /* relaxed: as used_ns. */
            atomic_fetch_add_explicit(&f->late_ticks, 1, memory_order_relaxed);
        }
        atomic_fetch_add_explicit(&f->ticks, 1, memory_order_relaxed);
    }
    /* The last interval's use lasts as long as it took to be used; then the devices are idle. */
    ps_clock_sleep_until(deadline + f->interval_ns);
    append(f, 0.0);
    return NULL;
}

int ps_follow_start(int32_t pid, ps_truth *const *truths, const int32_t *idle_mw, const int32_t *max_mw,
                    uint32_t n_truths, double capacity_cpus, int64_t interval_ns, ps_follow **out)
{
    if (interval_ns == 0)
        interval_ns = DEFAULT_INTERVAL_NS;
    if (pid < 0 || !truths || !idle_mw || !max_mw || !out || n_truths == 0 || n_truths > PS_FOLLOW_TRUTHS ||
        !(capacity_cpus > 0.0) || !isfinite(capacity_cpus) || interval_ns < MIN_INTERVAL_NS ||
        interval_ns > MAX_INTERVAL_NS)
        return PS_E_INVALID;
    for (uint32_t i = 0; i < n_truths; i++)
        if (!truths[i] || idle_mw[i] < 0 || max_mw[i] < idle_mw[i])
            return PS_E_INVALID;
    ps_follow *f = calloc(1, sizeof *f);
    if (!f)
        return PS_E_NOMEM;
    f->use.fd = -1;
    f->interval_ns = interval_ns;
    f->capacity_cpus = capacity_cpus;
    f->n_truths = n_truths;
    for (uint32_t i = 0; i < n_truths; i++) {
        f->truth[i] = truths[i];
        f->idle_mw[i] = idle_mw[i];
        f->max_mw[i] = max_mw[i];
    }
    int status = cpu_use_open(&f->use, pid);
    if (status != PS_OK)
        goto out;
    f->first_cpu_ns = cpu_use_ns(&f->use);
    take_reading(f);
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before); /* the thread inherits it: signals stay the program's */
    int error = pthread_create(&f->thread, NULL, run, f);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (error) {
        status = error == EAGAIN ? PS_E_NOMEM : PS_E_SYSTEM;
        goto out;
    }
    *out = f;
    f = NULL;
out:
    if (f)
        cpu_use_close(&f->use);
    free(f);
    return status;
}

int ps_follow_stats_get(const ps_follow *f, ps_follow_stats *out)
{
    if (!f || !out)
        return PS_E_INVALID;
    *out = (ps_follow_stats){
        .route = f->use.route,
        .perf_errno = f->use.perf_errno,
        /* relaxed: figures to look at; they order nothing. */
        .ticks = atomic_load_explicit(&f->ticks, memory_order_relaxed),
        .late_ticks = atomic_load_explicit(&f->late_ticks, memory_order_relaxed),
        .cpu_s = (double)atomic_load_explicit(&f->used_ns, memory_order_relaxed) / 1e9,
    };
    return PS_OK;
}

int ps_follow_stop(ps_follow *follow, ps_follow_stats *stats)
{
    if (!follow)
        return PS_E_INVALID;
    /* relaxed: see run(). */
    atomic_store_explicit(&follow->stop, true, memory_order_relaxed);
    pthread_join(follow->thread, NULL);
    if (stats)
        ps_follow_stats_get(follow, stats);
    cpu_use_close(&follow->use);
    free(follow);
    return PS_OK;
}
