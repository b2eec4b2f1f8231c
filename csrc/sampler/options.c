/* SPDX-License-Identifier: Apache-2.0
 *
 * See options.h.
 */
#include <errno.h>
#include <getopt.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sampler/options.h"

static const char help[] =
    "usage: powersample-sampler [options]\n"
    "\n"
    "Samples power and energy sensors until --duration is over, SIGINT or SIGTERM comes, or its parent ends.\n"
    "Prints one JSON line when it is sampling and one at the end; everything else goes to standard error.\n"
    "\n"
    "  --sources LIST     what to read, separated by commas (default: nvml,rapl,hwmon)\n"
    "                       nvml                    NVIDIA GPUs, one lane each\n"
    "                       rapl                    CPU and memory energy, one lane a package (perf, powercap, MSR)\n"
    "                       hwmon                   boards, other GPUs, firmware meters, batteries; one lane a chip\n"
    "                       scripted[:N[@P]]        for tests: one lane of N power channels (1 to 64, default 1)\n"
    "                                               that step between 100 W and 200 W every P passes (default 100)\n"
    "  --rate HZ|auto     passes a second (default: auto, the highest useful rate at which the calls take at most\n"
    "                     2 % of a lane's time and 5 % for all lanes of a driver)\n"
    "  --mode MODE        paced (a fixed grid, default), tight (back to back, occupies a core per lane) or follow (a\n"
    "                     few polls around each update of a GPU's power, found by itself: as sharp as 1 kHz, for a\n"
    "                     twentieth of its calls)\n"
    "  --duration S       seconds to sample (default: until a signal)\n"
    "  --cpu N            run the lanes on CPU N\n"
    "  --fifo[=PRIO]      run them under SCHED_FIFO at priority PRIO (1 to 99, default 10), before all ordinary\n"
    "                     programs; where that is refused they run without\n"
    "  --nvml-lib PATH    libnvidia-ml to load (default: the driver's)\n"
    "  --sysfs DIR        where rapl and hwmon are looked for (default: $POWERSAMPLE_SYSFS_ROOT, else /sys)\n"
    "  --devfs DIR        where cpu/N/msr is (default: /dev, or nowhere beside another sysfs)\n"
    "  --gpus LIST        NVML indices or UUIDs, separated by commas (default: all)\n"
    "  --spool DIR        write the records there; made if missing, refused if it holds a recording\n"
    "                     (default: records are counted and thrown away); -: to standard output, as one stream\n"
    "  --keep WHAT        all (default), or changes: new values with the polls around them, errors and what shows a\n"
    "                     gap; energies, updates and gaps come out the same\n"
    "  --part-s S         close a part of the spool after so many seconds (default: 600); a closed part can be\n"
    "                     converted while the recording goes on\n"
    "  --with-parent[=PID]  end when the parent process (PID, default: whoever started this) has ended\n"
    "  --stress KERNEL[:LEVEL]  work beside the sampler, for --duration or as --pattern says; the end line tells the duty\n"
    "                       that was reached by CPU time. primes (a sieve), fma (multiply-add in the widest vectors),\n"
    "                       stream (memory, beyond all caches), mix or idle; LEVEL 0.5 or 50% (default 1). With it:\n"
    "    --duty LEVEL       the same LEVEL, 0 to 1\n"
    "    --period S         of the slices below level 1 (0.001 to 60, default 0.1)\n"
    "    --levels L,L,...   a ladder: the duration in equal parts\n"
    "    --pattern P        square:PERIOD_S, or file:CSV with the header on_s,off_s\n"
    "    --threads N        on N CPUs, one thread of each core first (default: all that this process may use)\n"
    "    --cpus LIST        on these, such as 0-3,8\n"
    "    --edges FILE       when every burst really began and ended, as CSV, written at the end; fd:N: to an open\n"
    "                       descriptor\n"
    "    --max-temperature C  end, with code 1, once the CPUs are at C degrees\n"
    "                     --sources none: only work\n"
    "  --list             print the channels and exit; with --json: and what was tried for them\n"
    "  --version, --help\n"
    "\n"
    "With file capabilities (setcap) it opens this machine's own counters, drops the capabilities, then loads NVML.\n"
    "A path given by --sysfs, --devfs, --nvml-lib, --spool or --edges costs it all of them before it looks at anything.\n"
    "\n"
    "Exit codes: 0 done, 1 failed, 2 usage, 3 nothing measurable.\n"
    "Example: powersample-sampler --duration 10 --spool run.spool\n";

enum { FIFO_PRIORITY = 10 };

enum { SOURCES = 256, RATE, MODE, DURATION, CPU, FIFO, NVML_LIB, SYSFS, DEVFS, GPUS, SPOOL, KEEP, PART_S,
       WITH_PARENT, STRESS, DUTY, PERIOD, LEVELS, PATTERN, THREADS, CPUS, EDGES, MAX_TEMPERATURE, LIST, JSON, VERSION, HELP };

