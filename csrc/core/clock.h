/* SPDX-License-Identifier: Apache-2.0
 *
 * The clock of all records, inline for the lane; ps_clock_now_ns is the same as a function.
 */
#ifndef PS_CLOCK_H
#define PS_CLOCK_H

#include <stdint.h>
#include <time.h>

static inline int64_t ps_clock_read(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now); /* cannot fail for a clock that exists, and Linux has these since 2.6.39 */
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

#endif
