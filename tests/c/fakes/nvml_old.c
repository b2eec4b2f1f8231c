/* SPDX-License-Identifier: Apache-2.0
 *
 * A libnvidia-ml of long ago: first versions of the names, no fields, no energy, no texts.
 */
#include <stdio.h>
#include <string.h>

#include "sources/nvml_abi.h"

#define API __attribute__((visibility("default")))

API nv_return nvmlInit(void);
API nv_return nvmlDeviceGetCount(uint32_t *count);
API nv_return nvmlDeviceGetHandleByIndex(uint32_t index, nv_device *device);
API nv_return nvmlDeviceGetPciInfo(nv_device device, void *info);
API nv_return nvmlDeviceGetPowerUsage(nv_device device, uint32_t *mw);

nv_return nvmlInit(void)
{
    return NV_OK;
}

nv_return nvmlDeviceGetCount(uint32_t *count)
{
    *count = 1;
    return NV_OK;
}

nv_return nvmlDeviceGetHandleByIndex(uint32_t index, nv_device *device)
{
    *device = (nv_device)(uintptr_t)(index + 1);
    return index ? NV_INVALID_ARGUMENT : NV_OK;
}

/* In the place of the later bus_id it leaves what is none. */
nv_return nvmlDeviceGetPciInfo(nv_device device, void *info)
{
    (void)device;
    nv_pci_info *out = info;
    memset(out, 'x', sizeof *out);
    snprintf(out->bus_id_legacy, sizeof out->bus_id_legacy, "0000:18:00.0");
    return NV_OK;
}

nv_return nvmlDeviceGetPowerUsage(nv_device device, uint32_t *mw)
{
    (void)device;
    *mw = 43210;
    return NV_OK;
}
