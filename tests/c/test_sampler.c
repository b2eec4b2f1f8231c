/* SPDX-License-Identifier: Apache-2.0
 *
 * The sampler's life: what it refuses, how it stops, what a hanging device and a fork do to it.
 */
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>
#include <unistd.h>

#include <stdatomic.h>

#include "core/sampler.h"
#include "script.h"

static const ps_lane_options slow = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 0.1};
static const ps_lane_options automatic = {.mode = PS_MODE_PACED, .cpu = -1};

static void test_add_bad_options_refused_with_reason(void)
{
    static const struct {
        ps_lane_options options;
        const char *text;
    } bad[] = {
        {{.mode = 0}, "mode"},
        {{.mode = 5}, "mode"},
        {{.mode = PS_MODE_PACED, .rate_hz = -1}, "rate of -1 Hz"},
        {{.mode = PS_MODE_PACED, .rate_hz = 1.1e6}, "rate"},
        {{.mode = PS_MODE_PACED, .rate_hz = 1e-4}, "rate"},
        {{.mode = PS_MODE_PACED, .rate_hz = (double)NAN}, "rate"},
        {{.mode = PS_MODE_PACED, .rate_hz = (double)INFINITY}, "rate"},
        {{.mode = PS_MODE_TIGHT, .rate_hz = 10}, "tight"},
        {{.mode = PS_MODE_FOLLOW, .rate_hz = 10}, "updates"},
        {{.mode = PS_MODE_PACED, .fifo_priority = 100}, "priority 100"},
        {{.mode = PS_MODE_PACED, .fifo_priority = -1}, "priority -1"},
        {{.mode = PS_MODE_VIRTUAL, .fifo_priority = 1}, "real-time"},
        {{.mode = PS_MODE_PACED, .ring_records = 1000}, "power of two"},
    };
    ps_sampler *sampler;
    REQUIRE(ps_sampler_new(&sampler) == PS_OK);
    ps_source *source = script_ramp("fake");
    ps_error error;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        memset(&error, 0, sizeof error);
        CHECK_EQ(PS_E_INVALID, ps_sampler_add(sampler, source, &bad[i].options, NULL, &error));
        CHECK_TEXT(bad[i].text, error.text);
        CHECK_TEXT("fake", error.text);
    }
    CHECK_EQ(0, ps_sampler_lanes(sampler));

    script_add(sampler, source, &automatic);
    ps_source *twin = script_ramp("fake");
    CHECK_EQ(PS_E_INVALID, ps_sampler_add(sampler, twin, &automatic, NULL, &error));
    CHECK_TEXT("fake.power0", error.text);
    ps_source_free(twin);
    ps_sampler_free(sampler); /* never started: frees the source it owns */
    ps_sampler_free(NULL);
}

static void test_add_rate_below_what_a_counter_needs_refused_by_name(void)
{
    ps_script_step steps[] = {{.channel = 0}, {.channel = 1}};
    ps_source *source = script_source("a", 2, steps, 2);
    source->groups[0].min_hz = 0.01;
    source->groups[1].min_hz = 0.5;
    ps_sampler *sampler;
    REQUIRE(ps_sampler_new(&sampler) == PS_OK);
    ps_error error;
    CHECK_EQ(PS_E_INVALID, ps_sampler_add(sampler, source, &slow, NULL, &error));
    CHECK_TEXT("a.power1 could turn round twice", error.text);
    CHECK_TEXT("at least 0.5 Hz", error.text);
    script_add(sampler, source, &(ps_lane_options){.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 0.5});
    ps_sampler_free(sampler);
}

/* A recording of external meters alone has no lane of its own. */
static void test_sampler_without_lanes_starts_and_stops(void)
{
    ps_sampler *sampler;
    ps_error error;
    REQUIRE(ps_sampler_new(&sampler) == PS_OK);
    CHECK_EQ(PS_OK, ps_sampler_start(sampler, &error));
    CHECK_EQ(0, ps_sampler_lanes(sampler));
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 1.0));
    ps_sampler_free(sampler);
}

static void test_ids_and_lanes_numbered_across_sources(void)
{
    ps_script_step steps[] = {{.channel = 0}, {.channel = 1}};
    ps_sampler *sampler = script_sampler(script_source("a", 2, steps, 2), &automatic);
    script_add(sampler, script_source("b", 2, steps, 2), &automatic);
    ps_channel channels[4];
    uint32_t count = 0;
    CHECK_EQ(PS_OK, ps_sampler_channels(sampler, channels, 4, &count));
    CHECK_EQ(4, count);
    for (uint32_t i = 0; i < 4; i++) {
        CHECK_EQ(i, channels[i].id);
        CHECK_EQ(i / 2, channels[i].lane);
    }
    ps_sampler_free(sampler);
}

