/* SPDX-License-Identifier: Apache-2.0
 *
 * The nvml source: against the stand-in for what it reads and how it comes back, against small fakes for what
 * libraries lack and get wrong. Time is an argument of recover(), so no test waits for a back-off.
 */
#include "nvml_helpers.h"

enum { SECOND_NS = 1000000000 };

/* ---- against the stand-in ---- */

static void test_describe_stand_in_facts_and_simulated(test_node *node)
{
    ps_nvml *nvml = open_library(node->library);
    char driver[32], library[32];
    int32_t simulated = 0;
    uint32_t count = 0;
    CHECK_EQ(PS_OK, ps_nvml_versions(nvml, driver, sizeof driver, library, sizeof library, &simulated, NULL));
    CHECK_TEXT("550.54.15", driver);
    CHECK_TEXT("12.550.54.15", library);
    CHECK_EQ(1, simulated);
    CHECK_EQ(PS_OK, ps_nvml_count(nvml, &count, NULL));
    CHECK_EQ(2, count);
    ps_nvml_device device;
    CHECK_EQ(PS_OK, ps_nvml_describe(nvml, 1, &device, NULL));
    CHECK_TEXT("NVIDIA Test", device.name);
    CHECK_TEXT("GPU-SIM-1", device.uuid);
    CHECK_TEXT("00000000:18:00.0", device.pci_bus_id);
    CHECK_TEXT("hopper", device.architecture);
    CHECK_EQ(650000, device.power_limit_mw);
    CHECK_EQ(700000, device.power_limit_default_mw);
    CHECK_EQ(200000, device.power_limit_min_mw);
    CHECK_EQ(700000, device.power_limit_max_mw);
    CHECK_EQ(1, device.persistence);
    CHECK_EQ(0, device.mig);
    CHECK_EQ(2, device.compute_processes);
    ps_error error = {0};
    CHECK_EQ(PS_E_VENDOR, ps_nvml_describe(nvml, 2, &device, &error));
    CHECK_EQ(NV_INVALID_ARGUMENT, error.vendor);
    CHECK_TEXT("gpu2", error.text);
    CHECK_TEXT("Invalid Argument", error.text);
    CHECK_TEXT("nvmlDeviceGetHandleByIndex", error.call);
    ps_nvml_close(nvml);
}

static void test_read_constant_truth_exact_values(test_node *node)
{
    ps_nvml *nvml = open_library(node->library);
    ps_source *source = open_source(nvml, 0);
    ps_nvml_close(nvml); /* the source keeps the library */
    CHECK_EQ(NODE_POWER_MW, read_channel(source, "gpu0.power.instant", 0).raw);
    CHECK_EQ(NODE_POWER_MW + 1000, read_channel(source, "gpu0.power.average", 0).raw);
    CHECK_EQ(NODE_POWER_MW + 1000, read_channel(source, "gpu0.power.usage", 0).raw); /* Hopper: the average */
    int64_t before_ns = ps_clock_now_ns();
    int64_t mj = read_channel(source, "gpu0.energy", 0).raw;
    int64_t after_ns = ps_clock_now_ns();
    CHECK(mj >= (before_ns - NODE_PERIOD_NS - node->start_ns) / 1000 * (NODE_POWER_MW / 1000) / 1000 - 1);
    CHECK(mj <= (after_ns - node->start_ns) / 1000 * (NODE_POWER_MW / 1000) / 1000 + 1);
    CHECK_EQ(50, read_channel(source, "gpu0.utilization.gpu", 0).raw);
    CHECK_EQ(1980, read_channel(source, "gpu0.clock.sm", 0).raw);
    CHECK_EQ(2619, read_channel(source, "gpu0.clock.memory", 0).raw);
    CHECK_EQ(0, read_channel(source, "gpu0.pstate", 0).raw);
    CHECK_EQ(0, read_channel(source, "gpu0.throttle", 0).raw);
    CHECK_EQ(2, read_channel(source, "gpu0.processes", 0).raw);
    CHECK(read_channel(source, "gpu0.temperature", 0).raw >= 30);
    CHECK(!find(source, "gpu0.module.power.instant")); /* this board has none */
    const ps_channel *instant = find(source, "gpu0.power.instant"), *clock = find(source, "gpu0.clock.sm");
    CHECK(instant->group == find(source, "gpu0.power.average")->group);
    CHECK(instant->scale == 1e-3 && clock->scale == 1e6 && find(source, "gpu0.energy")->scale == 1e-3);
    CHECK_TEXT("GPU-SIM-0", instant->device);
    CHECK_TEXT("Hz", clock->unit);
    CHECK_EQ(PS_KIND_ENERGY, find(source, "gpu0.energy")->kind);
    CHECK(source->groups[instant->group].max_hz == 1000 && source->groups[clock->group].max_hz == 1);
    const ps_channel *usage = find(source, "gpu0.power.usage"); /* repeats the average: now and then is enough */
    CHECK(source->groups[usage->group].max_hz == 1);
    ps_source_free(source);
}

