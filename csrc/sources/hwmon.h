/* SPDX-License-Identifier: Apache-2.0
 *
 * What the parts of the hwmon source share: a chip as found, and the files of it that are read.
 */
#ifndef PS_HWMON_H
#define PS_HWMON_H

#include <stdbool.h>

#include "core/source.h"
#include "sources/backoff.h"
#include "sources/sysfs.h"

enum {
    HWMON_CHIPS_MAX = 512, /* every disk, DIMM and network port is one */
    HWMON_INPUTS_MAX = 512, /* zenergy has a file a core */
    HWMON_PATH = 512,
    HWMON_FILES = 3,
    HWMON_FILE = 32
};

/* A chip as found. Its place moves with every plugging in (hwmon3, later hwmon5), its device's path does not. */
typedef struct hwmon_chip {
    char folder[HWMON_PATH]; /* of its attributes: .../hwmon3, or .../hwmon3/device with old drivers */
    char home[HWMON_PATH];   /* where its device really is; "" when it has none */
    char name[SYSFS_TEXT];   /* the driver's word: "ina3221"; of a battery "BAT0" */
    char id[sizeof((ps_hwmon_chip *)0)->id];
    uint32_t number;
    bool battery;
} hwmon_chip;

enum hwmon_form {
    HWMON_POWER,   /* uW; may be negative where current can flow both ways */
    HWMON_ENERGY,  /* uJ, a counter */
    HWMON_PRODUCT, /* mV, mA */
    HWMON_BATTERY, /* uW and status: two channels */
    HWMON_BATTERY_PRODUCT /* uV, uA and status: two channels */
};

/* What one call reads: one file, or two that are multiplied; a battery's status goes with its power. */
typedef struct hwmon_input {
    char file[HWMON_FILES][HWMON_FILE]; /* below the folder; "" for none */
    int fd[HWMON_FILES];
    enum hwmon_form form;
    uint16_t channel; /* the first that it fills */
    uint16_t closed;  /* why its files are not open, or 0 */
    uint16_t status;  /* of the last call */
} hwmon_input;

typedef struct hwmon {
    ps_source base; /* first */
    char sysfs[HWMON_PATH];
    hwmon_chip chip;
    int awake_fd; /* its device's runtime_status; -1 when that never sleeps */
    backoff again;
    hwmon_input inputs[HWMON_INPUTS_MAX];
    ps_group groups[HWMON_INPUTS_MAX];
    ps_channel channels[HWMON_INPUTS_MAX];
} hwmon;

/* An attribute as found: power2_average. */
typedef struct hwmon_attribute {
    char kind[8]; /* power, energy; in, for a voltage to be multiplied with its current */
    uint32_t number;
    bool average;
} hwmon_attribute;

/* What an attribute's values are of. */
typedef struct hwmon_meaning {
    const char *domain;
    char place[24];         /* "package-0", where it is no part of the chip itself; "" where it is */
    char label[SYSFS_TEXT]; /* the maker's word for it; "" */
} hwmon_meaning;

/* All chips and batteries in the order of the kernel's numbers, batteries last, whatever they measure. */
uint32_t hwmon_find(const char *sysfs, hwmon_chip out[HWMON_CHIPS_MAX]);

/* The kernel shows every battery once more as a chip. */
bool hwmon_is_battery_again(const hwmon_chip *chip);
bool hwmon_starts(const char *text, const char *with);
bool hwmon_has_file(const char *folder, const char *file); /* without reading it */
/* Returns false when the file holds something else than power or energy. */
bool hwmon_find_meaning(const hwmon_chip *chip, const hwmon_attribute *what, hwmon_meaning *out);

/* Makes channels and inputs, still closed, of what the chip measures; what it has and is not read goes to `opening`. */
void hwmon_describe(hwmon *self, ps_hwmon_opening *opening);

#endif
