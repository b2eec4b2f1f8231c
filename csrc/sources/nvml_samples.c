/* SPDX-License-Identifier: Apache-2.0
 *
 * What the driver itself samples and stamps: its ring of power samples (nvmlDeviceGetSamples) and the timestamps of
 * field values. Some drivers keep neither, some keep a ring that stands still, some stamp a field with the time of the
 * call: what is offered was first seen to live.
 */
#include <stdio.h>
#include <stdlib.h>

#include "core/clock.h"
#include "sources/nvml_source.h"

enum {
    RING_GUESS = 128, /* where the driver does not tell */
    RING_MAX = 1024,
    PROBE_NS = 150 * 1000 * 1000, /* sensors publish every 100 ms at the latest */
    PROBE_STEP_NS = 3 * 1000 * 1000,
    CALL_STAMPS = 3, /* so many stamps that are the call's own time: the rest will be, too */
    APART_US = 1500, /* from the time of the call; coarse clocks round to 1 ms */
    OLD_NS = 1000 * 1000 * 1000
};

#define READS_A_RING 3.0 /* a late read then loses nothing */

static const int64_t SILENT_NS = INT64_C(3000000000);

static int64_t realtime_us(void)
{
    return ps_clock_read(CLOCK_REALTIME) / 1000;
}

static void probe_pause(void)
{
    ps_clock_sleep_until(ps_clock_monotonic_ns() + PROBE_STEP_NS);
}

/* ---- timestamps of fields ---- */

bool nvml_fields_are_stamped(nvml_source *self, const nvml_call *call)
{
    const int64_t deadline_ns = ps_clock_monotonic_ns() + PROBE_NS;
    int64_t first_us = 0;
    bool apart = false, moved = false;
    for (int looks = 1; ps_clock_monotonic_ns() < deadline_ns; looks++) {
        ps_reading readings[PS_GROUP_MAX];
        const int64_t before_us = realtime_us();
        const uint32_t n = nvml_read_stamped_fields(self, call, readings);
        const int64_t after_us = realtime_us(), stamp_us = readings[n - 1].raw;
        if (readings[n - 1].status || stamp_us <= 0)
            return false;
        apart = apart || stamp_us < before_us - APART_US || stamp_us > after_us + APART_US;
        moved = moved || (first_us && stamp_us != first_us);
        first_us = first_us ? first_us : stamp_us;
        if (apart && moved)
            return true;
        if (!apart && looks == CALL_STAMPS)
            return false;
        probe_pause();
    }
    return false;
}

/* ---- the ring ---- */

/* By insertion: a ring comes in order, or in two parts that are. */
static void sort_by_stamp(nv_sample *samples, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        const nv_sample one = samples[i];
        uint32_t at = i;
        for (; at > 0 && samples[at - 1].timestamp_us > one.timestamp_us; at--)
            samples[at] = samples[at - 1];
        samples[at] = one;
    }
}

/* What is newer than last_seen_us, oldest first. */
static nv_return fetch(nvml_source *self, uint32_t *type, uint32_t *count)
{
    *count = self->ring_capacity;
    const nv_return code =
        self->api->samples(self->device, NV_SAMPLES_TOTAL_POWER, self->last_seen_us, type, count, self->ring);
    if (code != NV_OK)
        *count = 0;
    else if (*count > self->ring_capacity)
        *count = self->ring_capacity;
    sort_by_stamp(self->ring, *count);
    return code;
}

static bool refuse(nvml_source *self, nv_return code, const char *why)
{
    const char *says = code && self->api->error_string ? self->api->error_string(code) : "";
    snprintf(self->base.note, sizeof self->base.note, "no power.driver: nvmlDeviceGetSamples %s%s", why, says);
    free(self->ring);
    self->ring = NULL;
    return false;
}

