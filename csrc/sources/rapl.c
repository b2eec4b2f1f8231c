/* SPDX-License-Identifier: Apache-2.0
 *
 * Which packages there are, and by which route each of their domains is read: perf, else powercap, else the registers.
 * Only ever one route a domain: the same joules must not appear twice.
 */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/pace.h"
#include "sources/rapl.h"

enum { LOOKS = 50, LOOK_NS = 1000 * 1000 };

static const rapl_route *const routes[PS_RAPL_ROUTES] = {
    [PS_RAPL_PERF] = &rapl_perf, [PS_RAPL_POWERCAP] = &rapl_powercap, [PS_RAPL_MSR] = &rapl_msr};

/* ---- for the routes ---- */

void rapl_refuse(rapl_part *part, uint32_t domains, int status, int vendor, const char *call, const char *format, ...)
{
    char text[sizeof part->refused->text];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        if ((domains & 1u << domain) && part->refused[domain].status == PS_OK)
            (void)ps_fail(&part->refused[domain], status, vendor, call, "%s", text);
}

void rapl_add_package(uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count, uint32_t package)
{
    uint32_t at = 0;
    while (at < *count && list[at] < package)
        at++;
    if ((at < *count && list[at] == package) || *count == RAPL_PACKAGES_MAX)
        return;
    memmove(&list[at + 1], &list[at], (*count - at) * sizeof *list);
    list[at] = package;
    (*count)++;
}

void rapl_describe(ps_channel *channel, const char *place, int domain, const char *route, const char *sensor)
{
    const char *name = rapl_domain_name(domain);
    const char *device = domain == PS_RAPL_PSYS ? name : place;
    bool whole = domain == PS_RAPL_PACKAGE || domain == PS_RAPL_PSYS; /* the place itself */
    snprintf(channel->name, sizeof channel->name, "%s%s%s.energy", device, whole ? "" : ".", whole ? "" : name);
    snprintf(channel->device, sizeof channel->device, "%s", device);
    snprintf(channel->domain, sizeof channel->domain, "%s", name);
    snprintf(channel->unit, sizeof channel->unit, "J");
    snprintf(channel->sensor, sizeof channel->sensor, "%s.%s", route, sensor);
    channel->kind = PS_KIND_ENERGY;
    channel->divisor = 1;
}

void rapl_name_place(char out[48], uint32_t package, uint32_t die, uint32_t n_dies)
{
    if (n_dies > 1)
        snprintf(out, 48, "package-%u-die-%u", package, die);
    else
        snprintf(out, 48, "package-%u", package);
}

/* ---- which packages ---- */

static bool is_own(const char *root, const char *kernels)
{
    return root && strcmp(root, kernels) != 0;
}

rapl_machine rapl_look(const char *sysfs, const char *devfs)
{
    rapl_machine machine = {.sysfs = sysfs ? sysfs : "/sys", .devfs = devfs};
    /* Another tree's topology says nothing about this machine's registers. */
    if (!devfs && !is_own(sysfs, "/sys"))
        machine.devfs = "/dev";
    char modalias[SYSFS_TEXT];
    rapl_processor processor;
    if (sysfs_file(modalias, "%s/devices/system/cpu/modalias", machine.sysfs) == 0 &&
        rapl_parse_processor(modalias, &processor)) {
        machine.model = rapl_find_model(&processor);
        machine.per_package = rapl_counts_per_package(&processor);
    }
    return machine;
}

static uint32_t find_packages(const rapl_machine *machine, uint32_t list[RAPL_PACKAGES_MAX])
{
    uint32_t count = 0;
    for (int i = 0; i < PS_RAPL_ROUTES; i++)
        routes[i]->packages(machine, list, &count);
    return count;
}

int ps_rapl_packages(const char *sysfs, const char *devfs, uint32_t *out, uint32_t capacity, uint32_t *count,
                     ps_error *error)
{
    if (!count || (capacity && !out))
        return ps_fail(error, PS_E_INVALID, 0, "ps_rapl_packages", "nowhere to return them");
    uint32_t list[RAPL_PACKAGES_MAX];
    rapl_machine machine = rapl_look(sysfs, devfs);
    uint32_t found = find_packages(&machine, list);
    if (!found)
        return ps_fail(error, PS_E_NOT_FOUND, 0, "ps_rapl_packages",
                       "no intel-rapl zone in %.64s/class/powercap, no perf PMU named power, no cpu/N/msr in %.40s",
                       machine.sysfs, machine.devfs ? machine.devfs : "a named devfs");
    *count = found;
    for (uint32_t i = 0; i < found && i < capacity; i++)
        out[i] = list[i];
    return PS_OK;
}

