/* SPDX-License-Identifier: Apache-2.0
 *
 * The hwmon source on made folders: the chips that the kernel documents, each with the files its driver makes. Errors
 * that a plain file cannot give come from this program's own pread.
 */
#include <errno.h>
#include <stdbool.h>
#include <sys/syscall.h>

#include "core/source.h"
#include "harness.h"
#include "tree.h"

static int failing_fd = -1, failing_errno;
static int slow_fd = -1; /* takes as long as an ACPI method may */

/* Stands before libc's: reads of one descriptor fail as a driver's would, those of another take their time. */
ssize_t pread(int fd, void *buffer, size_t size, off_t offset)
{
    if (fd == failing_fd) {
        errno = failing_errno;
        return -1;
    }
    if (fd == slow_fd)
        harness_sleep_ms(50);
    return syscall(SYS_pread64, fd, buffer, size, offset);
}

/* The descriptor that is open on a file below the root. */
static int descriptor_of(const char *file)
{
    char path[PATH_MAX];
    struct stat wanted, open_one;
    snprintf(path, sizeof path, "%s/%s", root, file);
    REQUIRE(stat(path, &wanted) == 0);
    for (int fd = 3; fd < 256; fd++)
        if (fstat(fd, &open_one) == 0 && open_one.st_ino == wanted.st_ino && open_one.st_dev == wanted.st_dev)
            return fd;
    fprintf(stderr, "%s is not open\n", file);
    exit(1);
}

static void put_folder(const char *folder)
{
    put("", "%s/uevent", folder);
}

