/* SPDX-License-Identifier: Apache-2.0
 *
 * What an errno of opening, making or mapping a file amounts to. Inline: the NVML stand-in has no core.
 */
#ifndef PS_ERRNO_STATUS_H
#define PS_ERRNO_STATUS_H

#include <errno.h>

#include "powersample.h"

static inline int ps_errno_status(int error)
{
    switch (error) {
    case ENOENT:
    case ENOTDIR:
        return PS_E_NOT_FOUND;
    case EEXIST:
        return PS_E_STATE;
    case EACCES:
    case EPERM:
    case EROFS:
        return PS_E_ACCESS;
    case ENOSPC:
    case EDQUOT:
    case EFBIG: /* a limit on file size: the same as a full disk */
        return PS_E_FULL;
    case ENOMEM:
        return PS_E_NOMEM;
    default:
        return PS_E_SYSTEM;
    }
}

#endif
