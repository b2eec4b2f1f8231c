/* SPDX-License-Identifier: Apache-2.0
 *
 * RAPL by registers: plain files stand for the nodes, and pread is ours, so that a register can be absent, a CPU gone
 * and a call interrupted, as no plain file can be.
 */
#include <errno.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "rapl_tree.h"

enum { UNITS_14 = 0xA0E03, UNITS_16 = 0xA1003 };

/* What pread does besides reading. */
static struct {
    uint32_t absent;    /* a register that the processor has not */
    int gone;           /* errno of every read, as of a CPU that was taken offline */
    int interruptions;  /* to come before an answer */
    int calls;
} fault;

ssize_t pread(int fd, void *to, size_t n, off_t at)
{
    fault.calls++;
    if (fault.interruptions > 0) {
        fault.interruptions--;
        errno = EINTR;
        return -1;
    }
    if (fault.gone || (fault.absent && at == (off_t)fault.absent * 8)) {
        errno = fault.gone ? fault.gone : EIO; /* what the kernel makes of the fault of a read that cannot be */
        return -1;
    }
    return (ssize_t)syscall(SYS_pread64, fd, to, n, at);
}

static void put_intel(int cpu, uint64_t package, uint64_t dram)
{
    put_register(cpu, 0x606, UNITS_14);
    put_register(cpu, 0x611, package);
    put_register(cpu, 0x619, dram);
}

/* Two sockets of Skylake-SP with two CPUs each. */
static void begin_server(void)
{
    memset(&fault, 0, sizeof fault);
    begin();
    put_processor(RAPL_INTEL, 6, 0x55);
    for (int cpu = 0; cpu < 4; cpu++) {
        put_cpu(cpu, (unsigned)cpu / 2, 0, (unsigned)cpu % 2);
        put_intel(cpu, 1000 + (unsigned)cpu / 2, 2000 + (unsigned)cpu / 2);
    }
}

static ps_source *open_msr(uint32_t package, ps_rapl_opening *opening)
{
    return open_package_at(devfs(), package, opening);
}

static void test_server_package_and_dram_with_their_own_units(void)
{
    begin_server();
    uint32_t packages[4], count;
    CHECK_EQ(PS_OK, ps_rapl_packages(root, devfs(), packages, 4, &count, NULL));
    CHECK_EQ(2, count);
    ps_rapl_opening opening;
    ps_source *source = open_msr(1, &opening);
    CHECK_EQ(PS_RAPL_MSR, opening.route[PS_RAPL_PACKAGE]);
    CHECK_EQ(PS_RAPL_MSR, opening.route[PS_RAPL_DRAM]);
    CHECK_EQ(2, opening.cpu); /* the lane belongs on the CPU that is read */
    CHECK_EQ(0, (int64_t)opening.moved);
    CHECK_EQ(2, source->n_channels);
    CHECK_EQ(1001, read_named(source, "package-1.energy").raw);
    CHECK_EQ(2001, read_named(source, "package-1.dram.energy").raw);
    const ps_channel *package = find(source, "package-1.energy"), *dram = find(source, "package-1.dram.energy");
    CHECK(package->scale == 0x1p-14 && dram->scale == 0x1p-16);
    CHECK_EQ(INT64_C(1) << 32, package->modulus);
    CHECK_TEXT("msr.0x611", package->sensor);
    /* DRAM turns first: 65536 J at 300 W; the package's 262144 J at 1000 W. */
    CHECK(source->groups[dram->group].min_hz == 2 * 300 / 65536.0);
    CHECK(opening.min_hz == 2 * 300 / 65536.0);
    CHECK_TEXT("no register for core", opening.refused[PS_RAPL_CORE][PS_RAPL_MSR].text);

    /* The high half is reserved, and says nothing. */
    put_register(2, 0x611, UINT64_C(0xDEADBEEF00000007));
    CHECK_EQ(7, read_named(source, "package-1.energy").raw);
    ps_source_free(source);
    end();
}

static void test_counter_that_moves_is_seen_to(void)
{
    begin_server();
    ps_rapl_opening opening;
    pid_t child = fork();
    if (child == 0)
        for (uint64_t value = 0;; value++) {
            put_register(0, 0x611, UINT32_MAX - 5 + value); /* over the turn */
            harness_sleep_ms(1);
        }
    ps_source *source = open_msr(0, &opening);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    CHECK_EQ(1, (int64_t)opening.moved); /* the first channel, and not the memory's */
    CHECK_TEXT("dram", source->channels[1].domain);
    ps_source_free(source);
    end();
}

