/* SPDX-License-Identifier: Apache-2.0
 *
 * Sensors against closed forms: a long-double recursion over every edge for lag and boxcar, brute-force sums
 * for the counters, and the aliasing that a part-time sensor shows on a periodic load.
 */
#include <math.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "powersample.h"
#include "powersample_sim.h"

static const int64_t MS = 1000000;
static const int64_t S = 1000000000;
static char folder[64];
static int files;

static ps_truth *truth_of(int64_t t0_ns, int32_t p_mw)
{
    char path[128];
    ps_truth *truth;
    snprintf(path, sizeof path, "%s/%d", folder, files++);
    REQUIRE(ps_truth_create(path, 10000, t0_ns, p_mw, &truth) == PS_OK);
    return truth;
}

static void wave(ps_truth *truth, int64_t t0_ns, int32_t p1, int32_t p2, int64_t period_ns, int64_t on_ns)
{
    REQUIRE(ps_truth_append(truth, t0_ns, p1, p2, period_ns, on_ns, 0) == PS_OK);
}

static ps_sensor plain(int32_t kind, int64_t period_ns, int64_t window_ns)
{
    return (ps_sensor){.kind = kind, .seed = 42, .period_ns = period_ns, .window_ns = window_ns,
                       .gain = 1.0, .quantum = 1};
}

static int64_t value_at(const ps_sensor *sensor, const ps_truth *truth, int64_t t_ns)
{
    int64_t value = -1;
    CHECK_EQ(PS_OK, ps_sensor_read(sensor, truth, t_ns, NULL, &value, NULL, NULL));
    return value;
}

/* ---- publications ---------------------------------------------------------------------- */

static void test_publications_jitter_and_skips_within_their_bounds(void)
{
    ps_sensor s = plain(PS_SENSOR_GAUGE, 100 * MS, 25 * MS);
    s.phase_ns = 37 * MS;
    s.jitter_ns = 49 * MS;
    s.skip_per_million = 100000;
    static int64_t t[2000];
    uint64_t n;
    CHECK_EQ(PS_OK, ps_sensor_publications(&s, -50 * S, 50 * S, t, 2000, &n));
    CHECK(n > 850 && n < 950); /* 1000 less a tenth: 900 +- 5 sd */
    int64_t widest = 0;
    for (uint64_t i = 0; i < n; i++) {
        int64_t k = (int64_t)floor((double)(t[i] - s.phase_ns) / 1e8 + 0.5);
        int64_t off = t[i] - s.phase_ns - k * s.period_ns;
        CHECK(off >= -s.jitter_ns && off <= s.jitter_ns);
        CHECK(i == 0 || t[i] > t[i - 1]);
        widest = llabs(off) > widest ? llabs(off) : widest;
    }
    CHECK(widest > 45 * MS);
    uint64_t first;
    CHECK_EQ(PS_OK, ps_sensor_publications(&s, -50 * S, 50 * S, t, 3, &first));
    CHECK_EQ(3, first);
    CHECK_EQ(PS_OK, ps_sensor_publications(&s, t[0], t[2], t, 3, &first));
    CHECK_EQ(2, first); /* (a, b] */
}

static void test_read_between_publications_holds_the_newest(void)
{
    ps_truth *truth = truth_of(0, 60000);
    wave(truth, 1 * S, 60000, 400000, 130 * MS, 65 * MS);
    ps_sensor s = plain(PS_SENSOR_GAUGE, 100 * MS, 25 * MS);
    s.jitter_ns = 5 * MS;
    s.skip_per_million = 50000;
    int64_t t[200];
    uint64_t n;
    CHECK_EQ(PS_OK, ps_sensor_publications(&s, 0, 15 * S, t, 200, &n));
    ps_sensor_memo memo = {0};
    for (uint64_t i = 0; i + 1 < n; i++) {
        int64_t at[] = {t[i], t[i] + 1, (t[i] + t[i + 1]) / 2, t[i + 1] - 1};
        int64_t expected = value_at(&s, truth, t[i]);
        for (int j = 0; j < 4; j++) {
            int64_t value, k, published;
            CHECK_EQ(PS_OK, ps_sensor_read(&s, truth, at[j], &memo, &value, &k, &published));
            CHECK_EQ(t[i], published);
            CHECK_EQ(expected, value);
            CHECK_EQ(memo.k, k);
        }
    }
    ps_truth_close(truth);
}

