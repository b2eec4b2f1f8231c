/* SPDX-License-Identifier: Apache-2.0
 *
 * Small text files of sysfs: read once where they describe something, by a kept descriptor where they are measured.
 */
#ifndef PS_SYSFS_H
#define PS_SYSFS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { SYSFS_TEXT = 128, SYSFS_LIST = 4096 /* the kernel gives no more than a page */ };

/* Reads a small file whose path the format gives, without its trailing white space; of a longer one its beginning. Returns
 * 0 or an errno. */
int sysfs_file(char out[SYSFS_TEXT], const char *format, ...) __attribute__((format(printf, 2, 3)));
/* The same for a list, which grows with the machine. */
int sysfs_list(char out[SYSFS_LIST], const char *format, ...) __attribute__((format(printf, 2, 3)));
bool sysfs_number(const char *text, int base, uint64_t *out); /* all of the text, and nothing else; "0x" for base 16 */
/* As snprintf, for names that may be cut where they do not fit. */
void sysfs_words(char *out, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* The number that an open file holds now, read at offset 0: six times cheaper than opening it anew. Returns 0, the
 * errno of reading, ENODATA for an empty file or EBADMSG for one that holds no number; *out is 0 then. For the hot
 * call: nothing is allocated or locked. */
uint16_t sysfs_value(int fd, int64_t *out);

#endif
