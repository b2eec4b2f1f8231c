/* SPDX-License-Identifier: Apache-2.0
 *
 * The NVML calls of a lane, one function each, and the table of what they give.
 *
 * An entry of nvmlDeviceGetFieldValues that the library leaves untouched must not be read as a value: each is
 * preset to an error before every call, and its union is read by the type that the library states.
 */
#include <math.h>
#include <stddef.h>

#include "sources/nvml_source.h"

bool nvml_means_gone(nv_return code)
{
    return code == NV_UNINITIALIZED || code == NV_DRIVER_NOT_LOADED || code == NV_GPU_IS_LOST ||
           code == NV_RESET_REQUIRED || code == NV_LIB_RM_VERSION_MISMATCH;
}

/* Kept out of the way of readings without trouble. */
__attribute__((noinline, cold)) static void note_trouble(nvml_source *self, ps_reading *out, nv_return code)
{
    out->status = code > 0 && code < UINT16_MAX ? (uint16_t)code : UINT16_MAX;
    if (self->trouble_pass != self->pass) {
        self->trouble_pass = self->pass;
        self->trouble = NV_OK;
    }
    if (nvml_means_gone(code) || (code == NV_UNKNOWN && !self->trouble))
        self->trouble = code;
}

static inline void give_value(nvml_source *self, ps_reading *out, nv_return code, int64_t raw)
{
    out->raw = raw;
    out->status = 0;
    if (__builtin_expect(code != NV_OK, 0))
        note_trouble(self, out, code);
    else
        self->answered_pass = self->pass;
}

static inline void give(nvml_source *self, ps_reading *out, uint32_t channel, nv_return code, int64_t raw)
{
    out->channel = (uint16_t)channel;
    give_value(self, out, code, raw);
}

void nvml_give(nvml_source *self, ps_reading *out, uint32_t channel, nv_return code, int64_t raw)
{
    give(self, out, channel, code, raw);
}

/* For calls of one reading, whose channel nvml_read has set. */
static inline uint32_t give_one(nvml_source *self, ps_reading *out, nv_return code, int64_t raw)
{
    give_value(self, out, code, raw);
    return 1;
}

bool nvml_value(const nv_value *value, uint32_t type, int64_t *raw)
{
    switch (type) {
    case NV_TYPE_DOUBLE:
        if (!(fabs(value->as_double) < 9e18))
            return false;
        *raw = llround(value->as_double);
        return true;
    case NV_TYPE_U32:
        *raw = value->as_u32;
        return true;
    case NV_TYPE_ULONG:
    case NV_TYPE_U64:
        *raw = (int64_t)value->as_u64;
        return true;
    case NV_TYPE_S64:
        *raw = value->as_s64;
        return true;
    case NV_TYPE_S32:
        *raw = value->as_s32;
        return true;
    case NV_TYPE_U16:
        *raw = value->as_u16;
        return true;
    default:
        return false;
    }
}

static nv_return field_raw(const nv_field_value *entry, int64_t *raw)
{
    if (entry->code != NV_OK)
        return entry->code;
    return nvml_value(&entry->value, entry->value_type, raw) ? NV_OK : PS_NVML_BAD_VALUE;
}

/* `stamped` is a constant where this is inlined. */
static inline uint32_t read_fields(nvml_source *self, const nvml_call *call, ps_reading *out, bool stamped)
{
    nv_field_value entries[NVML_FIELDS_MAX];
    for (uint32_t i = 0; i < call->n_fields; i++)
        entries[i] = (nv_field_value){
            .field = call->field[i].id, .scope = call->field[i].scope, .code = PS_NVML_UNANSWERED};
    nv_return code = self->api->field_values(self->device, call->n_fields, entries);
    for (uint32_t i = 0; i < call->n_fields; i++) {
        int64_t raw = 0;
        nv_return entry_code = code == NV_OK ? field_raw(&entries[i], &raw) : code;
        give(self, &out[i], call->channel + i, entry_code, raw);
    }
    if (!stamped)
        return call->n_fields;
    give(self, &out[call->n_fields], call->channel + call->n_fields, code == NV_OK ? entries[0].code : code,
              entries[0].timestamp_us);
    return call->n_fields + 1u;
}

uint32_t nvml_read_fields(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    return read_fields(self, call, out, false);
}

uint32_t nvml_read_stamped_fields(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    return read_fields(self, call, out, true);
}

static uint32_t read_power_usage(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    (void)call;
    uint32_t mw = 0;
    nv_return code = self->api->power_usage(self->device, &mw);
    return give_one(self, out, code, mw);
}

static uint32_t read_total_energy(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    (void)call;
    uint64_t mj = 0;
    nv_return code = self->api->total_energy(self->device, &mj);
    return give_one(self, out, code, (int64_t)mj);
}

static uint32_t read_utilization(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    nv_utilization rates = {0};
    nv_return code = self->api->utilization(self->device, &rates);
    give(self, &out[0], call->channel, code, rates.gpu);
    give(self, &out[1], call->channel + 1u, code, rates.memory);
    return 2;
}

