/* SPDX-License-Identifier: Apache-2.0
 *
 * The spool's life: made, started, synced with, stopped. What it does in between is in spool_thread.c.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "core/errno_status.h"
#include "core/pace.h"
#include "core/spool.h"

enum { SYNC_POLL_NS = 500 * 1000 };

static const ps_spool_options defaults = {
    .part_bytes = 64u << 20, .part_ms = 600 * 1000, .drain_ms = 50, .sync_ms = 1000, .anchor_ms = 10 * 1000};

static bool is_foreign(const ps_spool *spool)
{
    return spool->pid != 0 && spool->pid != getpid();
}

static void read_boot_id(char *boot_id, int size)
{
    boot_id[0] = '\0'; /* where /proc is hidden it stays empty */
    FILE *file = fopen("/proc/sys/kernel/random/boot_id", "re");
    if (!file)
        return;
    if (fgets(boot_id, size, file))
        boot_id[strcspn(boot_id, "\n")] = '\0';
    fclose(file);
}

static int fail_system(ps_error *error, int failure, const char *call, const char *path)
{
    return ps_fail(error, ps_errno_status(failure), failure, call, "%s: %s", path, strerror(failure));
}

static int check_empty(const char *directory, ps_error *error)
{
    DIR *listing = opendir(directory);
    if (!listing)
        return fail_system(error, errno, "opendir", directory);
    int status = PS_OK;
    for (const struct dirent *entry; status == PS_OK && (entry = readdir(listing));)
        if (strncmp(entry->d_name, "part-", 5) == 0 || strcmp(entry->d_name, "events.jsonl") == 0)
            status = ps_fail(error, PS_E_STATE, 0, "ps_spool_new",
                             "%s holds %s of an earlier run: recover it, or give an empty directory", directory,
                             entry->d_name);
    closedir(listing);
    return status;
}

/* Everything but where it is written to; `directory` stands for that in messages. */
static int make(const char *directory, ps_sampler *sampler, const ps_spool_options *options, ps_spool **out,
                ps_error *error)
{
    int status = PS_OK;
    ps_spool *spool = calloc(1, sizeof *spool);
    if (!spool)
        return ps_fail(error, PS_E_NOMEM, 0, "calloc", "%s", directory);
    spool->part.directory_fd = spool->part.stream_fd = spool->part.fd = spool->events_fd = spool->wake_fd = -1;
    spool->sampler = sampler;
    ps_sampler_hold(sampler);
    spool->options = options ? *options : defaults;
    ps_spool_options *set = &spool->options;
    set->part_bytes = set->part_bytes ? set->part_bytes : defaults.part_bytes;
    set->part_ms = set->part_ms ? set->part_ms : defaults.part_ms;
    set->drain_ms = set->drain_ms ? set->drain_ms : defaults.drain_ms;
    set->sync_ms = set->sync_ms ? set->sync_ms : defaults.sync_ms;
    set->anchor_ms = set->anchor_ms ? set->anchor_ms : defaults.anchor_ms;
    if (set->drain_ms > INT32_MAX) {
        status = ps_fail(error, PS_E_INVALID, 0, "ps_spool_new", "drain_ms: %u is beyond 2^31", set->drain_ms);
        goto out;
    }
    if (set->keep != PS_KEEP_ALL && set->keep != PS_KEEP_CHANGES) {
        status = ps_fail(error, PS_E_INVALID, 0, "ps_spool_new", "there is no keep mode %d", set->keep);
        goto out;
    }
    spool->part.record_bytes = set->keep == PS_KEEP_CHANGES ? sizeof(ps_kept) : sizeof(ps_sample);
    read_boot_id(spool->boot_id, sizeof spool->boot_id);

    spool->directory = strdup(directory);
    spool->batch = malloc(PS_SPOOL_BATCH_RECORDS * sizeof *spool->batch);
    if (!spool->directory || !spool->batch) {
        status = ps_fail(error, PS_E_NOMEM, 0, "malloc", "%s", directory);
        goto out;
    }
    spool->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (spool->wake_fd < 0) {
        status = fail_system(error, errno, "eventfd", directory);
        goto out;
    }
    *out = spool;
    return PS_OK;
out:
    ps_spool_free(spool);
    return status;
}