static void test_client_without_a_register_goes_without_its_domain(void)
{
    memset(&fault, 0, sizeof fault);
    begin();
    put_processor(RAPL_INTEL, 6, 0x5E);
    put_cpu(0, 0, 0, 0);
    put_intel(0, 1, 2);
    put_register(0, 0x639, 3);
    put_register(0, 0x641, 4);
    put_register(0, 0x64D, 5);
    fault.absent = 0x641;
    ps_rapl_opening opening;
    ps_source *source = open_msr(0, &opening);
    CHECK_EQ(4, source->n_channels);
    CHECK_EQ(3, read_named(source, "package-0.core.energy").raw);
    CHECK_EQ(5, read_named(source, "psys.energy").raw);
    CHECK_EQ(-1, opening.route[PS_RAPL_UNCORE]);
    const ps_error *refused = &opening.refused[PS_RAPL_UNCORE][PS_RAPL_MSR];
    CHECK_EQ(PS_E_UNSUPPORTED, refused->status);
    CHECK_EQ(EIO, refused->vendor);
    CHECK_TEXT("0x641", refused->text);
    ps_source_free(source);
    end();
}

static void test_registers_fill_what_powercap_lacks(void)
{
    begin_server();
    put_zone("intel-rapl:0", "package-0\n", "10\n", "262143328850\n");
    ps_rapl_opening opening;
    ps_source *source = open_msr(0, &opening);
    CHECK_EQ(PS_RAPL_POWERCAP, opening.route[PS_RAPL_PACKAGE]);
    CHECK_EQ(PS_RAPL_MSR, opening.route[PS_RAPL_DRAM]);
    CHECK_EQ(2, source->n_channels);
    CHECK_EQ(10, read_named(source, "package-0.energy").raw);
    CHECK_EQ(2000, read_named(source, "package-0.dram.energy").raw);
    ps_source_free(source);
    end();
}

static void test_dies_of_a_package_are_apart_and_the_platform_is_one(void)
{
    memset(&fault, 0, sizeof fault);
    begin();
    put_processor(RAPL_INTEL, 6, 0x6A);
    for (int cpu = 0; cpu < 4; cpu++) {
        put_cpu(cpu, 0, (unsigned)cpu / 2, (unsigned)cpu % 2);
        put_intel(cpu, 100 + (unsigned)cpu / 2, 200 + (unsigned)cpu / 2);
        put_register(cpu, 0x64D, 300);
    }
    ps_rapl_opening opening;
    ps_source *source = open_msr(0, &opening);
    CHECK_EQ(5, source->n_channels);
    CHECK_EQ(101, read_named(source, "package-0-die-1.energy").raw);
    CHECK_EQ(200, read_named(source, "package-0-die-0.dram.energy").raw);
    CHECK_EQ(300, read_named(source, "psys.energy").raw);
    ps_source_free(source);
    end();
}

/* Two cores of two threads: a core's threads show its counter, and it counts once. */
static void test_amd_cores_add_up_modulo_the_turn(void)
{
    memset(&fault, 0, sizeof fault);
    begin();
    put_processor(RAPL_AMD, 0x19, 0x01);
    for (int cpu = 0; cpu < 4; cpu++) {
        put_cpu(cpu, 0, (unsigned)cpu % 2, (unsigned)cpu % 2); /* a core in each of what the kernel calls dies */
        put_register(cpu, 0xC0010299, UNITS_16);
        put_register(cpu, 0xC001029B, 5000);
        put_register(cpu, 0xC001029A, cpu % 2 ? 20 : UINT32_MAX - 9);
    }
    ps_rapl_opening opening;
    ps_source *source = open_msr(0, &opening);
    CHECK_EQ(2, source->n_channels);
    CHECK_EQ(5000, read_named(source, "package-0.energy").raw);
    CHECK_EQ(10, read_named(source, "package-0.core.energy").raw); /* 2^32 - 10 + 20 */
    const ps_channel *core = find(source, "package-0.core.energy");
    CHECK(core->scale == 0x1p-16 && core->modulus == UINT64_C(1) << 32);
    CHECK(source->groups[core->group].max_hz == 10); /* each read interrupts every core */
    CHECK(source->groups[find(source, "package-0.energy")->group].max_hz == 1000);
    put_register(0, 0xC001029A, 5); /* the first core turned: 15 on */
    CHECK_EQ(25, read_named(source, "package-0.core.energy").raw);

    fault.calls = 0;
    (void)read_named(source, "package-0.core.energy");
    CHECK_EQ(2, fault.calls);
    ps_source_free(source);
    end();
}

