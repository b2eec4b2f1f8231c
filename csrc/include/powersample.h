/* SPDX-License-Identifier: Apache-2.0
 *
 * The whole C interface of the sampler: plain declarations, read by C compilers and, as text, by cffi.
 *
 * Conventions. Functions return PS_OK (0) or a negative enum ps_status and never touch errno as an interface; results
 * leave by out-parameters, written on success only. Where a ps_error is taken it may be NULL and is filled on failure.
 * Whoever creates frees: every ps_X_new or ps_X_open has its ps_X_free or ps_X_close, and those accept NULL.
 * Times are CLOCK_MONOTONIC in integer nanoseconds. Device values stay the device's own integers (`raw`); a channel's
 * `scale` turns them into its `unit`, and that happens outside C.
 */
#ifndef PS_POWERSAMPLE_H
#define PS_POWERSAMPLE_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- status ------------------------------------------------------------------------------------------------ */

enum ps_status {
    PS_OK = 0,
    PS_E_INVALID = -1,     /* an argument outside its range */
    PS_E_NOMEM = -2,       /* memory refused */
    PS_E_SYSTEM = -3,      /* a system call failed; vendor holds errno */
    PS_E_NOT_FOUND = -4,   /* no such library, device, file or channel */
    PS_E_ACCESS = -5,      /* it exists and may not be used; vendor holds errno or the library's code */
    PS_E_UNSUPPORTED = -6, /* the device or library lacks it */
    PS_E_STATE = -7,       /* the call does not fit the object's state, such as a second start */
    PS_E_TIMEOUT = -8,     /* the deadline passed first */
    PS_E_FORMAT = -9,      /* bytes that are not what they should be */
    PS_E_VENDOR = -10,     /* the device's library refused; vendor holds its code */
    PS_E_FULL = -11        /* the disk is full */
};

typedef struct ps_error {
    int32_t status; /* enum ps_status */
    int32_t vendor; /* errno, or the device library's own code */
    char call[64];  /* the call that failed: "nvmlInit_v2", "open" */
    char text[192]; /* what it failed on and what the vendor says */
} ps_error;

const char *ps_status_name(int status); /* "PS_E_SYSTEM"; never NULL */
const char *ps_status_text(int status); /* one phrase; never NULL */
const char *ps_version(void);

/* ---- clock ------------------------------------------------------------------------------------------------- */

/* One near-simultaneous reading of four clocks. MONOTONIC is read before and after the others: `monotonic_ns` is the
 * middle of the two, `width_ns` the distance. The narrowest of a few tries is kept. */
typedef struct ps_anchor {
    int64_t monotonic_ns;
    int64_t monotonic_raw_ns;
    int64_t realtime_ns;
    int64_t boottime_ns;
    int64_t width_ns;
} ps_anchor;

int64_t ps_clock_now_ns(void); /* CLOCK_MONOTONIC */
int ps_clock_anchor(ps_anchor *out);

/* ---- sample and ring --------------------------------------------------------------------------------------- */

/* One record, 32 bytes, identical in the ring, in the spool and in numpy. `status` is 0 or the source's error code, and
 * then `raw` is undefined. `seq` counts the lane's records modulo 2^32, dropped ones included: a hole in seq is a drop. */
typedef struct ps_sample {
    int64_t t0_ns; /* before the device call; with PS_STAMP_INSTANT the instant of the value, and t1_ns too */
    int64_t t1_ns; /* after it; may be the t0_ns of the next call of the same pass */
    int64_t raw;   /* what the device said, in its own unit */
    uint32_t seq;
    uint16_t channel;
    uint16_t status;
} ps_sample;

/* Single producer, single consumer. Full: the newest record is dropped and counted, nobody waits. */
typedef struct ps_ring ps_ring;