/* ---- opening one ---- */

/* Hypervisors offer counters and leave them at 0. */
static uint64_t watch(ps_source *source)
{
    int64_t first[RAPL_CHANNELS_MAX] = {0};
    uint64_t known = 0, moved = 0, all = (UINT64_C(1) << source->n_channels) - 1;
    for (int look = 0; look <= LOOKS && moved != all; look++) {
        if (look)
            ps_pace_sleep(LOOK_NS);
        for (uint32_t group = 0; group < source->n_groups; group++) {
            ps_reading readings[PS_GROUP_MAX];
            uint32_t n = source->ops->read(source, group, 0, readings);
            for (const ps_reading *one = readings; one < readings + n; one++) {
                uint64_t bit = UINT64_C(1) << one->channel;
                if (one->status)
                    continue;
                if (!(known & bit))
                    first[one->channel] = one->raw;
                known |= bit;
                uint64_t modulus = source->channels[one->channel].modulus;
                if (rapl_gained((uint64_t)first[one->channel], (uint64_t)one->raw, modulus))
                    moved |= bit;
            }
        }
    }
    return moved;
}

/* What stands in the way of the package's own energy; what may not be read says more than what is not there. */
static const ps_error *main_obstacle(const ps_rapl_opening *opening)
{
    const ps_error *told = &opening->refused[PS_RAPL_PACKAGE][PS_RAPL_POWERCAP];
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        for (int route = 0; route < PS_RAPL_ROUTES; route++) {
            const ps_error *one = &opening->refused[domain][route];
            if (told->status == PS_E_NOT_FOUND && one->status != PS_OK && one->status != PS_E_NOT_FOUND)
                told = one;
        }
    return told;
}

int ps_rapl_open(const char *sysfs, const char *devfs, uint32_t package, ps_source **out, ps_rapl_opening *opening,
                 ps_error *error)
{
    if (!out || !opening)
        return ps_fail(error, PS_E_INVALID, 0, "ps_rapl_open", "nowhere to return it");
    rapl_machine machine = rapl_look(sysfs, devfs);
    uint32_t list[RAPL_PACKAGES_MAX];
    uint32_t wanted = RAPL_ALL_DOMAINS;
    if (!find_packages(&machine, list) || list[0] != package)
        wanted &= ~(1u << PS_RAPL_PSYS); /* the platform's counter goes with the first */
    *opening = (ps_rapl_opening){.cpu = -1};
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        opening->route[domain] = -1;

    rapl_part parts[PS_RAPL_ROUTES];
    uint32_t n_parts = 0;
    for (int route = 0; route < PS_RAPL_ROUTES && wanted; route++) {
        rapl_part *part = &parts[n_parts];
        *part = (rapl_part){.cpu = -1};
        routes[route]->open(&machine, package, wanted, part);
        for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++) {
            opening->refused[domain][route] = part->refused[domain];
            if (part->domains & 1u << domain)
                opening->route[domain] = route;
        }
        wanted &= ~part->domains;
        if (opening->cpu < 0)
            opening->cpu = part->cpu;
        n_parts += part->source != NULL;
    }
    if (!n_parts) {
        const ps_error *told = main_obstacle(opening);
        return ps_fail(error, told->status, told->vendor, told->call, "%s", told->text);
    }
    ps_source *source;
    int status = rapl_compose(parts, n_parts, &source);
    if (status != PS_OK) {
        for (uint32_t i = 0; i < n_parts; i++)
            ps_source_free(parts[i].source);
        return ps_fail(error, status, 0, "ps_rapl_open", "package-%u", package);
    }
    for (uint32_t i = 0; i < source->n_groups; i++)
        if (source->groups[i].min_hz > opening->min_hz)
            opening->min_hz = source->groups[i].min_hz;
    /* A batch system or taskset leaves a job a part of the machine. */
    opening->cpu = rapl_cpu_allowed(machine.sysfs, package, opening->cpu);
    char marker[SYSFS_TEXT];
    if (sysfs_file(marker, "%s/powersample-simulated", machine.sysfs) == 0)
        opening->cpu = -1; /* of a simulated node no CPU of this machine is the nearest */
    opening->moved = watch(source);
    *out = source;
    return PS_OK;
}
