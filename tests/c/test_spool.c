/* SPDX-License-Identifier: Apache-2.0
 *
 * What the spool says is in its files is in its files: across rotation, a kill, a full disk and a fork.
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "spool_folder.h"

enum { RECORD = sizeof(ps_sample) };

/* Checks a part's header and appends its records; returns how many, -1 when the part does not exist. */
static int read_part(const char *name, ps_sample *out, int capacity, size_t *torn)
{
    size_t size = 0;
    char *bytes = read_file(name, &size);
    if (!bytes)
        return -1;
    size_t header = 0;
    CHECK_EQ(1, sscanf(bytes, "{\"powersample_spool\":1,\"header_bytes\":%zu,\"record_bytes\":32,", &header));
    CHECK(header > 0 && header % 4096 == 0 && header <= size);
    CHECK_EQ(header - 1, strcspn(bytes, "\n"));
    CHECK_TEXT("\"boot_id\":\"", bytes);
    CHECK_TEXT("\"anchor\":{\"monotonic_ns\":", bytes);
    CHECK_TEXT("\"name\":\"fake.power0\"", bytes);
    CHECK_TEXT("\"period_ns\":", bytes);
    int count = (int)((size - header) / RECORD);
    REQUIRE(count <= capacity);
    memcpy(out, bytes + header, (size_t)count * RECORD);
    *torn = (size - header) % RECORD;
    free(bytes);
    return count;
}

static int read_parts(ps_sample *out, int capacity, int *parts)
{
    int total = 0;
    for (*parts = 0;; ++*parts) {
        char name[32];
        size_t torn;
        snprintf(name, sizeof name, "part-%06d.part", *parts);
        int count = read_part(name, out + total, capacity - total, &torn);
        if (count < 0)
            return total;
        CHECK_EQ(0, torn);
        CHECK(count > 0);
        total += count;
    }
}

static bool exists(const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", directory, name);
    return access(path, F_OK) == 0;
}

static ps_sampler *virtual_sampler(uint64_t passes)
{
    ps_lane_options options = {.mode = PS_MODE_VIRTUAL, .cpu = -1, .ring_records = 1024, .max_passes = passes};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    return sampler;
}

static void check_ramp(const ps_sample *samples, int count, int expected)
{
    CHECK_EQ(expected, count);
    int wrong = 0;
    for (int i = 0; i < count; i++)
        wrong += samples[i].seq != (uint32_t)i || samples[i].raw != i;
    CHECK_EQ(0, wrong);
}

static int occurrences(const char *text, const char *part)
{
    int count = 0;
    for (; (text = strstr(text, part)) != NULL; text++)
        count++;
    return count;
}

static void test_rotation_by_size_loses_nothing(void)
{
    enum { PASSES = 200000, PART_BYTES = 1 << 20 };
    static ps_sample samples[PASSES + 1];
    make_directory();
    ps_sampler *sampler = virtual_sampler(PASSES);
    ps_spool_options options = {.part_bytes = PART_BYTES, .drain_ms = 1, .anchor_ms = 5};
    ps_spool *spool = start_spool(sampler, &options);
    script_wait_done(sampler);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));

    int parts;
    check_ramp(samples, read_parts(samples, PASSES + 1, &parts), PASSES);
    CHECK_EQ(PASSES * RECORD / (PART_BYTES - 8192) + 1, parts);
    ps_spool_stats stats;
    CHECK_EQ(PS_OK, ps_spool_get_stats(spool, &stats));
    CHECK_EQ(PASSES, stats.records);
    CHECK_EQ(0, stats.discarded);
    CHECK_EQ(parts, stats.parts);
    CHECK_EQ((int64_t)PASSES * RECORD + parts * 8192, stats.bytes);
    CHECK(!exists("part-000000.open"));

    size_t size;
    char *events = read_file("events.jsonl", &size);
    REQUIRE(events != NULL);
    CHECK(strncmp(events, "{\"event\":\"anchor\",\"monotonic_ns\":", 33) == 0);
    CHECK_TEXT("{\"event\":\"end\",", events);
    CHECK_TEXT("\"reason\":\"stopped\",\"records\":200000,\"omitted\":0,\"discarded\":0,\"cpu_ns\":", events);
    long long cpu_ns = 0; /* of 200 000 records written: the drain thread cannot have done that in no time */
    CHECK_EQ(1, sscanf(strstr(events, ",\"cpu_ns\":"), ",\"cpu_ns\":%lld}", &cpu_ns));
    CHECK(cpu_ns > 10000);
    CHECK_TEXT("\"passes\":200000,\"skipped\":0,\"records\":200000,\"dropped\":0,\"drained\":200000,", events);
    CHECK_TEXT("\"wake_hist\":[0,", events);
    CHECK_EQ('\n', events[size - 1]);
    CHECK_EQ(1, occurrences(events, "\"call_hist\":")); /* however many anchors and parts there were */
    CHECK_EQ(parts + 1, occurrences(events, "{\"event\":\"lanes\","));
    free(events);
    ps_spool_free(spool);
    ps_sampler_free(sampler);
    remove_directory();
}

