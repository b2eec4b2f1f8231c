/* SPDX-License-Identifier: Apache-2.0
 *
 * The truth against enumeration of its edges, in exact integers, in one process and in several.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "powersample.h"
#include "powersample_sim.h"

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

enum { SEGMENTS = 200 };

typedef struct script {
    int64_t t0[SEGMENTS], period[SEGMENTS], on[SEGMENTS];
    int32_t p1[SEGMENTS], p2[SEGMENTS];
} script;

/* A timeline of constants and waves, and the table it was made from. */
static ps_truth *timeline(const char *path, script *s)
{
    ps_truth *truth = NULL;
    int64_t t = 1000;
    for (int i = 0; i < SEGMENTS; i++) {
        s->t0[i] = t;
        s->p1[i] = 1 + (int32_t)below(700000);
        s->p2[i] = (int32_t)below(700000);
        s->period[i] = i % 3 == 1 ? 2 + below(50000) : 0;
        s->on[i] = s->period[i] ? 1 + below(s->period[i] - 1) : 0;
        if (i == 0)
            REQUIRE(ps_truth_create(path, 1000, t, s->p1[i], &truth) == PS_OK);
        else
            REQUIRE(ps_truth_append(truth, t, s->p1[i], s->p2[i], s->period[i], s->on[i], 0) == PS_OK);
        t += 1 + below(400000);
    }
    return truth;
}

/* Energy of [a, b] by walking every edge, with 64-bit sums only. */
static int64_t enumerate(const script *s, int64_t a, int64_t b)
{
    int64_t pj = 0;
    for (int i = 0; i < SEGMENTS; i++) {
        int64_t end = i + 1 < SEGMENTS && s->t0[i + 1] < b ? s->t0[i + 1] : b;
        for (int64_t t = s->t0[i]; t < end;) {
            int64_t edge = end;
            int32_t p = s->p1[i];
            if (s->period[i]) {
                int64_t cycle = s->t0[i] + (t - s->t0[i]) / s->period[i] * s->period[i];
                bool first = t - cycle < s->on[i];
                p = first ? s->p1[i] : s->p2[i];
                edge = cycle + (first ? s->on[i] : s->period[i]);
            }
            edge = edge < end ? edge : end;
            int64_t from = t > a ? t : a;
            if (edge > from)
                pj += p * (edge - from);
            t = edge;
        }
    }
    return pj;
}

static void test_energy_waves_and_constants_match_enumeration_of_edges(void)
{
    script s;
    ps_truth *truth = timeline(file("edges"), &s);
    int64_t end = s.t0[SEGMENTS - 1] + 300000;
    for (int i = 0; i < 2000; i++) {
        int64_t a = 1000 + below(end - 1000), b = a + below(end - a + 1), pj = -1;
        CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, a, b, &pj));
        CHECK_EQ(enumerate(&s, a, b), pj);
    }
    ps_truth_close(truth);
}

static void test_energy_split_anywhere_adds_up_bit_for_bit(void)
{
    script s;
    ps_truth *truth = timeline(file("additive"), &s);
    int64_t end = s.t0[SEGMENTS - 1] + 100000000;
    for (int i = 0; i < 2000; i++) {
        int64_t a = 1000 + below(end - 1000), c = a + below(end - a + 1), b = a + below(c - a + 1), ab, bc, ac;
        CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, a, b, &ab));
        CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, b, c, &bc));
        CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, a, c, &ac));
        CHECK_EQ(ac, ab + bc);
    }
    ps_truth_close(truth);
}

static void test_power_at_edges_is_the_new_power(void)
{
    ps_truth *truth;
    REQUIRE(ps_truth_create(file("power"), 10, 100, 7, &truth) == PS_OK);
    CHECK_EQ(PS_OK, ps_truth_append(truth, 200, 40, 50, 10, 3, 0));
    const int64_t at[] = {-5, 100, 199, 200, 202, 203, 209, 210, 213};
    const int32_t expected[] = {7, 7, 7, 40, 40, 50, 50, 40, 50};
    int32_t p[9];
    CHECK_EQ(PS_OK, ps_truth_power_mw(truth, at, 9, p));
    for (int i = 0; i < 9; i++)
        CHECK_EQ(expected[i], p[i]);
    ps_truth_close(truth);
}

