/* SPDX-License-Identifier: Apache-2.0
 *
 * A made /sys with hwmon chips, each with the files its driver makes. Errors that a plain file cannot give come from this
 * program's own pread.
 */
#ifndef PS_TEST_HWMON_TREE_H
#define PS_TEST_HWMON_TREE_H

#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "core/source.h"
#include "harness.h"
#include "tree.h"

static int failing_fd = -1, failing_errno;
static int slow_fd = -1; /* takes as long as an ACPI method may */

/* Stands before libc's: reads of one descriptor fail as a driver's would, those of another take their time. */
ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
    if (fd == failing_fd) {
        errno = failing_errno;
        return -1;
    }
    if (fd == slow_fd)
        harness_sleep_ms(50);
    return syscall(SYS_pread64, fd, buffer, size, offset);
}

/* The descriptor that is open on a file below the root. */
static inline int descriptor_of(const char *file)
{
    char path[PATH_MAX];
    struct stat wanted, open_one;
    snprintf(path, sizeof path, "%s/%s", root, file);
    REQUIRE(stat(path, &wanted) == 0);
    for (int fd = 3; fd < 256; fd++)
        if (fstat(fd, &open_one) == 0 && open_one.st_ino == wanted.st_ino && open_one.st_dev == wanted.st_dev)
            return fd;
    fprintf(stderr, "%s is not open\n", file);
    exit(1);
}

static inline void put_folder(const char *folder)
{
    put("", "%s/uevent", folder);
}

static inline void put_link(const char *target, const char *name)
{
    char path[PATH_MAX], to[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root, name);
    snprintf(to, sizeof to, "%s/%s", root, target);
    REQUIRE(symlink(to, path) == 0);
}

/* A chip with its device: class/hwmon/hwmonN/name and a link to devices/DEVICE. */
static inline void put_chip(unsigned number, const char *name, const char *device)
{
    char link[64], folder[128];
    put(name, "class/hwmon/hwmon%u/name", number);
    if (!device)
        return;
    snprintf(folder, sizeof folder, "devices/%s", device);
    snprintf(link, sizeof link, "class/hwmon/hwmon%u/device", number);
    put_folder(folder);
    put_link(folder, link);
}

static inline ps_source *open_chip(const char *id, ps_hwmon_opening *opening)
{
    ps_source *source = NULL;
    ps_error error = {0};
    if (ps_hwmon_open(root, id, &source, opening, &error) != PS_OK) {
        fprintf(stderr, "%s: %s: %s\n", id, error.call, error.text);
        exit(1);
    }
    return source;
}

static inline const ps_channel *find(const ps_source *source, const char *name)
{
    for (uint32_t i = 0; i < source->n_channels; i++)
        if (strcmp(source->channels[i].name, name) == 0)
            return &source->channels[i];
    fprintf(stderr, "%s has no %s; it has", source->name, name);
    for (uint32_t i = 0; i < source->n_channels; i++)
        fprintf(stderr, " %s", source->channels[i].name);
    fprintf(stderr, "\n");
    exit(1);
}

static inline ps_reading read_named(ps_source *source, const char *name)
{
    const ps_channel *channel = find(source, name);
    ps_reading readings[PS_GROUP_MAX];
    uint32_t n = source->ops->read(source, channel->group, 0, readings);
    for (uint32_t i = 0; i < n; i++)
        if (readings[i].channel == channel - source->channels)
            return readings[i];
    fprintf(stderr, "%s: its group does not read it\n", name);
    exit(1);
}

static inline double max_hz(const ps_source *source, const char *name)
{
    return source->groups[find(source, name)->group].max_hz;
}

#define CHECK_CHANNEL(source, name, domain_, device_, sensor_)      \
    do {                                                            \
        const ps_channel *channel_ = find(source, name);            \
        CHECK_EQ(0, strcmp(domain_, channel_->domain));             \
        CHECK_EQ(0, strcmp(device_, channel_->device));             \
        CHECK_EQ(0, strcmp(sensor_, channel_->sensor));             \
    } while (0)

/* An NVIDIA Jetson: three rails, of which one is switched off; in4 to in7 and curr4 must not be multiplied. */
static inline void put_ina3221(unsigned number)
{
    put_chip(number, "ina3221\n", "i2c-1/1-0040");
    put("VDD_IN\n", "class/hwmon/hwmon%u/in1_label", number);
    put("VDD_CPU_GPU CV\n", "class/hwmon/hwmon%u/in2_label", number);
    for (int rail = 1; rail <= 3; rail++) {
        put(rail == 3 ? "0\n" : "1\n", "class/hwmon/hwmon%u/in%d_enable", number, rail);
        put("5000\n", "class/hwmon/hwmon%u/in%d_input", number, rail);
        put("1500\n", "class/hwmon/hwmon%u/curr%d_input", number, rail);
        put("7\n", "class/hwmon/hwmon%u/in%d_input", number, rail + 3);
    }
    put("21\n", "class/hwmon/hwmon%u/in7_input", number);
    put("sum of shunt voltages\n", "class/hwmon/hwmon%u/in7_label", number);
    put("4500\n", "class/hwmon/hwmon%u/curr4_input", number);
}

static inline void put_meter(unsigned number, const char *oem, const char *interval)
{
    char device[64];
    snprintf(device, sizeof device, "LNXSYSTM:00/ACPI000D:%02u", number);
    put_chip(number, "power_meter\n", device);
    put("90000000\n", "devices/%s/power1_average", device); /* where the driver put it before Linux 6.14 */
    put(interval, "devices/%s/power1_average_interval", device);
    put("0\n", "devices/%s/power1_is_battery", device);
    put(oem, "devices/%s/power1_oem_info", device);
}

#endif
