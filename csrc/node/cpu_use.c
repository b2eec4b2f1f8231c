/* SPDX-License-Identifier: Apache-2.0
 *
 * Two ways to the CPU time of a process. perf's task-clock with `inherit` counts every descendant made after
 * opening, however short its life and whoever reaps it. The process's own clock counts its threads and no
 * child.
 */
#include "node/cpu_use.h"

#include <errno.h>
#include <linux/perf_event.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "powersample.h"
#include "powersample_sim.h"

static int perf_open(int32_t pid)
{
    struct perf_event_attr attr;
    memset(&attr, 0, sizeof attr);
    attr.size = sizeof attr;
    attr.type = PERF_TYPE_SOFTWARE;
    attr.config = PERF_COUNT_SW_TASK_CLOCK;
    attr.inherit = 1;
    int fd = (int)syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    if (fd < 0 && (errno == EACCES || errno == EPERM)) {
        attr.exclude_kernel = 1; /* all that perf_event_paranoid 2 leaves an ordinary user */
        attr.exclude_hv = 1;
        fd = (int)syscall(SYS_perf_event_open, &attr, pid, -1, -1, PERF_FLAG_FD_CLOEXEC);
    }
    return fd;
}

int cpu_use_open(cpu_use *use, int32_t pid)
{
    *use = (cpu_use){.route = PS_FOLLOW_PROCESS_CLOCK, .fd = -1, .clock = CLOCK_PROCESS_CPUTIME_ID};
    if (pid == 0)
        return PS_OK; /* perf would count threads made from now on and miss those that run */
    use->fd = perf_open(pid);
    if (use->fd >= 0) {
        use->route = PS_FOLLOW_PERF;
        return PS_OK;
    }
    use->perf_errno = errno;
    return clock_getcpuclockid(pid, &use->clock) == 0 ? PS_OK : PS_E_NOT_FOUND;
}

int64_t cpu_use_ns(cpu_use *use)
{
    int64_t ns = use->last_ns;
    if (use->fd >= 0) {
        uint64_t count;
        if (read(use->fd, &count, sizeof count) == (ssize_t)sizeof count)
            ns = (int64_t)count;
    } else {
        struct timespec t;
        if (clock_gettime(use->clock, &t) == 0)
            ns = (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
    }
    if (ns > use->last_ns)
        use->last_ns = ns;
    return use->last_ns;
}

void cpu_use_close(cpu_use *use)
{
    if (use->fd >= 0)
        close(use->fd);
    use->fd = -1;
}
