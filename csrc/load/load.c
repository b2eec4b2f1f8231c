/* SPDX-License-Identifier: Apache-2.0
 *
 * Load of a known pattern. Each thread sleeps until shortly before a burst is to begin, spins through the last 0.3 ms,
 * works in rounds of some microseconds until it is to end, and logs when both really happened. On a busy machine that
 * is milliseconds after the plan, so the log, not the plan, is what a meter is aligned by.
 */
#include <errno.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/clock.h"
#include "core/pace.h"
#include "core/source.h"
#include "load/kernel.h"
#include "powersample.h"

enum {
    SPIN_NS = 300 * 1000,     /* what waking up takes on an idle CPU of a virtual machine, with room */
    STALL_NS = 1000 * 1000,   /* a round that takes so long did not run all the time */
    EDGES_MAX = 1 << 20,
    SETS = 8                  /* of CPU_SETSIZE: the kernel is built for 8192 CPUs at most */
};

enum load_state { LOAD_NEW, LOAD_RUNNING, LOAD_ENDED };

typedef struct load_thread {
    ps_load *load;
    pthread_t thread;
    uint32_t index;
    int32_t cpu;             /* -1: anywhere */
    int32_t cpu_errno;
    ps_load_burst *burst;    /* room for all: nothing is allocated while it runs */
    uint32_t bursts, missed;
    ps_primes *work;
} load_thread;

struct ps_load {
    load_thread *threads;
    int64_t *edge_ns;
    uint32_t n_threads, n_edges;
    int64_t start_ns;
    enum load_state state;   /* the caller's own */
    uint32_t created;
    _Atomic int64_t stop_ns; /* 0: go on */
    pthread_mutex_t lock;    /* of `running`, for who waits */
    pthread_cond_t ended;
    uint32_t running;
    bool lock_made, ended_made;
};

/* relaxed: nothing is passed but the word itself; a thread that sees it late works one round more. */
static bool stop_asked(const ps_load *load)
{
    return atomic_load_explicit(&load->stop_ns, memory_order_relaxed) != 0;
}

static void pin(load_thread *thread)
{
    if (thread->cpu < 0)
        return;
    cpu_set_t sets[SETS];
    CPU_ZERO_S(sizeof sets, sets);
    CPU_SET_S((size_t)thread->cpu, sizeof sets, sets);
    thread->cpu_errno = sched_setaffinity(0, sizeof sets, sets) == 0 ? 0 : errno;
}

/* Works from now to fall_ns, and logs it. */
static void work(load_thread *thread, int64_t now_ns, int64_t planned_ns, int64_t fall_ns)
{
    ps_load_burst *burst = &thread->burst[thread->bursts++];
    *burst = (ps_load_burst){.rise_ns = now_ns, .planned_ns = planned_ns, .thread = thread->index};
    do {
        const int64_t before_ns = now_ns;
        burst->wrong += ps_primes_round(thread->work) != PS_PRIMES_FOUND;
        burst->rounds++;
        now_ns = ps_clock_monotonic_ns();
        if (now_ns - before_ns > STALL_NS)
            burst->stalled_ns += now_ns - before_ns;
    } while (now_ns < fall_ns && !stop_asked(thread->load));
    burst->fall_ns = now_ns;
}

static void *run(void *argument)
{
    load_thread *thread = argument;
    ps_load *load = thread->load;
    prctl(PR_SET_NAME, "ps-load");
    prctl(PR_SET_TIMERSLACK, 1UL); /* of this thread; 0 would mean the default */
    pin(thread);
    for (uint32_t i = 0; i < load->n_edges && !stop_asked(load); i += 2) {
        const int64_t rise_ns = load->start_ns + load->edge_ns[i], fall_ns = load->start_ns + load->edge_ns[i + 1];
        const int64_t now_ns = ps_pace_wait(rise_ns, SPIN_NS, &load->stop_ns);
        if (now_ns < rise_ns)
            break; /* stopped */
        if (now_ns < fall_ns)
            work(thread, now_ns, rise_ns, fall_ns);
        else
            thread->missed++;
    }
    pthread_mutex_lock(&load->lock);
    if (--load->running == 0)
        pthread_cond_broadcast(&load->ended);
    pthread_mutex_unlock(&load->lock);
    return NULL;
}

