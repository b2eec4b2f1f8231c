/* SPDX-License-Identifier: Apache-2.0
 *
 * Energy from /sys/class/powercap: one text file a domain, kept open and read again at offset 0, which is six times
 * cheaper than opening it anew. Zones of intel-rapl-mmio show the same counters once more and are passed over.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "core/errno_status.h"
#include "sources/rapl.h"

enum { ZONES_MAX = 4 * RAPL_PACKAGES_MAX, CONSTRAINTS_MAX = 4 };

/* A zone as found: intel-rapl:TOP or intel-rapl:TOP:SUB. */
typedef struct zone {
    uint32_t top;
    int32_t sub; /* -1: is a top zone */
    char name[SYSFS_TEXT];
} zone;

typedef struct counter {
    char path[PATH_MAX];
    int fd; /* -1 while it cannot be opened */
    uint16_t status;
    int domain;
} counter;

typedef struct powercap {
    ps_source base; /* first */
    counter counters[RAPL_CHANNELS_MAX];
    ps_channel channels[RAPL_CHANNELS_MAX];
    ps_group groups[RAPL_CHANNELS_MAX];
    backoff again;
} powercap;

/* ---- reading ---- */

/* A counter that is below 0 is none. */
static uint16_t read_counter(counter *one, int64_t *out)
{
    if (one->fd >= 0)
        one->status = sysfs_value(one->fd, out);
    if (one->status == 0 && *out < 0)
        one->status = EBADMSG;
    if (one->status)
        *out = 0;
    return one->status;
}

static uint32_t powercap_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    (void)pass;
    counter *one = &((powercap *)source)->counters[group];
    out->channel = (uint16_t)group;
    out->status = read_counter(one, &out->raw);
    return 1;
}

static bool open_counter(counter *one)
{
    int64_t value;
    if (one->fd >= 0)
        close(one->fd);
    one->fd = open(one->path, O_RDONLY | O_CLOEXEC);
    one->status = one->fd < 0 ? (uint16_t)errno : 0;
    return read_counter(one, &value) == 0;
}

/* A descriptor outlives its file: after the kernel's module was reloaded, only opening anew helps. */
static int powercap_recover(ps_source *source, int64_t now_ns)
{
    powercap *self = (powercap *)source;
    if (!backoff_due(&self->again, now_ns))
        return 0;
    bool back = false, away = false;
    for (uint32_t i = 0; i < self->base.n_channels; i++) {
        if (!self->counters[i].status)
            continue;
        bool opened = open_counter(&self->counters[i]);
        back |= opened;
        away |= !opened;
    }
    backoff_tried(&self->again, now_ns, away);
    return back;
}

static void powercap_free(ps_source *source)
{
    powercap *self = (powercap *)source;
    for (uint32_t i = 0; i < self->base.n_channels; i++)
        if (self->counters[i].fd >= 0)
            close(self->counters[i].fd);
    free(self);
}

static const struct ps_source_ops powercap_ops = {
    .read = powercap_read, .recover = powercap_recover, .free = powercap_free};

/* ---- finding zones ---- */

static int by_number(const void *left, const void *right)
{
    const zone *a = left, *b = right;
    return a->top != b->top ? (a->top > b->top) - (a->top < b->top) : (a->sub > b->sub) - (a->sub < b->sub);
}

static bool parse_zone(const char *entry, zone *out)
{
    int length = 0;
    uint32_t sub;
    if (sscanf(entry, "intel-rapl:%5u%n", &out->top, &length) != 1)
        return false;
    out->sub = -1;
    entry += length;
    if (!*entry)
        return true;
    if (sscanf(entry, ":%5u%n", &sub, &length) != 1 || entry[length])
        return false;
    out->sub = (int32_t)sub;
    return true;
}

/* All zones, ascending, with their names. */
static uint32_t find_zones(const char *sysfs, zone zones[ZONES_MAX])
{
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/class/powercap", sysfs) >= (int)sizeof path)
        return 0;
    DIR *folder = opendir(path);
    uint32_t n = 0;
    for (const struct dirent *entry; folder && n < ZONES_MAX && (entry = readdir(folder)) != NULL;)
        if (parse_zone(entry->d_name, &zones[n]) && sysfs_file(zones[n].name, "%s/%s/name", path, entry->d_name) == 0)
            n++;
    if (folder)
        closedir(folder);
    qsort(zones, n, sizeof *zones, by_number);
    return n;
}

