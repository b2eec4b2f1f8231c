/* SPDX-License-Identifier: Apache-2.0
 *
 * Files that a truth moves: what they show is the truth at a grid instant, nobody ever reads half a value, and each
 * fault does what it says.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "harness.h"
#include "powersample.h"
#include "powersample_sim.h"

enum { PERIOD_NS = 976562, POWER_MW = 100000, UNIT_NJ = 61035 };

static const int64_t SECOND = INT64_C(1000000000);
static const uint64_t FULL = UINT64_C(1) << 32;

static char folder[64];
static int64_t begin_ns;

static void path_of(char out[PS_FILE_PATH], const char *name)
{
    snprintf(out, PS_FILE_PATH, "%s/%s", folder, name);
}

static ps_truth *truth_of(const char *name, int32_t p_mw)
{
    char path[PS_FILE_PATH];
    ps_truth *truth;
    path_of(path, name);
    begin_ns = ps_clock_now_ns() - SECOND;
    REQUIRE(ps_truth_create(path, 1000, begin_ns, p_mw, &truth) == PS_OK);
    return truth;
}

static ps_file counter(const char *name, uint64_t modulus)
{
    ps_file file = {.kind = PS_FILE_COUNTER,
                    .mode = 0444,
                    .width = 16,
                    .unit_nj = UNIT_NJ,
                    .truths = 1,
                    .start_ns = begin_ns,
                    .counts_num = 16384,
                    .counts_den = UINT64_C(1000000000000),
                    .modulus = modulus};
    path_of(file.path, name);
    return file;
}

static ps_file word(const char *name, int64_t number, uint64_t truths)
{
    ps_file file = counter(name, FULL);
    file.kind = PS_FILE_REGISTER;
    file.offset = number * 8;
    file.truths = truths;
    return file;
}

static ps_files *start(const ps_file *files, uint32_t n, ps_truth *one, ps_truth *two)
{
    const ps_truth *truths[] = {one, two};
    ps_files *running = NULL;
    ps_error error = {0};
    if (ps_files_start(files, n, truths, two ? 2 : 1, PERIOD_NS, &running, &error) != PS_OK)
        fprintf(stderr, "%s: %s\n", error.call, error.text);
    REQUIRE(running != NULL);
    return running;
}

static int keep_open(const ps_file *file)
{
    int fd = open(file->path, O_RDONLY);
    REQUIRE(fd >= 0);
    return fd;
}

/* The number in a text file; -1 when it is not whole. */
static int64_t number_in(int fd, uint32_t width)
{
    char text[64];
    ssize_t got = pread(fd, text, sizeof text, 0);
    if (got != (ssize_t)width)
        return -1;
    int64_t value = 0;
    ssize_t i = 0;
    for (; i < got && text[i] >= '0' && text[i] <= '9'; i++)
        value = value * 10 + (text[i] - '0');
    if (i == 0 || i == got)
        return -1;
    for (; i < got; i++)
        if (text[i] != '\n')
            return -1;
    return value;
}

static uint64_t word_in(int fd, int64_t number)
{
    uint64_t value = UINT64_MAX;
    CHECK_EQ(sizeof value, pread(fd, &value, sizeof value, (off_t)(number * 8)));
    return value;
}

static int64_t counts_at(const ps_truth *truth, int64_t t_ns)
{
    int64_t counts = -1;
    REQUIRE(ps_truth_counts(&truth, 1, begin_ns, t_ns, 16384, UINT64_C(1000000000000), &counts) == PS_OK);
    return counts;
}

/* Waits until the thread has served another grid instant. */
static void await_tick(ps_files *files)
{
    ps_files_stats stats;
    CHECK_EQ(PS_OK, ps_files_stats_get(files, &stats));
    for (uint64_t before = stats.ticks; stats.ticks == before; harness_sleep_ms(1))
        REQUIRE(ps_files_stats_get(files, &stats) == PS_OK);
}

/* ---- what they show ---------------------------------------------------------------------- */

