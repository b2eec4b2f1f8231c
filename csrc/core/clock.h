/* SPDX-License-Identifier: Apache-2.0
 *
 * The clock of all records and of all waiting, inline: for the lane, and for the NVML stand-in, which has no core.
 * ps_clock_now_ns is the same as a function.
 */
#ifndef PS_CLOCK_H
#define PS_CLOCK_H

#include <errno.h>
#include <stdint.h>
#include <time.h>

static inline int64_t ps_clock_read(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now); /* cannot fail for a clock that exists, and Linux has these since 2.6.39 */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static inline int64_t ps_clock_monotonic_ns(void)
{
    return ps_clock_read(CLOCK_MONOTONIC);
}

/* By CLOCK_MONOTONIC; not cut short by a signal. */
static inline void ps_clock_sleep_until(int64_t deadline_ns)
{
    const struct timespec deadline = {deadline_ns / 1000000000, deadline_ns % 1000000000};
    while (clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &deadline, NULL) == EINTR)
        ;
}

#endif
