/* SPDX-License-Identifier: Apache-2.0
 *
 * The C tests' harness: checks count failures and go on, a program exits 0 (passed), 1 (failed) or 77
 * (skipped).
 */
#ifndef PS_TEST_HARNESS_H
#define PS_TEST_HARNESS_H

#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

static int harness_failures;

#define CHECK(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: not true: %s\n", __FILE__, __LINE__, #condition); \
            harness_failures++; \
        } \
    } while (0)

#define CHECK_EQ(expected, actual) \
    do { \
        int64_t expected_ = (int64_t)(expected), actual_ = (int64_t)(actual); \
        if (expected_ != actual_) { \
            fprintf(stderr, "%s:%d: %s is %" PRId64 ", expected %" PRId64 "\n", __FILE__, __LINE__, #actual, actual_, \
                    expected_); \
            harness_failures++; \
        } \
    } while (0)

#define CHECK_TEXT(part, text) \
    do { \
        if (!strstr((text), (part))) { \
            fprintf(stderr, "%s:%d: \"%s\" lacks \"%s\"\n", __FILE__, __LINE__, (text), (part)); \
            harness_failures++; \
        } \
    } while (0)

/* For what the rest of a test stands on. */
#define REQUIRE(condition) \
    do { \
        if (!(condition)) { \
            fprintf(stderr, "%s:%d: required: %s\n", __FILE__, __LINE__, #condition); \
            exit(1); \
        } \
    } while (0)

#define SKIP(reason) \
    do { \
        printf("skipped: %s\n", (reason)); \
        exit(77); \
    } while (0)

#define HARNESS_RESULT() (harness_failures ? 1 : 0)

static inline void harness_sleep_ms(int ms)
{
    struct timespec pause = {ms / 1000, (ms % 1000) * 1000000L};
    nanosleep(&pause, NULL);
}

#endif