static int check(const ps_load_options *options, ps_error *error)
{
    const char *call = "ps_load_new";
    if (options->kernel != PS_LOAD_PRIMES)
        return ps_fail(error, PS_E_INVALID, 0, call, "no such kernel: %d", options->kernel);
    if (options->threads < 1 || options->threads > PS_LOAD_THREADS)
        return ps_fail(error, PS_E_INVALID, 0, call, "%u threads: from 1 to %d", options->threads, PS_LOAD_THREADS);
    if (!options->edge_ns || options->edges < 2 || options->edges % 2 || options->edges > EDGES_MAX)
        return ps_fail(error, PS_E_INVALID, 0, call, "%u edges: an even number from 2 to %d", options->edges, EDGES_MAX);
    for (uint32_t i = 0; i < options->edges; i++)
        if (options->edge_ns[i] < 0 || (i && options->edge_ns[i] <= options->edge_ns[i - 1]))
            return ps_fail(error, PS_E_INVALID, 0, call, "edge %u does not come after the one before", i);
    for (uint32_t i = 0; options->cpus && i < options->threads; i++)
        if (options->cpus[i] < -1 || options->cpus[i] >= SETS * CPU_SETSIZE)
            return ps_fail(error, PS_E_INVALID, 0, call, "no such CPU: %d", options->cpus[i]);
    return PS_OK;
}

