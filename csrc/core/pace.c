/* SPDX-License-Identifier: Apache-2.0
 *
 * See pace.h.
 */
#include <stdlib.h>

#include "core/clock.h"
#include "core/pace.h"

enum {
    CALIBRATION_SLEEPS = 16,
    LEAD_PART = 400,               /* at most 1/400 of a period: spinning costs a core's time */
    LEAD_MAX_NS = 100 * 1000,      /* a machine that wakes later than this is busy, and spinning does not help it */
    WAKE_COST_NS = 20 * 1000,      /* of a CPU's time, for a sleep and its end; 23 to 43 us in a virtual machine */
    SLICE_NS = 50 * 1000 * 1000    /* longest sleep: how late a slow lane may notice a stop */
};

static inline void spin_hint(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

static int ascending(const void *left, const void *right)
{
    int64_t a = *(const int64_t *)left, b = *(const int64_t *)right;
    return (a > b) - (a < b);
}

int64_t ps_pace_lead(int64_t period_ns)
{
    int64_t errors[CALIBRATION_SLEEPS];
    for (int i = 0; i < CALIBRATION_SLEEPS; i++) {
        int64_t deadline_ns = ps_clock_monotonic_ns() + PS_PACE_SLEEP_MIN_NS;
        ps_clock_sleep_until(deadline_ns);
        errors[i] = ps_clock_monotonic_ns() - deadline_ns;
    }
    qsort(errors, CALIBRATION_SLEEPS, sizeof errors[0], ascending);
    int64_t lead_ns = errors[CALIBRATION_SLEEPS / 2];
    if (lead_ns > LEAD_MAX_NS)
        lead_ns = LEAD_MAX_NS;
    return lead_ns < period_ns / LEAD_PART ? lead_ns : period_ns / LEAD_PART;
}

int64_t ps_pace_wait(int64_t deadline_ns, int64_t lead_ns, const _Atomic int64_t *stop_ns)
{
    const int64_t wake_ns = deadline_ns - lead_ns;
    int64_t now_ns = ps_clock_monotonic_ns();
    while (now_ns < wake_ns) {
        ps_clock_sleep_until(wake_ns - now_ns < SLICE_NS ? wake_ns : now_ns + SLICE_NS);
        now_ns = ps_clock_monotonic_ns();
        /* relaxed: nothing is passed but the word itself. */
        if (atomic_load_explicit(stop_ns, memory_order_relaxed) != 0)
            return now_ns;
    }
    while (now_ns < deadline_ns) {
        spin_hint();
        now_ns = ps_clock_monotonic_ns();
    }
    return now_ns;
}

double ps_pace_duty(double call_cost_ns, int64_t period_ns)
{
    return (call_cost_ns + WAKE_COST_NS) / (double)period_ns + 1.0 / LEAD_PART;
}

void ps_pace_sleep(int64_t duration_ns)
{
    ps_clock_sleep_until(ps_clock_monotonic_ns() + duration_ns);
}
