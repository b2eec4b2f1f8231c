/* SPDX-License-Identifier: Apache-2.0
 *
 * A spool that keeps changes only still accounts for every poll, in parts that need nothing of one another.
 */
#include <signal.h>
#include <string.h>
#include <sys/resource.h>

#include "spool_folder.h"

/* The rows of all parts of a spool of changes; how many. */
static int read_kept(ps_kept *out, int capacity, int *parts)
{
    int total = 0;
    for (*parts = 0;; ++*parts) {
        char name[32];
        size_t size = 0, header = 0;
        snprintf(name, sizeof name, "part-%06d.part", *parts);
        char *bytes = read_file(name, &size);
        if (!bytes)
            return total;
        CHECK_EQ(1, sscanf(bytes, "{\"powersample_spool\":1,\"header_bytes\":%zu,\"record_bytes\":40,", &header));
        CHECK_TEXT("\"keep\":\"changes\"", bytes);
        int count = (int)((size - header) / sizeof(ps_kept));
        CHECK_EQ(0, (size - header) % sizeof(ps_kept));
        REQUIRE(total + count <= capacity);
        memcpy(out + total, bytes + header, (size_t)count * sizeof(ps_kept));
        CHECK_EQ(0, count ? out[total].omitted : 0); /* a part needs nothing of the one before it */
        total += count;
        free(bytes);
    }
}

static ps_source *wave(void)
{
    static const ps_script_step steps[] = {{.raw = 100000}, {.pass = 100, .raw = 200000}};
    ps_script script = {.channels = 1, .kind = PS_KIND_POWER, .scale = 1e-3, .max_hz = 1000, .repeat_passes = 200};
    ps_source *source = NULL;
    REQUIRE(ps_source_scripted_new("fake", &script, steps, 2, &source, NULL) == PS_OK);
    return source;
}

static void test_changes_only_account_for_every_poll(void)
{
    enum { PASSES = 400000, CHANGES = PASSES / 100 - 1 };
    make_directory();
    ps_lane_options options = {.mode = PS_MODE_VIRTUAL, .cpu = -1, .ring_records = 1024, .max_passes = PASSES};
    ps_sampler *sampler = script_sampler(wave(), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_spool_options spool_options = {.part_bytes = 1 << 16, .drain_ms = 1, .keep = PS_KEEP_CHANGES};
    ps_spool *spool = start_spool(sampler, &spool_options);
    script_wait_done(sampler);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));

    static ps_kept rows[PASSES];
    int parts, count = read_kept(rows, PASSES, &parts), wrong = 0;
    uint64_t polls = 0;
    for (int i = 0; i < count; i++) {
        polls += rows[i].omitted + 1;
        wrong += rows[i].sample.seq != (uint32_t)polls - 1;
        wrong += rows[i].sample.raw != ((polls - 1) / 100 % 2 ? 200000 : 100000);
        wrong += rows[i].omitted && rows[i].sample.raw != rows[i - 1].sample.raw;
    }
    CHECK_EQ(0, wrong);
    CHECK_EQ(PASSES, polls);
    CHECK(parts >= 4);
    CHECK(count >= 2 * CHANGES + 2 && count < 2 * CHANGES + 1000); /* the newest twice a second of real time */
    ps_spool_stats stats;
    CHECK_EQ(PS_OK, ps_spool_get_stats(spool, &stats));
    CHECK_EQ(count, stats.records);
    CHECK_EQ(PASSES - count, stats.omitted);
    CHECK_EQ(0, stats.discarded);
    ps_spool_free(spool);
    ps_sampler_free(sampler);
    remove_directory();
}

static void test_changes_only_sync_writes_the_newest_poll(void)
{
    make_directory();
    ps_lane_options paced = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 1000, .max_passes = 50};
    static const ps_script_step still = {.raw = 7};
    ps_sampler *sampler = script_sampler(script_source("fake", 1, &still, 1), &paced);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_spool_options options = {.drain_ms = 1, .keep = PS_KEEP_CHANGES};
    ps_spool *spool = start_spool(sampler, &options);
    script_wait_done(sampler);
    CHECK_EQ(PS_OK, ps_spool_sync(spool, 30));
    size_t size = 0, header = 0;
    char *bytes = read_file("part-000000.open", &size);
    REQUIRE(bytes != NULL);
    CHECK_EQ(1, sscanf(bytes, "{\"powersample_spool\":1,\"header_bytes\":%zu,", &header));
    ps_kept last;
    memcpy(&last, bytes + size - sizeof last, sizeof last);
    CHECK_EQ(49, last.sample.seq);
    free(bytes);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_OK, ps_spool_stop(spool, NULL));
    ps_spool_free(spool);
    ps_sampler_free(sampler);
    remove_directory();
}

static void test_full_disk_with_changes_only_accounts_for_every_poll(void)
{
    enum { PASSES = 50000, WHOLE = 100 };
    make_directory();
    signal(SIGXFSZ, SIG_IGN);
    struct rlimit before, limit;
    REQUIRE(getrlimit(RLIMIT_FSIZE, &before) == 0);
    limit = before;
    limit.rlim_cur = 8192 + WHOLE * sizeof(ps_kept) + 5;
    REQUIRE(setrlimit(RLIMIT_FSIZE, &limit) == 0);
    ps_lane_options options = {.mode = PS_MODE_VIRTUAL, .cpu = -1, .ring_records = 1024, .max_passes = PASSES};
    ps_sampler *sampler = script_sampler(wave(), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    ps_spool_options spool_options = {.drain_ms = 1, .keep = PS_KEEP_CHANGES};
    ps_spool *spool = start_spool(sampler, &spool_options);
    script_wait_done(sampler);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    CHECK_EQ(PS_E_FULL, ps_spool_stop(spool, NULL));
    REQUIRE(setrlimit(RLIMIT_FSIZE, &before) == 0);
    ps_spool_stats stats;
    CHECK_EQ(PS_OK, ps_spool_get_stats(spool, &stats));
    CHECK_EQ(WHOLE, stats.records);
    CHECK(stats.omitted > WHOLE && stats.discarded > 0);
    CHECK_EQ(PASSES, stats.records + stats.omitted + stats.discarded);
    ps_spool_free(spool);
    ps_sampler_free(sampler);
    remove_directory();
}

int main(void)
{
    test_changes_only_account_for_every_poll();
    test_changes_only_sync_writes_the_newest_poll();
    test_full_disk_with_changes_only_accounts_for_every_poll();
    return HARNESS_RESULT();
}
