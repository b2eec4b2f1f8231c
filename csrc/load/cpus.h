/* SPDX-License-Identifier: Apache-2.0
 *
 * Lists of CPUs as the kernel writes them.
 */
#ifndef PS_LOAD_CPUS_H
#define PS_LOAD_CPUS_H

#include <stdbool.h>
#include <stdint.h>

bool load_in_list(const char *list, int32_t cpu); /* "0-3,8" */

#endif