static void test_entry_error_is_that_channels_status_alone(test_node *node)
{
    ps_nvml *nvml = open_library(node->library);
    ps_source *source = open_source(nvml, 0);
    node_fault(node, PS_FN_FIELD_VALUES, 0, 186, NV_GPU_IS_LOST, 0);
    CHECK_EQ(NV_GPU_IS_LOST, read_channel(source, "gpu0.power.instant", 1).status);
    CHECK_EQ(0, read_channel(source, "gpu0.power.average", 1).status);
    /* Something answers: there is nothing to bring back. */
    CHECK_EQ(0, source->ops->recover(source, ps_clock_now_ns()));
    node_fault(node, 0, 0, 0, 0, 0);
    CHECK_EQ(0, read_channel(source, "gpu0.power.instant", 2).status);
    ps_source_free(source);
    ps_nvml_close(nvml);
}

static void test_lost_gpu_recorded_then_recovered_others_unharmed(test_node *node)
{
    ps_nvml *nvml = open_library(node->library);
    ps_source *lost = open_source(nvml, 0), *other = open_source(nvml, 1);
    ps_nvml_close(nvml);
    node_fault(node, PS_FN_ANY, 0, 0, NV_GPU_IS_LOST, 0);
    CHECK_EQ(lost->n_channels, read_all(lost, 1));
    CHECK_EQ(0, read_all(other, 1));
    int64_t now_ns = ps_clock_now_ns();
    CHECK_EQ(0, lost->ops->recover(lost, now_ns));
    node_fault(node, 0, 0, 0, 0, 0);
    CHECK_EQ(0, lost->ops->recover(lost, now_ns + SECOND_NS / 100)); /* back-off: not asked again so soon */
    CHECK_EQ(1, lost->ops->recover(lost, now_ns + SECOND_NS));
    CHECK_EQ(0, read_all(lost, 2));
    CHECK_EQ(0, lost->ops->recover(lost, now_ns + 2 * (int64_t)SECOND_NS));
    ps_source_free(lost);
    ps_source_free(other);
}

static void test_driver_reload_new_handle_and_counter_from_zero(test_node *node)
{
    ps_nvml *nvml = open_library(node->library);
    ps_source *sources[2] = {open_source(nvml, 0), open_source(nvml, 1)};
    ps_nvml_close(nvml);
    int64_t before_mj = read_channel(sources[0], "gpu0.energy", 0).raw;
    int64_t reload_ns = ps_clock_now_ns();
    CHECK_EQ(PS_OK, ps_node_reload(node->node, reload_ns));
    for (uint32_t i = 0; i < 2; i++) {
        CHECK_EQ(sources[i]->n_channels, read_all(sources[i], 1));
        CHECK_EQ(1, sources[i]->ops->recover(sources[i], ps_clock_now_ns()));
        CHECK_EQ(0, read_all(sources[i], 2));
    }
    int64_t after_mj = read_channel(sources[0], "gpu0.energy", 3).raw;
    CHECK(after_mj < before_mj);
    CHECK(after_mj <= (ps_clock_now_ns() - reload_ns) / 1000 * (NODE_POWER_MW / 1000) / 1000 + 1);
    ps_source_free(sources[0]);
    ps_source_free(sources[1]);
}

