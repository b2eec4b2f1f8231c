/* SPDX-License-Identifier: Apache-2.0
 *
 * What a reading of an energy counter costs, two ways by turns; ns a reading, a line a pair.
 *
 * rapl_read file PATH READS PAIRS: a number in a file by the shipped reader, from a kept descriptor and with opening and
 * closing the file. Prints: kept, reopened.
 *
 * rapl_read perf SYSFS_ONE SYSFS_MANY READS PAIRS: the shipped perf source of package 0 on a sysfs whose PMU "power" has
 * one event, and on one with several; on the CPU of the events. Prints: one event, the group, its events, and the read of
 * a counter without perf: the time stamp counter, CLOCK_MONOTONIC.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <unistd.h>
#if defined(__x86_64__)
#include <x86intrin.h>
#endif

#include "bench.h"
#include "core/source.h"
#include "sources/sysfs.h"

static double per_read(int64_t begin_ns, uint64_t reads)
{
    return (double)(ps_clock_now_ns() - begin_ns) / (double)reads;
}

static void files(const char *path, uint64_t reads, uint64_t pairs)
{
    int64_t value;
    int kept = open(path, O_RDONLY | O_CLOEXEC);
    NEED(kept >= 0 && sysfs_value(kept, &value) == 0);
    for (uint64_t pair = 0; pair < pairs; pair++) {
        int64_t begin_ns = ps_clock_now_ns();
        for (uint64_t i = 0; i < reads; i++)
            NEED(sysfs_value(kept, &value) == 0);
        double kept_ns = per_read(begin_ns, reads);
        begin_ns = ps_clock_now_ns();
        for (uint64_t i = 0; i < reads; i++) {
            int fd = open(path, O_RDONLY | O_CLOEXEC);
            NEED(fd >= 0 && sysfs_value(fd, &value) == 0);
            close(fd);
        }
        printf("%.3f %.3f\n", kept_ns, per_read(begin_ns, reads));
    }
    close(kept);
}

static ps_source *open_perf(const char *sysfs)
{
    ps_source *source;
    ps_rapl_opening opening;
    ps_error error = {0};
    int status = ps_rapl_open(sysfs, NULL, 0, &source, &opening, &error);
    if (status != PS_OK && opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].vendor == EACCES)
        exit(77); /* perf is closed to this user */
    need_ok(status, &error);
    NEED(opening.route[PS_RAPL_PACKAGE] == PS_RAPL_PERF && source->n_groups == 1);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)opening.cpu, &set);
    NEED(sched_setaffinity(0, sizeof set, &set) == 0);
    return source;
}

static double source_ns(ps_source *source, uint64_t reads)
{
    ps_reading readings[PS_GROUP_MAX];
    int64_t begin_ns = ps_clock_now_ns();
    for (uint64_t i = 0; i < reads; i++) {
        NEED(source->ops->read(source, 0, i, readings) == source->n_channels);
        NEED(readings[0].status == 0);
    }
    return per_read(begin_ns, reads);
}

static double tsc_ns(uint64_t reads)
{
#if defined(__x86_64__)
    uint64_t sum = 0;
    int64_t begin_ns = ps_clock_now_ns();
    for (uint64_t i = 0; i < reads; i++)
        sum += __rdtsc();
    double cost_ns = per_read(begin_ns, reads);
    NEED(sum != 0);
    return cost_ns;
#else
    (void)reads;
    return 0;
#endif
}

static double clock_ns(uint64_t reads)
{
    int64_t begin_ns = ps_clock_now_ns();
    for (uint64_t i = 0; i < reads; i++)
        NEED(ps_clock_now_ns() != 0);
    return per_read(begin_ns, reads);
}

static void groups(const char *one, const char *many, uint64_t reads, uint64_t pairs)
{
    ps_source *single = open_perf(one), *group = open_perf(many);
    NEED(single->n_channels == 1 && group->n_channels > 1);
    for (uint64_t pair = 0; pair < pairs; pair++) {
        double single_ns = source_ns(single, reads), group_ns = source_ns(group, reads);
        printf("%.3f %.3f %u %.3f %.3f\n", single_ns, group_ns, group->n_channels, tsc_ns(reads), clock_ns(reads));
    }
    ps_source_free(single);
    ps_source_free(group);
}

int main(int argc, char **argv)
{
    NEED(argc >= 2);
    if (strcmp(argv[1], "file") == 0 && argc == 5)
        files(argv[2], bench_count(argv[3]), bench_count(argv[4]));
    else if (strcmp(argv[1], "perf") == 0 && argc == 6)
        groups(argv[2], argv[3], bench_count(argv[4]), bench_count(argv[5]));
    else
        NEED(!"usage: see the head of this file");
    return 0;
}
