/* SPDX-License-Identifier: Apache-2.0
 *
 * ring_cost BATCH ROUNDS: pushes and drains in batches, one thread, a ring of the shipped size. Prints a line a round:
 * ns a push, ns a record drained.
 */
#include "bench.h"

enum { RING_RECORDS = 1 << 17 };

int main(int argc, char **argv)
{
    NEED(argc == 3);
    uint64_t batch = bench_count(argv[1]), rounds = bench_count(argv[2]);
    uint64_t batches = RING_RECORDS / batch;
    NEED(batches > 0);
    ps_ring *ring;
    ps_sample *out = calloc(batch, sizeof *out);
    NEED(out && ps_ring_new(RING_RECORDS, 0, &ring) == PS_OK);

    for (uint64_t round = 0; round < rounds; round++) {
        ps_sample sample = {.t0_ns = 1, .t1_ns = 2};
        uint64_t count = batches * batch;
        int64_t begin_ns = ps_clock_now_ns();
        for (uint64_t i = 0; i < count; i++) {
            sample.raw = (int64_t)i;
            sample.seq++;
            (void)ps_ring_push(ring, &sample);
        }
        int64_t middle_ns = ps_clock_now_ns();
        for (uint64_t i = 0; i < batches; i++)
            NEED(ps_ring_drain(ring, out, (uint32_t)batch) == batch);
        int64_t end_ns = ps_clock_now_ns();
        NEED(ps_ring_dropped(ring) == 0 && out[batch - 1].raw == (int64_t)count - 1);
        printf("%.4f %.4f\n", (double)(middle_ns - begin_ns) / (double)count,
               (double)(end_ns - middle_ns) / (double)count);
    }
    ps_ring_free(ring);
    free(out);
    return 0;
}
