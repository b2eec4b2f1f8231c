/* SPDX-License-Identifier: Apache-2.0
 *
 * What a lane says about itself is exact, whatever the device, the grid or the ring did to it.
 */
#include <errno.h>

#include "core/source.h"
#include "script.h"

enum { DRAIN = 4096 };

static uint32_t drain(ps_sampler *sampler, uint32_t lane, ps_sample *out, uint32_t capacity)
{
    uint32_t count = 0;
    CHECK_EQ(PS_OK, ps_sampler_drain(sampler, lane, out, capacity, &count));
    return count;
}

static void test_virtual_grid_and_values_exact(void)
{
    enum { PASSES = 100000 };
    const int64_t start_ns = INT64_C(5000000000);
    ps_script_step steps[] = {{.channel = 0, .raw_step = 1}, {.channel = 1, .raw = 7}};
    ps_lane_options options = {.mode = PS_MODE_VIRTUAL, .cpu = -1, .rate_hz = 1000, .ring_records = 256,
                               .max_passes = PASSES, .virtual_start_ns = start_ns};
    ps_sampler *sampler = script_sampler(script_source("fake", 2, steps, 2), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);

    static ps_sample out[DRAIN];
    uint32_t seen = 0;
    int wrong = 0;
    while (seen < 2 * PASSES) { /* the lane waits for us: nothing may be missing */
        uint32_t n = drain(sampler, 0, out, DRAIN);
        for (uint32_t i = 0; i < n; i++, seen++) {
            int64_t pass = seen / 2, t0_ns = start_ns + pass * 1000000 + (seen % 2) * 1000;
            wrong += out[i].seq != seen || out[i].channel != seen % 2 || out[i].status != 0;
            wrong += out[i].t0_ns != t0_ns || out[i].t1_ns != t0_ns + 1000;
            wrong += out[i].raw != (seen % 2 ? 7 : pass);
        }
        if (n == 0 && ps_sampler_running(sampler) == 0 && script_stats(sampler, 0).in_ring == 0)
            break;
    }
    CHECK_EQ(2 * PASSES, seen);
    CHECK_EQ(0, wrong);
    script_wait_done(sampler);
    ps_lane_stats stats = script_stats(sampler, 0);
    script_check_identities(&stats);
    CHECK_EQ(PS_LANE_DONE, stats.state);
    CHECK_EQ(PASSES, stats.passes);
    CHECK_EQ(0, stats.dropped + stats.skipped);
    CHECK_EQ(start_ns, stats.start_ns);
    CHECK_EQ(start_ns + (PASSES - 1) * INT64_C(1000000) + 2000, stats.last_ns);
    CHECK_EQ(2 * PASSES, stats.call_hist[9]); /* 1000 ns */
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 5));
    ps_sampler_free(sampler);
}

static void test_virtual_unread_stops_at_once(void)
{
    ps_lane_options options = {.mode = PS_MODE_VIRTUAL, .cpu = -1, .ring_records = 16};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    while (script_stats(sampler, 0).in_ring < 16)
        harness_sleep_ms(1);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_lane_stats stats = script_stats(sampler, 0);
    script_check_identities(&stats);
    CHECK(stats.dropped <= 1); /* the record it was waiting with */
    ps_sampler_free(sampler);
}

