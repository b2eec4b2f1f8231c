/* SPDX-License-Identifier: Apache-2.0
 *
 * See period.h.
 */
#include <math.h>

#include "core/period.h"

enum { CHANGES = PS_PERIOD_CHANGES, HARMONICS = 4 /* changes may come each second, third, fourth update only */ };

#define SINGLE 1.3    /* spacings up to this times the smallest are one period */
#define TOLERANCE 0.1 /* of a period: how far a change may be off the line, beside its own width */

void ps_fit_line(const double *x, const double *y, uint32_t n, double *slope, double *intercept)
{
    double mean_x = 0, mean_y = 0, xx = 0, xy = 0;
    for (uint32_t i = 0; i < n; i++) {
        mean_x += x[i] / n;
        mean_y += y[i] / n;
    }
    for (uint32_t i = 0; i < n; i++) {
        xx += (x[i] - mean_x) * (x[i] - mean_x);
        xy += (x[i] - mean_x) * (y[i] - mean_y);
    }
    if (xx > 0)
        *slope = xy / xx;
    *intercept = mean_y - *slope * mean_x;
}

/* Numbers the changes by a period; true if they then lie on a line, whose slope is the better period. */
static bool number_changes(const ps_changes *changes, double *period_ns, double k[CHANGES])
{
    double at_ns[CHANGES], widest_ns = 0, offset_ns = 0;
    for (uint32_t i = 0; i < CHANGES; i++) {
        at_ns[i] = (double)(changes->middle_ns[i] - changes->middle_ns[0]);
        widest_ns = fmax(widest_ns, (double)changes->width_ns[i]);
        k[i] = i == 0 ? 0 : k[i - 1] + fmax(1, round((at_ns[i] - at_ns[i - 1]) / *period_ns));
    }
    if (widest_ns > *period_ns / 2)
        return false;
    ps_fit_line(k, at_ns, CHANGES, period_ns, &offset_ns);
    for (uint32_t i = 0; i < CHANGES; i++)
        if (fabs(at_ns[i] - offset_ns - *period_ns * k[i]) > TOLERANCE * *period_ns + widest_ns)
            return false;
    return *period_ns >= PS_PERIOD_MIN_NS && *period_ns <= PS_PERIOD_MAX_NS;
}

double ps_changes_spacing_ns(const ps_changes *changes)
{
    return (double)(changes->middle_ns[CHANGES - 1] - changes->middle_ns[0]) / (CHANGES - 1);
}

bool ps_period_find(const ps_changes *changes, double *period_ns, int64_t k[CHANGES])
{
    double spacing_ns[CHANGES - 1], smallest_ns = INFINITY, sum_ns = 0, number[CHANGES];
    uint32_t single = 0;
    for (uint32_t i = 0; i + 1 < CHANGES; i++) {
        spacing_ns[i] = (double)(changes->middle_ns[i + 1] - changes->middle_ns[i]);
        smallest_ns = fmin(smallest_ns, spacing_ns[i]);
    }
    for (uint32_t i = 0; i + 1 < CHANGES; i++)
        if (spacing_ns[i] <= SINGLE * smallest_ns) {
            sum_ns += spacing_ns[i];
            single++;
        }
    double rough_ns = sum_ns / single;
    if (*period_ns > 0 && rough_ns > *period_ns)
        rough_ns /= round(rough_ns / *period_ns);
    for (int part = 1; part <= HARMONICS; part++) {
        double candidate_ns = rough_ns / part;
        if (!number_changes(changes, &candidate_ns, number))
            continue;
        for (uint32_t i = 0; i < CHANGES; i++)
            k[i] = (int64_t)number[i];
        *period_ns = candidate_ns;
        return true;
    }
    return false;
}
