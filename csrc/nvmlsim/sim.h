/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the NVML stand-in: one world (node file, truths), and the gate that every call passes.
 *
 * A call reads: enter (initialised? handle valid? whose lock, what delay, which fault?), answer, leave. The
 * library is as global as the one it stands for, so the process state lives here, in one place.
 */
#ifndef PS_NVMLSIM_SIM_H
#define PS_NVMLSIM_SIM_H

#include <stdbool.h>
#include <stddef.h>

#include "powersample.h"
#include "powersample_sim.h"
#include "sources/nvml_abi.h"

#define NV_API __attribute__((visibility("default")))

/* A mapped node. Worlds are kept until the library is unloaded: another thread may still be inside one. */
typedef struct sim_world {
    const ps_node *node;
    ps_truth *truth[PS_NODE_MAX_GPUS];
    uint64_t device_id, inode; /* which file it is */
    struct sim_world *next;
} sim_world;

typedef struct sim_call {
    sim_world *world;
    const ps_node_gpu *gpu; /* NULL for calls about no device */
    const ps_node_mig *mig; /* NULL for a whole GPU */
    uint32_t index;
    uint32_t mig_index;
    uint32_t faults; /* see sim_faults */
    bool locked;
} sim_call;

/* state.c */
nv_return sim_init(void);
nv_return sim_shutdown(void);
/* Calls about the node. `gpu` is what faults match: an index, or -1. */
nv_return sim_enter_node(sim_call *call, int32_t function, int32_t gpu);
/* Calls about a device; a handle of before a driver reload is UNINITIALIZED, a MIG instance NOT_SUPPORTED. */
nv_return sim_enter(sim_call *call, int32_t function, nv_device device);
/* Calls that answer for MIG instances, too. */
nv_return sim_enter_any(sim_call *call, int32_t function, nv_device device);
nv_return sim_leave(sim_call *call, nv_return code);
bool sim_initialised(void);
nv_device sim_handle(uint32_t index);
nv_device sim_handle_mig(uint32_t index, uint32_t instance);
nv_return sim_copy_text(char *out, uint32_t capacity, const char *text);

/* world.c */
/* The world of today's node file, from the list or added to it; NULL with a code. */
sim_world *sim_world_find(sim_world **worlds, nv_return *code);
void sim_world_free(sim_world *world);
/* Value of a sensor for a reader now, and when it was published (NULL allowed); NV_NOT_SUPPORTED where the board has
 * none. */
nv_return sim_sensor(const sim_call *call, int32_t which, int64_t now_ns, int64_t *value, int64_t *published_ns);
/* The driver's clock, us since 1970, at an instant of ours. */
int64_t sim_stamp_us(const ps_node *node, int64_t monotonic_ns);
/* Mean true power over the last span_ns, or over as much of it as there is. */
int64_t sim_mean_power_mw(const sim_call *call, int64_t now_ns, int64_t span_ns);
/* 0..100, of the way from idle to full power over the last sixth of a second. */
uint32_t sim_busy_percent(const sim_call *call, int64_t now_ns);

/* faults.c */
void sim_delay(const ps_node *node, int32_t function);
/* Which faults are set, one bit each: looked at once a call. */
uint32_t sim_faults(const ps_node *node);
/* What the first of them that applies answers, after its hang; NV_OK when none does. */
nv_return sim_fault(const ps_node *node, uint32_t active, int32_t function, int32_t gpu, int32_t field);


#endif