static void test_amd_core_that_goes_offline_leaves_no_part_of_a_sum(void)
{
    memset(&fault, 0, sizeof fault);
    begin();
    put_processor(RAPL_HYGON, 0x18, 0x01);
    for (int cpu = 0; cpu < 4; cpu++) {
        put_cpu(cpu, 0, 0, (unsigned)cpu / 2);
        put_register(cpu, 0xC0010299, UNITS_16);
        put_register(cpu, 0xC001029A, (unsigned)cpu / 2 + 1);
        put_register(cpu, 0xC001029B, 9);
    }
    ps_rapl_opening opening;
    ps_source *source = open_msr(0, &opening);
    CHECK_EQ(3, read_named(source, "package-0.core.energy").raw);
    put("", "dev/cpu/2/msr"); /* emptied: a short read */
    REQUIRE(unlink(node(2)) == 0);
    ps_reading got = read_named(source, "package-0.core.energy");
    CHECK_EQ(ENODATA, got.status);
    CHECK_EQ(0, got.raw);
    CHECK_EQ(9, read_named(source, "package-0.energy").raw); /* by CPU 0 */
    CHECK_EQ(1, source->ops->recover(source, 1));           /* by the core's other thread */
    CHECK_EQ(3, read_named(source, "package-0.core.energy").raw);
    ps_source_free(source);

    /* Without numbers of cores nobody can say what counts twice. */
    put("x\n", "devices/system/cpu/cpu3/topology/core_id");
    source = open_msr(0, &opening);
    CHECK_EQ(1, source->n_channels);
    CHECK_TEXT("share a core", opening.refused[PS_RAPL_CORE][PS_RAPL_MSR].text);
    ps_source_free(source);
    end();
}

static void test_units_that_are_none_are_refused(void)
{
    static const uint64_t words[] = {0, UINT64_MAX, 0x12345678};
    for (size_t i = 0; i < sizeof words / sizeof *words; i++) {
        begin_server();
        put_register(0, 0x606, words[i]);
        ps_source *source = NULL;
        ps_rapl_opening opening;
        ps_error error;
        CHECK_EQ(PS_E_FORMAT, ps_rapl_open(root, devfs(), 0, &source, &opening, &error));
        CHECK_TEXT("0x606", error.text);
        CHECK_TEXT("no unit", error.text);
        end();
    }
}

static void test_short_reads_are_a_status_and_never_a_value(void)
{
    begin_server();
    ps_rapl_opening opening;
    ps_source *source = open_msr(0, &opening);
    REQUIRE(truncate(node(0), 0x619 * 8 + 5) == 0);
    CHECK_EQ(ENODATA, read_named(source, "package-0.dram.energy").status);
    CHECK_EQ(0, read_named(source, "package-0.dram.energy").raw);
    CHECK_EQ(1000, read_named(source, "package-0.energy").raw);
    REQUIRE(truncate(node(0), 0x611 * 8) == 0);
    CHECK_EQ(ENODATA, read_named(source, "package-0.energy").status);
    ps_source_free(source);
    end();
}

static void test_interrupted_calls_are_made_again(void)
{
    begin_server();
    ps_rapl_opening opening;
    fault.interruptions = 3; /* while opening, too */
    ps_source *source = open_msr(0, &opening);
    CHECK_EQ(0, fault.interruptions);
    fault.interruptions = 5;
    fault.calls = 0;
    ps_reading got = read_named(source, "package-0.energy");
    CHECK_EQ(0, got.status);
    CHECK_EQ(1000, got.raw);
    CHECK_EQ(6, fault.calls);
    ps_source_free(source);

    put_zone("intel-rapl:0", "package-0\n", "10\n", "1000\n");
    source = open_package(0, &opening);
    fault.interruptions = 5;
    CHECK_EQ(10, read_named(source, "package-0.energy").raw);
    ps_source_free(source);
    end();
}

