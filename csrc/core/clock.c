/* SPDX-License-Identifier: Apache-2.0
 *
 * The one clock of all records, and the anchors that tie it to the others.
 */
#include "core/clock.h"
#include "powersample.h"

enum { ANCHOR_TRIES = 5 };

int64_t ps_clock_now_ns(void)
{
    return ps_clock_monotonic_ns();
}

int ps_clock_anchor(ps_anchor *out)
{
    if (!out)
        return PS_E_INVALID;
    /* A preemption between the readings widens a try; the narrowest of a few was not hit. */
    ps_anchor best = {.width_ns = INT64_MAX};
    for (int i = 0; i < ANCHOR_TRIES; i++) {
        ps_anchor try;
        int64_t before = ps_clock_read(CLOCK_MONOTONIC);
        try.monotonic_raw_ns = ps_clock_read(CLOCK_MONOTONIC_RAW);
        try.realtime_ns = ps_clock_read(CLOCK_REALTIME);
        try.boottime_ns = ps_clock_read(CLOCK_BOOTTIME);
        try.width_ns = ps_clock_read(CLOCK_MONOTONIC) - before;
        try.monotonic_ns = before + try.width_ns / 2;
        if (try.width_ns < best.width_ns)
            best = try;
    }
    *out = best;
    return PS_OK;
}
