/* SPDX-License-Identifier: Apache-2.0
 *
 * Single-producer single-consumer ring of samples; the newest record is dropped when it is full. See ring.h.
 */
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "core/ring.h"

enum { CAPACITY_MAX = 1 << 26 };

int ps_ring_new(uint32_t capacity, uint64_t first, ps_ring **out)
{
    if (!out || capacity < 2 || capacity > CAPACITY_MAX || (capacity & (capacity - 1)) != 0)
        return PS_E_INVALID;

    ps_ring *ring = aligned_alloc(PS_CACHE_LINE, sizeof *ring);
    if (!ring)
        return PS_E_NOMEM;
    /* MAP_POPULATE: a page fault belongs here, not between two device calls. */
    void *slots = mmap(NULL, capacity * sizeof *ring->slots, PROT_READ | PROT_WRITE,
                       MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (slots == MAP_FAILED) {
        free(ring);
        return PS_E_NOMEM;
    }
    /* A fork would make every page copy-on-write, and the producer would fault its way through the ring once
     * more. The child gets zeros instead, which it must not drain anyway. Where a kernel refuses, only that
     * cost comes back. */
    (void)madvise(slots, capacity * sizeof *ring->slots, MADV_WIPEONFORK);

    memset(ring, 0, sizeof *ring);
    atomic_init(&ring->written, first);
    atomic_init(&ring->consumed, first);
    atomic_init(&ring->dropped, 0);
    ring->full_at = first + capacity;
    ring->written_seen = first;
    ring->slots = slots;
    ring->capacity = capacity;
    ring->mask = capacity - 1;
    *out = ring;
    return PS_OK;
}

void ps_ring_free(ps_ring *ring)
{
    if (!ring)
        return;
    munmap(ring->slots, ring->capacity * sizeof *ring->slots);
    free(ring);
}

int ps_ring_push(ps_ring *ring, const ps_sample *sample)
{
    const uint64_t written = ps_ring_written(ring);
    if (ps_ring_full(ring, written)) {
        ps_ring_count_drop(ring);
        return PS_E_FULL;
    }
    *ps_ring_slot(ring, written) = *sample;
    ps_ring_publish(ring, written);
    return PS_OK;
}

uint32_t ps_ring_drain(ps_ring *ring, ps_sample *out, uint32_t capacity)
{
    /* relaxed: the consumer's own counter. */
    uint64_t consumed = atomic_load_explicit(&ring->consumed, memory_order_relaxed);
    if (ring->written_seen - consumed < capacity) {
        /* acquire; pairs with the release in ps_ring_publish, which publishes the slots below `written`;
         * without it the copies below could read them before they are filled. */
        ring->written_seen = atomic_load_explicit(&ring->written, memory_order_acquire);
    }
    uint64_t available = ring->written_seen - consumed;
    uint64_t count = available < capacity ? available : capacity;
    if (count == 0)
        return 0;

    uint64_t begin = consumed & ring->mask;
    uint64_t piece = ring->capacity - begin < count ? ring->capacity - begin : count;
    memcpy(out, ring->slots + begin, piece * sizeof *out);
    memcpy(out + piece, ring->slots, (count - piece) * sizeof *out);
    /* release; pairs with the acquire in ps_ring_full; publishes that the slots were copied; without it the
     * producer could overwrite them during the copy. */
    atomic_store_explicit(&ring->consumed, consumed + count, memory_order_release);
    return (uint32_t)count;
}

uint64_t ps_ring_written(const ps_ring *ring)
{
    /* relaxed: a figure read for itself; only a drain may look into the slots below it. */
    return atomic_load_explicit(&ring->written, memory_order_relaxed);
}

uint64_t ps_ring_consumed(const ps_ring *ring)
{
    /* acquire; pairs with the release in ps_ring_drain, which follows that drain's own look at `written`;
     * without it a later ps_ring_written could be older than this, and the fill negative. */
    return atomic_load_explicit(&ring->consumed, memory_order_acquire);
}

uint64_t ps_ring_dropped(const ps_ring *ring)
{
    /* relaxed: a figure read for itself. */
    return atomic_load_explicit(&ring->dropped, memory_order_relaxed);
}
