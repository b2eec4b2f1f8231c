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