static void put_link(const char *target, const char *name)
{
    char path[PATH_MAX], to[PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", root, name);
    snprintf(to, sizeof to, "%s/%s", root, target);
    REQUIRE(symlink(to, path) == 0);
}

/* A chip with its device: class/hwmon/hwmonN/name and a link to devices/DEVICE. */
static void put_chip(unsigned number, const char *name, const char *device)
{
    char link[64], folder[128];
    put(name, "class/hwmon/hwmon%u/name", number);
    if (!device)
        return;
    snprintf(folder, sizeof folder, "devices/%s", device);
    snprintf(link, sizeof link, "class/hwmon/hwmon%u/device", number);
    put_folder(folder);
    put_link(folder, link);
}

static ps_source *open_chip(const char *id, ps_hwmon_opening *opening)
{
    ps_source *source = NULL;
    ps_error error = {0};
    if (ps_hwmon_open(root, id, &source, opening, &error) != PS_OK) {
        fprintf(stderr, "%s: %s: %s\n", id, error.call, error.text);
        exit(1);
    }
    return source;
}

static const ps_channel *find(const ps_source *source, const char *name)
{
    for (uint32_t i = 0; i < source->n_channels; i++)
        if (strcmp(source->channels[i].name, name) == 0)
            return &source->channels[i];
    fprintf(stderr, "%s has no %s; it has", source->name, name);
    for (uint32_t i = 0; i < source->n_channels; i++)
        fprintf(stderr, " %s", source->channels[i].name);
    fprintf(stderr, "\n");
    exit(1);
}

static ps_reading read_named(ps_source *source, const char *name)
{
    const ps_channel *channel = find(source, name);
    ps_reading readings[PS_GROUP_MAX];
    uint32_t n = source->ops->read(source, channel->group, 0, readings);
    for (uint32_t i = 0; i < n; i++)
        if (readings[i].channel == channel - source->channels)
            return readings[i];
    fprintf(stderr, "%s: its group does not read it\n", name);
    exit(1);
}

static double max_hz(const ps_source *source, const char *name)
{
    return source->groups[find(source, name)->group].max_hz;
}

#define CHECK_CHANNEL(source, name, domain_, device_, sensor_)      \
    do {                                                            \
        const ps_channel *channel_ = find(source, name);            \
        CHECK_EQ(0, strcmp(domain_, channel_->domain));             \
        CHECK_EQ(0, strcmp(device_, channel_->device));             \
        CHECK_EQ(0, strcmp(sensor_, channel_->sensor));             \
    } while (0)

/* An NVIDIA Jetson: three rails, of which one is switched off; in4 to in7 and curr4 must not be multiplied. */
static void put_ina3221(unsigned number)
{
    put_chip(number, "ina3221\n", "i2c-1/1-0040");
    put("VDD_IN\n", "class/hwmon/hwmon%u/in1_label", number);
    put("VDD_CPU_GPU CV\n", "class/hwmon/hwmon%u/in2_label", number);
    for (int rail = 1; rail <= 3; rail++) {
        put(rail == 3 ? "0\n" : "1\n", "class/hwmon/hwmon%u/in%d_enable", number, rail);
        put("5000\n", "class/hwmon/hwmon%u/in%d_input", number, rail);
        put("1500\n", "class/hwmon/hwmon%u/curr%d_input", number, rail);
        put("7\n", "class/hwmon/hwmon%u/in%d_input", number, rail + 3);
    }
    put("21\n", "class/hwmon/hwmon%u/in7_input", number);
    put("sum of shunt voltages\n", "class/hwmon/hwmon%u/in7_label", number);
    put("4500\n", "class/hwmon/hwmon%u/curr4_input", number);
}

static void test_ina3221_multiplies_voltage_and_current_of_a_rail(void)
{
    begin();
    put_ina3221(2);
    ps_hwmon_opening opening;
    ps_source *source = open_chip("ina3221-1-0040", &opening);
    CHECK_EQ(2, source->n_channels);
    CHECK_EQ(2, opening.answering);
    CHECK_CHANNEL(source, "ina3221-1-0040.vdd_in.power", "supply", "ina3221-1-0040:VDD_IN",
                  "hwmon.ina3221.in1*curr1:VDD_IN");
    CHECK_CHANNEL(source, "ina3221-1-0040.vdd_cpu_gpu-cv.power", "supply", "ina3221-1-0040:VDD_CPU_GPU CV",
                  "hwmon.ina3221.in2*curr2:VDD_CPU_GPU CV");
    CHECK_EQ(1, opening.n_refused);
    CHECK_TEXT("in3_enable", opening.refused[0].call);
    CHECK_TEXT("switched off", opening.refused[0].text);
    CHECK_TEXT("hwmon:ina3221-1-0040", source->name);
    CHECK_TEXT("ina3221", source->driver);

    const char *rail = "ina3221-1-0040.vdd_in.power";
    CHECK_EQ(7500000, read_named(source, rail).raw); /* 5 V of 1.5 A */
    CHECK(find(source, rail)->scale == 1e-6 && find(source, rail)->kind == PS_KIND_POWER);
    put("-200\n", "class/hwmon/hwmon2/curr1_input");
    CHECK_EQ(-1000000, read_named(source, rail).raw); /* it may flow back */

    static const struct {
        const char *voltage, *current;
        int status;
    } rows[] = {
        {"5000\n", "", ENODATA},           {"", "1500\n", ENODATA},      {"5000\n", "nan\n", EBADMSG},
        {"4.9\n", "1500\n", EBADMSG},      {"-\n", "1500\n", EBADMSG},
        {"9223372036854775790\n", "2\n", EOVERFLOW},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put(rows[i].voltage, "class/hwmon/hwmon2/in1_input");
        put(rows[i].current, "class/hwmon/hwmon2/curr1_input");
        ps_reading got = read_named(source, rail);
        CHECK_EQ(rows[i].status, got.status);
        CHECK_EQ(0, got.raw);
    }
    CHECK_EQ(7500000, read_named(source, "ina3221-1-0040.vdd_cpu_gpu-cv.power").raw); /* the others go on */
    ps_source_free(source);
    end();
}

static void test_ina2xx_gives_power_and_energy_or_is_multiplied(void)
{
    begin();
    put_chip(0, "ina228\n", "i2c-1/1-0041");
    put("12000\n", "class/hwmon/hwmon0/in1_input");
    put("1\n", "class/hwmon/hwmon0/curr1_input");
    put("24000000\n", "class/hwmon/hwmon0/power1_input");
    put("99\n", "class/hwmon/hwmon0/energy1_input");
    put("60\n", "class/hwmon/hwmon0/update_interval");
    put_chip(1, "ina219\n", "i2c-1/1-0042");
    put("10\n", "class/hwmon/hwmon1/in0_input"); /* its shunt */
    put("12000\n", "class/hwmon/hwmon1/in1_input");
    put("2000\n", "class/hwmon/hwmon1/curr1_input");

    ps_hwmon_opening opening;
    ps_source *source = open_chip("ina228-1-0041", &opening);
    CHECK_EQ(2, source->n_channels);
    CHECK_EQ(24000000, read_named(source, "ina228-1-0041.power.instant").raw);
    CHECK_EQ(99, read_named(source, "ina228-1-0041.energy").raw);
    const ps_channel *energy = find(source, "ina228-1-0041.energy");
    CHECK(energy->kind == PS_KIND_ENERGY && energy->scale == 1e-6 && energy->modulus == 0);
    CHECK_EQ(0, strcmp("J", energy->unit));
    CHECK(max_hz(source, "ina228-1-0041.power.instant") == 50); /* three polls of what it publishes each 60 ms */
    put("-5\n", "class/hwmon/hwmon0/energy1_input");
    CHECK_EQ(EBADMSG, read_named(source, "ina228-1-0041.energy").status); /* no counter goes below zero */
    put("-5\n", "class/hwmon/hwmon0/power1_input");
    CHECK_EQ(-5, read_named(source, "ina228-1-0041.power.instant").raw);
    ps_source_free(source);

    source = open_chip("ina219-1-0042", &opening);
    CHECK_EQ(1, source->n_channels);
    CHECK_EQ(24000000, read_named(source, "ina219-1-0042.power").raw);
    CHECK(max_hz(source, "ina219-1-0042.power") == 100);
    ps_source_free(source);
    end();
}

static void put_meter(unsigned number, const char *oem, const char *interval)
{
    char device[64];
    snprintf(device, sizeof device, "LNXSYSTM:00/ACPI000D:%02u", number);
    put_chip(number, "power_meter\n", device);
    put("90000000\n", "devices/%s/power1_average", device); /* where the driver put it before Linux 6.14 */
    put(interval, "devices/%s/power1_average_interval", device);
    put("0\n", "devices/%s/power1_is_battery", device);
    put(oem, "devices/%s/power1_oem_info", device);
}

/* A Grace superchip, with another ARM server's words and what comes by the same interface and is no power. */
static void test_acpi_meters_measure_what_their_firmware_says(void)
{
    static const struct {
        const char *oem, *name, *domain, *device;
    } rows[] = {
        {"Module Power Socket 0\n", "module-0.power_meter-ACPI000D-00.power.average", "module", "module-0"},
        {"Grace Power Socket 0\n", "package-0.power_meter-ACPI000D-01.power.average", "package", "package-0"},
        {"CPU Power Socket 1\n", "package-1.power_meter-ACPI000D-02.core.power.average", "core", "package-1"},
        {"SysIO Power Socket 1\n", "package-1.power_meter-ACPI000D-03.uncore.power.average", "uncore", "package-1"},
        {"Total Power in uW socket 0\n", "package-0.power_meter-ACPI000D-04.power.average", "package", "package-0"},
        {"SOC Rail Power socket 0\n", "package-0.power_meter-ACPI000D-05.uncore.power.average", "uncore",
         "package-0"},
        {"DRAM Power in uW socket 0\n", "power_meter-ACPI000D-06.dram-power-in-uw-so.power.average", "supply",
         "power_meter-ACPI000D-06:DRAM Power in uW socket 0"},
        {"CPU Rail Output Power in uW socket 0\n", "power_meter-ACPI000D-07.cpu-rail-output-pow.power.average", "supply",
         "power_meter-ACPI000D-07:CPU Rail Output Power in uW socket 0"},
        {"Chassis power\n", "power_meter-ACPI000D-08.chassis-power.power.average", "supply",
         "power_meter-ACPI000D-08:Chassis power"},
        {"\n", "power_meter-ACPI000D-09.power.average", "psys", "power_meter-ACPI000D-09"},
    };
    begin();
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
        put_meter(i, rows[i].oem, i ? "1000\n" : "50\n");
    ps_hwmon_opening opening;
    for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
        char id[32];
        snprintf(id, sizeof id, "power_meter-ACPI000D-%02u", i);
        ps_source *source = open_chip(id, &opening);
        const ps_channel *channel = find(source, rows[i].name);
        CHECK_EQ(1, source->n_channels);
        CHECK_EQ(0, strcmp(rows[i].domain, channel->domain));
        CHECK_EQ(0, strcmp(rows[i].device, channel->device));
        CHECK_EQ(i ? 1000000000 : 50000000, channel->span_ns);
        CHECK(max_hz(source, rows[i].name) == (i ? 3 : 60)); /* three polls in each interval */
        CHECK_EQ(90000000, read_named(source, rows[i].name).raw);
        CHECK_TEXT("hwmon.power_meter.power1_average", channel->sensor);
        ps_source_free(source);
    }

    put_meter(10, "Chipthrot DDR Throttle (samples x1000) socket 0\n", "1000\n");
    put_meter(11, "Total CPU Energy In uJ socket 0\n", "1000\n");
    ps_source *source = NULL;
    ps_error error;
    CHECK_EQ(PS_E_UNSUPPORTED, ps_hwmon_open(root, "power_meter-ACPI000D-10", &source, &opening, &error));
    CHECK_TEXT("\"Chipthrot DDR Throttle (samples x1000) socket 0\" is no power", error.text);
    CHECK_EQ(PS_E_UNSUPPORTED, ps_hwmon_open(root, "power_meter-ACPI000D-11", &source, &opening, &error));
    uint32_t count = 0;
    CHECK_EQ(PS_OK, ps_hwmon_chips(root, NULL, 0, &count, NULL));
    CHECK_EQ(12, count); /* those that are left out can be told of */
    end();
}

