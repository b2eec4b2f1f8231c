/* SPDX-License-Identifier: Apache-2.0
 *
 * What a load asks of the machine it runs on: caches, memory, cores, temperature and frequency, all of a folder.
 */
#include <math.h>
#include <sched.h>

#include "load/cpus.h"
#include "load/kernel.h"
#include "powersample.h"
#include "tree.h"

enum { MOST = 8192 };

static void put_cache(int cpu, int index, const char *type, const char *size, const char *shared)
{
    put(type, "devices/system/cpu/cpu%d/cache/index%d/type", cpu, index);
    put(size, "devices/system/cpu/cpu%d/cache/index%d/size", cpu, index);
    put(shared, "devices/system/cpu/cpu%d/cache/index%d/shared_cpu_list", cpu, index);
}

/* Two CPUs share the last level, a third has one for itself; instructions' caches count for nothing. */
static void test_arrays_are_four_times_a_thread_s_share_of_the_caches(void)
{
    begin();
    const char *const self[] = {"0\n", "1\n", "2\n"}, *const shared[] = {"0-1\n", "0-1\n", "2,9-12\n"};
    for (int cpu = 0; cpu < 3; cpu++) {
        put_cache(cpu, 0, "Data\n", "32K\n", self[cpu]);
        put_cache(cpu, 1, "Instruction\n", "1000K\n", self[cpu]);
        put_cache(cpu, 2, "Unified\n", "1024K\n", shared[cpu]);
    }
    const int32_t cpus[] = {0, 1, 2};
    uint64_t bytes[3];
    ps_stream_sizes(root, cpus, 3, bytes);
    CHECK_EQ(4 * (32 + 512) * 1024, bytes[0]);
    CHECK_EQ(4 * (32 + 512) * 1024, bytes[1]);
    CHECK_EQ(4 * (32 + 1024) * 1024, bytes[2]);
    ps_stream_sizes(root, NULL, 1, bytes); /* free to go anywhere: all of a cache may be its own */
    CHECK_EQ(4 * (32 + 1024) * 1024, bytes[0]);
    ps_stream_sizes("/nonexistent", NULL, 1, bytes);
    CHECK_EQ(4 * INT64_C(64 << 20), bytes[0]);
    end();
}

static void test_arrays_beyond_half_of_the_memory_are_refused(void)
{
    begin();
    put_cache(0, 0, "Unified\n", "99999999999K\n", "0\n");
    const int64_t edges[] = {0, 1000 * 1000};
    const ps_load_options options = {
        .kernel = PS_LOAD_STREAM, .threads = 1, .edge_ns = edges, .edges = 2, .sysfs = root};
    ps_load *load = NULL;
    ps_error error;
    CHECK_EQ(PS_E_NOMEM, ps_load_new(&options, &load, &error));
    CHECK_TEXT("fewer threads", error.text);
    end();
}

static void test_memory_available_is_the_machine_s_or_the_container_s(void)
{
    begin();
    put("MemTotal: 9 kB\nMemAvailable:     1000 kB\n", "meminfo");
    CHECK_EQ(1000 * 1024, ps_memory_available(root, root));
    put("4096\n", "memory.max");
    put("1096\n", "memory.current");
    CHECK_EQ(3000, ps_memory_available(root, root));
    put("5000\n", "memory.current");
    CHECK_EQ(0, ps_memory_available(root, root));
    put("max\n", "memory.max");
    CHECK_EQ(1000 * 1024, ps_memory_available(root, root));
    CHECK(ps_memory_available("/nonexistent", "/nonexistent") == UINT64_MAX);
    end();
}

static void test_lists_of_cpus(void)
{
    CHECK(load_in_list("0", 0) && load_in_list("0-3", 3) && load_in_list("0,4-5,9\n", 9) && load_in_list("1,4-5", 4));
    CHECK(!load_in_list("", 0) && !load_in_list("1-3", 0) && !load_in_list("0,2", 1) && !load_in_list("x", 0));
}

static void test_cpus_come_one_thread_of_each_core_first(void)
{
    cpu_set_t sets[8];
    int32_t cpus[MOST], first = -1, second = -1;
    REQUIRE(sched_getaffinity(0, sizeof sets, sets) == 0);
    for (int32_t cpu = 0; cpu < MOST && second < 0; cpu++)
        if (CPU_ISSET_S((size_t)cpu, sizeof sets, sets)) {
            second = first < 0 ? -1 : cpu;
            first = first < 0 ? cpu : first;
        }
    CHECK_EQ(CPU_COUNT_S(sizeof sets, sets), ps_load_cpus("/nonexistent", cpus, MOST)); /* nothing is known of cores */
    CHECK_EQ(first, cpus[0]);
    if (second < 0)
        return; /* one CPU has no order */
    begin();
    char list[64];
    snprintf(list, sizeof list, "%d,%d\n", first, second);
    put(list, "devices/system/cpu/cpu%d/topology/thread_siblings_list", first);
    put(list, "devices/system/cpu/cpu%d/topology/thread_siblings_list", second);
    const uint32_t count = ps_load_cpus(root, cpus, MOST);
    CHECK_EQ(first, cpus[0]);
    CHECK_EQ(second, cpus[count - 1]); /* behind every other core's first */
    CHECK_EQ(1, ps_load_second_threads(root, cpus, count));
    CHECK_EQ(0, ps_load_second_threads(root, &first, 1));
    int32_t only[1] = {-7};
    CHECK_EQ(count, ps_load_cpus(root, only, 1)); /* room for one: the count tells of the others */
    CHECK_EQ(first, only[0]);
    end();
}

