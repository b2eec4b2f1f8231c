/* SPDX-License-Identifier: Apache-2.0
 *
 * The spool as a stream: what its reader gets, and that a slow reader, one that has gone and a descriptor that takes no
 * more cost records, counted, and no lane anything.
 */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <sys/resource.h>
#include <unistd.h>

#include "script.h"

enum { RECORD = sizeof(ps_sample), STREAM_MAX = 1 << 24 };

/* Reads a descriptor to its end, in a thread. */
typedef struct reader {
    pthread_t thread;
    int fd;
    char *bytes;
    size_t size;
} reader;

static void *read_all(void *argument)
{
    reader *self = argument;
    for (ssize_t got; (got = read(self->fd, self->bytes + self->size, STREAM_MAX - 1 - self->size)) > 0;)
        self->size += (size_t)got;
    self->bytes[self->size] = '\0';
    return NULL;
}

static void start_reader(reader *self, int fd)
{
    *self = (reader){.fd = fd, .bytes = malloc(STREAM_MAX)};
    REQUIRE(self->bytes != NULL);
    REQUIRE(pthread_create(&self->thread, NULL, read_all, self) == 0);
}

/* What is in a stream, as its reader sees it. */
typedef struct content {
    int parts, drained, anchors, ends;
    int records;
    int wrong; /* records that do not count on from the one before */
    bool torn; /* it broke off inside a line or inside records */
} content;

static content take_apart(const char *bytes, size_t size)
{
    content found = {0};
    for (const char *at = bytes, *end = bytes + size; at < end;) {
        const char *newline = memchr(at, '\n', (size_t)(end - at));
        size_t records, header;
        if (!newline) {
            found.torn = true;
            break;
        }
        found.drained += strncmp(at, "{\"event\":\"drained\",\"t_ns\":", 26) == 0;
        found.anchors += strncmp(at, "{\"event\":\"anchor\",", 18) == 0;
        found.ends += strncmp(at, "{\"event\":\"end\",", 15) == 0;
        if (sscanf(at, "{\"powersample_spool\":1,\"header_bytes\":%zu,", &header) == 1) {
            found.parts++;
            CHECK_EQ(header, newline + 1 - at);
        }
        CHECK_EQ('{', at[0]);
        bool announced = sscanf(at, "{\"event\":\"records\",\"bytes\":%zu}", &records) == 1;
        at = newline + 1;
        if (!announced)
            continue;
        CHECK(found.parts > 0);
        CHECK_EQ(0, records % RECORD);
        for (; records && at + RECORD <= end; records -= RECORD, at += RECORD, found.records++) {
            ps_sample sample;
            memcpy(&sample, at, sizeof sample);
            found.wrong += sample.raw != found.records;
        }
        if (records) {
            found.torn = true;
            break;
        }
    }
    return found;
}

static ps_sampler *virtual_sampler(uint64_t passes)
{
    ps_lane_options options = {.mode = PS_MODE_VIRTUAL, .cpu = -1, .ring_records = 1024, .max_passes = passes};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    return sampler;
}

static ps_spool *start_stream(int fd, ps_sampler *sampler, const ps_spool_options *options)
{
    ps_spool *spool;
    ps_error error = {0};
    if (ps_spool_stream_new(fd, sampler, options, &spool, &error) != PS_OK || ps_spool_start(spool, &error) != PS_OK) {
        fprintf(stderr, "%s: %s\n", error.call, error.text);
        exit(1);
    }
    return spool;
}

static void test_stream_carries_everything_in_parts(bool nonblocking)
{
    enum { PASSES = 100000, PART_BYTES = 1 << 20 };
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    if (nonblocking)
        REQUIRE(fcntl(ends[1], F_SETFL, O_NONBLOCK) == 0);
    reader got;
    start_reader(&got, ends[0]);
    ps_sampler *sampler = virtual_sampler(PASSES);
    ps_spool_options options = {.part_bytes = PART_BYTES, .drain_ms = 1, .anchor_ms = 5};
    ps_spool *spool = start_stream(ends[1], sampler, &options);
    close(ends[1]); /* the spool has its own */
    script_wait_done(sampler);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));
    ps_spool_stats stats;
    CHECK_EQ(PS_OK, ps_spool_get_stats(spool, &stats));
    ps_spool_free(spool);
    pthread_join(got.thread, NULL);

    content found = take_apart(got.bytes, got.size);
    CHECK_EQ(PASSES, found.records);
    CHECK_EQ(0, found.wrong);
    CHECK_EQ(PASSES * RECORD / (PART_BYTES - 8192) + 1, found.parts);
    CHECK_EQ(found.parts, stats.parts);
    CHECK_EQ(PASSES, stats.records);
    CHECK_EQ(1, found.ends);
    CHECK(found.drained > 1 && found.anchors > 1 && !found.torn);
    static const char lane[] = "\"passes\":100000,\"skipped\":0,\"records\":100000,\"dropped\":0,\"drained\":100000,";
    CHECK(memmem(got.bytes, got.size, lane, sizeof lane - 1) != NULL);
    free(got.bytes);
    close(ends[0]);
    ps_sampler_free(sampler);
}

