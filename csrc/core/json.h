/* SPDX-License-Identifier: Apache-2.0
 *
 * JSON out: a growing text, and the public structs as objects whose members are named like the struct's.
 * Memory trouble is remembered in `failed`, so that a writer checks once at the end. Never used by a lane's
 * thread.
 */
#ifndef PS_JSON_H
#define PS_JSON_H

#include <stdbool.h>
#include <stddef.h>

#include "powersample.h"

typedef struct ps_text {
    char *data; /* NUL-terminated once anything was added */
    size_t used, size;
    bool failed;
} ps_text;

void ps_text_free(ps_text *text);
void ps_text_clear(ps_text *text);
void ps_text_add(ps_text *text, const char *format, ...) __attribute__((format(printf, 2, 3)));

void ps_json_string(ps_text *text, const char *value); /* quoted and escaped; what is no UTF-8 becomes U+FFFD */
void ps_json_double(ps_text *text, double value);      /* null when not finite */
void ps_json_anchor(ps_text *text, const ps_anchor *anchor); /* members only, no braces */
void ps_json_channel(ps_text *text, const ps_channel *channel);
void ps_json_lane(ps_text *text, const ps_lane_stats *lane);      /* what is fixed at start */
void ps_json_lane_stats(ps_text *text, const ps_lane_stats *lane, bool histograms); /* everything, or without those */

#endif
