/* SPDX-License-Identifier: Apache-2.0
 *
 * A loaded NVML, shared by the opener and one source a GPU.
 */
#ifndef PS_NVML_LIB_H
#define PS_NVML_LIB_H

#include <stdatomic.h>
#include <stdbool.h>

#include "core/source.h"
#include "sources/nvml_abi.h"

/* NULL: this library lacks the call. */
typedef struct nv_api {
    nv_return (*init)(void);
    nv_return (*shutdown)(void);
    const char *(*error_string)(nv_return code);
    nv_return (*driver_version)(char *out, uint32_t capacity);
    nv_return (*library_version)(char *out, uint32_t capacity);
    nv_return (*count)(uint32_t *count);
    nv_return (*handle_by_index)(uint32_t index, nv_device *device);
    nv_return (*handle_by_uuid)(const char *uuid, nv_device *device);
    nv_return (*name)(nv_device device, char *out, uint32_t capacity);
    nv_return (*uuid)(nv_device device, char *out, uint32_t capacity);
    nv_return (*pci_info_v3)(nv_device device, void *info);
    nv_return (*pci_info)(nv_device device, void *info); /* before _v3: only the head of nv_pci_info is written */
    nv_return (*architecture)(nv_device device, uint32_t *architecture);
    nv_return (*limit)(nv_device device, uint32_t *mw);
    nv_return (*limit_default)(nv_device device, uint32_t *mw);
    nv_return (*limit_range)(nv_device device, uint32_t *low_mw, uint32_t *high_mw);
    nv_return (*persistence)(nv_device device, int32_t *on);
    nv_return (*mig_mode)(nv_device device, uint32_t *current, uint32_t *pending);
    nv_return (*processes)(nv_device device, uint32_t *count, void *entries);
    nv_return (*power_usage)(nv_device device, uint32_t *mw);
    nv_return (*field_values)(nv_device device, int count, nv_field_value *entries);
    nv_return (*samples)(nv_device device, int32_t type, uint64_t last_seen_us, uint32_t *value_type, uint32_t *count,
                         nv_sample *out);
    nv_return (*total_energy)(nv_device device, uint64_t *mj);
    nv_return (*utilization)(nv_device device, nv_utilization *out);
    nv_return (*clock)(nv_device device, int32_t clock, uint32_t *mhz);
    nv_return (*temperature)(nv_device device, int32_t sensor, uint32_t *degc);
    nv_return (*pstate)(nv_device device, int32_t *state);
    nv_return (*throttle)(nv_device device, uint64_t *reasons);
} nv_api;

struct ps_nvml {
    nv_api api;
    void *library;
    _Atomic uint32_t users; /* the opener and every source */
    /* Low half: nvmlInit calls to be balanced by nvmlShutdown; a source that recovers makes one more. High
     * half: the era, raised when the library turns out to have forgotten all inits of before. */
    _Atomic uint64_t inits;
    int32_t simulated;
    char name[128]; /* as it was asked for */
};

/* Loads `asked`, or the driver's for NULL, and writes its name, on failure too. */
int nvml_load(const char *asked, void **library, char *name, size_t name_size, ps_error *error);
void nvml_hold(ps_nvml *nvml);
/* Fills *error with what NVML says about `code`; returns the status it amounts to. */
int nvml_fail(const ps_nvml *nvml, ps_error *error, nv_return code, const char *call, const char *about);
/* One more nvmlInit to be undone by the last user. `forgotten`: the library had lost the inits of `era`, the
 * caller's; the first to say so voids them, for to undo them too would shut it down under somebody else.
 * Returns the era of this init. */
uint32_t nvml_init_count(ps_nvml *nvml, bool forgotten, uint32_t era);
/* Number of compute processes, without their entries. */
nv_return nvml_process_count(const nv_api *api, nv_device device, uint32_t *count);

#endif