int ps_spool_new(const char *directory, ps_sampler *sampler, const ps_spool_options *options, ps_spool **out,
                 ps_error *error)
{
    if (!directory || !sampler || !out)
        return ps_fail(error, PS_E_INVALID, 0, "ps_spool_new", "directory and sampler are needed");
    ps_spool *spool;
    int status = check_empty(directory, error);
    if (status == PS_OK)
        status = make(directory, sampler, options, &spool, error);
    if (status != PS_OK)
        return status;
    spool->part.directory_fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (spool->part.directory_fd < 0) {
        status = fail_system(error, errno, "open", directory);
        ps_spool_free(spool);
        return status;
    }
    *out = spool;
    return PS_OK;
}

int ps_spool_stream_new(int32_t fd, ps_sampler *sampler, const ps_spool_options *options, ps_spool **out,
                        ps_error *error)
{
    if (fd < 0 || !sampler || !out)
        return ps_fail(error, PS_E_INVALID, 0, "ps_spool_stream_new", "a descriptor and a sampler are needed");
    ps_spool *spool;
    int status = make("stream", sampler, options, &spool, error);
    if (status != PS_OK)
        return status;
    spool->part.stream_fd = fcntl(fd, F_DUPFD_CLOEXEC, 3);
    if (spool->part.stream_fd < 0) {
        status = ps_fail(error, PS_E_SYSTEM, errno, "fcntl", "descriptor %d: %s", fd, strerror(errno));
        ps_spool_free(spool);
        return status;
    }
    *out = spool;
    return PS_OK;
}

/* Once the lanes are planned. */
static int prepare_keeping(ps_spool *spool)
{
    if (spool->options.keep == PS_KEEP_ALL || spool->keep)
        return PS_OK;
    uint32_t most = spool->sampler->n_channels > 2 * PS_SPOOL_BATCH_RECORDS ? spool->sampler->n_channels
                                                                            : 2 * PS_SPOOL_BATCH_RECORDS;
    free(spool->kept); /* of a start that failed */
    spool->kept = malloc(most * sizeof *spool->kept);
    return spool->kept ? ps_keep_new(spool->sampler, &spool->keep) : PS_E_NOMEM;
}

/* Removes what a failed start has made, so that a second try finds the directory empty. */
static void undo_start(ps_spool *spool)
{
    if (spool->part.stream_fd >= 0)
        return; /* what has been written to a stream stays */
    if (spool->part.fd >= 0) {
        close(spool->part.fd);
        unlinkat(spool->part.directory_fd, "part-000000.open", 0);
    }
    if (spool->events_fd >= 0) {
        close(spool->events_fd);
        unlinkat(spool->part.directory_fd, "events.jsonl", 0);
    }
    spool->part.fd = spool->events_fd = -1;
}

int ps_spool_start(ps_spool *spool, ps_error *error)
{
    const char *call = "ps_spool_start";
    if (!spool)
        return ps_fail(error, PS_E_INVALID, 0, call, "no spool");
    if (spool->pid)
        return ps_fail(error, PS_E_STATE, 0, call, "%s: a spool starts once", spool->directory);
    if (!spool->sampler->start_called || ps_sampler_is_foreign(spool->sampler))
        return ps_fail(error, PS_E_STATE, 0, call, "%s: start the sampler first", spool->directory);
    if (atomic_load_explicit(&spool->sampler->spooled, memory_order_relaxed)) /* as in ps_sampler_drain */
        return ps_fail(error, PS_E_STATE, 0, call, "%s: the sampler has a spool already", spool->directory);

    if (prepare_keeping(spool) != PS_OK)
        return ps_fail(error, PS_E_NOMEM, 0, call, "%s", spool->directory);
    if (spool->part.stream_fd < 0) {
        spool->events_fd = openat(spool->part.directory_fd, "events.jsonl",
                                  O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0666);
        if (spool->events_fd < 0)
            return fail_system(error, errno, "open events.jsonl", spool->directory);
    }
    int failure = ps_spool_append_anchor(spool);
    if (!failure)
        failure = ps_spool_open_part(spool);
    if (!failure) {
        int64_t now_ns = ps_clock_now_ns();
        spool->sync_due_ns = now_ns + spool->options.sync_ms * INT64_C(1000000);
        spool->newest_due_ns = now_ns + PS_SPOOL_NEWEST_NS;
        spool->anchor_due_ns = now_ns + spool->options.anchor_ms * INT64_C(1000000);
        spool->lanes_due_ns = now_ns + PS_SPOOL_LANES_NS;
        sigset_t all, before;
        sigfillset(&all);
        pthread_sigmask(SIG_SETMASK, &all, &before);
        failure = pthread_create(&spool->thread, NULL, ps_spool_run, spool);
        pthread_sigmask(SIG_SETMASK, &before, NULL);
    }
    if (failure) {
        undo_start(spool);
        return fail_system(error, failure, call, spool->directory);
    }
    spool->pid = getpid();
    atomic_store_explicit(&spool->sampler->spooled, true, memory_order_relaxed); /* as in ps_sampler_drain */
    return PS_OK;
}