static void test_acpi_meter_that_knows_nothing_is_no_power(void)
{
    begin();
    put_meter(0, "Module Power Socket 0\n", "4294967295\n");
    ps_hwmon_opening opening;
    const char *name = "module-0.power_meter-ACPI000D-00.power.average";
    ps_source *source = open_chip("power_meter-ACPI000D-00", &opening);
    CHECK_EQ(0, find(source, name)->span_ns); /* an interval of all ones is none */
    put("4294967295000\n", "devices/LNXSYSTM:00/ACPI000D:00/power1_average");
    CHECK_EQ(ENODATA, read_named(source, name).status);
    ps_source_free(source);

    put("1\n", "devices/LNXSYSTM:00/ACPI000D:00/power1_is_battery");
    put("\n", "devices/LNXSYSTM:00/ACPI000D:00/power1_oem_info");
    put("3000000\n", "devices/LNXSYSTM:00/ACPI000D:00/power1_average");
    source = open_chip("power_meter-ACPI000D-00", &opening);
    CHECK_EQ(0, strcmp("supply", find(source, "power_meter-ACPI000D-00.power.average")->domain));
    ps_source_free(source);
    end();
}

static void test_amd_energy_has_packages_and_cores(void)
{
    begin();
    put_chip(4, "amd_energy\n", "platform/amd_energy.0");
    for (int i = 1; i <= 129; i++) {
        char label[32];
        snprintf(label, sizeof label, i > 128 ? "Esocket%d\n" : "Ecore%03d\n", i > 128 ? i - 129 : i - 1);
        put(label, "class/hwmon/hwmon4/energy%d_label", i);
        put("777\n", "class/hwmon/hwmon4/energy%d_input", i);
    }
    ps_hwmon_opening opening;
    ps_source *source = open_chip("amd_energy-0", &opening);
    CHECK_EQ(129, source->n_channels);
    CHECK_CHANNEL(source, "package-0.amd_energy-0.energy", "package", "package-0",
                  "hwmon.amd_energy.energy129_input:Esocket0");
    CHECK_CHANNEL(source, "core-127.amd_energy-0.energy", "core", "core-127",
                  "hwmon.amd_energy.energy128_input:Ecore127");
    CHECK_EQ(777, read_named(source, "core-127.amd_energy-0.energy").raw);
    ps_source_free(source);
    end();
}