/* capacity: a power of two from 2 to 2^26. first: where the free-running counters start (tests start near the wrap). */
int ps_ring_new(uint32_t capacity, uint64_t first, ps_ring **out);
void ps_ring_free(ps_ring *ring);
int ps_ring_push(ps_ring *ring, const ps_sample *sample);                    /* producer; PS_OK or PS_E_FULL */
uint32_t ps_ring_drain(ps_ring *ring, ps_sample *out, uint32_t capacity);    /* consumer; number copied */
uint64_t ps_ring_written(const ps_ring *ring);                               /* any thread */
uint64_t ps_ring_consumed(const ps_ring *ring);
uint64_t ps_ring_dropped(const ps_ring *ring);

/* ---- channels and sources ---------------------------------------------------------------------------------- */

enum ps_kind {
    PS_KIND_POWER = 1,  /* gauge, W */
    PS_KIND_ENERGY = 2, /* monotonic counter, J */
    PS_KIND_AUX = 3     /* utilisation, clock, temperature ... */
};

enum ps_stamp {
    PS_STAMP_BRACKET = 0, /* a record's times are those before and after the device call */
    PS_STAMP_INSTANT = 1  /* both are the instant that the device itself gave the value, on our clock */
};

typedef struct ps_channel {
    char name[64];    /* "gpu0.power.instant" */
    char device[96];  /* UUID of the board, or "package-0" */
    char domain[16];  /* gpu, module, package, core, uncore, dram, psys, supply, wall */
    char unit[16];    /* of raw * scale: "W", "J", "Hz", "%", "degC", "1" */
    char sensor[64];  /* where the value comes from, in the source's words: "nvml.field.186" */
    double scale;     /* value in `unit` = raw * scale */
    int32_t kind;     /* enum ps_kind */
    uint32_t lane;    /* index of its lane; set when the source is added */
    uint32_t group;   /* the device call that reads it, within its source */
    uint32_t divisor; /* read every so many passes; set at start */
    uint32_t id;      /* ps_sample.channel; set when the source is added */
    int32_t stamp;    /* enum ps_stamp */
    uint64_t modulus; /* a counter's raw values wrap to 0 here; 0: they do not */
    int64_t span_ns;  /* each value averages so long, as its device says; 0: it says nothing */
} ps_channel;

/* A way to read one device. Given to ps_sampler_add, which takes ownership on success. */
typedef struct ps_source ps_source;

void ps_source_free(ps_source *source);
int ps_source_channels(const ps_source *source, ps_channel *out, uint32_t capacity, uint32_t *count);

/* The scripted source: a device made of a table, for tests of everything behind it. Each step gives a channel's value
 * from a pass on; after the last step the table repeats if `repeat_passes` is not 0. */
typedef struct ps_script_step {
    uint64_t pass;     /* first pass at which this step holds; every channel needs a step at 0 */
    uint32_t channel;  /* 0 .. channels-1 */
    uint16_t status;   /* 0 or the error code the read reports */
    uint16_t reserved;
    int64_t raw;       /* value at that pass */
    int64_t raw_step;  /* added on every later pass of the step: ramps, counters */
    int64_t stall_ns;  /* each read of this step blocks so long (busy wait below 100 us, else sleep) */
} ps_script_step;

typedef struct ps_script {
    uint32_t channels;      /* 1 .. 64, each a device call of its own */
    uint32_t kind;          /* enum ps_kind of all of them */
    uint64_t raw_modulus;   /* values are taken modulo this when not 0: a wrapping counter */
    uint64_t repeat_passes; /* table length; 0: the last step holds for ever */
    double scale;           /* of raw into W or J */
    double max_hz;          /* highest rate `auto` may choose */
} ps_script;

int ps_source_scripted_new(const char *device, const ps_script *script, const ps_script_step *steps,
                           uint32_t n_steps, ps_source **out, ps_error *error);

/* ---- NVML -------------------------------------------------------------------------------------------------- */

/* Status of an NVML sample: NVML's own code, or one of these. */
#define PS_NVML_UNANSWERED 60001 /* the library left the entry of a field untouched */
#define PS_NVML_BAD_VALUE 60002  /* a value of unknown type, or not a number */
#define PS_NVML_CLOCK_SET 60003  /* the wall clock was set, or the machine slept: the samples since then have no time */
#define PS_NVML_BAD_STAMP 60004  /* samples, but stamped in the future or not after those before */