static void test_hanging_call_other_lane_goes_on(test_node *node)
{
    static const ps_lane_options fast = {
        .mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 500, .ring_records = 1 << 14};
    ps_nvml *nvml = open_library(node->library);
    ps_sampler *sampler;
    REQUIRE(ps_sampler_new(&sampler) == PS_OK);
    for (uint32_t i = 0; i < 2; i++)
        REQUIRE(ps_sampler_add(sampler, open_source(nvml, i), &fast, NULL, NULL) == PS_OK);
    ps_nvml_close(nvml);
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    node_fault(node, PS_FN_FIELD_VALUES, 0, 0, 0, 60 * (int64_t)SECOND_NS);
    ps_lane_stats hung, free_lane;
    uint64_t before = 0;
    /* Until lane 0 has stood still for 20 looks. */
    for (int i = 0, settled = 0; i < 10000 && settled < 20; i++) {
        REQUIRE(ps_sampler_stats(sampler, 0, &hung) == PS_OK);
        settled = hung.passes == before ? settled + 1 : 0;
        before = hung.passes;
        harness_sleep_ms(5);
    }
    REQUIRE(ps_sampler_stats(sampler, 1, &free_lane) == PS_OK);
    uint64_t passes = free_lane.passes;
    for (int i = 0; i < 10000 && free_lane.passes < passes + 20; i++) {
        harness_sleep_ms(1);
        REQUIRE(ps_sampler_stats(sampler, 1, &free_lane) == PS_OK);
    }
    CHECK(free_lane.passes >= passes + 20);
    CHECK_EQ(0, free_lane.n_errors);
    REQUIRE(ps_sampler_stats(sampler, 0, &hung) == PS_OK);
    CHECK_EQ(before, hung.passes);
    node_fault(node, 0, 0, 0, 0, 0); /* the call comes back */
    CHECK_EQ(PS_OK, ps_sampler_stop(sampler, 30));
    REQUIRE(ps_sampler_stats(sampler, 0, &hung) == PS_OK);
    CHECK(hung.skipped > 0);
    CHECK_EQ(hung.slots, hung.passes + hung.skipped);
    ps_sampler_free(sampler);
}

static void test_open_refused_by_driver_clear_error(test_node *node)
{
    ps_nvml *nvml = NULL;
    ps_error error = {0};
    node_fault(node, PS_FN_INIT, -1, 0, NV_DRIVER_NOT_LOADED, 0);
    CHECK_EQ(PS_E_VENDOR, ps_nvml_open(node->library, &nvml, &error));
    CHECK(!nvml);
    CHECK_EQ(NV_DRIVER_NOT_LOADED, error.vendor);
    CHECK_TEXT("nvmlInit_v2", error.call);
    CHECK_TEXT("Driver Not Loaded", error.text);
    CHECK_TEXT("libnvidia-ml.so.1", error.text);
    node_fault(node, 0, 0, 0, 0, 0);
}

/* ---- libraries that lack things or misbehave ---- */

static void test_open_missing_library_says_what_the_loader_says(void)
{
    ps_nvml *nvml = NULL;
    ps_error error = {0};
    CHECK_EQ(PS_E_NOT_FOUND, ps_nvml_open("/nowhere/libnvidia-ml.so.1", &nvml, &error));
    CHECK_TEXT("/nowhere/libnvidia-ml.so.1", error.text);
    CHECK_TEXT("dlopen", error.call);
    CHECK_EQ(PS_E_INVALID, ps_nvml_open("", &nvml, &error));
    ps_nvml_close(NULL);
}

/* The loader passes over it and says that there is no such file. */
static void test_open_library_of_another_machine_says_so(void)
{
    unsigned char head[64] = {0x7f, 'E', 'L', 'F', 2, 1, 1};
#if defined(__aarch64__)
    const char *theirs = "x86-64", *ours = "aarch64";
    head[18] = 62;
#else
    const char *theirs = "aarch64", *ours = "x86-64";
    head[18] = 183;
#endif
    char path[] = "/tmp/ps-other-machine-XXXXXX";
    int fd = mkstemp(path);
    REQUIRE(fd >= 0 && write(fd, head, sizeof head) == (ssize_t)sizeof head && close(fd) == 0);
    ps_nvml *nvml = NULL;
    ps_error error = {0};
    CHECK_EQ(PS_E_NOT_FOUND, ps_nvml_open(path, &nvml, &error));
    CHECK_TEXT(path, error.text);
    CHECK_TEXT(theirs, error.text);
    CHECK_TEXT(ours, error.text);
    REQUIRE(truncate(path, 7) == 0); /* too short to tell: the loader's own words */
    CHECK_EQ(PS_E_NOT_FOUND, ps_nvml_open(path, &nvml, &error));
    CHECK_TEXT(path, error.text);
    unlink(path);
}

static void test_open_library_without_power_call_unsupported(void)
{
    char path[512];
    ps_nvml *nvml = NULL;
    ps_error error = {0};
    fake_path(path, sizeof path, "nvml_bare");
    CHECK_EQ(PS_E_UNSUPPORTED, ps_nvml_open(path, &nvml, &error));
    CHECK_TEXT("nvmlDeviceGetPowerUsage", error.text);
}