static void put_chip(int number, const char *name)
{
    put(name, "class/hwmon/hwmon%d/name", number);
}

static ps_heat_reading read_once(const ps_heat *heat)
{
    ps_heat_reading reading;
    ps_heat_read(heat, &reading);
    return reading;
}

/* A core's own temperature, a drive's, and Tdie do not count beside the package's and Tctl. */
static void test_temperature_is_the_warmest_package_s(void)
{
    begin();
    put_chip(0, "nvme\n");
    put("90000\n", "class/hwmon/hwmon0/temp1_input");
    put_chip(1, "coretemp\n");
    put("Package id 0\n", "class/hwmon/hwmon1/temp1_label");
    put("55000\n", "class/hwmon/hwmon1/temp1_input");
    put("Core 0\n", "class/hwmon/hwmon1/temp2_label");
    put("88000\n", "class/hwmon/hwmon1/temp2_input");
    put_chip(2, "coretemp\n");
    put("Package id 1\n", "class/hwmon/hwmon2/temp1_label");
    put("61500\n", "class/hwmon/hwmon2/temp1_input");
    const int32_t cpus[] = {0, 1, -1};
    put("2000000\n", "devices/system/cpu/cpu0/cpufreq/scaling_cur_freq");
    put("3000000\n", "devices/system/cpu/cpu1/cpufreq/scaling_cur_freq");
    ps_heat *heat = NULL;
    REQUIRE(ps_heat_open(root, cpus, 3, &heat) == PS_OK);
    ps_heat_reading reading = read_once(heat);
    CHECK(reading.t_ns > 0);
    CHECK(reading.temperature_c == 61.5);
    CHECK(reading.hz == 2.5e9);
    put("70000\n", "class/hwmon/hwmon1/temp1_input"); /* files stay open and are read anew */
    CHECK(read_once(heat).temperature_c == 70);
    put("", "class/hwmon/hwmon2/temp1_input");
    CHECK(read_once(heat).temperature_c == 70);
    put("hot\n", "class/hwmon/hwmon1/temp1_input"); /* no number is no temperature */
    CHECK(isnan(read_once(heat).temperature_c));
    ps_heat_close(heat);
    end();
}

static void test_temperature_of_amd_is_tctl_and_of_an_unlabelled_chip_all_of_it(void)
{
    begin();
    put_chip(0, "k10temp\n");
    put("Tdie\n", "class/hwmon/hwmon0/temp2_label");
    put("80000\n", "class/hwmon/hwmon0/temp2_input");
    put("Tctl\n", "class/hwmon/hwmon0/temp1_label");
    put("50000\n", "class/hwmon/hwmon0/temp1_input");
    ps_heat *heat = NULL;
    REQUIRE(ps_heat_open(root, NULL, 0, &heat) == PS_OK);
    CHECK(read_once(heat).temperature_c == 50);
    CHECK(isnan(read_once(heat).hz));
    ps_heat_close(heat);
    put_chip(1, "cpu_thermal\n");
    put("66000\n", "class/hwmon/hwmon1/temp1_input");
    REQUIRE(ps_heat_open(root, NULL, 0, &heat) == PS_OK);
    CHECK(read_once(heat).temperature_c == 66);
    ps_heat_close(heat);
    end();
}

static void test_machine_without_sensors_has_no_temperature(void)
{
    const int32_t cpus[] = {0};
    ps_heat *heat = NULL;
    REQUIRE(ps_heat_open("/nonexistent", cpus, 1, &heat) == PS_OK);
    CHECK(isnan(read_once(heat).temperature_c));
    CHECK(isnan(read_once(heat).hz));
    ps_heat_close(heat);
    ps_heat_close(NULL);
}

int main(void)
{
    test_arrays_are_four_times_a_thread_s_share_of_the_caches();
    test_arrays_beyond_half_of_the_memory_are_refused();
    test_memory_available_is_the_machine_s_or_the_container_s();
    test_lists_of_cpus();
    test_cpus_come_one_thread_of_each_core_first();
    test_temperature_is_the_warmest_package_s();
    test_temperature_of_amd_is_tctl_and_of_an_unlabelled_chip_all_of_it();
    test_machine_without_sensors_has_no_temperature();
    return HARNESS_RESULT();
}
