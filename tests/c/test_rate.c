/* SPDX-License-Identifier: Apache-2.0
 *
 * The automatic rate is arithmetic: budgets are met as nearly as a grid of whole nanoseconds allows, never
 * exceeded.
 */
#include <math.h>

#include "core/rate.h"
#include "harness.h"

enum { POWER, COUNTER, AUX, GROUPS };

static void fill_gpu(ps_group groups[GROUPS], double cost_ns)
{
    groups[POWER] = (ps_group){.max_hz = 1000, .cost_ns = cost_ns};
    groups[COUNTER] = (ps_group){.max_hz = 10, .cost_ns = cost_ns};
    groups[AUX] = (ps_group){.max_hz = 1, .cost_ns = cost_ns};
}

static double share_of(const ps_rate_lane *lane)
{
    double busy = 0;
    for (uint32_t i = 0; i < lane->n_groups; i++)
        busy += lane->groups[i].cost_ns * 1e-9 * lane->rate_hz / lane->groups[i].divisor;
    return busy;
}

static ps_rate_lane lane_of(ps_group *groups, uint32_t n, const char *driver, double asked_hz)
{
    return (ps_rate_lane){
        .driver = driver, .groups = groups, .n_groups = n, .mode = PS_MODE_PACED, .asked_hz = asked_hz};
}

static void test_cheap_calls_reach_cap(void)
{
    ps_group groups[GROUPS];
    fill_gpu(groups, 5e3);
    ps_rate_lane lane = lane_of(groups, GROUPS, "nvml", 0);
    ps_rate_plan(&lane, 1);
    CHECK_EQ(1000000, lane.period_ns);
    CHECK_EQ(PS_RATE_CAP, lane.origin);
    CHECK_EQ(1, groups[POWER].divisor);
    CHECK_EQ(100, groups[COUNTER].divisor);
    CHECK_EQ(1000, groups[AUX].divisor);
    CHECK(fabs(lane.call_cost_ns - 5e3 * (1 + 1e-2 + 1e-3)) < 1e-6);
}

static void test_costly_calls_meet_lane_budget(void)
{
    ps_group groups[GROUPS];
    fill_gpu(groups, 400e3); /* 2 % is 50 calls a second, of which counter and AUX want 11 and get 10 */
    ps_rate_lane lane = lane_of(groups, GROUPS, "nvml", 0);
    ps_rate_plan(&lane, 1);
    CHECK_EQ(PS_RATE_LANE_BUDGET, lane.origin);
    CHECK(fabs(lane.rate_hz - 40.0) < 1e-3);
    CHECK_EQ(5, groups[COUNTER].divisor); /* 8 Hz: 9.09 by the budget */
    CHECK_EQ(44, groups[AUX].divisor);
    CHECK(share_of(&lane) <= PS_RATE_LANE_SHARE);
}

static void test_eight_gpus_meet_driver_budget(void)
{
    enum { GPUS = 8 };
    ps_group groups[GPUS][GROUPS];
    ps_rate_lane lanes[GPUS + 2];
    for (int i = 0; i < GPUS; i++) {
        fill_gpu(groups[i], 400e3);
        lanes[i] = lane_of(groups[i], GROUPS, "nvml", 0);
    }
    ps_group other = {.max_hz = 1000, .cost_ns = 400e3}, lone = other;
    lanes[GPUS] = lane_of(&other, 1, "rapl", 0);
    lanes[GPUS + 1] = lane_of(&lone, 1, "", 0);
    ps_rate_plan(lanes, GPUS + 2);

    double together = 0;
    for (int i = 0; i < GPUS; i++) {
        CHECK_EQ(PS_RATE_DRIVER_BUDGET, lanes[i].origin);
        CHECK_EQ(lanes[0].period_ns, lanes[i].period_ns);
        together += share_of(&lanes[i]);
    }
    CHECK(together <= PS_RATE_DRIVER_SHARE && together > 0.9 * PS_RATE_DRIVER_SHARE);
    CHECK(fabs(lanes[0].rate_hz - 12.0) < 1e-3); /* four fifths of 0.048 / 8 / 400 us */
    CHECK_EQ(5, groups[0][COUNTER].divisor); /* 10 / 11 of the last fifth, 3 Hz: 2.73 Hz */
    CHECK_EQ(PS_RATE_LANE_BUDGET, lanes[GPUS].origin); /* another driver, and none */
    CHECK_EQ(PS_RATE_LANE_BUDGET, lanes[GPUS + 1].origin);
}

