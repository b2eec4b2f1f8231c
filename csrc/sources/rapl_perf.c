/* SPDX-License-Identifier: Apache-2.0
 *
 * Energy from perf's PMU "power". A group of events a die, so that one read() gives all its domains at one instant. The
 * kernel extends the registers to 64 bits that count from 0 at opening.
 */
#include <errno.h>
#include <linux/perf_event.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "core/errno_status.h"
#include "sources/rapl.h"

enum { CPUS_MAX = 256 };

static const char *const names[PS_RAPL_DOMAINS] = {
    [PS_RAPL_PACKAGE] = "energy-pkg", [PS_RAPL_CORE] = "energy-cores", [PS_RAPL_UNCORE] = "energy-gpu",
    [PS_RAPL_DRAM] = "energy-ram",    [PS_RAPL_PSYS] = "energy-psys",
};

/* The PMU and its events, by domain. */
typedef struct pmu {
    uint32_t type;
    uint32_t domains; /* that have an event */
    uint64_t config[PS_RAPL_DOMAINS];
    double scale[PS_RAPL_DOMAINS];
} pmu;

typedef struct die {
    uint16_t channel; /* of its first event */
    uint32_t n_events;
    int fd[PS_RAPL_DOMAINS]; /* the first leads the group */
} die;

typedef struct perf {
    ps_source base; /* first */
    die dies[RAPL_DIES_MAX];
    ps_channel channels[RAPL_CHANNELS_MAX];
    ps_group groups[RAPL_DIES_MAX];
} perf;

/* ---- reading ---- */

static uint32_t perf_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    (void)pass;
    const die *one = &((perf *)source)->dies[group];
    uint64_t counts[1 + PS_RAPL_DOMAINS]; /* how many, then each */
    const size_t wanted = (1 + one->n_events) * sizeof *counts;
    ssize_t got;
    do
        got = read(one->fd[0], counts, sizeof counts);
    while (got < 0 && errno == EINTR);
    /* An event that the kernel could not keep reads as end of file. */
    uint16_t status = got < 0 ? (uint16_t)errno : (size_t)got == wanted ? 0 : ENODATA;
    for (uint32_t i = 0; i < one->n_events; i++) {
        out[i].raw = status ? 0 : (int64_t)counts[1 + i];
        out[i].channel = (uint16_t)(one->channel + i);
        out[i].status = status;
    }
    return one->n_events;
}

static void close_all(perf *self)
{
    for (uint32_t i = 0; i < self->base.n_groups; i++)
        for (uint32_t j = 0; j < self->dies[i].n_events; j++)
            close(self->dies[i].fd[j]);
    self->base.n_groups = self->base.n_channels = 0;
}

static void perf_free(ps_source *source)
{
    close_all((perf *)source);
    free(source);
}

static const struct ps_source_ops perf_ops = {.read = perf_read, .free = perf_free};

/* ---- what the PMU offers ---- */

/* "2.3283064365386962890625e-10", whatever the host program's locale thinks of points. */
static bool parse_scale(const char *text, double *out)
{
    locale_t plain = newlocale(LC_ALL_MASK, "C", (locale_t)0);
    if (!plain)
        return false;
    char *end;
    *out = strtod_l(text, &end, plain);
    freelocale(plain);
    return end != text && !*end && *out > 0 && *out < 1e6;
}

static bool find_event(const char *folder, const char *name, uint64_t *config, double *scale)
{
    char text[SYSFS_TEXT];
    return sysfs_file(text, "%s/events/%s", folder, name) == 0 && strncmp(text, "event=", 6) == 0 &&
           sysfs_number(text + 6, 16, config) && sysfs_file(text, "%s/events/%s.unit", folder, name) == 0 &&
           strcmp(text, "Joules") == 0 && sysfs_file(text, "%s/events/%s.scale", folder, name) == 0 &&
           parse_scale(text, scale);
}

/* Returns false when there is no such PMU. */
static bool find_pmu(const char *sysfs, pmu *out)
{
    char folder[SYSFS_TEXT * 4], text[SYSFS_TEXT];
    uint64_t type;
    if (snprintf(folder, sizeof folder, "%s/bus/event_source/devices/power", sysfs) >= (int)sizeof folder ||
        sysfs_file(text, "%s/type", folder) != 0 || !sysfs_number(text, 10, &type) || type > UINT32_MAX)
        return false;
    *out = (pmu){.type = (uint32_t)type};
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        if (find_event(folder, names[domain], &out->config[domain], &out->scale[domain]))
            out->domains |= 1u << domain;
    return true;
}

static uint32_t find_cpus(const rapl_machine *machine, rapl_cpu *out)
{
    char list[SYSFS_LIST]; /* one CPU a die: "0,36,72" */
    if (sysfs_list(list, "%s/bus/event_source/devices/power/cpumask", machine->sysfs) != 0)
        return 0;
    return rapl_cpus(machine->sysfs, list, out, CPUS_MAX);
}

