/* SPDX-License-Identifier: Apache-2.0
 *
 * Every status has a name and a phrase, errors are filled and bounded, and the clocks of an anchor belong
 * together.
 */
#include "core/source.h"
#include "harness.h"

static void test_status_every_code_named(void)
{
    for (int status = PS_E_FULL; status <= PS_OK; status++) {
        CHECK(strcmp("PS_E_UNKNOWN", ps_status_name(status)) != 0);
        CHECK(strlen(ps_status_text(status)) > 0);
    }
    CHECK_TEXT("PS_E_UNKNOWN", ps_status_name(1));
    CHECK_TEXT("unknown", ps_status_text(PS_E_FULL - 1));
    CHECK(strlen(ps_version()) > 0);
}

static void test_fail_long_text_cut_not_overrun(void)
{
    char text[1000];
    memset(text, 'x', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    ps_error error;
    CHECK_EQ(PS_E_VENDOR, ps_fail(&error, PS_E_VENDOR, 15, text, "%s", text));
    CHECK_EQ(PS_E_VENDOR, error.status);
    CHECK_EQ(15, error.vendor);
    CHECK_EQ(sizeof error.call - 1, strlen(error.call));
    CHECK_EQ(sizeof error.text - 1, strlen(error.text));
    CHECK_EQ(PS_E_STATE, ps_fail(NULL, PS_E_STATE, 0, "call", "text"));
}

static void test_anchor_monotonic_within_its_width(void)
{
    CHECK_EQ(PS_E_INVALID, ps_clock_anchor(NULL));
    int64_t before = ps_clock_now_ns();
    ps_anchor anchor;
    CHECK_EQ(PS_OK, ps_clock_anchor(&anchor));
    int64_t after = ps_clock_now_ns();
    CHECK(before <= anchor.monotonic_ns && anchor.monotonic_ns <= after);
    CHECK(anchor.width_ns >= 0 && anchor.width_ns <= after - before);
    CHECK(anchor.boottime_ns > 0);
    CHECK(anchor.realtime_ns > INT64_C(1500000000000000000));
    CHECK(anchor.monotonic_raw_ns > 0);
}

int main(void)
{
    test_status_every_code_named();
    test_fail_long_text_cut_not_overrun();
    test_anchor_monotonic_within_its_width();
    return HARNESS_RESULT();
}
