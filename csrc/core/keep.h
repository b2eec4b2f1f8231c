/* SPDX-License-Identifier: Apache-2.0
 *
 * Leaves out polls that say nothing new: what is between two polls that are kept had their value, or their error,
 * and came at the channel's own spacing. So changes, their brackets, errors, gaps and stalls are all there, and
 * everything that is worked out from them is the same as with every poll.
 *
 * Kept are, of each channel: the polls on both sides of a change, of a spacing above 1.5 times the channel's own,
 * of a hole in seq, and of the border between two parts; the newest poll whenever asked for; and how many were left
 * out between any two. Pure: no files, no clock. The drain thread's own.
 */
#ifndef PS_KEEP_H
#define PS_KEEP_H

#include "core/sampler.h"

typedef struct ps_keep ps_keep;

/* For the sampler's lanes as they are planned: after its start. */
int ps_keep_new(const ps_sampler *sampler, ps_keep **out);
void ps_keep_free(ps_keep *keep);

/* Takes what was drained from a lane, in its order; writes the rows to be kept, at most 2 a sample, and returns how
 * many. */
uint32_t ps_keep_take(ps_keep *keep, uint32_t lane, const ps_sample *samples, uint32_t count, ps_kept *out);
/* Writes each channel's newest poll unless it is kept already; at most one row a channel. */
uint32_t ps_keep_newest(ps_keep *keep, ps_kept *out);
/* What comes next stands by itself, for a part must not need the one before it. */
void ps_keep_part(ps_keep *keep);

#endif
