/* SPDX-License-Identifier: Apache-2.0
 *
 * A loaded NVML: which names it has, what it knows about itself and its boards. The official header renames calls to
 * their newest version by macros; who asks by name asks for that version first.
 */
#include <dlfcn.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sources/nvml_lib.h"

static const struct symbol {
    size_t offset;
    const char *names[3]; /* best first */
} symbols[] = {
    {offsetof(nv_api, init), {"nvmlInit_v2", "nvmlInit"}},
    {offsetof(nv_api, shutdown), {"nvmlShutdown"}},
    {offsetof(nv_api, error_string), {"nvmlErrorString"}},
    {offsetof(nv_api, driver_version), {"nvmlSystemGetDriverVersion"}},
    {offsetof(nv_api, library_version), {"nvmlSystemGetNVMLVersion"}},
    {offsetof(nv_api, count), {"nvmlDeviceGetCount_v2", "nvmlDeviceGetCount"}},
    {offsetof(nv_api, handle_by_index), {"nvmlDeviceGetHandleByIndex_v2", "nvmlDeviceGetHandleByIndex"}},
    {offsetof(nv_api, handle_by_uuid), {"nvmlDeviceGetHandleByUUID"}},
    {offsetof(nv_api, name), {"nvmlDeviceGetName"}},
    {offsetof(nv_api, uuid), {"nvmlDeviceGetUUID"}},
    {offsetof(nv_api, pci_info_v3), {"nvmlDeviceGetPciInfo_v3"}},
    {offsetof(nv_api, pci_info), {"nvmlDeviceGetPciInfo_v2", "nvmlDeviceGetPciInfo"}},
    {offsetof(nv_api, architecture), {"nvmlDeviceGetArchitecture"}},
    {offsetof(nv_api, limit), {"nvmlDeviceGetPowerManagementLimit"}},
    {offsetof(nv_api, limit_default), {"nvmlDeviceGetPowerManagementDefaultLimit"}},
    {offsetof(nv_api, limit_range), {"nvmlDeviceGetPowerManagementLimitConstraints"}},
    {offsetof(nv_api, persistence), {"nvmlDeviceGetPersistenceMode"}},
    {offsetof(nv_api, mig_mode), {"nvmlDeviceGetMigMode"}},
    {offsetof(nv_api, processes),
     {"nvmlDeviceGetComputeRunningProcesses_v3", "nvmlDeviceGetComputeRunningProcesses_v2",
      "nvmlDeviceGetComputeRunningProcesses"}},
    {offsetof(nv_api, power_usage), {"nvmlDeviceGetPowerUsage"}},
    {offsetof(nv_api, field_values), {"nvmlDeviceGetFieldValues"}},
    {offsetof(nv_api, samples), {"nvmlDeviceGetSamples"}},
    {offsetof(nv_api, total_energy), {"nvmlDeviceGetTotalEnergyConsumption"}},
    {offsetof(nv_api, utilization), {"nvmlDeviceGetUtilizationRates"}},
    {offsetof(nv_api, clock), {"nvmlDeviceGetClockInfo"}},
    {offsetof(nv_api, temperature), {"nvmlDeviceGetTemperature"}},
    {offsetof(nv_api, pstate), {"nvmlDeviceGetPerformanceState"}},
    {offsetof(nv_api, throttle),
     {"nvmlDeviceGetCurrentClocksEventReasons", "nvmlDeviceGetCurrentClocksThrottleReasons"}},
};

static void load_symbols(void *library, nv_api *api)
{
    for (size_t i = 0; i < sizeof symbols / sizeof symbols[0]; i++)
        for (size_t j = 0; j < 3 && symbols[i].names[j]; j++) {
            void *address = dlsym(library, symbols[i].names[j]);
            if (!address)
                continue;
            memcpy((char *)api + symbols[i].offset, &address, sizeof address);
            break;
        }
}

static int check_symbols(const ps_nvml *nvml, ps_error *error)
{
    const nv_api *api = &nvml->api;
    const char *missing =
        !api->init              ? "nvmlInit_v2, nvmlInit"
        : !api->handle_by_index ? "nvmlDeviceGetHandleByIndex_v2, nvmlDeviceGetHandleByIndex"
        : !api->power_usage && !api->field_values ? "nvmlDeviceGetPowerUsage, nvmlDeviceGetFieldValues"
                                                  : NULL;
    if (!missing)
        return PS_OK;
    return ps_fail(error, PS_E_UNSUPPORTED, NV_FUNCTION_NOT_FOUND, "dlsym", "%s has none of %s", nvml->name,
                   missing);
}

