/* SPDX-License-Identifier: Apache-2.0
 *
 * Do a few changes of a value show a period?
 */
#ifndef PS_PERIOD_H
#define PS_PERIOD_H

#include <stdbool.h>
#include <stdint.h>

enum { PS_PERIOD_CHANGES = 6 };

#define PS_PERIOD_MIN_NS 8e6 /* quicker sensors are polled on a grid at no more cost */
#define PS_PERIOD_MAX_NS 2e9 /* what is slower is a signal that seldom moves */

/* Changes, each by the middle and the width of the two polls around it, ascending. */
typedef struct ps_changes {
    uint32_t n;
    int64_t middle_ns[PS_PERIOD_CHANGES], width_ns[PS_PERIOD_CHANGES];
} ps_changes;

/* Mean spacing of a full set; below PS_PERIOD_MIN_NS there is nothing to find. */
double ps_changes_spacing_ns(const ps_changes *changes);

/* Of a full set. *period_ns: what is known of it, or 0; found: the period. k: their numbers, from 0. Changes may be missing,
 * never be added: so the smallest spacing tells, or where the signal hides every second update, a part of it. */
bool ps_period_find(const ps_changes *changes, double *period_ns, int64_t k[PS_PERIOD_CHANGES]);

/* The line of least squares through n points; the slope stays where all x are the same. */
void ps_fit_line(const double *x, const double *y, uint32_t n, double *slope, double *intercept);

#endif
