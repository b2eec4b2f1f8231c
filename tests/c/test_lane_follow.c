/* SPDX-License-Identifier: Apache-2.0
 *
 * The lane that follows, on devices that publish by the real clock: it locks on, polls seldom, reads the rest at its own
 * spacing, counts exactly, and says why when it cannot follow. How well it follows is test_tracker.c's, in virtual time.
 */
#include "core/rate.h"
#include "core/source.h"
#include "script.h"

static const int64_t MS = 1000000;

static const ps_lane_options follow = {.mode = PS_MODE_FOLLOW, .cpu = -1};

/* Two power channels in one call, published each period_ns and at other phases, and a counter with a call of its own. */
typedef struct publisher {
    ps_source base;
    ps_channel channels[3];
    ps_group groups[2];
    int64_t period_ns, call_ns;
    uint32_t calls[2];
} publisher;

static uint32_t publisher_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    publisher *self = (publisher *)source;
    const int64_t now_ns = ps_clock_now_ns();
    (void)pass;
    self->calls[group]++;
    while (ps_clock_now_ns() < now_ns + self->call_ns)
        ;
    if (group == 1) {
        *out = (ps_reading){.raw = now_ns, .channel = 2};
        return 1;
    }
    for (uint32_t i = 0; i < 2; i++)
        out[i] = (ps_reading){.raw = (now_ns + i * self->period_ns / 2) / self->period_ns, .channel = (uint16_t)i};
    return 2;
}

static void publisher_free(ps_source *source)
{
    (void)source; /* lies in the test */
}

static void publisher_build(publisher *self, int64_t period_ns, int64_t call_ns)
{
    static const struct ps_source_ops ops = {.read = publisher_read, .free = publisher_free};
    *self = (publisher){.base = {.ops = &ops, .name = "publisher", .n_channels = 3, .n_groups = 2},
                        .channels = {{.name = "a", .kind = PS_KIND_POWER},
                                     {.name = "b", .kind = PS_KIND_POWER},
                                     {.name = "counter", .kind = PS_KIND_ENERGY, .group = 1}},
                        .groups = {{.max_hz = 1000}, {.max_hz = 25}},
                        .period_ns = period_ns,
                        .call_ns = call_ns};
    self->base.channels = self->channels;
    self->base.groups = self->groups;
}

static uint32_t drain(ps_sampler *sampler, ps_sample *out, uint32_t capacity)
{
    uint32_t count = 0;
    CHECK_EQ(PS_OK, ps_sampler_drain(sampler, 0, out, capacity, &count));
    return count;
}