static void test_edges_and_counter_rebuild_the_energy(void)
{
    script s;
    ps_truth *truth = timeline(file("rebuild"), &s);
    static int64_t t[1000], nj[1000];
    int64_t a = 70001, b = s.t0[SEGMENTS - 1] + 300000, at = a, pj = 0, sum = 0;
    uint64_t n;
    /* In pieces: every call goes on where the last one ended. */
    do {
        CHECK_EQ(PS_OK, ps_truth_edges(truth, at, b, t, 1000, &n));
        CHECK_EQ(PS_OK, ps_truth_counter_nj(truth, a, t, n, nj));
        for (uint64_t i = 0; i < n; i++) {
            int32_t p;
            CHECK(t[i] > at);
            CHECK_EQ(PS_OK, ps_truth_power_mw(truth, &at, 1, &p));
            sum += p * (t[i] - at);
            at = t[i];
            CHECK_EQ(sum / 1000, nj[i]);
        }
    } while (n == 1000);
    int32_t p;
    CHECK_EQ(PS_OK, ps_truth_power_mw(truth, &at, 1, &p));
    CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, a, b, &pj));
    CHECK_EQ(pj, sum + p * (b - at));
    CHECK_EQ(PS_E_INVALID, ps_truth_counter_nj(truth, b, &a, 1, nj));
    ps_truth_close(truth);
}

static void test_energy_beyond_63_bits_refused_and_joules_given(void)
{
    ps_truth *truth;
    REQUIRE(ps_truth_create(file("large"), 10, 0, 1000000, &truth) == PS_OK);
    const int64_t week = INT64_C(604800000000000);
    int64_t pj = 5;
    double joules = 0;
    CHECK_EQ(PS_E_INVALID, ps_truth_energy_pj(truth, 0, week, &pj));
    CHECK_EQ(5, pj);
    CHECK_EQ(PS_OK, ps_truth_joules(truth, 0, week, &joules));
    CHECK(joules == 604800000.0);
    /* The prefix is exact beyond 64 bits too: a short span after a week is right to the pJ. */
    CHECK_EQ(PS_OK, ps_truth_append(truth, week, 3, 0, 0, 0, 0));
    CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, week - 7, week + 5, &pj));
    CHECK_EQ(7 * 1000000 + 5 * 3, pj);
    CHECK_EQ(PS_OK, ps_truth_joules(truth, 0, week + 5, &joules));
    CHECK(joules == 604800000.0);
    CHECK_EQ(PS_E_INVALID, ps_truth_energy_pj(truth, -1, 5, &pj));
    CHECK_EQ(PS_E_INVALID, ps_truth_energy_pj(truth, 6, 5, &pj));
    ps_truth_close(truth);
}

static void test_reader_in_another_process_same_bits(void)
{
    script s;
    const char *path = file("shared");
    ps_truth *truth = timeline(path, &s);
    int64_t here[50], there[50];
    int channel[2];
    REQUIRE(pipe(channel) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ps_truth *mine;
        if (ps_truth_open(path, &mine) != PS_OK)
            _exit(1);
        for (int i = 0; i < 50; i++)
            if (ps_truth_energy_pj(mine, 1000 + i * 777, 900000 + i * 310007, &there[i]) != PS_OK)
                _exit(1);
        _exit(write(channel[1], there, sizeof there) == (ssize_t)sizeof there ? 0 : 1);
    }
    REQUIRE(read(channel[0], there, sizeof there) == (ssize_t)sizeof there);
    waitpid(child, NULL, 0);
    for (int i = 0; i < 50; i++) {
        CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, 1000 + i * 777, 900000 + i * 310007, &here[i]));
        CHECK_EQ(here[i], there[i]);
    }
    close(channel[0]);
    close(channel[1]);
    ps_truth_close(truth);
}

