/* SPDX-License-Identifier: Apache-2.0
 *
 * Short ways to a sampler on scripted devices.
 */
#ifndef PS_TEST_SCRIPT_H
#define PS_TEST_SCRIPT_H

#include "harness.h"
#include "powersample.h"

static inline ps_source *script_source(const char *device, uint32_t channels, const ps_script_step *steps,
                                       uint32_t n_steps)
{
    ps_script script = {.channels = channels, .kind = PS_KIND_POWER, .scale = 1e-3, .max_hz = 1000};
    ps_source *source = NULL;
    ps_error error = {0};
    if (ps_source_scripted_new(device, &script, steps, n_steps, &source, &error) != PS_OK) {
        fprintf(stderr, "%s: %s\n", error.call, error.text);
        exit(1);
    }
    return source;
}

/* One channel that counts its passes. */
static inline ps_source *script_ramp(const char *device)
{
    ps_script_step ramp = {.raw_step = 1};
    return script_source(device, 1, &ramp, 1);
}

static inline void script_add(ps_sampler *sampler, ps_source *source, const ps_lane_options *options)
{
    ps_error error = {0};
    if (ps_sampler_add(sampler, source, options, NULL, &error) != PS_OK) {
        fprintf(stderr, "%s: %s\n", error.call, error.text);
        exit(1);
    }
}

static inline ps_sampler *script_sampler(ps_source *source, const ps_lane_options *options)
{
    ps_sampler *sampler;
    REQUIRE(ps_sampler_new(&sampler) == PS_OK);
    script_add(sampler, source, options);
    return sampler;
}

static inline ps_lane_stats script_stats(const ps_sampler *sampler, uint32_t lane)
{
    ps_lane_stats stats;
    REQUIRE(ps_sampler_stats(sampler, lane, &stats) == PS_OK);
    return stats;
}

/* Waits until the lanes have made their passes; a minute is for ever here. */
static inline void script_wait_done(const ps_sampler *sampler)
{
    for (int i = 0; i < 60000 && ps_sampler_running(sampler); i++)
        harness_sleep_ms(1);
    CHECK_EQ(0, ps_sampler_running(sampler));
}

static inline void script_check_identities(const ps_lane_stats *stats)
{
    uint64_t calls = 0, wakes = 0;
    for (int bin = 0; bin < PS_HIST_BINS; bin++) {
        calls += stats->call_hist[bin];
        wakes += stats->wake_hist[bin];
    }
    CHECK_EQ(stats->slots, stats->passes + stats->skipped);
    CHECK_EQ(stats->records, stats->drained + stats->dropped + stats->in_ring);
    CHECK_EQ(stats->records, calls); /* a scripted call gives one record */
    CHECK_EQ(stats->mode == PS_MODE_PACED ? stats->passes : 0, wakes);
}

#endif