static void test_lane_locks_on_and_polls_seldom(void)
{
    enum { CAPACITY = 1 << 14, PERIOD_MS = 25, UPDATES = 20 };
    static ps_sample out[CAPACITY];
    publisher source;
    publisher_build(&source, PERIOD_MS * MS, 0);
    ps_sampler *sampler = script_sampler(&source.base, &follow);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(PS_MODE_FOLLOW, stats.mode);
    CHECK_EQ(PS_RATE_UPDATES, stats.rate_origin);
    CHECK(stats.rate_hz == 0);
    CHECK_EQ(MS, stats.period_ns);
    while (script_stats(sampler, 0).acquisitions < 2) /* a minute is not too long on a busy machine: the runner's limit */
        harness_sleep_ms(1);
    const ps_lane_stats locked = script_stats(sampler, 0);
    while (script_stats(sampler, 0).updates < locked.updates + 2 * UPDATES)
        harness_sleep_ms(1);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    stats = script_stats(sampler, 0);
    CHECK_EQ(PS_FOLLOWED, stats.unfollowed);
    CHECK_EQ(2, stats.n_followed);
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_EQ(i, stats.followed_channel[i]);
        if (stats.acquisitions == 2) /* else a bad moment of the machine made it look again */
            CHECK(llabs(stats.followed_period_ns[i] - PERIOD_MS * MS) < MS);
    }
    const double polls = (double)(stats.passes - locked.passes) / UPDATES;
    CHECK(polls < PERIOD_MS || stats.acquisitions > 2); /* a grid of 1 ms takes that many, for both channels */

    /* Exact, whatever the machine did. */
    CHECK_EQ(stats.slots, stats.passes + stats.skipped);
    const uint32_t n = drain(sampler, out, CAPACITY);
    REQUIRE(n < CAPACITY);
    CHECK_EQ(stats.records, n + stats.dropped);
    CHECK_EQ(0, stats.dropped);
    uint64_t wakes = 0, of_channel[3] = {0};
    for (int bin = 0; bin < PS_HIST_BINS; bin++)
        wakes += stats.wake_hist[bin];
    CHECK_EQ(stats.passes, wakes);
    for (uint32_t i = 0; i < n; i++) {
        CHECK_EQ(i, out[i].seq);
        of_channel[out[i].channel]++;
    }
    CHECK_EQ(of_channel[0], of_channel[1]);
    CHECK_EQ(stats.passes, of_channel[0] + of_channel[2]);
    /* 25 Hz at most, whatever the power channels want; and not starved by them. */
    const double seconds = (double)(stats.last_ns - stats.start_ns) / 1e9;
    CHECK((double)of_channel[2] <= 25 * seconds + 2);
    CHECK((double)of_channel[2] >= 5 * seconds - 2);
    ps_sampler_free(sampler);
}

static void test_nothing_to_follow_is_paced_with_the_reason(void)
{
    publisher source;
    publisher_build(&source, 25 * MS, 0);
    source.channels[0].kind = source.channels[1].kind = PS_KIND_ENERGY; /* as RAPL */
    ps_sampler *sampler = script_sampler(&source.base, &follow);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(PS_MODE_PACED, stats.mode);
    CHECK_EQ(PS_UNFOLLOWED_NOTHING, stats.unfollowed);
    CHECK_EQ(0, stats.n_followed);
    CHECK_EQ(PS_RATE_CAP, stats.rate_origin);
    CHECK_EQ(MS, stats.period_ns);
    ps_sampler_free(sampler);
}

/* A meter that publishes once a second: bursts of 1 ms to find out when would cost more than they tell. */
static void test_power_that_is_read_seldom_anyway_is_paced(void)
{
    publisher source;
    publisher_build(&source, 25 * MS, 0);
    source.groups[0].max_hz = 10;
    source.groups[1].max_hz = 5;
    ps_sampler *sampler = script_sampler(&source.base, &follow);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(PS_MODE_PACED, stats.mode);
    CHECK_EQ(PS_UNFOLLOWED_NOTHING, stats.unfollowed);
    CHECK_EQ(100 * MS, stats.period_ns);
    ps_sampler_free(sampler);
}

/* 60 polls a second of 1 ms, and even 40, are more than 2 %. */
static void test_costly_calls_are_paced_with_the_reason(void)
{
    publisher source;
    publisher_build(&source, 100 * MS, MS);
    ps_sampler *sampler = script_sampler(&source.base, &follow);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(PS_MODE_PACED, stats.mode);
    CHECK_EQ(PS_UNFOLLOWED_BUDGET, stats.unfollowed);
    CHECK_EQ(PS_RATE_LANE_BUDGET, stats.rate_origin);
    CHECK(stats.rate_hz > 0 && stats.rate_hz <= 20);
    ps_sampler_free(sampler);
}

static void test_quick_sensor_goes_over_to_a_grid(void)
{
    publisher source;
    publisher_build(&source, 2 * MS, 0);
    ps_sampler *sampler = script_sampler(&source.base, &follow);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    while (script_stats(sampler, 0).unfollowed == PS_FOLLOWED)
        harness_sleep_ms(1);
    const uint64_t passes = script_stats(sampler, 0).passes;
    while (script_stats(sampler, 0).passes < passes + 20)
        harness_sleep_ms(1);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(PS_MODE_FOLLOW, stats.mode);
    CHECK_EQ(PS_UNFOLLOWED_FAST, stats.unfollowed);
    CHECK_EQ(stats.slots, stats.passes + stats.skipped);
    CHECK_EQ(stats.records, stats.in_ring + stats.dropped);
    ps_sampler_free(sampler);
}