static void test_rotation_by_age_makes_no_empty_part(void)
{
    make_directory();
    ps_lane_options paced = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 1000, .max_passes = 200};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &paced);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_spool_options options = {.part_ms = 20, .drain_ms = 2, .sync_ms = 5};
    ps_spool *spool = start_spool(sampler, &options);
    script_wait_done(sampler);
    CHECK_EQ(PS_OK, ps_spool_sync(spool, 30));
    harness_sleep_ms(60); /* time for a part of nothing */
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));
    static ps_sample samples[201];
    int parts;
    check_ramp(samples, read_parts(samples, 201, &parts), 200);
    CHECK(parts >= 2);
    ps_spool_free(spool);
    ps_sampler_free(sampler);
    remove_directory();
}

static void test_sync_puts_known_records_in_the_file(void)
{
    make_directory();
    ps_lane_options paced = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 1000};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &paced);
    ps_spool *spool;
    ps_error error;
    REQUIRE(ps_spool_new(directory, sampler, NULL, &spool, &error) == PS_OK);
    CHECK_EQ(PS_E_STATE, ps_spool_start(spool, &error)); /* the sampler does not run yet */
    CHECK_EQ(PS_E_STATE, ps_spool_sync(spool, 1));
    CHECK_EQ(PS_E_STATE, ps_spool_stop(spool, &error));
    ps_spool_free(spool);

    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_spool_options options = {.drain_ms = 60000}; /* a drain comes by asking only */
    spool = start_spool(sampler, &options);
    CHECK_EQ(PS_E_STATE, ps_spool_start(spool, &error));
    static ps_sample samples[100000];
    uint32_t count;
    CHECK_EQ(PS_E_STATE, ps_sampler_drain(sampler, 0, samples, 1, &count)); /* the spool's now */
    for (int round = 0; round < 5; round++) {
        uint64_t known = script_stats(sampler, 0).records;
        while (script_stats(sampler, 0).records < known + 5)
            harness_sleep_ms(1);
        known = script_stats(sampler, 0).records;
        CHECK_EQ(PS_OK, ps_spool_sync(spool, 30));
        size_t torn;
        CHECK(read_part("part-000000.open", samples, 100000, &torn) >= (int)known);
    }
    CHECK_EQ(PS_E_INVALID, ps_spool_sync(spool, -1));
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));
    CHECK_EQ(PS_E_STATE, ps_spool_sync(spool, 1));
    ps_spool_free(spool);
    ps_sampler_free(sampler);
    remove_directory();
}

static void test_bad_directories_refused_with_reason(void)
{
    ps_sampler *sampler = virtual_sampler(1);
    ps_spool *spool = NULL;
    ps_error error;
    CHECK_EQ(PS_E_NOT_FOUND, ps_spool_new("/nonexistent/spool", sampler, NULL, &spool, &error));
    CHECK_EQ(ENOENT, error.vendor);
    CHECK_TEXT("/nonexistent/spool", error.text);
    CHECK_EQ(PS_E_NOT_FOUND, ps_spool_new("/dev/null", sampler, NULL, &spool, &error));

    static const char *const leftovers[] = {"part-000000.open", "part-000007.part", "events.jsonl"};
    for (int i = 0; i < 3; i++) {
        make_directory();
        char path[128];
        snprintf(path, sizeof path, "%s/%s", directory, leftovers[i]);
        int fd = open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600);
        REQUIRE(fd >= 0);
        close(fd);
        CHECK_EQ(PS_E_STATE, ps_spool_new(directory, sampler, NULL, &spool, &error));
        CHECK_TEXT(leftovers[i], error.text);
        remove_directory();
    }
    CHECK(spool == NULL);
    ps_spool_free(NULL);
    ps_sampler_free(sampler);
}

/* A file size limit stands for a full disk: the write that crosses it is cut short in the middle of a record. */
static void test_full_disk_keeps_whole_records_and_draining(void)
{
    enum { PASSES = 50000, WHOLE = 1000 };
    make_directory();
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, limit;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    limit = before;
    limit.rlim_cur = 8192 + WHOLE * RECORD + 5;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);

    ps_sampler *sampler = virtual_sampler(PASSES);
    ps_spool_options options = {.drain_ms = 1};
    ps_spool *spool = start_spool(sampler, &options);
    script_wait_done(sampler); /* and so the ring never stayed full */
    CHECK_EQ(PS_E_FULL, ps_spool_sync(spool, 30));
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_error error = {0};
    CHECK_EQ(PS_E_FULL, ps_spool_stop(spool, &error));
    CHECK_EQ(EFBIG, error.vendor);
    CHECK_TEXT(directory, error.text);
    CHECK_TEXT("discarded", error.text);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);

    static ps_sample samples[PASSES];
    int parts;
    check_ramp(samples, read_parts(samples, PASSES, &parts), WHOLE);
    CHECK_EQ(1, parts);
    ps_spool_stats stats;
    CHECK_EQ(PS_OK, ps_spool_get_stats(spool, &stats));
    CHECK_EQ(PS_E_FULL, stats.status);
    CHECK_EQ(WHOLE, stats.records);
    CHECK_EQ(PASSES - WHOLE, stats.discarded);
    ps_lane_stats lane = script_stats(sampler, 0);
    CHECK_EQ(0, lane.dropped);
    CHECK_EQ(PASSES, lane.drained);
    size_t size;
    char *events = read_file("events.jsonl", &size);
    REQUIRE(events != NULL);
    CHECK_TEXT("{\"event\":\"failed\",", events);
    CHECK_TEXT("\"status\":\"PS_E_FULL\",\"errno\":27}", events);
    CHECK_TEXT("\"reason\":\"full\",\"records\":1000,\"omitted\":0,\"discarded\":49000,\"cpu_ns\":", events);
    free(events);
    ps_spool_free(spool);
    ps_sampler_free(sampler);
    remove_directory();
}