static void test_counter_shows_the_truth_of_a_grid_instant(void)
{
    ps_truth *truth = truth_of("grid.truth", POWER_MW);
    const ps_file file = counter("grid", FULL);
    ps_files *files = start(&file, 1, truth, NULL);
    int fd = keep_open(&file);
    for (int i = 0; i < 20; i++) {
        int64_t shown = number_in(fd, file.width), after = ps_clock_now_ns();
        int64_t grid = after - after % PERIOD_NS; /* back to the instant whose value it is */
        while (counts_at(truth, grid) * UNIT_NJ / 1000 > shown && grid > begin_ns)
            grid -= PERIOD_NS;
        CHECK_EQ(counts_at(truth, grid) * UNIT_NJ / 1000, shown);
        harness_sleep_ms(3);
    }
    struct stat state;
    CHECK_EQ(0, stat(file.path, &state));
    CHECK_EQ(0444, state.st_mode & 0777);
    CHECK_EQ(PS_OK, ps_files_stop(files, NULL));
    CHECK(number_in(fd, file.width) > 0); /* whole, after the end too */
    close(fd);
    ps_truth_close(truth);
}

static void test_every_grid_instant_is_served_or_counted(void)
{
    ps_truth *truth = truth_of("served.truth", POWER_MW);
    const ps_file file = counter("served", FULL);
    int64_t first = ps_clock_now_ns() / PERIOD_NS;
    ps_files *files = start(&file, 1, truth, NULL);
    int64_t started = ps_clock_now_ns() / PERIOD_NS;
    harness_sleep_ms(150);
    int64_t stopping = ps_clock_now_ns() / PERIOD_NS;
    ps_files_stats stats;
    CHECK_EQ(PS_OK, ps_files_stop(files, &stats));
    int64_t last = ps_clock_now_ns() / PERIOD_NS, seen = (int64_t)(stats.ticks + stats.skipped);
    CHECK(seen <= last - first);
    CHECK(seen >= stopping - started - 50); /* it may be kept from its core between its last instant and its end */
    CHECK_EQ(0, stats.failures);
    ps_truth_close(truth);
}

/* A fast reader beside the writer, over many wraps. */
static void test_text_is_never_torn_and_wraps_at_its_modulus(void)
{
    ps_truth *truth = truth_of("torn.truth", POWER_MW);
    ps_file file = counter("torn", 1 << 13); /* half a joule: five milliseconds */
    file.width = 8;
    file.start_counts = (1 << 13) - 10;
    ps_files *files = start(&file, 1, truth, NULL);
    int fd = keep_open(&file);
    int64_t last = 0, largest = ((1 << 13) - 1) * (int64_t)UNIT_NJ / 1000;
    int reads = 0, broken = 0, wraps = 0;
    for (int64_t end = ps_clock_now_ns() + SECOND / 4; ps_clock_now_ns() < end; reads++) {
        int64_t value = number_in(fd, file.width);
        broken += value < 0 || value > largest;
        wraps += value < last;
        last = value;
    }
    CHECK_EQ(0, broken);
    CHECK(reads > 5000);
    CHECK(wraps >= 5); /* 50 on an idle machine */
    CHECK_EQ(PS_OK, ps_files_stop(files, NULL));
    close(fd);
    ps_truth_close(truth);
}