/* A loaded libnvidia-ml. Sources keep it loaded; close it when they are gone or handed to a sampler. */
typedef struct ps_nvml ps_nvml;

typedef struct ps_nvml_device {
    char name[96];
    char uuid[96];
    char pci_bus_id[32];
    char architecture[24]; /* "hopper", "ampere" ...; "" when the library does not tell */
    uint32_t index;        /* NVML's own, PCI order; powersample's gpuN */
    uint32_t power_limit_mw, power_limit_default_mw, power_limit_min_mw, power_limit_max_mw; /* 0: unknown */
    int32_t persistence;   /* 1 on, 0 off, -1 unknown */
    int32_t mig;           /* 1 on, 0 off, -1 unknown */
    int32_t compute_processes; /* at opening; -1 unknown */
} ps_nvml_device;

/* library: a path or a name for dlopen; NULL looks for the driver's, and answers PS_E_NOT_FOUND without loading anything
 * when there is no sign of a driver. */
int ps_nvml_open(const char *library, ps_nvml **out, ps_error *error);
void ps_nvml_close(ps_nvml *nvml);
int ps_nvml_count(ps_nvml *nvml, uint32_t *count, ps_error *error);
int ps_nvml_describe(ps_nvml *nvml, uint32_t index, ps_nvml_device *out, ps_error *error);
/* driver, library: versions as text. simulated: 1 when the library is the project's stand-in. */
int ps_nvml_versions(ps_nvml *nvml, char *driver, uint32_t driver_size, char *library, uint32_t library_size,
                     int32_t *simulated, ps_error *error);
int ps_nvml_source_new(ps_nvml *nvml, uint32_t index, ps_source **out, ps_error *error);

/* ---- RAPL -------------------------------------------------------------------------------------------------- */

/* The processor's energy counters, by the routes that the kernel offers, tried in this order for every domain. The
 * status of their samples is an errno: ENODATA for an empty file or a short read, EBADMSG for text that is no number. */
enum ps_rapl_route {
    PS_RAPL_PERF = 0,     /* perf's PMU "power": one call reads all domains; 64 bits, so it does not wrap */
    PS_RAPL_POWERCAP = 1, /* /sys/class/powercap: a file a domain; wraps one count above its max_energy_range_uj */
    PS_RAPL_MSR = 2       /* /dev/cpu/N/msr: a register a domain; 32 bits */
};

#define PS_RAPL_ROUTES 3

enum ps_rapl_domain {
    PS_RAPL_PACKAGE = 0,
    PS_RAPL_CORE = 1,   /* part of the package */
    PS_RAPL_UNCORE = 2, /* part of the package: mostly its graphics */
    PS_RAPL_DRAM = 3,   /* no part of it */
    PS_RAPL_PSYS = 4    /* the platform, whatever its maker made of that; once, with the first package */
};

#define PS_RAPL_DOMAINS 5

typedef struct ps_rapl_opening {
    int32_t route[PS_RAPL_DOMAINS]; /* enum ps_rapl_route that reads it; -1: none does */
    int32_t cpu;                    /* from which reading is cheapest: one of the package's, and where there is one, one
                                       that the caller may run on; -1 unknown */
    double min_hz;                  /* read less often, a counter could turn round twice unseen; 0: none turns */
    uint64_t moved;                 /* bit i: channel i moved within 50 ms, as real counters do */
    ps_error refused[PS_RAPL_DOMAINS][PS_RAPL_ROUTES]; /* why a route reads it not; PS_OK: it does, or was not asked */
} ps_rapl_opening;

/* The numbers of the packages with a counter, ascending. *count is all there are; at most `capacity` are written.
 * sysfs: NULL for "/sys". devfs, for cpu/N/msr: NULL for "/dev", or none beside a sysfs of one's own. Where such a
 * node is a plain file, register R lies at byte R * 8. PS_E_NOT_FOUND when no route shows any. */
