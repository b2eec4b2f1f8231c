/* SPDX-License-Identifier: Apache-2.0
 *
 * What we need of NVML's binary interface, written by hand: the sampler loads the library at run time and the
 * project ships without NVIDIA's header. tests/test_nvml_abi.py holds every line here against the official
 * nvml.h.
 */
#ifndef PS_NVML_ABI_H
#define PS_NVML_ABI_H

#include <stdint.h>

enum nv_code {
    NV_OK = 0,
    NV_UNINITIALIZED = 1,
    NV_INVALID_ARGUMENT = 2,
    NV_NOT_SUPPORTED = 3,
    NV_NO_PERMISSION = 4,
    NV_NOT_FOUND = 6,
    NV_INSUFFICIENT_SIZE = 7,
    NV_DRIVER_NOT_LOADED = 9,
    NV_TIMEOUT = 10,
    NV_LIBRARY_NOT_FOUND = 12,
    NV_FUNCTION_NOT_FOUND = 13,
    NV_GPU_IS_LOST = 15,
    NV_RESET_REQUIRED = 16,
    NV_LIB_RM_VERSION_MISMATCH = 18,
    NV_IN_USE = 19,
    NV_NO_DATA = 21,
    NV_ARGUMENT_VERSION_MISMATCH = 25,
    NV_UNKNOWN = 999
};

typedef int32_t nv_return; /* nvmlReturn_t */
typedef struct nv_device_handle *nv_device; /* nvmlDevice_t: opaque */

enum nv_value_type {
    NV_TYPE_DOUBLE = 0,
    NV_TYPE_U32 = 1,
    NV_TYPE_ULONG = 2, /* unsigned long: 64 bit on every Linux we run on */
    NV_TYPE_U64 = 3,
    NV_TYPE_S64 = 4,
    NV_TYPE_S32 = 5,
    NV_TYPE_U16 = 6
};

typedef union nv_value {
    double as_double;
    uint32_t as_u32;
    uint64_t as_u64;
    int64_t as_s64;
    int32_t as_s32;
    uint16_t as_u16;
} nv_value;

typedef struct nv_field_value {
    uint32_t field;
    uint32_t scope;
    int64_t timestamp_us;
    int64_t latency_us;
    uint32_t value_type;
    nv_return code; /* of this entry: the call succeeds even when entries fail */
    nv_value value;
} nv_field_value;

enum nv_field {
    NV_FIELD_TOTAL_ENERGY = 83,   /* mJ since the driver was loaded */
    NV_FIELD_POWER_AVERAGE = 185, /* mW over 1 s */
    NV_FIELD_POWER_INSTANT = 186, /* mW */
    NV_FIELD_LIMIT_MIN = 187,     /* limits in mW */
    NV_FIELD_LIMIT_MAX = 188,
    NV_FIELD_LIMIT_DEFAULT = 189,
    NV_FIELD_LIMIT_CURRENT = 190,
    NV_FIELD_ENERGY = 191, /* as 83 */
    NV_FIELD_LIMIT_REQUESTED = 192
};

/* nvmlSamplingType_t; mW with stamps of the CPU's clock, in rings of the driver */
enum nv_sampling { NV_SAMPLES_TOTAL_POWER = 0, NV_SAMPLES_MODULE_POWER = 7 };

typedef struct nv_sample {
    uint64_t timestamp_us;
    nv_value value;
} nv_sample;

enum nv_scope { NV_SCOPE_GPU = 0, NV_SCOPE_MODULE = 1 };
enum nv_clock { NV_CLOCK_GRAPHICS = 0, NV_CLOCK_SM = 1, NV_CLOCK_MEM = 2, NV_CLOCK_VIDEO = 3 };
enum nv_throttle { NV_THROTTLE_GPU_IDLE = 1, NV_THROTTLE_POWER_CAP = 4 };
enum { NV_TEMPERATURE_GPU = 0, NV_BRAND_GEFORCE = 5, NV_INIT_FLAG_NO_GPUS = 1 };

enum nv_architecture {
    NV_ARCH_KEPLER = 2,
    NV_ARCH_MAXWELL = 3,
    NV_ARCH_PASCAL = 4,
    NV_ARCH_VOLTA = 5,
    NV_ARCH_TURING = 6,
    NV_ARCH_AMPERE = 7,
    NV_ARCH_ADA = 8,
    NV_ARCH_HOPPER = 9,
    NV_ARCH_BLACKWELL = 10
};

typedef struct nv_utilization {
    uint32_t gpu;
    uint32_t memory;
} nv_utilization;

typedef struct nv_pci_info {
    char bus_id_legacy[16];
    uint32_t domain;
    uint32_t bus;
    uint32_t device;
    uint32_t device_id;
    uint32_t subsystem_id; /* from here on since _v2 */
    char bus_id[32];       /* since _v3 */
} nv_pci_info;

typedef struct nv_memory {
    uint64_t total;
    uint64_t free;
    uint64_t used;
} nv_memory;

typedef struct nv_memory_v2 {
    uint32_t version; /* NV_MEMORY_V2 */
    uint64_t total;
    uint64_t reserved;
    uint64_t free;
    uint64_t used;
} nv_memory_v2;

#define NV_MEMORY_V2 ((uint32_t)(sizeof(nv_memory_v2) | (2u << 24)))

typedef struct nv_attributes { /* of a MIG instance */
    uint32_t multiprocessors;
    uint32_t copy_engines, decoders, encoders, jpeg, ofa;
    uint32_t gpu_slices, compute_slices;
    uint64_t memory_mib;
} nv_attributes;

typedef struct nv_process_v1 {
    uint32_t pid;
    uint64_t used_memory;
} nv_process_v1;

typedef struct nv_process_v2 { /* of _v2 and _v3 */
    uint32_t pid;
    uint64_t used_memory;
    uint32_t gpu_instance;
    uint32_t compute_instance;
} nv_process_v2;

#endif
