/* SPDX-License-Identifier: Apache-2.0
 *
 * ring_exact PUSHES: a producer in bursts of four laps, a small ring, a concurrent consumer. Every record must arrive whole and
 * in order or be counted as dropped, and each hole in the sequence must be that count. The ring's counters start below the
 * wrap of 64 bits, so they wrap on the way. Prints: pushes drained dropped holes torn seconds.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>

#include "bench.h"

enum { RING_RECORDS = 1024, BATCH = 256, BURST = 4 * RING_RECORDS, PAUSE_NS = 50 * 1000 };

typedef struct shared {
    ps_ring *ring;
    uint64_t pushes;
    atomic_bool done;
} shared;

/* All fields follow from seq: a record mixed from two shows. */
static ps_sample record_of(uint64_t number)
{
    return (ps_sample){
        .t0_ns = (int64_t)number,
        .t1_ns = (int64_t)(number * 3),
        .raw = (int64_t)~number,
        .seq = (uint32_t)number,
        .channel = (uint16_t)number,
        .status = (uint16_t)(number >> 16),
    };
}

static bool is_whole(const ps_sample *sample)
{
    ps_sample expected = record_of((uint64_t)sample->t0_ns);
    return memcmp(sample, &expected, sizeof expected) == 0;
}

/* Between bursts the consumer may catch up, for a while: full and empty rings are both to be met, often. */
static void pause_for(const ps_ring *ring)
{
    int64_t end_ns = ps_clock_now_ns() + PAUSE_NS;
    while (ps_ring_consumed(ring) != ps_ring_written(ring) && ps_clock_now_ns() < end_ns)
        ;
}

static void *produce(void *argument)
{
    shared *race = argument;
    for (uint64_t number = 0; number < race->pushes; number++) {
        ps_sample sample = record_of(number);
        (void)ps_ring_push(race->ring, &sample);
        if (number % BURST == BURST - 1)
            pause_for(race->ring);
    }
    /* release; pairs with the acquire in main; without it the last drain could miss records. */
    atomic_store_explicit(&race->done, true, memory_order_release);
    return NULL;
}

int main(int argc, char **argv)
{
    NEED(argc == 2);
    shared race = {.pushes = bench_count(argv[1])};
    NEED(ps_ring_new(RING_RECORDS, UINT64_MAX - race.pushes / 2, &race.ring) == PS_OK);
    uint64_t drained = 0, holes = 0, torn = 0, next = 0;
    ps_sample batch[BATCH];
    pthread_t thread;
    int64_t begin_ns = ps_clock_now_ns();
    NEED(pthread_create(&thread, NULL, produce, &race) == 0);
    for (;;) {
        /* acquire; pairs with the release in produce. */
        bool last = atomic_load_explicit(&race.done, memory_order_acquire);
        uint32_t count;
        while ((count = ps_ring_drain(race.ring, batch, BATCH)) > 0) {
            for (uint32_t i = 0; i < count; i++) {
                uint64_t number = (uint64_t)batch[i].t0_ns;
                torn += !is_whole(&batch[i]) || number < next;
                holes += number - next;
                next = number + 1;
            }
            drained += count;
        }
        if (last)
            break;
    }
    double seconds = (double)(ps_clock_now_ns() - begin_ns) / 1e9;
    pthread_join(thread, NULL);
    holes += race.pushes - next; /* dropped after the last that arrived */
    printf("%" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %" PRIu64 " %.3f\n", race.pushes, drained,
           ps_ring_dropped(race.ring), holes, torn, seconds);
    ps_ring_free(race.ring);
    return 0;
}
