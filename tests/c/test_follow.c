/* SPDX-License-Identifier: Apache-2.0
 *
 * A child's CPU use becomes power: the energy above idle is its CPU time. And the node file, which is refused
 * unless whole.
 */
#include <fcntl.h>
#include <math.h>
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
    return path;
}

static void burn_ms(int ms)
{
    struct timespec t;
    do
        clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    while (t.tv_sec * 1000 + t.tv_nsec / 1000000 < ms);
}

enum { CHILD_MS = 200, IDLE_MW = 50000, MAX_MW = 450000, CAPACITY = 4 };

/* Joules above idle of everything that was appended, and what they should be: 400 W / 4 CPUs per CPU second. */
static void check_energy(const ps_truth *truth, int64_t begin_ns, double cpu_s)
{
    ps_truth_state state;
    double joules;
    CHECK_EQ(PS_OK, ps_truth_state_get(truth, &state));
    CHECK_EQ(IDLE_MW, state.last_p_mw);
    int64_t end_ns = state.last_t0_ns + 1000000;
    CHECK_EQ(PS_OK, ps_truth_joules(truth, begin_ns, end_ns, &joules));
    joules -= IDLE_MW / 1e3 * (double)(end_ns - begin_ns) / 1e9;
    double expected = (MAX_MW - IDLE_MW) / 1e3 / CAPACITY * cpu_s;
    /* Intervals stretch on a busy machine: that misplaces some of the energy, it does not make any. */
    CHECK(fabs(joules / expected - 1) < 0.4);
}

static void test_follow_child_and_grandchild_energy_is_their_cpu_time(void)
{
    int64_t begin = ps_clock_now_ns();
    ps_truth *truth[2];
    REQUIRE(ps_truth_create(file("child0"), 10000, begin, IDLE_MW, &truth[0]) == PS_OK);
    REQUIRE(ps_truth_create(file("child1"), 10000, begin, IDLE_MW, &truth[1]) == PS_OK);
    int gate[2];
    REQUIRE(pipe(gate) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        char go;
        if (read(gate[0], &go, 1) != 1)
            _exit(1);
        burn_ms(CHILD_MS / 2);
        pid_t grandchild = fork();
        if (grandchild == 0) {
            burn_ms(CHILD_MS / 2);
            _exit(0);
        }
        waitpid(grandchild, NULL, 0);
        _exit(0);
    }
    const int32_t idle[] = {IDLE_MW, IDLE_MW}, max[] = {MAX_MW, MAX_MW};
    ps_follow *follow;
    REQUIRE(ps_follow_start(child, truth, idle, max, 2, CAPACITY, 0, &follow) == PS_OK);
    REQUIRE(write(gate[1], "g", 1) == 1);
    waitpid(child, NULL, 0);
    ps_follow_stats stats;
    CHECK_EQ(PS_OK, ps_follow_stop(follow, &stats));
    CHECK(stats.ticks > 0);
    CHECK((stats.route == PS_FOLLOW_PERF) == (stats.perf_errno == 0));
    if (stats.route == PS_FOLLOW_PERF)
        CHECK(stats.cpu_s > 0.95 * CHILD_MS / 1e3 && stats.cpu_s < 1.5 * CHILD_MS / 1e3);
    else /* the grandchild is not seen, and an ended child's last tick may be missed */
        CHECK(stats.cpu_s > 0.3 * CHILD_MS / 1e3 && stats.cpu_s < 0.9 * CHILD_MS / 1e3);
    check_energy(truth[0], begin, stats.cpu_s);
    check_energy(truth[1], begin, stats.cpu_s);
    close(gate[0]);
    close(gate[1]);
    ps_truth_close(truth[0]);
    ps_truth_close(truth[1]);
}

static void test_follow_itself_by_its_own_clock(void)
{
    int64_t begin = ps_clock_now_ns();
    ps_truth *truth;
    REQUIRE(ps_truth_create(file("self"), 10000, begin, IDLE_MW, &truth) == PS_OK);
    const int32_t idle = IDLE_MW, max = MAX_MW;
    ps_follow *follow;
    ps_follow_stats stats;
    struct timespec t;
    REQUIRE(ps_follow_start(0, &truth, &idle, &max, 1, CAPACITY, 5000000, &follow) == PS_OK);
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
    burn_ms((int)(t.tv_sec * 1000 + t.tv_nsec / 1000000) + 100);
    harness_sleep_ms(40); /* five intervals of smoothing */
    CHECK_EQ(PS_OK, ps_follow_stats_get(follow, &stats));
    CHECK_EQ(PS_FOLLOW_PROCESS_CLOCK, stats.route);
    CHECK(stats.cpu_s > 0.09);
    CHECK_EQ(PS_OK, ps_follow_stop(follow, &stats));
    check_energy(truth, begin, stats.cpu_s);
    ps_truth_close(truth);
}

