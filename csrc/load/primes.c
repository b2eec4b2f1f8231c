/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel "primes": one segment of the sieve of Eratosthenes, over and over; branchy integer work, as the sieve by
 * which arXiv 2505.15631 loads CPUs.
 */
#include <stdbool.h>
#include <string.h>

#include "load/kernel.h"

void ps_primes_init(ps_primes *work)
{
    uint32_t found = 0;
    for (uint16_t candidate = 3; found < PS_PRIMES_BASE; candidate = (uint16_t)(candidate + 2)) {
        bool prime = true;
        for (uint32_t i = 0; i < found && work->prime[i] * work->prime[i] <= candidate; i++)
            prime = prime && candidate % work->prime[i] != 0;
        if (!prime)
            continue;
        /* The first odd multiple at or behind the first number, as an index among odd numbers. */
        uint32_t multiple = (PS_PRIMES_FIRST + candidate - 1u) / candidate * candidate;
        if (multiple % 2 == 0)
            multiple += candidate;
        work->prime[found] = candidate;
        work->first[found++] = (uint16_t)((multiple - PS_PRIMES_FIRST) / 2);
    }
}

uint32_t ps_primes_round(ps_primes *work)
{
    memset(work->composite, 0, sizeof work->composite);
    for (uint32_t i = 0; i < PS_PRIMES_BASE; i++)
        for (uint32_t at = work->first[i]; at < PS_PRIMES_SEGMENT; at += work->prime[i])
            work->composite[at] = 1;
    uint32_t count = 0;
    for (uint32_t at = 0; at < PS_PRIMES_SEGMENT; at++)
        count += work->composite[at] == 0;
    return count;
}
