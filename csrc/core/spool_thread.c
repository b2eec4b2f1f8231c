/* SPDX-License-Identifier: Apache-2.0
 *
 * The drain thread: empties the rings into parts, keeps them synced and of bounded size, and notes anchors
 * and lane statistics beside them. Whatever the disk does, it goes on emptying the rings: what could not be
 * written is counted, and the lanes never notice.
 */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <sys/prctl.h>
#include <time.h>
#include <unistd.h>

#include "core/errno_status.h"
#include "core/spool.h"

static void add(_Atomic uint64_t *counter, uint64_t n)
{
    /* relaxed and no read-modify-write: the drain thread alone writes. */
    atomic_store_explicit(counter, atomic_load_explicit(counter, memory_order_relaxed) + n, memory_order_relaxed);
}

int ps_spool_failure_status(int failure)
{
    return ps_errno_status(failure) == PS_E_FULL ? PS_E_FULL : PS_E_SYSTEM;
}

/* ---- events ------------------------------------------------------------------------------------------------ */

/* Appends spool->text as a line. */
static int append_event(ps_spool *spool)
{
    ps_text_add(&spool->text, "\n");
    if (spool->text.failed)
        return ENOMEM;
    if (spool->part.stream_fd >= 0)
        return ps_stream_write(&spool->part, spool->text.data, spool->text.used);
    return ps_line_append(spool->events_fd, spool->text.data, spool->text.used);
}

static int sync_events(const ps_spool *spool)
{
    return spool->events_fd < 0 || fdatasync(spool->events_fd) == 0 ? 0 : errno;
}

/* Tells a stream's reader that it has whatever was recorded before the last drain, which is complete and, where changes
 * are kept, followed by the newest of each channel. */
static int tell_drained(ps_spool *spool)
{
    if (spool->part.stream_fd < 0)
        return 0;
    ps_text_clear(&spool->text);
    ps_text_add(&spool->text, "{\"event\":\"drained\",\"t_ns\":%" PRId64 "}", spool->drain_ns);
    return append_event(spool);
}

int ps_spool_append_anchor(ps_spool *spool)
{
    ps_anchor anchor;
    (void)ps_clock_anchor(&anchor);
    ps_text_clear(&spool->text);
    ps_text_add(&spool->text, "{\"event\":\"anchor\",");
    ps_json_anchor(&spool->text, &anchor);
    ps_text_add(&spool->text, "}");
    return append_event(spool);
}

/* The histograms, most of the line, at the end only: a recording of days must not grow by what nobody reads. */
static int append_lanes(ps_spool *spool, bool histograms)
{
    ps_text_clear(&spool->text);
    ps_text_add(&spool->text, "{\"event\":\"lanes\",\"t_ns\":%" PRId64 ",\"lanes\":[", ps_clock_now_ns());
    for (uint32_t i = 0; i < spool->sampler->n_lanes; i++) {
        ps_lane_stats stats;
        ps_lane_stats_get(spool->sampler->lanes[i], &stats);
        ps_text_add(&spool->text, i ? "," : "");
        ps_json_lane_stats(&spool->text, &stats, histograms);
    }
    ps_text_add(&spool->text, "]}");
    spool->lanes_due_ns = ps_clock_now_ns() + PS_SPOOL_LANES_NS;
    return append_event(spool);
}

/* The drain thread's own CPU time; -1 unknown. */
static int64_t own_cpu_ns(void)
{
    struct timespec used;
    if (clock_gettime(CLOCK_THREAD_CPUTIME_ID, &used) != 0)
        return -1;
    return (int64_t)used.tv_sec * 1000000000 + used.tv_nsec;
}

static int append_end(ps_spool *spool)
{
    int32_t status = ps_spool_status(spool);
    const char *reason = status == PS_OK ? "stopped" : status == PS_E_FULL ? "full" : "failed";
    ps_text_clear(&spool->text);
    ps_text_add(&spool->text,
                "{\"event\":\"end\",\"t_ns\":%" PRId64 ",\"reason\":\"%s\",\"records\":%" PRIu64
                ",\"omitted\":%" PRIu64 ",\"discarded\":%" PRIu64 ",\"cpu_ns\":%" PRId64 "}",
                ps_clock_now_ns(), reason, atomic_load_explicit(&spool->records, memory_order_relaxed),
                atomic_load_explicit(&spool->omitted, memory_order_relaxed),
                atomic_load_explicit(&spool->discarded, memory_order_relaxed), own_cpu_ns()); /* relaxed: own */
    return append_event(spool);
}

/* ---- parts ------------------------------------------------------------------------------------------------- */

