/* SPDX-License-Identifier: Apache-2.0
 *
 * The load generator: what its kernel finds, what its log holds, and how it stops.
 */
#include <stdbool.h>

#include "harness.h"
#include "load/kernel.h"
#include "powersample.h"

enum { MS = 1000 * 1000, FAR = 64 };

static const int64_t pattern[] = {0, 5 * MS, 12 * MS, 20 * MS, 31 * MS, 33 * MS};

static ps_load *made(uint32_t threads, const int64_t *edges, uint32_t count)
{
    ps_error error;
    ps_load *load = NULL;
    const ps_load_options options = {.kernel = PS_LOAD_PRIMES, .threads = threads, .edge_ns = edges, .edges = count};
    REQUIRE(ps_load_new(&options, &load, &error) == PS_OK);
    return load;
}

static void test_kernel_finds_the_primes_that_trial_division_finds(void)
{
    static ps_primes work;
    uint32_t expected = 0;
    for (uint32_t i = 0; i < PS_PRIMES_SEGMENT; i++) {
        const uint32_t number = PS_PRIMES_FIRST + 2 * i;
        bool prime = true;
        for (uint32_t by = 3; prime && by * by <= number; by += 2)
            prime = number % by != 0;
        expected += prime;
    }
    ps_primes_init(&work);
    CHECK_EQ(expected, ps_primes_round(&work));
    CHECK_EQ(PS_PRIMES_FOUND, ps_primes_round(&work)); /* and again: nothing of the first round is left */
    work.prime[0] = 5;
    CHECK(ps_primes_round(&work) != PS_PRIMES_FOUND); /* a fault shows */
}

/* However late the machine is, every burst of every thread is either logged or counted as missed. */
static void test_log_is_complete_and_in_order(void)
{
    ps_load *load = made(3, pattern, 6);
    const int64_t start_ns = ps_clock_now_ns() + 20 * MS;
    CHECK_EQ(PS_OK, ps_load_start(load, start_ns, NULL));
    CHECK_EQ(PS_OK, ps_load_wait(load, 30.0));
    ps_load_burst log[FAR];
    ps_load_result result;
    CHECK_EQ(PS_OK, ps_load_log(load, log, FAR, &result));
    CHECK_EQ(9, result.bursts + result.missed);
    CHECK_EQ(0, result.wrong);
    CHECK_EQ(0, result.unpinned);
    for (uint32_t i = 0; i < result.bursts; i++) {
        const ps_load_burst *one = &log[i];
        CHECK(one->rise_ns >= one->planned_ns);
        CHECK(one->fall_ns > one->rise_ns);
        CHECK(one->rounds > 0);
        CHECK(one->stalled_ns >= 0 && one->stalled_ns <= one->fall_ns - one->rise_ns);
        bool planned = false;
        for (uint32_t at = 0; at < 6; at += 2)
            if (one->planned_ns == start_ns + pattern[at]) {
                planned = true;
                CHECK(one->rise_ns < start_ns + pattern[at + 1]); /* later, it would have been missed */
                CHECK(one->fall_ns >= start_ns + pattern[at + 1]);
            }
        CHECK(planned);
        if (i && log[i - 1].thread == one->thread)
            CHECK(one->rise_ns >= log[i - 1].fall_ns);
        else
            CHECK_EQ(i ? log[i - 1].thread + 1 : 0, one->thread);
    }
    ps_load_result fewer;
    CHECK_EQ(PS_OK, ps_load_log(load, log, 1, &fewer)); /* room for one: the count tells of the others */
    CHECK_EQ(result.bursts, fewer.bursts);
    ps_load_free(load);
}

static void test_stop_ends_bursts_and_sleepers(void)
{
    const int64_t long_one[] = {0, INT64_C(3600000000000), INT64_C(7200000000000), INT64_C(7300000000000)};
    ps_load *load = made(2, long_one, 4);
    CHECK_EQ(PS_OK, ps_load_start(load, ps_clock_now_ns(), NULL));
    CHECK_EQ(PS_E_TIMEOUT, ps_load_wait(load, 0.03));
    ps_load_result result;
    CHECK_EQ(PS_E_STATE, ps_load_log(load, NULL, 0, &result)); /* threads still write it */
    ps_load_ask_stop(load);
    CHECK_EQ(PS_OK, ps_load_wait(load, 30.0));
    CHECK_EQ(PS_OK, ps_load_wait(load, 0.0)); /* and once more */
    CHECK_EQ(PS_OK, ps_load_log(load, NULL, 0, &result));
    CHECK(result.bursts <= 2);
    ps_load_free(load);

    const int64_t later[] = {INT64_C(3600000000000), INT64_C(3700000000000)};
    load = made(1, later, 2);
    CHECK_EQ(PS_OK, ps_load_start(load, ps_clock_now_ns(), NULL));
    ps_load_free(load); /* of a sleeper */
}

