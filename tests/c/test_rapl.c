/* SPDX-License-Identifier: Apache-2.0
 *
 * Both RAPL routes on folders made for the test. For perf's PMU "power" the folder names the kernel's software events,
 * so that opening and reading are real and only the joules are not.
 */
#include <errno.h>
#include <stdbool.h>

#include "core/source.h"
#include "harness.h"
#include "tree.h"

static void put_zone(const char *zone, const char *name, const char *energy, const char *range)
{
    put(name, "class/powercap/%s/name", zone);
    put(energy, "class/powercap/%s/energy_uj", zone);
    put(range, "class/powercap/%s/max_energy_range_uj", zone);
}

static void put_event(const char *event, const char *code, const char *unit)
{
    put(code, "bus/event_source/devices/power/events/%s", event);
    put("1.0e-9\n", "bus/event_source/devices/power/events/%s.scale", event);
    put(unit, "bus/event_source/devices/power/events/%s.unit", event);
}

static void put_pmu(const char *type, const char *cpumask)
{
    put(type, "bus/event_source/devices/power/type");
    put(cpumask, "bus/event_source/devices/power/cpumask");
    put("0\n", "devices/system/cpu/cpu0/topology/physical_package_id");
}

static const ps_channel *find(const ps_source *source, const char *name)
{
    for (uint32_t i = 0; i < source->n_channels; i++)
        if (strcmp(source->channels[i].name, name) == 0)
            return &source->channels[i];
    fprintf(stderr, "%s has no %s\n", source->name, name);
    exit(1);
}

static ps_reading read_group(ps_source *source, uint32_t group)
{
    ps_reading readings[PS_GROUP_MAX];
    CHECK_EQ(1, source->ops->read(source, group, 0, readings));
    return readings[0];
}

static ps_reading read_named(ps_source *source, const char *name)
{
    const ps_channel *channel = find(source, name);
    ps_reading reading = read_group(source, channel->group);
    CHECK_EQ(channel - source->channels, reading.channel);
    return reading;
}

static ps_source *open_package(uint32_t package, ps_rapl_opening *opening)
{
    ps_source *source = NULL;
    ps_error error = {0};
    if (ps_rapl_open(root, package, &source, opening, &error) != PS_OK) {
        fprintf(stderr, "package %u: %s: %s\n", package, error.call, error.text);
        exit(1);
    }
    return source;
}

static void test_powercap_zones_of_two_packages(void)
{
    begin();
    put_zone("intel-rapl:0", "package-0\n", "1000\n", "262143328850\n");
    put_zone("intel-rapl:0:0", "core\n", "200\n", "262143328850\n");
    put_zone("intel-rapl:0:1", "dram\n", "300\n", "65712999613\n");
    put_zone("intel-rapl:1", "package-1\n", "262143328850\n", "262143328850\n");
    put_zone("intel-rapl:1:0", "uncore\n", "500\n\n\n\n", "nonsense\n");
    put_zone("intel-rapl:2", "psys\n", "600\n", "262143328850\n");
    put_zone("intel-rapl:3", "package-0\n", "1000\n", "262143328850\n");      /* the same once more */
    put_zone("intel-rapl-mmio:0", "package-0\n", "1000\n", "262143328850\n"); /* and by another interface */
    put("1\n", "devices/system/cpu/cpu2/topology/physical_package_id");
    put("1\n", "devices/system/cpu/cpu10/topology/physical_package_id");

    uint32_t packages[4], count;
    CHECK_EQ(PS_OK, ps_rapl_packages(root, packages, 4, &count, NULL));
    CHECK_EQ(2, count);
    CHECK(packages[0] == 0 && packages[1] == 1);

    ps_rapl_opening opening;
    ps_source *first = open_package(0, &opening);
    CHECK_EQ(PS_RAPL_POWERCAP, opening.route);
    CHECK_EQ(-1, opening.cpu);
    CHECK_EQ(0, opening.moved); /* these files stand still */
    CHECK_EQ(PS_E_NOT_FOUND, opening.refused[PS_RAPL_PERF].status);
    CHECK_EQ(4, first->n_channels);
    CHECK_EQ(1000, read_named(first, "package-0.energy").raw);
    CHECK_EQ(200, read_named(first, "package-0.core.energy").raw);
    CHECK_EQ(300, read_named(first, "package-0.dram.energy").raw);
    CHECK_EQ(600, read_named(first, "psys.energy").raw);
    const ps_channel *dram = find(first, "package-0.dram.energy");
    CHECK_EQ(INT64_C(65712999613), dram->modulus);
    CHECK(dram->scale == 1e-6 && dram->kind == PS_KIND_ENERGY);
    CHECK_TEXT("package-0", dram->device);
    CHECK_TEXT("dram", dram->domain);
    CHECK_TEXT("powercap.intel-rapl:0:1", dram->sensor);
    CHECK_TEXT("psys", find(first, "psys.energy")->device);

    ps_source *second = open_package(1, &opening);
    CHECK_EQ(2, opening.cpu);
    CHECK_EQ(2, second->n_channels);
    CHECK_EQ(INT64_C(262143328850), read_named(second, "package-1.energy").raw);
    CHECK_EQ(500, read_named(second, "package-1.uncore.energy").raw);
    CHECK_EQ(0, find(second, "package-1.uncore.energy")->modulus);
    ps_source_free(first);
    ps_source_free(second);

    ps_error error;
    ps_source *none = NULL;
    CHECK_EQ(PS_E_NOT_FOUND, ps_rapl_open(root, 7, &none, &opening, &error));
    CHECK_TEXT("package-7", error.text);
    end();
}