static void test_wrong_order_of_calls_refused(void)
{
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &automatic);
    ps_source *late = script_ramp("late");
    ps_error error;
    CHECK_EQ(PS_E_STATE, ps_sampler_stop(sampler, 1));
    REQUIRE(ps_sampler_start(sampler, &error) == PS_OK);
    CHECK_EQ(PS_LANE_RUNNING, script_stats(sampler, 0).state);
    CHECK_EQ(1, ps_sampler_running(sampler));
    CHECK_EQ(PS_E_STATE, ps_sampler_start(sampler, &error));
    CHECK_EQ(PS_E_STATE, ps_sampler_add(sampler, late, &automatic, NULL, &error));
    CHECK_TEXT("started", error.text);
    CHECK_EQ(PS_E_INVALID, ps_sampler_stop(sampler, -1));
    CHECK_EQ(PS_E_INVALID, ps_sampler_stop(sampler, (double)NAN));
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_E_STATE, ps_sampler_start(sampler, &error));
    ps_lane_stats stats;
    CHECK_EQ(PS_E_INVALID, ps_sampler_stats(sampler, 1, &stats));
    uint32_t count;
    CHECK_EQ(PS_E_INVALID, ps_sampler_drain(sampler, 1, NULL, 0, &count));
    stats = script_stats(sampler, 0);
    script_check_identities(&stats);
    CHECK_EQ(PS_LANE_DONE, stats.state);
    ps_source_free(late);
    ps_sampler_free(sampler);
}

static void test_automatic_rate_and_cost_reported(void)
{
    ps_script_step step = {.stall_ns = 1000000};
    ps_sampler *sampler = script_sampler(script_source("costly", 1, &step, 1), &automatic);
    script_add(sampler, script_ramp("cheap"), &automatic);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_lane_stats costly = script_stats(sampler, 0), cheap = script_stats(sampler, 1);
    CHECK_EQ(PS_RATE_LANE_BUDGET, costly.rate_origin);
    CHECK(costly.call_cost_ns >= 1e6);
    CHECK(costly.rate_hz <= 20.0);
    CHECK(costly.rate_hz * costly.call_cost_ns * 1e-9 <= 0.02 * (1 + 1e-9));
    CHECK(cheap.call_cost_ns > 0);
    CHECK(cheap.start_ns > 0);
    ps_sampler_free(sampler); /* stops first */
}

/* A lane of one pass in ten seconds must not make its stop wait that long. */
static void test_sleeping_lane_stops_within_deadline(void)
{
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &slow);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    int64_t before_ns = ps_clock_now_ns();
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 9));
    CHECK(ps_clock_now_ns() - before_ns < INT64_C(9000000000));
    ps_lane_stats stats = script_stats(sampler, 0);
    script_check_identities(&stats);
    CHECK(stats.slots <= 1);
    ps_sampler_free(sampler);
}

/* A slot that was due while a long call lasted is confessed even if the lane was stopped in that call. */
static void test_stop_during_long_call_counts_missed_slots(void)
{
    ps_script_step steps[] = {{.raw = 1}, {.pass = 2, .stall_ns = 100000000}};
    ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 100};
    ps_sampler *sampler = script_sampler(script_source("fake", 1, steps, 2), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    while (script_stats(sampler, 0).passes < 3)
        harness_sleep_ms(1);
    harness_sleep_ms(50); /* at least four more slots become due */
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_lane_stats stats = script_stats(sampler, 0);
    script_check_identities(&stats);
    CHECK(stats.skipped >= 4);
    ps_sampler_free(sampler);
}

