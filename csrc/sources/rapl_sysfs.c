/* SPDX-License-Identifier: Apache-2.0
 *
 * Which CPU belongs to which package.
 */
#include <dirent.h>
#include <limits.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>

#include "sources/rapl.h"

static bool topology(const char *sysfs, int32_t cpu, const char *what, uint32_t *out)
{
    char text[SYSFS_TEXT];
    uint64_t value;
    if (sysfs_file(text, "%s/devices/system/cpu/cpu%d/topology/%s", sysfs, cpu, what) != 0 ||
        !sysfs_number(text, 10, &value) || value > INT32_MAX)
        return false;
    *out = (uint32_t)value;
    return true;
}

static bool locate(const char *sysfs, int32_t cpu, rapl_cpu *out)
{
    rapl_cpu found = {.cpu = cpu, .core = UINT32_MAX};
    if (!topology(sysfs, cpu, "physical_package_id", &found.package))
        return false; /* offline */
    (void)topology(sysfs, cpu, "die_id", &found.die); /* old kernels have none: 0 */
    (void)topology(sysfs, cpu, "core_id", &found.core);
    *out = found;
    return true;
}

uint32_t rapl_cpus(const char *sysfs, const char *list, rapl_cpu *out, uint32_t capacity)
{
    uint32_t n = 0;
    for (const char *at = list; *at;) {
        int first, last, length = 0;
        if (sscanf(at, "%6d%n", &first, &length) != 1 || first < 0)
            break;
        at += length;
        last = first;
        if (sscanf(at, "-%6d%n", &last, &length) == 1)
            at += length;
        for (int32_t cpu = first; cpu <= last && n < capacity; cpu++)
            n += locate(sysfs, cpu, &out[n]);
        if (*at != ',')
            break;
        at++;
    }
    return n;
}

static int by_cpu(const void *left, const void *right)
{
    const rapl_cpu *a = left, *b = right;
    return (a->cpu > b->cpu) - (a->cpu < b->cpu);
}

rapl_cpu *rapl_topology(const char *sysfs, uint32_t *count)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/devices/system/cpu", sysfs) >= (int)sizeof path)
        return NULL;
    DIR *folder = opendir(path);
    rapl_cpu *list = NULL;
    uint32_t n = 0, room = 0;
    for (const struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        int32_t cpu;
        int length = 0;
        if (sscanf(entry->d_name, "cpu%6d%n", &cpu, &length) != 1 || entry->d_name[length] || cpu < 0)
            continue;
        if (n == room) {
            room = room ? 2 * room : 64;
            rapl_cpu *more = realloc(list, room * sizeof *more);
            if (!more)
                break;
            list = more;
        }
        n += locate(sysfs, cpu, &list[n]);
    }
    if (folder)
        closedir(folder);
    if (n == 0) {
        free(list);
        return NULL;
    }
    qsort(list, n, sizeof *list, by_cpu);
    *count = n;
    return list;
}

/* The lowest of a package, of those in `allowed` if that is not NULL; -1 when there is none. */
static int32_t lowest_of(const char *sysfs, uint32_t package, const cpu_set_t *allowed, size_t bytes)
{
    uint32_t n = 0;
    rapl_cpu *list = rapl_topology(sysfs, &n);
    int32_t lowest = -1;
    for (uint32_t i = 0; i < n && lowest < 0; i++)
        if (list[i].package == package && (!allowed || CPU_ISSET_S((size_t)list[i].cpu, bytes, allowed)))
            lowest = list[i].cpu;
    free(list);
    return lowest;
}

int32_t rapl_cpu_of(const char *sysfs, uint32_t package)
{
    return lowest_of(sysfs, package, NULL, 0);
}

int32_t rapl_cpu_allowed(const char *sysfs, uint32_t package, int32_t cpu)
{
    cpu_set_t allowed[8]; /* the kernel is built for 8192 CPUs at most */
    if (cpu < 0 || sched_getaffinity(0, sizeof allowed, allowed) != 0 || CPU_ISSET_S((size_t)cpu, sizeof allowed, allowed))
        return cpu;
    int32_t other = lowest_of(sysfs, package, allowed, sizeof allowed);
    return other < 0 ? cpu : other;
}
