/* SPDX-License-Identifier: Apache-2.0
 *
 * What is left out said nothing: between two rows lie exactly as many polls as the second one says, all with the
 * value of both and at the channel's own spacing.
 */
#include <stdbool.h>
#include <string.h>

#include "core/keep.h"
#include "script.h"

enum { PERIOD_NS = 1000 * 1000, CHANNELS = 3, POLLS = 30000, ROWS = 2 * CHANNELS * POLLS };

static ps_sample polls[CHANNELS * POLLS];
static ps_kept rows[ROWS];
static uint32_t n_polls, n_rows;

static uint64_t state = 1;

static uint32_t chance(uint32_t n)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % n;
}

/* A sampler that has been planned; its own records are not looked at. */
static ps_sampler *planned(int32_t mode)
{
    ps_script_step steps[CHANNELS] = {0};
    for (uint32_t i = 0; i < CHANNELS; i++)
        steps[i].channel = i;
    ps_lane_options options = {.mode = mode, .cpu = -1, .max_passes = 1};
    if (mode != PS_MODE_TIGHT)
        options.rate_hz = 1e9 / PERIOD_NS;
    ps_sampler *sampler = script_sampler(script_source("fake", CHANNELS, steps, CHANNELS), &options);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    script_wait_done(sampler);
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    return sampler;
}

/* Polls of a lane with waves of several lengths, errors, skipped slots, dropped records and late wake-ups. */
static void make_polls(void)
{
    uint32_t seq = UINT32_MAX - 100; /* it comes around */
    int64_t slot = 10;
    n_polls = 0;
    for (uint32_t pass = 0; pass < POLLS; pass++) {
        slot += chance(200) ? 1 : 1 + (int64_t)chance(8);
        for (uint16_t channel = 0; channel < CHANNELS; channel++, seq++) {
            if (!chance(400))
                continue; /* dropped */
            static const uint32_t lengths[CHANNELS] = {1, 40, 100000};
            ps_sample *poll = &polls[n_polls++];
            int64_t t0_ns = slot * PERIOD_NS + chance(10) * 10000 + channel * 20000;
            bool bad = chance(50) == 0 || (pass / 100) % 17 == 3;
            *poll = (ps_sample){.t0_ns = t0_ns, .t1_ns = t0_ns + 5000 + chance(5000), .seq = seq, .channel = channel,
                                .raw = (int64_t)(pass / lengths[channel] % 2), .status = bad ? 7 : 0};
            if (bad)
                poll->raw = chance(1000); /* undefined */
        }
    }
}

static bool same(const ps_sample *one, const ps_sample *other)
{
    return one->status == other->status && (one->status || one->raw == other->raw);
}

static int64_t middle_ns(const ps_sample *sample)
{
    return sample->t0_ns + (sample->t1_ns - sample->t0_ns) / 2;
}

/* Goes along polls and rows of a channel. strict: no spacing beyond 1.5 of the grid may lie beside what is left out. */
static uint64_t check_channel(uint16_t channel, bool strict)
{
    uint64_t omitted = 0;
    uint32_t at = 0, wrong = 0;
    const ps_sample *before = NULL;
    for (uint32_t i = 0; i < n_rows; i++) {
        const ps_kept *row = &rows[i];
        if (row->sample.channel != channel)
            continue;
        for (uint32_t left = row->omitted + 1; left; at++) {
            REQUIRE(at < n_polls);
            if (polls[at].channel != channel)
                continue;
            left--;
            wrong += left && !same(&polls[at], &row->sample);
            if (row->omitted && before) {
                wrong += !same(&polls[at], before);
                wrong += strict && middle_ns(&polls[at]) - middle_ns(before) > PERIOD_NS + PERIOD_NS / 2;
            }
            wrong += left == 0 && memcmp(&polls[at], &row->sample, sizeof polls[at]) != 0;
            before = &polls[at];
        }
        omitted += row->omitted;
    }
    while (at < n_polls)
        wrong += polls[at++].channel == channel;
    CHECK_EQ(0, wrong);
    return omitted;
}

