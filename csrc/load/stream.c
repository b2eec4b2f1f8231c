/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel "stream": a = b + 3 c over arrays that no cache holds, then b = a - 3 c, and again; stores go past the caches
 * where there are such. All are whole numbers below 2^40, so that the sum of a piece is exact in any order: the first
 * pass's sums prove what was read of b and c, the second's what the first wrote.
 */
#include <sys/mman.h>

#include "load/kernel.h"

#if defined(__x86_64__)
#include <emmintrin.h>
#endif

typedef double pair __attribute__((vector_size(16)));

enum { VALUE_BITS = 38 };

/* Two pairs, 16-byte aligned. */
static inline void store_past_caches(double *to, pair first, pair second)
{
#if defined(__x86_64__)
    _mm_stream_pd(to, (__m128d)first);
    _mm_stream_pd(to + 2, (__m128d)second);
#elif defined(__aarch64__)
    __asm__ volatile("stnp %q1, %q2, [%0]" : : "r"(to), "w"(first), "w"(second) : "memory");
#else
    *(pair *)to = first;
    *(pair *)(to + 2) = second;
#endif
}

/* to = from + factor c over a piece; returns its sum. */
static double triad(double *to, const double *from, const double *c, double factor)
{
    const pair by = {factor, factor};
    pair sum = {0}, other = {0};
    for (size_t i = 0; i < PS_STREAM_PIECE; i += 4) {
        const pair first = *(const pair *)(from + i) + by * *(const pair *)(c + i);
        const pair second = *(const pair *)(from + i + 2) + by * *(const pair *)(c + i + 2);
        store_past_caches(to + i, first, second);
        sum += first;
        other += second;
    }
    sum += other;
    return sum[0] + sum[1];
}

int ps_stream_map(ps_stream *work, uint64_t bytes)
{
    *work = (ps_stream){.pieces = bytes / (3 * PS_STREAM_PIECE * sizeof(double)) + 1};
    const size_t each = work->pieces * PS_STREAM_PIECE;
    work->mapped = (3 * each + 2 * work->pieces) * sizeof(double);
    void *room = mmap(NULL, work->mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (room == MAP_FAILED) {
        work->mapped = 0;
        return PS_E_NOMEM;
    }
    (void)madvise(room, work->mapped, MADV_HUGEPAGE); /* else half of the work would be address translation */
    work->a = room;
    work->b = work->a + each;
    work->c = work->b + each;
    work->sum_b = work->c + each;
    work->sum_3c = work->sum_b + work->pieces;
    return PS_OK;
}

/* The next of splitmix64's numbers, cut to what sums stay exact with. */
static double draw(uint64_t *state)
{
    uint64_t z = *state += UINT64_C(0x9e3779b97f4a7c15);
    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return (double)((z ^ z >> 31) >> (64 - VALUE_BITS));
}

void ps_stream_init(ps_stream *work)
{
    uint64_t state = 1;
    for (size_t piece = 0; piece < work->pieces; piece++) {
        double sum_b = 0, sum_c = 0;
        for (size_t i = piece * PS_STREAM_PIECE; i < (piece + 1) * PS_STREAM_PIECE; i++) {
            work->a[i] = 0;
            sum_b += work->b[i] = draw(&state);
            sum_c += work->c[i] = draw(&state);
        }
        work->sum_b[piece] = sum_b;
        work->sum_3c[piece] = 3 * sum_c;
    }
}

bool ps_stream_round(ps_stream *work)
{
    const size_t piece = work->at, i = piece * PS_STREAM_PIECE;
    bool right;
    if (work->back)
        right = triad(work->b + i, work->a + i, work->c + i, -3) == work->sum_b[piece];
    else
        right = triad(work->a + i, work->b + i, work->c + i, 3) == work->sum_b[piece] + work->sum_3c[piece];
    if (++work->at == work->pieces) {
        work->at = 0;
        work->back = !work->back;
    }
    return right;
}

void ps_stream_unmap(ps_stream *work)
{
    if (work->mapped)
        munmap(work->a, work->mapped);
}
