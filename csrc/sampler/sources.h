/* SPDX-License-Identifier: Apache-2.0
 *
 * From the words of --sources to lanes.
 */
#ifndef PS_SAMPLER_SOURCES_H
#define PS_SAMPLER_SOURCES_H

#include "sampler/options.h"

enum { SAMPLER_PACKAGES_MAX = 64 };

/* What came of it. */
typedef struct sampler_found {
    uint32_t missing; /* sources with nothing */
    uint32_t n_packages;
    struct {
        uint32_t number;
        ps_rapl_opening opening;
    } packages[SAMPLER_PACKAGES_MAX];
} sampler_found;

/* Which of the sources that are named: those that capabilities can help to open, the others, or all. */
typedef enum sampler_stage { STAGE_ALL, STAGE_COUNTERS, STAGE_OTHERS } sampler_stage;

extern const char *const sampler_rapl_routes[PS_RAPL_ROUTES];

/* The domains (1 << enum ps_rapl_domain) that a route refuses for one reason, told at the first of them; 0 at others. */
uint32_t sampler_refused_domains(const ps_rapl_opening *opening, int route, int domain);

void sampler_report(const char *what, const ps_error *error, const char *remedy); /* one line on stderr */

/* Adds a lane for every device found. What is missing is reported, counted and left out; *nvml is to be closed after
 * the sampler. Returns an exit code. */
int sampler_add_sources(const sampler_options *options, sampler_stage stage, ps_sampler *sampler, ps_nvml **nvml,
                        sampler_found *found);
/* Once all are added: EXIT_DONE when there is at least one lane, or none was wanted. */
int sampler_check_lanes(const sampler_options *options, const ps_sampler *sampler, const sampler_found *found);

#endif
