/* SPDX-License-Identifier: Apache-2.0
 *
 * The simulated node: one exact truth per device and the sensors that look at it. Linked into the NVML stand-in, the
 * node's load writer and the cffi module, never into the sampler. Conventions as in powersample.h; powers in integer
 * milliwatts, energies in picojoules (1 mW x 1 ns), so that sums are exact in every process.
 */
#ifndef PS_POWERSAMPLE_SIM_H
#define PS_POWERSAMPLE_SIM_H

#include <stdint.h>

#include "powersample.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- truth timeline: an append-only file of immutable segments, shared by mmap ------------------------------ */

typedef struct ps_truth ps_truth;

typedef struct ps_truth_state {
    uint64_t segments;
    uint64_t late;       /* live appends published after their own instant: the run's truth is void if not 0 */
    int64_t late_max_ns;
    int64_t last_t0_ns;
    int32_t last_p_mw;   /* power of the last segment at its start */
    int32_t full;        /* 1: out of space, the last power holds */
} ps_truth_state;

/* Writer of a new file. Fails with PS_E_STATE when the file is another's or holds anything. Room for `capacity` segments is
 * reserved, sparse (0: 2^24, 1 GiB). The first segment is constant p_mw from t0_ns on. */
int ps_truth_create(const char *path, uint64_t capacity, int64_t t0_ns, int32_t p_mw, ps_truth **out);
/* Reader: maps read-only. */
int ps_truth_open(const char *path, ps_truth **out);
void ps_truth_close(ps_truth *truth);
/* Constant p1_mw from t0_ns on, or, when period_ns is not 0, p1_mw for on_ns then p2_mw for the rest, for ever. t0_ns must
 * lie after the last segment's; equal power is skipped. live: counts the append as late if t0_ns is past once published.
 * PS_E_FULL, now and ever after, when there is no more room: the last power holds. */
int ps_truth_append(ps_truth *truth, int64_t t0_ns, int32_t p1_mw, int32_t p2_mw, int64_t period_ns, int64_t on_ns,
                    int32_t live);
int ps_truth_state_get(const ps_truth *truth, ps_truth_state *out);
/* Exact energy over [a_ns, b_ns] in pJ; PS_E_INVALID before the first segment, and when it leaves 63 bits (9.2 MJ: sum
 * shorter spans; ps_truth_joules does). */
int ps_truth_energy_pj(const ps_truth *truth, int64_t a_ns, int64_t b_ns, int64_t *pj);
int ps_truth_joules(const ps_truth *truth, int64_t a_ns, int64_t b_ns, double *joules);
/* Whole counts of num/den a pJ in the sum of n truths over [a_ns, b_ns], exact: what an energy register counts in a unit of
 * den/num pJ. PS_E_INVALID as ps_truth_energy_pj, and when it leaves 63 bits. */
int ps_truth_counts(const ps_truth *const *truths, uint32_t n, int64_t a_ns, int64_t b_ns, uint64_t num, uint64_t den,
                    int64_t *counts);
/* Power in mW at n instants, for plots; before the first segment its power. */
int ps_truth_power_mw(const ps_truth *truth, const int64_t *t_ns, uint64_t n, int32_t *p_mw);
/* The first `capacity` instants in (a_ns, b_ns] at which the power changes, waves included. */
int ps_truth_edges(const ps_truth *truth, int64_t a_ns, int64_t b_ns, int64_t *t_ns, uint64_t capacity, uint64_t *count);
/* Energy since from_ns at n instants not before it, in whole nJ. */
int ps_truth_counter_nj(const ps_truth *truth, int64_t from_ns, const int64_t *t_ns, uint64_t n, int64_t *nj);

/* ---- wall power: what an external meter of the node would see ----------------------------------------------------- */

#define PS_WALL_TRUTHS 64

/* From the parts' power to the plug: x, the sum of the truths (mW), plus the fans, through the supply's losses, then its
 * first-order lag (hold-up):
 *   fan speed   r = fan_min_speed + (1 - fan_min_speed) x min(1, max(0, (z - fan_low_mw) / (fan_high_mw - fan_low_mw))),
 *               z = x behind a first-order lag of fan_tau_ns, looked at every grid_ns (the mean of x over each step)
 *   fans        f = fan_max_mw r^3, whole mW, constant between looks
 *   supply      s = d + loss_fixed_mw + loss_ratio d + loss_per_mw d^2, whole mW, of d = x + f
 *   wall        tau w' = s - w
 * Before its start, the latest of the truths' starts, everything had settled at the powers of then. */