static void test_gpus_have_one_device_and_an_apu_is_a_package(void)
{
    begin();
    put_chip(0, "amdgpu\n", "pci0000:00/0000:03:00.0");
    put("31000000\n", "class/hwmon/hwmon0/power1_average");
    put("32000000\n", "class/hwmon/hwmon0/power1_input");
    put("PPT\n", "class/hwmon/hwmon0/power1_label");
    put("300000000\n", "class/hwmon/hwmon0/power1_cap");
    put("850\n", "class/hwmon/hwmon0/in0_input");
    put_chip(1, "amdgpu\n", "pci0000:00/0000:0b:00.0");
    put("15000000\n", "class/hwmon/hwmon1/power1_input");
    put("900\n", "class/hwmon/hwmon1/in1_input"); /* vddnb */
    put_chip(2, "xe\n", "pci0000:00/0000:04:00.0");
    put("card\n", "class/hwmon/hwmon2/energy1_label");
    put("8\n", "class/hwmon/hwmon2/energy1_input");
    put("pkg\n", "class/hwmon/hwmon2/energy2_label");
    put("7\n", "class/hwmon/hwmon2/energy2_input");

    ps_hwmon_opening opening;
    ps_source *source = open_chip("amdgpu-0000-03-00-0", &opening);
    CHECK_EQ(2, source->n_channels);
    CHECK_CHANNEL(source, "amdgpu-0000-03-00-0.ppt.power.instant", "gpu", "0000:03:00.0",
                  "hwmon.amdgpu.power1_input:PPT");
    CHECK_CHANNEL(source, "amdgpu-0000-03-00-0.ppt.power.average", "gpu", "0000:03:00.0",
                  "hwmon.amdgpu.power1_average:PPT");
    CHECK_EQ(32000000, read_named(source, "amdgpu-0000-03-00-0.ppt.power.instant").raw);
    ps_source_free(source);

    source = open_chip("amdgpu-0000-0b-00-0", &opening);
    CHECK_CHANNEL(source, "package-0.amdgpu-0000-0b-00-0.power.instant", "package", "package-0",
                  "hwmon.amdgpu.power1_input");
    ps_source_free(source);

    source = open_chip("xe-0000-04-00-0", &opening);
    CHECK_CHANNEL(source, "xe-0000-04-00-0.card.energy", "gpu", "0000:04:00.0", "hwmon.xe.energy1_input:card");
    CHECK_EQ(7, read_named(source, "xe-0000-04-00-0.pkg.energy").raw);
    ps_source_free(source);
    end();
}

