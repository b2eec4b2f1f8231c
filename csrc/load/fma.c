/* SPDX-License-Identifier: Apache-2.0
 *
 * The kernel "fma": chains of multiply-add in all lanes of the widest vectors, as many independent ones as keep the units
 * busy. Every step is x <- c - m x with m just below 1: x swings about c / (1 + m), so that sign and mantissa change with
 * every step and nothing fades to zeros. All lanes of a chain hold the same, and must end as plain C does.
 */
#include <math.h>

#include "load/kernel.h"

#if defined(__x86_64__)
#include <immintrin.h>
#elif defined(__aarch64__)
#include <arm_neon.h>
#endif

static const double factor = -0.99971, term = 1.23456789;
static const double start[PS_FMA_CHAINS] = {0.1415, 0.9265, 0.3589, 0.7932, 0.3846, 0.2643,
                                            0.3832, 0.7950, 0.2884, 0.1971, 0.6939, 0.9375};

#define EACH(DO) DO(0) DO(1) DO(2) DO(3) DO(4) DO(5) DO(6) DO(7) DO(8) DO(9) DO(10) DO(11)
/* SPLAT, MADD and STORE are those of the instruction set; x0 to x11 stay in registers. */
#define BEGIN(i) vector x##i = SPLAT(start[i]);
#define STEP(i) x##i = MADD(x##i, m, c);
#define END(i) STORE(out + (i) * lanes, x##i);
#define RUN(name, type, width)                                                                                             \
    uint32_t name(double out[PS_FMA_CHAINS * PS_FMA_LANES])                                                                \
    {                                                                                                                      \
        typedef type vector;                                                                                               \
        enum { lanes = (width) };                                                                                          \
        const vector m = SPLAT(factor), c = SPLAT(term);                                                                   \
        EACH(BEGIN)                                                                                                        \
        for (int step = 0; step < PS_FMA_STEPS; step++) {                                                                  \
            EACH(STEP)                                                                                                     \
        }                                                                                                                  \
        EACH(END)                                                                                                          \
        return lanes;                                                                                                      \
    }

#if defined(__x86_64__)

#define SPLAT _mm_set1_pd
#define STORE _mm_storeu_pd
#define MADD(x, m, c) _mm_add_pd(_mm_mul_pd(x, m), c)
static RUN(run_sse2, __m128d, 2)
#undef SPLAT
#undef STORE
#undef MADD

#define SPLAT _mm256_set1_pd
#define STORE _mm256_storeu_pd
#define MADD _mm256_fmadd_pd
__attribute__((target("avx2,fma"))) static RUN(run_avx2, __m256d, 4)
#undef SPLAT
#undef STORE
#undef MADD

#define SPLAT _mm512_set1_pd
#define STORE _mm512_storeu_pd
#define MADD _mm512_fmadd_pd
__attribute__((target("avx512f"))) static RUN(run_avx512, __m512d, 8)

static bool has(int32_t isa)
{
    switch (isa) { /* the compiler's function asks the system, too, whether it keeps such registers */
    case PS_ISA_SSE2:
        return true;
    case PS_ISA_AVX2:
        return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
    case PS_ISA_AVX512:
        return __builtin_cpu_supports("avx512f");
    default:
        return false;
    }
}

static ps_fma_run *run_of(int32_t isa)
{
    return isa == PS_ISA_AVX512 ? run_avx512 : isa == PS_ISA_AVX2 ? run_avx2 : run_sse2;
}

#else

#if defined(__aarch64__)
#define SPLAT vdupq_n_f64
#define STORE vst1q_f64
#define MADD(x, m, c) vfmaq_f64(c, x, m)
static RUN(run_best, float64x2_t, 2)
enum { BEST = PS_ISA_NEON };
#else
#define SPLAT(x) (x)
#define STORE(to, x) (*(to) = (x))
#define MADD(x, m, c) ((x) * (m) + (c))
static RUN(run_best, double, 1)
enum { BEST = PS_ISA_PLAIN };
#endif

static bool has(int32_t isa)
{
    return isa == BEST;
}

static ps_fma_run *run_of(int32_t isa)
{
    (void)isa;
    return run_best;
}

#endif

int ps_fma_isa(int32_t wanted, int32_t *isa)
{
    for (int32_t one = PS_ISA_NEON; one >= PS_ISA_PLAIN; one--) /* the widest of each architecture first */
        if ((wanted == PS_ISA_BEST || wanted == one) && has(one)) {
            *isa = one;
            return PS_OK;
        }
    return PS_E_UNSUPPORTED;
}

void ps_fma_init(ps_fma *work, int32_t isa)
{
    const bool rounds_once = isa != PS_ISA_SSE2 && isa != PS_ISA_PLAIN;
    work->run = run_of(isa);
    for (int chain = 0; chain < PS_FMA_CHAINS; chain++) {
        double x = start[chain];
        for (int step = 0; step < PS_FMA_STEPS; step++)
            x = rounds_once ? fma(x, factor, term) : x * factor + term;
        work->expected[chain] = x;
    }
}

bool ps_fma_round(const ps_fma *work)
{
    double out[PS_FMA_CHAINS * PS_FMA_LANES];
    const uint32_t lanes = work->run(out);
    bool right = true;
    for (uint32_t i = 0; i < PS_FMA_CHAINS * lanes; i++)
        right &= out[i] == work->expected[i / lanes];
    return right;
}