typedef struct ps_wall_model {
    double loss_fixed_mw; /* up to 1e12 */
    double loss_ratio;    /* up to 1 */
    double loss_per_mw;   /* up to 1e-6 */
    int64_t tau_ns;       /* 0: none; up to 10 s */
    double fan_max_mw;    /* all fans at full speed */
    double fan_min_speed; /* 0 to 1 */
    double fan_low_mw, fan_high_mw;
    int64_t fan_tau_ns;   /* up to 1 h */
    int64_t grid_ns;      /* 1 us to 1 s */
} ps_wall_model;

/* All of it at one instant, mW. */
typedef struct ps_wall_state {
    int64_t parts_mw, fans_mw, supply_mw; /* supply_mw: at the plug if it had no lag */
    double wall_mw;
} ps_wall_state;

/* A way through the wall power of some truths. It remembers where it has been, of the settled past only (until now on
 * CLOCK_MONOTONIC), so that asking on from there is cheap: about 0.1 us a change of power and truth. Answers do not depend on
 * what was asked before, nor on the process that asks. One thread at a time; the truths must outlive it. */
typedef struct ps_wall ps_wall;

int ps_wall_open(const ps_wall_model *model, const ps_truth *const *truths, uint32_t n_truths, ps_wall **out);
void ps_wall_close(ps_wall *wall);
/* Exact energy over [a_ns, b_ns] in pJ, additive bit for bit: E(a,b) + E(b,c) == E(a,c). PS_E_INVALID before its start and
 * when it leaves 63 bits (9.2 MJ), which ps_wall_joules does not mind. In the future it holds if no load is added. */
int ps_wall_energy_pj(ps_wall *wall, int64_t a_ns, int64_t b_ns, int64_t *pj);
int ps_wall_joules(ps_wall *wall, int64_t a_ns, int64_t b_ns, double *joules);
int ps_wall_state_get(ps_wall *wall, int64_t t_ns, ps_wall_state *out);
/* The first `capacity` of instants in (a_ns, b_ns], b_ns the last, and the energy since from_ns at each in whole nJ, so
 * dense that a line between neighbours (a_ns is one) is within tolerance_pj of the truth. */
int ps_wall_counter_nj(ps_wall *wall, int64_t from_ns, int64_t a_ns, int64_t b_ns, int64_t tolerance_pj, int64_t *t_ns,
                       int64_t *nj, uint64_t capacity, uint64_t *count);

/* ---- sensors ------------------------------------------------------------------------------------------------ */

enum ps_sensor_kind {
    PS_SENSOR_ABSENT = 0,
    PS_SENSOR_GAUGE = 1,    /* power in mW: delay, lag, boxcar, gain, offset, noise, quantisation, hold */
    PS_SENSOR_COUNTER = 2,  /* energy in mJ: gain x exact integral of the truth at each publication */
    PS_SENSOR_ATTENDED = 3  /* energy in mJ: only what the boxcars of a duty-cycled sensor saw, times T/W */
};

typedef struct ps_sensor {
    int32_t kind;          /* enum ps_sensor_kind */
    uint32_t skip_per_million; /* publications that do not happen, by hash */
    uint64_t seed;         /* of everything random about this channel */
    int64_t period_ns;     /* T */
    int64_t window_ns;     /* W; 0: no averaging */
    int64_t tau_ns;        /* first-order lag; 0: none */
    int64_t delay_ns;
    int64_t phase_ns;
    int64_t jitter_ns;     /* uniform +- around k T + phase, less than T/2 */
    double gain;
    double offset_mw;
    double noise_mw;       /* standard deviation */
    int64_t quantum;       /* mW or mJ */
    int64_t start_ns;      /* counters count from here */
} ps_sensor;

/* What one reader remembers of one sensor, zeroed at first: a poll that meets no new publication costs no physics, and an
 * attended counter, whose sum has no closed form, goes on from where it was. Zero it when the sensor's settings change
 * (start_ns excepted); not shared between threads. */
typedef struct ps_sensor_memo {
    int32_t valid;
    int32_t reserved;
    int64_t k, value, published_ns, start_ns;
    uint64_t sum_lo; /* attended so far, pJ, 128 bits in two words */
    int64_t sum_hi;
} ps_sensor_memo;

/* What a reader of `sensor` sees at now_ns: the value of the newest publication, its number and its instant (k and
 * published_ns may be NULL). memo may be NULL; an attended counter then sums from its start. Power before the truth's
 * first segment is that segment's. PS_E_UNSUPPORTED for an absent sensor, PS_E_INVALID for settings outside their range. */