static void test_hung_lane_left_behind_others_unharmed(void)
{
    ps_script_step steps[] = {{.raw = 1}, {.pass = 3, .stall_ns = INT64_C(100000000000)}}; /* outlasts the test */
    ps_sampler *sampler = script_sampler(script_source("hangs", 1, steps, 2), &automatic);
    script_add(sampler, script_ramp("fine"), &automatic);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    while (script_stats(sampler, 0).passes < 4 || script_stats(sampler, 1).passes < 50)
        harness_sleep_ms(1);
    harness_sleep_ms(25); /* a grid of 1 ms */
    CHECK_EQ(PS_E_TIMEOUT, ps_sampler_stop(sampler, 0.2));
    ps_lane_stats hung = script_stats(sampler, 0), fine = script_stats(sampler, 1);
    CHECK_EQ(PS_LANE_HUNG, hung.state);
    CHECK_EQ(3, hung.records);
    CHECK_EQ(4, hung.passes);
    CHECK_EQ(hung.records, hung.drained + hung.dropped + hung.in_ring);
    /* What it missed up to the stop, by its own grid. */
    int64_t stop_ns = atomic_load_explicit(&sampler->lanes[0]->stop_ns, memory_order_relaxed);
    CHECK_EQ((stop_ns - hung.start_ns) / hung.period_ns + 1, hung.slots);
    CHECK_EQ(hung.slots, hung.passes + hung.skipped);
    CHECK(hung.skipped >= 20);
    CHECK_EQ(PS_LANE_DONE, fine.state);
    script_check_identities(&fine);
    CHECK_EQ(1, ps_sampler_running(sampler));
    ps_sample out[4];
    uint32_t count;
    CHECK_EQ(PS_OK, ps_sampler_drain(sampler, 0, out, 4, &count)); /* what it gave before is not lost */
    CHECK_EQ(3, count);
    ps_sampler_free(sampler);
}

/* A device whose calls return while its gate is open. */
typedef struct gated {
    ps_source base;
    ps_channel channel;
    ps_group group;
    _Atomic bool open;
} gated;

static uint32_t gated_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    gated *self = (gated *)source;
    while (!atomic_load_explicit(&self->open, memory_order_relaxed)) /* a flag, nothing is passed by it */
        harness_sleep_ms(1);
    *out = (ps_reading){.raw = (int64_t)(pass + group)};
    return 1;
}

static void gated_free(ps_source *source)
{
    (void)source; /* lies in the test */
}

static void gated_build(gated *self, const char *name)
{
    static const struct ps_source_ops ops = {.read = gated_read, .free = gated_free};
    *self = (gated){.base = {.ops = &ops, .driver = "gated", .n_channels = 1, .n_groups = 1},
                    .group = {.max_hz = 1000}};
    snprintf(self->base.name, sizeof self->base.name, "%s", name);
    snprintf(self->channel.name, sizeof self->channel.name, "%s.power", name);
    self->base.channels = &self->channel;
    self->base.groups = &self->group;
}

/* Devices of one driver that lets one call in at a time. */
typedef struct locked {
    ps_source base;
    ps_channel channel;
    ps_group group;
} locked;

static pthread_mutex_t driver_lock = PTHREAD_MUTEX_INITIALIZER;

static uint32_t locked_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    (void)source;
    pthread_mutex_lock(&driver_lock);
    harness_sleep_ms(1);
    pthread_mutex_unlock(&driver_lock);
    *out = (ps_reading){.raw = (int64_t)(pass + group)};
    return 1;
}

static int ascending(const void *left, const void *right)
{
    const double a = *(const double *)left, b = *(const double *)right;
    return (a > b) - (a < b);
}

/* Timed all at once, each would wait for the seven others, and take that for the cost of its call. */
static void test_lanes_of_one_driver_time_their_calls_in_turn(void)
{
    enum { LANES = 8 };
    static const struct ps_source_ops ops = {.read = locked_read, .free = gated_free};
    static locked sources[LANES];
    ps_sampler *sampler;
    REQUIRE(ps_sampler_new(&sampler) == PS_OK);
    for (int i = 0; i < LANES; i++) {
        locked *self = &sources[i];
        *self = (locked){.base = {.ops = &ops, .driver = "locked", .n_channels = 1, .n_groups = 1}, .group = {.max_hz = 1000}};
        snprintf(self->base.name, sizeof self->base.name, "locked%d", i);
        snprintf(self->channel.name, sizeof self->channel.name, "locked%d.power", i);
        self->base.channels = &self->channel;
        self->base.groups = &self->group;
        script_add(sampler, &self->base, &automatic);
    }
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    double cost_ns[LANES];
    for (uint32_t i = 0; i < LANES; i++)
        cost_ns[i] = script_stats(sampler, i).call_cost_ns;
    qsort(cost_ns, LANES, sizeof cost_ns[0], ascending);
    CHECK(cost_ns[0] >= 1e6);
    CHECK(cost_ns[LANES / 2] < 5e6); /* 8 ms if they queue; the rest is for a busy machine */
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_sampler_free(sampler);
}

