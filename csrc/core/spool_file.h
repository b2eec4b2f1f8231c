/* SPDX-License-Identifier: Apache-2.0
 *
 * The spool's files, without threads: parts that hold whole records whatever the disk does, and a file of
 * lines. Functions return 0 or an errno.
 */
#ifndef PS_SPOOL_FILE_H
#define PS_SPOOL_FILE_H

#include <stdbool.h>
#include <stddef.h>

#include "powersample.h"

enum { PS_SPOOL_HEADER_UNIT = 4096 };

typedef struct ps_part {
    int directory_fd; /* -1: a stream */
    int stream_fd;    /* where a stream goes; -1: parts are files */
    bool torn;        /* a write to the stream broke off: whatever followed would be misread */
    int fd;           /* -1: none is open */
    uint32_t number;  /* of the open part, or of the next */
    uint32_t record_bytes;
    uint64_t header_bytes;
    uint64_t bytes;   /* in the file: header and whole records */
    int64_t begin_ns;
    bool dirty;       /* written since the last sync */
} ps_part;

/* Creates part-NNNNNN.open, or writes the header to the stream. The header's length is a multiple of PS_SPOOL_HEADER_UNIT. */
int ps_part_open(ps_part *part, const char *header, size_t header_bytes);
/* *written: whole records in the file; where it is less than count, the torn rest has been cut off. */
int ps_part_append(ps_part *part, const void *records, uint32_t count, uint32_t *written);
int ps_part_sync(ps_part *part);
/* Syncs, renames to part-NNNNNN.part, syncs the directory; the part is closed in any case. */
int ps_part_close(ps_part *part);

/* To the stream, as a whole; waits for its reader. Nothing more once a write broke off: EPIPE. */
int ps_stream_write(ps_part *part, const void *bytes, size_t count);

/* Appends one line as a whole, or nothing of it. */
int ps_line_append(int fd, const char *line, size_t length);

#endif
