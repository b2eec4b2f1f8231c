/* SPDX-License-Identifier: Apache-2.0
 *
 * Temperature and frequency of the CPUs. Files are opened once; a reading of a package's temperature is a register of the
 * CPU's or a transfer of the board's, one of a frequency may interrupt that CPU: once a second is enough.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <math.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/clock.h"
#include "powersample.h"
#include "sources/sysfs.h"

enum { INPUTS = 64, CPUS = 64 /* of many, evenly taken */, NUMBERS = 32 /* temp1 to temp32 of a chip */ };

struct ps_heat {
    int input[INPUTS], clock[CPUS];
    uint32_t inputs, clocks;
};

/* Chips that measure CPUs, and the label of the one that counts: the package's, not each core's; and Tctl, by which AMD's
 * own cooling and throttling go. Without such a label all of a chip's count. */
static const struct {
    const char *chip, *label;
} known[] = {{"coretemp", "Package id"}, {"k10temp", "Tctl"}, {"zenpower", "Tctl"},
             {"cpu_thermal", ""},        {"soc_thermal", ""}, {"apm_xgene", ""}};

static int open_file(const char *format, const char *folder, int number)
{
    char path[PATH_MAX];
    const int length = snprintf(path, sizeof path, format, folder, number);
    return length > 0 && length < (int)sizeof path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
}

static bool has_label(const char *folder, int number, const char *label)
{
    char text[SYSFS_TEXT];
    return label[0] && sysfs_file(text, "%s/temp%d_label", folder, number) == 0 && strncmp(text, label, strlen(label)) == 0;
}

static void add_chip(ps_heat *heat, const char *folder, const char *label)
{
    bool labelled = false;
    for (int number = 1; number <= NUMBERS; number++)
        labelled |= has_label(folder, number, label);
    for (int number = 1; number <= NUMBERS && heat->inputs < INPUTS; number++) {
        if (labelled && !has_label(folder, number, label))
            continue;
        const int fd = open_file("%s/temp%d_input", folder, number);
        if (fd >= 0)
            heat->input[heat->inputs++] = fd;
    }
}

static void add_chips(ps_heat *heat, const char *sysfs)
{
    char path[PATH_MAX], name[SYSFS_TEXT];
    sysfs_words(path, sizeof path, "%s/class/hwmon", sysfs);
    DIR *folder = opendir(path);
    if (!folder)
        return;
    for (const struct dirent *entry; (entry = readdir(folder));) {
        sysfs_words(path, sizeof path, "%s/class/hwmon/%s", sysfs, entry->d_name);
        if (entry->d_name[0] == '.' || sysfs_file(name, "%s/name", path) != 0)
            continue;
        for (size_t i = 0; i < sizeof known / sizeof known[0]; i++)
            if (strcmp(name, known[i].chip) == 0)
                add_chip(heat, path, known[i].label);
    }
    closedir(folder);
}

int ps_heat_open(const char *sysfs, const int32_t *cpus, uint32_t count, ps_heat **out)
{
    const char *root = sysfs ? sysfs : "/sys";
    ps_heat *heat = calloc(1, sizeof *heat);
    if (!heat)
        return PS_E_NOMEM;
    add_chips(heat, root);
    const uint32_t wanted = count < CPUS ? count : CPUS;
    for (uint32_t i = 0; i < wanted; i++) {
        const int32_t cpu = cpus[(uint64_t)i * count / wanted];
        const int fd = cpu < 0 ? -1 : open_file("%s/devices/system/cpu/cpu%d/cpufreq/scaling_cur_freq", root, cpu);
        if (fd >= 0)
            heat->clock[heat->clocks++] = fd;
    }
    *out = heat;
    return PS_OK;
}

void ps_heat_read(const ps_heat *heat, ps_heat_reading *out)
{
    ps_heat_reading reading = {.t_ns = ps_clock_monotonic_ns(), .temperature_c = NAN, .hz = NAN};
    int64_t value;
    for (uint32_t i = 0; i < heat->inputs; i++)
        if (sysfs_value(heat->input[i], &value) == 0)
            reading.temperature_c = fmax(reading.temperature_c, (double)value * 1e-3); /* of NaN and a number: the number */
    double sum = 0;
    uint32_t told = 0;
    for (uint32_t i = 0; i < heat->clocks; i++)
        if (sysfs_value(heat->clock[i], &value) == 0) {
            sum += (double)value * 1e3;
            told++;
        }
    if (told)
        reading.hz = sum / told;
    *out = reading;
}

void ps_heat_close(ps_heat *heat)
{
    if (!heat)
        return;
    for (uint32_t i = 0; i < heat->inputs; i++)
        close(heat->input[i]);
    for (uint32_t i = 0; i < heat->clocks; i++)
        close(heat->clock[i]);
    free(heat);
}
