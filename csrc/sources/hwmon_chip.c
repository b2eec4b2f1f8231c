/* SPDX-License-Identifier: Apache-2.0
 *
 * From a chip's files to channels: names, units, over how long each value averages, and how often it tells anything
 * new. Energies are counters of 64 bits, which drivers extend from the hardware's 32 where those are fewer: they do not
 * wrap, and a step back means that the driver began anew.
 *
 * Sources: Documentation/hwmon/sysfs-interface.rst, ina3221.rst and ina2xx.rst, and
 * Documentation/ABI/testing/sysfs-class-power of the kernel.
 */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sources/hwmon.h"

#define MAX_HZ 100.0
#define BATTERY_MAX_HZ 3.0 /* ACPI's driver looks once a second */
/* Two polls an update leave it to chance which of them sees it first; with three the update's instant is known. */
#define POLLS_AN_UPDATE 3.0

enum { INTERVAL_MAX_MS = 3600 * 1000, LABEL = 20 };

/* ---- words ---- */

static void leave_out(ps_hwmon_opening *opening, const char *file, const char *format, ...)
    __attribute__((format(printf, 3, 4)));

static void leave_out(ps_hwmon_opening *opening, const char *file, const char *format, ...)
{
    if (opening->n_refused < PS_HWMON_REFUSED) {
        char text[sizeof opening->refused->text];
        va_list arguments;
        va_start(arguments, format);
        vsnprintf(text, sizeof text, format, arguments);
        va_end(arguments);
        (void)ps_fail(&opening->refused[opening->n_refused], PS_E_UNSUPPORTED, 0, file, "%s", text);
    }
    opening->n_refused++;
}

/* A label as a word of a channel's name: "VDD GPU/SOC" is "vdd-gpu-soc". */
static void make_word(const char *label, char out[LABEL])
{
    size_t n = 0;
    for (; *label && n < LABEL - 1; label++) {
        if (isalnum((unsigned char)*label) || *label == '_')
            out[n++] = (char)tolower((unsigned char)*label);
        else if (n && out[n - 1] != '-')
            out[n++] = '-';
    }
    while (n && out[n - 1] == '-')
        n--;
    out[n] = '\0';
}

/* ---- channels ---- */

static bool has_name(const hwmon *self, const char *name)
{
    for (uint32_t i = 0; i < self->base.n_channels; i++)
        if (strcmp(self->channels[i].name, name) == 0)
            return true;
    return false;
}

/* package-0.amd_energy-0.energy, ina3221-1-0040.vdd_in.power, package-0.power_meter-ACPI000D-02.core.power.average */
static void name_channel(const hwmon *self, ps_channel *channel, const hwmon_meaning *of, uint32_t number,
                         const char *quantity)
{
    const char *id = self->chip.id;
    char part[LABEL];
    make_word(of->label, part);
    bool whole = strcmp(of->domain, "package") == 0 || strcmp(of->domain, "module") == 0;
    if (of->place[0]) {
        whole = whole || hwmon_starts(of->place, of->domain);
        sysfs_words(channel->name, sizeof channel->name, "%s.%s%s%s.%s", of->place, id, whole ? "" : ".",
                 whole ? "" : of->domain, quantity);
        sysfs_words(channel->device, sizeof channel->device, "%s", of->place);
    } else {
        if (!part[0] && number > 1)
            snprintf(part, sizeof part, "%u", number);
        sysfs_words(channel->name, sizeof channel->name, "%s%s%s.%s", id, part[0] ? "." : "", part, quantity);
        /* Rails of a board are apart; all that a GPU measures is one GPU's. */
        bool apart = strcmp(of->domain, "supply") == 0 && part[0];
        const char *device = strrchr(self->chip.home, '/');
        if (strcmp(of->domain, "gpu") == 0 && device)
            sysfs_words(channel->device, sizeof channel->device, "%s", device + 1);
        else
            sysfs_words(channel->device, sizeof channel->device, "%s%s%s", id, apart ? ":" : "",
                     !apart ? "" : of->label[0] ? of->label : part);
    }
    if (has_name(self, channel->name)) /* a label used twice */
        sysfs_words(channel->name, sizeof channel->name, "%s.%u.%s", id, number, quantity);
}

static ps_channel *new_channel(hwmon *self, int32_t kind)
{
    ps_channel *channel = &self->channels[self->base.n_channels];
    channel->kind = kind;
    channel->divisor = 1;
    channel->group = self->base.n_groups;
    channel->scale = 1e-6;
    sysfs_words(channel->unit, sizeof channel->unit, "%s", kind == PS_KIND_ENERGY ? "J" : "W");
    return channel;
}

