/* SPDX-License-Identifier: Apache-2.0
 *
 * NVML calls that read something: power, energy, utilisation, clocks, temperature. Power and energy go
 * through the sensors of the node file; the others follow the true power plainly, good enough to see when a
 * board was busy.
 */
#include "core/clock.h"
#include "nvmlsim/sim.h"

enum {
    THERMAL_SPAN_NS = 2000000000, /* x 10: the temperature follows the mean power of so long */
    THERMAL_SPANS = 10,
    IDLE_DEGC = 30,
    RISE_DEGC = 45,
    PSTATE_BUSY = 0,
    PSTATE_IDLE = 8
};

/* ---- power and energy ---- */

NV_API nv_return nvmlDeviceGetPowerUsage(nv_device device, uint32_t *power_mw)
{
    sim_call call;
    int64_t value = 0;
    nv_return code = sim_enter(&call, PS_FN_POWER_USAGE, device);
    if (!code && !power_mw)
        code = NV_INVALID_ARGUMENT;
    if (!code)
        code = sim_sensor(&call, call.gpu->power_usage, ps_clock_monotonic_ns(), &value, NULL);
    if (!code)
        *power_mw = value < 0 ? 0 : (uint32_t)value;
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetTotalEnergyConsumption(nv_device device, uint64_t *energy_mj)
{
    sim_call call;
    int64_t value = 0;
    nv_return code = sim_enter(&call, PS_FN_ENERGY, device);
    if (!code && !energy_mj)
        code = NV_INVALID_ARGUMENT;
    if (!code)
        code = sim_sensor(&call, PS_NS_ENERGY, ps_clock_monotonic_ns(), &value, NULL);
    if (!code)
        *energy_mj = (uint64_t)value;
    return sim_leave(&call, code);
}

static nv_return limit_field(uint32_t limit_mw, nv_field_value *entry)
{
    entry->value_type = NV_TYPE_U32;
    entry->value.as_u32 = limit_mw;
    return limit_mw ? NV_OK : NV_NOT_SUPPORTED;
}

static nv_return sensor_field(const sim_call *call, int32_t which, int64_t now_ns, nv_field_value *entry)
{
    int64_t value = 0, published_ns = now_ns;
    nv_return code = sim_sensor(call, which, now_ns, &value, &published_ns);
    if (call->gpu->field_stamps == PS_NODE_STAMP_UPDATE)
        entry->timestamp_us = sim_stamp_us(call->world->node, published_ns);
    if (which == PS_NS_ENERGY) {
        entry->value_type = NV_TYPE_U64;
        entry->value.as_u64 = (uint64_t)value;
    } else {
        entry->value_type = NV_TYPE_U32;
        entry->value.as_u32 = value < 0 ? 0 : (uint32_t)value;
    }
    return code;
}

static nv_return field_value(const sim_call *call, int64_t now_ns, nv_field_value *entry)
{
    const ps_node_gpu *gpu = call->gpu;
    nv_return fault = sim_fault(call->world->node, call->faults, PS_FN_FIELD_VALUES, (int32_t)call->index,
                                (int32_t)entry->field);
    if (fault)
        return fault;
    if (entry->scope == NV_SCOPE_MODULE && entry->field == NV_FIELD_POWER_INSTANT)
        return sensor_field(call, PS_NS_MODULE, now_ns, entry);
    if (entry->scope == NV_SCOPE_MODULE && entry->field == NV_FIELD_POWER_AVERAGE)
        return sensor_field(call, PS_NS_MODULE_AVERAGE, now_ns, entry);
    if (entry->scope != NV_SCOPE_GPU)
        return NV_NOT_SUPPORTED;
    switch (entry->field) {
    case NV_FIELD_TOTAL_ENERGY:
    case NV_FIELD_ENERGY:
        return sensor_field(call, PS_NS_ENERGY, now_ns, entry);
    case NV_FIELD_POWER_AVERAGE:
        return sensor_field(call, PS_NS_AVERAGE, now_ns, entry);
    case NV_FIELD_POWER_INSTANT:
        return sensor_field(call, PS_NS_INSTANT, now_ns, entry);
    case NV_FIELD_LIMIT_MIN:
        return limit_field(gpu->limit_min_mw, entry);
    case NV_FIELD_LIMIT_MAX:
        return limit_field(gpu->limit_max_mw, entry);
    case NV_FIELD_LIMIT_DEFAULT:
        return limit_field(gpu->limit_default_mw, entry);
    case NV_FIELD_LIMIT_CURRENT:
    case NV_FIELD_LIMIT_REQUESTED:
        return limit_field(gpu->limit_mw, entry);
    default:
        return NV_NOT_SUPPORTED;
    }
}

NV_API nv_return nvmlDeviceGetFieldValues(nv_device device, int count, nv_field_value *entries)
{
    sim_call call;
    const int64_t begin_ns = ps_clock_monotonic_ns();
    nv_return code = sim_enter(&call, PS_FN_FIELD_VALUES, device);
    if (!code && (count < 1 || !entries))
        code = NV_INVALID_ARGUMENT;
    if (!code) {
        const int64_t now_ns = ps_clock_monotonic_ns();
        const bool stamped = call.gpu->field_stamps != PS_NODE_STAMP_ZERO;
        for (int i = 0; i < count; i++) {
            entries[i].timestamp_us = stamped ? sim_stamp_us(call.world->node, now_ns) : 0;
            entries[i].latency_us = stamped ? (now_ns - begin_ns) / 1000 : 0; /* one driver call serves them all */
            entries[i].code = field_value(&call, now_ns, &entries[i]);
        }
    }
    return sim_leave(&call, code);
}

/* ---- what follows from the power ---- */

/* Memory is busy half as much as the board: no profile says better. */
NV_API nv_return nvmlDeviceGetUtilizationRates(nv_device device, nv_utilization *utilization)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_UTILIZATION, device);
    if (!code && !utilization)
        code = NV_INVALID_ARGUMENT;
    if (!code && call.gpu->mig_mode) /* nvml.h: "On MIG-enabled GPUs ... not currently supported" */
        code = NV_NOT_SUPPORTED;
    if (!code) {
        uint32_t busy = sim_busy_percent(&call, ps_clock_monotonic_ns());
        *utilization = (nv_utilization){.gpu = busy, .memory = busy / 2};
    }
    return sim_leave(&call, code);
}

