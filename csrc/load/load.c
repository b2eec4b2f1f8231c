/* SPDX-License-Identifier: Apache-2.0
 *
 * Load of a known pattern: its threads' lives. What each does is in step.c.
 */
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>

#include "core/clock.h"
#include "core/source.h"
#include "load/step.h"

enum {
    EDGES_MAX = 1 << 20,
    BURSTS_MAX = 1 << 20, /* a thread */
    SETS = 8,             /* of CPU_SETSIZE: the kernel is built for 8192 CPUs at most */
    WAIT_MAX_S = 1000 * 1000 * 1000 /* 31 years: a longer wait would not fit in a deadline's 64 bits */
};

static const int64_t default_period_ns = 100 * 1000 * 1000, least_period_ns = 1000 * 1000,
                     longest_period_ns = INT64_C(60) * 1000 * 1000 * 1000;

enum load_state { LOAD_NEW, LOAD_READY, LOAD_RUNNING, LOAD_ENDED };

struct ps_load {
    load_thread *threads;
    load_plan plan;
    int64_t *edge_ns;
    double *levels;
    int32_t kernel, isa;
    uint32_t n_threads, created;
    uint64_t stream_bytes;
    enum load_state state;   /* the caller's own */
    pthread_mutex_t lock;    /* of the next three */
    pthread_cond_t changed;
    uint32_t unready, running;
    bool go;
    bool lock_made, changed_made;
};

static void pin(load_thread *thread)
{
    if (thread->cpu < 0)
        return;
    cpu_set_t sets[SETS];
    CPU_ZERO_S(sizeof sets, sets);
    CPU_SET_S((size_t)thread->cpu, sizeof sets, sets);
    thread->cpu_errno = sched_setaffinity(0, sizeof sets, sets) == 0 ? 0 : errno;
}

/* Says that this thread is ready, and waits until all may go. */
static void meet(ps_load *load)
{
    pthread_mutex_lock(&load->lock);
    if (--load->unready == 0)
        pthread_cond_broadcast(&load->changed);
    while (!load->go)
        pthread_cond_wait(&load->changed, &load->lock);
    pthread_mutex_unlock(&load->lock);
}

static void *run(void *argument)
{
    load_thread *thread = argument;
    ps_load *load = thread->load;
    prctl(PR_SET_NAME, "ps-load");
    prctl(PR_SET_TIMERSLACK, 1UL); /* of this thread; 0 would mean the default */
    pin(thread);
    ps_work_init(&thread->work, load->isa); /* here: memory is nearest to who touches it first */
    meet(load);
    load_run_steps(thread, &load->plan);
    pthread_mutex_lock(&load->lock);
    if (--load->running == 0)
        pthread_cond_broadcast(&load->changed);
    pthread_mutex_unlock(&load->lock);
    return NULL;
}

static int check(const ps_load_options *options, ps_error *error)
{
    const char *call = "ps_load_new";
    if (options->kernel < PS_LOAD_PRIMES || options->kernel > PS_LOAD_IDLE)
        return ps_fail(error, PS_E_INVALID, 0, call, "no such kernel: %d", options->kernel);
    if (options->isa < PS_ISA_BEST || options->isa > PS_ISA_NEON)
        return ps_fail(error, PS_E_INVALID, 0, call, "no such instruction set: %d", options->isa);
    if (options->threads < 1 || options->threads > PS_LOAD_THREADS)
        return ps_fail(error, PS_E_INVALID, 0, call, "%u threads: from 1 to %d", options->threads, PS_LOAD_THREADS);
    if (!options->edge_ns || options->edges < 2 || options->edges % 2 || options->edges > EDGES_MAX)
        return ps_fail(error, PS_E_INVALID, 0, call, "%u edges: an even number from 2 to %d", options->edges, EDGES_MAX);
    for (uint32_t i = 0; i < options->edges; i++)
        if (options->edge_ns[i] < 0 || (i && options->edge_ns[i] < options->edge_ns[i - 1] + i % 2))
            return ps_fail(error, PS_E_INVALID, 0, call, "edge %u does not come after the one before", i);
    for (uint32_t i = 0; options->levels && i < options->edges / 2; i++)
        if (!(options->levels[i] >= 0 && options->levels[i] <= 1))
            return ps_fail(error, PS_E_INVALID, 0, call, "level %u is %g: from 0 to 1", i, options->levels[i]);
    if (options->period_ns && (options->period_ns < least_period_ns || options->period_ns > longest_period_ns))
        return ps_fail(error, PS_E_INVALID, 0, call, "a period of %g s: from 0.001 to 60", (double)options->period_ns * 1e-9);
    for (uint32_t i = 0; options->cpus && i < options->threads; i++)
        if (options->cpus[i] < -1 || options->cpus[i] >= SETS * CPU_SETSIZE)
            return ps_fail(error, PS_E_INVALID, 0, call, "no such CPU: %d", options->cpus[i]);
    return PS_OK;
}

