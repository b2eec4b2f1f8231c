/* SPDX-License-Identifier: Apache-2.0
 *
 * What the load's threads do between two looks at the clock: a round of a few microseconds, whose result is known.
 */
#ifndef PS_LOAD_KERNEL_H
#define PS_LOAD_KERNEL_H

#include <stdint.h>

enum {
    PS_PRIMES_SEGMENT = 8192,     /* odd numbers, a byte each: stays in any first-level cache */
    PS_PRIMES_FIRST = 1000001,    /* the first of them */
    PS_PRIMES_BASE = 171,         /* odd primes below 1024, whose square lies beyond the segment */
    PS_PRIMES_FOUND = 1214        /* primes among the segment's numbers */
};

typedef struct ps_primes {
    uint16_t prime[PS_PRIMES_BASE];
    uint16_t first[PS_PRIMES_BASE]; /* index of its first multiple in the segment */
    uint8_t composite[PS_PRIMES_SEGMENT];
} ps_primes;

void ps_primes_init(ps_primes *work);
/* Sieves the segment and counts; PS_PRIMES_FOUND on a sound machine. */
uint32_t ps_primes_round(ps_primes *work);

#endif
