/* SPDX-License-Identifier: Apache-2.0
 *
 * RAPL by perf and powercap on folders made for the test. For perf's PMU "power" the folder names the kernel's software events,
 * so that opening and reading are real and only the joules are not.
 */
#include <errno.h>
#include <sched.h>
#include <sys/wait.h>

#include "rapl_tree.h"

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
    CHECK_EQ(PS_OK, ps_rapl_packages(root, NULL, packages, 4, &count, NULL));
    CHECK_EQ(2, count);
    CHECK(packages[0] == 0 && packages[1] == 1);

    ps_rapl_opening opening;
    ps_source *first = open_package(0, &opening);
    CHECK_EQ(PS_RAPL_POWERCAP, opening.route[PS_RAPL_PACKAGE]);
    CHECK_EQ(-1, opening.cpu);
    CHECK_EQ(0, opening.moved); /* these files stand still */
    CHECK_EQ(PS_E_NOT_FOUND, opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].status);
    CHECK_EQ(4, first->n_channels);
    CHECK_EQ(1000, read_named(first, "package-0.energy").raw);
    CHECK_EQ(200, read_named(first, "package-0.core.energy").raw);
    CHECK_EQ(300, read_named(first, "package-0.dram.energy").raw);
    CHECK_EQ(600, read_named(first, "psys.energy").raw);
    const ps_channel *dram = find(first, "package-0.dram.energy");
    CHECK_EQ(INT64_C(65712999628), dram->modulus); /* a count of 15.3 uJ above its range */
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
    CHECK_EQ(PS_E_NOT_FOUND, ps_rapl_open(root, NULL, 7, &none, &opening, &error));
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
    CHECK_EQ(PS_E_FORMAT, ps_rapl_open(root, NULL, 0, &source, &opening, &error));
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
    CHECK_EQ(PS_E_ACCESS, ps_rapl_open(root, NULL, 0, &source, &opening, &error));
    REQUIRE(!is_root || seteuid(0) == 0);
    CHECK_EQ(EACCES, error.vendor);
    CHECK_TEXT("energy_uj", error.text);
    CHECK_EQ(PS_E_ACCESS, opening.refused[PS_RAPL_PACKAGE][PS_RAPL_POWERCAP].status);
    CHECK_EQ(PS_E_NOT_FOUND, opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].status);
    end();
}

static void test_nothing_there_says_what_was_looked_for(void)
{
    begin();
    uint32_t count = 0;
    ps_error error;
    CHECK_EQ(PS_E_NOT_FOUND, ps_rapl_packages(root, NULL, NULL, 0, &count, &error));
    CHECK_TEXT("class/powercap", error.text);
    CHECK_EQ(PS_E_INVALID, ps_rapl_packages(root, NULL, NULL, 0, NULL, &error));
    CHECK_EQ(PS_E_INVALID, ps_rapl_open(root, NULL, 0, NULL, NULL, &error));
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
    if (perf_is_closed(opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].vendor)) {
        printf("perf_event_open is closed to this user: reading not tested\n");
        goto out;
    }
    CHECK_EQ(PS_RAPL_PERF, opening.route[PS_RAPL_PACKAGE]);
    CHECK_EQ(0, opening.cpu);
    CHECK_EQ(3, source->n_channels);
    CHECK(opening.moved & 1);        /* the package's, in the order of the channels */
    CHECK(!(opening.moved & 1 << 2)); /* the platform's stands still */
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