int ps_sensor_read(const ps_sensor *sensor, const ps_truth *truth, int64_t now_ns, ps_sensor_memo *memo,
                   int64_t *value, int64_t *k, int64_t *published_ns);
/* Instants of the first `capacity` publications in (a_ns, b_ns]; the test oracle of every update detector. */
int ps_sensor_publications(const ps_sensor *sensor, int64_t a_ns, int64_t b_ns, int64_t *t_ns, uint64_t capacity,
                           uint64_t *count);

/* ---- node file: what the NVML stand-in maps -------------------------------------------------------------------- */

#define PS_NODE_MAX_GPUS 16
#define PS_NODE_MAX_FAULTS 32
#define PS_NODE_MAX_MIG 7 /* instances of a GPU */
#define PS_NODE_FUNCTIONS 16

/* Functions whose latency and faults can be set. */
enum ps_node_function {
    PS_FN_ANY = 0, /* faults: every function; latency: those without their own */
    PS_FN_INIT = 1,
    PS_FN_HANDLE = 2,
    PS_FN_POWER_USAGE = 3,
    PS_FN_FIELD_VALUES = 4,
    PS_FN_ENERGY = 5,
    PS_FN_UTILIZATION = 6,
    PS_FN_CLOCK = 7,
    PS_FN_TEMPERATURE = 8,
    PS_FN_PSTATE = 9,
    PS_FN_THROTTLE = 10,
    PS_FN_PROCESSES = 11,
    PS_FN_SAMPLES = 12
};

enum ps_latency_kind { PS_LATENCY_NONE = 0, PS_LATENCY_FIXED = 1, PS_LATENCY_LOGNORMAL = 2, PS_LATENCY_LONG_TAIL = 3 };

typedef struct ps_latency {
    int32_t kind;       /* enum ps_latency_kind */
    int32_t reserved;
    double median_ns;
    double sigma;       /* of ln(latency), PS_LATENCY_LOGNORMAL */
    double tail_share;  /* PS_LATENCY_LONG_TAIL: this share of the calls takes tail_ns */
    double tail_ns;
} ps_latency;

/* Answers `code` instead of the value, on calls of `function` for `gpu` and `field` that fall into [from_ns, to_ns) and are
 * the n-th of every `every`. A code of 0 with hang_ns blocks and then answers as usual. */
typedef struct ps_fault {
    int32_t function;  /* enum ps_node_function */
    int32_t gpu;       /* index, or -1 for all */
    int32_t field;     /* field id inside a FieldValues call: that entry's own code; 0: the whole call */
    int32_t code;      /* nvmlReturn_t */
    uint32_t every;    /* 0 or 1: every call; n: each n-th */
    uint32_t active;   /* written last; 0: ignored */
    int64_t from_ns;   /* 0: from the start */
    int64_t to_ns;     /* 0: for ever */
    int64_t hang_ns;
} ps_fault;

enum ps_node_sensor {
    PS_NS_INSTANT = 0,  /* field 186 */
    PS_NS_AVERAGE = 1,  /* field 185 */
    PS_NS_ENERGY = 2,   /* field 83, nvmlDeviceGetTotalEnergyConsumption */
    PS_NS_MODULE = 3,   /* field 186, scope 1 */
    PS_NS_USAGE = 4,    /* nvmlDeviceGetPowerUsage where neither field exists: old boards, old drivers */
    PS_NS_SAMPLES = 5,  /* nvmlDeviceGetSamples: what the board itself samples, of which it keeps the last 119 */
    PS_NS_MODULE_AVERAGE = 6 /* field 185, scope 1 */
};
#define PS_NODE_SENSORS 7

/* What the timestamp of a field value is: real drivers differ. */
enum ps_node_stamps {
    PS_NODE_STAMP_CALL = 0,   /* the time of the call */
    PS_NODE_STAMP_UPDATE = 1, /* the time of the publication */
    PS_NODE_STAMP_ZERO = 2    /* nothing */
};

typedef struct ps_node_mig {
    char profile[24];     /* "1g.10gb" */
    char uuid[48];        /* "MIG-SIM-..." */
    uint32_t slices;
    uint32_t reserved;
    uint64_t memory_bytes;
} ps_node_mig;

