/* SPDX-License-Identifier: Apache-2.0
 *
 * See nvml_clock.h.
 */
#include "sources/nvml_clock.h"

/* Two anchors of one offset differ by what interrupts a reading of two clocks; who sets a clock by less leaves the
 * stamps as good as they were. */
static const int64_t STEP_NS = 1000000;
/* A stamp is rounded to a microsecond, and the anchor was taken just before the call. */
static const int64_t FUTURE_NS = 1000000;

bool nvml_clock_anchor(nvml_clock *clock, int64_t realtime_ns, int64_t monotonic_ns)
{
    const int64_t before_ns = clock->offset_ns;
    clock->offset_ns = realtime_ns - monotonic_ns;
    const int64_t moved_ns = clock->offset_ns - before_ns;
    return before_ns && (moved_ns > STEP_NS || moved_ns < -STEP_NS);
}

bool nvml_clock_place(nvml_clock *clock, uint64_t stamp_us, int64_t now_ns, int64_t *instant_ns)
{
    if (stamp_us > INT64_MAX / 1000)
        return false;
    const int64_t at_ns = (int64_t)stamp_us * 1000 - clock->offset_ns;
    if (at_ns <= clock->newest_ns || at_ns > now_ns + FUTURE_NS)
        return false;
    *instant_ns = clock->newest_ns = at_ns < now_ns ? at_ns : now_ns;
    return true;
}
