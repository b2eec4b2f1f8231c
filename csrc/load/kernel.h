/* SPDX-License-Identifier: Apache-2.0
 *
 * What the load's threads do between two looks at the clock: a round of at most some 50 us, whose result is known.
 */
#ifndef PS_LOAD_KERNEL_H
#define PS_LOAD_KERNEL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "powersample.h"

/* ---- primes ------------------------------------------------------------------------------------------------ */

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

/* ---- fma --------------------------------------------------------------------------------------------------- */

enum {
    PS_FMA_CHAINS = 12, /* independent of each other: more than two units of four cycles keep under way */
    PS_FMA_STEPS = 4096,
    PS_FMA_LANES = 8 /* of the widest vectors */
};

/* Leaves chain after chain, its lanes side by side; returns how many lanes there are. */
typedef uint32_t ps_fma_run(double out[PS_FMA_CHAINS * PS_FMA_LANES]);

typedef struct ps_fma {
    ps_fma_run *run;
    double expected[PS_FMA_CHAINS]; /* in every lane */
} ps_fma;

/* The best that this CPU has for `wanted` PS_ISA_BEST, or that very one; PS_E_UNSUPPORTED. */
int ps_fma_isa(int32_t wanted, int32_t *isa);
void ps_fma_init(ps_fma *work, int32_t isa); /* one of those */
bool ps_fma_round(const ps_fma *work);       /* whether all lanes came out as expected */

/* ---- stream ------------------------------------------------------------------------------------------------ */

enum { PS_STREAM_PIECE = 4096 /* doubles of each array, a round: 50 us where a thread gets 2 GB/s */ };

typedef struct ps_stream {
    double *a, *b, *c; /* one mapping, with the pieces' sums behind them */
    double *sum_b, *sum_3c;
    size_t pieces, at;
    size_t mapped;
    bool back;
} ps_stream;

/* Maps room for about so many bytes and touches none of it. PS_OK or PS_E_NOMEM. */
int ps_stream_map(ps_stream *work, uint64_t bytes);
/* By the thread that will work: pages come from the memory that is nearest to it. */
void ps_stream_init(ps_stream *work);
bool ps_stream_round(ps_stream *work); /* whether the piece's sum is what it must be */
void ps_stream_unmap(ps_stream *work);

/* What a thread's arrays need so that no cache holds them: four times its share of every cache of its CPU. `cpus` as in
 * ps_load_options. Writes one number a thread. */
void ps_stream_sizes(const char *sysfs, const int32_t *cpus, uint32_t threads, uint64_t *bytes);
/* What this process may still take; UINT64_MAX where nobody says. */
uint64_t ps_memory_available(const char *procfs, const char *cgroup);

/* ---- any of them ------------------------------------------------------------------------------------------- */

typedef struct ps_work {
    int32_t kernel; /* enum ps_load_kernel */
    uint32_t turn;
    ps_primes *primes;
    ps_fma *fma;
    ps_stream *stream;
} ps_work;

/* stream_bytes: of the arrays. PS_OK or PS_E_NOMEM; to be freed in either case. */
int ps_work_make(ps_work *work, int32_t kernel, uint64_t stream_bytes);
void ps_work_init(ps_work *work, int32_t isa); /* by the thread that will work */
bool ps_work_round(ps_work *work);             /* whether the result is right */
void ps_work_free(ps_work *work);
bool ps_work_uses(int32_t kernel, int32_t part); /* as mix uses fma */

#endif
