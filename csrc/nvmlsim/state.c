/* SPDX-License-Identifier: Apache-2.0
 *
 * Initialisation with its reference count, device handles, and the gate of every call.
 *
 * NVML counts its nvmlInit calls per process and refuses everything before the first and after the last
 * shutdown. A driver reload (a new `generation` in the node file) makes every handle of before, and the
 * library itself, uninitialised until the next nvmlInit. Handles are numbers dressed as pointers, so that a
 * stale one is refused rather than followed.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "core/clock.h"
#include "nvmlsim/sim.h"

/* A handle: tag, 8 bits; unused, 8; generation, 24; MIG instance + 1 or 0, 8; index + 1, 8. */
enum { HANDLE_TAG = 0x5a };

static struct {
    pthread_mutex_t lifecycle; /* init, shutdown, `users`, `worlds` */
    pthread_mutex_t driver;    /* the one lock of all calls, where the node asks for it */
    uint32_t users;
    sim_world *worlds;
    _Atomic(sim_world *) current; /* NULL: not initialised */
    _Atomic uint32_t generation;  /* of the driver that the last nvmlInit met */
} state = {.lifecycle = PTHREAD_MUTEX_INITIALIZER, .driver = PTHREAD_MUTEX_INITIALIZER};

static uint32_t driver_generation(const sim_world *world)
{
    /* acquire; pairs with ps_node_reload, which raises it after the counters' new start_ns: without it the
     * first read after a reload may take the old start. */
    return __atomic_load_n(&world->node->generation, __ATOMIC_ACQUIRE);
}

static sim_world *current_world(void)
{
    /* acquire; pairs with the release in sim_init: without it a thread may see a world before its maps. */
    sim_world *world = atomic_load_explicit(&state.current, memory_order_acquire);
    /* relaxed: any generation stored by an nvmlInit will do; a stale one is refused, as it should be. */
    if (world && driver_generation(world) == atomic_load_explicit(&state.generation, memory_order_relaxed))
        return world;
    return NULL;
}

bool sim_initialised(void)
{
    return current_world() != NULL;
}

nv_return sim_init(void)
{
    pthread_mutex_lock(&state.lifecycle);
    nv_return code = NV_OK;
    sim_world *world = state.users ? atomic_load_explicit(&state.current, memory_order_relaxed)
                                   : sim_world_find(&state.worlds, &code);
    if (!world)
        goto out;
    uint32_t generation = driver_generation(world);
    sim_delay(world->node, PS_FN_INIT);
    code = sim_fault(world->node, sim_faults(world->node), PS_FN_INIT, -1, 0);
    if (!code)
        code = __atomic_load_n(&world->node->init_code, __ATOMIC_RELAXED); /* relaxed: see ps_node_set_init */
    if (code)
        goto out;
    if (state.users && generation != atomic_load_explicit(&state.generation, memory_order_relaxed))
        state.users = 0; /* inits of before the reload are void */
    state.users++;
    atomic_store_explicit(&state.generation, generation, memory_order_relaxed); /* see current_world */
    /* release; pairs with the acquire in current_world; publishes the world's mappings. */
    atomic_store_explicit(&state.current, world, memory_order_release);
out:
    pthread_mutex_unlock(&state.lifecycle);
    return code;
}

nv_return sim_shutdown(void)
{
    pthread_mutex_lock(&state.lifecycle);
    nv_return code = state.users ? NV_OK : NV_UNINITIALIZED;
    if (state.users && --state.users == 0)
        /* relaxed: takes something away; a call that still sees the world may finish in it. */
        atomic_store_explicit(&state.current, NULL, memory_order_relaxed);
    pthread_mutex_unlock(&state.lifecycle);
    return code;
}

/* On unloading. At the end of a process threads may still be calling: who never shut down keeps its world. */
__attribute__((destructor)) static void free_worlds(void)
{
    while (!state.users && state.worlds) {
        sim_world *next = state.worlds->next;
        sim_world_free(state.worlds);
        state.worlds = next;
    }
}

static nv_device handle(uint32_t index, uint32_t instance)
{
    /* relaxed: as in current_world. */
    uint64_t generation = atomic_load_explicit(&state.generation, memory_order_relaxed) & 0xffffff;
    return (nv_device)(uintptr_t)((uint64_t)HANDLE_TAG << 56 | generation << 16 | instance << 8 | (index + 1));
}

nv_device sim_handle(uint32_t index)
{
    return handle(index, 0);
}

nv_device sim_handle_mig(uint32_t index, uint32_t instance)
{
    return handle(index, instance + 1);
}

static nv_return enter(sim_call *call, int32_t function, int32_t gpu)
{
    const ps_node *node = call->world->node;
    if (node->one_lock) {
        pthread_mutex_lock(&state.driver);
        call->locked = true;
    }
    sim_delay(node, function);
    call->faults = sim_faults(node);
    return call->faults ? sim_fault(node, call->faults, function, gpu, 0) : NV_OK;
}

nv_return sim_enter_node(sim_call *call, int32_t function, int32_t gpu)
{
    *call = (sim_call){.world = current_world()};
    return call->world ? enter(call, function, gpu) : NV_UNINITIALIZED;
}

nv_return sim_enter_any(sim_call *call, int32_t function, nv_device device)
{
    const uint64_t bits = (uint64_t)(uintptr_t)device;
    const uint32_t index = (uint32_t)(bits & 0xff) - 1, instance = (uint32_t)(bits >> 8 & 0xff);
    *call = (sim_call){.world = current_world(), .index = index};
    if (!call->world)
        return NV_UNINITIALIZED;
    if (bits >> 56 != HANDLE_TAG || index >= call->world->node->n_gpus ||
        instance > call->world->node->gpu[index].n_mig)
        return NV_INVALID_ARGUMENT;
    if (device != handle(index, instance))
        return NV_UNINITIALIZED;
    call->gpu = &call->world->node->gpu[index];
    if (instance) {
        call->mig_index = instance - 1;
        call->mig = &call->gpu->mig[call->mig_index];
    }
    return enter(call, function, (int32_t)index);
}

nv_return sim_enter(sim_call *call, int32_t function, nv_device device)
{
    nv_return code = sim_enter_any(call, function, device);
    return code || !call->mig ? code : NV_NOT_SUPPORTED;
}

nv_return sim_leave(sim_call *call, nv_return code)
{
    if (call->locked)
        pthread_mutex_unlock(&state.driver);
    return code;
}

nv_return sim_copy_text(char *out, uint32_t capacity, const char *text)
{
    size_t bytes = strlen(text) + 1;
    if (!out)
        return NV_INVALID_ARGUMENT;
    if (bytes > capacity)
        return NV_INSUFFICIENT_SIZE;
    memcpy(out, text, bytes);
    return NV_OK;
}
