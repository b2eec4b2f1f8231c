/* SPDX-License-Identifier: Apache-2.0
 *
 * Wall power against closed forms, against a fine enumeration in long double, and against itself: asked in pieces, in any
 * order, by other processes, and while load is being added.
 */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "powersample.h"
#include "powersample_sim.h"

static const int64_t MS = 1000000, S = 1000000000;
static char folder[64];

static const char *file(const char *name)
{
    static char path[128];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    unlink(path);
    return path;
}

static uint64_t random_state = 12345;

static int64_t below(int64_t n)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int64_t)((random_state >> 33) % (uint64_t)n);
}

static bool near(double expected, double actual, double relative)
{
    bool ok = fabs(actual - expected) <= relative * fabs(expected);
    if (!ok)
        fprintf(stderr, "%.12g is not %.12g\n", actual, expected);
    return ok;
}

/* No fans, no losses, no lag: what is the truth's own. */
static ps_wall_model bare(void)
{
    return (ps_wall_model){.fan_high_mw = 1, .grid_ns = 100 * MS};
}

/* About a server of 3 kW. */
static ps_wall_model server(void)
{
    return (ps_wall_model){
        .loss_fixed_mw = 72000,
        .loss_ratio = 0.02,
        .loss_per_mw = 5e-9,
        .tau_ns = 20 * MS,
        .fan_max_mw = 500000,
        .fan_min_speed = 0.5,
        .fan_low_mw = 600000,
        .fan_high_mw = 2500000,
        .fan_tau_ns = 3 * S,
        .grid_ns = 100 * MS,
    };
}

static ps_truth *constant(const char *name, int32_t p_mw)
{
    ps_truth *truth;
    REQUIRE(ps_truth_create(file(name), 5000, 0, p_mw, &truth) == PS_OK);
    return truth;
}

static ps_wall *wall_of(const ps_wall_model *model, ps_truth *const *truths, uint32_t n)
{
    ps_wall *wall;
    REQUIRE(ps_wall_open(model, (const ps_truth *const *)truths, n, &wall) == PS_OK);
    return wall;
}

static double joules(ps_wall *wall, int64_t a, int64_t b)
{
    double j = NAN;
    CHECK_EQ(PS_OK, ps_wall_joules(wall, a, b, &j));
    return j;
}

static int64_t pj(ps_wall *wall, int64_t a, int64_t b)
{
    int64_t found = -1;
    CHECK_EQ(PS_OK, ps_wall_energy_pj(wall, a, b, &found));
    return found;
}

/* Three timelines of steps and waves whose edges are multiples of 10 us, 4 s long. */
static void busy(ps_truth **truth)
{
    static const char *const name[] = {"busy0", "busy1", "busy2"};
    for (int i = 0; i < 3; i++) {
        truth[i] = constant(name[i], 100000 + (int32_t)below(300000));
        for (int64_t t = 0; t < 4 * S;) {
            t += (1 + below(3000)) * 10000;
            int64_t period = below(3) ? 0 : (2 + below(2000)) * 10000;
            int64_t on = period ? (1 + below(period / 10000 - 1)) * 10000 : 0;
            int32_t p1 = (int32_t)below(900000), p2 = (int32_t)below(900000);
            REQUIRE(ps_truth_append(truth[i], t, p1, p2, period, on, 0) == PS_OK);
        }
    }
}

static void close_all(ps_wall *wall, ps_truth **truth, int n)
{
    ps_wall_close(wall);
    for (int i = 0; i < n; i++)
        ps_truth_close(truth[i]);
}

/* ---- closed forms ---------------------------------------------------------------------- */

