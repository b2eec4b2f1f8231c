/* SPDX-License-Identifier: Apache-2.0
 *
 * Waiting for an instant: sleep until shortly before it, then spin. The thread's timer slack is what a sleep
 * may be late by choice (50 us by default), and its wake-up error is what the machine adds; the first is
 * switched off by the lane, the second is measured and waited out.
 */
#ifndef PS_PACE_H
#define PS_PACE_H

#include <stdatomic.h>
#include <stdint.h>

enum { PS_PACE_SLEEP_MIN_NS = 100 * 1000 };

/* The lead of the calling thread: how long before a deadline to wake up and spin, the median error of a few sleeps, but never more than 0.25 % of the period: spinning costs a core's time, and a call
 * that starts late is stamped as it was. */
int64_t ps_pace_lead(int64_t period_ns);

/* Returns the first clock reading at or after the deadline; earlier only when *stop_ns is no longer 0, which
 * a sleeper notices within 50 ms. */
int64_t ps_pace_wait(int64_t deadline_ns, int64_t lead_ns, const _Atomic int64_t *stop_ns);

/* The share of a CPU that passes of this cost on a grid will take: calls, spin, and the waking up itself. */
double ps_pace_duty(double call_cost_ns, int64_t period_ns);

void ps_pace_sleep(int64_t duration_ns);

#endif
