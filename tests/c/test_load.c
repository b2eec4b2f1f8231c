/* SPDX-License-Identifier: Apache-2.0
 *
 * The load generator: what its kernel finds, what its log holds, and how it stops.
 */
#include <math.h>
#include <stdbool.h>

#include "harness.h"
#include "load/kernel.h"
#include "powersample.h"

enum { MS = 1000 * 1000, FAR = 64 };

#ifdef __aarch64__
enum { NOT_HERE = PS_ISA_AVX2 };
#else
enum { NOT_HERE = PS_ISA_NEON };
#endif

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

/* x_n = f + (x_0 - f) m^n with f = c / (1 - m): every set of vectors that this CPU has comes to it, and each lane alike. */
static void test_chains_of_multiply_add_end_where_the_closed_form_does(void)
{
    const double m = -0.99971, f = 1.23456789 / (1 - m);
    int sets = 0;
    for (int32_t wanted = PS_ISA_PLAIN; wanted <= PS_ISA_NEON; wanted++) {
        int32_t isa;
        if (ps_fma_isa(wanted, &isa) != PS_OK)
            continue;
        sets++;
        CHECK_EQ(wanted, isa);
        ps_fma work;
        ps_fma_init(&work, isa);
        CHECK(fabs(work.expected[0] - (f + (0.1415 - f) * pow(m, PS_FMA_STEPS))) < 1e-12);
        CHECK(ps_fma_round(&work));
        double out[PS_FMA_CHAINS * PS_FMA_LANES];
        CHECK(work.run(out) >= 1);
        work.expected[PS_FMA_CHAINS - 1] = nextafter(work.expected[PS_FMA_CHAINS - 1], 10); /* a fault shows */
        CHECK(!ps_fma_round(&work));
    }
    int32_t best = PS_ISA_BEST;
    CHECK(sets > 0);
    CHECK_EQ(PS_OK, ps_fma_isa(PS_ISA_BEST, &best));
    CHECK(best != PS_ISA_BEST);
    CHECK_EQ(PS_E_UNSUPPORTED, ps_fma_isa(NOT_HERE, &best));
}

static void test_stream_proves_what_it_read_and_what_it_wrote(void)
{
    ps_stream work;
    REQUIRE(ps_stream_map(&work, 3 * 4 * PS_STREAM_PIECE * sizeof(double)) == PS_OK);
    ps_stream_init(&work);
    const double first = work.b[0];
    for (size_t round = 0; round < 4 * work.pieces; round++) /* forth and back, twice */
        CHECK(ps_stream_round(&work));
    CHECK(work.b[0] == first);
    work.b[PS_STREAM_PIECE + 7] += 1; /* one bit of memory */
    int wrong = 0;
    for (size_t round = 0; round < work.pieces; round++)
        wrong += !ps_stream_round(&work);
    CHECK_EQ(1, wrong);
    work.a[0] -= 1; /* what the first pass wrote is read by the second */
    CHECK(!ps_stream_round(&work));
    ps_stream_unmap(&work);
}

/* A step below level 1 is slices; together they are its share of CPU time, unless others took the CPU: then less is told. */
static void test_levels_are_kept_by_cpu_time(void)
{
    const int64_t edges[] = {0, 100 * MS, 100 * MS, 180 * MS, 180 * MS, 200 * MS};
    const double levels[] = {0.25, 0, 1};
    const int32_t kernels[] = {PS_LOAD_PRIMES, PS_LOAD_FMA, PS_LOAD_STREAM, PS_LOAD_MIX};
    for (int i = 0; i < 4; i++) {
        const ps_load_options options = {.kernel = kernels[i], .threads = 2, .edge_ns = edges, .edges = 6,
                                         .levels = levels, .period_ns = 10 * MS, .stream_bytes = 1 << 20};
        ps_load *load = NULL;
        REQUIRE(ps_load_new(&options, &load, NULL) == PS_OK);
        CHECK_EQ(PS_OK, ps_load_prepare(load, NULL));
        CHECK_EQ(PS_E_STATE, ps_load_prepare(load, NULL));
        const int64_t start_ns = ps_clock_now_ns() + 5 * MS;
        CHECK_EQ(PS_OK, ps_load_start(load, start_ns, NULL));
        CHECK_EQ(PS_OK, ps_load_wait(load, 60.0));
        ps_load_burst log[FAR];
        ps_load_step steps[4];
        ps_load_result result;
        CHECK_EQ(PS_OK, ps_load_log(load, log, FAR, &result));
        CHECK_EQ(PS_OK, ps_load_steps(load, steps, 4));
        CHECK_EQ(3, result.steps);
        CHECK_EQ(0, result.wrong);
        CHECK((result.stream_bytes != 0) == (i >= 2));
        REQUIRE(result.bursts <= FAR);
        int64_t cpu_ns[3] = {0};
        for (uint32_t at = 0; at < result.bursts; at++) {
            CHECK(log[at].step == 0 || log[at].step == 2);
            CHECK(log[at].planned_ns >= steps[log[at].step].begin_ns);
            CHECK(log[at].planned_ns < steps[log[at].step].end_ns);
            cpu_ns[log[at].step] += log[at].cpu_ns;
        }
        CHECK_EQ(start_ns, steps[0].begin_ns);
        CHECK_EQ(start_ns + 100 * MS, steps[0].end_ns);
        CHECK(steps[0].level == 0.25 && steps[1].level == 0 && steps[2].level == 1);
        CHECK_EQ(result.bursts, steps[0].bursts + steps[2].bursts);
        CHECK_EQ(0, steps[1].bursts);
        for (int step = 0; step < 3; step++)
            CHECK(steps[step].cpu_ns >= cpu_ns[step]); /* waiting is in it, too */
        /* Each thread's last round may be too much, by what such a round takes in any build. */
        CHECK(steps[0].cpu_ns <= (int64_t)(0.25 * 2 * 100 * MS) + 2 * 5 * MS);
        CHECK(steps[0].cpu_ns > 0);
        CHECK(steps[1].cpu_ns < 40 * MS);
        ps_load_free(load);
    }
}

