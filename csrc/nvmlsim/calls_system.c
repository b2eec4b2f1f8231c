/* SPDX-License-Identifier: Apache-2.0
 *
 * NVML calls about the library, the driver and the way to a device.
 */
#include <stdio.h>
#include <string.h>

#include "nvmlsim/sim.h"

/* ---- life ---- */

NV_API nv_return nvmlInitWithFlags(uint32_t flags)
{
    (void)flags;
    return sim_init();
}

NV_API nv_return nvmlInit_v2(void)
{
    return sim_init();
}

NV_API nv_return nvmlInit(void)
{
    return sim_init();
}

NV_API nv_return nvmlShutdown(void)
{
    return sim_shutdown();
}

static const struct {
    nv_return code;
    const char *text;
} error_texts[] = {
    {NV_OK, "Success"},
    {NV_UNINITIALIZED, "Uninitialized"},
    {NV_INVALID_ARGUMENT, "Invalid Argument"},
    {NV_NOT_SUPPORTED, "Not Supported"},
    {NV_NO_PERMISSION, "Insufficient Permissions"},
    {NV_NOT_FOUND, "Not Found"},
    {NV_INSUFFICIENT_SIZE, "Insufficient Size"},
    {NV_DRIVER_NOT_LOADED, "Driver Not Loaded"},
    {NV_TIMEOUT, "Timeout"},
    {NV_LIBRARY_NOT_FOUND, "NVML Shared Library Not Found"},
    {NV_FUNCTION_NOT_FOUND, "Function Not Found"},
    {NV_GPU_IS_LOST, "GPU is lost"},
    {NV_RESET_REQUIRED, "GPU requires reset"},
    {NV_LIB_RM_VERSION_MISMATCH, "Driver/library version mismatch"},
    {NV_IN_USE, "In use by another client"},
    {NV_NO_DATA, "No data"},
    {NV_ARGUMENT_VERSION_MISMATCH, "Argument version mismatch"},
};

NV_API const char *nvmlErrorString(nv_return code)
{
    for (size_t i = 0; i < sizeof error_texts / sizeof error_texts[0]; i++)
        if (error_texts[i].code == code)
            return error_texts[i].text;
    return "Unknown Error";
}

/* ---- versions ---- */

NV_API nv_return nvmlSystemGetDriverVersion(char *version, uint32_t length)
{
    sim_call call;
    nv_return code = sim_enter_node(&call, PS_FN_ANY, -1);
    return sim_leave(&call, code ? code : sim_copy_text(version, length, call.world->node->driver_version));
}

NV_API nv_return nvmlSystemGetNVMLVersion(char *version, uint32_t length)
{
    sim_call call;
    nv_return code = sim_enter_node(&call, PS_FN_ANY, -1);
    return sim_leave(&call, code ? code : sim_copy_text(version, length, call.world->node->nvml_version));
}

NV_API nv_return nvmlSystemGetCudaDriverVersion_v2(int *version)
{
    sim_call call;
    nv_return code = sim_enter_node(&call, PS_FN_ANY, -1);
    if (!code && !version)
        code = NV_INVALID_ARGUMENT;
    if (!code)
        *version = call.world->node->cuda_version;
    return sim_leave(&call, code);
}

NV_API nv_return nvmlSystemGetCudaDriverVersion(int *version)
{
    return nvmlSystemGetCudaDriverVersion_v2(version);
}

/* ---- devices ---- */

