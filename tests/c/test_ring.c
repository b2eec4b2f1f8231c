/* SPDX-License-Identifier: Apache-2.0
 *
 * The ring loses nothing silently: every record is drained in order or counted as dropped, wherever its
 * counters stand.
 */
#include <pthread.h>
#include <sched.h>
#include <stdbool.h>

#include "harness.h"
#include "powersample.h"

static ps_sample numbered(uint32_t n)
{
    return (ps_sample){.t0_ns = n, .t1_ns = (int64_t)n + 1, .raw = -(int64_t)n, .seq = n, .channel = (uint16_t)n};
}

static void check_numbered(const ps_sample *sample, uint32_t n)
{
    ps_sample expected = numbered(n);
    CHECK(memcmp(&expected, sample, sizeof expected) == 0);
}

static void test_new_bad_capacity_refused(void)
{
    static const uint32_t bad[] = {0, 1, 3, 1000, (1u << 26) + 1, 1u << 27, UINT32_MAX};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        ps_ring *ring = NULL;
        CHECK_EQ(PS_E_INVALID, ps_ring_new(bad[i], 0, &ring));
        CHECK(ring == NULL);
    }
    ps_ring_free(NULL);
}

static void test_full_ring_drops_newest_and_counts(uint64_t first)
{
    enum { CAPACITY = 8, PUSHES = 13 };
    ps_ring *ring;
    REQUIRE(ps_ring_new(CAPACITY, first, &ring) == PS_OK);
    for (uint32_t i = 0; i < PUSHES; i++) {
        ps_sample sample = numbered(i);
        CHECK_EQ(i < CAPACITY ? PS_OK : PS_E_FULL, ps_ring_push(ring, &sample));
    }
    CHECK_EQ(PUSHES - CAPACITY, ps_ring_dropped(ring));
    CHECK_EQ(CAPACITY, ps_ring_written(ring) - first);

    ps_sample out[PUSHES];
    CHECK_EQ(0, ps_ring_drain(ring, out, 0));
    CHECK_EQ(3, ps_ring_drain(ring, out, 3));
    CHECK_EQ(CAPACITY - 3, ps_ring_drain(ring, out + 3, PUSHES));
    CHECK_EQ(0, ps_ring_drain(ring, out, PUSHES));
    for (uint32_t i = 0; i < CAPACITY; i++)
        check_numbered(&out[i], i);
    CHECK(ps_ring_written(ring) == ps_ring_consumed(ring));
    ps_ring_free(ring);
}

/* Fills and drains in steps that do not divide the capacity, so that every split of the two copies occurs. */
static void test_uneven_drains_keep_order(uint64_t first)
{
    enum { CAPACITY = 16, ROUNDS = 500 };
    ps_ring *ring;
    REQUIRE(ps_ring_new(CAPACITY, first, &ring) == PS_OK);
    uint32_t pushed = 0, drained = 0;
    for (uint32_t round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < round % CAPACITY + 1; i++) {
            ps_sample sample = numbered(pushed);
            if (ps_ring_push(ring, &sample) != PS_OK)
                break;
            pushed++;
        }
        ps_sample out[CAPACITY];
        uint32_t n = ps_ring_drain(ring, out, round % 7 + 1);
        for (uint32_t i = 0; i < n; i++)
            check_numbered(&out[i], drained++);
        CHECK_EQ(pushed - drained, ps_ring_written(ring) - ps_ring_consumed(ring));
    }
    CHECK(ps_ring_written(ring) - first == pushed);
    ps_ring_free(ring);
}

enum { THREAD_PUSHES = 600000 };

static void *producer(void *argument)
{
    ps_ring *ring = argument;
    for (uint32_t i = 0; i < THREAD_PUSHES; i++) {
        ps_sample sample = numbered(i);
        (void)ps_ring_push(ring, &sample);
        if (i % 512 == 0)
            sched_yield(); /* lets the consumer in where both share a core */
    }
    return NULL;
}

static void test_two_threads_small_ring_exact(void)
{
    enum { CAPACITY = 256 };
    const uint64_t first = UINT64_MAX - THREAD_PUSHES / 100;
    ps_ring *ring;
    REQUIRE(ps_ring_new(CAPACITY, first, &ring) == PS_OK);
    pthread_t thread;
    REQUIRE(pthread_create(&thread, NULL, producer, ring) == 0);

    uint64_t drained = 0;
    int64_t last = -1;
    int failures = 0;
    bool joined = false;
    for (;;) {
        ps_sample out[100];
        uint32_t n = ps_ring_drain(ring, out, 100);
        for (uint32_t i = 0; i < n; i++) {
            ps_sample expected = numbered(out[i].seq);
            failures += memcmp(&expected, &out[i], sizeof expected) != 0; /* torn */
            failures += (int64_t)out[i].seq <= last;                     /* twice, or out of order */
            last = out[i].seq;
        }
        drained += n;
        if (n)
            continue;
        if (joined)
            break;
        if (ps_ring_written(ring) - first + ps_ring_dropped(ring) == THREAD_PUSHES) {
            REQUIRE(pthread_join(thread, NULL) == 0);
            joined = true;
        } else {
            sched_yield();
        }
    }
    CHECK_EQ(0, failures);
    CHECK_EQ(THREAD_PUSHES, drained + ps_ring_dropped(ring));
    CHECK(ps_ring_written(ring) - first == drained);
    printf("%d pushes: %" PRIu64 " drained, %" PRIu64 " dropped\n", THREAD_PUSHES, drained, ps_ring_dropped(ring));
    ps_ring_free(ring);
}

int main(void)
{
    static const uint64_t firsts[] = {0, UINT32_MAX - 3u, UINT64_MAX - 5, UINT64_MAX};
    test_new_bad_capacity_refused();
    for (size_t i = 0; i < sizeof firsts / sizeof firsts[0]; i++) {
        test_full_ring_drops_newest_and_counts(firsts[i]);
        test_uneven_drains_keep_order(firsts[i]);
    }
    test_two_threads_small_ring_exact();
    return HARNESS_RESULT();
}
