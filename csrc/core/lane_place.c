/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a lane's thread runs and how urgently: one CPU, the real-time class. Both are wishes. A refusal is recorded and the lane
 * runs as it may; so is losing either later.
 */
#include <errno.h>
#include <sched.h>
#include <time.h>

#include "core/lane_pass.h"

/* Real-time throttling (sched_rt_runtime_us) takes 50 ms at once from who uses 95 % of a CPU: such a lane is better off in
 * the ordinary class. */
#define FIFO_DUTY_MAX 0.9

enum { SETS = 8 }; /* of CPU_SETSIZE: the kernel is built for 8192 CPUs at most */

void ps_lane_pin(ps_lane *lane)
{
    int cpu = lane->options.cpu;
    if (cpu < 0)
        return;
    int refusal = EINVAL;
    if (cpu < SETS * CPU_SETSIZE) {
        cpu_set_t sets[SETS];
        CPU_ZERO_S(sizeof sets, sets);
        CPU_SET_S((size_t)cpu, sizeof sets, sets);
        refusal = sched_setaffinity(0, sizeof sets, sets) == 0 ? 0 : errno;
    }
    if (refusal == 0)
        atomic_store_explicit(&lane->counters.cpu, cpu, memory_order_relaxed);
    atomic_store_explicit(&lane->counters.cpu_errno, refusal, memory_order_relaxed);
}

static void record_class(ps_lane *lane, int32_t priority, int32_t refusal, int32_t refusal_errno)
{
    atomic_store_explicit(&lane->counters.fifo_priority, priority, memory_order_relaxed);
    atomic_store_explicit(&lane->counters.fifo_refusal, refusal, memory_order_relaxed);
    atomic_store_explicit(&lane->counters.fifo_errno, refusal_errno, memory_order_relaxed);
}

/* The flag again: to take it away is for who may do anything. */
static int leave_class(void)
{
    const struct sched_param ordinary = {0};
    return sched_setscheduler(0, SCHED_OTHER | SCHED_RESET_ON_FORK, &ordinary);
}

void ps_lane_raise(ps_lane *lane, double duty)
{
    const int32_t priority = lane->options.fifo_priority;
    if (priority <= 0)
        return;
    if (duty > FIFO_DUTY_MAX) {
        record_class(lane, 0, PS_FIFO_DUTY_PLANNED, 0);
        (void)leave_class(); /* the thread may have been born into it */
        return;
    }
    /* Not inherited: a driver that starts a thread inside one of our calls has not asked for this. */
    const struct sched_param wish = {.sched_priority = priority};
    if (sched_setscheduler(0, SCHED_FIFO | SCHED_RESET_ON_FORK, &wish) == 0)
        record_class(lane, priority, PS_FIFO_GRANTED, 0);
    else
        record_class(lane, 0, PS_FIFO_REFUSED, errno);
}

/* Calls may cost more than at start, or a device may hang in a busy loop. */
static void check_duty(ps_lane *lane, int64_t now_ns, int64_t cpu_ns)
{
    const int64_t wall_ns = now_ns - lane->duty_from_ns, used_ns = cpu_ns - lane->duty_cpu_ns;
    const bool first = lane->duty_from_ns == 0;
    lane->duty_from_ns = now_ns;
    lane->duty_cpu_ns = cpu_ns;
    if (first || (double)used_ns <= FIFO_DUTY_MAX * (double)wall_ns)
        return;
    if (leave_class() == 0)
        record_class(lane, 0, PS_FIFO_DUTY_MEASURED, 0);
}

void ps_lane_check_place(ps_lane *lane, int64_t now_ns, int64_t cpu_ns)
{
    /* relaxed: own */
    if (atomic_load_explicit(&lane->counters.fifo_priority, memory_order_relaxed) > 0)
        check_duty(lane, now_ns, cpu_ns);
    const int32_t cpu = atomic_load_explicit(&lane->counters.cpu, memory_order_relaxed); /* own */
    if (cpu >= 0 && sched_getcpu() != cpu) { /* taken offline, or somebody else has moved us */
        atomic_store_explicit(&lane->counters.cpu, -1, memory_order_relaxed);
        atomic_store_explicit(&lane->counters.cpu_errno, ENODEV, memory_order_relaxed);
    }
}

void ps_lane_stamp_cpu_time(ps_lane *lane)
{
    struct timespec used;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) == 0)
        atomic_store_explicit(&lane->counters.cpu_ns, (int64_t)used.tv_sec * 1000000000 + used.tv_nsec,
                              memory_order_relaxed);
}
