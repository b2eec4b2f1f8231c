/* SPDX-License-Identifier: Apache-2.0
 *
 * follow_beside_grid JITTER_US SECONDS FIFO: two lanes on two sensors of T = 100 ms and calls of 20 us, one following its
 * updates, one at 1 kHz. Prints a line for each (follow, grid), counted from four seconds after the first has locked on, when
 * it knows its sensor's jitter: updates; how many
 * of them lie within 1 ms and within 0.2 ms of the middle of the two polls around them; polls; CPU time in ns; span in ns.
 */
#include <unistd.h>

#include "bench.h"
#include "core/source.h"
#include "powersample_sim.h"

enum { CALL_NS = 20000, PUBLICATIONS = 4096, RING = 1 << 17, SETTLE_S = 4 };

typedef struct device {
    ps_source base;
    ps_channel channel;
    ps_group group;
    ps_sensor sensor;
    ps_sensor_memo memo;
    const ps_truth *truth;
} device;

static uint32_t device_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    device *self = (device *)source;
    const int64_t end_ns = ps_clock_now_ns() + CALL_NS;
    (void)group;
    (void)pass;
    *out = (ps_reading){0};
    NEED(ps_sensor_read(&self->sensor, self->truth, end_ns - CALL_NS / 2, &self->memo, &out->raw, NULL, NULL) == PS_OK);
    while (ps_clock_now_ns() < end_ns)
        ;
    return 1;
}

static void device_free(ps_source *source)
{
    (void)source; /* main's own */
}

static void device_build(device *self, const char *name, const ps_truth *truth, int64_t jitter_ns, uint64_t seed)
{
    static const struct ps_source_ops ops = {.read = device_read, .free = device_free};
    *self = (device){.base = {.ops = &ops, .n_channels = 1, .n_groups = 1},
                     .channel = {.kind = PS_KIND_POWER},
                     .group = {.max_hz = 1000},
                     .truth = truth,
                     .sensor = {.kind = PS_SENSOR_GAUGE, .seed = seed, .period_ns = 100000000, .window_ns = 25000000,
                                .phase_ns = (int64_t)(seed * 31000000 % 100000000), .jitter_ns = jitter_ns, .gain = 1,
                                .noise_mw = 1000, .quantum = 1}}; /* noise: hardly ever the same value twice */
    snprintf(self->base.name, sizeof self->base.name, "%s", name);
    snprintf(self->channel.name, sizeof self->channel.name, "%s.power", name);
    self->base.channels = &self->channel;
    self->base.groups = &self->group;
}

static void judge(ps_sampler *sampler, uint32_t lane, const ps_sensor *sensor, int64_t from_ns, int64_t cpu_ns)
{
    static ps_sample out[RING];
    static int64_t at_ns[PUBLICATIONS];
    uint32_t n;
    uint64_t published, updates = 0, within_1ms = 0, within_200us = 0, polls = 0;
    ps_lane_stats stats;
    NEED(ps_sampler_stats(sampler, lane, &stats) == PS_OK && stats.dropped == 0);
    NEED(stats.slots == stats.passes + stats.skipped);
    NEED(ps_sampler_drain(sampler, lane, out, RING, &n) == PS_OK && n == stats.records && n > 1);
    NEED(ps_sensor_publications(sensor, from_ns, out[n - 1].t0_ns, at_ns, PUBLICATIONS, &published) == PS_OK);
    NEED(published < PUBLICATIONS);
    uint32_t first = 0;
    for (uint32_t i = 0; i < n; i++)
        polls += out[i].t0_ns >= from_ns;
    for (uint64_t k = 0; k < published; k++) {
        /* The bracket: the last poll that cannot have seen it, and the first that must have. */
        while (first < n && out[first].t0_ns + CALL_NS / 2 < at_ns[k])
            first++;
        if (first == 0 || first == n)
            continue;
        const int64_t middle_ns = out[first - 1].t0_ns + (out[first].t1_ns - out[first - 1].t0_ns) / 2;
        const int64_t off_ns = middle_ns > at_ns[k] ? middle_ns - at_ns[k] : at_ns[k] - middle_ns;
        updates++;
        within_1ms += off_ns <= 1000000;
        within_200us += off_ns <= 200000;
    }
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRId64 " %" PRId64 "\n", updates, within_1ms, within_200us,
           polls, stats.cpu_ns - cpu_ns, out[n - 1].t1_ns - from_ns);
}

int main(int argc, char **argv)
{
    NEED(argc == 4);
    const int64_t jitter_ns = atoll(argv[1]) * 1000;
    const uint64_t seconds = bench_count(argv[2]);
    char path[] = "/tmp/ps-bench-XXXXXX";
    const int fd = mkstemp(path);
    NEED(fd >= 0);
    close(fd);
    unlink(path);
    ps_truth *truth;
    NEED(ps_truth_create(path, 16, ps_clock_now_ns() - INT64_C(10000000000), 300000, &truth) == PS_OK);
    unlink(path);

    device following, grid;
    device_build(&following, "following", truth, jitter_ns, 1);
    device_build(&grid, "grid", truth, jitter_ns, 2);
    ps_sampler *sampler;
    ps_error error = {0};
    ps_lane_options options = {.mode = PS_MODE_FOLLOW, .cpu = -1, .ring_records = RING, .fifo_priority = atoi(argv[3])};
    need_ok(ps_sampler_new(&sampler), &error);
    need_ok(ps_sampler_add(sampler, &following.base, &options, NULL, &error), &error);
    options.mode = PS_MODE_PACED;
    options.rate_hz = 1000;
    need_ok(ps_sampler_add(sampler, &grid.base, &options, NULL, &error), &error);
    need_ok(ps_sampler_start(sampler, &error), &error);

    ps_lane_stats stats[2];
    do {
        nanosleep(&(struct timespec){.tv_nsec = 5 * 1000 * 1000}, NULL);
        NEED(ps_sampler_stats(sampler, 0, &stats[0]) == PS_OK);
    } while (stats[0].acquisitions == 0);
    nanosleep(&(struct timespec){.tv_sec = SETTLE_S}, NULL);
    NEED(ps_sampler_stats(sampler, 0, &stats[0]) == PS_OK && ps_sampler_stats(sampler, 1, &stats[1]) == PS_OK);
    NEED(!options.fifo_priority || stats[0].fifo_priority == options.fifo_priority);
    const int64_t from_ns = ps_clock_now_ns();
    nanosleep(&(struct timespec){.tv_sec = (time_t)seconds}, NULL);
    NEED(ps_sampler_stop(sampler, 5) == PS_OK);
    judge(sampler, 0, &following.sensor, from_ns, stats[0].cpu_ns);
    judge(sampler, 1, &grid.sensor, from_ns, stats[1].cpu_ns);
    ps_sampler_free(sampler);
    ps_truth_close(truth);
    return 0;
}