/* What NVML offers today: a counter and nine calls once a second want more than the whole share of a lane. */
static void test_slow_groups_never_starve_power(void)
{
    enum { GPUS = 8, CALLS = 10 };
    ps_group groups[GPUS][CALLS];
    ps_rate_lane lanes[GPUS];
    for (int i = 0; i < GPUS; i++) {
        groups[i][0] = (ps_group){.max_hz = 1000, .cost_ns = 400e3};
        for (int j = 1; j < CALLS; j++)
            groups[i][j] = (ps_group){.max_hz = j == 1 ? 10 : 1, .cost_ns = 400e3};
        lanes[i] = lane_of(groups[i], CALLS, "nvml", 0);
    }
    ps_rate_plan(lanes, GPUS);
    double together = 0;
    for (int i = 0; i < GPUS; i++) {
        CHECK(lanes[i].rate_hz > 11.9);
        CHECK(groups[i][1].divisor > 1 && groups[i][2].divisor > groups[i][1].divisor);
        together += share_of(&lanes[i]);
    }
    CHECK(together <= PS_RATE_DRIVER_SHARE);
}

/* A fifth is what slow groups may take from power, not what they are held to when power has enough. */
static void test_slow_groups_take_what_power_leaves(void)
{
    ps_group groups[] = {{.max_hz = 10, .cost_ns = 100e3}, {.max_hz = 5, .cost_ns = 3e6}};
    ps_rate_lane lane = lane_of(groups, 2, "nvml", 0);
    ps_rate_plan(&lane, 1);
    CHECK_EQ(PS_RATE_CAP, lane.origin); /* power: 0.1 % */
    CHECK_EQ(100000000, lane.period_ns);
    CHECK_EQ(2, groups[1].divisor); /* 1.5 % */
    groups[1].cost_ns = 10e6; /* 5 %, of which 1.9 % are left */
    ps_rate_plan(&lane, 1);
    CHECK_EQ(PS_RATE_CAP, lane.origin);
    CHECK_EQ(6, groups[1].divisor); /* 1.9 Hz by the budget */
    CHECK(share_of(&lane) <= PS_RATE_LANE_SHARE);
}

static void test_cheap_lane_leaves_its_share_to_costly_ones(void)
{
    ps_group cheap = {.max_hz = 1000, .cost_ns = 1e3}; /* 0.1 % at the cap */
    ps_group costly[3];
    ps_rate_lane lanes[4] = {lane_of(&cheap, 1, "nvml", 0)};
    for (int i = 0; i < 3; i++) {
        costly[i] = (ps_group){.max_hz = 1000, .cost_ns = 1e6};
        lanes[i + 1] = lane_of(&costly[i], 1, "nvml", 0);
    }
    ps_rate_plan(lanes, 4);
    CHECK_EQ(PS_RATE_CAP, lanes[0].origin);
    CHECK_EQ(1000000, lanes[0].period_ns);
    CHECK_EQ(PS_RATE_DRIVER_BUDGET, lanes[1].origin);
    CHECK(fabs(lanes[1].rate_hz - (0.048 - 0.001) / 3 / 1e-3) < 1e-3);
}

/* One of eight was timed while something else had the core; another of them is guessed, as its first call has not come back. */
static void test_boards_alike_are_planned_alike(void)
{
    enum { GPUS = 8, DEAR = 3, SILENT = 5 };
    ps_group groups[GPUS][GROUPS];
    ps_rate_lane lanes[GPUS];
    double scratch[GPUS];
    for (int i = 0; i < GPUS; i++) {
        fill_gpu(groups[i], 400e3 + i);
        lanes[i] = lane_of(groups[i], GROUPS, "nvml", 0);
    }
    groups[DEAR][POWER].cost_ns = 700e3;
    groups[SILENT][POWER].cost_ns = 1e6;
    lanes[SILENT].guessed = true;
    ps_rate_even_costs(lanes, GPUS, scratch);
    for (int i = 0; i < GPUS; i++) /* of 400 000, 1, 2, 4, 6, 7 and 700 000 ns the fourth */
        CHECK(groups[i][POWER].cost_ns == (i == SILENT ? 1e6 : 400e3 + 4));
    ps_rate_plan(lanes, GPUS);
    CHECK_EQ(lanes[0].period_ns, lanes[DEAR].period_ns);
}