static void test_follow_bad_arguments_refused(void)
{
    ps_truth *truth;
    ps_follow *follow = NULL;
    const int32_t idle = IDLE_MW, max = MAX_MW;
    REQUIRE(ps_truth_create(file("bad"), 10, 0, IDLE_MW, &truth) == PS_OK);
    const int32_t no_pid = 1 << 23; /* above any pid_max */
    CHECK_EQ(PS_E_NOT_FOUND, ps_follow_start(no_pid, &truth, &idle, &max, 1, 1, 0, &follow));
    CHECK_EQ(PS_E_INVALID, ps_follow_start(-1, &truth, &idle, &max, 1, 1, 0, &follow));
    CHECK_EQ(PS_E_INVALID, ps_follow_start(0, &truth, &idle, &max, 0, 1, 0, &follow));
    CHECK_EQ(PS_E_INVALID, ps_follow_start(0, &truth, &idle, &max, 1, 0, 0, &follow));
    CHECK_EQ(PS_E_INVALID, ps_follow_start(0, &truth, &idle, &max, 1, (double)NAN, 0, &follow));
    CHECK_EQ(PS_E_INVALID, ps_follow_start(0, &truth, &max, &idle, 1, 1, 0, &follow));
    CHECK_EQ(PS_E_INVALID, ps_follow_start(0, &truth, &idle, &max, 1, 1, 1000, &follow));
    CHECK(follow == NULL);
    ps_truth_close(truth);
}

/* ---- node file ---------------------------------------------------------------------- */

static void test_node_file_changes_seen_by_other_mappings(void)
{
    static ps_node node = {.n_gpus = 2, .driver_version = "535.247.01"};
    ps_node *owner, *reader;
    CHECK_EQ(PS_OK, ps_node_write(file("node.bin"), &node));
    CHECK_EQ(PS_E_STATE, ps_node_write(file("node.bin"), &node));
    REQUIRE(ps_node_map(file("node.bin"), 1, &owner) == PS_OK);
    REQUIRE(ps_node_map(file("node.bin"), 0, &reader) == PS_OK);
    CHECK_EQ(2, reader->n_gpus);
    CHECK_TEXT("535.247.01", reader->driver_version);
    const ps_fault fault = {.function = PS_FN_ENERGY, .gpu = 1, .code = 15, .every = 3, .active = 1};
    CHECK_EQ(PS_OK, ps_node_set_fault(owner, 5, &fault));
    CHECK_EQ(15, reader->fault[5].code);
    CHECK_EQ(1, reader->fault[5].active);
    CHECK_EQ(PS_E_INVALID, ps_node_set_fault(owner, PS_NODE_MAX_FAULTS, &fault));
    const ps_latency latency = {.kind = PS_LATENCY_FIXED, .median_ns = 20000};
    CHECK_EQ(PS_OK, ps_node_set_latency(owner, PS_FN_ENERGY, &latency));
    CHECK_EQ(PS_LATENCY_FIXED, reader->latency[PS_FN_ENERGY].kind);
    CHECK(reader->latency[PS_FN_ENERGY].median_ns == 20000);
    CHECK_EQ(PS_OK, ps_node_reload(owner, 1234));
    CHECK_EQ(1, reader->generation);
    CHECK_EQ(1234, reader->gpu[1].sensor[PS_NS_ENERGY].start_ns);
    ps_node_unmap(owner);
    ps_node_unmap(reader);
    ps_node_unmap(NULL);
}

static void test_node_file_damaged_refused(void)
{
    static ps_node node = {.n_gpus = 1};
    ps_node *mapped = NULL;
    CHECK_EQ(PS_E_NOT_FOUND, ps_node_map(file("no.bin"), 0, &mapped));
    CHECK_EQ(PS_OK, ps_node_write(file("bad.bin"), &node));
    int fd = open(file("bad.bin"), O_RDWR);
    REQUIRE(fd >= 0 && pwrite(fd, "X", 1, 0) == 1);
    CHECK_EQ(PS_E_FORMAT, ps_node_map(file("bad.bin"), 0, &mapped));
    REQUIRE(pwrite(fd, "P", 1, 0) == 1);
    const uint32_t whole = sizeof node, other = sizeof node - 8; /* another version's layout */
    REQUIRE(pwrite(fd, &other, sizeof other, 8) == sizeof other);
    CHECK_EQ(PS_E_FORMAT, ps_node_map(file("bad.bin"), 0, &mapped));
    REQUIRE(pwrite(fd, &whole, sizeof whole, 8) == sizeof whole);
    CHECK_EQ(PS_OK, ps_node_map(file("bad.bin"), 0, &mapped));
    ps_node_unmap(mapped);
    mapped = NULL;
    REQUIRE(ftruncate(fd, (off_t)sizeof node - 1) == 0);
    CHECK_EQ(PS_E_FORMAT, ps_node_map(file("bad.bin"), 0, &mapped));
    close(fd);
    node.n_gpus = PS_NODE_MAX_GPUS + 1;
    CHECK_EQ(PS_E_INVALID, ps_node_write(file("many.bin"), &node));
    CHECK(mapped == NULL);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/ps_test_follow_XXXXXX");
    REQUIRE(mkdtemp(folder));
    test_follow_child_and_grandchild_energy_is_their_cpu_time();
    test_follow_itself_by_its_own_clock();
    test_follow_bad_arguments_refused();
    test_node_file_changes_seen_by_other_mappings();
    test_node_file_damaged_refused();
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? HARNESS_RESULT() : 1;
}
