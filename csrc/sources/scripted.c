/* SPDX-License-Identifier: Apache-2.0
 *
 * A device made of a table, for tests of everything behind a source. A reading depends on the channel and the
 * number of the pass alone, so that a test can say what every record must be.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "core/clock.h"
#include "core/source.h"

enum {
    CHANNELS_MAX = 64,
    BUSY_BELOW_NS = 100 * 1000, /* a sleep is late by about this much */
};

typedef struct script_track {
    const ps_script_step *steps;
    uint32_t n_steps;
    uint32_t current; /* step of the last pass: passes mostly ascend, so the search starts here */
} script_track;

typedef struct scripted {
    ps_source base; /* first */
    ps_script script;
    ps_script_step *steps; /* sorted by channel, then pass */
    script_track tracks[CHANNELS_MAX];
    ps_channel channels[CHANNELS_MAX];
    ps_group groups[CHANNELS_MAX];
} scripted;

static void stall(int64_t duration_ns)
{
    int64_t end_ns = ps_clock_now_ns() + duration_ns;
    if (duration_ns >= BUSY_BELOW_NS)
        ps_clock_sleep_until(end_ns);
    while (ps_clock_now_ns() < end_ns)
        ;
}

static const ps_script_step *find_step(script_track *track, uint64_t pass)
{
    if (track->steps[track->current].pass > pass)
        track->current = 0;
    while (track->current + 1 < track->n_steps && track->steps[track->current + 1].pass <= pass)
        track->current++;
    return &track->steps[track->current];
}

static uint32_t scripted_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    scripted *self = (scripted *)source;
    if (self->script.repeat_passes)
        pass %= self->script.repeat_passes;
    const ps_script_step *step = find_step(&self->tracks[group], pass);
    if (step->stall_ns > 0)
        stall(step->stall_ns);

    /* Unsigned, where running over is defined: modulo 2^64, then into the script's modulus. */
    int64_t raw = (int64_t)((uint64_t)step->raw + (uint64_t)step->raw_step * (pass - step->pass));
    if (self->script.raw_modulus) {
        int64_t modulus = (int64_t)self->script.raw_modulus;
        raw = (raw % modulus + modulus) % modulus;
    }
    out->raw = raw;
    out->channel = (uint16_t)group;
    out->status = step->status;
    return 1;
}

static void scripted_free(ps_source *source)
{
    free(((scripted *)source)->steps);
    free(source);
}

static const struct ps_source_ops scripted_ops = {.read = scripted_read, .free = scripted_free};

static int by_channel_and_pass(const void *left, const void *right)
{
    const ps_script_step *a = left, *b = right;
    if (a->channel != b->channel)
        return a->channel < b->channel ? -1 : 1;
    return (a->pass > b->pass) - (a->pass < b->pass);
}

static int check_script(const char *device, const ps_script *script, ps_error *error)
{
    const char *call = "ps_source_scripted_new";
    if (!device[0] || strlen(device) >= 40)
        return ps_fail(error, PS_E_INVALID, 0, call, "device: 1 to 39 characters, not \"%s\"", device);
    if (script->channels < 1 || script->channels > CHANNELS_MAX)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: channels: 1 to %d, not %u", device, CHANNELS_MAX,
                       script->channels);
    if (script->kind < PS_KIND_POWER || script->kind > PS_KIND_AUX)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: no such kind: %u", device, script->kind);
    if (script->raw_modulus > INT64_MAX / 2)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: raw_modulus beyond 2^62", device);
    if (!isfinite(script->scale) || !isfinite(script->max_hz) || script->max_hz <= 0)
        return ps_fail(error, PS_E_INVALID, 0, call, "%s: scale must be finite, max_hz above 0", device);
    return PS_OK;
}

/* Cuts the sorted steps into one track a channel. Each must begin at pass 0 and ascend: no reading is left
 * undefined. */
