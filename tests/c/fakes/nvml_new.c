/* SPDX-License-Identifier: Apache-2.0
 *
 * A libnvidia-ml that lacks nearly everything but the field interface, and misbehaves as it is told.
 */
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