static void run(ps_sampler *sampler, uint32_t part_every)
{
    ps_keep *keep;
    REQUIRE(ps_keep_new(sampler, &keep) == PS_OK);
    n_rows = 0;
    for (uint32_t at = 0, batch = 0; at < n_polls; batch++) {
        uint32_t count = 1 + chance(300);
        count = count < n_polls - at ? count : n_polls - at;
        n_rows += ps_keep_take(keep, 0, polls + at, count, rows + n_rows);
        at += count;
        if (batch % part_every == part_every - 1) {
            n_rows += ps_keep_newest(keep, rows + n_rows);
            CHECK_EQ(0, ps_keep_newest(keep, rows + n_rows));
            uint32_t first = n_rows;
            ps_keep_part(keep);
            n_rows += ps_keep_take(keep, 0, polls + at, n_polls - at < 20 ? n_polls - at : 20, rows + n_rows);
            at += n_polls - at < 20 ? n_polls - at : 20;
            bool seen[CHANNELS] = {false};
            for (uint32_t i = first; i < n_rows; i++) {
                if (!seen[rows[i].sample.channel])
                    CHECK_EQ(0, rows[i].omitted); /* a part needs nothing of the one before it */
                seen[rows[i].sample.channel] = true;
            }
        }
    }
    n_rows += ps_keep_newest(keep, rows + n_rows);
    ps_keep_free(keep);
}

static void test_what_is_left_out_said_nothing(void)
{
    make_polls();
    ps_sampler *sampler = planned(PS_MODE_VIRTUAL);
    run(sampler, 7);
    for (uint16_t channel = 0; channel < CHANNELS; channel++)
        CHECK(check_channel(channel, true) > 0 || channel == 0);
    ps_sampler_free(sampler);
}

static void test_lane_without_a_grid_keeps_its_stalls(void)
{
    make_polls();
    ps_sampler *sampler = planned(PS_MODE_TIGHT);
    run(sampler, UINT32_MAX);
    for (uint16_t channel = 0; channel < CHANNELS; channel++) {
        uint64_t omitted = check_channel(channel, true);
        CHECK(channel != 2 || omitted > n_polls / CHANNELS / 2);
    }
    ps_sampler_free(sampler);
}

static void test_value_that_does_not_move_is_two_rows(void)
{
    ps_sampler *sampler = planned(PS_MODE_VIRTUAL);
    for (n_polls = 0; n_polls < POLLS; n_polls++)
        polls[n_polls] = (ps_sample){.t0_ns = n_polls * (int64_t)PERIOD_NS, .t1_ns = n_polls * (int64_t)PERIOD_NS,
                                     .raw = 42, .seq = n_polls};
    run(sampler, UINT32_MAX);
    CHECK_EQ(2, n_rows);
    CHECK_EQ(POLLS - 2, rows[1].omitted);
    CHECK_EQ(POLLS - 2, check_channel(0, true));
    ps_sampler_free(sampler);
}

static void test_dropped_record_is_seen_on_both_sides(void)
{
    ps_sampler *sampler = planned(PS_MODE_VIRTUAL);
    for (n_polls = 0; n_polls < 10; n_polls++)
        polls[n_polls] = (ps_sample){.t0_ns = n_polls * (int64_t)PERIOD_NS, .t1_ns = n_polls * (int64_t)PERIOD_NS,
                                     .raw = 42, .seq = n_polls + (n_polls >= 5)};
    run(sampler, UINT32_MAX);
    CHECK_EQ(4, n_rows);
    CHECK_EQ(4, rows[1].sample.seq);
    CHECK_EQ(6, rows[2].sample.seq);
    CHECK_EQ(0, rows[2].omitted);
    ps_sampler_free(sampler);
}

int main(void)
{
    CHECK_EQ(40, sizeof(ps_kept));
    test_what_is_left_out_said_nothing();
    test_lane_without_a_grid_keeps_its_stalls();
    test_value_that_does_not_move_is_two_rows();
    test_dropped_record_is_seen_on_both_sides();
    return HARNESS_RESULT();
}