static void test_constant_load_is_supply_times_time_exactly(void)
{
    ps_truth *truth[] = {constant("constant0", 700000), constant("constant1", 300000)};
    ps_wall_model model = server();
    ps_wall *wall = wall_of(&model, truth, 2);
    double speed = 0.5 + 0.5 * (1000000.0 - 600000.0) / 1900000.0;
    int64_t fans = (int64_t)rint(500000 * speed * speed * speed);
    double d = (double)(1000000 + fans);
    int64_t supply = 1000000 + fans + (int64_t)rint(72000 + 0.02 * d + 5e-9 * d * d);
    ps_wall_state state;
    CHECK_EQ(PS_OK, ps_wall_state_get(wall, 5 * S + 17, &state));
    CHECK_EQ(1000000, state.parts_mw);
    CHECK_EQ(fans, state.fans_mw);
    CHECK_EQ(supply, state.supply_mw);
    CHECK(state.wall_mw == (double)supply);
    CHECK_EQ(supply * (S + 3), pj(wall, 70 * MS, 70 * MS + S + 3));
    close_all(wall, truth, 2);
}

static void test_efficiency_follows_the_curve_at_its_operating_points(void)
{
    /* 1 %, 2 % and 3 % of 3 kW: fixed, proportional and resistive at full load. */
    ps_wall_model model = bare();
    model.loss_fixed_mw = 0.01 * 3e6;
    model.loss_ratio = 0.02;
    model.loss_per_mw = 0.03 / 3e6;
    const struct {
        int32_t load_mw;
        double efficiency;
    } point[] = {{300000, 1 / 1.123}, {600000, 1 / 1.076}, {1500000, 1 / 1.055}, {3000000, 1 / 1.06}};
    for (int i = 0; i < 4; i++) {
        ps_truth *truth = constant("curve", point[i].load_mw);
        ps_wall *wall = wall_of(&model, &truth, 1);
        CHECK(near(point[i].efficiency, point[i].load_mw / 1e3 / joules(wall, 0, S), 1e-6));
        close_all(wall, &truth, 1);
    }
}

static void test_step_through_the_lag_is_the_exact_exponential(void)
{
    ps_truth *truth = constant("step", 200000);
    REQUIRE(ps_truth_append(truth, S + 33 * MS, 900000, 0, 0, 0, 0) == PS_OK);
    ps_wall_model model = bare();
    model.tau_ns = 20 * MS;
    ps_wall *wall = wall_of(&model, &truth, 1);
    CHECK_EQ(200000 * S, pj(wall, 0, S));
    for (int64_t after = 0; after < 300 * MS; after += 7 * MS) {
        double left = exp(-(double)after / (20.0 * (double)MS));
        ps_wall_state state;
        CHECK_EQ(PS_OK, ps_wall_state_get(wall, S + 33 * MS + after, &state));
        CHECK(near(900000 - 700000 * left, state.wall_mw, 1e-12));
        double expected = 900.0 * (double)after / 1e9 - 700.0 * 0.02 * (1 - left);
        CHECK(fabs(expected - joules(wall, S + 33 * MS, S + 33 * MS + after)) < 1e-9);
    }
    close_all(wall, &truth, 1);
}

static void test_fans_follow_the_filtered_power_look_by_look(void)
{
    ps_truth *truth = constant("fans", 500000);
    REQUIRE(ps_truth_append(truth, 2 * S + 50 * MS, 1500000, 0, 0, 0, 0) == PS_OK);
    ps_wall_model model = bare();
    model.fan_max_mw = 400000;
    model.fan_min_speed = 0.3;
    model.fan_low_mw = 600000;
    model.fan_high_mw = 1600000;
    model.fan_tau_ns = 10 * S;
    ps_wall *wall = wall_of(&model, &truth, 1);
    double z = 500000;
    ps_wall_state state, end;
    for (int64_t k = 0; k < 2000; k++) {
        double share = fmax(0, (z - 600000) / 1e6), speed = 0.3 + 0.7 * share;
        CHECK_EQ(PS_OK, ps_wall_state_get(wall, k * 100 * MS, &state));
        CHECK_EQ(PS_OK, ps_wall_state_get(wall, (k + 1) * 100 * MS - 1, &end));
        CHECK_EQ((int64_t)rint(400000 * speed * speed * speed), state.fans_mw);
        CHECK_EQ(state.fans_mw, end.fans_mw); /* between looks they hold */
        double mean = k < 20 ? 500000 : k == 20 ? 1000000 : 1500000;
        z += (mean - z) * -expm1(-0.01);
    }
    double settled = 0.3 + 0.7 * 0.9;
    CHECK(near(400000 * settled * settled * settled, (double)state.fans_mw, 1e-5));
    close_all(wall, &truth, 1);
}

