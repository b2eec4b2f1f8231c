/* SPDX-License-Identifier: Apache-2.0
 *
 * Chips of hwmon that sleep, fail, vanish, come back, take their time or are many.
 */
#include "hwmon_tree.h"

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
    test_sleeping_device_is_not_read_until_something_wakes_it();
    test_errors_of_the_driver_are_the_samples_status();
    test_chip_that_comes_back_under_another_number_is_found();
    test_chips_are_listed_once_and_the_others_not_at_all();
    test_power_among_a_hundred_other_chips_is_found();
    test_chip_with_more_files_than_are_read_says_so();
    test_nothing_there_or_no_access_says_so();
    return HARNESS_RESULT();
}