/* Stalls of several periods: skipped slots are counted, the grid is kept, and no burst makes up for them. */
static void test_paced_stalls_skip_and_keep_grid(void)
{
    enum { PASSES = 40 };
    const int64_t period_ns = 2000000;
    ps_script_step steps[] = {
        {.raw_step = 1}, {.pass = 10, .raw = 10, .stall_ns = 5 * 2000000}, {.pass = 11, .raw = 11}};
    ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 500, .max_passes = PASSES};
    ps_sampler *sampler = script_sampler(script_source("fake", 1, steps, 3), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    script_wait_done(sampler);
    ps_lane_stats stats = script_stats(sampler, 0);
    script_check_identities(&stats);
    CHECK_EQ(PASSES, stats.passes);
    CHECK(stats.skipped >= 4);
    CHECK_EQ(period_ns, stats.period_ns);
    CHECK(stats.lead_ns >= 0 && stats.lead_ns <= period_ns / 400);
    CHECK(stats.cpu_ns > 0);

    ps_sample out[PASSES];
    REQUIRE(drain(sampler, 0, out, PASSES) == PASSES);
    int64_t last_slot = -1, highest = 0;
    for (int i = 0; i < PASSES; i++) {
        int64_t slot = (out[i].t0_ns - stats.start_ns) / period_ns;
        CHECK(out[i].t0_ns >= stats.start_ns && slot > last_slot); /* one pass a slot, never early */
        CHECK(out[i].t1_ns >= out[i].t0_ns);
        if (i == 11)
            CHECK(slot - last_slot >= 5);
        last_slot = highest = slot;
    }
    CHECK_EQ(stats.slots, highest + 1);
    ps_sampler_free(sampler);
}

/* slots is passes + skipped by construction: the grid says by itself how many there were. */
static void test_slots_agree_with_the_grid_under_random_stalls(void)
{
    enum { PASSES = 60 };
    ps_script_step steps[PASSES];
    uint32_t random = 12345;
    for (uint32_t i = 0; i < PASSES; i++) {
        random = random * 1664525u + 1013904223u;
        /* A quarter of the passes, by up to 8 ms; not the first, which is timed at start. */
        steps[i] = (ps_script_step){.pass = i, .raw = i, .stall_ns = i > 0 && random >> 30 == 0 ? random >> 7 : 0};
    }
    ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 1000, .max_passes = PASSES};
    ps_sampler *sampler = script_sampler(script_source("fake", 1, steps, PASSES), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    script_wait_done(sampler);
    ps_lane_stats stats = script_stats(sampler, 0);
    ps_sample out[PASSES];
    REQUIRE(drain(sampler, 0, out, PASSES) == PASSES);
    CHECK(stats.skipped > 0);
    CHECK_EQ((out[PASSES - 1].t0_ns - stats.start_ns) / stats.period_ns + 1, stats.slots);
    uint64_t passed_over = (uint64_t)((out[0].t0_ns - stats.start_ns) / stats.period_ns);
    for (int i = 1; i < PASSES; i++)
        passed_over += (uint64_t)((out[i].t0_ns - stats.start_ns) / stats.period_ns -
                                  (out[i - 1].t0_ns - stats.start_ns) / stats.period_ns - 1);
    CHECK_EQ(passed_over, stats.skipped);
    ps_sampler_free(sampler);
}

static void test_full_ring_drops_newest_seq_tells(void)
{
    enum { PASSES = 1000, RING = 64 };
    ps_lane_options options = {.mode = PS_MODE_TIGHT, .cpu = -1, .ring_records = RING, .max_passes = PASSES};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    script_wait_done(sampler);
    ps_lane_stats stats = script_stats(sampler, 0);
    script_check_identities(&stats);
    CHECK_EQ(PASSES, stats.records);
    CHECK_EQ(PASSES - RING, stats.dropped);
    CHECK_EQ(RING, stats.in_ring);
    ps_sample out[RING + 1];
    CHECK_EQ(RING, drain(sampler, 0, out, RING + 1));
    CHECK_EQ(RING - 1, out[RING - 1].seq);
    stats = script_stats(sampler, 0);
    script_check_identities(&stats);
    CHECK_EQ(RING, stats.drained);
    ps_sampler_free(sampler);
}