/* ---- against brute force ---------------------------------------------------------------------- */

static void test_energy_matches_an_enumeration_in_steps_of_10_us(void)
{
    enum { STEPS = 400000 };
    static int32_t p[3][STEPS];
    static int64_t t[STEPS];
    static long double since[STEPS + 1];
    ps_truth *truth[3];
    busy(truth);
    for (int i = 0; i < STEPS; i++)
        t[i] = i * INT64_C(10000);
    for (int i = 0; i < 3; i++)
        REQUIRE(ps_truth_power_mw(truth[i], t, STEPS, p[i]) == PS_OK);
    ps_wall_model model = server();
    ps_wall *wall = wall_of(&model, truth, 3);
    ps_wall_state state;
    REQUIRE(ps_wall_state_get(wall, 0, &state) == PS_OK);
    long double z = p[0][0] + p[1][0] + p[2][0], w = state.supply_mw, sum = 0, fan = 0;
    for (int i = 0; i < STEPS; i++) {
        if (i % 10000 == 0) {
            if (i)
                z += (sum / 10000 - z) * -expm1l(-0.1L / 3);
            long double share = (z - 600000) / 1900000;
            share = share < 0 ? 0 : share > 1 ? 1 : share;
            fan = rintl(500000 * powl(0.5L + 0.5L * share, 3));
            sum = 0;
        }
        long double x = (long double)p[0][i] + p[1][i] + p[2][i], d = x + fan;
        long double s = d + rintl(72000 + 0.02L * d + 5e-9L * d * d), w1 = s + (w - s) * expl(-10e-6L / 20e-3L);
        since[i + 1] = since[i] + (w + w1) / 2 * 10e-6L / 1000; /* J; a trapezoid's error is 2e-8 of the change */
        sum += x;
        w = w1;
    }
    double worst = 0;
    for (int i = 0; i < 2000; i++) {
        int64_t a = below(STEPS - 1), b = a + 1 + below(STEPS - a);
        worst = fmax(worst, fabs(joules(wall, a * 10000, b * 10000) - (double)(since[b] - since[a])));
    }
    CHECK(worst < 2e-6); /* J, of up to 6 kJ */
    close_all(wall, truth, 3);
}

static void test_counter_lines_stay_within_their_tolerance(void)
{
    enum { ROOM = 700 };
    static int64_t t[ROOM], nj[ROOM];
    ps_truth *truth[3];
    busy(truth);
    ps_wall_model model = server();
    ps_wall *wall = wall_of(&model, truth, 3);
    const int64_t from = 12345678, tolerance = INT64_C(1000000000), end = 3 * S;
    int64_t a = from, before = 0, worst = 0;
    uint64_t n = 0, points = 0;
    while (a < end) { /* in pieces: each goes on where the last ended */
        CHECK_EQ(PS_OK, ps_wall_counter_nj(wall, from, a, end, tolerance, t, nj, ROOM, &n));
        REQUIRE(n > 0);
        for (uint64_t i = 0; i < n; i++) {
            CHECK(t[i] > a);
            CHECK_EQ(pj(wall, from, t[i]) / 1000, nj[i]);
            int64_t middle = a + (t[i] - a) / 2;
            double line = (double)before + (double)(nj[i] - before) * (double)(middle - a) / (double)(t[i] - a);
            int64_t off = llabs((int64_t)line - pj(wall, from, middle) / 1000);
            worst = off > worst ? off : worst;
            a = t[i];
            before = nj[i];
        }
        points += n;
    }
    CHECK_EQ(end, a);
    CHECK(worst <= tolerance / 1000 + 2);
    CHECK(worst > tolerance / 2000); /* no more points than it takes */
    CHECK(points > 1000);
    close_all(wall, truth, 3);
}

/* ---- against itself ---------------------------------------------------------------------- */