/* ---- lag and boxcar ---------------------------------------------------------------------- */

/* y and the integral of y, edge by edge from the beginning of time, in long double. */
typedef struct lagged {
    long double y, integral;
} lagged;

static void stretch(lagged *l, long double p, int64_t d_ns, long double tau)
{
    long double decay = -expm1l(-(long double)d_ns / tau);
    l->integral += p * (long double)d_ns + (l->y - p) * tau * decay;
    l->y += (p - l->y) * decay;
}

/* The reference of one timeline: 60 W to 1 s, a wave to 3 s, 300 W to 3.5 s, then a fast wave. */
static lagged reference(int64_t until, long double tau)
{
    static const struct { int64_t t0, period, on; int32_t p1, p2; } part[] = {
        {0, 0, 0, 60000, 0}, {1000000000, 130000000, 40000000, 400000, 70000},
        {3000000000, 0, 0, 300000, 0}, {3500000000, 700000, 200000, 650000, 90000}, {INT64_MAX, 0, 0, 0, 0}};
    lagged l = {60000, 0};
    for (int i = 0; i < 4 && part[i].t0 < until; i++) {
        int64_t end = part[i + 1].t0 < until ? part[i + 1].t0 : until;
        for (int64_t t = part[i].t0; t < end;) {
            int64_t r = part[i].period ? (t - part[i].t0) % part[i].period : 0;
            int first = !part[i].period || r < part[i].on;
            int64_t edge = !part[i].period ? end : t - r + (first ? part[i].on : part[i].period);
            edge = edge < end ? edge : end;
            stretch(&l, first ? part[i].p1 : part[i].p2, edge - t, tau);
            t = edge;
        }
    }
    return l;
}

static void test_gauge_lag_and_boxcar_match_the_recursion(void)
{
    ps_truth *truth = truth_of(0, 60000);
    wave(truth, 1 * S, 400000, 70000, 130 * MS, 40 * MS);
    wave(truth, 3 * S, 300000, 0, 0, 0);
    wave(truth, 3 * S + 500 * MS, 650000, 90000, 700000, 200000);
    const int64_t taus[] = {5 * MS, 50 * MS, 114 * MS, 1000 * MS};
    const int64_t windows[] = {0, 10 * MS, 25 * MS, 100 * MS, 1000 * MS};
    for (int i = 0; i < 4; i++)
        for (int j = 0; j < 5; j++)
            for (int64_t t = 1 * S + 3 * MS; t < 4500 * MS; t += 97 * MS + 12345) {
                ps_sensor s = plain(PS_SENSOR_GAUGE, 1, windows[j]); /* T = 1 ns: publishes now */
                s.tau_ns = taus[i];
                s.gain = 1e6; /* nW, so that the quantum does not hide an error */
                long double tau = (long double)taus[i];
                lagged end = reference(t, tau);
                lagged begin = reference(t - windows[j], tau);
                long double width = (long double)windows[j];
                long double mean = windows[j] ? (end.integral - begin.integral) / width : end.y;
                /* A history of 24 tau leaves 3e-5 mW of a 700 W step. */
                CHECK(fabsl((long double)value_at(&s, truth, t) / 1e6L - mean) < 1e-4L);
            }
    ps_truth_close(truth);
}

static void test_gauge_boxcar_without_lag_is_the_exact_mean(void)
{
    ps_truth *truth = truth_of(0, 60000);
    wave(truth, 1 * S, 60000, 400000, 100 * MS, 50 * MS);
    ps_sensor s = plain(PS_SENSOR_GAUGE, 1, 25 * MS);
    CHECK_EQ(60000, value_at(&s, truth, 1 * S + 50 * MS));
    CHECK_EQ(230000, value_at(&s, truth, 1 * S + 62500000)); /* half in, half out */
    CHECK_EQ(400000, value_at(&s, truth, 1 * S + 75 * MS));
    s.delay_ns = 10 * MS;
    CHECK_EQ(60000, value_at(&s, truth, 1 * S + 60 * MS));
    CHECK_EQ(230000, value_at(&s, truth, 1 * S + 72500000));
    ps_truth_close(truth);
}

