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

enum { ZONES_MAX = 64 };

static const int64_t BACKOFF_MIN_NS = INT64_C(250000000), BACKOFF_MAX_NS = INT64_C(30000000000);

/* A zone as found: intel-rapl:TOP or intel-rapl:TOP:SUB. */
typedef struct zone {
    uint32_t top;
    int32_t sub; /* -1: is a top zone */
    char name[SYSFS_TEXT];
} zone;

typedef struct domain {
    char path[PATH_MAX];
    int fd; /* -1 while it cannot be opened */
    uint16_t status;
} domain;

typedef struct powercap {
    ps_source base; /* first */
    domain domains[RAPL_CHANNELS_MAX];
    ps_channel channels[RAPL_CHANNELS_MAX];
    ps_group groups[RAPL_CHANNELS_MAX];
    int64_t next_try_ns, backoff_ns;
} powercap;

/* ---- reading ---- */

static uint16_t read_domain(domain *one, int64_t *out)
{
    *out = 0;
    if (one->fd < 0)
        return one->status;
    one->status = sysfs_value(one->fd, out);
    if (*out < 0) { /* no counter of joules */
        one->status = EBADMSG;
        *out = 0;
    }
    return one->status;
}

static uint32_t powercap_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    (void)pass;
    domain *one = &((powercap *)source)->domains[group];
    out->channel = (uint16_t)group;
    out->status = read_domain(one, &out->raw);
    return 1;
}

static bool open_domain(domain *one)
{
    int64_t value;
    if (one->fd >= 0)
        close(one->fd);
    one->fd = open(one->path, O_RDONLY | O_CLOEXEC);
    one->status = one->fd < 0 ? (uint16_t)errno : 0;
    return read_domain(one, &value) == 0;
}

/* A descriptor outlives its file: after the kernel's module was reloaded, only opening anew helps. */
static int powercap_recover(ps_source *source, int64_t now_ns)
{
    powercap *self = (powercap *)source;
    if (now_ns < self->next_try_ns)
        return 0;
    bool back = false, away = false;
    for (uint32_t i = 0; i < self->base.n_channels; i++) {
        if (!self->domains[i].status)
            continue;
        bool opened = open_domain(&self->domains[i]);
        back |= opened;
        away |= !opened;
    }
    int64_t wait_ns = away ? 2 * self->backoff_ns : 0;
    self->backoff_ns = wait_ns < BACKOFF_MIN_NS ? BACKOFF_MIN_NS : wait_ns < BACKOFF_MAX_NS ? wait_ns : BACKOFF_MAX_NS;
    self->next_try_ns = now_ns + self->backoff_ns;
    return back;
}

static void powercap_free(ps_source *source)
{
    powercap *self = (powercap *)source;
    for (uint32_t i = 0; i < self->base.n_channels; i++)
        if (self->domains[i].fd >= 0)
            close(self->domains[i].fd);
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

static bool is_package(const zone *one, uint32_t *package)
{
    return one->sub < 0 && sscanf(one->name, "package-%6u", package) == 1;
}

static bool is_psys(const zone *one)
{
    return one->sub < 0 && strncmp(one->name, "psys", 4) == 0;
}

void rapl_powercap_packages(const char *sysfs, uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count)
{
    zone zones[ZONES_MAX];
    uint32_t n = find_zones(sysfs, zones), package;
    for (uint32_t i = 0; i < n; i++) {
        if (is_package(&zones[i], &package))
            rapl_add_package(list, count, package);
        else if (is_psys(&zones[i]) && *count == 0)
            rapl_add_package(list, count, 0);
    }
}

/* ---- making the source ---- */

static void add_domain(powercap *self, const char *sysfs, const zone *one, const char *place, const char *name)
{
    for (uint32_t i = 0; i < self->base.n_channels; i++)
        if (strcmp(self->channels[i].device, place) == 0 && strcmp(self->channels[i].domain, name) == 0)
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
    snprintf(self->domains[at].path, sizeof self->domains[at].path, "%s/energy_uj", folder);
    self->domains[at].fd = -1;
    ps_channel *channel = &self->channels[at];
    rapl_describe(channel, place, name, "powercap", label);
    channel->scale = 1e-6;
    channel->group = at;
    if (sysfs_file(range, "%s/max_energy_range_uj", folder) != 0 || !sysfs_number(range, 10, &channel->modulus) ||
        channel->modulus > INT64_MAX)
        channel->modulus = 0; /* then a step back is a reset to whoever reads the record */
    self->groups[at] = (ps_group){.max_hz = RAPL_MAX_HZ, .divisor = 1};
}

/* Sub-zones follow their top zone in `zones`. */
static void add_zones(powercap *self, const char *sysfs, const zone *zones, uint32_t n, uint32_t package, bool psys)
{
    const zone *top = NULL; /* the top zone last seen, when it is ours */
    for (const zone *one = zones; one < zones + n; one++) {
        uint32_t its;
        if (one->sub < 0)
            top = is_package(one, &its) && its == package ? one : NULL;
        if (top == one)
            add_domain(self, sysfs, one, one->name, "package");
        else if (psys && is_psys(one))
            add_domain(self, sysfs, one, one->name, "psys");
        else if (top && one->top == top->top && (strcmp(one->name, "core") == 0 || strcmp(one->name, "uncore") == 0 ||
                                                 strcmp(one->name, "dram") == 0))
            add_domain(self, sysfs, one, top->name, one->name);
    }
}

int rapl_powercap_new(const char *sysfs, uint32_t package, bool psys, ps_source **out, ps_error *error)
{
    powercap *self = calloc(1, sizeof *self);
    if (!self)
        return ps_fail(error, PS_E_NOMEM, 0, "malloc", "package-%u", package);
    self->base = (ps_source){
        .ops = &powercap_ops, .channels = self->channels, .groups = self->groups, .driver = "rapl"};
    snprintf(self->base.name, sizeof self->base.name, "rapl:package-%u", package);

    zone zones[ZONES_MAX];
    add_zones(self, sysfs, zones, find_zones(sysfs, zones), package, psys);
    int status = PS_OK;
    uint32_t answer = 0;
    for (uint32_t i = 0; i < self->base.n_channels; i++)
        answer += open_domain(&self->domains[i]);
    if (self->base.n_channels == 0) {
        status = ps_fail(error, PS_E_NOT_FOUND, ENOENT, "opendir",
                         "%.64s/class/powercap has no zone of package-%u", sysfs, package);
    } else if (!answer) {
        int code = self->domains[0].status;
        bool text = code == EBADMSG || code == ENODATA;
        status = ps_fail(error, text ? PS_E_FORMAT : ps_errno_status(code), code, text ? "read" : "open", "%.120s: %s",
                         self->domains[0].path, strerror(code));
    }
    if (status != PS_OK)
        powercap_free(&self->base);
    else
        *out = &self->base;
    return status;
}
