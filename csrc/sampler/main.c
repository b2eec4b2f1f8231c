/* SPDX-License-Identifier: Apache-2.0
 *
 * powersample-sampler: sampler and spool without Python around them.
 */
#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "core/json.h"
#include "sampler/listing.h"
#include "sampler/privilege.h"
#include "sampler/sources.h"
#include "sampler/starter.h"
#include "sampler/stress.h"

#define STOP_TIMEOUT_S 2.0
#define LANE_SHARE 0.02 /* of a lane's time in its calls: what automatic rates keep to */

enum {
    TICK_NS = 100 * 1000 * 1000, /* how late the end of the time or of the parent may be noticed */
    SCRAP_RECORDS = 4096
};

/* Without a spool somebody must empty the rings, or the counts would tell of drops. */
static void throw_away(ps_sampler *sampler)
{
    ps_sample scrap[SCRAP_RECORDS];
    for (uint32_t lane = 0; lane < ps_sampler_lanes(sampler); lane++)
        for (uint32_t count = SCRAP_RECORDS; count == SCRAP_RECORDS;)
            if (ps_sampler_drain(sampler, lane, scrap, SCRAP_RECORDS, &count) != PS_OK)
                count = 0;
}

/* What was ignored when we were started stays so: nohup, or a shell's background. A blocked signal would come
 * even then. */
static void block_signals(sigset_t *waited)
{
    static const int numbers[] = {SIGINT, SIGTERM, SIGHUP};
    sigemptyset(waited);
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        struct sigaction before;
        if (sigaction(numbers[i], NULL, &before) == 0 && before.sa_handler != SIG_IGN)
            sigaddset(waited, numbers[i]);
    }
    sigprocmask(SIG_BLOCK, waited, NULL);
}

/* A full disk may get room again, and the counts go on; nobody comes back to a stream. */
static bool reader_has_gone(const sampler_options *options, const ps_spool *spool)
{
    ps_spool_stats stats;
    return sampler_options_streams(options) && ps_spool_get_stats(spool, &stats) == PS_OK && stats.status != PS_OK;
}

/* Waits for the end; returns why it came. The parent is watched by its id and not by a death signal: that one
 * is sent when the thread that started us ends, long before its process may. */
static const char *wait_for_end(const sampler_options *options, ps_sampler *sampler, const ps_spool *spool, stress *load,
                                const sigset_t *waited, int64_t begin_ns, int *signal_number)
{
    for (;;) {
        int64_t left_ns = TICK_NS;
        const char *over = load ? stress_over(load) : NULL;
        if (over)
            return over;
        if (options->duration_ns && !load) { /* a load keeps to it by itself */
            left_ns = begin_ns + options->duration_ns - ps_clock_now_ns();
            if (left_ns <= 0)
                return "duration";
            left_ns = left_ns < TICK_NS ? left_ns : TICK_NS;
        }
        struct timespec tick = {0, left_ns};
        int got = sigtimedwait(waited, NULL, &tick);
        if (got > 0) {
            *signal_number = got;
            return "signal";
        }
        if (options->with_parent && getppid() != options->parent)
            return "parent";
        if (reader_has_gone(options, spool))
            return "reader";
        if (!spool)
            throw_away(sampler);
    }
}

/* A rate that was asked for is taken as it is; that it burdens the driver is said once. */
static void warn_of_cost(const ps_sampler *sampler)
{
    ps_lane_stats worst = {0};
    double worst_share = 0;
    uint32_t beyond = 0;
    for (uint32_t i = 0; i < ps_sampler_lanes(sampler); i++) {
        ps_lane_stats stats;
        if (ps_sampler_stats(sampler, i, &stats) != PS_OK || stats.mode != PS_MODE_PACED ||
            stats.rate_origin != PS_RATE_ASKED)
            continue;
        double share = stats.rate_hz * stats.call_cost_ns * 1e-9;
        beyond += share > LANE_SHARE;
        if (share > LANE_SHARE && share > worst_share) {
            worst = stats;
            worst_share = share;
        }
    }
    if (beyond)
        fprintf(stderr,
                "powersample-sampler: --rate %g: calls of %.0f us occupy %.0f %% of %s's time, and more than %.0f %% "
                "in %u of %u lanes. Leave --rate out for a rate within that.\n",
                worst.rate_hz, worst.call_cost_ns * 1e-3, worst_share * 100, worst.name, LANE_SHARE * 100, beyond,
                ps_sampler_lanes(sampler));
}