static void test_costs_are_evened_among_boards_alike_only(void)
{
    enum { LANES = 6 };
    ps_group groups[LANES] = {
        {.max_hz = 1000, .cost_ns = 100e3}, {.max_hz = 1000, .cost_ns = 110e3}, {.max_hz = 1000, .cost_ns = 330e3},
        {.max_hz = 100, .cost_ns = 150e3}, /* asked otherwise */
        {.max_hz = 1000, .cost_ns = 170e3}, {.max_hz = 1000, .cost_ns = 190e3}, /* of another driver, and of none */
    };
    ps_rate_lane lanes[LANES];
    double scratch[LANES];
    for (int i = 0; i < LANES; i++)
        lanes[i] = lane_of(&groups[i], 1, i < 4 ? "nvml" : i == 4 ? "rapl" : "", 0);
    ps_rate_even_costs(lanes, LANES, scratch);
    CHECK(groups[0].cost_ns == 110e3 && groups[1].cost_ns == 110e3);
    CHECK(groups[2].cost_ns == 330e3); /* three times the others': a slower board */
    CHECK(groups[3].cost_ns == 150e3 && groups[4].cost_ns == 170e3 && groups[5].cost_ns == 190e3);
}

static void test_asked_rate_taken_and_not_counted(void)
{
    ps_group asked[GROUPS], left[GROUPS];
    fill_gpu(asked, 400e3);
    fill_gpu(left, 400e3);
    ps_rate_lane lanes[] = {lane_of(asked, GROUPS, "nvml", 3), lane_of(left, GROUPS, "nvml", 0)};
    ps_rate_plan(lanes, 2);
    CHECK_EQ(PS_RATE_ASKED, lanes[0].origin);
    CHECK_EQ(333333333, lanes[0].period_ns);
    CHECK_EQ(1, asked[COUNTER].divisor);
    CHECK_EQ(3, asked[AUX].divisor); /* not 4: the grid's rate is 3.000000003 Hz */
    CHECK_EQ(PS_RATE_LANE_BUDGET, lanes[1].origin);
}

static void test_asked_beyond_useful_reads_fastest_groups_each_pass(void)
{
    ps_group groups[GROUPS];
    fill_gpu(groups, 1e3);
    ps_rate_lane lane = lane_of(groups, GROUPS, "nvml", 10000);
    ps_rate_plan(&lane, 1);
    CHECK_EQ(100000, lane.period_ns);
    CHECK_EQ(1, groups[POWER].divisor);
    CHECK_EQ(1000, groups[COUNTER].divisor);
    CHECK_EQ(10000, groups[AUX].divisor);
}

static void test_tight_slow_groups_keep_their_rate(void)
{
    ps_group groups[GROUPS];
    fill_gpu(groups, 20e3); /* 50 000 passes a second */
    ps_rate_lane lane = lane_of(groups, GROUPS, "nvml", 0);
    lane.mode = PS_MODE_TIGHT;
    ps_rate_plan(&lane, 1);
    CHECK_EQ(0, lane.period_ns);
    CHECK_EQ(1, groups[POWER].divisor);
    CHECK_EQ(5000, groups[COUNTER].divisor);
    CHECK_EQ(50000, groups[AUX].divisor);
}