int nvml_fail(const ps_nvml *nvml, ps_error *error, nv_return code, const char *call, const char *about)
{
    int status = PS_E_VENDOR;
    if (code == NV_NOT_SUPPORTED || code == NV_FUNCTION_NOT_FOUND)
        status = PS_E_UNSUPPORTED;
    else if (code == NV_NO_PERMISSION)
        status = PS_E_ACCESS;
    else if (code == NV_NOT_FOUND)
        status = PS_E_NOT_FOUND;
    else if (code == NV_TIMEOUT)
        status = PS_E_TIMEOUT;
    const char *says = nvml->api.error_string ? nvml->api.error_string(code) : NULL;
    return ps_fail(error, status, code, call, "%s: %s (NVML error %d)", about, says ? says : "no text", code);
}

uint32_t nvml_init_count(ps_nvml *nvml, bool forgotten, uint32_t era)
{
    /* relaxed: the count is used once, by the last user, whose acquire of `users` orders it; lanes that count
     * at the same time agree on an order by the exchange itself. */
    uint64_t before = atomic_load_explicit(&nvml->inits, memory_order_relaxed), after;
    do {
        bool first = forgotten && (uint32_t)(before >> 32) == era;
        after = first ? ((before >> 32) + 1) << 32 | 1 : before + 1;
    } while (!atomic_compare_exchange_weak_explicit(&nvml->inits, &before, after, memory_order_relaxed,
                                                    memory_order_relaxed));
    return (uint32_t)(after >> 32);
}

void nvml_hold(ps_nvml *nvml)
{
    /* relaxed: the caller is a user already. */
    atomic_fetch_add_explicit(&nvml->users, 1, memory_order_relaxed);
}

int ps_nvml_open(const char *library, ps_nvml **out, ps_error *error)
{
    if (!out || (library && !library[0]))
        return ps_fail(error, PS_E_INVALID, 0, "ps_nvml_open",
                       "an empty library name, or nowhere to return it");
    ps_nvml *nvml = calloc(1, sizeof *nvml);
    if (!nvml)
        return ps_fail(error, PS_E_NOMEM, 0, "ps_nvml_open", "out of memory");
    nv_return code;
    atomic_init(&nvml->users, 1);
    int status = nvml_load(library, &nvml->library, nvml->name, sizeof nvml->name, error);
    if (status != PS_OK)
        goto out;
    load_symbols(nvml->library, &nvml->api);
    status = check_symbols(nvml, error);
    if (status != PS_OK)
        goto out;
    nvml->simulated = dlsym(nvml->library, "powersample_nvmlsim") != NULL;
    code = nvml->api.init();
    if (code != NV_OK) {
        status = nvml_fail(nvml, error, code, "nvmlInit_v2", nvml->name);
        goto out;
    }
    (void)nvml_init_count(nvml, false, 0);
    *out = nvml;
    return PS_OK;
out:
    ps_nvml_close(nvml);
    return status;
}

void ps_nvml_close(ps_nvml *nvml)
{
    /* acq_rel; pairs with itself in the other users: the last one must see all that they did before it
     * unloads the code they ran in. */
    if (!nvml || atomic_fetch_sub_explicit(&nvml->users, 1, memory_order_acq_rel) > 1)
        return;
    /* relaxed: ordered by the acquire above. */
    uint32_t inits = (uint32_t)atomic_load_explicit(&nvml->inits, memory_order_relaxed);
    while (inits-- && nvml->api.shutdown)
        (void)nvml->api.shutdown();
    if (nvml->library)
        dlclose(nvml->library);
    free(nvml);
}

int ps_nvml_count(ps_nvml *nvml, uint32_t *count, ps_error *error)
{
    if (!nvml || !count)
        return ps_fail(error, PS_E_INVALID, 0, "ps_nvml_count", "no library, or nowhere to return it");
    uint32_t found = 0;
    nv_return code = nvml->api.count ? nvml->api.count(&found) : NV_FUNCTION_NOT_FOUND;
    if (code != NV_OK)
        return nvml_fail(nvml, error, code, "nvmlDeviceGetCount_v2", nvml->name);
    *count = found;
    return PS_OK;
}