static void test_writer_second_one_refused(void)
{
    const char *path = file("writers");
    ps_truth *truth, *other = NULL;
    REQUIRE(ps_truth_create(path, 10, 0, 1, &truth) == PS_OK);
    CHECK_EQ(PS_E_STATE, ps_truth_create(path, 10, 0, 1, &other));
    REQUIRE(ps_truth_open(path, &other) == PS_OK);
    CHECK_EQ(PS_E_STATE, ps_truth_append(other, 10, 2, 0, 0, 0, 0));
    ps_truth_close(other);
    ps_truth_close(truth);
    CHECK_EQ(PS_E_STATE, ps_truth_create(path, 10, 0, 1, &other)); /* finished ones are kept */
    ps_truth_close(NULL);
}

static void test_append_outside_its_range_refused(void)
{
    ps_truth *truth;
    ps_truth_state state;
    REQUIRE(ps_truth_create(file("append"), 10, 1000, 5, &truth) == PS_OK);
    CHECK_EQ(PS_E_INVALID, ps_truth_append(truth, 1000, 6, 0, 0, 0, 0)); /* not after the last */
    CHECK_EQ(PS_E_INVALID, ps_truth_append(truth, 2000, -1, 0, 0, 0, 0));
    CHECK_EQ(PS_E_INVALID, ps_truth_append(truth, 2000, 1, 2, 10, 10, 0));
    CHECK_EQ(PS_E_INVALID, ps_truth_append(truth, 2000, 1, 2, 10, 0, 0));
    CHECK_EQ(PS_E_INVALID, ps_truth_append(truth, 2000, 1, -2, 10, 5, 0));
    CHECK_EQ(PS_OK, ps_truth_append(truth, 2000, 5, 0, 0, 0, 0)); /* the same power: nothing to add */
    CHECK_EQ(PS_OK, ps_truth_state_get(truth, &state));
    CHECK_EQ(1, state.segments);
    CHECK_EQ(1000, state.last_t0_ns);
    CHECK_EQ(0, state.late);
    ps_truth_close(truth);
}

static void test_append_live_into_the_past_counted_late(void)
{
    ps_truth *truth;
    ps_truth_state state;
    int64_t now = ps_clock_now_ns();
    REQUIRE(ps_truth_create(file("late"), 10, now - 1000000000, 5, &truth) == PS_OK);
    CHECK_EQ(PS_OK, ps_truth_append(truth, now - 500000000, 6, 0, 0, 0, 1));
    CHECK_EQ(PS_OK, ps_truth_append(truth, now + 60000000000, 7, 0, 0, 0, 1));
    CHECK_EQ(PS_OK, ps_truth_state_get(truth, &state));
    CHECK_EQ(1, state.late);
    CHECK(state.late_max_ns >= 500000000);
    ps_truth_close(truth);
}

static void test_append_beyond_capacity_full_and_last_power_holds(void)
{
    ps_truth *truth;
    ps_truth_state state;
    REQUIRE(ps_truth_create(file("full"), 3, 0, 5, &truth) == PS_OK);
    CHECK_EQ(PS_OK, ps_truth_append(truth, 10, 6, 0, 0, 0, 0));
    CHECK_EQ(PS_OK, ps_truth_append(truth, 20, 7, 0, 0, 0, 0));
    CHECK_EQ(PS_E_FULL, ps_truth_append(truth, 30, 8, 0, 0, 0, 0));
    CHECK_EQ(PS_OK, ps_truth_state_get(truth, &state));
    CHECK_EQ(1, state.full);
    CHECK_EQ(7, state.last_p_mw);
    int64_t pj;
    CHECK_EQ(PS_OK, ps_truth_energy_pj(truth, 20, 1020, &pj));
    CHECK_EQ(7000, pj);
    ps_truth_close(truth);
}