int ps_rapl_packages(const char *sysfs, const char *devfs, uint32_t *out, uint32_t capacity, uint32_t *count,
                     ps_error *error);
/* Opens the domains of one package, each by the first route that reads it, as one source. `opening` is filled on
 * failure, too. */
int ps_rapl_open(const char *sysfs, const char *devfs, uint32_t package, ps_source **out, ps_rapl_opening *opening,
                 ps_error *error);

/* ---- hwmon ------------------------------------------------------------------------------------------------- */

/* Power and energy of boards, GPUs, power supplies and batteries by the kernel's hardware monitoring: /sys/class/hwmon
 * and /sys/class/power_supply. The status of their samples is an errno (ENODATA for an empty file or a value that the
 * device calls unknown, EBADMSG for one that holds no number, EOVERFLOW for a product out of range), or this: */
#define PS_HWMON_ASLEEP 60101 /* the device is suspended, and reading would wake it */

/* A chip that measures power or energy, or a battery. */
typedef struct ps_hwmon_chip {
    char id[32];    /* driver and device, the same after every start: "ina3221-1-0040", "BAT0" */
    char name[32];  /* the driver's word: "ina3221"; "battery" */
    char path[256]; /* of its attributes, now */
} ps_hwmon_chip;

#define PS_HWMON_REFUSED 16

typedef struct ps_hwmon_opening {
    int32_t answering; /* channels that gave a value at opening */
    int32_t asleep;    /* 1: its device is suspended and was not read; it will be when something else wakes it */
    uint32_t n_refused;
    uint32_t reserved;
    ps_error refused[PS_HWMON_REFUSED]; /* the first of the files that are left out, or gave no value, with the reason;
                                           those with an errno in vendor are read all the same */
} ps_hwmon_opening;

/* All chips with something to read, or with something that must not be. *count is all there are; at most `capacity` are
 * written. sysfs: NULL for "/sys". PS_E_NOT_FOUND when there is none. */
int ps_hwmon_chips(const char *sysfs, ps_hwmon_chip *out, uint32_t capacity, uint32_t *count, ps_error *error);
/* Opens one chip by its id. `opening` is filled on failure, too. */
int ps_hwmon_open(const char *sysfs, const char *id, ps_source **out, ps_hwmon_opening *opening, ps_error *error);

/* ---- lanes and sampler ------------------------------------------------------------------------------------- */

enum ps_mode {
    PS_MODE_PACED = 1,  /* absolute deadlines on a fixed grid; late: slots are counted as skipped, never a burst */
    PS_MODE_TIGHT = 2,  /* back to back */
    PS_MODE_VIRTUAL = 3, /* the grid is simulated time, as fast as it goes; waits for its reader; scripted sources only */
    /* Polls only around the instants at which the fast power channels are expected to be updated, having learnt their
     * periods and phases; other channels at their own spacing. Slots are the polls planned: those that a late lane let pass
     * before the end of a window are skipped. Where it cannot be had, the lane is paced, and says why. */
    PS_MODE_FOLLOW = 4
};

enum ps_rate_origin {
    PS_RATE_ASKED = 1,        /* the caller's figure */
    PS_RATE_CAP = 2,          /* the source's highest useful rate */
    PS_RATE_LANE_BUDGET = 3,  /* its calls would occupy more than 2 % of the lane's time */
    PS_RATE_DRIVER_BUDGET = 4, /* all lanes of its driver together more than 5 % */
    PS_RATE_TURNS = 5,         /* above its budget: any slower, and a counter could turn round twice unseen */
    PS_RATE_UPDATES = 6        /* none: the sensor's updates are followed */
};

enum ps_unfollowed {
    PS_FOLLOWED = 0,           /* or never asked for */
    PS_UNFOLLOWED_NOTHING = 1, /* none of its fastest channels is a power that a grid would read at 100 Hz or more */
    PS_UNFOLLOWED_BUDGET = 2,  /* some polls an update would cost more than the lane's share of time */
    PS_UNFOLLOWED_FAST = 3     /* the sensor publishes more often than each 8 ms: a grid costs no more */
};