static void test_old_library_power_usage_is_all_there_is(void)
{
    char path[512];
    fake_path(path, sizeof path, "nvml_old");
    ps_nvml *nvml = open_library(path);
    ps_source *source = open_source(nvml, 0);
    CHECK_EQ(1, source->n_channels);
    CHECK_EQ(43210, read_channel(source, "gpu0.power.usage", 0).raw);
    CHECK_TEXT("gpu0", source->channels[0].device); /* no UUID to be had */
    CHECK(source->groups[0].max_hz == 1000);
    ps_nvml_device device;
    CHECK_EQ(PS_OK, ps_nvml_describe(nvml, 0, &device, NULL));
    CHECK_EQ(0, device.power_limit_mw);
    CHECK_EQ(0, strcmp("0000:18:00.0", device.pci_bus_id));
    CHECK_EQ(-1, device.persistence);
    CHECK_EQ(-1, device.mig);
    CHECK_EQ(-1, device.compute_processes);
    ps_error error = {0};
    CHECK_EQ(PS_E_UNSUPPORTED, ps_nvml_versions(nvml, NULL, 0, NULL, 0, NULL, &error));
    CHECK_EQ(PS_E_VENDOR, ps_nvml_source_new(nvml, 3, &source, &error));
    CHECK_TEXT("gpu3", error.text);
    ps_source_free(source);
    ps_nvml_close(nvml);
}

static void test_field_value_read_by_its_type(void)
{
    static const struct {
        uint32_t type;
        int64_t raw;
    } rows[] = {{NV_TYPE_DOUBLE, 123456}, {NV_TYPE_U32, 123456}, {NV_TYPE_U16, 12345}, {NV_TYPE_S32, -5}};
    char path[512];
    fake_path(path, sizeof path, "nvml_new");
    fake_nvml_state *fake = fake_state(path);
    ps_nvml *nvml = open_library(path);
    ps_source *source = open_source(nvml, 0);
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        fake->value_type = rows[i].type;
        CHECK_EQ(0, read_channel(source, "gpu0.power.instant", i).status);
        CHECK_EQ(rows[i].raw, read_channel(source, "gpu0.power.instant", i).raw);
    }
    fake->value_type = 77;
    CHECK_EQ(PS_NVML_BAD_VALUE, read_channel(source, "gpu0.power.instant", 9).status);
    /* Field 83: no call of its own here. */
    CHECK_EQ(INT64_C(5000000000), read_channel(source, "gpu0.energy", 9).raw);
    CHECK_TEXT("nvml.field.83", find(source, "gpu0.energy")->sensor);
    ps_source_free(source);
    ps_nvml_close(nvml);
    CHECK_EQ(0, fake->inits);
}

static void test_untouched_entry_is_never_a_value(void)
{
    char path[512];
    fake_path(path, sizeof path, "nvml_new");
    fake_nvml_state *fake = fake_state(path);
    ps_nvml *nvml = open_library(path);
    ps_source *source = open_source(nvml, 0);
    CHECK_EQ(0, read_all(source, 1));
    fake->untouched = 1;
    CHECK_EQ(source->n_channels, read_all(source, 2));
    CHECK_EQ(PS_NVML_UNANSWERED, read_channel(source, "gpu0.power.average", 2).status);
    CHECK_EQ(0, source->ops->recover(source, ps_clock_now_ns()));
    ps_source *none = NULL;
    ps_error error = {0};
    CHECK_EQ(PS_E_UNSUPPORTED, ps_nvml_source_new(nvml, 0, &none, &error)); /* at opening: not offered */
    CHECK_TEXT("neither power nor energy", error.text);
    ps_source_free(source);
    ps_nvml_close(nvml);
}

static void test_field_absent_at_opening_not_offered_other_error_kept(void)
{
    char path[512];
    fake_path(path, sizeof path, "nvml_new");
    fake_nvml_state *fake = fake_state(path);
    ps_nvml *nvml = open_library(path);
    fake->field_code = NV_NOT_SUPPORTED;
    ps_source *without = open_source(nvml, 0);
    CHECK(!find(without, "gpu0.power.average"));
    fake->field_code = NV_NO_PERMISSION;
    ps_source *with = open_source(nvml, 0);
    CHECK_EQ(NV_NO_PERMISSION, read_channel(with, "gpu0.power.average", 1).status);
    ps_source_free(without);
    ps_source_free(with);
    ps_nvml_close(nvml);
}