static void test_errors_counted_by_code_and_beyond_table(void)
{
    enum { CODES = PS_ERROR_CODES + 3, ROUNDS = 5 };
    ps_script_step steps[CODES + 1] = {{.raw = 1}};
    for (uint16_t i = 0; i < CODES; i++)
        steps[i + 1] = (ps_script_step){.pass = i + 1u, .status = (uint16_t)(100 + i)};
    ps_script script = {.channels = 1, .kind = PS_KIND_POWER, .repeat_passes = CODES + 1, .scale = 1, .max_hz = 1000};
    ps_source *source;
    REQUIRE(ps_source_scripted_new("fake", &script, steps, CODES + 1, &source, NULL) == PS_OK);
    ps_lane_options options = {.mode = PS_MODE_VIRTUAL, .cpu = -1, .max_passes = ROUNDS * (CODES + 1)};
    ps_sampler *sampler = script_sampler(source, &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    script_wait_done(sampler);
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(PS_ERROR_CODES, stats.n_errors);
    for (uint32_t i = 0; i < PS_ERROR_CODES; i++) {
        CHECK_EQ(100 + i, stats.error_code[i]);
        CHECK_EQ(ROUNDS, stats.error_count[i]);
    }
    CHECK_EQ(ROUNDS * 3, stats.error_other);
    ps_sampler_free(sampler);
}

/* A source of two groups, of which one returns two channels and one fails until it is recovered. */
typedef struct flaky {
    ps_source base;
    ps_channel channels[3];
    ps_group groups[2];
    uint32_t calls[2];
    int recoveries;
} flaky;

static uint32_t flaky_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    flaky *self = (flaky *)source;
    self->calls[group]++;
    uint32_t first = group == 0 ? 0 : 2, n = group == 0 ? 2 : 1;
    for (uint32_t i = 0; i < n; i++)
        out[i] = (ps_reading){.raw = (int64_t)pass, .channel = (uint16_t)(first + i),
                              .status = pass >= 20 && self->recoveries < 3 ? 15 : 0};
    return n;
}

static int flaky_recover(ps_source *source, int64_t now_ns)
{
    return ((flaky *)source)->recoveries++ == 2 && now_ns > 0; /* the third try succeeds */
}

static void flaky_free(ps_source *source)
{
    (void)source; /* lies in the test */
}

static void test_groups_divisors_and_recovery(void)
{
    enum { PASSES = 101 };
    static const struct ps_source_ops ops = {flaky_read, flaky_recover, flaky_free};
    flaky source = {.base = {.ops = &ops, .name = "flaky", .simulated_time = 1, .n_channels = 3, .n_groups = 2},
                    .channels = {{.name = "a"}, {.name = "b"}, {.name = "slow", .group = 1}},
                    .groups = {{.max_hz = 1000}, {.max_hz = 100}}};
    source.base.channels = source.channels;
    source.base.groups = source.groups;
    ps_lane_options options = {.mode = PS_MODE_VIRTUAL, .cpu = -1, .max_passes = PASSES};
    ps_sampler *sampler = script_sampler(&source.base, &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    script_wait_done(sampler);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 5));

    CHECK_EQ(PASSES, source.calls[0]);
    CHECK_EQ(11, source.calls[1]); /* passes 0, 10 ... 100 */
    ps_channel channels[3];
    uint32_t count;
    CHECK_EQ(PS_OK, ps_sampler_channels(sampler, channels, 3, &count));
    CHECK_EQ(1, channels[1].divisor);
    CHECK_EQ(10, channels[2].divisor);
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(2 * PASSES + 11, stats.records);
    CHECK_EQ(1, stats.reopens);
    CHECK_EQ(3, source.recoveries); /* after passes 20, 21, 22 */
    CHECK_EQ(1, stats.n_errors);
    CHECK_EQ(3 + 2 + 2, stats.error_count[0]);

    ps_sample out[2 * PASSES + 11];
    uint32_t n = drain(sampler, 0, out, 2 * PASSES + 11), slow = 0;
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(i, out[i].seq);
        if (out[i].channel == 2)
            CHECK_EQ(10 * slow++, out[i].raw);
    }
    ps_sampler_free(sampler);
}

static void test_pinning_refusal_recorded(void)
{
    static const int32_t cpus[] = {-1, 0, 100000};
    for (int i = 0; i < 3; i++) {
        ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = cpus[i], .max_passes = 1};
        ps_sampler *sampler = script_sampler(script_ramp("fake"), &options);
        REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
        script_wait_done(sampler);
        ps_lane_stats stats = script_stats(sampler, 0);
        CHECK(stats.cpu == cpus[i] || (stats.cpu == -1 && stats.cpu_errno != 0));
        CHECK_EQ(cpus[i] == 100000 ? EINVAL : stats.cpu_errno, stats.cpu_errno);
        ps_sampler_free(sampler);
    }
}

