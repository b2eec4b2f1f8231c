/* SPDX-License-Identifier: Apache-2.0
 *
 * A library of the right name that cannot read power.
 */
#include "sources/nvml_abi.h"

#define API __attribute__((visibility("default")))

API nv_return nvmlInit_v2(void);
API nv_return nvmlDeviceGetHandleByIndex_v2(uint32_t index, nv_device *device);

nv_return nvmlInit_v2(void)
{
    return NV_OK;
}

nv_return nvmlDeviceGetHandleByIndex_v2(uint32_t index, nv_device *device)
{
    (void)index;
    (void)device;
    return NV_OK;
}