/* The list of CPUs is longer than most of what sysfs says, and there are more than sixty-four zones. */
static void test_machine_of_forty_packages_is_seen_whole(void)
{
    enum { PACKAGES = 40, CPUS_A_PACKAGE = 28 };
    begin();
    char mask[PACKAGES * 6] = "", zone[40], name[24];
    for (unsigned package = 0; package < PACKAGES; package++) {
        const int cpu = (int)package * CPUS_A_PACKAGE;
        snprintf(mask + strlen(mask), sizeof mask - strlen(mask), "%s%d", package ? "," : "", cpu);
        put_topology(cpu, "physical_package_id", package);
        snprintf(zone, sizeof zone, "intel-rapl:%u", package);
        snprintf(name, sizeof name, "package-%u\n", package);
        put_zone(zone, name, "1\n", "262143328850\n");
        snprintf(zone, sizeof zone, "intel-rapl:%u:0", package);
        put_zone(zone, "dram\n", "2\n", "262143328850\n");
    }
    uint32_t packages[64], count;
    ps_rapl_opening opening;
    CHECK_EQ(PS_OK, ps_rapl_packages(root, NULL, packages, 64, &count, NULL)); /* powercap alone */
    CHECK_EQ(PACKAGES, count);
    ps_source *last = open_package(PACKAGES - 1, &opening);
    CHECK_EQ(2, last->n_channels);
    ps_source_free(last);

    put("1\n", "bus/event_source/devices/power/type");
    put(mask, "bus/event_source/devices/power/cpumask");
    put_event("energy-pkg", "event=0x02\n", "Joules\n");
    last = open_package(PACKAGES - 1, &opening); /* the kernel refuses an event on a CPU that is not there: it was asked */
    CHECK_TEXT("CPU 1092", opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].text);
    ps_source_free(last);
    end();
}

/* Of a package's CPUs a job may have none but the last. */
static void confined_to_one_cpu(void)
{
    cpu_set_t allowed, last;
    REQUIRE(sched_getaffinity(0, sizeof allowed, &allowed) == 0);
    int cpu = CPU_SETSIZE - 1;
    while (!CPU_ISSET((size_t)cpu, &allowed))
        cpu--;
    CPU_ZERO(&last);
    CPU_SET((size_t)cpu, &last);
    REQUIRE(sched_setaffinity(0, sizeof last, &last) == 0);
    begin();
    put_zone("intel-rapl:0", "package-0\n", "1\n", "262143328850\n");
    put_zone("intel-rapl:1", "package-1\n", "1\n", "262143328850\n");
    for (int one = 0; one < cpu + 3; one++)
        put_topology(one, "physical_package_id", one > cpu);
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    CHECK_EQ(cpu, opening.cpu);
    ps_source_free(source);
    source = open_package(1, &opening); /* it has none of that package: told is what would be cheapest */
    CHECK_EQ(cpu + 1, opening.cpu);
    ps_source_free(source);
    end();
}

static void test_cpu_to_read_from_is_one_that_may_be_used(void)
{
    pid_t child = fork();
    REQUIRE(child >= 0);
    if (child == 0) {
        confined_to_one_cpu();
        exit(HARNESS_RESULT());
    }
    int status = -1;
    REQUIRE(waitpid(child, &status, 0) == child);
    CHECK_EQ(0, status);
}

