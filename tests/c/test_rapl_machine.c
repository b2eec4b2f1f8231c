/* SPDX-License-Identifier: Apache-2.0
 *
 * This machine's own counters, where it has any: its RAPL, by whatever route, and its PMU "msr" under RAPL's names, for
 * that is another PMU of the processor's registers, read by the same calls, which virtual machines have, too.
 */
#include "rapl_tree.h"

#define MSR_PMU "/sys/bus/event_source/devices/msr"

/* Counters never go back, and one that the hypervisor leaves at 0 is a channel like any other. */
static const char *test_rapl_of_this_machine(void)
{
    static ps_error error;
    uint32_t packages[64], count = 0;
    if (ps_rapl_packages(NULL, NULL, packages, 64, &count, &error) != PS_OK)
        return error.text;
    ps_source *source = NULL;
    ps_rapl_opening opening;
    if (ps_rapl_open(NULL, NULL, packages[0], &source, &opening, &error) != PS_OK)
        return error.text;
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
    return NULL;
}

static bool copy(const char *from, const char *to)
{
    char text[SYSFS_TEXT];
    if (sysfs_file(text, MSR_PMU "/%s", from) != 0)
        return false;
    put(text, "%s", to);
    return true;
}

/* One call reads all events of a hardware PMU at one instant, on the CPU that was named. */
static const char *test_group_on_another_pmu_of_the_processor(void)
{
    static char reason[SYSFS_TEXT];
    static const char *const names[] = {"energy-pkg", "energy-ram", "energy-psys"};
    const char *power = "bus/event_source/devices/power";
    char to[SYSFS_TEXT];
    begin();
    put_pmu("0\n", "0\n");
    snprintf(to, sizeof to, "%s/type", power);
    bool found = copy("type", to);
    for (size_t i = 0; found && i < sizeof names / sizeof *names; i++) {
        put_event(names[i], "event=0x00\n", "Joules\n");
        snprintf(to, sizeof to, "%s/events/%s", power, names[i]);
        found = copy("events/tsc", to);
    }
    ps_source *source = NULL;
    ps_rapl_opening opening;
    ps_error error;
    int status = found ? ps_rapl_open(root, NULL, 0, &source, &opening, &error) : PS_E_NOT_FOUND;
    end();
    if (!found)
        return "no PMU msr with an event tsc";
    if (status != PS_OK) {
        CHECK(perf_is_closed(error.vendor)); /* whatever else it may answer, it must open for who may */
        snprintf(reason, sizeof reason, "%.100s", error.text);
        return reason;
    }
    CHECK_EQ(3, source->n_channels);
    CHECK_EQ(1, source->n_groups);
    CHECK_EQ(7, (int64_t)opening.moved);
    ps_reading before[PS_GROUP_MAX], after[PS_GROUP_MAX];
    CHECK_EQ(3, source->ops->read(source, 0, 0, before));
    harness_sleep_ms(20);
    CHECK_EQ(3, source->ops->read(source, 0, 1, after));
    int64_t first = after[0].raw - before[0].raw;
    CHECK(first > 1000000); /* 50 MHz at least */
    for (int i = 1; i < 3; i++) {
        int64_t gained = after[i].raw - before[i].raw;
        CHECK_EQ(0, after[i].status);
        CHECK(gained > first / 2 && gained < 2 * first); /* the same counter, one after the other */
    }
    printf("msr/tsc: %" PRId64 " more in 20 ms\n", first);
    ps_source_free(source);
    return NULL;
}

int main(void)
{
    const char *none = test_rapl_of_this_machine();
    if (none)
        printf("no RAPL here: %s\n", none);
    const char *refused = test_group_on_another_pmu_of_the_processor();
    if (refused)
        printf("no other PMU here: %s\n", refused);
    if (none && refused)
        SKIP(none);
    return HARNESS_RESULT();
}