static void test_field_call_refused_for_one_entry_others_offered(void)
{
    char path[512];
    fake_path(path, sizeof path, "nvml_new");
    fake_nvml_state *fake = fake_state(path);
    fake->no_module = 1;
    ps_nvml *nvml = open_library(path);
    ps_source *source = open_source(nvml, 0);
    CHECK_EQ(123456, read_channel(source, "gpu0.power.instant", 1).raw);
    CHECK_EQ(1000, read_channel(source, "gpu0.power.average", 1).raw);
    CHECK(find(source, "gpu0.power.instant")->group == find(source, "gpu0.power.average")->group);
    CHECK(!find(source, "gpu0.module.power.instant"));
    ps_source_free(source);
    ps_nvml_close(nvml);
}

/* Another part of the process shut the library down: ours comes back, and later shuts down nobody else. */
static void test_foreign_shutdown_initialised_again_and_balanced(void)
{
    char path[512];
    fake_path(path, sizeof path, "nvml_new");
    fake_nvml_state *fake = fake_state(path);
    ps_nvml *nvml = open_library(path);
    ps_source *source = open_source(nvml, 0);
    ps_nvml_close(nvml);
    fake->inits = 0;
    CHECK_EQ(source->n_channels, read_all(source, 1));
    CHECK_EQ(NV_UNINITIALIZED, read_channel(source, "gpu0.power.instant", 1).status);
    CHECK_EQ(1, source->ops->recover(source, ps_clock_now_ns()));
    CHECK_EQ(0, read_all(source, 2));
    fake->inits++; /* the other part, back again */
    ps_source_free(source);
    CHECK_EQ(1, fake->inits);
}

static void test_lost_device_retries_back_off_and_leave_no_init_behind(void)
{
    char path[512];
    fake_path(path, sizeof path, "nvml_new");
    fake_nvml_state *fake = fake_state(path);
    ps_nvml *nvml = open_library(path);
    ps_source *source = open_source(nvml, 0);
    fake->call_code = NV_UNKNOWN;
    int64_t start_ns = ps_clock_now_ns();
    for (uint64_t pass = 1; pass <= 4; pass++) { /* a few unknown errors are only that */
        read_all(source, pass);
        CHECK_EQ(0, source->ops->recover(source, start_ns));
    }
    fake->call_code = NV_OK;
    CHECK_EQ(0, read_all(source, 5)); /* a good pass, of which recover is not told, */
    fake->call_code = NV_UNKNOWN;
    for (uint64_t pass = 6; pass <= 9; pass++) { /* and they are not in a row */
        read_all(source, pass);
        CHECK_EQ(0, source->ops->recover(source, start_ns));
    }
    CHECK_EQ(1, fake->init_calls);
    fake->call_code = NV_GPU_IS_LOST;
    for (uint64_t pass = 10; pass < 610; pass++) { /* a minute, ten passes a second */
        read_all(source, pass);
        CHECK_EQ(0, source->ops->recover(source, start_ns + (int64_t)(pass - 10) * SECOND_NS / 10));
    }
    CHECK_EQ(1 + 8, fake->init_calls); /* the first, then after 0, 0.25, 0.5, 1, 2, 4, 8, 16 more seconds */
    CHECK_EQ(1, fake->inits);
    fake->call_code = NV_OK;
    CHECK_EQ(1, source->ops->recover(source, start_ns + 200 * (int64_t)SECOND_NS));
    CHECK_EQ(0, read_all(source, 700));
    ps_source_free(source);
    ps_nvml_close(nvml);
    CHECK_EQ(0, fake->inits);
}

int main(void)
{
    test_node node;
    node_build(&node, 2);
    test_describe_stand_in_facts_and_simulated(&node);
    test_read_constant_truth_exact_values(&node);
    test_entry_error_is_that_channels_status_alone(&node);
    test_lost_gpu_recorded_then_recovered_others_unharmed(&node);
    test_driver_reload_new_handle_and_counter_from_zero(&node);
    test_hanging_call_other_lane_goes_on(&node);
    test_open_refused_by_driver_clear_error(&node);
    node_remove(&node);
    test_open_missing_library_says_what_the_loader_says();
    test_open_library_of_another_machine_says_so();
    test_open_library_without_power_call_unsupported();
    test_old_library_power_usage_is_all_there_is();
    test_field_value_read_by_its_type();
    test_untouched_entry_is_never_a_value();
    test_field_absent_at_opening_not_offered_other_error_kept();
    test_field_call_refused_for_one_entry_others_offered();
    test_foreign_shutdown_initialised_again_and_balanced();
    test_lost_device_retries_back_off_and_leave_no_init_behind();
    return HARNESS_RESULT();
}