static void test_each_domain_by_the_first_route_that_has_it(void)
{
    begin();
    put_pmu("1\n", "0\n");
    put_event("energy-psys", "event=0x9\n", "Joules\n");
    put_event("energy-ram", "event=0x00\n", "Joules\n");
    put_zone("intel-rapl:0", "package-0\n", "10\n", "1000\n");
    put_zone("intel-rapl:0:0", "core\n", "5\n", "1000\n");
    put_zone("intel-rapl:0:1", "dram\n", "7\n", "1000\n"); /* perf has it */
    put_zone("intel-rapl:1", "psys\n", "9\n", "1000\n");   /* and this */
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    if (opening.route[PS_RAPL_DRAM] != PS_RAPL_PERF) {
        CHECK(perf_is_closed(opening.refused[PS_RAPL_DRAM][PS_RAPL_PERF].vendor));
        CHECK_EQ(7, read_named(source, "package-0.dram.energy").raw);
        goto out;
    }
    CHECK_EQ(PS_RAPL_PERF, opening.route[PS_RAPL_PSYS]);
    CHECK_EQ(PS_RAPL_POWERCAP, opening.route[PS_RAPL_PACKAGE]);
    CHECK_EQ(PS_RAPL_POWERCAP, opening.route[PS_RAPL_CORE]);
    CHECK_EQ(-1, opening.route[PS_RAPL_UNCORE]);
    CHECK_TEXT("no event energy-pkg", opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].text);
    CHECK_TEXT("energy-gpu", opening.refused[PS_RAPL_UNCORE][PS_RAPL_PERF].text);
    CHECK_TEXT("no zone uncore", opening.refused[PS_RAPL_UNCORE][PS_RAPL_POWERCAP].text);
    CHECK_TEXT("devfs", opening.refused[PS_RAPL_UNCORE][PS_RAPL_MSR].text);
    CHECK_EQ(PS_OK, opening.refused[PS_RAPL_DRAM][PS_RAPL_POWERCAP].status); /* not asked any more */
    CHECK_EQ(4, source->n_channels);
    CHECK_EQ(3, source->n_groups); /* perf's one call and two files */
    CHECK_EQ(10, read_named(source, "package-0.energy").raw);
    CHECK_EQ(5, read_named(source, "package-0.core.energy").raw);
    ps_reading both[PS_GROUP_MAX];
    CHECK_EQ(2, source->ops->read(source, find(source, "psys.energy")->group, 0, both));
    CHECK_EQ(find(source, "package-0.dram.energy") - source->channels, both[0].channel);
    CHECK(both[0].raw > 0);
    CHECK_EQ(find(source, "psys.energy") - source->channels, both[1].channel);
    CHECK_EQ(0, opening.cpu);

    /* A part that breaks is mended through the whole. */
    put("", "class/powercap/intel-rapl:0:0/energy_uj");
    CHECK_EQ(ENODATA, read_named(source, "package-0.core.energy").status);
    put("6\n", "class/powercap/intel-rapl:0:0/energy_uj");
    CHECK_EQ(1, source->ops->recover(source, 1));
    CHECK_EQ(6, read_named(source, "package-0.core.energy").raw);
out:
    ps_source_free(source);
    end();
}

static void test_domain_that_one_die_refuses_goes_to_the_next_route_for_all(void)
{
    begin();
    put_zone("intel-rapl:0", "package-0-die-0\n", "1\n", "1000\n");
    put_zone("intel-rapl:0:0", "dram\n", "2\n", "1000\n");
    put_zone("intel-rapl:1", "package-0-die-1\n", "3\n", "1000\n");
    put_zone("intel-rapl:1:0", "dram\n", "none\n", "1000\n");
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    CHECK_EQ(2, source->n_channels);
    CHECK_EQ(3, read_named(source, "package-0-die-1.energy").raw);
    CHECK_EQ(-1, opening.route[PS_RAPL_DRAM]);
    CHECK_TEXT("intel-rapl:1:0/energy_uj", opening.refused[PS_RAPL_DRAM][PS_RAPL_POWERCAP].text);
    ps_source_free(source);
    end();
}

/* On AMD the driver shows one core's counter as the zone core, and kernels that call a part of the package a die show
 * the package's counter once for each. */
static void test_amd_package_is_counted_once_and_one_core_is_not_all(void)
{
    begin();
    put_processor(RAPL_AMD, 0x19, 0x11);
    put_zone("intel-rapl:0", "package-0-die-0\n", "70\n", "65532610987\n");
    put_zone("intel-rapl:0:0", "core\n", "2\n", "65532610987\n");
    put_zone("intel-rapl:1", "package-0-die-1\n", "70\n", "65532610987\n");
    put_pmu("4000000000\n", "0,1\n");
    put_event("energy-pkg", "event=0x02\n", "Joules\n");
    put_cpu(1, 0, 1, 0);
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    CHECK_EQ(1, source->n_channels);
    CHECK_EQ(70, read_named(source, "package-0.energy").raw);
    CHECK_TEXT("one core", opening.refused[PS_RAPL_CORE][PS_RAPL_POWERCAP].text);
    ps_source_free(source);

    put("1\n", "bus/event_source/devices/power/type");
    source = open_package(0, &opening);
    if (opening.route[PS_RAPL_PACKAGE] == PS_RAPL_PERF) {
        CHECK_EQ(1, source->n_channels);
        CHECK_EQ(0, read_named(source, "package-0.energy").status);
    }
    ps_source_free(source);
    end();
}