static void wake(const ps_spool *spool)
{
    uint64_t one = 1;
    (void)!write(spool->wake_fd, &one, sizeof one); /* refused only when the thread has been woken 2^64 times */
}

int ps_spool_sync(ps_spool *spool, double timeout_s)
{
    if (!spool || !(timeout_s >= 0 && timeout_s <= 1e6))
        return PS_E_INVALID;
    if (!spool->pid || spool->stopped || is_foreign(spool))
        return PS_E_STATE;
    int64_t deadline_ns = ps_clock_now_ns() + (int64_t)(timeout_s * 1e9);
    /* release; pairs with the acquire in ps_spool_run; see there. */
    uint64_t ticket = atomic_fetch_add_explicit(&spool->sync_asked, 1, memory_order_release) + 1;
    wake(spool);
    /* acquire; pairs with the release in ps_spool_run; see there. */
    while (atomic_load_explicit(&spool->sync_done, memory_order_acquire) < ticket) {
        if (ps_clock_now_ns() >= deadline_ns)
            return PS_E_TIMEOUT;
        ps_pace_sleep(SYNC_POLL_NS);
    }
    return ps_spool_status(spool);
}

int ps_spool_stop(ps_spool *spool, ps_error *error)
{
    const char *call = "ps_spool_stop";
    if (!spool)
        return ps_fail(error, PS_E_INVALID, 0, call, "no spool");
    if (!spool->pid || is_foreign(spool))
        return ps_fail(error, PS_E_STATE, 0, call, "%s: not started by this process", spool->directory);
    if (!spool->stopped) {
        spool->stopped = true;
        /* release; pairs with the acquire in ps_spool_run; see there. */
        atomic_store_explicit(&spool->stop, true, memory_order_release);
        wake(spool);
        pthread_join(spool->thread, NULL);
        atomic_store_explicit(&spool->sampler->spooled, false, memory_order_relaxed); /* as in ps_sampler_drain */
    }
    int status = ps_spool_status(spool);
    if (status == PS_OK)
        return PS_OK;
    int failure = atomic_load_explicit(&spool->sys_errno, memory_order_relaxed); /* final: joined */
    return ps_fail(error, status, failure, "write", "%s: %s; %" PRIu64 " records discarded since", spool->directory,
                   strerror(failure), atomic_load_explicit(&spool->discarded, memory_order_relaxed));
}

int ps_spool_get_stats(const ps_spool *spool, ps_spool_stats *out)
{
    if (!spool || !out)
        return PS_E_INVALID;
    out->records = atomic_load_explicit(&spool->records, memory_order_relaxed);
    out->bytes = atomic_load_explicit(&spool->bytes, memory_order_relaxed);
    out->omitted = atomic_load_explicit(&spool->omitted, memory_order_relaxed);
    out->discarded = atomic_load_explicit(&spool->discarded, memory_order_relaxed);
    out->parts = atomic_load_explicit(&spool->parts, memory_order_relaxed);
    out->status = ps_spool_status(spool);
    out->sys_errno = atomic_load_explicit(&spool->sys_errno, memory_order_relaxed);
    return PS_OK;
}

void ps_spool_free(ps_spool *spool)
{
    if (!spool)
        return;
    if (spool->pid && !spool->stopped && !is_foreign(spool))
        (void)ps_spool_stop(spool, NULL);
    if (spool->part.stream_fd >= 0)
        spool->part.fd = spool->part.stream_fd; /* the same, whether a part is open or not */
    const int fds[] = {spool->part.fd, spool->events_fd, spool->wake_fd, spool->part.directory_fd};
    for (size_t i = 0; i < sizeof fds / sizeof fds[0]; i++)
        if (fds[i] >= 0)
            close(fds[i]);
    ps_sampler_release(spool->sampler);
    ps_text_free(&spool->text);
    ps_keep_free(spool->keep);
    free(spool->kept);
    free(spool->batch);
    free(spool->directory);
    free(spool);
}