static void test_energy_adds_up_bit_for_bit_in_any_order(void)
{
    ps_truth *truth[3];
    busy(truth);
    ps_wall_model model = server();
    ps_wall *wall = wall_of(&model, truth, 3);
    for (int i = 0; i < 2000; i++) {
        int64_t a = below(5 * S), c = a + below(5 * S - a + 1), b = a + below(c - a + 1);
        CHECK_EQ(pj(wall, a, c), pj(wall, a, b) + pj(wall, b, c));
        ps_wall *fresh = i % 100 ? NULL : wall_of(&model, truth, 3);
        if (fresh)
            CHECK_EQ(pj(fresh, a, c), pj(wall, a, c));
        ps_wall_close(fresh);
    }
    close_all(wall, truth, 3);
}

static void test_another_process_finds_the_same_bits(void)
{
    ps_truth *truth[3], *mapped[3];
    busy(truth);
    ps_wall_model model = server();
    ps_wall *wall = wall_of(&model, truth, 3);
    int64_t expected = pj(wall, 77, 4 * S + 123456789);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        char path[128];
        for (int i = 0; i < 3; i++) {
            snprintf(path, sizeof path, "%s/busy%d", folder, i);
            if (ps_truth_open(path, &mapped[i]) != PS_OK)
                _exit(2);
        }
        ps_wall *other = wall_of(&model, mapped, 3);
        (void)pj(other, 2 * S, 3 * S);
        _exit(pj(other, 77, 4 * S + 123456789) == expected ? 0 : 1);
    }
    int status = 0;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_EQ(0, status);
    close_all(wall, truth, 3);
}

static void test_wall_is_never_below_its_parts_but_for_the_lag(void)
{
    ps_truth *truth[3];
    busy(truth);
    ps_wall_model model = server();
    ps_wall *wall = wall_of(&model, truth, 3);
    for (int i = 0; i < 1000; i++) {
        int64_t a = below(4 * S), b = a + below(4 * S - a + 1);
        double parts = 0;
        for (int k = 0; k < 3; k++) {
            double one;
            CHECK_EQ(PS_OK, ps_truth_joules(truth[k], a, b, &one));
            parts += one;
        }
        ps_wall_state from, to;
        CHECK_EQ(PS_OK, ps_wall_state_get(wall, a, &from));
        CHECK_EQ(PS_OK, ps_wall_state_get(wall, b, &to));
        double held = 0.02 * (to.wall_mw - from.wall_mw) / 1e3; /* J that the supply took or gave */
        CHECK(joules(wall, a, b) + held >= parts);
    }
    close_all(wall, truth, 3);
}

static void test_future_is_not_remembered_once_load_is_added(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t start = now.tv_sec * S + now.tv_nsec;
    ps_truth *truth;
    REQUIRE(ps_truth_create(file("future"), 100, start - 10 * S, 500000, &truth) == PS_OK);
    ps_wall_model model = server();
    ps_wall *wall = wall_of(&model, &truth, 1);
    double idle = joules(wall, start + 60 * S, start + 70 * S);
    REQUIRE(ps_truth_append(truth, start + 30 * S, 1500000, 0, 0, 0, 0) == PS_OK);
    CHECK(joules(wall, start + 60 * S, start + 70 * S) > 2 * idle);
    ps_wall *fresh = wall_of(&model, &truth, 1);
    CHECK_EQ(pj(fresh, start - S, start + 61 * S), pj(wall, start - S, start + 61 * S));
    ps_wall_close(fresh);
    close_all(wall, &truth, 1);
}

/* ---- while load is added ---------------------------------------------------------------------- */

typedef struct live {
    ps_truth *truth;
    int64_t from;
    atomic_bool stop;
} live;

static int64_t now_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * S + now.tv_nsec;
}

/* As a follower does: ahead of time, here so far that no machine is late. */
static void *add_load(void *argument)
{
    live *l = argument;
    for (int i = 0; !atomic_load(&l->stop) && i < 4000; i++) {
        int64_t t = now_ns() + 100 * MS;
        if (ps_truth_append(l->truth, t, i % 7 * 100000, 0, 0, 0, 1) != PS_OK)
            break;
        struct timespec pause = {0, 100000};
        nanosleep(&pause, NULL);
    }
    return NULL;
}

