/* SPDX-License-Identifier: Apache-2.0
 *
 * What a thread of the load does: step after step of the plan, in bursts that it logs.
 */
#ifndef PS_LOAD_STEP_H
#define PS_LOAD_STEP_H

#include <pthread.h>
#include <stdatomic.h>

#include "load/kernel.h"

typedef struct load_plan {
    const int64_t *edge_ns; /* 2 * steps */
    const double *levels;
    uint32_t steps, threads;
    int64_t period_ns;
    int64_t start_ns;
    _Atomic int64_t stop_ns; /* 0: go on */
} load_plan;

typedef struct load_step {
    int64_t cpu_ns;
    uint64_t wrong;
    uint32_t bursts, missed;
} load_step;

typedef struct load_thread {
    ps_load *load;
    pthread_t thread;
    uint32_t index;
    int32_t cpu;          /* -1: anywhere */
    int32_t cpu_errno;
    ps_load_burst *burst; /* room for load_bursts() */
    uint32_t bursts;
    load_step *step;      /* one a step */
    ps_work work;
} load_thread;

uint64_t load_bursts(const load_plan *plan); /* the most that a thread can come to */
void load_run_steps(load_thread *thread, const load_plan *plan);

#endif
