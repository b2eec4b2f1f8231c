/* SPDX-License-Identifier: Apache-2.0
 *
 * NVML calls about what a board is: names, place, limits, modes, memory, processes.
 */
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "nvmlsim/sim.h"

enum { SLICE_MULTIPROCESSORS = 14 }; /* of an A100 */

/* One word about the board, the same for every call; `enter` says whether MIG instances have it, too. */
#define WORD_CALL_BY(enter, name, type, supported, value) \
    NV_API nv_return name(nv_device device, type *out) \
    { \
        sim_call call; \
        nv_return code = enter(&call, PS_FN_ANY, device); \
        if (!code && !out) \
            code = NV_INVALID_ARGUMENT; \
        if (!code && !(supported)) \
            code = NV_NOT_SUPPORTED; \
        if (!code) \
            *out = (type)(value); \
        return sim_leave(&call, code); \
    }

#define WORD_CALL(...) WORD_CALL_BY(sim_enter, __VA_ARGS__)

WORD_CALL_BY(sim_enter_any, nvmlDeviceGetIndex, uint32_t, true, call.mig ? call.mig_index : call.index)
WORD_CALL_BY(sim_enter_any, nvmlDeviceIsMigDeviceHandle, uint32_t, true, call.mig != NULL)
WORD_CALL_BY(sim_enter_any, nvmlDeviceGetGpuInstanceId, uint32_t, call.mig, call.mig_index + 1)
WORD_CALL_BY(sim_enter_any, nvmlDeviceGetComputeInstanceId, uint32_t, call.mig, 0)
WORD_CALL(nvmlDeviceGetMinorNumber, uint32_t, true, call.index)
WORD_CALL(nvmlDeviceGetBrand, int32_t, true, call.gpu->brand)
WORD_CALL(nvmlDeviceGetArchitecture, uint32_t, true, call.gpu->architecture)
WORD_CALL(nvmlDeviceGetPersistenceMode, int32_t, true, call.gpu->persistence)
WORD_CALL(nvmlDeviceGetMaxMigDeviceCount, uint32_t, true, call.gpu->mig_mode ? PS_NODE_MAX_MIG : 0)
WORD_CALL(nvmlDeviceGetPowerManagementMode, int32_t, true, 1)
WORD_CALL(nvmlDeviceGetPowerManagementLimit, uint32_t, call.gpu->limit_mw, call.gpu->limit_mw)
WORD_CALL(nvmlDeviceGetPowerManagementDefaultLimit, uint32_t, call.gpu->limit_default_mw,
          call.gpu->limit_default_mw)
WORD_CALL(nvmlDeviceGetEnforcedPowerLimit, uint32_t, call.gpu->limit_mw, call.gpu->limit_mw)

#define TEXT_CALL(name, supported, text) \
    NV_API nv_return name(nv_device device, char *out, uint32_t length) \
    { \
        sim_call call; \
        nv_return code = sim_enter_any(&call, PS_FN_ANY, device); \
        if (!code) \
            code = (supported) ? sim_copy_text(out, length, (text)) : NV_NOT_SUPPORTED; \
        return sim_leave(&call, code); \
    }

/* "NVIDIA H100 PCIe MIG 1g.10gb" for an instance. */
static const char *name_of(const sim_call *call, char out[160])
{
    if (!call->mig)
        return call->gpu->name;
    snprintf(out, 160, "%s MIG %s", call->gpu->name, call->mig->profile);
    return out;
}

TEXT_CALL(nvmlDeviceGetName, true, name_of(&call, (char[160]){0}))
TEXT_CALL(nvmlDeviceGetUUID, true, call.mig ? call.mig->uuid : call.gpu->uuid)
TEXT_CALL(nvmlDeviceGetSerial, call.gpu->serial[0] && !call.mig, call.gpu->serial)

