/* SPDX-License-Identifier: Apache-2.0
 *
 * Which CPUs a load may be put on, and which of them are two threads of one core.
 */
#include <sched.h>
#include <stdlib.h>

#include "load/cpus.h"
#include "powersample.h"
#include "sources/sysfs.h"

enum { SETS = 8 }; /* of CPU_SETSIZE: the kernel is built for 8192 CPUs at most */

bool load_in_list(const char *list, int32_t cpu)
{
    for (const char *at = list; *at;) {
        char *end;
        const long first = strtol(at, &end, 10);
        if (end == at)
            return false;
        const long last = *end == '-' ? strtol(end + 1, &end, 10) : first;
        if (cpu >= first && cpu <= last)
            return true;
        at = *end == ',' ? end + 1 : "";
    }
    return false;
}

/* Whether a CPU is a thread of the core of one before it. */
static bool is_second(const char *sysfs, const int32_t *cpus, uint32_t at)
{
    char list[SYSFS_LIST];
    if (sysfs_list(list, "%s/devices/system/cpu/cpu%d/topology/thread_siblings_list", sysfs, cpus[at]) != 0)
        return false; /* nothing is known of its core */
    for (uint32_t i = 0; i < at; i++)
        if (load_in_list(list, cpus[i]))
            return true;
    return false;
}

uint32_t ps_load_second_threads(const char *sysfs, const int32_t *cpus, uint32_t count)
{
    uint32_t second = 0;
    for (uint32_t i = 0; i < count; i++)
        second += is_second(sysfs ? sysfs : "/sys", cpus, i);
    return second;
}

uint32_t ps_load_cpus(const char *sysfs, int32_t *cpus, uint32_t capacity)
{
    cpu_set_t sets[SETS];
    static const int32_t most = SETS * CPU_SETSIZE;
    int32_t *allowed = malloc((size_t)most * sizeof *allowed);
    bool *second = calloc((size_t)most, sizeof *second);
    uint32_t count = 0, written = 0;
    if (!allowed || !second || sched_getaffinity(0, sizeof sets, sets) != 0)
        goto out;
    for (int32_t cpu = 0; cpu < most; cpu++)
        if (CPU_ISSET_S((size_t)cpu, sizeof sets, sets))
            allowed[count++] = cpu;
    for (uint32_t i = 0; i < count; i++)
        second[i] = is_second(sysfs ? sysfs : "/sys", allowed, i);
    for (int turn = 0; turn < 2; turn++)
        for (uint32_t i = 0; i < count && written < capacity; i++)
            if (second[i] == (turn == 1))
                cpus[written++] = allowed[i];
out:
    free(second);
    free(allowed);
    return count;
}
