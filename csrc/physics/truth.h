/* SPDX-License-Identifier: Apache-2.0
 *
 * The truth as the sensors see it: published segments and exact 128-bit integrals. Private to csrc/physics.
 */
#ifndef PS_TRUTH_H
#define PS_TRUTH_H

#include "powersample_sim.h"

__extension__ typedef __int128 ps_i128;

/* One cache line, never changed once published. Energies in pJ = mW x ns. */
typedef struct ps_segment {
    int64_t t0_ns;
    uint64_t e_lo; /* energy from the first segment's start to t0_ns, 128 bits in two words */
    int64_t e_hi;
    int32_t p1_mw, p2_mw;
    int64_t period_ns; /* 0: constant p1_mw; else p1_mw for on_ns, p2_mw for the rest, for ever */
    int64_t on_ns;
    int64_t spare[2];
} ps_segment;

/* What had been published when it was taken. Its instants before the first segment carry that segment's first
 * power. */
typedef struct ps_view {
    const ps_segment *segment;
    uint64_t n; /* at least 1 */
} ps_view;

ps_view ps_truth_view(const ps_truth *truth);

/* Index of the segment that holds t_ns; 0 for instants before the first. */
uint64_t ps_view_find(const ps_view *view, int64_t t_ns);

/* Energy from the first segment's start to t_ns; negative before it. */
ps_i128 ps_view_energy(const ps_view *view, int64_t t_ns);

/* Power at t_ns; at an edge the new power. */
int32_t ps_view_power(const ps_view *view, int64_t t_ns);

/* The power at t_ns, not before the first segment, and the instant until which it holds: INT64_MAX for ever. *i is the index
 * of a segment that does not begin after t_ns; it moves to the one that holds t_ns. */
int64_t ps_view_stretch(const ps_view *view, uint64_t *i, int64_t t_ns, int32_t *p_mw);

#endif
