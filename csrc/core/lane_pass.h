/* SPDX-License-Identifier: Apache-2.0
 *
 * A pass, inline: the calls that are due, their stamps, their records, their counts. Each mode's loop includes it into itself,
 * so that what one mode never needs costs the others nothing.
 */
#ifndef PS_LANE_PASS_H
#define PS_LANE_PASS_H

#include "core/clock.h"
#include "core/lane.h"
#include "core/pace.h"

enum {
    VIRTUAL_CALL_NS = 1000,       /* a simulated call takes this long, whatever it really took */
    VIRTUAL_WAIT_NS = 100 * 1000 /* look again at a full ring */
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

static inline uint64_t passes_begun(const ps_lane *lane)
{
    return atomic_load_explicit(&lane->counters.passes, memory_order_relaxed); /* own */
}

static inline bool stop_asked(const ps_lane *lane)
{
    /* relaxed: the instant itself is all that is passed. */
    return atomic_load_explicit(&lane->stop_ns, memory_order_relaxed) != 0;
}

static inline uint64_t pass_limit(const ps_lane *lane)
{
    return lane->options.max_passes ? lane->options.max_passes : UINT64_MAX;
}

static inline void mark_started(ps_lane *lane, int64_t start_ns)
{
    atomic_store_explicit(&lane->counters.start_ns, start_ns, memory_order_relaxed);
    /* release; pairs with the acquire in ps_lane_started; publishes start, lead and pinning; without it
     * whoever waited for the start could still read them as unset. */
    atomic_store_explicit(&lane->started, true, memory_order_release);
}

/* Kept out of the way of readings without trouble: see lane_modes.c. */
__attribute__((cold)) void ps_lane_count_error(ps_lane *lane, uint32_t code);
__attribute__((cold)) void ps_lane_push_stamped(ps_lane *lane, uint32_t n, bool simulated);
__attribute__((cold)) void ps_lane_keep_house(ps_lane *lane);

/* The modes' loops, to the end of the lane. */
void ps_lane_run_paced(ps_lane *lane);
void ps_lane_run_tight(ps_lane *lane);
void ps_lane_run_virtual(ps_lane *lane);
void ps_lane_run_follow(ps_lane *lane);
/* Goes on with a grid where another mode gives up. */
void ps_lane_go_paced(ps_lane *lane, int64_t start_ns, int64_t period_ns, int64_t lead_ns);

/* Where and in which class the calling thread runs: wishes, whose refusal is recorded. */
void ps_lane_pin(ps_lane *lane);
/* duty: the share of a CPU that the lane is going to take. */
void ps_lane_raise(ps_lane *lane, double duty);
/* Looks after both, once a second, by the CPU time used. */
void ps_lane_check_place(ps_lane *lane, int64_t now_ns, int64_t cpu_ns);
void ps_lane_stamp_cpu_time(ps_lane *lane);

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
            ps_lane_count_error(lane, reading->status);
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

/* Makes the call of group i, starting at lane->now_ns, which moves on to its end. Returns what the source did. */
static ALWAYS_INLINE uint32_t read_group(ps_lane *lane, uint32_t i, bool simulated)
{
    ps_source *const source = lane->source;
    const uint32_t n = source->ops->read(source, i, passes_begun(lane) - 1, lane->readings);
    const int64_t t1_ns = simulated ? lane->now_ns + VIRTUAL_CALL_NS : ps_clock_monotonic_ns();
    const int64_t t0_ns = lane->now_ns;
    lane->now_ns = t1_ns;
    count_duration(lane->counters.call_hist, t1_ns - t0_ns);
    if (__builtin_expect(n & PS_READ_STAMPED, 0))
        ps_lane_push_stamped(lane, n & ~PS_READ_STAMPED, simulated);
    else
        push_readings(lane, n, t0_ns, t1_ns, NULL, simulated);
    return n;
}

static inline void begin_pass(ps_lane *lane)
{
    add(&lane->counters.passes, 1); /* before the calls: a pass that hangs in one was begun */
}

static inline void end_pass(ps_lane *lane)
{
    const int64_t end_ns = lane->now_ns;
    atomic_store_explicit(&lane->counters.last_ns, end_ns, memory_order_relaxed);
    if (__builtin_expect(end_ns >= lane->house_due_ns, 0))
        ps_lane_keep_house(lane);
}

#endif
