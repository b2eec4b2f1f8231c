/* SPDX-License-Identifier: Apache-2.0
 *
 * The lane's thread: waits for its slot, makes the device calls that are due, stamps and pushes what they
 * gave, and counts everything that it missed. Here nothing is allocated, locked, logged or written to a file.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <time.h>

#include "core/clock.h"
#include "core/lane.h"
#include "core/pace.h"

enum {
    VIRTUAL_CALL_NS = 1000,           /* a simulated call takes this long, whatever it really took */
    VIRTUAL_WAIT_NS = 100 * 1000,     /* look again at a full ring */
    CPU_STAMP_NS = 1000 * 1000 * 1000, /* spacing of the thread's CPU time, a system call */
    TIMED_CALLS = 9,                  /* of each group at start, beside the first */
    TIMING_NS = 20 * 1000 * 1000,     /* at most so long a group, one call at least */
    PLAN_POLL_NS = 200 * 1000
};

#define ALWAYS_INLINE inline __attribute__((always_inline))
/* The modes' loops apart: in one function they would share registers, and spill. */
#define OWN_FRAME __attribute__((noinline))

/* Adds to a counter that only this thread writes: no read-modify-write is needed, so no bus lock either. */
static inline void add(_Atomic uint64_t *counter, uint64_t n)
{
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

static inline void count_duration(_Atomic uint64_t *histogram, int64_t duration_ns)
{
    /* | 1: bin 0 also counts 0, and 0 has no leading one. The clock never goes back. */
    unsigned bin = 63u - (unsigned)__builtin_clzll((unsigned long long)duration_ns | 1);
    add(&histogram[bin], 1);
}

/* Kept out of the way of readings without trouble. */
__attribute__((noinline, cold)) static void count_error(ps_lane *lane, uint32_t code)
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

static inline uint64_t passes_begun(const ps_lane *lane)
{
    return atomic_load_explicit(&lane->counters.passes, memory_order_relaxed); /* own */
}

static inline bool stop_asked(const ps_lane *lane)
{
    /* relaxed: the instant itself is all that is passed. */
    return atomic_load_explicit(&lane->stop_ns, memory_order_relaxed) != 0;
}

/* Virtual mode: time stands still while the reader catches up, so waiting costs no sample. */
static inline void wait_for_room(ps_lane *lane)
{
    while (ps_ring_full(lane->ring, ps_ring_written(lane->ring)) && !stop_asked(lane))
        ps_pace_sleep(VIRTUAL_WAIT_NS);
}

/* Puts the n readings of one call into the ring, at their own instants if they have any. */
static ALWAYS_INLINE void push_readings(ps_lane *lane, uint32_t n, int64_t t0_ns, int64_t t1_ns,
                                        const int64_t *stamps_ns, bool simulated)
{
    ps_ring *const ring = lane->ring;
    uint64_t records = atomic_load_explicit(&lane->counters.records, memory_order_relaxed); /* own */
    uint64_t written = atomic_load_explicit(&ring->written, memory_order_relaxed); /* own */
    const ps_reading *const end = lane->readings + n;
    for (const ps_reading *reading = lane->readings; reading != end; reading++, records++) {
        if (simulated)
            wait_for_room(lane);
        if (__builtin_expect(reading->status != 0, 0))
            count_error(lane, reading->status);
        if (__builtin_expect(ps_ring_full(ring, written), 0)) {
            ps_ring_count_drop(ring);
            continue;
        }
        if (stamps_ns)
            t0_ns = t1_ns = stamps_ns[reading - lane->readings];
        ps_sample *slot = ps_ring_slot(ring, written);
        slot->t0_ns = t0_ns;
        slot->raw = reading->raw;
        slot->t1_ns = t1_ns;
        slot->seq = (uint32_t)records;
        slot->channel = (uint16_t)(lane->first_channel + reading->channel);
        slot->status = reading->status;
        ps_ring_publish(ring, written++);
    }
    atomic_store_explicit(&lane->counters.records, records, memory_order_relaxed);
}

/* Rare: kept out of the way of calls about the present. */
__attribute__((noinline, cold)) static void push_stamped(ps_lane *lane, uint32_t n, bool simulated)
{
    push_readings(lane, n, 0, 0, lane->source->stamps_ns, simulated);
}

/* Makes the calls that are due, the first starting at lane->now_ns, which moves on to the end of the last. Inlined
 * into each mode's loop, where `simulated` is a constant. */
static ALWAYS_INLINE void make_pass(ps_lane *lane, bool simulated)
{
    ps_group *group = lane->source->groups;
    uint32_t i = 0;
    do {
        if (--group->countdown)
            continue;
        group->countdown = group->divisor;
        ps_source *const source = lane->source;
        const uint32_t n = source->ops->read(source, i, passes_begun(lane) - 1, lane->readings);
        const int64_t t1_ns = simulated ? lane->now_ns + VIRTUAL_CALL_NS : ps_clock_monotonic_ns();
        const int64_t t0_ns = lane->now_ns;
        lane->now_ns = t1_ns;
        count_duration(lane->counters.call_hist, t1_ns - t0_ns);
        if (__builtin_expect(n & PS_READ_STAMPED, 0))
            push_stamped(lane, n & ~PS_READ_STAMPED, simulated);
        else
            push_readings(lane, n, t0_ns, t1_ns, NULL, simulated);
    } while (group++, ++i < lane->source->n_groups);
}

static void stamp_cpu_time(ps_lane *lane)
{
    struct timespec used;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) == 0)
        atomic_store_explicit(&lane->counters.cpu_ns, (int64_t)used.tv_sec * 1000000000 + used.tv_nsec,
                              memory_order_relaxed);
}