enum ps_fifo_refusal {
    PS_FIFO_GRANTED = 0,       /* or never asked for */
    PS_FIFO_REFUSED = 1,       /* by the kernel: fifo_errno */
    PS_FIFO_DUTY_PLANNED = 2,  /* it would use more than 90 % of a CPU, which the kernel answers by holes of 50 ms */
    PS_FIFO_DUTY_MEASURED = 3  /* it did, and has gone back to the ordinary class */
};

#define PS_FOLLOWED_MAX 8 /* channels of a lane with a tracker of their own */

typedef struct ps_lane_options {
    int32_t mode;          /* enum ps_mode */
    int32_t cpu;           /* pin to this CPU; -1: not */
    double rate_hz;        /* 0: automatic; refused below what the source's counters need (ps_sampler_add) */
    uint32_t ring_records; /* power of two; 0: 2^17 */
    int32_t fifo_priority; /* 1 to 99: run under SCHED_FIFO; 0: in the ordinary class */
    uint64_t max_passes;   /* stop after so many passes; 0: none */
    int64_t virtual_start_ns; /* PS_MODE_VIRTUAL: time of slot 0 */
} ps_lane_options;

enum ps_lane_state {
    PS_LANE_NEW = 0,
    PS_LANE_RUNNING = 1,
    PS_LANE_DONE = 2, /* stopped, or max_passes reached */
    PS_LANE_HUNG = 3  /* asked to stop and still inside a device call when the deadline passed; left behind */
};

#define PS_HIST_BINS 40   /* bin b counts durations d with 2^b <= d < 2^(b+1) ns; bin 0 also 0 */
#define PS_ERROR_CODES 16

typedef struct ps_lane_stats {
    char name[48];
    char driver[16];
    char note[160];       /* what the source does not offer and why; "" for nothing */
    uint64_t slots, passes, skipped; /* paced: slots == passes + skipped, exactly; of a hung lane up to the stop */
    uint64_t records, dropped, drained, in_ring; /* records == drained + dropped + in_ring, exactly once stopped */
    uint64_t reopens;     /* successful re-initialisations of a lost device */
    int64_t start_ns;     /* deadline of slot 0 */
    int64_t last_ns;      /* end of the newest pass */
    int64_t period_ns;    /* the grid; 0 in tight mode; following: the spacing of polls around an update */
    int64_t lead_ns;      /* spin before each deadline, calibrated at start */
    int64_t cpu_ns;       /* the thread's CPU time; -1 unknown */
    double rate_hz;       /* what the grid gives; 0 without one */
    double call_cost_ns;  /* mean cost of one pass's calls, measured at start; of boards alike the median of theirs */
    uint64_t updates, acquisitions; /* following: changes seen; how often a channel's updates were found */
    int64_t followed_period_ns[PS_FOLLOWED_MAX]; /* learnt; 0 while they are looked for */
    uint32_t followed_channel[PS_FOLLOWED_MAX];  /* as its source numbers them */
    uint32_t n_followed;
    int32_t unfollowed;   /* enum ps_unfollowed; with PS_MODE_FOLLOW: it followed at first */
    int32_t mode, state, rate_origin; /* mode: paced where following was refused at start */
    int32_t cpu;          /* pinned to, or -1 */
    int32_t cpu_errno;    /* why pinning was refused, ENODEV when the CPU was taken away later, or 0 */
    int32_t fifo_priority; /* in force; 0: the ordinary class */
    int32_t fifo_refusal; /* enum ps_fifo_refusal */
    int32_t fifo_errno;
    uint32_t n_errors;
    uint32_t error_code[PS_ERROR_CODES];
    uint64_t error_count[PS_ERROR_CODES];
    uint64_t error_other; /* records with a status beyond the table */
    uint64_t call_hist[PS_HIST_BINS]; /* device calls by duration */
    uint64_t wake_hist[PS_HIST_BINS]; /* passes by start after their deadline (paced) */
} ps_lane_stats;

