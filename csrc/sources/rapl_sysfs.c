/* SPDX-License-Identifier: Apache-2.0
 *
 * Which CPU belongs to which package.
 */
#include <dirent.h>
#include <limits.h>
#include <stdio.h>

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
        for (int32_t cpu = first; cpu <= last && n < capacity; cpu++) {
            rapl_cpu found = {.cpu = cpu};
            if (!topology(sysfs, cpu, "physical_package_id", &found.package))
                continue;
            (void)topology(sysfs, cpu, "die_id", &found.die); /* old kernels have none: 0 */
            out[n++] = found;
        }
        if (*at != ',')
            break;
        at++;
    }
    return n;
}

int32_t rapl_cpu_of(const char *sysfs, uint32_t package)
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/devices/system/cpu", sysfs) >= (int)sizeof path)
        return -1;
    DIR *folder = opendir(path);
    int32_t lowest = -1;
    for (const struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        int32_t cpu;
        int length = 0;
        uint32_t its;
        if (sscanf(entry->d_name, "cpu%6d%n", &cpu, &length) == 1 && !entry->d_name[length] &&
            (lowest < 0 || cpu < lowest) && topology(sysfs, cpu, "physical_package_id", &its) && its == package)
            lowest = cpu;
    }
    if (folder)
        closedir(folder);
    return lowest;
}