/* What need not be done in every pass. Kept out of the way, as count_error. */
__attribute__((noinline, cold)) static void keep_house(ps_lane *lane)
{
    const int64_t now_ns = lane->now_ns;
    if (lane->failed) {
        lane->failed = false;
        if (lane->source->ops->recover && lane->source->ops->recover(lane->source, now_ns) == 1)
            add(&lane->counters.reopens, 1);
    }
    if (now_ns >= lane->cpu_due_ns) {
        stamp_cpu_time(lane);
        lane->cpu_due_ns = now_ns + CPU_STAMP_NS;
    }
    lane->house_due_ns = lane->cpu_due_ns;
}

/* A pass that starts at lane->now_ns, which becomes its end, and its figures. */
static ALWAYS_INLINE void serve(ps_lane *lane, bool simulated)
{
    add(&lane->counters.passes, 1); /* before the calls: a pass that hangs in one was begun */
    make_pass(lane, simulated);
    const int64_t end_ns = lane->now_ns;
    atomic_store_explicit(&lane->counters.last_ns, end_ns, memory_order_relaxed);
    if (__builtin_expect(end_ns >= lane->house_due_ns, 0))
        keep_house(lane);
}

static inline uint64_t pass_limit(const ps_lane *lane)
{
    return lane->options.max_passes ? lane->options.max_passes : UINT64_MAX;
}

static void mark_started(ps_lane *lane, int64_t start_ns)
{
    atomic_store_explicit(&lane->counters.start_ns, start_ns, memory_order_relaxed);
    /* release; pairs with the acquire in ps_lane_started; publishes start, lead and pinning; without it
     * whoever waited for the start could still read them as unset. */
    atomic_store_explicit(&lane->started, true, memory_order_release);
}

/* The mean: the budget is about time, of which a rare slow call takes most. The first call does not count if
 * there are others: it often pays for waking the device. */
static double time_call(const ps_lane *lane, uint32_t group)
{
    ps_reading readings[PS_GROUP_MAX];
    const int64_t begin_ns = ps_clock_monotonic_ns();
    int64_t first_ns = begin_ns, now_ns = begin_ns;
    for (uint32_t n = 0; n <= TIMED_CALLS && !stop_asked(lane); n++) {
        (void)lane->source->ops->read(lane->source, group, 0, readings);
        now_ns = ps_clock_monotonic_ns();
        if (n == 0)
            first_ns = now_ns;
        else if (now_ns - begin_ns >= TIMING_NS || n == TIMED_CALLS)
            return (double)(now_ns - first_ns) / n;
        if (now_ns - begin_ns >= TIMING_NS)
            break;
    }
    return (double)(now_ns - begin_ns);
}

/* Times the calls here and not in the controller's thread: a device that hangs then hangs its own lane only.
 * Returns whether there is a plan to follow. */
