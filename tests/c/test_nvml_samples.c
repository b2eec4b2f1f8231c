/* SPDX-License-Identifier: Apache-2.0
 *
 * What the driver samples and stamps by itself: stamps on our clock, every sample once and none twice, and no channel
 * where the driver's ring or its stamps do not live.
 */
#include "core/clock.h"
#include "nvml_helpers.h"
#include "sources/nvml_source.h"

#define S_NS INT64_C(1000000000)

/* ---- stamps on our clock ---- */

static void test_clock_places_stamps_by_the_anchors_offset(void)
{
    nvml_clock clock = {0};
    int64_t at_ns = 0;
    const int64_t wall_ns = INT64_C(1700000000) * S_NS;
    CHECK(!nvml_clock_anchor(&clock, wall_ns, 50 * S_NS)); /* the first has nothing before it */
    CHECK(nvml_clock_place(&clock, (uint64_t)(wall_ns - S_NS) / 1000, 50 * S_NS, &at_ns));
    CHECK_EQ(49 * S_NS, at_ns);
    CHECK(!nvml_clock_place(&clock, (uint64_t)(wall_ns - S_NS) / 1000, 50 * S_NS, &at_ns)); /* again */
    CHECK(!nvml_clock_place(&clock, (uint64_t)(wall_ns - 2 * S_NS) / 1000, 50 * S_NS, &at_ns)); /* before it */
    CHECK(!nvml_clock_place(&clock, (uint64_t)(wall_ns + S_NS) / 1000, 50 * S_NS, &at_ns)); /* to come */
    CHECK(!nvml_clock_place(&clock, UINT64_MAX, 50 * S_NS, &at_ns));
    CHECK(nvml_clock_place(&clock, (uint64_t)(wall_ns + 500000) / 1000, 50 * S_NS, &at_ns)); /* half a ms: now */
    CHECK_EQ(50 * S_NS, at_ns);
}

static void test_clock_tells_a_step_from_the_anchors_own_error(void)
{
    nvml_clock clock = {0};
    const int64_t wall_ns = INT64_C(1700000000) * S_NS;
    (void)nvml_clock_anchor(&clock, wall_ns, 50 * S_NS);
    CHECK(!nvml_clock_anchor(&clock, wall_ns + S_NS + 200000, 51 * S_NS)); /* 0.2 ms: an interruption */
    CHECK(nvml_clock_anchor(&clock, wall_ns + 2 * S_NS - 3600 * S_NS, 52 * S_NS));
    CHECK(!nvml_clock_anchor(&clock, wall_ns + 3 * S_NS - 3600 * S_NS, 53 * S_NS));
    CHECK(nvml_clock_anchor(&clock, wall_ns + 4 * S_NS, 54 * S_NS));
}

/* ---- the ring of the stand-in ---- */

enum { PERIOD_NS = 1000000, MANY = 4096 };

static ps_sensor samples_sensor(void)
{
    return (ps_sensor){.kind = PS_SENSOR_GAUGE, .seed = 1, .period_ns = PERIOD_NS, .gain = 1, .quantum = 1,
                       .offset_mw = 2000, .noise_mw = 500};
}

static int64_t nearest_us(const int64_t *sorted, uint64_t n, int64_t at_ns)
{
    int64_t best = INT64_MAX;
    for (uint64_t i = 0; i < n; i++) {
        int64_t apart = sorted[i] - at_ns < 0 ? at_ns - sorted[i] : sorted[i] - at_ns;
        best = apart < best ? apart : best;
    }
    return best / 1000;
}

