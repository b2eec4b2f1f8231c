/* SPDX-License-Identifier: Apache-2.0
 *
 * Which packages there are, and by which route each is read. Only ever one route a package: the same joules must not
 * appear twice.
 */
#include <stdio.h>
#include <string.h>

#include "core/pace.h"
#include "sources/rapl.h"

enum { LOOKS = 50, LOOK_NS = 1000 * 1000 };

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

void rapl_describe(ps_channel *channel, const char *place, const char *domain, const char *route, const char *sensor)
{
    bool whole = strcmp(domain, "package") == 0 || strcmp(domain, "psys") == 0; /* the place itself */
    snprintf(channel->name, sizeof channel->name, "%s%s%s.energy", place, whole ? "" : ".", whole ? "" : domain);
    snprintf(channel->device, sizeof channel->device, "%s", place);
    snprintf(channel->domain, sizeof channel->domain, "%s", domain);
    snprintf(channel->unit, sizeof channel->unit, "J");
    snprintf(channel->sensor, sizeof channel->sensor, "%s.%s", route, sensor);
    channel->kind = PS_KIND_ENERGY;
    channel->divisor = 1;
}

static uint32_t find_packages(const char *sysfs, uint32_t list[RAPL_PACKAGES_MAX])
{
    uint32_t count = 0;
    rapl_perf_packages(sysfs, list, &count);
    rapl_powercap_packages(sysfs, list, &count);
    return count;
}

int ps_rapl_packages(const char *sysfs, uint32_t *out, uint32_t capacity, uint32_t *count, ps_error *error)
{
    if (!count || (capacity && !out))
        return ps_fail(error, PS_E_INVALID, 0, "ps_rapl_packages", "nowhere to return them");
    uint32_t list[RAPL_PACKAGES_MAX];
    const char *root = sysfs ? sysfs : "/sys";
    uint32_t found = find_packages(root, list);
    if (!found)
        return ps_fail(error, PS_E_NOT_FOUND, 0, "ps_rapl_packages",
                       "no intel-rapl zone in %.64s/class/powercap and no perf PMU named power", root);
    *count = found;
    for (uint32_t i = 0; i < found && i < capacity; i++)
        out[i] = list[i];
    return PS_OK;
}

static bool has_package_energy(const ps_source *source)
{
    for (uint32_t i = 0; i < source->n_channels; i++)
        if (strcmp(source->channels[i].domain, "package") == 0)
            return true;
    return false;
}

/* Hypervisors offer counters and leave them at 0. */
static int32_t moves(ps_source *source)
{
    int64_t first[RAPL_CHANNELS_MAX] = {0};
    bool known[RAPL_CHANNELS_MAX] = {false};
    for (int look = 0; look <= LOOKS; look++) {
        for (uint32_t group = 0; group < source->n_groups; group++) {
            ps_reading readings[PS_GROUP_MAX];
            uint32_t n = source->ops->read(source, group, 0, readings);
            for (uint32_t i = 0; i < n; i++) {
                const ps_reading *one = &readings[i];
                if (one->status)
                    continue;
                if (known[one->channel] && first[one->channel] != one->raw)
                    return 1;
                first[one->channel] = one->raw;
                known[one->channel] = true;
            }
        }
        ps_pace_sleep(LOOK_NS);
    }
    return 0;
}

static int taken(ps_source *source, int route, ps_source **out, ps_rapl_opening *opening)
{
    opening->route = route;
    opening->moved = moves(source);
    *out = source;
    return PS_OK;
}

int ps_rapl_open(const char *sysfs, uint32_t package, ps_source **out, ps_rapl_opening *opening, ps_error *error)
{
    if (!out || !opening)
        return ps_fail(error, PS_E_INVALID, 0, "ps_rapl_open", "nowhere to return it");
    const char *root = sysfs ? sysfs : "/sys";
    uint32_t list[RAPL_PACKAGES_MAX];
    bool psys = find_packages(root, list) && list[0] == package; /* the platform's counter goes with the first */
    *opening = (ps_rapl_opening){.cpu = -1};

    ps_source *perf = NULL, *powercap = NULL;
    ps_error *refused = opening->refused;
    if (rapl_perf_new(root, package, psys, &perf, &opening->cpu, &refused[PS_RAPL_PERF]) == PS_OK &&
        has_package_energy(perf))
        return taken(perf, PS_RAPL_PERF, out, opening);
    if (rapl_powercap_new(root, package, psys, &powercap, &refused[PS_RAPL_POWERCAP]) == PS_OK) {
        if (perf)
            (void)ps_fail(&refused[PS_RAPL_PERF], PS_E_UNSUPPORTED, 0, "energy-pkg", "the PMU has no such event");
        ps_source_free(perf);
        opening->cpu = rapl_cpu_of(root, package);
        return taken(powercap, PS_RAPL_POWERCAP, out, opening);
    }
    if (perf)
        return taken(perf, PS_RAPL_PERF, out, opening);
    /* What may not be read says more than what is not there. */
    bool absent = refused[PS_RAPL_POWERCAP].status == PS_E_NOT_FOUND && refused[PS_RAPL_PERF].status != PS_E_NOT_FOUND;
    const ps_error *told = &refused[absent ? PS_RAPL_PERF : PS_RAPL_POWERCAP];
    return ps_fail(error, told->status, told->vendor, told->call, "%s", told->text);
}
