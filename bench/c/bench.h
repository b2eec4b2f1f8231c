/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared by the C benchmarks: they end at the first failure, and print figures one a line for the Python side to read.
 */
#ifndef PS_BENCH_H
#define PS_BENCH_H

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "powersample.h"

#define NEED(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

static inline void need_ok(int status, const ps_error *error)
{
    if (status != PS_OK) {
        fprintf(stderr, "%s: %s: %s\n", ps_status_name(status), error->call, error->text);
        exit(1);
    }
}

static inline uint64_t bench_count(const char *text)
{
    char *end;
    uint64_t count = strtoull(text, &end, 10);
    NEED(*text && !*end && count > 0);
    return count;
}

/* Runs a sampler of one tight lane to the end of its passes and returns its statistics. Nothing drains the ring. */
static inline ps_lane_stats bench_tight(ps_source *source, uint64_t passes, uint32_t ring_records)
{
    ps_error error = {0};
    ps_sampler *sampler;
    ps_lane_options options = {
        .mode = PS_MODE_TIGHT, .cpu = -1, .ring_records = ring_records, .max_passes = passes};
    need_ok(ps_sampler_new(&sampler), &error);
    need_ok(ps_sampler_add(sampler, source, &options, NULL, &error), &error);
    need_ok(ps_sampler_start(sampler, &error), &error);
    while (ps_sampler_running(sampler))
        nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
    ps_lane_stats stats;
    NEED(ps_sampler_stop(sampler, 5.0) == PS_OK);
    NEED(ps_sampler_stats(sampler, 0, &stats) == PS_OK);
    NEED(stats.passes == passes && stats.records == passes);
    ps_sampler_free(sampler);
    return stats;
}

#endif
