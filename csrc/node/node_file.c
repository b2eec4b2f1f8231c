/* SPDX-License-Identifier: Apache-2.0
 *
 * The node file: the description of a simulated node that its NVML stand-in maps, in whatever process it is
 * loaded, and that its owner changes while it is in use.
 */
#include <errno.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "core/clock.h"
#include "core/errno_status.h"
#include "powersample.h"
#include "powersample_sim.h"

static const char MAGIC[8] = "PSNODE1";

int ps_node_write(const char *path, const ps_node *node)
{
    if (!path || !node || node->n_gpus == 0 || node->n_gpus > PS_NODE_MAX_GPUS)
        return PS_E_INVALID;
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0)
        return ps_errno_status(errno);
    struct {
        char magic[sizeof MAGIC];
        uint32_t bytes;
    } head = {.bytes = sizeof *node};
    memcpy(head.magic, MAGIC, sizeof MAGIC);
    const size_t skip = sizeof head.magic + sizeof head.bytes;
    int status = PS_OK;
    const char *from = (const char *)node + skip;
    size_t left = sizeof *node - skip;
    if (lseek(fd, (off_t)skip, SEEK_SET) < 0)
        status = PS_E_SYSTEM;
    while (status == PS_OK && left > 0) {
        ssize_t n = write(fd, from, left);
        if (n > 0) {
            from += n;
            left -= (size_t)n;
        } else if (n < 0 && errno != EINTR) {
            status = ps_errno_status(errno);
        }
    }
    const int64_t realtime_ns = ps_clock_read(CLOCK_REALTIME) - ps_clock_monotonic_ns();
    if (status == PS_OK && pwrite(fd, &realtime_ns, sizeof realtime_ns, offsetof(ps_node, realtime_ns)) !=
                               (ssize_t)sizeof realtime_ns)
        status = PS_E_SYSTEM;
    /* The head last: who maps the file before sees no magic. */
    if (status == PS_OK && pwrite(fd, &head, skip, 0) != (ssize_t)skip)
        status = PS_E_SYSTEM;
    if (close(fd) != 0 && status == PS_OK)
        status = ps_errno_status(errno);
    if (status != PS_OK)
        unlink(path);
    return status;
}

int ps_node_map(const char *path, int32_t writable, ps_node **out)
{
    if (!path || !out)
        return PS_E_INVALID;
    int fd = open(path, (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0)
        return ps_errno_status(errno);
    int status = PS_E_FORMAT;
    ps_node *node = MAP_FAILED;
    struct stat file;
    if (fstat(fd, &file) != 0 || file.st_size != (off_t)sizeof *node)
        goto out;
    node = mmap(NULL, sizeof *node, writable ? PROT_READ | PROT_WRITE : PROT_READ, MAP_SHARED, fd, 0);
    if (node == MAP_FAILED) {
        status = errno == ENOMEM ? PS_E_NOMEM : PS_E_SYSTEM;
        goto out;
    }
    if (memcmp(node->magic, MAGIC, sizeof MAGIC) != 0 || node->bytes != sizeof *node || node->n_gpus == 0 ||
        node->n_gpus > PS_NODE_MAX_GPUS)
        goto out;
    *out = node;
    node = MAP_FAILED;
    status = PS_OK;
out:
    if (node != MAP_FAILED)
        munmap(node, sizeof *node);
    close(fd);
    return status;
}

void ps_node_unmap(ps_node *node)
{
    if (node)
        munmap(node, sizeof *node);
}

int ps_node_set_fault(ps_node *node, uint32_t index, const ps_fault *fault)
{
    if (!node || !fault || index >= PS_NODE_MAX_FAULTS)
        return PS_E_INVALID;
    ps_fault *slot = &node->fault[index];
    /* seq_cst, an exchange: partner is the reader's acquire load of active; the writes below stay after it. A
     * reader that saw the old fault active may finish with it, one that comes later leaves the slot alone while
     * it changes. */
    (void)__atomic_exchange_n(&slot->active, 0, __ATOMIC_SEQ_CST);
    ps_fault next = *fault;
    next.active = 0;
    *slot = next;
    /* release: same partner; publishes the slot. Without it a fault of the last tenant could be answered. */
    __atomic_store_n(&slot->active, fault->active, __ATOMIC_RELEASE);
    return PS_OK;
}

int ps_node_set_latency(ps_node *node, enum ps_node_function function, const ps_latency *latency)
{
    if (!node || !latency || (int)function < 0 || (int)function >= PS_NODE_FUNCTIONS)
        return PS_E_INVALID;
    ps_latency *slot = &node->latency[function];
    /* seq_cst, then release: as in ps_node_set_fault, with `kind` for `active`. */
    (void)__atomic_exchange_n(&slot->kind, PS_LATENCY_NONE, __ATOMIC_SEQ_CST);
    slot->median_ns = latency->median_ns;
    slot->sigma = latency->sigma;
    slot->tail_share = latency->tail_share;
    slot->tail_ns = latency->tail_ns;
    __atomic_store_n(&slot->kind, latency->kind, __ATOMIC_RELEASE);
    return PS_OK;
}

int ps_node_set_init(ps_node *node, int32_t code)
{
    if (!node)
        return PS_E_INVALID;
    /* relaxed: a whole word that stands for itself. */
    __atomic_store_n(&node->init_code, code, __ATOMIC_RELAXED);
    return PS_OK;
}

int ps_node_step_clock(ps_node *node, int64_t at_ns, int64_t step_ns)
{
    if (!node || at_ns <= 0)
        return PS_E_INVALID;
    if (node->step_at_ns) { /* the step before becomes the clock that this one starts from */
        /* release: partner is the stand-in's acquire load of step_at_ns; without it the old step could meet the
         * new figures. */
        __atomic_store_n(&node->step_at_ns, 0, __ATOMIC_RELEASE);
        __atomic_store_n(&node->realtime_ns, node->realtime_ns + node->step_ns, __ATOMIC_RELAXED);
    }
    __atomic_store_n(&node->step_ns, step_ns, __ATOMIC_RELAXED);
    /* release: same partner; publishes step_ns. */
    __atomic_store_n(&node->step_at_ns, at_ns, __ATOMIC_RELEASE);
    return PS_OK;
}

int ps_node_reload(ps_node *node, int64_t now_ns)
{
    if (!node)
        return PS_E_INVALID;
    for (uint32_t gpu = 0; gpu < node->n_gpus; gpu++)
        for (int i = 0; i < PS_NODE_SENSORS; i++)
            /* relaxed: a whole word, and whoever must see it first sees the generation. */
            __atomic_store_n(&node->gpu[gpu].sensor[i].start_ns, now_ns, __ATOMIC_RELAXED);
    /* release: partner is the acquire load in the stand-in; publishes the counters' new start. Without it a
     * reader could initialise again and still be answered by the old counter. */
    __atomic_fetch_add(&node->generation, 1, __ATOMIC_RELEASE);
    return PS_OK;
}