static void test_gauge_step_rises_in_two_point_two_tau(void)
{
    ps_truth *truth = truth_of(0, 100000);
    wave(truth, 5 * S, 500000, 0, 0, 0);
    ps_sensor s = plain(PS_SENSOR_GAUGE, 1, 0);
    s.tau_ns = 114 * MS;
    int64_t crossing[2] = {0, 0};
    const int64_t level[2] = {140000, 460000}; /* 10 and 90 % */
    for (int i = 0; i < 2; i++) {
        int64_t low = 5 * S, high = 7 * S;
        while (high - low > 1) {
            int64_t middle = low + (high - low) / 2;
            *(value_at(&s, truth, middle) < level[i] ? &low : &high) = middle;
        }
        crossing[i] = high;
    }
    double rise = (double)(crossing[1] - crossing[0]) / (double)s.tau_ns;
    CHECK(fabs(rise - log(9.0)) < 1e-4); /* 2.197 */
    ps_truth_close(truth);
}

static void test_gauge_before_the_first_segment_its_power(void)
{
    ps_truth *truth = truth_of(10 * S, 90000);
    wave(truth, 11 * S, 500000, 0, 0, 0);
    ps_sensor s = plain(PS_SENSOR_GAUGE, 100 * MS, 1000 * MS);
    s.tau_ns = 20 * MS;
    CHECK_EQ(90000, value_at(&s, truth, 1 * S));
    CHECK_EQ(90000, value_at(&s, truth, 10 * S + 400 * MS));
    CHECK_EQ(90000, value_at(&s, truth, -3 * S));
    ps_truth_close(truth);
}

/* ---- what a sensor adds ---------------------------------------------------------------------- */

static void test_gauge_gain_offset_quantum_in_that_order(void)
{
    ps_truth *truth = truth_of(0, 100000);
    ps_sensor s = plain(PS_SENSOR_GAUGE, 100 * MS, 25 * MS);
    s.gain = 0.954;
    s.offset_mw = -1200;
    CHECK_EQ(94200, value_at(&s, truth, 5 * S));
    s.quantum = 1000;
    CHECK_EQ(94000, value_at(&s, truth, 5 * S));
    s.quantum = 400;
    CHECK_EQ(94400, value_at(&s, truth, 5 * S)); /* to the nearest, halves up */
    s.offset_mw = -200000;
    CHECK_EQ(0, value_at(&s, truth, 5 * S)); /* no negative power */
    ps_truth_close(truth);
}

static void test_gauge_noise_has_its_deviation_and_repeats(void)
{
    ps_truth *truth = truth_of(0, 500000);
    ps_sensor s = plain(PS_SENSOR_GAUGE, 1 * MS, 0);
    s.noise_mw = 1000;
    double sum = 0, squares = 0;
    enum { N = 20000 };
    for (int i = 0; i < N; i++) {
        int64_t v = value_at(&s, truth, i * MS);
        CHECK_EQ(v, value_at(&s, truth, i * MS));
        double d = (double)v - 500000;
        sum += d;
        squares += d * d;
    }
    CHECK(fabs(sum / N) < 5 * 1000 / sqrt(N));
    CHECK(fabs(sqrt(squares / N) / 1000 - 1) < 5 / sqrt(2.0 * N));
    int64_t before = value_at(&s, truth, 77 * MS);
    s.seed++;
    CHECK(before != value_at(&s, truth, 77 * MS));
    ps_truth_close(truth);
}

/* ---- counters ---------------------------------------------------------------------- */

static void test_counter_integrating_is_the_exact_energy_at_each_publication(void)
{
    ps_truth *truth = truth_of(0, 61234);
    wave(truth, 1 * S, 60000, 400000, 100 * MS, 50 * MS);
    ps_sensor s = plain(PS_SENSOR_COUNTER, 20 * MS, 0);
    s.start_ns = 500 * MS;
    s.jitter_ns = 2 * MS;
    int64_t t[300];
    uint64_t n;
    CHECK_EQ(PS_OK, ps_sensor_publications(&s, 600 * MS, 5 * S, t, 300, &n));
    for (uint64_t i = 0; i < n; i++) {
        int64_t pj;
        CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, s.start_ns, t[i], &pj));
        CHECK_EQ(pj / 1000000000, value_at(&s, truth, t[i]));
    }
    CHECK_EQ(0, value_at(&s, truth, 400 * MS));
    s.gain = 1.05;
    s.quantum = 1000;
    int64_t v = value_at(&s, truth, 5 * S);
    CHECK_EQ(0, v % 1000);
    CHECK(v >= 988000 && v <= 998000); /* 1.05 x 950.6 J, less what the last period holds back */
    ps_truth_close(truth);
}