static void test_pattern_in_the_past_is_missed_and_never_burst_after(void)
{
    ps_load *load = made(1, pattern, 6);
    CHECK_EQ(PS_OK, ps_load_start(load, ps_clock_now_ns() - INT64_C(1000000000), NULL));
    CHECK_EQ(PS_OK, ps_load_wait(load, 30.0));
    ps_load_result result;
    CHECK_EQ(PS_OK, ps_load_log(load, NULL, 0, &result));
    CHECK_EQ(0, result.bursts);
    CHECK_EQ(3, result.missed);
    ps_error error;
    CHECK_EQ(PS_E_STATE, ps_load_start(load, ps_clock_now_ns(), &error));
    CHECK_TEXT("once", error.text);
    ps_load_free(load);
}

static void test_cpu_that_is_not_there_is_told(void)
{
    const int32_t cpus[] = {4000};
    const int64_t edges[] = {0, MS};
    const ps_load_options options = {
        .kernel = PS_LOAD_PRIMES, .threads = 1, .cpus = cpus, .edge_ns = edges, .edges = 2};
    ps_load *load = NULL;
    REQUIRE(ps_load_new(&options, &load, NULL) == PS_OK);
    CHECK_EQ(PS_OK, ps_load_start(load, ps_clock_now_ns(), NULL));
    CHECK_EQ(PS_OK, ps_load_wait(load, 30.0));
    ps_load_result result;
    CHECK_EQ(PS_OK, ps_load_log(load, NULL, 0, &result));
    CHECK_EQ(1, result.unpinned);
    CHECK(result.cpu_errno != 0);
    ps_load_free(load);
}

static void refused(ps_load_options options, const char *why)
{
    ps_error error;
    ps_load *load = NULL;
    CHECK_EQ(PS_E_INVALID, ps_load_new(&options, &load, &error));
    CHECK(load == NULL);
    CHECK_TEXT(why, error.text);
}

static void test_options_out_of_range_are_refused(void)
{
    const int64_t falling[] = {5, 4}, negative[] = {-1, 4};
    const int32_t cpus[] = {1 << 20};
    const ps_load_options good = {.kernel = PS_LOAD_PRIMES, .threads = 1, .edge_ns = pattern, .edges = 6};
    ps_load_options bad = good;
    bad.kernel = 0, refused(bad, "kernel");
    bad = good, bad.threads = 0, refused(bad, "threads");
    bad = good, bad.threads = PS_LOAD_THREADS + 1, refused(bad, "threads");
    bad = good, bad.edges = 5, refused(bad, "even");
    bad = good, bad.edges = 0, refused(bad, "even");
    bad = good, bad.edge_ns = NULL, refused(bad, "edges");
    bad = good, bad.edge_ns = falling, bad.edges = 2, refused(bad, "edge 1");
    bad = good, bad.edge_ns = negative, bad.edges = 2, refused(bad, "edge 0");
    bad = good, bad.cpus = cpus, refused(bad, "CPU");
    ps_load *load = made(1, pattern, 6);
    CHECK_EQ(PS_E_STATE, ps_load_wait(load, 0.0)); /* never started */
    CHECK_EQ(PS_E_INVALID, ps_load_log(load, NULL, 1, NULL));
    ps_load_free(load);
    ps_load_free(NULL);
}

int main(void)
{
    test_kernel_finds_the_primes_that_trial_division_finds();
    test_log_is_complete_and_in_order();
    test_stop_ends_bursts_and_sleepers();
    test_pattern_in_the_past_is_missed_and_never_burst_after();
    test_cpu_that_is_not_there_is_told();
    test_options_out_of_range_are_refused();
    return HARNESS_RESULT();
}