static uint32_t read_clock_sm(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    (void)call;
    uint32_t mhz = 0;
    nv_return code = self->api->clock(self->device, NV_CLOCK_SM, &mhz);
    return give_one(self, out, code, mhz);
}

static uint32_t read_clock_memory(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    (void)call;
    uint32_t mhz = 0;
    nv_return code = self->api->clock(self->device, NV_CLOCK_MEM, &mhz);
    return give_one(self, out, code, mhz);
}

static uint32_t read_temperature(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    (void)call;
    uint32_t degc = 0;
    nv_return code = self->api->temperature(self->device, NV_TEMPERATURE_GPU, &degc);
    return give_one(self, out, code, degc);
}

static uint32_t read_pstate(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    (void)call;
    int32_t state = 0;
    nv_return code = self->api->pstate(self->device, &state);
    return give_one(self, out, code, state);
}

static uint32_t read_throttle(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    (void)call;
    uint64_t reasons = 0;
    nv_return code = self->api->throttle(self->device, &reasons);
    return give_one(self, out, code, (int64_t)reasons);
}

static uint32_t read_processes(nvml_source *self, const nvml_call *call, ps_reading *out)
{
    (void)call;
    uint32_t count = 0;
    nv_return code = nvml_process_count(self->api, self->device, &count);
    return give_one(self, out, code, count);
}

/* ---- the table ---- */

#define POWER_HZ 1000.0 /* highest useful rates */
/* The counter moves about every 100 ms. Read as seldom, it beats with its readers, and either edge of a window may be off by
 * a whole update; four reads an update place each change within 25 ms. */
#define ENERGY_HZ 40.0
#define AUX_HZ 1.0

const nvml_field_row nvml_power_fields[NVML_FIELDS_MAX] = {
    {NV_FIELD_POWER_INSTANT, NV_SCOPE_GPU, {"power.instant", "W", "nvml.field.186", 1e-3}},
    {NV_FIELD_POWER_AVERAGE, NV_SCOPE_GPU, {"power.average", "W", "nvml.field.185", 1e-3}},
    {NV_FIELD_POWER_INSTANT, NV_SCOPE_MODULE, {"module.power.instant", "W", "nvml.field.186.module", 1e-3}},
    {NV_FIELD_POWER_AVERAGE, NV_SCOPE_MODULE, {"module.power.average", "W", "nvml.field.185.module", 1e-3}},
};

const nvml_field_row nvml_energy_field = {
    NV_FIELD_TOTAL_ENERGY, NV_SCOPE_GPU, {"energy", "J", "nvml.field.83", 1e-3}};

#define CALL(read, member, kind, max_hz, n_channels, ...) \
    {read, offsetof(nv_api, member), kind, max_hz, n_channels, {__VA_ARGS__}}
#define AUX(read, member, name, unit, sensor, scale) \
    CALL(read, member, PS_KIND_AUX, AUX_HZ, 1, {name, unit, sensor, scale}, {0})

const nvml_call_row nvml_power_call = CALL(read_power_usage, power_usage, PS_KIND_POWER, POWER_HZ, 1,
                                           {"power.usage", "W", "nvml.power_usage", 1e-3}, {0});

const nvml_call_row nvml_energy_call = CALL(read_total_energy, total_energy, PS_KIND_ENERGY, ENERGY_HZ, 1,
                                            {"energy", "J", "nvml.total_energy", 1e-3}, {0});

const nvml_call_row nvml_aux_calls[] = {
    CALL(read_utilization, utilization, PS_KIND_AUX, AUX_HZ, 2,
         {"utilization.gpu", "%", "nvml.utilization", 1}, {"utilization.memory", "%", "nvml.utilization", 1}),
    AUX(read_clock_sm, clock, "clock.sm", "Hz", "nvml.clock.sm", 1e6),
    AUX(read_clock_memory, clock, "clock.memory", "Hz", "nvml.clock.memory", 1e6),
    AUX(read_temperature, temperature, "temperature", "degC", "nvml.temperature", 1),
    AUX(read_pstate, pstate, "pstate", "1", "nvml.performance_state", 1),
    AUX(read_throttle, throttle, "throttle", "1", "nvml.throttle_reasons", 1),
    AUX(read_processes, processes, "processes", "1", "nvml.compute_processes", 1),
};

enum { AUX_CALLS = sizeof nvml_aux_calls / sizeof nvml_aux_calls[0] };

const uint32_t nvml_n_aux_calls = AUX_CALLS;

/* Fields with their stamp, power usage, energy and samples have a call each, and a row has up to two channels. */
_Static_assert(4 + AUX_CALLS <= NVML_CALLS_MAX, "a source has no room for so many calls");
_Static_assert(NVML_FIELDS_MAX + 4 + 2 * AUX_CALLS <= NVML_CHANNELS_MAX, "a source has no room for so many channels");