/* One waits two seconds for a first call, then goes on without it. */
static void test_call_hanging_at_start_joins_later_or_is_left_behind(void)
{
    static gated late, never; /* static: a thread left behind goes on looking at its gate */
    gated_build(&late, "late");
    gated_build(&never, "never");
    ps_sampler *sampler = script_sampler(&late.base, &automatic);
    script_add(sampler, &never.base, &automatic);
    script_add(sampler, script_ramp("fine"), &automatic);
    int64_t before_ns = ps_clock_now_ns();
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    CHECK(ps_clock_now_ns() - before_ns < INT64_C(60000000000));
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(PS_LANE_NEW, stats.state);
    CHECK_EQ(0, stats.passes);
    CHECK_EQ(PS_RATE_LANE_BUDGET, stats.rate_origin); /* by a guess */
    CHECK(stats.call_cost_ns > 0 && stats.period_ns > 0);
    CHECK_EQ(PS_RATE_CAP, script_stats(sampler, 2).rate_origin);
    while (script_stats(sampler, 2).passes < 20)
        harness_sleep_ms(1);
    CHECK_EQ(0, script_stats(sampler, 0).passes);

    atomic_store_explicit(&late.open, true, memory_order_relaxed);
    while (script_stats(sampler, 0).passes < 3)
        harness_sleep_ms(1);
    CHECK_EQ(PS_E_TIMEOUT, ps_sampler_stop(sampler, 0.2));
    for (uint32_t lane = 0; lane < 3; lane++) {
        stats = script_stats(sampler, lane);
        script_check_identities(&stats);
        CHECK_EQ(lane == 1 ? PS_LANE_HUNG : PS_LANE_DONE, stats.state);
    }
    CHECK_EQ(0, script_stats(sampler, 1).slots); /* it never had a grid */
    ps_sampler_free(sampler);
}

/* Lanes of the same rate do not fall on the same instants. */
static void test_grids_of_lanes_offset_against_one_another(void)
{
    enum { LANES = 4 };
    const ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 10, .max_passes = 1};
    ps_sampler *sampler = script_sampler(script_ramp("lane0"), &options);
    script_add(sampler, script_ramp("lane1"), &options);
    script_add(sampler, script_ramp("lane2"), &options);
    script_add(sampler, script_ramp("lane3"), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    const int64_t first_ns = sampler->lanes[0]->grid_ns;
    for (uint32_t i = 0; i < LANES; i++) {
        CHECK_EQ(first_ns + i * INT64_C(25000000), sampler->lanes[i]->grid_ns);
        CHECK(script_stats(sampler, i).start_ns >= sampler->lanes[i]->grid_ns); /* later: on a busy machine */
    }
    ps_sampler_free(sampler);
}

/* A signal sent to the process while the main thread blocks it would run in a lane's thread if that did not
 * block it too, and kill us. */
static void test_signals_never_reach_lanes(void)
{
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &automatic);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGUSR1);
    sigprocmask(SIG_BLOCK, &set, NULL);
    uint64_t passes = script_stats(sampler, 0).passes;
    kill(getpid(), SIGUSR1);
    while (script_stats(sampler, 0).passes < passes + 5)
        harness_sleep_ms(1);
    int got = 0;
    sigwait(&set, &got);
    CHECK_EQ(SIGUSR1, got);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    ps_sampler_free(sampler);
}

static void test_fork_child_refused_parent_unharmed(void)
{
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &automatic);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ps_sample out[4];
        uint32_t count = 0;
        int bad = ps_sampler_stop(sampler, 60) != PS_E_STATE;
        bad += ps_sampler_drain(sampler, 0, out, 4, &count) != PS_E_STATE;
        bad += ps_sampler_running(sampler) != 0;
        ps_sampler_free(sampler);
        _exit(bad);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(0, WEXITSTATUS(status));
    uint64_t passes = script_stats(sampler, 0).passes;
    while (script_stats(sampler, 0).passes < passes + 5)
        harness_sleep_ms(1);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_lane_stats stats = script_stats(sampler, 0);
    script_check_identities(&stats);
    ps_sampler_free(sampler);
}

int main(void)
{
    test_add_bad_options_refused_with_reason();
    test_add_rate_below_what_a_counter_needs_refused_by_name();
    test_sampler_without_lanes_starts_and_stops();
    test_ids_and_lanes_numbered_across_sources();
    test_wrong_order_of_calls_refused();
    test_automatic_rate_and_cost_reported();
    test_sleeping_lane_stops_within_deadline();
    test_stop_during_long_call_counts_missed_slots();
    test_grids_of_lanes_offset_against_one_another();
    test_lanes_of_one_driver_time_their_calls_in_turn();
    test_signals_never_reach_lanes();
    test_fork_child_refused_parent_unharmed();
    test_hung_lane_left_behind_others_unharmed(); /* last: threads outlive these */
    test_call_hanging_at_start_joins_later_or_is_left_behind();
    return HARNESS_RESULT();
}