/* Nobody reads for a while: the drain thread stands, the lane does not. */
static void test_stream_slow_reader_costs_records_and_no_slot(void)
{
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    ps_lane_options paced = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 20000, .ring_records = 256,
                             .max_passes = 8000};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &paced);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_spool_options options = {.drain_ms = 1};
    ps_spool *spool = start_stream(ends[1], sampler, &options);
    close(ends[1]);
    script_wait_done(sampler); /* without a reader: a lane that waited for one would never be done */
    reader got;
    start_reader(&got, ends[0]);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));
    ps_spool_free(spool);
    pthread_join(got.thread, NULL);

    ps_lane_stats lane = script_stats(sampler, 0);
    script_check_identities(&lane);
    CHECK_EQ(8000, lane.passes);
    CHECK(lane.dropped > 0);
    content found = take_apart(got.bytes, got.size);
    CHECK_EQ(lane.drained, found.records);
    CHECK(!found.torn && found.ends == 1);
    free(got.bytes);
    close(ends[0]);
    ps_sampler_free(sampler);
}

static void test_stream_reader_gone_is_a_failure_and_the_lane_goes_on(void)
{
    int ends[2];
    REQUIRE(pipe2(ends, O_CLOEXEC) == 0);
    ps_lane_options paced = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 1000};
    ps_sampler *sampler = script_sampler(script_ramp("fake"), &paced);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_spool_options options = {.drain_ms = 1};
    ps_spool *spool = start_stream(ends[1], sampler, &options);
    close(ends[1]);
    close(ends[0]);
    ps_spool_stats stats = {0};
    for (int i = 0; i < 10000 && stats.status == PS_OK; i++) {
        harness_sleep_ms(1);
        CHECK_EQ(PS_OK, ps_spool_get_stats(spool, &stats));
    }
    CHECK_EQ(PS_E_SYSTEM, stats.status);
    CHECK_EQ(EPIPE, stats.sys_errno);
    CHECK_EQ(1, ps_sampler_running(sampler));
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_error error = {0};
    CHECK_EQ(PS_E_SYSTEM, ps_spool_stop(spool, &error));
    CHECK_EQ(EPIPE, error.vendor);
    ps_lane_stats lane = script_stats(sampler, 0);
    CHECK_EQ(PS_OK, ps_spool_get_stats(spool, &stats));
    CHECK_EQ(lane.drained, stats.records + stats.discarded);
    ps_spool_free(spool);
    ps_sampler_free(sampler);
}

/* A line after half a batch of records would be taken for records. */
static void test_stream_broken_off_inside_records_ends_there(void)
{
    enum { PASSES = 50000, LIMIT = 8192 + 100 * RECORD + 5 };
    char path[] = "/tmp/test-stream-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0);
    unlink(path);
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, limit;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    limit = before;
    limit.rlim_cur = LIMIT;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    ps_sampler *sampler = virtual_sampler(PASSES);
    ps_spool_options options = {.drain_ms = 1};
    ps_spool *spool = start_stream(fd, sampler, &options);
    script_wait_done(sampler);
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0); /* room again: and still not a byte more */
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_E_FULL, ps_spool_stop(spool, NULL));
    ps_spool_stats stats;
    CHECK_EQ(PS_OK, ps_spool_get_stats(spool, &stats));
    CHECK_EQ(PASSES, stats.records + stats.discarded);
    ps_spool_free(spool);

    static char bytes[2 * LIMIT];
    CHECK_EQ(LIMIT, pread(fd, bytes, sizeof bytes, 0));
    content found = take_apart(bytes, LIMIT);
    CHECK(found.torn);
    CHECK_EQ(0, found.ends + found.wrong);
    CHECK(found.records > 0);
    close(fd);
    ps_sampler_free(sampler);
}

static void test_stream_to_no_descriptor_refused(void)
{
    ps_sampler *sampler = virtual_sampler(1);
    ps_spool *spool;
    ps_error error = {0};
    CHECK_EQ(PS_E_INVALID, ps_spool_stream_new(-1, sampler, NULL, &spool, &error));
    CHECK_EQ(PS_E_SYSTEM, ps_spool_stream_new(1000, sampler, NULL, &spool, &error));
    CHECK_EQ(EBADF, error.vendor);
    ps_sampler_free(sampler);
}

int main(void)
{
    signal(SIGPIPE, SIG_IGN);
    test_stream_carries_everything_in_parts(false);
    test_stream_carries_everything_in_parts(true);
    test_stream_slow_reader_costs_records_and_no_slot();
    test_stream_reader_gone_is_a_failure_and_the_lane_goes_on();
    test_stream_broken_off_inside_records_ends_there();
    test_stream_to_no_descriptor_refused();
    return HARNESS_RESULT();
}
