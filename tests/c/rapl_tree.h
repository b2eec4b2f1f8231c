/* SPDX-License-Identifier: Apache-2.0
 *
 * A made /sys and /dev with counters of energy, and a package opened on them.
 */
#ifndef PS_TEST_RAPL_TREE_H
#define PS_TEST_RAPL_TREE_H

#include <errno.h>
#include <stdbool.h>

#include "core/source.h"
#include "sources/rapl_decode.h"
#include "sources/sysfs.h"
#include "tree.h"

static inline void put_zone(const char *zone, const char *name, const char *energy, const char *range)
{
    put(name, "class/powercap/%s/name", zone);
    put(energy, "class/powercap/%s/energy_uj", zone);
    put(range, "class/powercap/%s/max_energy_range_uj", zone);
}

static inline void put_event(const char *event, const char *code, const char *unit)
{
    put(code, "bus/event_source/devices/power/events/%s", event);
    put("1.0e-9\n", "bus/event_source/devices/power/events/%s.scale", event);
    put(unit, "bus/event_source/devices/power/events/%s.unit", event);
}

static inline void put_topology(int cpu, const char *what, unsigned number)
{
    char text[16];
    snprintf(text, sizeof text, "%u\n", number);
    put(text, "devices/system/cpu/cpu%d/topology/%s", cpu, what);
}

static inline void put_pmu(const char *type, const char *cpumask)
{
    put(type, "bus/event_source/devices/power/type");
    put(cpumask, "bus/event_source/devices/power/cpumask");
    put_topology(0, "physical_package_id", 0);
}

/* By perf_event_paranoid, by a container's system call filter, or where an emulator or sandbox has no such call. */
static inline bool perf_is_closed(int code)
{
    return code == EACCES || code == EPERM || code == ENOSYS;
}

static inline void put_processor(unsigned vendor, unsigned family, unsigned model)
{
    char text[64];
    snprintf(text, sizeof text, "cpu:type:x86,ven%04Xfam%04Xmod%04X:feature:,0000,0001\n", vendor, family, model);
    put(text, "devices/system/cpu/modalias");
}

static inline void put_cpu(int cpu, unsigned package, unsigned die, unsigned core)
{
    put_topology(cpu, "physical_package_id", package);
    put_topology(cpu, "die_id", die);
    put_topology(cpu, "core_id", core);
}

static inline const char *devfs(void)
{
    static char path[sizeof root + 8];
    snprintf(path, sizeof path, "%s/dev", root);
    return path;
}

static inline const char *node(int cpu)
{
    static char path[sizeof root + 32];
    snprintf(path, sizeof path, "%s/dev/cpu/%d/msr", root, cpu);
    return path;
}

/* Registers lie at byte offset number * 8; what was not put reads as 0, or as nothing behind the last. */
static inline void put_register(int cpu, uint32_t number, uint64_t word)
{
    int fd = open(node(cpu), O_WRONLY);
    if (fd < 0) {
        put("", "dev/cpu/%d/msr", cpu);
        fd = open(node(cpu), O_WRONLY);
    }
    REQUIRE(fd >= 0 && pwrite(fd, &word, sizeof word, (off_t)number * 8) == (ssize_t)sizeof word);
    close(fd);
}

static inline const ps_channel *find(const ps_source *source, const char *name)
{
    for (uint32_t i = 0; i < source->n_channels; i++)
        if (strcmp(source->channels[i].name, name) == 0)
            return &source->channels[i];
    fprintf(stderr, "%s has no %s\n", source->name, name);
    exit(1);
}

static inline ps_reading read_group(ps_source *source, uint32_t group)
{
    ps_reading readings[PS_GROUP_MAX];
    CHECK_EQ(1, source->ops->read(source, group, 0, readings));
    return readings[0];
}

static inline ps_reading read_named(ps_source *source, const char *name)
{
    const ps_channel *channel = find(source, name);
    ps_reading reading = read_group(source, channel->group);
    CHECK_EQ(channel - source->channels, reading.channel);
    return reading;
}

static inline ps_source *open_package_at(const char *dev, uint32_t package, ps_rapl_opening *opening)
{
    ps_source *source = NULL;
    ps_error error = {0};
    if (ps_rapl_open(root, dev, package, &source, opening, &error) != PS_OK) {
        fprintf(stderr, "package %u: %s: %s\n", package, error.call, error.text);
        exit(1);
    }
    return source;
}

static inline ps_source *open_package(uint32_t package, ps_rapl_opening *opening)
{
    return open_package_at(NULL, package, opening);
}

#endif
