/* SPDX-License-Identifier: Apache-2.0
 *
 * Where and how urgently a lane runs: what is granted is in force, what is refused or lost is recorded, and the lane goes on.
 */
#include <errno.h>
#include <sched.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "core/lane_pass.h"
#include "script.h"

enum { NOBODY = 65534, PRIORITY = 1 };

static const int64_t S = 1000000000;

static ps_lane *lane_of(const ps_lane_options *options)
{
    ps_lane *lane;
    ps_lane_options complete = *options;
    complete.ring_records = 16;
    REQUIRE(ps_lane_new(script_ramp("fake"), &complete, 0, &lane) == PS_OK);
    return lane;
}

static ps_lane_stats stats_of(const ps_lane *lane)
{
    ps_lane_stats stats;
    ps_lane_stats_get(lane, &stats);
    return stats;
}

static int class_of_caller(void)
{
    return sched_getscheduler(0) & ~SCHED_RESET_ON_FORK;
}

/* In a child: classes, users and limits are not to be had back. */
static void in_child(void (*test)(void))
{
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        test();
        exit(HARNESS_RESULT());
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status));
    CHECK_EQ(0, WEXITSTATUS(status));
}

static void become_nobody(void)
{
    const struct rlimit none = {0, 0};
    REQUIRE(setrlimit(RLIMIT_RTPRIO, &none) == 0);
    if (geteuid() == 0)
        REQUIRE(setgid(NOBODY) == 0 && setuid(NOBODY) == 0);
}

static void class_without_the_right(void)
{
    become_nobody();
    ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = -1, .fifo_priority = PRIORITY, .rate_hz = 200, .max_passes = 5};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    script_wait_done(sampler);
    ps_lane_stats stats = script_stats(sampler, 0);
    CHECK_EQ(PS_FIFO_REFUSED, stats.fifo_refusal);
    CHECK_EQ(EPERM, stats.fifo_errno);
    CHECK_EQ(0, stats.fifo_priority);
    CHECK_EQ(5, stats.passes); /* all the same */
    script_check_identities(&stats);
    ps_sampler_free(sampler);
}

static void test_fifo_without_the_right_recorded_and_lane_runs(void)
{
    in_child(class_without_the_right);
}

static void class_by_duty(void)
{
    ps_lane_options options = {.mode = PS_MODE_TIGHT, .cpu = -1, .fifo_priority = PRIORITY, .max_passes = 5};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &options); /* back to back: all of a CPU */
    options = (ps_lane_options){.mode = PS_MODE_PACED, .cpu = -1, .fifo_priority = PRIORITY, .rate_hz = 1e5, .max_passes = 5};
    ps_script_step step = {.stall_ns = 1000};
    script_add(sampler, script_source("short", 1, &step, 1), &options); /* 10 us for a wake-up of 20 */
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    script_wait_done(sampler);
    for (uint32_t i = 0; i < 2; i++) {
        ps_lane_stats stats = script_stats(sampler, i);
        CHECK_EQ(PS_FIFO_DUTY_PLANNED, stats.fifo_refusal);
        CHECK_EQ(0, stats.fifo_priority + stats.fifo_errno);
        CHECK_EQ(5, stats.passes);
    }
    ps_sampler_free(sampler);
}

static void test_fifo_beyond_nine_tenths_of_a_cpu_never_asked_for(void)
{
    in_child(class_by_duty);
}

static void class_given_back(void)
{
    ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = -1, .fifo_priority = PRIORITY};
    ps_lane *lane = lane_of(&options);
    ps_lane_raise(lane, 0.2);
    ps_lane_stats stats = stats_of(lane);
    if (stats.fifo_refusal == PS_FIFO_REFUSED) { /* nothing more to see for this user */
        CHECK_EQ(EPERM, stats.fifo_errno);
        CHECK_EQ(SCHED_OTHER, class_of_caller());
        ps_lane_free(lane);
        return;
    }
    CHECK_EQ(PRIORITY, stats.fifo_priority);
    CHECK_EQ(SCHED_FIFO, class_of_caller());
    ps_lane_check_place(lane, 10 * S, S); /* the first look has nothing to compare with */
    ps_lane_check_place(lane, 11 * S, S + S / 2);
    CHECK_EQ(SCHED_FIFO, class_of_caller());
    ps_lane_check_place(lane, 12 * S, S + S / 2 + S * 95 / 100); /* what throttling leaves of a second */
    stats = stats_of(lane);
    CHECK_EQ(PS_FIFO_DUTY_MEASURED, stats.fifo_refusal);
    CHECK_EQ(0, stats.fifo_priority);
    CHECK_EQ(SCHED_OTHER, class_of_caller());
    ps_lane_free(lane);
}

static void test_fifo_lane_that_takes_a_whole_cpu_goes_back_by_itself(void)
{
    in_child(class_given_back);
}

static void test_pinning_to_a_cpu_that_is_not_there_recorded(void)
{
    const long present = sysconf(_SC_NPROCESSORS_CONF);
    const int32_t cpus[] = {(int32_t)present, CPU_SETSIZE - 1, CPU_SETSIZE, 100000};
    for (size_t i = 0; i < sizeof cpus / sizeof cpus[0]; i++) {
        ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = cpus[i], .max_passes = 3};
        ps_sampler *sampler = script_sampler(script_ramp("fake"), &options);
        REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
        script_wait_done(sampler);
        ps_lane_stats stats = script_stats(sampler, 0);
        CHECK_EQ(-1, stats.cpu);
        CHECK_EQ(EINVAL, stats.cpu_errno);
        CHECK_EQ(3, stats.passes);
        ps_sampler_free(sampler);
    }
}

/* What the kernel does to a thread whose only CPU is taken offline: it runs elsewhere. */
static void moved_elsewhere(void)
{
    cpu_set_t allowed, other;
    REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    if (CPU_COUNT(&allowed) < 2)
        return;
    int first = 0, second;
    while (!CPU_ISSET((size_t)first, &allowed))
        first++;
    for (second = first + 1; !CPU_ISSET((size_t)second, &allowed);)
        second++;
    ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = first};
    ps_lane *lane = lane_of(&options);
    ps_lane_pin(lane);
    CHECK_EQ(first, stats_of(lane).cpu);
    ps_lane_check_place(lane, S, 0);
    CHECK_EQ(first, stats_of(lane).cpu);
    CPU_ZERO(&other);
    CPU_SET((size_t)second, &other);
    REQUIRE(sched_setaffinity(0, sizeof other, &other) == 0);
    ps_lane_check_place(lane, 2 * S, 0);
    CHECK_EQ(-1, stats_of(lane).cpu);
    CHECK_EQ(ENODEV, stats_of(lane).cpu_errno);
    ps_lane_free(lane);
}

static void test_cpu_taken_away_while_running_recorded(void)
{
    in_child(moved_elsewhere);
}

int main(void)
{
    test_fifo_without_the_right_recorded_and_lane_runs();
    test_fifo_beyond_nine_tenths_of_a_cpu_never_asked_for();
    test_fifo_lane_that_takes_a_whole_cpu_goes_back_by_itself();
    test_pinning_to_a_cpu_that_is_not_there_recorded();
    test_cpu_taken_away_while_running_recorded();
    return HARNESS_RESULT();
}
