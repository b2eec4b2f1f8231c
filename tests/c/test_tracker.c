/* SPDX-License-Identifier: Apache-2.0
 *
 * The tracker in virtual time, against sensors whose publications are known: how many updates are placed within a
 * millisecond, and by how many polls. Wake-ups are late by 45 us and an exponential of 20 us, calls take 20 us.
 */
#include <math.h>
#include <unistd.h>

#include "core/tracker.h"
#include "harness.h"
#include "powersample.h"
#include "powersample_sim.h"

enum { PUBLICATIONS_MAX = 60000, CALL_NS = 20000 };

static const int64_t MS = 1000000;
static const int64_t S = 1000000000;

static char folder[64];

/* A sensor as a list of publications: when, and what. */
typedef struct oracle {
    int64_t t_ns[PUBLICATIONS_MAX];
    int64_t value[PUBLICATIONS_MAX];
    uint64_t n;
} oracle;

static oracle published; /* large */

typedef struct outcome {
    double share_1ms, share_200us, polls; /* shares of updates; polls a publication */
    uint64_t updates, outside, acquisitions;
    double period_ms;
} outcome;

static double uniform(uint64_t *random)
{
    *random = *random * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return ((double)(*random >> 11) + 0.5) * 0x1p-53;
}

/* ---- oracles ------------------------------------------------------------------------------------------------ */

static ps_sensor gauge(double period_ms, double jitter_ms)
{
    return (ps_sensor){.kind = PS_SENSOR_GAUGE, .seed = 7, .period_ns = (int64_t)(period_ms * 1e6),
                       .window_ns = (int64_t)(period_ms * 1e6) / 4, .phase_ns = 3 * MS,
                       .jitter_ns = (int64_t)(jitter_ms * 1e6), .gain = 1, .noise_mw = 1000, .quantum = 1};
}

static ps_truth *constant_truth(void)
{
    static int files;
    char path[128];
    ps_truth *truth;
    snprintf(path, sizeof path, "%s/truth%d", folder, files++);
    REQUIRE(ps_truth_create(path, 20000, 0, 300000, &truth) == PS_OK);
    unlink(path);
    return truth;
}

static void publish(const ps_sensor *sensor, const ps_truth *truth, double seconds)
{
    REQUIRE(ps_sensor_publications(sensor, 0, (int64_t)(seconds * 1e9), published.t_ns, PUBLICATIONS_MAX,
                                   &published.n) == PS_OK);
    REQUIRE(published.n < PUBLICATIONS_MAX);
    ps_sensor_memo memo = {0};
    for (uint64_t i = 0; i < published.n; i++)
        REQUIRE(ps_sensor_read(sensor, truth, published.t_ns[i], &memo, &published.value[i], NULL, NULL) == PS_OK);
}

/* The physics' sensors keep to a timer; this one waits a period after each publication. */
static void publish_free_running(double period_ms, double jitter_ms, double seconds)
{
    uint64_t random = 99;
    published.n = 0;
    for (double t_ms = 5; t_ms < seconds * 1e3; t_ms += period_ms + (2 * uniform(&random) - 1) * jitter_ms) {
        published.t_ns[published.n] = (int64_t)(t_ms * 1e6);
        published.value[published.n] = (int64_t)published.n;
        published.n++;
    }
}

/* ---- a lane without a clock --------------------------------------------------------------------------------- */

typedef struct bracket {
    int64_t lo_ns, hi_ns;
} bracket;