/* ---- the plan ------------------------------------------------------------------------------------------------- */

static ps_rate_lane planned(ps_group groups[2], double cost_ns, bool followable)
{
    groups[0] = (ps_group){.max_hz = 1000, .cost_ns = cost_ns};
    groups[1] = (ps_group){.max_hz = 40, .cost_ns = cost_ns};
    return (ps_rate_lane){.driver = "nvml", .groups = groups, .n_groups = 2, .mode = PS_MODE_FOLLOW, .followable = followable};
}

static void test_plan_widens_the_spacing_before_it_refuses(void)
{
    static const struct {
        double cost_us;
        int32_t mode;
        double spacing_ms;
    } rows[] = {{20, PS_MODE_FOLLOW, 1}, {200, PS_MODE_FOLLOW, 1}, {300, PS_MODE_FOLLOW, 1.6}, {390, PS_MODE_FOLLOW, 1.6},
                {450, PS_MODE_PACED, 0}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ps_group groups[2];
        ps_rate_lane lane = planned(groups, rows[i].cost_us * 1e3, true);
        ps_rate_plan(&lane, 1);
        CHECK_EQ(rows[i].mode, lane.mode);
        CHECK(lane.share == PS_RATE_LANE_SHARE);
        if (lane.mode != PS_MODE_FOLLOW) {
            CHECK_EQ(PS_UNFOLLOWED_BUDGET, lane.unfollowed);
            continue;
        }
        CHECK_EQ((int64_t)(rows[i].spacing_ms * 1e6), lane.period_ns);
        CHECK_EQ(0, groups[0].every_ns);
        const double polls_hz = rows[i].spacing_ms > 1 ? 40 : 60;
        const double share = rows[i].cost_us * 1e-6 * (polls_hz + 1e9 / (double)groups[1].every_ns);
        CHECK(share <= PS_RATE_LANE_SHARE * (1 + 1e-6));
    }
}

/* Eight GPUs behind one driver have 0.6 % each: at 400 us a call that is one and a half polls an update. */
static void test_plan_of_eight_costly_gpus_refuses(void)
{
    enum { GPUS = 8 };
    ps_group groups[GPUS][2];
    ps_rate_lane lanes[GPUS];
    for (int i = 0; i < GPUS; i++)
        lanes[i] = planned(groups[i], 400e3, true);
    ps_rate_plan(lanes, GPUS);
    double together = 0;
    for (int i = 0; i < GPUS; i++) {
        CHECK_EQ(PS_MODE_PACED, lanes[i].mode);
        CHECK_EQ(PS_UNFOLLOWED_BUDGET, lanes[i].unfollowed);
        CHECK_EQ(PS_RATE_DRIVER_BUDGET, lanes[i].origin);
        CHECK(lanes[i].rate_hz > 11.5);
        for (int j = 0; j < 2; j++)
            together += groups[i][j].cost_ns * 1e-9 * lanes[i].rate_hz / groups[i][j].divisor;
    }
    CHECK(together <= PS_RATE_DRIVER_SHARE);
}

int main(void)
{
    test_plan_widens_the_spacing_before_it_refuses();
    test_plan_of_eight_costly_gpus_refuses();
    test_nothing_to_follow_is_paced_with_the_reason();
    test_power_that_is_read_seldom_anyway_is_paced();
    test_costly_calls_are_paced_with_the_reason();
    test_quick_sensor_goes_over_to_a_grid();
    test_lane_locks_on_and_polls_seldom();
    return HARNESS_RESULT();
}