/* Through a lane: every publication between the first and the last record is there, once, at its instant. */
static void test_samples_by_lane_are_the_sensors_publications(test_node *node)
{
    static const ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 200};
    static ps_sample records[1 << 16], mine[MANY];
    static int64_t published_ns[MANY];
    node->node->gpu[0].sensor[PS_NS_SAMPLES] = samples_sensor();
    ps_nvml *nvml = open_library(node->library);
    ps_source *source = open_source(nvml, 0);
    ps_nvml_close(nvml);
    const ps_channel *channel = find(source, "gpu0.power.driver");
    REQUIRE(channel);
    CHECK_EQ(PS_STAMP_INSTANT, channel->stamp);
    CHECK_EQ(PS_KIND_POWER, channel->kind);
    CHECK_TEXT("nvml.samples", channel->sensor);
    CHECK_TEXT("W", channel->unit);
    CHECK(source->note[0] == 0);
    const double hz = source->groups[channel->group].max_hz;
    CHECK(hz > 24 && hz < 27); /* three times while 119 samples of 1 ms come in */
    const uint16_t id = (uint16_t)(channel - source->channels);
    ps_sampler *sampler;
    REQUIRE(ps_sampler_new(&sampler) == PS_OK);
    REQUIRE(ps_sampler_add(sampler, source, &options, NULL, NULL) == PS_OK);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    uint32_t n = 0, taken = 0;
    for (int i = 0; i < 200 && n < 400; i++) {
        harness_sleep_ms(10);
        REQUIRE(ps_sampler_drain(sampler, 0, records, sizeof records / sizeof records[0], &taken) == PS_OK);
        for (uint32_t j = 0; j < taken && n < MANY; j++)
            if (records[j].channel == id)
                mine[n++] = records[j];
    }
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    ps_sampler_free(sampler);
    REQUIRE(n >= 400);
    uint64_t there = 0;
    const ps_sensor *sensor = &node->node->gpu[0].sensor[PS_NS_SAMPLES];
    REQUIRE(ps_sensor_publications(sensor, mine[0].t0_ns - PERIOD_NS / 2, mine[n - 1].t0_ns + PERIOD_NS / 2,
                                   published_ns, MANY, &there) == PS_OK);
    char path[160];
    snprintf(path, sizeof path, "%s/gpu0.truth", node->folder);
    ps_truth *truth;
    REQUIRE(ps_truth_open(path, &truth) == PS_OK);
    int wrong = 0;
    uint64_t missing = there - n; /* a busy machine may read too late: then they are gone, and seen to be */
    for (uint32_t i = 0; i < n; i++) {
        int64_t value = 0;
        wrong += mine[i].t0_ns != mine[i].t1_ns || mine[i].status != 0;
        wrong += i && mine[i].t0_ns <= mine[i - 1].t0_ns;
        wrong += nearest_us(published_ns, there, mine[i].t0_ns) > 100;
        REQUIRE(ps_sensor_read(sensor, truth, mine[i].t0_ns + PERIOD_NS / 2, NULL, &value, NULL, NULL) == PS_OK);
        wrong += mine[i].raw != value;
    }
    CHECK_EQ(0, wrong);
    CHECK(there >= n && missing <= there / 2);
    ps_truth_close(truth);
    node->node->gpu[0].sensor[PS_NS_SAMPLES].kind = PS_SENSOR_ABSENT;
}

static void test_samples_of_a_lost_gpu_and_after_a_reload(test_node *node)
{
    node->node->gpu[0].sensor[PS_NS_SAMPLES] = samples_sensor();
    ps_nvml *nvml = open_library(node->library);
    ps_source *source = open_source(nvml, 0);
    ps_nvml_close(nvml);
    node_fault(node, PS_FN_ANY, 0, 0, NV_GPU_IS_LOST, 0);
    ps_reading out[PS_GROUP_MAX];
    const uint32_t group = find(source, "gpu0.power.driver")->group;
    const int64_t before_ns = ps_clock_now_ns();
    CHECK_EQ(1 | PS_READ_STAMPED, source->ops->read(source, group, 1, out));
    CHECK_EQ(NV_GPU_IS_LOST, out[0].status);
    CHECK(source->stamps_ns[0] >= before_ns && source->stamps_ns[0] <= ps_clock_now_ns());
    node_fault(node, 0, 0, 0, 0, 0);
    REQUIRE(ps_node_reload(node->node, ps_clock_now_ns()) == PS_OK);
    CHECK_EQ(source->n_channels, read_all(source, 2));
    CHECK_EQ(1, source->ops->recover(source, ps_clock_now_ns() + S_NS));
    harness_sleep_ms(5);
    CHECK_EQ(0, read_all(source, 3));
    ps_source_free(source);
    node->node->gpu[0].sensor[PS_NS_SAMPLES].kind = PS_SENSOR_ABSENT;
}