static void test_powercap_dies_are_apart(void)
{
    begin();
    put_zone("intel-rapl:0", "package-0-die-0\n", "1\n", "1000\n");
    put_zone("intel-rapl:1", "package-0-die-1\n", "2\n", "1000\n");
    put_zone("intel-rapl:1:0", "dram\n", "3\n", "1000\n");
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    CHECK_EQ(1, read_named(source, "package-0-die-0.energy").raw);
    CHECK_EQ(2, read_named(source, "package-0-die-1.energy").raw);
    CHECK_EQ(3, read_named(source, "package-0-die-1.dram.energy").raw);
    ps_source_free(source);
    end();
}

static void test_powercap_text_that_is_no_number_is_a_status(void)
{
    static const struct {
        const char *text;
        int status;
        int64_t raw;
    } rows[] = {
        {"42\n", 0, 42},      {"0000000042\n", 0, 42}, {"7", 0, 7},
        {"\n", EBADMSG, 0},    {"-5\n", EBADMSG, 0},     {"12x\n", EBADMSG, 0},
        {"0x10\n", EBADMSG, 0}, {"1 2\n", EBADMSG, 0},   {"99999999999999999999\n", EBADMSG, 0},
        {"", ENODATA, 0},      {"9223372036854775790\n", 0, INT64_C(9223372036854775790)},
    };
    begin();
    put_zone("intel-rapl:0", "package-0\n", "1\n", "1000\n");
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put(rows[i].text, "class/powercap/intel-rapl:0/energy_uj");
        ps_reading got = read_group(source, 0);
        CHECK_EQ(rows[i].status, got.status);
        CHECK_EQ(rows[i].raw, got.raw);
    }
    ps_source_free(source);

    put("soon\n", "class/powercap/intel-rapl:0/energy_uj");
    ps_error error;
    CHECK_EQ(PS_E_FORMAT, ps_rapl_open(root, 0, &source, &opening, &error));
    CHECK_TEXT("intel-rapl:0/energy_uj", error.text);
    CHECK_EQ(EBADMSG, error.vendor);
    end();
}

