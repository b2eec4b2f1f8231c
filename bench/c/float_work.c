/* SPDX-License-Identifier: Apache-2.0
 *
 * float_work CPU: a workload on one CPU. Reads numbers of rounds from standard input, a line each, works so many and answers
 * with the ns that they took.
 */
#include <sched.h>

#include "bench.h"

int main(int argc, char **argv)
{
    NEED(argc == 2);
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET((size_t)atoi(argv[1]), &set);
    NEED(sched_setaffinity(0, sizeof set, &set) == 0);
    volatile double kept = 1.0; /* between the two clock readings, or the work would be done whenever it suits */
    char line[32];
    while (fgets(line, sizeof line, stdin)) {
        const uint64_t rounds = bench_count(strtok(line, "\n"));
        const int64_t begin_ns = ps_clock_now_ns();
        double value = kept;
        for (uint64_t i = 0; i < rounds; i++)
            value = value * 0.999999 + 1e-6;
        kept = value;
        printf("%lld\n", (long long)(ps_clock_now_ns() - begin_ns));
        fflush(stdout);
    }
    return 0;
}