static void test_cpu_that_goes_offline_gives_way_to_another_of_its_package(void)
{
    const int64_t ms = 1000000;
    begin_server();
    ps_rapl_opening opening;
    ps_source *source = open_msr(0, &opening);
    fault.gone = ENXIO;
    CHECK_EQ(ENXIO, read_named(source, "package-0.energy").status);
    CHECK_EQ(0, source->ops->recover(source, 1000 * ms)); /* nobody answers */
    CHECK_EQ(ENXIO, read_named(source, "package-0.energy").status);
    fault.gone = 0;
    REQUIRE(unlink(node(0)) == 0);
    put_intel(1, 1500, 2500);
    CHECK_EQ(0, source->ops->recover(source, 1100 * ms)); /* too soon */
    CHECK_EQ(1, source->ops->recover(source, 1250 * ms));
    CHECK_EQ(1500, read_named(source, "package-0.energy").raw); /* by CPU 1, and never by those of package 1 */
    CHECK_EQ(2500, read_named(source, "package-0.dram.energy").raw);

    REQUIRE(truncate(node(1), 0) == 0 && unlink(node(1)) == 0);
    CHECK_EQ(ENODATA, read_named(source, "package-0.energy").status);
    CHECK_EQ(0, source->ops->recover(source, 2000 * ms));
    CHECK_EQ(ENOENT, read_named(source, "package-0.energy").status);
    ps_source_free(source);
    end();
}

static void test_nodes_closed_to_this_user_say_so(void)
{
    begin_server();
    for (int cpu = 0; cpu < 4; cpu++)
        REQUIRE(chmod(node(cpu), geteuid() == 0 ? 0600 : 0) == 0);
    bool is_root = geteuid() == 0;
    REQUIRE(!is_root || seteuid(65534) == 0);
    ps_source *source = NULL;
    ps_rapl_opening opening;
    ps_error error;
    CHECK_EQ(PS_E_ACCESS, ps_rapl_open(root, devfs(), 0, &source, &opening, &error));
    REQUIRE(!is_root || seteuid(0) == 0);
    CHECK_EQ(EACCES, error.vendor);
    CHECK_TEXT("cpu/0/msr", error.text);
    CHECK_EQ(EACCES, opening.refused[PS_RAPL_DRAM][PS_RAPL_MSR].vendor);
    CHECK_EQ(PS_E_NOT_FOUND, opening.refused[PS_RAPL_PACKAGE][PS_RAPL_PERF].status);
    end();
}

static void test_registers_are_left_alone_where_they_may_not_be_ours(void)
{
    begin_server();
    ps_source *source = NULL;
    ps_rapl_opening opening;
    ps_error error;
    uint32_t count = 0;
    /* Another /sys without another /dev: its CPUs are not those of this machine's nodes. */
    CHECK_EQ(PS_E_NOT_FOUND, ps_rapl_open(root, NULL, 0, &source, &opening, &error));
    CHECK_TEXT("devfs", opening.refused[PS_RAPL_PACKAGE][PS_RAPL_MSR].text);
    CHECK_EQ(PS_E_NOT_FOUND, ps_rapl_packages(root, NULL, NULL, 0, &count, &error));

    put_processor(RAPL_INTEL, 6, 0x4C); /* whose unit nobody is sure of */
    CHECK_EQ(PS_E_NOT_FOUND, ps_rapl_packages(root, devfs(), NULL, 0, &count, &error));
    CHECK_EQ(PS_E_UNSUPPORTED, ps_rapl_open(root, devfs(), 0, &source, &opening, &error));
    CHECK_TEXT("not known", error.text);

    put("cpu:type:aarch64:feature:,0000\n", "devices/system/cpu/modalias");
    CHECK_EQ(PS_E_NOT_FOUND, ps_rapl_packages(root, devfs(), NULL, 0, &count, &error));

    put_processor(RAPL_INTEL, 6, 0x55);
    CHECK_EQ(PS_E_NOT_FOUND, ps_rapl_open(root, devfs(), 9, &source, &opening, &error));
    CHECK_TEXT("package-9", opening.refused[PS_RAPL_PACKAGE][PS_RAPL_MSR].text);
    end();
}

int main(void)
{
    test_server_package_and_dram_with_their_own_units();
    test_counter_that_moves_is_seen_to();
    test_client_without_a_register_goes_without_its_domain();
    test_registers_fill_what_powercap_lacks();
    test_dies_of_a_package_are_apart_and_the_platform_is_one();
    test_amd_cores_add_up_modulo_the_turn();
    test_amd_core_that_goes_offline_leaves_no_part_of_a_sum();
    test_units_that_are_none_are_refused();
    test_short_reads_are_a_status_and_never_a_value();
    test_interrupted_calls_are_made_again();
    test_cpu_that_goes_offline_gives_way_to_another_of_its_package();
    test_nodes_closed_to_this_user_say_so();
    test_registers_are_left_alone_where_they_may_not_be_ours();
    return HARNESS_RESULT();
}