/* A first look: at least two samples, stamped by this machine's clock. Returns the spacing of samples, or 0. */
static double first_look(nvml_source *self)
{
    uint32_t type = 0, count = 0;
    ps_anchor anchor;
    const nv_return code = fetch(self, &type, &count);
    if (code != NV_OK) {
        (void)refuse(self, code, "says ");
        return 0;
    }
    uint32_t first = 0;
    while (first < count && self->ring[first].timestamp_us == 0)
        first++; /* places not filled yet */
    if (count < first + 2 || self->ring[first].timestamp_us == self->ring[count - 1].timestamp_us) {
        (void)refuse(self, NV_OK, "gives fewer than two samples");
        return 0;
    }
    const uint64_t oldest_us = self->ring[first].timestamp_us, newest_us = self->ring[count - 1].timestamp_us;
    (void)ps_clock_anchor(&anchor);
    (void)nvml_clock_anchor(&self->clock, anchor.realtime_ns, anchor.monotonic_ns);
    int64_t newest_ns;
    if (!nvml_clock_place(&self->clock, newest_us, anchor.monotonic_ns, &newest_ns) ||
        newest_ns < anchor.monotonic_ns - OLD_NS) {
        (void)refuse(self, NV_OK, "stamps with a clock that is not this machine's, or stands still");
        return 0;
    }
    self->last_seen_us = newest_us;
    return (double)(newest_us - oldest_us) * 1e-6 / (count - first - 1);
}

bool nvml_samples_open(nvml_source *self, double *hz)
{
    uint32_t type = 0, count = 0;
    if (!self->api->samples)
        return refuse(self, NV_OK, "is not in this library");
    nv_return code = self->api->samples(self->device, NV_SAMPLES_TOTAL_POWER, 0, &type, &count, NULL);
    if (code != NV_OK && code != NV_INSUFFICIENT_SIZE)
        return refuse(self, code, "says ");
    self->ring_capacity = count == 0 ? RING_GUESS : count < RING_MAX ? count : RING_MAX;
    self->ring = calloc(self->ring_capacity, sizeof *self->ring);
    if (!self->ring)
        return refuse(self, NV_OK, "finds no memory");
    const double spacing_s = first_look(self);
    if (!(spacing_s > 0))
        return false;
    const int64_t deadline_ns = ps_clock_monotonic_ns() + PROBE_NS;
    bool moved = false;
    while (!moved && ps_clock_monotonic_ns() < deadline_ns) {
        probe_pause();
        code = fetch(self, &type, &count);
        moved = count > 0 && self->ring[count - 1].timestamp_us > self->last_seen_us;
    }
    if (!moved)
        return refuse(self, NV_OK, "gives nothing new within 150 ms");
    /* Often enough for the ring, and for what one read may give. */
    const double most = self->ring_capacity < PS_GROUP_MAX ? self->ring_capacity : PS_GROUP_MAX;
    *hz = READS_A_RING / (spacing_s * most);
    self->base.stamps_ns = self->stamps_ns;
    return true;
}

static uint32_t say(nvml_source *self, const nvml_call *call, ps_reading *out, nv_return code, int64_t now_ns)
{
    nvml_give(self, out, call->channel, code, 0);
    self->stamps_ns[0] = now_ns;
    return 1 | PS_READ_STAMPED;
}

uint32_t nvml_read_samples(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    uint32_t type = 0, count = 0, n = 0, strange = 0;
    ps_anchor anchor;
    (void)ps_clock_anchor(&anchor);
    const int64_t now_ns = anchor.monotonic_ns;
    if (nvml_clock_anchor(&self->clock, anchor.realtime_ns, now_ns)) {
        self->last_seen_us = (uint64_t)(anchor.realtime_ns / 1000); /* only stamps of the clock as it is now */
        self->clock.newest_ns = now_ns;
        return say(self, call, out, PS_NVML_CLOCK_SET, now_ns);
    }
    const bool silent = now_ns - self->clock.newest_ns > SILENT_NS;
    if (silent)
        self->last_seen_us = 0; /* whatever there is: the driver's clock may have been the one that went back */
    const nv_return code = fetch(self, &type, &count);
    if (code == NV_NOT_FOUND && !silent)
        return 0; /* asked again before there was anything new */
    if (code != NV_OK)
        return say(self, call, out, code, now_ns);
    for (uint32_t i = 0; i < count && n < PS_GROUP_MAX; i++) {
        int64_t raw = 0;
        /* The call was made after the anchor: its newest sample may be younger. */
        if (!nvml_clock_place(&self->clock, self->ring[i].timestamp_us, ps_clock_monotonic_ns(), &self->stamps_ns[n])) {
            strange++;
            continue;
        }
        const bool known = nvml_value(&self->ring[i].value, type, &raw);
        nvml_give(self, &out[n++], call->channel, known ? NV_OK : PS_NVML_BAD_VALUE, raw);
        self->last_seen_us = self->ring[i].timestamp_us;
    }
    if (n)
        return n | PS_READ_STAMPED;
    return strange ? say(self, call, out, PS_NVML_BAD_STAMP, now_ns) : 0;
}