typedef struct ps_sampler ps_sampler;

int ps_sampler_new(ps_sampler **out);
/* Adds a lane reading `source`. Takes ownership of the source on success. */
int ps_sampler_add(ps_sampler *sampler, ps_source *source, const ps_lane_options *options, uint32_t *lane,
                   ps_error *error);
/* Starts one thread a lane, which times its calls; sets rates and divisors; lets them go. At most once. Waits two
 * seconds for a call that does not return; that lane is planned by a guess and begins when its call comes back.
 * Without a lane it runs, too: a spool then keeps anchors beside what others record. */
int ps_sampler_start(ps_sampler *sampler, ps_error *error);
/* Asks every lane to stop and waits at most timeout_s in all; a lane still in a device call is marked PS_LANE_HUNG. */
int ps_sampler_stop(ps_sampler *sampler, double timeout_s);
/* Stops first if running. Frees what neither a hung lane nor a spool still needs; the last spool frees the rest. */
void ps_sampler_free(ps_sampler *sampler);
uint32_t ps_sampler_lanes(const ps_sampler *sampler);
int ps_sampler_running(const ps_sampler *sampler); /* number of lanes whose thread is alive */
int ps_sampler_channels(const ps_sampler *sampler, ps_channel *out, uint32_t capacity, uint32_t *count);
int ps_sampler_stats(const ps_sampler *sampler, uint32_t lane, ps_lane_stats *out);
/* Moves up to `capacity` records of one lane, oldest first. One reader at a time; not while a spool is attached. */
int ps_sampler_drain(ps_sampler *sampler, uint32_t lane, ps_sample *out, uint32_t capacity, uint32_t *count);

/* ---- spool ------------------------------------------------------------------------------------------------- */

enum ps_keep_mode {
    PS_KEEP_ALL = 0,    /* every record */
    PS_KEEP_CHANGES = 1 /* changes with the polls around them, errors, what shows a gap, two polls a second; see ps_kept */
};

/* Append-only parts in a directory, written by one drain thread. Files:
 *   part-000000.open    being written;   part-000000.part   closed, never touched again by the sampler
 *   events.jsonl        one JSON object a line: anchors, lane statistics, a failure to write, the end, which has the
 *                       drain thread's own CPU time as "cpu_ns"
 * A part: one JSON line padded with spaces to header_bytes (a multiple of 4096), the newline last; then ps_sample
 * records, or ps_kept where the header's "keep" is "changes". A torn last record is what a kill leaves, and is ignored
 * by readers. Records are in order per channel. */
typedef struct ps_spool ps_spool;

typedef struct ps_spool_options {
    uint64_t part_bytes; /* rotate beyond this; 0: 64 MiB */
    uint32_t part_ms;    /* rotate at this age; 0: 600 000 */
    uint32_t drain_ms;   /* 0: 50 */
    uint32_t sync_ms;    /* fdatasync spacing; 0: 1000 */
    uint32_t anchor_ms;  /* 0: 10 000 */
    int32_t keep;        /* enum ps_keep_mode */
} ps_spool_options;

/* A record that is kept, 40 bytes. `omitted` polls of its channel are left out before it: they said the same as it and as
 * the record kept before it, each at most 1.5 times the channel's own spacing after the last. */
typedef struct ps_kept {
    ps_sample sample;
    uint32_t omitted;
    uint32_t reserved;
} ps_kept;

typedef struct ps_spool_stats {
    uint64_t records, bytes;
    uint64_t omitted;    /* polls left out by PS_KEEP_CHANGES; drained == records + omitted + discarded once stopped */
    uint64_t discarded;  /* records drained after the disk was full */
    uint32_t parts;      /* closed */
    int32_t status;      /* PS_OK, PS_E_FULL, PS_E_SYSTEM */
    int32_t sys_errno;
} ps_spool_stats;

/* The directory must exist and hold no part. The spool keeps what it needs of the sampler: either may go first. */
int ps_spool_new(const char *directory, ps_sampler *sampler, const ps_spool_options *options, ps_spool **out,
                 ps_error *error);