static void test_past_never_changes_while_load_is_added(void)
{
    enum { ASKED = 2000 };
    static int64_t until[ASKED], answer[ASKED];
    live l = {.from = now_ns() - 10 * S};
    REQUIRE(ps_truth_create(file("live"), 5000, l.from, 300000, &l.truth) == PS_OK);
    ps_wall_model model = server();
    ps_wall *wall = wall_of(&model, &l.truth, 1);
    pthread_t writer;
    REQUIRE(pthread_create(&writer, NULL, add_load, &l) == 0);
    int asked = 0;
    struct timespec pause = {0, 150000};
    for (int64_t end = now_ns() + 400 * MS; asked < ASKED && now_ns() < end; asked++) {
        until[asked] = now_ns();
        answer[asked] = pj(wall, l.from, until[asked]);
        nanosleep(&pause, NULL);
    }
    atomic_store(&l.stop, true);
    pthread_join(writer, NULL);
    ps_truth_state state;
    CHECK_EQ(PS_OK, ps_truth_state_get(l.truth, &state));
    CHECK(state.segments > 10);
    ps_wall *fresh = wall_of(&model, &l.truth, 1);
    for (int i = 0; i < asked && !state.late; i++) /* late load voids a truth, and says so */
        CHECK_EQ(pj(fresh, l.from, until[i]), answer[i]);
    ps_wall_close(fresh);
    close_all(wall, &l.truth, 1);
}

/* ---- refusals ---------------------------------------------------------------------- */

static void test_impossible_models_and_spans_are_refused(void)
{
    ps_truth *truth = constant("refused", 1000);
    const ps_truth *const truths[] = {truth}, *const none[] = {NULL};
    ps_wall *wall = NULL;
    ps_wall_model good = server(), bad[] = {good, good, good, good, good, good, good};
    bad[0].loss_fixed_mw = -1;
    bad[1].loss_ratio = NAN;
    bad[2].loss_per_mw = 1e-3;
    bad[3].tau_ns = -1;
    bad[4].fan_high_mw = bad[4].fan_low_mw;
    bad[5].fan_min_speed = 1.1;
    bad[6].grid_ns = 0;
    for (int i = 0; i < 7; i++)
        CHECK_EQ(PS_E_INVALID, ps_wall_open(&bad[i], truths, 1, &wall));
    CHECK_EQ(PS_E_INVALID, ps_wall_open(&good, truths, 0, &wall));
    CHECK_EQ(PS_E_INVALID, ps_wall_open(&good, truths, PS_WALL_TRUTHS + 1, &wall));
    CHECK_EQ(PS_E_INVALID, ps_wall_open(&good, none, 1, &wall));
    CHECK(wall == NULL);
    wall = wall_of(&good, &truth, 1);
    int64_t found = 4;
    double j;
    CHECK_EQ(PS_E_INVALID, ps_wall_energy_pj(wall, -1, 5, &found));
    CHECK_EQ(PS_E_INVALID, ps_wall_energy_pj(wall, 6, 5, &found));
    CHECK_EQ(PS_E_INVALID, ps_wall_energy_pj(wall, 0, 400000 * S, &found)); /* 69 MJ */
    CHECK_EQ(4, found);
    CHECK_EQ(PS_OK, ps_wall_joules(wall, 0, 400000 * S, &j));
    CHECK(j > 1e7);
    ps_wall_state state;
    CHECK_EQ(PS_E_INVALID, ps_wall_state_get(wall, -1, &state));
    close_all(wall, &truth, 1);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/ps_test_wall_XXXXXX");
    REQUIRE(mkdtemp(folder));
    test_constant_load_is_supply_times_time_exactly();
    test_efficiency_follows_the_curve_at_its_operating_points();
    test_step_through_the_lag_is_the_exact_exponential();
    test_fans_follow_the_filtered_power_look_by_look();
    test_energy_matches_an_enumeration_in_steps_of_10_us();
    test_counter_lines_stay_within_their_tolerance();
    test_energy_adds_up_bit_for_bit_in_any_order();
    test_another_process_finds_the_same_bits();
    test_wall_is_never_below_its_parts_but_for_the_lag();
    test_future_is_not_remembered_once_load_is_added();
    test_past_never_changes_while_load_is_added();
    test_impossible_models_and_spans_are_refused();
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? HARNESS_RESULT() : 1;
}