static void test_idle_threads_log_nothing(void)
{
    const ps_load_options options = {.kernel = PS_LOAD_IDLE, .threads = 2, .edge_ns = pattern, .edges = 6};
    ps_load *load = NULL;
    REQUIRE(ps_load_new(&options, &load, NULL) == PS_OK);
    const int64_t start_ns = ps_clock_now_ns();
    CHECK_EQ(PS_OK, ps_load_start(load, start_ns, NULL));
    CHECK_EQ(PS_OK, ps_load_wait(load, 30.0));
    CHECK(ps_clock_now_ns() >= start_ns + 33 * MS); /* it lasts as long as work would */
    ps_load_result result;
    CHECK_EQ(PS_OK, ps_load_log(load, NULL, 0, &result));
    CHECK_EQ(0, result.bursts + result.missed);
    CHECK_EQ(3, result.steps);
    ps_load_free(load);
}

/* However late the machine is, every burst of every thread is either logged or counted as missed. */
static void test_log_is_complete_and_in_order(void)
{
    ps_load *load = made(3, pattern, 6);
    CHECK_EQ(PS_OK, ps_load_prepare(load, NULL));
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
            CHECK(i == 0 || one->thread > log[i - 1].thread);
    }
    ps_load_result fewer;
    CHECK_EQ(PS_OK, ps_load_log(load, log, 1, &fewer)); /* room for one: the count tells of the others */
    CHECK_EQ(result.bursts, fewer.bursts);
    ps_load_free(load);
}

/* No timeout is too long: one beyond 292 years waits for the end as any other, and does not wrap into the past. */
static void test_wait_takes_any_timeout(void)
{
    const int64_t short_one[] = {0, INT64_C(30000000)};
    const double timeouts_s[] = {1e10, 1e300, (double)INFINITY, -1e300};
    for (size_t i = 0; i < sizeof timeouts_s / sizeof *timeouts_s; i++) {
        ps_load *load = made(1, short_one, 2);
        CHECK_EQ(PS_OK, ps_load_start(load, ps_clock_now_ns(), NULL));
        CHECK_EQ(PS_OK, ps_load_wait(load, timeouts_s[i]));
        ps_load_free(load);
    }
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
    CHECK_EQ(1, result.steps); /* the second was never begun */
    ps_load_step step;
    CHECK_EQ(PS_OK, ps_load_steps(load, &step, 1));
    CHECK(step.end_ns < step.begin_ns + long_one[1]);
    ps_load_free(load);

    const int64_t later[] = {INT64_C(3600000000000), INT64_C(3700000000000)};
    load = made(1, later, 2);
    CHECK_EQ(PS_OK, ps_load_start(load, ps_clock_now_ns(), NULL));
    ps_load_free(load); /* of a sleeper */

    load = made(2, later, 2);
    CHECK_EQ(PS_OK, ps_load_prepare(load, NULL));
    ps_load_free(load); /* of threads that wait to begin */
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
    const double levels[] = {0.5, 1.1, 0.5}, none[] = {NAN, 0, 0};
    bad = good, bad.levels = levels, refused(bad, "level 1");
    bad = good, bad.levels = none, refused(bad, "level 0");
    bad = good, bad.period_ns = 1, refused(bad, "period");
    bad = good, bad.isa = 99, refused(bad, "instruction set");
    bad = good, bad.kernel = PS_LOAD_FMA, bad.isa = NOT_HERE, refused(bad, "this CPU has no");
    const int64_t a_day[] = {0, INT64_C(86400) * 1000 * MS};
    bad = good, bad.edge_ns = a_day, bad.edges = 2, bad.levels = levels, bad.period_ns = MS, refused(bad, "bursts");
    ps_load *load = made(1, pattern, 6);
    CHECK_EQ(PS_E_STATE, ps_load_wait(load, 0.0)); /* never started */
    CHECK_EQ(PS_E_INVALID, ps_load_log(load, NULL, 1, NULL));
    ps_load_free(load);
    ps_load_free(NULL);
}

int main(void)
{
    test_kernel_finds_the_primes_that_trial_division_finds();
    test_chains_of_multiply_add_end_where_the_closed_form_does();
    test_stream_proves_what_it_read_and_what_it_wrote();
    test_levels_are_kept_by_cpu_time();
    test_idle_threads_log_nothing();
    test_log_is_complete_and_in_order();
    test_wait_takes_any_timeout();
    test_stop_ends_bursts_and_sleepers();
    test_pattern_in_the_past_is_missed_and_never_burst_after();
    test_cpu_that_is_not_there_is_told();
    test_options_out_of_range_are_refused();
    return HARNESS_RESULT();
}
