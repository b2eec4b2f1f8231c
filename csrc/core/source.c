/* SPDX-License-Identifier: Apache-2.0
 *
 * What all sources share: being listed and being freed.
 */
#include <string.h>

#include "core/source.h"

void ps_source_free(ps_source *source)
{
    if (source)
        source->ops->free(source);
}

double ps_group_fastest_hz(const ps_group *groups, uint32_t n_groups)
{
    double fastest_hz = 0;
    for (uint32_t i = 0; i < n_groups; i++)
        fastest_hz = groups[i].max_hz > fastest_hz ? groups[i].max_hz : fastest_hz;
    return fastest_hz;
}

int ps_source_channels(const ps_source *source, ps_channel *out, uint32_t capacity, uint32_t *count)
{
    if (!source || !count || (capacity && !out))
        return PS_E_INVALID;
    uint32_t n = source->n_channels < capacity ? source->n_channels : capacity;
    if (n)
        memcpy(out, source->channels, n * sizeof *out);
    *count = source->n_channels; /* all there are: with capacity 0 this asks for the size */
    return PS_OK;
}