static void test_powercap_file_that_vanished_comes_back_with_back_off(void)
{
    const int64_t ms = 1000000, now = INT64_C(1000) * ms;
    char path[PATH_MAX], away[PATH_MAX];
    begin();
    put_zone("intel-rapl:0", "package-0\n", "10\n", "1000\n");
    put_zone("intel-rapl:0:0", "dram\n", "20\n", "1000\n");
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    put("", "class/powercap/intel-rapl:0/energy_uj");
    snprintf(path, sizeof path, "%s/class/powercap/intel-rapl:0/energy_uj", root);
    snprintf(away, sizeof away, "%s/away", root);
    REQUIRE(rename(path, away) == 0);
    CHECK_EQ(ENODATA, read_named(source, "package-0.energy").status);
    CHECK_EQ(0, source->ops->recover(source, now));
    CHECK_EQ(ENOENT, read_named(source, "package-0.energy").status);
    CHECK_EQ(20, read_named(source, "package-0.dram.energy").raw); /* the others go on */

    put("30\n", "class/powercap/intel-rapl:0/energy_uj");
    CHECK_EQ(0, source->ops->recover(source, now + 200 * ms)); /* too soon */
    CHECK_EQ(ENOENT, read_named(source, "package-0.energy").status);
    CHECK_EQ(1, source->ops->recover(source, now + 250 * ms));
    CHECK_EQ(30, read_named(source, "package-0.energy").raw);

    /* Away for long: tried less and less often, and at least every 30 s. */
    put("", "class/powercap/intel-rapl:0:0/energy_uj");
    CHECK_EQ(ENODATA, read_named(source, "package-0.dram.energy").status);
    int64_t at = now + 1000 * ms;
    for (int i = 0; i < 12; i++, at += 30000 * ms)
        CHECK_EQ(0, source->ops->recover(source, at));
    put("50\n", "class/powercap/intel-rapl:0:0/energy_uj");
    CHECK_EQ(0, source->ops->recover(source, at - 1 * ms));
    CHECK_EQ(1, source->ops->recover(source, at));
    CHECK_EQ(50, read_named(source, "package-0.dram.energy").raw);
    ps_source_free(source);
    end();
}

static void test_powercap_closed_to_this_user_says_so(void)
{
    char path[PATH_MAX];
    begin();
    put_zone("intel-rapl:0", "package-0\n", "10\n", "1000\n");
    snprintf(path, sizeof path, "%s/class/powercap/intel-rapl:0/energy_uj", root);
    bool is_root = geteuid() == 0;
    REQUIRE(chmod(path, is_root ? 0400 : 0) == 0);
    REQUIRE(!is_root || seteuid(65534) == 0);
    ps_source *source = NULL;
    ps_rapl_opening opening;
    ps_error error;
    CHECK_EQ(PS_E_ACCESS, ps_rapl_open(root, 0, &source, &opening, &error));
    REQUIRE(!is_root || seteuid(0) == 0);
    CHECK_EQ(EACCES, error.vendor);
    CHECK_TEXT("energy_uj", error.text);
    CHECK_EQ(PS_E_ACCESS, opening.refused[PS_RAPL_POWERCAP].status);
    CHECK_EQ(PS_E_NOT_FOUND, opening.refused[PS_RAPL_PERF].status);
    end();
}

static void test_nothing_there_says_what_was_looked_for(void)
{
    begin();
    uint32_t count = 0;
    ps_error error;
    CHECK_EQ(PS_E_NOT_FOUND, ps_rapl_packages(root, NULL, 0, &count, &error));
    CHECK_TEXT("class/powercap", error.text);
    CHECK_EQ(PS_E_INVALID, ps_rapl_packages(root, NULL, 0, NULL, &error));
    CHECK_EQ(PS_E_INVALID, ps_rapl_open(root, 0, NULL, NULL, &error));
    end();
}

