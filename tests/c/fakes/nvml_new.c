/* SPDX-License-Identifier: Apache-2.0
 *
 * A libnvidia-ml that lacks nearly everything but the field interface, and misbehaves as it is told.
 */
#include <time.h>

#include "fakes/fake_nvml.h"

#define API __attribute__((visibility("default")))

API extern fake_nvml_state fake_nvml;
fake_nvml_state fake_nvml = {.value_type = NV_TYPE_U32};

static nv_return device_call(void)
{
    return fake_nvml.inits <= 0 ? NV_UNINITIALIZED : fake_nvml.call_code;
}

API nv_return nvmlInit_v2(void)
{
    fake_nvml.init_calls++;
    if (!fake_nvml.init_code)
        fake_nvml.inits++;
    return fake_nvml.init_code;
}

API nv_return nvmlShutdown(void)
{
    fake_nvml.inits--;
    return NV_OK;
}

API nv_return nvmlDeviceGetHandleByIndex_v2(uint32_t index, nv_device *device)
{
    *device = (nv_device)(uintptr_t)(index + 1);
    return index ? NV_INVALID_ARGUMENT : device_call();
}

API nv_return nvmlDeviceGetFieldValues(nv_device device, int count, nv_field_value *entries)
{
    (void)device;
    nv_return code = device_call();
    for (int i = 0; fake_nvml.no_module && i < count; i++)
        if (entries[i].scope)
            return NV_INVALID_ARGUMENT;
    for (int i = 0; !code && !fake_nvml.untouched && i < count; i++) {
        nv_field_value *entry = &entries[i];
        entry->code = entry->scope ? NV_NOT_SUPPORTED : NV_OK;
        entry->value_type = NV_TYPE_U32;
        entry->value.as_u32 = 1000;
        if (entry->field == NV_FIELD_POWER_AVERAGE) {
            entry->code = entry->scope ? NV_NOT_SUPPORTED : fake_nvml.field_code;
        } else if (entry->field == NV_FIELD_TOTAL_ENERGY) {
            entry->value_type = NV_TYPE_ULONG;
            entry->value.as_u64 = UINT64_C(5000000000);
        } else if (entry->field == NV_FIELD_POWER_INSTANT) {
            entry->value_type = fake_nvml.value_type;
            entry->value.as_u64 = UINT64_MAX; /* what a narrower member must not pick up */
            if (fake_nvml.value_type == NV_TYPE_DOUBLE)
                entry->value.as_double = 123455.7;
            else if (fake_nvml.value_type == NV_TYPE_U16)
                entry->value.as_u16 = 12345;
            else if (fake_nvml.value_type == NV_TYPE_S32)
                entry->value.as_s32 = -5;
            else if (fake_nvml.value_type == NV_TYPE_U32)
                entry->value.as_u32 = 123456;
        }
    }
    return code;
}

static int64_t clock_us(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (int64_t)now.tv_sec * 1000000 + now.tv_nsec / 1000;
}

API nv_return nvmlDeviceGetSamples(nv_device device, int32_t type, uint64_t last_seen_us, uint32_t *value_type,
                                   uint32_t *count, nv_sample *samples)
{
    (void)device;
    const uint32_t room = *count, ring = fake_nvml.samples_in_ring ? fake_nvml.samples_in_ring : 119;
    const nv_return code = device_call();
    if (code || fake_nvml.samples == FAKE_SAMPLES_UNSUPPORTED || type != NV_SAMPLES_TOTAL_POWER)
        return code ? code : NV_NOT_SUPPORTED;
    *value_type = NV_TYPE_U32;
    *count = ring;
    if (!samples)
        return NV_OK;
    int64_t newest_ms = clock_us(fake_nvml.samples == FAKE_SAMPLES_FOREIGN ? CLOCK_BOOTTIME : CLOCK_REALTIME) / 1000;
    if (fake_nvml.samples == FAKE_SAMPLES_STILL)
        newest_ms = fake_nvml.samples_us / 1000;
    int64_t at_ms = newest_ms - (fake_nvml.samples == FAKE_SAMPLES_ONE ? 0 : (int64_t)ring - 1);
    for (*count = 0; at_ms <= newest_ms && *count < room; at_ms++)
        if (fake_nvml.samples == FAKE_SAMPLES_STILL || (uint64_t)at_ms * 1000 > last_seen_us)
            samples[(*count)++] = (nv_sample){(uint64_t)at_ms * 1000, {.as_u32 = (uint32_t)(at_ms % 1000000)}};
    if (fake_nvml.samples == FAKE_SAMPLES_RAW) {
        for (uint32_t i = 0; i < *count / 2; i++) {
            nv_sample other = samples[i];
            samples[i] = samples[*count - 1 - i];
            samples[*count - 1 - i] = other;
        }
        for (int i = 0; i < 3 && *count && *count < room; i++)
            samples[(*count)++] = (nv_sample){0};
    }
    return *count ? NV_OK : NV_NOT_FOUND;
}