static void test_extremes_stay_in_range(void)
{
    ps_group stuck = {.max_hz = 1000, .cost_ns = 60e9}; /* a call of a minute */
    ps_group idle = {.max_hz = 1e-9, .cost_ns = 0};
    ps_rate_lane lanes[] = {lane_of(&stuck, 1, "nvml", 0), lane_of(&idle, 1, "", 0)};
    ps_rate_plan(lanes, 2);
    CHECK(lanes[0].rate_hz <= PS_RATE_MIN_HZ * 1.000001);
    CHECK(lanes[0].period_ns > 0 && lanes[0].period_ns <= INT64_C(1000000000001));
    CHECK_EQ(1, stuck.divisor);
    CHECK(lanes[1].period_ns > 0 && idle.divisor >= 1);
}

static void test_counter_that_turns_is_read_often_enough_whatever_the_budget(void)
{
    ps_group groups[2] = {{.max_hz = 1000, .min_hz = 250, .cost_ns = 1e6}, {.max_hz = 1000, .cost_ns = 1e6}};
    ps_rate_lane lane = lane_of(groups, 2, "rapl", 0);
    ps_rate_plan(&lane, 1);
    CHECK_EQ(PS_RATE_TURNS, lane.origin); /* the budget alone gives 10 Hz */
    CHECK_EQ(4000000, lane.period_ns);

    groups[0].min_hz = 300; /* no whole number of ns: the grid is the next one that is fast enough */
    ps_rate_plan(&lane, 1);
    CHECK_EQ(3333333, lane.period_ns);
    CHECK(lane.rate_hz >= 300);

    groups[0].min_hz = 0.03; /* below what the budget gives: nothing changes */
    ps_rate_plan(&lane, 1);
    CHECK_EQ(PS_RATE_LANE_BUDGET, lane.origin);
    CHECK(fabs(lane.rate_hz - 10) < 1e-3);
}

static void test_slow_counter_that_turns_keeps_its_least_rate(void)
{
    /* Wants 10 Hz, would get 2 by the budget, needs 3. */
    ps_group groups[2] = {{.max_hz = 1000, .cost_ns = 10e3}, {.max_hz = 10, .min_hz = 3, .cost_ns = 2e6}};
    ps_rate_lane lane = lane_of(groups, 2, "rapl", 0);
    ps_rate_plan(&lane, 1);
    CHECK(lane.rate_hz / groups[1].divisor >= 3);
    CHECK(lane.rate_hz / groups[1].divisor < 3.1);
    CHECK(share_of(&lane) <= PS_RATE_LANE_SHARE); /* the fast ones give way */

    groups[1].min_hz = 700; /* more than its max_hz, and more than half the lane's rate: each pass */
    lane.asked_hz = 800;
    ps_rate_plan(&lane, 1);
    CHECK_EQ(1, groups[1].divisor);
    CHECK_EQ(PS_RATE_ASKED, lane.origin);
}

static void test_least_rate_is_told_so_that_it_does(void)
{
    static const double rates[] = {0.030517578125, 0.03, 250, 12345, 1e-7, 999.5};
    for (size_t i = 0; i < sizeof rates / sizeof *rates; i++) {
        char text[32];
        snprintf(text, sizeof text, "%.3g", ps_rate_rounded_up(rates[i]));
        CHECK(strtod(text, NULL) >= rates[i]);
        CHECK(strtod(text, NULL) <= rates[i] * 1.0101);
    }
    CHECK(ps_rate_rounded_up(0) == 0);
    CHECK(ps_rate_least_hz(NULL, 0) == 0);
}

int main(void)
{
    test_counter_that_turns_is_read_often_enough_whatever_the_budget();
    test_slow_counter_that_turns_keeps_its_least_rate();
    test_least_rate_is_told_so_that_it_does();
    test_cheap_calls_reach_cap();
    test_costly_calls_meet_lane_budget();
    test_eight_gpus_meet_driver_budget();
    test_boards_alike_are_planned_alike();
    test_costs_are_evened_among_boards_alike_only();
    test_slow_groups_never_starve_power();
    test_slow_groups_take_what_power_leaves();
    test_cheap_lane_leaves_its_share_to_costly_ones();
    test_asked_rate_taken_and_not_counted();
    test_asked_beyond_useful_reads_fastest_groups_each_pass();
    test_tight_slow_groups_keep_their_rate();
    test_extremes_stay_in_range();
    return HARNESS_RESULT();
}
