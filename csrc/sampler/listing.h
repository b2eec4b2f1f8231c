/* SPDX-License-Identifier: Apache-2.0
 *
 * --list: what would be recorded, for people and for programs.
 */
#ifndef PS_SAMPLER_LISTING_H
#define PS_SAMPLER_LISTING_H

#include "sampler/privilege.h"
#include "sampler/sources.h"

void list_channels(const ps_sampler *sampler); /* a table on stdout */

/* One object on stdout: the channels; the CPU packages with the routes that were taken, whether their counters moved, and
 * why other routes were not; the capabilities that this was done with. */
void list_as_json(const ps_sampler *sampler, const sampler_found *found, const sampler_privilege *privilege);

#endif
