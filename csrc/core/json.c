/* SPDX-License-Identifier: Apache-2.0
 *
 * See json.h.
 */
#include <inttypes.h>
#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/json.h"

enum { FIRST_SIZE = 4096 };

void ps_text_free(ps_text *text)
{
    free(text->data);
    *text = (ps_text){0};
}

void ps_text_clear(ps_text *text)
{
    text->used = 0;
    text->failed = false;
}

static bool reserve(ps_text *text, size_t more)
{
    size_t size = text->size ? text->size : FIRST_SIZE;
    while (size - text->used <= more)
        size *= 2;
    if (size != text->size) {
        char *data = realloc(text->data, size);
        if (!data) {
            text->failed = true;
            return false;
        }
        text->data = data;
        text->size = size;
    }
    return true;
}

void ps_text_add(ps_text *text, const char *format, ...)
{
    va_list arguments, again;
    va_start(arguments, format);
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, arguments);
    if (length >= 0 && !text->failed && reserve(text, (size_t)length)) {
        vsnprintf(text->data + text->used, (size_t)length + 1, format, again);
        text->used += (size_t)length;
    } else {
        text->failed = true;
    }
    va_end(again);
    va_end(arguments);
}

/* Bytes of the UTF-8 character that begins at c (Unicode 15, table 3-7); 0 where none does. */
static int character(const char *c)
{
    static const struct {
        unsigned char first, last, second_first, second_last;
        int bytes;
    } forms[] = {
        {0xC2, 0xDF, 0x80, 0xBF, 2}, {0xE0, 0xE0, 0xA0, 0xBF, 3}, {0xE1, 0xEC, 0x80, 0xBF, 3},
        {0xED, 0xED, 0x80, 0x9F, 3}, {0xEE, 0xEF, 0x80, 0xBF, 3}, {0xF0, 0xF0, 0x90, 0xBF, 4},
        {0xF1, 0xF3, 0x80, 0xBF, 4}, {0xF4, 0xF4, 0x80, 0x8F, 4},
    };
    const unsigned char *at = (const unsigned char *)c;
    if (at[0] < 0x80)
        return 1;
    for (size_t i = 0; i < sizeof forms / sizeof forms[0]; i++) {
        if (at[0] < forms[i].first || at[0] > forms[i].last)
            continue;
        if (at[1] < forms[i].second_first || at[1] > forms[i].second_last)
            return 0;
        for (int j = 2; j < forms[i].bytes; j++)
            if ((at[j] & 0xC0) != 0x80) /* the end of the string, too */
                return 0;
        return forms[i].bytes;
    }
    return 0;
}

void ps_json_string(ps_text *text, const char *value)
{
    ps_text_add(text, "\"");
    for (const char *c = value; *c;) {
        const int bytes = character(c);
        if (*c == '"' || *c == '\\')
            ps_text_add(text, "\\%c", *c);
        else if ((unsigned char)*c < 0x20)
            ps_text_add(text, "\\u%04x", (unsigned)*c);
        else if (bytes)
            ps_text_add(text, "%.*s", bytes, c);
        else /* a label of firmware's, or one that was cut: no reader may stumble over a whole recording's header */
            ps_text_add(text, "\\ufffd");
        c += bytes ? bytes : 1;
    }
    ps_text_add(text, "\"");
}

void ps_json_double(ps_text *text, double value)
{
    if (!isfinite(value)) {
        ps_text_add(text, "null");
        return;
    }
    char digits[32];
    snprintf(digits, sizeof digits, "%.17g", value);
    /* The host program may have set a locale that writes a comma. */
    for (char *c = digits; *c; c++)
        if (!strchr("0123456789+-e", *c))
            *c = '.';
    ps_text_add(text, "%s", digits);
}

static void string_member(ps_text *text, const char *name, const char *value)
{
    ps_text_add(text, "\"%s\":", name);
    ps_json_string(text, value);
    ps_text_add(text, ",");
}

static void double_member(ps_text *text, const char *name, double value)
{
    ps_text_add(text, "\"%s\":", name);
    ps_json_double(text, value);
    ps_text_add(text, ",");
}

static void array_member(ps_text *text, const char *name, const uint64_t *values, uint32_t count)
{
    ps_text_add(text, ",\"%s\":[", name);
    for (uint32_t i = 0; i < count; i++)
        ps_text_add(text, "%s%" PRIu64, i ? "," : "", values[i]);
    ps_text_add(text, "]");
}

