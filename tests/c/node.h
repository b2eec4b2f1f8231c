/* SPDX-License-Identifier: Apache-2.0
 *
 * A simulated node in a temporary folder: its own copy of the NVML stand-in (a loader takes two links to one
 * file for one library), a node file and one truth a GPU, constant unless a test appends.
 */
#ifndef PS_TEST_NODE_H
#define PS_TEST_NODE_H

#include <sys/stat.h>
#include <unistd.h>

#include "harness.h"
#include "powersample.h"
#include "powersample_sim.h"

enum { NODE_POWER_MW = 250000, NODE_PERIOD_NS = 1000000 };

typedef struct test_node {
    char folder[64];
    char library[96];
    ps_node *node; /* writable */
    uint32_t n_gpus;
    int64_t start_ns; /* of truth and counters: ten seconds ago */
} test_node;

static inline void node_copy_file(const char *from, const char *to)
{
    char block[65536];
    size_t n;
    FILE *in = fopen(from, "rb"), *out = fopen(to, "wb");
    REQUIRE(in && out);
    while ((n = fread(block, 1, sizeof block, in)) > 0)
        REQUIRE(fwrite(block, 1, n, out) == n);
    fclose(in);
    REQUIRE(fclose(out) == 0);
}

static inline ps_sensor node_sensor(int32_t kind, int64_t start_ns)
{
    return (ps_sensor){
        .kind = kind, .seed = 1, .period_ns = NODE_PERIOD_NS, .gain = 1, .quantum = 1, .start_ns = start_ns};
}

static inline void node_build(test_node *self, uint32_t n_gpus)
{
    static ps_node node; /* large */
    const char *library = getenv("PS_TEST_NVMLSIM");
    char path[128];
    if (!library)
        SKIP("PS_TEST_NVMLSIM names no stand-in");
    memset(&node, 0, sizeof node);
    snprintf(self->folder, sizeof self->folder, "/tmp/ps-node-XXXXXX");
    REQUIRE(mkdtemp(self->folder));
    snprintf(self->library, sizeof self->library, "%s/libnvidia-ml.so.1", self->folder);
    node_copy_file(library, self->library);
    self->n_gpus = n_gpus;
    self->start_ns = ps_clock_now_ns() - INT64_C(10000000000);
    node.n_gpus = n_gpus;
    node.cuda_version = 12040;
    snprintf(node.driver_version, sizeof node.driver_version, "550.54.15");
    snprintf(node.nvml_version, sizeof node.nvml_version, "12.550.54.15");
    for (uint32_t i = 0; i < n_gpus; i++) {
        ps_node_gpu *gpu = &node.gpu[i];
        *gpu = (ps_node_gpu){.architecture = 9,
                             .brand = 14,
                             .pci_bus = 0x17 + i,
                             .power_usage = PS_NS_AVERAGE,
                             .limit_mw = 650000,
                             .limit_default_mw = 700000,
                             .limit_min_mw = 200000,
                             .limit_max_mw = 700000,
                             .idle_mw = 50000,
                             .max_mw = 450000,
                             .clock_idle_mhz = 345,
                             .clock_max_mhz = 1980,
                             .clock_mem_mhz = 2619,
                             .processes = 2,
                             .persistence = 1};
        snprintf(gpu->name, sizeof gpu->name, "NVIDIA Test");
        snprintf(gpu->uuid, sizeof gpu->uuid, "GPU-SIM-%u", i);
        snprintf(gpu->truth_file, sizeof gpu->truth_file, "gpu%u.truth", i);
        gpu->sensor[PS_NS_INSTANT] = gpu->sensor[PS_NS_AVERAGE] = node_sensor(PS_SENSOR_GAUGE, 0);
        gpu->sensor[PS_NS_AVERAGE].offset_mw = 1000; /* tells the two apart */
        gpu->sensor[PS_NS_ENERGY] = node_sensor(PS_SENSOR_COUNTER, self->start_ns);
        ps_truth *truth;
        snprintf(path, sizeof path, "%s/%s", self->folder, gpu->truth_file);
        REQUIRE(ps_truth_create(path, 64, self->start_ns, NODE_POWER_MW, &truth) == PS_OK);
        ps_truth_close(truth);
    }
    snprintf(path, sizeof path, "%s/node.bin", self->folder);
    REQUIRE(ps_node_write(path, &node) == PS_OK);
    REQUIRE(ps_node_map(path, 1, &self->node) == PS_OK);
}

static inline void node_remove(test_node *self)
{
    char path[128];
    ps_node_unmap(self->node);
    for (uint32_t i = 0; i < self->n_gpus; i++) {
        snprintf(path, sizeof path, "%s/gpu%u.truth", self->folder, i);
        unlink(path);
    }
    snprintf(path, sizeof path, "%s/node.bin", self->folder);
    unlink(path);
    unlink(self->library);
    rmdir(self->folder);
}

/* Sets fault 0; code 0 and no hang clears it. */
static inline void node_fault(test_node *self, int32_t function, int32_t gpu, int32_t field, int32_t code,
                              int64_t hang_ns)
{
    ps_fault fault = {.function = function,
                      .gpu = gpu,
                      .field = field,
                      .code = code,
                      .hang_ns = hang_ns,
                      .active = code || hang_ns};
    REQUIRE(ps_node_set_fault(self->node, 0, &fault) == PS_OK);
}

#endif
