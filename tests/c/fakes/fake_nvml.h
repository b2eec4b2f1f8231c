/* SPDX-License-Identifier: Apache-2.0
 *
 * What a test sets and reads in a loaded fake, by dlsym("fake_nvml").
 */
#ifndef PS_TEST_FAKE_NVML_H
#define PS_TEST_FAKE_NVML_H

#include "sources/nvml_abi.h"

enum fake_samples {
    FAKE_SAMPLES_UNSUPPORTED = 0,
    FAKE_SAMPLES_ONE,     /* a ring of one */
    FAKE_SAMPLES_STILL,   /* recent, and always the same */
    FAKE_SAMPLES_FOREIGN, /* alive, by a clock that counts from the start of the machine */
    FAKE_SAMPLES_ALIVE,   /* each millisecond one, by the wall clock; value: the stamp in ms modulo 1e6 */
    FAKE_SAMPLES_RAW      /* the same as it may lie in memory: newest first, and places that were never filled */
};

typedef struct fake_nvml_state {
    int32_t inits;     /* nvmlInit calls not yet undone; 0: everything answers UNINITIALIZED */
    int32_t init_code; /* answered by nvmlInit */
    int32_t init_calls;
    int32_t untouched;    /* 1: nvmlDeviceGetFieldValues succeeds and writes nothing */
    uint32_t value_type;  /* of field 186: its value is 123456 in that type */
    int32_t no_module;    /* 1: a call with an entry of module scope fails as a whole */
    nv_return field_code; /* of field 185's entry */
    nv_return call_code;  /* of every device call when not 0 */
    int32_t samples;      /* enum fake_samples */
    int64_t samples_us;   /* FAKE_SAMPLES_STILL: stamp of the newest */
    uint32_t samples_in_ring; /* 0: 119 */
} fake_nvml_state;

#endif
