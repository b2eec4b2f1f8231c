/* SPDX-License-Identifier: Apache-2.0
 *
 * From the words of --stress, --levels, --pattern and --cpus to what a load is made of.
 */
#ifndef PS_SAMPLER_STRESS_PLAN_H
#define PS_SAMPLER_STRESS_PLAN_H

#include <stddef.h>

#include "sampler/options.h"

typedef struct stress_plan {
    int32_t kernel;
    int64_t *edge_ns;
    double *levels;
    uint32_t steps;
    int32_t *cpus;
    uint32_t threads, second_threads;
    char name[128];
} stress_plan;

/* NULL when the words are well, else what would have been; *option is the one that is meant. Opens nothing. */
const char *stress_plan_check(const sampler_options *options, const char **option);
/* The same words again, with the pattern's file read. Returns an exit code, having printed why; to be freed in any case. */
int stress_plan_make(const sampler_options *options, stress_plan *out);
void stress_plan_free(stress_plan *plan);

#endif
