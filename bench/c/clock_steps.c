/* SPDX-License-Identifier: Apache-2.0
 *
 * clock_steps: user instructions of one clock read, counted by single stepping, the vDSO included. Tools that hide the vDSO
 * (valgrind does) count the few instructions around a system call instead. Prints the number.
 */
#include <signal.h>
#include <sys/ptrace.h>
#include <sys/wait.h>
#include <unistd.h>

#include "bench.h"

enum { READS = 200 };

/* Steps the child from one SIGSTOP to the next. */
static uint64_t count_steps(pid_t child)
{
    int status;
    for (uint64_t steps = 0;; steps++) {
        NEED(ptrace(PTRACE_SINGLESTEP, child, NULL, NULL) == 0);
        NEED(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
        if (WSTOPSIG(status) == SIGSTOP)
            return steps;
    }
}

int main(void)
{
    pid_t child = fork();
    NEED(child >= 0);
    if (child == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0)
            _exit(1);
        (void)ps_clock_now_ns();
        raise(SIGSTOP);
        raise(SIGSTOP);
        for (int i = 0; i < READS; i++)
            (void)ps_clock_now_ns();
        raise(SIGSTOP);
        _exit(0);
    }
    int status;
    NEED(waitpid(child, &status, 0) == child && WIFSTOPPED(status));
    uint64_t empty = count_steps(child), full = count_steps(child);
    NEED(ptrace(PTRACE_CONT, child, NULL, NULL) == 0);
    NEED(waitpid(child, &status, 0) == child);
    printf("%.1f\n", (double)(full - empty) / READS);
    return 0;
}
