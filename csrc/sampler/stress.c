/* SPDX-License-Identifier: Apache-2.0
 *
 * See stress.h.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sampler/sources.h"
#include "sampler/stress.h"
#include "sampler/stress_plan.h"

enum { SCHEMA = 1, STEPS_TOLD = 1000 /* in the end line; the file has all */ };

static const int64_t lead_ns = 50 * 1000 * 1000, heat_every_ns = INT64_C(1000) * 1000 * 1000;

struct stress {
    stress_plan plan;
    ps_load *load;
    double max_c; /* NaN: no rule */
    FILE *edges;
    ps_heat *heat;
    ps_heat_reading *readings;
    uint32_t n_readings, room;
    int64_t next_ns;
    char ended[128];
    /* Once it has ended. */
    ps_load_result result;
    ps_load_burst *bursts;
    ps_load_step *steps;
};

bool stress_check(sampler_options *options)
{
    stress_wish *wish = &options->stress;
    const char *option, *wanted = stress_plan_check(options, &option);
    if (wanted) {
        fprintf(stderr, "powersample-sampler: --%s: %s\n", option, wanted);
        return false;
    }
    if (!wish->edges || strncmp(wish->edges, "fd:", 3) != 0)
        return true;
    char *end;
    const long number = strtol(wish->edges + 3, &end, 10);
    const int flags = *end || end == wish->edges + 3 || number <= STDERR_FILENO || number > 65535
                          ? -1
                          : fcntl((int)number, F_GETFL);
    if (flags >= 0 && (flags & O_ACCMODE) != O_RDONLY)
        wish->edges_fd = fcntl((int)number, F_DUPFD_CLOEXEC, STDERR_FILENO + 1);
    if (wish->edges_fd >= 0)
        return true;
    fprintf(stderr, "powersample-sampler: --edges %s: no descriptor from 3 on that is open for writing\n", wish->edges);
    return false;
}