static void test_sleeping_device_is_not_read_until_something_wakes_it(void)
{
    const int64_t now = INT64_C(1000000000000);
    begin();
    put_chip(0, "amdgpu\n", "pci0000:00/0000:03:00.0");
    put("31000000\n", "class/hwmon/hwmon0/power1_average");
    put("suspended\n", "devices/pci0000:00/0000:03:00.0/power/runtime_status");
    ps_hwmon_opening opening;
    const char *name = "amdgpu-0000-03-00-0.power.average";
    ps_source *source = open_chip("amdgpu-0000-03-00-0", &opening);
    CHECK_EQ(1, opening.asleep);
    CHECK_EQ(0, opening.answering);
    CHECK_EQ(0, opening.n_refused);
    failing_fd = descriptor_of("class/hwmon/hwmon0/power1_average");
    failing_errno = EIO; /* whoever reads it would wake the device */
    CHECK_EQ(PS_HWMON_ASLEEP, read_named(source, name).status);
    CHECK_EQ(0, source->ops->recover(source, now)); /* it is not lost */
    failing_fd = -1;
    put("active\n", "devices/pci0000:00/0000:03:00.0/power/runtime_status");
    CHECK_EQ(31000000, read_named(source, name).raw);
    put("suspending\n", "devices/pci0000:00/0000:03:00.0/power/runtime_status");
    CHECK_EQ(PS_HWMON_ASLEEP, read_named(source, name).status);
    ps_source_free(source);

    put("unsupported\n", "devices/pci0000:00/0000:03:00.0/power/runtime_status");
    source = open_chip("amdgpu-0000-03-00-0", &opening);
    CHECK_EQ(0, opening.asleep);
    CHECK_EQ(1, opening.answering);
    ps_source_free(source);
    end();
}

static void test_battery_power_is_signed_by_its_status(void)
{
    static const struct {
        const char *power, *status;
        int power_status, status_status;
        int64_t power_uw, word;
    } rows[] = {
        {"12000000\n", "Discharging\n", 0, 0, 12000000, 2},  {"-12000000\n", "Discharging\n", 0, 0, 12000000, 2},
        {"30000000\n", "Charging\n", 0, 0, -30000000, 1},    {"0\n", "Full\n", 0, 0, 0, 4},
        {"5\n", "Not charging\n", ENODATA, 0, 0, 3},         {"5\n", "Unknown\n", ENODATA, 0, 0, 0},
        {"5\n", "Melting\n", EBADMSG, EBADMSG, 0, 0},        {"\n", "Discharging\n", EBADMSG, 0, 0, 2},
        {"5\n", "", ENODATA, ENODATA, 0, 0},
    };
    begin();
    put("Battery\n", "class/power_supply/BAT0/type");
    put("1\n", "class/power_supply/BAT0/power_now");
    put("Discharging\n", "class/power_supply/BAT0/status");
    put("Battery\n", "class/power_supply/BAT1/type");
    put("12000000\n", "class/power_supply/BAT1/voltage_now"); /* uV */
    put("-500000\n", "class/power_supply/BAT1/current_now");  /* uA */
    put("Discharging\n", "class/power_supply/BAT1/status");
    put("Mains\n", "class/power_supply/AC/type");
    put("Battery\n", "class/power_supply/hidpp_battery_0/type"); /* of a mouse */
    put("Device\n", "class/power_supply/hidpp_battery_0/scope");
    put("1\n", "class/power_supply/hidpp_battery_0/power_now");
    put("Battery\n", "class/power_supply/BAT2/type");
    put("55\n", "class/power_supply/BAT2/capacity");
    /* The kernel shows a battery once more as a chip. */
    put("BAT0\n", "class/hwmon/hwmon0/name");
    put("1\n", "class/hwmon/hwmon0/power1_input");
    put_link("class/power_supply/BAT0", "class/hwmon/hwmon0/device");

    ps_hwmon_chip chips[8];
    uint32_t count = 0;
    CHECK_EQ(PS_OK, ps_hwmon_chips(root, chips, 8, &count, NULL));
    CHECK_EQ(4, count);
    CHECK_TEXT("battery", chips[1].name);

    ps_hwmon_opening opening;
    ps_source *source = open_chip("BAT0", &opening);
    CHECK_EQ(2, source->n_channels);
    CHECK_EQ(2, opening.answering);
    CHECK_CHANNEL(source, "BAT0.power", "supply", "BAT0", "power_supply.BAT0.power_now");
    CHECK(find(source, "BAT0.status")->kind == PS_KIND_AUX && find(source, "BAT0.status")->scale == 1);
    CHECK(max_hz(source, "BAT0.power") == 3);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        put(rows[i].power, "class/power_supply/BAT0/power_now");
        put(rows[i].status, "class/power_supply/BAT0/status");
        ps_reading power = read_named(source, "BAT0.power"), word = read_named(source, "BAT0.status");
        CHECK_EQ(rows[i].power_status, power.status);
        CHECK_EQ(rows[i].power_uw, power.raw);
        CHECK_EQ(rows[i].status_status, word.status);
        CHECK_EQ(rows[i].word, word.raw);
    }
    ps_source_free(source);
    source = open_chip("BAT1", &opening);
    CHECK_EQ(6000000, read_named(source, "BAT1.power").raw);
    ps_source_free(source);

    ps_error error;
    CHECK_EQ(PS_E_UNSUPPORTED, ps_hwmon_open(root, "BAT2", &source, &opening, &error));
    CHECK_TEXT("neither power_now", error.text);
    CHECK_EQ(PS_E_UNSUPPORTED, ps_hwmon_open(root, chips[0].id, &source, &opening, &error));
    CHECK_TEXT("once more as the power supply BAT0", error.text);
    end();
}

