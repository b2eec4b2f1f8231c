/* SPDX-License-Identifier: Apache-2.0
 *
 * Small files of sysfs, and which CPU belongs to which package.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sources/rapl.h"

int rapl_file(char out[RAPL_TEXT], const char *format, ...)
{
    char path[PATH_MAX];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(path, sizeof path, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= (int)sizeof path)
        return ENAMETOOLONG;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return errno;
    ssize_t got;
    do
        got = read(fd, out, RAPL_TEXT - 1);
    while (got < 0 && errno == EINTR);
    int failure = got < 0 ? errno : 0;
    close(fd);
    if (failure)
        return failure;
    while (got > 0 && strchr(" \t\n", out[got - 1]))
        got--;
    out[got] = '\0';
    return 0;
}

bool rapl_number(const char *text, int base, uint64_t *out)
{
    if (base == 16) {
        if (strncmp(text, "0x", 2) != 0)
            return false;
        text += 2;
    }
    if (!strchr("0123456789abcdefABCDEF", text[0]) || !text[0]) /* strtoull takes signs and blanks */
        return false;
    char *end;
    errno = 0;
    unsigned long long value = strtoull(text, &end, base);
    if (errno || *end)
        return false;
    *out = value;
    return true;
}

static bool topology(const char *sysfs, int32_t cpu, const char *what, uint32_t *out)
{
    char text[RAPL_TEXT];
    uint64_t value;
    if (rapl_file(text, "%s/devices/system/cpu/cpu%d/topology/%s", sysfs, cpu, what) != 0 ||
        !rapl_number(text, 10, &value) || value > INT32_MAX)
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