NV_API nv_return nvmlDeviceGetCudaComputeCapability(nv_device device, int *major, int *minor)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_ANY, device);
    if (!code && (!major || !minor))
        code = NV_INVALID_ARGUMENT;
    if (!code) {
        *major = call.gpu->compute_major;
        *minor = call.gpu->compute_minor;
    }
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetPowerManagementLimitConstraints(nv_device device, uint32_t *low_mw,
                                                              uint32_t *high_mw)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_ANY, device);
    if (!code && (!low_mw || !high_mw))
        code = NV_INVALID_ARGUMENT;
    if (!code && !call.gpu->limit_max_mw)
        code = NV_NOT_SUPPORTED;
    if (!code) {
        *low_mw = call.gpu->limit_min_mw;
        *high_mw = call.gpu->limit_max_mw;
    }
    return sim_leave(&call, code);
}

/* ---- MIG: instances have names and memory, and no power of their own ---- */

NV_API nv_return nvmlDeviceGetMigMode(nv_device device, uint32_t *current, uint32_t *pending)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_ANY, device);
    if (!code && (!current || !pending))
        code = NV_INVALID_ARGUMENT;
    if (!code && (call.gpu->architecture < NV_ARCH_AMPERE || call.gpu->brand == NV_BRAND_GEFORCE))
        code = NV_NOT_SUPPORTED;
    if (!code)
        *current = *pending = call.gpu->mig_mode != 0;
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetMigDeviceHandleByIndex(nv_device device, uint32_t instance, nv_device *mig)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_HANDLE, device);
    if (!code && (!mig || instance >= PS_NODE_MAX_MIG))
        code = NV_INVALID_ARGUMENT;
    if (!code && !call.gpu->mig_mode)
        code = NV_NOT_SUPPORTED;
    if (!code && instance >= call.gpu->n_mig)
        code = NV_NOT_FOUND;
    if (!code)
        *mig = sim_handle_mig(call.index, instance);
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetDeviceHandleFromMigDeviceHandle(nv_device mig, nv_device *device)
{
    sim_call call;
    nv_return code = sim_enter_any(&call, PS_FN_HANDLE, mig);
    if (!code && (!device || !call.mig))
        code = NV_INVALID_ARGUMENT;
    if (!code)
        *device = sim_handle(call.index);
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetAttributes_v2(nv_device device, nv_attributes *attributes)
{
    sim_call call;
    nv_return code = sim_enter_any(&call, PS_FN_ANY, device);
    if (!code && !attributes)
        code = NV_INVALID_ARGUMENT;
    if (!code && !call.mig)
        code = NV_NOT_SUPPORTED;
    if (!code)
        *attributes = (nv_attributes){.multiprocessors = call.mig->slices * SLICE_MULTIPROCESSORS,
                                      .gpu_slices = call.mig->slices,
                                      .compute_slices = call.mig->slices,
                                      .memory_mib = call.mig->memory_bytes >> 20};
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetAttributes(nv_device device, nv_attributes *attributes)
{
    return nvmlDeviceGetAttributes_v2(device, attributes);
}

/* ---- place ---- */

static nv_return pci_info(nv_device device, void *out, size_t bytes)
{
    sim_call call;
    nv_return code = sim_enter(&call, PS_FN_ANY, device);
    if (!code && !out)
        code = NV_INVALID_ARGUMENT;
    if (!code) {
        nv_pci_info info = {.bus = call.gpu->pci_bus, .device_id = call.gpu->pci_device_id};
        unsigned bus = call.gpu->pci_bus & 0xff;
        snprintf(info.bus_id_legacy, sizeof info.bus_id_legacy, "0000:%02X:00.0", bus);
        snprintf(info.bus_id, sizeof info.bus_id, "00000000:%02X:00.0", bus);
        memcpy(out, &info, bytes);
    }
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetPciInfo_v3(nv_device device, nv_pci_info *info)
{
    return pci_info(device, info, sizeof *info);
}

NV_API nv_return nvmlDeviceGetPciInfo_v2(nv_device device, void *info)
{
    return pci_info(device, info, offsetof(nv_pci_info, bus_id));
}

NV_API nv_return nvmlDeviceGetPciInfo(nv_device device, void *info)
{
    return pci_info(device, info, offsetof(nv_pci_info, subsystem_id));
}

/* ---- memory and processes ---- */

enum { PROCESS_MEMORY_BYTES = 1 << 30 };

/* Processes are the whole board's: instances stand empty. */
static uint32_t processes_there(const sim_call *call)
{
    return call->gpu->processes > 0 && !call->mig ? (uint32_t)call->gpu->processes : 0;
}

static nv_memory memory_of(const sim_call *call)
{
    const uint64_t total = call->mig ? call->mig->memory_bytes : call->gpu->memory_bytes;
    uint64_t used = (uint64_t)processes_there(call) * PROCESS_MEMORY_BYTES;
    used = used < total ? used : total;
    return (nv_memory){.total = total, .free = total - used, .used = used};
}

NV_API nv_return nvmlDeviceGetMemoryInfo(nv_device device, nv_memory *memory)
{
    sim_call call;
    nv_return code = sim_enter_any(&call, PS_FN_ANY, device);
    if (!code && !memory)
        code = NV_INVALID_ARGUMENT;
    if (!code)
        *memory = memory_of(&call);
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetMemoryInfo_v2(nv_device device, nv_memory_v2 *memory)
{
    sim_call call;
    nv_return code = sim_enter_any(&call, PS_FN_ANY, device);
    if (!code && !memory)
        code = NV_INVALID_ARGUMENT;
    if (!code && memory->version != NV_MEMORY_V2)
        code = NV_ARGUMENT_VERSION_MISMATCH;
    if (!code) {
        const nv_memory one = memory_of(&call);
        *memory = (nv_memory_v2){.version = NV_MEMORY_V2, .total = one.total, .free = one.free, .used = one.used};
    }
    return sim_leave(&call, code);
}

/* Fills up to *count entries; the calling process and the numbers after it stand for the programs. */
static nv_return processes(nv_device device, uint32_t *count, void *entries, size_t entry_bytes)
{
    sim_call call;
    nv_return code = sim_enter_any(&call, PS_FN_PROCESSES, device);
    if (!code && (!count || (*count && !entries)))
        code = NV_INVALID_ARGUMENT;
    if (!code) {
        const uint32_t there = processes_there(&call);
        code = *count < there ? NV_INSUFFICIENT_SIZE : NV_OK;
        for (uint32_t i = 0; !code && i < there; i++) {
            nv_process_v2 entry = {(uint32_t)getpid() + i, PROCESS_MEMORY_BYTES, UINT32_MAX, UINT32_MAX};
            memcpy((char *)entries + i * entry_bytes, &entry, entry_bytes);
        }
        *count = there;
    }
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetComputeRunningProcesses_v3(nv_device device, uint32_t *count,
                                                         nv_process_v2 *entries)
{
    return processes(device, count, entries, sizeof(nv_process_v2));
}

NV_API nv_return nvmlDeviceGetComputeRunningProcesses_v2(nv_device device, uint32_t *count,
                                                         nv_process_v2 *entries)
{
    return processes(device, count, entries, sizeof(nv_process_v2));
}

NV_API nv_return nvmlDeviceGetComputeRunningProcesses(nv_device device, uint32_t *count,
                                                      nv_process_v1 *entries)
{
    /* The first two members of the later struct. */
    return processes(device, count, entries, sizeof(nv_process_v1));
}

static nv_return no_processes(nv_device device, uint32_t *count)
{
    sim_call call;
    nv_return code = sim_enter_any(&call, PS_FN_PROCESSES, device);
    if (!code && !count)
        code = NV_INVALID_ARGUMENT;
    if (!code)
        *count = 0;
    return sim_leave(&call, code);
}

NV_API nv_return nvmlDeviceGetGraphicsRunningProcesses_v3(nv_device device, uint32_t *count, void *entries)
{
    (void)entries;
    return no_processes(device, count);
}

NV_API nv_return nvmlDeviceGetGraphicsRunningProcesses_v2(nv_device device, uint32_t *count, void *entries)
{
    (void)entries;
    return no_processes(device, count);
}

NV_API nv_return nvmlDeviceGetGraphicsRunningProcesses(nv_device device, uint32_t *count, void *entries)
{
    (void)entries;
    return no_processes(device, count);
}
