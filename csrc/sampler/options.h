/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line of powersample-sampler, as data.
 */
#ifndef PS_SAMPLER_OPTIONS_H
#define PS_SAMPLER_OPTIONS_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "powersample.h"

enum { EXIT_DONE = 0, EXIT_FAILED = 1, EXIT_USAGE = 2, EXIT_NOTHING = 3 };

/* The words of a load; NULL where none were given. */
typedef struct stress_wish {
    const char *kernel; /* KERNEL[:LEVEL] of --stress; NULL: there is no load, and no other of these */
    const char *levels, *pattern, *cpus, *edges;
    const char *first;  /* the first option of these that was given, for a complaint */
    double duty, max_c;
    bool has_duty, has_max;
    int64_t period_ns; /* 0: the load's default */
    int32_t threads;   /* 0: all CPUs */
    int edges_fd;      /* -1: `edges` is a path */
} stress_wish;

typedef struct sampler_options {
    char *sources;        /* comma list; cut up by its reader */
    char *gpus;           /* comma list of indices and UUIDs, NULL for all */
    const char *library;  /* of NVML, NULL for the driver's */
    const char *sysfs;    /* where RAPL is looked for, NULL for /sys */
    const char *devfs;    /* where its registers are, NULL for /dev */
    const char *spool;    /* directory, NULL for none; "-" for standard output */
    int32_t keep;         /* enum ps_keep_mode */
    uint32_t part_ms;     /* 0: the spool's default */
    ps_lane_options lane;
    int64_t duration_ns;  /* 0: until a signal */
    stress_wish stress;
    bool list, json;
    bool with_parent;
    pid_t parent;         /* whose death ends the run */
} sampler_options;

/* The option that names a path of the caller's, "--sysfs"; NULL when none does. */
const char *sampler_options_path(const sampler_options *options);
bool sampler_options_streams(const sampler_options *options); /* --spool - */

/* Returns true to go on; otherwise *exit_code is what the program ends with, the reason having been printed. */
bool sampler_options_parse(int argc, char **argv, sampler_options *out, int *exit_code);

#endif