static void test_counter_attended_sums_its_windows_in_any_order(void)
{
    ps_truth *truth = truth_of(0, 60000);
    wave(truth, 1 * S, 60000, 400000, 100 * MS + 13, 50 * MS);
    ps_sensor s = plain(PS_SENSOR_ATTENDED, 100 * MS, 25 * MS);
    s.jitter_ns = 3 * MS;
    s.start_ns = 990 * MS;
    int64_t t[120], expected[120], sum = 0;
    uint64_t n;
    CHECK_EQ(PS_OK, ps_sensor_publications(&s, s.start_ns, 10 * S, t, 120, &n));
    for (uint64_t i = 0; i < n; i++) {
        int64_t pj, begin = t[i] - s.window_ns > s.start_ns ? t[i] - s.window_ns : s.start_ns;
        CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, begin, t[i], &pj));
        sum += pj;
        expected[i] = sum * 4 / 1000000000; /* T/W = 4 */
    }
    ps_sensor_memo memo = {0};
    int64_t value;
    CHECK_EQ(PS_OK, ps_sensor_read(&s, truth, 100 * MS, &memo, &value, NULL, NULL));
    CHECK_EQ(0, value); /* before its start */
    for (uint64_t i = 0; i < n; i++) {
        uint64_t j = i * 37 % n; /* to and fro */
        CHECK_EQ(PS_OK, ps_sensor_read(&s, truth, t[j], &memo, &value, NULL, NULL));
        CHECK_EQ(expected[j], value);
        CHECK_EQ(expected[j], value_at(&s, truth, t[j]));
    }
    s.start_ns = t[n - 1]; /* a reload: the memo must not survive it */
    CHECK_EQ(PS_OK, ps_sensor_read(&s, truth, t[n - 1] + 1, &memo, &value, NULL, NULL));
    CHECK_EQ(0, value);
    ps_truth_close(truth);
}

/* ---- aliasing ---------------------------------------------------------------------- */

/* Error in percent of the trapezoid over 1 kHz polls for 3 s, on a load of 60 W for `low` then 400 W; A100-like
 * sensor. */
static double trapezoid_error(int64_t period_ns, int64_t low_ns, int64_t phase_ns)
{
    ps_truth *truth = truth_of(0, 60000);
    wave(truth, 1 * S, 60000, 400000, period_ns, low_ns);
    ps_sensor s = plain(PS_SENSOR_GAUGE, 100 * MS, 25 * MS);
    s.phase_ns = phase_ns;
    ps_sensor_memo memo = {0};
    const int64_t begin = 2 * S, end = 5 * S;
    double joules = 0, truth_j;
    int64_t before = 0, value;
    for (int64_t t = begin; t <= end; t += 1 * MS) {
        CHECK_EQ(PS_OK, ps_sensor_read(&s, truth, t, &memo, &value, NULL, NULL));
        if (t > begin)
            joules += (double)(before + value) / 2 * 1e-6;
        before = value;
    }
    CHECK_EQ(PS_OK, ps_truth_joules(truth, begin, end, &truth_j));
    ps_truth_close(truth);
    return 100 * (joules / truth_j - 1);
}

static void test_trapezoid_of_a_part_time_sensor_aliases_as_measured(void)
{
    CHECK(fabs(trapezoid_error(100 * MS, 50 * MS, 40 * MS) - -73.913) < 0.01); /* 60 W at any rate of polling */
    CHECK(fabs(trapezoid_error(100 * MS, 75 * MS, 40 * MS) - -58.621) < 0.01);
    CHECK(fabs(trapezoid_error(150 * MS, 75 * MS, 25 * MS) - -24.6) < 0.3);
    CHECK(fabs(trapezoid_error(130 * MS, 65 * MS, 40 * MS)) < 4);
    CHECK(fabs(trapezoid_error(1000 * MS, 500 * MS, 40 * MS)) < 1);
    /* The same load seen in another phase: all of it, or too much. */
    CHECK(trapezoid_error(100 * MS, 50 * MS, 90 * MS) > 70);
}

