/* SPDX-License-Identifier: Apache-2.0
 *
 * A package whose domains are read by different routes is one source still: groups and channels of the parts behind one
 * another.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sources/rapl.h"

typedef struct whole {
    ps_source base; /* first */
    ps_source *parts[PS_RAPL_ROUTES];
    uint32_t n_parts;
    uint32_t first_group[PS_RAPL_ROUTES + 1]; /* the one after the last: all of them */
    uint32_t first_channel[PS_RAPL_ROUTES + 1];
    ps_channel channels[RAPL_CHANNELS_MAX];
    ps_group groups[RAPL_CHANNELS_MAX];
} whole;

static uint32_t whole_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    const whole *self = (whole *)source;
    uint32_t at = 0;
    while (group >= self->first_group[at + 1])
        at++;
    ps_source *part = self->parts[at];
    uint32_t n = part->ops->read(part, group - self->first_group[at], pass, out);
    for (uint32_t i = 0; i < n; i++)
        out[i].channel = (uint16_t)(out[i].channel + self->first_channel[at]);
    return n;
}

static int whole_recover(ps_source *source, int64_t now_ns)
{
    const whole *self = (whole *)source;
    int back = 0;
    for (uint32_t i = 0; i < self->n_parts; i++)
        if (self->parts[i]->ops->recover)
            back |= self->parts[i]->ops->recover(self->parts[i], now_ns);
    return back;
}

static void whole_free(ps_source *source)
{
    whole *self = (whole *)source;
    for (uint32_t i = 0; i < self->n_parts; i++)
        ps_source_free(self->parts[i]);
    free(self);
}

static const struct ps_source_ops whole_ops = {.read = whole_read, .recover = whole_recover, .free = whole_free};

static void add_part(whole *self, ps_source *part)
{
    uint32_t group = self->base.n_groups, channel = self->base.n_channels;
    memcpy(&self->groups[group], part->groups, part->n_groups * sizeof *part->groups);
    memcpy(&self->channels[channel], part->channels, part->n_channels * sizeof *part->channels);
    for (uint32_t i = 0; i < part->n_channels; i++)
        self->channels[channel + i].group += group;
    self->parts[self->n_parts++] = part;
    self->first_group[self->n_parts] = self->base.n_groups = group + part->n_groups;
    self->first_channel[self->n_parts] = self->base.n_channels = channel + part->n_channels;
}

int rapl_compose(const rapl_part *parts, uint32_t n_parts, ps_source **out)
{
    if (n_parts == 1) {
        *out = parts[0].source;
        return PS_OK;
    }
    whole *self = calloc(1, sizeof *self);
    if (!self)
        return PS_E_NOMEM;
    self->base = (ps_source){.ops = &whole_ops, .channels = self->channels, .groups = self->groups, .driver = "rapl"};
    memcpy(self->base.name, parts[0].source->name, sizeof self->base.name);
    for (uint32_t i = 0; i < n_parts; i++)
        add_part(self, parts[i].source);
    *out = &self->base;
    return PS_OK;
}