/* late_share: of the wake-ups that come up to 10 ms late. */
static outcome follow(int64_t spacing_ns, double late_share)
{
    ps_tracker tracker;
    uint64_t random = 12345, at = 0, within_1ms = 0, within_200us = 0, polls = 0, publications = 0;
    outcome out = {0};
    int64_t now_ns = published.t_ns[0] + 10 * MS, end_ns = published.t_ns[published.n - 1], before_ns = 0;
    int64_t seen = -1; /* index of the publication that the last poll saw */
    ps_tracker_init(&tracker, spacing_ns, MS, 1, now_ns);
    while (now_ns < end_ns) {
        int64_t due_ns = tracker.next_ns > now_ns ? tracker.next_ns : now_ns;
        double late_ns = 45e3 - 20e3 * log(uniform(&random));
        if (uniform(&random) < late_share)
            late_ns += uniform(&random) * 10e6;
        const int64_t t0_ns = due_ns + (int64_t)late_ns, t1_ns = t0_ns + CALL_NS, read_ns = t0_ns + CALL_NS / 2;
        const bool locked = ps_tracker_locked(&tracker);
        while (at + 1 < published.n && published.t_ns[at + 1] <= read_ns)
            at++;
        polls += locked;
        /* Updates between the two polls; the newest is the one whose instant the bracket gives. */
        uint64_t changes = 0;
        int64_t update_ns = 0;
        for (int64_t i = seen + 1; seen >= 0 && i <= (int64_t)at; i++) {
            publications += locked;
            if (published.value[i] != published.value[i - 1]) {
                changes++;
                update_ns = published.t_ns[i];
            }
        }
        if (locked && changes) {
            const int64_t off_ns = llabs(before_ns + (t1_ns - before_ns) / 2 - update_ns);
            out.updates += changes;
            within_1ms += off_ns <= MS;
            within_200us += off_ns <= MS / 5;
            out.outside += update_ns < before_ns || update_ns > t1_ns;
        }
        ps_tracker_offer(&tracker, t0_ns, t1_ns, published.value[at], true);
        seen = (int64_t)at;
        before_ns = t0_ns;
        now_ns = t1_ns;
    }
    out.share_1ms = (double)within_1ms / (double)out.updates;
    out.share_200us = (double)within_200us / (double)out.updates;
    out.polls = (double)polls / (double)publications;
    out.acquisitions = tracker.acquisitions;
    out.period_ms = tracker.period_ns / 1e6;
    return out;
}

static outcome told(const char *what, outcome found)
{
    printf("%-42s %6.2f %% within 1 ms, %6.2f %% within 0.2 ms, %5.2f polls, %llu updates, %llu acquired, T %.4f ms\n",
           what, 100 * found.share_1ms, 100 * found.share_200us, found.polls, (unsigned long long)found.updates,
           (unsigned long long)found.acquisitions, found.period_ms);
    CHECK(found.updates > 300);
    CHECK_EQ(0, found.outside);
    return found;
}

/* ---- tests ---------------------------------------------------------------------------------------------------- */

static void test_jitter_updates_within_1ms_by_few_polls(void)
{
    static const struct {
        const char *what;
        double period_ms, jitter_ms, polls;
    } rows[] = {
        {"T 100, J 0", 100, 0, 6},   {"T 100, J 1", 100, 1, 6}, {"T 100, J 4", 100, 4, 10},
        {"T 20, J 1", 20, 1, 6},     {"T 15, J 1", 15, 1, 6},   {"T 25, J 0.2", 25, 0.2, 6},
        {"T 500, J 1", 500, 1, 6},
    };
    ps_truth *truth = constant_truth();
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        ps_sensor sensor = gauge(rows[i].period_ms, rows[i].jitter_ms);
        publish(&sensor, truth, 30 * rows[i].period_ms); /* 30 000 periods */
        outcome found = told(rows[i].what, follow(MS, 0));
        CHECK(found.share_1ms >= 0.999);
        CHECK(found.polls <= rows[i].polls);
        CHECK_EQ(1, found.acquisitions);
        CHECK(fabs(found.period_ms / rows[i].period_ms - 1) < 1e-3);
    }
    ps_truth_close(truth);
}

static void test_narrow_spacing_places_updates_within_200us(void)
{
    ps_truth *truth = constant_truth();
    ps_sensor sensor = gauge(100, 1);
    publish(&sensor, truth, 1000);
    outcome found = told("T 100, J 1, s 0.3", follow(3 * MS / 10, 0));
    CHECK(found.share_200us >= 0.99);
    CHECK(found.polls <= 10);
    ps_truth_close(truth);
}

/* Values that repeat and publications that do not happen look alike, and are no reason to lose the lock. */
static void test_missing_and_equal_updates_keep_the_lock(void)
{
    static const double jitters_ms[] = {1, 4};
    ps_truth *truth = constant_truth();
    for (int i = 0; i < 2; i++) {
        ps_sensor sensor = gauge(100, jitters_ms[i]);
        sensor.skip_per_million = 20000;
        sensor.quantum = 354; /* a tenth of normal pairs fall on the same step */
        publish(&sensor, truth, 2000);
        outcome found = told(i ? "T 100, J 4, 2 % double, 10 % equal" : "T 100, J 1, 2 % double, 10 % equal", follow(MS, 0));
        CHECK(found.share_1ms >= 0.999);
        CHECK(found.polls <= (i ? 11.5 : 7));
        CHECK_EQ(1, found.acquisitions);
    }
    ps_truth_close(truth);
}

