/* SPDX-License-Identifier: Apache-2.0
 *
 * First-order lag, tau y' = x - y, over a stretch in which x is constant. Private to csrc/physics.
 */
#ifndef PS_LAG_H
#define PS_LAG_H

#include <math.h>
#include <stdint.h>

/* y after d_ns at p. expm1 keeps the digits where d is small beside tau. */
static inline double ps_lag_towards(double y, double p, int64_t d_ns, double tau)
{
    return y - (p - y) * expm1(-(double)d_ns / tau);
}

#endif