static const struct option long_options[] = {
    {"sources", required_argument, NULL, SOURCES},   {"rate", required_argument, NULL, RATE},
    {"mode", required_argument, NULL, MODE},         {"duration", required_argument, NULL, DURATION},
    {"cpu", required_argument, NULL, CPU},           {"fifo", optional_argument, NULL, FIFO},
    {"nvml-lib", required_argument, NULL, NVML_LIB},
    {"sysfs", required_argument, NULL, SYSFS},       {"devfs", required_argument, NULL, DEVFS},
    {"gpus", required_argument, NULL, GPUS},         {"spool", required_argument, NULL, SPOOL},
    {"keep", required_argument, NULL, KEEP},         {"part-s", required_argument, NULL, PART_S},
    {"with-parent", optional_argument, NULL, WITH_PARENT}, {"stress", required_argument, NULL, STRESS},
    {"duty", required_argument, NULL, DUTY},         {"period", required_argument, NULL, PERIOD},
    {"levels", required_argument, NULL, LEVELS},     {"pattern", required_argument, NULL, PATTERN},
    {"threads", required_argument, NULL, THREADS},   {"cpus", required_argument, NULL, CPUS},
    {"edges", required_argument, NULL, EDGES},       {"max-temperature", required_argument, NULL, MAX_TEMPERATURE},
    {"list", no_argument, NULL, LIST},
    {"json", no_argument, NULL, JSON},
    {"version", no_argument, NULL, VERSION},         {"help", no_argument, NULL, HELP},
    {NULL, 0, NULL, 0},
};

static bool parse_number(const char *text, double low, double high, double *out)
{
    char *end;
    errno = 0;
    double value = strtod(text, &end);
    if (end == text || *end || errno || !(value >= low && value <= high))
        return false;
    *out = value;
    return true;
}

static bool parse_whole(const char *text, double high, int32_t *out)
{
    double value;
    if (!parse_number(text, 0, high, &value) || value != floor(value))
        return false;
    *out = (int32_t)value;
    return true;
}

/* Takes one option of a load's; as take. What needs more than a look is stress_check's. */
static const char *take_stress(int option, const char *value, stress_wish *out)
{
    double number;
    switch (option) {
    case DUTY:
        out->has_duty = parse_number(value, 0, 1, &out->duty);
        return out->has_duty ? NULL : "give a level from 0 to 1";
    case PERIOD:
        if (!parse_number(value, 1e-3, 60, &number))
            return "give seconds, 0.001 to 60";
        out->period_ns = (int64_t)(number * 1e9);
        return NULL;
    case THREADS:
        return parse_whole(value, PS_LOAD_THREADS, &out->threads) && out->threads > 0 ? NULL : "give a number of threads";
    case MAX_TEMPERATURE:
        out->has_max = parse_number(value, 1, 200, &out->max_c);
        return out->has_max ? NULL : "give degrees C, 1 to 200";
    case LEVELS:
        out->levels = value;
        return NULL;
    case PATTERN:
        out->pattern = value;
        return NULL;
    case CPUS:
        out->cpus = value;
        return NULL;
    case EDGES:
        out->edges = value;
        return *value ? NULL : "give a file, or fd:N";
    default:
        out->kernel = value;
        return NULL;
    }
}

/* Takes one option; NULL if it is well, else what would have been. */
static const char *take(int option, char *value, sampler_options *out)
{
    double number;
    int32_t whole;
    switch (option) {
    case SOURCES:
        out->sources = value;
        return *value ? NULL : "give at least one source";
    case RATE:
        out->lane.rate_hz = 0;
        if (strcmp(value, "auto") == 0)
            return NULL;
        return parse_number(value, 1e-3, 1e6, &out->lane.rate_hz) ? NULL : "give auto, or 0.001 to 1000000 Hz";
    case MODE:
        out->lane.mode = strcmp(value, "tight") == 0    ? PS_MODE_TIGHT
                         : strcmp(value, "follow") == 0 ? PS_MODE_FOLLOW
                                                        : PS_MODE_PACED;
        return out->lane.mode != PS_MODE_PACED || strcmp(value, "paced") == 0 ? NULL : "give paced, tight or follow";
    case DURATION:
        if (!parse_number(value, 1e-3, 1e9, &number))
            return "give seconds, from 0.001 on";
        out->duration_ns = (int64_t)(number * 1e9);
        return NULL;
    case CPU:
        return parse_whole(value, 65535, &out->lane.cpu) ? NULL : "give the number of a CPU";
    case FIFO:
        out->lane.fifo_priority = FIFO_PRIORITY;
        if (!value)
            return NULL;
        if (!parse_whole(value, 99, &out->lane.fifo_priority) || out->lane.fifo_priority < 1)
            return "give a priority from 1 to 99";
        return NULL;
    case NVML_LIB:
        out->library = value;
        return NULL;
    case SYSFS:
        out->sysfs = value;
        return *value ? NULL : "give a directory";
    case DEVFS:
        out->devfs = value;
        return *value ? NULL : "give a directory";
    case GPUS:
        out->gpus = value;
        return *value ? NULL : "give indices or UUIDs";
    case SPOOL:
        out->spool = value;
        return *value ? NULL : "give a directory";
    case KEEP:
        out->keep = strcmp(value, "changes") == 0 ? PS_KEEP_CHANGES : PS_KEEP_ALL;
        return out->keep == PS_KEEP_CHANGES || strcmp(value, "all") == 0 ? NULL : "give all or changes";
    case PART_S:
        if (!parse_number(value, 1e-3, 1e6, &number))
            return "give seconds, 0.001 to 1000000";
        out->part_ms = (uint32_t)(number * 1e3);
        return NULL;
    case WITH_PARENT:
        out->with_parent = true;
        if (!value)
            return NULL;
        if (!parse_whole(value, INT32_MAX, &whole) || whole < 1)
            return "give a process id";
        out->parent = whole;
        return NULL;
    case JSON:
        out->json = true;
        return NULL;
    default:
        out->list = true;
        return NULL;
    }
}