static void test_words_of_intel_and_amd_keep_to_their_place(void)
{
    ps_truth *one = truth_of("word0.truth", POWER_MW), *two = truth_of("word1.truth", 3 * POWER_MW);
    ps_file unit = word("intel", 0x606, 0);
    unit.counts_num = 0;
    unit.start_counts = 0x000a0e03;
    unit.start_ns = begin_ns;
    const int64_t package = 0x611, dram = 0x619, amd = 0xC001029B;
    ps_file files[] = {unit, word("intel", package, 3), word("intel", dram, 2), word("amd", amd, 1)};
    files[2].start_counts = FULL - 5;
    ps_files *running = start(files, 4, one, two);
    int intel_fd = keep_open(&files[0]), amd_fd = keep_open(&files[3]);
    CHECK_EQ(0x000a0e03, word_in(intel_fd, 0x606));
    uint64_t first = word_in(intel_fd, package), first_dram = word_in(intel_fd, dram);
    uint64_t first_amd = word_in(amd_fd, amd), high = 0;
    for (int i = 0; i < 20000; i++)
        high |= word_in(intel_fd, package) | word_in(intel_fd, dram);
    CHECK(high < FULL);
    CHECK(first_dram < FULL / 2); /* wrapped */
    for (int i = 0; i < 50; i++)
        await_tick(running);
    CHECK_EQ(PS_OK, ps_files_stop(running, NULL)); /* now they stand at one instant */
    double gained = (double)(word_in(intel_fd, package) - first), its = (double)(word_in(amd_fd, amd) - first_amd);
    CHECK(gained / its > 3.8 && gained / its < 4.2); /* the sum of both truths against one */
    CHECK_EQ(0, word_in(intel_fd, 0x610));
    close(intel_fd);
    close(amd_fd);
    ps_truth_close(one);
    ps_truth_close(two);
}

static void test_gauge_shows_the_sum_in_its_unit(void)
{
    ps_truth *one = truth_of("gauge0.truth", POWER_MW), *two = truth_of("gauge1.truth", 23456);
    ps_file file = {.kind = PS_FILE_GAUGE,
                    .mode = 0444,
                    .width = 16,
                    .truths = 3,
                    .gauge_num = 1000,
                    .gauge_den = 1,
                    .sensor = {.kind = PS_SENSOR_GAUGE,
                               .period_ns = 10000000,
                               .window_ns = 50000000,
                               .gain = 1,
                               .offset_mw = 500,
                               .quantum = 100}};
    path_of(file.path, "gauge");
    ps_files *files = start(&file, 1, one, two);
    int fd = keep_open(&file);
    CHECK_EQ(124000000, number_in(fd, file.width)); /* 123 456 mW and 500 of offset, once, to 100 mW, in uW */
    REQUIRE(ps_truth_append(two, ps_clock_now_ns() + 5000000, 0, 0, 0, 0, 1) == PS_OK);
    for (int i = 0; i < 300 && number_in(fd, file.width) != 100500000; i++)
        harness_sleep_ms(2);
    CHECK_EQ(100500000, number_in(fd, file.width));
    CHECK_EQ(PS_OK, ps_files_stop(files, NULL));
    close(fd);
    ps_truth_close(one);
    ps_truth_close(two);
}

/* ---- faults ---------------------------------------------------------------------- */

static void test_fault_stuck_then_moving_jumps_to_the_truth(void)
{
    ps_truth *truth = truth_of("stuck.truth", POWER_MW);
    const ps_file file = counter("stuck", FULL);
    ps_files *files = start(&file, 1, truth, NULL);
    int fd = keep_open(&file);
    CHECK_EQ(PS_OK, ps_files_set(files, 0, PS_FILE_STUCK, NULL, NULL));
    int64_t stuck = number_in(fd, file.width);
    for (int i = 0; i < 10; i++)
        await_tick(files);
    CHECK_EQ(stuck, number_in(fd, file.width));
    int64_t least = (counts_at(truth, ps_clock_now_ns() - PERIOD_NS)) * UNIT_NJ / 1000;
    CHECK_EQ(PS_OK, ps_files_set(files, 0, PS_FILE_MOVING, NULL, NULL));
    CHECK(number_in(fd, file.width) >= least);
    CHECK_EQ(PS_OK, ps_files_stop(files, NULL));
    close(fd);
    ps_truth_close(truth);
}

