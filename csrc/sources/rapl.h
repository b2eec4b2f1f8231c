/* SPDX-License-Identifier: Apache-2.0
 *
 * What the RAPL routes share: names of domains, and where a package's CPUs are.
 */
#ifndef PS_RAPL_H
#define PS_RAPL_H

#include <stdbool.h>
#include <stddef.h>

#include "core/source.h"
#include "sources/sysfs.h"

enum { RAPL_PACKAGES_MAX = 64, RAPL_CHANNELS_MAX = 40 };

#define RAPL_MAX_HZ 1000.0 /* the counters move about once a millisecond */

/* A CPU that answers for a die. */
typedef struct rapl_cpu {
    int32_t cpu;
    uint32_t package, die;
} rapl_cpu;

/* The CPUs of a kernel list such as "0,16-17", with the packages they are in. Returns how many, at most capacity. */
uint32_t rapl_cpus(const char *sysfs, const char *list, rapl_cpu *out, uint32_t capacity);
int32_t rapl_cpu_of(const char *sysfs, uint32_t package); /* any CPU of it, -1 when the topology does not tell */
/* Adds a package to an ascending list, once. */
void rapl_add_package(uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count, uint32_t package);

/* Fills the channel of a domain. place: "package-0", or "psys", which is no part of a package. */
void rapl_describe(ps_channel *channel, const char *place, const char *domain, const char *route, const char *sensor);

/* The routes. The packages that each offers, and a source for one of them; with `psys` where that exists. */
void rapl_perf_packages(const char *sysfs, uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count);
void rapl_powercap_packages(const char *sysfs, uint32_t list[RAPL_PACKAGES_MAX], uint32_t *count);
int rapl_perf_new(const char *sysfs, uint32_t package, bool psys, ps_source **out, int32_t *cpu, ps_error *error);
int rapl_powercap_new(const char *sysfs, uint32_t package, bool psys, ps_source **out, ps_error *error);

#endif