typedef struct ps_node_gpu {
    char name[96];
    char uuid[48];        /* "GPU-SIM-..." */
    char serial[32];
    char truth_file[64];  /* beside the node file */
    uint32_t pci_bus;
    uint32_t pci_device_id;
    int32_t architecture; /* nvmlDeviceArchitecture_t */
    int32_t brand;        /* nvmlBrandType_t */
    int32_t power_usage;  /* enum ps_node_sensor that nvmlDeviceGetPowerUsage answers with */
    int32_t compute_major, compute_minor;
    uint32_t limit_mw, limit_default_mw, limit_min_mw, limit_max_mw;
    uint32_t idle_mw, max_mw; /* of the board under no and full load: utilisation and clocks follow from the truth */
    uint32_t clock_idle_mhz, clock_max_mhz, clock_mem_mhz;
    uint64_t memory_bytes;
    int32_t processes;    /* compute processes reported */
    int32_t persistence;
    int32_t field_stamps; /* enum ps_node_stamps */
    int32_t mig_mode;     /* 1: on. Power is the whole board's all the same */
    uint32_t n_mig;
    ps_node_mig mig[PS_NODE_MAX_MIG];
    ps_sensor sensor[PS_NODE_SENSORS];
} ps_node_gpu;

/* The file `node.bin`. The stand-in looks for it beside itself (the path it was loaded by), else at $POWERSAMPLE_NODE. */
typedef struct ps_node {
    char magic[8];         /* "PSNODE1" */
    uint32_t bytes;        /* sizeof(ps_node) */
    uint32_t n_gpus;
    char profile[32];
    char driver_version[32];
    char nvml_version[32];
    int32_t cuda_version;  /* 12040 */
    int32_t one_lock;      /* 1: all calls serialise on one lock, as on the driver's */
    int32_t init_code;     /* nvmlReturn_t of nvmlInit; 0 */
    int64_t realtime_ns;   /* CLOCK_REALTIME less CLOCK_MONOTONIC when the node was written: the driver's clock */
    int64_t step_at_ns;    /* from here on, CLOCK_MONOTONIC, the driver's clock is step_ns further; 0: never */
    int64_t step_ns;
    uint32_t generation;   /* raised by a simulated driver reload: handles and init of before answer UNINITIALIZED */
    ps_latency latency[PS_NODE_FUNCTIONS];
    ps_fault fault[PS_NODE_MAX_FAULTS];
    ps_node_gpu gpu[PS_NODE_MAX_GPUS];
} ps_node;

/* Writes a new node file, filling magic, bytes and realtime_ns; PS_E_STATE when there is one. */
int ps_node_write(const char *path, const ps_node *node);
/* PS_E_FORMAT for anything but a node file of this very layout. */
int ps_node_map(const char *path, int32_t writable, ps_node **out);
void ps_node_unmap(ps_node *node);
/* Changes of a mapped node while others use it. Readers load `active`, `kind` and `generation` with acquire: what belongs to
 * them was written before. A fault or latency being replaced is off meanwhile. One writer at a time. */
int ps_node_set_fault(ps_node *node, uint32_t index, const ps_fault *fault);
int ps_node_set_latency(ps_node *node, enum ps_node_function function, const ps_latency *latency);
/* What nvmlInit answers from now on, in processes that have yet to call it; NVML_SUCCESS is 0. */
int ps_node_set_init(ps_node *node, int32_t code);
/* The driver's clock jumps by step_ns at at_ns; samples of before keep their stamps. */
int ps_node_step_clock(ps_node *node, int64_t at_ns, int64_t step_ns);
/* A driver reload: counters begin anew at now_ns, init and handles of before are void. */
int ps_node_reload(ps_node *node, int64_t now_ns);

/* ---- load from a program's CPU use ------------------------------------------------------------------------------ */

#define PS_FOLLOW_TRUTHS 64

/* A thread that reads a process tree's CPU time every interval_ns and appends what it means as power to one truth per
 * device, all at one instant a fixed 2 ms ahead: power = idle + (max - idle) x min(1, CPU time / (capacity_cpus x interval)). So power
 * follows use by up to an interval and 2 ms. A process clock moves in scheduler ticks (4 ms) while a thread computes: on
 * that route the use is the mean of the last five intervals. */
typedef struct ps_follow ps_follow;

enum ps_follow_route {
    PS_FOLLOW_PERF = 1,         /* perf task-clock, inherited by every descendant made after opening */
    PS_FOLLOW_PROCESS_CLOCK = 2 /* the process's own CPU clock: all its threads, no children */
};

typedef struct ps_follow_stats {
    int32_t route;
    int32_t perf_errno;  /* why perf was refused, or 0 */
    uint64_t ticks;
    uint64_t late_ticks; /* woke more than one interval late */
    double cpu_s;        /* seen so far */
} ps_follow_stats;

