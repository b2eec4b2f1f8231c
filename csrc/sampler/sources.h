/* SPDX-License-Identifier: Apache-2.0
 *
 * From the words of --sources to lanes.
 */
#ifndef PS_SAMPLER_SOURCES_H
#define PS_SAMPLER_SOURCES_H

#include "sampler/options.h"

void sampler_report(const char *what, const ps_error *error, const char *remedy); /* one line on stderr */

/* Adds a lane for every device found. What is missing is reported and left out; *nvml is to be closed after
 * the sampler. Returns an exit code: EXIT_DONE when there is at least one lane. */
int sampler_add_sources(const sampler_options *options, ps_sampler *sampler, ps_nvml **nvml);

#endif