static void write_header(ps_spool *spool, ps_text *text, size_t header_bytes)
{
    ps_anchor anchor;
    (void)ps_clock_anchor(&anchor);
    ps_text_clear(text);
    /* A fixed width, so that the length does not depend on itself; readers find it without parsing the line. */
    ps_text_add(text, "{\"powersample_spool\":1,\"header_bytes\":%10zu,\"record_bytes\":%u,\"part\":%u,\"boot_id\":",
                header_bytes, spool->part.record_bytes, spool->part.number);
    ps_json_string(text, spool->boot_id);
    ps_text_add(text, ",\"keep\":\"%s\",\"anchor\":{", spool->keep ? "changes" : "all");
    ps_json_anchor(text, &anchor);
    ps_text_add(text, "},\"channels\":[");
    const char *separator = "";
    for (uint32_t i = 0; i < spool->sampler->n_lanes; i++) {
        const ps_source *source = spool->sampler->lanes[i]->source;
        for (uint32_t j = 0; j < source->n_channels; j++, separator = ",") {
            ps_text_add(text, "%s", separator);
            ps_json_channel(text, &source->channels[j]);
        }
    }
    ps_text_add(text, "],\"lanes\":[");
    for (uint32_t i = 0; i < spool->sampler->n_lanes; i++) {
        ps_lane_stats stats;
        ps_lane_stats_get(spool->sampler->lanes[i], &stats);
        ps_text_add(text, i ? "," : "");
        ps_json_lane(text, &stats);
    }
    ps_text_add(text, "]}");
}

int ps_spool_open_part(ps_spool *spool)
{
    ps_text *text = &spool->text;
    write_header(spool, text, 0);
    /* Clocks and counts may have gained digits by the second writing: one spare unit is plenty. */
    size_t header_bytes = (text->used / PS_SPOOL_HEADER_UNIT + 2) * PS_SPOOL_HEADER_UNIT;
    write_header(spool, text, header_bytes);
    if (!text->failed)
        ps_text_add(text, "%*s\n", (int)(header_bytes - 1 - text->used), "");
    int failure = text->failed ? ENOMEM : ps_part_open(&spool->part, text->data, text->used);
    if (!failure)
        add(&spool->bytes, header_bytes);
    return failure;
}

static int close_part(ps_spool *spool)
{
    if (spool->part.fd < 0)
        return 0;
    int failure = ps_part_close(&spool->part);
    uint32_t parts = atomic_load_explicit(&spool->parts, memory_order_relaxed); /* own */
    atomic_store_explicit(&spool->parts, parts + 1, memory_order_relaxed);
    int lanes_failure = append_lanes(spool, false);
    return failure ? failure : lanes_failure;
}

/* From here on records are drained and counted, not written. What is on the disk stays, closed like any part. */
static void fail(ps_spool *spool, int failure)
{
    if (!failure || ps_spool_status(spool) != PS_OK)
        return;
    atomic_store_explicit(&spool->sys_errno, failure, memory_order_relaxed);
    atomic_store_explicit(&spool->status, ps_spool_failure_status(failure), memory_order_relaxed);
    (void)close_part(spool);
    ps_text_clear(&spool->text);
    ps_text_add(&spool->text, "{\"event\":\"failed\",\"t_ns\":%" PRId64 ",\"status\":\"%s\",\"errno\":%d}",
                ps_clock_now_ns(), ps_status_name(ps_spool_failure_status(failure)), failure);
    (void)append_event(spool); /* may well fail, too */
}

/* ---- draining ---------------------------------------------------------------------------------------------- */

/* Writes records, beginning a new part whenever one is full: no part exceeds part_bytes, unless one record
 * does. Rows that were kept need each other, so there a part ends between batches, see end_part. */
static int write_records(ps_spool *spool, const void *records, uint32_t count, uint32_t *written)
{
    *written = 0;
    while (*written < count) {
        ps_part *part = &spool->part;
        uint64_t limit = spool->keep ? UINT64_MAX : spool->options.part_bytes;
        uint64_t room = part->bytes < limit ? (limit - part->bytes) / part->record_bytes : 0;
        if (room == 0 && part->bytes > part->header_bytes) {
            int failure = close_part(spool);
            if (failure)
                return failure;
        }
        if (part->fd < 0) {
            int failure = ps_spool_open_part(spool);
            if (failure)
                return failure;
            continue;
        }
        uint32_t left = count - *written, appended;
        uint32_t piece = room == 0 ? 1 : room < left ? (uint32_t)room : left;
        const char *from = (const char *)records + (size_t)*written * part->record_bytes;
        int failure = ps_part_append(part, from, piece, &appended);
        *written += appended;
        add(&spool->records, appended);
        add(&spool->bytes, (uint64_t)appended * part->record_bytes);
        if (failure)
            return failure;
    }
    return 0;
}

/* Writes the first `count` of spool->kept; a row stands for itself and for what was left out before it. */
static int write_kept(ps_spool *spool, uint32_t count)
{
    uint32_t written = 0;
    int failure = ps_spool_status(spool) == PS_OK ? write_records(spool, spool->kept, count, &written) : 0;
    for (uint32_t i = 0; i < count; i++) {
        add(i < written ? &spool->omitted : &spool->discarded, spool->kept[i].omitted);
        add(&spool->discarded, i >= written);
    }
    return failure;
}

static int write_newest(ps_spool *spool)
{
    return spool->keep ? write_kept(spool, ps_keep_newest(spool->keep, spool->kept)) : 0;
}

