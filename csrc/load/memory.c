/* SPDX-License-Identifier: Apache-2.0
 *
 * How much memory "stream" needs so that no cache holds it, and how much there is.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "load/cpus.h"
#include "load/kernel.h"
#include "sources/sysfs.h"

enum {
    TIMES = 4,
    CACHES = 8, /* index0 to index7 of a CPU */
    UNKNOWN_CACHE = 64 << 20 /* where nobody tells: more than most have */
};

/* "32768K", as the kernel writes them all. */
static uint64_t kibibytes(const char *text)
{
    char *end;
    const unsigned long long size = strtoull(text, &end, 10);
    return end != text && strcmp(end, "K") == 0 ? size * 1024 : 0;
}

/* How many of the load's threads share a cache; 1 where none is pinned, or nothing is known. */
static uint32_t sharers(const char *list, const int32_t *cpus, uint32_t threads)
{
    uint32_t count = 0;
    for (uint32_t i = 0; cpus && i < threads; i++)
        count += cpus[i] >= 0 && load_in_list(list, cpus[i]);
    return count ? count : 1;
}

static uint64_t share_of_caches(const char *sysfs, int32_t cpu, const int32_t *cpus, uint32_t threads)
{
    uint64_t bytes = 0;
    for (int index = 0; index < CACHES; index++) {
        char type[SYSFS_TEXT], size[SYSFS_TEXT], list[SYSFS_LIST];
        const char *folder = "%s/devices/system/cpu/cpu%d/cache/index%d/%s";
        if (sysfs_file(type, folder, sysfs, cpu, index, "type") != 0 || strcmp(type, "Instruction") == 0 ||
            sysfs_file(size, folder, sysfs, cpu, index, "size") != 0 ||
            sysfs_list(list, folder, sysfs, cpu, index, "shared_cpu_list") != 0)
            continue;
        bytes += kibibytes(size) / sharers(list, cpus, threads);
    }
    return bytes;
}

void ps_stream_sizes(const char *sysfs, const int32_t *cpus, uint32_t threads, uint64_t *bytes)
{
    const char *root = sysfs ? sysfs : "/sys";
    const long told = sysconf(_SC_LEVEL3_CACHE_SIZE); /* of the CPU itself; 0 on aarch64 */
    const uint64_t fallback = told > 0 && !sysfs ? (uint64_t)told : UNKNOWN_CACHE;
    for (uint32_t i = 0; i < threads; i++) {
        const int32_t cpu = cpus && cpus[i] >= 0 ? cpus[i] : 0;
        const uint64_t share = share_of_caches(root, cpu, cpus, threads);
        bytes[i] = TIMES * (share ? share : fallback);
    }
}

/* "MemAvailable:   123 kB" of /proc/meminfo. */
static uint64_t of_machine(const char *procfs)
{
    char text[SYSFS_LIST];
    if (sysfs_list(text, "%s/meminfo", procfs) != 0)
        return UINT64_MAX;
    const char *line = strstr(text, "MemAvailable:");
    unsigned long long kilobytes;
    return line && sscanf(line, "MemAvailable: %llu kB", &kilobytes) == 1 ? kilobytes * 1024 : UINT64_MAX;
}

/* A container's limit, where it sees its own group as the root. */
static uint64_t of_group(const char *cgroup)
{
    char text[SYSFS_TEXT];
    uint64_t most, used;
    if (sysfs_file(text, "%s/memory.max", cgroup) != 0 || !sysfs_number(text, 10, &most) ||
        sysfs_file(text, "%s/memory.current", cgroup) != 0 || !sysfs_number(text, 10, &used))
        return UINT64_MAX;
    return most > used ? most - used : 0;
}

uint64_t ps_memory_available(const char *procfs, const char *cgroup)
{
    const uint64_t machine = of_machine(procfs), group = of_group(cgroup);
    return machine < group ? machine : group;
}