static bool usage_error(int *exit_code)
{
    fprintf(stderr, "Try powersample-sampler --help.\n");
    *exit_code = EXIT_USAGE;
    return false;
}

/* Roots that were not named. secure_getenv: a program with capabilities takes no path from whoever starts it. */
static void set_roots(sampler_options *out)
{
    const char *root = secure_getenv("POWERSAMPLE_SYSFS_ROOT");
    if (!out->sysfs && root && *root)
        out->sysfs = root;
}

bool sampler_options_parse(int argc, char **argv, sampler_options *out, int *exit_code)
{
    static char default_sources[] = "nvml,rapl,hwmon";
    *out = (sampler_options){
        .sources = default_sources, .lane = {.mode = PS_MODE_PACED, .cpu = -1}, .stress = {.edges_fd = -1},
        .parent = getppid()};
    *exit_code = EXIT_DONE;
    int option, index = 0;
    while ((option = getopt_long(argc, argv, "", long_options, &index)) != -1) {
        if (option == HELP) {
            fputs(help, stdout);
            return false;
        }
        if (option == VERSION) {
            printf("powersample-sampler %s\n", ps_version());
            return false;
        }
        if (option == '?') /* getopt has said what */
            return usage_error(exit_code);
        const bool stress = option >= STRESS && option <= MAX_TEMPERATURE;
        const char *wanted = stress ? take_stress(option, optarg, &out->stress) : take(option, optarg, out);
        if (stress && !out->stress.first)
            out->stress.first = long_options[index].name;
        if (wanted) {
            fprintf(stderr, "powersample-sampler: --%s %s: %s\n", long_options[index].name, optarg, wanted);
            return usage_error(exit_code);
        }
    }
    if (optind < argc) {
        fprintf(stderr, "powersample-sampler: unexpected argument %s\n", argv[optind]);
        return usage_error(exit_code);
    }
    if (out->lane.mode != PS_MODE_PACED && out->lane.rate_hz != 0) {
        fprintf(stderr, "powersample-sampler: --mode %s: leave --rate out\n",
                out->lane.mode == PS_MODE_TIGHT ? "tight goes back to back" : "follow goes by the sensor's updates");
        return usage_error(exit_code);
    }
    if (out->stress.first && !out->stress.kernel) {
        fprintf(stderr, "powersample-sampler: --%s belongs to --stress\n", out->stress.first);
        return usage_error(exit_code);
    }
    if (!out->stress.kernel && strcmp(out->sources, "none") == 0) {
        fprintf(stderr, "powersample-sampler: --sources none belongs to --stress\n");
        return usage_error(exit_code);
    }
    set_roots(out);
    if (out->json && !out->list) {
        fprintf(stderr, "powersample-sampler: --json belongs to --list\n");
        return usage_error(exit_code);
    }
    if (sampler_options_streams(out) && !out->list && isatty(STDOUT_FILENO)) {
        fprintf(stderr, "powersample-sampler: --spool -: records are nothing for a terminal: give a pipe or a file\n");
        return usage_error(exit_code);
    }
    return true;
}

bool sampler_options_streams(const sampler_options *options)
{
    return options->spool && strcmp(options->spool, "-") == 0;
}

const char *sampler_options_path(const sampler_options *options)
{
    if (options->sysfs)
        return "--sysfs";
    if (options->devfs)
        return "--devfs";
    if (options->library)
        return "--nvml-lib";
    if (options->stress.edges && options->stress.edges_fd < 0)
        return "--edges";
    return options->spool && !sampler_options_streams(options) ? "--spool" : NULL;
}