static void test_errors_of_the_driver_are_the_samples_status(void)
{
    static const int codes[] = {EAGAIN, EIO, ENODATA, ETIMEDOUT, EBUSY};
    const int64_t now = INT64_C(1000000000000), second = 1000000000;
    begin();
    put_chip(0, "adm1275\n", "i2c-1/1-0010");
    put("5\n", "class/hwmon/hwmon0/power1_input");
    ps_hwmon_opening opening;
    ps_source *source = open_chip("adm1275-1-0010", &opening);
    for (size_t i = 0; i < sizeof codes / sizeof *codes; i++) {
        failing_fd = descriptor_of("class/hwmon/hwmon0/power1_input");
        failing_errno = codes[i];
        ps_reading got = read_named(source, "adm1275-1-0010.power.instant");
        CHECK_EQ(codes[i], got.status);
        CHECK_EQ(0, got.raw);
        CHECK_EQ(0, source->ops->recover(source, now + (int64_t)i * second)); /* it is there: nothing to reopen */
        failing_fd = -1;
        CHECK_EQ(5, read_named(source, "adm1275-1-0010.power.instant").raw);
    }
    ps_source_free(source);
    end();
}

static void move(const char *from, const char *to)
{
    char old[PATH_MAX], new[PATH_MAX];
    snprintf(old, sizeof old, "%s/%s", root, from);
    snprintf(new, sizeof new, "%s/%s", root, to);
    REQUIRE(rename(old, new) == 0);
}

/* Unplugged, its number taken by another chip of the same kind, and plugged in again under a new number. */
static void test_chip_that_comes_back_under_another_number_is_found(void)
{
    const int64_t ms = 1000000, now = INT64_C(1000) * 1000 * ms;
    begin();
    put_chip(0, "adm1275\n", "i2c-1/1-0010");
    put("5\n", "class/hwmon/hwmon0/power1_input");
    put("pin\n", "class/hwmon/hwmon0/power1_label");
    put("active\n", "devices/i2c-1/1-0010/power/runtime_status");
    ps_hwmon_opening opening;
    const char *name = "adm1275-1-0010.pin.power.instant";
    ps_source *source = open_chip("adm1275-1-0010", &opening);

    failing_fd = descriptor_of("class/hwmon/hwmon0/power1_input");
    failing_errno = ENODEV; /* a removed attribute's descriptor */
    move("class/hwmon/hwmon0", "away");
    CHECK_EQ(ENODEV, read_named(source, name).status);
    CHECK_EQ(0, source->ops->recover(source, now));
    put_chip(0, "adm1275\n", "i2c-2/2-0010");
    put("6\n", "class/hwmon/hwmon0/power1_input");
    CHECK_EQ(0, source->ops->recover(source, now + 250 * ms)); /* not that one */
    CHECK_EQ(ENODEV, read_named(source, name).status);

    move("away", "class/hwmon/hwmon5");
    put("9\n", "class/hwmon/hwmon5/power1_input");
    CHECK_EQ(0, source->ops->recover(source, now + 500 * ms)); /* too soon: the wait doubles */
    failing_fd = -1; /* the new descriptor may have the old one's number */
    CHECK_EQ(1, source->ops->recover(source, now + 750 * ms));
    CHECK_EQ(9, read_named(source, name).raw);
    put("suspended\n", "devices/i2c-1/1-0010/power/runtime_status");
    CHECK_EQ(PS_HWMON_ASLEEP, read_named(source, name).status); /* this is looked at in the new place, too */
    ps_source_free(source);
    end();
}