/* The same to a pipe or whatever `fd` is (duplicated, so the caller may close it): lines of JSON, of which
 *   {"powersample_spool":...}               is a part's header line, with its padding, and begins a part
 *   {"event":"records","bytes":N}           is followed by N raw bytes of records of that part
 *   {"event":"drained","t_ns":T}            says that all of what was recorded before T has gone before
 *   {"event":...}                           is any other line of events.jsonl
 * A reader keeps what arrived whole when the stream breaks off. A reader that is slow holds up the drain thread, never
 * a lane: rings fill, then records are dropped and counted. One that is gone is the failure EPIPE (ignore SIGPIPE);
 * after a failure nothing more is written. ps_spool_stop waits for the reader, too. */
int ps_spool_stream_new(int32_t fd, ps_sampler *sampler, const ps_spool_options *options, ps_spool **out,
                        ps_error *error);
int ps_spool_start(ps_spool *spool, ps_error *error); /* after ps_sampler_start */
/* Returns once every record pushed before the call is in a file. */
int ps_spool_sync(ps_spool *spool, double timeout_s);
/* Drains what is left, closes the part, writes the last statistics. Call after ps_sampler_stop. */
int ps_spool_stop(ps_spool *spool, ps_error *error);
int ps_spool_get_stats(const ps_spool *spool, ps_spool_stats *out);
void ps_spool_free(ps_spool *spool);

/* ---- load -------------------------------------------------------------------------------------------------- */

/* Work of a known pattern, for a meter to be aligned by and a node to be calibrated by: threads that work in bursts
 * between planned instants, and log when each burst really began and ended. */
enum ps_load_kernel {
    PS_LOAD_PRIMES = 1, /* a segment of the sieve of Eratosthenes: branchy integer work */
    PS_LOAD_FMA = 2,    /* chains of multiply-add in the widest vectors */
    PS_LOAD_STREAM = 3, /* triad over arrays that no cache holds, stored past the caches */
    PS_LOAD_MIX = 4,    /* a round of each of these by turns */
    PS_LOAD_IDLE = 5    /* the same threads, asleep: no burst is logged */
};

/* The vectors that fma works in. */
enum ps_load_isa {
    PS_ISA_BEST = 0, /* that this CPU has */
    PS_ISA_PLAIN = 1,
    PS_ISA_SSE2 = 2,
    PS_ISA_AVX2 = 3, /* with FMA */
    PS_ISA_AVX512 = 4,
    PS_ISA_NEON = 5
};

#define PS_LOAD_THREADS 4096

/* A step is what lies between two planned edges, begin and end. At level 1 a thread works from one to the other. Below,
 * it works for a slice of every period, each thread's beginning at another time, so that all together take steady power; a
 * slice ends when the thread's CPU time has come to its level's share of the step so far: what it was robbed of by others
 * is made up for in later slices. */
typedef struct ps_load_options {
    int32_t kernel;         /* enum ps_load_kernel */
    int32_t isa;            /* enum ps_load_isa, for fma and mix */
    uint32_t threads;       /* 1 to PS_LOAD_THREADS; all keep to the same pattern */
    uint32_t edges;         /* even, from 2 on */
    const int32_t *cpus;    /* one a thread to pin it to, or -1; NULL: none is pinned */
    const int64_t *edge_ns; /* from the start on: begin, end, begin, end ..., rising; a step may begin where one ends */
    const double *levels;   /* one a step, 0 (sleep) to 1; NULL: all are 1 */
    int64_t period_ns;      /* 1 ms to 60 s; 0: 100 ms */
    uint64_t stream_bytes;  /* of each thread's arrays, for stream and mix; 0: four times its share of all caches */
    const char *sysfs;      /* where caches are looked up, NULL for "/sys" */
} ps_load_options;

