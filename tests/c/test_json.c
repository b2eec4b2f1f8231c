/* SPDX-License-Identifier: Apache-2.0
 *
 * What goes into the spool's lines is JSON, whatever names, figures and locale the host program brings along.
 */
#include <locale.h>
#include <math.h>

#include "core/json.h"
#include "harness.h"

static void test_string_specials_escaped(void)
{
    ps_text text = {0};
    ps_json_string(&text, "a\"b\\c\n\x01\xc3\xa9");
    CHECK(!text.failed);
    CHECK(strcmp("\"a\\\"b\\\\c\\u000a\\u0001\xc3\xa9\"", text.data) == 0);
    ps_text_free(&text);
}

/* Firmware writes labels in whatever it likes, and a name may be cut within a character. */
static void test_string_that_is_no_utf8_is_marked_and_the_rest_kept(void)
{
    static const struct {
        const char *value, *expected;
    } cases[] = {
        {"\xb5W 12", "\"\\ufffdW 12\""},                           /* Latin-1 */
        {"\xe2\x82", "\"\\ufffd\\ufffd\""},                       /* cut */
        {"\xc0\xaf", "\"\\ufffd\\ufffd\""},                       /* longer than need be */
        {"\xed\xa0\x80", "\"\\ufffd\\ufffd\\ufffd\""},           /* half of a pair */
        {"\xf4\x90\x80\x80", "\"\\ufffd\\ufffd\\ufffd\\ufffd\""}, /* beyond the last */
        {"\xe2\x82\xac\xf0\x9f\x94\x8c", "\"\xe2\x82\xac\xf0\x9f\x94\x8c\""},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        ps_text text = {0};
        ps_json_string(&text, cases[i].value);
        CHECK(strcmp(cases[i].expected, text.data) == 0);
        ps_text_free(&text);
    }
}

static void test_double_survives_locale_and_non_finite(void)
{
    static const char *const locales[] = {"C", "de_DE.UTF-8", "fr_FR.UTF-8"}; /* those that exist */
    for (int i = 0; i < 3; i++) {
        setlocale(LC_NUMERIC, locales[i]);
        ps_text text = {0};
        ps_json_double(&text, 0.1);
        ps_text_add(&text, " ");
        ps_json_double(&text, -1e300);
        ps_text_add(&text, " ");
        ps_json_double(&text, (double)NAN);
        ps_json_double(&text, (double)INFINITY);
        setlocale(LC_NUMERIC, "C");
        CHECK(strcmp("0.10000000000000001 -1.0000000000000001e+300 nullnull", text.data) == 0);
        ps_text_free(&text);
    }
}

static void test_text_grows_and_is_reused(void)
{
    ps_text text = {0};
    for (int round = 0; round < 2; round++) {
        ps_text_clear(&text);
        for (int i = 0; i < 20000; i++)
            ps_text_add(&text, "%05d", i);
        CHECK_EQ(100000, text.used);
        CHECK_EQ(100000, strlen(text.data));
        CHECK(memcmp(text.data + 5 * 12345, "12345", 5) == 0);
    }
    ps_text_free(&text);
}

static void test_lane_stats_errors_listed(void)
{
    ps_lane_stats stats = {.name = "nvml:gpu0", .rate_hz = (double)NAN, .n_errors = 2, .error_code = {15, 999},
                           .error_count = {1, 7}, .call_hist = {[39] = 5}};
    ps_text text = {0};
    ps_json_lane_stats(&text, &stats, true);
    CHECK_TEXT("{\"name\":\"nvml:gpu0\",", text.data);
    CHECK_TEXT("\"rate_hz\":null,", text.data);
    CHECK_TEXT("\"error_code\":[15,999],\"error_count\":[1,7],\"call_hist\":[0,", text.data);
    CHECK_TEXT(",0,5],\"wake_hist\":[0,", text.data);
    CHECK_EQ('}', text.data[text.used - 1]);
    ps_text_free(&text);
}

static void test_channel_says_what_its_times_are(void)
{
    ps_channel channel = {.name = "gpu0.power.driver", .kind = PS_KIND_POWER, .stamp = PS_STAMP_INSTANT};
    ps_text text = {0};
    ps_json_channel(&text, &channel);
    CHECK_TEXT("\"stamp\":\"instant\"", text.data);
    channel.stamp = PS_STAMP_BRACKET;
    ps_text_clear(&text);
    ps_json_channel(&text, &channel);
    CHECK_TEXT("\"stamp\":\"bracket\"", text.data);
    ps_text_free(&text);
}

static void test_channel_says_over_what_its_values_average(void)
{
    ps_channel channel = {.name = "module-0.power.average", .kind = PS_KIND_POWER, .span_ns = 50000000};
    ps_text text = {0};
    ps_json_channel(&text, &channel);
    CHECK_TEXT("\"span\":\"fixed\",\"span_ns\":50000000,\"modulus\":null}", text.data);
    channel.span_ns = 0;
    ps_text_clear(&text);
    ps_json_channel(&text, &channel);
    CHECK(!strstr(text.data, "span"));
    ps_text_free(&text);
}

int main(void)
{
    test_channel_says_what_its_times_are();
    test_channel_says_over_what_its_values_average();
    test_string_specials_escaped();
    test_string_that_is_no_utf8_is_marked_and_the_rest_kept();
    test_double_survives_locale_and_non_finite();
    test_text_grows_and_is_reused();
    test_lane_stats_errors_listed();
    return HARNESS_RESULT();
}