static void test_constant_half_of_the_time_keeps_the_phase(void)
{
    ps_truth *truth = constant_truth();
    ps_sensor sensor = gauge(100, 1);
    uint64_t random = 3;
    sensor.noise_mw = 0;
    for (int64_t t_ms = 50; t_ms < 600000; t_ms += 50) /* restless for 10 s, then still for 10 s */
        if (t_ms % 20000 < 10000)
            REQUIRE(ps_truth_append(truth, t_ms * MS, (int32_t)(uniform(&random) * 5e5) + 1, 0, 0, 0, 0) == PS_OK);
    publish(&sensor, truth, 600);
    outcome found = told("T 100, J 1, constant 10 of 20 s", follow(MS, 0));
    CHECK(found.share_1ms >= 0.999);
    CHECK(found.polls <= 10);
    CHECK_EQ(1, found.acquisitions);
    ps_truth_close(truth);
}

static void test_free_running_sensor_predicted_from_its_last_update(void)
{
    publish_free_running(100, 1, 3000);
    outcome found = told("T 100, accumulating J 1", follow(MS, 0));
    CHECK(found.share_1ms >= 0.999);
    CHECK(found.polls <= 6);
    publish_free_running(20, 0.5, 600);
    found = told("T 20, accumulating J 0.5", follow(MS, 0));
    CHECK(found.share_1ms >= 0.999);
}

/* A machine that wakes it late now and then: what it missed it does not see, but it stays on the track. */
static void test_late_wake_ups_do_not_lose_the_track(void)
{
    ps_truth *truth = constant_truth();
    ps_sensor sensor = gauge(100, 1);
    publish(&sensor, truth, 1000);
    outcome found = told("T 100, J 1, 2 % up to 10 ms late", follow(MS, 0.02));
    CHECK(found.share_1ms >= 0.93);
    CHECK(found.polls <= 6);
    CHECK_EQ(1, found.acquisitions);
    ps_truth_close(truth);
}

/* A driver reload: same period, another phase. */
static void test_new_phase_is_acquired_again(void)
{
    publish_free_running(100, 0, 100);
    for (uint64_t i = published.n / 2; i < published.n; i++)
        published.t_ns[i] += 37 * MS;
    outcome found = told("T 100, phase jumps by 37 ms", follow(MS, 0));
    CHECK_EQ(2, found.acquisitions);
    CHECK(found.share_1ms >= 0.98);
}

/* Load that is constant over two updates of three: their spacings show no period, only its multiples. */
static void test_period_found_behind_multiples_of_it(void)
{
    publish_free_running(100, 0.5, 200);
    for (uint64_t i = 0; i < published.n; i++)
        published.value[i] = (int64_t)(i / 5 * 2 + (i % 5 >= 2)); /* changes 2, 3, 2, 3 ... updates apart */
    outcome found = told("T 100, changes 2 or 3 updates apart", follow(MS, 0));
    CHECK(fabs(found.period_ms - 100) < 0.5);
    CHECK(found.share_1ms >= 0.99);
}

static void test_quick_sensor_is_said_to_be_too_fast(void)
{
    ps_tracker tracker;
    ps_tracker_init(&tracker, MS, MS, 1, 0);
    for (int64_t t_ns = 0; t_ns < S && !tracker.too_fast; t_ns = tracker.next_ns)
        ps_tracker_offer(&tracker, t_ns, t_ns + CALL_NS, t_ns / (2 * MS), true); /* publishes each 2 ms */
    CHECK(tracker.too_fast);
    CHECK(!ps_tracker_locked(&tracker));
}

/* What never moves is polled at the idle spacing after the first seconds, and what fails does not make it hurry. */
static void test_constant_or_failing_sensor_is_polled_idly(void)
{
    for (int good = 0; good < 2; good++) {
        ps_tracker tracker;
        int64_t polls = 0;
        ps_tracker_init(&tracker, MS, 25 * MS, 1, 0);
        for (int64_t t_ns = 0; t_ns < 12 * S; t_ns = tracker.next_ns, polls++)
            ps_tracker_offer(&tracker, t_ns, t_ns + CALL_NS, 250000, good);
        CHECK(polls >= 2000 && polls <= 2405); /* 2 s of 1 ms, 10 s of 25 ms */
        CHECK(!ps_tracker_locked(&tracker));
    }
}

