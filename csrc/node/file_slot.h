/* SPDX-License-Identifier: Apache-2.0
 *
 * One moved file, or one word of one: made, shown, removed. Private to csrc/node.
 */
#ifndef PS_FILE_SLOT_H
#define PS_FILE_SLOT_H

#include <stdbool.h>

#include "powersample_sim.h"

typedef struct file_slot {
    ps_file is;
    const ps_truth *truth[PS_FILE_TRUTHS];
    uint32_t n_truths;
    int32_t state;
    int fd;             /* of a text, or of the first word of a register file; else -1 */
    uint64_t *word;     /* of a register, inside `map` */
    void *map;
    int64_t gauge_k;    /* publication that a gauge shows */
    bool shown;
    ps_sensor_memo *memo; /* of a gauge, one a truth */
} file_slot;

/* Whether the settings are within their ranges. */
bool file_slot_valid(const ps_file *file, uint32_t n_truths);

/* Creates the file, or joins `first`, the slot that made the register file, and shows the value of grid_ns. Returns 0 or an
 * errno. */
int file_slot_make(file_slot *slot, const file_slot *first, int64_t grid_ns);

/* Shows the value of grid_ns, unless it shows it already. Returns 0 or an errno. */
int file_slot_show(file_slot *slot, int64_t grid_ns);

/* Shows a text, padded. Returns 0 or an errno. */
int file_slot_text(file_slot *slot, const char *text);

/* Lets go of the file; with `remove`, empties and unlinks it, so that who kept it open meets its end. */
void file_slot_drop(file_slot *slot, bool remove);

#endif