/* What the lanes could not have, each kind once: they go on without it. */
static void tell_refusals(const ps_sampler *sampler)
{
    static const char *const unfollowed[] = {
        [PS_UNFOLLOWED_NOTHING] = "it has no power that a grid would read at 100 Hz or more",
        [PS_UNFOLLOWED_BUDGET] = "polls around each update would take more than its share of time",
        [PS_UNFOLLOWED_FAST] = "the sensor publishes more often than each 8 ms"};
    bool told_class = false, told_follow = false, told_cpu = false;
    for (uint32_t i = 0; i < ps_sampler_lanes(sampler); i++) {
        ps_lane_stats stats;
        if (ps_sampler_stats(sampler, i, &stats) != PS_OK)
            continue;
        if (stats.fifo_refusal == PS_FIFO_REFUSED && !told_class)
            fprintf(stderr,
                    "powersample-sampler: --fifo: %s: sched_setscheduler: %s (code %d). Allow it by ulimit -r (rtprio in "
                    "/etc/security/limits.d), or by CAP_SYS_NICE on this program.\n",
                    stats.name, strerror(stats.fifo_errno), stats.fifo_errno);
        else if (stats.fifo_refusal == PS_FIFO_DUTY_PLANNED && !told_class)
            fprintf(stderr,
                    "powersample-sampler: --fifo: %s would take more than 90 %% of a CPU, which the kernel answers by holes of "
                    "50 ms; it runs without.\n",
                    stats.name);
        if (stats.unfollowed && !told_follow)
            fprintf(stderr, "powersample-sampler: --mode follow: %s is read on a grid: %s.\n", stats.name,
                    unfollowed[stats.unfollowed]);
        if (stats.cpu_errno && !told_cpu)
            fprintf(stderr, "powersample-sampler: --cpu: %s is not pinned: %s (code %d). See taskset -p $$.\n", stats.name,
                    strerror(stats.cpu_errno), stats.cpu_errno);
        told_class |= stats.fifo_refusal != 0;
        told_follow |= stats.unfollowed != 0;
        told_cpu |= stats.cpu_errno != 0;
    }
}

static void print_ready(const ps_sampler *sampler)
{
    uint32_t channels = 0;
    (void)ps_sampler_channels(sampler, NULL, 0, &channels);
    printf("{\"ready\":true,\"t_ns\":%" PRId64 ",\"channels\":%u,\"lanes\":%u}\n", ps_clock_now_ns(), channels,
           ps_sampler_lanes(sampler));
    fflush(stdout);
}

