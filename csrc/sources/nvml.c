/* SPDX-License-Identifier: Apache-2.0
 *
 * One GPU as a source: which of its quantities this driver and board answer, and the way back when the device
 * or the driver went away. A group is one NVML call. The quick power values (fields 186 and 185, GPU and
 * module) come from one call together, so they belong to one instant; everything else has its own.
 */
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sources/nvml_source.h"

enum { UNKNOWN_PASSES = 5 /* so many passes of nothing but NVML's "unknown error" count as a lost device */ };

#define NVML_REPEAT_HZ 1.0 /* of a channel that repeats another */

static const int64_t BACKOFF_MIN_NS = INT64_C(250000000), BACKOFF_MAX_NS = INT64_C(30000000000);

static uint32_t nvml_read(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out)
{
    nvml_source *self = (nvml_source *)source;
    self->pass = pass; /* what earlier passes noted is past by that alone */
    const nvml_call *call = &self->calls[group];
    out->channel = call->channel;
    return call->read(self, call, out);
}

/* ---- the way back ---- */

/* One more nvmlInit, the handle anew, and a reading to prove it. What does not prove itself is undone. */
static bool reopen(nvml_source *self)
{
    /* By another part of the process that shut it down once too often, or by a driver reload. */
    const bool forgotten = self->trouble == NV_UNINITIALIZED;
    if (self->api->init() != NV_OK)
        return false;
    nv_device device;
    nv_return code = self->uuid[0] && self->api->handle_by_uuid
                         ? self->api->handle_by_uuid(self->uuid, &device)
                         : self->api->handle_by_index(self->index, &device);
    if (code == NV_OK) {
        ps_reading proof[PS_GROUP_MAX];
        self->device = device;
        self->answered_pass = NVML_NO_PASS;
        (void)self->calls[0].read(self, &self->calls[0], proof);
        if (self->answered_pass == self->pass) {
            self->era = nvml_init_count(self->nvml, forgotten, self->era);
            return true;
        }
    }
    if (self->api->shutdown)
        (void)self->api->shutdown();
    return false;
}

static int nvml_recover(ps_source *source, int64_t now_ns)
{
    nvml_source *self = (nvml_source *)source;
    bool nothing = self->answered_pass != self->pass;
    if (!nothing || self->trouble != NV_UNKNOWN)
        self->unknown_passes = 0;
    else if (self->pass == self->unknown_pass + 1)
        self->unknown_passes++;
    else /* passes without trouble do not come by here */
        self->unknown_passes = 1;
    self->unknown_pass = self->pass;
    bool gone = nvml_means_gone(self->trouble) || self->unknown_passes >= UNKNOWN_PASSES;
    if (!nothing || !gone || now_ns < self->next_try_ns)
        return 0;
    /* A device that keeps coming and going is not asked more often than one that stays away. */
    if (!self->backoff_ns || now_ns - self->last_try_ns > 2 * BACKOFF_MAX_NS)
        self->backoff_ns = BACKOFF_MIN_NS;
    self->last_try_ns = now_ns;
    self->next_try_ns = now_ns + self->backoff_ns;
    self->backoff_ns = self->backoff_ns < BACKOFF_MAX_NS / 2 ? 2 * self->backoff_ns : BACKOFF_MAX_NS;
    return reopen(self);
}

static void nvml_source_free(ps_source *source)
{
    ps_nvml_close(((nvml_source *)source)->nvml);
    free(((nvml_source *)source)->ring);
    free(source);
}

static const struct ps_source_ops nvml_ops = {
    .read = nvml_read, .recover = nvml_recover, .free = nvml_source_free};

/* ---- what there is to read ---- */

static bool has_symbol(const nv_api *api, size_t offset)
{
    void *address;
    memcpy(&address, (const char *)api + offset, sizeof address);
    return address != NULL;
}

/* Codes at opening that mean "there is no such thing here"; any other may pass, and the channel stays. */
static bool means_absent(uint16_t status)
{
    return status == NV_NOT_SUPPORTED || status == NV_FUNCTION_NOT_FOUND || status == NV_INVALID_ARGUMENT ||
           status == PS_NVML_UNANSWERED;
}