/* pid: held before exec for PS_FOLLOW_PERF to see all of it; 0 follows this process by its own clock, this thread's small
 * share included. interval_ns: 0 for 10 ms, else from 1 ms. PS_E_NOT_FOUND for no such process. The truths stay the
 * caller's and must outlive the follower; no one else may append meanwhile. */
int ps_follow_start(int32_t pid, ps_truth *const *truths, const int32_t *idle_mw, const int32_t *max_mw,
                    uint32_t n_truths, double capacity_cpus, int64_t interval_ns, ps_follow **out);
int ps_follow_stats_get(const ps_follow *follow, ps_follow_stats *out);
/* Appends what was used since the last tick, then idle; joins, frees. stats may be NULL. */
int ps_follow_stop(ps_follow *follow, ps_follow_stats *stats);

/* ---- files of /sys and /dev/cpu that truths move --------------------------------------------------------------- */

#define PS_FILE_TRUTHS 64
#define PS_FILE_PATH 256
#define PS_FILE_TEXT 24

enum ps_file_kind {
    PS_FILE_COUNTER = 1,  /* text: the register's counts x unit_nj / 1000, as the kernel's powercap makes uJ of them */
    PS_FILE_REGISTER = 2, /* the counts as an 8-byte word at `offset` */
    PS_FILE_GAUGE = 3     /* text: a sensor's reading in mW x gauge_num / gauge_den, rounded */
};

/* One such file, or one word of a register file. Texts keep their width, padded on the right with newlines, and are
 * overwritten by one pwrite at offset 0; words are aligned and stored whole: who reads sees the old value or the new. */
typedef struct ps_file {
    int32_t kind;          /* enum ps_file_kind */
    uint32_t mode;         /* of the file, which must not exist (a register file may hold several words) */
    uint32_t width;        /* of a text, at most PS_FILE_TEXT */
    uint32_t unit_nj;      /* counter texts: what the kernel takes a count for */
    uint64_t truths;       /* bit i: truth i belongs to the sum */
    int64_t offset;        /* of a word, a multiple of 8 */
    int64_t start_ns;      /* counters: stood at start_counts at this instant */
    uint64_t start_counts;
    uint64_t counts_num, counts_den; /* counts a pJ; num 0: never moves */
    uint64_t modulus;      /* counters wrap to 0 at so many counts; 0: at 2^64 */
    uint64_t gauge_num, gauge_den;
    ps_sensor sensor;      /* gauges; kind PS_SENSOR_GAUGE. offset and noise are of the sum */
    char path[PS_FILE_PATH];
} ps_file;

enum ps_file_state {
    PS_FILE_MOVING = 0,
    PS_FILE_STUCK = 1,   /* keeps what it shows */
    PS_FILE_GARBAGE = 2, /* text files: shows a text that was given */
    PS_FILE_GONE = 3     /* removed; who kept it open reads the end of file */
};

typedef struct ps_files_stats {
    uint64_t ticks;       /* grid instants served */
    uint64_t skipped;     /* grid instants that passed while the thread was late */
    int64_t late_max_ns;  /* the latest that a grid instant became visible */
    uint64_t failures;    /* writes that failed */
    int32_t sys_errno;    /* of the last of them */
    int32_t reserved;
} ps_files_stats;

typedef struct ps_files ps_files;

/* Makes the files, which then show the value of now, and starts the thread that moves them on the grid of multiples of
 * period_ns of CLOCK_MONOTONIC. A counter shows the value of the newest grid instant, however late it is written: being late
 * changes when a value appears, never which. The truths stay the caller's and must outlive the thread. The thread blocks all
 * signals and ends with its process; a forked child has none and must not call ps_files_stop. On failure what was made
 * stays, for the caller to remove with its folder. */
int ps_files_start(const ps_file *files, uint32_t n_files, const ps_truth *const *truths, uint32_t n_truths,
                   int64_t period_ns, ps_files **out, ps_error *error);
/* From the next line on the file is in `state`; PS_FILE_GONE takes all words of a register file, and PS_FILE_MOVING after
 * it makes a new file. text: for PS_FILE_GARBAGE, at most the file's width. */
int ps_files_set(ps_files *files, uint32_t index, int32_t state, const char *text, ps_error *error);
/* Lets a counter stand at `counts` now and go on from there. */
int ps_files_restart(ps_files *files, uint32_t index, uint64_t counts);
int ps_files_stats_get(ps_files *files, ps_files_stats *out);
/* Joins the thread, closes the files and leaves them as they are. stats may be NULL. */
int ps_files_stop(ps_files *files, ps_files_stats *stats);

#ifdef __cplusplus
}
#endif

#endif