static void print_end(const ps_sampler *sampler, const ps_spool *spool, const stress *load, const char *reason,
                      int signal_number)
{
    ps_spool_stats spooled = {0};
    (void)ps_spool_get_stats(spool, &spooled); /* stays 0 without a spool */
    ps_text text = {0};
    ps_text_add(&text, "{\"ready\":false,\"t_ns\":%" PRId64 ",\"reason\":\"%s\",\"signal\":%d,", ps_clock_now_ns(),
                reason, signal_number);
    ps_text_add(&text, "\"spool\":{\"records\":%" PRIu64 ",\"bytes\":%" PRIu64 ",\"omitted\":%" PRIu64
                       ",\"discarded\":%" PRIu64 ",\"parts\":%u,\"status\":%d,\"sys_errno\":%d},\"lanes\":[",
                spooled.records, spooled.bytes, spooled.omitted, spooled.discarded, spooled.parts, spooled.status,
                spooled.sys_errno);
    for (uint32_t i = 0; i < ps_sampler_lanes(sampler); i++) {
        ps_lane_stats stats;
        (void)ps_sampler_stats(sampler, i, &stats);
        ps_text_add(&text, i ? "," : "");
        ps_json_lane_stats(&text, &stats, true);
    }
    ps_text_add(&text, "]");
    if (load) {
        ps_text_add(&text, ",\"load\":");
        stress_json(load, &text);
    }
    ps_text_add(&text, "}");
    if (!text.failed)
        puts(text.data);
    fflush(stdout);
    ps_text_free(&text);
}

static void report_hung(const ps_sampler *sampler)
{
    for (uint32_t i = 0; i < ps_sampler_lanes(sampler); i++) {
        ps_lane_stats stats;
        if (ps_sampler_stats(sampler, i, &stats) == PS_OK && stats.state == PS_LANE_HUNG)
            fprintf(stderr,
                    "powersample-sampler: %s: still inside a device call %g s after the stop; its records up to that "
                    "call are kept. Check the device.\n",
                    stats.name, STOP_TIMEOUT_S);
    }
}

static int open_spool(const sampler_options *options, ps_sampler *sampler, ps_spool **spool)
{
    ps_error error = {0};
    ps_spool_options spool_options = {.keep = options->keep, .part_ms = options->part_ms};
    if (sampler_options_streams(options)) {
        if (ps_spool_stream_new(STDOUT_FILENO, sampler, &spool_options, spool, &error) == PS_OK)
            return EXIT_DONE;
        sampler_report("--spool -", &error, NULL);
        return EXIT_FAILED;
    }
    if (mkdir(options->spool, 0777) != 0 && errno != EEXIST) {
        fprintf(stderr, "powersample-sampler: --spool %s: mkdir: %s (code %d). Give a directory that is writable.\n",
                options->spool, strerror(errno), errno);
        return EXIT_FAILED;
    }
    if (ps_spool_new(options->spool, sampler, &spool_options, spool, &error) == PS_OK)
        return EXIT_DONE;
    sampler_report("--spool", &error, NULL);
    return EXIT_FAILED;
}

/* *hung: a thread is still inside a device call. */
static int sample(const sampler_options *options, sampler_starter *starter, ps_sampler *sampler, ps_spool *spool,
                  stress *load, bool *hung)
{
    ps_error error = {0};
    signal(SIGPIPE, SIG_IGN); /* a reader that went away does not end a recording */
    if (starter_start(starter, sampler, &error) != PS_OK) {
        sampler_report("start", &error, NULL);
        return EXIT_FAILED;
    }
    /* Not before: until here nothing is recorded, and a signal ends us even while a device call hangs. */
    sigset_t waited;
    block_signals(&waited);
    bool streams = sampler_options_streams(options);
    if (streams)
        print_ready(sampler); /* before the first byte of the stream, with which it shares standard output */
    if (spool && ps_spool_start(spool, &error) != PS_OK) {
        sampler_report("--spool", &error, streams ? NULL : "Give a directory that can be written.");
        return EXIT_FAILED;
    }
    if (load && stress_start(load) != EXIT_DONE)
        return EXIT_FAILED;
    warn_of_cost(sampler);
    tell_refusals(sampler);
    if (!streams)
        print_ready(sampler);

    int code = EXIT_DONE, signal_number = 0;
    const char *reason = wait_for_end(options, sampler, spool, load, &waited, ps_clock_now_ns(), &signal_number);
    sigprocmask(SIG_UNBLOCK, &waited, NULL); /* who cannot wait for the rest asks a second time */
    if (load)
        stress_stop(load);
    if (ps_sampler_stop(sampler, STOP_TIMEOUT_S) != PS_OK) {
        report_hung(sampler);
        *hung = true;
        code = EXIT_FAILED;
    }
    if (!spool) {
        throw_away(sampler);
    } else if (ps_spool_stop(spool, &error) != PS_OK) {
        sampler_report("--spool", &error, streams ? NULL : "Free some space; what was written before is complete.");
        code = EXIT_FAILED;
    }
    if (load && stress_finish(load) != EXIT_DONE)
        code = EXIT_FAILED;
    print_end(sampler, spool, load, reason, signal_number);
    return code;
}

