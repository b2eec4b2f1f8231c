/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the nvml source: a GPU, the calls that read it, and the table of calls that there may be.
 */
#ifndef PS_NVML_SOURCE_H
#define PS_NVML_SOURCE_H

#include "sources/nvml_clock.h"
#include "sources/nvml_lib.h"

enum { NVML_FIELDS_MAX = 4, NVML_CALLS_MAX = 12, NVML_CHANNELS_MAX = 24 };

#define NVML_NO_PASS UINT64_MAX

typedef struct nvml_source nvml_source;
typedef struct nvml_call nvml_call;

/* Makes the call and fills one reading a channel. Returns how many. */
typedef uint32_t (*nvml_reader)(nvml_source *self, const nvml_call *call, ps_reading *out);

struct nvml_call {
    nvml_reader read;
    uint16_t channel; /* of its first reading */
    uint16_t n_fields;
    struct {
        uint16_t id, scope;
    } field[NVML_FIELDS_MAX];
};

struct nvml_source {
    ps_source base; /* first */
    ps_nvml *nvml;
    const nv_api *api;
    nv_device device;
    uint32_t index;
    uint32_t era; /* see ps_nvml.inits */
    char uuid[96];
    nvml_call calls[NVML_CALLS_MAX];
    ps_channel channels[NVML_CHANNELS_MAX];
    ps_group groups[NVML_CALLS_MAX];

    /* What the current pass told about the device, and the way back. */
    uint64_t pass;
    uint64_t answered_pass;  /* in which something was last read, or NVML_NO_PASS */
    uint64_t trouble_pass;   /* of `trouble`, which is 0 or a code that may mean that the device or driver is gone */
    nv_return trouble;
    uint32_t unknown_passes; /* in a row, with nothing else answered */
    uint64_t unknown_pass;   /* the last of them */
    int64_t last_try_ns, next_try_ns, backoff_ns;

    /* The driver's own samples: nvml_samples.c. */
    nv_sample *ring;
    uint32_t ring_capacity;
    uint64_t last_seen_us; /* stamp of the newest that was taken */
    nvml_clock clock;
    int64_t stamps_ns[PS_GROUP_MAX];
};

bool nvml_means_gone(nv_return code);

typedef struct nvml_channel_row {
    const char *name; /* after "gpuN." */
    const char *unit;
    const char *sensor;
    double scale;
} nvml_channel_row;

typedef struct nvml_call_row {
    nvml_reader read;
    size_t symbol; /* offset of the nv_api member that it needs */
    int32_t kind;
    double max_hz;
    uint32_t n_channels;
    nvml_channel_row channels[2];
} nvml_call_row;

typedef struct nvml_field_row {
    uint16_t id, scope;
    nvml_channel_row channel;
} nvml_field_row;

/* The power fields share one call, nvml_read_fields. */
extern const nvml_field_row nvml_power_fields[NVML_FIELDS_MAX];
extern const nvml_field_row nvml_energy_field; /* where nvml_energy_call is not to be had */
extern const nvml_call_row nvml_power_call, nvml_energy_call;
extern const nvml_call_row nvml_aux_calls[];
extern const uint32_t nvml_n_aux_calls;

uint32_t nvml_read_fields(nvml_source *self, const nvml_call *call, ps_reading *out);
/* One reading more: the timestamp of the first field. */
uint32_t nvml_read_stamped_fields(nvml_source *self, const nvml_call *call, ps_reading *out);
/* Whether that timestamp tells more than when the call was made. Takes up to 150 ms. */
bool nvml_fields_are_stamped(nvml_source *self, const nvml_call *call);

/* The driver's ring of power samples: whether it lives, which takes up to 150 ms; if not, the reason is in the source's
 * note. *hz: how often it must be read so that nothing falls out of it. */
bool nvml_samples_open(nvml_source *self, double *hz);
uint32_t nvml_read_samples(nvml_source *self, const nvml_call *call, ps_reading *out);

void nvml_give(nvml_source *self, ps_reading *out, uint32_t channel, nv_return code, int64_t raw);
/* The value of a union that the library says is of `type`; false if that is no number we know. */
bool nvml_value(const nv_value *value, uint32_t type, int64_t *raw);

#endif