static void test_failed_start_leaves_directory_empty(void)
{
    make_directory();
    ps_sampler *sampler = virtual_sampler(1);
    ps_spool *spool;
    REQUIRE(ps_spool_new(directory, sampler, NULL, &spool, NULL) == PS_OK);
    struct rlimit before, limit;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    limit = before;
    limit.rlim_cur = 4096; /* an event fits, a part's header does not */
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    ps_error error = {0};
    CHECK_EQ(PS_E_FULL, ps_spool_start(spool, &error));
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    CHECK(!exists("events.jsonl") && !exists("part-000000.open"));
    CHECK_EQ(PS_OK, ps_spool_start(spool, &error));
    ps_spool_free(spool); /* stops first */
    CHECK(exists("part-000000.part"));
    ps_sampler_free(sampler);
    remove_directory();
}

static void test_killed_process_leaves_readable_open_part(void)
{
    make_directory();
    int ready[2];
    REQUIRE(pipe(ready) == 0);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        ps_lane_options paced = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 1000};
        ps_sampler *sampler = script_sampler(script_ramp("fake"), &paced);
        REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
        ps_spool_options options = {.drain_ms = 1};
        ps_spool *spool = start_spool(sampler, &options);
        while (script_stats(sampler, 0).records < 20)
            harness_sleep_ms(1);
        REQUIRE(ps_spool_sync(spool, 30) == PS_OK);
        REQUIRE(write(ready[1], "!", 1) == 1);
        for (;;)
            pause();
    }
    close(ready[1]);
    char byte;
    REQUIRE(read(ready[0], &byte, 1) == 1);
    close(ready[0]);
    kill(child, SIGKILL);
    REQUIRE(waitpid(child, NULL, 0) == child);

    static ps_sample samples[100000];
    size_t torn;
    int count = read_part("part-000000.open", samples, 100000, &torn);
    CHECK(count >= 20);
    for (int i = 1; i < count; i++)
        CHECK(samples[i].seq > samples[i - 1].seq);
    remove_directory();
}

static void test_fork_child_refused_parent_unharmed(void)
{
    make_directory();
    ps_lane_options paced = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 1000, .max_passes = 50};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &paced);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_spool *spool = start_spool(sampler, NULL);
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        int bad = ps_spool_sync(spool, 60) != PS_E_STATE;
        bad += ps_spool_stop(spool, NULL) != PS_E_STATE;
        ps_spool_free(spool);
        ps_sampler_free(sampler);
        _exit(bad);
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    script_wait_done(sampler);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));
    ps_sample samples[51];
    int parts;
    check_ramp(samples, read_parts(samples, 51, &parts), 50);
    ps_spool_free(spool);
    ps_sampler_free(sampler);
    remove_directory();
}

/* The drain thread reads the rings until the spool stops, whoever lets go first. */
static void test_sampler_freed_before_spool_records_kept(void)
{
    make_directory();
    ps_lane_options paced = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 1000, .max_passes = 50};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &paced);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_spool_options options = {.drain_ms = 1};
    ps_spool *spool = start_spool(sampler, &options);
    script_wait_done(sampler);
    ps_sampler_free(sampler);
    harness_sleep_ms(10); /* the thread goes on looking */
    CHECK_EQ(PS_OK, ps_spool_sync(spool, 30));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));
    static ps_sample samples[51];
    int parts;
    check_ramp(samples, read_parts(samples, 51, &parts), 50);
    ps_spool_free(spool);
    remove_directory();
}

int main(void)
{
    test_rotation_by_size_loses_nothing();
    test_rotation_by_age_makes_no_empty_part();
    test_sync_puts_known_records_in_the_file();
    test_bad_directories_refused_with_reason();
    test_full_disk_keeps_whole_records_and_draining();
    test_failed_start_leaves_directory_empty();
    test_killed_process_leaves_readable_open_part();
    test_fork_child_refused_parent_unharmed();
    test_sampler_freed_before_spool_records_kept();
    return HARNESS_RESULT();
}