/* ---- a call about the past ---- */

enum { PAST_READINGS = 100, PAST_STEP_NS = 20000000 };

/* Group 0 reads now, group 1 tells of the last PAST_READINGS instants. */
typedef struct past_source {
    ps_source base;
    ps_channel channels[2];
    ps_group groups[2];
    int64_t stamps_ns[PS_GROUP_MAX];
} past_source;

static uint32_t past_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    past_source *self = (past_source *)source;
    if (group == 0) {
        out[0] = (ps_reading){.raw = (int64_t)pass, .channel = 0};
        return 1;
    }
    for (int i = 0; i < PAST_READINGS; i++) {
        self->stamps_ns[i] = ((int64_t)pass * PAST_READINGS + i) * PAST_STEP_NS;
        out[i] = (ps_reading){.raw = i, .channel = 1, .status = i == 7 ? 9 : 0};
    }
    return PAST_READINGS | PS_READ_STAMPED;
}

static void past_free(ps_source *source)
{
    free(source);
}

static void test_stamped_readings_keep_their_own_instants(void)
{
    enum { PASSES = 3, RECORDS = PASSES * (1 + PAST_READINGS) };
    static const struct ps_source_ops ops = {.read = past_read, .free = past_free};
    past_source *self = calloc(1, sizeof *self);
    REQUIRE(self);
    self->base = (ps_source){.ops = &ops, .name = "past", .note = "a note", .n_channels = 2, .n_groups = 2,
                             .channels = self->channels, .groups = self->groups, .stamps_ns = self->stamps_ns};
    for (uint32_t i = 0; i < 2; i++) {
        snprintf(self->channels[i].name, sizeof self->channels[i].name, "past.%u", i);
        self->channels[i].group = i;
        self->groups[i].max_hz = 1000;
    }
    self->channels[1].stamp = PS_STAMP_INSTANT;
    ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 500, .max_passes = PASSES};
    ps_sampler *sampler = script_sampler(&self->base, &options);
    const int64_t before_ns = ps_clock_now_ns();
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    script_wait_done(sampler);
    static ps_sample out[DRAIN];
    CHECK_EQ(RECORDS, drain(sampler, 0, out, DRAIN));
    int wrong = 0;
    for (int i = 0; i < RECORDS; i++) {
        int at = i % (1 + PAST_READINGS) - 1, pass = i / (1 + PAST_READINGS);
        wrong += out[i].seq != (uint32_t)i || out[i].channel != (at >= 0);
        if (at < 0)
            wrong += out[i].t0_ns < before_ns || out[i].t1_ns < out[i].t0_ns || out[i].raw != pass;
        else
            wrong += out[i].t0_ns != ((int64_t)pass * PAST_READINGS + at) * PAST_STEP_NS ||
                     out[i].t1_ns != out[i].t0_ns || out[i].raw != at || out[i].status != (at == 7 ? 9 : 0);
    }
    CHECK_EQ(0, wrong);
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(RECORDS, stats.records);
    CHECK_EQ(PASSES, stats.error_count[0]);
    CHECK_TEXT("a note", stats.note);
    CHECK(stats.last_ns >= before_ns); /* a pass ends now, whatever it tells of */
    ps_sampler_free(sampler);
}

int main(void)
{
    test_stamped_readings_keep_their_own_instants();
    test_virtual_grid_and_values_exact();
    test_virtual_unread_stops_at_once();
    test_paced_stalls_skip_and_keep_grid();
    test_slots_agree_with_the_grid_under_random_stalls();
    test_full_ring_drops_newest_seq_tells();
    test_errors_counted_by_code_and_beyond_table();
    test_groups_divisors_and_recovery();
    test_pinning_refusal_recorded();
    return HARNESS_RESULT();
}