static void test_fault_garbage_keeps_the_width(void)
{
    ps_truth *truth = truth_of("garbage.truth", POWER_MW);
    const ps_file file = counter("garbage", FULL);
    ps_files *files = start(&file, 1, truth, NULL);
    int fd = keep_open(&file);
    char text[64] = "";
    CHECK_EQ(PS_E_INVALID, ps_files_set(files, 0, PS_FILE_GARBAGE, "longer than the file is wide", NULL));
    CHECK(number_in(fd, file.width) > 0);
    CHECK_EQ(PS_OK, ps_files_set(files, 0, PS_FILE_GARBAGE, "nonsense", NULL));
    await_tick(files);
    CHECK_EQ(file.width, pread(fd, text, sizeof text - 1, 0));
    CHECK_EQ(0, strncmp(text, "nonsense\n\n", 10));
    CHECK_EQ(PS_OK, ps_files_set(files, 0, PS_FILE_MOVING, NULL, NULL));
    CHECK(number_in(fd, file.width) > 0);
    CHECK_EQ(PS_OK, ps_files_stop(files, NULL));
    close(fd);
    ps_truth_close(truth);
}

static void test_fault_gone_ends_kept_descriptors_and_comes_back_as_a_new_file(void)
{
    ps_truth *truth = truth_of("gone.truth", POWER_MW);
    const ps_file files[] = {counter("gone", FULL), word("gone-msr", 0x611, 1), word("gone-msr", 0x64d, 1)};
    ps_files *running = start(files, 3, truth, NULL);
    int text_fd = keep_open(&files[0]), msr_fd = keep_open(&files[1]);
    uint64_t value;
    CHECK_EQ(PS_OK, ps_files_set(running, 0, PS_FILE_GONE, NULL, NULL));
    CHECK_EQ(PS_OK, ps_files_set(running, 2, PS_FILE_GONE, NULL, NULL));
    await_tick(running);
    CHECK_EQ(0, pread(text_fd, &value, sizeof value, 0));
    CHECK_EQ(0, pread(msr_fd, &value, sizeof value, 0x611 * 8));
    CHECK(access(files[0].path, F_OK) != 0 && access(files[1].path, F_OK) != 0);
    CHECK_EQ(PS_E_STATE, ps_files_set(running, 0, PS_FILE_STUCK, NULL, NULL));
    CHECK_EQ(PS_OK, ps_files_set(running, 0, PS_FILE_MOVING, NULL, NULL));
    CHECK_EQ(PS_OK, ps_files_set(running, 1, PS_FILE_MOVING, NULL, NULL));
    await_tick(running);
    CHECK_EQ(0, pread(text_fd, &value, sizeof value, 0));
    close(text_fd);
    close(msr_fd);
    text_fd = keep_open(&files[0]);
    msr_fd = keep_open(&files[1]);
    CHECK(number_in(text_fd, files[0].width) > 0);
    CHECK(word_in(msr_fd, 0x611) > 0 && word_in(msr_fd, 0x64d) > 0);
    CHECK_EQ(PS_OK, ps_files_stop(running, NULL));
    close(text_fd);
    close(msr_fd);
    ps_truth_close(truth);
}

static void test_restart_counter_goes_on_from_there(void)
{
    ps_truth *truth = truth_of("restart.truth", POWER_MW);
    const ps_file file = counter("restart", FULL);
    ps_files *files = start(&file, 1, truth, NULL);
    int fd = keep_open(&file);
    CHECK(number_in(fd, file.width) > 90000000); /* of the second before */
    CHECK_EQ(PS_OK, ps_files_restart(files, 0, 0));
    int64_t restarted = ps_clock_now_ns();
    await_tick(files);
    await_tick(files);
    int64_t value = number_in(fd, file.width), after = ps_clock_now_ns();
    CHECK(value > 0 && value <= (after - restarted + PERIOD_NS) * POWER_MW / 1000000);
    CHECK_EQ(PS_E_INVALID, ps_files_restart(files, 0, FULL));
    CHECK_EQ(PS_OK, ps_files_stop(files, NULL));
    close(fd);
    ps_truth_close(truth);
}