static void test_chips_are_listed_once_and_the_others_not_at_all(void)
{
    begin();
    put("coretemp\n", "class/hwmon/hwmon0/name");
    put("41000\n", "class/hwmon/hwmon0/temp1_input");
    put("k10temp\n", "class/hwmon/hwmon1/name");
    put("12000\n", "class/hwmon/hwmon1/curr1_input"); /* a current is no power */
    put("1100\n", "class/hwmon/hwmon1/in1_input");
    put("psu\n", "class/hwmon/hwmon2/name");
    put("1\n", "class/hwmon/hwmon2/power1_input");
    put("1\n", "class/hwmon/hwmon2/power2_input");
    put("0\n", "class/hwmon/hwmon2/power2_enable");
    put("1\n", "class/hwmon/hwmon2/power3_cap");
    put("psu\n", "class/hwmon/hwmon10/name"); /* the same again, and no device to tell them apart */
    put("10\n", "class/hwmon/hwmon10/power12_input");
    put("junk\n", "class/hwmon/hwmonitor/name");
    put("x\n", "class/hwmon/hwmon11/power1_input"); /* no name */

    ps_hwmon_chip chips[4];
    uint32_t count = 0;
    CHECK_EQ(PS_OK, ps_hwmon_chips(root, chips, 4, &count, NULL));
    CHECK_EQ(2, count);
    CHECK_TEXT("psu", chips[0].id);
    CHECK_TEXT("psu-2", chips[1].id);
    CHECK_TEXT("hwmon/hwmon10", chips[1].path);
    CHECK_EQ(PS_OK, ps_hwmon_chips(root, chips, 1, &count, NULL));
    CHECK_EQ(2, count);

    ps_hwmon_opening opening;
    ps_source *source = open_chip("psu-2", &opening);
    CHECK_EQ(10, read_named(source, "psu-2.12.power.instant").raw);
    CHECK_EQ(0, strcmp("psu-2:12", find(source, "psu-2.12.power.instant")->device));
    ps_source_free(source);
    source = open_chip("psu", &opening);
    CHECK_EQ(1, source->n_channels);
    CHECK_EQ(1, opening.n_refused);
    ps_source_free(source);
    end();
}

/* Two dozen disks and four dozen memory modules have a sensor each. */
static void test_power_among_a_hundred_other_chips_is_found(void)
{
    begin();
    for (unsigned number = 0; number < 100; number++) {
        char device[32];
        snprintf(device, sizeof device, "nvme/nvme%u", number);
        put_chip(number, "nvme\n", device);
    }
    put_chip(100, "power_meter\n", "acpi/ACPI000D:00");
    put("1000000\n", "class/hwmon/hwmon100/power1_average");
    ps_hwmon_chip chip;
    uint32_t count = 0;
    CHECK_EQ(PS_OK, ps_hwmon_chips(root, &chip, 1, &count, NULL));
    CHECK_EQ(1, count);
    ps_hwmon_opening opening;
    ps_source *source = open_chip(chip.id, &opening);
    CHECK_EQ(1000000, read_named(source, "power_meter-ACPI000D-00.power.average").raw);
    ps_source_free(source);
    end();
}

static void test_chip_with_more_files_than_are_read_says_so(void)
{
    enum { FILES = 520 };
    begin();
    put_chip(0, "zenergy\n", "platform/zenergy.0");
    for (int i = 1; i <= FILES; i++)
        put("1\n", "class/hwmon/hwmon0/energy%d_input", i);
    ps_hwmon_opening opening;
    ps_source *source = open_chip("zenergy-0", &opening);
    CHECK_EQ(FILES, source->n_channels + opening.n_refused);
    CHECK(opening.n_refused > 0);
    CHECK_TEXT("more than", opening.refused[0].text);
    ps_source_free(source);
    end();
}

