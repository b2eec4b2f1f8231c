/* SPDX-License-Identifier: Apache-2.0
 *
 * The driver's stamps on our clock. It stamps with CLOCK_REALTIME in microseconds; CLOCK_MONOTONIC runs at the same rate
 * (NTP slews both), so the two differ by a constant, until somebody sets the wall clock or the machine sleeps. Then
 * stamps of before and after stand side by side in the driver's ring and no offset fits all of them: the step is
 * reported, what lies between the last anchor and this one is given up, and it goes on with the new offset. Pure
 * arithmetic: the callers read the clocks.
 */
#ifndef PS_NVML_CLOCK_H
#define PS_NVML_CLOCK_H

#include <stdbool.h>
#include <stdint.h>

typedef struct nvml_clock {
    int64_t offset_ns; /* CLOCK_REALTIME less CLOCK_MONOTONIC at the last anchor; 0: there was none */
    int64_t newest_ns; /* the last instant given out */
} nvml_clock;

/* Takes a new offset. True if the wall clock was set, or the machine slept, since the anchor before. */
bool nvml_clock_anchor(nvml_clock *clock, int64_t realtime_ns, int64_t monotonic_ns);

/* The instant of a stamp; false if it lies in the future or not after the one before: instants given out ascend. */
bool nvml_clock_place(nvml_clock *clock, uint64_t stamp_us, int64_t now_ns, int64_t *instant_ns);

#endif