static void test_perf_one_call_reads_all_domains(void)
{
    begin();
    put_pmu("1\n", "0\n"); /* software events: 0 is the CPU's clock in ns, 3 its context switches, 9 never moves */
    put_event("energy-pkg", "event=0x00\n", "Joules\n");
    put_event("energy-ram", "event=0x03\n", "Joules\n");
    put_event("energy-psys", "event=0x9\n", "Joules\n");
    put_event("energy-gpu", "event=0x02\n", "Watts\n"); /* no energy */
    put_event("energy-cores", "event=0x01,umask=1\n", "Joules\n"); /* more than is understood here */
    put_zone("intel-rapl:0", "package-0\n", "10\n", "1000\n"); /* must not be counted, too */
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    if (opening.route != PS_RAPL_PERF && opening.refused[PS_RAPL_PERF].vendor == EACCES) {
        printf("perf_event_open is closed to this user: reading not tested\n");
        goto out;
    }
    CHECK_EQ(PS_RAPL_PERF, opening.route);
    CHECK_EQ(0, opening.cpu);
    CHECK_EQ(1, opening.moved);
    CHECK_EQ(3, source->n_channels);
    CHECK_EQ(1, source->n_groups);
    const ps_channel *package = find(source, "package-0.energy");
    CHECK(package->scale == 1e-9 && package->modulus == 0);
    CHECK_TEXT("perf.power.energy-pkg", package->sensor);
    CHECK_TEXT("dram", find(source, "package-0.dram.energy")->domain);

    ps_reading before[PS_GROUP_MAX], after[PS_GROUP_MAX];
    CHECK_EQ(3, source->ops->read(source, 0, 0, before));
    harness_sleep_ms(20);
    CHECK_EQ(3, source->ops->read(source, 0, 1, after));
    for (int i = 0; i < 3; i++) {
        CHECK_EQ(i, after[i].channel);
        CHECK_EQ(0, after[i].status);
    }
    int64_t gained = after[0].raw - before[0].raw;
    CHECK(gained >= 20 * 1000000 && gained < INT64_C(60000000000));
    CHECK_EQ(0, after[find(source, "psys.energy") - source->channels].raw); /* there, and still */
out:
    ps_source_free(source);
    end();
}

static void test_perf_without_package_energy_gives_way_to_powercap(void)
{
    begin();
    put_pmu("1\n", "0\n");
    put_event("energy-psys", "event=0x9\n", "Joules\n");
    ps_rapl_opening opening;
    ps_source *source = NULL;
    if (ps_rapl_open(root, 0, &source, &opening, NULL) == PS_OK) {
        CHECK_EQ(PS_RAPL_PERF, opening.route); /* better than nothing */
        CHECK_EQ(PS_E_NOT_FOUND, opening.refused[PS_RAPL_POWERCAP].status);
        ps_source_free(source);
    }
    put_zone("intel-rapl:0", "package-0\n", "10\n", "1000\n");
    source = open_package(0, &opening);
    CHECK_EQ(PS_RAPL_POWERCAP, opening.route);
    CHECK(opening.refused[PS_RAPL_PERF].status != PS_OK);
    ps_source_free(source);
    end();
}

static void test_perf_that_the_kernel_refuses_keeps_its_reason(void)
{
    begin();
    put_pmu("4000000000\n", "0-1,3\n");
    put_event("energy-pkg", "event=0x02\n", "Joules\n");
    put_zone("intel-rapl:0", "package-0\n", "10\n", "1000\n");
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    CHECK_EQ(PS_RAPL_POWERCAP, opening.route);
    CHECK_TEXT("perf_event_open", opening.refused[PS_RAPL_PERF].call);
    CHECK_TEXT("energy-pkg", opening.refused[PS_RAPL_PERF].text);
    CHECK(opening.refused[PS_RAPL_PERF].vendor != 0);
    ps_source_free(source);
    end();
}

int main(void)
{
    test_powercap_zones_of_two_packages();
    test_powercap_dies_are_apart();
    test_powercap_text_that_is_no_number_is_a_status();
    test_powercap_file_that_vanished_comes_back_with_back_off();
    test_powercap_closed_to_this_user_says_so();
    test_nothing_there_says_what_was_looked_for();
    test_perf_one_call_reads_all_domains();
    test_perf_without_package_energy_gives_way_to_powercap();
    test_perf_that_the_kernel_refuses_keeps_its_reason();
    return HARNESS_RESULT();
}