static void test_names_that_are_no_zone_are_passed_over(void)
{
    static const char *const names[] = {"package-\n", "package-0x\n", "package-0-die-\n", "package-0-die-1-\n",
                                        "", "psyss\n", "\xff\xfe\n"};
    begin();
    put_zone("intel-rapl:0", "package-0\n", "1\n", "1000\n");
    put_zone("intel-rapl:0:0", "drams\n", "2\n", "1000\n");
    put_zone("intel-rapl:x", "package-5\n", "3\n", "1000\n");
    for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
        char zone[32];
        snprintf(zone, sizeof zone, "intel-rapl:%zu", i + 1);
        put_zone(zone, names[i], "4\n", "1000\n");
    }
    uint32_t packages[4], count;
    CHECK_EQ(PS_OK, ps_rapl_packages(root, NULL, packages, 4, &count, NULL));
    CHECK_EQ(1, count);
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    CHECK_EQ(1, source->n_channels);
    CHECK_EQ(1, read_named(source, "package-0.energy").raw);
    ps_source_free(source);
    end();
}

static void test_range_that_is_none_gives_no_modulus(void)
{
    static const char *const ranges[] = {"", "nonsense\n", "-5\n", "0\n", "99999999999999999999\n"};
    begin();
    for (size_t i = 0; i < sizeof ranges / sizeof *ranges; i++) {
        put_zone("intel-rapl:0", "package-0\n", "1\n", ranges[i]);
        ps_rapl_opening opening;
        ps_source *source = open_package(0, &opening);
        CHECK_EQ(0, source->channels[0].modulus);
        CHECK(source->groups[0].min_hz == 0 && opening.min_hz == 0);
        ps_source_free(source);
    }
    end();
}

static bool about(double expected, double actual)
{
    return actual > expected * (1 - 1e-6) && actual < expected * (1 + 1e-6);
}

static void test_least_rate_follows_the_zones_limits(void)
{
    begin();
    put_zone("intel-rapl:0", "package-0\n", "1\n", "262143328850\n");
    put_zone("intel-rapl:0:0", "dram\n", "2\n", "65712999613\n");
    put_zone("intel-rapl:1", "psys\n", "2\n", "262143328850\n");
    ps_rapl_opening opening;
    ps_source *source = open_package(0, &opening);
    CHECK(about(2 * 1000 / 262143.328911, source->groups[find(source, "package-0.energy")->group].min_hz));
    CHECK(about(2 * 300 / 65712.999628, source->groups[find(source, "package-0.dram.energy")->group].min_hz));
    CHECK(about(2 * 2000 / 262143.328911, opening.min_hz)); /* the platform's is the highest */
    ps_source_free(source);

    put("0\n", "class/powercap/intel-rapl:0/constraint_0_max_power_uw"); /* says nothing */
    put("205000000\n", "class/powercap/intel-rapl:0/constraint_0_power_limit_uw");
    put("246000000\n", "class/powercap/intel-rapl:0/constraint_1_power_limit_uw");
    put("lots\n", "class/powercap/intel-rapl:0/constraint_1_max_power_uw");
    source = open_package(0, &opening);
    CHECK(about(2 * 246 / 262143.328911, source->groups[find(source, "package-0.energy")->group].min_hz));
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
    CHECK_EQ(PS_RAPL_POWERCAP, opening.route[PS_RAPL_PACKAGE]);
    CHECK_TEXT("perf_event_open", opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].call);
    CHECK_TEXT("energy-pkg", opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].text);
    CHECK(opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].vendor != 0);
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
    test_machine_of_forty_packages_is_seen_whole();
    test_cpu_to_read_from_is_one_that_may_be_used();
    test_each_domain_by_the_first_route_that_has_it();
    test_domain_that_one_die_refuses_goes_to_the_next_route_for_all();
    test_amd_package_is_counted_once_and_one_core_is_not_all();
    test_names_that_are_no_zone_are_passed_over();
    test_range_that_is_none_gives_no_modulus();
    test_least_rate_follows_the_zones_limits();
    test_perf_that_the_kernel_refuses_keeps_its_reason();
    return HARNESS_RESULT();
}