static int make_meeting(ps_load *load)
{
    pthread_condattr_t attributes;
    load->lock_made = pthread_mutex_init(&load->lock, NULL) == 0;
    if (!load->lock_made || pthread_condattr_init(&attributes) != 0)
        return PS_E_NOMEM;
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    load->changed_made = pthread_cond_init(&load->changed, &attributes) == 0;
    pthread_condattr_destroy(&attributes);
    return load->changed_made ? PS_OK : PS_E_NOMEM;
}

/* Room for every burst that can be: nothing is allocated while threads work. */
static int make_plan(ps_load *load, const ps_load_options *options, uint64_t *room, ps_error *error)
{
    const uint32_t steps = options->edges / 2;
    load_plan *plan = &load->plan;
    load->edge_ns = malloc(options->edges * sizeof *load->edge_ns);
    load->levels = malloc(steps * sizeof *load->levels);
    if (!load->edge_ns || !load->levels)
        return ps_fail(error, PS_E_NOMEM, 0, "ps_load_new", "%s", ps_status_text(PS_E_NOMEM));
    memcpy(load->edge_ns, options->edge_ns, options->edges * sizeof *load->edge_ns);
    for (uint32_t i = 0; i < steps; i++)
        load->levels[i] = options->kernel == PS_LOAD_IDLE ? 0 : options->levels ? options->levels[i] : 1;
    plan->edge_ns = load->edge_ns;
    plan->levels = load->levels;
    plan->steps = steps;
    plan->threads = options->threads;
    plan->period_ns = options->period_ns ? options->period_ns : default_period_ns;
    *room = load_bursts(plan);
    if (*room > BURSTS_MAX)
        return ps_fail(error, PS_E_INVALID, 0, "ps_load_new", "%.0f bursts a thread: %d at most; take longer periods",
                       (double)*room, BURSTS_MAX);
    return PS_OK;
}

/* One number a thread, which the caller frees. */
static int size_streams(ps_load *load, const ps_load_options *options, uint64_t **bytes, ps_error *error)
{
    *bytes = calloc(options->threads, sizeof **bytes);
    if (!*bytes)
        return ps_fail(error, PS_E_NOMEM, 0, "ps_load_new", "%s", ps_status_text(PS_E_NOMEM));
    if (!ps_work_uses(options->kernel, PS_LOAD_STREAM))
        return PS_OK;
    if (!options->stream_bytes)
        ps_stream_sizes(options->sysfs, options->cpus, options->threads, *bytes);
    for (uint32_t i = 0; i < options->threads; i++) {
        if (options->stream_bytes)
            (*bytes)[i] = options->stream_bytes;
        load->stream_bytes += (*bytes)[i];
    }
    const uint64_t available = ps_memory_available("/proc", "/sys/fs/cgroup");
    if (load->stream_bytes / 2 > available / 4)
        return ps_fail(error, PS_E_NOMEM, 0, "ps_load_new",
                       "stream takes %.0f MiB for %u threads, and half of what is available is %.0f MiB: take fewer threads",
                       (double)load->stream_bytes / (1 << 20), options->threads, (double)available / (2 << 20));
    return PS_OK;
}