static int cut_tracks(scripted *self, uint32_t n_steps, ps_error *error)
{
    const char *call = "ps_source_scripted_new";
    for (uint32_t i = 0; i < n_steps; i++) {
        const ps_script_step *step = &self->steps[i];
        if (step->channel >= self->script.channels)
            return ps_fail(error, PS_E_INVALID, 0, call, "step for channel %u of %u", step->channel,
                           self->script.channels);
        if (self->script.repeat_passes && step->pass >= self->script.repeat_passes)
            return ps_fail(error, PS_E_INVALID, 0, call, "channel %u: step at pass %llu, beyond repeat_passes",
                           step->channel, (unsigned long long)step->pass);
        script_track *track = &self->tracks[step->channel];
        if (track->n_steps && step->pass == step[-1].pass)
            return ps_fail(error, PS_E_INVALID, 0, call, "channel %u: two steps at pass %llu", step->channel,
                           (unsigned long long)step->pass);
        if (track->n_steps++ == 0)
            track->steps = step;
    }
    for (uint32_t i = 0; i < self->script.channels; i++)
        if (!self->tracks[i].n_steps || self->tracks[i].steps[0].pass != 0)
            return ps_fail(error, PS_E_INVALID, 0, call, "channel %u has no step at pass 0", i);
    return PS_OK;
}

static void describe(scripted *self, const char *device)
{
    static const char *const kinds[] = {[PS_KIND_POWER] = "power", [PS_KIND_ENERGY] = "energy", [PS_KIND_AUX] = "aux"};
    static const char *const units[] = {[PS_KIND_POWER] = "W", [PS_KIND_ENERGY] = "J", [PS_KIND_AUX] = "1"};
    ps_source *base = &self->base;
    base->ops = &scripted_ops;
    base->simulated_time = 1;
    base->n_channels = base->n_groups = self->script.channels;
    base->channels = self->channels;
    base->groups = self->groups;
    snprintf(base->name, sizeof base->name, "script:%s", device);
    for (uint32_t i = 0; i < self->script.channels; i++) {
        ps_channel *channel = &self->channels[i];
        snprintf(channel->name, sizeof channel->name, "%s.%s%u", device, kinds[self->script.kind], i);
        snprintf(channel->device, sizeof channel->device, "%s", device);
        snprintf(channel->domain, sizeof channel->domain, "gpu");
        snprintf(channel->unit, sizeof channel->unit, "%s", units[self->script.kind]);
        snprintf(channel->sensor, sizeof channel->sensor, "scripted");
        channel->scale = self->script.scale;
        channel->modulus = self->script.raw_modulus;
        channel->kind = (int32_t)self->script.kind;
        channel->group = i;
        self->groups[i].max_hz = self->script.max_hz;
    }
}

int ps_source_scripted_new(const char *device, const ps_script *script, const ps_script_step *steps, uint32_t n_steps,
                           ps_source **out, ps_error *error)
{
    if (!device || !script || !steps || !n_steps || !out)
        return ps_fail(error, PS_E_INVALID, 0, "ps_source_scripted_new", "device, script and steps are needed");
    int status = check_script(device, script, error);
    if (status != PS_OK)
        return status;

    scripted *self = calloc(1, sizeof *self);
    ps_script_step *copy = malloc(n_steps * sizeof *copy);
    if (!self || !copy) {
        status = ps_fail(error, PS_E_NOMEM, 0, "malloc", "scripted source of %u steps", n_steps);
        goto out;
    }
    memcpy(copy, steps, n_steps * sizeof *copy);
    qsort(copy, n_steps, sizeof *copy, by_channel_and_pass);
    self->script = *script;
    self->steps = copy;
    status = cut_tracks(self, n_steps, error);
    if (status != PS_OK)
        goto out;
    describe(self, device);
    *out = &self->base;
    return PS_OK;
out:
    free(copy);
    free(self);
    return status;
}
