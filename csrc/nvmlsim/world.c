/* SPDX-License-Identifier: Apache-2.0
 *
 * Finds and maps the node, and asks its truths. Each thread remembers every channel's last publication: a
 * poll that meets no new one costs no integration.
 */
#include <dlfcn.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "nvmlsim/sim.h"

enum { BUSY_SPAN_NS = 1000000000 / 6 };

/* The path of node.bin: beside this library, as it was loaded, else what $POWERSAMPLE_NODE names. */
static bool node_path(char *out, size_t capacity)
{
    Dl_info self;
    struct stat file;
    const char *slash =
        dladdr((const void *)(uintptr_t)node_path, &self) ? strrchr(self.dli_fname, '/') : NULL;
    if (slash) {
        int used = snprintf(out, capacity, "%.*s/node.bin", (int)(slash - self.dli_fname), self.dli_fname);
        if (used > 0 && (size_t)used < capacity && stat(out, &file) == 0)
            return true;
    }
    const char *named = secure_getenv("POWERSAMPLE_NODE");
    return named && (size_t)snprintf(out, capacity, "%s", named) < capacity;
}

static bool open_truths(sim_world *world, const char *node_file)
{
    char path[PATH_MAX];
    const char *slash = strrchr(node_file, '/');
    int folder = slash ? (int)(slash - node_file) + 1 : 0;
    for (uint32_t i = 0; i < world->node->n_gpus; i++) {
        const ps_node_gpu *gpu = &world->node->gpu[i];
        int used = snprintf(path, sizeof path, "%.*s%.*s", folder, node_file, (int)sizeof gpu->truth_file,
                            gpu->truth_file);
        if (used < 0 || (size_t)used >= sizeof path || ps_truth_open(path, &world->truth[i]) != PS_OK)
            return false;
    }
    return true;
}

void sim_world_free(sim_world *world)
{
    for (uint32_t i = 0; i < PS_NODE_MAX_GPUS; i++)
        ps_truth_close(world->truth[i]);
    if (world->node)
        ps_node_unmap((ps_node *)(uintptr_t)world->node);
    free(world);
}

sim_world *sim_world_find(sim_world **worlds, nv_return *code)
{
    char path[PATH_MAX];
    struct stat file;
    *code = NV_DRIVER_NOT_LOADED;
    if (!node_path(path, sizeof path) || stat(path, &file) != 0)
        return NULL;
    *code = NV_OK;
    for (sim_world *known = *worlds; known; known = known->next)
        if (known->device_id == file.st_dev && known->inode == file.st_ino)
            return known;
    sim_world *world = calloc(1, sizeof *world);
    ps_node *node = NULL;
    int status = world ? ps_node_map(path, 0, &node) : PS_E_NOMEM;
    if (status == PS_OK) {
        world->node = node;
        world->device_id = file.st_dev;
        world->inode = file.st_ino;
        if (open_truths(world, path)) {
            world->next = *worlds;
            *worlds = world;
            return world;
        }
    }
    /* A node file of another version is to us what a driver of another version is to the real library. */
    *code = status == PS_E_FORMAT ? NV_LIB_RM_VERSION_MISMATCH : NV_UNKNOWN;
    if (world)
        sim_world_free(world);
    return NULL;
}

static _Thread_local struct {
    const sim_world *world; /* whose memos these are */
    ps_sensor_memo memo[PS_NODE_MAX_GPUS][PS_NODE_SENSORS];
} remembered;

int64_t sim_stamp_us(const ps_node *node, int64_t monotonic_ns)
{
    /* acquire; pairs with the releases in ps_node_step_clock: without it a step could be taken at its instant and
     * with another's width. */
    int64_t step_at_ns = __atomic_load_n(&node->step_at_ns, __ATOMIC_ACQUIRE);
    /* relaxed: whole words, which belong to step_at_ns. */
    int64_t ns = monotonic_ns + __atomic_load_n(&node->realtime_ns, __ATOMIC_RELAXED);
    if (step_at_ns && monotonic_ns >= step_at_ns)
        ns += __atomic_load_n(&node->step_ns, __ATOMIC_RELAXED);
    return ns / 1000;
}

nv_return sim_sensor(const sim_call *call, int32_t which, int64_t now_ns, int64_t *value, int64_t *published_ns)
{
    if (which < 0 || which >= PS_NODE_SENSORS)
        return NV_NOT_SUPPORTED;
    if (remembered.world != call->world) {
        memset(&remembered, 0, sizeof remembered);
        remembered.world = call->world;
    }
    int status = ps_sensor_read(&call->gpu->sensor[which], call->world->truth[call->index], now_ns,
                                &remembered.memo[call->index][which], value, NULL, published_ns);
    return status == PS_OK ? NV_OK : status == PS_E_UNSUPPORTED ? NV_NOT_SUPPORTED : NV_UNKNOWN;
}

int64_t sim_mean_power_mw(const sim_call *call, int64_t now_ns, int64_t span_ns)
{
    const ps_truth *truth = call->world->truth[call->index];
    int64_t pj;
    for (; span_ns > 1000000; span_ns /= 2)
        if (ps_truth_energy_pj(truth, now_ns - span_ns, now_ns, &pj) == PS_OK)
            return pj / span_ns;
    int32_t power_mw = 0;
    (void)ps_truth_power_mw(truth, &now_ns, 1, &power_mw);
    return power_mw;
}

uint32_t sim_busy_percent(const sim_call *call, int64_t now_ns)
{
    int64_t idle = call->gpu->idle_mw;
    int64_t range = (int64_t)call->gpu->max_mw - idle;
    int64_t percent =
        range > 0 ? (100 * (sim_mean_power_mw(call, now_ns, BUSY_SPAN_NS) - idle) + range / 2) / range : 0;
    return percent < 0 ? 0 : percent > 100 ? 100 : (uint32_t)percent;
}
