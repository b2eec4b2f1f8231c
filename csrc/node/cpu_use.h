/* SPDX-License-Identifier: Apache-2.0
 *
 * CPU time of a process and, where perf allows, of everything it starts. Private to csrc/node.
 */
#ifndef PS_CPU_USE_H
#define PS_CPU_USE_H

#include <stdint.h>
#include <time.h>

typedef struct cpu_use {
    int32_t route;      /* enum ps_follow_route */
    int32_t perf_errno; /* why perf was refused, or 0 */
    int fd;             /* perf event, or -1 */
    clockid_t clock;
    int64_t last_ns;    /* what an ended process is remembered by */
} cpu_use;

/* pid 0: this process. Returns PS_OK or PS_E_NOT_FOUND. */
int cpu_use_open(cpu_use *use, int32_t pid);
int64_t cpu_use_ns(cpu_use *use);
void cpu_use_close(cpu_use *use);

#endif
