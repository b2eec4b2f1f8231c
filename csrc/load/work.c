/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread's work, whichever kernel it is; "mix" takes a round of each by turns.
 */
#include <stdlib.h>

#include "load/kernel.h"

const char *ps_isa_name(int32_t isa)
{
    static const char *const names[] = {[PS_ISA_BEST] = "best", [PS_ISA_PLAIN] = "plain",   [PS_ISA_SSE2] = "sse2",
                                        [PS_ISA_AVX2] = "avx2", [PS_ISA_AVX512] = "avx512", [PS_ISA_NEON] = "neon"};
    return isa >= PS_ISA_BEST && isa <= PS_ISA_NEON ? names[isa] : NULL;
}

const char *ps_load_kernel_name(int32_t kernel)
{
    static const char *const names[] = {[PS_LOAD_PRIMES] = "primes", [PS_LOAD_FMA] = "fma", [PS_LOAD_STREAM] = "stream",
                                        [PS_LOAD_MIX] = "mix",       [PS_LOAD_IDLE] = "idle"};
    return kernel >= PS_LOAD_PRIMES && kernel <= PS_LOAD_IDLE ? names[kernel] : NULL;
}

bool ps_work_uses(int32_t kernel, int32_t part)
{
    return kernel == part || kernel == PS_LOAD_MIX;
}

int ps_work_make(ps_work *work, int32_t kernel, uint64_t stream_bytes)
{
    const bool primes = ps_work_uses(kernel, PS_LOAD_PRIMES), fma = ps_work_uses(kernel, PS_LOAD_FMA),
               stream = ps_work_uses(kernel, PS_LOAD_STREAM);
    *work = (ps_work){.kernel = kernel,
                      .primes = primes ? calloc(1, sizeof *work->primes) : NULL,
                      .fma = fma ? calloc(1, sizeof *work->fma) : NULL,
                      .stream = stream ? calloc(1, sizeof *work->stream) : NULL};
    if ((primes && !work->primes) || (fma && !work->fma) || (stream && !work->stream))
        return PS_E_NOMEM;
    return stream ? ps_stream_map(work->stream, stream_bytes) : PS_OK;
}

void ps_work_init(ps_work *work, int32_t isa)
{
    if (work->primes)
        ps_primes_init(work->primes);
    if (work->fma)
        ps_fma_init(work->fma, isa);
    if (work->stream)
        ps_stream_init(work->stream);
}

bool ps_work_round(ps_work *work)
{
    static const int32_t turns[] = {PS_LOAD_PRIMES, PS_LOAD_FMA, PS_LOAD_STREAM};
    const int32_t kernel = work->kernel == PS_LOAD_MIX ? turns[work->turn++ % 3] : work->kernel;
    if (kernel == PS_LOAD_FMA)
        return ps_fma_round(work->fma);
    if (kernel == PS_LOAD_STREAM)
        return ps_stream_round(work->stream);
    return ps_primes_round(work->primes) == PS_PRIMES_FOUND;
}

void ps_work_free(ps_work *work)
{
    if (work->stream)
        ps_stream_unmap(work->stream);
    free(work->stream);
    free(work->fma);
    free(work->primes);
}