static nv_return clock_mhz(nv_device device, uint32_t clock, bool highest, uint32_t *mhz)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_CLOCK, device);
    if (!code && (!mhz || clock > NV_CLOCK_VIDEO))
        code = NV_INVALID_ARGUMENT;
    if (!code && clock == NV_CLOCK_MEM)
        *mhz = call.gpu->clock_mem_mhz;
    else if (!code)
        *mhz = highest || sim_busy_percent(&call, ps_clock_monotonic_ns()) ? call.gpu->clock_max_mhz
                                                                : call.gpu->clock_idle_mhz;
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetClockInfo(nv_device device, uint32_t clock, uint32_t *mhz)
{
    return clock_mhz(device, clock, false, mhz);
}

NV_API nv_return nvmlDeviceGetMaxClockInfo(nv_device device, uint32_t clock, uint32_t *mhz)
{
    return clock_mhz(device, clock, true, mhz);
}

NV_API nv_return nvmlDeviceGetTemperature(nv_device device, uint32_t sensor, uint32_t *degc)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_TEMPERATURE, device);
    if (!code && (!degc || sensor != NV_TEMPERATURE_GPU))
        code = NV_INVALID_ARGUMENT;
    if (!code) {
        int64_t mean_mw = sim_mean_power_mw(&call, ps_clock_monotonic_ns(), (int64_t)THERMAL_SPAN_NS * THERMAL_SPANS);
        int64_t range_mw = (int64_t)call.gpu->max_mw - call.gpu->idle_mw;
        int64_t rise = range_mw > 0 ? RISE_DEGC * (mean_mw - call.gpu->idle_mw) / range_mw : 0;
        *degc = (uint32_t)(IDLE_DEGC + (rise < 0 ? 0 : rise > RISE_DEGC ? RISE_DEGC : rise));
    }
    return sim_leave(&call, code);
}

static nv_return power_state(nv_device device, int32_t *state)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_PSTATE, device);
    if (!code && !state)
        code = NV_INVALID_ARGUMENT;
    if (!code)
        *state = sim_busy_percent(&call, ps_clock_monotonic_ns()) ? PSTATE_BUSY : PSTATE_IDLE;
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetPerformanceState(nv_device device, int32_t *state)
{
    return power_state(device, state);
}

NV_API nv_return nvmlDeviceGetPowerState(nv_device device, int32_t *state)
{
    return power_state(device, state);
}

static nv_return throttle_reasons(nv_device device, uint64_t *reasons)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_THROTTLE, device);
    if (!code && !reasons)
        code = NV_INVALID_ARGUMENT;
    if (!code) {
        int64_t now_ns = ps_clock_monotonic_ns();
        *reasons = 0;
        if (!sim_busy_percent(&call, now_ns))
            *reasons = NV_THROTTLE_GPU_IDLE;
        else if (call.gpu->limit_mw && sim_mean_power_mw(&call, now_ns, 1) >= call.gpu->limit_mw)
            *reasons = NV_THROTTLE_POWER_CAP;
    }
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetCurrentClocksEventReasons(nv_device device, uint64_t *reasons)
{
    return throttle_reasons(device, reasons);
}

NV_API nv_return nvmlDeviceGetCurrentClocksThrottleReasons(nv_device device, uint64_t *reasons)
{
    return throttle_reasons(device, reasons);
}

NV_API nv_return nvmlDeviceGetSupportedClocksEventReasons(nv_device device, uint64_t *reasons)
{
    nv_return code = throttle_reasons(device, reasons);
    if (!code)
        *reasons = NV_THROTTLE_GPU_IDLE | NV_THROTTLE_POWER_CAP;
    return code;
}

NV_API nv_return nvmlDeviceGetSupportedClocksThrottleReasons(nv_device device, uint64_t *reasons)
{
    return nvmlDeviceGetSupportedClocksEventReasons(device, reasons);
}