int ps_load_new(const ps_load_options *options, ps_load **out, ps_error *error)
{
    if (!options || !out)
        return ps_fail(error, PS_E_INVALID, 0, "ps_load_new", "no options, or nowhere to put it");
    int status = check(options, error);
    if (status != PS_OK)
        return status;
    int32_t isa = PS_ISA_BEST;
    if (ps_work_uses(options->kernel, PS_LOAD_FMA) && ps_fma_isa(options->isa, &isa) != PS_OK)
        return ps_fail(error, PS_E_INVALID, 0, "ps_load_new", "this CPU has no %s", ps_isa_name(options->isa));
    uint64_t *bytes = NULL, room = 0;
    ps_load *load = calloc(1, sizeof *load);
    if (!load)
        return ps_fail(error, PS_E_NOMEM, 0, "ps_load_new", "%s", ps_status_text(PS_E_NOMEM));
    load->kernel = options->kernel;
    load->isa = isa;
    status = make_plan(load, options, &room, error);
    if (status == PS_OK)
        status = size_streams(load, options, &bytes, error);
    if (status != PS_OK)
        goto out;
    status = make_meeting(load);
    load->threads = calloc(options->threads, sizeof *load->threads);
    if (!load->threads)
        status = PS_E_NOMEM;
    while (status == PS_OK && load->n_threads < options->threads) {
        load_thread *thread = &load->threads[load->n_threads];
        thread->load = load;
        thread->index = load->n_threads;
        thread->cpu = options->cpus ? options->cpus[load->n_threads] : -1;
        status = ps_work_make(&thread->work, options->kernel, bytes[load->n_threads++]); /* counted: there is to be freed */
        thread->burst = calloc(room ? room : 1, sizeof *thread->burst);
        thread->step = calloc(load->plan.steps, sizeof *thread->step);
        if (!thread->burst || !thread->step)
            status = PS_E_NOMEM;
    }
    if (status != PS_OK) {
        (void)ps_fail(error, status, 0, "ps_load_new", "%s", ps_status_text(status));
        goto out;
    }
    *out = load;
    load = NULL;
out:
    free(bytes);
    ps_load_free(load);
    return status;
}

static void let_go(ps_load *load, int64_t start_ns)
{
    pthread_mutex_lock(&load->lock);
    load->plan.start_ns = start_ns;
    load->go = true;
    pthread_cond_broadcast(&load->changed);
    pthread_mutex_unlock(&load->lock);
    load->state = LOAD_RUNNING;
}

int ps_load_prepare(ps_load *load, ps_error *error)
{
    if (load->state != LOAD_NEW)
        return ps_fail(error, PS_E_STATE, 0, "ps_load_prepare", "a load is prepared and started once");
    load->unready = load->running = load->n_threads; /* before there is a thread to count down */
    /* Signals belong to the program: the threads are born with all of them blocked. */
    sigset_t all, before;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    int failure = 0;
    for (; load->created < load->n_threads && failure == 0; load->created += failure == 0)
        failure = pthread_create(&load->threads[load->created].thread, NULL, run, &load->threads[load->created]);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    pthread_mutex_lock(&load->lock);
    load->unready -= load->n_threads - load->created; /* these will never be ready, nor come to their end */
    load->running -= load->n_threads - load->created;
    while (load->unready)
        pthread_cond_wait(&load->changed, &load->lock);
    pthread_mutex_unlock(&load->lock);
    load->state = LOAD_READY;
    if (failure == 0)
        return PS_OK;
    ps_load_ask_stop(load);
    let_go(load, 0);
    (void)ps_load_wait(load, -1.0);
    return ps_fail(error, PS_E_SYSTEM, failure, "pthread_create", "thread %u of %u: %s", load->created + 1,
                   load->n_threads, strerror(failure));
}

int ps_load_start(ps_load *load, int64_t start_ns, ps_error *error)
{
    if (load->state == LOAD_NEW) {
        int status = ps_load_prepare(load, error);
        if (status != PS_OK)
            return status;
    }
    if (load->state != LOAD_READY)
        return ps_fail(error, PS_E_STATE, 0, "ps_load_start", "a load starts once");
    let_go(load, start_ns);
    return PS_OK;
}

void ps_load_ask_stop(ps_load *load)
{
    /* relaxed: as in load_stop_asked; the instant itself is read by who has joined the threads, or asked. */
    int64_t never = 0;
    atomic_compare_exchange_strong_explicit(&load->plan.stop_ns, &never, ps_clock_monotonic_ns(), memory_order_relaxed,
                                            memory_order_relaxed);
}