static hwmon_input *new_input(hwmon *self, enum hwmon_form form, double max_hz)
{
    self->groups[self->base.n_groups] = (ps_group){.max_hz = max_hz, .divisor = 1};
    hwmon_input *input = &self->inputs[self->base.n_groups];
    *input = (hwmon_input){.form = form, .channel = (uint16_t)self->base.n_channels, .closed = ENOENT};
    for (int i = 0; i < HWMON_FILES; i++)
        input->fd[i] = -1;
    return input;
}

static uint64_t interval_ms(const char *folder, const char *file)
{
    char text[SYSFS_TEXT];
    uint64_t ms;
    if (sysfs_file(text, "%s/%s", folder, file) != 0 || !sysfs_number(text, 10, &ms) || ms > INTERVAL_MAX_MS)
        return 0;
    return ms;
}

static double rate_for(uint64_t ms)
{
    double hz = ms ? POLLS_AN_UPDATE * 1000 / (double)ms : MAX_HZ;
    return hz < MAX_HZ ? hz : MAX_HZ;
}

static bool is_switched_off(const char *folder, const hwmon_attribute *what, ps_hwmon_opening *opening)
{
    char file[HWMON_FILE], text[SYSFS_TEXT];
    sysfs_words(file, sizeof file, "%s%u_enable", what->kind, what->number);
    if (sysfs_file(text, "%s/%s", folder, file) != 0 || strcmp(text, "0") != 0)
        return false;
    leave_out(opening, file, "it is switched off (0)");
    return true;
}

static void name_sensor(const hwmon *self, ps_channel *channel, const char *file, const hwmon_meaning *of)
{
    sysfs_words(channel->sensor, sizeof channel->sensor, "hwmon.%.20s.%s%s%s", self->chip.name, file,
                of->label[0] ? ":" : "", of->label);
}

/* One file, or for "in" the voltage of a channel and its current. */
static void add_attribute(hwmon *self, const hwmon_attribute *what, ps_hwmon_opening *opening)
{
    const char *folder = self->chip.folder;
    bool energy = strcmp(what->kind, "energy") == 0, product = strcmp(what->kind, "in") == 0;
    char file[HWMON_FILE], interval[HWMON_FILE * 2], sensor[2 * HWMON_FILE];
    hwmon_meaning of;
    sysfs_words(file, sizeof file, "%s%u_%s", what->kind, what->number, what->average ? "average" : "input");
    if (is_switched_off(folder, what, opening))
        return;
    if (!hwmon_find_meaning(&self->chip, what, &of)) {
        leave_out(opening, file, "\"%.64s\" is no power", of.label);
        return;
    }
    snprintf(interval, sizeof interval, "%s_interval", file);
    uint64_t span_ms = what->average ? interval_ms(folder, interval) : 0;
    double max_hz = rate_for(span_ms ? span_ms : interval_ms(folder, "update_interval"));

    hwmon_input *input = new_input(self, energy ? HWMON_ENERGY : product ? HWMON_PRODUCT : HWMON_POWER, max_hz);
    snprintf(input->file[0], sizeof input->file[0], "%s", file);
    snprintf(sensor, sizeof sensor, "%s", file);
    if (product) {
        snprintf(input->file[1], sizeof input->file[1], "curr%u_input", what->number);
        snprintf(sensor, sizeof sensor, "in%u*curr%u", what->number, what->number);
    }
    ps_channel *channel = new_channel(self, energy ? PS_KIND_ENERGY : PS_KIND_POWER);
    const char *quantity = energy ? "energy" : product ? "power" : what->average ? "power.average" : "power.instant";
    name_channel(self, channel, &of, what->number, quantity);
    name_sensor(self, channel, sensor, &of);
    sysfs_words(channel->domain, sizeof channel->domain, "%s", of.domain);
    channel->span_ns = (int64_t)span_ms * 1000000;
    self->base.n_channels++;
    self->base.n_groups++;
}

/* ---- files ---- */

static bool parse_attribute(const char *entry, hwmon_attribute *out)
{
    static const char *const kinds[] = {"power", "energy"};
    for (size_t i = 0; i < sizeof kinds / sizeof *kinds; i++) {
        int length = 0;
        *out = (hwmon_attribute){0};
        snprintf(out->kind, sizeof out->kind, "%s", kinds[i]);
        if (!hwmon_starts(entry, kinds[i]))
            continue;
        const char *rest = entry + strlen(kinds[i]);
        if (sscanf(rest, "%4u_%n", &out->number, &length) != 1 || !length)
            return false;
        rest += length;
        out->average = i == 0 && strcmp(rest, "average") == 0;
        return out->average || strcmp(rest, "input") == 0;
    }
    return false;
}

static int by_kind(const void *left, const void *right)
{
    const hwmon_attribute *a = left, *b = right;
    int kind = -strcmp(a->kind, b->kind); /* power first */
    if (kind)
        return kind;
    return a->number != b->number ? (a->number > b->number) - (a->number < b->number) : a->average - b->average;
}

