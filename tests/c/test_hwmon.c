/* SPDX-License-Identifier: Apache-2.0
 *
 * What the hwmon source makes of the chips that the kernel documents.
 */
#include "hwmon_tree.h"

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

int main(void)
{
    test_ina3221_multiplies_voltage_and_current_of_a_rail();
    test_ina2xx_gives_power_and_energy_or_is_multiplied();
    test_acpi_meters_measure_what_their_firmware_says();
    test_acpi_meter_that_knows_nothing_is_no_power();
    test_amd_energy_has_packages_and_cores();
    test_gpus_have_one_device_and_an_apu_is_a_package();
    test_battery_power_is_signed_by_its_status();
    return HARNESS_RESULT();
}