static void test_append_no_space_full_without_a_signal(void)
{
    const char *path = file("space");
    pid_t child = fork(); /* a file size limit stands for a full file system; it would outlive this test */
    REQUIRE(child >= 0);
    if (child == 0) {
        struct rlimit limit = {3 << 19, 3 << 19}; /* 1.5 MiB: one step fits, two do not */
        signal(SIGXFSZ, SIG_IGN);
        ps_truth *truth;
        ps_truth_state state;
        if (setrlimit(RLIMIT_FSIZE, &limit) != 0 || ps_truth_create(path, 1 << 20, 0, 0, &truth) != PS_OK)
            _exit(1);
        int status = PS_OK;
        int32_t n = 0;
        while (status == PS_OK && n < 1 << 20) {
            n++;
            status = ps_truth_append(truth, n, n, 0, 0, 0, 0);
        }
        if (status != PS_E_FULL || ps_truth_state_get(truth, &state) != PS_OK)
            _exit(2);
        _exit(state.full == 1 && state.last_p_mw == n - 1 && n > 1000 ? 0 : 3);
    }
    int status;
    waitpid(child, &status, 0);
    CHECK(WIFEXITED(status));
    CHECK_EQ(0, WEXITSTATUS(status));
}

static void test_open_other_files_refused(void)
{
    ps_truth *truth = NULL;
    char text[8192];
    memset(text, 'x', sizeof text);
    CHECK_EQ(PS_E_NOT_FOUND, ps_truth_open(file("none"), &truth));
    const char *path = file("short");
    int fd = open(path, O_RDWR | O_CREAT, 0644);
    REQUIRE(fd >= 0 && write(fd, text, 100) == 100);
    CHECK_EQ(PS_E_FORMAT, ps_truth_open(path, &truth));
    REQUIRE(write(fd, text, sizeof text) == (ssize_t)sizeof text);
    CHECK_EQ(PS_E_FORMAT, ps_truth_open(path, &truth));
    close(fd);
    path = file("cut");
    ps_truth *writer;
    REQUIRE(ps_truth_create(path, 1000, 0, 0, &writer) == PS_OK);
    for (int32_t i = 1; i < 500; i++)
        REQUIRE(ps_truth_append(writer, i, i, 0, 0, 0, 0) == PS_OK);
    ps_truth_close(writer);
    REQUIRE(truncate(path, 8192) == 0);
    CHECK_EQ(PS_E_FORMAT, ps_truth_open(path, &truth));
    CHECK(truth == NULL);
}

/* ---- a writer and a reader at once ---------------------------------------------------------------------- */

enum { APPENDS = 20000 };

static void *append_all(void *argument)
{
    for (int32_t i = 1; i <= APPENDS; i++)
        ps_truth_append(argument, (int64_t)i * 100, i, 0, 0, 0, 0);
    return NULL;
}

static void test_reader_beside_writer_sees_whole_segments_only(void)
{
    const char *path = file("threads");
    ps_truth *writer, *reader;
    REQUIRE(ps_truth_create(path, APPENDS + 1, 0, 0, &writer) == PS_OK);
    REQUIRE(ps_truth_open(path, &reader) == PS_OK);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, append_all, writer) == 0);
    ps_truth_state state = {0};
    while (state.segments <= APPENDS) {
        CHECK_EQ(PS_OK, ps_truth_state_get(reader, &state));
        int64_t n = (int64_t)state.segments - 1, pj;
        CHECK_EQ(n, state.last_p_mw);
        CHECK_EQ(PS_OK, ps_truth_energy_pj(reader, 0, n * 100, &pj));
        CHECK_EQ(100 * (n * (n - 1) / 2), pj); /* 100 ns each of 1 .. n-1 mW */
        if (harness_failures)
            break;
    }
    pthread_join(thread, NULL);
    ps_truth_close(reader);
    ps_truth_close(writer);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/ps_test_truth_XXXXXX");
    REQUIRE(mkdtemp(folder));
    test_energy_waves_and_constants_match_enumeration_of_edges();
    test_energy_split_anywhere_adds_up_bit_for_bit();
    test_power_at_edges_is_the_new_power();
    test_edges_and_counter_rebuild_the_energy();
    test_energy_beyond_63_bits_refused_and_joules_given();
    test_reader_in_another_process_same_bits();
    test_writer_second_one_refused();
    test_append_outside_its_range_refused();
    test_append_live_into_the_past_counted_late();
    test_append_beyond_capacity_full_and_last_power_holds();
    test_append_no_space_full_without_a_signal();
    test_open_other_files_refused();
    test_reader_beside_writer_sees_whole_segments_only();
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? HARNESS_RESULT() : 1;
}