/* Ends the part with the newest of each channel, so that the next one needs nothing of it. */
static int end_part(ps_spool *spool)
{
    int failure = write_newest(spool);
    if (spool->keep)
        ps_keep_part(spool->keep);
    return failure ? failure : close_part(spool);
}

static int write_changes(ps_spool *spool, uint32_t lane, uint32_t count)
{
    const ps_part *part = &spool->part;
    bool full = part->fd >= 0 && part->bytes >= spool->options.part_bytes && part->bytes > part->header_bytes;
    int failure = full ? end_part(spool) : 0;
    /* Also after a failure: what was drained must be accounted for. */
    int write_failure = write_kept(spool, ps_keep_take(spool->keep, lane, spool->batch, count, spool->kept));
    return failure ? failure : write_failure;
}

/* Takes what was in the ring when it came by: a fast lane cannot hold the others up. */
static void drain_lane(ps_spool *spool, uint32_t lane)
{
    ps_ring *ring = spool->sampler->lanes[lane]->ring;
    uint64_t left = ps_ring_written(ring) - ps_ring_consumed(ring);
    while (left) {
        uint32_t most = left < PS_SPOOL_BATCH_RECORDS ? (uint32_t)left : PS_SPOOL_BATCH_RECORDS;
        uint32_t count = ps_ring_drain(ring, spool->batch, most);
        uint32_t written = 0;
        left -= count;
        if (spool->keep) {
            fail(spool, write_changes(spool, lane, count));
            continue;
        }
        if (ps_spool_status(spool) == PS_OK)
            fail(spool, write_records(spool, spool->batch, count, &written));
        add(&spool->discarded, count - written);
    }
}

static void keep_house(ps_spool *spool, int64_t now_ns)
{
    if (ps_spool_status(spool) != PS_OK)
        return;
    const ps_part *part = &spool->part;
    bool aged = now_ns - part->begin_ns >= spool->options.part_ms * INT64_C(1000000);
    if (part->fd >= 0 && aged && part->bytes > part->header_bytes)
        fail(spool, end_part(spool)); /* the next record opens the next one: no part is empty but the only one */
    if (now_ns >= spool->newest_due_ns) {
        fail(spool, write_newest(spool));
        if (spool->keep)
            fail(spool, tell_drained(spool));
        spool->newest_due_ns = now_ns + PS_SPOOL_NEWEST_NS;
    }
    if (now_ns >= spool->sync_due_ns) {
        fail(spool, ps_part_sync(&spool->part));
        spool->sync_due_ns = now_ns + spool->options.sync_ms * INT64_C(1000000);
    }
    if (now_ns >= spool->anchor_due_ns) {
        int failure = ps_spool_append_anchor(spool);
        fail(spool, failure ? failure : sync_events(spool));
        spool->anchor_due_ns = now_ns + spool->options.anchor_ms * INT64_C(1000000);
    }
    if (now_ns >= spool->lanes_due_ns)
        fail(spool, append_lanes(spool, false));
}

static void pause_until_due(ps_spool *spool)
{
    struct pollfd wake = {.fd = spool->wake_fd, .events = POLLIN};
    uint64_t count;
    if (poll(&wake, 1, (int)spool->options.drain_ms) == 1)
        (void)!read(spool->wake_fd, &count, sizeof count); /* nothing to learn from it */
}

void *ps_spool_run(void *argument)
{
    ps_spool *spool = argument;
    prctl(PR_SET_NAME, "ps-spool");
    for (;;) {
        /* acquire; pairs with the release in ps_spool_stop; publishes the rings as the controller saw them;
         * without it the last drain could miss records of lanes that were joined before. */
        bool last = atomic_load_explicit(&spool->stop, memory_order_acquire);
        /* acquire; pairs with the release in ps_spool_sync; the same for the records its caller knows of. */
        uint64_t asked = atomic_load_explicit(&spool->sync_asked, memory_order_acquire);
        spool->drain_ns = ps_clock_now_ns();
        for (uint32_t i = 0; i < spool->sampler->n_lanes; i++)
            drain_lane(spool, i);
        if (!spool->keep)
            fail(spool, tell_drained(spool));
        /* relaxed: own. */
        if (last || asked != atomic_load_explicit(&spool->sync_done, memory_order_relaxed))
            fail(spool, write_newest(spool));
        /* release; pairs with the acquire in ps_spool_sync; publishes that the drain is done and its status;
         * without it the caller could read an OK from before the failure. */
        atomic_store_explicit(&spool->sync_done, asked, memory_order_release);
        if (last)
            break;
        keep_house(spool, ps_clock_now_ns());
        pause_until_due(spool);
    }
    fail(spool, ps_spool_append_anchor(spool));
    fail(spool, close_part(spool));
    /* These two even on a full disk: a line may still find room. */
    int failure = append_lanes(spool, true);
    int end_failure = append_end(spool);
    fail(spool, failure ? failure : end_failure);
    (void)sync_events(spool);
    return NULL;
}

