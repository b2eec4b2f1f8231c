/* SPDX-License-Identifier: Apache-2.0
 *
 * What a lane needs of a source. The lane stamps and pushes, the source only talks to its device: so every source gets
 * the same timing, and a source is testable without a lane.
 */
#ifndef PS_SOURCE_H
#define PS_SOURCE_H

#include "powersample.h"

enum { PS_GROUP_MAX = 128 }; /* readings that one device call may give */

/* Or'ed to the number of readings of a call that is about the past: each was taken at its own instant, by stamps_ns. */
#define PS_READ_STAMPED 0x80000000u

typedef struct ps_reading {
    int64_t raw;
    uint16_t channel; /* index within the source */
    uint16_t status;  /* 0 or the device's error code */
} ps_reading;

/* A group is one device call. Its divisor says on which passes it is made. */
typedef struct ps_group {
    double max_hz;     /* highest rate that tells anything new: 1000 power and RAPL, 40 NVML's counter, 1 AUX */
    double min_hz;     /* lowest rate at which a counter cannot turn round twice between two reads; 0: any will do */
    double cost_ns;    /* mean of its timed calls; set at start */
    uint32_t divisor;  /* made on passes that are multiples; set at start */
    uint32_t countdown; /* lane's own */
    int64_t every_ns;   /* following: its spacing; 0: read at every poll of the updates that are followed */
    int64_t due_ns;     /* lane's own */
} ps_group;

struct ps_source_ops {
    /* The hot call, from the lane's thread only: makes the device call of `group` and fills at most PS_GROUP_MAX
     * readings. Returns how many, or'ed with PS_READ_STAMPED where they have times of their own. Never fails: trouble
     * is a reading with a status. Allocates, locks and logs nothing. `pass` counts the lane's passes from 0. */
    uint32_t (*read)(ps_source *source, uint32_t group, uint64_t pass, ps_reading *out);
    /* Called by the lane's thread between passes when the last read reported a status. May try to bring a lost device
     * back, with its own back-off; returns 1 when it did. May be NULL. */
    int (*recover)(ps_source *source, int64_t now_ns);
    void (*free)(ps_source *source);
};

/* The first member of every concrete source. */
struct ps_source {
    const struct ps_source_ops *ops;
    char name[48];   /* lane name: "nvml:gpu0" */
    char driver[16]; /* lanes of one driver share its budget: "nvml"; "" for none */
    int simulated_time; /* 1: may run in PS_MODE_VIRTUAL */
    uint32_t n_channels;
    uint32_t n_groups;
    ps_channel *channels;
    ps_group *groups;
    const int64_t *stamps_ns; /* of the readings of the last call with PS_READ_STAMPED */
    char note[160];           /* what it does not offer and why, for who reads the recording */
};

/* The highest rate of all groups; those that have it are read at every pass. */
double ps_group_fastest_hz(const ps_group *groups, uint32_t n_groups);

/* Fills *error (NULL allowed) and returns status, so that failures read `return ps_fail(...)`. */
int ps_fail(ps_error *error, int status, int vendor, const char *call, const char *format, ...)
    __attribute__((format(printf, 5, 6)));

#endif