int ps_load_wait(ps_load *load, double timeout_s)
{
    if (load->state != LOAD_RUNNING)
        return load->state == LOAD_ENDED ? PS_OK : PS_E_STATE;
    const double wait_s = timeout_s < WAIT_MAX_S ? timeout_s : WAIT_MAX_S;
    const int64_t deadline_ns = ps_clock_monotonic_ns() + (timeout_s < 0 ? 0 : (int64_t)(wait_s * 1e9));
    const struct timespec deadline = {deadline_ns / 1000000000, deadline_ns % 1000000000};
    int late = 0;
    pthread_mutex_lock(&load->lock);
    while (load->running && late == 0)
        late = timeout_s < 0 ? pthread_cond_wait(&load->changed, &load->lock)
                             : pthread_cond_timedwait(&load->changed, &load->lock, &deadline);
    const bool over = load->running == 0;
    pthread_mutex_unlock(&load->lock);
    if (!over)
        return PS_E_TIMEOUT;
    for (uint32_t i = 0; i < load->created; i++) /* what they logged is ours from here */
        pthread_join(load->threads[i].thread, NULL);
    load->state = LOAD_ENDED;
    return PS_OK;
}

/* A step that a stop came before was never begun. */
static uint32_t steps_begun(const ps_load *load)
{
    const int64_t stop_ns = atomic_load_explicit(&load->plan.stop_ns, memory_order_relaxed); /* as in ps_load_ask_stop */
    uint32_t steps = load->plan.steps;
    while (stop_ns && steps && load->plan.start_ns + load->edge_ns[2 * (steps - 1)] >= stop_ns)
        steps--;
    return steps;
}

int ps_load_log(const ps_load *load, ps_load_burst *out, uint32_t capacity, ps_load_result *result)
{
    if (!load || !result || (capacity && !out))
        return PS_E_INVALID;
    if (load->state != LOAD_ENDED)
        return PS_E_STATE;
    ps_load_result told = {.stream_bytes = load->stream_bytes, .steps = steps_begun(load), .isa = load->isa};
    for (uint32_t i = 0; i < load->n_threads; i++) {
        const load_thread *thread = &load->threads[i];
        for (uint32_t at = 0; at < thread->bursts; at++, told.bursts++) {
            if (told.bursts < capacity)
                out[told.bursts] = thread->burst[at];
            told.wrong += thread->burst[at].wrong;
        }
        for (uint32_t at = 0; at < load->plan.steps; at++)
            told.missed += thread->step[at].missed;
        told.unpinned += thread->cpu_errno != 0;
        if (thread->cpu_errno)
            told.cpu_errno = thread->cpu_errno;
    }
    *result = told;
    return PS_OK;
}

int ps_load_steps(const ps_load *load, ps_load_step *out, uint32_t capacity)
{
    if (!load || (capacity && !out))
        return PS_E_INVALID;
    if (load->state != LOAD_ENDED)
        return PS_E_STATE;
    const int64_t stop_ns = atomic_load_explicit(&load->plan.stop_ns, memory_order_relaxed); /* as in ps_load_ask_stop */
    const uint32_t begun = steps_begun(load);
    for (uint32_t i = 0; i < capacity && i < begun; i++) {
        const int64_t end_ns = load->plan.start_ns + load->edge_ns[2 * i + 1];
        ps_load_step step = {.begin_ns = load->plan.start_ns + load->edge_ns[2 * i],
                             .end_ns = stop_ns && stop_ns < end_ns ? stop_ns : end_ns,
                             .level = load->levels[i]};
        for (uint32_t at = 0; at < load->n_threads; at++) {
            const load_step *one = &load->threads[at].step[i];
            step.cpu_ns += one->cpu_ns;
            step.wrong += one->wrong;
            step.bursts += one->bursts;
            step.missed += one->missed;
        }
        out[i] = step;
    }
    return PS_OK;
}

void ps_load_free(ps_load *load)
{
    if (!load)
        return;
    if (load->state == LOAD_READY || load->state == LOAD_RUNNING) {
        ps_load_ask_stop(load);
        if (load->state == LOAD_READY)
            let_go(load, 0);
        (void)ps_load_wait(load, -1.0);
    }
    for (uint32_t i = 0; i < load->n_threads; i++) {
        free(load->threads[i].burst);
        free(load->threads[i].step);
        ps_work_free(&load->threads[i].work);
    }
    free(load->threads);
    free(load->edge_ns);
    free(load->levels);
    if (load->changed_made)
        pthread_cond_destroy(&load->changed);
    if (load->lock_made)
        pthread_mutex_destroy(&load->lock);
    free(load);
}
