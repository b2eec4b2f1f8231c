/* SPDX-License-Identifier: Apache-2.0
 *
 * Which chips and batteries the kernel shows, and by what they are known again.
 */
#include <ctype.h>
#include <dirent.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "sources/hwmon.h"

static const char *base_name(const char *path)
{
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

/* Where a link of sysfs leads; false when it is none, or leads nowhere. */
static bool follow(const char *link, char out[HWMON_PATH])
{
    char real[PATH_MAX];
    struct stat status;
    if (lstat(link, &status) != 0 || !S_ISLNK(status.st_mode) || !realpath(link, real) || strlen(real) >= HWMON_PATH)
        return false;
    memcpy(out, real, strlen(real) + 1);
    return true;
}

bool hwmon_is_battery_again(const hwmon_chip *chip)
{
    char type[SYSFS_TEXT];
    return !chip->battery && strstr(chip->home, "/power_supply/") && sysfs_file(type, "%s/type", chip->home) == 0;
}

/* "ina3221" at .../1-0040 is "ina3221-1-0040"; "amd_energy" at .../amd_energy.0 needs its name once. */
static void identify(hwmon_chip *chip)
{
    const char *device = chip->home[0] ? base_name(chip->home) : "";
    bool named = strncmp(device, chip->name, strlen(chip->name)) == 0;
    if (hwmon_is_battery_again(chip))
        sysfs_words(chip->id, sizeof chip->id, "%.24s-hwmon", chip->name);
    else if (named || !device[0])
        sysfs_words(chip->id, sizeof chip->id, "%s", named ? device : chip->name);
    else
        sysfs_words(chip->id, sizeof chip->id, "%s-%s", chip->name, device);
    for (char *at = chip->id; *at; at++)
        if (!isalnum((unsigned char)*at) && *at != '_')
            *at = '-';
}

/* Files of the driver are the chip's own, or its device's with old drivers. */
static bool describe_chip(const char *sysfs, const char *entry, hwmon_chip *chip)
{
    int length = 0;
    *chip = (hwmon_chip){0};
    if (sscanf(entry, "hwmon%9u%n", &chip->number, &length) != 1 || entry[length])
        return false;
    char device[HWMON_PATH];
    if (snprintf(chip->folder, sizeof chip->folder, "%s/class/hwmon/%s", sysfs, entry) >= (int)sizeof chip->folder ||
        snprintf(device, sizeof device, "%s/device", chip->folder) >= (int)sizeof device)
        return false;
    if (sysfs_file(chip->name, "%s/name", chip->folder) != 0 && sysfs_file(chip->name, "%s/name", device) != 0)
        return false;
    (void)follow(device, chip->home);
    identify(chip);
    return chip->name[0] != '\0';
}

/* Batteries of mice and headsets have the scope of a device, and are no part of what this machine takes. */
static bool describe_battery(const char *sysfs, const char *entry, hwmon_chip *chip)
{
    char text[SYSFS_TEXT], *folder = chip->folder;
    *chip = (hwmon_chip){.battery = true};
    if (entry[0] == '.' || snprintf(folder, HWMON_PATH, "%s/class/power_supply/%s", sysfs, entry) >= HWMON_PATH)
        return false;
    if (sysfs_file(text, "%s/type", chip->folder) != 0 || strcmp(text, "Battery") != 0)
        return false;
    if (sysfs_file(text, "%s/scope", chip->folder) == 0 && strcmp(text, "Device") == 0)
        return false;
    (void)follow(chip->folder, chip->home);
    snprintf(chip->name, sizeof chip->name, "%.64s", entry);
    identify(chip);
    return true;
}

static int by_number(const void *left, const void *right)
{
    const hwmon_chip *a = left, *b = right;
    return a->number != b->number ? (a->number > b->number) - (a->number < b->number) : strcmp(a->id, b->id);
}

static uint32_t walk(const char *sysfs, const char *class, hwmon_chip *out, uint32_t capacity,
                     bool (*describe)(const char *, const char *, hwmon_chip *))
{
    char path[HWMON_PATH];
    if (snprintf(path, sizeof path, "%s/class/%s", sysfs, class) >= (int)sizeof path)
        return 0;
    DIR *folder = opendir(path);
    uint32_t n = 0;
    for (const struct dirent *entry; folder && n < capacity && (entry = readdir(folder)) != NULL;)
        n += describe(sysfs, entry->d_name, &out[n]);
    if (folder)
        closedir(folder);
    qsort(out, n, sizeof *out, by_number);
    return n;
}

/* Chips without a device may share a name: the second is "acpitz-2". Backwards, so that those before keep theirs. */
static void number_doubles(hwmon_chip *chips, uint32_t n)
{
    for (uint32_t i = n; i-- > 1;) {
        uint32_t before = 0;
        for (uint32_t j = 0; j < i; j++)
            before += strcmp(chips[j].id, chips[i].id) == 0;
        size_t length = strlen(chips[i].id), most = sizeof chips[i].id - sizeof "-99";
        if (before)
            snprintf(&chips[i].id[length < most ? length : most], sizeof "-99", "-%u", (before + 1) % 100);
    }
}

uint32_t hwmon_find(const char *sysfs, hwmon_chip out[HWMON_CHIPS_MAX])
{
    uint32_t n = walk(sysfs, "hwmon", out, HWMON_CHIPS_MAX, describe_chip);
    n += walk(sysfs, "power_supply", out + n, HWMON_CHIPS_MAX - n, describe_battery);
    number_doubles(out, n);
    return n;
}