/* ---- timestamps of fields ---- */

static void test_field_stamp_is_kept_where_it_tells_something(test_node *node)
{
    static const int32_t kinds[] = {PS_NODE_STAMP_CALL, PS_NODE_STAMP_ZERO, PS_NODE_STAMP_UPDATE};
    ps_sensor *instant = &node->node->gpu[0].sensor[PS_NS_INSTANT];
    const ps_sensor before = *instant;
    instant->period_ns = 40 * PERIOD_NS;
    for (size_t i = 0; i < 3; i++) {
        node->node->gpu[0].field_stamps = kinds[i];
        ps_nvml *nvml = open_library(node->library);
        ps_source *source = open_source(nvml, 0);
        ps_nvml_close(nvml);
        const ps_channel *stamp = find(source, "gpu0.power.instant.stamp");
        CHECK((stamp != NULL) == (kinds[i] == PS_NODE_STAMP_UPDATE));
        if (stamp) {
            CHECK_EQ(PS_KIND_AUX, stamp->kind);
            CHECK_TEXT("s", stamp->unit);
            CHECK(stamp->scale == 1e-6);
            CHECK_EQ(find(source, "gpu0.power.instant")->group, stamp->group); /* no call of its own */
            const int64_t now_us = ps_clock_read(CLOCK_REALTIME) / 1000;
            const ps_reading reading = read_channel(source, stamp->name, 1);
            CHECK_EQ(0, reading.status);
            CHECK(reading.raw > now_us - 45000 && reading.raw < now_us + 5000000);
            CHECK_EQ(NODE_POWER_MW, read_channel(source, "gpu0.power.instant", 1).raw);
        }
        ps_source_free(source);
    }
    node->node->gpu[0].field_stamps = PS_NODE_STAMP_CALL;
    *instant = before;
}

/* ---- rings of other kinds ---- */

static ps_source *fake_source(fake_nvml_state **fake, int32_t samples, uint32_t in_ring)
{
    static char path[512];
    fake_path(path, sizeof path, "nvml_new");
    *fake = fake_state(path);
    (*fake)->samples = samples;
    (*fake)->samples_in_ring = in_ring;
    (*fake)->samples_us = ps_clock_read(CLOCK_REALTIME) / 1000;
    ps_nvml *nvml = open_library(path);
    ps_source *source = open_source(nvml, 0);
    ps_nvml_close(nvml);
    return source;
}

static void test_ring_that_does_not_live_is_no_channel_and_says_why(void)
{
    static const struct {
        int32_t samples;
        const char *why;
    } rows[] = {{FAKE_SAMPLES_UNSUPPORTED, "nvmlDeviceGetSamples says"},
                {FAKE_SAMPLES_ONE, "fewer than two samples"},
                {FAKE_SAMPLES_STILL, "nothing new within 150 ms"},
                {FAKE_SAMPLES_FOREIGN, "not this machine's"}};
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fake_nvml_state *fake;
        ps_source *source = fake_source(&fake, rows[i].samples, 0);
        CHECK(!find(source, "gpu0.power.driver"));
        CHECK(find(source, "gpu0.power.instant"));
        CHECK_TEXT("no power.driver", source->note);
        CHECK_TEXT(rows[i].why, source->note);
        ps_source_free(source);
    }
}

static uint32_t read_ring(ps_source *source, ps_reading *out)
{
    uint32_t n = source->ops->read(source, find(source, "gpu0.power.driver")->group, 1, out);
    return n & ~PS_READ_STAMPED;
}