void ps_json_anchor(ps_text *text, const ps_anchor *anchor)
{
    ps_text_add(text,
                "\"monotonic_ns\":%" PRId64 ",\"monotonic_raw_ns\":%" PRId64 ",\"realtime_ns\":%" PRId64
                ",\"boottime_ns\":%" PRId64 ",\"width_ns\":%" PRId64,
                anchor->monotonic_ns, anchor->monotonic_raw_ns, anchor->realtime_ns, anchor->boottime_ns,
                anchor->width_ns);
}

void ps_json_channel(ps_text *text, const ps_channel *channel)
{
    ps_text_add(text, "{");
    string_member(text, "name", channel->name);
    string_member(text, "device", channel->device);
    string_member(text, "domain", channel->domain);
    string_member(text, "unit", channel->unit);
    string_member(text, "sensor", channel->sensor);
    double_member(text, "scale", channel->scale);
    string_member(text, "stamp", channel->stamp == PS_STAMP_INSTANT ? "instant" : "bracket");
    ps_text_add(text, "\"kind\":%d,\"lane\":%u,\"group\":%u,\"divisor\":%u,\"id\":%u,", channel->kind, channel->lane,
                channel->group, channel->divisor, channel->id);
    if (channel->span_ns)
        ps_text_add(text, "\"span\":\"fixed\",\"span_ns\":%" PRId64 ",", channel->span_ns);
    if (channel->modulus)
        ps_text_add(text, "\"modulus\":%" PRIu64 "}", channel->modulus);
    else
        ps_text_add(text, "\"modulus\":null}");
}

static void lane_members(ps_text *text, const ps_lane_stats *lane)
{
    string_member(text, "name", lane->name);
    string_member(text, "driver", lane->driver);
    string_member(text, "note", lane->note);
    double_member(text, "rate_hz", lane->rate_hz);
    double_member(text, "call_cost_ns", lane->call_cost_ns);
    ps_text_add(text,
                "\"mode\":%d,\"rate_origin\":%d,\"period_ns\":%" PRId64 ",\"lead_ns\":%" PRId64
                ",\"start_ns\":%" PRId64 ",\"cpu\":%d,\"cpu_errno\":%d,\"fifo_priority\":%d,\"fifo_refusal\":%d"
                ",\"fifo_errno\":%d,\"unfollowed\":%d",
                lane->mode, lane->rate_origin, lane->period_ns, lane->lead_ns, lane->start_ns, lane->cpu,
                lane->cpu_errno, lane->fifo_priority, lane->fifo_refusal, lane->fifo_errno, lane->unfollowed);
}

void ps_json_lane(ps_text *text, const ps_lane_stats *lane)
{
    ps_text_add(text, "{");
    lane_members(text, lane);
    ps_text_add(text, "}");
}

void ps_json_lane_stats(ps_text *text, const ps_lane_stats *lane, bool histograms)
{
    ps_text_add(text, "{");
    lane_members(text, lane);
    ps_text_add(text,
                ",\"state\":%d,\"slots\":%" PRIu64 ",\"passes\":%" PRIu64 ",\"skipped\":%" PRIu64
                ",\"records\":%" PRIu64 ",\"dropped\":%" PRIu64 ",\"drained\":%" PRIu64 ",\"in_ring\":%" PRIu64
                ",\"reopens\":%" PRIu64 ",\"last_ns\":%" PRId64 ",\"cpu_ns\":%" PRId64 ",\"n_errors\":%u"
                ",\"error_other\":%" PRIu64 ",\"updates\":%" PRIu64 ",\"acquisitions\":%" PRIu64,
                lane->state, lane->slots, lane->passes, lane->skipped, lane->records, lane->dropped, lane->drained,
                lane->in_ring, lane->reopens, lane->last_ns, lane->cpu_ns, lane->n_errors, lane->error_other,
                lane->updates, lane->acquisitions);
    uint64_t followed[2][PS_FOLLOWED_MAX];
    for (uint32_t i = 0; i < lane->n_followed; i++) {
        followed[0][i] = lane->followed_channel[i];
        followed[1][i] = (uint64_t)lane->followed_period_ns[i];
    }
    array_member(text, "followed_channel", followed[0], lane->n_followed);
    array_member(text, "followed_period_ns", followed[1], lane->n_followed);
    uint64_t codes[PS_ERROR_CODES];
    for (uint32_t i = 0; i < lane->n_errors; i++)
        codes[i] = lane->error_code[i];
    array_member(text, "error_code", codes, lane->n_errors);
    array_member(text, "error_count", lane->error_count, lane->n_errors);
    if (histograms) {
        array_member(text, "call_hist", lane->call_hist, PS_HIST_BINS);
        array_member(text, "wake_hist", lane->wake_hist, PS_HIST_BINS);
    }
    ps_text_add(text, "}");
}