static void perf_packages(const rapl_machine *machine, uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count)
{
    rapl_cpu cpus[CPUS_MAX];
    uint32_t n = find_cpus(machine, cpus);
    for (uint32_t i = 0; i < n; i++)
        rapl_add_package(list, count, cpus[i].package);
}

/* ---- making the source ---- */

static int open_event(const pmu *unit, int domain, int32_t cpu, int leader)
{
    struct perf_event_attr attributes = {.type = unit->type,
                                         .size = sizeof attributes,
                                         .config = unit->config[domain],
                                         .read_format = PERF_FORMAT_GROUP};
    return (int)syscall(SYS_perf_event_open, &attributes, -1, cpu, leader, PERF_FLAG_FD_CLOEXEC);
}

/* Opens a die's events as one group. Returns the domains that failed, with their reasons in `part`. */
static uint32_t add_die(perf *self, const pmu *unit, uint32_t domains, const rapl_cpu *where, const char *place,
                        rapl_part *part)
{
    uint32_t failed = 0;
    die *one = &self->dies[self->base.n_groups];
    *one = (die){.channel = (uint16_t)self->base.n_channels};
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++) {
        if (!(domains & 1u << domain))
            continue;
        int fd = open_event(unit, domain, where->cpu, one->n_events ? one->fd[0] : -1);
        if (fd < 0) {
            int code = errno;
            rapl_refuse(part, 1u << domain, ps_errno_status(code), code, "perf_event_open", "%s on CPU %d: %s",
                        names[domain], where->cpu, strerror(code));
            failed |= 1u << domain;
            continue;
        }
        one->fd[one->n_events++] = fd;
        char sensor[48];
        snprintf(sensor, sizeof sensor, "power.%s", names[domain]);
        ps_channel *channel = &self->channels[self->base.n_channels++];
        rapl_describe(channel, place, domain, "perf", sensor);
        channel->scale = unit->scale[domain];
        channel->group = self->base.n_groups;
    }
    if (one->n_events)
        self->groups[self->base.n_groups++] = (ps_group){.max_hz = RAPL_MAX_HZ, .divisor = 1};
    return failed;
}

static uint32_t add_dies(perf *self, const pmu *unit, uint32_t domains, const rapl_cpu *cpus, uint32_t n_cpus,
                         rapl_part *part)
{
    uint32_t failed = 0;
    for (uint32_t i = 0; i < n_cpus; i++) {
        char place[48];
        rapl_name_place(place, cpus[i].package, cpus[i].die, n_cpus);
        /* The platform is one, whichever die is asked. */
        failed |= add_die(self, unit, i ? domains & ~(1u << PS_RAPL_PSYS) : domains, &cpus[i], place, part);
    }
    return failed;
}

static void perf_open(const rapl_machine *machine, uint32_t package, uint32_t wanted, rapl_part *out)
{
    pmu unit;
    if (!find_pmu(machine->sysfs, &unit)) {
        rapl_refuse(out, wanted, PS_E_NOT_FOUND, 0, "perf", "there is no PMU named power in %.100s", machine->sysfs);
        return;
    }
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        if (wanted & ~unit.domains & 1u << domain)
            rapl_refuse(out, 1u << domain, PS_E_NOT_FOUND, 0, "perf", "the PMU power has no event %s", names[domain]);
    uint32_t domains = wanted & unit.domains;
    rapl_cpu cpus[CPUS_MAX];
    uint32_t n = 0, found = find_cpus(machine, cpus);
    const uint32_t most = machine->per_package ? 1 : RAPL_DIES_MAX;
    for (uint32_t i = 0; i < found && n < most; i++)
        if (cpus[i].package == package)
            cpus[n++] = cpus[i];
    if (!n)
        rapl_refuse(out, domains, PS_E_NOT_FOUND, 0, "perf", "the PMU power has no CPU in package-%u", package);
    perf *self = n && domains ? calloc(1, sizeof *self) : NULL;
    if (!self) {
        rapl_refuse(out, domains, PS_E_NOMEM, 0, "malloc", "package-%u", package);
        return;
    }
    self->base = (ps_source){.ops = &perf_ops, .channels = self->channels, .groups = self->groups, .driver = "rapl"};
    snprintf(self->base.name, sizeof self->base.name, "rapl:package-%u", package);
    /* A domain is read on all dies or on none: start again without those that failed somewhere. */
    for (uint32_t failed; domains && (failed = add_dies(self, &unit, domains, cpus, n, out)) != 0; domains &= ~failed)
        close_all(self);
    if (!domains) {
        perf_free(&self->base);
        return;
    }
    out->source = &self->base;
    out->domains = domains;
    out->cpu = cpus[0].cpu;
}

const rapl_route rapl_perf = {.packages = perf_packages, .open = perf_open};