static int open_edges(const stress_wish *wish, FILE **out)
{
    if (!wish->edges)
        return EXIT_DONE;
    const int fd = wish->edges_fd >= 0 ? wish->edges_fd
                                       : open(wish->edges, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
    *out = fd >= 0 ? fdopen(fd, "w") : NULL;
    if (*out)
        return EXIT_DONE;
    fprintf(stderr, "powersample-sampler: --edges %s: open: %s (code %d). Give the name of a new file.\n", wish->edges,
            strerror(errno), errno);
    return EXIT_FAILED;
}

static int open_heat(const sampler_options *options, stress *self)
{
    self->max_c = options->stress.has_max ? options->stress.max_c : NAN;
    if (ps_heat_open(options->sysfs, self->plan.cpus, self->plan.threads, &self->heat) != PS_OK)
        return EXIT_FAILED;
    ps_heat_reading reading;
    ps_heat_read(self->heat, &reading);
    if (isnan(self->max_c) || !isnan(reading.temperature_c))
        return EXIT_DONE;
    fprintf(stderr, "powersample-sampler: --max-temperature: this machine tells no temperature of its CPUs (hwmon's "
                    "coretemp, k10temp and the like). Leave it out, or load the driver.\n");
    return EXIT_FAILED;
}

static int make_load(const sampler_options *options, stress *self)
{
    const stress_plan *plan = &self->plan;
    const ps_load_options wanted = {.kernel = plan->kernel,
                                    .threads = plan->threads,
                                    .edges = 2 * plan->steps,
                                    .cpus = plan->cpus,
                                    .edge_ns = plan->edge_ns,
                                    .levels = plan->levels,
                                    .period_ns = options->stress.period_ns,
                                    .sysfs = options->sysfs};
    ps_error error = {0};
    int status = ps_load_new(&wanted, &self->load, &error);
    if (status == PS_OK)
        status = ps_load_prepare(self->load, &error);
    if (status == PS_OK)
        return EXIT_DONE;
    sampler_report("--stress", &error, NULL);
    return EXIT_FAILED;
}

int stress_open(const sampler_options *options, stress **out)
{
    stress *self = calloc(1, sizeof *self);
    int code = self ? stress_plan_make(options, &self->plan) : EXIT_FAILED;
    if (code == EXIT_DONE)
        code = open_heat(options, self);
    if (code == EXIT_DONE)
        code = open_edges(&options->stress, &self->edges);
    if (code == EXIT_DONE)
        code = make_load(options, self);
    if (code == EXIT_DONE && self->plan.second_threads)
        fprintf(stderr, "powersample-sampler: --stress: %u of %u threads share a core with another: the CPUs are threads of "
                        "cores. --cpus or --threads takes fewer.\n",
                self->plan.second_threads, self->plan.threads);
    *out = self; /* to be freed in any case */
    return code;
}

int stress_start(stress *self)
{
    ps_error error = {0};
    if (ps_load_start(self->load, ps_clock_now_ns() + lead_ns, &error) == PS_OK)
        return EXIT_DONE;
    sampler_report("--stress", &error, NULL);
    return EXIT_FAILED;
}

/* A reading that finds no memory is left out: the rule goes on. */
static void keep(stress *self, const ps_heat_reading *reading)
{
    if (isnan(reading->temperature_c) && isnan(reading->hz))
        return;
    if (self->n_readings == self->room) {
        const uint32_t room = self->room ? 2 * self->room : 64;
        ps_heat_reading *grown = realloc(self->readings, room * sizeof *grown);
        if (!grown)
            return;
        self->readings = grown;
        self->room = room;
    }
    self->readings[self->n_readings++] = *reading;
}

/* Whether the rule on temperature, if there is one, ends the load. */
static bool too_warm(stress *self)
{
    const int64_t now_ns = ps_clock_now_ns();
    if (now_ns < self->next_ns)
        return false;
    self->next_ns = now_ns + heat_every_ns;
    ps_heat_reading reading;
    ps_heat_read(self->heat, &reading);
    keep(self, &reading);
    if (isnan(self->max_c) || reading.temperature_c < self->max_c)
        return false;
    if (isnan(reading.temperature_c))
        snprintf(self->ended, sizeof self->ended, "the CPUs' temperature can no longer be read");
    else
        snprintf(self->ended, sizeof self->ended, "the CPUs are at %.1f degrees C, and %g were to be the most",
                 reading.temperature_c, self->max_c);
    return true;
}

const char *stress_over(stress *self)
{
    if (ps_load_wait(self->load, 0) == PS_OK)
        return "duration";
    return too_warm(self) ? "temperature" : NULL;
}

void stress_stop(stress *self)
{
    ps_load_ask_stop(self->load);
    (void)ps_load_wait(self->load, -1);
}

static void add_steps(const stress *self, ps_text *text)
{
    ps_text_add(text, "\"steps\":[");
    for (uint32_t i = 0; i < self->result.steps; i++) {
        const ps_load_step *step = &self->steps[i];
        ps_text_add(text,
                    "%s{\"begin_ns\":%" PRId64 ",\"end_ns\":%" PRId64 ",\"level\":%.17g,\"threads\":%u,\"cpu_ns\":%" PRId64
                    ",\"bursts\":%u,\"missed\":%u,\"wrong\":%" PRIu64 "}",
                    i ? "," : "", step->begin_ns, step->end_ns, step->level, self->plan.threads, step->cpu_ns, step->bursts,
                    step->missed, step->wrong);
    }
    ps_text_add(text, "]");
}

static void add_heat(const stress *self, ps_text *text)
{
    ps_text_add(text, "\"heat\":{\"t_ns\":[");
    for (uint32_t i = 0; i < self->n_readings; i++)
        ps_text_add(text, "%s%" PRId64, i ? "," : "", self->readings[i].t_ns);
    ps_text_add(text, "],\"temperature_c\":[");
    for (uint32_t i = 0; i < self->n_readings; i++) {
        ps_text_add(text, i ? "," : "");
        ps_json_double(text, self->readings[i].temperature_c);
    }
    ps_text_add(text, "],\"hz\":[");
    for (uint32_t i = 0; i < self->n_readings; i++) {
        ps_text_add(text, i ? "," : "");
        ps_json_double(text, self->readings[i].hz);
    }
    ps_text_add(text, "]}");
}

/* The highest temperature and the mean frequency; NaN where nobody told. */
static void add_warmest(const stress *self, ps_text *text)
{
    double warmest_c = NAN, sum_hz = 0;
    uint32_t told = 0;
    for (uint32_t i = 0; i < self->n_readings; i++) {
        const ps_heat_reading *one = &self->readings[i];
        warmest_c = fmax(warmest_c, one->temperature_c); /* of NaN and a number: the number */
        if (!isnan(one->hz)) {
            sum_hz += one->hz;
            told++;
        }
    }
    ps_text_add(text, "\"temperature_max_c\":");
    ps_json_double(text, warmest_c);
    ps_text_add(text, ",\"hz_mean\":");
    ps_json_double(text, told ? sum_hz / told : NAN);
}

static void add_head(const stress *self, bool whole, ps_text *text)
{
    const ps_load_result *result = &self->result;
    int64_t stalled_ns = 0;
    for (uint32_t i = 0; i < result->bursts; i++)
        stalled_ns += self->bursts[i].stalled_ns;
    ps_text_add(text, "{\"schema_version\":%d,\"name\":", SCHEMA);
    ps_json_string(text, self->plan.name);
    ps_text_add(text, ",\"kernel\":\"%s\",\"vectors\":\"%s\",\"cpus\":[", ps_load_kernel_name(self->plan.kernel),
                result->isa == PS_ISA_BEST ? "" : ps_isa_name(result->isa));
    for (uint32_t i = 0; i < self->plan.threads; i++)
        ps_text_add(text, "%s%d", i ? "," : "", self->plan.cpus[i]);
    ps_text_add(text,
                "],\"bursts\":%u,\"missed\":%u,\"wrong\":%" PRIu64 ",\"stalled_ns\":%" PRId64 ",\"unpinned\":%u,\"ended\":",
                result->bursts, result->missed, result->wrong, stalled_ns, result->unpinned);
    ps_json_string(text, self->ended);
    ps_text_add(text, ",\"stream_bytes\":%" PRIu64 ",\"second_threads\":%u,", result->stream_bytes,
                self->plan.second_threads);
    if (whole || result->steps <= STEPS_TOLD)
        add_steps(self, text);
    else
        ps_text_add(text, "\"steps\":null");
    ps_text_add(text, ",");
    if (whole)
        add_heat(self, text);
    else
        add_warmest(self, text);
    ps_text_add(text, "}");
}

void stress_json(const stress *self, ps_text *text)
{
    add_head(self, false, text);
}

static bool write_edges(stress *self)
{
    ps_text head = {0};
    add_head(self, true, &head);
    if (!head.failed)
        fprintf(self->edges, "# powersample edges %s\nstep,thread,planned_ns,rise_ns,fall_ns,cpu_ns\n", head.data);
    for (uint32_t i = 0; i < self->result.bursts && !head.failed; i++) {
        const ps_load_burst *burst = &self->bursts[i];
        fprintf(self->edges, "%u,%u,%" PRId64 ",%" PRId64 ",%" PRId64 ",%" PRId64 "\n", burst->step, burst->thread,
                burst->planned_ns, burst->rise_ns, burst->fall_ns, burst->cpu_ns);
    }
    bool written = !head.failed && !ferror(self->edges);
    ps_text_free(&head);
    written &= fclose(self->edges) == 0;
    self->edges = NULL;
    return written;
}

static bool take_log(stress *self)
{
    if (ps_load_log(self->load, NULL, 0, &self->result) != PS_OK)
        return false;
    self->bursts = calloc(self->result.bursts + 1, sizeof *self->bursts);
    self->steps = calloc(self->result.steps + 1, sizeof *self->steps);
    return self->bursts && self->steps &&
           ps_load_log(self->load, self->bursts, self->result.bursts, &self->result) == PS_OK &&
           ps_load_steps(self->load, self->steps, self->result.steps) == PS_OK;
}

int stress_finish(stress *self)
{
    if (!take_log(self)) {
        self->result = (ps_load_result){0};
        fprintf(stderr, "powersample-sampler: --stress: there was no memory for its log\n");
        return EXIT_FAILED;
    }
    int code = EXIT_DONE;
    if (self->ended[0]) {
        fprintf(stderr, "powersample-sampler: --stress: the load was ended: %s.\n", self->ended);
        code = EXIT_FAILED;
    }
    if (self->result.wrong) {
        fprintf(stderr, "powersample-sampler: --stress: %" PRIu64 " rounds of work gave a wrong result: this machine is not "
                        "sound.\n",
                self->result.wrong);
        code = EXIT_FAILED;
    }
    if (self->result.unpinned)
        fprintf(stderr, "powersample-sampler: --stress: %u threads were not let onto their CPU: %s (code %d).\n",
                self->result.unpinned, strerror(self->result.cpu_errno), self->result.cpu_errno);
    if (self->edges && !write_edges(self)) {
        fprintf(stderr, "powersample-sampler: --edges: %s (code %d). Free some space.\n", strerror(errno), errno);
        code = EXIT_FAILED;
    }
    return code;
}

void stress_free(stress *self)
{
    if (!self)
        return;
    ps_load_free(self->load);
    ps_heat_close(self->heat);
    if (self->edges)
        fclose(self->edges);
    stress_plan_free(&self->plan);
    free(self->readings);
    free(self->bursts);
    free(self->steps);
    free(self);
}