/* "package-0", or "package-0-die-1": whole, and nothing else. n_dies: 1, or more where there are dies. */
static bool is_package(const zone *one, uint32_t *package, uint32_t *die, uint32_t *n_dies)
{
    int length = 0;
    if (one->sub >= 0 || sscanf(one->name, "package-%5u%n", package, &length) != 1)
        return false;
    *die = 0;
    *n_dies = 1;
    const char *rest = one->name + length;
    if (!*rest)
        return true;
    *n_dies = 2;
    return sscanf(rest, "-die-%5u%n", die, &length) == 1 && !rest[length];
}

static bool is_psys(const zone *one)
{
    return one->sub < 0 && strcmp(one->name, "psys") == 0;
}

static void powercap_packages(const rapl_machine *machine, uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count)
{
    zone zones[ZONES_MAX];
    uint32_t n = find_zones(machine->sysfs, zones), package, die, n_dies;
    for (uint32_t i = 0; i < n; i++) {
        if (is_package(&zones[i], &package, &die, &n_dies))
            rapl_add_package(list, count, package);
        else if (is_psys(&zones[i]) && *count == 0)
            rapl_add_package(list, count, 0);
    }
}

/* ---- making the source ---- */

/* The most that a zone is allowed to draw, by its limits; what no machine draws where it has none. */
static double most_watts(const char *folder, int domain)
{
    static const char *const limits[] = {"max_power_uw", "power_limit_uw"};
    uint64_t most_uw = 0, limit_uw;
    for (int constraint = 0; constraint < CONSTRAINTS_MAX; constraint++)
        for (size_t i = 0; i < sizeof limits / sizeof *limits; i++) {
            char text[SYSFS_TEXT];
            if (sysfs_file(text, "%s/constraint_%d_%s", folder, constraint, limits[i]) == 0 &&
                sysfs_number(text, 10, &limit_uw) && limit_uw > most_uw)
                most_uw = limit_uw;
        }
    return most_uw ? (double)most_uw * 1e-6 : rapl_most_watts(domain);
}

static void add_counter(powercap *self, const char *sysfs, const zone *one, const char *place, int domain)
{
    const char *device = domain == PS_RAPL_PSYS ? rapl_domain_name(domain) : place;
    for (uint32_t i = 0; i < self->base.n_channels; i++)
        if (self->counters[i].domain == domain && strcmp(self->channels[i].device, device) == 0)
            return; /* the same counter by another zone */
    if (self->base.n_channels == RAPL_CHANNELS_MAX)
        return;
    uint32_t at = self->base.n_channels;
    char label[48], folder[PATH_MAX / 2], range[SYSFS_TEXT];
    if (one->sub < 0)
        snprintf(label, sizeof label, "intel-rapl:%u", one->top);
    else
        snprintf(label, sizeof label, "intel-rapl:%u:%d", one->top, one->sub);
    if (snprintf(folder, sizeof folder, "%s/class/powercap/%s", sysfs, label) >= (int)sizeof folder)
        return;

    self->base.n_channels = self->base.n_groups = at + 1;
    counter *made = &self->counters[at];
    snprintf(made->path, sizeof made->path, "%s/energy_uj", folder);
    made->fd = -1;
    made->domain = domain;
    ps_channel *channel = &self->channels[at];
    rapl_describe(channel, place, domain, "powercap", label);
    channel->scale = 1e-6;
    channel->group = at;
    self->groups[at] = (ps_group){.max_hz = RAPL_MAX_HZ, .divisor = 1};
    uint64_t max_range;
    if (sysfs_file(range, "%s/max_energy_range_uj", folder) != 0 || !sysfs_number(range, 10, &max_range) || !max_range)
        return; /* its turns are not known: a step back is a reset to whoever reads the record */
    channel->modulus = rapl_powercap_modulus(max_range);
    if (channel->modulus)
        self->groups[at].min_hz = rapl_min_hz((double)channel->modulus * 1e-6, most_watts(folder, domain));
}

static int domain_named(const char *name)
{
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        if (strcmp(rapl_domain_name(domain), name) == 0)
            return domain;
    return -1;
}