static void add_channel(nvml_source *self, const nvml_channel_row *row, int32_t kind)
{
    ps_channel *channel = &self->channels[self->base.n_channels++];
    bool module = strncmp(row->name, "module.", 7) == 0;
    snprintf(channel->name, sizeof channel->name, "gpu%u.%s", self->index, row->name);
    snprintf(channel->device, sizeof channel->device, "%s", self->uuid[0] ? self->uuid : self->base.name + 5);
    snprintf(channel->domain, sizeof channel->domain, "%s", module ? "module" : "gpu");
    snprintf(channel->unit, sizeof channel->unit, "%s", row->unit);
    snprintf(channel->sensor, sizeof channel->sensor, "%s", row->sensor);
    channel->scale = row->scale;
    channel->kind = kind;
    channel->group = self->base.n_groups;
    channel->divisor = 1;
}

static void add_group(nvml_source *self, const nvml_call *call, double max_hz)
{
    self->calls[self->base.n_groups] = *call;
    self->groups[self->base.n_groups].max_hz = max_hz;
    self->groups[self->base.n_groups].divisor = 1;
    self->base.n_groups++;
}

/* Offers the row's channels unless the device says that it has none; false then. */
static bool offer_at(nvml_source *self, const nvml_call_row *row, double max_hz)
{
    nvml_call call = {.read = row->read, .channel = (uint16_t)self->base.n_channels};
    ps_reading probe[PS_GROUP_MAX];
    if (!has_symbol(self->api, row->symbol))
        return false;
    (void)row->read(self, &call, probe);
    if (means_absent(probe[0].status))
        return false;
    for (uint32_t i = 0; i < row->n_channels; i++)
        add_channel(self, &row->channels[i], row->kind);
    add_group(self, &call, max_hz);
    return true;
}

static bool offer(nvml_source *self, const nvml_call_row *row)
{
    return offer_at(self, row, row->max_hz);
}

/* Power usage is field 185 or 186 over again, by board and driver: where those are read, a look each second tells
 * which, and more would halve their rate under the budget. */
static void offer_power_usage(nvml_source *self)
{
    bool repeats = self->base.n_groups > 0; /* the fields' call comes first */
    (void)offer_at(self, &nvml_power_call, repeats ? NVML_REPEAT_HZ : nvml_power_call.max_hz);
}

/* Reads the fields once; false when none was answered. */
static bool probe_fields(nvml_source *self, const nvml_call *call, ps_reading *probe)
{
    const uint32_t n = nvml_read_fields(self, call, probe);
    for (uint32_t i = 0; i < n; i++)
        if (probe[i].status == 0)
            return true;
    return false;
}

/* One call for the power fields that are there. The module's only when it answers: most boards have none. */
static void offer_power_fields(nvml_source *self)
{
    nvml_call all = {.read = nvml_read_fields, .n_fields = NVML_FIELDS_MAX};
    nvml_call call = {.read = nvml_read_fields, .channel = (uint16_t)self->base.n_channels};
    ps_reading probe[PS_GROUP_MAX];
    if (!self->api->field_values)
        return;
    for (uint32_t i = 0; i < NVML_FIELDS_MAX; i++) {
        all.field[i].id = nvml_power_fields[i].id;
        all.field[i].scope = nvml_power_fields[i].scope;
    }
    if (!probe_fields(self, &all, probe)) /* some libraries refuse the call for one entry that they do not know */
        for (uint32_t i = 0; i < NVML_FIELDS_MAX; i++) {
            nvml_call one = {.read = nvml_read_fields, .n_fields = 1, .field = {all.field[i]}};
            (void)probe_fields(self, &one, &probe[i]);
        }
    for (uint32_t i = 0; i < NVML_FIELDS_MAX; i++) {
        if (means_absent(probe[i].status) || (nvml_power_fields[i].scope != NV_SCOPE_GPU && probe[i].status))
            continue;
        call.field[call.n_fields++] = all.field[i];
        add_channel(self, &nvml_power_fields[i].channel, PS_KIND_POWER);
    }
    if (!call.n_fields)
        return;
    if (nvml_fields_are_stamped(self, &call)) {
        const char *first = strchr(self->channels[call.channel].name, '.') + 1;
        char name[sizeof self->channels[0].name];
        snprintf(name, sizeof name, "%s.stamp", first);
        nvml_channel_row row = {name, "s", "nvml.field.timestamp", 1e-6}; /* of the wall clock */
        add_channel(self, &row, PS_KIND_AUX);
        call.read = nvml_read_stamped_fields;
    }
    add_group(self, &call, nvml_power_call.max_hz);
}