static bool prepare(ps_lane *lane)
{
    if (lane->options.mode != PS_MODE_VIRTUAL) /* there calls cost nothing */
        for (uint32_t group = 0; group < lane->source->n_groups; group++)
            lane->costs_ns[group] = time_call(lane, group);
    /* release; pairs with the acquire in ps_lane_timed; publishes costs_ns; without it the plan could be made
     * of costs half written. */
    atomic_store_explicit(&lane->timed, true, memory_order_release);
    /* acquire; pairs with the release in ps_lane_set_planned; publishes grid, period and divisors; without it
     * the lane could run on those of before. */
    while (!atomic_load_explicit(&lane->planned, memory_order_acquire)) {
        if (stop_asked(lane))
            return false;
        ps_pace_sleep(PLAN_POLL_NS);
    }
    return !stop_asked(lane);
}

OWN_FRAME static void run_paced(ps_lane *lane)
{
    const uint64_t limit = pass_limit(lane);
    ps_lane_counters *counters = &lane->counters;
    const int64_t period_ns = lane->period_ns;
    const int64_t lead_ns = ps_pace_prepare(period_ns);
    const int64_t earliest_ns = ps_clock_now_ns() + lead_ns + PS_PACE_SLEEP_MIN_NS;
    const int64_t start_ns = lane->grid_ns > earliest_ns ? lane->grid_ns : earliest_ns;
    atomic_store_explicit(&counters->lead_ns, lead_ns, memory_order_relaxed);
    mark_started(lane, start_ns);

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

OWN_FRAME static void run_tight(ps_lane *lane)
{
    const uint64_t limit = pass_limit(lane);
    lane->now_ns = ps_clock_now_ns();
    mark_started(lane, lane->now_ns);
    while (passes_begun(lane) < limit && !stop_asked(lane))
        serve(lane, false); /* back to back: the end of a pass is the start of the next */
}

OWN_FRAME static void run_virtual(ps_lane *lane)
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

/* Pinning is a wish: a refusal is recorded, and the lane runs where it may. */
static void pin(ps_lane *lane)
{
    int cpu = lane->options.cpu;
    if (cpu < 0)
        return;
    int refusal = EINVAL;
    if (cpu < CPU_SETSIZE) {
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET((size_t)cpu, &set);
        refusal = sched_setaffinity(0, sizeof set, &set) == 0 ? 0 : errno;
    }
    if (refusal == 0)
        atomic_store_explicit(&lane->counters.cpu, cpu, memory_order_relaxed);
    atomic_store_explicit(&lane->counters.cpu_errno, refusal, memory_order_relaxed);
}

static void *run(void *argument)
{
    ps_lane *lane = argument;
    prctl(PR_SET_NAME, "ps-lane");
    pin(lane);
    if (!prepare(lane))
        ; /* stopped before it began */
    else if (lane->options.mode == PS_MODE_PACED)
        run_paced(lane);
    else if (lane->options.mode == PS_MODE_TIGHT)
        run_tight(lane);
    else
        run_virtual(lane);
    stamp_cpu_time(lane);
    /* release; pairs with the acquire in ps_lane_ended; publishes all the thread did; without it the
     * controller could free a lane under its last writes, or read counters that do not add up yet. */
    atomic_store_explicit(&lane->ended, true, memory_order_release);
    return NULL;
}

int ps_lane_new(ps_source *source, const ps_lane_options *options, uint16_t first_channel, ps_lane **out)
{
    ps_lane *lane = aligned_alloc(PS_CACHE_LINE, sizeof *lane);
    if (!lane)
        return PS_E_NOMEM;
    memset(lane, 0, sizeof *lane);
    lane->costs_ns = calloc(source->n_groups, sizeof *lane->costs_ns);
    int status = lane->costs_ns ? ps_ring_new(options->ring_records, 0, &lane->ring) : PS_E_NOMEM;
    if (status != PS_OK) {
        free(lane->costs_ns);
        free(lane);
        return status;
    }
    lane->source = source;
    lane->options = *options;
    lane->first_channel = first_channel;
    atomic_init(&lane->counters.cpu, -1);
    atomic_init(&lane->counters.cpu_ns, -1);
    *out = lane;
    return PS_OK;
}

void ps_lane_abandon(ps_lane *lane)
{
    if (!lane)
        return;
    ps_ring_free(lane->ring);
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

bool ps_lane_timed(const ps_lane *lane)
{
    /* acquire; pairs with the release in prepare. */
    return atomic_load_explicit(&lane->timed, memory_order_acquire);
}

void ps_lane_set_planned(ps_lane *lane)
{
    /* release; pairs with the acquire in prepare; see there. */
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
