/* SPDX-License-Identifier: Apache-2.0
 *
 * The scripted source says exactly what its table says: other tests take it for the truth.
 */
#include "core/source.h"
#include "script.h"

static ps_reading read_at(ps_source *source, uint32_t group, uint64_t pass)
{
    ps_reading reading;
    CHECK_EQ(1, source->ops->read(source, group, pass, &reading));
    CHECK_EQ(group, reading.channel);
    return reading;
}

static void test_steps_hold_ramp_and_fail_as_written(void)
{
    static const ps_script_step steps[] = {
        /* out of order on purpose */
        {.pass = 10, .channel = 1, .raw = 7},
        {.pass = 0, .channel = 0, .raw = 100},
        {.pass = 5, .channel = 0, .raw = 200, .raw_step = -3},
        {.pass = 0, .channel = 1, .raw = 1},
        {.pass = 8, .channel = 0, .status = 15},
    };
    ps_source *source = script_source("fake", 2, steps, 5);
    CHECK_EQ(100, read_at(source, 0, 0).raw);
    CHECK_EQ(100, read_at(source, 0, 4).raw);
    CHECK_EQ(200, read_at(source, 0, 5).raw);
    CHECK_EQ(194, read_at(source, 0, 7).raw);
    CHECK_EQ(0, read_at(source, 0, 7).status);
    CHECK_EQ(15, read_at(source, 0, 1000).status);
    CHECK_EQ(1, read_at(source, 1, 9).raw);
    CHECK_EQ(7, read_at(source, 1, 10).raw);
    CHECK_EQ(100, read_at(source, 0, 1).raw); /* and back */
    ps_source_free(source);
}

static void test_repeat_and_modulus_wrap(void)
{
    ps_script script = {.channels = 1, .kind = PS_KIND_ENERGY, .raw_modulus = 100, .repeat_passes = 50, .scale = 1,
                        .max_hz = 10};
    ps_script_step steps[] = {{.raw = 90, .raw_step = 4}, {.pass = 40, .raw = -1}};
    ps_source *source;
    REQUIRE(ps_source_scripted_new("counter", &script, steps, 2, &source, NULL) == PS_OK);
    CHECK_EQ(98, read_at(source, 0, 2).raw);
    CHECK_EQ(2, read_at(source, 0, 3).raw);
    CHECK_EQ(99, read_at(source, 0, 49).raw);
    CHECK_EQ(90, read_at(source, 0, 50).raw);
    CHECK_EQ(98, read_at(source, 0, 5002).raw);
    ps_source_free(source);
}

static void test_stall_blocks_at_least_as_long(void)
{
    static const int64_t stalls_ns[] = {50000, 2000000}; /* spun, slept */
    for (int i = 0; i < 2; i++) {
        ps_script_step step = {.stall_ns = stalls_ns[i]};
        ps_source *source = script_source("slow", 1, &step, 1);
        int64_t before = ps_clock_now_ns();
        read_at(source, 0, 0);
        CHECK(ps_clock_now_ns() - before >= stalls_ns[i]);
        ps_source_free(source);
    }
}

static void test_channels_described(void)
{
    ps_script_step steps[] = {{.channel = 0}, {.channel = 1}, {.channel = 2}};
    ps_source *source = script_source("fake", 3, steps, 3);
    ps_channel channels[2];
    uint32_t count = 0;
    CHECK_EQ(PS_OK, ps_source_channels(source, channels, 2, &count));
    CHECK_EQ(3, count);
    CHECK_TEXT("fake.power1", channels[1].name);
    CHECK_TEXT("W", channels[1].unit);
    CHECK_EQ(PS_KIND_POWER, channels[1].kind);
    CHECK_EQ(1, channels[1].group);
    CHECK_EQ(PS_E_INVALID, ps_source_channels(NULL, channels, 2, &count));
    ps_source_free(source);
    ps_source_free(NULL);
}

static void test_bad_scripts_refused_with_reason(void)
{
    const ps_script good = {.channels = 2, .kind = PS_KIND_POWER, .scale = 1, .max_hz = 1000};
    const ps_script_step table[] = {{.channel = 0}, {.channel = 1}};
    static const struct {
        const char *text, *device;
        ps_script script;
        ps_script_step second;
    } bad[] = {
        {"device", "", {.channels = 2, .kind = 1, .scale = 1, .max_hz = 1}, {.channel = 1}},
        {"channels", "d", {.channels = 0, .kind = 1, .scale = 1, .max_hz = 1}, {.channel = 1}},
        {"channels", "d", {.channels = 65, .kind = 1, .scale = 1, .max_hz = 1}, {.channel = 1}},
        {"kind", "d", {.channels = 2, .kind = 4, .scale = 1, .max_hz = 1}, {.channel = 1}},
        {"max_hz", "d", {.channels = 2, .kind = 1, .scale = 1, .max_hz = 0}, {.channel = 1}},
        {"modulus", "d", {.channels = 1, .kind = 1, .scale = 1, .max_hz = 1, .raw_modulus = UINT64_MAX}, {.pass = 1}},
        {"channel 2 of 2", "d", {.channels = 2, .kind = 1, .scale = 1, .max_hz = 1}, {.channel = 2}},
        {"no step at pass 0", "d", {.channels = 2, .kind = 1, .scale = 1, .max_hz = 1}, {.channel = 1, .pass = 1}},
        {"no step at pass 0", "d", {.channels = 2, .kind = 1, .scale = 1, .max_hz = 1}, {.channel = 0, .pass = 1}},
        {"two steps", "d", {.channels = 1, .kind = 1, .scale = 1, .max_hz = 1}, {.channel = 0}},
        {"beyond", "d", {.channels = 1, .kind = 1, .scale = 1, .max_hz = 1, .repeat_passes = 5}, {.pass = 5}},
    };
    ps_source *source = NULL;
    ps_error error;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ps_script_step steps[] = {{.channel = 0}, bad[i].second};
        memset(&error, 0, sizeof error);
        CHECK_EQ(PS_E_INVALID, ps_source_scripted_new(bad[i].device, &bad[i].script, steps, 2, &source, &error));
        CHECK_TEXT(bad[i].text, error.text);
        CHECK(source == NULL);
    }
    CHECK_EQ(PS_E_INVALID, ps_source_scripted_new("d", &good, table, 0, &source, &error));
    CHECK_EQ(PS_E_INVALID, ps_source_scripted_new(NULL, &good, table, 2, &source, NULL));
}

int main(void)
{
    test_steps_hold_ramp_and_fail_as_written();
    test_repeat_and_modulus_wrap();
    test_stall_blocks_at_least_as_long();
    test_channels_described();
    test_bad_scripts_refused_with_reason();
    return HARNESS_RESULT();
}