typedef struct ps_load_burst {
    int64_t planned_ns; /* when it was to begin */
    int64_t rise_ns;    /* when it did: read before the first round of work */
    int64_t fall_ns;    /* read after the last */
    int64_t cpu_ns;     /* CPU time between those */
    int64_t stalled_ns; /* in rounds of more than 1 ms: the thread did not run all the time */
    uint64_t rounds;
    uint64_t wrong;     /* rounds with a wrong result: the machine is not sound */
    uint32_t thread;
    uint32_t step;
} ps_load_burst;

/* All threads together. */
typedef struct ps_load_step {
    int64_t begin_ns; /* as planned */
    int64_t end_ns;   /* the same, or when it was stopped */
    int64_t cpu_ns;   /* CPU time from the end of the step before to the end of this: bursts, and waiting for them */
    uint64_t wrong;
    double level;
    uint32_t bursts;
    uint32_t missed;  /* bursts that came to nothing: the thread ran only after their end */
} ps_load_step;

typedef struct ps_load_result {
    uint64_t wrong;        /* rounds, of all bursts */
    uint64_t stream_bytes; /* of all threads' arrays together; 0: there are none */
    uint32_t bursts;       /* there are in the log */
    uint32_t missed;
    uint32_t steps;        /* that were begun */
    uint32_t unpinned;     /* threads that were not let onto their CPU */
    int32_t cpu_errno;     /* why */
    int32_t isa;           /* of fma and mix */
} ps_load_result;

typedef struct ps_load ps_load;

const char *ps_isa_name(int32_t isa);           /* "avx2"; NULL for a number of none */
const char *ps_load_kernel_name(int32_t kernel); /* "primes"; the same */

/* PS_E_INVALID for vectors that this CPU lacks, PS_E_NOMEM when the arrays would take more than half of the memory that
 * is available; none of them is touched as yet. */
int ps_load_new(const ps_load_options *options, ps_load **out, ps_error *error);
/* Makes the threads and returns once each is on its CPU and has its arrays in memory, which can take seconds. */
int ps_load_prepare(ps_load *load, ps_error *error);
/* Lets the threads go, once, preparing them first if that was not done; the pattern begins at start_ns, and what of it
 * lies in the past is missed. */
int ps_load_start(ps_load *load, int64_t start_ns, ps_error *error);
/* From any thread. Bursts end within a round, sleepers within 50 ms. */
void ps_load_ask_stop(ps_load *load);
/* PS_OK once all threads have ended; PS_E_TIMEOUT when they have not by then. timeout_s < 0: for ever. */
int ps_load_wait(ps_load *load, double timeout_s);
/* After ps_load_wait. The bursts thread by thread, each thread's in the order of time; at most `capacity` are written. */
int ps_load_log(const ps_load *load, ps_load_burst *out, uint32_t capacity, ps_load_result *result);
int ps_load_steps(const ps_load *load, ps_load_step *out, uint32_t capacity); /* the first so many of result->steps */
void ps_load_free(ps_load *load); /* stops first if running */

/* The CPUs that this process may use, one thread of each core first; sysfs: NULL for "/sys". Writes at most `capacity`
 * and returns how many there are. */
uint32_t ps_load_cpus(const char *sysfs, int32_t *cpus, uint32_t capacity);
/* How many of these share a core with one before them. */
uint32_t ps_load_second_threads(const char *sysfs, const int32_t *cpus, uint32_t count);

/* How warm the CPUs are and how fast, for a load's record and for a rule to end it by. */
typedef struct ps_heat ps_heat;
typedef struct ps_heat_reading {
    int64_t t_ns;
    double temperature_c; /* of the warmest package: coretemp, k10temp and the like of hwmon; NaN when none tells */
    double hz;            /* mean of the CPUs that were named, by cpufreq; NaN when none tells */
} ps_heat_reading;

/* Opens what there is: without any the readings are NaN. */
int ps_heat_open(const char *sysfs, const int32_t *cpus, uint32_t count, ps_heat **out);
void ps_heat_read(const ps_heat *heat, ps_heat_reading *out);
void ps_heat_close(ps_heat *heat);

#ifdef __cplusplus
}
#endif

#endif
