/* SPDX-License-Identifier: Apache-2.0
 *
 * Each thread sleeps until shortly before a burst is to begin, spins through the last 0.3 ms, works in rounds of some
 * microseconds until it is to end, and logs when both really happened. On a busy machine that is milliseconds after the
 * plan, so the log, not the plan, is what a meter is aligned by.
 */
#include "core/clock.h"
#include "core/pace.h"
#include "load/step.h"

enum {
    SPIN_NS = 300 * 1000,   /* what waking up takes on an idle CPU of a virtual machine, with room */
    SPIN_PART = 20,         /* of a slice, which is to be work and not waiting */
    STALL_NS = 1000 * 1000  /* a round that takes so long did not run all the time */
};

/* relaxed: nothing is passed but the word itself; a thread that sees it late works one round more. */
static bool stop_asked(const load_plan *plan)
{
    return atomic_load_explicit(&plan->stop_ns, memory_order_relaxed) != 0;
}

static int64_t own_cpu_ns(void)
{
    return ps_clock_read(CLOCK_THREAD_CPUTIME_ID);
}

uint64_t load_bursts(const load_plan *plan)
{
    uint64_t count = 0;
    for (uint32_t i = 0; i < plan->steps; i++) {
        const int64_t length_ns = plan->edge_ns[2 * i + 1] - plan->edge_ns[2 * i];
        if (plan->levels[i] >= 1)
            count++;
        else if (plan->levels[i] > 0)
            count += (uint64_t)(length_ns / plan->period_ns) + 2; /* a thread's slices begin anywhere in a period */
    }
    return count;
}

/* Works from now to end_ns, or until the thread's CPU time is enough_ns, and logs it. */
static void work(load_thread *thread, const load_plan *plan, ps_load_burst plain, int64_t end_ns, int64_t enough_ns)
{
    ps_load_burst *burst = &thread->burst[thread->bursts++];
    const int64_t cpu_ns = own_cpu_ns();
    int64_t now_ns = ps_clock_monotonic_ns();
    *burst = plain;
    burst->rise_ns = now_ns;
    /* The clock of CPU time is a system call: looked at only when it can be enough. */
    int64_t look_ns = enough_ns - cpu_ns < end_ns - now_ns ? now_ns + (enough_ns - cpu_ns) : end_ns;
    do {
        const int64_t before_ns = now_ns;
        burst->wrong += !ps_work_round(&thread->work);
        burst->rounds++;
        now_ns = ps_clock_monotonic_ns();
        if (now_ns - before_ns > STALL_NS)
            burst->stalled_ns += now_ns - before_ns;
        if (now_ns >= look_ns && now_ns < end_ns) {
            const int64_t left_ns = enough_ns - own_cpu_ns();
            if (left_ns <= 0)
                break;
            look_ns = left_ns < end_ns - now_ns ? now_ns + left_ns : end_ns;
        }
    } while (now_ns < end_ns && !stop_asked(plan));
    burst->fall_ns = now_ns;
    burst->cpu_ns = own_cpu_ns() - cpu_ns;
    thread->step[plain.step].bursts++;
    thread->step[plain.step].wrong += burst->wrong;
}

/* From begin to end without a pause. */
static void run_whole(load_thread *thread, const load_plan *plan, uint32_t step, int64_t begin_ns, int64_t end_ns)
{
    const int64_t now_ns = ps_pace_wait(begin_ns, SPIN_NS, &plan->stop_ns);
    if (now_ns < begin_ns)
        return; /* stopped */
    if (now_ns < end_ns)
        work(thread, plan, (ps_load_burst){.planned_ns = begin_ns, .thread = thread->index, .step = step}, end_ns,
             INT64_MAX);
    else
        thread->step[step].missed++;
}

/* A slice of every period, whose ends differ from thread to thread. Each is worth what all CPU time of the step so far,
 * waiting for slices included, lacks of the level. */
static void run_slices(load_thread *thread, const load_plan *plan, uint32_t step, int64_t begin_ns, int64_t end_ns,
                       int64_t base_ns)
{
    const double level = plan->levels[step];
    const int64_t phase_ns = plan->period_ns * thread->index / plan->threads;
    int64_t from_ns = begin_ns, next_ns = begin_ns + (phase_ns ? phase_ns : plan->period_ns);
    for (; from_ns < end_ns && !stop_asked(plan); from_ns = next_ns, next_ns += plan->period_ns) {
        const int64_t to_ns = next_ns < end_ns ? next_ns : end_ns;
        const int64_t enough_ns = base_ns + (int64_t)(level * (double)(to_ns - begin_ns));
        const int64_t lack_ns = enough_ns - own_cpu_ns();
        if (lack_ns <= 0)
            continue;
        const int64_t lead_ns = lack_ns / SPIN_PART < SPIN_NS ? lack_ns / SPIN_PART : SPIN_NS;
        const int64_t now_ns = ps_pace_wait(from_ns, lead_ns, &plan->stop_ns);
        if (now_ns < from_ns)
            return; /* stopped */
        if (now_ns < to_ns)
            work(thread, plan, (ps_load_burst){.planned_ns = from_ns, .thread = thread->index, .step = step}, to_ns,
                 enough_ns);
        else
            thread->step[step].missed++;
    }
}

void load_run_steps(load_thread *thread, const load_plan *plan)
{
    int64_t before_ns = own_cpu_ns();
    for (uint32_t i = 0; i < plan->steps && !stop_asked(plan); i++) {
        const int64_t begin_ns = plan->start_ns + plan->edge_ns[2 * i], end_ns = plan->start_ns + plan->edge_ns[2 * i + 1];
        if (plan->levels[i] >= 1)
            run_whole(thread, plan, i, begin_ns, end_ns);
        else if (plan->levels[i] > 0)
            run_slices(thread, plan, i, begin_ns, end_ns, before_ns);
        if (plan->levels[i] < 1)
            (void)ps_pace_wait(end_ns, 0, &plan->stop_ns); /* the rest of it belongs to it */
        const int64_t now_ns = own_cpu_ns();
        thread->step[i].cpu_ns = now_ns - before_ns;
        before_ns = now_ns;
    }
}