/* Adds the zones of the wanted domains. Sub-zones follow their top zone in `zones`. */
static void add_zones(powercap *self, const rapl_machine *machine, const zone *zones, uint32_t n, uint32_t package,
                      uint32_t wanted)
{
    const zone *top = NULL; /* the top zone last seen, when it is ours */
    char place[48];
    rapl_name_place(place, package, 0, 1);
    for (const zone *one = zones; one < zones + n; one++) {
        uint32_t its, die = 0, n_dies = 1;
        if (one->sub < 0)
            top = is_package(one, &its, &die, &n_dies) && its == package ? one : NULL;
        if (top == one)
            rapl_name_place(place, package, die, machine->per_package ? 1 : n_dies);
        int domain = top == one                        ? PS_RAPL_PACKAGE
                     : is_psys(one)                    ? PS_RAPL_PSYS
                     : top && one->top == top->top     ? domain_named(one->name)
                                                       : -1;
        if (domain >= 0 && (wanted & 1u << domain))
            add_counter(self, machine->sysfs, one, place, domain);
    }
}

static void refuse_counter(rapl_part *out, const counter *one)
{
    int code = one->status;
    bool text = code == EBADMSG || code == ENODATA;
    rapl_refuse(out, 1u << one->domain, text ? PS_E_FORMAT : ps_errno_status(code), code, text ? "read" : "open",
                "%.120s: %s", one->path, strerror(code));
}

/* Lets go of the counters of some domains; groups and channels close ranks. */
static void drop(powercap *self, uint32_t domains)
{
    uint32_t kept = 0;
    for (uint32_t i = 0; i < self->base.n_channels; i++) {
        if (domains & 1u << self->counters[i].domain) {
            if (self->counters[i].fd >= 0)
                close(self->counters[i].fd);
            continue;
        }
        self->counters[kept] = self->counters[i];
        self->channels[kept] = self->channels[i];
        self->channels[kept].group = kept;
        self->groups[kept] = self->groups[i];
        kept++;
    }
    self->base.n_channels = self->base.n_groups = kept;
}

static void powercap_open(const rapl_machine *machine, uint32_t package, uint32_t wanted, rapl_part *out)
{
    const uint32_t core = 1u << PS_RAPL_CORE;
    if (machine->per_package && (wanted & core)) {
        /* The driver asks one CPU of the package, and there the register is that of one core. */
        rapl_refuse(out, core, PS_E_NOT_FOUND, 0, "powercap",
                    "there is no zone of all cores: the zone core of an AMD processor is one core's");
        wanted &= ~core;
    }
    zone zones[ZONES_MAX];
    uint32_t n = find_zones(machine->sysfs, zones);
    powercap *self = calloc(1, sizeof *self);
    if (!self) {
        rapl_refuse(out, wanted, PS_E_NOMEM, 0, "malloc", "package-%u", package);
        return;
    }
    self->base = (ps_source){
        .ops = &powercap_ops, .channels = self->channels, .groups = self->groups, .driver = "rapl"};
    snprintf(self->base.name, sizeof self->base.name, "rapl:package-%u", package);
    add_zones(self, machine, zones, n, package, wanted);

    uint32_t found = 0, failed = 0;
    for (uint32_t i = 0; i < self->base.n_channels; i++) {
        counter *one = &self->counters[i];
        found |= 1u << one->domain;
        if (!open_counter(one)) {
            failed |= 1u << one->domain;
            refuse_counter(out, one);
        }
    }
    if (!found)
        rapl_refuse(out, wanted, PS_E_NOT_FOUND, ENOENT, "powercap", "%.64s/class/powercap has no zone of package-%u",
                    machine->sysfs, package);
    for (int domain = 0; domain < PS_RAPL_DOMAINS; domain++)
        if (wanted & ~found & 1u << domain)
            rapl_refuse(out, 1u << domain, PS_E_NOT_FOUND, 0, "powercap", "package-%u has no zone %s", package,
                        rapl_domain_name(domain));
    drop(self, failed);
    if (!self->base.n_channels) {
        powercap_free(&self->base);
        return;
    }
    out->source = &self->base;
    out->domains = found & ~failed;
    out->cpu = rapl_cpu_of(machine->sysfs, package);
}

const rapl_route rapl_powercap = {.packages = powercap_packages, .open = powercap_open};