static void test_nothing_there_or_no_access_says_so(void)
{
    begin();
    ps_error error;
    ps_hwmon_opening opening;
    ps_source *source = NULL;
    uint32_t count = 0;
    CHECK_EQ(PS_E_NOT_FOUND, ps_hwmon_chips(root, NULL, 0, &count, &error));
    CHECK_TEXT("class/hwmon", error.text);
    CHECK_EQ(PS_E_INVALID, ps_hwmon_chips(root, NULL, 0, NULL, &error));
    CHECK_EQ(PS_E_INVALID, ps_hwmon_open(root, "psu", NULL, NULL, &error));
    CHECK_EQ(PS_E_NOT_FOUND, ps_hwmon_open(root, "psu", &source, &opening, &error));
    CHECK_TEXT("psu", error.text);

    char path[PATH_MAX];
    put("psu\n", "class/hwmon/hwmon0/name");
    put("1\n", "class/hwmon/hwmon0/power1_input");
    put("soon\n", "class/hwmon/hwmon0/power2_input");
    snprintf(path, sizeof path, "%s/class/hwmon/hwmon0/power1_input", root);
    bool is_root = geteuid() == 0;
    REQUIRE(chmod(path, is_root ? 0400 : 0) == 0);
    REQUIRE(!is_root || seteuid(65534) == 0);
    source = open_chip("psu", &opening); /* one that holds no number yet may do so later */
    CHECK_EQ(0, opening.answering);
    CHECK_EQ(EACCES, read_named(source, "psu.power.instant").status);
    CHECK_EQ(EBADMSG, read_named(source, "psu.2.power.instant").status);
    ps_source_free(source);
    snprintf(path, sizeof path, "%s/class/hwmon/hwmon0/power2_input", root);
    REQUIRE(!is_root || seteuid(0) == 0);
    REQUIRE(chmod(path, is_root ? 0400 : 0) == 0);
    REQUIRE(!is_root || seteuid(65534) == 0);
    int status = ps_hwmon_open(root, "psu", &source, &opening, &error);
    REQUIRE(!is_root || seteuid(0) == 0);
    CHECK_EQ(PS_E_ACCESS, status);
    CHECK_EQ(EACCES, error.vendor);
    CHECK_TEXT("hwmon0/power1_input", error.text);
    CHECK_EQ(2, opening.n_refused);
    CHECK_TEXT("power2_input", opening.refused[1].call);
    CHECK_EQ(EACCES, opening.refused[1].vendor);
    end();
}

static void test_slow_chip_costs_another_no_sample(void)
{
    begin();
    put_meter(0, "Module Power Socket 0\n", "50\n");
    put_ina3221(1);
    ps_hwmon_opening opening;
    ps_sampler *sampler;
    ps_lane_options options = {.mode = PS_MODE_PACED, .cpu = -1, .rate_hz = 100};
    ps_lane_stats slow, fast;
    REQUIRE(ps_sampler_new(&sampler) == PS_OK);
    REQUIRE(ps_sampler_add(sampler, open_chip("power_meter-ACPI000D-00", &opening), &options, NULL, NULL) == PS_OK);
    REQUIRE(ps_sampler_add(sampler, open_chip("ina3221-1-0040", &opening), &options, NULL, NULL) == PS_OK);
    slow_fd = descriptor_of("devices/LNXSYSTM:00/ACPI000D:00/power1_average");
    REQUIRE(ps_sampler_start(sampler, NULL) == PS_OK);
    harness_sleep_ms(400);
    REQUIRE(ps_sampler_stop(sampler, 2.0) == PS_OK);
    CHECK_EQ(PS_OK, ps_sampler_stats(sampler, 0, &slow));
    CHECK_EQ(PS_OK, ps_sampler_stats(sampler, 1, &fast));
    CHECK(slow.passes <= 9 && slow.skipped > slow.passes); /* it takes 5 slots a call, and says so */
    CHECK(fast.passes > 3 * slow.passes);
    CHECK_EQ(2 * fast.passes, fast.records);
    ps_sampler_free(sampler);
    slow_fd = -1;
    end();
}

int main(void)
{
    test_slow_chip_costs_another_no_sample();
    test_ina3221_multiplies_voltage_and_current_of_a_rail();
    test_ina2xx_gives_power_and_energy_or_is_multiplied();
    test_acpi_meters_measure_what_their_firmware_says();
    test_acpi_meter_that_knows_nothing_is_no_power();
    test_amd_energy_has_packages_and_cores();
    test_gpus_have_one_device_and_an_apu_is_a_package();
    test_sleeping_device_is_not_read_until_something_wakes_it();
    test_battery_power_is_signed_by_its_status();
    test_errors_of_the_driver_are_the_samples_status();
    test_chip_that_comes_back_under_another_number_is_found();
    test_chips_are_listed_once_and_the_others_not_at_all();
    test_power_among_a_hundred_other_chips_is_found();
    test_chip_with_more_files_than_are_read_says_so();
    test_nothing_there_or_no_access_says_so();
    return HARNESS_RESULT();
}