/* What the driver samples by itself, at its own instants. */
static void offer_samples(nvml_source *self)
{
    static const nvml_channel_row row = {"power.driver", "W", "nvml.samples", 1e-3};
    nvml_call call = {.read = nvml_read_samples, .channel = (uint16_t)self->base.n_channels};
    double hz;
    if (!nvml_samples_open(self, &hz))
        return;
    add_channel(self, &row, PS_KIND_POWER);
    self->channels[call.channel].stamp = PS_STAMP_INSTANT;
    add_group(self, &call, hz);
}

static void offer_energy(nvml_source *self)
{
    if (offer(self, &nvml_energy_call) || !self->api->field_values)
        return;
    nvml_call call = {.read = nvml_read_fields, .channel = (uint16_t)self->base.n_channels, .n_fields = 1};
    ps_reading probe[PS_GROUP_MAX];
    call.field[0].id = nvml_energy_field.id;
    call.field[0].scope = nvml_energy_field.scope;
    (void)nvml_read_fields(self, &call, probe);
    if (means_absent(probe[0].status))
        return;
    add_channel(self, &nvml_energy_field.channel, PS_KIND_ENERGY);
    add_group(self, &call, nvml_energy_call.max_hz);
}

int ps_nvml_source_new(ps_nvml *nvml, uint32_t index, ps_source **out, ps_error *error)
{
    if (!nvml || !out)
        return ps_fail(error, PS_E_INVALID, 0, "ps_nvml_source_new", "no library, or nowhere to return it");
    nvml_source *self = calloc(1, sizeof *self);
    if (!self)
        return ps_fail(error, PS_E_NOMEM, 0, "ps_nvml_source_new", "gpu%u", index);
    nvml_hold(nvml);
    self->nvml = nvml;
    self->api = &nvml->api;
    self->index = index;
    self->answered_pass = NVML_NO_PASS;
    /* relaxed: as in nvml_init_count. */
    self->era = (uint32_t)(atomic_load_explicit(&nvml->inits, memory_order_relaxed) >> 32);
    self->base =
        (ps_source){.ops = &nvml_ops, .channels = self->channels, .groups = self->groups, .driver = "nvml"};
    snprintf(self->base.name, sizeof self->base.name, "nvml:gpu%u", index);

    int status = PS_OK;
    nv_return code = self->api->handle_by_index(index, &self->device);
    if (code != NV_OK) {
        status = nvml_fail(nvml, error, code, "nvmlDeviceGetHandleByIndex_v2", self->base.name + 5);
        goto out;
    }
    if (!self->api->uuid || self->api->uuid(self->device, self->uuid, sizeof self->uuid) != NV_OK)
        self->uuid[0] = 0;
    offer_power_fields(self);
    offer_power_usage(self);
    offer_energy(self);
    if (self->base.n_channels == 0) {
        status = ps_fail(error, PS_E_UNSUPPORTED, NV_NOT_SUPPORTED, "ps_nvml_source_new",
                         "%s offers neither power nor energy through NVML", self->base.name + 5);
        goto out;
    }
    for (uint32_t i = 0; i < nvml_n_aux_calls; i++)
        (void)offer(self, &nvml_aux_calls[i]);
    offer_samples(self);
    *out = &self->base;
    return PS_OK;
out:
    nvml_source_free(&self->base);
    return status;
}
