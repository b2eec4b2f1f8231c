/* SPDX-License-Identifier: Apache-2.0
 *
 * See keep.h.
 */
#include <stdbool.h>
#include <stdlib.h>

#include "core/keep.h"

enum { LEARN = 16 }; /* a lane without a grid: the weight of a new spacing in their running mean is 1/LEARN */

typedef struct channel_state {
    int64_t grid_ns;  /* spacing of its slots; 0: the lane has no grid */
    int64_t mean_ns;  /* of spacings seen, where there is no grid */
    ps_sample newest;
    uint32_t omitted; /* before `newest`, since the last row kept */
    bool any;         /* `newest` is set */
    bool kept;        /* `newest` is a row already */
    bool apart;       /* the next poll has nothing to do with `newest` */
} channel_state;

typedef struct lane_state {
    uint32_t first, end; /* its channels */
    uint32_t next_seq;
    bool any;
} lane_state;

struct ps_keep {
    uint32_t n_channels, n_lanes;
    channel_state *channels;
    lane_state *lanes;
};

int ps_keep_new(const ps_sampler *sampler, ps_keep **out)
{
    ps_keep *keep = calloc(1, sizeof *keep);
    if (!keep)
        return PS_E_NOMEM;
    keep->n_channels = sampler->n_channels;
    keep->n_lanes = sampler->n_lanes;
    keep->channels = calloc(sampler->n_channels ? sampler->n_channels : 1, sizeof *keep->channels);
    keep->lanes = calloc(sampler->n_lanes ? sampler->n_lanes : 1, sizeof *keep->lanes);
    if (!keep->channels || !keep->lanes) {
        ps_keep_free(keep);
        return PS_E_NOMEM;
    }
    for (uint32_t i = 0; i < sampler->n_lanes; i++) {
        const ps_lane *lane = sampler->lanes[i];
        lane_state *state = &keep->lanes[i];
        state->first = lane->first_channel;
        state->end = state->first + lane->source->n_channels;
        for (uint32_t j = 0; j < lane->source->n_channels; j++)
            keep->channels[state->first + j].grid_ns = lane->period_ns * (int64_t)lane->source->channels[j].divisor;
    }
    *out = keep;
    return PS_OK;
}

void ps_keep_free(ps_keep *keep)
{
    if (!keep)
        return;
    free(keep->channels);
    free(keep->lanes);
    free(keep);
}

static int64_t middle_ns(const ps_sample *sample)
{
    return sample->t0_ns + (sample->t1_ns - sample->t0_ns) / 2;
}

/* Whether nobody looking for gaps or stalls would stop at this spacing. */
static bool is_ordinary(channel_state *channel, int64_t spacing_ns)
{
    if (spacing_ns <= 0)
        return false;
    if (channel->grid_ns)
        return spacing_ns <= channel->grid_ns + channel->grid_ns / 2;
    /* The mean lies above the median that readers go by, so the bound is closer. */
    bool ordinary = channel->mean_ns && spacing_ns <= channel->mean_ns + channel->mean_ns / 4;
    if (!channel->mean_ns)
        channel->mean_ns = spacing_ns;
    int64_t counted_ns = spacing_ns < 2 * channel->mean_ns ? spacing_ns : 2 * channel->mean_ns;
    channel->mean_ns += (counted_ns - channel->mean_ns) / LEARN;
    return ordinary;
}

static bool says_the_same(const ps_sample *one, const ps_sample *other)
{
    return one->status == other->status && (one->status != 0 || one->raw == other->raw);
}

static uint32_t keep_newest(channel_state *channel, ps_kept *out)
{
    if (!channel->any || channel->kept)
        return 0;
    *out = (ps_kept){.sample = channel->newest, .omitted = channel->omitted};
    channel->omitted = 0;
    channel->kept = true;
    return 1;
}

static uint32_t take_one(channel_state *channel, const ps_sample *sample, ps_kept *out)
{
    uint32_t rows = 0;
    bool ordinary = channel->any && is_ordinary(channel, middle_ns(sample) - middle_ns(&channel->newest));
    if (ordinary && !channel->apart && says_the_same(&channel->newest, sample)) {
        channel->omitted += !channel->kept;
        channel->kept = false;
    } else {
        rows = keep_newest(channel, out);
        out[rows++] = (ps_kept){.sample = *sample};
        channel->any = channel->kept = true;
        channel->apart = false;
    }
    channel->newest = *sample;
    return rows;
}

static void set_apart(ps_keep *keep, uint32_t first, uint32_t end)
{
    for (uint32_t i = first; i < end; i++)
        keep->channels[i].apart = true;
}

uint32_t ps_keep_take(ps_keep *keep, uint32_t lane, const ps_sample *samples, uint32_t count, ps_kept *out)
{
    lane_state *state = &keep->lanes[lane];
    uint32_t rows = 0;
    for (const ps_sample *sample = samples; sample != samples + count; sample++) {
        if (state->any && sample->seq != state->next_seq)
            set_apart(keep, state->first, state->end); /* any of its channels may have lost a record */
        state->any = true;
        state->next_seq = sample->seq + 1;
        rows += take_one(&keep->channels[sample->channel], sample, out + rows);
    }
    return rows;
}

uint32_t ps_keep_newest(ps_keep *keep, ps_kept *out)
{
    uint32_t rows = 0;
    for (uint32_t i = 0; i < keep->n_channels; i++)
        rows += keep_newest(&keep->channels[i], out + rows);
    return rows;
}

void ps_keep_part(ps_keep *keep)
{
    set_apart(keep, 0, keep->n_channels);
}