/* Once locked, ten seconds of errors cost no more polls than updates would. */
static void test_errors_while_locked_keep_the_pace(void)
{
    ps_tracker tracker;
    int64_t t_ns = 0, polls = 0;
    ps_tracker_init(&tracker, MS, MS, 1, 0);
    for (; t_ns < 20 * S; t_ns = tracker.next_ns)
        ps_tracker_offer(&tracker, t_ns, t_ns + CALL_NS, t_ns / (100 * MS), true);
    REQUIRE(ps_tracker_locked(&tracker));
    for (; t_ns < 30 * S; t_ns = tracker.next_ns, polls++)
        ps_tracker_offer(&tracker, t_ns, t_ns + CALL_NS, 0, false);
    CHECK(polls > 100 && polls < 1500);
    for (; t_ns < 31 * S; t_ns = tracker.next_ns)
        ps_tracker_offer(&tracker, t_ns, t_ns + CALL_NS, t_ns / (100 * MS), true);
    CHECK(ps_tracker_locked(&tracker));
    CHECK_EQ(1, tracker.acquisitions);
}

/* Two channels of one call: each is offered the other's polls, and both are placed. */
static void test_two_channels_share_their_polls(void)
{
    enum { CHANNELS = 2 };
    static const int64_t period_ns[CHANNELS] = {100000000, 20000000}, phase_ns[CHANNELS] = {0, 7000000};
    ps_tracker tracker[CHANNELS];
    int64_t seen[CHANNELS] = {0}, before_ns = 0, t_ns = 0, polls = 0;
    uint64_t updates[CHANNELS] = {0}, within[CHANNELS] = {0};
    for (int i = 0; i < CHANNELS; i++)
        ps_tracker_init(&tracker[i], MS, MS, (uint64_t)i, 0);
    while (t_ns < 100 * S) {
        for (int i = 0; i < CHANNELS; i++) {
            int64_t k = (t_ns + period_ns[i] - phase_ns[i]) / period_ns[i];
            if (k != seen[i] && t_ns > 5 * S) {
                int64_t update_ns = (k - 1) * period_ns[i] + phase_ns[i];
                updates[i]++;
                within[i] += llabs((before_ns + t_ns + CALL_NS) / 2 - update_ns) <= MS;
            }
            seen[i] = k;
            ps_tracker_offer(&tracker[i], t_ns, t_ns + CALL_NS, k, true);
        }
        polls += t_ns > 5 * S;
        before_ns = t_ns;
        t_ns = tracker[0].next_ns < tracker[1].next_ns ? tracker[0].next_ns : tracker[1].next_ns;
        t_ns = t_ns > before_ns + CALL_NS ? t_ns : before_ns + CALL_NS;
    }
    CHECK(within[0] >= updates[0] * 999 / 1000 && updates[0] > 900);
    CHECK(within[1] >= updates[1] * 999 / 1000 && updates[1] > 4500);
    printf("two channels: %.2f polls per 100 ms\n", (double)polls / 950);
    CHECK(polls < 950 * 27);
}

static void test_passed_over_polls_counted_to_the_windows_end(void)
{
    ps_tracker tracker;
    int64_t t_ns = 0;
    ps_tracker_init(&tracker, MS, MS, 1, 0);
    CHECK_EQ(0, ps_tracker_passed_over(&tracker, MS / 2));
    CHECK_EQ(5, ps_tracker_passed_over(&tracker, 5 * MS)); /* acquiring: a grid of 1 ms */
    for (; t_ns < 20 * S || tracker.phase != PS_TRACK_WINDOW || tracker.next_ns + MS > tracker.close_ns; t_ns = tracker.next_ns)
        ps_tracker_offer(&tracker, t_ns, t_ns + CALL_NS, t_ns / (100 * MS), true);
    CHECK_EQ(1, ps_tracker_passed_over(&tracker, tracker.next_ns + MS));
    CHECK_EQ((tracker.close_ns - tracker.next_ns) / MS, ps_tracker_passed_over(&tracker, tracker.next_ns + 10 * S));
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/ps-tracker-XXXXXX");
    REQUIRE(mkdtemp(folder));
    test_jitter_updates_within_1ms_by_few_polls();
    test_narrow_spacing_places_updates_within_200us();
    test_missing_and_equal_updates_keep_the_lock();
    test_constant_half_of_the_time_keeps_the_phase();
    test_free_running_sensor_predicted_from_its_last_update();
    test_late_wake_ups_do_not_lose_the_track();
    test_new_phase_is_acquired_again();
    test_period_found_behind_multiples_of_it();
    test_quick_sensor_is_said_to_be_too_fast();
    test_constant_or_failing_sensor_is_polled_idly();
    test_errors_while_locked_keep_the_pace();
    test_two_channels_share_their_polls();
    test_passed_over_polls_counted_to_the_windows_end();
    rmdir(folder);
    return HARNESS_RESULT();
}