static uint32_t find_attributes(const char *path, hwmon_attribute out[HWMON_INPUTS_MAX], ps_hwmon_opening *opening)
{
    DIR *folder = opendir(path);
    hwmon_attribute found;
    uint32_t n = 0;
    for (const struct dirent *entry; folder && (entry = readdir(folder)) != NULL;) {
        if (!parse_attribute(entry->d_name, &found))
            continue;
        if (n < HWMON_INPUTS_MAX)
            out[n++] = found;
        else
            leave_out(opening, entry->d_name, "the chip has more than %d files", HWMON_INPUTS_MAX);
    }
    if (folder)
        closedir(folder);
    qsort(out, n, sizeof *out, by_kind);
    return n;
}

/* INA chips without power: the bus voltage and the current of a channel. in4 to in7 of an INA3221 are voltages over
 * shunts and their sum, as curr4 is a sum; in0 of the others is the shunt's. */
static uint32_t find_products(const hwmon_chip *chip, hwmon_attribute out[HWMON_INPUTS_MAX])
{
    if (!hwmon_starts(chip->name, "ina"))
        return 0;
    const uint32_t last = strcmp(chip->name, "ina3221") == 0 ? 3 : 1;
    uint32_t n = 0;
    for (uint32_t number = 1; number <= last; number++) {
        char voltage[HWMON_FILE], current[HWMON_FILE];
        snprintf(voltage, sizeof voltage, "in%u_input", number);
        snprintf(current, sizeof current, "curr%u_input", number);
        if (hwmon_has_file(chip->folder, voltage) && hwmon_has_file(chip->folder, current))
            out[n++] = (hwmon_attribute){.kind = "in", .number = number};
    }
    return n;
}

/* Looks in the chip's own folder, then in its device's, and keeps to where something is. */
static uint32_t find_all(hwmon_chip *chip, hwmon_attribute out[HWMON_INPUTS_MAX], ps_hwmon_opening *opening)
{
    uint32_t n = find_attributes(chip->folder, out, opening);
    if (!n)
        n = find_products(chip, out);
    char device[HWMON_PATH];
    if (n || snprintf(device, sizeof device, "%s/device", chip->folder) >= (int)sizeof device)
        return n;
    n = find_attributes(device, out, opening);
    if (n)
        memcpy(chip->folder, device, sizeof device);
    return n;
}

/* Power out of the battery: what the machine takes while it discharges, negative while it is charged. The status goes
 * with it. */
static void describe_battery(hwmon *self, ps_hwmon_opening *opening)
{
    const char *folder = self->chip.folder, *id = self->chip.id;
    bool power = hwmon_has_file(folder, "power_now");
    if (!power && !(hwmon_has_file(folder, "voltage_now") && hwmon_has_file(folder, "current_now"))) {
        leave_out(opening, "power_now", "there is neither power_now nor voltage_now with current_now");
        return;
    }
    const char *sensor = power ? "power_now" : "voltage_now*current_now";
    hwmon_input *input = new_input(self, power ? HWMON_BATTERY : HWMON_BATTERY_PRODUCT, BATTERY_MAX_HZ);
    snprintf(input->file[0], HWMON_FILE, "%s", power ? "power_now" : "voltage_now");
    snprintf(input->file[1], HWMON_FILE, "%s", power ? "" : "current_now");
    snprintf(input->file[2], HWMON_FILE, "status");
    for (int i = 0; i < 2; i++) {
        ps_channel *channel = new_channel(self, i ? PS_KIND_AUX : PS_KIND_POWER);
        sysfs_words(channel->name, sizeof channel->name, "%s.%s", id, i ? "status" : "power");
        sysfs_words(channel->device, sizeof channel->device, "%s", id);
        sysfs_words(channel->domain, sizeof channel->domain, "supply");
        sysfs_words(channel->sensor, sizeof channel->sensor, "power_supply.%s.%s", id, i ? "status" : sensor);
        if (i) {
            channel->scale = 1;
            sysfs_words(channel->unit, sizeof channel->unit, "1");
        }
        self->base.n_channels++;
    }
    self->base.n_groups++;
}

void hwmon_describe(hwmon *self, ps_hwmon_opening *opening)
{
    if (self->chip.battery) {
        describe_battery(self, opening);
        return;
    }
    hwmon_attribute found[HWMON_INPUTS_MAX];
    uint32_t n = find_all(&self->chip, found, opening);
    if (n && hwmon_is_battery_again(&self->chip)) {
        leave_out(opening, "power1_input", "it is shown once more as the power supply %.64s",
                  strrchr(self->chip.home, '/') + 1);
        return;
    }
    for (uint32_t i = 0; i < n; i++)
        add_attribute(self, &found[i], opening);
}
