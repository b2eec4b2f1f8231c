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

enum { EVENTS_MAX = 5, DIES_MAX = RAPL_CHANNELS_MAX / EVENTS_MAX, CPUS_MAX = 256 };

static const struct {
    const char *event, *domain;
} table[EVENTS_MAX] = {
    {"energy-pkg", "package"}, {"energy-cores", "core"}, {"energy-gpu", "uncore"}, {"energy-ram", "dram"},
    {"energy-psys", "psys"},
};

typedef struct event {
    uint64_t config;
    double scale;
    const char *name, *domain;
} event;

typedef struct die {
    uint16_t channel; /* of its first event */
    uint32_t n_events;
    int fd[EVENTS_MAX]; /* the first leads the group */
} die;

typedef struct perf {
    ps_source base; /* first */
    die dies[DIES_MAX];
    ps_channel channels[RAPL_CHANNELS_MAX];
    ps_group groups[DIES_MAX];
} perf;

/* ---- reading ---- */

static uint32_t perf_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    (void)pass;
    const die *one = &((perf *)source)->dies[group];
    uint64_t counts[1 + EVENTS_MAX]; /* how many, then each */
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

static void perf_free(ps_source *source)
{
    perf *self = (perf *)source;
    for (uint32_t i = 0; i < self->base.n_groups; i++)
        for (uint32_t j = 0; j < self->dies[i].n_events; j++)
            close(self->dies[i].fd[j]);
    free(self);
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

static bool find_event(const char *pmu, const char *name, event *out)
{
    char text[SYSFS_TEXT];
    return sysfs_file(text, "%s/events/%s", pmu, name) == 0 && strncmp(text, "event=", 6) == 0 &&
           sysfs_number(text + 6, 16, &out->config) && sysfs_file(text, "%s/events/%s.unit", pmu, name) == 0 &&
           strcmp(text, "Joules") == 0 && sysfs_file(text, "%s/events/%s.scale", pmu, name) == 0 &&
           parse_scale(text, &out->scale);
}

static uint32_t find_cpus(const char *sysfs, rapl_cpu *out)
{
    char list[SYSFS_TEXT];
    if (sysfs_file(list, "%s/bus/event_source/devices/power/cpumask", sysfs) != 0)
        return 0;
    return rapl_cpus(sysfs, list, out, CPUS_MAX);
}

void rapl_perf_packages(const char *sysfs, uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count)
{
    rapl_cpu cpus[CPUS_MAX];
    uint32_t n = find_cpus(sysfs, cpus);
    for (uint32_t i = 0; i < n; i++)
        rapl_add_package(list, count, cpus[i].package);
}

/* ---- making the source ---- */

static int open_event(uint32_t type, const event *what, int32_t cpu, int leader)
{
    struct perf_event_attr attributes = {
        .type = type, .size = sizeof attributes, .config = what->config, .read_format = PERF_FORMAT_GROUP};
    return (int)syscall(SYS_perf_event_open, &attributes, -1, cpu, leader, PERF_FLAG_FD_CLOEXEC);
}

/* Opens a die's events as one group; an event that will not join it is left out. */
static int add_die(perf *self, uint32_t type, const event *events, uint32_t n_events, const rapl_cpu *where,
                   const char *place, bool psys, ps_error *error)
{
    die *one = &self->dies[self->base.n_groups];
    *one = (die){.channel = (uint16_t)self->base.n_channels};
    for (uint32_t i = 0; i < n_events; i++) {
        bool platform = strcmp(events[i].domain, "psys") == 0;
        if (platform && !psys)
            continue;
        int fd = open_event(type, &events[i], where->cpu, one->n_events ? one->fd[0] : -1);
        if (fd < 0) {
            int code = errno;
            if (error->status == PS_OK)
                (void)ps_fail(error, ps_errno_status(code), code, "perf_event_open", "%s on CPU %d: %s",
                              events[i].name, where->cpu, strerror(code));
            continue;
        }
        one->fd[one->n_events++] = fd;
        char sensor[48];
        snprintf(sensor, sizeof sensor, "power.%s", events[i].name);
        ps_channel *channel = &self->channels[self->base.n_channels++];
        rapl_describe(channel, platform ? "psys" : place, events[i].domain, "perf", sensor);
        channel->scale = events[i].scale;
        channel->group = self->base.n_groups;
    }
    if (!one->n_events)
        return error->status;
    self->groups[self->base.n_groups] = (ps_group){.max_hz = RAPL_MAX_HZ, .divisor = 1};
    self->base.n_groups++;
    return PS_OK;
}

static int add_dies(perf *self, const char *sysfs, uint32_t package, bool psys, int32_t *cpu, ps_error *error)
{
    char pmu[SYSFS_TEXT * 4], text[SYSFS_TEXT];
    uint64_t type;
    if (snprintf(pmu, sizeof pmu, "%s/bus/event_source/devices/power", sysfs) >= (int)sizeof pmu ||
        sysfs_file(text, "%s/type", pmu) != 0 || !sysfs_number(text, 10, &type) || type > UINT32_MAX)
        return ps_fail(error, PS_E_NOT_FOUND, 0, "perf", "there is no PMU named power (%.100s)", pmu);
    event events[EVENTS_MAX];
    uint32_t n_events = 0;
    for (uint32_t i = 0; i < EVENTS_MAX; i++) {
        events[n_events].name = table[i].event;
        events[n_events].domain = table[i].domain;
        n_events += find_event(pmu, table[i].event, &events[n_events]);
    }
    if (!n_events)
        return ps_fail(error, PS_E_NOT_FOUND, 0, "perf", "the PMU power has no energy event");

    rapl_cpu cpus[CPUS_MAX];
    uint32_t n = 0, found = find_cpus(sysfs, cpus);
    for (uint32_t i = 0; i < found && n < DIES_MAX; i++)
        if (cpus[i].package == package)
            cpus[n++] = cpus[i];
    if (!n)
        return ps_fail(error, PS_E_NOT_FOUND, 0, "perf", "the PMU power has no CPU in package-%u", package);
    *cpu = cpus[0].cpu;
    ps_error first = {0};
    for (uint32_t i = 0; i < n; i++) {
        char place[48];
        if (n == 1)
            snprintf(place, sizeof place, "package-%u", package);
        else
            snprintf(place, sizeof place, "package-%u-die-%u", package, cpus[i].die);
        (void)add_die(self, (uint32_t)type, events, n_events, &cpus[i], place, psys && i == 0, &first);
    }
    if (self->base.n_groups)
        return PS_OK;
    return ps_fail(error, first.status, first.vendor, first.call, "%s", first.text);
}

int rapl_perf_new(const char *sysfs, uint32_t package, bool psys, ps_source **out, int32_t *cpu, ps_error *error)
{
    perf *self = calloc(1, sizeof *self);
    if (!self)
        return ps_fail(error, PS_E_NOMEM, 0, "malloc", "package-%u", package);
    self->base = (ps_source){.ops = &perf_ops, .channels = self->channels, .groups = self->groups, .driver = "rapl"};
    snprintf(self->base.name, sizeof self->base.name, "rapl:package-%u", package);
    int status = add_dies(self, sysfs, package, psys, cpu, error);
    if (status != PS_OK)
        perf_free(&self->base);
    else
        *out = &self->base;
    return status;
}