/* Everything that is opened is opened here, in the order that privilege.h gives. */
static int open_sources(const sampler_options *options, sampler_privilege *privilege, sampler_starter *starter,
                        ps_sampler *sampler, ps_nvml **nvml, sampler_found *found)
{
    sampler_stage rest = STAGE_ALL;
    bool urgent = false;
    const char *path = sampler_options_path(options);
    if (privilege->held && path) {
        char names[PRIVILEGE_NAMES];
        privilege_names(privilege->got, names);
        const char *instead = strcmp(path, "--spool") == 0   ? ", or give --spool -,"
                              : strcmp(path, "--edges") == 0 ? ", or give --edges fd:N,"
                                                             : "";
        fprintf(stderr, "powersample-sampler: %s names a path of yours, so %s is given up first. Leave it out%s to use it.\n",
                path, names, instead);
    } else if (privilege->held) {
        rest = STAGE_OTHERS;
        if (!privilege_use(privilege))
            return EXIT_FAILED;
        int code = sampler_add_sources(options, STAGE_COUNTERS, sampler, nvml, found);
        if (code != EXIT_DONE)
            return code;
        urgent = options->lane.fifo_priority > 0 && !options->list;
        if (urgent)
            starter_enter_class(options->lane.fifo_priority);
    }
    if (privilege->secure && !privilege_drop(privilege))
        return EXIT_FAILED;
    if (urgent)
        starter_make(starter);
    return sampler_add_sources(options, rest, sampler, nvml, found);
}

int main(int argc, char **argv)
{
    sampler_privilege privilege;
    if (!privilege_begin(&privilege))
        return EXIT_FAILED;
    sampler_options options;
    int code;
    if (!sampler_options_parse(argc, argv, &options, &code))
        return code;
    if (options.stress.kernel && !stress_check(&options))
        return EXIT_USAGE;

    ps_sampler *sampler = NULL;
    ps_spool *spool = NULL;
    ps_nvml *nvml = NULL;
    stress *load = NULL;
    sampler_found found = {0};
    sampler_starter starter = {0};
    if (ps_sampler_new(&sampler) != PS_OK) {
        fprintf(stderr, "powersample-sampler: out of memory\n");
        return EXIT_FAILED;
    }
    code = open_sources(&options, &privilege, &starter, sampler, &nvml, &found);
    if (code == EXIT_DONE) {
        code = sampler_check_lanes(&options, sampler, &found);
        if (options.json)
            list_as_json(sampler, &found, &privilege); /* with nothing to measure, why */
    }
    if (code != EXIT_DONE || options.json)
        goto out;
    if (options.list) {
        list_channels(sampler);
        goto out;
    }
    if (options.stress.kernel)
        code = stress_open(&options, &load);
    if (code == EXIT_DONE && options.spool)
        code = open_spool(&options, sampler, &spool);
    bool hung = false;
    if (code == EXIT_DONE)
        code = sample(&options, &starter, sampler, spool, load, &hung);
    if (hung) { /* to unload a library under that thread, or to wait for it, would undo the orderly end */
        fflush(NULL);
        _exit(code);
    }
out:
    starter_end(&starter);
    stress_free(load);
    ps_spool_free(spool);
    ps_sampler_free(sampler);
    ps_nvml_close(nvml);
    return code;
}
