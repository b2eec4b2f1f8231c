/* SPDX-License-Identifier: Apache-2.0
 *
 * When a reading that failed may next be tried to be mended: more and more seldom while it goes on failing.
 */
#ifndef PS_BACKOFF_H
#define PS_BACKOFF_H

#include <stdbool.h>
#include <stdint.h>

typedef struct backoff {
    int64_t next_try_ns, wait_ns; /* 0: never tried */
} backoff;

bool backoff_due(const backoff *self, int64_t now_ns);
void backoff_tried(backoff *self, int64_t now_ns, bool failed);

#endif
