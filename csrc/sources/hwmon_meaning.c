/* SPDX-License-Identifier: Apache-2.0
 *
 * What a chip's power or energy is power or energy of, in DESIGN's words. Where nothing is documented it is a "supply":
 * something flows there, and whatever it feeds is in no total.
 *
 * Sources: Documentation/hwmon/amd_energy.rst, acpi_power_meter.rst and Documentation/gpu/amdgpu/thermal.rst of the
 * kernel; NVIDIA Grace Performance Tuning Guide, "Power and Thermals"; the power meters in NVIDIA's public firmware
 * (edk2-nvidia, TH500: module, Grace, CPU and SysIO of each socket, averages over 50 ms or 1 s).
 */
#include <ctype.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "sources/hwmon.h"

bool hwmon_starts(const char *text, const char *with)
{
    return strncmp(text, with, strlen(with)) == 0;
}

bool hwmon_has_file(const char *folder, const char *file)
{
    char path[HWMON_PATH + HWMON_FILE];
    snprintf(path, sizeof path, "%s/%s", folder, file);
    return access(path, F_OK) == 0;
}

/* The words of NVIDIA's firmware end in "Power Socket N"; other ARM servers write "Power in uW socket N". Output power is
 * a part of the input's, and memory's is in the socket's total, beside which totals add "dram": those stay supplies.
 * Energies and throttling counts come by the same interface and are no power. */
static const struct {
    const char *words, *domain, *place;
} firmware[] = {
    {"module", "module", "module"},          {"grace", "package", "package"},
    {"total", "package", "package"},         {"total input", "package", "package"},
    {"cpu", "core", "package"},              {"cpu rail", "core", "package"},
    {"cpu rail input", "core", "package"},   {"sysio", "uncore", "package"},
    {"soc rail", "uncore", "package"},       {"soc rail input", "uncore", "package"},
};

/* Splits "Grace Power Socket 0" into "grace" and 0. */
static bool split_firmware(const char *label, char words[SYSFS_TEXT], unsigned *socket)
{
    size_t n = 0;
    for (; label[n]; n++)
        words[n] = (char)tolower((unsigned char)label[n]);
    words[n] = '\0';
    char *power = strstr(words, " power");
    if (!power)
        return false;
    *power = '\0';
    const char *rest = power + strlen(" power");
    if (hwmon_starts(rest, " in uw"))
        rest += strlen(" in uw");
    int length = 0;
    return sscanf(rest, " socket %3u%n", socket, &length) == 1 && !rest[length];
}

static bool firmware_meaning(const char *folder, uint32_t number, hwmon_meaning *out)
{
    char words[SYSFS_TEXT], battery[SYSFS_TEXT];
    unsigned socket;
    if (sysfs_file(out->label, "%s/power%u_oem_info", folder, number) != 0)
        out->label[0] = '\0';
    bool is_battery = sysfs_file(battery, "%s/power%u_is_battery", folder, number) == 0 && strcmp(battery, "1") == 0;
    out->domain = is_battery || out->label[0] ? "supply" : "psys";
    if (split_firmware(out->label, words, &socket))
        for (size_t i = 0; i < sizeof firmware / sizeof *firmware; i++)
            if (strcmp(words, firmware[i].words) == 0) {
                out->domain = firmware[i].domain;
                sysfs_words(out->place, sizeof out->place, "%s-%u", firmware[i].place, socket);
            }
    return !out->label[0] || strcasestr(out->label, "power");
}

static void amd_energy_meaning(hwmon_meaning *out)
{
    unsigned number;
    if (sscanf(out->label, "Esocket%4u", &number) == 1) {
        out->domain = "package";
        sysfs_words(out->place, sizeof out->place, "package-%u", number);
    } else if (sscanf(out->label, "Ecore%4u", &number) == 1) {
        out->domain = "core";
        sysfs_words(out->place, sizeof out->place, "core-%u", number);
    }
}

static bool is_gpu(const char *name)
{
    static const char *const drivers[] = {"amdgpu", "radeon", "nouveau", "i915", "xe"};
    for (size_t i = 0; i < sizeof drivers / sizeof *drivers; i++)
        if (strcmp(name, drivers[i]) == 0)
            return true;
    return hwmon_starts(name, "i915_gt");
}

bool hwmon_find_meaning(const hwmon_chip *chip, const hwmon_attribute *what, hwmon_meaning *out)
{
    *out = (hwmon_meaning){.domain = "supply"};
    if (strcmp(chip->name, "power_meter") == 0)
        return firmware_meaning(chip->folder, what->number, out);
    if (sysfs_file(out->label, "%s/%s%u_label", chip->folder, what->kind, what->number) != 0)
        out->label[0] = '\0';
    if (strcmp(chip->name, "amd_energy") == 0 || strcmp(chip->name, "zenergy") == 0) {
        amd_energy_meaning(out);
    } else if (strcmp(chip->name, "amdgpu") == 0 && hwmon_has_file(chip->folder, "in1_input")) {
        out->domain = "package"; /* only APUs have a northbridge's voltage, and their power is that of CPU and GPU */
        sysfs_words(out->place, sizeof out->place, "package-0");
    } else if (is_gpu(chip->name)) {
        out->domain = "gpu";
    } else if (strcmp(chip->name, "fam15h_power") == 0) {
        out->domain = "package";
    }
    return true;
}
