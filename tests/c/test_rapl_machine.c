/* SPDX-License-Identifier: Apache-2.0
 *
 * This machine's own RAPL, where it has one: counters never go back, and one that the hypervisor leaves at 0 is a
 * channel like any other.
 */
#include "core/source.h"
#include "harness.h"

int main(void)
{
    uint32_t packages[64], count = 0;
    ps_error error;
    if (ps_rapl_packages(NULL, NULL, packages, 64, &count, &error) != PS_OK)
        SKIP(error.text);
    ps_source *source = NULL;
    ps_rapl_opening opening;
    if (ps_rapl_open(NULL, NULL, packages[0], &source, &opening, &error) != PS_OK)
        SKIP(error.text);
    CHECK(source->n_channels > 0);
    for (uint32_t group = 0; group < source->n_groups; group++) {
        ps_reading before[PS_GROUP_MAX], after[PS_GROUP_MAX];
        uint32_t n = source->ops->read(source, group, 0, before);
        harness_sleep_ms(20);
        CHECK_EQ(n, source->ops->read(source, group, 1, after));
        for (uint32_t i = 0; i < n; i++) {
            const ps_channel *channel = &source->channels[after[i].channel];
            CHECK_EQ(0, after[i].status);
            CHECK(after[i].raw >= before[i].raw || channel->modulus);
            CHECK_TEXT("J", channel->unit);
            printf("%s (%s): %" PRId64 " more in 20 ms\n", channel->name, channel->sensor,
                   after[i].raw - before[i].raw);
        }
    }
    ps_source_free(source);
    return HARNESS_RESULT();
}