int ps_nvml_versions(ps_nvml *nvml, char *driver, uint32_t driver_size, char *library, uint32_t library_size,
                     int32_t *simulated, ps_error *error)
{
    if (!nvml || (driver && !driver_size) || (library && !library_size))
        return ps_fail(error, PS_E_INVALID, 0, "ps_nvml_versions", "no library, or a buffer without room");
    char text[2][96] = {"", ""};
    nv_return code =
        nvml->api.driver_version ? nvml->api.driver_version(text[0], sizeof text[0]) : NV_FUNCTION_NOT_FOUND;
    if (code != NV_OK)
        return nvml_fail(nvml, error, code, "nvmlSystemGetDriverVersion", nvml->name);
    code = nvml->api.library_version ? nvml->api.library_version(text[1], sizeof text[1])
                                     : NV_FUNCTION_NOT_FOUND;
    if (code != NV_OK)
        return nvml_fail(nvml, error, code, "nvmlSystemGetNVMLVersion", nvml->name);
    if (driver)
        snprintf(driver, driver_size, "%s", text[0]);
    if (library)
        snprintf(library, library_size, "%s", text[1]);
    if (simulated)
        *simulated = nvml->simulated;
    return PS_OK;
}

nv_return nvml_process_count(const nv_api *api, nv_device device, uint32_t *count)
{
    *count = 0; /* asks for the number alone; "too small a buffer" is the answer when there are any */
    nv_return code = api->processes(device, count, NULL);
    return code == NV_INSUFFICIENT_SIZE ? NV_OK : code;
}

static const char *architecture_name(uint32_t architecture)
{
    static const char *const names[] = {
        [NV_ARCH_KEPLER] = "kepler", [NV_ARCH_MAXWELL] = "maxwell", [NV_ARCH_PASCAL] = "pascal",
        [NV_ARCH_VOLTA] = "volta",   [NV_ARCH_TURING] = "turing",   [NV_ARCH_AMPERE] = "ampere",
        [NV_ARCH_ADA] = "ada",       [NV_ARCH_HOPPER] = "hopper",   [NV_ARCH_BLACKWELL] = "blackwell",
    };
    const char *name = architecture < sizeof names / sizeof names[0] ? names[architecture] : NULL;
    return name ? name : "";
}

/* Everything but the handle may be missing: then the member keeps what means unknown. */
static void describe(const nv_api *api, nv_device device, ps_nvml_device *out)
{
    union {
        nv_pci_info newest;
        char room[256];
    } pci = {.room = {0}};
    uint32_t word = 0, other = 0;
    int32_t on = 0;
    if (!api->name || api->name(device, out->name, sizeof out->name) != NV_OK)
        out->name[0] = 0;
    if (!api->uuid || api->uuid(device, out->uuid, sizeof out->uuid) != NV_OK)
        out->uuid[0] = 0;
    if (api->pci_info_v3 && api->pci_info_v3(device, &pci) == NV_OK)
        snprintf(out->pci_bus_id, sizeof out->pci_bus_id, "%.31s", pci.newest.bus_id);
    else if (api->pci_info && api->pci_info(device, &pci) == NV_OK)
        snprintf(out->pci_bus_id, sizeof out->pci_bus_id, "%.15s", pci.newest.bus_id_legacy);
    if (api->architecture && api->architecture(device, &word) == NV_OK)
        snprintf(out->architecture, sizeof out->architecture, "%s", architecture_name(word));
    if (api->limit && api->limit(device, &word) == NV_OK)
        out->power_limit_mw = word;
    if (api->limit_default && api->limit_default(device, &word) == NV_OK)
        out->power_limit_default_mw = word;
    if (api->limit_range && api->limit_range(device, &word, &other) == NV_OK) {
        out->power_limit_min_mw = word;
        out->power_limit_max_mw = other;
    }
    if (api->persistence && api->persistence(device, &on) == NV_OK)
        out->persistence = on;
    if (api->mig_mode && api->mig_mode(device, &word, &other) == NV_OK)
        out->mig = word != 0;
    if (api->processes && nvml_process_count(api, device, &word) == NV_OK)
        out->compute_processes = (int32_t)word;
}

int ps_nvml_describe(ps_nvml *nvml, uint32_t index, ps_nvml_device *out, ps_error *error)
{
    if (!nvml || !out)
        return ps_fail(error, PS_E_INVALID, 0, "ps_nvml_describe", "no library, or nowhere to return it");
    nv_device device;
    char about[16];
    snprintf(about, sizeof about, "gpu%u", index);
    nv_return code = nvml->api.handle_by_index(index, &device);
    if (code != NV_OK)
        return nvml_fail(nvml, error, code, "nvmlDeviceGetHandleByIndex_v2", about);
    *out = (ps_nvml_device){.index = index, .persistence = -1, .mig = -1, .compute_processes = -1};
    describe(&nvml->api, device, out);
    return PS_OK;
}
