/* SPDX-License-Identifier: Apache-2.0
 *
 * nvmlDeviceGetSamples: the ring that the driver keeps of what a board samples by itself. Nothing is kept here: the
 * ring is the sensor's last publications, worked out when they are asked for, so every process finds the same one.
 */
#include "core/clock.h"
#include "nvmlsim/sim.h"

enum { RING_SAMPLES = 119 }; /* as nvidia-smi -q prints of real boards */

/* Which sensor feeds a ring; -1 for those that are not simulated. */
static int32_t sensor_of(int32_t type)
{
    return type == NV_SAMPLES_TOTAL_POWER ? PS_NS_SAMPLES : type == NV_SAMPLES_MODULE_POWER ? PS_NS_MODULE : -1;
}

/* Fills what the ring holds that is stamped after last_seen_us; NV_NOT_FOUND where that is nothing. */
static nv_return ring(const sim_call *call, int32_t which, uint64_t last_seen_us, uint32_t *count, nv_sample *out)
{
    const ps_node *node = call->world->node;
    const ps_sensor *sensor = &call->gpu->sensor[which];
    const int64_t now_ns = ps_clock_monotonic_ns();
    int64_t from_ns = now_ns - (RING_SAMPLES + 1) * sensor->period_ns;
    const int64_t start_ns = __atomic_load_n(&sensor->start_ns, __ATOMIC_RELAXED); /* relaxed: see ps_node_reload */
    if (from_ns < start_ns)
        from_ns = start_ns; /* a driver begins with an empty ring */
    int64_t published_ns[RING_SAMPLES + 3];
    uint64_t there = 0;
    if (ps_sensor_publications(sensor, from_ns, now_ns, published_ns, RING_SAMPLES + 3, &there) != PS_OK)
        return NV_UNKNOWN;
    nv_sample samples[RING_SAMPLES];
    uint32_t n = 0;
    ps_sensor_memo memo = {0};
    for (uint64_t i = there > RING_SAMPLES ? there - RING_SAMPLES : 0; i < there; i++) {
        const uint64_t stamp_us = (uint64_t)sim_stamp_us(node, published_ns[i]);
        int64_t value = 0;
        if (stamp_us <= last_seen_us)
            continue;
        if (ps_sensor_read(sensor, call->world->truth[call->index], published_ns[i], &memo, &value, NULL, NULL) != PS_OK)
            return NV_UNKNOWN;
        samples[n++] = (nv_sample){.timestamp_us = stamp_us, .value.as_u32 = value < 0 ? 0 : (uint32_t)value};
    }
    if (n == 0)
        return NV_NOT_FOUND;
    if (n > *count) {
        *count = n;
        return NV_INSUFFICIENT_SIZE;
    }
    for (uint32_t i = 0; i < n; i++)
        out[i] = samples[i];
    *count = n;
    return NV_OK;
}

/* Without a buffer it tells how large one must be. */
NV_API nv_return nvmlDeviceGetSamples(nv_device device, int32_t type, uint64_t last_seen_us, uint32_t *value_type,
                                      uint32_t *count, nv_sample *samples)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_SAMPLES, device);
    const int32_t which = sensor_of(type);
    if (!code && (!count || !value_type || (samples && *count == 0)))
        code = NV_INVALID_ARGUMENT;
    if (!code && (which < 0 || call.gpu->sensor[which].kind == PS_SENSOR_ABSENT))
        code = NV_NOT_SUPPORTED;
    if (code)
        goto out;
    *value_type = NV_TYPE_U32;
    if (samples)
        code = ring(&call, which, last_seen_us, count, samples);
    else
        *count = RING_SAMPLES;
out:
    return sim_leave(&call, code);
}