NV_API nv_return nvmlDeviceGetCount_v2(uint32_t *count)
{
    sim_call call;
    nv_return code = sim_enter_node(&call, PS_FN_ANY, -1);
    if (!code && !count)
        code = NV_INVALID_ARGUMENT;
    if (!code)
        *count = call.world->node->n_gpus;
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetCount(uint32_t *count)
{
    return nvmlDeviceGetCount_v2(count);
}

NV_API nv_return nvmlDeviceGetHandleByIndex_v2(uint32_t index, nv_device *device)
{
    sim_call call;
    nv_return code = sim_enter_node(&call, PS_FN_HANDLE, index < PS_NODE_MAX_GPUS ? (int32_t)index : -1);
    if (!code && (!device || index >= call.world->node->n_gpus))
        code = NV_INVALID_ARGUMENT;
    if (!code)
        *device = sim_handle(index);
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetHandleByIndex(uint32_t index, nv_device *device)
{
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

/* A MIG instance by its own UUID. */
static bool mig_by_uuid(const ps_node *node, const char *uuid, nv_device *device)
{
    for (uint32_t index = 0; index < node->n_gpus; index++)
        for (uint32_t i = 0; i < node->gpu[index].n_mig; i++)
            if (strcmp(node->gpu[index].mig[i].uuid, uuid) == 0) {
                *device = sim_handle_mig(index, i);
                return true;
            }
    return false;
}

typedef bool (*same_device)(const ps_node_gpu *gpu, const char *text);

static bool same_uuid(const ps_node_gpu *gpu, const char *text)
{
    return strcmp(gpu->uuid, text) == 0;
}

static bool same_serial(const ps_node_gpu *gpu, const char *text)
{
    return gpu->serial[0] && strcmp(gpu->serial, text) == 0;
}

static bool same_pci_bus_id(const ps_node_gpu *gpu, const char *text)
{
    unsigned domain, bus, device; /* "0000:17:00.0" and "00000000:17:00.0" are the same */
    return sscanf(text, "%x:%x:%x", &domain, &bus, &device) == 3 && !domain && !device && bus == gpu->pci_bus;
}

static nv_return handle_by(same_device same, const char *text, nv_device *device)
{
    sim_call call;
    const ps_node *node;
    uint32_t index = 0;
    nv_return code = sim_enter_node(&call, PS_FN_ANY, -1);
    if (code)
        goto out;
    node = call.world->node;
    while (text && index < node->n_gpus && !same(&node->gpu[index], text))
        index++;
    if (!text || !device)
        code = NV_INVALID_ARGUMENT;
    else if (index == node->n_gpus)
        code = same == same_uuid && mig_by_uuid(node, text, device) ? NV_OK : NV_NOT_FOUND;
    else if (!(code = sim_fault(node, call.faults, PS_FN_HANDLE, (int32_t)index, 0)))
        *device = sim_handle(index);
out:
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetHandleByUUID(const char *uuid, nv_device *device)
{
    return handle_by(same_uuid, uuid, device);
}

NV_API nv_return nvmlDeviceGetHandleBySerial(const char *serial, nv_device *device)
{
    return handle_by(same_serial, serial, device);
}

NV_API nv_return nvmlDeviceGetHandleByPciBusId_v2(const char *bus_id, nv_device *device)
{
    return handle_by(same_pci_bus_id, bus_id, device);
}

NV_API nv_return nvmlDeviceGetHandleByPciBusId(const char *bus_id, nv_device *device)
{
    return handle_by(same_pci_bus_id, bus_id, device);
}

/* ---- what nvidia-smi needs to print ---- */

NV_API nv_return nvmlEventSetCreate(void **set)
{
    static char no_events;
    sim_call call;
    nv_return code = sim_enter_node(&call, PS_FN_ANY, -1);
    if (!code && !set)
        code = NV_INVALID_ARGUMENT;
    if (!code)
        *set = &no_events;
    return sim_leave(&call, code);
}

NV_API nv_return nvmlEventSetFree(void *set)
{
    (void)set;
    return sim_initialised() ? NV_OK : NV_UNINITIALIZED;
}

/* nvidia-smi asks for one undocumented table: its size in bytes, then functions. Found by trying: the views
 * of power call two of them, slot 81 to get a device's handle and slot 26 around printing, whose answer does
 * not matter. */
static nv_return table_handle(uint32_t index, nv_device *device, uint32_t kind)
{
    (void)kind;
    return nvmlDeviceGetHandleByIndex_v2(index, device);
}

static nv_return table_none(void)
{
    return NV_NOT_SUPPORTED;
}

typedef nv_return (*table_slot)(void);

#define NONE_9 \
    table_none, table_none, table_none, table_none, table_none, table_none, table_none, table_none, table_none
#define NONE_27 NONE_9, NONE_9, NONE_9

static const struct {
    uint64_t bytes;
    table_slot slot_1[25], slot_26, slot_27[54], slot_81, slot_82[46];
} export_table = {
    .bytes = sizeof export_table,
    .slot_1 = {NONE_9, NONE_9, table_none, table_none, table_none, table_none, table_none, table_none,
               table_none},
    .slot_26 = table_none,
    .slot_27 = {NONE_27, NONE_27},
    .slot_81 = (table_slot)(void (*)(void))table_handle,
    .slot_82 = {NONE_27, NONE_9, NONE_9, table_none},
};

NV_API nv_return nvmlInternalGetExportTable(const void **table, const void *id)
{
    (void)id;
    if (!table)
        return NV_INVALID_ARGUMENT;
    *table = &export_table;
    return NV_OK;
}