/* More than one read may give: the rest comes with the next, and nothing is lost. */
static void check_ring_comes_whole(int32_t samples)
{
    fake_nvml_state *fake;
    ps_source *source = fake_source(&fake, samples, 1000);
    CHECK(source->groups[find(source, "gpu0.power.driver")->group].max_hz > 3 / 0.15);
    ps_reading out[PS_GROUP_MAX];
    while (read_ring(source, out)) /* what came while it was opened */
        ;
    const int64_t from_ns = ((nvml_source *)source)->clock.newest_ns;
    harness_sleep_ms(300);
    int64_t before_ns = from_ns, before_value = -1;
    uint32_t n, total = 0, wrong = 0, reads = 0;
    for (; (n = read_ring(source, out)) && reads < 10; reads++)
        for (uint32_t i = 0; i < n; i++, total++) {
            const int64_t step_ns = source->stamps_ns[i] - before_ns;
            wrong += out[i].status != 0 || step_ns < 900000 || step_ns > 1100000;
            wrong += before_value >= 0 && (out[i].raw - before_value + 1000000) % 1000000 != 1;
            before_ns = source->stamps_ns[i];
            before_value = out[i].raw;
        }
    CHECK_EQ(0, wrong);
    CHECK(total >= 300 && reads >= 3);
    ps_source_free(source);
}

static void test_ring_larger_than_a_read_comes_whole(void)
{
    check_ring_comes_whole(FAKE_SAMPLES_ALIVE);
}

static void test_ring_out_of_order_with_empty_places_comes_in_order(void)
{
    check_ring_comes_whole(FAKE_SAMPLES_RAW);
}

static void test_wall_clock_set_reported_once_and_times_go_on_forward(void)
{
    static const int64_t steps_ns[] = {3600 * S_NS, -3600 * S_NS};
    for (size_t i = 0; i < 2; i++) {
        fake_nvml_state *fake;
        ps_source *source = fake_source(&fake, FAKE_SAMPLES_ALIVE, 0);
        nvml_source *self = (nvml_source *)source;
        ps_reading out[PS_GROUP_MAX];
        CHECK(read_ring(source, out) > 0);
        /* The clock cannot be set here; that the anchor before was of another offset is the same. */
        self->clock.offset_ns += steps_ns[i];
        const int64_t newest_ns = self->clock.newest_ns;
        CHECK_EQ(1, read_ring(source, out));
        CHECK_EQ(PS_NVML_CLOCK_SET, out[0].status);
        const int64_t told_ns = source->stamps_ns[0];
        CHECK(told_ns >= newest_ns);
        harness_sleep_ms(20);
        uint32_t n = read_ring(source, out), wrong = 0;
        CHECK(n >= 15);
        for (uint32_t j = 0; j < n; j++)
            wrong += out[j].status != 0 || source->stamps_ns[j] <= told_ns || source->stamps_ns[j] > ps_clock_now_ns();
        CHECK_EQ(0, wrong);
        ps_source_free(source);
    }
}

/* Its own clock went somewhere else: nothing newer comes by the last stamp, so after a while everything is asked for. */
static void test_drivers_clock_astray_said_so_after_silence(void)
{
    fake_nvml_state *fake;
    ps_source *source = fake_source(&fake, FAKE_SAMPLES_ALIVE, 0);
    nvml_source *self = (nvml_source *)source;
    ps_reading out[PS_GROUP_MAX];
    CHECK(read_ring(source, out) > 0);
    fake->samples = FAKE_SAMPLES_FOREIGN;
    CHECK_EQ(0, read_ring(source, out)); /* it may be early */
    self->clock.newest_ns -= 4 * S_NS;
    CHECK_EQ(1, read_ring(source, out));
    CHECK_EQ(PS_NVML_BAD_STAMP, out[0].status);
    fake->samples = FAKE_SAMPLES_ALIVE;
    CHECK(read_ring(source, out) > 0);
    CHECK_EQ(0, out[0].status);
    ps_source_free(source);
}

int main(void)
{
    test_node node;
    test_clock_places_stamps_by_the_anchors_offset();
    test_clock_tells_a_step_from_the_anchors_own_error();
    node_build(&node, 1);
    test_samples_by_lane_are_the_sensors_publications(&node);
    test_samples_of_a_lost_gpu_and_after_a_reload(&node);
    test_field_stamp_is_kept_where_it_tells_something(&node);
    node_remove(&node);
    test_ring_that_does_not_live_is_no_channel_and_says_why();
    test_ring_larger_than_a_read_comes_whole();
    test_ring_out_of_order_with_empty_places_comes_in_order();
    test_wall_clock_set_reported_once_and_times_go_on_forward();
    test_drivers_clock_astray_said_so_after_silence();
    return HARNESS_RESULT();
}
