/* SPDX-License-Identifier: Apache-2.0
 *
 * What the RAPL routes share: where to look, names of domains, and where a package's CPUs are.
 */
#ifndef PS_RAPL_H
#define PS_RAPL_H

#include <stddef.h>

#include "core/source.h"
#include "sources/backoff.h"
#include "sources/rapl_decode.h"
#include "sources/sysfs.h"

enum {
    RAPL_PACKAGES_MAX = 64,
    RAPL_DIES_MAX = 8, /* of a package */
    RAPL_CHANNELS_MAX = RAPL_DIES_MAX * PS_RAPL_DOMAINS,
    RAPL_ALL_DOMAINS = (1 << PS_RAPL_DOMAINS) - 1
};

#define RAPL_MAX_HZ 1000.0 /* the counters move about once a millisecond */

/* The machine that is looked at. */
typedef struct rapl_machine {
    const char *sysfs;
    const char *devfs;       /* NULL: registers are not to be read */
    const rapl_model *model; /* NULL: its registers are not known */
    bool per_package;        /* whatever is called a die has no counter of its own */
} rapl_machine;

rapl_machine rapl_look(const char *sysfs, const char *devfs);

/* What a route makes of a package. */
typedef struct rapl_part {
    ps_source *source; /* NULL: it reads nothing */
    uint32_t domains;  /* that it reads, 1 << enum ps_rapl_domain; each on all dies of the package, or not at all */
    int32_t cpu;       /* from which reading is cheapest, -1 unknown */
    ps_error refused[PS_RAPL_DOMAINS];
} rapl_part;

typedef struct rapl_route {
    /* Adds the packages that it shows to an ascending list. */
    void (*packages)(const rapl_machine *machine, uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count);
    /* Opens what it can of the wanted domains; for the others it leaves a reason. */
    void (*open)(const rapl_machine *machine, uint32_t package, uint32_t wanted, rapl_part *out);
} rapl_route;

extern const rapl_route rapl_perf, rapl_powercap, rapl_msr;

/* Several routes' parts of a package as one source, which owns them on success. */
int rapl_compose(const rapl_part *parts, uint32_t n_parts, ps_source **out);

/* ---- for the routes ---- */

/* Leaves a reason with each of the domains (a mask) that has none yet. */
void rapl_refuse(rapl_part *part, uint32_t domains, int status, int vendor, const char *call, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
void rapl_add_package(uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count, uint32_t package); /* ascending, once */
/* Fills the channel of a domain. place: "package-0"; psys, which is no part of a package, is a place of its own. */
void rapl_describe(ps_channel *channel, const char *place, int domain, const char *route, const char *sensor);
/* "package-1", or "package-1-die-0" where it has several. */
void rapl_name_place(char out[48], uint32_t package, uint32_t die, uint32_t n_dies);

/* ---- where CPUs are ---- */

/* A CPU and where it is. */
typedef struct rapl_cpu {
    int32_t cpu;
    uint32_t package, die, core; /* core: UINT32_MAX when the topology does not tell */
} rapl_cpu;

/* The CPUs of a kernel list such as "0,16-17", with where they are. Returns how many, at most capacity. */
uint32_t rapl_cpus(const char *sysfs, const char *list, rapl_cpu *out, uint32_t capacity);
/* All CPUs that are online, ascending; to be freed. NULL when there are none. */
rapl_cpu *rapl_topology(const char *sysfs, uint32_t *count);
int32_t rapl_cpu_of(const char *sysfs, uint32_t package); /* the lowest of a package, -1 when there is none */
/* `cpu` where the calling thread may run there, else another of the package where it may; where there is none, `cpu`. */
int32_t rapl_cpu_allowed(const char *sysfs, uint32_t package, int32_t cpu);

#endif