static int make_waiting(ps_load *load)
{
    pthread_condattr_t attributes;
    load->lock_made = pthread_mutex_init(&load->lock, NULL) == 0;
    if (!load->lock_made || pthread_condattr_init(&attributes) != 0)
        return PS_E_NOMEM;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    load->ended_made = pthread_cond_init(&load->ended, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return load->ended_made ? PS_OK : PS_E_NOMEM;
}

int ps_load_new(const ps_load_options *options, ps_load **out, ps_error *error)
{
    if (!options || !out)
        return ps_fail(error, PS_E_INVALID, 0, "ps_load_new", "no options, or nowhere to put it");
    int status = check(options, error);
    if (status != PS_OK)
        return status;
    ps_load *load = calloc(1, sizeof *load);
    if (!load)
        return ps_fail(error, PS_E_NOMEM, 0, "ps_load_new", "%s", ps_status_text(PS_E_NOMEM));
    status = make_waiting(load);
    if (status != PS_OK)
        goto out;
    status = PS_E_NOMEM;
    load->n_edges = options->edges;
    load->edge_ns = malloc(options->edges * sizeof *load->edge_ns);
    load->threads = calloc(options->threads, sizeof *load->threads);
    if (!load->edge_ns || !load->threads)
        goto out;
    memcpy(load->edge_ns, options->edge_ns, options->edges * sizeof *load->edge_ns);
    for (; load->n_threads < options->threads; load->n_threads++) {
        load_thread *thread = &load->threads[load->n_threads];
        thread->load = load;
        thread->index = load->n_threads;
        thread->cpu = options->cpus ? options->cpus[load->n_threads] : -1;
        thread->burst = calloc(options->edges / 2, sizeof *thread->burst);
        thread->work = calloc(1, sizeof *thread->work);
        if (!thread->burst || !thread->work) {
            load->n_threads++; /* this one has something to free, too */
            goto out;
        }
        ps_primes_init(thread->work);
    }
    status = PS_OK;
    *out = load;
    load = NULL;
out:
    ps_load_free(load);
    return status == PS_OK ? PS_OK : ps_fail(error, status, 0, "ps_load_new", "%s", ps_status_text(status));
}

int ps_load_start(ps_load *load, int64_t start_ns, ps_error *error)
{
    if (load->state != LOAD_NEW)
        return ps_fail(error, PS_E_STATE, 0, "ps_load_start", "a load starts once");
    load->start_ns = start_ns;
    load->running = load->n_threads; /* before there is a thread to count down */
    /* Signals belong to the program: the threads are born with all of them blocked. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = 0;
    for (; load->created < load->n_threads && failure == 0; load->created += failure == 0)
        failure = pthread_create(&load->threads[load->created].thread, NULL, run, &load->threads[load->created]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    load->state = LOAD_RUNNING;
    if (failure == 0)
        return PS_OK;
    pthread_mutex_lock(&load->lock);
    load->running -= load->n_threads - load->created; /* these will never come to their end */
    pthread_mutex_unlock(&load->lock);
    ps_load_ask_stop(load);
    (void)ps_load_wait(load, -1.0);
    return ps_fail(error, PS_E_SYSTEM, failure, "pthread_create", "thread %u of %u: %s", load->created + 1,
                   load->n_threads, strerror(failure));
}

void ps_load_ask_stop(ps_load *load)
{
    atomic_store_explicit(&load->stop_ns, ps_clock_monotonic_ns(), memory_order_relaxed); /* as in stop_asked */
}

int ps_load_wait(ps_load *load, double timeout_s)
{
    if (load->state != LOAD_RUNNING)
        return load->state == LOAD_ENDED ? PS_OK : PS_E_STATE;
    const int64_t deadline_ns = ps_clock_monotonic_ns() + (int64_t)(timeout_s * 1e9);
    const struct timespec deadline = {deadline_ns / 1000000000, deadline_ns % 1000000000};
    int late = 0;
    pthread_mutex_lock(&load->lock);
    while (load->running && late == 0)
        late = timeout_s < 0 ? pthread_cond_wait(&load->ended, &load->lock)
                             : pthread_cond_timedwait(&load->ended, &load->lock, &deadline);
    const bool over = load->running == 0;
    pthread_mutex_unlock(&load->lock);
    if (!over)
        return PS_E_TIMEOUT;
    for (uint32_t i = 0; i < load->created; i++) /* what they logged is ours from here */
        pthread_join(load->threads[i].thread, NULL);
    load->state = LOAD_ENDED;
    return PS_OK;
}

int ps_load_log(const ps_load *load, ps_load_burst *out, uint32_t capacity, ps_load_result *result)
{
    if (!load || !result || (capacity && !out))
        return PS_E_INVALID;
    if (load->state != LOAD_ENDED)
        return PS_E_STATE;
    ps_load_result told = {0};
    for (uint32_t i = 0; i < load->n_threads; i++) {
        const load_thread *thread = &load->threads[i];
        for (uint32_t at = 0; at < thread->bursts; at++, told.bursts++) {
            if (told.bursts < capacity)
                out[told.bursts] = thread->burst[at];
            told.wrong += thread->burst[at].wrong;
        }
        told.missed += thread->missed;
        told.unpinned += thread->cpu_errno != 0;
        if (thread->cpu_errno)
            told.cpu_errno = thread->cpu_errno;
    }
    *result = told;
    return PS_OK;
}

void ps_load_free(ps_load *load)
{
    if (!load)
        return;
    if (load->state == LOAD_RUNNING) {
        ps_load_ask_stop(load);
        (void)ps_load_wait(load, -1.0);
    }
    for (uint32_t i = 0; i < load->n_threads; i++) {
        free(load->threads[i].burst);
        free(load->threads[i].work);
    }
    free(load->threads);
    free(load->edge_ns);
    if (load->ended_made)
        pthread_cond_destroy(&load->ended);
    if (load->lock_made)
        pthread_mutex_destroy(&load->lock);
    free(load);
}
