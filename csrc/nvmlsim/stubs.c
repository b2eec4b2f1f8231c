/* SPDX-License-Identifier: Apache-2.0
 *
 * A weak definition of every exported name: what no other file here defines answers NOT_SUPPORTED, whatever
 * its arguments (the calling conventions of our machines let a function ignore them). nvidia-smi refuses a
 * library that lacks names.
 */
#include "nvmlsim/names.h"
#include "nvmlsim/sim.h"

#define STUB(name) \
    NV_API __attribute__((weak)) nv_return name(void); \
    nv_return name(void) \
    { \
        return sim_initialised() ? NV_NOT_SUPPORTED : NV_UNINITIALIZED; \
    }

NVMLSIM_NAMES(STUB)

/* Tells the sampler that its readings are simulated. */
NV_API extern const char powersample_nvmlsim[];
const char powersample_nvmlsim[] = "simulated node, not a measurement";
