/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring's inside, for the lane: pushing is inline there, and ps_ring_push is the same code as a function.
 *
 * `written` and `consumed` count records since the start and are never folded: their difference, modulo 2^64,
 * is the fill, so all slots are usable and the wrap of the counters needs no care. Each side keeps the
 * other's counter as last seen and looks again only when that copy says full (or empty): the two cores
 * exchange a cache line once a lap instead of once a record.
 */
#ifndef PS_RING_H
#define PS_RING_H

#include <stdalign.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "powersample.h"

enum { PS_CACHE_LINE = 64 };

struct ps_ring {
    alignas(PS_CACHE_LINE) _Atomic uint64_t written; /* the producer's line */
    uint64_t full_at; /* `written` when the ring is full, by the last look at `consumed` */
    _Atomic uint64_t dropped;
    alignas(PS_CACHE_LINE) _Atomic uint64_t consumed; /* the consumer's line */
    uint64_t written_seen;
    alignas(PS_CACHE_LINE) ps_sample *slots; /* constant after ps_ring_new */
    uint64_t capacity;
    uint64_t mask;
};

/* The producer's calls take `written`, its own counter, which they would otherwise each load anew: ps_ring_written
 * before the first, and one more after each ps_ring_publish. */

/* Producer: is there no free slot? */
static inline bool ps_ring_full(ps_ring *ring, uint64_t written)
{
    if (written != ring->full_at)
        return false;
    /* acquire; pairs with the release in ps_ring_drain, which publishes that these slots were copied out;
     * without it the next record could be stored into a slot that the consumer still reads. */
    ring->full_at = atomic_load_explicit(&ring->consumed, memory_order_acquire) + ring->capacity;
    return written == ring->full_at;
}

/* Producer: a record that found no free slot. */
static inline void ps_ring_count_drop(ps_ring *ring)
{
    /* relaxed, and no read-modify-write: the producer alone writes it, readers want the figure and nothing
     * by it. */
    uint64_t dropped = atomic_load_explicit(&ring->dropped, memory_order_relaxed);
    atomic_store_explicit(&ring->dropped, dropped + 1, memory_order_relaxed);
}

/* Producer: the slot to fill, in a ring that is not full. ps_ring_publish hands it over. */
static inline ps_sample *ps_ring_slot(const ps_ring *ring, uint64_t written)
{
    return &ring->slots[written & ring->mask];
}

static inline void ps_ring_publish(ps_ring *ring, uint64_t written)
{
    /* release; pairs with the acquire of `written` in ps_ring_drain; publishes the slot just filled; without
     * it the consumer could see the counter before the record. */
    atomic_store_explicit(&ring->written, written + 1, memory_order_release);
}

#endif