static void test_no_space_is_told_before_anything_moves(void)
{
    ps_truth *truth = truth_of("space.truth", POWER_MW);
    const ps_file files[] = {counter("space", FULL), word("space-msr", 0x611, 1)};
    const ps_truth *truths[] = {truth};
    struct rlimit before, small;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    small = before;
    small.rlim_cur = 0x611 * 8; /* the word lies behind it */
    signal(SIGXFSZ, SIG_IGN);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &small) == 0);
    ps_files *running = NULL;
    ps_error error = {0};
    CHECK_EQ(PS_E_FULL, ps_files_start(files, 2, truths, 1, PERIOD_NS, &running, &error));
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(running == NULL);
    CHECK_TEXT("space-msr", error.text);
    CHECK_EQ(EFBIG, error.vendor);
    ps_truth_close(truth);
}

static void test_forked_child_moves_nothing_and_disturbs_nothing(void)
{
    ps_truth *truth = truth_of("fork.truth", POWER_MW);
    const ps_file file = counter("fork", FULL);
    ps_files *files = start(&file, 1, truth, NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0)
        _exit(0);
    int status;
    CHECK_EQ(child, waitpid(child, &status, 0));
    int fd = keep_open(&file);
    int64_t before = number_in(fd, file.width);
    await_tick(files);
    await_tick(files);
    CHECK(number_in(fd, file.width) > before);
    CHECK_EQ(PS_OK, ps_files_stop(files, NULL));
    close(fd);
    ps_truth_close(truth);
}

static void test_bad_settings_refused(void)
{
    ps_truth *truth = truth_of("bad.truth", POWER_MW);
    const ps_truth *truths[] = {truth};
    ps_files *files = NULL;
    const ps_file good = counter("bad", FULL);
    ps_file bad[7];
    for (int i = 0; i < 7; i++)
        bad[i] = good;
    bad[0].kind = 0;
    bad[1].width = PS_FILE_TEXT + 1;
    bad[2].truths = 2; /* there is one */
    bad[3].counts_den = 0;
    bad[4].start_counts = FULL;
    bad[5].kind = PS_FILE_REGISTER;
    bad[5].offset = 4;
    memset(bad[6].path, 'x', sizeof bad[6].path);
    for (int i = 0; i < 7; i++)
        CHECK_EQ(PS_E_INVALID, ps_files_start(&bad[i], 1, truths, 1, PERIOD_NS, &files, NULL));
    CHECK_EQ(PS_E_INVALID, ps_files_start(&good, 1, truths, 1, 10, &files, NULL));
    CHECK_EQ(PS_E_INVALID, ps_files_start(&good, 0, truths, 1, PERIOD_NS, &files, NULL));
    CHECK(files == NULL);
    files = start(&good, 1, truth, NULL);
    ps_files *second = NULL;
    CHECK_EQ(PS_E_STATE, ps_files_start(&good, 1, truths, 1, PERIOD_NS, &second, NULL)); /* it exists */
    CHECK_EQ(PS_E_INVALID, ps_files_set(files, 1, PS_FILE_STUCK, NULL, NULL));
    CHECK_EQ(PS_E_INVALID, ps_files_set(files, 0, 9, NULL, NULL));
    CHECK_EQ(PS_OK, ps_files_stop(files, NULL));
    CHECK_EQ(PS_E_INVALID, ps_files_stop(NULL, NULL));
    ps_truth_close(truth);
}

int main(void)
{
    snprintf(folder, sizeof folder, "/tmp/ps_test_files_XXXXXX");
    REQUIRE(mkdtemp(folder));
    test_counter_shows_the_truth_of_a_grid_instant();
    test_every_grid_instant_is_served_or_counted();
    test_text_is_never_torn_and_wraps_at_its_modulus();
    test_words_of_intel_and_amd_keep_to_their_place();
    test_gauge_shows_the_sum_in_its_unit();
    test_fault_stuck_then_moving_jumps_to_the_truth();
    test_fault_garbage_keeps_the_width();
    test_fault_gone_ends_kept_descriptors_and_comes_back_as_a_new_file();
    test_restart_counter_goes_on_from_there();
    test_no_space_is_told_before_anything_moves();
    test_forked_child_moves_nothing_and_disturbs_nothing();
    test_bad_settings_refused();
    char command[96];
    snprintf(command, sizeof command, "rm -rf %s", folder);
    return system(command) == 0 ? HARNESS_RESULT() : 1;
}