/* ---- every process, every order ---------------------------------------------------------------------- */

static void test_readers_in_other_processes_same_values(void)
{
    ps_truth *truth = truth_of(0, 60000);
    char path[128];
    snprintf(path, sizeof path, "%s/%d", folder, files - 1);
    wave(truth, 1 * S, 60000, 400000, 99500000, 50 * MS);
    ps_sensor s = plain(PS_SENSOR_GAUGE, 100 * MS, 25 * MS);
    s.tau_ns = 30 * MS;
    s.jitter_ns = 2 * MS;
    s.noise_mw = 500;
    s.gain = 0.97;
    int64_t there[100];
    int channel[2];
    REQUIRE(pipe(channel) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ps_truth *mine;
        if (ps_truth_open(path, &mine) != PS_OK)
            _exit(1);
        ps_sensor_memo memo = {0};
        for (int i = 99; i >= 0; i--)
            if (ps_sensor_read(&s, mine, i * 77 * MS, &memo, &there[i], NULL, NULL) != PS_OK)
                _exit(1);
        _exit(write(channel[1], there, sizeof there) == (ssize_t)sizeof there ? 0 : 1);
    }
    REQUIRE(read(channel[0], there, sizeof there) == (ssize_t)sizeof there);
    waitpid(child, NULL, 0);
    for (int i = 0; i < 100; i++)
        CHECK_EQ(value_at(&s, truth, i * 77 * MS), there[i]);
    close(channel[0]);
    close(channel[1]);
    ps_truth_close(truth);
}

static void test_sensor_settings_outside_their_range_refused(void)
{
    ps_truth *truth = truth_of(0, 60000);
    const ps_sensor good = plain(PS_SENSOR_GAUGE, 100 * MS, 25 * MS);
    ps_sensor bad[12];
    for (int i = 0; i < 12; i++)
        bad[i] = good;
    bad[0].kind = 9;
    bad[1].period_ns = 0;
    bad[2].jitter_ns = 50 * MS; /* ticks would change places */
    bad[3].window_ns = -1;
    bad[4].tau_ns = INT64_MAX;
    bad[5].quantum = 0;
    bad[6].gain = NAN;
    bad[7].offset_mw = INFINITY;
    bad[8].skip_per_million = 1000000;
    bad[9].delay_ns = -1;
    bad[10].noise_mw = NAN;
    bad[11].kind = PS_SENSOR_ATTENDED;
    bad[11].window_ns = 0;
    int64_t value = 5;
    uint64_t n = 5;
    for (int i = 0; i < 12; i++) {
        CHECK_EQ(PS_E_INVALID, ps_sensor_read(&bad[i], truth, S, NULL, &value, NULL, NULL));
        CHECK_EQ(PS_E_INVALID, ps_sensor_publications(&bad[i], 0, S, NULL, 0, &n));
    }
    bad[0].kind = PS_SENSOR_ABSENT;
    CHECK_EQ(PS_E_UNSUPPORTED, ps_sensor_read(&bad[0], truth, S, NULL, &value, NULL, NULL));
    CHECK_EQ(5, value);
    CHECK_EQ(5, n);
    ps_truth_close(truth);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/ps_test_sensor_XXXXXX");
    REQUIRE(mkdtemp(folder));
    test_publications_jitter_and_skips_within_their_bounds();
    test_read_between_publications_holds_the_newest();
    test_gauge_lag_and_boxcar_match_the_recursion();
    test_gauge_boxcar_without_lag_is_the_exact_mean();
    test_gauge_step_rises_in_two_point_two_tau();
    test_gauge_before_the_first_segment_its_power();
    test_gauge_gain_offset_quantum_in_that_order();
    test_gauge_noise_has_its_deviation_and_repeats();
    test_counter_integrating_is_the_exact_energy_at_each_publication();
    test_counter_attended_sums_its_windows_in_any_order();
    test_trapezoid_of_a_part_time_sensor_aliases_as_measured();
    test_readers_in_other_processes_same_values();
    test_sensor_settings_outside_their_range_refused();
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? HARNESS_RESULT() : 1;
}
